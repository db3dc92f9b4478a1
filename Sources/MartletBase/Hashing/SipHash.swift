/// The secret of the keyed hash: random per process, so that nobody can send keys that fall into one bucket.
package struct HashSeed: Sendable {
    package let k0: UInt64
    package let k1: UInt64

    package init(k0: UInt64, k1: UInt64) {
        self.k0 = k0
        self.k1 = k1
    }
}

/// SipHash-1-3: a keyed hash that stands up to chosen keys, as used by Rust's and Swift's own dictionaries.
///
/// Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", with one compression and three final rounds.
///
/// - Complexity: O(count)
package func sipHash13(_ bytes: UnsafeRawBufferPointer, seed: HashSeed) -> UInt64 {
    var v0 = seed.k0 ^ 0x736f_6d65_7073_6575
    var v1 = seed.k1 ^ 0x646f_7261_6e64_6f6d
    var v2 = seed.k0 ^ 0x6c79_6765_6e65_7261
    var v3 = seed.k1 ^ 0x7465_6462_7974_6573

    @inline(__always) func round() {
        v0 = v0 &+ v1
        v1 = (v1 &<< 13) | (v1 &>> 51)
        v1 ^= v0
        v0 = (v0 &<< 32) | (v0 &>> 32)
        v2 = v2 &+ v3
        v3 = (v3 &<< 16) | (v3 &>> 48)
        v3 ^= v2
        v0 = v0 &+ v3
        v3 = (v3 &<< 21) | (v3 &>> 43)
        v3 ^= v0
        v2 = v2 &+ v1
        v1 = (v1 &<< 17) | (v1 &>> 47)
        v1 ^= v2
        v2 = (v2 &<< 32) | (v2 &>> 32)
    }

    let count = bytes.count
    var last = UInt64(truncatingIfNeeded: count) &<< 56
    if count > 0 {
        let base = bytes.baseAddress.unsafelyUnwrapped
        let wordsEnd = count & ~7
        var offset = 0
        while offset < wordsEnd {
            let word = base.loadUnaligned(fromByteOffset: offset, as: UInt64.self).littleEndian
            v3 ^= word
            round()
            v0 ^= word
            offset &+= 8
        }
        var shift: UInt64 = 0
        while offset < count {
            last |= UInt64(base.load(fromByteOffset: offset, as: UInt8.self)) &<< shift
            shift &+= 8
            offset &+= 1
        }
    }
    v3 ^= last
    round()
    v0 ^= last
    v2 ^= 0xff
    round()
    round()
    round()
    return v0 ^ v1 ^ v2 ^ v3
}
