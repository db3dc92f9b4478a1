import MartletBase

/// Writes the RDB format piece by piece into a buffer that the caller drains.
///
/// A snapshot is taken by the point-in-time iterator in small slices: it appends entries until the slice is over, the
/// owner takes ``output`` away (to a socket, to a file thread), and the encoder goes on. Nothing is held back between
/// two calls except the running checksum, so the output may be drained after any of them.
///
/// The checksum is computed over what has been appended when it is drained or when the file ends: in one pass over many
/// entries, not in a call for each.
///
/// The stream for a replica is version 10: Redis 7.0 refuses anything newer, and everything since reads it.
package struct RDBEncoder: ~Copyable {
    /// Written in the header and in DUMP footers.
    package let version: Int
    let isCompressing: Bool
    private let isChecksumming: Bool
    /// Fields of hashes are written with their times, in the form of Valkey 9, which Redis 7.0 does not read. Without, such
    /// a hash is written as if its fields stayed: a replica that does not know their times still gets each HDEL.
    package let keepsFieldExpiry: Bool

    /// What was written and not yet drained. Drain with ``drain(_:)``, not by changing it.
    package internal(set) var output: ByteBuffer
    private var compressor = LZFCompressor()
    private var checksum: UInt64 = 0
    /// Bytes at the front of `output` that `checksum` covers already.
    private var checksummedCount = 0

    /// Shorter strings gain nothing. Source: Redis 7.0 rdb.c, `rdbSaveRawString`.
    static let compressedCountMin = 21
    /// A key is compressed only from here on: short keys hardly ever shrink, and trying costs more than writing.
    static let compressedKeyCountMin = 128
    /// Opcode, time, opcode, idle time, type and the longest length or integer: what an entry needs besides its bytes.
    private static let entryOverheadMax = 64

    package init(
        version: Int = RDBVersion.redis70, compression: Bool = true, checksum: Bool = true,
        keepsFieldExpiry: Bool = true
    ) {
        precondition((1...999).contains(version))
        self.version = version
        self.keepsFieldExpiry = keepsFieldExpiry
        isCompressing = compression
        isChecksumming = checksum
        output = ByteBuffer(minimumCapacity: 64 * 1024)
    }

    // MARK: - A file in its order

    /// The magic. Comes first.
    package mutating func appendHeader() {
        var digits = String(version)
        if version >= RDBVersion.valkeyReadable.lowerBound {
            digits = String(repeating: "0", count: 3 - digits.count) + digits
            output.append("VALKEY")
        } else {
            digits = String(repeating: "0", count: 4 - digits.count) + digits
            output.append("REDIS")
        }
        output.append(digits)
    }

    /// One auxiliary field.
    package mutating func append(aux name: StaticString, _ value: String) {
        output.append(byte: RDBOpcode.aux)
        append(string: UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
        var value = value
        value.withUTF8 { append(string: UnsafeRawBufferPointer($0)) }
    }

    /// One auxiliary field with a number.
    package mutating func append(aux name: StaticString, _ value: Int64) {
        output.append(byte: RDBOpcode.aux)
        append(string: UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
        append(integer: value)
    }

    /// The fields that Redis writes behind the header.
    package mutating func append(_ information: RDBInformation) {
        append(aux: "redis-ver", information.redisVersion)
        append(aux: "redis-bits", Int64(Int.bitWidth))
        append(aux: "ctime", information.createdAtSeconds)
        append(aux: "used-mem", information.usedMemoryBytes)
        if let replication = information.replication {
            append(aux: "repl-stream-db", Int64(replication.streamDatabase))
            append(aux: "repl-id", replication.id)
            append(aux: "repl-offset", replication.offset)
        }
        append(aux: "aof-base", information.isAOFBase ? 1 : 0)
    }

    /// The source of a function library.
    package mutating func append(function library: UnsafeRawBufferPointer) {
        output.append(byte: RDBOpcode.function)
        append(string: library)
    }

    /// The entries that follow belong to this database.
    package mutating func append(selectDatabase index: Int) {
        output.append(byte: RDBOpcode.selectDatabase)
        append(length: UInt64(index))
    }

    /// A hint for the reader's tables; follows ``append(selectDatabase:)``.
    package mutating func append(keyCount: Int, expiryCount: Int) {
        output.append(byte: RDBOpcode.sizes)
        append(length: UInt64(keyCount))
        append(length: UInt64(expiryCount))
    }

    /// One key with its value and whatever is known about its age.
    ///
    /// - Parameters:
    ///   - idleSeconds: since the last access; written under an LRU policy.
    ///   - frequency: the logarithmic counter; written under an LFU policy.
    package mutating func append(
        key: UnsafeRawBufferPointer, _ value: RDBValue, expireAtMilliseconds: Int64? = nil,
        idleSeconds: Int64? = nil, frequency: UInt8? = nil
    ) {
        append(
            head: key, valueType(of: value), expireAtMilliseconds: expireAtMilliseconds, idleSeconds: idleSeconds,
            frequency: frequency)
        append(value)
    }

    /// What stands before a value.
    mutating func append(
        head key: UnsafeRawBufferPointer, _ type: RDBValueType, expireAtMilliseconds: Int64?, idleSeconds: Int64? = nil,
        frequency: UInt8? = nil
    ) {
        let room = output.reserve(Self.entryOverheadMax)
        var count = 0
        if let expireAtMilliseconds {
            room.storeBytes(of: RDBOpcode.expireAtMilliseconds, as: UInt8.self)
            room.storeBytes(of: expireAtMilliseconds.littleEndian, toByteOffset: 1, as: Int64.self)
            count = 9
        }
        if let idleSeconds {
            room.storeBytes(of: RDBOpcode.idle, toByteOffset: count, as: UInt8.self)
            count &+= 1
            count &+= Self.write(length: UInt64(max(0, idleSeconds)), to: room + count)
        }
        if let frequency {
            room.storeBytes(of: RDBOpcode.frequency, toByteOffset: count, as: UInt8.self)
            room.storeBytes(of: frequency, toByteOffset: count &+ 1, as: UInt8.self)
            count &+= 2
        }
        room.storeBytes(of: type.rawValue, toByteOffset: count, as: UInt8.self)
        output.commit(count &+ 1)
        append(string: key, compressedCountMin: Self.compressedKeyCountMin)
    }

    /// What another encoder has written: entries that follow those of this one.
    package mutating func append(encoded bytes: UnsafeRawBufferPointer) { output.append(bytes) }

    /// The end mark and the checksum. Nothing may follow.
    package mutating func appendEnd() {
        output.append(byte: RDBOpcode.end)
        updateChecksum()
        // Zero stands for "no checksum".
        var bytes = (isChecksumming ? checksum : 0).littleEndian
        withUnsafeBytes(of: &bytes) { output.append($0) }
        checksummedCount = output.count
    }

    /// Consumes `count` bytes from the front of ``output``.
    package mutating func drain(_ count: Int) {
        updateChecksum()
        output.removeFirst(count)
        checksummedCount -= count
    }

    private mutating func updateChecksum() {
        guard isChecksumming else {
            checksummedCount = output.count
            return
        }
        let fresh = UnsafeRawBufferPointer(rebasing: output.bytes[checksummedCount...])
        checksum = crc64(fresh, continuing: checksum)
        checksummedCount = output.count
    }

    // MARK: - Values

    private func valueType(of value: RDBValue) -> RDBValueType {
        switch value {
        case .string, .integer: return .string
        case .container(let container): return valueType(of: container)
        }
    }

    /// The value alone, as it stands behind a key and in a DUMP payload.
    private mutating func append(_ value: RDBValue) {
        switch value {
        case .string(let bytes): append(string: bytes)
        case .integer(let integer): append(integer: integer)
        case .container(let container): append(container)
        }
    }

    /// Appends a DUMP payload: type, value, version and checksum.
    ///
    /// What Redis 7.0 does not read carries the version of Valkey 9, so that it is refused for its version.
    ///
    /// Source: Redis 7.0 cluster.c, `createDumpPayload`.
    package mutating func appendDump(_ value: RDBValue) {
        let start = output.count
        let type = valueType(of: value)
        output.append(byte: type.rawValue)
        append(value)
        let version = type == .hash2 ? max(version, RDBVersion.valkey9) : version
        DumpPayload.appendFooter(to: &output, bodyFrom: start, version: version)
    }

    /// What FUNCTION DUMP hands out; see ``LibraryPayload``.
    package mutating func appendDump(libraries: [[UInt8]]) {
        let start = output.count
        for library in libraries { library.withUnsafeBytes { append(function: $0) } }
        DumpPayload.appendFooter(to: &output, bodyFrom: start, version: version)
    }

    // MARK: - Strings and lengths

    /// A string in the shortest of its encodings: integer, compressed, plain.
    mutating func append(
        string bytes: UnsafeRawBufferPointer, compressedCountMin: Int = RDBEncoder.compressedCountMin
    ) {
        let count = bytes.count
        // The longest 32-bit integer is -2147483648.
        if count <= 11, let integer = parseInt64(bytes), let short = Int32(exactly: integer) {
            let room = output.reserve(5)
            output.commit(Self.write(integer: short, to: room))
            return
        }
        if isCompressing, count >= compressedCountMin, appendCompressed(bytes) { return }
        let room = output.reserve(9 &+ count)
        let header = Self.write(length: UInt64(count), to: room)
        if let source = bytes.baseAddress { (room + header).copyMemory(from: source, byteCount: count) }
        output.commit(header &+ count)
    }

    /// A string that is an integer: beyond 32 bits it is written as text.
    mutating func append(integer: Int64) {
        let room = output.reserve(9 &+ int64DecimalBytesMax)
        if let short = Int32(exactly: integer) {
            output.commit(Self.write(integer: short, to: room))
            return
        }
        let count = writeDecimal(integer, to: room + 1)
        room.storeBytes(of: UInt8(count), as: UInt8.self)
        output.commit(1 &+ count)
    }

    mutating func append(length: UInt64) {
        let room = output.reserve(9)
        output.commit(Self.write(length: length, to: room))
    }

    /// Writes the compressed form if it is shorter than the string by more than its header costs.
    private mutating func appendCompressed(_ bytes: UnsafeRawBufferPointer) -> Bool {
        let header = 1 + 9 + 9
        let room = output.reserve(header &+ bytes.count)
        // Compressed behind the widest header, then moved up to the header it gets.
        let target = UnsafeMutableRawBufferPointer(start: room + header, count: bytes.count &- 4)
        guard let count = compressor.compress(bytes, into: target) else { return false }
        room.storeBytes(of: 0xC0 | RDBStringEncoding.lzf, as: UInt8.self)
        var written = 1
        written &+= Self.write(length: UInt64(count), to: room + written)
        written &+= Self.write(length: UInt64(bytes.count), to: room + written)
        guard written &+ count < bytes.count else { return false }
        (room + written).copyMemory(from: room + header, byteCount: count)
        output.commit(written &+ count)
        return true
    }

    /// Writes a length of at most 9 bytes and returns how many it took.
    private static func write(length: UInt64, to room: UnsafeMutableRawPointer) -> Int {
        if length < 1 << 6 {
            room.storeBytes(of: UInt8(length), as: UInt8.self)
            return 1
        }
        if length < 1 << 14 {
            room.storeBytes(of: (0x4000 | UInt16(length)).bigEndian, as: UInt16.self)
            return 2
        }
        if length <= UInt64(UInt32.max) {
            room.storeBytes(of: 0x80, as: UInt8.self)
            room.storeBytes(of: UInt32(length).bigEndian, toByteOffset: 1, as: UInt32.self)
            return 5
        }
        room.storeBytes(of: 0x81, as: UInt8.self)
        room.storeBytes(of: length.bigEndian, toByteOffset: 1, as: UInt64.self)
        return 9
    }

    /// Writes an integer in the narrowest encoding, at most 5 bytes, and returns how many it took.
    private static func write(integer: Int32, to room: UnsafeMutableRawPointer) -> Int {
        if let narrow = Int8(exactly: integer) {
            room.storeBytes(of: 0xC0 | RDBStringEncoding.int8, as: UInt8.self)
            room.storeBytes(of: narrow, toByteOffset: 1, as: Int8.self)
            return 2
        }
        if let narrow = Int16(exactly: integer) {
            room.storeBytes(of: 0xC0 | RDBStringEncoding.int16, as: UInt8.self)
            room.storeBytes(of: narrow.littleEndian, toByteOffset: 1, as: Int16.self)
            return 3
        }
        room.storeBytes(of: 0xC0 | RDBStringEncoding.int32, as: UInt8.self)
        room.storeBytes(of: integer.littleEndian, toByteOffset: 1, as: Int32.self)
        return 5
    }
}

/// What a file says about its origin.
package struct RDBInformation: Sendable {
    package struct Replication: Sendable {
        /// Database selected in the replication stream at `offset`.
        package var streamDatabase: Int
        package var id: String
        package var offset: Int64

        package init(streamDatabase: Int, id: String, offset: Int64) {
            self.streamDatabase = streamDatabase
            self.id = id
            self.offset = offset
        }
    }

    package var redisVersion: String
    package var createdAtSeconds: Int64
    package var usedMemoryBytes: Int64
    /// Nil in files that nobody can continue a replication stream from.
    package var replication: Replication?
    package var isAOFBase: Bool

    package init(
        redisVersion: String, createdAtSeconds: Int64, usedMemoryBytes: Int64, replication: Replication? = nil,
        isAOFBase: Bool = false
    ) {
        self.redisVersion = redisVersion
        self.createdAtSeconds = createdAtSeconds
        self.usedMemoryBytes = usedMemoryBytes
        self.replication = replication
        self.isAOFBase = isAOFBase
    }
}
