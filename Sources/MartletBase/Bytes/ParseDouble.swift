// Floating point arguments of commands. The whole argument has to be a number as C's strtod reads it in the C locale:
// decimal with optional point and exponent, hexadecimal (0x1.8p3), `inf` or `infinity` in any case; no spaces around,
// no `nan`. A value that overflows to infinity or underflows to zero is refused.
//
// Most arguments are short: a mantissa that the type holds exactly, times or over a power of ten that it holds
// exactly, gives the correctly rounded result with one operation (Clinger's fast path). All others are checked here
// for grammar and then left to the standard library.
//
// Source: Redis 7.0 util.c, `string2d` and `string2ld`.

/// The longest text that is taken for a ``LongDouble``. Source: MAX_LONG_DOUBLE_CHARS, less the terminator.
package let longDoubleTextBytesMax = 5 * 1024 - 1

/// - Complexity: O(count)
package func parseDouble(_ bytes: UnsafeRawBufferPointer) -> Double? {
    guard let number = NumberText(bytes) else { return nil }
    // 2^53 and 10^22 are the largest that a Double holds with all that is below them.
    if let fast: Double = number.fastValue(mantissaMax: 1 << 53, exponentMax: 22) { return fast }
    guard let value = Double(String(decoding: bytes, as: UTF8.self)) else { return nil }
    return number.accepts(value) ? value : nil
}

/// - Complexity: O(count), at most ``longDoubleTextBytesMax``
package func parseLongDouble(_ bytes: UnsafeRawBufferPointer) -> LongDouble? {
    guard bytes.count <= longDoubleTextBytesMax, let number = NumberText(bytes) else { return nil }
    #if arch(x86_64) || arch(i386)
        if let fast: LongDouble = number.fastValue(mantissaMax: .max, exponentMax: 27) { return fast }
    #else
        if let fast: LongDouble = number.fastValue(mantissaMax: 1 << 53, exponentMax: 22) { return fast }
    #endif
    guard let value = LongDouble(String(decoding: bytes, as: UTF8.self)) else { return nil }
    return number.accepts(value) ? value : nil
}

/// What the grammar finds in the text of a number.
private struct NumberText {
    var isNegative = false
    var isInfinity = false
    var isHexadecimal = false
    /// All digits before the exponent are 0.
    var isZero = true
    /// The digits as an integer, exact unless `hasDroppedDigits`; scaled by 10^exponent.
    var mantissa: UInt64 = 0
    var exponent = 0
    var hasDroppedDigits = false

    init?(_ bytes: UnsafeRawBufferPointer) {
        var index = 0
        if index < bytes.count, bytes[index] == UInt8(ascii: "-") || bytes[index] == UInt8(ascii: "+") {
            isNegative = bytes[index] == UInt8(ascii: "-")
            index += 1
        }
        let rest = UnsafeRawBufferPointer(rebasing: bytes[index...])
        if Self.isWord(rest, "inf") || Self.isWord(rest, "infinity") {
            isInfinity = true
            return
        }
        if rest.count > 2, rest[0] == UInt8(ascii: "0"), rest[1] | 0x20 == UInt8(ascii: "x") {
            isHexadecimal = true
            guard scan(UnsafeRawBufferPointer(rebasing: rest[2...]), radix: 16, exponentMark: UInt8(ascii: "p"))
            else { return nil }
        } else {
            guard scan(rest, radix: 10, exponentMark: UInt8(ascii: "e")) else { return nil }
        }
    }

    /// The value, if one exact operation gives it.
    func fastValue<Value: BinaryFloatingPoint>(mantissaMax: UInt64, exponentMax: Int) -> Value? {
        if isInfinity { return isNegative ? -.infinity : .infinity }
        guard !isHexadecimal, !hasDroppedDigits, mantissa <= mantissaMax, exponent.magnitude <= exponentMax else {
            return nil
        }
        var power: Value = 1
        for _ in 0..<Int(exponent.magnitude) { power *= 10 }
        let magnitude = exponent < 0 ? Value(mantissa) / power : Value(mantissa) * power
        return isNegative ? -magnitude : magnitude
    }

    /// Refuses overflow and underflow to zero.
    func accepts<Value: BinaryFloatingPoint>(_ value: Value) -> Bool {
        value.isFinite && (value != 0 || isZero)
    }

    /// digits [. digits] [mark [sign] digits], with at least one digit before the mark, up to the end.
    private mutating func scan(_ bytes: UnsafeRawBufferPointer, radix: UInt8, exponentMark: UInt8) -> Bool {
        var index = 0
        var digitCount = 0
        var hasPoint = false
        while index < bytes.count {
            if !hasPoint, bytes[index] == UInt8(ascii: ".") {
                hasPoint = true
            } else if let digit = Self.digit(bytes[index], radix: radix) {
                digitCount += 1
                if digit != 0 { isZero = false }
                // 10^18 leaves room for one more digit of any value.
                if mantissa < powerOfTen(18), !hasDroppedDigits {
                    mantissa = mantissa * 10 + UInt64(digit % 10)
                    if hasPoint { exponent -= 1 }
                } else {
                    hasDroppedDigits = true
                }
            } else {
                break
            }
            index += 1
        }
        guard digitCount > 0 else { return false }
        guard index < bytes.count else { return true }
        guard bytes[index] | 0x20 == exponentMark else { return false }
        index += 1
        var isExponentNegative = false
        if index < bytes.count, bytes[index] == UInt8(ascii: "-") || bytes[index] == UInt8(ascii: "+") {
            isExponentNegative = bytes[index] == UInt8(ascii: "-")
            index += 1
        }
        guard index < bytes.count else { return false }
        var written = 0
        while index < bytes.count {
            guard let digit = Self.digit(bytes[index], radix: 10) else { return false }
            // Beyond a million it is over- or underflow however many digits the mantissa has in memory.
            if written < 1_000_000 { written = written * 10 + Int(digit) }
            index += 1
        }
        exponent += isExponentNegative ? -written : written
        return true
    }

    private static func digit(_ byte: UInt8, radix: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): return byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f") where radix == 16: return byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F") where radix == 16: return byte - UInt8(ascii: "A") + 10
        default: return nil
        }
    }

    private static func isWord(_ bytes: UnsafeRawBufferPointer, _ word: StaticString) -> Bool {
        guard bytes.count == word.utf8CodeUnitCount else { return false }
        for index in 0..<bytes.count where bytes[index] | 0x20 != word.utf8Start[index] { return false }
        return true
    }
}
