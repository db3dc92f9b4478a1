import MartletBase

// Every directive of Redis 7.0.15, those of Valkey 9 that a cluster's operator meets, and Martlet's own. A line says:
// name, then the property that holds the value (or its default, if no code reads it), alias, bounds, flags, and how far
// the directive is supported (nothing said: it is).

extension Directive {
    package static let all: [Directive] =
        network + process + keyspace + observation + persistence + replication
        + cluster + tls + tuning

    /// By name and by alias, in lower case.
    private static let byName: [String: Directive] = {
        var result: [String: Directive] = [:]
        for directive in all {
            for name in [directive.name, directive.alias].compactMap({ $0 }) {
                precondition(result.updateValue(directive, forKey: name) == nil, "directive \(name) twice")
            }
        }
        return result
    }()

    /// The directive called `name` in any case, and the name under which it was found, in lower case.
    package static func named(_ name: [UInt8]) -> (directive: Directive, name: String)? {
        let lowered = name.lowercasedASCII
        return byName[lowered].map { ($0, lowered) }
    }

    /// Accepted and ignored in files, with one value. Source: Redis 7.0 config.c, `deprecated_configs`.
    static let deprecated: Set<String> = [
        "list-max-ziplist-entries", "list-max-ziplist-value", "lua-replicate-commands",
    ]

    private static let network: [Directive] = [
        integer("port", \.port, 0...65535),
        special("bind", .bind, flags: [.multiArgument]),
        text("bind-source-addr", \.bindSourceAddress),
        integer("tcp-backlog", \.tcpBacklog, 0...int32Max, flags: [.immutable]),
        integer("tcp-keepalive", \.tcpKeepAliveSeconds, 0...int32Max),
        text("unixsocket", \.unixSocketPath, flags: [.immutable]),
        integer(
            "unixsocketperm", \.unixSocketPermissions, 0...0o777, unit: .octal, unsigned: true, flags: [.immutable]),
        integer("timeout", \.clientTimeoutSeconds, 0...int32Max),
        integer("maxclients", \.maxClients, 1...uint32Max, unsigned: true),
        bool("protected-mode", \.isProtectedMode),
        integer(
            "client-query-buffer-limit", \.clientQueryBufferLimit, (1 << 20)...int64Max, unit: .memory, unsigned: true),
        integer("proto-max-bulk-len", \.protoMaxBulkLength, (1 << 20)...int64Max, unit: .memory),
        special("client-output-buffer-limit", .clientOutputBufferLimit, flags: [.multiArgument]),
        integer("maxmemory-clients", \.maxMemoryClients, -100...int64Max, unit: .memoryOrPercent, support: .later),
        bytes("requirepass", \.requirePassword, flags: [.sensitive]),
        integer("io-threads", \.ioThreads, 1...128, flags: [.immutable]),
        bool("io-threads-do-reads", default: false, flags: [.immutable], support: .noEffect),
        bool("io-threads-always-active", \.areIOThreadsAlwaysActive, flags: [.hidden]),
        integer("socket-mark-id", default: 0, 0...uint32Max, unsigned: true, flags: [.immutable], support: .later),
    ]

    private static let process: [Directive] = [
        bool("daemonize", \.isDaemonized, flags: [.immutable]),
        text("pidfile", \.pidFilePath, flags: [.immutable]),
        choice(
            "loglevel", \.logLevel,
            [
                ("debug", .debug), ("verbose", .verbose), ("notice", .notice), ("warning", .warning),
                ("nothing", .nothing),
            ]),
        text("logfile", \.logFilePath, flags: [.immutable], isAbsentWhenEmpty: false),
        bool("syslog-enabled", \.isSyslogEnabled, flags: [.immutable]),
        text("syslog-ident", \.syslogIdentity, flags: [.immutable], isAbsentWhenEmpty: false),
        choice("syslog-facility", \.syslogFacility, flags: [.immutable]),
        choice("supervised", \.supervision, flags: [.immutable], support: .later),
        bool("set-proc-title", \.setsProcessTitle, flags: [.immutable], support: .noEffect),
        text("proc-title-template", \.processTitleTemplate, isAbsentWhenEmpty: false, support: .noEffect) {
            isProcessTitleTemplate($0) ? nil : "template format is invalid or contains unknown variables"
        },
        special("dir", .directory, flags: [.protected, .denyLoading]),
        integer("shutdown-timeout", \.shutdownTimeoutSeconds, 0...int32Max),
        shutdownFlags("shutdown-on-sigint", \.shutdownOnSIGINT),
        shutdownFlags("shutdown-on-sigterm", \.shutdownOnSIGTERM),
        bool("always-show-logo", \.alwaysShowsLogo, flags: [.immutable], support: .noEffect),
        choice("enable-debug-command", \.debugCommand, flags: [.immutable]),
        choice("enable-module-command", \.moduleCommand, flags: [.immutable], support: .noEffect),
        choice("enable-protected-configs", \.protectedConfigs, flags: [.immutable]),
        choice(
            "oom-score-adj", \.oomScoreAdjustment,
            [("no", .no), ("yes", .relative), ("relative", .relative), ("absolute", .absolute)], support: .later),
        special("oom-score-adj-values", .oomScoreAdjustValues, flags: [.multiArgument], support: .later),
        bool("crash-log-enabled", default: true, support: .noEffect),
        bool("crash-memcheck-enabled", default: true, support: .noEffect),
        bool("use-exit-on-panic", default: false, flags: [.hidden], support: .noEffect),
        bool("disable-thp", default: true, flags: [.immutable], support: .noEffect),
        text("ignore-warnings", default: "", isAbsentWhenEmpty: false, support: .noEffect),
        integer("watchdog-period", default: 0, 0...int32Max, flags: [.hidden], support: .noEffect),
        text("server_cpulist", default: "", flags: [.immutable], support: .later),
        text("bio_cpulist", default: "", flags: [.immutable], support: .later),
        text("aof_rewrite_cpulist", default: "", flags: [.immutable], support: .later),
        text("bgsave_cpulist", default: "", flags: [.immutable], support: .later),
    ]

    private static let keyspace: [Directive] = [
        integer("databases", \.databases, 1...int32Max, flags: [.immutable]),
        integer("hz", \.hz, 0...int32Max),
        bool("dynamic-hz", default: true, support: .noEffect),
        integer("active-expire-effort", \.activeExpireEffort, 1...10),
        integer("maxmemory", \.maxMemory, unit: .memory, support: .later),
        choice("maxmemory-policy", \.evictionPolicy, support: .later),
        integer("maxmemory-samples", \.maxMemorySamples, 1...int32Max, support: .later),
        integer("maxmemory-eviction-tenacity", \.evictionTenacity, 0...100, support: .later),
        integer("lfu-log-factor", \.lfuLogFactor, 0...int32Max, support: .later),
        integer("lfu-decay-time", \.lfuDecayMinutes, 0...int32Max, support: .later),
        bool("lazyfree-lazy-eviction", \.lazyFreesEviction, support: .noEffect),
        bool("lazyfree-lazy-expire", \.lazyFreesExpire, support: .noEffect),
        bool("lazyfree-lazy-server-del", \.lazyFreesServerDel, support: .noEffect),
        bool("lazyfree-lazy-user-del", \.lazyFreesUserDel, support: .noEffect),
        bool("lazyfree-lazy-user-flush", \.lazyFreesUserFlush, support: .noEffect),
        special("notify-keyspace-events", .notifyKeyspaceEvents),
        integer(
            "hash-max-listpack-entries", alias: "hash-max-ziplist-entries", \.hashMaxListpackEntries, 0...int64Max,
            unsigned: true),
        integer(
            "hash-max-listpack-value", alias: "hash-max-ziplist-value", \.hashMaxListpackValueBytes, 0...int64Max,
            unit: .memory, unsigned: true),
        integer("set-max-intset-entries", \.setMaxIntsetEntries, 0...int64Max, unsigned: true),
        integer("set-max-listpack-entries", \.setMaxListpackEntries, 0...int64Max, unsigned: true),
        integer("set-max-listpack-value", \.setMaxListpackValueBytes, 0...int64Max, unsigned: true),
        integer(
            "zset-max-listpack-entries", alias: "zset-max-ziplist-entries", \.sortedSetMaxListpackEntries,
            0...int64Max, unsigned: true),
        integer(
            "zset-max-listpack-value", alias: "zset-max-ziplist-value", \.sortedSetMaxListpackValueBytes,
            0...int64Max, unit: .memory, unsigned: true),
        integer(
            "list-max-listpack-size", alias: "list-max-ziplist-size", \.listMaxListpackSize, int32Min...int32Max),
        // Nodes of lists are never compressed: see Quicklist.
        integer("list-compress-depth", default: 0, 0...int32Max, support: .noEffect),
        integer("stream-node-max-bytes", \.streamNodeMaxBytes, 0...int64Max, unit: .memory, unsigned: true),
        integer("stream-node-max-entries", \.streamNodeMaxEntries, 0...int64Max),
        integer("hll-sparse-max-bytes", \.hyperLogLogSparseMaxBytes, 0...int64Max, unit: .memory, unsigned: true),
        choice("sanitize-dump-payload", \.sanitizesDumpPayload, support: .noEffect),
    ]

    private static let observation: [Directive] = [
        integer("slowlog-log-slower-than", \.slowLogMicroseconds, -1...int64Max),
        integer("slowlog-max-len", \.slowLogEntriesMax, 0...int64Max),
        integer("latency-monitor-threshold", \.latencyMonitorMilliseconds, 0...int64Max),
        bool("latency-tracking", \.tracksLatency),
        special("latency-tracking-info-percentiles", .latencyPercentiles, flags: [.multiArgument]),
        integer("busy-reply-threshold", alias: "lua-time-limit", \.busyReplyMilliseconds, 0...int64Max),
        bool(
            "lua-enable-deprecated-api", \.enablesDeprecatedScriptFunctions, flags: [.immutable, .hidden]),
        integer("tracking-table-max-keys", \.trackingTableKeysMax, 0...int64Max, unsigned: true),
        text("aclfile", default: "", flags: [.immutable], isAbsentWhenEmpty: false, support: .later),
        integer("acllog-max-len", default: 128, 0...int64Max, support: .later),
        choice("acl-pubsub-default", default: "resetchannels", ["allchannels", "resetchannels"], support: .later),
    ]

    private static let persistence: [Directive] = [
        special("save", .save, flags: [.multiArgument], support: .later),
        text("dbfilename", \.rdbFileName, flags: [.protected], isAbsentWhenEmpty: false) {
            isFileName($0) ? nil : "dbfilename can't be a path, just a filename"
        },
        bool("rdbcompression", \.compressesRDB),
        bool("rdbchecksum", \.checksumsRDB, flags: [.immutable]),
        bool("rdb-del-sync-files", default: false, support: .noEffect),
        bool("rdb-save-incremental-fsync", default: true, support: .noEffect),
        integer("rdb-key-save-delay", default: 0, int32Min...int32Max, flags: [.hidden], support: .noEffect),
        integer("key-load-delay", \.keyLoadDelayMicroseconds, int32Min...int32Max, flags: [.hidden]),
        integer("loading-process-events-interval-bytes", \.imageBytesHeldMax, 1024...int32Max, flags: [.hidden]),
        bool("stop-writes-on-bgsave-error", \.stopsWritesOnSaveError),
        bool("appendonly", \.isAppendOnly, flags: [.denyLoading], support: .later),
        text("appendfilename", \.appendFileName, flags: [.immutable], isAbsentWhenEmpty: false) {
            $0.isEmpty
                ? "appendfilename can't be empty"
                : isFileName($0) ? nil : "appendfilename can't be a path, just a filename"
        },
        text("appenddirname", \.appendDirectoryName, flags: [.immutable], isAbsentWhenEmpty: false) {
            $0.isEmpty
                ? "appenddirname can't be empty"
                : isFileName($0) ? nil : "appenddirname can't be a path, just a dirname"
        },
        choice("appendfsync", \.appendFsync),
        bool("no-appendfsync-on-rewrite", default: false, support: .noEffect),
        bool("aof-rewrite-incremental-fsync", default: true, support: .noEffect),
        bool("aof-load-truncated", default: true, support: .later),
        bool("aof-use-rdb-preamble", default: true, support: .later),
        bool("aof-timestamp-enabled", default: false, support: .later),
        bool("aof-disable-auto-gc", default: false, support: .later),
        integer("auto-aof-rewrite-percentage", default: 100, 0...int32Max, support: .later),
        integer("auto-aof-rewrite-min-size", default: 64 << 20, 0...int64Max, unit: .memory, support: .later),
    ]

    private static let replication: [Directive] = [
        special("replicaof", alias: "slaveof", .replicaOf, flags: [.immutable, .multiArgument]),
        bytes("masteruser", \.primaryUser, flags: [.sensitive]),
        bytes("masterauth", \.primaryPassword, flags: [.sensitive]),
        integer("repl-timeout", \.replicationTimeoutSeconds, 1...int32Max),
        integer("repl-ping-replica-period", alias: "repl-ping-slave-period", \.replicationPingSeconds, 1...int32Max),
        integer("repl-backlog-size", \.replicationBacklogBytes, 1...int64Max, unit: .memory),
        integer("repl-backlog-ttl", \.replicationBacklogSeconds, 0...int64Max),
        bool("repl-disable-tcp-nodelay", \.disablesReplicationNoDelay),
        bool("repl-diskless-sync", \.isDisklessSync, support: .noEffect),
        integer("repl-diskless-sync-delay", \.disklessSyncDelaySeconds, 0...int32Max),
        integer("repl-diskless-sync-max-replicas", \.disklessSyncReplicasMax, 0...int32Max),
        choice("repl-diskless-load", \.disklessLoad, flags: [.denyLoading], support: .noEffect),
        bool("replica-serve-stale-data", alias: "slave-serve-stale-data", \.replicaServesStaleData),
        bool("replica-read-only", alias: "slave-read-only", \.isReplicaReadOnly),
        bool("replica-ignore-maxmemory", alias: "slave-ignore-maxmemory", \.replicaIgnoresMaxMemory, support: .later),
        bool("replica-ignore-disk-write-errors", default: false, support: .later),
        bool("replica-lazy-flush", alias: "slave-lazy-flush", \.replicaFlushesLazily, support: .noEffect),
        integer("replica-priority", alias: "slave-priority", \.replicaPriority, 0...int32Max),
        bool("replica-announced", \.isReplicaAnnounced),
        text("replica-announce-ip", alias: "slave-announce-ip", \.replicaAnnounceAddress),
        integer("replica-announce-port", alias: "slave-announce-port", \.replicaAnnouncePort, 0...65535),
        integer("min-replicas-to-write", alias: "min-slaves-to-write", \.minReplicasToWrite, 0...int32Max),
        integer("min-replicas-max-lag", alias: "min-slaves-max-lag", \.minReplicasMaxLagSeconds, 0...int32Max),
        choice(
            "propagation-error-behavior", default: "ignore", ["ignore", "panic", "panic-on-replicas"],
            support: .noEffect),
    ]

    private static let cluster: [Directive] = [
        bool("cluster-enabled", \.isClusterEnabled, flags: [.immutable]),
        text("cluster-config-file", \.clusterConfigFile, flags: [.immutable], isAbsentWhenEmpty: false) {
            $0.isEmpty ? "cluster-config-file can't be empty" : nil
        },
        integer("cluster-node-timeout", \.clusterNodeTimeoutMilliseconds, 0...int64Max),
        integer("cluster-port", \.clusterPort, 0...65535, flags: [.immutable]),
        text("cluster-announce-ip", \.clusterAnnounceAddress),
        text("cluster-announce-hostname", \.clusterAnnounceHostname, validate: hostnameProblem),
        text("cluster-announce-human-nodename", \.clusterAnnounceHumanNodename) {
            $0.utf8.allSatisfy(isPlainNodeNameByte) ? nil : "Announced human node name contained invalid character"
        },
        text("cluster-announce-client-ipv4", \.clusterAnnounceClientIPv4) {
            $0.isEmpty || isIPv4Address($0) ? nil : "Invalid IPv4 address"
        },
        text("cluster-announce-client-ipv6", \.clusterAnnounceClientIPv6) {
            $0.isEmpty || isIPv6Address($0) ? nil : "Invalid IPv6 address"
        },
        integer("cluster-announce-client-port", \.clusterAnnounceClientPort, 0...65535),
        integer("cluster-announce-client-tls-port", \.clusterAnnounceClientTLSPort, 0...65535),
        integer("cluster-announce-port", \.clusterAnnouncePort, 0...65535),
        integer("cluster-announce-tls-port", \.clusterAnnounceTLSPort, 0...65535),
        integer("cluster-announce-bus-port", \.clusterAnnounceBusPort, 0...65535),
        choice("cluster-preferred-endpoint-type", \.clusterPreferredEndpoint),
        bool("cluster-require-full-coverage", \.clusterRequiresFullCoverage),
        bool("cluster-allow-reads-when-down", \.clusterAllowsReadsWhenDown),
        bool("cluster-allow-pubsubshard-when-down", \.clusterAllowsShardPubSubWhenDown),
        integer(
            "cluster-replica-validity-factor", alias: "cluster-slave-validity-factor", \.clusterReplicaValidityFactor,
            0...int32Max),
        bool("cluster-replica-no-failover", alias: "cluster-slave-no-failover", \.clusterReplicaNoFailover),
        bool("cluster-allow-replica-migration", \.clusterAllowsReplicaMigration),
        integer("cluster-migration-barrier", \.clusterMigrationBarrier, 0...int32Max),
        integer("cluster-link-sendbuf-limit", \.clusterLinkSendBufferLimit, unit: .memory),
        integer("cluster-ping-interval", \.clusterPingIntervalMilliseconds, 0...int64Max, flags: [.hidden]),
        integer("cluster-blacklist-ttl", \.clusterBlacklistSeconds, 0...int64Max),
        integer("cluster-manual-failover-timeout", \.clusterManualFailoverMilliseconds, 1...int32Max),
        integer("cluster-message-gossip-perc", \.clusterMessageGossipPercent, 1...100, flags: [.hidden]),
        text("availability-zone", \.availabilityZone, isAbsentWhenEmpty: false),
        bool("import-mode", \.isImporting),
        integer("cluster-stall-timeout", \.clusterStallMilliseconds, 0...int64Max),
    ]

    private static let tls: [Directive] = [
        integer("tls-port", default: 0, 0...65535, support: .later),
        integer("tls-session-cache-size", default: 20 * 1024, 0...int32Max, support: .later),
        integer("tls-session-cache-timeout", default: 300, 0...int32Max, support: .later),
        bool("tls-cluster", default: false, support: .later),
        bool("tls-replication", default: false, support: .later),
        choice("tls-auth-clients", default: "yes", ["no", "yes", "optional"], support: .later),
        bool("tls-prefer-server-ciphers", default: false, support: .later),
        bool("tls-session-caching", default: true, support: .later),
        text("tls-cert-file", default: "", flags: [.volatile], support: .later),
        text("tls-key-file", default: "", flags: [.volatile], support: .later),
        text("tls-key-file-pass", default: "", support: .later),
        text("tls-client-cert-file", default: "", flags: [.volatile], support: .later),
        text("tls-client-key-file", default: "", flags: [.volatile], support: .later),
        text("tls-client-key-file-pass", default: "", support: .later),
        text("tls-dh-params-file", default: "", flags: [.volatile], support: .later),
        text("tls-ca-cert-file", default: "", flags: [.volatile], support: .later),
        text("tls-ca-cert-dir", default: "", flags: [.volatile], support: .later),
        text("tls-protocols", default: "", support: .later),
        text("tls-ciphers", default: "", support: .later),
        text("tls-ciphersuites", default: "", support: .later),
    ]

    /// Tables and memory. Tables always go on growing when there is time, and keys are moved without a look into values.
    private static let tuning: [Directive] = [
        bool("activerehashing", default: true, support: .noEffect),
        bool("jemalloc-bg-thread", \.purgesInBackground),
        bool("activedefrag", \.isDefragmenting),
        integer(
            "active-defrag-ignore-bytes", \.defragmentation.ignoredBytes, 1...int64Max, unit: .memory, unsigned: true),
        integer("active-defrag-cycle-min", \.defragmentation.cyclePercentMin, 1...99),
        integer("active-defrag-cycle-max", \.defragmentation.cyclePercentMax, 1...99),
        integer("active-defrag-threshold-lower", \.defragmentation.wastePercentMin, 0...1000),
        integer("active-defrag-threshold-upper", \.defragmentation.wastePercentMax, 0...1000),
        integer("active-defrag-max-scan-fields", default: 1000, 1...int64Max, support: .noEffect),
    ]
}

private let int32Min = Int(Int32.min)
private let int32Max = Int(Int32.max)
private let uint32Max = Int(UInt32.max)
private let int64Max = Int.max
