import MartletBase

// Elements in order: a B+ tree in which every subtree knows how many elements it has.
//
// A node is one block: a header, then up to ``OrderedTree/Node/capacity`` elements (62 of 16 bytes: 1 KB). Leaves hold the
// elements themselves and are linked in both directions, so that a range is read like an array. An inner node holds, for
// each child, the first element of that child, the child's address and the number of elements under it. Hence a search
// reads a few neighbouring cache lines in each of three or four nodes where a skip list would chase twenty pointers, and
// ranks are sums of counts.
//
// Searches ask for the place between two elements where a condition ends to hold ("is before x"): lookups, ranks and the
// ends of ranges are all the same descent.
//
// An inner node's copy of a child's first element is always exact, never just some separator: elements may refer to memory
// that their owner frees when they leave, so no copy may outlive its element.
//
// A node splits when it is full: in the middle, but at the very end (or beginning) if that is where the tree grows, so
// that elements that come in order (times, mostly) fill their nodes. A node that a removal leaves with less than a third
// takes from a neighbour, or joins it when both fit with room to spare, so that nothing splits and joins in turns.

/// What an ``OrderedTree`` keeps: a few words without anything to release.
protocol OrderedElement: BitwiseCopyable {
    /// A strict order; no two elements of a tree are equal in it.
    static func precedes(_ first: Self, _ second: Self) -> Bool
}

/// Whoever owns a tree calls ``destroy()`` before its end.
struct OrderedTree<Element: OrderedElement>: ~Copyable {
    private var root: Node?
    /// Levels of inner nodes above the leaves.
    private var height = 0
    private(set) var count = 0
    private var leafCount = 0
    private var innerCount = 0

    init() {}

    /// A view of a node:
    ///
    ///      0   Int     how many elements, or children
    ///      8   next leaf, or nil
    ///     16   previous leaf, or nil
    ///     32   elements; of an inner node the first element of each child
    ///      …   of an inner node: children; then the number of elements under each
    fileprivate struct Node: Equatable, BitwiseCopyable {
        let pointer: UnsafeMutableRawPointer

        private static var headerBytes: Int { 32 }
        @inline(__always) static var capacity: Int { (1024 &- headerBytes) / MemoryLayout<Element>.stride }
        /// With less a node takes from its neighbour or joins it.
        static var countMin: Int { capacity / 3 }
        /// Two nodes join if they have no more than this together.
        static var joinedCountMax: Int { capacity * 5 / 6 }
        @inline(__always)
        private static var childrenOffset: Int { headerBytes &+ (capacity &* MemoryLayout<Element>.stride &+ 7) & ~7 }
        @inline(__always) private static var countsOffset: Int { childrenOffset &+ capacity &* 8 }
        static func bytes(isLeaf: Bool) -> Int { isLeaf ? childrenOffset : countsOffset + capacity * 8 }

        static func make(isLeaf: Bool) -> Node {
            let node = Node(pointer: Memory.allocate(bytes(isLeaf: isLeaf)))
            node.count = 0
            node.next = nil
            node.previous = nil
            return node
        }

        func free(isLeaf: Bool) { Memory.free(pointer, Self.bytes(isLeaf: isLeaf)) }

        @inline(__always) var count: Int {
            get { pointer.load(as: Int.self) }
            nonmutating set { pointer.storeBytes(of: newValue, as: Int.self) }
        }
        @inline(__always) var next: Node? {
            get { pointer.load(fromByteOffset: 8, as: UnsafeMutableRawPointer?.self).map(Node.init) }
            nonmutating set {
                pointer.storeBytes(of: newValue?.pointer, toByteOffset: 8, as: UnsafeMutableRawPointer?.self)
            }
        }
        @inline(__always) var previous: Node? {
            get { pointer.load(fromByteOffset: 16, as: UnsafeMutableRawPointer?.self).map(Node.init) }
            nonmutating set {
                pointer.storeBytes(of: newValue?.pointer, toByteOffset: 16, as: UnsafeMutableRawPointer?.self)
            }
        }
        @inline(__always) var elements: UnsafeMutablePointer<Element> {
            (pointer + Self.headerBytes).assumingMemoryBound(to: Element.self)
        }
        @inline(__always) var children: UnsafeMutablePointer<Node> {
            (pointer + Self.childrenOffset).assumingMemoryBound(to: Node.self)
        }
        @inline(__always) var counts: UnsafeMutablePointer<Int> {
            (pointer + Self.countsOffset).assumingMemoryBound(to: Int.self)
        }

        /// How many of the elements are before a place that the condition tells. - Complexity: O(log elements)
        @inline(__always)
        func partition(_ isBefore: (Element) -> Bool) -> Int {
            let elements = elements
            var low = 0
            var high = count
            while low < high {
                let middle = (low &+ high) &>> 1
                if isBefore(elements[middle]) { low = middle &+ 1 } else { high = middle }
            }
            return low
        }

        /// Elements in the leaves below, or in the leaf.
        func total(isLeaf: Bool) -> Int {
            if isLeaf { return count }
            var sum = 0
            for index in 0..<count { sum &+= counts[index] }
            return sum
        }

        /// Copies `count` elements (and children) to another node, or elsewhere in the same. Counts stay as they are.
        func copy(_ range: Range<Int>, to target: Node, at index: Int, isLeaf: Bool) {
            Self.copy(elements, range, to: target.elements, index)
            if isLeaf { return }
            Self.copy(children, range, to: target.children, index)
            Self.copy(counts, range, to: target.counts, index)
        }

        @inline(__always)
        private static func copy<Value>(
            _ source: UnsafeMutablePointer<Value>, _ range: Range<Int>, to target: UnsafeMutablePointer<Value>,
            _ index: Int
        ) {
            UnsafeMutableRawPointer(target + index).copyMemory(
                from: source + range.lowerBound, byteCount: range.count &* MemoryLayout<Value>.stride)
        }

        /// Makes room for one element. - Precondition: there is some.
        func open(at index: Int, isLeaf: Bool) {
            copy(index..<count, to: self, at: index + 1, isLeaf: isLeaf)
            count += 1
        }

        func close(_ range: Range<Int>, isLeaf: Bool) {
            copy(range.upperBound..<count, to: self, at: range.lowerBound, isLeaf: isLeaf)
            count -= range.count
        }

        /// Writes down what there is to know of a child. - Parameter isLeaf: the child is one.
        func record(_ child: Node, at index: Int, isLeaf: Bool) {
            elements[index] = child.elements[0]
            children[index] = child
            counts[index] = child.total(isLeaf: isLeaf)
        }
    }

    // MARK: Places

    /// A place between two elements, or at an end. Invalid after any change of the tree.
    struct Cursor {
        private var leaf: Node?
        private var index: Int

        fileprivate init(_ leaf: Node?, _ index: Int) {
            self.leaf = leaf
            self.index = index
        }

        /// The element behind the place, which moves over it; nil at the end.
        @inline(__always)
        mutating func next() -> Element? {
            guard var leaf else { return nil }
            if index == leaf.count {
                guard let next = leaf.next else { return nil }
                leaf = next
                self.leaf = next
                index = 0
            }
            index &+= 1
            return leaf.elements[index &- 1]
        }

        /// The element before the place, which moves over it; nil at the beginning.
        @inline(__always)
        mutating func previous() -> Element? {
            guard var leaf else { return nil }
            if index == 0 {
                guard let previous = leaf.previous else { return nil }
                leaf = previous
                self.leaf = previous
                index = leaf.count
            }
            index &-= 1
            return leaf.elements[index]
        }

        /// The element so many steps ahead, or back if negative, if it is in the same leaf: one to prefetch.
        @inline(__always)
        func near(_ distance: Int) -> Element? {
            guard let leaf, index &+ distance >= 0, index &+ distance < leaf.count else { return nil }
            return leaf.elements[index &+ distance]
        }
    }

    /// Behind the elements for which the condition holds; those must be the first ones.
    ///
    /// - Complexity: O(log count)
    @inline(__always)
    func cursor(where isBefore: (Element) -> Bool) -> Cursor {
        guard var node = root else { return Cursor(nil, 0) }
        for _ in 0..<height { node = node.children[max(node.partition(isBefore) &- 1, 0)] }
        return Cursor(node, node.partition(isBefore))
    }

    /// How many elements there are for which the condition holds; those must be the first ones.
    ///
    /// - Complexity: O(log count)
    @inline(__always)
    func rank(where isBefore: (Element) -> Bool) -> Int {
        guard var node = root else { return 0 }
        var rank = 0
        for _ in 0..<height {
            let index = max(node.partition(isBefore) &- 1, 0)
            for other in 0..<index { rank &+= node.counts[other] }
            node = node.children[index]
        }
        return rank &+ node.partition(isBefore)
    }

    /// Before the element of this rank; at the end if there is none. - Complexity: O(log count)
    func cursor(atRank rank: Int) -> Cursor {
        precondition(rank >= 0 && rank <= count)
        guard var node = root else { return Cursor(nil, 0) }
        var rest = rank
        for _ in 0..<height {
            var index = 0
            while rest > node.counts[index] {
                rest &-= node.counts[index]
                index &+= 1
            }
            node = node.children[index]
        }
        return Cursor(node, rest)
    }

    // MARK: Insert

    /// - Precondition: the element is not in the tree.
    /// - Complexity: O(log count)
    mutating func insert(_ element: Element) {
        count &+= 1
        guard let root else {
            let leaf = makeNode(isLeaf: true)
            leaf.elements[0] = element
            leaf.count = 1
            self.root = leaf
            return
        }
        guard let right = insert(element, into: root, level: height, isFirst: true, isLast: true) else { return }
        let top = makeNode(isLeaf: false)
        top.count = 2
        top.record(root, at: 0, isLeaf: height == 0)
        top.record(right, at: 1, isLeaf: height == 0)
        self.root = top
        height += 1
    }

    /// - Parameters:
    ///   - level: above the leaves.
    ///   - isFirst: no node of this level stands before this one; `isLast`: none behind it.
    /// - Returns: the right half if the node was split.
    private mutating func insert(
        _ element: Element, into node: Node, level: Int, isFirst: Bool, isLast: Bool
    ) -> Node? {
        let place = node.partition { Element.precedes($0, element) }
        if level == 0 {
            let (target, index, right) = makeRoom(in: node, at: place, isLeaf: true, isFirst: isFirst, isLast: isLast)
            target.elements[index] = element
            return right
        }
        let index = max(place &- 1, 0)
        let child = node.children[index]
        let newChild = insert(
            element, into: child, level: level &- 1, isFirst: isFirst && index == 0,
            isLast: isLast && index == node.count &- 1)
        node.elements[index] = child.elements[0]
        guard let newChild else {
            node.counts[index] &+= 1
            return nil
        }
        node.counts[index] = child.total(isLeaf: level == 1)
        let (target, newIndex, right) = makeRoom(
            in: node, at: index + 1, isLeaf: false, isFirst: isFirst, isLast: isLast)
        target.record(newChild, at: newIndex, isLeaf: level == 1)
        return right
    }

    /// Room for one element in a node, or in one of its halves.
    private mutating func makeRoom(
        in node: Node, at place: Int, isLeaf: Bool, isFirst: Bool, isLast: Bool
    ) -> (target: Node, index: Int, right: Node?) {
        if node.count < Node.capacity {
            node.open(at: place, isLeaf: isLeaf)
            return (node, place, nil)
        }
        let middle: Int
        if isLast, place == node.count {
            middle = place
        } else if isFirst, place == (isLeaf ? 0 : 1) {
            middle = place
        } else {
            middle = node.count / 2
        }
        let right = split(node, at: middle, isLeaf: isLeaf)
        if place < middle || (place == middle && right.count > 0) {
            node.open(at: place, isLeaf: isLeaf)
            return (node, place, right)
        }
        right.open(at: place - middle, isLeaf: isLeaf)
        return (right, place - middle, right)
    }

    /// Moves what stands behind `index` into a new node.
    private mutating func split(_ node: Node, at index: Int, isLeaf: Bool) -> Node {
        let right = makeNode(isLeaf: isLeaf)
        node.copy(index..<node.count, to: right, at: 0, isLeaf: isLeaf)
        right.count = node.count - index
        node.count = index
        if isLeaf {
            right.next = node.next
            right.previous = node
            node.next?.previous = right
            node.next = right
        }
        return right
    }

    // MARK: Remove

    /// - Precondition: the element is in the tree.
    /// - Complexity: O(log count)
    mutating func remove(_ element: Element) {
        guard let root else { preconditionFailure("an empty tree has no element") }
        remove(element, from: root, level: height)
        count &-= 1
        trimRoot()
    }

    private mutating func remove(_ element: Element, from node: Node, level: Int) {
        // The last that is not behind the element.
        let index = node.partition { !Element.precedes(element, $0) } &- 1
        precondition(index >= 0, "the element is in the tree")
        if level == 0 {
            precondition(!Element.precedes(node.elements[index], element), "the element is in the tree")
            return node.close(index..<index + 1, isLeaf: true)
        }
        remove(element, from: node.children[index], level: level &- 1)
        node.counts[index] &-= 1
        settle(node, index, level: level)
    }

    /// Takes the elements of some ranks out, in order.
    ///
    /// - Parameter visit: may free what the element refers to.
    /// - Complexity: O(log count + elements)
    mutating func remove(ranks: Range<Int>, _ visit: (Element) -> Void) {
        precondition(ranks.lowerBound >= 0 && ranks.upperBound <= count)
        var left = ranks.count
        while left > 0, let root {
            let removed = remove(at: ranks.lowerBound, limit: left, from: root, level: height, visit)
            left -= removed
            count -= removed
            trimRoot()
        }
    }

    /// - Returns: how many were removed: those of one leaf, 1 to `limit`.
    private mutating func remove(
        at rank: Int, limit: Int, from node: Node, level: Int, _ visit: (Element) -> Void
    ) -> Int {
        if level == 0 {
            let end = min(rank + limit, node.count)
            for index in rank..<end { visit(node.elements[index]) }
            node.close(rank..<end, isLeaf: true)
            return end - rank
        }
        var (index, rest) = (0, rank)
        while rest >= node.counts[index] {
            rest -= node.counts[index]
            index += 1
        }
        let removed = remove(at: rest, limit: limit, from: node.children[index], level: level - 1, visit)
        node.counts[index] -= removed
        settle(node, index, level: level)
        return removed
    }

    /// After elements have left a child: writes down which is its first, or gives it some of its neighbour's, or both to
    /// one of them.
    private mutating func settle(_ node: Node, _ index: Int, level: Int) {
        let child = node.children[index]
        let isLeaf = level == 1
        if child.count >= Node.countMin || (node.count == 1 && child.count > 0) {
            node.elements[index] = child.elements[0]
            return
        }
        if node.count == 1 { return drop(node, index, isLeaf: isLeaf) }
        let left = max(index - 1, 0)
        let (first, second) = (node.children[left], node.children[left + 1])
        let sum = first.count + second.count
        if sum <= Node.joinedCountMax {
            second.copy(0..<second.count, to: first, at: first.count, isLeaf: isLeaf)
            first.count = sum
            node.record(first, at: left, isLeaf: isLeaf)
            drop(node, left + 1, isLeaf: isLeaf)
            return
        }
        let half = sum / 2
        if first.count < half {
            let moved = half - first.count
            second.copy(0..<moved, to: first, at: first.count, isLeaf: isLeaf)
            first.count = half
            second.close(0..<moved, isLeaf: isLeaf)
        } else {
            let moved = first.count - half
            second.copy(0..<second.count, to: second, at: moved, isLeaf: isLeaf)
            first.copy(half..<first.count, to: second, at: 0, isLeaf: isLeaf)
            second.count += moved
            first.count = half
        }
        node.record(first, at: left, isLeaf: isLeaf)
        node.record(second, at: left + 1, isLeaf: isLeaf)
    }

    /// Frees a child whose elements are elsewhere.
    private mutating func drop(_ node: Node, _ index: Int, isLeaf: Bool) {
        let child = node.children[index]
        if isLeaf {
            child.next?.previous = child.previous
            child.previous?.next = child.next
        }
        free(child, isLeaf: isLeaf)
        node.close(index..<index + 1, isLeaf: false)
    }

    private mutating func trimRoot() {
        while let root {
            if root.count == 0 {
                free(root, isLeaf: height == 0)
                self.root = nil
                height = 0
            } else if height > 0, root.count == 1 {
                self.root = root.children[0]
                free(root, isLeaf: false)
                height -= 1
            } else {
                return
            }
        }
    }

    /// Puts an element in the place of another, in place if the order stays.
    ///
    /// - Precondition: the old one is in the tree, the new one is not.
    /// - Complexity: O(log count)
    mutating func replace(_ old: Element, with new: Element) {
        guard var node = root else { preconditionFailure("an empty tree has no element") }
        for _ in 0..<height { node = node.children[node.partition { !Element.precedes(old, $0) } &- 1] }
        let index = node.partition { !Element.precedes(old, $0) } &- 1
        // Not at the ends of a leaf: copies of the first element stand above, and the neighbour is elsewhere.
        if index > 0, index < node.count - 1, Element.precedes(node.elements[index - 1], new),
            Element.precedes(new, node.elements[index + 1])
        {
            node.elements[index] = new
        } else {
            remove(old)
            insert(new)
        }
    }

    // MARK: Memory

    private mutating func makeNode(isLeaf: Bool) -> Node {
        if isLeaf { leafCount += 1 } else { innerCount += 1 }
        return .make(isLeaf: isLeaf)
    }

    private mutating func free(_ node: Node, isLeaf: Bool) {
        if isLeaf { leafCount -= 1 } else { innerCount -= 1 }
        node.free(isLeaf: isLeaf)
    }

    /// Bytes of all nodes.
    var memoryBytes: Int {
        leafCount * Memory.usableBytes(Node.bytes(isLeaf: true))
            + innerCount * Memory.usableBytes(Node.bytes(isLeaf: false))
    }

    mutating func destroy() {
        var limit = Int.max
        _ = freeSome(&limit)
    }

    /// Frees leaves of a tree that nobody uses any more, the last ones first.
    ///
    /// - Parameter limit: steps, about; a leaf is one. Reduced by what was done.
    /// - Returns: true when everything is freed.
    mutating func freeSome(_ limit: inout Int) -> Bool {
        while limit > 0, let root {
            limit -= 1
            if freeLastLeaf(root, level: height) {
                self.root = nil
                height = 0
                count = 0
            }
        }
        return root == nil
    }

    /// - Returns: whether the node itself was freed.
    private mutating func freeLastLeaf(_ node: Node, level: Int) -> Bool {
        if level > 0 {
            if freeLastLeaf(node.children[node.count - 1], level: level - 1) { node.count -= 1 }
            if node.count > 0 { return false }
        }
        free(node, isLeaf: level == 0)
        return true
    }

    // MARK: Invariants

    /// Checks every structural rule. For tests and DEBUG. - Complexity: O(count)
    func invariants() {
        guard let root else {
            precondition(count == 0 && height == 0 && leafCount == 0 && innerCount == 0, "an empty tree has no nodes")
            return
        }
        precondition(height == 0 || root.count > 1, "no root above a single child")
        var check = Check()
        precondition(invariants(root, level: height, &check) == count, "counts add up")
        precondition(check.leaf?.next == nil, "the last leaf is the last")
        precondition(check.leaves == leafCount && check.inners == innerCount, "nodes are counted")
    }

    private struct Check {
        var leaf: Node?
        var last: Element?
        var leaves = 0
        var inners = 0
    }

    private func invariants(_ node: Node, level: Int, _ check: inout Check) -> Int {
        precondition(node.count > 0 && node.count <= Node.capacity, "no node is empty or too full")
        if level == 0 {
            check.leaves += 1
            precondition(node.previous == check.leaf, "leaves lead back")
            precondition(check.leaf == nil || check.leaf?.next == node, "leaves lead on")
            check.leaf = node
            for index in 0..<node.count {
                if let last = check.last { precondition(Element.precedes(last, node.elements[index]), "in order") }
                check.last = node.elements[index]
            }
            return node.count
        }
        check.inners += 1
        var total = 0
        for index in 0..<node.count {
            let child = node.children[index]
            let (first, copy) = (child.elements[0], node.elements[index])
            precondition(!Element.precedes(first, copy) && !Element.precedes(copy, first), "first elements are known")
            let count = invariants(child, level: level - 1, &check)
            precondition(count == node.counts[index], "counts of children are known")
            total += count
        }
        return total
    }
}
