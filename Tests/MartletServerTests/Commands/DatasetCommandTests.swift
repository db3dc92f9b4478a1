import MartletKeyspace
import Testing

@testable import MartletServer

@Suite struct DatasetCommandTests {
    private func fill(_ node: NodeHarness) {
        node("MSET a 1 b 2")
        node("COPY a a DB 1")
    }

    @Test("FLUSHDB empties one database", arguments: ["FLUSHDB", "FLUSHDB ASYNC", "flushdb sync"])
    func flushdb(line: String) {
        let node = NodeHarness()
        fill(node)
        #expect(node(line) == "+OK\r\n")
        #expect(node("DBSIZE") == ":0\r\n")
        node("SWAPDB 0 1")
        #expect(node("DBSIZE") == ":1\r\n")
    }

    @Test("FLUSHALL empties all", arguments: ["FLUSHALL", "FLUSHALL ASYNC", "flushall sync"])
    func flushall(line: String) {
        for isClustered in [false, true] {
            let node = NodeHarness(isClustered: isClustered)
            fill(node)
            #expect(node(line) == "+OK\r\n")
            #expect(node.node.keyspace.totalKeyCount == 0)
            #expect(node("SET a 1") == "+OK\r\n")
        }
    }

    @Test("Flushing takes one option", arguments: ["FLUSHALL FOO", "FLUSHDB SYNC SYNC", "FLUSHDB ''"])
    func flushOptions(line: String) {
        #expect(NodeHarness()(line) == "-ERR syntax error\r\n")
    }

    @Test func asynchronousFlushesAreFreedInTheBackground() {
        let node = NodeHarness()
        func freed() -> Int {
            defer { node.node.effects = [] }
            return node.node.effects.count { if case .free = $0 { true } else { false } }
        }
        fill(node)
        node("FLUSHALL")
        #expect(freed() == 0)
        fill(node)
        node("FLUSHALL ASYNC")
        #expect(freed() == 2)
        node("FLUSHALL ASYNC")
        #expect(freed() == 0)
    }

    @Test(
        "SWAPDB exchanges databases",
        arguments: [
            [("SWAPDB 0 1", "+OK"), ("DBSIZE", ":1"), ("SWAPDB 1 0", "+OK"), ("DBSIZE", ":2")],
            [("SWAPDB 0 0", "+OK"), ("DBSIZE", ":2")],
            [("SWAPDB x 1", "-ERR invalid first DB index"), ("SWAPDB 1 x", "-ERR invalid second DB index")],
            [("SWAPDB 2147483648 1", "-ERR invalid first DB index")],
            [("SWAPDB 16 1", "-ERR DB index is out of range"), ("SWAPDB 0 -1", "-ERR DB index is out of range")],
        ])
    func swapdb(lines: [(String, String)]) {
        let node = NodeHarness()
        fill(node)
        for (line, reply) in lines { #expect(node(line) == reply + "\r\n", "\(line)") }
    }
}
