// Glob patterns of KEYS, SCAN MATCH, PSUBSCRIBE, CONFIG GET and ACL rules:
//
//     *       any run of bytes            [a-z]  one byte of the class, ranges in either direction
//     ?       any one byte                [^a]   one byte not of the class
//     \x      the byte x itself           [\]]   a backslash takes the special meaning away inside a class too
//
// The matcher compares from the left and remembers only the last `*` it has passed: when a later part does not match,
// that star swallows one more byte and matching goes on behind it. An earlier star need never be tried again, because
// whatever it could gain the later one can swallow too. So the cost is bounded by pattern times text, where a
// matcher that tries all stars is exponential (CVE-2022-36021), and nothing recurses.
//
// Some surprises are kept on purpose, since clients see them: an empty text matches only an empty pattern, not even
// `*`; a class without its `]` ends with the pattern; bytes from 0x80 sort before 0x00 in ranges (Redis compares
// `char`); an escaped byte of a class respects case always; more than 1000 stars match nothing.
//
// Source: Redis 7.0 util.c, `stringmatchlen`.

/// Stars (runs of `*`) that a pattern may have before its last part.
package let globStarsMax = 1000

/// Whether `text` as a whole matches the glob `pattern`.
///
/// - Complexity: O(pattern × text)
package func globMatches(
    pattern: UnsafeRawBufferPointer, text: UnsafeRawBufferPointer, ignoringCase: Bool = false
) -> Bool {
    if text.isEmpty { return pattern.isEmpty }
    var patternIndex = 0
    var textIndex = 0
    // Where to go on after a mismatch: behind the last star, and at the first byte that it has not swallowed yet.
    var starPatternIndex = -1
    var starTextIndex = 0
    var starCount = 0

    while true {
        if textIndex == text.count {
            while patternIndex < pattern.count, pattern[patternIndex] == UInt8(ascii: "*") { patternIndex += 1 }
            // Swallowing more could only leave less text for the same rest of the pattern.
            return patternIndex == pattern.count
        }
        if patternIndex < pattern.count, pattern[patternIndex] == UInt8(ascii: "*") {
            while patternIndex < pattern.count, pattern[patternIndex] == UInt8(ascii: "*") { patternIndex += 1 }
            if patternIndex == pattern.count { return true }
            starCount += 1
            if starCount > globStarsMax { return false }
            starPatternIndex = patternIndex
            starTextIndex = textIndex
            continue
        }
        if patternIndex < pattern.count,
            let next = matchOne(pattern, at: patternIndex, text[textIndex], ignoringCase: ignoringCase)
        {
            patternIndex = next
            textIndex += 1
            continue
        }
        guard starPatternIndex >= 0 else { return false }
        starTextIndex += 1
        textIndex = starTextIndex
        patternIndex = starPatternIndex
    }
}

/// Matches one byte against the pattern item at `index`, which is not a star: the index behind the item, or nil.
private func matchOne(
    _ pattern: UnsafeRawBufferPointer, at index: Int, _ byte: UInt8, ignoringCase: Bool
) -> Int? {
    switch pattern[index] {
    case UInt8(ascii: "?"):
        return index + 1
    case UInt8(ascii: "["):
        return matchClass(pattern, at: index + 1, byte, ignoringCase: ignoringCase)
    case UInt8(ascii: "\\") where index + 1 < pattern.count:
        return areEqual(pattern[index + 1], byte, ignoringCase) ? index + 2 : nil
    default:
        return areEqual(pattern[index], byte, ignoringCase) ? index + 1 : nil
    }
}

/// `index` is behind the opening bracket.
private func matchClass(
    _ pattern: UnsafeRawBufferPointer, at start: Int, _ byte: UInt8, ignoringCase: Bool
) -> Int? {
    var index = start
    let isNegated = index < pattern.count && pattern[index] == UInt8(ascii: "^")
    if isNegated { index += 1 }
    var isMember = false
    while index < pattern.count {
        if pattern[index] == UInt8(ascii: "\\"), index + 1 < pattern.count {
            isMember = isMember || pattern[index + 1] == byte
            index += 2
        } else if pattern[index] == UInt8(ascii: "]") {
            return isMember != isNegated ? index + 1 : nil
        } else if index + 2 < pattern.count, pattern[index + 1] == UInt8(ascii: "-") {
            var low = Int8(bitPattern: pattern[index])
            var high = Int8(bitPattern: pattern[index + 2])
            var signed = Int8(bitPattern: byte)
            if low > high { swap(&low, &high) }
            if ignoringCase {
                low = Int8(bitPattern: UInt8(bitPattern: low).lowercasedASCII)
                high = Int8(bitPattern: UInt8(bitPattern: high).lowercasedASCII)
                signed = Int8(bitPattern: byte.lowercasedASCII)
            }
            isMember = isMember || (signed >= low && signed <= high)
            index += 3
        } else {
            isMember = isMember || areEqual(pattern[index], byte, ignoringCase)
            index += 1
        }
    }
    return isMember != isNegated ? index : nil
}

private func areEqual(_ left: UInt8, _ right: UInt8, _ ignoringCase: Bool) -> Bool {
    left == right || (ignoringCase && left.lowercasedASCII == right.lowercasedASCII)
}
