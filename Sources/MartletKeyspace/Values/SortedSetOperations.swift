import MartletBase

// Unions, intersections and differences of sorted sets and sets.
//
// A result is always built as a large set: only the sets of keys are limited in what a listpack can hold. (It has no
// negative zero, for one.) Whoever stores a result calls ``SortedSetValue/compact()``.
//
// Source: zunionInterDiffGenericCommand of Redis 7.0.

/// How the scores that several sets give to one member become one.
package enum ScoreAggregate: Sendable {
    case sum, min, max

    /// The sum of both infinities is 0.
    func combine(_ first: Double, _ second: Double) -> Double {
        switch self {
        case .sum:
            let sum = first + second
            return sum.isNaN ? 0 : sum
        case .min: return second < first ? second : first
        case .max: return second > first ? second : first
        }
    }
}

/// One of the sets that an operation reads.
package struct SortedSetSource {
    private enum Members {
        case none
        case sorted(SortedSetValue)
        /// Each with a score of 1.
        case unsorted(SetMembers)
    }

    private let members: Members
    /// The entry, to tell whether two sources are the same.
    private let entry: Entry?
    package let count: Int
    package var weight = 1.0

    /// - Parameter entry: nil for a missing key.
    /// - Returns: nil if it is neither a sorted set nor a set.
    package init?(_ entry: Entry?, in keyspace: borrowing Keyspace) {
        self.entry = entry
        switch entry?.type {
        case nil:
            members = .none
            count = 0
        case .sortedSet:
            let value = SortedSetValue(entry.unsafelyUnwrapped, keyspace.members)
            members = .sorted(value)
            count = value.count
        case .set:
            let value = keyspace.setValue(entry.unsafelyUnwrapped).members
            members = .unsorted(value)
            count = value.count
        case .string, .list, .hash, .stream: return nil
        }
    }

    func isSame(as other: SortedSetSource) -> Bool { entry != nil && entry == other.entry }

    func score(of member: UnsafeRawBufferPointer) -> Double? {
        switch members {
        case .none: return nil
        case .sorted(let value): return value.score(of: member)
        case .unsorted(let value): return value.contains(member) ? 1 : nil
        }
    }

    /// Visits the members until `visit` returns false.
    func forEach(_ visit: (UnsafeRawBufferPointer, Double) -> Bool) {
        switch members {
        case .none: break
        case .sorted(let value):
            value.forEach { member, score in member.withBytes { visit($0, score) } }
        case .unsorted(let value):
            value.forEach { member in member.withBytes { visit($0, 1) } }
        }
    }

    fileprivate func weighted(_ score: Double) -> Double {
        let product = weight * score
        return product.isNaN ? 0 : product
    }
}

extension SortedSetValue {
    /// The result belongs to the caller. - Complexity: O(members × log members)
    package static func union(
        of sources: [SortedSetSource], _ aggregate: ScoreAggregate, _ store: MemberStorePointer
    ) -> SortedSetValue {
        let result = makeLarge(store)
        let large = result.large
        for source in sources.sorted(by: { $0.count < $1.count }) {
            source.forEach { member, score in
                let score = source.weighted(score)
                if let entry = large.pointee.find(member) {
                    large.pointee.setScoreUnordered(entry, aggregate.combine(entry.score, score))
                } else {
                    large.pointee.insertUnordered(member, score: score)
                }
                return true
            }
        }
        large.pointee.order()
        return result
    }

    /// The result belongs to the caller. - Complexity: O(members of the smallest source × sources)
    package static func intersection(
        of sources: [SortedSetSource], _ aggregate: ScoreAggregate, _ store: MemberStorePointer
    ) -> SortedSetValue {
        let result = makeLarge(store)
        let large = result.large
        // The members of a sorted set come in order, mostly also of the scores that they get.
        forEachCommon(of: sources, aggregate) { member, score in
            large.pointee.insert(member, score: score)
            return true
        }
        return result
    }

    /// How many members the sources have in common. - Parameter limit: where to stop counting; 0 for no limit.
    package static func intersectionCount(of sources: [SortedSetSource], limit: Int) -> Int {
        var count = 0
        forEachCommon(of: sources, .sum) { _, _ in
            count += 1
            return count != limit
        }
        return count
    }

    private static func forEachCommon(
        of sources: [SortedSetSource], _ aggregate: ScoreAggregate, _ visit: (UnsafeRawBufferPointer, Double) -> Bool
    ) {
        let sources = sources.sorted { $0.count < $1.count }
        sources[0].forEach { member, score in
            var combined = sources[0].weighted(score)
            for source in sources.dropFirst() {
                guard let score = source.score(of: member) else { return true }
                combined = aggregate.combine(combined, score * source.weight)
            }
            return visit(member, combined)
        }
    }

    /// What only the first source has. The result belongs to the caller.
    ///
    /// - Complexity: the lesser of O(members of the first source × sources) and O(members of all)
    package static func difference(of sources: [SortedSetSource], _ store: MemberStorePointer) -> SortedSetValue {
        let result = makeLarge(store)
        let large = result.large
        let (first, others) = (sources[0], sources.dropFirst())
        if others.contains(where: first.isSame) { return result }
        let total = sources.reduce(0) { $0 + $1.count }
        if first.count <= 2 * total / sources.count {
            // The larger ones first: they are likelier to have a member.
            let others = others.sorted { $0.count > $1.count }
            first.forEach { member, score in
                if !others.contains(where: { $0.score(of: member) != nil }) {
                    large.pointee.insert(member, score: score)
                }
                return true
            }
        } else {
            first.forEach { member, score in
                large.pointee.insert(member, score: score)
                return true
            }
            for other in others {
                other.forEach { member, _ in
                    _ = large.pointee.remove(member)
                    return large.pointee.count > 0
                }
            }
        }
        return result
    }
}
