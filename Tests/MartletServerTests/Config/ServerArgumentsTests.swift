import MartletServer
import Testing

@Suite struct ServerArgumentsTests {
    private func run(_ words: [String]) -> (path: String?, standardInput: Bool, options: String)? {
        guard case .run(let run) = ServerArguments(words) else { return nil }
        return (run.configurationPath, run.readsStandardInput, String(decoding: run.options, as: UTF8.self))
    }

    @Test(
        "Words become lines of configuration",
        arguments: [
            ([], ""),
            (["--port", "7000"], "port \"7000\" "),
            (["--port", "7000", "--bind", "a", "b"], "port \"7000\" \nbind \"a\" \"b\" "),
            (["--port"], "port "),
            (["--port", "--bla", "--loglevel", "x"], "port \"--bla\" \nloglevel \"x\" "),
            (["--maxmemory 700mb", "--loglevel verbose"], "maxmemory 700mb \nloglevel verbose "),
            (["--logfile", "--my--log"], "logfile \"--my--log\" "),
            (["--save", "--port", "1"], "save \"\"\nport \"1\" "),
            (["--port", "1", "--save"], "port \"1\" \nsave \"\""),
            (["--save", "", "--port", "1"], "save \"\" \nport \"1\" "),
            (
                ["--proc-title-template", "--save", "--save", "", "--port", "1"],
                "proc-title-template \"--save\" \nsave \"\" \nport \"1\" "
            ),
            (["--requirepass", "a \"b\n"], "requirepass \"a \\\"b\\n\" "),
        ] as [([String], String)])
    func lines(words: [String], options: String) throws {
        let parsed = try #require(run(words))
        #expect(parsed.path == nil)
        #expect(parsed.options == options)
    }

    @Test("The first word without a dash is the file; a dash first or last reads standard input")
    func sources() throws {
        #expect(try #require(run(["a.conf", "--port", "1", "-"])) == ("a.conf", true, "port \"1\" "))
        #expect(try #require(run(["-"])) == (nil, true, ""))
        #expect(try #require(run(["a.conf", "loglevel", "x"])) == ("a.conf", false, "\"loglevel\" \"x\" "))
        #expect(try #require(run(["--logfile", "-", "--port", "1"])) == (nil, false, "logfile \"-\" \nport \"1\" "))
    }

    @Test("Questions are answered instead of running")
    func questions() {
        #expect(ServerArguments(["-v"]) == .version)
        #expect(ServerArguments(["--version"]) == .version)
        #expect(ServerArguments(["-h"]) == .help)
        #expect(ServerArguments(["--help"]) == .help)
        #expect(ServerArguments(["--check-system"]) == .checkSystem)
        for words in [["--test-memory", "10"], ["s.conf", "--sentinel"]] {
            guard case .refused = ServerArguments(words) else {
                Issue.record("\(words) not refused")
                continue
            }
        }
    }
}
