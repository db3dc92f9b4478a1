/// Encodes commands for links that we open ourselves (replication handshakes, MIGRATE, tools) and for what a command
/// propagates instead of itself.
///
/// Cold code: it favours plain arrays. The replication log has its own writer that encodes in place.
package enum RequestEncoder {
    /// Appends `arguments` as a RESP array of bulk strings.
    @inlinable
    package static func append(_ arguments: some Collection<some Collection<UInt8>>, to output: inout [UInt8]) {
        appendHeader(UInt8(ascii: "*"), arguments.count, to: &output)
        for argument in arguments { append(bulk: argument, to: &output) }
    }

    /// Appends one command that is given as text.
    package static func append(_ arguments: String..., to output: inout [UInt8]) {
        append(arguments.map(\.utf8), to: &output)
    }

    /// The bytes of one command that is given as text.
    package static func encode(_ arguments: String...) -> [UInt8] {
        encode(arguments.map { Array($0.utf8) })
    }

    /// The bytes of one command.
    package static func encode(_ arguments: [[UInt8]]) -> [UInt8] {
        var output: [UInt8] = []
        append(arguments, to: &output)
        return output
    }

    /// Appends one bulk string: `$<count>\r\n<bytes>\r\n`.
    @inlinable
    package static func append(bulk bytes: some Collection<UInt8>, to output: inout [UInt8]) {
        appendHeader(UInt8(ascii: "$"), bytes.count, to: &output)
        output.append(contentsOf: bytes)
        output.append(contentsOf: [13, 10])
    }

    @usableFromInline
    static func appendHeader(_ type: UInt8, _ count: Int, to output: inout [UInt8]) {
        output.append(type)
        output.append(contentsOf: String(count).utf8)
        output.append(contentsOf: [13, 10])
    }
}
