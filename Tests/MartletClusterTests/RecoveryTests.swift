import MartletBase
import Testing

@testable import MartletCluster

/// What is left after crashes, power cuts and lost packets. Most of these were found by the simulator.
@Suite struct RecoveryTests {
    @Test("a node that was stopped is well everywhere soon after it goes on, though it swallowed PINGs")
    func swallowedPings() throws {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1) { $0.nodeTimeoutMilliseconds = 2_000 }
        cluster.frozen.insert(4)
        try #require(cluster.run(until: { self.suspects(4, in: cluster) == 5 }, timeout: 10_000) != nil)
        cluster.run(milliseconds: 1_100)
        cluster.frozen.remove(4)
        #expect(cluster.run(until: { self.suspects(4, in: cluster) == 0 }, timeout: 8_000) != nil)
    }

    private func suspects(_ index: Int, in cluster: TestCluster) -> Int {
        let id = cluster[index].myself.id
        return cluster.members.count { member in
            guard let node = member.state?.node(id) else { return true }
            return node.isPossiblyFailed || node.isFailed
        }
    }

    @Test("who loses what it learned in a MEET is met again")
    func forgottenMeet() throws {
        let cluster = TestCluster()
        for _ in 0..<2 { cluster.add() }
        // Member 1 answers the MEET, but never gets to know who sent it.
        cluster.filter = { from, _, packet in !(from == 1 && Self.kind(packet) == .ping) }
        cluster.execute(0, "MEET 127.0.0.1 7001")
        try #require(
            cluster.run(until: { cluster[0].nodeCount == 2 && !cluster[0].allNodes.contains { $0.isInHandshake } })
                != nil)
        cluster.kill(1)
        cluster.filter = { _, _, _ in true }
        cluster.start(1)
        try #require(cluster[1].nodeCount == 1)
        #expect(
            cluster.run(until: { cluster[1].node(cluster[0].myself.id) != nil }, timeout: 30_000) != nil)
        // And no MEETs for ever.
        cluster.run(milliseconds: 2_000)
        #expect(!cluster[0].allNodes.contains { $0.flags.contains(.meet) })
    }

    private static func kind(_ packet: [UInt8]) -> BusPacket.Kind? {
        BusPacket.Kind(rawValue: UInt16(packet[12]) << 8 | UInt16(packet[13]))
    }

    @Test("members and a failover are remembered through a power cut a moment later")
    func powerCut() throws {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1)
        cluster.kill(0)
        try #require(cluster.run(until: { cluster.owner(of: 0) == 3 && cluster.allAreOK }) != nil)
        cluster.run(milliseconds: 200)
        // The successor is gone, and all who saw its claim lose what is not on their disks.
        for index in 1...5 { cluster.cutPower(index) }
        for index in [0, 1, 2, 4, 5] { cluster.start(index) }
        cluster.run(milliseconds: 10_000)
        for index in [1, 2, 4, 5] {
            #expect(cluster[index].nodeCount == 6)
            #expect(cluster[index].owner(of: 0)?.id == NodeID(cluster.namedID(3)))
        }
        #expect(!cluster.members[0].view!.serves(HashSlot(rawValue: 0)))
    }

    @Test("a shard counts for the majority while its successor has not claimed its slots here")
    func quorumDuringFailover() {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1)
        let state = cluster[4]
        for (old, new) in [(0, 3), (2, 5)] {
            let loser = state.node(cluster[old].myself.id)!, winner = state.node(cluster[new].myself.id)!
            state.setAsPrimary(winner)
            loser.flags.remove(.primary)
            loser.flags.insert(.replica)
            state.attach(loser, to: winner)
        }
        #expect(state.quorum == 2)
    }

    @Test(
        "an elected epoch wins against the same epoch taken by a primary that was cut off, also after a restart",
        arguments: 1...8 as ClosedRange<UInt64>, [false, true])
    func collisionOfElectedEpoch(seed: UInt64, isRestarted: Bool) throws {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1, seed: seed) { $0.nodeTimeoutMilliseconds = 1_000 }
        cluster.group[0] = 1
        try #require(cluster.run(until: { cluster[3].myself.isPrimary }, timeout: 20_000) != nil)
        // As at the end of an import.
        cluster.execute(0, "BUMPEPOCH")
        try #require(cluster[0].myself.configEpoch == cluster[3].myself.configEpoch)
        if isRestarted {
            cluster.cutPower(3)
            cluster.start(3)
        }
        cluster.group = [:]
        #expect(cluster.run(until: { cluster.owner(of: 0) == 3 && cluster.allAreOK }, timeout: 20_000) != nil)
        #expect(cluster[0].myself.isReplica)
    }

    @Test("a candidate whose epoch is bumped is elected in another one")
    func bumpDuringElection() throws {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1)
        cluster.filter = { _, to, packet in !(to == 3 && Self.kind(packet) == .authAck) }
        cluster.kill(0)
        try #require(cluster.run(until: { cluster[3].election.isSent }, timeout: 5_000) != nil)
        cluster.execute(3, "BUMPEPOCH")
        cluster.filter = { _, _, _ in true }
        try #require(cluster.run(until: { cluster.owner(of: 0) == 3 && cluster.allAreOK }) != nil)
        #expect(cluster[3].myself.configEpoch == cluster[3].electedEpoch)
    }

    @Test("a primary that is up does not vote for a replica that believes it failed")
    func noVoteAgainstMyself() throws {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1)
        var votes = 0
        cluster.filter = { from, _, packet in
            if from == 0, Self.kind(packet) == .authAck { votes += 1 }
            return !(from == 1 || from == 2) || Self.kind(packet) != .authAck
        }
        cluster[3].markFailed(cluster[3].node(cluster[0].myself.id)!)
        cluster.run(milliseconds: 3_000)
        #expect(votes == 0)
        #expect(cluster[3].myself.isReplica)
    }

    @Test("what waited for a connection too long is not sent", arguments: [(500, 2), (1_001, 1)] as [(Int64, Int)])
    func staleQueue(delay: Int64, count: Int) throws {
        let conf = """
            0000000000000000000000000000000000000001 127.0.0.1:7000@17000 myself,master - 0 0 1 connected
            0000000000000000000000000000000000000002 127.0.0.1:7001@17001 master - 0 0 2 connected
            vars currentEpoch 2 lastVoteEpoch 0

            """
        let start: Int64 = 1_700_000_000_000
        let state = ClusterState(
            configuration: ClusterConfiguration(), conf: try NodesConf.parse(Array(conf.utf8)), random: PRNG(seed: 1),
            now: start)
        state.tick(now: start)
        var link: BusLinkID?
        for case .openLink(let opened, _, _) in state.takeEffects() { link = opened }
        state.publish(channel: [1], message: [2], isSharded: false, now: start)
        _ = state.takeEffects()
        state.linkOpened(try #require(link), now: start + delay)
        let sent = state.takeEffects().count { if case .send = $0 { true } else { false } }
        #expect(sent == count)
    }
}
