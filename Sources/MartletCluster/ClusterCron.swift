/// The work of every 100 ms. Source: `clusterCron` in Redis 7.0 `cluster.c`.
extension ClusterState {
    /// Every tenth run one node is pinged, whatever its state.
    private static let randomPingPeriod: UInt64 = 10
    /// Of this many nodes the one with the oldest PONG.
    private static let randomPingCandidateCount = 5

    func runCron() {
        cronCount += 1
        for node in allNodes where !node.isMyself {
            if node.isInHandshake, now - node.createdAt > handshakeTimeoutMilliseconds {
                removeNode(node)
                continue
            }
            closeFullLinks(of: node)
            node.immediateConnectCount = 0
            if node.link == nil, node.hasAddress, now >= node.nextConnectAt { connect(node) }
        }
        if cronCount % ClusterState.randomPingPeriod == 0 { pingRandomNode() }
        for node in allNodes where !node.isMyself && node.hasAddress && !node.isInHandshake { watch(node) }
        checkManualFailoverTimeout()
        if myself.isReplica {
            repairReplicaOfReplica()
            advanceManualFailover()
            todo.insert(.handleFailover)
            considerReplicaMigration()
        }
        if !health.isOK { todo.insert(.updateHealth) }
    }

    private func pingRandomNode() {
        var oldest: ClusterNode?
        for _ in 0..<ClusterState.randomPingCandidateCount {
            guard let node = randomNode(), !node.isMyself, !node.isInHandshake, node.link?.isOpen == true,
                node.pingSent == 0
            else { continue }
            if oldest.map({ node.pongReceived < $0.pongReceived }) ?? true { oldest = node }
        }
        if let oldest, let link = oldest.link { sendPing(.ping, on: link) }
    }

    /// Drops links whose peer does not read. Source: `freeClusterLinkOnBufferLimitReached`.
    private func closeFullLinks(of node: ClusterNode) {
        let limit = configuration.linkSendBufferLimitBytes
        guard limit > 0 else { return }
        for case let link? in [node.link, node.inboundLink] where link.sendBufferBytes > limit {
            log(
                .warning,
                "Freeing cluster link(\(link.isInbound ? "from" : "to") node \(node.id), used memory: "
                    + "\(link.sendBufferBytes)) due to exceeding send buffer memory limit.")
            close(link)
            linksOverBufferLimitCount += 1
        }
    }
}
