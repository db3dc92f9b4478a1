import Testing

@testable import MartletServer

@Suite struct StringConditionTests {
    private let digest = "b6acb9d84a38ff74"

    private func node() -> NodeHarness {
        let node = NodeHarness()
        node("SET k 'Hello world'")
        node("SET n 12")
        node("SADD s a")
        return node
    }

    @Test(arguments: [
        ("SET k v IFEQ 'Hello world'", "+OK\r\n", "v"), ("SET k v IFEQ hello", "$-1\r\n", "Hello world"),
        ("SET k v IFNE hello", "+OK\r\n", "v"), ("SET k v IFNE 'Hello world'", "$-1\r\n", "Hello world"),
        ("SET k v IFDEQ b6acb9d84a38ff74", "+OK\r\n", "v"), ("SET k v IFDEQ B6ACB9D84A38FF74", "+OK\r\n", "v"),
        ("SET k v IFDEQ b6acb9d84a38ff75", "$-1\r\n", "Hello world"),
        ("SET k v IFDNE 0000000000000000", "+OK\r\n", "v"),
        ("SET k v IFDNE b6acb9d84a38ff74", "$-1\r\n", "Hello world"),
        ("SET k v IFEQ x GET", .bulk("Hello world"), "Hello world"),
        ("SET k v GET IFNE x EX 10", .bulk("Hello world"), "v"),
    ])
    func setComparesFirst(line: String, reply: String, value: String) {
        let node = node()
        #expect(node(line) == reply)
        #expect(node("GET k") == .bulk(value))
    }

    @Test func numbersAreComparedAsText() {
        let node = node()
        for (line, reply) in [
            ("SET n 13 IFEQ 012", "$-1\r\n"), ("SET n 13 IFEQ 12", "+OK\r\n"), ("DELIFEQ n 12", ":0\r\n"),
            ("DELIFEQ n 13", ":1\r\n"), ("DIGEST n", "$-1\r\n"),
            ("SET new v IFEQ x", "$-1\r\n"), ("SET new v IFDEQ \(digest)", "$-1\r\n"), ("EXISTS new", ":0\r\n"),
            ("SET new v IFNE x", "+OK\r\n"), ("SET newer v IFDNE \(digest)", "+OK\r\n"), ("DIGEST k", .bulk(digest)),
        ] { #expect(node(line) == reply, "\(line)") }
    }

    @Test func keysAreDeletedIfTheyHoldWhatIsExpected() {
        let node = node()
        for (line, reply) in [
            ("DELEX k IFEQ x", ":0\r\n"), ("DELEX k IFNE 'Hello world'", ":0\r\n"),
            ("DELEX k IFDEQ 0123456789abcdef", ":0\r\n"),
            ("DELEX k IFDNE \(digest)", ":0\r\n"), ("DELEX k IFDEQ \(digest)", ":1\r\n"), ("DELEX k IFNE x", ":0\r\n"),
            ("DELEX k", ":0\r\n"), ("DELEX n IFNE 13", ":1\r\n"), ("DELEX s", ":1\r\n"), ("DBSIZE", ":0\r\n"),
        ] { #expect(node(line) == reply, "\(line)") }
    }

    @Test(arguments: [
        ("SET k v IFEQ", "ERR syntax error"), ("SET k v IFEQ x NX", "ERR syntax error"),
        ("SET k v XX IFEQ x", "ERR syntax error"),
        ("SET k v IFEQ x IFNE x", "ERR syntax error"),
        ("SET k v IFDEQ xyz", "ERR digest must be exactly 16 hexadecimal characters"),
        ("SET k v IFDEQ 0123456789abcdeg", "ERR digest must be exactly 16 hexadecimal characters"),
        ("DELEX k IFDNE ''", "ERR digest must be exactly 16 hexadecimal characters"),
        ("GETEX k IFEQ x", "ERR syntax error"),
        ("SET s v IFEQ a", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("DELIFEQ s a", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("DELEX s IFNE a", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("DIGEST s", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("DELEX k IFEQ", "ERR wrong number of arguments for 'delex' command"), ("DELEX k NX x", "ERR syntax error"),
        ("MSETEX 0 k v", "ERR invalid numkeys value or out of range"),
        ("MSETEX x k v", "ERR invalid numkeys value or out of range"),
        ("MSETEX 2147483648 k v", "ERR invalid numkeys value or out of range"),
        ("MSETEX 2147483647 k v", "ERR syntax error"), ("MSETEX 2 k v", "ERR syntax error"),
        ("MSETEX 1 k v n", "ERR syntax error"),
        ("MSETEX 1 k v GET", "ERR syntax error"), ("MSETEX 1 k v IFEQ x", "ERR syntax error"),
        ("MSETEX 1 k v EX 0", "ERR invalid expire time in 'msetex' command"),
    ])
    func mistakesChangeNothing(line: String, message: String) {
        let node = node()
        #expect(node(line) == "-\(message)\r\n")
        #expect(node("GET k") == .bulk("Hello world"))
        #expect(node("SCARD s") == ":1\r\n")
    }

    @Test func severalKeysAreSetWithOneExpiry() {
        let node = node()
        for (line, reply) in [
            ("MSETEX 2 a 1 b 2 NX PX 1000", ":1\r\n"), ("PTTL a", ":1000\r\n"), ("PTTL b", ":1000\r\n"),
            ("MSETEX 2 a 3 c 3 NX", ":0\r\n"), ("MSETEX 2 a 3 c 3 XX", ":0\r\n"), ("EXISTS c", ":0\r\n"),
            ("GET a", .bulk("1")),
            ("MSETEX 2 a 4 b 5 XX KEEPTTL", ":1\r\n"), ("PTTL a", ":1000\r\n"), ("MSETEX 1 a 5", ":1\r\n"),
            ("PTTL a", ":-1\r\n"),
            ("MGET a b", .bulks("5", "5")), ("COMMAND GETKEYS MSETEX 2 a 1 b 2 EX 5", .bulks("a", "b")),
        ] { #expect(node(line) == reply, "\(line)") }
    }

    /// Redis 7.0 knows everything that is passed on.
    @Test(arguments: [
        ("SET k v IFEQ x", []), ("SET k v IFNE x", ["0 SET k v"]),
        ("SET k v IFNE x GET KEEPTTL", ["0 SET k v KEEPTTL"]),
        ("SET k v IFNE x PX 5", ["0 SET k v PXAT 1700000000005"]), ("DELIFEQ n 12", ["0 DEL n"]), ("DELIFEQ n 1", []),
        ("DELEX n", ["0 DEL n"]), ("DELEX none", []), ("DELEX n IFNE x", ["0 DEL n"]),
        ("MSETEX 2 a 1 b 2", ["0 SET a 1", "0 SET b 2"]), ("MSETEX 1 n 1 NX", []),
        ("MSETEX 2 a 1 b 2 EX 1", ["0 SET a 1 PXAT 1700000001000", "0 SET b 2 PXAT 1700000001000"]),
        ("MSETEX 1 a 1 KEEPTTL", ["0 SET a 1 KEEPTTL"]), ("DIGEST k", []),
    ])
    func whatReplicasGetIsExact(line: String, propagated: [String]) {
        #expect(node().propagation(of: line) == propagated, "\(line)")
    }
}
