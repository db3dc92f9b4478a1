/// The integer in `bytes` if they are exactly its canonical decimal form: what `INCR` accepts and what an integer
/// encoded string may be turned back from. No spaces, no `+`, no leading zeros, no `-0`; the full range of `Int64`.
///
/// Source: Redis 7.0 util.c, `string2ll`.
/// - Complexity: O(1), at most 20 bytes are looked at.
@inlinable
package func parseInt64(_ bytes: UnsafeRawBufferPointer) -> Int64? {
    guard bytes.count > 0, bytes.count <= 20 else { return nil }
    let isNegative = bytes[0] == UInt8(ascii: "-")
    let digits = isNegative ? UnsafeRawBufferPointer(rebasing: bytes[1...]) : bytes
    guard let magnitude = parseUInt64(digits) else { return nil }
    if isNegative {
        guard magnitude != 0, magnitude <= UInt64(Int64.max) + 1 else { return nil }
        return Int64(truncatingIfNeeded: 0 &- magnitude)
    }
    return Int64(exactly: magnitude)
}

/// The unsigned integer in `bytes` if they are exactly its canonical decimal form, by the rules of ``parseInt64(_:)``.
///
/// - Complexity: O(1), at most 20 bytes are looked at.
@inlinable
package func parseUInt64(_ bytes: UnsafeRawBufferPointer) -> UInt64? {
    let count = bytes.count
    guard count > 0, count <= 20 else { return nil }
    let first = bytes[0] &- UInt8(ascii: "0")
    guard first <= 9, first != 0 || count == 1 else { return nil }
    var value = UInt64(first)
    // 19 digits always fit in 64 bits, so only a 20th can overflow.
    var index = 1
    while index < min(count, 19) {
        let digit = bytes[index] &- UInt8(ascii: "0")
        guard digit <= 9 else { return nil }
        value = value &* 10 &+ UInt64(digit)
        index += 1
    }
    guard count == 20 else { return value }
    let digit = bytes[19] &- UInt8(ascii: "0")
    guard digit <= 9 else { return nil }
    let (product, productOverflows) = value.multipliedReportingOverflow(by: 10)
    let (sum, sumOverflows) = product.addingReportingOverflow(UInt64(digit))
    return productOverflows || sumOverflows ? nil : sum
}
