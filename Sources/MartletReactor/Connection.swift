import Glibc
import MartletRESP
import MartletServer

/// Bytes of one connection that could not be executed yet: the tail of a request, or everything behind a request that
/// parked its client. Empty, and without memory, most of the time.
struct PendingInput: ~Copyable {
    private(set) var base: UnsafeMutablePointer<UInt8>?
    private(set) var count = 0
    private(set) var capacity = 0

    deinit { free(base) }

    /// Room behind the last byte.
    var room: Int { capacity - count }
    var end: UnsafeMutablePointer<UInt8> { base.unsafelyUnwrapped + count }

    mutating func reserve(_ additional: Int) {
        guard count + additional > capacity else { return }
        // Exactly what a long argument needs, so that it is received into its final place; doubling otherwise.
        resize(to: max(count + additional, min(capacity * 2, count + 1 << 20)))
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
        guard let base else { return }
        if count == 0 {
            free(base)
            self.base = nil
            capacity = 0
        } else if bytes > 0 {
            base.update(from: base + bytes, count: count)
        }
    }
}

/// A client's socket, and what is on its way in and out. At a fixed address from accept to the end of the turn in which
/// it was closed.
struct Connection: ~Copyable {
    let fd: Int32
    let client: ClientPointer
    var pending = PendingInput()
    /// Where to go on in a long request that has not arrived completely.
    var partial: PartialRequest?
    /// Bytes that the incomplete request needs at least.
    var missing = 0
    /// Bytes at the front of the client's reply buffer that were sent.
    var sent = 0
    var waitsForWrite = false
    /// Its bytes are part of the batch that is being filled.
    var isInBatch = false
    var isQueuedForWrite = false
    /// Closed in this turn; events that are still to come are ignored.
    var isClosed = false

    init(fd: Int32, client: ClientPointer) {
        self.fd = fd
        self.client = client
    }
}

typealias ConnectionPointer = UnsafeMutablePointer<Connection>
