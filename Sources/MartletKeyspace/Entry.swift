import Glibc
import MartletBase

// One key: header, expiry, key and value in a single allocation.
//
//      0   UInt32  access clock (LRU seconds, or LFU time and counter): 24 bits; version of the last point-in-time walk
//                  that has this entry: the upper 8
//      4   UInt8   type (low four bits) and encoding (high four bits)
//      5   UInt8   key length in bytes, unless the key is long
//      6   UInt16  has an expiry, key is long, value is inline, expiry is a replica's own: one bit each; length of the
//                  value in the entry: the upper 12
//      8   Int64   expiry, Unix time in milliseconds; only with the flag
//      …   Int64   key length in bytes; only of a long key
//      …   key
//      …   value   inline bytes; or 8 bytes: an integer, or the address of a block or container
//
// A 16-byte key with a 64-byte value takes 88 bytes (``EntryPool`` has slots of just that size), and a key with a short
// value costs one cache miss after the bucket's. The address changes when the expiry comes or goes or an inline value
// changes its length; whoever changes an entry that way puts the new address into the tables (``Keyspace`` does).

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

/// How a value is kept. `OBJECT ENCODING` tells it by ``Entry/encodingName``.
package enum Encoding: UInt8, Sendable {
    case integer = 0
    case embedded = 1
    case raw = 2
    case listpack = 3
    case quicklist = 4
    case intset = 5
    case hashtable = 6
    case skiplist = 7
    case stream = 8

    package var name: StaticString {
        switch self {
        case .integer: return "int"
        case .embedded: return "embstr"
        case .raw: return "raw"
        case .listpack: return "listpack"
        case .quicklist: return "quicklist"
        case .intset: return "intset"
        case .hashtable: return "hashtable"
        case .skiplist: return "skiplist"
        case .stream: return "stream"
        }
    }

    /// Longest string that Redis reports as `embstr`. (OBJ_ENCODING_EMBSTR_SIZE_LIMIT)
    package static let embeddedBytesMax = 44
}

/// A string value, without a copy.
package enum StringView {
    case integer(Int64)
    case bytes(UnsafeRawBufferPointer)

    /// The bytes; those of an integer only exist while `body` runs.
    @inline(__always)
    package func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        switch self {
        case .bytes(let bytes): return body(bytes)
        case .integer(let number):
            return withUnsafeTemporaryAllocation(byteCount: int64DecimalBytesMax, alignment: 8) { decimal in
                let count = writeDecimal(number, to: decimal.baseAddress.unsafelyUnwrapped)
                return body(UnsafeRawBufferPointer(start: decimal.baseAddress, count: count))
            }
        }
    }
}

/// A view of a key and its value in the table. It owns nothing; ``Keyspace`` does.
package struct Entry: Equatable {
    package let pointer: UnsafeMutableRawPointer

    @inline(__always) init(_ pointer: UnsafeMutableRawPointer) { self.pointer = pointer }

    typealias Pool = UnsafeMutablePointer<EntryPool>

    static let headerBytes = 8
    private static let expiryFlag: UInt16 = 1
    private static let longKeyFlag: UInt16 = 2
    private static let inlineFlag: UInt16 = 4
    private static let localExpiryFlag: UInt16 = 8
    private static let valueCountShift: UInt16 = 4

    /// Longest value that is stored inside the entry. Beyond it a move of the entry would copy too much.
    static let inlineBytesMax = 512
    /// Longest key whose length fits into the header.
    private static let shortKeyBytesMax = 255

    // MARK: Header

    private static let accessClockMask: UInt32 = 0xFF_FFFF

    package var accessClock: UInt32 {
        @inline(__always) get { pointer.load(as: UInt32.self) & Self.accessClockMask }
        @inline(__always) nonmutating set {
            let version = pointer.load(as: UInt32.self) & ~Self.accessClockMask
            pointer.storeBytes(of: version | (newValue & Self.accessClockMask), as: UInt32.self)
        }
    }

    var walkVersion: UInt8 {
        get { pointer.load(fromByteOffset: 3, as: UInt8.self) }
        nonmutating set { pointer.storeBytes(of: newValue, toByteOffset: 3, as: UInt8.self) }
    }

    static let kindOffset = 4
    /// Stands where the type of an entry does in memory that holds none. (No type is 15.)
    static let freeKind: UInt8 = 0xFF
    var isFreeSlot: Bool { kind == Self.freeKind }

    @inline(__always) private var kind: UInt8 { pointer.load(fromByteOffset: Self.kindOffset, as: UInt8.self) }
    @inline(__always) private var flags: UInt16 { pointer.load(fromByteOffset: 6, as: UInt16.self) }

    package var type: ValueType {
        guard let type = ValueType(rawValue: kind & 15) else { preconditionFailure("entry of unknown type") }
        return type
    }

    @inline(__always) package var isString: Bool { kind & 15 == ValueType.string.rawValue }

    package var encoding: Encoding {
        guard let encoding = Encoding(rawValue: kind &>> 4) else { preconditionFailure("entry of unknown encoding") }
        return encoding
    }

    /// What `OBJECT ENCODING` tells. Redis 7.0 has no small form of lists and of sets of strings; clients that look at
    /// encodings expect its words, so ours go by the name of what Redis would use.
    package var encodingName: StaticString {
        guard encoding == .listpack else { return encoding.name }
        switch type {
        case .list: return Encoding.quicklist.name
        case .set: return Encoding.hashtable.name
        case .string, .sortedSet, .hash, .stream: return encoding.name
        }
    }

    @inline(__always) package var hasExpiry: Bool { flags & Self.expiryFlag != 0 }
    /// The expiry was set on a writable replica: no primary will ever delete the key.
    var expiresLocally: Bool { flags & Self.localExpiryFlag != 0 }

    func setExpiresLocally() {
        pointer.storeBytes(of: flags | Self.localExpiryFlag, toByteOffset: 6, as: UInt16.self)
    }

    @inline(__always) var isInline: Bool { flags & Self.inlineFlag != 0 }
    @inline(__always) var isInteger: Bool { kind == 0 }

    /// Unix time in milliseconds, or nil if the key stays.
    package var expiry: Int64? { hasExpiry ? pointer.load(fromByteOffset: 8, as: Int64.self) : nil }

    /// - Precondition: the entry has an expiry.
    @inline(__always) func storeExpiry(_ time: Int64) {
        pointer.storeBytes(of: time, toByteOffset: 8, as: Int64.self)
    }

    @inline(__always)
    func isExpired(at now: Int64) -> Bool {
        hasExpiry && pointer.load(fromByteOffset: 8, as: Int64.self) < now
    }

    // MARK: Parts

    /// 8 bytes more for an expiry, and for the length of a long key.
    @inline(__always) private var keyStart: UnsafeMutableRawPointer {
        let flags = Int(flags)
        return pointer + (Self.headerBytes &+ (flags & 1) &* 8 &+ (flags & 2) &* 4)
    }

    @inline(__always) package var keyCount: Int {
        if flags & Self.longKeyFlag != 0 { return (keyStart - 8).load(as: Int.self) }
        return Int(pointer.load(fromByteOffset: 5, as: UInt8.self))
    }

    @inline(__always)
    package var key: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: keyStart, count: keyCount) }

    /// Bytes of the value inside the entry.
    @inline(__always) private var payloadBytes: Int { Int(flags &>> Self.valueCountShift) }
    @inline(__always) var payload: UnsafeMutableRawPointer { keyStart + keyCount }

    /// Bytes of the entry itself.
    @inline(__always) var allocatedBytes: Int { payload - pointer + payloadBytes }

    @inline(__always)
    func hasKey(_ other: UnsafeRawBufferPointer) -> Bool {
        let count = keyCount
        guard count == other.count else { return false }
        if count == 0 { return true }
        return memcmp(keyStart, other.baseAddress.unsafelyUnwrapped, count) == 0
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
        if isInline { return UnsafeRawBufferPointer(start: payload, count: payloadBytes) }
        return block.contents
    }

    /// Length of a string value; meaningless for integers.
    @inline(__always) var valueCount: Int { isInline ? payloadBytes : block.count }

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
        string.withBytes(body)
    }

    /// Length of a string value in bytes.
    package var stringCount: Int {
        guard isInteger else { return valueCount }
        return decimalCount(of: integer)
    }

    func setEncoding(_ encoding: Encoding) {
        pointer.storeBytes(of: (kind & 15) | (encoding.rawValue &<< 4), toByteOffset: Self.kindOffset, as: UInt8.self)
    }

    // MARK: Life

    /// A new entry whose payload is not filled in yet.
    private static func allocate(
        _ pool: Pool, key: UnsafeRawBufferPointer, expiry: Int64?, type: ValueType, encoding: Encoding,
        inlineCount: Int?
    ) -> Entry {
        let payloadBytes = inlineCount ?? 8
        let isLong = key.count > shortKeyBytesMax
        let count = headerBytes + (expiry == nil ? 0 : 8) + (isLong ? 8 : 0) + key.count + payloadBytes
        let entry = Entry(pool.pointee.allocate(count))
        let pointer = entry.pointer
        pointer.storeBytes(of: 0, as: UInt32.self)
        pointer.storeBytes(of: type.rawValue | (encoding.rawValue &<< 4), toByteOffset: kindOffset, as: UInt8.self)
        pointer.storeBytes(of: UInt8(truncatingIfNeeded: key.count), toByteOffset: 5, as: UInt8.self)
        var flags = UInt16(payloadBytes) &<< valueCountShift
        if expiry != nil { flags |= expiryFlag }
        if isLong { flags |= longKeyFlag }
        if inlineCount != nil { flags |= inlineFlag }
        pointer.storeBytes(of: flags, toByteOffset: 6, as: UInt16.self)
        if let expiry { entry.storeExpiry(expiry) }
        let keyStart = entry.keyStart
        if isLong { (keyStart - 8).storeBytes(of: key.count, as: Int.self) }
        if key.count > 0 {
            keyStart.copyMemory(from: key.baseAddress.unsafelyUnwrapped, byteCount: key.count)
        }
        return entry
    }

    static func integer(_ pool: Pool, key: UnsafeRawBufferPointer, _ value: Int64, expiry: Int64?) -> Entry {
        let entry = allocate(pool, key: key, expiry: expiry, type: .string, encoding: .integer, inlineCount: nil)
        entry.storeInteger(value)
        return entry
    }

    /// - Precondition: the entry is an integer.
    func storeInteger(_ value: Int64) { payload.storeBytes(of: value, as: Int64.self) }

    /// A string inside the entry if it is short, else in a block of its own.
    static func string(
        _ pool: Pool, key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, expiry: Int64?
    ) -> Entry {
        let encoding: Encoding = value.count <= Encoding.embeddedBytesMax ? .embedded : .raw
        if value.count <= inlineBytesMax {
            let entry = allocate(
                pool, key: key, expiry: expiry, type: .string, encoding: encoding, inlineCount: value.count)
            if value.count > 0 {
                entry.payload.copyMemory(from: value.baseAddress.unsafelyUnwrapped, byteCount: value.count)
            }
            return entry
        }
        return string(pool, key: key, block: StringBlock(copying: value), expiry: expiry)
    }

    /// A string that owns the given block; always `raw`.
    static func string(_ pool: Pool, key: UnsafeRawBufferPointer, block: StringBlock, expiry: Int64?) -> Entry {
        let entry = allocate(pool, key: key, expiry: expiry, type: .string, encoding: .raw, inlineCount: nil)
        pool.pointee.outsideCount += 1
        entry.storeBlock(block)
        return entry
    }

    /// - Precondition: the entry keeps its string outside.
    func storeBlock(_ block: StringBlock) { payload.storeBytes(of: block.pointer, as: UnsafeMutableRawPointer.self) }

    /// An entry whose value is a container; see ``Container``.
    static func container(
        _ pool: Pool, key: UnsafeRawBufferPointer, _ container: Container, expiry: Int64?
    ) -> Entry {
        let entry = allocate(
            pool, key: key, expiry: expiry, type: container.type, encoding: container.encoding, inlineCount: nil)
        pool.pointee.outsideCount += 1
        entry.payload.storeBytes(of: container.pointer, as: UnsafeMutableRawPointer.self)
        return entry
    }

    /// What the value is made of. Whoever changes a container writes it back: it may have moved or changed its encoding.
    ///
    /// - Precondition: the entry is not a string; a container that is stored is of the entry's type.
    package var container: Container {
        get {
            Container(
                type: type, encoding: encoding, pointer: payload.loadUnaligned(as: UnsafeMutableRawPointer.self))
        }
        nonmutating set {
            payload.storeBytes(of: newValue.pointer, as: UnsafeMutableRawPointer.self)
            setEncoding(newValue.encoding)
        }
    }

    /// The same value under another expiry, in new memory. The value belongs to the new entry: the old one is freed with
    /// ``destroyShell(_:)`` when the tables no longer need its key.
    func withExpiry(_ expiry: Int64?, _ pool: Pool) -> Entry { reallocated(pool, key: key, expiry: expiry) }

    /// The same value and expiry under another key; see ``withExpiry(_:_:)``.
    func withKey(_ key: UnsafeRawBufferPointer, _ pool: Pool) -> Entry { reallocated(pool, key: key, expiry: expiry) }

    private func reallocated(_ pool: Pool, key: UnsafeRawBufferPointer, expiry: Int64?) -> Entry {
        let new = Entry.allocate(
            pool, key: key, expiry: expiry, type: type, encoding: encoding, inlineCount: isInline ? payloadBytes : nil)
        if isOutside { pool.pointee.outsideCount += 1 }
        new.payload.copyMemory(from: payload, byteCount: payloadBytes)
        new.accessClock = accessClock
        new.walkVersion = walkVersion
        if expiresLocally, expiry != nil { new.setExpiresLocally() }
        return new
    }

    /// An exact copy elsewhere in the pool; the value belongs to it from now on.
    func relocated(_ pool: Pool) -> Entry {
        let count = allocatedBytes
        let new = Entry(pool.pointee.allocate(count))
        new.pointer.copyMemory(from: pointer, byteCount: count)
        if isOutside { pool.pointee.outsideCount += 1 }
        return new
    }

    /// An equal entry with a value of its own. - Precondition: the value is no container.
    func copied(_ pool: Pool) -> Entry {
        let new = relocated(pool)
        if isOutside { new.storeBlock(StringBlock(copying: block.contents)) }
        return new
    }

    /// The value has memory of its own.
    @inline(__always) var isOutside: Bool { !isInline && !isInteger }

    /// Frees the entry but not a value outside of it. - Parameter pool: which the entry is from.
    func destroyShell(_ pool: Pool) {
        if isOutside { pool.pointee.outsideCount -= 1 }
        pool.pointee.free(pointer, allocatedBytes)
    }

    /// Gives the memory of the entry and its value back. - Parameter pool: which the entry is from.
    func destroy(_ pool: Pool) {
        if isOutside { destroyValue() }
        destroyShell(pool)
    }

    /// Gives back what lies outside of the slabs of its pool and of the members' pool, which are about to be freed as a
    /// whole.
    func destroyOutside(_ pool: Pool) {
        guard isOutside || allocatedBytes > EntryPool.slotBytesMax else { return }
        if isOutside {
            if isString { block.destroy() } else { container.destroy(membersAreFreed: true) }
        }
        destroyShell(pool)
    }

    @inline(never)
    private func destroyValue() { if isString { block.destroy() } else { container.destroy() } }

    /// Bytes that the key and its value take, as far as the allocator is concerned.
    package var memoryBytes: Int { memoryBytes(samples: .max) }

    /// The same, estimated from some elements of a large value.
    package func memoryBytes(samples: Int) -> Int {
        var bytes = EntryPool.usableBytes(allocatedBytes)
        guard isOutside else { return bytes }
        bytes +=
            isString
            ? Memory.usableBytes(StringBlock.headerBytes + block.capacity) : container.memoryBytes(samples: samples)
        return bytes
    }
}

/// A long or growing string outside its entry: capacity and length (32 bits each), then the bytes.
package struct StringBlock {
    let pointer: UnsafeMutableRawPointer

    static let headerBytes = 8
    /// Growth doubles up to this many spare bytes. (SDS_MAX_PREALLOC)
    static let spareBytesMax = 1024 * 1024

    init(_ pointer: UnsafeMutableRawPointer) { self.pointer = pointer }

    /// A block of `count` bytes, not filled in yet. - Parameter spare: room to grow.
    package init(count: Int, spare: Int = 0) {
        let capacity = min(count + spare, Int(UInt32.max))
        pointer = Memory.allocate(Self.headerBytes + capacity)
        pointer.storeBytes(of: UInt32(capacity), as: UInt32.self)
        setCount(count)
    }

    init(copying bytes: UnsafeRawBufferPointer) {
        self.init(count: bytes.count)
        if let base = bytes.baseAddress { self.bytes.copyMemory(from: base, byteCount: bytes.count) }
    }

    var capacity: Int { Int(pointer.load(as: UInt32.self)) }
    package var count: Int { Int(pointer.load(fromByteOffset: 4, as: UInt32.self)) }
    package var bytes: UnsafeMutableRawPointer { pointer + Self.headerBytes }
    package var contents: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: bytes, count: count) }

    func setCount(_ count: Int) { pointer.storeBytes(of: UInt32(count), toByteOffset: 4, as: UInt32.self) }

    /// A block of `count` bytes with some room to grow, beginning with what is in this one, which is freed.
    consuming func grown(to count: Int) -> StringBlock {
        let new = StringBlock(count: count, spare: Self.growth(count))
        new.bytes.copyMemory(from: bytes, byteCount: self.count)
        destroy()
        return new
    }

    /// Room for a string of `count` bytes that has grown once and will perhaps do so again.
    static func growth(_ count: Int) -> Int { min(count, spareBytesMax) }

    func destroy() { Memory.free(pointer, Self.headerBytes + capacity) }
}
