import MartletBase
import Testing

@testable import MartletCluster

@Suite struct SlotOwnershipTests {
    /// Moves a slot as redis-cli does: importing, migrating, keys, then the target, then the source.
    private func move(_ slot: Int, from source: Int, to target: Int, in cluster: TestCluster) {
        #expect(cluster.execute(target, "SETSLOT \(slot) IMPORTING \(cluster.id(source))") == .ok)
        #expect(cluster.execute(source, "SETSLOT \(slot) MIGRATING \(cluster.id(target))") == .ok)
        #expect(cluster.execute(target, "SETSLOT \(slot) NODE \(cluster.id(target))", keys: 5) == .ok)
        #expect(cluster.execute(source, "SETSLOT \(slot) NODE \(cluster.id(target))") == .ok)
    }

    @Test("a moved slot is known everywhere within moments, under a greater epoch")
    func migration() throws {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1)
        move(7, from: 0, to: 1, in: cluster)
        let duration = try #require(cluster.run(until: { cluster.owner(of: 7) == 1 }))
        #expect(duration < 100)
        #expect(cluster[1].migratingTo.isEmpty && cluster[1].importingFrom.isEmpty && cluster[0].migratingTo.isEmpty)
        let epoch = cluster[1].myself.configEpoch
        #expect(
            cluster.members.allSatisfy {
                $0.state!.allNodes.allSatisfy { $0.id == cluster[1].myself.id || $0.configEpoch < epoch }
            })
        // The epoch is taken once, not per slot.
        move(8, from: 0, to: 1, in: cluster)
        #expect(cluster[1].myself.configEpoch == epoch)
        // Found by the simulator: peers know of the second slot already, so it has to be in the file.
        let file = try #require(try NodesConf.parse(cluster.members[1].file!)?.myself)
        #expect(file.slots.contains(7...8))
    }

    @Test(
        "a primary that loses its last slot becomes a replica of the new owner, if that is allowed",
        arguments: [true, false])
    func lastSlot(isAllowed: Bool) throws {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1) { $0.allowsReplicaMigration = isAllowed }
        #expect(cluster.execute(0, "DELSLOTSRANGE 1 5460") == .ok)
        cluster.run(milliseconds: 2_000)
        move(0, from: 0, to: 1, in: cluster)
        cluster.run(milliseconds: 5_000)
        #expect(cluster[0].myself.isReplica == isAllowed)
        if isAllowed {
            #expect(cluster.members[0].following == cluster[1].myself.id)
            #expect(cluster.members[3].following == cluster[1].myself.id)
        } else {
            #expect(cluster.members[3].following == cluster[0].myself.id)
        }
    }

    @Test("slots lost to a greater epoch have their keys deleted")
    func dirtySlots() throws {
        let cluster = TestCluster.booted(primaries: 3, replicas: 0)
        // Node 1 takes slot 7 by force, as redis-cli --cluster fix does.
        cluster.execute(1, "SETSLOT 7 IMPORTING \(cluster.id(0))")
        cluster.execute(1, "SETSLOT 7 NODE \(cluster.id(1))")
        try #require(cluster.run(until: { cluster.owner(of: 7) == 1 }) != nil)
        #expect(cluster.members[0].deletedSlots == [HashSlot(rawValue: 7)])
        #expect(cluster.members[1].deletedSlots.isEmpty)
    }

    @Test("a migration goes on when the source or the target fails over")
    func migrationAcrossFailover() throws {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1)
        cluster.execute(1, "SETSLOT 7 IMPORTING \(cluster.id(0))")
        cluster.execute(0, "SETSLOT 6000 IMPORTING \(cluster.id(1))")
        cluster.execute(1, "SETSLOT 6000 MIGRATING \(cluster.id(0))")
        cluster.kill(0)
        try #require(cluster.run(until: { cluster.owner(of: 7) == 3 && cluster.allAreOK }) != nil)
        let successor = cluster[1].node(cluster[3].myself.id)!.index
        #expect(cluster[1].importingFrom[7] == successor)
        #expect(cluster[1].migratingTo[6000] == successor)
    }

    @Test("a primary that was replaced has no open slots: nobody could close those of a replica")
    func openSlotsOfReplacedPrimary() {
        // Found by the simulator. SETSLOT is refused by replicas, so an open slot would stay for ever.
        let cluster = TestCluster.booted(primaries: 3, replicas: 1)
        #expect(cluster.execute(0, "SETSLOT 7 MIGRATING \(cluster.id(1))") == .ok)
        #expect(cluster.execute(0, "SETSLOT 16000 IMPORTING \(cluster.id(2))") == .ok)
        #expect(cluster.execute(3, "FAILOVER FORCE") == .ok)
        #expect(cluster.run(until: { cluster.owner(of: 7) == 3 && cluster[0].myself.isReplica }) != nil)
        #expect(cluster[0].migratingTo.isEmpty && cluster[0].importingFrom.isEmpty)
        #expect(cluster.members[0].view!.openSlots.isEmpty)
    }

    @Test("an import is closed with an epoch above one that its source has just taken", arguments: 1...8)
    func importAfterBump(seed: UInt64) {
        // Found by the simulator: the import's claim was stale for everybody else, and nobody served the slot any more.
        let cluster = TestCluster.booted(primaries: 3, replicas: 0, seed: seed)
        #expect(cluster.execute(1, "BUMPEPOCH") == .status("BUMPED 4"))
        cluster.run(milliseconds: 1_500)
        #expect(cluster.execute(0, "BUMPEPOCH") == .status("BUMPED 5"))
        cluster.run(milliseconds: 50)
        #expect(cluster.execute(1, "SETSLOT 7 IMPORTING \(cluster.id(0))") == .ok)
        #expect(cluster.execute(0, "SETSLOT 7 MIGRATING \(cluster.id(1))") == .ok)
        #expect(cluster.execute(1, "SETSLOT 7 NODE \(cluster.id(1))") == .ok)
        #expect(cluster[1].myself.configEpoch > cluster[0].myself.configEpoch)
        #expect(cluster.execute(0, "SETSLOT 7 NODE \(cluster.id(1))") == .ok)
        cluster.run(milliseconds: 5_000)
        #expect(cluster.owner(of: 7) == 1)
    }

    @Test("a slot claimed by a third shard is open no more")
    func thirdParty() throws {
        let cluster = TestCluster.booted(primaries: 3, replicas: 0)
        cluster.execute(1, "SETSLOT 7 IMPORTING \(cluster.id(0))")
        cluster.execute(0, "SETSLOT 7 MIGRATING \(cluster.id(1))")
        cluster.execute(2, "SETSLOT 7 IMPORTING \(cluster.id(0))")
        cluster.execute(2, "BUMPEPOCH")
        cluster.execute(2, "SETSLOT 7 NODE \(cluster.id(2))")
        try #require(cluster.run(until: { cluster.owner(of: 7) == 2 }) != nil)
        #expect(cluster[0].migratingTo.isEmpty && cluster[1].importingFrom.isEmpty)
    }

    @Test("primaries that start with the same epoch end with different ones", arguments: 1...4 as ClosedRange<UInt64>)
    func epochCollision(seed: UInt64) {
        let cluster = TestCluster(seed: seed)
        for _ in 0..<6 { cluster.add() }
        for index in 1..<6 { cluster.execute(0, "MEET 127.0.0.1 \(7000 + index)") }
        let different = cluster.run(
            until: {
                Set(cluster.members.map { $0.state!.myself.configEpoch }).count == 6
                    && cluster.members.allSatisfy { $0.state!.nodeCount == 6 }
            }, timeout: 60_000)
        #expect(different != nil)
    }

    @Test("a primary cut off with the minority stops serving, and follows its successor after the partition heals")
    func partition() throws {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1) { $0.nodeTimeoutMilliseconds = 2000 }
        cluster.group = [0: 1]
        let lost = try #require(cluster.run(until: { !cluster.members[0].view!.isOK }, timeout: 10_000))
        #expect(lost <= 3_500)
        try #require(
            cluster.run(until: { cluster[1].owner(of: 0)?.id == cluster[3].myself.id && cluster[1].health.isOK }) != nil
        )
        #expect(!cluster.members[0].view!.serves(HashSlot(rawValue: 0)))
        cluster.group = [:]
        try #require(
            cluster.run(until: { cluster.members[0].following == cluster[3].myself.id }, timeout: 20_000) != nil)
        try #require(cluster.run(until: { cluster.allAreOK && cluster.owner(of: 0) == 3 }) != nil)
        // At no time did the old primary serve again.
        #expect(cluster[0].myself.isReplica)
    }

    @Test("two halves of a cluster elect nobody twice")
    func evenSplit() {
        let cluster = TestCluster.booted(primaries: 4, replicas: 1) { $0.nodeTimeoutMilliseconds = 1000 }
        // Two primaries and the replicas of the other two on each side.
        cluster.group = [0: 1, 1: 1, 6: 1, 7: 1]
        cluster.run(milliseconds: 20_000)
        #expect(cluster.members.allSatisfy { !$0.state!.health.isOK })
        #expect((4..<8).allSatisfy { cluster[$0].myself.isReplica })
        cluster.group = [:]
        #expect(cluster.run(until: { cluster.allAreOK }, timeout: 20_000) != nil)
    }

    @Test("a newcomer whose news of a failover was lost is corrected by an UPDATE")
    func update() throws {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1) { $0.nodeTimeoutMilliseconds = 1000 }
        cluster.kill(0)
        try #require(cluster.run(until: { cluster.owner(of: 0) == 3 && cluster.allAreOK }) != nil)
        // The new primary cannot talk to the old one when it returns; the others can.
        cluster.filter = { from, to, _ in !(from == 3 && to == 0) && !(from == 0 && to == 3) }
        cluster.start(0)
        try #require(
            cluster.run(until: { cluster[0].owner(of: 0)?.id == cluster[3].myself.id }, timeout: 20_000) != nil)
        #expect(cluster[0].myself.isReplica)
    }

    @Test("keys found at start claim free slots and mark others as importing")
    func keysAtStart() {
        let cluster = TestCluster.booted(primaries: 2, replicas: 0)
        cluster.execute(0, "DELSLOTS 5")
        cluster[0].reconcile(slotsWithKeys: [5, 6, 16000].map { HashSlot(rawValue: $0) }, now: cluster.now)
        #expect(cluster[0].owner(of: 5) === cluster[0].myself)
        #expect(cluster[0].importingFrom == [16000: cluster[0].node(NodeID(cluster.id(1))!)!.index])
    }

    @Test("messages reach everybody, sharded ones the shard")
    func publish() {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1)
        cluster.publish(0, "news", "one")
        cluster.publish(0, "shard-news", "two", isSharded: true)
        cluster.run(milliseconds: 10)
        for index in 1..<6 {
            let got = cluster.members[index].published.map { "\($0.0)=\($0.1)" }
            #expect(got == (index == 3 ? ["news=one", "shard-news=two"] : ["news=one"]))
        }
    }

    @Test("what the file says is what the node is after a restart")
    func restart() throws {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1)
        cluster.execute(0, "SETSLOT 7 MIGRATING \(cluster.id(1))")
        cluster.run(milliseconds: 100)
        let before = cluster[0].nodesConf()
        cluster.kill(0)
        cluster.start(0)
        let after = cluster[0].nodesConf()
        #expect(after.currentEpoch == before.currentEpoch && after.lastVoteEpoch == before.lastVoteEpoch)
        #expect(after.myself?.slots == before.myself?.slots && after.myself?.openSlots == before.myself?.openSlots)
        #expect(after.shardID == before.shardID)
        #expect(Set(after.nodes.map { $0.id }) == Set(before.nodes.map { $0.id }))
    }

    @Test("a vote and an epoch are on the disk before they are told; what was only heard is written soon")
    func saves() throws {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1)
        let writes = cluster.members[4].fileWrites
        cluster.kill(0)
        try #require(cluster.run(until: { cluster.owner(of: 0) == 3 && cluster.allAreOK }) != nil)
        for voter in [1, 2] {
            let file = try #require(try NodesConf.parse(cluster.members[voter].file!))
            #expect(file.lastVoteEpoch == cluster[voter].currentEpoch)
        }
        let winner = try #require(try NodesConf.parse(cluster.members[3].file!)?.myself)
        #expect(winner.flags == [.myself, .primary] && winner.configEpoch == cluster[3].currentEpoch)
        #expect(cluster.members[4].fileWrites == writes)
        cluster.run(milliseconds: 100)
        #expect(cluster.members[4].fileWrites == writes + 1)
        let witness = try #require(try NodesConf.parse(cluster.members[4].file!))
        #expect(witness.nodes.first { $0.id == cluster[3].myself.id }?.slots == [0...5460])
    }

    @Test("a clock set back or forward loses nobody for long", arguments: [-3_600_000, 3_600_000] as [Int64])
    func clockStep(step: Int64) {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1)
        cluster[0].tick(now: cluster.now + step)
        cluster.run(milliseconds: 3_000)
        cluster[1].checkInvariants()
        #expect(cluster.run(until: { cluster.allAreOK && cluster.owner(of: 0) == 0 }, timeout: 20_000) != nil)
    }
}
