/// What becomes of a number that does not fit its field.
package enum BitfieldOverflow {
    /// The low bits are kept.
    case wrap
    /// The nearest number that fits.
    case saturate
    /// Nothing is written.
    case fail
}

/// The type of a field of BITFIELD: `i1` to `i64`, `u1` to `u63`.
///
/// Numbers are passed as `Int64`; those of unsigned types are never negative.
package struct BitfieldType {
    package let isSigned: Bool
    package let bits: Int

    /// - Precondition: 1 to 64 bits, or 63 for unsigned types: replies have no larger integers.
    package init(isSigned: Bool, bits: Int) {
        precondition(bits >= 1 && bits <= (isSigned ? 64 : 63))
        self.isSigned = isSigned
        self.bits = bits
    }

    package func load(from bytes: UnsafeRawBufferPointer, at offset: Int) -> Int64 {
        let pattern = Bitmap.field(in: bytes, at: offset, bits: bits)
        return isSigned ? signExtended(pattern) : Int64(pattern)
    }

    package func store(_ value: Int64, in bytes: UnsafeMutableRawBufferPointer, at offset: Int) {
        Bitmap.store(UInt64(bitPattern: value), in: bytes, at: offset, bits: bits)
    }

    /// `value` as this type holds it: what SET stores. - Returns: nil if it does not fit and overflow fails.
    package func fit(_ value: Int64, _ overflow: BitfieldOverflow) -> Int64? { add(0, to: value, overflow) }

    /// The sum as this type holds it: what INCRBY stores. - Returns: nil if it does not fit and overflow fails.
    ///
    /// Redis' tests for overflow, wrapping like its two's complement arithmetic: a value far outside of a signed type
    /// saturates at the wrong end there, and so it does here. (checkSignedBitfieldOverflow, checkUnsignedBitfieldOverflow)
    package func add(_ increment: Int64, to value: Int64, _ overflow: BitfieldOverflow) -> Int64? {
        let limit: Int64
        if isSigned {
            let highest = bits == 64 ? Int64.max : (1 << Int64(bits - 1)) - 1
            let lowest = -highest - 1
            let room = highest &- value
            let roomBelow = lowest &- value
            if value > highest || (bits != 64 && increment > room) || (value >= 0 && increment > 0 && increment > room)
            {
                limit = highest
            } else if value < lowest || (bits != 64 && increment < roomBelow)
                || (value < 0 && increment < 0 && increment < roomBelow)
            {
                limit = lowest
            } else {
                return value + increment
            }
        } else {
            let highest = bits == 63 ? Int64.max : (1 << Int64(bits)) - 1
            // A negative value is an unsigned one that is far too large.
            if value < 0 || value > highest || (increment > 0 && increment > highest - value) {
                limit = highest
            } else if increment < 0 && increment < -value {
                limit = 0
            } else {
                return value + increment
            }
        }
        switch overflow {
        case .fail: return nil
        case .saturate: return limit
        case .wrap:
            let sum = UInt64(bitPattern: value &+ increment)
            if isSigned { return signExtended(sum) }
            return Int64(sum & ((1 << UInt64(bits)) - 1))
        }
    }

    /// The low bits of a pattern as a signed number.
    private func signExtended(_ pattern: UInt64) -> Int64 {
        let shift = Int64(64 - bits)
        return (Int64(bitPattern: pattern) << shift) >> shift
    }
}
