// CLUSTER FAILOVER: a replica takes over from a working primary without losing a write.
//
// 1. The replica gets the command and sends MFSTART to its primary.
// 2. The primary holds back writes. Once the command thread has stopped, its replication offset is final: from then on
//    the primary's packets carry the PAUSED flag with that offset, and it pings the replica ten times a second.
// 3. When the replica, in sync with its primary, has processed up to that offset it starts an election without delay and with FORCEACK, because
//    its primary is not FAIL.
// 4. The new primary's claim makes the old one its replica, which ends the pause. After the time-out (5 s) both give
//    up.
//
// FORCE leaves out the conversation with the primary, TAKEOVER also the election.
//
// Source: "CLUSTER manual failover" in Redis 7.0 `cluster.c`.

struct ManualFailover {
    /// `CLUSTER_MF_PAUSE_MULT`: writes are held back for this many time-outs.
    static let pauseFactor: Int64 = 2

    /// Nil when there is none.
    var endsAt: Int64?
    /// On the primary: who asked.
    var replica: ClusterNode?
    /// On the primary: writes have stopped, the offset is final.
    var isPaused = false
    /// On the replica: the offset to reach; nil until the primary has told.
    var primaryOffset: Int64?
    /// On the replica: nothing stands in the way of the election.
    var canStart = false

    var isActive: Bool { endsAt != nil }
}

extension ClusterState {
    func resetManualFailover() {
        if manualFailover.replica != nil { pending.append(.resumeWrites) }
        manualFailover = ManualFailover()
    }

    // MARK: The primary

    func receiveManualFailoverStart(from sender: ClusterNode) {
        guard myself.isPrimary, sender.primary === myself else { return }
        // Not by way of `resumeWrites`: a write between two pauses would be beyond the offset that the replica was told.
        manualFailover = ManualFailover()
        let timeout = configuration.manualFailoverTimeoutMilliseconds
        manualFailover.endsAt = now + saturatingProduct(timeout, 1)
        manualFailover.replica = sender
        log(.notice, "Manual failover requested by replica \(sender.id).")
        pending.append(.pauseWrites(until: driverTime(now + saturatingProduct(timeout, ManualFailover.pauseFactor))))
    }

    func pausedForManualFailover(offset: Int64) {
        guard let replica = manualFailover.replica, myself.isPrimary else { return }
        manualFailover.isPaused = true
        replication.offset = max(replication.offset, offset)
        myself.replicationOffset = replication.offset
        if let link = replica.link { sendPing(.ping, on: link) }
    }

    // MARK: The replica

    func startManualFailover(force: Bool, of primary: ClusterNode) {
        resetManualFailover()
        manualFailover.endsAt = now + saturatingProduct(configuration.manualFailoverTimeoutMilliseconds, 1)
        // An election of before would count as an attempt of this one.
        election = Election()
        if force {
            log(.notice, "Forced failover user request accepted.")
            manualFailover.canStart = true
            todo.insert(.handleFailover)
        } else {
            log(.notice, "Manual failover user request accepted.")
            guard let link = primary.link else { return }
            send(
                BusPacketEncoder.bare(.manualFailoverStart, packetHeader()), .manualFailoverStart, on: link)
        }
    }

    func notePausedOffset(_ packet: BusPacket, from sender: ClusterNode) {
        guard manualFailover.isActive, myself.isReplica, myself.primary === sender,
            packet.messageFlags.contains(.paused), manualFailover.primaryOffset == nil
        else { return }
        manualFailover.primaryOffset = packet.replicationOffset
        log(.notice, "Received replication offset for paused primary manual failover: \(packet.replicationOffset)")
        todo.insert(.handleManualFailover)
    }

    /// Lets the election begin once all that the primary wrote has been processed.
    func advanceManualFailover() {
        // While a full resynchronisation is still to be done, the offset is one of another history.
        guard manualFailover.isActive, !manualFailover.canStart, let offset = manualFailover.primaryOffset,
            replication.isPrimaryLinkUp, replication.offset >= offset
        else { return }
        log(.notice, "All primary replication stream processed, manual failover can start.")
        manualFailover.canStart = true
        todo.insert(.handleFailover)
    }

    func checkManualFailoverTimeout() {
        guard let endsAt = manualFailover.endsAt, endsAt < now else { return }
        log(.warning, "Manual failover timed out.")
        resetManualFailover()
    }
}
