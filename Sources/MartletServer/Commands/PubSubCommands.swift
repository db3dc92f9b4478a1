import MartletBase
import MartletKeyspace
import MartletRESP

// Publish and subscribe as clients see it; the story is in PubSub/PubSub.swift.

extension CommandFamily {
    static let pubSub = CommandFamily(
        .pubsub,
        [
            .subscribe, .unsubscribe, .psubscribe, .punsubscribe, .ssubscribe, .sunsubscribe, .publish, .spublish,
            .pubsub,
        ])
}

// MARK: Subscribing

extension Command {
    /// Flags of the commands that change what a client has subscribed to.
    private static let subscribing: CommandFlags = [.pubsub, .noScript, .loading, .stale]
    private static let shardChannels: [KeySpec] = [.all(from: 1, [.notKey])]

    static let subscribe = Command(
        "SUBSCRIBE", since: "2.0.0", arity: .atLeast(2), flags: subscribing, arguments: "channel...",
        complexity: "O(N) where N is the number of channels to subscribe to.",
        summary: "Listen for messages published to the given channels",
        run: .node { request, node, client throws(ReplyError) in
            for index in 1..<request.count { node.subscribe(client, to: request[index], .channel) }
        })

    static let unsubscribe = Command(
        "UNSUBSCRIBE", since: "2.0.0", arity: .atLeast(1), flags: subscribing, arguments: "[channel...]",
        complexity: "O(N) where N is the number of clients already subscribed to a channel.",
        summary: "Stop listening for messages posted to the given channels",
        run: .node { request, node, client throws(ReplyError) in node.unsubscribe(client, request, .channel) })

    static let psubscribe = Command(
        "PSUBSCRIBE", since: "2.0.0", arity: .atLeast(2), flags: subscribing, arguments: "pattern={pattern:pattern}...",
        complexity: "O(N) where N is the number of patterns the client is already subscribed to.",
        summary: "Listen for messages published to channels matching the given patterns",
        run: .node { request, node, client throws(ReplyError) in
            for index in 1..<request.count { node.subscribe(client, to: request[index], .pattern) }
        })

    static let punsubscribe = Command(
        "PUNSUBSCRIBE", since: "2.0.0", arity: .atLeast(1), flags: subscribing, arguments: "[pattern:pattern...]",
        complexity: """
            O(N+M) where N is the number of patterns the client is already subscribed and M is the number of total \
            patterns subscribed in the system (by any client).
            """,
        summary: "Stop listening for messages posted to channels matching the given patterns",
        run: .node { request, node, client throws(ReplyError) in node.unsubscribe(client, request, .pattern) })

    static let ssubscribe = Command(
        "SSUBSCRIBE", since: "7.0.0", arity: .atLeast(2), flags: subscribing, keys: shardChannels,
        arguments: "shardchannel...", complexity: "O(N) where N is the number of shard channels to subscribe to.",
        summary: "Listen for messages published to the given shard channels",
        run: .node { request, node, client throws(ReplyError) in
            // (CLIENT_DENY_BLOCKING; the other two are let through as they always were)
            if client.pointee.flags.contains(.executing) {
                throw .text("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client")
            }
            for index in 1..<request.count { node.subscribe(client, to: request[index], .shard) }
        })

    static let sunsubscribe = Command(
        "SUNSUBSCRIBE", since: "7.0.0", arity: .atLeast(1), flags: subscribing, keys: shardChannels,
        arguments: "[shardchannel...]",
        complexity: "O(N) where N is the number of clients already subscribed to a shard channel.",
        summary: "Stop listening for messages posted to the given shard channels",
        run: .node { request, node, client throws(ReplyError) in node.unsubscribe(client, request, .shard) })
}

extension Node {
    fileprivate mutating func unsubscribe(_ client: ClientPointer, _ request: Request, _ kind: SubscriptionKind) {
        if request.count == 1 { unsubscribe(client, fromAll: kind) }
        for index in 1..<request.count { unsubscribe(client, from: request[index], kind) }
    }
}

// MARK: Publishing

extension Command {
    private static let publishing: CommandFlags = [.pubsub, .loading, .stale, .fast, .mayReplicate]

    static let publish = Command(
        "PUBLISH", since: "2.0.0", arity: .exactly(3), flags: publishing, arguments: "channel message",
        complexity: """
            O(N+M) where N is the number of clients subscribed to the receiving channel and M is the total number of \
            subscribed patterns (by any client).
            """,
        summary: "Post a message to a channel",
        run: .node { request, node, client throws(ReplyError) in
            client.pointee.reply.integer(node.publish(request, isSharded: false))
        })

    static let spublish = Command(
        "SPUBLISH", since: "7.0.0", arity: .exactly(3), flags: publishing, keys: [.one(at: 1, [.notKey])],
        arguments: "shardchannel message",
        complexity: "O(N) where N is the number of clients subscribed to the receiving shard channel.",
        summary: "Post a message to a shard channel",
        run: .node { request, node, client throws(ReplyError) in
            client.pointee.reply.integer(node.publish(request, isSharded: true))
        })
}

extension Node {
    /// Publishes here, and hands the message on to other nodes. - Returns: how many clients of this node got it.
    fileprivate mutating func publish(_ request: Request, isSharded: Bool) -> Int {
        let receiverCount = publish(request[2], to: request[1], isSharded: isSharded)
        if isClustered {
            effects.append(
                .publish(channel: Array(request[1]), message: Array(request[2]), isSharded: isSharded))
        } else {
            keyspace.propagateInstead(request[0], request[1], request[2])
        }
        return receiverCount
    }
}

// MARK: Asking

extension Command {
    static let pubsub = Command(
        "PUBSUB", since: "2.8.0", arity: .atLeast(2), complexity: "Depends on subcommand.",
        summary: "A container for Pub/Sub commands",
        subcommands: [
            pubsubChannels, pubsubHelp, pubsubNumpat, pubsubNumsub, pubsubShardChannels, pubsubShardNumsub,
        ], run: .container)

    private static let introspecting: CommandFlags = [.pubsub, .loading, .stale]

    private static let pubsubChannels = Command(
        "CHANNELS", since: "2.8.0", arity: .atLeast(2), flags: introspecting, arguments: "[pattern:pattern]",
        complexity: """
            O(N) where N is the number of active channels, and assuming constant time pattern matching (relatively \
            short channels and patterns)
            """,
        summary: "List active channels",
        run: .node { request, node, client throws(ReplyError) in try node.tellNames(request, .channel, client) })

    private static let pubsubShardChannels = Command(
        "SHARDCHANNELS", since: "7.0.0", arity: .atLeast(2), flags: introspecting, arguments: "[pattern:pattern]",
        complexity: """
            O(N) where N is the number of active shard channels, and assuming constant time pattern matching \
            (relatively short shard channels).
            """,
        summary: "List active shard channels",
        run: .node { request, node, client throws(ReplyError) in try node.tellNames(request, .shard, client) })

    private static let pubsubNumsub = Command(
        "NUMSUB", since: "2.8.0", arity: .atLeast(2), flags: introspecting, arguments: "[channel...]",
        complexity: "O(N) for the NUMSUB subcommand, where N is the number of requested channels",
        summary: "Get the count of subscribers for channels",
        run: .node { request, node, client throws(ReplyError) in node.tellCounts(request, .channel, client) })

    private static let pubsubShardNumsub = Command(
        "SHARDNUMSUB", since: "7.0.0", arity: .atLeast(2), flags: introspecting, arguments: "[shardchannel...]",
        complexity: "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels",
        summary: "Get the count of subscribers for shard channels",
        run: .node { request, node, client throws(ReplyError) in node.tellCounts(request, .shard, client) })

    private static let pubsubNumpat = Command(
        "NUMPAT", since: "2.8.0", arity: .exactly(2), flags: introspecting, complexity: "O(1)",
        summary: "Get the count of unique patterns pattern subscriptions",
        run: .node { request, node, client throws(ReplyError) in
            client.pointee.reply.integer(node.pubSub[.pattern].pointee.count)
        })

    private static let pubsubHelp = help(
        since: "6.2.0", categories: ["-pubsub"],
        [
            "CHANNELS [<pattern>]",
            "    Return the currently active channels matching a <pattern> (default: '*').",
            "NUMPAT",
            "    Return number of subscriptions to patterns.",
            "NUMSUB [<channel> ...]",
            "    Return the number of subscribers for the specified channels, excluding",
            "    pattern subscriptions(default: no channels).",
            "SHARDCHANNELS [<pattern>]",
            "    Return the currently active shard level channels matching a <pattern> (default: '*').",
            "SHARDNUMSUB [<shardchannel> ...]",
            "    Return the number of subscribers for the specified shard level channel(s)",
        ])
}

extension Node {
    fileprivate func tellNames(
        _ request: Request, _ kind: SubscriptionKind, _ client: ClientPointer
    ) throws(ReplyError) {
        guard request.count <= 3 else { throw request.unknownSubcommand }
        let start = client.pointee.reply.deferredAggregate()
        var count = 0
        pubSub[kind].pointee.forEach { channel in
            channel.pointee.name.withUnsafeBytes { name in
                if request.count == 3, !globMatches(pattern: request[2], text: name) { return }
                client.pointee.reply.bulk(name)
                count += 1
            }
        }
        client.pointee.reply.endArray(start, count: count)
    }

    fileprivate func tellCounts(_ request: Request, _ kind: SubscriptionKind, _ client: ClientPointer) {
        client.pointee.reply.array((request.count - 2) * 2)
        for index in 2..<request.count {
            let channel = pubSub[kind].pointee.find(request[index], hash: keyspace.hash(request[index]))
            client.pointee.reply.bulk(request[index])
            client.pointee.reply.integer(channel?.pointee.subscribers.count ?? 0)
        }
    }
}
