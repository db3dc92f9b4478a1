import MartletBase

// Deleting keys whose time has passed though nobody asks for them.
//
// The keys with an expiry stand in an index of their own. The cycle goes round that index in hash order, a bounded number
// of buckets per call, and deletes what is over. It stops early in a database where few of the looked-at keys were over
// (nothing to gain), and is called more often while many are. A full round therefore finds every expired key, and the
// work per call is bounded.
//
// A replica leaves its keys to its primary, except for those that its own clients made when it was writable.

struct ExpiryCursor {
    var database = 0
    var table = 0
    var position: UInt64 = 0
}

extension Keyspace {
    /// One step of the cycle.
    ///
    /// - Parameter maxKeys: look at no more than about this many keys.
    /// - Returns: how many keys were looked at and how many of them were over.
    package mutating func expireCycle(maxKeys: Int) -> (seen: Int, expired: Int) {
        // Something is logged by primaries only: one that hides expired keys is paused, and touches nothing.
        let isReplica = expiryMode == .hide && hasLocalExpiries && !propagation.isOn
        guard expiryMode == .delete || isReplica else { return (0, 0) }
        var seen = 0
        var expired = 0
        var wraps = 0
        // In cluster mode most slots may have no volatile keys; passing over them is cheap but not free.
        var tablesLeft = HashSlot.count * 2
        while seen < maxKeys, tablesLeft > 0 {
            if expiryCursor.database >= databaseCount {
                expiryCursor = ExpiryCursor()
                wraps += 1
                if wraps > 1 { break }
            }
            let database = expiryCursor.database
            guard volatileCount(database: database) > 0 else {
                expiryCursor = ExpiryCursor(database: database + 1)
                continue
            }
            let table = expiryCursor.table
            var due: [Entry] = []
            let now = self.now
            let next =
                volatileCount(database: database, table: table) == 0
                ? nil
                : scanVolatile(database: database, table: table, from: expiryCursor.position) { entry in
                    seen += 1
                    if entry.isExpired(at: now), !isReplica || entry.expiresLocally { due.append(entry) }
                }
            if let next {
                expiryCursor.position = next
            } else {
                tablesLeft -= 1
                expiryCursor.position = 0
                expiryCursor.table += 1
                if expiryCursor.table == tableCount(database: database) {
                    expiryCursor = ExpiryCursor(database: database + 1)
                }
            }
            for entry in due { expireFound(entry, database: database, table: table) }
            expired += due.count
        }
        return (seen, expired)
    }
}
