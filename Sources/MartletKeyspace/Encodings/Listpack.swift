import Glibc
import MartletBase

// A listpack: a short list of strings and integers in one block of memory. Small hashes and sorted sets are one, lists
// and streams are made of several. The bytes are those of Redis 7.0, because DUMP, RDB files and replicas carry them as
// they are.
//
//      0   UInt32  bytes of the whole, header and end mark included
//      4   UInt16  count of elements; 65535 stands for any count from there on
//      6   elements
//      …   0xFF    end mark
//
// An element is its encoding and, for walks from the end, the length of that encoding ("backlen" in Redis). What is the
// canonical decimal form of an integer is stored as one:
//
//      0iiiiiii                          integer from 0 to 127
//      110iiiii iiiiiiii                 signed integer of 13 bits, high bits first
//      F1, F2, F3, F4 and 2, 3, 4, 8 B   signed integer of 16, 24, 32, 64 bits, low byte first
//      10cccccc bytes                    string of up to 63 bytes
//      1110cccc cccccccc bytes           string of up to 4095 bytes
//      F0, UInt32, bytes                 longer string
//
// The length behind it has one to five bytes of seven bits each, high bits first. It is read from its last byte: the
// highest bit of a byte says that there is one more before it.
//
// What writes here writes the shortest form, but what reads takes any form that ``isValid(_:deep:)`` lets pass: bytes
// from outside must pass it, with `deep`, before anything else looks at them. Every machine that runs Swift stores the
// low byte first, so words are loaded and stored as they are.
//
// Source: listpack.c of Redis 7.0.

/// A view of a listpack. The block belongs to whoever made it, until ``destroy()``.
///
/// A position is the offset of an element. A change leaves the positions before it and its own as they are.
package struct Listpack {
    package private(set) var pointer: UnsafeMutableRawPointer

    static let headerBytes = 6
    static let emptyBytes = headerBytes + 1
    static let endMark: UInt8 = 0xFF
    /// Strings of fewer bytes have a lead byte that tells how many.
    fileprivate static let shortCount = 64
    /// How far ahead of the element that is looked at a search fetches.
    private static let bytesAhead = 512
    /// In the header: may be any count from this on.
    static let unknownCount = 65535

    /// No listpack shall be larger: owners convert or split before. (LISTPACK_MAX_SAFETY_SIZE)
    package static let bytesMax = 1 << 30

    package init(_ pointer: UnsafeMutableRawPointer) { self.pointer = pointer }

    // MARK: Life

    /// An empty listpack.
    package static func make() -> Listpack {
        let pointer = Memory.allocate(emptyBytes)
        pointer.storeBytes(of: UInt32(emptyBytes), as: UInt32.self)
        pointer.storeBytes(of: 0, toByteOffset: 4, as: UInt16.self)
        pointer.storeBytes(of: endMark, toByteOffset: headerBytes, as: UInt8.self)
        return Listpack(pointer)
    }

    /// - Precondition: the bytes are a listpack's.
    package init(copying bytes: UnsafeRawBufferPointer) {
        precondition(bytes.count >= Self.emptyBytes)
        precondition(Int(bytes.loadUnaligned(as: UInt32.self)) == bytes.count, "the header tells the size of the block")
        pointer = Memory.allocate(bytes.count)
        pointer.copyMemory(from: bytes.baseAddress.unsafelyUnwrapped, byteCount: bytes.count)
    }

    package func destroy() { Memory.free(pointer, byteCount) }

    // MARK: Measures

    /// The whole, header and end mark included.
    @inline(__always) package var byteCount: Int { Int(pointer.loadUnaligned(as: UInt32.self)) }

    package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: pointer, count: byteCount) }

    package var isEmpty: Bool { byteCount == Self.emptyBytes }

    var storedCount: Int { Int(pointer.loadUnaligned(fromByteOffset: 4, as: UInt16.self)) }

    /// How many elements there are. - Complexity: O(1); O(n) above 65534 elements
    package var count: Int {
        let stored = storedCount
        if stored != Self.unknownCount { return stored }
        var count = 0
        var position = first
        while let current = position {
            count += 1
            position = next(after: current)
        }
        return count
    }

    /// Whether a listpack, or a new one, may grow by so many bytes. (lpSafeToAdd)
    package static func safeToAdd(_ addedBytes: Int, to listpack: Listpack?) -> Bool {
        addedBytes <= bytesMax - (listpack?.byteCount ?? 0)
    }

    /// Bytes that a string would take. - Complexity: O(1)
    package static func encodedBytes(of bytes: UnsafeRawBufferPointer) -> Int { Element(bytes).entryBytes }

    // MARK: Walk

    @inline(__always)
    private func isEnd(_ position: Int) -> Bool {
        pointer.load(fromByteOffset: position, as: UInt8.self) == Self.endMark
    }

    /// The offset of the end mark: where the next element would be appended.
    private var end: Int { byteCount &- 1 }

    /// - Complexity: O(1)
    @inline(__always)
    package var first: Int? { isEnd(Self.headerBytes) ? nil : Self.headerBytes }

    /// - Complexity: O(1)
    package var last: Int? { previous(before: end) }

    /// - Complexity: O(1)
    @inline(__always)
    package func next(after position: Int) -> Int? {
        let next = position &+ entryBytes(at: position)
        return isEnd(next) ? nil : next
    }

    /// - Complexity: O(1)
    package func previous(before position: Int) -> Int? {
        if position == Self.headerBytes { return nil }
        let length = Self.backLength(before: pointer + position)
        precondition(length > 0, "an element has a length")
        let previous = position - length - Self.backLengthBytes(length)
        precondition(previous >= Self.headerBytes, "the length is that of an element")
        return previous
    }

    /// The position of an element by its number; those below zero count from the end, where -1 is the last.
    ///
    /// - Returns: nil if there is no such element.
    /// - Complexity: O(n), from the nearer end
    package func position(at index: Int) -> Int? {
        var stepsForward = index
        var stepsBack = -1 - index
        let stored = storedCount
        if stored != Self.unknownCount {
            if index < 0 { stepsForward = stored + index }
            guard stepsForward >= 0, stepsForward < stored else { return nil }
            stepsBack = stored - 1 - stepsForward
        }
        if stepsForward >= 0, stepsForward <= stepsBack || stepsBack < 0 {
            var position = first
            while stepsForward > 0, let current = position {
                position = next(after: current)
                stepsForward -= 1
            }
            return position
        }
        var position = last
        while stepsBack > 0, let current = position {
            position = previous(before: current)
            stepsBack -= 1
        }
        return position
    }

    // MARK: Read

    /// - Complexity: O(1)
    @inline(__always)
    package func value(at position: Int) -> StringView {
        var entryBytes = 0
        return Self.decode(pointer + position, &entryBytes)
    }

    /// The value of an element; the position moves on to the next one. This is the cheapest way to walk.
    ///
    /// - Parameter position: of an element, or that of the end mark: what follows the last element, or the header of an
    ///   empty listpack.
    /// - Returns: nil at the end mark.
    @inline(__always)
    package func read(_ position: inout Int) -> StringView? {
        if isEnd(position) { return nil }
        var entryBytes = 0
        let value = Self.decode(pointer + position, &entryBytes)
        position &+= entryBytes
        return value
    }

    /// Whether an element is this string.
    @inline(__always)
    package func equals(_ position: Int, _ bytes: UnsafeRawBufferPointer) -> Bool {
        switch value(at: position) {
        case .bytes(let stored): return Self.areEqual(stored, bytes)
        case .integer(let stored): return parseInt64(bytes) == stored
        }
    }

    @inline(__always)
    private static func areEqual(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) -> Bool {
        let count = first.count
        guard count == second.count else { return false }
        if count == 0 { return true }
        return memcmp(first.baseAddress.unsafelyUnwrapped, second.baseAddress.unsafelyUnwrapped, count) == 0
    }

    /// The first element equal to a string, from a position on.
    ///
    /// - Parameter skip: how many elements to pass over between those that are compared: 1 where fields and values, or
    ///   members and scores, alternate.
    /// - Complexity: O(n)
    package func find(_ bytes: UnsafeRawBufferPointer, from position: Int?, skipping skip: Int) -> Int? {
        guard var position else { return nil }
        let integer = parseInt64(bytes)
        if integer == nil, bytes.count > 0, bytes.count < Self.shortCount {
            return findShort(bytes, from: position, skipping: skip)
        }
        while !isEnd(position) {
            var entryBytes = 0
            switch Self.decode(pointer + position, &entryBytes) {
            case .bytes(let stored): if Self.areEqual(stored, bytes) { return position }
            case .integer(let stored): if stored == integer { return position }
            }
            position = pass(skip, behind: position &+ entryBytes)
        }
        return nil
    }

    /// The position behind so many elements, or that of the end.
    @inline(__always)
    private func pass(_ count: Int, behind position: Int) -> Int {
        var position = position
        var rest = count
        while rest > 0, !isEnd(position) {
            position &+= entryBytes(at: position)
            rest &-= 1
        }
        return position
    }

    /// ``find(_:from:skipping:)`` for a string whose lead byte tells its length. Names in one value often have one length
    /// and begin alike: so the lead byte and the last eight bytes are compared, and only then the rest.
    ///
    /// The eight bytes before the end of an element's string lie in the listpack, whose header has six.
    private func findShort(_ bytes: UnsafeRawBufferPointer, from position: Int, skipping skip: Int) -> Int? {
        let count = bytes.count
        let lead = 0x80 | UInt8(truncatingIfNeeded: count)
        var (tail, mask) = (UInt64(0), ~UInt64(0))
        let sought = bytes.baseAddress.unsafelyUnwrapped
        if count >= 8 {
            tail = sought.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self)
        } else {
            for byte in bytes.reversed() { tail = tail &<< 8 | UInt64(byte) }
            tail &<<= UInt64(8 &* (8 &- count))
            mask &<<= UInt64(8 &* (8 &- count))
        }
        var position = position
        while true {
            let element = pointer + position
            let found = element.load(as: UInt8.self)
            prefetch(element + Self.bytesAhead)
            if found == lead {
                let end = (element + (count &- 7)).loadUnaligned(as: UInt64.self)
                if end & mask == tail, count <= 8 || memcmp(element + 1, sought, count &- 8) == 0 { return position }
                position &+= count &+ 2
            } else if found == Self.endMark {
                return nil
            } else {
                position &+= entryBytes(at: position)
            }
            position = pass(skip, behind: position)
        }
    }

    // MARK: Add
    //
    // What is added must not lie in the listpack itself, which may move.

    /// Appends a string; one that is a canonical integer is stored as an integer.
    ///
    /// - Complexity: O(bytes), and one reallocation at most; so are all changes
    package mutating func append(_ bytes: UnsafeRawBufferPointer) { append(Element(bytes)) }

    package mutating func append(integer: Int64) { append(Element(integer: integer)) }

    package mutating func append(_ element: Element) { insert(element, at: end) }

    /// Appends a field and its value, with one reallocation.
    package mutating func append(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) {
        append(Element(first), Element(second))
    }

    package mutating func append(_ first: Element, _ second: Element) { insert(first, second, at: end) }

    package mutating func prepend(_ bytes: UnsafeRawBufferPointer) { prepend(Element(bytes)) }

    package mutating func prepend(_ element: Element) { insert(element, at: Self.headerBytes) }

    package mutating func insert(_ bytes: UnsafeRawBufferPointer, before position: Int) {
        insert(Element(bytes), before: position)
    }

    package mutating func insert(_ element: Element, before position: Int) { insert(element, at: position) }

    /// Inserts a member and its score, with one reallocation.
    package mutating func insert(_ first: Element, _ second: Element, before position: Int) {
        insert(first, second, at: position)
    }

    package mutating func insert(_ bytes: UnsafeRawBufferPointer, after position: Int) {
        insert(Element(bytes), after: position)
    }

    package mutating func insert(_ element: Element, after position: Int) {
        insert(element, at: position + entryBytes(at: position))
    }

    private mutating func insert(_ element: Element, at position: Int) {
        splice(at: position, removing: 0, adding: element.entryBytes, countChange: 1)
        element.write(to: pointer + position)
    }

    private mutating func insert(_ first: Element, _ second: Element, at position: Int) {
        let firstBytes = first.entryBytes
        splice(at: position, removing: 0, adding: firstBytes + second.entryBytes, countChange: 2)
        first.write(to: pointer + position)
        second.write(to: pointer + position + firstBytes)
    }

    /// Appends the elements of another listpack, which stays as it is. (lpMerge)
    ///
    /// - Precondition: it is another one indeed.
    /// - Complexity: O(bytes), and one reallocation at most
    package mutating func append(contentsOf other: Listpack) {
        let added = other.byteCount - Self.emptyBytes
        let position = end
        splice(at: position, removing: 0, adding: added, countChange: other.count)
        (pointer + position).copyMemory(from: other.pointer + Self.headerBytes, byteCount: added)
    }

    // MARK: Replace and remove

    /// The new element has the position of the old one.
    package mutating func replace(at position: Int, with bytes: UnsafeRawBufferPointer) {
        replace(at: position, with: Element(bytes))
    }

    package mutating func replace(at position: Int, withInteger integer: Int64) {
        replace(at: position, with: Element(integer: integer))
    }

    package mutating func replace(at position: Int, with element: Element) {
        splice(at: position, removing: entryBytes(at: position), adding: element.entryBytes, countChange: 0)
        element.write(to: pointer + position)
    }

    /// - Returns: the position of the element that followed, which is the same; nil at the end.
    @discardableResult
    package mutating func remove(at position: Int) -> Int? { removeRange(from: position, count: 1) }

    /// Removes up to `count` elements.
    ///
    /// - Returns: the position of the element that followed, which is the same; nil at the end.
    @discardableResult
    package mutating func removeRange(from position: Int, count: Int) -> Int? {
        var (tail, removed) = (position, 0)
        while removed < count, !isEnd(tail) {
            tail &+= entryBytes(at: tail)
            removed += 1
        }
        splice(at: position, removing: tail - position, adding: 0, countChange: -removed)
        return isEnd(position) ? nil : position
    }

    /// Removes up to `count` elements from the one with this number on, which may count from the end; none if there is
    /// no such element. (lpDeleteRange)
    package mutating func removeRange(at index: Int, count: Int) {
        guard count > 0, let position = position(at: index) else { return }
        let stored = storedCount
        let start = index < 0 ? stored + index : index
        if stored != Self.unknownCount, count >= stored - start {
            // All of the rest: no need to walk through it.
            splice(at: position, removing: end - position, adding: 0, countChange: start - stored)
        } else {
            removeRange(from: position, count: count)
        }
    }

    /// Moves what lies behind the removed bytes so that there is room for the added ones, and updates the header.
    ///
    /// - Parameter countChange: elements that come, or minus those that go.
    private mutating func splice(at position: Int, removing removed: Int, adding added: Int, countChange: Int) {
        let oldBytes = byteCount
        let newBytes = oldBytes + added - removed
        precondition(position >= Self.headerBytes)
        precondition(position + removed < oldBytes, "the end mark stays")
        if newBytes != oldBytes {
            precondition(newBytes <= UInt32.max, "owners ask safeToAdd before")
            if newBytes > oldBytes { pointer = Memory.reallocate(pointer, from: oldBytes, to: newBytes) }
            let tail = pointer + position + removed
            (pointer + position + added).copyMemory(from: tail, byteCount: oldBytes - position - removed)
            if newBytes < oldBytes { pointer = Memory.reallocate(pointer, from: oldBytes, to: newBytes) }
            pointer.storeBytes(of: UInt32(newBytes), as: UInt32.self)
        }
        let stored = storedCount
        guard countChange != 0, stored != Self.unknownCount else { return }
        let count = min(stored + countChange, Self.unknownCount)
        pointer.storeBytes(of: UInt16(count), toByteOffset: 4, as: UInt16.self)
    }
}

// MARK: - Elements

extension Listpack {
    /// A value in the form in which a listpack stores it.
    ///
    /// Callers that need the size of a value before they add it make one of these, so that the value is parsed once.
    package struct Element {
        /// A string is never a canonical integer here.
        package let value: StringView
        /// Without the length behind it.
        private let encodedBytes: Int

        package init(_ bytes: UnsafeRawBufferPointer) {
            if let integer = parseInt64(bytes) {
                self.init(integer: integer)
            } else {
                let headerBytes = bytes.count < Listpack.shortCount ? 1 : bytes.count < 4096 ? 2 : 5
                self.init(.bytes(bytes), encodedBytes: headerBytes &+ bytes.count)
            }
        }

        package init(integer: Int64) {
            let encodedBytes =
                switch integer {
                case 0...127: 1
                case -4096...4095: 2
                case -0x8000...0x7FFF: 3
                case -0x80_0000...0x7F_FFFF: 4
                case -0x8000_0000...0x7FFF_FFFF: 5
                default: 9
                }
            self.init(.integer(integer), encodedBytes: encodedBytes)
        }

        private init(_ value: StringView, encodedBytes: Int) {
            self.value = value
            self.encodedBytes = encodedBytes
        }

        package init(_ value: StringView) {
            switch value {
            case .bytes(let bytes): self.init(bytes)
            case .integer(let integer): self.init(integer: integer)
            }
        }

        /// Bytes in the listpack, the length behind the encoding included.
        package var entryBytes: Int { encodedBytes &+ Listpack.backLengthBytes(encodedBytes) }

        /// - Precondition: there is room for ``entryBytes``.
        func write(to target: UnsafeMutableRawPointer) {
            switch value {
            case .bytes(let bytes):
                let headerBytes = encodedBytes - bytes.count
                switch headerBytes {
                case 1: target.storeBytes(of: 0x80 | UInt8(bytes.count), as: UInt8.self)
                case 2: target.storeBytes(of: UInt16(0xE000 | bytes.count).bigEndian, as: UInt16.self)
                default:
                    target.storeBytes(of: 0xF0, as: UInt8.self)
                    target.storeBytes(of: UInt32(bytes.count), toByteOffset: 1, as: UInt32.self)
                }
                if let base = bytes.baseAddress {
                    (target + headerBytes).copyMemory(from: base, byteCount: bytes.count)
                }
            case .integer(let integer):
                switch encodedBytes {
                case 1: target.storeBytes(of: UInt8(integer), as: UInt8.self)
                case 2:
                    let bits = UInt16(truncatingIfNeeded: integer) & 0x1FFF
                    target.storeBytes(of: (0xC000 | bits).bigEndian, as: UInt16.self)
                case 3:
                    target.storeBytes(of: 0xF1, as: UInt8.self)
                    target.storeBytes(of: Int16(integer), toByteOffset: 1, as: Int16.self)
                case 4:
                    // The lead byte and three bytes of the integer.
                    let bits = UInt32(truncatingIfNeeded: integer) &<< 8
                    target.storeBytes(of: 0xF2 | bits, as: UInt32.self)
                case 5:
                    target.storeBytes(of: 0xF3, as: UInt8.self)
                    target.storeBytes(of: Int32(integer), toByteOffset: 1, as: Int32.self)
                default:
                    target.storeBytes(of: 0xF4, as: UInt8.self)
                    target.storeBytes(of: integer, toByteOffset: 1, as: Int64.self)
                }
            }
            Listpack.writeBackLength(encodedBytes, to: target + encodedBytes)
        }
    }

    /// Bytes of an element, the length behind the encoding included.
    @inline(__always)
    private func entryBytes(at position: Int) -> Int {
        var entryBytes = 0
        _ = Self.decode(pointer + position, &entryBytes)
        return entryBytes
    }

    /// - Parameter entryBytes: how far away the next element is.
    @inline(__always)
    private static func decode(_ element: UnsafeRawPointer, _ entryBytes: inout Int) -> StringView {
        let lead = element.load(as: UInt8.self)
        if lead < 0x80 {
            entryBytes = 2
            return .integer(Int64(lead))
        }
        if lead < 0xC0 {
            let count = Int(lead & 0x3F)
            entryBytes = count &+ 2
            return .bytes(UnsafeRawBufferPointer(start: element + 1, count: count))
        }
        if lead < 0xE0 {
            entryBytes = 3
            let bits = UInt16(bigEndian: element.loadUnaligned(as: UInt16.self))
            return .integer(Int64(Int16(bitPattern: bits &<< 3) &>> 3))
        }
        if lead < 0xF0 {
            let count = Int(UInt16(bigEndian: element.loadUnaligned(as: UInt16.self)) & 0x0FFF)
            entryBytes = count &+ 2 &+ backLengthBytes(count &+ 2)
            return .bytes(UnsafeRawBufferPointer(start: element + 2, count: count))
        }
        switch lead {
        case 0xF0:
            let count = Int(element.loadUnaligned(fromByteOffset: 1, as: UInt32.self))
            entryBytes = count &+ 5 &+ backLengthBytes(count &+ 5)
            return .bytes(UnsafeRawBufferPointer(start: element + 5, count: count))
        case 0xF1:
            entryBytes = 4
            return .integer(Int64(element.loadUnaligned(fromByteOffset: 1, as: Int16.self)))
        case 0xF2:
            entryBytes = 5
            // The lead byte is shifted out.
            return .integer(Int64(element.loadUnaligned(as: Int32.self) &>> 8))
        case 0xF3:
            entryBytes = 6
            return .integer(Int64(element.loadUnaligned(fromByteOffset: 1, as: Int32.self)))
        case 0xF4:
            entryBytes = 10
            return .integer(element.loadUnaligned(fromByteOffset: 1, as: Int64.self))
        default: preconditionFailure("no element of a valid listpack begins so")
        }
    }

    // MARK: Back lengths

    /// Bytes that the length behind an encoding takes. Each step but the first comes one earlier than it had to.
    @inline(__always)
    static func backLengthBytes(_ length: Int) -> Int {
        if length <= 127 { return 1 }
        if length < 16383 { return 2 }
        if length < 2_097_151 { return 3 }
        if length < 268_435_455 { return 4 }
        return 5
    }

    @inline(__always)
    static func writeBackLength(_ length: Int, to target: UnsafeMutableRawPointer) {
        if length <= 127 { return target.storeBytes(of: UInt8(length), as: UInt8.self) }
        var rest = length
        var index = backLengthBytes(length) &- 1
        while index > 0 {
            target.storeBytes(of: UInt8(truncatingIfNeeded: rest) | 0x80, toByteOffset: index, as: UInt8.self)
            rest &>>= 7
            index &-= 1
        }
        target.storeBytes(of: UInt8(truncatingIfNeeded: rest), as: UInt8.self)
    }

    /// The length that ends before an address: at most five bytes are read. - Returns: -1 if there are more.
    @inline(__always)
    static func backLength(before end: UnsafeRawPointer) -> Int {
        var length = 0
        var shift = 0
        var place = end - 1
        while shift <= 28 {
            let byte = place.load(as: UInt8.self)
            length |= Int(byte & 0x7F) &<< shift
            if byte < 0x80 { return length }
            shift &+= 7
            place -= 1
        }
        return -1
    }
}

extension Listpack {
    /// The values from the first to the last. - Precondition: the listpack does not change while they are walked through.
    @inline(__always) package var values: Values { Values(self) }

    package struct Values: Sequence, IteratorProtocol {
        private let listpack: Listpack
        private var position = Listpack.headerBytes

        fileprivate init(_ listpack: Listpack) { self.listpack = listpack }

        @inline(__always)
        package mutating func next() -> StringView? { listpack.read(&position) }
    }
}
