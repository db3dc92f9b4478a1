import MartletBase
import Testing

@testable import MartletKeyspace

@Suite(.serialized) struct EntryPoolTests {
    private static let seed = HashSeed(k0: 5, k1: 6)

    private func withKey(_ number: Int, _ keyspace: inout Keyspace, _ body: (Key, inout Keyspace) -> Void) {
        let digits = String(number)
        let name = Array(("key:" + String(repeating: "0", count: 12 - digits.utf8.count) + digits).utf8)
        name.withUnsafeBytes { body(keyspace.key($0), &keyspace) }
    }

    /// The figure that memory per key depends on.
    @Test func anEntryTakesItsHeaderItsKeyAndItsValue() {
        var keyspace = Keyspace(databaseCount: 1, isClustered: false, seed: Self.seed)
        let value = [UInt8](repeating: 118, count: 64)
        func bytes(of number: Int) -> Int {
            var bytes = 0
            withKey(number, &keyspace) { key, keyspace in bytes = keyspace.peek(key)?.memoryBytes ?? 0 }
            return bytes
        }
        withKey(1, &keyspace) { key, keyspace in value.withUnsafeBytes { keyspace.setString(key, $0) } }
        withKey(2, &keyspace) { key, keyspace in
            value.withUnsafeBytes { keyspace.setString(key, $0, expiry: .set(1 << 40)) }
        }
        withKey(3, &keyspace) { key, keyspace in keyspace.setInteger(key, 12_345_678) }
        #expect(bytes(of: 1) == 8 + 16 + 64)
        #expect(bytes(of: 2) == 8 + 8 + 16 + 64)
        #expect(bytes(of: 3) == 8 + 16 + 8)
    }

    @Test(arguments: [0, 1, 254, 255, 256, 1000, 70_000], [0, 1, 511, 512, 513])
    func keysAndValuesOfAnyLengthAreKept(keyCount: Int, valueCount: Int) {
        // The first time may leave caches of the runtime behind.
        check()
        let before = Memory.threadBalance
        check()
        let after = Memory.threadBalance
        #expect(after == before)

        func check() {
            var keyspace = Keyspace(databaseCount: 1, isClustered: false, seed: Self.seed)
            let name = (0..<keyCount).map { UInt8(truncatingIfNeeded: $0 * 7) }
            let value = (0..<valueCount).map { UInt8(truncatingIfNeeded: $0 * 11 + 200) }
            name.withUnsafeBytes { name in
                let key = keyspace.key(name)
                value.withUnsafeBytes { keyspace.setString(key, $0, as: .text) }
                for expiry: Int64? in [nil, 1 << 50, nil] {
                    guard let entry = keyspace.peek(key) else { preconditionFailure("the key is there") }
                    keyspace.setExpiry(key, entry, expiry)
                    let changed = keyspace.peek(key)
                    precondition(changed?.expiry == expiry && changed?.key.elementsEqual(name) == true)
                    precondition(changed?.withBytes { $0.elementsEqual(value) } == true)
                }
            }
            keyspace.invariants()
        }
    }

    @Test func aKeySetAndDeletedAgainAndAgainNeedsNoNewSlab() {
        var keyspace = Keyspace(databaseCount: 1, isClustered: false, seed: Self.seed)
        withKey(1, &keyspace) { key, keyspace in keyspace.setInteger(key, 1) }
        withKey(1, &keyspace) { key, keyspace in _ = keyspace.delete(key) }
        func unusedBytes() -> Int { keyspace.unusedBytes }
        #expect(unusedBytes() == EntryPool.slabBytes)
        withKey(1, &keyspace) { key, keyspace in keyspace.setInteger(key, 1) }
        #expect(unusedBytes() == EntryPool.slabBytes - 32)
        withKey(1, &keyspace) { key, keyspace in _ = keyspace.delete(key) }
        let isPurged = keyspace.purge()
        #expect(isPurged)
        #expect(unusedBytes() == 0)
    }

    @Test func slabsThatRunEmptyGoBackAndOthersAreFilledUp() {
        let count = 20_000
        var keyspace = Keyspace(databaseCount: 1, isClustered: false, seed: Self.seed)
        func set(_ number: Int) { withKey(number, &keyspace) { key, keyspace in keyspace.setInteger(key, 1) } }
        func delete(_ number: Int) { withKey(number, &keyspace) { key, keyspace in _ = keyspace.delete(key) } }
        for number in 0..<count { set(number) }
        func slabBytes() -> Int { keyspace.unusedBytes + 32 * keyspace.keyCount(database: 0) }
        let full = slabBytes()
        // In the order they came: slab after slab runs empty.
        for number in 0..<count / 2 { delete(number) }
        #expect(slabBytes() <= full / 2 + 2 * EntryPool.slabBytes)
        for number in 0..<count / 2 { set(number) }
        // Here and there: all slabs stay, and take the next keys without a new one.
        for number in 0..<count where number % 10 != 0 { delete(number) }
        #expect(slabBytes() == full)
        for number in count..<count * 19 / 10 { set(number) }
        #expect(slabBytes() == full)
        keyspace.invariants()
    }
}
