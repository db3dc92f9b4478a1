import MartletBase

/// When containers change from a compact encoding to one for many elements. (The `…-max-listpack-…` directives.)
package struct EncodingLimits: Sendable, Equatable {
    package var hashListpackEntries = 512
    package var hashListpackValueBytes = 64
    package var setIntsetEntries = 512
    package var setListpackEntries = 128
    package var setListpackValueBytes = 64
    package var sortedSetListpackEntries = 128
    package var sortedSetListpackValueBytes = 64
    /// Positive: elements of a node; negative: -1 to -5 are 4 to 64 KB.
    package var listListpackSize = -2
    package var hyperLogLogSparseBytes = 3000
    package var streamNodeBytes = 4096
    package var streamNodeEntries = 100

    package init() {}
}

/// What the containers of one database share: the pool that their members are from, the seed of their hashes, and when
/// they change their encoding.
///
/// A member of a set, field of a hash or element of a sorted set is an ``Entry`` as keys are: the member is the entry's
/// key; a field's value is its string and a field's time to live its expiry; an element's score is its integer, bit for
/// bit. So a member costs one small allocation and one place in a ``HashTable``, and SCAN's guarantee comes with the table.
///
/// The pool is apart from that of the keys: a flushed database gives both away as wholes, whatever is in them.
package struct MemberStore: ~Copyable {
    let pool: UnsafeMutablePointer<EntryPool>
    let seed: HashSeed
    package var limits: EncodingLimits

    package init(seed: HashSeed, limits: EncodingLimits) {
        pool = .allocate(capacity: 1)
        pool.initialize(to: EntryPool())
        self.seed = seed
        self.limits = limits
    }

    deinit {
        pool.deinitialize(count: 1)
        pool.deallocate()
    }
}

package typealias MemberStorePointer = UnsafeMutablePointer<MemberStore>
