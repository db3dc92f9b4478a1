import MartletBase
import Testing

@testable import MartletKeyspace
@testable import MartletServer

@Suite struct StringCommandTests {
    /// A node, and what it has to answer line by line.
    private func tell(_ lines: [(String, String)]) {
        let node = NodeHarness()
        for (line, reply) in lines { #expect(node(line) == reply, "\(line)") }
    }

    @Test func setObeysItsConditions() {
        tell([
            ("SET k v", "+OK\r\n"),
            ("SET k w nx", "$-1\r\n"),
            ("SET k w XX", "+OK\r\n"),
            ("SET k x GET", .bulk("w")),
            ("SET k y NX GET", .bulk("x")),
            ("GET k", .bulk("x")),
            ("SET new y XX GET", "$-1\r\n"),
            ("GET new", "$-1\r\n"),
            ("SET new y NX GET", "$-1\r\n"),
            ("GET new", .bulk("y")),
            ("SETNX new z", ":0\r\n"),
            ("SETNX newer z", ":1\r\n"),
            ("GETSET newer a", .bulk("z")),
            ("GETDEL newer", .bulk("a")),
            ("GETDEL newer", "$-1\r\n"),
        ])
    }

    @Test(arguments: [
        ("SET k v NX XX", "syntax error"), ("SET k v XX nx", "syntax error"), ("SET k v EX 1 PX 1", "syntax error"),
        ("SET k v EX 1 KEEPTTL", "syntax error"), ("SET k v KEEPTTL EX 1", "syntax error"),
        ("SET k v EX", "syntax error"), ("SET k v PERSIST", "syntax error"), ("SET k v EXAT 1 EX 1", "syntax error"),
        ("GETEX k KEEPTTL", "syntax error"), ("GETEX k PERSIST EX 1", "syntax error"), ("GETEX k NX", "syntax error"),
        ("SET k v EX x", "value is not an integer or out of range"),
        ("SET k v EX 0", "invalid expire time in 'set' command"),
        ("SET k v PX -1", "invalid expire time in 'set' command"),
        ("SET k v EX 9223372036854775807", "invalid expire time in 'set' command"),
        ("SET k v EX 9223372036854775", "invalid expire time in 'set' command"),
        ("SET k v PX 9223372036854775807", "invalid expire time in 'set' command"),
        ("SETEX k 0 v", "invalid expire time in 'setex' command"),
        ("PSETEX k -5 v", "invalid expire time in 'psetex' command"),
        ("GETEX k EX 0", "invalid expire time in 'getex' command"),
        ("MSET a", "wrong number of arguments for 'mset' command"),
        ("MSET a 1 b", "wrong number of arguments for 'mset' command"),
        ("MSETNX a 1 b", "wrong number of arguments for 'msetnx' command"),
        ("INCR k", "value is not an integer or out of range"),
        ("INCRBY n x", "value is not an integer or out of range"),
        ("DECRBY n -9223372036854775808", "decrement would overflow"),
        ("INCRBY max 1", "increment or decrement would overflow"),
        ("DECR min", "increment or decrement would overflow"),
        ("INCRBYFLOAT k 1", "value is not a valid float"), ("INCRBYFLOAT n x", "value is not a valid float"),
        ("INCRBYFLOAT n inf", "increment would produce NaN or Infinity"),
        ("GETRANGE k x 1", "value is not an integer or out of range"),
        ("SETRANGE k -1 x", "offset is out of range"),
        ("SETRANGE k 536870911 xy", "string exceeds maximum allowed size (proto-max-bulk-len)"),
        ("SETRANGE k 9223372036854775807 xy", "string exceeds maximum allowed size (proto-max-bulk-len)"),
        ("LCS k k LEN IDX", "If you want both the length and indexes, please just use IDX."),
        ("LCS k k MINMATCHLEN", "syntax error"),
    ])
    func mistakesAreNamedAsByRedis(line: String, message: String) {
        let node = NodeHarness()
        node("MSET k text n 5 max 9223372036854775807 min -9223372036854775808")
        #expect(node(line) == "-ERR \(message)\r\n")
        #expect(node("MGET k n") == .bulks("text", "5"))
    }

    @Test func valuesKeepTheEncodingThatRedisShows() {
        let long = String(repeating: "x", count: 45)
        for (lines, encoding) in [
            (["SET k 12"], Encoding.integer), (["SET k 9223372036854775807"], .integer), (["SET k 012"], .embedded),
            (["SET k \(long.dropLast())"], .embedded), (["SET k \(long)"], .raw), (["APPEND k 12"], .integer),
            (["SET k 1", "APPEND k 2"], .raw), (["SET k 1", "APPEND k ''"], .raw), (["SETRANGE k 0 1"], .raw),
            (["SETBIT k 1 1"], .raw), (["SET k 1", "INCRBYFLOAT k 1"], .embedded),
            (["SET k 1", "APPEND k 2", "INCR k"], .integer),
            (["SET k 1", "APPEND k 2", "INCRBYFLOAT k 1"], .embedded), (["SET s 1", "BITOP AND k s"], .raw),
            (["SET k 1", "GETBIT k 1", "GETRANGE k 0 1"], .integer), (["SET k 1", "SETBIT k 2 1"], .raw),
            (["SET k 1", "BITFIELD k GET u8 0"], .integer), (["SET k 1", "APPEND k 2", "SET k ab"], .embedded),
        ] {
            let node = NodeHarness()
            for line in lines { node(line) }
            let found = withKey("k", in: &node.node.keyspace) { key, keyspace in keyspace.peek(key)?.encoding }
            #expect(found == encoding, "\(lines)")
        }
    }

    @Test func expiryStaysOnlyIfTheCommandKeepsIt() {
        for (line, isKept) in [
            ("SET k 2", false), ("SET k 2 KEEPTTL", true), ("GETSET k 2", false), ("MSET k 2", false), ("INCR k", true),
            ("INCRBYFLOAT k 1.5", true), ("APPEND k 2", true), ("SETRANGE k 3 x", true), ("SETBIT k 9 1", true),
            ("BITOP NOT k k", false), ("GETEX k", true), ("GETEX k PERSIST", false), ("BITFIELD k SET u8 0 1", true),
        ] {
            let node = NodeHarness()
            node("SET k 1 PX 1000")
            node(line)
            node.advance(milliseconds: 2000)
            #expect((node("STRLEN k") != ":0\r\n") == !isKept, "\(line)")
        }
    }

    @Test func aKeyIsGoneJustAfterItsTime() {
        let node = NodeHarness()
        node("SET k v PX 100")
        node.advance(milliseconds: 100)
        #expect(node("GET k") == .bulk("v"))
        node.advance(milliseconds: 1)
        #expect(node("GET k") == "$-1\r\n")
        #expect(node("SET k v XX") == "$-1\r\n")
    }

    @Test(arguments: [
        ("SET k v EX 10", "0 SET k v PXAT 1700000010000"), ("SET k v px 10 nx", nil),
        ("SET k v PXAT 1700000000001 GET", "0 SET k v PXAT 1700000000001"),
        ("SET k v get KEEPTTL GET", "0 SET k v KEEPTTL"), ("SET k v", "0 SET k v"), ("SET k v NX", nil),
        ("SETEX k 1 v", "0 SET k v PXAT 1700000001000"), ("PSETEX k 1 v", "0 SET k v PXAT 1700000000001"),
        ("SETNX new v", "0 SETNX new v"), ("GETSET k v", "0 SET k v"), ("GETDEL k", "0 DEL k"), ("GETDEL none", nil),
        ("GETEX k", nil), ("GETEX k EX 5", "0 PEXPIREAT k 1700000005000"), ("GETEX k PXAT 1", "0 DEL k"),
        ("GETEX k PERSIST", "0 PERSIST k"), ("GETEX n PERSIST", nil), ("INCR n", "0 INCR n"),
        ("INCRBYFLOAT n 0.5", "0 SET n 5.5 KEEPTTL"), ("APPEND k x", "0 APPEND k x"), ("SETRANGE none 5 ''", nil),
        ("SETBIT k 1 1", nil), ("SETBIT k 1 0", "0 SETBIT k 1 0"), ("SETBIT none 1 0", "0 SETBIT none 1 0"),
        ("BITFIELD k GET u8 0", nil), ("BITFIELD k SET u8 0 116", nil),
        ("BITFIELD k SET u8 0 1", "0 BITFIELD k SET u8 0 1"),
        ("BITOP NOT none empty", nil), ("BITOP NOT k empty", "0 BITOP NOT k empty"),
    ])
    func whatReplicasGetIsExact(line: String, propagated: String?) {
        let node = NodeHarness()
        node("SET k text PX 1000")
        node("SET n 5")
        #expect(node.propagation(of: line) == (propagated.map { [$0] } ?? []), "\(line)")
    }

    @Test func anExpiredKeyIsDeletedInTheLogBeforeTheCommandThatFoundIt() {
        let node = NodeHarness()
        node("SET k 5 PX 10")
        node.advance(milliseconds: 11)
        #expect(node.propagation(of: "INCR k") == ["0 DEL k", "0 INCR k"])
    }

    @Test func countersCountAndFloatsAddAsLongDoubles() {
        tell([
            ("INCR n", ":1\r\n"), ("DECR n", ":0\r\n"), ("INCRBY n 9223372036854775807", ":9223372036854775807\r\n"),
            ("DECRBY n 9223372036854775807", ":0\r\n"), ("DECRBY n 5", ":-5\r\n"),
            ("INCRBYFLOAT f 0.1", .bulk("0.1")), ("INCRBYFLOAT f 0.2", .bulk("0.3")),
            ("INCRBYFLOAT f 1e3", .bulk("1000.29999999999999999")), ("INCRBYFLOAT f -1000.3", .bulk("0")),
            ("SET f 3", "+OK\r\n"), ("INCRBYFLOAT f 1.0", .bulk("4")),
        ])
    }

    @Test func rangesAreReadAndWritten() {
        tell([
            ("SET k 'This is a string'", "+OK\r\n"), ("GETRANGE k 0 3", .bulk("This")),
            ("SUBSTR k -3 -1", .bulk("ing")),
            ("GETRANGE k 0 -1", .bulk("This is a string")), ("GETRANGE k 10 100", .bulk("string")),
            ("GETRANGE k 5 1", .bulk("")), ("GETRANGE k -1 -5", .bulk("")), ("GETRANGE k 100 200", .bulk("")),
            ("GETRANGE k -100 3", .bulk("This")), ("GETRANGE none 0 -1", .bulk("")),
            ("SETRANGE k 5 IS", ":16\r\n"), ("GETRANGE k 0 8", .bulk("This IS a")), ("SETRANGE pad 3 x", ":4\r\n"),
            ("GET pad", "$4\r\n\0\0\0x\r\n"), ("SETRANGE none 1 ''", ":0\r\n"), ("STRLEN none", ":0\r\n"),
            ("SET n 1234", "+OK\r\n"), ("SETRANGE n 2 x", ":4\r\n"), ("GET n", .bulk("12x4")),
            ("APPEND n 56", ":6\r\n"),
            ("APPEND fresh 12", ":2\r\n"), ("INCR fresh", ":13\r\n"), ("STRLEN fresh", ":2\r\n"),
        ])
    }

    @Test func anAppendedStringIsWholeAtEveryLength() {
        let node = NodeHarness()
        var model = ""
        for step in 0..<400 {
            let piece = String(repeating: Character(Unicode.Scalar(UInt8(97 + step % 26))), count: step % 13)
            model += piece
            let reply = node.send([Array("APPEND".utf8), Array("k".utf8), Array(piece.utf8)])
            #expect(reply == Array(":\(model.utf8.count)\r\n".utf8))
        }
        #expect(node("GET k") == .bulk(model))
    }

    @Test func severalKeysAreReadAndSetAtOnce() {
        tell([
            ("MSET a 1 b 2 a 3", "+OK\r\n"), ("MGET a none b", "*3\r\n$1\r\n3\r\n$-1\r\n$1\r\n2\r\n"),
            ("MSETNX c 1 a 2", ":0\r\n"), ("GET c", "$-1\r\n"), ("MSETNX c 1 d 2", ":1\r\n"),
            ("MGET c d", .bulks("1", "2")),
        ])
    }

    @Test func theLongestCommonSubsequenceIsRedisOne() {
        let matches = "*2\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n"
        let first = "*2\r\n*2\r\n:2\r\n:3\r\n*2\r\n:0\r\n:1\r\n"
        tell([
            ("MSET a ohmytext b mynewtext", "+OK\r\n"), ("LCS a b", .bulk("mytext")), ("LCS a b LEN", ":6\r\n"),
            ("LCS a b IDX", "*4\r\n\(String.bulk("matches"))*2\r\n\(matches)\(first)\(String.bulk("len")):6\r\n"),
            ("LCS a b IDX MINMATCHLEN 4", "*4\r\n\(String.bulk("matches"))*1\r\n\(matches)\(String.bulk("len")):6\r\n"),
            (
                "LCS a b idx minmatchlen 4 withmatchlen",
                "*4\r\n\(String.bulk("matches"))*1\r\n*3\(matches.dropFirst(2)):4\r\n\(String.bulk("len")):6\r\n"
            ),
            ("LCS a none", .bulk("")), ("LCS none none LEN", ":0\r\n"),
            ("LCS none none IDX", "*4\r\n\(String.bulk("matches"))*0\r\n\(String.bulk("len")):0\r\n"),
        ])
    }

    @Test func lcsOfLongStringsIsRefusedWhereRedisRefusesIt() {
        let node = NodeHarness()
        node("SETRANGE a 11584 x")
        node("SETRANGE b 11583 x")
        #expect(
            node("LCS a b LEN")
                == "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len\r\n")
    }
}

/// Runs with a key of the keyspace.
func withKey<Result>(
    _ text: String, in keyspace: inout Keyspace, _ body: (Key, inout Keyspace) -> Result
) -> Result {
    Array(text.utf8).withUnsafeBytes { body(keyspace.key($0), &keyspace) }
}
