import MartletBase
import MartletCluster

// A node: a host with a disk, clocks and data that outlive its process, and perhaps a process.
//
// The process has two threads, as the real one has. The bus thread runs `ClusterState` and carries out its effects as
// `BusLoop` does: in order, a save finished before the next effect begins. The command thread serves clients from the
// view that it has adopted, a moment after it was published; it may be busy for long while the bus thread goes on.

final class SimulatedNode {
    let index: Int
    let ip: String
    var disk = SimulatedDisk()
    var clock: SimulatedClock
    var data: Dataset
    var isHostUp = true
    /// Whether the host's operator wants the process up: a restart is planned otherwise.
    var process: SimulatedProcess?
    var incarnation = 0
    var configuration: ClusterConfiguration
    /// The command thread was a replica when it was last seen. Survives restarts, as the data does.
    var servesAsReplica = false

    init(
        index: Int, ip: String, clock: SimulatedClock, data: Dataset, configuration: ClusterConfiguration
    ) {
        self.index = index
        self.ip = ip
        self.clock = clock
        self.data = data
        self.configuration = configuration
    }

    static let clientPort: UInt16 = 6379
    static let busPort: UInt16 = 16379
}

final class SimulatedProcess {
    enum Notice {
        case follow(ip: String, sharesHistory: Bool)
        case becomePrimary
        case pauseWrites(until: Int64)
        case resumeWrites
        case deleteKeys(slots: [HashSlot])
        case flushAll
    }

    let id: ProcessID
    let state: ClusterState

    // MARK: Bus thread

    /// Every connection that the core has not let go of.
    var links: [BusLinkID: Connection] = [:]
    /// Links that the core waits for.
    var connecting: Set<BusLinkID> = []
    /// In the order in which they came, for a death that ends them all. Closed ones are swept out now and then.
    var connections: [Connection] = []
    /// SIGSTOP: both threads stand still.
    var isStopped = false
    /// The bus thread waits for the disk until then.
    var busBlockedUntil: Int64 = 0
    /// What arrived while the process was stopped.
    var deferred: [() -> Void] = []
    var tickAt = Int64.max
    var tickGeneration: UInt64 = 0
    var lastStatus = ReplicationStatus()
    var isStalled = false
    /// Of the last packet that claimed slots.
    var claimedEpoch: UInt64 = 0
    /// When it last wrote to a slot that it has lost, in reach of somebody who knows, and since when it has done so.
    var contradictedAt: Int64 = 0
    var contradictedSince: Int64 = 0
    /// The promotion under way is the end of a coordinated manual failover.
    var isCoordinatedFailover = false

    // MARK: Command thread

    /// The view that commands are served by.
    var view: ClusterView
    var publishedView: ClusterView
    var notices: [Notice] = []
    var isTurnPlanned = false
    var commandBlockedUntil: Int64 = 0
    var commandBlockedSince: Int64 = 0
    /// Writes are held back until then, in true time.
    var writesPausedUntil: Int64 = 0
    /// Requests that wait for the command thread, or for the end of a pause.
    var waitingRequests: [Request] = []

    // MARK: Replication

    enum PrimaryLink: Equatable {
        case none
        case connecting
        case syncing(ProcessID)
        case up(ProcessID)
    }

    var primaryLink = PrimaryLink.none
    var followedNode = -1
    var mustResyncFully = false
    /// Notices of a primary to follow that the command thread has not handled yet.
    var pendingFollowCount = 0
    /// Counts changes of what we follow, so that late events of an earlier link are told apart.
    var linkGeneration = 0
    /// In the core's time, milliseconds.
    var lastPrimaryContact: Int64 = 0
    var isPumpPlanned = false
    /// Nodes that replicate from us, in the order in which they came.
    var replicas: [Int] = []
    /// By node: what a replica has confirmed.
    var confirmedOffsets: [Int: Int64] = [:]

    init(id: ProcessID, state: ClusterState) {
        self.id = id
        self.state = state
        view = state.view
        publishedView = state.view
    }

    var isFollowing: Bool { primaryLink != .none }
}
