import MartletBase

// Sets.
//
// Integers alone are an intset, up to `set-max-intset-entries` of them. A few short strings are a listpack (as in
// Redis 7.2; what Redis 7.0 calls a hashtable then, and so do we). All else is a table of members that are entries
// without a value. A set never goes back to a smaller encoding, so that it behaves as in Redis: a set that was once more
// than an intset stays that.

/// The members of a set: those of a key, or those of a result that no key has yet.
///
/// A view: a change may move the container, and whoever owns it takes it from here afterwards.
package struct SetMembers {
    package private(set) var container: Container
    let store: MemberStorePointer

    init(_ container: Container, _ store: MemberStorePointer) {
        self.container = container
        self.store = store
    }

    /// An empty set that belongs to the caller: of integers, until something else comes.
    package init(_ store: MemberStorePointer) {
        self.init(Container(type: .set, encoding: .intset, pointer: IntSet.make().pointer), store)
    }

    /// An empty set that belongs to the caller, in the encoding that fits its first member. (setTypeCreate)
    package init(for first: UnsafeRawBufferPointer, _ store: MemberStorePointer) {
        if parseInt64(first) != nil {
            self.init(store)
        } else if Self.fitsListpack(first, count: 0, store) {
            self.init(Container(type: .set, encoding: .listpack, pointer: Listpack.make().pointer), store)
        } else {
            self.init(Container(type: .set, encoding: .hashtable, pointer: MemberTable.make(store)), store)
        }
    }

    /// A set that consists of these integers, and takes them over.
    package init(_ integers: IntSet, _ store: MemberStorePointer) {
        self.init(Container(type: .set, encoding: .intset, pointer: integers.pointer), store)
        if integers.count > Self.intsetCountMax(store) { leaveIntset(for: nil) }
    }

    // MARK: Encodings

    @inline(__always) private var intset: IntSet { IntSet(container.pointer) }
    @inline(__always) private var listpack: Listpack { Listpack(container.pointer) }
    @inline(__always) private var table: UnsafeMutablePointer<MemberTable> { container.table }

    /// The integers, if there is nothing else in the set.
    package var integers: IntSet? { container.encoding == .intset ? intset : nil }

    /// An intset must stay below 1 GB. (setTypeAdd)
    private static func intsetCountMax(_ store: MemberStorePointer) -> Int {
        min(store.pointee.limits.setIntsetEntries, 1 << 30)
    }

    /// Whether a listpack of `count` members may take one more.
    private static func fitsListpack(
        _ member: UnsafeRawBufferPointer, count: Int, _ store: MemberStorePointer
    ) -> Bool {
        count < store.pointee.limits.setListpackEntries && member.count <= store.pointee.limits.setListpackValueBytes
            && member.count <= listpackValueBytesMax
    }

    /// Whatever is configured: a listpack must stay below 1 GB.
    private static let listpackValueBytesMax = 8192
    private static let listpackBytesMax = Listpack.bytesMax - 2 * listpackValueBytesMax

    /// Goes over to an encoding for more than a few integers. - Parameter next: the member that comes next.
    @inline(never)
    private mutating func leaveIntset(for next: UnsafeRawBufferPointer?) {
        let integers = intset
        let count = integers.count
        let limits = store.pointee.limits
        // Every integer is shorter than that.
        let isSmall =
            limits.setListpackValueBytes >= int64DecimalBytesMax
            && count + (next == nil ? 0 : 1) <= limits.setListpackEntries
        if isSmall, next.map({ Self.fitsListpack($0, count: count, store) }) ?? true {
            var listpack = Listpack.make()
            for index in 0..<count { listpack.append(integer: integers.at(index)) }
            container.pointer = listpack.pointer
            container.encoding = .listpack
        } else {
            let table = MemberTable.make(store)
            for index in 0..<count { StringView.integer(integers.at(index)).withBytes { _ = table.pointee.add($0) } }
            container.pointer = UnsafeMutableRawPointer(table)
            container.encoding = .hashtable
        }
        integers.destroy()
    }

    @inline(never)
    private mutating func leaveListpack() {
        let listpack = listpack
        let table = MemberTable.make(store)
        for member in listpack.values { member.withBytes { _ = table.pointee.add($0) } }
        container.pointer = UnsafeMutableRawPointer(table)
        container.encoding = .hashtable
        listpack.destroy()
    }

    // MARK: Read

    package var count: Int {
        switch container.encoding {
        case .intset: return intset.count
        case .listpack: return listpack.count
        case .hashtable: return table.pointee.count
        default: Container.isNeverMade()
        }
    }

    /// - Complexity: O(1) on average; O(members) of a listpack
    @inline(__always)
    package func contains(_ member: UnsafeRawBufferPointer) -> Bool {
        switch container.encoding {
        case .intset:
            guard let integer = parseInt64(member) else { return false }
            return intset.contains(integer)
        case .listpack: return listpack.find(member, from: listpack.first, skipping: 0) != nil
        case .hashtable: return table.pointee.find(member) != nil
        default: Container.isNeverMade()
        }
    }

    package func contains(_ member: StringView) -> Bool {
        switch member {
        case .bytes(let bytes): return contains(bytes)
        case .integer(let integer):
            if container.encoding == .intset { return intset.contains(integer) }
            return member.withBytes { contains($0) }
        }
    }

    /// Visits the members; see ``Container/forEachMember(_:)``.
    @discardableResult
    @inline(__always)
    package func forEach(_ visit: (StringView) -> Bool) -> Bool { container.forEachMember(visit) }

    /// Any of the members, each with the same chance. - Precondition: the set is not empty.
    ///
    /// - Complexity: O(1) expected; O(members) of a listpack
    package func random(_ random: inout PRNG) -> StringView {
        switch container.encoding {
        case .intset: return .integer(intset.random(&random))
        case .listpack: return listpack.value(at: randomPosition(&random))
        case .hashtable: return .bytes(randomEntry(&random).key)
        default: Container.isNeverMade()
        }
    }

    private func randomPosition(_ random: inout PRNG) -> Int {
        guard let position = listpack.position(at: random.below(listpack.count)) else {
            preconditionFailure("a member of each number")
        }
        return position
    }

    private func randomEntry(_ random: inout PRNG) -> Entry {
        guard let entry = table.pointee.randomEntry(&random) else { preconditionFailure("a set with members") }
        return entry
    }

    /// Visits `count` members, every choice of as many being equally likely, in the order of the set.
    ///
    /// - Precondition: there are as many.
    /// - Complexity: O(members)
    package func forEachOfSample(_ count: Int, _ random: inout PRNG, _ visit: (StringView) -> Void) {
        var wanted = count
        var left = self.count
        forEach { member in
            if random.below(left) < wanted {
                visit(member)
                wanted -= 1
            }
            left -= 1
            return wanted > 0
        }
    }

    // MARK: Change

    /// - Returns: false if it is a member already.
    /// - Complexity: O(1) on average; O(members) of a compact encoding
    @inline(__always)
    package mutating func insert(_ member: UnsafeRawBufferPointer) -> Bool {
        switch container.encoding {
        case .hashtable: return table.pointee.add(member)
        case .intset:
            guard let integer = parseInt64(member) else {
                leaveIntset(for: member)
                return insert(newcomer: member)
            }
            return insert(integer: integer)
        case .listpack:
            if listpack.find(member, from: listpack.first, skipping: 0) != nil { return false }
            return insert(newcomer: member)
        default: Container.isNeverMade()
        }
    }

    package mutating func insert(_ member: StringView) -> Bool {
        switch member {
        case .bytes(let bytes): return insert(bytes)
        case .integer(let integer):
            if container.encoding == .intset { return insert(integer: integer) }
            var copy = self
            let isNew = member.withBytes { copy.insert($0) }
            self = copy
            return isNew
        }
    }

    /// - Precondition: the encoding is intset.
    private mutating func insert(integer: Int64) -> Bool {
        var integers = intset
        guard integers.insert(integer) else { return false }
        container.pointer = integers.pointer
        if integers.count > Self.intsetCountMax(store) { leaveIntset(for: nil) }
        return true
    }

    /// - Precondition: it is no member, and the encoding is not intset.
    @inline(never)
    private mutating func insert(newcomer member: UnsafeRawBufferPointer) -> Bool {
        if container.encoding == .listpack {
            var listpack = listpack
            if Self.fitsListpack(member, count: listpack.count, store), listpack.byteCount < Self.listpackBytesMax {
                listpack.append(member)
                container.pointer = listpack.pointer
                return true
            }
            leaveListpack()
        }
        return table.pointee.add(member)
    }

    /// - Returns: false if it is no member.
    /// - Complexity: O(1) on average; O(members) of a compact encoding
    package mutating func remove(_ member: UnsafeRawBufferPointer) -> Bool {
        switch container.encoding {
        case .hashtable:
            guard let entry = table.pointee.remove(member) else { return false }
            entry.destroy(store.pointee.pool)
            return true
        case .intset:
            guard let integer = parseInt64(member) else { return false }
            return remove(integer: integer)
        case .listpack:
            guard let position = listpack.find(member, from: listpack.first, skipping: 0) else { return false }
            remove(at: position)
            return true
        default: Container.isNeverMade()
        }
    }

    package mutating func remove(_ member: StringView) -> Bool {
        switch member {
        case .bytes(let bytes): return remove(bytes)
        case .integer(let integer):
            if container.encoding == .intset { return remove(integer: integer) }
            var copy = self
            let isGone = member.withBytes { copy.remove($0) }
            self = copy
            return isGone
        }
    }

    private mutating func remove(integer: Int64) -> Bool {
        var integers = intset
        guard integers.remove(integer) else { return false }
        container.pointer = integers.pointer
        return true
    }

    private mutating func remove(at position: Int) {
        var listpack = listpack
        listpack.remove(at: position)
        container.pointer = listpack.pointer
    }

    /// Removes any of the members, each with the same chance, after it was shown. - Precondition: the set is not empty.
    ///
    /// - Complexity: O(1) expected; O(members) of a compact encoding
    @inline(__always)
    package mutating func removeRandom(_ random: inout PRNG, _ show: (StringView) -> Void) {
        switch container.encoding {
        case .intset:
            let integer = intset.random(&random)
            show(.integer(integer))
            _ = remove(integer: integer)
        case .listpack:
            let position = randomPosition(&random)
            show(listpack.value(at: position))
            remove(at: position)
        case .hashtable:
            let entry = randomEntry(&random)
            show(.bytes(entry.key))
            _ = table.pointee.remove(entry.key)
            entry.destroy(store.pointee.pool)
        default: Container.isNeverMade()
        }
    }
}

/// The set of a key.
package struct SetValue {
    package let entry: Entry
    let store: MemberStorePointer

    package var members: SetMembers { SetMembers(entry.container, store) }
    package var count: Int { members.count }

    package func contains(_ member: UnsafeRawBufferPointer) -> Bool { members.contains(member) }

    /// - Returns: false if it is a member already.
    @inline(__always)
    package func insert(_ member: UnsafeRawBufferPointer) -> Bool {
        var members = members
        let isNew = members.insert(member)
        entry.container = members.container
        return isNew
    }

    /// - Returns: false if it is no member.
    package func remove(_ member: UnsafeRawBufferPointer) -> Bool {
        var members = members
        let isGone = members.remove(member)
        entry.container = members.container
        return isGone
    }

    /// Removes any of the members after it was shown. - Precondition: the set is not empty.
    @inline(__always)
    package func removeRandom(_ random: inout PRNG, _ show: (StringView) -> Void) {
        var members = members
        members.removeRandom(&random, show)
        entry.container = members.container
    }

    /// Keeps `count` members, chosen at random. - Precondition: there are more, and `count` is above 0.
    ///
    /// - Returns: the others, in a set that belongs to the caller.
    package func keepRandom(_ count: Int, _ random: inout PRNG) -> SetMembers {
        var others = members
        var kept: SetMembers?
        for _ in 0..<count {
            others.removeRandom(&random) { member in
                var set = kept ?? member.withBytes { SetMembers(for: $0, store) }
                _ = set.insert(member)
                kept = set
            }
        }
        if let kept { entry.container = kept.container }
        return others
    }
}

extension Keyspace {
    /// - Precondition: the entry is a set of the selected database.
    @inline(__always)
    package func setValue(_ entry: Entry) -> SetValue { SetValue(entry: entry, store: members) }
}

extension Container {
    /// Visits the members of a set until `visit` returns false: integers in ascending order, others in no order that means
    /// anything. The set must not be changed meanwhile.
    ///
    /// - Returns: whether all were visited.
    @discardableResult
    @inline(__always)
    package func forEachMember(_ visit: (StringView) -> Bool) -> Bool {
        switch encoding {
        case .intset:
            let integers = IntSet(pointer)
            for index in 0..<integers.count where !visit(.integer(integers.at(index))) { return false }
            return true
        case .listpack:
            for member in Listpack(pointer).values where !visit(member) { return false }
            return true
        case .hashtable:
            var goesOn = true
            var position: UInt64? = 0
            while goesOn, let current = position {
                position = table.pointee.scan(from: current) { entry in
                    if goesOn { goesOn = visit(.bytes(entry.key)) }
                }
            }
            return goesOn
        default: Self.isNeverMade()
        }
    }
}

// MARK: - Several sets

/// The sets that a command names, in its order; nil stands for a missing key, which counts as an empty set.
package typealias SourceSets = UnsafeMutableBufferPointer<SetMembers?>

extension SetMembers {
    /// Whether both are the members of one key.
    private func isSame(as other: SetMembers) -> Bool { container.pointer == other.container.pointer }

    /// Visits what is in all sets, until `visit` returns false. Changes the order of the sets. (sinterGenericCommand)
    ///
    /// - Complexity: O(members of the smallest set × sets)
    package static func forEachInAll(_ sets: SourceSets, _ visit: (StringView) -> Bool) {
        if sets.contains(where: { $0 == nil }) { return }
        // What is not in a small set is found out first.
        var sets = sets
        sets.sort { ($0?.count ?? 0) < ($1?.count ?? 0) }
        guard let smallest = sets.first ?? nil else { return }
        smallest.forEach { member in
            for case let other? in sets.dropFirst() where !other.isSame(as: smallest) {
                if !other.contains(member) { return true }
            }
            return visit(member)
        }
    }

    /// Whether it is less work to take all members of the other sets out of a copy of the first than to look each of its
    /// members up in the others. (sunionDiffGenericCommand: algorithm 2)
    package static func prefersRemoval(_ sets: SourceSets) -> Bool {
        guard let first = sets.first ?? nil else { return false }
        var (lookUps, removals) = (0, 0)
        for case let set? in sets {
            lookUps += first.count
            removals += set.count
        }
        return lookUps / 2 > removals
    }

    /// Visits what is in the first set and in none of the others. May change the order of the others.
    ///
    /// - Complexity: O(members of the first set × sets)
    package static func forEachOnlyInFirst(_ sets: SourceSets, _ visit: (StringView) -> Void) {
        guard let first = sets.first ?? nil else { return }
        var others = SourceSets(rebasing: sets.dropFirst())
        if others.contains(where: { $0?.isSame(as: first) == true }) { return }
        // What is in another set is found out soonest in a large one.
        others.sort { ($0?.count ?? 0) > ($1?.count ?? 0) }
        first.forEach { member in
            for case let other? in others where other.contains(member) { return true }
            visit(member)
            return true
        }
    }

    /// What is in the first set and in none of the others, in a set that belongs to the caller.
    package static func difference(_ sets: SourceSets, _ store: MemberStorePointer) -> SetMembers {
        var result = SetMembers(store)
        guard prefersRemoval(sets), let first = sets.first ?? nil else {
            forEachOnlyInFirst(sets) { _ = result.insert($0) }
            return result
        }
        result.formUnion(first)
        for case let other? in sets.dropFirst() where result.count > 0 {
            other.forEach { member in
                _ = result.remove(member)
                return true
            }
        }
        return result
    }

    /// What is in any of the sets, in a set that belongs to the caller. - Complexity: O(members of all)
    package static func union(_ sets: SourceSets, _ store: MemberStorePointer) -> SetMembers {
        var result = SetMembers(store)
        for case let set? in sets { result.formUnion(set) }
        return result
    }

    /// What is in all sets, in a set that belongs to the caller. Changes the order of the sets.
    package static func intersection(_ sets: SourceSets, _ store: MemberStorePointer) -> SetMembers {
        var result = SetMembers(store)
        forEachInAll(sets) { member in
            _ = result.insert(member)
            return true
        }
        return result
    }

    private mutating func formUnion(_ other: SetMembers) {
        var result = self
        other.forEach { member in
            _ = result.insert(member)
            return true
        }
        self = result
    }
}
