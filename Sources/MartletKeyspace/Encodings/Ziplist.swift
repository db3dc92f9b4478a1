import MartletBase

// What listpacks were before Redis 7.0: RDB files and DUMP payloads of older servers hold ziplists. They are read here and
// never written.
//
//      0   UInt32  bytes of the whole, header and end mark included
//      4   UInt32  offset of the last entry; of the end mark if there is none
//      8   UInt16  count of entries; 65535 stands for any count from there on
//      10  entries
//      …   0xFF    end mark
//
// An entry begins with the length of the one before it: one byte up to 253, else 0xFE and a UInt32. Then follows:
//
//      00cccccc bytes                       string of up to 63 bytes
//      01cccccc cccccccc bytes              string of up to 16383 bytes, high bits first
//      10······, 4 bytes, bytes             longer string, high byte of its count first
//      FE, C0, F0, D0, E0 and 1, 2, 3, 4, 8 B   signed integer of 8, 16, 24, 32, 64 bits, low byte first
//      1111iiii                             integer: 0001 to 1101 are 0 to 12
//
// Source: ziplist.c of Redis 7.0.

/// A view of a ziplist: a sequence of its values.
package struct Ziplist: Sequence {
    private let bytes: UnsafeRawBufferPointer

    private static let headerBytes = 10
    private static let endMark: UInt8 = 0xFF

    /// - Precondition: ``isValid(_:deep:)``, with `deep`.
    package init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    package struct Iterator: IteratorProtocol {
        private let bytes: UnsafeRawBufferPointer
        private var position = Ziplist.headerBytes

        fileprivate init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

        package mutating func next() -> StringView? {
            guard bytes[position] != Ziplist.endMark else { return nil }
            guard let entry = Entry(bytes, position) else { preconditionFailure("the ziplist was validated") }
            position = entry.end
            return entry.value(bytes)
        }
    }

    package func makeIterator() -> Iterator { Iterator(bytes) }

    /// Whether these bytes are a ziplist; never reads outside of them. (ziplistValidateIntegrity)
    ///
    /// - Parameter deep: look at each entry, not only at the header and the end mark.
    /// - Complexity: O(1); O(n) if `deep`
    package static func isValid(_ bytes: UnsafeRawBufferPointer, deep: Bool) -> Bool {
        guard bytes.count > headerBytes, Int(bytes.loadUnaligned(as: UInt32.self)) == bytes.count else { return false }
        let end = bytes.count - 1
        let lastOffset = Int(bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        guard bytes[end] == endMark, lastOffset <= end else { return false }
        guard deep else { return true }
        var (position, count) = (headerBytes, 0)
        var (last, lastBytes) = (lastOffset, 0)
        while bytes[position] != endMark {
            guard let entry = Entry(bytes, position), entry.previousBytes == lastBytes else { return false }
            (last, lastBytes) = (position, entry.end - position)
            position = entry.end
            count += 1
        }
        let stored = Int(bytes.loadUnaligned(fromByteOffset: 8, as: UInt16.self))
        return position == end && last == lastOffset && (stored == count || stored == 65535)
    }

    private struct Entry {
        /// Length of the entry before.
        let previousBytes: Int
        private let encoding: UInt8
        /// Where the bytes of the string or integer are.
        private let start: Int
        let end: Int

        /// - Returns: nil if it is not valid or does not end before the end mark.
        init?(_ bytes: UnsafeRawBufferPointer, _ position: Int) {
            let listEnd = bytes.count - 1
            guard position < listEnd else { return nil }
            var place = position
            if bytes[place] < 0xFE {
                previousBytes = Int(bytes[place])
                place += 1
            } else {
                guard place + 5 <= listEnd else { return nil }
                previousBytes = Int(bytes.loadUnaligned(fromByteOffset: place + 1, as: UInt32.self))
                place += 5
            }
            encoding = bytes[place]
            let count: Int
            switch encoding {
            case 0x00...0x3F:
                count = Int(encoding)
                place += 1
            case 0x40...0x7F:
                guard place + 2 <= listEnd else { return nil }
                count = Int(encoding & 0x3F) << 8 | Int(bytes[place + 1])
                place += 2
            case 0x80...0xBF:
                guard place + 5 <= listEnd else { return nil }
                count = Int(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: place + 1, as: UInt32.self)))
                place += 5
            default:
                switch encoding {
                case 0xC0: count = 2
                case 0xD0: count = 4
                case 0xE0: count = 8
                case 0xF0: count = 3
                case 0xFE: count = 1
                case 0xF1...0xFD: count = 0
                default: return nil
                }
                place += 1
            }
            start = place
            end = place + count
            guard end <= listEnd else { return nil }
        }

        func value(_ bytes: UnsafeRawBufferPointer) -> StringView {
            switch encoding {
            case 0xC0: .integer(Int64(bytes.loadUnaligned(fromByteOffset: start, as: Int16.self)))
            case 0xD0: .integer(Int64(bytes.loadUnaligned(fromByteOffset: start, as: Int32.self)))
            case 0xE0: .integer(bytes.loadUnaligned(fromByteOffset: start, as: Int64.self))
            // With the byte before the integer, which is shifted out.
            case 0xF0: .integer(Int64(bytes.loadUnaligned(fromByteOffset: start - 1, as: Int32.self) >> 8))
            case 0xFE: .integer(Int64(bytes.load(fromByteOffset: start, as: Int8.self)))
            case 0xF1...0xFD: .integer(Int64(encoding & 0x0F) - 1)
            default: .bytes(UnsafeRawBufferPointer(rebasing: bytes[start..<end]))
            }
        }
    }
}
