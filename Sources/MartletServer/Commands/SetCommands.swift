import MartletBase
import MartletKeyspace
import MartletRESP

// Sets: members, random members, algebra. (t_set.c)

extension CommandFamily {
    static let set = CommandFamily(
        .set,
        [
            .sadd, .srem, .smove, .sismember, .smismember, .scard, .smembers, .sscan,
            .spop, .srandmember,
            .sinter, .sintercard, .sinterstore, .sunion, .sunionstore, .sdiff, .sdiffstore,
        ])
}

// MARK: Members

extension Command {
    static let sadd = Command(
        "SADD", since: "1.0.0", arity: .atLeast(3), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .insert])],
        arguments: "key member...",
        history: [("2.4.0", "Accepts multiple `member` arguments.")],
        complexity: """
            O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.
            """,
        summary: "Add one or more members to a set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let key = request.firstKey
            let set = try keyspace.openSet(key, for: request.arguments[2])
            var added = 0
            for index in 2..<request.count where set.insert(request.arguments[index]) { added &+= 1 }
            if added > 0 { keyspace.didModify(.setAdd, key, changes: added) }
            reply.integer(added)
        })

    static let srem = Command(
        "SREM", since: "1.0.0", arity: .atLeast(3), flags: [.write, .fast], keys: [.one(at: 1, [.readWrite, .delete])],
        arguments: "key member...",
        history: [("2.4.0", "Accepts multiple `member` arguments.")],
        complexity: "O(N) where N is the number of members to be removed.",
        summary: "Remove one or more members from a set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let key = request.firstKey
            guard let set = try keyspace.writeSet(key) else { return reply.integer(0) }
            var removed = 0
            var isEmptied = false
            for index in 2..<request.count where set.remove(request.arguments[index]) {
                removed &+= 1
                isEmptied = set.count == 0
                if isEmptied { break }
            }
            if removed > 0 { keyspace.didModify(.setRemove, key, changes: removed) }
            if isEmptied { keyspace.deleteEmptied(key) }
            reply.integer(removed)
        })

    static let smove = Command(
        "SMOVE", since: "1.0.0", arity: .exactly(4), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .delete]), .one(at: 2, [.readWrite, .insert])],
        arguments: "source:key destination:key#1 member",
        complexity: "O(1)", summary: "Move a member from one set to another",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let source = request.firstKey
            let target = request.key(at: 2, in: keyspace)
            let member = request[3]
            let sourceEntry = keyspace.lookupWrite(source)
            let targetEntry = keyspace.lookupWrite(target)
            guard let sourceEntry else { return reply.integer(0) }
            guard sourceEntry.type == .set, targetEntry == nil || targetEntry?.type == .set else { throw .wrongType }
            let set = keyspace.setValue(sourceEntry)
            if sourceEntry == targetEntry { return reply.integer(set.contains(member) ? 1 : 0) }
            keyspace.willModify(sourceEntry)
            guard set.remove(member) else { return reply.integer(0) }
            keyspace.didModify(.setRemove, source)
            if set.count == 0 { keyspace.deleteEmptied(source) }
            if try keyspace.openSet(target, for: member).insert(member) { keyspace.didModify(.setAdd, target) }
            reply.integer(1)
        })

    static let sismember = Command(
        "SISMEMBER", since: "1.0.0", arity: .exactly(3), flags: [.readonly, .fast], keys: [.one(at: 1, [.readOnly])],
        arguments: "key member",
        complexity: "O(1)", summary: "Determine if a given value is a member of a set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let isMember = try keyspace.readSet(request.firstKey)?.contains(request.arguments[2]) ?? false
            reply.integer(isMember ? 1 : 0)
        })

    static let smismember = Command(
        "SMISMEMBER", since: "6.2.0", arity: .atLeast(3), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key member...",
        complexity: "O(N) where N is the number of elements being checked for membership",
        summary: "Returns the membership associated with the given elements for a set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let set = try keyspace.readSet(request.firstKey)
            reply.array(request.count - 2)
            for index in 2..<request.count {
                reply.integer(set?.contains(request.arguments[index]) == true ? 1 : 0)
            }
        })

    static let scard = Command(
        "SCARD", since: "1.0.0", arity: .exactly(2), flags: [.readonly, .fast], keys: [.one(at: 1, [.readOnly])],
        arguments: "key",
        complexity: "O(1)", summary: "Get the number of members in a set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            reply.integer(try keyspace.readSet(request.firstKey)?.count ?? 0)
        })

    static let smembers = Command(
        "SMEMBERS", since: "1.0.0", arity: .exactly(2), flags: [.readonly], keys: [.one(at: 1, [.readOnly, .access])],
        tips: ["nondeterministic_output_order"], arguments: "key",
        complexity: "O(N) where N is the set cardinality.", summary: "Get all the members in a set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let set = try keyspace.readSet(request.firstKey) else { return reply.set(0) }
            reply.members(set.members)
        })

    static let sscan = Command(
        "SSCAN", since: "2.8.0", arity: .atLeast(3), flags: [.readonly], keys: [.one(at: 1, [.readOnly, .access])],
        tips: ["nondeterministic_output"],
        arguments: "key cursor:integer [MATCH pattern:pattern] [COUNT count:integer]",
        complexity: """
            O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return \
            back to 0. N is the number of elements inside the collection..
            """,
        summary: "Incrementally iterate Set elements",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard var scan = try MemberScan(request, .set, &keyspace, &reply) else { return }
            if let found = scan.begin(&reply) {
                for entry in found where scan.takes(.bytes(entry.key)) { reply.bulk(entry.key) }
            } else {
                keyspace.setValue(scan.entry).members.forEach { member in
                    if scan.takes(member) { reply.value(member) }
                    return true
                }
            }
            scan.end(&reply)
        })
}

// MARK: Random members

extension Command {
    static let spop = Command(
        "SPOP", since: "1.0.0", arity: .atLeast(2), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .delete])],
        tips: ["nondeterministic_output"], arguments: "key [count:integer@3.2.0]",
        history: [("3.2.0", "Added the `count` argument.")],
        complexity: "Without the count argument O(1), otherwise O(N) where N is the value of the passed count.",
        summary: "Remove and return one or multiple random members from a set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            if request.count > 2 { return try popSeveral(request, &keyspace, &reply) }
            let key = request.firstKey
            guard let set = try keyspace.writeSet(key) else { return reply.null() }
            var random = keyspace.random
            set.removeRandom(&random) { member in
                reply.value(member)
                if keyspace.propagation.isOn {
                    member.withBytes { keyspace.propagateInstead(bytes("SREM"), key.bytes, $0) }
                }
            }
            keyspace.random = random
            keyspace.didModify(.setPop, key)
            if set.count == 0 { keyspace.deleteEmptied(key) }
        })

    @inline(never)
    private static func popSeveral(
        _ request: Request, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        guard request.count == 3 else { throw .syntax }
        guard let number = parseInt64(request[2]), number >= 0 else {
            throw .text("ERR value is out of range, must be positive")
        }
        let key = request.firstKey
        guard let set = try keyspace.writeSet(key), number > 0 else { return reply.set(0) }
        let size = set.count
        let count = min(Int(number), size)
        if count == size {
            reply.members(set.members)
            keyspace.didModify(.setPop, key, changes: count)
            keyspace.deleteEmptied(key)
            return keyspace.propagateInstead(bytes("DEL"), key.bytes)
        }
        reply.set(count)
        var removals = RemovalLog(key, isOn: keyspace.propagation.isOn)
        var random = keyspace.random
        // When nearly all go it is less work to draw those that stay. (SPOP_MOVE_STRATEGY_MUL)
        if (size - count) > count / 5 {
            for _ in 0..<count {
                set.removeRandom(&random) { member in
                    reply.value(member)
                    removals.append(member, &keyspace)
                }
            }
        } else {
            let removed = set.keepRandom(size - count, &random)
            removed.forEach { member in
                reply.value(member)
                removals.append(member, &keyspace)
                return true
            }
            keyspace.discard(removed.container)
        }
        keyspace.random = random
        removals.flush(&keyspace)
        keyspace.didModify(.setPop, key, changes: count)
    }

    static let srandmember = Command(
        "SRANDMEMBER", since: "1.0.0", arity: .atLeast(2), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        tips: ["nondeterministic_output"], arguments: "key [count:integer@2.6.0]",
        history: [("2.6.0", "Added the optional `count` argument.")],
        complexity: """
            Without the count argument O(1), otherwise O(N) where N is the absolute value of the passed count.
            """,
        summary: "Get one or multiple random members from a set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            if request.count > 2 { return try drawSeveral(request, &keyspace, &reply) }
            guard let set = try keyspace.readSet(request.firstKey) else { return reply.null() }
            reply.value(set.members.random(&keyspace.random))
        })

    private static func drawSeveral(
        _ request: Request, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        guard request.count == 3 else { throw .syntax }
        let number = try request.drawCount(at: 2)
        guard let set = try keyspace.readSet(request.firstKey), number != 0 else { return reply.array(0) }
        let members = set.members
        let size = members.count
        if number < 0 || number == 1 {
            // Each drawn from all.
            var draws = try Draws(number, reply)
            reply.array(abs(number))
            while try draws.next(&reply) { reply.value(members.random(&keyspace.random)) }
        } else if number >= size {
            reply.array(size)
            members.forEach { member in
                reply.value(member)
                return true
            }
        } else if number > size / 3 {
            // (SRANDMEMBER_SUB_STRATEGY_MUL)
            reply.array(number)
            var random = keyspace.random
            members.forEachOfSample(number, &random) { reply.value($0) }
            keyspace.random = random
        } else {
            // Few of many: draw until they are enough different ones.
            reply.array(number)
            var drawn = SetMembers(keyspace.members)
            while drawn.count < number { _ = drawn.insert(members.random(&keyspace.random)) }
            drawn.forEach { member in
                reply.value(member)
                return true
            }
            keyspace.discard(drawn.container)
        }
    }
}

extension Request {
    /// How many random elements are wanted; below zero, with repetition.
    func drawCount(at index: Int) throws(ReplyError) -> Int {
        let number = try integer(at: index)
        guard number >= -Int64.max else {
            throw .text("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807")
        }
        return Int(number)
    }
}

/// Elements that are drawn with repetition, from however few: a short command can ask for a reply of any length. Redis goes on
/// until the reply is longer than an output buffer may be, which is nearly always without limit, or until memory ends.
struct Draws {
    private static let countMax = 1 << 27

    private var left: Int
    private let replyStart: Int
    private let bytesMax: Int

    /// - Parameter number: of elements; its sign does not matter.
    init(_ number: Int, _ reply: borrowing ReplyBuffer, bytesMax: Int = 1 << 30) throws(ReplyError) {
        guard number.magnitude <= Self.countMax else { throw .text("ERR value is out of range") }
        left = abs(number)
        replyStart = reply.count
        self.bytesMax = bytesMax
    }

    /// Whether another one is to be drawn. Takes the reply back when it has become too long.
    mutating func next(_ reply: inout ReplyBuffer) throws(ReplyError) -> Bool {
        guard left > 0 else { return false }
        guard reply.count - replyStart <= bytesMax else {
            reply.truncate(to: replyStart)
            throw .text("ERR value is out of range")
        }
        left -= 1
        return true
    }
}

/// Tells replicas and the log, in SREM commands of bounded length, what was taken out of a set at random.
private struct RemovalLog {
    private let key: Key
    private let isOn: Bool
    private var bytes: [UInt8] = []
    /// Where each member ends in `bytes`.
    private var ends: [Int] = []

    private static let membersMax = 1024
    private static let bytesMax = 64 * 1024

    init(_ key: Key, isOn: Bool) {
        self.key = key
        self.isOn = isOn
    }

    @inline(__always)
    mutating func append(_ member: StringView, _ keyspace: inout Keyspace) { if isOn { add(member, &keyspace) } }

    @inline(never)
    private mutating func add(_ member: StringView, _ keyspace: inout Keyspace) {
        member.withBytes { bytes.append(contentsOf: $0) }
        ends.append(bytes.count)
        if ends.count == Self.membersMax || bytes.count >= Self.bytesMax { flush(&keyspace) }
    }

    /// To be called at the end as well.
    mutating func flush(_ keyspace: inout Keyspace) {
        if ends.isEmpty { return }
        bytes.withUnsafeBytes { members in
            var arguments = [MartletServer.bytes("SREM"), key.bytes]
            var start = 0
            for end in ends {
                arguments.append(UnsafeRawBufferPointer(rebasing: members[start..<end]))
                start = end
            }
            keyspace.propagateInstead(arguments)
        }
        bytes.removeAll(keepingCapacity: true)
        ends.removeAll(keepingCapacity: true)
    }
}

// MARK: Algebra

extension Command {
    private static let algebraComplexity: StaticString =
        "O(N) where N is the total number of elements in all given sets."
    private static let intersectionComplexity: StaticString = """
        O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.
        """

    static let sinter = Command(
        "SINTER", since: "1.0.0", arity: .atLeast(2), flags: [.readonly], keys: [.all(from: 1, [.readOnly, .access])],
        tips: ["nondeterministic_output_order"], arguments: "key...",
        complexity: intersectionComplexity, summary: "Intersect multiple sets",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let sources = try keyspace.readSets(request, 1..<request.count)
            defer { sources.deallocate() }
            let header = reply.deferredAggregate()
            var count = 0
            SetMembers.forEachInAll(sources) { member in
                reply.value(member)
                count += 1
                return true
            }
            reply.endSet(header, count: count)
        })

    static let sintercard = Command(
        "SINTERCARD", since: "7.0.0", arity: .atLeast(3), flags: [.readonly],
        keys: [KeySpec([.readOnly, .access], begin: .index(1), find: .count(index: 0, first: 1, step: 1))],
        arguments: "numkeys:integer key... [LIMIT limit:integer]",
        complexity: intersectionComplexity,
        summary: "Intersect multiple sets and return the cardinality of the result",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let keyCount = parseInt64(request[1]), keyCount > 0 else {
                throw .text("ERR numkeys should be greater than 0")
            }
            guard keyCount <= request.count - 2 else {
                throw .text("ERR Number of keys can't be greater than number of args")
            }
            var limit = 0
            var index = 2 + Int(keyCount)
            while index < request.count {
                guard request.matches(index, "LIMIT"), index + 1 < request.count else { throw .syntax }
                guard let number = parseInt64(request[index + 1]), number >= 0 else {
                    throw .text("ERR LIMIT can't be negative")
                }
                limit = Int(number)
                index += 2
            }
            let sources = try keyspace.readSets(request, 2..<(2 + Int(keyCount)))
            defer { sources.deallocate() }
            var count = 0
            SetMembers.forEachInAll(sources) { _ in
                count += 1
                return count != limit
            }
            reply.integer(count)
        })

    static let sinterstore = Command(
        "SINTERSTORE", since: "1.0.0", arity: .atLeast(3), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 1, [.readWrite, .update]), .all(from: 2, [.readOnly, .access])],
        arguments: "destination:key key#1...",
        complexity: intersectionComplexity,
        summary: "Intersect multiple sets and store the resulting set in a key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let sources = try keyspace.readSets(request, 2..<request.count)
            defer { sources.deallocate() }
            let result = SetMembers.intersection(sources, keyspace.members)
            store(result, request.firstKey, .setIntersectionStore, &keyspace, &reply)
        })

    static let sunion = Command(
        "SUNION", since: "1.0.0", arity: .atLeast(2), flags: [.readonly], keys: [.all(from: 1, [.readOnly, .access])],
        tips: ["nondeterministic_output_order"], arguments: "key...",
        complexity: algebraComplexity, summary: "Add multiple sets",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let sources = try keyspace.readSets(request, 1..<request.count)
            defer { sources.deallocate() }
            let result = SetMembers.union(sources, keyspace.members)
            reply.members(result)
            keyspace.discard(result.container)
        })

    static let sunionstore = Command(
        "SUNIONSTORE", since: "1.0.0", arity: .atLeast(3), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 1, [.overwrite, .update]), .all(from: 2, [.readOnly, .access])],
        arguments: "destination:key key#1...",
        complexity: algebraComplexity, summary: "Add multiple sets and store the resulting set in a key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let sources = try keyspace.readSets(request, 2..<request.count)
            defer { sources.deallocate() }
            let result = SetMembers.union(sources, keyspace.members)
            store(result, request.firstKey, .setUnionStore, &keyspace, &reply)
        })

    static let sdiff = Command(
        "SDIFF", since: "1.0.0", arity: .atLeast(2), flags: [.readonly], keys: [.all(from: 1, [.readOnly, .access])],
        tips: ["nondeterministic_output_order"], arguments: "key...",
        complexity: algebraComplexity, summary: "Subtract multiple sets",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let sources = try keyspace.readSets(request, 1..<request.count)
            defer { sources.deallocate() }
            if SetMembers.prefersRemoval(sources) {
                let result = SetMembers.difference(sources, keyspace.members)
                reply.members(result)
                return keyspace.discard(result.container)
            }
            let header = reply.deferredAggregate()
            var count = 0
            SetMembers.forEachOnlyInFirst(sources) { member in
                reply.value(member)
                count += 1
            }
            reply.endSet(header, count: count)
        })

    static let sdiffstore = Command(
        "SDIFFSTORE", since: "1.0.0", arity: .atLeast(3), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 1, [.overwrite, .update]), .all(from: 2, [.readOnly, .access])],
        arguments: "destination:key key#1...",
        complexity: algebraComplexity, summary: "Subtract multiple sets and store the resulting set in a key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let sources = try keyspace.readSets(request, 2..<request.count)
            defer { sources.deallocate() }
            let result = SetMembers.difference(sources, keyspace.members)
            store(result, request.firstKey, .setDifferenceStore, &keyspace, &reply)
        })

    /// Gives the result to a key, which goes if there is nothing in it.
    private static func store(
        _ result: SetMembers, _ target: Key, _ event: KeyEvent, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) {
        let count = result.count
        if count > 0 {
            keyspace.set(target, result.container, event: event)
        } else {
            keyspace.discard(result.container)
            _ = keyspace.delete(target)
        }
        reply.integer(count)
    }
}

// MARK: What these commands share

extension Keyspace {
    /// The set of a key that a command reads.
    @inline(__always)
    mutating func readSet(_ key: Key) throws(ReplyError) -> SetValue? {
        guard let entry = try read(key, as: .set) else { return nil }
        return setValue(entry)
    }

    /// The set of a key that a command is about to change.
    @inline(__always)
    fileprivate mutating func writeSet(_ key: Key) throws(ReplyError) -> SetValue? {
        guard let entry = try write(key, as: .set) else { return nil }
        willModify(entry)
        return setValue(entry)
    }

    /// The set of a key that a command is about to put something into. - Parameter member: the first that comes.
    @inline(__always)
    fileprivate mutating func openSet(_ key: Key, for member: UnsafeRawBufferPointer) throws(ReplyError) -> SetValue {
        if let set = try writeSet(key) { return set }
        return setValue(insert(key, SetMembers(for: member, members).container))
    }

    /// The sets of the keys of a request, to be deallocated by the caller.
    fileprivate mutating func readSets(_ request: Request, _ indexes: Range<Int>) throws(ReplyError) -> SourceSets {
        let sources = SourceSets.allocate(capacity: indexes.count)
        sources.initialize(repeating: nil)
        for index in indexes {
            guard let entry = lookupRead(request.key(at: index, in: self)) else { continue }
            guard entry.type == .set else {
                sources.deallocate()
                throw .wrongType
            }
            sources[index - indexes.lowerBound] = setValue(entry).members
        }
        return sources
    }
}

extension ReplyBuffer {
    /// All members of a set.
    fileprivate mutating func members(_ members: SetMembers) {
        set(members.count)
        members.forEach { member in
            value(member)
            return true
        }
    }
}
