import MartletBase
import MartletCluster

// The command thread of every node: what the bus asks of the data, replication, and the requests of clients.

extension Simulation {
    // MARK: Turns

    func notify(_ process: SimulatedProcess, _ notice: SimulatedProcess.Notice) {
        process.notices.append(notice)
        planTurn(process)
    }

    func planTurn(_ process: SimulatedProcess) {
        if process.isTurnPlanned { return }
        process.isTurnPlanned = true
        let id = process.id
        after(random.between(10, 500)) { [self] in turn(id) }
    }

    private func turn(_ id: ProcessID) {
        guard let process = process(id) else { return }
        if process.isStopped {
            process.deferred.append { [self] in turn(id) }
            return
        }
        if process.commandBlockedUntil > time {
            queue.add(at: min(process.commandBlockedUntil, time + 100_000)) { [self] in turn(id) }
            return
        }
        process.isTurnPlanned = false
        fingerprint.add(.turn, time: time, node: id.node)
        adoptView(process)
        serveWaiting(process)
    }

    /// First the view, then what the bus asked for after it was published.
    func adoptView(_ process: SimulatedProcess) {
        let isDeaf = options.sabotage == .servesOldView && process.view.isOK && !process.view.isReplica
        if !isDeaf { process.view = process.publishedView }
        let notices = process.notices
        process.notices = []
        for notice in notices where !isDeaf { obey(notice, process) }
        let node = nodes[process.id.node]
        // A restart with another role than the last one counts as a change of role, too.
        if !process.view.isReplica, node.servesAsReplica { noteNewPrimary(process) }
        if process.view.isReplica { node.servesAsReplica = true }
    }

    private func obey(_ notice: SimulatedProcess.Notice, _ process: SimulatedProcess) {
        let node = nodes[process.id.node]
        switch notice {
        case .follow(let ip, let sharesHistory):
            process.pendingFollowCount -= 1
            follow(nodeByIP[ip] ?? -1, sharesHistory: sharesHistory, process)
        case .becomePrimary:
            process.linkGeneration += 1
            process.primaryLink = .none
            process.followedNode = -1
            node.data.becomePrimary(newHistory: random.next())
            process.replicas = []
            say("node \(node.index) becomes a primary at offset \(node.data.offset)")
        case .pauseWrites(let until):
            if options.sabotage != .ignoresWritePause { process.writesPausedUntil = until }
            let id = process.id, offset = node.data.offset
            after(random.between(10, 500)) { [self] in
                whenBusRuns(id) { [self] process in event(process) { $0.writesPaused(offset: offset, now: $1) } }
            }
        case .resumeWrites:
            process.writesPausedUntil = 0
            serveWaiting(process)
        case .deleteKeys(let slots):
            for slot in slots {
                for key in workload.keys(in: slot) where !node.data.values[key].isEmpty {
                    node.data.execute(.delete(key: key))
                }
            }
            feedReplicas(process)
        case .flushAll:
            wipe(node)
            process.replicas = []
        }
    }

    private func serveWaiting(_ process: SimulatedProcess) {
        let requests = process.waitingRequests
        process.waitingRequests = []
        for request in requests { serve(request, process) }
    }

    // MARK: Requests

    /// A request has arrived in the process' socket.
    func arrive(_ request: Request, _ process: SimulatedProcess) {
        if process.isStopped || process.commandBlockedUntil > time {
            process.waitingRequests.append(request)
            planTurn(process)
        } else {
            serve(request, process)
        }
    }

    private func serve(_ request: Request, _ process: SimulatedProcess) {
        let slot = workload.slots[request.key]
        var question = Redirection.Request(slot: slot)
        question.isWrite = true
        question.isAsking = request.isAsking
        let node = nodes[process.id.node]
        if node.data.values[request.key].isEmpty {
            question.missingKeyCount = 1
        } else {
            question.existingKeyCount = 1
        }
        let view = process.view
        switch view.redirection(for: question) {
        case .serve:
            if process.writesPausedUntil > time {
                process.waitingRequests.append(request)
                let id = process.id
                queue.add(at: process.writesPausedUntil + 1) { [self] in
                    if let process = self.process(id) { planTurn(process) }
                }
                return
            }
            write(request, process)
        case .moved(let index), .ask(let index):
            guard let target = view.node(at: index), let number = nodeByIP[target.ip] else {
                return reply(.down, to: request, process)
            }
            var isAsk = false
            if case .ask = view.redirection(for: question) { isAsk = true }
            reply(isAsk ? .ask(number) : .moved(number), to: request, process)
        case .tryAgain, .down, .downForWrites, .unbound, .crossSlot: reply(.down, to: request, process)
        }
    }

    private func write(_ request: Request, _ process: SimulatedProcess) {
        let node = nodes[process.id.node]
        let stamp = ground.noteWrite(request.key, by: process, workload.slots[request.key], self)
        if violation != nil { return }
        node.data.execute(.append(key: request.key, stamp: stamp))
        statistics.writes += 1
        fingerprint.add(.write, time: time, node: node.index)
        fingerprint.add(stamp)
        feedReplicas(process)
        if request.wantsWait {
            waitForReplicas(request, stamp: stamp, offset: node.data.offset, process, deadline: time + 1_000_000)
        } else {
            reply(.done(stamp), to: request, process)
        }
    }

    /// WAIT: the reply is held back until all connected replicas have confirmed.
    private func waitForReplicas(
        _ request: Request, stamp: UInt64, offset: Int64, _ process: SimulatedProcess, deadline: Int64
    ) {
        let isConfirmed =
            !process.replicas.isEmpty
            && process.replicas.allSatisfy { process.confirmedOffsets[$0, default: 0] >= offset }
        if isConfirmed {
            ground.noteConfirmed(stamp, request.key, by: process.replicas)
            reply(.done(stamp), to: request, process)
        } else if time < deadline {
            let id = process.id
            after(2_000) { [self] in
                guard let process = self.process(id), !process.isStopped else { return }
                waitForReplicas(request, stamp: stamp, offset: offset, process, deadline: deadline)
            }
        } else {
            // WAIT returned a smaller number: the write is acknowledged as any other.
            reply(.done(stamp), to: request, process)
        }
    }

    private func reply(_ answer: Answer, to request: Request, _ process: SimulatedProcess) {
        let from = process.id.node
        after(network.latency(from, request.host, using: &random)) { [self] in
            guard nodes[from].isHostUp, network.isOpen(from, request.host) else { return }
            receive(answer, for: request, from: from)
        }
    }

    // MARK: Replication

    func follow(_ target: Int, sharesHistory: Bool, _ process: SimulatedProcess) {
        process.linkGeneration += 1
        process.followedNode = target
        process.primaryLink = .connecting
        process.mustResyncFully = !sharesHistory
        // A replica that has nothing of its primary yet has never been in contact with it.
        process.lastPrimaryContact = sharesHistory ? coreTime(process.id.node) : 0
        process.replicas = []
        process.writesPausedUntil = 0
        nodes[process.id.node].servesAsReplica = true
        say("node \(process.id.node) follows node \(target)\(sharesHistory ? "" : ", without a common history")")
        tellBus(process)
        planReplicationStep(process, after: random.between(500, 50_000))
    }

    private func planReplicationStep(_ process: SimulatedProcess, after delay: Int64) {
        let id = process.id, generation = process.linkGeneration
        after(delay) { [self] in
            guard let process = self.process(id), process.linkGeneration == generation else { return }
            replicationStep(process)
        }
    }

    /// Both command threads work, and bytes get through both ways.
    private func canTalk(_ process: SimulatedProcess, to other: Int) -> SimulatedProcess? {
        let own = process.id.node
        guard other >= 0, let peer = nodes[other].process, !peer.isStopped, !process.isStopped,
            peer.commandBlockedUntil <= time, process.commandBlockedUntil <= time, nodes[other].isHostUp,
            network.isOpen(own, other), network.isOpen(other, own)
        else { return nil }
        return peer
    }

    private static let replicationTimeout: Int64 = 60_000

    private func replicationStep(_ process: SimulatedProcess) {
        let own = process.id.node, target = process.followedNode
        let retry = random.between(100_000, 1_000_000)
        switch process.primaryLink {
        case .none: return
        case .connecting:
            guard let primary = canTalk(process, to: target), target != own, mayFeed(primary) else {
                return planReplicationStep(process, after: retry)
            }
            let data = nodes[own].data
            if !process.mustResyncFully,
                nodes[target].data.canContinue(history: data.history, offset: data.offset)
            {
                nodes[own].data.adoptHistory(of: nodes[target].data)
                statistics.partialResyncs += 1
                say("node \(own) goes on with the history of node \(target) at offset \(data.offset)")
                linkIsUp(process, primary)
            } else {
                process.primaryLink = .syncing(primary.id)
                say("node \(own) gets a copy of everything from node \(target)")
                planReplicationStep(process, after: random.spread(5_000, 2_000_000))
            }
        case .syncing(let id):
            guard let primary = canTalk(process, to: target), primary.id == id, mayFeed(primary) else {
                process.primaryLink = .connecting
                return planReplicationStep(process, after: retry)
            }
            nodes[own].data = nodes[target].data
            process.mustResyncFully = false
            statistics.fullResyncs += 1
            linkIsUp(process, primary)
        case .up(let id):
            // Once a second: a sign of life.
            if let primary = canTalk(process, to: target), primary.id == id {
                guard catchUp(process, with: primary, to: nodes[target].data.offset) else { return }
                process.lastPrimaryContact = coreTime(own)
                confirm(process, primary)
            } else if coreTime(own) - process.lastPrimaryContact > Simulation.replicationTimeout {
                return loseLink(process)
            }
            planReplicationStep(process, after: 1_000_000)
        }
    }

    /// A primary feeds replicas, and so does a replica that is in sync itself.
    private func mayFeed(_ process: SimulatedProcess) -> Bool {
        if case .up = process.primaryLink { return true }
        return process.primaryLink == .none && !process.view.isReplica
    }

    /// The bus thread is told when the link to the primary changes; otherwise it looks at every tick.
    private func tellBus(_ process: SimulatedProcess) {
        let id = process.id
        after(random.between(10, 200)) { [self] in whenBusRuns(id) { [self] in reportReplication($0) } }
    }

    private func linkIsUp(_ process: SimulatedProcess, _ primary: SimulatedProcess) {
        let own = process.id.node
        process.primaryLink = .up(primary.id)
        process.lastPrimaryContact = coreTime(own)
        tellBus(process)
        if !primary.replicas.contains(own) { primary.replicas.append(own) }
        primary.confirmedOffsets[own] = 0
        fingerprint.add(.replicated, time: time, node: own)
        if catchUp(process, with: primary, to: nodes[primary.id.node].data.offset) { confirm(process, primary) }
        planReplicationStep(process, after: 1_000_000)
    }

    private func loseLink(_ process: SimulatedProcess) {
        process.linkGeneration += 1
        process.primaryLink = .connecting
        process.lastPrimaryContact = coreTime(process.id.node)
        tellBus(process)
        planReplicationStep(process, after: random.between(10_000, 1_000_000))
    }

    /// Something was written: replicas get it a moment later.
    func feedReplicas(_ process: SimulatedProcess) {
        if process.replicas.isEmpty || process.isPumpPlanned { return }
        process.isPumpPlanned = true
        let id = process.id
        after(network.latency(id.node, id.node, using: &random) + random.below(1_000)) { [self] in
            guard let process = self.process(id) else { return }
            process.isPumpPlanned = false
            if process.isStopped { return }
            let offset = nodes[id.node].data.offset
            for index in process.replicas {
                guard let replica = nodes[index].process, replica.primaryLink == .up(id),
                    canTalk(replica, to: id.node) != nil
                else { continue }
                if options.sabotage == .confirmsTooEarly, random.oneIn(3) {
                    process.confirmedOffsets[index] = offset
                    continue
                }
                if catchUp(replica, with: process, to: offset) { confirm(replica, process) }
            }
        }
    }

    /// False if the link is lost because the primary's history has changed.
    private func catchUp(_ replica: SimulatedProcess, with primary: SimulatedProcess, to offset: Int64) -> Bool {
        let own = replica.id.node
        let before = nodes[own].data.offset
        guard nodes[own].data.catchUp(with: nodes[primary.id.node].data, to: offset) else {
            primary.replicas.removeAll { $0 == own }
            loseLink(replica)
            return false
        }
        replica.lastPrimaryContact = coreTime(own)
        if nodes[own].data.offset != before { feedReplicas(replica) }
        return true
    }

    private func confirm(_ replica: SimulatedProcess, _ primary: SimulatedProcess) {
        let own = replica.id.node, offset = nodes[own].data.offset, id = primary.id
        after(network.latency(own, id.node, using: &random)) { [self] in
            guard let primary = self.process(id), network.isOpen(own, id.node) else { return }
            primary.confirmedOffsets[own] = max(offset, primary.confirmedOffsets[own, default: 0])
        }
    }

    /// A process died: those who replicated from it see the connection end, if anything gets through.
    func breakReplicationLinks(to id: ProcessID) {
        for node in nodes {
            guard let process = node.process, node.index != id.node, network.isOpen(id.node, node.index) else {
                continue
            }
            if process.primaryLink == .up(id) || process.primaryLink == .syncing(id) { loseLink(process) }
        }
    }

    func wipe(_ node: SimulatedNode) {
        node.data.clear(newHistory: random.next())
        ground.noteWiped(node.index)
    }

    func slotsWithKeys(_ node: SimulatedNode) -> [HashSlot] {
        var slots = Set<HashSlot>()
        for key in node.data.values.indices where !node.data.values[key].isEmpty { slots.insert(workload.slots[key]) }
        return slots.sorted()
    }

    func keyCount(_ node: Int, in slot: HashSlot) -> Int {
        workload.keys(in: slot).count { !nodes[node].data.values[$0].isEmpty }
    }
}
