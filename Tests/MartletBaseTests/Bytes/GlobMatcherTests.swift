import MartletBase
import Testing

@Suite struct GlobMatcherTests {
    private func matches(_ pattern: String, _ text: String, ignoringCase: Bool = false) -> Bool {
        matches(Array(pattern.utf8), Array(text.utf8), ignoringCase: ignoringCase)
    }

    private func matches(_ pattern: [UInt8], _ text: [UInt8], ignoringCase: Bool = false) -> Bool {
        pattern.withUnsafeBytes { pattern in
            text.withUnsafeBytes { globMatches(pattern: pattern, text: $0, ignoringCase: ignoringCase) }
        }
    }

    @Test(
        "Patterns match whole texts",
        arguments: [
            ("", ""), ("a", "a"), ("*", "a"), ("**", "abc"), ("a*", "a"), ("a**", "a"), ("*a", "a"), ("*a*", "bab"),
            ("h?llo", "hello"), ("h*llo", "hllo"), ("h*llo", "heeeello"), ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hbllo"), ("h[a-b]llo", "hbllo"), ("h[b-a]llo", "hallo"), ("\\*", "*"), ("a\\", "a\\"),
            ("[\\]]", "]"), ("[a-]]", "^"), ("[a", "a"), ("[^", "x"), ("[^a", "b"), ("[-]", "-"), ("[\\", "\\"),
            ("*foo*bar", "foofoobarbar"), ("a*b*c", "abbc"), ("*[0-9]", "key:7"), ("*:?:*", "a:b:c"),
        ])
    func positive(pattern: String, text: String) {
        #expect(matches(pattern, text))
    }

    @Test(
        "Patterns do not match what is shorter, longer or different",
        arguments: [
            ("", "a"), ("a", ""), ("a", "b"), ("a", "aa"), ("aa", "a"), ("?", "ab"), ("h?llo", "hllo"),
            ("h[^e]llo", "hello"), ("h[a-b]llo", "hcllo"), ("\\*", "a"), ("\\a", "\\a"), ("[]", "]"), ("[", "["),
            ("*a", "ab"), ("a*b*c", "abb"), ("[abc]", "d"), ("a?", "a"), ("*?", ""), ("A", "a"),
        ])
    func negative(pattern: String, text: String) {
        #expect(!matches(pattern, text))
    }

    @Test("An empty text matches only the empty pattern")
    func emptyText() {
        #expect(matches("", ""))
        #expect(!matches("*", ""))
    }

    @Test("Case is ignored on request, but not for escaped bytes of a class")
    func ignoringCase() {
        #expect(matches("MAX*", "maxmemory", ignoringCase: true))
        #expect(matches("[A-C]x", "bX", ignoringCase: true))
        #expect(!matches("[\\A]", "a", ignoringCase: true))
    }

    @Test("Bytes above 127 sort as signed numbers in ranges")
    func signedRanges() {
        #expect(matches([0x5B, 0x80, 0x2D, 0x01, 0x5D], [0xFF]))
        #expect(matches([0x5B, 0x80, 0x2D, 0x01, 0x5D], [0x00]))
        #expect(!matches([0x5B, 0x01, 0x2D, 0x7F, 0x5D], [0x80]))
    }

    @Test("Many stars cost no more than pattern times text")
    func abusivePattern() {
        let pattern = String(repeating: "a*", count: 500) + "b"
        #expect(!matches(pattern, String(repeating: "a", count: 20_000)))
        #expect(matches(String(repeating: "*a", count: 1000), String(repeating: "a", count: 1000)))
        #expect(!matches(String(repeating: "*a", count: 1001), String(repeating: "a", count: 1001)))
        #expect(matches(String(repeating: "*a", count: 1000) + "*", String(repeating: "a", count: 1001)))
    }

    @Test("Random patterns match as a matcher that tries everything says")
    func againstNaive() {
        let seed: UInt64 = 36_021
        var random = PRNG(seed: seed)
        let alphabet = Array("ab*?[]^-\\".utf8)
        for _ in 0..<30_000 {
            let pattern = (0..<random.below(8)).map { _ in alphabet[random.below(alphabet.count)] }
            let text = (0..<random.below(7)).map { _ in alphabet[random.below(2)] }
            let expected = text.isEmpty ? pattern.isEmpty : naive(pattern[...], text[...])
            #expect(matches(pattern, text) == expected, "seed \(seed): \(pattern) \(text)")
        }
    }

    /// Tries every length for every star.
    private func naive(_ pattern: ArraySlice<UInt8>, _ text: ArraySlice<UInt8>) -> Bool {
        guard let first = pattern.first else { return text.isEmpty }
        if first == UInt8(ascii: "*") {
            return (0...text.count).contains { naive(pattern.dropFirst(), text.dropFirst($0)) }
        }
        guard !text.isEmpty else { return false }
        // The item is the shortest prefix that can stand alone: measured with the matcher on one byte.
        let length = itemLength(Array(pattern))
        return matches(Array(pattern.prefix(length)), [text.first!])
            && naive(pattern.dropFirst(length), text.dropFirst())
    }

    private func itemLength(_ pattern: [UInt8]) -> Int {
        if pattern[0] == UInt8(ascii: "\\") { return min(2, pattern.count) }
        guard pattern[0] == UInt8(ascii: "[") else { return 1 }
        var index = 1
        if index < pattern.count, pattern[index] == UInt8(ascii: "^") { index += 1 }
        while index < pattern.count {
            if pattern[index] == UInt8(ascii: "\\"), index + 1 < pattern.count {
                index += 2
            } else if pattern[index] == UInt8(ascii: "]") {
                return index + 1
            } else if index + 2 < pattern.count, pattern[index + 1] == UInt8(ascii: "-") {
                index += 3
            } else {
                index += 1
            }
        }
        return index
    }
}
