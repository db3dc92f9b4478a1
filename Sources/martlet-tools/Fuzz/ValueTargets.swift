import MartletBase
import MartletKeyspace

extension FuzzTarget {
    /// HyperLogLogs are strings, so clients can write into them what they like: reading and changing one agree about
    /// whether it is one.
    static let hyperLogLog = FuzzTarget(
        name: "hyperloglog",
        summary: "strings that claim to be a HyperLogLog (HyperLogLog)",
        corpus: {
            [0, 1, 30, 500, 5000].map { count in
                var log = HyperLogLog()
                for number in 0..<count { withUnsafeBytes(of: number) { _ = log.add($0, sparseBytesMax: 3000) } }
                return Array(log.bytes)
            }
        },
        tokens: [[0x7F, 0xFF], [0x40, 0], [0x3F], [0], [0x80], [0xFF], Array("HYLL".utf8), [0x7F]],
        repair: { bytes, random in
            if bytes.count >= 16 { bytes.replaceSubrange(0..<5, with: Array("HYLL".utf8) + [1]) }
        },
        run: { input, random in
            input.withUnsafeBytes { bytes in
                guard HyperLogLog.isValid(bytes) else { return }
                let isWhole = HyperLogLog.estimate(bytes) != nil
                var dense = HyperLogLog(copying: bytes)
                guard dense.becomeDense() == isWhole else { violated("what can be counted can become dense") }
                var log = HyperLogLog(copying: bytes)
                for _ in 0..<8 {
                    let register = random.below(HyperLogLog.registerCount)
                    let value = UInt8(1 + random.below(51))
                    let answer = log.raise(register, to: value, sparseBytesMax: 3000)
                    guard isWhole else { continue }
                    guard answer == dense.raise(register, to: value, sparseBytesMax: 0) else {
                        violated("both forms go the same way")
                    }
                }
                guard !isWhole || HyperLogLog.estimate(log.bytes) == HyperLogLog.estimate(dense.bytes) else {
                    violated("both forms count the same")
                }
            }
        })
}
