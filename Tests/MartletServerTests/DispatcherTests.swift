import MartletBase
import MartletCluster
import MartletKeyspace
import MartletRESP
import Testing

@testable import MartletServer

@Suite struct DispatcherTests {
    private func resumes(_ node: NodeHarness) -> Int {
        node.node.effects.count { if case .resume = $0 { true } else { false } }
    }

    private func isClosing(_ client: ClientPointer) -> Bool { client.isClosing }

    @Test(
        "What stands behind AUTH in the same bytes is judged as that of a client that has authenticated",
        arguments: [
            [["MSET"] + (0..<20).map { "w\($0)" }], [["SET", "k", String(repeating: "v", count: 20_000)]],
        ])
    func pipelinedAuthentication(_ requests: [[String]]) {
        let node = NodeHarness { $0.requirePassword = Array("secret".utf8) }
        let bytes = ([["AUTH", "secret"]] + requests).flatMap { RequestEncoder.encode($0.map { Array($0.utf8) }) }
        #expect(node.receive(bytes) == Array("+OK\r\n".utf8))
        #expect(!isClosing(node.client))
        // The rest runs when the client goes on.
        #expect(resumes(node) == 1)
    }

    @Test("Before AUTH the limits hold")
    func unauthenticated() {
        let node = NodeHarness { $0.requirePassword = Array("secret".utf8) }
        let request = RequestEncoder.encode((0..<20).map { Array("w\($0)".utf8) })
        #expect(node.receive(request) == Array("-ERR Protocol error: unauthenticated multibulk length\r\n".utf8))
        #expect(isClosing(node.client))
        #expect(resumes(node) == 0)
    }

    @Test(
        "A web browser's request ends the connection without an answer",
        arguments: ["POST / HTTP/1.1", "host: 127.0.0.1"])
    func crossProtocol(_ line: String) {
        let node = NodeHarness()
        #expect(node(line) == "")
        #expect(isClosing(node.client))
    }

    @Test("Of an unknown subcommand the first 128 bytes are told")
    func longSubcommand() {
        let node = NodeHarness()
        let name = String(repeating: "x", count: 1000)
        #expect(
            node("CLIENT \(name)") == "-ERR unknown subcommand '\(name.prefix(128))'. Try CLIENT HELP.\r\n")
    }

    @Test(
        "Only commands whose cost is constant are timed by samples",
        arguments: [("GET", true), ("RESTORE", false), ("SETRANGE", false)])
    func sampledTiming(_ name: String, isSampled: Bool) {
        let node = NodeHarness()
        let index = Array(name.utf8).withUnsafeBytes { node.node.commands.index(of: $0) }
        let mask = node.node.commands.hot[index].timingMask
        #expect((mask != 0) == isSampled)
    }
}

/// Where a replica of a cluster lets a command run.
@Suite struct ReplicaRedirectionTests {
    /// 7629 is the slot of `k`.
    private static let moved = "-MOVED 7629 127.0.0.1:7000\r\n"

    @Test(
        "A replica sends clients to its primary, but answers what only reads after READONLY",
        arguments: [
            ("GET k", "$-1\r\n"), ("MGET k", "*1\r\n$-1\r\n"), ("MGET k {k}2", "*2\r\n$-1\r\n$-1\r\n"),
            ("EXISTS k", ":0\r\n"), ("OBJECT ENCODING k", "$-1\r\n"), ("BITOP NOT k k", nil), ("SET k 1", nil),
            ("DEL k", nil), ("DEL k {k}2", nil), ("GETDEL k", nil),
        ])
    func readOnly(_ line: String, reply: String?) throws {
        let node = NodeHarness(isClustered: true)
        try node.followOwnerOfAllSlots()
        #expect(node(line) == Self.moved)
        #expect(node("READONLY") == "+OK\r\n")
        #expect(node(line) == reply ?? Self.moved)
        #expect(node("READWRITE") == "+OK\r\n")
        #expect(node(line) == Self.moved)
        #expect(node("MGET k other") == "-CROSSSLOT Keys in request don't hash to the same slot\r\n")
    }
}

/// Keys of slots that went to another node.
@Suite struct LostSlotTests {
    private let slot = Array("{a}".utf8).withUnsafeBytes { HashSlot.of($0) }

    private func keyCount(_ node: NodeHarness) -> Int { node.node.keyspace.keyCount(slot: slot) }

    private func filled(_ count: Int) -> NodeHarness {
        let node = NodeHarness(isClustered: true)
        node.serveAllSlots()
        for index in 0..<count { node("SET {a}\(index) 1") }
        return node
    }

    @Test("They are deleted some in each turn, until none is left")
    func inTurns() {
        let node = filled(5000)
        node("SET b 1")
        node.changeCluster("DELSLOTS", "\(slot.rawValue)")
        node.node.deleteKeys(inSlots: [slot])
        node.node.endTurn()
        #expect(keyCount(node) > 0)
        #expect(keyCount(node) < 5000)
        var turns = 0
        while node.node.hasUrgentWork, turns < 100 {
            node.node.endTurn()
            turns += 1
        }
        #expect(keyCount(node) == 0)
        #expect(node("DBSIZE") == ":1\r\n")
    }

    @Test("A slot that came back before the order to delete is left alone")
    func cameBack() {
        let node = filled(10)
        node.node.deleteKeys(inSlots: [slot])
        node.node.endTurn()
        #expect(keyCount(node) == 10)
    }

    @Test("No new key of a slot that comes back is deleted with the old ones")
    func comesBackMeanwhile() {
        let node = filled(5000)
        node.changeCluster("DELSLOTS", "\(slot.rawValue)")
        node.node.deleteKeys(inSlots: [slot])
        node.node.endTurn()
        node.changeCluster("ADDSLOTS", "\(slot.rawValue)")
        #expect(keyCount(node) == 0)
        node("SET {a}new 1")
        node.node.endTurn()
        #expect(keyCount(node) == 1)
    }

    @Test("While a failover waits for the offset to stand still, nothing is deleted")
    func duringFailover() {
        let node = filled(10)
        node.changeCluster("DELSLOTS", "\(slot.rawValue)")
        node.node.pauseWritesForFailover(milliseconds: 1000)
        node.node.deleteKeys(inSlots: [slot])
        node.node.endTurn()
        #expect(keyCount(node) == 10)
        node.node.resumeWritesAfterFailover()
        node.node.endTurn()
        #expect(keyCount(node) == 0)
    }
}
