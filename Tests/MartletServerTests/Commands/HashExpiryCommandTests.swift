import MartletBase
import MartletKeyspace
import MartletRESP
import Testing

@testable import MartletServer

/// Fields of hashes that go away, by the rules of Valkey 9.
@Suite struct HashExpiryCommandTests {
    private static let now: Int64 = 1_700_000_000_000
    private static let numbersMessage = "numfields should be greater than 0 and match the provided number of fields"

    private func tell(_ lines: [(String, String)]) {
        let node = NodeHarness()
        node("HSET h a 1 b 2 c 3")
        for (line, reply) in lines { #expect(node(line) == reply, "\(line)") }
    }

    @Test func timesAreSetToldAndTakenAway() {
        tell([
            ("HEXPIRE h 100 FIELDS 2 a x", "*2\r\n:1\r\n:-2\r\n"),
            ("HTTL h FIELDS 3 a b x", "*3\r\n:100\r\n:-1\r\n:-2\r\n"),
            ("HPTTL h FIELDS 1 a", "*1\r\n:100000\r\n"), ("HEXPIRETIME h FIELDS 1 a", "*1\r\n:1700000100\r\n"),
            ("HPEXPIRETIME h FIELDS 1 a", "*1\r\n:1700000100000\r\n"),
            ("HPEXPIRE h 1499 FIELDS 1 b", "*1\r\n:1\r\n"), ("HTTL h FIELDS 1 b", "*1\r\n:1\r\n"),
            ("HEXPIREAT h 1700000050 FIELDS 1 b", "*1\r\n:1\r\n"),
            ("HPEXPIREAT h 1700000060500 FIELDS 1 c", "*1\r\n:1\r\n"),
            ("HTTL h FIELDS 2 b c", "*2\r\n:50\r\n:61\r\n"),
            ("HPERSIST h FIELDS 3 a x a", "*3\r\n:1\r\n:-2\r\n:-1\r\n"), ("HTTL h FIELDS 1 a", "*1\r\n:-1\r\n"),
            ("HTTL none FIELDS 1 a", "*1\r\n:-2\r\n"), ("HEXPIRE none 1 FIELDS 2 a b", "*2\r\n:-2\r\n:-2\r\n"),
            ("HPERSIST none FIELDS 1 a", "*1\r\n:-2\r\n"), ("OBJECT ENCODING h", .bulk("hashtable")),
        ])
    }

    @Test func conditionsDecideByTheTimeThatIsThere() {
        tell([
            ("HEXPIRE h 100 XX FIELDS 1 a", "*1\r\n:0\r\n"), ("HEXPIRE h 100 GT FIELDS 1 a", "*1\r\n:0\r\n"),
            ("OBJECT ENCODING h", .bulk("listpack")), ("HEXPIRE h 100 NX FIELDS 1 a", "*1\r\n:1\r\n"),
            ("HEXPIRE h 100 NX FIELDS 1 a", "*1\r\n:0\r\n"), ("HEXPIRE h 99 GT FIELDS 1 a", "*1\r\n:0\r\n"),
            ("HEXPIRE h 101 gt FIELDS 1 a", "*1\r\n:1\r\n"), ("HEXPIRE h 102 LT FIELDS 2 a b", "*2\r\n:0\r\n:1\r\n"),
            ("HEXPIRE h 5 XX FIELDS 2 a c", "*2\r\n:1\r\n:0\r\n"),
            ("HTTL h FIELDS 3 a b c", "*3\r\n:5\r\n:102\r\n:-1\r\n"),
        ])
    }

    @Test func aTimeThatHasPassedDeletes() {
        tell([
            ("HEXPIRE h 0 FIELDS 2 a x", "*2\r\n:2\r\n:-2\r\n"), ("HLEN h", ":2\r\n"),
            ("HEXPIREAT h 1 FIELDS 1 b", "*1\r\n:2\r\n"), ("HSETEX h EX 0 FIELDS 2 c 1 d 2", ":1\r\n"),
            ("EXISTS h", ":0\r\n"), ("HSETEX h PXAT 1 FIELDS 1 c 1", ":1\r\n"), ("EXISTS h", ":0\r\n"),
            ("HSET h a 1", ":1\r\n"), ("HSETEX h PXAT 1 FIELDS 1 a 2", ":1\r\n"), ("EXISTS h", ":0\r\n"),
            ("HSET h a 1", ":1\r\n"), ("HGETEX h EX 0 FIELDS 2 a b", "*2\r\n$1\r\n1\r\n$-1\r\n"),
            ("EXISTS h", ":0\r\n"),
        ])
    }

    @Test func aConditionKeepsAFieldFromATimeThatHasPassed() {
        tell([
            ("HEXPIRE h 100 FIELDS 1 a", "*1\r\n:1\r\n"), ("HEXPIREAT h 1 NX FIELDS 2 a x", "*2\r\n:0\r\n:-2\r\n"),
            ("HEXPIRE h 0 GT FIELDS 2 a b", "*2\r\n:0\r\n:0\r\n"), ("HEXPIRE h 0 XX FIELDS 1 b", "*1\r\n:0\r\n"),
            ("HLEN h", ":3\r\n"), ("HEXPIRE h 0 XX FIELDS 1 a", "*1\r\n:2\r\n"),
            ("HEXPIRE h 0 LT FIELDS 2 b b", "*2\r\n:2\r\n:-2\r\n"), ("HLEN h", ":1\r\n"),
        ])
    }

    @Test func valuesAreReadAndSetWithTimes() {
        tell([
            ("HGETEX h FIELDS 2 a x", "*2\r\n$1\r\n1\r\n$-1\r\n"),
            ("HGETEX h EX 10 FIELDS 2 a x", "*2\r\n$1\r\n1\r\n$-1\r\n"),
            ("HTTL h FIELDS 2 a b", "*2\r\n:10\r\n:-1\r\n"), ("HGETEX h PERSIST FIELDS 2 a b", .bulks("1", "2")),
            ("HTTL h FIELDS 1 a", "*1\r\n:-1\r\n"), ("HGETEX none EX 1 FIELDS 1 a", "*1\r\n$-1\r\n"),
            ("HSETEX h EX 10 FIELDS 2 a 7 d 8", ":1\r\n"), ("HMGET h a d", .bulks("7", "8")),
            ("HTTL h FIELDS 2 a d", "*2\r\n:10\r\n:10\r\n"), ("HSETEX h KEEPTTL FIELDS 2 a 9 b 9", ":1\r\n"),
            ("HTTL h FIELDS 2 a b", "*2\r\n:10\r\n:-1\r\n"),
            ("HSETEX h EX 20 ex 30 FIELDS 1 b 9", ":1\r\n"), ("HTTL h FIELDS 1 b", "*1\r\n:30\r\n"),
            ("HGETEX h PX 1 PX 7000 FIELDS 1 b", "*1\r\n$1\r\n9\r\n"), ("HTTL h FIELDS 1 b", "*1\r\n:7\r\n"),
            ("HSETEX h FIELDS 1 a 1", ":1\r\n"),
            ("HTTL h FIELDS 1 a", "*1\r\n:-1\r\n"), ("HSETEX h FNX FIELDS 2 a 1 new 1", ":0\r\n"),
            ("HEXISTS h new", ":0\r\n"),
            ("HSETEX h FXX FIELDS 2 a 1 new 1", ":0\r\n"), ("HSETEX h FXX FIELDS 1 a 5", ":1\r\n"),
            ("HSETEX h FNX FIELDS 1 new 5", ":1\r\n"), ("HSETEX h NX FIELDS 1 a 6", ":0\r\n"),
            ("HSETEX none XX FIELDS 1 a 6", ":0\r\n"), ("HSETEX none FXX FIELDS 1 a 6", ":0\r\n"),
            ("EXISTS none", ":0\r\n"), ("HSETEX other NX FNX PX 5 FIELDS 1 a 6", ":1\r\n"),
            ("HGETDEL h FIELDS 3 a x a", "*3\r\n$1\r\n5\r\n$-1\r\n$-1\r\n"),
            ("HGETDEL h FIELDS 4 b c d new", .bulks("9", "3", "8", "5")),
            ("EXISTS h", ":0\r\n"), ("HGETDEL h FIELDS 1 a", "*1\r\n$-1\r\n"),
        ])
    }

    @Test(arguments: [
        ("HEXPIRE h 1 FIELDS 2 a", numbersMessage), ("HEXPIRE h 1 FIELDS 0 a", numbersMessage),
        ("HEXPIRE h 1 a b c", numbersMessage), ("HEXPIRE h 1 FIELDS x a", "value is not an integer or out of range"),
        ("HEXPIRE h x FIELDS 1 a", "value is not an integer or out of range"),
        ("HEXPIRE h -1 FIELDS 1 a", "invalid expire time in 'hexpire' command"),
        ("HPEXPIRE h 9223372036854775807 FIELDS 1 a", "invalid expire time in 'hpexpire' command"),
        ("HEXPIRE h 1 FOO FIELDS 1 a", "Unsupported option FOO"),
        ("HEXPIRE h 1 NX XX FIELDS 1 a", "NX and XX, GT or LT options at the same time are not compatible"),
        ("HEXPIRE h 1 GT LT FIELDS 1 a", "GT and LT options at the same time are not compatible"),
        ("HTTL h FIELDS 2 a", "syntax error"), ("HPERSIST h FIELDS 2 a", numbersMessage),
        ("HGETEX h EX FIELDS 1 a", "syntax error"), ("HGETEX h EX 1 PERSIST FIELDS 1 a", "syntax error"),
        ("HGETEX h KEEPTTL FIELDS 1 a", "syntax error"),
        ("HGETEX h EX -1 FIELDS 1 a", "invalid expire time in 'hgetex' command"),
        ("HSETEX h FNX FXX FIELDS 1 a 1", "syntax error"), ("HSETEX h EX 1 PX 1 FIELDS 1 a 1", "syntax error"),
        ("HSETEX h FIELDS 1 a 1 b", numbersMessage), ("HSETEX h FIELDS 2 a 1", numbersMessage),
        ("HTTL h FIELD 1 a", "syntax error"), ("HPERSIST h x y a", "syntax error"),
        ("HGETDEL h FIELD 1 a", "syntax error"), ("HSETEX h PERSIST FIELDS 1 a 1", "syntax error"),
        ("HGETDEL h FIELDS 3 a b", numbersMessage),
    ])
    func mistakesAreNamedAsByValkey(line: String, message: String) {
        let node = NodeHarness()
        node("HSET h a 1 b 2")
        #expect(node(line) == "-ERR \(message)\r\n")
        #expect(node("OBJECT ENCODING h") == .bulk("listpack"))
    }

    @Test func whatIsOverIsHiddenUntilTheCycleDeletesIt() {
        let node = NodeHarness()
        node("HSET h a 1 b 2 c 3")
        node("HPEXPIRE h 10 FIELDS 2 a b")
        node.advance(milliseconds: 11)
        #expect(node("HGET h a") == "$-1\r\n")
        #expect(node("HMGET h a c") == "*2\r\n$-1\r\n$1\r\n3\r\n")
        #expect(node("HGETALL h") == .bulks("c", "3"))
        #expect(node("HKEYS h") == .bulks("c"))
        #expect(node("HVALS h") == .bulks("3"))
        #expect(node("HEXISTS h a") == ":0\r\n")
        #expect(node("HSTRLEN h a") == ":0\r\n")
        #expect(node("HTTL h FIELDS 1 a") == "*1\r\n:-2\r\n")
        #expect(node("HSCAN h 0") == "*2\r\n$1\r\n0\r\n" + .bulks("c", "3"))
        #expect(node("HRANDFIELD h 5") == .bulks("c"))
        #expect(node("HRANDFIELD h") == .bulk("c"))
        #expect(node("HRANDFIELD h -2") == .bulks("c", "c"))
        #expect(node("HDEL h a") == ":0\r\n")
        #expect(node("HLEN h") == ":3\r\n")
        node.node.cron()
        node.node.endTurn()
        #expect(node("HLEN h") == ":1\r\n")
        #expect(node("INFO stats").contains("expired_fields:2\r\n"))
    }

    @Test func aHashWhoseFieldsAreAllOverGoesAway() {
        let node = NodeHarness()
        for number in 0..<500 { node("HSETEX h\(number % 5) PX \(10 + number % 7) FIELDS 1 f\(number) v") }
        node("HSETEX h5 PX 100 FIELDS 1 f v")
        node("RENAME h4 renamed")
        node("COPY renamed copy")
        node("DEL h3")
        node.advance(milliseconds: 20)
        node.node.keyspace.propagation.isOn = true
        for _ in 0..<20 {
            node.node.cron()
            for _ in 0..<20 { node.node.endTurn() }
        }
        #expect(node("KEYS *") == .bulks("h5"))
        #expect(node("INFO stats").contains("expired_fields:500\r\n"))
    }

    @Test(
        "A command that goes by a field sees it gone, and so do replicas",
        arguments: [
            ("HSETNX h a 5", ":1\r\n", ["0 HDEL h a", "0 HSETNX h a 5"]),
            ("HINCRBY h a 5", ":5\r\n", ["0 HDEL h a", "0 HINCRBY h a 5"]),
            ("HINCRBYFLOAT h a 5", "$1\r\n5\r\n", ["0 HDEL h a", "0 HSET h a 5"]),
            ("HSET h a 5", ":1\r\n", ["0 HSET h a 5"]),
            (
                "HEXPIRE h 100 FIELDS 2 a b", "*2\r\n:-2\r\n:1\r\n",
                ["0 HDEL h a", "0 HPEXPIREAT h 1700000100011 FIELDS 1 b"]
            ),
            ("HGETDEL h FIELDS 1 a", "*1\r\n$-1\r\n", ["0 HDEL h a"]),
            ("HSETEX h KEEPTTL FIELDS 1 a 5", ":1\r\n", ["0 HDEL h a", "0 HSET h a 5"]),
        ])
    func commandsDeleteWhatTheyLookAt(line: String, reply: String, log: [String]) {
        for isLogged in [false, true] {
            let node = NodeHarness()
            node("HSET h a 1 b 2")
            node("HPEXPIRE h 10 FIELDS 1 a")
            node.advance(milliseconds: 11)
            if isLogged {
                #expect(node.propagation(of: line) == log)
            } else {
                #expect(node(line) == reply)
            }
        }
    }

    @Test(
        "Replicas get points in time, or the deletion",
        arguments: [
            ("HEXPIRE h 100 NX FIELDS 3 a b x", ["0 HPEXPIREAT h 1700000100000 FIELDS 1 b"]),
            ("HPEXPIRE h 100 FIELDS 1 b", ["0 HPEXPIREAT h 1700000000100 FIELDS 1 b"]), ("HEXPIRE h 5 FIELDS 1 x", []),
            ("HEXPIRE h 0 FIELDS 2 a x", ["0 HDEL h a"]), ("HPERSIST h FIELDS 2 a b", ["0 HPERSIST h FIELDS 1 a"]),
            ("HGETEX h FIELDS 1 a", []), ("HGETEX h EX 5 FIELDS 2 a x", ["0 HPEXPIREAT h 1700000005000 FIELDS 1 a"]),
            ("HGETEX h PERSIST FIELDS 2 a b", ["0 HPERSIST h FIELDS 1 a"]),
            ("HGETEX h EX 0 FIELDS 2 a x", ["0 HDEL h a"]),
            ("HSETEX h EX 5 FIELDS 1 a 1", ["0 HSETEX h PXAT 1700000005000 FIELDS 1 a 1"]),
            ("HSETEX h FNX XX FIELDS 1 z 1", ["0 HSET h z 1"]),
            ("HSETEX h FIELDS 2 a 1 b 3", ["0 HSET h a 1 b 3"]),
            ("HSETEX h XX KEEPTTL FIELDS 2 a 1 b 3", ["0 HSETEX h KEEPTTL FIELDS 2 a 1 b 3"]),
            ("HSETEX h KEEPTTL FIELDS 1 b 3", ["0 HSET h b 3"]),
            ("HSETEX other KEEPTTL FIELDS 1 a 1", ["0 HSET other a 1"]),
            ("HSETEX h EX 0 FIELDS 2 a 1 x 1", ["0 HDEL h a"]),
            ("HINCRBYFLOAT h a 1", ["0 HSETEX h KEEPTTL FIELDS 1 a 2"]),
        ])
    func propagation(line: String, log: [String]) {
        let node = NodeHarness()
        node("HSET h a 1 b 2")
        node("HEXPIRE h 50 FIELDS 1 a")
        #expect(node.propagation(of: line) == log)
    }

    @Test func counterFieldsKeepTheirTime() {
        let node = NodeHarness()
        node("HSETEX h EX 100 FIELDS 2 a 1 b 1")
        node("HINCRBY h a 5")
        node("HINCRBYFLOAT h b 0.5")
        #expect(node("HTTL h FIELDS 2 a b") == "*2\r\n:100\r\n:100\r\n")
        node("HSET h a 5")
        #expect(node("HTTL h FIELDS 1 a") == "*1\r\n:-1\r\n")
    }

    @Test func timesSurviveReloadingCopyingAndDumping() {
        let node = NodeHarness()
        node("HSETEX h PX 5000 FIELDS 2 a 1 b 1")
        node("HSET h c 1")
        node("COPY h copy")
        node("COPY h other DB 2")
        node("DEBUG RELOAD")
        for key in ["h", "copy"] {
            #expect(node("HPTTL \(key) FIELDS 3 a b c") == "*3\r\n:5000\r\n:5000\r\n:-1\r\n")
        }
        let reply = node.send([Array("DUMP".utf8), Array("h".utf8)])
        let payload = Array(reply[(reply.firstIndex(of: 10)! + 1)...].dropLast(2))
        #expect(payload.first == 22)
        #expect(
            node.send([Array("RESTORE".utf8), Array("restored".utf8), Array("0".utf8), payload])
                == Array("+OK\r\n".utf8))
        node.advance(milliseconds: 5001)
        node.node.cron()
        for _ in 0..<10 { node.node.endTurn() }
        #expect(node("HLEN restored") == ":1\r\n")
        node("SELECT 2")
        #expect(node("HLEN other") == ":1\r\n")
    }

    @Test func aReplicaHidesFieldsAndWaitsForItsPrimary() {
        let network = ReplicationNetwork(seed: 5, nodeCount: 2)
        network[1]("HSETEX before PX 1000 FIELDS 1 a 1")
        network[2]("REPLICAOF 127.0.0.1 1")
        network.advance(milliseconds: 500)
        network[1]("HSETEX after PX 400 FIELDS 2 a 1 b 2")
        network[1]("HSET after c 3")
        network.settle()
        #expect(network[2]("HPTTL before FIELDS 1 a") == network[1]("HPTTL before FIELDS 1 a"))
        #expect(network[1]("DEBUG SET-ACTIVE-EXPIRE 0") == "+OK\r\n")
        network.advance(milliseconds: 600)
        #expect(network[2]("HGETALL after") == .bulks("c", "3"))
        #expect(network[2]("HLEN after") == ":3\r\n")
        network[1]("DEBUG SET-ACTIVE-EXPIRE 1")
        network.advance(milliseconds: 500)
        #expect(network[2]("HLEN after") == ":1\r\n")
        #expect(network[2]("EXISTS before") == ":0\r\n")
        #expect(network[1]("DEBUG DIGEST") == network[2]("DEBUG DIGEST"))
    }
}
