import MartletBase

// A sorted set of many members: every member is an ``Entry`` out of the store, found by name through a table and in order
// through a tree. The tree's elements carry the score, so that a comparison reads the entry only when scores are equal.

/// A member in the order of a sorted set.
struct ScoredMember: OrderedElement {
    let score: Double
    private let pointer: UnsafeMutableRawPointer

    @inline(__always)
    init(_ entry: Entry, score: Double) {
        self.score = score
        pointer = entry.pointer
    }

    @inline(__always) var entry: Entry { Entry(pointer) }

    @inline(__always)
    static func precedes(_ first: ScoredMember, _ second: ScoredMember) -> Bool {
        if first.score != second.score { return first.score < second.score }
        return compareBytes(first.entry.key, second.entry.key) < 0
    }
}

extension Entry {
    /// The score of an entry that is a member of a sorted set.
    @inline(__always) package var score: Double { Double(bitPattern: UInt64(bitPattern: integer)) }
}

struct LargeSortedSet: ~Copyable {
    private var table: MemberTable
    private(set) var tree = OrderedTree<ScoredMember>()

    private init(_ store: MemberStorePointer) { table = MemberTable(store) }

    typealias Pointer = UnsafeMutablePointer<LargeSortedSet>

    // MARK: Life

    static func make(_ store: MemberStorePointer) -> Pointer {
        let pointer = Memory.allocate(MemoryLayout<LargeSortedSet>.size)
            .bindMemory(to: LargeSortedSet.self, capacity: 1)
        pointer.initialize(to: LargeSortedSet(store))
        return pointer
    }

    /// - Parameter membersAreFreed: the store of the members is about to be freed as a whole.
    static func destroy(_ pointer: Pointer, membersAreFreed: Bool) {
        pointer.pointee.tree.destroy()
        pointer.pointee.table.destroy(membersAreFreed: membersAreFreed)
        end(pointer)
    }

    private static func end(_ pointer: Pointer) {
        pointer.deinitialize(count: 1)
        Memory.free(pointer, MemoryLayout<LargeSortedSet>.size)
    }

    /// Frees a part: first the tree, then the members. See ``Container/freeSome(from:limit:)``.
    static func freeSome(_ pointer: Pointer, from position: inout Int, limit: inout Int) -> Bool {
        guard pointer.pointee.tree.freeSome(&limit), limit > 0,
            pointer.pointee.table.freeSome(from: &position, limit: &limit)
        else { return false }
        end(pointer)
        return true
    }

    static func copy(_ pointer: Pointer, _ store: MemberStorePointer) -> Pointer {
        let copy = make(store)
        var cursor = pointer.pointee.tree.cursor(atRank: 0)
        while let member = cursor.next() { copy.pointee.insert(member.entry.key, score: member.score) }
        return copy
    }

    // MARK: Members

    @inline(__always) var count: Int { table.count }

    /// - Complexity: O(1) on average.
    @inline(__always) func find(_ member: UnsafeRawBufferPointer) -> Entry? { table.find(member) }

    /// For those who look a member up and then add it.
    @inline(__always) func hash(_ member: UnsafeRawBufferPointer) -> UInt64 { table.hash(member) }

    @inline(__always)
    func find(_ member: UnsafeRawBufferPointer, hash: UInt64) -> Entry? { table.find(member, hash: hash) }

    /// - Precondition: the set has no such member.
    /// - Complexity: O(log count)
    mutating func insert(_ member: UnsafeRawBufferPointer, score: Double, hash: UInt64) {
        let entry = Entry.integer(table.pool, key: member, Int64(bitPattern: score.bitPattern), expiry: nil)
        table.insert(entry, hash: hash)
        tree.insert(ScoredMember(entry, score: score))
    }

    mutating func insert(_ member: UnsafeRawBufferPointer, score: Double) {
        insert(member, score: score, hash: hash(member))
    }

    /// - Parameter entry: of the set.
    /// - Complexity: O(log count)
    mutating func setScore(_ entry: Entry, _ score: Double) {
        tree.replace(ScoredMember(entry, score: entry.score), with: ScoredMember(entry, score: score))
        entry.storeInteger(Int64(bitPattern: score.bitPattern))
    }

    /// Moves a member to another place of the pool. - Complexity: O(log count)
    mutating func relocate(_ entry: Entry) {
        let new = table.relocate(entry)
        tree.replace(ScoredMember(entry, score: entry.score), with: ScoredMember(new, score: entry.score))
        entry.destroyShell(table.pool)
    }

    /// - Returns: whether the member was there.
    /// - Complexity: O(log count)
    mutating func remove(_ member: UnsafeRawBufferPointer) -> Bool {
        guard let place = table.place(of: member) else { return false }
        let entry = place.pointee
        tree.remove(ScoredMember(entry, score: entry.score))
        _ = table.remove(at: place)
        entry.destroy(table.pool)
        return true
    }

    /// - Complexity: O(log count + members)
    mutating func remove(ranks: Range<Int>) {
        let pool = table.pool
        tree.remove(ranks: ranks) { member in
            _ = table.remove(member.entry.key)
            member.entry.destroy(pool)
        }
    }

    /// How many members come before this one of the set. - Complexity: O(log count)
    func rank(of entry: Entry) -> Int {
        let member = ScoredMember(entry, score: entry.score)
        return tree.rank { ScoredMember.precedes($0, member) }
    }

    /// Visits the members of some ranks, from the last one back if `isReversed`.
    @inline(__always)
    func forEach(ranks: Range<Int>, isReversed: Bool, _ visit: (Entry, Double) -> Void) {
        var left = ranks.count
        guard left > 0 else { return }
        var cursor = tree.cursor(atRank: isReversed ? ranks.upperBound : ranks.lowerBound)
        let direction = isReversed ? -Self.prefetchDistance : Self.prefetchDistance
        while left > 0, let member = isReversed ? cursor.previous() : cursor.next() {
            if let soon = cursor.near(direction) { prefetch(soon.entry.pointer) }
            visit(member.entry, member.score)
            left &-= 1
        }
    }

    /// Members to read between the request for a member's cache line and its use.
    static var prefetchDistance: Int { 6 }

    /// Visits the members at a position in hash order. - Returns: the next position, nil at the end.
    func scan(from position: UInt64, _ visit: (Entry) -> Void) -> UInt64? { table.scan(from: position, visit) }

    // MARK: Building

    /// Adds a member by name only; ``order()`` brings all of them in order.
    ///
    /// - Precondition: the tree is empty, and the set has no such member.
    mutating func insertUnordered(_ member: UnsafeRawBufferPointer, score: Double) {
        table.insert(Entry.integer(table.pool, key: member, Int64(bitPattern: score.bitPattern), expiry: nil))
    }

    /// - Precondition: the tree is empty.
    mutating func setScoreUnordered(_ entry: Entry, _ score: Double) {
        entry.storeInteger(Int64(bitPattern: score.bitPattern))
    }

    /// - Precondition: the tree is empty.
    /// - Complexity: O(count × log count)
    mutating func order() {
        precondition(tree.count == 0)
        // A tree takes what comes in order much faster than what does not.
        var members: [ScoredMember] = []
        members.reserveCapacity(table.count)
        table.forEach { members.append(ScoredMember($0, score: $0.score)) }
        members.sort(by: ScoredMember.precedes)
        for member in members { tree.insert(member) }
    }

    // MARK: Accounts

    /// Bytes of everything, the members' estimated from some of them. - Complexity: O(samples)
    func memoryBytes(samples: Int) -> Int {
        Memory.usableBytes(MemoryLayout<LargeSortedSet>.size) + tree.memoryBytes + table.tableBytes
            + table.memberBytes(samples: samples)
    }

    func invariants() {
        table.invariants()
        tree.invariants()
        precondition(tree.count == table.count, "every member has its place in the order")
        var cursor = tree.cursor(atRank: 0)
        while let member = cursor.next() {
            precondition(table.find(member.entry.key) == member.entry, "every member can be found")
            precondition(member.entry.score.bitPattern == member.score.bitPattern, "both know the score")
        }
    }
}
