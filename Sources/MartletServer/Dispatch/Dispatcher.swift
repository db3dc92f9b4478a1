import MartletBase
import MartletCluster
import MartletKeyspace
import MartletRESP

// The way of a batch through the node.
//
// `RequestPreparer` runs over freshly parsed requests: it finds each command and hashes its first key. `execute` then runs
// the requests in order, and fetches what later ones will read into the cache. The gates of one request are listed in
// `run`, in Redis' order (server.c, processCommand); in the common case a single test finds that none of them applies.

extension Node {
    package var preparer: RequestPreparer {
        RequestPreparer(
            names: commands.callable, hot: UnsafePointer(commands.hot), seed: keyspace.seed, isClustered: isClustered)
    }

    package func prepare(_ batch: borrowing RequestBatch, from first: Int) { preparer.prepare(batch, from: first) }

    // A key costs two cache misses, its bucket and its entry, and the address of the second comes out of the first. So while
    // one request is executed, the bucket of a later one is fetched and, nearer, the entry that its bucket leads to: the
    // misses of a dozen requests overlap. Near enough that the lines are still in the nearest cache when they are needed.
    private static var bucketsAhead: Int { 32 }
    private static var entriesAhead: Int { 12 }

    @inline(__always)
    private mutating func prefetchBucket(
        of request: UnsafeMutablePointer<ParsedRequest>, _ chunks: UnsafeMutablePointer<Chunk>
    ) {
        if request.pointee.keyHash == 0 { return }
        let client = (chunks + request.pointee.chunk).pointee.client.assumingMemoryBound(to: Client.self)
        keyspace.prefetchBucket(
            database: client.pointee.database, hash: request.pointee.keyHash, table: Int(request.pointee.slot))
    }

    @inline(__always)
    private mutating func prefetchEntry(
        of request: UnsafeMutablePointer<ParsedRequest>, _ chunks: UnsafeMutablePointer<Chunk>
    ) {
        if request.pointee.keyHash == 0 { return }
        let client = (chunks + request.pointee.chunk).pointee.client.assumingMemoryBound(to: Client.self)
        keyspace.prefetchEntry(
            database: client.pointee.database, hash: request.pointee.keyHash, table: Int(request.pointee.slot))
    }

    /// Fetches what the first requests of a batch will read.
    @inline(__always)
    mutating func prefetchFirst(_ batch: borrowing RequestBatch) {
        for ahead in 0..<min(batch.count, Self.bucketsAhead) {
            prefetchBucket(of: batch.requests + ahead, batch.chunks)
        }
        for ahead in 0..<min(batch.count, Self.entriesAhead) { prefetchEntry(of: batch.requests + ahead, batch.chunks) }
    }

    /// Fetches what requests behind that at `index`, which is about to run, will read.
    @inline(__always)
    mutating func prefetch(
        behind index: Int, _ requests: UnsafeMutablePointer<ParsedRequest>, _ chunks: UnsafeMutablePointer<Chunk>,
        count: Int
    ) {
        if index &+ Self.bucketsAhead < count {
            prefetchBucket(of: requests + (index &+ Self.bucketsAhead), chunks)
        }
        if index &+ Self.entriesAhead < count {
            prefetchEntry(of: requests + (index &+ Self.entriesAhead), chunks)
        }
    }

    /// Runs every request of the batch. A chunk whose client was parked or closed keeps the rest of its bytes.
    package mutating func execute(_ batch: borrowing RequestBatch) {
        let requests = batch.requests
        let chunks = batch.chunks
        var index = 0
        let count = batch.count
        prefetchFirst(batch)
        while index < count {
            let parsed = requests + index
            prefetch(behind: index, requests, chunks, count: count)
            index &+= 1
            let chunk = chunks + parsed.pointee.chunk
            if chunk.pointee.isStopped { continue }
            let client = chunk.pointee.client.assumingMemoryBound(to: Client.self)
            if client.isClosing {
                chunk.pointee.isStopped = true
                continue
            }
            guard case .none = parsed.pointee.error else {
                if parsed.pointee.error.isForUnauthenticated, client.isAuthenticated {
                    // AUTH came in the same bytes: what follows it is parsed again, by the limits that hold now.
                    chunk.pointee.isStopped = true
                    chunk.pointee.consumed = parsed.pointee.start
                    effects.append(.resume(client))
                    continue
                }
                refuse(parsed.pointee, client)
                chunk.pointee.isStopped = true
                continue
            }
            let request = Request(
                arguments: batch.arguments + parsed.pointee.firstArgument, count: parsed.pointee.argumentCount,
                keyHash: parsed.pointee.keyHash, slot: parsed.pointee.slot)
            let isDone = run(request, command: parsed.pointee.command, client)
            if client.isParked || client.isClosing {
                chunk.pointee.isStopped = true
                chunk.pointee.consumed = isDone ? parsed.pointee.end : parsed.pointee.start
            }
        }
    }

    /// One request through all gates. - Returns: false if it has to run again when the client is no longer parked.
    @inline(__always)
    private mutating func run(_ request: Request, command index: Int, _ client: ClientPointer) -> Bool {
        guard index >= 0 else {
            if isWebRequest(request) { closeAttacker(client) } else { reject(unknownCommand(request), client) }
            return true
        }
        let command = commands.hot + index
        client.pointee.lastInteraction = keyspace.now
        client.pointee.lastCommand = index
        if command.pointee.isContainer { return runContainer(request, command: index, client) }
        return run(request, command, index: index, client)
    }

    @inline(never)
    private mutating func runContainer(_ request: Request, command index: Int, _ client: ClientPointer) -> Bool {
        guard request.count > 1 else {
            // A container that also works alone (COMMAND) has a handler of its own.
            if commands.hot[index].node != nil { return run(request, commands.hot + index, index: index, client) }
            turnAway(command: index, because: .wrongArgumentCount(commands.fullNames[index]), client)
            return true
        }
        guard let subcommand = commands.subcommandIndex(of: request[1], container: index) else {
            let name = commands.fullNames[index]
            let subcommand = ReplyError.quoted(UnsafeRawBufferPointer(rebasing: request[1].prefix(128)))
            reject(.unknownSubcommand(subcommand, of: name.uppercased()), client)
            return true
        }
        var request = request
        let hot = commands.hot + subcommand
        client.pointee.lastCommand = subcommand
        if hot.pointee.firstKey > 0, Int(hot.pointee.firstKey) < request.count {
            let key = request[Int(hot.pointee.firstKey)]
            request.keyHash = keyspace.hash(key)
            if isClustered { request.slot = HashSlot.of(key).rawValue }
        }
        return run(request, hot, index: subcommand, client)
    }

    @inline(__always)
    private mutating func run(
        _ request: Request, _ command: UnsafeMutablePointer<HotCommand>, index: Int, _ client: ClientPointer
    ) -> Bool {
        let arity = Int(command.pointee.arity)
        if arity > 0 ? request.count != arity : request.count < -arity {
            refuseCount(of: request, command: index, client)
            return true
        }
        if !isOpen(request, command, client) {
            switch admit(request, command, index: index, client) {
            case .run: break
            case .done: return true
            case .wait: return false
            }
            if client.pointee.flags.contains(.inTransaction), !runsInsideTransaction(index) {
                if wouldRunAfterWaiting(command.pointee.flags, client) {
                    reject(.text("ERR Command not allowed inside a transaction"), client)
                } else {
                    queue(request, command: index, client)
                }
                return true
            }
            if client.pointee.flags.isDisjoint(with: .unusual) {
                callBehindGates(request, command, index: index, client)
            } else {
                runUnusual(request, command, index: index, client)
            }
            if gates.contains(.monitored) { showToMonitors(request, command: index, client) }
            if keyspace.hasReadyKeys { serveBlockedClients() }
            if client.pointee.flags.contains(.hasDeferredMessages) { deliverDeferred(to: client) }
            return true
        }
        call(request, command, index: index, client)
        if keyspace.hasReadyKeys { serveBlockedClients() }
        if client.pointee.flags.contains(.hasDeferredMessages) { deliverDeferred(to: client) }
        return true
    }

    /// A command of our primary's stream. Only what changes data or is passed on to clients has a meaning there.
    mutating func runStreamed(_ request: Request, command index: Int, _ client: ClientPointer) {
        guard index >= 0 else { return fail(streamed: unknownCommand(request), request) }
        var named = index
        if commands.hot[index].isContainer, request.count > 1,
            let subcommand = commands.subcommandIndex(of: request[1], container: index)
        {
            named = subcommand
        }
        // MIGRATE is passed on as the deletion that it ends with.
        let isMeant =
            !commands.hot[named].flags.isDisjoint(with: [.write, .mayReplicate]) && index != migrateCommand
        if isMeant {
            _ = run(request, command: index, client)
        } else if gates.contains(.monitored) {
            showToMonitors(request, command: named, client)
        }
    }

    @inline(never)
    private func fail(streamed error: ReplyError, _ request: Request) {
        Log.warning(
            "== CRITICAL == This replica is sending an error to its master: '\(error.string)' after processing the command '\(String(bytes: UnsafeRawBufferPointer(rebasing: request[0].prefix(128))))'"
        )
    }

    /// The common case: no gate applies to this request.
    @inline(__always)
    private func isOpen(
        _ request: Request, _ command: UnsafeMutablePointer<HotCommand>, _ client: ClientPointer
    ) -> Bool {
        let flags = client.pointee.flags
        if !flags.isDisjoint(with: .unusual) || !flags.contains(.authenticated) { return false }
        if gates.isEmpty { return true }
        // In a cluster, one key in a slot that is served here.
        guard gates == .cluster, let slotStates, !command.pointee.hasMovableKeys,
            command.pointee.firstKey == command.pointee.lastKey, Int(command.pointee.firstKey) < request.count
        else { return false }
        if command.pointee.firstKey == 0 { return true }
        return slotStates[Int(request.slot)] & ClusterView.SlotState.served.rawValue != 0
    }

    /// Runs the handler and propagates what it changed.
    @inline(__always)
    private mutating func call(
        _ request: Request, _ command: UnsafeMutablePointer<HotCommand>, index: Int, _ client: ClientPointer
    ) {
        let changesBefore = keyspace.changes
        statistics.commandsProcessed &+= 1
        let isTimed = (commandStatistics + index).pointee.calls & command.pointee.timingMask == 0
        let start = isTimed ? readClock() : 0
        (commandStatistics + index).pointee.calls &+= 1
        keyspace.selected = client.pointee.database
        runningClient = client
        do throws(ReplyError) {
            if let handler = command.pointee.data {
                try handler(request, &keyspace, &client.pointee.reply)
            } else if let handler = command.pointee.node {
                try handler(request, &self, client)
            }
        } catch {
            fail(error, index: index, client)
            if client.pointee.flags.contains(.primary) { fail(streamed: error, request) }
        }
        if isTimed { recordTime(since: start, index: index) }
        if keyspace.hasEvents {
            tellKeyEvents(by: client.pointee.flags.contains(.script) ? scripts.run.pointee.caller : client)
        }
        if keyspace.propagation.isOn { propagate(request, changed: keyspace.changes != changesBefore, client) }
    }

    /// Out of line: what `run` calls without gates shall be the only copy in it.
    @inline(never)
    private mutating func callBehindGates(
        _ request: Request, _ command: UnsafeMutablePointer<HotCommand>, index: Int, _ client: ClientPointer
    ) {
        call(request, command, index: index, client)
    }

    /// A command of an EXEC: it passed the gates when it was queued.
    mutating func callQueued(_ request: Request, index: Int, _ client: ClientPointer) {
        call(request, commands.hot + index, index: index, client)
        if client.pointee.flags.contains(.tracking), commands.hot[index].flags.readsKeys {
            rememberKeys(of: request, command: index, client)
        }
        if gates.contains(.monitored) { showToMonitors(request, command: index, client) }
    }

    /// A command of a script, which has checked it.
    ///
    /// - Parameters:
    ///   - client: stands for the script, and gets the reply.
    ///   - caller: who runs the script.
    mutating func callScripted(_ request: Request, index: Int, _ client: ClientPointer, caller: ClientPointer) {
        let recordsAccess = keyspace.recordsAccess
        keyspace.recordsAccess = !client.pointee.flags.contains(.noTouch)
        call(request, commands.hot + index, index: index, client)
        runningClient = caller
        keyspace.recordsAccess = recordsAccess
        if commands.hot[index].flags.readsKeys, let tracked = scripts.run.pointee.tracked {
            // Redis 7.0 remembers what the script declares, whatever it reads.
            withRequest(tracked) { node, request in node.rememberKeys(of: request, command: tracked.command, caller) }
        }
        if gates.contains(.monitored), commands.hot[index].flags.isDisjoint(with: [.admin, .skipMonitor]) {
            feedMonitors(request, command: index, client, isScripts: true)
        }
    }

    // MARK: Gates

    private enum Admission {
        case run
        /// The client has its answer.
        case done
        case wait
    }

    /// Asks at the gates, and answers a client that has to stay outside.
    @inline(never)
    private mutating func admit(
        _ request: Request, _ command: UnsafeMutablePointer<HotCommand>, index: Int, _ client: ClientPointer
    ) -> Admission {
        switch pass(request, command, index: index, client) {
        case .open: return .run
        case .refused(let error): refuse(request, command: index, because: error, client)
        case .redirected(let error): turnAway(command: index, because: error, client)
        case .wait: return .wait
        }
        return .done
    }

    private enum Passage {
        case open
        case refused(ReplyError)
        /// It is served elsewhere.
        case redirected(ReplyError)
        case wait
    }

    /// The gates, in the order in which Redis checks them.
    @inline(never)
    private mutating func pass(
        _ request: Request, _ command: UnsafeMutablePointer<HotCommand>, index: Int, _ client: ClientPointer
    ) -> Passage {
        var flags = command.pointee.flags
        if flags.contains(.runsScript) { flags = scriptFlags(of: request, command: index).applied(to: flags) }
        if index == execCommand, let transaction = client.pointee.transaction { flags = transaction.flagsOfExec(flags) }
        let isWrite = flags.contains(.write)
        let isPrimaryLink = client.pointee.flags.contains(.primary)
        if !client.isAuthenticated, !flags.contains(.noAuth) {
            return .refused(.text("NOAUTH Authentication required."))
        }
        if flags.contains(.noMulti), client.pointee.flags.contains(.inTransaction) {
            return .refused(.text("ERR Command not allowed inside a transaction"))
        }
        // What our primary sends was accepted there.
        if isPrimaryLink { return .open }
        if gates.contains(.cluster),
            let error = index == execCommand
                ? redirectTransaction(client) : redirect(request, command, index: index, client)
        {
            return .redirected(error)
        }
        if client.pointee.flags.contains(.followsRedirection), let error = redirectToPrimary(flags, client) {
            if index == execCommand { endTransaction(client) }
            return .redirected(error)
        }
        if gates.contains(.fewReplicas), isWrite, !gates.contains(.replica), !hasEnoughReplicas {
            return .refused(.text("NOREPLICAS Not enough good replicas to write."))
        }
        if gates.contains(.replica) {
            if isWrite, configuration.isReplicaReadOnly {
                return .refused(.text("READONLY You can't write against a read only replica."))
            }
        }
        if client.pointee.flags.contains(.subscriber), !client.pointee.reply.isRESP3,
            !subscriberCommands.contains(index)
        {
            return .refused(
                .message(
                    "ERR Can't execute '\(commands.fullNames[index])': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
                ))
        }
        if gates.contains(.replica) {
            if !flags.contains(.stale), !configuration.replicaServesStaleData, !isPrimaryLinkUp {
                return .refused(
                    .text("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."))
            }
        }
        if gates.contains(.loading), !flags.contains(.loading) {
            return .refused(.text("LOADING Redis is loading the dataset in memory"))
        }
        if gates.contains(.busy), !flags.contains(.allowBusy) { return .refused(busyError) }
        // They are not held back by a pause, so they must not reach what it protects.
        if !client.pointee.flags.isDisjoint(with: [.replica, .monitor]), !flags.isDisjoint(with: .touchesData) {
            return .refused(.text("ERR Replica can't interact with the keyspace"))
        }
        if gates.contains(.lockedKeys),
            index == execCommand ? transactionTouchesLockedKey(client) : touchesLockedKey(request, command: index)
        {
            park(client, .migratingKey)
            return .wait
        }
        if gates.contains(.paused), client.pointee.flags.isDisjoint(with: [.replica, .monitor]),
            pauses.holdsAll || isWrite || flags.contains(.mayReplicate)
        {
            park(client, .pause)
            return .wait
        }
        return .open
    }

    /// A command of a client whose replies are not simply sent, or that asked for special treatment.
    @inline(never)
    private mutating func runUnusual(
        _ request: Request, _ command: UnsafeMutablePointer<HotCommand>, index: Int, _ client: ClientPointer
    ) {
        let replyStart = client.pointee.reply.count
        // CLIENT REPLY SKIP silences the command after it: this one, if it came before.
        if client.pointee.flags.contains(.replySkipNext) {
            client.pointee.flags.remove(.replySkipNext)
            client.pointee.flags.insert(.replySkip)
        }
        let hadAsking = client.pointee.flags.contains(.asking)
        let wasReplica = client.pointee.flags.contains(.replica)
        keyspace.recordsAccess = !client.pointee.flags.contains(.noTouch)
        // Nothing that is imported is over before the import is.
        let isImport = configuration.isImporting && client.pointee.flags.contains(.importSource)
        if isImport { keyspace.expiryMode = .ignore }
        call(request, command, index: index, client)
        keyspace.recordsAccess = true
        if isImport { updateExpiryMode() }
        // It holds for the next command, or for the whole of a transaction.
        if hadAsking || index == execCommand, !client.pointee.flags.contains(.inTransaction) {
            client.pointee.flags.remove(.asking)
        }
        if client.pointee.flags.contains(.tracking) {
            if command.pointee.flags.readsKeys { rememberKeys(of: request, command: index, client) }
            // So does this.
            if !clientSubcommands.contains(index), !client.pointee.isInTransaction {
                client.pointee.flags.remove(.caching)
            }
        }
        let flags = client.pointee.flags
        if wasReplica, client.pointee.reply.count > replyStart {
            client.pointee.reply.truncate(to: replyStart)
            dropTalkingReplica(client)
        }
        // Confirmations of subscriptions are messages, not replies.
        if !flags.isDisjoint(with: [.silent, .replyOff, .replySkip]), !subscribingCommands.contains(index) {
            client.pointee.reply.truncate(to: min(replyStart, client.pointee.reply.count))
        }
        // Of a command that waits, the reply is still to come.
        if !client.isParked { client.pointee.flags.remove(.replySkip) }
    }

    /// A reply would stand in the middle of a replica's stream. (logInvalidUseAndFreeClientAsync)
    private mutating func dropTalkingReplica(_ client: ClientPointer) {
        let command = client.pointee.lastCommand < 0 ? "" : commands.fullNames[client.pointee.lastCommand]
        Log.warning("Replica generated a reply to command '\(command)', disconnecting it")
        client.pointee.flags.insert(.closeNow)
        effects.append(.close(client))
    }

    /// A gate is closed for this request.
    @inline(never)
    private mutating func refuse(
        _ request: Request, command index: Int, because error: ReplyError, _ client: ClientPointer
    ) {
        var error = error
        if index == execCommand {
            error = abortTransaction(client, because: error)
            // Whoever saw the MULTI shall see that it is over.
            feedMonitors(request, command: index, client)
        }
        turnAway(command: index, because: error, client)
    }

    @inline(never)
    private mutating func turnAway(command index: Int, because error: ReplyError, _ client: ClientPointer) {
        reject(error, client)
        commandStatistics[index].rejectedCalls += 1
    }

    @inline(never)
    private mutating func refuseCount(of request: Request, command index: Int, _ client: ClientPointer) {
        refuse(request, command: index, because: .wrongArgumentCount(commands.fullNames[index]), client)
    }

    // MARK: Errors

    @inline(never)
    mutating func fail(_ error: ReplyError, index: Int, _ client: ClientPointer) {
        commandStatistics[index].failedCalls += 1
        countError(error)
        client.pointee.reply.error(error)
    }

    /// An error before execution.
    @inline(never)
    private mutating func reject(_ error: ReplyError, _ client: ClientPointer) {
        countError(error)
        breakTransaction(client)
        // They were given for this command.
        if !client.pointee.isInTransaction { client.pointee.flags.subtract([.asking, .caching]) }
        if client.isReplica {
            dropTalkingReplica(client)
        } else if client.pointee.flags.isDisjoint(with: [.silent, .replyOff, .replySkipNext]) {
            client.pointee.reply.error(error)
        }
        client.pointee.flags.remove(.replySkipNext)
    }

    mutating func countError(_ error: ReplyError) {
        statistics.errorReplies += 1
        let prefix = String(error.string.prefix { $0 != " " })
        // A bound on what hostile scripts could fill memory with. (ERROR_STATS_NUMBER)
        if statistics.errorsByPrefix.count < 128 || statistics.errorsByPrefix[prefix] != nil {
            statistics.errorsByPrefix[prefix, default: 0] += 1
        }
    }

    /// A protocol error: the client is told and closed.
    private mutating func refuse(_ parsed: ParsedRequest, _ client: ClientPointer) {
        let text: String
        switch parsed.error {
        case .none: return
        case .invalidMultibulkLength: text = "invalid multibulk length"
        case .invalidBulkLength: text = "invalid bulk length"
        case .expectedDollar:
            text = "expected '$', got '\(Character(Unicode.Scalar(parsed.errorByte)))'"
        case .unbalancedQuotes: text = "unbalanced quotes in request"
        case .tooBigInlineRequest: text = "too big inline request"
        case .tooBigMultibulkCount: text = "too big mbulk count string"
        case .tooBigBulkCount: text = "too big bulk count string"
        case .unauthenticatedMultibulkLength: text = "unauthenticated multibulk length"
        case .unauthenticatedBulkLength: text = "unauthenticated bulk length"
        }
        reject(.message("ERR Protocol error: \(text)"), client)
        client.pointee.flags.insert(.closeAfterReply)
    }

    /// A web browser that somebody's page made talk to us. (securityWarningCommand)
    private func isWebRequest(_ request: Request) -> Bool { request.matches(0, "POST") || request.matches(0, "HOST:") }

    private mutating func closeAttacker(_ client: ClientPointer) {
        if time.monotonicMilliseconds - attackLoggedAt > 60_000 {
            attackLoggedAt = time.monotonicMilliseconds
            Log.warning(
                "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis. This is likely due to an attacker attempting to use Cross Protocol Scripting to compromise your Redis instance. Connection aborted."
            )
        }
        client.pointee.flags.insert(.closeNow)
        effects.append(.close(client))
    }

    /// (rejectCommandFormat, 128 bytes of arguments)
    private func unknownCommand(_ request: Request) -> ReplyError {
        var text = ""
        for index in 1..<max(request.count, 1) where text.utf8.count < 128 {
            let left = 128 - text.utf8.count
            text += "'" + ReplyError.quoted(UnsafeRawBufferPointer(rebasing: request[index].prefix(left))) + "' "
        }
        let name = ReplyError.quoted(UnsafeRawBufferPointer(rebasing: request[0].prefix(128)))
        return .message("ERR unknown command '\(name)', with args beginning with: \(text)")
    }
}

extension ProtocolError {
    /// Whether it is one only before AUTH.
    fileprivate var isForUnauthenticated: Bool {
        self == .unauthenticatedMultibulkLength || self == .unauthenticatedBulkLength
    }
}
