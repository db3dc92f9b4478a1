import MartletBase
import MartletRESP
import Testing

@testable import MartletKeyspace
@testable import MartletServer

@Suite struct SetCommandTests {
    /// A node, and what it has to answer line by line.
    private func tell(_ lines: [(String, String)]) {
        let node = NodeHarness()
        for (line, reply) in lines { #expect(node(line) == reply, "\(line)") }
    }

    /// The bulk strings of a reply, sorted.
    private func members(_ reply: String) -> [String] {
        var lines = reply.split(separator: "\r\n", omittingEmptySubsequences: false).dropFirst()
        var members: [String] = []
        while lines.count > 1 {
            members.append(String(lines.dropFirst().first!))
            lines = lines.dropFirst(2)
        }
        return members.sorted()
    }

    @Test func membersComeAndGo() {
        tell([
            ("SADD s a b a", ":2\r\n"), ("SADD s b", ":0\r\n"), ("SCARD s", ":2\r\n"), ("SISMEMBER s a", ":1\r\n"),
            ("SISMEMBER s c", ":0\r\n"), ("SMISMEMBER s a c b", "*3\r\n:1\r\n:0\r\n:1\r\n"),
            ("SMISMEMBER none a", "*1\r\n:0\r\n"), ("SREM s a c", ":1\r\n"), ("SMEMBERS s", .bulks("b")),
            ("SREM s b x y", ":1\r\n"), ("EXISTS s", ":0\r\n"), ("SREM s b", ":0\r\n"), ("SCARD s", ":0\r\n"),
            ("SMEMBERS s", "*0\r\n"), ("SISMEMBER s b", ":0\r\n"), ("SADD n 3 -1 2", ":3\r\n"),
            ("SMEMBERS n", .bulks("-1", "2", "3")), ("SADD n 02", ":1\r\n"), ("SISMEMBER n 2", ":1\r\n"),
            ("SREM n 2", ":1\r\n"), ("SISMEMBER n 02", ":1\r\n"), ("TYPE n", "+set\r\n"),
        ])
    }

    @Test func repliesAreSetsInRESP3() {
        let node = NodeHarness()
        node("HELLO 3")
        node("SADD s 1 2")
        node("SADD t 2")
        for (line, reply) in [
            ("SMEMBERS s", "~2\r\n$1\r\n1\r\n$1\r\n2\r\n"), ("SINTER s t", "~1\r\n$1\r\n2\r\n"),
            ("SDIFF t s", "~0\r\n"),
            ("SUNION t none", "~1\r\n$1\r\n2\r\n"), ("SMEMBERS none", "~0\r\n"), ("SPOP none", "_\r\n"),
            ("SPOP none 2", "~0\r\n"), ("SPOP s 0", "~0\r\n"), ("SRANDMEMBER none", "_\r\n"),
            ("SRANDMEMBER none 2", "*0\r\n"), ("SRANDMEMBER s 5", "*2\r\n$1\r\n1\r\n$1\r\n2\r\n"),
            ("SPOP s 5", "~2\r\n$1\r\n1\r\n$1\r\n2\r\n"), ("SPOP t 1", "~1\r\n$1\r\n2\r\n"),
        ] { #expect(node(line) == reply, "\(line)") }
    }

    @Test(
        arguments: [
            ("SADD k m", nil), ("SREM k m", nil), ("SCARD k", nil), ("SISMEMBER k m", nil), ("SMISMEMBER k m", nil),
            ("SMEMBERS k", nil), ("SPOP k", nil), ("SPOP k 0", nil), ("SRANDMEMBER k", nil), ("SRANDMEMBER k 1", nil),
            ("SSCAN k 0", nil), ("SINTER none k", nil), ("SUNION s k", nil), ("SDIFF s k", nil), ("SMOVE k s a", nil),
            ("SMOVE s k a", nil), ("SINTERSTORE d none k", nil), ("SUNIONSTORE d k", nil), ("SDIFFSTORE d none k", nil),
            ("SINTERCARD 2 none k", nil),
            ("SPOP s x", "value is out of range, must be positive"),
            ("SPOP s -1", "value is out of range, must be positive"),
            ("SPOP k -1", "value is out of range, must be positive"), ("SPOP s 1 1", "syntax error"),
            ("SRANDMEMBER s x", "value is not an integer or out of range"), ("SRANDMEMBER s 1 1", "syntax error"),
            (
                "SRANDMEMBER s -9223372036854775808",
                "value is out of range, value must between -9223372036854775807 and 9223372036854775807"
            ),
            ("SINTERCARD 0 s", "numkeys should be greater than 0"),
            ("SINTERCARD x s", "numkeys should be greater than 0"),
            ("SINTERCARD 2 s", "Number of keys can't be greater than number of args"),
            ("SINTERCARD 1 s LIMIT", "syntax error"), ("SINTERCARD 1 s x 1", "syntax error"),
            ("SINTERCARD 1 s LIMIT -1", "LIMIT can't be negative"),
            ("SINTERCARD 1 s LIMIT x", "LIMIT can't be negative"),
            ("SSCAN s x", "invalid cursor"), ("SSCAN s 0 TYPE set", "syntax error"),
            ("SSCAN s 0 COUNT 0", "syntax error"),
        ] as [(String, String?)])
    func mistakesAreNamedAsByRedis(line: String, message: String?) {
        let node = NodeHarness()
        node("SET k text")
        node("SADD s a")
        let error =
            message.map { "-ERR \($0)\r\n" } ?? "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
        #expect(node(line) == error)
        #expect(node("SMEMBERS s") == .bulks("a"))
        #expect(node("EXISTS d") == ":0\r\n")
    }

    @Test func aMemberMoves() {
        tell([
            ("SADD a 1 x", ":2\r\n"), ("SADD b 2", ":1\r\n"), ("SMOVE a b x", ":1\r\n"), ("SMOVE a b x", ":0\r\n"),
            ("SISMEMBER b x", ":1\r\n"), ("SMOVE a a 1", ":1\r\n"), ("SMOVE a a 2", ":0\r\n"),
            ("SMOVE a c 1", ":1\r\n"),
            ("EXISTS a", ":0\r\n"), ("SMEMBERS c", .bulks("1")), ("SMOVE none b 1", ":0\r\n"), ("SADD b 1", ":1\r\n"),
            ("SMOVE c b 1", ":1\r\n"), ("EXISTS c", ":0\r\n"), ("SCARD b", ":3\r\n"),
        ])
    }

    @Test func algebraReadsMissingKeysAsEmpty() {
        let node = NodeHarness()
        node("SADD a 1 2 3 x y")
        node("SADD b 2 x z")
        node("SADD c x")
        for (line, expected) in [
            ("SINTER a b", ["2", "x"]), ("SINTER a b c a", ["x"]), ("SINTER a none", []),
            ("SUNION c b none", ["2", "x", "z"]),
            ("SDIFF a b", ["1", "3", "y"]), ("SDIFF none a", []), ("SDIFF a none", ["1", "2", "3", "x", "y"]),
            ("SDIFF a b a", []), ("SINTER a", ["1", "2", "3", "x", "y"]), ("SUNION a a", ["1", "2", "3", "x", "y"]),
        ] { #expect(members(node(line)) == expected, "\(line)") }
        for (line, reply) in [
            ("SINTERCARD 2 a b", ":2\r\n"), ("SINTERCARD 2 a b LIMIT 1", ":1\r\n"),
            ("SINTERCARD 1 a limit 0", ":5\r\n"),
            ("SINTERCARD 2 a none LIMIT 3 LIMIT 2", ":0\r\n"), ("SUNIONSTORE d a b", ":6\r\n"), ("SCARD d", ":6\r\n"),
            ("SINTERSTORE d a b", ":2\r\n"), ("SCARD d", ":2\r\n"), ("SDIFFSTORE a a b", ":3\r\n"),
            ("SCARD a", ":3\r\n"),
            ("SET d text", "+OK\r\n"), ("SINTERSTORE d a none", ":0\r\n"), ("EXISTS d", ":0\r\n"),
            ("SDIFFSTORE d none a", ":0\r\n"), ("SUNIONSTORE d none", ":0\r\n"), ("EXISTS d", ":0\r\n"),
        ] { #expect(node(line) == reply, "\(line)") }
    }

    @Test(arguments: ["ints", "strings", "many"], [1, 3, 30, 90, 99, 100, 200])
    func popsTakeAsManyAsAreAskedFor(kind: String, count: Int) {
        let node = NodeHarness()
        let all = (0..<100).map { kind == "ints" ? "\($0)" : kind == "strings" ? "m\($0)" : "member \($0)" }
        if kind == "many" { node("CONFIG SET set-max-listpack-entries 10") }
        for member in all { node("SADD s '\(member)'") }
        let popped = members(node("SPOP s \(count)"))
        let left = members(node("SMEMBERS s"))
        #expect(popped.count == min(count, 100))
        #expect((popped + left).sorted() == all.sorted())
        #expect(node("EXISTS s") == (count < 100 ? ":1\r\n" : ":0\r\n"))
    }

    @Test(arguments: ["ints", "strings", "many"], [1, 2, 20, 33, 34, 90, 100, 200, -1, -50])
    func drawsLeaveTheSetAlone(kind: String, count: Int) {
        let node = NodeHarness()
        let all = (0..<100).map { kind == "ints" ? "\($0)" : kind == "strings" ? "m\($0)" : "member \($0)" }
        if kind == "many" { node("CONFIG SET set-max-listpack-entries 10") }
        for member in all { node("SADD s '\(member)'") }
        let drawn = members(node("SRANDMEMBER s \(count)"))
        #expect(drawn.count == (count < 0 ? -count : min(count, 100)))
        if count > 0 { #expect(Set(drawn).count == drawn.count) }
        #expect(Set(drawn).isSubset(of: all))
        #expect(members(node("SMEMBERS s")) == all.sorted())
    }

    @Test func aDrawOfBillionsIsRefused() {
        let node = NodeHarness()
        node("SADD s a")
        #expect(node("SRANDMEMBER s -9223372036854775807").hasPrefix("-ERR value is out of range"))
        #expect(node("SRANDMEMBER s 9223372036854775807") == .bulks("a"))
        #expect(node("SPOP s 9223372036854775807") == .bulks("a"))
    }

    @Test(arguments: [
        ("SADD s a", []), ("SADD s a c", ["0 SADD s a c"]), ("SREM s x", []), ("SREM s a x", ["0 SREM s a x"]),
        ("SMOVE s n b", ["0 SMOVE s n b"]), ("SMOVE s n x", []), ("SMOVE s s a", []), ("SPOP n", ["0 SREM n 7"]),
        ("SPOP n 5", ["0 DEL n"]), ("SPOP s 2", ["0 DEL s"]), ("SPOP s 0", []), ("SPOP none", []), ("SPOP none 3", []),
        ("SRANDMEMBER s", []), ("SUNIONSTORE d s n", ["0 SUNIONSTORE d s n"]), ("SINTERSTORE d s n", []),
        ("SINTERSTORE n s n", ["0 SINTERSTORE n s n"]),
    ])
    func whatReplicasGetIsExact(line: String, propagated: [String]) {
        let node = NodeHarness()
        node("SADD s a b")
        node("SADD n 7")
        #expect(node.propagation(of: line) == propagated, "\(line)")
    }

    @Test(arguments: [3, 95, 1500, 1990])
    func replicasAreToldWhatWasPopped(count: Int) {
        let node = NodeHarness()
        for number in 0..<2000 { node("SADD s m\(number)") }
        let log = node.propagation(of: "SPOP s \(count)")
        #expect(log.count == (count + 1023) / 1024)
        #expect(log.allSatisfy { $0.hasPrefix("0 SREM s ") })
        let removed = log.flatMap { $0.split(separator: " ").dropFirst(3) }
        #expect(Set(removed).count == count)
        let left = members(node("SMEMBERS s"))
        #expect(left.count == 2000 - count)
        #expect(Set(left).isDisjoint(with: removed.map(String.init)))
    }

    @Test func everyMemberThatStaysIsScanned() {
        let node = NodeHarness()
        for number in 0..<1000 { node("SADD s member\(number)") }
        var (cursor, seen, calls) = ("0", Set<String>(), 0)
        repeat {
            let parts = node("SSCAN s \(cursor) COUNT 20").split(separator: "\r\n", maxSplits: 3)
            cursor = String(parts[2])
            seen.formUnion(members(String(parts[3])))
            for number in 1000..<1200 { node("S\(calls % 2 == 0 ? "ADD" : "REM") s member\(number)") }
            calls += 1
        } while cursor != "0"
        #expect(calls > 10)
        #expect((0..<1000).allSatisfy { seen.contains("member\($0)") })
        node("SADD small 1 2 30")
        #expect(node("SSCAN small 5") == "*2\r\n$1\r\n0\r\n*3\r\n$1\r\n1\r\n$1\r\n2\r\n$2\r\n30\r\n")
        #expect(node("SSCAN small 0 MATCH 3*") == "*2\r\n$1\r\n0\r\n*1\r\n$2\r\n30\r\n")
        #expect(node("SSCAN none 0") == "*2\r\n$1\r\n0\r\n*0\r\n")
        #expect(node("SSCAN none 0 nonsense") == "*2\r\n$1\r\n0\r\n*0\r\n")
    }

    @Test func genericCommandsKnowSets() {
        let node = NodeHarness()
        let large = (0..<300).map { "m\($0)" }
        node("SADD l " + large.joined(separator: " "))
        node("SADD s a b")
        node("SADD i 1 2")
        for (line, reply) in [
            ("OBJECT ENCODING i", String.bulk("intset")), ("OBJECT ENCODING s", .bulk("hashtable")),
            ("OBJECT ENCODING l", .bulk("hashtable")), ("OBJECT REFCOUNT l", ":1\r\n"), ("OBJECT IDLETIME l", ":0\r\n"),
            ("TYPE l", "+set\r\n"), ("COPY l c", ":1\r\n"), ("SCARD c", ":300\r\n"), ("SREM c m1", ":1\r\n"),
            ("SCARD l", ":300\r\n"), ("RENAME c d", "+OK\r\n"), ("SCARD d", ":299\r\n"), ("MOVE d 1", ":1\r\n"),
            ("EXISTS d", ":0\r\n"), ("SELECT 1", "+OK\r\n"), ("SCARD d", ":299\r\n"), ("SISMEMBER d m5", ":1\r\n"),
            ("FLUSHDB", "+OK\r\n"), ("SELECT 0", "+OK\r\n"), ("COPY s t DB 2", ":1\r\n"), ("EXPIRE l 100", ":1\r\n"),
            ("SCARD l", ":300\r\n"), ("PERSIST l", ":1\r\n"), ("TOUCH l s i", ":3\r\n"), ("UNLINK l", ":1\r\n"),
            ("RENAMENX s i", ":0\r\n"), ("RENAME s i", "+OK\r\n"), ("SCARD i", ":2\r\n"), ("SET i x", "+OK\r\n"),
            ("GET i", .bulk("x")),
            ("SADD i y", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("SCAN 0 TYPE set", "*2\r\n$1\r\n0\r\n*0\r\n"), ("RANDOMKEY", .bulk("i")),
        ] { #expect(node(line) == reply, "\(line)") }
    }

    @Test("What is drawn with repetition ends where a reply becomes too long, and the reply is taken back")
    func draws() throws {
        var reply = ReplyBuffer()
        reply.simple("before")
        var draws = try Draws(-1000, reply, bytesMax: 100)
        reply.array(1000)
        var count = 0
        #expect(throws: ReplyError.self) {
            while try draws.next(&reply) {
                reply.bulk("0123456789" as StaticString)
                count += 1
            }
        }
        #expect(count == 6)
        #expect(String(decoding: reply.bytes, as: UTF8.self) == "+before\r\n")
        let node = NodeHarness()
        node("SADD s a")
        node("ZADD z 1 a")
        for line in ["SRANDMEMBER s", "ZRANDMEMBER z"] {
            #expect(node("\(line) -134217729") == "-ERR value is out of range\r\n")
            #expect(node("\(line)x -134217729") == "*0\r\n")
        }
    }
}
