import MartletKeyspace
import Testing

@testable import MartletServer

/// The harness' clock stands at second 1 700 000 000.
@Suite struct ExpiryCommandTests {
    @Test(
        "Times to live are set, asked for and removed as in Redis",
        arguments: [
            [("EXPIRE a 10", ":0"), ("TTL a", ":-2"), ("PTTL a", ":-2"), ("EXPIRETIME a", ":-2"), ("PERSIST a", ":0")],
            [("SET a 1", "+OK"), ("TTL a", ":-1"), ("PEXPIRETIME a", ":-1"), ("PERSIST a", ":0")],
            [("SET a 1", "+OK"), ("EXPIRE a 10", ":1"), ("TTL a", ":10"), ("PTTL a", ":10000")],
            [("SET a 1", "+OK"), ("PEXPIRE a 1499", ":1"), ("TTL a", ":1"), ("PTTL a", ":1499")],
            [("SET a 1", "+OK"), ("PEXPIRE a 1500", ":1"), ("TTL a", ":2")],
            [("SET a 1", "+OK"), ("EXPIREAT a 1700000100", ":1"), ("TTL a", ":100"), ("EXPIRETIME a", ":1700000100")],
            [("SET a 1", "+OK"), ("PEXPIREAT a 1700000000500", ":1"), ("PEXPIRETIME a", ":1700000000500")],
            [("SET a 1", "+OK"), ("EXPIRE a 10", ":1"), ("PERSIST a", ":1"), ("TTL a", ":-1")],
            // A time that has passed deletes.
            [("SET a 1", "+OK"), ("EXPIRE a 0", ":1"), ("EXISTS a", ":0")],
            [("SET a 1", "+OK"), ("PEXPIRE a -5", ":1"), ("EXISTS a", ":0")],
            [("SET a 1", "+OK"), ("EXPIREAT a 1700000000", ":1"), ("EXISTS a", ":0")],
            // Conditions.
            [("SET a 1", "+OK"), ("EXPIRE a 10 XX", ":0"), ("EXPIRE a 10 NX", ":1"), ("EXPIRE a 20 nx", ":0")],
            [("SET a 1 EX 10", "+OK"), ("EXPIRE a 10 GT", ":0"), ("EXPIRE a 11 GT", ":1"), ("TTL a", ":11")],
            [("SET a 1 EX 10", "+OK"), ("EXPIRE a 10 LT", ":0"), ("EXPIRE a 9 LT", ":1"), ("TTL a", ":9")],
            [("SET a 1", "+OK"), ("EXPIRE a 10 GT", ":0"), ("EXPIRE a 10 LT", ":1"), ("TTL a", ":10")],
            [("SET a 1", "+OK"), ("EXPIRE a 10 XX GT", ":0"), ("EXPIRE a 10 XX LT", ":0")],
            [("EXPIRE a 1 NX XX", "-ERR NX and XX, GT or LT options at the same time are not compatible")],
            [("EXPIRE a 1 NX GT", "-ERR NX and XX, GT or LT options at the same time are not compatible")],
            [("EXPIRE a 1 GT LT", "-ERR GT and LT options at the same time are not compatible")],
            [("EXPIRE a 1 ZZ", "-ERR Unsupported option ZZ")],
            // Options are looked at before the number.
            [
                ("EXPIRE a x ZZ", "-ERR Unsupported option ZZ"),
                ("EXPIRE a x", "-ERR value is not an integer or out of range"),
            ],
        ])
    func conversation(lines: [(String, String)]) {
        let node = NodeHarness()
        for (line, reply) in lines { #expect(node(line) == reply + "\r\n", "\(line)") }
    }

    @Test(
        "A time beyond what 64 bits of milliseconds hold is refused",
        arguments: [
            ("EXPIRE a 9223372036854775", "expire"),
            ("EXPIRE a 9223372036854776", "expire"),
            ("EXPIRE a -9223372036854776", "expire"),
            ("PEXPIRE a 9223372036854775807", "pexpire"),
            ("EXPIREAT a 9223372036854776", "expireat"),
            ("EXPIREAT a -9223372036854776", "expireat"),
        ])
    func overflow(line: String, name: String) {
        let node = NodeHarness()
        node("SET a 1")
        #expect(node(line) == "-ERR invalid expire time in '\(name)' command\r\n")
        #expect(node("TTL a") == ":-1\r\n")
    }

    @Test(
        "The largest and the smallest times are taken",
        arguments: [
            ("EXPIREAT a 9223372036854775", ":9223372036854775000"),
            ("PEXPIREAT a 9223372036854775807", ":9223372036854775807"),
            ("PEXPIREAT a -9223372036854775808", ":-2"), ("EXPIRE a -9223372036854775", ":-2"),
        ])
    func limits(line: String, time: String) {
        let node = NodeHarness()
        node("SET a 1")
        #expect(node(line) == ":1\r\n")
        #expect(node("PEXPIRETIME a") == time + "\r\n")
    }

    @Test func aKeyLivesUntilItsTimeHasPassed() {
        let node = NodeHarness()
        node("SET a 1 PX 100")
        node.advance(milliseconds: 100)
        #expect(node("PTTL a") == ":0\r\n")
        node.advance(milliseconds: 1)
        #expect(node("PTTL a") == ":-2\r\n")
    }

    @Test(
        "Replicas are told points in time or deletions",
        arguments: [
            ("EXPIRE a 10", ["0 PEXPIREAT a 1700000010000"]),
            ("EXPIRE a 10 NX", ["0 PEXPIREAT a 1700000010000 NX"]),
            ("PEXPIRE a 10", ["0 PEXPIREAT a 1700000000010"]),
            ("EXPIREAT a 1700000010", ["0 PEXPIREAT a 1700000010000"]),
            ("PEXPIREAT a 1700000000010", ["0 PEXPIREAT a 1700000000010"]),
            ("EXPIRE a 10 XX", []),
            ("EXPIRE a -1", ["0 DEL a"]),
            ("PEXPIREAT a 1", ["0 DEL a"]),
            ("EXPIRE missing 10", []),
            ("PERSIST b", ["0 PERSIST b"]),
            ("PERSIST a", []),
        ])
    func propagation(line: String, log: [String]) {
        let node = NodeHarness()
        node("SET a 1")
        node("SET b 1 PX 1000")
        #expect(node.propagation(of: line) == log)
    }

    @Test func aReplicaDoesNotDeleteByItself() {
        let node = NodeHarness()
        node("SET a 1")
        node("SET b 1 PX 10")
        node.node.keyspace.expiryMode = .hide
        #expect(node.propagation(of: "PEXPIREAT a 1") == ["0 PEXPIREAT a 1"])
        node.advance(milliseconds: 11)
        #expect(node("EXISTS a b") == ":0\r\n")
        #expect(node("DBSIZE") == ":2\r\n")
        // What the primary sends applies to keys that are over here.
        node.node.keyspace.expiryMode = .ignore
        #expect(node.propagation(of: "PERSIST b") == ["0 PERSIST b"])
        node.node.keyspace.expiryMode = .delete
        #expect(node("GET b") == .bulk("1"))
    }
}
