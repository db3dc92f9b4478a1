import MartletBase
import MartletRESP

/// Writes commands into the log: the one place where a change becomes bytes.
///
/// Replicas apply the stream with one selected database, so a SELECT goes before a command whose database differs from
/// the one before. A full sync makes that unknown again: the replica starts from the image, and the next command must
/// select for it.
///
/// Source: Redis 7.0 replication.c, `replicationFeedSlaves`; server.c, `propagatePendingCommands`.
package struct ReplicationFeed: ~Copyable {
    package var log: ReplicationLog
    /// Database that the stream has selected; -1 when the next command has to select one.
    package private(set) var selectedDatabase = -1

    package init(end: Int64 = 0) {
        log = ReplicationLog(end: end)
    }

    /// A replica is about to start from an image: whatever comes next selects its database anew.
    package mutating func forgetSelection() {
        selectedDatabase = -1
    }

    /// A command that is already RESP bytes: as it arrived from a client, or from the propagation queue.
    package mutating func append(database: Int, encoded bytes: UnsafeRawBufferPointer) {
        guard log.isActive else { return }
        select(database)
        log.append(bytes)
    }

    /// A command by its arguments.
    package mutating func append(database: Int, _ request: Request) {
        append(
            database: database,
            arguments: UnsafeBufferPointer(start: UnsafePointer(request.arguments), count: request.count))
    }

    /// A command by its arguments.
    ///
    /// Encoded straight into the log's last block unless it ends before the command might.
    package mutating func append(database: Int, arguments: UnsafeBufferPointer<UnsafeRawBufferPointer>) {
        guard log.isActive else { return }
        select(database)
        // A header is a type byte, up to 20 digits and a line end; a bulk string has another line end.
        var bytesMax = 23 &+ 25 &* arguments.count
        for argument in arguments { bytesMax &+= argument.count }
        if let room = log.reserve(bytesMax) {
            log.commit(Self.encode(arguments, to: room))
        } else {
            appendInPieces(arguments)
        }
    }

    private static func encode(
        _ arguments: UnsafeBufferPointer<UnsafeRawBufferPointer>, to room: UnsafeMutableRawPointer
    ) -> Int {
        var count = writeHeader(UInt8(ascii: "*"), arguments.count, to: room)
        for argument in arguments {
            count &+= writeHeader(UInt8(ascii: "$"), argument.count, to: room + count)
            if let source = argument.baseAddress {
                (room + count).copyMemory(from: source, byteCount: argument.count)
            }
            count &+= argument.count
            (room + count).storeBytes(of: (0x0A0D as UInt16).littleEndian, as: UInt16.self)
            count &+= 2
        }
        return count
    }

    /// `<type><number>\r\n`
    private static func writeHeader(_ type: UInt8, _ number: Int, to room: UnsafeMutableRawPointer) -> Int {
        room.storeBytes(of: type, as: UInt8.self)
        let count = 1 &+ writeDecimal(UInt64(number), to: room + 1)
        (room + count).storeBytes(of: (0x0A0D as UInt16).littleEndian, as: UInt16.self)
        return count &+ 2
    }

    @inline(never)
    private mutating func appendInPieces(_ arguments: UnsafeBufferPointer<UnsafeRawBufferPointer>) {
        withUnsafeTemporaryAllocation(byteCount: 32, alignment: 8) { header in
            let room = header.baseAddress!
            func bytes(_ count: Int) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: room, count: count) }
            log.append(bytes(Self.writeHeader(UInt8(ascii: "*"), arguments.count, to: room)))
            for argument in arguments {
                log.append(bytes(Self.writeHeader(UInt8(ascii: "$"), argument.count, to: room)))
                log.append(argument)
                log.append("\r\n")
            }
        }
    }

    private mutating func select(_ database: Int) {
        if database != selectedDatabase { appendSelect(database) }
    }

    @inline(never)
    private mutating func appendSelect(_ database: Int) {
        precondition(database >= 0)
        var command: [UInt8] = []
        RequestEncoder.append("SELECT", String(database), to: &command)
        command.withUnsafeBytes { log.append($0) }
        selectedDatabase = database
    }

    // MARK: - Commands of our own

    /// Opens a transaction: what follows, up to ``appendExec()``, is applied as one. The database of the first command
    /// is selected in front of it.
    package mutating func appendMulti(database: Int) {
        guard log.isActive else { return }
        select(database)
        log.append("*1\r\n$5\r\nMULTI\r\n")
    }

    package mutating func appendExec() {
        log.append("*1\r\n$4\r\nEXEC\r\n")
    }

    /// Tells replicas that the link lives; sent every `repl-ping-replica-period`.
    package mutating func appendPing() {
        log.append("*1\r\n$4\r\nPING\r\n")
    }

    /// Asks replicas for their offsets at once, for WAIT.
    package mutating func appendGetAck() {
        log.append("*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n")
    }

    /// Passes on the stream of our own primary, byte for byte: our replicas share its offsets.
    package mutating func append(stream bytes: UnsafeRawBufferPointer) {
        log.append(bytes)
    }
}
