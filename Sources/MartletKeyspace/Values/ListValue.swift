import MartletBase

// Lists.
//
// A list that fits into one node is that node: a listpack, to which the key's entry points. When it outgrows the limit
// (`list-max-listpack-size`) it becomes a ``Quicklist``, whose first node the listpack is, and stays one. Clients are told
// "quicklist" of both.

package enum ListEnd: Sendable {
    case head, tail
}

/// A list, to be looked at and changed: that of a key, or one that is being made for a key.
///
/// Of one list there must not be two of these at a time if one of them changes it.
package struct ListValue {
    /// The key's entry, to which a changed container is written back; nil for a list that no key has yet.
    private let entry: Entry?
    private var encoding: Encoding
    private var pointer: UnsafeMutableRawPointer
    private let limit: ListNodeLimit

    /// A new list that belongs to no key; ``container`` gives it away.
    package init(limits: EncodingLimits) {
        entry = nil
        encoding = .listpack
        pointer = Listpack.make().pointer
        limit = ListNodeLimit(limits.listListpackSize)
    }

    fileprivate init(_ entry: Entry, _ store: MemberStorePointer) {
        self.entry = entry
        encoding = entry.encoding
        pointer = entry.container.pointer
        limit = ListNodeLimit(store.pointee.limits.listListpackSize)
    }

    package var container: Container { Container(type: .list, encoding: encoding, pointer: pointer) }

    @inline(__always) private var isCompact: Bool { encoding == .listpack }
    @inline(__always) private var listpack: Listpack { Listpack(pointer) }
    @inline(__always) private var quicklist: Quicklist { Quicklist(pointer) }

    /// The only node has moved.
    @inline(__always)
    private mutating func store(_ listpack: Listpack) {
        pointer = listpack.pointer
        entry?.container = container
    }

    /// From now on a list of nodes.
    private mutating func convert() {
        let quicklist = Quicklist.make()
        let count = listpack.count
        if count > 0 { quicklist.append(listpack, count: count) } else { listpack.destroy() }
        pointer = quicklist.pointer
        encoding = .quicklist
        entry?.container = container
    }

    // MARK: Looking

    /// - Complexity: O(1)
    package var count: Int { isCompact ? listpack.count : quicklist.count }
    package var isEmpty: Bool { count == 0 }

    /// - Parameter index: from the head; below zero from the tail, where -1 is the last.
    /// - Complexity: O(nodes + elements of one node), from the nearer end
    package func element(at index: Int) -> StringView? {
        var (node, index) = (listpack, index)
        if !isCompact {
            if index < 0 { index += count }
            guard index >= 0, index < count else { return nil }
            let place = quicklist.place(of: index)
            node = quicklist[place.node].listpack
            index = place.index
        }
        guard let position = node.position(at: index) else { return nil }
        return node.value(at: position)
    }

    /// The first or last element. - Precondition: there is one.
    package func element(at end: ListEnd) -> StringView {
        let node = isCompact ? listpack : quicklist[end == .head ? 0 : quicklist.nodeCount - 1].listpack
        guard let position = end == .head ? node.first : node.last else { preconditionFailure("no list is empty") }
        return node.value(at: position)
    }

    /// The elements from an index on, towards the tail or the head. - Precondition: the list stays as it is meanwhile.
    package func elements(from index: Int, towards end: ListEnd) -> ListCursor {
        guard index >= 0, index < count else { return ListCursor(nil, node: 0, listpack, position: nil, towards: end) }
        if isCompact {
            return ListCursor(nil, node: 0, listpack, position: listpack.position(at: index), towards: end)
        }
        let place = quicklist.place(of: index)
        let listpack = quicklist[place.node].listpack
        return ListCursor(
            quicklist, node: place.node, listpack, position: listpack.position(at: place.index), towards: end)
    }

    /// The indexes of elements equal to a string, in the order in which they are found; each is handed to `visit` until
    /// that returns false.
    ///
    /// - Parameters:
    ///   - start: the end to begin at. Indexes count from the head all the same.
    ///   - elementsMax: how many elements are compared.
    package func findAll(
        _ needle: ListNeedle, from start: ListEnd, elementsMax: Int, _ visit: (Int) -> Bool
    ) {
        let count = count
        var cursor = elements(from: start == .head ? 0 : count - 1, towards: start == .head ? .tail : .head)
        var steps = 0
        while steps < elementsMax, let value = cursor.next() {
            if needle.equals(value), !visit(start == .head ? steps : count - 1 - steps) { return }
            steps += 1
        }
    }

    // MARK: Changing
    //
    // What comes into a list must not lie in it: its memory may move.

    package mutating func push(_ bytes: UnsafeRawBufferPointer, at end: ListEnd) {
        push(Listpack.Element(bytes), at: end)
    }

    package mutating func push(_ value: StringView, at end: ListEnd) { push(Listpack.Element(value), at: end) }

    private mutating func push(_ element: Listpack.Element, at end: ListEnd) {
        if isCompact {
            var listpack = listpack
            let count = listpack.count
            if count == 0 || limit.allows(bytes: listpack.byteCount &+ element.entryBytes, count: count &+ 1) {
                if end == .head { listpack.prepend(element) } else { listpack.append(element) }
                return store(listpack)
            }
            convert()
        }
        quicklist.push(element, at: end, limit)
    }

    /// Removes the first or last element. - Precondition: there is one.
    package mutating func removeElement(at end: ListEnd) {
        guard isCompact else { return quicklist.removeElement(at: end) }
        var listpack = listpack
        guard let position = end == .head ? listpack.first : listpack.last else {
            preconditionFailure("no list is empty")
        }
        listpack.remove(at: position)
        store(listpack)
    }

    /// Removes elements by their indexes. - Precondition: all of them exist.
    package mutating func remove(_ range: Range<Int>) {
        guard isCompact else { return quicklist.remove(range, limit) }
        var listpack = listpack
        listpack.removeRange(at: range.lowerBound, count: range.count)
        store(listpack)
    }

    /// Removes elements equal to a string: at most so many, the first or the last of them.
    ///
    /// - Returns: how many were removed.
    /// - Complexity: O(bytes)
    package mutating func removeAll(_ needle: ListNeedle, countMax: Int, from end: ListEnd) -> Int {
        guard isCompact else { return quicklist.removeAll(needle, countMax: countMax, from: end, limit) }
        var listpack = listpack
        let removed = listpack.removeAll(needle, countMax: countMax, from: end)
        store(listpack)
        return removed
    }

    /// Replaces an element. - Parameter index: from the head; below zero from the tail.
    /// - Returns: false if there is no such element.
    package mutating func set(_ bytes: UnsafeRawBufferPointer, at index: Int) -> Bool {
        let count = count
        let index = index < 0 ? index + count : index
        guard index >= 0, index < count else { return false }
        let element = Listpack.Element(bytes)
        if isCompact {
            var listpack = listpack
            guard let position = listpack.position(at: index) else { return false }
            var next = position
            _ = listpack.read(&next)
            let bytes = listpack.byteCount + element.entryBytes - (next - position)
            if count == 1 || limit.allows(bytes: bytes, count: 1) {
                listpack.replace(at: position, with: element)
                store(listpack)
                return true
            }
            convert()
        }
        quicklist.set(element, at: quicklist.place(of: index), limit)
        return true
    }

    /// Inserts a string beside the first element equal to another. - Returns: false if there is none.
    package mutating func insert(
        _ bytes: UnsafeRawBufferPointer, _ side: InsertionSide, of pivot: UnsafeRawBufferPointer
    ) -> Bool {
        var found: Int?
        findAll(ListNeedle(pivot), from: .head, elementsMax: .max) { index in
            found = index
            return false
        }
        guard let found else { return false }
        let index = side == .before ? found : found + 1
        let element = Listpack.Element(bytes)
        if isCompact {
            var listpack = listpack
            if limit.allows(bytes: listpack.byteCount + element.entryBytes, count: listpack.count + 1) {
                if let position = listpack.position(at: index) {
                    listpack.insert(element, before: position)
                } else {
                    listpack.append(element)
                }
                store(listpack)
                return true
            }
            convert()
        }
        var place = quicklist.place(of: found)
        if side == .after { place.index += 1 }
        quicklist.insert(element, before: place, limit)
        return true
    }

    package enum InsertionSide: Sendable { case before, after }

    /// Moves an element from one end to the other.
    package mutating func rotate(from source: ListEnd, to target: ListEnd) {
        guard source != target else { return }
        switch element(at: source) {
        case .integer(let number): push(.integer(number), at: target)
        case .bytes(let bytes):
            withUnsafeTemporaryAllocation(byteCount: max(bytes.count, 1), alignment: 1) { copy in
                copy.copyMemory(from: bytes)
                push(UnsafeRawBufferPointer(rebasing: copy[..<bytes.count]), at: target)
            }
        }
        removeElement(at: source)
    }
}

/// A walk through a list. The cheapest way to see many elements.
package struct ListCursor {
    private let quicklist: Quicklist?
    private var node: Int
    private var listpack: Listpack
    /// Of the element that is next, or that of the end mark; nil at the end of a walk towards the head.
    private var position: Int?
    private let end: ListEnd

    fileprivate init(_ quicklist: Quicklist?, node: Int, _ listpack: Listpack, position: Int?, towards end: ListEnd) {
        self.quicklist = quicklist
        self.node = node
        self.listpack = listpack
        self.position = position
        self.end = end
    }

    package mutating func next() -> StringView? {
        guard var position else { return nil }
        if end == .tail {
            if let value = listpack.read(&position) {
                self.position = position
                return value
            }
            guard let quicklist, node + 1 < quicklist.nodeCount else { return nil }
            node += 1
            listpack = quicklist[node].listpack
            self.position = listpack.first
            return next()
        }
        let value = listpack.value(at: position)
        if let previous = listpack.previous(before: position) {
            self.position = previous
        } else if let quicklist, node > 0 {
            node -= 1
            listpack = quicklist[node].listpack
            self.position = listpack.last
        } else {
            self.position = nil
        }
        return value
    }
}

extension Keyspace {
    /// - Precondition: the entry is a list, of the selected database.
    package mutating func list(_ entry: Entry) -> ListValue {
        precondition(entry.type == .list)
        return ListValue(entry, members)
    }

    /// A key that is missing becomes an empty list, to be filled at once. - Precondition: see ``insert(_:_:)``.
    package mutating func insertList(_ key: Key) -> ListValue {
        list(insert(key, ListValue(limits: members.pointee.limits).container))
    }
}

// MARK: - Nodes from and for the outside

extension ListValue {
    /// The nodes of a list, for those who write them down as they are.
    package static func forEachNode(of container: Container, _ visit: (Listpack) -> Void) {
        guard container.encoding == .quicklist else { return visit(Listpack(container.pointer)) }
        let quicklist = Quicklist(container.pointer)
        for number in 0..<quicklist.nodeCount { visit(quicklist[number].listpack) }
    }

    /// - Precondition: the container is a quicklist.
    package static func nodeCount(of container: Container) -> Int { Quicklist(container.pointer).nodeCount }

    /// - Precondition: the container is a quicklist, and has so many nodes.
    package static func node(_ number: Int, of container: Container) -> Listpack {
        Quicklist(container.pointer)[number].listpack
    }

    /// Takes a listpack that was checked over as the last node, as it is. An empty one is freed.
    package mutating func append(node listpack: Listpack) {
        let added = listpack.count
        guard added > 0 else { return listpack.destroy() }
        if isCompact {
            if isEmpty, limit.allows(bytes: listpack.byteCount, count: added) || added == 1 {
                self.listpack.destroy()
                return store(listpack)
            }
            convert()
        }
        quicklist.append(listpack, count: added)
    }
}
