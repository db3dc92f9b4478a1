import MartletBase

// The command line of martlet-server is redis-server's: `[file.conf] [--directive value …] [-]`. Every `--name` begins a
// line of configuration and the words behind it follow on that line, quoted, so that the config file's grammar decides
// about them. Some corners, kept for scripts that rely on them:
//
// - The word right behind a `--name` is its value even if it starts with `--` too (`--logfile --my-log`).
// - `"--name value"` in one word is a whole line already.
// - `--save` followed by another `--name`, or at the end, means `save ""`.
// - `-` as the first or last word: read standard input as well.
//
// Source: Redis 7.0 server.c, `main`.

package enum ServerArguments: Equatable, Sendable {
    case run(Run)
    case version
    case help
    /// `--check-system`.
    case checkSystem
    /// A text for standard error; the exit status is 1.
    case refused(String)

    package struct Run: Equatable, Sendable {
        package var configurationPath: String?
        package var readsStandardInput = false
        /// Lines of configuration.
        package var options: [UInt8] = []

        package init(configurationPath: String? = nil, readsStandardInput: Bool = false, options: [UInt8] = []) {
            self.configurationPath = configurationPath
            self.readsStandardInput = readsStandardInput
            self.options = options
        }
    }

    /// `arguments` are those behind the program's name.
    package init(_ arguments: [String]) {
        switch arguments.first {
        case "-v", "--version": self = .version
        case "-h", "--help": self = .help
        case "--check-system": self = .checkSystem
        case "--test-memory":
            self = .refused("martlet-server has no memory test; a tool such as memtester does it better\n")
        case _ where arguments.contains { $0.lowercased() == "--sentinel" }:
            self = .refused("martlet-server has no Sentinel mode: a cluster fails over by itself\n")
        default: self = .run(Self.parse(arguments))
        }
    }

    private static func parse(_ arguments: [String]) -> Run {
        var run = Run()
        var index = 0
        if let first = arguments.first, !first.hasPrefix("-") {
            run.configurationPath = first
            index = 1
        }
        var nameHasWord = true
        while index < arguments.count {
            let argument = arguments[index]
            let isLast = index == arguments.count - 1
            if argument == "-", index == 0 || isLast {
                run.readsStandardInput = true
            } else if nameHasWord, argument.hasPrefix("--") {
                if !run.options.isEmpty { run.options.append(0x0A) }
                run.options += Array(argument.utf8.dropFirst(2)) + [0x20]
                nameHasWord = splitArguments(Array(argument.utf8))?.count != 1
                let nextIsName = !isLast && arguments[index + 1].hasPrefix("--")
                if argument.lowercased() == "--save", nextIsName || isLast {
                    run.options += Array("\"\"".utf8)
                    nameHasWord = true
                }
            } else {
                run.options += quotedArgument(argument.utf8) + [0x20]
                nameHasWord = true
            }
            index += 1
        }
        return run
    }

    package static func versionText(version: String) -> String {
        "Martlet server v=\(version) bits=\(Int.bitWidth)\n"
    }

    package static let helpText = """
        Usage: martlet-server [/path/to/redis.conf] [options] [-]
               martlet-server - (read config from stdin)
               martlet-server -v or --version
               martlet-server -h or --help
               martlet-server --check-system

        Examples:
               martlet-server (run the server with default conf)
               echo 'maxmemory 128mb' | martlet-server -
               martlet-server /etc/martlet/6379.conf
               martlet-server --port 7777
               martlet-server --port 7777 --replicaof 127.0.0.1 8888
               martlet-server --port 7000 --cluster-enabled yes --cluster-config-file nodes-7000.conf
               martlet-server /etc/mymartlet.conf --loglevel verbose -
               martlet-server /etc/mymartlet.conf --loglevel verbose

        """
}
