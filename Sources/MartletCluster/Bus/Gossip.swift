// PING and PONG: the heartbeat, and everything that nodes tell each other about third nodes.
//
// A packet carries the sender's own claim in its header and, after it, some gossip entries: a random tenth of the
// known nodes, at least three, and all that are PFAIL, so that failure reports spread fast. From a voting primary,
// PFAIL and FAIL in an entry are a failure report. Entries also make nodes known to each other, refresh the time of
// the last PONG of healthy nodes (so that not everybody has to ping everybody), and carry the new address of a node
// that we cannot reach.
//
// Source: `clusterSendPing`, `clusterProcessGossipSection`, `clusterProcessPingExtensions` in Redis 7.0 and Valkey.

import MartletBase

enum Gossip {
    case regular
    /// PFAIL nodes only.
    case failuresOnly

    /// Nodes that one packet may make known: each is dialled. Gossip repeats itself.
    static let newNodesPerPacketMax = 64
    /// A 16-bit field counts the entries.
    static let entryCountMax = 0xFFFE
    /// The clock of another node may be ahead by this much.
    static let futureToleranceMilliseconds: Int64 = 500
}

extension ClusterState {
    // MARK: Sending

    /// The header of every packet of this moment.
    func packetHeader() -> BusPacketEncoder.Header {
        let primary = myself.shardPrimary
        var flags = myself.flags
        if myself.isReplica, myself.primary?.isFailed == true { flags.insert(.myPrimaryFailed) }
        // Every packet says that we understand extensions.
        var messageFlags: BusPacket.MessageFlags = .extensions
        if myself.isPrimary, manualFailover.isPaused { messageFlags.insert(.paused) }
        return BusPacketEncoder.Header(
            sender: myself.id, currentEpoch: currentEpoch, configEpoch: primary.configEpoch,
            replicationOffset: replication.offset, slots: primary.slots, primary: myself.primary?.id,
            announcedIP: configuration.announceIP, ports: myself.ports, usesTLS: configuration.usesTLS, flags: flags,
            isStateOK: health.isOK, messageFlags: messageFlags)
    }

    /// PING, PONG and MEET differ in nothing but the type. A PING to a node that shall be met is a MEET.
    func sendPing(_ kind: BusPacket.Kind, on link: BusLink, gossip: Gossip = .regular) {
        precondition(kind == .ping || kind == .pong || kind == .meet)
        if isStalled { return }
        if !link.isInbound, kind != .pong, let node = link.node, node.pingSent == 0 { node.pingSent = now }
        pingRound += 1
        let kind = kind == .ping && link.node?.flags.contains(.meet) == true ? .meet : kind
        var packet = BusPacketEncoder(kind, packetHeader())
        var count = 0
        if gossip == .regular { count = addRandomGossip(to: &packet, receiver: link.node) }
        for node in nodes {
            guard let node, node.isPossiblyFailed, !node.isInHandshake, node.hasAddress, count < Gossip.entryCountMax
            else { continue }
            packet.addGossip(gossipEntry(about: node))
            count += 1
        }
        if link.node?.flags.contains(.supportsExtensions) == true { addExtensions(to: &packet) }
        send(packet.finish(), kind, on: link)
    }

    private func addRandomGossip(to packet: inout BusPacketEncoder, receiver: ClusterNode?) -> Int {
        var available = nodeCount - 2
        let wanted = min(max(nodeCount / 10, 3), available)
        var count = 0
        var attempts = wanted * 3
        while available > 0, count < wanted, attempts > 0 {
            attempts -= 1
            guard let node = randomNode(), !node.isMyself, node !== receiver, !node.isPossiblyFailed else { continue }
            if node.isInHandshake || !node.hasAddress || (node.link == nil && node.slots.isEmpty) {
                available -= 1
                continue
            }
            if node.lastGossipRound == pingRound { continue }
            node.lastGossipRound = pingRound
            packet.addGossip(gossipEntry(about: node))
            available -= 1
            count += 1
        }
        return count
    }

    func randomNode() -> ClusterNode? { nodes[random.below(nodes.count)] }

    private func gossipEntry(about node: ClusterNode) -> BusPacket.Gossip {
        let (first, second) =
            configuration.usesTLS ? (node.ports.tls, node.ports.tcp) : (node.ports.tcp, node.ports.tls)
        return BusPacket.Gossip(
            id: node.id, pingSentSeconds: UInt32(truncatingIfNeeded: node.pingSent / 1000),
            pongReceivedSeconds: UInt32(truncatingIfNeeded: node.pongReceived / 1000), ip: node.ip, port: first,
            secondaryPort: second, busPort: node.ports.bus, flags: node.flags.subtracting([.myself, .meet]))
    }

    private func addExtensions(to packet: inout BusPacketEncoder) {
        if !myself.hostname.isEmpty { packet.addExtension(BusPacket.ExtensionType.hostname, text: myself.hostname) }
        if !myself.humanNodename.isEmpty {
            packet.addExtension(BusPacket.ExtensionType.humanNodename, text: myself.humanNodename)
        }
        for entry in blacklist where entry.until > now {
            packet.addExtension(forgotten: entry.id, ttlSeconds: UInt64((entry.until - now + 999) / 1000))
        }
        packet.addExtension(BusPacket.ExtensionType.shardID, payload: myself.shardID.bytes)
    }

    /// A PONG that nobody asked for: the new configuration, at once.
    func broadcastPong() {
        for node in allNodes where !node.isMyself && !node.isInHandshake {
            if let link = node.link { sendPing(.pong, on: link) }
        }
    }

    /// To the other replicas of our primary, or of this node if it is one. Source: `CLUSTER_BROADCAST_LOCAL_SLAVES`.
    func broadcastPongToShard() {
        for node in myself.shardPrimary.replicas where !node.isMyself && !node.isInHandshake {
            if let link = node.link { sendPing(.pong, on: link) }
        }
    }

    /// One packet to all nodes that we are connected to.
    func broadcast(_ kind: BusPacket.Kind, _ build: (BusPacketEncoder.Header) -> [UInt8]) {
        let bytes = build(packetHeader())
        for node in allNodes where !node.isMyself && !node.isInHandshake {
            if let link = node.link { send(bytes, kind, on: link) }
        }
    }

    // MARK: Receiving

    func receiveGossip(_ entries: [BusPacket.Gossip], from sender: ClusterNode) {
        var newCount = 0
        for entry in entries {
            if let node = node(entry.id) {
                if !node.isMyself { receiveGossip(entry, about: node, from: sender) }
            } else if newCount < Gossip.newNodesPerPacketMax, meetByGossip(entry) {
                newCount += 1
            }
        }
    }

    private func receiveGossip(_ entry: BusPacket.Gossip, about node: ClusterNode, from sender: ClusterNode) {
        let isHealthyThere = entry.flags.isDisjoint(with: [.pfail, .fail])
        if sender.isVoting, sender !== node {
            if isHealthyThere {
                removeFailureReport(about: node, from: sender)
            } else {
                addFailureReport(about: node, from: sender)
                markFailedIfAgreed(node)
            }
        }
        guard isHealthyThere else { return }
        if node.pingSent == 0, failureReportCount(about: node) == 0 {
            let time = Int64(entry.pongReceivedSeconds) * 1000
            if time <= now + Gossip.futureToleranceMilliseconds, time > node.pongReceived { node.pongReceived = time }
        }
        let ports = clientPorts(entry.port, entry.secondaryPort, bus: entry.busPort)
        if node.isPossiblyFailed || node.isFailed || !node.hasAddress, !entry.flags.contains(.noAddress),
            !entry.ip.isEmpty, entry.busPort != 0, node.ip != entry.ip || node.ports != ports
        {
            setAddress(of: node, ip: entry.ip, ports: ports)
        }
    }

    /// A member of our cluster knows a node that we do not: add it under its name. No handshake with the address, which
    /// may belong to somebody else by now. Returns whether it was added.
    private func meetByGossip(_ entry: BusPacket.Gossip) -> Bool {
        guard !entry.flags.contains(.noAddress), !entry.flags.contains(.handshake), !entry.ip.isEmpty,
            !isBlacklisted(entry.id)
        else { return false }
        var flags = entry.flags.intersection(.gossiped)
        if flags.isSuperset(of: [.primary, .replica]) { flags.remove(.replica) }
        if flags.contains(.fail) { flags.remove(.pfail) }
        guard let node = addNode(entry.id, flags: flags) else { return false }
        if node.isFailed { node.failTime = now }
        node.ip = entry.ip
        node.ports = clientPorts(entry.port, entry.secondaryPort, bus: entry.busPort)
        connect(node)
        todo.insert([.syncSoon, .updateHealth])
        return true
    }

    func receiveExtensions(_ packet: BusPacket, from sender: ClusterNode) {
        var hostname = "", humanNodename = ""
        var shardID: NodeID?
        var forgotten: [(NodeID, Int64)] = []
        packet.forEachExtension { type, payload in
            switch type {
            case BusPacket.ExtensionType.hostname:
                hostname = text(payload).flatMap { isValidHostname($0) ? $0 : nil } ?? ""
            case BusPacket.ExtensionType.humanNodename:
                humanNodename = text(payload).flatMap { isValidHumanNodename($0) ? $0 : nil } ?? ""
            case BusPacket.ExtensionType.shardID:
                if payload.count >= NodeID.byteCount {
                    shardID = NodeID(bytes: UnsafeRawBufferPointer(rebasing: payload[0..<NodeID.byteCount]))
                }
            case BusPacket.ExtensionType.forgottenNode:
                guard payload.count >= NodeID.byteCount + 8,
                    let id = NodeID(bytes: UnsafeRawBufferPointer(rebasing: payload[0..<NodeID.byteCount]))
                else { return }
                let ttl = payload.loadUnaligned(fromByteOffset: NodeID.byteCount, as: UInt64.self).bigEndian
                forgotten.append((id, Int64(min(ttl, 1 << 30)) * 1000))
            default: break
            }
        }
        if sender.hostname != hostname {
            sender.hostname = hostname
            todo.insert([.saveConfig, .publishView])
        }
        sender.humanNodename = humanNodename
        // A peer that knows no shard ids counts as a member of its primary's shard.
        setShardID(shardID ?? sender.shardPrimary.shardID, of: sender)
        for (id, ttl) in forgotten { forget(id, forMilliseconds: ttl) }
    }

    /// A peer was told to forget a node.
    private func forget(_ id: NodeID, forMilliseconds ttl: Int64) {
        guard ttl > 0, let node = node(id), !node.isMyself, node !== myself.primary else { return }
        blacklist(id, forMilliseconds: ttl)
        removeNode(node)
        todo.insert([.updateHealth, .syncSoon])
    }

    /// The two client ports of a packet in the order of this cluster's mode.
    func clientPorts(_ first: UInt16, _ second: UInt16, bus: UInt16) -> NodePorts {
        configuration.usesTLS
            ? NodePorts(tcp: second, tls: first, bus: bus) : NodePorts(tcp: first, tls: second, bus: bus)
    }
}

/// Text up to the zero byte that must end it.
private func text(_ payload: UnsafeRawBufferPointer) -> String? {
    guard let end = payload.firstIndex(of: 0) else { return nil }
    return String(decoding: payload[..<end], as: UTF8.self)
}
