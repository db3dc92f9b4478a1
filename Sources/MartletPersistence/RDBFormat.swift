import MartletKeyspace

// The vocabulary of the RDB format, shared by encoder, decoder and DUMP payloads.
//
// A file is a magic with a version, a sequence of opcodes and key-value pairs, and at its end a checksum. Lengths are
// written in one to nine bytes, told apart by the top bits of the first:
//
//     00LLLLLL                6-bit length
//     01LLLLLL LLLLLLLL       14-bit length
//     10000000 + 4 bytes      32-bit length, big endian
//     10000001 + 8 bytes      64-bit length, big endian
//     11EEEEEE                not a length: a string in a special encoding E follows
//
// Source: Redis 7.0 rdb.h and rdb.c; Valkey 9 for version 80 and its opcodes.

package enum RDBVersion {
    /// Newest version that Redis 7.0 loads, and the one that its DUMP payloads carry; it refuses anything newer.
    package static let redis70 = 10
    /// Redis 7.2, Valkey 7.2 and 8.
    package static let redis72 = 11
    /// Versions that begin with `REDIS` and can be read.
    package static let redisReadable = 1...12
    /// Valkey 9 left the common numbering; its files begin with `VALKEY`.
    package static let valkey9 = 80
    package static let valkeyReadable = valkey9...valkey9

    /// Whether a payload or file of this version can be read.
    package static func isReadable(_ version: Int) -> Bool {
        redisReadable.contains(version) || valkeyReadable.contains(version)
    }
}

package enum RDBOpcode {
    static let slotImport: UInt8 = 243
    static let slotInfo: UInt8 = 244
    package static let function: UInt8 = 245
    package static let functionPreRelease: UInt8 = 246
    static let moduleAux: UInt8 = 247
    static let idle: UInt8 = 248
    static let frequency: UInt8 = 249
    static let aux: UInt8 = 250
    static let sizes: UInt8 = 251
    static let expireAtMilliseconds: UInt8 = 252
    static let expireAtSeconds: UInt8 = 253
    static let selectDatabase: UInt8 = 254
    static let end: UInt8 = 255
}

/// The special string encodings of a first byte `11EEEEEE`.
enum RDBStringEncoding {
    static let int8: UInt8 = 0
    static let int16: UInt8 = 1
    static let int32: UInt8 = 2
    static let lzf: UInt8 = 3
}

/// How a value is laid out: the byte before its key.
package enum RDBValueType: UInt8, Sendable {
    case string = 0
    case list = 1
    case set = 2
    case sortedSet = 3
    case hash = 4
    case sortedSet2 = 5
    case modulePreRelease = 6
    case module2 = 7
    case hashZipmap = 9
    case listZiplist = 10
    case setIntset = 11
    case sortedSetZiplist = 12
    case hashZiplist = 13
    case listQuicklist = 14
    case streamListpacks = 15
    case hashListpack = 16
    case sortedSetListpack = 17
    case listQuicklist2 = 18
    case streamListpacks2 = 19
    case setListpack = 20
    case streamListpacks3 = 21
    /// Valkey 9's hash with expiring fields; Redis 7.4 used the number for a format it gave up.
    case hash2 = 22
    case hashListpackExpiringPreRelease = 23
    case hashExpiring = 24
    case hashListpackExpiring = 25
}

/// A value on its way into or out of the format: a view that somebody else owns, or a container.
package enum RDBValue {
    case string(UnsafeRawBufferPointer)
    /// A string that is the canonical decimal form of an integer.
    case integer(Int64)
    /// Any other value. One that was read belongs to whoever gets it, who gives it to a key or destroys it.
    case container(Container)

    /// What an entry holds.
    package init(of entry: Entry) {
        if !entry.isString {
            self = .container(entry.container)
        } else {
            switch entry.string {
            case .bytes(let bytes): self = .string(bytes)
            case .integer(let number): self = .integer(number)
            }
        }
    }
}

/// What stands before each node of a list: whether it is one element or a listpack.
/// (QUICKLIST_NODE_CONTAINER_PLAIN, QUICKLIST_NODE_CONTAINER_PACKED)
enum RDBListNode {
    static let plain: UInt64 = 1
    static let packed: UInt64 = 2
}

/// Why bytes are not an RDB file, and where.
package struct RDBError: Error, Equatable, Sendable, CustomStringConvertible {
    package enum Cause: Equatable, Sendable {
        case wrongMagic
        case unsupportedVersion(Int)
        case truncated
        case invalidLength
        case invalidNumber
        case stringTooLong(UInt64)
        case corruptCompression
        case unknownStringEncoding(UInt8)
        case unknownOpcode(UInt8)
        case unsupportedType(RDBValueType)
        /// Bytes of a value that are not what its type says, an element that is there twice, or no element at all.
        case corruptValue(RDBValueType)
        case unsupportedModuleData
        case databaseOutOfRange(UInt64)
        case invalidSlot(UInt64)
        case checksumMismatch(expected: UInt64, found: UInt64)
    }

    /// Offset in the stream of the item that could not be read.
    package var offset: Int64
    package var cause: Cause

    package init(offset: Int64, cause: Cause) {
        self.offset = offset
        self.cause = cause
    }

    package var description: String { "\(cause) at offset \(offset)" }
}

extension RDBError.Cause: CustomStringConvertible {
    package var description: String {
        switch self {
        case .wrongMagic: "wrong signature"
        case .unsupportedVersion(let version): "can't handle RDB format version \(version)"
        case .truncated: "unexpected end of data"
        case .invalidLength: "invalid length"
        case .invalidNumber: "invalid number"
        case .stringTooLong(let count): "string of \(count) bytes is over the limit"
        case .corruptCompression: "invalid LZF compressed string"
        case .unknownStringEncoding(let encoding): "unknown string encoding \(encoding)"
        case .unknownOpcode(let opcode): "unknown type or opcode \(opcode)"
        case .unsupportedType(let type): "values of type \(type) (\(type.rawValue)) are not supported"
        case .corruptValue(let type): "corrupt value of type \(type) (\(type.rawValue))"
        case .unsupportedModuleData: "module data, and there is no such module"
        case .databaseOutOfRange(let index): "database number \(index) is out of range"
        case .invalidSlot(let slot): "hash slot \(slot) is out of range"
        case .checksumMismatch(let expected, let found):
            "wrong checksum, expected \(String(expected, radix: 16)) but found \(String(found, radix: 16))"
        }
    }
}
