import MartletBase
import MartletCluster
import MartletKeyspace
import MartletRESP
import MartletReplication

extension Node {
    // MARK: What others ask

    /// A primary's: bytes that were logged. A replica's: bytes of its primary's log that were applied.
    package var replicationOffset: Int64 { replication.feed.log.end }

    /// The offset that the cluster bus announces: 0 while the data belongs to no history, because an image is being loaded
    /// or could not be. Such a replica is passed over by clients and comes last in elections.
    /// (replicationGetSlaveOffset)
    package var announcedOffset: Int64 {
        replication.primary != nil && !replication.feed.log.isActive ? 0 : replication.feed.log.end
    }

    package var isFollowing: Bool { replication.primary != nil }

    /// Our primary is connected and in sync.
    package var isPrimaryLinkUp: Bool { replication.primary?.session.isStreaming ?? false }

    /// When anything came from the primary last; when the link went down if it is. 0 if the data never were the
    /// primary's: such a replica must not be elected. Monotonic milliseconds.
    package var lastPrimaryContact: Int64 {
        guard let primary = replication.primary else { return 0 }
        return primary.session.isStreaming ? primary.session.heardAt : primary.lastContact
    }

    /// Whether the next turn has work that no event announces.
    package var wantsTurn: Bool {
        mutating get {
            guard let image = replication.image else { return false }
            return image.wantsMore(slowestReader: slowestImageReader ?? image.queue.end)
        }
    }

    // MARK: Roles

    /// Follows a primary, whatever the role before.
    ///
    /// - Parameter sharesHistory: the primary may have what this node's data begins with, so that only the rest need be
    ///   sent; otherwise everything is asked for.
    package mutating func follow(host: String, port: Int, sharesHistory: Bool = true) {
        if let primary = replication.primary, primary.host == host, primary.port == port { return }
        let contact = sharesHistory ? lastPrimaryContact : 0
        refuseWaiting()
        if replication.primary == nil {
            flushPropagation()
            if replication.feed.log.isActive {
                Log.notice(
                    "Before turning into a replica, using my own master parameters to synthesize a cached master: I may be able to synchronize with the new master with just a partial transfer."
                )
            }
            // The stream that others continue selected this last.
            replication.streamDatabase = max(0, replication.feed.selectedDatabase)
        } else {
            leavePrimary()
        }
        // Without a log the offset did not move though the data may have changed.
        let canResume = sharesHistory && replication.feed.log.isActive
        replication.primary = FollowedPrimary(
            host: host, port: port,
            session: ReplicaSession(
                configuration: sessionConfiguration,
                resuming: canResume ? (replication.history.id, replication.feed.log.end) : nil,
                now: time.monotonicMilliseconds))
        replication.primary?.lastContact = contact
        roleChanged()
        driveSession()
    }

    private var sessionConfiguration: ReplicaSession.Configuration {
        var session = ReplicaSession.Configuration(
            listeningPort: configuration.replicaAnnouncePort != 0
                ? configuration.replicaAnnouncePort : configuration.port)
        if !configuration.primaryPassword.isEmpty { session.password = configuration.primaryPassword }
        if !configuration.primaryUser.isEmpty { session.user = configuration.primaryUser }
        if !configuration.replicaAnnounceAddress.isEmpty {
            session.announcedAddress = configuration.replicaAnnounceAddress
        }
        session.timeoutMilliseconds = Int64(configuration.replicationTimeoutSeconds) * 1000
        return session
    }

    /// A changed configuration counts for the link that is tried next; a wrong password can so be put right.
    mutating func configureReplication() { replication.primary?.session.configuration = sessionConfiguration }

    /// Serves writes from now on. Whoever followed the same primary may go on with this node from where it was.
    package mutating func becomePrimary() {
        guard replication.primary != nil else { return }
        leavePrimary()
        replication.primary = nil
        let new = ReplicationID(using: &replication.random)
        if replication.feed.log.isActive {
            replication.history.promote(to: new, appliedOffset: replication.feed.log.end)
            Log.notice(
                "Setting secondary replication ID to \(replication.history.secondID), valid up to offset: \(replication.history.secondOffset). New replication ID is \(new)"
            )
        } else {
            replication.history.startNew(id: new)
        }
        // They have to learn the new name; nothing is sent again.
        disconnectReplicas()
        replication.feed.forgetSelection()
        replication.unreadSince = time.monotonicMilliseconds
        roleChanged()
    }

    /// Lets go of the current primary: the link is closed and what was half done is undone.
    private mutating func leavePrimary() {
        guard let primary = replication.primary else { return }
        effects.append(.closePrimaryLink)
        endLink(primary)
    }

    private mutating func roleChanged() {
        Log.role = replication.primary == nil ? .primary : .replica
        updateReplicaGate()
        updatePropagation()
    }

    /// In a cluster the view tells the role, a moment before the bus asks to follow somebody.
    mutating func updateReplicaGate() {
        setGate(.replica, replication.primary != nil || clusterFront?.view.isReplica ?? false)
        updateExpiryMode()
    }

    /// Records changes exactly while somebody may read them and they are our own.
    mutating func updatePropagation() {
        keyspace.propagation.isOn = replication.feed.log.isActive && replication.primary == nil
        if !keyspace.propagation.isOn { keyspace.propagation.removeAll() }
    }

    /// Starts logging, if it is off. What was changed without a log belongs to no history that anyone knows.
    mutating func activateLog() {
        guard !replication.feed.log.isActive else { return }
        replication.history.startNew(id: ReplicationID(using: &replication.random))
        replication.feed.log.activate()
        replication.feed.forgetSelection()
        replication.announcedEnd = replication.feed.log.end
        // The first ping comes a period after the beginning, however long the machine has been up.
        replication.pingedAt = time.monotonicMilliseconds
        Log.notice(
            "Replication backlog created, my new replication IDs are '\(replication.history.id)' and '\(replication.history.secondID)'"
        )
        updatePropagation()
    }

    /// The data was replaced without a word in the log: no history tells of it.
    mutating func beginHistoryAnew() {
        disconnectReplicas()
        replication.feed.log.deactivate()
        replication.history.startNew(id: ReplicationID(using: &replication.random))
        updatePropagation()
    }

    // MARK: Changes into the log

    /// Puts what a command did into the log: what it queued, then its own text unless that was replaced. More than one
    /// command becomes a transaction. (propagatePendingCommands)
    @inline(never)
    mutating func propagate(_ request: Request, changed: Bool, _ client: ClientPointer) {
        let hasText = changed && !keyspace.propagation.replacesCommand
        if isInPropagationUnit {
            keyspace.propagation.replacesCommand = false
            // In EXEC or a script what is met by chance is part of the whole.
            keyspace.propagation.standsApart = false
            if hasText {
                keyspace.propagation.append(
                    database: client.pointee.database, arguments: (0..<request.count).map { request[$0] })
            }
            return
        }
        if keyspace.propagation.isEmpty {
            keyspace.propagation.replacesCommand = false
            if hasText { replication.feed.append(database: client.pointee.database, request) }
        } else {
            let count = keyspace.propagation.commands.count + (hasText ? 1 : 0)
            let isTransaction = count > 1 && !keyspace.propagation.standsApart
            if isTransaction { replication.feed.appendMulti(database: keyspace.propagation.commands[0].database) }
            moveQueueIntoLog()
            if hasText { replication.feed.append(database: client.pointee.database, request) }
            if isTransaction { replication.feed.appendExec() }
        }
        client.pointee.writeOffset = replication.feed.log.end
    }

    /// Until ``endPropagationUnit(_:)`` commands gather in the keyspace's queue instead of going to the log one by one.
    mutating func beginPropagationUnit() { isInPropagationUnit = true }

    /// Puts what gathered into the log, in MULTI/EXEC if it is more than one command.
    ///
    /// - Parameter client: whose writes they are; nil if it is gone.
    mutating func endPropagationUnit(_ client: ClientPointer?) {
        isInPropagationUnit = false
        let count = keyspace.propagation.commands.count
        guard count > 0 else { return }
        let isTransaction = count > 1 && !keyspace.propagation.standsApart
        if isTransaction { replication.feed.appendMulti(database: keyspace.propagation.commands[0].database) }
        moveQueueIntoLog()
        if isTransaction { replication.feed.appendExec() }
        client?.pointee.writeOffset = replication.feed.log.end
    }

    /// Moves what the keyspace queued outside of commands into the log.
    mutating func flushPropagation() {
        guard !keyspace.propagation.isEmpty else {
            keyspace.propagation.replacesCommand = false
            return
        }
        moveQueueIntoLog()
    }

    private mutating func moveQueueIntoLog() {
        keyspace.propagation.bytes.withUnsafeBytes { bytes in
            var start = 0
            for (database, end) in keyspace.propagation.commands {
                replication.feed.append(
                    database: database, encoded: UnsafeRawBufferPointer(rebasing: bytes[start..<end]))
                start = end
            }
        }
        keyspace.propagation.removeAll()
    }

    // MARK: A turn

    /// What replication does at the end of every turn: pass on what was logged, work on an image, answer WAIT.
    mutating func endReplicationTurn() {
        if replication.isIdle { return answerWaiting() }
        if replication.wantsAcknowledgements {
            replication.wantsAcknowledgements = false
            // A failover waits for the offset to stand still.
            if replication.primary == nil, !pauses.holdsOffset { replication.feed.appendGetAck() }
        }
        if replication.image != nil { continueImage() }
        let end = replication.feed.log.end
        if end != replication.announcedEnd {
            replication.announcedEnd = end
            for replica in replication.replicas where replica.session.isStreaming {
                effects.append(.send(replica.client))
            }
        }
        if replication.feed.log.exceeds(backlogBytes: Int64(configuration.replicationBacklogBytes)) {
            let limit = configuration.outputBufferLimits.replica.hardBytes
            replication.feed.log.trim(
                backlogBytes: Int64(configuration.replicationBacklogBytes),
                slowestReader: replication.replicas.lazy.map(\.session).slowestPosition,
                readerBytesMax: limit == 0 ? .max : Int64(clamping: limit))
        }
        answerWaiting()
    }

    /// Periodic work, `hz` times a second.
    mutating func replicationCron() {
        if !replication.isStarted {
            replication.isStarted = true
            if let directive = configuration.replicaOf, !isClustered {
                follow(host: directive.host, port: directive.port)
            }
        }
        guard !replication.isIdle else { return }
        let now = time.monotonicMilliseconds
        // Half of what a script does is in no log yet: no image may begin, and nobody else's data be taken over.
        if !isBusy { driveSession() }
        tickReplicas(now: now)
        if !isBusy { startImageIfDue(now: now) }
        let hasReaders = replication.replicas.contains { $0.isAttached }
        if hasReaders { replication.unreadSince = now }
        guard replication.primary == nil, replication.feed.log.isActive else { return }
        let period = Int64(configuration.replicationPingSeconds) * 1000
        if hasReaders, now - replication.pingedAt >= period, !pauses.holdsOffset {
            replication.pingedAt = now
            replication.feed.appendPing()
        }
        let timeToLive = Int64(configuration.replicationBacklogSeconds) * 1000
        if !hasReaders, timeToLive > 0, now - replication.unreadSince > timeToLive {
            replication.feed.log.deactivate()
            replication.history.startNew(id: ReplicationID(using: &replication.random))
            updatePropagation()
            Log.notice(
                "Replication backlog freed after \(configuration.replicationBacklogSeconds) seconds without connected replicas."
            )
        }
    }
}
