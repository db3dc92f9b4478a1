import MartletBase
import MartletCluster
import MartletKeyspace
import MartletRESP

// How waits for keys begin and end; the story is in BlockedClients.swift.

extension Node {
    // MARK: Beginning

    /// Whether a command of this client may wait; otherwise it answers as if its time were over.
    func mayBlock(_ client: ClientPointer) -> Bool {
        client.pointee.transaction?.nextCommand == nil
            && client.pointee.flags.isDisjoint(with: [.primary, .script])
    }

    /// Lets a client wait until one of some keys has something for it.
    ///
    /// - Parameters:
    ///   - request: what `serve` gets; its arguments are copied.
    ///   - keys: which of its arguments are the keys.
    ///   - type: of the keys that `serve` is asked about.
    ///   - deadline: node's clock, milliseconds; 0 to wait for ever.
    ///   - whenGone: ends the wait when a key is deleted or becomes one of another type.
    /// - Precondition: ``mayBlock(_:)``
    mutating func block(
        _ client: ClientPointer, _ request: Request, keys: Range<Int>, type: ValueType, until deadline: Int64,
        whenGone: ReplyError? = nil, serve: @escaping ServeHandler
    ) {
        precondition(mayBlock(client))
        var names: [WatchedKey] = []
        var known: Set<WatchedKey> = []
        for index in keys {
            let name = WatchedKey(database: client.pointee.database, key: Array(request[index]))
            if known.insert(name).inserted { names.append(name) }
        }
        let wait = KeyWait(
            client: client, command: QueuedCommand(request, command: client.pointee.lastCommand), keys: names,
            type: type, deadline: deadline, whenGone: whenGone, serve: serve)
        for name in names { keyspace.addWaiter(for: name) }
        park(client, .keys(ticket: blocked.add(wait)))
    }

    /// The client is no longer parked.
    mutating func removeWait(_ ticket: BlockedClients.Ticket) {
        guard let wait = blocked.remove(ticket) else { return }
        for key in wait.keys { keyspace.removeWaiter(for: key) }
    }

    // MARK: Serving

    /// Serves who waits for keys that have changed, in the order of the changes and, for each key, of arrival. What is done
    /// for one (BLMOVE) may make a key ready for another.
    @inline(never)
    mutating func serveBlockedClients() {
        // A script is not done with the keys.
        if isBusy { return }
        while let name = keyspace.takeReadyKey() {
            name.key.withUnsafeBytes { serve(name, keyspace.key($0)) }
        }
        // A key was looked at whose time had passed.
        if keyspace.propagation.isOn { flushPropagation() }
    }

    private mutating func serve(_ name: WatchedKey, _ key: Key) {
        var index = 0
        while let ticket = blocked.ticket(name, at: index), let wait = blocked[ticket] {
            // Who is about to be closed gets nothing: it would be lost.
            if wait.client.isClosing || wait.client.pointee.flags.contains(.disconnected) {
                index += 1
                continue
            }
            keyspace.selected = name.database
            let found = keyspace.peek(key)
            guard let entry = found, entry.type == wait.type else {
                if let error = wait.whenGone {
                    endWait(of: wait.client, with: error)
                } else if found == nil, !blocked.awaitsEnd(of: name) {
                    return
                } else {
                    index += 1
                }
                continue
            }
            if gates.contains(.lockedKeys), touchesLockedKey(wait) {
                blocked.postponed.append(name)
                return
            }
            if !serve(wait, key, entry) { index += 1 }
        }
    }

    /// BLMOVE into a list that is on its way to another server would change what was sent already.
    private mutating func touchesLockedKey(_ wait: KeyWait) -> Bool {
        withRequest(wait.command) { node, request in
            node.touchesLockedKey(request, command: wait.command.command)
        }
    }

    /// - Returns: whether the client goes on.
    private mutating func serve(_ wait: KeyWait, _ key: Key, _ entry: Entry) -> Bool {
        let client = wait.client
        let replyStart = client.pointee.reply.count
        let isServed = withRequest(wait.command) { node, request in
            let changesBefore = node.keyspace.changes
            var isServed = true
            do throws(ReplyError) {
                isServed = try wait.serve(request, key, entry, &node.keyspace, &client.pointee.reply)
            } catch {
                node.fail(error, index: wait.command.command, client)
            }
            node.silence(client, from: replyStart)
            if node.keyspace.hasEvents { node.tellKeyEvents(by: client) }
            if node.keyspace.propagation.isOn {
                node.propagate(request, changed: node.keyspace.changes != changesBefore, client)
            }
            return isServed
        }
        guard isServed else { return false }
        unpark(client)
        return true
    }

    /// The keys of a transfer are free again.
    mutating func retryPostponedWaits() {
        for name in blocked.postponed { keyspace.noteReady(name) }
        blocked.postponed.removeAll()
    }

    // MARK: Ending

    private func wait(of client: ClientPointer) -> KeyWait? {
        guard case .keys(let ticket) = client.pointee.parked else { return nil }
        return blocked[ticket]
    }

    /// - Parameter error: nil for the answer of a wait whose time is over.
    mutating func endWait(of client: ClientPointer, with error: ReplyError?) {
        guard let wait = wait(of: client) else { return }
        let replyStart = client.pointee.reply.count
        if let error { fail(error, index: wait.command.command, client) } else { client.pointee.reply.nullArray() }
        silence(client, from: replyStart)
        unpark(client)
    }

    /// Ends the waits whose time is over.
    mutating func endExpiredWaits() {
        while let wait = blocked.takeExpired(now: time.unixMilliseconds) { endWait(of: wait.client, with: nil) }
    }

    /// Milliseconds from now until a wait may be over; nil if none has an end. For the reactor's sleep.
    ///
    /// - Parameter monotonicNow: milliseconds.
    package mutating func millisecondsToDeadline(monotonicNow: Int64) -> Int64? {
        guard let deadline = blocked.nextDeadline else { return nil }
        return max(0, deadline - time.unixMilliseconds - (monotonicNow - time.monotonicMilliseconds))
    }

    /// Sends clients away whose slot is served elsewhere, or nowhere. (clusterRedirectBlockedClientIfNeeded)
    mutating func redirectBlockedClients(_ view: ClusterView) {
        // It is about to follow a primary, which ends all waits.
        if view.isReplica, !isFollowing { return }
        for wait in blocked.all {
            guard let key = wait.keys.first else { continue }
            let slot = key.key.withUnsafeBytes { HashSlot.of($0) }
            let isRead = !commands.hot[wait.command.command].flags.contains(.write)
            let redirection = view.redirectionOfBlockedClient(
                slot: slot, mayReadHere: isRead && wait.client.pointee.flags.contains(.readOnly))
            if redirection == .serve { continue }
            endWait(of: wait.client, with: .message(view.errorText(redirection, slot: slot)))
        }
    }
}
