import MartletBase
import Testing

@testable import MartletKeyspace

@Suite(.serialized) struct IntSetTests {
    // MARK: Format

    @Test(
        arguments: [
            ([], "02000000 00000000"),
            ([1], "02000000 01000000 0100"),
            ([5, -1, 5, 32767, -32768], "02000000 04000000 0080 FFFF 0500 FF7F"),
            ([1, 32768], "04000000 02000000 01000000 00800000"),
            ([1, -32769], "04000000 02000000 FF7FFFFF 01000000"),
            // As redis-server 7.0.15 dumps them.
            ([1, -1, 300], "0200000003000000FFFF01002C01"),
            ([1, -1, 70000], "0400000003000000FFFFFFFF0100000070110100"),
            ([1, -1, 1 << 40], "0800000003000000FFFFFFFFFFFFFFFF01000000000000000000000000010000"),
            ([2, 1, 2_147_483_648], "08000000 03000000 0100000000000000 0200000000000000 0000008000000000"),
            ([70000, .min], "08000000 02000000 0000000000000080 7011010000000000"),
            ([.max], "08000000 01000000 FFFFFFFFFFFFFF7F"),
        ] as [([Int64], String)])
    func aSetHasRedisForm(values: [Int64], hex: String) {
        var set = IntSet.make()
        defer { set.destroy() }
        var seen: Set<Int64> = []
        for value in values { #expect(set.insert(value) == seen.insert(value).inserted) }
        #expect(Array(set.bytes) == hexBytes(hex))
        #expect(set.count == seen.count)
    }

    @Test func aSetStaysAsWideAsItWas() {
        var set = IntSet.make()
        defer { set.destroy() }
        let inserted = [set.insert(1), set.insert(1 << 20), set.insert(1 << 40)]
        #expect(inserted == [true, true, true])
        var removed = [set.remove(1 << 40), set.remove(1 << 20)]
        #expect(Array(set.bytes) == hexBytes("08000000 01000000 0100000000000000"))
        removed += [set.remove(1), set.remove(1), set.contains(1)]
        #expect(removed == [true, true, true, false, false])
        #expect(Array(set.bytes) == hexBytes("08000000 00000000"))
    }

    // MARK: Model

    @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64])
    func itHoldsWhatASetHolds(seed: UInt64) {
        var random = PRNG(seed: seed)
        var model: Set<Int64> = []
        var set = IntSet.make()
        defer { set.destroy() }
        for step in 0..<2000 {
            // Wide integers come late, so that each width is used for a while.
            let bits = Int64(4 + random.below(1 + min(60, step / 25)))
            let value =
                random.below(4) > 0 || step < 1200
                ? Int64(truncatingIfNeeded: random.next()) >> (64 - bits)
                : EncodingSamples.integers[random.below(EncodingSamples.integers.count)]
            if random.below(3) > 0 {
                #expect(set.insert(value) == model.insert(value).inserted, "seed \(seed), step \(step)")
            } else {
                let value = random.below(2) == 0 ? value : model.randomElement(using: &random) ?? value
                #expect(set.remove(value) == (model.remove(value) != nil), "seed \(seed), step \(step)")
            }
            #expect(set.contains(value) == model.contains(value), "seed \(seed), step \(step)")
            guard step % 20 == 0, !model.isEmpty else { continue }
            let sorted = model.sorted()
            #expect((0..<set.count).map(set.at) == sorted, "seed \(seed), step \(step)")
            #expect(set.min == sorted[0])
            #expect(set.max == sorted[sorted.count - 1])
            #expect(sorted.allSatisfy(set.contains))
            #expect(model.contains(set.random(&random)))
            #expect(IntSet.isValid(set.bytes, deep: true), "seed \(seed), step \(step)")
            let copy = IntSet(copying: set.bytes)
            #expect(copy.bytes.elementsEqual(set.bytes))
            copy.destroy()
        }
    }

    @Test func everyIntegerIsDrawn() {
        var set = IntSet.make()
        defer { set.destroy() }
        for value in 0..<20 as Range<Int64> { _ = set.insert(value * 1000) }
        var random = PRNG(seed: 3)
        var drawn: Set<Int64> = []
        for _ in 0..<1000 { drawn.insert(set.random(&random)) }
        #expect(drawn.count == 20)
    }

    @Test func everyByteIsGivenBack() {
        // The first time may leave caches of the runtime behind.
        check()
        let before = Memory.threadBalance
        check()
        let after = Memory.threadBalance
        #expect(after == before)

        func check() {
            var set = IntSet.make()
            for bits in [8, 20, 40] as [Int64] {
                for value in 0..<300 as Range<Int64> { _ = set.insert((value * 7919) % 300 - (1 << bits)) }
                for value in 0..<250 as Range<Int64> { _ = set.remove(value - (1 << bits)) }
            }
            set.destroy()
        }
    }

    // MARK: Bytes from outside

    @Test(arguments: [
        "", "02000000", "02000000 00000000", "02000000 01000000", "02000000 01000000 01", "02000000 01000000 010002",
        "03000000 01000000 010000", "00000000 01000000", "02000000 FFFFFFFF 0100", "08000000 FFFFFF1F 0100000000000000",
        // Twice the same, and not in order.
        "02000000 02000000 0100 0100", "02000000 02000000 0200 0100", "02000000 02000000 0100 FFFF",
    ])
    func bytesThatAreNoSetAreRejected(hex: String) {
        let memory = GuardedMemory(capacity: 64)
        #expect(!IntSet.isValid(memory.atEnd(hexBytes(hex)), deep: true))
    }

    /// What is accepted in spite of a change is a set in order, within its bytes.
    @Test(arguments: [2, 4, 8])
    func everyChangeOfAByteIsRejectedOrHarmless(width: Int) {
        let memory = GuardedMemory(capacity: 4096)
        var set = IntSet.make()
        defer { set.destroy() }
        for value in [-100, -1, 0, 7, 300] as [Int64] { _ = set.insert(value << Int64(width == 2 ? 0 : 4 * width)) }
        precondition(set.width == width)
        let bytes = Array(set.bytes)
        var accepted = 0
        func check(_ bytes: [UInt8]) {
            let bytes = memory.atEnd(bytes)
            guard IntSet.isValid(bytes, deep: true) else { return }
            accepted += 1
            precondition(IntSet.isValid(bytes, deep: false))
            var copy = IntSet(copying: bytes)
            let values = (0..<copy.count).map(copy.at)
            precondition(values == Set(values).sorted() && values.allSatisfy(copy.contains))
            for value in [-70_000, -5, 5, 70_000] as [Int64] {
                precondition(copy.insert(value) != values.contains(value))
                precondition(copy.contains(value))
            }
            for value in values { precondition(copy.remove(value)) }
            copy.destroy()
        }
        Corruption.everyByte(of: bytes, check)
        #expect(accepted > 0)
        for count in 0..<bytes.count { #expect(!IntSet.isValid(memory.atEnd(Array(bytes[..<count])), deep: false)) }
        var random = PRNG(seed: UInt64(width))
        for _ in 0..<2000 { check(Corruption.random(of: bytes, sizeInHeader: false, &random)) }
    }
}
