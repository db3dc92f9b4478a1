import MartletBase
import MartletKeyspace
import MartletRESP

extension Node {
    // MARK: Subscribing

    /// Subscribes a client to a name unless it has done so already, and confirms it.
    mutating func subscribe(_ client: ClientPointer, to name: UnsafeRawBufferPointer, _ kind: SubscriptionKind) {
        let hash = keyspace.hash(name)
        let table = pubSub[kind]
        let channel =
            table.pointee.find(name, hash: hash)
            ?? table.pointee.add(
                Channel(
                    name: Array(name), hash: hash,
                    slot: isClustered && kind == .shard ? HashSlot.of(name) : HashSlot(rawValue: 0)))
        if client.pointee.subscriptions[kind][channel] == nil {
            client.pointee.subscriptions[kind][channel] = Subscriptions.Place(
                index: channel.pointee.subscribers.count, order: pubSub.nextOrder)
            pubSub.nextOrder += 1
            channel.pointee.subscribers.append(client)
            client.pointee.flags.insert(.subscriber)
            updateKeyEventInterest()
        }
        client.pointee.reply.push(3)
        client.pointee.reply.bulk(kind.subscribed)
        client.pointee.reply.bulk(name)
        client.pointee.reply.integer(client.pointee.subscriptions.count(toldFor: kind))
    }

    /// Ends a subscription, if there is one, and confirms it.
    mutating func unsubscribe(_ client: ClientPointer, from name: UnsafeRawBufferPointer, _ kind: SubscriptionKind) {
        if let channel = pubSub[kind].pointee.find(name, hash: keyspace.hash(name)) {
            // The name is the request's: the channel may be gone.
            removeSubscription(client, channel, kind)
        }
        confirmUnsubscription(client, name, kind)
    }

    /// Ends all subscriptions of one kind, and confirms each; none as well.
    mutating func unsubscribe(_ client: ClientPointer, fromAll kind: SubscriptionKind) {
        let all = client.pointee.subscriptions[kind].sorted { $0.value.order < $1.value.order }
        for (channel, _) in all {
            let name = channel.pointee.name
            removeSubscription(client, channel, kind)
            name.withUnsafeBytes { confirmUnsubscription(client, $0, kind) }
        }
        if all.isEmpty { confirmUnsubscription(client, nil, kind) }
    }

    private func confirmUnsubscription(
        _ client: ClientPointer, _ name: UnsafeRawBufferPointer?, _ kind: SubscriptionKind
    ) {
        Self.write(unsubscriptionFrom: name, kind, client, to: &client.pointee.reply)
    }

    private static func write(
        unsubscriptionFrom name: UnsafeRawBufferPointer?, _ kind: SubscriptionKind, _ client: ClientPointer,
        to reply: inout ReplyBuffer
    ) {
        reply.push(3)
        reply.bulk(kind.unsubscribed)
        if let name { reply.bulk(name) } else { reply.null() }
        reply.integer(client.pointee.subscriptions.count(toldFor: kind))
    }

    /// Ends all subscriptions silently: at RESET, and when the client goes.
    mutating func forgetSubscriptions(_ client: ClientPointer) {
        guard client.pointee.flags.contains(.subscriber) else { return }
        for kind in SubscriptionKind.allCases {
            for channel in client.pointee.subscriptions[kind].keys { removeSubscription(client, channel, kind) }
        }
    }

    /// - Complexity: O(1)
    private mutating func removeSubscription(
        _ client: ClientPointer, _ channel: ChannelPointer, _ kind: SubscriptionKind
    ) {
        guard let place = client.pointee.subscriptions[kind].removeValue(forKey: channel) else { return }
        let last = channel.pointee.subscribers.removeLast()
        if last != client {
            channel.pointee.subscribers[place.index] = last
            last.pointee.subscriptions[kind][channel]?.index = place.index
        }
        if channel.pointee.subscribers.isEmpty { pubSub[kind].pointee.remove(channel) }
        if client.pointee.subscriptions.isEmpty { client.pointee.flags.remove(.subscriber) }
        updateKeyEventInterest()
    }

    // MARK: Publishing

    /// Delivers a message to those who have subscribed here. - Returns: how many times.
    mutating func publish(
        _ message: UnsafeRawBufferPointer, to name: UnsafeRawBufferPointer, isSharded: Bool
    ) -> Int {
        var receiverCount = 0
        if let channel = pubSub[isSharded ? .shard : .channel].pointee.find(name, hash: keyspace.hash(name)) {
            pubSub.message.array(3)
            if isSharded { pubSub.message.bulk("smessage") } else { pubSub.message.bulk("message") }
            pubSub.message.bulk(name)
            pubSub.message.bulk(message)
            receiverCount += deliver(to: channel)
        }
        let patterns = pubSub[.pattern]
        if isSharded || patterns.pointee.count == 0 { return receiverCount }
        patterns.pointee.forEach { pattern in
            let matches = pattern.pointee.name.withUnsafeBytes { globMatches(pattern: $0, text: name) }
            guard matches else { return }
            pubSub.message.array(4)
            pubSub.message.bulk("pmessage")
            pubSub.message.bulk(pattern.pointee.name)
            pubSub.message.bulk(name)
            pubSub.message.bulk(message)
            receiverCount += deliver(to: pattern)
        }
        return receiverCount
    }

    private mutating func deliver(to channel: ChannelPointer) -> Int {
        let message = pubSub.message.bytes
        let subscribers = channel.pointee.subscribers
        for client in subscribers { deliver(message, to: client, asPush: true) }
        pubSub.message.removeAll()
        return subscribers.count
    }

    /// A message from the cluster bus.
    package mutating func published(_ message: [UInt8], to channel: [UInt8], isSharded: Bool) {
        message.withUnsafeBytes { message in
            channel.withUnsafeBytes { channel in _ = publish(message, to: channel, isSharded: isSharded) }
        }
    }

    /// Slots have left this shard: who has subscribed to a channel of theirs has to do so elsewhere.
    /// (removeChannelsInSlot)
    package mutating func dropShardChannels(inSlots slots: [HashSlot]) {
        guard pubSub[.shard].pointee.count > 0 else { return }
        let slots = Set(slots)
        var dropped: [ChannelPointer] = []
        pubSub[.shard].pointee.forEach { if slots.contains($0.pointee.slot) { dropped.append($0) } }
        for channel in dropped {
            let (name, subscribers) = (channel.pointee.name, channel.pointee.subscribers)
            for client in subscribers {
                removeSubscription(client, channel, .shard)
                name.withUnsafeBytes {
                    Self.write(unsubscriptionFrom: $0, .shard, client, to: &pubSub.message)
                }
                deliver(pubSub.message.bytes, to: client, asPush: true)
                pubSub.message.removeAll()
            }
        }
    }
}
