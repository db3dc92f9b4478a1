import MartletBase
import Testing

/// What a formatting function writes, as text.
func written(room: Int, _ write: (UnsafeMutableRawPointer) -> Int) -> String {
    withUnsafeTemporaryAllocation(byteCount: room, alignment: 1) { buffer in
        let count = write(buffer.baseAddress!)
        return String(decoding: buffer[..<count], as: UTF8.self)
    }
}

@Suite struct FormatNumberTests {
    private func decimal(_ value: Int64) -> String {
        written(room: int64DecimalBytesMax) { writeDecimal(value, to: $0) }
    }

    private func decimal(_ value: UInt64) -> String {
        written(room: int64DecimalBytesMax) { writeDecimal(value, to: $0) }
    }

    @Test("Integers are written as the standard library writes them, at every power of ten and of two")
    func limits() {
        var values: [UInt64] = [0, .max]
        for exponent in 0...19 { values += [powerOfTen(exponent) - 1, powerOfTen(exponent), powerOfTen(exponent) + 1] }
        for exponent in 1...63 { values += [(1 << UInt64(exponent)) - 1, 1 << UInt64(exponent)] }
        for value in values {
            #expect(decimal(value) == String(value))
            #expect(decimalCount(of: value) == String(value).utf8.count)
            let signed = Int64(bitPattern: value)
            #expect(decimal(signed) == String(signed))
            #expect(decimalCount(of: signed) == String(signed).utf8.count)
            #expect(decimal(0 &- signed) == String(0 &- signed))
        }
    }

    @Test("Integers of all sizes are written as the standard library writes them")
    func random() {
        let seed: UInt64 = 7
        var random = PRNG(seed: seed)
        for _ in 0..<20_000 {
            let value = Int64(bitPattern: random.next()) >> Int64(random.below(64))
            #expect(decimal(value) == String(value), "seed \(seed)")
        }
    }
}
