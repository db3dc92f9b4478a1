import Testing
import martlet

@Suite struct NodeAddressTests {
    @Test(
        "HOST:PORT, bracketed and bare IPv6, and bus ports are read",
        arguments: [
            ("127.0.0.1:7000", "127.0.0.1", 7000, nil), ("db-1.example:1", "db-1.example", 1, nil),
            ("[::1]:7000", "::1", 7000, nil), ("::1:7000", "::1", 7000, nil),
            ("10.0.0.1:7000@17999", "10.0.0.1", 7000, 17999), ("h:65535", "h", 65535, nil),
        ] as [(String, String, Int, Int?)])
    func readable(_ text: String, host: String, port: Int, busPort: Int?) {
        #expect(NodeAddress(parsing: text) == NodeAddress(host: host, port: port, busPort: busPort))
    }

    @Test(
        "What is no address is refused",
        arguments: [
            "", "7000", ":7000", "host", "host:", "host:0", "host:65536", "host:+1", "host:7000@", "host:7000@x",
            "a b:1",
            "[::1:7000", "host:99999999999999999999",
        ])
    func unreadable(_ text: String) {
        #expect(NodeAddress(parsing: text) == nil)
    }

    @Test("The description can be pasted back")
    func roundTrip() {
        for text in ["127.0.0.1:7000", "[fe80::1]:7001"] { #expect(NodeAddress(parsing: text)?.description == text) }
    }
}
