import MartletBase

// A stream: entries in the order of their IDs, each with fields and values, and groups of consumers that read them.
//
// Entries stand in nodes (StreamNode.swift) that a directory leads to (OrderedByID.swift). The last node has spare room;
// the others are allocated exactly, or packed (StreamPacking.swift). Entries are appended to the last node, trimmed from
// the first one, and flagged where they are deleted in between. A packed node is unpacked for good before it is changed.
//
// Source: t_stream.c of Redis 7.0.

/// What is to be trimmed.
package enum StreamTrim {
    /// All but so many entries.
    case length(Int)
    /// Entries below an ID.
    case below(StreamID)
}

/// A view of a stream's container. It owns nothing.
package struct StreamValue {
    struct Storage {
        var nodes = IDDirectory()
        var packed = PackedNodes()
        /// What is allocated for the last node, in bytes; 0 if there is none.
        var lastNodeCapacity = 0
        /// Nothing before this position of the first node is live; 0 if that is not known. Spares trimming one entry after
        /// another the way over all those that went before.
        var headPosition = 0
        /// Entries that are not deleted.
        var length = 0
        var lastID = StreamID.zero
        /// Of the first entry that is not deleted; zero if there is none.
        var firstID = StreamID.zero
        /// The highest one that was ever deleted by its ID.
        var maxDeletedID = StreamID.zero
        /// How many were ever added.
        var entriesAdded: Int64 = 0
        /// Grows whenever an entry that stays moves to another position or node.
        var layout = 0
        var groups = NameList<StreamGroup.Storage>()
    }

    let storage: UnsafeMutablePointer<Storage>

    /// - Precondition: the container is a stream.
    package init(_ container: Container) {
        precondition(container.type == .stream)
        storage = container.pointer.assumingMemoryBound(to: Storage.self)
    }

    /// An empty stream.
    package static func make() -> Container {
        let pointer = Memory.allocate(MemoryLayout<Storage>.size)
        pointer.bindMemory(to: Storage.self, capacity: 1).initialize(to: Storage())
        return Container(type: .stream, encoding: .stream, pointer: pointer)
    }

    // MARK: Facts

    package var length: Int { storage.pointee.length }
    package var nodeCount: Int { storage.pointee.nodes.count }

    /// The highest ID that was ever given; zero if none was.
    package var lastID: StreamID { storage.pointee.lastID }

    /// Goes on from another ID. - Precondition: no live entry is above it.
    package func setLastID(_ id: StreamID) {
        storage.pointee.lastID = id
        // Nodes are ordered by their first IDs: those that have only deleted entries above the ID make room for new ones.
        while nodeCount > 0, storage.pointee.nodes[nodeCount - 1].id > id { removeNode(nodeCount - 1) }
    }

    /// The first entry that is not deleted; zero if there is none.
    package var firstID: StreamID { storage.pointee.firstID }

    package var maxDeletedID: StreamID {
        get { storage.pointee.maxDeletedID }
        nonmutating set { storage.pointee.maxDeletedID = newValue }
    }

    package var entriesAdded: Int64 {
        get { storage.pointee.entriesAdded }
        nonmutating set { storage.pointee.entriesAdded = newValue }
    }

    /// The first entry, deleted or not. (streamGetEdgeID)
    package var firstIDEvenIfDeleted: StreamID? {
        var cursor = entries(includesDeleted: true)
        return cursor.next() ? cursor.id : nil
    }

    /// The last entry that is not deleted.
    package var lastLiveID: StreamID? {
        var cursor = entries(isReverse: true)
        return cursor.next() ? cursor.id : nil
    }

    /// - Complexity: O(log nodes + elements of a node)
    package func contains(_ id: StreamID) -> Bool {
        if id > lastID || length == 0 { return false }
        var cursor = entries(from: id, to: id)
        return cursor.next()
    }

    /// A walk through the entries of a range.
    package func entries(
        from lowest: StreamID = .zero, to highest: StreamID = .max, isReverse: Bool = false,
        includesDeleted: Bool = false
    ) -> StreamCursor {
        StreamCursor(self, from: lowest, to: highest, isReverse: isReverse, includesDeleted: includesDeleted)
    }

    // MARK: Adding

    /// The ID of an entry that is added now; nil if there is no higher one.
    ///
    /// - Parameters:
    ///   - last: the highest one that was given.
    ///   - now: Unix time in milliseconds.
    package static func nextID(after last: StreamID, now: Int64) -> StreamID? {
        let now = UInt64(bitPattern: max(0, now))
        return now > last.milliseconds ? StreamID(milliseconds: now, sequence: 0) : last.next
    }

    /// The ID of an entry that is added in a given millisecond, perhaps not above `last`; nil if the millisecond has no
    /// higher one.
    package static func nextID(after last: StreamID, in milliseconds: UInt64) -> StreamID? {
        if milliseconds != last.milliseconds { return StreamID(milliseconds: milliseconds, sequence: 0) }
        return last.sequence < .max ? last.next : nil
    }

    /// The largest sum of the lengths of an entry's fields and values. (STREAM_LISTPACK_MAX_SIZE)
    package static let entryBytesMax = 1 << 30
    /// Spare room of a new node at most. (STREAM_LISTPACK_MAX_PRE_ALLOCATE)
    private static let nodeRoomMax = 4096

    /// Appends an entry.
    ///
    /// - Parameters:
    ///   - fields: fields and values in turn, at most ``entryBytesMax`` bytes altogether.
    ///   - limits: say how large a node becomes.
    /// - Precondition: `id` is above ``lastID``; there is a value for each field.
    /// - Complexity: O(bytes) amortised
    package func append(
        _ id: StreamID, _ fields: UnsafeBufferPointer<UnsafeRawBufferPointer>, limits store: MemberStorePointer
    ) {
        precondition(id > lastID && fields.count & 1 == 0)
        var bytes = 0
        for field in fields { bytes &+= field.count }
        let fieldCount = fields.count / 2
        // Flags, ms, seq, how many fields, pieces.
        let entryRoom = bytes + (fields.count + 5) * StreamNodeWriter.elementOverheadMax
        var masterID = id
        var hasMasterFields = true
        let index: Int
        if let last = openNode(adding: bytes, store) {
            index = last
            masterID = storage.pointee.nodes[index].id
            hasMasterFields = isMaster(fields, of: StreamNode(storage.pointee.nodes[index]))
            countAdded(index)
            makeRoom(entryRoom)
        } else {
            index = addNode(id, fields, entryRoom: entryRoom)
        }
        var writer = StreamNodeWriter(storage.pointee.nodes[index].address)
        writer.append(hasMasterFields ? StreamNode.Flags.sameFields : 0)
        writer.append(Int64(bitPattern: id.milliseconds &- masterID.milliseconds))
        writer.append(Int64(bitPattern: id.sequence &- masterID.sequence))
        if !hasMasterFields { writer.append(Int64(fieldCount)) }
        var number = hasMasterFields ? 1 : 0
        while number < fields.count {
            writer.append(fields[number])
            number += hasMasterFields ? 2 : 1
        }
        writer.append(Int64(hasMasterFields ? fieldCount + 3 : 2 * fieldCount + 4))
        writer.finish()
        storage.pointee.length += 1
        storage.pointee.entriesAdded &+= 1
        storage.pointee.lastID = id
        if storage.pointee.length == 1 { storage.pointee.firstID = id }
    }

    /// The last node, if it has room for so many bytes more. One that has not is cut to its size.
    private func openNode(adding bytes: Int, _ store: MemberStorePointer) -> Int? {
        let index = storage.pointee.nodes.count - 1
        if index < 0 { return nil }
        let node = StreamNode(storage.pointee.nodes[index])
        let bytesMax = store.pointee.limits.streamNodeBytes
        let entriesMax = store.pointee.limits.streamNodeEntries
        let limit = bytesMax == 0 || bytesMax > Self.entryBytesMax ? Self.entryBytesMax : bytesMax
        let used = node.listpack.byteCount
        if used + bytes < limit, entriesMax == 0 || node.total < entriesMax { return index }
        closeLastNode()
        return nil
    }

    /// Another node is about to follow the last one.
    private func closeLastNode() {
        let index = storage.pointee.nodes.count - 1
        let record = storage.pointee.nodes[index]
        guard index >= Self.plainNodesMin, let node = storage.pointee.packed.add(StreamNode(record)) else {
            return fitLastNode()
        }
        Memory.free(record.address, storage.pointee.lastNodeCapacity)
        storage.pointee.nodes[index] = .init(id: record.id, packed: node)
    }

    /// The first nodes of a stream are not packed: short streams need no block for so little.
    private static let plainNodesMin = 16

    /// Gives the spare room of the last node back.
    private func fitLastNode() {
        let index = storage.pointee.nodes.count - 1
        let address = storage.pointee.nodes[index].address
        let used = Listpack(address).byteCount
        storage.pointee.nodes[index].address =
            Memory.reallocate(address, from: storage.pointee.lastNodeCapacity, to: used)
        storage.pointee.lastNodeCapacity = used
    }

    /// Whether an entry has the fields of a node's master entry, in the same order.
    private func isMaster(_ fields: UnsafeBufferPointer<UnsafeRawBufferPointer>, of node: StreamNode) -> Bool {
        var (count, position) = node.masterFields
        guard count == fields.count / 2 else { return false }
        for index in 0..<count {
            guard node.listpack.equals(position, fields[index * 2]) else { return false }
            node.skip(1, &position)
        }
        return true
    }

    /// Makes the last node's memory so large that `added` bytes fit.
    private func makeRoom(_ added: Int) {
        let index = storage.pointee.nodes.count - 1
        let address = storage.pointee.nodes[index].address
        let capacity = storage.pointee.lastNodeCapacity
        let needed = Listpack(address).byteCount + added
        if needed <= capacity { return }
        let new = Memory.usableBytes(max(needed, min(2 * capacity, Self.nodeRoomMax)))
        storage.pointee.nodes[index].address = Memory.reallocate(address, from: capacity, to: new)
        storage.pointee.lastNodeCapacity = new
    }

    /// One live entry more in the last node.
    private func countAdded(_ index: Int) {
        let lead = storage.pointee.nodes[index].address + StreamNode.livePosition
        let live = lead.load(as: UInt8.self)
        if live < 127 { return lead.storeBytes(of: live + 1, as: UInt8.self) }
        replace(at: StreamNode.livePosition, of: index, by: Int64(StreamNode(storage.pointee.nodes[index]).live + 1))
    }

    /// A new node with the fields of its first entry. - Returns: its index.
    private func addNode(
        _ id: StreamID, _ fields: UnsafeBufferPointer<UnsafeRawBufferPointer>, entryRoom: Int
    ) -> Int {
        var needed = Listpack.emptyBytes + entryRoom + (fields.count / 2 + 4) * StreamNodeWriter.elementOverheadMax
        for index in stride(from: 0, to: fields.count, by: 2) { needed += fields[index].count }
        // A stream that has filled a node will fill another one.
        if let last = lastNodeBytes { needed = max(needed, min(last, Self.nodeRoomMax)) }
        let capacity = Memory.usableBytes(needed)
        let address = Memory.allocate(capacity)
        address.storeBytes(of: UInt32(Listpack.emptyBytes), as: UInt32.self)
        address.storeBytes(of: 0, toByteOffset: 4, as: UInt16.self)
        var writer = StreamNodeWriter(address)
        writer.append(1)
        writer.append(0)
        writer.append(Int64(fields.count / 2))
        for index in stride(from: 0, to: fields.count, by: 2) { writer.append(fields[index]) }
        writer.append(0)
        writer.finish()
        storage.pointee.nodes.append(.init(id: id, address: address))
        storage.pointee.lastNodeCapacity = capacity
        return storage.pointee.nodes.count - 1
    }

    private var lastNodeBytes: Int? {
        let nodes = storage.pointee.nodes
        if nodes.count == 0 { return nil }
        let last = nodes[nodes.count - 1]
        return last.packed.map { PackedNode.listpackBytes($0) } ?? Listpack(last.address).byteCount
    }

    // MARK: Packed nodes

    /// A node as it is, or where it was unpacked to: then valid until some more nodes have been read.
    func readNode(_ index: Int) -> StreamNode {
        let record = storage.pointee.nodes[index]
        guard let packed = record.packed else { return StreamNode(record) }
        return StreamNode(storage.pointee.packed.read(packed, masterID: record.id), masterID: record.id)
    }

    /// Entries of a node that are not deleted.
    private func live(_ index: Int) -> Int {
        let record = storage.pointee.nodes[index]
        return record.packed.map { PackedNode.live($0) } ?? StreamNode(record).live
    }

    /// Unpacks a node that is about to be changed.
    private func unpack(_ index: Int) {
        guard let packed = storage.pointee.nodes[index].packed else { return }
        let isSparse = unpack(packed, index)
        // The front of a stream goes soon.
        if isSparse, index > 0 { leaveBlock(of: packed, around: index) }
    }

    /// - Returns: as ``PackedNodes/remove(_:)``.
    private func unpack(_ packed: UnsafeMutableRawPointer, _ index: Int) -> Bool {
        let room = Memory.allocate(PackedNode.listpackBytes(packed))
        PackedNode.unpack(packed, masterID: storage.pointee.nodes[index].id, to: room)
        storage.pointee.nodes[index].address = room
        return storage.pointee.packed.remove(packed)
    }

    /// Unpacks the other nodes of a block that is nearly empty. Between them there may be some that were unpacked before.
    private func leaveBlock(of packed: UnsafeMutableRawPointer, around index: Int) {
        for (start, step) in [(index, 1), (index - 1, -1)] {
            var next = start
            while next >= 0, next < nodeCount, abs(next - start) < Self.nodesSearched {
                if let other = storage.pointee.nodes[next].packed {
                    guard PackedNodes.areTogether(other, packed) else { break }
                    _ = unpack(other, next)
                }
                next += step
            }
        }
    }

    private static let nodesSearched = 256

    // MARK: Changing nodes

    /// Replaces a number in a node by another one.
    private func replace(at position: Int, of index: Int, by integer: Int64) {
        if index == storage.pointee.nodes.count - 1 { fitLastNode() }
        var listpack = Listpack(storage.pointee.nodes[index].address)
        let before = listpack.byteCount
        listpack.replace(at: position, withInteger: integer)
        storage.pointee.nodes[index].address = listpack.pointer
        if index == storage.pointee.nodes.count - 1 { storage.pointee.lastNodeCapacity = listpack.byteCount }
        // What stands behind has moved.
        if listpack.byteCount == before { return }
        storage.pointee.layout += 1
        if index == 0 { storage.pointee.headPosition = 0 }
    }

    /// Adds to the counts of a node. - Parameter deleted: entries that were live.
    private func count(_ deleted: Int, of index: Int) {
        replaceCount(0, of: index, adding: -deleted)
        replaceCount(1, of: index, adding: deleted)
    }

    private func replaceCount(_ number: Int, of index: Int, adding change: Int) {
        let node = StreamNode(storage.pointee.nodes[index])
        var position = StreamNode.livePosition
        node.skip(number, &position)
        var end = position
        let count = node.integer(&end) + Int64(change)
        // One byte before and after, and one of its length.
        if end - position == 2, count < 128, count >= 0 {
            node.listpack.pointer.storeBytes(of: UInt8(count), toByteOffset: position, as: UInt8.self)
        } else {
            replace(at: position, of: index, by: count)
        }
    }

    /// Flags an entry as deleted.
    private func flagDeleted(at position: Int, of index: Int) {
        let address = storage.pointee.nodes[index].address + position
        let lead = address.load(as: UInt8.self)
        if lead < 128 {
            address.storeBytes(of: lead | UInt8(StreamNode.Flags.deleted), as: UInt8.self)
        } else {
            let node = StreamNode(storage.pointee.nodes[index])
            var end = position
            replace(at: position, of: index, by: node.integer(&end) | StreamNode.Flags.deleted)
        }
    }

    private func removeNode(_ index: Int) {
        let isLast = index == storage.pointee.nodes.count - 1
        let record = storage.pointee.nodes[index]
        var isSparse = false
        if let packed = record.packed {
            isSparse = storage.pointee.packed.remove(packed)
        } else {
            let capacity = isLast ? storage.pointee.lastNodeCapacity : Listpack(record.address).byteCount
            Memory.free(record.address, capacity)
        }
        storage.pointee.nodes.remove(at: index)
        storage.pointee.layout += 1
        if isSparse, index > 0, let packed = record.packed { leaveBlock(of: packed, around: index) }
        if isLast {
            if index > 0 { unpack(index - 1) }
            storage.pointee.lastNodeCapacity = lastNodeBytes ?? 0
        }
        if index == 0 { storage.pointee.headPosition = 0 }
    }

    // MARK: Removing

    /// Deletes an entry. The caller then says so with ``noteDeleted(_:)``.
    ///
    /// - Returns: whether there was one.
    /// - Complexity: O(log nodes + elements of a node)
    private func remove(_ id: StreamID) -> Bool {
        var cursor = entries(from: id, to: id)
        guard cursor.next() else { return false }
        let index = cursor.nodeIndex
        if live(index) == 1 {
            removeNode(index)
        } else {
            unpack(index)
            flagDeleted(at: cursor.entryPosition, of: index)
            count(1, of: index)
        }
        storage.pointee.length -= 1
        return true
    }

    /// Deletes an entry; nothing is done about the groups' pending entries. (XDEL)
    ///
    /// - Returns: whether there was one.
    /// - Complexity: O(log nodes + elements of a node)
    package func delete(_ id: StreamID) -> Bool {
        guard remove(id) else { return false }
        if id > maxDeletedID { maxDeletedID = id }
        if length == 0 || id == firstID { findFirstID() }
        return true
    }

    private func findFirstID() {
        var cursor = entries()
        guard length > 0, cursor.next() else {
            storage.pointee.firstID = .zero
            return
        }
        storage.pointee.firstID = cursor.id
        if cursor.nodeIndex == 0 { storage.pointee.headPosition = cursor.entryPosition }
    }

    /// Removes entries from the front.
    ///
    /// - Parameters:
    ///   - isApproximate: only whole nodes go.
    ///   - limit: entries that go at most; 0 for any number.
    /// - Returns: how many went.
    /// - Complexity: O(nodes that go + elements of one node)
    package func trim(_ trim: StreamTrim, isApproximate: Bool, limit: Int) -> Int {
        var removed = 0
        while storage.pointee.nodes.count > 0 {
            if case .length(let length) = trim, self.length <= length { break }
            let live = live(0)
            if limit > 0, removed + live > limit { break }
            let goes: Bool
            switch trim {
            case .length(let length): goes = self.length - live >= length
            case .below(let id): goes = readNode(0).lastID < id
            }
            if goes {
                removeNode(0)
                storage.pointee.length -= live
                removed += live
                continue
            }
            if !isApproximate { removed += trimFirstNode(trim) }
            break
        }
        if removed > 0 { findFirstID() }
        return removed
    }

    /// Deletes entries of the first node, of which at least one stays. - Returns: how many.
    private func trimFirstNode(_ trim: StreamTrim) -> Int {
        unpack(0)
        var node = StreamNode(storage.pointee.nodes[0])
        let masterCount = node.masterFields.count
        var position = storage.pointee.headPosition
        if position == 0 { position = node.entriesPosition }
        var removed = 0
        while true {
            let start = position
            guard node.listpack.read(&position) != nil else {
                position = start
                break
            }
            position = start
            let flags = node.integer(&position)
            let id = node.id(&position)
            var isOver = false
            switch trim {
            case .length(let length): isOver = self.length <= length
            case .below(let lowest): isOver = id >= lowest
            }
            if isOver {
                position = start
                break
            }
            let isLive = flags & StreamNode.Flags.deleted == 0
            if isLive {
                let before = node.listpack.byteCount
                let place = position - start
                flagDeleted(at: start, of: 0)
                node = StreamNode(storage.pointee.nodes[0])
                position = start + place + node.listpack.byteCount - before
                removed += 1
                storage.pointee.length -= 1
            }
            let elements =
                flags & StreamNode.Flags.sameFields != 0 ? masterCount : 2 * Int(node.integer(&position))
            node.skip(elements + 1, &position)
        }
        storage.pointee.headPosition = position
        if removed > 0 { count(removed, of: 0) }
        return removed
    }

    // MARK: Groups

    package var groupCount: Int { storage.pointee.groups.count }

    /// In the order of names. - Precondition: `index` is below ``groupCount``.
    package func group(at index: Int) -> StreamGroup { StreamGroup(storage.pointee.groups[index]) }

    package func group(named name: UnsafeRawBufferPointer) -> StreamGroup? {
        storage.pointee.groups.find(name).map { StreamGroup($0) }
    }

    /// - Returns: nil if there is a group of that name.
    @discardableResult
    package func makeGroup(_ name: UnsafeRawBufferPointer, lastID: StreamID, entriesRead: Int64) -> StreamGroup? {
        let group = StreamGroup.make(name, lastID: lastID, entriesRead: entriesRead)
        if storage.pointee.groups.insert(group.pointer) { return group }
        group.free()
        return nil
    }

    /// A walk through the entries that a group has not handed out.
    package func unreadEntries(of group: StreamGroup) -> StreamCursor {
        let lowest = group.lastID.next ?? .zero
        let point = group.pointer.pointee.readPoint
        if point.position > 0, point.lastID == group.lastID, point.layout == storage.pointee.layout {
            let nodes = storage.pointee.nodes
            let index = nodes.floor(lowest)
            if index >= 0, nodes[index].id == point.nodeID {
                return StreamCursor(self, from: lowest, startPosition: point.position)
            }
        }
        return entries(from: lowest)
    }

    /// Remembers where a walk stands, whose entry was the last one that the group has handed out.
    package func noteRead(_ group: StreamGroup, _ cursor: StreamCursor) {
        guard let node = cursor.node else { return }
        group.pointer.pointee.readPoint = StreamGroup.ReadPoint(
            lastID: cursor.id, nodeID: node.masterID, layout: storage.pointee.layout, position: cursor.endOfEntry)
    }

    /// Takes a group out. - Returns: a stream that has nothing but this group, to be discarded; nil if there is no group.
    package func removeGroup(_ name: UnsafeRawBufferPointer) -> Container? {
        guard let group = storage.pointee.groups.remove(name) else { return nil }
        let container = Self.make()
        _ = StreamValue(container).storage.pointee.groups.insert(group)
        return container
    }

    /// Whether a group has still to read an entry, or a consumer to acknowledge it. - Complexity: O(groups · log n)
    package func isReferenced(_ id: StreamID) -> Bool {
        for index in 0..<groupCount {
            let group = group(at: index)
            if group.lastID < id || group.pending(id) != nil { return true }
        }
        return false
    }

    // MARK: Counters of groups

    /// Whether an entry at or behind an ID was deleted by its ID, as far as that is known. (streamRangeHasTombstones)
    private func hasDeletions(from id: StreamID) -> Bool {
        if length == 0 || maxDeletedID.isZero || firstID > maxDeletedID { return false }
        return id <= maxDeletedID
    }

    /// How many entries, ever, stand at or before an ID; nil if that cannot be told.
    /// (streamEstimateDistanceFromFirstEverEntry)
    package func entriesEver(through id: StreamID) -> Int64? {
        if entriesAdded == 0 { return 0 }
        if length == 0, id <= lastID { return entriesAdded }
        if id == lastID { return entriesAdded }
        if id > lastID { return nil }
        if maxDeletedID.isZero || maxDeletedID < firstID {
            if id < firstID { return entriesAdded &- Int64(length) }
            if id == firstID { return entriesAdded &- Int64(length) &+ 1 }
        }
        return nil
    }

    /// How many entries a group has still to read; nil if that cannot be told. (streamReplyWithCGLag)
    package func lag(of group: StreamGroup) -> Int64? {
        if entriesAdded == 0 { return 0 }
        if group.entriesRead != StreamGroup.unknownEntriesRead, !hasDeletions(from: group.lastID) {
            return entriesAdded &- group.entriesRead
        }
        return entriesEver(through: group.lastID).map { entriesAdded &- $0 }
    }

    /// Moves a group on to an entry that it is given. - Returns: false if it has been there.
    package func advance(_ group: StreamGroup, to id: StreamID) -> Bool {
        guard id > group.lastID else { return false }
        if group.entriesRead != StreamGroup.unknownEntriesRead, !hasDeletions(from: id) {
            group.entriesRead &+= 1
        } else if entriesAdded != 0 {
            group.entriesRead = entriesEver(through: id) ?? StreamGroup.unknownEntriesRead
        }
        group.lastID = id
        return true
    }

    // MARK: Redis' tree

    /// How many nodes Redis' tree of the same IDs has, which XINFO tells. - Complexity: O(nodes)
    ///
    /// The tree goes by the 16 bytes of the IDs, high ones first. It has a leaf for each, a node for each place where IDs
    /// part, and one for each stretch of bytes between those. Neighbours tell where IDs part.
    package var treeNodeCount: Int {
        let nodes = storage.pointee.nodes
        if nodes.count == 0 { return 1 }
        var result = nodes.count
        /// Places above the current ID where IDs part, by the bytes before them.
        var partings: [Int] = []
        func close(to parting: Int) {
            while let last = partings.last, last > parting {
                partings.removeLast()
                let above = max(partings.last ?? -1, parting)
                result += last > above + 1 ? 2 : 1
            }
        }
        var before = -1
        for index in 0..<nodes.count {
            let after = index + 1 < nodes.count ? commonBytes(nodes[index].id, nodes[index + 1].id) : -1
            if max(before, after) < 15 { result += 1 }
            close(to: after)
            if after >= 0, partings.last != after { partings.append(after) }
            before = after
        }
        return result
    }

    private func commonBytes(_ first: StreamID, _ second: StreamID) -> Int {
        if first.milliseconds != second.milliseconds {
            return (first.milliseconds ^ second.milliseconds).leadingZeroBitCount / 8
        }
        return 8 + (first.sequence ^ second.sequence).leadingZeroBitCount / 8
    }
}

// MARK: - Life

extension StreamValue {
    private static func storage(_ container: Container) -> UnsafeMutablePointer<Storage> {
        container.pointer.assumingMemoryBound(to: Storage.self)
    }

    /// See ``Container/freeEffort``. - Complexity: O(groups)
    static func freeEffort(_ container: Container) -> Int {
        let stream = storage(container).pointee
        var effort = stream.nodes.count
        for index in 0..<stream.groups.count {
            let group = stream.groups[index]
            effort += 1 + group.pointee.pending.blockCount + group.pointee.consumers.count
        }
        return effort
    }

    /// See ``Container/freeSome(from:limit:)``. The container itself says how far it is.
    static func freeSome(_ container: Container, limit: inout Int) -> Bool {
        let storage = storage(container)
        while storage.pointee.nodes.count > 0 {
            if limit <= 0 { return false }
            let index = storage.pointee.nodes.count - 1
            let record = storage.pointee.nodes[index]
            let isLast = storage.pointee.lastNodeCapacity > 0
            if let packed = record.packed {
                _ = storage.pointee.packed.remove(packed)
            } else {
                let capacity = isLast ? storage.pointee.lastNodeCapacity : Listpack(record.address).byteCount
                Memory.free(record.address, capacity)
            }
            storage.pointee.lastNodeCapacity = 0
            storage.pointee.nodes.remove(at: index)
            limit -= 1
        }
        while storage.pointee.groups.count > 0 {
            let group = StreamGroup(storage.pointee.groups[storage.pointee.groups.count - 1])
            guard group.freeContents(&limit) else { return false }
            _ = storage.pointee.groups.removeLast()
            group.free()
            limit -= 1
        }
        storage.pointee.packed.destroy()
        Memory.free(container.pointer, MemoryLayout<Storage>.size)
        return true
    }

    static func destroy(_ container: Container) {
        var limit = Int.max
        _ = freeSome(container, limit: &limit)
    }

    static func copy(_ container: Container) -> Container {
        let source = storage(container).pointee
        let copy = make()
        let target = storage(copy)
        target.pointee = source
        target.pointee.nodes = IDDirectory()
        target.pointee.packed = PackedNodes()
        target.pointee.groups = NameList()
        for index in 0..<source.nodes.count {
            let record = source.nodes[index]
            if let packed = record.packed {
                let bytes = UnsafeRawBufferPointer(start: packed, count: PackedNode.bytes(packed))
                target.pointee.nodes.append(.init(id: record.id, packed: target.pointee.packed.add(bytes)))
            } else {
                let listpack = Listpack(copying: Listpack(record.address).bytes)
                target.pointee.nodes.append(.init(id: record.id, address: listpack.pointer))
                target.pointee.lastNodeCapacity = listpack.byteCount
            }
        }
        for index in 0..<source.groups.count {
            _ = target.pointee.groups.insert(StreamGroup(source.groups[index]).copy().pointer)
        }
        return copy
    }

    /// See ``Container/memoryBytes(samples:)``. - Complexity: O(samples + groups · consumers)
    static func memoryBytes(_ container: Container, samples: Int) -> Int {
        let stream = storage(container).pointee
        var bytes = Memory.usableBytes(MemoryLayout<Storage>.size)
        bytes += stream.nodes.memoryBytes + stream.packed.memoryBytes + stream.groups.memoryBytes
        if stream.nodes.count > 0 {
            let exact = stream.nodes.count - 1
            let samples = min(exact, samples)
            var sampled = 0
            for number in 0..<samples {
                let record = stream.nodes[number * exact / samples]
                if record.packed == nil { sampled += Memory.usableBytes(Listpack(record.address).byteCount) }
            }
            if samples > 0 { bytes += sampled * exact / samples }
            bytes += Memory.usableBytes(stream.lastNodeCapacity)
        }
        for index in 0..<stream.groups.count { bytes += StreamGroup(stream.groups[index]).memoryBytes }
        return bytes
    }

    static func count(_ container: Container) -> Int { storage(container).pointee.length }

    static func invariants(_ container: Container) {
        let storage = storage(container)
        let stream = storage.pointee
        stream.nodes.invariants()
        stream.groups.invariants()
        var length = 0
        var last: StreamID?
        var first: StreamID?
        for index in 0..<stream.nodes.count {
            let node = StreamValue(container).readNode(index)
            precondition(Listpack.isValid(node.listpack.bytes, deep: true), "a node is a listpack")
            guard let facts = node.validated() else { preconditionFailure("a node has a node's layout") }
            if let last, let first = facts.firstLive { precondition(last < first, "entries are in order") }
            length += facts.live
            last = facts.lastLive ?? last
            var position = node.entriesPosition
            while first == nil, position < node.listpack.byteCount - 1 {
                let start = position
                let flags = node.integer(&position)
                let id = node.id(&position)
                if flags & StreamNode.Flags.deleted == 0 {
                    precondition(index > 0 || start >= stream.headPosition, "what stands before the head is deleted")
                    first = id
                }
                let isMaster = flags & StreamNode.Flags.sameFields != 0
                node.skip((isMaster ? node.masterFields.count : 2 * Int(node.integer(&position))) + 1, &position)
            }
        }
        precondition(length == stream.length, "entries add up")
        precondition((first ?? .zero) == stream.firstID, "the first ID is the first entry's")
        if let last { precondition(last <= stream.lastID, "no entry is above the last ID") }
        if stream.nodes.count == 0 {
            precondition(stream.lastNodeCapacity == 0)
        } else {
            precondition(stream.nodes[stream.nodes.count - 1].packed == nil, "the last node can be added to")
            precondition(
                stream.lastNodeCapacity >= Listpack(stream.nodes[stream.nodes.count - 1].address).byteCount,
                "the last node fits into its memory")
        }
        for index in 0..<stream.groups.count { StreamGroup(stream.groups[index]).invariants() }
    }
}

extension Entry {
    /// - Precondition: the entry is a stream.
    package var stream: StreamValue { StreamValue(container) }
}

// MARK: - Outside form

extension StreamValue {
    /// A node as it stands in RDB files; valid until some more have been read.
    ///
    /// - Precondition: `index` is below ``nodeCount``.
    package func node(at index: Int) -> (id: StreamID, bytes: UnsafeRawBufferPointer) {
        let node = readNode(index)
        return (node.masterID, node.listpack.bytes)
    }

    /// Appends a node that comes from outside. - Returns: false if it is not valid, or not behind the others.
    /// - Complexity: O(bytes)
    package func addNode(_ id: StreamID, _ bytes: UnsafeRawBufferPointer) -> Bool {
        guard Listpack.isValid(bytes, deep: true) else { return false }
        let listpack = Listpack(copying: bytes)
        let record = IDDirectory.Record(id: id, address: listpack.pointer)
        let isBehind = nodeCount == 0 || storage.pointee.nodes[nodeCount - 1].id < id
        // Until the stream is whole, its last ID is that of the last live entry.
        guard isBehind, let facts = StreamNode(record).validated(), length == 0 || facts.firstLive ?? .max > lastID
        else {
            listpack.destroy()
            return false
        }
        if nodeCount > 0 { closeLastNode() }
        storage.pointee.nodes.append(record)
        storage.pointee.lastNodeCapacity = listpack.byteCount
        storage.pointee.length += facts.live
        if let last = facts.lastLive { storage.pointee.lastID = last }
        return true
    }

    /// Completes a stream all of whose nodes were added.
    ///
    /// - Parameters:
    ///   - length: what is said about the number of entries.
    ///   - lastID: the highest ID that was ever given.
    /// - Returns: false if that does not fit the nodes.
    package func finishNodes(length: UInt64, lastID: StreamID) -> Bool {
        guard length == UInt64(self.length), self.length == 0 || lastID >= self.lastID else { return false }
        setLastID(lastID)
        findFirstID()
        return true
    }
}
