/// An error reply, thrown by handlers: the whole line after `-`, byte-equal to what Redis and Valkey send.
package enum ReplyError: Error, Equatable {
    /// A fixed text.
    case text(StaticString)
    /// A text that names something of the request.
    case message(String)

    /// Bytes of a client for a ``message(_:)``, in which they are to be sent back as they are. Those that are no UTF-8 are
    /// kept as characters for private use, which ``ReplyBuffer/error(_:)`` turns back.
    package static func quoted(_ bytes: UnsafeRawBufferPointer) -> String {
        if let text = String(validating: bytes, as: UTF8.self),
            !text.unicodeScalars.contains(where: { byte(of: $0) != nil })
        {
            return text
        }
        var scalars = String.UnicodeScalarView()
        for byte in bytes { scalars.append(byte < 128 ? Unicode.Scalar(byte) : Self.privateCharacter(byte)) }
        return String(scalars)
    }

    private static func privateCharacter(_ byte: UInt8) -> Unicode.Scalar {
        Unicode.Scalar(privateStart + UInt32(byte)) ?? "?"
    }

    /// In the private use area of the basic plane, U+E000 to U+F8FF.
    private static let privateStart: UInt32 = 0xF600

    /// The byte that ``quoted(_:)`` made a character of.
    static func byte(of scalar: Unicode.Scalar) -> UInt8? {
        scalar.value >= privateStart + 128 && scalar.value < privateStart + 256
            ? UInt8(scalar.value - privateStart) : nil
    }

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
