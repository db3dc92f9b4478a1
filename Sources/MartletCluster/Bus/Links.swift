// Connections of the bus: two per pair of nodes, one opened from each side. A node sends PINGs and everything that it
// has to say on its own link, and answers PINGs on the link that they came by.

extension ClusterState {
    /// Packets kept for a link that is still connecting; later and bigger ones are lost, as on a link that fails.
    static let queuedPacketCountMax = 64
    static let queuedPacketByteCountMax = 64 * 1024
    /// After this time a packet is not sent any more: a FAIL from before the peer came up would be believed.
    static let queuedPacketMillisecondsMax: Int64 = 1_000

    func addLink(to node: ClusterNode?, remoteAddress: String = "", localAddress: String = "") -> BusLink {
        lastLinkNumber += 1
        let link = BusLink(
            id: BusLinkID(rawValue: lastLinkNumber), isInbound: node == nil, node: node, createdAt: now,
            localAddress: localAddress, remoteAddress: remoteAddress, isOpen: node == nil)
        links[link.id] = link
        return link
    }

    /// Opens our link to a node, if its address is known and there is none.
    func connect(_ node: ClusterNode) {
        guard !node.isMyself, node.link == nil, node.isSafeToAddress else { return }
        let link = addLink(to: node, remoteAddress: node.ip)
        node.link = link
        // From now on we wait for a sign of life, even if no PING can be sent.
        if node.pingSent == 0 { node.pingSent = now }
        pending.append(.openLink(link.id, host: node.ip, port: node.ports.bus))
    }

    /// Closes a link on our side.
    func close(_ link: BusLink) {
        pending.append(.closeLink(link.id))
        detach(link)
    }

    private func detach(_ link: BusLink) {
        links[link.id] = nil
        if let node = link.node {
            if node.link === link { node.link = nil }
            if node.inboundLink === link { node.inboundLink = nil }
        }
        link.queued = []
    }

    func send(_ bytes: [UInt8], _ kind: BusPacket.Kind, on link: BusLink) {
        if isStalled || links[link.id] !== link { return }
        if !link.isOpen {
            if link.queued.count < ClusterState.queuedPacketCountMax,
                bytes.count <= ClusterState.queuedPacketByteCountMax
            {
                link.queued.append((kind, bytes, now))
            }
            return
        }
        sentCounts[Int(kind.rawValue)] += 1
        pending.append(.send(link.id, bytes))
    }

    func connectionOpened(_ link: BusLink, localAddress: String) {
        guard link.node != nil, !link.isInbound, !link.isOpen else { return }
        link.isOpen = true
        link.localAddress = localAddress
        let queued = link.queued
        link.queued = []
        sendPing(.ping, on: link)
        for (kind, bytes, time) in queued where now - time <= ClusterState.queuedPacketMillisecondsMax {
            send(bytes, kind, on: link)
        }
    }

    /// A link is gone. What that says about the node is told in `FailureDetector`.
    func connectionLost(_ link: BusLink, reason: BusLinkCloseReason) {
        let node = link.node
        let wasOpen = link.isOpen
        detach(link)
        guard let node, nodes[Int(node.index)] === node else { return }
        if link.isInbound {
            considerCrash(of: node)
            return
        }
        if wasOpen {
            if !node.isInHandshake, node.immediateConnectCount < FailureDetector.immediateConnectCountMax {
                node.immediateConnectCount += 1
                connect(node)
            }
            return
        }
        if reason == .refused {
            node.refusedAt = now
            considerCrash(of: node)
        }
        node.nextConnectAt = now + reconnectInterval(of: node)
    }

    /// A node that cannot be reached is tried ten times per half node time-out, others at every cron run.
    private func reconnectInterval(of node: ClusterNode) -> Int64 {
        guard node.isPossiblyFailed || node.isFailed else { return 0 }
        let interval = configuration.nodeTimeoutMilliseconds / (2 * FailureDetector.reconnectAttempts)
        return min(max(interval, 0), 1_000)
    }

    /// Notes a new address of a node and connects to it.
    func setAddress(of node: ClusterNode, ip: String, ports: NodePorts) {
        node.ip = ip
        node.ports = ports
        node.flags.remove(.noAddress)
        if let link = node.link { close(link) }
        log(.notice, "Address updated for node \(node.id), now \(ip):\(ports.bus)")
        node.nextConnectAt = 0
        connect(node)
        if myself.isReplica, node === myself.primary { follow(node, sharesHistory: true) }
        todo.insert([.saveConfig, .updateHealth, .publishView])
    }
}
