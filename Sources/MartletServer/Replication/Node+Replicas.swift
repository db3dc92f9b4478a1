import MartletBase
import MartletCluster
import MartletKeyspace
import MartletPersistence
import MartletRESP
import MartletReplication

// The primary's side of replication: clients that are replicas.
//
// Nothing is copied for a replica. What it is to be sent is asked for when its socket takes it: bytes of the log from its
// own position, or of the image while it has a full sync.

extension Node {
    private func replica(of client: ClientPointer) -> AttachedReplica? {
        replication.replicas.first { $0.client == client }
    }

    // MARK: Handshake

    /// The replica that a client is, or begins to be.
    private mutating func attachedReplica(_ client: ClientPointer) -> AttachedReplica {
        if let known = replica(of: client) { return known }
        let replica = AttachedReplica(client)
        replication.replicas.append(replica)
        return replica
    }

    /// `REPLCONF <option> <value> …` from somebody who is or wants to be a replica.
    mutating func configureReplica(_ request: Request, _ client: ClientPointer) throws(ReplyError) {
        let replica = attachedReplica(client)
        let hadAcknowledged = replica.session.isStreaming
        switch try replica.session.configure(request, now: time.monotonicMilliseconds) {
        case .ok: client.pointee.reply.ok()
        case .none: break
        case .acknowledgeToPrimary:
            if isPrimaryLinkUp { replication.primary?.session.acknowledge(now: time.monotonicMilliseconds) }
        }
        if replica.session.isStreaming, !hadAcknowledged { becameOnline(replica) }
    }

    /// `PSYNC <id> <offset>` or `SYNC`: the client becomes a replica. (syncCommand)
    mutating func synchronizeReplica(_ request: Request, _ client: ClientPointer) throws(ReplyError) {
        // A second request of a replica is ignored.
        if client.pointee.flags.contains(.replica) { return }
        if replication.primary != nil, !isPrimaryLinkUp {
            throw .text("NOMASTERLINK Can't SYNC while not connected with my master")
        }
        let replica = attachedReplica(client)
        Log.notice("Replica \(replica.address) asks for synchronization")
        let now = time.monotonicMilliseconds
        let outcome: PrimarySession.Synchronization
        if request.count > 2 {
            outcome = try replica.session.synchronize(
                id: request[1], offset: request[2], history: replication.history, log: replication.feed.log, now: now)
        } else {
            outcome = try replica.session.synchronizeWithoutOffset(now: now)
        }
        client.pointee.flags.insert(.replica)
        replication.unreadSince = now
        switch outcome {
        case .proceed(let reply):
            replication.statistics.partialSyncsAccepted += 1
            client.pointee.reply.append(reply)
            effects.append(.send(client))
            let count = replication.feed.log.end - replica.session.position
            Log.notice(
                "Partial resynchronization request from \(replica.address) accepted. Sending \(count) bytes of backlog starting from offset \(replica.session.position + 1)."
            )
        case .fullResync(let refusal):
            replication.statistics.fullSyncs += 1
            log(refusal, replica, request)
            replica.waitingSince = now
            activateLog()
            startImageIfDue(now: now)
        }
    }

    private mutating func log(_ refusal: ReplicationHistory.Refusal?, _ replica: AttachedReplica, _ request: Request) {
        switch refusal {
        case nil: break
        case .requested: Log.notice("Full resync requested by replica \(replica.address)")
        case .otherHistory:
            replication.statistics.partialSyncsRefused += 1
            Log.notice(
                "Partial resynchronization not accepted: Replication ID mismatch (Replica asked for '\(String(bytes: request[1]))', my replication IDs are '\(replication.history.id)' and '\(replication.history.secondID)')"
            )
        case .divergedAt(let limit):
            replication.statistics.partialSyncsRefused += 1
            Log.notice(
                "Partial resynchronization not accepted: Requested offset for second ID was \(String(bytes: request[2])), but I can reply up to \(limit)"
            )
        case .outsideLog:
            replication.statistics.partialSyncsRefused += 1
            Log.notice(
                "Unable to partial resync with replica \(replica.address) for lack of backlog (Replica request was: \(String(bytes: request[2])))."
            )
        }
    }

    // MARK: The image

    /// Starts an image when somebody waits for one and it is worth while.
    ///
    /// More replicas may be about to come, and an image serves only those that were there when it began: so it is delayed
    /// (`repl-diskless-sync-delay`), but not when nobody else can be expected, and not when it takes no time.
    mutating func startImageIfDue(now: Int64) {
        guard replication.image == nil, !keyspace.isWalking, !gates.contains(.loading) else { return }
        let waiting = replication.replicas.filter(\.isWaitingForImage)
        guard let first = waiting.min(by: { $0.waitingSince < $1.waitingSince }) else { return }
        let delay = Int64(configuration.disklessSyncDelaySeconds) * 1000
        let countMax = configuration.disklessSyncReplicasMax
        let isDue =
            now - first.waitingSince >= delay || countMax > 0 && waiting.count >= countMax
            || keyspace.totalKeyCount <= Self.cheapImageKeysMax || haveAllReplicasCome
        if isDue { startImage(for: first, of: waiting, now: now) }
    }

    /// An image of so many keys takes a few hundredths of a second.
    private static let cheapImageKeysMax = 50_000

    /// In a cluster it is known how many replicas we have.
    private var haveAllReplicasCome: Bool {
        guard let view = clusterFront?.view else { return false }
        var expected = 0
        for case let node? in view.nodes where node.isReplica && node.primary == view.myIndex && !node.isFailed {
            expected += 1
        }
        return expected > 0 && replication.replicas.count { $0.isAttached } >= expected
    }

    private mutating func startImage(for first: AttachedReplica, of waiting: [AttachedReplica], now: Int64) {
        activateLog()
        flushPropagation()
        replication.feed.forgetSelection()
        let image = SnapshotTransfer(
            endMark: ReplicationID(using: &replication.random), usesEndMark: first.session.acceptsEndMark,
            excludesData: first.session.excludesData, keepsFieldExpiry: first.session.knowsFieldExpiry,
            hasChecksum: configuration.checksumsRDB,
            RDBInformation(
                redisVersion: Version.redis, createdAtSeconds: time.unixSeconds, usedMemoryBytes: 0,
                replication: .init(
                    // Our own stream selects its database first; that of our primary goes on where it is.
                    streamDatabase: replication.primary == nil ? 0 : replication.streamDatabase,
                    id: replication.history.id.description, offset: replication.feed.log.end)),
            libraries: first.session.excludesFunctions ? nil : functionLibraries)
        replication.image = image
        if !image.excludesData { keyspace.beginWalk(image) }
        Log.notice("Starting BGSAVE for SYNC with target: replicas sockets")
        for replica in waiting
        where replica.session.acceptsEndMark == image.usesEndMark
            && replica.session.excludesData == image.excludesData
            && replica.session.excludesFunctions == image.excludesFunctions
            && replica.session.knowsFieldExpiry == image.keepsFieldExpiry
        {
            let header = replica.session.beginSnapshot(
                history: replication.history, log: replication.feed.log, endMark: image.endMark, now: now)
            replica.imagePosition = 0
            replica.client.pointee.reply.append(header)
            effects.append(.send(replica.client))
        }
    }

    var slowestImageReader: Int64? {
        replication.replicas.lazy.filter(\.isReceivingImage).map(\.imagePosition).min()
    }

    /// Extends the image and has it sent; ends it when it failed or everybody has it.
    mutating func continueImage() {
        guard let image = replication.image else { return }
        guard let slowest = slowestImageReader else {
            // Everybody has had it, or went away.
            if !image.isComplete, !image.excludesData { keyspace.abortWalk() }
            replication.image = nil
            startImageIfDue(now: time.monotonicMilliseconds)
            return
        }
        if image.isAborted {
            Log.warning("The data set was emptied or swapped during a full sync: its replicas have to begin again.")
            for replica in replication.replicas where replica.isReceivingImage { disconnect(replica) }
            replication.image = nil
            return
        }
        image.drain()
        if image.wantsMore(slowestReader: slowest) {
            image.extend(&keyspace)
            if image.isComplete, !image.usesEndMark {
                for replica in replication.replicas where replica.isReceivingImage {
                    replica.client.pointee.reply.append(replica.session.snapshotHeader(byteCount: Int(image.queue.end)))
                }
            }
        }
        if image.usesEndMark { image.dropRead(slowestReader: slowest) }
        for replica in replication.replicas where replica.isReceivingImage && replica.imagePosition < image.queue.end {
            effects.append(.send(replica.client))
        }
    }

    // MARK: Sending

    /// What the replica is to be sent next, behind its replies; empty if there is nothing. Valid until the node is used
    /// again; then tell ``replicaTook(_:count:)``.
    package mutating func replicaOutput(_ client: ClientPointer) -> UnsafeRawBufferPointer {
        let none = UnsafeRawBufferPointer(start: nil, count: 0)
        guard let replica = replica(of: client) else { return none }
        if replica.isReceivingImage {
            guard let image = replication.image, image.usesEndMark || image.isComplete else { return none }
            return image.bytes(at: replica.imagePosition)
        }
        guard replica.session.isStreaming else { return none }
        guard replication.feed.log.contains(position: replica.session.position) else {
            Log.warning("Replica \(replica.address) is too far behind: what it needs is no longer in the log.")
            disconnect(replica)
            return none
        }
        return replication.feed.log.bytes(at: replica.session.position)
    }

    /// The replica's socket took bytes of ``replicaOutput(_:)``.
    package mutating func replicaTook(_ client: ClientPointer, count: Int) {
        guard let replica = replica(of: client) else { return }
        if replica.session.isStreaming { return replica.session.didSend(count) }
        guard replica.isReceivingImage, let image = replication.image else { return }
        let now = time.monotonicMilliseconds
        replica.imagePosition += Int64(count)
        replica.session.snapshotProgressed(now: now)
        guard image.isComplete, replica.imagePosition == image.queue.end else { return }
        replica.session.snapshotSent(now: now)
        Log.notice("Streamed the data set to replica \(replica.address): \(image.queue.end) bytes")
        if replica.session.isStreaming {
            becameOnline(replica)
        } else if replica.session.state == .finished {
            disconnect(replica)
        }
    }

    private mutating func becameOnline(_ replica: AttachedReplica) {
        Log.notice("Synchronization with replica \(replica.address) succeeded")
        effects.append(.send(replica.client))
    }

    // MARK: Time and the end

    mutating func tickReplicas(now: Int64) {
        let timeout = Int64(configuration.replicationTimeoutSeconds) * 1000
        for replica in replication.replicas where replica.isAttached {
            switch replica.session.tick(now: now, timeout: timeout) {
            case .none: break
            case .sendKeepAlive:
                replica.client.pointee.reply.append("\n")
                effects.append(.send(replica.client))
            case .disconnect(let timeout):
                let phase: StaticString = timeout == .stream ? "streaming sync" : "full sync"
                Log.warning("Disconnecting timedout replica (\(phase)): \(replica.address)")
                disconnect(replica)
            }
            checkOutputLimit(replica, now: now)
        }
    }

    /// A replica that reads too slowly is dropped, before what waits for it fills the memory.
    private mutating func checkOutputLimit(_ replica: AttachedReplica, now: Int64) {
        guard replica.session.holdsPosition else { return }
        // An image does not count: it is made no faster than it is read.
        let unsent = replication.feed.log.end - replica.session.position
        let limit = configuration.outputBufferLimits.replica
        // A limit below the backlog would make the backlog useless.
        let hardBytes = max(Int64(clamping: limit.hardBytes), Int64(configuration.replicationBacklogBytes))
        var isOver = limit.hardBytes > 0 && unsent > hardBytes
        if limit.softBytes > 0, unsent > Int64(clamping: limit.softBytes) {
            if replica.softLimitSince == 0 { replica.softLimitSince = now }
            if now - replica.softLimitSince > Int64(limit.softSeconds) * 1000 { isOver = true }
        } else {
            replica.softLimitSince = 0
        }
        if isOver {
            Log.warning(
                "Client \(replica.client.pointee.address) scheduled to be closed ASAP for overcoming of output buffer limits."
            )
            disconnect(replica)
        }
    }

    private mutating func disconnect(_ replica: AttachedReplica) {
        guard replica.session.state != .finished || !replica.client.pointee.flags.contains(.closeNow) else { return }
        replica.session.snapshotFailed()
        replica.client.pointee.flags.insert(.closeNow)
        effects.append(.close(replica.client))
    }

    /// Our replicas have to come back, to learn that the history has changed.
    mutating func disconnectReplicas() {
        for replica in replication.replicas where replica.isAttached { disconnect(replica) }
    }

    /// A client is gone that may have been a replica.
    mutating func replicaRemoved(_ client: ClientPointer) {
        guard let index = replication.replicas.firstIndex(where: { $0.client == client }) else { return }
        let replica = replication.replicas.remove(at: index)
        replication.unreadSince = time.monotonicMilliseconds
        if client.pointee.flags.contains(.replica) { Log.notice("Connection with replica \(replica.address) lost.") }
    }

    /// Anything arrived from a replica: a line feed says that it lives.
    package mutating func replicaHeard(_ client: ClientPointer) {
        replica(of: client)?.session.keepAliveReceived(now: time.monotonicMilliseconds)
    }

    // MARK: Acknowledgements

    /// Whether `min-replicas-to-write` is met.
    var hasEnoughReplicas: Bool { goodReplicaCount >= configuration.minReplicasToWrite }

    var goodReplicaCount: Int {
        let now = time.monotonicMilliseconds
        let lag = Int64(configuration.minReplicasMaxLagSeconds)
        return replication.replicas.count { $0.session.isGood(lagSecondsMax: lag, now: now) }
    }

    func countAcknowledged(_ offset: Int64) -> Int {
        replication.replicas.lazy.map(\.session).countAcknowledged(offset)
    }

    /// Answers clients in WAIT whose replicas have acknowledged, or whose time is over.
    mutating func answerWaiting() {
        guard replicaWaitCount > 0 else { return }
        for client in parkedClients {
            guard case .replicas(let wanted, let offset, let deadline) = client.pointee.parked else { continue }
            let count = countAcknowledged(offset)
            guard count >= wanted || deadline != 0 && time.unixMilliseconds >= deadline else { continue }
            finish(client) { $0.integer(count) }
        }
    }

    /// A replica acknowledges nothing to its clients, and takes nothing out of keys for them.
    /// (disconnectAllBlockedClients)
    mutating func refuseWaiting() {
        for client in parkedClients {
            switch client.pointee.parked {
            case .replicas, .keys: break
            case .notParked, .answer, .pause, .migratingKey, .shutdown, .script: continue
            }
            client.pointee.flags.insert(.closeAfterReply)
            finish(client) {
                $0.error(
                    .text(
                        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
                    ))
            }
        }
    }
}
