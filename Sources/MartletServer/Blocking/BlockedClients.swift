import MartletBase
import MartletKeyspace
import MartletRESP

// Clients that wait for keys: BLPOP, BLMOVE, BZPOPMIN, XREAD BLOCK and their like.
//
// 1. A blocking command tries what it is for. If there is nothing to have, it calls ``Node/block(_:_:keys:type:until:…)``:
//    the client is parked, and stands in the queue of each of its keys, with a ticket that tells the order of arrival.
// 2. The keyspace's gate notes changes of keys that somebody waits for (AwaitedKeys.swift).
// 3. After the command (after EXEC, not within it) the queues of those keys are served from their heads:
//    ``Node/serveBlockedClients()``. The client's command is not run again; its ``ServeHandler`` is asked whether it has
//    something for the client in the one key that has changed, as Redis does: BLPOP a b gets what came into b first, though
//    there is an a by then. What it did is propagated, its reply written, and the client goes on in the same turn.
// 4. A wait also ends with its time, with CLIENT UNBLOCK, when the key's slot goes to another node, when this node becomes
//    a replica, and with the client.
//
// Nobody waits inside of a transaction, nor in the stream of a primary: `mayBlock` tells.
//
// A family plugs in so (ListCommands.swift is the model):
//
//     static let bzpopmin = Command("BZPOPMIN", …, run: .node { request, node, client throws(ReplyError) in
//         let deadline = try request.deadline(seconds: request.count - 1, now: node.time.unixMilliseconds)
//         … try each key with `node.keyspace` and `client.pointee.reply`; return if one of them had something …
//         guard node.mayBlock(client) else { return client.pointee.reply.nullArray() }
//         node.block(client, request, keys: 1..<request.count - 1, type: .sortedSet, until: deadline) {
//             request, key, entry, keyspace, reply throws(ReplyError) in
//             … `entry` is a sorted set: do what the command does with `key` alone, with propagateInstead; true …
//         }
//     })
//
// The closure gets the arguments that were given to `block`, and is called with the client's database selected. It returns
// false if the key has nothing for this client yet (a stream without newer entries); what it throws ends the wait with that
// error. XREAD resolves `$` before it blocks: it hands `block` other arguments than the client sent. XREADGROUP names the
// error for the case that its key is deleted or replaced (`whenGone`). A change that concerns waiting clients without
// changing the key's value for the gate (XGROUP DESTROY does change it) is reported with `didModify` as any other.
//
// Source: Redis 7.0 blocked.c and timeout.c.

/// Serves a waiting client from a key that has changed; see above. - Returns: whether it got what it waited for.
package typealias ServeHandler =
    @Sendable (
        _ request: Request, _ key: Key, _ entry: Entry, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) -> Bool

/// One client's wait for keys.
struct KeyWait {
    let client: ClientPointer
    /// With the arguments that the handler wants.
    let command: QueuedCommand
    /// Without repetitions.
    let keys: [WatchedKey]
    /// Keys that hold anything else have nothing for the client.
    let type: ValueType
    /// Node's clock, milliseconds; 0 to wait for ever.
    let deadline: Int64
    /// What the client is told when its key is gone or is of another type; nil to go on waiting.
    let whenGone: ReplyError?
    let serve: ServeHandler
}

/// Who waits for which key, in which order, and until when.
struct BlockedClients {
    /// Grows with each wait: older ones are served first.
    typealias Ticket = UInt64

    private var waits: [Ticket: KeyWait] = [:]
    private var queues: [WatchedKey: Queue] = [:]
    private var nextTicket: Ticket = 1
    private var deadlines = DeadlineQueue()
    /// Waits that have a deadline.
    private(set) var timedCount = 0
    /// Keys whose clients could not be served because the command touches a key that is on its way to another server.
    var postponed: [WatchedKey] = []

    /// Tickets in ascending order. Those before `start` are gone.
    private struct Queue {
        var tickets: [Ticket] = []
        var start = 0
        /// How many want to be told when the key is gone.
        var whenGoneCount = 0

        var count: Int { tickets.count - start }

        /// - Complexity: O(log n) to find it, O(1) to remove the first, else O(n) of 8 bytes each
        mutating func remove(_ ticket: Ticket) {
            var (low, high) = (start, tickets.count)
            while low < high {
                let middle = (low + high) / 2
                if tickets[middle] < ticket { low = middle + 1 } else { high = middle }
            }
            precondition(low < tickets.count && tickets[low] == ticket, "a waiting client stands in its queues")
            if low > start {
                tickets.remove(at: low)
                return
            }
            start += 1
            if start > tickets.count / 2 {
                tickets.removeFirst(start)
                start = 0
            }
        }
    }

    var isEmpty: Bool { waits.isEmpty }
    var all: [KeyWait] { waits.sorted { $0.key < $1.key }.map(\.value) }
    subscript(ticket: Ticket) -> KeyWait? { waits[ticket] }

    mutating func add(_ wait: KeyWait) -> Ticket {
        let ticket = nextTicket
        nextTicket += 1
        waits[ticket] = wait
        for key in wait.keys {
            queues[key, default: Queue()].tickets.append(ticket)
            if wait.whenGone != nil { queues[key]?.whenGoneCount += 1 }
        }
        if wait.deadline != 0 {
            timedCount += 1
            deadlines.add(wait.deadline, ticket)
        }
        return ticket
    }

    mutating func remove(_ ticket: Ticket) -> KeyWait? {
        guard let wait = waits.removeValue(forKey: ticket) else { return nil }
        for key in wait.keys {
            queues[key]?.remove(ticket)
            if wait.whenGone != nil { queues[key]?.whenGoneCount -= 1 }
            if queues[key]?.count == 0 { queues[key] = nil }
        }
        if wait.deadline != 0 {
            timedCount -= 1
            if deadlines.count > 2 * timedCount + 64 {
                let waits = waits
                deadlines.removeAll { waits[$0] == nil }
            }
        }
        return wait
    }

    /// Who stands at a place of a key's queue.
    func ticket(_ key: WatchedKey, at index: Int) -> Ticket? {
        guard let queue = queues[key], index < queue.count else { return nil }
        return queue.tickets[queue.start + index]
    }

    /// Whether somebody wants to know when the key is gone.
    func awaitsEnd(of key: WatchedKey) -> Bool { queues[key].map { $0.whenGoneCount > 0 } ?? false }

    /// When the next wait may be over.
    var nextDeadline: Int64? { deadlines.first }

    /// A wait that is over. - Parameter now: node's clock, milliseconds.
    mutating func takeExpired(now: Int64) -> KeyWait? {
        while let ticket = deadlines.takeFirst(notAfter: now) {
            if let wait = waits[ticket] { return wait }
        }
        return nil
    }
}

/// Deadlines, the earliest first: a binary heap. Tickets of waits that are over stay until they are met or swept out.
private struct DeadlineQueue {
    private var heap: [(deadline: Int64, ticket: UInt64)] = []

    var count: Int { heap.count }
    var first: Int64? { heap.first?.deadline }

    mutating func add(_ deadline: Int64, _ ticket: UInt64) {
        heap.append((deadline, ticket))
        var child = heap.count - 1
        while child > 0, heap[child].deadline < heap[(child - 1) / 2].deadline {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func takeFirst(notAfter now: Int64) -> UInt64? {
        guard let first = heap.first, first.deadline <= now else { return nil }
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        sink(0)
        return first.ticket
    }

    private mutating func sink(_ start: Int) {
        var parent = start
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < heap.count && heap[child].deadline < heap[least].deadline { least = child }
            if least == parent { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }

    /// - Complexity: O(n)
    mutating func removeAll(where isGone: (UInt64) -> Bool) {
        heap.removeAll { isGone($0.ticket) }
        // What is sorted is a heap.
        heap.sort { $0.deadline < $1.deadline }
    }
}

extension Request {
    /// The end of a wait that an argument gives in seconds, a decimal number; 0 to wait for ever.
    /// (getTimeoutFromObjectOrReply)
    func deadline(seconds index: Int, now: Int64) throws(ReplyError) -> Int64 {
        guard let seconds = parseLongDouble(self[index]) else {
            throw .text("ERR timeout is not a float or out of range")
        }
        let milliseconds = (seconds * 1000).rounded(.up)
        // What C cannot convert becomes the most negative number.
        guard milliseconds >= 0, milliseconds < LongDouble(Int64.max) else { throw .text("ERR timeout is negative") }
        return Self.deadline(after: Int64(milliseconds), now)
    }

    /// The same in whole milliseconds.
    func deadline(milliseconds index: Int, now: Int64) throws(ReplyError) -> Int64 {
        guard let milliseconds = parseInt64(self[index]) else {
            throw .text("ERR timeout is not an integer or out of range")
        }
        guard milliseconds >= 0 else { throw .text("ERR timeout is negative") }
        return Self.deadline(after: milliseconds, now)
    }

    private static func deadline(after milliseconds: Int64, _ now: Int64) -> Int64 {
        if milliseconds == 0 { return 0 }
        let (deadline, isTooLate) = now.addingReportingOverflow(milliseconds)
        return isTooLate ? .max : deadline
    }
}
