import MartletBase
import Testing

@testable import MartletKeyspace

/// Sorted sets against an array of pairs, in both encodings. A failed expectation names the seed that makes it happen
/// again.
@Suite(.serialized) struct SortedSetValueTests {
    private final class Model {
        let store: MemberStorePointer = .allocate(capacity: 1)
        var set: SortedSetValue
        var scores: [[UInt8]: Double] = [:]
        var random: PRNG
        let memberCount: Int

        init(seed: UInt64, listpackEntries: Int, memberCount: Int) {
            var limits = EncodingLimits()
            limits.sortedSetListpackEntries = listpackEntries
            store.initialize(to: MemberStore(seed: HashSeed(k0: seed, k1: 1), limits: limits))
            set = SortedSetValue(store)
            random = PRNG(seed: seed)
            self.memberCount = memberCount
        }

        deinit {
            set.container.destroy()
            store.deinitialize(count: 1)
            store.deallocate()
        }

        var sorted: [(member: [UInt8], score: Double)] {
            scores.map { ($0.key, $0.value) }.sorted {
                $0.score != $1.score ? $0.score < $1.score : $0.member.lexicographicallyPrecedes($1.member)
            }
        }

        func member() -> [UInt8] {
            let number = random.below(memberCount)
            switch number % 4 {
            case 0: return Array(String(number).utf8)
            case 1: return Array("member:\(number)".utf8)
            case 2: return [UInt8](repeating: 0xFF, count: number % 7) + [UInt8(number & 0xFF), UInt8(number >> 8)]
            default: return Array("-\(number)".utf8)
            }
        }

        func score() -> Double {
            switch random.below(12) {
            case 0: return .infinity
            case 1: return -.infinity
            case 2: return Double(random.below(1000)) / 7
            case 3: return Double(random.below(1_000_000)) * 1e15
            case 4...7: return Double(random.below(5))
            default: return Double(random.below(2000) - 1000)
            }
        }

        func step() {
            let member = member()
            let old = scores[member]
            switch random.below(30) {
            case 0...15:
                let rules = SortedSetRules(rawValue: random.below(3) == 0 ? UInt8(random.below(32)) : 0)
                add(member, score(), rules, old)
            case 16...23:
                let wasThere = member.withUnsafeBytes { set.remove($0) }
                #expect(wasThere == (old != nil))
                scores[member] = nil
            case 24:
                let count = random.below(random.below(5) == 0 ? scores.count + 1 : min(scores.count + 1, 4))
                let lower = random.below(scores.count - count + 1)
                for pair in sorted[lower..<lower + count] { scores[pair.member] = nil }
                set.remove(ranks: lower..<lower + count)
            default: expectMember(member)
            }
        }

        private func add(_ member: [UInt8], _ score: Double, _ rules: SortedSetRules, _ old: Double?) {
            let change = member.withUnsafeBytes { set.add($0, score: score, rules) }
            guard let old else {
                if rules.contains(.onlyPresent) {
                    guard case .skipped = change else { return fail("\(change)") }
                } else {
                    guard case .added(score) = change else { return fail("\(change)") }
                    scores[member] = score
                }
                return
            }
            let new = rules.contains(.increment) ? old + score : score
            if rules.contains(.onlyNew) || (!new.isNaN && rules.contains(.onlyLower) && new >= old)
                || (!new.isNaN && rules.contains(.onlyGreater) && new <= old)
            {
                guard case .skipped = change else { return fail("\(change)") }
            } else if new.isNaN {
                guard case .notANumber = change else { return fail("\(change)") }
            } else if new == old {
                guard case .same(new) = change else { return fail("\(change)") }
            } else {
                guard case .updated(new) = change else { return fail("\(change)") }
                scores[member] = new
            }
        }

        private func fail(_ message: String) { Issue.record(Comment(rawValue: message)) }

        private func expectMember(_ member: [UInt8]) {
            let score = member.withUnsafeBytes { set.score(of: $0) }
            #expect(score == scores[member])
            let rank = member.withUnsafeBytes { set.rank(of: $0) }
            #expect(rank == sorted.firstIndex { $0.member == member })
        }

        func expectSame() {
            if !scores.isEmpty { set.container.invariants() }
            let sorted = sorted
            #expect(set.count == sorted.count)
            #expect(pairs(in: 0..<sorted.count) == sorted.map { "\($0.member) \($0.score)" })
            #expect(
                pairs(in: 0..<sorted.count, isReversed: true) == sorted.reversed().map { "\($0.member) \($0.score)" })
            for _ in 0..<10 { expectRanges(sorted) }
        }

        private func pairs(in ranks: Range<Int>, isReversed: Bool = false) -> [String] {
            var pairs: [String] = []
            set.forEach(in: ranks, isReversed: isReversed) { member, score in
                member.withBytes { pairs.append("\(Array($0)) \(score)") }
            }
            return pairs
        }

        private func expectRanges(_ sorted: [(member: [UInt8], score: Double)]) {
            let range = ScoreRange(
                min: score(), max: score(), excludesMin: random.below(2) == 0, excludesMax: random.below(2) == 0)
            let expected = sorted.indices.filter { index in
                let score = sorted[index].score
                return (range.excludesMin ? score > range.min : score >= range.min)
                    && (range.excludesMax ? score < range.max : score <= range.max)
            }
            let ranks = set.ranks(in: range)
            #expect(Array(ranks) == expected)
            if !ranks.isEmpty {
                let lower = ranks.lowerBound + random.below(ranks.count)
                #expect(
                    pairs(in: lower..<ranks.upperBound)
                        == sorted[lower..<ranks.upperBound].map { "\($0.member) \($0.score)" })
            }
        }
    }

    @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64])
    func itHoldsWhatAnArrayHolds(seed: UInt64) {
        let model = Model(
            seed: seed, listpackEntries: [0, 20, 1000][Int(seed % 3)], memberCount: seed % 2 == 0 ? 100 : 900)
        for _ in 0..<40 {
            for _ in 0..<100 { model.step() }
            model.expectSame()
        }
        #expect(model.set.isLarge == (seed % 3 != 2))
    }

    @Test(arguments: [0, 128])
    func membersOfOneScoreAreInTheOrderOfTheirBytes(listpackEntries: Int) throws {
        var random = PRNG(seed: 7)
        let model = Model(seed: 7, listpackEntries: listpackEntries, memberCount: 1)
        var members: [[UInt8]] = []
        for _ in 0..<100 {
            let member = (0..<random.below(4)).map { _ in UInt8(ascii: "a") + UInt8(random.below(4)) }
            if case .added = member.withUnsafeBytes({ model.set.add($0, score: 1) }) { members.append(member) }
        }
        members.sort { $0.lexicographicallyPrecedes($1) }
        for _ in 0..<300 {
            let bounds = (0..<2).map { _ in
                let text = (0..<random.below(4)).map { _ in UInt8(ascii: "a") + UInt8(random.below(4)) }
                return [
                    [UInt8(ascii: "-")], [UInt8(ascii: "+")], [UInt8(ascii: "(")] + text, [UInt8(ascii: "[")] + text,
                ][
                    random.below(10) < 2 ? random.below(2) : 2 + random.below(2)]
            }
            func isInside(_ member: [UInt8], _ bound: [UInt8], isMin: Bool) -> Bool {
                switch bound[0] {
                case UInt8(ascii: "-"): return isMin
                case UInt8(ascii: "+"): return !isMin
                default: break
                }
                let text = Array(bound.dropFirst())
                if member == text { return bound[0] == UInt8(ascii: "[") }
                return isMin == text.lexicographicallyPrecedes(member)
            }
            let expected = members.indices.filter {
                isInside(members[$0], bounds[0], isMin: true) && isInside(members[$0], bounds[1], isMin: false)
            }
            try bounds[0].withUnsafeBytes { min in
                try bounds[1].withUnsafeBytes { max in
                    let range = try #require(LexRange(min: min, max: max))
                    for isReversed in [false, true] {
                        let ranks = model.set.ranks(in: range, isReversed: isReversed)
                        #expect(Array(ranks) == expected, "\(bounds) reversed: \(isReversed)")
                    }
                }
            }
        }
    }

    @Test func aResultThatIsSmallEnoughBecomesAListpack() {
        let model = Model(seed: 1, listpackEntries: 3, memberCount: 1)
        var set = SortedSetValue.makeLarge(model.store)
        for (index, name) in ["b", "a", "12"].enumerated() {
            Array(name.utf8).withUnsafeBytes { _ = set.add($0, score: 1.5 - Double(index)) }
        }
        var copy = SortedSetValue(set.container.copy(model.store), model.store)
        copy.compact()
        #expect(!copy.isLarge)
        copy.container.invariants()
        #expect(Array("12".utf8).withUnsafeBytes { copy.rank(of: $0) } == 0)
        copy.container.destroy()
        Array("c".utf8).withUnsafeBytes { _ = set.add($0, score: 0) }
        set.compact()
        #expect(set.isLarge)
        set.container.destroy()
    }

    @Test func allMemoryComesBack() {
        func run() {
            for seed in 10...13 as ClosedRange<UInt64> {
                let model = Model(seed: seed, listpackEntries: seed % 2 == 0 ? 0 : 10, memberCount: 3000)
                for _ in 0..<6000 { model.step() }
                let copy = model.set.container.copy(model.store)
                var (position, limit) = (0, 50)
                while !copy.freeSome(from: &position, limit: &limit) { limit = 50 }
            }
        }
        run()
        let before = Memory.threadBalance
        run()
        #expect(Memory.threadBalance == before)
    }
}
