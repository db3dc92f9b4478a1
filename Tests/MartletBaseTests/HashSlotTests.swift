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
