import CJemalloc
import MartletBase

// The table of keys: buckets of one cache line, ordered by hash, that grow and shrink a little at a time.
//
// A bucket is 64 bytes: a word of metadata and seven entry pointers. The metadata's first byte says whether the bucket
// is chained; each of the other seven holds the low byte of an entry's hash (1 to 255), or 0 where the place is free. A
// look-up compares all seven with a few word operations and touches an entry only if its byte matches, so it costs one
// cache miss for the bucket and one for the entry. When a bucket overflows its last pointer leads to a child bucket.
//
// The bucket of a hash is `hash * bucketCount / 2^64`: the table is sorted by hash, and the number of buckets need not be
// a power of two, so a large table grows by a quarter and is never half empty.
//
// Growing and shrinking: new buckets are allocated and the old ones moved in hash order, two for each insertion or
// deletion. Every hash below the moved part lives in the new buckets, every other in the old ones, so a look-up always
// has exactly one place to go. Large bucket arrays are mapped: pages come zeroed when first touched and go back while the
// old array is being moved, so no operation ever handles a whole array.
//
// Scanning goes through the hashes in increasing order; the cursor is the least hash not visited. An entry keeps its hash
// however often the table is resized, so an entry that is there from the first call to the last is always visited, and
// an entry is visited twice only if its bucket is being resized in between. No reversed bits, no two tables to visit.
// Only the upper 50 bits of the hash decide the order: bucket borders are then multiples of 2^14, so a cursor has 14 bits
// free for the slot number.
//
// Credit: one-line buckets with a byte of the hash per entry come from Valkey's hashtable.c.

/// A hash table of ``Entry`` pointers. It does not own the entries.
package struct HashTable: ~Copyable {
    private var buckets: UnsafeMutableRawPointer?
    private(set) var bucketCount = 0
    /// The buckets being moved; nil unless a resize is under way.
    private var oldBuckets: UnsafeMutableRawPointer?
    private var oldBucketCount = 0
    /// Old buckets below this index have been moved.
    private(set) var moved = 0
    package private(set) var count = 0
    /// Buckets that others lead to.
    private var childCount = 0

    static let bucketBytes = 64
    private static let entriesPerBucket = 7
    private static let chained: UInt64 = 1
    /// The bits of a hash that decide the order.
    static let orderMask: UInt64 = ~0x3FFF
    /// Average entries per bucket at which the table grows; beyond it too many buckets have a child.
    private static let entriesPerBucketMax = 6
    /// What an entry's place costs in a well filled table.
    package static let bytesPerEntry = bucketBytes / entriesPerBucketMax
    /// Tables of this many buckets and more grow by a quarter instead of doubling.
    private static let slowGrowthBuckets = 32768
    private static let bucketsMovedPerStep = 2

    package init() {}

    /// Entries that the bucket arrays have places for, children not counted.
    package var placeCount: Int { (bucketCount + oldBucketCount) * Self.entriesPerBucket }

    /// Bytes of all buckets.
    package var tableBytes: Int {
        (bucketCount + oldBucketCount + childCount) * Self.bucketBytes - releasedBytes
    }

    /// The beginning of the old array that has been given back already.
    private var releasedBytes: Int {
        guard oldBucketCount * Self.bucketBytes >= Memory.mappedBytesMin else { return 0 }
        return moved * Self.bucketBytes / Self.releaseBytes * Self.releaseBytes
    }

    // MARK: Find

    @inline(__always) private static func index(_ hash: UInt64, of count: Int) -> Int {
        Int(truncatingIfNeeded: (hash & orderMask).multipliedFullWidth(by: UInt64(truncatingIfNeeded: count)).high)
    }

    @inline(__always) private static func tag(_ hash: UInt64) -> UInt64 {
        let byte = hash & 0xFF
        return byte == 0 ? 1 : byte
    }

    @inline(__always) private func bucket(of hash: UInt64) -> UnsafeMutableRawPointer? {
        if let oldBuckets {
            let index = Self.index(hash, of: oldBucketCount)
            if index >= moved { return oldBuckets + index &* Self.bucketBytes }
        }
        guard let buckets else { return nil }
        return buckets + Self.index(hash, of: bucketCount) &* Self.bucketBytes
    }

    /// The address of the bucket that a look-up will read first, for prefetching.
    @inline(__always) package func bucketAddress(of hash: UInt64) -> UnsafeRawPointer? {
        bucket(of: hash).map { UnsafeRawPointer($0) }
    }

    /// Asks for the first entry whose tag matches, and for the cache line behind it, which mostly holds the value. To be
    /// called when the bucket has been asked for: many misses are then under way at a time instead of one after another.
    @inline(__always) package func prefetchEntry(of hash: UInt64) {
        guard let bucket = bucket(of: hash) else { return }
        let metadata = bucket.load(as: UInt64.self)
        let difference = metadata ^ (Self.tag(hash) &* 0x0101_0101_0101_0100)
        let candidates = (difference &- 0x0101_0101_0101_0101) & ~difference & 0x8080_8080_8080_8000
        if candidates == 0 { return }
        // Perhaps a free place: what lies there is no address then, which a prefetch does not mind.
        let bits = (bucket + (candidates.trailingZeroBitCount &>> 3) &* 8).load(as: UInt.self)
        guard let entry = UnsafeRawPointer(bitPattern: bits) else { return }
        prefetch(entry)
        prefetch(entry + 64)
    }

    /// The place that holds the entry of a key, or nil.
    ///
    /// - Complexity: O(1) on average.
    @inline(__always)
    func place(of key: UnsafeRawBufferPointer, hash: UInt64) -> UnsafeMutablePointer<Entry>? {
        guard var bucket = bucket(of: hash) else { return nil }
        let tag = Self.tag(hash)
        let pattern = tag &* 0x0101_0101_0101_0100
        while true {
            let metadata = bucket.load(as: UInt64.self)
            let difference = metadata ^ pattern
            // High bit set in every byte that is zero, and perhaps in a few that are not: keys are compared anyway.
            var candidates = (difference &- 0x0101_0101_0101_0101) & ~difference & 0x8080_8080_8080_8000
            while candidates != 0 {
                let offset = candidates.trailingZeroBitCount &>> 3
                let place = (bucket + offset &* 8).assumingMemoryBound(to: Entry.self)
                // A false candidate may be a free place or the link to the child.
                if metadata &>> (UInt64(offset) &* 8) & 0xFF == tag, place.pointee.hasKey(key) {
                    return place
                }
                candidates &= candidates &- 1
            }
            guard metadata & Self.chained != 0 else { return nil }
            bucket = (bucket + 56).load(as: UnsafeMutableRawPointer.self)
        }
    }

    @inline(__always)
    func find(_ key: UnsafeRawBufferPointer, hash: UInt64) -> Entry? {
        place(of: key, hash: hash)?.pointee
    }

    // MARK: Insert and remove

    /// Adds an entry. - Precondition: its key is not in the table.
    ///
    /// - Complexity: O(1) amortized; never more than a bounded number of buckets is moved.
    mutating func insert(_ entry: Entry, hash: UInt64, seed: HashSeed) {
        step(seed)
        growIfNeeded(seed)
        if Self.add(entry, tag: Self.tag(hash), to: bucket(of: hash).unsafelyUnwrapped) { childCount &+= 1 }
        count &+= 1
    }

    /// - Returns: whether a bucket had to be added.
    private static func add(_ entry: Entry, tag: UInt64, to first: UnsafeMutableRawPointer) -> Bool {
        var bucket = first
        var hasNewChild = false
        while true {
            let metadata = bucket.load(as: UInt64.self)
            let isChained = metadata & chained != 0
            // Free places are zero bytes; the link of a chained bucket is not free.
            let occupied = metadata | 0xFF | (isChained ? 0xFF00_0000_0000_0000 : 0)
            let free = (occupied &- 0x0101_0101_0101_0101) & ~occupied & 0x8080_8080_8080_8000
            if free != 0 {
                let offset = free.trailingZeroBitCount &>> 3
                (bucket + offset &* 8).storeBytes(of: entry, as: Entry.self)
                bucket.storeBytes(of: metadata | tag &<< (UInt64(offset) &* 8), as: UInt64.self)
                return hasNewChild
            }
            if isChained {
                bucket = (bucket + 56).load(as: UnsafeMutableRawPointer.self)
                continue
            }
            // Full: the last entry makes room for the link.
            let child = Memory.allocateZeroedLines(bucketBytes)
            child.storeBytes(of: (metadata &>> 56) &<< 8, as: UInt64.self)
            (child + 8).storeBytes(of: (bucket + 56).load(as: Entry.self), as: Entry.self)
            (bucket + 56).storeBytes(of: child, as: UnsafeMutableRawPointer.self)
            bucket.storeBytes(of: (metadata & 0x00FF_FFFF_FFFF_FFFF) | chained, as: UInt64.self)
            bucket = child
            hasNewChild = true
        }
    }

    /// Takes the entry of a key out of the table. - Complexity: O(1) amortized.
    mutating func remove(_ key: UnsafeRawBufferPointer, hash: UInt64, seed: HashSeed) -> Entry? {
        guard let place = place(of: key, hash: hash) else { return nil }
        let entry = place.pointee
        remove(at: place, hash: hash, seed: seed)
        return entry
    }

    /// Takes an entry out of its place. - Parameter hash: of its key.
    mutating func remove(at place: UnsafeMutablePointer<Entry>, hash: UInt64, seed: HashSeed) {
        vacate(place, in: bucket(of: hash).unsafelyUnwrapped)
        count &-= 1
        if count == 0 {
            freeBuckets()
        } else {
            step(seed)
            shrinkIfNeeded(seed)
        }
    }

    /// Frees a place and fills it with the last entry of the chain, so that only the last bucket of a chain has gaps.
    private mutating func vacate(_ place: UnsafeMutablePointer<Entry>, in first: UnsafeMutableRawPointer) {
        let address = UnsafeMutableRawPointer(place)
        var parent: UnsafeMutableRawPointer?
        var bucket = first
        while !(address > bucket && address < bucket + Self.bucketBytes) {
            parent = bucket
            bucket = (bucket + 56).load(as: UnsafeMutableRawPointer.self)
        }
        let shift = UInt64((address - bucket) &>> 3) &* 8
        var last = bucket
        while last.load(as: UInt64.self) & Self.chained != 0 {
            parent = last
            last = (last + 56).load(as: UnsafeMutableRawPointer.self)
        }
        let metadata = bucket.load(as: UInt64.self) & ~(0xFF &<< shift)
        guard let parent else {
            bucket.storeBytes(of: metadata, as: UInt64.self)
            return
        }
        let lastMetadata = last.load(as: UInt64.self)
        let offset = (63 - (lastMetadata & ~0xFF).leadingZeroBitCount) >> 3
        let lastTag = lastMetadata &>> (UInt64(offset) &* 8) & 0xFF
        place.pointee = (last + offset &* 8).load(as: Entry.self)
        bucket.storeBytes(of: metadata | lastTag &<< shift, as: UInt64.self)
        let rest = last.load(as: UInt64.self) & ~(0xFF &<< (UInt64(offset) &* 8))
        last.storeBytes(of: rest, as: UInt64.self)
        if rest & ~0xFF == 0 {
            Memory.freeLines(last, Self.bucketBytes)
            childCount &-= 1
            parent.storeBytes(of: parent.load(as: UInt64.self) & ~Self.chained & 0x00FF_FFFF_FFFF_FFFF, as: UInt64.self)
        }
    }

    // MARK: Resize

    private mutating func growIfNeeded(_ seed: HashSeed) {
        if oldBuckets != nil { return }
        if bucketCount == 0 {
            buckets = Memory.allocateZeroedLines(Self.bucketBytes)
            bucketCount = 1
        } else if count >= (bucketCount == 1 ? Self.entriesPerBucket : bucketCount &* Self.entriesPerBucketMax) {
            let slow = bucketCount >= Self.slowGrowthBuckets
            resize(to: slow ? bucketCount + bucketCount / 4 : bucketCount * 2, seed)
        }
    }

    private mutating func shrinkIfNeeded(_ seed: HashSeed) {
        if oldBuckets != nil || count * 3 >= bucketCount * 2 || bucketCount < 2 { return }
        resize(to: max(1, (bucketCount + 2) / 3), seed)
    }

    private mutating func resize(to newCount: Int, _ seed: HashSeed) {
        oldBuckets = buckets
        oldBucketCount = bucketCount
        moved = 0
        buckets = Memory.allocateZeroedLines(newCount * Self.bucketBytes)
        bucketCount = newCount
        // A small table is moved at once: cheaper than a branch in every later look-up.
        if oldBucketCount <= 16 { while oldBuckets != nil { step(seed) } }
    }

    /// Goes on with a resize for at most `maxBuckets` old buckets. - Returns: whether there is more to do.
    package mutating func continueResize(maxBuckets: Int, seed: HashSeed) -> Bool {
        var done = 0
        while oldBuckets != nil, done < maxBuckets {
            step(seed)
            done += Self.bucketsMovedPerStep
        }
        return oldBuckets != nil
    }

    @inline(__always)
    private mutating func step(_ seed: HashSeed) {
        if oldBuckets != nil { moveBuckets(seed) }
    }

    @inline(never)
    private mutating func moveBuckets(_ seed: HashSeed) {
        guard let oldBuckets, let buckets else { return }
        for _ in 0..<Self.bucketsMovedPerStep where moved < oldBucketCount {
            if moved + 4 < oldBucketCount { Self.prefetchEntries(oldBuckets + (moved + 4) * Self.bucketBytes) }
            var added = 0
            let freed = Self.consumeChain(oldBuckets + moved * Self.bucketBytes) { entry in
                let hash = sipHash13(entry.key, seed: seed)
                let bucket = buckets + Self.index(hash, of: bucketCount) * Self.bucketBytes
                if Self.add(entry, tag: Self.tag(hash), to: bucket) { added += 1 }
            }
            childCount += added - freed
            moved += 1
            releaseMovedPages(oldBuckets)
        }
        if moved == oldBucketCount { freeOldBuckets() }
    }

    private static let releaseBytes = 256 * 1024

    /// Mapped arrays are given back in pieces as they are moved.
    private func releaseMovedPages(_ oldBuckets: UnsafeMutableRawPointer) {
        let bytes = oldBucketCount * Self.bucketBytes
        let done = moved * Self.bucketBytes
        guard bytes >= Memory.mappedBytesMin, done % Self.releaseBytes == 0 else { return }
        Memory.unmap(oldBuckets + done - Self.releaseBytes, Self.releaseBytes)
    }

    private static func prefetchEntries(_ bucket: UnsafeMutableRawPointer) {
        let metadata = bucket.load(as: UInt64.self)
        for offset in 1...7 where metadata &>> UInt64(offset * 8) & 0xFF != 0 {
            prefetch((bucket + offset * 8).load(as: UnsafeRawPointer.self))
        }
    }

    // MARK: Scan

    /// Visits the bucket at a position in hash order.
    ///
    /// - Returns: the next position, or nil after the last bucket.
    /// - Complexity: O(entries in the bucket)
    package func scan(from position: UInt64, _ visit: (Entry) -> Void) -> UInt64? {
        guard count > 0, let bucket = bucket(of: position) else { return nil }
        let next = nextPosition(after: position)
        // Whoever scans goes on, mostly: then the entries of the next bucket are there.
        if let next, let following = self.bucket(of: next) { Self.prefetchEntries(following) }
        Self.forEachEntry(from: bucket, visit)
        return next
    }

    private static func forEachEntry(from first: UnsafeMutableRawPointer, _ visit: (Entry) -> Void) {
        var bucket = first
        while true {
            let metadata = bucket.load(as: UInt64.self)
            for offset in 1...7 where metadata &>> UInt64(offset * 8) & 0xFF != 0 {
                visit((bucket + offset * 8).load(as: Entry.self))
            }
            guard metadata & chained != 0 else { return }
            bucket = (bucket + 56).load(as: UnsafeMutableRawPointer.self)
        }
    }

    /// Visits every entry and frees the children; the first bucket stays as it is. - Returns: how many were freed.
    @inline(__always)
    private static func consumeChain(_ first: UnsafeMutableRawPointer, _ visit: (Entry) -> Void) -> Int {
        var bucket = first
        var freed = 0
        while true {
            let metadata = bucket.load(as: UInt64.self)
            for offset in 1...7 where metadata &>> UInt64(offset * 8) & 0xFF != 0 {
                visit((bucket + offset * 8).load(as: Entry.self))
            }
            let next = metadata & chained != 0 ? (bucket + 56).load(as: UnsafeMutableRawPointer.self) : nil
            if bucket != first {
                Memory.freeLines(bucket, bucketBytes)
                freed += 1
            }
            guard let next else { return freed }
            bucket = next
        }
    }

    /// The least position whose bucket lies behind the bucket of `position`.
    private func nextPosition(after position: UInt64) -> UInt64? {
        if oldBuckets != nil {
            let oldIndex = Self.index(position, of: oldBucketCount)
            if oldIndex >= moved { return Self.start(of: oldIndex + 1, oldBucketCount) }
            // A new bucket may reach into the part that is not moved yet: that part is still in the old buckets.
            let border = Self.start(of: moved, oldBucketCount)
            let end = Self.start(of: Self.index(position, of: bucketCount) + 1, bucketCount)
            guard let border else { return end }
            guard let end else { return border }
            return min(border, end)
        }
        return Self.start(of: Self.index(position, of: bucketCount) + 1, bucketCount)
    }

    /// The least position in a bucket, nil past the last one: the least multiple of 2^14 not below index * 2^64 / count.
    private static func start(of index: Int, _ count: Int) -> UInt64? {
        guard index < count else { return nil }
        if index == 0 { return 0 }
        let (quotient, remainder) = UInt64(count).dividingFullWidth((UInt64(index), 0))
        let (exact, overflow) = quotient.addingReportingOverflow(remainder == 0 ? 0 : 1)
        if overflow { return nil }
        let (rounded, tooFar) = exact.addingReportingOverflow(~orderMask)
        return tooFar ? nil : rounded & orderMask
    }

    /// Draws count on no chain having more entries than this; what lies behind in one that has more shares their chance.
    private static let drawnPlaces = 12

    /// Any of the entries, each with the same chance up to the rare long chain.
    ///
    /// A random place of a random bucket is drawn until there is an entry at it. While a resize is under way buckets are
    /// of two widths: the wider have as many places more.
    ///
    /// - Complexity: O(1) expected, O(buckets) in a table that was emptied and is shrinking.
    package func randomEntry(_ random: inout PRNG) -> Entry? {
        guard count > 0 else { return nil }
        if bucketCount == 1, oldBuckets == nil, let buckets, buckets.load(as: UInt64.self) & Self.chained == 0 {
            return Self.entry(random.below(count), from: buckets)
        }
        let narrowest = max(bucketCount, oldBucketCount)
        for _ in 0..<128 {
            let position = random.next() & Self.orderMask
            guard let bucket = bucket(of: position) else { return nil }
            let isOld = oldBuckets != nil && Self.index(position, of: oldBucketCount) >= moved
            let places = Self.drawnPlaces * narrowest / (isOld ? oldBucketCount : bucketCount)
            let chainCount = Self.entryCount(from: bucket)
            let place = random.below(max(places, chainCount))
            if place < chainCount { return Self.entry(place, from: bucket) }
        }
        var position: UInt64? = random.next() & Self.orderMask
        for _ in 0..<2 {
            while let current = position {
                var chosen: Entry?
                position = scan(from: current) { chosen = $0 }
                if let chosen { return chosen }
            }
            position = 0
        }
        return nil
    }

    private static func usedPlaces(_ metadata: UInt64) -> UInt64 {
        // The high bit of each byte but the first that is not zero.
        let low: UInt64 = 0x7F7F_7F7F_7F7F_7F7F
        return ((metadata & low) &+ low | metadata) & ~low & ~0xFF
    }

    /// How many entries a chain has. - Complexity: O(buckets of the chain)
    private static func entryCount(from first: UnsafeMutableRawPointer) -> Int {
        var bucket = first
        var count = 0
        while true {
            let metadata = bucket.load(as: UInt64.self)
            count &+= usedPlaces(metadata).nonzeroBitCount
            guard metadata & chained != 0 else { return count }
            bucket = (bucket + 56).load(as: UnsafeMutableRawPointer.self)
        }
    }

    /// The entry of a chain at a rank. - Precondition: the chain has so many.
    private static func entry(_ rank: Int, from first: UnsafeMutableRawPointer) -> Entry {
        var bucket = first
        var rank = rank
        while true {
            let metadata = bucket.load(as: UInt64.self)
            var used = usedPlaces(metadata)
            let count = used.nonzeroBitCount
            if rank < count {
                while rank > 0 {
                    used &= used &- 1
                    rank &-= 1
                }
                return (bucket + (used.trailingZeroBitCount &>> 3) &* 8).load(as: Entry.self)
            }
            rank &-= count
            bucket = (bucket + 56).load(as: UnsafeMutableRawPointer.self)
        }
    }

    // MARK: End of life

    /// Hands every entry to `free` and drops all buckets. - Complexity: O(buckets + entries)
    mutating func removeAll(_ free: (Entry) -> Void) {
        drop(buckets, from: 0, to: bucketCount, free)
        drop(oldBuckets, from: moved, to: oldBucketCount, free)
        freeBuckets()
        count = 0
        childCount = 0
    }

    /// Hands the entries of some buckets to `free`, for a table that nobody uses any more. Bucket arrays that are mapped go
    /// back piece by piece, so that no call handles a whole one.
    ///
    /// - Parameters:
    ///   - position: 0 at first; then what the last call left.
    ///   - limit: buckets at most.
    /// - Returns: true when all entries were handed out and the arrays are gone.
    mutating func drain(from position: inout Int, limit: Int, _ free: (Entry) -> Void) -> Bool {
        var left = limit
        while left > 0, let oldBuckets {
            _ = Self.consumeChain(oldBuckets + moved * Self.bucketBytes, free)
            moved += 1
            left -= 1
            releaseMovedPages(oldBuckets)
            if moved == oldBucketCount { freeOldBuckets() }
        }
        let bytes = bucketCount * Self.bucketBytes
        let isMapped = bytes >= Memory.mappedBytesMin
        while left > 0, oldBuckets == nil, let buckets, position < bucketCount {
            _ = Self.consumeChain(buckets + position * Self.bucketBytes, free)
            position += 1
            left -= 1
            let done = position * Self.bucketBytes
            if isMapped, done % Self.releaseBytes == 0 {
                Memory.unmap(buckets + done - Self.releaseBytes, Self.releaseBytes)
            }
        }
        guard oldBuckets == nil, position == bucketCount else { return false }
        if let buckets {
            let released = isMapped ? bytes / Self.releaseBytes * Self.releaseBytes : 0
            if !isMapped {
                Memory.freeLines(buckets, bytes)
            } else if released < bytes {
                Memory.unmap(buckets + released, bytes - released)
            }
        }
        buckets = nil
        bucketCount = 0
        count = 0
        childCount = 0
        return true
    }

    /// Gives the arrays back. - Precondition: no bucket that has not been moved has a child.
    private mutating func freeBuckets() {
        if let buckets { Memory.freeLines(buckets, bucketCount * Self.bucketBytes) }
        buckets = nil
        bucketCount = 0
        freeOldBuckets()
    }

    private mutating func freeOldBuckets() {
        guard let oldBuckets else { return }
        let bytes = oldBucketCount * Self.bucketBytes
        if bytes >= Memory.mappedBytesMin {
            let released = releasedBytes
            if released < bytes { Memory.unmap(oldBuckets + released, bytes - released) }
        } else {
            Memory.freeLines(oldBuckets, bytes)
        }
        self.oldBuckets = nil
        oldBucketCount = 0
        moved = 0
    }

    private func drop(
        _ buckets: UnsafeMutableRawPointer?, from first: Int, to end: Int, _ free: (Entry) -> Void
    ) {
        guard let buckets else { return }
        for index in first..<end { _ = Self.consumeChain(buckets + index * Self.bucketBytes, free) }
    }

    /// Checks every structural rule. For tests and DEBUG. - Complexity: O(buckets + entries)
    package func invariants(seed: HashSeed) {
        var (seen, children) = (0, 0)
        for index in 0..<bucketCount {
            let chain = Self.chainInvariants(buckets.unsafelyUnwrapped + index * Self.bucketBytes)
            (seen, children) = (seen + chain.entries, children + chain.children)
        }
        for index in moved..<oldBucketCount {
            let chain = Self.chainInvariants(oldBuckets.unsafelyUnwrapped + index * Self.bucketBytes)
            (seen, children) = (seen + chain.entries, children + chain.children)
        }
        precondition(seen == count, "count agrees with the buckets")
        precondition(children == childCount, "children are counted")
        precondition(count > 0 || bucketCount == 0, "an empty table has no buckets")
        var position: UInt64? = count == 0 ? nil : 0
        while let current = position {
            position = scan(from: current) { entry in
                let hash = sipHash13(entry.key, seed: seed)
                precondition(bucket(of: hash) == bucket(of: current), "entry in the bucket of its hash")
                precondition(find(entry.key, hash: hash) == entry, "every entry can be found")
                seen -= 1
            }
            if let position { precondition(position > current, "positions go up") }
        }
        precondition(seen == 0, "a walk in hash order sees every entry")
    }

    /// - Returns: what the chain holds.
    private static func chainInvariants(_ first: UnsafeMutableRawPointer) -> (entries: Int, children: Int) {
        var (entries, children) = (0, 0)
        var bucket = first
        while true {
            let metadata = bucket.load(as: UInt64.self)
            let isChained = metadata & chained != 0
            let used = (1...7).count { metadata >> UInt64($0 * 8) & 0xFF != 0 }
            entries += used
            if isChained {
                precondition(used == 6 && metadata >> 56 == 0, "only the last bucket of a chain has gaps")
                bucket = (bucket + 56).load(as: UnsafeMutableRawPointer.self)
                children += 1
            } else {
                precondition(bucket == first || used > 0, "no child is empty")
                return (entries, children)
            }
        }
    }
}

/// Asks the processor for a cache line that will be read soon.
@inline(__always)
package func prefetch(_ address: UnsafeRawPointer) { martlet_prefetch(address) }
