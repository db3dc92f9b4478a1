/// A natural number of any size in base 10^18: the exact decimal digits of floating point numbers that are too large or
/// too small for 128-bit arithmetic. Rare, so plain.
struct BigDecimal {
    /// Least significant first, each below 10^18; the last is not 0.
    private var limbs: [UInt64]

    /// `number` * 2^`exponent`. - Complexity: O(exponent²)
    init(_ number: UInt64, timesTwoToThe exponent: Int) {
        self.init(number)
        multiply(by: 2, times: exponent, perStep: 59)
    }

    /// `number` * 5^`exponent`. - Complexity: O(exponent²)
    init(_ number: UInt64, timesFiveToThe exponent: Int) {
        self.init(number)
        multiply(by: 5, times: exponent, perStep: 25)
    }

    /// Most significant first, each 0 to 9.
    var digits: [UInt8] {
        var result: [UInt8] = []
        for limb in limbs.reversed() {
            var rest = limb
            var group = [UInt8](repeating: 0, count: 18)
            for index in stride(from: 17, through: 0, by: -1) {
                group[index] = UInt8(rest % 10)
                rest /= 10
            }
            result += result.isEmpty ? group.drop { $0 == 0 } : group[...]
        }
        return result
    }

    private init(_ number: UInt64) {
        let base = powerOfTen(18)
        limbs = number < base ? [number] : [number % base, number / base]
    }

    /// `perStep` is the highest power of `factor` that fits in a limb.
    private mutating func multiply(by factor: UInt64, times exponent: Int, perStep: Int) {
        var rest = exponent
        while rest > 0 {
            let step = min(rest, perStep)
            var power: UInt64 = 1
            for _ in 0..<step { power *= factor }
            multiply(by: power)
            rest -= step
        }
    }

    private mutating func multiply(by factor: UInt64) {
        let base = powerOfTen(18)
        var carry: UInt64 = 0
        for index in limbs.indices {
            let (high, low) = limbs[index].multipliedFullWidth(by: factor)
            let product = (UInt128(high) << 64) + UInt128(low) + UInt128(carry)
            let (quotient, remainder) = product.quotientAndRemainder(dividingBy: UInt128(base))
            limbs[index] = UInt64(remainder)
            carry = UInt64(quotient)
        }
        if carry > 0 { limbs.append(carry) }
    }
}
