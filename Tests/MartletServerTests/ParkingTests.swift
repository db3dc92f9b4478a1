import MartletBase
import MartletCluster
import MartletRESP
import Testing

@testable import MartletServer

/// Clients that wait, and what may happen meanwhile.
@Suite struct ParkingTests {
    private func parked(_ client: ClientPointer) -> Parked { client.pointee.parked }

    private func token(of client: ClientPointer) -> UInt64 {
        guard case .answer(let token) = parked(client) else {
            Issue.record("not parked for an answer")
            return 0
        }
        return token
    }

    private func count(_ node: NodeHarness, _ isMeant: (NodeEffect) -> Bool) -> Int {
        node.node.effects.count(where: isMeant)
    }

    private func pauseReports(_ node: NodeHarness) -> Int {
        count(node) { if case .writesPaused = $0 { true } else { false } }
    }

    // MARK: MIGRATE

    @Test("EXEC waits for a key that is on its way to another server, and runs when it has arrived")
    func execDuringMigration() {
        let node = NodeHarness()
        let writer = node.connect()
        node("SET k old")
        #expect(node("MULTI", as: writer) + node("SET k new", as: writer) == "+OK\r\n+QUEUED\r\n")
        node("MIGRATE 127.0.0.1 1 k 0 1000")
        #expect(node("EXEC", as: writer) == "")
        #expect(parked(writer) == .migratingKey)
        node.node.migrationEnded(token(of: node.client), .answered([nil]))
        #expect(parked(writer) == .notParked)
        #expect(node("EXISTS k", as: node.connect()) == ":0\r\n")
        #expect(node("EXEC", as: writer) == "*1\r\n+OK\r\n")
        #expect(node("GET k", as: writer) == .bulk("new"))
    }

    @Test(
        "What touches a key that is being moved waits; the rest goes on",
        arguments: [
            ("GET k", true), ("MGET a k", true), ("MGET k", true), ("OBJECT ENCODING k", true), ("FLUSHALL", true),
            ("SWAPDB 0 1", true), ("MIGRATE h 1 k 0 9", true), ("MIGRATE h 1 '' 0 9 KEYS a k", true),
            ("GET other", false), ("OBJECT ENCODING other", false), ("MGET a b", false), ("DBSIZE", false),
            ("PING", false), ("MULTI", false),
        ])
    func locks(_ line: String, waits: Bool) {
        let node = NodeHarness()
        let other = node.connect()
        node("SET k 1")
        node("MIGRATE 127.0.0.1 1 k 0 1000")
        node(line, as: other)
        #expect(parked(other) == (waits ? .migratingKey : .notParked))
        node.node.migrationEnded(token(of: node.client), .failed("-IOERR"))
        #expect(parked(other) == .notParked)
        #expect(parked(node.client) == .notParked)
    }

    @Test("A key that is moved twice at a time is free when the last transfer has ended")
    func lockedTwice() {
        let node = NodeHarness()
        node("SET k 1")
        node("MIGRATE 127.0.0.1 1 '' 0 1000 KEYS k k")
        node("GET k", as: node.connect())
        #expect(node.node.parkedClients.count == 2)
        node.node.migrationEnded(token(of: node.client), .failed("-IOERR"))
        #expect(node.node.parkedClients.isEmpty)
        #expect(node("GET k", as: node.connect()) == .bulk("1"))
    }

    @Test("The offset of a manual failover is told when the last transfer has ended")
    func failoverDuringMigration() {
        let node = NodeHarness()
        node("SET k 1")
        node("MIGRATE 127.0.0.1 1 k 0 1000")
        node.node.pauseWritesForFailover(milliseconds: 5000)
        #expect(pauseReports(node) == 0)
        node.node.migrationEnded(token(of: node.client), .answered([nil]))
        #expect(pauseReports(node) == 1)
    }

    @Test("A pause that was over before the transfer is not reported", arguments: [true, false])
    func pauseOverBeforeMigration(isResumed: Bool) {
        let node = NodeHarness()
        node("SET k 1")
        node("MIGRATE 127.0.0.1 1 k 0 1000")
        node.node.pauseWritesForFailover(milliseconds: 500)
        if isResumed { node.node.resumeWritesAfterFailover() } else { node.advance(milliseconds: 600) }
        node.node.migrationEnded(token(of: node.client), .answered([nil]))
        #expect(pauseReports(node) == 0)
    }

    // MARK: Pauses

    @Test("Readers go on when the pause that held them is over, though writes are still held back")
    func pauseOfAllEndsFirst() {
        let node = NodeHarness()
        let reader = node.connect()
        let writer = node.connect()
        node("CLIENT PAUSE 100 ALL")
        node.node.pauseWritesForFailover(milliseconds: 10_000)
        node("GET k", as: reader)
        #expect(parked(reader) == .pause)
        node.advance(milliseconds: 200)
        #expect(parked(reader) == .notParked)
        node("SET k 1", as: writer)
        #expect(parked(writer) == .pause)
    }

    @Test(
        "No key comes between a count of keys and the decision that goes by it",
        arguments: ["SETSLOT 7 NODE abc", "RESET", "REPLICATE abc", "FLUSHSLOTS"])
    func decision(_ subcommand: String) {
        let node = NodeHarness(isClustered: true)
        let writer = node.connect()
        let reader = node.connect()
        node("CLUSTER \(subcommand)")
        node("SET k 1", as: writer)
        #expect(parked(writer) == .pause)
        #expect(node("GET k", as: reader) == "$-1\r\n")
        node.node.clusterReplied(token(of: node.client), .ok)
        #expect(parked(writer) == .notParked)
        #expect(node("SET k 1", as: writer) == "+OK\r\n")
    }

    @Test(
        "Writes go on while the bus answers what has nothing to do with keys", arguments: ["SETSLOT 7 STABLE", "INFO"])
    func noDecision(_ subcommand: String) {
        let node = NodeHarness(isClustered: true)
        node("CLUSTER \(subcommand)")
        #expect(node("SET k 1", as: node.connect()) == "+OK\r\n")
    }

    @Test("Writes go on after a decision whose asker has gone")
    func decisionWithoutAsker() {
        let node = NodeHarness(isClustered: true)
        let asker = node.connect()
        node("CLUSTER RESET", as: asker)
        let token = token(of: asker)
        node("SET k 1")
        node.node.remove(asker)
        #expect(parked(node.client) == .pause)
        node.node.clusterReplied(token, .ok)
        #expect(parked(node.client) == .notParked)
    }

    // MARK: Clients that go

    @Test("Nothing is asked for a client that is gone")
    func effectsOfRemovedClient() {
        let node = NodeHarness()
        let client = node.connect()
        node("SET k 1")
        node("MIGRATE 127.0.0.1 1 k 0 1000", as: client)
        node.node.migrationEnded(token(of: client), .failed("-IOERR"))
        #expect(count(node) { $0.names(client) } == 2)
        node.node.remove(client)
        #expect(count(node) { $0.names(client) } == 0)
    }

    @Test("Clients may leave while they wait, in any order; the others go on")
    func parkedClientsLeave() {
        let node = NodeHarness()
        let clients = (0..<8).map { _ in node.connect() }
        node("CLIENT PAUSE 1000 WRITE")
        for client in clients { node("SET k 1", as: client) }
        #expect(node.node.parkedClients.count == 8)
        for index in [3, 0, 7] { node.node.remove(clients[index]) }
        #expect(node.node.parkedClients.count == 5)
        node("CLIENT UNPAUSE")
        #expect(node.node.parkedClients.isEmpty)
        for index in [1, 2, 4, 5, 6] { #expect(parked(clients[index]) == .notParked) }
    }
}
