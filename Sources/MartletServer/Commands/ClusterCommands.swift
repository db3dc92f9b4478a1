import MartletBase
import MartletCluster
import MartletKeyspace
import MartletRESP

// CLUSTER. Subcommands about keys are answered here; everything else belongs to the cluster state machine on the bus
// thread, so it travels there as a message and the client is parked until the answer comes.

extension CommandFamily {
    static let cluster = CommandFamily(.cluster, [.cluster])
}

extension Command {
    static let cluster = Command(
        "CLUSTER", since: "3.0.0", arity: .atLeast(2), complexity: "Depends on subcommand.",
        summary: "A container for cluster commands",
        subcommands: [
            Command(
                "COUNTKEYSINSLOT", since: "3.0.0", arity: .exactly(3), flags: [.stale],
                arguments: "slot:integer",
                complexity: "O(1)",
                summary: "Return the number of local keys in the specified hash slot",
                run: .node { request, node, client throws(ReplyError) in
                    try node.requireCluster()
                    let slot = try slot(request[2])
                    client.pointee.reply.integer(node.keyspace.keyCount(slot: slot))
                }),
            Command(
                "GETKEYSINSLOT", since: "3.0.0", arity: .exactly(4), flags: [.stale],
                tips: ["nondeterministic_output"], arguments: "slot:integer count:integer",
                complexity: "O(log(N)) where N is the number of requested keys",
                summary: "Return local key names in the specified hash slot",
                run: .node { request, node, client throws(ReplyError) in
                    try node.requireCluster()
                    guard let number = parseInt64(request[2]), let count = parseInt64(request[3]) else {
                        throw .notAnInteger
                    }
                    guard let slot = HashSlot(number), count >= 0 else {
                        throw .text("ERR Invalid slot or number of keys")
                    }
                    let start = client.pointee.reply.deferredAggregate()
                    var found = 0
                    node.keyspace.forEachKey(slot: slot) { entry in
                        guard found < count else { return false }
                        client.pointee.reply.bulk(entry.key)
                        found += 1
                        return true
                    }
                    client.pointee.reply.endArray(start, count: found)
                }),
            Command(
                "KEYSLOT", since: "3.0.0", arity: .exactly(3), flags: [.stale],
                arguments: "key:string",
                complexity: "O(N) where N is the number of bytes in the key",
                summary: "Returns the hash slot of the specified key",
                run: .node { request, node, client throws(ReplyError) in
                    try node.requireCluster()
                    client.pointee.reply.integer(HashSlot.of(request[2]).index)
                }),
            forwarded(
                "ADDSLOTS", "3.0.0", .atLeast(3), [.admin, .stale, .noAsyncLoading],
                "O(N) where N is the total number of hash slot arguments",
                "Assign new hash slots to receiving node",
                arguments: "slot:integer..."),
            forwarded(
                "ADDSLOTSRANGE", "7.0.0", .atLeast(4), [.admin, .stale, .noAsyncLoading],
                "O(N) where N is the total number of the slots between the start slot and end slot arguments.",
                "Assign new hash slots to receiving node",
                arguments: "{start-slot:integer end-slot:integer}..."),
            forwarded(
                "BUMPEPOCH", "3.0.0", .exactly(2), [.admin, .stale, .noAsyncLoading],
                "O(1)",
                "Advance the cluster config epoch", tips: ["nondeterministic_output"]),
            forwarded(
                "COUNT-FAILURE-REPORTS", "3.0.0", .exactly(3), [.admin, .stale],
                "O(N) where N is the number of failure reports",
                "Return the number of failure reports active for a given node", tips: ["nondeterministic_output"],
                arguments: "node-id"),
            forwarded(
                "DELSLOTS", "3.0.0", .atLeast(3), [.admin, .stale, .noAsyncLoading],
                "O(N) where N is the total number of hash slot arguments",
                "Set hash slots as unbound in receiving node",
                arguments: "slot:integer..."),
            forwarded(
                "DELSLOTSRANGE", "7.0.0", .atLeast(4), [.admin, .stale, .noAsyncLoading],
                "O(N) where N is the total number of the slots between the start slot and end slot arguments.",
                "Set hash slots as unbound in receiving node",
                arguments: "{start-slot:integer end-slot:integer}..."),
            forwarded(
                "FAILOVER", "3.0.0", .atLeast(2), [.admin, .stale, .noAsyncLoading],
                "O(1)",
                "Forces a replica to perform a manual failover of its master.",
                arguments: "[options=<FORCE|TAKEOVER>]"),
            forwarded(
                "FLUSHSLOTS", "3.0.0", .exactly(2), [.admin, .stale, .noAsyncLoading],
                "O(1)",
                "Delete a node's own slots information", dependsOnKeys: true),
            forwarded(
                "FORGET", "3.0.0", .exactly(3), [.admin, .stale, .noAsyncLoading],
                "O(1)",
                "Remove a node from the nodes table",
                arguments: "node-id"),
            forwarded(
                "INFO", "3.0.0", .exactly(2), [.stale],
                "O(1)",
                "Provides info about Redis Cluster node state", tips: ["nondeterministic_output"]),
            forwarded(
                "LINKS", "7.0.0", .exactly(2), [.stale],
                "O(N) where N is the total number of Cluster nodes",
                "Returns a list of all TCP links to and from peer nodes in cluster", tips: ["nondeterministic_output"]),
            forwarded(
                "MEET", "3.0.0", .atLeast(4), [.admin, .stale, .noAsyncLoading],
                "O(1)",
                "Force a node cluster to handshake with another node",
                arguments: "ip port:integer [cluster_bus_port:integer@4.0.0]",
                history: [("4.0.0", "Added the optional `cluster_bus_port` argument.")]),
            forwarded(
                "MYID", "3.0.0", .exactly(2), [.stale],
                "O(1)",
                "Return the node id"),
            forwarded(
                "MYSHARDID", "7.2.0", .exactly(2), [.stale],
                "O(1)",
                "Returns the shard ID of a node."),
            forwarded(
                "NODES", "3.0.0", .exactly(2), [.stale],
                "O(N) where N is the total number of Cluster nodes",
                "Get Cluster config for the node", tips: ["nondeterministic_output"]),
            forwarded(
                "REPLICAS", "5.0.0", .exactly(3), [.admin, .stale],
                "O(1)",
                "List replica nodes of the specified master node", tips: ["nondeterministic_output"],
                arguments: "node-id"),
            forwarded(
                "REPLICATE", "3.0.0", .exactly(3), [.admin, .stale, .noAsyncLoading],
                "O(1)",
                "Reconfigure a node as a replica of the specified master node",
                arguments: "node-id", dependsOnKeys: true),
            forwarded(
                "RESET", "3.0.0", .atLeast(2), [.admin, .noScript, .stale],
                "O(N) where N is the number of known nodes. The command may execute a FLUSHALL as a side effect.",
                "Reset a Redis Cluster node",
                arguments: "[<HARD|SOFT>]", dependsOnKeys: true),
            forwarded(
                "SAVECONFIG", "3.0.0", .exactly(2), [.admin, .stale, .noAsyncLoading],
                "O(1)",
                "Forces the node to save cluster state on disk"),
            forwarded(
                "SET-CONFIG-EPOCH", "3.0.0", .exactly(3), [.admin, .stale, .noAsyncLoading],
                "O(1)",
                "Set the configuration epoch in a new node",
                arguments: "config-epoch:integer"),
            forwarded(
                "SETSLOT", "3.0.0", .atLeast(4), [.admin, .stale, .noAsyncLoading],
                "O(1)",
                "Bind a hash slot to a specific node",
                arguments: "slot:integer subcommand=<IMPORTING node-id|MIGRATING node-id|NODE node-id|STABLE>",
                dependsOnKeys: true),
            forwarded(
                "SHARDS", "7.0.0", .exactly(2), [.stale],
                "O(N) where N is the total number of cluster nodes",
                "Get array of cluster slots to node mappings", tips: ["nondeterministic_output"]),
            forwarded(
                "SLAVES", "3.0.0", .exactly(3), [.admin, .stale],
                "O(1)",
                "List replica nodes of the specified master node", tips: ["nondeterministic_output"],
                arguments: "node-id", deprecated: ("5.0.0", "`CLUSTER REPLICAS`")),
            forwarded(
                "SLOTS", "3.0.0", .exactly(2), [.stale],
                "O(N) where N is the total number of Cluster nodes",
                "Get array of Cluster slot to node mappings", tips: ["nondeterministic_output"],
                history: [("4.0.0", "Added node IDs."), ("7.0.0", "Added additional networking metadata field.")],
                deprecated: ("7.0.0", "`CLUSTER SHARDS`")),
            forwarded(
                "HELP", "5.0.0", .exactly(2), [.loading, .stale],
                "O(1)",
                "Show helpful text about the different subcommands"),
        ],
        run: .container)

    /// A subcommand that the bus thread answers.
    ///
    /// - Parameter dependsOnKeys: the answer goes by which keys there are.
    private static func forwarded(
        _ name: StaticString, _ since: StaticString, _ arity: Arity, _ flags: CommandFlags,
        _ complexity: StaticString, _ summary: StaticString, tips: [StaticString] = [],
        arguments: StaticString = "", history: [Change] = [], deprecated: Deprecation? = nil,
        dependsOnKeys: Bool = false
    ) -> Command {
        Command(
            name, since: since, arity: arity, flags: flags.union(.waits), tips: tips, arguments: arguments,
            history: history, deprecated: deprecated, complexity: complexity, summary: summary,
            run: .node { request, node, client throws(ReplyError) in
                try node.requireCluster()
                var question = ClusterRequest((1..<request.count).map { String(bytes: request[$0]) })
                question.databaseIsEmpty = node.keyspace.keyCount(database: 0) == 0
                if let slot = question.slotWhoseKeysMatter {
                    question.keyCountInSlot = node.keyspace.keyCount(slot: slot)
                }
                let token = node.parkForAnswer(client)
                // Of SETSLOT only NODE gives the slot away.
                if dependsOnKeys, question.slotWhoseKeysMatter == nil || request.matches(3, "NODE") {
                    node.holdWrites(untilDecided: token)
                }
                node.effects.append(.cluster(question, token: token))
            })
    }

    private static func slot(_ bytes: UnsafeRawBufferPointer) throws(ReplyError) -> HashSlot {
        guard let number = parseInt64(bytes) else { throw .notAnInteger }
        guard let slot = HashSlot(number) else { throw .text("ERR Invalid slot") }
        return slot
    }
}

extension Node {
    func requireCluster() throws(ReplyError) {
        if !isClustered { throw .text("ERR This instance has cluster support disabled") }
    }
}

extension ClusterConfiguration {
    /// The directives that the cluster core obeys.
    package init(_ configuration: ServerConfiguration) {
        self.init()
        nodeTimeoutMilliseconds = Int64(configuration.clusterNodeTimeoutMilliseconds)
        port = UInt16(clamping: configuration.port)
        busPort = UInt16(clamping: configuration.clusterPort)
        announceIP = configuration.clusterAnnounceAddress
        announcePort = UInt16(clamping: configuration.clusterAnnouncePort)
        announceTLSPort = UInt16(clamping: configuration.clusterAnnounceTLSPort)
        announceBusPort = UInt16(clamping: configuration.clusterAnnounceBusPort)
        announceHostname = configuration.clusterAnnounceHostname
        announceHumanNodename = configuration.clusterAnnounceHumanNodename
        switch configuration.clusterPreferredEndpoint {
        case .ip: preferredEndpointType = .ip
        case .hostname: preferredEndpointType = .hostname
        case .unknownEndpoint: preferredEndpointType = .unknownEndpoint
        }
        replicaValidityFactor = Int64(configuration.clusterReplicaValidityFactor)
        replicationPingPeriodSeconds = Int64(configuration.replicationPingSeconds)
        migrationBarrier = configuration.clusterMigrationBarrier
        allowsReplicaMigration = configuration.clusterAllowsReplicaMigration
        replicaNoFailover = configuration.clusterReplicaNoFailover
        requiresFullCoverage = configuration.clusterRequiresFullCoverage
        allowsReadsWhenDown = configuration.clusterAllowsReadsWhenDown
        allowsPubSubShardWhenDown = configuration.clusterAllowsShardPubSubWhenDown
        blacklistTTLSeconds = Int64(configuration.clusterBlacklistSeconds)
        manualFailoverTimeoutMilliseconds = Int64(configuration.clusterManualFailoverMilliseconds)
        stallTimeoutMilliseconds = Int64(configuration.clusterStallMilliseconds)
        linkSendBufferLimitBytes = Int(clamping: configuration.clusterLinkSendBufferLimit)
    }
}
