import Glibc

extension Socket {
    package enum Connecting: Sendable {
        /// Wait until the descriptor is writable, then ask ``connectResult(_:)``.
        case inProgress(fd: Int32)
        /// A loopback or unix socket peer may be there at once.
        case connected(fd: Int32)
        case failed(SystemError)
    }

    /// Starts a connection and returns without waiting.
    ///
    /// - Parameter source: the local address to bind to first, best effort: if the bind or the connect with it
    ///   fails, the connection is tried without it, as Redis does.
    package static func connect(to address: SocketAddress, from source: SocketAddress? = nil) -> Connecting {
        if let source {
            let bound = connectOnce(to: address, from: source)
            if case .failed = bound {} else { return bound }
        }
        return connectOnce(to: address, from: nil)
    }

    private static func connectOnce(to address: SocketAddress, from source: SocketAddress?) -> Connecting {
        do throws(SystemError) {
            let fd = try make(family: address.family)
            if let source, !source.isUnix {
                _ = try? setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1, "setsockopt SO_REUSEADDR")
                guard source.withPointer({ bind(fd, $0, $1) }) == 0 else {
                    let error = SystemError.last("bind")
                    close(fd)
                    return .failed(error)
                }
            }
            // An interrupted connect goes on by itself and must not be repeated, so EINTR counts as in progress.
            if address.withPointer({ Glibc.connect(fd, $0, $1) }) == 0 { return .connected(fd: fd) }
            let error = SystemError.last("connect")
            if error.code == EINPROGRESS || error.code == EINTR { return .inProgress(fd: fd) }
            close(fd)
            return .failed(error)
        } catch {
            return .failed(error)
        }
    }

    /// The outcome of a connection once its descriptor is writable or in error: nil means connected.
    package static func connectResult(_ fd: Int32) -> SystemError? {
        var code: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) == 0 else { return .last("getsockopt SO_ERROR") }
        return code == 0 ? nil : SystemError(code: code, call: "connect")
    }
}
