import MartletBase

/// How the cluster is shown: CLUSTER NODES, INFO, SLOTS, SHARDS and LINKS, field by field as in Redis 7.0.
extension ClusterState {
    /// A node's line in nodes.conf and CLUSTER NODES. Source: `clusterGenNodeDescription`.
    func description(of node: ClusterNode, isTLSClient: Bool) -> NodesConf.Node {
        var line = NodesConf.Node(id: node.id)
        line.ip = node.ip
        line.port = clientPort(of: node.ports, isTLSClient: isTLSClient, usesTLS: configuration.usesTLS)
        line.busPort = node.ports.bus
        line.hostname = node.hostname
        line.flags = node.flags
        line.primary = node.primary?.id
        line.pingSent = node.pingSent
        line.pongReceived = node.pongReceived
        line.configEpoch = node.shardPrimary.configEpoch
        line.isConnected = node.isMyself || node.link != nil
        line.slots = node.slots.ranges
        if node.isMyself {
            for slot in Set(migratingTo.keys).union(importingFrom.keys).sorted() {
                guard let peer = (migratingTo[slot] ?? importingFrom[slot]).flatMap({ self.node(at: $0) }) else {
                    continue
                }
                line.openSlots.append(
                    NodesConf.OpenSlot(
                        slot: HashSlot(rawValue: slot), isMigrating: migratingTo[slot] != nil, peer: peer.id))
            }
        }
        return line
    }

    func nodesText(isTLSClient: Bool) -> String {
        var text = ""
        for node in allNodes {
            description(of: node, isTLSClient: isTLSClient).write(to: &text)
            text += "\n"
        }
        return text
    }

    func infoText() -> String {
        var assigned = 0, ok = 0, pfail = 0, fail = 0
        for slot in 0..<HashSlot.count {
            guard let owner = owner(of: slot) else { continue }
            assigned += 1
            if owner.isFailed {
                fail += 1
            } else if owner.isPossiblyFailed {
                pfail += 1
            } else {
                ok += 1
            }
        }
        var text = """
            cluster_state:\(health.isOK ? "ok" : "fail")\r
            cluster_slots_assigned:\(assigned)\r
            cluster_slots_ok:\(ok)\r
            cluster_slots_pfail:\(pfail)\r
            cluster_slots_fail:\(fail)\r
            cluster_known_nodes:\(nodeCount)\r
            cluster_size:\(votingNodeCount)\r
            cluster_current_epoch:\(currentEpoch)\r
            cluster_my_epoch:\(myself.shardPrimary.configEpoch)\r

            """
        for (counts, direction) in [(sentCounts, "sent"), (receivedCounts, "received")] {
            for kind in BusPacket.Kind.allCases where counts[Int(kind.rawValue)] > 0 {
                text += "cluster_stats_messages_\(kind.name)_\(direction):\(counts[Int(kind.rawValue)])\r\n"
            }
            text += "cluster_stats_messages_\(direction):\(counts.reduce(0, +))\r\n"
        }
        text += "total_cluster_links_buffer_limit_exceeded:\(linksOverBufferLimitCount)\r\n"
        return text
    }

    // MARK: SLOTS

    func slotsReply(isTLSClient: Bool) -> ClusterReply {
        var entries: [ClusterReply] = []
        var first = 0
        while first < HashSlot.count {
            var last = first
            while last + 1 < HashSlot.count, owners[last + 1] == owners[first] { last += 1 }
            if let owner = owner(of: first) {
                var entry: [ClusterReply] = [.integer(Int64(first)), .integer(Int64(last))]
                entry.append(endpointReply(owner, isTLSClient: isTLSClient))
                for replica in owner.replicas where !replica.isFailed && offset(of: replica) != 0 {
                    entry.append(endpointReply(replica, isTLSClient: isTLSClient))
                }
                entries.append(.array(entry))
            }
            first = last + 1
        }
        return .array(entries)
    }

    private func endpointReply(_ node: ClusterNode, isTLSClient: Bool) -> ClusterReply {
        let type = configuration.preferredEndpointType
        let host: ClusterReply =
            switch type {
            case .ip: .bulk(node.ip)
            case .hostname: .bulk(node.hostname.isEmpty ? "?" : node.hostname)
            case .unknownEndpoint: .null
            }
        var more: [(String, ClusterReply)] = []
        if type != .ip { more.append(("ip", .bulk(node.ip))) }
        if type != .hostname, !node.hostname.isEmpty { more.append(("hostname", .bulk(node.hostname))) }
        let port = clientPort(of: node.ports, isTLSClient: isTLSClient, usesTLS: configuration.usesTLS)
        return .array([host, .integer(Int64(port)), .bulk("\(node.id)"), .map(more)])
    }

    private func offset(of node: ClusterNode) -> Int64 {
        node.isMyself ? replication.offset : node.replicationOffset
    }

    // MARK: SHARDS

    func shardsReply() -> ClusterReply {
        .array(
            allNodes.filter { $0.isPrimary }.map { primary in
                let slots = primary.slots.ranges.flatMap { range -> [ClusterReply] in
                    [.integer(Int64(range.lowerBound)), .integer(Int64(range.upperBound))]
                }
                return .map([
                    ("slots", .array(slots)),
                    ("nodes", .array(([primary] + primary.replicas).map { shardMemberReply($0) })),
                ])
            })
    }

    private func shardMemberReply(_ node: ClusterNode) -> ClusterReply {
        var fields: [(String, ClusterReply)] = [("id", .bulk("\(node.id)"))]
        if node.ports.tcp != 0 { fields.append(("port", .integer(Int64(node.ports.tcp)))) }
        if node.ports.tls != 0 { fields.append(("tls-port", .integer(Int64(node.ports.tls)))) }
        fields.append(("ip", .bulk(node.ip)))
        let endpoint =
            switch configuration.preferredEndpointType {
            case .ip: node.ip
            case .hostname: node.hostname.isEmpty ? "?" : node.hostname
            case .unknownEndpoint: ""
            }
        fields.append(("endpoint", .bulk(endpoint)))
        if !node.hostname.isEmpty { fields.append(("hostname", .bulk(node.hostname))) }
        let offset = offset(of: node)
        fields.append(("role", .bulk(node.isReplica ? "replica" : "master")))
        fields.append(("replication-offset", .integer(offset)))
        let health = node.isFailed ? "fail" : node.isReplica && offset == 0 ? "loading" : "online"
        fields.append(("health", .bulk(health)))
        return .map(fields)
    }

    // MARK: LINKS

    func linksReply() -> ClusterReply {
        var entries: [ClusterReply] = []
        for node in allNodes {
            for case let link? in [node.link, node.inboundLink] { entries.append(linkReply(link, node)) }
        }
        return .array(entries)
    }

    private func linkReply(_ link: BusLink, _ node: ClusterNode) -> ClusterReply {
        let events = (link.isOpen ? "r" : "") + (link.sendBufferBytes > 0 ? "w" : "")
        return .map([
            ("direction", .bulk(link.isInbound ? "from" : "to")),
            ("node", .bulk("\(node.id)")),
            ("create-time", .integer(link.createdAt)),
            ("events", .bulk(events)),
            ("send-buffer-allocated", .integer(Int64(link.sendBufferBytes))),
            ("send-buffer-used", .integer(Int64(link.sendBufferBytes))),
        ])
    }
}
