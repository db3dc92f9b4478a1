// Config epochs: which of two claims to a slot is the newer one.
//
// The current epoch is the cluster's logical clock: every packet carries it and everybody adopts the greatest seen. A
// primary owns its slots under a config epoch. Epochs are handed out in three ways:
//
// 1. an election: the candidate asks for votes under currentEpoch + 1; a majority votes at most once per epoch, so the
//    winner's epoch is unique;
// 2. without consensus, when an import is closed or by FAILOVER TAKEOVER: currentEpoch + 1, unless this node already
//    has the greatest epoch;
// 3. by repair: of two primaries with the same epoch the one with the smaller id takes currentEpoch + 1, until all
//    differ. Beyond Redis: if both claim the same slots, one has replaced the other while that one, cut off, took its
//    epoch without asking. Then an elected epoch wins: the node with the smaller id goes on only if it was elected,
//    and gives way otherwise.
//
// Source: `clusterBumpConfigEpochWithoutConsensus`, `clusterHandleConfigEpochCollision` in Redis 7.0 `cluster.c`.

/// Limits of epochs.
package enum ConfigEpoch {
    /// Epochs above this one are refused wherever they come from, so that adding one to an epoch cannot overflow: a
    /// cluster that holds a thousand elections a second gets there in a hundred million years.
    package static let max = UInt64(1) << 62
    /// The greatest epoch that an operator may set.
    package static let assignedMax = UInt64(1) << 48
    /// A packet may be ahead of what is known here, or of what can be assigned, by so much at most. Otherwise one packet
    /// could leave no room for another election.
    static let aheadMax = UInt64(1) << 32
}

extension ClusterState {
    /// The greatest epoch known here.
    var maxEpoch: UInt64 {
        nodes.reduce(currentEpoch) { max($0, $1?.configEpoch ?? 0) }
    }

    /// Whether a packet's epochs may be true.
    func arePlausible(_ packet: BusPacket) -> Bool {
        let limit = max(currentEpoch, ConfigEpoch.assignedMax) + ConfigEpoch.aheadMax
        let updated = packet.kind == .update ? packet.update?.configEpoch ?? 0 : 0
        return max(packet.currentEpoch, packet.configEpoch, updated) <= limit
    }

    /// Takes a new config epoch without asking anybody, unless this node has the greatest already.
    /// Returns whether it did. Saved to the disk before any packet tells of it.
    @discardableResult
    func bumpConfigEpochWithoutConsensus() -> Bool {
        let greatest = maxEpoch
        if myself.configEpoch != 0, myself.configEpoch == greatest { return false }
        currentEpoch = greatest + 1
        myself.configEpoch = currentEpoch
        todo.insert([.saveConfig, .syncConfig, .publishView])
        log(.notice, "New configEpoch set to \(myself.configEpoch)")
        if election.isSent {
            // The votes are for an epoch that has passed.
            election = Election()
            todo.insert(.handleFailover)
        }
        return true
    }

    /// Another primary has our config epoch: the node with the smaller id moves on, so that all end up different.
    func repairConfigEpochCollision(with other: ClusterNode, claim: SlotSet) {
        guard myself.isPrimary, other.isPrimary, other.configEpoch == myself.configEpoch, myself.id < other.id else {
            return
        }
        if electedEpoch != myself.configEpoch, !myself.slots.isDisjoint(with: claim) {
            log(.notice, "Node \(other.id) claims slots of mine under my configEpoch, for which I was not elected.")
            return updateSlots(of: other, epoch: other.configEpoch + 1, claim: claim)
        }
        currentEpoch = maxEpoch + 1
        myself.configEpoch = currentEpoch
        todo.insert([.saveConfig, .syncConfig, .publishView])
        log(.verbose, "configEpoch collision with node \(other.id). configEpoch set to \(currentEpoch)")
    }
}
