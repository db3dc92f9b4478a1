import Glibc
import MartletBase

// A quicklist: a long list as a row of listpacks, its nodes.
//
// Redis links its nodes. Here the row is a ring buffer of 16-byte records (address of a listpack, count of its elements):
// both ends take and give nodes in constant time, and an element is found by its index with a walk over records that lie
// side by side, from the nearer end, instead of a cache miss for each node.
//
// A node is full at the limit that `list-max-listpack-size` sets, and an element that is larger than that has a node of its
// own. What leaves small nodes behind in the middle (removals, splits) merges them with their neighbours.
//
// `list-compress-depth` is accepted and has no effect. A compressed node would have to be unpacked on the command thread
// for every look at an element in it, some microseconds where a read takes a tenth of one, and be packed again afterwards;
// what it would save is saved in part already, since nodes have no links and no records of their own. Off is the default,
// and nobody but `DEBUG` can tell the difference. Lists that Redis has compressed in an RDB file are read.
//
// Source of the limits: Redis 7.0 quicklist.c.

/// When a node of a list is full.
struct ListNodeLimit {
    let bytesMax: Int
    let countMax: Int

    /// Bytes of a node that is limited by its count. (SIZE_SAFETY_LIMIT)
    private static let countedBytesMax = 8192
    /// (FILL_MAX)
    private static let countLimit = (1 << 15) - 1

    /// - Parameter setting: `list-max-listpack-size`: elements; or from -1 to -5 for 4 to 64 KB.
    init(_ setting: Int) {
        if setting < 0 {
            bytesMax = 4096 << (min(0 - max(setting, -5), 5) - 1)
            countMax = .max
        } else {
            bytesMax = Self.countedBytesMax
            countMax = min(setting, Self.countLimit)
        }
    }

    @inline(__always)
    func allows(bytes: Int, count: Int) -> Bool { bytes <= bytesMax && count <= countMax }
}

/// A view of a quicklist; whoever made it calls ``destroy()``. Its address never changes.
struct Quicklist {
    struct Node {
        var listpack: Listpack
        var count: Int
    }

    private struct Header {
        /// The ring.
        var nodes: UnsafeMutablePointer<Node>
        /// Places in the ring: a power of two.
        var capacity: Int
        /// Place of the first node.
        var first: Int
        var nodeCount: Int
        /// Elements in all nodes.
        var count: Int
    }

    /// An element: the number of its node, and its number there.
    struct Place {
        var node: Int
        var index: Int
    }

    private let header: UnsafeMutablePointer<Header>

    private static let capacityMin = 4
    private static let bytesFreedPerStep = 256
    private static var headerBytes: Int { MemoryLayout<Header>.stride }
    private static var nodeBytes: Int { MemoryLayout<Node>.stride }

    init(_ pointer: UnsafeMutableRawPointer) { header = pointer.assumingMemoryBound(to: Header.self) }

    var pointer: UnsafeMutableRawPointer { UnsafeMutableRawPointer(header) }

    // MARK: Life

    static func make() -> Quicklist {
        let list = Quicklist(Memory.allocate(headerBytes))
        list.header.initialize(
            to: Header(nodes: allocateRing(capacityMin), capacity: capacityMin, first: 0, nodeCount: 0, count: 0))
        return list
    }

    private static func allocateRing(_ capacity: Int) -> UnsafeMutablePointer<Node> {
        Memory.allocate(capacity * nodeBytes).bindMemory(to: Node.self, capacity: capacity)
    }

    func destroy() {
        for number in 0..<nodeCount { self[number].listpack.destroy() }
        destroyHeader()
    }

    private func destroyHeader() {
        Memory.free(header.pointee.nodes, header.pointee.capacity * Self.nodeBytes)
        Memory.free(header, Self.headerBytes)
    }

    /// Frees nodes of a list that nobody uses any more; see ``Container/freeSome(from:limit:)``.
    func freeSome(from position: inout Int, limit: inout Int) -> Bool {
        while position < nodeCount {
            if limit <= 0 { return false }
            // A node of 8 KB takes as long as many members do: some microseconds.
            limit -= 1 + self[position].listpack.byteCount / Self.bytesFreedPerStep
            self[position].listpack.destroy()
            position += 1
        }
        destroyHeader()
        return true
    }

    func copy() -> Quicklist {
        let new = Self.make()
        for number in 0..<nodeCount {
            new.append(Listpack(copying: self[number].listpack.bytes), count: self[number].count)
        }
        return new
    }

    /// - Parameter samples: of nodes, from which the others are estimated.
    func memoryBytes(samples: Int) -> Int {
        let sampled = min(samples, nodeCount)
        var bytes = 0
        for number in 0..<sampled { bytes += Memory.usableBytes(self[number].listpack.byteCount) }
        if sampled > 0, sampled < nodeCount { bytes = Int(Double(bytes) / Double(sampled) * Double(nodeCount)) }
        return bytes + Memory.usableBytes(Self.headerBytes)
            + Memory.usableBytes(header.pointee.capacity * Self.nodeBytes)
    }

    // MARK: Nodes

    @inline(__always) var count: Int { header.pointee.count }
    @inline(__always) var nodeCount: Int { header.pointee.nodeCount }

    @inline(__always)
    private func record(_ number: Int) -> UnsafeMutablePointer<Node> {
        header.pointee.nodes + ((header.pointee.first &+ number) & (header.pointee.capacity &- 1))
    }

    /// The node of a number, counted from the head. - Precondition: it is below ``nodeCount``.
    subscript(number: Int) -> Node {
        @inline(__always) get { record(number).pointee }
        @inline(__always) nonmutating set { record(number).pointee = newValue }
    }

    /// Takes a listpack over as the last node. - Parameter count: of its elements: one at least.
    func append(_ listpack: Listpack, count: Int) {
        insertNode(Node(listpack: listpack, count: count), at: nodeCount)
        header.pointee.count += count
    }

    /// Makes room in the row, by moving what is on the nearer side. ``count`` stays.
    private func insertNode(_ node: Node, at number: Int) {
        if nodeCount == header.pointee.capacity { resizeRing(to: nodeCount * 2) }
        header.pointee.nodeCount += 1
        if number < nodeCount / 2 {
            header.pointee.first = (header.pointee.first &- 1) & (header.pointee.capacity &- 1)
            for moved in 0..<number { self[moved] = self[moved + 1] }
        } else {
            for moved in stride(from: nodeCount - 1, to: number, by: -1) { self[moved] = self[moved - 1] }
        }
        self[number] = node
    }

    /// Takes records out of the row, by moving what is on the nearer side. Their listpacks are gone already.
    private func removeNodes(_ numbers: Range<Int>) {
        guard !numbers.isEmpty else { return }
        let count = numbers.count
        if numbers.lowerBound < nodeCount - numbers.upperBound {
            for moved in stride(from: numbers.lowerBound - 1, through: 0, by: -1) { self[moved + count] = self[moved] }
            header.pointee.first = (header.pointee.first &+ count) & (header.pointee.capacity &- 1)
        } else {
            for moved in numbers.upperBound..<nodeCount { self[moved - count] = self[moved] }
        }
        header.pointee.nodeCount -= count
        let capacity = header.pointee.capacity
        if capacity > Self.capacityMin, nodeCount < capacity / 8 { resizeRing(to: capacity / 4) }
    }

    @inline(never)
    private func resizeRing(to wanted: Int) {
        var capacity = Self.capacityMin
        while capacity < wanted { capacity *= 2 }
        let nodes = Self.allocateRing(capacity)
        for number in 0..<nodeCount { (nodes + number).initialize(to: self[number]) }
        Memory.free(header.pointee.nodes, header.pointee.capacity * Self.nodeBytes)
        header.pointee.nodes = nodes
        header.pointee.capacity = capacity
        header.pointee.first = 0
    }

    /// Where the element of an index is. - Precondition: there is one.
    ///
    /// - Complexity: O(nodes), from the nearer end
    func place(of index: Int) -> Place {
        precondition(index >= 0 && index < count)
        if index < count / 2 {
            var (node, rest) = (0, index)
            while rest >= self[node].count {
                rest -= self[node].count
                node += 1
            }
            return Place(node: node, index: rest)
        }
        var (node, rest) = (nodeCount - 1, count - index)
        while rest > self[node].count {
            rest -= self[node].count
            node -= 1
        }
        return Place(node: node, index: self[node].count - rest)
    }

    // MARK: Elements

    /// - Complexity: O(bytes of a node); so are all changes of one element
    func push(_ element: Listpack.Element, at end: ListEnd, _ limit: ListNodeLimit) {
        if nodeCount > 0 {
            let node = record(end == .head ? 0 : nodeCount &- 1)
            if limit.allows(
                bytes: node.pointee.listpack.byteCount &+ element.entryBytes, count: node.pointee.count &+ 1)
            {
                if end == .head {
                    node.pointee.listpack.prepend(element)
                } else {
                    node.pointee.listpack.append(element)
                }
                node.pointee.count &+= 1
                header.pointee.count &+= 1
                return
            }
        }
        insertAlone(element, at: end == .head ? 0 : nodeCount)
    }

    private func insertAlone(_ element: Listpack.Element, at number: Int) {
        var listpack = Listpack.make()
        listpack.append(element)
        insertNode(Node(listpack: listpack, count: 1), at: number)
        header.pointee.count += 1
    }

    /// Removes the first or last element. - Precondition: there is one.
    func removeElement(at end: ListEnd) {
        let number = end == .head ? 0 : nodeCount - 1
        let node = record(number)
        if node.pointee.count == 1 {
            node.pointee.listpack.destroy()
            removeNodes(number..<number + 1)
        } else if let position = end == .head ? node.pointee.listpack.first : node.pointee.listpack.last {
            node.pointee.listpack.remove(at: position)
            node.pointee.count &-= 1
        }
        header.pointee.count &-= 1
    }

    /// Replaces an element.
    func set(_ element: Listpack.Element, at place: Place, _ limit: ListNodeLimit) {
        let node = record(place.node)
        guard let position = node.pointee.listpack.position(at: place.index) else {
            preconditionFailure("nodes have as many elements as they say")
        }
        var next = position
        _ = node.pointee.listpack.read(&next)
        let bytes = node.pointee.listpack.byteCount + element.entryBytes - (next - position)
        if node.pointee.count == 1 || limit.allows(bytes: bytes, count: 1) {
            node.pointee.listpack.replace(at: position, with: element)
            return
        }
        node.pointee.listpack.remove(at: position)
        node.pointee.count -= 1
        header.pointee.count -= 1
        insert(element, before: place, limit)
    }

    /// Inserts an element before that of a place, whose index may be one past the last of its node.
    func insert(_ element: Listpack.Element, before place: Place, _ limit: ListNodeLimit) {
        func hasRoom(_ number: Int) -> Bool {
            guard number >= 0, number < nodeCount else { return false }
            return limit.allows(
                bytes: self[number].listpack.byteCount + element.entryBytes, count: self[number].count + 1)
        }
        func add(to number: Int, at index: Int) {
            let node = record(number)
            if let position = node.pointee.listpack.position(at: index) {
                node.pointee.listpack.insert(element, before: position)
            } else {
                node.pointee.listpack.append(element)
            }
            node.pointee.count += 1
            header.pointee.count += 1
        }
        let number = place.node
        if hasRoom(number) { return add(to: number, at: place.index) }
        if place.index == 0 {
            if hasRoom(number - 1) { return add(to: number - 1, at: self[number - 1].count) }
            return insertAlone(element, at: number)
        }
        if place.index == self[number].count {
            if hasRoom(number + 1) { return add(to: number + 1, at: 0) }
            return insertAlone(element, at: number + 1)
        }
        split(number, at: place.index)
        if hasRoom(number) {
            add(to: number, at: place.index)
        } else if hasRoom(number + 1) {
            add(to: number + 1, at: 0)
        } else {
            insertAlone(element, at: number + 1)
            return merge(number - 1...number + 3, limit)
        }
        merge(number - 1...number + 2, limit)
    }

    /// The elements from an index on go into a node of their own. - Precondition: the index is neither 0 nor the count.
    private func split(_ number: Int, at index: Int) {
        let count = self[number].count - index
        let right = record(number).pointee.listpack.split(at: index, of: self[number].count)
        record(number).pointee.count = index
        insertNode(Node(listpack: right, count: count), at: number + 1)
    }

    /// Removes elements by their indexes. - Precondition: all of them exist.
    ///
    /// - Complexity: O(nodes + bytes of the nodes at both ends)
    func remove(_ range: Range<Int>, _ limit: ListNodeLimit) {
        guard !range.isEmpty else { return }
        let start = place(of: range.lowerBound)
        var (number, index, left) = (start.node, start.index, range.count)
        var gone: Range<Int>?
        while left > 0 {
            let node = record(number)
            let removed = min(left, node.pointee.count - index)
            if removed == node.pointee.count {
                node.pointee.listpack.destroy()
                gone = (gone?.lowerBound ?? number)..<number + 1
            } else {
                node.pointee.listpack.removeRange(at: index, count: removed)
                node.pointee.count -= removed
            }
            left -= removed
            number += 1
            index = 0
        }
        header.pointee.count -= range.count
        if let gone { removeNodes(gone) }
        merge(start.node - 1...start.node + 1, limit)
    }

    /// Removes elements equal to a string: at most so many, the first or the last of them.
    ///
    /// - Returns: how many were removed.
    /// - Complexity: O(bytes)
    func removeAll(_ needle: ListNeedle, countMax: Int, from end: ListEnd, _ limit: ListNodeLimit) -> Int {
        var removed = 0
        var touched: ClosedRange<Int>?
        for step in 0..<nodeCount where removed < countMax {
            let number = end == .head ? step : nodeCount - 1 - step
            let node = record(number)
            let count = node.pointee.listpack.removeAll(needle, countMax: countMax - removed, from: end)
            guard count > 0 else { continue }
            node.pointee.count -= count
            removed += count
            let known = touched ?? number...number
            touched = min(known.lowerBound, number)...max(known.upperBound, number)
        }
        header.pointee.count -= removed
        if let touched { merge(touched.lowerBound - 1...touched.upperBound + 1, limit) }
        return removed
    }

    /// Drops empty nodes and puts neighbours together that fit into one, in one pass.
    ///
    /// - Parameter numbers: may reach beyond both ends.
    private func merge(_ numbers: ClosedRange<Int>, _ limit: ListNodeLimit) {
        let start = max(numbers.lowerBound, 0)
        let end = min(numbers.upperBound + 1, nodeCount)
        guard start < end else { return }
        var kept = start
        for number in start..<end {
            let node = self[number]
            if node.count == 0 {
                node.listpack.destroy()
                continue
            }
            if kept > start {
                let left = record(kept - 1)
                let bytes = left.pointee.listpack.byteCount + node.listpack.byteCount - Listpack.emptyBytes
                if limit.allows(bytes: bytes, count: left.pointee.count + node.count) {
                    left.pointee.listpack.append(contentsOf: node.listpack)
                    left.pointee.count += node.count
                    node.listpack.destroy()
                    continue
                }
            }
            self[kept] = node
            kept += 1
        }
        removeNodes(kept..<end)
    }

    func invariants() {
        precondition(count > 0 && nodeCount > 0, "an empty list goes with its key")
        precondition(
            header.pointee.capacity & (header.pointee.capacity - 1) == 0 && nodeCount <= header.pointee.capacity)
        var elements = 0
        for number in 0..<nodeCount {
            precondition(self[number].count > 0, "an empty node goes at once")
            precondition(self[number].listpack.count == self[number].count, "a record knows the count of its node")
            precondition(Listpack.isValid(self[number].listpack.bytes, deep: true))
            elements += self[number].count
        }
        precondition(elements == count, "elements add up")
    }
}

/// A string to compare elements with.
package struct ListNeedle {
    private let bytes: UnsafeRawBufferPointer
    private let integer: Int64?

    package init(_ bytes: UnsafeRawBufferPointer) {
        self.bytes = bytes
        integer = parseInt64(bytes)
    }

    @inline(__always)
    func equals(_ value: StringView) -> Bool {
        switch value {
        case .integer(let number): return number == integer
        // Whatever is an integer is stored as one, but in listpacks from elsewhere that was not so at all times.
        case .bytes(let stored):
            guard stored.count == bytes.count, let left = stored.baseAddress, let right = bytes.baseAddress else {
                return stored.count == bytes.count
            }
            return memcmp(left, right, stored.count) == 0
        }
    }
}

extension Listpack {
    /// The elements from an index on, in a listpack of their own. - Parameter total: count of all elements.
    fileprivate mutating func split(at index: Int, of total: Int) -> Listpack {
        guard let position = position(at: index) else { preconditionFailure("the index is inside") }
        let right = Self.make(
            of: UnsafeRawBufferPointer(rebasing: bytes[position..<byteCount - 1]), count: total - index)
        removeRange(at: index, count: total - index)
        return right
    }

    /// - Parameters:
    ///   - elements: their bytes in another listpack.
    ///   - count: of the elements.
    private static func make(of elements: UnsafeRawBufferPointer, count: Int) -> Listpack {
        let byteCount = elements.count + emptyBytes
        let pointer = Memory.allocate(byteCount)
        if let base = elements.baseAddress {
            (pointer + headerBytes).copyMemory(from: base, byteCount: elements.count)
        }
        writeFrame(pointer, byteCount: byteCount, count: count)
        return Listpack(pointer)
    }

    private static func writeFrame(_ pointer: UnsafeMutableRawPointer, byteCount: Int, count: Int) {
        pointer.storeBytes(of: UInt32(byteCount), as: UInt32.self)
        pointer.storeBytes(of: UInt16(min(count, unknownCount)), toByteOffset: 4, as: UInt16.self)
        pointer.storeBytes(of: endMark, toByteOffset: byteCount - 1, as: UInt8.self)
    }

    /// Removes elements equal to a string: at most so many, the first or the last of them. What stays is copied once.
    ///
    /// - Returns: how many were removed.
    mutating func removeAll(_ needle: ListNeedle, countMax: Int, from end: ListEnd) -> Int {
        var (position, total, found) = (Self.headerBytes, 0, 0)
        while let value = read(&position) {
            total += 1
            if needle.equals(value) { found += 1 }
        }
        guard found > 0 else { return 0 }
        let removed = min(found, countMax)
        let passed = end == .head ? 0 : found - removed
        let room = Memory.allocate(byteCount)
        var (target, runStart, seen) = (Self.headerBytes, Self.headerBytes, 0)
        func keep(until runEnd: Int) {
            (room + target).copyMemory(from: pointer + runStart, byteCount: runEnd - runStart)
            target += runEnd - runStart
        }
        position = Self.headerBytes
        var start = position
        while let value = read(&position) {
            if needle.equals(value) {
                if seen >= passed, seen < passed + removed {
                    keep(until: start)
                    runStart = position
                }
                seen += 1
            }
            start = position
        }
        keep(until: byteCount - 1)
        Self.writeFrame(room, byteCount: target + 1, count: total - removed)
        let new = Listpack(Memory.reallocate(room, from: byteCount, to: target + 1))
        destroy()
        self = new
        return removed
    }
}
