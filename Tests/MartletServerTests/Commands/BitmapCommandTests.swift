import Testing

@testable import MartletServer

@Suite struct BitmapCommandTests {
    private func tell(_ lines: [(String, String)]) {
        let node = NodeHarness()
        for (line, reply) in lines { #expect(node(line) == reply, "\(line)") }
    }

    @Test func bitsAreSetAndRead() {
        tell([
            ("SETBIT k 7 1", ":0\r\n"), ("SETBIT k 7 0", ":1\r\n"), ("STRLEN k", ":1\r\n"),
            ("SETBIT k 100 1", ":0\r\n"),
            ("STRLEN k", ":13\r\n"), ("GETBIT k 100", ":1\r\n"), ("GETBIT k 101", ":0\r\n"),
            ("GETBIT k 4000", ":0\r\n"),
            ("SET n 1", "+OK\r\n"), ("GETBIT n 2", ":1\r\n"), ("GETBIT n 8", ":0\r\n"), ("SETBIT n 6 1", ":0\r\n"),
            ("GET n", .bulk("3")), ("GETBIT none 5", ":0\r\n"),
        ])
    }

    @Test(arguments: [
        ("SETBIT k 4294967296 1", "bit offset is not an integer or out of range"),
        ("SETBIT k -1 1", "bit offset is not an integer or out of range"),
        ("SETBIT k 9223372036854775807 1", "bit offset is not an integer or out of range"),
        ("SETBIT k 1 2", "bit is not an integer or out of range"),
        ("SETBIT k 1 x", "bit is not an integer or out of range"),
        ("GETBIT k x", "bit offset is not an integer or out of range"),
        ("BITCOUNT k 1", "syntax error"), ("BITCOUNT k 1 2 x", "syntax error"),
        ("BITCOUNT k 1 x", "value is not an integer or out of range"),
        ("BITPOS k 2", "The bit argument must be 1 or 0."), ("BITPOS k x", "value is not an integer or out of range"),
        ("BITPOS k 1 2 3 x", "syntax error"), ("BITPOS k 1 2 3 BIT x", "syntax error"),
        ("BITOP NOT t a b", "BITOP NOT must be called with a single source key."), ("BITOP NAND t a", "syntax error"),
        ("BITFIELD k GET u64 0", Self.typeMessage), ("BITFIELD k GET i65 0", Self.typeMessage),
        ("BITFIELD k GET i0 0", Self.typeMessage), ("BITFIELD k GET x8 0", Self.typeMessage),
        ("BITFIELD k GET u8", "syntax error"), ("BITFIELD k OVERFLOW x", "Invalid OVERFLOW type specified"),
        ("BITFIELD k SET u8 0 x", "value is not an integer or out of range"),
        ("BITFIELD k GET u8 #9223372036854775807", "bit offset is not an integer or out of range"),
        ("BITFIELD_RO k GET u8 0 SET u8 0 1", "BITFIELD_RO only supports the GET subcommand"),
    ])
    func mistakesAreNamedAsByRedis(line: String, message: String) {
        let node = NodeHarness()
        node("SET k text")
        #expect(node(line) == "-ERR \(message)\r\n")
        #expect(node("GET k") == .bulk("text"))
    }

    private static let typeMessage =
        "Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."

    @Test func bitsAreCountedAndFound() {
        tell([
            ("SET k foobar", "+OK\r\n"), ("BITCOUNT k", ":26\r\n"), ("BITCOUNT k 0 0", ":4\r\n"),
            ("BITCOUNT k 1 1 BYTE", ":6\r\n"),
            ("BITCOUNT k 5 30 BIT", ":17\r\n"), ("BITCOUNT k -2 -3", ":0\r\n"), ("BITCOUNT none x", ":0\r\n"),
        ])
        let node = NodeHarness()
        node.send([Array("SET".utf8), Array("z".utf8), [0xFF, 0xF0, 0x00]])
        node.send([Array("SET".utf8), Array("ones".utf8), [0xFF, 0xFF]])
        for (line, reply) in [
            ("BITPOS z 0", ":12\r\n"), ("BITPOS z 1", ":0\r\n"), ("BITPOS z 1 2", ":-1\r\n"),
            ("BITPOS z 1 1", ":8\r\n"),
            ("BITPOS z 0 7 15 BIT", ":12\r\n"), ("BITPOS z 1 7 15 bit", ":7\r\n"), ("BITPOS ones 0", ":16\r\n"),
            ("BITPOS ones 0 0 -1", ":-1\r\n"), ("BITPOS ones 0 1", ":16\r\n"), ("BITPOS ones 0 5", ":-1\r\n"),
            ("BITPOS none 0", ":0\r\n"), ("BITPOS none 1", ":-1\r\n"),
        ] {
            #expect(node(line) == reply, "\(line)")
        }
    }

    @Test func bitopPadsShorterSourcesWithZeros() {
        let node = NodeHarness()
        node("MSET a abcdefgh!! b abc n 7")
        #expect(node("BITOP AND t a b") == ":10\r\n")
        #expect(node("GET t") == "$10\r\nabc\0\0\0\0\0\0\0\r\n")
        #expect(node("BITOP OR t a b none") == ":10\r\n")
        #expect(node("GET t") == .bulk("abcdefgh!!"))
        #expect(node("BITOP XOR a a a") == ":10\r\n")
        #expect(node("BITCOUNT a") == ":0\r\n")
        #expect(node("BITOP AND t b none") == ":3\r\n")
        #expect(node("BITCOUNT t") == ":0\r\n")
        #expect(node("BITOP NOT t n") == ":1\r\n")
        #expect(node.send([Array("GET".utf8), Array("t".utf8)]) == Array("$1\r\n".utf8) + [0xC8, 13, 10])
        #expect(node("BITOP NOT t none") == ":0\r\n")
        #expect(node("GET t") == "$-1\r\n")
    }

    @Test func fieldsOverflowInThreeWays() {
        tell([
            ("BITFIELD k SET u8 0 255 GET i8 0 GET u4 #1", "*3\r\n:0\r\n:-1\r\n:15\r\n"),
            ("BITFIELD k INCRBY u8 0 1", "*1\r\n:0\r\n"),
            ("BITFIELD k OVERFLOW SAT INCRBY u8 0 300 OVERFLOW FAIL INCRBY u8 0 1", "*2\r\n:255\r\n$-1\r\n"),
            ("BITFIELD k OVERFLOW SAT SET i8 0 200 GET i8 0", "*2\r\n:-1\r\n:127\r\n"),
            (
                "BITFIELD k SET i64 5 -9223372036854775808 GET i64 5 GET u63 6",
                "*3\r\n:-2305843009213693952\r\n:-9223372036854775808\r\n:0\r\n"
            ),
            (
                "BITFIELD k OVERFLOW SAT INCRBY i64 5 -1 OVERFLOW WRAP INCRBY i64 5 -1",
                "*2\r\n:-9223372036854775808\r\n:9223372036854775807\r\n"
            ),
            ("BITFIELD k", "*0\r\n"), ("BITFIELD_RO none GET u8 1000 GET i64 5", "*2\r\n:0\r\n:0\r\n"),
            ("BITFIELD none OVERFLOW FAIL", "*0\r\n"), ("STRLEN none", ":0\r\n"),
        ])
    }

    @Test("A string that grew for writes which all overflowed grows on replicas, too")
    func growthWithoutWrites() {
        let node = NodeHarness()
        let line = "BITFIELD k OVERFLOW FAIL SET u8 80 256"
        #expect(node.propagation(of: line) == ["0 " + line])
        #expect(node("STRLEN k") == ":11\r\n")
        #expect(node.propagation(of: line) == [])
    }
}
