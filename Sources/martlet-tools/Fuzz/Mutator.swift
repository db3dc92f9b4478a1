import MartletBase

/// Turns genuine inputs into hostile ones. Everything comes from the generator handed in: same seed, same mutant.
struct Mutator {
    let corpus: [[UInt8]]
    let tokens: [[UInt8]]
    /// Inputs do not grow past this.
    static let inputBytesMax = 64 * 1024

    /// Lengths and numbers at which parsers go wrong.
    private static let integers: [UInt64] = [
        0, 1, 2, 3, 7, 8, 9, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 1023, 1024, 4095, 4096, 16383, 16384, 16385,
        32767, 32768, 65535, 65536, 1 << 20, 1 << 29, (1 << 29) + 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32,
        1 << 48, (1 << 63) - 1, 1 << 63, UInt64.max - 1, UInt64.max,
    ]

    func mutant(_ random: inout PRNG) -> [UInt8] {
        var input = corpus[random.below(corpus.count)]
        // One in sixteen stays as it is: the genuine must pass as well. A few pile many changes up.
        let count = random.below(16) == 0 ? 0 : 1 + random.below(random.below(8) == 0 ? 32 : 4)
        for _ in 0..<count { change(&input, &random) }
        if input.count > Self.inputBytesMax { input.removeLast(input.count - Self.inputBytesMax) }
        return input
    }

    private func change(_ input: inout [UInt8], _ random: inout PRNG) {
        let position = random.below(input.count + 1)
        let isInside = position < input.count
        switch random.below(14) {
        case 0 where isInside: input[position] ^= 1 << random.below(8)
        case 1 where isInside: input[position] = UInt8(random.below(256))
        case 2 where isInside: input[position] = [0, 1, 0x7F, 0x80, 0xFF, 10, 13, 32].randomElement(using: &random)!
        case 3: input.removeLast(input.count - position)
        case 4: input.removeSubrange(position..<min(input.count, position + 1 + random.below(20)))
        case 5: input.insert(contentsOf: (0...random.below(16)).map { _ in UInt8(random.below(256)) }, at: position)
        case 6:
            // Repeat a piece of itself, at times often.
            let end = min(input.count, position + 1 + random.below(40))
            let piece = Array(input[position..<end])
            for _ in 0..<(random.below(8) == 0 ? 50 : 1) { input.insert(contentsOf: piece, at: position) }
        case 7:
            // Cross over with another input.
            let other = corpus[random.below(corpus.count)]
            input.replaceSubrange(position..., with: other[random.below(other.count + 1)...])
        case 8 where !tokens.isEmpty:
            let token = tokens[random.below(tokens.count)]
            let end = random.below(2) == 0 ? position : min(input.count, position + token.count)
            input.replaceSubrange(position..<end, with: token)
        case 9: overwrite(&input, at: position, with: Self.integers.randomElement(using: &random)!, &random)
        case 10: replaceDecimal(&input, near: position, &random)
        case 11:
            input.insert(
                contentsOf: [UInt8](repeating: UInt8(random.below(256)), count: random.below(3000)), at: position)
        case 12: input.swapAt(max(0, min(position, input.count - 1)), max(0, input.count - 1))
        default: input.append(UInt8(random.below(256)))
        }
    }

    /// Puts a binary number of 1, 2, 4 or 8 bytes over what is there, in either byte order.
    private func overwrite(_ input: inout [UInt8], at position: Int, with value: UInt64, _ random: inout PRNG) {
        let width = 1 << random.below(4)
        let isBigEndian = random.below(2) == 0
        for index in 0..<width where position + index < input.count {
            let shift = UInt64(8 * (isBigEndian ? width - 1 - index : index))
            input[position + index] = UInt8(truncatingIfNeeded: value >> shift)
        }
    }

    /// Replaces the run of digits at or after a place by another number.
    private func replaceDecimal(_ input: inout [UInt8], near position: Int, _ random: inout PRNG) {
        func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }
        guard let start = input[position...].firstIndex(where: isDigit) else { return }
        let end = input[start...].firstIndex { !isDigit($0) } ?? input.count
        let value = Self.integers.randomElement(using: &random)!
        let text = random.below(3) == 0 ? "-\(Int64(truncatingIfNeeded: value))" : "\(value)"
        input.replaceSubrange(start..<end, with: Array(text.utf8))
    }
}
