// Who is down: PFAIL is this node's opinion, FAIL that of a majority.
//
// Silence. A node that has not answered a PING for cluster-node-timeout, and sent nothing else either, is PFAIL.
// Half-way the link is reset once, in case only the connection is broken. A node that is heard, but does not answer, is
// asked anew on another link: a PING that went astray must not leave it PFAIL or FAIL here for ever.
//
// Crash evidence (beyond Redis). The kernel closes the sockets of a killed process at once and refuses connections to
// its port from then on. So when a link to a node that we had reached is lost, we reconnect at once; if that is
// refused, and the node has no other connection to us, the process is gone, and it is PFAIL without waiting.
// Why this is safe: it only replaces "silent for long enough"
// in the opinion of one node; FAIL still needs the majority, an election still needs the votes. Why it is not hasty:
// a hung process, a full backlog or a cut cable do not refuse. A process that listens again answers the next PING.
//
// Opinions travel in gossip: every packet lists the sender's PFAIL nodes, and a voter that has come to a new one says so
// at once to those who can act on it: other voters, and the replicas of the node. A report of a voting primary is worth
// something for twice the node time-out. A node that is PFAIL here and has reports of a majority, ours included if we
// vote, becomes FAIL; that is broadcast, and whoever hears it believes it.
//
// FAIL ends when the node answers again: at once for a replica or an empty primary; for a primary with slots after
// twice the node time-out, since a replica should get the chance to take over; or after 2 seconds if its process was
// seen to be gone, because its replicas had their chance without delay.
//
// Source: `markNodeAsFailingIfNeeded`, `clearNodeFailureIfNeeded`, `clusterCron` in Redis 7.0 `cluster.c`; only voting
// primaries report since Valkey 8.

enum FailureDetector {
    /// `CLUSTER_FAIL_REPORT_VALIDITY_MULT`, in node time-outs.
    static let reportValidityFactor: Int64 = 2
    /// `CLUSTER_FAIL_UNDO_TIME_MULT`, in node time-outs.
    static let undoFactor: Int64 = 2
    /// How long FAIL of a crashed primary with slots stands when it is back.
    static let crashUndoMilliseconds: Int64 = 2_000
    /// Reconnects at once after a loss, per cron period: a peer that accepts and closes must not make us spin.
    static let immediateConnectCountMax = 3
    /// A refusal and the end of the node's own link to us belong together when they are this close.
    static let evidenceWindowMilliseconds: Int64 = 1_000
    /// Voters told at once, besides the replicas of the node. Those with the smallest ids, so that in a big cluster all
    /// voters tell the same ones and a majority meets somewhere.
    static let evidenceReceiverCountMax = 32
    /// When many nodes fail together they are told of together.
    static let evidencePeriodMilliseconds: Int64 = 10
    /// Attempts to reconnect to an unreachable node per half node time-out (Valkey 9).
    static let reconnectAttempts: Int64 = 10
}

extension ClusterState {
    // MARK: Opinions

    func addFailureReport(about node: ClusterNode, from reporter: ClusterNode) {
        if let index = node.failureReports.firstIndex(where: { $0.reporter == reporter.index }) {
            node.failureReports[index].time = now
            return
        }
        node.failureReports.append(ClusterNode.FailureReport(reporter: reporter.index, time: now))
        log(.notice, "Node \(reporter.id) reported node \(node.id) as not reachable.")
    }

    func removeFailureReport(about node: ClusterNode, from reporter: ClusterNode) {
        guard let index = node.failureReports.firstIndex(where: { $0.reporter == reporter.index }) else { return }
        node.failureReports.remove(at: index)
        log(.notice, "Node \(reporter.id) reported node \(node.id) is back online.")
    }

    /// Reports of others that still count.
    func failureReportCount(about node: ClusterNode) -> Int {
        if node.failureReports.isEmpty { return 0 }
        let validity = saturatingProduct(
            configuration.nodeTimeoutMilliseconds, FailureDetector.reportValidityFactor)
        node.failureReports.removeAll { now - $0.time > validity }
        return node.failureReports.count
    }

    func markPossiblyFailed(_ node: ClusterNode) {
        guard !node.isPossiblyFailed, !node.isFailed else { return }
        node.flags.insert(.pfail)
        todo.insert([.saveConfig, .updateHealth])
        if myself.isVoting { evidence.insert(node.index) }
        markFailedIfAgreed(node)
    }

    func markFailedIfAgreed(_ node: ClusterNode) {
        guard node.isPossiblyFailed, !node.isFailed else { return }
        let opinions = failureReportCount(about: node) + (myself.isVoting ? 1 : 0)
        guard opinions >= quorum else { return }
        log(.notice, "Marking node \(node.id) as failing (quorum reached).")
        markFailed(node)
        broadcast(.fail) { BusPacketEncoder.fail(node.id, $0) }
    }

    /// FAIL, by count or by word of a peer.
    func markFailed(_ node: ClusterNode) {
        node.flags.remove(.pfail)
        node.flags.insert(.fail)
        node.failTime = now
        todo.insert([.saveConfig, .updateHealth, .publishView])
        guard myself.isReplica, node === myself.primary else { return }
        // Siblings wait for the news that all of them know, and for fresh offsets, to do without a delay.
        broadcastPongToShard()
        todo.insert(.handleFailover)
    }

    /// A node marked FAIL has answered.
    func clearFailureIfDue(_ node: ClusterNode) {
        guard node.isFailed else { return }
        if node.isVoting {
            let wait = saturatingProduct(configuration.nodeTimeoutMilliseconds, FailureDetector.undoFactor)
            let due = node.hasCrashed ? min(wait, FailureDetector.crashUndoMilliseconds) : wait
            guard now - node.failTime > due else { return }
            log(.notice, "Clear FAIL state for node \(node.id): is reachable again and nobody is serving its slots.")
        } else {
            let what = node.isReplica ? "replica" : "master without slots"
            log(.notice, "Clear FAIL state for node \(node.id): \(what) is reachable again.")
        }
        clearFailure(of: node)
    }

    /// At once also when a replica tells that it has taken over: a majority has reached it. A FAIL that stands would
    /// have its own replicas elect another one on the spot.
    func clearFailure(of node: ClusterNode) {
        node.flags.remove(.fail)
        node.hasCrashed = false
        todo.insert([.saveConfig, .updateHealth, .publishView])
    }

    /// The node has answered a PING on our link.
    func nodeAnswered(_ node: ClusterNode) {
        node.pongReceived = now
        node.pingSent = 0
        node.wasReached = true
        node.refusedAt = 0
        if node.isPossiblyFailed {
            node.flags.remove(.pfail)
            node.hasCrashed = false
            todo.insert([.saveConfig, .updateHealth])
        } else if node.isFailed {
            clearFailureIfDue(node)
        }
    }

    // MARK: Crash evidence

    /// Flags a node whose port has refused a connection and which has no other connection to us.
    func considerCrash(of node: ClusterNode) {
        guard configuration.usesCrashEvidence, !isStalled, node.refusedAt != 0,
            now - node.refusedAt <= FailureDetector.evidenceWindowMilliseconds, node.inboundLink == nil,
            !node.isInHandshake, node.hasAddress
        else { return }
        if node.isPossiblyFailed || node.isFailed { node.hasCrashed = true }
        guard node.wasReached, !node.isPossiblyFailed, !node.isFailed else { return }
        node.wasReached = false
        node.hasCrashed = true
        log(.notice, "Node \(node.id) is gone: its link was closed and its port refuses connections.")
        markPossiblyFailed(node)
    }

    /// When evidence that waits has to be told, for `nextDeadline`.
    var nextEvidenceDeadline: Int64? {
        evidence.isEmpty ? nil : evidenceSpreadAt + FailureDetector.evidencePeriodMilliseconds
    }

    /// Tells those who can act on it about new PFAIL nodes, without waiting for the next PING.
    func spreadEvidence() {
        guard let deadline = nextEvidenceDeadline, now >= deadline else { return }
        let suspects = evidence.sorted().compactMap { node(at: $0) }.filter { $0.isPossiblyFailed }
        evidence = []
        guard !suspects.isEmpty, myself.isVoting else { return }
        evidenceSpreadAt = now
        let voters = allNodes.filter { $0.isVoting && !$0.isMyself && !$0.isPossiblyFailed && !$0.isFailed }
            .sorted { $0.id < $1.id }
        var told: Set<UInt16> = [myself.index]
        for receiver in suspects.flatMap({ $0.replicas }) + voters.prefix(FailureDetector.evidenceReceiverCountMax)
        where !receiver.isInHandshake && told.insert(receiver.index).inserted {
            if let link = receiver.link { sendPing(.pong, on: link, gossip: .failuresOnly) }
        }
    }

    // MARK: Silence

    /// The part of cron that looks at one node: reset its link, ping it, or give up on it.
    func watch(_ node: ClusterNode) {
        let timeout = configuration.nodeTimeoutMilliseconds
        let pingDelay = now - node.pingSent, dataDelay = now - node.dataReceived
        // A node that sends on its own link has the full time for its answer: ours may have lost the PING.
        if let link = node.link, node.pingSent != 0, now - link.createdAt > timeout,
            pingDelay > (dataDelay > timeout / 2 ? timeout / 2 : timeout)
        {
            close(link)
        }
        if let link = node.link, link.isOpen {
            if node.pingSent == 0, now - node.pongReceived > timeout / 2 {
                sendPing(.ping, on: link)
                return
            }
            if manualFailover.isActive, myself.isPrimary, manualFailover.replica === node {
                sendPing(.ping, on: link)
                return
            }
        }
        guard node.pingSent != 0, min(pingDelay, dataDelay) > timeout else { return }
        if !node.isPossiblyFailed, !node.isFailed {
            log(.notice, "*** NODE \(node.id) possibly failing")
            node.wasReached = false
            markPossiblyFailed(node)
        }
    }
}

/// Products of configured times, which a user may set to anything.
func saturatingProduct(_ time: Int64, _ factor: Int64) -> Int64 {
    let (product, overflow) = time.multipliedReportingOverflow(by: factor)
    // A quarter of the range leaves room for sums with the current time.
    return overflow ? Int64.max / 4 : min(product, Int64.max / 4)
}
