import MartletBase
import MartletKeyspace
import MartletRESP

// Publish and subscribe: who wants to hear what.
//
// There are three kinds of subscription: to a channel, to all channels whose names match a pattern, and to a shard channel,
// which belongs to a hash slot and is heard only in the shard that serves the slot. Each kind has a table of names; a name
// knows its subscribers, and each of those knows its place in the name's list, so that both come and go in constant time.
// Names without subscribers are not kept.
//
// A message is formatted once and copied to every subscriber (Client/Delivery.swift). Where it comes from:
//
// - PUBLISH and SPUBLISH of a client. In a cluster the bus carries it on, PUBLISH to every node and SPUBLISH within the
//   shard; otherwise it goes into the replication log.
// - The bus, the replication log of our primary, and keyspace notifications (KeyspaceNotifications.swift), which stay on
//   the node where the key changed.
//
// In RESP2 a subscriber can tell messages from replies only by what it asks for, so it may ask for next to nothing; the
// gate is in Dispatcher.swift. When the slot of a shard channel leaves this shard, its subscribers are told `sunsubscribe`.
//
// Source: Redis 7.0 pubsub.c.

enum SubscriptionKind: Int, CaseIterable {
    case channel, pattern, shard

    var subscribed: StaticString {
        switch self {
        case .channel: "subscribe"
        case .pattern: "psubscribe"
        case .shard: "ssubscribe"
        }
    }

    var unsubscribed: StaticString {
        switch self {
        case .channel: "unsubscribe"
        case .pattern: "punsubscribe"
        case .shard: "sunsubscribe"
        }
    }
}

struct PubSub: ~Copyable {
    /// One for each ``SubscriptionKind``.
    private let tables: UnsafeMutablePointer<ChannelTable>
    /// The message that is being delivered.
    var message = ReplyBuffer()
    /// The channel of a keyspace notification.
    var channelName = ReplyBuffer()
    /// Orders the subscriptions of a client.
    var nextOrder: UInt64 = 0

    init() {
        tables = .allocate(capacity: SubscriptionKind.allCases.count)
        for kind in SubscriptionKind.allCases { (tables + kind.rawValue).initialize(to: ChannelTable()) }
    }

    deinit {
        tables.deinitialize(count: SubscriptionKind.allCases.count)
        tables.deallocate()
    }

    subscript(kind: SubscriptionKind) -> UnsafeMutablePointer<ChannelTable> { tables + kind.rawValue }

    /// Whether anybody would hear a keyspace notification.
    var hasListeners: Bool { self[.channel].pointee.count + self[.pattern].pointee.count > 0 }
}

/// What one client has subscribed to.
struct Subscriptions {
    struct Place {
        /// In the subscribers of the channel.
        var index: Int
        /// Grows with each subscription of any client.
        let order: UInt64
    }

    private var channels: [ChannelPointer: Place] = [:]
    private var patterns: [ChannelPointer: Place] = [:]
    private var shardChannels: [ChannelPointer: Place] = [:]

    subscript(kind: SubscriptionKind) -> [ChannelPointer: Place] {
        get {
            switch kind {
            case .channel: channels
            case .pattern: patterns
            case .shard: shardChannels
            }
        }
        _modify {
            switch kind {
            case .channel: yield &channels
            case .pattern: yield &patterns
            case .shard: yield &shardChannels
            }
        }
    }

    var isEmpty: Bool { channels.isEmpty && patterns.isEmpty && shardChannels.isEmpty }

    /// What confirmations tell: channels and patterns together, shard channels apart.
    func count(toldFor kind: SubscriptionKind) -> Int {
        kind == .shard ? shardChannels.count : channels.count + patterns.count
    }

    /// As the allocator counts them, nearly.
    var memoryBytes: Int {
        var bytes = 0
        for kind in SubscriptionKind.allCases where !self[kind].isEmpty {
            // A dictionary keeps a quarter of its places free, and a bit for each.
            let place = MemoryLayout<(ChannelPointer, Place)>.stride
            bytes += Memory.usableBytes(self[kind].capacity * 4 / 3 * place)
        }
        return bytes
    }
}
