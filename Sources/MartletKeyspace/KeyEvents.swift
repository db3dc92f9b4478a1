import MartletBase

// What happened to which key, for those who want to be told: keyspace notifications, and clients that track keys.
//
// The gate appends to a queue, and the node takes what there is after every command and after work of its own, so that
// whoever is told stands outside of the tables, and sees events in the order in which they happened. Nothing is recorded
// that nobody listens to: then the gate tests one bit that it tests anyway.

/// What is recorded.
package struct KeyEventInterest: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Everything that the gate reports.
    package static let changes = KeyEventInterest(rawValue: 1 << 0)
    /// Keys that come into being: ``KeyEvent/new``.
    package static let newKeys = KeyEventInterest(rawValue: 1 << 1)
    /// Reads of keys that are not there: ``KeyEvent/miss``.
    package static let misses = KeyEventInterest(rawValue: 1 << 2)
}

package struct KeyEventQueue: Sendable {
    package struct Record: Sendable {
        package let event: KeyEvent
        /// The key holds something else now: WATCH saw it, and so do clients that have read it. False for events that only
        /// tell more about a change, and for those of stream groups.
        package let isChange: Bool
        package let database: Int
        /// Of the key in ``KeyEventQueue/bytes``; it begins where the one before ends.
        package let end: Int
    }

    package private(set) var records: [Record] = []
    /// The keys, back to back.
    package private(set) var bytes: [UInt8] = []

    package init() {}

    mutating func append(_ event: KeyEvent, _ key: UnsafeRawBufferPointer, database: Int, isChange: Bool) {
        bytes.append(contentsOf: key)
        records.append(Record(event: event, isChange: isChange, database: database, end: bytes.count))
    }

    /// Gives memory of a large queue back.
    package mutating func removeAll() {
        records.removeAll(keepingCapacity: records.capacity <= 1 << 12)
        bytes.removeAll(keepingCapacity: bytes.capacity <= 1 << 16)
    }

    /// The records in order, each with its key.
    package func forEach(_ body: (Record, _ key: UnsafeRawBufferPointer) -> Void) {
        bytes.withUnsafeBytes { bytes in
            var start = 0
            for record in records {
                body(record, UnsafeRawBufferPointer(rebasing: bytes[start..<record.end]))
                start = record.end
            }
        }
    }
}

extension Keyspace {
    /// Takes what was recorded, and leaves `queue`, which has to be empty, in its place.
    package mutating func takeEvents(_ queue: inout KeyEventQueue) {
        Swift.swap(&events, &queue)
        hasEvents = false
    }

    /// Gives the memory of a queue back that was taken: the next events need none.
    package mutating func giveBack(_ queue: inout KeyEventQueue) {
        queue.removeAll()
        if events.records.isEmpty { Swift.swap(&events, &queue) }
    }

    @inline(never)
    mutating func record(_ event: KeyEvent, _ key: UnsafeRawBufferPointer, database: Int, isChange: Bool = false) {
        events.append(event, key, database: database, isChange: isChange)
        hasEvents = true
    }

    /// Tells listeners more of a change that the gate has reported: SET with a time is a SET and an EXPIRE.
    package mutating func report(_ event: KeyEvent, _ key: Key) {
        if interest.contains(.changes) { record(event, key.bytes, database: selected) }
    }

    /// A key came into being in the selected database.
    package mutating func didAdd(_ key: Key) { didAdd(key, database: selected) }

    @inline(__always)
    mutating func didAdd(_ key: Key, database: Int) {
        if interest.contains(.newKeys) { record(.new, key.bytes, database: database) }
    }

    /// A read found nothing.
    @inline(__always)
    package mutating func didMiss(_ key: Key) {
        statistics.misses &+= 1
        if interest.contains(.misses) { record(.miss, key.bytes, database: selected) }
    }
}
