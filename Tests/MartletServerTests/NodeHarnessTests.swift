import Testing

@testable import MartletServer

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

    @Test("What clients hold is freed with their node, as in a simulation that restarts nodes")
    func clientsEndWithTheirNode() {
        var name: [UInt8] = [1]
        name.reserveCapacity(2)
        let address = name.withUnsafeBytes(\.baseAddress)
        do {
            let node = NodeHarness()
            node.connect().pointee.name = name
        }
        // Only who holds an array alone may change it in place.
        name.append(2)
        #expect(name.withUnsafeBytes(\.baseAddress) == address)
    }
}
