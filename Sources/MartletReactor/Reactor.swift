import MartletBase
import MartletRESP
import MartletServer
import MartletSystem

// The loop of the command thread.
//
// A turn has three phases. Read: every connection that has data is received and parsed into one batch; small requests
// land side by side in one arena, so that nothing is allocated and the caches stay warm. Execute: the node runs the batch.
// Write: each client that has replies gets them in one send. A connection's unfinished bytes move into memory of its own
// between turns, and only then.
//
// The phases touch each other only through the batch and the reply buffers, so reading and writing can move to other
// threads without a change here.

package struct Reactor: ~Copyable {
    private var node: Node
    private var poller: Poller
    private var batch = RequestBatch()
    private let arena: UnsafeMutablePointer<UInt8>
    private var arenaUsed = 0
    private var listeners: [Int32] = []
    private var clock: SlewedClock
    /// Connections with replies to send at the end of the turn.
    private var writeQueue: [ConnectionPointer] = []
    private var closed: [ConnectionPointer] = []
    private var resumed: [ConnectionPointer] = []
    private var nextCron: Int64 = 0
    private var isStopping = false

    /// Bytes received side by side before a batch is executed: about what a core's second-level cache holds.
    private static let arenaBytes = 512 * 1024
    /// One receive: enough for a full pipeline, little enough to be fair.
    private static let receiveBytesMax = 64 * 1024
    private static let receiveBytesMin = 16 * 1024
    private static let cronPeriodMilliseconds: Int64 = 100
    /// (MAX_ACCEPTS_PER_CALL)
    private static let acceptsPerTurnMax = 1000
    /// Tokens below this are listeners; others are addresses of connections.
    private static let listenerTokens: UInt64 = 1024

    package init(listeners: [Int32], makeNode: (NodeTime) -> Node) throws(SystemError) {
        let poller = try Poller()
        for (index, listener) in listeners.enumerated() {
            try poller.add(listener, .readable, token: UInt64(index))
        }
        self.poller = poller
        clock = SlewedClock(monotonic: SystemClock.monotonicMicroseconds, wall: SystemClock.wallMicroseconds)
        arena = .allocate(capacity: Self.arenaBytes)
        let monotonic = SystemClock.monotonicMicroseconds
        node = makeNode(NodeTime(monotonicMicroseconds: monotonic, unixMicroseconds: clock.now(monotonic: monotonic)))
        self.listeners = listeners
    }

    deinit { arena.deallocate() }

    // MARK: The loop

    package mutating func run() {
        while !isStopping { turn() }
    }

    private mutating func turn() {
        let now = SystemClock.monotonicMilliseconds
        let timeout = resumed.isEmpty ? max(0, nextCron - now) : 0
        let eventCount = poller.wait(timeoutMilliseconds: Int(timeout))
        updateTime()
        for index in 0..<eventCount {
            let event = poller.event(at: index)
            if event.token < Self.listenerTokens {
                accept(listeners[Int(event.token)])
                continue
            }
            guard let connection = ConnectionPointer(bitPattern: UInt(event.token)), !connection.pointee.isClosed else {
                continue
            }
            if event.isReadable { receive(connection) }
            if event.isWritable, !connection.pointee.isClosed { send(connection) }
        }
        takeResumed()
        executeBatch()
        if node.time.monotonicMilliseconds >= nextCron {
            nextCron = node.time.monotonicMilliseconds + Self.cronPeriodMilliseconds
            clock.observe(monotonic: SystemClock.monotonicMicroseconds, wall: SystemClock.wallMicroseconds)
        }
        sendQueued()
        freeClosed()
    }

    private mutating func updateTime() {
        let monotonic = SystemClock.monotonicMicroseconds
        node.beginTurn(NodeTime(monotonicMicroseconds: monotonic, unixMicroseconds: clock.now(monotonic: monotonic)))
    }

    // MARK: Accept and close

    private mutating func accept(_ listener: Int32) {
        for _ in 0..<Self.acceptsPerTurnMax {
            switch Socket.accept(listener) {
            case .connection(let fd, let peer): open(fd, peer: peer)
            case .wouldBlock: return
            case .aborted: continue
            case .tooManyFiles: return
            }
        }
    }

    private mutating func open(_ fd: Int32, peer: SocketAddress) {
        let local = Socket.localAddress(fd)
        let client = node.addClient(address: peer.description, localAddress: local?.description ?? "", fd: fd)
        let connection = ConnectionPointer.allocate(capacity: 1)
        connection.initialize(to: Connection(fd: fd, client: client))
        client.pointee.connection = UnsafeMutableRawPointer(connection)
        do {
            if !peer.isUnix { try Socket.setNoDelay(fd) }
            try poller.add(fd, .readable, token: UInt64(UInt(bitPattern: connection)))
        } catch {
            close(connection, isWatched: false)
        }
    }

    private mutating func close(_ connection: ConnectionPointer, isWatched: Bool = true) {
        guard !connection.pointee.isClosed else { return }
        connection.pointee.isClosed = true
        if isWatched { poller.remove(connection.pointee.fd) }
        Socket.close(connection.pointee.fd)
        closed.append(connection)
    }

    /// At the end of the turn nothing refers to closed connections any more.
    private mutating func freeClosed() {
        guard !closed.isEmpty else { return }
        for connection in closed {
            node.remove(connection.pointee.client)
            connection.deinitialize(count: 1)
            connection.deallocate()
        }
        closed.removeAll(keepingCapacity: true)
    }

    // MARK: Read

    private mutating func receive(_ connection: ConnectionPointer) {
        let client = connection.pointee.client
        if client.pointee.isParked || connection.pointee.isInBatch {
            // Only to notice a closed connection and to keep the socket drained; executed after the client resumes.
            receiveIntoPending(connection)
            return
        }
        if connection.pointee.pending.count > 0 {
            guard receiveIntoPending(connection) else { return }
            parsePending(connection)
            return
        }
        if Self.arenaBytes - arenaUsed < Self.receiveBytesMin { executeBatch() }
        if connection.pointee.isClosed { return }
        let target = arena + arenaUsed
        let room = min(Self.arenaBytes - arenaUsed, Self.receiveBytesMax)
        switch Socket.receive(connection.pointee.fd, into: target, count: room) {
        case .transferred(let count):
            arenaUsed += count
            node.statistics.bytesReceived += count
            parse(connection, base: UnsafePointer(target), count: count)
        case .wouldBlock: return
        case .endOfStream, .failed: close(connection)
        }
    }

    /// - Returns: false if nothing came.
    @discardableResult
    private mutating func receiveIntoPending(_ connection: ConnectionPointer) -> Bool {
        connection.pointee.pending.reserve(max(Self.receiveBytesMin, connection.pointee.missing))
        let room = connection.pointee.pending.free
        switch Socket.receive(connection.pointee.fd, into: connection.pointee.pending.end, count: room) {
        case .transferred(let count):
            connection.pointee.pending.received(count)
            connection.pointee.missing = max(0, connection.pointee.missing - count)
            node.statistics.bytesReceived += count
            return true
        case .wouldBlock: return false
        case .endOfStream, .failed:
            close(connection)
            return false
        }
    }

    private mutating func parsePending(_ connection: ConnectionPointer) {
        guard let base = connection.pointee.pending.base else { return }
        // A long argument that is still coming in needs no look at all.
        if connection.pointee.missing > 0 { return }
        parse(connection, base: UnsafePointer(base), count: connection.pointee.pending.count)
    }

    private mutating func parse(_ connection: ConnectionPointer, base: UnsafePointer<UInt8>, count: Int) {
        let client = connection.pointee.client
        let first = batch.count
        let chunk = batch.append(
            Chunk(
                base: base, count: count, client: UnsafeMutableRawPointer(client),
                connection: UnsafeMutableRawPointer(connection)))
        connection.pointee.isInBatch = true
        let limits = RequestLimits(isAuthenticated: client.pointee.isAuthenticated)
        connection.pointee.missing = RequestParser.parse(
            chunk: chunk, limits: limits, partial: &connection.pointee.partial, into: &batch)
        node.prepare(batch, from: first)
    }

    // MARK: Execute

    private mutating func executeBatch() {
        if batch.chunkCount > 0 {
            node.execute(batch)
            for index in 0..<batch.chunkCount { finish(batch.chunks[index]) }
            batch.removeAll()
            arenaUsed = 0
        }
        if !node.effects.isEmpty { carryOutEffects() }
    }

    /// Keeps what a connection sent and the batch did not use.
    private mutating func finish(_ chunk: Chunk) {
        guard let pointer = chunk.connection else { return }
        let connection = pointer.assumingMemoryBound(to: Connection.self)
        let client = connection.pointee.client
        connection.pointee.isInBatch = false
        if chunk.isStopped { connection.pointee.partial = nil }
        if let base = connection.pointee.pending.base, UnsafePointer(base) == chunk.base {
            connection.pointee.pending.consume(chunk.consumed)
        } else if chunk.consumed < chunk.count {
            connection.pointee.pending.reserve(chunk.count - chunk.consumed + connection.pointee.missing)
            connection.pointee.pending.append(chunk.base + chunk.consumed, count: chunk.count - chunk.consumed)
        }
        if client.pointee.reply.count > 0 || client.pointee.isClosing { queueWrite(connection) }
    }

    private mutating func carryOutEffects() {
        let effects = node.effects
        node.effects.removeAll(keepingCapacity: true)
        for effect in effects {
            switch effect {
            case .send(let client):
                if let connection = connection(of: client) { queueWrite(connection) }
            case .resume(let client):
                if let connection = connection(of: client) { resumed.append(connection) }
            case .close(let client):
                if let connection = connection(of: client) { close(connection) }
            case .free: break
            case .stop: isStopping = true
            }
        }
    }

    private func connection(of client: ClientPointer) -> ConnectionPointer? {
        client.pointee.connection?.assumingMemoryBound(to: Connection.self)
    }

    /// Clients that need not wait any longer go on with what they had sent.
    private mutating func takeResumed() {
        guard !resumed.isEmpty else { return }
        let connections = resumed
        resumed.removeAll(keepingCapacity: true)
        for connection in connections
        where !connection.pointee.isClosed && !connection.pointee.isInBatch && !connection.pointee.client.pointee.isParked {
            connection.pointee.missing = 0
            parsePending(connection)
        }
    }

    // MARK: Write

    private mutating func queueWrite(_ connection: ConnectionPointer) {
        guard !connection.pointee.isQueuedForWrite, !connection.pointee.isClosed else { return }
        connection.pointee.isQueuedForWrite = true
        writeQueue.append(connection)
    }

    private mutating func sendQueued() {
        guard !writeQueue.isEmpty else { return }
        for connection in writeQueue {
            connection.pointee.isQueuedForWrite = false
            if !connection.pointee.isClosed, !connection.pointee.waitsForWrite { send(connection) }
        }
        writeQueue.removeAll(keepingCapacity: true)
    }

    private mutating func send(_ connection: ConnectionPointer) {
        let client = connection.pointee.client
        if client.pointee.flags.contains(.closeNow) { return close(connection) }
        let total = client.pointee.reply.count
        if connection.pointee.sent < total {
            let start = client.pointee.reply.base + connection.pointee.sent
            switch Socket.send(connection.pointee.fd, from: start, count: total - connection.pointee.sent) {
            case .transferred(let count):
                connection.pointee.sent += count
                node.statistics.bytesSent += count
            case .wouldBlock: break
            case .endOfStream, .failed: return close(connection)
            }
        }
        let isDone = connection.pointee.sent == total
        if isDone {
            client.pointee.reply.removeAll()
            connection.pointee.sent = 0
            if client.pointee.flags.contains(.closeAfterReply) { return close(connection) }
        } else if connection.pointee.sent > 1 << 20, connection.pointee.sent > total / 2 {
            client.pointee.reply.removePrefix(connection.pointee.sent)
            connection.pointee.sent = 0
        }
        if connection.pointee.waitsForWrite == isDone {
            connection.pointee.waitsForWrite = !isDone
            let interest: Poller.Interest = isDone ? .readable : [.readable, .writable]
            let token = UInt64(UInt(bitPattern: connection))
            do { try poller.modify(connection.pointee.fd, interest, token: token) } catch { close(connection) }
        }
    }
}
