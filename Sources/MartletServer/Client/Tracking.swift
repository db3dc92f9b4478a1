import MartletBase
import MartletKeyspace
import MartletRESP

// Client-side caching: clients that keep what they have read are told when it changes.
//
// 1. CLIENT TRACKING ON: from now on the keys of the client's read commands are remembered (``TrackingTable``). OPTIN
//    remembers only those of the command, or transaction, behind CLIENT CACHING YES; OPTOUT all but those behind CACHING NO.
// 2. The keyspace's gate reports a change of any key. Whoever is remembered for it is told, once, and forgotten: it has to
//    read the key again to be told again. A script that reads makes its client be remembered for all keys that it declares.
// 3. With BCAST nothing is remembered. The client names prefixes; keys that changed and begin with one are gathered, and
//    told at the end of the turn in one message for each prefix.
// 4. NOLOOP spares a client what it changed itself.
// 5. The message is a push of RESP3. With REDIRECT another connection gets it: one that speaks RESP3, or one of RESP2 that
//    has subscribed to anything, as a message in the channel `__redis__:invalidate`. When that connection is gone, the
//    client is told `tracking-redir-broken` instead (RESP3 only).
// 6. When a database is emptied or replaced, everybody is told null: forget all.
// 7. The table holds at most `tracking-table-max-keys`. Beyond that any keys are given up, and told as if they had changed.
//
// As in Redis, databases are not told apart. Unlike there, SWAPDB counts as a replacement: caches would be wrong after it.
//
// Clients that do not track pay nothing: one flag sends those that do on the dispatcher's slower way, and the gate reports
// changes only while there are any.
//
// Source: Redis 7.0 tracking.c.

/// What a client chose with CLIENT TRACKING.
struct ClientTracking {
    enum Choice { case all, onlyAfterYes, allButAfterNo }

    var choice = Choice.all
    var isBroadcast = false
    var sparesOwnChanges = false
    /// The client that is told instead; 0 for the client itself.
    var redirection: UInt64 = 0
    /// That client was gone when it was to be told.
    var isRedirectionBroken = false
    /// What keys begin with that are told, in bytewise order; empty unless `isBroadcast`.
    var prefixes: [[UInt8]] = []
}

/// All that the node keeps for clients that track.
struct Tracking: ~Copyable {
    struct Broadcast {
        var clients: [UInt64] = []
        /// Keys that changed in this turn, with who changed them last; 0 if they changed by themselves.
        var keys: [[UInt8]: UInt64] = [:]
    }

    var table = TrackingTable()
    var clientCount = 0
    /// By prefix.
    var broadcasts: [[UInt8]: Broadcast] = [:]
    /// Some of them have something to tell.
    var hasBroadcasts = false
    /// What somebody is about to be told.
    var message = ReplyBuffer()

    /// A key has changed.
    mutating func noteBroadcast(_ key: UnsafeRawBufferPointer, by origin: UInt64) {
        // In two steps, because what is gone through must not change.
        for prefix in broadcasts.keys.filter({ key.starts(with: $0) }) {
            broadcasts[prefix]?.keys[Array(key)] = origin
            hasBroadcasts = true
        }
    }
}

extension Node {
    // MARK: Beginning and end

    /// The prefixes come to those that the client has. (enableTracking)
    ///
    /// - Precondition: it has none of them, and does not change between `isBroadcast` and not.
    mutating func track(_ client: ClientPointer, _ new: ClientTracking) {
        var new = new
        if client.pointee.tracking == nil { tracking.clientCount += 1 }
        for prefix in new.prefixes {
            tracking.broadcasts[prefix, default: Tracking.Broadcast()].clients.append(client.pointee.id)
        }
        new.prefixes += client.pointee.tracking?.prefixes ?? []
        new.prefixes.sort { $0.lexicographicallyPrecedes($1) }
        client.pointee.tracking = new
        client.pointee.flags.insert(.tracking)
        updateKeyEventInterest()
    }

    /// (disableTracking) What the table has of the client stays there, and is skipped.
    mutating func endTracking(_ client: ClientPointer) {
        guard let old = client.pointee.tracking else { return }
        for prefix in old.prefixes {
            tracking.broadcasts[prefix]?.clients.removeAll { $0 == client.pointee.id }
            if tracking.broadcasts[prefix]?.clients.isEmpty == true { tracking.broadcasts[prefix] = nil }
        }
        client.pointee.tracking = nil
        client.pointee.flags.subtract([.tracking, .caching])
        tracking.clientCount -= 1
        // With nobody left to be told, nothing needs to be remembered.
        if tracking.clientCount == 0 { tracking = Tracking() }
        updateKeyEventInterest()
    }

    // MARK: Reading

    /// Remembers what a client has read. (trackingRememberKeys)
    @inline(never)
    mutating func rememberKeys(of request: Request, command index: Int, _ client: ClientPointer) {
        guard let chosen = client.pointee.tracking, !chosen.isBroadcast else { return }
        let isCaching = client.pointee.flags.contains(.caching)
        switch chosen.choice {
        case .all: break
        case .onlyAfterYes: if !isCaching { return }
        case .allButAfterNo: if isCaching { return }
        }
        let hot = commands.hot[index]
        if hot.flags.contains(.pubsub) { return }
        if hot.hasOneKey(in: request) {
            remember(request[Int(hot.firstKey)], hash: request.keyHash, client)
        } else {
            for position in keyIndexes(of: request, command: index) {
                remember(request[position], hash: keyspace.hash(request[position]), client)
            }
        }
    }

    private mutating func remember(_ key: UnsafeRawBufferPointer, hash: UInt64, _ client: ClientPointer) {
        if let displaced = tracking.table.add(client.pointee.id, to: key, hash: hash) { tell(displaced, sparing: nil) }
    }

    // MARK: Changes

    /// A key has changed. (trackingInvalidateKey)
    ///
    /// - Parameters:
    ///   - origin: whose command it was; nil for work of the node itself.
    ///   - isOwn: false for a key whose time has passed: `origin` only met it.
    mutating func invalidate(_ key: UnsafeRawBufferPointer, origin: ClientPointer?, isOwn: Bool) {
        if !tracking.broadcasts.isEmpty { tracking.noteBroadcast(key, by: isOwn ? origin?.pointee.id ?? 0 : 0) }
        guard tracking.table.keyCount > 0 else { return }
        if let found = tracking.table.remove(key, hash: keyspace.hash(key)) { tell(found, sparing: origin) }
    }

    /// - Parameter origin: is not told if it said NOLOOP.
    private mutating func tell(_ tracked: TrackingTable.TrackedKey, sparing origin: ClientPointer?) {
        for id in tracked.clients {
            guard let client = clientsByID[id], let chosen = client.pointee.tracking else { continue }
            if chosen.isBroadcast || chosen.sparesOwnChanges && client == origin { continue }
            tell(client) {
                $0.array(1)
                $0.bulk(tracked.key)
            }
        }
    }

    /// The data set, or a part of it, was emptied or replaced. (trackingInvalidateKeysOnFlush)
    mutating func invalidateEverything() {
        guard tracking.clientCount > 0 else { return }
        tracking.table.removeAll()
        for client in clients where client.pointee.flags.contains(.tracking) { tell(client) { $0.null() } }
    }

    /// Sends what BCAST clients are to be told of this turn. (trackingBroadcastInvalidationMessages)
    mutating func sendBroadcasts() {
        tracking.hasBroadcasts = false
        let changed = tracking.broadcasts.filter { !$0.value.keys.isEmpty }
        for (prefix, broadcast) in changed.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            tracking.broadcasts[prefix]?.keys = [:]
            let keys = broadcast.keys.sorted { $0.key.lexicographicallyPrecedes($1.key) }
            for id in broadcast.clients {
                guard let client = clientsByID[id], let chosen = client.pointee.tracking else { continue }
                let told = chosen.sparesOwnChanges ? keys.filter { $0.value != id } : keys
                if told.isEmpty { continue }
                tell(client) {
                    $0.array(told.count)
                    for (key, _) in told { $0.bulk(key) }
                }
            }
        }
    }

    /// Gives up keys beyond the configured number; some in each turn. (trackingLimitUsedSlots)
    mutating func limitTrackedKeys() {
        for _ in 0..<Self.trackedKeysGivenUpPerTurn where hasTooManyTrackedKeys {
            tell(tracking.table.removeAny(&keyspace.random), sparing: nil)
        }
    }

    /// 0 allows any number.
    var hasTooManyTrackedKeys: Bool {
        mutating get {
            configuration.trackingTableKeysMax > 0 && tracking.table.keyCount > configuration.trackingTableKeysMax
        }
    }

    /// Takes about a millisecond.
    private static let trackedKeysGivenUpPerTurn = 1000

    // MARK: Messages

    /// Tells a client, or whom it named, that keys have changed. (sendTrackingMessage)
    ///
    /// - Parameter keys: writes which.
    private mutating func tell(_ client: ClientPointer, _ keys: (inout ReplyBuffer) -> Void) {
        guard let redirection = client.pointee.tracking?.redirection else { return }
        var receiver = client
        tracking.message.removeAll()
        if redirection != 0 {
            guard let other = clientsByID[redirection], !other.isClosing else {
                client.pointee.tracking?.isRedirectionBroken = true
                guard client.pointee.reply.isRESP3 else { return }
                tracking.message.isRESP3 = true
                tracking.message.push(2)
                tracking.message.bulk("tracking-redir-broken")
                tracking.message.integer(Int64(bitPattern: redirection))
                return deliver(tracking.message.bytes, to: client)
            }
            receiver = other
        }
        tracking.message.isRESP3 = receiver.pointee.reply.isRESP3
        if receiver.pointee.reply.isRESP3 {
            tracking.message.push(2)
            tracking.message.bulk("invalidate")
        } else if redirection != 0, receiver.pointee.flags.contains(.subscriber) {
            tracking.message.array(3)
            tracking.message.bulk("message")
            tracking.message.bulk("__redis__:invalidate")
        } else {
            return
        }
        keys(&tracking.message)
        deliver(tracking.message.bytes, to: receiver)
    }
}
