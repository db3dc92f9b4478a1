import MartletRESP
import MartletServer
import MartletSystem

/// What one thread receives and parses in a turn: small requests of many connections land side by side in one arena, so that
/// nothing is allocated and the caches stay warm; a connection's unfinished bytes move into memory of its own when the batch
/// is done, and only then.
///
/// Touches connections that its thread owns, and nothing else. The command thread executes the batch.
struct Intake: ~Copyable {
    private(set) var batch = RequestBatch()
    private let arena: UnsafeMutablePointer<UInt8>
    private let arenaBytes: Int
    private var arenaUsed = 0
    private let preparer: RequestPreparer
    /// Bytes received since the batch was last emptied.
    private(set) var bytesReceived = 0

    struct Limits: Sendable {
        var request: RequestLimits
        /// `client-query-buffer-limit`
        let queryBytesMax: Int

        init(request: RequestLimits, queryBytesMax: Int) {
            self.request = request
            self.request.parsedBytesMax = Intake.receiveBytesMax
            self.queryBytesMax = queryBytesMax
        }
    }

    enum Outcome {
        /// Something came. With `isDrained`, all that was there.
        case received(isDrained: Bool)
        case nothing
        /// End of stream or a broken connection.
        case ended
        case tooMuch
    }

    /// One receive: enough for a full pipeline, little enough to be fair.
    private static let receiveBytesMax = 64 * 1024
    private static let receiveBytesMin = 16 * 1024

    /// - Parameter arenaBytes: received side by side before a batch is executed.
    init(arenaBytes: Int, preparer: RequestPreparer) {
        self.arenaBytes = arenaBytes
        self.preparer = preparer
        arena = .allocate(capacity: arenaBytes)
    }

    deinit { arena.deallocate() }

    var isFull: Bool { arenaBytes - arenaUsed < Self.receiveBytesMin }
    var isEmpty: Bool { batch.chunkCount == 0 }

    /// Receives once, and parses what came.
    ///
    /// - Precondition: the connection is not in a batch, and this intake is not full.
    mutating func receive(_ connection: ConnectionPointer, _ limits: Limits) -> Outcome {
        if connection.pointee.isParked || connection.pointee.pending.count > 0 {
            let outcome = receiveIntoPending(connection, limits)
            if case .received = outcome { parsePending(connection, limits) }
            return outcome
        }
        let target = arena + arenaUsed
        let room = min(arenaBytes - arenaUsed, Self.receiveBytesMax)
        switch Socket.receive(connection.pointee.fd, into: target, count: room) {
        case .transferred(let count):
            arenaUsed += count
            bytesReceived += count
            parse(connection, base: UnsafePointer(target), count: count, limits)
            return .received(isDrained: count < room)
        case .wouldBlock: return .nothing
        case .endOfStream, .failed: return .ended
        }
    }

    /// Only keeps the bytes: those of a parked client wait there, and a closed connection is noticed.
    private mutating func receiveIntoPending(_ connection: ConnectionPointer, _ limits: Limits) -> Outcome {
        connection.pointee.pending.reserve(max(Self.receiveBytesMin, connection.pointee.missing))
        let room = connection.pointee.pending.room
        switch Socket.receive(connection.pointee.fd, into: connection.pointee.pending.end, count: room) {
        case .transferred(let count):
            connection.pointee.pending.received(count)
            bytesReceived += count
            if connection.pointee.pending.count > limits.queryBytesMax { return .tooMuch }
            connection.pointee.missing = max(0, connection.pointee.missing - count)
            return .received(isDrained: count < room)
        case .wouldBlock: return .nothing
        case .endOfStream, .failed: return .ended
        }
    }

    /// Goes on with the bytes that were kept, unless the client is parked.
    mutating func parsePending(_ connection: ConnectionPointer, _ limits: Limits) {
        guard !connection.pointee.isParked, let base = connection.pointee.pending.front else { return }
        // A long argument that is still coming in needs no look at all.
        if connection.pointee.missing > 0 { return }
        parse(connection, base: UnsafePointer(base), count: connection.pointee.pending.count, limits)
    }

    private mutating func parse(
        _ connection: ConnectionPointer, base: UnsafePointer<UInt8>, count: Int, _ limits: Limits
    ) {
        let first = batch.count
        let chunk = batch.append(
            Chunk(
                base: base, count: count, client: UnsafeMutableRawPointer(connection.pointee.client),
                connection: UnsafeMutableRawPointer(connection)))
        connection.pointee.isInBatch = true
        var requestLimits = limits.request
        requestLimits.isAuthenticated = connection.pointee.isAuthenticated
        connection.pointee.missing = RequestParser.parse(
            chunk: chunk, limits: requestLimits, partial: &connection.pointee.partial, into: &batch)
        preparer.prepare(batch, from: first)
    }

    /// Keeps what a connection sent and the executed batch did not use.
    static func keepRest(of chunk: Chunk, _ connection: ConnectionPointer) {
        connection.pointee.isInBatch = false
        if chunk.isStopped { connection.pointee.partial = nil }
        if let base = connection.pointee.pending.front, UnsafePointer(base) == chunk.base {
            connection.pointee.pending.consume(chunk.consumed)
        } else if chunk.consumed < chunk.count {
            connection.pointee.pending.reserve(chunk.count - chunk.consumed + connection.pointee.missing)
            connection.pointee.pending.append(chunk.base + chunk.consumed, count: chunk.count - chunk.consumed)
        }
    }

    /// - Precondition: the batch was executed, and the rests were kept.
    mutating func removeAll() {
        batch.removeAll()
        arenaUsed = 0
        bytesReceived = 0
    }
}

extension Chunk {
    var connectionPointer: ConnectionPointer? { connection?.assumingMemoryBound(to: Connection.self) }
}
