import MartletBase
import MartletKeyspace

// Values of many elements in the forms that Redis 7.0 writes and reads: compact encodings as the block that they are,
// large ones element by element.

extension RDBEncoder {
    func valueType(of container: Container) -> RDBValueType {
        switch (container.type, container.encoding) {
        case (.hash, .listpack): return .hashListpack
        case (.hash, .hashtable): return keepsFieldExpiry && container.hasExpiringFields ? .hash2 : .hash
        case (.set, .intset): return .setIntset
        case (.set, .listpack), (.set, .hashtable): return .set
        case (.sortedSet, .listpack): return .sortedSetListpack
        case (.sortedSet, .skiplist): return .sortedSet2
        case (.list, .listpack), (.list, .quicklist): return .listQuicklist2
        case (.stream, .stream): return .streamListpacks2
        default: preconditionFailure("no type of value has such an encoding")
        }
    }

    mutating func append(_ container: Container) {
        switch (container.type, container.encoding) {
        case (.hash, .listpack), (.sortedSet, .listpack): append(string: Listpack(container.pointer).bytes)
        case (.hash, .hashtable): append(fieldsOf: container)
        case (.set, .intset): append(string: IntSet(container.pointer).bytes)
        case (.set, .listpack), (.set, .hashtable): append(membersOfSet: container)
        case (.sortedSet, .skiplist): append(membersOf: SortedSetValue(reading: container))
        case (.list, .listpack), (.list, .quicklist): append(nodesOf: container)
        case (.stream, .stream): append(stream: container)
        default: preconditionFailure("no type of value has such an encoding")
        }
    }

    /// - Complexity: O(fields)
    private mutating func append(fieldsOf hash: Container) {
        let withExpiry = keepsFieldExpiry && hash.hasExpiringFields
        append(length: UInt64(hash.count))
        hash.forEachField { field, value, expiry in
            append(element: field)
            append(element: value)
            if withExpiry { append(littleEndian: expiry ?? -1) }
        }
    }

    /// - Complexity: O(members)
    private mutating func append(membersOfSet set: Container) {
        append(length: UInt64(set.count))
        set.forEachMember { member in
            append(element: member)
            return true
        }
    }

    /// From the last to the first, as Redis does: whoever reads it inserts at the head.
    ///
    /// - Complexity: O(members)
    private mutating func append(membersOf set: SortedSetValue) {
        append(length: UInt64(set.count))
        set.forEach(in: 0..<set.count, isReversed: true) { member, score in
            append(element: member)
            append(littleEndian: Int64(bitPattern: score.bitPattern))
        }
    }

    /// - Complexity: O(bytes)
    private mutating func append(nodesOf list: Container) {
        var count: UInt64 = 0
        ListValue.forEachNode(of: list) { _ in count += 1 }
        append(length: count)
        ListValue.forEachNode(of: list) { node in
            // Redis holds elements of a gigabyte and more outside of listpacks.
            if node.byteCount > Listpack.bytesMax, node.count == 1, let only = node.first {
                append(length: RDBListNode.plain)
                append(element: node.value(at: only))
            } else {
                append(length: RDBListNode.packed)
                append(string: node.bytes)
            }
        }
    }

    mutating func append(element: StringView) {
        switch element {
        case .bytes(let bytes): append(string: bytes)
        case .integer(let integer): append(integer: integer)
        }
    }

    mutating func append(littleEndian integer: Int64) {
        let room = output.reserve(8)
        room.storeBytes(of: integer.littleEndian, as: Int64.self)
        output.commit(8)
    }
}
