import Testing

@testable import MartletServer

@Suite struct GenericCommandTests {
    /// Conversations: lines and their replies, in order, on a node of their own.
    @Test(
        "Keys are deleted, asked about, renamed, copied and moved as in Redis",
        arguments: [
            [("SET a 1", "+OK"), ("DEL a b", ":1"), ("DEL a", ":0")],
            [("MSET a 1 b 2", "+OK"), ("UNLINK a b a", ":2"), ("DBSIZE", ":0")],
            [("SET a 1", "+OK"), ("EXISTS a b a", ":2"), ("TOUCH a b a", ":2")],
            [("TYPE a", "+none"), ("SET a 1", "+OK"), ("TYPE a", "+string")],
            [("RENAME a b", "-ERR no such key"), ("RENAMENX a b", "-ERR no such key")],
            [("SET a 1", "+OK"), ("RENAME a b", "+OK"), ("EXISTS a", ":0"), ("GET b", "$1\r\n1")],
            [("MSET a 1 b 2", "+OK"), ("RENAME a b", "+OK"), ("GET b", "$1\r\n1"), ("DBSIZE", ":1")],
            [("MSET a 1 b 2", "+OK"), ("RENAMENX a b", ":0"), ("RENAMENX a c", ":1"), ("GET c", "$1\r\n1")],
            [("SET a 1", "+OK"), ("RENAME a a", "+OK"), ("RENAMENX a a", ":0")],
            [("SET a 1 PX 5000", "+OK"), ("RENAME a b", "+OK"), ("PTTL b", ":5000")],
            [("MSET a 1 b 2", "+OK"), ("PEXPIRE b 5000", ":1"), ("RENAME a b", "+OK"), ("PTTL b", ":-1")],
            [("COPY a b", ":0"), ("SET a 1", "+OK"), ("COPY a b", ":1"), ("GET b", "$1\r\n1"), ("EXISTS a", ":1")],
            [("MSET a 1 b 2", "+OK"), ("COPY a b", ":0"), ("COPY a b REPLACE", ":1"), ("GET b", "$1\r\n1")],
            [("SET a 1 PX 5000", "+OK"), ("COPY a b", ":1"), ("PTTL b", ":5000")],
            [("SET a 1", "+OK"), ("COPY a a", "-ERR source and destination objects are the same")],
            [("SET a 1", "+OK"), ("COPY a a DB 1", ":1"), ("COPY a a DB 1", ":0"), ("COPY a a REPLACE db 1", ":1")],
            [("COPY a b DB 16", "-ERR DB index is out of range"), ("COPY a b DB", "-ERR syntax error")],
            [("COPY a b DB x", "-ERR value is not an integer or out of range"), ("COPY a b FOO", "-ERR syntax error")],
            [
                (
                    "COPY a b DB 2147483648",
                    "-ERR value is out of range, value must between -2147483648 and 2147483647"
                )
            ],
            [("SET a 1", "+OK"), ("MOVE a 0", "-ERR source and destination objects are the same")],
            [("SET a 1 PX 5000", "+OK"), ("MOVE a 3", ":1"), ("EXISTS a", ":0"), ("MOVE a 3", ":0")],
            [("SET a 1", "+OK"), ("MOVE a 3", ":1"), ("SET a 2", "+OK"), ("MOVE a 3", ":0"), ("GET a", "$1\r\n2")],
            [("MOVE a 16", "-ERR DB index is out of range"), ("MOVE a -1", "-ERR DB index is out of range")],
            [("RANDOMKEY", "$-1"), ("SET a 1", "+OK"), ("RANDOMKEY", "$1\r\na")],
            [("EXISTS", "-ERR wrong number of arguments for 'exists' command")],
        ])
    func conversation(lines: [(String, String)]) {
        let node = NodeHarness()
        for (line, reply) in lines { #expect(node(line) == reply + "\r\n", "\(line)") }
    }

    @Test func clusterModeHasOneDatabase() {
        let node = NodeHarness(isClustered: true)
        #expect(node("MOVE a 1") == "-ERR MOVE is not allowed in cluster mode\r\n")
        #expect(node("SWAPDB 0 1") == "-ERR SWAPDB is not allowed in cluster mode\r\n")
        #expect(
            node("COPY {a}1 {a}2 DB 1") == "-ERR Copying to another database is not allowed in cluster mode\r\n")
    }

    @Test func aKeyWhoseTimeHasPassedIsMissingForAll() {
        let node = NodeHarness()
        for key in 0..<8 { node("SET k\(key) v PX 100") }
        node.advance(milliseconds: 101)
        #expect(node("EXISTS k0") == ":0\r\n")
        #expect(node("DEL k1") == ":0\r\n")
        #expect(node("RENAME k2 x") == "-ERR no such key\r\n")
        #expect(node("COPY k3 x") == ":0\r\n")
        #expect(node("MOVE k4 1") == ":0\r\n")
        #expect(node("TYPE k5") == "+none\r\n")
        #expect(node("RANDOMKEY") == "$-1\r\n")
        #expect(node("DBSIZE") == ":0\r\n")
    }

    @Test func anExpiredTargetDoesNotCount() {
        let node = NodeHarness()
        node("MSET a 1 b 2 c 3")
        node("SET taken x PX 100")
        node.advance(milliseconds: 101)
        #expect(node("RENAMENX a taken") == ":1\r\n")
        #expect(node("PTTL taken") == ":-1\r\n")
    }

    @Test(
        "What is propagated stands for itself, and a deletion for what has expired",
        arguments: [
            ("DEL a", ["0 DEL a"]),
            ("DEL gone", ["0 DEL gone"]),
            ("DEL missing", []),
            ("UNLINK a missing", ["0 UNLINK a missing"]),
            ("RENAME a b", ["0 RENAME a b"]),
            ("RENAME a gone", ["0 DEL gone", "0 RENAME a gone"]),
            ("RENAME a a", []),
            ("COPY a b", ["0 COPY a b"]),
            ("COPY a gone", ["0 DEL gone", "0 COPY a gone"]),
            ("COPY missing b", []),
            ("MOVE a 2", ["0 MOVE a 2"]),
            ("EXISTS gone", ["0 DEL gone"]),
        ])
    func propagation(line: String, log: [String]) {
        let node = NodeHarness()
        node("SET a 1")
        node("SET gone 1 PX 10")
        node.advance(milliseconds: 11)
        #expect(node.propagation(of: line) == log)
    }
}
