import MartletBase

// A node of a stream: entries in one listpack, laid out as Redis does, because DUMP, RDB files and replicas carry nodes as
// they are. IDs are kept as differences from the ID that the stream's directory has for the node. What follows stands in
// one listpack:
//
//     live, deleted, fields: how many
//     field 1 … field n, 0                              the master entry: names that other entries need not repeat
//     flags, ms, seq, value 1 … value n, pieces         an entry with the fields of the master entry
//     flags, ms, seq, fields: how many, field 1, value 1 … pieces      an entry with other fields
//
// `pieces` is how many elements of the listpack stand before it in the entry: a walk from the end finds the beginning of
// the entry by it, and 0 says that the master entry is reached. A deleted entry stays where it is and is flagged; the node
// goes when its last live entry does.
//
// Source: t_stream.c of Redis 7.0, streamAppendItem.

/// A view of a node: its listpack, and the ID that the IDs in it are relative to.
struct StreamNode {
    struct Flags {
        static let deleted: Int64 = 1
        static let sameFields: Int64 = 2
    }

    var listpack: Listpack
    let masterID: StreamID

    /// - Precondition: the node is not packed.
    init(_ record: IDDirectory.Record) { self.init(Listpack(record.address), masterID: record.id) }

    init(_ listpack: Listpack, masterID: StreamID) {
        self.listpack = listpack
        self.masterID = masterID
    }

    /// Where ``live`` stands.
    static let livePosition = Listpack.headerBytes

    /// An element that is a number. (Servers write it as an integer; a payload may have it as a string.)
    @inline(__always)
    func integer(_ position: inout Int) -> Int64 {
        switch listpack.read(&position) {
        case .integer(let integer): return integer
        case .bytes(let text): return parseInt64(text) ?? 0
        case nil: return 0
        }
    }

    @inline(__always)
    func skip(_ count: Int, _ position: inout Int) {
        for _ in 0..<count { _ = listpack.read(&position) }
    }

    /// Entries that are not deleted.
    var live: Int {
        var position = Self.livePosition
        return Int(integer(&position))
    }

    /// Entries, deleted ones counted.
    var total: Int {
        var position = Self.livePosition
        return Int(integer(&position) &+ integer(&position))
    }

    /// The fields of the master entry: how many there are, and where the first one stands.
    @inline(__always)
    var masterFields: (count: Int, position: Int) {
        var position = Self.livePosition
        skip(2, &position)
        return (Int(integer(&position)), position)
    }

    /// Where the first entry stands, or the end mark.
    var entriesPosition: Int {
        var (count, position) = masterFields
        skip(count + 1, &position)
        return position
    }

    /// The ID that stands at a position behind the flags; the position moves on.
    @inline(__always)
    func id(_ position: inout Int) -> StreamID {
        let milliseconds = UInt64(bitPattern: integer(&position))
        let sequence = UInt64(bitPattern: integer(&position))
        return StreamID(
            milliseconds: masterID.milliseconds &+ milliseconds, sequence: masterID.sequence &+ sequence)
    }

    /// The last ID, of a live or of a deleted entry. - Complexity: O(elements of the entry)
    var lastID: StreamID {
        guard let end = listpack.last, var position = entry(endingAt: end) else { return masterID }
        skip(1, &position)
        return id(&position)
    }

    /// Where the entry begins whose count of pieces stands at `end`. - Returns: nil if that is the master entry's.
    func entry(endingAt end: Int) -> Int? {
        var position = end
        let pieces = integer(&position)
        if pieces == 0 { return nil }
        position = end
        for _ in 0..<pieces {
            guard let previous = listpack.previous(before: position) else { return nil }
            position = previous
        }
        return position
    }

    // MARK: Outside bytes

    /// What is known of a node that has been looked through: how many entries are live, and the IDs of the first and the
    /// last of those.
    struct Facts {
        var live = 0
        var firstLive: StreamID?
        var lastLive: StreamID?
    }

    /// Looks through a listpack: whether it has this layout, every count is right, and the IDs of live entries rise.
    /// (Those of deleted ones need not: XSETID goes back behind them.)
    ///
    /// Redis looks less closely, and is killed by its own assertions when something is wrong.
    ///
    /// - Precondition: the bytes are a valid listpack.
    /// - Returns: nil if it is no node.
    /// - Complexity: O(elements)
    func validated() -> Facts? {
        var position = Self.livePosition
        guard let live = number(&position), let deleted = number(&position), let masterCount = number(&position),
            masterCount >= 0, skips(masterCount, &position), number(&position) == 0
        else { return nil }
        var facts = Facts()
        var seenDeleted = 0
        while true {
            let start = position
            if listpack.read(&position) == nil { break }
            var idPosition = position
            position = start
            guard let flags = number(&position), number(&position) != nil, number(&position) != nil else { return nil }
            if flags & Flags.deleted != 0 {
                seenDeleted += 1
            } else {
                let id = id(&idPosition)
                if let last = facts.lastLive, id <= last { return nil }
                if facts.live == 0 { facts.firstLive = id }
                facts.lastLive = id
                facts.live += 1
            }
            var pieces = masterCount + 3
            if flags & Flags.sameFields != 0 {
                guard skips(masterCount, &position) else { return nil }
            } else {
                guard let count = number(&position), count >= 0, count <= Int64(Int32.max),
                    skips(count * 2, &position)
                else { return nil }
                pieces = count * 2 + 4
            }
            guard number(&position) == pieces else { return nil }
        }
        let total = facts.live + seenDeleted
        return total > 0 && live == Int64(facts.live) && deleted == Int64(seenDeleted) ? facts : nil
    }

    /// As ``integer(_:)``, but what is no number is told.
    private func number(_ position: inout Int) -> Int64? {
        switch listpack.read(&position) {
        case .integer(let integer): return integer
        case .bytes(let text): return parseInt64(text)
        case nil: return nil
        }
    }

    /// Skips elements. - Returns: false if there are fewer.
    private func skips(_ count: Int64, _ position: inout Int) -> Bool {
        // More than one byte each.
        guard count <= listpack.byteCount else { return false }
        for _ in 0..<count where listpack.read(&position) == nil { return false }
        return true
    }
}

/// Appends elements to a listpack that has room for them.
struct StreamNodeWriter {
    private let base: UnsafeMutableRawPointer
    private var end: Int
    private var count = 0

    /// What an element needs at most besides the bytes of a string, or altogether if it is an integer.
    static let elementOverheadMax = 11

    init(_ base: UnsafeMutableRawPointer) {
        self.base = base
        end = Listpack(base).byteCount - 1
    }

    @inline(__always)
    mutating func append(_ bytes: UnsafeRawBufferPointer) { append(Listpack.Element(bytes)) }
    @inline(__always)
    mutating func append(_ integer: Int64) { append(Listpack.Element(integer: integer)) }

    @inline(__always)
    private mutating func append(_ element: Listpack.Element) {
        element.write(to: base + end)
        end &+= element.entryBytes
        count &+= 1
    }

    /// Writes the end mark and the header. Before that the listpack is not whole.
    func finish() {
        base.storeBytes(of: Listpack.endMark, toByteOffset: end, as: UInt8.self)
        base.storeBytes(of: UInt32(end + 1), as: UInt32.self)
        let stored = Int(base.load(fromByteOffset: 4, as: UInt16.self))
        if stored != Listpack.unknownCount {
            base.storeBytes(of: UInt16(min(stored + count, Listpack.unknownCount)), toByteOffset: 4, as: UInt16.self)
        }
    }
}

/// A walk through the entries of a stream, from the lowest ID up or from the highest one down. Invalid after a change.
package struct StreamCursor {
    private let stream: StreamValue
    private let lowest: StreamID
    private let highest: StreamID
    private let isReverse: Bool
    /// Deleted entries count as well.
    private let includesDeleted: Bool

    private(set) var nodeIndex: Int
    private(set) var node: StreamNode?
    /// Where to begin in the first node instead of at its front; 0 if nothing is known.
    private var startPosition = 0
    private var masterFields = (count: 0, position: 0)
    /// Forward: where the next element is to be read. Backward: where the next entry's count of pieces stands; -1 if there
    /// is none.
    private var position = 0
    /// Forward: elements of the entry that were not read yet, its count of pieces included.
    private var unread = 0

    // The entry that the cursor stands at.
    package private(set) var id = StreamID.zero
    package private(set) var fieldCount = 0
    /// Where its flags stand.
    private(set) var entryPosition = 0
    private var hasMasterFields = false
    private var fieldPosition = 0
    private var valuePosition = 0

    /// - Parameters:
    ///   - lowest: entries below are passed over.
    ///   - highest: so are entries above.
    init(_ stream: StreamValue, from lowest: StreamID, to highest: StreamID, isReverse: Bool, includesDeleted: Bool) {
        self.stream = stream
        self.lowest = lowest
        self.highest = highest
        self.isReverse = isReverse
        self.includesDeleted = includesDeleted
        let nodes = stream.storage.pointee.nodes
        nodeIndex = isReverse ? nodes.floor(highest) : max(0, nodes.floor(lowest))
    }

    /// A walk upward from `lowest`, below which everything stands that is before `startPosition` in the first node.
    init(_ stream: StreamValue, from lowest: StreamID, startPosition: Int) {
        self.init(stream, from: lowest, to: .max, isReverse: false, includesDeleted: false)
        self.startPosition = startPosition
    }

    /// Where the next entry begins, in the node of this one. - Precondition: the cursor walks forward and stands at an entry.
    var endOfEntry: Int {
        var end = position
        node?.skip(unread, &end)
        return end
    }

    /// Goes on to the next entry of the range. - Returns: whether there is one.
    /// - Complexity: O(elements of the entry); finding the first one O(log nodes + elements of the node).
    package mutating func next() -> Bool { isReverse ? nextBackward() : nextForward() }

    private mutating func nextForward() -> Bool {
        while true {
            if node == nil {
                guard enterNode() else { return false }
                position = masterFields.position
                node.unsafelyUnwrapped.skip(masterFields.count + 1, &position)
                unread = 0
                // What stands before is deleted.
                let head = stream.storage.pointee.headPosition
                if nodeIndex == 0, head > 0, !includesDeleted { position = head }
                if startPosition > 0 {
                    position = startPosition
                    startPosition = 0
                }
            }
            let node = node.unsafelyUnwrapped
            while true {
                node.skip(unread, &position)
                guard let flags = flags(node) else { break }
                unread = (hasMasterFields ? fieldCount : 2 &* fieldCount) &+ 1
                if id < lowest || (flags & StreamNode.Flags.deleted != 0 && !includesDeleted) { continue }
                return id <= highest
            }
            self.node = nil
            nodeIndex += 1
        }
    }

    private mutating func nextBackward() -> Bool {
        while true {
            if node == nil {
                guard enterNode() else { return false }
                position = node?.listpack.last ?? -1
            }
            let node = node.unsafelyUnwrapped
            while position >= 0, let start = node.entry(endingAt: position) {
                position = start
                guard let flags = flags(node) else { break }
                position = node.listpack.previous(before: start) ?? -1
                if id > highest || (flags & StreamNode.Flags.deleted != 0 && !includesDeleted) { continue }
                return id >= lowest
            }
            self.node = nil
            nodeIndex -= 1
        }
    }

    private mutating func enterNode() -> Bool {
        guard nodeIndex >= 0, nodeIndex < stream.nodeCount else { return false }
        let node = stream.readNode(nodeIndex)
        self.node = node
        masterFields = node.masterFields
        return true
    }

    /// Reads what an entry begins with, up to its first field or value. - Returns: nil at the end of the node.
    @inline(__always)
    private mutating func flags(_ node: StreamNode) -> Int64? {
        let start = position
        let flags: Int64
        switch node.listpack.read(&position) {
        case .integer(let integer): flags = integer
        case .bytes(let text): flags = parseInt64(text) ?? 0
        case nil: return nil
        }
        entryPosition = start
        id = node.id(&position)
        hasMasterFields = flags & StreamNode.Flags.sameFields != 0
        if hasMasterFields {
            fieldCount = masterFields.count
            fieldPosition = masterFields.position
        } else {
            fieldCount = Int(node.integer(&position))
        }
        valuePosition = position
        return flags
    }

    /// The next field of the entry and its value. - Precondition: fewer than ``fieldCount`` were read.
    @inline(__always)
    package mutating func nextField() -> (field: StringView, value: StringView) {
        let listpack = node.unsafelyUnwrapped.listpack
        let field = hasMasterFields ? listpack.read(&fieldPosition) : listpack.read(&valuePosition)
        let value = listpack.read(&valuePosition)
        if !isReverse {
            position = valuePosition
            unread &-= hasMasterFields ? 1 : 2
        }
        guard let field, let value else { preconditionFailure("an entry has the fields that it counts") }
        return (field, value)
    }
}
