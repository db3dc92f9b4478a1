// Letters, digits and blanks of the protocol and of configuration files: ASCII, whatever the locale.

extension UInt8 {
    /// A to Z become a to z; every other byte stays.
    @inlinable
    package var lowercasedASCII: UInt8 { self >= UInt8(ascii: "A") && self <= UInt8(ascii: "Z") ? self | 0x20 : self }
}

/// The value of a hexadecimal digit, or nil.
@inlinable
package func hexValue(_ byte: UInt8) -> UInt8? {
    switch byte.lowercasedASCII {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte.lowercasedASCII - UInt8(ascii: "a") + 10
    default: nil
    }
}

/// Two lower-case digits for each byte.
package func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
    let digits = Array("0123456789abcdef".utf8)
    return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
}

extension Collection<UInt8> {
    /// Compares with a word in any case of ASCII letters.
    package func equalsIgnoringCase(_ word: some Collection<UInt8>) -> Bool {
        count == word.count && zip(self, word).allSatisfy { $0.lowercasedASCII == $1.lowercasedASCII }
    }

    /// The text in lower case. - Complexity: O(count)
    package var lowercasedASCII: String { String(decoding: map(\.lowercasedASCII), as: UTF8.self) }
}

extension UnsafeRawBufferPointer {
    /// Compares with a word in any case of ASCII letters. - Parameter word: in upper case.
    package func equalsIgnoringCase(_ word: StaticString) -> Bool {
        guard count == word.utf8CodeUnitCount else { return false }
        let other = word.utf8Start
        for index in 0..<count {
            var byte = self[index]
            if byte >= 0x61 && byte <= 0x7A { byte &-= 0x20 }
            if byte != other[index] { return false }
        }
        return true
    }
}

extension ArraySlice<UInt8> {
    /// Without the blanks, tabs and carriage returns around it, as a line of a configuration file is read.
    package var trimmed: ArraySlice<UInt8> {
        func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 || byte == 0x0D }
        guard let last = lastIndex(where: { !isBlank($0) }) else { return [] }
        return self[...last].drop(while: isBlank)
    }
}
