import MartletBase
import MartletKeyspace
import MartletPersistence
import MartletRESP

// Values as payloads that other nodes understand. MIGRATE moves keys with them.
//
// Source: Redis 7.0 cluster.c.

extension CommandFamily {
    static let dump = CommandFamily(.generic, [.dump, .restore])
    static let internalDump = CommandFamily(.server, [.restoreAsking])
}

extension Command {
    static let dump = Command(
        "DUMP", since: "2.6.0", arity: .exactly(2), flags: [.readonly], keys: [.one(at: 1, [.readOnly, .access])],
        tips: ["nondeterministic_output"], arguments: "key",
        complexity: """
            O(1) to access the key and additional O(N*M) to serialize it, where N is the number of Redis objects \
            composing the value and M their average size. For small string values the time complexity is thus \
            O(1)+O(1*M) where M is small, so simply O(1).
            """,
        summary: "Return a serialized version of the value stored at the specified key.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let entry = keyspace.lookupRead(request.firstKey) else { return reply.null() }
            var encoder = RDBEncoder()
            encoder.appendDump(RDBValue(of: entry))
            reply.bulk(encoder.output.bytes)
        })

    static let restore = Command(
        "RESTORE", since: "2.6.0", arity: .atLeast(4), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 1, [.overwrite, .update])], categories: ["dangerous"],
        arguments: """
            key ttl:integer serialized-value [REPLACE@3.0.0] [ABSTTL@5.0.0] [IDLETIME seconds:integer@5.0.0] \
            [FREQ frequency:integer@5.0.0]
            """,
        history: [
            ("3.0.0", "Added the `REPLACE` modifier."),
            ("5.0.0", "Added the `ABSTTL` modifier."),
            ("5.0.0", "Added the `IDLETIME` and `FREQ` options."),
        ],
        complexity: restoreComplexity,
        summary: "Create a key using the provided serialized value, previously obtained using DUMP.",
        run: .data { request, keyspace, reply throws(ReplyError) in try restore(request, &keyspace, &reply) })

    static let restoreAsking = Command(
        "RESTORE-ASKING", since: "3.0.0", arity: .atLeast(4), flags: [.write, .denyOutOfMemory, .asking],
        keys: [.one(at: 1, [.overwrite, .update])], categories: ["keyspace", "dangerous"],
        arguments: """
            key ttl:integer serialized-value [REPLACE@3.0.0] [ABSTTL@5.0.0] [IDLETIME seconds:integer@5.0.0] \
            [FREQ frequency:integer@5.0.0]
            """,
        history: [
            ("3.0.0", "Added the `REPLACE` modifier."),
            ("5.0.0", "Added the `ABSTTL` modifier."),
            ("5.0.0", "Added the `IDLETIME` and `FREQ` options."),
        ],
        isInternal: true,
        complexity: restoreComplexity, summary: "An internal command for migrating keys in a cluster",
        run: .data { request, keyspace, reply throws(ReplyError) in try restore(request, &keyspace, &reply) })

    private static let restoreComplexity: StaticString = """
        O(1) to create the new key and additional O(N*M) to reconstruct the serialized value, where N is the number of \
        Redis objects composing the value and M their average size. For small string values the time complexity is \
        thus O(1)+O(1*M) where M is small, so simply O(1). However for sorted set values the complexity is \
        O(N*M*log(N)) because inserting values into sorted sets is O(log(N)).
        """

    private static func restore(
        _ request: Request, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        let options = try RestoreOptions(request)
        let key = request.firstKey
        let exists = keyspace.lookupWrite(key) != nil
        if exists, !options.isReplacing { throw .text("BUSYKEY Target key name already exists.") }
        let time = try request.integer(at: 2)
        if time < 0 { throw .text("ERR Invalid TTL value, must be >= 0") }
        var scratch = ByteBuffer()
        let value = try payload(request[3], &scratch, keyspace)

        var expiry = time
        if time > 0, !options.isAbsolute {
            let (sum, overflow) = time.addingReportingOverflow(keyspace.now)
            expiry = overflow ? .max : sum
        }
        if expiry > 0, expiry <= keyspace.now, keyspace.expiryMode == .delete {
            if exists {
                _ = keyspace.delete(key)
                keyspace.propagateInstead(StaticString("DEL").bytes, key.bytes)
            }
            if case .container(let container) = value { keyspace.discard(container) }
            return reply.ok()
        }
        let change = expiry > 0 ? ExpiryChange.set(expiry) : .remove
        // To those who are told, the old key has gone silently.
        if exists { keyspace.didAdd(key) }
        keyspace.set(key, value, expiry: change, event: .restore)
        if let idleSeconds = options.idleSeconds {
            keyspace.peek(key)?.accessClock = keyspace.accessClock(idleSeconds: idleSeconds)
        }
        if keyspace.propagation.isOn, expiry > 0, !options.isAbsolute { propagate(request, expiry, &keyspace) }
        reply.ok()
    }

    private static func payload(
        _ bytes: UnsafeRawBufferPointer, _ scratch: inout ByteBuffer, _ keyspace: borrowing Keyspace
    ) throws(ReplyError) -> RDBValue {
        do throws(DumpPayloadError) {
            return try DumpPayload.decode(
                bytes, scratch: &scratch, members: keyspace.members, stringBytesMax: keyspace.allowedStringBytes)
        } catch {
            switch error {
            case .versionOrChecksum: throw .text("ERR DUMP payload version or checksum are wrong")
            case .badFormat: throw .text("ERR Bad data format")
            }
        }
    }

    /// The same command with a point in time.
    private static func propagate(_ request: Request, _ expiry: Int64, _ keyspace: inout Keyspace) {
        withDecimal(expiry) { expiry in
            var arguments = (0..<request.count).map { request[$0] }
            arguments[2] = expiry
            arguments.append(StaticString("ABSTTL").bytes)
            keyspace.propagateInstead(arguments)
        }
    }
}

private struct RestoreOptions {
    var isReplacing = false
    /// The time to live is a point in time.
    var isAbsolute = false
    var idleSeconds: Int64?

    init(_ request: Request) throws(ReplyError) {
        var hasFrequency = false
        var index = 4
        while index < request.count {
            let hasArgument = index + 1 < request.count
            if request.matches(index, "REPLACE") {
                isReplacing = true
            } else if request.matches(index, "ABSTTL") {
                isAbsolute = true
            } else if request.matches(index, "IDLETIME"), hasArgument, !hasFrequency {
                index += 1
                let seconds = try request.integer(at: index)
                if seconds < 0 { throw .text("ERR Invalid IDLETIME value, must be >= 0") }
                idleSeconds = seconds
            } else if request.matches(index, "FREQ"), hasArgument, idleSeconds == nil {
                // Of no use here: accesses are not counted.
                index += 1
                let frequency = try request.integer(at: index)
                if frequency < 0 || frequency > 255 {
                    throw .text("ERR Invalid FREQ value, must be >= 0 and <= 255")
                }
                hasFrequency = true
            } else {
                throw .syntax
            }
            index += 1
        }
    }
}

extension Keyspace {
    /// Gives a key a value that was read, whatever it held. A container belongs to the key from now on.
    mutating func set(_ key: Key, _ value: RDBValue, expiry: ExpiryChange, event: KeyEvent = .set) {
        switch value {
        case .string(let bytes): setString(key, bytes, expiry: expiry, event: event)
        case .integer(let number): setInteger(key, number, expiry: expiry, event: event)
        case .container(let container): set(key, container, expiry: expiry, event: event)
        }
    }
}
