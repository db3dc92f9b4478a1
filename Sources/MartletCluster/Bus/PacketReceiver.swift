// What a packet does, type by type.
//
// Who sent it? On a link whose node is known it must be that node. On an inbound link the sender's id is looked up. A
// sender that is not a member can do two things: be answered with a PONG, and ask for a handshake by MEET. Everything
// else of it is ignored, and so is every packet whose lengths, ids, addresses or epochs make no sense.
//
// Source: `clusterProcessPacket` in Redis 7.0 `cluster.c` and Valkey `cluster_legacy.c`.

extension ClusterState {
    func receivePacket(_ bytes: UnsafeRawBufferPointer, on link: BusLink) {
        let packet: BusPacket
        do throws(BusPacket.DecodeError) {
            packet = try BusPacket.decode(bytes)
        } catch {
            droppedPacketCount += 1
            log(.verbose, "Dropping a packet of \(bytes.count) bytes from \(link.remoteAddress): \(error)")
            return
        }
        receivedCounts[Int(packet.kind.rawValue)] += 1
        if packet.kind == droppedKind { return }
        if packet.isLight {
            guard let node = link.node, !node.isInHandshake else {
                log(.notice, "Closing link of \(link.remoteAddress): its first message has no full header")
                return close(link)
            }
            node.dataReceived = now
            return receivePublish(packet)
        }
        if packet.primary == packet.sender || packet.ip == nil || !arePlausible(packet) {
            droppedPacketCount += 1
            return
        }
        switch packet.kind {
        case .ping, .pong, .meet: receiveHeartbeat(packet, on: link)
        case .fail, .publish, .authRequest, .authAck, .update, .manualFailoverStart, .module, .publishShard:
            guard case .member(let sender) = identify(packet, on: link) else { return }
            noteHeader(packet, from: sender)
            receiveMessage(packet, from: sender, on: link)
        }
    }

    private func receiveMessage(_ packet: BusPacket, from sender: ClusterNode, on link: BusLink) {
        switch packet.kind {
        case .ping, .pong, .meet: preconditionFailure("heartbeats are handled by receiveHeartbeat")
        case .fail: receiveFail(packet, from: sender)
        case .publish, .publishShard: receivePublish(packet)
        case .authRequest: receiveVoteRequest(packet, from: sender, on: link)
        case .authAck: receiveVote(packet, from: sender)
        case .update: receiveUpdate(packet)
        case .manualFailoverStart: receiveManualFailoverStart(from: sender)
        case .module: break
        }
    }

    // MARK: The sender

    private enum Sender {
        case member(ClusterNode)
        /// The link leads to a node in handshake, which has just told its name.
        case handshake(ClusterNode)
        case stranger
        case myself
        /// The packet is not from whom the link belongs to.
        case impostor
    }

    private func identify(_ packet: BusPacket, on link: BusLink) -> Sender {
        if let node = link.node {
            if node.isInHandshake { return .handshake(node) }
            if node.id != packet.sender { return .impostor }
            return .member(node)
        }
        guard let node = node(packet.sender), !node.isInHandshake else {
            link.stranger = packet.sender
            return .stranger
        }
        if node.isMyself { return .myself }
        adopt(link, by: node)
        return .member(node)
    }

    private func adopt(_ link: BusLink, by node: ClusterNode) {
        // A peer may reconnect before we see its old link end; the new one counts.
        if let old = node.inboundLink { close(old) }
        node.inboundLink = link
        link.node = node
        link.stranger = nil
    }

    /// A stranger has become a member: the link on which it said its name is its own.
    func adoptInboundLink(of node: ClusterNode) {
        let own = links.values.filter { $0.stranger == node.id && $0.node == nil }
        if let link = own.max(by: { $0.id.rawValue < $1.id.rawValue }) { adopt(link, by: node) }
    }

    /// What the header of any packet of a member tells: life, epochs, offset.
    private func noteHeader(_ packet: BusPacket, from sender: ClusterNode) {
        sender.dataReceived = now
        for flag in [NodeFlags.supportsLightPublish, .myPrimaryFailed, .noFailover] {
            if packet.flags.contains(flag) { sender.flags.insert(flag) } else { sender.flags.remove(flag) }
        }
        if packet.messageFlags.contains(.extensions) { sender.flags.insert(.supportsExtensions) }
        currentEpoch = max(currentEpoch, packet.currentEpoch, packet.configEpoch)
        // A replica repeats its primary's epoch.
        if packet.primary == nil, packet.configEpoch > sender.configEpoch {
            sender.configEpoch = packet.configEpoch
            todo.insert([.syncSoon, .publishView])
        }
        sender.replicationOffset = packet.replicationOffset
        noteClaimDuringElection(packet, from: sender)
        notePausedOffset(packet, from: sender)
        if myself.isReplica, election.isWaiting, sender.primary === myself.primary { todo.insert(.handleFailover) }
    }

    // MARK: PING, PONG, MEET

    private func receiveHeartbeat(_ packet: BusPacket, on link: BusLink) {
        var sender: ClusterNode?
        switch identify(packet, on: link) {
        case .member(let node): sender = node
        case .handshake(let node):
            if link.isInbound { return close(link) }
            sender = finishHandshake(of: node, with: packet, on: link)
            if sender == nil { return }
        case .stranger: sender = nil
        case .impostor: return receiveImpostor(packet, on: link)
        case .myself:
            // We were told to meet ourselves. The answer ends the handshake.
            if packet.kind != .pong { sendPing(.pong, on: link) }
            return
        }
        if packet.kind != .pong { learnOwnAddress(packet, on: link) }
        guard let sender else {
            if packet.kind == .meet {
                addHandshakeNode(
                    ip: announcedIP(packet, on: link),
                    ports: clientPorts(packet.port, packet.secondaryPort, bus: packet.busPort), flags: .handshake)
            }
            if packet.kind != .pong { sendPing(.pong, on: link) }
            return
        }
        if packet.kind != .pong { sendPing(.pong, on: link) }
        noteHeader(packet, from: sender)
        if packet.kind == .ping {
            sender.flags.remove(.meet)
            updateAddress(of: sender, from: packet, on: link)
        }
        if packet.kind == .pong, !link.isInbound { nodeAnswered(sender) }
        let wasReplica = sender.isReplica
        guard receiveRole(packet, of: sender) else { return }
        if wasReplica, sender.isPrimary, sender.isFailed { clearFailure(of: sender) }
        receiveClaim(packet, of: sender, wasReplica: wasReplica)
        if sender.configEpoch == myself.configEpoch {
            repairConfigEpochCollision(with: sender, claim: SlotSet(bitmap: packet.slots))
        }
        if let gossip = packet.gossip {
            receiveGossip(gossip, from: sender)
        } else {
            log(.warning, "Node \(sender.id) gossiped about nodes with invalid ids or addresses.")
        }
        receiveExtensions(packet, from: sender)
    }

    /// The node behind an address is another one than we believed.
    private func receiveImpostor(_ packet: BusPacket, on link: BusLink) {
        guard let node = link.node else { return }
        log(.notice, "Link of node \(node.id) carries a packet of node \(packet.sender)")
        close(link)
        if !link.isInbound {
            node.flags.insert(.noAddress)
            node.ip = ""
            node.ports = NodePorts()
            todo.insert([.saveConfig, .publishView])
        }
    }

    /// Other nodes send MEET to our official address: the local end of that connection is it.
    private func learnOwnAddress(_ packet: BusPacket, on link: BusLink) {
        guard packet.kind == .meet || myself.ip.isEmpty, configuration.announceIP.isEmpty, !link.localAddress.isEmpty,
            link.localAddress != myself.ip
        else { return }
        myself.ip = link.localAddress
        log(.notice, "IP address for this node updated to \(myself.ip)")
        todo.insert([.saveConfig, .publishView])
    }

    private func announcedIP(_ packet: BusPacket, on link: BusLink) -> String {
        guard let ip = packet.ip, !ip.isEmpty else { return link.remoteAddress }
        return ip
    }

    /// Follows a member to a new address. Source: `nodeUpdateAddressIfNeeded`.
    func updateAddress(of node: ClusterNode, from packet: BusPacket, on link: BusLink) {
        if link === node.link { return }
        let ip = announcedIP(packet, on: link)
        let ports = clientPorts(packet.port, packet.secondaryPort, bus: packet.busPort)
        guard !ip.isEmpty, ports.bus != 0, ip != node.ip || ports != node.ports else { return }
        setAddress(of: node, ip: ip, ports: ports)
    }

    /// Primary or replica, and of whom. Returns false if the packet is older than what we know.
    private func receiveRole(_ packet: BusPacket, of sender: ClusterNode) -> Bool {
        guard let primaryID = packet.primary else {
            setAsPrimary(sender)
            return true
        }
        let primary = node(primaryID)
        if sender.isPrimary {
            if let primary, areInSameShard(primary, sender), !sender.slots.isEmpty {
                // Of a node's two links one may be behind the other. A primary that was a replica of the same shard
                // before must not be degraded by an old packet.
                if sender.configEpoch > packet.configEpoch { return false }
                // A failover: the slots stay with the old primary until the new one claims them, so that they are not
                // without an owner for a moment.
                if !primary.isMyself {
                    setAsPrimary(primary)
                    primary.configEpoch = max(primary.configEpoch, packet.configEpoch)
                }
            } else {
                unassignAll(of: sender)
            }
            todo.insert([.syncSoon, .updateHealth, .publishView])
        }
        if !sender.isReplica {
            sender.flags.remove([.primary, .migrateTo])
            sender.flags.insert(.replica)
            slotTablesAreStale = true
            todo.insert([.syncSoon, .updateHealth, .publishView])
        }
        if let primary, sender.primary !== primary {
            if let old = sender.primary { detach(sender, from: old) }
            attach(sender, to: primary)
            // Before the sender's shard id changes: whether the new primary shares our history depends on it.
            repairReplicaOfReplica()
            setShardID(primary.shardID, of: sender)
            todo.insert(.syncSoon)
        }
        return true
    }

    /// The slots in the header: a claim of a primary, an echo of its primary's claim from a replica.
    private func receiveClaim(_ packet: BusPacket, of sender: ClusterNode, wasReplica: Bool) {
        guard let primary = sender.isPrimary ? sender : sender.primary else { return }
        let isNews = !primary.slots.equals(bitmap: packet.slots)
        guard isNews || (sender.isPrimary && (wasReplica || !unclaimedSlots.isEmpty)) else { return }
        let claim = SlotSet(bitmap: packet.slots)
        if sender.isPrimary { updateSlots(of: sender, epoch: packet.configEpoch, claim: claim) }
        if isNews { correct(claim, epoch: packet.configEpoch, of: sender) }
    }

    /// The sender claims slots that a newer configuration gives to others: tell it who has them. Each owner once; a
    /// packet is answered by at most this many UPDATEs.
    private func correct(_ claim: SlotSet, epoch: UInt64, of sender: ClusterNode) {
        guard let link = sender.link else { return }
        var owners: [ClusterNode] = []
        claim.subtracting(sender.slots).forEach { slot in
            guard owners.count < ClusterState.updateCountMax, !isUnclaimed(slot), let owner = owner(of: slot),
                owner.configEpoch > epoch, !owners.contains(where: { $0 === owner })
            else { return }
            owners.append(owner)
        }
        for owner in owners {
            log(.verbose, "Node \(sender.id) has old slots configuration, sending an UPDATE message about \(owner.id)")
            let slots = owner.slots.subtracting(unclaimedSlots)
            send(
                BusPacketEncoder.update(owner.id, configEpoch: owner.configEpoch, slots: slots, packetHeader()),
                .update,
                on: link)
        }
    }

    static let updateCountMax = 8

    // MARK: Other types

    private func receiveFail(_ packet: BusPacket, from sender: ClusterNode) {
        guard let id = packet.failedNode, let node = node(id), !node.isFailed, !node.isMyself else { return }
        log(.notice, "FAIL message received from \(sender.id) about \(id)")
        markFailed(node)
    }

    private func receivePublish(_ packet: BusPacket) {
        let (channel, message) = packet.published
        pending.append(
            .publish(channel: Array(channel), message: Array(message), isSharded: packet.kind == .publishShard))
    }

    private func receiveUpdate(_ packet: BusPacket) {
        guard let update = packet.update, let node = node(update.node), node.configEpoch < update.configEpoch else {
            return
        }
        // About ourselves: we know better, and an epoch of ours that is not on our disk would be a lie.
        guard !node.isMyself else { return log(.notice, "Discarding UPDATE message about myself.") }
        setAsPrimary(node)
        node.configEpoch = update.configEpoch
        if update.configEpoch > currentEpoch { currentEpoch = update.configEpoch }
        todo.insert([.syncSoon, .publishView])
        updateSlots(of: node, epoch: update.configEpoch, claim: SlotSet(bitmap: update.slots))
    }

    /// Passes a message of a local client on.
    func broadcastPublish(channel: [UInt8], message: [UInt8], isSharded: Bool) {
        let receivers = isSharded ? [myself.shardPrimary] + myself.shardPrimary.replicas : allNodes
        let kind: BusPacket.Kind = isSharded ? .publishShard : .publish
        var full: [UInt8]?, light: [UInt8]?
        for node in receivers where !node.isMyself && !node.isInHandshake {
            guard let link = node.link else { continue }
            if node.flags.contains(.supportsLightPublish) {
                let bytes = light ?? BusPacketEncoder.lightPublish(channel, message, isSharded: isSharded)
                light = bytes
                send(bytes, kind, on: link)
            } else {
                let bytes =
                    full ?? BusPacketEncoder.publish(channel, message, isSharded: isSharded, packetHeader())
                full = bytes
                send(bytes, kind, on: link)
            }
        }
    }
}
