import MartletBase
import MartletSystem
import Testing
import martlet

@Suite struct RedirectionTests {
    private let endpoint = Endpoint(name: "10.0.0.1:7000", address: SocketAddress(ip: "10.0.0.1", port: 7000)!)

    @Test("MOVED and ASK name a slot and a node")
    func both() {
        let moved = Redirection(parsing: "MOVED 3999 127.0.0.1:6381", from: endpoint)
        #expect(moved?.slot == HashSlot(3999) && moved?.isAsk == false)
        #expect(moved?.address == NodeAddress(host: "127.0.0.1", port: 6381))
        let ask = Redirection(parsing: "ASK 0 ::1:6381", from: endpoint)
        #expect(ask?.isAsk == true && ask?.address == NodeAddress(host: "::1", port: 6381))
    }

    @Test("Without a host it is the node that answered, with another port")
    func noHost() {
        let moved = Redirection(parsing: "MOVED 1 :7001", from: endpoint)
        #expect(moved?.address == NodeAddress(host: "10.0.0.1", port: 7001))
    }

    @Test(
        "Other errors redirect nothing",
        arguments: [
            "ERR no", "MOVED", "MOVED 1", "MOVED 16384 a:1", "MOVED -1 a:1", "MOVED x a:1", "MOVED 1 a", "ASK 1 a:0",
            "MOVED 1 a:1 b", "moved 1 a:1",
        ])
    func others(_ text: String) { #expect(Redirection(parsing: text, from: endpoint) == nil) }
}
