import MartletBase
import Synchronization

/// A key as the tables want it: its bytes, their hash, and which table of the database holds it.
package struct Key {
    package let bytes: UnsafeRawBufferPointer
    package let hash: UInt64
    /// The hash slot in cluster mode, else 0.
    package let table: Int

    @inline(__always)
    package init(bytes: UnsafeRawBufferPointer, hash: UInt64, table: Int) {
        self.bytes = bytes
        self.hash = hash
        self.table = table
    }
}

/// One numbered database: its keys, and the index of those that expire. One table per hash slot in cluster mode.
///
/// It keeps tables and counts in step and knows nothing of time, clients or replication; ``Keyspace`` does.
package struct Database: ~Copyable {
    private var tableSet: TableSet
    package let tableCount: Int
    package private(set) var keyCount = 0
    package private(set) var volatileCount = 0

    /// - Parameter seed: for the members of containers.
    init(tableCount: Int, seed: HashSeed) {
        self.tableCount = tableCount
        tableSet = TableSet(count: tableCount, seed: seed, limits: EncodingLimits())
    }

    @inline(__always) var tables: UnsafeMutablePointer<HashTable> { tableSet.tables }
    /// Where the entries are from.
    @inline(__always) var pool: UnsafeMutablePointer<EntryPool> { tableSet.pool }
    @inline(__always) var volatileTables: UnsafeMutablePointer<HashTable> { tableSet.volatileTables }
    /// Where the members of containers are from.
    @inline(__always) var members: MemberStorePointer { tableSet.members }
    /// Names of hashes in which fields expire: all of them, and some that are gone or have no such field any more.
    var expiringHashes: UnsafeMutablePointer<MemberTable> { tableSet.expiringHashes }

    @inline(__always)
    func place(of key: Key) -> UnsafeMutablePointer<Entry>? { tables[key.table].place(of: key.bytes, hash: key.hash) }

    package func keyCount(inTable table: Int) -> Int { tables[table].count }

    /// The table of a key, counted through all tables in order. - Precondition: `rank` is below ``keyCount``.
    ///
    /// - Complexity: O(√tables)
    func table(ofRank rank: Int) -> Int {
        precondition(rank < keyCount)
        var rest = rank
        var block = 0
        while rest >= tableSet.blockCounts[block] {
            rest -= tableSet.blockCounts[block]
            block += 1
        }
        var table = block * TableSet.tablesPerBlock
        while rest >= tables[table].count {
            rest -= tables[table].count
            table += 1
        }
        return table
    }

    /// Bytes of buckets: those of all keys, and those of the keys that expire. - Complexity: O(tables)
    package var tableBytes: (keys: Int, volatileKeys: Int) {
        var bytes = (keys: 0, volatileKeys: 0)
        for index in 0..<tableCount where tables[index].count > 0 {
            bytes.keys += tables[index].tableBytes
            bytes.volatileKeys += volatileTables[index].tableBytes
        }
        return bytes
    }

    /// - Precondition: the key is not in the database.
    mutating func insert(_ entry: Entry, _ key: Key, seed: HashSeed) {
        tables[key.table].insert(entry, hash: key.hash, seed: seed)
        keyCount &+= 1
        tableSet.blockCounts[TableSet.block(of: key.table)] &+= 1
        if entry.hasExpiry {
            volatileTables[key.table].insert(entry, hash: key.hash, seed: seed)
            volatileCount &+= 1
        }
    }

    /// Puts another entry of the same key at its place. The caller frees or has moved the old one.
    mutating func replace(
        _ place: UnsafeMutablePointer<Entry>, with new: Entry, oldHadExpiry: Bool, _ key: Key, seed: HashSeed
    ) {
        // The volatile index is looked up by key, so it is brought in step while the old entry can still be read.
        if oldHadExpiry {
            if new.hasExpiry {
                volatileTables[key.table].place(of: key.bytes, hash: key.hash)?.pointee = new
            } else {
                _ = volatileTables[key.table].remove(key.bytes, hash: key.hash, seed: seed)
                volatileCount &-= 1
            }
        } else if new.hasExpiry {
            volatileTables[key.table].insert(new, hash: key.hash, seed: seed)
            volatileCount &+= 1
        }
        place.pointee = new
    }

    /// Takes a key out; the caller owns the entry. - Parameter key: may point into the entry itself.
    mutating func remove(_ key: Key, seed: HashSeed) -> Entry? {
        guard let place = place(of: key) else { return nil }
        return remove(at: place, key, seed: seed)
    }

    /// Takes the entry of a key out of its place; the caller owns it.
    mutating func remove(at place: UnsafeMutablePointer<Entry>, _ key: Key, seed: HashSeed) -> Entry {
        let entry = place.pointee
        if entry.hasExpiry {
            _ = volatileTables[key.table].remove(key.bytes, hash: key.hash, seed: seed)
            volatileCount &-= 1
        }
        tables[key.table].remove(at: place, hash: key.hash, seed: seed)
        keyCount &-= 1
        tableSet.blockCounts[TableSet.block(of: key.table)] &-= 1
        return entry
    }

    // MARK: Freeing

    /// Frees a container, or puts it aside if it is large. - Returns: whether it was put aside.
    @inline(never)
    mutating func dispose(_ container: Container) -> Bool {
        guard container.freeEffort > Remains.effortAtOnceMax else {
            container.destroy()
            return false
        }
        tableSet.remains.append(Remains(container))
        return true
    }

    /// Goes on with freeing what was put aside.
    ///
    /// - Parameter limit: elements, about.
    /// - Returns: how many containers are gone now.
    mutating func freeRemains(limit: Int) -> Int {
        let before = remainsCount
        var left = limit
        while left > 0, remainsCount > 0 {
            if tableSet.remains[remainsCount - 1].freeSome(&left) { tableSet.remains.removeLast() }
        }
        return before - remainsCount
    }

    var remainsCount: Int { tableSet.remains.count }

    /// Whether there is more to free than so many keys and elements. - Complexity: O(`limit`)
    func isFreeEffort(above limit: Int) -> Bool {
        var left = limit - keyCount
        if left < 0 || pool.pointee.outsideCount == 0 { return left < 0 }
        for table in 0..<tableCount where tables[table].count > 0 {
            var position: UInt64? = 0
            while left >= 0, let current = position {
                position = tables[table].scan(from: current) { entry in
                    guard entry.isOutside, !entry.isString else { return }
                    let container = entry.container
                    // Nodes of some kilobytes take longer than members.
                    let isOfNodes = container.encoding == .quicklist || container.encoding == .stream
                    left -= container.freeEffort * (isOfNodes ? 32 : 1)
                }
            }
            if left < 0 { return true }
        }
        return false
    }

    /// Moves an entry to another slot of the pool. - Parameter key: of the entry.
    mutating func relocate(_ entry: Entry, _ key: Key, seed: HashSeed) {
        guard let place = place(of: key), place.pointee == entry else {
            preconditionFailure("an entry in the pool is in a table")
        }
        replace(place, with: entry.relocated(pool), oldHadExpiry: entry.hasExpiry, key, seed: seed)
        entry.destroyShell(pool)
    }

    /// Gives all tables away, leaving the database empty. - Complexity: O(tables)
    mutating func detach() -> DetachedTables {
        var detached = TableSet(count: tableCount, seed: members.pointee.seed, limits: members.pointee.limits)
        swap(&tableSet, &detached)
        let keys = keyCount
        keyCount = 0
        volatileCount = 0
        return DetachedTables(detached, keyCount: keys)
    }

    /// Goes on with resizes that are under way. - Returns: whether one is left.
    mutating func continueResizing(table: Int, maxBuckets: Int, seed: HashSeed) -> Bool {
        let main = tables[table].continueResize(maxBuckets: maxBuckets, seed: seed)
        let index = volatileTables[table].continueResize(maxBuckets: maxBuckets, seed: seed)
        return main || index
    }

    /// Checks every structural rule, also of all values. For tests and DEBUG. - Complexity: O(keys + elements)
    package func invariants(seed: HashSeed) {
        var keys = 0
        var volatileKeys = 0
        for index in 0..<tableCount {
            tables[index].invariants(seed: seed)
            volatileTables[index].invariants(seed: seed)
            if index % TableSet.tablesPerBlock == 0 {
                let block = (index..<min(index + TableSet.tablesPerBlock, tableCount)).map { tables[$0].count }
                precondition(block.reduce(0, +) == tableSet.blockCounts[TableSet.block(of: index)], "blocks add up")
            }
            keys += tables[index].count
            volatileKeys += volatileTables[index].count
            valueInvariants(table: index)
        }
        pool.pointee.invariants()
        members.pointee.pool.pointee.invariants()
        expiringHashes.pointee.invariants()
        precondition(keys == keyCount, "key count is the sum over the tables")
        precondition(volatileKeys == volatileCount, "volatile count is the sum over the tables")
    }

    private func valueInvariants(table: Int) {
        var position: UInt64? = tables[table].count == 0 ? nil : 0
        while let current = position {
            position = tables[table].scan(from: current) { entry in
                guard !entry.isString else { return }
                let container = entry.container
                container.invariants()
                precondition(container.count > 0 || container.type == .stream, "an empty value goes with its key")
                precondition(
                    !container.hasExpiringFields || expiringHashes.pointee.find(entry.key) != nil,
                    "the cycle knows every hash in which something expires")
            }
        }
    }
}

/// Tables with all entries in them.
struct TableSet: ~Copyable {
    let tables: UnsafeMutablePointer<HashTable>
    /// The entries with an expiry, again; same pointers.
    let volatileTables: UnsafeMutablePointer<HashTable>
    /// Entries in each block of ``tablesPerBlock`` tables, so that a random key is found without a look at every table.
    let blockCounts: UnsafeMutablePointer<Int>
    let pool: UnsafeMutablePointer<EntryPool>
    let members: MemberStorePointer
    let expiringHashes: UnsafeMutablePointer<MemberTable>
    /// Containers on their way out, the one being freed last.
    var remains: [Remains] = []
    private let count: Int

    static let tablesPerBlock = 128
    @inline(__always) static func block(of table: Int) -> Int { table &>> 7 }

    init(count: Int, seed: HashSeed, limits: EncodingLimits) {
        self.count = count
        members = .allocate(capacity: 1)
        members.initialize(to: MemberStore(seed: seed, limits: limits))
        expiringHashes = .allocate(capacity: 1)
        expiringHashes.initialize(to: MemberTable(members))
        let blockCount = Self.block(of: count - 1) + 1
        blockCounts = .allocate(capacity: blockCount)
        blockCounts.initialize(repeating: 0, count: blockCount)
        pool = .allocate(capacity: 1)
        pool.initialize(to: EntryPool())
        tables = .allocate(capacity: count)
        volatileTables = .allocate(capacity: count)
        for index in 0..<count {
            (tables + index).initialize(to: HashTable())
            (volatileTables + index).initialize(to: HashTable())
        }
    }

    /// - Complexity: O(buckets), and O(entries) if any has memory outside of the pool's slabs.
    deinit {
        let pool = self.pool
        for index in 0..<count {
            volatileTables[index].removeAll { _ in }
            tables[index].removeAll { entry in if pool.pointee.outsideCount > 0 { entry.destroyOutside(pool) } }
        }
        for container in remains { container.destroy() }
        expiringHashes.pointee.destroy(membersAreFreed: true)
        expiringHashes.deinitialize(count: 1)
        expiringHashes.deallocate()
        members.deinitialize(count: 1)
        members.deallocate()
        pool.deinitialize(count: 1)
        pool.deallocate()
        tables.deinitialize(count: count)
        volatileTables.deinitialize(count: count)
        tables.deallocate()
        volatileTables.deallocate()
        blockCounts.deallocate()
    }
}

/// Tables that no database has any more, on their way to be freed by a background thread.
package final class DetachedTables: @unchecked Sendable {
    // Exactly one thread owns the tables at a time: the command thread until it hands them over, then the freeing one.
    private var tables: TableSet?
    package let keyCount: Int
    /// Is told when the tables are freed.
    private var ledger: LazyFreeLedger?

    init(_ tables: consuming TableSet, keyCount: Int) {
        self.tables = .some(consume tables)
        self.keyCount = keyCount
    }

    /// Counts the keys as pending from now on, and as freed when that is done. To be called before the hand-over.
    package func enter(in ledger: LazyFreeLedger) {
        ledger.pending.add(keyCount, ordering: .relaxed)
        self.ledger = ledger
    }

    deinit {
        tables = nil
        ledger?.pending.subtract(keyCount, ordering: .relaxed)
        ledger?.freed.add(keyCount, ordering: .relaxed)
    }
}

/// How many keys are freed in the background. (lazyfree_pending_objects, lazyfreed_objects)
package final class LazyFreeLedger: Sendable {
    fileprivate let pending = Atomic<Int>(0)
    fileprivate let freed = Atomic<Int>(0)
    package init() {}

    package var pendingKeys: Int { pending.load(ordering: .relaxed) }
    package var freedKeys: Int { freed.load(ordering: .relaxed) }
    package func forgetFreed() { freed.store(0, ordering: .relaxed) }
}
