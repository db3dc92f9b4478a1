import MartletBase
import MartletKeyspace
import MartletRESP

// Sorted sets: members with scores, ranges of them, unions and intersections. (t_zset.c)
//
// ZADD, ZRANGE and ZPOPMIN are the commands that speed is measured by: one member and no option is their short way.

extension CommandFamily {
    static let sortedSet = CommandFamily(
        .sortedSet,
        [
            .zadd, .zincrby, .zrem, .zremrangebyrank, .zremrangebyscore, .zremrangebylex,
            .zcard, .zscore, .zmscore, .zrank, .zrevrank, .zcount, .zlexcount, .zrandmember, .zscan,
            .zrange, .zrevrange, .zrangebyscore, .zrevrangebyscore, .zrangebylex, .zrevrangebylex, .zrangestore,
            .zpopmin, .zpopmax, .zmpop, .bzpopmin, .bzpopmax, .bzmpop,
            .zunion, .zinter, .zdiff, .zintercard, .zunionstore, .zinterstore, .zdiffstore,
        ])
}

// MARK: Members

extension Command {
    static let zadd = Command(
        "ZADD", since: "1.2.0", arity: .atLeast(4), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .update])],
        arguments: """
            key [condition=<NX|XX>@3.0.2] [comparison=<GT|LT>@6.2.0] [change=CH@3.0.2] [increment=INCR@3.0.2] \
            {score:double member}...
            """,
        history: [
            ("2.4.0", "Accepts multiple elements."),
            ("3.0.2", "Added the `XX`, `NX`, `CH` and `INCR` options."),
            ("6.2.0", "Added the `GT` and `LT` options."),
        ],
        complexity: "O(log(N)) for each item added, where N is the number of elements in the sorted set.",
        summary: "Add one or more members to a sorted set, or update its score if it already exists",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try add(request, [], &keyspace, &reply)
        })

    static let zincrby = Command(
        "ZINCRBY", since: "1.2.0", arity: .exactly(4), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .update])],
        arguments: "key increment:integer member",
        complexity: "O(log(N)) where N is the number of elements in the sorted set.",
        summary: "Increment the score of a member in a sorted set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try add(request, .increment, &keyspace, &reply)
        })

    private static func add(
        _ request: Request, _ given: SortedSetRules, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        let arguments = try AddArguments(request, given)
        let start = arguments.start
        try add(
            request.firstKey, (request.count - start) / 2, arguments.rules, countsUpdates: arguments.countsUpdates,
            &keyspace, &reply
        ) { index in
            // All but the first have been read before, to find mistakes.
            let score = index == 0 ? arguments.firstScore : parseDouble(request[start + index * 2]) ?? 0
            return (score, request[start + index * 2 + 1])
        }
    }

    /// What ZADD does once its arguments are known. - Parameter pair: score and member of a number.
    @inline(__always)
    static func add(
        _ key: Key, _ count: Int, _ rules: SortedSetRules, countsUpdates: Bool,
        _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer,
        _ pair: (Int) -> (score: Double, member: UnsafeRawBufferPointer)
    ) throws(ReplyError) {
        let entry = try keyspace.writeSortedSet(key)
        if let entry {
            keyspace.willModify(entry)
        } else if rules.contains(.onlyPresent) {
            return rules.contains(.increment) ? reply.null() : reply.integer(0)
        }
        let target = entry ?? keyspace.insert(key, SortedSetValue.emptyContainer)
        var set = keyspace.sortedSet(target)
        var (added, updated) = (0, 0)
        var newScore: Double?
        for index in 0..<count {
            let (score, member) = pair(index)
            switch set.add(member, score: score, rules) {
            case .added(let score):
                added += 1
                newScore = score
            case .updated(let score):
                updated += 1
                newScore = score
            case .same(let score): newScore = score
            case .skipped: break
            case .notANumber: throw .text("ERR resulting score is not a number (NaN)")
            }
        }
        if added + updated > 0 {
            let event: KeyEvent = rules.contains(.increment) ? .sortedSetIncrement : .sortedSetAdd
            keyspace.didModify(event, key, changes: added + updated)
        }
        if !rules.contains(.increment) {
            reply.integer(countsUpdates ? added + updated : added)
        } else if let newScore {
            reply.double(newScore)
        } else {
            reply.null()
        }
    }

    /// Options and pairs of ZADD.
    private struct AddArguments {
        var rules: SortedSetRules
        var countsUpdates = false
        /// Index of the first score.
        var start = 2
        var firstScore = 0.0

        init(_ request: Request, _ given: SortedSetRules) throws(ReplyError) {
            rules = given
            // A score that begins with a letter is an infinity.
            while start < request.count, let first = request[start].first, first > UInt8(ascii: "9") {
                if request.matches(start, "NX") {
                    rules.insert(.onlyNew)
                } else if request.matches(start, "XX") {
                    rules.insert(.onlyPresent)
                } else if request.matches(start, "CH") {
                    countsUpdates = true
                } else if request.matches(start, "INCR") {
                    rules.insert(.increment)
                } else if request.matches(start, "GT") {
                    rules.insert(.onlyGreater)
                } else if request.matches(start, "LT") {
                    rules.insert(.onlyLower)
                } else {
                    break
                }
                start += 1
            }
            let count = request.count - start
            guard count > 0, count % 2 == 0 else { throw .syntax }
            if !rules.isEmpty { try checkRules(pairCount: count / 2) }
            firstScore = try request.score(at: start)
            var index = start + 2
            while index < request.count {
                _ = try request.score(at: index)
                index += 2
            }
        }

        private func checkRules(pairCount: Int) throws(ReplyError) {
            if rules.isSuperset(of: [.onlyNew, .onlyPresent]) {
                throw .text("ERR XX and NX options at the same time are not compatible")
            }
            let exclusive = rules.intersection([.onlyNew, .onlyGreater, .onlyLower])
            if exclusive.rawValue.nonzeroBitCount > 1 {
                throw .text("ERR GT, LT, and/or NX options at the same time are not compatible")
            }
            if rules.contains(.increment), pairCount > 1 {
                throw .text("ERR INCR option supports a single increment-element pair")
            }
        }
    }

    static let zrem = Command(
        "ZREM", since: "1.2.0", arity: .atLeast(3), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .delete])],
        arguments: "key member...",
        history: [("2.4.0", "Accepts multiple elements.")],
        complexity: """
            O(M*log(N)) with N being the number of elements in the sorted set and M the number of elements to be \
            removed.
            """,
        summary: "Remove one or more members from a sorted set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let key = request.firstKey
            guard let entry = try keyspace.writeSortedSet(key) else { return reply.integer(0) }
            keyspace.willModify(entry)
            var set = keyspace.sortedSet(entry)
            var removed = 0
            for index in 2..<request.count where set.remove(request[index]) {
                removed += 1
                if set.isEmpty { break }
            }
            keyspace.didRemove(removed, from: set, key, .sortedSetRemove)
            reply.integer(removed)
        })

    static let zremrangebyrank = Command(
        "ZREMRANGEBYRANK", since: "2.0.0", arity: .exactly(4), flags: [.write],
        keys: [.one(at: 1, [.readWrite, .delete])],
        arguments: "key start:integer stop:integer",
        complexity: """
            O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements removed \
            by the operation.
            """,
        summary: "Remove all members in a sorted set within the given indexes",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let start = try request.integer(at: 2)
            let end = try request.integer(at: 3)
            try removeRange(request, .sortedSetRemoveByRank, &keyspace, &reply) { $0.ranks(from: start, to: end) }
        })

    static let zremrangebyscore = Command(
        "ZREMRANGEBYSCORE", since: "1.2.0", arity: .exactly(4), flags: [.write],
        keys: [.one(at: 1, [.readWrite, .delete])],
        arguments: "key min:double max:double",
        complexity: """
            O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements removed \
            by the operation.
            """,
        summary: "Remove all members in a sorted set within the given scores",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let range = try request.scoreRange(min: 2, max: 3)
            try removeRange(request, .sortedSetRemoveByScore, &keyspace, &reply) { $0.ranks(in: range) }
        })

    static let zremrangebylex = Command(
        "ZREMRANGEBYLEX", since: "2.8.9", arity: .exactly(4), flags: [.write],
        keys: [.one(at: 1, [.readWrite, .delete])],
        arguments: "key min max",
        complexity: """
            O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements removed \
            by the operation.
            """,
        summary: "Remove all members in a sorted set between the given lexicographical range",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let range = try request.lexRange(min: 2, max: 3)
            try removeRange(request, .sortedSetRemoveByLex, &keyspace, &reply) {
                $0.ranks(in: range, isReversed: false)
            }
        })

    private static func removeRange(
        _ request: Request, _ event: KeyEvent, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer,
        _ ranks: (SortedSetValue) -> Range<Int>
    ) throws(ReplyError) {
        let key = request.firstKey
        guard let entry = try keyspace.writeSortedSet(key) else { return reply.integer(0) }
        let set = keyspace.sortedSet(entry)
        let ranks = ranks(set)
        keyspace.remove(ranks, from: set, entry, key, event)
        reply.integer(ranks.count)
    }
}

// MARK: What is there

extension Command {
    static let zcard = Command(
        "ZCARD", since: "1.2.0", arity: .exactly(2), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly])],
        arguments: "key",
        complexity: "O(1)",
        summary: "Get the number of members in a sorted set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            reply.integer(try keyspace.readSortedSet(request.firstKey)?.count ?? 0)
        })

    static let zscore = Command(
        "ZSCORE", since: "1.2.0", arity: .exactly(3), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key member",
        complexity: "O(1)",
        summary: "Get the score associated with the given member in a sorted set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let set = try keyspace.readSortedSet(request.firstKey)
            guard let score = set?.score(of: request[2]) else { return reply.null() }
            reply.double(score)
        })

    static let zmscore = Command(
        "ZMSCORE", since: "6.2.0", arity: .atLeast(3), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key member...",
        complexity: "O(N) where N is the number of members being requested.",
        summary: "Get the score associated with the given members in a sorted set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let set = try keyspace.readSortedSet(request.firstKey)
            reply.array(request.count - 2)
            for index in 2..<request.count {
                if let score = set?.score(of: request[index]) { reply.double(score) } else { reply.null() }
            }
        })

    static let zrank = Command(
        "ZRANK", since: "2.0.0", arity: .exactly(3), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key member",
        complexity: "O(log(N))",
        summary: "Determine the index of a member in a sorted set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let set = try keyspace.readSortedSet(request.firstKey)
            guard let rank = set?.rank(of: request[2]) else { return reply.null() }
            reply.integer(rank)
        })

    static let zrevrank = Command(
        "ZREVRANK", since: "2.0.0", arity: .exactly(3), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key member",
        complexity: "O(log(N))",
        summary: "Determine the index of a member in a sorted set, with scores ordered from high to low",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let set = try keyspace.readSortedSet(request.firstKey), let rank = set.rank(of: request[2]) else {
                return reply.null()
            }
            reply.integer(set.count - 1 - rank)
        })

    static let zcount = Command(
        "ZCOUNT", since: "2.0.0", arity: .exactly(4), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key min:double max:double",
        complexity: "O(log(N)) with N being the number of elements in the sorted set.",
        summary: "Count the members in a sorted set with scores within the given values",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let range = try request.scoreRange(min: 2, max: 3)
            reply.integer(try keyspace.readSortedSet(request.firstKey)?.ranks(in: range).count ?? 0)
        })

    static let zlexcount = Command(
        "ZLEXCOUNT", since: "2.8.9", arity: .exactly(4), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key min max",
        complexity: "O(log(N)) with N being the number of elements in the sorted set.",
        summary: "Count the number of members in a sorted set between a given lexicographical range",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let range = try request.lexRange(min: 2, max: 3)
            let set = try keyspace.readSortedSet(request.firstKey)
            reply.integer(set?.ranks(in: range, isReversed: false).count ?? 0)
        })

    static let zscan = Command(
        "ZSCAN", since: "2.8.0", arity: .atLeast(3), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        tips: ["nondeterministic_output"],
        arguments: "key cursor:integer [MATCH pattern:pattern] [COUNT count:integer]",
        complexity: """
            O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to \
            return back to 0. N is the number of elements inside the collection..
            """,
        summary: "Incrementally iterate sorted sets elements and associated scores",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard var scan = try MemberScan(request, .sortedSet, &keyspace, &reply) else { return }
            let hasScores = !scan.options.omitsValues
            if let found = scan.begin(&reply) {
                for member in found where scan.takes(.bytes(member.key)) {
                    reply.bulk(member.key)
                    if hasScores { reply.bulk(double: member.score) }
                }
            } else {
                keyspace.sortedSet(scan.entry).forEachInListpack { member, score in
                    guard scan.takes(member) else { return }
                    reply.value(member)
                    if hasScores { reply.value(score) }
                }
            }
            scan.end(&reply, width: hasScores ? 2 : 1)
        })

    static let zrandmember = Command(
        "ZRANDMEMBER", since: "6.2.0", arity: .atLeast(2), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        tips: ["nondeterministic_output"],
        arguments: "key [options={count:integer [WITHSCORES]}]",
        complexity: "O(N) where N is the number of elements returned",
        summary: "Get one or multiple random elements from a sorted set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard request.count > 2 else {
                guard let set = try keyspace.readSortedSet(request.firstKey) else { return reply.null() }
                return set.withMember(atRank: keyspace.random.below(set.count)) { member, _ in reply.value(member) }
            }
            let count = try request.drawCount(at: 2)
            guard request.count < 4 || (request.count == 4 && request.matches(3, "WITHSCORES")) else { throw .syntax }
            let withScores = request.count == 4
            if withScores, count.magnitude > Int.max / 2 { throw .text("ERR value is out of range") }
            guard let set = try keyspace.readSortedSet(request.firstKey), count != 0 else { return reply.array(0) }
            if count < 0 {
                try replySamples(-count, of: set, withScores, &keyspace, &reply)
            } else {
                replyChoice(count, of: set, withScores, &keyspace, &reply)
            }
        })

    /// Any members, one independent of the other.
    private static func replySamples(
        _ count: Int, of set: SortedSetValue, _ withScores: Bool, _ keyspace: inout Keyspace,
        _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        var draws = try Draws(count, reply)
        reply.members(count, withScores)
        while try draws.next(&reply) {
            set.withMember(atRank: keyspace.random.below(set.count)) { reply.member($0, $1, withScores) }
        }
    }

    /// Different members. All of them come in reverse order, as from Redis.
    private static func replyChoice(
        _ wanted: Int, of set: SortedSetValue, _ withScores: Bool, _ keyspace: inout Keyspace,
        _ reply: inout ReplyBuffer
    ) {
        let total = set.count
        let count = min(wanted, total)
        reply.members(count, withScores)
        if count == total {
            set.forEach(in: 0..<total, isReversed: true) { reply.member($0, $1, withScores) }
        } else if count * 3 > total || total <= 128 {
            var (left, rest) = (count, total)
            set.forEach { member, score in
                if keyspace.random.below(rest) < left {
                    reply.member(member, score, withScores)
                    left -= 1
                }
                rest -= 1
                return left > 0
            }
        } else {
            // Floyd's sampling: no rank is drawn in vain.
            var chosen: Set<Int> = []
            for limit in total - count..<total {
                let drawn = keyspace.random.below(limit + 1)
                let rank = chosen.insert(drawn).inserted ? drawn : limit
                if rank == limit { chosen.insert(limit) }
                set.withMember(atRank: rank) { reply.member($0, $1, withScores) }
            }
        }
    }
}

// MARK: Ranges

extension Command {
    static let zrange = Command(
        "ZRANGE", since: "1.2.0", arity: .atLeast(4), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: """
            key start stop [sortby=<BYSCORE|BYLEX>@6.2.0] [REV@6.2.0] [LIMIT {offset:integer count:integer}@6.2.0] \
            [WITHSCORES]
            """,
        history: [("6.2.0", "Added the `REV`, `BYSCORE`, `BYLEX` and `LIMIT` options.")],
        complexity: """
            O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements returned.
            """,
        summary: "Return a range of members in a sorted set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try replyRange(request, nil, isReversed: nil, &keyspace, &reply)
        })

    static let zrevrange = Command(
        "ZREVRANGE", since: "1.2.0", arity: .atLeast(4), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key start:integer stop:integer [WITHSCORES]",
        deprecated: ("6.2.0", "`ZRANGE` with the `REV` argument"),
        complexity: """
            O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements returned.
            """,
        summary: "Return a range of members in a sorted set, by index, with scores ordered from high to low",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try replyRange(request, .rank, isReversed: true, &keyspace, &reply)
        })

    static let zrangebyscore = Command(
        "ZRANGEBYSCORE", since: "1.0.5", arity: .atLeast(4), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key min:double max:double [WITHSCORES@2.0.0] [LIMIT {offset:integer count:integer}]",
        history: [("2.0.0", "Added the `WITHSCORES` modifier.")],
        deprecated: ("6.2.0", "`ZRANGE` with the `BYSCORE` argument"),
        complexity: """
            O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements being \
            returned. If M is constant (e.g. always asking for the first 10 elements with LIMIT), you can consider \
            it O(log(N)).
            """,
        summary: "Return a range of members in a sorted set, by score",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try replyRange(request, .score, isReversed: false, &keyspace, &reply)
        })

    static let zrevrangebyscore = Command(
        "ZREVRANGEBYSCORE", since: "2.2.0", arity: .atLeast(4), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key max:double min:double [WITHSCORES] [LIMIT {offset:integer count:integer}]",
        history: [("2.1.6", "`min` and `max` can be exclusive.")],
        deprecated: ("6.2.0", "`ZRANGE` with the `REV` and `BYSCORE` arguments"),
        complexity: """
            O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements being \
            returned. If M is constant (e.g. always asking for the first 10 elements with LIMIT), you can consider \
            it O(log(N)).
            """,
        summary: "Return a range of members in a sorted set, by score, with scores ordered from high to low",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try replyRange(request, .score, isReversed: true, &keyspace, &reply)
        })

    static let zrangebylex = Command(
        "ZRANGEBYLEX", since: "2.8.9", arity: .atLeast(4), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key min max [LIMIT {offset:integer count:integer}]",
        deprecated: ("6.2.0", "`ZRANGE` with the `BYLEX` argument"),
        complexity: """
            O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements being \
            returned. If M is constant (e.g. always asking for the first 10 elements with LIMIT), you can consider \
            it O(log(N)).
            """,
        summary: "Return a range of members in a sorted set, by lexicographical range",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try replyRange(request, .lex, isReversed: false, &keyspace, &reply)
        })

    static let zrevrangebylex = Command(
        "ZREVRANGEBYLEX", since: "2.8.9", arity: .atLeast(4), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key max min [LIMIT {offset:integer count:integer}]",
        deprecated: ("6.2.0", "`ZRANGE` with the `REV` and `BYLEX` arguments"),
        complexity: """
            O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements being \
            returned. If M is constant (e.g. always asking for the first 10 elements with LIMIT), you can consider \
            it O(log(N)).
            """,
        summary: """
            Return a range of members in a sorted set, by lexicographical range, ordered from higher to lower \
            strings.
            """,
        run: .data { request, keyspace, reply throws(ReplyError) in
            try replyRange(request, .lex, isReversed: true, &keyspace, &reply)
        })

    static let zrangestore = Command(
        "ZRANGESTORE", since: "6.2.0", arity: .atLeast(5), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 1, [.overwrite, .update]), .one(at: 2, [.readOnly, .access])],
        arguments: "dst:key src:key#1 min max [sortby=<BYSCORE|BYLEX>] [REV] [LIMIT {offset:integer count:integer}]",
        complexity: """
            O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements stored \
            into the destination key.
            """,
        summary: "Store a range of members from sorted set into another key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let range = try RangeArguments(request, from: 2, nil, isReversed: nil, isStore: true)
            let source = try keyspace.readSortedSet(request.key(at: 2, in: keyspace))
            let target = request.key(at: 1, in: keyspace)
            guard let source, case let ranks = range.ranks(of: source), !ranks.isEmpty else {
                _ = keyspace.delete(target)
                return reply.integer(0)
            }
            var result = SortedSetValue(keyspace.members)
            source.forEach(in: ranks, isReversed: range.isReversed) { member, score in
                result.add(member, score: score)
            }
            keyspace.set(target, result.container, event: .sortedSetRangeStore)
            reply.integer(ranks.count)
        })

    private static func replyRange(
        _ request: Request, _ kind: RangeArguments.Kind?, isReversed: Bool?, _ keyspace: inout Keyspace,
        _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        let range = try RangeArguments(request, from: 1, kind, isReversed: isReversed, isStore: false)
        guard let set = try keyspace.readSortedSet(request.firstKey) else { return reply.array(0) }
        let ranks = range.ranks(of: set)
        let withScores = range.withScores
        reply.members(ranks.count, withScores)
        set.forEach(in: ranks, isReversed: range.isReversed) { reply.member($0, $1, withScores) }
    }
}

/// What ZRANGE and its kin ask for.
private struct RangeArguments {
    enum Kind { case rank, score, lex }

    private enum Bounds {
        case ranks(Int64, Int64)
        case scores(ScoreRange)
        case members(LexRange)
    }

    private(set) var isReversed: Bool
    private(set) var withScores = false
    private var offset = 0
    /// Negative: no limit.
    private var limit = -1
    private var bounds = Bounds.ranks(0, 0)

    /// - Parameters:
    ///   - source: index of the key.
    ///   - kind: nil if options tell it, as they do `isReversed`.
    init(
        _ request: Request, from source: Int, _ kind: Kind?, isReversed: Bool?, isStore: Bool
    ) throws(ReplyError) {
        var kind = kind
        var isReversed = isReversed
        var index = source + 3
        while index < request.count {
            if !isStore, request.matches(index, "WITHSCORES") {
                withScores = true
            } else if index + 2 < request.count, request.matches(index, "LIMIT") {
                offset = Int(try request.integer(at: index + 1))
                limit = Int(try request.integer(at: index + 2))
                index += 2
            } else if isReversed == nil, request.matches(index, "REV") {
                isReversed = true
            } else if kind == nil, request.matches(index, "BYLEX") {
                kind = .lex
            } else if kind == nil, request.matches(index, "BYSCORE") {
                kind = .score
            } else {
                throw .syntax
            }
            index += 1
        }
        self.isReversed = isReversed ?? false
        if limit != -1, kind ?? .rank == .rank {
            throw .text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX")
        }
        if withScores, kind == .lex {
            throw .text("ERR syntax error, WITHSCORES not supported in combination with BYLEX")
        }
        // From the greater to the lesser when reversed, but ranks are counted from the end then.
        let (min, max) = self.isReversed ? (source + 2, source + 1) : (source + 1, source + 2)
        switch kind ?? .rank {
        case .rank: bounds = .ranks(try request.integer(at: source + 1), try request.integer(at: source + 2))
        case .score: bounds = .scores(try request.scoreRange(min: min, max: max))
        case .lex: bounds = .members(try request.lexRange(min: min, max: max))
        }
    }

    func ranks(of set: SortedSetValue) -> Range<Int> {
        let ranks: Range<Int>
        switch bounds {
        case .ranks(let start, let end):
            let ranks = set.ranks(from: start, to: end)
            guard isReversed else { return ranks }
            let count = set.count
            return count - ranks.upperBound..<count - ranks.lowerBound
        case .scores(let range): ranks = set.ranks(in: range)
        case .members(let range): ranks = set.ranks(in: range, isReversed: isReversed)
        }
        if offset == 0, limit < 0 { return ranks }
        guard offset >= 0, offset < ranks.count else { return 0..<0 }
        let rest = ranks.count - offset
        let count = limit < 0 ? rest : min(limit, rest)
        let lower = isReversed ? ranks.upperBound - offset - count : ranks.lowerBound + offset
        return lower..<lower + count
    }
}

// MARK: Taking out

extension Command {
    static let zpopmin = Command(
        "ZPOPMIN", since: "5.0.0", arity: .atLeast(2), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .delete])],
        arguments: "key [count:integer]",
        complexity: """
            O(log(N)*M) with N being the number of elements in the sorted set, and M being the number of elements \
            popped.
            """,
        summary: "Remove and return members with the lowest scores in a sorted set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try pop(request, fromMax: false, &keyspace, &reply)
        })

    static let zpopmax = Command(
        "ZPOPMAX", since: "5.0.0", arity: .atLeast(2), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .delete])],
        arguments: "key [count:integer]",
        complexity: """
            O(log(N)*M) with N being the number of elements in the sorted set, and M being the number of elements \
            popped.
            """,
        summary: "Remove and return members with the highest scores in a sorted set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try pop(request, fromMax: true, &keyspace, &reply)
        })

    static let zmpop = Command(
        "ZMPOP", since: "7.0.0", arity: .atLeast(4), flags: [.write],
        keys: [KeySpec([.readWrite, .access, .delete], begin: .index(1), find: .count(index: 0, first: 1, step: 1))],
        arguments: "numkeys:integer key... where=<MIN|MAX> [COUNT count:integer]",
        complexity: """
            O(K) + O(M*log(N)) where K is the number of provided keys, N being the number of elements in the sorted \
            set, and M being the number of elements popped.
            """,
        summary: "Remove and return members with scores in a sorted set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let arguments = try MultiPop(request, from: 1, .scores)
            for index in arguments.keys {
                let key = request.key(at: index, in: keyspace)
                guard let entry = try keyspace.writeSortedSet(key) else { continue }
                let (fromMax, limit) = (arguments.isFromLast, arguments.limit)
                let count = replyPopped(key, entry, fromMax: fromMax, limit: limit, &keyspace, &reply)
                return propagatePop(key, fromMax: fromMax, count: count, &keyspace)
            }
            reply.nullArray()
        })

    private static func pop(
        _ request: Request, fromMax: Bool, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        guard request.count < 4 else { throw .syntax }
        var limit = 1
        if request.count == 3 {
            guard let number = parseInt64(request[2]), number >= 0 else {
                throw .text("ERR value is out of range, must be positive")
            }
            limit = Int(number)
        }
        let key = request.firstKey
        guard let entry = try keyspace.writeSortedSet(key), limit > 0 else { return reply.array(0) }
        let set = keyspace.sortedSet(entry)
        let ranks = set.endRanks(limit, fromMax: fromMax)
        // One member without a count is never nested.
        let isNested = reply.isRESP3 && request.count == 3
        reply.array(isNested ? ranks.count : ranks.count * 2)
        set.forEach(in: ranks, isReversed: fromMax) { member, score in
            if isNested { reply.array(2) }
            reply.value(member)
            reply.double(score)
        }
        keyspace.remove(ranks, from: set, entry, key, fromMax ? .sortedSetPopMax : .sortedSetPopMin)
    }

    /// Takes members out and replies with the key and pairs. - Returns: how many there were.
    static func replyPopped(
        _ key: Key, _ entry: Entry, fromMax: Bool, limit: Int, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) -> Int {
        let set = keyspace.sortedSet(entry)
        let ranks = set.endRanks(limit, fromMax: fromMax)
        reply.array(2)
        reply.bulk(key.bytes)
        reply.array(ranks.count)
        set.forEach(in: ranks, isReversed: fromMax) { member, score in
            reply.array(2)
            reply.value(member)
            reply.double(score)
        }
        keyspace.remove(ranks, from: set, entry, key, fromMax ? .sortedSetPopMax : .sortedSetPopMin)
        return ranks.count
    }

    /// Takes one member out and replies with key, member and score.
    static func replyPopped(
        _ key: Key, _ entry: Entry, fromMax: Bool, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) {
        let set = keyspace.sortedSet(entry)
        let ranks = set.endRanks(1, fromMax: fromMax)
        reply.array(3)
        reply.bulk(key.bytes)
        set.forEach(in: ranks, isReversed: fromMax) { member, score in
            reply.value(member)
            reply.double(score)
        }
        keyspace.remove(ranks, from: set, entry, key, fromMax ? .sortedSetPopMax : .sortedSetPopMin)
    }

    /// - Parameter count: nil for one member.
    static func propagatePop(_ key: Key, fromMax: Bool, count: Int?, _ keyspace: inout Keyspace) {
        guard keyspace.propagation.isOn else { return }
        let name = fromMax ? bytes("ZPOPMAX") : bytes("ZPOPMIN")
        guard let count else { return keyspace.propagateInstead(name, key.bytes) }
        withDecimal(Int64(count)) { keyspace.propagateInstead(name, key.bytes, $0) }
    }
}

// MARK: Waiting

extension Command {
    static let bzpopmin = Command(
        "BZPOPMIN", since: "5.0.0", arity: .atLeast(3), flags: [.write, .noScript, .fast, .blocking],
        keys: [KeySpec([.readWrite, .access, .delete], begin: .index(1), find: .range(last: -2, step: 1, limit: 0))],
        arguments: "key... timeout:double",
        history: [("6.0.0", "`timeout` is interpreted as a double instead of an integer.")],
        complexity: "O(log(N)) with N being the number of elements in the sorted set.",
        summary: """
            Remove and return the member with the lowest score from one or more sorted sets, or block until one is \
            available
            """,
        run: .node { request, node, client throws(ReplyError) in
            let keys = 1..<request.count - 1
            let deadline = try request.deadline(seconds: keys.upperBound, now: node.time.unixMilliseconds)
            try blockingPop(request, keys: keys, type: .sortedSet, until: deadline, &node, client) {
                request, key, entry, keyspace, reply throws(ReplyError) in
                replyPopped(key, entry, fromMax: false, &keyspace, &reply)
                propagatePop(key, fromMax: false, count: nil, &keyspace)
                return true
            }
        })

    static let bzpopmax = Command(
        "BZPOPMAX", since: "5.0.0", arity: .atLeast(3), flags: [.write, .noScript, .fast, .blocking],
        keys: [KeySpec([.readWrite, .access, .delete], begin: .index(1), find: .range(last: -2, step: 1, limit: 0))],
        arguments: "key... timeout:double",
        history: [("6.0.0", "`timeout` is interpreted as a double instead of an integer.")],
        complexity: "O(log(N)) with N being the number of elements in the sorted set.",
        summary: """
            Remove and return the member with the highest score from one or more sorted sets, or block until one is \
            available
            """,
        run: .node { request, node, client throws(ReplyError) in
            let keys = 1..<request.count - 1
            let deadline = try request.deadline(seconds: keys.upperBound, now: node.time.unixMilliseconds)
            try blockingPop(request, keys: keys, type: .sortedSet, until: deadline, &node, client) {
                request, key, entry, keyspace, reply throws(ReplyError) in
                replyPopped(key, entry, fromMax: true, &keyspace, &reply)
                propagatePop(key, fromMax: true, count: nil, &keyspace)
                return true
            }
        })

    static let bzmpop = Command(
        "BZMPOP", since: "7.0.0", arity: .atLeast(5), flags: [.write, .blocking],
        keys: [KeySpec([.readWrite, .access, .delete], begin: .index(2), find: .count(index: 0, first: 1, step: 1))],
        arguments: "timeout:double numkeys:integer key... where=<MIN|MAX> [COUNT count:integer]",
        complexity: """
            O(K) + O(M*log(N)) where K is the number of provided keys, N being the number of elements in the sorted \
            set, and M being the number of elements popped.
            """,
        summary: "Remove and return members with scores in a sorted set or block until one is available",
        run: .node { request, node, client throws(ReplyError) in
            let keys = try MultiPop(request, from: 2, .scores).keys
            let deadline = try request.deadline(seconds: 1, now: node.time.unixMilliseconds)
            try blockingPop(request, keys: keys, type: .sortedSet, until: deadline, &node, client) {
                request, key, entry, keyspace, reply throws(ReplyError) in
                let arguments = try MultiPop(request, from: 2, .scores)
                let (fromMax, limit) = (arguments.isFromLast, arguments.limit)
                let count = replyPopped(key, entry, fromMax: fromMax, limit: limit, &keyspace, &reply)
                propagatePop(key, fromMax: fromMax, count: count, &keyspace)
                return true
            }
        })
}

// MARK: Several sets

extension Command {
    static let zunion = Command(
        "ZUNION", since: "6.2.0", arity: .atLeast(3), flags: [.readonly],
        keys: [KeySpec([.readOnly, .access], begin: .index(1), find: .count(index: 0, first: 1, step: 1))],
        arguments: """
            numkeys:integer key... [WEIGHTS weight:integer...] [aggregate=AGGREGATE <SUM|MIN|MAX>] [WITHSCORES]
            """,
        complexity: """
            O(N)+O(M*log(M)) with N being the sum of the sizes of the input sorted sets, and M being the number of \
            elements in the resulting sorted set.
            """,
        summary: "Add multiple sorted sets",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try combine(request, .union, of: "zunion", &keyspace, &reply)
        })

    static let zinter = Command(
        "ZINTER", since: "6.2.0", arity: .atLeast(3), flags: [.readonly],
        keys: [KeySpec([.readOnly, .access], begin: .index(1), find: .count(index: 0, first: 1, step: 1))],
        arguments: """
            numkeys:integer key... [WEIGHTS weight:integer...] [aggregate=AGGREGATE <SUM|MIN|MAX>] [WITHSCORES]
            """,
        complexity: """
            O(N*K)+O(M*log(M)) worst case with N being the smallest input sorted set, K being the number of input \
            sorted sets and M being the number of elements in the resulting sorted set.
            """,
        summary: "Intersect multiple sorted sets",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try combine(request, .intersection, of: "zinter", &keyspace, &reply)
        })

    static let zdiff = Command(
        "ZDIFF", since: "6.2.0", arity: .atLeast(3), flags: [.readonly],
        keys: [KeySpec([.readOnly, .access], begin: .index(1), find: .count(index: 0, first: 1, step: 1))],
        arguments: "numkeys:integer key... [WITHSCORES]",
        complexity: """
            O(L + (N-K)log(N)) worst case where L is the total number of elements in all the sets, N is the size of \
            the first set, and K is the size of the result set.
            """,
        summary: "Subtract multiple sorted sets",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try combine(request, .difference, of: "zdiff", &keyspace, &reply)
        })

    static let zintercard = Command(
        "ZINTERCARD", since: "7.0.0", arity: .atLeast(3), flags: [.readonly],
        keys: [KeySpec([.readOnly, .access], begin: .index(1), find: .count(index: 0, first: 1, step: 1))],
        arguments: "numkeys:integer key... [LIMIT limit:integer]",
        complexity: """
            O(N*K) worst case with N being the smallest input sorted set, K being the number of input sorted sets.
            """,
        summary: "Intersect multiple sorted sets and return the cardinality of the result",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let arguments = try OperationArguments(request, .intersection, of: "zintercard", isCount: true, &keyspace)
            reply.integer(SortedSetValue.intersectionCount(of: arguments.sources, limit: arguments.limit))
        })

    static let zunionstore = Command(
        "ZUNIONSTORE", since: "2.0.0", arity: .atLeast(4), flags: [.write, .denyOutOfMemory],
        keys: [
            .one(at: 1, [.overwrite, .update]),
            KeySpec([.readOnly, .access], begin: .index(2), find: .count(index: 0, first: 1, step: 1)),
        ],
        arguments: """
            destination:key numkeys:integer key#1... [WEIGHTS weight:integer...] [aggregate=AGGREGATE <SUM|MIN|MAX>]
            """,
        complexity: """
            O(N)+O(M log(M)) with N being the sum of the sizes of the input sorted sets, and M being the number of \
            elements in the resulting sorted set.
            """,
        summary: "Add multiple sorted sets and store the resulting sorted set in a new key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try store(request, .union, of: "zunionstore", .sortedSetUnionStore, &keyspace, &reply)
        })

    static let zinterstore = Command(
        "ZINTERSTORE", since: "2.0.0", arity: .atLeast(4), flags: [.write, .denyOutOfMemory],
        keys: [
            .one(at: 1, [.overwrite, .update]),
            KeySpec([.readOnly, .access], begin: .index(2), find: .count(index: 0, first: 1, step: 1)),
        ],
        arguments: """
            destination:key numkeys:integer key#1... [WEIGHTS weight:integer...] [aggregate=AGGREGATE <SUM|MIN|MAX>]
            """,
        complexity: """
            O(N*K)+O(M*log(M)) worst case with N being the smallest input sorted set, K being the number of input \
            sorted sets and M being the number of elements in the resulting sorted set.
            """,
        summary: "Intersect multiple sorted sets and store the resulting sorted set in a new key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try store(request, .intersection, of: "zinterstore", .sortedSetIntersectionStore, &keyspace, &reply)
        })

    static let zdiffstore = Command(
        "ZDIFFSTORE", since: "6.2.0", arity: .atLeast(4), flags: [.write, .denyOutOfMemory],
        keys: [
            .one(at: 1, [.overwrite, .update]),
            KeySpec([.readOnly, .access], begin: .index(2), find: .count(index: 0, first: 1, step: 1)),
        ],
        arguments: "destination:key numkeys:integer key#1...",
        complexity: """
            O(L + (N-K)log(N)) worst case where L is the total number of elements in all the sets, N is the size of \
            the first set, and K is the size of the result set.
            """,
        summary: "Subtract multiple sorted sets and store the resulting sorted set in a new key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try store(request, .difference, of: "zdiffstore", .sortedSetDifferenceStore, &keyspace, &reply)
        })

    private static func combine(
        _ request: Request, _ operation: OperationArguments.Operation, of command: String,
        _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        let arguments = try OperationArguments(request, operation, of: command, &keyspace)
        let result = arguments.result(keyspace.members)
        reply.members(result.count, arguments.withScores)
        result.forEach { member, score in
            reply.member(member, score, arguments.withScores)
            return true
        }
        keyspace.discard(result.container)
    }

    private static func store(
        _ request: Request, _ operation: OperationArguments.Operation, of command: String, _ event: KeyEvent,
        _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        let arguments = try OperationArguments(request, operation, of: command, isStore: true, &keyspace)
        let result = arguments.result(keyspace.members)
        let target = request.key(at: 1, in: keyspace)
        reply.integer(keyspace.storeResult(result, target, event))
    }
}

/// What ZUNION and its kin ask for.
private struct OperationArguments {
    enum Operation { case union, intersection, difference }

    private let operation: Operation
    private(set) var sources: [SortedSetSource] = []
    private var aggregate = ScoreAggregate.sum
    private(set) var withScores = false
    /// 0: none.
    private(set) var limit = 0

    /// - Parameters:
    ///   - command: in lower case, for messages.
    ///   - isStore: the result is stored at the key before the number of keys.
    ///   - isCount: only the count of members is asked for.
    init(
        _ request: Request, _ operation: Operation, of command: String, isStore: Bool = false, isCount: Bool = false,
        _ keyspace: inout Keyspace
    ) throws(ReplyError) {
        self.operation = operation
        let start = isStore ? 3 : 2
        let number = try request.integer(at: start - 1)
        guard number >= 1 else {
            throw .message("ERR at least 1 input key is needed for '\(command)' command")
        }
        guard number <= request.count - start else { throw .syntax }
        let count = Int(number)
        for index in start..<start + count {
            let entry = keyspace.lookupRead(request.key(at: index, in: keyspace))
            guard let source = SortedSetSource(entry, in: keyspace) else { throw .wrongType }
            sources.append(source)
        }
        let hasWeights = operation != .difference && !isCount
        var index = start + count
        while index < request.count {
            let left = request.count - index - 1
            if hasWeights, left >= count, request.matches(index, "WEIGHTS") {
                for number in 0..<count {
                    guard let weight = parseDouble(request[index + 1 + number]) else {
                        throw .text("ERR weight value is not a float")
                    }
                    sources[number].weight = weight
                }
                index += count + 1
            } else if hasWeights, left >= 1, request.matches(index, "AGGREGATE") {
                aggregate = try Self.aggregate(request, index + 1)
                index += 2
            } else if !isStore, !isCount, request.matches(index, "WITHSCORES") {
                withScores = true
                index += 1
            } else if isCount, left >= 1, request.matches(index, "LIMIT") {
                guard let limit = parseInt64(request[index + 1]), limit >= 0 else {
                    throw .text("ERR LIMIT can't be negative")
                }
                self.limit = Int(limit)
                index += 2
            } else {
                throw .syntax
            }
        }
    }

    private static func aggregate(_ request: Request, _ index: Int) throws(ReplyError) -> ScoreAggregate {
        if request.matches(index, "SUM") { return .sum }
        if request.matches(index, "MIN") { return .min }
        if request.matches(index, "MAX") { return .max }
        throw .syntax
    }

    /// The result belongs to the caller.
    func result(_ store: MemberStorePointer) -> SortedSetValue {
        switch operation {
        case .union: return .union(of: sources, aggregate, store)
        case .intersection: return .intersection(of: sources, aggregate, store)
        case .difference: return .difference(of: sources, store)
        }
    }
}

// MARK: Shared

extension Request {
    /// A number that may be a score, infinities included.
    @inline(__always)
    fileprivate func score(at index: Int) throws(ReplyError) -> Double {
        guard let score = parseDouble(self[index]) else { throw .notAFloat }
        return score
    }

    /// - Parameters:
    ///   - min: index of the lower bound; `max`: of the upper one.
    fileprivate func scoreRange(min: Int, max: Int) throws(ReplyError) -> ScoreRange {
        guard let range = ScoreRange(min: self[min], max: self[max]) else {
            throw .text("ERR min or max is not a float")
        }
        return range
    }

    fileprivate func lexRange(min: Int, max: Int) throws(ReplyError) -> LexRange {
        guard let range = LexRange(min: self[min], max: self[max]) else {
            throw .text("ERR min or max not valid string range item")
        }
        return range
    }
}

extension SortedSetValue {
    /// The ranks from `start` to `end`, both inclusive; negative ones count from the end.
    fileprivate func ranks(from start: Int64, to end: Int64) -> Range<Int> {
        let count = Int64(count)
        let first = max(start < 0 ? start + count : start, 0)
        let last = min(end < 0 ? end + count : end, count - 1)
        return first <= last ? Int(first)..<Int(last) + 1 : 0..<0
    }

    /// The ranks of the first or last members.
    fileprivate func endRanks(_ limit: Int, fromMax: Bool) -> Range<Int> {
        let total = count
        let count = min(limit, total)
        return fromMax ? total - count..<total : 0..<count
    }
}

extension Keyspace {
    /// The sorted set of a key that a command reads; nil if there is no such key.
    @inline(__always)
    mutating func readSortedSet(_ key: Key) throws(ReplyError) -> SortedSetValue? {
        guard let entry = try read(key, as: .sortedSet) else { return nil }
        return sortedSet(entry)
    }

    /// The entry of a sorted set that a command is going to change; nil if there is no such key.
    @inline(__always)
    mutating func writeSortedSet(_ key: Key) throws(ReplyError) -> Entry? { try write(key, as: .sortedSet) }

    /// Takes members out, and the key with the last one.
    fileprivate mutating func remove(
        _ ranks: Range<Int>, from set: SortedSetValue, _ entry: Entry, _ key: Key, _ event: KeyEvent
    ) {
        if ranks.isEmpty { return }
        if ranks.count == set.count {
            // As a whole, which may take its time.
            didModify(event, key, changes: ranks.count)
            deleteEmptied(key)
            return
        }
        willModify(entry)
        var set = set
        set.remove(ranks: ranks)
        didModify(event, key, changes: ranks.count)
    }

    /// Reports that members have left, and deletes the key with the last one.
    fileprivate mutating func didRemove(_ count: Int, from set: SortedSetValue, _ key: Key, _ event: KeyEvent) {
        guard count > 0 else { return }
        didModify(event, key, changes: count)
        if set.isEmpty { deleteEmptied(key) }
    }

    /// Gives a key the result of an operation, or takes it away if that is empty. - Returns: the count of members.
    mutating func storeResult(_ result: SortedSetValue, _ key: Key, _ event: KeyEvent) -> Int {
        let count = result.count
        if count == 0 {
            discard(result.container)
            _ = delete(key)
        } else {
            var result = result
            result.compact()
            set(key, result.container, event: event)
        }
        return count
    }
}

extension ReplyBuffer {
    /// Announces members, each with its score behind it, or in an array of two in RESP3.
    fileprivate mutating func members(_ count: Int, _ withScores: Bool) {
        array(withScores && !isRESP3 ? count * 2 : count)
    }

    @inline(__always)
    fileprivate mutating func member(_ member: StringView, _ score: Double, _ withScores: Bool) {
        if withScores, isRESP3 { array(2) }
        value(member)
        if withScores { double(score) }
    }
}
