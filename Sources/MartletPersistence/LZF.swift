import MartletBase

// LZF, the compression of strings in RDB files and DUMP payloads.
//
// The format is a sequence of two kinds of items, told apart by the top three bits of their first byte:
//
//     000LLLLL                    L+1 literal bytes follow (1 to 32)
//     LLLooooo oooooooo           copy L+2 bytes (3 to 8) from o+1 bytes back in the output
//     111ooooo LLLLLLLL oooooooo  copy L+9 bytes (9 to 264) from o+1 bytes back
//
// A distance is at most 8192. A copy may overlap its own output, which is how runs are written.
//
// The compressor keeps one table: hash of three bytes → where they were seen last. Clearing it for each small value
// would cost more than compressing it, so positions are counted on from one input to the next: an entry below the
// first position of the current input belongs to an older one and counts as empty.
//
// Source: the format of liblzf, as Redis 7.0 reads and writes it.

package struct LZFCompressor: ~Copyable {
    /// 8192 entries of 4 bytes stay in the first- and second-level cache, and match the longest distance.
    private static let tableBits = 13
    private static let distanceMax = 8192
    private static let copyCountMax = 264
    private static let literalCountMax = 32

    private let table: UnsafeMutablePointer<UInt32>
    /// Position of the current input's first byte; never 0, so that a zeroed table is empty.
    private var origin: UInt32 = 1

    package init() {
        table = .allocate(capacity: 1 << Self.tableBits)
        table.initialize(repeating: 0, count: 1 << Self.tableBits)
    }

    deinit { table.deallocate() }

    /// Compresses `input` into `output` and returns the count of bytes written, or nil when they do not fit.
    ///
    /// - Complexity: O(input.count); input without repetition is skimmed faster and faster.
    package mutating func compress(
        _ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer
    ) -> Int? {
        guard let source = input.baseAddress, let target = output.baseAddress else { return nil }
        guard input.count >= 4, input.count <= Int(UInt32.max / 4) else { return nil }
        reserveOrigin(for: input.count)
        defer { origin &+= UInt32(truncatingIfNeeded: input.count) }
        return Self.compress(
            source, input.count, into: target, output.count, table: table, origin: origin)
    }

    private mutating func reserveOrigin(for count: Int) {
        guard UInt64(origin) + UInt64(count) > UInt64(UInt32.max) else { return }
        table.update(repeating: 0, count: 1 << Self.tableBits)
        origin = 1
    }

    /// The loop, over plain values. All offsets stay in `0...inputCount` and `0...outputCount`, so nothing overflows.
    private static func compress(
        _ input: UnsafeRawPointer, _ inputCount: Int, into output: UnsafeMutableRawPointer, _ outputCount: Int,
        table: UnsafeMutablePointer<UInt32>, origin: UInt32
    ) -> Int? {
        var position = 0
        var literalStart = 0
        var written = 0
        while position &+ 4 <= inputCount {
            // Three bytes decide; the fourth is loaded along and shifted out.
            let sequence = UInt32(littleEndian: input.loadUnaligned(fromByteOffset: position, as: UInt32.self)) &<< 8
            let slot = Int((sequence &* 0x9E37_79B1) &>> UInt32(32 &- tableBits))
            let seen = table[slot]
            table[slot] = origin &+ UInt32(truncatingIfNeeded: position)
            let distance = position &- Int(seen &- origin)
            guard
                seen >= origin, distance <= distanceMax,
                UInt32(littleEndian: input.loadUnaligned(fromByteOffset: position &- distance, as: UInt32.self)) &<< 8
                    == sequence
            else {
                position &+= 1 &+ ((position &- literalStart) &>> 5)
                continue
            }
            let countMax = min(copyCountMax, inputCount &- position)
            var count = 3
            while count < countMax,
                input.load(fromByteOffset: position &+ count, as: UInt8.self)
                    == input.load(fromByteOffset: position &+ count &- distance, as: UInt8.self)
            {
                count &+= 1
            }
            guard
                let afterLiterals = appendLiterals(
                    input + literalStart, position &- literalStart, to: output, at: written, outputCount),
                afterLiterals &+ 3 <= outputCount
            else { return nil }
            written = afterLiterals
            let back = distance &- 1
            let code = count &- 2
            output.storeBytes(of: UInt8(back &>> 8) | UInt8(min(code, 7) &<< 5), toByteOffset: written, as: UInt8.self)
            written &+= 1
            if code >= 7 {
                output.storeBytes(of: UInt8(code &- 7), toByteOffset: written, as: UInt8.self)
                written &+= 1
            }
            output.storeBytes(of: UInt8(back & 0xFF), toByteOffset: written, as: UInt8.self)
            written &+= 1
            position &+= count
            literalStart = position
        }
        return appendLiterals(
            input + literalStart, inputCount &- literalStart, to: output, at: written, outputCount)
    }

    /// Writes `count` literal bytes in runs and returns the new end of the output, or nil when they do not fit.
    private static func appendLiterals(
        _ literals: UnsafeRawPointer, _ count: Int, to output: UnsafeMutableRawPointer, at start: Int,
        _ outputCount: Int
    ) -> Int? {
        let runCount = (count &+ literalCountMax &- 1) / literalCountMax
        guard start &+ count &+ runCount <= outputCount else { return nil }
        var done = 0
        var end = start
        while done < count {
            let run = min(count &- done, literalCountMax)
            output.storeBytes(of: UInt8(run &- 1), toByteOffset: end, as: UInt8.self)
            (output + (end &+ 1)).copyMemory(from: literals + done, byteCount: run)
            end &+= run &+ 1
            done &+= run
        }
        return end
    }
}

package enum LZF {
    /// What one compressed byte can become at most: a copy of 264 bytes takes three.
    package static let expansionMax = 88

    /// Fills `output` exactly from `input`; false if `input` is not LZF or yields another count of bytes.
    ///
    /// - Complexity: O(output.count)
    package static func decompress(
        _ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer
    ) -> Bool {
        guard let source = input.baseAddress, let target = output.baseAddress else {
            return input.isEmpty && output.isEmpty
        }
        // Invariant: position <= inputCount and written <= outputCount; every step checks before it moves either.
        let inputCount = input.count
        let outputCount = output.count
        var position = 0
        var written = 0
        while position < inputCount {
            let control = Int(source.load(fromByteOffset: position, as: UInt8.self))
            position &+= 1
            if control < 32 {
                let count = control &+ 1
                guard count <= inputCount &- position, count <= outputCount &- written else { return false }
                (target + written).copyMemory(from: source + position, byteCount: count)
                position &+= count
                written &+= count
                continue
            }
            var count = (control &>> 5) &+ 2
            if count == 9 {
                guard position < inputCount else { return false }
                count &+= Int(source.load(fromByteOffset: position, as: UInt8.self))
                position &+= 1
            }
            guard position < inputCount else { return false }
            let low = Int(source.load(fromByteOffset: position, as: UInt8.self))
            position &+= 1
            let distance = ((control & 31) &<< 8 | low) &+ 1
            guard distance <= written, count <= outputCount &- written else { return false }
            if distance >= count {
                (target + written).copyMemory(from: UnsafeRawPointer(target) + (written &- distance), byteCount: count)
                written &+= count
            } else {
                let end = written &+ count
                while written < end {
                    let byte = target.load(fromByteOffset: written &- distance, as: UInt8.self)
                    target.storeBytes(of: byte, toByteOffset: written, as: UInt8.self)
                    written &+= 1
                }
            }
        }
        return written == outputCount
    }
}
