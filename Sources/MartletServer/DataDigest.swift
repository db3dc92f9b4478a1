import MartletBase
import MartletKeyspace

// Digests of values and of whole data sets, equal to Redis' for equal data, so that two servers can be compared.
//
// Unordered things are combined with exclusive or, ordered ones by hashing the digest so far together with the next
// piece. A key's digest mixes its name, then the value's type and content, and says whether it expires (not when).
//
// Source: Redis 7.0 debug.c, `xorObjectDigest` and `computeDatasetDigest`.

struct DataDigest {
    private(set) var bytes = [UInt8](repeating: 0, count: SHA1.digestBytes)

    /// Adds a piece that may come in any order.
    mutating func add(_ piece: UnsafeRawBufferPointer) {
        let hash = SHA1.digest(piece)
        for index in bytes.indices { bytes[index] ^= hash[index] }
    }

    /// Adds the next piece of a sequence.
    mutating func mix(_ piece: UnsafeRawBufferPointer) {
        add(piece)
        bytes = SHA1.digest(bytes)
    }

    private mutating func mix(_ piece: StringView) { piece.withBytes { mix($0) } }

    private mutating func mix(_ number: UInt32) {
        withUnsafeBytes(of: number.bigEndian) { mix($0) }
    }

    /// Adds the value and whether it expires.
    mutating func mix(valueOf entry: Entry) {
        mix(UInt32(entry.type.rawValue))
        switch entry.type {
        case .string: mix(entry.string)
        case .list: ListValue.forEachNode(of: entry.container) { for element in $0.values { mix(element) } }
        case .hash:
            entry.container.forEachField { field, value, _ in
                var pair = DataDigest()
                pair.mix(field)
                pair.mix(value)
                pair.bytes.withUnsafeBytes { add($0) }
            }
        case .sortedSet:
            SortedSetValue(reading: entry.container).forEach { member, score in
                var pair = DataDigest()
                pair.mix(member)
                withUnsafeTemporaryAllocation(byteCount: doubleBytesMax, alignment: 8) { text in
                    let count = formatDouble17(score, to: text.baseAddress.unsafelyUnwrapped)
                    pair.mix(UnsafeRawBufferPointer(rebasing: text[..<count]))
                }
                pair.bytes.withUnsafeBytes { add($0) }
                return true
            }
        case .set:
            entry.container.forEachMember { member in
                member.withBytes { add($0) }
                return true
            }
        case .stream: mix(stream: entry.stream)
        }
        if entry.hasExpiry { add(StaticString("!!expire!!").bytes) }
    }

    /// Adds entries with their IDs; groups do not count.
    private mutating func mix(stream: StreamValue) {
        var cursor = stream.entries()
        while cursor.next() {
            let id = cursor.id
            Array("\(id.milliseconds).\(id.sequence)".utf8).withUnsafeBytes { mix($0) }
            for _ in 0..<cursor.fieldCount {
                let (field, value) = cursor.nextField()
                mix(field)
                mix(value)
            }
        }
    }

    var hexadecimal: String { MartletBase.hexadecimal(bytes) }

    /// The digest of all databases. - Complexity: O(bytes of all keys and values)
    init(of keyspace: inout Keyspace) {
        let selected = keyspace.selected
        defer { keyspace.selected = selected }
        for database in 0..<keyspace.databaseCount where keyspace.keyCount(database: database) > 0 {
            keyspace.selected = database
            mix(UInt32(database))
            var digest = self
            var cursor: UInt64 = 0
            repeat {
                cursor = keyspace.scan(cursor: cursor) { entry in
                    var entryDigest = DataDigest()
                    entryDigest.mix(entry.key)
                    entryDigest.mix(valueOf: entry)
                    entryDigest.bytes.withUnsafeBytes { digest.add($0) }
                }
            } while cursor != 0
            self = digest
        }
    }

    init() {}
}
