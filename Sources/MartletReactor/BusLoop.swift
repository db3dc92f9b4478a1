import MartletBase
import MartletCluster
import MartletSystem

// The loop of the bus thread: the driver around the pure `ClusterState`.
//
// One turn:
// 1. Wait for events, at most until the core's next deadline.
// 2. Compare the clocks, look at the command thread's status and heartbeat, tell the core what changed.
// 3. Handle requests, connections, received packets; each is one event of the core.
// 4. After each event carry out its effects in their order. `saveConfig` is done, and on the disk, before the next
//    effect starts, so no packet leaves that promises what nodes.conf does not say. Sends are queued.
// 5. Tell the core about links that opened or failed while effects were carried out.
// 6. Send all queues.
//
// A refused connection is known at once on the own host and after a round trip elsewhere, and is reported to the core
// at once: it is the evidence that a process is gone (design.md section 5).
//
// Peers may be hostile: packets, queues, the number of connections and the time a silent one may stay are bounded.
final class BusLoop {
    // MARK: Limits

    /// Inbound connections; two per node and direction leave room for the 1000 nodes that the protocol is made for.
    static let inboundLinksMax = 4096
    /// Connections taken per turn, so that a flood of them cannot starve packets. Source: `MAX_CLUSTER_ACCEPTS_PER_CALL`.
    static let acceptsPerTurnMax = 1000
    /// Bytes of unfinished packets of all links together: one message of the largest size, and a bit.
    static let assemblyBytesMax = BusPacket.byteCountMax + (64 << 20)
    /// Reads from one link per turn.
    static let readsPerTurnMax = 8
    static let readBytesMax = 256 << 10
    /// A link that the core let go of may use this long to send its last bytes.
    static let lingerMilliseconds: Int64 = 1_000
    /// After a turn that took longer, the next one reads before anything is judged.
    static let turnMillisecondsMax: Int64 = 50
    /// A command thread with nothing to do turns several times in this time.
    static let stallMillisecondsMin: Int64 = 2_000
    /// Without a free descriptor, connections wait in the backlog this long.
    static let acceptPauseMilliseconds: Int64 = 100

    // MARK: State

    let view: PublishedReference<ClusterView>
    private let state: ClusterState
    private let options: BusOptions
    private var nodeTimeoutMilliseconds: Int64
    private var stallTimeoutMilliseconds: Int64
    private var configurationFile: LockedFile
    private var clock: SlewedClock

    private let requests: Mailbox<BusRequest>
    private let notices: Mailbox<BusNotice>
    private let status: CommandThreadStatus
    private let incomingBudget = ByteBudget(byteCountMax: BusThread.messageBytesMax)

    private var poller: Poller
    private let listeners: [Int32]
    private var acceptPausedUntil: Int64?
    private let sourceAddress: SocketAddress?
    /// By id; a lingering link stays until it is closed.
    private var links: [BusLinkID: ClusterBusLink] = [:]
    private var inboundCount = 0
    private var assemblyByteCount = 0
    private let readBuffer = UnsafeMutableRawBufferPointer.allocate(byteCount: readBytesMax, alignment: 16)

    /// What became of links while effects were carried out: events of their own, handled after the current one.
    private var deferred: [LinkEvent] = []
    private var toFlush: [ClusterBusLink] = []
    private var requestBatch: [BusRequest] = []

    private var lastStatus = ReplicationStatus()
    /// Times that the command thread was told whom to follow.
    private var followCount = 0
    private var isStalled = false
    /// Monotonic milliseconds.
    private var lastTurn: Int64
    private var lastSweep: Int64
    private var tickWasSkipped = false
    /// The process itself stood still until then (SIGSTOP, a suspended machine): the command thread gets its chance.
    private var stallCountsFrom: Int64
    private var droppedMessageCount = 0
    private var isRunning = true

    private enum LinkEvent {
        case opened(BusLinkID)
        case closed(BusLinkID, BusLinkCloseReason)
    }

    private enum Token {
        static let requests = UInt64.max
        /// Plus the index of the listener. Link ids count from 1 and never get there.
        static let listeners: UInt64 = 1 << 63
    }

    // MARK: Life

    init(
        _ options: BusOptions, requests: Mailbox<BusRequest>, notices: Mailbox<BusNotice>, status: CommandThreadStatus
    ) throws(BusStartError) {
        self.options = options
        self.requests = requests
        self.notices = notices
        self.status = status
        nodeTimeoutMilliseconds = options.configuration.nodeTimeoutMilliseconds
        stallTimeoutMilliseconds = options.configuration.stallTimeoutMilliseconds
        lastTurn = SystemClock.monotonicMilliseconds
        lastSweep = lastTurn
        stallCountsFrom = lastTurn
        sourceAddress = SocketAddress(ip: options.sourceAddress, port: 0)

        let file = try Self.lockConfiguration(options.configurationPath)
        let conf = try Self.readConfiguration(options.configurationPath)
        configurationFile = consume file
        clock = SlewedClock(monotonic: SystemClock.bootNanoseconds, wall: SystemClock.wallNanoseconds)
        state = ClusterState(
            configuration: options.configuration, conf: conf, random: PRNG(seed: options.seed),
            now: clock.now(monotonic: SystemClock.bootNanoseconds) / 1_000_000)
        view = PublishedReference(state.view)
        listeners = try Self.listen(options)
        do throws(SystemError) {
            poller = try Poller()
            try poller.add(requests.wakeup.fd, .readable, token: Token.requests)
            for (index, listener) in listeners.enumerated() {
                try poller.add(listener, .readable, token: Token.listeners + UInt64(index))
            }
        } catch {
            throw .system(error)
        }
        // The first save and the first view, before anybody is told that we exist.
        perform()
        if !isRunning { throw .configurationNotWritten("Fatal: can't update cluster config file.") }
    }

    deinit {
        for link in links.values where link.phase != .closed { Socket.close(link.fd) }
        for listener in listeners { Socket.close(listener) }
        readBuffer.deallocate()
    }

    private static func lockConfiguration(_ path: String) throws(BusStartError) -> LockedFile {
        do throws(LockedFile.Refusal) {
            return try LockedFile(acquiring: path)
        } catch {
            switch error {
            case .inUse: throw .configurationInUse(path: path)
            case .openFailed(let error): throw .configurationUnreadable(path: path, error)
            case .lockFailed(let error): throw .configurationLockFailed(path: path, error)
            }
        }
    }

    /// Nil for an empty file: a node that starts for the first time.
    private static func readConfiguration(_ path: String) throws(BusStartError) -> NodesConf? {
        let bytes: [UInt8]
        do throws(SystemError) { bytes = try FileIO.read(path) } catch {
            throw .configurationUnreadable(path: path, error)
        }
        let outcome: Result<NodesConf?, NodesConfError> = bytes.withUnsafeBytes { bytes in
            do throws(NodesConfError) { return .success(try NodesConf.parse(bytes)) } catch { return .failure(error) }
        }
        do throws(NodesConfError) { return try outcome.get() } catch {
            throw .configurationCorrupt(path: path, error)
        }
    }

    /// Source: `clusterInit` and `listenToPort`.
    private static func listen(_ options: BusOptions) throws(BusStartError) -> [Int32] {
        guard !options.bindAddresses.isEmpty else { throw .noBindAddress }
        guard (1...65535).contains(options.port) else { throw .portTooHigh }
        var listeners: [Int32] = []
        for entry in options.bindAddresses {
            let isOptional = entry.hasPrefix("-")
            let address = isOptional ? String(entry.dropFirst()) : entry
            do throws(SystemError) {
                listeners.append(try Socket.listen(address: address, port: options.port, backlog: options.backlog))
            } catch {
                if error.isAddressNotAvailable, isOptional { continue }
                if error.isProtocolMissing { continue }
                for listener in listeners { Socket.close(listener) }
                throw .listenFailed(address: address, port: options.port, error)
            }
        }
        return listeners
    }

    /// The thread's whole life.
    func run() {
        while isRunning { turn(timeoutMilliseconds: 100) }
    }

    // MARK: A turn

    /// The core's time: milliseconds of a wall clock that does not jump.
    private var now: Int64 { clock.now(monotonic: SystemClock.bootNanoseconds) / 1_000_000 }

    func turn(timeoutMilliseconds: Int) {
        let untilDeadline = deferred.isEmpty ? max(0, state.nextDeadline - now) : 0
        let count = poller.wait(timeoutMilliseconds: min(timeoutMilliseconds, Int(clamping: untilDeadline)))
        let monotonic = SystemClock.monotonicMilliseconds
        watchCommandThread(monotonic)
        for index in 0..<count where isRunning { handle(poller.event(at: index), monotonic) }
        readStatus(monotonic)
        handleDeferred()
        if now >= state.nextDeadline, mayJudge(turnStart: monotonic) {
            clock.observe(monotonic: SystemClock.bootNanoseconds, wall: SystemClock.wallNanoseconds)
            state.tick(now: now)
            perform()
        }
        if monotonic - lastSweep >= 100 { sweep(monotonic) }
        flushQueues()
        lastTurn = monotonic
    }

    /// False if this turn took long (a slow disk, no processor): what peers have sent meanwhile is still unread, and the
    /// core must not take our own absence for their silence. Of slow turns one after the other every second one ticks.
    private func mayJudge(turnStart: Int64) -> Bool {
        let isSlow = SystemClock.monotonicMilliseconds - turnStart > Self.turnMillisecondsMax
        tickWasSkipped = isSlow && !tickWasSkipped
        return !tickWasSkipped
    }

    /// How long a connection may take, or a stranger be silent. The node time-out may be set to anything.
    private var patienceMilliseconds: Int64 { min(max(nodeTimeoutMilliseconds, 1_000), 1 << 40) }

    private func handle(_ event: Poller.Event, _ monotonic: Int64) {
        if event.token == Token.requests {
            // First what the command thread knows of replication: its requests may depend on it.
            readStatus(monotonic)
            handleRequests()
        } else if event.token >= Token.listeners {
            acceptLinks(listeners[Int(event.token - Token.listeners)], monotonic)
        } else if let link = links[BusLinkID(rawValue: event.token)] {
            handle(event, on: link)
        }
    }

    /// Enters and leaves the stalled state. The heartbeat of a process that itself stood still says nothing yet.
    private func watchCommandThread(_ monotonic: Int64) {
        if monotonic - lastTurn > 1_000 { stallCountsFrom = monotonic }
        let silence = monotonic - max(status.lastBeat, stallCountsFrom)
        let isStalledNow =
            stallTimeoutMilliseconds > 0 && silence > max(stallTimeoutMilliseconds, Self.stallMillisecondsMin)
        guard isStalledNow != isStalled else { return }
        isStalled = isStalledNow
        if isStalled { state.stalled(now: now) } else { state.resumed(now: now) }
        perform()
    }

    private func readStatus(_ monotonic: Int64) {
        let now = now
        // Until the command thread has heard of its new primary, the status is about the old one, or about writes of its
        // own: with that data this node must not be elected.
        let isOutdated = status.followCount < followCount
        let contact = status.lastPrimaryContact
        let current =
            isOutdated
            ? ReplicationStatus()
            : ReplicationStatus(
                offset: status.replicationOffset, isPrimaryLinkUp: status.isPrimaryLinkUp,
                // From monotonic time to the core's. Some tolerance keeps clock granularity from looking like a change.
                lastPrimaryContact: contact == 0 ? 0 : now - (monotonic - contact))
        let isSameContact = abs(current.lastPrimaryContact - lastStatus.lastPrimaryContact) < 50
        if current.offset == lastStatus.offset, current.isPrimaryLinkUp == lastStatus.isPrimaryLinkUp, isSameContact {
            return
        }
        lastStatus = current
        state.replicationChanged(current, now: now)
        perform()
    }

    private func handleRequests() {
        requests.drain(into: &requestBatch)
        for request in requestBatch where isRunning {
            switch request {
            case .command(let request, let token):
                let reply = state.execute(request, now: now)
                perform()
                notices.post(.reply(token: token, reply))
            case .writesPaused(let offset):
                state.writesPaused(offset: offset, now: now)
                perform()
            case .configure(let configuration):
                nodeTimeoutMilliseconds = configuration.nodeTimeoutMilliseconds
                stallTimeoutMilliseconds = configuration.stallTimeoutMilliseconds
                state.configure(configuration, now: now)
                perform()
            case .reconcile(let slots):
                state.reconcile(slotsWithKeys: slots, now: now)
                perform()
            case .publish(let message):
                state.publish(
                    channel: message.channel, message: message.message, isSharded: message.isSharded, now: now)
                perform()
            case .stop:
                state.stop(now: now)
                perform()
                isRunning = false
            }
        }
        requestBatch.removeAll(keepingCapacity: true)
    }

    // MARK: Effects

    /// Carries out what the core asked for during the last event.
    private func perform() {
        for effect in state.takeEffects() {
            guard isRunning else { return }
            switch effect {
            case .saveConfig(let text, let fsync): save(text, fsync)
            case .publishView(let newView):
                view.publish(newView)
                notices.wakeup.signal()
            case .openLink(let id, let host, let port): open(id, host, port)
            case .closeLink(let id): letGo(id)
            case .send(let id, let packet): send(id, packet)
            case .followPrimary(let id, let host, let port, let sharesHistory):
                followCount += 1
                notices.post(.followPrimary(id, host: host, port: port, sharesHistory: sharesHistory))
            case .becomePrimary: notices.post(.becomePrimary)
            case .pauseWrites(let until): notices.post(.pauseWrites(milliseconds: max(0, until - now)))
            case .resumeWrites: notices.post(.resumeWrites)
            case .deleteKeys(let slots): notices.post(.deleteKeys(slots: slots))
            case .dropShardChannels(let slots): notices.post(.dropShardChannels(slots: slots))
            case .flushAll: notices.post(.flushAll)
            case .publish(let channel, let message, let isSharded): deliver(channel, message, isSharded)
            case .log(let level, let text): Log.write(LogLevel(level), text)
            }
        }
    }

    /// A node that cannot remember its votes and epochs must not go on: it would break its promises after a restart.
    private func save(_ text: [UInt8], _ fsync: Bool) {
        do throws(SystemError) {
            try configurationFile.replace(with: text, syncs: fsync)
        } catch {
            let text = "Fatal: can't update cluster config file \(options.configurationPath): \(error)"
            Log.warning(text)
            notices.post(.failed(text))
            isRunning = false
        }
    }

    private func deliver(_ channel: [UInt8], _ message: [UInt8], _ isSharded: Bool) {
        if let message = BusMessage(
            channel: channel, message: message, isSharded: isSharded, budget: incomingBudget)
        {
            notices.post(.publish(message))
        } else {
            droppedMessageCount += 1
            if droppedMessageCount.isPowerOfTwo {
                Log.warning(
                    "\(droppedMessageCount) published messages from the cluster bus dropped: main thread too slow")
            }
        }
    }

    // MARK: Links

    private func open(_ id: BusLinkID, _ host: String, _ port: UInt16) {
        guard let address = SocketAddress(ip: host, port: Int(port)) else {
            deferred.append(.closed(id, .unreachable))
            return
        }
        let deadline = SystemClock.monotonicMilliseconds + patienceMilliseconds
        switch Socket.connect(to: address, from: sourceAddress) {
        case .failed(let error): deferred.append(.closed(id, BusLinkCloseReason(error)))
        case .connected(let fd):
            let link = ClusterBusLink(id: id, fd: fd, isInbound: false, phase: .open, deadline: .max)
            if watch(link) { deferred.append(.opened(id)) } else { deferred.append(.closed(id, .unreachable)) }
        case .inProgress(let fd):
            let link = ClusterBusLink(id: id, fd: fd, isInbound: false, phase: .connecting, deadline: deadline)
            if !watch(link) { deferred.append(.closed(id, .unreachable)) }
        }
    }

    /// False when the kernel has no watch left; the link is closed then.
    private func watch(_ link: ClusterBusLink) -> Bool {
        try? Socket.setNoDelay(link.fd)
        let interest: Poller.Interest = link.phase == .connecting ? .writable : .readable
        do throws(SystemError) {
            try poller.add(link.fd, interest, token: link.id.rawValue)
        } catch {
            Log.warning("Cannot watch a cluster bus connection: \(error)")
            link.phase = .closed
            Socket.close(link.fd)
            return false
        }
        links[link.id] = link
        if link.isInbound { inboundCount += 1 }
        return true
    }

    private func acceptLinks(_ listener: Int32, _ monotonic: Int64) {
        for _ in 0..<Self.acceptsPerTurnMax {
            switch Socket.accept(listener) {
            case .wouldBlock: return
            case .aborted(let error): Log.verbose("Error accepting cluster node: \(error)")
            case .tooManyFiles(let error):
                Log.warning("Error accepting cluster node: \(error)")
                pauseAccepting(until: monotonic + Self.acceptPauseMilliseconds)
                return
            case .connection(let fd, let peer):
                if inboundCount >= Self.inboundLinksMax, !evictStranger() {
                    Log.verbose("Cluster node connection from \(peer.description) refused: limit reached")
                    Socket.close(fd)
                    continue
                }
                Log.verbose("Accepting cluster node connection from \(peer.description)")
                let keepAliveSeconds = max(1, nodeTimeoutMilliseconds / 1000 * 2)
                try? Socket.setKeepAlive(fd, intervalSeconds: Int(clamping: keepAliveSeconds))
                let id = state.linkAccepted(from: peer.ip, localAddress: Socket.localAddress(fd)?.ip ?? "", now: now)
                let link = ClusterBusLink(
                    id: id, fd: fd, isInbound: true, phase: .open,
                    deadline: monotonic + 2 * patienceMilliseconds)
                if !watch(link) { deferred.append(.closed(id, .unreachable)) }
                perform()
            }
        }
    }

    /// Makes room for a connection that may be a member's. False if all belong to members.
    private func evictStranger() -> Bool {
        let strangers = links.values.filter { !$0.isTrusted }
        guard let oldest = strangers.min(by: { $0.id.rawValue < $1.id.rawValue }) else { return false }
        if oldest.phase == .open { lose(oldest, .timedOut) } else { close(oldest) }
        return true
    }

    private func pauseAccepting(until: Int64) {
        if acceptPausedUntil == nil { watchListeners(.none) }
        acceptPausedUntil = until
    }

    private func watchListeners(_ interest: Poller.Interest) {
        for (index, listener) in listeners.enumerated() {
            try? poller.modify(listener, interest, token: Token.listeners + UInt64(index))
        }
    }

    private func handle(_ event: Poller.Event, on link: ClusterBusLink) {
        switch link.phase {
        case .connecting:
            if let error = Socket.connectResult(link.fd) {
                lose(link, BusLinkCloseReason(error))
            } else if event.isWritable {
                link.phase = .open
                link.deadline = .max
                setInterest(of: link, awaitsWritable: false)
                tellOpened(link)
            }
        case .open:
            if event.isReadable { read(link) }
            if event.isWritable, link.phase == .open { markForFlush(link) }
        case .lingering:
            // Nobody listens to the peer any more; what it still says is only read to see its end.
            if event.isReadable { discard(link) }
            if event.isWritable, link.phase == .lingering { markForFlush(link) }
        case .closed: break
        }
    }

    private func tellOpened(_ link: ClusterBusLink) {
        state.linkOpened(link.id, localAddress: Socket.localAddress(link.fd)?.ip ?? "", now: now)
        perform()
    }

    private func read(_ link: ClusterBusLink) {
        for _ in 0..<Self.readsPerTurnMax where link.phase == .open && isRunning {
            switch Socket.receive(link.fd, into: readBuffer.baseAddress!, count: readBuffer.count) {
            case .wouldBlock: return
            case .endOfStream: return lose(link, .peerClosed)
            case .failed(let error): return lose(link, BusLinkCloseReason(error))
            case .transferred(let count):
                receive(UnsafeRawBufferPointer(start: readBuffer.baseAddress!, count: count), on: link)
                if count < readBuffer.count { return }
            }
        }
    }

    private func receive(_ chunk: UnsafeRawBufferPointer, on link: ClusterBusLink) {
        // Taken out while it works: an effect of a packet may close the link.
        var assembler = link.assembler
        link.assembler = BusPacketAssembler()
        let isStreamOfPackets = assembler.feed(chunk) { packet in
            state.receive(packet, on: link.id, now: now)
            perform()
            // Outside of the cluster nobody may stay for ever, or send what only members have to send.
            link.isTrusted = !link.isInbound || state.isMember(link.id)
            link.deadline = link.isTrusted ? .max : SystemClock.monotonicMilliseconds + 2 * patienceMilliseconds
            return link.phase == .open && isRunning
        }
        guard link.phase == .open else { return }
        assemblyByteCount += assembler.byteCount - link.assemblyByteCount
        link.assemblyByteCount = assembler.byteCount
        link.assembler = assembler
        if !isStreamOfPackets {
            Log.warning("Bad message length or signature received from Cluster bus.")
            lose(link, .protocolError)
        } else if !link.isTrusted, assembler.byteCount > BusPacketAssembler.controlPacketBytesMax {
            Log.warning("Cluster bus message of a stranger larger than any that it may send: closing its connection")
            lose(link, .protocolError)
        } else if assemblyByteCount > Self.assemblyBytesMax,
            let largest = links.values.max(by: { $0.assemblyByteCount < $1.assemblyByteCount })
        {
            Log.warning(
                "Cluster bus packets larger than \(Self.assemblyBytesMax) bytes in flight: closing a connection")
            lose(largest, .protocolError)
        }
    }

    private func discard(_ link: ClusterBusLink) {
        switch Socket.receive(link.fd, into: readBuffer.baseAddress!, count: readBuffer.count) {
        case .transferred, .wouldBlock: break
        case .endOfStream, .failed: close(link)
        }
    }

    private func send(_ id: BusLinkID, _ packet: [UInt8]) {
        guard let link = links[id], link.phase == .open else { return }
        if link.enqueue(packet) {
            markForFlush(link)
        } else {
            Log.warning(
                "Output buffer of a cluster bus connection over \(ClusterBusLink.sendBytesMax) bytes: closing it")
            close(link)
            deferred.append(.closed(id, .protocolError))
        }
    }

    private func markForFlush(_ link: ClusterBusLink) {
        guard !link.isMarkedForFlush else { return }
        link.isMarkedForFlush = true
        toFlush.append(link)
    }

    /// Sends what the turn has queued. A link that fails here is lost, which may queue more: for the next turn.
    private func flushQueues() {
        guard !toFlush.isEmpty else { return }
        let batch = toFlush
        toFlush.removeAll(keepingCapacity: true)
        for link in batch {
            link.isMarkedForFlush = false
            guard link.phase == .open || link.phase == .lingering else { continue }
            switch link.flush() {
            case .drained:
                if link.phase == .lingering { close(link) } else { setInterest(of: link, awaitsWritable: false) }
            case .wouldBlock: setInterest(of: link, awaitsWritable: true)
            case .failed(let error):
                if link.phase == .lingering { close(link) } else { lose(link, BusLinkCloseReason(error)) }
            }
            if link.phase == .open { state.linkBuffered(link.id, bytes: link.queuedByteCount) }
        }
    }

    private func setInterest(of link: ClusterBusLink, awaitsWritable: Bool) {
        guard link.awaitsWritable != awaitsWritable else { return }
        link.awaitsWritable = awaitsWritable
        try? poller.modify(
            link.fd, awaitsWritable ? [.readable, .writable] : .readable, token: link.id.rawValue)
    }

    /// The core has forgotten the link. What it was told to send still leaves, if the peer takes it soon.
    private func letGo(_ id: BusLinkID) {
        guard let link = links[id], link.phase != .closed else { return }
        if link.phase == .open, link.queuedByteCount > 0 {
            link.phase = .lingering
            link.deadline = SystemClock.monotonicMilliseconds + Self.lingerMilliseconds
            markForFlush(link)
        } else {
            close(link)
        }
    }

    /// The connection is gone, and the core hears why.
    private func lose(_ link: ClusterBusLink, _ reason: BusLinkCloseReason) {
        close(link)
        state.linkClosed(link.id, reason: reason, now: now)
        perform()
    }

    private func close(_ link: ClusterBusLink) {
        precondition(link.phase != .closed)
        link.phase = .closed
        poller.remove(link.fd)
        Socket.close(link.fd)
        links[link.id] = nil
        if link.isInbound { inboundCount -= 1 }
        assemblyByteCount -= link.assemblyByteCount
    }

    /// Links that opened or failed while effects were carried out. What that leads to waits for the next turn, which
    /// comes at once, so that a core that dials again and again cannot hold up the others.
    private func handleDeferred() {
        guard !deferred.isEmpty else { return }
        let events = deferred
        deferred.removeAll(keepingCapacity: true)
        for event in events where isRunning {
            switch event {
            case .opened(let id):
                if let link = links[id], link.phase == .open { tellOpened(link) }
            case .closed(let id, let reason):
                state.linkClosed(id, reason: reason, now: now)
                perform()
            }
        }
    }

    /// Gives up what has waited too long.
    private func sweep(_ monotonic: Int64) {
        lastSweep = monotonic
        if let until = acceptPausedUntil, monotonic >= until {
            acceptPausedUntil = nil
            watchListeners(.readable)
        }
        for link in links.values.filter({ $0.deadline <= monotonic }).sorted(by: { $0.id.rawValue < $1.id.rawValue }) {
            switch link.phase {
            case .connecting: lose(link, .timedOut)
            case .open: lose(link, .timedOut)
            case .lingering: close(link)
            case .closed: break
            }
        }
    }
}

extension Int {
    fileprivate var isPowerOfTwo: Bool { self > 0 && self & (self - 1) == 0 }
}

extension LogLevel {
    fileprivate init(_ level: ClusterLogLevel) {
        self =
            switch level {
            case .debug: .debug
            case .verbose: .verbose
            case .notice: .notice
            case .warning: .warning
            }
    }
}
