import MartletBase

/// Why a read did not succeed: not yet, or never.
enum RDBReadFailure: Error {
    /// The bytes end before the item does; it needs at least this many bytes from the reader's start.
    case incomplete(neededCount: Int)
    case invalid(RDBError.Cause)
}

/// A string as it stands in the format, still encoded.
enum RDBRawString {
    case plain(UnsafeRawBufferPointer)
    case integer(Int64)
    case compressed(UnsafeRawBufferPointer, count: Int)
}

/// A cursor over bytes that may end anywhere.
///
/// Knows the elements of the format, not their order. Shared by the streaming decoder and by DUMP payloads.
struct RDBReader {
    private let base: UnsafeRawPointer?
    private let count: Int
    /// Longest string that is accepted.
    private let stringBytesMax: Int
    private(set) var offset = 0

    init(_ bytes: UnsafeRawBufferPointer, stringBytesMax: Int) {
        base = bytes.baseAddress
        count = bytes.count
        self.stringBytesMax = stringBytesMax
    }

    /// The next `wanted` bytes.
    mutating func take(_ wanted: Int) throws(RDBReadFailure) -> UnsafeRawBufferPointer {
        // `wanted` is bounded by stringBytesMax or a constant, `offset` by the count of bytes in memory: no overflow.
        guard wanted <= count &- offset, let base else { throw .incomplete(neededCount: offset + wanted) }
        let taken = UnsafeRawBufferPointer(start: base + offset, count: wanted)
        offset &+= wanted
        return taken
    }

    mutating func byte() throws(RDBReadFailure) -> UInt8 {
        guard offset < count, let base else { throw .incomplete(neededCount: offset + 1) }
        let byte = base.load(fromByteOffset: offset, as: UInt8.self)
        offset &+= 1
        return byte
    }

    mutating func littleEndianInt32() throws(RDBReadFailure) -> Int32 {
        Int32(littleEndian: try take(4).loadUnaligned(as: Int32.self))
    }

    mutating func littleEndianInt64() throws(RDBReadFailure) -> Int64 {
        Int64(littleEndian: try take(8).loadUnaligned(as: Int64.self))
    }

    /// A length where no special string encoding may stand.
    mutating func length() throws(RDBReadFailure) -> UInt64 {
        let first = try byte()
        guard first < 0xC0 else { throw .invalid(.invalidLength) }
        return try length(after: first)
    }

    private mutating func length(after first: UInt8) throws(RDBReadFailure) -> UInt64 {
        switch first {
        case ..<0x40: return UInt64(first)
        case ..<0x80: return UInt64(first & 0x3F) << 8 | UInt64(try byte())
        case 0x80: return UInt64(UInt32(bigEndian: try take(4).loadUnaligned(as: UInt32.self)))
        case 0x81: return UInt64(bigEndian: try take(8).loadUnaligned(as: UInt64.self))
        default: throw .invalid(.invalidLength)
        }
    }

    /// The length of a string's bytes, within the limit.
    private func bounded(_ length: UInt64) throws(RDBReadFailure) -> Int {
        guard length <= UInt64(stringBytesMax) else { throw .invalid(.stringTooLong(length)) }
        return Int(length)
    }

    mutating func string() throws(RDBReadFailure) -> RDBRawString {
        let first = try byte()
        guard first >= 0xC0 else { return .plain(try take(try bounded(try length(after: first)))) }
        switch first & 0x3F {
        case RDBStringEncoding.int8: return .integer(Int64(Int8(bitPattern: try byte())))
        case RDBStringEncoding.int16:
            return .integer(Int64(Int16(littleEndian: try take(2).loadUnaligned(as: Int16.self))))
        case RDBStringEncoding.int32: return .integer(Int64(try littleEndianInt32()))
        case RDBStringEncoding.lzf:
            let compressedCount = try bounded(try length())
            let count = try bounded(try length())
            // Checked before memory is set aside for a size that the data cannot yield.
            guard count / LZF.expansionMax <= compressedCount else { throw .invalid(.corruptCompression) }
            return .compressed(try take(compressedCount), count: count)
        default: throw .invalid(.unknownStringEncoding(first & 0x3F))
        }
    }

    /// The value of a string entry. `scratch` holds what had to be decompressed.
    mutating func stringValue(scratch: inout ByteBuffer) throws(RDBReadFailure) -> RDBValue {
        switch try string() {
        case .plain(let bytes): return .string(bytes)
        case .integer(let integer): return .integer(integer)
        case .compressed(let bytes, let count):
            return .string(try Self.decompress(bytes, count: count, into: &scratch))
        }
    }

    /// A number as sorted sets had it before Redis 4: its decimal form behind a byte that tells the length.
    mutating func decimalDouble() throws(RDBReadFailure) -> Double {
        switch try byte() {
        case 253: return .nan
        case 254: return .infinity
        case 255: return -.infinity
        case let count:
            guard let number = parseDouble(try take(Int(count))) else { throw .invalid(.invalidNumber) }
            return number
        }
    }

    mutating func littleEndianDouble() throws(RDBReadFailure) -> Double {
        Double(bitPattern: UInt64(bitPattern: try littleEndianInt64()))
    }

    /// A string as bytes. `scratch` holds what had to be decompressed or written out.
    mutating func bytes(scratch: inout ByteBuffer) throws(RDBReadFailure) -> UnsafeRawBufferPointer {
        switch try string() {
        case .plain(let bytes): return bytes
        case .integer(let integer):
            scratch.removeAll()
            let room = scratch.reserve(int64DecimalBytesMax)
            scratch.commit(writeDecimal(integer, to: room))
            return scratch.bytes
        case .compressed(let bytes, let count): return try Self.decompress(bytes, count: count, into: &scratch)
        }
    }

    /// The source of a library of Redis 7.0 RC1 and RC2, as later versions have it: name and engine are its first line, and
    /// the description is dropped. `scratch` holds the result. (rdbFunctionLoad)
    mutating func preReleaseFunction(scratch: inout ByteBuffer) throws(RDBReadFailure) -> UnsafeRawBufferPointer {
        let name = Array(try bytes(scratch: &scratch))
        let engine = Array(try bytes(scratch: &scratch))
        if try length() != 0 { _ = try bytes(scratch: &scratch) }
        let code = Array(try bytes(scratch: &scratch))
        scratch.removeAll()
        scratch.append("#!" as StaticString)
        scratch.append(engine)
        scratch.append(" name=" as StaticString)
        scratch.append(name)
        scratch.append(byte: UInt8(ascii: "\n"))
        scratch.append(code)
        return scratch.bytes
    }

    private static func decompress(
        _ bytes: UnsafeRawBufferPointer, count: Int, into scratch: inout ByteBuffer
    ) throws(RDBReadFailure) -> UnsafeRawBufferPointer {
        scratch.removeAll()
        let room = UnsafeMutableRawBufferPointer(start: scratch.reserve(count), count: count)
        guard LZF.decompress(bytes, into: room) else { throw .invalid(.corruptCompression) }
        scratch.commit(count)
        return scratch.bytes
    }
}
