import MartletBase
import Testing

@Suite struct HashSlotTests {
    private func slot(_ key: String) -> Int {
        var key = key
        return key.withUTF8 { HashSlot.of(UnsafeRawBufferPointer($0)).index }
    }

    @Test("CRC16 gives the check value of the specification")
    func checkValue() {
        var text = "123456789"
        #expect(text.withUTF8 { crc16(UnsafeRawBufferPointer($0)) } == 0x31C3)
    }

    @Test("CRC16 of any length is what the bits one by one give")
    func anyLength() {
        var random = PRNG(seed: 20)
        for count in 0...80 {
            let bytes = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            var expected: UInt16 = 0
            for byte in bytes {
                expected ^= UInt16(byte) << 8
                for _ in 0..<8 { expected = expected & 0x8000 != 0 ? expected << 1 ^ 0x1021 : expected << 1 }
            }
            #expect(bytes.withUnsafeBytes { crc16($0) } == expected, "\(count) bytes")
        }
    }

    @Test("A hash tag is found wherever it stands")
    func tagPositions() {
        for before in 0...20 {
            let key = String(repeating: "|", count: before) + "{tag}" + String(repeating: "z", count: 20 - before)
            #expect(slot(key) == slot("tag"), "\(key)")
        }
    }

    @Test("Only a non-empty hash tag decides the slot")
    func hashTags() {
        #expect(slot("foo") == 12182)
        #expect(slot("{user1000}.following") == slot("{user1000}.followers"))
        #expect(slot("{user1000}.following") == slot("user1000"))
        #expect(slot("foo{}{bar}") != slot("bar"))
        #expect(slot("foo{{bar}}zap") == slot("{bar"))
        #expect(slot("foo{bar}{zap}") == slot("bar"))
    }
}
