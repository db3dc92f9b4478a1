import MartletBase
import MartletKeyspace
import Testing

@testable import MartletServer

@Suite struct ActiveExpiryTests {
    /// A period and its first turn.
    private func cron(_ node: NodeHarness) {
        node.node.cron()
        node.node.endTurn()
    }

    @Test("Whatever is over is deleted though nobody asks for it", arguments: [false, true])
    func everythingGoes(isClustered: Bool) {
        let node = NodeHarness(isClustered: isClustered)
        for key in 0..<3000 { node("SET k\(key) v PX \(key % 100 + 1)") }
        for key in 0..<50 { node("SET stays\(key) v PX 100000") }
        node.advance(milliseconds: 101)
        #expect(node("DBSIZE") == ":3050\r\n")
        for _ in 0..<20 { cron(node) }
        #expect(node("DBSIZE") == ":50\r\n")
        #expect(node.node.keyspace.statistics.expiredKeys == 3000)
    }

    @Test func everyDatabaseIsLookedAt() {
        let node = NodeHarness()
        node("SET k v PX 10")
        for database in 1..<16 { node("COPY k k DB \(database)") }
        node.advance(milliseconds: 11)
        for _ in 0..<3 { cron(node) }
        #expect(node.node.keyspace.totalKeyCount == 0)
    }

    @Test func deletionsArePropagated() {
        let node = NodeHarness()
        node("SET k v PX 10")
        node("COPY k k DB 4")
        node.advance(milliseconds: 11)
        node.node.keyspace.propagation.isOn = true
        node.node.cron()
        node.node.expireKeys { 0 }
        #expect(node.node.keyspace.propagation.commands.map(\.database) == [0, 4])
        node.node.keyspace.propagation.removeAll()
        node.node.keyspace.propagation.isOn = false
    }

    @Test func itCanBeSwitchedOff() {
        let node = NodeHarness()
        node("SET k v PX 10")
        node.advance(milliseconds: 11)
        node("DEBUG SET-ACTIVE-EXPIRE 0")
        cron(node)
        #expect(node("DBSIZE") == ":1\r\n")
        node("DEBUG SET-ACTIVE-EXPIRE 1")
        cron(node)
        #expect(node("DBSIZE") == ":0\r\n")
    }

    @Test func aReplicaWaitsForItsPrimary() {
        let node = NodeHarness()
        node("SET k v PX 10")
        node.advance(milliseconds: 11)
        node.node.keyspace.expiryMode = .hide
        cron(node)
        #expect(node("DBSIZE") == ":1\r\n")
    }

    @Test func aWritableReplicaDeletesWhatItsOwnClientsMade() {
        let node = NodeHarness()
        node("SET theirs v PX 10")
        node.node.keyspace.expiryMode = .hide
        node("SET ours v PX 10")
        node("SET changed v")
        node("PEXPIRE changed 10")
        node("SET renamed v PX 10")
        node("RENAME renamed x")
        node.advance(milliseconds: 11)
        #expect(node("DBSIZE") == ":4\r\n")
        cron(node)
        #expect(node("DBSIZE") == ":1\r\n")
        node.node.keyspace.expiryMode = .ignore
        #expect(node("EXISTS theirs") == ":1\r\n")
        node.node.keyspace.expiryMode = .delete
    }

    /// With a clock that says 300 µs for every 200 keys: 4 steps make a slice of 1 ms, and 25 ms are 84 steps.
    @Test func workIsCutIntoSlicesAndEndsWithItsBudget() {
        let node = NodeHarness()
        for key in 0..<40_000 { node("SET k\(key) v PX 1") }
        node.advance(milliseconds: 2)
        var now: Int64 = 0
        var slices = 0
        node.node.activeExpiry.begin(hz: 10, effort: 1)
        while node.node.activeExpiry.hasWork {
            let before = node.node.keyspace.statistics.expiredKeys
            node.node.expireKeys {
                now += 300
                return now
            }
            slices += 1
            #expect(node.node.keyspace.statistics.expiredKeys - before <= 4 * 220)
        }
        #expect((18...25).contains(slices))
        #expect(node.node.keyspace.statistics.expiryCyclesCutShort == 1)
        #expect(node("DBSIZE") != ":0\r\n")
        #expect(node.node.keyspace.statistics.expiredStalePercent > 50)
    }

    @Test func fewDeadKeysEndAPeriodEarly() {
        let node = NodeHarness()
        for key in 0..<5000 { node("SET k\(key) v PX \(key % 50 == 0 ? 1 : 100_000)") }
        node.advance(milliseconds: 2)
        node.node.activeExpiry.begin(hz: 10, effort: 1)
        node.node.expireKeys { 0 }
        #expect(!node.node.activeExpiry.hasWork)
        #expect(node.node.keyspace.statistics.expiredKeys < 50)
    }
}
