import Glibc
import MartletRESP
import MartletSystem

/// A point in time after which an operation gives up.
package struct Deadline: Sendable {
    private let milliseconds: Int64

    package static func after(seconds: Double) -> Deadline {
        Deadline(milliseconds: SystemClock.monotonicMilliseconds + Int64(seconds * 1000))
    }

    package var remainingMilliseconds: Int { Int(clamping: max(0, milliseconds - SystemClock.monotonicMilliseconds)) }
    package var hasPassed: Bool { remainingMilliseconds == 0 }

    /// The nearer of this and a new deadline.
    package func capped(seconds: Double) -> Deadline {
        let other = Deadline.after(seconds: seconds)
        return Deadline(milliseconds: min(milliseconds, other.milliseconds))
    }
}

package struct Credentials: Equatable, Sendable {
    package var user: String?
    package var password: String?

    package init(user: String? = nil, password: String? = nil) {
        self.user = user
        self.password = password
    }
}

/// What went wrong between a tool and a node.
package enum NodeFailure: Error, CustomStringConvertible {
    /// Nobody listens: the process is not (yet) there.
    case refused(NodeAddress)
    case timedOut(NodeAddress, during: String)
    case closed(NodeAddress, during: String)
    case system(NodeAddress, SystemError)
    case nonsense(NodeAddress, ReplyProtocolError)
    /// An error reply, in the node's words.
    case reply(NodeAddress, command: String, text: String)

    package var description: String {
        switch self {
        case .refused(let node): "\(node) refuses connections: no server listens there"
        case .timedOut(let node, let during): "\(node) did not answer in time (\(during))"
        case .closed(let node, let during): "\(node) closed the connection (\(during))"
        case .system(let node, let error): "\(node): \(error)"
        case .nonsense(let node, let error): "\(node) does not speak RESP: \(error)"
        case .reply(let node, let command, let text): "\(node) answered \(command) with: \(text)"
        }
    }

    /// The text of an error reply.
    package var replyText: String? {
        if case .reply(_, _, let text) = self { return text }
        return nil
    }
}

/// One connection of a tool to a node: a request, then its reply, each within a deadline.
///
/// The sockets of MartletSystem never block; poll(2) does the waiting.
package final class NodeConnection {
    package let address: NodeAddress
    private let fd: Int32
    private var reader = ReplyReader()

    /// Connects to the first of the host's addresses that answers, and authenticates if there is a password.
    package init(
        to address: NodeAddress, credentials: Credentials = Credentials(), deadline: Deadline
    ) throws(NodeFailure) {
        self.address = address
        fd = try Self.open(address, deadline)
        guard let password = credentials.password else { return }
        if let user = credentials.user {
            try call(["AUTH", user, password], deadline: deadline)
        } else {
            try call(["AUTH", password], deadline: deadline)
        }
    }

    deinit { Socket.close(fd) }

    private static func open(_ address: NodeAddress, _ deadline: Deadline) throws(NodeFailure) -> Int32 {
        let candidates: [SocketAddress]
        do throws(SystemError) {
            candidates = try NameResolver.addresses(of: address.host, port: address.port)
        } catch {
            throw .system(address, error)
        }
        var failure = NodeFailure.refused(address)
        for candidate in candidates {
            switch Socket.connect(to: candidate) {
            case .connected(let fd): return fd
            case .failed(let error): failure = error.isRefused ? .refused(address) : .system(address, error)
            case .inProgress(let fd):
                guard wait(fd, for: Int16(POLLOUT), deadline) else {
                    Socket.close(fd)
                    throw .timedOut(address, during: "connecting")
                }
                guard let error = Socket.connectResult(fd) else { return fd }
                Socket.close(fd)
                failure = error.isRefused ? .refused(address) : .system(address, error)
            }
        }
        throw failure
    }

    /// Whether the descriptor became ready before the deadline.
    private static func wait(_ fd: Int32, for events: Int16, _ deadline: Deadline) -> Bool {
        while true {
            var entry = pollfd(fd: fd, events: events, revents: 0)
            let count = poll(&entry, 1, Int32(clamping: deadline.remainingMilliseconds))
            if count > 0 { return true }
            // A signal ends the wait early.
            if deadline.hasPassed { return false }
        }
    }

    /// Sends a command and returns its reply; an error reply is thrown.
    @discardableResult
    package func call(_ words: [String], deadline: Deadline) throws(NodeFailure) -> ReplyValue {
        // A password must not end up in an error text.
        let command = words.prefix(words.first == "AUTH" ? 1 : 4).joined(separator: " ")
        try send(RequestEncoder.encode(words.map { Array($0.utf8) }), command, deadline)
        let reply = try receive(command, deadline)
        if let text = reply.errorText { throw .reply(address, command: command, text: text) }
        return reply
    }

    /// As ``call(_:deadline:)``, for commands that answer with text.
    package func text(_ words: [String], deadline: Deadline) throws(NodeFailure) -> String {
        try call(words, deadline: deadline).text ?? ""
    }

    private func send(_ bytes: [UInt8], _ command: String, _ deadline: Deadline) throws(NodeFailure) {
        var sent = 0
        while sent < bytes.count {
            let result = bytes.withUnsafeBytes {
                Socket.send(fd, from: $0.baseAddress! + sent, count: bytes.count - sent)
            }
            switch result {
            case .transferred(let count): sent += count
            case .wouldBlock:
                guard Self.wait(fd, for: Int16(POLLOUT), deadline) else { throw .timedOut(address, during: command) }
            case .endOfStream: throw .closed(address, during: command)
            case .failed(let error): throw .system(address, error)
            }
        }
    }

    private func receive(_ command: String, _ deadline: Deadline) throws(NodeFailure) -> ReplyValue {
        var chunk = [UInt8](repeating: 0, count: 16 * 1024)
        while true {
            do throws(ReplyProtocolError) {
                if let reply = try reader.next() { return reply }
            } catch {
                throw .nonsense(address, error)
            }
            guard Self.wait(fd, for: Int16(POLLIN), deadline) else { throw .timedOut(address, during: command) }
            let result = chunk.withUnsafeMutableBytes {
                Socket.receive(fd, into: $0.baseAddress!, count: $0.count)
            }
            switch result {
            case .transferred(let count):
                chunk.withUnsafeBytes { reader.feed(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
            case .wouldBlock: continue
            case .endOfStream: throw .closed(address, during: command)
            case .failed(let error): throw .system(address, error)
            }
        }
    }
}
