import MartletBase
import MartletCluster
import MartletKeyspace
import MartletRESP

// MULTI … EXEC: a queue of commands that run without another client's command between them.
//
// Queued commands are copied, because the bytes they arrived in are gone by EXEC. Errors while queueing make EXEC refuse;
// errors while running are answers like any other. A command that is answered by another thread or server (CLUSTER …,
// MIGRATE) suspends the transaction until its answer is there. Others run meanwhile, so nothing that touches data may
// follow it: such a command is refused when it is queued, and what is atomic in Redis stays atomic.
//
// WATCH: the keyspace counts the changes of each watched key; EXEC compares. A key that expires counts as changed, also
// where keys are only hidden when their time has passed (a replica, a pause); one that was over at WATCH does not.
//
// The gates of EXEC are those of its commands together: what was allowed when it was queued need not be any longer.
//
// Source: Redis 7.0 multi.c.

/// A command that waits, for EXEC or for a key.
struct QueuedCommand {
    /// The arguments, back to back.
    let bytes: [UInt8]
    let counts: [Int]
    let command: Int

    init(_ request: Request, command: Int) {
        var bytes: [UInt8] = []
        for argument in 0..<request.count { bytes.append(contentsOf: request[argument]) }
        self.bytes = bytes
        counts = (0..<request.count).map { request[$0].count }
        self.command = command
    }
}

/// What a client with MULTI or WATCH carries.
struct Transaction {
    var queue: [QueuedCommand] = []
    /// MULTI was given.
    var isOpen = false
    /// A command could not be queued.
    var isBroken = false
    /// Of the queue; what `client-query-buffer-limit` counts.
    private(set) var argumentBytes = 0
    /// What any queued command has, and what all of them have.
    private(set) var flagsOfAny: CommandFlags = []
    private var flagsOfAll = CommandFlags(rawValue: .max)
    /// The next command to run while EXEC is suspended; nil otherwise.
    var nextCommand: Int?
    var watched: [WatchMark] = []

    /// A key as WATCH found it.
    struct WatchMark {
        let key: WatchedKey
        let version: UInt64
        /// Its time had passed, but it was still there.
        let wasOver: Bool
    }

    mutating func append(_ request: Request, command index: Int, flags: CommandFlags) {
        // It will be refused: what is queued is not kept.
        if !isBroken {
            let command = QueuedCommand(request, command: index)
            argumentBytes += command.bytes.count + command.counts.count * MemoryLayout<Int>.stride
            queue.append(command)
        }
        flagsOfAny.formUnion(flags)
        flagsOfAll.formIntersection(flags)
    }

    /// What the gates go by when EXEC runs. (processCommand) - Parameter flags: of EXEC itself.
    func flagsOfExec(_ flags: CommandFlags) -> CommandFlags {
        flags.union(flagsOfAny.intersection([.write, .readonly, .mayReplicate, .denyOutOfMemory, .noAsyncLoading]))
            .subtracting(CommandFlags([.stale, .loading]).subtracting(flagsOfAll))
    }
}

extension Transaction {
    /// Bytes of queued commands and watched keys, as the allocator counts them. - Complexity: O(commands queued)
    var memoryBytes: Int {
        var bytes = queue.isEmpty ? 0 : Memory.usableBytes(queue.capacity * MemoryLayout<QueuedCommand>.stride)
        for command in queue {
            bytes += Memory.usableBytes(command.bytes.capacity)
            bytes += Memory.usableBytes(command.counts.capacity * MemoryLayout<Int>.stride)
        }
        if watched.isEmpty { return bytes }
        return bytes + Memory.usableBytes(watched.capacity * MemoryLayout<WatchMark>.stride)
    }
}

extension Client {
    /// Why the client's commands are queued instead of run, or EXEC is under way.
    package var isInTransaction: Bool { transaction?.isOpen ?? false }
    /// Commands queued; -1 outside of MULTI, as CLIENT LIST shows it.
    package var queuedCommandCount: Int { transaction.map { $0.isOpen ? $0.queue.count : -1 } ?? -1 }
    package var watchedKeyCount: Int { transaction?.watched.count ?? 0 }
}

extension CommandFamily {
    static let transactions = CommandFamily(.transactions, [.multi, .exec, .discard, .watch, .unwatch])
}

extension Command {
    static let multi = Command(
        "MULTI", since: "1.2.0", arity: .exactly(1),
        flags: [.noScript, .loading, .stale, .fast, .allowBusy], complexity: "O(1)",
        summary: "Mark the start of a transaction block",
        run: .node { request, node, client throws(ReplyError) in
            if client.pointee.isInTransaction { throw .text("ERR MULTI calls can not be nested") }
            var transaction = client.pointee.transaction ?? Transaction()
            transaction.isOpen = true
            client.pointee.transaction = transaction
            client.pointee.flags.insert(.inTransaction)
            client.pointee.reply.ok()
        })

    static let exec = Command(
        "EXEC", since: "1.2.0", arity: .exactly(1),
        flags: [.noScript, .loading, .stale, .skipSlowLog], complexity: "Depends on commands in the transaction",
        summary: "Execute all commands issued after MULTI",
        run: .node { request, node, client throws(ReplyError) in try node.execute(client) })

    static let discard = Command(
        "DISCARD", since: "2.0.0", arity: .exactly(1),
        flags: [.noScript, .loading, .stale, .fast, .allowBusy],
        complexity: "O(N), when N is the number of queued commands",
        summary: "Discard all commands issued after MULTI",
        run: .node { request, node, client throws(ReplyError) in
            guard client.pointee.isInTransaction else { throw .text("ERR DISCARD without MULTI") }
            node.endTransaction(client)
            client.pointee.reply.ok()
        })

    static let watch = Command(
        "WATCH", since: "2.2.0", arity: .atLeast(2), flags: [.noScript, .loading, .stale, .fast, .allowBusy],
        keys: [.all(from: 1, [.readOnly])],
        arguments: "key...",
        complexity: "O(1) for every key.",
        summary: "Watch the given keys to determine execution of the MULTI/EXEC block",
        run: .node { request, node, client throws(ReplyError) in
            if client.pointee.isInTransaction { throw .text("ERR WATCH inside MULTI is not allowed") }
            var transaction = client.pointee.transaction ?? Transaction()
            var known = Set(transaction.watched.map(\.key))
            for index in 1..<request.count {
                let name = WatchedKey(database: client.pointee.database, key: Array(request[index]))
                guard known.insert(name).inserted else { continue }
                // A key that is over already is missing, and stays so: a primary deletes it now.
                let key = request.key(at: index, in: node.keyspace)
                let isMissing = node.keyspace.peek(key) == nil
                transaction.watched.append(
                    Transaction.WatchMark(
                        key: name, version: node.keyspace.watch(name),
                        wasOver: isMissing && node.keyspace.entryEvenIfExpired(key) != nil))
            }
            client.pointee.transaction = transaction
            client.pointee.reply.ok()
        })

    static let unwatch = Command(
        "UNWATCH", since: "2.2.0", arity: .exactly(1), flags: [.noScript, .loading, .stale, .fast, .allowBusy],
        complexity: "O(1)", summary: "Forget about all watched keys",
        run: .node { request, node, client throws(ReplyError) in
            node.forgetWatches(client)
            client.pointee.reply.ok()
        })
}

extension Node {
    // MARK: Queueing

    /// Whether a command runs at once although MULTI was given. (processCommand)
    func runsInsideTransaction(_ index: Int) -> Bool { transactionCommands.contains(index) }

    /// Keeps a command for EXEC.
    @inline(never)
    mutating func queue(_ request: Request, command index: Int, _ client: ClientPointer) {
        var flags = commands.hot[index].flags
        if flags.contains(.runsScript) { flags = scriptFlags(of: request, command: index).applied(to: flags) }
        client.pointee.transaction?.append(request, command: index, flags: flags)
        // SKIP was given before MULTI, and held for that.
        if !client.pointee.flags.contains(.replyOff) { client.pointee.reply.simple("QUEUED") }
        // What is queued was received, and not executed yet. (Valkey 8)
        guard let bytes = client.pointee.transaction?.argumentBytes, bytes > configuration.clientQueryBufferLimit else {
            return
        }
        Log.warning("Closing client that reached max query buffer length: \(description(of: client))")
        client.pointee.flags.insert(.closeNow)
        effects.append(.close(client))
    }

    /// Whether a command would see or change data after others had their turn in the middle of its transaction.
    func wouldRunAfterWaiting(_ flags: CommandFlags, _ client: ClientPointer) -> Bool {
        !flags.isDisjoint(with: .touchesData) && client.pointee.transaction?.flagsOfAny.contains(.waits) ?? false
    }

    /// An error before execution breaks an open transaction. (flagTransaction)
    func breakTransaction(_ client: ClientPointer) {
        if client.pointee.isInTransaction { client.pointee.transaction?.isBroken = true }
    }

    /// Forgets queue and watches: after EXEC and DISCARD, at RESET, and when the client goes.
    mutating func endTransaction(_ client: ClientPointer) {
        forgetWatches(client)
        client.pointee.transaction = nil
        client.pointee.flags.remove(.inTransaction)
    }

    mutating func forgetWatches(_ client: ClientPointer) {
        guard let transaction = client.pointee.transaction, !transaction.watched.isEmpty else { return }
        for mark in transaction.watched { keyspace.unwatch(mark.key) }
        client.pointee.transaction?.watched = []
    }

    /// Whether a watched key has changed, or is over by now. (CLIENT_DIRTY_CAS, isWatchedKeyExpired)
    func hasStaleWatches(_ client: ClientPointer) -> Bool {
        guard let transaction = client.pointee.transaction else { return false }
        return transaction.watched.contains { mark in
            mark.key.key.withUnsafeBytes { name in
                let entry = keyspace.entryEvenIfExpired(keyspace.key(name), database: mark.key.database)
                if mark.wasOver, entry == nil { return false }
                if keyspace.watchVersion(mark.key) != mark.version { return true }
                return !mark.wasOver && entry.map { keyspace.isExpired($0) } ?? false
            }
        }
    }

    // MARK: EXEC

    /// EXEC itself was refused: the transaction is over, if there was one. (execCommandAbort)
    mutating func abortTransaction(_ client: ClientPointer, because error: ReplyError) -> ReplyError {
        endTransaction(client)
        let reason = error.string.hasPrefix("ERR ") ? String(error.string.dropFirst(4)) : error.string
        return .message("EXECABORT Transaction discarded because of: \(reason)")
    }

    fileprivate mutating func execute(_ client: ClientPointer) throws(ReplyError) {
        guard let transaction = client.pointee.transaction, transaction.isOpen else {
            throw .text("ERR EXEC without MULTI")
        }
        if transaction.isBroken {
            endTransaction(client)
            throw .text("EXECABORT Transaction discarded because of previous errors.")
        }
        if hasStaleWatches(client) {
            endTransaction(client)
            client.pointee.reply.nullArray()
            return
        }
        forgetWatches(client)
        client.pointee.flags.remove(.inTransaction)
        client.pointee.flags.insert(.executing)
        client.pointee.reply.array(transaction.queue.count)
        client.pointee.transaction?.nextCommand = 0
        continueTransaction(client)
        // What it ran is in the log already.
        if keyspace.propagation.isOn { keyspace.propagation.replacesCommand = true }
    }

    /// Whether EXEC has to wait for a key that is on its way to another server.
    mutating func transactionTouchesLockedKey(_ client: ClientPointer) -> Bool {
        guard let transaction = client.pointee.transaction, transaction.isOpen else { return false }
        var isLocked = false
        for queued in transaction.queue where !isLocked {
            withRequest(queued) { node, request in
                isLocked = node.touchesLockedKey(request, command: queued.command)
            }
        }
        return isLocked
    }

    /// All queued commands must be served here, and in one slot; else the transaction is over, and the client is told where
    /// to go. (getNodeByQuery)
    mutating func redirectTransaction(_ client: ClientPointer) -> ReplyError? {
        guard let front = clusterFront, let transaction = client.pointee.transaction, transaction.isOpen else {
            return nil
        }
        var slot: HashSlot?
        var isCrossSlot = false
        for queued in transaction.queue {
            withRequest(queued) { node, request in
                for index in node.keyIndexes(of: request, command: queued.command) {
                    let own = HashSlot.of(request[index])
                    if slot != nil, slot != own { isCrossSlot = true }
                    slot = own
                }
            }
        }
        guard let slot, isCrossSlot || !front.view.serves(slot) else { return nil }
        let decision =
            isCrossSlot ? .crossSlot : front.view.redirection(for: question(about: slot, transaction, client))
        if decision == .serve { return nil }
        endTransaction(client)
        return .message(front.view.errorText(decision, slot: slot))
    }

    /// What decides where a transaction is served: the keys of all its commands count together.
    private mutating func question(
        about slot: HashSlot, _ transaction: Transaction, _ client: ClientPointer
    ) -> Redirection.Request {
        var keys: Set<[UInt8]> = []
        for queued in transaction.queue where queued.command != migrateCommand {
            if commands.hot[queued.command].flags.contains(.pubsub) { continue }
            withRequest(queued) { node, request in
                keys.formUnion(node.keyIndexes(of: request, command: queued.command).map { Array(request[$0]) })
            }
        }
        var question = Redirection.Request(slot: slot)
        question.isWrite = transaction.flagsOfAny.contains(.write)
        question.isPubSubShard = keys.isEmpty
        question.isAsking = client.pointee.flags.contains(.asking)
        question.isReadOnlyClient = client.pointee.flags.contains(.readOnly)
        question.hasManyKeys = keys.count > 1
        keyspace.selected = 0
        for key in keys {
            let isHere = key.withUnsafeBytes { keyspace.peek(keyspace.key($0, slot: slot.rawValue)) != nil }
            if isHere { question.existingKeyCount += 1 } else { question.missingKeyCount += 1 }
        }
        return question
    }

    /// Runs queued commands until all are done or one has to wait.
    mutating func continueTransaction(_ client: ClientPointer) {
        guard let transaction = client.pointee.transaction, var next = transaction.nextCommand else { return }
        if keyspace.propagation.isOn { beginPropagationUnit() }
        while next < transaction.queue.count, !client.isParked {
            let queued = transaction.queue[next]
            next += 1
            withRequest(queued) { node, request in node.callQueued(request, index: queued.command, client) }
        }
        // A script that goes on in later turns is still within it.
        if isInPropagationUnit, client.pointee.parked != .script { endPropagationUnit(client) }
        if next == transaction.queue.count, !client.isParked {
            client.pointee.transaction = nil
            client.pointee.flags.remove(.executing)
        } else {
            client.pointee.transaction?.nextCommand = next
        }
    }

    /// Hands a queued command out as a request.
    mutating func withRequest<Result>(_ queued: QueuedCommand, _ body: (inout Node, Request) -> Result) -> Result {
        queued.bytes.withUnsafeBytes { bytes in
            withUnsafeTemporaryAllocation(of: UnsafeRawBufferPointer.self, capacity: queued.counts.count) { arguments in
                var offset = 0
                for (index, count) in queued.counts.enumerated() {
                    let argument =
                        count == 0
                        ? UnsafeRawBufferPointer(start: nil, count: 0)
                        : UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + count)])
                    (arguments.baseAddress! + index).initialize(to: argument)
                    offset += count
                }
                var request = Request(arguments: arguments.baseAddress!, count: queued.counts.count)
                let firstKey = Int(commands.hot[queued.command].firstKey)
                if firstKey > 0, firstKey < request.count {
                    request.keyHash = keyspace.hash(request[firstKey])
                    if isClustered { request.slot = HashSlot.of(request[firstKey]).rawValue }
                }
                return body(&self, request)
            }
        }
    }
}
