import MartletBase
import MartletRESP
import Testing

@testable import MartletServer

@Suite struct ConfigurationChangeTests {
    private func set(
        _ words: [String], in configuration: ServerConfiguration = ServerConfiguration(), isLoading: Bool = false,
        isLocalClient: Bool = true
    ) throws(ReplyError) -> ConfigurationChange {
        let pairs = stride(from: 0, to: words.count, by: 2).map {
            (name: Array(words[$0].utf8), value: Array(words[$0 + 1].utf8))
        }
        return try configuration.changed(by: pairs, isLoading: isLoading, isLocalClient: isLocalClient)
    }

    private func get(_ name: String, of configuration: ServerConfiguration) -> String? {
        configuration.matching([Array(name.utf8)]).first.map { String(decoding: $0.value, as: UTF8.self) }
    }

    @Test("A change takes effect and names what changed, by the main name")
    func change() throws {
        let change = try set(["maxmemory", "100mb", "SLAVE-priority", "5", "appendonly", "no", "save", "900 1 5 6"])
        #expect(change.changed == ["maxmemory", "replica-priority", "save"])
        #expect(change.configuration.maxMemory == 100 << 20)
        #expect(change.configuration.replicaPriority == 5)
        #expect(
            change.configuration.savePoints == [
                SavePoint(seconds: 900, changes: 1), SavePoint(seconds: 5, changes: 6),
            ])
        #expect(get("replica-priority", of: change.configuration) == "5")
    }

    @Test(
        "Mistakes get Redis' texts, and nothing changes",
        arguments: [
            (["nope", "1"], "Unknown option or number of arguments for CONFIG SET - 'nope'"),
            (["maxmemory", "1", "nope\n", "1"], "Unknown option or number of arguments for CONFIG SET - 'nope '"),
            (
                ["daemonize", "yes"],
                "CONFIG SET failed (possibly related to argument 'daemonize') - can't set immutable config"
            ),
            (
                ["Daemonize", "yes"],
                "CONFIG SET failed (possibly related to argument 'Daemonize') - can't set immutable config"
            ),
            (["dir", "/"], "CONFIG SET failed (possibly related to argument 'dir') - can't set protected config"),
            (
                ["maxmemory", "1", "maxmemory", "2"],
                "CONFIG SET failed (possibly related to argument 'maxmemory') - duplicate parameter"
            ),
            (
                ["maxmemory", "10000001", "maxmemory-clients", "200%", "client-query-buffer-limit", "invalid"],
                "CONFIG SET failed (possibly related to argument 'maxmemory-clients') - percentage argument must be less or "
                    + "equal to 100"
            ),
            (
                ["protected-mode", "maybe"],
                "CONFIG SET failed (possibly related to argument 'protected-mode') - argument must be 'yes' or 'no'"
            ),
            (
                ["timeout", "-1"],
                "CONFIG SET failed (possibly related to argument 'timeout') - argument must be between 0 and 2147483647 "
                    + "inclusive"
            ),
            (
                ["slave-priority", "x"],
                "CONFIG SET failed (possibly related to argument 'slave-priority') - argument couldn't be parsed into an "
                    + "integer"
            ),
            (
                ["maxmemory", "x"],
                "CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a memory value"
            ),
            (
                ["appendfsync", "x"],
                "CONFIG SET failed (possibly related to argument 'appendfsync') - argument(s) must be one of the following: "
                    + "everysec, always, no"
            ),
            (["save", "1"], "CONFIG SET failed (possibly related to argument 'save') - Invalid save parameters"),
            (
                ["notify-keyspace-events", "Q"],
                "CONFIG SET failed (possibly related to argument 'notify-keyspace-events') - Invalid event class character. "
                    + "Use 'Ag$lshzxeKEtmdn'."
            ),
            (
                ["shutdown-on-sigint", "save nosave"],
                "CONFIG SET failed (possibly related to argument 'shutdown-on-sigint') - shutdown options SAVE and NOSAVE "
                    + "can't be used simultaneously"
            ),
        ] as [([String], String)])
    func mistakes(words: [String], text: String) {
        #expect(throws: ReplyError.message("ERR " + text)) { try set(words) }
    }

    @Test("A protected directive may be set as enable-protected-configs says")
    func protected() throws {
        var configuration = ServerConfiguration()
        configuration.protectedConfigs = .local
        #expect(try set(["dbfilename", "x"], in: configuration).configuration.rdbFileName == "x")
        #expect(throws: ReplyError.self) { try set(["dbfilename", "x"], in: configuration, isLocalClient: false) }
    }

    @Test("While a data set is loaded, some directives are refused")
    func loading() {
        #expect(throws: ReplyError.text("LOADING Redis is loading the dataset in memory")) {
            try set(["appendonly", "yes"], isLoading: true)
        }
    }

    @Test("CONFIG GET takes several globs in any case and answers each name once")
    func get() {
        let configuration = ServerConfiguration()
        func names(_ patterns: String...) -> [String] {
            configuration.matching(patterns.map { Array($0.utf8) }).map { String(decoding: $0.name, as: UTF8.self) }
        }
        #expect(names("MaxMemory") == ["MaxMemory"])
        #expect(names("maxmemory", "MAXMEMORY-P*", "maxmemory-policy", "nope") == ["maxmemory", "maxmemory-policy"])
        #expect(Set(names("*of")) == ["replicaof", "slaveof"])
        #expect(names().isEmpty)
    }

    @Test(
        "Words of several kinds survive a round trip",
        arguments: [
            (
                "client-output-buffer-limit", "replica 1mb 2kb 3",
                "normal 0 0 0 slave 1048576 2048 3 pubsub 33554432 8388608 60"
            ),
            ("shutdown-on-sigterm", "NOW nosave", "nosave now"), ("oom-score-adj", "relative", "yes"),
            ("notify-keyspace-events", "KEgx$lshzetd", "AKE"), ("notify-keyspace-events", "gm", "gm"),
            ("save", "", ""), ("bind", "", ""), ("bind", "127.0.0.1 -::1", "127.0.0.1 -::1"),
            ("latency-tracking-info-percentiles", "50 99.5", "50 99.5"), ("hz", "100000", "500"), ("hz", "0", "1"),
            ("maxmemory-clients", "5%", "5%"), ("maxmemory-clients", "5kb", "5120"), ("loglevel", "NOTHING", "nothing"),
            ("maxmemory", "18446744073709551615", "18446744073709551615"), ("requirepass", "é\"\\", "é\"\\"),
        ])
    func roundTrip(name: String, value: String, shown: String) throws {
        let configuration = try set([name, value]).configuration
        #expect(get(name, of: configuration) == shown)
    }
}
