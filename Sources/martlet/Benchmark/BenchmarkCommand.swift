import ArgumentParser
import Glibc
import MartletBase
import MartletSystem

/// `martlet benchmark`: measures a server, or a cluster, under load.
struct BenchmarkCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "benchmark",
        abstract: "Measure the throughput and the latency of a server or a cluster under load.",
        usage: "martlet benchmark [OPTIONS] [COMMAND ARGS...]",
        discussion: """
            Takes the options of redis-benchmark, with the same meaning and the same output, and more. Without a \
            command, -t or --workload it runs all of redis-benchmark's tests.

            In commands and workload files these are replaced each time:
              __rand_int__  a key number below -r, 12 digits, drawn by --keys
              __key__       the same, but one number for all places of a request
              __key+3__     the third number after __key__
              __new__       the number of a key that was not used before
              __data__      a value of the size that -d or --sizes says
              {tag}         with --cluster: a hash tag that leads to a random slot

            A workload file has one line for each kind of request: its weight, then its command, or several commands \
            that are sent together, divided by ' ; '. Quotes and comments are those of redis.conf:
              95  GET user:__key__
              4   SET user:__key__ __data__
              1   MULTI ; INCR a ; INCR b ; EXEC

            Examples:
              martlet benchmark -t set,get -n 1000000 -r 1000000 -P 16
              martlet benchmark --rate 50000 --duration 30 --html report.html -t get
              martlet benchmark --cluster -p 7000 --workload ycsb-b -r 1000000
              martlet benchmark -r 10000 -n 10000 lpush mylist __rand_int__
            """,
        // -h is the host, and what follows the first word that is no option belongs to the command, so the two options
        // are declared here.
        helpNames: [])

    @OptionGroup(title: "Server") var server: ServerOptions
    @OptionGroup(title: "Load") var load: LoadOptions
    @OptionGroup(title: "Tests") var tests: TestOptions
    @OptionGroup(title: "Output") var output: OutputOptions
    @OptionGroup(title: "TLS (not supported by this build)") var tls: TLSOptions

    @Flag(help: "Show this help and exit.")
    var help = false

    @Flag(name: [.customShort("v"), .long], help: "Show the version and exit.")
    var version = false

    @Argument(
        parsing: .captureForPassthrough,
        help: ArgumentHelp("The command to send instead of the tests.", valueName: "command args"))
    var command: [String] = []

    func validate() throws {
        if help { throw CleanExit.helpRequest(self) }
        if version { throw CleanExit.message("martlet benchmark, with the options of redis-benchmark 7.0") }
        if let word = command.first, word.hasPrefix("-"), word != "--" {
            throw ValidationError("Unknown option '\(word)', or an option without its value")
        }
        try load.check()
        try tests.check(hasCommand: !commandWords.isEmpty)
        if server.cluster, !load.keepsAlive { throw ValidationError("-k 0 does not go with --cluster") }
    }

    private var commandWords: [String] { command.first == "--" ? Array(command.dropFirst()) : command }

    func run() throws {
        if tls.isWanted || server.uriWantsTLS {
            throw ToolFailure("TLS is not supported yet by this build of martlet benchmark")
        }
        let (address, credentials, database) = try server.resolve()
        let workloads = try workloads()
        let keys = try tests.keyDistribution(for: workloads)
        let sizes = try tests.sizeDistribution(default: workloads.isYCSB ? 1000 : 3)
        var target = try Target(address, credentials, isCluster: server.cluster)
        var settings = load.settings(for: target)
        try allowOpenFiles(for: settings)
        settings.keys = keys
        settings.keyCount = tests.keyCount ?? 1
        settings.prefix = server.prefix(credentials: credentials, database: database)
        settings.significantDigits = output.significantDigits
        complete(&target.context, settings, sizes)
        let enabled = Placeholder.Enabled(numbers: tests.keyCount != nil, tag: server.cluster)
        if case .single(let words, _) = workloads { target.context.payload = "\(encodedCount(words))" }

        if server.cluster, output.isForPeople { say(clusterText(target)) }
        if !load.keepsAlive {
            warn("WARNING: Keepalive disabled. Many short connections need 'sysctl net.ipv4.tcp_tw_reuse=1'.")
        }
        var runner = try TestRunner(
            target, settings, sizes: sizes, enabled: enabled, showsProgress: output.isForPeople)
        if load.idle {
            say("Creating \(settings.connectionCount) idle connections and waiting forever (Ctrl+C when done)")
            return try runner.idle()
        }
        let report = Report(output, target.context)
        var hasErrors = false
        try report.begin()
        repeat {
            for workload in try workloads.list(hasRandomKeys: tests.keyCount != nil, isCluster: server.cluster) {
                let result = try runner.measure(workload)
                hasErrors = hasErrors || result.errorCount > 0
                report.add(result)
                if runner.isInterrupted { break }
            }
        } while load.loop && !runner.isInterrupted
        try report.end()
        if runner.isInterrupted { throw ExitCode(130) }
        if hasErrors { throw ExitCode.failure }
    }

    private func allowOpenFiles(for settings: RunSettings) throws {
        // In a cluster each thread has a connection to each node. Beside connections: a poller and a wake-up for each
        // thread, and a few of the process.
        let connectionCount = max(settings.connectionCount, settings.threadCount * settings.endpoints.count)
        let wanted = UInt64(connectionCount + 2 * settings.threadCount + 32)
        if case .insufficient(let available, let error) = try SystemProcess.raiseOpenFilesLimit(to: wanted) {
            throw ToolFailure(
                "\(connectionCount) connections need \(wanted) open files, and the system allows \(available): \(error)"
            )
        }
    }

    private func workloads() throws -> WorkloadChoice {
        if !commandWords.isEmpty {
            if tests.tests != nil { warn("WARNING: Option -t is ignored.") }
            var words = rawArguments(last: commandWords.count)
            if tests.readsStandardInput { words.append(readStandardInput()) }
            return .single(words, title: commandWords.joined(separator: " "))
        }
        if let name = tests.workload { return .named(try NamedWorkload(name, isCluster: server.cluster)) }
        return .standard(names: tests.tests?.lowercased().split(separator: ",").map(String.init))
    }

    private func encodedCount(_ words: [[UInt8]]) -> Int { RequestEncoder.encode(words).count }

    private func complete(_ context: inout ReportContext, _ settings: RunSettings, _ sizes: SizeDistribution) {
        context.connectionCount = settings.connectionCount
        context.pipeline = settings.pipeline
        context.keepsAlive = settings.keepsAlive
        context.threadCount = load.threads == nil && !server.cluster ? nil : settings.threadCount
        context.payload = sizes.description
        context.rate = load.rate
        context.warmupSeconds = load.warmup
        context.keys = tests.keys ?? "uniform"
        context.keyCount = tests.keyCount
        context.seed = settings.seed
        context.commandLine = commandLineWithoutPassword()
        context.startedAt = SystemClock.wallMilliseconds / 1000
    }

    private func clusterText(_ target: Target) -> String {
        var lines = ["Cluster has \(target.context.nodes.count) master nodes:", ""]
        for (index, node) in target.context.nodes.enumerated() { lines.append("Master \(index): \(node.name)") }
        return lines.joined(separator: "\n") + "\n"
    }

    private func commandLineWithoutPassword() -> String {
        var isPassword = false
        return CommandLine.arguments.map { argument in
            defer { isPassword = argument == "-a" || argument == "-u" }
            if isPassword { return "…" }
            return argument.hasPrefix("-a=") || argument.hasPrefix("-u=") ? argument.prefix(3) + "…" : argument
        }.joined(separator: " ")
    }
}

/// The last arguments of this program, as bytes: they need not be text.
private func rawArguments(last count: Int) -> [[UInt8]] {
    let total = Int(CommandLine.argc)
    return (total - count..<total).map { index in
        let argument = CommandLine.unsafeArgv[index]!
        return Array(UnsafeRawBufferPointer(start: argument, count: strlen(argument)))
    }
}

private func readStandardInput() -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let count = read(STDIN_FILENO, &chunk, chunk.count)
        guard count > 0 else { return bytes }
        bytes += chunk[..<count]
    }
}
