import MartletKeyspace
import Testing

@testable import MartletServer

@Suite struct StreamCommandTests {
    private func tell(_ node: NodeHarness, _ lines: [(String, String)]) {
        for (line, reply) in lines { #expect(node(line) == reply, "\(line)") }
    }

    /// An entry as replies have it.
    private func entry(_ id: String, _ words: String...) -> String {
        "*2\r\n" + .bulk(id) + "*\(words.count)\r\n" + words.map { String.bulk($0) }.joined()
    }

    @Test func entriesAreAddedAndListed() {
        let node = NodeHarness()
        tell(
            node,
            [
                ("XADD s * a 1", .bulk("1700000000000-0")), ("XADD s * a 2", .bulk("1700000000000-1")),
                ("XADD s 1700000000000-* a 3 b x", .bulk("1700000000000-2")), ("XLEN s", ":3\r\n"),
                ("TYPE s", "+stream\r\n"), ("OBJECT ENCODING s", .bulk("stream")),
                ("XRANGE s - + COUNT 1", "*1\r\n" + entry("1700000000000-0", "a", "1")),
                ("XRANGE s (1700000000000-1 +", "*1\r\n" + entry("1700000000000-2", "a", "3", "b", "x")),
                (
                    "XREVRANGE s + 1700000000000-1",
                    "*2\r\n" + entry("1700000000000-2", "a", "3", "b", "x") + entry("1700000000000-1", "a", "2")
                ),
                ("XRANGE s - + COUNT 0", "*-1\r\n"), ("XRANGE none - +", "*0\r\n"), ("XRANGE s 5 6", "*0\r\n"),
                ("XADD none NOMKSTREAM * a 1", "$-1\r\n"), ("EXISTS none", ":0\r\n"), ("XLEN none", ":0\r\n"),
            ])
        node.advance(milliseconds: 5)
        #expect(node("XADD s * a 1") == .bulk("1700000000005-0"))
        #expect(node("XADD s 1700000000009 a 1") == .bulk("1700000000009-0"))
        #expect(node("XADD s * a 1") == .bulk("1700000000009-1"))
    }

    @Test func idsNeverGoBack() {
        let smaller = "-ERR The ID specified in XADD is equal or smaller than the target stream top item\r\n"
        tell(
            NodeHarness(),
            [
                ("XADD s 0-0 a b", "-ERR The ID specified in XADD must be greater than 0-0\r\n"),
                ("EXISTS s", ":0\r\n"),
                ("XADD s 0-* a b", .bulk("0-1")), ("XADD s 5-5 a b", .bulk("5-5")), ("XADD s 5-5 a b", smaller),
                ("XADD s 4-* a b", smaller), ("XADD s 5-* a b", .bulk("5-6")),
                ("XADD s 5-18446744073709551615 a b", .bulk("5-18446744073709551615")), ("XADD s 5-* a b", smaller),
                (
                    "XADD s 18446744073709551615-18446744073709551615 a b",
                    .bulk("18446744073709551615-18446744073709551615")
                ),
                (
                    "XADD s * a b", "-ERR The stream has exhausted the last possible ID, unable to add more items\r\n"
                ),
            ])
    }

    @Test(arguments: [
        ("XADD s * a", "wrong number of arguments for 'xadd' command"),
        ("XADD s NOMKSTREAM * a", "wrong number of arguments for 'xadd' command"),
        ("XADD s x a b", "Invalid stream ID specified as stream command argument"),
        ("XADD s - a b", "Invalid stream ID specified as stream command argument"),
        ("XADD s MAXLEN x * a b", "value is not an integer or out of range"),
        ("XADD s MAXLEN -1 * a b", "The MAXLEN argument must be >= 0."),
        ("XADD s MAXLEN 5 LIMIT 1 * a b", "syntax error, LIMIT cannot be used without the special ~ option"),
        (
            "XADD s MAXLEN 5 MINID 1 * a b",
            "syntax error, MAXLEN and MINID options at the same time are not compatible"
        ),
        ("XADD s LIMIT 1 * a b", "syntax error, LIMIT cannot be used without specifying a trimming strategy"),
        ("XADD s MAXLEN ~ 5 LIMIT -1 * a b", "The LIMIT argument must be >= 0."),
        ("XTRIM s MAXLEN", "wrong number of arguments for 'xtrim' command"),
        ("XTRIM s MAXLEN 5 x", "syntax error"), ("XTRIM s x 5", "syntax error"),
        ("XTRIM s LIMIT 0", "syntax error, XTRIM must be called with a trimming strategy"),
        ("XTRIM s MINID x", "Invalid stream ID specified as stream command argument"),
        ("XRANGE s (- +", "Invalid stream ID specified as stream command argument"),
        ("XRANGE s (18446744073709551615-18446744073709551615 +", "invalid start ID for the interval"),
        ("XRANGE s - (0-0", "invalid end ID for the interval"), ("XRANGE s - + COUNT", "syntax error"),
        ("XRANGE s - + COUNT x", "value is not an integer or out of range"),
        ("XDEL s 1-1 x", "Invalid stream ID specified as stream command argument"),
        ("XSETID s 0-1", "The ID specified in XSETID is smaller than the target stream top item"),
        (
            "XSETID s 9-0 ENTRIESADDED 0 MAXDELETEDID 0-0",
            "The entries_added specified in XSETID is smaller than the target stream length"
        ),
        ("XSETID s 9-0 ENTRIESADDED -1", "entries_added must be positive"),
        (
            "XSETID s 9-0 MAXDELETEDID 9-1",
            "The ID specified in XSETID is smaller than the provided max_deleted_entry_id"
        ),
        ("XSETID s 9-0 x", "syntax error"), ("XSETID none 9-0", "no such key"),
        ("XREAD STREAMS s", "wrong number of arguments for 'xread' command"),
        ("XREAD STREAMS a b c", Self.unbalanced), ("XREAD COUNT 1 x y", "syntax error"),
        ("XREAD GROUP a b STREAMS s 0", "The GROUP option is only supported by XREADGROUP. You called XREAD instead."),
        ("XREAD NOACK STREAMS s 0", "The NOACK option is only supported by XREADGROUP. You called XREAD instead."),
        ("XREAD BLOCK x STREAMS s 0", "timeout is not an integer or out of range"),
        ("XREAD BLOCK -1 STREAMS s 0", "timeout is negative"),
        (
            "XREAD COUNT 1 STREAMS s >",
            "The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option."
        ),
        ("XINFO STREAM none", "no such key"),
        (
            "XINFO STREAM s x",
            "unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP."
        ),
        ("XDELEX s IDS 0 1", "Number of IDs must be a positive integer"),
        ("XDELEX s IDS 2 1", "The `numids` parameter must match the number of arguments"),
        ("XDELEX s KEEPREF ACKED IDS 1 1", "syntax error"), ("XDELEX s KEEPREF 1 1", "syntax error"),
    ])
    func mistakesAreNamedAsByRedis(line: String, message: String) {
        let node = NodeHarness()
        node("XADD s 1-1 a b")
        #expect(node(line) == "-ERR \(message)\r\n")
        #expect(node("XLEN s") == ":1\r\n")
        #expect(node("XINFO STREAM s FULL COUNT 0").contains("1-1"))
    }

    private static let unbalanced =
        "Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified."

    @Test(arguments: [
        "XADD t * a b", "XLEN t", "XRANGE t - +", "XREVRANGE t + -", "XDEL t 1", "XTRIM t MAXLEN 1", "XSETID t 1",
        "XREAD STREAMS t 0", "XREADGROUP GROUP g c STREAMS t >", "XACK t g 1", "XPENDING t g", "XCLAIM t g c 0 1",
        "XAUTOCLAIM t g c 0 0", "XGROUP CREATE t g $", "XGROUP DESTROY t g", "XINFO STREAM t", "XINFO GROUPS t",
        "XDELEX t IDS 1 1", "XACKDEL t g IDS 1 1",
    ])
    func aKeyOfAnotherTypeIsRefused(line: String) {
        let node = NodeHarness()
        node("SET t text")
        #expect(node(line) == "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n")
        #expect(node("GET t") == .bulk("text"))
    }

    @Test func streamsAreTrimmed() {
        let node = NodeHarness { $0.streamNodeMaxEntries = 10 }
        for number in 1...100 { node("XADD s \(number) item \(number)") }
        tell(
            node,
            [
                ("XTRIM s MAXLEN ~ 85", ":10\r\n"), ("XTRIM s MAXLEN = 85", ":5\r\n"),
                ("XTRIM s MINID ~ 25", ":5\r\n"), ("XTRIM s MINID 25", ":4\r\n"),
                ("XRANGE s - + COUNT 1", "*1\r\n" + entry("25-0", "item", "25")),
                ("XTRIM s MAXLEN ~ 0 LIMIT 15", ":6\r\n"), ("XTRIM none MAXLEN 1", ":0\r\n"),
                ("XADD s MAXLEN 3 200 item x", .bulk("200-0")), ("XLEN s", ":3\r\n"),
                ("XADD s MAXLEN 0 201 item x", .bulk("201-0")), ("XLEN s", ":0\r\n"), ("EXISTS s", ":1\r\n"),
                ("XRANGE s - +", "*0\r\n"), ("XADD s 201 a b", .smallerID), ("XADD s 202 a b", .bulk("202-0")),
            ])
    }

    @Test func entriesAreDeletedAndRemembered() {
        let node = NodeHarness()
        for number in 1...4 { node("XADD s \(number) a \(number)") }
        tell(
            node,
            [
                ("XDEL s 2 9 2", ":1\r\n"), ("XDEL s 1 3 4", ":3\r\n"), ("XLEN s", ":0\r\n"), ("XDEL s 1", ":0\r\n"),
                ("XDEL none x", ":0\r\n"), ("XADD s 4 a b", .smallerID),
                ("XSETID s 1-0 ENTRIESADDED 9 MAXDELETEDID 1-0", "+OK\r\n"), ("XADD s 2 a b", .bulk("2-0")),
            ])
        #expect(
            node("XINFO STREAM s")
                == "*20\r\n" + .bulk("length") + ":1\r\n" + .bulk("radix-tree-keys") + ":1\r\n"
                + .bulk("radix-tree-nodes") + ":2\r\n" + .bulk("last-generated-id") + .bulk("2-0")
                + .bulk("max-deleted-entry-id") + .bulk("1-0") + .bulk("entries-added") + ":10\r\n"
                + .bulk("recorded-first-entry-id") + .bulk("2-0") + .bulk("groups") + ":0\r\n"
                + .bulk("first-entry") + entry("2-0", "a", "b") + .bulk("last-entry") + entry("2-0", "a", "b"))
    }

    @Test func whatIsPropagatedLeavesTheSameEntriesEverywhere() {
        let node = NodeHarness { $0.streamNodeMaxEntries = 10 }
        #expect(node.propagation(of: "XADD s * a b") == ["0 XADD s 1700000000000-0 a b"])
        #expect(node.propagation(of: "XADD s 1700000000000-* a b") == ["0 XADD s 1700000000000-1 a b"])
        #expect(node.propagation(of: "XADD s 1700000000001 a b") == ["0 XADD s 1700000000001 a b"])
        #expect(node.propagation(of: "XADD s 1 a b") == [])
        #expect(node.propagation(of: "XTRIM s MAXLEN 5") == [])
        node("DEL s")
        for number in 1...25 { node("XADD s \(number) a \(number)") }
        #expect(node.propagation(of: "XADD s MAXLEN ~ 12 * a b") == ["0 XADD s MAXLEN = 16 1700000000000-0 a b"])
        #expect(
            node.propagation(of: "XADD s MINID ~ 5 LIMIT 30 * a b") == [
                "0 XADD s MINID = 11-0 LIMIT 30 1700000000000-1 a b"
            ])
        #expect(node.propagation(of: "XTRIM s MAXLEN ~ 7") == ["0 XTRIM s MAXLEN = 7"])
        #expect(node.propagation(of: "XTRIM s MAXLEN ~ 7") == [])
        #expect(node.propagation(of: "XTRIM s MINID 25") == ["0 XTRIM s MINID 25"])
        #expect(node.propagation(of: "XDEL s 25 26") == ["0 XDEL s 25 26"])
        #expect(node.propagation(of: "XDEL s 25 26") == [])
        #expect(node.propagation(of: "XSETID s 1700000000000-5") == ["0 XSETID s 1700000000000-5"])
    }

    @Test func aPrimarysTrimIsNotLimited() {
        let node = NodeHarness { $0.streamNodeMaxEntries = 1 }
        for number in 1...200 { node("XADD s \(number) a \(number)") }
        node.node.keyspace.expiryMode = .ignore
        #expect(node("XTRIM s MAXLEN = 5 LIMIT 3") == ":195\r\n")
    }

    @Test func streamsAreReadFromAnID() {
        let node = NodeHarness()
        for number in 1...3 { node("XADD s \(number) a \(number)") }
        node("XADD t 5 a 5")
        let new = "*1\r\n*2\r\n" + .bulk("s") + "*1\r\n" + entry("3-0", "a", "3")
        tell(
            node,
            [
                ("XREAD STREAMS s 2", new), ("XREAD COUNT 1 STREAMS s 2-0", new), ("XREAD STREAMS s 3", "*-1\r\n"),
                ("XREAD STREAMS s $", "*-1\r\n"), ("XREAD STREAMS none 0", "*-1\r\n"),
                (
                    "XREAD COUNT 1 STREAMS s none t 1 0 4",
                    "*2\r\n*2\r\n" + .bulk("s") + "*1\r\n" + entry("2-0", "a", "2") + "*2\r\n" + .bulk("t")
                        + "*1\r\n" + entry("5-0", "a", "5")
                ),
                ("XDEL s 3", ":1\r\n"), ("XREAD STREAMS s 2", "*-1\r\n"),
            ])
        node("HELLO 3")
        #expect(node("XREAD STREAMS t 0") == "%1\r\n" + .bulk("t") + "*1\r\n" + entry("5-0", "a", "5"))
        #expect(node("XREAD STREAMS t 5") == "_\r\n")
    }

    @Test func copiesAndPayloadsAreEqual() {
        let node = NodeHarness { $0.streamNodeMaxEntries = 3 }
        for number in 1...10 { node("XADD s \(number) a \(number)") }
        node("XDEL s 2 5")
        node("XGROUP CREATE s g 0")
        node("XREADGROUP GROUP g alice COUNT 3 STREAMS s >")
        node("XREADGROUP GROUP g bob COUNT 2 STREAMS s >")
        let facts = node("XINFO STREAM s FULL COUNT 0")
        let digest = node("DEBUG DIGEST-VALUE s")
        #expect(node("COPY s t") == ":1\r\n")
        #expect(node("XINFO STREAM t FULL COUNT 0") == facts)
        #expect(node("DEBUG DIGEST-VALUE t") == digest)
        let payload = node.dump("s")
        #expect(
            node.send([Array("RESTORE".utf8), Array("u".utf8), Array("0".utf8), payload]) == Array("+OK\r\n".utf8))
        #expect(node("XINFO STREAM u FULL COUNT 0") == facts)
        #expect(node("XACK u g 1") == ":1\r\n")
        #expect(node("XINFO STREAM s FULL COUNT 0") == facts)
        #expect(node("DEL s t u") == ":3\r\n")
    }
}

extension String {
    fileprivate static let smallerID =
        "-ERR The ID specified in XADD is equal or smaller than the target stream top item\r\n"
}

extension NodeHarness {
    /// The payload that DUMP gives for a key.
    fileprivate func dump(_ key: String) -> [UInt8] {
        let reply = send([Array("DUMP".utf8), Array(key.utf8)])
        guard let end = reply.firstIndex(of: 10) else { return [] }
        return Array(reply[(end + 1)...].dropLast(2))
    }
}
