/// Room for any 64-bit integer in decimal: 20 digits, or a sign and 19 digits.
package let int64DecimalBytesMax = 20

/// How many digits `value` has in decimal. - Complexity: O(1)
@inlinable
package func decimalCount(of value: UInt64) -> Int {
    if value < 10 { return 1 }
    if value < 100 { return 2 }
    if value < 1000 { return 3 }
    if value < 10_000 { return 4 }
    // log10(2) is 1233/4096 to better than one part in 64, which leaves an error of at most one digit.
    let bitCount = 64 - value.leadingZeroBitCount
    let estimate = (bitCount &* 1233) &>> 12
    return value >= powerOfTen(estimate) ? estimate + 1 : estimate
}

/// How many bytes `value` needs in decimal, with its sign. - Complexity: O(1)
@inlinable
package func decimalCount(of value: Int64) -> Int {
    decimalCount(of: value.magnitude) + (value < 0 ? 1 : 0)
}

/// 10 to the power of `exponent`, which is at most 19.
@usableFromInline
package func powerOfTen(_ exponent: Int) -> UInt64 {
    switch exponent {
    case 0: return 1
    case 1: return 10
    case 2: return 100
    case 3: return 1000
    case 4: return 10_000
    case 5: return 100_000
    case 6: return 1_000_000
    case 7: return 10_000_000
    case 8: return 100_000_000
    case 9: return 1_000_000_000
    case 10: return 10_000_000_000
    case 11: return 100_000_000_000
    case 12: return 1_000_000_000_000
    case 13: return 10_000_000_000_000
    case 14: return 100_000_000_000_000
    case 15: return 1_000_000_000_000_000
    case 16: return 10_000_000_000_000_000
    case 17: return 100_000_000_000_000_000
    case 18: return 1_000_000_000_000_000_000
    case 19: return 10_000_000_000_000_000_000
    default: preconditionFailure("10^\(exponent) does not fit in 64 bits")
    }
}

/// Writes `value` in decimal at `destination`, which has room for ``int64DecimalBytesMax``, and returns the count of
/// bytes written.
///
/// Digits are produced from the right, two for each division.
/// - Complexity: O(digits)
@inlinable
@discardableResult
package func writeDecimal(_ value: UInt64, to destination: UnsafeMutableRawPointer) -> Int {
    let count = decimalCount(of: value)
    let pairs: StaticString = """
        00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354\
        55565758596061626364656667686970717273747576777879808182838485868788899091929394959697989\
        9
        """
    let table = UnsafeRawPointer(pairs.utf8Start)
    var rest = value
    var position = count
    while rest >= 100 {
        let (quotient, remainder) = rest.quotientAndRemainder(dividingBy: 100)
        position &-= 2
        let pair = table.loadUnaligned(fromByteOffset: Int(truncatingIfNeeded: remainder) &* 2, as: UInt16.self)
        destination.storeBytes(of: pair, toByteOffset: position, as: UInt16.self)
        rest = quotient
    }
    if rest >= 10 {
        let pair = table.loadUnaligned(fromByteOffset: Int(truncatingIfNeeded: rest) &* 2, as: UInt16.self)
        destination.storeBytes(of: pair, as: UInt16.self)
    } else {
        destination.storeBytes(of: UInt8(ascii: "0") &+ UInt8(truncatingIfNeeded: rest), as: UInt8.self)
    }
    return count
}

/// Writes `value` in decimal at `destination`, which has room for ``int64DecimalBytesMax``, and returns the count of
/// bytes written.
///
/// - Complexity: O(digits)
@inlinable
@discardableResult
package func writeDecimal(_ value: Int64, to destination: UnsafeMutableRawPointer) -> Int {
    guard value < 0 else { return writeDecimal(UInt64(bitPattern: value), to: destination) }
    destination.storeBytes(of: UInt8(ascii: "-"), as: UInt8.self)
    return 1 + writeDecimal(value.magnitude, to: destination + 1)
}
