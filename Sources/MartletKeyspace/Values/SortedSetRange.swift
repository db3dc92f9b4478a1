import Glibc
import MartletBase

// What part of a sorted set a command asks for: by score or by the order of members of equal score.

/// Scores between two bounds.
package struct ScoreRange {
    package var min: Double
    package var max: Double
    package var excludesMin: Bool
    package var excludesMax: Bool

    package init(min: Double, max: Double, excludesMin: Bool = false, excludesMax: Bool = false) {
        self.min = min
        self.max = max
        self.excludesMin = excludesMin
        self.excludesMax = excludesMax
    }

    /// The bounds as clients write them: a number, behind a `(` if it is excluded.
    ///
    /// - Returns: nil if one of them is no number. (zslParseRange)
    package init?(min: UnsafeRawBufferPointer, max: UnsafeRawBufferPointer) {
        guard let (min, excludesMin) = Self.bound(min), let (max, excludesMax) = Self.bound(max) else { return nil }
        self.init(min: min, max: max, excludesMin: excludesMin, excludesMax: excludesMax)
    }

    private static func bound(_ text: UnsafeRawBufferPointer) -> (score: Double, isExcluded: Bool)? {
        let isExcluded = text.first == UInt8(ascii: "(")
        let number = isExcluded ? UnsafeRawBufferPointer(rebasing: text.dropFirst()) : text
        if let score = parseDouble(number) { return (score, isExcluded) }
        // Redis takes here whatever C's strtod takes up to a zero byte, the empty string and overflows included.
        guard let score = parseAsC(number), !score.isNaN else { return nil }
        return (score, isExcluded)
    }

    private static func parseAsC(_ text: UnsafeRawBufferPointer) -> Double? {
        let count = text.firstIndex(of: 0) ?? text.count
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: count + 1) { copy in
            let base = copy.baseAddress.unsafelyUnwrapped
            if let source = text.baseAddress {
                UnsafeMutableRawPointer(base).copyMemory(from: source, byteCount: count)
            }
            copy[count] = 0
            var end: UnsafeMutablePointer<CChar>?
            let value = strtod(base, &end)
            return end == base + count ? value : nil
        }
    }

    /// Whether a score lies below all that are in the range.
    @inline(__always)
    package func isAbove(_ score: Double) -> Bool { excludesMin ? score <= min : score < min }

    /// Whether a score lies above all that are in the range.
    @inline(__always)
    package func isBelow(_ score: Double) -> Bool { excludesMax ? score >= max : score > max }

    /// No score can be in it.
    var isEmpty: Bool { min > max || (min == max && (excludesMin || excludesMax)) }
}

/// Members between two bounds, for sets whose scores are all equal.
package struct LexRange {
    package enum Bound {
        case lowest
        case highest
        case member(UnsafeRawBufferPointer, isExcluded: Bool)
    }

    package var min: Bound
    package var max: Bound

    /// The bounds as clients write them: `-`, `+`, `[member` or `(member`.
    ///
    /// - Returns: nil if one of them is none of these. (zslParseLexRange)
    package init?(min: UnsafeRawBufferPointer, max: UnsafeRawBufferPointer) {
        guard let min = Self.bound(min), let max = Self.bound(max) else { return nil }
        self.min = min
        self.max = max
    }

    private static func bound(_ text: UnsafeRawBufferPointer) -> Bound? {
        guard let first = text.first else { return nil }
        let rest = UnsafeRawBufferPointer(rebasing: text.dropFirst())
        switch first {
        case UInt8(ascii: "+"): return rest.isEmpty || rest[0] == 0 ? .highest : nil
        case UInt8(ascii: "-"): return rest.isEmpty || rest[0] == 0 ? .lowest : nil
        case UInt8(ascii: "("): return .member(rest, isExcluded: true)
        case UInt8(ascii: "["): return .member(rest, isExcluded: false)
        default: return nil
        }
    }

    /// Whether a member comes before all that are in the range.
    @inline(__always)
    func isAbove(_ member: UnsafeRawBufferPointer) -> Bool {
        switch min {
        case .lowest: return false
        case .highest: return true
        case .member(let bound, let isExcluded):
            let order = compareBytes(member, bound)
            return isExcluded ? order <= 0 : order < 0
        }
    }

    /// Whether a member comes behind all that are in the range.
    @inline(__always)
    func isBelow(_ member: UnsafeRawBufferPointer) -> Bool {
        switch max {
        case .lowest: return true
        case .highest: return false
        case .member(let bound, let isExcluded):
            let order = compareBytes(member, bound)
            return isExcluded ? order >= 0 : order > 0
        }
    }

    /// No member can be in it.
    var isEmpty: Bool {
        switch (min, max) {
        case (.highest, _), (_, .lowest): return true
        case (.lowest, _), (_, .highest): return false
        case (.member(let min, let excludesMin), .member(let max, let excludesMax)):
            let order = compareBytes(min, max)
            return order > 0 || (order == 0 && (excludesMin || excludesMax))
        }
    }
}
