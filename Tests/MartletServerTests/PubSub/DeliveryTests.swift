import MartletRESP
import Testing

@testable import MartletServer

/// Messages that come to a client out of turn.
@Suite struct DeliveryTests {
    private func deliver(_ text: String, to client: ClientPointer, _ node: NodeHarness, asPush: Bool = false) {
        Array(text.utf8).withUnsafeBytes { node.node.deliver($0, to: client, asPush: asPush) }
    }

    private func sendCount(_ node: NodeHarness) -> Int {
        node.node.effects.count { if case .send = $0 { true } else { false } }
    }

    @Test("The reactor is asked once in a turn to send what a client is told")
    func asksOnce() {
        let node = NodeHarness()
        let client = node.connect()
        deliver("+a\r\n", to: client, node)
        deliver("+b\r\n", to: client, node)
        #expect(sendCount(node) == 1)
        #expect(told(client) == "+a\r\n+b\r\n")
    }

    @Test("An array becomes a push for a client that speaks RESP3, and for no other")
    func pushes() {
        let node = NodeHarness()
        let client = node.connect()
        deliver("*1\r\n:1\r\n", to: client, node, asPush: true)
        #expect(told(client) == "*1\r\n:1\r\n")
        client.pointee.reply.isRESP3 = true
        deliver("*1\r\n:1\r\n", to: client, node, asPush: true)
        deliver("+plain\r\n", to: client, node)
        #expect(told(client) == ">1\r\n:1\r\n+plain\r\n")
    }

    @Test("A client that is about to be closed gets nothing", arguments: [Client.Flags.closeNow, .closeAfterReply])
    func closing(flag: Client.Flags) {
        let node = NodeHarness()
        let client = node.connect()
        client.pointee.flags.insert(flag)
        deliver("+a\r\n", to: client, node)
        #expect(told(client) == "")
    }

    @Test("A message for the client whose command is running comes behind its reply")
    func behindTheReply() {
        let node = NodeHarness()
        node("HELLO 3")
        node("SUBSCRIBE c")
        #expect(node("PUBLISH c hi") == ":1\r\n>3\r\n" + .bulk("message") + .bulk("c") + .bulk("hi"))
    }

    @Test("Within a transaction it comes behind the reply of EXEC, even if CLIENT REPLY is off")
    func behindExec() {
        let node = NodeHarness()
        node("HELLO 3")
        node("SUBSCRIBE c")
        let message = ">3\r\n" + .bulk("message") + .bulk("c") + .bulk("hi")
        node("MULTI")
        node("PUBLISH c hi")
        node("ECHO x")
        #expect(node("EXEC") == "*2\r\n:1\r\n" + .bulk("x") + message)
        node("CLIENT REPLY OFF")
        #expect(node("PUBLISH c hi") == message)
    }

    @Test("What comes while EXEC waits for an answer stands behind its reply")
    func whileSuspended() {
        let node = NodeHarness()
        let client = node.connect()
        node("HELLO 3", as: client)
        node("SUBSCRIBE c", as: client)
        node("SET k 1", as: client)
        node("MULTI", as: client)
        node("MIGRATE 127.0.0.1 1 k 0 1000", as: client)
        let start = node("EXEC", as: client)
        #expect(start == "*1\r\n")
        node("PUBLISH c hi")
        #expect(told(client) == "")
        guard case .answer(let token) = client.pointee.parked else {
            Issue.record("EXEC does not wait")
            return
        }
        node.node.migrationEnded(token, .answered([nil]))
        #expect(told(client) == "+OK\r\n>3\r\n" + .bulk("message") + .bulk("c") + .bulk("hi"))
    }

    @Test("A subscriber that does not read is closed at the limit of its class")
    func outputLimit() {
        let node = NodeHarness {
            $0.outputBufferLimits.pubSub = OutputBufferLimit(hardBytes: 100_000, softBytes: 0, softSeconds: 0)
        }
        let slow = node.connect()
        let normal = node.connect()
        node("SUBSCRIBE c", as: slow)
        let message = String(repeating: "x", count: 1000)
        for _ in 0..<90 { node("PUBLISH c \(message)") }
        #expect(!slow.isClosing)
        for _ in 0..<20 { node("PUBLISH c \(message)") }
        #expect(slow.pointee.flags.contains(.closeNow))
        #expect(slow.pointee.reply.count < 102_000)
        #expect(node.node.effects.contains { if case .close(slow) = $0 { true } else { false } })
        // The limit is not that of others.
        deliver(String(repeating: "x", count: 200_000), to: normal, node)
        #expect(!normal.isClosing)
    }

    @Test("A soft limit has to be exceeded for its time")
    func softLimit() {
        let node = NodeHarness {
            $0.outputBufferLimits.pubSub = OutputBufferLimit(hardBytes: 0, softBytes: 50_000, softSeconds: 2)
        }
        let slow = node.connect()
        node("SUBSCRIBE c", as: slow)
        let message = String(repeating: "x", count: 1000)
        for _ in 0..<60 { node("PUBLISH c \(message)") }
        node.advance(milliseconds: 2000)
        node("PUBLISH c hi")
        #expect(!slow.isClosing)
        node.advance(milliseconds: 1)
        node("PUBLISH c hi")
        #expect(slow.isClosing)
    }
}
