import MartletBase
import MartletKeyspace
import MartletPersistence
import MartletReplication

// An image of the data set on its way to replicas.
//
// It is taken by the point-in-time iterator, a little in every turn, and goes straight into a queue of bytes that all
// replicas which joined at its beginning read, each from its own position: the queue is a ``ReplicationLog`` of its own.
// The iterator waits while the slowest of them has too much to read, so an image never stands in memory as a whole. What
// commands change meanwhile is put into the queue by the gate before it changes.
//
// A large value goes into the queue piece by piece. What the gate hands over in the meantime is encoded apart and follows
// when the value is complete.
//
// Strings are not compressed: that would cost the command thread more than it saves the network.
//
// Redis 7.0 does not know that fields of hashes can have a time to live: its replicas get such hashes without times, and
// every deletion when the time comes. (Those of Valkey 9 and our own say what they know.)
//
// A replica that does not know the end mark has to be told the length first; for those the queue does hold the image.

final class SnapshotTransfer: WalkSink {
    /// The iterator waits while this much is unread.
    private static let unreadBytesMax = 4 << 20
    /// What the iterator produces per turn, about a millisecond's work.
    private static let turnBytes = 256 * 1024
    private static let turnBucketsMax = 16 * 1024
    private static let bucketsPerStep = 64
    /// Of a large value.
    private static let pieceBytes = 64 * 1024

    let endMark: ReplicationID
    let usesEndMark: Bool
    let excludesData: Bool
    let excludesFunctions: Bool
    var keepsFieldExpiry: Bool { encoder.keepsFieldExpiry }
    private var encoder: RDBEncoder
    /// A large value that is being written.
    private var pieces: RDBValuePieces?
    /// Entries that follow it.
    private var following: RDBEncoder
    private(set) var queue = ReplicationLog()
    private var database = -1
    /// The end and the mark are in the queue.
    private(set) var isComplete = false
    /// The walk was ended by FLUSHALL or the like: half an image is worth nothing.
    private(set) var isAborted = false

    /// - Parameter libraries: nil if they are left out.
    init(
        endMark: ReplicationID, usesEndMark: Bool, excludesData: Bool, keepsFieldExpiry: Bool, hasChecksum: Bool,
        _ origin: RDBInformation, libraries: [FunctionLibrary]?
    ) {
        self.endMark = endMark
        self.usesEndMark = usesEndMark
        self.excludesData = excludesData
        excludesFunctions = libraries == nil
        encoder = RDBEncoder(compression: false, checksum: hasChecksum, keepsFieldExpiry: keepsFieldExpiry)
        following = RDBEncoder(compression: false, checksum: false, keepsFieldExpiry: keepsFieldExpiry)
        queue.activate()
        encoder.appendHeader()
        encoder.append(origin)
        for library in libraries ?? [] { library.code.withUnsafeBytes { encoder.append(function: $0) } }
        drain()
    }

    func visit(_ entry: Entry, database: Int) {
        if pieces == nil {
            write(entry, database: database, to: &encoder)
        } else {
            write(entry, database: database, to: &following)
        }
    }

    private func write(_ entry: Entry, database: Int, to encoder: inout RDBEncoder) {
        select(database, in: &encoder)
        encoder.append(key: entry.key, RDBValue(of: entry), expireAtMilliseconds: entry.expiry)
    }

    private func select(_ database: Int, in encoder: inout RDBEncoder) {
        if database == self.database { return }
        self.database = database
        encoder.append(selectDatabase: database)
    }

    func begin(_ value: LargeValue, key: UnsafeRawBufferPointer, expiry: Int64?, database: Int) {
        select(database, in: &encoder)
        pieces = encoder.begin(value, key: key, expireAtMilliseconds: expiry)
    }

    func continueLargeValue(toEnd: Bool) -> Bool {
        repeat {
            if continueLargeValue() { return true }
            // Not all of it twice in memory.
            drain()
        } while toEnd
        return false
    }

    /// Writes a piece of the value, or, when that is complete, of what follows it. - Returns: whether that is done, too.
    private func continueLargeValue() -> Bool {
        guard var rest = pieces else { return true }
        guard encoder.append(&rest, bytes: Self.pieceBytes) else {
            pieces = rest
            return false
        }
        pieces = rest
        let count = min(following.output.count, Self.pieceBytes)
        encoder.append(encoded: UnsafeRawBufferPointer(rebasing: following.output.bytes[..<count]))
        following.drain(count)
        guard following.output.isEmpty else { return false }
        pieces = nil
        return true
    }

    func walkAborted() { isAborted = true }

    /// Whether an image can be extended now: it is not complete, and its readers keep up.
    func wantsMore(slowestReader: Int64) -> Bool {
        !isComplete && !isAborted && (!usesEndMark || queue.end - slowestReader < Self.unreadBytesMax)
    }

    /// One turn's share of the walk.
    func extend(_ keyspace: inout Keyspace) {
        let start = queue.end
        var buckets = 0
        while queue.end - start < Self.turnBytes, buckets < Self.turnBucketsMax {
            buckets += Self.bucketsPerStep
            let isDone = excludesData || keyspace.continueWalk(maxBuckets: Self.bucketsPerStep)
            // A walk that was aborted looks done.
            if isAborted { return }
            if isDone {
                encoder.appendEnd()
                drain()
                if usesEndMark { endMark.bytes.withUnsafeBytes { queue.append($0) } }
                isComplete = true
                return
            }
            drain()
        }
    }

    /// Moves what the encoder holds into the queue.
    func drain() {
        guard !encoder.output.isEmpty else { return }
        let count = encoder.output.count
        queue.append(encoder.output.bytes)
        encoder.drain(count)
    }

    func bytes(at position: Int64) -> UnsafeRawBufferPointer { queue.bytes(at: position) }

    func dropRead(slowestReader: Int64) { queue.trim(backlogBytes: 0, slowestReader: slowestReader) }
}
