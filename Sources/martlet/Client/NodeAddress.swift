/// Where a node takes clients: `HOST:PORT`, and `HOST:PORT@BUSPORT` where the bus does not listen on port + 10000.
package struct NodeAddress: Hashable, Sendable, CustomStringConvertible {
    /// A name or an IP address; an IPv6 address without brackets.
    package var host: String
    package var port: Int
    /// Nil when nothing else than the usual port + 10000 is known.
    package var busPort: Int?

    /// Distance of the bus port from the client port unless `cluster-port` says otherwise.
    package static let busPortOffset = 10000
    /// The highest client port whose bus port still exists.
    package static let portMax = 65535 - busPortOffset

    package init(host: String, port: Int, busPort: Int? = nil) {
        self.host = host
        self.port = port
        self.busPort = busPort
    }

    /// A node that is reached by a unix socket on this host.
    package init(unixPath path: String) { self.init(host: path.contains("/") ? path : "./" + path, port: 0) }

    package var isUnixPath: Bool { port == 0 && host.contains("/") }

    /// Reads `HOST:PORT`, `[IPV6]:PORT` and `IPV6:PORT` (the last colon divides), each with an optional `@BUSPORT`.
    /// Nil when it is none of them.
    package init?(parsing text: String) {
        var rest = Substring(text)
        var busPort: Int?
        if let at = rest.lastIndex(of: "@") {
            guard let number = Self.port(rest[rest.index(after: at)...]) else { return nil }
            busPort = number
            rest = rest[..<at]
        }
        guard let colon = rest.lastIndex(of: ":"), let port = Self.port(rest[rest.index(after: colon)...]) else {
            return nil
        }
        var host = rest[..<colon]
        if host.first == "[", host.last == "]" { host = host.dropFirst().dropLast() }
        guard !host.isEmpty, !host.contains(where: { $0.isWhitespace || $0 == "[" || $0 == "]" }) else { return nil }
        self.init(host: String(host), port: port, busPort: busPort)
    }

    private static func port(_ text: Substring) -> Int? {
        guard !text.isEmpty, text.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }) else { return nil }
        guard let number = Int(text), number > 0, number < 65536 else { return nil }
        return number
    }

    /// The form that tools and humans paste back: IPv6 addresses stand in brackets.
    package var description: String {
        if isUnixPath { return host }
        return host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}
