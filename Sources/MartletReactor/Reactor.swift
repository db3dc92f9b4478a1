import MartletBase
import MartletCluster
import MartletKeyspace
import MartletRESP
import MartletServer
import MartletSystem
import Synchronization

// The loop of the command thread.
//
// A turn has three phases. Read: every connection that has data is received and parsed into one batch (`Intake`). Execute:
// the node runs the batch. Write: each client that has replies gets them in one send.
//
// The phases touch each other only through the batch and the reply buffers. With `io-threads`, other threads read and write
// for a share of the connections, and their batches are executed here: IOThread.swift.

/// What jobs of other threads report to the command thread.
enum InboxMessage: Sendable {
    case resolvedForMigration(KeyMigration, SocketAddress?)
    case resolvedPrimary(host: String, port: Int, SocketAddress?)
}

package struct Reactor: ~Copyable {
    var node: Node
    var poller: Poller
    private let signals: SignalReader
    private var intake: Intake
    private var limits: Intake.Limits
    /// Nil with `io-threads 1`.
    var ioThreads: IOThreadPool?
    /// Since the last cron.
    var isBalanceDue = false
    private let listeners: ListenerSet
    private var clock: SlewedClock
    /// Connections with replies to send at the end of the turn.
    private var writeQueue: [ConnectionPointer] = []
    private var closed: [ConnectionPointer] = []
    private var resumed: [ConnectionPointer] = []
    private var nextCron: Int64 = 0
    private var absence = AbsenceWatch(now: SystemClock.monotonicMilliseconds)
    /// Where the client cron goes on: it looks at a part of the clients each time.
    private var cronClientIndex = 0
    private var isStopping = false
    /// False after the process ran out of descriptors, until the next cron.
    private var acceptsConnections = true
    let worker: BackgroundWorker
    /// What background jobs report.
    let inbox: Mailbox<InboxMessage>
    private var inboxBatch: [InboxMessage] = []
    let bus: BusThread?
    private var view: PublishedReference<ClusterView>.Reader?
    private var noticeBatch: [BusNotice] = []
    /// Published messages that found no room on their way to the bus.
    private var droppedMessageCount = 0
    var migrationLinks: [UInt64: MigrationLink] = [:] {
        didSet { node.migrationLinkCount = migrationLinks.count }
    }
    var primaryLink: ReplicationLink?
    /// Notices of a primary to follow that have been handled, for the bus.
    var followCount = 0
    private var nextLinkToken = Reactor.linkTokensMin
    /// Where links that are not clients receive.
    let scratch: UnsafeMutableRawBufferPointer

    /// Bytes received side by side before a batch is executed: about what a core's second-level cache holds.
    private static let arenaBytes = 512 * 1024
    /// What one replica is sent at a time, to be fair.
    private static let replicaBytesPerTurn = 1 << 20
    /// (MAX_ACCEPTS_PER_CALL)
    private static let acceptsPerTurnMax = 1000
    /// How long clients wait for news after an absence.
    private static let newsMilliseconds: Int64 = 100
    // Tokens of the poller: those of the listeners, then the fixed ones, then links by number; addresses of connections are
    // far above all of them.
    private static let ioToken: UInt64 = 1020
    private static let inboxToken: UInt64 = 1021
    private static let busToken: UInt64 = 1022
    private static let signalToken: UInt64 = 1023
    private static let linkTokensMin: UInt64 = 1024
    private static let connectionTokensMin: UInt64 = 1 << 20

    /// Opens listeners and makes the node. - Throws: with what went wrong, for the log.
    package init(_ configuration: ServerConfiguration, configurationPath: String) throws(StartFailure) {
        let listeners = ListenerSet(try Listener.open(configuration))
        var generator = SystemRandomNumberGenerator()
        let bus = try Self.makeBus(configuration, seed: generator.next())
        do throws(SystemError) {
            let inbox = try Mailbox<InboxMessage>()
            let worker = try BackgroundWorker(name: "background")
            let poller = try Poller()
            let signals = try SignalReader()
            for (token, fd) in listeners.takeUnwatched() { try poller.add(fd, .readable, token: token) }
            try poller.add(signals.fd, .readable, token: Self.signalToken)
            try poller.add(inbox.wakeup.fd, .readable, token: Self.inboxToken)
            if let bus { try poller.add(bus.notices.wakeup.fd, .readable, token: Self.busToken) }
            try bus?.start()
            self.poller = poller
            self.signals = signals
            self.worker = worker
            self.inbox = inbox
        } catch {
            throw StartFailure("Cannot set up the event loop: \(error)")
        }
        self.listeners = listeners
        self.bus = bus
        view = bus.map { PublishedReference.Reader($0.view) }
        scratch = .allocate(byteCount: 64 * 1024, alignment: 16)
        clock = SlewedClock(monotonic: SystemClock.bootNanoseconds, wall: SystemClock.wallNanoseconds)
        let monotonic = SystemClock.monotonicMicroseconds
        let digits = Array("0123456789abcdef")
        node = Node(
            configuration: configuration, seed: HashSeed(k0: generator.next(), k1: generator.next()),
            runID: String((0..<40).map { _ in digits[Int.random(in: 0..<16, using: &generator)] }),
            time: NodeTime(
                monotonicMicroseconds: monotonic,
                unixMicroseconds: clock.now(monotonic: SystemClock.bootNanoseconds) / 1000),
            processFacts: { Self.processFacts(configurationPath: configurationPath) })
        limits = Self.intakeLimits(node)
        intake = Intake(arenaBytes: Self.arenaBytes, preparer: node.preparer)
        node.services = .process(listeners, configurationPath: configurationPath)
        if let view { node.adopt(view.value) }
        Log.notice("Server initialized")
        for listener in listeners.all where listener.isUnix {
            Log.notice("The server is now ready to accept connections at \(configuration.unixSocketPath)")
        }
        Log.notice("Ready to accept connections")
    }

    deinit { scratch.deallocate() }

    /// The cluster bus, or nil outside of cluster mode.
    private static func makeBus(_ configuration: ServerConfiguration, seed: UInt64) throws(StartFailure) -> BusThread? {
        guard configuration.isClusterEnabled else { return nil }
        let port = configuration.clusterPort == 0 ? configuration.port + 10_000 : configuration.clusterPort
        var options = BusOptions(
            bindAddresses: configuration.bindAddresses, port: port, configurationPath: configuration.clusterConfigFile,
            configuration: ClusterConfiguration(configuration), seed: seed)
        options.backlog = configuration.tcpBacklog
        options.sourceAddress = configuration.bindSourceAddress
        do throws(BusStartError) { return try BusThread(options) } catch { throw StartFailure("\(error)") }
    }

    /// To be called before ``run()``.
    package mutating func startIOThreads() throws(StartFailure) {
        let count = node.configuration.ioThreads - 1
        guard count > 0 else { return }
        do throws(SystemError) {
            let pool = try IOThreadPool(count: count, preparer: node.preparer, limits: limits)
            try poller.add(pool.doorbell.fd, .readable, token: Self.ioToken)
            ioThreads = pool
        } catch {
            throw StartFailure("Cannot start I/O threads: \(error)")
        }
    }

    private static func intakeLimits(_ node: borrowing Node) -> Intake.Limits {
        Intake.Limits(request: node.requestLimits, queryBytesMax: node.configuration.clientQueryBufferLimit)
    }

    mutating func makeLinkToken() -> UInt64 {
        repeat {
            nextLinkToken = nextLinkToken + 1 < Self.connectionTokensMin ? nextLinkToken + 1 : Self.linkTokensMin
        } while migrationLinks[nextLinkToken] != nil || primaryLink?.token == nextLinkToken
        return nextLinkToken
    }

    private static func processFacts(configurationPath: String) -> ProcessFacts {
        var facts = ProcessFacts()
        facts.id = SystemProcess.id
        facts.residentBytes = SystemProcess.residentBytes
        facts.totalMemoryBytes = SystemProcess.totalMemoryBytes
        let time = SystemProcess.cpuTime
        facts.userMicroseconds = time.userMicroseconds
        facts.systemMicroseconds = time.systemMicroseconds
        let threadTime = SystemProcess.threadCPUTime
        facts.threadUserMicroseconds = threadTime.userMicroseconds
        facts.threadSystemMicroseconds = threadTime.systemMicroseconds
        facts.operatingSystem = SystemProcess.operatingSystem
        facts.executablePath = SystemProcess.executablePath ?? ""
        facts.configurationPath = configurationPath
        return facts
    }

    // MARK: The loop

    /// Returns when the server has stopped.
    package mutating func run() {
        while !isStopping { turn() }
        // What was promised in this turn still leaves.
        sendQueued()
        returnToIOThreads()
        for thread in ioThreads?.threads ?? [] { thread.stop() }
        listeners.close()
        if !node.configuration.unixSocketPath.isEmpty { try? FileIO.remove(node.configuration.unixSocketPath) }
        bus?.stop()
        Log.warning("Martlet is now ready to exit, bye bye...")
    }

    private mutating func turn() {
        let start = SystemClock.monotonicMicroseconds
        let now = start / 1000
        if ioThreads != nil { countWork(until: start) }
        let isIdle = resumed.isEmpty && !node.wantsTurn && !node.hasUrgentWork
        var timeout = isIdle ? max(0, nextCron - now) : 0
        if let wait = node.millisecondsToDeadline(monotonicNow: now) { timeout = min(timeout, wait) }
        if ioThreads != nil { timeout = ioTimeout(timeout) }
        let eventCount = poller.wait(timeoutMilliseconds: Int(timeout))
        if ioThreads != nil { wokeUpForIOThreads() }
        if bus != nil, absence.ended(now: SystemClock.monotonicMilliseconds, timeout: timeout) { awaitNews() }
        updateTime()
        if let bus {
            bus.status.beat(now: node.time.monotonicMilliseconds)
            if noticeBatch.isEmpty || node.isBusy { refreshView() } else { receiveNotices() }
        }
        for index in 0..<eventCount {
            let event = poller.event(at: index)
            if event.token < Self.connectionTokensMin {
                handleSpecial(event)
                continue
            }
            guard let connection = ConnectionPointer(bitPattern: UInt(event.token)), !connection.pointee.isClosed else {
                continue
            }
            if event.isReadable { receive(connection) }
            if event.isWritable, !connection.pointee.isClosed { send(connection) }
        }
        takeResumed()
        executeBatch()
        if ioThreads != nil { receiveFromIOThreads() }
        if node.time.monotonicMilliseconds >= nextCron { cron() }
        node.endTurn()
        carryOutEffects()
        if primaryLink != nil { sendToPrimary() }
        reportReplication()
        sendQueued()
        // Sending has effects, too: a link breaks, a replica has its image and wants the log.
        while !node.effects.isEmpty {
            carryOutEffects()
            sendQueued()
        }
        if ioThreads != nil { returnToIOThreads() }
        freeClosed()
        if ioThreads != nil { endIOTurn() }
    }

    private mutating func handleSpecial(_ event: Poller.Event) {
        switch event.token {
        case Self.signalToken: receiveSignals()
        case Self.busToken: receiveNotices()
        case Self.inboxToken: receiveInbox()
        case Self.ioToken: ioThreads?.doorbell.acknowledge()
        case Self.linkTokensMin...:
            if let link = migrationLinks[event.token] { handle(link, event) } else { handlePrimaryLink(event) }
        default: if let listener = listeners.byToken[event.token] { accept(listener) }
        }
    }

    private mutating func receiveInbox() {
        inbox.drain(into: &inboxBatch)
        for message in inboxBatch {
            switch message {
            case .resolvedForMigration(let job, let address): resolvedForMigration(job, address)
            case .resolvedPrimary(let host, let port, let address):
                connectToPrimary(host: host, port: port, address)
            }
        }
        inboxBatch.removeAll()
    }

    // MARK: The cluster bus

    /// This process stood still (SIGSTOP, a suspended machine), and a replica may have taken its place. The bus has a moment
    /// to hear of that before clients are served: their writes would be acknowledged, and lost.
    private mutating func awaitNews() {
        let deadline = SystemClock.monotonicMilliseconds + Self.newsMilliseconds
        while let view = view?.value, view.isOK, !view.isReplica, SystemClock.monotonicMilliseconds < deadline {
            SystemClock.sleep(microseconds: 1000)
            _ = self.view!.refresh()
        }
        if let view { node.adopt(view.value) }
    }

    /// The view comes first: a client that is told OK finds it in force.
    private mutating func refreshView() {
        // The slots stay what they were while a script runs.
        guard view != nil, !node.isBusy, view!.refresh() else { return }
        if !view!.value.isReplica, node.isFollowing { drainPrimaryLink() }
        node.adopt(view!.value)
    }

    private mutating func receiveNotices() {
        guard let bus else { return }
        bus.notices.drain(into: &noticeBatch)
        refreshView()
        var postponed: [BusNotice] = []
        for notice in noticeBatch {
            if node.isBusy, notice.isAboutData {
                postponed.append(notice)
                continue
            }
            switch notice {
            case .reply(let token, let reply): node.clusterReplied(token, reply)
            case .followPrimary(_, let host, let port, let sharesHistory):
                followCount += 1
                // The view alone decides the role; it may be newer than the notice.
                guard view?.value.isReplica ?? false else { break }
                node.follow(host: host, port: Int(port), sharesHistory: sharesHistory)
            case .pauseWrites(let milliseconds): node.pauseWritesForFailover(milliseconds: milliseconds)
            case .resumeWrites: node.resumeWritesAfterFailover()
            case .deleteKeys(let slots): node.deleteKeys(inSlots: slots)
            case .flushAll: node.flushEverything()
            case .dropShardChannels(let slots): node.dropShardChannels(inSlots: slots)
            case .publish(let message):
                node.published(message.message, to: message.channel, isSharded: message.isSharded)
            case .becomePrimary: break
            case .failed(let text):
                Log.warning("\(text), exiting.")
                isStopping = true
            }
        }
        noticeBatch = postponed
    }

    private mutating func cron() {
        watchListeners(true)
        migrationCron()
        nextCron = node.time.monotonicMilliseconds + Int64(1000 / max(1, node.configuration.hz))
        clock.observe(monotonic: SystemClock.bootNanoseconds, wall: SystemClock.wallNanoseconds)
        collectIOStatistics()
        isBalanceDue = true
        node.cron()
        clientsCron()
    }

    /// Closes idle clients and those that are too slow to read their replies. Each client is seen about once a second.
    private mutating func clientsCron() {
        let count = node.clients.count
        guard count > 0 else { return }
        let timeout = Int64(node.configuration.clientTimeoutSeconds) * 1000
        for _ in 0..<min(count, max(5, count / max(1, node.configuration.hz))) {
            if cronClientIndex >= node.clients.count { cronClientIndex = 0 }
            let client = node.clients[cronClientIndex]
            cronClientIndex += 1
            guard let connection = connection(of: client) else { continue }
            if timeout > 0, !client.isParked,
                client.pointee.flags.isDisjoint(with: [.replica, .primary, .subscriber]),
                node.time.unixMilliseconds - client.pointee.lastInteraction > timeout
            {
                Log.verbose("Closing idle client")
                close(connection)
                continue
            }
            checkOutputLimit(connection)
        }
    }

    private mutating func receiveSignals() {
        while let signal = signals.next() {
            switch signal {
            case .terminate:
                Log.warning("Received SIGTERM scheduling shutdown...")
                node.shutDown(bySignal: .terminate)
            case .interrupt:
                Log.warning("Received SIGINT scheduling shutdown...")
                node.shutDown(bySignal: .interrupt)
            case .user1: break
            }
        }
    }

    private mutating func updateTime() {
        let monotonic = SystemClock.monotonicMicroseconds
        node.beginTurn(
            NodeTime(
                monotonicMicroseconds: monotonic,
                unixMicroseconds: clock.now(monotonic: SystemClock.bootNanoseconds) / 1000))
    }

    // MARK: Accept and close

    private mutating func accept(_ listener: Listener) {
        for _ in 0..<Self.acceptsPerTurnMax {
            switch Socket.accept(listener.fd) {
            case .connection(let fd, let peer): open(fd, peer: peer, listener)
            case .wouldBlock: return
            case .aborted(let error): Log.verbose("Accepting client connection: \(error)")
            case .tooManyFiles(let error):
                // The connection stays in the backlog; looking again at once would only spin.
                Log.warning("Accepting client connection: \(error)")
                watchListeners(false)
                return
            }
        }
    }

    private mutating func watchListeners(_ isWatching: Bool) {
        guard acceptsConnections != isWatching else { return }
        acceptsConnections = isWatching
        for (token, listener) in listeners.byToken {
            try? poller.modify(listener.fd, isWatching ? .readable : .none, token: token)
        }
    }

    private mutating func open(_ fd: Int32, peer: SocketAddress, _ listener: Listener) {
        if let refusal = refusal(peer, listener) {
            // Best effort: the client may be gone already.
            refusal.withUTF8Buffer { _ = Socket.send(fd, from: UnsafeRawPointer($0.baseAddress!), count: $0.count) }
            Socket.close(fd)
            node.statistics.connectionsRejected += 1
            return
        }
        let local = Socket.localAddress(fd)
        let unixAddress = listener.isUnix ? "\(node.configuration.unixSocketPath):0" : nil
        let client = node.addClient(
            address: unixAddress ?? peer.description, localAddress: unixAddress ?? local?.description ?? "", fd: fd,
            isUnixSocket: listener.isUnix)
        let connection = ConnectionPointer.allocate(capacity: 1)
        connection.initialize(to: Connection(fd: fd, client: client))
        client.pointee.connection = UnsafeMutableRawPointer(connection)
        do throws(SystemError) {
            if !listener.isUnix {
                try Socket.setNoDelay(fd)
                let interval = node.configuration.tcpKeepAliveSeconds
                if interval > 0 { try Socket.setKeepAlive(fd, intervalSeconds: interval) }
            }
            connection.pointee.thread =
                ioThreads?.chooseThread(alwaysActive: node.configuration.areIOThreadsAlwaysActive) ?? 0
            if connection.pointee.thread > 0 { return handOver(connection) }
            try poller.add(fd, .readable, token: UInt64(UInt(bitPattern: connection)))
        } catch {
            Log.verbose("Error registering a client connection: \(error)")
            close(connection, isWatched: false)
        }
    }

    /// Why a new connection is turned away; nil to take it.
    private func refusal(_ peer: SocketAddress, _ listener: Listener) -> StaticString? {
        if node.clients.count >= node.configuration.maxClients { return "-ERR max number of clients reached\r\n" }
        if node.configuration.isProtectedMode, !node.requiresPassword, !listener.isUnix, !peer.isLoopback {
            return """
                -DENIED Redis is running in protected mode because protected mode is enabled and no password is set \
                for the default user. In this mode connections are only accepted from the loopback interface. If you \
                want to connect from external computers to Redis you may adopt one of the following solutions: 1) \
                Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the loopback \
                interface by connecting to Redis from the same host the server is running, however MAKE SURE Redis \
                is not publicly accessible from internet if you do so. Use CONFIG REWRITE to make this change \
                permanent. 2) Alternatively you can just disable the protected mode by editing the Redis \
                configuration file, and setting the protected mode option to 'no', and then restarting the server. \
                3) If you started the server manually just for testing, restart it with the '--protected-mode no' \
                option. 4) Set up an authentication password for the default user. NOTE: You only need to do one of \
                the above things in order for the server to start accepting connections from the outside.\r\n
                """
        }
        return nil
    }

    mutating func close(_ connection: ConnectionPointer, isWatched: Bool = true) {
        guard !connection.pointee.isClosed else { return }
        connection.pointee.isClosed = true
        connection.pointee.client.pointee.flags.insert(.disconnected)
        if connection.pointee.thread == 0 {
            if isWatched { poller.remove(connection.pointee.fd) }
            Socket.close(connection.pointee.fd)
        }
        closed.append(connection)
    }

    /// At the end of the turn nothing refers to closed connections any more but those that were to go on.
    private mutating func freeClosed() {
        guard !closed.isEmpty else { return }
        resumed.removeAll { $0.pointee.isClosed }
        for connection in closed {
            node.remove(connection.pointee.client)
            if connection.pointee.thread > 0 {
                // One that is on its way here is freed when it arrives.
                if connection.pointee.isLeaving { continue }
                ioThreads?.connections[connection.pointee.clientID] = nil
                ioThreads?.post(.forget(connection), to: connection)
            } else {
                connection.deinitialize(count: 1)
                connection.deallocate()
            }
        }
        closed.removeAll(keepingCapacity: true)
    }

    // MARK: Read

    private mutating func receive(_ connection: ConnectionPointer) {
        // Its bytes may not move now; what has come since is still there in the next turn.
        if connection.pointee.isInBatch { return }
        // What was received before comes first: behind it may be the end of the stream.
        if connection.pointee.hasUnparsed { return }
        if intake.isFull { executeBatch() }
        if connection.pointee.isClosed { return }
        let client = connection.pointee.client
        connection.pointee.isParked = client.isParked
        switch intake.receive(connection, limits) {
        case .received: if client.isReplica { node.replicaHeard(client) }
        case .nothing: return
        case .ended: close(connection)
        case .tooMuch:
            logTooMuchInput(connection)
            close(connection)
        }
    }

    func logTooMuchInput(_ connection: ConnectionPointer) {
        Log.warning(
            "Closing client that reached max query buffer length: \(connection.pointee.client.pointee.address)")
    }

    // MARK: Execute

    private mutating func executeBatch() {
        if !intake.isEmpty {
            node.statistics.bytesReceived += intake.bytesReceived
            node.execute(intake.batch)
            for index in 0..<intake.batch.chunkCount { finish(intake.batch.chunks[index]) }
            intake.removeAll()
        }
        carryOutEffects()
    }

    private mutating func finish(_ chunk: Chunk) {
        guard let connection = chunk.connectionPointer else { return }
        let client = connection.pointee.client
        Intake.keepRest(of: chunk, connection)
        if chunk.hasMore { resume(connection) }
        connection.pointee.isAuthenticated = client.isAuthenticated
        client.pointee.queryBytes = connection.pointee.pending.count
        client.pointee.queryCapacity = connection.pointee.pending.capacity
        if client.pointee.reply.count > 0 || client.isClosing {
            if client.pointee.reply.count > 1 << 16 || !client.isAuthenticated { checkOutputLimit(connection) }
            queueWrite(connection)
        }
    }

    /// Closes a client whose unsent replies exceed the limits of its class.
    mutating func checkOutputLimit(_ connection: ConnectionPointer) {
        if node.exceedsOutputLimit(connection.pointee.client) { close(connection) }
    }

    /// In place, because what is carried out may append more effects, and may end clients that later ones name.
    mutating func carryOutEffects() {
        guard !node.effects.isEmpty else { return }
        defer { node.effects.removeAll(keepingCapacity: true) }
        var index = 0
        while index < node.effects.count {
            let effect = node.effects[index]
            index += 1
            switch effect {
            case .send(let client):
                client.pointee.flags.remove(.messageQueued)
                guard let connection = connection(of: client) else { break }
                if client.isReplica, connection.pointee.thread == 0, !connection.pointee.isClosed {
                    // Before any client is told that its write is done: if this process is killed in between, the
                    // kernel still delivers what the replica's socket has.
                    if !connection.pointee.waitsForWrite { send(connection) }
                } else {
                    queueWrite(connection)
                }
            case .resume(let client):
                if let connection = connection(of: client) { resume(connection) }
            case .close(let client):
                if let connection = connection(of: client) {
                    close(connection)
                } else if client.pointee.flags.contains(.primary) {
                    breakPrimaryLink("killed")
                }
            case .free(let tables): worker.post(.run { _ = tables })
            case .cluster(let request, let token): bus?.post(.command(request, token: token))
            case .publish(let channel, let message, let isSharded):
                guard let bus, !bus.publish(channel: channel, message: message, isSharded: isSharded) else { break }
                droppedMessageCount += 1
                if droppedMessageCount & (droppedMessageCount - 1) == 0 {
                    Log.warning("\(droppedMessageCount) published messages for the cluster bus dropped: bus too slow")
                }
            case .writesPaused: bus?.post(.writesPaused(offset: node.replicationOffset))
            case .migrate(let job): migrate(job)
            case .connectToPrimary(let host, let port): connectToPrimary(host: host, port: port)
            case .closePrimaryLink: closePrimaryLink()
            case .configurationChanged(let names): configurationChanged(names)
            case .stop: isStopping = true
            case .nothing: break
            }
        }
    }

    private mutating func configurationChanged(_ names: [String]) {
        limits = Self.intakeLimits(node)
        ioThreads?.setLimits(limits)
        for name in names where name == "loglevel" { Log.level = node.configuration.logLevel }
        for (token, fd) in listeners.takeUnwatched() {
            do throws(SystemError) { try poller.add(fd, .readable, token: token) } catch {
                Log.warning("Cannot watch a listening socket: \(error)")
            }
        }
        if let bus { bus.post(.configure(ClusterConfiguration(node.configuration))) }
    }

    /// Sends the image or the log, straight from where the node keeps it. - Returns: whether nothing is left.
    private mutating func sendToReplica(_ connection: ConnectionPointer) -> Bool {
        var left = Self.replicaBytesPerTurn
        while left > 0 {
            let bytes = node.replicaOutput(connection.pointee.client)
            guard let base = bytes.baseAddress, !bytes.isEmpty else { return true }
            switch Socket.send(connection.pointee.fd, from: base, count: bytes.count) {
            case .transferred(let count):
                left -= count
                node.statistics.bytesSent += count
                node.replicaTook(connection.pointee.client, count: count)
                if count < bytes.count { return false }
            case .wouldBlock: return false
            case .endOfStream, .failed:
                close(connection)
                return true
            }
        }
        return false
    }

    func connection(of client: ClientPointer) -> ConnectionPointer? {
        client.pointee.connection?.assumingMemoryBound(to: Connection.self)
    }

    /// Clients that need not wait any longer go on with what they had sent.
    private mutating func takeResumed() {
        guard !resumed.isEmpty else { return }
        let connections = resumed
        resumed.removeAll(keepingCapacity: true)
        for connection in connections where !connection.pointee.isClosed {
            connection.pointee.hasUnparsed = false
            if connection.pointee.isInBatch || connection.pointee.client.isParked { continue }
            connection.pointee.missing = 0
            connection.pointee.isParked = false
            intake.parsePending(connection, limits)
        }
    }

    @inline(never)
    mutating func resume(_ connection: ConnectionPointer) {
        if connection.pointee.thread > 0 {
            ioThreads?.resume(connection)
        } else {
            connection.pointee.hasUnparsed = true
            resumed.append(connection)
        }
    }

    // MARK: Write

    mutating func queueWrite(_ connection: ConnectionPointer) {
        if connection.pointee.thread > 0 {
            ioThreads?.queueWrite(connection)
            return
        }
        guard !connection.pointee.isQueuedForWrite, !connection.pointee.isClosed else { return }
        connection.pointee.isQueuedForWrite = true
        writeQueue.append(connection)
    }

    private mutating func sendQueued() {
        guard !writeQueue.isEmpty else { return }
        for connection in writeQueue {
            connection.pointee.isQueuedForWrite = false
            if !connection.pointee.isClosed, !connection.pointee.waitsForWrite { send(connection) }
        }
        writeQueue.removeAll(keepingCapacity: true)
    }

    private mutating func send(_ connection: ConnectionPointer) {
        let client = connection.pointee.client
        if client.pointee.flags.contains(.closeNow) { return close(connection) }
        let total = client.pointee.reply.count
        if connection.pointee.sent < total {
            let start = client.pointee.reply.base + connection.pointee.sent
            switch Socket.send(connection.pointee.fd, from: start, count: total - connection.pointee.sent) {
            case .transferred(let count):
                connection.pointee.sent += count
                node.statistics.bytesSent += count
            case .wouldBlock: break
            case .endOfStream, .failed: return close(connection)
            }
        }
        var isDone = connection.pointee.sent == total
        if isDone {
            client.pointee.reply.removeAll()
            connection.pointee.sent = 0
            if client.pointee.flags.contains(.closeAfterReply) { return close(connection) }
            if client.pointee.flags.contains(.replica) {
                isDone = sendToReplica(connection)
                if connection.pointee.isClosed { return }
            }
        } else if connection.pointee.sent > 1 << 20, connection.pointee.sent > total / 2 {
            client.pointee.reply.removePrefix(connection.pointee.sent)
            connection.pointee.sent = 0
        }
        if connection.pointee.waitsForWrite == isDone {
            connection.pointee.waitsForWrite = !isDone
            let interest: Poller.Interest = isDone ? .readable : [.readable, .writable]
            let token = UInt64(UInt(bitPattern: connection))
            do { try poller.modify(connection.pointee.fd, interest, token: token) } catch { close(connection) }
        }
    }
}
