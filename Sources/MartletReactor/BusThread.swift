import MartletBase
import MartletCluster
import MartletSystem
import Synchronization

// The cluster bus as the rest of the server sees it.
//
// The bus has a thread of its own, so that a slow command never stops heartbeats. It owns the cluster core and all bus
// connections (`BusLoop`); nobody else touches them. What crosses the threads:
//
//     command thread ── BusRequest ──> bus thread      CLUSTER subcommands, published messages, new configuration
//     command thread ── CommandThreadStatus ──>        replication offset, link to the primary, heartbeat: atomics
//     command thread <── PublishedReference ──         the ClusterView: owners of slots, roles, epochs
//     command thread <── BusNotice ── bus thread       replies, role changes, write pauses, slots to clean
//
// A view is published before the notices that depend on it are posted and before any packet leaves that tells peers.
// The command thread refreshes its view at the start of each turn and before it handles notices; then a client that got OK for
// CLUSTER ADDSLOTS finds its slots served.

/// What the command thread asks of the bus.
package enum BusRequest: Sendable {
    /// A CLUSTER subcommand; the answer comes as ``BusNotice/reply(token:_:)``.
    case command(ClusterRequest, token: UInt64)
    /// Writes have been held back since this replication offset: the answer to ``BusNotice/pauseWrites(milliseconds:)``.
    case writesPaused(offset: Int64)
    case configure(ClusterConfiguration)
    /// Slots that have keys after loading.
    case reconcile(slotsWithKeys: [HashSlot])
    case publish(BusMessage)
    case stop
}

/// What the bus asks of the command thread.
package enum BusNotice: Sendable {
    case reply(token: UInt64, ClusterReply)
    case followPrimary(NodeID, host: String, port: UInt16, sharesHistory: Bool)
    case becomePrimary
    /// Hold back writes for this long, unless resumed before; answer with ``BusRequest/writesPaused(offset:)``.
    case pauseWrites(milliseconds: Int64)
    case resumeWrites
    case deleteKeys(slots: [HashSlot])
    case dropShardChannels(slots: [HashSlot])
    case flushAll
    case publish(BusMessage)
    /// nodes.conf cannot be written, so promises to peers cannot be kept: the server must stop. The text is for the log.
    case failed(String)

    /// Whether it changes data, or who may: such a notice waits while a script runs.
    var isAboutData: Bool {
        switch self {
        case .followPrimary, .pauseWrites, .resumeWrites, .deleteKeys, .flushAll: true
        case .reply, .becomePrimary, .dropShardChannels, .publish, .failed: false
        }
    }
}

/// A published message on its way between the threads. It counts against a budget as long as it lives, so that a
/// flood cannot fill the memory when the receiving thread is slow.
package final class BusMessage: Sendable {
    package let channel: [UInt8]
    package let message: [UInt8]
    package let isSharded: Bool
    private let budget: ByteBudget

    /// Nil when the budget is used up: the message is lost, as Pub/Sub allows.
    init?(channel: [UInt8], message: [UInt8], isSharded: Bool, budget: ByteBudget) {
        guard budget.take(channel.count + message.count) else { return nil }
        self.channel = channel
        self.message = message
        self.isSharded = isSharded
        self.budget = budget
    }

    deinit { budget.giveBack(channel.count + message.count) }
}

/// A number of bytes that may be in flight.
final class ByteBudget: Sendable {
    let byteCountMax: Int
    private let used = Atomic<Int>(0)

    init(byteCountMax: Int) { self.byteCountMax = byteCountMax }

    /// One message always passes, also if it alone is larger than the budget.
    func take(_ count: Int) -> Bool {
        let before = used.wrappingAdd(count, ordering: .relaxed).oldValue
        if before == 0 || before + count <= byteCountMax { return true }
        used.wrappingSubtract(count, ordering: .relaxed)
        return false
    }

    func giveBack(_ count: Int) { used.wrappingSubtract(count, ordering: .relaxed) }
}

/// What the bus reads of the command thread without asking. All times are monotonic milliseconds.
package final class CommandThreadStatus: Sendable {
    private let heartbeat: Atomic<Int64>
    private let offset = Atomic<Int64>(0)
    private let linkIsUp = Atomic<Bool>(false)
    private let contact = Atomic<Int64>(0)

    private let follows = Atomic<Int>(0)

    init() { heartbeat = Atomic(SystemClock.monotonicMilliseconds) }

    /// How many ``BusNotice/followPrimary(_:host:port:sharesHistory:)`` the rest of the status takes into account.
    package var followCount: Int {
        get { follows.load(ordering: .acquiring) }
        set { follows.store(newValue, ordering: .releasing) }
    }

    /// Call it every loop turn, and from within long work that is still making progress (loading). An idle loop has to
    /// turn at least every `cluster-stall-timeout`.
    package func beat(now: Int64 = SystemClock.monotonicMilliseconds) { heartbeat.store(now, ordering: .relaxed) }

    package var lastBeat: Int64 { heartbeat.load(ordering: .relaxed) }

    /// What a primary has written, or a replica processed.
    package var replicationOffset: Int64 {
        get { offset.load(ordering: .relaxed) }
        set { offset.store(newValue, ordering: .relaxed) }
    }

    /// A replica's link to its primary is up and in sync.
    package var isPrimaryLinkUp: Bool {
        get { linkIsUp.load(ordering: .relaxed) }
        set { linkIsUp.store(newValue, ordering: .relaxed) }
    }

    /// When anything came from the primary last, or when its link went down; 0 for never.
    package var lastPrimaryContact: Int64 {
        get { contact.load(ordering: .relaxed) }
        set { contact.store(newValue, ordering: .relaxed) }
    }
}

package struct BusOptions: Sendable {
    /// As in the `bind` directive, each perhaps with a `-` in front: may be missing.
    package var bindAddresses: [String]
    /// The bus port itself, not the client port.
    package var port: Int
    package var backlog = 511
    /// bind-source-addr; empty lets the system choose.
    package var sourceAddress = ""
    /// The path of nodes.conf.
    package var configurationPath: String
    package var configuration: ClusterConfiguration
    package var seed: UInt64

    package init(
        bindAddresses: [String], port: Int, configurationPath: String, configuration: ClusterConfiguration, seed: UInt64
    ) {
        self.bindAddresses = bindAddresses
        self.port = port
        self.configurationPath = configurationPath
        self.configuration = configuration
        self.seed = seed
    }
}

/// Why a node cannot start its bus. The texts are Redis' where tests and people look for them.
package enum BusStartError: Error, CustomStringConvertible {
    case configurationInUse(path: String)
    case configurationUnreadable(path: String, SystemError)
    case configurationLockFailed(path: String, SystemError)
    case configurationCorrupt(path: String, NodesConfError)
    case configurationNotWritten(String)
    case noBindAddress
    case portTooHigh
    case listenFailed(address: String, port: Int, SystemError)
    case system(SystemError)

    package var description: String {
        switch self {
        case .configurationInUse(let path):
            """
            Sorry, the cluster configuration file \(path) is already used by a different Redis Cluster node. \
            Please make sure that different nodes use different cluster configuration files.
            """
        case .configurationUnreadable(let path, let error):
            "Can't open \(path) in order to acquire a lock: \(error.reason)"
        case .configurationLockFailed(let path, let error): "Impossible to lock \(path): \(error.reason)"
        case .configurationCorrupt(let path, let error): "Unrecoverable error: \(path): \(error)"
        case .configurationNotWritten(let text): text
        case .noBindAddress: "No bind address is configured, but it is required for the Cluster bus."
        case .portTooHigh:
            """
            Redis port number too high. Cluster communication port is 10,000 port numbers higher than your Redis \
            port. Your Redis port number must be 55535 or less.
            """
        case .listenFailed(let address, let port, let error):
            """
            Could not create server TCP listening socket \(address):\(port): \(error)
            Failed listening on port \(port) (cluster), aborting.
            """
        case .system(let error): "\(error)"
        }
    }
}

package final class BusThread: Sendable {
    /// Bytes of published messages that may wait between the threads, for each direction.
    package static let messageBytesMax = 256 << 20

    package let view: PublishedReference<ClusterView>
    /// The command thread watches `notices.wakeup.fd` and drains it. It is signalled for a new view too.
    package let notices: Mailbox<BusNotice>
    package let status: CommandThreadStatus
    private let requests: Mailbox<BusRequest>
    private let outgoingBudget = ByteBudget(byteCountMax: BusThread.messageBytesMax)
    private let loop: Handover
    private let thread = Mutex<Thread?>(nil)

    /// Locks and reads nodes.conf, listens, and has the first view. Nothing is answered before `start`.
    package init(_ options: BusOptions) throws(BusStartError) {
        do throws(SystemError) {
            notices = try Mailbox(countMax: .max)
            requests = try Mailbox(countMax: .max)
        } catch {
            throw .system(error)
        }
        status = CommandThreadStatus()
        let loop = try BusLoop(options, requests: requests, notices: notices, status: status)
        view = loop.view
        self.loop = Handover(loop)
    }

    package func start() throws(SystemError) {
        // Through an optional: a noncopyable value cannot be consumed inside a closure.
        var thread: Thread? = try Thread(name: "bus", loop.run)
        self.thread.withLock { $0 = thread.take() }
    }

    /// Ends the thread, closes its connections and releases nodes.conf.
    package func stop() {
        post(.stop)
        guard let thread = thread.withLock({ $0.take() }) else { return }
        thread.join()
    }

    package func post(_ request: BusRequest) { requests.post(request) }

    /// Sends a published message to the other nodes. False when too much is waiting already; then it is lost.
    @discardableResult
    package func publish(channel: [UInt8], message: [UInt8], isSharded: Bool) -> Bool {
        guard
            let message = BusMessage(channel: channel, message: message, isSharded: isSharded, budget: outgoingBudget)
        else { return false }
        post(.publish(message))
        return true
    }

    /// Lets the bus look at ``status`` at once instead of at its next tick: after the link to the primary went up or down.
    package func statusChanged() { requests.wakeup.signal() }

    /// The loop is made by the starting thread and belongs to the bus thread from its first instruction on.
    private final class Handover: @unchecked Sendable {
        private var loop: BusLoop?
        init(_ loop: BusLoop) { self.loop = loop }

        func run() {
            loop?.run()
            loop = nil
        }
    }
}
