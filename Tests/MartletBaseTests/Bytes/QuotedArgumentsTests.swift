import MartletBase
import Testing

@Suite struct QuotedArgumentsTests {
    private func words(_ line: String) -> [String]? {
        splitArguments(Array(line.utf8))?.map { String(decoding: $0, as: UTF8.self) }
    }

    @Test(
        "Lines are split at blanks outside of quotes",
        arguments: [
            ("", []), ("   ", []), ("a", ["a"]), (" a  b\tc ", ["a", "b", "c"]), ("\"\"", [""]), ("''", [""]),
            ("a \"b c\" d", ["a", "b c", "d"]), ("a 'b c'", ["a", "b c"]), ("a\"b\"", ["ab"]), ("a'b' c", ["ab", "c"]),
            ("\"\\n\\r\\t\\q\\\"\\\\\"", ["\n\r\tq\"\\"]), ("'\\n\\''", ["\\n'"]), ("\"\\x41\\x4\"", ["Ax4"]),
            ("a\\ b", ["a\\", "b"]), ("\"it's\"", ["it's"]), ("a\u{B}b", ["a\u{B}b"]),
            ("a b\0c d", ["a", "b"]), ("\u{B}a \u{C}\"b\"\0", ["a", "b"]),
        ] as [(String, [String])])
    func split(line: String, expected: [String]) {
        #expect(words(line) == expected)
    }

    @Test(
        "Unbalanced quotes, and text after a closing quote, are refused",
        arguments: [
            "\"", "'", "a \"b", "a 'b", "\"a\"b", "'a'b", "\"a\\", "\"a\\\"", "'a\\'", "\"a\"\"b\"", "\"a\0\"",
        ])
    func unbalanced(line: String) {
        #expect(words(line) == nil)
    }

    @Test("Any bytes survive quoting")
    func roundTrip() {
        let seed: UInt64 = 5
        var random = PRNG(seed: seed)
        for _ in 0..<2_000 {
            let bytes = (0..<random.below(20)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            #expect(splitArguments(quotedArgument(bytes)) == [bytes], "seed \(seed)")
        }
        #expect(quotedArgument(Array("a\"\\\n\u{1}é".utf8)) == Array("\"a\\\"\\\\\\n\\x01\\xc3\\xa9\"".utf8))
    }
}
