import Testing

@testable import MartletKeyspace
@testable import MartletServer

@Suite struct HyperLogLogCommandTests {
    private let wrongType = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
    private let noLog = "-WRONGTYPE Key is not a valid HyperLogLog string value.\r\n"
    private let corrupt = "-INVALIDOBJ Corrupted HLL object detected\r\n"

    @Test func elementsAreCounted() {
        let node = NodeHarness()
        for (line, reply) in [
            ("PFCOUNT none", ":0\r\n"), ("PFADD a", ":1\r\n"), ("PFADD a", ":0\r\n"), ("PFCOUNT a", ":0\r\n"),
            ("STRLEN a", ":18\r\n"), ("OBJECT ENCODING a", .bulk("raw")), ("PFADD a x y z x", ":1\r\n"),
            ("PFADD a y", ":0\r\n"), ("PFCOUNT a", ":3\r\n"), ("PFCOUNT a", ":3\r\n"), ("PFADD b z ''", ":1\r\n"),
            ("PFCOUNT a b none", ":4\r\n"), ("PFMERGE c a b none", "+OK\r\n"), ("PFCOUNT c", ":4\r\n"),
            ("PFMERGE b", "+OK\r\n"), ("PFCOUNT b", ":2\r\n"), ("PFMERGE fresh", "+OK\r\n"),
            ("PFCOUNT fresh", ":0\r\n"),
            ("PFDEBUG ENCODING a", "+sparse\r\n"), ("PFDEBUG TODENSE a", ":1\r\n"), ("PFDEBUG TODENSE a", ":0\r\n"),
            ("PFDEBUG ENCODING a", "+dense\r\n"), ("PFCOUNT a", ":3\r\n"), ("STRLEN a", ":12304\r\n"),
            ("PFADD a w", ":1\r\n"), ("PFADD a w", ":0\r\n"), ("PFCOUNT a", ":4\r\n"), ("PFMERGE c a", "+OK\r\n"),
            ("PFDEBUG ENCODING c", "+dense\r\n"), ("PFCOUNT c", ":5\r\n"), ("PFDEBUG DECODE fresh", .bulk("Z:16384")),
        ] { #expect(node(line) == reply, "\(line)") }
        #expect(node("PFDEBUG GETREG b").hasPrefix("*16384\r\n:0\r\n"))
        #expect(node("PFDEBUG ENCODING b") == "+dense\r\n")
    }

    @Test func expiryStays() {
        let node = NodeHarness()
        for key in ["a", "b"] { node("PFADD \(key) x") }
        node("PFDEBUG TODENSE b")
        for key in ["a", "b"] {
            node("PEXPIRE \(key) 1000")
            node("PFADD \(key) y z")
            node("PFCOUNT \(key)")
            node("PFMERGE \(key) a b")
            #expect(node("PTTL \(key)") == ":1000\r\n")
        }
    }

    @Test func otherStringsAreRefused() {
        let node = NodeHarness()
        node("SADD set 1")
        node("SET text hello")
        node("SET number 12345678901234567")
        node("SET magic HYLX\\x01")
        node(#"SET encoding "HYLL\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x7f\xff""#)
        node(#"SET dense "HYLL\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x7f\xff""#)
        node(#"SET long "HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x7f\xff\x00""#)
        node(#"SET short "HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x7f""#)
        for key in ["text", "number", "magic", "encoding", "dense"] {
            for line in [
                "PFADD \(key) x", "PFCOUNT \(key)", "PFCOUNT \(key) none", "PFMERGE d \(key)",
                "PFDEBUG ENCODING \(key)",
            ] {
                #expect(node(line) == noLog, "\(line)")
            }
        }
        for line in ["PFADD set x", "PFCOUNT set", "PFCOUNT none set", "PFMERGE d set", "PFDEBUG DECODE set"] {
            #expect(node(line) == wrongType, "\(line)")
        }
        for key in ["long", "short"] {
            for line in [
                "PFCOUNT \(key)", "PFCOUNT \(key) none", "PFMERGE d \(key)", "PFDEBUG TODENSE \(key)",
                "PFDEBUG GETREG \(key)",
            ] {
                #expect(node(line) == corrupt, "\(line)")
            }
        }
        #expect(node("PFDEBUG ENCODING none") == "-ERR The specified key does not exist\r\n")
        #expect(node("PFDEBUG nonsense long") == "-ERR Unknown PFDEBUG subcommand 'nonsense'\r\n")
        #expect(node("EXISTS d") == ":0\r\n")
    }

    @Test(arguments: [
        ("PFADD a", []), ("PFADD new", ["0 PFADD new"]), ("PFADD a x", []), ("PFADD a y", ["0 PFADD a y"]),
        ("PFCOUNT a", ["0 PFCOUNT a"]), ("PFCOUNT a none", []), ("PFMERGE a", ["0 PFMERGE a"]),
        ("PFDEBUG TODENSE a", ["0 PFDEBUG TODENSE a"]), ("PFDEBUG ENCODING a", []),
    ])
    func whatReplicasGetIsExact(line: String, propagated: [String]) {
        let node = NodeHarness()
        node("PFADD a x")
        #expect(node.propagation(of: line) == propagated, "\(line)")
        if line == "PFCOUNT a" { #expect(node.propagation(of: line) == [], "the count is remembered") }
    }
}
