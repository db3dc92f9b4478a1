// Which nodes there are: adding, renaming, forgetting, and who replicates whom.

import MartletBase

extension ClusterState {
    /// Nodes that are there, in an order that depends on history only.
    var allNodes: [ClusterNode] { nodes.compactMap { $0 } }

    func node(_ id: NodeID) -> ClusterNode? { nodesByID[id] }

    func node(at index: UInt16) -> ClusterNode? {
        Int(index) < nodes.count ? nodes[Int(index)] : nil
    }

    /// Adds a node, or returns nil when there are too many.
    func addNode(_ id: NodeID, flags: NodeFlags) -> ClusterNode? {
        precondition(nodesByID[id] == nil)
        guard nodeCount < NodesConf.nodeCountMax else {
            log(.warning, "Not adding node \(id): \(nodeCount) nodes are known, which is the limit")
            return nil
        }
        let index = nodes.firstIndex { $0 == nil } ?? nodes.count
        let node = ClusterNode(
            index: UInt16(index), id: id, shardID: NodeID.random(using: &random), flags: flags, createdAt: now)
        if index == nodes.count { nodes.append(node) } else { nodes[index] = node }
        nodesByID[id] = node
        nodeCount += 1
        adoptInboundLink(of: node)
        todo.insert(.publishView)
        return node
    }

    /// Gives a node in handshake, or this node at a hard reset, its name.
    func rename(_ node: ClusterNode, to id: NodeID) {
        precondition(nodesByID[id] == nil)
        nodesByID[node.id] = nil
        node.id = id
        nodesByID[id] = node
        if !node.isMyself { adoptInboundLink(of: node) }
        todo.insert(.publishView)
    }

    /// Forgets a node with everything that refers to it.
    func removeNode(_ node: ClusterNode) {
        precondition(!node.isMyself)
        unassignAll(of: node)
        migratingTo = migratingTo.filter { $0.value != node.index }
        importingFrom = importingFrom.filter { $0.value != node.index }
        slotTablesAreStale = true
        for other in allNodes where other !== node {
            other.failureReports.removeAll { $0.reporter == node.index }
            if other.primary === node { other.primary = nil }
        }
        node.replicas = []
        if let primary = node.primary { detach(node, from: primary) }
        node.primary = nil
        if manualFailover.replica === node { resetManualFailover() }
        if let link = node.link { close(link) }
        if let link = node.inboundLink { close(link) }
        nodesByID[node.id] = nil
        nodes[Int(node.index)] = nil
        nodeCount -= 1
        todo.insert(.publishView)
    }

    // MARK: Primaries and replicas

    func attach(_ replica: ClusterNode, to primary: ClusterNode) {
        replica.primary = primary
        if !primary.replicas.contains(where: { $0 === replica }) { primary.replicas.append(replica) }
        primary.flags.insert(.migrateTo)
        todo.insert(.publishView)
    }

    func detach(_ replica: ClusterNode, from primary: ClusterNode) {
        primary.replicas.removeAll { $0 === replica }
        if primary.replicas.isEmpty { primary.flags.remove(.migrateTo) }
        if replica.primary === primary { replica.primary = nil }
        todo.insert(.publishView)
    }

    /// A node that we took for a replica acts as a primary. Source: `clusterSetNodeAsMaster`.
    func setAsPrimary(_ node: ClusterNode) {
        if node.isPrimary { return }
        if let primary = node.primary {
            detach(node, from: primary)
            if !node.isMyself { node.flags.insert(.migrateTo) }
        }
        node.flags.remove(.replica)
        node.flags.insert(.primary)
        node.primary = nil
        slotTablesAreStale = true
        todo.insert([.saveConfig, .updateHealth, .publishView])
    }

    /// Makes this node a replica of another. Source: `clusterSetMaster`, in Valkey `clusterSetPrimary`.
    ///
    /// Its open slots are closed, as in Redis 7.0: SETSLOT is for primaries, so nobody could close them afterwards.
    /// - Precondition: this node owns no slots.
    func becomeReplica(of primary: ClusterNode, sharesHistory: Bool) {
        precondition(primary !== myself)
        precondition(myself.slots.isEmpty)
        if let old = myself.primary { detach(myself, from: old) }
        myself.flags.remove([.primary, .migrateTo])
        myself.flags.insert(.replica)
        migratingTo = [:]
        importingFrom = [:]
        myself.shardID = primary.shardID
        attach(myself, to: primary)
        slotTablesAreStale = true
        follow(primary, sharesHistory: sharesHistory)
        resetManualFailover()
        // An election for the old primary's slots has no meaning any more.
        election = Election()
        // A role that a power cut takes back is a primary too many, with keys for slots that it does not own.
        todo.insert([.saveConfig, .syncConfig, .updateHealth, .publishView, .tellRole])
    }

    func follow(_ primary: ClusterNode, sharesHistory: Bool) {
        guard primary.isSafeToAddress else { return }
        let port = configuration.usesTLS ? primary.ports.tls : primary.ports.tcp
        pending.append(.followPrimary(primary.id, host: primary.ip, port: port, sharesHistory: sharesHistory))
    }

    /// Two nodes that hold the same data, as far as known.
    func areInSameShard(_ one: ClusterNode, _ other: ClusterNode) -> Bool { one.shardID == other.shardID }

    func setShardID(_ id: NodeID, of node: ClusterNode) {
        if node.shardID == id { return }
        node.shardID = id
        todo.insert(.publishView)
        // Replicas follow; ours is remembered in nodes.conf.
        if node === myself.primary, myself.isReplica, myself.shardID != id {
            myself.shardID = id
            todo.insert(.saveConfig)
        }
    }

    // MARK: Forgotten nodes

    func isBlacklisted(_ id: NodeID) -> Bool {
        blacklist.removeAll { $0.until < now }
        return blacklist.contains { $0.id == id }
    }

    func blacklist(_ id: NodeID, forMilliseconds duration: Int64) {
        blacklist.removeAll { $0.until < now || $0.id == id }
        // A peer may name nodes without end; the oldest entries matter least.
        if blacklist.count >= 1024 { blacklist.removeFirst() }
        blacklist.append((id, now &+ max(0, min(duration, 1 << 40))))
    }

    // MARK: nodes.conf

    func load(_ conf: NodesConf) {
        currentEpoch = conf.currentEpoch
        lastVoteEpoch = conf.lastVoteEpoch
        electedEpoch = conf.electedEpoch
        func known(_ id: NodeID) -> ClusterNode? { node(id) ?? addNode(id, flags: []) }
        for entry in conf.nodes { _ = known(entry.id) }
        for entry in conf.nodes {
            guard let node = node(entry.id) else { continue }
            node.flags = entry.flags
            if node.isMyself {
                node.flags.remove([.pfail, .fail, .handshake, .noAddress])
                if !node.isReplica { node.flags.insert(.primary) }
            }
            if node.isFailed {
                node.flags.remove(.pfail)
                node.failTime = now
            }
            node.ip = entry.ip
            if configuration.usesTLS {
                node.ports = NodePorts(tcp: entry.tcpPort ?? 0, tls: entry.tlsPort ?? entry.port, bus: entry.busPort)
            } else {
                node.ports = NodePorts(tcp: entry.tcpPort ?? entry.port, tls: entry.tlsPort ?? 0, bus: entry.busPort)
            }
            node.hostname = entry.hostname
            node.humanNodename = entry.humanNodename
            if let shardID = entry.shardID, !node.isMyself { node.shardID = shardID }
            if entry.pingSent != 0 { node.pingSent = now }
            if entry.pongReceived != 0 { node.pongReceived = now }
            if let id = entry.primary, let primary = known(id), node.isReplica { attach(node, to: primary) }
            node.configEpoch = node.isReplica && node.primary != nil ? 0 : entry.configEpoch
            // A node without a role that we know of may still own slots; this node as a replica may not.
            if !(node.isMyself && node.isReplica) {
                for range in entry.slots {
                    for slot in range where owners[slot] == ClusterView.noNode { assign(slot, to: node) }
                }
            }
            if node.isMyself {
                for open in entry.openSlots {
                    guard let peer = known(open.peer), peer !== myself else { continue }
                    if open.isMigrating {
                        migratingTo[open.slot.rawValue] = peer.index
                    } else {
                        importingFrom[open.slot.rawValue] = peer.index
                    }
                }
            }
        }
        // Without ids from the file a replica counts as a member of its primary's shard.
        if let primary = myself.primary { primary.shardID = myself.shardID }
        for node in allNodes {
            if let primary = node.primary, !node.isMyself { node.shardID = primary.shardID }
        }
        currentEpoch = max(maxEpoch, lastVoteEpoch)
        // A file without variables says nothing about votes: assume the worst.
        if !conf.hasVariables { lastVoteEpoch = currentEpoch }
    }

    /// What the file must hold now.
    func nodesConf() -> NodesConf {
        var conf = NodesConf()
        conf.nodes = allNodes.filter { !$0.isInHandshake }.map {
            description(of: $0, isTLSClient: configuration.usesTLS)
        }
        conf.currentEpoch = currentEpoch
        conf.lastVoteEpoch = lastVoteEpoch
        conf.electedEpoch = electedEpoch
        conf.shardID = myself.shardID
        conf.hasVariables = true
        return conf
    }

    // MARK: This node

    /// Brings this node's own entry in line with the configuration.
    func updateMyselfFromConfiguration() {
        let ports = configuration.announcedPorts
        if myself.ports != ports {
            myself.ports = ports
            todo.insert(.saveConfig)
        }
        if !configuration.announceIP.isEmpty, myself.ip != configuration.announceIP {
            myself.ip = configuration.announceIP
            todo.insert(.saveConfig)
        }
        if myself.hostname != configuration.announceHostname {
            myself.hostname = configuration.announceHostname
            todo.insert(.saveConfig)
        }
        myself.humanNodename = configuration.announceHumanNodename
        myself.flags.insert([.supportsExtensions, .supportsLightPublish])
        if myself.flags.contains(.noFailover) != configuration.replicaNoFailover {
            myself.flags.formSymmetricDifference(.noFailover)
            todo.insert(.saveConfig)
        }
        todo.insert(.publishView)
    }
}
