import MartletBase
import MartletKeyspace
import MartletRESP
import Testing

@testable import MartletServer

@Suite struct DebugCommandTests {
    @Test func debugHasToBeEnabled() {
        let node = NodeHarness()
        var configuration = node.node.configuration
        configuration.debugCommand = .no
        node.node.configure(configuration, changed: [])
        #expect(node("DEBUG DIGEST").hasPrefix("-ERR DEBUG command not allowed. If the enable-debug-command option"))
        configuration.debugCommand = .local
        node.node.configure(configuration, changed: [])
        #expect(node("DEBUG DIGEST").hasPrefix("+"))
        let remote = node.node.addClient(address: "10.0.0.1:5000", localAddress: "10.0.0.2:6379", fd: 9)
        #expect(node("DEBUG DIGEST", as: remote).hasPrefix("-ERR DEBUG command not allowed."))
    }

    /// Digests that redis-server 7.0.15 gave for the same data.
    @Test(
        "Digests equal those of Redis",
        arguments: [
            ([], "0000000000000000000000000000000000000000"),
            (["SET a 1"], "943d800368fb9c0e951138f1bc0e313ac769d91f"),
            (["SET a 1", "SET b hello"], "2539797405e828ad7a3aa48c536b3eaf2803a421"),
            (["SET a 1 EX 100"], "0c68bbcf4ad5c984f8ca839729889d52ec025271"),
            (["SET a 1", "COPY a b DB 3"], "7803703611e7866f7d2a7231db9780a20d3b41b4"),
        ])
    func digest(lines: [String], expected: String) {
        let node = NodeHarness()
        for line in lines { node(line) }
        #expect(node("DEBUG DIGEST") == "+\(expected)\r\n")
    }

    @Test func digestsOfValuesDoNotDependOnTheKey() {
        let node = NodeHarness()
        node("MSET a hello b hello c 5")
        #expect(
            node("DEBUG DIGEST-VALUE a b c missing") == """
                *4\r\n+36b23a1456b2dce2c3ed252c456761301dba8060\r\n+36b23a1456b2dce2c3ed252c456761301dba8060\r\n\
                +f8c2498ca74cdde7d02de23246736a661485b50e\r\n+0000000000000000000000000000000000000000\r\n
                """)
    }

    @Test func theDigestIsTheSameInEveryOrderAndInClusterMode() {
        let one = NodeHarness()
        let other = NodeHarness(isClustered: true)
        for key in 0..<200 { one("SET k\(key) v\(key)") }
        for key in (0..<200).reversed() { other("SET k\(key) v\(key)") }
        #expect(one("DEBUG DIGEST") == other("DEBUG DIGEST"))
    }

    @Test("Reloading keeps everything", arguments: [false, true])
    func reload(isClustered: Bool) {
        let node = NodeHarness(isClustered: isClustered)
        for key in 0..<1000 { node("SET k\(key) \(key)") }
        node("SET long \(String(repeating: "abc", count: 10_000))")
        node("SET expires v PX 5000")
        node("COPY expires other DB 5")
        let digest = node("DEBUG DIGEST")
        #expect(node("DEBUG RELOAD") == "+OK\r\n")
        #expect(node("DEBUG DIGEST") == digest)
        #expect(node("PTTL expires") == ":5000\r\n")
        #expect(node("OBJECT ENCODING k1") == .bulk("int"))
        #expect(node("DEBUG RELOAD NOFLUSH MERGE") == "+OK\r\n")
        #expect(node("DEBUG DIGEST") == digest)
        #expect(node("DEBUG RELOAD FOO").hasPrefix("-ERR DEBUG RELOAD only supports"))
    }

    @Test("A limit that was lowered since holds for new strings, not for those that are there")
    func reloadingKeepsLongStrings() {
        let node = NodeHarness()
        #expect(node("SETRANGE long 2000000 x") == ":2000001\r\n")
        #expect(node("CONFIG SET proto-max-bulk-len 1mb") == "+OK\r\n")
        #expect(node("DEBUG RELOAD") == "+OK\r\n")
        #expect(node("STRLEN long") == ":2000001\r\n")
        #expect(node("DEBUG POPULATE 1 k 1048577").hasPrefix("-ERR string exceeds maximum allowed size"))
    }

    @Test func reloadingDropsWhatIsOver() {
        let node = NodeHarness()
        node("SET a v PX 10")
        node("SET b v")
        node.advance(milliseconds: 11)
        node("DEBUG RELOAD")
        #expect(node("DBSIZE") == ":1\r\n")
    }

    @Test func neitherReloadingNorPopulatingReachesTheLog() {
        let node = NodeHarness()
        let changes = node.node.keyspace.changes
        #expect(node("DEBUG POPULATE 10") == "+OK\r\n")
        #expect(node("DEBUG RELOAD") == "+OK\r\n")
        #expect(node.node.keyspace.changes == changes)
    }

    @Test func populateMakesKeysThatAreNotThereYet() {
        let node = NodeHarness()
        node("SET key:1 mine")
        #expect(node("DEBUG POPULATE 3") == "+OK\r\n")
        #expect(node("MGET key:0 key:1 key:2") == .bulks("value:0", "mine", "value:2"))
        #expect(node("DEBUG POPULATE 2 p 3") == "+OK\r\n")
        #expect(node("GET p:1") == .bulk("val"))
        #expect(node("DEBUG POPULATE 1 q 10") == "+OK\r\n")
        #expect(node("GET q:0") == .bulk("value:0\0\0\0"))
        for arguments in ["-1", "x", "1 p x", "1 p -1"] {
            #expect(node("DEBUG POPULATE \(arguments)") == "-ERR value is out of range, must be positive\r\n")
        }
    }

    @Test func sleepingMovesTheClockOn() {
        let node = NodeHarness()
        node("SET a v PX 100")
        #expect(node.receive(Array("DEBUG SLEEP 0.2\r\nEXISTS a\r\n".utf8)) == Array("+OK\r\n:0\r\n".utf8))
        #expect(node("DEBUG SLEEP x") == "+OK\r\n")
        #expect(node("DEBUG SLEEP -1") == "+OK\r\n")
    }

    @Test(
        "PROTOCOL shows every type of reply",
        arguments: [
            ("string", "$11\r\nHello World\r\n", "$11\r\nHello World\r\n"),
            ("double", "$5\r\n3.141\r\n", ",3.141\r\n"),
            (
                "bignum", "$37\r\n1234567999999999999999999999999999999\r\n",
                "(1234567999999999999999999999999999999\r\n"
            ),
            ("null", "$-1\r\n", "_\r\n"),
            ("set", "*3\r\n:0\r\n:1\r\n:2\r\n", "~3\r\n:0\r\n:1\r\n:2\r\n"),
            ("map", "*6\r\n:0\r\n:0\r\n:1\r\n:1\r\n:2\r\n:0\r\n", "%3\r\n:0\r\n#f\r\n:1\r\n#t\r\n:2\r\n#f\r\n"),
            ("true", ":1\r\n", "#t\r\n"),
            (
                "attrib", "$39\r\nSome real reply following the attribute\r\n",
                """
                |1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n\
                $39\r\nSome real reply following the attribute\r\n
                """
            ),
            ("verbatim", "$25\r\nThis is a verbatim\nstring\r\n", "=29\r\ntxt:This is a verbatim\nstring\r\n"),
        ])
    func protocolTypes(name: String, inRESP2: String, inRESP3: String) {
        let node = NodeHarness()
        #expect(node("DEBUG PROTOCOL \(name)") == inRESP2)
        node.client.pointee.reply.isRESP3 = true
        #expect(node("DEBUG PROTOCOL \(name)") == inRESP3)
    }

    @Test(
        "Other subcommands answer as in Redis",
        arguments: [
            ("DEBUG ERROR 'MY error'", "-MY error"), ("DEBUG SET-ACTIVE-EXPIRE 0", "+OK"),
            ("DEBUG PAUSE-CRON 1", "+OK"),
            ("DEBUG OBJECT missing", "-ERR no such key"), ("DEBUG HTSTATS 16", "-ERR Out of range database"),
            ("DEBUG STRINGMATCH-TEST", "+Apparently Martlet did not crash: test passed"), ("DEBUG LOG text", "+OK"),
            ("DEBUG DROP-CLUSTER-PACKET-FILTER -1", "+OK"),
            ("DEBUG FOO bar", "-ERR unknown subcommand or wrong number of arguments for 'FOO'. Try DEBUG HELP."),
            ("DEBUG SLEEP", "-ERR unknown subcommand or wrong number of arguments for 'SLEEP'. Try DEBUG HELP."),
            ("DEBUG PROTOCOL push", "-ERR RESP2 is not supported by this command"),
        ])
    func others(line: String, reply: String) {
        #expect(NodeHarness()(line) == reply + "\r\n")
    }

    @Test func theRulesOfAllDataCanBeChecked() {
        let node = NodeHarness()
        #expect(node("DEBUG INVARIANTS") == "+OK\r\n")
        for size in [3, 600] {
            for index in 0..<size {
                node("SET s\(size):\(index) x EX 100")
                node("HSET h\(size) f\(index) v")
                node("HSETEX e\(size) EX 100 FIELDS 1 f\(index) v")
                node("RPUSH l\(size) \(String(repeating: "x", count: 100))\(index)")
                node("SADD i\(size) \(index)")
                node("SADD m\(size) m\(index)")
                node("ZADD z\(size) \(index) m\(index)")
                node("XADD x\(size) * f v\(index)")
            }
            node("XGROUP CREATE x\(size) g 0")
            node("XREADGROUP GROUP g c STREAMS x\(size) >")
        }
        #expect(node("DEBUG INVARIANTS") == "+OK\r\n")
    }

    @Test func objectTellsWhereAValueIs() {
        let node = NodeHarness()
        node("SET a 100000")
        let reply = node("DEBUG OBJECT a")
        #expect(reply.hasPrefix("+Value at:0x"))
        #expect(reply.contains(" refcount:1 encoding:int serializedlength:5 lru:"))
        // A number is changed in place.
        node("INCR a")
        #expect(node("DEBUG OBJECT a").split(separator: " ")[1] == reply.split(separator: " ")[1])
    }
}
