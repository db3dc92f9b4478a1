import ArgumentParser
import MartletSimulation
import Synchronization

/// Runs clusters in virtual time, one history per seed, and stops at the first violation.
@main struct SimulatorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "martlet-simulator",
        abstract: "Runs a whole cluster in virtual time from one seed, breaks it, and checks its promises.",
        discussion: """
            The same seed with the same --nodes and --hours always gives the same history, and the same fingerprint. \
            A seed that violates a promise is printed with what happened last and the command that replays it; the \
            exit status is then 1.
            """)

    @Option(help: "The first seed.")
    var seed: UInt64 = 1

    @Option(help: "How many seeds to run, counted from the first.")
    var seeds = 1

    @Option(help: "Nodes of the cluster, 3 to 1000.")
    var nodes = 6

    @Option(help: "Virtual time of each history in hours.")
    var hours = 0.1

    @Option(help: "Histories that run at a time.")
    var jobs = 2

    @Flag(help: "Print everything that happens.")
    var verbose = false

    @Option(help: ArgumentHelp("Plant a bug that the checkers should find.", visibility: .hidden))
    var sabotage: Sabotage?

    func validate() throws {
        guard (3...1000).contains(nodes) else { throw ValidationError("--nodes must be from 3 to 1000.") }
        guard (1...10_000_000).contains(seeds) else { throw ValidationError("--seeds must be at least 1.") }
        guard hours > 0, hours <= 10_000 else { throw ValidationError("--hours must be above 0, at most 10000.") }
        guard (1...256).contains(jobs) else { throw ValidationError("--jobs must be from 1 to 256.") }
    }

    /// Lines of the transcript that a failed seed prints.
    private static let lastEventCount = 60

    func run() async throws {
        let start = ContinuousClock.now
        var total = SimulationStatistics()
        var virtualMilliseconds: Int64 = 0
        var eventCount: UInt64 = 0
        var failures: [SimulationOutcome] = []
        var next = 0
        await withTaskGroup(of: SimulationOutcome.self) { group in
            func begin() {
                guard next < seeds else { return }
                let options = options(seed: seed &+ UInt64(next), isVerbose: verbose)
                next += 1
                group.addTask { Simulation.run(options) }
            }
            for _ in 0..<(verbose ? 1 : jobs) { begin() }
            while let outcome = await group.next() {
                total = total + outcome.statistics
                virtualMilliseconds += outcome.virtualMilliseconds
                eventCount += outcome.eventCount
                if seeds == 1 {
                    print("seed \(outcome.seed): fingerprint \(hex(outcome.fingerprint)), \(outcome.weather)")
                }
                if outcome.violation != nil {
                    failures.append(outcome)
                    report(outcome)
                }
                begin()
            }
        }
        let wall = ContinuousClock.now - start
        print(
            """
            \(nodes) nodes, \(seeds) seeds: \(virtualMilliseconds / 36_000) hundredths of a virtual hour in \
            \(wall.components.seconds) s; \(eventCount) events, \(total.packets) packets, \(total.rounds) rounds, \
            \(total.faults) faults, \(total.commands) commands, \(total.promotions) promotions, \
            \(total.migratedSlots) migrated slots, \(total.fullResyncs) full and \(total.partialResyncs) partial \
            resyncs, \(total.writes) writes (\(total.acknowledged) acknowledged, of these \(total.excused) may be \
            lost), slowest convergence \(total.slowestConvergence) ms
            """)
        print("\(seeds - failures.count) passed, \(failures.count) failed")
        if !failures.isEmpty { throw ExitCode(1) }
    }

    private func options(seed: UInt64, isVerbose: Bool) -> SimulationOptions {
        var options = SimulationOptions(seed: seed)
        options.nodeCount = nodes
        options.hours = hours
        options.sabotage = sabotage
        if isVerbose { options.transcript = { print($0) } }
        return options
    }

    /// What was found, what led to it, and how to see it again.
    private func report(_ outcome: SimulationOutcome) {
        guard let violation = outcome.violation else { return }
        print("seed \(outcome.seed) FAILED: \(violation)")
        print("  weather: \(outcome.weather)")
        if !verbose {
            // The same history once more, this time with a memory.
            let lines = LastLines(countMax: SimulatorCommand.lastEventCount)
            var options = options(seed: outcome.seed, isVerbose: false)
            options.transcript = { lines.add($0) }
            let replay = Simulation.run(options)
            print("  the last events:")
            for line in lines.all { print("    \(line)") }
            if replay.fingerprint != outcome.fingerprint { print("  BUG: the replay went another way.") }
        }
        print("  replay: martlet-simulator --seed \(outcome.seed) --nodes \(nodes) --hours \(hours) --verbose")
    }

    private func hex(_ number: UInt64) -> String { String(number, radix: 16) }
}

extension Sabotage: ExpressibleByArgument {}

/// The end of a transcript.
private final class LastLines: Sendable {
    private let countMax: Int
    private let lines = Mutex<[String]>([])

    init(countMax: Int) { self.countMax = countMax }

    func add(_ line: String) {
        lines.withLock {
            $0.append(line)
            if $0.count >= 2 * countMax { $0.removeFirst(countMax) }
        }
    }

    var all: [String] { lines.withLock { $0.suffix(countMax) } }
}
