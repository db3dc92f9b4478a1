import MartletBase
import MartletKeyspace
import MartletRESP

// Commands that set, ask for and remove the time at which a key goes away.
//
// A time that has passed already deletes the key, but only where this node decides: a replica leaves it to its primary.
// Replicas and the log get points in time, or the deletion, never a duration.
//
// Source: Redis 7.0 expire.c.

extension CommandFamily {
    static let expiry = CommandFamily(
        .generic,
        [.expire, .pexpire, .expireat, .pexpireat, .ttl, .pttl, .expiretime, .pexpiretime, .persist])
}

/// When an existing expiry lets a new one through.
struct ExpiryCondition: OptionSet {
    let rawValue: UInt8
    static let hasNone = ExpiryCondition(rawValue: 1 << 0)
    static let hasOne = ExpiryCondition(rawValue: 1 << 1)
    static let later = ExpiryCondition(rawValue: 1 << 2)
    static let sooner = ExpiryCondition(rawValue: 1 << 3)

    init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The options of EXPIRE and its kin. - Parameter indexes: where they stand.
    init(_ request: Request, _ indexes: Range<Int>) throws(ReplyError) {
        self = []
        for index in indexes {
            if request.matches(index, "NX") {
                insert(.hasNone)
            } else if request.matches(index, "XX") {
                insert(.hasOne)
            } else if request.matches(index, "GT") {
                insert(.later)
            } else if request.matches(index, "LT") {
                insert(.sooner)
            } else {
                throw .message("ERR Unsupported option \(ReplyError.quoted(request[index].cString))")
            }
        }
        if contains(.hasNone), rawValue != Self.hasNone.rawValue {
            throw .text("ERR NX and XX, GT or LT options at the same time are not compatible")
        }
        if contains([.later, .sooner]) {
            throw .text("ERR GT and LT options at the same time are not compatible")
        }
    }

    /// A key without an expiry counts as one that lives for ever.
    func allows(_ new: Int64, insteadOf old: Int64?) -> Bool {
        if contains(.hasNone), old != nil { return false }
        if contains(.hasOne), old == nil { return false }
        if contains(.later) {
            guard let old, new > old else { return false }
        }
        if contains(.sooner), let old, new >= old { return false }
        return true
    }
}

extension Command {
    static let expire = Command(
        "EXPIRE", since: "1.0.0", arity: .atLeast(3), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .update])],
        arguments: "key seconds:integer [condition=<NX|XX|GT|LT>@7.0.0]",
        history: [("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
        complexity: "O(1)",
        summary: "Set a key's time to live in seconds",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try expire(request, unit: 1000, base: keyspace.now, name: "expire", &keyspace, &reply)
        })

    static let pexpire = Command(
        "PEXPIRE", since: "2.6.0", arity: .atLeast(3), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .update])],
        arguments: "key milliseconds:integer [condition=<NX|XX|GT|LT>@7.0.0]",
        history: [("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
        complexity: "O(1)",
        summary: "Set a key's time to live in milliseconds",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try expire(request, unit: 1, base: keyspace.now, name: "pexpire", &keyspace, &reply)
        })

    static let expireat = Command(
        "EXPIREAT", since: "1.2.0", arity: .atLeast(3), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .update])],
        arguments: "key unix-time-seconds:unix-time [condition=<NX|XX|GT|LT>@7.0.0]",
        history: [("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
        complexity: "O(1)",
        summary: "Set the expiration for a key as a UNIX timestamp",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try expire(request, unit: 1000, base: 0, name: "expireat", &keyspace, &reply)
        })

    static let pexpireat = Command(
        "PEXPIREAT", since: "2.6.0", arity: .atLeast(3), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .update])],
        arguments: "key unix-time-milliseconds:unix-time [condition=<NX|XX|GT|LT>@7.0.0]",
        history: [("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
        complexity: "O(1)",
        summary: "Set the expiration for a key as a UNIX timestamp specified in milliseconds",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try expire(request, unit: 1, base: 0, name: "pexpireat", &keyspace, &reply)
        })

    /// - Parameters:
    ///   - unit: milliseconds in a unit of the argument.
    ///   - base: what the argument counts from, Unix time in milliseconds.
    private static func expire(
        _ request: Request, unit: Int64, base: Int64, name: StaticString, _ keyspace: inout Keyspace,
        _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        let condition = try ExpiryCondition(request, 3..<max(request.count, 3))
        let (milliseconds, tooLong) = try request.integer(at: 2).multipliedReportingOverflow(by: unit)
        let (time, tooLate) = milliseconds.addingReportingOverflow(base)
        if tooLong || tooLate { throw .message("ERR invalid expire time in '\(name)' command") }

        let key = request.firstKey
        guard let entry = keyspace.lookupWrite(key), condition.allows(time, insteadOf: entry.expiry) else {
            return reply.integer(0)
        }
        if time <= keyspace.now, keyspace.expiryMode == .delete {
            _ = keyspace.delete(key)
            keyspace.propagateInstead(StaticString("DEL").bytes, key.bytes)
        } else {
            keyspace.setExpiry(key, entry, time)
            if keyspace.propagation.isOn, unit != 1 || base != 0 { propagate(request, time, &keyspace) }
        }
        reply.integer(1)
    }

    /// The same command as PEXPIREAT, options included.
    private static func propagate(_ request: Request, _ time: Int64, _ keyspace: inout Keyspace) {
        withDecimal(time) { time in
            var arguments = [StaticString("PEXPIREAT").bytes, request[1], time]
            for index in 3..<max(request.count, 3) { arguments.append(request[index]) }
            keyspace.propagateInstead(arguments)
        }
    }

    static let persist = Command(
        "PERSIST", since: "2.2.0", arity: .exactly(2), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .update])],
        arguments: "key",
        complexity: "O(1)",
        summary: "Remove the expiration from a key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let key = request.firstKey
            guard let entry = keyspace.lookupWrite(key), entry.hasExpiry else { return reply.integer(0) }
            keyspace.setExpiry(key, entry, nil, event: .persist)
            reply.integer(1)
        })
}

// MARK: - Asking

extension Command {
    static let ttl = Command(
        "TTL", since: "1.0.0", arity: .exactly(2), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        tips: ["nondeterministic_output"], arguments: "key",
        history: [("2.8.0", "Added the -2 reply.")],
        complexity: "O(1)", summary: "Get the time to live for a key in seconds",
        run: .data { request, keyspace, reply throws(ReplyError) in
            tell(request, from: keyspace.now, unit: 1000, &keyspace, &reply)
        })

    static let pttl = Command(
        "PTTL", since: "2.6.0", arity: .exactly(2), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        tips: ["nondeterministic_output"], arguments: "key",
        history: [("2.8.0", "Added the -2 reply.")],
        complexity: "O(1)",
        summary: "Get the time to live for a key in milliseconds",
        run: .data { request, keyspace, reply throws(ReplyError) in
            tell(request, from: keyspace.now, unit: 1, &keyspace, &reply)
        })

    static let expiretime = Command(
        "EXPIRETIME", since: "7.0.0", arity: .exactly(2), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key",
        complexity: "O(1)",
        summary: "Get the expiration Unix timestamp for a key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            tell(request, from: 0, unit: 1000, &keyspace, &reply)
        })

    static let pexpiretime = Command(
        "PEXPIRETIME", since: "7.0.0", arity: .exactly(2), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key",
        complexity: "O(1)",
        summary: "Get the expiration Unix timestamp for a key in milliseconds",
        run: .data { request, keyspace, reply throws(ReplyError) in
            tell(request, from: 0, unit: 1, &keyspace, &reply)
        })

    /// -2 for a missing key, -1 for one that stays.
    private static func tell(
        _ request: Request, from base: Int64, unit: Int64, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) {
        guard let entry = keyspace.lookupReadUntouched(request.firstKey) else { return reply.integer(-2) }
        guard let expiry = entry.expiry else { return reply.integer(-1) }
        // Both are times since 1970 or earlier times than now: no overflow above, and below it is cut off at 0.
        let milliseconds = expiry > base ? expiry - base : 0
        // Rounded to the nearest second.
        reply.integer(unit == 1 ? milliseconds : milliseconds / 1000 + (milliseconds % 1000 >= 500 ? 1 : 0))
    }
}
