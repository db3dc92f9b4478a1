import MartletBase
import MartletKeyspace
import MartletRESP

// What a key's value is made of. Source: Redis 7.0 object.c.

extension CommandFamily {
    static let object = CommandFamily(.generic, [.object])
}

extension Command {
    static let object = Command(
        "OBJECT", since: "2.2.3", arity: .atLeast(2), complexity: "Depends on subcommand.",
        summary: "A container for object introspection commands",
        subcommands: [.objectEncoding, .objectIdletime, .objectHelp, .objectFreq, .objectRefcount], run: .container)

    private static let objectEncoding = Command(
        "ENCODING", since: "2.2.3", arity: .exactly(3), flags: [.readonly], keys: [.one(at: 2, [.readOnly])],
        tips: ["nondeterministic_output"], arguments: "key",
        complexity: "O(1)", summary: "Inspect the internal encoding of a Redis object",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let entry = keyspace.entry(request) else { return reply.null() }
            reply.bulk(entry.encodingName)
        })

    private static let objectIdletime = Command(
        "IDLETIME", since: "2.2.3", arity: .exactly(3), flags: [.readonly], keys: [.one(at: 2, [.readOnly])],
        tips: ["nondeterministic_output"], arguments: "key",
        complexity: "O(1)", summary: "Get the time since a Redis object was last accessed",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let entry = keyspace.entry(request) else { return reply.null() }
            reply.integer(keyspace.idleSeconds(entry))
        })

    /// Accesses are not counted: there is no eviction policy yet that would go by them.
    private static let objectFreq = Command(
        "FREQ", since: "4.0.0", arity: .exactly(3), flags: [.readonly], keys: [.one(at: 2, [.readOnly])],
        tips: ["nondeterministic_output"], arguments: "key",
        complexity: "O(1)", summary: "Get the logarithmic access frequency counter of a Redis object",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard keyspace.entry(request) != nil else { return reply.null() }
            throw .text(
                """
                ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
                switching between policies at runtime LRU and LFU data will take some time to adjust.
                """)
        })

    /// Redis shares the objects of small numbers and tells the largest count for them; clients see the difference.
    private static let objectRefcount = Command(
        "REFCOUNT", since: "2.2.3", arity: .exactly(3), flags: [.readonly], keys: [.one(at: 2, [.readOnly])],
        tips: ["nondeterministic_output"], arguments: "key",
        complexity: "O(1)", summary: "Get the number of references to the value of the key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let entry = keyspace.entry(request) else { return reply.null() }
            reply.integer(entry.referenceCount)
        })

    private static let objectHelp = Command(
        "HELP", since: "6.2.0", arity: .exactly(2), flags: [.loading, .stale], complexity: "O(1)",
        summary: "Show helpful text about the different subcommands",
        run: .data { request, keyspace, reply throws(ReplyError) in
            reply.help(
                request,
                [
                    "ENCODING <key>",
                    "    Return the kind of internal representation used in order to store the value",
                    "    associated with a <key>.",
                    "FREQ <key>",
                    "    Return the access frequency index of the <key>. The returned integer is",
                    "    proportional to the logarithm of the recent access frequency of the key.",
                    "IDLETIME <key>",
                    "    Return the idle time of the <key>, that is the approximated number of",
                    "    seconds elapsed since the last access to the key.",
                    "REFCOUNT <key>",
                    "    Return the number of references of the value associated with the specified",
                    "    <key>.",
                ])
        })
}

extension Keyspace {
    /// The entry of a subcommand's key. Nobody is told of a miss. (LOOKUP_NONOTIFY)
    fileprivate mutating func entry(_ request: Request) -> Entry? {
        let entry = peek(request.key(at: 2, in: self))
        if entry == nil { statistics.misses &+= 1 } else { statistics.hits &+= 1 }
        return entry
    }

    /// Largest value of an access clock. (LRU_CLOCK_MAX)
    private static let accessClockMax: UInt32 = 1 << 24 - 1

    /// Seconds since the last access, as far as the clock's 24 bits tell. (estimateObjectIdleTime)
    func idleSeconds(_ entry: Entry) -> Int {
        let then = entry.accessClock
        return Int(accessClock >= then ? accessClock - then : accessClock + (Self.accessClockMax - then))
    }

    /// The access clock of an entry that was not read for so long. (objectSetLRUOrLFU)
    func accessClock(idleSeconds: Int64) -> UInt32 {
        if idleSeconds <= Int64(accessClock) { return accessClock - UInt32(idleSeconds) }
        // Longer ago than the clock can tell: as long ago as it can tell safely.
        return (accessClock + Self.accessClockMax / 2) % Self.accessClockMax
    }
}

extension Entry {
    /// Numbers from 0 up to here are one object each in Redis, whatever key they belong to. (OBJ_SHARED_INTEGERS)
    private static let sharedIntegers: Range<Int64> = 0..<10_000

    var referenceCount: Int {
        if encoding == .integer, case .integer(let number) = string, Self.sharedIntegers.contains(number) {
            return Int(Int32.max)
        }
        return 1
    }
}
