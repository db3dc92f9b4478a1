import MartletBase
import Testing

@testable import MartletCluster

@Suite struct HostilePacketTests {
    /// What a peer must not be able to change: who owns what under which epoch, and who this node is.
    private func snapshot(_ state: ClusterState) -> String {
        var text = "\(state.currentEpoch) \(state.lastVoteEpoch) \(state.myself.id) \(state.myself.flags.text)\n"
        for node in state.allNodes.sorted(by: { $0.id < $1.id }) {
            text += "\(node.id) \(node.flags.text) \(node.configEpoch) \(node.slots.ranges) \(node.ip) \(node.ports)\n"
        }
        return text
    }

    /// A connection to member 0 of a running cluster, from nobody in particular.
    private func stranger(_ cluster: TestCluster) -> BusLinkID {
        cluster[0].linkAccepted(from: "10.9.8.7", localAddress: "127.0.0.1", now: cluster.now)
    }

    private func send(_ bytes: [UInt8], _ link: BusLinkID, _ cluster: TestCluster) {
        bytes.withUnsafeBytes { cluster[0].receive($0, on: link, now: cluster.now) }
        cluster[0].checkInvariants()
    }

    private func header(_ sender: NodeID, epoch: UInt64 = 999) -> BusPacketEncoder.Header {
        var slots = SlotSet()
        for slot in 0..<HashSlot.count { slots.insert(slot) }
        return .init(
            sender: sender, currentEpoch: epoch, configEpoch: epoch, replicationOffset: .max, slots: slots,
            primary: nil,
            announcedIP: "", ports: NodePorts(tcp: 1, bus: 2), usesTLS: false, flags: .primary, isStateOK: true,
            messageFlags: [.extensions, .forceAck])
    }

    @Test("an unknown sender changes nothing, whatever it claims", arguments: BusPacket.Kind.allCases)
    func unknownSender(kind: BusPacket.Kind) {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1)
        let link = stranger(cluster)
        let before = snapshot(cluster[0])
        let nobody = NodeID(String(repeating: "f", count: 40))!
        let victim = NodeID(cluster.id(1))!
        let bytes: [UInt8]
        switch kind {
        case .meet: return
        case .ping, .pong:
            var packet = BusPacketEncoder(kind, header(nobody))
            packet.addGossip(
                .init(
                    id: victim, pingSentSeconds: 0, pongReceivedSeconds: .max, ip: "9.9.9.9", port: 9, secondaryPort: 9,
                    busPort: 9, flags: [.fail, .primary]))
            packet.addExtension(forgotten: victim, ttlSeconds: .max)
            bytes = packet.finish()
        case .fail: bytes = BusPacketEncoder.fail(victim, header(nobody))
        case .update:
            bytes = BusPacketEncoder.update(victim, configEpoch: 999, slots: header(nobody).slots, header(nobody))
        case .publish, .publishShard:
            bytes = BusPacketEncoder.publish([1], [2], isSharded: kind == .publishShard, header(nobody))
        case .authRequest, .authAck, .manualFailoverStart: bytes = BusPacketEncoder.bare(kind, header(nobody))
        case .module:
            var raw = BusPacketEncoder.bare(.authAck, header(nobody)) + [UInt8](repeating: 0, count: 13)
            raw[13] = 9
            raw[6] = UInt8(raw.count >> 8)
            raw[7] = UInt8(raw.count & 255)
            bytes = raw
        }
        send(bytes, link, cluster)
        #expect(snapshot(cluster[0]) == before)
        #expect(cluster.members[0].published.isEmpty)
    }

    @Test("a link belongs to the member that it began with")
    func impostor() {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1)
        let inbound = cluster[0].node(NodeID(cluster.id(1))!)!.inboundLink!
        let before = snapshot(cluster[0])
        send(BusPacketEncoder.bare(.authRequest, header(NodeID(cluster.id(2))!)), inbound.id, cluster)
        #expect(snapshot(cluster[0]) == before)
        send(BusPacketEncoder(.ping, header(NodeID(cluster.id(2))!)).finish(), inbound.id, cluster)
        #expect(snapshot(cluster[0]) == before)
        #expect(cluster[0].links[inbound.id] == nil)
    }

    @Test("a member cannot take slots under an old epoch, and is told who owns them")
    func staleClaim() {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1)
        let link = stranger(cluster)
        let before = cluster[0].owners
        _ = cluster[0].takeEffects()
        var header = header(NodeID(cluster.id(3))!, epoch: 0)
        header.ports = cluster[3].myself.ports
        header.announcedIP = "127.0.0.1"
        send(BusPacketEncoder(.ping, header).finish(), link, cluster)
        #expect(cluster[0].owners == before)
        let answered = cluster[0].takeEffects().contains { effect in
            guard case .send(_, let bytes) = effect else { return false }
            return bytes.withUnsafeBytes { (try? BusPacket.decode($0))?.kind == .update }
        }
        #expect(answered)
    }

    @Test("a replica cannot claim slots at all")
    func replicaClaim() {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1)
        let link = stranger(cluster)
        let before = cluster[0].owners
        var header = header(NodeID(cluster.id(3))!)
        header.primary = NodeID(cluster.id(0))
        header.flags = .replica
        send(BusPacketEncoder(.ping, header).finish(), link, cluster)
        #expect(cluster[0].owners == before)
        #expect(cluster[0].myself.isPrimary)
    }

    @Test("strangers that ask to meet are limited in number")
    func manyStrangers() {
        let cluster = TestCluster()
        cluster.add()
        var random = PRNG(seed: 5)
        for port in 0..<3_000 {
            let link = stranger(cluster)
            var header = header(NodeID.random(using: &random), epoch: 0)
            header.ports = NodePorts(tcp: UInt16(port + 1), bus: UInt16(port + 10_000))
            header.slots = SlotSet()
            BusPacketEncoder(.meet, header).finish().withUnsafeBytes {
                cluster[0].receive($0, on: link, now: cluster.now)
            }
            _ = cluster[0].takeEffects()
        }
        #expect(cluster[0].nodeCount == 1 + Handshake.countMax)
        cluster[0].checkInvariants()
    }

    @Test("numbers at their limits do not overflow anything")
    func extremes() {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1)
        let link = stranger(cluster)
        for epoch in [ConfigEpoch.max, ConfigEpoch.max - 1] {
            var packet = BusPacketEncoder(.ping, header(NodeID(cluster.id(1))!, epoch: epoch))
            packet.addExtension(forgotten: NodeID(cluster.id(5))!, ttlSeconds: .max)
            send(packet.finish(), link, cluster)
        }
        for time in [Int64.min / 2, 0, -1, Int64.max / 2] {
            cluster[0].tick(now: time)
            cluster[0].checkInvariants()
        }
        _ = cluster[0].takeEffects()
        var configuration = ClusterConfiguration()
        configuration.nodeTimeoutMilliseconds = .max
        configuration.replicaValidityFactor = .max
        configuration.blacklistTTLSeconds = .max
        cluster[0].configure(configuration, now: cluster.now)
        cluster[0].tick(now: cluster.now + 1_000)
        _ = cluster[0].execute(ClusterRequest(["FORGET", cluster.id(2)]), now: cluster.now)
        _ = cluster[0].execute(ClusterRequest(["BUMPEPOCH"]), now: cluster.now)
        cluster[0].checkInvariants()
    }

    @Test("announced texts that could not stand in a packet are not announced")
    func badConfiguration() {
        let cluster = TestCluster()
        cluster.add {
            $0.announceIP = "10.0.0.1 oops"
            $0.announceHostname = "host\nname"
            $0.announceHumanNodename = String(repeating: "n", count: 300)
        }
        let me = cluster[0].myself
        #expect(me.ip.isEmpty && me.hostname.isEmpty && me.humanNodename.isEmpty)
    }

    @Test("no damaged packet crashes a node or bends its tables", arguments: 1...4 as ClosedRange<UInt64>)
    func fuzz(seed: UInt64) {
        BusPacketFuzzer(seed: seed).run(iterations: 600)
    }
}

/// Mutates the packets that a small cluster really sends and feeds them to a member, from members and strangers.
struct BusPacketFuzzer {
    var seed: UInt64

    func run(iterations: Int) {
        var random = PRNG(seed: seed)
        let cluster = TestCluster(seed: seed)
        var corpus: [[UInt8]] = []
        cluster.filter = { _, _, packet in
            if corpus.count < 400 { corpus.append(packet) }
            return true
        }
        for _ in 0..<4 { cluster.add { $0.announceHostname = "h" } }
        for index in 1..<4 { cluster.execute(0, "MEET 127.0.0.1 \(7000 + index)") }
        cluster.execute(0, "ADDSLOTSRANGE 0 8000")
        cluster.execute(1, "ADDSLOTSRANGE 8001 16383")
        cluster.run(milliseconds: 1_000)
        cluster.execute(2, "REPLICATE \(cluster.id(0))")
        cluster.execute(0, "SETSLOT 5 MIGRATING \(cluster.id(1))")
        cluster.run(milliseconds: 2_000)
        let state = cluster[0]
        let own = state.packetHeader()
        let member = NodeID(cluster.id(1))!
        for kind in [BusPacket.Kind.authRequest, .authAck, .manualFailoverStart] {
            corpus.append(BusPacketEncoder.bare(kind, own))
        }
        corpus.append(BusPacketEncoder.update(member, configEpoch: 50, slots: state.myself.slots, own))
        corpus.append(BusPacketEncoder.fail(member, own))
        corpus.append(BusPacketEncoder.lightPublish([1, 2, 3], [4], isSharded: false))
        let ids = (0..<4).map { NodeID(cluster.id($0))!.bytes }

        var link = state.linkAccepted(from: "127.0.0.1", localAddress: "127.0.0.1", now: cluster.now)
        for iteration in 0..<iterations {
            var packet = corpus[random.below(corpus.count)]
            for _ in 0..<random.below(5) { mutate(&packet, ids, &random) }
            if random.below(20) > 0 {
                for (index, shift) in [24, 16, 8, 0].enumerated() where packet.count > 8 {
                    packet[4 + index] = UInt8(truncatingIfNeeded: packet.count >> shift)
                }
            }
            if random.below(4) == 0 {
                link = state.linkAccepted(from: "127.0.0.1", localAddress: "127.0.0.1", now: cluster.now)
            }
            packet.withUnsafeBytes { state.receive($0, on: link, now: cluster.now + Int64(iteration)) }
            if random.below(10) == 0 { state.tick(now: cluster.now + Int64(iteration)) }
            for effect in state.takeEffects() {
                guard case .openLink(let opened, _, _) = effect else { continue }
                switch random.below(3) {
                case 0: state.linkOpened(opened, now: cluster.now)
                case 1: state.linkClosed(opened, reason: .refused, now: cluster.now)
                default: break
                }
            }
            if iteration % 8 == 0 { state.checkInvariants() }
        }
        state.checkInvariants()
    }

    private func mutate(_ packet: inout [UInt8], _ ids: [[UInt8]], _ random: inout PRNG) {
        guard packet.count > 16 else { return }
        switch random.below(7) {
        case 0: packet[random.below(packet.count)] = UInt8(random.below(256))
        case 1: packet[random.below(packet.count)] ^= 1 << UInt8(random.below(8))
        case 2:
            // Where the header's small fields are.
            let fields = [12, 13, 14, 15, 23, 31, 2213, 2214, 2215, 2248, 2249, 2250, 2251, 2252, 2253]
            let field = fields[random.below(fields.count)]
            if field < packet.count { packet[field] = [0, 1, 2, 3, 5, 10, 16, 127, 255][random.below(9)] }
        case 3:
            let offsets = [40, 2128, 2256, 2264, 2360]
            let offset = offsets[random.below(offsets.count)]
            if offset + 40 <= packet.count {
                packet.replaceSubrange(offset..<offset + 40, with: ids[random.below(ids.count)])
            }
        case 4: packet.removeLast(min(random.below(200), packet.count - 1))
        case 5: packet.append(contentsOf: (0..<random.below(200)).map { UInt8($0) })
        default:
            guard packet.count > 2128 else { return }
            for index in 80..<2128 { packet[index] = random.below(2) == 0 ? 0 : 0xFF }
        }
    }

}
