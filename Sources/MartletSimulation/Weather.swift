/// What the seed makes of a cluster before anything happens.
struct Weather: CustomStringConvertible {
    var primaryCount: Int
    var nodeTimeoutMilliseconds: Int64
    /// Microseconds.
    var latencyMin: Int64
    var latencyMax: Int64
    var lossPerMillion: Int
    var duplicatesPerMillion: Int
    var keyCount: Int
    var clientCount: Int
    /// Mean time between faults, and between an operator's actions, in milliseconds.
    var faultInterval: Int64
    var commandInterval: Int64
    /// Chance in a million that a process dies between two effects of its core while things break.
    var crashesPerMillionEffects: Int
    /// TAKEOVER, BUMPEPOCH and slot migration take epochs without asking; some seeds do without.
    var bumpsWithoutConsensus: Bool
    var usesCrashEvidence: Bool
    var allowsReplicaMigration: Bool
    var validityFactor: Int64
    var requiresFullCoverage: Bool
    /// Faults that this seed knows; each seed has its own mixture.
    var faults: [Fault]

    init(nodeCount: Int, using random: inout Chance) {
        let replicas = nodeCount < 6 ? 0 : random.oneIn(3) && nodeCount >= 9 ? 2 : 1
        primaryCount = nodeCount < 6 ? nodeCount : max(3, nodeCount / (replicas + 1) - (random.oneIn(3) ? 1 : 0))
        let timeouts: [Int64] =
            nodeCount > 30 ? [5_000, 15_000] : [1_000, 1_000, 2_000, 2_000, 2_000, 5_000, 5_000, 15_000]
        nodeTimeoutMilliseconds = timeouts[random.below(timeouts.count)]
        latencyMin = random.spread(20, 1_000)
        latencyMax = latencyMin * random.between(1, 20)
        let losses = [0, 0, 100, 1_000, 10_000]
        lossPerMillion = losses[random.below(losses.count)]
        duplicatesPerMillion = random.oneIn(3) ? 1_000 : 0
        keyCount = 64
        clientCount = 6
        faultInterval = random.spread(500, 16_000)
        commandInterval = random.spread(2_000, 32_000)
        crashesPerMillionEffects = random.oneIn(3) ? 1_000 : 0
        bumpsWithoutConsensus = !random.oneIn(3)
        usesCrashEvidence = !random.oneIn(5)
        allowsReplicaMigration = !random.oneIn(4)
        validityFactor = random.oneIn(3) ? 0 : 10
        requiresFullCoverage = !random.oneIn(4)
        var chosen = Fault.allCases.filter { _ in !random.oneIn(3) }
        if chosen.isEmpty { chosen = [.kill] }
        faults = chosen
    }

    var description: String {
        "primaries=\(primaryCount) node-timeout=\(nodeTimeoutMilliseconds)ms latency=\(latencyMin)-\(latencyMax)us "
            + "loss=\(lossPerMillion)ppm duplicates=\(duplicatesPerMillion)ppm fault-every=\(faultInterval)ms "
            + "command-every=\(commandInterval)ms crashes-in-effects=\(crashesPerMillionEffects)ppm "
            + "bumps=\(bumpsWithoutConsensus) crash-evidence=\(usesCrashEvidence) "
            + "replica-migration=\(allowsReplicaMigration) validity-factor=\(validityFactor) "
            + "full-coverage=\(requiresFullCoverage) faults=\(faults.map(\.rawValue).joined(separator: ","))"
    }
}
