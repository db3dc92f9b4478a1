// Memory for entries: slots 8 bytes apart in size, out of slabs.
//
// The allocator's size classes are 16 bytes apart up to 128 and ever farther beyond, so that an entry of 88 bytes would
// take 96. A pool cuts slabs of 32 KB, aligned to their size, into slots of one multiple of 8 each, and finds the slab of
// a slot by masking the slot's address. Larger entries, which are rare, come from the allocator.
//
// Each size has one current slab, from which slots are taken: first those that came back, then those never used, so that
// pages are not touched before they are needed. The other slabs stand in lists by how full they are. When the current
// slab is full the fullest of the others takes its place; sparse ones thus run empty, and an empty slab goes back to the
// allocator (unless it is the current one: a key that is set and deleted again and again must not cost a slab each time).
// An operation touches the slab's header and its size's record and nothing else; a slab changes its list rarely.
//
// When most entries are deleted at random no slab runs empty by itself. ``nextSparseSlab()`` finds slabs that are worth
// emptying; Keyspace+Defragmentation.swift moves their entries (`activedefrag`).
//
// A pool belongs to one database, and to one thread at a time: the command thread, until the database is flushed and the
// pool goes with the tables to the thread that frees them, slab by slab.

struct EntryPool: ~Copyable {
    /// Slabs larger than 14 KB are extents of their own to the allocator, kept and given back as such.
    static let slabBytes = 32 * 1024
    private static let slabAlignmentLog2: Int32 = 15
    /// Larger entries come from the allocator. Every inline value fits with a key of 255 bytes.
    static let slotBytesMax = 1024

    private typealias SlabPointer = UnsafeMutablePointer<Slab>

    /// Stands at the beginning of each slab.
    private struct Slab {
        var next: SlabPointer?
        var previous: SlabPointer?
        /// Offsets in the slab: the first slot that came back (0: none), and the first that was never used.
        var freeOffset: UInt32
        var freshOffset: UInt32
        var used: UInt32 = 0
        /// With fewer slots in use the slab changes its list.
        var usedMin: UInt32 = 0
        let slotBytes: UInt32
        let capacity: UInt32
        var list: UInt32 = 0

        static let headerBytes = 64

        /// First byte behind the slots.
        var endOffset: UInt32 { UInt32(Slab.headerBytes) + capacity * slotBytes }
    }

    /// What belongs to one size of slots.
    private struct SizeClass {
        var current: SlabPointer?
        /// Slots in use, in all slabs.
        var used = 0
        var slabCount = 0
        /// The slabs but the current one, by quarters of their slots in use; the last list has those that are full.
        var lists: InlineArray<5, SlabPointer?> = .init(repeating: nil)
    }

    private static let quarters = 4
    private static let classCount = slotBytesMax / 8 + 1

    private let classes: UnsafeMutablePointer<SizeClass>
    private(set) var slabCount = 0
    /// Entries outside of slabs and values outside of their entries: while there are none, slabs can be freed unseen.
    var outsideCount = 0
    /// Bytes of entries outside of slabs, as the allocator counts them.
    private var largeBytes = 0

    init() {
        classes = .allocate(capacity: Self.classCount)
        classes.initialize(repeating: SizeClass(), count: Self.classCount)
    }

    /// Frees the slabs with whatever is in them. - Complexity: O(slabs)
    deinit {
        for index in 0..<Self.classCount {
            if let current = classes[index].current { Self.free(current) }
            for list in 0...Self.quarters {
                var next = classes[index].lists[list]
                while let slab = next {
                    next = slab.pointee.next
                    Self.free(slab)
                }
            }
        }
        classes.deallocate()
    }

    // MARK: Slots

    @inline(__always) private static func classIndex(_ count: Int) -> Int { (count &+ 7) &>> 3 }

    /// - Precondition: `count` is above 0.
    @inline(__always)
    mutating func allocate(_ count: Int) -> UnsafeMutableRawPointer {
        if count > Self.slotBytesMax { return allocateLarge(count) }
        let sizeClass = classes + Self.classIndex(count)
        sizeClass.pointee.used &+= 1
        guard let slab = sizeClass.pointee.current else { return allocateFromNext(sizeClass) }
        let offset = slab.pointee.freeOffset
        guard offset != 0 else { return allocateFresh(sizeClass, slab) }
        let slot = UnsafeMutableRawPointer(slab) + Int(offset)
        slab.pointee.freeOffset = slot.load(as: UInt32.self)
        slab.pointee.used &+= 1
        return slot
    }

    /// From the current slab, which has no slot that came back.
    private mutating func allocateFresh(
        _ sizeClass: UnsafeMutablePointer<SizeClass>, _ slab: SlabPointer
    ) -> UnsafeMutableRawPointer {
        let offset = slab.pointee.freshOffset
        if offset == slab.pointee.endOffset {
            Self.link(slab, sizeClass, to: Self.quarters)
            sizeClass.pointee.current = nil
            return allocateFromNext(sizeClass)
        }
        slab.pointee.freshOffset = offset + slab.pointee.slotBytes
        slab.pointee.used &+= 1
        return UnsafeMutableRawPointer(slab) + Int(offset)
    }

    /// Makes the fullest slab that has room the current one, or a new one if none has.
    @inline(never)
    private mutating func allocateFromNext(_ sizeClass: UnsafeMutablePointer<SizeClass>) -> UnsafeMutableRawPointer {
        var slab: SlabPointer?
        for list in (0..<Self.quarters).reversed() where slab == nil { slab = sizeClass.pointee.lists[list] }
        if let slab {
            Self.unlink(slab, sizeClass)
            slab.pointee.usedMin = 0
            sizeClass.pointee.current = slab
        } else {
            sizeClass.pointee.current = newSlab(slotBytes: (sizeClass - classes) * 8)
            sizeClass.pointee.slabCount += 1
        }
        sizeClass.pointee.used -= 1
        return allocate((sizeClass - classes) * 8)
    }

    @inline(__always)
    mutating func free(_ slot: UnsafeMutableRawPointer, _ count: Int) {
        if count > Self.slotBytesMax { return freeLarge(slot, count) }
        let sizeClass = classes + Self.classIndex(count)
        let slab = Self.slab(of: slot)
        slot.storeBytes(of: slab.pointee.freeOffset, as: UInt32.self)
        slot.storeBytes(of: Entry.freeKind, toByteOffset: Entry.kindOffset, as: UInt8.self)
        slab.pointee.freeOffset = UInt32(truncatingIfNeeded: slot - UnsafeMutableRawPointer(slab))
        slab.pointee.used &-= 1
        sizeClass.pointee.used &-= 1
        if slab.pointee.used < slab.pointee.usedMin { settle(slab, sizeClass) }
    }

    @inline(__always)
    private static func slab(of slot: UnsafeMutableRawPointer) -> SlabPointer {
        SlabPointer(bitPattern: UInt(bitPattern: slot) & ~UInt(slabBytes - 1)).unsafelyUnwrapped
    }

    @inline(never)
    private mutating func allocateLarge(_ count: Int) -> UnsafeMutableRawPointer {
        outsideCount += 1
        largeBytes += Memory.usableBytes(count)
        return Memory.allocate(count)
    }

    @inline(never)
    private mutating func freeLarge(_ pointer: UnsafeMutableRawPointer, _ count: Int) {
        outsideCount -= 1
        largeBytes -= Memory.usableBytes(count)
        Memory.free(pointer, count)
    }

    // MARK: Slabs

    /// A slab that is not the current one has lost a slot, and belongs into another list, or back to the allocator.
    @inline(never)
    private mutating func settle(_ slab: SlabPointer, _ sizeClass: UnsafeMutablePointer<SizeClass>) {
        Self.unlink(slab, sizeClass)
        if slab.pointee.used == 0 {
            release(slab, sizeClass)
        } else {
            Self.link(slab, sizeClass, to: Int(slab.pointee.used * UInt32(Self.quarters) / slab.pointee.capacity))
        }
    }

    private static func link(_ slab: SlabPointer, _ sizeClass: UnsafeMutablePointer<SizeClass>, to list: Int) {
        let next = sizeClass.pointee.lists[list]
        slab.pointee.next = next
        slab.pointee.previous = nil
        next?.pointee.previous = slab
        sizeClass.pointee.lists[list] = slab
        slab.pointee.list = UInt32(list)
        // The least number of slots that makes this quarter; one that is empty leaves the lowest, too.
        let quarters = UInt32(Self.quarters)
        slab.pointee.usedMin = max(1, (UInt32(list) * slab.pointee.capacity + quarters - 1) / quarters)
    }

    private static func unlink(_ slab: SlabPointer, _ sizeClass: UnsafeMutablePointer<SizeClass>) {
        let (next, previous) = (slab.pointee.next, slab.pointee.previous)
        next?.pointee.previous = previous
        if let previous {
            previous.pointee.next = next
        } else {
            sizeClass.pointee.lists[Int(slab.pointee.list)] = next
        }
    }

    private mutating func newSlab(slotBytes: Int) -> SlabPointer {
        let slab = Memory.allocate(Self.slabBytes, alignmentLog2: Self.slabAlignmentLog2)
            .bindMemory(to: Slab.self, capacity: 1)
        slab.initialize(
            to: Slab(
                freeOffset: 0, freshOffset: UInt32(Slab.headerBytes), slotBytes: UInt32(slotBytes),
                capacity: UInt32((Self.slabBytes - Slab.headerBytes) / slotBytes)))
        slabCount += 1
        return slab
    }

    private mutating func release(_ slab: SlabPointer, _ sizeClass: UnsafeMutablePointer<SizeClass>) {
        sizeClass.pointee.slabCount -= 1
        slabCount -= 1
        Self.free(slab)
    }

    private static func free(_ slab: SlabPointer) {
        Memory.free(UnsafeMutableRawPointer(slab), slabBytes, alignmentLog2: slabAlignmentLog2)
    }

    // MARK: Accounts

    /// What an entry of `count` bytes takes.
    static func usableBytes(_ count: Int) -> Int {
        count > slotBytesMax ? Memory.usableBytes(count) : classIndex(count) * 8
    }

    /// Bytes of entries, values outside of them not counted. - Complexity: O(sizes)
    var usedBytes: Int {
        var bytes = largeBytes
        if slabCount == 0 { return bytes }
        for index in 0..<Self.classCount { bytes += classes[index].used * index * 8 }
        return bytes
    }

    /// Bytes of slabs that no entry uses, headers included. - Complexity: O(sizes)
    var unusedBytes: Int { slabCount * Self.slabBytes - (usedBytes - largeBytes) }

    /// Gives the slabs back that were kept though they are empty. - Complexity: O(sizes)
    mutating func trim() {
        for index in 0..<Self.classCount {
            guard let slab = classes[index].current, slab.pointee.used == 0 else { continue }
            classes[index].current = nil
            release(slab, classes + index)
        }
    }

    // MARK: Emptying

    /// A slab less than three quarters full, in a size whose other slabs have room for what is in it.
    func nextSparseSlab() -> UnsafeMutableRawPointer? {
        for index in 1..<Self.classCount {
            for list in 0..<(Self.quarters - 1) {
                guard let slab = classes[index].lists[list] else { continue }
                let places = classes[index].slabCount * Int(slab.pointee.capacity)
                if places - classes[index].used >= Int(slab.pointee.capacity) { return UnsafeMutableRawPointer(slab) }
                break
            }
        }
        return nil
    }

    /// Whether an entry stands in a slab that ``nextSparseSlab()`` could name.
    func isInSparseSlab(_ entry: Entry) -> Bool {
        let count = entry.allocatedBytes
        if count > Self.slotBytesMax { return false }
        let slab = Self.slab(of: entry.pointer)
        let sizeClass = classes + Self.classIndex(count)
        if slab == sizeClass.pointee.current || slab.pointee.list >= Self.quarters - 1 { return false }
        let capacity = Int(slab.pointee.capacity)
        return sizeClass.pointee.slabCount * capacity - sizeClass.pointee.used >= capacity
    }

    /// Takes a slab that ``nextSparseSlab()`` named out of the lists and hands each entry in it to `move`, which puts the
    /// entry elsewhere and frees it here. The slab goes back to the allocator.
    ///
    /// - Returns: how many entries there were.
    /// - Complexity: O(slots in the slab)
    static func empty(
        _ pool: UnsafeMutablePointer<EntryPool>, _ address: UnsafeMutableRawPointer, _ move: (Entry) -> Void
    ) -> Int {
        let slab = address.assumingMemoryBound(to: Slab.self)
        let sizeClass = pool.pointee.classes + Int(slab.pointee.slotBytes) / 8
        unlink(slab, sizeClass)
        // In no list, and not to be settled when its last slot comes back.
        slab.pointee.usedMin = 0
        var moved = 0
        var offset = UInt32(Slab.headerBytes)
        while offset < slab.pointee.freshOffset {
            let entry = Entry(address + Int(offset))
            if !entry.isFreeSlot {
                move(entry)
                moved += 1
            }
            offset += slab.pointee.slotBytes
        }
        precondition(slab.pointee.used == 0, "every entry has left")
        pool.pointee.release(slab, sizeClass)
        return moved
    }

    /// Checks every structural rule. - Complexity: O(slots)
    func invariants() {
        var slabs = 0
        for index in 1..<Self.classCount {
            var (classSlabs, used) = (0, 0)
            func check(_ slab: SlabPointer, list: Int?) {
                let header = slab.pointee
                classSlabs += 1
                used += Int(header.used)
                precondition(Int(header.slotBytes) == index * 8, "a slab stands with its size")
                var freeSlots: UInt32 = (header.endOffset - header.freshOffset) / header.slotBytes
                var offset = header.freeOffset
                while offset != 0 {
                    let slot = UnsafeMutableRawPointer(slab) + Int(offset)
                    precondition(offset < header.freshOffset, "a slot came back after it was used")
                    precondition(Entry(slot).isFreeSlot, "a free slot says so")
                    freeSlots += 1
                    offset = slot.load(as: UInt32.self)
                }
                precondition(freeSlots + header.used == header.capacity, "a slot is used or free")
                guard let list else { return }
                precondition(header.used > 0, "an empty slab is given back")
                // A slab gains no slots while it stands in a list.
                precondition(Int(header.used) * Self.quarters / Int(header.capacity) == list, "in the list of its fill")
            }
            if let current = classes[index].current { check(current, list: nil) }
            for list in 0...Self.quarters {
                var next = classes[index].lists[list]
                while let slab = next {
                    check(slab, list: list)
                    next = slab.pointee.next
                }
            }
            precondition(classSlabs == classes[index].slabCount, "every slab stands in a list")
            precondition(used == classes[index].used, "slots in use add up")
            slabs += classSlabs
        }
        precondition(slabs == slabCount, "slabs add up")
    }
}
