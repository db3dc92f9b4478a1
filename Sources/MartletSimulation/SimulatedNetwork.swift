import MartletCluster

// The network: hosts, paths between them, and connections that behave like TCP.
//
// A connection is two streams of packets. Order is kept; a packet that is lost is sent again later, so loss looks like
// a stall of everything behind it. While a path is cut, packets wait and are tried again with growing intervals. Three
// things can be seen of a peer that is gone, and the difference matters to the core:
//
// - the process died: its kernel ends the connections at once and refuses new ones;
// - the host died, or a path is cut: nothing comes back at all; new connections hang until the caller gives up;
// - the process hangs (SIGSTOP): its kernel accepts connections and data, and nobody answers.
//
// A node that reconnects has two connections for a while, and what was sent on the old one may arrive later than what
// is sent on the new one: that is where reordering comes from, as in reality.

/// A node's process, or one that it was before.
struct ProcessID: Equatable {
    var node: Int
    var incarnation: Int
}

final class Connection {
    final class Direction {
        let from: ProcessID
        let to: ProcessID
        var queue: [(arrival: Int64, segment: Segment)] = []
        var head = 0
        var lastArrival: Int64 = 0
        var isPumping = false
        var retransmitDelay = SimulatedNetwork.retransmitDelayMin
        /// In vain, since something arrived last.
        var attempts = 0
        /// The receiver has let go: what arrives is dropped.
        var isDeaf = false
        /// The sender has let go or is gone: nothing more is queued.
        var isFinished = false

        init(from: ProcessID, to: ProcessID) {
            self.from = from
            self.to = to
        }

        var isEmpty: Bool { head == queue.count }
    }

    let client: ProcessID
    let server: ProcessID
    let clientLink: BusLinkID
    /// Nil until the server's process has accepted.
    var serverLink: BusLinkID?
    let toServer: Direction
    let toClient: Direction

    init(client: ProcessID, server: ProcessID, clientLink: BusLinkID) {
        self.client = client
        self.server = server
        self.clientLink = clientLink
        toServer = Direction(from: client, to: server)
        toClient = Direction(from: server, to: client)
    }
}

enum Segment {
    case packet([UInt8])
    case end(BusLinkCloseReason)
}

/// Paths between hosts. Times are microseconds.
struct SimulatedNetwork {
    static let retransmitDelayMin: Int64 = 200_000
    static let retransmitDelayMax: Int64 = 3_000_000
    /// When a connecting host sends its SYN again after the first try.
    static let connectRetryDelays: [Int64] = [1_000_000, 2_000_000, 4_000_000, 8_000_000]

    let nodeCount: Int
    let latencyMin: Int64
    let latencyMax: Int64
    /// Chance in a million that a packet is lost once.
    var lossPerMillion: Int
    /// Chance in a million that a packet arrives twice.
    var duplicatesPerMillion: Int
    /// How many cuts lie on a path, by `from * nodeCount + to`: partitions may overlap.
    private var cuts: [UInt8]
    /// Added to the latency of a path.
    private var extraLatency: [Int64]

    init(nodeCount: Int, latencyMin: Int64, latencyMax: Int64, lossPerMillion: Int, duplicatesPerMillion: Int) {
        self.nodeCount = nodeCount
        self.latencyMin = latencyMin
        self.latencyMax = latencyMax
        self.lossPerMillion = lossPerMillion
        self.duplicatesPerMillion = duplicatesPerMillion
        cuts = Array(repeating: 0, count: nodeCount * nodeCount)
        extraLatency = Array(repeating: 0, count: nodeCount * nodeCount)
    }

    func isOpen(_ from: Int, _ to: Int) -> Bool { cuts[from * nodeCount + to] == 0 }

    mutating func cut(_ from: Int, _ to: Int) {
        if cuts[from * nodeCount + to] < .max { cuts[from * nodeCount + to] += 1 }
    }

    mutating func mend(_ from: Int, _ to: Int) {
        if cuts[from * nodeCount + to] > 0 { cuts[from * nodeCount + to] -= 1 }
    }

    mutating func slow(_ from: Int, _ to: Int, by latency: Int64) { extraLatency[from * nodeCount + to] = latency }

    mutating func heal() {
        cuts = Array(repeating: 0, count: nodeCount * nodeCount)
        extraLatency = Array(repeating: 0, count: nodeCount * nodeCount)
    }

    func latency(_ from: Int, _ to: Int, using random: inout Chance) -> Int64 {
        latencyMin + random.below(latencyMax - latencyMin + 1) + extraLatency[from * nodeCount + to]
    }
}
