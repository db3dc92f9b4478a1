import MartletBase

// The point-in-time iterator: an image of the whole keyspace without fork.
//
// A walk visits every table in hash order, a bounded number of buckets per turn of the loop, and hands each entry to its
// sink. Between turns commands go on. Whatever is about to be changed passes `willModify` first: if the walk has not had
// that entry yet, the sink gets it now, before the change. Each entry carries the version of the last walk that had it
// (or during which it was made), so the sink gets every entry exactly once, as it was when the walk began, and none that
// came later. One walk runs at a time; whoever else wants an image waits or joins at the start.
//
// A large value is handed out in pieces, one of them per call, while the walk stands still. When such a value is about to be
// changed, the sink gets all the rest of it first: that is the one thing here that takes time in proportion to a value.
// When only its key goes, or gets another name or time to live, the value stays as it is until the sink has it all: a
// deleted value belongs to the walk until then. So values that are deleted, replaced or renamed cost no more than others.
//
// FLUSHALL, FLUSHDB and SWAPDB end a walk: its image is then incomplete and the sink is told.

/// Receives the image.
package protocol WalkSink: AnyObject {
    /// One entry as it was when the walk began. Must not keep the entry. May come between the pieces of a large value.
    func visit(_ entry: Entry, database: Int)
    /// A large value, whose elements follow.
    func begin(_ value: LargeValue, key: UnsafeRawBufferPointer, expiry: Int64?, database: Int)
    /// Takes a piece of the large value that was begun, or all the rest of it. - Returns: whether it is complete.
    func continueLargeValue(toEnd: Bool) -> Bool
    /// The walk cannot be completed. A large value that was begun may be gone.
    func walkAborted()
}

/// A value that takes too long to be handed out in one piece.
package enum LargeValue {
    case string(StringBlock)
    case container(Container)

    /// Strings of more bytes are large.
    private static let stringBytesMax = 256 * 1024

    /// Nil if the value of the entry is a small one. - Complexity: O(1)
    init?(of entry: Entry) {
        guard entry.isOutside else { return nil }
        if entry.isString {
            guard entry.block.count > Self.stringBytesMax else { return nil }
            self = .string(entry.block)
        } else {
            guard entry.container.isLarge else { return nil }
            self = .container(entry.container)
        }
    }

    fileprivate func destroy() {
        switch self {
        case .string(let block): block.destroy()
        case .container(let container): container.destroy()
        }
    }

    /// Tells one value from another.
    fileprivate var pointer: UnsafeMutableRawPointer {
        switch self {
        case .string(let block): return block.pointer
        case .container(let container): return container.pointer
        }
    }
}

extension Container {
    /// Whether all of it is more than a fraction of a millisecond's work. - Complexity: O(1)
    fileprivate var isLarge: Bool {
        switch encoding {
        // Nodes have some kilobytes each.
        case .quicklist, .stream: return freeEffort > 64
        case .hashtable, .skiplist: return freeEffort > 2048
        case .listpack, .intset, .integer, .embedded, .raw: return false
        }
    }
}

/// A large value on its way to the sink.
private struct WalkedValue {
    let value: LargeValue
    let key: [UInt8]
    let expiry: Int64?
    let database: Int
    /// No key has the value any more: it is freed when the sink has it.
    var isOwned = false
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
    /// Large values that the walk has met. The sink is at the first one.
    fileprivate var largeValues: [WalkedValue] = []

    /// What is met beyond them, because its key is deleted or changed, is handed out in one piece.
    fileprivate static let largeValuesMax = 128

    /// Frees what belongs to the walk, at the end of everything.
    func destroyOwned() {
        for value in largeValues where value.isOwned { value.value.destroy() }
    }

    fileprivate func index(of value: UnsafeMutableRawPointer) -> Int? {
        largeValues.firstIndex { $0.value.pointer == value }
    }
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
        if !walk.largeValues.isEmpty {
            if sink.continueLargeValue(toEnd: false) { endLargeValue(sink) }
            return false
        }
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
            var large: Entry?
            let next = scanTable(database: database, table: walk.table, from: walk.position) { entry in
                if entry.walkVersion == version || large != nil { return }
                entry.walkVersion = version
                if LargeValue(of: entry) == nil { sink.visit(entry, database: database) } else { large = entry }
            }
            if let large, let value = LargeValue(of: large) {
                // The bucket is visited again afterwards: there may be more in it.
                add(value, large, database: database, sink)
                return false
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
        let values = walk.largeValues
        walk.largeValues = []
        for value in values { release(value) }
    }

    // MARK: Large values

    private mutating func add(_ value: LargeValue, _ entry: Entry, database: Int, _ sink: any WalkSink) {
        walk.largeValues.append(
            WalkedValue(value: value, key: Array(entry.key), expiry: entry.expiry, database: database))
        if walk.largeValues.count == 1 { beginLargeValue(sink) }
    }

    private mutating func beginLargeValue(_ sink: any WalkSink) {
        guard let first = walk.largeValues.first else { return }
        first.key.withUnsafeBytes { sink.begin(first.value, key: $0, expiry: first.expiry, database: first.database) }
    }

    /// The sink has all of the first one.
    private mutating func endLargeValue(_ sink: any WalkSink) {
        release(walk.largeValues.removeFirst())
        beginLargeValue(sink)
    }

    private mutating func release(_ value: WalkedValue) {
        guard value.isOwned else { return }
        if case .container(let container) = value.value {
            putAside(container, database: value.database)
        } else {
            value.value.destroy()
        }
    }

    /// Whether the value of an entry that no table has any more belongs to the walk from now on.
    mutating func walkTakes(_ entry: Entry) -> Bool {
        guard !walk.largeValues.isEmpty, let value = LargeValue(of: entry), let index = walk.index(of: value.pointer)
        else { return false }
        walk.largeValues[index].isOwned = true
        return true
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

    /// - Parameter keepsValue: only the key is about to change, or the value to lose it.
    @inline(never)
    mutating func handToWalk(_ entry: Entry, keepsValue: Bool) {
        guard let sink = walk.sink else { return }
        if entry.walkVersion != walk.version {
            entry.walkVersion = walk.version
            if keepsValue, walk.largeValues.count < WalkState.largeValuesMax, let value = LargeValue(of: entry) {
                add(value, entry, database: selected, sink)
            } else {
                sink.visit(entry, database: selected)
            }
        } else if !keepsValue, !walk.largeValues.isEmpty, let value = LargeValue(of: entry) {
            while walk.index(of: value.pointer) != nil {
                _ = sink.continueLargeValue(toEnd: true)
                endLargeValue(sink)
            }
        }
    }
}
