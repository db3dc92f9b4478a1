import MartletBase
import Testing

@testable import MartletServer

@Suite struct TrackingTableTests {
    private func add(_ table: inout TrackingTable, _ client: UInt64, _ key: String, hash: UInt64) -> String? {
        let displaced = Array(key.utf8).withUnsafeBytes { table.add(client, to: $0, hash: hash) }
        return displaced.map { String(decoding: $0.key, as: UTF8.self) }
    }

    private func remove(_ table: inout TrackingTable, _ key: String, hash: UInt64) -> [UInt64]? {
        Array(key.utf8).withUnsafeBytes { table.remove($0, hash: hash) }?.clients
    }

    @Test("A key is given back with its clients, each once, and is forgotten")
    func oneKey() {
        var table = TrackingTable()
        for client: UInt64 in [5, 3, 9, 3, 5] { #expect(add(&table, client, "key", hash: 1) == nil) }
        #expect(table.keyCount == 1)
        #expect(table.itemCount == 3)
        #expect(remove(&table, "other", hash: 1) == nil)
        #expect(remove(&table, "key", hash: 1) == [3, 5, 9])
        #expect(remove(&table, "key", hash: 1) == nil)
        #expect(table.keyCount == 0)
        #expect(table.itemCount == 0)
    }

    @Test("A key makes room for another of the same hash, and its clients are named")
    func sameHash() {
        var table = TrackingTable()
        _ = add(&table, 1, "a", hash: 7)
        _ = add(&table, 2, "x", hash: 8)
        #expect(add(&table, 2, "b", hash: 7) == "a")
        #expect(table.keyCount == 2)
        #expect(table.itemCount == 2)
        #expect(remove(&table, "a", hash: 7) == nil)
        #expect(remove(&table, "b", hash: 7) == [2])
        #expect(remove(&table, "x", hash: 8) == [2])
    }

    @Test("Random use leaves what a plain dictionary has", arguments: [1, 2, 3])
    func model(seed: UInt64) {
        var random = PRNG(seed: seed)
        var table = TrackingTable()
        var model: [String: Set<UInt64>] = [:]
        for _ in 0..<5000 {
            let number = random.below(40)
            let key = "key:\(number)"
            switch random.below(8) {
            case 0..<5:
                let client = UInt64(random.below(6))
                #expect(add(&table, client, key, hash: UInt64(number)) == nil)
                model[key, default: []].insert(client)
            case 5..<7:
                let expected = model.removeValue(forKey: key)?.sorted()
                #expect(remove(&table, key, hash: UInt64(number)) == expected)
            default:
                guard table.keyCount > 0 else { break }
                let removed = table.removeAny(&random)
                #expect(
                    model.removeValue(forKey: String(decoding: removed.key, as: UTF8.self))?.sorted() == removed.clients
                )
            }
            #expect(table.keyCount == model.count)
            #expect(table.itemCount == model.values.reduce(0) { $0 + $1.count })
        }
    }
}
