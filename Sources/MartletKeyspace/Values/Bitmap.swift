// A string as a row of bits: bit 0 is the highest bit of the first byte. Everything works on words of 64 bits where it
// can, and everything stays within the bytes that are given.

/// What BITOP computes.
package enum BitOperation {
    case and, or, xor, not
}

package enum Bitmap {
    // MARK: Count and find

    /// How many bits are set. - Complexity: O(bytes)
    package static func countOnes(in bytes: UnsafeRawBufferPointer) -> Int {
        let count = bytes.count
        guard let base = bytes.baseAddress else { return 0 }
        var total = 0
        var index = 0
        while index &+ 32 <= count {
            let word = base + index
            total &+= word.loadUnaligned(as: UInt64.self).nonzeroBitCount
            total &+= word.loadUnaligned(fromByteOffset: 8, as: UInt64.self).nonzeroBitCount
            total &+= word.loadUnaligned(fromByteOffset: 16, as: UInt64.self).nonzeroBitCount
            total &+= word.loadUnaligned(fromByteOffset: 24, as: UInt64.self).nonzeroBitCount
            index &+= 32
        }
        while index < count {
            total &+= base.load(fromByteOffset: index, as: UInt8.self).nonzeroBitCount
            index &+= 1
        }
        return total
    }

    /// How many of these bits are set. - Precondition: `bits` lies within the bytes.
    package static func countOnes(in bytes: UnsafeRawBufferPointer, bits: ClosedRange<Int>) -> Int {
        let first = bits.lowerBound >> 3
        let last = bits.upperBound >> 3
        let outside =
            (bytes[first] & ~mask(from: bits.lowerBound)).nonzeroBitCount
            + (bytes[last] & ~mask(through: bits.upperBound)).nonzeroBitCount
        return countOnes(in: UnsafeRawBufferPointer(rebasing: bytes[first...last])) - outside
    }

    /// The first of these bits that is set, or clear.
    ///
    /// - Precondition: `bits` lies within the bytes.
    /// - Complexity: O(bytes)
    package static func first(
        _ isSet: Bool, in bytes: UnsafeRawBufferPointer, bits: ClosedRange<Int>
    ) -> Int? {
        let flip: UInt8 = isSet ? 0 : 0xFF
        let flipWord: UInt64 = isSet ? 0 : ~0
        let last = bits.upperBound >> 3
        var index = bits.lowerBound >> 3
        var byte = (bytes[index] ^ flip) & mask(from: bits.lowerBound)
        while true {
            if index == last { byte &= mask(through: bits.upperBound) }
            if byte != 0 { return index * 8 + byte.leadingZeroBitCount }
            if index == last { return nil }
            index += 1
            let base = bytes.baseAddress.unsafelyUnwrapped
            while index &+ 32 <= last {
                let words = (base + index).loadUnaligned(as: SIMD4<UInt64>.self)
                if words != SIMD4(repeating: flipWord) { break }
                index &+= 32
            }
            while index &+ 8 <= last {
                let word = (base + index).loadUnaligned(as: UInt64.self) ^ flipWord
                if word != 0 { return index * 8 + word.bigEndian.leadingZeroBitCount }
                index &+= 8
            }
            byte = bytes[index] ^ flip
        }
    }

    /// The bits of a byte from the given one on.
    private static func mask(from bit: Int) -> UInt8 { 0xFF &>> UInt8(truncatingIfNeeded: bit & 7) }
    /// The bits of a byte up to the given one.
    private static func mask(through bit: Int) -> UInt8 { ~(0x7F &>> UInt8(truncatingIfNeeded: bit & 7)) }

    // MARK: Combine

    /// Combines `source` into `result`; what is missing from a shorter source counts as zero.
    ///
    /// `not` inverts the result and has no source.
    ///
    /// - Precondition: `source` is not longer than `result`, and they do not overlap.
    /// - Complexity: O(bytes)
    package static func combine(
        _ operation: BitOperation, _ source: UnsafeRawBufferPointer, into result: UnsafeMutableRawBufferPointer
    ) {
        precondition(source.count <= result.count)
        guard let target = result.baseAddress else { return }
        switch operation {
        case .and:
            combine(source, target) { $0 & $1 }
            (target + source.count).initializeMemory(
                as: UInt8.self, repeating: 0, count: result.count - source.count)
        case .or: combine(source, target) { $0 | $1 }
        case .xor: combine(source, target) { $0 ^ $1 }
        case .not: combine(UnsafeRawBufferPointer(result), target) { ~($0 | $1) }
        }
    }

    @inline(__always)
    private static func combine(
        _ source: UnsafeRawBufferPointer, _ target: UnsafeMutableRawPointer,
        _ operation: (UInt64, UInt64) -> UInt64
    ) {
        guard let base = source.baseAddress else { return }
        var index = 0
        while index &+ 8 <= source.count {
            let word = operation(
                (target + index).loadUnaligned(as: UInt64.self), (base + index).loadUnaligned(as: UInt64.self))
            (target + index).storeBytes(of: word, as: UInt64.self)
            index &+= 8
        }
        while index < source.count {
            let word = operation(
                UInt64((target + index).load(as: UInt8.self)), UInt64((base + index).load(as: UInt8.self)))
            (target + index).storeBytes(of: UInt8(truncatingIfNeeded: word), as: UInt8.self)
            index &+= 1
        }
    }

    // MARK: Fields

    /// The unsigned number in up to 64 bits at a bit offset. Beyond the end all bits are zero.
    package static func field(in bytes: UnsafeRawBufferPointer, at offset: Int, bits: Int) -> UInt64 {
        // A field touches at most nine bytes.
        let last = (offset + bits - 1) >> 3
        var window: UInt128 = 0
        for index in (offset >> 3)...last { window = window << 8 | UInt128(index < bytes.count ? bytes[index] : 0) }
        let spare = 7 - (offset + bits - 1) & 7
        return UInt64(truncatingIfNeeded: window >> UInt128(spare)) & lowMask(bits)
    }

    /// Stores the low bits of a number. - Precondition: the field lies within the bytes.
    package static func store(_ value: UInt64, in bytes: UnsafeMutableRawBufferPointer, at offset: Int, bits: Int) {
        let first = offset >> 3
        let last = (offset + bits - 1) >> 3
        let spare = UInt128(7 - (offset + bits - 1) & 7)
        let mask = UInt128(lowMask(bits)) << spare
        var window: UInt128 = 0
        for index in first...last { window = window << 8 | UInt128(bytes[index]) }
        window = window & ~mask | (UInt128(value) << spare & mask)
        for index in stride(from: last, through: first, by: -1) {
            bytes[index] = UInt8(truncatingIfNeeded: window)
            window >>= 8
        }
    }

    private static func lowMask(_ bits: Int) -> UInt64 { bits == 64 ? ~0 : (1 << UInt64(bits)) - 1 }
}
