import MartletBase
import MartletKeyspace
import MartletPersistence
import MartletRESP

// MIGRATE: moving keys to another server, without ever waiting for it.
//
// Redis blocks its whole loop until the target has answered. Here the keys are serialised, the request leaves through a
// link of the reactor, the client is parked, and the loop goes on. Meanwhile the keys are locked: a command that names
// one of them waits, because it would read or change a value that may already live elsewhere. When the target has
// answered, what it took is deleted here (and the deletion propagated), and whoever waited runs again, to be told ASK.
//
// Source of semantics and texts: Redis 7.0 cluster.c, migrateCommand.

/// A transfer that is under way.
package struct KeyMigration: Sendable {
    package let token: UInt64
    package let host: String
    package let port: Int
    package let database: Int
    package let credentials: [[UInt8]]
    package let timeoutMilliseconds: Int64
    /// RESTORE commands, one per key, back to back.
    package let commands: [UInt8]
    package let keyCount: Int
}

/// How a transfer ended.
package enum KeyMigrationOutcome {
    /// The target's answers to the RESTORE commands; nil for OK, else its error line. As many as there were keys.
    case answered([String?])
    /// Nothing is known of the keys; they stay.
    case failed(String)
}

/// What the node remembers of a transfer.
struct PendingKeyMigration {
    let keys: [[UInt8]]
    let database: Int
    let copies: Bool
}

extension CommandFamily {
    static let keyMigration = CommandFamily(.generic, [.migrate])
}

extension Command {
    static let migrate = Command(
        "MIGRATE", since: "2.6.0", arity: .atLeast(6), flags: [.write, .movableKeys, .waits],
        keys: [
            .one(at: 3, [.readWrite, .access, .delete]),
            KeySpec(
                [.readWrite, .access, .delete, .incomplete], begin: .keyword("KEYS", startFrom: -2),
                find: .range(last: -1, step: 1, limit: 0)),
        ],
        categories: ["keyspace", "dangerous"],
        tips: ["nondeterministic_output"],
        arguments: """
            host port:integer key_or_empty_string=<key|empty_string=''> destination-db:integer timeout:integer \
            [COPY@3.0.0] [REPLACE@3.0.0] [authentication=<[AUTH password@4.0.7]|[AUTH2 {username password}@6.0.0]>] \
            [KEYS key#1@3.0.6]...
            """,
        history: [
            ("3.0.0", "Added the `COPY` and `REPLACE` options."),
            ("3.0.6", "Added the `KEYS` option."),
            ("4.0.7", "Added the `AUTH` option."),
            ("6.0.0", "Added the `AUTH2` option."),
        ],
        complexity:
            "This command actually executes a DUMP+DEL in the source instance, and a RESTORE in the target instance. See the pages of these commands for time complexity. Also an O(N) data transfer between the two instances is performed.",
        summary: "Atomically transfer a key from a Redis instance to another one.",
        run: .node { request, node, client throws(ReplyError) in
            let options = try MigrateOptions(request)
            try node.migrate(request, options, client)
        })
}

/// The words behind the timeout.
private struct MigrateOptions {
    var copies = false
    var replaces = false
    var credentials: [[UInt8]] = []
    var keyIndexes: Range<Int> = 3..<4
    let timeout: Int64
    let database: Int64

    init(_ request: Request) throws(ReplyError) {
        var index = 6
        while index < request.count {
            let left = request.count - 1 - index
            if request.matches(index, "COPY") {
                copies = true
            } else if request.matches(index, "REPLACE") {
                replaces = true
            } else if request.matches(index, "AUTH") {
                guard left >= 1 else { throw .syntax }
                credentials = [Array(request[index + 1])]
                index += 1
            } else if request.matches(index, "AUTH2") {
                guard left >= 2 else { throw .syntax }
                credentials = [Array(request[index + 1]), Array(request[index + 2])]
                index += 2
            } else if request.matches(index, "KEYS") {
                guard request[3].count == 0 else {
                    throw .text(
                        "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string")
                }
                keyIndexes = (index + 1)..<request.count
                break
            } else {
                throw .syntax
            }
            index += 1
        }
        guard let timeout = parseInt64(request[5]), let database = parseInt64(request[4]) else { throw .notAnInteger }
        // Bounded so that sums with the clock stay in range: a day is as good as for ever.
        self.timeout = timeout <= 0 ? 1000 : min(timeout, 86_400_000)
        self.database = database
    }
}

extension Node {
    /// Where the keys of a MIGRATE stand.
    func migrateKeyIndexes(of request: Request) -> [Int] {
        guard request.count > 3, request[3].count == 0 else { return [3] }
        var index = 6
        while index < request.count {
            if request.matches(index, "KEYS") { return Array((index + 1)..<request.count) }
            if request.matches(index, "AUTH") { index += 1 }
            if request.matches(index, "AUTH2") { index += 2 }
            index += 1
        }
        return [3]
    }

    fileprivate mutating func migrate(
        _ request: Request, _ options: MigrateOptions, _ client: ClientPointer
    ) throws(ReplyError) {
        guard let port = parseInt64(request[2]), port > 0, port < 65536 else {
            throw .text("IOERR error or timeout connecting to the client")
        }
        var keys: [[UInt8]] = []
        var commands: [UInt8] = []
        for index in options.keyIndexes {
            let key = keyspace.key(request[index])
            guard let entry = keyspace.lookupRead(key) else { continue }
            let bytes = Array(request[index])
            keys.append(bytes)
            appendRestore(bytes, entry, replaces: options.replaces, to: &commands)
        }
        if keys.isEmpty {
            client.pointee.reply.simple("NOKEY")
            return
        }
        let token = parkForAnswer(client)
        let host = String(bytes: request[1])
        pendingMigrations[token] = PendingKeyMigration(
            keys: keys, database: keyspace.selected, copies: options.copies)
        for key in keys { lockedKeys[key.withUnsafeBytes { keyspace.hash($0) }, default: 0] += 1 }
        setGate(.lockedKeys, true)
        effects.append(
            .migrate(
                KeyMigration(
                    token: token, host: host, port: Int(port), database: Int(clamping: options.database),
                    credentials: options.credentials, timeoutMilliseconds: options.timeout, commands: commands,
                    keyCount: keys.count)))
    }

    private func appendRestore(_ key: [UInt8], _ entry: Entry, replaces: Bool, to commands: inout [UInt8]) {
        let timeToLive = entry.expiry.map { max(1, $0 - keyspace.now) } ?? 0
        var encoder = RDBEncoder()
        encoder.appendDump(RDBValue(of: entry))
        var arguments: [[UInt8]] = [
            Array((isClustered ? "RESTORE-ASKING" : "RESTORE").utf8), key, Array(String(timeToLive).utf8),
            Array(encoder.output.bytes),
        ]
        if replaces { arguments.append(Array("REPLACE".utf8)) }
        RequestEncoder.append(arguments, to: &commands)
    }

    /// A transfer has ended: deletes what the target took, lets everybody who waited go on.
    package mutating func migrationEnded(_ token: UInt64, _ outcome: KeyMigrationOutcome) {
        guard let migration = pendingMigrations.removeValue(forKey: token) else { return }
        for key in migration.keys {
            let lock = key.withUnsafeBytes { keyspace.hash($0) }
            if let count = lockedKeys[lock], count > 1 { lockedKeys[lock] = count - 1 } else { lockedKeys[lock] = nil }
        }
        switch outcome {
        case .failed(let text): answer(token) { $0.error(.message(text)) }
        case .answered(let errors):
            if !migration.copies { deleteMigrated(migration, errors) }
            let error = errors.compactMap { $0 }.first
            answer(token) { reply in
                if let error {
                    reply.error(.message("ERR Target instance replied with error: \(error)"))
                } else {
                    reply.ok()
                }
            }
        }
        if lockedKeys.isEmpty { setGate(.lockedKeys, false) }
        if !blocked.postponed.isEmpty { retryPostponedWaits() }
        reportPause()
        for client in parkedClients where client.pointee.parked == .migratingKey { unpark(client) }
    }

    private mutating func deleteMigrated(_ migration: PendingKeyMigration, _ errors: [String?]) {
        // A node that was demoted meanwhile follows its primary and deletes nothing by itself.
        guard !gates.contains(.replica) else { return }
        keyspace.selected = migration.database
        var deleted: [[UInt8]] = []
        for (key, error) in zip(migration.keys, errors) where error == nil {
            let isDeleted = key.withUnsafeBytes { keyspace.delete(keyspace.key($0)) }
            if isDeleted { deleted.append(key) }
        }
        guard !deleted.isEmpty, keyspace.propagation.isOn else { return }
        for key in deleted {
            key.withUnsafeBytes {
                keyspace.propagation.append(database: migration.database, StaticString("DEL").bytes, $0)
            }
        }
        flushPropagation()
    }

    /// Whether a command may touch a key that is on its way to another server. A key of the same name in another database,
    /// or of the same hash, waits too: that costs a moment, and no more.
    func touchesLockedKey(_ request: Request, command index: Int) -> Bool {
        let hot = commands.hot + index
        if hot.pointee.hasOneKey(in: request) { return lockedKeys[request.keyHash] != nil }
        let indexes = keyIndexes(of: request, command: index)
        // A write that names no key is about all of them.
        if indexes.isEmpty { return hot.pointee.flags.contains(.write) }
        return indexes.contains { lockedKeys[keyspace.hash(request[$0])] != nil }
    }
}
