import MartletBase

/// What the command thread needs to know of the cluster: an immutable picture that the bus thread replaces whole.
///
/// The command thread reads it through one pointer. A command whose slot has state ``SlotState/served`` is served
/// without looking at anything else: that is one load. Everything else goes through ``redirection(for:)``.
package final class ClusterView: @unchecked Sendable {
    // Sendable although it holds pointers: nothing changes after `init`, and `tables` owns the memory.

    /// Stands for "no node" where a node index is expected.
    package static let noNode = UInt16.max

    package struct Node: Sendable, Equatable {
        package var id: NodeID
        package var ip: String
        package var ports: NodePorts
        package var hostname: String
        package var isReplica: Bool
        /// Index of the primary of a replica, or ``ClusterView/noNode``.
        package var primary: UInt16
        package var isFailed: Bool
    }

    /// The states that a slot can have from here, one bit each, in a byte per slot.
    package struct SlotState: OptionSet, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }
        /// Mine, stable, and the cluster is up: serve. Set alone or with ``mine``.
        package static let served = SlotState(rawValue: 1)
        package static let mine = SlotState(rawValue: 2)
        package static let migrating = SlotState(rawValue: 4)
        package static let importing = SlotState(rawValue: 8)
        /// Owned by the primary that this replica follows.
        package static let myPrimarys = SlotState(rawValue: 16)
        package static let unassigned = SlotState(rawValue: 32)
    }

    /// Counts the views that a node has published; never goes back.
    package let version: UInt64
    package let nodeID: NodeID
    package let shardID: NodeID
    package let currentEpoch: UInt64
    /// Config epoch of this shard's primary as far as known.
    package let configEpoch: UInt64
    /// Indexed by node index; nil where a node was forgotten.
    package let nodes: [Node?]
    package let myIndex: UInt16
    /// The primary that this node follows, or ``noNode``.
    package let myPrimary: UInt16
    package let isReplica: Bool
    /// cluster_state is ok.
    package let isOK: Bool
    package let allowsReadsWhenDown: Bool
    package let allowsPubSubShardWhenDown: Bool
    package let usesTLS: Bool
    package let preferredEndpointType: ClusterConfiguration.EndpointType
    /// Target or source of every open slot, sorted by slot.
    package let openSlots: [(slot: HashSlot, migratingTo: UInt16, importingFrom: UInt16)]

    private let tables: SlotTables
    /// 16384 bytes of ``SlotState``.
    package let slotStates: UnsafePointer<UInt8>
    /// 16384 node indices, ``noNode`` where nobody owns the slot.
    package let slotOwners: UnsafePointer<UInt16>

    init(
        version: UInt64, nodeID: NodeID, shardID: NodeID, currentEpoch: UInt64, configEpoch: UInt64, nodes: [Node?],
        myIndex: UInt16, myPrimary: UInt16, isReplica: Bool, isOK: Bool, configuration: ClusterConfiguration,
        openSlots: [(slot: HashSlot, migratingTo: UInt16, importingFrom: UInt16)], tables: SlotTables
    ) {
        self.version = version
        self.nodeID = nodeID
        self.shardID = shardID
        self.currentEpoch = currentEpoch
        self.configEpoch = configEpoch
        self.nodes = nodes
        self.myIndex = myIndex
        self.myPrimary = myPrimary
        self.isReplica = isReplica
        self.isOK = isOK
        allowsReadsWhenDown = configuration.allowsReadsWhenDown
        allowsPubSubShardWhenDown = configuration.allowsPubSubShardWhenDown
        usesTLS = configuration.usesTLS
        preferredEndpointType = configuration.preferredEndpointType
        self.openSlots = openSlots
        self.tables = tables
        slotStates = UnsafePointer(tables.states)
        slotOwners = UnsafePointer(tables.owners)
    }

    /// Whether a command on this slot may run here without further questions. One load.
    @inline(__always)
    package func serves(_ slot: HashSlot) -> Bool {
        slotStates[slot.index] & SlotState.served.rawValue != 0
    }

    @inline(__always)
    package func state(of slot: HashSlot) -> SlotState { SlotState(rawValue: slotStates[slot.index]) }

    /// Index of the node that owns the slot, or ``noNode``.
    package func owner(of slot: HashSlot) -> UInt16 { slotOwners[slot.index] }

    package func migrationTarget(of slot: HashSlot) -> UInt16 {
        openSlots.first { $0.slot == slot }?.migratingTo ?? ClusterView.noNode
    }

    package func importSource(of slot: HashSlot) -> UInt16 {
        openSlots.first { $0.slot == slot }?.importingFrom ?? ClusterView.noNode
    }

    /// The node at an index, if there is one.
    package func node(at index: UInt16) -> Node? {
        Int(index) < nodes.count ? nodes[Int(index)] : nil
    }

    /// `host:port` as MOVED and ASK spell it. Source: `getPreferredEndpoint`, `clusterRedirectClient`.
    package func endpoint(of index: UInt16, isTLSClient: Bool) -> String {
        guard let node = node(at: index) else { return ":0" }
        let host: String =
            switch preferredEndpointType {
            case .ip: node.ip
            case .hostname: node.hostname.isEmpty ? "?" : node.hostname
            case .unknownEndpoint: ""
            }
        return "\(host):\(clientPort(of: node.ports, isTLSClient: isTLSClient, usesTLS: usesTLS))"
    }
}

/// The client port to show: the one of the client's own kind, or the announced default where that is missing.
func clientPort(of ports: NodePorts, isTLSClient: Bool, usesTLS: Bool) -> UInt16 {
    if usesTLS { return isTLSClient || ports.tcp == 0 ? ports.tls : ports.tcp }
    return isTLSClient && ports.tls != 0 ? ports.tls : ports.tcp
}

/// The flat per-slot tables of a view; consecutive views share them while no slot changes.
/// Nobody owns any slot at first.
final class SlotTables: @unchecked Sendable {
    // Sendable although it holds pointers: written only between `init` and the first publication.
    let states: UnsafeMutablePointer<UInt8>
    let owners: UnsafeMutablePointer<UInt16>

    init() {
        states = .allocate(capacity: HashSlot.count)
        states.initialize(repeating: ClusterView.SlotState.unassigned.rawValue, count: HashSlot.count)
        owners = .allocate(capacity: HashSlot.count)
        owners.initialize(repeating: ClusterView.noNode, count: HashSlot.count)
    }

    deinit {
        states.deallocate()
        owners.deallocate()
    }
}
