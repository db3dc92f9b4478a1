/// An error reply, thrown by handlers: the whole line after `-`, byte-equal to what Redis and Valkey send.
package enum ReplyError: Error, Equatable {
    /// A fixed text.
    case text(StaticString)
    /// A text that names something of the request.
    case message(String)

    package static func == (left: ReplyError, right: ReplyError) -> Bool { left.string == right.string }

    package var string: String {
        switch self {
        case .text(let text): return text.description
        case .message(let text): return text
        }
    }

    package static let wrongType = ReplyError.text("WRONGTYPE Operation against a key holding the wrong kind of value")
    package static let syntax = ReplyError.text("ERR syntax error")
    package static let notAnInteger = ReplyError.text("ERR value is not an integer or out of range")
    package static let notAFloat = ReplyError.text("ERR value is not a valid float")
    package static let noSuchKey = ReplyError.text("ERR no such key")
    package static let stringTooLong = ReplyError.text(
        "ERR string exceeds maximum allowed size (proto-max-bulk-len)")
    package static let overflow = ReplyError.text("ERR increment or decrement would overflow")

    package static func wrongArgumentCount(_ command: String) -> ReplyError {
        .message("ERR wrong number of arguments for '\(command)' command")
    }

    package static func unknownSubcommand(_ name: String, of command: String) -> ReplyError {
        .message("ERR unknown subcommand '\(name)'. Try \(command) HELP.")
    }
}
