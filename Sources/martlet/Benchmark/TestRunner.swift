import Glibc
import MartletSystem
import Synchronization

/// Runs tests one after the other against one target, and shows how far they are.
struct TestRunner: ~Copyable {
    let target: Target
    let settings: RunSettings
    let sizes: SizeDistribution
    let enabled: Placeholder.Enabled
    private let signals: SignalReader
    private var poller: Poller
    private var line: ProgressLine
    /// The user had enough.
    private(set) var isInterrupted = false

    private static let progressInterval: Int64 = 250_000_000
    private static let signalToken: UInt64 = 0
    private static let wakeToken: UInt64 = 1

    init(
        _ target: Target, _ settings: RunSettings, sizes: SizeDistribution, enabled: Placeholder.Enabled,
        showsProgress: Bool
    ) throws(SystemError) {
        let signals = try SignalReader()
        let poller = try Poller()
        try poller.add(signals.fd, .readable, token: Self.signalToken)
        self.target = target
        self.settings = settings
        self.sizes = sizes
        self.enabled = enabled
        self.signals = signals
        self.poller = poller
        line = ProgressLine(isShown: showsProgress && isatty(STDOUT_FILENO) == 1)
    }

    /// Runs one workload to its end, or until the user interrupts it.
    mutating func measure(_ workload: Workload) throws -> TestResult {
        let topology = target.map.map { Topology($0) }
        let tags = topology == nil ? nil : HashTags()
        let target = target
        let compiled = CompiledWorkload(workload, sizes: sizes, enabled: enabled) { arguments in
            topology == nil ? nil : target.keyPosition(of: arguments)
        }
        let run = try Run(settings, workload: compiled, topology: topology, tags: tags)
        try poller.add(run.wakeup.fd, .readable, token: Self.wakeToken)
        defer { poller.remove(run.wakeup.fd) }
        try run.startThreads()
        var tally = Tally(labelCount: compiled.labels.count, significantDigits: settings.significantDigits)
        try wait(for: run, &tally) { $0.readyCount.load(ordering: .acquiring) == $0.settings.threadCount }
        let start = SystemClock.monotonicNanoseconds
        run.letGo(at: start)
        let measureStart = start + settings.warmupNanoseconds
        while SystemClock.monotonicNanoseconds < measureStart, !run.isStopped.load(ordering: .acquiring) {
            waitOnce(for: run, until: measureStart)
        }
        let processorStart = SystemClock.processorNanoseconds
        line.begin(workload.title, at: measureStart)
        try wait(for: run, &tally) { $0.endedCount.load(ordering: .acquiring) == $0.settings.threadCount }
        let processorEnd = SystemClock.processorNanoseconds
        line.clear()
        return TestResult(
            title: workload.title, labels: compiled.labels, requestCounts: compiled.requestCounts, tally: tally,
            seconds: Double(max(0, tally.end - measureStart)) / 1e9,
            generatorSeconds: Double(processorEnd - processorStart) / 1e9, threadCount: settings.threadCount)
    }

    /// Opens the connections and leaves them alone, for good.
    mutating func idle() throws {
        var settings = settings
        settings.isIdle = true
        let compiled = CompiledWorkload(
            StandardTest.all(hasRandomKeys: false, isCluster: false)[0].workload, sizes: sizes, enabled: enabled)
        let run = try Run(settings, workload: compiled, topology: target.map.map { Topology($0) })
        try poller.add(run.wakeup.fd, .readable, token: Self.wakeToken)
        defer { poller.remove(run.wakeup.fd) }
        try run.startThreads()
        while !isInterrupted, run.endedCount.load(ordering: .acquiring) < settings.threadCount {
            waitOnce(for: run, until: SystemClock.monotonicNanoseconds + Self.progressInterval)
            line.show("clients: \(run.openConnectionCount.load(ordering: .relaxed))")
        }
        line.clear()
        if let failure = run.failure { throw ToolFailure(failure) }
    }

    /// - Throws: the failure of the run.
    private mutating func wait(for run: Run, _ tally: inout Tally, until isOver: (Run) -> Bool) throws {
        while !isOver(run), run.endedCount.load(ordering: .acquiring) < settings.threadCount {
            waitOnce(for: run, until: SystemClock.monotonicNanoseconds + Self.progressInterval)
            run.collect(into: &tally)
            line.update(
                requestCount: tally.requestCount, latencySum: tally.latencySum, now: SystemClock.monotonicNanoseconds)
        }
        run.collect(into: &tally)
        if let failure = run.failure {
            line.clear()
            throw ToolFailure(failure)
        }
    }

    private mutating func waitOnce(for run: Run, until time: Int64) {
        let timeout = max(1, time - SystemClock.monotonicNanoseconds)
        for index in 0..<poller.wait(timeoutNanoseconds: timeout) {
            switch poller.event(at: index).token {
            case Self.wakeToken: run.wakeup.acknowledge()
            default:
                while signals.next() != nil { isInterrupted = true }
                if isInterrupted { run.stop() }
            }
        }
        if let topology = run.topology, topology.isStale.exchange(false, ordering: .acquiringAndReleasing) {
            _ = target.refresh(topology)
        }
    }
}
