import MartletBase
import MartletCluster

extension FuzzTarget {
<<<<<<< HEAD
    /// Packets of peers: decoded, and then received by a node of a small cluster.
    ///
    /// The bus has no signatures, so a packet in the name of a member is believed. In the name of a stranger nothing may
    /// change: not who owns a slot, not the epoch, not who this node is.
    static let bus = FuzzTarget(
        name: "bus",
        summary: "packets on the cluster bus (BusPacket, ClusterState)",
        corpus: { genuinePackets },
        tokens: [
            Array("RCmb".utf8), [0, 0], [0, 1], [0, 2], [0, 3], [0, 4], [0, 5], [0, 6], [0, 7], [0, 8], [0, 9], [0, 10],
            [0x80, 4], [0x80, 10], Array(members[0].utf8), Array(members[1].utf8), Array(members[2].utf8),
            Array(members[3].utf8), Array(stranger.utf8), [0, 0, 0, 16, 0, 0, 0, 0], [0xFF, 0xFF],
        ],
        repair: { bytes, random in
            guard bytes.count >= 8 else { return }
            let count = UInt32(bytes.count)
            for index in 0..<4 { bytes[4 + index] = UInt8(truncatingIfNeeded: count >> UInt32(24 - 8 * index)) }
            // Half of the mutants come from a stranger.
            if random.below(2) == 0, bytes.count >= 80 { bytes.replaceSubrange(40..<80, with: Array(stranger.utf8)) }
        },
        run: { input, random in
            let state = makeNode(seed: random.next())
            var now: Int64 = 1_700_000_000_000
            let link = state.linkAccepted(from: "127.0.0.1", localAddress: "127.0.0.1", now: now)
            _ = state.takeEffects()
            let before = state.view
            input.withUnsafeBytes { bytes in
                guard case .length(let length) = BusPacket.framing(of: bytes), length == bytes.count else { return }
                let isStranger = bytes.count < 80 || !members.contains { Array(bytes[40..<80]) == Array($0.utf8) }
                for _ in 0..<(1 + random.below(3)) {
                    state.receive(bytes, on: link, now: now)
                    now += Int64(random.below(1500))
                    state.tick(now: now)
                    _ = state.takeEffects()
                }
                guard isStranger else { return }
                let after = state.view
                guard after.currentEpoch == before.currentEpoch, after.nodeID == before.nodeID,
                    after.isReplica == before.isReplica
                else { violated("a stranger changes no epoch, id or role") }
                for slot in stride(from: 0, to: HashSlot.count, by: 64) {
                    let slot = HashSlot(rawValue: UInt16(slot))
                    guard ownerID(of: slot, after) == ownerID(of: slot, before) else {
                        violated("a stranger takes no slot")
                    }
                }
            }
        })

    private static func ownerID(of slot: HashSlot, _ view: ClusterView) -> NodeID? {
        view.node(at: view.owner(of: slot))?.id
    }

    /// Three primaries and a replica of the first; the node under test is the first.
    private static let members = (0..<4).map { number in String(repeating: "\(number)a", count: 20) }
    private static let stranger = String(repeating: "5e", count: 20)

    private static let conf = """
        \(members[0]) 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-5460 [77->-\(members[1])]
        \(members[1]) 127.0.0.1:7001@17001 master - 0 1699999999000 2 connected 5461-10922
        \(members[2]) 127.0.0.1:7002@17002 master - 0 1699999999000 3 connected 10923-16383
        \(members[3]) 127.0.0.1:7003@17003 slave \(members[0]) 0 1699999999000 1 connected
        vars currentEpoch 5 lastVoteEpoch 4

        """

    private static func makeNode(seed: UInt64) -> ClusterState {
        guard let conf = try? NodesConf.parse(conf) else { preconditionFailure("the corpus is genuine") }
        var configuration = ClusterConfiguration()
        configuration.nodeTimeoutMilliseconds = 1000
        configuration.port = 7000
        let state = ClusterState(
            configuration: configuration, conf: conf, random: PRNG(seed: seed), now: 1_699_999_990_000)
        _ = state.takeEffects()
        return state
    }

    private static var genuinePackets: [[UInt8]] {
        guard let one = NodeID(members[1]), let two = NodeID(members[2]), let replica = NodeID(members[3]),
            let me = NodeID(members[0]), let stranger = NodeID(stranger)
        else { preconditionFailure("the corpus is genuine") }
        var slots = SlotSet()
        for slot in 5461...10922 { slots.insert(slot) }
        func header(_ sender: NodeID, _ slots: SlotSet, primary: NodeID? = nil, epoch: UInt64 = 2) -> BusPacketEncoder.Header {
            BusPacketEncoder.Header(
                sender: sender, currentEpoch: 5, configEpoch: epoch, replicationOffset: 100, slots: slots,
                primary: primary, announcedIP: "127.0.0.1", ports: NodePorts(tcp: 7001, bus: 17001), usesTLS: false,
                flags: [primary == nil ? .primary : .replica, .supportsExtensions], isStateOK: true,
                messageFlags: .extensions)
        }
        func ping(_ kind: BusPacket.Kind, _ header: BusPacketEncoder.Header) -> [UInt8] {
            var packet = BusPacketEncoder(kind, header)
            for (id, port) in [(two, 7002), (replica, 7003), (me, 7000), (stranger, 7009)] {
                packet.addGossip(
                    BusPacket.Gossip(
                        id: id, pingSentSeconds: 0, pongReceivedSeconds: 1_700_000_000, ip: "127.0.0.1",
                        port: UInt16(port), secondaryPort: 0, busPort: UInt16(port + 10000),
                        flags: id == replica ? [.replica] : [.primary]))
            }
            packet.addExtension(BusPacket.ExtensionType.hostname, text: "host.example")
            packet.addExtension(BusPacket.ExtensionType.shardID, payload: one.bytes)
            packet.addExtension(forgotten: stranger, ttlSeconds: 60)
            return packet.finish()
        }
        let primary = header(one, slots)
        let follower = header(replica, slots, primary: me, epoch: 1)
        return [
            ping(.ping, primary), ping(.pong, primary), ping(.meet, header(stranger, slots, epoch: 9)), ping(.ping, follower),
            BusPacketEncoder.bare(.ping, primary), BusPacketEncoder.bare(.authRequest, follower),
            BusPacketEncoder.bare(.authAck, primary), BusPacketEncoder.bare(.manualFailoverStart, follower),
            BusPacketEncoder.fail(two, primary), BusPacketEncoder.update(one, configEpoch: 7, slots: slots, primary),
            BusPacketEncoder.publish(Array("channel".utf8), Array("message".utf8), isSharded: false, primary),
            BusPacketEncoder.lightPublish(Array("channel".utf8), Array("message".utf8), isSharded: true),
        ]
    }

    /// nodes.conf: what is accepted is written and read again as the same.
    static let nodesConf = FuzzTarget(
        name: "nodes-conf",
        summary: "the cluster configuration file (NodesConf)",
        corpus: {
            [
                conf, "vars currentEpoch 0 lastVoteEpoch 0\n", "",
                "\(members[0]) :0@0 myself,master - 0 0 0 connected\nvars currentEpoch 0 lastVoteEpoch 0\n",
                "\(members[0]) ::1:7000@17000,host,shard-id=\(members[1]),nodename=x,tls-port=0 myself,slave \(members[1]) "
                    + "1 2 3 disconnected\n\(members[1]) 10.0.0.1:7001@17001,host master,fail,nofailover - 9 9 9 connected "
                    + "0 2 4-16383 [1->-\(members[0])] [3-<-\(members[0])]\nvars currentEpoch 3 lastVoteEpoch 3\n\n\n",
            ].map { Array($0.utf8) }
        },
        tokens: [
            "myself", ",", "master", "slave", "handshake", "noaddr", "fail", "fail?", "noflags", "nofailover", "-", ":", "@",
            "[", "]", "->-", "-<-", "\n", " ", "vars", "currentEpoch", "lastVoteEpoch", "connected", "0-16383", "16384",
            "shard-id=", members[0], members[1], "\0", "\r",
        ].map { Array($0.utf8) },
        run: { input, _ in
            guard let first = parseNodesConf(input) else { return }
            guard let second = parseNodesConf(first.encoded()) else {
                violated("a nodes.conf that was accepted is written as one that is accepted")
            }
            guard second == parseNodesConf(second.encoded()) else {
                violated("writing and reading nodes.conf again changes nothing")
            }
            _ = ClusterState(
                configuration: ClusterConfiguration(), conf: first, random: PRNG(seed: 1), now: 1_700_000_000_000)
        })

    private static func parseNodesConf(_ text: [UInt8]) -> NodesConf? {
        text.withUnsafeBytes { bytes in (try? NodesConf.parse(bytes)) ?? nil }
=======
    /// One packet after the other on a bus link, from a member and from a stranger.
    static let bus = FuzzTarget(
        name: "bus",
        summary: "cluster bus packets (BusPacket, ClusterState)",
        corpus: {
            BusPacket.Kind.allCases.flatMap { kind in [id("b"), id("c"), id("d")].map { packet(kind, from: $0) } }
                + [BusPacketEncoder.lightPublish([1, 2], [3], isSharded: false)]
        },
        tokens: [
            Array("RCmb".utf8), id("a").bytes, id("b").bytes, id("c").bytes, id("d").bytes, NodeID.null.bytes, [0, 0x80],
            [0, 0, 0, 48, 0, 3], [0, 0, 0, 56, 0, 2], [0, 0, 0, 24, 0, 0], [0xFF, 0xFF, 0xFF, 0xFF],
        ],
        repair: { bytes, _ in
            guard bytes.count >= 8 else { return }
            for (index, shift) in [24, 16, 8, 0].enumerated() {
                bytes[4 + index] = UInt8(truncatingIfNeeded: bytes.count >> shift)
            }
        },
        run: { input, random in
            guard let conf = try? NodesConf.parse(clusterFile) else {
                violated("the fuzzer's own nodes.conf is valid")
            }
            let state = ClusterState(
                configuration: ClusterConfiguration(), conf: conf, random: PRNG(seed: random.next()), now: 1_000_000)
            let link = state.linkAccepted(from: "127.0.0.1", localAddress: "127.0.0.1", now: 1_000_000)
            var now: Int64 = 1_000_000
            for _ in 0...random.below(3) {
                input.withUnsafeBytes { state.receive($0, on: link, now: now) }
                for case .openLink(let opened, _, _) in state.takeEffects() where random.below(2) == 0 {
                    state.linkOpened(opened, now: now)
                    input.withUnsafeBytes { state.receive($0, on: opened, now: now) }
                }
                now += Int64(random.below(30_000))
                state.tick(now: now)
                state.checkInvariants()
            }
        })

    /// nodes.conf as found on a disk.
    static let nodesConf = FuzzTarget(
        name: "nodes-conf",
        summary: "nodes.conf (NodesConf)",
        corpus: { [clusterFile, Array("\(id("a")) 1.2.3.4:1@2,host,shard-id=\(id("b")) myself - 0 0 1 x [7->-\(id("b"))]\n".utf8)] },
        tokens: [
            "vars", "currentEpoch", "lastVoteEpoch", "myself", "master", "slave", "fail?", "noaddr", " - ", "0-16383", "[5->-",
            "[5-<-", "]", "\n", ",", "@", ":", "99999999999999999999", "-1",
        ].map { Array($0.utf8) },
        run: { input, random in
            let conf: NodesConf?
            do throws(NodesConfError) {
                conf = try NodesConf.parse(input)
            } catch {
                if error.line < 1 || error.cause.isEmpty { violated("a refusal names line and cause") }
                return
            }
            guard let conf else { return }
            let state = ClusterState(
                configuration: ClusterConfiguration(), conf: conf, random: PRNG(seed: random.next()), now: 1_000_000)
            state.tick(now: 1_001_000)
            state.checkInvariants()
            guard case .ok = state.execute(ClusterRequest(["SAVECONFIG"]), now: 1_002_000) else { return }
            for case .saveConfig(let text, _) in state.takeEffects() {
                if (try? NodesConf.parse(text)) == nil { violated("what was accepted and written can be read again") }
            }
        })

    private static func id(_ letter: Character) -> NodeID { NodeID(String(repeating: letter, count: 40))! }

    /// This node (a) and b with half of the slots each, c and d replicas of a and b.
    private static let clusterFile = Array(
        """
        \(id("a")) 127.0.0.1:7000@17000 myself,master - 0 1 1 connected 0-8191 [9->-\(id("b"))]
        \(id("b")) 127.0.0.1:7001@17001 master - 0 1 2 connected 8192-16383
        \(id("c")) 127.0.0.1:7002@17002 slave \(id("a")) 0 1 1 connected
        \(id("d")) 127.0.0.1:7003@17003 slave,fail? \(id("b")) 0 1 2 disconnected
        vars currentEpoch 4 lastVoteEpoch 3

        """.utf8)

    private static func packet(_ kind: BusPacket.Kind, from sender: NodeID) -> [UInt8] {
        var slots = SlotSet()
        for slot in sender == id("c") ? 0..<8192 : 8192..<16384 { slots.insert(slot) }
        let header = BusPacketEncoder.Header(
            sender: sender, currentEpoch: 5, configEpoch: 2, replicationOffset: 7, slots: slots,
            primary: sender == id("c") ? id("a") : sender == id("d") ? id("b") : nil, announcedIP: "127.0.0.1",
            ports: NodePorts(tcp: 7001, bus: 17001), usesTLS: false, flags: sender == id("b") ? .primary : .replica,
            isStateOK: true, messageFlags: [.extensions, .forceAck])
        switch kind {
        case .ping, .pong, .meet:
            var packet = BusPacketEncoder(kind, header)
            packet.addGossip(
                .init(
                    id: id("d"), pingSentSeconds: 0, pongReceivedSeconds: 999, ip: "127.0.0.1", port: 7003,
                    secondaryPort: 0, busPort: 17003, flags: [.replica, .pfail]))
            packet.addExtension(BusPacket.ExtensionType.hostname, text: "host.example")
            packet.addExtension(forgotten: id("c"), ttlSeconds: 60)
            packet.addExtension(BusPacket.ExtensionType.shardID, payload: id("e").bytes)
            return packet.finish()
        case .fail: return BusPacketEncoder.fail(id("d"), header)
        case .update: return BusPacketEncoder.update(id("b"), configEpoch: 9, slots: slots, header)
        case .publish, .publishShard:
            return BusPacketEncoder.publish([1, 2], [3], isSharded: kind == .publishShard, header)
        case .authRequest, .authAck, .manualFailoverStart, .module: return BusPacketEncoder.bare(kind, header)
        }
>>>>>>> df713fa (Fuzz bus packets and nodes.conf)
    }
}
