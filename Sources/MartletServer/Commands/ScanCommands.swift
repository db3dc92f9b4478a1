import MartletBase
import MartletKeyspace
import MartletRESP

// Walking over all keys of a database, and over the members of one value.
//
// In cluster mode a pattern that begins with a literal hash tag, such as `{user1}.*`, can only match keys of one slot:
// only that slot's table is visited.
//
// Source: Redis 7.0 db.c; the single slot as in Valkey 8.

extension CommandFamily {
    static let scan = CommandFamily(.generic, [.keys, .scan])
}

extension Command {
    static let keys = Command(
        "KEYS", since: "1.0.0", arity: .exactly(2), flags: [.readonly], categories: ["dangerous"],
        tips: ["request_policy:all_shards", "nondeterministic_output_order"], arguments: "pattern:pattern",
        complexity: """
            O(N) with N being the number of keys in the database, under the assumption that the key names in the \
            database and the given pattern have limited length.
            """,
        summary: "Find all keys matching the given pattern",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let pattern = KeyPattern(request[1])
            let header = reply.deferredAggregate()
            var count = 0
            func visit(_ entry: Entry) {
                guard pattern.matches(entry.key), !keyspace.isExpired(entry) else { return }
                reply.bulk(entry.key)
                count += 1
            }
            if keyspace.isClustered, let slot = pattern.slot {
                keyspace.forEachKey(slot: slot) { entry in
                    visit(entry)
                    return true
                }
            } else {
                var cursor: UInt64 = 0
                repeat { cursor = keyspace.scan(cursor: cursor, visit) } while cursor != 0
            }
            reply.endArray(header, count: count)
        })

    static let scan = Command(
        "SCAN", since: "2.8.0", arity: .atLeast(2), flags: [.readonly],
        tips: ["nondeterministic_output", "request_policy:special"],
        arguments: "cursor:integer [MATCH pattern:pattern] [COUNT count:integer] [TYPE type@6.0.0]",
        history: [("6.0.0", "Added the `TYPE` subcommand.")],
        complexity: """
            O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to \
            return back to 0. N is the number of elements inside the collection.
            """,
        summary: "Incrementally iterate the keys space",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let cursor = try scanCursor(request[1])
            let options = try ScanOptions(request, from: 2)
            var found: [Entry] = []
            let next = collect(from: cursor, options, keyspace, into: &found)
            reply.array(2)
            reply.bulk(decimal: next)
            let header = reply.deferredAggregate()
            var count = 0
            for entry in found {
                if let pattern = options.pattern, !pattern.matches(entry.key) { continue }
                if let type = options.type, !type.equalsIgnoringCase(entry.type.name.bytes) { continue }
                if keyspace.expireIfOver(entry) { continue }
                reply.bulk(entry.key)
                count += 1
            }
            reply.endArray(header, count: count)
        })

    /// Fills `found` with the entries of whole buckets. - Returns: the cursor to go on with.
    private static func collect(
        from start: UInt64, _ options: ScanOptions, _ keyspace: borrowing Keyspace, into found: inout [Entry]
    ) -> UInt64 {
        var cursor = start
        let onlySlot = keyspace.isClustered ? options.pattern?.slot : nil
        if let onlySlot {
            let table = Keyspace.table(ofCursor: cursor)
            if table > onlySlot.index || keyspace.keyCount(slot: onlySlot) == 0 { return 0 }
            if table < onlySlot.index { cursor = UInt64(onlySlot.index) }
        }
        // A table that is nearly empty must not keep us for long.
        var bucketsLeft = options.count.multipliedReportingOverflow(by: 10).partialValue
        if options.count > Int.max / 10 { bucketsLeft = Int.max }
        repeat {
            cursor = keyspace.scan(cursor: cursor) { found.append($0) }
            bucketsLeft -= 1
            if let onlySlot, Keyspace.table(ofCursor: cursor) != onlySlot.index { return 0 }
        } while cursor != 0 && bucketsLeft > 0 && found.count < options.count
        return cursor
    }
}

/// A glob pattern for keys.
struct KeyPattern {
    private let bytes: UnsafeRawBufferPointer
    private let matchesAll: Bool

    init(_ bytes: UnsafeRawBufferPointer) {
        self.bytes = bytes
        matchesAll = bytes.count == 1 && bytes[0] == UInt8(ascii: "*")
    }

    func matches(_ key: UnsafeRawBufferPointer) -> Bool { matchesAll || globMatches(pattern: bytes, text: key) }

    /// The only slot that matching keys can be in, if there is such a one.
    var slot: HashSlot? {
        let end = bytes.firstIndex { "*?[\\".utf8.contains($0) } ?? bytes.count
        if end == bytes.count { return .of(bytes) }
        let literal = UnsafeRawBufferPointer(rebasing: bytes[..<end])
        // Without a tag the whole key decides, and its end is not known.
        let tag = HashSlot.hashTag(of: literal)
        return tag.count < literal.count ? .of(literal) : nil
    }
}

/// What SCAN and its kin are asked for.
struct ScanOptions {
    private(set) var count = 10
    /// Nil if every key matches.
    private(set) var pattern: KeyPattern?
    private(set) var type: UnsafeRawBufferPointer?
    /// HSCAN without values, ZSCAN without scores. (Valkey 8)
    private(set) var omitsValues = false

    /// - Parameter value: whose members are walked over; nil for keys.
    init(_ request: Request, from start: Int, value: ValueType? = nil) throws(ReplyError) {
        var index = start
        while index < request.count {
            if request.matches(index, "NOVALUES") {
                guard value == .hash else { throw .text("ERR NOVALUES option can only be used in HSCAN") }
                omitsValues = true
                index += 1
                continue
            }
            if request.matches(index, "NOSCORES") {
                guard value == .sortedSet else { throw .text("ERR NOSCORES option can only be used in ZSCAN") }
                omitsValues = true
                index += 1
                continue
            }
            guard index + 1 < request.count else { throw .syntax }
            if request.matches(index, "COUNT") {
                count = Int(try request.integer(at: index + 1))
                guard count >= 1 else { throw .syntax }
            } else if request.matches(index, "MATCH") {
                pattern = KeyPattern(request[index + 1])
            } else if value == nil, request.matches(index, "TYPE") {
                type = request[index + 1]
            } else {
                throw .syntax
            }
            index += 2
        }
    }
}

/// A cursor as a client gives it: what C's `strtoul` makes of it. (parseScanCursorOrReply)
func scanCursor(_ argument: UnsafeRawBufferPointer) throws(ReplyError) -> UInt64 {
    let invalid = ReplyError.text("ERR invalid cursor")
    var bytes = argument.cString[...]
    if bytes.isEmpty { return 0 }
    let isNegative = bytes.first == UInt8(ascii: "-")
    if isNegative || bytes.first == UInt8(ascii: "+") { bytes = bytes.dropFirst() }
    guard !bytes.isEmpty else { throw invalid }
    var cursor: UInt64 = 0
    for byte in bytes {
        guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { throw invalid }
        let (shifted, tooLong) = cursor.multipliedReportingOverflow(by: 10)
        let (sum, overflow) = shifted.addingReportingOverflow(UInt64(byte - UInt8(ascii: "0")))
        if tooLong || overflow { throw invalid }
        cursor = sum
    }
    return isNegative ? 0 &- cursor : cursor
}

/// One call of HSCAN, SSCAN or ZSCAN.
///
/// A large value is a table of members: the cursor is a position in it, so an answer is as long as COUNT asks for. A small
/// one is answered whole. The commands differ only in what they write for a member:
///
///     guard var scan = try MemberScan(request, .set, &keyspace, &reply) else { return }
///     if let found = scan.begin(&reply) {
///         for member in found where scan.takes(.bytes(member.key)) { reply.bulk(member.key) }
///     } else {
///         set.forEach { member in if scan.takes(member) { reply.value(member) } }
///     }
///     scan.end(&reply)
struct MemberScan {
    let entry: Entry
    let options: ScanOptions
    private let cursor: UInt64
    private var header: ReplyBuffer.Deferred?
    private var taken = 0

    /// - Returns: nil if there is no such key: the reply is written.
    init?(
        _ request: Request, _ type: ValueType, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        cursor = try scanCursor(request[2])
        guard let entry = keyspace.lookupRead(request.firstKey) else {
            reply.array(2)
            reply.bulk("0")
            reply.array(0)
            return nil
        }
        guard entry.type == type else { throw .wrongType }
        self.entry = entry
        // A missing key hides mistakes in the options, as in Redis.
        options = try ScanOptions(request, from: 3, value: type)
    }

    /// Begins the reply. - Returns: members of a table from the cursor on; nil if the value is to be answered whole.
    mutating func begin(_ reply: inout ReplyBuffer) -> [Entry]? {
        reply.array(2)
        guard entry.container.isTable else {
            reply.bulk("0")
            header = reply.deferredAggregate()
            return nil
        }
        var found: [Entry] = []
        var position: UInt64? = cursor
        // A table that is nearly empty must not keep us for long.
        var bucketsLeft = options.count.multipliedReportingOverflow(by: 10).partialValue
        if options.count > Int.max / 10 { bucketsLeft = .max }
        while bucketsLeft > 0, found.count < options.count, let current = position {
            position = entry.container.scanMembers(from: current) { found.append($0) }
            bucketsLeft -= 1
        }
        reply.bulk(decimal: position ?? 0)
        header = reply.deferredAggregate()
        return found
    }

    /// Whether a member is to be answered; the caller then writes it, and its value or score unless they are not wanted.
    mutating func takes(_ member: StringView) -> Bool {
        if let pattern = options.pattern {
            switch member {
            case .bytes(let bytes): guard pattern.matches(bytes) else { return false }
            case .integer(let number):
                var matches = false
                withDecimal(number) { matches = pattern.matches($0) }
                guard matches else { return false }
            }
        }
        taken += 1
        return true
    }

    /// - Parameter width: what is written for a member: itself, and its value or score.
    func end(_ reply: inout ReplyBuffer, width: Int = 1) {
        guard let header else { preconditionFailure("begin comes first") }
        reply.endArray(header, count: taken * width)
    }
}

extension ReplyBuffer {
    /// A bulk string, as a member of a value is kept.
    @inline(__always)
    mutating func value(_ value: StringView) {
        switch value {
        case .bytes(let bytes): bulk(bytes)
        case .integer(let number): bulk(decimal: number)
        }
    }
}
