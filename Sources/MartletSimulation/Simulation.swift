import MartletBase
import MartletCluster

// A whole cluster in one thread, from one seed.
//
// 1. The seed decides the weather: how many replicas, the node time-out, latencies, loss, how often what breaks.
// 2. The operator builds the cluster; clients begin to write.
// 3. Rounds until the time is up: for a while things break (`Nemesis`) and the operator works against them (failovers,
//    migrations, FORGET and MEET). Then everything is healed, and within a bounded time the cluster has to be whole
//    again (`Convergence`), and stay so while nothing happens.
// 4. Checkers look at every save, packet, view and write. The first violation ends the history.
//
// Nothing here reads a clock or a random source: a history is a pure function of `SimulationOptions`. The cluster core
// under test is the same code that runs in the server, and packets are encoded and decoded as on the wire.

package struct SimulationOptions: Sendable {
    package var seed: UInt64
    package var nodeCount = 6
    /// Length of the history in virtual time.
    package var hours = 0.1
    /// A planted bug that the checkers should find.
    package var sabotage: Sabotage?
    /// Checkers that are left out, to show what the others find.
    package var ignoredCheckers: Set<Checker> = []
    /// Gets a line for everything that happens.
    package var transcript: (@Sendable (String) -> Void)?

    package init(seed: UInt64) { self.seed = seed }
}

package enum Checker: String, Sendable, CaseIterable {
    /// No two primaries serve a slot under the same config epoch.
    case slotOwnership = "slot ownership"
    /// No node votes twice in an epoch.
    case votes
    /// Who is elected had the votes of a majority, for a failed primary or because an operator wanted it.
    case elections
    /// Epochs on a disk never go back, nor does the epoch that a primary claims its slots with.
    case epochs
    /// What a packet promises is on the disk before the packet leaves.
    case durablePromises = "durable promises"
    /// A view serves only what its node owns.
    case views
    /// Acknowledged writes survive as promised.
    case acknowledgedWrites = "acknowledged writes"
    /// The cluster is whole again within a bounded time after everything was healed.
    case convergence
    /// Nobody fails over while nothing is wrong.
    case calm
    /// The core's own refusal of a command that has to work, or a history that cannot go on.
    case progress
}

package struct Violation: Error, Sendable, CustomStringConvertible {
    package var checker: Checker
    package var text: String
    /// Virtual milliseconds since the beginning.
    package var time: Int64

    package var description: String { "\(checker.rawValue) at \(Simulation.format(time)): \(text)" }
}

package struct SimulationOutcome: Sendable {
    package var seed: UInt64
    package var violation: Violation?
    /// Equal for equal histories.
    package var fingerprint: UInt64 = 0
    package var eventCount: UInt64 = 0
    package var virtualMilliseconds: Int64 = 0
    package var statistics = SimulationStatistics()
    /// What the seed made of the cluster before anything happened.
    package var weather = ""
}

package struct SimulationStatistics: Sendable {
    package var packets = 0
    package var writes = 0
    package var acknowledged = 0
    /// Acknowledged writes that asynchronous replication may lose, and did or may have.
    package var excused = 0
    package var promotions = 0
    /// Promotions that no operator asked for.
    package var failovers = 0
    package var faults = 0
    package var migratedSlots = 0
    package var commands = 0
    package var rounds = 0
    /// Longest time that the cluster needed to be whole after healing, in milliseconds.
    package var slowestConvergence: Int64 = 0
    package var fullResyncs = 0
    package var partialResyncs = 0

    package init() {}

    package static func + (left: Self, right: Self) -> Self {
        var sum = left
        sum.packets += right.packets
        sum.writes += right.writes
        sum.acknowledged += right.acknowledged
        sum.excused += right.excused
        sum.promotions += right.promotions
        sum.failovers += right.failovers
        sum.faults += right.faults
        sum.migratedSlots += right.migratedSlots
        sum.commands += right.commands
        sum.rounds += right.rounds
        sum.slowestConvergence = max(sum.slowestConvergence, right.slowestConvergence)
        sum.fullResyncs += right.fullResyncs
        sum.partialResyncs += right.partialResyncs
        return sum
    }
}

package final class Simulation {
    let options: SimulationOptions
    let weather: Weather
    /// True time, in microseconds.
    var time = SimulatedClock.epoch
    var queue = EventQueue()
    var random: Chance
    var network: SimulatedNetwork
    var nodes: [SimulatedNode] = []
    var nodeByIP: [String: Int] = [:]
    var fingerprint = Fingerprint()
    var statistics = SimulationStatistics()
    var violation: Violation?
    var isHealed = true
    var workload: Workload
    var ground: GroundTruth
    var ownership = SlotOwnershipChecker()
    var elections = ElectionChecker()
    var epochs = EpochChecker()
    var administration = Administration()
    /// The node that carries out a command of the operator.
    var obeying: Int?
    /// For a network that forges votes.
    var lastHeaders: [Int: [UInt8]] = [:]
    var convergenceStart: Int64 = 0
    /// Counts times of trouble; what was planned in one does not happen in the next.
    var troubleRound = 0
    var lastFailover = ""

    package init(_ options: SimulationOptions) {
        self.options = options
        var random = Chance(seed: options.seed)
        weather = Weather(nodeCount: options.nodeCount, using: &random)
        network = SimulatedNetwork(
            nodeCount: options.nodeCount, latencyMin: weather.latencyMin, latencyMax: weather.latencyMax,
            lossPerMillion: weather.lossPerMillion, duplicatesPerMillion: weather.duplicatesPerMillion)
        workload = Workload(keyCount: weather.keyCount, clientCount: weather.clientCount, nodeCount: options.nodeCount)
        ground = GroundTruth(keyCount: weather.keyCount)
        self.random = random
    }

    /// Runs the history to its end or to the first violation.
    package static func run(_ options: SimulationOptions) -> SimulationOutcome {
        let simulation = Simulation(options)
        simulation.runHistory()
        simulation.queue.removeAll()
        var outcome = SimulationOutcome(seed: options.seed)
        outcome.violation = simulation.violation
        outcome.fingerprint = simulation.fingerprint.value
        outcome.eventCount = simulation.fingerprint.eventCount
        outcome.virtualMilliseconds = simulation.elapsedMilliseconds
        outcome.statistics = simulation.statistics
        outcome.weather = simulation.weather.description
        if outcome.violation != nil { simulation.describeNodes() }
        return outcome
    }

    /// How every node that runs saw the cluster when a promise was broken.
    private func describeNodes() {
        guard options.transcript != nil else { return }
        for node in nodes {
            for words in ["NODES", "LINKS"] {
                guard let reply = command(node.index, words) else { continue }
                if case .verbatim(let text) = reply {
                    say("node \(node.index) CLUSTER \(words):\n\(text)")
                } else {
                    say("node \(node.index) CLUSTER \(words): \(reply)")
                }
            }
        }
    }

    private func runHistory() {
        say("weather: \(weather)")
        boot()
        let end = SimulatedClock.epoch + Int64(options.hours * 3_600_000_000)
        startClients()
        while violation == nil, time < end {
            statistics.rounds += 1
            runTroubles()
            heal()
            converge()
        }
    }

    // MARK: Time

    var elapsedMilliseconds: Int64 { (time - SimulatedClock.epoch) / 1000 }

    func after(_ delay: Int64, _ action: @escaping () -> Void) { queue.add(at: time + max(0, delay), action) }

    /// Lets everything happen up to a time, or to a violation.
    func run(until end: Int64) {
        while violation == nil, let next = queue.nextTime, next <= end, let (at, action) = queue.popFirst() {
            time = max(time, at)
            action()
        }
        if violation == nil { time = max(time, end) }
    }

    // MARK: Findings

    func fail(_ checker: Checker, _ text: @autoclosure () -> String) {
        guard violation == nil, !options.ignoredCheckers.contains(checker) else { return }
        let found = Violation(checker: checker, text: text(), time: elapsedMilliseconds)
        violation = found
        say("VIOLATION of \(found)")
    }

    func say(_ text: @autoclosure () -> String) {
        guard let transcript = options.transcript else { return }
        transcript("\(Simulation.format(elapsedMilliseconds)) \(text())")
    }

    /// `123.456s`, without Foundation.
    package static func format(_ milliseconds: Int64) -> String {
        let rest = String(milliseconds % 1000)
        return "\(milliseconds / 1000).\(String(repeating: "0", count: 3 - rest.count))\(rest)s"
    }
}
