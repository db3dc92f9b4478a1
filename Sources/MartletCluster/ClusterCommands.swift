import MartletBase

/// The CLUSTER subcommands that read or change the tables. Error texts are those of Redis 7.0 `clusterCommand`.
extension ClusterState {
    func run(_ request: ClusterRequest) -> ClusterReply {
        let words = request.arguments
        guard let name = words.first?.lowercased() else {
            return .failure("wrong number of arguments for 'cluster' command")
        }
        // One flat list; every case checks its own number of words.
        switch (name, words.count) {
        case ("help", 1): return .array(ClusterState.help.map { .status($0) })
        case ("myid", 1): return .bulk("\(myself.id)")
        case ("myshardid", 1): return .bulk("\(myself.shardID)")
        case ("info", 1): return .verbatim(infoText())
        case ("nodes", 1): return .verbatim(nodesText(isTLSClient: request.isTLSClient))
        case ("slots", 1): return slotsReply(isTLSClient: request.isTLSClient)
        case ("shards", 1): return shardsReply()
        case ("links", 1): return linksReply()
        case ("meet", 3), ("meet", 4): return meet(words)
        case ("forget", 2): return forget(words[1])
        case ("addslots", 2...), ("delslots", 2...): return changeSlots(words, isDelete: name == "delslots")
        case ("addslotsrange", 3...), ("delslotsrange", 3...):
            return changeSlotRanges(words, isDelete: name == "delslotsrange")
        case ("flushslots", 1): return flushSlots(request)
        case ("setslot", 3...): return setSlot(request)
        case ("replicate", 2): return replicate(request)
        case ("replicas", 2), ("slaves", 2): return replicas(request)
        case ("failover", 1), ("failover", 2): return failover(words)
        case ("reset", 1), ("reset", 2): return reset(request)
        case ("saveconfig", 1):
            todo.insert([.saveConfig, .syncConfig])
            return .ok
        case ("set-config-epoch", 2): return setConfigEpoch(words[1])
        case ("bumpepoch", 1):
            let isNew = bumpConfigEpochWithoutConsensus()
            // Who imports a slot from here needs an epoch above this one, so it must not wait for gossip.
            if isNew { broadcastPong() }
            return .status("\(isNew ? "BUMPED" : "STILL") \(myself.configEpoch)")
        case ("count-failure-reports", 2):
            guard let node = NodeID(words[1]).flatMap({ node($0) }) else { return .failure("Unknown node \(words[1])") }
            return .integer(Int64(failureReportCount(about: node)))
        case ("debug-drop-packets", 2):
            // Not for clients: DEBUG DROP-CLUSTER-PACKET-FILTER. A number that no kind has drops nothing.
            droppedKind = UInt16(words[1]).flatMap { BusPacket.Kind(rawValue: $0) }
            return .ok
        default:
            return .failure(
                "unknown subcommand or wrong number of arguments for '\(words[0].prefix(128))'. Try CLUSTER HELP.")
        }
    }

    // MARK: Members

    private func meet(_ words: [String]) -> ClusterReply {
        guard let port = integer(words[2]) else { return .failure("Invalid TCP base port specified: \(words[2])") }
        var busPort = port.addingReportingOverflow(Int64(busPortOffset)).partialValue
        if words.count == 4 {
            guard let number = integer(words[3]) else {
                return .failure("Invalid TCP bus port specified: \(words[3])")
            }
            busPort = number
        }
        if startHandshake(ip: words[1], port: port, busPort: busPort) == .invalidAddress {
            return .failure("Invalid node address specified: \(words[1]):\(words[2])")
        }
        return .ok
    }

    private func forget(_ word: String) -> ClusterReply {
        guard let id = NodeID(word) else { return .failure("Unknown node \(word)") }
        guard let node = node(id) else {
            // Another node was told first and its gossip was faster: what was asked for is done. (Valkey 8)
            return isBlacklisted(id) ? .ok : .failure("Unknown node \(word)")
        }
        if node.isMyself { return .failure("I tried hard but I can't forget myself...") }
        if myself.isReplica, myself.primary === node { return .failure("Can't forget my master!") }
        blacklist(node.id, forMilliseconds: saturatingProduct(configuration.blacklistTTLSeconds, 1000))
        removeNode(node)
        todo.insert([.updateHealth, .saveConfig])
        return .ok
    }

    private func replicate(_ request: ClusterRequest) -> ClusterReply {
        let word = request.arguments[1]
        guard let primary = NodeID(word).flatMap({ node($0) }) else { return .failure("Unknown node \(word)") }
        if primary.isMyself { return .failure("Can't replicate myself") }
        if primary.isReplica { return .failure("I can only replicate a master, not a replica.") }
        if myself.isPrimary, !myself.slots.isEmpty || !request.databaseIsEmpty {
            return .failure("To set a master the node must be empty and without assigned slots.")
        }
        if myself.isReplica, myself.primary === primary {
            // Nothing changes: a running synchronisation goes on.
            return .ok
        }
        becomeReplica(of: primary, sharesHistory: areInSameShard(primary, myself))
        todo.insert([.updateHealth, .saveConfig])
        return .ok
    }

    private func replicas(_ request: ClusterRequest) -> ClusterReply {
        let word = request.arguments[1]
        guard let primary = NodeID(word).flatMap({ node($0) }) else { return .failure("Unknown node \(word)") }
        if primary.isReplica { return .failure("The specified node is not a master") }
        return .array(
            primary.replicas.map { replica in
                var line = ""
                description(of: replica, isTLSClient: request.isTLSClient).write(to: &line)
                return .bulk(line)
            })
    }

    private func failover(_ words: [String]) -> ClusterReply {
        let option = words.count == 2 ? words[1].lowercased() : ""
        guard ["", "force", "takeover"].contains(option) else { return .failure("syntax error") }
        if myself.isPrimary { return .failure("You should send CLUSTER FAILOVER to a replica") }
        guard let primary = myself.primary else { return .failure("I'm a replica but my master is unknown to me") }
        if option.isEmpty, primary.isFailed || primary.link?.isOpen != true {
            return .failure("Master is down or failed, please use CLUSTER FAILOVER FORCE")
        }
        if option == "takeover" {
            log(.notice, "Taking over the master (user request).")
            resetManualFailover()
            bumpConfigEpochWithoutConsensus()
            replaceMyPrimary()
        } else {
            startManualFailover(force: option == "force", of: primary)
        }
        return .ok
    }

    /// Source: `clusterReset`.
    private func reset(_ request: ClusterRequest) -> ClusterReply {
        let option = request.arguments.count == 2 ? request.arguments[1].lowercased() : "soft"
        guard ["hard", "soft"].contains(option) else { return .failure("syntax error") }
        if myself.isPrimary, !request.databaseIsEmpty {
            return .failure("CLUSTER RESET can't be called with master nodes containing keys")
        }
        resetManualFailover()
        election = Election()
        if myself.isReplica {
            setAsPrimary(myself)
            pending.append(.becomePrimary)
            pending.append(.flushAll)
        }
        migratingTo = [:]
        importingFrom = [:]
        for slot in 0..<HashSlot.count { unassign(slot) }
        unclaimedSlots.removeAll()
        for node in allNodes where !node.isMyself { removeNode(node) }
        for link in links.values.sorted(by: { $0.id.rawValue < $1.id.rawValue }) where link.node != nil { close(link) }
        slotTablesAreStale = true
        // A node that leaves its shard must not be taken for a member of it.
        myself.shardID = NodeID.random(using: &random)
        if option == "hard" {
            currentEpoch = 0
            lastVoteEpoch = 0
            electedEpoch = 0
            myself.configEpoch = 0
            log(.notice, "configEpoch set to 0 via CLUSTER RESET HARD")
            rename(myself, to: NodeID.random(using: &random))
            log(.notice, "Node hard reset, now I'm \(myself.id)")
        }
        todo.insert([.saveConfig, .syncConfig, .updateHealth, .publishView])
        return .ok
    }

    private func setConfigEpoch(_ word: String) -> ClusterReply {
        guard let epoch = integer(word) else { return .failure("value is not an integer or out of range") }
        guard epoch >= 0, UInt64(epoch) <= ConfigEpoch.assignedMax else {
            return .failure("Invalid config epoch specified: \(epoch)")
        }
        if nodeCount > 1 {
            return .failure("The user can assign a config epoch only when the node does not know any other node.")
        }
        if myself.configEpoch != 0 { return .failure("Node config epoch is already non-zero") }
        myself.configEpoch = UInt64(epoch)
        currentEpoch = max(currentEpoch, UInt64(epoch))
        log(.notice, "configEpoch set to \(epoch) via CLUSTER SET-CONFIG-EPOCH")
        todo.insert([.updateHealth, .saveConfig, .publishView])
        return .ok
    }

    // MARK: Slots

    private func changeSlots(_ words: [String], isDelete: Bool) -> ClusterReply {
        var ranges: [ClosedRange<Int>] = []
        for word in words.dropFirst() {
            guard let slot = slot(word) else { return .failure("Invalid or out of range slot") }
            ranges.append(slot...slot)
        }
        return changeSlots(ranges, isDelete: isDelete)
    }

    private func changeSlotRanges(_ words: [String], isDelete: Bool) -> ClusterReply {
        guard words.count % 2 == 1 else {
            return .failure("wrong number of arguments for 'cluster|\(words[0].lowercased())' command")
        }
        var ranges: [ClosedRange<Int>] = []
        var seen = SlotSet()
        for index in stride(from: 1, to: words.count, by: 2) {
            guard let first = slot(words[index]), let last = slot(words[index + 1]) else {
                return .failure("Invalid or out of range slot")
            }
            guard first <= last else {
                return .failure("start slot number \(first) is greater than end slot number \(last)")
            }
            // Ranges are checked one after the other, as they come.
            if let error = obstacle(to: first...last, isDelete: isDelete, seen: &seen) { return error }
            ranges.append(first...last)
        }
        return changeSlots(ranges, isDelete: isDelete)
    }

    private func changeSlots(_ ranges: [ClosedRange<Int>], isDelete: Bool) -> ClusterReply {
        // Redis lets a replica own slots until the next packet of its primary.
        if myself.isReplica, !isDelete { return .failure("Please use ADDSLOTS only with masters.") }
        var seen = SlotSet()
        for range in ranges {
            if let error = obstacle(to: range, isDelete: isDelete, seen: &seen) { return error }
        }
        for slot in ranges.joined() {
            // Whoever owns the slot need not import it.
            if importingFrom.removeValue(forKey: UInt16(slot)) != nil { slotTablesAreStale = true }
            if isDelete { unassign(slot) } else { assign(slot, to: myself) }
        }
        todo.insert([.updateHealth, .saveConfig, .syncConfig, .publishView])
        return .ok
    }

    private func obstacle(to range: ClosedRange<Int>, isDelete: Bool, seen: inout SlotSet) -> ClusterReply? {
        for slot in range {
            let isFree = owners[slot] == ClusterView.noNode
            if isDelete, isFree { return .failure("Slot \(slot) is already unassigned") }
            if !isDelete, !isFree { return .failure("Slot \(slot) is already busy") }
            if !seen.insert(slot) { return .failure("Slot \(slot) specified multiple times") }
        }
        return nil
    }

    private func flushSlots(_ request: ClusterRequest) -> ClusterReply {
        guard request.databaseIsEmpty else {
            return .failure("DB must be empty to perform CLUSTER FLUSHSLOTS.")
        }
        unassignAll(of: myself)
        todo.insert([.updateHealth, .saveConfig])
        return .ok
    }

    private func setSlot(_ request: ClusterRequest) -> ClusterReply {
        let words = request.arguments
        if myself.isReplica { return .failure("Please use SETSLOT only with masters.") }
        guard let number = slot(words[1]) else { return .failure("Invalid or out of range slot") }
        let key = UInt16(number)
        switch (words[2].lowercased(), words.count) {
        case ("migrating", 4):
            guard owners[number] == myself.index else { return .failure("I'm not the owner of hash slot \(number)") }
            guard let target = NodeID(words[3]).flatMap({ node($0) }) else {
                return .failure("I don't know about node \(words[3])")
            }
            if target.isReplica { return .failure("Target node is not a master") }
            // Redis lets a slot migrate to its owner, which then redirects clients to itself for ever.
            if target.isMyself { return .failure("I'm already the owner of hash slot \(number)") }
            migratingTo[key] = target.index
        case ("importing", 4):
            guard owners[number] != myself.index else {
                return .failure("I'm already the owner of hash slot \(number)")
            }
            guard let source = NodeID(words[3]).flatMap({ node($0) }) else {
                return .failure("I don't know about node \(words[3])")
            }
            if source.isReplica { return .failure("Target node is not a master") }
            importingFrom[key] = source.index
        case ("stable", 3):
            migratingTo[key] = nil
            importingFrom[key] = nil
        case ("node", 4):
            guard let owner = NodeID(words[3]).flatMap({ node($0) }) else {
                return .failure("Unknown node \(words[3])")
            }
            if owner.isReplica { return .failure("Target node is not a master") }
            if owners[number] == myself.index, !owner.isMyself, request.keyCountInSlot != 0 {
                return .failure(
                    "Can't assign hashslot \(number) to a different node while I still hold keys for this hash slot.")
            }
            giveSlot(number, to: owner, keyCount: request.keyCountInSlot)
        default:
            return .failure("Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP")
        }
        slotTablesAreStale = true
        todo.insert([.saveConfig, .updateHealth, .publishView])
        return .ok
    }

    /// SETSLOT NODE: the end of a migration.
    private func giveSlot(_ slot: Int, to owner: ClusterNode, keyCount: Int) {
        let key = UInt16(slot)
        if keyCount == 0 { migratingTo[key] = nil }
        let wasMine = owners[slot] == myself.index
        unassign(slot)
        assign(slot, to: owner)
        // A claim that peers hear and the owner forgets when it is killed leaves the slot without anybody who serves it.
        if owner.isMyself { todo.insert(.syncConfig) }
        if wasMine, !owner.isMyself, myself.slots.isEmpty, configuration.allowsReplicaMigration {
            log(.notice, "Configuration change detected. Reconfiguring myself as a replica of \(owner.id)")
            becomeReplica(of: owner, sharesHistory: false)
            todo.insert([.saveConfig, .syncConfig])
        }
        if owner.isMyself, importingFrom.removeValue(forKey: key) != nil {
            // The claim needs a greater epoch than the old owner's. If a failover takes the same one, the collision
            // is repaired.
            if bumpConfigEpochWithoutConsensus() { log(.notice, "configEpoch updated after importing slot \(slot)") }
            broadcastPong()
        }
    }

    private func slot(_ word: String) -> Int? {
        guard let number = integer(word), number >= 0, number < HashSlot.count else { return nil }
        return Int(number)
    }

    static let help = [
        "CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ADDSLOTS <slot> [<slot> ...]",
        "    Assign slots to current node.",
        "ADDSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]",
        "    Assign slots which are between <start-slot> and <end-slot> to current node.",
        "BUMPEPOCH",
        "    Advance the cluster config epoch.",
        "COUNT-FAILURE-REPORTS <node-id>",
        "    Return number of failure reports for <node-id>.",
        "COUNTKEYSINSLOT <slot>",
        "    Return the number of keys in <slot>.",
        "DELSLOTS <slot> [<slot> ...]",
        "    Delete slots information from current node.",
        "DELSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]",
        "    Delete slots information which are between <start-slot> and <end-slot> from current node.",
        "FAILOVER [FORCE|TAKEOVER]",
        "    Promote current replica node to being a master.",
        "FLUSHSLOTS",
        "    Delete current node own slots information.",
        "FORGET <node-id>",
        "    Remove a node from the cluster.",
        "GETKEYSINSLOT <slot> <count>",
        "    Return key names stored by current node in a slot.",
        "INFO",
        "    Return information about the cluster.",
        "KEYSLOT <key>",
        "    Return the hash slot for <key>.",
        "LINKS",
        "    Return information about all network links between this node and its peers.",
        "    Output format is an array where each array element is a map containing attributes of a link",
        "MEET <ip> <port> [<bus-port>]",
        "    Connect nodes into a working cluster.",
        "MYID",
        "    Return the node id.",
        "MYSHARDID",
        "    Return the node's shard id.",
        "NODES",
        "    Return cluster configuration seen by node. Output format:",
        "    <id> <ip:port> <flags> <master> <pings> <pongs> <epoch> <link> <slot> ...",
        "REPLICAS <node-id>",
        "    Return <node-id> replicas.",
        "REPLICATE <node-id>",
        "    Configure current node as replica to <node-id>.",
        "RESET [HARD|SOFT]",
        "    Reset current node (default: soft).",
        "SAVECONFIG",
        "    Force saving cluster configuration on disk.",
        "SET-CONFIG-EPOCH <epoch>",
        "    Set config epoch of current node.",
        "SETSLOT <slot> (IMPORTING <node-id>|MIGRATING <node-id>|STABLE|NODE <node-id>)",
        "    Set slot state.",
        "SHARDS",
        "    Return information about slot range mappings and the nodes associated with them.",
        "SLOTS",
        "    Return information about slots range mappings. Each range is made of:",
        "    start, end, master and replicas IP addresses, ports and ids",
        "HELP",
        "    Print this help.",
    ]
}

/// A number as Redis accepts it in arguments: digits, perhaps a minus sign, nothing before or after.
private func integer(_ word: String) -> Int64? {
    Array(word.utf8).withUnsafeBytes { parseInt64($0) }
}
