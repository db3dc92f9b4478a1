import MartletBase

// Nodes of a stream in a shorter form.
//
// Entries are added to the last node; the others are read, as a rule, and are by far the most of a long stream. Those are
// packed: what a listpack writes behind every element (its length) and what a node writes for every entry though it
// follows from the entries before (flags, differences of IDs, the count of pieces) is left out. The node comes back byte for byte when
// it is asked for. Packed nodes stand side by side in blocks of ``PackedNodes/blockBytes``, so that nothing is lost to the
// allocator's size classes: a node of Redis has just the size at which they are coarse.
//
//      0   UInt32  bytes of the packed node
//      4   UInt32  bytes of the node's listpack
//      …   live, deleted, fields: how many
//      …   the fields of the master entry
//      …   entries: a byte, then the elements
//
// The byte before an entry has its flags in the lowest two bits. The third bit says that the sequence is not the expected
// one: one above that of the entry before in the same millisecond, else 0. The upper five tell by how many milliseconds
// the entry is later than the one before: 31 says that the rest follows as a number. Then come the sequence if it
// is not the expected one, the count of fields if they are not the master entry's, and the elements as they stand in a
// listpack, without the length behind. Numbers have seven bits in each byte, low ones first.
//
// A node that does not have exactly the form that this server writes, or gains little, stays as it is.

enum PackedNode {
    static let headerBytes = 8

    static func bytes(_ address: UnsafeRawPointer) -> Int { Int(address.load(as: UInt32.self)) }

    /// Of the listpack that it stands for.
    static func listpackBytes(_ address: UnsafeRawPointer) -> Int {
        Int(address.load(fromByteOffset: 4, as: UInt32.self))
    }

    /// Entries that are not deleted.
    static func live(_ address: UnsafeRawPointer) -> Int {
        var position = headerBytes
        return Int(number(address, &position))
    }

    /// - Parameter room: has room for as many bytes as the listpack has.
    /// - Returns: bytes of the packed node; nil if there is something in the node that could not be restored.
    /// - Complexity: O(elements)
    static func pack(_ node: StreamNode, to room: UnsafeMutableRawPointer) -> Int? {
        let list = node.listpack
        var position = StreamNode.livePosition
        var end = headerBytes
        guard let live = list.canonicalInteger(&position), let deleted = list.canonicalInteger(&position),
            let fieldCount = list.canonicalInteger(&position), live >= 0, deleted >= 0, fieldCount >= 0
        else { return nil }
        for count in [live, deleted, fieldCount] { append(UInt64(count), room, &end) }
        for _ in 0..<fieldCount { guard list.copyElement(&position, to: room, &end) else { return nil } }
        guard list.canonicalInteger(&position) == 0 else { return nil }
        var elements = 4 + Int(fieldCount)
        var before = (milliseconds: Int64(0), sequence: Int64(-1))
        for _ in 0..<live + deleted {
            guard let flags = list.canonicalInteger(&position), (0...3).contains(flags),
                let milliseconds = list.canonicalInteger(&position), let sequence = list.canonicalInteger(&position)
            else { return nil }
            let (later, isTooLarge) = milliseconds.subtractingReportingOverflow(before.milliseconds)
            guard !isTooLarge, later >= 0 else { return nil }
            let isExpected = sequence == expected(later: later, before.sequence, node.masterID)
            let short = min(later, longDifference)
            room.storeBytes(
                of: UInt8(flags) | (isExpected ? 0 : unexpected) | UInt8(short) << 3, toByteOffset: end, as: UInt8.self)
            end &+= 1
            if short == longDifference { append(UInt64(later - short), room, &end) }
            if !isExpected { append(UInt64(bitPattern: sequence << 1 ^ sequence >> 63), room, &end) }
            before = (milliseconds, sequence)
            var count = fieldCount
            var pieces = fieldCount + 3
            if flags & StreamNode.Flags.sameFields == 0 {
                guard let own = list.canonicalInteger(&position), own >= 0, own <= Int32.max else { return nil }
                append(UInt64(own), room, &end)
                count = 2 * own
                pieces = count + 4
            }
            for _ in 0..<count { guard list.copyElement(&position, to: room, &end) else { return nil } }
            guard list.canonicalInteger(&position) == pieces else { return nil }
            elements += Int(pieces) + 1
        }
        guard position == list.byteCount - 1, list.storedCount == min(elements, Listpack.unknownCount) else {
            return nil
        }
        room.storeBytes(of: UInt32(end), as: UInt32.self)
        room.storeBytes(of: UInt32(list.byteCount), toByteOffset: 4, as: UInt32.self)
        return end
    }

    private static let unexpected: UInt8 = 4
    private static let longDifference: Int64 = 31

    @inline(__always)
    private static func expected(later: Int64, _ sequence: Int64, _ master: StreamID) -> Int64 {
        later == 0 ? sequence &+ 1 : Int64(bitPattern: 0 &- master.sequence)
    }

    /// Writes the listpack that a packed node stands for. - Parameter room: of ``listpackBytes(_:)``.
    /// - Complexity: O(elements)
    static func unpack(_ address: UnsafeRawPointer, masterID: StreamID, to room: UnsafeMutableRawPointer) {
        var position = headerBytes
        var writer = Listpack.Restorer(room)
        let live = number(address, &position)
        let deleted = number(address, &position)
        let fieldCount = Int64(number(address, &position))
        writer.append(Int64(live))
        writer.append(Int64(deleted))
        writer.append(fieldCount)
        for _ in 0..<fieldCount { writer.append(elementAt: address, &position) }
        writer.append(0)
        var before = (milliseconds: Int64(0), sequence: Int64(-1))
        for _ in 0..<live + deleted {
            let lead = address.load(fromByteOffset: position, as: UInt8.self)
            position &+= 1
            var later = Int64(lead >> 3)
            if later == longDifference { later += Int64(number(address, &position)) }
            var sequence = expected(later: later, before.sequence, masterID)
            if lead & unexpected != 0 {
                let bits = number(address, &position)
                sequence = Int64(bitPattern: bits >> 1) ^ -Int64(bitPattern: bits & 1)
            }
            before = (before.milliseconds + later, sequence)
            let flags = Int64(lead & 3)
            writer.append(flags)
            writer.append(before.milliseconds)
            writer.append(sequence)
            var count = fieldCount
            var pieces = fieldCount + 3
            if flags & StreamNode.Flags.sameFields == 0 {
                let own = Int64(number(address, &position))
                writer.append(own)
                count = 2 * own
                pieces = count + 4
            }
            for _ in 0..<count { writer.append(elementAt: address, &position) }
            writer.append(pieces)
        }
        precondition(position == bytes(address) && writer.finish() == listpackBytes(address), "nothing is lost")
    }

    private static func append(_ number: UInt64, _ room: UnsafeMutableRawPointer, _ end: inout Int) {
        var rest = number
        while rest > 127 {
            room.storeBytes(of: UInt8(truncatingIfNeeded: rest) | 0x80, toByteOffset: end, as: UInt8.self)
            rest &>>= 7
            end &+= 1
        }
        room.storeBytes(of: UInt8(rest), toByteOffset: end, as: UInt8.self)
        end &+= 1
    }

    @inline(__always)
    private static func number(_ address: UnsafeRawPointer, _ position: inout Int) -> UInt64 {
        var (result, shift) = (UInt64(0), UInt64(0))
        while true {
            let byte = address.load(fromByteOffset: position, as: UInt8.self)
            position &+= 1
            result |= UInt64(byte & 0x7F) &<< shift
            if byte < 0x80 { return result }
            shift &+= 7
        }
    }
}

/// The packed nodes of one stream, and the room where they are unpacked to be read. Plain data: whoever owns it gives all
/// nodes back, then calls ``destroy()``.
struct PackedNodes {
    /// Stands at the beginning of each block.
    private struct Block {
        /// Of all bytes, those before the next node.
        var end: UInt32
        /// Bytes of nodes that are still there.
        var used: UInt32
    }

    /// A node that was unpacked.
    private struct Reading {
        /// The packed node; nil if there is none.
        var node: UnsafeMutableRawPointer?
        var room: UnsafeMutableRawPointer?
        var roomBytes = 0
    }

    /// Where the next nodes are put.
    private var current: UnsafeMutableRawPointer?
    private(set) var blockCount = 0
    private var readings: UnsafeMutablePointer<Reading>?
    private var nextReading = 0

    static let blockBytes = 64 * 1024
    private static let blockAlignmentLog2: Int32 = 16
    private static let blockHeaderBytes = 8
    /// Larger nodes are not worth it: little of them is anything but data.
    static let listpackBytesMax = 16 * 1024
    /// Whoever walks through a stream reads one node at a time; a few walks may be under way.
    private static let readingCount = 4

    private static func block(of node: UnsafeRawPointer) -> UnsafeMutablePointer<Block> {
        UnsafeMutablePointer(bitPattern: UInt(bitPattern: node) & ~UInt(blockBytes - 1)).unsafelyUnwrapped
    }

    private static func roomBytes(_ bytes: Int) -> Int { (bytes + 7) & ~7 }

    /// Whether two packed nodes stand in one block.
    static func areTogether(_ first: UnsafeRawPointer, _ second: UnsafeRawPointer) -> Bool {
        block(of: first) == block(of: second)
    }

    /// Packs a node. - Returns: nil if it is not worth it; the node itself stays as it is in any case.
    mutating func add(_ node: StreamNode) -> UnsafeMutableRawPointer? {
        let before = node.listpack.byteCount
        guard before <= Self.listpackBytesMax else { return nil }
        return withUnsafeTemporaryAllocation(byteCount: before, alignment: 8) { room in
            let room = room.baseAddress.unsafelyUnwrapped
            guard let count = PackedNode.pack(node, to: room), count <= before - before / 32 else { return nil }
            return add(UnsafeRawBufferPointer(start: room, count: count))
        }
    }

    /// Takes a packed node in. - Parameter bytes: at most ``listpackBytesMax``.
    mutating func add(_ bytes: UnsafeRawBufferPointer) -> UnsafeMutableRawPointer {
        let count = Self.roomBytes(bytes.count)
        let header: UnsafeMutablePointer<Block>
        if let current, Int(Self.block(of: current).pointee.end) + count <= Self.blockBytes {
            header = Self.block(of: current)
        } else {
            let block = Memory.allocate(Self.blockBytes, alignmentLog2: Self.blockAlignmentLog2)
            header = block.bindMemory(to: Block.self, capacity: 1)
            header.initialize(to: Block(end: UInt32(Self.blockHeaderBytes), used: 0))
            blockCount += 1
            current = block
        }
        let node = UnsafeMutableRawPointer(header) + Int(header.pointee.end)
        node.copyMemory(from: bytes.baseAddress.unsafelyUnwrapped, byteCount: bytes.count)
        header.pointee.end += UInt32(count)
        header.pointee.used += UInt32(count)
        return node
    }

    /// Gives a node back. - Returns: whether so little is left in its block that the rest should leave it, too.
    mutating func remove(_ node: UnsafeMutableRawPointer) -> Bool {
        if let readings {
            for index in 0..<Self.readingCount where readings[index].node == node { readings[index].node = nil }
        }
        let block = Self.block(of: node)
        block.pointee.used -= UInt32(Self.roomBytes(PackedNode.bytes(node)))
        if UnsafeMutableRawPointer(block) == current {
            if block.pointee.used == 0 { block.pointee.end = UInt32(Self.blockHeaderBytes) }
            return false
        }
        if block.pointee.used > 0 { return Int(block.pointee.used) < Self.blockBytes / 4 }
        Memory.free(UnsafeMutableRawPointer(block), Self.blockBytes, alignmentLog2: Self.blockAlignmentLog2)
        blockCount -= 1
        return false
    }

    /// The listpack of a packed node, valid until some other nodes have been read, or this one is given back.
    mutating func read(_ node: UnsafeMutableRawPointer, masterID: StreamID) -> Listpack {
        let readings = readings ?? makeReadings()
        for index in 0..<Self.readingCount {
            if readings[index].node == node, let room = readings[index].room { return Listpack(room) }
        }
        let reading = readings + nextReading
        nextReading = (nextReading + 1) % Self.readingCount
        let count = PackedNode.listpackBytes(node)
        if reading.pointee.roomBytes < count {
            if let room = reading.pointee.room { Memory.free(room, reading.pointee.roomBytes) }
            reading.pointee.roomBytes = Memory.usableBytes(count)
            reading.pointee.room = Memory.allocate(reading.pointee.roomBytes)
        }
        let room = reading.pointee.room.unsafelyUnwrapped
        PackedNode.unpack(node, masterID: masterID, to: room)
        reading.pointee.node = node
        return Listpack(room)
    }

    private mutating func makeReadings() -> UnsafeMutablePointer<Reading> {
        let new = Memory.allocate(Self.readingCount * MemoryLayout<Reading>.stride)
            .bindMemory(to: Reading.self, capacity: Self.readingCount)
        new.initialize(repeating: Reading(), count: Self.readingCount)
        readings = new
        return new
    }

    /// Bytes of all blocks, and of what was read.
    var memoryBytes: Int {
        var bytes = blockCount * Self.blockBytes
        if let readings {
            bytes += Memory.usableBytes(Self.readingCount * MemoryLayout<Reading>.stride)
            for index in 0..<Self.readingCount { bytes += readings[index].roomBytes }
        }
        return bytes
    }

    /// - Precondition: all nodes were given back.
    mutating func destroy() {
        if let current {
            precondition(Self.block(of: current).pointee.used == 0, "every node was given back")
            Memory.free(current, Self.blockBytes, alignmentLog2: Self.blockAlignmentLog2)
        }
        if let readings {
            for index in 0..<Self.readingCount {
                if let room = readings[index].room { Memory.free(room, readings[index].roomBytes) }
            }
            Memory.free(readings, Self.readingCount * MemoryLayout<Reading>.stride)
        }
        self = PackedNodes()
    }
}

extension IDDirectory.Record {
    /// The lowest bit of the address of a packed node is set.
    init(id: StreamID, packed node: UnsafeMutableRawPointer) { self.init(id: id, address: node + 1) }

    /// The packed node, if the node is one.
    @inline(__always) var packed: UnsafeMutableRawPointer? { UInt(bitPattern: address) & 1 == 0 ? nil : address - 1 }
}

// MARK: - Elements without the length behind them

extension Listpack {
    /// Bytes of an element without the length behind it.
    @inline(__always)
    fileprivate static func encodingBytes(_ element: UnsafeRawPointer) -> Int {
        let lead = element.load(as: UInt8.self)
        if lead < 0x80 { return 1 }
        if lead < 0xC0 { return 1 &+ Int(lead & 0x3F) }
        if lead < 0xE0 { return 2 }
        if lead < 0xF0 { return 2 &+ Int(UInt16(bigEndian: element.loadUnaligned(as: UInt16.self)) & 0x0FFF) }
        switch lead {
        case 0xF0: return 5 &+ Int(element.loadUnaligned(fromByteOffset: 1, as: UInt32.self))
        case 0xF1: return 3
        case 0xF2: return 4
        case 0xF3: return 5
        case 0xF4: return 9
        default: preconditionFailure("no element of a valid listpack begins so")
        }
    }

    /// An element that is a number in its shortest form; the position moves on. - Returns: nil if it is something else.
    @inline(__always)
    fileprivate func canonicalInteger(_ position: inout Int) -> Int64? {
        let lead = (pointer + position).load(as: UInt8.self)
        if lead < 0x80 {
            position &+= 2
            return Int64(lead)
        }
        let start = position
        guard case .integer(let integer)? = read(&position), position - start == Element(integer: integer).entryBytes
        else { return nil }
        return integer
    }

    /// Copies an element without the length behind it. - Returns: false at the end mark.
    @inline(__always)
    fileprivate func copyElement(_ position: inout Int, to room: UnsafeMutableRawPointer, _ end: inout Int) -> Bool {
        let element = pointer + position
        if element.load(as: UInt8.self) == Self.endMark { return false }
        let count = Self.encodingBytes(element)
        (room + end).copyMemory(from: element, byteCount: count)
        end &+= count
        position &+= count &+ Self.backLengthBytes(count)
        return true
    }

    /// Writes a listpack anew.
    fileprivate struct Restorer {
        private let base: UnsafeMutableRawPointer
        private var end = Listpack.headerBytes
        private var count = 0

        init(_ base: UnsafeMutableRawPointer) { self.base = base }

        @inline(__always)
        mutating func append(_ integer: Int64) {
            count &+= 1
            if (0...127).contains(integer) {
                (base + end).storeBytes(of: UInt16(integer) | 0x0100, as: UInt16.self)
                end &+= 2
                return
            }
            let element = Element(integer: integer)
            element.write(to: base + end)
            end &+= element.entryBytes
        }

        /// The element without the length behind it that stands at a position, which moves on.
        @inline(__always)
        mutating func append(elementAt address: UnsafeRawPointer, _ position: inout Int) {
            let bytes = Listpack.encodingBytes(address + position)
            (base + end).copyMemory(from: address + position, byteCount: bytes)
            Listpack.writeBackLength(bytes, to: base + (end &+ bytes))
            position &+= bytes
            end &+= bytes &+ Listpack.backLengthBytes(bytes)
            count &+= 1
        }

        /// - Returns: bytes of the whole.
        mutating func finish() -> Int {
            base.storeBytes(of: Listpack.endMark, toByteOffset: end, as: UInt8.self)
            base.storeBytes(of: UInt32(end + 1), as: UInt32.self)
            base.storeBytes(of: UInt16(min(count, Listpack.unknownCount)), toByteOffset: 4, as: UInt16.self)
            return end + 1
        }
    }
}
