import MartletBase
import MartletCluster
import MartletKeyspace
import MartletRESP

// The command thread's side of the cluster.
//
// The cluster state machine lives on the bus thread. Here is the last view that it published, which decides where a
// command is served, and what the bus asks of the data: follow a primary, pause writes, delete the keys of a lost slot.
// CLUSTER subcommands that need the whole state go to the bus as messages; the client is parked until the answer comes.

/// What the command thread knows of the cluster.
struct ClusterFront {
    var view: ClusterView
    /// One byte per slot, from `view`; kept apart so that the hot path touches no object.
    var slotStates: UnsafePointer<UInt8>

    init(view: ClusterView) {
        self.view = view
        slotStates = view.slotStates
    }
}

extension Node {
    /// Takes a newer view over. The reactor calls it at the start of a turn and before notices of the bus.
    package mutating func adopt(_ view: ClusterView) {
        // A slot that comes back, or is imported, before its old keys are gone: no new key may be among them.
        while let lost = lostSlots.firstIndex(where: { view.mayGainKeys($0.slot) }) {
            _ = keyspace.deleteKeys(slot: lostSlots.remove(at: lost).slot, from: 0, limit: .max)
        }
        clusterFront = ClusterFront(view: view)
        slotStates = view.slotStates
        // The bus' notice may come a turn later; writes are taken, and logged, from the moment that the view allows them.
        if !view.isReplica, isFollowing { becomePrimary() }
        updateReplicaGate()
        if !blocked.isEmpty { redirectBlockedClients(view) }
    }

    /// The bus answered a CLUSTER subcommand.
    package mutating func clusterReplied(_ token: UInt64, _ reply: ClusterReply) {
        answer(token) { $0.cluster(reply) }
        if openDecisions.remove(token) != nil, openDecisions.isEmpty { resume(.decision) }
    }

    /// Asks the bus something that it decides by the number of keys. No key may come between the count and the view that
    /// follows from it: its write would be acknowledged, and the key belong to nobody.
    mutating func holdWrites(untilDecided token: UInt64) {
        openDecisions.insert(token)
        pause(.decision, until: .max, all: false)
    }

    /// The bus wants writes held back, for a manual failover. The answer is ``NodeEffect/writesPaused``.
    package mutating func pauseWritesForFailover(milliseconds: Int64) {
        pause(.failover, until: time.unixMilliseconds + milliseconds, all: false)
        owesPauseReport = true
        reportPause()
    }

    /// The offset of a pause is final: transfers that began before it end first, because the deletion of what they moved
    /// is logged.
    mutating func reportPause() {
        guard owesPauseReport, pendingMigrations.isEmpty else { return }
        owesPauseReport = false
        if pauses.holdsOffset { effects.append(.writesPaused) }
    }

    package mutating func resumeWritesAfterFailover() {
        owesPauseReport = false
        resume(.failover)
    }

    /// These slots belong to somebody else now: their keys go, some in each turn, because there may be millions.
    package mutating func deleteKeys(inSlots slots: [HashSlot]) {
        for slot in slots where keyspace.keyCount(slot: slot) > 0 {
            // The view is newer: the slot came back, and may hold keys already that were acknowledged since.
            if clusterFront?.view.mayGainKeys(slot) ?? false { continue }
            lostSlots.append((slot, 0))
        }
    }

    mutating func deleteLostKeys(limit: Int) {
        // A replica's keys are its primary's, and in a failover the offset must stand still.
        if gates.contains(.replica) { lostSlots.removeAll() }
        if pauses.holdsOffset { return }
        var left = limit
        while left > 0, let lost = lostSlots.last {
            let before = keyspace.keyCount(slot: lost.slot)
            let position = keyspace.deleteKeys(slot: lost.slot, from: lost.position, limit: left)
            left -= before - keyspace.keyCount(slot: lost.slot)
            if let position { lostSlots[lostSlots.count - 1].position = position } else { lostSlots.removeLast() }
        }
    }

    // MARK: Where a command is served

    /// The gate of cluster mode. - Returns: nil if the command may run here.
    mutating func redirect(
        _ request: Request, _ command: UnsafeMutablePointer<HotCommand>, index: Int, _ client: ClientPointer
    ) -> ReplyError? {
        guard let front = clusterFront,
            let place = placement(of: request, command, index: index, client), place.decision != .serve
        else { return nil }
        return .message(front.view.errorText(place.decision, slot: place.slot))
    }

    /// Where a command is served; nil if anywhere, because it names no keys. Source: Redis 7.0 cluster.c, getNodeByQuery.
    mutating func placement(
        of request: Request, _ command: UnsafeMutablePointer<HotCommand>, index: Int, _ client: ClientPointer
    ) -> (decision: Redirection, slot: HashSlot)? {
        guard let front = clusterFront else { return nil }
        let hot = command.pointee
        guard hot.firstKey > 0 || hot.hasMovableKeys else { return nil }
        // Nearly always one key, whose slot is known: no list is made of it.
        let hasOneKey = hot.hasOneKey(in: request)
        let indexes = hasOneKey ? [] : keyIndexes(of: request, command: index)
        guard let first = hasOneKey ? Int(hot.firstKey) : indexes.first else { return nil }
        let slot = hasOneKey ? HashSlot(rawValue: request.slot) : HashSlot.of(request[first])
        for other in indexes.dropFirst() where HashSlot.of(request[other]) != slot {
            return (.crossSlot, slot)
        }
        if front.view.serves(slot) { return (.serve, slot) }
        var question = Redirection.Request(slot: slot)
        question.isWrite = hot.flags.contains(.write)
        if hot.flags.contains(.runsScript) {
            question.isWrite = scriptFlags(of: request, command: index).applied(to: hot.flags).contains(.write)
        }
        question.isMigrate = index == migrateCommand
        question.isPubSubShard = hot.flags.contains(.pubsub)
        question.isAsking = client.pointee.flags.contains(.asking) || hot.flags.contains(.asking)
        question.isReadOnlyClient = client.pointee.flags.contains(.readOnly)
        question.hasManyKeys = indexes.dropFirst().contains { !request[$0].elementsEqual(request[first]) }
        if !question.isPubSubShard, front.view.needsKeyCounts(for: slot) {
            keyspace.selected = 0
            for other in hasOneKey ? [first] : indexes {
                let key = keyspace.key(request[other], slot: slot.rawValue)
                if keyspace.peek(key) == nil { question.missingKeyCount += 1 } else { question.existingKeyCount += 1 }
            }
        }
        return (front.view.redirection(for: question), slot)
    }

    /// Where the keys of a request stand, or its shard channels. Empty if it has none or is malformed.
    package func keyIndexes(of request: Request, command index: Int) -> [Int] {
        if index == migrateCommand { return migrateKeyIndexes(of: request) }
        var indexes: [Int] = []
        for spec in commands[index].keys { indexes += spec.keyIndexes(in: request) ?? [] }
        return indexes
    }
}

extension ClusterView {
    /// Whether keys may come into a slot here.
    fileprivate func mayGainKeys(_ slot: HashSlot) -> Bool {
        let states = SlotState(rawValue: slotStates[slot.index])
        return !isReplica && !states.isDisjoint(with: [.mine, .importing])
    }
}

extension ReplyBuffer {
    mutating func cluster(_ reply: ClusterReply) {
        switch reply {
        case .ok: ok()
        case .status(let text): simple(text)
        case .error(let text): error(.message(text))
        case .integer(let number): integer(number)
        case .bulk(let text): bulk(text)
        case .verbatim(let text): verbatim(text)
        case .null: null()
        case .array(let elements):
            array(elements.count)
            for element in elements { cluster(element) }
        case .map(let pairs):
            map(pairs.count)
            for (key, value) in pairs {
                bulk(key)
                cluster(value)
            }
        }
    }
}

extension Node {
    /// CLUSTER RESET: every key goes.
    package mutating func flushEverything() {
        for database in 0..<keyspace.databaseCount { freeInBackground(keyspace.flush(database: database)) }
        invalidateEverything()
        beginHistoryAnew()
    }
}
