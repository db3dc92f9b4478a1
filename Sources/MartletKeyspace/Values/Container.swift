import MartletBase

// Values of many elements.
//
// An entry that is no string points to its container: one block (a listpack, an intset) while it is small, a structure of
// many blocks when it is large. `Container` is that pointer with the type and encoding that say what it points to; it
// owns nothing by itself. What can be done with every container (free, copy, measure) is decided here by one switch each;
// what can be done with a hash is in HashValue.swift, and so on.
//
// A command changes a container so: `lookupWrite` finds the entry; `willModify(entry)` lets a snapshot see the old value;
// the value's own functions change it and write the entry's `container` back, since it may have moved or changed its
// encoding; `didModify` reports the change; an empty container is deleted with its key.

package struct Container {
    package let type: ValueType
    package var encoding: Encoding
    package var pointer: UnsafeMutableRawPointer

    package init(type: ValueType, encoding: Encoding, pointer: UnsafeMutableRawPointer) {
        self.type = type
        self.encoding = encoding
        self.pointer = pointer
    }

    /// How many separate allocations there are to free, about. (lazyfreeGetFreeEffort)
    var freeEffort: Int {
        switch encoding {
        case .listpack, .intset: return 1
        case .hashtable where type == .hash: return fieldTable.pointee.fields.count
        case .skiplist: return sortedSet.pointee.count
        case .quicklist: return Quicklist(pointer).nodeCount
        case .hashtable: return table.pointee.count
        case .stream: return StreamValue.freeEffort(self)
        case .integer, .embedded, .raw: Self.isNeverMade()
        }
    }

    /// Gives all memory back.
    ///
    /// - Parameter membersAreFreed: the store of the members is about to be freed as a whole.
    /// - Complexity: O(elements) of a large encoding.
    package func destroy(membersAreFreed: Bool = false) {
        switch encoding {
        case .listpack: Listpack(pointer).destroy()
        case .intset: IntSet(pointer).destroy()
        case .hashtable where type == .hash: FieldTable.free(fieldTable, membersAreFreed: membersAreFreed)
        case .skiplist: LargeSortedSet.destroy(sortedSet, membersAreFreed: membersAreFreed)
        case .quicklist: Quicklist(pointer).destroy()
        case .hashtable: MemberTable.free(table, membersAreFreed: membersAreFreed)
        case .stream: StreamValue.destroy(self)
        case .integer, .embedded, .raw: Self.isNeverMade()
        }
    }

    /// Frees a part of a container that no key has any more.
    ///
    /// - Parameters:
    ///   - position: 0 at first; then what the last call left.
    ///   - limit: elements, about; reduced by what was done.
    /// - Returns: true when everything is freed.
    func freeSome(from position: inout Int, limit: inout Int) -> Bool {
        switch encoding {
        case .quicklist: return Quicklist(pointer).freeSome(from: &position, limit: &limit)
        case .hashtable where type == .hash:
            guard fieldTable.pointee.freeSome(from: &position, limit: &limit) else { return false }
            destroy()
            return true
        case .skiplist: return LargeSortedSet.freeSome(sortedSet, from: &position, limit: &limit)
        case .hashtable:
            guard table.pointee.freeSome(from: &position, limit: &limit) else { return false }
            destroy()
            return true
        case .stream: return StreamValue.freeSome(self, limit: &limit)
        case .listpack, .intset, .integer, .embedded, .raw:
            destroy()
            return true
        }
    }

    /// An equal container with memory of its own. - Parameter store: for its members.
    package func copy(_ store: MemberStorePointer) -> Container {
        var copy = self
        switch encoding {
        case .listpack: copy.pointer = Listpack(copying: Listpack(pointer).bytes).pointer
        case .intset: copy.pointer = IntSet(copying: IntSet(pointer).bytes).pointer
        case .hashtable where type == .hash:
            copy.pointer = UnsafeMutableRawPointer(fieldTable.pointee.copy(store))
        case .skiplist: copy.pointer = UnsafeMutableRawPointer(LargeSortedSet.copy(sortedSet, store))
        case .quicklist: copy.pointer = Quicklist(pointer).copy().pointer
        case .hashtable: copy.pointer = UnsafeMutableRawPointer(table.pointee.copy(store))
        case .stream: return StreamValue.copy(self)
        case .integer, .embedded, .raw: Self.isNeverMade()
        }
        return copy
    }

    /// Bytes that the allocator has given for it. - Complexity: O(elements) of a large encoding.
    package var memoryBytes: Int { memoryBytes(samples: .max) }

    /// The same, estimated from some of the elements. - Complexity: O(samples)
    package func memoryBytes(samples: Int) -> Int {
        switch encoding {
        case .listpack: return Memory.usableBytes(Listpack(pointer).byteCount)
        case .intset: return Memory.usableBytes(IntSet(pointer).byteCount)
        case .hashtable where type == .hash:
            return fieldTable.pointee.tableBytes + fieldTable.pointee.fields.memberBytes(samples: samples)
        case .skiplist: return sortedSet.pointee.memoryBytes(samples: samples)
        case .quicklist: return Quicklist(pointer).memoryBytes(samples: samples)
        case .hashtable:
            return Memory.usableBytes(MemoryLayout<MemberTable>.size) + table.pointee.tableBytes
                + table.pointee.memberBytes(samples: samples)
        case .stream: return StreamValue.memoryBytes(self, samples: samples)
        case .integer, .embedded, .raw: Self.isNeverMade()
        }
    }

    /// Elements: pairs of a hash, entries of a stream.
    package var count: Int {
        switch encoding {
        case .listpack:
            let count = Listpack(pointer).count
            return type == .hash || type == .sortedSet ? count / 2 : count
        case .intset: return IntSet(pointer).count
        case .hashtable where type == .hash: return fieldTable.pointee.fields.count
        case .skiplist: return sortedSet.pointee.count
        case .quicklist: return Quicklist(pointer).count
        case .hashtable: return table.pointee.count
        case .stream: return StreamValue.count(self)
        case .integer, .embedded, .raw: Self.isNeverMade()
        }
    }

    /// Whether members stand in a table, so that they can be scanned from any position on.
    package var isTable: Bool { encoding == .hashtable || encoding == .skiplist }

    /// Visits the members of a table at a position in hash order. - Returns: the next position, nil at the end.
    ///
    /// - Precondition: ``isTable``.
    package func scanMembers(from position: UInt64, _ visit: (Entry) -> Void) -> UInt64? {
        switch encoding {
        case .hashtable where type == .hash: return fieldTable.pointee.fields.scan(from: position, visit)
        case .skiplist: return sortedSet.pointee.scan(from: position, visit)
        case .hashtable: return table.pointee.scan(from: position, visit)
        case .listpack, .intset, .integer, .embedded, .raw, .quicklist, .stream: Self.isNeverMade()
        }
    }

    /// Checks every structural rule. For tests and DEBUG. - Complexity: O(elements)
    package func invariants() {
        switch encoding {
        case .listpack:
            precondition(Listpack.isValid(Listpack(pointer).bytes, deep: true), "a valid listpack")
            let isOfPairs = type == .hash || type == .sortedSet
            precondition(!isOfPairs || Listpack(pointer).count % 2 == 0, "fields have values, members scores")
            let seed = HashSeed(k0: 0, k1: 0)
            precondition(
                type == .list || !Listpack(pointer).hasDuplicates(skipping: isOfPairs ? 1 : 0, seed: seed),
                "no name is there twice")
        case .intset:
            precondition(count == 0 || IntSet.isValid(IntSet(pointer).bytes, deep: true), "integers in order")
        case .hashtable where type == .hash: fieldTable.pointee.invariants()
        case .skiplist: sortedSet.pointee.invariants()
        case .quicklist: Quicklist(pointer).invariants()
        case .hashtable: table.pointee.invariants()
        case .stream: StreamValue.invariants(self)
        case .integer, .embedded, .raw: Self.isNeverMade()
        }
    }

    /// - Precondition: the encoding is hashtable.
    @inline(__always)
    var table: UnsafeMutablePointer<MemberTable> { pointer.assumingMemoryBound(to: MemberTable.self) }

    /// - Precondition: the encoding is skiplist.
    var sortedSet: LargeSortedSet.Pointer { pointer.assumingMemoryBound(to: LargeSortedSet.self) }

    static func isNeverMade() -> Never { preconditionFailure("container of an encoding that is never made") }
}

/// A container that no key has any more, freed a little at a time.
struct Remains {
    private let container: Container
    private var position = 0

    /// Beyond it a container is not freed at once. (LAZYFREE_THRESHOLD)
    static let effortAtOnceMax = 64

    init(_ container: Container) { self.container = container }

    /// - Parameter limit: elements, about; reduced by what was done. - Returns: true when everything is freed.
    mutating func freeSome(_ limit: inout Int) -> Bool {
        limit -= 1
        return container.freeSome(from: &position, limit: &limit)
    }

    func destroy() {
        var rest = self
        var limit = Int.max
        while !rest.freeSome(&limit) {}
    }
}
