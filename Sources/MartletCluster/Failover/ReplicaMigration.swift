// A replica that its shard can spare moves to a primary that has lost its last working replica.
//
// Only a primary that had replicas before (or took over from one) counts as orphaned. The mover comes from a shard with
// the most working replicas, at least two, and leaves at least cluster-migration-barrier behind; of all candidates the
// one with the smallest id goes. The orphan must have been one for 5 seconds, so that the replicas of a shard in
// failover have time to announce themselves.
//
// Source: `clusterHandleSlaveMigration` in Redis 7.0 `cluster.c`.

enum ReplicaMigration {
    /// `CLUSTER_SLAVE_MIGRATION_DELAY`
    static let delayMilliseconds: Int64 = 5_000
}

extension ClusterState {
    private func workingReplicaCount(of primary: ClusterNode) -> Int { primary.replicas.count { !$0.isFailed } }

    /// Notes who is orphaned, and moves this node if it is the one to move.
    func considerReplicaMigration() {
        guard myself.isReplica, configuration.allowsReplicaMigration else { return }
        let primaries = allNodes.filter { $0.isPrimary && !$0.isInHandshake && $0.hasAddress }
        let working = primaries.filter { !$0.isFailed }
        let most = working.reduce(0) { max($0, workingReplicaCount(of: $1)) }
        var target: ClusterNode?
        for primary in primaries {
            let isOrphaned =
                !primary.isFailed && primary.flags.contains(.migrateTo) && workingReplicaCount(of: primary) == 0
            if !isOrphaned {
                primary.orphanedSince = 0
                continue
            }
            if primary.orphanedSince == 0 { primary.orphanedSince = now }
            if target == nil, !primary.slots.isEmpty { target = primary }
        }
        guard let target, most >= 2, health.isOK, let mine = myself.primary, workingReplicaCount(of: mine) == most,
            now - target.orphanedSince > ReplicaMigration.delayMilliseconds
        else { return }
        let reachable = mine.replicas.count { !$0.isFailed && !$0.isPossiblyFailed }
        guard reachable > configuration.migrationBarrier else { return }
        for primary in working where workingReplicaCount(of: primary) == most {
            if primary.replicas.contains(where: { $0.id < myself.id }) { return }
        }
        log(.notice, "Migrating to orphaned primary \(target.id)")
        becomeReplica(of: target, sharesHistory: false)
        todo.insert([.saveConfig, .syncConfig])
    }
}
