import Glibc
import MartletBase

// Sorted sets: members with a score each, in the order of scores, then of bytes.
//
// A small one is a listpack of members and scores in turns, in order, byte for byte as Redis has it: scores that are
// integers are stored as such, others as text of 17 digits. A large one is a ``LargeSortedSet``. Whatever part of a set is
// asked for, the answer is first a range of ranks, then a walk over it: so replies know their length beforehand, and what
// an offset skips is not walked through.
//
// Source: t_zset.c of Redis 7.0.

/// Under which conditions ``SortedSetValue/add(_:score:_:)`` changes what. (ZADD_IN_*)
package struct SortedSetRules: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Only members that are not there. (NX)
    package static let onlyNew = SortedSetRules(rawValue: 1 << 0)
    /// Only members that are there. (XX)
    package static let onlyPresent = SortedSetRules(rawValue: 1 << 1)
    /// A member that is there only changes to a greater score. (GT)
    package static let onlyGreater = SortedSetRules(rawValue: 1 << 2)
    /// A member that is there only changes to a lower score. (LT)
    package static let onlyLower = SortedSetRules(rawValue: 1 << 3)
    /// The score is added to what is there. (INCR)
    package static let increment = SortedSetRules(rawValue: 1 << 4)
}

/// What ``SortedSetValue/add(_:score:_:)`` did.
package enum SortedSetChange {
    case added(Double)
    /// The score has changed to this.
    case updated(Double)
    /// The member has had this score already.
    case same(Double)
    /// The rules forbade it.
    case skipped
    /// The sum would be infinity less infinity.
    case notANumber
}

/// A view of a sorted set: that of a key, or one that is being built and belongs to no key yet.
package struct SortedSetValue {
    /// Nil while no key has the set.
    private let entry: Entry?
    /// Nil if the set is only read.
    private let store: MemberStorePointer?
    /// Written back into the entry after every change.
    package private(set) var container: Container {
        didSet { if let entry { entry.container = container } }
    }

    /// - Precondition: the entry holds a sorted set.
    init(_ entry: Entry, _ store: MemberStorePointer) {
        precondition(entry.type == .sortedSet)
        self.entry = entry
        self.store = store
        container = entry.container
    }

    /// A set that is not a key's.
    package init(_ container: Container, _ store: MemberStorePointer) {
        precondition(container.type == .sortedSet)
        entry = nil
        self.store = store
        self.container = container
    }

    /// A set that is only read, by whoever has no keyspace at hand.
    package init(reading container: Container) {
        precondition(container.type == .sortedSet)
        entry = nil
        store = nil
        self.container = container
    }

    /// An empty set that belongs to no key.
    package init(_ store: MemberStorePointer) {
        entry = nil
        self.store = store
        container = Self.emptyContainer
    }

    /// An empty set, for a key that is missing.
    package static var emptyContainer: Container {
        Container(type: .sortedSet, encoding: .listpack, pointer: Listpack.make().pointer)
    }

    /// An empty set in the encoding for many members.
    package static func makeLarge(_ store: MemberStorePointer) -> SortedSetValue {
        SortedSetValue(
            Container(
                type: .sortedSet, encoding: .skiplist, pointer: UnsafeMutableRawPointer(LargeSortedSet.make(store))),
            store)
    }

    /// A set of the bytes of a listpack. - Returns: nil if they are not one, or a member is in it twice.
    ///
    /// - Complexity: O(n log n)
    package static func make(listpack bytes: UnsafeRawBufferPointer, _ store: MemberStorePointer) -> SortedSetValue? {
        guard Listpack.isValid(bytes, deep: true) else { return nil }
        let listpack = Listpack(copying: bytes)
        guard listpack.count % 2 == 0, !listpack.hasDuplicates(skipping: 1, seed: store.pointee.seed) else {
            listpack.destroy()
            return nil
        }
        var set = SortedSetValue(
            Container(type: .sortedSet, encoding: .listpack, pointer: listpack.pointer), store)
        if set.count > store.pointee.limits.sortedSetListpackEntries { set.becomeLarge() }
        return set
    }

    @inline(__always) package var isLarge: Bool { container.encoding == .skiplist }
    @inline(__always) private var list: Listpack { Listpack(container.pointer) }
    @inline(__always) var large: LargeSortedSet.Pointer {
        container.pointer.assumingMemoryBound(to: LargeSortedSet.self)
    }

    // MARK: Read

    package var count: Int { isLarge ? large.pointee.count : list.count / 2 }
    package var isEmpty: Bool { count == 0 }

    /// - Complexity: O(1) of a large set.
    package func score(of member: UnsafeRawBufferPointer) -> Double? {
        if isLarge { return large.pointee.find(member)?.score }
        guard let position = list.find(member, from: list.first, skipping: 1) else { return nil }
        return score(behind: position)
    }

    /// How many members come before this one. - Complexity: O(log count)
    package func rank(of member: UnsafeRawBufferPointer) -> Int? {
        if isLarge {
            guard let entry = large.pointee.find(member) else { return nil }
            return large.pointee.rank(of: entry)
        }
        guard let position = list.find(member, from: list.first, skipping: 1) else { return nil }
        var rank = 0
        var other = list.first
        while let current = other, current < position {
            rank += 1
            other = next(after: current)
        }
        return rank
    }

    /// The ranks of the members whose scores are in a range. - Complexity: O(log count)
    package func ranks(in range: ScoreRange) -> Range<Int> {
        if range.isEmpty { return 0..<0 }
        if isLarge {
            let lower = large.pointee.tree.rank { range.isAbove($0.score) }
            let upper = large.pointee.tree.rank { !range.isBelow($0.score) }
            return lower..<max(lower, upper)
        }
        var (lower, upper) = (0, 0)
        var position = Listpack.headerBytes
        while list.read(&position) != nil, let score = readScore(&position), !range.isBelow(score) {
            if range.isAbove(score) { lower += 1 }
            upper += 1
        }
        return lower..<upper
    }

    /// The ranks of the members in a range. With scores that differ there is no right answer; that of a small set is
    /// the one that Redis gives.
    ///
    /// - Parameter isReversed: the range is searched from its end.
    /// - Complexity: O(log count)
    package func ranks(in range: LexRange, isReversed: Bool) -> Range<Int> {
        if range.isEmpty { return 0..<0 }
        if isLarge {
            let lower = large.pointee.tree.rank { range.isAbove($0.entry.key) }
            let upper = large.pointee.tree.rank { !range.isBelow($0.entry.key) }
            return lower..<max(lower, upper)
        }
        guard let first = list.first, let last = lastMember,
            withMember(at: last, { !range.isAbove($0) }), withMember(at: first, { !range.isBelow($0) })
        else { return 0..<0 }
        // From the near end past those that are too far out, then on as long as the far bound is not passed.
        let count = list.count / 2
        var position = isReversed ? last : first
        var skipped = 0
        while withMember(at: position, { isReversed ? range.isBelow($0) : range.isAbove($0) }) {
            skipped += 1
            guard let other = isReversed ? previous(before: position) : next(after: position) else { return 0..<0 }
            position = other
        }
        var found = 0
        while withMember(at: position, { isReversed ? !range.isAbove($0) : !range.isBelow($0) }) {
            found += 1
            guard let other = isReversed ? previous(before: position) : next(after: position) else { break }
            position = other
        }
        return isReversed ? count - skipped - found..<count - skipped : skipped..<skipped + found
    }

    /// Visits the members of some ranks, from the last one back if `isReversed`.
    ///
    /// - Parameter visit: member and score; what it is given is only valid until it returns.
    /// - Complexity: O(log count + members)
    package func forEach(in ranks: Range<Int>, isReversed: Bool = false, _ visit: (StringView, Double) -> Void) {
        if isLarge {
            return large.pointee.forEach(ranks: ranks, isReversed: isReversed) { visit(.bytes($0.key), $1) }
        }
        guard !ranks.isEmpty else { return }
        var position = list.position(at: 2 * (isReversed ? ranks.upperBound - 1 : ranks.lowerBound))
        var left = ranks.count
        while left > 0, let current = position {
            visit(list.value(at: current), score(behind: current))
            position = isReversed ? previous(before: current) : next(after: current)
            left -= 1
        }
    }

    /// Visits the members in order until `visit` returns false.
    package func forEach(_ visit: (StringView, Double) -> Bool) { walk(0..<count, visit) }

    /// Visits the members of some ranks until `visit` returns false. - Complexity: O(log count + members)
    func walk(_ ranks: Range<Int>, _ visit: (StringView, Double) -> Bool) {
        var left = ranks.count
        guard left > 0 else { return }
        if isLarge {
            var cursor = large.pointee.tree.cursor(atRank: ranks.lowerBound)
            while left > 0, let member = cursor.next() {
                if let soon = cursor.near(LargeSortedSet.prefetchDistance) { prefetch(soon.entry.pointer) }
                guard visit(.bytes(member.entry.key), member.score) else { return }
                left &-= 1
            }
        } else if var position = list.position(at: 2 * ranks.lowerBound) {
            while left > 0, let member = list.read(&position), let score = readScore(&position), visit(member, score) {
                left &-= 1
            }
        }
    }

    /// Runs with the member of a rank. - Complexity: O(log count)
    package func withMember(atRank rank: Int, _ body: (StringView, Double) -> Void) {
        forEach(in: rank..<rank + 1) { body($0, $1) }
    }

    /// Visits the members of a small set with their scores as they are stored: integers, or texts.
    ///
    /// - Precondition: the set is not ``isLarge``.
    package func forEachInListpack(_ visit: (StringView, StringView) -> Void) {
        precondition(!isLarge)
        var position = Listpack.headerBytes
        while let member = list.read(&position), let score = list.read(&position) { visit(member, score) }
    }

    // MARK: Change

    /// Adds a member or changes its score, as far as the rules allow.
    ///
    /// - Parameter score: not NaN.
    /// - Complexity: O(log count)
    package mutating func add(
        _ member: UnsafeRawBufferPointer, score: Double, _ rules: SortedSetRules = []
    ) -> SortedSetChange {
        if isLarge {
            let hash = large.pointee.hash(member)
            guard let entry = large.pointee.find(member, hash: hash) else {
                if rules.contains(.onlyPresent) { return .skipped }
                large.pointee.insert(member, score: score, hash: hash)
                return .added(score)
            }
            let change = Self.change(from: entry.score, to: score, rules)
            if case .updated(let new) = change { large.pointee.setScore(entry, new) }
            return change
        }
        if let position = list.find(member, from: list.first, skipping: 1) {
            let change = Self.change(from: self.score(behind: position), to: score, rules)
            if case .updated(let new) = change {
                var list = list
                list.removeRange(from: position, count: 2)
                Self.insert(member, score: new, into: &list)
                container.pointer = list.pointer
            }
            return change
        }
        if rules.contains(.onlyPresent) { return .skipped }
        let limits = store.unsafelyUnwrapped.pointee.limits
        if list.count / 2 >= limits.sortedSetListpackEntries || member.count > limits.sortedSetListpackValueBytes
            || !Listpack.safeToAdd(member.count + doubleBytesMax, to: list)
        {
            becomeLarge()
            large.pointee.insert(member, score: score)
        } else {
            var list = list
            Self.insert(member, score: score, into: &list)
            container.pointer = list.pointer
        }
        return .added(score)
    }

    /// Adds a member of another set, or changes its score.
    package mutating func add(_ member: StringView, score: Double) {
        member.withBytes { bytes in _ = add(bytes, score: score) }
    }

    /// What becomes of a member that is there.
    @inline(__always)
    private static func change(from old: Double, to score: Double, _ rules: SortedSetRules) -> SortedSetChange {
        if rules.isEmpty { return score == old ? .same(old) : .updated(score) }
        if rules.contains(.onlyNew) { return .skipped }
        var new = score
        if rules.contains(.increment) {
            new += old
            if new.isNaN { return .notANumber }
        }
        if (rules.contains(.onlyLower) && new >= old) || (rules.contains(.onlyGreater) && new <= old) {
            return .skipped
        }
        return new == old ? .same(new) : .updated(new)
    }

    /// - Returns: whether the member was there.
    /// - Complexity: O(log count)
    package mutating func remove(_ member: UnsafeRawBufferPointer) -> Bool {
        if isLarge { return large.pointee.remove(member) }
        guard let position = list.find(member, from: list.first, skipping: 1) else { return false }
        var list = list
        list.removeRange(from: position, count: 2)
        container.pointer = list.pointer
        return true
    }

    /// - Complexity: O(log count + members)
    package mutating func remove(ranks: Range<Int>) {
        guard !ranks.isEmpty else { return }
        if isLarge { return large.pointee.remove(ranks: ranks) }
        var list = list
        list.removeRange(at: 2 * ranks.lowerBound, count: 2 * ranks.count)
        container.pointer = list.pointer
    }

    // MARK: Encodings

    private mutating func becomeLarge() {
        let list = list
        let large = LargeSortedSet.make(store.unsafelyUnwrapped)
        var position = Listpack.headerBytes
        while let member = list.read(&position), let score = readScore(&position) {
            member.withBytes { large.pointee.insert($0, score: score) }
        }
        container = Container(type: .sortedSet, encoding: .skiplist, pointer: UnsafeMutableRawPointer(large))
        list.destroy()
    }

    /// Makes a listpack of a result that is small enough for one. (zsetConvertToListpackIfNeeded)
    ///
    /// - Complexity: O(limit of a listpack)
    package mutating func compact() {
        let limits = store.unsafelyUnwrapped.pointee.limits
        guard isLarge, count <= limits.sortedSetListpackEntries else { return }
        var bytes = 0
        var longest = 0
        large.pointee.forEach(ranks: 0..<count, isReversed: false) { entry, _ in
            bytes += entry.key.count + doubleBytesMax
            longest = max(longest, entry.key.count)
        }
        guard longest <= limits.sortedSetListpackValueBytes, Listpack.safeToAdd(bytes, to: nil) else { return }
        var list = Listpack.make()
        large.pointee.forEach(ranks: 0..<count, isReversed: false) { entry, score in
            Self.withElement(score) { list.append(Listpack.Element(entry.key), $0) }
        }
        let old = container
        container = Container(type: .sortedSet, encoding: .listpack, pointer: list.pointer)
        old.destroy()
    }

    // MARK: Listpacks

    /// The member behind one, and the one before it.
    private func next(after member: Int) -> Int? {
        guard let score = list.next(after: member) else { return nil }
        return list.next(after: score)
    }

    private func previous(before member: Int) -> Int? {
        guard let score = list.previous(before: member) else { return nil }
        return list.previous(before: score)
    }

    private var lastMember: Int? {
        guard let score = list.last else { return nil }
        return list.previous(before: score)
    }

    @inline(__always)
    private func score(behind member: Int) -> Double {
        guard let position = list.next(after: member) else { return 0 }
        return Self.score(list.value(at: position))
    }

    @inline(__always)
    private func readScore(_ position: inout Int) -> Double? { list.read(&position).map(Self.score) }

    /// What is stored for a score in a listpack or ziplist.
    package static func score(_ value: StringView) -> Double {
        switch value {
        case .integer(let integer): return Double(integer)
        case .bytes(let bytes): return score(bytes)
        }
    }

    /// What C's strtod makes of a text, which may come from a payload of RESTORE. (zzlStrtod)
    private static func score(_ text: UnsafeRawBufferPointer) -> Double {
        if text.count <= 16, let score = parseDouble(text) { return score }
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { copy in
            let count = min(text.count, 127)
            if let source = text.baseAddress {
                UnsafeMutableRawPointer(copy.baseAddress.unsafelyUnwrapped).copyMemory(from: source, byteCount: count)
            }
            copy[count] = 0
            let score = strtod(copy.baseAddress.unsafelyUnwrapped, nil)
            return score.isNaN ? 0 : score
        }
    }

    private func withMember(at position: Int, _ body: (UnsafeRawBufferPointer) -> Bool) -> Bool {
        list.value(at: position).withBytes(body)
    }

    /// A score as a listpack has it: an integer if it is one. (zzlInsertAt, double2ll)
    private static func withElement(_ score: Double, _ body: (Listpack.Element) -> Void) {
        if score.magnitude <= 0x1p62, score == score.rounded(.towardZero) {
            return body(Listpack.Element(integer: Int64(score)))
        }
        withUnsafeTemporaryAllocation(byteCount: doubleBytesMax, alignment: 8) { text in
            let count = formatDouble17(score, to: text.baseAddress.unsafelyUnwrapped)
            body(Listpack.Element(UnsafeRawBufferPointer(start: text.baseAddress, count: count)))
        }
    }

    /// - Precondition: the list has no such member.
    private static func insert(_ member: UnsafeRawBufferPointer, score: Double, into list: inout Listpack) {
        let position = insertionPosition(of: member, score: score, in: list)
        withElement(score) { element in
            let member = Listpack.Element(member)
            if let position { list.insert(member, element, before: position) } else { list.append(member, element) }
        }
    }

    /// The first member that belongs behind a new one; nil if there is none.
    private static func insertionPosition(
        of member: UnsafeRawBufferPointer, score: Double, in list: Listpack
    ) -> Int? {
        func isBehind(_ other: StringView, _ otherScore: Double) -> Bool {
            if otherScore != score { return otherScore > score }
            return other.withBytes { compareBytes(member, $0) < 0 }
        }
        // Scores are often times: the greatest comes last.
        guard let lastScore = list.last, let last = list.previous(before: lastScore),
            isBehind(list.value(at: last), self.score(list.value(at: lastScore)))
        else { return nil }
        var position = Listpack.headerBytes
        while true {
            let start = position
            guard let other = list.read(&position), let otherScore = list.read(&position) else { return nil }
            if isBehind(other, self.score(otherScore)) { return start }
        }
    }
}

extension Keyspace {
    /// - Precondition: the entry holds a sorted set.
    package func sortedSet(_ entry: Entry) -> SortedSetValue { SortedSetValue(entry, members) }
}
