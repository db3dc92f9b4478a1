// XXH3 of 64 bits without a seed, by Yann Collet: fast, and the same everywhere. Not for secrets. DIGEST tells it.
//
// Short inputs are mixed as a whole, in a way that depends on their length. Long ones go through eight sums in stripes of
// 64 bytes, which are scrambled after each block of 1024. What is mixed in comes from a secret that everybody knows.
//
// Source: the specification in the xxHash project, doc/xxhash_spec.md.

/// - Complexity: O(count)
package func xxh3(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    secret.withUnsafeBytes { secret in
        let hash = XXH3(bytes: bytes, secret: secret, count: UInt64(bytes.count))
        switch bytes.count {
        case 0: return XXH3.avalanche64(hash.key(56) ^ hash.key(64))
        case 1...3: return hash.ofUpTo3
        case 4...8: return hash.ofUpTo8
        case 9...16: return hash.ofUpTo16
        case 17...128: return hash.ofUpTo128
        case 129...240: return hash.ofUpTo240
        default: return hash.ofMany
        }
    }
}

private let secret: [UInt64] = [
    0xbe4b_a423_396c_feb8, 0x1cad_21f7_2c81_017c, 0xdb97_9083_e96d_d4de, 0x1f67_b3b7_a4a4_4072,
    0x78e5_c0cc_4ee6_79cb, 0x2172_ffcc_7dd0_5a82, 0x8e24_43f7_7446_08b8, 0x4c26_3a81_e690_35e0,
    0xcb00_c391_bb52_283c, 0xa32e_531b_8b65_d088, 0x4ef9_0da2_9748_6471, 0xd8ac_dea9_46ef_1938,
    0x3f34_9ce3_3f76_faa8, 0x1d4f_0bc7_c7bb_dcf9, 0x3159_b4cd_4be0_518a, 0x6473_78d9_c97e_9fc8,
    0xc3eb_d334_83ac_c5ea, 0xeb63_13fa_ffa0_81c5, 0x49da_f0b7_51dd_0d17, 0x9e68_d429_2655_16d3,
    0xfca1_477d_58be_162b, 0xce31_d07a_d1b8_f88f, 0x2804_1695_8f3a_cb45, 0x7e40_4bbb_cafb_d7af,
]

private struct XXH3 {
    let bytes: UnsafeRawBufferPointer
    let secret: UnsafeRawBufferPointer
    let count: UInt64

    private static let prime32: (UInt64, UInt64, UInt64) = (0x9E37_79B1, 0x85EB_CA77, 0xC2B2_AE3D)
    private static let prime64: (UInt64, UInt64, UInt64, UInt64, UInt64) = (
        0x9E37_79B1_85EB_CA87, 0xC2B2_AE3D_27D4_EB4F, 0x1656_67B1_9E37_79F9, 0x85EB_CA77_C2B2_AE63,
        0x27D4_EB2F_1656_67C5
    )

    @inline(__always)
    func key(_ offset: Int) -> UInt64 { secret.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
    @inline(__always)
    private func word(_ offset: Int) -> UInt64 { bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
    private func half(_ offset: Int) -> UInt64 {
        UInt64(bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    // MARK: Short

    var ofUpTo3: UInt64 {
        let middle = UInt64(bytes[bytes.count >> 1])
        let all = UInt64(bytes[0]) << 16 | middle << 24 | UInt64(bytes[bytes.count - 1]) | count << 8
        let key = key(0)
        return Self.avalanche64(all ^ (key & 0xFFFF_FFFF ^ key >> 32))
    }

    var ofUpTo8: UInt64 {
        var hash = (half(bytes.count - 4) | half(0) << 32) ^ (key(8) ^ key(16))
        hash ^= (hash << 49 | hash >> 15) ^ (hash << 24 | hash >> 40)
        hash = hash &* 0x9FB2_1C65_1E98_DF25
        hash ^= hash >> 35 &+ count
        hash = hash &* 0x9FB2_1C65_1E98_DF25
        return hash ^ hash >> 28
    }

    var ofUpTo16: UInt64 {
        let low = word(0) ^ (key(24) ^ key(32))
        let high = word(bytes.count - 8) ^ (key(40) ^ key(48))
        return Self.avalanche(count &+ low.byteSwapped &+ high &+ Self.fold(low, high))
    }

    /// From both ends to the middle.
    var ofUpTo128: UInt64 {
        var sum = count &* Self.prime64.0
        for round in 0...((bytes.count - 1) / 32) {
            sum = sum &+ mix(16 * round, 32 * round) &+ mix(bytes.count - 16 * (round + 1), 32 * round + 16)
        }
        return Self.avalanche(sum)
    }

    var ofUpTo240: UInt64 {
        var sum = count &* Self.prime64.0
        for round in 0..<8 { sum = sum &+ mix(16 * round, 16 * round) }
        sum = Self.avalanche(sum)
        for round in 8..<(bytes.count / 16) { sum = sum &+ mix(16 * round, 16 * (round - 8) + 3) }
        return Self.avalanche(sum &+ mix(bytes.count - 16, 119))
    }

    @inline(__always)
    private func mix(_ offset: Int, _ keyOffset: Int) -> UInt64 {
        Self.fold(word(offset) ^ key(keyOffset), word(offset + 8) ^ key(keyOffset + 8))
    }

    // MARK: Long

    private typealias Sums = SIMD8<UInt64>
    private static let (stripeBytes, blockBytes) = (64, 1024)

    var ofMany: UInt64 {
        let (prime32, prime64) = (Self.prime32, Self.prime64)
        var sums = Sums(prime32.2, prime64.0, prime64.1, prime64.2, prime64.3, prime32.1, prime64.4, prime32.0)
        // The last stripe, whole or not, is added by itself, ending with the input.
        let stripes = (bytes.count - 1) / Self.stripeBytes
        let stripesPerBlock = Self.blockBytes / Self.stripeBytes
        for stripe in 0..<stripes {
            let number = stripe % stripesPerBlock
            add(Self.stripeBytes * stripe, 8 * number, to: &sums)
            if number == stripesPerBlock - 1 { scramble(&sums) }
        }
        add(bytes.count - Self.stripeBytes, 121, to: &sums)
        var result = count &* prime64.0
        for pair in 0..<4 {
            result = result &+ Self.fold(sums[2 * pair] ^ key(11 + 16 * pair), sums[2 * pair + 1] ^ key(19 + 16 * pair))
        }
        return Self.avalanche(result)
    }

    @inline(__always)
    private func add(_ offset: Int, _ keyOffset: Int, to sums: inout Sums) {
        for lane in 0..<8 {
            let data = word(offset + 8 * lane)
            let keyed = data ^ key(keyOffset + 8 * lane)
            sums[lane ^ 1] = sums[lane ^ 1] &+ data
            sums[lane] = sums[lane] &+ (keyed & 0xFFFF_FFFF) &* (keyed >> 32)
        }
    }

    private func scramble(_ sums: inout Sums) {
        for lane in 0..<8 {
            sums[lane] = (sums[lane] ^ sums[lane] >> 47 ^ key(128 + 8 * lane)) &* Self.prime32.0
        }
    }

    // MARK: Mixing

    /// Both halves of the product, exclusive or.
    @inline(__always)
    private static func fold(_ left: UInt64, _ right: UInt64) -> UInt64 {
        let product = left.multipliedFullWidth(by: right)
        return product.low ^ product.high
    }

    private static func avalanche(_ number: UInt64) -> UInt64 {
        let hash = (number ^ number >> 37) &* 0x1656_6791_9E37_79F9
        return hash ^ hash >> 32
    }

    /// The last step of XXH64.
    static func avalanche64(_ number: UInt64) -> UInt64 {
        var hash = (number ^ number >> 33) &* prime64.1
        hash = (hash ^ hash >> 29) &* prime64.2
        return hash ^ hash >> 32
    }
}
