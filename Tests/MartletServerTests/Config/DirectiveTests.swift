import MartletBase
import Testing

@testable import MartletServer

@Suite struct DirectiveTests {
    /// What redis-server 7.0.15 answers to `CONFIG GET *` without a config file (`dir` is the working directory).
    private static let redisDefaults = [
        "acl-pubsub-default=resetchannels", "aclfile=", "acllog-max-len=128", "active-defrag-cycle-max=25",
        "active-defrag-cycle-min=1", "active-defrag-ignore-bytes=104857600", "active-defrag-max-scan-fields=1000",
        "active-defrag-threshold-lower=10", "active-defrag-threshold-upper=100", "active-expire-effort=1",
        "activedefrag=no", "activerehashing=yes", "always-show-logo=no", "aof-disable-auto-gc=no",
        "aof-load-truncated=yes", "aof-rewrite-incremental-fsync=yes", "aof-timestamp-enabled=no",
        "aof-use-rdb-preamble=yes", "aof_rewrite_cpulist=", "appenddirname=appendonlydir",
        "appendfilename=appendonly.aof", "appendfsync=everysec", "appendonly=no",
        "auto-aof-rewrite-min-size=67108864", "auto-aof-rewrite-percentage=100", "bgsave_cpulist=", "bind=* -::*",
        "bind-source-addr=", "bio_cpulist=", "busy-reply-threshold=5000",
        "client-output-buffer-limit=normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        "client-query-buffer-limit=1073741824", "cluster-allow-pubsubshard-when-down=yes",
        "cluster-allow-reads-when-down=no", "cluster-allow-replica-migration=yes", "cluster-announce-bus-port=0",
        "cluster-announce-hostname=", "cluster-announce-ip=", "cluster-announce-port=0",
        "cluster-announce-tls-port=0", "cluster-config-file=nodes.conf", "cluster-enabled=no",
        "cluster-link-sendbuf-limit=0", "cluster-migration-barrier=1", "cluster-node-timeout=15000", "cluster-port=0",
        "cluster-preferred-endpoint-type=ip", "cluster-replica-no-failover=no", "cluster-replica-validity-factor=10",
        "cluster-require-full-coverage=yes", "cluster-slave-no-failover=no", "cluster-slave-validity-factor=10",
        "crash-log-enabled=yes", "crash-memcheck-enabled=yes", "daemonize=no", "databases=16", "dbfilename=dump.rdb",
        "dir=", "disable-thp=yes", "dynamic-hz=yes", "enable-debug-command=no", "enable-module-command=no",
        "enable-protected-configs=no", "hash-max-listpack-entries=512", "hash-max-listpack-value=64",
        "hash-max-ziplist-entries=512", "hash-max-ziplist-value=64", "hll-sparse-max-bytes=3000", "hz=10",
        "ignore-warnings=", "io-threads=1", "io-threads-do-reads=no", "jemalloc-bg-thread=yes",
        "latency-monitor-threshold=0", "latency-tracking=yes", "latency-tracking-info-percentiles=50 99 99.9",
        "lazyfree-lazy-eviction=no", "lazyfree-lazy-expire=no", "lazyfree-lazy-server-del=no",
        "lazyfree-lazy-user-del=no", "lazyfree-lazy-user-flush=no", "lfu-decay-time=1", "lfu-log-factor=10",
        "list-compress-depth=0", "list-max-listpack-size=-2", "list-max-ziplist-size=-2", "logfile=",
        "loglevel=notice", "lua-time-limit=5000", "masterauth=", "masteruser=", "maxclients=10000", "maxmemory=0",
        "maxmemory-clients=0", "maxmemory-eviction-tenacity=10", "maxmemory-policy=noeviction", "maxmemory-samples=5",
        "min-replicas-max-lag=10", "min-replicas-to-write=0", "min-slaves-max-lag=10", "min-slaves-to-write=0",
        "no-appendfsync-on-rewrite=no", "notify-keyspace-events=", "oom-score-adj=no",
        "oom-score-adj-values=0 200 800", "pidfile=", "port=6379",
        "proc-title-template={title} {listen-addr} {server-mode}", "propagation-error-behavior=ignore",
        "protected-mode=yes", "proto-max-bulk-len=536870912", "rdb-del-sync-files=no",
        "rdb-save-incremental-fsync=yes", "rdbchecksum=yes", "rdbcompression=yes", "repl-backlog-size=1048576",
        "repl-backlog-ttl=3600", "repl-disable-tcp-nodelay=no", "repl-diskless-load=disabled",
        "repl-diskless-sync=yes", "repl-diskless-sync-delay=5", "repl-diskless-sync-max-replicas=0",
        "repl-ping-replica-period=10", "repl-ping-slave-period=10", "repl-timeout=60", "replica-announce-ip=",
        "replica-announce-port=0", "replica-announced=yes", "replica-ignore-disk-write-errors=no",
        "replica-ignore-maxmemory=yes", "replica-lazy-flush=no", "replica-priority=100", "replica-read-only=yes",
        "replica-serve-stale-data=yes", "replicaof=", "requirepass=", "sanitize-dump-payload=no",
        "save=3600 1 300 100 60 10000", "server_cpulist=", "set-max-intset-entries=512", "set-proc-title=yes",
        "shutdown-on-sigint=default", "shutdown-on-sigterm=default", "shutdown-timeout=10", "slave-announce-ip=",
        "slave-announce-port=0", "slave-ignore-maxmemory=yes", "slave-lazy-flush=no", "slave-priority=100",
        "slave-read-only=yes", "slave-serve-stale-data=yes", "slaveof=", "slowlog-log-slower-than=10000",
        "slowlog-max-len=128", "socket-mark-id=0", "stop-writes-on-bgsave-error=yes", "stream-node-max-bytes=4096",
        "stream-node-max-entries=100", "supervised=no", "syslog-enabled=no", "syslog-facility=local0",
        "syslog-ident=redis", "tcp-backlog=511", "tcp-keepalive=300", "timeout=0", "tls-auth-clients=yes",
        "tls-ca-cert-dir=", "tls-ca-cert-file=", "tls-cert-file=", "tls-ciphers=", "tls-ciphersuites=",
        "tls-client-cert-file=", "tls-client-key-file=", "tls-client-key-file-pass=", "tls-cluster=no",
        "tls-dh-params-file=", "tls-key-file=", "tls-key-file-pass=", "tls-port=0", "tls-prefer-server-ciphers=no",
        "tls-protocols=", "tls-replication=no", "tls-session-cache-size=20480", "tls-session-cache-timeout=300",
        "tls-session-caching=yes", "tracking-table-max-keys=1000000", "unixsocket=", "unixsocketperm=0",
        "zset-max-listpack-entries=128", "zset-max-listpack-value=64", "zset-max-ziplist-entries=128",
        "zset-max-ziplist-value=64",
    ]

    @Test("Every directive of Redis 7.0.15 is known, with its default", arguments: redisDefaults)
    func defaults(line: String) throws {
        let name = String(line.prefix { $0 != "=" })
        let value = line.dropFirst(name.count + 1)
        let shown = ServerConfiguration().matching([Array(name.utf8)])
        try #require(shown.count == 1)
        #expect(String(decoding: shown[0].name, as: UTF8.self) == name)
        #expect(String(decoding: shown[0].value, as: UTF8.self) == value)
    }

    @Test("CONFIG GET * shows every directive of Redis under its name and its alias, and no hidden one")
    func everything() {
        let names = ServerConfiguration().matching([Array("*".utf8)]).map { String(decoding: $0.name, as: UTF8.self) }
        #expect(Set(names).isSuperset(of: Self.redisDefaults.map { String($0.prefix { $0 != "=" }) }))
        #expect(Set(names).count == names.count)
        #expect(!names.contains("key-load-delay"))
        #expect(ServerConfiguration().matching([Array("key-load-delay".utf8)]).count == 1)
    }

    @Test("Every default is a value that may be assigned", arguments: Directive.all.map(\.name))
    func defaultsAreValid(name: String) throws {
        let (directive, _) = try #require(Directive.named(Array(name.utf8)))
        var configuration = ServerConfiguration()
        let shown = directive.shown(in: configuration)
        let words = directive.flags.contains(.multiArgument) ? splitArguments(shown)! : [shown]
        if name == "replicaof" { return }
        try directive.assign(words, to: &configuration)
        #expect(directive.shown(in: configuration) == shown)
    }

    @Test(
        "Memory values have units of 1000 and of 1024",
        arguments: [
            ("0", 0), ("100", 100), ("100b", 100), ("1k", 1000), ("1KB", 1024), ("2m", 2_000_000), ("2mb", 2 << 20),
            ("3G", 3_000_000_000), ("3gb", 3 << 30), ("", 0), ("kb", 0), ("00012", 12),
            ("18446744073709551615", UInt64.max), ("99999999999999999999999", UInt64.max),
        ])
    func memory(text: String, bytes: UInt64) {
        #expect(parseMemory(Array(text.utf8)) == bytes)
    }

    @Test(
        "Memory values of other forms are refused", arguments: ["-1", "+1", "1 kb", "1tb", "x", "1.5gb", " 1", "1k "])
    func noMemory(text: String) {
        #expect(parseMemory(Array(text.utf8)) == nil)
    }

    @Test("Memory is written with the largest unit that divides it")
    func memoryFormat() {
        #expect(
            [0, 1, 1000, 1024, 3 << 20, 5 << 30, (1 << 30) + 1].map(formatMemory) == [
                "0", "1", "1000", "1kb", "3mb", "5gb", "1073741825",
            ])
    }

    @Test("Lenient integers read what strtoll reads to the end")
    func lenientIntegers() {
        func value(_ text: String, radix: Int64 = 10) -> Int64? {
            parseLenientInteger(Array(text.utf8), radix: radix)?.value
        }
        #expect(value("") == 0)
        #expect(value(" +12") == 12)
        #expect(value("-0012") == -12)
        #expect(value("755", radix: 8) == 0o755)
        #expect(value("9223372036854775808") == .max)
        #expect(value("-9223372036854775809") == .min)
        for text in ["-", "+", " ", "1 ", "1x", "0x10", "- 1"] { #expect(value(text) == nil) }
        #expect(value("8", radix: 8) == nil)
    }

    @Test("Addresses are checked by their form")
    func addresses() {
        for text in ["0.0.0.0", "10.1.2.255"] { #expect(isIPv4Address(text)) }
        for text in ["", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.1.1.1", "1.1.1.x", "1..1.1"] {
            #expect(!isIPv4Address(text))
        }
        for text in ["::", "::1", "1::", "fe80::1:2", "1:2:3:4:5:6:7:8", "::ffff:1.2.3.4", "1:2:3:4:5:6:1.2.3.4"] {
            #expect(isIPv6Address(text))
        }
        for text in [
            "", ":", ":::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "12345::", "g::", "1::2::3", "1.2.3.4::", "1:",
        ] {
            #expect(!isIPv6Address(text))
        }
    }

    @Test("Process title templates name only known variables and give some text")
    func titleTemplates() {
        for text in ["{title} {listen-addr}", "x", "{{", "a }", "{port}"] { #expect(isProcessTitleTemplate(text)) }
        for text in ["", "  ", "{", "{title", "{unknown}", "{title}"] { #expect(!isProcessTitleTemplate(text)) }
    }

    @Test("Percentiles show up to six decimals")
    func percentiles() {
        #expect(
            [0, 50, 99.9, 99.999999, 0.5, 100, 33.3333333].map(percentileText) == [
                "0", "50", "99.9", "99.999999", "0.5", "100", "33.333333",
            ])
    }
}
