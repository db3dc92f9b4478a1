/// The directives of redis.conf that the cluster core obeys. Every one may change while the node runs.
package struct ClusterConfiguration: Sendable, Equatable {
    /// What a client is told to connect to (`cluster-preferred-endpoint-type`).
    package enum EndpointType: Sendable, Equatable {
        case ip, hostname, unknownEndpoint
    }

    /// cluster-node-timeout.
    package var nodeTimeoutMilliseconds: Int64 = 15_000
    /// Client port without TLS; 0 when there is none.
    package var port: UInt16 = 6379
    /// Client port with TLS; 0 when there is none.
    package var tlsPort: UInt16 = 0
    /// cluster-port; 0 means the client port plus 10000.
    package var busPort: UInt16 = 0
    /// tls-cluster: the bus and replication use TLS, and the TLS port is the one to announce first.
    package var usesTLS = false

    /// cluster-announce-ip; empty lets peers use the address that they see.
    package var announceIP = ""
    package var announcePort: UInt16 = 0
    package var announceTLSPort: UInt16 = 0
    package var announceBusPort: UInt16 = 0
    package var announceHostname = ""
    package var announceHumanNodename = ""
    package var preferredEndpointType = EndpointType.ip

    /// cluster-replica-validity-factor; 0 lets a replica with data of any age stand for election.
    package var replicaValidityFactor: Int64 = 10
    /// repl-ping-replica-period: part of the age that a replica's data may have.
    package var replicationPingPeriodSeconds: Int64 = 10
    /// cluster-migration-barrier: working replicas that a primary keeps when one migrates away.
    package var migrationBarrier = 1
    package var allowsReplicaMigration = true
    package var replicaNoFailover = false
    package var requiresFullCoverage = true
    package var allowsReadsWhenDown = false
    package var allowsPubSubShardWhenDown = true
    /// cluster-blacklist-ttl: how long a forgotten node stays unwelcome.
    package var blacklistTTLSeconds: Int64 = 60
    package var manualFailoverTimeoutMilliseconds: Int64 = 5_000
    /// cluster-link-sendbuf-limit; 0 means none.
    package var linkSendBufferLimitBytes = 0
    /// cluster-stall-timeout: a command thread that makes no progress for so long silences the node. 0 means never.
    package var stallTimeoutMilliseconds: Int64 = 10_000
    /// Whether a refused reconnect counts as the death of a process (design.md section 5).
    package var usesCrashEvidence = true

    package init() {}

    /// Without announced texts that could not stand in a packet or in nodes.conf.
    var sanitized: ClusterConfiguration {
        var result = self
        if !isValidAnnouncedIP(announceIP) { result.announceIP = "" }
        if !isValidHostname(announceHostname) { result.announceHostname = "" }
        if !isValidHumanNodename(announceHumanNodename) { result.announceHumanNodename = "" }
        return result
    }

    /// The three ports in packets about this node. Source: `deriveAnnouncedPorts`.
    package var announcedPorts: NodePorts {
        var ports = NodePorts(tcp: port, tls: tlsPort, bus: busPort)
        if ports.bus == 0 {
            let base = usesTLS ? tlsPort : port
            ports.bus = base <= UInt16.max - busPortOffset ? base + busPortOffset : 0
        }
        if announcePort != 0 { ports.tcp = announcePort }
        if announceTLSPort != 0 { ports.tls = announceTLSPort }
        if announceBusPort != 0 { ports.bus = announceBusPort }
        return ports
    }
}

/// The bus listens this far above the client port unless told otherwise.
package let busPortOffset: UInt16 = 10_000

/// Where a node can be reached. 0 means unknown or absent.
package struct NodePorts: Sendable, Equatable {
    package var tcp: UInt16 = 0
    package var tls: UInt16 = 0
    package var bus: UInt16 = 0

    package init(tcp: UInt16 = 0, tls: UInt16 = 0, bus: UInt16 = 0) {
        self.tcp = tcp
        self.tls = tls
        self.bus = bus
    }
}
