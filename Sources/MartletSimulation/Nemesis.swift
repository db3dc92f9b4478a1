import MartletCluster

// What breaks.

enum Fault: String, CaseIterable {
    /// kill -9, and a restart after a while.
    case kill
    /// The host goes without a word; what was not synced is lost.
    case powerCut
    /// SIGSTOP, SIGCONT.
    case stop
    /// A slow command: the command thread is busy, the bus is not.
    case stall
    /// Two halves that do not hear each other.
    case partition
    /// One node hears nobody, or is heard by nobody.
    case oneWayCut
    /// One path does not work.
    case brokenPath
    /// A path becomes slow.
    case slowPath
    /// Connections are reset.
    case reset
    /// Somebody sets the wall clock.
    case clockStep
    /// The core's own clock jumps, as if it were not slewed.
    case clockJump
    /// Both copies of a shard, or several nodes at a time, die.
    case massacre
}

extension Simulation {
    func runTroubles() {
        isHealed = false
        troubleRound += 1
        let round = troubleRound
        planFault(round)
        planAdministration(round)
        run(until: time + random.spread(10_000_000, 80_000_000))
    }

    private func planFault(_ round: Int) {
        after(random.below(2 * weather.faultInterval) * 1000) { [self] in
            guard round == troubleRound, !isHealed else { return }
            if let fault = random.pick(weather.faults) { strike(fault) }
            planFault(round)
        }
    }

    /// Undoes a fault, unless everything was healed before.
    private func undo(after delay: Int64, _ action: @escaping () -> Void) {
        let round = troubleRound
        after(delay * 1000) { [self] in
            if round == troubleRound, !isHealed { action() }
        }
    }

    /// How long a fault lasts, in milliseconds: from a blink to beyond every time-out.
    private func duration() -> Int64 { random.spread(50, max(4 * weather.nodeTimeoutMilliseconds, 20_000)) }

    private func strike(_ fault: Fault) {
        statistics.faults += 1
        let victim = random.below(nodes.count)
        fingerprint.add(.fault, time: time, node: victim)
        let lasts = duration()
        switch fault {
        case .kill:
            say("FAULT kill node \(victim)")
            killProcess(victim)
            planRestart(victim)
        case .powerCut:
            say("FAULT power cut at node \(victim)")
            cutPower(victim)
            planRestart(victim)
        case .massacre:
            let count = 2 + random.below(max(1, nodes.count / 3))
            for _ in 0..<count {
                let index = random.below(nodes.count)
                say("FAULT kill node \(index), among others")
                random.oneIn(3) ? cutPower(index) : killProcess(index)
                planRestart(index)
            }
        case .stop:
            guard let process = nodes[victim].process, !process.isStopped else { return }
            say("FAULT stop node \(victim) for \(lasts) ms")
            process.isStopped = true
            noteLossOfProcess(victim)
            undo(after: lasts) { [self] in resume(process) }
        case .stall:
            guard let process = nodes[victim].process else { return }
            say("FAULT busy command thread of node \(victim) for \(lasts) ms")
            block(process, until: time + lasts * 1000)
        case .partition:
            var isLeft = nodes.map { _ in random.oneIn(2) }
            if random.oneIn(2) {
                // A minority of one or two.
                isLeft = nodes.map { _ in false }
                isLeft[victim] = true
                if random.oneIn(2) { isLeft[random.below(nodes.count)] = true }
            }
            say("FAULT partition for \(lasts) ms: \(nodes.indices.filter { isLeft[$0] }) apart from the rest")
            cut(lasts) { isLeft[$0] != isLeft[$1] }
        case .oneWayCut:
            let hears = random.oneIn(2)
            say("FAULT node \(victim) \(hears ? "is not heard" : "does not hear") for \(lasts) ms")
            cut(lasts) { (hears ? $0 : $1) == victim && $0 != $1 }
        case .brokenPath:
            let other = random.below(nodes.count)
            let isBoth = random.oneIn(2)
            say("FAULT path from \(victim) to \(other)\(isBoth ? " and back" : "") broken for \(lasts) ms")
            cut(lasts) { ($0 == victim && $1 == other) || (isBoth && $0 == other && $1 == victim) }
        case .slowPath:
            let other = random.below(nodes.count)
            let latency = random.spread(1_000, 1_000_000)
            say("FAULT path from \(victim) to \(other) slower by \(latency) us for \(lasts) ms")
            network.slow(victim, other, by: latency)
            undo(after: lasts) { [self] in network.slow(victim, other, by: 0) }
        case .reset: resetConnections(of: victim)
        case .clockStep:
            let step = random.spread(1, 4_000_000_000) * (random.oneIn(2) ? 1 : -1)
            say("FAULT wall clock of node \(victim) set by \(step) ms")
            nodes[victim].clock.wallOffset += step * 1_000_000
        case .clockJump:
            let step = random.spread(1, 4_000) * (random.oneIn(2) ? 1 : -1)
            say("FAULT clock of node \(victim)'s core jumps by \(step) ms")
            nodes[victim].clock.jump += step
            if let process = nodes[victim].process { planTick(process) }
        }
    }

    private func cut(_ lasts: Int64, _ isCut: (Int, Int) -> Bool) {
        var paths: [(Int, Int)] = []
        for from in nodes.indices {
            for to in nodes.indices where from != to && isCut(from, to) {
                network.cut(from, to)
                paths.append((from, to))
            }
        }
        undo(after: lasts) { [self] in
            for (from, to) in paths { network.mend(from, to) }
        }
    }

    func planRestart(_ index: Int) {
        undo(after: duration()) { [self] in restart(index) }
    }

    private func restart(_ index: Int) {
        if nodes[index].process != nil { return }
        nodes[index].isHostUp = true
        startProcess(index)
    }

    private func resume(_ process: SimulatedProcess) {
        guard self.process(process.id) != nil, process.isStopped else { return }
        say("node \(process.id.node) runs again")
        process.isStopped = false
        let deferred = process.deferred
        process.deferred = []
        for action in deferred { action() }
    }

    private func block(_ process: SimulatedProcess, until end: Int64) {
        if process.commandBlockedUntil <= time { process.commandBlockedSince = time }
        process.commandBlockedUntil = max(process.commandBlockedUntil, end)
    }

    private func resetConnections(of index: Int) {
        guard let process = nodes[index].process else { return }
        say("FAULT connections of node \(index) reset")
        for connection in process.connections where random.oneIn(2) {
            endWithReset(connection)
        }
    }

    func heal() {
        say("everything is healed")
        isHealed = true
        network.heal()
        for node in nodes {
            node.isHostUp = true
            if let process = node.process {
                resume(process)
                process.commandBlockedUntil = min(process.commandBlockedUntil, time)
                process.busBlockedUntil = min(process.busBlockedUntil, time)
            } else {
                startProcess(node.index)
            }
            if violation != nil { return }
        }
    }
}
