// How a replica takes the place of its failed primary.
//
// 1. The primary is FAIL and has slots. A replica whose data is not too old plans an election and tells its siblings
//    its offset.
// 2. The plan has a delay, so that the best replica comes first and elections of different shards do not compete for
//    the one vote that everybody has per epoch. With D = min(node time-out / 30, 500 ms):
//    D + random below D + rank x 2D + failed-primary rank x D, and 500 ms more for a replica without any data.
//    - rank: siblings with a greater offset, or the same and a smaller id;
//    - failed-primary rank: failed primaries of shards with a smaller id.
//    If both ranks are 0, and all working siblings have said that they know of the failure, nothing is left to wait
//    for: the election starts at once, and asks voters who have not heard of the failure to vote all the same.
// 3. The candidate adds one to the current epoch, writes that down, and asks everybody for votes.
// 4. A primary with slots votes at most once per epoch, for a replica of a failed primary, unless the candidate claims
//    slots that have a newer owner. The vote is on disk before it is sent.
// 5. With the votes of a majority the candidate takes the election's epoch as config epoch, the slots of its primary
//    and the role, and tells everybody.
//
// Voters that have not answered are asked again in the same epoch, first after 200 ms: the request may have been lost
// with a link, or have come before the news that its sender is a replica or its primary down. Whoever has voted in the
// epoch does not vote again, so this is safe. If meanwhile a newer epoch has begun, nobody will vote in ours any more,
// and the election begins anew. (Redis and Valkey ask once.)
//
// Candidates that fail all the same try again after four node time-outs (at least 4 seconds), or at once when they see that
// somebody else has won their epoch.
//
// Source: `clusterHandleSlaveFailover`, `clusterSendFailoverAuthIfNeeded` in Redis 7.0 `cluster.c`; delays, ranks and
// the retry are those of Valkey 9. As there, a voter does not refuse a second vote for the same shard within twice the
// node time-out: that only delays recovery.

import MartletBase

struct Election {
    /// Valkey 9: `clusterHandleReplicaFailover`.
    static let delayDivisor: Int64 = 30
    static let delayMillisecondsMax: Int64 = 500
    static let noDataDelayMilliseconds: Int64 = 500
    static let timeoutMillisecondsMin: Int64 = 2_000
    /// Retry time in election time-outs.
    static let retryFactor: Int64 = 2
    /// `CLUSTER_CANT_FAILOVER_RELOG_PERIOD`
    static let relogMilliseconds: Int64 = 10_000
    /// After which voters are asked again, and twice as long after each time.
    static let repeatMilliseconds: Int64 = 200

    enum Obstacle: String {
        case dataAge = """
            Disconnected from primary for longer than allowed. Please check the 'cluster-replica-validity-factor' \
            configuration option.
            """
        case waitingDelay = "Waiting the delay before I can start a new failover."
        case expired = "Failover attempt expired."
        case waitingVotes = "Waiting for votes, but majority still not reached."
    }

    /// When it starts, or started; nil while none is planned.
    var startsAt: Int64?
    var isSent = false
    var epoch: UInt64 = 0
    var rank = 0
    var failedPrimaryRank = 0
    /// Voters of this election; a repeated vote counts once.
    var voters: Set<UInt16> = []
    /// When those who have not voted are asked again.
    var repeatsAt: Int64 = .max
    var repeatInterval = repeatMilliseconds
    var obstacle: Obstacle?
    var obstacleLoggedAt: Int64 = 0

    /// Planned, and not yet started.
    var isWaiting: Bool { startsAt != nil && !isSent }
}

extension ClusterState {
    /// When an election has to be started, for `nextDeadline`.
    var nextElectionDeadline: Int64? {
        election.isWaiting && myself.isReplica && myself.primary?.isFailed == true ? election.startsAt : nil
    }

    /// Base of all delays.
    private var electionDelayUnit: Int64 {
        min(max(configuration.nodeTimeoutMilliseconds, 0) / Election.delayDivisor, Election.delayMillisecondsMax)
    }

    private var electionTimeoutMilliseconds: Int64 {
        max(saturatingProduct(configuration.nodeTimeoutMilliseconds, 2), Election.timeoutMillisecondsMin)
    }

    // MARK: The candidate

    /// Plans, starts or wins an election, whatever is due. Called after every event that may matter.
    func advanceElection() {
        let isManual = manualFailover.isActive && manualFailover.canStart
        guard myself.isReplica, let primary = myself.primary, primary.isFailed || isManual,
            !configuration.replicaNoFailover || isManual, !primary.slots.isEmpty || isManual
        else {
            // An attempt of an earlier failure must not count against the next one.
            if !manualFailover.isActive { election = Election() }
            return
        }
        if !isManual, isDataTooOld {
            noteObstacle(.dataAge)
            return
        }
        guard let startsAt = election.startsAt else {
            planElection(isManual: isManual)
            return
        }
        let age = now - startsAt
        if age > saturatingProduct(electionTimeoutMilliseconds, Election.retryFactor) {
            planElection(isManual: isManual)
            return
        }
        if !election.isSent {
            if !isManual { adjustPlan() }
            guard let startsAt = election.startsAt, now >= startsAt else {
                noteObstacle(.waitingDelay)
                return
            }
        }
        if age > electionTimeoutMilliseconds {
            noteObstacle(.expired)
            return
        }
        if !election.isSent {
            startElection(isManual: isManual)
        } else if election.voters.count >= quorum {
            winElection()
        } else {
            noteObstacle(.waitingVotes)
            if now >= election.repeatsAt { repeatRequest(isManual: isManual) }
        }
    }

    /// Data older than this would undo more than a failover may. Source: `clusterHandleSlaveFailover`, `data_age`.
    private var isDataTooOld: Bool {
        let factor = configuration.replicaValidityFactor
        guard factor > 0 else { return false }
        let timeout = configuration.nodeTimeoutMilliseconds
        var age = now - replication.lastPrimaryContact
        // That long the primary may have been down before it was noticed.
        if age > timeout { age -= timeout }
        let limit = saturatingProduct(configuration.replicationPingPeriodSeconds, 1000)
        return age > limit + saturatingProduct(timeout, factor)
    }

    private func planElection(isManual: Bool) {
        let unit = electionDelayUnit
        election.isSent = false
        election.voters = []
        election.repeatInterval = Election.repeatMilliseconds
        election.rank = isManual ? 0 : replicaRank
        election.failedPrimaryRank = isManual ? 0 : failedPrimaryRank
        var delay: Int64 = 0
        if !isManual, !mayStartWithoutDelay {
            delay = unit + (unit > 0 ? Int64(random.below(Int(unit))) : 0)
            delay += Int64(election.rank) * 2 * unit + Int64(election.failedPrimaryRank) * unit
            if replication.offset == 0 { delay += Election.noDataDelayMilliseconds }
        }
        election.startsAt = now + delay
        log(
            .notice,
            "Start of election delayed for \(delay) milliseconds (rank #\(election.rank), primary rank "
                + "#\(election.failedPrimaryRank), offset \(replication.offset)).")
        // Siblings learn our offset, and that we know.
        broadcastPongToShard()
        if delay == 0 { todo.insert(.handleFailover) }
    }

    /// News of siblings change the rank, or make waiting pointless.
    private func adjustPlan() {
        guard let startsAt = election.startsAt else { return }
        let rank = replicaRank, failedRank = failedPrimaryRank
        let unit = electionDelayUnit
        let added =
            Int64(rank - election.rank) * 2 * unit + Int64(failedRank - election.failedPrimaryRank) * unit
        if added != 0 {
            election.startsAt = startsAt + added
            log(
                .notice,
                "Replica rank updated to #\(rank), primary rank #\(failedRank), \(added) milliseconds of delay added.")
        }
        election.rank = rank
        election.failedPrimaryRank = failedRank
        if mayStartWithoutDelay, let startsAt = election.startsAt, startsAt > now { election.startsAt = now }
    }

    /// Siblings that would be the better primary. One that is marked FAIL is none.
    private var replicaRank: Int {
        guard let primary = myself.primary else { return 0 }
        return primary.replicas.count { sibling in
            if sibling.isMyself || sibling.flags.contains(.noFailover) || sibling.isFailed { return false }
            if sibling.replicationOffset != replication.offset {
                return sibling.replicationOffset > replication.offset
            }
            return sibling.id < myself.id
        }
    }

    /// Failed shards whose election should come before ours. One that has failed for too long to be elected does not.
    private var failedPrimaryRank: Int {
        guard let primary = myself.primary else { return 0 }
        let tooLong = saturatingProduct(
            configuration.nodeTimeoutMilliseconds, max(configuration.replicaValidityFactor, 1))
        return nodes.reduce(0) { count, node in
            guard let node, node !== primary, node.isVoting, node.isFailed, node.shardID < primary.shardID,
                now - node.failTime <= tooLong
            else { return count }
            return count + 1
        }
    }

    /// The best replica of the first failed shard, and every sibling that can be reached knows of the failure: its
    /// offset is as fresh as it gets.
    private var mayStartWithoutDelay: Bool {
        guard let primary = myself.primary, primary.isFailed, replication.offset != 0, replicaRank == 0,
            failedPrimaryRank == 0
        else { return false }
        return primary.replicas.allSatisfy {
            $0.isMyself || $0.isFailed || $0.isPossiblyFailed || $0.flags.contains(.noFailover)
                || $0.flags.contains(.myPrimaryFailed)
        }
    }

    private func startElection(isManual: Bool) {
        currentEpoch = maxEpoch + 1
        election.epoch = currentEpoch
        election.voters = []
        election.isSent = true
        log(.notice, "Starting a failover election for epoch \(currentEpoch).")
        broadcast(.authRequest) { voteRequest($0, isManual: isManual) }
        election.repeatsAt = now + election.repeatInterval
        todo.insert([.saveConfig, .syncConfig, .updateHealth])
    }

    private func voteRequest(_ header: BusPacketEncoder.Header, isManual: Bool) -> [UInt8] {
        var header = header
        if isManual || mayStartWithoutDelay { header.messageFlags.insert(.forceAck) }
        return BusPacketEncoder.bare(.authRequest, header)
    }

    private func repeatRequest(isManual: Bool) {
        guard currentEpoch == election.epoch else {
            log(.notice, "Epoch \(currentEpoch) has begun: resetting my election of epoch \(election.epoch)")
            election = Election()
            return planElection(isManual: isManual)
        }
        election.repeatInterval *= 2
        election.repeatsAt = now + election.repeatInterval
        let bytes = voteRequest(packetHeader(), isManual: isManual)
        for node in allNodes where node.isVoting && !election.voters.contains(node.index) {
            if let link = node.link { send(bytes, .authRequest, on: link) }
        }
    }

    func receiveVote(_ packet: BusPacket, from sender: ClusterNode) {
        // A voter's epoch when it votes is the epoch of the request; any other one is a vote of another election.
        guard sender.isVoting, election.isSent, myself.isReplica, packet.currentEpoch == election.epoch else { return }
        election.voters.insert(sender.index)
        todo.insert(.handleFailover)
    }

    private func winElection() {
        log(.notice, "Failover election won: I'm the new primary.")
        health.confirm()
        if myself.configEpoch < election.epoch {
            myself.configEpoch = election.epoch
            electedEpoch = election.epoch
            log(.notice, "configEpoch set to \(election.epoch) after successful failover")
        }
        replaceMyPrimary()
    }

    /// Takes role and slots of the primary. - Precondition: this node has got a new config epoch.
    func replaceMyPrimary() {
        guard myself.isReplica, let old = myself.primary else { return }
        setAsPrimary(myself)
        pending.append(.becomePrimary)
        for range in old.slots.ranges {
            for slot in range {
                unassign(slot)
                assign(slot, to: myself)
            }
        }
        resetManualFailover()
        election = Election()
        updateHealth()
        todo.insert([.saveConfig, .syncConfig, .publishView])
        broadcastPong()
    }

    /// Somebody has won an epoch that is ours or later: our election cannot be won any more, so begin a new one now.
    func noteClaimDuringElection(_ packet: BusPacket, from sender: ClusterNode) {
        guard election.isSent, myself.isReplica, packet.primary == nil, sender !== myself.primary,
            packet.configEpoch >= election.epoch
        else { return }
        log(
            .notice,
            "Node \(sender.id) claims epoch \(packet.configEpoch): resetting my election of epoch \(election.epoch)")
        election = Election()
        todo.insert(.handleFailover)
    }

    private func noteObstacle(_ obstacle: Election.Obstacle) {
        if obstacle == election.obstacle, now - election.obstacleLoggedAt < Election.relogMilliseconds { return }
        election.obstacle = obstacle
        election.obstacleLoggedAt = now
        log(.notice, "Currently unable to failover: \(obstacle.rawValue)")
        if obstacle == .waitingVotes || obstacle == .expired {
            log(.notice, "Needed quorum: \(quorum). Number of votes received so far: \(election.voters.count)")
        }
    }

    // MARK: The voter

    func receiveVoteRequest(_ packet: BusPacket, from sender: ClusterNode, on link: BusLink) {
        guard myself.isVoting, !isStalled else { return }
        if let reason = reasonNotToVote(packet, for: sender) {
            log(.warning, "Failover auth denied to \(sender.id) for epoch \(packet.currentEpoch): \(reason)")
            return
        }
        lastVoteEpoch = currentEpoch
        todo.insert([.saveConfig, .syncConfig])
        log(.notice, "Failover auth granted to \(sender.id) for epoch \(currentEpoch)")
        var answer = link
        if let own = sender.link, own.isOpen { answer = own }
        send(BusPacketEncoder.bare(.authAck, packetHeader()), .authAck, on: answer)
    }

    private func reasonNotToVote(_ packet: BusPacket, for sender: ClusterNode) -> String? {
        if isFreshlyRestarted { return "I have just restarted" }
        if packet.currentEpoch < currentEpoch { return "reqEpoch (\(packet.currentEpoch)) < curEpoch(\(currentEpoch))" }
        if lastVoteEpoch >= currentEpoch { return "already voted for epoch \(lastVoteEpoch)" }
        if sender.isPrimary { return "it is a primary node" }
        guard let primary = sender.primary else { return "I don't know its primary" }
        if !primary.isFailed, !packet.messageFlags.contains(.forceAck) { return "its primary is up" }
        // An operator may force a failover of a working primary. Who believes that it failed is wrong.
        if primary.isMyself, packet.flags.contains(.myPrimaryFailed) { return "I am its primary, and up" }
        let claim = SlotSet(bitmap: packet.slots)
        var reason: String?
        claim.forEach { slot in
            guard reason == nil, !isUnclaimed(slot), let owner = owner(of: slot), owner.configEpoch > packet.configEpoch
            else { return }
            reason = "slot \(slot) epoch (\(owner.configEpoch)) > reqConfigEpoch (\(packet.configEpoch))"
            if let link = sender.link {
                // The candidate can only get a vote after it knows the newer owner.
                send(
                    BusPacketEncoder.update(
                        owner.id, configEpoch: owner.configEpoch, slots: owner.slots, packetHeader()), .update, on: link
                )
            }
        }
        return reason
    }
}
