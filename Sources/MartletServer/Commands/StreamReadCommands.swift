import MartletBase
import MartletKeyspace
import MartletRESP

// XREAD and XREADGROUP: what is new in some streams, with a wait if there is nothing.
//
// XREADGROUP is never propagated as it was sent: what it hands out goes into the log as XCLAIMs, which say who has which
// entry, and with NOACK as XGROUP SETID.
//
// Source: t_stream.c (xreadCommand, streamReplyWithRange) and blocked.c of Redis 7.0.

extension Command {
    static let xread = Command(
        "XREAD", since: "5.0.0", arity: .atLeast(4), flags: [.blocking, .readonly],
        keys: [
            KeySpec(
                [.readOnly, .access], begin: .keyword("STREAMS", startFrom: 1),
                find: .range(last: -1, step: 1, limit: 2))
        ],
        arguments: "[COUNT count:integer] [BLOCK milliseconds:integer] STREAMS streams={key... id...}",
        complexity: """
            For each stream mentioned: O(N) with N being the number of elements being returned, it means that XREAD-ing \
            with a fixed COUNT is O(1). Note that when the BLOCK option is used, XADD will pay O(M) time in order to \
            serve the M clients blocked on the stream getting new data.
            """,
        summary: """
            Return never seen elements in multiple streams, with IDs greater than the ones reported by the caller for \
            each stream. Can block.
            """,
        run: .node { request, node, client throws(ReplyError) in
            try read(request, asGroup: false, &node, client)
        })

    static let xreadgroup = Command(
        "XREADGROUP", since: "5.0.0", arity: .atLeast(7), flags: [.blocking, .write],
        keys: [
            KeySpec(
                [.readOnly, .access], begin: .keyword("STREAMS", startFrom: 4),
                find: .range(last: -1, step: 1, limit: 2))
        ],
        arguments: """
            GROUP group_consumer={group consumer} [COUNT count:integer] [BLOCK milliseconds:integer] [NOACK] \
            STREAMS streams={key... id...}
            """,
        complexity: """
            For each stream mentioned: O(M) with M being the number of elements returned. If M is constant (e.g. always \
            asking for the first 10 elements with COUNT), you can consider it O(1). On the other side when XREADGROUP \
            blocks, XADD will pay the O(N) time in order to serve the N clients blocked on the stream getting new data.
            """,
        summary: """
            Return new entries from a stream using a consumer group, or access the history of the pending entries for a \
            given consumer. Can block.
            """,
        run: .node { request, node, client throws(ReplyError) in
            try read(request, asGroup: true, &node, client)
        })

    private static func read(
        _ request: Request, asGroup: Bool, _ node: inout Node, _ client: ClientPointer
    ) throws(ReplyError) {
        let options = try StreamReadOptions(request, asGroup: asGroup, now: node.time.unixMilliseconds)
        if options.deadline != nil, client.pointee.flags.contains(.script) {
            throw .message("ERR \(String(bytes: request[0])) command is not allowed with BLOCK option from scripts")
        }
        if asGroup { node.keyspace.preventPropagation() }
        // Nothing is handed out before everything is known to be right.
        var only: StreamRead?
        for number in 0..<options.streamCount { only = try options.resolve(number, request, &node.keyspace) }
        let start = client.pointee.reply.count
        let header = client.pointee.reply.deferredAggregate()
        var served = 0
        for number in 0..<options.streamCount {
            let read = options.streamCount == 1 ? only : try options.resolve(number, request, &node.keyspace)
            // Redis always looks twice, and tells of two misses.
            if options.streamCount == 1, read == nil {
                node.keyspace.didMiss(request.key(at: options.streamsStart, in: node.keyspace))
            }
            guard let read, read.hasSomething else { continue }
            served += 1
            if !client.pointee.reply.isRESP3 { client.pointee.reply.array(2) }
            let key = request[options.streamsStart + number]
            client.pointee.reply.bulk(key)
            options.serve(read, key, request, &node.keyspace, &client.pointee.reply)
            if asGroup { node.keyspace.changes &+= 1 }
        }
        if served > 0 {
            if client.pointee.reply.isRESP3 {
                client.pointee.reply.endMap(header, count: served)
            } else {
                client.pointee.reply.endArray(header, count: served)
            }
            return
        }
        client.pointee.reply.truncate(to: start)
        guard let deadline = options.deadline, node.mayBlock(client) else {
            return client.pointee.reply.nullArray()
        }
        wait(request, options, until: deadline, &node, client)
    }

    /// Lets the client wait for entries behind the last ones that there are now.
    private static func wait(
        _ request: Request, _ options: StreamReadOptions, until deadline: Int64, _ node: inout Node,
        _ client: ClientPointer
    ) {
        var arguments = (0..<request.count).map { request[$0] }
        let room = UnsafeMutableRawPointer.allocate(
            byteCount: options.streamCount * StreamID.textBytesMax, alignment: 8)
        defer { room.deallocate() }
        for number in 0..<options.streamCount where request.isCharacter("$", at: options.idIndex(number)) {
            let key = request.key(at: options.streamsStart + number, in: node.keyspace)
            let last = node.keyspace.peek(key)?.stream.lastID ?? .zero
            let text = room + number * StreamID.textBytesMax
            arguments[options.idIndex(number)] = UnsafeRawBufferPointer(start: text, count: last.write(to: text))
        }
        let keys = options.streamsStart..<options.streamsStart + options.streamCount
        let gone = ReplyError.text("UNBLOCKED the stream key no longer exists")
        arguments.withUnsafeMutableBufferPointer { arguments in
            guard let base = arguments.baseAddress else { return }
            node.block(
                client, Request(arguments: base, count: arguments.count), keys: keys, type: .stream, until: deadline,
                whenGone: options.isGroup ? gone : nil
            ) { request, key, entry, keyspace, reply throws(ReplyError) in
                try options.serveWaiting(request, key, entry, &keyspace, &reply)
            }
        }
    }
}

/// A stream that is read, and from where on.
private struct StreamRead {
    let entry: Entry
    let stream: StreamValue
    let group: StreamGroup?
    /// Entries behind it are wanted; the highest one if a group wants what none of its consumers was given.
    let id: StreamID

    var isHistory: Bool { group != nil && id != .max }

    /// Whether the client is answered at once.
    var hasSomething: Bool {
        if isHistory { return true }
        let last = group?.lastID ?? id
        // The last entry may have been deleted.
        guard stream.length > 0, stream.lastID > last, let lastLive = stream.lastLiveID else { return false }
        return lastLive > last
    }
}

/// The options of XREAD and XREADGROUP.
private struct StreamReadOptions: Sendable {
    private(set) var isGroup = false
    /// Entries of each stream at most; 0 for all.
    private var count = 0
    /// When a wait ends, 0 for never; nil without a wait.
    private(set) var deadline: Int64?
    /// XREADGROUP: the group is named here, and behind it the consumer.
    private var groupIndex = 0
    private var keepsNothing = false
    /// Where the keys begin.
    private(set) var streamsStart = 0
    private(set) var streamCount = 0

    /// Entries that a client gets that has waited for them without COUNT. (XREAD_BLOCKED_DEFAULT_COUNT)
    private static let waitingCountMax = 1000

    init(_ request: Request, asGroup: Bool, now: Int64) throws(ReplyError) {
        isGroup = asGroup
        var index = 1
        while streamsStart == 0, index < request.count {
            let following = request.count - index - 1
            if request.matches(index, "BLOCK"), following >= 1 {
                deadline = try request.deadline(milliseconds: index + 1, now: now)
                index += 2
            } else if request.matches(index, "COUNT"), following >= 1 {
                count = Int(max(0, try request.integer(at: index + 1)))
                index += 2
            } else if request.matches(index, "STREAMS"), following >= 1 {
                guard following & 1 == 0 else {
                    throw .text(
                        """
                        ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.
                        """)
                }
                streamsStart = index + 1
                streamCount = following / 2
            } else if request.matches(index, "GROUP"), following >= 2 {
                guard asGroup else {
                    throw .text("ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.")
                }
                groupIndex = index + 1
                index += 3
            } else if request.matches(index, "NOACK") {
                guard asGroup else {
                    throw .text("ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.")
                }
                keepsNothing = true
                index += 1
            } else {
                throw .syntax
            }
        }
        if streamsStart == 0 { throw .syntax }
        if asGroup, groupIndex == 0 { throw .text("ERR Missing GROUP option for XREADGROUP") }
    }

    func idIndex(_ number: Int) -> Int { streamsStart + streamCount + number }

    /// Finds a stream, its group and the ID. - Returns: nil if there is no such key.
    func resolve(
        _ number: Int, _ request: Request, _ keyspace: inout Keyspace
    ) throws(ReplyError) -> StreamRead? {
        let name = request[streamsStart + number]
        let found = try keyspace.streamToRead(keyspace.key(name))
        var group: StreamGroup?
        if isGroup {
            group = found?.stream.group(named: request[groupIndex])
            if group == nil {
                let groupName = ReplyError.quoted(request[groupIndex].cString)
                throw .message(
                    """
                    NOGROUP No such key '\(ReplyError.quoted(name.cString))' or consumer group '\(groupName)' in XREADGROUP \
                    with GROUP option
                    """)
            }
        }
        let index = idIndex(number)
        let id: StreamID
        if request.isCharacter("$", at: index) {
            if isGroup {
                throw .text(
                    """
                    ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this \
                    consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return \
                    an empty result set.
                    """)
            }
            id = found?.stream.lastID ?? .zero
        } else if request.isCharacter(">", at: index) {
            guard isGroup else {
                throw .text(
                    """
                    ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> \
                    option.
                    """)
            }
            id = .max
        } else {
            id = try request.streamID(at: index)
        }
        guard let found else { return nil }
        return StreamRead(entry: found.entry, stream: found.stream, group: group, id: id)
    }

    /// Writes what a client gets of one stream.
    func serve(
        _ read: StreamRead, _ key: UnsafeRawBufferPointer, _ request: Request, _ keyspace: inout Keyspace,
        _ reply: inout ReplyBuffer
    ) {
        let limit = count == 0 ? Int.max : count
        guard let group = read.group else {
            var cursor = read.stream.entries(from: read.id.next ?? .zero)
            _ = reply.streamEntries(&cursor, limit: limit, of: read.stream)
            return
        }
        keyspace.willModify(read.entry)
        let consumer = consumer(of: group, key, request, &keyspace)
        if read.isHistory {
            replyHistory(
                of: consumer, group, read.stream, from: read.id.next ?? .zero, limit: limit, now: keyspace.now, &reply)
        } else {
            replyNew(to: consumer, group, read.stream, key, request, limit: limit, &keyspace, &reply)
        }
    }

    /// Serves a client that waits. - Returns: whether there is anything for it.
    func serveWaiting(
        _ request: Request, _ key: Key, _ entry: Entry, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) -> Bool {
        if isGroup { keyspace.preventPropagation() }
        let stream = entry.stream
        var number = 0
        while number < streamCount - 1, !request[streamsStart + number].elementsEqual(key.bytes) { number += 1 }
        let group = isGroup ? stream.group(named: request[groupIndex]) : nil
        let last: StreamID
        if let group {
            last = group.lastID
        } else if isGroup {
            throw .text("NOGROUP the consumer group this client was blocked on no longer exists")
        } else {
            last = try request.streamID(at: idIndex(number))
        }
        guard stream.lastID > last else { return false }
        if reply.isRESP3 {
            reply.map(1)
        } else {
            reply.array(1)
            reply.array(2)
        }
        reply.bulk(key.bytes)
        var options = self
        if count == 0 { options.count = Self.waitingCountMax }
        let read = StreamRead(entry: entry, stream: stream, group: group, id: group == nil ? last : .max)
        options.serve(read, key.bytes, request, &keyspace, &reply)
        return true
    }

    private func consumer(
        of group: StreamGroup, _ key: UnsafeRawBufferPointer, _ request: Request, _ keyspace: inout Keyspace
    ) -> StreamConsumer {
        let name = request[groupIndex + 1]
        let (consumer, isNew) = keyspace.consumer(named: name, of: group, key)
        if isNew, keepsNothing, keyspace.propagation.isOn {
            keyspace.propagation.append(
                database: keyspace.selected, StaticString("XGROUP").bytes, StaticString("CREATECONSUMER").bytes, key,
                request[groupIndex], name)
        }
        return consumer
    }

    /// Entries that no consumer of the group was given.
    private func replyNew(
        to consumer: StreamConsumer, _ group: StreamGroup, _ stream: StreamValue, _ key: UnsafeRawBufferPointer,
        _ request: Request, limit: Int, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) {
        var hasAdvanced = false
        var number = 0
        let start = reply.deferredAggregate()
        var cursor = stream.unreadEntries(of: group)
        while number < limit, cursor.next() {
            let id = cursor.id
            if stream.advance(group, to: id) { hasAdvanced = true }
            reply.streamEntry(&cursor)
            stream.noteRead(group, cursor)
            number += 1
            if keepsNothing { continue }
            // After XGROUP SETID somebody may have it already.
            let delivery = PendingEntry(id: id, deliveredAt: keyspace.now, deliveryCount: 1, consumer: consumer)
            group.setPending(delivery)
            if keyspace.propagation.isOn {
                id.withText { keyspace.propagateClaim(of: delivery, $0, key, request[groupIndex], group) }
            }
        }
        reply.endArray(start, count: number)
        if hasAdvanced, keepsNothing { keyspace.propagateLastID(of: group, key, request[groupIndex]) }
    }

    /// Entries that this consumer was given and has not acknowledged; nothing instead of those that are no longer there.
    private func replyHistory(
        of consumer: StreamConsumer, _ group: StreamGroup, _ stream: StreamValue, from lowest: StreamID, limit: Int,
        now: Int64, _ reply: inout ReplyBuffer
    ) {
        var number = 0
        let start = reply.deferredAggregate()
        var pending = group.pendingEntries(from: lowest, of: consumer)
        while number < limit, var delivery = group.next(&pending) {
            number += 1
            var cursor = stream.entries(from: delivery.id, to: delivery.id)
            guard cursor.next() else {
                reply.array(2)
                reply.bulk(delivery.id)
                reply.nullArray()
                continue
            }
            reply.streamEntry(&cursor)
            delivery.deliveredAt = now
            delivery.deliveryCount &+= 1
            group.setPending(delivery)
        }
        reply.endArray(start, count: number)
    }
}
