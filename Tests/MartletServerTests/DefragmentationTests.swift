import MartletKeyspace
import Testing

@testable import MartletServer

@Suite struct DefragmentationTests {
    /// A node whose slabs are nine tenths empty, and worth work.
    private func sparseNode() -> NodeHarness {
        let node = NodeHarness()
        for key in 0..<20_000 { node("SET key:\(key) value") }
        for key in 0..<20_000 where key % 10 != 0 { node("DEL key:\(key)") }
        node("CONFIG SET active-defrag-ignore-bytes 1 active-defrag-threshold-lower 0")
        return node
    }

    private func info(_ node: NodeHarness, _ section: String, _ name: String) -> Int {
        let field = node("INFO \(section)").split(separator: "\r\n").first { $0.hasPrefix(name + ":") }
        return field.flatMap { Int($0.dropFirst(name.count + 1)) } ?? -1
    }

    private func hasWork(_ node: NodeHarness) -> Bool { node.node.defragmentation.hasWork }

    @Test func gapsAreFilledUpOnceItIsSwitchedOn() {
        let node = sparseNode()
        let before = node.node.keyspace.unusedBytes
        node.node.cron()
        node.node.endTurn()
        #expect(node.node.keyspace.unusedBytes == before)
        node("CONFIG SET activedefrag yes")
        for _ in 0..<100 {
            node.node.cron()
            node.node.defragment { 0 }
        }
        #expect(node.node.keyspace.unusedBytes < before / 3)
        #expect((500...2000).contains(info(node, "stats", "active_defrag_key_hits")))
        #expect(info(node, "memory", "active_defrag_running") == 0)
        #expect(hasWork(node) == false)
        #expect(node("DBSIZE") == ":2000\r\n")
        #expect(node("GET key:70") == "$5\r\nvalue\r\n")
        node.node.keyspace.invariants()
    }

    @Test("Gaps that members of values have left are filled up", arguments: ["hash", "set", "zset"])
    func members(kind: String) {
        let node = NodeHarness()
        let (add, remove) = ["hash": ("HSET", "HDEL"), "set": ("SADD", "SREM"), "zset": ("ZADD", "ZREM")][kind]!
        for value in 0..<10 {
            for member in 0..<1000 {
                switch kind {
                case "hash": node("HSET value:\(value) member:\(member) \(member)")
                case "set": node("\(add) value:\(value) member:\(member)")
                default: node("ZADD value:\(value) \(member % 100) member:\(member)")
                }
            }
        }
        if kind == "hash" { node("HPEXPIRE value:7 100000 FIELDS 3 member:0 member:1 member:10") }
        for value in 0..<10 {
            for member in 0..<1000 where member % 10 != 0 { node("\(remove) value:\(value) member:\(member)") }
        }
        node("CONFIG SET active-defrag-ignore-bytes 1 active-defrag-threshold-lower 0 activedefrag yes")
        let before = node.node.keyspace.unusedBytes
        let digest = node("DEBUG DIGEST")
        var slices = 0
        for _ in 0..<1000 {
            node.node.cron()
            guard hasWork(node) else { break }
            node.node.defragment { 0 }
            slices += 1
        }
        #expect(slices > 0 && slices < 1000, "the work ends")
        #expect(node.node.keyspace.unusedBytes < before / 3)
        #expect(info(node, "stats", "active_defrag_hits") > 500)
        #expect(node("DEBUG DIGEST") == digest)
        node.node.keyspace.invariants()
        for value in 0..<10 { node("DEL value:\(value)") }
        #expect(node("DBSIZE") == ":0\r\n")
    }

    @Test("A slice ends when a millisecond is over, a period when its share of the time is")
    func slicesAreBounded() {
        let node = sparseNode()
        node("CONFIG SET activedefrag yes active-defrag-cycle-min 2 active-defrag-cycle-max 2")
        node.node.cron()
        #expect(info(node, "memory", "active_defrag_running") == 2)
        #expect(hasWork(node))
        var time: Int64 = 0
        func slabsOfASlice() -> Int {
            let before = node.node.keyspace.unusedBytes
            node.node.defragment {
                time += 600
                return time
            }
            return (before - node.node.keyspace.unusedBytes) / (32 * 1024)
        }
        // 2 % of 100 ms are 2 ms; a slice of two slabs takes 1.2 ms here.
        #expect(slabsOfASlice() == 2)
        #expect(hasWork(node))
        #expect(slabsOfASlice() == 2)
        #expect(hasWork(node) == false)
    }

    @Test(arguments: [
        (50, 1000, 0), (99, 1000, 0), (100, 1000, 1), (550, 1000, 13), (1000, 1000, 25), (5000, 1000, 25), (100, 0, 25),
        (99, 0, 0),
    ])
    func theLargerTheGapsTheMoreTimeTheyGet(unused: Int, used: Int, percent: Int) {
        var limits = DefragmentationLimits()
        limits.ignoredBytes = 100
        #expect(limits.cyclePercent(unused: unused, used: used) == percent)
    }
}
