import MartletBase
import Testing

@testable import MartletKeyspace

/// Hashes against a dictionary, in both encodings.
@Suite(.serialized) struct HashValueTests {
    private struct Field: Equatable {
        var value: [UInt8]
        var expiry: Int64?
    }

    private static func withStore(_ limits: EncodingLimits, _ body: (MemberStorePointer) -> Void) {
        let store = MemberStorePointer.allocate(capacity: 1)
        store.initialize(to: MemberStore(seed: HashSeed(k0: 3, k1: 4), limits: limits))
        body(store)
        store.deinitialize(count: 1)
        store.deallocate()
    }

    private static func bytes(_ view: StringView) -> [UInt8] { view.withBytes { Array($0) } }

    /// Fields and values of all kinds: integers, short, and longer than any limit.
    private static func text(_ random: inout PRNG, kinds: Int) -> [UInt8] {
        switch random.below(kinds) {
        case 0: return Array(String(Int64(bitPattern: random.next()) >> Int64(random.below(64))).utf8)
        case 1, 2: return Array("f\(random.below(40))".utf8)
        case 3: return (0..<random.below(30)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        case 4: return [UInt8](repeating: UInt8(random.below(256)), count: 60 + random.below(10))
        case 5: return [UInt8](repeating: UInt8(random.below(256)), count: 200 + random.below(400))
        default: return [UInt8](repeating: UInt8(random.below(256)), count: 600 + random.below(3000))
        }
    }

    private static func run(seed: UInt64, _ store: MemberStorePointer, expires: Bool, kinds: Int) {
        var random = PRNG(seed: seed)
        var model: [[UInt8]: Field] = [:]
        var hash = HashValue.make(store)
        var now: Int64 = 1000
        func attached(_ container: Container, _ now: Int64) -> HashValue {
            HashValue(container, store, hiddenBefore: now)
        }
        for step in 0..<400 {
            hash = attached(hash.container, now)
            let isKnown = !model.isEmpty && random.below(2) == 0
            let name =
                isKnown
                ? model.keys.sorted { $0.lexicographicallyPrecedes($1) }[random.below(model.count)]
                : text(&random, kinds: kinds)
            let isVisible = model[name].map { ($0.expiry ?? .max) >= now } ?? false
            name.withUnsafeBytes { field in
                switch random.below(expires ? 8 : 5) {
                case 0, 1, 2:
                    let value = text(&random, kinds: kinds)
                    let isNew = value.withUnsafeBytes { hash.set(field, $0) }
                    precondition(isNew == !isVisible, "seed \(seed) step \(step): a field is new or not")
                    model[name] = Field(value: value)
                case 3:
                    precondition(hash.remove(field) == isVisible, "seed \(seed) step \(step): a field was there or not")
                    if isVisible { model[name] = nil }
                case 4:
                    precondition(
                        hash.value(of: field).map(bytes) == (isVisible ? model[name]?.value : nil),
                        "seed \(seed) step \(step): values are kept")
                case 5:
                    let time = now + Int64(random.below(100)) - 20
                    if isVisible {
                        hash.setExpiry(field, random.below(4) == 0 ? nil : time)
                        if case .until(let time) = attached(hash.container, .min).lifetime(of: field) {
                            model[name]?.expiry = time
                        } else {
                            model[name]?.expiry = nil
                        }
                    }
                case 6:
                    let value = text(&random, kinds: kinds)
                    let time = now + Int64(random.below(100))
                    let keeps = random.below(2) == 0
                    _ = value.withUnsafeBytes { hash.set(field, $0, expiry: keeps ? .keep : .set(time)) }
                    let old = isVisible ? model[name]?.expiry : nil
                    model[name] = Field(value: value, expiry: keeps ? old : time)
                default:
                    now += Int64(random.below(30))
                }
            }
            if step % 20 == 0 { hash.container.invariants() }
            if step % 50 == 0 { compare(attached(hash.container, now), model, now, seed) }
            if step % 100 == 99, hash.container.hasExpiringFields { expire(hash.container, &model, now) }
        }
        let copy = hash.container.copy(store)
        hash.container.destroy()
        copy.invariants()
        compare(attached(copy, now), model, now, seed)
        var position = 0
        while true {
            var limit = 7
            if copy.freeSome(from: &position, limit: &limit) { break }
        }
    }

    private static func compare(_ hash: HashValue, _ model: [[UInt8]: Field], _ now: Int64, _ seed: UInt64) {
        precondition(hash.count == model.count, "seed \(seed): fields are counted")
        let visible = model.filter { ($0.value.expiry ?? .max) >= now }
        precondition(hash.visibleCount == visible.count, "seed \(seed): hidden fields are counted")
        var seen: [[UInt8]: [UInt8]] = [:]
        hash.forEach { seen[bytes($0)] = bytes($1) }
        precondition(seen == visible.mapValues(\.value), "seed \(seed): a walk sees what is visible")
        var all: [[UInt8]: Field] = [:]
        hash.container.forEachField { all[bytes($0)] = Field(value: bytes($1), expiry: $2) }
        precondition(all == model, "seed \(seed): a walk sees all")
        var random = PRNG(seed: seed)
        if let (field, value) = hash.randomField(&random) {
            precondition(visible[bytes(field)]?.value == bytes(value), "seed \(seed): a random field is one")
        } else {
            precondition(visible.isEmpty, "seed \(seed): there is a random field")
        }
    }

    /// Takes out what is over, as the cycle does.
    private static func expire(_ container: Container, _ model: inout [[UInt8]: Field], _ now: Int64) {
        var isComplete = false
        while !isComplete {
            var due: [Entry] = []
            var limit = 5
            isComplete = container.fieldTable.pointee.collectDue(at: now, limit: &limit, into: &due)
            for field in due {
                model[Array(field.key)] = nil
                container.fieldTable.pointee.remove(at: container.fieldTable.pointee.fields.place(of: field.key)!)
            }
        }
        precondition(model.allSatisfy { ($0.value.expiry ?? .max) >= now }, "nothing that is over is left")
    }

    @Test(arguments: 0..<20)
    func hashesAreLikeDictionaries(number: UInt64) {
        let seed = number + 77
        var limits = EncodingLimits()
        if number % 4 == 1 { limits.hashListpackEntries = 5 }
        if number % 4 == 2 { limits.hashListpackEntries = 0 }
        Self.withStore(limits) { store in
            Self.run(seed: seed, store, expires: number % 2 == 1, kinds: 3 + Int(number % 5))
        }
        // The first time may leave caches of the runtime behind.
        let before = Memory.threadBalance
        Self.withStore(limits) { store in
            Self.run(seed: seed, store, expires: number % 2 == 1, kinds: 3 + Int(number % 5))
        }
        #expect(Memory.threadBalance == before, "seed \(seed)")
    }

    @Test func theEncodingGoesByItsLimits() {
        var limits = EncodingLimits()
        limits.hashListpackEntries = 3
        limits.hashListpackValueBytes = 4
        Self.withStore(limits) { store in
            func encodings(_ pairs: [(String, String)]) -> [Encoding] {
                var hash = HashValue.make(store)
                defer { hash.container.destroy() }
                return pairs.map { field, value in
                    Array(field.utf8).withUnsafeBytes { field in
                        Array(value.utf8).withUnsafeBytes { _ = hash.set(field, $0) }
                    }
                    return hash.container.encoding
                }
            }
            #expect(encodings([("a", "1"), ("b", "2"), ("c", "3"), ("a", "4")]).last == .listpack)
            #expect(
                encodings([("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]) == [
                    .listpack, .listpack, .listpack, .hashtable,
                ])
            #expect(encodings([("a", "1234"), ("a", "12345")]) == [.listpack, .hashtable])
            #expect(encodings([("12345", "")]) == [.hashtable])

            // A limit that was lowered holds from the next change on, of whatever field.
            var hash = HashValue.make(store)
            defer { hash.container.destroy() }
            func set(_ field: StaticString) { _ = hash.set(field.bytes, field.bytes) }
            set("a")
            set("b")
            store.pointee.limits.hashListpackEntries = 1
            #expect(hash.container.encoding == .listpack)
            set("a")
            #expect(hash.container.encoding == .hashtable && hash.count == 2)
        }
    }

    @Test func bytesFromOutsideMustBePairsOfDifferentFields() {
        Self.withStore(EncodingLimits()) { store in
            func isTaken(_ elements: [String]) -> Bool {
                var listpack = Listpack.make()
                defer { listpack.destroy() }
                for element in elements { Array(element.utf8).withUnsafeBytes { listpack.append($0) } }
                guard let hash = HashValue.make(listpack: listpack.bytes, store) else { return false }
                hash.container.destroy()
                return true
            }
            #expect(isTaken(["a", "1", "b", "1"]))
            #expect(isTaken(["a", "b", "b", "a"]))
            #expect(!isTaken(["a", "1", "b"]))
            #expect(!isTaken(["a", "1", "b", "2", "a", "3"]))
            #expect(!isTaken(["7", "1", "b", "2", "7", "3"]))
        }
    }
}
