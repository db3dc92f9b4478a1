import ArgumentParser
import Glibc
import MartletSystem

/// `martlet create-cluster`: a cluster on this host with one word, or of nodes that run anywhere.
struct CreateClusterCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create-cluster",
        abstract: "Create a cluster: of new processes on this host, or of nodes that already run.",
        usage: """
            martlet create-cluster start|stop|status|restart|clean [options] [-- --directive value …]
            martlet create-cluster HOST:PORT HOST:PORT … [--replicas N] [--yes]
            """,
        discussion: """
            start boots server processes and makes them a cluster; on a cluster that runs it only checks that all is \
            well. Everything lives in one folder (--dir, by default ./run/cluster-PORT).

            With addresses, nodes that run anywhere and are empty become one cluster.
            """,
        subcommands: [Start.self, Stop.self, Status.self, Restart.self, Clean.self, OfNodes.self],
        defaultSubcommand: OfNodes.self)
}

struct CredentialOptions: ParsableArguments {
    @Option(help: "The user to authenticate as.")
    var user: String?

    @Option(
        name: [.customLong("pass"), .customShort("a")], help: "The password (or set MARTLETCLI_AUTH or REDISCLI_AUTH).")
    var password: String?

    var effectivePassword: String? {
        password ?? environmentValue("MARTLETCLI_AUTH") ?? environmentValue("REDISCLI_AUTH")
    }
}

struct TimeoutOption: ParsableArguments {
    @Option(help: "Give up after this many seconds.")
    var timeout: Double = 60

    func validate() throws {
        guard timeout > 0, timeout <= 86400 else { throw ValidationError("--timeout must be between 0 and 86400") }
    }
}

/// Which local cluster is meant.
struct LocationOptions: ParsableArguments {
    @Option(help: "Port of the first node; the others follow. (default: 7000)")
    var port: Int?

    @Option(help: "The cluster's folder. (default: ./run/cluster-PORT)")
    var dir: String?

    @Option(help: "Settings and node directives from a file, such as one of cluster-configs/.")
    var config: String?

    /// The settings to begin with: those that the folder already has, else the configuration file, else the defaults.
    func resolve() throws -> (settings: ClusterSettings, saved: ClusterSettings?, directory: String) {
        var settings = ClusterSettings()
        if let config {
            guard let text = Files.read(config) else {
                throw ToolFailure("cannot read \(config): \(String(cString: strerror(errno)))")
            }
            settings = try ClusterSettings(parsing: text, file: config)
        }
        if let port { settings.port = port }
        let directory = Files.canonical(Files.absolute(dir ?? settings.directory ?? "run/cluster-\(settings.port)"))
        let file = "\(directory)/\(LocalCluster.settingsFileName)"
        let saved = try Files.read(file).map { try ClusterSettings(parsing: $0, file: file) }
        if config == nil, let saved {
            settings = saved
            if let port { settings.port = port }
        }
        return (settings, saved, directory)
    }

    /// A cluster that `start` made; nil when the folder has none.
    func existing(credentials: CredentialOptions?) throws -> LocalCluster? {
        let (_, saved, directory) = try resolve()
        guard var settings = saved else {
            say("There is no cluster in \(directory).")
            return nil
        }
        if let port, port != settings.port {
            throw ToolFailure("\(directory) holds a cluster that begins at port \(settings.port), not at \(port)")
        }
        if let user = credentials?.user { settings.user = user }
        if let password = credentials?.effectivePassword { settings.password = password }
        return LocalCluster(settings: settings, directory: directory, progress: Progress())
    }
}

struct StartOptions: ParsableArguments {
    @Option(help: "All nodes, primaries and replicas. (default: 6)")
    var nodes: Int?

    @Option(help: "Replicas of each primary. (default: 1)")
    var replicas: Int?

    @Option(help: "Address that the nodes listen on. (default: 127.0.0.1)")
    var host: String?

    @Option(help: "The server to start. (default: martlet-server beside this program, else in PATH)")
    var server: String?

    @Argument(
        parsing: .postTerminator,
        help: ArgumentHelp("Directives for every node, after '--'.", valueName: "--directive value"))
    var directives: [String] = []

    func start(_ location: LocationOptions, _ credentials: CredentialOptions, timeoutSeconds: Double) throws {
        var (settings, saved, directory) = try location.resolve()
        if let nodes { settings.nodes = nodes }
        if let replicas { settings.replicas = replicas }
        if let host { settings.host = host }
        if let user = credentials.user { settings.user = user }
        if let password = credentials.effectivePassword { settings.password = password }
        if !directives.isEmpty {
            // What is given now replaces what the folder remembers of the same directives.
            var given = ClusterSettings()
            try given.addCommandLine(directives)
            let names = Set(given.directives.map(\.name))
            settings.directives.removeAll { names.contains($0.name) }
            settings.directives += given.directives
        }
        guard settings.nodes > 0, settings.nodes <= ClusterSettings.nodesMax, settings.replicas >= 0,
            settings.replicas < settings.nodes, settings.port > 0
        else { throw ValidationError("--nodes, --replicas or --port is out of range") }
        try settings.check()
        if let saved, !saved.hasSameShape(as: settings) {
            throw ToolFailure(
                """
                \(directory) holds another cluster: \(saved.nodes) nodes, \(saved.replicas) replicas per primary, from \
                \(saved.host):\(saved.port). Use another --dir, or stop and clean that one first.
                """)
        }
        let executable = try Self.findServer(server.map(Files.absoluteIfPath) ?? settings.server)
        settings.server = executable
        try Files.makeFolder(directory)
        let cluster = LocalCluster(settings: settings, directory: directory, progress: Progress())
        do {
            try cluster.start(server: executable, timeoutSeconds: timeoutSeconds)
        } catch {
            cluster.progress.interrupted()
            let count = cluster.nodes.count { $0.pid != nil }
            if count > 0 {
                throw ToolFailure(
                    "\(error)\n\(count) nodes keep running: repeat the start to go on, or stop them with\n    \(stopCommand(cluster))"
                )
            }
            throw error
        }
        let first = settings.addresses[0]
        let isDefaultFolder = location.dir == nil && location.config == nil
        say(
            """

            The cluster is ready: \(settings.addresses.count) nodes from \(first) on.
                connect:  redis-cli -c -h \(first.host) -p \(first.port)\(settings.effectivePassword == nil ? "" : " -a PASSWORD")
                status:   \(Self.programName) create-cluster status \(isDefaultFolder ? "--port \(settings.port)" : "--dir \(directory)")
                stop:     \(Self.programName) create-cluster stop \(isDefaultFolder ? "--port \(settings.port)" : "--dir \(directory)")
                logs:     \(directory)/PORT/server.log
            """)
    }

    private func stopCommand(_ cluster: LocalCluster) -> String {
        "\(Self.programName) create-cluster stop --dir \(cluster.directory)"
    }

    /// As the user called it.
    private static var programName: String { CommandLine.arguments.first ?? "martlet" }

    private static func findServer(_ wanted: String?) throws -> String {
        if let wanted, wanted.contains("/") {
            guard Files.isExecutable(wanted) else {
                throw ToolFailure("\(wanted) is not a program that can be started")
            }
            return wanted
        }
        let name = wanted ?? "martlet-server"
        var folders: [String] = []
        if wanted == nil, let program = Files.linkTarget("/proc/self/exe") {
            folders.append(String(program[..<(program.lastIndex(of: "/") ?? program.startIndex)]))
        }
        let path = environmentValue("PATH") ?? "/usr/local/bin:/usr/bin:/bin"
        folders += path.split(separator: ":").map(String.init)
        for folder in folders where Files.isExecutable("\(folder)/\(name)") { return "\(folder)/\(name)" }
        throw ToolFailure("no program \(name) beside this one or in PATH: name it with --server PATH")
    }
}

private func environmentValue(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

extension Files {
    /// Names without a slash are searched in PATH and stay as they are.
    fileprivate static func absoluteIfPath(_ name: String) -> String {
        name.contains("/") ? absolute(name) : name
    }
}

extension CreateClusterCommand {
    struct Start: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Boot the nodes of a local cluster and make them one.")

        @OptionGroup var location: LocationOptions
        @OptionGroup var options: StartOptions
        @OptionGroup var credentials: CredentialOptions
        @OptionGroup var timeout: TimeoutOption

        func run() throws { try options.start(location, credentials, timeoutSeconds: timeout.timeout) }
    }

    struct Stop: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Stop the processes of a local cluster; their data stays.")

        @OptionGroup var location: LocationOptions

        @Option(help: "Kill a node that has not ended after this many seconds.")
        var timeout: Double = 20

        func run() throws {
            try location.existing(credentials: nil)?.stop(timeoutSeconds: timeout)
        }
    }

    struct Restart: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Stop, then start.")

        @OptionGroup var location: LocationOptions
        @OptionGroup var options: StartOptions
        @OptionGroup var credentials: CredentialOptions
        @OptionGroup var timeout: TimeoutOption

        func run() throws {
            try location.existing(credentials: credentials)?.stop(timeoutSeconds: 20)
            try options.start(location, credentials, timeoutSeconds: timeout.timeout)
        }
    }

    struct Status: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show the nodes of a local cluster; exit status 1 unless all are well.")

        @OptionGroup var location: LocationOptions
        @OptionGroup var credentials: CredentialOptions

        @Option(help: "Give up on a node that does not answer within this many seconds.")
        var timeout: Double = 5

        func run() throws {
            guard let cluster = try location.existing(credentials: credentials),
                try cluster.status(timeoutSeconds: timeout)
            else { throw ExitCode.failure }
        }
    }

    struct Clean: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Remove the files of a stopped local cluster, data included.")

        @OptionGroup var location: LocationOptions

        func run() throws { try location.existing(credentials: nil)?.clean() }
    }

    /// Without a verb: the nodes run already.
    struct OfNodes: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "of-nodes", abstract: "Make running, empty nodes one cluster (the default with HOST:PORT).")

        @Argument(help: ArgumentHelp("Nodes that run; the first ones become primaries.", valueName: "host:port"))
        var addresses: [String]

        @Option(help: "Replicas of each primary.")
        var replicas: Int = 0

        @Flag(name: [.long, .customShort("y")], help: "Do not ask before the nodes are changed.")
        var yes = false

        @OptionGroup var credentials: CredentialOptions
        @OptionGroup var timeout: TimeoutOption

        func run() throws {
            let nodes = try addresses.map { text throws in
                guard let address = NodeAddress(parsing: text) else {
                    throw ValidationError("'\(text)' is neither HOST:PORT nor start, stop, status, restart or clean")
                }
                return address
            }
            guard replicas >= 0 else { throw ValidationError("--replicas must not be negative") }
            let progress = Progress()
            let plan = try ClusterPlan(nodes: nodes, replicasPerPrimary: replicas)
            var formation = ClusterFormation(
                addresses: nodes,
                credentials: Credentials(user: credentials.user, password: credentials.effectivePassword),
                timeoutSeconds: timeout.timeout, progress: progress)
            do {
                let confirmed = try formation.run(plan: plan) {
                    if yes { return true }
                    printUnbuffered("Create this cluster? (type 'yes' to accept) ", to: STDOUT_FILENO)
                    return readLine() == "yes"
                }
                guard confirmed else {
                    say("Nothing was changed.")
                    throw ExitCode.failure
                }
            } catch {
                progress.interrupted()
                throw error
            }
        }
    }
}
