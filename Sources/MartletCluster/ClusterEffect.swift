import MartletBase

/// A bus connection as the core and its driver name it. Given out by the core, never used twice.
package struct BusLinkID: Hashable, Sendable, CustomStringConvertible {
    package let rawValue: UInt64
    package init(rawValue: UInt64) { self.rawValue = rawValue }
    package var description: String { "link \(rawValue)" }
}

/// Why a bus connection is gone.
package enum BusLinkCloseReason: Sendable, Equatable {
    /// Nobody listens there: the process is gone, or was never there.
    case refused
    /// The connection was reset.
    case reset
    /// The peer closed it in order.
    case peerClosed
    /// Connecting or writing took too long.
    case timedOut
    /// The address cannot be reached or is not an address.
    case unreachable
    /// The bytes were not a bus packet, or a local limit was hit.
    case protocolError
}

package enum ClusterLogLevel: Sendable, Equatable {
    case debug, verbose, notice, warning
}

/// What the core asks of the outside. A driver carries effects out in the order in which they come.
///
/// Within one event `saveConfig` comes first, then `publishView`, then the rest: nothing reaches a peer before the
/// file says what the packet promises, and the command thread knows of a change before peers do. What was only learned
/// or changed by an operator, and can be told again, is written within 100 ms.
package enum ClusterEffect: Sendable {
    /// Replace nodes.conf by `text`. With `fsync` the bytes must be on the disk before any later effect.
    case saveConfig(text: [UInt8], fsync: Bool)
    /// The command thread shall use this view from now on.
    case publishView(ClusterView)
    /// Connect to a bus port; answer with `linkOpened` or `linkClosed`.
    case openLink(BusLinkID, host: String, port: UInt16)
    /// Close without an answer: the core has forgotten the link. Bytes already given to `send` should still leave.
    case closeLink(BusLinkID)
    case send(BusLinkID, [UInt8])
    /// Replicate from this node. `sharesHistory` says that a partial resync may be tried.
    case followPrimary(NodeID, host: String, port: UInt16, sharesHistory: Bool)
    /// Stop replicating, keep the data, accept writes.
    case becomePrimary
    /// Hold back writes until this time, then answer with `writesPaused(offset:)`.
    case pauseWrites(until: Int64)
    case resumeWrites
    /// These slots now belong to somebody else: delete their keys.
    case deleteKeys(slots: [HashSlot])
    /// Shard channels of these slots have moved away: unsubscribe their clients.
    case dropShardChannels(slots: [HashSlot])
    /// Delete every key (CLUSTER RESET on a replica).
    case flushAll
    /// A message for local subscribers.
    case publish(channel: [UInt8], message: [UInt8], isSharded: Bool)
    case log(ClusterLogLevel, String)
}
