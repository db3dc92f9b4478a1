import MartletBase

// Keys that clients wait for (BLPOP, XREAD BLOCK …), and those of them that may serve somebody now.
//
// The gate reports every change. While somebody waits for anything, most changes are still of keys that nobody waits for,
// and must cost next to nothing: a table of counters, indexed by twelve bits of the key's hash, answers for nearly all of
// them with one load. What passes it is looked up by name.
//
// Who waits, and in which order, the node knows; see Blocking/BlockedClients.swift there.

struct AwaitedKeys: ~Copyable {
    private struct Record {
        var waiters: Int
        /// It stands in `ready`.
        var isReady: Bool
    }

    private var records: [WatchedKey: Record] = [:]
    /// In the order in which they changed.
    private var ready: [WatchedKey] = []
    private var readyStart = 0
    /// How many awaited keys have these bits of their hash; nil until somebody waits.
    private var filter: UnsafeMutablePointer<UInt32>?

    private static let filterCount = 4096

    deinit { filter?.deallocate() }

    var isEmpty: Bool { records.isEmpty }
    var hasReady: Bool { readyStart < ready.count }

    private static func filterIndex(_ hash: UInt64) -> Int { Int(truncatingIfNeeded: hash) & (filterCount - 1) }

    mutating func add(_ key: WatchedKey, hash: UInt64) {
        if records[key] != nil {
            records[key]?.waiters += 1
            return
        }
        records[key] = Record(waiters: 1, isReady: false)
        if filter == nil {
            filter = .allocate(capacity: Self.filterCount)
            filter?.initialize(repeating: 0, count: Self.filterCount)
        }
        filter?[Self.filterIndex(hash)] += 1
    }

    mutating func remove(_ key: WatchedKey, hash: UInt64) {
        guard var record = records[key] else { return }
        record.waiters -= 1
        records[key] = record.waiters == 0 ? nil : record
        if record.waiters == 0 { filter?[Self.filterIndex(hash)] -= 1 }
    }

    @inline(__always)
    func mayAwait(hash: UInt64) -> Bool { filter.map { $0[Self.filterIndex(hash)] > 0 } ?? false }

    /// The key has changed.
    mutating func note(_ key: WatchedKey) {
        guard let record = records[key], !record.isReady else { return }
        records[key]?.isReady = true
        ready.append(key)
    }

    /// Every awaited key of a database may have changed.
    mutating func noteAll(inDatabase database: Int) {
        for key in records.keys.filter({ $0.database == database }) { note(key) }
    }

    /// The next key to look at; from now on it may become ready again.
    mutating func takeReady() -> WatchedKey? {
        guard hasReady else { return nil }
        let key = ready[readyStart]
        readyStart += 1
        if !hasReady {
            ready.removeAll(keepingCapacity: true)
            readyStart = 0
        }
        records[key]?.isReady = false
        return key
    }
}

extension Keyspace {
    /// One more client waits for a key. Its changes are reported by ``takeReadyKey()``.
    package mutating func addWaiter(for key: WatchedKey) {
        awaitedKeys.add(key, hash: key.key.withUnsafeBytes { hash($0) })
        updateObservation()
    }

    package mutating func removeWaiter(for key: WatchedKey) {
        awaitedKeys.remove(key, hash: key.key.withUnsafeBytes { hash($0) })
        updateObservation()
    }

    /// A key that was changed, and that somebody waits for, if there is one; in the order of the changes.
    package mutating func takeReadyKey() -> WatchedKey? {
        defer { hasReadyKeys = awaitedKeys.hasReady }
        return awaitedKeys.takeReady()
    }

    /// A key is to be looked at although it has not changed.
    package mutating func noteReady(_ key: WatchedKey) {
        awaitedKeys.note(key)
        hasReadyKeys = awaitedKeys.hasReady
    }

    @inline(never)
    mutating func noteAwaited(_ key: Key, database: Int) {
        noteReady(WatchedKey(database: database, key: Array(key.bytes)))
    }

    mutating func noteAllAwaited(database: Int) {
        awaitedKeys.noteAll(inDatabase: database)
        hasReadyKeys = awaitedKeys.hasReady
    }
}
