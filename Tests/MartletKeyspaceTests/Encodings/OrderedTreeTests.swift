import MartletBase
import Testing

@testable import MartletKeyspace

/// An ordered tree against a sorted array. A failed expectation names the seed that makes it happen again.
@Suite struct OrderedTreeTests {
    private protocol Keyed: OrderedElement { init(key: Int); var key: Int { get } }

    private struct Narrow: Keyed {
        let key: Int
        static func precedes(_ first: Narrow, _ second: Narrow) -> Bool { first.key < second.key }
    }

    private struct Wide: Keyed {
        let key: Int
        let rest: (Int, Int, Int, Int, Int)
        init(key: Int) {
            self.key = key
            rest = (key, key, key, key, key)
        }
        static func precedes(_ first: Wide, _ second: Wide) -> Bool { first.key < second.key }
    }

    private struct Model<Element: Keyed>: ~Copyable {
        var tree = OrderedTree<Element>()
        var keys: [Int] = []
        var random: PRNG

        init(seed: UInt64) { random = PRNG(seed: seed) }

        func index(of key: Int) -> Int { keys.partitioningIndex { $0 >= key } }

        mutating func insert(_ key: Int) {
            let index = index(of: key)
            if index < keys.count, keys[index] == key { return }
            keys.insert(key, at: index)
            tree.insert(Element(key: key))
        }

        mutating func step(growth: Int, range: Int) {
            let key = random.below(range)
            if random.below(100) < growth { return insert(key) }
            guard !keys.isEmpty else { return }
            let index = random.below(keys.count)
            switch random.below(20) {
            case 0:
                let end = min(keys.count, index + random.below(random.below(4) == 0 ? 1000 : 20))
                var removed: [Int] = []
                tree.remove(ranks: index..<end) { removed.append($0.key) }
                #expect(removed == Array(keys[index..<end]))
                keys.removeSubrange(index..<end)
            case 1...5:
                let old = keys.remove(at: index)
                let new = random.below(2) == 0 ? old + random.below(9) - 4 : random.below(range)
                let place = self.index(of: new)
                if place < keys.count, keys[place] == new || new == old {
                    keys.insert(old, at: index)
                    return
                }
                keys.insert(new, at: place)
                tree.replace(Element(key: old), with: Element(key: new))
            default: tree.remove(Element(key: keys.remove(at: index)))
            }
        }

        mutating func expectSame() {
            tree.invariants()
            let count = tree.count
            #expect(count == keys.count)
            var cursor = tree.cursor(atRank: 0)
            var seen: [Int] = []
            while let element = cursor.next() { seen.append(element.key) }
            #expect(seen == keys)
            seen = []
            while let element = cursor.previous() { seen.append(element.key) }
            #expect(seen == keys.reversed())
            for _ in 0..<20 {
                let rank = random.below(keys.count + 1)
                var cursor = tree.cursor(atRank: rank)
                let before = cursor
                #expect(cursor.next()?.key == (rank < keys.count ? keys[rank] : nil))
                cursor = before
                #expect(cursor.previous()?.key == (rank > 0 ? keys[rank - 1] : nil))
                let key = rank < keys.count ? keys[rank] + random.below(3) - 1 : Int.max
                let expected = index(of: key)
                let found = tree.rank { $0.key < key }
                #expect(found == expected)
                cursor = tree.cursor { $0.key < key }
                #expect(cursor.next()?.key == (expected < keys.count ? keys[expected] : nil))
            }
        }
    }

    private static func run<Element: Keyed>(_: Element.Type, seed: UInt64) {
        var model = Model<Element>(seed: seed)
        for growth in [95, 60, 20, 90, 50, 0] {
            for _ in 0..<4 {
                for _ in 0..<1500 { model.step(growth: growth, range: seed % 2 == 0 ? 1_000_000 : 4000) }
                model.expectSame()
            }
        }
        model.tree.destroy()
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func itHoldsWhatASortedArrayHolds(seed: UInt64) {
        Self.run(Narrow.self, seed: seed)
        Self.run(Wide.self, seed: seed)
    }

    @Test func everyNodeIsGivenBack() {
        func run() {
            for seed in 5...8 as ClosedRange<UInt64> {
                Self.run(Wide.self, seed: seed)
                var model = Model<Narrow>(seed: seed)
                for key in 0..<20_000 { model.tree.insert(Narrow(key: key)) }
                model.tree.remove(ranks: 100..<19_000) { _ in }
                model.tree.invariants()
                model.tree.remove(ranks: 0..<1100) { _ in }
                model.tree.invariants()
                let bytes = model.tree.memoryBytes
                #expect(bytes == 0, "an empty tree has no nodes")
            }
        }
        run()
        let before = Memory.threadBalance
        run()
        #expect(Memory.threadBalance == before)
    }

    /// What comes in order fills the nodes, from either end.
    @Test(arguments: [true, false])
    func elementsInOrderFillTheirNodes(ascending: Bool) {
        var tree = OrderedTree<Narrow>()
        let count = 100_000
        for key in 0..<count { tree.insert(Narrow(key: ascending ? key : count - key)) }
        tree.invariants()
        let bytes = tree.memoryBytes
        #expect(bytes < count * 8 * 11 / 10)
        tree.destroy()
    }

    @Test func aTreeIsFreedInSlices() {
        var tree = OrderedTree<Narrow>()
        for key in 0..<50_000 { tree.insert(Narrow(key: (key * 7919) % 50_021)) }
        var slices = 0
        var isDone = false
        while !isDone {
            var limit = 10
            isDone = tree.freeSome(&limit)
            slices += 1
            #expect(isDone || limit == 0)
        }
        #expect(slices > 30)
        let bytes = tree.memoryBytes
        #expect(bytes == 0)
    }
}

extension [Int] {
    fileprivate func partitioningIndex(where isSecond: (Int) -> Bool) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if isSecond(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
