/// Flags of a node as they stand in packets and, by name, in nodes.conf.
/// Source: `CLUSTER_NODE_*` in Redis 7.0 `cluster.h`, from 1024 on Valkey `cluster_legacy.h`.
package struct NodeFlags: OptionSet, Hashable, Sendable {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }

    package static let primary = NodeFlags(rawValue: 1)
    package static let replica = NodeFlags(rawValue: 2)
    /// We cannot reach it.
    package static let pfail = NodeFlags(rawValue: 4)
    /// A majority of the primaries cannot reach it.
    package static let fail = NodeFlags(rawValue: 8)
    package static let myself = NodeFlags(rawValue: 16)
    /// First ping not yet exchanged; the id is made up.
    package static let handshake = NodeFlags(rawValue: 32)
    package static let noAddress = NodeFlags(rawValue: 64)
    /// It may not know us yet: PINGs to it are MEETs.
    package static let meet = NodeFlags(rawValue: 128)
    /// A primary that may receive a migrating replica.
    package static let migrateTo = NodeFlags(rawValue: 256)
    package static let noFailover = NodeFlags(rawValue: 512)
    package static let supportsExtensions = NodeFlags(rawValue: 1024)
    package static let supportsLightPublish = NodeFlags(rawValue: 2048)
    /// A replica that has seen its primary marked FAIL.
    package static let myPrimaryFailed = NodeFlags(rawValue: 8192)

    /// What gossip about a third node may tell.
    static let gossiped: NodeFlags = [.primary, .replica, .pfail, .fail, .migrateTo, .noFailover]
}

/// What this node knows about a node, itself included.
final class ClusterNode {
    /// A failure report: a voting primary said PFAIL or FAIL at this time.
    struct FailureReport {
        var reporter: UInt16
        var time: Int64
    }

    /// Position in `ClusterState.nodes` and in views; never reused while the node lives.
    let index: UInt16
    /// Made up while the node is in handshake.
    var id: NodeID
    var shardID: NodeID
    var flags: NodeFlags
    /// Of a primary; a replica's is that of its primary.
    var configEpoch: UInt64 = 0
    /// Agrees with `ClusterState.owners`; changed only by `assign` and `unassign`.
    var slots = SlotSet()
    /// In the order in which they were learned.
    var replicas: [ClusterNode] = []
    /// Of a replica; nil when unknown.
    var primary: ClusterNode?

    let createdAt: Int64
    /// When the oldest unanswered PING was sent; 0 when none is pending.
    var pingSent: Int64 = 0
    var pongReceived: Int64 = 0
    /// When anything at all came from it.
    var dataReceived: Int64 = 0
    var failTime: Int64 = 0
    /// Since when this primary has no working replica; 0 while it has.
    var orphanedSince: Int64 = 0
    var replicationOffset: Int64 = 0

    /// Empty when unknown.
    var ip = ""
    var ports = NodePorts()
    var hostname = ""
    var humanNodename = ""

    /// The connection that we opened; our pings go out on it.
    var link: BusLink?
    /// The connection that the node opened to us.
    var inboundLink: BusLink?
    /// No connection attempt before this time.
    var nextConnectAt: Int64 = 0
    /// Attempts made at once since the last cron run, see `FailureDetector`.
    var immediateConnectCount = 0
    /// A PONG came over our link since it last was flagged: losing it now means something.
    var wasReached = false
    /// A connection was refused while the node was PFAIL or FAIL, or that is why it is.
    var hasCrashed = false
    /// When a connection was last refused; 0 when the port answered since.
    var refusedAt: Int64 = 0

    /// At most one per reporter.
    var failureReports: [FailureReport] = []
    /// Number of the ping that last carried gossip about this node.
    var lastGossipRound: UInt64 = 0

    init(index: UInt16, id: NodeID, shardID: NodeID, flags: NodeFlags, createdAt: Int64) {
        self.index = index
        self.id = id
        self.shardID = shardID
        self.flags = flags
        self.createdAt = createdAt
    }

    var isPrimary: Bool { flags.contains(.primary) }
    var isReplica: Bool { flags.contains(.replica) }
    var isMyself: Bool { flags.contains(.myself) }
    var isInHandshake: Bool { flags.contains(.handshake) }
    var isPossiblyFailed: Bool { flags.contains(.pfail) }
    var isFailed: Bool { flags.contains(.fail) }
    var hasAddress: Bool { !flags.contains(.noAddress) }
    /// Votes are given by primaries with at least one slot.
    var isVoting: Bool { isPrimary && !slots.isEmpty }

    /// The node that answers for this node's slots: itself or its primary.
    var shardPrimary: ClusterNode { isReplica ? primary ?? self : self }

    var isSafeToAddress: Bool { hasAddress && !ip.isEmpty && ports.bus != 0 }
}

/// A bus connection.
final class BusLink {
    let id: BusLinkID
    /// The peer opened it.
    let isInbound: Bool
    let createdAt: Int64
    /// Nil on an inbound link until the sender is known.
    var node: ClusterNode?
    /// Who said to be at the other end of an inbound link, while that was no member.
    var stranger: NodeID?
    /// Our own end, as the peer sees us; empty when unknown.
    var localAddress: String
    var remoteAddress: String
    /// An outbound link is not open before the connection is established.
    var isOpen: Bool
    var sendBufferBytes = 0
    /// Packets that wait for the connection to be established.
    var queued: [(kind: BusPacket.Kind, bytes: [UInt8], time: Int64)] = []

    init(
        id: BusLinkID, isInbound: Bool, node: ClusterNode?, createdAt: Int64, localAddress: String = "",
        remoteAddress: String = "", isOpen: Bool
    ) {
        self.id = id
        self.isInbound = isInbound
        self.node = node
        self.createdAt = createdAt
        self.localAddress = localAddress
        self.remoteAddress = remoteAddress
        self.isOpen = isOpen
    }
}
