import Glibc
import MartletBase

// A small set of integers: in ascending order, all with the width that the widest of them needs, in one block of memory.
// The bytes are those of Redis 7.0, because DUMP, RDB files and replicas carry them as they are.
//
//      0   UInt32  bytes of each integer: 2, 4 or 8
//      4   UInt32  count of integers
//      8   integers, signed, low byte first
//
// An integer that does not fit the width lies below or above all that do, so that widening and inserting is one pass. The
// set never becomes narrower.
//
// Source: intset.c of Redis 7.0.

/// A view of a set of integers. The block belongs to whoever made it, until ``destroy()``.
package struct IntSet {
    package private(set) var pointer: UnsafeMutableRawPointer

    private static let headerBytes = 8

    package init(_ pointer: UnsafeMutableRawPointer) { self.pointer = pointer }

    // MARK: Life

    /// An empty set.
    package static func make() -> IntSet {
        let pointer = Memory.allocate(headerBytes)
        pointer.storeBytes(of: 2, as: UInt32.self)
        pointer.storeBytes(of: 0, toByteOffset: 4, as: UInt32.self)
        return IntSet(pointer)
    }

    /// - Precondition: the bytes are a set's.
    package init(copying bytes: UnsafeRawBufferPointer) {
        precondition(bytes.count >= Self.headerBytes)
        pointer = Memory.allocate(bytes.count)
        pointer.copyMemory(from: bytes.baseAddress.unsafelyUnwrapped, byteCount: bytes.count)
        precondition(byteCount == bytes.count, "the header tells the size of the block")
    }

    package func destroy() { Memory.free(pointer, byteCount) }

    // MARK: Measures

    /// Bytes of each integer: 2, 4 or 8.
    @inline(__always) package var width: Int { Int(pointer.loadUnaligned(as: UInt32.self)) }

    @inline(__always) package var count: Int { Int(pointer.loadUnaligned(fromByteOffset: 4, as: UInt32.self)) }

    /// The whole, header included.
    package var byteCount: Int { Self.headerBytes + count * width }

    package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: pointer, count: byteCount) }

    private static func width(of value: Int64) -> Int {
        if value == Int64(Int16(truncatingIfNeeded: value)) { return 2 }
        if value == Int64(Int32(truncatingIfNeeded: value)) { return 4 }
        return 8
    }

    // MARK: Read

    /// The integers in ascending order. - Precondition: `index` is from 0 up to ``count``, which is excluded.
    @inline(__always)
    package func at(_ index: Int) -> Int64 {
        precondition(index >= 0 && index < count)
        return load(index, width)
    }

    /// - Precondition: the set is not empty.
    package var min: Int64 { at(0) }

    /// - Precondition: the set is not empty.
    package var max: Int64 { at(count - 1) }

    /// Any of the integers, each with the same chance. - Precondition: the set is not empty.
    package func random(_ prng: inout PRNG) -> Int64 { at(prng.below(count)) }

    /// - Complexity: O(log n)
    package func contains(_ value: Int64) -> Bool {
        Self.width(of: value) <= width && search(value).isFound
    }

    // MARK: Change

    /// - Returns: false if it is there already.
    /// - Complexity: O(n), and one reallocation at most
    package mutating func insert(_ value: Int64) -> Bool {
        let width = width
        let newWidth = Self.width(of: value)
        if newWidth > width {
            insertWidening(value, from: width, to: newWidth)
            return true
        }
        let (index, isFound) = search(value)
        if isFound { return false }
        let count = count
        let oldBytes = byteCount
        pointer = Memory.reallocate(pointer, from: oldBytes, to: oldBytes + width)
        let place = pointer + Self.headerBytes + index * width
        (place + width).copyMemory(from: place, byteCount: (count - index) * width)
        setCount(count + 1)
        store(value, at: index, width)
        return true
    }

    /// - Returns: false if it is not there.
    /// - Complexity: O(n), and one reallocation at most
    package mutating func remove(_ value: Int64) -> Bool {
        let width = width
        guard Self.width(of: value) <= width else { return false }
        let (index, isFound) = search(value)
        guard isFound else { return false }
        let count = count
        let oldBytes = byteCount
        let place = pointer + Self.headerBytes + index * width
        place.copyMemory(from: place + width, byteCount: (count - 1 - index) * width)
        pointer = Memory.reallocate(pointer, from: oldBytes, to: oldBytes - width)
        setCount(count - 1)
        return true
    }

    @inline(never)
    private mutating func insertWidening(_ value: Int64, from oldWidth: Int, to newWidth: Int) {
        let count = count
        pointer = Memory.reallocate(pointer, from: byteCount, to: Self.headerBytes + (count + 1) * newWidth)
        pointer.storeBytes(of: UInt32(newWidth), as: UInt32.self)
        setCount(count + 1)
        let shift = value < 0 ? 1 : 0
        // From the end, so that nothing is overwritten before it is read.
        for index in (0..<count).reversed() { store(load(index, oldWidth), at: index + shift, newWidth) }
        store(value, at: value < 0 ? 0 : count, newWidth)
    }

    // MARK: Integers

    private func setCount(_ count: Int) { pointer.storeBytes(of: UInt32(count), toByteOffset: 4, as: UInt32.self) }

    @inline(__always)
    private func load(_ index: Int, _ width: Int) -> Int64 { Self.load(pointer, index, width) }

    @inline(__always)
    private static func load(_ pointer: UnsafeRawPointer, _ index: Int, _ width: Int) -> Int64 {
        let place = pointer + headerBytes + index &* width
        switch width {
        case 2: return Int64(place.loadUnaligned(as: Int16.self))
        case 4: return Int64(place.loadUnaligned(as: Int32.self))
        default: return place.loadUnaligned(as: Int64.self)
        }
    }

    @inline(__always)
    private func store(_ value: Int64, at index: Int, _ width: Int) {
        let place = pointer + Self.headerBytes + index &* width
        switch width {
        case 2: place.storeBytes(of: Int16(value), as: Int16.self)
        case 4: place.storeBytes(of: Int32(value), as: Int32.self)
        default: place.storeBytes(of: value, as: Int64.self)
        }
    }

    /// Where an integer is, or would have to be inserted. - Precondition: it fits the width.
    @inline(__always)
    private func search(_ value: Int64) -> (index: Int, isFound: Bool) {
        switch width {
        case 2: return lowerBound(Int16(value))
        case 4: return lowerBound(Int32(value))
        default: return lowerBound(value)
        }
    }

    @inline(__always)
    private func lowerBound<Stored: FixedWidthInteger>(_ value: Stored) -> (index: Int, isFound: Bool) {
        let base = pointer + Self.headerBytes
        func stored(_ index: Int) -> Stored {
            base.loadUnaligned(fromByteOffset: index &* MemoryLayout<Stored>.size, as: Stored.self)
        }
        var (low, high) = (0, count)
        // Counters and clocks come in ascending order.
        if high > 0, stored(high &- 1) < value { return (high, false) }
        while low < high {
            let middle = (low &+ high) &>> 1
            if stored(middle) < value { low = middle &+ 1 } else { high = middle }
        }
        return (low, low < count && stored(low) == value)
    }

    // MARK: Bytes from outside

    /// Whether these bytes are a set that is not empty: nothing else reads bytes from outside before this, with `deep`, has
    /// passed them. (intsetValidateIntegrity)
    ///
    /// - Parameter deep: look at the order of the integers, too.
    /// - Complexity: O(1); O(n) if `deep`
    package static func isValid(_ bytes: UnsafeRawBufferPointer, deep: Bool) -> Bool {
        guard bytes.count > headerBytes else { return false }
        let width = Int(bytes.loadUnaligned(as: UInt32.self))
        let count = Int(bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        guard width == 2 || width == 4 || width == 8, bytes.count == headerBytes + count * width else { return false }
        guard deep else { return true }
        let base = bytes.baseAddress.unsafelyUnwrapped
        var previous = load(base, 0, width)
        for index in 1..<count {
            let current = load(base, index, width)
            guard current > previous else { return false }
            previous = current
        }
        return true
    }
}
