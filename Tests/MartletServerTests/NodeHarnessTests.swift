import Testing

@Suite struct NodeHarnessTests {
    @Test func commandsAreAnsweredAsOverASocket() {
        let node = NodeHarness()
        #expect(node("SET key 'a value'") == "+OK\r\n")
        #expect(node("GET key") == .bulk("a value"))
        #expect(node("GET") == "-ERR wrong number of arguments for 'get' command\r\n")
        #expect(node.receive(Array("PING\r\nPING\r\n".utf8)) == Array("+PONG\r\n+PONG\r\n".utf8))
    }

    @Test func whatACommandPropagatesCanBeSeen() {
        let node = NodeHarness()
        #expect(node.propagation(of: "SET key value") == ["0 SET key value"])
        #expect(node.propagation(of: "GET key") == [])
    }
}
