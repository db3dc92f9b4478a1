/// One of the 16384 parts of the keyspace. A key belongs to the slot CRC16(key) mod 16384, where only the hash tag
/// counts if the key has one: the text between the first `{` and the first `}` after it, when not empty.
///
/// Source: cluster specification, "Hash tags".
package struct HashSlot: RawRepresentable, Hashable, Comparable, Sendable {
    /// 0 to 16383.
    package let rawValue: UInt16

    package static let count = 16384

    /// - Precondition: `rawValue` is below ``count``.
    @inlinable
    package init(rawValue: UInt16) {
        precondition(rawValue < 16384)
        self.rawValue = rawValue
    }

    /// Nil when `number` is no slot number.
    package init?(_ number: Int64) {
        guard number >= 0, number < 16384 else { return nil }
        self.rawValue = UInt16(number)
    }

    @inlinable package var index: Int { Int(rawValue) }

    @inlinable package static func < (left: HashSlot, right: HashSlot) -> Bool { left.rawValue < right.rawValue }

    /// The slot of a key. - Complexity: O(key length)
    package static func of(_ key: UnsafeRawBufferPointer) -> HashSlot {
        HashSlot(rawValue: crc16(hashTag(of: key)) & 16383)
    }

    /// The part of the key that is hashed.
    package static func hashTag(of key: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        var open = 0
        // Eight bytes at a time: a byte of the difference is zero where there is a brace.
        while key.count &- open >= 8 {
            let word = key.loadUnaligned(fromByteOffset: open, as: UInt64.self) ^ 0x7B7B_7B7B_7B7B_7B7B
            if (word &- 0x0101_0101_0101_0101) & ~word & 0x8080_8080_8080_8080 != 0 { break }
            open &+= 8
        }
        while open < key.count, key[open] != UInt8(ascii: "{") { open += 1 }
        if open == key.count { return key }
        var close = open + 1
        while close < key.count, key[close] != UInt8(ascii: "}") { close += 1 }
        if close == key.count || close == open + 1 { return key }
        return UnsafeRawBufferPointer(rebasing: key[(open + 1)..<close])
    }
}
