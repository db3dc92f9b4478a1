// The quoting of redis.conf lines (and of inline commands, MONITOR and logs): words are separated by blanks; "…" takes
// \n \r \t \b \a \xHH and \ before any other byte, '…' takes only \'; a closing quote ends its word.
//
// Source: Redis 7.0 sds.c, `sdssplitargs` and `sdscatrepr`.

/// The words of a line, or nil if quotes are unbalanced or a closing quote is followed by something else than a blank.
///
/// - Complexity: O(count)
package func splitArguments(_ line: some RandomAccessCollection<UInt8>) -> [[UInt8]]? {
    let bytes = Array(line)
    var words: [[UInt8]] = []
    let isBalanced = bytes.withUnsafeBytes { line in
        splitArguments(line, plain: { words.append(Array(line[$0])) }, decoded: { words.append($0) })
    }
    return isBalanced ? words : nil
}

/// The same without a copy of words that have no quotes: of those it tells where they stand.
///
/// - Returns: false if quotes are unbalanced.
package func splitArguments(
    _ line: UnsafeRawBufferPointer, plain: (Range<Int>) -> Void, decoded: ([UInt8]) -> Void
) -> Bool {
    // To C, and so to Redis, the line ends at a zero.
    let bytes = UnsafeRawBufferPointer(rebasing: line.prefix { $0 != 0 })
    var index = 0
    while true {
        while index < bytes.count, isBlank(bytes[index]) { index += 1 }
        guard index < bytes.count else { return true }
        let start = index
        while index < bytes.count, !endsWord(bytes[index]), !isQuote(bytes[index]) { index += 1 }
        guard index < bytes.count, isQuote(bytes[index]) else {
            plain(start..<index)
            continue
        }
        var word = Array(bytes[start..<index])
        let unquote = bytes[index] == UInt8(ascii: "'") ? unquoteSingle : unquoteDouble
        guard let end = unquote(bytes, index + 1, &word) else { return false }
        decoded(word)
        index = end
    }
}

/// Appends the text up to the closing quote; the index behind that quote.
private func unquoteDouble(_ bytes: UnsafeRawBufferPointer, _ start: Int, _ word: inout [UInt8]) -> Int? {
    var index = start
    while index < bytes.count {
        let byte = bytes[index]
        if byte == UInt8(ascii: "\"") {
            return isWordEnd(bytes, at: index + 1) ? index + 1 : nil
        }
        guard byte == UInt8(ascii: "\\"), index + 1 < bytes.count else {
            word.append(byte)
            index += 1
            continue
        }
        let escaped = bytes[index + 1]
        if escaped == UInt8(ascii: "x"), index + 3 < bytes.count,
            let high = hexValue(bytes[index + 2]), let low = hexValue(bytes[index + 3])
        {
            word.append(high << 4 | low)
            index += 4
            continue
        }
        switch escaped {
        case UInt8(ascii: "n"): word.append(0x0A)
        case UInt8(ascii: "r"): word.append(0x0D)
        case UInt8(ascii: "t"): word.append(0x09)
        case UInt8(ascii: "b"): word.append(0x08)
        case UInt8(ascii: "a"): word.append(0x07)
        default: word.append(escaped)
        }
        index += 2
    }
    return nil
}

/// Appends the text up to the closing quote; the index behind that quote.
private func unquoteSingle(_ bytes: UnsafeRawBufferPointer, _ start: Int, _ word: inout [UInt8]) -> Int? {
    var index = start
    while index < bytes.count {
        if bytes[index] == UInt8(ascii: "\\"), index + 1 < bytes.count, bytes[index + 1] == UInt8(ascii: "'") {
            word.append(UInt8(ascii: "'"))
            index += 2
        } else if bytes[index] == UInt8(ascii: "'") {
            return isWordEnd(bytes, at: index + 1) ? index + 1 : nil
        } else {
            word.append(bytes[index])
            index += 1
        }
    }
    return nil
}

/// `bytes` in double quotes, so that ``splitArguments(_:)`` gives them back.
package func quotedArgument(_ bytes: some Sequence<UInt8>) -> [UInt8] {
    var result: [UInt8] = [UInt8(ascii: "\"")]
    for byte in bytes {
        switch byte {
        case UInt8(ascii: "\\"), UInt8(ascii: "\""): result += [UInt8(ascii: "\\"), byte]
        case 0x0A: result += Array("\\n".utf8)
        case 0x0D: result += Array("\\r".utf8)
        case 0x09: result += Array("\\t".utf8)
        case 0x07: result += Array("\\a".utf8)
        case 0x08: result += Array("\\b".utf8)
        case 0x20...0x7E: result.append(byte)
        default: result += Array("\\x\(hexadecimal([byte]))".utf8)
        }
    }
    result.append(UInt8(ascii: "\""))
    return result
}

/// C's `isspace`.
private func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || (byte >= 0x09 && byte <= 0x0D) }

private func isQuote(_ byte: UInt8) -> Bool { byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") }

/// Whether a byte ends a word that is not quoted: fewer do than may stand between words.
private func endsWord(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D }

private func isWordEnd(_ bytes: UnsafeRawBufferPointer, at index: Int) -> Bool {
    index >= bytes.count || isBlank(bytes[index])
}
