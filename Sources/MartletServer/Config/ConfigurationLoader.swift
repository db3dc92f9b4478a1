import MartletBase

// Reading redis.conf. A line is a directive and its words, quoted as QuotedArguments.swift says; `#` starts a comment line.
// Sources are read in this order, later values winning: the file, standard input, the command line. `include` reads
// another file at its place; a name with a glob may match nothing, one without has to exist. Relative names start at the
// working directory, which `dir` changes from its line on.
//
// The module does no I/O: files come through ConfigurationFiles. The first mistake ends the load with the source, line
// number and text of the line, and the server does not start.
//
// Source: Redis 7.0 config.c, `loadServerConfigFromString`, `loadServerConfig`.

/// What the loader needs of the outside.
package struct ConfigurationFiles {
    /// The bytes of the file, or why it cannot be read, as strerror says it.
    package var read: (String) -> Result<[UInt8], ConfigurationFileProblem>
    /// The paths that match a pattern, sorted.
    package var glob: (String) -> [String]
    /// The absolute working directory after changing to a path, or why that is impossible.
    package var changeDirectory: (String) -> Result<String, ConfigurationFileProblem>
    /// All of standard input.
    package var standardInput: () -> [UInt8]
    package var currentDirectory: () -> String

    package init(
        read: @escaping (String) -> Result<[UInt8], ConfigurationFileProblem>,
        glob: @escaping (String) -> [String],
        changeDirectory: @escaping (String) -> Result<String, ConfigurationFileProblem>,
        standardInput: @escaping () -> [UInt8],
        currentDirectory: @escaping () -> String
    ) {
        self.read = read
        self.glob = glob
        self.changeDirectory = changeDirectory
        self.standardInput = standardInput
        self.currentDirectory = currentDirectory
    }
}

package struct ConfigurationFileProblem: Error {
    package let reason: String
    package init(reason: String) { self.reason = reason }
}

/// Why the configuration cannot be used.
package struct ConfigurationError: Error, Equatable {
    /// A path, `standard input` or `command line`; nil for what concerns the whole.
    package let source: String?
    /// From 1.
    package let lineNumber: Int?
    package let line: String
    package let problem: String

    /// What goes to standard error before the exit.
    package func report(version: String) -> String {
        var text = "\n*** FATAL CONFIG FILE ERROR (Martlet \(version)) ***\n"
        if let source, let lineNumber {
            text += "Reading the configuration file, at line \(lineNumber) of \(source)\n>>> '\(line)'\n"
        }
        return text + problem + "\n"
    }
}

package struct LoadedConfiguration {
    package let configuration: ServerConfiguration
    /// For the log, once it is set up.
    package let warnings: [String]
}

package struct ConfigurationLoader {
    /// Nested `include` lines. Redis has no limit and dies of a file that includes itself.
    package static let includeDepthMax = 32
    /// Files read in one load, so that nested includes cannot multiply without end.
    package static let includedFilesMax = 10_000

    private let files: ConfigurationFiles
    /// Whether the server has a command of that name, in lower case.
    private let hasCommand: (String) -> Bool
    private var configuration = ServerConfiguration()
    private var hasSaveLine = false
    private var includedFileCount = 0
    /// Names that `rename-command` added (true) or took away (false).
    private var commandNames: [String: Bool] = [:]

    package init(files: ConfigurationFiles, hasCommand: @escaping (String) -> Bool) {
        self.files = files
        self.hasCommand = hasCommand
    }

    package static func load(
        _ arguments: ServerArguments.Run, files: ConfigurationFiles, hasCommand: @escaping (String) -> Bool
    ) throws(ConfigurationError) -> LoadedConfiguration {
        var loader = ConfigurationLoader(files: files, hasCommand: hasCommand)
        loader.configuration.directory = files.currentDirectory()
        if let path = arguments.configurationPath { try loader.include(path, depth: 0) }
        if arguments.readsStandardInput {
            try loader.load(files.standardInput(), source: "standard input", depth: 0)
        }
        try loader.load(arguments.options, source: "command line", depth: 0)
        return try loader.finished()
    }

    private mutating func finished() throws(ConfigurationError) -> LoadedConfiguration {
        if configuration.isClusterEnabled, configuration.replicaOf != nil {
            throw ConfigurationError(
                source: nil, lineNumber: nil, line: "", problem: "replicaof directive not allowed in cluster mode")
        }
        configuration.clampHz()
        return LoadedConfiguration(configuration: configuration, warnings: configuration.unsupportedWarnings())
    }

    // MARK: Files

    private mutating func include(_ path: String, depth: Int) throws(ConfigurationError) {
        let isPattern = path.utf8.contains { "*?[".utf8.contains($0) }
        for path in isPattern ? files.glob(path) : [path] {
            includedFileCount += 1
            guard depth <= Self.includeDepthMax, includedFileCount <= Self.includedFilesMax else {
                throw ConfigurationError(
                    source: nil, lineNumber: nil, line: "",
                    problem: "Too many nested includes, the last is '\(path)'")
            }
            switch files.read(path) {
            case .success(let bytes): try load(bytes, source: path, depth: depth)
            case .failure(let problem):
                throw ConfigurationError(
                    source: nil, lineNumber: nil, line: "",
                    problem: "Fatal error, can't open config file '\(path)': \(problem.reason)")
            }
        }
    }

    private mutating func load(_ bytes: [UInt8], source: String, depth: Int) throws(ConfigurationError) {
        var number = 0
        for untrimmed in bytes.split(separator: 0x0A, omittingEmptySubsequences: false) {
            number += 1
            let line = untrimmed.trimmed
            guard let first = line.first, first != UInt8(ascii: "#") else { continue }
            func fail(_ problem: String) -> ConfigurationError {
                ConfigurationError(
                    source: source, lineNumber: number, line: String(decoding: line, as: UTF8.self), problem: problem)
            }
            guard !line.contains(0) else { throw fail("Zero byte in configuration line") }
            guard let words = splitArguments(line) else { throw fail("Unbalanced quotes in configuration line") }
            guard let name = words.first else { continue }
            do throws(LineError) {
                try apply(name, Array(words.dropFirst()), depth: depth)
            } catch {
                switch error {
                case .here(let problem): throw fail(problem)
                case .inIncludedFile(let error): throw error
                }
            }
        }
    }

    private enum LineError: Error {
        case here(String)
        case inIncludedFile(ConfigurationError)
    }

    // MARK: Lines

    private mutating func apply(_ name: [UInt8], _ words: [[UInt8]], depth: Int) throws(LineError) {
        if let (directive, _) = Directive.named(name) {
            do throws(DirectiveError) {
                try assign(directive, words)
            } catch {
                throw .here(error.text)
            }
            return
        }
        let lowered = name.lowercasedASCII
        switch (lowered, words.count) {
        case (_, 1) where Directive.deprecated.contains(lowered):
            break
        case ("include", 1):
            do throws(ConfigurationError) {
                try include(String(decoding: words[0], as: UTF8.self), depth: depth + 1)
            } catch {
                throw error.source == nil ? .here(error.problem) : .inIncludedFile(error)
            }
        case ("rename-command", 2):
            try rename(words[0], words[1])
        case ("user", 1...):
            configuration.users.append(words)
        case ("loadmodule", 1...):
            throw .here("Modules are not supported: they are compiled against Redis' internals")
        case ("sentinel", _):
            throw .here("Sentinel mode is not supported: use cluster mode for failover")
        case (_, 0) where lowered.contains("."):
            throw .here("Module config specified without value")
        case _ where lowered.contains("."):
            throw .here("Modules are not supported, so '\(lowered)' belongs to none")
        default:
            throw .here("Bad directive or wrong number of arguments")
        }
    }

    private mutating func assign(_ directive: Directive, _ words: [[UInt8]]) throws(DirectiveError) {
        guard directive.flags.contains(.multiArgument) else {
            guard words.count == 1 else { throw .wrongArgumentCount }
            if directive.name == "dir" { return try changeDirectory(words[0]) }
            return try directive.assign(words, to: &configuration)
        }
        // A single word is split once more, so that `--save "900 1"` works as `--save 900 1` does.
        let split = words.count == 1 && !words[0].isEmpty ? splitArguments(words[0]) ?? [] : words
        guard directive.name == "save" else { return try directive.assign(split, to: &configuration) }
        // The first line replaces the defaults, further ones add.
        let earlier = hasSaveLine && split != [[]] ? configuration.savePoints : []
        try directive.assign(split, to: &configuration)
        configuration.savePoints = earlier + configuration.savePoints
        hasSaveLine = true
    }

    private mutating func changeDirectory(_ word: [UInt8]) throws(DirectiveError) {
        switch files.changeDirectory(try Directive.text(of: word)) {
        case .success(let path): configuration.directory = path
        case .failure(let problem): throw DirectiveError(text: problem.reason)
        }
    }

    private mutating func rename(_ name: [UInt8], _ newName: [UInt8]) throws(LineError) {
        let old = name.lowercasedASCII
        let new = newName.lowercasedASCII
        guard commandNames[old] ?? hasCommand(old) else { throw .here("No such command in rename-command") }
        commandNames[old] = false
        if !new.isEmpty {
            guard !(commandNames[new] ?? hasCommand(new)) else { throw .here("Target command name already exists") }
            commandNames[new] = true
        }
        configuration.renamedCommands.append(RenamedCommand(name: old, newName: new))
    }
}

extension ServerConfiguration {
    /// Source: Redis 7.0 server.h, CONFIG_MIN_HZ and CONFIG_MAX_HZ.
    package static let hzRange = 1...500

    /// `hz` is taken as a hint and kept in range without an error.
    mutating func clampHz() { hz = min(max(hz, Self.hzRange.lowerBound), Self.hzRange.upperBound) }

    /// A line for every directive that asks for something that is not there yet.
    package func unsupportedWarnings() -> [String] {
        let defaults = ServerConfiguration()
        var names = Directive.all.filter { directive in
            guard directive.support == .later else { return false }
            // No snapshots wanted is what happens.
            if directive.name == "save" { return !savePoints.isEmpty && savePoints != defaults.savePoints }
            return directive.shown(in: self) != directive.shown(in: defaults)
        }.map(\.name)
        if !users.isEmpty { names.append("user") }
        return names.map { "The directive '\($0)' is not supported yet and has no effect" }
    }
}
