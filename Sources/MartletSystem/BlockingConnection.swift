import Glibc

/// A connection for programs that do one thing at a time (the tools): every call waits, but never past its deadline.
package struct BlockingConnection: ~Copyable {
    private let fd: Int32

    /// Tries all addresses of a host until one answers.
    ///
    /// - Throws: the error of the last address; `ETIMEDOUT` when the time is up.
    package init(host: String, port: Int, timeoutMilliseconds: Int) throws(SystemError) {
        let deadline = Deadline(milliseconds: timeoutMilliseconds)
        var last = SystemError(code: EAI_NONAME, call: "getaddrinfo")
        for address in try NameResolver.addresses(of: host, port: port) {
            do throws(SystemError) {
                fd = try Self.connect(to: address, deadline)
                return
            } catch {
                last = error
            }
        }
        throw last
    }

    package init(unixPath path: String, timeoutMilliseconds: Int) throws(SystemError) {
        guard let address = SocketAddress(unixPath: path) else {
            throw SystemError(code: ENAMETOOLONG, call: "unix socket path")
        }
        fd = try Self.connect(to: address, Deadline(milliseconds: timeoutMilliseconds))
    }

    deinit { Socket.close(fd) }

    private static func connect(to address: SocketAddress, _ deadline: Deadline) throws(SystemError) -> Int32 {
        switch Socket.connect(to: address) {
        case .failed(let error): throw error
        case .connected(let fd):
            try? Socket.setNoDelay(fd)
            return fd
        case .inProgress(let fd):
            do throws(SystemError) {
                try wait(fd, Int16(POLLOUT), deadline, "connect")
                if let error = Socket.connectResult(fd) { throw error }
            } catch {
                Socket.close(fd)
                throw error
            }
            try? Socket.setNoDelay(fd)
            return fd
        }
    }

    /// Sends everything or throws.
    package borrowing func sendAll(_ bytes: UnsafeRawBufferPointer, timeoutMilliseconds: Int) throws(SystemError) {
        let deadline = Deadline(milliseconds: timeoutMilliseconds)
        var offset = 0
        while offset < bytes.count {
            switch Socket.send(fd, from: bytes.baseAddress! + offset, count: bytes.count - offset) {
            case .transferred(let count): offset += count
            case .wouldBlock: try Self.wait(fd, Int16(POLLOUT), deadline, "send")
            case .failed(let error): throw error
            case .endOfStream: throw SystemError(code: EPIPE, call: "send")
            }
        }
    }

    package borrowing func sendAll(_ bytes: [UInt8], timeoutMilliseconds: Int) throws(SystemError) {
        let outcome: Result<Void, SystemError> = bytes.withUnsafeBytes { bytes in
            do throws(SystemError) {
                return .success(try sendAll(bytes, timeoutMilliseconds: timeoutMilliseconds))
            } catch {
                return .failure(error)
            }
        }
        try outcome.get()
    }

    /// Waits for some bytes and appends them. False at the end of the stream.
    package borrowing func receive(
        appendingTo buffer: inout [UInt8], bytesMax: Int = 1 << 16, timeoutMilliseconds: Int
    ) throws(SystemError) -> Bool {
        let deadline = Deadline(milliseconds: timeoutMilliseconds)
        var chunk = [UInt8](repeating: 0, count: bytesMax)
        while true {
            switch Socket.receive(fd, into: &chunk, count: bytesMax) {
            case .transferred(let count):
                buffer.append(contentsOf: chunk[..<count])
                return true
            case .endOfStream: return false
            case .wouldBlock: try Self.wait(fd, Int16(POLLIN), deadline, "recv")
            case .failed(let error): throw error
            }
        }
    }

    package var localAddress: SocketAddress? { Socket.localAddress(fd) }
    package var peerAddress: SocketAddress? { Socket.peerAddress(fd) }

    private static func wait(
        _ fd: Int32, _ events: Int16, _ deadline: Deadline, _ call: StaticString
    ) throws(SystemError) {
        while true {
            var entry = pollfd(fd: fd, events: events, revents: 0)
            let count = poll(&entry, 1, deadline.remainingMilliseconds)
            if count > 0 { return }
            if count == 0 { throw SystemError(code: ETIMEDOUT, call: call) }
            if errno != EINTR { throw .last("poll") }
        }
    }

    private struct Deadline {
        private let end: Int64

        init(milliseconds: Int) { end = SystemClock.monotonicMilliseconds + Int64(max(0, milliseconds)) }

        var remainingMilliseconds: Int32 { Int32(clamping: max(0, end - SystemClock.monotonicMilliseconds)) }
    }
}
