import MartletBase
import MartletCluster
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
    /// A script runs for long.
    static let busy = Gates(rawValue: 1 << 6)
    /// Some clients are shown all commands.
    static let monitored = Gates(rawValue: 1 << 8)
}

package struct NodeStatistics {
    package var commandsProcessed = 0
    package var connectionsReceived = 0
    package var connectionsRejected = 0
    package var bytesReceived = 0
    package var bytesSent = 0
    /// Receptions and replies of I/O threads.
    package var threadedReads = 0
    /// Connections that I/O threads own.
    package var threadedConnections = 0
    package var threadedWrites = 0
    package var errorReplies = 0
    /// Error replies by their first word.
    package var errorsByPrefix: [String: Int] = [:]
    package var unexpectedErrors = 0
    /// Bytes; see ``Node/observeMemory()``.
    var memoryAtStart = 0
    var memoryPeak = 0
    package init() {}
}

/// Calls of one command.
package struct CommandStatistics {
    package var calls = 0
    /// Calls whose time was taken, and that time; see Statistics.swift.
    package var timedCalls = 0
    package var timedNanoseconds: Int64 = 0
    package var rejectedCalls = 0
    package var failedCalls = 0
    package init() {}
}

/// What the process is and uses; the node cannot see it by itself. Asked for by INFO.
package struct ProcessFacts: Sendable {
    package var id: Int32 = 0
    package var residentBytes = 0
    package var totalMemoryBytes = 0
    package var userMicroseconds: Int64 = 0
    package var systemMicroseconds: Int64 = 0
    /// Of the thread that asks.
    package var threadUserMicroseconds: Int64 = 0
    package var threadSystemMicroseconds: Int64 = 0
    package var operatingSystem = ""
    package var executablePath = ""
    package var configurationPath = ""
    package init() {}
}

/// A server: data, clients, commands. Does no input or output: the reactor feeds it batches and carries out its effects.
///
/// One noncopyable value, passed `inout`: the command thread owns everything in it.
package struct Node: ~Copyable {
    package var keyspace: Keyspace
    package let commands: CommandTable
    /// Change it through ``configure(_:changed:)``.
    package private(set) var configuration: ServerConfiguration
    package var time: NodeTime
    package let startTime: NodeTime
    package var statistics = NodeStatistics()
    package let commandStatistics: UnsafeMutablePointer<CommandStatistics>
    /// In the order of the last change; CLIENT LIST sorts.
    package private(set) var clients: [ClientPointer] = []
    private(set) var clientsByID: [UInt64: ClientPointer] = [:]
    /// Those that are shown all commands.
    var monitors: [ClientPointer] = []
    var tracking = Tracking()
    /// Those that wait for something.
    package private(set) var parkedClients: [ClientPointer] = []
    /// Those of them that wait for keys.
    var blocked = BlockedClients()
    /// How many of them wait for replicas.
    private(set) var replicaWaitCount = 0
    /// Those of them that wait for an answer, by its token.
    private var awaitingAnswer: [UInt64: ClientPointer] = [:]
    package private(set) var nextClientID: UInt64 = 1
    package var effects: [NodeEffect] = []
    /// 40 hexadecimal digits, new at every start.
    package let runID: String
    package let processFacts: @Sendable () -> ProcessFacts
    package var services = ProcessServices()
    package var debugSettings = DebugSettings()
    var activeExpiry = ActiveExpiry()
    var defragmentation = Defragmentation()
    let lazyFrees = LazyFreeLedger()
    var scripts = ScriptEngine()
    /// Nil while there is no library.
    var functions: FunctionEngine?
    var rates = Rates()
    var pendingShutdown: PendingShutdown?
    var gates: Gates = []
    let isClustered: Bool
    /// The parser's limits for clients that have authenticated and for others.
    package private(set) var requestLimits = RequestLimits()
    var clusterFront: ClusterFront?
    /// The slot states of ``clusterFront``; nil until the first view.
    var slotStates: UnsafePointer<UInt8>?
    /// Index of MIGRATE, which is served whatever the state of its slot.
    let migrateCommand: Int
    let execCommand: Int
    /// Of CLIENT.
    let clientSubcommands: Range<Int>
    var pauses = Pauses()
    var replication: Replication
    /// Between the commands of an EXEC.
    var isInPropagationUnit = false
    /// Commands that run although MULTI was given.
    let transactionCommands: Set<Int>
    /// Commands that a subscriber may give in RESP2, and those of them whose answers are messages.
    let subscriberCommands: Set<Int>
    let subscribingCommands: Set<Int>
    var pubSub = PubSub()
    /// Whose command has no complete reply yet: messages for it wait; see Delivery.swift.
    var runningClient: ClientPointer?
    /// Connections that MIGRATE has opened, kept for the next one. Set by the reactor.
    package var migrationLinkCount = 0
    var pendingMigrations: [UInt64: PendingKeyMigration] = [:]
    /// Hashes of keys on their way to another server, and in how many transfers.
    var lockedKeys: [UInt64: Int] = [:]
    /// Questions to the cluster bus whose answers depend on which keys there are.
    var openDecisions: Set<UInt64> = []
    /// The bus was not told yet that writes are paused: a transfer is still to end, and to be logged.
    var owesPauseReport = false
    /// Slots that went to somebody else, whose keys are still to be deleted, and from where on in hash order.
    var lostSlots: [(slot: HashSlot, position: UInt64)] = []
    /// Monotonic milliseconds.
    var attackLoggedAt = Int64.min / 2
    private var nextToken: UInt64 = 1

    package init(
        configuration: ServerConfiguration, seed: HashSeed, runID: String, time: NodeTime,
        processFacts: @escaping @Sendable () -> ProcessFacts
    ) {
        isClustered = configuration.isClusterEnabled
        self.configuration = configuration
        self.runID = runID
        replication = Replication(runID: runID)
        self.time = time
        self.processFacts = processFacts
        startTime = time
        keyspace = Keyspace(
            databaseCount: isClustered ? 1 : configuration.databases, isClustered: isClustered, seed: seed)
        commands = CommandTable(Node.families, renamed: configuration.renamedCommands)
        migrateCommand = commands.indexOfOwn("migrate")
        execCommand = commands.indexOfOwn("exec")
        clientSubcommands = commands.subcommandIndexes(container: commands.indexOfOwn("client"))
        transactionCommands = commands.indexes(of: ["EXEC", "DISCARD", "MULTI", "WATCH", "QUIT", "RESET"])
        subscribingCommands = commands.indexes(of: [
            "SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE", "SSUBSCRIBE", "SUNSUBSCRIBE",
        ])
        subscriberCommands = subscribingCommands.union(commands.indexes(of: ["PING", "QUIT", "RESET"]))
        commandStatistics = .allocate(capacity: commands.count)
        commandStatistics.initialize(repeating: CommandStatistics(), count: commands.count)
        if isClustered { gates.insert(.cluster) }
        beginTurn(time)
        configurationChanged()
        observeMemory()
    }

    deinit {
        for client in clients { Self.free(client) }
        commandStatistics.deallocate()
    }

    /// Every command family; a new family is added here and nowhere else.
    static let families: [CommandFamily] = [
        .string, .list, .hash, .set, .sortedSet, .stream, .transactions, .bitmap, .geo, .hyperLogLog, .generic, .sort,
        .expiry, .scan, .object, .dump, .internalDump, .dataset, .connection, .server, .info, .scripting, .function,
        .debug, .memory, .miscellaneous, .cluster, .clusterClient, .keyMigration, .replication, .replicationWait,
        .pubSub,
    ]

    /// Whether there is a command of that name, in any case. - Complexity: O(commands)
    package static func hasCommand(named name: String) -> Bool {
        let name = name.uppercased()
        return families.contains { $0.commands.contains { $0.name.description == name } }
    }

    // MARK: Configuration

    /// Takes a changed configuration over. - Parameter changed: names of the directives that differ.
    package mutating func configure(_ new: ServerConfiguration, changed: [String]) {
        configuration = new
        configurationChanged()
        effects.append(.configurationChanged(changed))
    }

    /// What REPLICAOF decided, as CONFIG REWRITE will write it down.
    mutating func setReplicaOf(_ primary: ReplicaOf?) { configuration.replicaOf = primary }

    /// Brings what was derived from the configuration up to date.
    private mutating func configurationChanged() {
        Memory.keepLargeFreeRanges()
        Memory.purgeInBackground(configuration.purgesInBackground)
        keyspace.stringBytesMax = configuration.protoMaxBulkLength
        keyspace.encodingLimits = configuration.encodingLimits
        requestLimits.bulkBytesMax = keyspace.stringBytesMax
        requiresPassword = !configuration.requirePassword.isEmpty
        if !requiresPassword { for client in clients { client.pointee.flags.insert(.authenticated) } }
        updateReplicaGate()
        configureReplication()
        setGate(.fewReplicas, configuration.minReplicasToWrite > 0)
        updateKeyEventInterest()
    }

    /// New clients have to authenticate.
    package private(set) var requiresPassword = false

    mutating func setGate(_ gate: Gates, _ isSet: Bool) {
        if gate == .replica { Log.role = isSet ? .replica : .primary }
        if isSet { gates.insert(gate) } else { gates.remove(gate) }
    }

    // MARK: A turn of the loop

    /// Sets the time that everything in this turn goes by.
    package mutating func beginTurn(_ time: NodeTime) {
        self.time = time
        runningClient = nil
        keyspace.now = time.unixMilliseconds
        keyspace.accessClock = UInt32(truncatingIfNeeded: time.unixSeconds) & 0xFF_FFFF
        if pauses.isActive { endPauses() }
    }

    // MARK: Clients

    /// A new client; it lives until ``remove(_:)``, or as long as the node.
    package mutating func addClient(
        address: String, localAddress: String, fd: Int32, isUnixSocket: Bool = false
    ) -> ClientPointer {
        let client = ClientPointer.allocate(capacity: 1)
        client.initialize(
            to: Client(
                id: nextClientID, address: address, localAddress: localAddress, fd: fd, now: time.unixMilliseconds))
        nextClientID += 1
        client.pointee.listIndex = clients.count
        clients.append(client)
        clientsByID[client.pointee.id] = client
        statistics.connectionsReceived += 1
        if !requiresPassword { client.pointee.flags.insert(.authenticated) }
        if isUnixSocket { client.pointee.flags.insert(.unixSocket) }
        return client
    }

    /// Ends a client; the pointer is dead afterwards. Only one whose script is suspended stays until that has ended, and an
    /// EXEC around it: what has begun is done as a whole.
    package mutating func remove(_ client: ClientPointer) {
        forgetWatches(client)
        forgetSubscriptions(client)
        endTracking(client)
        endMonitoring(client)
        if client.pointee.parked == .script {
            client.pointee.flags.formUnion([.disconnected, .orphaned])
            client.pointee.connection = nil
            return
        }
        if client.isParked { endPark(client) }
        if runningClient == client { runningClient = nil }
        clientsByID[client.pointee.id] = nil
        // Whoever carries effects out may be in the midst of them: their places stay.
        for index in effects.indices where effects[index].names(client) { effects[index] = .nothing }
        if !replication.replicas.isEmpty { replicaRemoved(client) }
        let index = client.pointee.listIndex
        let last = clients.removeLast()
        if last != client {
            clients[index] = last
            last.pointee.listIndex = index
        }
        Self.free(client)
    }

    private static func free(_ client: ClientPointer) {
        client.deinitialize(count: 1)
        client.deallocate()
    }

    // MARK: Parking

    /// Lets a client wait; nothing of it is executed until ``unpark(_:)``.
    package mutating func park(_ client: ClientPointer, _ reason: Parked) {
        precondition(reason != .notParked)
        precondition(!client.isParked)
        client.pointee.parked = reason
        client.pointee.parkedIndex = parkedClients.count
        parkedClients.append(client)
        switch reason {
        case .answer(let token): awaitingAnswer[token] = client
        case .replicas: replicaWaitCount += 1
        case .notParked, .pause, .migratingKey, .shutdown, .keys, .script: break
        }
    }

    private mutating func endPark(_ client: ClientPointer) {
        switch client.pointee.parked {
        case .answer(let token): awaitingAnswer[token] = nil
        case .replicas: replicaWaitCount -= 1
        case .keys(let ticket): removeWait(ticket)
        case .notParked, .pause, .migratingKey, .shutdown, .script: break
        }
        client.pointee.parked = .notParked
        let last = parkedClients.removeLast()
        guard last != client else { return }
        parkedClients[client.pointee.parkedIndex] = last
        last.pointee.parkedIndex = client.pointee.parkedIndex
    }

    /// The wait is over: replies are sent, and what the client sent meanwhile runs.
    package mutating func unpark(_ client: ClientPointer) {
        guard client.isParked else { return }
        endPark(client)
        // An EXEC that was suspended for this answer goes on; it may have to wait again.
        if client.pointee.transaction?.nextCommand != nil {
            let replyStart = client.pointee.reply.count
            continueTransaction(client)
            silence(client, from: replyStart)
            if client.isParked { return }
            if client.pointee.flags.contains(.hasDeferredMessages) { deliverDeferred(to: client) }
        }
        client.pointee.flags.remove(.replySkip)
        if client.pointee.flags.contains(.orphaned) { return remove(client) }
        effects.append(.send(client))
        effects.append(.resume(client))
    }

    /// Gives a client that waits its reply, and ends the wait.
    mutating func finish(_ client: ClientPointer, _ write: (inout ReplyBuffer) -> Void) {
        let replyStart = client.pointee.reply.count
        write(&client.pointee.reply)
        silence(client, from: replyStart)
        unpark(client)
    }

    /// Takes back what was written to the replies of a client that wants none (CLIENT REPLY), or is gone.
    func silence(_ client: ClientPointer, from start: Int) {
        if !client.pointee.flags.isDisjoint(with: [.replyOff, .replySkip, .orphaned]) {
            client.pointee.reply.truncate(to: start)
        }
    }

    /// Nobody comes back to this client: it stands for a script, whose command does not wait.
    mutating func abandonPark(_ client: ClientPointer) {
        endPark(client)
        client.pointee.reply.removeAll()
        client.pointee.reply.error(.notAllowedFromScript)
    }

    /// A number for an answer that will come later.
    mutating func makeToken() -> UInt64 {
        defer { nextToken += 1 }
        return nextToken
    }

    /// Lets a client wait for an answer that another thread gives.
    mutating func parkForAnswer(_ client: ClientPointer) -> UInt64 {
        let token = makeToken()
        park(client, .answer(token: token))
        return token
    }

    /// Completes the command of a client that waits for this answer; a client that is gone is no error.
    package mutating func answer(_ token: UInt64, _ write: (inout ReplyBuffer) -> Void) {
        guard let client = awaitingAnswer[token] else { return }
        finish(client, write)
    }
}
