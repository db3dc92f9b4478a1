import MartletBase

/// What the running command adds to the replication log, besides or instead of itself.
///
/// A handler that must not be replayed as it was sent (relative expiry, random choice) puts its replacement here; so does
/// the keyspace for keys that expire. The node moves the queue into the log when the command is done, in one
/// MULTI/EXEC if there is more than one entry. Empty and idle while nothing reads the log.
package struct PropagationQueue {
    /// Whether anything reads the log; while false nothing is recorded.
    package var isOn = false
    /// Set by a handler whose own text must not be propagated.
    package var replacesCommand = false
    /// Set while everything queued is the deletion of a key whose time had passed: no transaction is made of those.
    package var standsApart = false
    /// Encoded commands, back to back.
    package private(set) var bytes: [UInt8] = []
    package private(set) var commands: [(database: Int, end: Int)] = []

    package init() {}

    package var isEmpty: Bool { commands.isEmpty }

    package mutating func append(database: Int, _ arguments: UnsafeRawBufferPointer...) {
        append(database: database, arguments: arguments)
    }

    package mutating func append(database: Int, arguments: [UnsafeRawBufferPointer]) {
        guard isOn else { return }
        RequestEncoder.append(arguments, to: &bytes)
        commands.append((database, bytes.count))
    }

    package mutating func removeAll() {
        if !commands.isEmpty {
            bytes.removeAll(keepingCapacity: bytes.capacity <= 1 << 20)
            commands.removeAll(keepingCapacity: true)
        }
        replacesCommand = false
        standsApart = false
    }
}
