import Glibc
import MartletRESP

/// Finds the ends of replies in a stream of bytes and which of them are errors, and keeps nothing of them.
///
/// A load generator does not want the replies, so they are skipped over: a header line is read, a body is jumped over by
/// its length, and of aggregates within aggregates only the count of elements still to come is kept, because that is
/// all their nesting amounts to. A reply may end anywhere and may be cut anywhere; a line that is cut is left in the
/// caller's hands, who presents it again with more bytes behind it. RESP2 and RESP3; pushes are skipped.
package struct ReplyScanner: Sendable {
    package enum Outcome: Equatable, Sendable {
        case reply
        /// An error reply; ``errorText`` says where its text is.
        case error
        /// More bytes are needed: those from the position on are to be presented again, more behind them.
        case incomplete
        case malformed(ReplyProtocolError)
    }

    /// A line, its type byte included.
    package static let lineBytesMax = 64 * 1024
    /// Elements of one reply, nested ones included.
    private static let elementCountMax: Int64 = 1 << 40
    private static let bulkBytesMax: Int64 = 1 << 32

    /// Of a bulk string's body with its line end.
    private var skipCount = 0
    /// Elements that the reply in hand still lacks; 0 between replies.
    private var missingCount: Int64 = 0
    private var isPush = false
    private var isError = false
    /// In the bytes of the call that returned `error`. The text of a blob error is cut to what arrived last.
    package private(set) var errorText = 0..<0

    package init() {}

    /// Goes on from `position` to the end of the next reply.
    package mutating func next(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) -> Outcome {
        guard let base = bytes.baseAddress else { return .incomplete }
        let count = bytes.count
        while true {
            if skipCount > 0 {
                let available = count &- position
                if isError { errorText = position..<position + min(available, max(skipCount - 2, 0)) }
                if available < skipCount {
                    skipCount &-= available
                    position = count
                    return .incomplete
                }
                position &+= skipCount
                skipCount = 0
                if let outcome = endElement() { return outcome }
                continue
            }
            guard position < count else { return .incomplete }
            let type = base.load(fromByteOffset: position, as: UInt8.self)
            switch type {
            case UInt8(ascii: "$"), UInt8(ascii: "*"), UInt8(ascii: ":"), UInt8(ascii: "%"), UInt8(ascii: "~"),
                UInt8(ascii: ">"), UInt8(ascii: "="), UInt8(ascii: "|"), UInt8(ascii: "!"):
                var number: Int64 = 0
                switch Self.readNumber(base, position &+ 1, count, &number) {
                case 0: return lineIsTooLong(count &- position) ? .malformed(.lineTooLong) : .incomplete
                case -1: return .malformed(.invalidNumber)
                case let end: position = end
                }
                if let outcome = header(type, number) { return outcome }
            case UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "#"), UInt8(ascii: ","),
                UInt8(ascii: "("):
                guard let found = memchr(base + position, 10, count &- position) else {
                    return lineIsTooLong(count &- position) ? .malformed(.lineTooLong) : .incomplete
                }
                let end = UnsafeRawPointer(found) - base
                guard base.load(fromByteOffset: end &- 1, as: UInt8.self) == 13 else {
                    return .malformed(.missingLineEnd)
                }
                if type == UInt8(ascii: "-"), missingCount == 0 {
                    errorText = position &+ 1..<end &- 1
                    isError = true
                }
                position = end &+ 1
                if let outcome = endElement() { return outcome }
            default: return .malformed(.unknownType(type))
            }
        }
    }

    /// Takes a header with a number.
    private mutating func header(_ type: UInt8, _ number: Int64) -> Outcome? {
        switch type {
        case UInt8(ascii: ":"): return endElement()
        case UInt8(ascii: "$"), UInt8(ascii: "="), UInt8(ascii: "!"):
            if number == -1, type == UInt8(ascii: "$") { return endElement() }
            guard number >= 0 else { return .malformed(.invalidNumber) }
            guard number <= Self.bulkBytesMax else { return .malformed(.bulkTooLong(number)) }
            if type == UInt8(ascii: "!"), missingCount == 0 { isError = true }
            skipCount = Int(number) &+ 2
            return nil
        default:
            if number == -1, type == UInt8(ascii: "*") { return endElement() }
            guard number >= 0 else { return .malformed(.invalidNumber) }
            guard number <= Self.elementCountMax else { return .malformed(.tooManyElements(number)) }
            let isPaired = type == UInt8(ascii: "%") || type == UInt8(ascii: "|")
            let elementCount = isPaired ? number &* 2 : number
            if type == UInt8(ascii: ">"), missingCount == 0 { isPush = true }
            // An attribute is not an element itself: what it describes is still to come.
            let added = type == UInt8(ascii: "|") ? elementCount &+ (missingCount == 0 ? 1 : 0) : elementCount
            if added == 0 { return type == UInt8(ascii: "|") ? nil : endElement() }
            if missingCount == 0 {
                missingCount = added
            } else {
                missingCount &+= type == UInt8(ascii: "|") ? added : added &- 1
            }
            return missingCount <= Self.elementCountMax ? nil : .malformed(.tooManyElements(missingCount))
        }
    }

    /// One element is complete. Returns the outcome if that completed a reply.
    private mutating func endElement() -> Outcome? {
        if missingCount > 1 {
            missingCount &-= 1
            return nil
        }
        missingCount = 0
        if isPush {
            isPush = false
            return nil
        }
        if isError {
            isError = false
            return .error
        }
        return .reply
    }

    private func lineIsTooLong(_ count: Int) -> Bool { count > Self.lineBytesMax }

    /// Reads the number that starts at `start` and its line end. Returns the index behind them, 0 if they are not all
    /// there, -1 if they are not a number.
    @inline(__always)
    private static func readNumber(
        _ base: UnsafeRawPointer, _ start: Int, _ count: Int, _ number: inout Int64
    ) -> Int {
        var index = start
        var isNegative = false
        if index < count, base.load(fromByteOffset: index, as: UInt8.self) == UInt8(ascii: "-") {
            isNegative = true
            index &+= 1
        }
        // 19 digits fit 64 bits but for the sign bit.
        let end = min(count, index &+ 20)
        let firstDigit = index
        var value: UInt64 = 0
        while index < end {
            let digit = base.load(fromByteOffset: index, as: UInt8.self) &- UInt8(ascii: "0")
            if digit > 9 { break }
            value = value &* 10 &+ UInt64(digit)
            index &+= 1
        }
        if index &- firstDigit == 20 { return -1 }
        if index == count { return 0 }
        guard index > firstDigit, base.load(fromByteOffset: index, as: UInt8.self) == 13 else { return -1 }
        if index &+ 1 == count { return 0 }
        guard base.load(fromByteOffset: index &+ 1, as: UInt8.self) == 10 else { return -1 }
        number = Int64(truncatingIfNeeded: isNegative ? 0 &- value : value)
        return index &+ 2
    }
}
