import MartletBase
import MartletKeyspace

/// The settings that code reads, as plain stored properties; their initial values are the defaults of Redis 7.0.15.
///
/// Directives.swift ties each property to its directive and holds its rules. Directives that no code reads
/// live in `unread`. Strings, arrays and the dictionary make a copy of this value expensive: the command thread reads single
/// properties in place.
package struct ServerConfiguration: Sendable {
    package init() {}

    // MARK: Network and clients

    /// 0: no TCP listener.
    package var port = 6379
    /// `*` and `::*` mean all addresses; a leading `-` makes an unavailable address no error.
    package var bindAddresses = ["*", "-::*"]
    /// Empty: chosen by the system.
    package var bindSourceAddress = ""
    package var tcpBacklog = 511
    /// 0: off.
    package var tcpKeepAliveSeconds = 300
    /// Empty: no unix socket.
    package var unixSocketPath = ""
    /// 0: as the umask says.
    package var unixSocketPermissions = 0
    /// Idle clients are closed after it; 0: never.
    package var clientTimeoutSeconds = 0
    package var maxClients = 10_000
    package var isProtectedMode = true
    /// Bytes.
    package var clientQueryBufferLimit = 1 << 30
    /// Bytes of one argument.
    package var protoMaxBulkLength = 512 << 20
    package var outputBufferLimits = OutputBufferLimits()
    /// Bytes that all clients may use together; negative: percent of `maxMemory`; 0: no limit.
    package var maxMemoryClients = 0
    /// Empty: no password.
    package var requirePassword: [UInt8] = []
    package var ioThreads = 1
    /// For tests: share connections at once, not only when the command thread is busy.
    package var areIOThreadsAlwaysActive = false

    // MARK: Process

    package var isDaemonized = false
    /// Empty: none.
    package var pidFilePath = ""
    package var logLevel = LogLevel.notice
    /// Empty: standard output.
    package var logFilePath = ""
    package var isSyslogEnabled = false
    package var syslogIdentity = "redis"
    package var syslogFacility = SyslogFacility.local0
    package var supervision = Supervision.no
    package var setsProcessTitle = true
    package var processTitleTemplate = "{title} {listen-addr} {server-mode}"
    /// Absolute; the working directory of the process.
    package var directory = ""
    package var shutdownTimeoutSeconds = 10
    package var shutdownOnSIGINT = ShutdownFlags()
    package var shutdownOnSIGTERM = ShutdownFlags()
    package var alwaysShowsLogo = false
    package var debugCommand = ProtectedAction.no
    package var moduleCommand = ProtectedAction.no
    package var protectedConfigs = ProtectedAction.no
    package var oomScoreAdjustment = OOMScoreAdjustment.no
    /// For a primary, a replica and a background child.
    package var oomScoreValues = [0, 200, 800]

    // MARK: Keyspace

    /// In cluster mode only database 0 is used.
    package var databases = 16
    /// Ticks of the periodic work per second.
    package var hz = 10
    /// 1 to 10.
    package var activeExpireEffort = 1
    /// Free pages go back to the system by a thread of the allocator.
    package var purgesInBackground = true
    package var isDefragmenting = false
    package var defragmentation = DefragmentationLimits()
    /// Bytes; 0: no limit.
    package var maxMemory: UInt64 = 0
    package var evictionPolicy = EvictionPolicy.noEviction
    package var maxMemorySamples = 5
    package var evictionTenacity = 10
    package var lfuLogFactor = 10
    package var lfuDecayMinutes = 1
    package var lazyFreesEviction = false
    package var lazyFreesExpire = false
    package var lazyFreesServerDel = false
    package var lazyFreesUserDel = false
    package var lazyFreesUserFlush = false
    package var keyspaceEvents = KeyspaceEvents()
    package var hashMaxListpackEntries = 512
    package var hashMaxListpackValueBytes = 64
    package var setMaxIntsetEntries = 512
    package var setMaxListpackEntries = 128
    package var setMaxListpackValueBytes = 64
    package var sortedSetMaxListpackEntries = 128
    package var sortedSetMaxListpackValueBytes = 64
    /// Positive: entries of a node; negative: -1 to -5 are 4 to 64 kB.
    package var listMaxListpackSize = -2
    package var streamNodeMaxBytes = 4096
    package var streamNodeMaxEntries = 100
    package var hyperLogLogSparseMaxBytes = 3000
    package var sanitizesDumpPayload = SanitizeDumpPayload.no

    // MARK: Observation

    /// Negative: off.
    package var slowLogMicroseconds = 10_000
    package var slowLogEntriesMax = 128
    /// 0: off.
    package var latencyMonitorMilliseconds = 0
    package var tracksLatency = true
    package var latencyPercentiles = [50.0, 99.0, 99.9]
    /// A script or function that runs longer gets other clients a BUSY error.
    package var busyReplyMilliseconds = 5000
    /// Scripts have setfenv, getfenv and newproxy.
    package var enablesDeprecatedScriptFunctions = false
    package var trackingTableKeysMax = 1_000_000

    // MARK: Persistence

    package var savePoints = [
        SavePoint(seconds: 3600, changes: 1), SavePoint(seconds: 300, changes: 100),
        SavePoint(seconds: 60, changes: 10_000),
    ]
    package var rdbFileName = "dump.rdb"
    package var compressesRDB = true
    package var checksumsRDB = true
    package var stopsWritesOnSaveError = true
    package var isAppendOnly = false
    package var appendFileName = "appendonly.aof"
    package var appendDirectoryName = "appendonlydir"
    package var appendFsync = AppendFsync.everySecond

    // MARK: Replication

    /// Nil: this node is a primary. Not used in cluster mode.
    package var replicaOf: ReplicaOf?
    package var primaryUser: [UInt8] = []
    package var primaryPassword: [UInt8] = []
    package var replicationTimeoutSeconds = 60
    package var replicationPingSeconds = 10
    package var replicationBacklogBytes = 1 << 20
    /// 0: the backlog stays for ever.
    package var replicationBacklogSeconds = 3600
    package var disablesReplicationNoDelay = false
    package var isDisklessSync = true
    package var disklessSyncDelaySeconds = 5
    package var disklessSyncReplicasMax = 0
    package var disklessLoad = DisklessLoad.disabled
    package var replicaServesStaleData = true
    package var isReplicaReadOnly = true
    package var replicaIgnoresMaxMemory = true
    package var replicaFlushesLazily = false
    package var replicaPriority = 100
    package var isReplicaAnnounced = true
    /// Empty: as the primary sees it.
    package var replicaAnnounceAddress = ""
    /// 0: `port`.
    package var replicaAnnouncePort = 0
    package var minReplicasToWrite = 0
    package var minReplicasMaxLagSeconds = 10

    // MARK: Cluster

    package var isClusterEnabled = false
    package var clusterConfigFile = "nodes.conf"
    package var clusterNodeTimeoutMilliseconds = 15_000
    /// 0: `port` + 10000.
    package var clusterPort = 0
    package var clusterAnnounceAddress = ""
    package var clusterAnnounceHostname = ""
    package var clusterAnnounceHumanNodename = ""
    package var clusterAnnounceClientIPv4 = ""
    package var clusterAnnounceClientIPv6 = ""
    package var clusterAnnounceClientPort = 0
    package var clusterAnnounceClientTLSPort = 0
    package var clusterAnnouncePort = 0
    package var clusterAnnounceTLSPort = 0
    package var clusterAnnounceBusPort = 0
    package var clusterPreferredEndpoint = ClusterEndpoint.ip
    package var clusterRequiresFullCoverage = true
    package var clusterAllowsReadsWhenDown = false
    package var clusterAllowsShardPubSubWhenDown = true
    package var clusterReplicaValidityFactor = 10
    package var clusterReplicaNoFailover = false
    package var clusterAllowsReplicaMigration = true
    package var clusterMigrationBarrier = 1
    /// 0: no limit.
    package var clusterLinkSendBufferLimit: UInt64 = 0
    /// 0: half of the node timeout.
    package var clusterPingIntervalMilliseconds = 0
    package var clusterBlacklistSeconds = 60
    package var clusterManualFailoverMilliseconds = 5000
    package var clusterMessageGossipPercent = 10
    package var availabilityZone = ""
    /// Data comes from elsewhere, through clients that say so: no key expires by itself.
    package var isImporting = false
    /// Without a turn of the command loop for so long, the bus stops answering and the node is failed over.
    /// Sleep before each key of an image; below 0 one microsecond for one key in so many. For tests.
    package var keyLoadDelayMicroseconds = 0
    /// `loading-process-events-interval-bytes`: an image up to this long is loaded in one go.
    package var imageBytesHeldMax = 2 << 20
    package var clusterStallMilliseconds = 10_000

    // MARK: Lines that are not directives with a value

    /// The words behind `user`, in order.
    package var users: [[[UInt8]]] = []
    /// In order; an empty new name removes the command.
    package var renamedCommands: [RenamedCommand] = []

    /// Values that were set of directives without a property.
    var unread: [String: DirectiveValue] = [:]
}

extension ServerConfiguration {
    /// When containers change their encoding.
    var encodingLimits: EncodingLimits {
        var limits = EncodingLimits()
        limits.hashListpackEntries = hashMaxListpackEntries
        limits.hashListpackValueBytes = hashMaxListpackValueBytes
        limits.setIntsetEntries = setMaxIntsetEntries
        limits.setListpackEntries = setMaxListpackEntries
        limits.setListpackValueBytes = setMaxListpackValueBytes
        limits.sortedSetListpackEntries = sortedSetMaxListpackEntries
        limits.sortedSetListpackValueBytes = sortedSetMaxListpackValueBytes
        limits.listListpackSize = listMaxListpackSize
        limits.hyperLogLogSparseBytes = hyperLogLogSparseMaxBytes
        limits.streamNodeBytes = streamNodeMaxBytes
        limits.streamNodeEntries = streamNodeMaxEntries
        return limits
    }
}
