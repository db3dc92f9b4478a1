import MartletBase
import MartletCluster

// After everything was healed: is the cluster whole again, in time, and does it stay so?
//
// 1. Everybody agrees who owns each slot and who follows whom, nobody takes a living node for failed, cluster_state is
//    ok, no slot is open, every replica is in sync.
// 2. Clients pause; then every promised write is there and all replicas are equal to their primaries.
// 3. For a while nothing happens, and nothing may happen: no promotion, no change of state.

extension Simulation {
    /// How long the cluster may take, in milliseconds. Long enough for what is slowest by design: FAIL of a primary
    /// stands for twice the node time-out, a lost election is repeated after four, an outcast is unwelcome for 5 s.
    private var convergenceLimit: Int64 { 60_000 + 12 * weather.nodeTimeoutMilliseconds }

    func converge() {
        convergenceStart = time
        let deadline = time + convergenceLimit * 1000
        var nextRepair = time
        while violation == nil {
            if time >= nextRepair {
                repair()
                nextRepair = time + 1_000_000
            }
            run(until: time + 100_000)
            guard violation == nil, let obstacle = obstacle() else { break }
            if time > deadline {
                return fail(.convergence, "\((time - convergenceStart) / 1000) ms after healing \(obstacle)")
            }
        }
        if violation != nil { return }
        let duration = (time - convergenceStart) / 1000
        statistics.slowestConvergence = max(statistics.slowestConvergence, duration)
        say("the cluster is whole after \(duration) ms")
        workload.isPaused = true
        run(until: time + 2_500_000)
        if violation == nil { checkData() }
        workload.isPaused = false
        if violation == nil { stayCalm() }
    }

    // MARK: Whole

    private func obstacle() -> String? {
        guard let first = nodes.first?.process?.publishedView else { return "node 0 is down" }
        var ids: [NodeID] = []
        for node in nodes {
            guard let view = node.process?.publishedView else { return "node \(node.index) is down" }
            if !view.isOK { return "cluster_state of node \(node.index) is not ok" }
            if !view.openSlots.isEmpty { return "node \(node.index) has open slots" }
            if view.nodes.count(where: { $0 != nil }) != nodes.count {
                return "node \(node.index) knows \(view.nodes.count { $0 != nil }) nodes"
            }
            ids.append(view.nodeID)
        }
        let reference = (0..<HashSlot.count).map { first.node(at: first.slotOwners[$0])?.id }
        let primaries = Set(reference)
        if primaries.contains(nil) { return "a slot has no owner" }
        for node in nodes {
            guard let process = node.process else { continue }
            let view = process.publishedView
            let viewIDs = view.nodes.map { $0?.id }
            for slot in 0..<HashSlot.count {
                let owner = view.slotOwners[slot]
                if owner == ClusterView.noNode || viewIDs[Int(owner)] != reference[slot] {
                    return "node \(node.index) and node 0 disagree about the owner of slot \(slot)"
                }
            }
            for id in ids where !viewIDs.contains(id) { return "node \(node.index) does not know \(id)" }
            for case let peer? in view.nodes {
                if peer.isFailed { return "node \(node.index) takes \(peer.id) for failed" }
                if peer.isReplica == primaries.contains(peer.id) {
                    return "node \(node.index) is wrong about the role of \(peer.id)"
                }
                guard peer.isReplica else { continue }
                guard let primary = view.node(at: peer.primary), primaries.contains(primary.id) else {
                    return "node \(node.index) knows no primary of replica \(peer.id)"
                }
            }
            if view.isReplica {
                guard case .up(let primary) = process.primaryLink else {
                    return "replica \(node.index) is not in sync"
                }
                guard nodes[primary.node].process?.id == primary, ids[primary.node] == view.node(at: view.myPrimary)?.id
                else { return "replica \(node.index) replicates from node \(primary.node), not from its primary" }
            }
        }
        return flagsObstacle()
    }

    /// PFAIL and made-up names do not show in views.
    private func flagsObstacle() -> String? {
        var epochs: Set<String> = []
        for node in nodes {
            guard case .verbatim(let text)? = command(node.index, "NODES") else {
                return "node \(node.index) is silent"
            }
            for line in text.split(separator: "\n") {
                let words = line.split(separator: " ")
                guard words.count >= 8 else { return "node \(node.index) describes a node as '\(line)'" }
                for flag in words[2].split(separator: ",")
                where ["fail?", "fail", "handshake", "noaddr"].contains(flag) {
                    return "node \(node.index) has node \(words[0]) as \(flag)"
                }
                if words[2].contains("myself"), words[2].contains("master"), !epochs.insert(String(words[6])).inserted {
                    return "two primaries have epoch \(words[6])"
                }
            }
        }
        return nil
    }

    // MARK: Data

    private func checkData() {
        var owners: [Int] = []
        for slot in workload.slots {
            guard let owner = owner(of: slot) else { return fail(.convergence, "slot \(slot.rawValue) has no owner") }
            owners.append(owner)
        }
        for node in nodes {
            guard let process = node.process, case .up(let primary) = process.primaryLink else { continue }
            if nodes[primary.node].data.values != node.data.values
                || nodes[primary.node].data.offset != node.data.offset
            {
                let other = nodes[primary.node].data
                let key = other.values.indices.first { other.values[$0] != node.data.values[$0] } ?? 0
                return fail(
                    .acknowledgedWrites,
                    "replica \(node.index) at offset \(node.data.offset) differs from node \(primary.node) at "
                        + "\(other.offset): key \(key) (slot \(workload.slots[key].rawValue)) has "
                        + "\(node.data.values[key].suffix(4)), not \(other.values[key].suffix(4))")
            }
        }
        checkWrites(owners: owners)
        if violation != nil { return }
        statistics.excused += ground.excusedCount
        // The past is settled; only the last writes of every key stay watched.
        for node in nodes { node.data.trim(keeping: 4) }
        ground.trim(keeping: workload.slots.indices.map { nodes[owners[$0]].data.values[$0] })
    }

    // MARK: Calm

    private func stayCalm() {
        let failovers = statistics.failovers
        run(until: time + max(3_000, min(2 * weather.nodeTimeoutMilliseconds, 10_000)) * 1000)
        if violation != nil { return }
        if statistics.failovers != failovers {
            return fail(.calm, "\(lastFailover) was promoted while nothing was wrong")
        }
        // A replica may have moved to an orphaned primary, and be on its way.
        var attempts = 50
        while attempts > 0, violation == nil, obstacle() != nil {
            run(until: time + 100_000)
            attempts -= 1
        }
        if violation == nil, let obstacle = obstacle() { fail(.calm, "while nothing was wrong \(obstacle)") }
    }
}
