import MartletBase
import Testing

@testable import MartletKeyspace

/// No operation does work that grows with the number of keys. Counted, not timed.
@Suite struct BoundedWorkTests {
    /// A table beside the pool of its entries, whose keys are numbers.
    private struct Numbers: ~Copyable {
        let seed = HashSeed(k0: 1, k1: 2)
        let pool: UnsafeMutablePointer<EntryPool>
        var table = HashTable()

        init() {
            pool = .allocate(capacity: 1)
            pool.initialize(to: EntryPool())
        }

        deinit {
            pool.deinitialize(count: 1)
            pool.deallocate()
        }

        mutating func insert(_ number: Int) {
            withUnsafeBytes(of: number) { key in
                table.insert(.integer(pool, key: key, 1, expiry: nil), hash: sipHash13(key, seed: seed), seed: seed)
            }
        }

        mutating func remove(_ number: Int) {
            withUnsafeBytes(of: number) { key in
                table.remove(key, hash: sipHash13(key, seed: seed), seed: seed)?.destroy(pool)
            }
        }
    }

    /// Buckets that a change has moved. A resize that ends or begins leaves no trace of more than the small tables need.
    private func movedBuckets(_ before: Int, _ after: Int) -> Int { after >= before ? after - before : 0 }

    @Test func anInsertionOrDeletionMovesTwoBuckets() {
        var numbers = Numbers()
        let count = 300_000
        var (most, resizes) = (0, 0)
        func watch(_ change: (inout Numbers) -> Void) {
            let before = numbers.table.moved
            change(&numbers)
            let after = numbers.table.moved
            if after < before { resizes += 1 }
            most = max(most, movedBuckets(before, after))
        }
        for number in 0..<count { watch { $0.insert(number) } }
        #expect(resizes > 10)
        for number in 0..<count { watch { $0.remove(number) } }
        #expect(most == 2)
        #expect(resizes > 12)
        let bytes = numbers.table.tableBytes
        #expect(bytes == 0)
    }

    /// A step of the expiry cycle looks at as many keys as it was told to, and the rest of a bucket.
    @Test(arguments: [false, true]) func aStepOfTheExpiryCycleIsBounded(isClustered: Bool) {
        var keyspace = Keyspace(databaseCount: 1, isClustered: isClustered, seed: HashSeed(k0: 1, k1: 2))
        for number in 0..<20_000 {
            withUnsafeBytes(of: number) { keyspace.setInteger(keyspace.key($0), 1, expiry: .set(10)) }
        }
        keyspace.now = 11
        var steps = 0
        while keyspace.keyCount(database: 0) > 0 {
            let before = keyspace.keyCount(database: 0)
            let (seen, expired) = keyspace.expireCycle(maxKeys: 200)
            let deleted = before - keyspace.keyCount(database: 0)
            precondition(seen < 200 + 60 && expired == seen && deleted == expired && seen > 0)
            steps += 1
        }
        #expect(steps >= 20_000 / 260)
    }

    /// A flushed database is one reference: its keys are freed with that, wherever it goes.
    @Test func aFlushFreesNothingItself() {
        var keyspace = Keyspace(databaseCount: 1, isClustered: false, seed: HashSeed(k0: 1, k1: 2))
        let value = [UInt8](repeating: 1, count: 600)
        for number in 0..<5000 {
            withUnsafeBytes(of: number) { key in
                value.withUnsafeBytes { keyspace.setString(keyspace.key(key), $0) }
            }
        }
        let before = Memory.threadBalance
        var tables: DetachedTables? = keyspace.flush(database: 0)
        let afterFlush = Memory.threadBalance
        #expect(afterFlush >= before)
        #expect(tables?.keyCount == 5000)
        let ledger = LazyFreeLedger()
        tables?.enter(in: ledger)
        #expect(ledger.pendingKeys == 5000)
        tables = nil
        #expect(Memory.threadBalance < afterFlush - 5000 * 600)
        #expect(ledger.pendingKeys == 0 && ledger.freedKeys == 5000)
    }

    /// What frees the last piece of a large range does not give the whole range back to the system.
    @Test func noFreeRangeGoesBackAtOnce() {
        Memory.keepLargeFreeRanges()
        #expect(Memory.largeFreeRangeBytes > 1 << 50)
    }
}
