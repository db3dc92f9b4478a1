import Testing

@testable import MartletServer

@Suite struct CommandCommandTests {
    @Test(arguments: [
        ("COMMAND INFO nonsense", "*1\r\n$-1\r\n"),
        ("COMMAND DOCS nonsense", "*0\r\n"),
        ("COMMAND GETKEYS GET", "-ERR wrong number of arguments for 'command|getkeys' command\r\n"),
        ("COMMAND GETKEYS nonsense x", "-ERR Invalid command specified\r\n"),
        ("COMMAND GETKEYS CONFIG nonsense", "-ERR Invalid command specified\r\n"),
        ("COMMAND GETKEYS PING x", "-ERR The command has no key arguments\r\n"),
        ("COMMAND GETKEYS GET x y", "-ERR Invalid number of arguments specified for command\r\n"),
        ("COMMAND GETKEYS MSET a 1 b 2", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ("COMMAND GETKEYS OBJECT ENCODING a", "*1\r\n$1\r\na\r\n"),
        ("COMMAND GETKEYSANDFLAGS SET a b", "*1\r\n*2\r\n$1\r\na\r\n*2\r\n+OW\r\n+update\r\n"),
        ("COMMAND GETKEYSANDFLAGS SET a b GET", "*1\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+update\r\n"),
        ("COMMAND GETKEYSANDFLAGS BITFIELD a GET u8 0", "*1\r\n*2\r\n$1\r\na\r\n*2\r\n+RO\r\n+access\r\n"),
        ("COMMAND GETKEYSANDFLAGS BITFIELD a GET u8", "*1\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+update\r\n"),
        ("COMMAND GETKEYS BITFIELD_RO a OVERFLOW WRAP GET u8 0", "*1\r\n$1\r\na\r\n"),
        (
            "COMMAND GETKEYSANDFLAGS MIGRATE h 1 \"\" 0 5 KEYS a",
            "*1\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+delete\r\n"
        ),
        ("COMMAND GETKEYS PFMERGE a", "-ERR Invalid arguments specified for command\r\n"),
        ("COMMAND GETKEYS ZUNIONSTORE a 0 b", "-ERR Invalid arguments specified for command\r\n"),
        ("COMMAND LIST FILTERBY", "-ERR syntax error\r\n"),
        ("COMMAND LIST FILTERBY ACLCAT nonsense", "*0\r\n"),
        ("COMMAND LIST FILTERBY MODULE any", "*0\r\n"),
        ("COMMAND LIST FILTERBY PATTERN strle?", "*1\r\n$6\r\nstrlen\r\n"),
        ("COMMAND NONSENSE", "-ERR unknown subcommand 'NONSENSE'. Try COMMAND HELP.\r\n"),
    ])
    func repliesAreThoseOfRedis(line: String, reply: String) {
        #expect(NodeHarness()(line) == reply)
    }

    @Test func aCommandIsDescribedByWhatDeclaresIt() {
        #expect(
            NodeHarness()("COMMAND INFO strlen")
                == "*1\r\n*10\r\n$6\r\nstrlen\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n"
                + "*3\r\n+@read\r\n+@string\r\n+@fast\r\n*0\r\n"
                + "*1\r\n*6\r\n$5\r\nflags\r\n*1\r\n+RO\r\n$12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n"
                + "*2\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n"
                + "*6\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0\r\n")
    }

    @Test func whatChangedSinceACommandCameIsTold() {
        #expect(
            NodeHarness()("COMMAND DOCS brpoplpush").contains(
                "$9\r\ndoc_flags\r\n*1\r\n+deprecated\r\n$16\r\ndeprecated_since\r\n$5\r\n6.2.0\r\n$11\r\nreplaced_by\r\n"
                    + "$46\r\n`BLMOVE` with the `RIGHT` and `LEFT` arguments\r\n$7\r\nhistory\r\n*1\r\n*2\r\n$5\r\n6.0.0\r\n"
            ))
        #expect(
            NodeHarness()("COMMAND DOCS lpop").contains(
                "$4\r\ntype\r\n$7\r\ninteger\r\n$5\r\nsince\r\n$5\r\n6.2.0\r\n$5\r\nflags\r\n*1\r\n+optional\r\n"))
        #expect(!NodeHarness()("COMMAND DOCS lolwut").contains("complexity"))
    }

    @Test func everyCommandCanBeDescribed() {
        let node = NodeHarness()
        let count = node.node.commands.topLevelCount
        #expect(node("COMMAND COUNT") == ":\(count)\r\n")
        #expect(node("COMMAND").hasPrefix("*\(count)\r\n"))
        #expect(node("COMMAND DOCS").hasPrefix("*\(count * 2)\r\n"))
        #expect(node("COMMAND LIST").hasPrefix("*\(node.node.commands.count)\r\n"))
    }

    @Test func argumentsAreWrittenInOneLine() {
        func token(_ name: String, optional: Bool = false) -> CommandArgument {
            CommandArgument(name: name.lowercased(), type: "pure-token", token: name, isOptional: optional)
        }
        let key = CommandArgument(name: "key", type: "key", keySpecIndex: 0)
        let table: [(StaticString, [CommandArgument])] = [
            ("", []),
            ("key value", [key, CommandArgument(name: "value")]),
            (
                "[condition=<NX|XX>] [GET]",
                [
                    CommandArgument(
                        name: "condition", type: "oneof", isOptional: true, arguments: [token("NX"), token("XX")]),
                    token("GET", optional: true),
                ]
            ),
            (
                "data={key value}...",
                [
                    CommandArgument(
                        name: "data", type: "block", isMultiple: true, arguments: [key, CommandArgument(name: "value")])
                ]
            ),
            (
                "[GET pattern:pattern]+",
                [
                    CommandArgument(
                        name: "pattern", type: "pattern", token: "GET", isOptional: true, isMultiple: true,
                        repeatsToken: true)
                ]
            ),
            (
                "NOW! ip:port KEYS key#1",
                [
                    token("NOW"), CommandArgument(name: "ip:port"),
                    CommandArgument(name: "key", type: "key", keySpecIndex: 1, token: "KEYS"),
                ]
            ),
            (
                "LIMIT {offset:integer count:integer}",
                [
                    CommandArgument(
                        name: "offset_count", type: "block", token: "LIMIT",
                        arguments: [
                            CommandArgument(name: "offset", type: "integer"),
                            CommandArgument(name: "count", type: "integer"),
                        ])
                ]
            ),
            (
                "[unit=<BYTE@7.0.0|BIT@-7.2.1>@6.0.10] key@3.0.0...",
                [
                    CommandArgument(
                        name: "unit", type: "oneof", since: "6.0.10", isOptional: true,
                        arguments: [
                            CommandArgument(name: "byte", type: "pure-token", token: "BYTE", since: "7.0.0"),
                            CommandArgument(name: "bit", type: "pure-token", token: "BIT", deprecatedSince: "7.2.1"),
                        ]),
                    CommandArgument(name: "key", type: "key", keySpecIndex: 0, since: "3.0.0", isMultiple: true),
                ]
            ),
        ]
        for (text, arguments) in table { #expect(CommandArgument.parse(text) == arguments, "\(text)") }
    }
}
