import MartletBase

/// A set of hash slots: a bitmap trimmed to the words in use, because most nodes own one or two short ranges and a
/// cluster of a thousand nodes keeps a thousand of these in every node.
///
/// Bit order is that of the bus: slot n is bit n % 8 of byte n / 8.
package struct SlotSet: Sendable {
    /// Bytes of a full bitmap on the wire.
    package static let bitmapByteCount = HashSlot.count / 8
    private static let wordCountMax = HashSlot.count / 64

    package private(set) var count = 0
    /// Index of the word that `words[0]` is; meaningless while `words` is empty.
    private var base = 0
    private var words: [UInt64] = []

    package init() {}

    /// The set in a bitmap of 2048 bytes.
    package init(bitmap: UnsafeRawBufferPointer) {
        precondition(bitmap.count == SlotSet.bitmapByteCount)
        for index in 0..<SlotSet.wordCountMax {
            let word = UInt64(littleEndian: bitmap.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
            guard word != 0 else { continue }
            grow(toInclude: index)
            words[index - base] = word
            count += word.nonzeroBitCount
        }
    }

    package var isEmpty: Bool { count == 0 }

    package func contains(_ slot: Int) -> Bool {
        let index = (slot >> 6) - base
        return index >= 0 && index < words.count && words[index] & (1 << UInt64(slot & 63)) != 0
    }

    /// Whether the slot was not in the set before.
    @discardableResult
    package mutating func insert(_ slot: Int) -> Bool {
        precondition(slot >= 0 && slot < HashSlot.count)
        grow(toInclude: slot >> 6)
        let bit = UInt64(1) << UInt64(slot & 63)
        let index = (slot >> 6) - base
        if words[index] & bit != 0 { return false }
        words[index] |= bit
        count += 1
        return true
    }

    /// Whether the slot was in the set.
    @discardableResult
    package mutating func remove(_ slot: Int) -> Bool {
        guard contains(slot) else { return false }
        words[(slot >> 6) - base] &= ~(UInt64(1) << UInt64(slot & 63))
        count -= 1
        if count == 0 { words = [] }
        return true
    }

    package mutating func removeAll() {
        words = []
        count = 0
    }

    /// The slots that are in this set only.
    package func subtracting(_ other: SlotSet) -> SlotSet {
        var result = self
        for index in words.indices {
            result.words[index] &= ~other.word(base + index)
            result.count -= (words[index] ^ result.words[index]).nonzeroBitCount
        }
        if result.count == 0 { result.words = [] }
        return result
    }

    package func isDisjoint(with other: SlotSet) -> Bool {
        words.indices.allSatisfy { words[$0] & other.word(base + $0) == 0 }
    }

    /// Calls `body` with every slot, smallest first.
    package func forEach(_ body: (Int) -> Void) {
        for (index, word) in words.enumerated() {
            var rest = word
            while rest != 0 {
                body((base + index) * 64 + rest.trailingZeroBitCount)
                rest &= rest - 1
            }
        }
    }

    /// The set as inclusive ranges, smallest first.
    package var ranges: [ClosedRange<Int>] {
        var ranges: [ClosedRange<Int>] = []
        /// First slot of the run that is being read, or -1.
        var first = -1
        for index in words.indices {
            let start = (base + index) * 64
            var position = 0
            while position < 64 {
                // What is left of the word; looked for are set bits outside a run, clear bits inside one.
                let rest = first < 0 ? words[index] >> UInt64(position) : ~words[index] >> UInt64(position)
                guard rest != 0 else { break }
                position += rest.trailingZeroBitCount
                guard position < 64 else { break }
                if first < 0 {
                    first = start + position
                } else {
                    ranges.append(first...(start + position - 1))
                    first = -1
                }
            }
        }
        if first >= 0 { ranges.append(first...((base + words.count) * 64 - 1)) }
        return ranges
    }

    /// Whether a bitmap of 2048 bytes holds exactly this set.
    package func equals(bitmap: UnsafeRawBufferPointer) -> Bool {
        precondition(bitmap.count == SlotSet.bitmapByteCount)
        for index in 0..<SlotSet.wordCountMax {
            let word = UInt64(littleEndian: bitmap.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
            if word != self.word(index) { return false }
        }
        return true
    }

    /// Word `index` of the full bitmap.
    package func word(_ index: Int) -> UInt64 {
        let position = index - base
        return position >= 0 && position < words.count ? words[position] : 0
    }

    private mutating func grow(toInclude index: Int) {
        if words.isEmpty {
            base = index
            words = [0]
        } else if index < base {
            words.insert(contentsOf: repeatElement(0, count: base - index), at: 0)
            base = index
        } else if index >= base + words.count {
            words.append(contentsOf: repeatElement(0, count: index - base - words.count + 1))
        }
    }
}
