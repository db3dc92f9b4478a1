// What small hashes were before Redis 2.6: old RDB files hold zipmaps. They are read here and never written.
//
//      0   UInt8   count of fields; 254 stands for any count from there on
//      1   fields: length, bytes; length of the value, count of unused bytes (UInt8), value, unused bytes
//      …   0xFF    end mark
//
// A length is one byte up to 253, else a byte and a UInt32.
//
// Source: zipmap.c of Redis 7.0.

/// A view of a zipmap: a sequence of its fields with their values.
package struct Zipmap: Sequence {
    private let bytes: UnsafeRawBufferPointer

    private static let headerBytes = 1
    private static let endMark: UInt8 = 0xFF
    /// The first length, and the first count, that does not fit into one byte.
    private static let large = 254

    /// - Precondition: ``isValid(_:deep:)``, with `deep`.
    package init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    package struct Iterator: IteratorProtocol {
        private let bytes: UnsafeRawBufferPointer
        private var position = Zipmap.headerBytes

        fileprivate init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

        package mutating func next() -> (field: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer)? {
            guard bytes[position] != Zipmap.endMark else { return nil }
            guard let pair = Pair(bytes, position) else { preconditionFailure("the zipmap was validated") }
            position = pair.end
            return (
                UnsafeRawBufferPointer(rebasing: bytes[pair.field]), UnsafeRawBufferPointer(rebasing: bytes[pair.value])
            )
        }
    }

    package func makeIterator() -> Iterator { Iterator(bytes) }

    /// Whether these bytes are a zipmap that is not empty; never reads outside of them. (zipmapValidateIntegrity)
    ///
    /// Whether fields are there twice is up to the caller.
    ///
    /// - Parameter deep: look at each field, not only at the end mark.
    /// - Complexity: O(1); O(n) if `deep`
    package static func isValid(_ bytes: UnsafeRawBufferPointer, deep: Bool) -> Bool {
        guard bytes.count >= 2, bytes[bytes.count - 1] == endMark else { return false }
        guard deep else { return true }
        var (position, count) = (headerBytes, 0)
        // As in Redis anything may follow the first end mark.
        while bytes[position] != endMark {
            guard let pair = Pair(bytes, position) else { return false }
            position = pair.end
            count += 1
        }
        return count > 0 && (Int(bytes[0]) == count || Int(bytes[0]) == large)
    }

    private struct Pair {
        let field: Range<Int>
        let value: Range<Int>
        /// After the unused bytes.
        let end: Int

        /// - Returns: nil if it is not valid or does not end before the last byte.
        init?(_ bytes: UnsafeRawBufferPointer, _ position: Int) {
            let last = bytes.count - 1
            guard let field = Self.range(bytes, position, spareBytes: 0), field.upperBound <= last,
                let value = Self.range(bytes, field.upperBound, spareBytes: 1)
            else { return nil }
            self.field = field
            self.value = value
            end = value.upperBound + Int(bytes[value.lowerBound - 1])
            guard end <= last else { return nil }
        }

        /// Where the bytes are whose length stands at `position`, with `spareBytes` in between. The end is not checked.
        private static func range(_ bytes: UnsafeRawBufferPointer, _ position: Int, spareBytes: Int) -> Range<Int>? {
            let last = bytes.count - 1
            let isLong = Int(bytes[position]) >= large
            let start = position + (isLong ? 5 : 1)
            guard start <= last else { return nil }
            var count = Int(bytes[position])
            if isLong {
                count = Int(bytes.loadUnaligned(fromByteOffset: position + 1, as: UInt32.self))
                guard count >= large else { return nil }
            }
            return (start + spareBytes)..<(start + spareBytes + count)
        }
    }
}
