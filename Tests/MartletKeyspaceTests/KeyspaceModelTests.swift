import MartletBase
import Testing

@testable import MartletKeyspace

/// The keyspace against a dictionary. A failed expectation names the seed that makes it happen again.
@Suite(.serialized) struct KeyspaceModelTests {
    @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64])
    func itHoldsWhatADictionaryHolds(seed: UInt64) {
        let model = KeyspaceModel(
            seed: seed, keyCount: seed % 2 == 0 ? 60 : 1500, databaseCount: seed % 3 == 0 ? 3 : 1)
        for growth in [90, 50, 5, 100, 20, 0] {
            for _ in 0..<4 {
                for _ in 0..<1500 { model.step(growth: growth) }
                model.expectAll()
            }
        }
    }

    @Test(arguments: [7, 8] as [UInt64])
    func aClusterNodeKeepsSlotsApart(seed: UInt64) {
        let model = KeyspaceModel(seed: seed, keyCount: 400, isClustered: true)
        for growth in [90, 10] {
            for _ in 0..<2000 { model.step(growth: growth) }
            model.expectAll()
            let slots = (0..<5).map { number in
                Array("{\(number)}".utf8).withUnsafeBytes { HashSlot.of($0) }
            }
            #expect(slots.reduce(0) { $0 + model.keyspace.keyCount(slot: $1) } == model.keyspace.keyCount(database: 0))
            for slot in slots {
                var count = 0
                model.keyspace.forEachKey(slot: slot) { entry in
                    count += 1
                    return HashSlot.of(entry.key) == slot
                }
                #expect(count == model.keyspace.keyCount(slot: slot))
            }
        }
        let slot = Array("{1}".utf8).withUnsafeBytes { HashSlot.of($0) }
        let others = model.keyspace.keyCount(database: 0) - model.keyspace.keyCount(slot: slot)
        var position: UInt64? = 0
        while let from = position { position = model.keyspace.deleteKeys(slot: slot, from: from, limit: 3) }
        model.keyspace.invariants()
        #expect(model.keyspace.keyCount(slot: slot) == 0)
        #expect(model.keyspace.keyCount(database: 0) == others)
    }

    @Test func everyExpiredKeyIsFoundWithoutALookUp() {
        let model = KeyspaceModel(seed: 9, keyCount: 3000, databaseCount: 2)
        for _ in 0..<4000 { model.step(growth: 100) }
        model.keyspace.now += 1_000_000
        var calls = 0
        while model.keyspace.volatileCount(database: 0) + model.keyspace.volatileCount(database: 1) > 0 {
            _ = model.keyspace.expireCycle(maxKeys: 50)
            calls += 1
            precondition(calls < 1000, "the cycle goes round")
        }
        model.expectAll()
    }

    /// Cursors are visited while keys come and go; those that were there all the time have to be seen.
    @Test(arguments: [10, 11, 12, 13, 14, 15] as [UInt64])
    func aScanSeesEveryKeyThatStays(seed: UInt64) {
        let model = KeyspaceModel(seed: seed, keyCount: 4000, isClustered: seed % 3 == 0)
        let startsLarge = seed % 2 == 0
        for _ in 0..<(startsLarge ? 9000 : 600) { model.step(growth: 100) }
        model.keyspace.now += 10_000
        model.expectAll()
        let before = Set(model.scanAll(0).keys)
        var changed: Set<[UInt8]> = []
        var seen: [[UInt8]: Int] = [:]
        var cursor: UInt64 = 0
        var resizes = 0
        repeat {
            cursor = model.keyspace.scan(cursor: cursor) { seen[Array($0.key), default: 0] += 1 }
            let places = model.keyspace.placeCounts(database: 0)
            for _ in 0..<(startsLarge ? 20 : 30) {
                // One key in ten stays, whatever happens.
                let name = model.randomKey()
                guard name.last! % 10 != 3 else { continue }
                changed.insert(name)
                if model.random.below(100) < (startsLarge ? 3 : 97) { model.set(name) } else { model.delete(name) }
            }
            if places != model.keyspace.placeCounts(database: 0) { resizes += 1 }
        } while cursor != 0
        let missed = before.subtracting(changed).subtracting(seen.keys)
        #expect(missed.isEmpty, "seed \(seed): \(missed.count) keys were missed")
        #expect(resizes > 0 || seed % 3 == 0, "seed \(seed): the table is resized on the way")
        model.keyspace.invariants()
    }

    /// Hostile cursors end, and do no harm.
    @Test func anyCursorIsHarmless() {
        let model = KeyspaceModel(seed: 16, keyCount: 500)
        for _ in 0..<1000 { model.step(growth: 100) }
        for _ in 0..<500 {
            var cursor = model.random.next()
            var calls = 0
            repeat {
                cursor = model.keyspace.scan(cursor: cursor) { _ in }
                calls += 1
            } while cursor != 0 && calls < 10_000
            #expect(cursor == 0)
        }
    }

    @Test(arguments: [false, true]) func everyKeyIsChosenAtRandom(isClustered: Bool) {
        let model = KeyspaceModel(seed: 17, keyCount: 200, isClustered: isClustered)
        for _ in 0..<2000 { model.step(growth: 100) }
        let all = Set(model.scanAll(0).keys)
        var counts: [[UInt8]: Int] = [:]
        for _ in 0..<all.count * 200 { counts[Array(model.keyspace.randomEntry()!.key), default: 0] += 1 }
        #expect(Set(counts.keys) == all)
        // 200 times each is expected.
        let (least, most) = (counts.values.min()!, counts.values.max()!)
        #expect(least > 50 && most < 600, "from \(least) to \(most)")
    }

    /// The image is what was there at the beginning: no later change, no loss, no double.
    @Test(arguments: [20, 21, 22, 23, 24, 25, 26, 27] as [UInt64])
    func aWalkIsExactWhileKeysChange(seed: UInt64) {
        let model = KeyspaceModel(
            seed: seed, keyCount: 1200, databaseCount: seed % 2 == 0 ? 1 : 3, isClustered: seed % 4 == 2)
        for _ in 0..<3000 { model.step(growth: seed % 3 == 0 ? 60 : 100) }
        for growth in [50, 100, 0] {
            let image = Image(databases: model.values.count)
            let expected = model.values.indices.map(model.scanAll)
            model.keyspace.beginWalk(image)
            let isClustered = model.keyspace.isClustered
            while !model.keyspace.continueWalk(maxBuckets: isClustered ? 3000 : 1 + model.random.below(4)) {
                for _ in 0..<model.random.below(20) { model.step(growth: growth) }
            }
            #expect(!image.isAborted)
            #expect(image.values == expected, "seed \(seed)")
            model.expectAll()
        }
    }

    /// Versions of walks are 8 bits.
    @Test func aWalkIsExactAfterHundredsOfAbortedOnes() {
        let model = KeyspaceModel(seed: 29, keyCount: 500, databaseCount: 2)
        for _ in 0..<500 { model.step(growth: 100) }
        for round in 0..<600 {
            model.keyspace.beginWalk(Image(databases: 2))
            // One in three gets somewhere before it is aborted.
            if round % 3 == 0 { _ = model.keyspace.continueWalk(maxBuckets: 5) }
            model.keyspace.abortWalk()
            if round % 100 != 56 { continue }
            let image = Image(databases: 2)
            let expected = model.values.indices.map(model.scanAll)
            model.keyspace.beginWalk(image)
            let isComplete = round > 300 && model.keyspace.continueWalk(maxBuckets: 100_000)
            if !isComplete { model.keyspace.abortWalk() }
            if round > 300 { #expect(isComplete && image.values == expected, "after \(round) aborted walks") }
        }
    }

    @Test func aFlushEndsAWalk() {
        let model = KeyspaceModel(seed: 28, keyCount: 500)
        for _ in 0..<500 { model.step(growth: 100) }
        let image = Image(databases: 1)
        model.keyspace.beginWalk(image)
        _ = model.keyspace.continueWalk(maxBuckets: 2)
        _ = model.keyspace.flush(database: 0)
        #expect(image.isAborted)
        #expect(model.keyspace.isWalking == false)
        model.values[0] = [:]
        model.expectAll()
    }

    @Test(arguments: [30, 31, 32] as [UInt64])
    func everyByteIsGivenBack(seed: UInt64) {
        let before = Memory.threadBalance
        run(seed)
        let after = Memory.threadBalance
        #expect(after == before, "seed \(seed): \(after - before) bytes are left")

        func run(_ seed: UInt64) {
            let model = KeyspaceModel(seed: seed, keyCount: 1000, databaseCount: 2)
            for growth in [100, 40, 80] { for _ in 0..<3000 { model.step(growth: growth) } }
            #expect(Memory.threadBalance > before, "what is in use is counted")
            if seed == 31 { _ = model.keyspace.flush(database: 0) }
            if seed == 32 { model.keyspace.swap(0, 1) }
        }
    }

    /// What `activedefrag` does, between any two commands and in the middle of a walk.
    @Test(arguments: [33, 34, 35] as [UInt64])
    func entriesAreMovedIntoFewerSlabs(seed: UInt64) {
        let model = KeyspaceModel(seed: seed, keyCount: 12_000, databaseCount: 2, isClustered: false)
        for _ in 0..<40_000 { model.step(growth: 100) }
        for _ in 0..<50_000 {
            model.keyspace.selected = model.random.below(2)
            model.delete(model.randomKey())
        }
        model.expectAll()
        let image = Image(databases: 2)
        let expected = model.values.indices.map(model.scanAll)
        let unused = model.keyspace.unusedBytes
        model.keyspace.beginWalk(image)
        var slabs = 0
        while let moved = model.keyspace.emptySparseSlab() {
            #expect(moved <= EntryPool.slabBytes / 16)
            _ = model.keyspace.continueWalk(maxBuckets: 2)
            slabs += 1
        }
        while !model.keyspace.continueWalk(maxBuckets: 100) {}
        #expect(image.values == expected, "seed \(seed)")
        #expect(slabs > 3)
        #expect(model.keyspace.unusedBytes == unused - slabs * EntryPool.slabBytes)
        model.expectAll()
    }

    /// Arrays of this size are mapped, and grow by a quarter.
    @Test func aLargeTableGrowsAndShrinks() {
        let mapped = Memory.mappedBytes
        let count = 260_000
        do {
            var keyspace = Keyspace(databaseCount: 1, isClustered: false, seed: HashSeed(k0: 3, k1: 4))
            func withKey(_ number: Int, _ body: (Key, inout Keyspace) -> Void) {
                withUnsafeBytes(of: number) { body(keyspace.key($0), &keyspace) }
            }
            for number in 0..<count {
                withKey(number) { key, keyspace in keyspace.setInteger(key, Int64(number)) }
            }
            #expect(Memory.mappedBytes > mapped)
            keyspace.invariants()
            for number in 0..<count where number % 100 != 0 {
                withKey(number) { key, keyspace in precondition(keyspace.delete(key)) }
            }
            keyspace.invariants()
            for number in 0..<count {
                withKey(number) { key, keyspace in
                    let isThere = keyspace.peek(key)?.integer == Int64(number)
                    precondition(isThere == (number % 100 == 0))
                }
            }
            // Empty in the middle of a resize: both arrays go.
            for number in stride(from: 0, to: count, by: 100) {
                withKey(number) { key, keyspace in precondition(keyspace.delete(key)) }
            }
            keyspace.invariants()
            #expect(keyspace.tableBytes(database: 0) == (0, 0))
        }
        #expect(Memory.mappedBytes == mapped)
    }
}

/// Keeps what a walk hands out.
private final class Image: WalkSink {
    var values: [[[UInt8]: KeyspaceModel.Value]]
    var isAborted = false

    init(databases: Int) { values = Array(repeating: [:], count: databases) }

    func visit(_ entry: Entry, database: Int) {
        let previous = values[database].updateValue(KeyspaceModel.value(entry), forKey: Array(entry.key))
        precondition(previous == nil, "each entry is handed out once")
    }

    func begin(_ value: LargeValue, key: UnsafeRawBufferPointer, expiry: Int64?, database: Int) {
        preconditionFailure("there is no large value")
    }

    func continueLargeValue(toEnd: Bool) -> Bool { true }

    func walkAborted() { isAborted = true }
}
