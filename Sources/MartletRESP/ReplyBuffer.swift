import MartletBase

/// Encodes replies for one client, in the protocol version that the client chose.
///
/// One contiguous buffer that grows by doubling; the reactor sends it once per turn. Aggregates are announced with
/// their element count first; a handler that learns the count only later uses ``deferredAggregate()``.
///
/// - Complexity: every method is amortized O(bytes written).
package struct ReplyBuffer: ~Copyable {
    package private(set) var base: UnsafeMutablePointer<UInt8>
    package private(set) var count = 0
    package private(set) var capacity: Int
    /// True after `HELLO 3`.
    package var isRESP3 = false

    /// Buffers at most this large are kept when they have been sent.
    package static let keptCapacityMax = 64 * 1024
    private static let initialCapacity = 1024

    package init() {
        capacity = Self.initialCapacity
        base = .allocate(capacity: capacity)
    }

    deinit { base.deallocate() }

    package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

    /// Forgets everything; gives memory of a large reply back.
    package mutating func removeAll() {
        count = 0
        if capacity > Self.keptCapacityMax {
            base.deallocate()
            capacity = Self.initialCapacity
            base = .allocate(capacity: capacity)
        }
    }

    /// Moves all bytes of another buffer behind those here; without a copy if there are none. Its protocol version stays.
    package mutating func take(_ other: inout ReplyBuffer) {
        if count == 0 {
            swap(&base, &other.base)
            swap(&count, &other.count)
            swap(&capacity, &other.capacity)
        } else {
            append(other.bytes)
            other.removeAll()
        }
    }

    /// Drops bytes that were sent. - Complexity: O(bytes left)
    package mutating func removePrefix(_ sent: Int) {
        precondition(sent <= count)
        UnsafeMutableRawPointer(base).copyMemory(from: base + sent, byteCount: count - sent)
        count -= sent
    }

    /// Takes back what was written after an earlier `count`.
    package mutating func truncate(to count: Int) {
        precondition(count <= self.count)
        self.count = count
    }

    // MARK: Raw bytes

    @inline(__always)
    package mutating func reserve(_ additional: Int) {
        if count &+ additional > capacity { grow(additional) }
    }

    @inline(never)
    private mutating func grow(_ additional: Int) {
        capacity = max(capacity * 2, count + additional)
        let new = UnsafeMutablePointer<UInt8>.allocate(capacity: capacity)
        new.update(from: base, count: count)
        base.deallocate()
        base = new
    }

    package mutating func append(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress, bytes.count > 0 else { return }
        reserve(bytes.count)
        UnsafeMutableRawPointer(base + count).copyMemory(from: source, byteCount: bytes.count)
        count &+= bytes.count
    }

    /// A text known at compile time. The label keeps a literal from becoming a `String` on the way.
    package mutating func append(literal text: StaticString) {
        append(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    package mutating func append(_ bytes: [UInt8]) { bytes.withUnsafeBytes { append($0) } }

    package mutating func append(_ text: String) {
        var text = text
        text.withUTF8 { append(UnsafeRawBufferPointer($0)) }
    }

    private mutating func append(byte: UInt8) {
        reserve(1)
        base[count] = byte
        count &+= 1
    }

    /// `<prefix><number>\r\n`, and room for so many bytes behind it.
    @inline(__always)
    private mutating func append(prefix: UInt8, _ number: Int64, room: Int = 0) {
        reserve(24 &+ room)
        base[count] = prefix
        count &+= 1 &+ writeDecimal(number, to: base + (count &+ 1))
        endLine()
    }

    /// - Precondition: two bytes are reserved.
    @inline(__always)
    private mutating func endLine() {
        base[count] = 13
        base[count &+ 1] = 10
        count &+= 2
    }

    // MARK: Replies

    package mutating func ok() { append(literal: "+OK\r\n") }

    /// - Parameter text: without line breaks. A literal is taken as a `String`.
    package mutating func simple(_ text: StaticString) {
        append(byte: UInt8(ascii: "+"))
        append(literal: text)
        append(literal: "\r\n")
    }

    package mutating func simple(_ text: String) {
        append(byte: UInt8(ascii: "+"))
        append(text)
        append(literal: "\r\n")
    }

    package mutating func integer(_ number: Int64) { append(prefix: UInt8(ascii: ":"), number) }
    package mutating func integer(_ number: Int) { append(prefix: UInt8(ascii: ":"), Int64(number)) }

    package mutating func bulk(_ bytes: UnsafeRawBufferPointer) {
        append(prefix: UInt8(ascii: "$"), Int64(bytes.count), room: bytes.count &+ 2)
        if let source = bytes.baseAddress, bytes.count > 0 {
            UnsafeMutableRawPointer(base + count).copyMemory(from: source, byteCount: bytes.count)
        }
        count &+= bytes.count
        endLine()
    }

    package mutating func bulk(_ bytes: [UInt8]) { bytes.withUnsafeBytes { bulk($0) } }
    package mutating func bulk(_ text: StaticString) { bulk(text.bytes) }
    package mutating func bulk(_ text: String) {
        var text = text
        text.withUTF8 { bulk(UnsafeRawBufferPointer($0)) }
    }

    /// A number as a bulk string, as GET of a counter answers.
    package mutating func bulk(decimal number: Int64) {
        append(prefix: UInt8(ascii: "$"), Int64(decimalCount(of: number)), room: int64DecimalBytesMax + 2)
        count &+= writeDecimal(number, to: base + count)
        endLine()
    }

    package mutating func bulk(decimal number: UInt64) {
        append(prefix: UInt8(ascii: "$"), Int64(decimalCount(of: number)), room: int64DecimalBytesMax + 2)
        count &+= writeDecimal(number, to: base + count)
        endLine()
    }

    package mutating func null() { append(literal: isRESP3 ? "_\r\n" : "$-1\r\n") }
    package mutating func nullArray() { append(literal: isRESP3 ? "_\r\n" : "*-1\r\n") }

    package mutating func array(_ count: Int) { append(prefix: UInt8(ascii: "*"), Int64(count)) }

    /// Announces `count` pairs; a flat array of twice as many in RESP2.
    package mutating func map(_ count: Int) {
        append(prefix: UInt8(ascii: isRESP3 ? "%" : "*"), Int64(isRESP3 ? count : count * 2))
    }

    package mutating func set(_ count: Int) { append(prefix: UInt8(ascii: isRESP3 ? "~" : "*"), Int64(count)) }

    /// Out-of-band data; an array in RESP2.
    package mutating func push(_ count: Int) { append(prefix: UInt8(ascii: isRESP3 ? ">" : "*"), Int64(count)) }

    package mutating func boolean(_ value: Bool) {
        if isRESP3 { append(literal: value ? "#t\r\n" : "#f\r\n") } else { integer(value ? 1 : 0) }
    }

    /// A double with 17 significant digits; a bulk string in RESP2.
    package mutating func double(_ value: Double) {
        guard isRESP3 else { return bulk(double: value) }
        reserve(doubleBytesMax &+ 3)
        base[count] = UInt8(ascii: ",")
        count &+= 1
        count &+= formatDouble17(value, to: base + count)
        endLine()
    }

    /// A double with 17 significant digits as a bulk string, in RESP3 too.
    package mutating func bulk(double value: Double) {
        reserve(doubleBytesMax &+ 8)
        // Room for `$9\r\n`; a length of two digits moves the text on.
        let length = formatDouble17(value, to: base + (count &+ 4))
        base[count] = UInt8(ascii: "$")
        if length > 9 {
            UnsafeMutableRawPointer(base + (count &+ 5)).copyMemory(from: base + (count &+ 4), byteCount: length)
            base[count &+ 1] = UInt8(ascii: "0") &+ UInt8(truncatingIfNeeded: length / 10)
            count &+= 1
        }
        base[count &+ 1] = UInt8(ascii: "0") &+ UInt8(truncatingIfNeeded: length % 10)
        count &+= 2
        endLine()
        count &+= length
        endLine()
    }

    /// A double; a bulk string in RESP2. - Parameter text: its decimal form.
    package mutating func double(text: UnsafeRawBufferPointer) {
        guard isRESP3 else { return bulk(text) }
        append(byte: UInt8(ascii: ","))
        append(text)
        append(literal: "\r\n")
    }

    /// A double; a bulk string in RESP2. - Parameter text: its decimal form.
    package mutating func double(text: String) {
        if isRESP3 {
            append(byte: UInt8(ascii: ","))
            append(text)
            append(literal: "\r\n")
        } else {
            bulk(text)
        }
    }

    /// An integer of any size; a bulk string in RESP2. - Parameter digits: its decimal form.
    package mutating func bigNumber(_ digits: String) {
        guard isRESP3 else { return bulk(digits) }
        append(byte: UInt8(ascii: "("))
        append(digits)
        append("\r\n")
    }

    /// Announces `count` pairs that say something about the reply behind them. - Precondition: RESP3.
    package mutating func attribute(_ count: Int) {
        precondition(isRESP3)
        append(prefix: UInt8(ascii: "|"), Int64(count))
    }

    /// Text for people, `txt` or `mkd`; a bulk string in RESP2. - Parameter format: three bytes.
    package mutating func verbatim(_ text: [UInt8], format: StaticString = "txt") {
        guard isRESP3 else { return bulk(text) }
        append(prefix: UInt8(ascii: "="), Int64(text.count + 4))
        append(literal: format)
        append(byte: UInt8(ascii: ":"))
        append(text)
        append(literal: "\r\n")
    }

    package mutating func verbatim(_ text: String, format: StaticString = "txt") {
        verbatim(Array(text.utf8), format: format)
    }

    package mutating func error(_ error: ReplyError) {
        append(byte: UInt8(ascii: "-"))
        switch error {
        case .text(let text): append(literal: text)
        case .message(let text):
            for scalar in text.unicodeScalars {
                if let byte = ReplyError.byte(of: scalar) {
                    append(byte: byte)
                } else {
                    // A line break inside would end the reply early.
                    for byte in UTF8.encode(scalar).unsafelyUnwrapped {
                        append(byte: byte == 13 || byte == 10 ? 32 : byte)
                    }
                }
            }
        }
        append(literal: "\r\n")
    }

    // MARK: Aggregates of unknown length

    /// Where an aggregate starts whose count is not known yet.
    package struct Deferred { fileprivate let position: Int }

    package mutating func deferredAggregate() -> Deferred { Deferred(position: count) }

    package mutating func endArray(_ start: Deferred, count elements: Int) {
        let end = count
        array(elements)
        rotate(start.position, end)
    }

    package mutating func endSet(_ start: Deferred, count elements: Int) {
        let end = count
        set(elements)
        rotate(start.position, end)
    }

    /// The end of an aggregate of so many pairs.
    package mutating func endMap(_ start: Deferred, count pairs: Int) {
        let end = count
        map(pairs)
        rotate(start.position, end)
    }

    /// Moves what was written behind `end`, 64 bytes at most, to an earlier place.
    package mutating func moveToFront(_ start: Deferred, from end: Int) { rotate(start.position, end) }

    /// Puts the header, which was written behind the elements, in front of them.
    private func rotate(_ position: Int, _ end: Int) {
        let headerCount = count - end
        precondition(headerCount <= 64)
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 64) { header in
            for index in 0..<headerCount { header[index] = base[end + index] }
            let elements = UnsafeMutableRawPointer(base + position)
            (elements + headerCount).copyMemory(from: elements, byteCount: end - position)
            for index in 0..<headerCount { base[position + index] = header[index] }
        }
    }
}
