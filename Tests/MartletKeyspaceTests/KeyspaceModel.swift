import MartletBase

@testable import MartletKeyspace

/// A keyspace beside a dictionary that does the same, driven by random operations from one seed.
final class KeyspaceModel {
    struct Value: Equatable {
        var bytes: [UInt8]
        var expiry: Int64?
    }

    let seed: UInt64
    var random: PRNG
    var keyspace: Keyspace
    /// What each database should hold; keys whose time has passed may be missing from the keyspace.
    var values: [[[UInt8]: Value]]
    private let keys: [[UInt8]]
    /// How many different keys there are.
    let keyCount: Int

    init(seed: UInt64, keyCount: Int, databaseCount: Int = 1, isClustered: Bool = false) {
        self.seed = seed
        self.keyCount = keyCount
        random = PRNG(seed: seed)
        keyspace = Keyspace(
            databaseCount: databaseCount, isClustered: isClustered, seed: HashSeed(k0: seed, k1: ~seed))
        keyspace.now = 1000
        values = Array(repeating: [:], count: databaseCount)
        // In a cluster only a few slots are used, so that their tables grow.
        keys = (0..<keyCount).map { number in
            Array((isClustered ? "{\(number % 5)}key:\(number)" : "key:\(number)").utf8)
        }
    }

    func key(_ bytes: [UInt8], _ body: (Key, inout Keyspace) -> Void) {
        bytes.withUnsafeBytes { body(keyspace.key($0), &keyspace) }
    }

    func randomKey() -> [UInt8] { keys[random.below(keyCount)] }

    func randomValue() -> [UInt8] {
        switch random.below(10) {
        case 0...2: return Array(String(Int64(truncatingIfNeeded: random.next()) >> Int64(random.below(60))).utf8)
        case 3: return []
        case 4: return (0..<[44, 45, 511, 512, 513, 514][random.below(6)]).map { UInt8($0 & 0xFF) }
        case 5: return (0..<random.below(3000)).map { UInt8(($0 * 7) & 0xFF) }
        default: return (0..<random.below(64)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        }
    }

    private func randomExpiry() -> Int64 { keyspace.now + Int64(random.below(2000)) }

    /// What a key holds now, in the model.
    func value(_ key: [UInt8]) -> Value? {
        let value = values[keyspace.selected][key]
        if let expiry = value?.expiry, expiry < keyspace.now { return nil }
        return value
    }

    /// One random change or look-up. - Parameter growth: how likely it is that keys come rather than go, in percent.
    func step(growth: Int) {
        let database = random.below(values.count)
        keyspace.selected = database
        let name = randomKey()
        let kind = random.below(100)
        if kind < 5 {
            keyspace.now += Int64(random.below(50))
        } else if kind < 10 {
            expect(name)
        } else if kind < 60 {
            if random.below(100) < growth { set(name) } else { delete(name) }
        } else if kind < 70 {
            append(name)
        } else if kind < 80 {
            changeExpiry(name)
        } else if kind < 85 {
            move(name, to: randomKey(), database: random.below(values.count))
        } else if kind < 90 {
            copy(name, to: randomKey(), database: random.below(values.count))
        } else if kind < 92 {
            _ = keyspace.expireCycle(maxKeys: 20)
        } else if kind < 93 {
            keyspace.continueResizing(maxBuckets: 10)
        } else if kind < 94 {
            _ = keyspace.emptySparseSlab()
        } else {
            openWithoutChange(name)
        }
    }

    func set(_ name: [UInt8]) {
        let old = value(name)
        let bytes = randomValue()
        let change: ExpiryChange
        let expiry: Int64?
        switch random.below(4) {
        case 0:
            expiry = randomExpiry()
            change = .set(expiry!)
        case 1:
            expiry = old?.expiry
            change = .keep
        default:
            expiry = nil
            change = .remove
        }
        let form: StringForm = [.shortest, .text, .raw][random.below(3)]
        key(name) { key, keyspace in
            bytes.withUnsafeBytes { keyspace.setString(key, $0, as: form, expiry: change) }
        }
        values[keyspace.selected][name] = Value(bytes: bytes, expiry: expiry)
    }

    func delete(_ name: [UInt8]) {
        let isThere = value(name) != nil
        key(name) { key, keyspace in
            precondition(keyspace.delete(key) == isThere, "\(self.seed): delete tells whether the key was there")
        }
        values[keyspace.selected][name] = nil
    }

    private func append(_ name: [UInt8]) {
        let old = value(name)
        let tail = randomValue()
        let bytes = (old?.bytes ?? []) + tail
        guard bytes.count < 20_000 else { return delete(name) }
        key(name) { key, keyspace in
            let entry = keyspace.lookupWrite(key)
            let start = keyspace.openString(key, entry, count: bytes.count)
            tail.withUnsafeBytes { tail in
                UnsafeMutableRawBufferPointer(start: start, count: bytes.count)[(bytes.count - tail.count)...]
                    .copyBytes(from: tail)
            }
            keyspace.didModify(.append, key)
        }
        values[keyspace.selected][name] = Value(bytes: bytes, expiry: old?.expiry)
    }

    private func openWithoutChange(_ name: [UInt8]) {
        guard let old = value(name) else { return }
        key(name) { key, keyspace in
            let entry = keyspace.lookupWrite(key)
            _ = keyspace.openString(key, entry, count: old.bytes.count)
            precondition(keyspace.peek(key)?.encoding == .raw, "\(self.seed): a string that was opened is raw")
        }
    }

    private func changeExpiry(_ name: [UInt8]) {
        guard value(name) != nil else { return expect(name) }
        let expiry = random.below(2) == 0 ? nil : randomExpiry()
        key(name) { key, keyspace in
            guard let entry = keyspace.lookupWrite(key) else { preconditionFailure("\(self.seed): the key is there") }
            keyspace.setExpiry(key, entry, expiry)
        }
        values[keyspace.selected][name]?.expiry = expiry
    }

    private func move(_ source: [UInt8], to target: [UInt8], database: Int) {
        guard source != target || database != keyspace.selected, let old = value(source) else { return }
        guard canShareSlot(source, target) else { return }
        key(source) { key, keyspace in
            target.withUnsafeBytes { keyspace.move(key, to: keyspace.key($0), database: database) }
        }
        values[keyspace.selected][source] = nil
        values[database][target] = old
    }

    private func copy(_ source: [UInt8], to target: [UInt8], database: Int) {
        guard source != target || database != keyspace.selected, let old = value(source) else { return }
        guard canShareSlot(source, target) else { return }
        key(source) { key, keyspace in
            guard let entry = keyspace.peek(key) else { preconditionFailure("\(self.seed): the key is there") }
            target.withUnsafeBytes { keyspace.copy(entry, to: keyspace.key($0), database: database) }
        }
        values[database][target] = old
    }

    private func canShareSlot(_ one: [UInt8], _ other: [UInt8]) -> Bool {
        !keyspace.isClustered
            || one.withUnsafeBytes { HashSlot.of($0).rawValue } == other.withUnsafeBytes { HashSlot.of($0).rawValue }
    }

    /// Compares one key.
    func expect(_ name: [UInt8]) {
        let expected = value(name)
        key(name) { key, keyspace in
            let found = keyspace.lookupRead(key).map(Self.value)
            precondition(found == expected, "\(self.seed): \(name) holds what it should")
        }
    }

    static func value(_ entry: Entry) -> Value {
        Value(bytes: entry.withBytes { Array($0) }, expiry: entry.expiry)
    }

    /// Compares everything and checks the structure.
    func expectAll() {
        keyspace.invariants()
        for database in values.indices {
            keyspace.selected = database
            for name in values[database].keys { expect(name) }
            let live = values[database].filter { $0.value.expiry.map { $0 >= keyspace.now } ?? true }
            precondition(scanAll(database) == live, "\(seed): a scan finds the keys and nothing else")
            values[database] = live
        }
        keyspace.invariants()
    }

    /// Every entry of a database, whether its time has passed or not.
    func scanAll(_ database: Int) -> [[UInt8]: Value] {
        keyspace.selected = database
        var found: [[UInt8]: Value] = [:]
        var cursor: UInt64 = 0
        repeat {
            cursor = keyspace.scan(cursor: cursor) { entry in
                let previous = found.updateValue(Self.value(entry), forKey: Array(entry.key))
                precondition(previous == nil, "an undisturbed scan sees each key once")
            }
        } while cursor != 0
        return found
    }
}
