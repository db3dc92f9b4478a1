import MartletBase
import MartletCluster
import Testing

@Suite struct SlotSetTests {
    @Test("behaves like a set of numbers", arguments: [1, 2, 3] as [UInt64])
    func model(seed: UInt64) {
        var random = PRNG(seed: seed)
        var set = SlotSet()
        var model: Set<Int> = []
        for _ in 0..<3_000 {
            // Runs, with now and then a lonely slot far away.
            let first = random.below(4) == 0 ? random.below(HashSlot.count) : 5_000 + random.below(300)
            let count = random.below(40)
            for slot in first..<min(first + count, HashSlot.count) {
                if random.below(3) == 0 {
                    #expect(set.remove(slot) == (model.remove(slot) != nil))
                } else {
                    #expect(set.insert(slot) == model.insert(slot).inserted)
                }
            }
        }
        #expect(set.count == model.count)
        var seen: [Int] = []
        set.forEach { seen.append($0) }
        #expect(seen == model.sorted())
        var other = SlotSet()
        for slot in stride(from: 0, to: HashSlot.count, by: 3) { other.insert(slot) }
        let difference = set.subtracting(other)
        #expect(difference.ranges.flatMap { Array($0) } == model.filter { $0 % 3 != 0 }.sorted())
        #expect(difference.count == model.count { $0 % 3 != 0 } && set.subtracting(set).isEmpty)
        #expect(set.ranges.flatMap { Array($0) } == model.sorted())
        #expect(zip(set.ranges, set.ranges.dropFirst()).allSatisfy { $0.upperBound + 1 < $1.lowerBound })
    }

    @Test("the last slot and whole words end ranges")
    func edges() {
        var set = SlotSet()
        #expect(set.ranges.isEmpty)
        for slot in 0..<HashSlot.count { set.insert(slot) }
        #expect(set.ranges == [0...16383])
        set.remove(63)
        set.remove(128)
        #expect(set.ranges == [0...62, 64...127, 129...16383])
        for slot in 0..<16_383 { set.remove(slot) }
        #expect(set.ranges == [16383...16383])
        set.remove(16_383)
        #expect(set.isEmpty && set.ranges.isEmpty)
    }

    @Test("a bitmap of the bus is read bit by bit, lowest bit first")
    func bitmap() {
        var bytes = [UInt8](repeating: 0, count: SlotSet.bitmapByteCount)
        bytes[0] = 0b1000_0001
        bytes[1] = 1
        bytes[2047] = 0x80
        let set = bytes.withUnsafeBytes { SlotSet(bitmap: $0) }
        #expect(set.ranges == [0...0, 7...8, 16383...16383])
        #expect(bytes.withUnsafeBytes { set.equals(bitmap: $0) })
        bytes[1000] = 4
        #expect(!bytes.withUnsafeBytes { set.equals(bitmap: $0) })
    }
}
