import MartletBase
import MartletCluster

// The operator: builds the cluster, gives orders to it while things break, and clears up afterwards with what
// `redis-cli --cluster fix` would do.

struct Administration {
    struct OpenSlot {
        var slot: HashSlot
        var source: Int
        var target: Int

        func involves(_ node: Int) -> Bool { source == node || target == node }
    }

    /// Migrations that were begun and not yet ended.
    var openSlots: [OpenSlot] = []
    /// Nodes that were taken out of the cluster, and when they may come back.
    var outcasts: [Int: Int64] = [:]
}

extension Simulation {
    /// A CLUSTER subcommand. Nil if the node does not answer.
    @discardableResult
    func command(_ index: Int, _ words: String) -> ClusterReply? {
        guard let process = nodes[index].process, !process.isStopped, process.busBlockedUntil <= time else {
            return nil
        }
        statistics.commands += 1
        var request = ClusterRequest(words.split(separator: " ").map(String.init))
        request.databaseIsEmpty = nodes[index].data.isEmpty
        if let slot = request.slotWhoseKeysMatter { request.keyCountInSlot = keyCount(index, in: slot) }
        fingerprint.add(.command, time: time, node: index)
        fingerprint.add(Array(words.utf8))
        var reply: ClusterReply?
        obeying = index
        event(process) { reply = $0.execute(request, now: $1) }
        obeying = nil
        // Who dies on the way does not answer.
        return nodes[index].process === process ? reply : nil
    }

    func nodeID(_ index: Int) -> NodeID? { nodes[index].process?.state.view.nodeID }

    private func order(_ index: Int, _ words: String) -> Bool {
        let reply = command(index, words)
        say("OPERATOR node \(index) CLUSTER \(words): \(reply.map { "\($0)" } ?? "no answer")")
        return reply == .ok
    }

    // MARK: Building the cluster

    func boot() {
        for index in 0..<options.nodeCount {
            let ip = "10.0.\(index / 250).\(index % 250 + 1)"
            var configuration = ClusterConfiguration()
            configuration.port = SimulatedNode.clientPort
            configuration.nodeTimeoutMilliseconds = weather.nodeTimeoutMilliseconds
            configuration.usesCrashEvidence = weather.usesCrashEvidence
            configuration.allowsReplicaMigration = weather.allowsReplicaMigration
            configuration.replicaValidityFactor = weather.validityFactor
            configuration.requiresFullCoverage = weather.requiresFullCoverage
            configuration.blacklistTTLSeconds = 5
            let clock = SimulatedClock(
                driftPartsPerMillion: random.between(-100, 100), wallOffset: random.between(-50_000_000, 50_000_000),
                time: time)
            nodes.append(
                SimulatedNode(
                    index: index, ip: ip, clock: clock,
                    data: Dataset(keyCount: weather.keyCount, history: random.next()), configuration: configuration))
            nodeByIP[ip] = index
            startProcess(index)
        }
        let isOrdered = nodes.indices.allSatisfy {
            order($0, "SET-CONFIG-EPOCH \($0 + 1)") && order($0, "SAVECONFIG")
        }
        let count = weather.primaryCount
        for index in 1..<nodes.count { meet(0, index) }
        for index in 0..<count {
            let first = HashSlot.count * index / count, last = HashSlot.count * (index + 1) / count - 1
            if !order(index, "ADDSLOTSRANGE \(first) \(last)") { return fail(.progress, "slots cannot be added") }
        }
        guard isOrdered else { return fail(.progress, "the cluster cannot be configured") }
        converge()
    }

    private func meet(_ index: Int, _ other: Int) {
        _ = order(index, "MEET \(nodes[other].ip) \(SimulatedNode.clientPort) \(SimulatedNode.busPort)")
    }

    // MARK: Orders in troubled times

    func planAdministration(_ round: Int) {
        after(random.below(2 * weather.commandInterval) * 1000) { [self] in
            guard round == troubleRound, !isHealed else { return }
            giveOrder()
            planAdministration(round)
        }
    }

    private func giveOrder() {
        let index = random.below(nodes.count)
        switch random.below(8) {
        case 0, 1: orderFailover(of: index)
        case 2, 3:
            if weather.bumpsWithoutConsensus { startMigration() }
        case 4: castOut(index)
        case 5:
            if weather.bumpsWithoutConsensus, random.oneIn(3) { command(index, "BUMPEPOCH") }
            command(index, "SAVECONFIG")
        case 6: meet(index, random.below(nodes.count))
        default:
            for question in ["INFO", "NODES", "SLOTS", "SHARDS", "LINKS"] { command(index, question) }
        }
    }

    private func orderFailover(of start: Int) {
        guard
            let index = nodes.indices.map({ ($0 + start) % nodes.count }).first(where: {
                nodes[$0].process?.publishedView.isReplica == true
            })
        else { return }
        let choice = random.below(6)
        let previous = elections.manual[index]
        // Noted first: the answer may come after the promotion.
        if choice < 3 {
            elections.manual[index] = (.coordinated, time)
            if !order(index, "FAILOVER") { elections.manual[index] = previous }
        } else if choice < 5 || !weather.bumpsWithoutConsensus {
            elections.manual[index] = (.forced, time)
            if !order(index, "FAILOVER FORCE") { elections.manual[index] = previous }
        } else {
            elections.manual[index] = (.takeover, time)
            if !order(index, "FAILOVER TAKEOVER") { elections.manual[index] = previous }
        }
    }

    /// A replica leaves the cluster for a while: RESET, and FORGET everywhere.
    private func castOut(_ index: Int) {
        guard let process = nodes[index].process, process.publishedView.isReplica, let id = nodeID(index),
            administration.outcasts[index] == nil
        else { return }
        if !order(index, random.oneIn(2) ? "RESET HARD" : "RESET SOFT") { return }
        administration.outcasts[index] = time + 6_000_000
        for other in nodes.indices where other != index && !random.oneIn(10) { command(other, "FORGET \(id)") }
        let round = troubleRound
        after(random.between(5_500, 15_000) * 1000) { [self] in
            guard round == troubleRound, !isHealed else { return }
            administration.outcasts[index] = nil
            meet(random.below(nodes.count), index)
        }
    }

    // MARK: Slot migration

    /// Who serves a slot, by the newest of all published views.
    func owner(of slot: HashSlot) -> Int? {
        var best: (node: Int, epoch: UInt64)?
        for node in nodes {
            guard let view = node.process?.publishedView, !view.isReplica, view.state(of: slot).contains(.mine) else {
                continue
            }
            if best.map({ $0.epoch < view.configEpoch }) ?? true { best = (node.index, view.configEpoch) }
        }
        return best?.node
    }

    private func startMigration() {
        let slot =
            random.oneIn(5)
            ? HashSlot(rawValue: UInt16(random.below(HashSlot.count)))
            : workload.slots[random.below(workload.slots.count)]
        let primaries = nodes.indices.filter { nodes[$0].process.map { !$0.publishedView.isReplica } ?? false }
        guard let source = owner(of: slot), let target = random.pick(primaries.filter { $0 != source }),
            administration.outcasts[target] == nil, !administration.openSlots.contains(where: { $0.slot == slot }),
            let sourceID = nodeID(source), let targetID = nodeID(target)
        else { return }
        guard order(target, "SETSLOT \(slot.rawValue) IMPORTING \(sourceID)") else { return }
        let migration = Administration.OpenSlot(slot: slot, source: source, target: target)
        administration.openSlots.append(migration)
        guard order(source, "SETSLOT \(slot.rawValue) MIGRATING \(targetID)") else { return }
        migrate(migration, attempts: 20)
    }

    private func migrate(_ migration: Administration.OpenSlot, attempts: Int) {
        let round = troubleRound
        after(random.spread(500, 100_000)) { [self] in
            guard round == troubleRound, !isHealed, attempts > 0 else { return }
            let keys = workload.keys(in: migration.slot)
            if let key = keys.first(where: { !nodes[migration.source].data.values[$0].isEmpty }) {
                let isMoved = moveKey(key, from: migration.source, to: migration.target)
                return migrate(migration, attempts: isMoved ? attempts : attempts - 1)
            }
            guard let targetID = nodeID(migration.target), owner(of: migration.slot) == migration.source,
                order(migration.target, "SETSLOT \(migration.slot.rawValue) NODE \(targetID)")
            else { return migrate(migration, attempts: attempts - 1) }
            statistics.migratedSlots += 1
            if order(migration.source, "SETSLOT \(migration.slot.rawValue) NODE \(targetID)") {
                administration.openSlots.removeAll { $0.slot == migration.slot }
                ground.clearTaint(migration.slot)
            }
        }
    }

    /// MIGRATE of one key: RESTORE there, then DEL here.
    private func moveKey(_ key: Int, from source: Int, to target: Int) -> Bool {
        guard let from = nodes[source].process, let to = nodes[target].process, canServe(from), canServe(to),
            network.isOpen(source, target), network.isOpen(target, source), !from.view.isReplica, !to.view.isReplica
        else { return false }
        var question = Redirection.Request(slot: workload.slots[key])
        question.isWrite = true
        question.isAsking = true
        question.missingKeyCount = 1
        guard case .serve = to.view.redirection(for: question), nodes[target].data.values[key].isEmpty else {
            return false
        }
        nodes[target].data.execute(.replace(key: key, stamps: nodes[source].data.values[key]))
        nodes[source].data.execute(.delete(key: key))
        ground.noteMoved(key)
        feedReplicas(to)
        feedReplicas(from)
        return true
    }

    private func canServe(_ process: SimulatedProcess) -> Bool {
        !process.isStopped && process.commandBlockedUntil <= time && process.writesPausedUntil <= time
    }

    // MARK: Clearing up

    /// One go at what is still wrong after everything was healed. Called once a second.
    func repair() {
        repairMembership()
        for node in nodes { closeSlots(of: node.index) }
        for slot in administration.openSlots.map(\.slot) where !isOpen(slot) {
            administration.openSlots.removeAll { $0.slot == slot }
        }
        if administration.openSlots.isEmpty {
            for slot in ground.taintedSlots.sorted() { ground.clearTaint(slot) }
        }
        employIdlePrimaries()
    }

    private func isOpen(_ slot: HashSlot) -> Bool {
        nodes.contains { $0.process?.publishedView.openSlots.contains { $0.slot == slot } ?? false }
    }

    private func repairMembership() {
        let ids = nodes.map { nodeID($0.index) }
        let known = nodes.map { node in
            Set((node.process?.publishedView.nodes ?? []).compactMap { $0?.id })
        }
        let living = Set(ids.compactMap { $0 })
        for index in nodes.indices {
            guard let view = nodes[index].process?.publishedView else { continue }
            // In handshake, a node has a made-up name: leave those alone until they have had their time.
            for case let ghost? in view.nodes where !living.contains(ghost.id) {
                if time - convergenceStart > 2_000_000 + weather.nodeTimeoutMilliseconds * 1000 {
                    _ = order(index, "FORGET \(ghost.id)")
                }
            }
        }
        let reference = nodes.indices.first { nodes[$0].process.map { ownsSlots($0) } ?? false } ?? 0
        for index in nodes.indices where index != reference {
            guard let id = ids[index], let mine = ids[reference] else { continue }
            if !known[reference].contains(id) || !known[index].contains(mine) { meet(reference, index) }
        }
    }

    func ownsSlots(_ process: SimulatedProcess) -> Bool {
        let view = process.publishedView
        return !view.isReplica && (0..<HashSlot.count).contains { view.slotOwners[$0] == view.myIndex }
    }

    /// Keys of open slots go to the owner, then the slot is closed.
    private func closeSlots(of index: Int) {
        guard let process = nodes[index].process, !process.publishedView.isReplica else { return }
        for open in process.publishedView.openSlots {
            guard let owner = owner(of: open.slot) else { continue }
            mergeKeys(of: open.slot, into: owner)
            _ = order(index, "SETSLOT \(open.slot.rawValue) STABLE")
        }
    }

    private func mergeKeys(of slot: HashSlot, into owner: Int) {
        for key in workload.keys(in: slot) {
            for node in nodes where node.index != owner && node.process?.publishedView.isReplica == false {
                let stray = node.data.values[key]
                if stray.isEmpty { continue }
                let all = Set(stray).union(nodes[owner].data.values[key]).sorted()
                nodes[owner].data.execute(.replace(key: key, stamps: all))
                node.data.execute(.delete(key: key))
                ground.noteMoved(key)
                if let process = node.process { feedReplicas(process) }
            }
        }
        if let process = nodes[owner].process { feedReplicas(process) }
    }

    /// Primaries without slots become replicas where they are needed most.
    private func employIdlePrimaries() {
        // What was ordered just now is not in anybody's view yet.
        var ordered: [NodeID: Int] = [:]
        for node in nodes {
            guard let process = node.process, !process.publishedView.isReplica, !ownsSlots(process) else { continue }
            administration.outcasts[node.index] = nil
            let view = process.publishedView
            var best: (id: NodeID, replicas: Int)?
            for (index, peer) in view.nodes.enumerated() {
                guard let peer, !peer.isReplica, !peer.isFailed, index != Int(view.myIndex),
                    (0..<HashSlot.count).contains(where: { view.slotOwners[$0] == UInt16(index) })
                else { continue }
                let replicas =
                    view.nodes.count { $0?.primary == UInt16(index) } + ordered[peer.id, default: 0]
                if best.map({ replicas < $0.replicas }) ?? true { best = (peer.id, replicas) }
            }
            guard let best else { continue }
            if !node.data.isEmpty { wipe(node) }
            if order(node.index, "REPLICATE \(best.id)") { ordered[best.id, default: 0] += 1 }
        }
    }
}
