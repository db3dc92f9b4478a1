import MartletBase

/// One connection of a load generator. Its worker does the talking; see there for what the states mean.
struct Connection: ~Copyable {
    enum State: UInt8 {
        case closed
        /// Waits for the connect to finish.
        case connecting
        /// Waits for the replies to AUTH, SELECT and the like.
        case preparing
        case ready
    }

    var fd: Int32 = -1
    var state = State.closed
    /// The index of its node's lane.
    let lane: Int
    /// Requests: to be sent, and in a lane also those that were sent and wait for their replies, so that they can be
    /// sent elsewhere.
    var output = ByteBuffer()
    /// Of `output`: what was sent, and what is to be sent.
    var sentCount = 0
    var sendEnd = 0
    /// The kernel takes no more for now: the poller watches for room.
    var waitsForRoom = false
    var pending: PendingQueue
    /// Commands that begin the connection and are not answered yet.
    var prefixCount = 0
    var scanner = ReplyScanner()
    /// The beginning of a line whose end has not arrived.
    var carry: [UInt8] = []
    /// Listed as having room in its lane.
    var isListed = false
    /// Listed as having something to send at the end of the turn.
    var isDirty = false

    init(lane: Int, pendingCapacity: Int) {
        self.lane = lane
        pending = PendingQueue(minimumCapacity: pendingCapacity)
    }
}

/// The connections of one thread to one node.
package struct Lane {
    /// Indices into the worker's connections.
    package private(set) var connections: [Int] = []
    /// Ring of those that can take a request, the longest idle one first, so that all are used alike.
    private var listed: [Int] = []
    private var head = 0
    private var listedCount = 0
    private var turn = 0

    package init() {}

    package mutating func add(_ connection: Int) {
        var inOrder: [Int] = []
        for index in 0..<listedCount { inOrder.append(listed[(head + index) % listed.count]) }
        connections.append(connection)
        head = 0
        listed = inOrder + [Int](repeating: 0, count: connections.count - inOrder.count)
    }

    /// - Precondition: `connection` belongs to the lane and is not listed.
    package mutating func list(_ connection: Int) {
        precondition(listedCount < listed.count)
        var place = head + listedCount
        if place >= listed.count { place -= listed.count }
        listed[place] = connection
        listedCount += 1
    }

    /// As ``list(_:)``, but it will be the next one to be taken.
    package mutating func listFirst(_ connection: Int) {
        precondition(listedCount < listed.count)
        head = head == 0 ? listed.count - 1 : head - 1
        listed[head] = connection
        listedCount += 1
    }

    package mutating func takeListed() -> Int? {
        guard listedCount > 0 else { return nil }
        let connection = listed[head]
        head = head + 1 == listed.count ? 0 : head + 1
        listedCount -= 1
        return connection
    }

    /// Any connection, one after the other.
    package mutating func takeAny() -> Int {
        turn = turn + 1 >= connections.count ? 0 : turn + 1
        return connections[turn]
    }
}
