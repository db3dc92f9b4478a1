import MartletBase
import Testing

@testable import MartletKeyspace

@Suite struct HyperLogLogTests {
    private func add(_ text: String, to log: inout HyperLogLog, sparseBytesMax: Int = 3000) -> Bool? {
        var text = text
        return text.withUTF8 { log.add(UnsafeRawBufferPointer($0), sparseBytesMax: sparseBytesMax) }
    }

    /// The registers, one byte each; nil if the bytes are corrupt.
    private func registers(_ bytes: UnsafeRawBufferPointer) -> [UInt8]? {
        var registers = [UInt8](repeating: 0, count: HyperLogLog.registerCount)
        let isValid = registers.withUnsafeMutableBufferPointer { HyperLogLog.merge(bytes, into: $0.baseAddress!) }
        return isValid ? registers : nil
    }

    @Test func anEmptyOneIsARunOfZeros() {
        let log = HyperLogLog()
        let bytes = Array(log.bytes)
        #expect(bytes == Array("HYLL".utf8) + [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7F, 0xFF])
        let estimate = HyperLogLog.estimate(log.bytes)
        #expect(estimate == 0)
    }

    /// The sparse form, the dense form and plain registers go the same way, whatever comes.
    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func bothFormsHoldWhatPlainRegistersHold(seed: UInt64) {
        var random = PRNG(seed: seed)
        var sparse = HyperLogLog()
        var dense = HyperLogLog()
        let isDense = dense.becomeDense()
        #expect(isDense)
        var model = [UInt8](repeating: 0, count: HyperLogLog.registerCount)
        let sparseBytesMax = seed == 4 ? 100_000 : 3000
        for step in 0..<6000 {
            // Neighbours and equal values make runs that are merged and split.
            let register =
                random.below(3) == 0 ? random.below(HyperLogLog.registerCount) : random.below(seed == 2 ? 300 : 16384)
            let value = UInt8(1 + random.below(step > 5990 ? 51 : [3, 32][random.below(2)]))
            let isHigher = model[register] < value
            model[register] = max(model[register], value)
            let sparseAnswer = sparse.raise(register, to: value, sparseBytesMax: sparseBytesMax)
            let denseAnswer = dense.raise(register, to: value, sparseBytesMax: 0)
            #expect(sparseAnswer == isHigher, "seed \(seed)")
            #expect(denseAnswer == isHigher, "seed \(seed)")
            if step % 500 == 0 || step > 5980 {
                let found = registers(sparse.bytes)
                #expect(found == model, "seed \(seed)")
                let foundDense = registers(dense.bytes)
                #expect(foundDense == model, "seed \(seed)")
                let estimates = (HyperLogLog.estimate(sparse.bytes), HyperLogLog.estimate(dense.bytes))
                let expected = model.withUnsafeBufferPointer { HyperLogLog.estimate(registers: $0.baseAddress!) }
                #expect(estimates.0 == expected && estimates.1 == expected, "seed \(seed)")
            }
        }
        let isSparse = sparse.isSparse
        #expect(!isSparse, "a value above 32 has no sparse form")
        let description = isSparse ? "" : Array(sparse.bytes.prefix(5)).description
        #expect(description == "[72, 89, 76, 76, 0]")
    }

    @Test func estimatesAreNearTheTruth() {
        var log = HyperLogLog()
        for number in 1...100_000 {
            _ = add("element:\(number)", to: &log)
            guard [10, 100, 1000, 10_000, 100_000].contains(number) else { continue }
            let estimate = Double(HyperLogLog.estimate(log.bytes) ?? 0)
            #expect(abs(estimate - Double(number)) <= Double(number) * 0.05)
            let isSparse = log.isSparse
            #expect(isSparse == (number <= 1000))
        }
    }

    @Test func theSparseFormEndsAtTheLimit() {
        for limit in [18, 100, 3000] {
            var log = HyperLogLog()
            var number = 0
            var longest = 0
            while log.isSparse {
                longest = log.bytes.count
                _ = add("\(number)", to: &log, sparseBytesMax: limit)
                number += 1
            }
            let count = log.bytes.count
            #expect(longest <= limit && longest + 3 > limit)
            #expect(count == HyperLogLog.denseBytes)
        }
    }

    /// Bytes that somebody has tampered with are refused or read within their bounds.
    @Test(arguments: 1...200 as ClosedRange<UInt64>)
    func corruptBytesDoNoHarm(seed: UInt64) {
        var random = PRNG(seed: seed)
        var log = HyperLogLog()
        for number in 0..<random.below(400) { _ = add("\(number)", to: &log) }
        var bytes = Array(log.bytes)
        switch random.below(4) {
        case 0: bytes.append(UInt8(truncatingIfNeeded: random.next()))
        case 1: bytes.removeLast(1 + random.below(bytes.count - 17))
        case 2: bytes[16 + random.below(bytes.count - 16)] = UInt8(truncatingIfNeeded: random.next())
        default:
            bytes.replaceSubrange(
                16..., with: (0..<random.below(3000)).map { _ in [0x7F, 0x40, 0x80, 0][random.below(4)] })
        }
        bytes.withUnsafeBytes { bytes in
            guard HyperLogLog.isValid(bytes) else { return }
            let isRight = registers(bytes) != nil
            #expect((HyperLogLog.estimate(bytes) != nil) == isRight)
            _ = HyperLogLog.description(ofSparse: bytes)
            var copy = HyperLogLog(copying: bytes)
            for register in [0, 1, 100, 8000, 16383] {
                _ = copy.raise(register, to: UInt8(1 + random.below(40)), sparseBytesMax: 3000)
            }
            var other = HyperLogLog(copying: bytes)
            let isDense = other.becomeDense()
            #expect(isDense == isRight)
        }
    }

    /// The last run of zeros may lack its second byte, which then counts as 0: for changes as for counts.
    @Test(arguments: [16128, 16129, 16200, 16383])
    func aCutRunOfZerosIsOne(register: Int) {
        // 16127 registers of 0, and 257.
        let bytes = Array("HYLL".utf8) + [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7E, 0xFE, 0x41]
        bytes.withUnsafeBytes { bytes in
            let estimate = HyperLogLog.estimate(bytes)
            #expect(estimate == 0)
            var log = HyperLogLog(copying: bytes)
            let hasGrown = log.raise(register, to: 5, sparseBytesMax: 3000)
            #expect(hasGrown == true)
            var expected = [UInt8](repeating: 0, count: HyperLogLog.registerCount)
            expected[register] = 5
            let isSparse = log.isSparse
            #expect(isSparse && registers(log.bytes) == expected)
            #expect(HyperLogLog.description(ofSparse: bytes) == "Z:16127 Z:257")
        }
    }
}
