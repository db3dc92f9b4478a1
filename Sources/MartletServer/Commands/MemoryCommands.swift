import MartletBase
import MartletKeyspace
import MartletRESP

// Where memory goes. Source of texts and field names: Redis 7.0 object.c.

extension CommandFamily {
    static let memory = CommandFamily(.server, [.memory])
}

extension Command {
    static let memory = Command(
        "MEMORY", since: "4.0.0", arity: .atLeast(2), complexity: "Depends on subcommand.",
        summary: "A container for memory diagnostics commands",
        subcommands: [
            .memoryDoctor, .memoryHelp, .memoryMallocStats, .memoryUsage, .memoryPurge, .memoryStats,
        ],
        run: .container)

    private static let memoryUsage = Command(
        "USAGE", since: "4.0.0", arity: .atLeast(3), flags: [.readonly], keys: [.one(at: 2, [.readOnly])],
        arguments: "key [SAMPLES count:integer]",
        complexity: "O(N) where N is the number of samples.", summary: "Estimate the memory usage of a key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            // (OBJ_COMPUTE_SIZE_DEF_SAMPLES)
            var samples = 5
            var index = 3
            while index < request.count {
                guard request.matches(index, "SAMPLES"), index + 1 < request.count else { throw .syntax }
                samples = Int(try request.integer(at: index + 1))
                if samples < 0 { throw .syntax }
                if samples == 0 { samples = .max }
                index += 2
            }
            guard let entry = keyspace.entryEvenIfExpired(request.key(at: 2, in: keyspace)) else { return reply.null() }
            // A key that expires stands in two tables.
            reply.integer(entry.memoryBytes(samples: samples) + HashTable.bytesPerEntry * (entry.hasExpiry ? 2 : 1))
        })

    private static let memoryPurge = Command(
        "PURGE", since: "4.0.0", arity: .exactly(2),
        tips: ["request_policy:all_shards", "response_policy:all_succeeded"],
        complexity: "Depends on how much memory is allocated, could be slow",
        summary: "Ask the allocator to release memory",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard keyspace.purge() else { throw .text("ERR Error purging dirty pages") }
            reply.ok()
        })

    private static let memoryMallocStats = Command(
        "MALLOC-STATS", since: "4.0.0", arity: .exactly(2),
        tips: ["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        complexity: "Depends on how much memory is allocated, could be slow", summary: "Show allocator internal stats",
        run: .data { request, keyspace, reply throws(ReplyError) in reply.verbatim(Memory.report()) })

    private static let memoryStats = Command(
        "STATS", since: "4.0.0", arity: .exactly(2),
        tips: ["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        complexity: "O(1)", summary: "Show memory usage details",
        run: .node { request, node, client throws(ReplyError) in
            MemoryFigures(&node).write(to: &client.pointee.reply, node)
        })

    private static let memoryDoctor = Command(
        "DOCTOR", since: "4.0.0", arity: .exactly(2),
        tips: ["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        complexity: "O(1)", summary: "Outputs memory problems report",
        run: .node { request, node, client throws(ReplyError) in
            client.pointee.reply.verbatim(MemoryFigures(&node).diagnosis)
        })

    private static let memoryHelp = Command(
        "HELP", since: "4.0.0", arity: .exactly(2), flags: [.loading, .stale], complexity: "O(1)",
        summary: "Show helpful text about the different subcommands",
        run: .data { request, keyspace, reply throws(ReplyError) in
            reply.help(
                request,
                [
                    "DOCTOR",
                    "    Return memory problems reports.",
                    "MALLOC-STATS",
                    "    Return internal statistics report from the memory allocator.",
                    "PURGE",
                    "    Attempt to purge dirty pages for reclamation by the allocator.",
                    "STATS",
                    "    Return information about the memory usage of the server.",
                    "USAGE <key> [SAMPLES <count>]",
                    "    Return memory in bytes used by <key> and its value. Nested values are",
                    "    sampled up to <count> times (default: 5, 0 means sample all).",
                ])
        })
}

extension MemoryFigures {
    /// Below this nothing can be said.
    private static let diagnosedBytesMin = 5 << 20
    /// Waste below this is not worth a word.
    private static let wasteBytesMin = 10 << 20

    /// What MEMORY STATS says.
    fileprivate func write(to reply: inout ReplyBuffer, _ node: borrowing Node) {
        let databases = (0..<node.keyspace.databaseCount).filter { node.keyspace.keyCount(database: $0) > 0 }
        reply.map(27 + databases.count)
        func field(_ name: StaticString, _ bytes: Int) {
            reply.bulk(name)
            reply.integer(bytes)
        }
        func field(_ name: StaticString, _ ratio: Double) {
            reply.bulk(name)
            reply.double(ratio)
        }
        field("peak.allocated", peak)
        field("total.allocated", used)
        field("startup.allocated", startup)
        field("replication.backlog", backlog)
        field("clients.slaves", replicas)
        field("clients.normal", clients)
        field("cluster.links", 0)
        field("aof.buffer", 0)
        field("lua.caches", scripts)
        field("functions.caches", functions)
        for database in databases {
            reply.bulk("db.\(database)")
            reply.map(3)
            let tables = node.keyspace.tableBytes(database: database)
            field("overhead.hashtable.main", tables.keys)
            field("overhead.hashtable.expires", tables.volatileKeys)
            field("overhead.hashtable.slot-to-keys", 0)
        }
        field("overhead.total", overhead)
        field("keys.count", keyCount)
        field("keys.bytes-per-key", keyCount > 0 ? max(0, used - startup) / keyCount : 0)
        field("dataset.bytes", data)
        field("dataset.percentage", dataPercent)
        field("peak.percentage", peakPercent)
        field("allocator.allocated", allocator.allocated)
        field("allocator.active", allocator.active)
        field("allocator.resident", allocator.resident)
        field("allocator-fragmentation.ratio", Self.ratio(allocator.active, allocator.allocated))
        field("allocator-fragmentation.bytes", allocator.active - allocator.allocated)
        field("allocator-rss.ratio", Self.ratio(allocator.resident, allocator.active))
        field("allocator-rss.bytes", allocator.resident - allocator.active)
        field("rss-overhead.ratio", Self.ratio(resident, allocator.resident))
        field("rss-overhead.bytes", resident - allocator.resident)
        field("fragmentation", Self.ratio(resident, used))
        field("fragmentation.bytes", resident - used)
    }

    /// What MEMORY DOCTOR says.
    fileprivate var diagnosis: String {
        if used < Self.diagnosedBytesMin {
            return "This instance is empty or uses very little memory: there is nothing to be diagnosed.\n"
        }
        var findings: [String] = []
        func find(_ part: Int, _ whole: Int, above limit: Double, _ text: String) {
            if Self.ratio(part, whole) > limit, part - whole > Self.wasteBytesMin { findings.append(" * \(text)\n") }
        }
        find(
            resident, used, above: 1.4,
            "High total RSS: the process takes more than 1.4 times what is allocated. After a peak this is normal.")
        find(
            allocator.active, allocator.allocated, above: 1.1,
            "High allocator fragmentation: pages in use are more than 1.1 times the memory that is allocated.")
        find(
            allocator.resident, allocator.active, above: 1.1,
            "High allocator RSS overhead: the allocator keeps free pages. MEMORY PURGE gives them back.")
        find(
            resident, allocator.resident, above: 1.1,
            "High process RSS overhead: there is much memory that the allocator does not know of.")
        if clientCount > 0, (clients + replicas) / clientCount > 200 << 10 {
            findings.append(" * Big client buffers: more than 200K per client. CLIENT LIST shows whose they are.\n")
        }
        if findings.isEmpty { return "No memory problem was found in this instance.\n" }
        return "Memory problems in this instance:\n\n" + findings.joined(separator: "\n")
    }
}
