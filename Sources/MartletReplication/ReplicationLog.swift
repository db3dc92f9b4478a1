import MartletBase

// The log: every change of the data, once, as RESP bytes, addressed by the replication offset.
//
// Replicas, partial resyncs and (later) the append only file read the same bytes, each from its own position. A position
// is the count of bytes before it since the history began, so the end of the log is Redis' `master_repl_offset`, and the
// byte that Redis calls offset `n` is at position `n - 1`.
//
// 1. Bytes live in blocks of one size. All but the last are full, so the block of a position is found by a division,
//    and a reader needs nothing but its position.
// 2. Appending copies to the end of the last block: a comparison, a copy, three additions. Blocks change hands at their
//    end only; a block that was trimmed is kept for the next.
// 3. Trimming drops whole blocks from the front. It keeps `backlogBytes` for replicas that come back, and what the
//    slowest attached reader has not had yet, up to a limit: a reader beyond it has lost its place, which
//    ``contains(position:)`` tells, and must be disconnected.
// 4. While nobody reads and nobody may come back, the log is off: nothing is appended, the offset stands still. The
//    history must then get a new ID when it is turned on or off (see ``ReplicationHistory/startNew(id:)``).
//
// Views into the log are valid until the next call that changes it.
//
// Source: Redis 7.0 replication.c, "replication backlog" (there a list of reference-counted blocks).

package struct ReplicationLog: ~Copyable {
    /// Big enough that a block change is rare, small enough that the least backlog (16 KiB) is not dwarfed.
    package static let blockBytes = 64 * 1024
    /// Blocks kept for reuse after trimming.
    private static let spareCountMax = 4

    package private(set) var isActive = false
    /// Position of the first byte that is kept.
    package private(set) var start: Int64
    /// Position behind the last byte: Redis' `master_repl_offset`.
    package private(set) var end: Int64

    /// Ring of blocks; `blocks[(first + n) & (capacity - 1)]` holds the bytes from `start + n * blockBytes` on.
    private var blocks: UnsafeMutablePointer<UnsafeMutableRawPointer>
    private var capacity = 16
    private var first = 0
    private var blockCount = 0
    /// Free room at the end of the last block.
    private var tail: UnsafeMutableRawPointer
    private var tailRoom = 0
    private var spares: [UnsafeMutableRawPointer] = []

    /// An inactive log whose next byte will be at position `end`.
    package init(end: Int64 = 0) {
        start = end
        self.end = end
        blocks = .allocate(capacity: capacity)
        // Never written: there is no room until the first block.
        tail = UnsafeMutableRawPointer(blocks)
    }

    deinit {
        for index in 0..<blockCount { blocks[(first + index) & (capacity - 1)].deallocate() }
        for block in spares { block.deallocate() }
        blocks.deallocate()
    }

    /// Bytes kept: `repl_backlog_histlen`.
    package var count: Int64 { end - start }
    /// `repl_backlog_first_byte_offset` in INFO.
    package var firstByteOffset: Int64 { start + 1 }
    /// Memory held, for INFO and the accounting of replication buffers.
    package var allocatedBytes: Int { (blockCount + spares.count) * Self.blockBytes }

    /// Whether a reader at `position` still finds its bytes here; a position at the end has none to find yet.
    package func contains(position: Int64) -> Bool { isActive && position >= start && position <= end }

    // MARK: - Turning on and off

    /// Starts logging at the current end. Does nothing if the log is on.
    package mutating func activate() {
        isActive = true
    }

    /// Empties the log and goes on at another position: after a full sync from a primary.
    package mutating func restart(at position: Int64) {
        removeAllBlocks()
        start = position
        end = position
        isActive = true
    }

    /// Frees everything; the offset stands still from here on.
    package mutating func deactivate() {
        removeAllBlocks()
        start = end
        isActive = false
    }

    private mutating func removeAllBlocks() {
        for index in 0..<blockCount { blocks[(first + index) & (capacity - 1)].deallocate() }
        for block in spares { block.deallocate() }
        spares.removeAll()
        blockCount = 0
        first = 0
        tailRoom = 0
    }

    // MARK: - Appending

    /// Appends to the end; does nothing while the log is off.
    package mutating func append(_ bytes: UnsafeRawBufferPointer) {
        guard isActive, let source = bytes.baseAddress else { return }
        let count = bytes.count
        if count <= tailRoom {
            tail.copyMemory(from: source, byteCount: count)
            tail += count
            tailRoom &-= count
            end &+= Int64(count)
        } else {
            appendAcrossBlocks(bytes)
        }
    }

    package mutating func append(_ text: StaticString) {
        append(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    @inline(never)
    private mutating func appendAcrossBlocks(_ bytes: UnsafeRawBufferPointer) {
        var rest = bytes
        while !rest.isEmpty {
            if tailRoom == 0 { addBlock() }
            let piece = min(rest.count, tailRoom)
            tail.copyMemory(from: rest.baseAddress!, byteCount: piece)
            tail += piece
            tailRoom -= piece
            end += Int64(piece)
            rest = UnsafeRawBufferPointer(rebasing: rest[piece...])
        }
    }

    /// Room for `count` bytes in one piece, to encode in place; nil if the last block has less, or the log is off. Then
    /// the pieces have to be appended one by one.
    package mutating func reserve(_ count: Int) -> UnsafeMutableRawPointer? {
        if tailRoom == 0, isActive { addBlock() }
        return isActive && count <= tailRoom ? tail : nil
    }

    /// Appends what was written to the reserved room.
    package mutating func commit(_ count: Int) {
        precondition(count >= 0 && count <= tailRoom)
        tail += count
        tailRoom &-= count
        end &+= Int64(count)
    }

    @inline(never)
    private mutating func addBlock() {
        if blockCount == capacity { growRing() }
        let block = spares.popLast() ?? .allocate(byteCount: Self.blockBytes, alignment: 64)
        (blocks + ((first + blockCount) & (capacity - 1))).initialize(to: block)
        blockCount += 1
        tail = block
        tailRoom = Self.blockBytes
    }

    private mutating func growRing() {
        let new = UnsafeMutablePointer<UnsafeMutableRawPointer>.allocate(capacity: capacity * 2)
        for index in 0..<blockCount { (new + index).initialize(to: blocks[(first + index) & (capacity - 1)]) }
        blocks.deallocate()
        blocks = new
        capacity *= 2
        first = 0
    }

    // MARK: - Reading

    /// The bytes at `position`, as many as lie in one piece; empty at the end.
    ///
    /// - Precondition: ``contains(position:)``
    package func bytes(at position: Int64) -> UnsafeRawBufferPointer {
        precondition(position >= start && position <= end)
        guard position < end else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        let distance = Int(position - start)
        let offset = distance % Self.blockBytes
        let block = blocks[(first + distance / Self.blockBytes) & (capacity - 1)]
        let count = min(Self.blockBytes - offset, Int(end - position))
        return UnsafeRawBufferPointer(start: block + offset, count: count)
    }

    // MARK: - Trimming

    /// Whether ``trim(backlogBytes:slowestReader:readerBytesMax:)`` may have something to drop. Asked once per turn, before
    /// the readers are looked at.
    package func exceeds(backlogBytes: Int64) -> Bool {
        blockCount > 1 && end - start - Int64(Self.blockBytes) >= backlogBytes
    }

    /// Drops blocks from the front that nobody needs.
    ///
    /// - Parameters:
    ///   - backlogBytes: kept for partial resyncs (`repl-backlog-size`).
    ///   - slowestReader: position of the attached reader that is furthest behind, nil without readers.
    ///   - readerBytesMax: how much is kept for that reader at most.
    package mutating func trim(backlogBytes: Int64, slowestReader: Int64?, readerBytesMax: Int64 = .max) {
        while blockCount > 1 {
            let newStart = start + Int64(Self.blockBytes)
            guard end - newStart >= backlogBytes else { return }
            if let slowestReader, slowestReader < newStart, end - slowestReader <= readerBytesMax { return }
            let block = blocks[first]
            first = (first + 1) & (capacity - 1)
            blockCount -= 1
            start = newStart
            if spares.count < Self.spareCountMax { spares.append(block) } else { block.deallocate() }
        }
    }
}
