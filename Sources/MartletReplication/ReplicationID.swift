import MartletBase

/// Names one history of a data set: 40 hexadecimal digits, random.
///
/// Two nodes whose ID and offset agree hold the same data. Kept as the digits themselves, lower case, because that is
/// all that is ever done with them: compared and printed.
package struct ReplicationID: Hashable, Sendable, CustomStringConvertible {
    package static let count = 40

    /// The digits, eight to a word.
    private var words: InlineArray<5, UInt64>

    /// What a server shows that has no second ID.
    package static let zero = ReplicationID(words: [UInt64](repeating: 0x3030_3030_3030_3030, count: 5))

    private init(words: [UInt64]) {
        self.words = InlineArray { words[$0] }
    }

    /// A new history.
    package init(using random: inout PRNG) {
        let digits = StaticString("0123456789abcdef").utf8Start
        var bytes = [UInt8](repeating: 0, count: Self.count)
        for index in bytes.indices { bytes[index] = digits[random.below(16)] }
        self.init(validated: bytes)
    }

    /// Reads 40 hexadecimal digits in any case; nil if they are anything else.
    package init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count == Self.count else { return nil }
        var digits = [UInt8](repeating: 0, count: Self.count)
        for (index, byte) in bytes.enumerated() {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"): digits[index] = byte
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digits[index] = byte | 0x20
            default: return nil
            }
        }
        self.init(validated: digits)
    }

    package init?(_ text: String) {
        var text = text
        guard let id = text.withUTF8({ ReplicationID(UnsafeRawBufferPointer($0)) }) else { return nil }
        self = id
    }

    private init(validated digits: [UInt8]) {
        self.init(
            words: digits.withUnsafeBytes { digits in
                (0..<5).map { digits.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self) }
            })
    }

    /// The 40 digits.
    package var bytes: [UInt8] {
        var words = words
        return withUnsafeBytes(of: &words) { Array($0) }
    }

    package var description: String { String(decoding: bytes, as: UTF8.self) }

    package static func == (left: ReplicationID, right: ReplicationID) -> Bool {
        for index in 0..<5 where left.words[index] != right.words[index] { return false }
        return true
    }

    package func hash(into hasher: inout Hasher) {
        for index in 0..<5 { hasher.combine(words[index]) }
    }
}
