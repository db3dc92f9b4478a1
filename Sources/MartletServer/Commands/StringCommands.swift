import MartletBase
import MartletKeyspace
import MartletRESP

// Strings: values, counters, ranges. (t_string.c)
//
// GET, SET and INCR are the commands that speed is measured by: a SET without options never looks at one.

extension CommandFamily {
    static let string = CommandFamily(
        .string,
        [
            .get, .set, .setnx, .setex, .psetex, .getex, .getdel, .getset,
            .mget, .mset, .msetnx,
            .incr, .decr, .incrby, .decrby, .incrbyfloat,
            .append, .strlen, .getrange, .substr, .setrange,
            .lcs,
            .delifeq, .delex, .digest, .msetex,
        ])
}

// MARK: One value

extension Command {
    static let get = Command(
        "GET", since: "1.0.0", arity: .exactly(2), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key",
        complexity: "O(1)", summary: "Get the value of a key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let entry = keyspace.lookupRead(request.firstKey) else { return reply.null() }
            guard entry.isString else { throw .wrongType }
            reply.string(entry)
        })

    static let set = Command(
        "SET", since: "1.0.0", arity: .atLeast(3), flags: [.write, .denyOutOfMemory],
        keys: [
            .one(
                at: 1, [.readWrite, .access, .update, .variableFlags],
                notes: "RW and ACCESS due to the optional `GET` argument")
        ],
        arguments: """
            key value [condition=<NX|XX|IFEQ ifeq-value@8.1.0|IFNE ifne-value@8.4.0|IFDEQ ifdeq-digest@8.4.0|\
            IFDNE ifdne-digest@8.4.0>@2.6.12] [GET@6.2.0] [expiration=<EX seconds:integer@2.6.12|\
            PX milliseconds:integer@2.6.12|EXAT unix-time-seconds:unix-time@6.2.0|\
            PXAT unix-time-milliseconds:unix-time@6.2.0|KEEPTTL@6.0.0>]
            """,
        history: [
            ("2.6.12", "Added the `EX`, `PX`, `NX` and `XX` options."),
            ("6.0.0", "Added the `KEEPTTL` option."),
            ("6.2.0", "Added the `GET`, `EXAT` and `PXAT` option."),
            ("7.0.0", "Allowed the `NX` and `GET` options to be used together."),
        ],
        complexity: "O(1)", summary: "Set the string value of a key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            if request.count > 3 { return try setWithOptions(request, &keyspace, &reply) }
            // Not by the subscript: its check would be a call.
            keyspace.setString(request.firstKey, request.arguments[2])
            reply.ok()
        })

    @inline(never)
    private static func setWithOptions(
        _ request: Request, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        let options = try ValueOptions(request, from: 3, of: .set)
        let expiry = try options.expiry(in: request, now: keyspace.now, command: "set")
        let key = request.firstKey
        if options.contains(.get) { try replyString(key, &keyspace, &reply) }
        if options.isConditional, try !options.areMet(by: keyspace.lookupWrite(key), request) {
            if !options.contains(.get) { reply.null() }
            return
        }
        if let expiry {
            setString(key, request[2], expiry: expiry, &keyspace)
        } else {
            keyspace.setString(key, request[2], expiry: options.contains(.keepExpiry) ? .keep : .remove)
            if options.comparison != nil {
                // Older replicas do not know the condition.
                propagate(
                    setting: key, request[2], keepingExpiry: options.contains(.keepExpiry), &keyspace)
            } else if options.contains(.get), keyspace.propagation.isOn {
                var arguments: [UnsafeRawBufferPointer] = []
                for index in 0..<request.count where index < 3 || !request.matches(index, "GET") {
                    arguments.append(request[index])
                }
                keyspace.propagateInstead(arguments)
            }
        }
        if !options.contains(.get) { reply.ok() }
    }

    static let setnx = Command(
        "SETNX", since: "1.0.0", arity: .exactly(3), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.overwrite, .insert])],
        arguments: "key value",
        complexity: "O(1)", summary: "Set the value of a key, only if the key does not exist",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let key = request.firstKey
            guard keyspace.lookupWrite(key) == nil else { return reply.integer(0) }
            keyspace.setString(key, request[2])
            reply.integer(1)
        })

    static let setex = Command(
        "SETEX", since: "2.0.0", arity: .exactly(4), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 1, [.overwrite, .update])],
        arguments: "key seconds:integer value",
        complexity: "O(1)", summary: "Set the value and expiration of a key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try setWithExpiry(request, .seconds, command: "setex", &keyspace, &reply)
        })

    static let psetex = Command(
        "PSETEX", since: "2.6.0", arity: .exactly(4), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 1, [.overwrite, .update])],
        arguments: "key milliseconds:integer value",
        complexity: "O(1)", summary: "Set the value and expiration in milliseconds of a key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try setWithExpiry(request, .milliseconds, command: "psetex", &keyspace, &reply)
        })

    private static func setWithExpiry(
        _ request: Request, _ unit: ExpiryUnit, command: StaticString, _ keyspace: inout Keyspace,
        _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        let expiry = try unit.time(request[2], now: keyspace.now, command: command)
        let key = request.firstKey
        setString(key, request[3], expiry: expiry, &keyspace)
        reply.ok()
    }

    static func propagate(
        setting key: Key, _ value: UnsafeRawBufferPointer, keepingExpiry: Bool, _ keyspace: inout Keyspace
    ) {
        if keepingExpiry {
            keyspace.propagateInstead(bytes("SET"), key.bytes, value, bytes("KEEPTTL"))
        } else {
            keyspace.propagateInstead(bytes("SET"), key.bytes, value)
        }
    }

    /// Replicas and the log get points in time, never durations.
    static func setString(
        _ key: Key, _ value: UnsafeRawBufferPointer, expiry: Int64, _ keyspace: inout Keyspace
    ) {
        keyspace.setString(key, value, expiry: .set(expiry))
        keyspace.report(.expire, key)
        guard keyspace.propagation.isOn else { return }
        withDecimal(expiry) { keyspace.propagateInstead([bytes("SET"), key.bytes, value, bytes("PXAT"), $0]) }
    }

    static let getex = Command(
        "GETEX", since: "6.2.0", arity: .atLeast(2), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .update], notes: "RW and UPDATE because it changes the TTL")],
        arguments: """
            key [expiration=<EX seconds:integer|PX milliseconds:integer|EXAT unix-time-seconds:unix-time|PXAT \
            unix-time-milliseconds:unix-time|PERSIST>]
            """,
        complexity: "O(1)", summary: "Get the value of a key and optionally set its expiration",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let options = try ValueOptions(request, from: 2, of: .get)
            let key = request.firstKey
            guard let entry = try keyspace.readString(key) else { return reply.null() }
            let expiry = try options.expiry(in: request, now: keyspace.now, command: "getex")
            reply.string(entry)
            if let expiry {
                if options.hasAbsoluteExpiry, expiry <= keyspace.now, keyspace.expiryMode == .delete {
                    _ = keyspace.delete(key)
                    keyspace.propagateInstead(bytes("DEL"), key.bytes)
                } else {
                    keyspace.setExpiry(key, entry, expiry)
                    if keyspace.propagation.isOn {
                        withDecimal(expiry) { keyspace.propagateInstead(bytes("PEXPIREAT"), key.bytes, $0) }
                    }
                }
            } else if options.contains(.persist), entry.hasExpiry {
                keyspace.setExpiry(key, entry, nil, event: .persist)
                keyspace.propagateInstead(bytes("PERSIST"), key.bytes)
            }
        })

    static let getdel = Command(
        "GETDEL", since: "6.2.0", arity: .exactly(2), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .delete])],
        arguments: "key",
        complexity: "O(1)", summary: "Get the value of a key and delete the key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let key = request.firstKey
            guard let entry = try keyspace.readString(key) else { return reply.null() }
            reply.string(entry)
            _ = keyspace.delete(key)
            keyspace.propagateInstead(bytes("DEL"), key.bytes)
        })

    static let getset = Command(
        "GETSET", since: "1.0.0", arity: .exactly(3), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .update])],
        arguments: "key value",
        deprecated: ("6.2.0", "`SET` with the `!GET` argument"),
        complexity: "O(1)", summary: "Set the string value of a key and return its old value",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let key = request.firstKey
            try replyString(key, &keyspace, &reply)
            keyspace.setString(key, request[2])
            keyspace.propagateInstead(bytes("SET"), key.bytes, request[2])
        })

    private static func replyString(
        _ key: Key, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        if let entry = try keyspace.readString(key) { reply.string(entry) } else { reply.null() }
    }
}

// MARK: Several values

extension Command {
    static let mget = Command(
        "MGET", since: "1.0.0", arity: .atLeast(2), flags: [.readonly, .fast],
        keys: [.all(from: 1, [.readOnly, .access])],
        tips: ["request_policy:multi_shard"], arguments: "key...",
        complexity: "O(N) where N is the number of keys to retrieve.", summary: "Get the values of all the given keys",
        run: .data { request, keyspace, reply throws(ReplyError) in
            reply.array(request.count - 1)
            keyspace.forEachKey(of: request, step: 1) { key, _, keyspace in
                if let entry = keyspace.lookupRead(key), entry.isString { reply.string(entry) } else { reply.null() }
            }
        })

    static let mset = Command(
        "MSET", since: "1.0.1", arity: .atLeast(3), flags: [.write, .denyOutOfMemory],
        keys: [.all(from: 1, step: 2, [.overwrite, .update])],
        tips: ["request_policy:multi_shard", "response_policy:all_succeeded"], arguments: "{key value}...",
        complexity: "O(N) where N is the number of keys to set.", summary: "Set multiple keys to multiple values",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard request.count % 2 == 1 else { throw .wrongArgumentCount("mset") }
            setPairs(request, &keyspace)
            reply.ok()
        })

    static let msetnx = Command(
        "MSETNX", since: "1.0.1", arity: .atLeast(3), flags: [.write, .denyOutOfMemory],
        keys: [.all(from: 1, step: 2, [.overwrite, .insert])],
        tips: ["request_policy:multi_shard", "response_policy:agg_min"], arguments: "{key value}...",
        complexity: "O(N) where N is the number of keys to set.",
        summary: "Set multiple keys to multiple values, only if none of the keys exist",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard request.count % 2 == 1 else { throw .wrongArgumentCount("msetnx") }
            for index in stride(from: 1, to: request.count, by: 2) {
                guard keyspace.lookupWrite(request.key(at: index, in: keyspace)) == nil else { return reply.integer(0) }
            }
            setPairs(request, &keyspace)
            reply.integer(1)
        })

    private static func setPairs(_ request: Request, _ keyspace: inout Keyspace) {
        keyspace.forEachKey(of: request, step: 2) { key, index, keyspace in
            keyspace.setString(key, request.arguments[index + 1])
        }
    }
}

// MARK: Counters

extension Command {
    static let incr = Command(
        "INCR", since: "1.0.0", arity: .exactly(2), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .update])],
        arguments: "key",
        complexity: "O(1)", summary: "Increment the integer value of a key by one",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try increment(request.firstKey, by: 1, &keyspace, &reply)
        })

    static let decr = Command(
        "DECR", since: "1.0.0", arity: .exactly(2), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .update])],
        arguments: "key",
        complexity: "O(1)", summary: "Decrement the integer value of a key by one",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try increment(request.firstKey, by: -1, &keyspace, &reply)
        })

    static let incrby = Command(
        "INCRBY", since: "1.0.0", arity: .exactly(3), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .update])],
        arguments: "key increment:integer",
        complexity: "O(1)", summary: "Increment the integer value of a key by the given amount",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try increment(request.firstKey, by: request.integer(at: 2), &keyspace, &reply)
        })

    static let decrby = Command(
        "DECRBY", since: "1.0.0", arity: .exactly(3), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .update])],
        arguments: "key decrement:integer",
        complexity: "O(1)", summary: "Decrement the integer value of a key by the given number",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let decrement = try request.integer(at: 2)
            guard decrement != .min else { throw .text("ERR decrement would overflow") }
            try increment(request.firstKey, by: -decrement, &keyspace, &reply)
        })

    /// - Complexity: O(1); an integer is changed in place.
    @inline(__always)
    private static func increment(
        _ key: Key, by increment: Int64, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        guard let entry = keyspace.lookupWrite(key) else {
            keyspace.setInteger(key, increment, event: .increment)
            return reply.integer(increment)
        }
        guard entry.isString else { throw .wrongType }
        let sum: Int64
        switch entry.string {
        case .integer(let number):
            let overflows: Bool
            (sum, overflows) = number.addingReportingOverflow(increment)
            if overflows { throw .overflow }
            keyspace.storeInteger(sum, entry, key, event: .increment)
        case .bytes(let bytes):
            guard let number = parseInt64(bytes) else { throw .notAnInteger }
            let overflows: Bool
            (sum, overflows) = number.addingReportingOverflow(increment)
            if overflows { throw .overflow }
            keyspace.setInteger(key, sum, expiry: .keep, event: .increment)
        }
        reply.integer(sum)
    }

    static let incrbyfloat = Command(
        "INCRBYFLOAT", since: "2.6.0", arity: .exactly(3), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .update])],
        arguments: "key increment:double",
        complexity: "O(1)", summary: "Increment the float value of a key by the given amount",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let key = request.firstKey
            var sum: LongDouble = 0
            if let entry = keyspace.lookupWrite(key) {
                guard entry.isString else { throw .wrongType }
                guard let number = entry.withBytes({ parseLongDouble($0) }) else { throw .notAFloat }
                sum = number
            }
            guard let increment = parseLongDouble(request[2]) else { throw .notAFloat }
            sum += increment
            guard sum.isFinite else { throw .text("ERR increment would produce NaN or Infinity") }
            withUnsafeTemporaryAllocation(byteCount: longDoubleBytesMax, alignment: 1) { text in
                let value = UnsafeRawBufferPointer(rebasing: text[..<formatHuman(sum, to: text)])
                keyspace.setString(key, value, as: .text, expiry: .keep, event: .incrementByFloat)
                reply.bulk(value)
                // So that no replica has to round as we do.
                keyspace.propagateInstead(bytes("SET"), key.bytes, value, bytes("KEEPTTL"))
            }
        })
}

// MARK: Parts of a value

extension Command {
    static let append = Command(
        "APPEND", since: "2.0.0", arity: .exactly(3), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .insert])],
        arguments: "key value",
        complexity: """
            O(1). The amortized time complexity is O(1) assuming the appended value is small and the already present \
            value is of any size, since the dynamic string library used by Redis will double the free space available \
            on every reallocation.
            """,
        summary: "Append a value to a key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let key = request.firstKey
            let tail = request[2]
            guard let entry = keyspace.lookupWrite(key) else {
                keyspace.setString(key, tail, event: .append)
                return reply.integer(tail.count)
            }
            guard entry.isString else { throw .wrongType }
            let count = entry.stringCount
            guard keyspace.allowsString(bytes: count + tail.count) else { throw .stringTooLong }
            let bytes = keyspace.openString(key, entry, count: count + tail.count)
            if let source = tail.baseAddress, tail.count > 0 {
                (bytes + count).copyMemory(from: source, byteCount: tail.count)
            }
            keyspace.didModify(.append, key)
            reply.integer(count + tail.count)
        })

    static let strlen = Command(
        "STRLEN", since: "2.2.0", arity: .exactly(2), flags: [.readonly, .fast], keys: [.one(at: 1, .readOnly)],
        arguments: "key",
        complexity: "O(1)", summary: "Get the length of the value stored in a key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            reply.integer(try keyspace.readString(request.firstKey)?.stringCount ?? 0)
        })

    private static let rangeComplexity: StaticString = """
        O(N) where N is the length of the returned string. The complexity is ultimately determined by the returned \
        length, but because creating a substring from an existing string is very cheap, it can be considered O(1) for \
        small strings.
        """

    static let getrange = Command(
        "GETRANGE", since: "2.4.0", arity: .exactly(4), flags: [.readonly], keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key start:integer end:integer",
        complexity: rangeComplexity, summary: "Get a substring of the string stored at a key",
        run: .data(replyRange))

    static let substr = Command(
        "SUBSTR", since: "1.0.0", arity: .exactly(4), flags: [.readonly], keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key start:integer end:integer",
        deprecated: ("2.0.0", "`GETRANGE`"),
        complexity: rangeComplexity, summary: "Get a substring of the string stored at a key",
        run: .data(replyRange))

    @Sendable
    private static func replyRange(
        _ request: Request, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        let start = try request.integer(at: 2)
        let end = try request.integer(at: 3)
        guard let entry = try keyspace.readString(request.firstKey) else { return reply.bulk("") }
        entry.withBytes { bytes in
            if let range = indexRange(start, end, of: bytes.count) {
                reply.bulk(UnsafeRawBufferPointer(rebasing: bytes[range]))
            } else {
                reply.bulk("")
            }
        }
    }

    static let setrange = Command(
        "SETRANGE", since: "2.2.0", arity: .exactly(4), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 1, [.readWrite, .update])],
        arguments: "key offset:integer value",
        complexity: """
            O(1), not counting the time taken to copy the new string in place. Usually, this string is very small so \
            the amortized complexity is O(1). Otherwise, complexity is O(M) with M being the length of the value \
            argument.
            """,
        summary: "Overwrite part of a string at key starting at the specified offset",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let offset = Int(try request.integer(at: 2))
            guard offset >= 0 else { throw .text("ERR offset is out of range") }
            let key = request.firstKey
            let part = request[3]
            let entry = keyspace.lookupWrite(key)
            guard entry?.isString != false else { throw .wrongType }
            let count = entry?.stringCount ?? 0
            guard part.count > 0 else { return reply.integer(count) }
            let (end, overflows) = offset.addingReportingOverflow(part.count)
            guard !overflows, keyspace.allowsString(bytes: end) else { throw .stringTooLong }
            let bytes = keyspace.openString(key, entry, count: max(count, end))
            (bytes + offset).copyMemory(from: part.baseAddress.unsafelyUnwrapped, byteCount: part.count)
            keyspace.didModify(.setRange, key)
            reply.integer(max(count, end))
        })
}

// MARK: Comparison

extension Command {
    static let lcs = Command(
        "LCS", since: "7.0.0", arity: .atLeast(3), flags: [.readonly],
        keys: [KeySpec([.readOnly, .access], begin: .index(1), find: .range(last: 1, step: 1, limit: 0))],
        arguments: "key1:key key2:key [LEN] [IDX] [MINMATCHLEN len:integer] [WITHMATCHLEN]",
        complexity: "O(N*M) where N and M are the lengths of s1 and s2, respectively",
        summary: "Find longest common substring",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let first = keyspace.lookupRead(request.firstKey)
            let second = keyspace.lookupRead(request.key(at: 2, in: keyspace))
            guard first?.isString != false, second?.isString != false else {
                throw .text("ERR The specified keys must contain string values")
            }
            let options = try LCSOptions(request)
            // Redis keeps four bytes for each pair of prefixes and sets its limit by that.
            let cells = ((first?.stringCount ?? 0) + 1).multipliedReportingOverflow(
                by: (second?.stringCount ?? 0) + 1)
            guard !cells.overflow, cells.partialValue <= keyspace.stringBytesMax / 4 else {
                throw .text("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
            }
            withBytes(first) { first in
                withBytes(second) { second in replyLCS(first, second, options, &reply) }
            }
        })

    private struct LCSOptions {
        var wantsLength = false
        var wantsMatches = false
        var matchCountMin: Int64 = 0
        var withMatchCount = false

        init(_ request: Request) throws(ReplyError) {
            var index = 3
            while index < request.count {
                if request.matches(index, "IDX") {
                    wantsMatches = true
                } else if request.matches(index, "LEN") {
                    wantsLength = true
                } else if request.matches(index, "WITHMATCHLEN") {
                    withMatchCount = true
                } else if request.matches(index, "MINMATCHLEN"), index + 1 < request.count {
                    index += 1
                    matchCountMin = try request.integer(at: index)
                } else {
                    throw .syntax
                }
                index += 1
            }
            if wantsLength, wantsMatches {
                throw .text("ERR If you want both the length and indexes, please just use IDX.")
            }
        }
    }

    private static func withBytes(_ entry: Entry?, _ body: (UnsafeRawBufferPointer) -> Void) {
        if let entry { entry.withBytes(body) } else { body(bytes("")) }
    }

    private static func replyLCS(
        _ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer, _ options: LCSOptions,
        _ reply: inout ReplyBuffer
    ) {
        let common = LongestCommonSubsequence(first, second, keepsWay: !options.wantsLength)
        if options.wantsLength { return reply.integer(common.length) }
        guard options.wantsMatches else { return reply.bulk(common.bytes()) }
        reply.map(2)
        reply.bulk("matches")
        let matches = reply.deferredAggregate()
        var count = 0
        common.forEachMatch { match in
            guard match.count >= options.matchCountMin else { return }
            reply.array(options.withMatchCount ? 3 : 2)
            for start in [match.first, match.second] {
                reply.array(2)
                reply.integer(start)
                reply.integer(start + match.count - 1)
            }
            if options.withMatchCount { reply.integer(match.count) }
            count += 1
        }
        reply.endArray(matches, count: count)
        reply.bulk("len")
        reply.integer(common.length)
    }
}

// MARK: Options of SET and GETEX

/// How the time of an expiry is given.
enum ExpiryUnit {
    case seconds, milliseconds, unixSeconds, unixMilliseconds

    /// Unix time in milliseconds. (getExpireMillisecondsOrReply)
    ///
    /// - Parameter allowsZero: as the commands for fields of hashes do, which delete at once then.
    func time(
        _ argument: UnsafeRawBufferPointer, now: Int64, command: StaticString, allowsZero: Bool = false
    ) throws(ReplyError) -> Int64 {
        guard var time = parseInt64(argument) else { throw .notAnInteger }
        var overflows = allowsZero ? time < 0 : time <= 0
        if !overflows, self == .seconds || self == .unixSeconds {
            (time, overflows) = time.multipliedReportingOverflow(by: 1000)
        }
        if !overflows, self == .seconds || self == .milliseconds {
            (time, overflows) = time.addingReportingOverflow(now)
        }
        guard !overflows else { throw .message("ERR invalid expire time in '\(command)' command") }
        return time
    }
}

/// Options that SET, MSETEX and GETEX share. Each may be repeated, except comparisons; those that contradict an earlier one
/// are syntax errors. (parseExtendedStringArgumentsOrReply)
struct ValueOptions {
    struct Flags: OptionSet {
        let rawValue: UInt8
        static let ifMissing = Flags(rawValue: 1 << 0)
        static let ifPresent = Flags(rawValue: 1 << 1)
        static let get = Flags(rawValue: 1 << 2)
        static let keepExpiry = Flags(rawValue: 1 << 3)
        static let persist = Flags(rawValue: 1 << 4)
    }

    enum User {
        case get, set, setMany
    }

    private(set) var comparison: ValueComparison?

    private var flags: Flags = []
    private var unit: ExpiryUnit?
    /// Index of the time in the request.
    private var timeIndex = 0

    init(_ request: Request, from start: Int, of user: User) throws(ReplyError) {
        let isSet = user != .get
        let isOne = user == .set
        var index = start
        while index < request.count {
            let word = request[index]
            switch word.count {
            case 2:
                if word.equalsIgnoringCase("EX") {
                    try takeTime(.seconds, request, &index)
                } else if word.equalsIgnoringCase("PX") {
                    try takeTime(.milliseconds, request, &index)
                } else if isSet, word.equalsIgnoringCase("NX"), comparison == nil, !flags.contains(.ifPresent) {
                    flags.insert(.ifMissing)
                } else if isSet, word.equalsIgnoringCase("XX"), comparison == nil, !flags.contains(.ifMissing) {
                    flags.insert(.ifPresent)
                } else {
                    throw .syntax
                }
            case 3 where isOne && word.equalsIgnoringCase("GET"):
                flags.insert(.get)
            case 4 where word.equalsIgnoringCase("EXAT"):
                try takeTime(.unixSeconds, request, &index)
            case 4 where word.equalsIgnoringCase("PXAT"):
                try takeTime(.unixMilliseconds, request, &index)
            case 7 where isSet && unit == nil && word.equalsIgnoringCase("KEEPTTL"):
                flags.insert(.keepExpiry)
            case 7 where !isSet && unit == nil && word.equalsIgnoringCase("PERSIST"):
                flags.insert(.persist)
            default:
                guard isOne, !isConditional, index + 1 < request.count,
                    let comparison = try ValueComparison(request, at: index)
                else { throw .syntax }
                self.comparison = comparison
                index += 1
            }
            index += 1
        }
    }

    private mutating func takeTime(
        _ unit: ExpiryUnit, _ request: Request, _ index: inout Int
    ) throws(ReplyError) {
        index += 1
        guard self.unit == nil || self.unit == unit, flags.isDisjoint(with: [.keepExpiry, .persist]),
            index < request.count
        else { throw .syntax }
        self.unit = unit
        timeIndex = index
    }

    func contains(_ flags: Flags) -> Bool { self.flags.contains(flags) }

    /// Of whether the key is there.
    private var presence: Flags { flags.intersection([.ifMissing, .ifPresent]) }

    var isConditional: Bool { !presence.isEmpty || comparison != nil }

    /// - Parameter entry: of the key that is to be set.
    func areMet(by entry: Entry?, _ request: Request) throws(ReplyError) -> Bool {
        if let comparison { return try comparison.isMet(by: entry, request) }
        return presence.isEmpty || (entry != nil) == contains(.ifPresent)
    }

    var hasAbsoluteExpiry: Bool { unit == .unixSeconds || unit == .unixMilliseconds }

    /// Unix time in milliseconds, or nil if no time was given.
    func expiry(in request: Request, now: Int64, command: StaticString) throws(ReplyError) -> Int64? {
        guard let unit else { return nil }
        return try unit.time(request[timeIndex], now: now, command: command)
    }
}

// MARK: What the families of string commands share

/// The text as bytes.
func bytes(_ text: StaticString) -> UnsafeRawBufferPointer { text.bytes }

/// The indexes from `start` to `end`, both inclusive, of `count` elements; negative ones count from the end.
///
/// - Returns: nil if there are none.
func indexRange(_ start: Int64, _ end: Int64, of count: Int) -> ClosedRange<Int>? {
    if start < 0, end < 0, start > end { return nil }
    let first = max(start < 0 ? start + Int64(count) : start, 0)
    let last = min(max(end < 0 ? end + Int64(count) : end, 0), Int64(count) - 1)
    return first <= last ? Int(first)...Int(last) : nil
}

extension Request {
    /// The key at index 1, with the hash that was computed while the batch was prepared.
    ///
    /// - Precondition: the command's arity asks for it.
    @inline(__always) var firstKey: Key { Key(bytes: arguments[1], hash: keyHash, table: Int(slot)) }

    /// Any other key of a request. All keys of a request share its slot, which is known unless no key has a fixed place
    /// (LMPOP): then there is no hash either.
    func key(at index: Int, in keyspace: borrowing Keyspace) -> Key {
        keyHash == 0 ? keyspace.key(self[index]) : keyspace.key(self[index], slot: slot)
    }
}

extension Keyspace {
    /// Visits the keys of a request from index 1 on: a few at a time, so that their buckets are fetched side by side.
    ///
    /// - Parameter step: 1 if all arguments are keys, 2 if there is a value behind each.
    @inline(__always)
    mutating func forEachKey(of request: Request, step: Int, _ visit: (Key, Int, inout Keyspace) -> Void) {
        withUnsafeTemporaryAllocation(of: Key.self, capacity: 16) { keys in
            var index = 1
            while index < request.count {
                let count = min(16, (request.count - index + step - 1) / step)
                for number in 0..<count {
                    let key = request.key(at: index + number * step, in: self)
                    prefetchBucket(database: selected, hash: key.hash, table: key.table)
                    keys.initializeElement(at: number, to: key)
                }
                for number in 0..<count {
                    prefetchEntry(database: selected, hash: keys[number].hash, table: keys[number].table)
                }
                for number in 0..<count { visit(keys[number], index + number * step, &self) }
                index += count * step
            }
        }
    }

    /// The entry of a key that a command reads as a string.
    @inline(__always)
    mutating func readString(_ key: Key) throws(ReplyError) -> Entry? {
        guard let entry = lookupRead(key) else { return nil }
        guard entry.isString else { throw .wrongType }
        return entry
    }
}

extension ReplyBuffer {
    /// A string value. - Precondition: the entry is a string.
    @inline(__always)
    mutating func string(_ entry: Entry) {
        switch entry.string {
        case .bytes(let bytes): bulk(bytes)
        case .integer(let number): bulk(decimal: number)
        }
    }
}
