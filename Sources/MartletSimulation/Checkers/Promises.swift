import MartletBase
import MartletCluster

// Checkers of single nodes and of elections: they look at every save, packet and view.

/// Which slots were ever served under which config epoch, and by whom.
///
/// An epoch that was won in an election belongs to one node for ever. Epochs that were taken without asking (slot
/// migration, TAKEOVER, collision repair) may be taken by two nodes at a time; the protocol repairs that afterwards.
struct SlotOwnershipChecker {
    private var claims: [UInt64: [(node: NodeID, slots: SlotSet)]] = [:]
    private var epochsWithoutConsensus: Set<UInt64> = []

    mutating func noteEpochWithoutConsensus(_ epoch: UInt64) { epochsWithoutConsensus.insert(epoch) }

    /// Returns what is wrong.
    mutating func noteServed(_ slots: SlotSet, by node: NodeID, epoch: UInt64) -> String? {
        var known = claims[epoch] ?? []
        if !epochsWithoutConsensus.contains(epoch) {
            for other in known where other.node != node {
                var shared: Int?
                slots.forEach { if shared == nil, other.slots.contains($0) { shared = $0 } }
                if let shared { return "\(node) and \(other.node) both serve slot \(shared) in epoch \(epoch)" }
            }
        }
        if let index = known.firstIndex(where: { $0.node == node }) {
            slots.forEach { known[index].slots.insert($0) }
        } else {
            known.append((node, slots))
        }
        claims[epoch] = known
        return nil
    }
}

struct ElectionChecker {
    struct Key: Hashable {
        var node: NodeID
        var epoch: UInt64
    }

    enum Request { case coordinated, forced, takeover }

    /// By voter and epoch: who got the vote.
    var votes: [Key: Int] = [:]
    /// By candidate and epoch: who voted.
    var voters: [Key: Set<Int>] = [:]
    /// By candidate and epoch: whether votes were asked for.
    var requests: Set<Key> = []
    /// By node: what the operator asked for last, and when.
    var manual: [Int: (request: Request, time: Int64)] = [:]
}

struct EpochChecker {
    /// By node: what it wrote last.
    private var written: [Int: NodesConfSummary] = [:]

    mutating func started(_ node: Int, _ summary: NodesConfSummary?) { written[node] = summary }

    mutating func saved(_ node: Int, _ disk: SimulatedDisk, _ simulation: Simulation) {
        guard let new = disk.summary else {
            return simulation.fail(.epochs, "node \(node) saved a nodes.conf without itself or without variables")
        }
        defer { written[node] = new }
        // CLUSTER RESET HARD makes a new node of it.
        guard let old = written[node], old.id == new.id else { return }
        if new.currentEpoch < old.currentEpoch {
            simulation.fail(
                .epochs, "currentEpoch of node \(node) went from \(old.currentEpoch) to \(new.currentEpoch)")
        }
        if new.lastVoteEpoch < old.lastVoteEpoch {
            simulation.fail(
                .epochs, "lastVoteEpoch of node \(node) went from \(old.lastVoteEpoch) to \(new.lastVoteEpoch)")
        }
        if !old.isReplica, !new.isReplica, new.configEpoch < old.configEpoch {
            simulation.fail(.epochs, "configEpoch of node \(node) went from \(old.configEpoch) to \(new.configEpoch)")
        }
    }
}

extension Simulation {
    // MARK: Packets

    /// Before a packet leaves.
    func packetSent(_ bytes: [UInt8], to receiver: Int, _ process: SimulatedProcess) {
        guard bytes.count >= BusPacket.headerByteCount, let kind = Packet.kind(bytes) else { return }
        let index = process.id.node
        let currentEpoch = Packet.word(bytes, 16), configEpoch = Packet.word(bytes, 24)
        if kind == .authAck || kind == .authRequest {
            noteElection(kind, epoch: currentEpoch, to: receiver, process)
        }
        // A claim to slots. Most packets repeat the last one.
        guard Packet.isPrimary(bytes), configEpoch != process.claimedEpoch, Packet.hasSlots(bytes) else { return }
        process.claimedEpoch = configEpoch
        let durable = nodes[index].disk.durableSummary?.configEpoch ?? 0
        if durable < configEpoch {
            fail(
                .durablePromises, "node \(index) claims slots with epoch \(configEpoch), but has \(durable) on its disk"
            )
        }
    }

    private func noteElection(_ kind: BusPacket.Kind, epoch: UInt64, to receiver: Int, _ process: SimulatedProcess) {
        let index = process.id.node
        let key = ElectionChecker.Key(node: process.state.view.nodeID, epoch: epoch)
        let durable = nodes[index].disk.durableSummary
        if kind == .authRequest {
            elections.requests.insert(key)
            if (durable?.currentEpoch ?? 0) < epoch {
                fail(.durablePromises, "node \(index) asks for votes of epoch \(epoch), which is not on its disk")
            }
            return
        }
        say("node \(index) votes for node \(receiver) in epoch \(epoch)")
        if let other = elections.votes[key] {
            fail(.votes, "node \(index) votes for node \(receiver) in epoch \(epoch), and has voted for node \(other)")
        }
        elections.votes[key] = receiver
        let candidate = ElectionChecker.Key(node: nodes[receiver].process?.state.view.nodeID ?? .null, epoch: epoch)
        elections.voters[candidate, default: []].insert(index)
        if (durable?.lastVoteEpoch ?? 0) < epoch {
            fail(.durablePromises, "node \(index) votes in epoch \(epoch), which is not on its disk")
        }
    }

    // MARK: Views

    func viewPublished(_ process: SimulatedProcess, old: ClusterView) {
        let view = process.publishedView, index = process.id.node
        // Also if its command thread is too busy to see that before it is promoted again.
        if view.isReplica { nodes[index].servesAsReplica = true }
        let isSame = view.slotStates == old.slotStates && view.isReplica == old.isReplica && view.isOK == old.isOK
        if isSame, view.configEpoch == old.configEpoch { return }
        if let summary = nodes[index].disk.summary, summary.isReplica, !view.isReplica {
            fail(.views, "node \(index) publishes its role before it is saved")
        }
        var mine = SlotSet()
        for slot in 0..<HashSlot.count where view.slotStates[slot] != 0 {
            let state = ClusterView.SlotState(rawValue: view.slotStates[slot])
            if state.contains(.mine) { mine.insert(slot) }
            if state.contains(.served), view.slotOwners[slot] != view.myIndex || view.isReplica || !view.isOK {
                return fail(.views, "node \(index) serves slot \(slot), which is not its own")
            }
            if state.contains(.mine), view.slotOwners[slot] != view.myIndex {
                return fail(.views, "node \(index) calls slot \(slot) its own, and names another owner")
            }
        }
        if !view.isReplica, view.configEpoch != old.configEpoch || view.version == 1 {
            let key = ElectionChecker.Key(node: view.nodeID, epoch: view.configEpoch)
            if !elections.requests.contains(key) { ownership.noteEpochWithoutConsensus(view.configEpoch) }
        }
        if view.isReplica || mine.isEmpty { return }
        if old.isReplica { promoted(process, old: old) }
        if view.isOK, let text = ownership.noteServed(mine, by: view.nodeID, epoch: view.configEpoch) {
            fail(.slotOwnership, text)
        }
        let isElected = elections.requests.contains(
            ElectionChecker.Key(node: view.nodeID, epoch: view.configEpoch))
        if obeying == index, !old.isReplica, !isElected { noteRecapture(by: process, old: old) }
        ground.noteClaims(view, by: index, isElected: isElected, workload, time: time)
    }

    /// An operator gave a newer epoch than its successor's (BUMPEPOCH, the end of an import) to a primary that had been
    /// replaced and did not know it: with that it takes its slots back, as by TAKEOVER, with what it has. No node can
    /// prevent that, since the command needs no consensus. An import is something else: its slot was not the node's.
    private func noteRecapture(by process: SimulatedProcess, old: ClusterView) {
        let view = process.publishedView, index = process.id.node
        let keys = workload.slots.indices.filter { key in
            let slot = workload.slots[key], claim = ground.claims[key]
            return claim.node != index && view.configEpoch > claim.epoch && view.state(of: slot).contains(.mine)
                && old.state(of: slot).contains(.mine)
        }
        if keys.isEmpty { return }
        say("node \(index), which was replaced, takes \(keys.count) keys back in epoch \(view.configEpoch)")
        if let text = ground.notePromotion(of: nodes[index], keys: keys, isCoordinated: false) {
            fail(.acknowledgedWrites, text)
        }
    }

    /// A replica has become the owner of slots.
    private func promoted(_ process: SimulatedProcess, old: ClusterView) {
        let view = process.publishedView, index = process.id.node
        statistics.promotions += 1
        say("PROMOTION of node \(index) in epoch \(view.configEpoch)")
        fingerprint.add(.fault, time: time, node: index)
        let primary = old.node(at: old.myPrimary)
        taintMigrations(of: [index, primary.flatMap { nodeByIP[$0.ip] } ?? -1])
        let key = ElectionChecker.Key(node: view.nodeID, epoch: view.configEpoch)
        let manual = elections.manual[index]
        let isRecent = manual.map { time - $0.time < 30_000_000 } ?? false
        if !isRecent {
            statistics.failovers += 1
            lastFailover = "node \(index) in epoch \(view.configEpoch)"
        }
        if let manual, isRecent, manual.request == .takeover, !elections.requests.contains(key) { return }
        guard elections.requests.contains(key) else {
            return fail(.elections, "node \(index) became a primary in epoch \(view.configEpoch) without an election")
        }
        var owners: Set<UInt16> = []
        for slot in 0..<HashSlot.count where old.slotOwners[slot] != ClusterView.noNode {
            owners.insert(old.slotOwners[slot])
        }
        let quorum = owners.count / 2 + 1, votes = elections.voters[key]?.count ?? 0
        if votes < quorum {
            fail(
                .elections,
                "node \(index) was elected in epoch \(view.configEpoch) with \(votes) votes of \(owners.count) voters")
        }
        if primary?.isFailed != true, !isRecent {
            fail(.elections, "node \(index) replaced a primary that had not failed")
        }
        process.isCoordinatedFailover =
            isRecent && manual?.request == .coordinated && primary?.isFailed == false
    }
}

extension Packet {
    static func word(_ bytes: [UInt8], _ offset: Int) -> UInt64 {
        bytes.withUnsafeBytes { UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: offset, as: UInt64.self)) }
    }

    static func isPrimary(_ bytes: [UInt8]) -> Bool {
        NodeFlags(rawValue: UInt16(bytes[2250]) << 8 | UInt16(bytes[2251])).contains(.primary)
    }

    static func hasSlots(_ bytes: [UInt8]) -> Bool {
        bytes.withUnsafeBytes { bytes in
            for offset in stride(from: 80, to: 80 + SlotSet.bitmapByteCount, by: 8)
            where bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self) != 0 {
                return true
            }
            return false
        }
    }
}
