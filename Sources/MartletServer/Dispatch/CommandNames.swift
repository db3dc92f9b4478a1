import MartletBase

/// From the names of commands to their indexes in the ``CommandTable``.
///
/// Plain memory that is written once and never changes, so that every thread that parses may look into it. A copy is a view:
/// the table that made it frees it.
package struct CommandNames: @unchecked Sendable {
    private let slots: UnsafeMutablePointer<Slot>
    private let mask: Int
    /// Names from `rename-command` that are too long for a ``FoldedName``, in lower case; nil if there are none.
    private var longNames: UnsafeMutablePointer<[String: Int]>?

    private struct Slot {
        var name: FoldedName
        /// Folding loses blanks and zero bytes at the end of a name; its length does not.
        var nameBytes: Int32
        var index: Int32
    }

    /// A name of at most 24 bytes with letters in upper case.
    struct FoldedName: Equatable {
        var first: UInt64 = 0
        var second: UInt64 = 0
        var third: UInt64 = 0

        @inline(__always)
        init?(_ bytes: UnsafeRawBufferPointer) {
            let count = bytes.count
            guard count > 0, count <= 24 else { return nil }
            let base = bytes.baseAddress.unsafelyUnwrapped
            first = Self.word(base, count)
            if count > 8 {
                second = Self.word(base + 8, count &- 8)
                if count > 16 { third = Self.word(base + 16, count &- 16) }
            }
        }

        @inline(__always)
        private static func word(_ base: UnsafeRawPointer, _ count: Int) -> UInt64 {
            if count >= 8 { return base.loadUnaligned(as: UInt64.self) & 0xDFDF_DFDF_DFDF_DFDF }
            var word: UInt64 = 0
            var index = count
            while index > 0 {
                index &-= 1
                word = word &<< 8 | UInt64(base.load(fromByteOffset: index, as: UInt8.self))
            }
            return word & 0xDFDF_DFDF_DFDF_DFDF
        }

        @inline(__always) var hash: UInt64 {
            let mixed = (first ^ second &* 0x9E37_79B9_7F4A_7C15 ^ third) &* 0xD6E8_FEB8_6659_FD93
            return mixed ^ mixed &>> 32
        }
    }

    init(_ indexes: [String: Int]) {
        var capacity = 64
        while capacity < indexes.count * 4 { capacity *= 2 }
        mask = capacity - 1
        slots = .allocate(capacity: capacity)
        let empty = FoldedName(StaticString(" ").bytes)!
        slots.initialize(repeating: Slot(name: empty, nameBytes: 0, index: -1), count: capacity)
        var long: [String: Int] = [:]
        for (name, index) in indexes {
            guard let folded = Array(name.utf8).withUnsafeBytes({ FoldedName($0) }) else {
                long[name] = index
                continue
            }
            var position = Int(truncatingIfNeeded: folded.hash) & mask
            while slots[position].index >= 0 { position = (position + 1) & mask }
            slots[position] = Slot(name: folded, nameBytes: Int32(name.utf8.count), index: Int32(index))
        }
        if !long.isEmpty {
            longNames = .allocate(capacity: 1)
            longNames?.initialize(to: long)
        }
    }

    func deallocate() {
        slots.deallocate()
        longNames?.deinitialize(count: 1)
        longNames?.deallocate()
    }

    /// - Returns: the index of a top-level command, or -1.
    /// - Complexity: O(1)
    @inline(__always)
    func index(of name: UnsafeRawBufferPointer) -> Int {
        guard let folded = FoldedName(name) else { return longNameIndex(of: name) }
        var position = Int(truncatingIfNeeded: folded.hash) & mask
        while true {
            let slot = slots + position
            if slot.pointee.index < 0 { return -1 }
            if slot.pointee.name == folded, Int(slot.pointee.nameBytes) == name.count {
                return Int(slot.pointee.index)
            }
            position = (position &+ 1) & mask
        }
    }

    @inline(never)
    private func longNameIndex(of name: UnsafeRawBufferPointer) -> Int {
        longNames?.pointee[String(bytes: name).lowercased()] ?? -1
    }
}
