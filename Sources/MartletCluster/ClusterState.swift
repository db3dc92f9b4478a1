// The cluster as one node sees it: a state machine without sockets, clock, keys or randomness of its own.
//
// Events come in as method calls, each with `now`; effects go out through `takeEffects`. During an event the handlers
// only change state, queue sends and note what is left to do (`todo`). At its end `finish` does what was noted, once:
// go on with a failover, re-evaluate the state of the cluster, write nodes.conf, publish a view. The queued sends
// follow, so no packet leaves before the file holds what the packet promises.
//
//     bus thread:   driver ── event ──> ClusterState ── effects ──> driver ──> sockets, nodes.conf
//                                             └── ClusterView ──> command thread
//
// Where things are:
//     Bus/          BusPacket (codec), Handshake, Gossip, FailureDetector, PacketReceiver
//     Failover/     Election, ManualFailover, ReplicaMigration
//     SlotOwnership, ConfigEpoch, ClusterHealth, ClusterMembership: the pieces that change the tables
//     ClusterCommands, ClusterDescription: CLUSTER subcommands and their answers
//
// `now` is milliseconds since 1970 by a clock that does not jump. Nothing here relies on that for safety: a step
// forward makes time-outs early. A step back is taken out (`clockCorrection`): for the core time never runs backwards.
//
// Source for the protocol: Redis 7.0 `cluster.c`; later rules from Valkey are marked where they stand.

import MartletBase

package final class ClusterState {
    /// Cron runs ten times a second. Source: `CLUSTER_CRON_PERIOD_MS` in Valkey.
    package static let cronPeriodMilliseconds: Int64 = 100

    /// What `finish` still has to do. Source: `CLUSTER_TODO_*`.
    struct Todo: OptionSet {
        let rawValue: UInt8
        static let handleFailover = Todo(rawValue: 1)
        static let updateHealth = Todo(rawValue: 2)
        /// The file is out of date. Written at the next cron run: losing this costs nothing but being told again.
        static let saveConfig = Todo(rawValue: 4)
        /// Something was promised that must not be forgotten: a vote, an epoch of ours, a role. Written before any send.
        static let syncConfig = Todo(rawValue: 8)
        static let handleManualFailover = Todo(rawValue: 16)
        static let publishView = Todo(rawValue: 32)
        /// All nodes hear that this one is a replica now: until a voter knows, it denies us its vote. (Valkey 9)
        static let tellRole = Todo(rawValue: 64)
        /// Members, roles or owners of slots have changed. Written with fsync at the next cron run: a node that forgets
        /// its peers in a power cut stays alone, since they send it no MEET; one that forgets a failover lets the old
        /// primary come back while the new one is down.
        static let syncSoon = Todo(rawValue: 128)
    }

    var configuration: ClusterConfiguration
    var random: PRNG
    /// Time of the current event: the driver's time plus `clockCorrection`.
    var now: Int64
    private var lastDriverTime: Int64
    /// How far the driver's clock has been set back in all.
    private var clockCorrection: Int64 = 0
    let startedAt: Int64
    /// The configuration came from nodes.conf: this node was in the cluster before.
    let isRestart: Bool

    // MARK: Nodes

    /// By index; nil where a node was forgotten. Indices are reused.
    var nodes: [ClusterNode?] = []
    var nodeCount = 0
    /// Only for look-up: its order is not the same in every process.
    var nodesByID: [NodeID: ClusterNode] = [:]
    let myself: ClusterNode
    /// Forgotten nodes and until when they stay unwelcome, in milliseconds.
    var blacklist: [(id: NodeID, until: Int64)] = []

    // MARK: Slots

    /// Owner of every slot, as node index or `ClusterView.noNode`. Agrees with `ClusterNode.slots`.
    var owners = [UInt16](repeating: ClusterView.noNode, count: HashSlot.count)
    /// Slots that we give away or take, by number, with the other node's index.
    var migratingTo: [UInt16: UInt16] = [:]
    var importingFrom: [UInt16: UInt16] = [:]
    /// Slots whose owner has stopped claiming them: we keep the entry for redirects, but do not pass it on.
    var unclaimedSlots = SlotSet()
    /// Slots that a node of this shard lost during the current event.
    var slotsThatLeft = SlotSet()

    // MARK: Epochs and elections

    /// The cluster's logical clock; at least every config epoch known here.
    package internal(set) var currentEpoch: UInt64 = 0
    /// Epoch of the last vote that we gave: never two votes in one epoch.
    package internal(set) var lastVoteEpoch: UInt64 = 0
    /// Epoch of the last election that this node has won: nobody else can have come by it with consensus.
    var electedEpoch: UInt64 = 0
    var election = Election()
    var manualFailover = ManualFailover()
    var replication = ReplicationStatus()

    // MARK: Health

    /// Nodes that have become PFAIL and that the others have not been told of.
    var evidence: Set<UInt16> = []
    var evidenceSpreadAt: Int64
    var health = ClusterHealth()
    /// The command thread hangs: this node keeps silent so that it is failed over.
    var isStalled = false

    // MARK: Links and statistics

    var links: [BusLinkID: BusLink] = [:]
    var lastLinkNumber: UInt64 = 0
    var cronCount: UInt64 = 0
    var lastCronAt: Int64
    var pingRound: UInt64 = 0
    var sentCounts = [UInt64](repeating: 0, count: BusPacket.Kind.allCases.count)
    var receivedCounts = [UInt64](repeating: 0, count: BusPacket.Kind.allCases.count)
    /// Packets that made no sense.
    package internal(set) var droppedPacketCount: UInt64 = 0
    /// Packets of this kind are ignored as if lost (DEBUG DROP-CLUSTER-PACKET-FILTER).
    package var droppedKind: BusPacket.Kind?
    var linksOverBufferLimitCount: UInt64 = 0

    // MARK: Output

    var todo: Todo = []
    /// nodes.conf does not hold the latest news.
    private var isFileStale = false
    /// What is missing in nodes.conf has to be on the disk after the next write.
    private var isSyncDue = false
    /// Effects of the current event, without the save and the view that go before them.
    var pending: [ClusterEffect] = []
    private var effects: [ClusterEffect] = []
    /// The view that was published last.
    package private(set) var view: ClusterView
    var slotTablesAreStale = true
    private var slotTables = SlotTables()

    // MARK: Life

    /// A node that remembers `conf`, or a new one. Call ``takeEffects()`` at once: it holds the first view.
    package init(configuration: ClusterConfiguration, conf: NodesConf?, random: PRNG, now: Int64) {
        self.configuration = configuration.sanitized
        var random = random
        self.now = now
        lastDriverTime = now
        startedAt = now
        lastCronAt = now - ClusterState.cronPeriodMilliseconds
        evidenceSpreadAt = now
        isRestart = conf != nil
        let remembered = conf?.myself
        let myID = remembered?.id ?? NodeID.random(using: &random)
        let myShardID = conf?.shardID ?? remembered?.shardID ?? NodeID.random(using: &random)
        self.random = random
        myself = ClusterNode(
            index: 0, id: myID, shardID: myShardID, flags: [.myself, .primary], createdAt: now)
        view = ClusterView(
            version: 0, nodeID: myID, shardID: myShardID, currentEpoch: 0, configEpoch: 0, nodes: [], myIndex: 0,
            myPrimary: ClusterView.noNode, isReplica: false, isOK: false, configuration: configuration, openSlots: [],
            tables: SlotTables())
        nodes.append(myself)
        nodesByID[myID] = myself
        nodeCount = 1
        if let conf {
            load(conf)
            log(.notice, "Node configuration loaded, I'm \(myID)")
        } else {
            log(.notice, "No cluster configuration found, I'm \(myID)")
            todo.insert([.saveConfig, .syncConfig])
        }
        updateMyselfFromConfiguration()
        if myself.isReplica, let primary = myself.primary { follow(primary, sharesHistory: true) }
        todo.insert([.updateHealth, .publishView])
        finish()
    }

    deinit {
        // Nodes refer to each other and to their links.
        for node in nodes {
            node?.primary = nil
            node?.replicas = []
            node?.link = nil
            node?.inboundLink = nil
        }
        for link in links.values { link.node = nil }
    }

    // MARK: Events

    /// A packet came in, whole. A packet that makes no sense changes nothing.
    package func receive(_ packet: UnsafeRawBufferPointer, on link: BusLinkID, now: Int64) {
        begin(now)
        if let link = links[link] { receivePacket(packet, on: link) }
        finish()
    }

    /// Time has passed. May be called at any time; periodic work is done every 100 ms.
    package func tick(now: Int64) {
        begin(now)
        let isCron = self.now - lastCronAt >= ClusterState.cronPeriodMilliseconds
        if isCron {
            lastCronAt = self.now
            runCron()
        } else if myself.isReplica {
            todo.insert(.handleFailover)
        }
        finish(mayWriteStaleFile: isCron)
    }

    /// When `tick` should be called next at the latest.
    package var nextDeadline: Int64 {
        var deadline = lastCronAt + ClusterState.cronPeriodMilliseconds
        if let election = nextElectionDeadline { deadline = min(deadline, max(election, now + 1)) }
        if let evidence = nextEvidenceDeadline { deadline = min(deadline, max(evidence, now + 1)) }
        return driverTime(deadline)
    }

    /// A peer has connected to our bus port.
    package func linkAccepted(from remoteAddress: String, localAddress: String, now: Int64) -> BusLinkID {
        begin(now)
        let link = addLink(to: nil, remoteAddress: remoteAddress, localAddress: localAddress)
        finish()
        return link.id
    }

    /// A connection asked for by `openLink` is established.
    package func linkOpened(_ link: BusLinkID, localAddress: String = "", now: Int64) {
        begin(now)
        if let link = links[link] { connectionOpened(link, localAddress: localAddress) }
        finish()
    }

    /// A connection is gone, or one asked for could not be had.
    package func linkClosed(_ link: BusLinkID, reason: BusLinkCloseReason, now: Int64) {
        begin(now)
        if let link = links[link] { connectionLost(link, reason: reason) }
        finish()
    }

    /// How many bytes wait to be sent on a link; for CLUSTER LINKS and cluster-link-sendbuf-limit.
    package func linkBuffered(_ link: BusLinkID, bytes: Int) {
        links[link]?.sendBufferBytes = bytes
    }

    /// Whether a member of the cluster is at the other end.
    package func isMember(_ link: BusLinkID) -> Bool { links[link]?.node.map { !$0.isInHandshake } ?? false }

    /// The state of replication as the command thread sees it.
    package func replicationChanged(_ status: ReplicationStatus, now: Int64) {
        begin(now)
        replication = status
        replication.lastPrimaryContact += clockCorrection
        myself.replicationOffset = status.offset
        if manualFailover.isActive, myself.isReplica { todo.insert(.handleManualFailover) }
        finish()
    }

    /// The command thread holds back writes since replication offset `offset`.
    package func writesPaused(offset: Int64, now: Int64) {
        begin(now)
        pausedForManualFailover(offset: offset)
        finish()
    }

    /// The command thread makes no progress: keep silent.
    package func stalled(now: Int64) {
        begin(now)
        if !isStalled { log(.warning, "Main thread stalled: not answering on the cluster bus until it makes progress") }
        isStalled = true
        finish()
    }

    package func resumed(now: Int64) {
        begin(now)
        if isStalled {
            isStalled = false
            // PINGs that came meanwhile were never answered, and peers send no second one on the same link.
            for link in links.values.sorted(by: { $0.id.rawValue < $1.id.rawValue }) where link.isInbound {
                close(link)
            }
        }
        finish()
    }

    /// CONFIG SET changed directives.
    package func configure(_ configuration: ClusterConfiguration, now: Int64) {
        begin(now)
        if configuration.announceIP.isEmpty, !self.configuration.announceIP.isEmpty { myself.ip = "" }
        self.configuration = configuration.sanitized
        updateMyselfFromConfiguration()
        todo.insert([.updateHealth, .publishView])
        finish()
    }

    /// The node is about to stop: what has not been written yet is written now.
    package func stop(now: Int64) {
        begin(now)
        finish(mayWriteStaleFile: true)
    }

    /// Runs a CLUSTER subcommand.
    package func execute(_ request: ClusterRequest, now: Int64) -> ClusterReply {
        begin(now)
        let reply = run(request)
        finish()
        return reply
    }

    /// Passes a published message on: to all nodes, or within the shard.
    package func publish(channel: [UInt8], message: [UInt8], isSharded: Bool, now: Int64) {
        begin(now)
        broadcastPublish(channel: channel, message: message, isSharded: isSharded)
        finish()
    }

    /// Compares the slots that have keys after loading data with the configuration.
    /// Source: `verifyClusterConfigWithData`.
    package func reconcile(slotsWithKeys: [HashSlot], now: Int64) {
        begin(now)
        claimSlotsWithKeys(slotsWithKeys)
        finish()
    }

    /// What to do now, in order. Empty afterwards.
    package func takeEffects() -> [ClusterEffect] {
        defer { effects = [] }
        return effects
    }

    // MARK: Begin and end of an event

    private func begin(_ now: Int64) {
        // Any sums of times stay far from overflow.
        let now = min(max(now, 0), Int64.max / 8)
        if now < lastDriverTime { clockCorrection = min(clockCorrection + lastDriverTime - now, Int64.max / 8) }
        lastDriverTime = now
        self.now = now + clockCorrection
    }

    /// A time of the core as the driver's clock shows it.
    func driverTime(_ time: Int64) -> Int64 { time - clockCorrection }

    private func finish(mayWriteStaleFile: Bool = false) {
        if todo.contains(.handleManualFailover) {
            todo.remove([.handleManualFailover, .handleFailover])
            if myself.isReplica {
                advanceManualFailover()
                advanceElection()
            }
        }
        // Winning an election may call for another look, never for an endless number of them.
        var rounds = 0
        while todo.contains(.handleFailover), rounds < 4 {
            todo.remove(.handleFailover)
            if myself.isReplica { advanceElection() }
            rounds += 1
        }
        if todo.contains(.updateHealth) {
            todo.remove(.updateHealth)
            updateHealth()
        }
        spreadEvidence()
        if todo.contains(.tellRole) { broadcastPong() }
        dropChannelsOfLostSlots()
        if !todo.isDisjoint(with: [.saveConfig, .syncConfig, .syncSoon]) { isFileStale = true }
        if !todo.isDisjoint(with: [.syncConfig, .syncSoon]) { isSyncDue = true }
        if isFileStale, todo.contains(.syncConfig) || mayWriteStaleFile {
            effects.append(.saveConfig(text: nodesConf().encoded(), fsync: isSyncDue))
            isFileStale = false
            isSyncDue = false
        }
        if todo.contains(.publishView) {
            view = makeView()
            effects.append(.publishView(view))
        }
        effects.append(contentsOf: pending)
        pending = []
        todo = []
    }

    func log(_ level: ClusterLogLevel, _ text: @autoclosure () -> String) {
        // Debug lines would be built for every packet.
        if level != .debug { pending.append(.log(level, text())) }
    }

    /// Stops the process if the tables contradict each other. For tests and the simulator: linear in everything.
    package func checkInvariants() {
        precondition(nodes[Int(myself.index)] === myself && nodesByID.count == nodeCount)
        var owned = 0
        for (index, node) in nodes.enumerated() {
            guard let node else { continue }
            precondition(Int(node.index) == index && nodesByID[node.id] === node)
            precondition(node.isMyself == (node === myself))
            precondition(!node.flags.isSuperset(of: [.primary, .replica]))
            precondition(!node.flags.isSuperset(of: [.pfail, .fail]))
            node.slots.forEach { precondition(owners[$0] == node.index) }
            owned += node.slots.count
            for replica in node.replicas { precondition(replica.primary === node) }
            if let primary = node.primary {
                precondition(nodes[Int(primary.index)] === primary && primary !== node)
                precondition(primary.replicas.contains { $0 === node })
            }
            precondition(node.failureReports.allSatisfy { nodes[Int($0.reporter)] != nil })
            for case let link? in [node.link, node.inboundLink] {
                precondition(links[link.id] === link && link.node === node)
            }
        }
        precondition(owned == owners.count { $0 != ClusterView.noNode })
        precondition(myself.isPrimary != myself.isReplica)
        precondition(myself.isPrimary || myself.slots.isEmpty)
        precondition(lastVoteEpoch <= currentEpoch && currentEpoch == maxEpoch)
        precondition(links.values.allSatisfy { $0.node == nil || $0.node?.link === $0 || $0.node?.inboundLink === $0 })
        for index in Array(migratingTo.values) + Array(importingFrom.values) { precondition(node(at: index) != nil) }
    }

    private func makeView() -> ClusterView {
        if slotTablesAreStale {
            slotTables = makeSlotTables()
            slotTablesAreStale = false
        }
        let open = Set(migratingTo.keys).union(importingFrom.keys).sorted()
        return ClusterView(
            version: view.version + 1, nodeID: myself.id, shardID: myself.shardID, currentEpoch: currentEpoch,
            configEpoch: myself.shardPrimary.configEpoch,
            nodes: nodes.map { node in
                node.map {
                    ClusterView.Node(
                        id: $0.id, ip: $0.ip, ports: $0.ports, hostname: $0.hostname, isReplica: $0.isReplica,
                        primary: $0.primary?.index ?? ClusterView.noNode, isFailed: $0.isFailed)
                }
            },
            myIndex: myself.index, myPrimary: myself.primary?.index ?? ClusterView.noNode,
            isReplica: myself.isReplica, isOK: health.isOK, configuration: configuration,
            openSlots: open.map {
                (
                    HashSlot(rawValue: $0), migratingTo[$0] ?? ClusterView.noNode,
                    importingFrom[$0] ?? ClusterView.noNode
                )
            },
            tables: slotTables)
    }

    private func makeSlotTables() -> SlotTables {
        typealias State = ClusterView.SlotState
        let tables = SlotTables()
        for node in allNodes {
            var state: State = []
            if node.isMyself {
                state = health.isOK ? [.mine, .served] : .mine
            } else if myself.isReplica, node === myself.primary {
                state = .myPrimarys
            }
            for range in node.slots.ranges {
                (tables.owners + range.lowerBound).update(repeating: node.index, count: range.count)
                (tables.states + range.lowerBound).update(repeating: state.rawValue, count: range.count)
            }
        }
        for slot in migratingTo.keys {
            tables.states[Int(slot)] =
                State(rawValue: tables.states[Int(slot)])
                .union(.migrating).subtracting(.served).rawValue
        }
        for slot in importingFrom.keys {
            tables.states[Int(slot)] =
                State(rawValue: tables.states[Int(slot)])
                .union(.importing).subtracting(.served).rawValue
        }
        return tables
    }
}

/// What the cluster core needs to know of replication.
package struct ReplicationStatus: Sendable, Equatable {
    /// Of a primary, what it has written; of a replica, what it has processed.
    package var offset: Int64 = 0
    /// A replica's link to its primary is up and in sync.
    package var isPrimaryLinkUp = false
    /// Last time anything came from the primary, or when its link went down.
    package var lastPrimaryContact: Int64 = 0

    package init(offset: Int64 = 0, isPrimaryLinkUp: Bool = false, lastPrimaryContact: Int64 = 0) {
        self.offset = offset
        self.isPrimaryLinkUp = isPrimaryLinkUp
        self.lastPrimaryContact = lastPrimaryContact
    }
}
