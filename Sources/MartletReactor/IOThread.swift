import MartletBase
import MartletRESP
import MartletServer
import MartletSystem
import Synchronization

// I/O threads: receiving, parsing and sending for a share of the connections (`io-threads N`: the command thread and N - 1
// of these).
//
// A connection belongs to one thread at a time; `IOBalance` says when it moves. Its I/O thread receives and parses into an `Intake`; whole intakes go
// to the command thread over a ring, are executed there, and come back by the end of that turn with the replies in the
// connections' `outgoing` buffers. While an intake is away, its connections are left alone: so requests of a client stay in
// order, and neither side locks anything. The command thread's other wishes (a reply out of turn, going on after a wait,
// closing) travel over the same ring and so never overtake a batch.
//
// Who frees what: a client is the command thread's. A connection is freed by its I/O thread once the command thread has
// said that it will not name it again (`forget`); reports about connections name the client's id, which may be gone.
//
// Sockets are watched edge-triggered: what comes while an intake is away must not wake the thread again and again.

/// An intake that travels between threads.
typealias IntakePointer = UnsafeMutablePointer<Intake>

/// What the command thread asks of an I/O thread.
enum IORequest: @unchecked Sendable {
    case adopt(ConnectionPointer)
    /// A batch comes back.
    case executed(IntakePointer)
    /// Replies out of turn. The receiver frees the buffer.
    case send(ConnectionPointer, UnsafeMutablePointer<ReplyBuffer>)
    /// The client is no longer parked.
    case resume(ConnectionPointer)
    case closeAfterSending(ConnectionPointer)
    /// The command thread wants to own it.
    case giveBack(ConnectionPointer)
    /// The last word about a connection: close and free it.
    case forget(ConnectionPointer)
    case limits(Intake.Limits)
    case stop
}

/// What an I/O thread tells the command thread.
enum IOReport: @unchecked Sendable {
    case received(IntakePointer)
    /// Nothing more will come of this client's connection.
    case ended(clientID: UInt64, tooMuch: Bool)
    /// The command thread owns the connection from now on.
    case gaveBack(ConnectionPointer)
}

/// Both ends of the rings of one I/O thread.
final class IOChannel: Sendable {
    let requests = Ring<IORequest>(capacity: 1 << 12)
    let reports = Ring<IOReport>(capacity: 1 << 12)
    /// Of the I/O thread, and of the command thread.
    let doorbell: Doorbell
    let commandDoorbell: Doorbell
    /// Since they were last asked for.
    let bytesSent = Atomic<Int>(0)
    /// Microseconds of work.
    let busy = Atomic<Int64>(0)

    init(commandDoorbell: Doorbell) throws(SystemError) {
        doorbell = try Doorbell()
        self.commandDoorbell = commandDoorbell
    }
}

/// An I/O thread, as the command thread knows it.
final class IOThread {
    let channel: IOChannel
    var requests: RingSender<IORequest>
    private var thread: Thread?

    init(
        number: Int, commandDoorbell: Doorbell, preparer: RequestPreparer, limits: Intake.Limits
    ) throws(SystemError) {
        channel = try IOChannel(commandDoorbell: commandDoorbell)
        requests = RingSender(channel.requests)
        nonisolated(unsafe) let loop = UnsafeMutablePointer<IOLoop>.allocate(capacity: 1)
        loop.initialize(to: try IOLoop(channel, preparer: preparer, limits: limits))
        thread = try Thread(name: "io_thread_\(number)") {
            loop.pointee.run()
            loop.deinitialize(count: 1)
            loop.deallocate()
        }
    }

    /// What was asked before is still done.
    func stop() {
        requests.post(.stop)
        while !requests.flush() {
            channel.doorbell.ring()
            SystemClock.sleep(microseconds: 100)
        }
        channel.doorbell.ring()
        thread.take()?.join()
    }
}

/// The loop of an I/O thread.
struct IOLoop: ~Copyable {
    private let channel: IOChannel
    private var poller: Poller
    private var reports: RingSender<IOReport>
    private var limits: Intake.Limits
    /// Being filled; nil while all intakes are away.
    private var intake: IntakePointer?
    private var freeIntakes: [IntakePointer] = []
    /// Connections that have something to receive or to parse, and wait for an intake or for their next turn.
    private var queue: [ConnectionPointer] = []
    private var returned: [ConnectionPointer] = []
    private var isStopping = false
    /// Monotonic microseconds.
    private var awakeSince = SystemClock.monotonicMicroseconds

    /// As many batches may be away at a time: one is executed, one waits for it, one is being filled, and one more.
    private static let intakeCount = 4
    private static let arenaBytes = 256 * 1024
    private static let doorbellToken: UInt64 = 0

    init(_ channel: IOChannel, preparer: RequestPreparer, limits: Intake.Limits) throws(SystemError) {
        let poller = try Poller()
        try poller.add(channel.doorbell.fd, .readable, token: Self.doorbellToken)
        self.poller = poller
        self.channel = channel
        self.limits = limits
        reports = RingSender(channel.reports)
        for _ in 0..<Self.intakeCount {
            let intake = IntakePointer.allocate(capacity: 1)
            intake.initialize(to: Intake(arenaBytes: Self.arenaBytes, preparer: preparer))
            freeIntakes.append(intake)
        }
        intake = freeIntakes.popLast()
    }

    deinit {
        for intake in freeIntakes + [intake].compactMap(\.self) {
            intake.deinitialize(count: 1)
            intake.deallocate()
        }
    }

    mutating func run() {
        while !isStopping {
            while let request = channel.requests.pop() { handle(request) }
            serveQueue()
            submit()
            if !isStopping { wait() }
        }
    }

    private mutating func wait() {
        var timeout = -1
        if reports.isWaiting {
            if !reports.flush() { timeout = 1 }
            channel.commandDoorbell.ring()
        }
        if !queue.isEmpty, intake != nil { timeout = 0 }
        if timeout != 0 {
            channel.doorbell.willSleep()
            if !channel.requests.isEmpty { timeout = 0 }
        }
        channel.busy.add(SystemClock.monotonicMicroseconds - awakeSince, ordering: .relaxed)
        let eventCount = poller.wait(timeoutMilliseconds: timeout)
        awakeSince = SystemClock.monotonicMicroseconds
        channel.doorbell.wokeUp()
        for index in 0..<eventCount {
            let event = poller.event(at: index)
            guard let connection = ConnectionPointer(bitPattern: UInt(event.token)) else {
                channel.doorbell.acknowledge()
                continue
            }
            if event.isPeerClosed { connection.pointee.isEnding = true }
            if event.isReadable { connection.pointee.isReadable = true }
            // The command thread may be writing to one that is in a batch; it is sent when that comes back.
            if connection.pointee.isInBatch { continue }
            if event.isWritable, connection.pointee.waitsForWrite { send(connection) }
            serve(connection)
        }
        submit()
    }

    private mutating func handle(_ request: IORequest) {
        switch request {
        case .adopt(let connection): adopt(connection)
        case .executed(let intake): takeBack(intake)
        case .send(let connection, let buffer):
            if !connection.pointee.hasEnded {
                append(buffer, to: connection)
                send(connection)
            }
            buffer.deinitialize(count: 1)
            buffer.deallocate()
        case .resume(let connection):
            // Parked and resumed within one turn: its batch has told that already, and there is a new one since, in which
            // the client may have parked again.
            if connection.pointee.isInBatch { break }
            connection.pointee.isParked = false
            connection.pointee.hasUnparsed = true
            serve(connection)
        case .closeAfterSending(let connection):
            connection.pointee.closesAfterSending = true
            send(connection)
        case .giveBack(let connection):
            connection.pointee.isWanted = true
            if !connection.pointee.isInBatch { giveBack(connection) }
        case .forget(let connection):
            connection.pointee.isForgotten = true
            if !connection.pointee.isInBatch { free(connection) }
        case .limits(let limits): self.limits = limits
        case .stop: isStopping = true
        }
    }

    private mutating func adopt(_ connection: ConnectionPointer) {
        let interest: Poller.Interest = [.readable, .writable, .peerClosed, .edgeTriggered]
        let token = UInt64(UInt(bitPattern: connection))
        do throws(SystemError) { try poller.add(connection.pointee.fd, interest, token: token) } catch {
            Log.verbose("Error registering a client connection: \(error)")
            end(connection, isWatched: false)
        }
    }

    // MARK: Receive

    /// Goes on with a connection as far as it is possible now.
    private mutating func serve(_ connection: ConnectionPointer) {
        if connection.pointee.isInBatch || connection.pointee.hasEnded || connection.pointee.closesAfterSending {
            return
        }
        let wantsParsing = connection.pointee.hasUnparsed && !connection.pointee.isParked
        guard wantsParsing || connection.pointee.isReadable else { return }
        guard let intake else { return enqueue(connection) }
        if wantsParsing {
            connection.pointee.hasUnparsed = false
            connection.pointee.missing = 0
            intake.pointee.parsePending(connection, limits)
            if connection.pointee.isInBatch { return }
        }
        guard connection.pointee.isReadable else { return }
        switch intake.pointee.receive(connection, limits) {
        case .received(let isDrained):
            // What is in a batch goes on when that comes back.
            connection.pointee.isReadable = !isDrained || connection.pointee.isEnding
            if connection.pointee.isReadable, !connection.pointee.isInBatch { enqueue(connection) }
        case .nothing: connection.pointee.isReadable = false
        case .ended: end(connection)
        case .tooMuch: end(connection, tooMuch: true)
        }
        if intake.pointee.isFull { submit() }
    }

    private mutating func enqueue(_ connection: ConnectionPointer) {
        if connection.pointee.isQueued { return }
        connection.pointee.isQueued = true
        queue.append(connection)
    }

    private mutating func serveQueue() {
        guard !queue.isEmpty, intake != nil else { return }
        let connections = queue
        queue.removeAll(keepingCapacity: true)
        for connection in connections {
            connection.pointee.isQueued = false
            serve(connection)
        }
    }

    /// Sends what was received to the command thread.
    private mutating func submit() {
        guard let full = intake, !full.pointee.isEmpty else { return }
        reports.post(.received(full))
        intake = freeIntakes.popLast()
        channel.commandDoorbell.ring()
    }

    /// An executed batch: keep the rests, send the replies, go on.
    private mutating func takeBack(_ executed: IntakePointer) {
        returned.removeAll(keepingCapacity: true)
        for index in 0..<executed.pointee.batch.chunkCount {
            let chunk = executed.pointee.batch.chunks[index]
            guard let connection = chunk.connectionPointer else { continue }
            Intake.keepRest(of: chunk, connection)
            if chunk.isStopped || chunk.hasMore { connection.pointee.hasUnparsed = true }
            returned.append(connection)
        }
        executed.pointee.removeAll()
        if intake == nil { intake = executed } else { freeIntakes.append(executed) }
        for connection in returned {
            if connection.pointee.isForgotten {
                free(connection)
            } else if connection.pointee.isWanted {
                giveBack(connection)
            } else {
                send(connection)
                serve(connection)
            }
        }
    }

    // MARK: Send

    private mutating func append(_ buffer: UnsafeMutablePointer<ReplyBuffer>, to connection: ConnectionPointer) {
        guard let outgoing = connection.pointee.outgoing else { return }
        outgoing.pointee.take(&buffer.pointee)
    }

    private mutating func send(_ connection: ConnectionPointer) {
        guard let outgoing = connection.pointee.outgoing, !connection.pointee.hasEnded else { return }
        let total = outgoing.pointee.count
        if connection.pointee.sent < total {
            let start = outgoing.pointee.base + connection.pointee.sent
            switch Socket.send(connection.pointee.fd, from: start, count: total - connection.pointee.sent) {
            case .transferred(let count):
                connection.pointee.sent += count
                connection.pointee.unsentBytes.subtract(count, ordering: .relaxed)
                channel.bytesSent.add(count, ordering: .relaxed)
            case .wouldBlock: break
            case .endOfStream, .failed: return end(connection)
            }
        }
        if connection.pointee.sent == total {
            outgoing.pointee.removeAll()
            connection.pointee.sent = 0
            connection.pointee.waitsForWrite = false
            if connection.pointee.closesAfterSending { end(connection) }
            return
        }
        connection.pointee.waitsForWrite = true
        if connection.pointee.sent > 1 << 20, connection.pointee.sent > total / 2 {
            outgoing.pointee.removePrefix(connection.pointee.sent)
            connection.pointee.sent = 0
        }
    }

    // MARK: The end of a connection

    private mutating func end(_ connection: ConnectionPointer, tooMuch: Bool = false, isWatched: Bool = true) {
        guard !connection.pointee.hasEnded else { return }
        close(connection, isWatched: isWatched)
        reports.post(.ended(clientID: connection.pointee.clientID, tooMuch: tooMuch))
        channel.commandDoorbell.ring()
    }

    private mutating func close(_ connection: ConnectionPointer, isWatched: Bool = true) {
        connection.pointee.hasEnded = true
        if isWatched { poller.remove(connection.pointee.fd) }
        Socket.close(connection.pointee.fd)
    }

    private mutating func free(_ connection: ConnectionPointer) {
        if !connection.pointee.hasEnded { close(connection) }
        unqueue(connection)
        connection.deinitialize(count: 1)
        connection.deallocate()
    }

    private mutating func giveBack(_ connection: ConnectionPointer) {
        unqueue(connection)
        if !connection.pointee.hasEnded { poller.remove(connection.pointee.fd) }
        reports.post(.gaveBack(connection))
        channel.commandDoorbell.ring()
    }

    private mutating func unqueue(_ connection: ConnectionPointer) {
        guard connection.pointee.isQueued else { return }
        connection.pointee.isQueued = false
        queue.removeAll { $0 == connection }
    }
}
