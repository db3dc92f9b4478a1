import MartletSimulation
import Testing

@Suite struct SimulationTests {
    private func options(_ seed: UInt64, hours: Double = 0.02) -> SimulationOptions {
        var options = SimulationOptions(seed: seed)
        options.hours = hours
        return options
    }

    @Test("the same seed gives the same history, another seed another one")
    func determinism() {
        let first = Simulation.run(options(1)), again = Simulation.run(options(1))
        #expect(first.fingerprint == again.fingerprint)
        #expect(first.eventCount == again.eventCount)
        #expect(Simulation.run(options(2)).fingerprint != first.fingerprint)
    }

    @Test("a transcript does not change the history")
    func transcript() {
        var told = options(3)
        told.transcript = { _ in }
        #expect(Simulation.run(told).fingerprint == Simulation.run(options(3)).fingerprint)
    }

    @Test("clusters keep their promises", arguments: 1...3 as ClosedRange<UInt64>)
    func promises(seed: UInt64) {
        let outcome = Simulation.run(options(seed))
        #expect(outcome.violation == nil, "seed \(seed): martlet-simulator --seed \(seed) --hours 0.02 --verbose")
        #expect(outcome.statistics.acknowledged > 100)
    }

    @Test(
        "a planted bug is found by its checker",
        arguments: [
            (Sabotage.sendsBeforeSave, Checker.durablePromises), (.neverSyncs, .durablePromises),
            (.forgesVotes, .elections), (.forgetsVotes, .epochs),
        ])
    func plantedBugs(sabotage: Sabotage, checker: Checker) {
        for seed in 1...10 as ClosedRange<UInt64> {
            var options = options(seed, hours: 0.03)
            options.sabotage = sabotage
            guard let violation = Simulation.run(options).violation else { continue }
            if violation.checker == checker { return }
        }
        Issue.record("\(sabotage) was not found by the checker of \(checker.rawValue)")
    }
}
