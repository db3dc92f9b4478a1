// The longest common subsequence of two strings, by dynamic programming.
//
// The length for the prefixes (i, j) is one more than that for (i-1, j-1) if the bytes there are equal, else the larger
// of (i-1, j) and (i, j-1). One row, overwritten as it is used up, is enough to compute it. The way back needs one bit
// more for each pair: whether to give up a byte of the first string or of the second. So the whole takes an eighth of a
// byte per pair where Redis keeps four, and ties are broken as there, which makes the same subsequence.

/// A longest common subsequence, found by walking back from the ends of both strings.
package struct LongestCommonSubsequence: ~Copyable {
    /// Its length in bytes.
    package let length: Int
    private let first: UnsafeRawBufferPointer
    private let second: UnsafeRawBufferPointer
    /// One bit for each pair: set where the first string gives up a byte. Empty unless the way back is wanted.
    private let directions: UnsafeMutableBufferPointer<UInt64>
    private let wordsPerRow: Int

    /// A piece that is the same in both strings; positions of its first bytes.
    package struct Match {
        package var first: Int
        package var second: Int
        package var count: Int
    }

    /// - Parameter keepsWay: false if only the length is wanted.
    /// - Complexity: O(first * second) time.
    package init(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer, keepsWay: Bool) {
        self.first = first
        self.second = second
        wordsPerRow = keepsWay ? (second.count + 63) / 64 : 0
        directions = .allocate(capacity: wordsPerRow * first.count)
        directions.initialize(repeating: 0)
        guard !first.isEmpty, !second.isEmpty else {
            length = 0
            return
        }
        let row = UnsafeMutablePointer<UInt32>.allocate(capacity: second.count + 1)
        row.initialize(repeating: 0, count: second.count + 1)
        defer { row.deallocate() }
        for (index, byte) in first.enumerated() {
            // Behind `column` the row still holds the values for the shorter prefix of the first string.
            var diagonal: UInt32 = 0
            var left: UInt32 = 0
            var word: UInt64 = 0
            for column in 0..<second.count {
                let above = row[column &+ 1]
                let isUp = above > left
                let longer = isUp ? above : left
                left = second[column] == byte ? diagonal &+ 1 : longer
                diagonal = above
                row[column &+ 1] = left
                if keepsWay {
                    word |= (isUp ? 1 : 0) &<< UInt64(truncatingIfNeeded: column & 63)
                    if column & 63 == 63 {
                        directions[index &* wordsPerRow &+ column &>> 6] = word
                        word = 0
                    }
                }
            }
            if keepsWay, second.count & 63 != 0 { directions[index * wordsPerRow + second.count >> 6] = word }
        }
        length = Int(row[second.count])
    }

    deinit { directions.deallocate() }

    /// The pieces of the subsequence from the last to the first, as long as they are contiguous in both strings.
    ///
    /// - Precondition: the way was kept.
    /// - Complexity: O(first + second)
    package func forEachMatch(_ visit: (Match) -> Void) {
        var i = first.count
        var j = second.count
        var match: Match?
        while i > 0, j > 0 {
            if first[i - 1] == second[j - 1] {
                if let open = match, open.first == i, open.second == j {
                    match = Match(first: i - 1, second: j - 1, count: open.count + 1)
                } else {
                    if let open = match { visit(open) }
                    match = Match(first: i - 1, second: j - 1, count: 1)
                }
                i -= 1
                j -= 1
            } else {
                if let open = match { visit(open) }
                match = nil
                let word = directions[(i - 1) * wordsPerRow + (j - 1) >> 6]
                if word >> UInt64((j - 1) & 63) & 1 != 0 { i -= 1 } else { j -= 1 }
            }
        }
        if let match { visit(match) }
    }

    /// The subsequence itself. - Precondition: the way was kept.
    package func bytes() -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: length) { buffer, count in
            var end = length
            forEachMatch { match in
                end -= match.count
                for index in 0..<match.count { buffer[end + index] = first[match.first + index] }
            }
            count = length
        }
    }
}
