import MartletBase
import Testing

@testable import MartletKeyspace

@Suite(.serialized) struct ZiplistTests {
    /// Three from RDB files that older servers wrote, then one entry of each form, then an empty ziplist.
    private static let samples: [(hex: String, values: [String])] = [
        ("1B000000 16000000 0400 00026631 04027631 04026632 04027632 FF", ["f1", "v1", "f2", "v2"]),
        ("19000000 16000000 0400 00036F6E65 05F2 020374776F 05F3 FF", ["one", "1", "two", "2"]),
        ("0D000000 0A000000 0100 00F8 FF", ["7"]),
        (
            """
            3F000000 37000000 0B00 00F1 02FD 02FE80 03C02CFF 04F0FFFF7F 05F0000080 \
            05D000000080 06E00000000000000080 0A00 024003616263 06800000000161 FF
            """,
            [
                "0", "12", "-128", "-212", "8388607", "-8388608", "-2147483648", "-9223372036854775808", "", "abc", "a",
            ]
        ),
        ("0B000000 0A000000 0000 FF", []),
    ]

    @Test func itReadsEveryForm() {
        for (hex, values) in Self.samples {
            let bytes = hexBytes(hex)
            bytes.withUnsafeBytes { bytes in
                #expect(Ziplist.isValid(bytes, deep: true), "\(hex)")
                #expect(Ziplist(bytes).map { String(decoding: $0.text, as: UTF8.self) } == values)
            }
        }
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func itReadsWhatWasWritten(seed: UInt64) {
        var random = PRNG(seed: seed)
        for _ in 0..<100 {
            let values = (0..<random.below(12)).map { _ in EncodingSamples.random(&random) }
            let bytes = ZiplistModel.encoded(values, &random)
            bytes.withUnsafeBytes { bytes in
                #expect(Ziplist.isValid(bytes, deep: true), "seed \(seed)")
                #expect(Ziplist(bytes).map(\.text) == values, "seed \(seed)")
            }
        }
    }

    @Test(arguments: [
        "", "0A000000 0A000000 0000", "0B000000 0A000000 0000 00", "0C000000 0A000000 0000 FF",
        // The last entry is elsewhere, or beyond the end.
        "0B000000 0B000000 0000 FF", "0D000000 0B000000 0100 00F8 FF", "0D000000 09000000 0100 00F8 FF",
        // Wrong counts, and an end mark before the end.
        "0D000000 0A000000 0000 00F8 FF", "0D000000 0A000000 0200 00F8 FF", "0C000000 0A000000 0000 FFFF",
        // Wrong length of the entry before.
        "0D000000 0A000000 0100 01F8 FF", "0F000000 0C000000 0200 00F8 01F8 FF", "0F000000 0C000000 0200 00F8 03F8 FF",
        // No such code, and entries that reach beyond the end.
        "0D000000 0A000000 0100 00FF FF", "0D000000 0A000000 0100 00C1 FF", "0C000000 0A000000 0100 00 FF",
        "0D000000 0A000000 0100 0001 FF", "0D000000 0A000000 0100 0040 FF", "0D000000 0A000000 0100 0080 FF",
        "11000000 0A000000 0100 0080FFFFFFFF FF", "0D000000 0A000000 0100 FE00 FF",
        "10000000 0A000000 0100 FE00000000 FF", "0D000000 0A000000 0100 00E0 FF",
    ])
    func bytesThatAreNoZiplistAreRejected(hex: String) {
        let memory = GuardedMemory(capacity: 64)
        #expect(!Ziplist.isValid(memory.atEnd(hexBytes(hex)), deep: true))
    }

    @Test func everyChangeOfAByteIsRejectedOrHarmless() {
        let memory = GuardedMemory(capacity: 4096)
        for (hex, _) in Self.samples {
            let bytes = hexBytes(hex)
            var accepted = 0
            Corruption.everyByte(of: bytes) { if isSafe($0, memory) { accepted += 1 } }
            // The contents of strings and integers; of an empty ziplist the offset of the last entry.
            #expect(accepted > 0)
            for count in 0..<bytes.count {
                var part = Array(bytes[..<count])
                #expect(!isSafe(part, memory))
                guard count > 4 else { continue }
                part[0] = UInt8(count)
                part[count - 1] = 0xFF
                _ = isSafe(part, memory)
            }
        }
    }

    @Test(arguments: [31, 32, 33] as [UInt64])
    func randomCorruptionIsRejectedOrHarmless(seed: UInt64) {
        let memory = GuardedMemory(capacity: 64 * 1024)
        var random = PRNG(seed: seed)
        var accepted = 0
        for _ in 0..<1500 {
            let values = (0..<random.below(5)).map { _ in EncodingSamples.random(&random) }
            let bytes = Array(ZiplistModel.encoded(values, &random).prefix(60_000))
            if isSafe(Corruption.random(of: bytes, sizeInHeader: true, &random), memory) { accepted += 1 }
        }
        #expect(accepted > 0, "seed \(seed)")
    }

    private func isSafe(_ bytes: [UInt8], _ memory: GuardedMemory) -> Bool {
        let isValid = Ziplist.isValid(memory.atStart(bytes), deep: true)
        precondition(Ziplist.isValid(memory.atEnd(bytes), deep: true) == isValid)
        guard isValid else { return false }
        precondition(Ziplist.isValid(memory.atEnd(bytes), deep: false))
        let values = Ziplist(memory.atStart(bytes)).map(\.text)
        precondition(Ziplist(memory.atEnd(bytes)).map(\.text) == values)
        return true
    }
}

/// A plain writer of the format; now and then it takes a longer form than it needs.
enum ZiplistModel {
    static func encoded(_ values: [[UInt8]], _ random: inout PRNG) -> [UInt8] {
        var entries: [UInt8] = []
        var (lastOffset, lastBytes) = (10, 0)
        for value in values {
            let isLong = lastBytes >= 254 || random.below(10) == 0
            let entry = (isLong ? [0xFE] + word(lastBytes, 4) : [UInt8(lastBytes)]) + encoding(value, &random)
            (lastOffset, lastBytes) = (10 + entries.count, entry.count)
            entries += entry
        }
        return word(entries.count + 11, 4) + word(lastOffset, 4) + word(values.count, 2) + entries + [0xFF]
    }

    private static func encoding(_ value: [UInt8], _ random: inout PRNG) -> [UInt8] {
        if let integer = Int64(String(decoding: value, as: UTF8.self)), Array(String(integer).utf8) == value {
            if (0...12).contains(integer) { return [0xF1 + UInt8(integer)] }
            for (code, count) in [(0xFE, 1), (0xC0, 2), (0xF0, 3), (0xD0, 4)] as [(UInt8, Int)] {
                let limit: Int64 = 1 << Int64(8 * count - 1)
                if integer >= -limit, integer < limit { return [code] + word(Int(integer), count) }
            }
            return [0xE0] + word(Int(integer), 8)
        }
        let length = value.count + (random.below(10) == 0 ? 1 << 20 : 0)
        if length < 64 { return [UInt8(length)] + value }
        if length < 16384 { return [0x40 + UInt8(length / 256), UInt8(length % 256)] + value }
        return [0x80 + UInt8(random.below(64))] + word(value.count, 4).reversed() + value
    }

    private static func word(_ integer: Int, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: integer >> (8 * $0)) }
    }
}
