import MartletBase

/// The members of a large set, hash or sorted set by name: a hash table that owns its entries.
///
/// Lives in memory of its own, for the addresses of its parts must not change while they are used. Whoever owns it calls
/// ``destroy(membersAreFreed:)`` before its end.
struct MemberTable: ~Copyable {
    private var table = HashTable()
    let store: MemberStorePointer

    init(_ store: MemberStorePointer) { self.store = store }

    /// A table in memory of its own, until ``free(_:membersAreFreed:)``.
    static func make(_ store: MemberStorePointer) -> UnsafeMutablePointer<MemberTable> {
        let table = Memory.allocate(MemoryLayout<MemberTable>.size).assumingMemoryBound(to: MemberTable.self)
        table.initialize(to: MemberTable(store))
        return table
    }

    /// Gives a table that ``make(_:)`` made and its members back.
    static func free(_ table: UnsafeMutablePointer<MemberTable>, membersAreFreed: Bool = false) {
        table.pointee.destroy(membersAreFreed: membersAreFreed)
        table.deinitialize(count: 1)
        Memory.free(UnsafeMutableRawPointer(table), MemoryLayout<MemberTable>.size)
    }

    @inline(__always) var pool: UnsafeMutablePointer<EntryPool> { store.pointee.pool }
    @inline(__always) var count: Int { table.count }

    /// For those who look a member up and then add it.
    @inline(__always)
    func hash(_ member: UnsafeRawBufferPointer) -> UInt64 { sipHash13(member, seed: store.pointee.seed) }

    /// - Complexity: O(1) on average.
    func find(_ member: UnsafeRawBufferPointer) -> Entry? { table.find(member, hash: hash(member)) }

    @inline(__always)
    func find(_ member: UnsafeRawBufferPointer, hash: UInt64) -> Entry? { table.find(member, hash: hash) }

    /// Where the entry of a member stands, for ``replace(_:with:)`` and ``remove(at:)``. Invalid after any change.
    func place(of member: UnsafeRawBufferPointer) -> UnsafeMutablePointer<Entry>? {
        table.place(of: member, hash: hash(member))
    }

    /// - Precondition: the table has no entry of this name.
    mutating func insert(_ entry: Entry) { table.insert(entry, hash: hash(entry.key), seed: store.pointee.seed) }

    /// - Parameter hash: of the entry's name.
    mutating func insert(_ entry: Entry, hash: UInt64) { table.insert(entry, hash: hash, seed: store.pointee.seed) }

    /// Adds a member without a value. - Returns: false if it is there already.
    mutating func add(_ member: UnsafeRawBufferPointer) -> Bool {
        let hash = hash(member)
        guard table.place(of: member, hash: hash) == nil else { return false }
        let entry = Entry.string(pool, key: member, UnsafeRawBufferPointer(start: nil, count: 0), expiry: nil)
        table.insert(entry, hash: hash, seed: store.pointee.seed)
        return true
    }

    /// Takes a member out; the caller frees the entry.
    mutating func remove(_ member: UnsafeRawBufferPointer) -> Entry? {
        table.remove(member, hash: hash(member), seed: store.pointee.seed)
    }

    /// Takes the entry at a place out; the caller frees it.
    mutating func remove(at place: UnsafeMutablePointer<Entry>) -> Entry {
        let entry = place.pointee
        table.remove(at: place, hash: hash(entry.key), seed: store.pointee.seed)
        return entry
    }

    /// Puts a copy into the place of an entry of the table, elsewhere in the pool. The caller frees the old one's shell.
    mutating func relocate(_ entry: Entry) -> Entry {
        guard let place = place(of: entry.key), place.pointee == entry else { preconditionFailure("no such member") }
        let new = entry.relocated(pool)
        place.pointee = new
        return new
    }

    /// Visits the members at a position in hash order. - Returns: the next position, nil at the end.
    func scan(from position: UInt64, _ visit: (Entry) -> Void) -> UInt64? { table.scan(from: position, visit) }

    /// Visits every member, in no order that means anything.
    func forEach(_ visit: (Entry) -> Void) {
        var position: UInt64? = 0
        while let current = position { position = table.scan(from: current, visit) }
    }

    /// - Complexity: O(1) expected.
    func randomEntry(_ random: inout PRNG) -> Entry? { table.randomEntry(&random) }

    var tableBytes: Int { table.tableBytes }

    /// Bytes of the members' entries and values, estimated from some of them. - Complexity: O(samples)
    func memberBytes(samples: Int) -> Int {
        var (bytes, seen) = (0, 0)
        var position: UInt64? = 0
        while seen < samples, let current = position {
            position = table.scan(from: current) { member in
                bytes += member.memoryBytes
                seen += 1
            }
        }
        return seen < count && seen > 0 ? Int(Double(bytes) / Double(seen) * Double(count)) : bytes
    }

    /// A table of equal members, to be given back by ``free(_:membersAreFreed:)``. - Parameter store: for its members.
    func copy(_ store: MemberStorePointer) -> UnsafeMutablePointer<MemberTable> {
        let copy = MemberTable.make(store)
        forEach { copy.pointee.insert($0.copied(store.pointee.pool)) }
        return copy
    }

    /// Goes on with a resize that is under way. - Returns: whether there is more to do.
    mutating func continueResize(maxBuckets: Int) -> Bool {
        table.continueResize(maxBuckets: maxBuckets, seed: store.pointee.seed)
    }

    /// Frees some members of a table that nobody uses any more.
    ///
    /// - Parameters:
    ///   - position: 0 at first; then what the last call left.
    ///   - limit: members, about; reduced by what was done.
    /// - Returns: true when everything is freed.
    mutating func freeSome(from position: inout Int, limit: inout Int) -> Bool {
        let pool = pool
        while limit > 0 {
            var freed = 0
            let isDone = table.drain(from: &position, limit: Self.bucketsPerStep) { entry in
                entry.destroy(pool)
                freed += 1
            }
            limit -= freed + Self.bucketsPerStep
            if isDone { return true }
        }
        return false
    }

    private static let bucketsPerStep = 16

    /// - Parameter membersAreFreed: the pool is about to be freed as a whole: only what lies outside of it is freed here.
    mutating func destroy(membersAreFreed: Bool = false) {
        let pool = pool
        table.removeAll { entry in
            if !membersAreFreed {
                entry.destroy(pool)
            } else if pool.pointee.outsideCount > 0 {
                entry.destroyOutside(pool)
            }
        }
    }

    func invariants() { table.invariants(seed: store.pointee.seed) }
}
