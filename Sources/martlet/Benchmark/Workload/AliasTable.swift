import MartletBase

/// Draws an index with a probability in proportion to its weight, in constant time.
///
/// Source: Vose, "A linear algorithm for generating random numbers with a given distribution" (1991): every column
/// holds at most two indices, itself and its alias.
package struct AliasTable: Sendable {
    /// Column `index` stays with `index` if a 32-bit random number is below this, else it goes to `aliases[index]`.
    private let thresholds: [UInt64]
    private let aliases: [Int]

    package var count: Int { thresholds.count }

    /// - Precondition: `weights` is not empty; all weights are finite and above 0.
    package init(weights: [Double]) {
        precondition(!weights.isEmpty && weights.allSatisfy { $0.isFinite && $0 > 0 })
        let total = weights.reduce(0, +)
        var shares = weights.map { $0 / total * Double(weights.count) }
        var thresholds = [UInt64](repeating: 1 << 32, count: weights.count)
        var aliases = Array(weights.indices)
        var small = weights.indices.filter { shares[$0] < 1 }
        var large = weights.indices.filter { shares[$0] >= 1 }
        while let less = small.popLast(), let more = large.last {
            thresholds[less] = UInt64(shares[less] * 0x1p32)
            aliases[less] = more
            shares[more] -= 1 - shares[less]
            if shares[more] < 1 { small.append(large.removeLast()) }
        }
        self.thresholds = thresholds
        self.aliases = aliases
    }

    package func draw(_ random: inout PRNG) -> Int {
        guard thresholds.count > 1 else { return 0 }
        let bits = random.next()
        let column = Int(((bits >> 32) &* UInt64(thresholds.count)) >> 32)
        return bits & 0xFFFF_FFFF < thresholds[column] ? column : aliases[column]
    }
}
