import MartletBase

// Consumer groups of a stream.
//
// A group knows up to where it has read, which entries it has handed out and nobody has acknowledged (its pending
// entries), and its consumers. A pending entry names its consumer, and a consumer keeps the IDs of its own: what is known
// about a delivery stands in one place, the group's table.
//
// Groups and consumers are blocks of memory that stay where they are: the fixed part, then the name. Lists of them are
// in the order of names, as Redis' trees are.

/// What ``NameList`` holds.
protocol Named {
    /// Bytes of the name, which stands behind the fixed part.
    var nameCount: Int { get }
}

/// Blocks of memory ordered by their names. Plain data: whoever owns it frees the blocks, then calls ``destroy()``.
struct NameList<Element: Named> {
    typealias Pointer = UnsafeMutablePointer<Element>

    private var base: UnsafeMutablePointer<Pointer>?
    private(set) var count = 0
    private var capacity = 0

    @inline(__always)
    subscript(index: Int) -> Pointer {
        precondition(index >= 0 && index < count)
        return base.unsafelyUnwrapped[index]
    }

    static func name(of element: Pointer) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: UnsafeRawPointer(element + 1), count: element.pointee.nameCount)
    }

    func find(_ name: UnsafeRawBufferPointer) -> Pointer? {
        let place = place(of: name)
        return place.isThere ? self[place.index] : nil
    }

    /// Where a name stands, or belongs. - Complexity: O(log n)
    private func place(of name: UnsafeRawBufferPointer) -> (index: Int, isThere: Bool) {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) >> 1
            let order = compareBytes(Self.name(of: self[middle]), name)
            if order == 0 { return (middle, true) }
            if order < 0 { low = middle + 1 } else { high = middle }
        }
        return (low, false)
    }

    /// A block for an element of this name; only its name is filled in.
    static func allocate(_ name: UnsafeRawBufferPointer) -> Pointer {
        let pointer = Memory.allocate(MemoryLayout<Element>.stride + name.count)
            .bindMemory(to: Element.self, capacity: 1)
        if let source = name.baseAddress {
            UnsafeMutableRawPointer(pointer + 1).copyMemory(from: source, byteCount: name.count)
        }
        return pointer
    }

    static func free(_ element: Pointer) {
        Memory.free(UnsafeMutableRawPointer(element), bytes(element))
    }

    private static func bytes(_ element: Pointer) -> Int { MemoryLayout<Element>.stride + element.pointee.nameCount }

    /// - Returns: false if there is one of that name; nothing happens then.
    mutating func insert(_ element: Pointer) -> Bool {
        let place = place(of: Self.name(of: element))
        if place.isThere { return false }
        if count == capacity { grow() }
        let slot = base.unsafelyUnwrapped + place.index
        (slot + 1).update(from: slot, count: count - place.index)
        slot.initialize(to: element)
        count += 1
        return true
    }

    private mutating func grow() {
        let size = MemoryLayout<Pointer>.stride
        let newCapacity = max(1, capacity * 2)
        let new: UnsafeMutableRawPointer
        if let base {
            new = Memory.reallocate(UnsafeMutableRawPointer(base), from: capacity * size, to: newCapacity * size)
        } else {
            new = Memory.allocate(newCapacity * size)
        }
        base = new.bindMemory(to: Pointer.self, capacity: newCapacity)
        capacity = newCapacity
    }

    /// Takes an element out; the caller frees it.
    mutating func remove(_ name: UnsafeRawBufferPointer) -> Pointer? {
        let place = place(of: name)
        guard place.isThere else { return nil }
        let element = self[place.index]
        let slot = base.unsafelyUnwrapped + place.index
        slot.update(from: slot + 1, count: count - place.index - 1)
        count -= 1
        if count == 0 { destroy() }
        return element
    }

    mutating func removeLast() -> Pointer? { count == 0 ? nil : remove(Self.name(of: self[count - 1])) }

    mutating func destroy() {
        if let base { Memory.free(UnsafeMutableRawPointer(base), capacity * MemoryLayout<Pointer>.stride) }
        base = nil
        (count, capacity) = (0, 0)
    }

    /// Bytes of the list and of the blocks themselves. - Complexity: O(n)
    var memoryBytes: Int {
        var bytes = capacity == 0 ? 0 : Memory.usableBytes(capacity * MemoryLayout<Pointer>.stride)
        for index in 0..<count { bytes += Memory.usableBytes(Self.bytes(self[index])) }
        return bytes
    }

    func invariants() {
        for index in stride(from: 1, to: count, by: 1) {
            precondition(compareBytes(Self.name(of: self[index - 1]), Self.name(of: self[index])) < 0, "names in order")
        }
    }
}

// MARK: - Consumers

/// A consumer of a group. A view: it owns nothing.
package struct StreamConsumer: Equatable {
    struct Storage: Named {
        let nameCount: Int
        /// Unix time in milliseconds.
        var seenAt: Int64
        /// Only IDs: the group knows the rest.
        var pending = IDTable(recordBytes: MemoryLayout<StreamID>.stride)
    }

    let pointer: UnsafeMutablePointer<Storage>

    init(_ pointer: UnsafeMutablePointer<Storage>) { self.pointer = pointer }

    package var name: UnsafeRawBufferPointer { NameList<Storage>.name(of: pointer) }
    package var pendingCount: Int { pointer.pointee.pending.count }
    /// When it was last named by a command; Unix time in milliseconds.
    package var seenAt: Int64 {
        get { pointer.pointee.seenAt }
        nonmutating set { pointer.pointee.seenAt = newValue }
    }

    fileprivate static func make(_ name: UnsafeRawBufferPointer, seenAt: Int64) -> StreamConsumer {
        let pointer = NameList<Storage>.allocate(name)
        pointer.initialize(to: Storage(nameCount: name.count, seenAt: seenAt))
        return StreamConsumer(pointer)
    }

    fileprivate func destroy() {
        pointer.pointee.pending.destroy()
        NameList<Storage>.free(pointer)
    }
}

/// An entry that a consumer was given and has not acknowledged.
package struct PendingEntry {
    package let id: StreamID
    /// Unix time in milliseconds.
    package var deliveredAt: Int64
    package var deliveryCount: Int64
    package var consumer: StreamConsumer

    package init(id: StreamID, deliveredAt: Int64, deliveryCount: Int64, consumer: StreamConsumer) {
        self.id = id
        self.deliveredAt = deliveredAt
        self.deliveryCount = deliveryCount
        self.consumer = consumer
    }
}

/// A walk through pending entries. Invalid after any of them comes or goes.
package struct PendingCursor {
    fileprivate var position: IDTable.Position
    /// Walks through the entries of this consumer only.
    fileprivate let consumer: StreamConsumer?
}

// MARK: - Groups

/// A consumer group. A view: it owns nothing.
package struct StreamGroup: Equatable {
    struct Storage: Named {
        let nameCount: Int
        var lastID: StreamID
        /// How many entries of the stream, ever, stand at or before ``lastID``; -1 if that is not known.
        var entriesRead: Int64
        var pending = IDTable(recordBytes: MemoryLayout<PendingEntry>.stride)
        var consumers = NameList<StreamConsumer.Storage>()
        var readPoint = ReadPoint()
    }

    /// Where the entry stands that follows the last one that was handed out, so that it need not be searched for.
    struct ReadPoint {
        /// Holds as long as this is the group's last ID …
        var lastID = StreamID.zero
        /// … this the first ID of the node that the last ID belongs to …
        var nodeID = StreamID.zero
        /// … and this the stream's count of changes that move entries.
        var layout = 0
        /// 0 if it is not known.
        var position = 0
    }

    /// Of ``entriesRead``. (SCG_INVALID_ENTRIES_READ)
    package static let unknownEntriesRead: Int64 = -1

    let pointer: UnsafeMutablePointer<Storage>

    init(_ pointer: UnsafeMutablePointer<Storage>) { self.pointer = pointer }

    static func make(_ name: UnsafeRawBufferPointer, lastID: StreamID, entriesRead: Int64) -> StreamGroup {
        let pointer = NameList<Storage>.allocate(name)
        pointer.initialize(to: Storage(nameCount: name.count, lastID: lastID, entriesRead: entriesRead))
        return StreamGroup(pointer)
    }

    package var name: UnsafeRawBufferPointer { NameList<Storage>.name(of: pointer) }

    /// The last entry that was handed out.
    package var lastID: StreamID {
        get { pointer.pointee.lastID }
        nonmutating set { pointer.pointee.lastID = newValue }
    }

    package var entriesRead: Int64 {
        get { pointer.pointee.entriesRead }
        nonmutating set { pointer.pointee.entriesRead = newValue }
    }

    // MARK: Consumers

    package var consumerCount: Int { pointer.pointee.consumers.count }

    /// In the order of names. - Precondition: `index` is below ``consumerCount``.
    package func consumer(at index: Int) -> StreamConsumer { StreamConsumer(pointer.pointee.consumers[index]) }

    package func consumer(named name: UnsafeRawBufferPointer) -> StreamConsumer? {
        pointer.pointee.consumers.find(name).map { StreamConsumer($0) }
    }

    /// A new consumer. - Returns: nil if there is one of that name.
    package func makeConsumer(_ name: UnsafeRawBufferPointer, seenAt: Int64) -> StreamConsumer? {
        let consumer = StreamConsumer.make(name, seenAt: seenAt)
        if pointer.pointee.consumers.insert(consumer.pointer) { return consumer }
        consumer.destroy()
        return nil
    }

    /// Removes a consumer with its pending entries. - Complexity: O(its pending entries · log n)
    package func remove(_ consumer: StreamConsumer) {
        var position = consumer.pointer.pointee.pending.seek(.zero)
        while let record = consumer.pointer.pointee.pending.next(&position) {
            pointer.pointee.pending.remove(record.load(as: StreamID.self))
        }
        _ = pointer.pointee.consumers.remove(consumer.name)
        consumer.destroy()
    }

    // MARK: Pending entries

    package var pendingCount: Int { pointer.pointee.pending.count }
    package var firstPending: StreamID? { pointer.pointee.pending.first }
    package var lastPending: StreamID? { pointer.pointee.pending.last }

    /// What is known about an entry that was delivered. - Complexity: O(log n)
    package func pending(_ id: StreamID) -> PendingEntry? {
        pointer.pointee.pending.find(id)?.load(as: PendingEntry.self)
    }

    /// Writes down a delivery, the first one or another one, to the same consumer or to another one.
    ///
    /// - Complexity: O(log n)
    package func setPending(_ entry: PendingEntry) {
        let (record, isNew) = pointer.pointee.pending.insert(entry.id)
        let old = isNew ? nil : record.load(as: PendingEntry.self).consumer
        record.storeBytes(of: entry, as: PendingEntry.self)
        if old == entry.consumer { return }
        old?.pointer.pointee.pending.remove(entry.id)
        _ = entry.consumer.pointer.pointee.pending.insert(entry.id)
    }

    /// Forgets a delivery. - Returns: whether it was known. - Complexity: O(log n)
    package func removePending(_ id: StreamID) -> Bool {
        guard let entry = pending(id) else { return false }
        pointer.pointee.pending.remove(id)
        entry.consumer.pointer.pointee.pending.remove(id)
        return true
    }

    /// A walk that begins at the first pending entry at or behind `id`: of the group, or of a consumer.
    package func pendingEntries(from id: StreamID, of consumer: StreamConsumer? = nil) -> PendingCursor {
        let position =
            consumer.map { $0.pointer.pointee.pending.seek(id) } ?? pointer.pointee.pending.seek(id)
        return PendingCursor(position: position, consumer: consumer)
    }

    /// The entry that a walk stands at; the walk goes on. - Returns: nil at the end.
    package func next(_ cursor: inout PendingCursor) -> PendingEntry? {
        guard let consumer = cursor.consumer else {
            return pointer.pointee.pending.next(&cursor.position)?.load(as: PendingEntry.self)
        }
        guard let record = consumer.pointer.pointee.pending.next(&cursor.position) else { return nil }
        return pending(record.load(as: StreamID.self))
    }

    // MARK: Loading

    /// Adds a pending entry whose consumer is still to come. - Returns: false if there is one of that ID.
    package func addPending(_ id: StreamID, deliveredAt: Int64, deliveryCount: Int64) -> Bool {
        let (record, isNew) = pointer.pointee.pending.insert(id)
        guard isNew else { return false }
        record.storeBytes(of: deliveredAt, toByteOffset: 16, as: Int64.self)
        record.storeBytes(of: deliveryCount, toByteOffset: 24, as: Int64.self)
        record.storeBytes(of: nil, toByteOffset: Self.consumerOffset, as: UnsafeRawPointer?.self)
        return true
    }

    /// Gives a pending entry its consumer. - Returns: false if there is no such entry, or it has one.
    package func adopt(_ id: StreamID, by consumer: StreamConsumer) -> Bool {
        guard let record = pointer.pointee.pending.find(id),
            record.load(fromByteOffset: Self.consumerOffset, as: UnsafeRawPointer?.self) == nil
        else { return false }
        record.storeBytes(of: consumer, toByteOffset: Self.consumerOffset, as: StreamConsumer.self)
        return consumer.pointer.pointee.pending.insert(id).isNew
    }

    /// Whether every pending entry has its consumer.
    package var isComplete: Bool {
        var owned = 0
        for index in 0..<consumerCount { owned += consumer(at: index).pendingCount }
        return owned == pendingCount
    }

    // MARK: Life

    /// An equal group, consumers and all.
    func copy() -> StreamGroup {
        let new = StreamGroup.make(name, lastID: lastID, entriesRead: entriesRead)
        for index in 0..<consumerCount {
            let consumer = consumer(at: index)
            guard let copy = new.makeConsumer(consumer.name, seenAt: consumer.seenAt) else { continue }
            copy.pointer.pointee.pending = consumer.pointer.pointee.pending.copy()
        }
        new.pointer.pointee.pending = pointer.pointee.pending.copy()
        // The entries name the consumers of the old group: those at the same places of the new one take over.
        for index in 0..<consumerCount {
            let copy = new.consumer(at: index)
            var position = copy.pointer.pointee.pending.seek(.zero)
            while let record = copy.pointer.pointee.pending.next(&position) {
                new.pointer.pointee.pending.find(record.load(as: StreamID.self))?
                    .storeBytes(of: copy, toByteOffset: Self.consumerOffset, as: StreamConsumer.self)
            }
        }
        return new
    }

    private static let consumerOffset = MemoryLayout<PendingEntry>.offset(of: \.consumer).unsafelyUnwrapped

    /// Frees pending entries and consumers. - Parameter limit: blocks; reduced by what was freed.
    /// - Returns: true when nothing is left.
    func freeContents(_ limit: inout Int) -> Bool {
        guard pointer.pointee.pending.freeSome(&limit) else { return false }
        while consumerCount > 0 {
            if limit <= 0 { return false }
            let last = consumer(at: consumerCount - 1)
            guard last.pointer.pointee.pending.freeSome(&limit) else { return false }
            _ = pointer.pointee.consumers.removeLast()
            last.destroy()
            limit -= 1
        }
        return true
    }

    /// - Precondition: ``freeContents(_:)`` has left nothing.
    func free() { NameList<Storage>.free(pointer) }

    /// Bytes besides the block of the group itself. - Complexity: O(consumers)
    var memoryBytes: Int {
        var bytes = pointer.pointee.pending.memoryBytes + pointer.pointee.consumers.memoryBytes
        for index in 0..<consumerCount { bytes += consumer(at: index).pointer.pointee.pending.memoryBytes }
        return bytes
    }

    func invariants() {
        pointer.pointee.pending.invariants()
        pointer.pointee.consumers.invariants()
        var total = 0
        for index in 0..<consumerCount {
            let consumer = consumer(at: index)
            consumer.pointer.pointee.pending.invariants()
            total += consumer.pendingCount
            var cursor = pendingEntries(from: .zero, of: consumer)
            for _ in 0..<consumer.pendingCount {
                precondition(next(&cursor)?.consumer == consumer, "the group knows what its consumer has")
            }
        }
        precondition(total == pendingCount, "every pending entry is some consumer's")
    }
}
