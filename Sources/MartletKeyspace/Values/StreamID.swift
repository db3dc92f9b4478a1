import MartletBase

/// The ID of an entry of a stream: milliseconds of Unix time and a number that tells apart what came in the same one.
/// Written `<milliseconds>-<sequence>`.
package struct StreamID: Equatable, Comparable, Hashable, Sendable {
    package var milliseconds: UInt64
    package var sequence: UInt64

    @inline(__always)
    package init(milliseconds: UInt64, sequence: UInt64) {
        self.milliseconds = milliseconds
        self.sequence = sequence
    }

    /// No entry has it.
    package static let zero = StreamID(milliseconds: 0, sequence: 0)
    package static let max = StreamID(milliseconds: .max, sequence: .max)

    @inline(__always)
    package static func < (left: StreamID, right: StreamID) -> Bool {
        left.milliseconds != right.milliseconds
            ? left.milliseconds < right.milliseconds : left.sequence < right.sequence
    }

    @inline(__always) package var isZero: Bool { milliseconds | sequence == 0 }

    /// Nil after the last possible ID.
    package var next: StreamID? {
        if sequence < .max { return StreamID(milliseconds: milliseconds, sequence: sequence + 1) }
        return milliseconds < .max ? StreamID(milliseconds: milliseconds + 1, sequence: 0) : nil
    }

    /// Nil before the first possible ID.
    package var previous: StreamID? {
        if sequence > 0 { return StreamID(milliseconds: milliseconds, sequence: sequence - 1) }
        return milliseconds > 0 ? StreamID(milliseconds: milliseconds - 1, sequence: .max) : nil
    }

    // MARK: Text

    /// Room for any ID: twice 20 digits and a dash.
    package static let textBytesMax = 41

    /// Writes the ID as text, at a place with room for ``textBytesMax`` bytes. - Returns: how many it took.
    package func write(to room: UnsafeMutableRawPointer) -> Int {
        let count = writeDecimal(milliseconds, to: room)
        room.storeBytes(of: UInt8(ascii: "-"), toByteOffset: count, as: UInt8.self)
        return count &+ 1 &+ writeDecimal(sequence, to: room + count + 1)
    }

    /// Runs with the ID as text.
    package func withText<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        withUnsafeTemporaryAllocation(byteCount: Self.textBytesMax, alignment: 8) { room in
            let count = write(to: room.baseAddress.unsafelyUnwrapped)
            return body(UnsafeRawBufferPointer(start: room.baseAddress, count: count))
        }
    }

    /// What a client wrote. (streamGenericParseIDOrReply)
    package struct Parsed {
        package var id: StreamID
        /// It was `<milliseconds>-*`: the sequence is to be chosen.
        package var choosesSequence = false
    }

    /// Reads `<milliseconds>-<sequence>`, or milliseconds alone.
    ///
    /// - Parameters:
    ///   - missingSequence: what a missing sequence stands for.
    ///   - allowsEnds: `-` and `+` stand for the lowest and the highest ID.
    ///   - allowsChoice: `<milliseconds>-*` is allowed.
    /// - Returns: nil if it is no ID.
    package static func parse(
        _ text: UnsafeRawBufferPointer, missingSequence: UInt64 = 0, allowsEnds: Bool = false,
        allowsChoice: Bool = false
    ) -> Parsed? {
        guard text.count <= 127 else { return nil }
        // As in C, a zero ends the text.
        var count = 0
        var dash: Int?
        while count < text.count, text[count] != 0 {
            if dash == nil, text[count] == UInt8(ascii: "-") { dash = count }
            count += 1
        }
        if count == 1, text[0] == UInt8(ascii: "-") { return allowsEnds ? Parsed(id: .zero) : nil }
        if count == 1, text[0] == UInt8(ascii: "+") { return allowsEnds ? Parsed(id: .max) : nil }
        guard let milliseconds = number(UnsafeRawBufferPointer(rebasing: text[..<(dash ?? count)])) else { return nil }
        guard let dash else {
            return Parsed(id: StreamID(milliseconds: milliseconds, sequence: missingSequence))
        }
        let rest = UnsafeRawBufferPointer(rebasing: text[(dash + 1)..<count])
        if allowsChoice, rest.count == 1, rest[0] == UInt8(ascii: "*") {
            return Parsed(id: StreamID(milliseconds: milliseconds, sequence: 0), choosesSequence: true)
        }
        guard let sequence = number(rest) else { return nil }
        return Parsed(id: StreamID(milliseconds: milliseconds, sequence: sequence))
    }

    /// An unsigned number, by the rules of C when it is not in its canonical form: blanks and a sign in front, leading
    /// zeros. (string2ull)
    private static func number(_ text: UnsafeRawBufferPointer) -> UInt64? {
        if let number = parseUInt64(text) { return number }
        if let negative = parseInt64(text), negative < 0 { return nil }
        var digits = text.drop { $0 == 32 || (9...13).contains($0) }
        let isNegative = digits.first == UInt8(ascii: "-")
        if isNegative || digits.first == UInt8(ascii: "+") { digits = digits.dropFirst() }
        guard !digits.isEmpty else { return nil }
        var number: UInt64 = 0
        for byte in digits {
            let digit = byte &- UInt8(ascii: "0")
            guard digit <= 9 else { return nil }
            let (product, isTooLarge) = number.multipliedReportingOverflow(by: 10)
            let (sum, overflows) = product.addingReportingOverflow(UInt64(digit))
            if isTooLarge || overflows { return nil }
            number = sum
        }
        return isNegative ? 0 &- number : number
    }
}

extension StreamID: CustomStringConvertible {
    package var description: String { "\(milliseconds)-\(sequence)" }
}
