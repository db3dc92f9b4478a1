// Whether the cluster is up from this node's point of view: cluster_state.
//
// It is down while a slot is without a working owner (unless that is allowed) and while fewer than a majority of the
// primaries with slots can be reached. A primary that comes back is careful: after a restart it waits 2 seconds, after
// a time in a minority as long as a node time-out (0.5 to 5 seconds), so that news of a failover reaches it before it
// takes writes that would be lost. A replica that wins an election need not wait, however lately it came back: the
// majority that voted for it knows of nothing newer.
//
// Source: `clusterUpdateState` in Redis 7.0 `cluster.c`. Unlike there, a new cluster starts without either wait, since
// nobody can have failed anybody over, and the number of voters is counted whenever it is needed.

import MartletBase

struct ClusterHealth {
    /// `CLUSTER_WRITABLE_DELAY`
    static let restartDelayMilliseconds: Int64 = 2_000
    /// `CLUSTER_MIN_REJOIN_DELAY`, `CLUSTER_MAX_REJOIN_DELAY`
    static let rejoinDelayRange: ClosedRange<Int64> = 500...5_000

    var isOK = false
    /// When this node last found itself in a minority; nil for never.
    var lastInMinority: Int64?
    /// A majority has voted for this node since it started.
    var isConfirmed = false

    mutating func confirm() {
        lastInMinority = nil
        isConfirmed = true
    }
}

extension ClusterState {
    /// Shards with at least one slot. Their primaries vote. A shard counts also while its slots stand with a node that
    /// has become a replica, because the successor has not claimed them here yet: a majority of those that are left
    /// would be none.
    var votingNodeCount: Int {
        nodes.reduce(0) { count, node in
            guard let node, !node.slots.isEmpty, node.isPrimary || node.primary?.isVoting != true else { return count }
            return count + 1
        }
    }

    /// Votes, or failure reports, that make a majority.
    var quorum: Int { votingNodeCount / 2 + 1 }

    /// A node that has just come back may know an old configuration only.
    var isFreshlyRestarted: Bool {
        isRestart && !health.isConfirmed && now - startedAt < ClusterHealth.restartDelayMilliseconds && now >= startedAt
    }

    func updateHealth() {
        if myself.isPrimary, !health.isOK, isFreshlyRestarted { return }
        var isOK = true
        if configuration.requiresFullCoverage {
            // Every slot has one owner at most, so counting is enough.
            isOK = nodes.reduce(0) { $0 + ($1.map { $0.isFailed ? 0 : $0.slots.count } ?? 0) } == HashSlot.count
        }
        let reachable = nodes.reduce(0) { count, node in
            guard let node, node.isVoting, !node.isFailed, !node.isPossiblyFailed else { return count }
            return count + 1
        }
        if reachable < quorum {
            isOK = false
            // Where nobody has a slot yet there is no majority to be cut off from.
            if votingNodeCount > 0 { health.lastInMinority = now }
        }
        guard isOK != health.isOK else { return }
        if isOK, myself.isPrimary, let last = health.lastInMinority {
            let range = ClusterHealth.rejoinDelayRange
            let delay = min(max(configuration.nodeTimeoutMilliseconds, range.lowerBound), range.upperBound)
            if now >= last, now - last < delay { return }
        }
        log(.notice, "Cluster state changed: \(isOK ? "ok" : "fail")")
        health.isOK = isOK
        slotTablesAreStale = true
        todo.insert(.publishView)
    }
}
