// Bytes that claim to be a listpack: payloads of RESTORE, RDB files, what a primary sends. Nothing is believed, and nothing
// outside of the bytes is read.
//
// Redis looks at the header only unless `sanitize-dump-payload` is set, and is killed by its own assertions when a walk
// meets something odd later on. Here whatever comes from outside has to be checked with `deep`: then every walk, in
// either direction, stays within the bytes and ends.

extension Listpack {
    /// Whether these bytes are a listpack. (lpValidateIntegrity)
    ///
    /// Encodings may be longer than they had to be. Whether fields are there twice, and have values, is up to the caller.
    ///
    /// - Parameter deep: look at each element, not only at the header and the end mark.
    /// - Complexity: O(1); O(n) if `deep`
    package static func isValid(_ bytes: UnsafeRawBufferPointer, deep: Bool) -> Bool {
        guard bytes.count >= emptyBytes, Int(bytes.loadUnaligned(as: UInt32.self)) == bytes.count else { return false }
        let end = bytes.count - 1
        guard bytes[end] == endMark else { return false }
        guard deep else { return true }
        var (position, count) = (headerBytes, 0)
        while bytes[position] != endMark {
            guard let next = validEntryEnd(bytes, position, end) else { return false }
            position = next
            count += 1
        }
        let stored = Int(bytes.loadUnaligned(fromByteOffset: 4, as: UInt16.self))
        return position == end && (stored == count || stored == unknownCount)
    }

    /// Where the element ends that begins at `position`: at `end` at the latest. - Returns: nil if it is not valid.
    @inline(__always)
    private static func validEntryEnd(_ bytes: UnsafeRawBufferPointer, _ position: Int, _ end: Int) -> Int? {
        let lead = bytes[position]
        let encodedBytes: Int
        switch lead {
        case 0x00...0x7F: encodedBytes = 1
        case 0x80...0xBF: encodedBytes = 1 + Int(lead & 0x3F)
        case 0xC0...0xDF: encodedBytes = 2
        case 0xE0...0xEF:
            guard position + 2 <= end else { return nil }
            encodedBytes = 2 + (Int(lead & 0x0F) << 8 | Int(bytes[position + 1]))
        case 0xF0:
            guard position + 5 <= end else { return nil }
            encodedBytes = 5 + Int(bytes.loadUnaligned(fromByteOffset: position + 1, as: UInt32.self))
        case 0xF1: encodedBytes = 3
        case 0xF2: encodedBytes = 4
        case 0xF3: encodedBytes = 5
        case 0xF4: encodedBytes = 9
        default: return nil
        }
        let next = position + encodedBytes + backLengthBytes(encodedBytes)
        guard next <= end else { return nil }
        // Five bytes back are still within the bytes, as the header is six bytes long. Whatever form the length has, a
        // walk back takes it for that of its shortest form.
        let backLength = backLength(before: bytes.baseAddress.unsafelyUnwrapped + next)
        return backLength == encodedBytes ? next : nil
    }
}
