/// `redis://user:password@host:port/dbnum` in parts; all but the scheme may be missing. What stands before `@` without a
/// colon is the password. The scheme may also be valkey, and rediss or valkeys for TLS.
package struct ServerURI: Equatable, Sendable {
    package var user: String?
    package var password: String?
    package var host: String?
    package var port: Int?
    package var database: Int?

    package init() {}

    package init?(parsing text: String) {
        guard let scheme = ["redis://", "rediss://", "valkey://", "valkeys://"].first(where: { text.hasPrefix($0) })
        else { return nil }
        var rest = text.dropFirst(scheme.count)
        if let at = rest.lastIndex(of: "@") {
            let parts = rest[..<at].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            guard let last = Self.decoded(parts[parts.count - 1]), let first = Self.decoded(parts[0]) else {
                return nil
            }
            password = last
            if parts.count == 2, !first.isEmpty { user = first }
            rest = rest[rest.index(after: at)...]
        }
        if let slash = rest.firstIndex(of: "/") {
            let number = rest[rest.index(after: slash)...]
            if !number.isEmpty {
                guard let database = Int(number), database >= 0 else { return nil }
                self.database = database
            }
            rest = rest[..<slash]
        }
        guard !rest.isEmpty else { return }
        if rest.last != "]", rest.contains(":") {
            guard let address = NodeAddress(parsing: String(rest)) else { return nil }
            host = address.host
            port = address.port
        } else {
            host = rest.first == "[" && rest.last == "]" ? String(rest.dropFirst().dropLast()) : String(rest)
        }
    }

    /// Nil if a percent sign is not followed by two hexadecimal digits.
    private static func decoded(_ text: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) else {
                return nil
            }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
