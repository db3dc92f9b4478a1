import MartletBase
import MartletKeyspace
import MartletRESP

// Times to live of fields, by the rules of Valkey 9. (Keyspace+FieldExpiry.swift tells when a field goes away.)
//
// A time that has passed already deletes the field, but only where this node decides. Replicas and the log get points in
// time, or the deletion, never a duration.
//
// Source: Valkey 9.1 t_hash.c.

// MARK: - Setting

extension Command {
    private static let fieldsComplexity: StaticString = "O(N) where N is the number of specified fields."

    static let hexpire = Command(
        "HEXPIRE", since: "9.0.0", arity: .atLeast(6), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .update])],
        arguments: "key seconds:integer [condition=<NX|XX|GT|LT>] FIELDS fields={numfields:integer field...}",
        complexity: fieldsComplexity, summary: "Sets expiry time on hash fields.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try expireFields(request, .seconds, command: "hexpire", &keyspace, &reply)
        })

    static let hpexpire = Command(
        "HPEXPIRE", since: "9.0.0", arity: .atLeast(6), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .update])],
        arguments: "key milliseconds:integer [condition=<NX|XX|GT|LT>] FIELDS fields={numfields:integer field...}",
        complexity: fieldsComplexity, summary: "Set expiry time on hash object.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try expireFields(request, .milliseconds, command: "hpexpire", &keyspace, &reply)
        })

    static let hexpireat = Command(
        "HEXPIREAT", since: "9.0.0", arity: .atLeast(6), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .update])],
        arguments: """
            key unix-time-seconds:integer [condition=<NX|XX|GT|LT>] FIELDS fields={numfields:integer field...}
            """,
        complexity: fieldsComplexity, summary: "Set expiry time on hash fields.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try expireFields(request, .unixSeconds, command: "hexpireat", &keyspace, &reply)
        })

    static let hpexpireat = Command(
        "HPEXPIREAT", since: "9.0.0", arity: .atLeast(6), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .update])],
        arguments: """
            key unix-time-milliseconds:integer [condition=<NX|XX|GT|LT>] FIELDS fields={numfields:integer field...}
            """,
        complexity: fieldsComplexity, summary: "Sets expiration time on hash field.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try expireFields(request, .unixMilliseconds, command: "hpexpireat", &keyspace, &reply)
        })

    /// For each field: 1 if the time was set, 0 if the condition is not met, 2 if the field was deleted, -2 if there is none.
    private static func expireFields(
        _ request: Request, _ unit: ExpiryUnit, command: StaticString, _ keyspace: inout Keyspace,
        _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        let word = request.indexOfFields(from: 3)
        let condition = try ExpiryCondition(request, 3..<(word ?? 3))
        let fields = try request.fields(behind: word)
        let time = try unit.time(request[2], now: keyspace.now, command: command, allowsZero: true)
        let key = request.firstKey
        let entry = try keyspace.writeHash(key, fields: fields, of: request)
        reply.array(fields.count)
        guard let entry else {
            for _ in fields { reply.integer(-2) }
            return
        }
        keyspace.willModify(entry)
        var hash = keyspace.hashValue(entry)
        let deletes = keyspace.isOver(time)
        var changed: [UnsafeRawBufferPointer] = []
        for index in fields {
            let field = request[index]
            let isAllowed: Bool
            switch hash.lifetime(of: field) {
            case .missing:
                reply.integer(-2)
                continue
            case .unlimited: isAllowed = condition.allows(time, insteadOf: nil)
            case .until(let old): isAllowed = condition.allows(time, insteadOf: old)
            }
            guard isAllowed else {
                reply.integer(0)
                continue
            }
            if deletes { _ = hash.remove(field) } else { hash.setExpiry(field, time) }
            changed.append(field)
            reply.integer(deletes ? 2 : 1)
        }
        entry.container = hash.container
        keyspace.didSetFieldExpiry(deletes ? .delete : .set(time), of: changed, hash, entry, key)
    }

    static let hpersist = Command(
        "HPERSIST", since: "9.0.0", arity: .atLeast(5), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .update])],
        arguments: "key FIELDS fields={numfields:integer field...}",
        complexity: fieldsComplexity, summary: "Remove the existing expiration on a hash key's field(s).",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let fields = try request.fieldsAlone()
            let key = request.firstKey
            let entry = try keyspace.writeHash(key, fields: fields, of: request)
            reply.array(fields.count)
            guard let entry else {
                for _ in fields { reply.integer(-2) }
                return
            }
            keyspace.willModify(entry)
            var hash = keyspace.hashValue(entry)
            var changed: [UnsafeRawBufferPointer] = []
            for index in fields {
                switch hash.lifetime(of: request[index]) {
                case .missing: reply.integer(-2)
                case .unlimited: reply.integer(-1)
                case .until:
                    hash.setExpiry(request[index], nil)
                    changed.append(request[index])
                    reply.integer(1)
                }
            }
            entry.container = hash.container
            keyspace.didSetFieldExpiry(.persist, of: changed, hash, entry, key)
        })
}

// MARK: - Asking

extension Command {
    static let httl = Command(
        "HTTL", since: "9.0.0", arity: .atLeast(5), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key FIELDS fields={numfields:integer field...}", complexity: fieldsComplexity,
        summary: """
            Returns the remaining time to live (in seconds) of a hash key's field(s) that have an associated expiration.
            """,
        run: .data { request, keyspace, reply throws(ReplyError) in
            try tellFieldExpiry(request, from: keyspace.now, unit: 1000, &keyspace, &reply)
        })

    static let hpttl = Command(
        "HPTTL", since: "9.0.0", arity: .atLeast(5), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key FIELDS fields={numfields:integer field...}", complexity: fieldsComplexity,
        summary: """
            Returns the remaining time to live in milliseconds of a hash key's field(s) that have an associated \
            expiration.
            """,
        run: .data { request, keyspace, reply throws(ReplyError) in
            try tellFieldExpiry(request, from: keyspace.now, unit: 1, &keyspace, &reply)
        })

    static let hexpiretime = Command(
        "HEXPIRETIME", since: "9.0.0", arity: .atLeast(5), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key FIELDS fields={numfields:integer field...}", complexity: fieldsComplexity,
        summary: """
            Returns the Unix timestamp in seconds since the epoch at which the given key's field(s) will expire
            """,
        run: .data { request, keyspace, reply throws(ReplyError) in
            try tellFieldExpiry(request, from: 0, unit: 1000, &keyspace, &reply)
        })

    static let hpexpiretime = Command(
        "HPEXPIRETIME", since: "9.0.0", arity: .atLeast(5), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key FIELDS fields={numfields:integer field...}", complexity: fieldsComplexity,
        summary: """
            Returns the Unix timestamp in milliseconds since Unix epoch at which the given key's field(s) will expire
            """,
        run: .data { request, keyspace, reply throws(ReplyError) in
            try tellFieldExpiry(request, from: 0, unit: 1, &keyspace, &reply)
        })

    /// -2 for a missing field, -1 for one that stays.
    private static func tellFieldExpiry(
        _ request: Request, from base: Int64, unit: Int64, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        let fields = try request.fieldsAlone(mismatch: .syntax)
        let hash = try keyspace.readHash(request.firstKey)
        reply.array(fields.count)
        for index in fields {
            switch hash?.lifetime(of: request[index]) {
            case nil, .missing: reply.integer(-2)
            case .unlimited: reply.integer(-1)
            case .until(let expiry):
                let milliseconds = expiry > base ? expiry - base : 0
                reply.integer(unit == 1 ? milliseconds : milliseconds / 1000 + (milliseconds % 1000 >= 500 ? 1 : 0))
            }
        }
    }
}

// MARK: - Reading and setting at once

extension Command {
    static let hgetex = Command(
        "HGETEX", since: "9.0.0", arity: .atLeast(5), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .access])],
        arguments: """
            key [expiration=<EX seconds:integer|PX milliseconds:integer|EXAT unix-time-seconds:unix-time|PXAT \
            unix-time-milliseconds:unix-time|PERSIST>] FIELDS fields={numfields:integer field...}
            """,
        complexity: fieldsComplexity,
        summary: """
            Get the value of one or more fields of a given hash key, and optionally set their expiration time or \
            time-to-live (TTL).
            """,
        run: .data { request, keyspace, reply throws(ReplyError) in
            let word = request.indexOfFields(from: 2)
            let options = try FieldOptions(request, 2..<(word ?? 2), of: .get)
            let fields = try request.fields(behind: word)
            let key = request.firstKey
            // It counts as a read.
            if let entry = keyspace.lookupRead(key), entry.type != .hash { throw .wrongType }
            let time = try options.time(in: request, now: keyspace.now, command: "hgetex")
            let entry = try keyspace.writeHash(key, fields: fields, of: request)
            reply.array(fields.count)
            guard let entry else {
                for _ in fields { reply.null() }
                return
            }
            var hash = keyspace.hashValue(entry)
            guard time != nil || options.contains(.persist) else {
                for index in fields { reply.field(request[index], of: hash) }
                return
            }
            keyspace.willModify(entry)
            let deletes = time.map { keyspace.isOver($0) } ?? false
            var changed: [UnsafeRawBufferPointer] = []
            for index in fields {
                let field = request[index]
                reply.field(field, of: hash)
                if deletes {
                    if hash.remove(field) { changed.append(field) }
                    continue
                }
                switch hash.lifetime(of: field) {
                case .missing: continue
                case .unlimited: if time == nil { continue }
                case .until: break
                }
                hash.setExpiry(field, time)
                changed.append(field)
            }
            entry.container = hash.container
            let change: FieldExpiryChange = deletes ? .delete : time.map { .set($0) } ?? .persist
            keyspace.didSetFieldExpiry(change, of: changed, hash, entry, key)
        })

    static let hsetex = Command(
        "HSETEX", since: "9.0.0", arity: .atLeast(6), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .insert])],
        arguments: """
            key [condition=<NX|XX>] [fields-condition=<FNX|FXX>] [expiration=<EX seconds:integer|PX \
            milliseconds:integer|EXAT unix-time-seconds:unix-time|PXAT unix-time-milliseconds:unix-time|KEEPTTL>] \
            FIELDS fields={numfields:integer data={field value}...}
            """,
        complexity: fieldsComplexity,
        summary: """
            Set the value of one or more fields of a given hash key, and optionally set their expiration time.
            """,
        run: .data { request, keyspace, reply throws(ReplyError) in
            let word = request.indexOfFields(from: 2)
            let options = try FieldOptions(request, 2..<(word ?? 2), of: .set)
            let pairs = try request.fields(behind: word, width: 2)
            let key = request.firstKey
            let exists = try keyspace.writeHash(key) != nil
            if options.contains(exists ? .ifKeyMissing : .ifKeyPresent) { return reply.integer(0) }
            let time = try options.time(in: request, now: keyspace.now, command: "hsetex")
            let entry = try keyspace.writeHash(key, fields: pairs, step: 2, of: request)
            if options.contains(.ifFieldsMissing) || options.contains(.ifFieldsPresent) {
                let hash = entry.map { keyspace.hashValue($0) }
                for index in stride(from: pairs.lowerBound, to: pairs.upperBound, by: 2) {
                    let isPresent = hash?.value(of: request[index]) != nil
                    if options.contains(isPresent ? .ifFieldsMissing : .ifFieldsPresent) { return reply.integer(0) }
                }
            }
            if let time, keyspace.isOver(time) {
                keyspace.deleteFields(pairs, of: request, entry, key)
                return reply.integer(1)
            }
            setFields(pairs, of: request, options, time, key, try keyspace.openHash(key), &keyspace)
            reply.integer(1)
        })

    private static func setFields(
        _ pairs: Range<Int>, of request: Request, _ options: FieldOptions, _ time: Int64?, _ key: Key, _ entry: Entry,
        _ keyspace: inout Keyspace
    ) {
        var hash = keyspace.hashValue(entry)
        let expiry: ExpiryChange = time.map { .set($0) } ?? (options.contains(.keepExpiry) ? .keep : .remove)
        for index in stride(from: pairs.lowerBound, to: pairs.upperBound, by: 2) {
            _ = hash.set(request[index], request[index + 1], expiry: expiry)
        }
        entry.container = hash.container
        keyspace.noteFieldExpiry(entry)
        keyspace.didModify(.hashSet, key, changes: pairs.count / 2)
        if time != nil { keyspace.report(.hashExpire, key) }
        guard keyspace.propagation.isOn else { return }
        // What the conditions were decided by may be gone on replicas, and durations begin elsewhere later. Where no time is
        // set or kept, replicas get what Redis 7.0 knows as well.
        let keepsTimes =
            options.contains(.keepExpiry)
            && stride(from: pairs.lowerBound, to: pairs.upperBound, by: 2).contains {
                hash.lifetime(of: request[$0]) != .unlimited
            }
        guard time != nil || keepsTimes else {
            return keyspace.propagateInstead([bytes("HSET"), key.bytes] + pairs.map { request[$0] })
        }
        let fields = (pairs.lowerBound - 2..<pairs.upperBound).map { request[$0] }
        if let time {
            withDecimal(time) {
                keyspace.propagateInstead([bytes("HSETEX"), key.bytes, bytes("PXAT"), $0] + fields)
            }
        } else {
            keyspace.propagateInstead([bytes("HSETEX"), key.bytes, bytes("KEEPTTL")] + fields)
        }
    }

    static let hgetdel = Command(
        "HGETDEL", since: "9.1.0", arity: .atLeast(5), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .delete])],
        arguments: "key FIELDS fields={numfields:integer field...}",
        complexity: "O(N) where N is the number of fields to be retrieved and deleted.",
        summary: "Returns the values of one or more fields and deletes them from a hash.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let fields = try request.fieldsAlone()
            let key = request.firstKey
            let entry = try keyspace.writeHash(key, fields: fields, of: request)
            reply.array(fields.count)
            guard let entry else {
                for _ in fields { reply.null() }
                return
            }
            keyspace.willModify(entry)
            var hash = keyspace.hashValue(entry)
            var deleted: [UnsafeRawBufferPointer] = []
            for index in fields {
                reply.field(request[index], of: hash)
                if hash.remove(request[index]) { deleted.append(request[index]) }
            }
            entry.container = hash.container
            guard !deleted.isEmpty else { return }
            keyspace.propagateInstead([bytes("HDEL"), key.bytes] + deleted)
            keyspace.didRemoveFields(deleted.count, hash, key, .hashDelete)
        })
}

// MARK: - What these commands share

private enum FieldExpiryChange {
    case set(Int64)
    case persist
    case delete
}

extension Keyspace {
    /// Whether a time that was asked for means deletion: a replica, or the stream, keeps what its primary will delete.
    fileprivate func isOver(_ time: Int64) -> Bool { time <= now && expiryMode == .delete }

    /// The entry of a hash that a command may change, after those of its fields were deleted whose time has passed.
    fileprivate mutating func writeHash(
        _ key: Key, fields: Range<Int>, step: Int = 1, of request: Request
    ) throws(ReplyError) -> Entry? {
        var entry = try writeHash(key)
        for index in stride(from: fields.lowerBound, to: fields.upperBound, by: step) {
            guard let current = entry, current.container.hasExpiringFields else { break }
            entry = expireField(request[index], of: key, current)
        }
        return entry
    }

    /// Reports a change of times. - Parameter fields: those that were changed or deleted.
    fileprivate mutating func didSetFieldExpiry(
        _ change: FieldExpiryChange, of fields: [UnsafeRawBufferPointer], _ hash: HashValue, _ entry: Entry, _ key: Key
    ) {
        guard !fields.isEmpty else { return }
        switch change {
        case .delete:
            statistics.expiredFields &+= fields.count
            propagateInstead([bytes("HDEL"), key.bytes] + fields)
            return didRemoveFields(fields.count, hash, key, .hashExpired)
        case .set(let time):
            noteFieldExpiry(entry)
            propagateFields([bytes("HPEXPIREAT"), key.bytes], time, fields)
            didModify(.hashExpire, key, changes: fields.count)
        case .persist:
            propagateFields([bytes("HPERSIST"), key.bytes], nil, fields)
            didModify(.hashPersist, key, changes: fields.count)
        }
    }

    private mutating func propagateFields(
        _ head: [UnsafeRawBufferPointer], _ time: Int64?, _ fields: [UnsafeRawBufferPointer]
    ) {
        guard propagation.isOn else { return }
        withDecimal(Int64(fields.count)) { count in
            let tail = [bytes("FIELDS"), count] + fields
            guard let time else { return propagateInstead(head + tail) }
            withDecimal(time) { propagateInstead(head + [$0] + tail) }
        }
    }

    /// Deletes the fields of pairs.
    fileprivate mutating func deleteFields(_ pairs: Range<Int>, of request: Request, _ entry: Entry?, _ key: Key) {
        guard let entry else { return }
        willModify(entry)
        var hash = hashValue(entry)
        var deleted: [UnsafeRawBufferPointer] = []
        for index in stride(from: pairs.lowerBound, to: pairs.upperBound, by: 2) where hash.remove(request[index]) {
            deleted.append(request[index])
        }
        entry.container = hash.container
        didSetFieldExpiry(.delete, of: deleted, hash, entry, key)
    }
}

extension Request {
    /// Where the word FIELDS stands. Something has to follow it.
    fileprivate func indexOfFields(from start: Int) -> Int? {
        (start..<max(start, count - 1)).first { matches($0, "FIELDS") }
    }

    /// The indexes of fields where nothing stands before the word.
    fileprivate func fieldsAlone(mismatch: ReplyError = .fieldCount) throws(ReplyError) -> Range<Int> {
        guard matches(2, "FIELDS") else { throw .syntax }
        return try fields(behind: 2, mismatch: mismatch)
    }

    /// The indexes of fields, whose number stands behind a word.
    ///
    /// - Parameter width: 2 if there is a value behind each.
    fileprivate func fields(
        behind word: Int?, width: Int = 1, mismatch: ReplyError = .fieldCount
    ) throws(ReplyError) -> Range<Int> {
        guard let word else { throw mismatch }
        let number = try integer(at: word + 1)
        let first = word + 2
        guard number > 0, number <= Int64(count), Int(number) * width == count - first else { throw mismatch }
        return first..<count
    }
}

extension ReplyError {
    fileprivate static let fieldCount = ReplyError.text(
        "ERR numfields should be greater than 0 and match the provided number of fields")
}

/// Options of HGETEX and HSETEX; each may be repeated, and those that contradict an earlier one are syntax errors.
private struct FieldOptions {
    struct Flags: OptionSet {
        let rawValue: UInt8
        static let ifKeyMissing = Flags(rawValue: 1 << 0)
        static let ifKeyPresent = Flags(rawValue: 1 << 1)
        static let ifFieldsMissing = Flags(rawValue: 1 << 2)
        static let ifFieldsPresent = Flags(rawValue: 1 << 3)
        static let keepExpiry = Flags(rawValue: 1 << 4)
        static let persist = Flags(rawValue: 1 << 5)
    }

    enum User {
        case get, set
    }

    private var flags: Flags = []
    private var unit: ExpiryUnit?
    /// Index of the time in the request.
    private var timeIndex = 0

    init(_ request: Request, _ indexes: Range<Int>, of user: User) throws(ReplyError) {
        let isSet = user == .set
        var index = indexes.lowerBound
        while index < indexes.upperBound {
            if isSet, request.matches(index, "NX") {
                try insert(.ifKeyMissing, excluding: .ifKeyPresent)
            } else if isSet, request.matches(index, "XX") {
                try insert(.ifKeyPresent, excluding: .ifKeyMissing)
            } else if isSet, request.matches(index, "FNX") {
                try insert(.ifFieldsMissing, excluding: .ifFieldsPresent)
            } else if isSet, request.matches(index, "FXX") {
                try insert(.ifFieldsPresent, excluding: .ifFieldsMissing)
            } else if isSet, unit == nil, request.matches(index, "KEEPTTL") {
                flags.insert(.keepExpiry)
            } else if !isSet, unit == nil, request.matches(index, "PERSIST") {
                flags.insert(.persist)
            } else if index + 1 < indexes.upperBound, flags.isDisjoint(with: [.keepExpiry, .persist]),
                let unit = Self.unit(request, index), self.unit == nil || self.unit == unit
            {
                self.unit = unit
                index += 1
                timeIndex = index
            } else {
                throw .syntax
            }
            index += 1
        }
    }

    private mutating func insert(_ flag: Flags, excluding other: Flags) throws(ReplyError) {
        guard !flags.contains(other) else { throw .syntax }
        flags.insert(flag)
    }

    private static func unit(_ request: Request, _ index: Int) -> ExpiryUnit? {
        if request.matches(index, "EX") { return .seconds }
        if request.matches(index, "PX") { return .milliseconds }
        if request.matches(index, "EXAT") { return .unixSeconds }
        if request.matches(index, "PXAT") { return .unixMilliseconds }
        return nil
    }

    func contains(_ flags: Flags) -> Bool { self.flags.contains(flags) }

    /// Unix time in milliseconds, or nil if no time was given.
    func time(in request: Request, now: Int64, command: StaticString) throws(ReplyError) -> Int64? {
        guard let unit else { return nil }
        return try unit.time(request[timeIndex], now: now, command: command, allowsZero: true)
    }
}
