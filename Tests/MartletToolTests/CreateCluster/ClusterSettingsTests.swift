import Testing
import martlet

@Suite struct ClusterSettingsTests {
    @Test("create-cluster lines are settings, all others are directives of the nodes")
    func file() throws {
        let settings = try ClusterSettings(
            parsing:
                "# a comment\r\ncreate-cluster nodes 12\r\ncreate-cluster dir \"/tmp/a b\"\n\n  appendonly yes\nsave \"\"\n",
            file: "x.conf")
        #expect(settings.nodes == 12)
        #expect(settings.replicas == 1)
        #expect(settings.directory == "/tmp/a b")
        #expect(settings.directives.map(\.text) == ["appendonly yes", "save \"\""])
    }

    @Test(
        "Mistakes name file and line",
        arguments: [
            ("create-cluster nodes many", "x.conf:1: 'nodes' must be between 1 and 1000"),
            ("\ncreate-cluster colour red", "x.conf:2: no setting of create-cluster is called 'colour'"),
            ("create-cluster nodes", "x.conf:1: expected 'create-cluster SETTING VALUE': create-cluster nodes"),
            ("port 7000", "x.conf:1: create-cluster itself sets 'port' on each node"),
            ("requirepass \"abc", "x.conf:1: unbalanced quotes: requirepass \"abc"),
        ])
    func mistakes(_ text: String, message: String) {
        let mistake = #expect(throws: ClusterSettings.Mistake.self) {
            try ClusterSettings(parsing: text, file: "x.conf")
        }
        #expect(mistake?.description == message)
    }

    @Test("What start remembers is read back the same")
    func roundTrip() throws {
        var settings = ClusterSettings()
        settings.nodes = 7
        settings.port = 8000
        settings.server = "/opt/my server/martlet-server"
        settings.user = "ops"
        settings.password = "p\"a'ss \\ \t#"
        settings.directives = [NodeDirective("save 60 1")]
        #expect(try ClusterSettings(parsing: settings.fileText, file: "saved") == settings)
    }

    @Test("Words after -- become directives as on a server's command line")
    func commandLine() throws {
        var settings = ClusterSettings()
        try settings.addCommandLine(["--save", "60", "1", "--appendonly", "yes", "--requirepass", "a b", "--save", ""])
        #expect(
            settings.directives.map(\.text) == ["save 60 1", "appendonly yes", "requirepass \"a b\"", "save \"\""])
        #expect(settings.effectivePassword == "a b")
        #expect(throws: ClusterSettings.Mistake.self) { try settings.addCommandLine(["appendonly"]) }
        #expect(throws: ClusterSettings.Mistake.self) { try settings.addCommandLine(["--dir", "/tmp"]) }
    }

    @Test("A node's file has its place in the cluster, the password both ways, and the directives last")
    func nodeFile() {
        var settings = ClusterSettings()
        settings.password = "secret"
        settings.directives = [NodeDirective("appendonly yes")]
        let lines = settings.nodeFileText(port: 7001, directory: "/tmp/c d/7001").split(separator: "\n").dropFirst()
        #expect(
            lines == [
                "port 7001", "cluster-enabled yes", "cluster-config-file nodes.conf", "dir \"/tmp/c d/7001\"",
                "logfile \"/tmp/c d/7001/server.log\"", "pidfile \"/tmp/c d/7001/server.pid\"", "daemonize no",
                "bind 127.0.0.1", "requirepass secret", "masterauth secret", "appendonly yes",
            ])
    }

    @Test("Ports must leave room for bus ports")
    func ports() throws {
        var settings = ClusterSettings()
        settings.port = NodeAddress.portMax - 5
        try settings.check()
        settings.port += 1
        #expect(throws: ClusterSettings.Mistake.self) { try settings.check() }
    }
}

@Suite struct ConfigLineTests {
    @Test(
        "Quoting is undone by dividing",
        arguments: ["", "a", "a b", "\"", "'", "\\", "#x", "tab\t", "\u{1}x", "ü ä", "a#b"])
    func quoting(_ word: String) {
        #expect(ConfigLine.words(ConfigLine.quoted(word)) == [word])
    }
}
