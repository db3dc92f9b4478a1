import Testing

@testable import MartletKeyspace
@testable import MartletServer

@Suite struct MemoryCommandTests {
    @Test func usageCountsKeyAndValue() {
        let node = NodeHarness()
        func usage(_ key: String) -> Int {
            Int(node("MEMORY USAGE \(key)").dropFirst().dropLast()) ?? -1
        }
        node("SET a 1")
        #expect((16...100).contains(usage("a")))
        node("SET a \(String(repeating: "x", count: 10_000))")
        #expect((10_000...12_400).contains(usage("a")))
    }

    @Test(
        "USAGE takes SAMPLES only",
        arguments: [
            ("MEMORY USAGE a", "$-1"), ("MEMORY USAGE a SAMPLES 0", "$-1"),
            ("MEMORY USAGE a SAMPLES", "-ERR syntax error"),
            ("MEMORY USAGE a SAMPLES -1", "-ERR syntax error"), ("MEMORY USAGE a FOO", "-ERR syntax error"),
            ("MEMORY USAGE a SAMPLES x", "-ERR value is not an integer or out of range"),
            ("MEMORY FOO", "-ERR unknown subcommand 'FOO'. Try MEMORY HELP."), ("MEMORY PURGE", "+OK"),
        ])
    func usageOptions(line: String, reply: String) {
        #expect(NodeHarness()(line) == reply + "\r\n")
    }

    @Test func reportsAreWellFormed() {
        let node = NodeHarness()
        node("SET a 1")
        #expect(node("MEMORY STATS").hasPrefix("*56\r\n$14\r\npeak.allocated\r\n:"))
        #expect(node("MEMORY DOCTOR").hasPrefix("$"))
        #expect(node("MEMORY MALLOC-STATS").contains("jemalloc statistics"))
        #expect(node("MEMORY HELP").hasPrefix("*14\r\n+MEMORY <subcommand>"))
        #expect(node("LOLWUT").contains("Redis ver."))
        #expect(node("LOLWUT VERSION 5").contains("Redis ver."))
        #expect(node("TIME") == .bulks("1700000000", "0"))
    }

    @Test func tablesAreCountedApart() {
        let node = NodeHarness()
        func bytes(_ name: String) -> Int {
            let words = node("MEMORY STATS").split(separator: "\r\n")
            return words.firstIndex { $0 == name }.flatMap { Int(words[$0 + 1].dropFirst()) } ?? -1
        }
        node("SET a 1")
        #expect(bytes("overhead.hashtable.main") == 64)
        #expect(bytes("overhead.hashtable.expires") == 0)
        node("EXPIRE a 100")
        #expect(bytes("overhead.hashtable.expires") == 64)
    }

    @Test func aTransactionCountsAsItsClients() {
        let node = NodeHarness()
        func bytes(_ name: String) -> Int {
            let field = node("CLIENT LIST").split(whereSeparator: \.isWhitespace).first { $0.hasPrefix(name + "=") }
            return field.flatMap { Int($0.dropFirst(name.count + 1)) } ?? -1
        }
        #expect(bytes("multi-mem") == 0)
        let before = bytes("tot-mem")
        node("WATCH a b c")
        #expect((1...1000).contains(bytes("multi-mem")))
        #expect(bytes("tot-mem") == before + bytes("multi-mem"))
    }

    @Test func keysFreedInTheBackgroundAreCounted() {
        let node = NodeHarness()
        node("MSET a 1 b 2 c 3")
        node("FLUSHALL ASYNC")
        #expect(node("INFO memory").contains("lazyfree_pending_objects:3\r\nlazyfreed_objects:0\r\n"))
        node.node.effects.removeAll()
        #expect(node("INFO memory").contains("lazyfree_pending_objects:0\r\nlazyfreed_objects:3\r\n"))
        node("CONFIG RESETSTAT")
        #expect(node("INFO memory").contains("lazyfreed_objects:0\r\n"))
    }

    @Test func valuesFreedBitByBitAreCounted() {
        let node = NodeHarness()
        node("CONFIG SET stream-node-max-entries 1")
        for number in 1...100 { node("XADD stream \(number)-1 field value") }
        node("XADD small 1-1 field value")
        node("UNLINK stream small")
        #expect(node("INFO memory").contains("lazyfree_pending_objects:1\r\nlazyfreed_objects:0\r\n"))
        node.node.keyspace.freeRemains(limit: 10)
        #expect(node("INFO memory").contains("lazyfree_pending_objects:1\r\nlazyfreed_objects:0\r\n"))
        node.node.keyspace.freeRemains(limit: 1000)
        #expect(node("INFO memory").contains("lazyfree_pending_objects:0\r\nlazyfreed_objects:1\r\n"))
        let hasRemains = node.node.keyspace.hasRemains
        #expect(!hasRemains)
        node("CONFIG RESETSTAT")
        #expect(node("INFO memory").contains("lazyfreed_objects:0\r\n"))
    }

    @Test("MEMORY STATS and INFO tell the same figures")
    func sameFigures() {
        let node = NodeHarness()
        for index in 0..<2000 { node("SET key:\(index) \(index)") }
        let words = node("MEMORY STATS").split(separator: "\r\n")
        func field(_ name: String) -> Int? {
            words.firstIndex { $0 == name }.flatMap { Int(words[$0 + 1].dropFirst()) }
        }
        let fields = node("INFO memory").split(separator: "\r\n")
        func info(_ name: String) -> Int? {
            fields.first { $0.hasPrefix(name + ":") }.flatMap { Int($0.dropFirst(name.count + 1)) }
        }
        #expect(field("startup.allocated") == info("used_memory_startup"))
        #expect(field("peak.allocated") ?? 0 >= field("total.allocated") ?? .max)
        #expect(field("startup.allocated") ?? 0 > 0)
    }

    @Test("MEMORY STATS counts what is kept of scripts and libraries")
    func scripts() {
        let node = NodeHarness()
        let none = "$10\r\nlua.caches\r\n:0\r\n$16\r\nfunctions.caches\r\n:0\r\n"
        #expect(node("MEMORY STATS").contains(none))
        node("EVAL 'return 1' 0")
        #expect(!node("MEMORY STATS").contains("lua.caches\r\n:0\r\n"))
        #expect(node("MEMORY STATS").contains("functions.caches\r\n:0\r\n"))
        node("FUNCTION LOAD \"#!lua name=l\\nredis.register_function('f', function() end)\"")
        #expect(!node("MEMORY STATS").contains("functions.caches\r\n:0\r\n"))
        node("SCRIPT FLUSH")
        node("FUNCTION FLUSH")
        #expect(node("MEMORY STATS").contains(none))
    }
}
