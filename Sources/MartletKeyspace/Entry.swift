import Glibc
import MartletBase

// One key: header, expiry, value and key in a single allocation.
//
//      0   UInt32  key length in bytes
//      4   UInt32  access clock (LRU seconds, or LFU time and counter)
//      8   UInt16  version of the last point-in-time walk that has this entry
//     10   UInt8   type (low four bits) and encoding (high four bits)
//     11   UInt8   flags: has an expiry, value is inline, expiry is a replica's own
//     12   UInt32  length of a string value in bytes
//     16   Int64   expiry, Unix time in milliseconds; only with the flag
//      …   value   inline bytes; or 8 bytes: an integer, or the address of a block or container
//      …   key
//
// A 16-byte key with a 64-byte value takes 96 bytes, one size class of the allocator, and a key with a short value costs
// one cache miss after the bucket's. The address changes when the expiry comes or goes or an inline value changes its
// length; whoever changes an entry that way puts the new address into the tables (``Keyspace`` does).

/// What `TYPE` tells.
package enum ValueType: UInt8, Sendable, CaseIterable {
    case string = 0
    case list = 1
    case set = 2
    case sortedSet = 3
    case hash = 4
    case stream = 6

    package var name: StaticString {
        switch self {
        case .string: return "string"
        case .list: return "list"
        case .set: return "set"
        case .sortedSet: return "zset"
        case .hash: return "hash"
        case .stream: return "stream"
        }
    }
}

/// What `OBJECT ENCODING` tells.
package enum Encoding: UInt8, Sendable {
    case integer = 0
    case embedded = 1
    case raw = 2

    package var name: StaticString {
        switch self {
        case .integer: return "int"
        case .embedded: return "embstr"
        case .raw: return "raw"
        }
    }

    /// Longest string that Redis reports as `embstr`. (OBJ_ENCODING_EMBSTR_SIZE_LIMIT)
    package static let embeddedBytesMax = 44
}

/// A string value, without a copy.
package enum StringView {
    case integer(Int64)
    case bytes(UnsafeRawBufferPointer)
}

/// A view of a key and its value in the table. It owns nothing; ``Keyspace`` does.
package struct Entry: Equatable {
    package let pointer: UnsafeMutableRawPointer

    @inline(__always) init(_ pointer: UnsafeMutableRawPointer) { self.pointer = pointer }

    static let headerBytes = 16
    private static let expiryFlag: UInt8 = 1
    private static let inlineFlag: UInt8 = 2
    private static let localExpiryFlag: UInt8 = 4

    /// Longest value that is stored inside the entry. Beyond it a move of the entry would copy too much.
    static let inlineBytesMax = 512

    // MARK: Header

    @inline(__always) package var keyCount: Int { Int(pointer.load(as: UInt32.self)) }

    package var accessClock: UInt32 {
        @inline(__always) get { pointer.load(fromByteOffset: 4, as: UInt32.self) }
        nonmutating set { pointer.storeBytes(of: newValue, toByteOffset: 4, as: UInt32.self) }
    }

    var walkVersion: UInt16 {
        get { pointer.load(fromByteOffset: 8, as: UInt16.self) }
        nonmutating set { pointer.storeBytes(of: newValue, toByteOffset: 8, as: UInt16.self) }
    }

    @inline(__always) private var kind: UInt8 { pointer.load(fromByteOffset: 10, as: UInt8.self) }
    @inline(__always) private var flags: UInt8 { pointer.load(fromByteOffset: 11, as: UInt8.self) }

    package var type: ValueType {
        guard let type = ValueType(rawValue: kind & 15) else { preconditionFailure("entry of unknown type") }
        return type
    }

    @inline(__always) package var isString: Bool { kind & 15 == ValueType.string.rawValue }

    package var encoding: Encoding {
        guard let encoding = Encoding(rawValue: kind &>> 4) else { preconditionFailure("entry of unknown encoding") }
        return encoding
    }

    @inline(__always) package var hasExpiry: Bool { flags & Self.expiryFlag != 0 }
    /// The expiry was set on a writable replica: no primary will ever delete the key.
    var expiresLocally: Bool { flags & Self.localExpiryFlag != 0 }

    func setExpiresLocally() {
        pointer.storeBytes(of: flags | Self.localExpiryFlag, toByteOffset: 11, as: UInt8.self)
    }

    @inline(__always) var isInline: Bool { flags & Self.inlineFlag != 0 }
    @inline(__always) var isInteger: Bool { kind == 0 }

    /// Length of a string value; meaningless for integers.
    @inline(__always) var valueCount: Int { Int(pointer.load(fromByteOffset: 12, as: UInt32.self)) }

    /// Unix time in milliseconds, or nil if the key stays.
    package var expiry: Int64? { hasExpiry ? pointer.load(fromByteOffset: 16, as: Int64.self) : nil }

    /// - Precondition: the entry has an expiry.
    @inline(__always) func storeExpiry(_ time: Int64) {
        pointer.storeBytes(of: time, toByteOffset: 16, as: Int64.self)
    }

    @inline(__always)
    func isExpired(at now: Int64) -> Bool {
        hasExpiry && pointer.load(fromByteOffset: 16, as: Int64.self) < now
    }

    // MARK: Parts

    @inline(__always) private var payloadOffset: Int { hasExpiry ? 24 : 16 }
    @inline(__always) private var payloadBytes: Int { isInline ? valueCount : 8 }
    @inline(__always) var payload: UnsafeMutableRawPointer { pointer + payloadOffset }

    @inline(__always)
    package var key: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: pointer + payloadOffset + payloadBytes, count: keyCount)
    }

    /// Bytes asked of the allocator for the entry itself.
    @inline(__always) var allocatedBytes: Int { payloadOffset + payloadBytes + keyCount }

    @inline(__always)
    func hasKey(_ other: UnsafeRawBufferPointer) -> Bool {
        let count = keyCount
        guard count == other.count else { return false }
        if count == 0 { return true }
        let own = pointer + payloadOffset + payloadBytes
        return memcmp(own, other.baseAddress.unsafelyUnwrapped, count) == 0
    }

    // MARK: String values

    /// - Precondition: the entry is a string.
    @inline(__always)
    package var string: StringView {
        if isInteger { return .integer(integer) }
        return .bytes(stringBytes)
    }

    @inline(__always) package var integer: Int64 { payload.loadUnaligned(as: Int64.self) }

    /// - Precondition: the entry is a string and not an integer.
    @inline(__always)
    var stringBytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: stringStart, count: valueCount)
    }

    /// Where the bytes of a string are. - Precondition: the entry is a string and not an integer.
    @inline(__always) var stringStart: UnsafeMutableRawPointer { isInline ? payload : block.bytes }

    /// - Precondition: the value is a string outside the entry.
    @inline(__always) var block: StringBlock {
        StringBlock(payload.loadUnaligned(as: UnsafeMutableRawPointer.self))
    }

    /// The bytes of a string value; those of an integer only exist while `body` runs.
    ///
    /// - Precondition: the entry is a string.
    @inline(__always)
    package func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        switch string {
        case .bytes(let bytes): return body(bytes)
        case .integer(let number):
            return withUnsafeTemporaryAllocation(byteCount: int64DecimalBytesMax, alignment: 8) { decimal in
                let count = writeDecimal(number, to: decimal.baseAddress.unsafelyUnwrapped)
                return body(UnsafeRawBufferPointer(start: decimal.baseAddress, count: count))
            }
        }
    }

    /// Length of a string value in bytes.
    package var stringCount: Int {
        guard isInteger else { return valueCount }
        return decimalCount(of: integer)
    }

    func setValueCount(_ count: Int) {
        pointer.storeBytes(of: UInt32(count), toByteOffset: 12, as: UInt32.self)
    }

    func setEncoding(_ encoding: Encoding) {
        pointer.storeBytes(of: (kind & 15) | (encoding.rawValue &<< 4), toByteOffset: 10, as: UInt8.self)
    }

    // MARK: Life

    /// A new entry whose payload is not filled in yet.
    private static func allocate(
        key: UnsafeRawBufferPointer, expiry: Int64?, type: ValueType, encoding: Encoding, inlineCount: Int?,
        valueCount: Int
    ) -> Entry {
        let payloadBytes = inlineCount ?? 8
        let payloadOffset = expiry == nil ? 16 : 24
        let entry = Entry(Memory.allocate(payloadOffset + payloadBytes + key.count))
        let pointer = entry.pointer
        pointer.storeBytes(of: UInt32(key.count), as: UInt32.self)
        pointer.storeBytes(of: 0, toByteOffset: 4, as: UInt32.self)
        pointer.storeBytes(of: 0, toByteOffset: 8, as: UInt16.self)
        pointer.storeBytes(of: type.rawValue | (encoding.rawValue &<< 4), toByteOffset: 10, as: UInt8.self)
        let flags = (expiry == nil ? 0 : expiryFlag) | (inlineCount == nil ? 0 : inlineFlag)
        pointer.storeBytes(of: flags, toByteOffset: 11, as: UInt8.self)
        pointer.storeBytes(of: UInt32(valueCount), toByteOffset: 12, as: UInt32.self)
        if let expiry { pointer.storeBytes(of: expiry, toByteOffset: 16, as: Int64.self) }
        if key.count > 0 {
            (pointer + payloadOffset + payloadBytes).copyMemory(
                from: key.baseAddress.unsafelyUnwrapped, byteCount: key.count)
        }
        return entry
    }

    static func integer(key: UnsafeRawBufferPointer, _ value: Int64, expiry: Int64?) -> Entry {
        let entry = allocate(
            key: key, expiry: expiry, type: .string, encoding: .integer, inlineCount: nil, valueCount: 0)
        entry.storeInteger(value)
        return entry
    }

    /// - Precondition: the entry is an integer.
    func storeInteger(_ value: Int64) { payload.storeBytes(of: value, as: Int64.self) }

    /// A string inside the entry if it is short, else in a block of its own.
    static func string(key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, expiry: Int64?) -> Entry {
        let encoding: Encoding = value.count <= Encoding.embeddedBytesMax ? .embedded : .raw
        if value.count <= inlineBytesMax {
            let entry = allocate(
                key: key, expiry: expiry, type: .string, encoding: encoding, inlineCount: value.count,
                valueCount: value.count)
            if value.count > 0 {
                entry.payload.copyMemory(from: value.baseAddress.unsafelyUnwrapped, byteCount: value.count)
            }
            return entry
        }
        return string(key: key, block: StringBlock(copying: value), count: value.count, expiry: expiry)
    }

    /// A string that owns the given block; always `raw`.
    static func string(key: UnsafeRawBufferPointer, block: StringBlock, count: Int, expiry: Int64?) -> Entry {
        let entry = allocate(
            key: key, expiry: expiry, type: .string, encoding: .raw, inlineCount: nil, valueCount: count)
        entry.storeBlock(block)
        return entry
    }

    /// - Precondition: the entry keeps its string outside.
    func storeBlock(_ block: StringBlock) { payload.storeBytes(of: block.pointer, as: UnsafeMutableRawPointer.self) }

    /// The same value under another expiry, in new memory. The value belongs to the new entry: the old one is freed with
    /// ``destroyShell()`` when the tables no longer need its key.
    func withExpiry(_ expiry: Int64?) -> Entry { reallocated(key: key, expiry: expiry) }

    /// The same value and expiry under another key; see ``withExpiry(_:)``.
    func withKey(_ key: UnsafeRawBufferPointer) -> Entry { reallocated(key: key, expiry: expiry) }

    private func reallocated(key: UnsafeRawBufferPointer, expiry: Int64?) -> Entry {
        let new = Entry.allocate(
            key: key, expiry: expiry, type: type, encoding: encoding, inlineCount: isInline ? valueCount : nil,
            valueCount: valueCount)
        new.payload.copyMemory(from: payload, byteCount: payloadBytes)
        new.accessClock = accessClock
        new.walkVersion = walkVersion
        if expiresLocally, expiry != nil { new.setExpiresLocally() }
        return new
    }

    /// Frees the entry but not a value outside of it.
    func destroyShell() { Memory.free(pointer, allocatedBytes) }

    /// Gives the memory of the entry and its value back.
    func destroy() {
        if !isInline && !isInteger { destroyValue() }
        Memory.free(pointer, allocatedBytes)
    }

    @inline(never)
    private func destroyValue() {
        switch type {
        case .string: block.destroy()
        case .list, .set, .sortedSet, .hash, .stream: preconditionFailure("entry of a type that is never made")
        }
    }

    /// Bytes that the key and its value take, as far as the allocator is concerned.
    package var memoryBytes: Int {
        var bytes = Memory.usableBytes(allocatedBytes)
        if !isInline && !isInteger { bytes += Memory.usableBytes(StringBlock.headerBytes + block.capacity) }
        return bytes
    }
}

/// A long or growing string outside its entry: capacity, then the bytes.
package struct StringBlock {
    let pointer: UnsafeMutableRawPointer

    static let headerBytes = 8
    /// Growth doubles up to this many spare bytes. (SDS_MAX_PREALLOC)
    static let spareBytesMax = 1024 * 1024

    init(_ pointer: UnsafeMutableRawPointer) { self.pointer = pointer }

    package init(capacity: Int) {
        pointer = Memory.allocate(Self.headerBytes + capacity)
        pointer.storeBytes(of: capacity, as: Int.self)
    }

    init(copying bytes: UnsafeRawBufferPointer) {
        self.init(capacity: bytes.count)
        if let base = bytes.baseAddress { self.bytes.copyMemory(from: base, byteCount: bytes.count) }
    }

    var capacity: Int { pointer.load(as: Int.self) }
    package var bytes: UnsafeMutableRawPointer { pointer + Self.headerBytes }

    /// A block with room for `count` bytes and some to grow, holding the first `used` bytes of this one, which is freed.
    consuming func grown(to count: Int, used: Int) -> StringBlock {
        let new = StringBlock(capacity: count + min(count, Self.spareBytesMax))
        new.bytes.copyMemory(from: bytes, byteCount: used)
        destroy()
        return new
    }

    func destroy() { Memory.free(pointer, Self.headerBytes + capacity) }
}
