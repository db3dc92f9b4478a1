import MartletBase
import MartletCluster
import MartletKeyspace
import MartletRESP
import Testing

@testable import MartletServer

@Suite struct PubSubTests {
    private func message(_ words: String..., type: Character = "*") -> String {
        "\(type)\(words.count)\r\n" + words.map { .bulk($0) }.joined()
    }

    private func subscriber(_ node: NodeHarness, _ lines: String...) -> ClientPointer {
        let client = node.connect()
        for line in lines { node(line, as: client) }
        return client
    }

    // MARK: Subscribing

    @Test("Each channel is confirmed with the number of subscriptions; shard channels count apart")
    func confirmations() {
        let node = NodeHarness()
        func confirmed(_ kind: String, _ name: String, _ count: Int) -> String {
            "*3\r\n" + .bulk(kind) + .bulk(name) + ":\(count)\r\n"
        }
        #expect(
            node("SUBSCRIBE a b a")
                == ["a", "b", "a"].enumerated().map {
                    confirmed("subscribe", $1, min($0 + 1, 2))
                }.joined())
        #expect(node("PSUBSCRIBE a*") == confirmed("psubscribe", "a*", 3))
        #expect(node("SSUBSCRIBE s") == confirmed("ssubscribe", "s", 1))
        #expect(
            node("UNSUBSCRIBE nosuch b") == confirmed("unsubscribe", "nosuch", 3) + confirmed("unsubscribe", "b", 2))
        #expect(node("PUNSUBSCRIBE") == confirmed("punsubscribe", "a*", 1))
        #expect(node("UNSUBSCRIBE") == confirmed("unsubscribe", "a", 0))
        #expect(node("UNSUBSCRIBE") == "*3\r\n" + .bulk("unsubscribe") + "$-1\r\n:0\r\n")
        #expect(node("SUNSUBSCRIBE") == confirmed("sunsubscribe", "s", 0))
        #expect(node("GET k") == "$-1\r\n")
    }

    @Test("A subscriber may say little in RESP2, and everything in RESP3")
    func subscriberMode() {
        let node = NodeHarness()
        node("SUBSCRIBE c")
        #expect(
            node("CONFIG GET port")
                == "-ERR Can't execute 'config|get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n"
        )
        #expect(node("HELLO 3").hasPrefix("-ERR Can't execute 'hello'"))
        #expect(node("PING") == .bulks("pong", ""))
        #expect(node("PING x") == .bulks("pong", "x"))
        #expect(node("RESET") == "+RESET\r\n")
        #expect(node("PING") == "+PONG\r\n")
        node("HELLO 3")
        node("SUBSCRIBE c")
        #expect(node("PING") == "+PONG\r\n")
        #expect(node("SET k 1") == "+OK\r\n")
    }

    @Test("CLIENT REPLY OFF silences no confirmation and no message")
    func repliesOff() {
        let node = NodeHarness()
        let client = node.connect()
        node("CLIENT REPLY OFF", as: client)
        #expect(node("SUBSCRIBE c", as: client).hasPrefix("*3"))
        #expect(node("PING", as: client) == "")
        node("PUBLISH c hi")
        #expect(told(client) == message("message", "c", "hi"))
        #expect(node("UNSUBSCRIBE c", as: client).hasPrefix("*3"))
    }

    @Test("SUBSCRIBE runs within a transaction, SSUBSCRIBE does not")
    func transactions() {
        let node = NodeHarness()
        node("MULTI")
        node("SUBSCRIBE c")
        node("SSUBSCRIBE s")
        #expect(
            node("EXEC")
                == "*2\r\n*3\r\n" + .bulk("subscribe") + .bulk("c")
                + ":1\r\n-ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client\r\n")
    }

    // MARK: Messages

    @Test("A message goes to subscribers of its channel and of matching patterns, each in its own words")
    func publish() {
        let node = NodeHarness()
        let one = subscriber(node, "SUBSCRIBE c", "PSUBSCRIBE c* x*")
        let other = subscriber(node, "HELLO 3", "SUBSCRIBE c")
        let shard = subscriber(node, "SSUBSCRIBE c")
        #expect(node("PUBLISH c hi") == ":3\r\n")
        #expect(told(one) == message("message", "c", "hi") + message("pmessage", "c*", "c", "hi"))
        #expect(told(other) == message("message", "c", "hi", type: ">"))
        #expect(told(shard) == "")
        #expect(node("SPUBLISH c hi") == ":1\r\n")
        #expect(told(shard) == message("smessage", "c", "hi"))
        #expect(node("PUBLISH nobody hi") == ":0\r\n")
    }

    @Test("Who is gone, or has reset the connection, gets nothing and leaves nothing")
    func leaving() {
        let node = NodeHarness()
        let gone = subscriber(node, "SUBSCRIBE a b c", "PSUBSCRIBE *", "SSUBSCRIBE s")
        let reset = subscriber(node, "SUBSCRIBE a b", "RESET")
        let stays = subscriber(node, "SUBSCRIBE b")
        node.node.remove(gone)
        #expect(node("PUBLISH b hi") == ":1\r\n")
        #expect(told(reset) == "")
        #expect(told(stays) == message("message", "b", "hi"))
        #expect(node("PUBSUB CHANNELS") == .bulks("b"))
        #expect(node("PUBSUB NUMPAT") == ":0\r\n")
        #expect(node("PUBSUB SHARDCHANNELS") == "*0\r\n")
    }

    @Test("However subscribers come and go, each message finds those that are there")
    func manySubscribers() {
        let node = NodeHarness()
        var random = PRNG(seed: 7)
        let clients = (0..<20).map { _ in node.connect() }
        var expected = [Set<Int>](repeating: [], count: 30)
        for _ in 0..<3000 {
            let (client, channel) = (random.below(20), random.below(30))
            if random.below(2) == 0 {
                node("SUBSCRIBE c\(channel)", as: clients[client])
                expected[channel].insert(client)
            } else {
                node("UNSUBSCRIBE c\(channel)", as: clients[client])
                expected[channel].remove(client)
            }
            let published = random.below(30)
            #expect(node("PUBLISH c\(published) x") == ":\(expected[published].count)\r\n")
            for (index, client) in clients.enumerated() {
                #expect(told(client).isEmpty != expected[published].contains(index))
            }
        }
        #expect(node.node.pubSub[.channel].pointee.count == expected.count { !$0.isEmpty })
    }

    // MARK: Asking

    @Test("PUBSUB tells of channels, patterns and their subscribers")
    func asking() {
        let node = NodeHarness()
        _ = subscriber(node, "SUBSCRIBE news:a", "PSUBSCRIBE n*")
        _ = subscriber(node, "SUBSCRIBE news:a other", "PSUBSCRIBE n*", "SSUBSCRIBE s")
        #expect(node("PUBSUB CHANNELS news:*") == .bulks("news:a"))
        #expect(node("PUBSUB NUMSUB news:a none") == "*4\r\n" + .bulk("news:a") + ":2\r\n" + .bulk("none") + ":0\r\n")
        #expect(node("PUBSUB NUMSUB") == "*0\r\n")
        #expect(node("PUBSUB NUMPAT") == ":1\r\n")
        #expect(node("PUBSUB SHARDCHANNELS") == .bulks("s"))
        #expect(node("PUBSUB SHARDNUMSUB s") == "*2\r\n" + .bulk("s") + ":1\r\n")
        #expect(
            node("PUBSUB CHANNELS a b")
                == "-ERR unknown subcommand or wrong number of arguments for 'CHANNELS'. Try PUBSUB HELP.\r\n")
        let list = node("CLIENT LIST TYPE pubsub")
        #expect(list.contains(" flags=P db=0 sub=2 psub=1 ssub=1 "))
        #expect(node("INFO stats").contains("pubsub_channels:2\r\npubsub_patterns:1\r\npubsubshard_channels:1\r\n"))
    }

    // MARK: Other nodes

    @Test("PUBLISH goes into the log as it is, in a transaction with the rest")
    func propagation() {
        let node = NodeHarness()
        node.node.keyspace.propagation.isOn = true
        node.node.isInPropagationUnit = true
        node("PUBLISH c hi")
        node("SET k 1")
        node("SPUBLISH s hi")
        #expect(node.takePropagation() == ["0 PUBLISH c hi", "0 SET k 1", "0 SPUBLISH s hi"])
    }

    @Test("In a cluster the bus carries messages on, and brings those of others")
    func bus() {
        let node = NodeHarness(isClustered: true)
        node.serveAllSlots()
        let client = subscriber(node, "SUBSCRIBE c", "SSUBSCRIBE s")
        node("PUBLISH c hi")
        guard case .publish(Array("c".utf8), Array("hi".utf8), false) = node.node.effects.last else {
            Issue.record("nothing for the bus")
            return
        }
        #expect(told(client) == message("message", "c", "hi"))
        let effectCount = node.node.effects.count
        node.node.published(Array("ho".utf8), to: Array("c".utf8), isSharded: false)
        node.node.published(Array("ho".utf8), to: Array("s".utf8), isSharded: true)
        #expect(told(client) == message("message", "c", "ho") + message("smessage", "s", "ho"))
        #expect(node.node.effects.count == effectCount)
    }

    @Test("Shard channels are served where their slot is, and all of one command are in one slot")
    func shardSlots() throws {
        let node = NodeHarness(isClustered: true)
        node.serveAllSlots()
        let client = subscriber(node, "SSUBSCRIBE {a}1 {a}2", "SSUBSCRIBE b")
        #expect(node("PUBSUB SHARDNUMSUB {a}1 {a}2 b").contains(":1\r\n" + .bulk("b") + ":1\r\n"))
        #expect(node("SSUBSCRIBE x y") == "-CROSSSLOT Keys in request don't hash to the same slot\r\n")
        #expect(node("SUNSUBSCRIBE x y") == "-CROSSSLOT Keys in request don't hash to the same slot\r\n")
        let slot = "{a}1".utf8.withContiguousStorageIfAvailable { HashSlot.of(UnsafeRawBufferPointer($0)) }!
        node.changeCluster("DELSLOTS", "\(slot.rawValue)")
        #expect(node("SPUBLISH {a}1 hi") == "-CLUSTERDOWN Hash slot not served\r\n")
        node.node.dropShardChannels(inSlots: [slot])
        let dropped = told(client)
        for name in ["{a}1", "{a}2"] {
            #expect(dropped.contains("*3\r\n" + .bulk("sunsubscribe") + .bulk(name)))
        }
        #expect(dropped.hasSuffix(":1\r\n"))
        #expect(node("PUBSUB SHARDCHANNELS") == .bulks("b"))
    }

    @Test("A replica serves the shard channels of its primary")
    func replica() throws {
        let node = NodeHarness(isClustered: true)
        try node.followOwnerOfAllSlots()
        #expect(node("SSUBSCRIBE s").hasPrefix("*3\r\n"))
        #expect(node("SPUBLISH s hi", as: node.connect()) == ":1\r\n")
    }
}
