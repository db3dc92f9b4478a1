/// xoshiro256**: small, fast, and the same history from the same seed on every machine. Not for secrets.
///
/// Source: Blackman and Vigna, "Scrambled linear pseudorandom number generators"; seeded through splitmix64.
package struct PRNG: RandomNumberGenerator, Sendable {
    private var s0: UInt64, s1: UInt64, s2: UInt64, s3: UInt64

    package init(seed: UInt64) {
        var state = seed
        func splitmix() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var z = state
            z = (z ^ (z &>> 30)) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ (z &>> 27)) &* 0x94D0_49BB_1331_11EB
            return z ^ (z &>> 31)
        }
        s0 = splitmix()
        s1 = splitmix()
        s2 = splitmix()
        s3 = splitmix()
    }

    package mutating func next() -> UInt64 {
        let product = s1 &* 5
        let result = ((product &<< 7) | (product &>> 57)) &* 9
        let t = s1 &<< 17
        s2 ^= s0
        s3 ^= s1
        s1 ^= s2
        s0 ^= s3
        s2 ^= t
        s3 = (s3 &<< 45) | (s3 &>> 19)
        return result
    }

    /// A number in `0..<bound`. - Precondition: `bound` is above 0.
    package mutating func below(_ bound: Int) -> Int { Int(next(upperBound: UInt64(bound))) }
}
