import MartletKeyspace
import MartletRESP
import Testing

@testable import MartletServer

@Suite struct KeyspaceNotificationTests {
    /// A node and somebody who listens to everything.
    private struct Listener {
        let node: NodeHarness
        let client: ClientPointer

        init(_ classes: String, isClustered: Bool = false) {
            node = NodeHarness(isClustered: isClustered)
            node("CONFIG SET notify-keyspace-events '\(classes)'")
            client = node.connect()
            node("PSUBSCRIBE *", as: client)
        }

        /// What commands lead to: `event key`, as the channels of events tell it.
        func events(_ lines: String...) -> [String] {
            for line in lines { node(line) }
            return messages.map { channel, message in
                let name = channel.split(separator: ":", maxSplits: 1).last ?? ""
                return "\(name) \(message)"
            }
        }

        var messages: [(channel: String, message: String)] {
            let words = told(client).split(separator: "\r\n").filter { !$0.hasPrefix("$") && !$0.hasPrefix("*4") }
            return stride(from: 0, to: words.count, by: 4).map { (String(words[$0 + 2]), String(words[$0 + 3])) }
        }
    }

    @Test("A key is told to the channel of the event, and an event to the channel of the key")
    func channels() {
        let listener = Listener("KEA")
        listener.node("SELECT 3")
        listener.node("SET k 1")
        let messages = listener.messages
        #expect(messages.map(\.channel) == ["__keyspace@3__:k", "__keyevent@3__:set"])
        #expect(messages.map(\.message) == ["set", "k"])
    }

    @Test(
        "Commands lead to Redis' events, in its order",
        arguments: [
            ("SET k 1 EX 10", ["set k", "expire k"]), ("SETEX k 10 1", ["set k", "expire k"]),
            ("MSET k 1 l 2", ["set k", "set l"]), ("INCRBYFLOAT n 1", ["incrbyfloat n"]), ("INCR n", ["incrby n"]),
            ("APPEND k x", ["append k"]), ("SETRANGE k 0 x", ["setrange k"]), ("SETBIT k 1 1", ["setbit k"]),
            ("BITOP NOT d s", ["set d"]), ("GETEX s PERSIST", []), ("GETEX s EX 10", ["expire s"]),
            ("GETDEL s", ["del s"]), ("PFADD h x", ["pfadd h"]), ("PFCOUNT p", []), ("EXPIRE s -1", ["del s"]),
            ("EXPIRE s 10", ["expire s"]), ("RENAME s t", ["rename_from s", "rename_to t"]),
            ("COPY s t", ["copy_to t"]), ("MOVE s 1", ["move_from s", "move_to s"]),
            ("DEL s list", ["del s", "del list"]),
            ("LPUSH list a", ["lpush list"]), ("LPOP list 2", ["lpop list", "del list"]),
            ("LMOVE list other LEFT RIGHT", ["rpush other", "lpop list"]), ("LREM list 0 a", ["lrem list"]),
            ("LTRIM list 5 6", ["ltrim list", "del list"]), ("LSET list 0 x", ["lset list"]),
            ("LINSERT list BEFORE a x", ["linsert list"]), ("SORT list ALPHA STORE out", ["sortstore out"]),
            ("SADD set x", ["sadd set"]), ("SREM set a b", ["srem set", "del set"]), ("SPOP set", ["spop set"]),
            ("SMOVE set other a", ["srem set", "sadd other"]), ("SUNIONSTORE out set", ["sunionstore out"]),
            ("SINTERSTORE set none", ["del set"]), ("HSET hash f 1", ["hset hash"]),
            ("HDEL hash f", ["hdel hash", "del hash"]),
            ("HINCRBY hash n 1", ["hincrby hash"]), ("HINCRBYFLOAT hash n 1", ["hincrbyfloat hash"]),
            ("ZADD z 1 x", ["zadd z"]), ("ZADD z INCR 1 a", ["zincr z"]), ("ZINCRBY z 1 a", ["zincr z"]),
            ("ZREM z a b", ["zrem z", "del z"]), ("ZPOPMIN z", ["zpopmin z"]), ("ZPOPMAX z 2", ["zpopmax z", "del z"]),
            ("ZREMRANGEBYRANK z 0 0", ["zremrangebyrank z"]),
            ("ZREMRANGEBYSCORE z 1 1", ["zremrangebyscore z", "del z"]),
            ("ZREMRANGEBYLEX z - +", ["zremrangebylex z", "del z"]), ("ZUNIONSTORE out 1 z", ["zunionstore out"]),
            ("ZRANGESTORE out z 0 -1", ["zrangestore out"]), ("GEOADD g 1 1 x", ["zadd g"]),
            ("XADD x MAXLEN 1 * f 1", ["xadd x", "xtrim x"]), ("XTRIM x MAXLEN 0", ["xtrim x"]),
            ("XDEL x 1-1", ["xdel x"]), ("XSETID x 5-5", ["xsetid x"]), ("XGROUP CREATE x g $", ["xgroup-create x"]),
            ("GET none", []), ("SET s 2 NX", []), ("SREM set none", []), ("PERSIST s", []),
        ])
    func events(line: String, expected: [String]) {
        let listener = Listener("")
        for line in [
            "SET s 1", "RPUSH list a b", "SADD set a b", "HSET hash f 1", "ZADD z 1 a 1 b", "PFADD p a",
            "XADD x 1-1 f 1",
        ] { listener.node(line) }
        listener.node("CONFIG SET notify-keyspace-events EA")
        #expect(listener.events(line) == expected)
    }

    @Test("Only classes that are wanted are told")
    func classes() {
        #expect(Listener("E$").events("SET k 1 EX 10", "LPUSH l 1") == ["set k"])
        #expect(Listener("Egl").events("SET k 1 EX 10", "LPUSH l 1") == ["expire k", "lpush l"])
        #expect(Listener("A").events("SET k 1") == [])
        #expect(Listener("").events("SET k 1") == [])
    }

    @Test("New keys and reads that find nothing are told on request")
    func newAndMissing() {
        #expect(
            Listener("En").events("SET k 1", "SET k 2", "LPUSH l 1", "RENAME k m", "RESTORE r 0 x", "HSET h f 1")
                == ["new k", "new l", "new m", "new h"])
        #expect(
            Listener("Em").events("GET k", "EXISTS k", "SET k 1", "MGET k n", "OBJECT ENCODING n", "DEL q")
                == ["keymiss k", "keymiss k", "keymiss n"])
    }

    @Test("A key that expires is told of when it is met, and when it is found")
    func expiry() {
        let listener = Listener("Exgm")
        listener.node("SET k 1 PX 10")
        listener.node("SET l 1 PX 10")
        _ = listener.messages
        listener.node.advance(milliseconds: 11)
        #expect(listener.events("GET k") == ["expired k", "keymiss k"])
        listener.node.node.cron()
        listener.node.node.endTurn()
        #expect(listener.events() == ["expired l"])
    }

    @Test("In a transaction events and messages keep their order, and blocked clients are served behind them")
    func order() {
        let listener = Listener("Elg")
        let waiting = waiter(listener.node, "BLPOP l 0")
        #expect(
            listener.events("MULTI", "LPUSH l 1", "PUBLISH said hi", "DEL other", "EXEC")
                == ["lpush l", "said hi", "lpop l", "del l"])
        #expect(told(waiting) == .bulks("l", "1"))
    }

    @Test("Nothing is recorded while nobody listens")
    func silence() {
        let node = NodeHarness()
        node("CONFIG SET notify-keyspace-events KEAnm")
        #expect(node.node.keyspace.interest.isEmpty)
        let client = node.connect()
        node("SUBSCRIBE c", as: client)
        #expect(node.node.keyspace.interest == [.changes, .newKeys, .misses])
        node("CONFIG SET notify-keyspace-events ''")
        #expect(node.node.keyspace.interest.isEmpty)
        node("CONFIG SET notify-keyspace-events Em")
        #expect(node.node.keyspace.interest == [.misses])
        node.node.remove(client)
        #expect(node.node.keyspace.interest.isEmpty)
    }
}
