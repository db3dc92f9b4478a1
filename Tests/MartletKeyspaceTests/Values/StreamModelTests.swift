import MartletBase
import Testing

@testable import MartletKeyspace

/// Streams against an array. A failed expectation names the seed that makes it happen again.
@Suite(.serialized) struct StreamModelTests {
    @Test(arguments: [1, 2, 3, 4, 5, 6, 7, 8] as [UInt64])
    func aStreamHoldsWhatAnArrayHolds(seed: UInt64) {
        func run() {
            let model = StreamModel(seed: seed)
            for growth in [95, 60, 30, 90, 10] {
                for _ in 0..<400 { model.step(growth: growth) }
                model.expectAll()
            }
            model.expectCopyAndOutsideForm()
        }
        run()
        // The first time may leave caches of the runtime behind.
        let before = Memory.threadBalance
        run()
        #expect(Memory.threadBalance == before, "seed \(seed)")
    }

    @Test func aLargeStreamIsFreedInSlices() {
        func run() -> Int {
            let model = StreamModel(seed: 99, nodeEntries: 2, nodeBytes: 4096)
            for _ in 0..<2000 { model.append() }
            for _ in 0..<200 { model.deliver() }
            let container = model.release()
            var (position, slices) = (0, 0)
            while true {
                var limit = 100
                slices += 1
                if container.freeSome(from: &position, limit: &limit) { return slices }
            }
        }
        _ = run()
        let before = Memory.threadBalance
        #expect(run() >= 10)
        #expect(Memory.threadBalance == before)
    }

    @Test func whatEveryGroupHasCountsAsWorkToFree() {
        let container = StreamValue.make()
        let stream = StreamValue(container)
        for name in ["first", "second"] {
            _ = Array(name.utf8).withUnsafeBytes { stream.makeGroup($0, lastID: .zero, entriesRead: 0) }
        }
        let group = Array("second".utf8).withUnsafeBytes { stream.group(named: $0) }
        for number in 0..<1000 {
            let consumer = Array("\(number)".utf8).withUnsafeBytes { group?.makeConsumer($0, seenAt: 0) }
            #expect(consumer != nil)
        }
        #expect(container.freeEffort >= 1000)
        container.destroy()
    }

    /// A payload may have any number of them.
    @Test func nodesWithNothingButDeletedEntriesMakeRoomForLowerIDs() {
        var node = Listpack.make()
        for number in [0, 100, 1] as [Int64] { node.append(integer: number) }
        Array("field".utf8).withUnsafeBytes { node.append($0) }
        node.append(integer: 0)
        let value = [UInt8](repeating: 0, count: 45)
        for entry in 0..<100 as Range<Int64> {
            for number in [3, entry, 0] { node.append(integer: number) }
            value.withUnsafeBytes { node.append($0) }
            node.append(integer: 4)
        }
        defer { node.destroy() }
        let container = StreamValue.make()
        let stream = StreamValue(container)
        for number in 1...200 as ClosedRange<UInt64> {
            #expect(stream.addNode(StreamID(milliseconds: number * 1000, sequence: 0), node.bytes))
        }
        #expect(stream.finishNodes(length: 0, lastID: StreamID(milliseconds: 199_000, sequence: 0)))
        #expect(stream.nodeCount == 199)
        container.invariants()
        stream.setLastID(StreamID(milliseconds: 1, sequence: 0))
        #expect(stream.nodeCount == 0)
        container.invariants()
        container.destroy()
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func aTableOfIDsHoldsWhatADictionaryHolds(seed: UInt64) {
        func run() { Self.runTable(seed: seed) }
        run()
        let before = Memory.threadBalance
        run()
        #expect(Memory.threadBalance == before)
    }

    private static func runTable(seed: UInt64) {
        var random = PRNG(seed: seed)
        var table = IDTable(recordBytes: 24)
        var model: [StreamID: Int64] = [:]
        var last: UInt64 = 0
        for phase in 0..<12 {
            let growth = [90, 50, 20, 95, 5, 0][phase % 6]
            for step in 0..<1500 {
                if random.below(100) < growth {
                    last += 1
                    let isAppended = random.below(3) > 0
                    let id = StreamID(
                        milliseconds: isAppended ? last : UInt64(random.below(Int(last) + 1)),
                        sequence: UInt64(random.below(3)))
                    let (record, isNew) = table.insert(id)
                    #expect(isNew == (model[id] == nil), "seed \(seed)")
                    record.storeBytes(of: Int64(step), toByteOffset: 16, as: Int64.self)
                    model[id] = Int64(step)
                } else {
                    let isFirst = random.below(2) == 0
                    let id =
                        isFirst
                        ? table.first ?? .zero
                        : StreamID(milliseconds: UInt64(random.below(Int(last) + 1)), sequence: UInt64(random.below(3)))
                    #expect(table.remove(id) == (model.removeValue(forKey: id) != nil), "seed \(seed)")
                }
            }
            table.invariants()
            #expect(table.count == model.count)
            let ids = model.keys.sorted()
            #expect(table.first == ids.first && table.last == ids.last)
            for _ in 0..<20 {
                let from = StreamID(milliseconds: UInt64(random.below(Int(last) + 2)), sequence: 1)
                var found: [StreamID] = []
                var position = table.seek(from)
                while let record = table.next(&position) { found.append(record.load(as: StreamID.self)) }
                #expect(found == ids.filter { $0 >= from }, "seed \(seed)")
            }
            for id in ids {
                #expect(table.find(id)?.load(fromByteOffset: 16, as: Int64.self) == model[id], "seed \(seed)")
            }
            var copy = table.copy()
            copy.invariants()
            #expect(copy.count == table.count && copy.last == table.last)
            copy.destroy()
        }
        table.destroy()
    }

    @Test(
        arguments: [
            ("0", StreamID(milliseconds: 0, sequence: 7)), ("12-34", StreamID(milliseconds: 12, sequence: 34)),
            ("18446744073709551615-18446744073709551615", .max), ("007-+3", StreamID(milliseconds: 7, sequence: 3)),
            (" 5", StreamID(milliseconds: 5, sequence: 7)), ("5--01", StreamID(milliseconds: 5, sequence: .max)),
            ("", nil), ("-", nil), ("+", nil), ("5-", nil), ("-5", nil), ("5--1", nil), ("5-1 ", nil), ("x", nil),
            ("18446744073709551616", nil), ("1-*", nil), ("*", nil), ("1-2-3", nil),
        ] as [(String, StreamID?)])
    func anIDIsReadAsRedisReadsIt(text: String, id: StreamID?) {
        let parsed = Array(text.utf8).withUnsafeBytes { StreamID.parse($0, missingSequence: 7) }
        #expect(parsed?.id == id)
    }

    @Test func endsAndChoicesAreIDsWhereTheyAreAllowed() {
        func parse(_ text: String) -> StreamID.Parsed? {
            Array(text.utf8).withUnsafeBytes { StreamID.parse($0, allowsEnds: true, allowsChoice: true) }
        }
        #expect(parse("-")?.id == .zero)
        #expect(parse("+")?.id == .max)
        #expect(parse("5-*")?.choosesSequence == true)
        #expect(parse("5-*")?.id == StreamID(milliseconds: 5, sequence: 0))
        #expect(parse("5-1")?.choosesSequence == false)
        #expect(parse(String(repeating: "0", count: 127))?.id == .zero)
        #expect(parse(String(repeating: "0", count: 128)) == nil)
    }
}

/// A stream, and what it has to hold.
final class StreamModel {
    private struct Delivery: Equatable {
        var consumer: Int
        var time: Int64
        var count: Int64
    }

    private let seed: UInt64
    private var random: PRNG
    private let store: MemberStorePointer
    private var container: Container
    private var stream: StreamValue { StreamValue(container) }

    private var entries: [(id: StreamID, fields: [[UInt8]])] = []
    private var lastID = StreamID.zero
    private var maxDeletedID = StreamID.zero
    private var added: Int64 = 0
    /// IDs of deleted entries may come again.
    private var hasGoneBack = false
    private var groups: [[UInt8]: [StreamID: Delivery]] = [:]

    init(seed: UInt64, nodeEntries: Int? = nil, nodeBytes: Int? = nil) {
        self.seed = seed
        var random = PRNG(seed: seed)
        var limits = EncodingLimits()
        limits.streamNodeEntries = nodeEntries ?? [0, 1, 3, 100, 200][random.below(5)]
        limits.streamNodeBytes = nodeBytes ?? [0, 64, 300, 4096][random.below(4)]
        self.random = random
        store = .allocate(capacity: 1)
        store.initialize(to: MemberStore(seed: HashSeed(k0: 1, k1: 2), limits: limits))
        container = StreamValue.make()
    }

    deinit {
        container.destroy()
        forgetStore()
    }

    private func forgetStore() {
        store.deinitialize(count: 1)
        store.deallocate()
    }

    /// The stream belongs to the caller; there is an empty one in its place.
    func release() -> Container {
        defer { container = StreamValue.make() }
        return container
    }

    // MARK: Steps

    func step(growth: Int) {
        if random.below(100) < growth {
            append()
            return
        }
        switch random.below(12) {
        case 0...4: delete()
        case 5, 6: trim()
        case 7, 8: deliver()
        case 9: for _ in 0..<5 { read() }
        case 10: acknowledge()
        default: setID()
        }
        if random.below(20) == 0 { container.invariants() }
    }

    func append() {
        var id = lastID
        if random.below(3) == 0 {
            id.milliseconds += UInt64(random.below(1000) * (random.below(50) == 0 ? 1 << 30 : 1)) + 1
            id.sequence = UInt64(random.below(5))
        } else {
            id.sequence += UInt64(1 + random.below(3))
        }
        var fields: [[UInt8]] = []
        let shape = random.below(5)
        for number in 0...random.below(3) {
            fields.append(shape < 4 ? Array("field\(number)".utf8) : randomBytes())
            fields.append(randomBytes())
        }
        if shape < 3 { fields = Array(fields.prefix(4)) }
        withViews(fields) { stream.append(id, $0, limits: store) }
        entries.append((id, fields))
        lastID = id
        added += 1
    }

    private func randomBytes() -> [UInt8] {
        switch random.below(6) {
        case 0: return Array(String(Int64(truncatingIfNeeded: random.next()) >> Int64(random.below(64))).utf8)
        case 1: return []
        case 2: return [UInt8](repeating: 0x61, count: random.below(300))
        default: return (0..<random.below(12)).map { _ in UInt8(random.below(256)) }
        }
    }

    private func withViews(_ fields: [[UInt8]], _ body: (UnsafeBufferPointer<UnsafeRawBufferPointer>) -> Void) {
        let all: [UInt8] = Array(fields.joined()) + [0]
        all.withUnsafeBytes { all in
            var views: [UnsafeRawBufferPointer] = []
            var start = 0
            for field in fields {
                views.append(UnsafeRawBufferPointer(rebasing: all[start..<start + field.count]))
                start += field.count
            }
            views.withUnsafeBufferPointer(body)
        }
    }

    /// An ID near those that there are.
    private func randomID() -> StreamID {
        guard !entries.isEmpty, random.below(10) > 0 else { return lastID }
        var id = entries[random.below(entries.count)].id
        if random.below(4) == 0 { id = (random.below(2) == 0 ? id.next : id.previous) ?? id }
        return id
    }

    private func delete() {
        for _ in 0...random.below(3) {
            let id = random.below(3) == 0 ? entries.first?.id ?? .zero : randomID()
            let index = entries.firstIndex { $0.id == id }
            #expect(stream.delete(id) == (index != nil), "seed \(seed)")
            if let index {
                entries.remove(at: index)
                maxDeletedID = max(maxDeletedID, id)
            }
        }
    }

    private func trim() {
        let isApproximate = random.below(3) == 0
        let limit = isApproximate && random.below(2) == 0 ? 1 + random.below(50) : 0
        let before = entries.count
        let allowed: Int
        let removed: Int
        var isExact = true
        if random.below(2) == 0 {
            let length = max(0, before - random.below(30))
            removed = stream.trim(.length(length), isApproximate: isApproximate, limit: limit)
            allowed = max(0, before - length)
        } else {
            let id = randomID()
            removed = stream.trim(.below(id), isApproximate: isApproximate, limit: limit)
            allowed = entries.filter { $0.id < id }.count
            // A deleted entry that is higher than those behind it ends the search, as in Redis.
            isExact = !hasGoneBack
        }
        #expect(isApproximate || !isExact ? removed <= allowed : removed == allowed, "seed \(seed)")
        if limit > 0 { #expect(removed <= limit) }
        entries.removeFirst(removed)
    }

    private func setID() {
        let lowest = entries.last?.id ?? .zero
        if random.below(2) == 0, lowest < lastID {
            lastID = lowest
            hasGoneBack = true
        }
        stream.setLastID(lastID)
    }

    // MARK: Groups

    private func group() -> (name: [UInt8], group: StreamGroup) {
        let name = Array("group\(random.below(4))".utf8)
        let group = name.withUnsafeBytes { bytes in
            stream.group(named: bytes)
                ?? stream.makeGroup(bytes, lastID: .zero, entriesRead: StreamGroup.unknownEntriesRead)!
        }
        if groups[name] == nil { groups[name] = [:] }
        return (name, group)
    }

    private func consumerName(_ number: Int) -> [UInt8] { Array("consumer\(number)".utf8) }

    func deliver() {
        let (name, group) = group()
        for _ in 0..<random.below(20) {
            let id = randomID()
            let number = random.below(5)
            let consumer = consumerName(number).withUnsafeBytes {
                group.consumer(named: $0) ?? group.makeConsumer($0, seenAt: 5)!
            }
            let delivery = Delivery(consumer: number, time: Int64(random.below(1000)), count: Int64(random.below(9)))
            group.setPending(
                PendingEntry(id: id, deliveredAt: delivery.time, deliveryCount: delivery.count, consumer: consumer))
            groups[name]?[id] = delivery
        }
    }

    /// A group is given some entries, now and then from another place on.
    private func read() {
        let (_, group) = group()
        if random.below(5) == 0 { group.lastID = randomID() }
        let expected = entries.filter { $0.id > group.lastID }.map(\.id).prefix(random.below(8))
        var found: [StreamID] = []
        var cursor = stream.unreadEntries(of: group)
        while found.count < expected.count, cursor.next() {
            found.append(cursor.id)
            if random.below(2) == 0 { _ = cursor.nextField() }
            #expect(stream.advance(group, to: cursor.id), "seed \(seed)")
            stream.noteRead(group, cursor)
        }
        #expect(found == Array(expected), "seed \(seed)")
    }

    private func acknowledge() {
        let (name, group) = group()
        switch random.below(8) {
        case 0:
            let number = random.below(5)
            guard let consumer = consumerName(number).withUnsafeBytes({ group.consumer(named: $0) }) else { return }
            group.remove(consumer)
            groups[name] = groups[name]?.filter { $0.value.consumer != number }
        case 1:
            name.withUnsafeBytes { stream.removeGroup($0)?.destroy() }
            groups[name] = nil
        default:
            for id in groups[name]?.keys.sorted().prefix(random.below(30)) ?? [] {
                #expect(group.removePending(id), "seed \(seed)")
                groups[name]?[id] = nil
            }
            #expect(!group.removePending(.zero))
        }
    }

    // MARK: Expectations

    func expectAll() {
        container.invariants()
        #expect(stream.length == entries.count, "seed \(seed)")
        #expect(container.count == entries.count)
        #expect(stream.firstID == entries.first?.id ?? .zero, "seed \(seed)")
        #expect(stream.lastID == lastID, "seed \(seed)")
        #expect(stream.maxDeletedID == maxDeletedID, "seed \(seed)")
        #expect(stream.entriesAdded == added, "seed \(seed)")
        #expect(stream.lastLiveID == entries.last?.id, "seed \(seed)")
        expectRange(stream, .zero, .max)
        for _ in 0..<20 {
            let (first, second) = (randomID(), randomID())
            expectRange(stream, min(first, second), max(first, second))
            #expect(stream.contains(first) == entries.contains { $0.id == first }, "seed \(seed)")
        }
        expectGroups(stream)
        #expect(container.memoryBytes > 0)
    }

    private func expectRange(_ stream: StreamValue, _ lowest: StreamID, _ highest: StreamID) {
        let expected = entries.filter { $0.id >= lowest && $0.id <= highest }
        for isReverse in [false, true] {
            var cursor = stream.entries(from: lowest, to: highest, isReverse: isReverse)
            var found: [(id: StreamID, fields: [[UInt8]])] = []
            while cursor.next() {
                var fields: [[UInt8]] = []
                // Some entries are passed over without being read.
                if random.below(4) > 0 {
                    for _ in 0..<cursor.fieldCount {
                        let (field, value) = cursor.nextField()
                        fields += [bytes(field), bytes(value)]
                    }
                }
                found.append((cursor.id, fields))
            }
            let inOrder = isReverse ? expected.reversed() : expected
            #expect(found.map(\.id) == inOrder.map(\.id), "seed \(seed)")
            for (entry, other) in zip(found, inOrder) where !entry.fields.isEmpty {
                #expect(entry.fields == other.fields, "seed \(seed)")
            }
        }
    }

    private func bytes(_ view: StringView) -> [UInt8] {
        switch view {
        case .bytes(let bytes): return Array(bytes)
        case .integer(let number): return Array(String(number).utf8)
        }
    }

    private func expectGroups(_ stream: StreamValue) {
        #expect(stream.groupCount == groups.count, "seed \(seed)")
        for (name, pending) in groups {
            guard let group = name.withUnsafeBytes({ stream.group(named: $0) }) else {
                Issue.record("group missing, seed \(seed)")
                continue
            }
            #expect(group.pendingCount == pending.count, "seed \(seed)")
            let ids = pending.keys.sorted()
            #expect(group.firstPending == ids.first && group.lastPending == ids.last)
            var cursor = group.pendingEntries(from: .zero)
            for id in ids {
                guard let entry = group.next(&cursor) else { break }
                #expect(entry.id == id, "seed \(seed)")
                #expect(
                    Delivery(
                        consumer: Int(entry.consumer.name.last! - 0x30), time: entry.deliveredAt,
                        count: entry.deliveryCount) == pending[id], "seed \(seed)")
            }
            for index in 0..<group.consumerCount {
                let consumer = group.consumer(at: index)
                let number = Int(consumer.name.last! - 0x30)
                #expect(consumer.pendingCount == pending.values.filter { $0.consumer == number }.count)
            }
        }
    }

    /// A copy is equal, and so is what is made of the nodes' bytes.
    func expectCopyAndOutsideForm() {
        let copy = container.copy(store)
        copy.invariants()
        expectRange(StreamValue(copy), .zero, .max)
        expectGroups(StreamValue(copy))
        copy.destroy()

        let other = StreamValue.make()
        let rebuilt = StreamValue(other)
        for index in 0..<stream.nodeCount {
            let (id, bytes) = stream.node(at: index)
            #expect(rebuilt.addNode(id, bytes), "seed \(seed)")
        }
        #expect(!rebuilt.finishNodes(length: UInt64(entries.count + 1), lastID: lastID))
        #expect(rebuilt.finishNodes(length: UInt64(entries.count), lastID: lastID))
        #expect(rebuilt.firstID == stream.firstID)
        expectRange(rebuilt, .zero, .max)
        other.invariants()
        other.destroy()
        expectDamageIsFound()
    }

    /// Whatever byte of a node is changed, it is refused or still a node.
    private func expectDamageIsFound() {
        guard stream.nodeCount > 0 else { return }
        let (id, bytes) = stream.node(at: stream.nodeCount - 1)
        for _ in 0..<2000 {
            var damaged = Array(bytes)
            for _ in 0...random.below(3) { damaged[random.below(damaged.count)] = UInt8(random.below(256)) }
            let container = StreamValue.make()
            let stream = StreamValue(container)
            let isValid = damaged.withUnsafeBytes { stream.addNode(id, $0) }
            if isValid, stream.finishNodes(length: UInt64(stream.length), lastID: .max) {
                container.invariants()
                for isReverse in [false, true] {
                    var cursor = stream.entries(isReverse: isReverse)
                    var count = 0
                    while cursor.next() {
                        for _ in 0..<cursor.fieldCount { _ = cursor.nextField() }
                        count += 1
                    }
                    #expect(count == stream.length)
                }
                _ = stream.trim(.length(stream.length / 2), isApproximate: false, limit: 0)
                container.invariants()
            }
            container.destroy()
        }
    }
}
