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
        case (.set, .intset): append(string: IntSet(container.pointer).bytes)
        case (.set, .listpack): append(membersOfListpack: container)
        case (.list, .listpack):
            append(length: 1)
            append(node: Listpack(container.pointer))
        case (.hash, .hashtable), (.set, .hashtable), (.sortedSet, .skiplist), (.list, .quicklist), (.stream, .stream):
            append(large: container)
        default: preconditionFailure("no type of value has such an encoding")
        }
    }

    private mutating func append(membersOfListpack set: Container) {
        append(length: UInt64(set.count))
        set.forEachMember { member in
            append(element: member)
            return true
        }
    }

    mutating func append(node: Listpack) {
        // Redis holds elements of a gigabyte and more outside of listpacks.
        if node.byteCount > Listpack.bytesMax, node.count == 1, let only = node.first {
            append(length: RDBListNode.plain)
            append(element: node.value(at: only))
        } else {
            append(length: RDBListNode.packed)
            append(string: node.bytes)
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
