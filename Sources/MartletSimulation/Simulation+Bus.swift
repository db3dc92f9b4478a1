import MartletBase
import MartletCluster

// The bus thread of every node: the simulator's counterpart of `BusLoop`.

extension Simulation {
    func process(_ id: ProcessID) -> SimulatedProcess? {
        guard let process = nodes[id.node].process, process.id == id else { return nil }
        return process
    }

    func coreTime(_ node: Int) -> Int64 { nodes[node].clock.now(time) }

    // MARK: Processes

    func startProcess(_ index: Int) {
        let node = nodes[index]
        precondition(node.process == nil && node.isHostUp)
        node.incarnation += 1
        node.clock.anchor(time)
        var conf: NodesConf?
        if let file = node.disk.file {
            do throws(NodesConfError) {
                conf = try parse(file)
            } catch {
                return fail(.progress, "node \(index) cannot read its own nodes.conf: \(error)")
            }
            if options.sabotage == .forgetsVotes { conf?.lastVoteEpoch = 0 }
        }
        let state = ClusterState(
            configuration: node.configuration, conf: conf, random: PRNG(seed: random.next()), now: coreTime(index))
        let process = SimulatedProcess(id: ProcessID(node: index, incarnation: node.incarnation), state: state)
        node.process = process
        epochs.started(index, node.disk.summary)
        fingerprint.add(.fault, time: time, node: index)
        say("node \(index) starts as \(state.view.nodeID), epoch \(state.view.currentEpoch)")
        process.lastPrimaryContact = coreTime(index)
        // A restarted primary goes on under a new replication ID: it may have been elected and not have begun one.
        if !state.view.isReplica { node.data.becomePrimary(newHistory: random.next()) }
        // The command thread has loaded its data and compares it with the configuration.
        perform(process)
        adoptView(process)
        let slots = slotsWithKeys(node)
        if !slots.isEmpty { event(process) { $0.reconcile(slotsWithKeys: slots, now: $1) } }
        planTick(process)
    }

    private func parse(_ file: [UInt8]) throws(NodesConfError) -> NodesConf? {
        let result: Result<NodesConf?, NodesConfError> = file.withUnsafeBytes { bytes in
            do throws(NodesConfError) { return .success(try NodesConf.parse(bytes)) } catch { return .failure(error) }
        }
        return try result.get()
    }

    /// kill -9: the kernel ends every connection.
    func killProcess(_ index: Int) {
        let node = nodes[index]
        guard let process = node.process else { return }
        node.process = nil
        noteLossOfProcess(index)
        for connection in process.connections {
            let direction = connection.client == process.id ? connection.toServer : connection.toClient
            let other = connection.client == process.id ? connection.toClient : connection.toServer
            other.isDeaf = true
            if direction.isFinished { continue }
            // What the kernel still had may be lost with a reset, or leave in order.
            let isReset = random.oneIn(2)
            if isReset, random.oneIn(2) {
                direction.queue.removeSubrange((direction.head + (direction.isPumping ? 1 : 0))...)
            }
            enqueue(.end(isReset ? .reset : .peerClosed), on: direction, of: connection)
            direction.isFinished = true
        }
        after(latency(index, index)) { [self] in breakReplicationLinks(to: process.id) }
    }

    /// The power of a host goes: nobody is told, and what was not synced is lost.
    func cutPower(_ index: Int) {
        let node = nodes[index]
        node.isHostUp = false
        if let process = node.process {
            node.process = nil
            for connection in process.connections {
                // The host forgets what it had; whatever comes for it later is answered by a reset.
                connection.toServer.isFinished = connection.toServer.isFinished || connection.client == process.id
                connection.toClient.isFinished = connection.toClient.isFinished || connection.server == process.id
            }
        }
        noteLossOfProcess(index)
        node.disk.losePower(time: time) { random.below($0) }
    }

    /// Runs `body` in the process' bus thread: now, or when it runs again. Never, if the process dies before.
    func whenBusRuns(_ id: ProcessID, _ body: @escaping (SimulatedProcess) -> Void) {
        guard let process = process(id) else { return }
        if process.isStopped {
            process.deferred.append { [self] in whenBusRuns(id, body) }
        } else if process.busBlockedUntil > time {
            queue.add(at: process.busBlockedUntil) { [self] in whenBusRuns(id, body) }
        } else {
            body(process)
        }
    }

    // MARK: Events and effects

    /// One event of the core with what it asks for.
    func event(_ process: SimulatedProcess, _ body: (ClusterState, Int64) -> Void) {
        body(process.state, coreTime(process.id.node))
        perform(process)
        rescheduleTick(process)
    }

    private func perform(_ process: SimulatedProcess) {
        var effects = process.state.takeEffects()
        if options.sabotage == .sendsBeforeSave {
            effects = effects.filter { !$0.isSave } + effects.filter(\.isSave)
        }
        let index = process.id.node
        for effect in effects {
            if !isHealed, random.happens(perMillion: weather.crashesPerMillionEffects) {
                say("node \(index) dies between two effects")
                random.oneIn(2) ? killProcess(index) : cutPower(index)
                planRestart(index)
                return
            }
            carryOut(effect, process)
            if violation != nil { return }
        }
    }

    private func carryOut(_ effect: ClusterEffect, _ process: SimulatedProcess) {
        let index = process.id.node
        switch effect {
        case .saveConfig(let text, let fsync):
            nodes[index].disk.save(text, fsync: fsync && options.sabotage != .neverSyncs, time: time)
            fingerprint.add(.saved, time: time, node: index)
            fingerprint.add(text)
            epochs.saved(index, nodes[index].disk, self)
            if fsync, !isHealed, random.oneIn(20) {
                // A slow disk holds the whole bus thread up.
                process.busBlockedUntil = max(process.busBlockedUntil, time + random.spread(1_000, 300_000))
            }
        case .publishView(let view):
            fingerprint.add(.view, time: time, node: index)
            fingerprint.add(view.version &+ view.configEpoch &* 31 &+ (view.isOK ? 1 : 0))
            let old = process.publishedView
            process.publishedView = view
            viewPublished(process, old: old)
            planTurn(process)
        case .openLink(let link, let host, let port): openLink(link, host, port, process)
        case .closeLink(let link): closeLink(link, process)
        case .send(let link, let bytes): send(bytes, link, process)
        case .followPrimary(_, let host, _, let sharesHistory):
            process.pendingFollowCount += 1
            notify(process, .follow(ip: host, sharesHistory: sharesHistory))
        case .becomePrimary: notify(process, .becomePrimary)
        case .pauseWrites(let until):
            notify(process, .pauseWrites(until: time + max(0, until - coreTime(index)) * 1000))
        case .resumeWrites: notify(process, .resumeWrites)
        case .deleteKeys(let slots): notify(process, .deleteKeys(slots: slots))
        case .flushAll: notify(process, .flushAll)
        case .dropShardChannels, .publish: break
        case .log(_, let text): say("node \(index): \(text)")
        }
    }

    // MARK: Ticks

    func planTick(_ process: SimulatedProcess) {
        let delay = process.state.nextDeadline - coreTime(process.id.node)
        process.tickAt = time + max(0, delay) * 1000 + random.between(100, 2_000)
        process.tickGeneration += 1
        let generation = process.tickGeneration, id = process.id
        queue.add(at: process.tickAt) { [self] in
            whenBusRuns(id) { [self] process in
                if process.tickGeneration == generation { tick(process) }
            }
        }
    }

    private func rescheduleTick(_ process: SimulatedProcess) {
        guard process.tickAt != .max else { return }
        let due = time + max(0, process.state.nextDeadline - coreTime(process.id.node)) * 1000
        if due + 2_000 < process.tickAt { planTick(process) }
    }

    private func tick(_ process: SimulatedProcess) {
        let index = process.id.node
        fingerprint.add(.tick, time: time, node: index)
        nodes[index].clock.observe(time)
        watchCommandThread(process)
        reportReplication(process)
        event(process) { $0.tick(now: $1) }
        if self.process(process.id) != nil { planTick(process) }
    }

    /// cluster-stall-timeout: a bus whose command thread hangs keeps silent.
    private func watchCommandThread(_ process: SimulatedProcess) {
        let isStalled = process.commandBlockedUntil > time && process.commandBlockedSince + 10_000_000 < time
        guard isStalled != process.isStalled else { return }
        process.isStalled = isStalled
        event(process) { isStalled ? $0.stalled(now: $1) : $0.resumed(now: $1) }
    }

    /// The core learns the state of replication from atomics of the command thread.
    func reportReplication(_ process: SimulatedProcess) {
        let index = process.id.node
        var isUp = false
        if case .up = process.primaryLink { isUp = true }
        var status = ReplicationStatus()
        if process.pendingFollowCount == 0 {
            status = ReplicationStatus(
                offset: nodes[index].data.offset, isPrimaryLinkUp: isUp, lastPrimaryContact: process.lastPrimaryContact)
        }
        if status == process.lastStatus { return }
        process.lastStatus = status
        event(process) { $0.replicationChanged(status, now: $1) }
    }

    // MARK: Connections

    private func latency(_ from: Int, _ to: Int) -> Int64 { network.latency(from, to, using: &random) }

    private func openLink(_ link: BusLinkID, _ host: String, _ port: UInt16, _ process: SimulatedProcess) {
        let id = process.id
        guard let server = nodeByIP[host], port == SimulatedNode.busPort else {
            after(random.between(100, 1_000)) { [self] in
                whenBusRuns(id) { [self] in event($0) { $0.linkClosed(link, reason: .unreachable, now: $1) } }
            }
            return
        }
        process.connecting.insert(link)
        connect(id, link, server, attempt: 0)
        // The driver's own limit.
        after(max(nodes[id.node].configuration.nodeTimeoutMilliseconds, 1_000) * 1000) { [self] in
            whenBusRuns(id) { [self] process in
                guard process.connecting.remove(link) != nil else { return }
                event(process) { $0.linkClosed(link, reason: .timedOut, now: $1) }
            }
        }
    }

    private func connect(_ client: ProcessID, _ link: BusLinkID, _ server: Int, attempt: Int) {
        after(latency(client.node, server)) { [self] in
            guard let process = process(client), process.connecting.contains(link) else { return }
            let isLost = random.happens(perMillion: network.lossPerMillion)
            guard nodes[server].isHostUp, !isLost, network.isOpen(client.node, server),
                network.isOpen(server, client.node)
            else {
                guard attempt < SimulatedNetwork.connectRetryDelays.count else { return }
                after(SimulatedNetwork.connectRetryDelays[attempt]) { [self] in
                    connect(client, link, server, attempt: attempt + 1)
                }
                return
            }
            guard let target = nodes[server].process else {
                return answerConnect(client, link, server) { process in
                    self.event(process) { $0.linkClosed(link, reason: .refused, now: $1) }
                }
            }
            let connection = Connection(client: client, server: target.id, clientLink: link)
            target.connections.append(connection)
            process.connections.append(connection)
            sweepConnections(of: target)
            sweepConnections(of: process)
            whenBusRuns(target.id) { [self] in accept(connection, $0) }
            answerConnect(client, link, server) { process in
                process.links[link] = connection
                self.fingerprint.add(.opened, time: self.time, node: client.node)
                self.event(process) { $0.linkOpened(link, localAddress: self.nodes[client.node].ip, now: $1) }
            }
        }
    }

    private func answerConnect(
        _ client: ProcessID, _ link: BusLinkID, _ server: Int, _ body: @escaping (SimulatedProcess) -> Void
    ) {
        after(latency(server, client.node)) { [self] in
            whenBusRuns(client) { process in
                if process.connecting.remove(link) != nil { body(process) }
            }
        }
    }

    private func accept(_ connection: Connection, _ process: SimulatedProcess) {
        fingerprint.add(.accepted, time: time, node: process.id.node)
        var link: BusLinkID?
        event(process) { state, now in
            link = state.linkAccepted(
                from: nodes[connection.client.node].ip, localAddress: nodes[connection.server.node].ip, now: now)
        }
        guard let link, self.process(process.id) != nil else { return }
        connection.serverLink = link
        process.links[link] = connection
    }

    /// The core lets go of a link: what was sent still leaves, what comes is dropped.
    private func closeLink(_ link: BusLinkID, _ process: SimulatedProcess) {
        process.connecting.remove(link)
        guard let connection = process.links.removeValue(forKey: link) else { return }
        let isClient = connection.client == process.id && connection.clientLink == link
        let own = isClient ? connection.toServer : connection.toClient
        (isClient ? connection.toClient : connection.toServer).isDeaf = true
        if !own.isFinished { enqueue(.end(.peerClosed), on: own, of: connection) }
        own.isFinished = true
    }

    private func send(_ bytes: [UInt8], _ link: BusLinkID, _ process: SimulatedProcess) {
        guard let connection = process.links[link] else { return }
        let isClient = connection.client == process.id && connection.clientLink == link
        packetSent(bytes, to: isClient ? connection.server.node : connection.client.node, process)
        let direction = isClient ? connection.toServer : connection.toClient
        guard !direction.isFinished else { return }
        statistics.packets += 1
        if options.sabotage == .forgesVotes, bytes.count >= BusPacket.headerByteCount {
            lastHeaders[process.id.node] = Array(bytes.prefix(BusPacket.headerByteCount))
            let back = isClient ? connection.toClient : connection.toServer
            if Packet.kind(bytes) == .authRequest { forgeVote(for: bytes, on: connection, from: back) }
        }
        enqueue(.packet(bytes), on: direction, of: connection)
        if random.happens(perMillion: network.duplicatesPerMillion) {
            enqueue(.packet(bytes), on: direction, of: connection)
        }
    }

    func endWithReset(_ connection: Connection) {
        for direction in [connection.toServer, connection.toClient] where !direction.isFinished {
            enqueue(.end(.reset), on: direction, of: connection)
            direction.isFinished = true
        }
    }

    private func enqueue(_ segment: Segment, on direction: Connection.Direction, of connection: Connection) {
        let from = direction.from.node, to = direction.to.node
        var arrival = time + latency(from, to)
        if random.happens(perMillion: network.lossPerMillion) { arrival += SimulatedNetwork.retransmitDelayMin }
        arrival = max(arrival, direction.lastArrival)
        direction.lastArrival = arrival
        direction.queue.append((arrival, segment))
        if !direction.isPumping {
            direction.isPumping = true
            queue.add(at: arrival) { [self] in pump(direction, connection) }
        }
    }

    /// The first segment of a stream arrives, or would have.
    private func pump(_ direction: Connection.Direction, _ connection: Connection) {
        let from = direction.from.node, to = direction.to.node
        guard nodes[to].isHostUp, nodes[from].isHostUp || direction.isFinished, network.isOpen(from, to) else {
            direction.retransmitDelay = min(direction.retransmitDelay * 2, SimulatedNetwork.retransmitDelayMax)
            direction.attempts += 1
            // The sender's kernel gives up; whoever still listens there will hear of it by its own time-outs.
            if direction.isFinished, direction.attempts > 20 {
                direction.queue = []
                direction.head = 0
                direction.isPumping = false
                return
            }
            after(direction.retransmitDelay) { [self] in pump(direction, connection) }
            return
        }
        direction.retransmitDelay = SimulatedNetwork.retransmitDelayMin
        direction.attempts = 0
        guard let process = process(direction.to) else {
            // The process that had this connection is gone, and with it everything that was for it.
            direction.queue = []
            direction.head = 0
            direction.isPumping = false
            if !direction.isFinished {
                direction.isFinished = true
                let back = direction === connection.toServer ? connection.toClient : connection.toServer
                enqueue(.end(.reset), on: back, of: connection)
                back.isFinished = true
            }
            return
        }
        if process.isStopped || process.busBlockedUntil > time {
            whenBusRuns(direction.to) { [self] _ in pump(direction, connection) }
            return
        }
        let isServer = direction === connection.toServer
        if isServer, connection.serverLink == nil, !direction.isDeaf {
            after(100) { [self] in pump(direction, connection) }
            return
        }
        if !isServer, !direction.isDeaf, process.connecting.contains(connection.clientLink) {
            after(100) { [self] in pump(direction, connection) }
            return
        }
        let segment = direction.queue[direction.head].segment
        direction.head += 1
        if direction.head == direction.queue.count {
            direction.queue.removeAll(keepingCapacity: true)
            direction.head = 0
            direction.isPumping = false
        } else {
            queue.add(at: max(time, direction.queue[direction.head].arrival)) { [self] in pump(direction, connection) }
        }
        guard !direction.isDeaf, let link = isServer ? connection.serverLink : connection.clientLink,
            process.links[link] === connection
        else { return }
        switch segment {
        case .packet(let bytes): deliver(bytes, link, process)
        case .end(let reason):
            process.links[link] = nil
            direction.isDeaf = true
            let own = isServer ? connection.toClient : connection.toServer
            own.isFinished = true
            fingerprint.add(.closed, time: time, node: to)
            event(process) { $0.linkClosed(link, reason: reason, now: $1) }
        }
    }

    private func deliver(_ bytes: [UInt8], _ link: BusLinkID, _ process: SimulatedProcess) {
        fingerprint.add(.packet, time: time, node: process.id.node)
        fingerprint.add(bytes)
        event(process) { state, now in
            bytes.withUnsafeBytes { state.receive($0, on: link, now: now) }
        }
    }

    /// A vote that nobody gave: the last header of the voter, made an AUTH_ACK of the epoch that was asked for.
    private func forgeVote(for request: [UInt8], on connection: Connection, from voter: Connection.Direction) {
        guard var forged = lastHeaders[voter.from.node] else { return }
        for (offset, byte) in [
            (4, 0), (5, 0), (6, 8), (7, 0xD0), (12, 0), (13, 6), (14, 0), (15, 0), (2214, 0), (2215, 0), (2253, 0),
        ] {
            forged[offset] = UInt8(byte)
        }
        forged.replaceSubrange(16..<24, with: request[16..<24])
        enqueue(.packet(forged), on: voter, of: connection)
    }

    /// Ended connections are of no use to a dying process.
    private func sweepConnections(of process: SimulatedProcess) {
        guard process.connections.count > 64, process.connections.count > 4 * nodes.count else { return }
        process.connections.removeAll { $0.toServer.isFinished && $0.toClient.isFinished }
    }
}

extension ClusterEffect {
    var isSave: Bool { if case .saveConfig = self { true } else { false } }
}

/// Looks into a packet as far as the simulator needs.
enum Packet {
    static func kind(_ bytes: [UInt8]) -> BusPacket.Kind? {
        guard bytes.count >= BusPacket.headerByteCount else { return nil }
        return BusPacket.Kind(rawValue: UInt16(bytes[12]) << 8 | UInt16(bytes[13]))
    }
}
