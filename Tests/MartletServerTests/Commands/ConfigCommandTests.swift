import Testing

@testable import MartletServer

@Suite struct ConfigCommandTests {
    @Test(arguments: [
        ("CONFIG GET port", "*2\r\n$4\r\nport\r\n$4\r\n6379\r\n"),
        ("CONFIG GET nonsense", "*0\r\n"),
        ("CONFIG SET hz", "-ERR wrong number of arguments for 'config|set' command\r\n"),
        ("CONFIG SET hz 10 port", "-ERR syntax error\r\n"),
        ("CONFIG SET nonsense 1", "-ERR Unknown option or number of arguments for CONFIG SET - 'nonsense'\r\n"),
        (
            "CONFIG SET daemonize yes",
            "-ERR CONFIG SET failed (possibly related to argument 'daemonize') - can't set immutable config\r\n"
        ),
        (
            "CONFIG SET dir /tmp",
            "-ERR CONFIG SET failed (possibly related to argument 'dir') - can't set protected config\r\n"
        ),
        (
            "CONFIG SET maxclients 0",
            "-ERR CONFIG SET failed (possibly related to argument 'maxclients') - argument must be between 1 and 4294967295 inclusive\r\n"
        ),
        ("CONFIG REWRITE", "-ERR The server is running without a config file\r\n"),
        ("CONFIG RESETSTAT", "+OK\r\n"),
        ("CONFIG NONSENSE", "-ERR unknown subcommand 'NONSENSE'. Try CONFIG HELP.\r\n"),
    ])
    func repliesAreThoseOfRedis(line: String, reply: String) {
        #expect(NodeHarness()(line) == reply)
    }

    @Test func aChangeHoldsAndIsTold() {
        let node = NodeHarness()
        #expect(node("CONFIG SET timeout 7 tcp-keepalive 9") == "+OK\r\n")
        #expect(node.node.configuration.clientTimeoutSeconds == 7)
        #expect(node("CONFIG GET timeout") == .bulks("timeout", "7"))
        guard case .configurationChanged(let names) = node.node.effects.last else {
            Issue.record("no effect")
            return
        }
        #expect(names == ["timeout", "tcp-keepalive"])
    }

    @Test func whatTheSystemRefusesChangesNothing() {
        let node = NodeHarness()
        node.node.services.applyConfiguration = { changed, _, _ in
            changed.contains("port") ? ConfigurationFailure(name: "port", problem: "No.") : nil
        }
        #expect(
            node("CONFIG SET timeout 7 port 1")
                == "-ERR CONFIG SET failed (possibly related to argument 'port') - No.\r\n")
        #expect(node("CONFIG GET timeout") == .bulks("timeout", "0"))
        #expect(node("CONFIG GET port") == .bulks("port", "6379"))
    }

    @Test func theSystemMayCorrectAValue() {
        let node = NodeHarness { $0.protectedConfigs = .yes }
        node.node.services.applyConfiguration = { _, _, new in
            new.directory = "/data"
            return nil
        }
        #expect(node("CONFIG SET dir relative") == "+OK\r\n")
        #expect(node("CONFIG GET dir") == .bulks("dir", "/data"))
    }

    @Test func rewritingTellsWhatWentWrong() {
        var facts = ProcessFacts()
        facts.configurationPath = "/etc/martlet.conf"
        let node = NodeHarness(facts: facts)
        #expect(node("CONFIG REWRITE") == "+OK\r\n")
        node.node.services.rewriteConfiguration = { _, _ in "Permission denied" }
        #expect(node("CONFIG REWRITE") == "-ERR Rewriting config file: Permission denied\r\n")
    }

    @Test func commandsCanBeRenamedAndTakenAway() {
        let node = NodeHarness {
            $0.renamedCommands = [
                RenamedCommand(name: "flushall", newName: ""), RenamedCommand(name: "get", newName: "fetch"),
                RenamedCommand(name: "set", newName: "b840fc02d524045429941cc15f59e41cb7be6c52"),
            ]
        }
        #expect(node("FLUSHALL").hasPrefix("-ERR unknown command"))
        #expect(node("GET key").hasPrefix("-ERR unknown command"))
        #expect(node("B840fc02d524045429941cc15f59e41cb7be6c52 key value") == "+OK\r\n")
        #expect(node("Fetch key") == .bulk("value"))
    }

    @Test func aNameIsNotItselfWithABlankBehindIt() {
        let node = NodeHarness()
        for name in ["PING ", "PING\\x00"] { #expect(node("\"\(name)\"").hasPrefix("-ERR unknown command")) }
    }
}
