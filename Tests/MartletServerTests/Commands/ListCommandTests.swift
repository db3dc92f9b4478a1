import Testing

@testable import MartletServer

@Suite struct ListCommandTests {
    private func tell(_ lines: [(String, String)]) {
        let node = NodeHarness()
        for (line, reply) in lines { #expect(node(line) == reply, "\(line)") }
    }

    @Test func bothEndsTakeAndGive() {
        tell([
            ("RPUSH l b c", ":2\r\n"), ("LPUSH l a 1", ":4\r\n"), ("LRANGE l 0 -1", .bulks("1", "a", "b", "c")),
            ("LLEN l", ":4\r\n"), ("TYPE l", "+list\r\n"), ("OBJECT ENCODING l", .bulk("quicklist")),
            ("LPOP l", .bulk("1")), ("RPOP l", .bulk("c")), ("LPOP l 5", .bulks("a", "b")), ("EXISTS l", ":0\r\n"),
            ("LPOP l", "$-1\r\n"), ("LPOP l 1", "*-1\r\n"), ("LLEN l", ":0\r\n"),
            ("LPUSHX l a", ":0\r\n"), ("RPUSHX l a", ":0\r\n"), ("EXISTS l", ":0\r\n"),
            ("RPUSH l a b c", ":3\r\n"), ("RPOP l 2", .bulks("c", "b")), ("RPOP l 0", "*0\r\n"),
            ("LPUSHX l z", ":2\r\n"), ("RPUSHX l y x", ":4\r\n"), ("LRANGE l 0 -1", .bulks("z", "a", "y", "x")),
        ])
    }

    @Test func rangesAreThoseOfRedis() {
        tell([
            ("RPUSH l 0 1 2 3 4", ":5\r\n"), ("LRANGE l 1 2", .bulks("1", "2")), ("LRANGE l -2 100", .bulks("3", "4")),
            ("LRANGE l 3 1", "*0\r\n"), ("LRANGE l 5 9", "*0\r\n"), ("LRANGE l -100 -99", "*0\r\n"),
            ("LRANGE l -100 0", .bulks("0")), ("LRANGE none 0 -1", "*0\r\n"),
            ("LRANGE l -9223372036854775808 9223372036854775807", .bulks("0", "1", "2", "3", "4")),
            ("LINDEX l 0", .bulk("0")), ("LINDEX l -1", .bulk("4")), ("LINDEX l 5", "$-1\r\n"),
            ("LINDEX l -6", "$-1\r\n"), ("LINDEX none x", "$-1\r\n"),
            ("LTRIM l 1 -2", "+OK\r\n"), ("LRANGE l 0 -1", .bulks("1", "2", "3")), ("LTRIM l 0 -1", "+OK\r\n"),
            ("LTRIM l 5 9", "+OK\r\n"), ("EXISTS l", ":0\r\n"), ("LTRIM l 0 1", "+OK\r\n"),
        ])
    }

    @Test func elementsAreInsertedReplacedAndRemoved() {
        tell([
            ("RPUSH l a b a c a", ":5\r\n"), ("LINSERT l BEFORE b x", ":6\r\n"), ("LINSERT l after b y", ":7\r\n"),
            ("LINSERT l BEFORE none z", ":-1\r\n"), ("LINSERT none BEFORE a z", ":0\r\n"),
            ("LRANGE l 0 -1", .bulks("a", "x", "b", "y", "a", "c", "a")),
            ("LREM l 1 a", ":1\r\n"), ("LREM l -1 a", ":1\r\n"), ("LRANGE l 0 -1", .bulks("x", "b", "y", "a", "c")),
            ("LREM l 0 none", ":0\r\n"), ("LREM none 0 a", ":0\r\n"),
            ("LSET l 0 12", "+OK\r\n"), ("LSET l -1 last", "+OK\r\n"),
            ("LRANGE l 0 -1", .bulks("12", "b", "y", "a", "last")), ("LSET l 5 z", "-ERR index out of range\r\n"),
            ("LSET none 0 z", "-ERR no such key\r\n"), ("LSET none x z", "-ERR no such key\r\n"),
            ("DEL l", ":1\r\n"), ("RPUSH l a a", ":2\r\n"), ("LREM l -9223372036854775808 a", ":2\r\n"),
            ("EXISTS l", ":0\r\n"),
        ])
    }

    @Test func positionsAreFound() {
        tell([
            ("RPUSH l a b c 1 2 3 c c", ":8\r\n"), ("LPOS l a", ":0\r\n"), ("LPOS l c", ":2\r\n"),
            ("LPOS l c RANK 2", ":6\r\n"), ("LPOS l c RANK -1", ":7\r\n"), ("LPOS l c RANK 4", "$-1\r\n"),
            ("LPOS l c COUNT 0", "*3\r\n:2\r\n:6\r\n:7\r\n"), ("LPOS l c COUNT 1", "*1\r\n:2\r\n"),
            ("LPOS l c COUNT 2 RANK 2", "*2\r\n:6\r\n:7\r\n"), ("LPOS l c COUNT 0 RANK -2", "*2\r\n:6\r\n:2\r\n"),
            ("LPOS l c COUNT 0 MAXLEN 3 RANK -1", "*2\r\n:7\r\n:6\r\n"), ("LPOS l c MAXLEN 2", "$-1\r\n"),
            ("LPOS l none COUNT 1", "*0\r\n"), ("LPOS none a", "$-1\r\n"), ("LPOS none a COUNT 1", "*0\r\n"),
            ("LPOS l 2", ":4\r\n"), ("LPOS l 02", "$-1\r\n"),
        ])
    }

    @Test func elementsMove() {
        tell([
            ("RPUSH a 1 2 3", ":3\r\n"), ("LMOVE a b LEFT RIGHT", .bulk("1")), ("LMOVE a b RIGHT LEFT", .bulk("3")),
            ("LRANGE b 0 -1", .bulks("3", "1")), ("RPOPLPUSH a b", .bulk("2")), ("EXISTS a", ":0\r\n"),
            ("LRANGE b 0 -1", .bulks("2", "3", "1")), ("RPOPLPUSH a b", "$-1\r\n"), ("LMOVE a b LEFT LEFT", "$-1\r\n"),
            ("LMOVE b b LEFT RIGHT", .bulk("2")), ("LRANGE b 0 -1", .bulks("3", "1", "2")),
            ("LMOVE b b RIGHT RIGHT", .bulk("2")), ("RPOPLPUSH b b", .bulk("2")),
            ("LRANGE b 0 -1", .bulks("2", "3", "1")),
            ("RPUSH one x", ":1\r\n"), ("RPOPLPUSH one one", .bulk("x")), ("LRANGE one 0 -1", .bulks("x")),
        ])
    }

    @Test func manyListsAreOffered() {
        tell([
            ("RPUSH b 1 2 3", ":3\r\n"), ("LMPOP 2 a b LEFT", "*2\r\n" + .bulk("b") + .bulks("1")),
            ("LMPOP 2 a b RIGHT COUNT 5", "*2\r\n" + .bulk("b") + .bulks("3", "2")), ("LMPOP 2 a b LEFT", "*-1\r\n"),
            ("EXISTS b", ":0\r\n"),
        ])
    }

    @Test("RESP3 has one null", arguments: ["LPOP l", "LPOP l 1", "LINDEX l 0", "LPOS l a", "LMPOP 1 l LEFT"])
    func nulls(line: String) {
        let node = NodeHarness()
        node("HELLO 3")
        #expect(node(line) == "_\r\n")
    }

    @Test(arguments: [
        ("LPOP l x", "value is out of range, must be positive"),
        ("LPOP l -1", "value is out of range, must be positive"),
        ("LPOP l 1 2", "wrong number of arguments for 'lpop' command"),
        ("RPOP l 1 2", "wrong number of arguments for 'rpop' command"),
        ("LRANGE l x 1", "value is not an integer or out of range"),
        ("LTRIM l 0 x", "value is not an integer or out of range"),
        ("LINDEX l x", "value is not an integer or out of range"),
        ("LSET l x y", "value is not an integer or out of range"),
        ("LINSERT l x a b", "syntax error"), ("LREM l x a", "value is not an integer or out of range"),
        ("LPOS l a RANK", "syntax error"), ("LPOS l a FOO 1", "syntax error"),
        ("LPOS l a COUNT -1", "COUNT can't be negative"), ("LPOS l a MAXLEN -1", "MAXLEN can't be negative"),
        ("LPOS l a COUNT x", "COUNT can't be negative"), ("LPOS l a RANK x", "value is not an integer or out of range"),
        (
            "LPOS l a RANK 0",
            """
            RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start \
            from the end of the list
            """
        ),
        ("LMOVE l m UP LEFT", "syntax error"), ("LMOVE l m LEFT UP", "syntax error"),
        ("LMPOP 0 l LEFT", "numkeys should be greater than 0"), ("LMPOP x l LEFT", "numkeys should be greater than 0"),
        ("LMPOP 9223372036854775807 l LEFT", "syntax error"), ("LMPOP 2 l LEFT", "syntax error"),
        ("LMPOP 1 l UP", "syntax error"), ("LMPOP 1 l LEFT COUNT", "syntax error"),
        ("LMPOP 1 l LEFT COUNT 0", "count should be greater than 0"),
        ("LMPOP 1 l LEFT COUNT 1 COUNT 2", "syntax error"),
        ("LMPOP 1 l LEFT COUNT x y", "count should be greater than 0"), ("LMPOP 1 l LEFT FOO 1", "syntax error"),
        ("BLPOP l x", "timeout is not a float or out of range"), ("BLPOP l -1", "timeout is negative"),
        ("BLPOP l inf", "timeout is negative"), ("BLPOP l 1e30", "timeout is negative"),
        ("BLMOVE l m LEFT UP x", "syntax error"), ("BLMOVE l m LEFT LEFT x", "timeout is not a float or out of range"),
        ("BRPOPLPUSH l m -1", "timeout is negative"), ("BLMPOP x 0 l LEFT", "numkeys should be greater than 0"),
        ("BLMPOP x 1 l LEFT", "timeout is not a float or out of range"),
    ])
    func mistakesAreNamedAsByRedis(line: String, message: String) {
        let node = NodeHarness()
        node("RPUSH l a b c")
        #expect(node(line) == "-ERR \(message)\r\n")
        #expect(node("LRANGE l 0 -1") == .bulks("a", "b", "c"))
    }

    @Test(arguments: [
        "LPUSH s a", "RPUSH s a", "LPUSHX s a", "RPUSHX s a", "LINSERT s BEFORE a b", "LSET s 0 a", "LLEN s",
        "LINDEX s 0", "LRANGE s 0 -1", "LPOS s a", "LPOP s", "LPOP s 1", "RPOP s 0", "LMPOP 2 none s LEFT",
        "LREM s 0 a",
        "LTRIM s 0 1", "LMOVE s l LEFT LEFT", "LMOVE l s LEFT LEFT", "RPOPLPUSH s l", "RPOPLPUSH l s", "BLPOP none s 1",
        "BRPOP s 1", "BLMPOP 1 1 s LEFT", "BLMOVE s l LEFT LEFT 1", "BLMOVE l s LEFT LEFT 1", "BRPOPLPUSH s l 1",
    ])
    func otherTypesAreRefused(line: String) {
        let node = NodeHarness()
        node("SET s text")
        node("RPUSH l a")
        #expect(node(line) == "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n")
        #expect(node("LRANGE l 0 -1") == .bulks("a"))
    }

    @Test(arguments: [
        ("LPUSH l x y", ["0 LPUSH l x y"]), ("LPUSHX none x", []), ("LINSERT l BEFORE none x", []),
        ("LPOP l", ["0 LPOP l"]),
        ("LPOP l 0", []), ("LPOP none", []), ("LTRIM l 0 -1", []), ("LTRIM l 1 1", ["0 LTRIM l 1 1"]),
        ("LREM l 0 none", []), ("LREM l 0 a", ["0 LREM l 0 a"]), ("LMPOP 2 none l LEFT COUNT 10", ["0 LPOP l 3"]),
        ("LMPOP 1 l RIGHT", ["0 RPOP l 1"]), ("LMPOP 1 none RIGHT", []),
        ("LMOVE l m LEFT LEFT", ["0 LMOVE l m LEFT LEFT"]),
        ("LMOVE l l LEFT LEFT", ["0 LMOVE l l LEFT LEFT"]), ("RPOPLPUSH none l", []),
    ])
    func whatChangedIsPropagated(line: String, log: [String]) {
        let node = NodeHarness()
        node("RPUSH l a b c")
        #expect(node.propagation(of: line) == log)
    }

    @Test func listsAreCopiedRenamedAndDigested() {
        tell([
            ("RPUSH l a b 3", ":3\r\n"), ("COPY l m", ":1\r\n"), ("RPUSH m x", ":4\r\n"),
            ("LRANGE l 0 -1", .bulks("a", "b", "3")), ("RENAME m n", "+OK\r\n"), ("MOVE n 1", ":1\r\n"),
            ("SELECT 1", "+OK\r\n"), ("LRANGE n 0 -1", .bulks("a", "b", "3", "x")),
            // As redis-server 7.0.15 has it.
            ("FLUSHALL", "+OK\r\n"), ("SELECT 0", "+OK\r\n"), ("RPUSH l a b 3", ":3\r\n"),
            ("DEBUG DIGEST-VALUE l", "*1\r\n+09eb1fc9381ee92790d59930ab462945f8cd948b\r\n"),
        ])
    }

    @Test(
        "Commands that say how many keys they have find them in their slots",
        arguments: [
            ("RPUSH l a", "LMPOP 1 l LEFT", "*2\r\n" + .bulk("l") + .bulks("a")),
            ("RPUSH l a", "BLMPOP 0 1 l LEFT", "*2\r\n" + .bulk("l") + .bulks("a")),
            ("SADD s a", "SINTERCARD 1 s", ":1\r\n"), ("ZADD z 1 a", "ZUNION 1 z", .bulks("a")),
            ("ZADD z 1 a", "ZINTERCARD 1 z", ":1\r\n"),
        ] as [(String, String, String)])
    func movableKeys(prepare: String, line: String, reply: String) {
        let node = NodeHarness(isClustered: true)
        node.serveAllSlots()
        node(prepare)
        #expect(node(line) == reply)
    }

    @Test("What outgrows a node stays a list, whatever the limit", arguments: [-5, -1, 0, 1, 3, 100])
    func longLists(limit: Int) {
        let node = NodeHarness()
        #expect(node("CONFIG SET list-max-listpack-size \(limit)") == "+OK\r\n")
        for number in 0..<500 { node("RPUSH l \(number)") }
        #expect(node("LLEN l") == ":500\r\n")
        for index in [0, 1, 250, 499, -1, -500] {
            #expect(node("LINDEX l \(index)") == .bulk(String(index < 0 ? index + 500 : index)))
        }
        #expect(node("LRANGE l 248 251") == .bulks("248", "249", "250", "251"))
        node("LTRIM l 100 199")
        #expect(node("LRANGE l 0 0") == .bulks("100"))
        #expect(node("LINSERT l AFTER 150 new") == ":101\r\n")
        #expect(node("LRANGE l 50 52") == .bulks("150", "new", "151"))
        #expect(node("OBJECT ENCODING l") == .bulk("quicklist"))
        #expect(node("COPY l m") == ":1\r\n")
        #expect(node("UNLINK l m") == ":2\r\n")
    }
}
