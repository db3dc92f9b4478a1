import MartletBase
import MartletKeyspace
import MartletRESP

/// The node's time, read once per turn of the loop. All of it moves together and none of it jumps.
package struct NodeTime: Sendable {
    /// Microseconds since the machine started.
    package var monotonicMicroseconds: Int64
    /// Unix time in microseconds, from the clock that does not jump.
    package var unixMicroseconds: Int64

    package init(monotonicMicroseconds: Int64, unixMicroseconds: Int64) {
        self.monotonicMicroseconds = monotonicMicroseconds
        self.unixMicroseconds = unixMicroseconds
    }

    package var unixMilliseconds: Int64 { unixMicroseconds / 1000 }
    package var unixSeconds: Int64 { unixMicroseconds / 1_000_000 }
    package var monotonicMilliseconds: Int64 { monotonicMicroseconds / 1000 }
}

/// Conditions that a command has to be checked against. Empty in the simplest case: the dispatcher then checks nothing.
struct Gates: OptionSet {
    let rawValue: UInt32

    /// Keys belong to hash slots.
    static let cluster = Gates(rawValue: 1 << 0)
    /// We follow a primary: writes of clients may be refused.
    static let replica = Gates(rawValue: 1 << 1)
    /// CLIENT PAUSE or a manual failover.
    static let paused = Gates(rawValue: 1 << 2)
    /// Some keys are being migrated.
    static let lockedKeys = Gates(rawValue: 1 << 3)
    /// A data set is being received.
    static let loading = Gates(rawValue: 1 << 4)
    /// Too few good replicas for writes.
    static let fewReplicas = Gates(rawValue: 1 << 5)
}

package struct NodeStatistics {
    package var commandsProcessed = 0
    package var connectionsReceived = 0
    package var connectionsRejected = 0
    package var bytesReceived = 0
    package var bytesSent = 0
    package var errorReplies = 0
    /// Error replies by their first word.
    package var errorsByPrefix: [String: Int] = [:]
    package var unexpectedErrors = 0
    package init() {}
}

/// Calls of one command.
package struct CommandStatistics {
    package var calls = 0
    package var microseconds = 0
    package var rejectedCalls = 0
    package var failedCalls = 0
    package init() {}
}

/// A server: data, clients, commands. Does no input or output: the reactor feeds it batches and carries out its effects.
///
/// One noncopyable value, passed `inout`: the command thread owns everything in it.
package struct Node: ~Copyable {
    package var keyspace: Keyspace
    package let commands: CommandTable
    package var time: NodeTime
    package let startTime: NodeTime
    package var statistics = NodeStatistics()
    package let commandStatistics: UnsafeMutablePointer<CommandStatistics>
    /// In the order of the last change; CLIENT LIST sorts.
    package private(set) var clients: [ClientPointer] = []
    package private(set) var nextClientID: UInt64 = 1
    package var effects: [NodeEffect] = []
    /// 40 hexadecimal digits, new at every start.
    package let runID: String
    var gates: Gates = []
    let isClustered: Bool

    package init(databaseCount: Int, isClustered: Bool, seed: HashSeed, runID: String, time: NodeTime) {
        self.isClustered = isClustered
        self.runID = runID
        self.time = time
        startTime = time
        keyspace = Keyspace(databaseCount: databaseCount, isClustered: isClustered, seed: seed)
        commands = CommandTable(Node.families)
        commandStatistics = .allocate(capacity: commands.count)
        commandStatistics.initialize(repeating: CommandStatistics(), count: commands.count)
        if isClustered { gates.insert(.cluster) }
        beginTurn(time)
    }

    deinit { commandStatistics.deallocate() }

    /// Every command family; a new family is added here and nowhere else.
    static let families: [CommandFamily] = [
        .string, .connection,
    ]

    // MARK: A turn of the loop

    /// Sets the time that everything in this turn goes by.
    package mutating func beginTurn(_ time: NodeTime) {
        self.time = time
        keyspace.now = time.unixMilliseconds
        keyspace.accessClock = UInt32(truncatingIfNeeded: time.unixSeconds) & 0xFF_FFFF
    }

    // MARK: Clients

    /// A new client; it lives until ``remove(_:)``.
    package mutating func addClient(address: String, localAddress: String, fd: Int32) -> ClientPointer {
        let client = ClientPointer.allocate(capacity: 1)
        client.initialize(
            to: Client(
                id: nextClientID, address: address, localAddress: localAddress, fd: fd, now: time.unixMilliseconds))
        nextClientID += 1
        client.pointee.listIndex = clients.count
        clients.append(client)
        statistics.connectionsReceived += 1
        client.pointee.flags.insert(.authenticated)
        return client
    }

    /// Ends a client; the pointer is dead afterwards.
    package mutating func remove(_ client: ClientPointer) {
        let index = client.pointee.listIndex
        let last = clients.removeLast()
        if last != client {
            clients[index] = last
            last.pointee.listIndex = index
        }
        client.deinitialize(count: 1)
        client.deallocate()
    }
}
