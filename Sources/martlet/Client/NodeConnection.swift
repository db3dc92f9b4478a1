import Glibc
import MartletBase
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
package final class NodeConnection {
    package let address: NodeAddress
    private let connection: BlockingConnection
    private var reader = ReplyReader()

    /// Connects to the first of the host's addresses that answers, and authenticates if there is a password.
    package init(
        to address: NodeAddress, credentials: Credentials = Credentials(), deadline: Deadline
    ) throws(NodeFailure) {
        self.address = address
        do throws(SystemError) {
            connection =
                address.isUnixPath
                ? try BlockingConnection(
                    unixPath: address.host, timeoutMilliseconds: deadline.remainingMilliseconds)
                : try BlockingConnection(
                    host: address.host, port: address.port, timeoutMilliseconds: deadline.remainingMilliseconds)
        } catch {
            throw error.isRefused ? .refused(address) : Self.failure(address, error, during: "connecting")
        }
        guard let password = credentials.password else { return }
        if let user = credentials.user {
            try call(["AUTH", user, password], deadline: deadline)
        } else {
            try call(["AUTH", password], deadline: deadline)
        }
    }

    /// The one of the host's addresses that answered; nil once the connection is gone.
    package var peerAddress: SocketAddress? {
        address.isUnixPath ? SocketAddress(unixPath: address.host) : connection.peerAddress
    }

    /// Sends a command and returns its reply; an error reply is thrown.
    @discardableResult
    package func call(_ words: [String], deadline: Deadline) throws(NodeFailure) -> ReplyValue {
        // A password must not end up in an error text.
        let command = words.prefix(words.first == "AUTH" ? 1 : 4).joined(separator: " ")
        let request = RequestEncoder.encode(words.map { Array($0.utf8) })
        do throws(SystemError) {
            try connection.sendAll(request, timeoutMilliseconds: deadline.remainingMilliseconds)
        } catch {
            throw Self.failure(address, error, during: command)
        }
        let reply = try receive(command, deadline)
        if let text = reply.errorText { throw .reply(address, command: command, text: text) }
        return reply
    }

    /// As ``call(_:deadline:)``, for commands that answer with text.
    package func text(_ words: [String], deadline: Deadline) throws(NodeFailure) -> String {
        try call(words, deadline: deadline).text ?? ""
    }

    private func receive(_ command: String, _ deadline: Deadline) throws(NodeFailure) -> ReplyValue {
        while true {
            do throws(ReplyProtocolError) {
                if let reply = try reader.next() { return reply }
            } catch {
                throw .nonsense(address, error)
            }
            var bytes: [UInt8] = []
            do throws(SystemError) {
                let isOpen = try connection.receive(
                    appendingTo: &bytes, timeoutMilliseconds: deadline.remainingMilliseconds)
                guard isOpen else { throw SystemError(code: ECONNRESET, call: "recv") }
            } catch {
                throw Self.failure(address, error, during: command)
            }
            reader.feed(bytes)
        }
    }

    private static func failure(_ address: NodeAddress, _ error: SystemError, during: String) -> NodeFailure {
        if error.isTimeout { return .timedOut(address, during: during) }
        if error.code == ECONNRESET || error.code == EPIPE { return .closed(address, during: during) }
        return .system(address, error)
    }
}
