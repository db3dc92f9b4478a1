/// CRC-16/XMODEM (polynomial 0x1021, initial value 0), the checksum that maps keys to hash slots.
///
/// Computed without a table: one byte folds into the register with four shifts, which costs about as much as
/// a table look-up that hits the cache and nothing when it would have missed.
/// Source: cluster specification, "Hash slots"; check value of "123456789" is 0x31C3.
///
/// - Complexity: O(count)
@inlinable
package func crc16(_ bytes: UnsafeRawBufferPointer) -> UInt16 {
    var crc: UInt16 = 0
    for byte in bytes {
        var x = (crc &>> 8) ^ UInt16(byte)
        x ^= x &>> 4
        crc = (crc &<< 8) ^ (x &<< 12) ^ (x &<< 5) ^ x
    }
    return crc
}
