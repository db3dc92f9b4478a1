/// Bytes that are appended at the end and consumed from the front, in one contiguous allocation.
///
/// Uniquely owned, so appending never tests for sharing. Consuming only moves an index; the gap in front is closed when
/// room is needed and closing it is cheaper than growing. Not thread safe; not for many small queues (an empty buffer
/// that was used once keeps up to ``keptCapacityMax`` bytes).
///
/// - Complexity: appending and consuming are amortised O(bytes).
package struct ByteBuffer: ~Copyable {
    private var base: UnsafeMutableRawPointer
    private var start = 0
    private var end = 0
    package private(set) var capacity: Int

    /// An emptied buffer gives larger allocations back.
    package static let keptCapacityMax = 256 * 1024
    private static let initialCapacity = 256

    package init(minimumCapacity: Int = 0) {
        capacity = max(minimumCapacity, Self.initialCapacity)
        base = .allocate(byteCount: capacity, alignment: 16)
    }

    deinit { base.deallocate() }

    package var count: Int { end &- start }
    package var isEmpty: Bool { end == start }

    /// What was appended and not yet consumed. Valid until the next mutation.
    package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base + start, count: end &- start) }

    package mutating func append(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress, bytes.count > 0 else { return }
        reserve(bytes.count).copyMemory(from: source, byteCount: bytes.count)
        end &+= bytes.count
    }

    package mutating func append(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { append($0) }
    }

    package mutating func append(_ text: StaticString) {
        append(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    package mutating func append(_ text: String) {
        var text = text
        text.withUTF8 { append(UnsafeRawBufferPointer($0)) }
    }

    package mutating func append(byte: UInt8) {
        reserve(1).storeBytes(of: byte, as: UInt8.self)
        end &+= 1
    }

    /// Room for `count` bytes behind the end; write there, then ``commit(_:)`` what was written.
    @discardableResult
    package mutating func reserve(_ count: Int) -> UnsafeMutableRawPointer {
        if count > capacity &- end { makeRoom(count) }
        return base + end
    }

    /// Adds `count` bytes that were written to reserved room.
    package mutating func commit(_ count: Int) {
        precondition(count >= 0 && count <= capacity &- end)
        end &+= count
    }

    /// Consumes `count` bytes from the front.
    package mutating func removeFirst(_ count: Int) {
        precondition(count >= 0 && count <= end &- start)
        start &+= count
        if start == end { removeAll() }
    }

    /// Takes back what was appended after an earlier ``count``.
    package mutating func truncate(to count: Int) {
        precondition(count >= 0 && count <= self.count)
        end = start &+ count
    }

    package mutating func removeAll() {
        start = 0
        end = 0
        guard capacity > Self.keptCapacityMax else { return }
        base.deallocate()
        capacity = Self.initialCapacity
        base = .allocate(byteCount: capacity, alignment: 16)
    }

    @inline(never)
    private mutating func makeRoom(_ additional: Int) {
        let used = end &- start
        // Moving at most as many bytes as were consumed keeps the total work linear.
        if start >= used, additional <= capacity &- used {
            base.copyMemory(from: base + start, byteCount: used)
        } else {
            let (needed, overflows) = used.addingReportingOverflow(additional)
            precondition(!overflows)
            capacity = max(needed, used &+ used / 2, Self.initialCapacity)
            let new = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
            new.copyMemory(from: base + start, byteCount: used)
            base.deallocate()
            base = new
        }
        start = 0
        end = used
    }
}
