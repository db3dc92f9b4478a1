// INCRBYFLOAT and HINCRBYFLOAT compute in C's `long double`, and their replies show it: 0.1 + 0.2 is 0.3 there, while
// 64 bits would give 0.30000000000000004. On x86-64 that type is Swift's Float80. Elsewhere C has 128 bits, which Swift
// has not; a Double stands in, and results may differ from Redis in the last of 17 decimals.

#if arch(x86_64) || arch(i386)
    package typealias LongDouble = Float80
#else
    package typealias LongDouble = Double
#endif

/// Room for ``formatHuman(_:to:)``: 4933 digits before the point, a sign, the point and 17 decimals.
package let longDoubleBytesMax = 5 * 1024

/// Writes `value` with at most 17 decimals and no trailing zeros, never with an exponent; `inf` and `-inf`, and `nan`.
/// Returns the count of bytes written.
///
/// Source: Redis 7.0 util.c, `ld2string` with LD_STR_HUMAN.
/// - Precondition: `buffer` has room for ``longDoubleBytesMax``.
package func formatHuman(_ value: LongDouble, to buffer: UnsafeMutableRawBufferPointer) -> Int {
    precondition(buffer.count >= longDoubleBytesMax)
    guard value.isFinite else {
        return write(value.isNaN ? "nan" : value < 0 ? "-inf" : "inf", to: buffer)
    }
    let (integer, fraction, bigDigits) = humanParts(of: value)
    if integer == 0, fraction == 0, bigDigits == nil { return write("0", to: buffer) }
    var count = 0
    if value < 0 {
        buffer[0] = UInt8(ascii: "-")
        count = 1
    }
    if let bigDigits {
        for digit in bigDigits {
            buffer[count] = UInt8(ascii: "0") + digit
            count += 1
        }
    } else {
        count += writeDecimal(integer, to: buffer.baseAddress! + count)
    }
    guard fraction != 0 else { return count }
    buffer[count] = UInt8(ascii: ".")
    var rest = fraction
    for index in stride(from: 17, to: 0, by: -1) {
        buffer[count + index] = UInt8(ascii: "0") + UInt8(rest % 10)
        rest /= 10
    }
    count += 18
    while buffer[count - 1] == UInt8(ascii: "0") { count -= 1 }
    return count
}

/// The magnitude of a finite value as integer part and 17 decimals, rounded to even as printf does. An integer part of
/// more than 64 bits, which leaves no decimals, comes as digits instead.
private func humanParts(of value: LongDouble) -> (integer: UInt64, fraction: UInt64, bigDigits: [UInt8]?) {
    guard value != 0 else { return (0, 0, nil) }
    // magnitude = mantissa * 2^exponent, exactly.
    let mantissa = UInt64(value.magnitude.significand * LongDouble(UInt64(1) << 63))
    let exponent = Int(value.exponent) - 63
    if exponent > 0 { return (0, 0, BigDecimal(mantissa, timesTwoToThe: exponent).digits) }
    let shift = -exponent
    // Below 2^-64 everything is less than half of the last decimal.
    guard shift < 128 else { return (0, 0, nil) }
    var integer = shift < 64 ? mantissa >> UInt64(shift) : 0
    let remainder = shift < 64 ? mantissa - (integer << UInt64(shift)) : mantissa
    // Less than 2^64 * 10^17, which is less than 2^121.
    let scaled = UInt128(remainder) * UInt128(powerOfTen(17))
    var fraction = UInt64(truncatingIfNeeded: scaled >> UInt128(shift))
    let tail = scaled - (UInt128(fraction) << UInt128(shift))
    let half: UInt128 = shift == 0 ? 0 : 1 << UInt128(shift - 1)
    if tail > half || (tail == half && shift > 0 && fraction & 1 == 1) { fraction += 1 }
    if fraction == powerOfTen(17) {
        fraction = 0
        integer += 1  // Cannot overflow: with a fraction, the integer part has less than 64 bits.
    }
    return (integer, fraction, nil)
}

private func write(_ text: StaticString, to buffer: UnsafeMutableRawBufferPointer) -> Int {
    buffer.copyMemory(from: UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    return text.utf8CodeUnitCount
}
