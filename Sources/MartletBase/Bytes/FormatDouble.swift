// Doubles as replies show them. Redis 7.0 prints them with "%.17g": the exact value rounded to 17 significant digits,
// so 0.1 becomes 0.10000000000000001 (shortest forms came with 7.2). Steps:
//
// 1. The value is mantissa * 2^exponent, both integers. From that its 17 digits are computed exactly: in 128 bits
//    for everything between 2^-68 and 2^128, with a BigDecimal outside. Ties go to the even digit, as in glibc.
// 2. The digits are laid out as 123.45 if the decimal exponent is from -4 to 16, else as 1.2345e+20; trailing zeros go.

/// Room for any double that this file writes: sign, 17 digits, point, `e-308`, or `0.000` before 17 digits.
package let doubleBytesMax = 32

/// Writes `value` as C's "%.17g" does and returns the count of bytes: what ZSCORE replies, and RESP3 after the `,`.
///
/// Source: Redis 7.0 networking.c, `addReplyDouble` (which writes infinities as `inf` and `-inf`, as this does).
/// - Precondition: `destination` has room for ``doubleBytesMax``.
package func formatDouble17(_ value: Double, to destination: UnsafeMutableRawPointer) -> Int {
    var writer = DigitWriter(destination)
    if value.sign == .minus { writer.put("-") }
    if value.isNaN {
        writer.put("nan")
    } else if value.isInfinite {
        writer.put("inf")
    } else if value == 0 {
        writer.put("0")
    } else {
        let magnitude = value.magnitude
        if magnitude < 1e15, magnitude == Double(UInt64(magnitude)) {
            writer.count += writeDecimal(UInt64(magnitude), to: destination + writer.count)
        } else {
            writer.put(Decimal17(magnitude))
        }
    }
    return writer.count
}

/// Writes `value` as Redis stores scores in text: integers without exponent up to 2^62, else "%.17g".
///
/// Source: Redis 7.0 util.c, `d2string`.
/// - Precondition: `destination` has room for ``doubleBytesMax``.
package func formatScore(_ value: Double, to destination: UnsafeMutableRawPointer) -> Int {
    if value.isNaN {
        var writer = DigitWriter(destination)
        writer.put("nan")
        return writer.count
    }
    // -0 and what is not an integer keep their own form.
    if value.magnitude <= 0x1p62, value == Double(Int64(value)), value != 0 {
        return writeDecimal(Int64(value), to: destination)
    }
    return formatDouble17(value, to: destination)
}

/// 17 significant digits: 10^16 <= digits < 10^17, the value is d.ddd… * 10^exponent.
private struct Decimal17 {
    var digits: UInt64
    var exponent: Int

    /// `magnitude` is finite and above 0.
    init(_ magnitude: Double) {
        var mantissa = magnitude.significandBitPattern
        var exponent = -1074
        if magnitude.exponentBitPattern > 0 {
            mantissa |= 1 << 52
            exponent += Int(magnitude.exponentBitPattern) - 1
        }
        let zeroCount = mantissa.trailingZeroBitCount
        mantissa >>= UInt64(zeroCount)
        exponent += zeroCount

        if exponent >= 0 {
            if exponent <= 74 {
                self.init(integer: UInt128(mantissa) << UInt128(exponent))
            } else {
                self.init(rounding: BigDecimal(mantissa, timesTwoToThe: exponent).digits, pointShift: 0)
            }
        } else if exponent >= -120 {
            self.init(mantissa, overTwoToThe: -exponent)
        } else {
            self.init(rounding: BigDecimal(mantissa, timesFiveToThe: -exponent).digits, pointShift: exponent)
        }
    }

    /// `integer` is above 0.
    private init(integer: UInt128) {
        var unit: UInt128 = 1
        var exponent = 0
        while integer / 10 >= unit {
            unit *= 10
            exponent += 1
        }
        if exponent <= 16 {
            self.init(digits: UInt64(integer) * powerOfTen(16 - exponent), exponent: exponent)
            return
        }
        unit /= UInt128(powerOfTen(16))
        let (quotient, remainder) = integer.quotientAndRemainder(dividingBy: unit)
        self.init(
            digits: UInt64(quotient), exponent: exponent,
            isAboveHalf: remainder > unit - remainder, isHalf: remainder == unit - remainder)
    }

    /// `shift` is 1 to 120, `mantissa` has at most 53 bits.
    private init(_ mantissa: UInt64, overTwoToThe shift: Int) {
        let shift128 = UInt128(shift)
        let integer = UInt64(UInt128(mantissa) >> shift128)
        // Always below 2^shift, so ten times it fits.
        var rest = UInt128(mantissa) - (UInt128(integer) << shift128)
        var digits = integer
        var digitCount = integer == 0 ? 0 : decimalCount(of: integer)
        var exponent = digitCount - 1
        while digitCount < 17 {
            rest *= 10
            let digit = UInt64(rest >> shift128)
            rest -= UInt128(digit) << shift128
            digits = digits * 10 + digit
            if digits == 0 { exponent -= 1 } else { digitCount += 1 }
        }
        let half: UInt128 = 1 << (shift128 - 1)
        self.init(digits: digits, exponent: exponent, isAboveHalf: rest > half, isHalf: rest == half)
    }

    /// `all` are the digits of an integer, the value is that integer * 10^pointShift.
    private init(rounding all: [UInt8], pointShift: Int) {
        var digits: UInt64 = 0
        for index in 0..<17 { digits = digits * 10 + UInt64(index < all.count ? all[index] : 0) }
        let tail = all.dropFirst(17)
        let next = tail.first ?? 0
        let hasMore = tail.dropFirst().contains { $0 != 0 }
        self.init(
            digits: digits, exponent: all.count - 1 + pointShift,
            isAboveHalf: next > 5 || (next == 5 && hasMore), isHalf: next == 5 && !hasMore)
    }

    private init(digits: UInt64, exponent: Int, isAboveHalf: Bool, isHalf: Bool) {
        self.init(digits: digits, exponent: exponent)
        guard isAboveHalf || (isHalf && digits & 1 == 1) else { return }
        self.digits += 1
        if self.digits == powerOfTen(17) {
            self.digits = powerOfTen(16)
            self.exponent += 1
        }
    }

    private init(digits: UInt64, exponent: Int) {
        self.digits = digits
        self.exponent = exponent
    }
}

private struct DigitWriter {
    let destination: UnsafeMutableRawPointer
    var count = 0

    init(_ destination: UnsafeMutableRawPointer) { self.destination = destination }

    mutating func put(_ byte: UInt8) {
        destination.storeBytes(of: byte, toByteOffset: count, as: UInt8.self)
        count += 1
    }

    mutating func put(_ text: StaticString) {
        for index in 0..<text.utf8CodeUnitCount { put(text.utf8Start[index]) }
    }

    mutating func put(_ number: Decimal17) {
        var digits = number.digits
        var digitCount = 17
        while digits % 10 == 0 {
            digits /= 10
            digitCount -= 1
        }
        func digit(_ index: Int) -> UInt8 {
            UInt8(ascii: "0") + UInt8(digits / powerOfTen(digitCount - 1 - index) % 10)
        }
        if number.exponent >= 17 || number.exponent < -4 {
            put(digit(0))
            if digitCount > 1 { put(".") }
            for index in 1..<max(digitCount, 1) { put(digit(index)) }
            put("e")
            put(number.exponent < 0 ? "-" : "+")
            if number.exponent.magnitude < 10 { put("0") }
            count += writeDecimal(UInt64(number.exponent.magnitude), to: destination + count)
        } else if number.exponent < 0 {
            put("0.")
            for _ in 1..<max(-number.exponent, 1) { put("0") }
            for index in 0..<digitCount { put(digit(index)) }
        } else {
            for index in 0...max(number.exponent, digitCount - 1) {
                if index == number.exponent + 1 { put(".") }
                put(index < digitCount ? digit(index) : UInt8(ascii: "0"))
            }
        }
    }
}
