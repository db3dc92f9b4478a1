import MartletBase
import MartletKeyspace
import MartletRESP

// Consumer groups: making them, acknowledging, listing and taking over what is pending.
//
// What changes only a group does not count as a change of the key for WATCH, as in Redis.
//
// Source: t_stream.c of Redis 7.0; XDELEX and XACKDEL by the documentation of Redis 8.2.

// MARK: Groups and consumers

extension Command {
    static let xgroup = Command(
        "XGROUP", since: "5.0.0", arity: .atLeast(2), complexity: "Depends on subcommand.",
        summary: "A container for consumer groups commands",
        subcommands: [
            .xgroupCreate, .xgroupSetid, .xgroupDestroy, .xgroupCreateconsumer, .xgroupDelconsumer, .xgroupHelp,
        ],
        run: .container)

    private static let xgroupCreate = Command(
        "CREATE", since: "5.0.0", arity: .atLeast(5), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 2, [.readWrite, .insert])],
        arguments: """
            key groupname id=<id|new_id=$> [MKSTREAM] [entries_read=ENTRIESREAD entries_read:integer]
            """,
        history: [("7.0.0", "Added the `entries_read` named argument.")],
        complexity: "O(1)", summary: "Create a consumer group.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let options = try StreamGroupOptions(request, mayMakeStream: true)
            let key = request.key(at: 2, in: keyspace)
            let found = try keyspace.streamToChange(key)
            if found == nil, !options.makesStream { throw .streamMustExist }
            guard request.count <= 8 else { throw request.unknownSubcommand }
            let id =
                request.isCharacter("$", at: 4) ? found?.stream.lastID ?? .zero : try request.streamID(at: 4)
            let entry = found?.entry ?? keyspace.insert(key, StreamValue.make())
            if found != nil { keyspace.willModify(entry) }
            guard
                entry.stream.makeGroup(request[3], lastID: id, entriesRead: options.entriesRead) != nil
            else { throw .text("BUSYGROUP Consumer Group name already exists") }
            reply.ok()
            if found == nil {
                keyspace.didModify(.groupCreate, key)
            } else {
                keyspace.didModifyGroups(.groupCreate, key)
            }
        })

    private static let xgroupSetid = Command(
        "SETID", since: "5.0.0", arity: .atLeast(5), flags: [.write], keys: [.one(at: 2, [.readWrite, .update])],
        arguments: "key groupname id=<id|new_id=$> [entries_read=ENTRIESREAD entries_read:integer]",
        history: [("7.0.0", "Added the optional `entries_read` argument.")],
        complexity: "O(1)", summary: "Set a consumer group to an arbitrary last delivered ID value.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let options = try StreamGroupOptions(request, mayMakeStream: false)
            let key = request.key(at: 2, in: keyspace)
            let (entry, stream, group) = try keyspace.groupToChange(key, request)
            guard request.count == 5 || request.count == 7 else { throw request.unknownSubcommand }
            let id =
                request.isCharacter("$", at: 4)
                ? stream.lastID : try request.streamID(at: 4, allowsEnds: true)
            keyspace.willModify(entry)
            group.lastID = id
            group.entriesRead = options.entriesRead
            reply.ok()
            keyspace.didModifyGroups(.groupSetID, key)
        })

    private static let xgroupDestroy = Command(
        "DESTROY", since: "5.0.0", arity: .exactly(4), flags: [.write], keys: [.one(at: 2, [.readWrite, .delete])],
        arguments: "key groupname",
        complexity: "O(N) where N is the number of entries in the group's pending entries list (PEL).",
        summary: "Destroy a consumer group.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let key = request.key(at: 2, in: keyspace)
            guard let (entry, stream) = try keyspace.streamToChange(key) else { throw .streamMustExist }
            guard stream.group(named: request[3]) != nil else { return reply.integer(0) }
            keyspace.willModify(entry)
            if let remains = stream.removeGroup(request[3]) { keyspace.discard(remains) }
            reply.integer(1)
            keyspace.didModifyGroups(.groupDestroy, key)
            // Whoever waits for entries as a consumer of the group waits in vain.
            keyspace.noteReady(WatchedKey(database: keyspace.selected, key: Array(key.bytes)))
        })

    private static let xgroupCreateconsumer = Command(
        "CREATECONSUMER", since: "6.2.0", arity: .exactly(5), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 2, [.readWrite, .insert])], arguments: "key groupname consumername",
        complexity: "O(1)", summary: "Create a consumer in a consumer group.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let key = request.key(at: 2, in: keyspace)
            let (entry, _, group) = try keyspace.groupToChange(key, request)
            keyspace.willModify(entry)
            guard group.makeConsumer(request[4], seenAt: keyspace.now) != nil else { return reply.integer(0) }
            reply.integer(1)
            keyspace.didModifyGroups(.consumerCreate, key)
        })

    private static let xgroupDelconsumer = Command(
        "DELCONSUMER", since: "5.0.0", arity: .exactly(5), flags: [.write],
        keys: [.one(at: 2, [.readWrite, .delete])], arguments: "key groupname consumername",
        complexity: "O(1)", summary: "Delete a consumer from a consumer group.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let key = request.key(at: 2, in: keyspace)
            let (entry, _, group) = try keyspace.groupToChange(key, request)
            guard let consumer = group.consumer(named: request[4]) else { return reply.integer(0) }
            keyspace.willModify(entry)
            reply.integer(consumer.pendingCount)
            group.remove(consumer)
            keyspace.didModifyGroups(.consumerDelete, key)
        })

    private static let xgroupHelp = Command(
        "HELP", since: "5.0.0", arity: .exactly(2), flags: [.loading, .stale], complexity: "O(1)",
        summary: "Show helpful text about the different subcommands",
        run: .data { request, keyspace, reply throws(ReplyError) in
            reply.help(
                request,
                [
                    "CREATE <key> <groupname> <id|$> [option]",
                    "    Create a new consumer group. Options are:",
                    "    * MKSTREAM",
                    "      Create the empty stream if it does not exist.",
                    "    * ENTRIESREAD entries_read",
                    "      Set the group's entries_read counter (internal use).",
                    "CREATECONSUMER <key> <groupname> <consumer>",
                    "    Create a new consumer in the specified group.",
                    "DELCONSUMER <key> <groupname> <consumer>",
                    "    Remove the specified consumer.",
                    "DESTROY <key> <groupname>",
                    "    Remove the specified group.",
                    "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
                    "    Set the current group ID and entries_read counter.",
                ])
        })
}

/// The options of XGROUP CREATE and SETID.
private struct StreamGroupOptions {
    var makesStream = false
    var entriesRead = StreamGroup.unknownEntriesRead

    init(_ request: Request, mayMakeStream: Bool) throws(ReplyError) {
        var index = 5
        while index < request.count {
            if mayMakeStream, request.matches(index, "MKSTREAM") {
                makesStream = true
                index += 1
            } else if request.matches(index, "ENTRIESREAD"), index + 1 < request.count {
                entriesRead = try request.integer(at: index + 1)
                if entriesRead < 0, entriesRead != StreamGroup.unknownEntriesRead {
                    throw .text("ERR value for ENTRIESREAD must be positive or -1")
                }
                index += 2
            } else {
                throw request.unknownSubcommand
            }
        }
    }
}

extension ReplyError {
    fileprivate static let streamMustExist = ReplyError.text(
        """
        ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option \
        to create an empty stream automatically.
        """)
}

extension Request {
    /// What most commands say when the key at index 1 or the group at index 2 is not there.
    fileprivate var noSuchKeyOrGroup: ReplyError {
        let (key, group) = (ReplyError.quoted(self[1].cString), ReplyError.quoted(self[2].cString))
        return .message("NOGROUP No such key '\(key)' or consumer group '\(group)'")
    }
}

// MARK: Pending entries

extension Command {
    static let xack = Command(
        "XACK", since: "5.0.0", arity: .atLeast(4), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .update])], arguments: "key group id...",
        complexity: "O(1) for each message ID processed.",
        summary: """
            Marks a pending message as correctly processed, effectively removing it from the pending entries list of the \
            consumer group. Return value of the command is the number of messages successfully acknowledged, that is, \
            the IDs we were actually able to resolve in the PEL.
            """,
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let (entry, stream) = try keyspace.streamToRead(request.firstKey),
                let group = stream.group(named: request[2])
            else { return reply.integer(0) }
            try request.checkStreamIDs(from: 3)
            keyspace.willModify(entry)
            var acknowledged = 0
            for index in 3..<request.count where group.removePending(try request.streamID(at: index)) {
                acknowledged += 1
            }
            keyspace.changes &+= Int64(acknowledged)
            reply.integer(acknowledged)
        })

    static let xpending = Command(
        "XPENDING", since: "5.0.0", arity: .atLeast(3), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])], tips: ["nondeterministic_output"],
        arguments: "key group [filters={[IDLE min-idle-time:integer@6.2.0] start end count:integer [consumer]}]",
        history: [("6.2.0", "Added the `IDLE` option and exclusive range intervals.")],
        complexity: """
            O(N) with N being the number of elements returned, so asking for a small fixed number of entries per call is \
            O(1). O(M), where M is the total number of entries scanned when used with the IDLE filter. When the command \
            returns just the summary and the list of consumers is small, it runs in O(1) time; otherwise, an additional \
            O(N) time for iterating every consumer.
            """,
        summary: """
            Return information and entries from a stream consumer group pending entries list, that are messages fetched \
            but never acknowledged.
            """,
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard request.count == 3 || (6...9).contains(request.count) else { throw .syntax }
            var idleMin: Int64 = 0
            var (count, lowest, highest) = (0, StreamID.zero, StreamID.max)
            var first = 3
            if request.count > 3 {
                if request.matches(3, "IDLE") {
                    idleMin = try request.integer(at: 4)
                    guard request.count >= 8 else { throw .syntax }
                    first = 5
                }
                count = Int(max(0, try request.integer(at: first + 2)))
                lowest = try request.intervalStart(at: first)
                highest = try request.intervalEnd(at: first + 1)
            }
            guard let stream = try keyspace.streamToRead(request.firstKey)?.stream,
                let group = stream.group(named: request[2])
            else { throw request.noSuchKeyOrGroup }
            if request.count == 3 { return reply.pendingSummary(of: group) }
            var consumer: StreamConsumer?
            if first + 3 < request.count {
                consumer = group.consumer(named: request[first + 3])
                if consumer == nil { return reply.array(0) }
            }
            let start = reply.deferredAggregate()
            var number = 0
            var cursor = group.pendingEntries(from: lowest, of: consumer)
            while number < count, let delivery = group.next(&cursor), delivery.id <= highest {
                let idle = keyspace.now &- delivery.deliveredAt
                if idleMin != 0, idle < idleMin { continue }
                number += 1
                reply.array(4)
                reply.bulk(delivery.id)
                reply.bulk(delivery.consumer.name)
                reply.integer(max(0, idle))
                reply.integer(delivery.deliveryCount)
            }
            reply.endArray(start, count: number)
        })

    static let xclaim = Command(
        "XCLAIM", since: "5.0.0", arity: .atLeast(6), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .update])], tips: ["nondeterministic_output"],
        arguments: """
            key group consumer min-idle-time id... [IDLE ms:integer] [TIME unix-time-milliseconds:unix-time] \
            [RETRYCOUNT count:integer] [FORCE] [JUSTID] [LASTID id]
            """,
        complexity: "O(log N) with N being the number of messages in the PEL of the consumer group.",
        summary: """
            Changes (or acquires) ownership of a message in a consumer group, as if the message was delivered to the \
            specified consumer.
            """,
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let (entry, stream) = try keyspace.streamToRead(request.firstKey),
                let group = stream.group(named: request[2])
            else { throw request.noSuchKeyOrGroup }
            let options = try StreamClaimOptions(request, now: keyspace.now)
            keyspace.willModify(entry)
            var claim = StreamClaim(stream, group, request, justIDs: options.justIDs)
            claim.idleMin = options.idleMin
            claim.deliveredAt = options.deliveredAt
            claim.deliveryCount = options.deliveryCount
            claim.mayMakeEntries = options.isForced
            let isLastIDOpen = options.lastID > group.lastID
            if isLastIDOpen { group.lastID = options.lastID }
            let start = reply.deferredAggregate()
            var claimed = 0
            for index in 5..<options.idsEnd {
                // The ID is propagated as it was written.
                let outcome = claim.take(try request.streamID(at: index), request[index], &keyspace, &reply)
                if outcome == .claimed { claimed += 1 }
            }
            reply.endArray(start, count: claimed)
            // Otherwise each XCLAIM says so.
            if isLastIDOpen, !claim.hasPropagated {
                keyspace.propagateLastID(of: group, request[1], request[2])
                keyspace.changes &+= 1
            }
            keyspace.preventPropagation()
        })

    static let xautoclaim = Command(
        "XAUTOCLAIM", since: "6.2.0", arity: .atLeast(6), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .delete])], tips: ["nondeterministic_output"],
        arguments: "key group consumer min-idle-time start [COUNT count:integer] [JUSTID]",
        history: [
            (
                "7.0.0",
                "Added an element to the reply array, containing deleted entries the command cleared from the PEL"
            )
        ],
        complexity: "O(1) if COUNT is small.",
        summary: """
            Changes (or acquires) ownership of messages in a consumer group, as if the messages were delivered to the \
            specified consumer.
            """,
        run: .data { request, keyspace, reply throws(ReplyError) in
            let found = keyspace.lookupRead(request.firstKey)
            guard let idleMin = parseInt64(request[4]) else {
                throw .text("ERR Invalid min-idle-time argument for XAUTOCLAIM")
            }
            let lowest = try request.intervalStart(at: 5)
            var (count, justIDs) = (100, false)
            var index = 6
            while index < request.count {
                if request.matches(index, "COUNT"), index + 1 < request.count {
                    index += 1
                    guard let number = parseInt64(request[index]), number >= 1, number <= Int64.max / 16 else {
                        throw .text("ERR COUNT must be > 0")
                    }
                    count = Int(number)
                } else if request.matches(index, "JUSTID") {
                    justIDs = true
                } else {
                    throw .syntax
                }
                index += 1
            }
            if let found, found.type != .stream { throw .wrongType }
            guard let found, let group = found.stream.group(named: request[2]) else {
                throw request.noSuchKeyOrGroup
            }
            keyspace.willModify(found)
            var claim = StreamClaim(found.stream, group, request, justIDs: justIDs)
            claim.idleMin = max(0, idleMin)
            claim.deliveredAt = keyspace.now

            reply.array(3)
            let next = reply.deferredAggregate()
            let start = reply.deferredAggregate()
            var claimed = 0
            var deleted: [StreamID] = []
            var cursor = group.pendingEntries(from: lowest)
            var isAtEnd = false
            // Entries that are not idle are looked at as well, ten for each that is wanted.
            var attempts = count * 10
            while attempts > 0, claimed + deleted.count < count {
                attempts -= 1
                guard let delivery = group.next(&cursor) else {
                    isAtEnd = true
                    break
                }
                let id = delivery.id
                switch id.withText({ claim.take(id, $0, &keyspace, &reply) }) {
                case .claimed: claimed += 1
                case .refused: break
                case .deleted:
                    deleted.append(id)
                    cursor = group.pendingEntries(from: id)
                }
            }
            reply.endArray(start, count: claimed)
            let end = reply.count
            reply.bulk(isAtEnd ? .zero : group.next(&cursor)?.id ?? .zero)
            reply.moveToFront(next, from: end)
            reply.array(deleted.count)
            for id in deleted { reply.bulk(id) }
            keyspace.preventPropagation()
        })
}

/// The options of XCLAIM.
private struct StreamClaimOptions {
    let idleMin: Int64
    /// Behind the last ID.
    let idsEnd: Int
    private(set) var deliveredAt: Int64
    private(set) var deliveryCount: Int64?
    private(set) var isForced = false
    private(set) var justIDs = false
    private(set) var lastID = StreamID.zero

    init(_ request: Request, now: Int64) throws(ReplyError) {
        guard let idle = parseInt64(request[4]) else {
            throw .text("ERR Invalid min-idle-time argument for XCLAIM")
        }
        idleMin = max(0, idle)
        var index = 5
        // What is no ID is an option.
        while index < request.count, StreamID.parse(request[index]) != nil { index += 1 }
        idsEnd = index
        var time: Int64 = -1
        while index < request.count {
            let hasMore = index + 1 < request.count
            if request.matches(index, "FORCE") {
                isForced = true
            } else if request.matches(index, "JUSTID") {
                justIDs = true
            } else if request.matches(index, "IDLE"), hasMore {
                index += 1
                guard let idle = parseInt64(request[index]) else {
                    throw .text("ERR Invalid IDLE option argument for XCLAIM")
                }
                time = now &- idle
            } else if request.matches(index, "TIME"), hasMore {
                index += 1
                guard let given = parseInt64(request[index]) else {
                    throw .text("ERR Invalid TIME option argument for XCLAIM")
                }
                time = given
            } else if request.matches(index, "RETRYCOUNT"), hasMore {
                index += 1
                guard let count = parseInt64(request[index]) else {
                    throw .text("ERR Invalid RETRYCOUNT option argument for XCLAIM")
                }
                deliveryCount = count >= 0 ? count : nil
            } else if request.matches(index, "LASTID"), hasMore {
                index += 1
                lastID = try request.streamID(at: index)
            } else {
                throw .message("ERR Unrecognized XCLAIM option '\(ReplyError.quoted(request[index].cString))'")
            }
            index += 1
        }
        // Clients compute with their own clocks: what makes no sense is now.
        deliveredAt = time < 0 || time > now ? now : time
    }
}

/// One consumer takes pending entries over. What happens is propagated entry by entry.
private struct StreamClaim {
    enum Outcome {
        case claimed
        /// It is not pending, or not for long enough.
        case refused
        /// It is no longer in the stream, and now no longer pending.
        case deleted
    }

    private let stream: StreamValue
    private let group: StreamGroup
    private let request: Request
    private let justIDs: Bool
    /// Milliseconds since the last delivery that an entry must have been pending.
    var idleMin: Int64 = 0
    var deliveredAt: Int64 = 0
    /// Nil to count one more.
    var deliveryCount: Int64?
    /// Entries that are not pending become so.
    var mayMakeEntries = false
    private(set) var hasPropagated = false
    private var consumer: StreamConsumer?

    /// - Parameter request: names key, group and consumer at indexes 1 to 3.
    init(_ stream: StreamValue, _ group: StreamGroup, _ request: Request, justIDs: Bool) {
        self.stream = stream
        self.group = group
        self.request = request
        self.justIDs = justIDs
    }

    mutating func take(
        _ id: StreamID, _ idText: UnsafeRawBufferPointer, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) -> Outcome {
        let old = group.pending(id)
        var cursor = stream.entries(from: id, to: id)
        guard cursor.next() else {
            guard let old else { return .refused }
            propagate(old, idText, &keyspace)
            _ = group.removePending(id)
            return .deleted
        }
        if old == nil, !mayMakeEntries { return .refused }
        if let old, idleMin > 0, keyspace.now &- old.deliveredAt < idleMin { return .refused }
        let consumer = self.consumer ?? keyspace.consumer(named: request[3], of: group, request[1]).consumer
        self.consumer = consumer
        let count = deliveryCount ?? (old?.deliveryCount ?? 1) &+ (justIDs ? 0 : 1)
        let delivery = PendingEntry(id: id, deliveredAt: deliveredAt, deliveryCount: count, consumer: consumer)
        group.setPending(delivery)
        if justIDs { reply.bulk(id) } else { reply.streamEntry(&cursor) }
        propagate(delivery, idText, &keyspace)
        return .claimed
    }

    private mutating func propagate(
        _ delivery: PendingEntry, _ idText: UnsafeRawBufferPointer, _ keyspace: inout Keyspace
    ) {
        hasPropagated = true
        keyspace.changes &+= 1
        keyspace.propagateClaim(of: delivery, idText, request[1], request[2], group)
    }
}

// MARK: Deleting with regard to groups

extension Command {
    static let xdelex = Command(
        "XDELEX", since: "8.2.0", arity: .atLeast(5), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .delete])],
        arguments: "key [condition=<KEEPREF|DELREF|ACKED>] IDS ids={numids:integer id...}",
        complexity: "O(1) for each single item to delete in the stream, regardless of the stream size.",
        summary: "Deletes one or multiple entries from the stream.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let options = try StreamDeleteOptions(request, from: 2)
            let key = request.firstKey
            let found = try keyspace.streamToChange(key)
            reply.array(options.ids.count)
            guard let (entry, stream) = found else {
                for _ in options.ids { reply.integer(-1) }
                return
            }
            keyspace.willModify(entry)
            keyspace.preventPropagation()
            var deleted = 0
            for index in options.ids {
                let id = try request.streamID(at: index)
                switch options.delete(id, of: stream, key, &keyspace) {
                case .some(true):
                    deleted += 1
                    reply.integer(1)
                case .some(false): reply.integer(2)
                case .none: reply.integer(-1)
                }
            }
            if deleted > 0 { keyspace.didModify(.streamDelete, key, changes: deleted) }
        })

    static let xackdel = Command(
        "XACKDEL", since: "8.2.0", arity: .atLeast(6), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .update, .delete])],
        arguments: "key group [condition=<KEEPREF|DELREF|ACKED>] IDS ids={numids:integer id...}",
        complexity: "O(1) for each message ID processed.",
        summary: "Acknowledges and deletes one or multiple messages for a stream consumer group.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let options = try StreamDeleteOptions(request, from: 3)
            let key = request.firstKey
            let found = try keyspace.streamToChange(key)
            reply.array(options.ids.count)
            guard let (entry, stream) = found, let group = stream.group(named: request[2]) else {
                for _ in options.ids { reply.integer(-1) }
                return
            }
            keyspace.willModify(entry)
            keyspace.preventPropagation()
            var deleted = 0
            for index in options.ids {
                let id = try request.streamID(at: index)
                guard group.removePending(id) else {
                    reply.integer(-1)
                    continue
                }
                keyspace.changes &+= 1
                keyspace.propagateAcknowledgement(id, key.bytes, request[2])
                switch options.delete(id, of: stream, key, &keyspace) {
                case .some(true):
                    deleted += 1
                    reply.integer(1)
                case .some(false): reply.integer(2)
                // It was acknowledged, and there was nothing left to delete.
                case .none: reply.integer(1)
                }
            }
            if deleted > 0 { keyspace.didModify(.streamDelete, key, changes: deleted) }
        })
}

/// The options of XDELEX and XACKDEL.
private struct StreamDeleteOptions {
    private enum References {
        /// Pending entries stay.
        case keep
        /// Pending entries of all groups go, even if the entry has gone before.
        case delete
        /// An entry stays that some group has still to read or to acknowledge.
        case respect
    }

    private var references = References.keep
    /// Where the IDs stand; they were looked at.
    private(set) var ids = 0..<0

    init(_ request: Request, from first: Int) throws(ReplyError) {
        var index = first
        var hasReferences = false
        while index < request.count {
            if ids.isEmpty, request.matches(index, "IDS"), index + 1 < request.count {
                guard let count = parseInt64(request[index + 1]), count > 0 else {
                    throw .text("ERR Number of IDs must be a positive integer")
                }
                guard count <= Int64(request.count - index - 2) else {
                    throw .text("ERR The `numids` parameter must match the number of arguments")
                }
                ids = index + 2..<index + 2 + Int(count)
                for id in ids { _ = try request.streamID(at: id) }
                index = ids.upperBound
                continue
            }
            guard !hasReferences else { throw .syntax }
            hasReferences = true
            if request.matches(index, "KEEPREF") {
                references = .keep
            } else if request.matches(index, "DELREF") {
                references = .delete
            } else if request.matches(index, "ACKED") {
                references = .respect
            } else {
                throw .syntax
            }
            index += 1
        }
        if ids.isEmpty { throw .syntax }
    }

    /// Deletes an entry, or not. It is propagated as XDEL and XACK, which every replica knows.
    ///
    /// - Returns: whether the entry was deleted; nil if there is none.
    func delete(_ id: StreamID, of stream: StreamValue, _ key: Key, _ keyspace: inout Keyspace) -> Bool? {
        if references == .delete {
            for index in 0..<stream.groupCount {
                let group = stream.group(at: index)
                guard group.removePending(id) else { continue }
                keyspace.changes &+= 1
                keyspace.propagateAcknowledgement(id, key.bytes, group.name)
            }
        }
        if references == .respect, stream.contains(id), stream.isReferenced(id) { return false }
        guard stream.delete(id) else { return nil }
        if keyspace.propagation.isOn {
            id.withText {
                keyspace.propagation.append(
                    database: keyspace.selected, StaticString("XDEL").bytes, key.bytes, $0)
            }
        }
        return true
    }
}

// MARK: - Shared by the commands of groups

extension Keyspace {
    /// The stream of a key, and its group that is named at index 3.
    fileprivate mutating func groupToChange(
        _ key: Key, _ request: Request
    ) throws(ReplyError) -> (entry: Entry, stream: StreamValue, group: StreamGroup) {
        guard let (entry, stream) = try streamToChange(key) else { throw .streamMustExist }
        guard let group = stream.group(named: request[3]) else { throw request.noSuchGroup }
        return (entry, stream, group)
    }

    /// The consumer of a name, which is made if it is not there, and seen now.
    mutating func consumer(
        named name: UnsafeRawBufferPointer, of group: StreamGroup, _ key: UnsafeRawBufferPointer
    ) -> (consumer: StreamConsumer, isNew: Bool) {
        if let consumer = group.consumer(named: name) {
            consumer.seenAt = now
            return (consumer, false)
        }
        guard let consumer = group.makeConsumer(name, seenAt: now) else { preconditionFailure("no such consumer") }
        didModifyGroups(.consumerCreate, self.key(key))
        return (consumer, true)
    }

    /// Nothing but what the command has queued is propagated.
    mutating func preventPropagation() {
        if propagation.isOn { propagation.replacesCommand = true }
    }

    /// Says who has an entry now, so that it may be said twice. (streamPropagateXCLAIM)
    mutating func propagateClaim(
        of delivery: PendingEntry, _ idText: UnsafeRawBufferPointer, _ key: UnsafeRawBufferPointer,
        _ groupName: UnsafeRawBufferPointer, _ group: StreamGroup
    ) {
        guard propagation.isOn else { return }
        func word(_ text: StaticString) -> UnsafeRawBufferPointer { text.bytes }
        group.lastID.withText { lastID in
            withDecimal(delivery.deliveredAt) { time in
                withDecimal(delivery.deliveryCount) { count in
                    propagation.append(
                        database: selected, word("XCLAIM"), key, groupName, delivery.consumer.name, word("0"), idText,
                        word("TIME"), time, word("RETRYCOUNT"), count, word("FORCE"), word("JUSTID"), word("LASTID"),
                        lastID)
                }
            }
        }
    }

    /// Says how far a group is. (streamPropagateGroupID)
    mutating func propagateLastID(
        of group: StreamGroup, _ key: UnsafeRawBufferPointer, _ groupName: UnsafeRawBufferPointer
    ) {
        guard propagation.isOn else { return }
        func word(_ text: StaticString) -> UnsafeRawBufferPointer { text.bytes }
        group.lastID.withText { lastID in
            withDecimal(group.entriesRead) { entriesRead in
                propagation.append(
                    database: selected, word("XGROUP"), word("SETID"), key, groupName, lastID, word("ENTRIESREAD"),
                    entriesRead)
            }
        }
    }

    fileprivate mutating func propagateAcknowledgement(
        _ id: StreamID, _ key: UnsafeRawBufferPointer, _ groupName: UnsafeRawBufferPointer
    ) {
        guard propagation.isOn else { return }
        id.withText { propagation.append(database: selected, StaticString("XACK").bytes, key, groupName, $0) }
    }
}

extension ReplyBuffer {
    /// What XPENDING tells without a range.
    fileprivate mutating func pendingSummary(of group: StreamGroup) {
        array(4)
        integer(group.pendingCount)
        guard let first = group.firstPending, let last = group.lastPending else {
            null()
            null()
            nullArray()
            return
        }
        bulk(first)
        bulk(last)
        let start = deferredAggregate()
        var count = 0
        for index in 0..<group.consumerCount {
            let consumer = group.consumer(at: index)
            if consumer.pendingCount == 0 { continue }
            array(2)
            bulk(consumer.name)
            bulk(decimal: Int64(consumer.pendingCount))
            count += 1
        }
        endArray(start, count: count)
    }
}
