import MartletBase
import MartletRESP
import Testing

@testable import MartletServer

@Suite struct ScanCommandTests {
    private func keys(_ reply: String) -> [String] {
        reply.split(separator: "\r\n").enumerated().filter { $0.offset % 2 == 0 && $0.offset > 0 }.map {
            String($0.element)
        }
    }

    /// One SCAN. - Returns: the next cursor and the keys.
    private func scan(_ node: NodeHarness, _ cursor: String, _ options: String = "") -> (String, [String]) {
        let lines = node("SCAN \(cursor) \(options)").split(separator: "\r\n", omittingEmptySubsequences: false)
        let keys = stride(from: 5, to: lines.count - 1, by: 2).map { String(lines[$0]) }
        return (String(lines[2]), keys)
    }

    private func scanAll(_ node: NodeHarness, _ options: String = "") -> [String] {
        var cursor = "0"
        var all: [String] = []
        repeat {
            let (next, keys) = scan(node, cursor, options)
            all += keys
            cursor = next
        } while cursor != "0"
        return all
    }

    @Test(
        "KEYS finds what its pattern matches",
        arguments: [
            ("*", ["a1", "a2", "b1", "{t}x"]), ("a*", ["a1", "a2"]), ("?1", ["a1", "b1"]), ("b1", ["b1"]), ("c", []),
            ("{t}*", ["{t}x"]), ("[ab]2", ["a2"]),
        ])
    func keysByPattern(pattern: String, expected: [String]) {
        for isClustered in [false, true] {
            let node = NodeHarness(isClustered: isClustered)
            for key in ["a1", "a2", "b1", "{t}x"] { node("SET \(key) v") }
            #expect(keys(node("KEYS \(pattern)")).sorted() == expected)
            #expect(scanAll(node, "MATCH \(pattern)").sorted() == expected)
        }
    }

    @Test(
        "A pattern with a literal hash tag is looked for in one slot",
        arguments: [
            ("{user}*", "user"), ("a{user}*", "user"), ("plain", "plain"), ("{user}", "user"), ("{}x", "{}x"),
        ])
    func slotOfPattern(pattern: String, tag: String) {
        Array(pattern.utf8).withUnsafeBytes { pattern in
            Array(tag.utf8).withUnsafeBytes { tag in
                #expect(KeyPattern(pattern).slot == HashSlot(Int64(crc16(tag) & 16383)))
            }
        }
    }

    @Test(
        "Other patterns may match keys of any slot",
        arguments: ["*", "user*", "{us*er}x", "*{user}", "{}*", "{user*", "[{]a}"])
    func patternOfAnySlot(pattern: String) {
        Array(pattern.utf8).withUnsafeBytes { #expect(KeyPattern($0).slot == nil) }
    }

    @Test(
        "SCAN refuses what Redis refuses",
        arguments: [
            ("SCAN x", "ERR invalid cursor"), ("SCAN ' 1'", "ERR invalid cursor"),
            ("SCAN 18446744073709551616", "ERR invalid cursor"), ("SCAN + COUNT 0", "ERR invalid cursor"),
            ("SCAN 0 COUNT 0", "ERR syntax error"), ("SCAN 0 COUNT", "ERR syntax error"),
            ("SCAN 0 COUNT x", "ERR value is not an integer or out of range"), ("SCAN 0 FOO 1", "ERR syntax error"),
        ])
    func refusals(line: String, error: String) {
        #expect(NodeHarness()(line) == "-\(error)\r\n")
    }

    @Test(
        "Any cursor is harmless", arguments: ["", "-1", "+7", "18446744073709551615", "12345678901234567890", "16383"])
    func anyCursor(cursor: String) {
        for isClustered in [false, true] {
            let node = NodeHarness(isClustered: isClustered)
            for key in 0..<100 { node("SET k\(key) v") }
            #expect(node("SCAN '\(cursor)'").hasPrefix("*2\r\n$"))
            #expect(node("SCAN '\(cursor)' MATCH {k1}*").hasPrefix("*2\r\n$"))
        }
    }

    @Test func scanFiltersByTypeAndTime() {
        let node = NodeHarness()
        node("SET a 1")
        node("SET b 1 PX 10")
        node.advance(milliseconds: 11)
        #expect(scanAll(node, "TYPE LIST") == [])
        #expect(scanAll(node, "TYPE String COUNT 9223372036854775807") == ["a"])
        // The expired one was deleted when it was met.
        #expect(node("DBSIZE") == ":1\r\n")
    }

    @Test func keysLeavesExpiredKeysWhereTheyAre() {
        let node = NodeHarness()
        node("SET a 1")
        node("SET b 1 PX 10")
        node.advance(milliseconds: 11)
        #expect(node("KEYS *") == .bulks("a"))
        #expect(node("DBSIZE") == ":2\r\n")
    }

    @Test(
        "Keys that stay from the first call to the last are seen, whatever else comes and goes",
        arguments: [1, 2, 3, 4])
    func guarantee(seed: UInt64) {
        for isClustered in [false, true] {
            let node = NodeHarness(isClustered: isClustered)
            var random = PRNG(seed: seed)
            for key in 0..<500 { node("SET stays\(key) v") }
            var seen: Set<String> = []
            var cursor = "0"
            repeat {
                let (next, keys) = scan(node, cursor, "COUNT \(1 + random.below(30))")
                seen.formUnion(keys)
                cursor = next
                for _ in 0..<random.below(40) { node("SET other\(random.below(3000)) v") }
                for _ in 0..<random.below(40) { node("DEL other\(random.below(3000))") }
            } while cursor != "0"
            for key in 0..<500 { #expect(seen.contains("stays\(key)")) }
        }
    }
}
