import MartletBase
import Testing

@testable import MartletKeyspace

@Suite(.serialized) struct ZipmapTests {
    /// From an RDB file of Redis 2.4; from the description of the format, with unused bytes; with an unknown count and
    /// empty strings.
    private static let samples: [(hex: String, pairs: [String])] = [
        ("02 026631 02007631 026632 02007632 FF", ["f1", "v1", "f2", "v2"]),
        ("02 03666F6F 0300626172 0568656C6C6F 050377 6F726C640000FF FF", ["foo", "bar", "hello", "world"]),
        ("FE 00 0000 0161 00010A FF", ["", "", "a", ""]),
    ]

    @Test func itReadsFieldsAndValues() {
        for (hex, pairs) in Self.samples {
            hexBytes(hex).withUnsafeBytes { bytes in
                #expect(Zipmap.isValid(bytes, deep: true), "\(hex)")
                let found = Zipmap(bytes).flatMap { [String(bytes: $0.field), String(bytes: $0.value)] }
                #expect(found == pairs)
            }
        }
    }

    @Test(arguments: [253, 254, 255, 300, 70_000])
    func longLengthsTakeFiveBytes(count: Int) {
        func length(_ count: Int) -> [UInt8] {
            count < 254 ? [UInt8(count)] : [0xFE] + (0..<4).map { UInt8(truncatingIfNeeded: count >> (8 * $0)) }
        }
        let field = [UInt8](repeating: 0x66, count: count)
        let value = [UInt8](repeating: 0x76, count: count + 1)
        let bytes = [1] + length(count) + field + length(count + 1) + [2] + value + [0, 0] + [0xFF]
        bytes.withUnsafeBytes { bytes in
            #expect(Zipmap.isValid(bytes, deep: true))
            #expect(Zipmap(bytes).map { Array($0.field) } == [field])
            #expect(Zipmap(bytes).map { Array($0.value) } == [value])
        }
    }

    @Test(arguments: [
        "", "FF", "00 FF", "01 FF", "01 00 0000 00", "02 00 0000 FF", "00 00 0000 FF", "01 00 FF", "01 00 00 FF",
        "01 01 0000 FF", "01 00 0001 FF", "01 00 0100 FF", "01 00 00FE FF",
        // Lengths in five bytes that fit into one, that reach beyond the end, or that have no end.
        "01 FE00000000 0000 FF", "01 00 FE00000000 00 FF", "01 FEFFFFFFFF 0000 FF", "01 00 FEFFFFFFFF 01 FF",
        "01 FE FF", "01 00 FE FF", "01 00 FF000000 FF",
    ])
    func bytesThatAreNoZipmapAreRejected(hex: String) {
        let memory = GuardedMemory(capacity: 64)
        #expect(!Zipmap.isValid(memory.atEnd(hexBytes(hex)), deep: true))
    }

    @Test func everyChangeOfAByteIsRejectedOrHarmless() {
        let memory = GuardedMemory(capacity: 4096)
        for (hex, _) in Self.samples {
            let bytes = hexBytes(hex)
            var accepted = 0
            Corruption.everyByte(of: bytes) { if isSafe($0, memory) { accepted += 1 } }
            #expect(accepted > 0)
            for count in 0..<bytes.count {
                _ = isSafe(Array(bytes[..<count]), memory)
                _ = isSafe(Array(bytes[..<count]) + [0xFF], memory)
            }
            var random = PRNG(seed: UInt64(bytes.count))
            for _ in 0..<3000 {
                _ = isSafe(Corruption.random(of: bytes, sizeInHeader: false, &random), memory)
            }
        }
    }

    private func isSafe(_ bytes: [UInt8], _ memory: GuardedMemory) -> Bool {
        let isValid = Zipmap.isValid(memory.atStart(bytes), deep: true)
        precondition(Zipmap.isValid(memory.atEnd(bytes), deep: true) == isValid)
        guard isValid else { return false }
        precondition(Zipmap.isValid(memory.atEnd(bytes), deep: false))
        let start = Zipmap(memory.atStart(bytes)).flatMap { [Array($0.field), Array($0.value)] }
        let end = Zipmap(memory.atEnd(bytes)).flatMap { [Array($0.field), Array($0.value)] }
        precondition(start == end && !start.isEmpty)
        return true
    }
}
