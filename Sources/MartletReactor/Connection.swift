import Glibc
import MartletRESP
import MartletServer
import Synchronization

/// Bytes of one connection that could not be executed yet: the tail of a request, or everything behind a request that
/// parked its client. Empty, and without memory, most of the time.
struct PendingInput: ~Copyable {
    private var base: UnsafeMutablePointer<UInt8>?
    /// Bytes at the front that were consumed: a client that waited may have sent much, and it is consumed piece by piece.
    private var start = 0
    private(set) var count = 0
    private(set) var capacity = 0

    deinit { free(base) }

    /// The first byte; nil if there is no memory.
    var front: UnsafeMutablePointer<UInt8>? { base.map { $0 + start } }
    /// Room behind the last byte.
    var room: Int { capacity - start - count }
    var end: UnsafeMutablePointer<UInt8> { base.unsafelyUnwrapped + start + count }

    mutating func reserve(_ additional: Int) {
        guard additional > room else { return }
        // No more bytes are moved than were consumed.
        if let base, start >= count {
            base.update(from: base + start, count: count)
            start = 0
            if additional <= room { return }
        }
        // Exactly what a long argument needs, so that it is received into its final place; doubling otherwise.
        resize(to: max(start + count + additional, min(capacity * 2, start + count + 1 << 20)))
    }

    /// The allocator rounds large sizes up to a quarter of their power of two and moves nothing within that, so growing
    /// step by step copies as little as doubling does.
    private mutating func resize(to newCapacity: Int) {
        guard let new = realloc(base, newCapacity) else { fatalError("Out of memory: \(newCapacity) bytes of input") }
        base = new.assumingMemoryBound(to: UInt8.self)
        capacity = newCapacity
    }

    /// Counts bytes that were received behind the last one.
    mutating func received(_ bytes: Int) { count += bytes }

    mutating func append(_ bytes: UnsafePointer<UInt8>, count added: Int) {
        reserve(added)
        end.update(from: bytes, count: added)
        count += added
    }

    /// Drops bytes from the front; gives the memory back when nothing is left.
    mutating func consume(_ bytes: Int) {
        precondition(bytes <= count)
        count -= bytes
        start += bytes
        guard count == 0 else { return }
        free(base)
        base = nil
        start = 0
        capacity = 0
    }
}

/// A client's socket, and what is on its way in and out. At a fixed address from accept until nobody can name it any more.
///
/// A connection belongs to one thread: the command thread (index 0) or an I/O thread. The command thread may touch the
/// fields of the first group at any time, everything else of an I/O thread's connection only while it has a batch with bytes
/// of it.
struct Connection: ~Copyable {
    let fd: Int32
    /// Freed by the command thread when it has closed the connection; an I/O thread only hands it on.
    let client: ClientPointer
    let clientID: UInt64
    /// Owner: 0 for the command thread.
    var thread = 0
    /// In a list of the command thread's.
    var isQueuedForWrite = false
    /// Closed in this turn; events that are still to come are ignored.
    var isClosed = false
    /// Its I/O thread was asked to give it back; nobody is to name it until it has arrived.
    var isLeaving = false

    // MARK: The owner's

    var pending = PendingInput()
    /// Where to go on in a long request that has not arrived completely.
    var partial: PartialRequest?
    /// Bytes that the incomplete request needs at least.
    var missing = 0
    /// Kept bytes may hold requests.
    var hasUnparsed = false
    /// What the client was when its last request had run.
    var isAuthenticated = false
    var isParked = false
    /// Bytes at the front of the reply buffer that were sent.
    var sent = 0
    var waitsForWrite = false
    /// Its bytes are part of a batch that has not been executed.
    var isInBatch = false

    // MARK: An I/O thread's

    /// Replies that were handed over; those in front of ``sent`` are gone.
    var outgoing: UnsafeMutablePointer<ReplyBuffer>?
    /// Handed over and not sent yet. Anybody may look.
    let unsentBytes = Atomic<Int>(0)
    /// There may be more to receive: an edge that was not followed to its end.
    var isReadable = false
    /// The peer has closed its side: what it sent before is still to be received.
    var isEnding = false
    /// To be given back to the command thread.
    var isWanted = false
    /// In the list of those that wait for a batch or for their next turn.
    var isQueued = false
    /// To be closed when everything is sent.
    var closesAfterSending = false
    /// Closed on this side; the command thread was told.
    var hasEnded = false
    /// The command thread has closed it: to be freed when no batch names it.
    var isForgotten = false

    init(fd: Int32, client: ClientPointer) {
        self.fd = fd
        self.client = client
        clientID = client.pointee.id
        isAuthenticated = client.isAuthenticated
    }

    /// Of an I/O thread's connection: replies that are no longer in the client's buffer, and not sent.
    var handedOverBytes: Int { thread > 0 ? max(0, unsentBytes.load(ordering: .relaxed)) : 0 }

    deinit {
        outgoing?.deinitialize(count: 1)
        outgoing?.deallocate()
    }
}

typealias ConnectionPointer = UnsafeMutablePointer<Connection>
