import MartletBase
import Testing

@testable import MartletPersistence

@Suite struct LZFTests {
    private func compress(_ input: [UInt8], room: Int, using compressor: inout LZFCompressor) -> [UInt8]? {
        var output = [UInt8](repeating: 0, count: room)
        let count = input.withUnsafeBytes { input in
            output.withUnsafeMutableBytes { compressor.compress(input, into: $0) }
        }
        return count.map { Array(output[..<$0]) }
    }

    private func decompress(_ input: [UInt8], count: Int) -> [UInt8]? {
        var output = [UInt8](repeating: 0, count: count)
        let isValid = input.withUnsafeBytes { input in
            output.withUnsafeMutableBytes { LZF.decompress(input, into: $0) }
        }
        return isValid ? output : nil
    }

    static let texts: [[UInt8]] = [
        Array(repeating: 0x61, count: 4), Array(repeating: 0x61, count: 5), Array(repeating: 0x61, count: 263),
        Array(repeating: 0x61, count: 264), Array(repeating: 0x61, count: 265), Array(repeating: 0x61, count: 100_000),
        Array(String(repeating: "abc", count: 1000).utf8),
        Array((0..<3000).map { "line \($0 % 7): the quick brown fox\n" }.joined().utf8),
        (0..<20_000).map { UInt8(truncatingIfNeeded: $0 / 8200) },
    ]

    @Test("Whatever was compressed comes back", arguments: texts)
    func roundTrip(text: [UInt8]) throws {
        var compressor = LZFCompressor()
        // The second time the table holds positions of the first.
        for _ in 0..<2 {
            let packed = try #require(compress(text, room: text.count + text.count / 32 + 16, using: &compressor))
            #expect(decompress(packed, count: text.count) == text)
            #expect(decompress(packed, count: text.count + 1) == nil)
            #expect(decompress(packed, count: text.count - 1) == nil)
        }
    }

    @Test("Random inputs of every mixture of noise and repetition come back")
    func randomRoundTrip() {
        let seed: UInt64 = 0x12F
        var random = PRNG(seed: seed)
        var compressor = LZFCompressor()
        for round in 0..<400 {
            let alphabet = 1 + random.below(256)
            var text: [UInt8] = []
            while text.count < random.below(4000) + 4 {
                if text.count > 10, random.below(3) == 0 {
                    let start = random.below(text.count)
                    text += text[start..<min(text.count, start + random.below(400))]
                } else {
                    text.append(UInt8(random.below(alphabet)))
                }
            }
            guard let packed = compress(text, room: text.count + text.count / 32 + 16, using: &compressor) else {
                Issue.record("did not fit, seed \(seed), round \(round)")
                continue
            }
            #expect(decompress(packed, count: text.count) == text, "seed \(seed), round \(round)")
        }
    }

    @Test("Noise does not fit into less room than it has bytes")
    func noise() {
        var random = PRNG(seed: 9)
        var compressor = LZFCompressor()
        let text = (0..<1000).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        #expect(compress(text, room: 996, using: &compressor) == nil)
    }

    @Test("Text of everyday shrinks")
    func ratio() throws {
        var compressor = LZFCompressor()
        let text = Self.texts[7]
        let packed = try #require(compress(text, room: text.count, using: &compressor))
        #expect(packed.count < text.count / 10)
    }

    @Test(
        "Input that points outside is refused",
        arguments: [
            ([0x00], 1),  // a literal that is not there
            ([0x05, 1, 2, 3], 6),
            ([0x20, 0x00], 3),  // a copy from before the beginning
            ([0x00, 1, 0x20, 0x01], 4),
            ([0x00, 1, 0x20], 4),  // a copy without its distance
            ([0x00, 1, 0xE0], 10),
            ([0x00, 1, 0xE0, 0x00], 10),
            ([0x00, 1, 0xE0, 0xFF, 0x00], 10),  // a copy beyond the end
            ([0x1F] + [UInt8](repeating: 1, count: 32), 31),
        ] as [([UInt8], Int)])
    func hostile(input: [UInt8], count: Int) {
        #expect(decompress(input, count: count) == nil)
    }

    @Test("Random bytes are refused or fill the output exactly, and never crash")
    func fuzz() {
        var random = PRNG(seed: 0xF022)
        for _ in 0..<5000 {
            let input = (0..<random.below(60)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            let count = random.below(input.count * LZF.expansionMax + 1)
            _ = decompress(input, count: count)
        }
    }
}
