/// CRC-16/XMODEM (polynomial 0x1021, initial value 0), the checksum that maps keys to hash slots.
///
/// Byte by byte every step waits for the one before, some 7 cycles a byte: in a cluster that was a tenth of what a GET
/// costs. Slicing by eight folds eight bytes per step instead: table `k` holds what a byte contributes after `k` further
/// zero bytes, so the eight look-ups of a step are independent (see ``crc64(_:continuing:)``).
///
/// Source: cluster specification, "Hash slots"; check value of "123456789" is 0x31C3.
///
/// - Complexity: O(count)
package func crc16(_ bytes: UnsafeRawBufferPointer) -> UInt16 {
    guard let base = bytes.baseAddress else { return 0 }
    let count = bytes.count
    var crc: UInt16 = 0
    var offset = 0
    if count >= 8 {
        let table = crc16Table
        while count &- offset >= 8 {
            // The register holds the bits that come first: it meets the first two bytes.
            let word = UInt64(bigEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
            let folded = word ^ UInt64(crc) &<< 48
            let high = UInt32(truncatingIfNeeded: folded &>> 32)
            let low = UInt32(truncatingIfNeeded: folded)
            crc =
                table[7 &* 256 &+ Int(high &>> 24)]
                ^ table[6 &* 256 &+ Int((high &>> 16) & 0xFF)]
                ^ table[5 &* 256 &+ Int((high &>> 8) & 0xFF)]
                ^ table[4 &* 256 &+ Int(high & 0xFF)]
                ^ table[3 &* 256 &+ Int(low &>> 24)]
                ^ table[2 &* 256 &+ Int((low &>> 16) & 0xFF)]
                ^ table[256 &+ Int((low &>> 8) & 0xFF)]
                ^ table[Int(low & 0xFF)]
            offset &+= 8
        }
    }
    while offset < count {
        crc = crc16(crc, base.load(fromByteOffset: offset, as: UInt8.self))
        offset &+= 1
    }
    return crc
}

/// One byte more, without a table: it folds into the register with four shifts.
@inline(__always)
private func crc16(_ crc: UInt16, _ byte: UInt8) -> UInt16 {
    var x = (crc &>> 8) ^ UInt16(byte)
    x ^= x &>> 4
    return (crc &<< 8) ^ (x &<< 12) ^ (x &<< 5) ^ x
}

/// Eight tables of 256 entries, 4 KB in all. Written once, before anybody can read the pointer, and never freed: that is
/// why sharing it between threads is safe.
private nonisolated(unsafe) let crc16Table: UnsafePointer<UInt16> = {
    let table = UnsafeMutablePointer<UInt16>.allocate(capacity: 8 * 256)
    for byte in 0..<256 {
        var crc = crc16(0, UInt8(byte))
        for slice in 0..<8 {
            table[slice * 256 + byte] = crc
            crc = crc16(crc, 0)
        }
    }
    return UnsafePointer(table)
}()
