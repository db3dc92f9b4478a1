import MartletBase
import Testing

@Suite struct CRC64Tests {
    private func checksum(_ bytes: [UInt8], continuing checksum: UInt64 = 0) -> UInt64 {
        bytes.withUnsafeBytes { crc64($0, continuing: checksum) }
    }

    /// The definition, bit by bit, to compare the tables with.
    private func checksumBitByBit(_ bytes: [UInt8]) -> UInt64 {
        var crc: UInt64 = 0
        for byte in bytes {
            crc ^= UInt64(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? (crc >> 1) ^ 0x95AC_9329_AC4B_C9B5 : crc >> 1 }
        }
        return crc
    }

    @Test("CRC64 gives the values that Redis' own self test expects")
    func checkValues() {
        #expect(checksum(Array("123456789".utf8)) == 0xE9C6_D914_C4B8_D9CA)
        #expect(checksum([]) == 0)
    }

    @Test("Every length around the eight-byte step agrees with the definition, at every alignment")
    func lengths() {
        var random = PRNG(seed: 64)
        let bytes = (0..<64).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        for start in 0..<8 {
            for end in start...bytes.count {
                let part = Array(bytes[start..<end])
                let sliced = bytes.withUnsafeBytes { crc64(UnsafeRawBufferPointer(rebasing: $0[start..<end])) }
                #expect(sliced == checksumBitByBit(part))
            }
        }
    }

    @Test("A checksum carries on from any point of the stream")
    func incremental() {
        let bytes = Array("The quick brown fox jumps over the lazy dog".utf8)
        for cut in 0...bytes.count {
            let first = checksum(Array(bytes[..<cut]))
            #expect(checksum(Array(bytes[cut...]), continuing: first) == checksum(bytes))
        }
    }
}
