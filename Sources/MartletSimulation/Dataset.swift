// What a node holds, reduced to what replication can lose: for every key the list of the writes that it has seen
// (think of APPEND), and the replication log with its ids and offsets as in PSYNC2.
//
// A node that is promoted begins a new history and remembers the old one up to where it left it. A replica that asks
// to go on from a point of a history that the other side remembers gets what it lacks; everybody else gets a copy of
// everything, and what it had is gone. That is the only place where replication loses writes.

struct Dataset {
    enum Operation {
        case append(key: Int, stamp: UInt64)
        /// RESTORE by a slot migration.
        case replace(key: Int, stamps: [UInt64])
        case delete(key: Int)
    }

    /// Every operation counts as so many bytes of the log.
    static let operationBytes: Int64 = 100
    /// Operations kept for partial resynchronisation.
    static let backlogCount = 2_000

    /// By key, stamps ascending; empty for a key that does not exist.
    private(set) var values: [[UInt64]]
    private(set) var history: UInt64
    private(set) var offset: Int64 = 0
    /// The history before the last promotion, valid up to `oldHistoryEnd`.
    private(set) var oldHistory: UInt64 = 0
    private(set) var oldHistoryEnd: Int64 = -1
    /// The operations up to `offset`.
    private var log: [Operation] = []

    init(keyCount: Int, history: UInt64) {
        values = Array(repeating: [], count: keyCount)
        self.history = history
    }

    var isEmpty: Bool { values.allSatisfy(\.isEmpty) }

    /// - Complexity: O(log n) in the number of writes to the key.
    func contains(_ stamp: UInt64, key: Int) -> Bool {
        let stamps = values[key]
        var low = 0, high = stamps.count
        while low < high {
            let middle = (low + high) / 2
            if stamps[middle] < stamp { low = middle + 1 } else { high = middle }
        }
        return low < stamps.count && stamps[low] == stamp
    }

    mutating func execute(_ operation: Operation) {
        switch operation {
        case .append(let key, let stamp): values[key].append(stamp)
        case .replace(let key, let stamps): values[key] = stamps
        case .delete(let key): values[key] = []
        }
        log.append(operation)
        if log.count > 2 * Dataset.backlogCount { log.removeFirst(Dataset.backlogCount) }
        offset += Dataset.operationBytes
    }

    /// FLUSHALL of CLUSTER RESET: not a part of any history.
    mutating func clear(newHistory: UInt64) {
        self = Dataset(keyCount: values.count, history: newHistory)
    }

    /// Forgets all but the last writes of every key; only when all agree on them.
    mutating func trim(keeping count: Int) {
        for key in values.indices where values[key].count > count {
            values[key].removeFirst(values[key].count - count)
        }
        log = []
    }

    // MARK: Replication

    /// REPLICAOF NO ONE.
    mutating func becomePrimary(newHistory: UInt64) {
        oldHistory = history
        oldHistoryEnd = offset
        history = newHistory
    }

    /// Whether a replica at this point can get what it lacks from our log.
    func canContinue(history: UInt64, offset: Int64) -> Bool {
        let first = self.offset - Int64(log.count) * Dataset.operationBytes
        guard offset >= first, offset <= self.offset else { return false }
        return history == self.history || (history == oldHistory && offset <= oldHistoryEnd)
    }

    /// Partial resynchronisation: from now on we are at the same point of the primary's history.
    mutating func adoptHistory(of primary: Dataset) {
        if history != primary.history {
            oldHistory = history
            oldHistoryEnd = offset
        }
        history = primary.history
    }

    /// Takes operations of the same history, up to an offset of the primary. False if the log has them no more.
    mutating func catchUp(with primary: Dataset, to end: Int64) -> Bool {
        guard primary.history == history, offset <= primary.offset else { return false }
        let first = primary.offset - Int64(primary.log.count) * Dataset.operationBytes
        guard offset >= first else { return false }
        while offset < min(end, primary.offset) {
            execute(primary.log[Int((offset - first) / Dataset.operationBytes)])
        }
        return true
    }
}
