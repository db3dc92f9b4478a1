import MartletBase
import Testing

@testable import MartletServer

@Suite struct ConfigurationLoaderTests {
    /// A file system of texts; the working directory starts at `/srv`.
    private final class Files {
        var texts: [String: String] = [:]
        var directory = "/srv"
        var standardInput = ""

        init(_ texts: [String: String]) { self.texts = texts }

        private func absolute(_ path: String) -> String { path.hasPrefix("/") ? path : directory + "/" + path }

        var asFiles: ConfigurationFiles {
            ConfigurationFiles(
                read: { path in
                    self.texts[self.absolute(path)].map { .success(Array($0.utf8)) }
                        ?? .failure(ConfigurationFileProblem(reason: "No such file or directory"))
                },
                glob: { pattern in
                    self.texts.keys.filter { name in
                        Array(self.absolute(pattern).utf8).withUnsafeBytes { pattern in
                            Array(name.utf8).withUnsafeBytes { globMatches(pattern: pattern, text: $0) }
                        }
                    }.sorted()
                },
                changeDirectory: { path in
                    guard path != "/missing" else {
                        return .failure(ConfigurationFileProblem(reason: "No such file or directory"))
                    }
                    self.directory = self.absolute(path)
                    return .success(self.directory)
                },
                standardInput: { Array(self.standardInput.utf8) },
                currentDirectory: { self.directory })
        }
    }

    private func load(
        _ file: String, others: [String: String] = [:], arguments: [String] = [], standardInput: String = ""
    ) throws(ConfigurationError) -> LoadedConfiguration {
        let files = Files(others.merging(["/srv/a.conf": file]) { $1 })
        files.standardInput = standardInput
        guard case .run(let run) = ServerArguments(["a.conf"] + arguments) else { preconditionFailure("no run") }
        return try ConfigurationLoader.load(run, files: files.asFiles) { ["get", "set", "flushall"].contains($0) }
    }

    private func shown(_ name: String, _ loaded: LoadedConfiguration) -> String {
        String(decoding: loaded.configuration.matching([Array(name.utf8)])[0].value, as: UTF8.self)
    }

    @Test("Comments, blanks, quotes, case and line ends of any kind are understood")
    func grammar() throws {
        let loaded = try load(
            """
            # a comment
              # another

            PORT 7000\r
            \tlogfile "/var/log/my \\x41.log"
            requirepass 'it''s'
            """.replacing("'it''s'", with: "'it\\'s'") + "\nmaxmemory-policy ALLKEYS-lru  \nslave-priority 7")
        #expect(loaded.configuration.port == 7000)
        #expect(loaded.configuration.logFilePath == "/var/log/my A.log")
        #expect(loaded.configuration.requirePassword == Array("it's".utf8))
        #expect(loaded.configuration.evictionPolicy == .allKeysLRU)
        #expect(loaded.configuration.replicaPriority == 7)
    }

    @Test("The command line follows standard input, which follows the file")
    func precedence() throws {
        let loaded = try load(
            "port 1\ntimeout 1\ntcp-backlog 1", arguments: ["--tcp-backlog", "3", "-"],
            standardInput: "timeout 2\ntcp-backlog 2")
        #expect(loaded.configuration.port == 1)
        #expect(loaded.configuration.clientTimeoutSeconds == 2)
        #expect(loaded.configuration.tcpBacklog == 3)
    }

    @Test("The first save line replaces the defaults, others add, an empty one forgets")
    func save() throws {
        #expect(shown("save", try load("")) == "3600 1 300 100 60 10000")
        #expect(shown("save", try load("save 900 1\nsave 300 10 60 100")) == "900 1 300 10 60 100")
        #expect(shown("save", try load("save 900 1", arguments: ["--save", "5 6"])) == "900 1 5 6")
        #expect(shown("save", try load("save 900 1\nsave \"\"")) == "")
        #expect(shown("save", try load("save 900 1\nsave ''\nsave 7 8")) == "7 8")
        #expect(shown("save", try load("save 900 1", arguments: ["--save", "--port", "1"])) == "")
    }

    @Test("Included files take their place in the order; globs may match nothing")
    func include() throws {
        let loaded = try load(
            "port 1\ninclude b.conf\ntimeout 3\ninclude conf.d/*.conf\ninclude none/*.conf",
            others: [
                "/srv/b.conf": "port 2\ntimeout 2", "/srv/conf.d/1.conf": "tcp-backlog 1\nhz 11",
                "/srv/conf.d/2.conf": "tcp-backlog 2",
            ])
        #expect(loaded.configuration.port == 2)
        #expect(loaded.configuration.clientTimeoutSeconds == 3)
        #expect(loaded.configuration.tcpBacklog == 2)
        #expect(loaded.configuration.hz == 11)
    }

    @Test("dir changes the working directory from its line on")
    func directory() throws {
        let loaded = try load("dir sub\ninclude b.conf", others: ["/srv/sub/b.conf": "port 9"])
        #expect(loaded.configuration.directory == "/srv/sub")
        #expect(loaded.configuration.port == 9)
    }

    @Test(
        "A mistake names the source, the line and what is wrong",
        arguments: [
            ("port x", 1, "port x", "argument couldn't be parsed into an integer"),
            ("\n\n  port 1 2 ", 3, "port 1 2", "wrong number of arguments"),
            ("port", 1, "port", "wrong number of arguments"),
            ("logfile \"x", 1, "logfile \"x", "Unbalanced quotes in configuration line"),
            ("nope 1", 1, "nope 1", "Bad directive or wrong number of arguments"),
            ("include", 1, "include", "Bad directive or wrong number of arguments"),
            (
                "include gone.conf", 1, "include gone.conf",
                "Fatal error, can't open config file 'gone.conf': No such file or directory"
            ),
            ("dir /missing", 1, "dir /missing", "No such file or directory"),
            ("rename-command nope x", 1, "rename-command nope x", "No such command in rename-command"),
            ("rename-command get SET", 1, "rename-command get SET", "Target command name already exists"),
            (
                "rename-command get x\nrename-command get y", 2, "rename-command get y",
                "No such command in rename-command"
            ),
            ("replicaof a b", 1, "replicaof a b", "Invalid master port"),
            ("replicaof a", 1, "replicaof a", "wrong number of arguments"),
            (
                "client-output-buffer-limit normal 0 0", 1, "client-output-buffer-limit normal 0 0",
                "Wrong number of arguments in buffer limit configuration."
            ),
            (
                "client-output-buffer-limit master 0 0 0", 1, "client-output-buffer-limit master 0 0 0",
                "Invalid client class specified in buffer limit configuration."
            ),
            ("unixsocketperm 1000", 1, "unixsocketperm 1000", "argument must be between 0 and 777 inclusive"),
            ("unixsocketperm 9", 1, "unixsocketperm 9", "argument couldn't be parsed as an octal number"),
            (
                "loadmodule /x.so", 1, "loadmodule /x.so",
                "Modules are not supported: they are compiled against Redis' internals"
            ),
            ("bloom.size", 1, "bloom.size", "Module config specified without value"),
            (
                "cluster-announce-hostname a_b", 1, "cluster-announce-hostname a_b",
                "Hostnames may only contain alphanumeric characters, hyphens or dots"
            ),
            ("logfile \u{0}", 1, "logfile \u{0}", "Zero byte in configuration line"),
        ])
    func mistakes(text: String, lineNumber: Int, line: String, problem: String) {
        let expected = ConfigurationError(source: "a.conf", lineNumber: lineNumber, line: line, problem: problem)
        #expect(throws: expected) { try load(text) }
    }

    @Test("The report of a mistake has the form of Redis")
    func report() {
        let error = ConfigurationError(source: "/etc/m.conf", lineNumber: 3, line: "port x", problem: "why")
        #expect(
            error.report(version: "0.1") == """

                *** FATAL CONFIG FILE ERROR (Martlet 0.1) ***
                Reading the configuration file, at line 3 of /etc/m.conf
                >>> 'port x'
                why

                """)
    }

    @Test("A mistake in an included file or on the command line names that")
    func mistakeElsewhere() {
        #expect(
            throws: ConfigurationError(
                source: "b.conf", lineNumber: 2, line: "hz x",
                problem: "argument couldn't be parsed into an integer")
        ) {
            try load("include b.conf", others: ["/srv/b.conf": "port 1\nhz x"])
        }
        #expect(
            throws: ConfigurationError(
                source: "command line", lineNumber: 1, line: "port \"--bla\"",
                problem: "argument couldn't be parsed into an integer")
        ) {
            try load("", arguments: ["--port", "--bla", "--loglevel", "verbose"])
        }
    }

    @Test("A file that includes itself is refused")
    func endlessInclude() {
        #expect(throws: ConfigurationError.self) { try load("include a.conf") }
        #expect(throws: ConfigurationError.self) { try load("include a.conf\ninclude a.conf") }
    }

    @Test("replicaof is refused in cluster mode")
    func clusterReplica() {
        #expect(
            throws: ConfigurationError(
                source: nil, lineNumber: nil, line: "",
                problem: "replicaof directive not allowed in cluster mode")
        ) {
            try load("replicaof 127.0.0.1 1\ncluster-enabled yes")
        }
    }

    @Test("Renamed commands and users are kept in order")
    func otherLines() throws {
        let loaded = try load("rename-command FLUSHALL \"\"\nrename-command get fetch\nuser alice on >secret ~* +@all")
        #expect(
            loaded.configuration.renamedCommands == [
                RenamedCommand(name: "flushall", newName: ""), RenamedCommand(name: "get", newName: "fetch"),
            ])
        #expect(loaded.configuration.users.count == 1)
        #expect(loaded.configuration.users[0].count == 5)
    }

    @Test("What is not supported yet is named if it is wanted, not if it is off")
    func warnings() throws {
        #expect(try load("").warnings.isEmpty)
        #expect(try load("save \"\"\nappendonly no\nlist-max-ziplist-entries 5").warnings.isEmpty)
        #expect(
            try load("tls-port 1\nuser a on").warnings == [
                "The directive 'tls-port' is not supported yet and has no effect",
                "The directive 'user' is not supported yet and has no effect",
            ])
    }

    @Test("Random lines never crash the loader, and what it accepts it can show and rewrite")
    func fuzz() throws {
        let seed: UInt64 = 20_261_121
        var random = PRNG(seed: seed)
        let names =
            Directive.all.flatMap { [$0.name, $0.alias ?? "include"] } + ["user", "rename-command", "#", "x.y", ""]
        let words = [
            "yes", "no", "0", "-1", "1gb", "100%", "\"\"", "'", "\"", "\\x", "9223372036854775808", "normal", "slave",
            "get", "b.conf", "*", "KEA", "99.9", "inf", "nan", "é", "\u{0}", "no", "one", "300", "default", "nosave",
            "::1",
        ]
        for round in 0..<1_500 {
            var text = ""
            for _ in 0...random.below(4) {
                text += names[random.below(names.count)]
                for _ in 0..<random.below(6) {
                    text += random.below(20) == 0 ? "\t" : " "
                    if random.below(4) == 0 {
                        let scalars = (0..<random.below(9)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                        text += String(decoding: scalars, as: UTF8.self)
                    } else {
                        text += words[random.below(words.count)]
                    }
                }
                text += "\n"
            }
            guard let loaded = try? load(text, others: ["/srv/b.conf": "include b.conf\nport 1"]) else { continue }
            let rewritten = ConfigurationRewrite.text(of: loaded.configuration, replacing: Array(text.utf8))
            let again = try load(String(decoding: rewritten, as: UTF8.self), others: ["/srv/b.conf": ""])
            let all = Array("*".utf8)
            for (before, after) in zip(loaded.configuration.matching([all]), again.configuration.matching([all])) {
                #expect(before.value == after.value, "seed \(seed) round \(round): \(text)")
            }
        }
    }
}
