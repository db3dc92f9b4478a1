import MartletBase
import MartletKeyspace

/// One element of an RDB stream. Views are valid until the decoder is fed or asked again.
package enum RDBItem {
    case header(version: Int)
    /// Unknown names are to be ignored.
    case aux(name: [UInt8], value: [UInt8])
    /// The source of a function library.
    case function(UnsafeRawBufferPointer)
    case selectDatabase(Int)
    /// How many keys follow in the database, and how many of them expire: a hint, not to be trusted.
    case sizes(keyCount: UInt64, expiryCount: UInt64)
    /// As ``sizes(keyCount:expiryCount:)`` for one hash slot. Written by Redis 7.4.
    case slotInfo(slot: Int, keyCount: UInt64, expiryCount: UInt64)
    /// A slot migration that was under way. Written by Valkey 9.
    case slotImport(name: [UInt8], slots: [ClosedRange<Int>])
    case entry(RDBEntry)
    /// The last item; the checksum was right or absent.
    case end(hasChecksum: Bool)
}

package struct RDBEntry {
    package var key: UnsafeRawBufferPointer
    package var value: RDBValue
    package var expireAtMilliseconds: Int64?
    /// Since the last access, when the writer had an LRU policy.
    package var idleSeconds: UInt64?
    /// The logarithmic access counter, when the writer had an LFU policy.
    package var frequency: UInt8?
}

/// Reads the RDB format from chunks of any size.
///
/// 1. ``feed(_:)`` appends what arrived to a buffer. ``next()`` takes complete items off its front and answers nil when
///    the next one is not complete. What precedes a key (expiry, idle time, frequency) is remembered on its own.
/// 2. An incomplete item says how many bytes it needs, and is not tried again before they are there: a large value
///    that drips in is not parsed over and over.
/// 3. A value of many elements is put together as its elements arrive (``RDBValueBuilder``) and handed out when it is
///    complete, as a container whose members are from ``members``.
/// 4. The checksum covers what was consumed. It is computed in one pass over a chunk's worth of items, not per item.
///
/// The bytes are not trusted: memory grows only with bytes that really arrived, decompression cannot exceed what the
/// compressed bytes can yield, and after an error the decoder repeats that error for ever. A key may come twice and a
/// database number may be beyond the caller's databases: those are the caller's to judge.
///
/// Reads versions 1 to 12 and Valkey's 80.
package struct RDBDecoder: ~Copyable {
    private enum State {
        case header
        case body
        /// Elements of a value; its key is in `pendingKey`.
        case value
        case checksum
        case finished
        case failed(RDBError)
    }

    /// Longest key, value or field; the default is `proto-max-bulk-len`'s.
    package static let stringBytesMax = 512 * 1024 * 1024
    private static let magicCount = 9
    private static let slotCount: UInt64 = 16384

    private let stringBytesMax: Int
    private var state = State.header
    private var version = 0
    /// Bytes that arrived. Items up to `consumedCount` were handed out, the views into them must stay until the next
    /// call.
    private var buffer = ByteBuffer()
    private var consumedCount = 0
    /// Bytes at the front of `buffer` that `checksum` covers.
    private var checksummedCount = 0
    private var checksum: UInt64 = 0
    /// Do not try the next item before `buffer` holds so many bytes.
    private var neededCount = 0
    /// Stream offset of the buffer's front.
    private var bufferOffset: Int64 = 0

    private var keyScratch = ByteBuffer()
    private var valueScratch = ByteBuffer()
    private var pendingKey = ByteBuffer()
    private var builder: RDBValueBuilder?

    /// Where the members of values are from; without, values other than strings are refused. To be set before the first key
    /// of each database. It has to outlive a value that is not complete: see ``discard()``.
    package var members: MemberStorePointer?

    // What has been said about the key to come.
    private var expireAtMilliseconds: Int64?
    private var idleSeconds: UInt64?
    private var frequency: UInt8?

    package init(stringBytesMax: Int = RDBDecoder.stringBytesMax) {
        self.stringBytesMax = stringBytesMax
    }

    /// Gives back what was made of a value that is not complete, when the rest will not be asked for.
    package mutating func discard() {
        builder?.discard()
        builder = nil
    }

    /// Bytes consumed so far.
    package var offset: Int64 { bufferOffset + Int64(consumedCount) }

    package var isFinished: Bool {
        if case .finished = state { true } else { false }
    }

    /// Adds what arrived. Ends the life of the views in items handed out before.
    package mutating func feed(_ bytes: UnsafeRawBufferPointer) {
        dropConsumed()
        buffer.append(bytes)
    }

    package mutating func feed(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { feed($0) }
    }

    /// Takes the bytes behind the end mark: what follows an RDB preamble in an AOF file.
    package mutating func takeUnread() -> [UInt8] {
        dropConsumed()
        let rest = Array(buffer.bytes)
        buffer.removeAll()
        return rest
    }

    /// Says that no more bytes will come. - Throws: ``RDBError/Cause/truncated`` unless the end was reached.
    package mutating func finish() throws(RDBError) {
        switch state {
        case .finished: return
        case .failed(let error): throw error
        case .header, .body, .value, .checksum:
            discard()
            throw RDBError(offset: offset, cause: .truncated)
        }
    }

    /// The next item, or nil when more bytes are needed or the end was reached.
    package mutating func next() throws(RDBError) -> RDBItem? {
        while true {
            switch state {
            case .finished: return nil
            case .failed(let error): throw error
            case .header, .body, .value, .checksum: break
            }
            guard buffer.count > consumedCount, buffer.count >= neededCount else { return nil }
            let start = consumedCount
            do throws(RDBReadFailure) {
                if let item = try readItem() { return item }
            } catch {
                consumedCount = start
                switch error {
                case .incomplete(let count):
                    neededCount = start + count
                    return nil
                case .invalid(let cause):
                    discard()
                    let error = RDBError(offset: bufferOffset + Int64(start), cause: cause)
                    state = .failed(error)
                    throw error
                }
            }
        }
    }

    // MARK: - Items

    /// Reads one item; nil for those that only prepare the next key.
    private mutating func readItem() throws(RDBReadFailure) -> RDBItem? {
        var reader = RDBReader(
            UnsafeRawBufferPointer(rebasing: buffer.bytes[consumedCount...]), stringBytesMax: stringBytesMax)
        switch state {
        case .header:
            version = try Self.readVersion(&reader)
            consumedCount += reader.offset
            state = .body
            return .header(version: version)
        case .body:
            let item = try readBodyItem(&reader)
            consumedCount += reader.offset
            return item
        case .value:
            guard try builder?.step(&reader, &keyScratch, &valueScratch) ?? false else {
                consumedCount += reader.offset
                return nil
            }
            consumedCount += reader.offset
            state = .body
            let container = builder?.take()
            builder = nil
            let entry = entry(pendingKey.bytes, container.map { .container($0) } ?? .integer(0))
            // As Redis does, which finds an empty value strange but not worth to refuse all others.
            return container == nil ? nil : .entry(entry)
        case .checksum:
            let found = UInt64(bitPattern: try reader.littleEndianInt64())
            updateChecksum()
            guard found == 0 || found == checksum else {
                throw .invalid(.checksumMismatch(expected: checksum, found: found))
            }
            consumedCount += reader.offset
            checksummedCount = consumedCount
            state = .finished
            return .end(hasChecksum: found != 0)
        case .finished, .failed:
            return nil
        }
    }

    /// `REDIS` and four digits, or `VALKEY` and three.
    private static func readVersion(_ reader: inout RDBReader) throws(RDBReadFailure) -> Int {
        let magic = try reader.take(magicCount)
        let isRedis = magic[..<5].elementsEqual("REDIS".utf8)
        guard isRedis || magic[..<6].elementsEqual("VALKEY".utf8) else { throw .invalid(.wrongMagic) }
        var version = 0
        for byte in magic[(isRedis ? 5 : 6)...] {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { throw .invalid(.wrongMagic) }
            version = version * 10 + Int(byte - UInt8(ascii: "0"))
        }
        let readable = isRedis ? RDBVersion.redisReadable : RDBVersion.valkeyReadable
        guard readable.contains(version) else { throw .invalid(.unsupportedVersion(version)) }
        return version
    }

    private mutating func readBodyItem(_ reader: inout RDBReader) throws(RDBReadFailure) -> RDBItem? {
        let opcode = try reader.byte()
        if opcode < RDBOpcode.slotImport {
            guard let type = RDBValueType(rawValue: opcode) else { throw .invalid(.unknownOpcode(opcode)) }
            guard let entry = try readEntry(type, &reader) else { return nil }
            return .entry(entry)
        }
        switch opcode {
        case RDBOpcode.expireAtMilliseconds:
            expireAtMilliseconds = try reader.littleEndianInt64()
            // Redis writes -1 for "never".
            if expireAtMilliseconds == -1 { expireAtMilliseconds = nil }
            return nil
        case RDBOpcode.expireAtSeconds:
            expireAtMilliseconds = Int64(try reader.littleEndianInt32()) * 1000
            return nil
        case RDBOpcode.idle:
            idleSeconds = try reader.length()
            return nil
        case RDBOpcode.frequency:
            frequency = try reader.byte()
            return nil
        case RDBOpcode.selectDatabase:
            let index = try reader.length()
            guard index <= UInt64(Int32.max) else { throw .invalid(.databaseOutOfRange(index)) }
            return .selectDatabase(Int(index))
        case RDBOpcode.sizes:
            return .sizes(keyCount: try reader.length(), expiryCount: try reader.length())
        case RDBOpcode.slotInfo:
            let slot = try Self.readSlot(&reader)
            return .slotInfo(slot: slot, keyCount: try reader.length(), expiryCount: try reader.length())
        case RDBOpcode.slotImport:
            return try readSlotImport(&reader)
        case RDBOpcode.aux:
            let name = Array(try reader.bytes(scratch: &keyScratch))
            let value = Array(try reader.bytes(scratch: &valueScratch))
            return .aux(name: name, value: value)
        case RDBOpcode.function:
            return .function(try reader.bytes(scratch: &valueScratch))
        case RDBOpcode.functionPreRelease:
            return .function(try reader.preReleaseFunction(scratch: &valueScratch))
        case RDBOpcode.moduleAux:
            throw .invalid(.unsupportedModuleData)
        default:
            precondition(opcode == RDBOpcode.end)
            return readEnd(&reader)
        }
    }

    /// A string entry; nil for others, whose elements come next.
    private mutating func readEntry(
        _ type: RDBValueType, _ reader: inout RDBReader
    ) throws(RDBReadFailure) -> RDBEntry? {
        let key = try reader.bytes(scratch: &keyScratch)
        if type == .string { return entry(key, try reader.stringValue(scratch: &valueScratch)) }
        guard let members else { throw .invalid(.unsupportedType(type)) }
        builder = try RDBValueBuilder(type, members)
        pendingKey.removeAll()
        pendingKey.append(key)
        state = .value
        return nil
    }

    /// An entry with what was said before its key.
    private mutating func entry(_ key: UnsafeRawBufferPointer, _ value: RDBValue) -> RDBEntry {
        let entry = RDBEntry(
            key: key, value: value, expireAtMilliseconds: expireAtMilliseconds, idleSeconds: idleSeconds,
            frequency: frequency)
        expireAtMilliseconds = nil
        idleSeconds = nil
        frequency = nil
        return entry
    }

    private static func readSlot(_ reader: inout RDBReader) throws(RDBReadFailure) -> Int {
        let slot = try reader.length()
        guard slot < slotCount else { throw .invalid(.invalidSlot(slot)) }
        return Int(slot)
    }

    private mutating func readSlotImport(_ reader: inout RDBReader) throws(RDBReadFailure) -> RDBItem {
        let name = Array(try reader.bytes(scratch: &keyScratch))
        let rangeCount = try reader.length()
        guard rangeCount <= Self.slotCount else { throw .invalid(.invalidSlot(rangeCount)) }
        var slots: [ClosedRange<Int>] = []
        for _ in 0..<rangeCount {
            let first = try Self.readSlot(&reader)
            let last = try Self.readSlot(&reader)
            guard first <= last else { throw .invalid(.invalidSlot(UInt64(first))) }
            slots.append(first...last)
        }
        return .slotImport(name: name, slots: slots)
    }

    /// The end mark. Files before version 5 have no checksum behind it.
    private mutating func readEnd(_ reader: inout RDBReader) -> RDBItem? {
        if version >= 5 {
            state = .checksum
            return nil
        }
        state = .finished
        return .end(hasChecksum: false)
    }

    // MARK: - Buffer

    private mutating func updateChecksum() {
        guard checksummedCount < consumedCount else { return }
        let fresh = UnsafeRawBufferPointer(rebasing: buffer.bytes[checksummedCount..<consumedCount])
        checksum = crc64(fresh, continuing: checksum)
        checksummedCount = consumedCount
    }

    private mutating func dropConsumed() {
        guard consumedCount > 0 else { return }
        updateChecksum()
        buffer.removeFirst(consumedCount)
        bufferOffset += Int64(consumedCount)
        neededCount = max(0, neededCount - consumedCount)
        consumedCount = 0
        checksummedCount = 0
    }
}
