import Testing

@testable import MartletServer

@Suite struct InfoTests {
    private func fields(_ node: NodeHarness, _ line: String = "INFO everything") -> [String: String] {
        var fields: [String: String] = [:]
        for line in node(line).split(separator: "\r\n") where !line.hasPrefix("#") && !line.hasPrefix("$") {
            let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            #expect(parts.count == 2, "\(line)")
            #expect(fields.updateValue(parts[1], forKey: parts[0]) == nil, "\(parts[0]) twice")
        }
        return fields
    }

    private func sections(_ node: NodeHarness, _ line: String) -> [String] {
        node(line).split(separator: "\r\n").filter { $0.hasPrefix("# ") }.map { String($0.dropFirst(2)) }
    }

    private static let defaults = [
        "Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU", "Modules", "Errorstats", "Cluster",
        "Keyspace",
    ]

    @Test(arguments: [
        ("INFO", defaults),
        ("INFO default", defaults),
        ("INFO SERVER cpu", ["Server", "CPU"]),
        ("INFO commandstats", ["Commandstats"]),
        ("INFO nonsense", []),
        ("INFO default latencystats", defaults.dropLast(2) + ["Latencystats", "Cluster", "Keyspace"]),
    ])
    func sectionsAreChosen(line: String, titles: [String]) { #expect(sections(NodeHarness(), line) == titles) }

    @Test(arguments: ["INFO all", "INFO everything"])
    func everythingIsShown(line: String) {
        #expect(sections(NodeHarness(), line) == InfoSection.all.map(\.title))
    }

    @Test func whatToolsReadIsThere() {
        let found = fields(NodeHarness())
        for name in [
            "redis_version", "redis_git_sha1", "martlet_version", "redis_mode", "run_id", "tcp_port",
            "uptime_in_seconds", "connected_clients", "blocked_clients", "used_memory", "used_memory_peak",
            "mem_allocator", "lazyfree_pending_objects", "loading", "rdb_bgsave_in_progress",
            "aof_rewrite_in_progress", "aof_rewrite_scheduled", "aof_enabled", "expired_keys",
            "total_commands_processed",
            "instantaneous_ops_per_sec", "dump_payload_sanitizations", "role", "connected_slaves", "master_repl_offset",
            "used_cpu_user", "cluster_enabled",
        ] {
            #expect(found[name] != nil, "\(name)")
        }
    }

    @Test func keysAreCounted() {
        let node = NodeHarness()
        #expect(sections(node, "INFO keyspace") == ["Keyspace"])
        node("SET a 1")
        node("SET b 1 PX 5000")
        node("SELECT 3")
        node("SET c 1")
        let found = fields(node)
        #expect(found["db0"] == "keys=2,expires=1,avg_ttl=5000")
        #expect(found["db3"] == "keys=1,expires=0,avg_ttl=0")
        #expect(found["rdb_changes_since_last_save"] == "3")
    }

    @Test func callsAndErrorsAreCountedUntilTheyAreReset() {
        let node = NodeHarness()
        node("CONFIG RESETSTAT")
        node("SET a x")
        node("INCR a")
        node("INCR a b")
        node("NONSENSE")
        let found = fields(node)
        #expect(found["cmdstat_set"] == "calls=1,usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=0")
        #expect(found["cmdstat_incr"] == "calls=1,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=1")
        #expect(found["cmdstat_config|resetstat"]?.hasPrefix("calls=0") ?? true)
        #expect(found["errorstat_ERR"] == "count=3")
        #expect(found["total_error_replies"] == "3")
        node("CONFIG RESETSTAT")
        #expect(fields(node)["errorstat_ERR"] == nil)
    }

    @Test func timeIsTakenOfASampleOfCheapCommandsAndOfAllOthers() {
        let node = NodeHarness()
        nonisolated(unsafe) var clock: Int64 = 0
        node.node.services.monotonicNanoseconds = {
            clock += 2000
            return clock
        }
        for _ in 0..<130 { node("GET a") }
        node("KEYS *")
        node("KEYS *")
        let found = fields(node)
        #expect(found["cmdstat_get"] == "calls=130,usec=260,usec_per_call=2.00,rejected_calls=0,failed_calls=0")
        #expect(found["cmdstat_keys"] == "calls=2,usec=4,usec_per_call=2.00,rejected_calls=0,failed_calls=0")
        // Twice each: three GET of 130, both KEYS, INFO.
        #expect(clock == (3 + 2 + 1) * 2 * 2000)
    }

    @Test func ratesFollowTheCounters() {
        let node = NodeHarness()
        for _ in 0..<40 {
            for _ in 0..<50 { node("GET a") }
            node.advance(milliseconds: 100)
            node.node.cron()
        }
        #expect(fields(node)["instantaneous_ops_per_sec"] == "500")
    }

    @Test(arguments: [
        (0, "0B"), (1023, "1023B"), (1024, "1.00K"), (1_048_576, "1.00M"), (1_500_000_000, "1.40G"),
        (1 << 40, "1.00T"), (1 << 50, "1.00P"), (1 << 60, "1024.00P"),
    ])
    func bytesAreShownForPeople(bytes: Int, text: String) { #expect(humanBytes(bytes) == text) }

    @Test(arguments: [(0.0, "0.00"), (-0.001, "0.00"), (-1.5, "-1.50"), (99.996, "100.00"), (.infinity, "0")])
    func decimalsAreRounded(value: Double, text: String) { #expect(decimal(value, decimals: 2) == text) }
}
