import MartletBase
import MartletKeyspace
import MartletRESP

// Streams: entries that are added, trimmed, deleted, listed. Reading as a consumer is in StreamReadCommands.swift, groups
// are in StreamGroupCommands.swift.
//
// A stream stays when its last entry goes: it remembers the last ID and its groups.
//
// Source: t_stream.c of Redis 7.0.

extension CommandFamily {
    static let stream = CommandFamily(
        .stream,
        [
            .xadd, .xtrim, .xdel, .xlen, .xrange, .xrevrange, .xsetid, .xinfo,
            .xread, .xreadgroup,
            .xgroup, .xack, .xpending, .xclaim, .xautoclaim,
            .xdelex, .xackdel,
        ])
}

// MARK: Adding and trimming

extension Command {
    static let xadd = Command(
        "XADD", since: "5.0.0", arity: .atLeast(5), flags: [.write, .denyOutOfMemory, .fast],
        keys: [
            .one(
                at: 1, [.readWrite, .update],
                notes: "UPDATE instead of INSERT because of the optional trimming feature")
        ],
        tips: ["nondeterministic_output"],
        arguments: """
            key [NOMKSTREAM@6.2.0] [trim={strategy=<MAXLEN|MINID@6.2.0> [operator=<equal='='|approximately=~>] \
            threshold [LIMIT count:integer@6.2.0]}] id_or_auto=<auto_id=*|id> field_value={field value}...
            """,
        history: [
            ("6.2.0", "Added the `NOMKSTREAM` option, `MINID` trimming strategy and the `LIMIT` option."),
            ("7.0.0", "Added support for the `<ms>-*` explicit ID form."),
        ],
        complexity: "O(1) when adding a new entry, O(N) when trimming where N being the number of entries evicted.",
        summary: "Appends a new entry to a stream",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let options = try StreamWriteOptions(request, isAdd: true, keyspace)
            let fields = options.end + 1
            guard request.count - fields >= 2, (request.count - fields) & 1 == 0 else {
                throw .wrongArgumentCount("xadd")
            }
            if let id = options.id, !id.choosesSequence, id.id.isZero {
                throw .text("ERR The ID specified in XADD must be greater than 0-0")
            }
            let key = request.firstKey
            let found = try keyspace.streamToChange(key)
            if found == nil, !options.makesStream { return reply.null() }
            let id = try chooseID(options.id, in: found?.stream, now: keyspace.now)
            let values = UnsafeBufferPointer(start: request.arguments + fields, count: request.count - fields)
            var bytes = 0
            for value in values { bytes += value.count }
            guard bytes <= StreamValue.entryBytesMax else {
                throw .text("ERR Elements are too large to be stored")
            }
            let entry = found?.entry ?? keyspace.insert(key, StreamValue.make())
            if found != nil { keyspace.willModify(entry) }
            let stream = entry.stream
            stream.append(id, values, limits: keyspace.members)
            reply.bulk(id)
            keyspace.didModify(.streamAdd, key)
            if let trim = options.trim,
                stream.trim(trim, isApproximate: options.isApproximate, limit: options.limit) > 0
            {
                // Counted with the entry that was added.
                keyspace.didModify(.streamTrim, key, changes: 0)
            }
            if keyspace.propagation.isOn, options.isApproximate || options.id?.choosesSequence ?? true {
                options.propagate(request, stream, addedID: id, &keyspace)
            }
        })

    /// - Parameters:
    ///   - id: what the client wants; nil for an automatic ID.
    ///   - stream: nil if it is still to be made.
    private static func chooseID(
        _ id: StreamID.Parsed?, in stream: StreamValue?, now: Int64
    ) throws(ReplyError) -> StreamID {
        let last = stream?.lastID ?? .zero
        if last == .max {
            throw .text("ERR The stream has exhausted the last possible ID, unable to add more items")
        }
        let chosen: StreamID?
        if let id {
            chosen = id.choosesSequence ? StreamValue.nextID(after: last, in: id.id.milliseconds) : id.id
        } else {
            chosen = StreamValue.nextID(after: last, now: now)
        }
        guard let chosen, chosen > last else {
            throw .text("ERR The ID specified in XADD is equal or smaller than the target stream top item")
        }
        return chosen
    }

    static let xtrim = Command(
        "XTRIM", since: "5.0.0", arity: .atLeast(4), flags: [.write], keys: [.one(at: 1, [.readWrite, .delete])],
        tips: ["nondeterministic_output"],
        arguments: """
            key trim={strategy=<MAXLEN|MINID@6.2.0> [operator=<equal='='|approximately=~>] threshold \
            [LIMIT count:integer@6.2.0]}
            """,
        history: [("6.2.0", "Added the `MINID` trimming strategy and the `LIMIT` option.")],
        complexity: """
            O(N), with N being the number of evicted entries. Constant times are very small however, since entries are \
            organized in macro nodes containing multiple entries that can be released with a single deallocation.
            """,
        summary: "Trims the stream to (approximately if '~' is passed) a certain size",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let options = try StreamWriteOptions(request, isAdd: false, keyspace)
            let key = request.firstKey
            guard let (entry, stream) = try keyspace.streamToChange(key), let trim = options.trim else {
                return reply.integer(0)
            }
            keyspace.willModify(entry)
            let removed = stream.trim(trim, isApproximate: options.isApproximate, limit: options.limit)
            if removed > 0 {
                keyspace.didModify(.streamTrim, key, changes: removed)
                if options.isApproximate { options.propagate(request, stream, addedID: nil, &keyspace) }
            }
            reply.integer(removed)
        })

    static let xdel = Command(
        "XDEL", since: "5.0.0", arity: .atLeast(3), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .delete])],
        arguments: "key id...",
        complexity: "O(1) for each single item to delete in the stream, regardless of the stream size.",
        summary: """
            Removes the specified entries from the stream. Returns the number of items actually deleted, that may be \
            different from the number of IDs passed in case certain IDs do not exist.
            """,
        run: .data { request, keyspace, reply throws(ReplyError) in
            let key = request.firstKey
            guard let (entry, stream) = try keyspace.streamToChange(key) else { return reply.integer(0) }
            try request.checkStreamIDs(from: 2)
            keyspace.willModify(entry)
            var deleted = 0
            for index in 2..<request.count where stream.delete(try request.streamID(at: index)) { deleted += 1 }
            if deleted > 0 { keyspace.didModify(.streamDelete, key, changes: deleted) }
            reply.integer(deleted)
        })

    static let xsetid = Command(
        "XSETID", since: "5.0.0", arity: .atLeast(3), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .update])],
        arguments: "key last-id [ENTRIESADDED entries_added:integer@7.0.0] [MAXDELETEDID max_deleted_entry_id@7.0.0]",
        history: [("7.0.0", "Added the `entries_added` and `max_deleted_entry_id` arguments.")],
        complexity: "O(1)", summary: "An internal command for replicating stream values",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let id = try request.streamID(at: 2)
            var entriesAdded: Int64?
            var maxDeletedID = StreamID.zero
            var index = 3
            while index < request.count {
                let hasMore = index + 1 < request.count
                if request.matches(index, "ENTRIESADDED"), hasMore {
                    entriesAdded = try request.integer(at: index + 1)
                    if entriesAdded ?? 0 < 0 { throw .text("ERR entries_added must be positive") }
                } else if request.matches(index, "MAXDELETEDID"), hasMore {
                    maxDeletedID = try request.streamID(at: index + 1)
                    if id < maxDeletedID {
                        throw .text(
                            "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id")
                    }
                } else {
                    throw .syntax
                }
                index += 2
            }
            let key = request.firstKey
            guard let (entry, stream) = try keyspace.streamToChange(key) else { throw .noSuchKey }
            if stream.length > 0 {
                if let last = stream.lastLiveID, id < last {
                    throw .text("ERR The ID specified in XSETID is smaller than the target stream top item")
                }
                if let entriesAdded, entriesAdded < Int64(stream.length) {
                    throw .text(
                        "ERR The entries_added specified in XSETID is smaller than the target stream length")
                }
            }
            keyspace.willModify(entry)
            stream.setLastID(id)
            if let entriesAdded { stream.entriesAdded = entriesAdded }
            if !maxDeletedID.isZero { stream.maxDeletedID = maxDeletedID }
            reply.ok()
            keyspace.didModifyGroups(.streamSetID, key)
        })
}

/// The options of XADD and XTRIM.
private struct StreamWriteOptions {
    /// XADD: nil for an automatic ID.
    private(set) var id: StreamID.Parsed?
    private(set) var makesStream = true
    private(set) var trim: StreamTrim?
    /// Where the threshold stands.
    private var thresholdIndex = 0
    private(set) var isApproximate = false
    /// Entries that are trimmed at most; 0 for any number.
    private(set) var limit = 0
    /// XADD: where the ID stands. Otherwise the end of the request.
    private(set) var end = 0

    /// Keeps the time of an approximate trim without LIMIT within bounds. (streamParseAddOrTrimArgsOrReply)
    private static let limitMax = 1_000_000

    @inline(__always)
    init(_ request: Request, isAdd: Bool, _ keyspace: borrowing Keyspace) throws(ReplyError) {
        // By far the most XADDs.
        let first = request[2]
        if isAdd, first.count == 1, first[0] == UInt8(ascii: "*") {
            end = 2
        } else {
            self = try StreamWriteOptions(parsing: request, isAdd: isAdd, keyspace)
        }
    }

    @inline(never)
    private init(parsing request: Request, isAdd: Bool, _ keyspace: borrowing Keyspace) throws(ReplyError) {
        var limit: Int64?
        var index = 2
        while index < request.count {
            let hasMore = index + 1 < request.count
            if isAdd, request.isCharacter("*", at: index) { break }
            let isLength = request.matches(index, "MAXLEN")
            if isLength || request.matches(index, "MINID"), hasMore {
                if trim != nil {
                    throw .text(
                        "ERR syntax error, MAXLEN and MINID options at the same time are not compatible")
                }
                isApproximate = false
                if index + 2 < request.count {
                    isApproximate = request.isCharacter("~", at: index + 1)
                    if isApproximate || request.isCharacter("=", at: index + 1) { index += 1 }
                }
                index += 1
                thresholdIndex = index
                if isLength {
                    let length = try request.integer(at: index)
                    if length < 0 { throw .text("ERR The MAXLEN argument must be >= 0.") }
                    trim = .length(Int(length))
                } else {
                    trim = .below(try request.streamID(at: index))
                }
            } else if request.matches(index, "LIMIT"), hasMore {
                index += 1
                limit = try request.integer(at: index)
                if limit ?? 0 < 0 { throw .text("ERR The LIMIT argument must be >= 0.") }
            } else if isAdd, request.matches(index, "NOMKSTREAM") {
                makesStream = false
            } else if isAdd {
                guard let parsed = StreamID.parse(request[index], allowsChoice: true) else { throw .invalidStreamID }
                id = parsed
                break
            } else {
                throw .syntax
            }
            index += 1
        }
        end = index
        if limit ?? 0 != 0, trim == nil {
            throw .text("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy")
        }
        if !isAdd, trim == nil {
            throw .text("ERR syntax error, XTRIM must be called with a trimming strategy")
        }
        // What our primary has trimmed goes here too.
        if keyspace.expiryMode == .ignore { return }
        if let limit {
            if !isApproximate { throw .text("ERR syntax error, LIMIT cannot be used without the special ~ option") }
            self.limit = Int(limit)
        } else if isApproximate {
            // Wraps around as in C.
            let entries = keyspace.encodingLimits.streamNodeEntries &* 100
            self.limit = entries <= 0 ? 10_000 : min(entries, Self.limitMax)
        }
    }

    /// The same command with the ID that was chosen, and with a trim that leaves the same entries everywhere.
    @inline(never)
    func propagate(_ request: Request, _ stream: StreamValue, addedID: StreamID?, _ keyspace: inout Keyspace) {
        guard keyspace.propagation.isOn else { return }
        withUnsafeTemporaryAllocation(byteCount: 2 * StreamID.textBytesMax, alignment: 8) { room in
            let base = room.baseAddress.unsafelyUnwrapped
            var arguments = (0..<request.count).map { request[$0] }
            if isApproximate, let trim {
                arguments[thresholdIndex - 1] = StaticString("=").bytes
                let count =
                    switch trim {
                    case .length: writeDecimal(Int64(stream.length), to: base)
                    case .below: (stream.firstIDEvenIfDeleted ?? .max).write(to: base)
                    }
                arguments[thresholdIndex] = UnsafeRawBufferPointer(start: base, count: count)
            }
            if let addedID, id?.choosesSequence ?? true {
                let text = base + StreamID.textBytesMax
                arguments[end] = UnsafeRawBufferPointer(start: text, count: addedID.write(to: text))
            }
            keyspace.propagateInstead(arguments)
        }
    }
}

// MARK: Listing

extension Command {
    static let xlen = Command(
        "XLEN", since: "5.0.0", arity: .exactly(2), flags: [.readonly, .fast], keys: [.one(at: 1, [.readOnly])],
        arguments: "key",
        complexity: "O(1)", summary: "Return the number of entries in a stream",
        run: .data { request, keyspace, reply throws(ReplyError) in
            reply.integer(try keyspace.streamToRead(request.firstKey)?.stream.length ?? 0)
        })

    static let xrange = Command(
        "XRANGE", since: "5.0.0", arity: .atLeast(4), flags: [.readonly], keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key start end [COUNT count:integer]",
        history: [("6.2.0", "Added exclusive ranges.")],
        complexity: """
            O(N) with N being the number of elements being returned. If N is constant (e.g. always asking for the first \
            10 elements with COUNT), you can consider it O(1).
            """,
        summary: "Return a range of elements in a stream, with IDs matching the specified IDs interval",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try range(request, lowest: 2, highest: 3, isReverse: false, &keyspace, &reply)
        })

    static let xrevrange = Command(
        "XREVRANGE", since: "5.0.0", arity: .atLeast(4), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])], arguments: "key end start [COUNT count:integer]",
        history: [("6.2.0", "Added exclusive ranges.")],
        complexity: """
            O(N) with N being the number of elements returned. If N is constant (e.g. always asking for the first 10 \
            elements with COUNT), you can consider it O(1).
            """,
        summary: """
            Return a range of elements in a stream, with IDs matching the specified IDs interval, in reverse order (from \
            greater to smaller IDs) compared to XRANGE
            """,
        run: .data { request, keyspace, reply throws(ReplyError) in
            try range(request, lowest: 3, highest: 2, isReverse: true, &keyspace, &reply)
        })

    private static func range(
        _ request: Request, lowest: Int, highest: Int, isReverse: Bool, _ keyspace: inout Keyspace,
        _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        let first = try request.intervalStart(at: lowest)
        let last = try request.intervalEnd(at: highest)
        var count: Int?
        var index = 4
        while index < request.count {
            guard request.matches(index, "COUNT"), index + 1 < request.count else { throw .syntax }
            count = Int(max(0, try request.integer(at: index + 1)))
            index += 2
        }
        guard let stream = try keyspace.streamToRead(request.firstKey)?.stream else { return reply.array(0) }
        if count == 0 { return reply.nullArray() }
        var cursor = stream.entries(from: first, to: last, isReverse: isReverse)
        _ = reply.streamEntries(&cursor, limit: count ?? .max, of: stream)
    }
}

// MARK: Introspection

extension Command {
    static let xinfo = Command(
        "XINFO", since: "5.0.0", arity: .atLeast(2), complexity: "Depends on subcommand.",
        summary: "A container for stream introspection commands",
        subcommands: [.xinfoStream, .xinfoGroups, .xinfoConsumers, .xinfoHelp], run: .container)

    private static let xinfoStream = Command(
        "STREAM", since: "5.0.0", arity: .atLeast(3), flags: [.readonly], keys: [.one(at: 2, [.readOnly, .access])],
        arguments: "key [FULL full={[COUNT count:integer]}]",
        history: [
            ("6.0.0", "Added the `FULL` modifier."),
            (
                "7.0.0",
                """
                Added the `max-deleted-entry-id`, `entries-added`, `recorded-first-entry-id`, `entries-read` and \
                `lag` fields
                """
            ),
        ],
        complexity: "O(1)", summary: "Get information about a stream",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let stream = try keyspace.namedStream(request) else { throw .noSuchKey }
            let isFull = request.count > 3
            var count: Int64 = 10
            if isFull {
                guard request.count == 4 || request.count == 6, request.matches(3, "FULL"),
                    request.count == 4 || request.matches(4, "COUNT")
                else { throw request.unknownSubcommand }
                if request.count == 6 { count = try request.integer(at: 5) }
                if count < 0 { count = 10 }
            }
            reply.map(isFull ? 9 : 10)
            reply.field("length", stream.length)
            reply.field("radix-tree-keys", stream.nodeCount)
            reply.field("radix-tree-nodes", stream.treeNodeCount)
            reply.field("last-generated-id", stream.lastID)
            reply.field("max-deleted-entry-id", stream.maxDeletedID)
            reply.field("entries-added", Int(stream.entriesAdded))
            reply.field("recorded-first-entry-id", stream.firstID)
            guard isFull else {
                reply.field("groups", stream.groupCount)
                for (name, isReverse) in [("first-entry" as StaticString, false), ("last-entry", true)] {
                    reply.bulk(name)
                    var cursor = stream.entries(isReverse: isReverse)
                    if cursor.next() { reply.streamEntry(&cursor) } else { reply.null() }
                }
                return
            }
            let limit = count == 0 ? Int.max : Int(count)
            reply.bulk("entries")
            var cursor = stream.entries()
            _ = reply.streamEntries(&cursor, limit: limit, of: stream)
            reply.bulk("groups")
            reply.array(stream.groupCount)
            for index in 0..<stream.groupCount { reply.streamGroup(stream.group(at: index), of: stream, limit: limit) }
        })

    private static let xinfoGroups = Command(
        "GROUPS", since: "5.0.0", arity: .exactly(3), flags: [.readonly], keys: [.one(at: 2, [.readOnly, .access])],
        arguments: "key",
        history: [("7.0.0", "Added the `entries-read` and `lag` fields")],
        complexity: "O(1)", summary: "List the consumer groups of a stream",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let stream = try keyspace.namedStream(request) else { throw .noSuchKey }
            reply.array(stream.groupCount)
            for index in 0..<stream.groupCount {
                let group = stream.group(at: index)
                reply.map(6)
                reply.field("name", group.name)
                reply.field("consumers", group.consumerCount)
                reply.field("pending", group.pendingCount)
                reply.field("last-delivered-id", group.lastID)
                reply.readCounters(of: group, stream)
            }
        })

    private static let xinfoConsumers = Command(
        "CONSUMERS", since: "5.0.0", arity: .exactly(4), flags: [.readonly],
        keys: [.one(at: 2, [.readOnly, .access])], tips: ["nondeterministic_output"], arguments: "key groupname",
        complexity: "O(1)", summary: "List the consumers in a consumer group",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let stream = try keyspace.namedStream(request) else { throw .noSuchKey }
            guard let group = stream.group(named: request[3]) else { throw request.noSuchGroup }
            reply.array(group.consumerCount)
            for index in 0..<group.consumerCount {
                let consumer = group.consumer(at: index)
                reply.map(3)
                reply.field("name", consumer.name)
                reply.field("pending", consumer.pendingCount)
                reply.field("idle", Int(max(0, keyspace.now &- consumer.seenAt)))
            }
        })

    private static let xinfoHelp = Command(
        "HELP", since: "5.0.0", arity: .exactly(2), flags: [.loading, .stale], complexity: "O(1)",
        summary: "Show helpful text about the different subcommands",
        run: .data { request, keyspace, reply throws(ReplyError) in
            reply.help(
                request,
                [
                    "CONSUMERS <key> <groupname>",
                    "    Show consumers of <groupname>.",
                    "GROUPS <key>",
                    "    Show the stream consumer groups.",
                    "STREAM <key> [FULL [COUNT <count>]",
                    "    Show information about the stream.",
                ])
        })
}

// MARK: - Shared by the commands of streams

extension ReplyError {
    static let invalidStreamID = ReplyError.text("ERR Invalid stream ID specified as stream command argument")
}

extension Request {
    @inline(__always)
    func isCharacter(_ character: Unicode.Scalar, at index: Int) -> Bool {
        self[index].count == 1 && self[index][0] == UInt8(ascii: character)
    }

    /// An ID of an entry. - Parameter allowsEnds: `-` and `+` are the lowest and the highest one.
    func streamID(at index: Int, allowsEnds: Bool = false) throws(ReplyError) -> StreamID {
        guard let parsed = StreamID.parse(self[index], allowsEnds: allowsEnds) else { throw .invalidStreamID }
        return parsed.id
    }

    /// Finds mistakes in IDs before anything is done.
    func checkStreamIDs(from index: Int) throws(ReplyError) {
        for index in index..<count { _ = try streamID(at: index) }
    }

    /// Where a range begins. (streamParseIntervalIDOrReply)
    func intervalStart(at index: Int) throws(ReplyError) -> StreamID {
        let (id, isExclusive) = try interval(at: index, missingSequence: 0)
        guard isExclusive else { return id }
        guard let next = id.next else { throw .text("ERR invalid start ID for the interval") }
        return next
    }

    /// Where a range ends.
    func intervalEnd(at index: Int) throws(ReplyError) -> StreamID {
        let (id, isExclusive) = try interval(at: index, missingSequence: .max)
        guard isExclusive else { return id }
        guard let previous = id.previous else { throw .text("ERR invalid end ID for the interval") }
        return previous
    }

    private func interval(
        at index: Int, missingSequence: UInt64
    ) throws(ReplyError) -> (id: StreamID, isExclusive: Bool) {
        let text = self[index]
        let isExclusive = text.count > 1 && text[0] == UInt8(ascii: "(")
        let parsed = StreamID.parse(
            isExclusive ? UnsafeRawBufferPointer(rebasing: text.dropFirst()) : text, missingSequence: missingSequence,
            allowsEnds: !isExclusive)
        guard let parsed else { throw .invalidStreamID }
        return (parsed.id, isExclusive)
    }

    /// What XGROUP and XINFO say when the group at index 3 is not there.
    var noSuchGroup: ReplyError {
        let (group, key) = (ReplyError.quoted(self[3].cString), ReplyError.quoted(self[2].cString))
        return .message("NOGROUP No such consumer group '\(group)' for key name '\(key)'")
    }
}

extension Keyspace {
    /// The stream of a key that a command reads; nil if there is none.
    mutating func streamToRead(_ key: Key) throws(ReplyError) -> (entry: Entry, stream: StreamValue)? {
        guard let entry = try read(key, as: .stream) else { return nil }
        return (entry, entry.stream)
    }

    /// The stream of the key at index 2.
    fileprivate mutating func namedStream(_ request: Request) throws(ReplyError) -> StreamValue? {
        try streamToRead(request.key(at: 2, in: self))?.stream
    }

    /// The stream of a key that a command is going to change; nil if there is none.
    mutating func streamToChange(_ key: Key) throws(ReplyError) -> (entry: Entry, stream: StreamValue)? {
        guard let entry = try write(key, as: .stream) else { return nil }
        return (entry, entry.stream)
    }
}

extension ReplyBuffer {
    mutating func bulk(_ id: StreamID) {
        withUnsafeTemporaryAllocation(byteCount: StreamID.textBytesMax, alignment: 8) { room in
            let base = room.baseAddress.unsafelyUnwrapped
            bulk(UnsafeRawBufferPointer(start: base, count: id.write(to: base)))
        }
    }

    /// The entry that a cursor stands at: its ID, and fields and values in turn.
    mutating func streamEntry(_ cursor: inout StreamCursor) {
        array(2)
        bulk(cursor.id)
        array(cursor.fieldCount * 2)
        for _ in 0..<cursor.fieldCount {
            let (field, value) = cursor.nextField()
            self.value(field)
            self.value(value)
        }
    }

    /// Entries as an array. - Returns: how many there were.
    mutating func streamEntries(_ cursor: inout StreamCursor, limit: Int, of stream: StreamValue) -> Int {
        let start = deferredAggregate()
        var count = 0
        while count < limit, cursor.next() {
            streamEntry(&cursor)
            count += 1
        }
        endArray(start, count: count)
        return count
    }

    fileprivate mutating func field(_ name: StaticString, _ number: Int) {
        bulk(name)
        integer(number)
    }

    fileprivate mutating func field(_ name: StaticString, _ id: StreamID) {
        bulk(name)
        bulk(id)
    }

    fileprivate mutating func field(_ name: StaticString, _ bytes: UnsafeRawBufferPointer) {
        bulk(name)
        bulk(bytes)
    }

    /// How far a group has read, two fields.
    fileprivate mutating func readCounters(of group: StreamGroup, _ stream: StreamValue) {
        bulk("entries-read")
        if group.entriesRead != StreamGroup.unknownEntriesRead { integer(group.entriesRead) } else { null() }
        bulk("lag")
        if let lag = stream.lag(of: group) { integer(lag) } else { null() }
    }

    /// What XINFO STREAM FULL tells about a group. - Parameter limit: of the pending entries of each.
    fileprivate mutating func streamGroup(_ group: StreamGroup, of stream: StreamValue, limit: Int) {
        map(7)
        field("name", group.name)
        field("last-delivered-id", group.lastID)
        readCounters(of: group, stream)
        field("pel-count", group.pendingCount)
        bulk("pending")
        pendingEntries(of: group, nil, limit: limit)
        bulk("consumers")
        array(group.consumerCount)
        for index in 0..<group.consumerCount {
            let consumer = group.consumer(at: index)
            map(4)
            field("name", consumer.name)
            field("seen-time", Int(consumer.seenAt))
            field("pel-count", consumer.pendingCount)
            bulk("pending")
            pendingEntries(of: group, consumer, limit: limit)
        }
    }

    private mutating func pendingEntries(of group: StreamGroup, _ consumer: StreamConsumer?, limit: Int) {
        let count = min(limit, consumer?.pendingCount ?? group.pendingCount)
        array(count)
        var cursor = group.pendingEntries(from: .zero, of: consumer)
        for _ in 0..<count {
            guard let entry = group.next(&cursor) else { preconditionFailure("as many as are counted") }
            array(consumer == nil ? 4 : 3)
            bulk(entry.id)
            if consumer == nil { bulk(entry.consumer.name) }
            integer(entry.deliveredAt)
            integer(entry.deliveryCount)
        }
    }
}
