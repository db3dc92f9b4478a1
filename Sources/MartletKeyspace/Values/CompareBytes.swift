import Glibc

/// Below, above or equal to 0 as the first is before, behind or equal to the second: by bytes, the shorter of equal
/// beginnings first. (sdscmp)
@inline(__always)
package func compareBytes(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) -> Int {
    let count = min(first.count, second.count)
    if count > 0 {
        let difference = memcmp(first.baseAddress.unsafelyUnwrapped, second.baseAddress.unsafelyUnwrapped, count)
        if difference != 0 { return Int(difference) }
    }
    return first.count &- second.count
}
