import MartletBase
import MartletKeyspace

// Streams in RDB files: the nodes as they are, each behind its ID; what is known of the stream; then its groups. A group
// has its pending entries, then its consumers, each with the IDs of those of them that are its own.
//
// Redis 7.0 writes type 19. Type 15 came before it and has neither the counters nor the highest deleted ID; type 21 came
// after it and has a second time for each consumer, that of its last success, of which nothing is told here.
//
// Source: Redis 7.0 and Valkey 9 rdb.c.

/// How far a stream is written; see ``RDBValuePieces``.
struct RDBStreamPieces {
    fileprivate enum Next {
        case begin, node(Int), facts
        /// A group by its number, then its pending entries, then its consumers with theirs.
        case group(Int), pending(Int, PendingCursor), consumer(Int, Int), owned(Int, Int, PendingCursor)
    }

    fileprivate let stream: StreamValue
    fileprivate var next = Next.begin

    init(_ container: Container) { stream = StreamValue(container) }
}

extension RDBEncoder {
    /// Pending entries that are written in one step.
    private static let pendingPerStep = 64

    /// Writes the next piece: a node, a few pending entries. - Returns: whether it was the last one.
    mutating func append(_ pieces: inout RDBStreamPieces) -> Bool {
        let stream = pieces.stream
        switch pieces.next {
        case .begin:
            append(length: UInt64(stream.nodeCount))
            pieces.next = .node(0)
        case .node(let index) where index < stream.nodeCount:
            let node = stream.node(at: index)
            append(length: 16)
            append(raw: node.id)
            append(string: node.bytes)
            pieces.next = .node(index + 1)
        case .node: pieces.next = .facts
        case .facts:
            append(length: UInt64(stream.length))
            append(stream.lastID)
            append(stream.firstID)
            append(stream.maxDeletedID)
            append(length: UInt64(bitPattern: stream.entriesAdded))
            append(length: UInt64(stream.groupCount))
            pieces.next = .group(0)
        case .group(let index) where index < stream.groupCount:
            let group = stream.group(at: index)
            append(string: group.name)
            append(group.lastID)
            append(length: UInt64(bitPattern: group.entriesRead))
            append(length: UInt64(group.pendingCount))
            pieces.next = .pending(index, group.pendingEntries(from: .zero))
        case .group: return true
        case .pending(let index, var cursor):
            let group = stream.group(at: index)
            let isOver = append(&cursor, of: group) { encoder, entry in
                encoder.append(raw: entry.id)
                encoder.append(littleEndian: entry.deliveredAt)
                encoder.append(length: UInt64(bitPattern: entry.deliveryCount))
            }
            if isOver { append(length: UInt64(group.consumerCount)) }
            pieces.next = isOver ? .consumer(index, 0) : .pending(index, cursor)
        case .consumer(let index, let number) where number < stream.group(at: index).consumerCount:
            let group = stream.group(at: index)
            let consumer = group.consumer(at: number)
            append(string: consumer.name)
            append(littleEndian: consumer.seenAt)
            append(length: UInt64(consumer.pendingCount))
            pieces.next = .owned(index, number, group.pendingEntries(from: .zero, of: consumer))
        case .consumer(let index, _): pieces.next = .group(index + 1)
        case .owned(let index, let number, var cursor):
            let isOver = append(&cursor, of: stream.group(at: index)) { $0.append(raw: $1.id) }
            pieces.next = isOver ? .consumer(index, number + 1) : .owned(index, number, cursor)
        }
        return false
    }

    /// Some pending entries. - Returns: whether there are no more.
    private mutating func append(
        _ cursor: inout PendingCursor, of group: StreamGroup, _ write: (inout RDBEncoder, PendingEntry) -> Void
    ) -> Bool {
        for _ in 0..<Self.pendingPerStep {
            guard let entry = group.next(&cursor) else { return true }
            write(&self, entry)
        }
        return false
    }

    /// An ID as two lengths.
    private mutating func append(_ id: StreamID) {
        append(length: id.milliseconds)
        append(length: id.sequence)
    }

    /// An ID as 16 bytes, high ones first.
    private mutating func append(raw id: StreamID) {
        let room = output.reserve(16)
        room.storeBytes(of: id.milliseconds.bigEndian, as: UInt64.self)
        room.storeBytes(of: id.sequence.bigEndian, toByteOffset: 8, as: UInt64.self)
        output.commit(16)
    }
}

extension RDBReader {
    fileprivate mutating func streamID() throws(RDBReadFailure) -> StreamID {
        StreamID(milliseconds: try length(), sequence: try length())
    }

    fileprivate mutating func rawStreamID() throws(RDBReadFailure) -> StreamID { Self.streamID(try take(16)) }

    fileprivate static func streamID(_ bytes: UnsafeRawBufferPointer) -> StreamID {
        StreamID(
            milliseconds: UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
            sequence: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
    }
}

/// A stream on its way in, put together step by step; see ``RDBValueBuilder``.
struct RDBStreamBuilder {
    /// What is to be read next.
    private enum Next {
        case nodeCount, node, facts, group, pending, consumerCount, consumer, owned
    }

    /// Belongs to whoever takes it.
    let container: Container
    private let type: RDBValueType
    private let stream: StreamValue
    private var next = Next.nodeCount
    private var nodesLeft: UInt64 = 0
    private var groupsLeft: UInt64 = 0
    private var pendingLeft: UInt64 = 0
    private var consumersLeft: UInt64 = 0
    private var ownedLeft: UInt64 = 0
    private var group: StreamGroup?
    private var consumer: StreamConsumer?

    init(_ type: RDBValueType) {
        self.type = type
        container = StreamValue.make()
        stream = StreamValue(container)
    }

    private var corrupt: RDBReadFailure { .invalid(.corruptValue(type)) }

    /// Reads the next piece; changes nothing if it is not complete. - Returns: whether it was the last one.
    mutating func step(_ reader: inout RDBReader, _ scratch: inout ByteBuffer) throws(RDBReadFailure) -> Bool {
        switch next {
        case .nodeCount:
            nodesLeft = try reader.length()
            next = nodesLeft > 0 ? .node : .facts
        case .node:
            let name = try reader.bytes(scratch: &scratch)
            guard name.count == 16 else { throw corrupt }
            let id = RDBReader.streamID(name)
            guard stream.addNode(id, try reader.bytes(scratch: &scratch)) else { throw corrupt }
            nodesLeft -= 1
            if nodesLeft == 0 { next = .facts }
        case .facts:
            try readFacts(&reader)
            next = .group
            return groupsLeft == 0
        case .group: try readGroup(&reader, &scratch)
        case .pending:
            let id = try reader.rawStreamID()
            let time = try reader.littleEndianInt64()
            let count = Int64(bitPattern: try reader.length())
            guard group?.addPending(id, deliveredAt: time, deliveryCount: count) ?? false else { throw corrupt }
            pendingLeft -= 1
            if pendingLeft == 0 { next = .consumerCount }
        case .consumerCount:
            consumersLeft = try reader.length()
            return try continueGroup()
        case .consumer:
            let name = try reader.bytes(scratch: &scratch)
            let seenAt = try reader.littleEndianInt64()
            if type == .streamListpacks3 { _ = try reader.littleEndianInt64() }
            let count = try reader.length()
            consumer = group?.makeConsumer(name, seenAt: seenAt)
            if consumer == nil { throw corrupt }
            consumersLeft -= 1
            ownedLeft = count
            if count > 0 { next = .owned } else { return try continueGroup() }
        case .owned:
            let id = try reader.rawStreamID()
            guard let group, let consumer, group.adopt(id, by: consumer) else { throw corrupt }
            ownedLeft -= 1
            if ownedLeft == 0 { return try continueGroup() }
        }
        return false
    }

    private mutating func readFacts(_ reader: inout RDBReader) throws(RDBReadFailure) {
        let length = try reader.length()
        let lastID = try reader.streamID()
        var maxDeletedID = StreamID.zero
        var entriesAdded = length
        if type != .streamListpacks {
            // The first ID is known from the nodes.
            _ = try reader.streamID()
            maxDeletedID = try reader.streamID()
            entriesAdded = try reader.length()
        }
        groupsLeft = try reader.length()
        guard stream.finishNodes(length: length, lastID: lastID) else { throw corrupt }
        stream.maxDeletedID = maxDeletedID
        stream.entriesAdded = Int64(bitPattern: entriesAdded)
    }

    private mutating func readGroup(
        _ reader: inout RDBReader, _ scratch: inout ByteBuffer
    ) throws(RDBReadFailure) {
        let name = try reader.bytes(scratch: &scratch)
        let lastID = try reader.streamID()
        let entriesRead =
            type == .streamListpacks
            ? stream.entriesEver(through: lastID) ?? StreamGroup.unknownEntriesRead
            : Int64(bitPattern: try reader.length())
        pendingLeft = try reader.length()
        group = stream.makeGroup(name, lastID: lastID, entriesRead: entriesRead)
        if group == nil { throw corrupt }
        next = pendingLeft > 0 ? .pending : .consumerCount
    }

    /// Goes on with the next consumer, or the next group. - Returns: whether the stream is complete.
    private mutating func continueGroup() throws(RDBReadFailure) -> Bool {
        if consumersLeft > 0 {
            next = .consumer
            return false
        }
        guard group?.isComplete ?? false else { throw corrupt }
        groupsLeft -= 1
        next = .group
        return groupsLeft == 0
    }
}
