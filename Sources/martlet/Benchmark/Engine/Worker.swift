import Histogram
import MartletBase
import MartletRESP
import MartletSystem
import Synchronization

// One thread of a load generator: its connections, and a loop around epoll.
//
// 1. Open all connections, send what begins each of them (AUTH, SELECT …), and report to be ready. The measurement starts
//    when all threads are.
// 2. Send. Against one server and without a rate, each connection goes by itself: a batch of requests is sent with one
//    call, and when its last reply is in, the next one follows at once (Worker+Batches). With a rate, or in a cluster,
//    the thread decides: it goes through the operations that are due and gives each to a connection that has room
//    (Worker+Dispatch).
// 3. When nothing is left to be sent and the last reply is in, report to be done.
//
// Replies arrive in one buffer that all connections share, because a reply is of no interest once its end is found:
// only a line that is cut is kept until its rest arrives. The clock is read once for each `recv`; all replies that it
// brought have that time.

/// Drives the connections of one thread. Made and used on that thread.
struct Worker: ~Copyable {
    private enum Phase { case opening, waiting, running }

    let run: Run
    let index: Int
    private var poller: Poller
    private var phase = Phase.opening
    var composer: Composer
    private(set) var connections: UnsafeMutablePointer<Connection>
    private(set) var connectionCount = 0
    private var connectionCapacity: Int
    /// One for each endpoint.
    var lanes: [Lane] = []
    var endpoints: [Endpoint]
    /// Connections of this thread to each node.
    let connectionsPerLane: Int
    private var nextToOpen = 0
    private var connectingCount = 0
    private var readyCount = 0
    private let buffer: UnsafeMutableRawPointer

    /// Requests that were sent, or wait to be, and have no reply yet.
    var outstandingCount = 0
    /// Nothing more is to be sent.
    var isSent = false
    var measureStart: Int64 = 0
    /// The last reading of the clock.
    var now: Int64 = 0

    // Since the last report.
    private let latencies: UnsafeMutablePointer<LatencyHistogram>
    private var latencySum: Int64 = 0
    private var errors: [String: ErrorCount] = [:]
    private var errorCount = 0
    var movedCount = 0
    var askCount = 0
    private var nextReport = Int64.max
    private var reportCount = 0

    // Replies with the same latency, not yet recorded.
    private var runLatency: Int64 = 0
    private var runLabel = 0
    private var runCount: UInt64 = 0

    // Worker+Dispatch.
    let isDispatching: Bool
    var schedule: RateSchedule?
    /// Open loop: how late requests were sent though there was room for them.
    var delays: LatencyHistogram?
    /// The turn before this one ended for want of room.
    var lacksRoom = false
    var credit = 0
    /// The most requests that may be without a reply at a time.
    let outstandingMax: Int
    /// Requests that a connection may be given at a time.
    let pendingMax: Int
    var owners: [UInt16?] = []
    var topologyVersion = 0
    var dirty: [Int] = []
    /// The requests of the operation in hand, and how many bytes each has.
    var scratch = ByteBuffer()
    var byteCounts: [Int] = []
    /// Where a request went that could go anywhere.
    var nextLane = 0

    /// What one `recv` takes at most.
    private static let bufferBytes = 256 * 1024
    /// Connects under way at a time: a listening socket's backlog is finite.
    private static let connectingMax = 64
    private static let wakeToken = UInt64.max
    static let reportIntervalNanoseconds: Int64 = 250_000_000

    /// - Parameter poller: watches the thread's wake-up already: see ``poller(for:index:)``.
    init(_ run: Run, index: Int, poller: consuming Poller) {
        let settings = run.settings
        self.run = run
        self.index = index
        self.poller = poller
        composer = Composer(
            run.workload, keys: KeySource(settings.keys, keyCount: settings.keyCount, counters: run.counters),
            tags: run.tags, seed: settings.seed &+ UInt64(index))
        let map = run.topology?.current
        endpoints = map?.endpoints ?? settings.endpoints
        owners = map?.owners ?? []
        topologyVersion = run.topology?.version.load(ordering: .acquiring) ?? 0
        let share = settings.connectionCount / settings.threadCount
        let mine = max(1, share + (index < settings.connectionCount % settings.threadCount ? 1 : 0))
        connectionsPerLane = max(1, (mine + endpoints.count - 1) / endpoints.count)
        isDispatching = settings.rate != nil || run.topology != nil
        pendingMax = settings.pipeline * run.workload.requestsPerOperationMax
        outstandingMax = mine * pendingMax
        connectionCapacity = max(mine, endpoints.count)
        connections = .allocate(capacity: connectionCapacity)
        buffer = .allocate(byteCount: Self.bufferBytes, alignment: 64)
        let labelCount = run.workload.labels.count
        latencies = .allocate(capacity: labelCount)
        latencies.initialize(repeating: .latencies(significantDigits: settings.significantDigits), count: labelCount)
        lanes = endpoints.map { _ in Lane() }
        // Every node gets one, even if there are more nodes than connections.
        for number in 0..<max(mine, endpoints.count) { addConnection(lane: number % endpoints.count) }
    }

    static func poller(for run: Run, index: Int) throws(SystemError) -> Poller {
        let poller = try Poller()
        try poller.add(run.workerWakeups[index].fd, .readable, token: wakeToken)
        return poller
    }

    deinit {
        for index in 0..<connectionCount {
            if connections[index].fd >= 0 { Socket.close(connections[index].fd) }
        }
        connections.deinitialize(count: connectionCount)
        connections.deallocate()
        latencies.deinitialize(count: run.workload.labels.count)
        latencies.deallocate()
        buffer.deallocate()
    }

    @discardableResult
    mutating func addConnection(lane: Int) -> Int {
        if connectionCount == connectionCapacity {
            connectionCapacity *= 2
            let new = UnsafeMutablePointer<Connection>.allocate(capacity: connectionCapacity)
            new.moveInitialize(from: connections, count: connectionCount)
            connections.deallocate()
            connections = new
        }
        (connections + connectionCount).initialize(to: Connection(lane: lane, pendingCapacity: pendingMax + 1))
        lanes[lane].add(connectionCount)
        connectionCount += 1
        begin(connectionCount - 1)
        return connectionCount - 1
    }

    /// Puts the commands that begin a connection in front of its requests.
    private mutating func begin(_ index: Int) {
        connections[index].output.removeAll()
        connections[index].sentCount = 0
        connections[index].sendEnd = 0
        for command in run.settings.prefix {
            connections[index].output.append(command)
            connections[index].sendEnd += command.count
            connections[index].pending.append(
                PendingRequest(start: now, byteCount: command.count, label: 0, kind: .prefix))
        }
        connections[index].prefixCount = run.settings.prefix.count
    }

    // MARK: The loop

    mutating func work() {
        now = SystemClock.monotonicNanoseconds
        openMore()
        while !run.isStopped.load(ordering: .relaxed) {
            let eventCount = poller.wait(timeoutNanoseconds: waitNanoseconds())
            if eventCount == 0 || isDispatching { now = SystemClock.monotonicNanoseconds }
            for index in 0..<eventCount {
                let event = poller.event(at: index)
                if event.token == Self.wakeToken {
                    run.workerWakeups[self.index].acknowledge()
                } else {
                    handle(event, of: Int(event.token))
                }
            }
            flushRun()
            switch phase {
            case .opening: announceIfReady()
            case .waiting: beginIfLetGo()
            case .running: break
            }
            if phase == .running, endTurn() { return }
        }
        if phase == .running { report(isLast: true) }
    }

    /// Negative: until something happens.
    private func waitNanoseconds() -> Int64 {
        guard phase == .running else { return -1 }
        var next = nextReport
        if let schedule, !isSent, hasRoom { next = min(next, schedule.next) }
        return max(0, next - now)
    }

    private mutating func announceIfReady() {
        guard readyCount == connectionCount, !run.settings.isIdle else { return }
        phase = .waiting
        run.readyCount.wrappingAdd(1, ordering: .acquiringAndReleasing)
        run.wakeup.signal()
        beginIfLetGo()
    }

    private mutating func beginIfLetGo() {
        let start = run.start.load(ordering: .acquiring)
        guard start != 0 else { return }
        phase = .running
        now = SystemClock.monotonicNanoseconds
        measureStart = run.measureStart
        nextReport = measureStart + Self.reportIntervalNanoseconds
        if isDispatching {
            if let rate = run.settings.rate {
                schedule = RateSchedule(
                    start: start, rate: rate, threadIndex: index, threadCount: run.settings.threadCount)
                delays = .latencies(significantDigits: run.settings.significantDigits)
                Thread.setTimerSlack(nanoseconds: 1)
            }
        } else {
            for index in 0..<connectionCount { sendBatch(index) }
        }
    }

    /// True when the work is done.
    private mutating func endTurn() -> Bool {
        if isDispatching { dispatch() }
        if now >= nextReport { report() }
        guard isSent, outstandingCount == 0 else { return false }
        report(isLast: true)
        return true
    }

    // MARK: Connections

    private mutating func openMore() {
        while connectingCount < Self.connectingMax, nextToOpen < connectionCount {
            open(nextToOpen)
            nextToOpen += 1
        }
    }

    /// Opens connections that were added while the run is under way.
    mutating func openAdded() { openMore() }

    func endpoint(of index: Int) -> Endpoint { endpoints[connections[index].lane] }

    mutating func open(_ index: Int) {
        let isConnected: Bool
        let fd: Int32
        switch Socket.connect(to: endpoint(of: index).address) {
        case .connected(let descriptor): (fd, isConnected) = (descriptor, true)
        case .inProgress(let descriptor): (fd, isConnected) = (descriptor, false)
        case .failed(let error): return run.fail("Could not connect to \(endpoint(of: index).name): \(error.reason)")
        }
        connections[index].fd = fd
        connections[index].state = .connecting
        connectingCount += 1
        do throws(SystemError) {
            try poller.add(fd, isConnected ? .readable : .writable, token: UInt64(index))
        } catch {
            return run.fail("Could not watch a connection: \(error)")
        }
        if isConnected { connected(index) }
    }

    private mutating func connected(_ index: Int) {
        connectingCount -= 1
        run.openConnectionCount.wrappingAdd(1, ordering: .relaxed)
        if !endpoint(of: index).address.isUnix { try? Socket.setNoDelay(connections[index].fd) }
        if connections[index].prefixCount == 0 { return becomeReady(index) }
        connections[index].state = .preparing
        flush(index)
    }

    private mutating func becomeReady(_ index: Int) {
        connections[index].state = .ready
        readyCount += 1
        openMore()
        if isDispatching {
            listIfFree(index)
            // Requests may have been given to it already.
            flush(index)
            return
        }
        prepareBatches(index)
        if phase == .running { sendBatch(index) }
    }

    /// Lists a connection that has room for an operation.
    mutating func listIfFree(_ index: Int, first: Bool = false) {
        let connection = connections + index
        guard connection.pointee.state == .ready, !connection.pointee.isListed,
            connection.pointee.pending.count + run.workload.requestsPerOperationMax <= pendingMax
        else { return }
        connection.pointee.isListed = true
        if first {
            lanes[connection.pointee.lane].listFirst(index)
        } else {
            lanes[connection.pointee.lane].list(index)
        }
    }

    mutating func reopen(_ index: Int) {
        poller.remove(connections[index].fd)
        Socket.close(connections[index].fd)
        run.openConnectionCount.wrappingSubtract(1, ordering: .relaxed)
        readyCount -= 1
        connections[index].fd = -1
        connections[index].waitsForRoom = false
        begin(index)
        open(index)
    }

    private mutating func handle(_ event: Poller.Event, of index: Int) {
        if connections[index].state == .connecting {
            if let error = Socket.connectResult(connections[index].fd) {
                return run.fail("Could not connect to \(endpoint(of: index).name): \(error.reason)")
            }
            watch(index, .readable)
            now = SystemClock.monotonicNanoseconds
            return connected(index)
        }
        if connections[index].waitsForRoom, event.isWritable { flush(index) }
        if event.isReadable { receive(index) }
    }

    private mutating func watch(_ index: Int, _ interest: Poller.Interest) {
        do throws(SystemError) {
            try poller.modify(connections[index].fd, interest, token: UInt64(index))
        } catch {
            run.fail("Could not watch a connection: \(error)")
        }
    }

    // MARK: Sending and receiving

    mutating func flush(_ index: Int) {
        let connection = connections + index
        while connection.pointee.sentCount < connection.pointee.sendEnd {
            let result = Socket.send(
                connection.pointee.fd,
                from: connection.pointee.output.bytes.baseAddress! + connection.pointee.sentCount,
                count: connection.pointee.sendEnd - connection.pointee.sentCount)
            switch result {
            case .transferred(let count): connection.pointee.sentCount += count
            case .wouldBlock:
                if !connection.pointee.waitsForRoom {
                    connection.pointee.waitsForRoom = true
                    watch(index, [.readable, .writable])
                }
                return
            case .failed(let error): return lost(index, error.reason)
            case .endOfStream: return lost(index, "the server closed it")
            }
        }
        if connection.pointee.waitsForRoom {
            connection.pointee.waitsForRoom = false
            watch(index, .readable)
        }
    }

    private mutating func lost(_ index: Int, _ cause: String) {
        let left = run.openConnectionCount.wrappingSubtract(1, ordering: .relaxed).newValue
        if run.settings.isIdle, left > 0 {
            poller.remove(connections[index].fd)
            Socket.close(connections[index].fd)
            connections[index].fd = -1
            connections[index].state = .closed
            return
        }
        run.fail("Lost the connection to \(endpoint(of: index).name): \(cause)")
    }

    private mutating func receive(_ index: Int) {
        let connection = connections + index
        let carried = connection.pointee.carry.count
        if carried > 0 {
            connection.pointee.carry.withUnsafeBytes { buffer.copyMemory(from: $0.baseAddress!, byteCount: carried) }
            connection.pointee.carry.removeAll(keepingCapacity: true)
        }
        switch Socket.receive(connection.pointee.fd, into: buffer + carried, count: Self.bufferBytes - carried) {
        case .transferred(let count):
            now = SystemClock.monotonicNanoseconds
            scan(index, UnsafeRawBufferPointer(start: buffer, count: carried + count))
        case .wouldBlock:
            if carried > 0 { connection.pointee.carry += UnsafeRawBufferPointer(start: buffer, count: carried) }
        case .endOfStream: lost(index, "the server closed it")
        case .failed(let error): lost(index, error.reason)
        }
    }

    private mutating func scan(_ index: Int, _ bytes: UnsafeRawBufferPointer) {
        // A redirection may add connections, which moves all of them: none is held by its address here.
        var position = 0
        var scanner = connections[index].scanner
        scanning: while true {
            switch scanner.next(bytes, &position) {
            case .reply:
                guard let request = connections[index].pending.popFirst() else {
                    return run.fail("\(endpoint(of: index).name) sent a reply to nothing")
                }
                guard consume(index, request) else { return }
                complete(request)
            case .error:
                let text = String(bytes: UnsafeRawBufferPointer(rebasing: bytes[scanner.errorText]))
                guard receiveError(text, index) else { return }
            case .incomplete: break scanning
            case .malformed(let error):
                return run.fail("\(endpoint(of: index).name) does not speak RESP: \(error)")
            }
        }
        if position < bytes.count {
            connections[index].carry += UnsafeRawBufferPointer(rebasing: bytes[position...])
        }
        connections[index].scanner = scanner
        if connections[index].state == .preparing {
            if connections[index].prefixCount == 0 { becomeReady(index) }
            return
        }
        if isDispatching { return listIfFree(index) }
        if !isDispatching, phase == .running, connections[index].pending.count == 0 { batchIsAnswered(index) }
    }

    /// A request is answered: its bytes are of no more use. Those of a batch stay, to be sent again.
    ///
    /// - Returns: false when the run is over, because they had not even been sent.
    @inline(__always)
    private mutating func consume(_ index: Int, _ request: PendingRequest) -> Bool {
        if request.kind == .prefix {
            connections[index].prefixCount -= 1
        } else {
            outstandingCount &-= 1
            guard isDispatching else { return true }
        }
        guard connections[index].sentCount >= request.byteCount else {
            run.fail("\(endpoint(of: index).name) answered a request before it was sent")
            return false
        }
        connections[index].output.removeFirst(request.byteCount)
        connections[index].sentCount -= request.byteCount
        connections[index].sendEnd -= request.byteCount
        return true
    }

    /// False when the run is over.
    private mutating func receiveError(_ text: String, _ index: Int) -> Bool {
        let name = endpoint(of: index).name
        guard let request = connections[index].pending.popFirst() else {
            // A server that is full says so and closes.
            run.fail("\(name) refused a connection: \(text)")
            return false
        }
        if request.kind == .prefix {
            run.fail("\(name) answered the commands that begin a connection with: \(text)")
            return false
        }
        if run.topology != nil, let redirection = Redirection(parsing: text, from: endpoint(of: index)),
            request.redirectCount < Redirection.countMax
        {
            redirect(index, request, redirection)
            return consume(index, request)
        }
        guard consume(index, request) else { return false }
        if request.start >= measureStart {
            note(text)
            run.show(text, from: endpoint(of: index), now: now)
        }
        complete(request)
        return true
    }

    private mutating func note(_ text: String) {
        let word = String(text.prefix { $0 != " " }.prefix(ErrorCount.wordCharactersMax))
        errorCount += 1
        // A hostile server must not fill the memory with new words.
        errors.note(word, ErrorCount(count: 1, example: String(text.prefix(500))))
    }

    // MARK: Recording

    @inline(__always)
    private mutating func complete(_ request: PendingRequest) {
        guard request.kind == .counted, request.start >= measureStart else { return }
        let latency = now &- request.start
        if latency == runLatency, Int(request.label) == runLabel {
            runCount &+= 1
        } else {
            flushRun()
            runLatency = latency
            runLabel = Int(request.label)
            runCount = 1
        }
    }

    private mutating func flushRun() {
        guard runCount > 0 else { return }
        let value = min(UInt64(max(runLatency, 0)), LatencyHistogram.nanosecondsMax)
        latencies[runLabel].record(value, count: runCount)
        latencySum &+= runLatency &* Int64(runCount)
        runCount = 0
    }

    /// Hands in what was counted since the last time. Only the histograms' places are exchanged here: adding up and
    /// emptying them takes a third of a millisecond, which would show in the latencies.
    private mutating func report(isLast: Bool = false) {
        flushRun()
        // Replies that come after the end belong to requests of the last second.
        let end = run.sendEnd == Int64.max ? nextReport : min(nextReport, max(run.sendEnd, measureStart + 1))
        let second = Int((end - 1 - measureStart) / 1_000_000_000)
        let report = WorkerReport(
            latencies: (0..<run.workload.labels.count).map { (latencies + $0).move() }, delays: delays.take(),
            latencySum: latencySum,
            errors: errors, errorCount: errorCount, movedCount: movedCount, askCount: askCount,
            missedCount: isLast ? missedCount() : 0, second: second, time: now)
        let spare = run.exchange.withLock { exchange in
            exchange.reports.append(report)
            return exchange.spares.popLast()
        }
        for (label, histogram) in (spare ?? run.emptyLatencies()).enumerated() {
            (latencies + label).initialize(to: histogram)
        }
        if schedule != nil { delays = .latencies(significantDigits: run.settings.significantDigits) }
        latencySum = 0
        errors = [:]
        errorCount = 0
        movedCount = 0
        askCount = 0
        while nextReport <= now { nextReport += Self.reportIntervalNanoseconds }
    }
}
