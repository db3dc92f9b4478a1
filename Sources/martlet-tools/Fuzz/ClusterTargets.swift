import MartletBase
import MartletCluster

extension FuzzTarget {
    /// Packets of peers: decoded, and then received by a node of a small cluster.
    ///
    /// The bus has no signatures, so a packet in the name of a member is believed. In the name of a stranger nothing may
    /// change: not who owns a slot, not the epoch, not who this node is.
    static let bus = FuzzTarget(
        name: "bus",
        summary: "packets on the cluster bus (BusPacket, ClusterState)",
        corpus: { genuinePackets },
        tokens: [
            Array("RCmb".utf8), [0, 0], [0, 1], [0, 2], [0, 3], [0, 4], [0, 5], [0, 6], [0, 7], [0, 8], [0, 9],
            [0, 10],
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
        func header(_ sender: NodeID, _ slots: SlotSet, primary: NodeID? = nil, epoch: UInt64 = 2)
            -> BusPacketEncoder.Header
        {
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
            ping(.ping, primary), ping(.pong, primary), ping(.meet, header(stranger, slots, epoch: 9)),
            ping(.ping, follower),
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
            "myself", ",", "master", "slave", "handshake", "noaddr", "fail", "fail?", "noflags", "nofailover", "-", ":",
            "@",
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
    }
}
