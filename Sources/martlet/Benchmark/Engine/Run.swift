import Histogram
import MartletBase
import MartletSystem
import Synchronization

/// What a run is asked to do.
package struct RunSettings: Sendable {
    /// The servers: one, or those of a cluster.
    package var endpoints: [Endpoint]
    package var connectionCount = 50
    package var threadCount = 1
    /// Operations that a connection sends before it waits for replies.
    package var pipeline = 1
    /// Operations to be sent; nil when only time ends the run.
    package var requestCount: Int?
    package var durationNanoseconds: Int64?
    package var warmupNanoseconds: Int64 = 0
    /// Operations per second over all threads; nil sends as fast as replies come.
    package var rate: Double?
    package var keepsAlive = true
    /// Only opens connections.
    package var isIdle = false
    /// Commands that begin each connection, encoded.
    package var prefix: [[UInt8]] = []
    package var keys: KeyDistribution = .uniform
    package var keyCount = 1
    package var seed: UInt64 = 0
    package var significantDigits = 3

    package init(endpoints: [Endpoint]) { self.endpoints = endpoints }
}

/// What the threads of one run share. Counted on the way: how many operations may still be sent. Everything else is
/// touched at most a few times a second.
package final class Run: Sendable {
    package let settings: RunSettings
    package let workload: CompiledWorkload
    /// Nil but for a cluster.
    package let topology: Topology?
    let tags: HashTags?
    let counters: KeyCounters
    /// When the threads were let go; 0 before that.
    let start = Atomic<Int64>(0)
    /// Operations that are still to be sent; below 0 once all are.
    private let remaining: Atomic<Int>
    package let isStopped = Atomic<Bool>(false)
    package let readyCount = Atomic<Int>(0)
    /// Threads that have ended.
    package let endedCount = Atomic<Int>(0)
    package let openConnectionCount = Atomic<Int>(0)
    private let errorPrintedAt = Atomic<Int64>(0)
    /// Wakes the thread that watches the run.
    package let wakeup: WakeupFD
    /// One for each thread.
    let workerWakeups: [WakeupFD]
    let exchange: Mutex<Exchange>

    /// What the threads and the one that watches them pass to each other.
    struct Exchange: Sendable {
        /// Not yet counted, oldest first.
        var reports: [WorkerReport] = []
        /// Empty histograms, one for each label: making them is not a worker's business.
        var spares: [[LatencyHistogram]] = []
        /// Why the run was broken off.
        var failure: String?
    }

    package init(
        _ settings: RunSettings, workload: CompiledWorkload, topology: Topology? = nil, tags: HashTags? = nil
    ) throws(SystemError) {
        self.settings = settings
        self.workload = workload
        self.topology = topology
        self.tags = tags
        counters = KeyCounters(keyCount: settings.keyCount)
        remaining = Atomic(settings.requestCount ?? Int.max)
        wakeup = try WakeupFD()
        var wakeups: [WakeupFD] = []
        for _ in 0..<settings.threadCount { wakeups.append(try WakeupFD()) }
        workerWakeups = wakeups
        exchange = Mutex(Exchange())
    }

    /// Starts the threads, which open their connections and wait to be let go.
    package func startThreads() throws(SystemError) {
        exchange.withLock { exchange in
            for _ in 0..<settings.threadCount { exchange.spares.append(emptyLatencies()) }
        }
        for index in 0..<settings.threadCount {
            // Nobody joins them: `endedCount` tells when they are through.
            _ = try Thread(name: "benchmark-\(index)") { [self] in
                work(index)
                endedCount.wrappingAdd(1, ordering: .acquiringAndReleasing)
                wakeup.signal()
            }
        }
    }

    private func work(_ index: Int) {
        do throws(SystemError) {
            var worker = Worker(self, index: index, poller: try Worker.poller(for: self, index: index))
            worker.work()
        } catch {
            fail("Could not start a thread: \(error)")
        }
    }

    /// Lets the threads go, all of which are ready.
    package func letGo(at now: Int64) {
        start.store(now, ordering: .releasing)
        wakeWorkers()
    }

    package func stop() {
        isStopped.store(true, ordering: .releasing)
        wakeWorkers()
    }

    private func wakeWorkers() {
        for wakeup in workerWakeups { wakeup.signal() }
        wakeup.signal()
    }

    /// Breaks the run off; the first cause counts.
    func fail(_ cause: String) {
        exchange.withLock { if $0.failure == nil { $0.failure = cause } }
        stop()
    }

    package var failure: String? { exchange.withLock { $0.failure } }

    func emptyLatencies() -> [LatencyHistogram] {
        workload.labels.map { _ in .latencies(significantDigits: settings.significantDigits) }
    }

    /// Counts what the threads have reported.
    package func collect(into tally: inout Tally) {
        let reports = exchange.withLock { exchange in
            defer { exchange.reports = [] }
            return exchange.reports
        }
        for report in reports { tally.add(report) }
        let spares = reports.map { _ in emptyLatencies() }
        exchange.withLock { $0.spares += spares }
    }

    /// When what is sent begins to count.
    var measureStart: Int64 { start.load(ordering: .relaxed) + settings.warmupNanoseconds }

    /// When nothing more is sent.
    var sendEnd: Int64 { settings.durationNanoseconds.map { measureStart + $0 } ?? Int64.max }

    /// How many of `wanted` operations may be sent. None once all are taken.
    func claim(_ wanted: Int) -> Int {
        let before = remaining.wrappingSubtract(wanted, ordering: .relaxed).oldValue
        return min(wanted, max(0, before))
    }

    /// Shows an error reply, at most one a second, as redis-benchmark's `-e` did.
    func show(_ error: String, from endpoint: Endpoint, now: Int64) {
        let printedAt = errorPrintedAt.load(ordering: .relaxed)
        guard printedAt == 0 || now - printedAt >= 1_000_000_000 else { return }
        guard
            errorPrintedAt.compareExchange(expected: printedAt, desired: now, ordering: .relaxed).exchanged
        else { return }
        let error = TextReport.printable(error)
        warn(topology == nil ? "Error from server: \(error)" : "Error from server \(endpoint.name): \(error)")
    }
}
