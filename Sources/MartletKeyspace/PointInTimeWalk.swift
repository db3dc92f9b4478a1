import MartletBase

// The point-in-time iterator: an image of the whole keyspace without fork.
//
// A walk visits every table in hash order, a bounded number of buckets per turn of the loop, and hands each entry to its
// sink. Between turns commands go on. Whatever is about to be changed passes `willModify` first: if the walk has not had
// that entry yet, the sink gets it now, before the change. Each entry carries the version of the last walk that had it
// (or during which it was made), so the sink gets every entry exactly once, as it was when the walk began, and none that
// came later. One walk runs at a time; whoever else wants an image waits or joins at the start.
//
// FLUSHALL, FLUSHDB and SWAPDB end a walk: its image is then incomplete and the sink is told.

/// Receives the image.
package protocol WalkSink: AnyObject {
    /// One entry as it was when the walk began. Must not keep the entry.
    func visit(_ entry: Entry, database: Int)
    /// The walk cannot be completed.
    func walkAborted()
}

struct WalkState {
    var isActive = false
    /// Version of the current walk, or of the last one. Entries made since carry it.
    var version: UInt8 = 0
    /// No entry carries an older version: that of the last walk that was completed.
    var versionMin: UInt8 = 0
    /// While a walk runs; unowned by the tables, kept by whoever started it.
    var sink: (any WalkSink)?
    var database = 0
    var table = 0
    var position: UInt64 = 0
}

extension Keyspace {
    package var isWalking: Bool { walk.isActive }

    /// Begins a walk. - Precondition: none is running.
    package mutating func beginWalk(_ sink: any WalkSink) {
        precondition(!walk.isActive)
        // Entries that no walk has reached since the versions came round would be taken for visited. That takes 255 walks
        // one after another that were aborted.
        if walk.version &+ 1 == walk.versionMin { forgetWalks() }
        walk.version &+= 1
        walk.isActive = true
        walk.sink = sink
        walk.database = 0
        walk.table = 0
        walk.position = 0
    }

    /// Goes on with the walk.
    ///
    /// - Parameter maxBuckets: buckets visited at most.
    /// - Returns: true when the walk is complete, or there is none.
    package mutating func continueWalk(maxBuckets: Int) -> Bool {
        guard walk.isActive, let sink = walk.sink else { return true }
        var left = maxBuckets
        while left > 0 {
            guard walk.database < databaseCount else {
                walk.isActive = false
                walk.sink = nil
                walk.versionMin = walk.version
                return true
            }
            let database = walk.database
            let version = walk.version
            left -= 1
            let next = scanTable(database: database, table: walk.table, from: walk.position) { entry in
                if entry.walkVersion != version {
                    entry.walkVersion = version
                    sink.visit(entry, database: database)
                }
            }
            if let next {
                walk.position = next
            } else {
                walk.position = 0
                walk.table += 1
                if walk.table == tableCount(database: database) {
                    walk.table = 0
                    walk.database += 1
                }
            }
        }
        return false
    }

    /// Ends a walk before it is complete; its sink is told.
    package mutating func abortWalk() {
        guard walk.isActive else { return }
        walk.isActive = false
        let sink = walk.sink
        walk.sink = nil
        sink?.walkAborted()
    }

    /// Lets every entry look as if the last walk had visited it. - Complexity: O(keys)
    private mutating func forgetWalks() {
        let version = walk.version
        for database in 0..<databaseCount {
            for table in 0..<tableCount(database: database) {
                var position: UInt64? = 0
                while let current = position {
                    position = scanTable(database: database, table: table, from: current) { $0.walkVersion = version }
                }
            }
        }
        walk.versionMin = version
    }

    @inline(never)
    mutating func handToWalk(_ entry: Entry) {
        guard entry.walkVersion != walk.version else { return }
        entry.walkVersion = walk.version
        walk.sink?.visit(entry, database: selected)
    }
}
