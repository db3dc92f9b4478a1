import ArgumentParser
import MartletBase
import MartletSystem

struct ServerOptions: ParsableArguments {
    @Option(name: .customShort("h"), help: ArgumentHelp("Server hostname. (default: 127.0.0.1)", valueName: "hostname"))
    var host: String?

    @Option(name: .customShort("p"), help: ArgumentHelp("Server port. (default: 6379)", valueName: "port"))
    var port: Int?

    @Option(
        name: .customShort("s"), help: ArgumentHelp("Server socket (overrides host and port).", valueName: "socket"))
    var socket: String?

    @Option(
        name: .customShort("a"), parsing: .unconditional,
        help: ArgumentHelp("Password for AUTH.", valueName: "password"))
    var password: String?

    @Option(help: ArgumentHelp("User name for AUTH; needs -a.", valueName: "username"))
    var user: String?

    @Option(
        name: .customShort("u"),
        help: ArgumentHelp("Server URI: redis://user:password@host:port/dbnum.", valueName: "uri"))
    var uri: String?

    @Option(help: ArgumentHelp("SELECT the database of this number.", valueName: "db"))
    var dbnum: Int?

    @Flag(name: .customShort("3"), help: "Speak RESP3.")
    var resp3 = false

    @Flag(
        help: """
            The server is a node of a cluster: each request goes to the node that owns the slot of its first key, \
            redirections are followed.
            """)
    var cluster = false

    @Flag(help: "Send CLIENT TRACKING on before the test.")
    var enableTracking = false

    var uriWantsTLS: Bool { uri?.hasPrefix("rediss://") == true || uri?.hasPrefix("valkeys://") == true }

    func validate() throws {
        if let port, !(1...65535).contains(port) { throw ValidationError("-p must be between 1 and 65535") }
        if user != nil, password == nil { throw ValidationError("--user needs -a") }
        if let dbnum, dbnum < 0 { throw ValidationError("--dbnum must not be negative") }
    }

    func resolve() throws -> (NodeAddress, Credentials, database: Int) {
        var parsed = ServerURI()
        if let uri {
            guard let value = ServerURI(parsing: uri) else {
                throw ToolFailure("'\(uri)' is not of the form redis://user:password@host:port/dbnum")
            }
            parsed = value
        }
        let credentials = Credentials(user: user ?? parsed.user, password: password ?? parsed.password)
        let database = dbnum ?? parsed.database ?? 0
        if let socket, !cluster { return (NodeAddress(unixPath: socket), credentials, database) }
        let address = NodeAddress(
            host: host ?? parsed.host ?? "127.0.0.1", port: port ?? parsed.port ?? 6379)
        return (address, credentials, database)
    }

    /// What redis-benchmark sends first on each connection, in its order.
    func prefix(credentials: Credentials, database: Int) -> [[UInt8]] {
        var commands: [[String]] = []
        if let password = credentials.password {
            commands.append(["AUTH"] + (credentials.user.map { [$0] } ?? []) + [password])
        }
        if enableTracking { commands.append(["CLIENT", "TRACKING", "on"]) }
        if database != 0, !cluster { commands.append(["SELECT", String(database)]) }
        if resp3 { commands.append(["HELLO", "3"]) }
        return commands.map { RequestEncoder.encode($0.map { Array($0.utf8) }) }
    }
}

struct LoadOptions: ParsableArguments {
    @Option(name: .customShort("c"), help: ArgumentHelp("Number of parallel connections.", valueName: "clients"))
    var clients = 50

    @Option(
        name: .customShort("n"),
        help: ArgumentHelp("Total number of requests. (default: 100000)", valueName: "requests"))
    var requests: Int?

    @Option(help: ArgumentHelp("Run each test for so many seconds instead of -n requests.", valueName: "seconds"))
    var duration: Double?

    @Option(help: ArgumentHelp("Send for so many seconds before the measurement begins.", valueName: "seconds"))
    var warmup = 0.0

    @Option(
        help: ArgumentHelp(
            """
            Requests per second over all connections, sent at even times whatever the server does (open loop); the \
            latency counts from the time at which a request should have been sent.
            """, valueName: "requests"))
    var rate: Double?

    @Option(
        name: .customShort("P"),
        help: ArgumentHelp("Requests that a connection sends before it waits for replies.", valueName: "numreq"))
    var pipeline = 1

    @Option(name: .customShort("k"), help: ArgumentHelp("1=keep alive 0=reconnect.", valueName: "boolean"))
    var keepAlive = 1

    @Option(
        help: ArgumentHelp(
            "Spread the connections over so many threads. (default: 1; with --cluster one for each primary)",
            valueName: "num"))
    var threads: Int?

    @Option(help: ArgumentHelp("Seed of all random numbers. (default: the time)", valueName: "num"))
    var seed: UInt64?

    @Flag(name: .customShort("l"), help: "Loop: run the tests for ever.")
    var loop = false

    @Flag(name: .customShort("I"), help: "Idle mode: just open the connections and wait.")
    var idle = false

    var keepsAlive: Bool { keepAlive != 0 }

    /// As in redis-benchmark.
    private static let threadsMax = 500

    func check() throws {
        guard (1...1_000_000).contains(clients) else { throw ValidationError("-c must be between 1 and 1000000") }
        if let requests, requests < 1 { throw ValidationError("-n must be above 0") }
        if let duration, !(duration > 0 && duration <= 1e7) {
            throw ValidationError("--duration must be above 0 and at most 10000000")
        }
        if requests != nil, duration != nil { throw ValidationError("-n and --duration exclude each other") }
        guard warmup >= 0, warmup <= 1e7 else { throw ValidationError("--warmup must not be negative") }
        if let rate, !(rate > 0 && rate <= 1e9) {
            throw ValidationError("--rate must be above 0 and at most 1000000000")
        }
        guard pipeline <= 1_000_000 else { throw ValidationError("-P must be at most 1000000") }
        if rate != nil, !keepsAlive { throw ValidationError("-k 0 does not go with --rate") }
    }

    /// One, or in a cluster one for each primary, unless another number was asked for.
    private func threadCount(for target: Target) -> Int {
        if let threads, threads > Self.threadsMax {
            warn("WARNING: Too many threads, limiting threads to \(Self.threadsMax).")
        }
        return min(max(threads ?? target.endpoints.count, 1), Self.threadsMax, clients)
    }

    func settings(for target: Target) -> RunSettings {
        var settings = RunSettings(endpoints: target.endpoints)
        settings.connectionCount = max(clients, target.endpoints.count)
        settings.threadCount = threadCount(for: target)
        settings.pipeline = max(pipeline, 1)
        settings.durationNanoseconds = duration.map { Int64($0 * 1e9) }
        settings.requestCount = duration == nil ? requests ?? 100_000 : nil
        settings.warmupNanoseconds = Int64(warmup * 1e9)
        settings.rate = rate
        settings.keepsAlive = keepsAlive
        settings.seed = seed ?? UInt64(SystemClock.wallNanoseconds)
        return settings
    }
}

struct TestOptions: ParsableArguments {
    @Option(
        name: .customShort("t"),
        help: ArgumentHelp(
            "Only run these tests: \(StandardTest.allNames.joined(separator: ", ")).", valueName: "tests"))
    var tests: String?

    @Option(
        name: .customShort("r"),
        help: ArgumentHelp(
            "Number of keys: __rand_int__ is replaced by a number below it. Without -r all requests use one key.",
            valueName: "keyspacelen"))
    var keySpace: Int?

    @Option(name: .customShort("d"), help: ArgumentHelp("Bytes of a value. (default: 3)", valueName: "size"))
    var size: Int?

    @Option(
        help: ArgumentHelp(
            """
            How often which key is used: uniform, zipfian[:theta], latest[:theta], sequential or \
            hotset[:fraction:probability]. (default: uniform)
            """, valueName: "distribution"))
    var keys: String?

    @Option(
        help: ArgumentHelp(
            "Sizes of values: 64, or 16-1024, or 64:90,1024-4096:10 with weights.", valueName: "distribution"))
    var sizes: String?

    @Option(
        help: ArgumentHelp(
            """
            A mix of requests: ycsb-a to ycsb-f on string values (load them first with ycsb-load; -r is the number \
            of records, by default 100000, of 1000 bytes), or a file.
            """, valueName: "name"))
    var workload: String?

    @Flag(name: .customShort("x"), help: "Read the last argument of the command from standard input.")
    var readsStandardInput = false

    @Flag(name: .customShort("e"), help: "Accepted for redis-benchmark's sake: error replies are always shown.")
    var showsErrors = false

    func check(hasCommand: Bool) throws {
        if let size, size > SizeDistribution.bytesMax { throw ValidationError("-d must be at most 536870912") }
        if size != nil, sizes != nil { throw ValidationError("-d and --sizes exclude each other") }
        if let keySpace, keySpace > Placeholder.keyCountMax {
            throw ValidationError("-r must be at most \(Placeholder.keyCountMax)")
        }
        if keys != nil, keySpace == nil, workload == nil { throw ValidationError("--keys needs -r") }
        if workload != nil, hasCommand || tests != nil {
            throw ValidationError("--workload excludes -t and a command")
        }
        if readsStandardInput, !hasCommand { throw ValidationError("-x needs a command") }
        let known = StandardTest.allNames
        for name in (tests ?? "").lowercased().split(separator: ",") where !known.contains(String(name)) {
            throw ValidationError("no test is called '\(name)'; there are \(known.joined(separator: ", "))")
        }
    }

    /// Nil: placeholders of numbers stay as they are.
    var keyCount: Int? {
        if let keySpace { return max(keySpace, 1) }
        return workload == nil ? nil : 100_000
    }

    func sizeDistribution(default defaultBytes: Int) throws(ToolFailure) -> SizeDistribution {
        if let sizes { return try SizeDistribution(parsing: sizes) }
        return SizeDistribution(fixed: size.map { max($0, 1) } ?? defaultBytes)
    }

    func keyDistribution(for workloads: WorkloadChoice) throws(ToolFailure) -> KeyDistribution {
        if let keys { return try KeyDistribution(parsing: keys) }
        if case .named(let workload) = workloads { return workload.keys }
        return .uniform
    }
}

struct OutputOptions: ParsableArguments {
    @Flag(name: .customShort("q"), help: "Quiet: just show one line for each test.")
    var quiet = false

    @Flag(help: "Output in CSV format.")
    var csv = false

    @Option(help: ArgumentHelp("Write all results as JSON; - for standard output.", valueName: "file"))
    var json: String?

    @Option(help: ArgumentHelp("Write a page with tables and plots that needs no network.", valueName: "file"))
    var html: String?

    @Option(help: ArgumentHelp("Significant digits of latencies, 0 to 4. (default: 3)", valueName: "digits"))
    var precision: Int?

    /// Standard output is not a table or a file for programs.
    var isForPeople: Bool { !csv && json != "-" }

    func validate() throws {
        if csv, json == "-" { throw ValidationError("--csv and --json - exclude each other") }
    }

    /// As redis-benchmark corrects it.
    var significantDigits: Int { precision.map { $0 < 0 ? 3 : min($0, 4) } ?? 3 }
}

/// redis-benchmark's options for TLS, so that asking for it gives a clear answer.
struct TLSOptions: ParsableArguments {
    @Flag(help: "Establish a secure TLS connection.")
    var tls = false

    @Option(help: ArgumentHelp("Server name indication.", valueName: "host"))
    var sni: String?

    @Option(help: ArgumentHelp("File of CA certificates to verify with.", valueName: "file"))
    var cacert: String?

    @Option(help: ArgumentHelp("Folder of CA certificates to verify with.", valueName: "dir"))
    var cacertdir: String?

    @Flag(help: "Do not verify the server's certificate.")
    var insecure = false

    @Option(help: ArgumentHelp("Client certificate to authenticate with.", valueName: "file"))
    var cert: String?

    @Option(help: ArgumentHelp("Private key file to authenticate with.", valueName: "file"))
    var key: String?

    @Option(help: ArgumentHelp("Ciphers up to TLS 1.2.", valueName: "list"))
    var tlsCiphers: String?

    @Option(help: ArgumentHelp("Cipher suites of TLS 1.3.", valueName: "list"))
    var tlsCiphersuites: String?

    var isWanted: Bool {
        tls || insecure
            || [sni, cacert, cacertdir, cert, key, tlsCiphers, tlsCiphersuites].contains { $0 != nil }
    }
}
