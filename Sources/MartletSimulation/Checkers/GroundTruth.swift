import MartletBase
import MartletCluster

// Acknowledged writes, and which of them may be lost.
//
// Asynchronous replication promises little, but not nothing. Every write is registered when a primary executes it. It
// is *excused*, and only then, when one of these happens:
//
// 1. a replica is promoted (by an election, FORCE or TAKEOVER) and the write is not in its data: it had not reached
//    the replica that took over; or the operator gives a primary that was replaced a newer epoch than its successor's,
//    and the write is not in its data;
// 2. the primary that executed it had been replaced already and did not know it yet; that may last for a bounded time
//    only, while anybody who knows of the successor can be reached. That it has taken the successor's epoch without
//    asking (BUMPEPOCH, the end of an import) makes no difference: the elected node keeps the slots;
// 3. its slot was in the middle of a migration when a node of one of the two shards failed: Redis' key-by-key migration
//    promises nothing then.
//
// Everything else that was acknowledged must be there when the cluster is whole again. And two promises are stronger:
// a coordinated manual failover excuses nothing, and a replica that has confirmed a write (WAIT) has it when it is
// promoted.

struct GroundTruth {
    struct Write {
        var stamp: UInt64
        var node: Int
        var isAcknowledged = false
        var isExcused = false
        /// Who had confirmed it when WAIT returned.
        var confirmers: [Int] = []
    }

    struct Claim {
        var epoch: UInt64 = 0
        var node = -1
        var time: Int64 = 0
    }

    /// By key, stamps ascending.
    private(set) var writes: [[Write]]
    /// By key: the newest claim to its slot.
    private(set) var claims: [Claim]
    private(set) var taintedSlots: Set<HashSlot> = []
    private var lastStamp: UInt64 = 0

    init(keyCount: Int) {
        writes = Array(repeating: [], count: keyCount)
        claims = Array(repeating: Claim(), count: keyCount)
    }

    /// Of two claims with one epoch that of an elected node counts: the other took the epoch without asking.
    mutating func noteClaims(_ view: ClusterView, by node: Int, isElected: Bool, _ workload: Workload, time: Int64) {
        for (key, slot) in workload.slots.enumerated()
        where view.state(of: slot).contains(.mine)
            && (view.configEpoch > claims[key].epoch || (isElected && view.configEpoch == claims[key].epoch))
        {
            claims[key] = Claim(epoch: view.configEpoch, node: node, time: time)
        }
    }

    mutating func noteWrite(
        _ key: Int, by process: SimulatedProcess, _ slot: HashSlot, _ simulation: Simulation
    ) -> UInt64 {
        lastStamp += 1
        let node = process.id.node, claim = claims[key]
        var write = Write(stamp: lastStamp, node: node)
        write.isExcused = taintedSlots.contains(slot)
        let isOwner = process.view.state(of: slot).contains(.mine)
        if isOwner, claim.node != node, process.view.configEpoch <= claim.epoch {
            write.isExcused = true
            let since = simulation.contradictedSince(process, slot, by: claim.node)
            let limit = 2 * simulation.weather.nodeTimeoutMilliseconds + 10_000
            if simulation.time - since > limit * 1000 {
                simulation.fail(
                    .acknowledgedWrites,
                    "node \(node) still accepts writes to slot \(slot.rawValue) with epoch "
                        + "\(process.view.configEpoch), \((simulation.time - since) / 1000) ms after it could have "
                        + "heard that node \(claim.node) took it in epoch \(claim.epoch)")
            }
        }
        writes[key].append(write)
        return lastStamp
    }

    private func index(of stamp: UInt64, _ key: Int) -> Int? {
        var low = 0, high = writes[key].count
        while low < high {
            let middle = (low + high) / 2
            if writes[key][middle].stamp < stamp { low = middle + 1 } else { high = middle }
        }
        return low < writes[key].count && writes[key][low].stamp == stamp ? low : nil
    }

    mutating func noteAcknowledged(_ stamp: UInt64, _ key: Int) {
        if let index = index(of: stamp, key) { writes[key][index].isAcknowledged = true }
    }

    mutating func noteConfirmed(_ stamp: UInt64, _ key: Int, by replicas: [Int]) {
        if let index = index(of: stamp, key) { writes[key][index].confirmers = replicas }
    }

    /// An operator deleted everything on a node.
    mutating func noteWiped(_ node: Int) {
        for key in writes.indices {
            for index in writes[key].indices where !writes[key][index].confirmers.isEmpty {
                writes[key][index].confirmers.removeAll { $0 == node }
            }
        }
    }

    /// A key went to another shard: that its replicas have it, nobody has confirmed, and those of the old one need not.
    mutating func noteMoved(_ key: Int) {
        for index in writes[key].indices { writes[key][index].confirmers = [] }
    }

    /// A replica takes over with what it has. Returns what is wrong.
    mutating func notePromotion(
        of node: SimulatedNode, keys: [Int], isCoordinated: Bool
    ) -> String? {
        for key in keys {
            for index in writes[key].indices where !writes[key][index].isExcused {
                let write = writes[key][index]
                if node.data.contains(write.stamp, key: key) { continue }
                if write.isAcknowledged, write.confirmers.contains(node.index) {
                    return "node \(node.index) had confirmed write \(write.stamp) of key \(key), and does not have it"
                }
                if write.isAcknowledged, isCoordinated {
                    return "the coordinated failover to node \(node.index) lost write \(write.stamp) of key \(key)"
                }
                // What the primary executed in the pause may be acknowledged only now, and must not be lost either.
                if !isCoordinated { writes[key][index].isExcused = true }
            }
        }
        return nil
    }

    mutating func taint(_ slot: HashSlot, keys: [Int]) {
        taintedSlots.insert(slot)
        for key in keys {
            for index in writes[key].indices { writes[key][index].isExcused = true }
        }
    }

    mutating func clearTaint(_ slot: HashSlot) { taintedSlots.remove(slot) }

    var excusedCount: Int { writes.reduce(0) { $0 + $1.count { $0.isExcused && $0.isAcknowledged } } }

    /// Forgets writes that are found to be there, or may be lost, but for the last ones.
    mutating func trim(keeping stamps: [[UInt64]]) {
        for key in writes.indices {
            let kept = Set(stamps[key])
            writes[key].removeAll { !kept.contains($0.stamp) }
        }
    }
}

extension Simulation {
    /// Since when `process`, which still serves a slot that it has lost to `successor`, has been in touch with a node
    /// that knows it. Whoever knows may all be down: the news cannot spread then.
    fileprivate func contradictedSince(_ process: SimulatedProcess, _ slot: HashSlot, by successor: Int) -> Int64 {
        let own = process.id.node
        let isContradicted = nodes.contains { node in
            guard let other = node.process, node.index != own, !other.isStopped, network.isOpen(own, node.index),
                network.isOpen(node.index, own),
                let owner = other.publishedView.node(at: other.publishedView.owner(of: slot))
            else { return false }
            return nodeByIP[owner.ip] == successor
        }
        // A gap in the samples: it was cut off, or stood still.
        if !isContradicted || time - process.contradictedAt > 1_000_000 { process.contradictedSince = time }
        process.contradictedAt = time
        return process.contradictedSince
    }

    /// The command thread of a node begins to act as a primary.
    func noteNewPrimary(_ process: SimulatedProcess) {
        let node = nodes[process.id.node]
        node.servesAsReplica = false
        let keys = workload.slots.indices.filter {
            process.view.state(of: workload.slots[$0]).contains(.mine)
        }
        if keys.isEmpty { return }
        let isCoordinated = process.isCoordinatedFailover
        process.isCoordinatedFailover = false
        if let text = ground.notePromotion(of: node, keys: keys, isCoordinated: isCoordinated) {
            fail(.acknowledgedWrites, text)
        }
    }

    /// A node stops, for whatever reason: migrations that it takes part in promise nothing any more.
    func noteLossOfProcess(_ index: Int) {
        taintMigrations(of: [index])
        // A primary that restarts has forgotten that it holds back writes.
        for node in nodes.indices where elections.manual[node]?.request == .coordinated {
            elections.manual[node]?.request = .forced
        }
    }

    func taintMigrations(of nodes: [Int]) {
        for migration in administration.openSlots where nodes.contains(where: { migration.involves($0) }) {
            ground.taint(migration.slot, keys: workload.keys(in: migration.slot))
        }
    }

    /// With everybody agreed and all replicas in sync: is every promised write there?
    func checkWrites(owners: [Int]) {
        for key in workload.slots.indices {
            let data = nodes[owners[key]].data
            for write in ground.writes[key] where write.isAcknowledged && !write.isExcused {
                if data.contains(write.stamp, key: key) { continue }
                return fail(
                    .acknowledgedWrites,
                    "write \(write.stamp) of key \(key) (slot \(workload.slots[key].rawValue)) by node \(write.node) "
                        + "is not on node \(owners[key])")
            }
        }
    }
}
