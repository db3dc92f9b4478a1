import MartletBase

// All data of a node, and the one gate that every change of a key passes.
//
// `willModify` runs before an entry is changed, replaced or removed: it hands the entry to a point-in-time walk that has
// not seen it yet, so that the image is exact. `didModify` runs after a change: it counts the change (which makes the
// dispatcher propagate the command), touches watched keys, wakes clients that wait for the key and records the event for
// those who listen (KeyEvents.swift). Nothing else in the project changes tables.
//
// Expiry: a key is gone as soon as its time has passed, whoever looks. A primary deletes it at that moment and says so in
// the log; a replica hides it and waits for its primary's DEL, so both hold the same data at the same offset.

/// What happens when a look-up meets a key whose time has passed.
package enum ExpiryMode: Sendable {
    /// A primary: delete and propagate.
    case delete
    /// A replica, or writes are paused: as if it were gone, but keep it.
    case hide
    /// Commands of the replication stream: the primary decides.
    case ignore
}

/// What is to become of a key's expiry when its value is replaced.
package enum ExpiryChange: Equatable {
    case remove
    case keep
    /// Unix time in milliseconds.
    case set(Int64)
}

/// How a string value is kept.
package enum StringForm {
    /// A number that reads back the same becomes an integer.
    case shortest
    /// Bytes also when they are a number. (INCRBYFLOAT)
    case text
    /// Reported as `raw`, however short it is. (SETRANGE, BITOP)
    case raw
}

/// The kinds of change that the gate reports.
package enum KeyEvent: UInt8, Sendable {
    case set, append, setRange, setBit, increment, incrementByFloat, delete, expire, persist, expired
    case renameFrom, renameTo, moveFrom, moveTo, copyTo, restore, evicted, new, bitOperation, getDelete
    case hashSet, hashIncrement, hashIncrementByFloat, hashDelete, hashExpire, hashExpired, hashPersist
    case sortedSetAdd, sortedSetIncrement, sortedSetRemove
    case sortedSetRemoveByRank, sortedSetRemoveByScore, sortedSetRemoveByLex, sortedSetPopMin, sortedSetPopMax
    case sortedSetUnionStore, sortedSetIntersectionStore, sortedSetDifferenceStore, sortedSetRangeStore
    case geoSearchStore, geoRadiusStore
    case leftPush, rightPush, leftPop, rightPop, listInsert, listSet, listTrim, listRemove
    case setAdd, setRemove, setPop, setIntersectionStore, setUnionStore, setDifferenceStore
    case hyperLogLogAdd
    /// A change that clients are not told of: PFCOUNT has kept what it computed.
    case unnamed
    case sortStore
    case streamAdd, streamTrim, streamDelete, streamSetID
    case groupCreate, groupSetID, groupDestroy, consumerCreate, consumerDelete
    /// A read of a key that is not there.
    case miss
    /// The whole database was emptied; the key is empty.
    case flush
    /// The slot of the key went to another node.
    case slotLost
}

package struct KeyspaceStatistics: Sendable {
    package var hits = 0
    package var misses = 0
    package var expiredKeys = 0
    package var expiredFields = 0
    /// Estimated share of keys in the volatile index that have expired already, 0…100.
    package var expiredStalePercent = 0.0
    package var expiryCyclesCutShort = 0
    /// Large values that were freed bit by bit after they were deleted.
    package var containersFreedLater = 0
    package init() {}
}

package struct Keyspace: ~Copyable {
    package let databaseCount: Int
    package let isClustered: Bool
    package let seed: HashSeed
    let databases: UnsafeMutablePointer<Database>

    /// The database of the running command's client.
    package var selected = 0
    /// Unix time in milliseconds, read once per turn from the clock that does not jump.
    package var now: Int64 = 0
    /// Unix time in seconds modulo 2^24, stored in entries that are read. (LRU_BITS)
    package var accessClock: UInt32 = 0
    package var expiryMode = ExpiryMode.delete
    /// Changes since the start; `rdb_changes_since_last_save` and propagation go by it.
    package var changes: Int64 = 0
    package var statistics = KeyspaceStatistics()
    package var propagation = PropagationQueue()
    package var random: PRNG
    /// Longest string value in bytes that clients may make: `proto-max-bulk-len`, at most ``stringBytesLimit``.
    package var stringBytesMax = 512 * 1024 * 1024 {
        didSet { stringBytesMax = min(stringBytesMax, Self.stringBytesLimit) }
    }
    /// Longest string value whatever is configured: entries keep lengths in 32 bits. Some room is left for commands that
    /// round the length up.
    package static let stringBytesLimit = Int(UInt32.max) - 64
    /// False while a client with CLIENT NO-TOUCH runs.
    package var recordsAccess = true
    /// A script runs: commands whose replies have no order of their own give them one.
    package var isInScript = false
    /// There may be entries that expire locally.
    var hasLocalExpiries = false
    /// Deleted containers wait to be freed.
    package private(set) var hasRemains = false
    var walk = WalkState()
    var watchedKeys = WatchedKeys()
    var awaitedKeys = AwaitedKeys()
    /// Some keys are watched or awaited, or somebody listens to all changes: they have to be looked at.
    private var isObserved = false
    /// What is recorded of what happens to keys; see KeyEvents.swift.
    package var interest: KeyEventInterest = [] { didSet { updateObservation() } }
    var events = KeyEventQueue()
    /// There are events to take.
    package internal(set) var hasEvents = false
    /// Keys that somebody waits for have changed; see ``takeReadyKey()``.
    package internal(set) var hasReadyKeys = false
    var expiryCursor = ExpiryCursor()
    var fieldExpiryCursor = FieldExpiryCursor()
    var memberPass = MemberPass()

    /// - Parameters:
    ///   - databaseCount: 1 or more; one in cluster mode.
    ///   - seed: keys the hash and seeds the choice of random keys.
    package init(databaseCount: Int, isClustered: Bool, seed: HashSeed) {
        precondition(databaseCount > 0)
        self.databaseCount = databaseCount
        self.isClustered = isClustered
        self.seed = seed
        random = PRNG(seed: seed.k0 ^ seed.k1)
        databases = .allocate(capacity: databaseCount)
        for index in 0..<databaseCount {
            (databases + index).initialize(to: Database(tableCount: isClustered ? HashSlot.count : 1, seed: seed))
        }
    }

    deinit {
        walk.destroyOwned()
        databases.deinitialize(count: databaseCount)
        databases.deallocate()
    }

    // MARK: Keys

    package func hash(_ bytes: UnsafeRawBufferPointer) -> UInt64 { sipHash13(bytes, seed: seed) }

    /// - Parameter slot: the hash slot of the key in cluster mode; ignored otherwise.
    package func key(_ bytes: UnsafeRawBufferPointer, slot: UInt16) -> Key {
        Key(bytes: bytes, hash: hash(bytes), table: isClustered ? Int(slot) : 0)
    }

    /// A key whose slot has not been computed yet.
    package func key(_ bytes: UnsafeRawBufferPointer) -> Key {
        Key(bytes: bytes, hash: hash(bytes), table: isClustered ? HashSlot.of(bytes).index : 0)
    }

    // Mutating, as are other small functions of the hot path, although nothing changes: for a borrowed keyspace that is a
    // part of something larger the compiler makes a copy of it first, 55 instructions a call.

    /// Asks for the cache line that the look-up of a key will read first.
    @inline(__always)
    package mutating func prefetchBucket(database: Int, hash: UInt64, table: Int) {
        if let address = databases[database].tables[table].bucketAddress(of: hash) { prefetch(address) }
    }

    /// Asks for the entry that the look-up will read next. To be called a while after ``prefetchBucket``.
    @inline(__always)
    package mutating func prefetchEntry(database: Int, hash: UInt64, table: Int) {
        databases[database].tables[table].prefetchEntry(of: hash)
    }

    // MARK: Counts

    package func keyCount(database: Int) -> Int { databases[database].keyCount }
    package func volatileCount(database: Int) -> Int { databases[database].volatileCount }
    package func keyCount(slot: HashSlot) -> Int { isClustered ? databases[0].keyCount(inTable: slot.index) : 0 }
    package func tableBytes(database: Int) -> (keys: Int, volatileKeys: Int) { databases[database].tableBytes }

    /// Bytes that the process has allocated and uses: free places in slabs do not count.
    ///
    /// - Complexity: a few microseconds, and O(databases).
    package var usedBytes: Int { Memory.usedBytes - unusedBytes }

    /// Bytes that entries may use without a request to the allocator.
    package var unusedBytes: Int {
        var bytes = 0
        for index in 0..<databaseCount {
            bytes += databases[index].pool.pointee.unusedBytes
            bytes += databases[index].members.pointee.pool.pointee.unusedBytes
        }
        return bytes
    }

    /// Gives free pages back to the system. - Returns: false if the allocator does not want to.
    package mutating func purge() -> Bool {
        for index in 0..<databaseCount {
            databases[index].pool.pointee.trim()
            databases[index].members.pointee.pool.pointee.trim()
        }
        return Memory.purge()
    }

    /// Empties one slab that is worth it: its entries move into others, and it goes back to the allocator.
    ///
    /// - Returns: how many entries were moved; nil if no slab is worth it.
    /// - Complexity: O(slots in a slab)
    package mutating func emptySparseSlab() -> Int? {
        let (databases, isClustered, seed) = (databases, isClustered, seed)
        for index in 0..<databaseCount {
            let pool = databases[index].pool
            guard let slab = pool.pointee.nextSparseSlab() else { continue }
            return EntryPool.empty(pool, slab) { entry in
                let table = isClustered ? HashSlot.of(entry.key).index : 0
                let key = Key(bytes: entry.key, hash: sipHash13(entry.key, seed: seed), table: table)
                databases[index].relocate(entry, key, seed: seed)
            }
        }
        return nil
    }

    /// Places in the tables of keys and of expiring keys. For DEBUG HTSTATS.
    package func placeCounts(database: Int) -> (keys: Int, volatileKeys: Int) {
        var counts = (keys: 0, volatileKeys: 0)
        for table in 0..<databases[database].tableCount {
            counts.keys += databases[database].tables[table].placeCount
            counts.volatileKeys += databases[database].volatileTables[table].placeCount
        }
        return counts
    }

    package var totalKeyCount: Int {
        var total = 0
        for index in 0..<databaseCount { total += databases[index].keyCount }
        return total
    }

    // MARK: Look-up

    /// The entry of a key that a command reads. Counts a hit or miss and notes the access.
    ///
    /// - Complexity: O(1) on average.
    @inline(__always)
    package mutating func lookupRead(_ key: Key) -> Entry? {
        guard let place = databases[selected].place(of: key) else {
            didMiss(key)
            return nil
        }
        let entry = place.pointee
        if entry.isExpired(at: now), isGone(entry, key) {
            didMiss(key)
            return nil
        }
        statistics.hits &+= 1
        if recordsAccess { entry.accessClock = accessClock }
        return entry
    }

    /// The entry of a key that a command is going to change, or only asks about: no hit, no miss.
    package mutating func lookupWrite(_ key: Key) -> Entry? {
        guard let entry = peek(key) else { return nil }
        if recordsAccess { entry.accessClock = accessClock }
        return entry
    }

    /// As ``lookupRead(_:)`` for commands that ask about the key, not for its value: the access is not noted.
    package mutating func lookupReadUntouched(_ key: Key) -> Entry? {
        guard let entry = peek(key) else {
            didMiss(key)
            return nil
        }
        statistics.hits &+= 1
        return entry
    }

    /// The entry of a key without a trace of the access.
    package mutating func peek(_ key: Key) -> Entry? {
        guard let place = databases[selected].place(of: key) else { return nil }
        let entry = place.pointee
        if entry.isExpired(at: now), isGone(entry, key) { return nil }
        return entry
    }

    /// The same, in a database that need not be the selected one.
    package mutating func peek(_ key: Key, database: Int) -> Entry? {
        let previous = selected
        selected = database
        defer { selected = previous }
        return peek(key)
    }

    /// The entry of a key whether its time has passed or not. For DEBUG.
    package func entryEvenIfExpired(_ key: Key) -> Entry? { entryEvenIfExpired(key, database: selected) }

    package func entryEvenIfExpired(_ key: Key, database: Int) -> Entry? {
        databases[database].place(of: key)?.pointee
    }

    /// Whether a key's time has passed, for those who walk over keys and want to leave them as they are.
    package func isExpired(_ entry: Entry) -> Bool { expiryMode != .ignore && entry.isExpired(at: now) }

    /// Deletes an entry that a walk has met if its time has passed and this node decides. - Returns: whether it is over.
    package mutating func expireIfOver(_ entry: Entry) -> Bool {
        guard isExpired(entry) else { return false }
        // The key that was met may be one of many.
        if propagation.isOn { propagation.standsApart = true }
        _ = peek(key(entry.key))
        return true
    }

    /// Decides about a key whose time has passed. - Returns: true if it counts as missing.
    @inline(never)
    private mutating func isGone(_ entry: Entry, _ key: Key) -> Bool {
        switch expiryMode {
        case .ignore: return false
        case .hide: return true
        case .delete:
            expire(entry, key)
            return true
        }
    }

    /// Deletes a key whose time has passed and propagates that.
    private mutating func expire(_ entry: Entry, _ key: Key) {
        willReplace(entry)
        propagation.append(database: selected, StaticString("DEL").bytes, entry.key)
        let removed = databases[selected].remove(key, seed: seed)
        statistics.expiredKeys &+= 1
        didRemove(.expired, key)
        // Last, because the key may be a view into the entry.
        if let removed { dispose(removed, database: selected) }
    }

    // MARK: The gate

    /// Before an entry is changed, replaced or removed.
    @inline(__always)
    package mutating func willModify(_ entry: Entry) {
        if walk.isActive { handToWalk(entry, keepsValue: false) }
    }

    /// Before an entry loses its key or its place, or has another time to live: its value stays as it is.
    @inline(__always)
    private mutating func willReplace(_ entry: Entry) {
        if walk.isActive { handToWalk(entry, keepsValue: true) }
    }

    /// After a change made by a command.
    ///
    /// - Parameter count: as how many changes Redis counts it; with 0 alone it is not propagated.
    @inline(__always)
    package mutating func didModify(_ event: KeyEvent, _ key: Key, changes count: Int = 1) {
        changes &+= Int64(count)
        if isObserved { observe(event, key, database: selected) }
    }

    /// After a change of a stream's groups or of its counters: WATCH does not see it, as in Redis.
    package mutating func didModifyGroups(_ event: KeyEvent, _ key: Key) {
        changes &+= 1
        report(event, key)
    }

    /// The same for a database that need not be the selected one.
    private mutating func didModify(_ event: KeyEvent, _ key: Key, database: Int) {
        changes &+= 1
        if isObserved { observe(event, key, database: database) }
    }

    /// After a change that the node made by itself: it is already in the propagation queue.
    @inline(__always)
    mutating func didRemove(_ event: KeyEvent, _ key: Key) {
        if isObserved { observe(event, key, database: selected) }
    }

    @inline(never)
    private mutating func observe(_ event: KeyEvent, _ key: Key, database: Int) {
        if awaitedKeys.mayAwait(hash: key.hash) { noteAwaited(key, database: database) }
        if !watchedKeys.isEmpty { touchWatched(key, database: database) }
        if interest.contains(.changes) { record(event, key.bytes, database: database, isChange: true) }
    }

    /// To be called when a key is watched or awaited, or no longer is, and when the interest in changes changes.
    mutating func updateObservation() {
        isObserved = !watchedKeys.isEmpty || !awaitedKeys.isEmpty || interest.contains(.changes)
    }

    // MARK: Strings

    /// Longest string in bytes that the running command may make. What our primary has done we do too.
    package var allowedStringBytes: Int { expiryMode == .ignore ? Self.stringBytesLimit : stringBytesMax }

    /// Whether a command may make a string this long. (checkStringLength)
    package func allowsString(bytes count: Int) -> Bool { count <= allowedStringBytes }

    /// Sets a key to a string, whatever it held.
    ///
    /// A value of the old one's length is written in place.
    ///
    /// - Complexity: O(value)
    package mutating func setString(
        _ key: Key, _ value: UnsafeRawBufferPointer, as form: StringForm = .shortest,
        expiry change: ExpiryChange = .remove, event: KeyEvent = .set
    ) {
        // 20 characters hold every Int64. (tryObjectEncoding)
        if value.count <= 20, form == .shortest, let number = parseInt64(value) {
            return setInteger(key, number, expiry: change, event: event)
        }
        let encoding: Encoding = value.count <= Encoding.embeddedBytesMax && form != .raw ? .embedded : .raw
        let place = writePlace(key)
        if let place {
            let old = place.pointee
            if old.isString, !old.isInteger, old.valueCount == value.count, Self.keepsShape(old, change),
                old.isInline || old.block.capacity == value.count
            {
                willModify(old)
                if case .set(let time) = change { storeExpiry(time, old) }
                if value.count > 0 {
                    old.stringStart.copyMemory(from: value.baseAddress.unsafelyUnwrapped, byteCount: value.count)
                }
                old.setEncoding(encoding)
                old.accessClock = accessClock
                didModify(event, key)
                return
            }
        }
        let entry = Entry.string(databases[selected].pool, key: key.bytes, value, expiry: expiry(after: change, place))
        entry.setEncoding(encoding)
        store(entry, at: place, key)
        didModify(event, key)
    }

    /// Sets a key to what is in a block, which belongs to the keyspace from now on. The encoding is `raw`.
    package mutating func setString(_ key: Key, _ block: consuming StringBlock, event: KeyEvent = .set) {
        if block.count <= Entry.inlineBytesMax {
            setString(key, block.contents, as: .raw, event: event)
            block.destroy()
            return
        }
        let place = writePlace(key)
        store(.string(databases[selected].pool, key: key.bytes, block: block, expiry: nil), at: place, key)
        didModify(event, key)
    }

    /// Replaces one integer by another; the expiry stays.
    ///
    /// - Precondition: `entry` is the entry of `key`, and holds an integer.
    @inline(__always)
    package mutating func storeInteger(_ value: Int64, _ entry: Entry, _ key: Key, event: KeyEvent) {
        willModify(entry)
        entry.storeInteger(value)
        didModify(event, key)
    }

    package mutating func setInteger(
        _ key: Key, _ value: Int64, expiry change: ExpiryChange = .remove, event: KeyEvent = .set
    ) {
        let place = writePlace(key)
        if let place {
            let old = place.pointee
            if old.isInteger, Self.keepsShape(old, change) {
                willModify(old)
                if case .set(let time) = change { storeExpiry(time, old) }
                old.storeInteger(value)
                old.accessClock = accessClock
                didModify(event, key)
                return
            }
        }
        let pool = databases[selected].pool
        store(.integer(pool, key: key.bytes, value, expiry: expiry(after: change, place)), at: place, key)
        didModify(event, key)
    }

    /// Whether the entry has a place for the expiry exactly if it will need one.
    @inline(__always)
    private static func keepsShape(_ entry: Entry, _ change: ExpiryChange) -> Bool {
        switch change {
        case .remove: return !entry.hasExpiry
        case .keep: return true
        case .set: return entry.hasExpiry
        }
    }

    private func expiry(after change: ExpiryChange, _ place: UnsafeMutablePointer<Entry>?) -> Int64? {
        switch change {
        case .remove: return nil
        case .keep: return place?.pointee.expiry
        case .set(let time): return time
        }
    }

    /// The place of a key that is about to be written; one that has expired is deleted first.
    @inline(__always)
    private mutating func writePlace(_ key: Key) -> UnsafeMutablePointer<Entry>? {
        guard let place = databases[selected].place(of: key) else { return nil }
        if place.pointee.isExpired(at: now), isGone(place.pointee, key) {
            return databases[selected].place(of: key)
        }
        return place
    }

    private mutating func storeExpiry(_ time: Int64, _ entry: Entry) {
        entry.storeExpiry(time)
        if expiryMode == .hide { noteLocalExpiry(entry) }
    }

    /// Remembers a key that a client of a writable replica lets expire: active expiry has to delete it.
    private mutating func noteLocalExpiry(_ entry: Entry) {
        entry.setExpiresLocally()
        hasLocalExpiries = true
    }

    /// Puts a new entry into the table, in place of an old one if there is one.
    private mutating func store(_ entry: Entry, at place: UnsafeMutablePointer<Entry>?, _ key: Key) {
        entry.accessClock = accessClock
        entry.walkVersion = walk.version
        if entry.hasExpiry, expiryMode == .hide { noteLocalExpiry(entry) }
        guard let place else {
            databases[selected].insert(entry, key, seed: seed)
            didAdd(key, database: selected)
            return
        }
        let old = place.pointee
        willReplace(old)
        databases[selected].replace(place, with: entry, oldHadExpiry: old.hasExpiry, key, seed: seed)
        dispose(old, database: selected)
    }

    /// The bytes of a string value, open for writing, after its length was set to `count`; new bytes are zero. The
    /// encoding becomes `raw`.
    ///
    /// A missing key becomes a string. The caller writes, then calls ``didModify(_:_:)`` if anything changed.
    ///
    /// - Parameter entry: what ``lookupWrite(_:)`` found for the key.
    /// - Precondition: `entry` is nil or a string that is no longer than `count`.
    /// - Complexity: O(value) when the value has to move, else O(new bytes).
    package mutating func openString(_ key: Key, _ entry: Entry?, count: Int) -> UnsafeMutableRawPointer {
        guard let old = entry else {
            let block = StringBlock(count: count)
            block.bytes.initializeMemory(as: UInt8.self, repeating: 0, count: count)
            let place = writePlace(key)
            store(.string(databases[selected].pool, key: key.bytes, block: block, expiry: nil), at: place, key)
            return block.bytes
        }
        precondition(old.isString)
        let used = old.stringCount
        precondition(count >= used)
        if !old.isInteger, !old.isInline {
            willModify(old)
            var block = old.block
            if count > used {
                if count > block.capacity {
                    block = block.grown(to: count)
                    old.storeBlock(block)
                }
                block.setCount(count)
                (block.bytes + used).initializeMemory(as: UInt8.self, repeating: 0, count: count - used)
            }
            old.setEncoding(.raw)
            return block.bytes
        }
        let block = StringBlock(count: count, spare: count > used ? StringBlock.growth(count) : 0)
        switch old.string {
        case .bytes(let bytes):
            if let base = bytes.baseAddress { block.bytes.copyMemory(from: base, byteCount: used) }
        case .integer(let number):
            writeDecimal(number, to: block.bytes)
        }
        (block.bytes + used).initializeMemory(as: UInt8.self, repeating: 0, count: count - used)
        let place = databases[selected].place(of: key)
        store(.string(databases[selected].pool, key: key.bytes, block: block, expiry: old.expiry), at: place, key)
        return block.bytes
    }

    /// The bytes of a string, to be written over in place. The caller calls ``didModify(_:_:)``.
    ///
    /// - Precondition: `entry` is a string and no integer.
    package mutating func overwriteString(_ entry: Entry) -> UnsafeMutableRawPointer {
        precondition(entry.isString && !entry.isInteger)
        willModify(entry)
        return entry.stringStart
    }

    // MARK: Containers

    /// Where the members of the selected database's containers are from, and when containers change their encoding.
    package var members: MemberStorePointer { databases[selected].members }

    package var encodingLimits: EncodingLimits {
        get { databases[0].members.pointee.limits }
        set { for index in 0..<databaseCount { databases[index].members.pointee.limits = newValue } }
    }

    /// Makes a missing key hold a container. The caller fills it and calls ``didModify(_:_:)``.
    ///
    /// - Precondition: ``lookupWrite(_:)`` has just found nothing; there may be an expired key that a replica hides.
    package mutating func insert(_ key: Key, _ container: Container) -> Entry {
        let entry = Entry.container(databases[selected].pool, key: key.bytes, container, expiry: nil)
        store(entry, at: writePlace(key), key)
        noteFieldExpiry(entry, database: selected)
        return entry
    }

    /// Gives a key a container, whatever it held. Its expiry goes unless `expiry` says otherwise.
    package mutating func set(
        _ key: Key, _ container: Container, expiry change: ExpiryChange = .remove, event: KeyEvent,
        changes count: Int = 1
    ) {
        let place = writePlace(key)
        let entry = Entry.container(
            databases[selected].pool, key: key.bytes, container, expiry: expiry(after: change, place))
        store(entry, at: place, key)
        noteFieldExpiry(entry, database: selected)
        didModify(event, key, changes: count)
    }

    /// Frees a container that belongs to no key: a large one is put aside.
    package mutating func discard(_ container: Container) { putAside(container, database: selected) }

    /// Frees an entry that is in no table any more.
    @inline(__always)
    mutating func dispose(_ entry: Entry, database: Int) {
        if entry.isOutside, !entry.isString || walk.isActive {
            disposeOutside(entry, database: database)
        } else {
            entry.destroy(databases[database].pool)
        }
    }

    private mutating func disposeOutside(_ entry: Entry, database: Int) {
        let pool = databases[database].pool
        if walk.isActive, walkTakes(entry) { return entry.destroyShell(pool) }
        if entry.isString { return entry.destroy(pool) }
        putAside(entry.container, database: database)
        entry.destroyShell(pool)
    }

    /// Frees a container now if it is small, otherwise later.
    mutating func putAside(_ container: Container, database: Int) {
        if databases[database].dispose(container) { hasRemains = true }
    }

    /// Goes on with freeing deleted containers. - Parameter limit: elements per database, about.
    package mutating func freeRemains(limit: Int) {
        for index in 0..<databaseCount {
            statistics.containersFreedLater &+= databases[index].freeRemains(limit: limit)
        }
        hasRemains = remainsCount > 0
    }

    /// Deleted containers that are not freed yet.
    package var remainsCount: Int {
        var count = 0
        for index in 0..<databaseCount { count += databases[index].remainsCount }
        return count
    }

    // MARK: Deletion and expiry

    /// - Returns: whether the key was there.
    package mutating func delete(_ key: Key, event: KeyEvent = .delete) -> Bool {
        guard let place = databases[selected].place(of: key) else { return false }
        let entry = place.pointee
        if entry.isExpired(at: now), isGone(entry, key) { return false }
        willReplace(entry)
        _ = databases[selected].remove(at: place, key, seed: seed)
        didModify(event, key)
        // Last, because the key may be a view into the entry.
        dispose(entry, database: selected)
        return true
    }

    /// - Precondition: `entry` is the entry of `key`, in the selected database.
    /// - Parameter time: Unix time in milliseconds; nil to keep the key for good.
    package mutating func setExpiry(_ key: Key, _ entry: Entry, _ time: Int64?, event: KeyEvent = .expire) {
        willReplace(entry)
        if let time, entry.hasExpiry {
            storeExpiry(time, entry)
        } else if (time != nil) != entry.hasExpiry, let place = databases[selected].place(of: key) {
            let new = entry.withExpiry(time, databases[selected].pool)
            if time != nil, expiryMode == .hide { noteLocalExpiry(new) }
            databases[selected].replace(place, with: new, oldHadExpiry: entry.hasExpiry, key, seed: seed)
            didModify(event, key)
            // Last, because the key may be a view into the entry.
            entry.destroyShell(databases[selected].pool)
            return
        }
        didModify(event, key)
    }

    /// Gives the value of one key to another, in place of what that held; also across databases.
    ///
    /// - Precondition: the keys differ, or the databases do.
    package mutating func move(_ source: Key, to target: Key, database: Int) {
        guard let entry = peek(source) else { return }
        let isRename = database == selected
        makeRoom(for: target, database: database)
        willReplace(entry)
        guard databases[selected].remove(source, seed: seed) != nil else { return }
        let isLeaving = entry.isOutside && !entry.isString && database != selected
        let moved: Entry
        if isLeaving {
            // Members come from the store of their database.
            let copy = entry.container.copy(databases[database].members)
            moved = .container(databases[database].pool, key: target.bytes, copy, expiry: entry.expiry)
            moved.accessClock = entry.accessClock
        } else {
            moved = entry.withKey(target.bytes, databases[database].pool)
        }
        moved.walkVersion = walk.version
        databases[database].insert(moved, target, seed: seed)
        noteFieldExpiry(moved, database: database)
        didAdd(target, database: database)
        didRemove(isRename ? .renameFrom : .moveFrom, source)
        didModify(isRename ? .renameTo : .moveTo, target, database: database)
        // Last, because the source may be a view into the entry.
        if isLeaving { dispose(entry, database: selected) } else { entry.destroyShell(databases[selected].pool) }
    }

    /// Copies the value and expiry of an entry to a key, in place of what that held.
    ///
    /// - Precondition: the entry is not the target's.
    package mutating func copy(_ entry: Entry, to target: Key, database: Int) {
        makeRoom(for: target, database: database)
        let pool = databases[database].pool
        let new: Entry
        if !entry.isString {
            let copy = entry.container.copy(databases[database].members)
            new = .container(pool, key: target.bytes, copy, expiry: entry.expiry)
        } else if case .bytes(let bytes) = entry.string {
            new = .string(pool, key: target.bytes, bytes, expiry: entry.expiry)
            if entry.encoding == .raw { new.setEncoding(.raw) }
        } else {
            new = .integer(pool, key: target.bytes, entry.integer, expiry: entry.expiry)
        }
        new.accessClock = entry.accessClock
        new.walkVersion = walk.version
        databases[database].insert(new, target, seed: seed)
        noteFieldExpiry(new, database: database)
        didAdd(target, database: database)
        didModify(.copyTo, target, database: database)
    }

    /// Removes a key that another is about to replace; the change is reported as that of the other.
    private mutating func makeRoom(for key: Key, database: Int) {
        guard let place = databases[database].place(of: key) else { return }
        let previous = selected
        selected = database
        willReplace(place.pointee)
        selected = previous
        if let removed = databases[database].remove(key, seed: seed) { dispose(removed, database: database) }
    }

    /// Deletes keys of a slot, each deletion propagated, until `limit` is reached.
    ///
    /// - Parameter position: 0, or where the last call ended; keys before it were deleted. Positions are in hash order, so
    ///   that a resize in between moves nothing behind it.
    /// - Returns: where to go on; nil when none is left.
    /// - Complexity: O(keys deleted + buckets)
    package mutating func deleteKeys(slot: HashSlot, from position: UInt64, limit: Int) -> UInt64? {
        guard isClustered else { return nil }
        selected = 0
        var position = position
        var left = limit
        var found: [Entry] = []
        while left > 0 {
            let next = databases[0].tables[slot.index].scan(from: position) { found.append($0) }
            left -= found.count
            for entry in found {
                let key = Key(bytes: entry.key, hash: hash(entry.key), table: slot.index)
                willReplace(entry)
                propagation.append(database: 0, StaticString("DEL").bytes, entry.key)
                let removed = databases[0].remove(key, seed: seed)
                didModify(.slotLost, key)
                if let removed { dispose(removed, database: 0) }
            }
            found.removeAll(keepingCapacity: true)
            guard let next else { return nil }
            position = next
        }
        return position
    }

    /// Empties a database. - Returns: its former tables; freed when the last reference goes, on any thread.
    package mutating func flush(database: Int) -> DetachedTables {
        abortWalk()
        if !watchedKeys.isEmpty { touchWatchedKeys(database: database) }
        if !awaitedKeys.isEmpty { noteAllAwaited(database: database) }
        changes &+= Int64(databases[database].keyCount)
        if interest.contains(.changes) {
            record(.flush, UnsafeRawBufferPointer(start: nil, count: 0), database: database, isChange: true)
        }
        return databases[database].detach()
    }

    /// Whether a database has more keys and elements than so many.
    ///
    /// - Complexity: O(`limit`)
    package func isFreeEffort(of database: Int, above limit: Int) -> Bool {
        databases[database].isFreeEffort(above: limit)
    }

    package mutating func swap(_ first: Int, _ second: Int) {
        changes &+= 1
        guard first != second else { return }
        abortWalk()
        if !watchedKeys.isEmpty {
            dropStaleKeys(of: first, watchedIn: second)
            dropStaleKeys(of: second, watchedIn: first)
            for database in [first, second] { touchWatchedKeys(database: database) }
        }
        let one = (databases + first).move()
        let other = (databases + second).move()
        (databases + first).initialize(to: other)
        (databases + second).initialize(to: one)
        if !watchedKeys.isEmpty { for database in [first, second] { touchWatchedKeys(database: database) } }
        if !awaitedKeys.isEmpty { for database in [first, second] { noteAllAwaited(database: database) } }
    }

    // MARK: Iteration

    /// Visits one bucket of the selected database.
    ///
    /// - Parameter cursor: 0 to begin; otherwise what the last call returned. Any other value is harmless.
    /// - Returns: the next cursor, 0 at the end. The low 14 bits are the table, the others the position in hash order.
    /// - Complexity: O(entries in the bucket); empty slots are passed over.
    package func scan(cursor: UInt64, _ visit: (Entry) -> Void) -> UInt64 {
        var table = Int(cursor & 0x3FFF)
        var position = cursor & HashTable.orderMask
        let tableCount = databases[selected].tableCount
        guard table < tableCount else { return 0 }
        while table < tableCount {
            if databases[selected].tables[table].count > 0 {
                if let next = databases[selected].tables[table].scan(from: position, visit) {
                    return next | UInt64(table)
                }
                table += 1
                while table < tableCount, databases[selected].tables[table].count == 0 { table += 1 }
                return table < tableCount ? UInt64(table) : 0
            }
            table += 1
            position = 0
        }
        return 0
    }

    /// The table that a cursor stands in: the hash slot in cluster mode.
    package static func table(ofCursor cursor: UInt64) -> Int { Int(cursor & 0x3FFF) }

    /// Visits keys of one slot until `visit` returns false.
    package func forEachKey(slot: HashSlot, _ visit: (Entry) -> Bool) {
        guard isClustered else { return }
        var position: UInt64? = 0
        var goOn = true
        while goOn, let current = position {
            position = databases[0].tables[slot.index].scan(from: current) { entry in
                if goOn { goOn = visit(entry) }
            }
        }
    }

    /// An entry chosen at random, expired or not; nil if the database is empty.
    package mutating func randomEntry() -> Entry? {
        let total = databases[selected].keyCount
        guard total > 0 else { return nil }
        let table = isClustered ? databases[selected].table(ofRank: random.below(total)) : 0
        return databases[selected].tables[table].randomEntry(&random)
    }

    package func invariants() {
        for index in 0..<databaseCount { databases[index].invariants(seed: seed) }
    }

    /// Looks through the volatile index of a database from a position. For the expiry cycle.
    func scanVolatile(database: Int, table: Int, from position: UInt64, _ visit: (Entry) -> Void) -> UInt64? {
        databases[database].volatileTables[table].scan(from: position, visit)
    }

    func volatileCount(database: Int, table: Int) -> Int { databases[database].volatileTables[table].count }
    func scanTable(database: Int, table: Int, from position: UInt64, _ visit: (Entry) -> Void) -> UInt64? {
        databases[database].tables[table].scan(from: position, visit)
    }
    func tableCount(database: Int) -> Int { databases[database].tableCount }

    /// Deletes a key that the expiry cycle found to be over.
    mutating func expireFound(_ entry: Entry, database: Int, table: Int) {
        let previous = selected
        selected = database
        defer { selected = previous }
        expire(entry, Key(bytes: entry.key, hash: hash(entry.key), table: table))
    }

    /// Works on resizes of tables outside of commands, a little per call.
    package mutating func continueResizing(maxBuckets: Int) {
        for database in 0..<databaseCount where !isClustered {
            _ = databases[database].continueResizing(table: 0, maxBuckets: maxBuckets, seed: seed)
        }
    }
}
