import Testing

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
}
