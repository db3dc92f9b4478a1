import Testing

@testable import MartletServer

@Suite struct ObjectCommandTests {
    @Test(
        "OBJECT tells what Redis tells",
        arguments: [
            [("OBJECT ENCODING a", "$-1"), ("SET a 1", "+OK"), ("OBJECT ENCODING a", "$3\r\nint")],
            [("SET a word", "+OK"), ("OBJECT ENCODING a", "$6\r\nembstr"), ("OBJECT REFCOUNT a", ":1")],
            [("SET a \(String(repeating: "x", count: 44))", "+OK"), ("OBJECT ENCODING a", "$6\r\nembstr")],
            [("SET a \(String(repeating: "x", count: 45))", "+OK"), ("OBJECT ENCODING a", "$3\r\nraw")],
            // Small numbers are shared objects.
            [("SET a 0", "+OK"), ("OBJECT REFCOUNT a", ":2147483647")],
            [("SET a 9999", "+OK"), ("OBJECT REFCOUNT a", ":2147483647")],
            [("SET a 10000", "+OK"), ("OBJECT REFCOUNT a", ":1")],
            [("SET a -1", "+OK"), ("OBJECT REFCOUNT a", ":1")],
            [("OBJECT REFCOUNT a", "$-1"), ("OBJECT IDLETIME a", "$-1"), ("OBJECT FREQ a", "$-1")],
            [("OBJECT ENCODING", "-ERR wrong number of arguments for 'object|encoding' command")],
            [("OBJECT FOO a", "-ERR unknown subcommand 'FOO'. Try OBJECT HELP.")],
        ])
    func conversation(lines: [(String, String)]) {
        let node = NodeHarness()
        for (line, reply) in lines { #expect(node(line) == reply + "\r\n", "\(line)") }
    }

    @Test func idleTimeCountsSecondsSinceTheValueWasUsed() {
        let node = NodeHarness()
        node("SET a 1")
        node.advance(milliseconds: 7000)
        // Asking is no use.
        node("TTL a")
        node("EXISTS a")
        node("TYPE a")
        #expect(node("OBJECT IDLETIME a") == ":7\r\n")
        node("TOUCH a")
        #expect(node("OBJECT IDLETIME a") == ":0\r\n")
    }

    @Test func accessFrequenciesAreNotCounted() {
        let node = NodeHarness()
        node("SET a 1")
        #expect(node("OBJECT FREQ a").hasPrefix("-ERR An LFU maxmemory policy is not selected, access frequency not"))
    }

    @Test func helpListsTheSubcommands() {
        let reply = NodeHarness()("OBJECT HELP")
        #expect(reply.hasPrefix("*15\r\n+OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\r\n"))
        #expect(reply.hasSuffix("+HELP\r\n+    Prints this help.\r\n"))
    }
}
