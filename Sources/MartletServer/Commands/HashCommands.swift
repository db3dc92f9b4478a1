import MartletBase
import MartletKeyspace
import MartletRESP

// Hashes: fields with values. Times to live of fields are in HashExpiryCommands.swift. (t_hash.c)

extension CommandFamily {
    static let hash = CommandFamily(
        .hash,
        [
            .hset, .hsetnx, .hmset, .hget, .hmget, .hgetall, .hkeys, .hvals, .hlen, .hdel, .hexists, .hstrlen,
            .hincrby, .hincrbyfloat, .hrandfield, .hscan,
            .hexpire, .hpexpire, .hexpireat, .hpexpireat, .httl, .hpttl, .hexpiretime, .hpexpiretime, .hpersist,
            .hgetex, .hsetex, .hgetdel,
        ])
}

// MARK: Setting

extension Command {
    static let hset = Command(
        "HSET", since: "2.0.0", arity: .atLeast(4), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .update])],
        arguments: "key field_value={field value}...",
        history: [("4.0.0", "Accepts multiple `field` and `value` arguments.")],
        complexity: """
            O(1) for each field/value pair added, so O(N) to add N field/value pairs when the command is called with \
            multiple field/value pairs.
            """,
        summary: "Set the string value of a hash field",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard request.count & 1 == 0 else { throw .wrongArgumentCount("hset") }
            reply.integer(try setFields(request, &keyspace))
        })

    static let hmset = Command(
        "HMSET", since: "2.0.0", arity: .atLeast(4), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .update])],
        arguments: "key field_value={field value}...",
        deprecated: ("4.0.0", "`HSET` with multiple field-value pairs"),
        complexity: "O(N) where N is the number of fields being set.",
        summary: "Set multiple hash fields to multiple values",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard request.count & 1 == 0 else { throw .wrongArgumentCount("hmset") }
            _ = try setFields(request, &keyspace)
            reply.ok()
        })

    /// - Returns: how many fields are new.
    @inline(__always)
    private static func setFields(_ request: Request, _ keyspace: inout Keyspace) throws(ReplyError) -> Int {
        let key = request.firstKey
        let entry = try keyspace.openHash(key)
        var hash = keyspace.hashValue(entry)
        var created = 0
        var index = 2
        while index < request.count {
            // Not by the subscript: its check would be a call.
            if hash.set(request.arguments[index], request.arguments[index &+ 1]) { created &+= 1 }
            index &+= 2
        }
        entry.container = hash.container
        keyspace.didModify(.hashSet, key, changes: request.count / 2 &- 1)
        return created
    }

    static let hsetnx = Command(
        "HSETNX", since: "2.0.0", arity: .exactly(4), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .insert])],
        arguments: "key field value",
        complexity: "O(1)", summary: "Set the value of a hash field, only if the field does not exist",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let key = request.firstKey
            if let entry = try keyspace.writeHash(key, field: request[2]),
                keyspace.hashValue(entry).value(of: request[2]) != nil
            {
                return reply.integer(0)
            }
            try setField(request, request[3], key, .hashSet, &keyspace)
            reply.integer(1)
        })

    /// Sets the field that the request names; its time to live stays. - Returns: the hash.
    @discardableResult
    private static func setField(
        _ request: Request, _ value: UnsafeRawBufferPointer, _ key: Key, _ event: KeyEvent, _ keyspace: inout Keyspace
    ) throws(ReplyError) -> HashValue {
        let entry = try keyspace.openHash(key)
        var hash = keyspace.hashValue(entry)
        _ = hash.set(request[2], value, expiry: .keep)
        entry.container = hash.container
        keyspace.didModify(event, key)
        return hash
    }

    static let hincrby = Command(
        "HINCRBY", since: "2.0.0", arity: .exactly(4), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .update])],
        arguments: "key field increment:integer",
        complexity: "O(1)", summary: "Increment the integer value of a hash field by the given number",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let increment = try request.integer(at: 3)
            let key = request.firstKey
            var old: Int64 = 0
            if let entry = try keyspace.writeHash(key, field: request[2]),
                let value = keyspace.hashValue(entry).value(of: request[2])
            {
                switch value {
                case .integer(let number): old = number
                case .bytes(let bytes):
                    guard let number = parseInt64(bytes) else { throw .text("ERR hash value is not an integer") }
                    old = number
                }
            }
            let (sum, overflows) = old.addingReportingOverflow(increment)
            if overflows { throw .overflow }
            var failure: ReplyError?
            withDecimal(sum) { value in
                do throws(ReplyError) {
                    try setField(request, value, key, .hashIncrement, &keyspace)
                } catch {
                    failure = error
                }
            }
            if let failure { throw failure }
            reply.integer(sum)
        })

    static let hincrbyfloat = Command(
        "HINCRBYFLOAT", since: "2.6.0", arity: .exactly(4), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .update])],
        arguments: "key field increment:double",
        complexity: "O(1)", summary: "Increment the float value of a hash field by the given amount",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let increment = parseLongDouble(request[3]) else { throw .notAFloat }
            guard increment.isFinite else { throw .text("ERR value is NaN or Infinity") }
            let key = request.firstKey
            var sum = increment
            if let entry = try keyspace.writeHash(key, field: request[2]),
                let value = keyspace.hashValue(entry).value(of: request[2])
            {
                switch value {
                case .integer(let number): sum += LongDouble(number)
                case .bytes(let bytes):
                    guard let number = parseLongDouble(bytes) else { throw .text("ERR hash value is not a float") }
                    sum += number
                }
            }
            guard sum.isFinite else { throw .text("ERR increment would produce NaN or Infinity") }
            var failure: ReplyError?
            withUnsafeTemporaryAllocation(byteCount: longDoubleBytesMax, alignment: 1) { text in
                let value = UnsafeRawBufferPointer(rebasing: text[..<formatHuman(sum, to: text)])
                do throws(ReplyError) {
                    let hash = try setField(request, value, key, .hashIncrementByFloat, &keyspace)
                    reply.bulk(value)
                    // So that no replica has to round as we do.
                    if case .until = hash.lifetime(of: request[2]) {
                        keyspace.propagateInstead(
                            bytes("HSETEX"), key.bytes, bytes("KEEPTTL"), bytes("FIELDS"), bytes("1"), request[2], value
                        )
                    } else {
                        keyspace.propagateInstead(bytes("HSET"), key.bytes, request[2], value)
                    }
                } catch {
                    failure = error
                }
            }
            if let failure { throw failure }
        })

    static let hdel = Command(
        "HDEL", since: "2.0.0", arity: .atLeast(3), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .delete])],
        arguments: "key field...",
        history: [("2.4.0", "Accepts multiple `field` arguments.")],
        complexity: "O(N) where N is the number of fields to be removed.", summary: "Delete one or more hash fields",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let key = request.firstKey
            guard let entry = try keyspace.writeHash(key) else { return reply.integer(0) }
            keyspace.willModify(entry)
            var hash = keyspace.hashValue(entry)
            var deleted = 0
            var index = 2
            while index < request.count {
                if hash.remove(request.arguments[index]) {
                    deleted &+= 1
                    if hash.count == 0 { break }
                }
                index &+= 1
            }
            entry.container = hash.container
            if deleted > 0 { keyspace.didRemoveFields(deleted, hash, key, .hashDelete) }
            reply.integer(deleted)
        })
}

// MARK: Reading

extension Command {
    static let hget = Command(
        "HGET", since: "2.0.0", arity: .exactly(3), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key field",
        complexity: "O(1)", summary: "Get the value of a hash field",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let hash = try keyspace.readHash(request.firstKey) else { return reply.null() }
            reply.field(request.arguments[2], of: hash)
        })

    static let hmget = Command(
        "HMGET", since: "2.0.0", arity: .atLeast(3), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key field...",
        complexity: "O(N) where N is the number of fields being requested.",
        summary: "Get the values of all the given hash fields",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let hash = try keyspace.readHash(request.firstKey)
            reply.array(request.count - 2)
            for index in 2..<request.count { reply.field(request.arguments[index], of: hash) }
        })

    static let hgetall = Command(
        "HGETALL", since: "2.0.0", arity: .exactly(2), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        tips: ["nondeterministic_output_order"], arguments: "key",
        complexity: "O(N) where N is the size of the hash.", summary: "Get all the fields and values in a hash",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let hash = try keyspace.readHash(request.firstKey) else { return reply.map(0) }
            reply.map(hash.visibleCount)
            hash.forEach { field, value in
                reply.value(field)
                reply.value(value)
            }
        })

    static let hkeys = Command(
        "HKEYS", since: "2.0.0", arity: .exactly(2), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        tips: ["nondeterministic_output_order"], arguments: "key",
        complexity: "O(N) where N is the size of the hash.", summary: "Get all the fields in a hash",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let hash = try keyspace.readHash(request.firstKey) else { return reply.array(0) }
            reply.array(hash.visibleCount)
            hash.forEach { field, _ in reply.value(field) }
        })

    static let hvals = Command(
        "HVALS", since: "2.0.0", arity: .exactly(2), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        tips: ["nondeterministic_output_order"], arguments: "key",
        complexity: "O(N) where N is the size of the hash.", summary: "Get all the values in a hash",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let hash = try keyspace.readHash(request.firstKey) else { return reply.array(0) }
            reply.array(hash.visibleCount)
            hash.forEach { _, value in reply.value(value) }
        })

    static let hlen = Command(
        "HLEN", since: "2.0.0", arity: .exactly(2), flags: [.readonly, .fast], keys: [.one(at: 1, .readOnly)],
        arguments: "key",
        complexity: "O(1)", summary: "Get the number of fields in a hash",
        run: .data { request, keyspace, reply throws(ReplyError) in
            reply.integer(try keyspace.readHash(request.firstKey)?.count ?? 0)
        })

    static let hexists = Command(
        "HEXISTS", since: "2.0.0", arity: .exactly(3), flags: [.readonly, .fast], keys: [.one(at: 1, .readOnly)],
        arguments: "key field",
        complexity: "O(1)", summary: "Determine if a hash field exists",
        run: .data { request, keyspace, reply throws(ReplyError) in
            reply.integer(try keyspace.readHash(request.firstKey)?.value(of: request[2]) != nil ? 1 : 0)
        })

    static let hstrlen = Command(
        "HSTRLEN", since: "3.2.0", arity: .exactly(3), flags: [.readonly, .fast], keys: [.one(at: 1, .readOnly)],
        arguments: "key field",
        complexity: "O(1)", summary: "Get the length of the value of a hash field",
        run: .data { request, keyspace, reply throws(ReplyError) in
            switch try keyspace.readHash(request.firstKey)?.value(of: request[2]) {
            case nil: reply.integer(0)
            case .integer(let number): reply.integer(decimalCount(of: number))
            case .bytes(let bytes): reply.integer(bytes.count)
            }
        })

    static let hscan = Command(
        "HSCAN", since: "2.8.0", arity: .atLeast(3), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        tips: ["nondeterministic_output"],
        arguments: "key cursor:integer [MATCH pattern:pattern] [COUNT count:integer]",
        complexity: """
            O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to \
            return back to 0. N is the number of elements inside the collection..
            """,
        summary: "Incrementally iterate hash fields and associated values",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard var scan = try MemberScan(request, .hash, &keyspace, &reply) else { return }
            let hash = keyspace.hashValue(scan.entry)
            func write(_ field: StringView, _ value: StringView) {
                guard scan.takes(field) else { return }
                reply.value(field)
                if !scan.options.omitsValues { reply.value(value) }
            }
            if let found = scan.begin(&reply) {
                for field in found where !hash.isHidden(field) { write(.bytes(field.key), field.string) }
            } else {
                hash.forEach(write)
            }
            scan.end(&reply, width: scan.options.omitsValues ? 1 : 2)
        })
}

// MARK: Random fields

extension Command {
    static let hrandfield = Command(
        "HRANDFIELD", since: "6.2.0", arity: .atLeast(2), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        tips: ["nondeterministic_output"], arguments: "key [options={count:integer [WITHVALUES]}]",
        complexity: "O(N) where N is the number of fields returned",
        summary: "Get one or multiple random fields from a hash",
        run: .data { request, keyspace, reply throws(ReplyError) in
            if request.count > 2 { return try replyRandomFields(request, &keyspace, &reply) }
            guard let hash = try keyspace.readHash(request.firstKey),
                let (field, _) = hash.randomField(&keyspace.random)
            else { return reply.null() }
            reply.value(field)
        })

    private static func replyRandomFields(
        _ request: Request, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        let number = try request.drawCount(at: 2)
        let withValues = request.count > 3
        if withValues {
            guard request.count == 4, request.matches(3, "WITHVALUES") else { throw .syntax }
            guard number.magnitude <= Int.max / 2 else { throw .text("ERR value is out of range") }
        }
        guard let hash = try keyspace.readHash(request.firstKey), number != 0 else { return reply.array(0) }
        let count = abs(number)
        func write(_ field: StringView, _ value: StringView, _ reply: inout ReplyBuffer) {
            if withValues, reply.isRESP3 { reply.array(2) }
            reply.value(field)
            if withValues { reply.value(value) }
        }
        let size = hash.visibleCount
        let isRepeating = number < 0 && size > 0
        var draws = try Draws(isRepeating ? count : 0, reply)
        let elements = isRepeating ? count : min(count, size)
        reply.array(withValues && !reply.isRESP3 ? elements * 2 : elements)
        if isRepeating {
            // Of a small hash all fields are looked up once, and not for each that is drawn.
            var fields: [(StringView, StringView)] = []
            if hash.container.encoding == .listpack, count > 1 { hash.forEach { fields.append(($0, $1)) } }
            while try draws.next(&reply) {
                let drawn = fields.isEmpty ? hash.randomField(&keyspace.random) : keyspace.random.element(of: fields)
                if let (field, value) = drawn { write(field, value, &reply) }
            }
        } else if hash.container.encoding == .listpack || elements > size / 3 {
            // Each field with the chance that those which are still wanted are among those that are left.
            var (wanted, left) = (elements, size)
            hash.forEach { field, value in
                if wanted > 0, keyspace.random.below(left) < wanted {
                    write(field, value, &reply)
                    wanted -= 1
                }
                left -= 1
            }
        } else {
            // Few of many: drawn until they are enough.
            var drawn: Set<UnsafeRawPointer> = []
            while drawn.count < elements, let (field, value) = hash.randomField(&keyspace.random) {
                guard case .bytes(let name) = field, let address = name.baseAddress, drawn.insert(address).inserted
                else { continue }
                write(field, value, &reply)
            }
        }
    }
}

extension PRNG {
    /// - Precondition: there are elements.
    fileprivate mutating func element<Element>(of elements: [Element]) -> Element? { elements[below(elements.count)] }
}

// MARK: What the families of hash commands share

extension Keyspace {
    /// The hash of a key that a command reads.
    @inline(__always)
    mutating func readHash(_ key: Key) throws(ReplyError) -> HashValue? {
        guard let entry = try read(key, as: .hash) else { return nil }
        return hashValue(entry)
    }

    /// The entry of a hash that a command may change.
    @inline(__always)
    mutating func writeHash(_ key: Key) throws(ReplyError) -> Entry? { try write(key, as: .hash) }

    /// The same, for a command that goes by what is in a field: the field is deleted if its time has passed.
    mutating func writeHash(_ key: Key, field: UnsafeRawBufferPointer) throws(ReplyError) -> Entry? {
        guard let entry = try writeHash(key) else { return nil }
        return expireField(field, of: key, entry)
    }

    /// The entry of a hash that a command changes: a missing key becomes an empty hash.
    @inline(__always)
    mutating func openHash(_ key: Key) throws(ReplyError) -> Entry {
        if let entry = try writeHash(key) {
            willModify(entry)
            return entry
        }
        return insert(key, HashValue.make(members).container)
    }

    /// Reports that fields are gone, and deletes the key of an empty hash.
    mutating func didRemoveFields(_ count: Int, _ hash: HashValue, _ key: Key, _ event: KeyEvent) {
        didModify(event, key, changes: count)
        if hash.count == 0 { deleteEmptied(key) }
    }
}

extension ReplyBuffer {
    /// The value of a field, or null.
    @inline(__always)
    mutating func field(_ field: UnsafeRawBufferPointer, of hash: HashValue?) {
        if let value = hash?.value(of: field) { self.value(value) } else { null() }
    }
}
