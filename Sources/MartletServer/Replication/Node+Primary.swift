import MartletBase
import MartletKeyspace
import MartletPersistence
import MartletRESP
import MartletReplication

// The replica's side of replication: following a primary.
//
// The reactor owns the socket and tells what happens to it; the session (`ReplicaSession`) speaks the protocol; here is
// what it means for the data. An image goes straight into the tables as it arrives, some hundred kilobytes a turn; until it
// is complete, clients are told -LOADING. The stream is executed like a client's commands, by a client without a
// connection, and its bytes are appended to our own log as they are applied.
//
// A transaction of the stream is held back until its EXEC has arrived: if the link breaks in between, the new link asks
// for it again from its MULTI.

extension Node {
    // MARK: The link

    /// Whether the link is still wanted that was asked for by ``NodeEffect/connectToPrimary(host:port:)``.
    package func wantsPrimaryLink(host: String, port: Int) -> Bool {
        guard let primary = replication.primary else { return false }
        return primary.host == host && primary.port == port && primary.session.state == .connecting
    }

    /// The connection stands.
    package mutating func primaryLinkOpened() {
        guard let primary = replication.primary, primary.session.state == .connecting else { return }
        Log.notice("Non blocking connect for SYNC fired the event.")
        primary.session.linkOpened(now: time.monotonicMilliseconds)
    }

    /// The connection could not be made, or broke.
    package mutating func primaryLinkClosed(reason: String) {
        guard let primary = replication.primary else { return }
        if case .disconnected = primary.session.state { return }
        switch primary.session.state {
        case .connecting: Log.warning("Error condition on socket for SYNC: \(reason)")
        case .streaming: Log.notice("Connection with master lost.")
        default: Log.warning("The link to the primary broke during synchronization: \(reason)")
        }
        endLink(primary)
        driveSession()
    }

    /// To be sent to the primary; then tell ``primaryLinkTook(count:)``. Valid until the node is used again.
    package var primaryLinkOutput: UnsafeRawBufferPointer {
        replication.primary?.session.output.bytes ?? UnsafeRawBufferPointer(start: nil, count: 0)
    }

    package mutating func primaryLinkTook(count: Int) { replication.primary?.session.output.removeFirst(count) }

    /// What a broken or closed link leaves behind.
    mutating func endLink(_ primary: FollowedPrimary) {
        if primary.session.isStreaming { primary.lastContact = primary.session.heardAt }
        if case .disconnected = primary.session.state {
        } else {
            primary.session.linkClosed(now: time.monotonicMilliseconds)
        }
        primary.forgetStream()
        if let client = primary.client {
            primary.client = nil
            remove(client)
        }
        if primary.isPartlyLoaded {
            primary.isPartlyLoaded = false
            // Half an image is worse than nothing.
            emptyKeyspace()
            functions = nil
            setGate(.loading, false)
        }
    }

    /// Gives the session its time: connects, reconnects, acknowledges, gives up.
    mutating func driveSession() {
        guard let primary = replication.primary else { return }
        switch primary.session.tick(now: time.monotonicMilliseconds) {
        case .none: break
        case .connect:
            Log.notice("Connecting to MASTER \(primary.host):\(primary.port)")
            Log.notice("MASTER <-> REPLICA sync started")
            effects.append(.connectToPrimary(host: primary.host, port: primary.port))
        case .disconnect(let failure): failLink(primary, failure)
        }
    }

    private mutating func failLink(_ primary: FollowedPrimary, _ failure: ReplicaSession.Failure) {
        switch failure {
        case .refused(let text): Log.warning("Error reply from the primary: '\(text)'")
        case .notReady(let text): Log.notice("Master is currently unable to PSYNC but should be in the future: \(text)")
        case .authentication(let text): Log.warning("Unable to AUTH to MASTER: \(text)")
        case .badReply(let text): Log.warning("Unexpected reply from the primary: '\(text)'")
        case .lineTooLong: Log.warning("Bad protocol from MASTER: a line without an end")
        case .timeout:
            Log.warning(
                primary.session.isStreaming
                    ? "MASTER timeout: no data nor PING received..." : "Timeout connecting to the MASTER...")
        }
        abandonLink(primary)
    }

    /// CLIENT KILL of the primary's stream: what it sent and was not executed yet is asked for again over a new link.
    mutating func dropPrimaryLink() {
        guard let primary = replication.primary else { return }
        Log.notice("Connection with master closed by CLIENT KILL.")
        abandonLink(primary)
    }

    private mutating func abandonLink(_ primary: FollowedPrimary) {
        effects.append(.closePrimaryLink)
        endLink(primary)
    }

    /// Bytes arrived from the primary.
    package mutating func primaryLinkReceived(_ bytes: UnsafeRawBufferPointer) {
        guard let primary = replication.primary else { return }
        switch primary.session.state {
        case .disconnected, .connecting: return
        default: break
        }
        let now = time.monotonicMilliseconds
        if primary.session.isStreaming {
            primary.session.heard(now: now)
            primary.input.append(bytes)
            executeStream(primary)
            return
        }
        primary.session.receive(bytes, now: now)
        while replication.primary === primary, let event = primary.session.next() { handle(event, primary) }
    }

    private mutating func handle(_ event: ReplicaSession.Event, _ primary: FollowedPrimary) {
        switch event {
        case .fullResync(let id, let offset): Log.notice("Full resync from master: \(id):\(offset)")
        case .payloadBegins(let byteCount):
            let form = byteCount.map { "\($0) bytes from master" } ?? "streamed RDB from master with EOF"
            Log.notice("MASTER <-> REPLICA sync: receiving \(form) to parser")
            primary.heldImage = []
        case .payload(let bytes):
            guard primary.heldImage != nil else { return load(bytes, primary) }
            primary.heldImage?.append(contentsOf: bytes)
            if primary.heldImage?.count ?? 0 > configuration.imageBytesHeldMax { loadHeldImage(primary) }
        case .payloadEnds:
            if primary.heldImage != nil { loadHeldImage(primary) }
            if primary.decoder != nil { endLoading(primary) }
        case .continued(let id):
            Log.notice("Successful partial resynchronization with master.")
            if let id {
                let hasChanged = replication.history.adopt(continued: id, appliedOffset: replication.feed.log.end)
                if hasChanged {
                    Log.notice("Master replication ID changed to \(id)")
                    disconnectReplicas()
                }
            }
            Log.notice("MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.")
            beginStream(primary)
        case .stream(let bytes):
            primary.input.append(bytes)
            executeStream(primary)
        case .failed(let failure): failLink(primary, failure)
        }
    }

    // MARK: The image

    // The beginning of an image is held back, and with it the end of the old data. A short image then takes the place of
    // the old data within one turn: no client is told LOADING, and a link that breaks early costs nothing. Of a longer one
    // the rest is loaded as it arrives, with `LOADING` for whoever asks meanwhile.

    private mutating func loadHeldImage(_ primary: FollowedPrimary) {
        guard let bytes = primary.heldImage else { return }
        primary.heldImage = nil
        beginLoading(primary)
        bytes.withUnsafeBytes { load($0, primary) }
    }

    private mutating func beginLoading(_ primary: FollowedPrimary) {
        // Whoever follows us has to begin again, too.
        disconnectReplicas()
        Log.notice("MASTER <-> REPLICA sync: Flushing old data")
        emptyKeyspace()
        functions = nil
        replication.feed.log.deactivate()
        updatePropagation()
        Log.notice("MASTER <-> REPLICA sync: Loading DB in memory")
        primary.decoder = RDBDecoder(stringBytesMax: Keyspace.stringBytesLimit)
        primary.imageDatabase = 0
        primary.isPartlyLoaded = true
        primary.lastContact = 0
        replication.streamDatabase = 0
        setGate(.loading, true)
    }

    private mutating func emptyKeyspace() {
        let changes = keyspace.changes
        for database in 0..<keyspace.databaseCount where keyspace.keyCount(database: database) > 0 {
            freeInBackground(keyspace.flush(database: database))
        }
        keyspace.changes = changes
        invalidateEverything()
    }

    private mutating func load(_ bytes: UnsafeRawBufferPointer, _ primary: FollowedPrimary) {
        guard primary.decoder != nil else { return }
        let changes = keyspace.changes
        let interest = keyspace.interest
        // Nobody is told of keys that are loaded.
        keyspace.interest = []
        defer { keyspace.interest = interest }
        keyspace.expiryMode = .ignore
        // Commands of clients may have run since the last piece.
        keyspace.selected = primary.imageDatabase
        primary.decoder?.members = keyspace.members
        var failure: String?
        do throws(RDBError) {
            primary.decoder?.feed(bytes)
            while failure == nil, let item = try primary.decoder?.next() { failure = load(item, primary) }
        } catch {
            failure = "\(error)"
        }
        keyspace.changes = changes
        updateExpiryMode()
        if let failure { abortLoading(primary, failure) }
    }

    /// - Returns: what is wrong with the item.
    private mutating func load(_ item: RDBItem, _ primary: FollowedPrimary) -> String? {
        switch item {
        case .selectDatabase(let index):
            guard index < keyspace.databaseCount else {
                return "the image has a database \(index), but there are only \(keyspace.databaseCount) here"
            }
            primary.imageDatabase = index
            keyspace.selected = index
            primary.decoder?.members = keyspace.members
        case .entry(let entry):
            if configuration.keyLoadDelayMicroseconds != 0 { delayKey() }
            keyspace.set(
                keyspace.key(entry.key), entry.value, expiry: entry.expireAtMilliseconds.map { .set($0) } ?? .remove)
        case .aux(let name, let value):
            if name.elementsEqual("repl-stream-db".utf8), let index = value.withUnsafeBytes({ parseInt64($0) }) {
                replication.streamDatabase = max(0, min(Int(clamping: index), keyspace.databaseCount - 1))
            }
        case .function(let text):
            do throws(FunctionError) {
                try loadLibrary(text)
            } catch {
                return error.text
            }
        case .header, .sizes, .slotInfo, .slotImport, .end: break
        }
        return nil
    }

    /// (debugDelay)
    private mutating func delayKey() {
        let delay = configuration.keyLoadDelayMicroseconds
        if delay > 0 {
            services.sleep(Int64(delay))
        } else if replication.random.below(-delay) == 0 {
            services.sleep(1)
        }
    }

    private mutating func endLoading(_ primary: FollowedPrimary) {
        do throws(RDBError) {
            try primary.decoder?.finish()
        } catch {
            return abortLoading(primary, "\(error)")
        }
        primary.decoder = nil
        primary.isPartlyLoaded = false
        setGate(.loading, false)
        let now = time.monotonicMilliseconds
        primary.session.loaded(now: now)
        guard let id = primary.session.id else { preconditionFailure("a loaded image has a history") }
        replication.history.adopt(fullResync: id)
        replication.feed.log.restart(at: primary.session.offset)
        replication.announcedEnd = primary.session.offset
        updatePropagation()
        Log.notice("MASTER <-> REPLICA sync: Finished with success")
        beginStream(primary)
    }

    private mutating func abortLoading(_ primary: FollowedPrimary, _ reason: String) {
        Log.warning("Failed trying to load the MASTER synchronization DB: \(reason)")
        abandonLink(primary)
    }

    // MARK: The stream

    private mutating func beginStream(_ primary: FollowedPrimary) {
        precondition(primary.session.offset == replication.feed.log.end, "the log ends at what was applied")
        let client = addClient(address: "\(primary.host):\(primary.port)", localAddress: "", fd: -1)
        client.pointee.flags.formUnion([.primary, .silent, .authenticated])
        client.pointee.database = replication.streamDatabase
        primary.client = client
    }

    /// Executes the complete commands that have arrived.
    mutating func executeStream(_ primary: FollowedPrimary) {
        // A script sees no changes but its own.
        guard let client = primary.client, !pauses.holdsStream, !isBusy else { return }
        if primary.missing > primary.input.count { return }
        let bytes = primary.input.bytes
        guard let base = bytes.baseAddress else { return }
        let chunk = primary.batch.append(
            Chunk(
                base: base.assumingMemoryBound(to: UInt8.self), count: bytes.count,
                client: UnsafeMutableRawPointer(client),
                connection: nil))
        // `missing` is counted from the end of what there is.
        let missing = RequestParser.parse(
            chunk: chunk, limits: streamLimits, partial: &primary.partial, into: &primary.batch)
        primary.missing = missing > 0 ? bytes.count - primary.batch.chunks[chunk].consumed + missing : 0
        prepare(primary.batch, from: 0)
        keyspace.expiryMode = .ignore
        let consumed = primary.batch.chunks[chunk].consumed
        let isIntact = execute(streamed: bytes, primary, client)
        updateExpiryMode()
        replication.streamDatabase = client.pointee.database
        primary.batch.removeAll()
        guard isIntact else {
            Log.warning("Protocol error in the replication stream of the primary")
            return abandonLink(primary)
        }
        primary.input.removeFirst(consumed)
    }

    /// What a primary sends was small enough there.
    private var streamLimits: RequestLimits { RequestLimits(bulkBytesMax: Keyspace.stringBytesLimit) }

    /// Executes the commands of the batch and logs their bytes. - Returns: false after bytes that are no command.
    private mutating func execute(
        streamed bytes: UnsafeRawBufferPointer, _ primary: FollowedPrimary, _ client: ClientPointer
    ) -> Bool {
        /// Everything before it is applied, logged and counted.
        var done = 0
        // Opened once: the link is a class, and its parts are checked at each access.
        let (requests, chunks, arguments) = (primary.batch.requests, primary.batch.chunks, primary.batch.arguments)
        let count = primary.batch.count
        var isInTransaction = primary.transaction != nil
        prefetchFirst(primary.batch)
        for index in 0..<count {
            prefetch(behind: index, requests, chunks, count: count)
            let parsed = requests[index]
            guard parsed.error == .none else {
                // What came before has taken effect, and must not be asked for again.
                if !isInTransaction {
                    didApply(UnsafeRawBufferPointer(rebasing: bytes[done..<parsed.start]), primary)
                }
                return false
            }
            if parsed.argumentCount == 0 { continue }
            let request = Request(
                arguments: arguments + parsed.firstArgument, count: parsed.argumentCount, keyHash: parsed.keyHash,
                slot: parsed.slot)
            let name = request[0]
            if isInTransaction {
                primary.transaction?.append(UnsafeRawBufferPointer(rebasing: bytes[done..<parsed.end]))
                done = parsed.end
                if name.equalsIgnoringCase("EXEC") {
                    executeTransaction(primary, client)
                    isInTransaction = false
                }
                continue
            }
            switch name.count {
            case 5 where name.equalsIgnoringCase("MULTI"):
                didApply(UnsafeRawBufferPointer(rebasing: bytes[done..<parsed.start]), primary)
                primary.transaction = ByteBuffer()
                primary.transaction?.append(UnsafeRawBufferPointer(rebasing: bytes[parsed.start..<parsed.end]))
                done = parsed.end
                isInTransaction = true
            case 8 where name.equalsIgnoringCase("REPLCONF"):
                // GETACK is answered with the offset before it.
                didApply(UnsafeRawBufferPointer(rebasing: bytes[done..<parsed.start]), primary)
                done = parsed.start
                if request.count > 1, request.matches(1, "GETACK") {
                    primary.session.acknowledge(now: time.monotonicMilliseconds)
                }
            default: apply(request, command: parsed.command, client)
            }
        }
        let rest = UnsafeRawBufferPointer(rebasing: bytes[done..<chunks[0].consumed])
        if !isInTransaction { didApply(rest, primary) } else { primary.transaction?.append(rest) }
        return true
    }

    /// One command of the stream.
    private mutating func apply(_ request: Request, command: Int, _ client: ClientPointer) {
        if request[0].equalsIgnoringCase("SELECT") {
            guard request.count == 2, let index = parseInt64(request[1]), index >= 0, index < keyspace.databaseCount
            else { return Log.warning("The primary selected a database that does not exist here.") }
            client.pointee.database = Int(index)
            feedMonitors(request, command: command, client)
            return
        }
        runStreamed(request, command: command, client)
    }

    /// Everything from MULTI to EXEC is there.
    private mutating func executeTransaction(_ primary: FollowedPrimary, _ client: ClientPointer) {
        guard let transaction = primary.transaction.take() else { return }
        let bytes = transaction.bytes
        var batch = RequestBatch()
        let chunk = batch.append(
            Chunk(
                base: bytes.baseAddress!.assumingMemoryBound(to: UInt8.self), count: bytes.count,
                client: UnsafeMutableRawPointer(client), connection: nil))
        var partial: PartialRequest?
        _ = RequestParser.parse(chunk: chunk, limits: streamLimits, partial: &partial, into: &batch)
        prepare(batch, from: 0)
        for index in 0..<batch.count {
            let parsed = batch.requests[index]
            guard parsed.argumentCount > 0 else { continue }
            let request = Request(
                arguments: batch.arguments + parsed.firstArgument, count: parsed.argumentCount,
                keyHash: parsed.keyHash, slot: parsed.slot)
            if index == 0 || index == batch.count - 1 {
                // MULTI and EXEC.
                feedMonitors(request, command: parsed.command, client)
            } else {
                apply(request, command: parsed.command, client)
            }
        }
        didApply(bytes, primary)
    }

    /// Bytes of the stream have taken effect.
    private mutating func didApply(_ bytes: UnsafeRawBufferPointer, _ primary: FollowedPrimary) {
        guard !bytes.isEmpty else { return }
        replication.feed.append(stream: bytes)
        primary.session.didApply(bytes: bytes.count)
    }
}
