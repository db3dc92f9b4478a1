import MartletBase
import MartletRESP
import Testing

@testable import MartletServer

@Suite struct HashCommandTests {
    private func tell(_ lines: [(String, String)]) {
        let node = NodeHarness()
        for (line, reply) in lines { #expect(node(line) == reply, "\(line)") }
    }

    @Test func fieldsAreSetReadAndDeleted() {
        tell([
            ("HSET h a 1 b two a 3", ":2\r\n"), ("HGET h a", .bulk("3")), ("HGET h none", "$-1\r\n"),
            ("HGET none a", "$-1\r\n"), ("HMGET h b none a", "*3\r\n$3\r\ntwo\r\n$-1\r\n$1\r\n3\r\n"),
            ("HMGET none a b", "*2\r\n$-1\r\n$-1\r\n"), ("HLEN h", ":2\r\n"), ("HLEN none", ":0\r\n"),
            ("HGETALL h", .bulks("a", "3", "b", "two")), ("HKEYS h", .bulks("a", "b")), ("HVALS h", .bulks("3", "two")),
            ("HGETALL none", "*0\r\n"), ("HKEYS none", "*0\r\n"), ("HVALS none", "*0\r\n"),
            ("HEXISTS h a", ":1\r\n"), ("HEXISTS h x", ":0\r\n"), ("HEXISTS none x", ":0\r\n"),
            ("HSTRLEN h b", ":3\r\n"), ("HSTRLEN h a", ":1\r\n"), ("HSTRLEN h x", ":0\r\n"),
            ("HSETNX h a 9", ":0\r\n"), ("HSETNX h c 9", ":1\r\n"), ("HMSET h d 1 e 2", "+OK\r\n"),
            ("HDEL h a x b", ":2\r\n"), ("HDEL none x", ":0\r\n"), ("HDEL h c d e", ":3\r\n"), ("EXISTS h", ":0\r\n"),
        ])
    }

    @Test func repliesOfTheNewProtocolAreMaps() {
        let node = NodeHarness()
        node("HELLO 3")
        node("HSET h a 1 b 2")
        #expect(node("HGETALL h") == "%2\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n")
        #expect(node("HGETALL none") == "%0\r\n")
        #expect(node("HRANDFIELD h 5 WITHVALUES") == "*2\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n*2\r\n$1\r\nb\r\n$1\r\n2\r\n")
        #expect(node("HRANDFIELD none") == "_\r\n")
    }

    @Test func fieldsAreCounters() {
        tell([
            ("HINCRBY h a 5", ":5\r\n"), ("HINCRBY h a -7", ":-2\r\n"), ("HSET h s x n 9223372036854775807", ":2\r\n"),
            ("HINCRBY h s 1", "-ERR hash value is not an integer\r\n"),
            ("HINCRBY h n 1", "-ERR increment or decrement would overflow\r\n"),
            ("HINCRBY h a x", "-ERR value is not an integer or out of range\r\n"),
            ("HINCRBYFLOAT h f 1.5", .bulk("1.5")), ("HINCRBYFLOAT h f 0.1", .bulk("1.6")),
            ("HINCRBYFLOAT h a 0.5", .bulk("-1.5")), ("HINCRBYFLOAT h s 1", "-ERR hash value is not a float\r\n"),
            ("HINCRBYFLOAT h f x", "-ERR value is not a valid float\r\n"),
            ("HINCRBYFLOAT h f inf", "-ERR value is NaN or Infinity\r\n"),
        ])
    }

    @Test(arguments: [
        ("HSET h a", "wrong number of arguments for 'hset' command"),
        ("HSET h a 1 b", "wrong number of arguments for 'hset' command"),
        ("HMSET h a 1 b", "wrong number of arguments for 'hmset' command"),
        ("HRANDFIELD h x", "value is not an integer or out of range"),
        ("HRANDFIELD h 1 WITHVALUE", "syntax error"), ("HRANDFIELD h 1 WITHVALUES x", "syntax error"),
        ("HRANDFIELD h -9223372036854775808", Self.rangeMessage),
        ("HRANDFIELD h 9223372036854775807 WITHVALUES", "value is out of range"),
        ("HRANDFIELD h -9223372036854775807 WITHVALUES", "value is out of range"),
        ("HRANDFIELD h -9223372036854775807 WITHVALUE", "syntax error"),
        ("HRANDFIELD h -134217729", "value is out of range"),
        ("HSCAN h x", "invalid cursor"), ("HSCAN h 0 COUNT 0", "syntax error"), ("HSCAN h 0 COUNT", "syntax error"),
        ("HSCAN h 0 TYPE hash", "syntax error"), ("HSCAN h 0 NOSCORES", "NOSCORES option can only be used in ZSCAN"),
    ])
    func mistakesAreNamedAsByRedis(line: String, message: String) {
        let node = NodeHarness()
        node("HSET h a 1")
        #expect(node(line) == "-ERR \(message)\r\n")
    }

    private static let rangeMessage =
        "value is out of range, value must between -9223372036854775807 and 9223372036854775807"

    @Test(arguments: [
        "HSET s a 1", "HSETNX s a 1", "HMSET s a 1", "HGET s a", "HMGET s a", "HGETALL s", "HKEYS s", "HVALS s",
        "HLEN s",
        "HDEL s a", "HEXISTS s a", "HSTRLEN s a", "HINCRBY s a 1", "HINCRBYFLOAT s a 1", "HRANDFIELD s",
        "HRANDFIELD s 1", "HSCAN s 0", "HEXPIRE s 1 FIELDS 1 a", "HTTL s FIELDS 1 a", "HPERSIST s FIELDS 1 a",
        "HGETEX s FIELDS 1 a", "HSETEX s FIELDS 1 a 1", "HGETDEL s FIELDS 1 a",
    ])
    func otherTypesAreRefused(line: String) {
        let node = NodeHarness()
        node("SET s 1")
        #expect(node(line) == "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n")
        node("HSET h a 1")
        #expect(node("GET h").hasPrefix("-WRONGTYPE"))
        #expect(node("TYPE h") == "+hash\r\n")
    }

    @Test(
        "Replicas get what was done",
        arguments: [
            ("HSET h a 1 b 2", ["0 HSET h a 1 b 2"]), ("HSETNX h a 2", []), ("HSETNX h z 2", ["0 HSETNX h z 2"]),
            ("HINCRBY h a 5", ["0 HINCRBY h a 5"]), ("HINCRBYFLOAT h a 0.1", ["0 HSET h a 1.1"]), ("HDEL h x", []),
            ("HDEL h a", ["0 HDEL h a"]), ("HGETDEL h FIELDS 2 a x", ["0 HDEL h a"]), ("HGETALL h", []),
        ])
    func propagation(line: String, log: [String]) {
        let node = NodeHarness()
        node("HSET h a 1 c 3")
        #expect(node.propagation(of: line) == log)
    }

    private func scan(_ node: NodeHarness, _ line: String) -> (cursor: String, elements: [String]) {
        let lines = node(line).split(separator: "\r\n", omittingEmptySubsequences: false)
        return (String(lines[2]), stride(from: 5, to: lines.count - 1, by: 2).map { String(lines[$0]) })
    }

    @Test func aSmallHashIsScannedAtOnceALargeOneInParts() {
        let node = NodeHarness()
        node("HSET h a 1 b 2 ab 3")
        #expect(scan(node, "HSCAN h 0 COUNT 1") == ("0", ["a", "1", "b", "2", "ab", "3"]))
        #expect(scan(node, "HSCAN h 0 MATCH a*") == ("0", ["a", "1", "ab", "3"]))
        #expect(scan(node, "HSCAN h 0 NOVALUES") == ("0", ["a", "b", "ab"]))
        #expect(node("HSCAN none 0 COUNT 0") == "*2\r\n$1\r\n0\r\n*0\r\n")
        for number in 0..<2000 { node("HSET large field:\(number) \(number)") }
        for options in ["", "COUNT 100", "MATCH field:1*", "NOVALUES"] {
            var (cursor, found, calls) = ("0", [String](), 0)
            repeat {
                let (next, elements) = scan(node, "HSCAN large \(cursor) \(options)")
                found += elements
                cursor = next
                calls += 1
            } while cursor != "0"
            let expected = (0..<2000).filter { options.hasPrefix("MATCH") ? "\($0)".hasPrefix("1") : true }.flatMap {
                options == "NOVALUES" ? ["field:\($0)"] : ["field:\($0)", "\($0)"]
            }
            #expect(found.sorted() == expected.sorted(), "\(options)")
            #expect(calls > 10)
        }
    }

    @Test func randomFieldsAreFieldsAndDifferentUnlessTheyMayRepeat() {
        for count in [10, 3000] {
            let node = NodeHarness()
            for number in 0..<count { node("HSET h f\(number) v\(number)") }
            func fields(_ line: String) -> [String] {
                let lines = node(line).split(separator: "\r\n")
                return stride(from: 2, to: lines.count, by: 2).map { String(lines[$0]) }
            }
            #expect(node("HRANDFIELD h").contains("f"))
            for wanted in [1, 3, count / 2, count - 1, count, count + 5] {
                let found = fields("HRANDFIELD h \(wanted)")
                #expect(found.count == min(wanted, count))
                #expect(Set(found).count == found.count)
                let pairs = fields("HRANDFIELD h \(wanted) WITHVALUES")
                #expect(pairs.count == 2 * min(wanted, count))
                for index in stride(from: 0, to: pairs.count, by: 2) {
                    #expect(pairs[index].dropFirst() == pairs[index + 1].dropFirst())
                }
            }
            #expect(fields("HRANDFIELD h -50").count == 50)
            #expect(fields("HRANDFIELD h -50 WITHVALUES").count == 100)
            #expect(node("HRANDFIELD h 0") == "*0\r\n")
            #expect(node("HRANDFIELD none 3") == "*0\r\n")
            #expect(node("HRANDFIELD none") == "$-1\r\n")
        }
    }

    @Test func encodingsFollowTheDirectives() {
        let node = NodeHarness()
        node("HSET h a 1")
        #expect(node("OBJECT ENCODING h") == .bulk("listpack"))
        node("HSET h b \(String(repeating: "x", count: 65))")
        #expect(node("OBJECT ENCODING h") == .bulk("hashtable"))
        node("CONFIG SET hash-max-listpack-entries 2")
        node("HSET i a 1 b 2")
        #expect(node("OBJECT ENCODING i") == .bulk("listpack"))
        node("HSET i c 3")
        #expect(node("OBJECT ENCODING i") == .bulk("hashtable"))
    }

    @Test("Copying, renaming, moving and reloading keep a hash", arguments: [3, 1000])
    func hashesMove(count: Int) {
        let node = NodeHarness()
        for number in 0..<count { node("HSET h f\(number) \(number % 3 == 0 ? "\(number)" : "value \(number)")") }
        let digest = node("DEBUG DIGEST-VALUE h")
        #expect(node("COPY h copy") == ":1\r\n")
        #expect(node("COPY h other DB 3") == ":1\r\n")
        node("HDEL h f0")
        node("RENAME copy renamed")
        #expect(node("DEBUG DIGEST-VALUE renamed") == digest)
        #expect(node("MOVE renamed 5") == ":1\r\n")
        node("SELECT 5")
        #expect(node("DEBUG DIGEST-VALUE renamed") == digest)
        #expect(node("DEBUG RELOAD") == "+OK\r\n")
        #expect(node("DEBUG DIGEST-VALUE renamed") == digest)
        node("SELECT 3")
        #expect(node("DEBUG DIGEST-VALUE other") == digest)
    }
}
