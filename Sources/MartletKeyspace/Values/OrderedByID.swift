import Glibc

// What streams keep in the order of IDs.
//
// `IDDirectory` maps IDs to blocks of memory: the nodes of a stream, or the blocks of an `IDTable`. It is one contiguous
// array with room at its end and, when something was removed at its front, before its beginning: appending and removing
// at the front, which is nearly all that streams do, are O(1) amortised, and look-up is a binary search without pointers
// to follow.
//
// `IDTable` keeps small records by ID: the pending entries of a group and of a consumer. Up to 64 records stand in one
// block, the directory leads to the block. Records are appended, mostly, and taken out anywhere.

/// Addresses ordered by stream ID. Plain data: whoever owns it calls ``destroy()``.
struct IDDirectory {
    struct Record {
        var id: StreamID
        var address: UnsafeMutableRawPointer
    }

    private var base: UnsafeMutablePointer<Record>?
    /// Free places before the first record.
    private var start = 0
    private(set) var count = 0
    private var capacity = 0

    private static let capacityMin = 4

    /// Valid until the next change. - Precondition: there is a record.
    @inline(__always) private var records: UnsafeMutablePointer<Record> { base.unsafelyUnwrapped + start }

    @inline(__always)
    subscript(index: Int) -> Record {
        get {
            precondition(index >= 0 && index < count)
            return records[index]
        }
        nonmutating set {
            precondition(index >= 0 && index < count)
            records[index] = newValue
        }
    }

    /// The last record whose ID is not above `id`; -1 if there is none. - Complexity: O(log n)
    func floor(_ id: StreamID) -> Int {
        if count == 0 { return -1 }
        // Most look-ups are for what came last.
        if records[count - 1].id <= id { return count - 1 }
        var (low, high) = (-1, count - 1)
        while high - low > 1 {
            let middle = (low + high) >> 1
            if records[middle].id <= id { low = middle } else { high = middle }
        }
        return low
    }

    mutating func append(_ record: Record) { insert(record, at: count) }

    mutating func insert(_ record: Record, at index: Int) {
        precondition(index >= 0 && index <= count)
        if start + count == capacity { makeRoom() }
        let place = records + index
        (place + 1).update(from: place, count: count - index)
        place.initialize(to: record)
        count += 1
    }

    mutating func remove(at index: Int) {
        precondition(index >= 0 && index < count)
        if index < count / 2 {
            (records + 1).update(from: records, count: index)
            start += 1
        } else {
            (records + index).update(from: records + index + 1, count: count - index - 1)
        }
        count -= 1
        if count == 0 {
            destroy()
        } else if capacity > 4 * Self.capacityMin, count < capacity / 4 {
            move(capacity: capacity / 2)
        }
    }

    private mutating func makeRoom() {
        if start > capacity / 2 {
            base.unsafelyUnwrapped.update(from: records, count: count)
            start = 0
        } else {
            move(capacity: max(Self.capacityMin, capacity * 2))
        }
    }

    private mutating func move(capacity newCapacity: Int) {
        let new = Memory.allocate(newCapacity * MemoryLayout<Record>.stride)
            .bindMemory(to: Record.self, capacity: newCapacity)
        if count > 0 { new.initialize(from: records, count: count) }
        let count = count
        destroy()
        base = new
        self.count = count
        capacity = newCapacity
    }

    mutating func destroy() {
        if let base { Memory.free(UnsafeMutableRawPointer(base), capacity * MemoryLayout<Record>.stride) }
        base = nil
        (start, count, capacity) = (0, 0, 0)
    }

    var memoryBytes: Int { capacity == 0 ? 0 : Memory.usableBytes(capacity * MemoryLayout<Record>.stride) }

    func invariants() {
        precondition(start >= 0 && start + count <= capacity, "records lie within the array")
        for index in stride(from: 1, to: count, by: 1) {
            precondition(records[index - 1].id < records[index].id, "records are in order")
        }
    }
}

/// Records ordered by stream ID, all of one size, each with its ID at its front. Plain data: whoever owns it calls
/// ``destroy()``.
///
/// A block: how many records it has and has room for, 32 bits each; then the records. The ID that the directory has for a
/// block is not above that of its first record, and above that of the last record of the block before.
struct IDTable {
    private var blocks = IDDirectory()
    private(set) var count = 0
    /// A multiple of 8.
    private let recordBytes: Int

    private static let headerBytes = 8
    private static let blockRecordsMax = 64
    private static let blockRecordsFirst = 4

    init(recordBytes: Int) { self.recordBytes = recordBytes }

    // MARK: Blocks

    private typealias Block = UnsafeMutableRawPointer

    @inline(__always) private static func count(_ block: Block) -> Int { Int(block.load(as: UInt32.self)) }
    @inline(__always) private static func setCount(_ block: Block, _ count: Int) {
        block.storeBytes(of: UInt32(count), as: UInt32.self)
    }
    private static func capacity(_ block: Block) -> Int { Int(block.load(fromByteOffset: 4, as: UInt32.self)) }

    @inline(__always)
    private func record(_ block: Block, _ slot: Int) -> UnsafeMutableRawPointer {
        block + (Self.headerBytes &+ slot &* recordBytes)
    }

    @inline(__always)
    private func id(_ block: Block, _ slot: Int) -> StreamID { record(block, slot).load(as: StreamID.self) }

    private func bytes(capacity: Int) -> Int { Self.headerBytes + capacity * recordBytes }

    private func makeBlock(capacity: Int) -> Block {
        let block = Memory.allocate(bytes(capacity: capacity))
        Self.setCount(block, 0)
        block.storeBytes(of: UInt32(capacity), toByteOffset: 4, as: UInt32.self)
        return block
    }

    private func free(_ block: Block) { Memory.free(block, bytes(capacity: Self.capacity(block))) }

    /// The block with the same records and more room; the old one is gone.
    private func grown(_ block: Block, capacity: Int) -> Block {
        let old = Self.capacity(block)
        let new = Memory.reallocate(block, from: bytes(capacity: old), to: bytes(capacity: capacity))
        new.storeBytes(of: UInt32(capacity), toByteOffset: 4, as: UInt32.self)
        return new
    }

    /// Moves records within a block or from one to another.
    private func move(_ source: Block, _ first: Int, count: Int, to target: Block, _ slot: Int) {
        record(target, slot).copyMemory(from: record(source, first), byteCount: count * recordBytes)
    }

    /// The first record of a block whose ID is not below `id`; the count of records if there is none.
    private func slot(_ block: Block, notBelow id: StreamID) -> Int {
        var (low, high) = (0, Self.count(block))
        // Whatever comes next is appended.
        if high > 0, self.id(block, high - 1) < id { return high }
        while low < high {
            let middle = (low + high) >> 1
            if self.id(block, middle) < id { low = middle + 1 } else { high = middle }
        }
        return low
    }

    // MARK: Look-up

    /// The record of an ID. Valid until the next change. - Complexity: O(log n)
    func find(_ id: StreamID) -> UnsafeMutableRawPointer? {
        let index = blocks.floor(id)
        if index < 0 { return nil }
        let block = blocks[index].address
        let slot = slot(block, notBelow: id)
        return slot < Self.count(block) && self.id(block, slot) == id ? record(block, slot) : nil
    }

    /// Where a walk through the records stands. Invalid after any change.
    struct Position {
        fileprivate var block: Int
        fileprivate var slot: Int
    }

    /// Where the first record is whose ID is not below `id`. - Complexity: O(log n)
    func seek(_ id: StreamID) -> Position {
        let index = blocks.floor(id)
        if index < 0 { return Position(block: 0, slot: 0) }
        return Position(block: index, slot: slot(blocks[index].address, notBelow: id))
    }

    /// The record at a position, which moves on. - Returns: nil at the end.
    @inline(__always)
    func next(_ position: inout Position) -> UnsafeMutableRawPointer? {
        while position.block < blocks.count {
            let block = blocks[position.block].address
            if position.slot < Self.count(block) {
                defer { position.slot &+= 1 }
                return record(block, position.slot)
            }
            position.block += 1
            position.slot = 0
        }
        return nil
    }

    var first: StreamID? { count == 0 ? nil : id(blocks[0].address, 0) }

    var last: StreamID? {
        if count == 0 { return nil }
        let block = blocks[blocks.count - 1].address
        return id(block, Self.count(block) - 1)
    }

    // MARK: Change

    /// The record of an ID; a new one has nothing but its ID. Valid until the next change.
    ///
    /// - Complexity: O(log n)
    mutating func insert(_ id: StreamID) -> (record: UnsafeMutableRawPointer, isNew: Bool) {
        if blocks.count == 0 {
            blocks.append(.init(id: id, address: makeBlock(capacity: Self.blockRecordsFirst)))
        }
        var index = blocks.floor(id)
        if index < 0 {
            index = 0
            blocks[0].id = id
        }
        var block = blocks[index].address
        var slot = slot(block, notBelow: id)
        let used = Self.count(block)
        if slot < used, self.id(block, slot) == id { return (record(block, slot), false) }
        if used == Self.capacity(block) {
            if used < Self.blockRecordsMax {
                block = grown(block, capacity: used * 2)
                blocks[index].address = block
            } else if slot == used, index == blocks.count - 1 {
                block = makeBlock(capacity: Self.blockRecordsMax / 4)
                blocks.append(.init(id: id, address: block))
                slot = 0
            } else {
                let right = split(index)
                if slot > Self.count(block) {
                    slot -= Self.count(block)
                    block = right
                }
            }
        }
        let count = Self.count(block)
        move(block, slot, count: count - slot, to: block, slot + 1)
        Self.setCount(block, count + 1)
        self.count += 1
        let record = record(block, slot)
        record.storeBytes(of: id, as: StreamID.self)
        return (record, true)
    }

    /// Moves the upper half of a full block into a new one behind it.
    private mutating func split(_ index: Int) -> Block {
        let block = blocks[index].address
        let right = makeBlock(capacity: Self.blockRecordsMax)
        let half = Self.blockRecordsMax / 2
        move(block, half, count: half, to: right, 0)
        Self.setCount(block, half)
        Self.setCount(right, half)
        blocks.insert(.init(id: id(right, 0), address: right), at: index + 1)
        return right
    }

    /// - Returns: whether there was a record of this ID.
    /// - Complexity: O(log n), and O(n / 64) once in a while
    @discardableResult
    mutating func remove(_ id: StreamID) -> Bool {
        let index = blocks.floor(id)
        if index < 0 { return false }
        let block = blocks[index].address
        let slot = slot(block, notBelow: id)
        let used = Self.count(block)
        guard slot < used, self.id(block, slot) == id else { return false }
        move(block, slot + 1, count: used - slot - 1, to: block, slot)
        Self.setCount(block, used - 1)
        count -= 1
        if used == 1 {
            blocks.remove(at: index)
            free(block)
        } else if used <= Self.blockRecordsMax / 4 {
            if !merge(index) { _ = merge(index - 1) }
        }
        return true
    }

    /// Appends the records of the next block to this one if they leave room for some more. - Returns: whether they do.
    private mutating func merge(_ index: Int) -> Bool {
        guard index >= 0, index + 1 < blocks.count else { return false }
        var block = blocks[index].address
        let next = blocks[index + 1].address
        let (used, added) = (Self.count(block), Self.count(next))
        guard used + added <= Self.blockRecordsMax * 3 / 4 else { return false }
        if Self.capacity(block) < Self.blockRecordsMax {
            block = grown(block, capacity: Self.blockRecordsMax)
            blocks[index].address = block
        }
        move(next, 0, count: added, to: block, used)
        Self.setCount(block, used + added)
        blocks.remove(at: index + 1)
        free(next)
        return true
    }

    // MARK: Life

    /// A table with the same records in memory of its own.
    func copy() -> IDTable {
        var copy = IDTable(recordBytes: recordBytes)
        copy.count = count
        for index in 0..<blocks.count {
            let block = blocks[index].address
            let size = bytes(capacity: Self.capacity(block))
            let new = Memory.allocate(size)
            new.copyMemory(from: block, byteCount: bytes(capacity: Self.count(block)))
            copy.blocks.append(.init(id: blocks[index].id, address: new))
        }
        return copy
    }

    /// Frees blocks from the end until the limit is used up. - Returns: true when nothing is left.
    mutating func freeSome(_ limit: inout Int) -> Bool {
        while blocks.count > 0 {
            if limit <= 0 { return false }
            let block = blocks[blocks.count - 1].address
            count -= Self.count(block)
            free(block)
            blocks.remove(at: blocks.count - 1)
            limit -= 1
        }
        return true
    }

    mutating func destroy() {
        var limit = Int.max
        _ = freeSome(&limit)
    }

    var blockCount: Int { blocks.count }

    /// - Complexity: O(1); about, for blocks of different sizes.
    var memoryBytes: Int {
        let used = blocks.count * Memory.usableBytes(bytes(capacity: Self.blockRecordsMax))
        guard blocks.count == 1 else { return used + blocks.memoryBytes }
        return Memory.usableBytes(bytes(capacity: Self.capacity(blocks[0].address))) + blocks.memoryBytes
    }

    func invariants() {
        blocks.invariants()
        var total = 0
        var previous: StreamID?
        for index in 0..<blocks.count {
            let block = blocks[index].address
            let used = Self.count(block)
            precondition(used > 0 && used <= Self.capacity(block), "a block has records, and room for them")
            precondition(Self.capacity(block) <= Self.blockRecordsMax)
            precondition(blocks[index].id <= id(block, 0), "the directory's ID is not above the first record's")
            if let previous { precondition(previous < blocks[index].id, "the directory's ID is above those before") }
            for slot in 0..<used {
                if let previous { precondition(previous < id(block, slot), "records are in order") }
                previous = id(block, slot)
            }
            total += used
        }
        precondition(total == count, "records add up")
    }
}
