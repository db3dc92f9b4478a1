import MartletBase
import Testing

@testable import MartletKeyspace

/// Lists against arrays. A failed expectation names the seed that makes it happen again.
@Suite(.serialized) struct ListModelTests {
    /// - Parameter limit: `list-max-listpack-size`.
    @Test(arguments: [-1, -2, 0, 1, 2, 3, 7, 128], [1, 2] as [UInt64])
    func aListHoldsWhatAnArrayHolds(limit: Int, seed: UInt64) {
        func run(steps: Int) {
            let model = ListModel(limit: limit, seed: seed)
            for growth in [80, 45, 90, 20, 70, 10] {
                for _ in 0..<steps { model.step(growth: growth) }
                model.expectEqual()
            }
            model.expectCopyIsEqual()
            model.empty()
        }
        run(steps: 20)
        let balance = Memory.threadBalance
        run(steps: 80)
        // The runtime may keep a little that it makes for the first time.
        #expect(abs(Memory.threadBalance - balance) < 1024, "limit \(limit), seed \(seed)")
    }

    @Test func aListIsFreedBitByBit() {
        func run() -> (effort: Int, steps: Int) {
            var limits = EncodingLimits()
            limits.listListpackSize = 1
            var list = ListValue(limits: limits)
            for number in 0..<100 { list.push(.integer(Int64(number)), at: .tail) }
            let effort = list.container.freeEffort
            var (position, steps) = (0, 0)
            var isDone = false
            while !isDone {
                var limit = 7
                isDone = list.container.freeSome(from: &position, limit: &limit)
                steps += 1
            }
            return (effort, steps)
        }
        #expect(run() == (100, 15))
        let balance = Memory.threadBalance
        _ = run()
        let after = Memory.threadBalance
        #expect(after == balance)
    }

    @Test func largeNodesAreFreedInMoreSteps() {
        var list = ListValue(limits: EncodingLimits())
        let element = [UInt8](repeating: 7, count: 1000)
        for _ in 0..<1000 { element.withUnsafeBytes { list.push($0, at: .tail) } }
        let nodes = Quicklist(list.container.pointer).nodeCount
        #expect((120...130).contains(nodes), "of 8 KB")
        var (position, steps, isDone) = (0, 0, false)
        while !isDone {
            var limit = 100
            isDone = list.container.freeSome(from: &position, limit: &limit)
            steps += 1
        }
        #expect(steps > nodes / 4 && steps < nodes)
    }

    @Test func anElementThatIsLargerThanANodeStandsAlone() {
        var list = ListValue(limits: EncodingLimits())
        let large = [UInt8](repeating: 7, count: 100_000)
        large.withUnsafeBytes { list.push($0, at: .tail) }
        #expect(list.container.encoding == .listpack)
        list.push(.integer(1), at: .tail)
        list.push(.integer(2), at: .tail)
        #expect(list.container.encoding == .quicklist)
        large.withUnsafeBytes { list.push($0, at: .head) }
        #expect(Quicklist(list.container.pointer).nodeCount == 3)
        list.container.invariants()
        list.container.destroy()
    }

    @Test func removalsLeaveNoTinyNodesBehind() {
        var limits = EncodingLimits()
        limits.listListpackSize = 10
        var list = ListValue(limits: limits)
        for number in 0..<1000 { list.push(.integer(Int64(number % 10)), at: .tail) }
        #expect(Quicklist(list.container.pointer).nodeCount == 100)
        for digit in 0..<9 {
            let removed = withDecimalBytes(digit) { list.removeAll(ListNeedle($0), countMax: .max, from: .head) }
            #expect(removed == 100)
        }
        list.container.invariants()
        // A hundred elements are left; no two neighbours fit into one node.
        #expect(Quicklist(list.container.pointer).nodeCount < 20)
        list.container.destroy()
    }
}

private func withDecimalBytes<Result>(_ number: Int, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    Array(String(number).utf8).withUnsafeBytes(body)
}

private final class ListModel {
    private var list: ListValue
    private var elements: [[UInt8]] = []
    private var random: PRNG
    private let name: Comment

    init(limit: Int, seed: UInt64) {
        var limits = EncodingLimits()
        limits.listListpackSize = limit
        list = ListValue(limits: limits)
        random = PRNG(seed: seed)
        name = "limit \(limit), seed \(seed)"
    }

    func empty() { list.container.destroy() }

    private func randomElement() -> [UInt8] {
        switch random.below(10) {
        case 0...3: return Array(String(random.below(8)).utf8)
        case 4: return Array(String(Int64(truncatingIfNeeded: random.next())).utf8)
        case 5: return [UInt8](repeating: UInt8(random.below(256)), count: random.below(300))
        case 6: return [UInt8](repeating: 120, count: random.below(20) == 0 ? 20_000 : 2000)
        case 7: return []
        default: return Array("word\(random.below(5))".utf8)
        }
    }

    private func randomEnd() -> ListEnd { random.below(2) == 0 ? .head : .tail }

    private static func bytes(_ value: StringView) -> [UInt8] {
        switch value {
        case .bytes(let bytes): return Array(bytes)
        case .integer(let number): return Array(String(number).utf8)
        }
    }

    /// One random operation. - Parameter growth: per cent of operations that add.
    func step(growth: Int) {
        if random.below(100) < growth || elements.isEmpty { add() } else { remove() }
        if random.below(10) == 0 { look() }
        if random.below(50) == 0, !elements.isEmpty { list.container.invariants() }
        #expect(list.count == elements.count, name)
    }

    private func add() {
        let element = randomElement()
        switch random.below(5) {
        case 0 where !elements.isEmpty:
            let pivot = random.below(3) == 0 ? randomElement() : elements[random.below(elements.count)]
            let isBefore = random.below(2) == 0
            let found = elements.firstIndex(of: pivot)
            let isInserted = element.withUnsafeBytes { bytes in
                pivot.withUnsafeBytes { list.insert(bytes, isBefore ? .before : .after, of: $0) }
            }
            #expect(isInserted == (found != nil), name)
            if let found { elements.insert(element, at: isBefore ? found : found + 1) }
        default:
            let end = randomEnd()
            element.withUnsafeBytes { list.push($0, at: end) }
            elements.insert(element, at: end == .head ? 0 : elements.count)
        }
    }

    private func remove() {
        switch random.below(8) {
        case 0:
            let first = random.below(elements.count)
            let range = first..<min(elements.count, first + 1 + random.below(random.below(10) == 0 ? 200 : 4))
            list.remove(range)
            elements.removeSubrange(range)
        case 1:
            let needle = elements[random.below(elements.count)]
            let (countMax, end) = (random.below(2) == 0 ? 1 + random.below(3) : Int.max, randomEnd())
            let removed = needle.withUnsafeBytes { list.removeAll(ListNeedle($0), countMax: countMax, from: end) }
            var left = countMax
            for index in end == .head ? Array(elements.indices) : elements.indices.reversed()
            where left > 0 && elements[index] == needle {
                elements[index] = [1, 2, 3, 255]
                left -= 1
            }
            let before = elements.count
            elements.removeAll { $0 == [1, 2, 3, 255] }
            #expect(removed == before - elements.count, name)
        case 2:
            let (source, target) = (randomEnd(), randomEnd())
            list.rotate(from: source, to: target)
            let element = source == .head ? elements.removeFirst() : elements.removeLast()
            elements.insert(element, at: target == .head ? 0 : elements.count)
        case 3:
            let index = random.below(elements.count) - (random.below(2) == 0 ? elements.count : 0)
            let element = randomElement()
            #expect(element.withUnsafeBytes { list.set($0, at: index) } == true, name)
            elements[index < 0 ? index + elements.count : index] = element
        default:
            let end = randomEnd()
            #expect(Self.bytes(list.element(at: end)) == (end == .head ? elements.first : elements.last), name)
            list.removeElement(at: end)
            if end == .head { elements.removeFirst() } else { elements.removeLast() }
        }
    }

    private func look() {
        let index = random.below(2 * elements.count + 4) - elements.count - 2
        let expected =
            elements.indices.contains(index)
            ? elements[index]
            : elements.indices.contains(index + elements.count) ? elements[index + elements.count] : nil
        #expect(list.element(at: index).map(Self.bytes) == expected, name)
        guard !elements.isEmpty else { return }
        let needle = elements[random.below(elements.count)]
        let (start, elementsMax) = (randomEnd(), 1 + random.below(elements.count))
        var found: [Int] = []
        needle.withUnsafeBytes { bytes in
            list.findAll(ListNeedle(bytes), from: start, elementsMax: elementsMax) { index in
                found.append(index)
                return found.count < 5
            }
        }
        let order = start == .head ? Array(elements.indices) : elements.indices.reversed()
        #expect(found == Array(order.prefix(elementsMax).filter { elements[$0] == needle }.prefix(5)), name)
    }

    private static func all(_ list: ListValue, from index: Int, towards end: ListEnd) -> [[UInt8]] {
        var found: [[UInt8]] = []
        var cursor = list.elements(from: index, towards: end)
        while let value = cursor.next() { found.append(bytes(value)) }
        return found
    }

    func expectEqual() {
        #expect(Self.all(list, from: 0, towards: .tail) == elements, name)
        #expect(Self.all(list, from: elements.count - 1, towards: .head) == elements.reversed(), name)
        guard !elements.isEmpty else { return }
        list.container.invariants()
        let index = random.below(elements.count)
        #expect(Self.all(list, from: index, towards: .tail) == Array(elements[index...]), name)
        #expect(Self.all(list, from: index, towards: .head) == elements[...index].reversed(), name)
    }

    func expectCopyIsEqual() {
        guard !elements.isEmpty else { return }
        var store = MemberStore(seed: HashSeed(k0: 1, k1: 2), limits: EncodingLimits())
        let copy = withUnsafeMutablePointer(to: &store) { list.container.copy($0) }
        copy.invariants()
        var found: [[UInt8]] = []
        ListValue.forEachNode(of: copy) { for value in $0.values { found.append(Self.bytes(value)) } }
        #expect(found == elements, name)
        #expect(copy.count == elements.count, name)
        #expect(copy.memoryBytes > 0)
        copy.destroy()
    }
}
