import MartletBase
import Testing

@testable import MartletCluster

@Suite struct NodesConfTests {
    private static let a = String(repeating: "a", count: 40)
    private static let b = String(repeating: "b", count: 40)
    private static let c = String(repeating: "c", count: 40)

    /// As redis-server 7.0.15 writes it.
    static let redis = """
        fc686420cdf187713cc18bf54a004064b183e54a 127.0.0.1:7997@17997 master - 0 1795249705000 1 connected 0-5460
        643536934406e40822129d13cba78b1b395b5294 127.0.0.1:7999@17999,host-1.example myself,slave fc686420cdf187713cc18bf54a004064b183e54a 0 1795249705000 1 connected
        c56846451b4d344274a6974fd5fbdf2619a2e772 ::1:7998@17998 master,fail? - 1 1795249705612 2 disconnected 5461-16382 16383
        vars currentEpoch 3 lastVoteEpoch 2

        """

    private func parse(_ text: String) throws -> NodesConf? { try NodesConf.parse(Array(text.utf8)) }

    @Test("reads a file of redis-server 7.0")
    func readsRedis() throws {
        let conf = try #require(try parse(Self.redis))
        #expect(conf.currentEpoch == 3 && conf.lastVoteEpoch == 2 && conf.nodes.count == 3)
        let me = try #require(conf.myself)
        #expect(me.primary == conf.nodes[0].id && me.hostname == "host-1.example" && me.port == 7999)
        #expect(conf.nodes[2].ip == "::1" && conf.nodes[2].slots == [5461...16382, 16383...16383])
        #expect(conf.nodes[2].flags == [.primary, .pfail] && !conf.nodes[2].isConnected)
    }

    @Test("writes what it reads, byte for byte")
    func writesWhatItReads() throws {
        let conf = try #require(try parse(Self.redis))
        #expect(String(decoding: conf.encoded(), as: UTF8.self) == Self.redis)
        let open = """
            \(Self.a) 127.0.0.1:1@2 myself,master - 0 0 5 connected 0-99 [7->-\(Self.b)] [200-<-\(Self.b)]
            \(Self.b) :0@0 master,noaddr,nofailover - 0 0 6 disconnected
            vars currentEpoch 6 lastVoteEpoch 0 myElectedEpoch 5 myShardId \(Self.c)

            """
        let second = try #require(try parse(open))
        #expect(second.shardID == NodeID(Self.c))
        #expect(String(decoding: second.encoded(), as: UTF8.self) == open)
    }

    @Test("reads the extra fields of Valkey, files without a bus port, padding and unknown variables")
    func variants() throws {
        let conf = try #require(
            try parse(
                """

                \(Self.a) 127.0.0.1:6379@16379,,shard-id=\(Self.c),nodename=n.1,tls-port=0,availability-zone=z myself,master - 0 0 1 connected 0-1
                \(Self.b) 127.0.0.1:6380 slave \(Self.a) 0 0 0 connected
                vars currentEpoch 1 lastVoteEpoch 1 somethingNew 5



                """))
        #expect(conf.nodes[0].shardID == NodeID(Self.c) && conf.nodes[0].humanNodename == "n.1")
        #expect(conf.nodes[0].hostname == "" && conf.nodes[0].tlsPort == 0)
        #expect(conf.nodes[1].busPort == 16380)
    }

    @Test("an empty or blank file is no configuration", arguments: ["", "\n", "\n\n  \n"])
    func empty(text: String) throws {
        #expect(try parse(text) == nil)
    }

    @Test(
        "a file that makes no sense is refused with line and cause",
        arguments: [
            ("\(a) 127.0.0.1:1@2 master - 0 0 1 connected\n", 1, "no node is marked as myself"),
            ("\n\(a) 127.0.0.1:1@2 myself,master - 0 0 1\n", 2, "7 fields"),
            ("short 127.0.0.1:1@2 myself,master - 0 0 1 connected\n", 1, "invalid node id"),
            ("\(a) 127.0.0.1 myself,master - 0 0 1 connected\n", 1, "no port"),
            ("\(a) 127.0.0.1:70000@1 myself,master - 0 0 1 connected\n", 1, "invalid port"),
            ("\(a) 127.0.0.1:1@x myself,master - 0 0 1 connected\n", 1, "invalid port"),
            ("\(a) 1!2:1@2 myself,master - 0 0 1 connected\n", 1, "invalid address"),
            ("\(a) 127.0.0.1:1@2,ho$t myself,master - 0 0 1 connected\n", 1, "invalid hostname"),
            ("\(a) 127.0.0.1:1@2,,shard-id=x myself,master - 0 0 1 connected\n", 1, "invalid shard id"),
            ("\(a) 127.0.0.1:1@2,,shard-id myself,master - 0 0 1 connected\n", 1, "name=value"),
            ("\(a) 127.0.0.1:1@2 myself,king - 0 0 1 connected\n", 1, "unknown flag 'king'"),
            ("\(a) 127.0.0.1:1@2 myself,master,slave - 0 0 1 connected\n", 1, "both master and slave"),
            ("\(a) 127.0.0.1:1@2 myself,slave \(a) 0 0 1 connected\n", 1, "replicates itself"),
            ("\(a) 127.0.0.1:1@2 myself,slave x 0 0 1 connected\n", 1, "invalid primary id"),
            ("\(a) 127.0.0.1:1@2 myself,master - z 0 1 connected\n", 1, "invalid ping time"),
            ("\(a) 127.0.0.1:1@2 myself,master - 0 z 1 connected\n", 1, "invalid pong time"),
            ("\(a) 127.0.0.1:1@2 myself,master - 0 0 -1 connected\n", 1, "invalid epoch"),
            ("\(a) 127.0.0.1:1@2 myself,master - 0 0 99999999999999999999 connected\n", 1, "invalid epoch"),
            ("\(a) 127.0.0.1:1@2 myself,master - 0 0 1 connected 16384\n", 1, "invalid slots"),
            ("\(a) 127.0.0.1:1@2 myself,master - 0 0 1 connected 5-3\n", 1, "invalid slots"),
            ("\(a) 127.0.0.1:1@2 myself,master - 0 0 1 connected -3\n", 1, "invalid slots"),
            ("\(a) 127.0.0.1:1@2 myself,master - 0 0 1 connected [5->-x]\n", 1, "invalid open slot"),
            ("\(a) 127.0.0.1:1@2 myself,master - 0 0 1 connected [5-=-\(b)]\n", 1, "invalid open slot"),
            ("\(a) 127.0.0.1:1@2 myself,master - 0 0 1 connected [\n", 1, "invalid open slot"),
            ("\(a) 127.0.0.1:1@2 myself,master - 0 0 1 connected []\n", 1, "invalid open slot"),
            ("\(a) 127.0.0.1:1@2 myself,master - 0 0 1 connected\n\(a) :1@2 master - 0 0 1 connected\n", 2, "twice"),
            (
                "\(a) :1@2 myself,master - 0 0 1 connected\n\(b) :1@2 myself,master - 0 0 1 connected\n", 2,
                "second node"
            ),
            ("\(a) :1@2 myself,master - 0 0 1 connected\nvars currentEpoch\n", 2, "no value"),
            ("\(a) :1@2 myself,master - 0 0 1 connected\nvars currentEpoch x\n", 2, "invalid epoch"),
            ("\(a) :1@2 myself,master - 0 0 1 connected\n\u{1}\n", 2, "byte 1"),
        ])
    func refusals(text: String, line: Int, cause: String) {
        do {
            _ = try parse(text)
            Issue.record("accepted: \(text)")
        } catch let error as NodesConfError {
            #expect(error.line == line)
            #expect(error.cause.contains(cause), "\(error)")
        } catch {
            Issue.record("another error")
        }
    }

    @Test("no damage to a file makes the reader crash", arguments: [1, 2, 3, 4] as [UInt64])
    func fuzz(seed: UInt64) {
        var random = PRNG(seed: seed)
        let valid = Array(
            (Self.redis + "\(Self.a) 1.2.3.4:1@2,h,shard-id=\(Self.b) noaddr - 0 0 1 x [7->-\(Self.b)]\n").utf8)
        for _ in 0..<300 {
            var bytes = valid
            for _ in 0...random.below(6) {
                let position = random.below(bytes.count)
                switch random.below(5) {
                case 4:
                    let words = [
                        " slave", ",fail", ",fail?", " master", ",handshake", " 0-16383", " noflags", " 9", "\n",
                    ]
                    bytes.insert(contentsOf: Array(words[random.below(words.count)].utf8), at: position)
                case 0: bytes[position] = UInt8(random.below(256))
                case 1: bytes.remove(at: position)
                case 2: bytes.insert(Array(" ,:@-[]=0\n".utf8)[random.below(10)], at: position)
                default: bytes.removeSubrange(position..<min(position + random.below(60), bytes.count))
                }
                if bytes.isEmpty { bytes = [0] }
            }
            guard let conf = try? NodesConf.parse(bytes) else { continue }
            // What was accepted must make a working node, and survive being written.
            let state = ClusterState(configuration: ClusterConfiguration(), conf: conf, random: random, now: 1_000)
            state.checkInvariants()
            state.tick(now: 2_000)
            let again = state.nodesConf().encoded()
            #expect((try? NodesConf.parse(again)) != nil)
        }
    }
}
