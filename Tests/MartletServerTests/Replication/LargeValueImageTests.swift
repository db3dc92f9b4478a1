import MartletBase
import MartletKeyspace
import MartletPersistence
import MartletRESP
import MartletReplication
import Testing

@testable import MartletServer

@Suite("Large values in an image")
struct LargeValueImageTests {
    private static let kinds = ["hash", "set", "zset", "list", "stream", "string"]

    /// Fills a value of every type, each larger than what is written in one piece.
    private func fill(_ node: NodeHarness, _ number: Int, elements: Int = 2500) {
        node("CONFIG SET list-max-listpack-size 20 stream-node-max-entries 20")
        func send(_ command: String, _ words: (Int) -> [String]) {
            for first in stride(from: 0, to: elements, by: 500) {
                let arguments = [command, "\(command):\(number)"] + (first..<min(first + 500, elements)).flatMap(words)
                node.send(arguments.map { Array($0.utf8) })
            }
        }
        let data = String(repeating: "d", count: 30)
        send("HSET") { ["field:\($0)", "\(data)\($0)"] }
        send("SADD") { ["member:\($0)\(data)"] }
        send("ZADD") { ["\($0 * 7919 % 10007)", "member:\($0)\(data)"] }
        send("RPUSH") { ["\(data)\($0)"] }
        for (old, new) in [("HSET", "hash"), ("SADD", "set"), ("ZADD", "zset"), ("RPUSH", "list")] {
            node("RENAME \(old):\(number) \(new):\(number)")
        }
        for entry in 1...elements { node("XADD stream:\(number) \(entry)-1 field \(data)") }
        node("XGROUP CREATE stream:\(number) group 0")
        node("XREADGROUP GROUP group one COUNT 500 STREAMS stream:\(number) >")
        node("XREADGROUP GROUP group two COUNT 500 STREAMS stream:\(number) >")
        node("HPEXPIRE hash:\(number) 100000 FIELDS 2 field:1 field:7")
        node("SETRANGE string:\(number) 300000 end")
    }

    /// A random change of a value, or of its key alone.
    private func change(_ node: NodeHarness, _ random: inout PRNG) {
        let number = random.below(3)
        let element = random.below(3000)
        let key = "\(Self.kinds[random.below(Self.kinds.count)]):\(number)"
        let other = "\(Self.kinds[random.below(Self.kinds.count)]):\(random.below(3))"
        switch random.below(24) {
        case 0: node("HSET hash:\(number) field:\(element) changed")
        case 1: node("HDEL hash:\(number) field:\(element)")
        case 2: node("SADD set:\(number) \(element)")
        case 3: node("SPOP set:\(number) 3")
        case 4: node("ZINCRBY zset:\(number) 10 \(element)")
        case 5: node("ZPOPMIN zset:\(number) 2")
        case 6: node("LPUSH list:\(number) first")
        case 7: node("RPOP list:\(number) 40")
        case 8: node("XADD stream:\(number) * more \(element)")
        case 9: node("XDEL stream:\(number) \(element)-1")
        case 10: node("XREADGROUP GROUP group three COUNT 5 STREAMS stream:\(number) >")
        case 11: node("XACK stream:\(number) group \(element)-1")
        case 12: node("APPEND string:\(number) more")
        case 13: node("SETRANGE string:\(number) \(element) x")
        case 14: node("DEL \(key)")
        case 15: node("RENAME \(key) \(other)")
        case 16, 17: node("PEXPIRE \(key) \(1 + random.below(3000))")
        case 18: node("PERSIST \(key)")
        case 19: node("COPY \(key) \(other) REPLACE")
        case 20: node("MOVE \(key) 1")
        case 21: node("SET \(key) small")
        case 22: node.advance(milliseconds: 20)
        default: node("GETDEL \(key)")
        }
    }

    @Test(
        "The image is that of one moment, whatever becomes of large values meanwhile",
        arguments: 1...3 as ClosedRange<UInt64>)
    func exact(seed: UInt64) {
        let network = ReplicationNetwork(seed: seed, nodeCount: 2)
        let primary = network[1]
        for number in 0..<3 { fill(primary, number) }
        for index in 0..<100 { primary("SET key:\(index) value") }
        network[2]("REPLICAOF 127.0.0.1 1")
        var random = PRNG(seed: seed)
        var turns = 0
        while network[2].replication("master_link_status") != "up", turns < 1000 {
            if turns > 2 { for _ in 0..<random.below(3) { change(primary, &random) } }
            primary("INCR key:counter")
            network.turn()
            turns += 1
        }
        #expect(turns > 7, "the image must take many turns for this test to mean anything")
        for _ in 0..<40 { change(primary, &random) }
        network.settle()
        #expect(network[2]("DEBUG DIGEST") == primary("DEBUG DIGEST"), "seed \(seed)")
        for number in 0..<3 {
            let question = "XPENDING stream:\(number) group"
            #expect(network[2](question) == primary(question))
        }
    }

    @Test("No turn writes more than a piece, though large values are deleted, replaced, renamed and given an expiry")
    func bounded() {
        let network = ReplicationNetwork(seed: 9, nodeCount: 2)
        let primary = network[1]
        for number in 0..<2 { fill(primary, number, elements: 4000) }
        let used = Memory.threadBalance
        network[2]("REPLICAOF 127.0.0.1 1")
        var position: Int64 = 0
        var most: Int64 = 0
        var names = Self.kinds.flatMap { ["\($0):0", "\($0):1"] }
        var random = PRNG(seed: 9)
        var turns = 0
        while network[2].replication("master_link_status") != "up", turns < 1000 {
            network.turn()
            turns += 1
            guard let image = primary.node.replication.image else { continue }
            most = max(most, image.queue.end - position)
            position = image.queue.end
            if turns % 2 != 1 || names.isEmpty { continue }
            let name = names.remove(at: random.below(names.count))
            primary(
                ["DEL \(name)", "SET \(name) 1", "RENAME \(name) new:\(turns)", "PEXPIRE \(name) 100000"][
                    random.below(4)])
        }
        #expect(position > 1_500_000)
        #expect(most < 400_000, "\(most) bytes in one turn")
        network.settle()
        #expect(network[2]("DEBUG DIGEST") == primary("DEBUG DIGEST"))
        primary("FLUSHALL")
        network.settle()
        #expect(Memory.threadBalance < used)
    }

    @Test("A walk that ends early leaves nothing behind")
    func aborted() {
        let network = ReplicationNetwork(seed: 10, nodeCount: 2)
        let primary = network[1]
        fill(primary, 0, elements: 4000)
        network[2]("REPLICAOF 127.0.0.1 1")
        for _ in 0..<5 { network.turn() }
        for kind in Self.kinds { primary("DEL \(kind):0") }
        network.cut(replica: 2)
        primary.node.endTurn()
        let isWalking = primary.node.keyspace.isWalking
        #expect(!isWalking)
        while primary.node.keyspace.hasRemains { primary.node.endTurn() }
        #expect(primary("DBSIZE") == ":0\r\n")
    }
}
