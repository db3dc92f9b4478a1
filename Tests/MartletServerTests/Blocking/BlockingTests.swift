import MartletBase
import MartletRESP
import MartletReplication
import Testing

@testable import MartletServer

/// Clients that wait for keys.
@Suite struct BlockingTests {
    // MARK: Serving

    @Test(
        arguments: [
            ("BLPOP l 0", .bulks("l", "a"), .bulks("b")), ("BRPOP none l 0", .bulks("l", "b"), .bulks("a")),
            ("BLMPOP 0 2 none l RIGHT", "*2\r\n" + .bulk("l") + .bulks("b"), .bulks("a")),
            ("BLMPOP 0 1 l LEFT COUNT 10", "*2\r\n" + .bulk("l") + .bulks("a", "b"), "*0\r\n"),
            ("BLMOVE l m RIGHT LEFT 0", .bulk("b"), .bulks("a")), ("BRPOPLPUSH l m 0", .bulk("b"), .bulks("a")),
        ] as [(String, String, String)])
    func aPushServesWhoWaits(line: String, reply: String, left: String) {
        let node = NodeHarness()
        let client = waiter(node, line)
        #expect(node("RPUSH l a b") == ":2\r\n")
        #expect(!isWaiting(client))
        #expect(told(client) == reply)
        #expect(node("LRANGE l 0 -1") == left)
        // The same without waiting.
        node("DEL l m")
        node("RPUSH l a b")
        #expect(node(line) == reply)
        #expect(node("LRANGE l 0 -1") == left)
    }

    @Test(.timeLimit(.minutes(1))) func manyKeysAreAwaitedInNoTimeAndEachOnce() {
        let node = NodeHarness()
        let names = (0..<30_000).map { Array("k\($0 % 29_000)".utf8) }
        let client = node.connect()
        #expect(node.send([Array("BLPOP".utf8)] + names + [Array("0".utf8)], as: client) == [])
        #expect(isWaiting(client))
        #expect(node("RPUSH k28999 a") == ":1\r\n")
        #expect(told(client) == .bulks("k28999", "a"))
        #expect(node.node.blocked.isEmpty)
    }

    @Test func whoCameFirstIsServedFirst() {
        let node = NodeHarness()
        let clients = (0..<5).map { _ in waiter(node, "BLPOP l 0") }
        node.node.remove(clients[2])
        node("RPUSH l a b")
        #expect([0, 1].map { told(clients[$0]) } == [.bulks("l", "a"), .bulks("l", "b")])
        #expect([3, 4].allSatisfy { isWaiting(clients[$0]) })
        node("RPUSH l c d e")
        #expect([3, 4].map { told(clients[$0]) } == [.bulks("l", "c"), .bulks("l", "d")])
        #expect(node("LRANGE l 0 -1") == .bulks("e"))
    }

    @Test func aClientStandsInTheQueuesOfAllItsKeysAndLeavesAll() {
        let node = NodeHarness()
        let client = waiter(node, "BLPOP a b a 0")
        node("RPUSH b 1")
        #expect(told(client) == .bulks("b", "1"))
        node("RPUSH a 2")
        #expect(told(client) == "")
        #expect(node("LLEN a") == ":1\r\n")
    }

    @Test("Of several keys that come in one transaction, the one that came first serves")
    func transaction() {
        let node = NodeHarness()
        let client = waiter(node, "BLPOP a b 0")
        for line in ["MULTI", "RPUSH b 1", "RPUSH a 2", "EXEC"] {
            #expect(isWaiting(client))
            node(line)
        }
        #expect(told(client) == .bulks("b", "1"))
        #expect(node("LLEN a") == ":1\r\n")
    }

    @Test(
        "What comes and goes within a transaction, or is no list, wakes nobody",
        arguments: [
            ["MULTI", "LPUSH l a", "DEL l", "EXEC"], ["MULTI", "LPUSH l a", "DEL l", "SET l x", "EXEC"], ["SET l x"],
            ["SET l x", "DEL l"],
        ])
    func noReason(lines: [String]) {
        let node = NodeHarness()
        let client = waiter(node, "BLPOP l 0")
        for line in lines { node(line) }
        #expect(isWaiting(client))
        node("DEL l")
        node("RPUSH l b")
        #expect(told(client) == .bulks("l", "b"))
    }

    @Test func movesChain() {
        let node = NodeHarness()
        let second = waiter(node, "BLMOVE b c LEFT RIGHT 0")
        let third = waiter(node, "BLPOP c 0")
        let first = waiter(node, "BLMOVE a b LEFT RIGHT 0")
        node("RPUSH a x")
        #expect([first, second].map(told) == [.bulk("x"), .bulk("x")])
        #expect(told(third) == .bulks("c", "x"))
        #expect(node("EXISTS a b c") == ":0\r\n")
    }

    @Test func aTargetOfAnotherTypeEndsTheWaitAndLeavesTheElement() {
        let node = NodeHarness()
        node("SET s x")
        let first = waiter(node, "BLMOVE l s LEFT RIGHT 0")
        let second = waiter(node, "BLPOP l 0")
        node("RPUSH l a")
        #expect(told(first).hasPrefix("-WRONGTYPE"))
        #expect(told(second) == .bulks("l", "a"))
    }

    @Test(
        "Whatever makes a key a list serves",
        arguments: [
            ("RPUSH other a", "RENAME other l"), ("RPUSH other a", "COPY other l"),
            ("RPUSH other a", "LMOVE other l LEFT LEFT"),
        ])
    func otherWays(prepare: String, line: String) {
        let node = NodeHarness()
        let client = waiter(node, "BLPOP l 0")
        node(prepare)
        node(line)
        #expect(told(client) == .bulks("l", "a"))
    }

    @Test func anExchangeOfDatabasesServes() {
        let node = NodeHarness()
        let client = waiter(node, "BLPOP l 0")
        let other = node.connect()
        node("SELECT 5", as: other)
        node("RPUSH l a", as: other)
        #expect(isWaiting(client))
        node("SWAPDB 0 5", as: other)
        #expect(told(client) == .bulks("l", "a"))
    }

    @Test func anotherDatabaseServesNobody() {
        let node = NodeHarness()
        let client = waiter(node, "BLPOP l 0")
        let other = node.connect()
        node("SELECT 1", as: other)
        node("RPUSH l a", as: other)
        #expect(isWaiting(client))
    }

    @Test func nobodyWaitsInsideOfATransaction() {
        let node = NodeHarness()
        node("MULTI")
        for line in ["BLPOP l 0", "BLMOVE l m LEFT LEFT 0", "BRPOPLPUSH l m 0", "BLMPOP 0 1 l LEFT"] { node(line) }
        #expect(node("EXEC") == "*4\r\n*-1\r\n$-1\r\n$-1\r\n*-1\r\n")
    }

    @Test func whatFollowsAWaitRunsAfterIt() {
        let node = NodeHarness()
        let client = node.connect()
        // The reactor keeps the rest of the bytes.
        let bytes =
            RequestEncoder.encode(["BLPOP", "l", "0"].map { Array($0.utf8) })
            + RequestEncoder.encode(["SET", "after", "1"].map { Array($0.utf8) })
        #expect(node.receive(bytes, as: client) == [])
        #expect(node("EXISTS after") == ":0\r\n")
        node("RPUSH l a")
        #expect(node.node.effects.contains { if case .resume(client) = $0 { true } else { false } })
    }

    @Test("A client that is about to be closed gets nothing", arguments: [true, false])
    func dying(isKilled: Bool) {
        let node = NodeHarness()
        let client = waiter(node, "BLPOP l 0")
        let next = waiter(node, "BLPOP l 0")
        if isKilled { node("CLIENT KILL ID \(client.pointee.id)") } else { client.pointee.flags.insert(.disconnected) }
        node("RPUSH l a")
        #expect(told(client) == "")
        #expect(told(next) == .bulks("l", "a"))
    }

    @Test("Replies that a client does not want are not written", arguments: ["CLIENT REPLY OFF", "CLIENT REPLY SKIP"])
    func silence(line: String) {
        let node = NodeHarness()
        let client = node.connect()
        node(line, as: client)
        node("BLPOP l 0", as: client)
        #expect(isWaiting(client))
        node("RPUSH l a")
        #expect(!isWaiting(client))
        #expect(told(client) == "")
        #expect(node("LLEN l") == ":0\r\n")
    }

    // MARK: Ends

    @Test(arguments: [
        "BLPOP l 0.1", "BRPOP l 0.1", "BLMOVE l m LEFT LEFT 0.1", "BRPOPLPUSH l m 0.1", "BLMPOP 0.1 1 l LEFT",
    ])
    func timesEnd(line: String) {
        let node = NodeHarness()
        let client = waiter(node, line)
        let now = node.nowMilliseconds
        #expect(node.node.millisecondsToDeadline(monotonicNow: now) == 100)
        node.advance(milliseconds: 99)
        node.node.endTurn()
        #expect(isWaiting(client))
        node.advance(milliseconds: 1)
        node.node.endTurn()
        #expect(told(client) == "*-1\r\n")
        #expect(node.node.millisecondsToDeadline(monotonicNow: now) == nil)
        node("RPUSH l a")
        #expect(node("LLEN l") == ":1\r\n")
    }

    @Test func timesOfAnyLengthEndInOrder() {
        let node = NodeHarness()
        let seconds = [3, 1, 2, 5, 4, 1, 3]
        let clients = seconds.map { waiter(node, "BLPOP l \($0)") }
        let patient = waiter(node, "BLPOP l 0")
        let eternal = waiter(node, "BLPOP l 9223372036854775")
        #expect(node("INFO clients").contains("blocked_clients:9\r\n"))
        #expect(node("INFO clients").contains("clients_in_timeout_table:8\r\n"))
        for second in 1...5 {
            node.advance(milliseconds: 1000)
            node.node.endTurn()
            for (client, own) in zip(clients, seconds) { #expect(isWaiting(client) == (own > second)) }
        }
        #expect(isWaiting(patient))
        #expect(isWaiting(eternal))
    }

    @Test func manyWaitsLeaveNothingBehind() {
        let node = NodeHarness()
        let client = node.connect()
        for _ in 0..<1000 {
            node("BLPOP l 1000", as: client)
            node("RPUSH l a")
        }
        #expect(node.node.blocked.isEmpty)
        #expect(node.node.blocked.timedCount == 0)
        node.advance(milliseconds: 2_000_000)
        node.node.endTurn()
        #expect(node.node.millisecondsToDeadline(monotonicNow: node.nowMilliseconds) == nil)
    }

    @Test(arguments: [
        ("", "*-1\r\n"), (" TIMEOUT", "*-1\r\n"), (" ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"),
    ])
    func othersEndAWait(option: String, reply: String) {
        let node = NodeHarness()
        let client = waiter(node, "BLPOP l 0")
        #expect(node("CLIENT LIST").contains("flags=b "))
        #expect(node("CLIENT UNBLOCK \(client.pointee.id)\(option)") == ":1\r\n")
        #expect(told(client) == reply)
        #expect(node("CLIENT UNBLOCK \(client.pointee.id)\(option)") == ":0\r\n")
        node("RPUSH l a")
        #expect(told(client) == "")
    }

    @Test func aReplicaSendsWaitingClientsAway() {
        let node = NodeHarness()
        let client = waiter(node, "BLPOP l 0")
        node("REPLICAOF 127.0.0.1 1")
        #expect(
            told(client)
                == "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n")
        #expect(client.pointee.flags.contains(.closeAfterReply))
    }

    @Test(arguments: ["BLPOP l 0", "BLMPOP 0 1 l LEFT", "BLMOVE l {l}2 LEFT LEFT 0"])
    func clientsOfAClusterAreServed(line: String) {
        let node = NodeHarness(isClustered: true)
        node.serveAllSlots()
        let client = waiter(node, line)
        node("RPUSH l a")
        #expect(!isWaiting(client))
        #expect(told(client).contains("$1\r\na\r\n"))
        #expect(node("EXISTS l") == ":0\r\n")
    }

    @Test func aSlotThatGoesSendsWaitingClientsAway() {
        let node = NodeHarness(isClustered: true)
        node.serveAllSlots()
        let client = waiter(node, "BLPOP {a}1 {a}2 0")
        let other = waiter(node, "BLPOP b 0")
        let slot = "a".utf8.withContiguousStorageIfAvailable { HashSlot.of(UnsafeRawBufferPointer($0)).rawValue }!
        node.changeCluster("DELSLOTS", "\(slot)")
        #expect(told(client) == "-CLUSTERDOWN Hash slot not served\r\n")
        #expect(isWaiting(other))
    }

    @Test func aKeyThatIsOnItsWayElsewhereTakesNothingMeanwhile() {
        let node = NodeHarness()
        node("SET m x")
        let client = waiter(node, "BLMOVE l m LEFT RIGHT 0")
        node("MIGRATE 127.0.0.1 1 m 0 1000")
        let other = node.connect()
        node("RPUSH l a", as: other)
        #expect(isWaiting(client))
        guard case .answer(let token) = node.client.pointee.parked else {
            Issue.record("MIGRATE waits")
            return
        }
        node.node.migrationEnded(token, .answered([nil]))
        node.node.endTurn()
        #expect(told(client) == .bulk("a"))
        #expect(node("LRANGE m 0 -1", as: other) == .bulks("a"))
    }

    // MARK: The log

    @Test(arguments: [
        ("BLPOP l 0", "LPOP l"), ("BRPOP l 0", "RPOP l"), ("BLMPOP 0 1 l LEFT COUNT 10", "LPOP l 2"),
        ("BLMPOP 0 1 l RIGHT", "RPOP l 1"), ("BLMOVE l m RIGHT LEFT 0", "LMOVE l m RIGHT LEFT"),
        ("BRPOPLPUSH l m 0", "RPOPLPUSH l m"),
    ])
    func theLogSaysWhatWasDone(line: String, logged: String) {
        for waits in [true, false] {
            let node = NodeHarness()
            node.node.activateLog()
            let client = node.connect()
            if waits { node(line, as: client) }
            let start = node.node.replication.feed.log.end
            node("RPUSH l a b")
            if !waits { node(line, as: client) }
            let expected = ["SELECT 0", "RPUSH l a b", logged].map { text in
                RequestEncoder.encode(text.split(separator: " ").map { Array($0.utf8) })
            }
            #expect(log(node, from: start) == expected.flatMap { $0 })
        }
    }

    private func log(_ node: NodeHarness, from start: Int64) -> [UInt8] {
        var bytes: [UInt8] = []
        while start + Int64(bytes.count) < node.node.replication.feed.log.end {
            bytes += node.node.replication.feed.log.bytes(at: start + Int64(bytes.count))
        }
        return bytes
    }
}
