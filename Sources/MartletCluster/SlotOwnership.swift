// Who owns which slot, and how a claim changes that.
//
// Every packet of a primary carries the bitmap of its slots and its config epoch: a claim. A claim to a slot wins if
// nobody owns the slot, if its owner has stopped claiming it, or if the claim's epoch is greater than the owner's.
// Consequences are drawn in the same place:
//
// 1. an open slot follows a failover inside the other node's shard, and is closed when the slot goes to a third shard;
// 2. a node whose shard has lost its last slot to the claimant becomes the claimant's replica, because that is what a
//    failover looks like from the loser's side;
// 3. a primary that loses only some slots deletes their keys: the claimant has them, or its word is law.
//
// A slot that its owner no longer claims stays with the owner, for the sake of redirects, until somebody claims it;
// such news is not passed on in UPDATE packets.
//
// Not done here: Valkey lets an importing node take the slot when the source stops claiming it. With an epoch bumped
// without consensus that can revert a move to a third shard, so the slot stays open until an operator closes it.
//
// Source: `clusterUpdateSlotsConfigWith` in Redis 7.0 `cluster.c`; open slots as in Valkey `cluster_legacy.c`.

import MartletBase

extension ClusterState {
    func owner(of slot: Int) -> ClusterNode? {
        let index = owners[slot]
        return index == ClusterView.noNode ? nil : nodes[Int(index)]
    }

    /// - Precondition: nobody owns the slot.
    func assign(_ slot: Int, to node: ClusterNode) {
        precondition(owners[slot] == ClusterView.noNode)
        node.slots.insert(slot)
        owners[slot] = node.index
        // A primary that gets its first slot may receive replicas if the others have some.
        // Source: `clusterNodeSetSlotBit`.
        if node.slots.count == 1, node.isPrimary, allNodes.contains(where: { !$0.isReplica && !$0.replicas.isEmpty }) {
            node.flags.insert(.migrateTo)
        }
        slotTablesAreStale = true
        todo.insert(.publishView)
    }

    func unassign(_ slot: Int) {
        guard let node = owner(of: slot) else { return }
        node.slots.remove(slot)
        owners[slot] = ClusterView.noNode
        unclaimedSlots.remove(slot)
        if node.shardPrimary === myself.shardPrimary { slotsThatLeft.insert(slot) }
        slotTablesAreStale = true
        todo.insert(.publishView)
    }

    func unassignAll(of node: ClusterNode) {
        for range in node.slots.ranges {
            for slot in range { unassign(slot) }
        }
    }

    /// Nobody owns the slot, or its owner has stopped claiming it.
    func isUnclaimed(_ slot: Int) -> Bool {
        owners[slot] == ClusterView.noNode || unclaimedSlots.contains(slot)
    }

    /// Takes note of what `claimant`, a primary other than this node, claims under `epoch`.
    func updateSlots(of claimant: ClusterNode, epoch: UInt64, claim: SlotSet) {
        guard claimant !== myself else {
            log(.notice, "Discarding UPDATE message about myself.")
            return
        }
        let isInMyShard = areInSameShard(claimant, myself)
        let oldPrimary = myself.isPrimary ? myself : myself.primary
        var lostMySlots = false
        var dirtySlots: [HashSlot] = []
        var hasChanged = false

        let dropped = claimant.slots.subtracting(claim)
        claim.subtracting(claimant.slots).forEach { slot in
            let owner = owner(of: slot)
            guard isUnclaimed(slot) || owner.map({ $0.configEpoch < epoch }) ?? true else { return }
            if owner === myself { dirtySlots.append(HashSlot(rawValue: UInt16(slot))) }
            if let owner, owner === oldPrimary { lostMySlots = true }
            closeOrFollow(slot, claimedBy: claimant, isInMyShard: isInMyShard)
            unassign(slot)
            assign(slot, to: claimant)
            hasChanged = true
        }
        if !unclaimedSlots.isEmpty { unclaimedSlots = unclaimedSlots.subtracting(claim) }
        dropped.forEach { unclaimedSlots.insert($0) }
        followMigrationTargets(to: claimant, epoch: epoch, claim: claim)
        dropLeftovers(of: claimant, epoch: epoch)
        if hasChanged { todo.insert([.syncSoon, .updateHealth]) }

        // A failover of an empty shard moves no slot: the greater epoch tells.
        let isEmptyFailover =
            !lostMySlots && myself.primary !== claimant && claim.isEmpty && myself.slots.isEmpty
            && (oldPrimary?.slots.isEmpty ?? false) && myself.shardPrimary.configEpoch < epoch && isInMyShard
        if (lostMySlots || isEmptyFailover), let oldPrimary, oldPrimary.slots.isEmpty, myself.slots.isEmpty,
            configuration.allowsReplicaMigration || isInMyShard
        {
            log(.notice, "Configuration change detected. Reconfiguring myself as a replica of \(claimant.id)")
            becomeReplica(of: claimant, sharesHistory: isInMyShard)
            todo.insert([.saveConfig, .syncConfig])
            return
        }
        if repairReplicaOfReplica() { return }
        if lostMySlots, myself.isPrimary, myself.slots.isEmpty {
            log(.notice, "My last slot was migrated to node \(claimant.id). I am now an empty primary.")
        }
        if !dirtySlots.isEmpty {
            log(.notice, "Deleting keys in \(dirtySlots.count) slots that now belong to \(claimant.id)")
            pending.append(.deleteKeys(slots: dirtySlots))
        }
    }

    /// What the loss of a slot's owner means for a migration of the slot that this node takes part in.
    private func closeOrFollow(_ slot: Int, claimedBy claimant: ClusterNode, isInMyShard: Bool) {
        let key = UInt16(slot)
        if migratingTo[key] != nil, !isInMyShard {
            log(.notice, "Slot \(slot) is no longer being migrated: node \(claimant.id) owns it.")
            migratingTo[key] = nil
        }
        if let source = importingFrom[key].flatMap({ node(at: $0) }), source !== claimant {
            importingFrom[key] = areInSameShard(claimant, source) ? claimant.index : nil
            log(
                .notice,
                "Slot \(slot) is \(importingFrom[key] == nil ? "no longer" : "now") imported from \(claimant.id).")
        }
    }

    /// Migrations into a shard go on with the shard's new primary.
    private func followMigrationTargets(to claimant: ClusterNode, epoch: UInt64, claim: SlotSet) {
        for (slot, index) in migratingTo where index != claimant.index && !claim.contains(Int(slot)) {
            guard let target = node(at: index), areInSameShard(target, claimant),
                target.isReplica || target.configEpoch < epoch
            else { continue }
            migratingTo[slot] = claimant.index
            slotTablesAreStale = true
            todo.insert([.saveConfig, .publishView])
        }
    }

    /// Slots left with a node that has become the claimant's replica (see `receiveRole`) and that the claimant did not
    /// take over belong to nobody.
    private func dropLeftovers(of claimant: ClusterNode, epoch: UInt64) {
        for replica in claimant.replicas
        where !replica.isMyself && !replica.slots.isEmpty && replica.configEpoch <= epoch {
            unassignAll(of: replica)
            todo.insert([.syncSoon, .updateHealth])
        }
    }

    /// A replica's primary may become a replica itself, after it lost its last slot or a failover: follow on.
    /// Returns whether that was so. Two nodes that replicate each other are left to the operator.
    @discardableResult
    func repairReplicaOfReplica() -> Bool {
        guard myself.isReplica, let primary = myself.primary, primary.isReplica, let grand = primary.primary,
            grand !== myself, grand !== primary, myself.slots.isEmpty
        else { return false }
        log(.notice, "I'm a sub-replica! Reconfiguring myself as a replica of \(grand.id) instead of \(primary.id)")
        becomeReplica(of: grand, sharesHistory: areInSameShard(grand, myself))
        todo.insert([.saveConfig, .syncConfig])
        return true
    }

    /// Keys found at start for slots that this node does not own: take free slots, import owned ones.
    func claimSlotsWithKeys(_ slots: [HashSlot]) {
        guard myself.isPrimary else { return }
        for slot in slots {
            if owners[slot.index] == myself.index || importingFrom[slot.rawValue] != nil { continue }
            if owners[slot.index] == ClusterView.noNode {
                log(.warning, "I have keys for unassigned slot \(slot.rawValue). Taking responsibility for it.")
                assign(slot.index, to: myself)
            } else {
                log(
                    .warning,
                    "I have keys for slot \(slot.rawValue), but the slot is assigned to another node. "
                        + "Setting it to importing state.")
                importingFrom[slot.rawValue] = owners[slot.index]
                slotTablesAreStale = true
            }
            todo.insert([.saveConfig, .syncConfig, .updateHealth, .publishView])
        }
    }

    /// Slots that have left this shard during the event: their shard channels go with them.
    func dropChannelsOfLostSlots() {
        if slotsThatLeft.isEmpty { return }
        var lost: [HashSlot] = []
        slotsThatLeft.forEach { slot in
            if let owner = owner(of: slot), owner.shardPrimary === myself.shardPrimary { return }
            lost.append(HashSlot(rawValue: UInt16(slot)))
        }
        slotsThatLeft.removeAll()
        if !lost.isEmpty { pending.append(.dropShardChannels(slots: lost)) }
    }
}
