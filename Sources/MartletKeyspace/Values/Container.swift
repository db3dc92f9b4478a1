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
        case .integer, .embedded, .raw, .quicklist, .hashtable, .skiplist, .stream: Self.isNeverMade()
        }
    }

    /// Gives all memory back.
    ///
    /// - Parameter membersAreFreed: the store of the members is about to be freed as a whole.
    /// - Complexity: O(elements) of a large encoding.
    func destroy(membersAreFreed: Bool = false) {
        switch encoding {
        case .listpack, .intset, .integer, .embedded, .raw, .quicklist, .hashtable, .skiplist, .stream:
            Self.isNeverMade()
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
        case .listpack, .intset, .integer, .embedded, .raw, .quicklist, .hashtable, .skiplist, .stream:
            destroy()
            return true
        }
    }

    /// An equal container with memory of its own. - Parameter store: for its members.
    func copy(_ store: MemberStorePointer) -> Container {
        switch encoding {
        case .listpack, .intset, .integer, .embedded, .raw, .quicklist, .hashtable, .skiplist, .stream:
            Self.isNeverMade()
        }
    }

    /// Bytes that the allocator has given for it. - Complexity: O(elements) of a large encoding.
    package var memoryBytes: Int {
        switch encoding {
        case .listpack, .intset, .integer, .embedded, .raw, .quicklist, .hashtable, .skiplist, .stream:
            Self.isNeverMade()
        }
    }

    /// Elements: pairs of a hash, entries of a stream.
    package var count: Int {
        switch encoding {
        case .listpack, .intset, .integer, .embedded, .raw, .quicklist, .hashtable, .skiplist, .stream:
            Self.isNeverMade()
        }
    }

    /// Checks every structural rule. For tests and DEBUG. - Complexity: O(elements)
    package func invariants() {
        switch encoding {
        case .listpack, .intset, .integer, .embedded, .raw, .quicklist, .hashtable, .skiplist, .stream:
            Self.isNeverMade()
        }
    }

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
