import MartletBase

/// A key that some client watches or waits for.
package struct WatchedKey: Hashable, Sendable {
    package let database: Int
    package let key: [UInt8]

    package init(database: Int, key: [UInt8]) {
        self.database = database
        self.key = key
    }
}

/// Counts the changes of keys that clients watch. Empty, and asked nothing, while nobody watches.
struct WatchedKeys {
    private var records: [WatchedKey: (version: UInt64, watchers: Int)] = [:]
    private var nextVersion: UInt64 = 1

    var isEmpty: Bool { records.isEmpty }

    mutating func watch(_ key: WatchedKey) -> UInt64 {
        var record = records[key] ?? (0, 0)
        record.watchers += 1
        records[key] = record
        return record.version
    }

    mutating func unwatch(_ key: WatchedKey) {
        guard var record = records[key] else { return }
        record.watchers -= 1
        records[key] = record.watchers == 0 ? nil : record
    }

    func version(_ key: WatchedKey) -> UInt64? { records[key]?.version }

    mutating func touch(_ key: WatchedKey) {
        guard records[key] != nil else { return }
        records[key]?.version = nextVersion
        nextVersion += 1
    }

    func keys(inDatabase database: Int) -> [WatchedKey] { records.keys.filter { $0.database == database } }
}

extension Keyspace {
    /// - Returns: the version to compare with at EXEC.
    package mutating func watch(_ key: WatchedKey) -> UInt64 {
        defer { updateObservation() }
        return watchedKeys.watch(key)
    }

    package mutating func unwatch(_ key: WatchedKey) {
        watchedKeys.unwatch(key)
        updateObservation()
    }

    package func watchVersion(_ key: WatchedKey) -> UInt64? { watchedKeys.version(key) }

    @inline(never)
    mutating func touchWatched(_ key: Key, database: Int) {
        watchedKeys.touch(WatchedKey(database: database, key: Array(key.bytes)))
    }

    /// Before a database is emptied or exchanged: its existing watched keys count as changed.
    mutating func touchWatchedKeys(database: Int) {
        for watched in watchedKeys.keys(inDatabase: database) {
            let entry = watched.key.withUnsafeBytes { entryEvenIfExpired(key($0), database: database) }
            if entry != nil { watchedKeys.touch(watched) }
        }
    }

    /// Before a database takes the place of another, in which somebody watches a key: the key must not come along if its
    /// time has passed, because nothing would have changed.
    mutating func dropStaleKeys(of database: Int, watchedIn other: Int) {
        for watched in watchedKeys.keys(inDatabase: other) {
            watched.key.withUnsafeBytes { _ = peek(key($0), database: database) }
        }
    }
}
