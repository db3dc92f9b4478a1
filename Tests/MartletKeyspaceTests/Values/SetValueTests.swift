import MartletBase
import Testing

@testable import MartletKeyspace

/// Sets against Swift's. A failed expectation names the seed that makes it happen again.
@Suite(.serialized) struct SetValueTests {
    /// Limits at which every encoding and every conversion occurs.
    private static func limits(_ seed: UInt64) -> EncodingLimits {
        var limits = EncodingLimits()
        limits.setIntsetEntries = [512, 20, 0, 5][Int(seed % 4)]
        limits.setListpackEntries = [128, 10, 0, 40][Int(seed / 2 % 4)]
        limits.setListpackValueBytes = [64, 8, 64, 20][Int(seed / 3 % 4)]
        return limits
    }

    /// Runs with a store of its own, all of whose memory comes back.
    private func withStore(_ limits: EncodingLimits, seed: UInt64, _ body: (MemberStorePointer) -> Void) {
        func run() {
            let store = MemberStorePointer.allocate(capacity: 1)
            store.initialize(to: MemberStore(seed: HashSeed(k0: seed, k1: 1), limits: limits))
            body(store)
            let usedBytes = store.pointee.pool.pointee.usedBytes
            #expect(usedBytes == 0, "seed \(seed): every member is given back")
            store.deinitialize(count: 1)
            store.deallocate()
        }
        if seed == 1 { run() }
        let before = Memory.threadBalance
        run()
        let after = Memory.threadBalance
        #expect(abs(after - before) < Self.runtimeBytes, "seed \(seed)")
    }

    private func randomMember(_ random: inout PRNG, onlyIntegers: Bool, variety: Int) -> [UInt8] {
        let number = random.below(variety)
        if onlyIntegers || number % 3 == 0 {
            let integer = [Int64(number), -Int64(number), Int64(number) << 20, Int64(number) << 40][number % 4]
            return Array(String(integer).utf8)
        }
        if number % 50 == 1 { return Array(repeating: UInt8(number & 0xFF), count: 70 + number % 2000) }
        return number == 2 ? [] : Array("member \(number)".utf8)
    }

    private func contents(_ set: SetMembers) -> [[UInt8]] {
        var members: [[UInt8]] = []
        set.forEach { member in
            members.append(member.withBytes { Array($0) })
            return true
        }
        return members
    }

    private func expect(_ set: SetMembers, holds model: Set<[UInt8]>, seed: UInt64) {
        set.container.invariants()
        let members = contents(set)
        #expect(set.count == model.count, "seed \(seed)")
        #expect(members.count == model.count, "seed \(seed): nothing twice")
        #expect(Set(members) == model, "seed \(seed)")
        if let integers = set.integers { #expect(integers.count <= set.store.pointee.limits.setIntsetEntries) }
        if set.container.encoding == .listpack {
            #expect(set.count <= set.store.pointee.limits.setListpackEntries, "seed \(seed)")
        }
    }

    @Test(arguments: 1...12 as ClosedRange<UInt64>)
    func itHoldsWhatASetHolds(seed: UInt64) {
        withStore(Self.limits(seed), seed: seed) { store in
            var random = PRNG(seed: seed)
            for round in 0..<3 {
                let onlyIntegers = round % 3 == 0
                let variety = [30, 300, 3000][random.below(3)]
                var model: Set<[UInt8]> = []
                let first = randomMember(&random, onlyIntegers: onlyIntegers, variety: variety)
                var set = first.withUnsafeBytes { SetMembers(for: $0, store) }
                for step in 0..<1200 {
                    let member = randomMember(&random, onlyIntegers: onlyIntegers, variety: variety)
                    let isIn = member.withUnsafeBytes { set.contains($0) }
                    #expect(isIn == model.contains(member), "seed \(seed)")
                    switch random.below(10) {
                    case 0...5:
                        let isNew = member.withUnsafeBytes { set.insert($0) }
                        #expect(isNew == model.insert(member).inserted, "seed \(seed)")
                    case 6, 7:
                        let isGone = member.withUnsafeBytes { set.remove($0) }
                        #expect(isGone == (model.remove(member) != nil), "seed \(seed)")
                    case 8 where !model.isEmpty:
                        let any = set.random(&random).withBytes { Array($0) }
                        #expect(model.contains(any), "seed \(seed)")
                    case 9 where !model.isEmpty:
                        var shown: [UInt8] = []
                        set.removeRandom(&random) { member in shown = member.withBytes { Array($0) } }
                        #expect(model.remove(shown) != nil, "seed \(seed)")
                    default: break
                    }
                    if step % 400 == 0 { expect(set, holds: model, seed: seed) }
                }
                expect(set, holds: model, seed: seed)
                let copy = SetMembers(set.container.copy(store), store)
                #expect(copy.container.encoding == set.container.encoding)
                set.container.destroy()
                expect(copy, holds: model, seed: seed)
                #expect(copy.container.memoryBytes >= model.reduce(0) { $0 + $1.count } / 3)
                copy.container.destroy()
            }
        }
    }

    @Test(arguments: 1...12 as ClosedRange<UInt64>)
    func algebraIsThatOfSets(seed: UInt64) {
        withStore(Self.limits(seed), seed: seed) { store in
            var random = PRNG(seed: seed)
            for _ in 0..<25 {
                var models: [Set<[UInt8]>?] = []
                let sources = SourceSets.allocate(capacity: 1 + random.below(5))
                for index in sources.indices {
                    if random.below(12) == 0 {
                        models.append(nil)
                        sources.initializeElement(at: index, to: nil)
                        continue
                    }
                    if index > 0, random.below(12) == 0 {
                        models.append(models[0])
                        sources.initializeElement(at: index, to: sources[0])
                        continue
                    }
                    let onlyIntegers = random.below(2) == 0
                    let model = Set(
                        (0..<(1 + random.below(60))).map { _ in
                            randomMember(&random, onlyIntegers: onlyIntegers, variety: 100)
                        })
                    var set = SetMembers(store)
                    for member in model { _ = member.withUnsafeBytes { set.insert($0) } }
                    models.append(model)
                    sources.initializeElement(at: index, to: set)
                }
                let owned = sources.enumerated().filter { index, set in
                    set != nil && (index == 0 || set?.container.pointer != sources[0]?.container.pointer)
                }.map(\.element)

                let union = SetMembers.union(sources, store)
                expect(union, holds: models.reduce(Set<[UInt8]>()) { $0.union($1 ?? []) }, seed: seed)
                union.container.destroy()

                let others = models.dropFirst().reduce(Set<[UInt8]>()) { $0.union($1 ?? []) }
                let difference = (models[0] ?? []).subtracting(others)
                let built = SetMembers.difference(sources, store)
                expect(built, holds: difference, seed: seed)
                built.container.destroy()
                var visited: [[UInt8]] = []
                SetMembers.forEachOnlyInFirst(sources) { visited.append($0.withBytes { Array($0) }) }
                #expect(visited.count == difference.count && Set(visited) == difference, "seed \(seed)")

                let common = models.contains(nil) ? [] : models.reduce(models[0]!) { $0.intersection($1!) }
                let intersection = SetMembers.intersection(sources, store)
                expect(intersection, holds: common, seed: seed)
                intersection.container.destroy()

                for set in owned { set?.container.destroy() }
                sources.deallocate()
            }
        }
    }

    /// Every way to choose at random chooses every member as often, in every encoding.
    @Test(arguments: ["intset", "listpack", "hashtable", "long hashtable"], 1...2 as ClosedRange<UInt64>)
    func chanceIsFair(encoding: String, seed: UInt64) {
        var limits = EncodingLimits()
        if encoding.hasSuffix("hashtable") { (limits.setIntsetEntries, limits.setListpackEntries) = (0, 0) }
        withStore(limits, seed: seed) { store in
            var random = PRNG(seed: seed)
            let count = encoding == "long hashtable" ? 300 : 60
            var set = SetMembers(store)
            for number in 0..<count {
                let member = Array((encoding == "listpack" ? "m\(number)" : "\(number)").utf8)
                _ = member.withUnsafeBytes { set.insert($0) }
            }
            let draws = count * 200
            var single: [[UInt8]: Int] = [:]
            for _ in 0..<draws { single[set.random(&random).withBytes { Array($0) }, default: 0] += 1 }
            expectEven(single, count, draws, seed)

            var sampled: [[UInt8]: Int] = [:]
            for _ in 0..<(draws / 20) {
                var size = 0
                set.forEachOfSample(20, &random) { member in
                    sampled[member.withBytes { Array($0) }, default: 0] += 1
                    size += 1
                }
                #expect(size == 20)
            }
            expectEven(sampled, count, draws, seed)
            set.container.destroy()
        }
    }

    /// The sum of squared deviations of a fair draw is about one for each member, and hardly ever half as much more.
    private func expectEven(_ counts: [[UInt8]: Int], _ size: Int, _ draws: Int, _ seed: UInt64) {
        #expect(counts.count == size, "seed \(seed)")
        let expected = Double(draws) / Double(size)
        let chi = counts.values.reduce(0.0) { $0 + (Double($1) - expected) * (Double($1) - expected) / expected }
        #expect(chi < Double(size) * 1.5 + 20, "seed \(seed)")
    }

    @Test func theEncodingIsTheOneThatRedisReports() {
        withStore(EncodingLimits(), seed: 1) { store in
            func encoding(_ members: [String]) -> [Encoding] {
                var set = Array(members[0].utf8).withUnsafeBytes { SetMembers(for: $0, store) }
                var encodings: [Encoding] = []
                for member in members {
                    _ = Array(member.utf8).withUnsafeBytes { set.insert($0) }
                    encodings.append(set.container.encoding)
                }
                set.container.destroy()
                return encodings
            }
            #expect(encoding(["1", "-9223372036854775808", "9223372036854775807"]) == [.intset, .intset, .intset])
            #expect(encoding(["1", "01", "2"]) == [.intset, .listpack, .listpack])
            #expect(encoding(["9223372036854775808"]) == [.listpack])
            let long = String(repeating: "x", count: 65)
            #expect(encoding([String(long.dropLast()), long]) == [.listpack, .hashtable])
            #expect(encoding(["1", long]) == [.intset, .hashtable])
            let numbers = (0...512).map(String.init)
            #expect(encoding(numbers).suffix(2) == [.intset, .hashtable])
            #expect(encoding(numbers.map { "m" + $0 })[127...128] == [.listpack, .hashtable])
            #expect(encoding(numbers.prefix(200) + ["x"]).suffix(2) == [.intset, .hashtable])
            #expect(encoding(numbers.prefix(127) + ["x", "y"]).suffix(3) == [.intset, .listpack, .hashtable])
        }
    }

    @Test func largeValuesCountForWhatADatabaseTakesToFree() {
        var keyspace = Keyspace(databaseCount: 2, isClustered: false, seed: HashSeed(k0: 1, k1: 2))
        Array("set".utf8).withUnsafeBytes { name in
            let entry = keyspace.insert(keyspace.key(name), SetMembers(keyspace.members).container)
            for number in 0..<2000 {
                let isNew = Array("member \(number)".utf8).withUnsafeBytes { keyspace.setValue(entry).insert($0) }
                #expect(isNew)
            }
        }
        let answers = [(0, 1500), (0, 2500), (1, 0)].map { keyspace.isFreeEffort(of: $0.0, above: $0.1) }
        #expect(answers == [true, false, false])
        _ = keyspace.flush(database: 0)
        let afterFlush = keyspace.isFreeEffort(of: 0, above: 0)
        #expect(!afterFlush)
    }

    /// A large set that is deleted goes bit by bit, and a flush gives everything back at once.
    @Test func deletedSetsGiveTheirMemoryBack() {
        func run() {
            var keyspace = Keyspace(databaseCount: 2, isClustered: false, seed: HashSeed(k0: 1, k1: 2))
            for database in [0, 1] {
                keyspace.selected = database
                for name in ["a", "b", "c"] {
                    Array(name.utf8).withUnsafeBytes { name in
                        let key = keyspace.key(name)
                        let entry = keyspace.insert(key, SetMembers(keyspace.members).container)
                        for number in 0..<5000 {
                            let member =
                                [UInt8](repeating: UInt8(number & 0xFF), count: number % 1500) + "\(number)".utf8
                            let isNew = member.withUnsafeBytes { keyspace.setValue(entry).insert($0) }
                            #expect(isNew)
                        }
                        keyspace.didModify(.setAdd, key)
                    }
                }
            }
            keyspace.selected = 0
            Array("a".utf8).withUnsafeBytes { name in
                let key = keyspace.key(name)
                let isDeleted = keyspace.delete(key)
                #expect(isDeleted)
            }
            var turns = 0
            while keyspace.hasRemains {
                keyspace.freeRemains(limit: 100)
                turns += 1
            }
            #expect(turns > 20)
            _ = keyspace.flush(database: 1)
            keyspace.invariants()
        }
        // The first time may leave caches of the runtime behind.
        run()
        let before = Memory.threadBalance
        run()
        let after = Memory.threadBalance
        // Of more than 20 MB.
        #expect(abs(after - before) < 16 * Self.runtimeBytes)
    }

    /// What the runtime may keep of its own for what is used for the first time.
    private static let runtimeBytes = 2048
}
