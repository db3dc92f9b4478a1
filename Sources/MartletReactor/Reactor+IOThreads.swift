import MartletBase
import MartletRESP
import MartletServer
import MartletSystem
import Synchronization

// The command thread's side of I/O threads; the story is in IOThread.swift.
//
// Batches that arrive are executed in the turn in which they arrive, and go back at its end, behind the replicas and this
// thread's own clients. Everything else that I/O threads are told in a turn is told after the batches have gone back, so
// that no request about a connection overtakes its batch.

/// The I/O threads of the process, and what the command thread has for them.
final class IOThreadPool {
    let threads: [IOThread]
    let doorbell: Doorbell
    /// Connections of I/O threads by their client's id.
    var connections: [UInt64: ConnectionPointer] = [:]
    /// Executed in this turn.
    fileprivate var executed: [(thread: Int, intake: IntakePointer)] = []
    /// Connections with replies out of turn, and those whose clients go on.
    fileprivate var writeQueue: [ConnectionPointer] = []
    fileprivate var resumed: [ConnectionPointer] = []
    /// Given back in this turn.
    fileprivate var arrived: [ConnectionPointer] = []
    private var nextThread = 0
    fileprivate var balance = IOBalance(now: SystemClock.monotonicMicroseconds, commands: 0)
    /// Whether the threads have got all that they were sent.
    fileprivate var isFlushed = true
    /// Microseconds that the command thread has worked since the last decision.
    fileprivate var commandBusy: Int64 = 0

    /// - Parameter count: threads beside the command thread.
    init(count: Int, preparer: RequestPreparer, limits: Intake.Limits) throws(SystemError) {
        doorbell = try Doorbell()
        var threads: [IOThread] = []
        for number in 1...count {
            threads.append(
                try IOThread(number: number, commandDoorbell: doorbell, preparer: preparer, limits: limits))
        }
        self.threads = threads
    }

    /// The thread of a new connection: each in turn, the command thread (0) among them, if they share the work now.
    func chooseThread(alwaysActive: Bool) -> Int {
        guard alwaysActive || !connections.isEmpty else { return 0 }
        nextThread = (nextThread + 1) % (threads.count + 1)
        return nextThread
    }

    /// Each I/O thread in turn.
    func chooseIOThread() -> Int {
        nextThread = nextThread % threads.count + 1
        return nextThread
    }

    func queueWrite(_ connection: ConnectionPointer) {
        guard !connection.pointee.isQueuedForWrite, !connection.pointee.isClosed else { return }
        connection.pointee.isQueuedForWrite = true
        writeQueue.append(connection)
    }

    func resume(_ connection: ConnectionPointer) { resumed.append(connection) }

    func post(_ request: IORequest, to connection: ConnectionPointer) {
        threads[connection.pointee.thread - 1].requests.post(request)
    }

    func setLimits(_ limits: Intake.Limits) {
        for thread in threads { thread.requests.post(.limits(limits)) }
    }

    var hasReports: Bool { threads.contains { !$0.channel.reports.isEmpty } }

    /// Lets the threads see what was posted. - Returns: false if some did not fit yet.
    func flush() -> Bool {
        var isDone = true
        for thread in threads {
            if !thread.requests.flush() { isDone = false }
            if !thread.channel.requests.isEmpty { thread.channel.doorbell.ring() }
        }
        return isDone
    }
}

// Out of line: a turn without I/O threads pays a comparison for each.
extension Reactor {
    @inline(never)
    mutating func countWork(until now: Int64) { ioThreads?.commandBusy += now - node.time.monotonicMicroseconds }

    /// About to sleep: I/O threads ring from now on, unless there is something already.
    @inline(never)
    mutating func ioTimeout(_ timeout: Int64) -> Int64 {
        guard let pool = ioThreads else { return timeout }
        if timeout == 0 || !pool.isFlushed { return 0 }
        pool.doorbell.willSleep()
        return pool.hasReports ? 0 : timeout
    }

    @inline(never)
    mutating func wokeUpForIOThreads() { ioThreads?.doorbell.wokeUp() }

    /// Behind everything else: the threads see what they were sent.
    @inline(never)
    mutating func endIOTurn() {
        guard let pool = ioThreads else { return }
        takeArrived(pool)
        if isBalanceDue { balanceIOThreads() }
        isBalanceDue = false
        pool.isFlushed = pool.flush()
    }

    /// Takes what I/O threads have received and executes it.
    @inline(never)
    mutating func receiveFromIOThreads() {
        guard let pool = ioThreads else { return }
        for index in pool.threads.indices {
            let reports = pool.threads[index].channel.reports
            while let report = reports.pop() {
                switch report {
                case .received(let intake): execute(intake, ofThread: index, pool)
                case .ended(let clientID, let tooMuch):
                    guard let connection = pool.connections[clientID], !connection.pointee.isClosed else { break }
                    if tooMuch { logTooMuchInput(connection) }
                    close(connection)
                case .gaveBack(let connection): pool.arrived.append(connection)
                }
            }
        }
    }

    private mutating func execute(_ intake: IntakePointer, ofThread thread: Int, _ pool: IOThreadPool) {
        node.statistics.bytesReceived += intake.pointee.bytesReceived
        node.statistics.threadedReads += intake.pointee.batch.chunkCount
        for index in 0..<intake.pointee.batch.chunkCount {
            guard let connection = intake.pointee.batch.chunks[index].connectionPointer else { continue }
            if connection.pointee.isClosed { intake.pointee.batch.abandon(chunk: index) }
        }
        node.execute(intake.pointee.batch)
        pool.executed.append((thread, intake))
        carryOutEffects()
    }

    /// The end of the turn for I/O threads: batches and replies go to them.
    @inline(never)
    mutating func returnToIOThreads() {
        guard let pool = ioThreads else { return }
        for (thread, intake) in pool.executed {
            for index in 0..<intake.pointee.batch.chunkCount {
                settle(intake.pointee.batch.chunks[index])
            }
            pool.threads[thread].requests.post(.executed(intake))
        }
        pool.executed.removeAll(keepingCapacity: true)
        for connection in pool.writeQueue {
            connection.pointee.isQueuedForWrite = false
            sendOutOfTurn(connection, pool)
        }
        pool.writeQueue.removeAll(keepingCapacity: true)
        for connection in pool.resumed where !connection.pointee.isClosed && !connection.pointee.isLeaving {
            pool.post(.resume(connection), to: connection)
        }
        pool.resumed.removeAll(keepingCapacity: true)
    }

    /// Gives a connection that was lent for a batch its replies and what its thread has to know.
    private mutating func settle(_ chunk: Chunk) {
        guard let connection = chunk.connectionPointer, !connection.pointee.isClosed else { return }
        let client = connection.pointee.client
        connection.pointee.isAuthenticated = client.isAuthenticated
        connection.pointee.isParked = client.isParked
        client.pointee.queryBytes = chunk.count - chunk.consumed
        client.pointee.queryCapacity = max(client.pointee.queryBytes, connection.pointee.pending.capacity)
        if client.pointee.flags.contains(.closeNow) { return close(connection) }
        let count = client.pointee.reply.count
        if count > 0, let outgoing = connection.pointee.outgoing {
            let unsent = connection.pointee.unsentBytes.add(count, ordering: .relaxed).newValue
            node.statistics.threadedWrites += 1
            outgoing.pointee.take(&client.pointee.reply)
            if unsent > 1 << 16 || !client.isAuthenticated { checkOutputLimit(connection) }
        }
        if connection.pointee.isClosed { return }
        if client.isReplica {
            // Replicas are sent from the log, by this thread.
            connection.pointee.isLeaving = true
            connection.pointee.isWanted = true
        } else if client.pointee.flags.contains(.closeAfterReply) {
            connection.pointee.closesAfterSending = true
        }
    }

    private mutating func sendOutOfTurn(_ connection: ConnectionPointer, _ pool: IOThreadPool) {
        let client = connection.pointee.client
        if connection.pointee.isClosed || connection.pointee.isLeaving { return }
        if client.pointee.flags.contains(.closeNow) { return close(connection) }
        let count = client.pointee.reply.count
        if count > 0 {
            let buffer = UnsafeMutablePointer<ReplyBuffer>.allocate(capacity: 1)
            buffer.initialize(to: ReplyBuffer())
            buffer.pointee.take(&client.pointee.reply)
            connection.pointee.unsentBytes.add(count, ordering: .relaxed)
            pool.post(.send(connection, buffer), to: connection)
            checkOutputLimit(connection)
        }
        if client.pointee.flags.contains(.closeAfterReply), !connection.pointee.isClosed {
            pool.post(.closeAfterSending(connection), to: connection)
        }
    }

    /// At the very end of a turn, when no list of it names them: only then may those that were closed meanwhile be freed, and
    /// the others change their thread.
    private mutating func takeArrived(_ pool: IOThreadPool) {
        for connection in pool.arrived { takeOver(connection, pool) }
        pool.arrived.removeAll(keepingCapacity: true)
    }

    /// A replica's connection comes to this thread, with what is unsent and unparsed.
    private mutating func takeOver(_ connection: ConnectionPointer, _ pool: IOThreadPool) {
        connection.pointee.isLeaving = false
        connection.pointee.isWanted = false
        connection.pointee.thread = 0
        let client = connection.pointee.client
        pool.connections[connection.pointee.clientID] = nil
        if connection.pointee.isClosed {
            if !connection.pointee.hasEnded { Socket.close(connection.pointee.fd) }
            // Its client is gone already.
            connection.deinitialize(count: 1)
            connection.deallocate()
            return
        }
        if let outgoing = connection.pointee.outgoing {
            outgoing.pointee.removePrefix(connection.pointee.sent)
            outgoing.pointee.append(client.pointee.reply.bytes)
            client.pointee.reply.removeAll()
            client.pointee.reply.take(&outgoing.pointee)
            outgoing.deinitialize(count: 1)
            outgoing.deallocate()
            connection.pointee.outgoing = nil
        }
        connection.pointee.sent = 0
        connection.pointee.unsentBytes.store(0, ordering: .relaxed)
        connection.pointee.waitsForWrite = false
        let token = UInt64(UInt(bitPattern: connection))
        do throws(SystemError) { try poller.add(connection.pointee.fd, .readable, token: token) } catch {
            return close(connection, isWatched: false)
        }
        resume(connection)
        queueWrite(connection)
    }

    // MARK: Balance

    /// Moves connections to or from I/O threads. At the end of a turn; a part of them each time.
    private mutating func balanceIOThreads() {
        guard let pool = ioThreads else { return }
        let ioBusy = pool.threads.reduce(0) { $0 + $1.channel.busy.exchange(0, ordering: .relaxed) }
        let move = pool.balance.decide(
            now: SystemClock.monotonicMicroseconds, commands: node.statistics.commandsProcessed,
            commandBusy: pool.commandBusy, ioBusy: ioBusy,
            kept: node.clients.count - pool.connections.count, given: pool.connections.count)
        pool.commandBusy = 0
        switch move {
        case .none: break
        case .giveAway(var count):
            for client in node.clients {
                guard let connection = connection(of: client), connection.pointee.thread == 0 else { continue }
                guard isBetweenRequests(connection) else { continue }
                poller.remove(connection.pointee.fd)
                connection.pointee.thread = pool.chooseIOThread()
                handOver(connection)
                count -= 1
                if count == 0 { break }
            }
        case .takeBack(var count):
            if node.configuration.areIOThreadsAlwaysActive { break }
            for connection in pool.connections.values
            where !connection.pointee.isLeaving && !connection.pointee.isClosed {
                connection.pointee.isLeaving = true
                pool.post(.giveBack(connection), to: connection)
                count -= 1
                if count == 0 { break }
            }
        }
        node.statistics.threadedConnections = pool.connections.count
    }

    /// Nothing of it is on its way in or out, and nothing waits.
    private func isBetweenRequests(_ connection: ConnectionPointer) -> Bool {
        let client = connection.pointee.client
        return !connection.pointee.isClosed && !connection.pointee.isQueuedForWrite && !connection.pointee.waitsForWrite
            && !connection.pointee.hasUnparsed && connection.pointee.pending.count == 0
            && client.pointee.reply.count == 0 && !client.isParked && !client.isReplica && !client.isClosing
    }

    /// A connection goes to the I/O thread that it names.
    mutating func handOver(_ connection: ConnectionPointer) {
        let outgoing = UnsafeMutablePointer<ReplyBuffer>.allocate(capacity: 1)
        outgoing.initialize(to: ReplyBuffer())
        connection.pointee.outgoing = outgoing
        connection.pointee.isParked = false
        ioThreads?.connections[connection.pointee.clientID] = connection
        ioThreads?.post(.adopt(connection), to: connection)
    }

    /// What threads counted for themselves.
    mutating func collectIOStatistics() {
        guard let pool = ioThreads else { return }
        for thread in pool.threads {
            node.statistics.bytesSent += thread.channel.bytesSent.exchange(0, ordering: .relaxed)
        }
    }
}
