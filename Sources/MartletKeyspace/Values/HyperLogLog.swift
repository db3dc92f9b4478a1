import Glibc
import MartletBase

// HyperLogLog: how many different elements were seen, within about 0.81 %, in at most 12 KB.
//
// An element's hash names one of 16384 registers by its low 14 bits; the register keeps the longest run of zeros, plus
// one, that the other 50 bits of such hashes began with. The count follows from how many registers have each value (Ertl,
// "New cardinality estimation algorithms for HyperLogLog sketches", arXiv:1702.01284). The value is a string that clients
// may read and write, and the bytes are those of Redis:
//
//      0   "HYLL"
//      4   encoding: 0 dense, 1 sparse; three unused bytes
//      8   UInt64  the last count; the highest bit says that it is out of date
//      16  registers
//
// Dense: 6 bits each, the low bits of a byte first. Sparse: runs of equal registers, as long as that is short enough
// (`hll-sparse-max-bytes`) and no register is above 32:
//
//      00nnnnnn            n + 1 registers of 0
//      01nnnnnn nnnnnnnn   n + 1 registers of 0
//      1vvvvvnn            n + 1 registers of v + 1
//
// Strings come from clients, so nothing of them is believed: runs have to add up to 16384 registers.
//
// Source: hyperloglog.c of Redis 7.0.

/// A HyperLogLog in memory of its own: to be changed, and then stored as the string that it is.
package struct HyperLogLog: ~Copyable {
    private var base: UnsafeMutableRawPointer
    private var count: Int
    private var capacity: Int

    package static let registerCount = 1 << 14
    private static let indexBits: UInt64 = 14
    /// Highest value of a register that an element can cause.
    private static let valueMax = 51
    static let headerBytes = 16
    /// "HYLL"
    private static let magic: UInt32 = 0x4C4C_5948
    package static let denseBytes = headerBytes + registerCount * 6 / 8
    private static let sparseValueMax = 32
    /// Longest runs of the sparse form.
    private static let (shortZerosMax, valuesMax) = (64, 4)

    /// An empty one, sparse.
    package init() {
        self.init(count: Self.headerBytes + 2)
        base.initializeMemory(as: UInt8.self, repeating: 0, count: count)
        base.storeBytes(of: Self.magic, as: UInt32.self)
        base.storeBytes(of: 1, toByteOffset: 4, as: UInt8.self)
        writeZeros(Self.registerCount, at: Self.headerBytes)
    }

    /// - Precondition: ``isValid(_:)``
    package init(copying bytes: UnsafeRawBufferPointer) {
        precondition(bytes.count >= Self.headerBytes)
        self.init(count: bytes.count)
        base.copyMemory(from: bytes.baseAddress.unsafelyUnwrapped, byteCount: count)
    }

    private init(count: Int) {
        self.count = count
        capacity = count + Self.growthMax
        base = .allocate(byteCount: capacity, alignment: 8)
    }

    deinit { base.deallocate() }

    /// The string.
    package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }
    package var isSparse: Bool { Self.isSparse(bytes) }

    // MARK: Strings

    /// Whether a string begins as one, and has the right length if it is dense. (isHLLObjectOrReply)
    package static func isValid(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count >= headerBytes, bytes.loadUnaligned(as: UInt32.self) == magic else { return false }
        return bytes[4] == 1 || bytes[4] == 0 && bytes.count == denseBytes
    }

    /// - Precondition: ``isValid(_:)``
    package static func isSparse(_ bytes: UnsafeRawBufferPointer) -> Bool { bytes[4] == 1 }

    /// The count that the string remembers; nil if it is out of date.
    package static func rememberedCount(_ bytes: UnsafeRawBufferPointer) -> UInt64? {
        let count = bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
        return count >> 63 == 0 ? count : nil
    }

    /// - Parameter start: of a string that is valid.
    package static func remember(_ count: UInt64, in start: UnsafeMutableRawPointer) {
        start.storeBytes(of: count, toByteOffset: 8, as: UInt64.self)
    }

    package static func forgetCount(in start: UnsafeMutableRawPointer) {
        start.storeBytes(of: start.load(fromByteOffset: 15, as: UInt8.self) | 0x80, toByteOffset: 15, as: UInt8.self)
    }

    package func forgetCount() { Self.forgetCount(in: base) }

    // MARK: Elements

    /// The register of an element and the value that it causes there. (hllPatLen)
    package static func place(of element: UnsafeRawBufferPointer) -> (register: Int, value: UInt8) {
        let hash = murmurHash64A(element, seed: 0xadc8_3b19)
        let register = Int(hash & UInt64(registerCount - 1))
        // The added bit ends the longest run.
        let rest = hash >> indexBits | 1 << (64 - indexBits)
        return (register, UInt8(rest.trailingZeroBitCount + 1))
    }

    /// - Parameter sparseBytesMax: a longer one becomes dense.
    /// - Returns: whether a register has grown; nil if the bytes are corrupt.
    package mutating func add(_ element: UnsafeRawBufferPointer, sparseBytesMax: Int) -> Bool? {
        let (register, value) = Self.place(of: element)
        return raise(register, to: value, sparseBytesMax: sparseBytesMax)
    }

    /// Sets a register unless it is as high already.
    ///
    /// - Returns: whether it was lower; nil if the bytes are corrupt.
    /// - Complexity: O(1); O(bytes) of the sparse form
    package mutating func raise(_ register: Int, to value: UInt8, sparseBytesMax: Int) -> Bool? {
        if isSparse { return raiseSparse(register, to: value, sparseBytesMax) }
        return Self.raiseDense(base, register, to: value)
    }

    // MARK: Dense

    /// - Precondition: the string is dense.
    package static func denseRegister(_ start: UnsafeRawPointer, _ register: Int) -> UInt8 {
        let bit = register * 6
        let place = start + headerBytes + bit >> 3
        var word = UInt16(place.load(as: UInt8.self))
        // The last register ends with its byte.
        if bit & 7 > 2 { word |= UInt16((place + 1).load(as: UInt8.self)) << 8 }
        return UInt8(truncatingIfNeeded: word >> UInt16(bit & 7)) & 63
    }

    /// - Precondition: the string is dense.
    package static func setDenseRegister(_ start: UnsafeMutableRawPointer, _ register: Int, to value: UInt8) {
        let bit = register * 6
        let place = start + headerBytes + bit >> 3
        let shift = UInt16(bit & 7)
        let mask = 63 << shift
        let bits = UInt16(value) << shift
        place.storeBytes(
            of: place.load(as: UInt8.self) & ~UInt8(truncatingIfNeeded: mask) | UInt8(truncatingIfNeeded: bits),
            as: UInt8.self)
        guard shift > 2 else { return }
        let next = place + 1
        next.storeBytes(
            of: next.load(as: UInt8.self) & ~UInt8(truncatingIfNeeded: mask >> 8)
                | UInt8(truncatingIfNeeded: bits >> 8),
            as: UInt8.self)
    }

    /// - Returns: whether the register was lower.
    package static func raiseDense(_ start: UnsafeMutableRawPointer, _ register: Int, to value: UInt8) -> Bool {
        guard denseRegister(start, register) < value else { return false }
        setDenseRegister(start, register, to: value)
        forgetCount(in: start)
        return true
    }

    // MARK: Sparse

    /// Equal registers.
    private struct Run {
        var value: UInt8 = 0
        var count = 0
        /// 2 of a long run of zeros that is not cut off, else 1.
        var bytes = 1
    }

    /// The run at an offset. A second byte that is missing counts as 0, as it does in Redis.
    private static func run(_ bytes: UnsafeRawBufferPointer, at position: Int) -> Run {
        let byte = bytes[position]
        if byte & 0x80 != 0 { return Run(value: byte >> 2 & 0x1F + 1, count: Int(byte & 3) + 1) }
        if byte & 0x40 == 0 { return Run(count: Int(byte) + 1) }
        let isCut = position + 1 == bytes.count
        return Run(
            count: Int(byte & 0x3F) << 8 + Int(isCut ? 0 : bytes[position + 1]) + 1, bytes: isCut ? 1 : 2)
    }

    /// Visits the runs with their first register.
    ///
    /// - Returns: whether they are those of a HyperLogLog: neither more nor fewer registers.
    @inline(__always)
    private static func forEachRun(_ bytes: UnsafeRawBufferPointer, _ visit: (Int, Run) -> Void) -> Bool {
        var position = headerBytes
        var register = 0
        while position < bytes.count {
            let run = run(bytes, at: position)
            guard register + run.count <= registerCount else { return false }
            visit(register, run)
            register += run.count
            position += run.bytes
        }
        return register == registerCount
    }

    private func writeValues(_ value: UInt8, _ count: Int, at position: Int) {
        base.storeBytes(of: 0x80 | (value - 1) << 2 | UInt8(count - 1), toByteOffset: position, as: UInt8.self)
    }

    /// - Returns: how many bytes it takes.
    @discardableResult
    private func writeZeros(_ count: Int, at position: Int) -> Int {
        if count <= Self.shortZerosMax {
            base.storeBytes(of: UInt8(count - 1), toByteOffset: position, as: UInt8.self)
            return 1
        }
        base.storeBytes(of: UInt16(0x4000 | (count - 1)).bigEndian, toByteOffset: position, as: UInt16.self)
        return 2
    }

    /// A run of zeros that is split takes three bytes more at most.
    private static let growthMax = 3

    /// (hllSparseSet)
    private mutating func raiseSparse(_ register: Int, to value: UInt8, _ sparseBytesMax: Int) -> Bool? {
        if value > Self.sparseValueMax { return promote(register, value) }
        var position = Self.headerBytes
        var previous: Int?
        var first = 0
        // Which of its three forms a run has cannot be foreseen: so the search takes steps without branches. It reads the
        // byte behind the last, too.
        base.storeBytes(of: 0, toByteOffset: count, as: UInt8.self)
        while position < count {
            let word = Int(UInt16(bigEndian: base.loadUnaligned(fromByteOffset: position, as: UInt16.self)))
            let byte = word &>> 8
            let isLong = byte &>> 6 == 1
            let next = first &+ (isLong ? word & 0x3FFF : byte & (byte &>> 7 == 1 ? 3 : 0x3F)) &+ 1
            if register < next { break }
            previous = position
            position &+= isLong ? 2 : 1
            first = next
        }
        guard position < count else { return nil }
        let run = Self.run(bytes, at: position)
        if run.value >= value { return false }
        if run.count == 1, run.bytes == 1 {
            writeValues(value, 1, at: position)
        } else {
            // What lies before, the register itself, what lies behind.
            let before = register - first
            let after = run.count - before - 1
            func runBytes(_ count: Int) -> Int {
                if count == 0 { return 0 }
                return run.value == 0 && count > Self.shortZerosMax ? 2 : 1
            }
            let growth = runBytes(before) + 1 + runBytes(after) - run.bytes
            if growth > 0, count + growth > sparseBytesMax { return promote(register, value) }
            replace(position, run.bytes, growth)
            var end = position
            func write(_ count: Int) {
                if count == 0 { return }
                if run.value == 0 {
                    end += writeZeros(count, at: end)
                } else {
                    writeValues(run.value, count, at: end)
                    end += 1
                }
            }
            write(before)
            writeValues(value, 1, at: end)
            end += 1
            write(after)
        }
        mergeValues(from: previous ?? Self.headerBytes)
        forgetCount()
        return true
    }

    /// Makes room for bytes that are longer by `growth`, or shorter.
    private mutating func replace(_ position: Int, _ oldBytes: Int, _ growth: Int) {
        // One byte more for the search.
        if count + growth >= capacity {
            capacity = (count + growth) * 2
            let new = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 8)
            new.copyMemory(from: base, byteCount: count)
            base.deallocate()
            base = new
        }
        let tail = position + oldBytes
        (base + tail + growth).copyMemory(from: base + tail, byteCount: count - tail)
        count += growth
    }

    /// Makes one run of neighbours of one value, as far as a change may have made such.
    private mutating func mergeValues(from start: Int) {
        var position = start
        var steps = 5
        while position < count, steps > 0 {
            steps -= 1
            let run = Self.run(bytes, at: position)
            if run.value > 0, position + 1 < count {
                let next = Self.run(bytes, at: position + 1)
                if next.value == run.value, run.count + next.count <= Self.valuesMax {
                    writeValues(run.value, run.count + next.count, at: position + 1)
                    replace(position, 1, -1)
                    continue
                }
            }
            position += run.bytes
        }
    }

    private mutating func promote(_ register: Int, _ value: UInt8) -> Bool? {
        guard becomeDense() else { return nil }
        _ = Self.raiseDense(base, register, to: value)
        return true
    }

    /// - Returns: false if the bytes are corrupt. (hllSparseToDense)
    package mutating func becomeDense() -> Bool {
        guard isSparse else { return true }
        let dense = UnsafeMutableRawPointer.allocate(byteCount: Self.denseBytes, alignment: 8)
        dense.initializeMemory(as: UInt8.self, repeating: 0, count: Self.denseBytes)
        dense.copyMemory(from: base, byteCount: Self.headerBytes)
        dense.storeBytes(of: 0, toByteOffset: 4, as: UInt8.self)
        let isValid = Self.forEachRun(bytes) { first, run in
            if run.value == 0 { return }
            for register in first..<(first + run.count) { Self.setDenseRegister(dense, register, to: run.value) }
        }
        guard isValid else {
            dense.deallocate()
            return false
        }
        base.deallocate()
        base = dense
        count = Self.denseBytes
        capacity = Self.denseBytes
        return true
    }

    /// The runs as PFDEBUG DECODE tells them. - Precondition: the string is valid and sparse.
    package static func description(ofSparse bytes: UnsafeRawBufferPointer) -> String {
        var parts: [String] = []
        var position = headerBytes
        while position < bytes.count {
            let run = run(bytes, at: position)
            if run.value > 0 {
                parts.append("v:\(run.value),\(run.count)")
            } else {
                // By its first byte: a long run may lack its second.
                parts.append("\(bytes[position] & 0x40 != 0 ? "Z" : "z"):\(run.count)")
            }
            position += run.bytes
        }
        return parts.joined(separator: " ")
    }

    // MARK: Count

    /// Raises registers, one byte each, to those of a string. - Returns: false if it is corrupt.
    package static func merge(_ bytes: UnsafeRawBufferPointer, into registers: UnsafeMutablePointer<UInt8>) -> Bool {
        guard isSparse(bytes) else {
            guard let start = bytes.baseAddress else { return false }
            for register in 0..<registerCount {
                registers[register] = max(registers[register], denseRegister(start, register))
            }
            return true
        }
        return forEachRun(bytes) { first, run in
            for register in first..<(first + run.count) { registers[register] = max(registers[register], run.value) }
        }
    }

    /// The estimate. - Returns: nil if the string is corrupt.
    package static func estimate(_ bytes: UnsafeRawBufferPointer) -> UInt64? {
        var histogram = Histogram()
        if isSparse(bytes) {
            guard forEachRun(bytes, { histogram.add($1.value, $1.count) }) else { return nil }
        } else {
            guard let start = bytes.baseAddress else { return nil }
            // Three bytes are four registers.
            for group in stride(from: headerBytes, to: denseBytes, by: 3) {
                let (low, middle, high) = (
                    (start + group).load(as: UInt8.self), (start + group + 1).load(as: UInt8.self),
                    (start + group + 2).load(as: UInt8.self)
                )
                histogram.add(low & 63)
                histogram.add((low >> 6 | middle << 2) & 63)
                histogram.add((middle >> 4 | high << 4) & 63)
                histogram.add(high >> 2)
            }
        }
        return histogram.estimate
    }

    /// The estimate from registers of one byte each.
    package static func estimate(registers: UnsafePointer<UInt8>) -> UInt64 {
        var histogram = Histogram()
        for register in 0..<registerCount { histogram.add(registers[register] & 63) }
        return histogram.estimate
    }

    /// How many registers have each value.
    private struct Histogram {
        private var counts = InlineArray<64, Int>(repeating: 0)

        mutating func add(_ value: UInt8, _ count: Int = 1) { counts[Int(value)] += count }

        /// (hllCount)
        var estimate: UInt64 {
            let registers = Double(HyperLogLog.registerCount)
            var sum = registers * Self.tau((registers - Double(counts[HyperLogLog.valueMax])) / registers)
            for value in (1..<HyperLogLog.valueMax).reversed() { sum = (sum + Double(counts[value])) * 0.5 }
            sum += registers * Self.sigma(Double(counts[0]) / registers)
            // 0.5 / ln(2)
            let alpha = 0.721347520444481703680
            let count = (alpha * registers * registers / sum).rounded(.toNearestOrAwayFromZero)
            // Registers that no element causes may tell any number.
            return count < 0x1p63 ? UInt64(count) : 1 << 63
        }

        private static func sigma(_ start: Double) -> Double {
            if start == 1 { return .infinity }
            var (x, y, z) = (start, 1.0, start)
            while true {
                let before = z
                x *= x
                z += x * y
                y += y
                if z == before { return z }
            }
        }

        private static func tau(_ start: Double) -> Double {
            if start == 0 || start == 1 { return 0 }
            var (x, y, z) = (start, 1.0, 1 - start)
            while true {
                let before = z
                x = x.squareRoot()
                y *= 0.5
                z -= pow(1 - x, 2) * y
                if z == before { return z / 3 }
            }
        }
    }
}

/// MurmurHash2 in its 64-bit form, by Austin Appleby.
private func murmurHash64A(_ bytes: UnsafeRawBufferPointer, seed: UInt64) -> UInt64 {
    let multiplier: UInt64 = 0xc6a4_a793_5bd1_e995
    var hash = seed ^ UInt64(bytes.count) &* multiplier
    let wordBytes = bytes.count & ~7
    for offset in stride(from: 0, to: wordBytes, by: 8) {
        var word = bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self) &* multiplier
        word ^= word >> 47
        hash = (hash ^ word &* multiplier) &* multiplier
    }
    if wordBytes < bytes.count {
        for offset in wordBytes..<bytes.count { hash ^= UInt64(bytes[offset]) << UInt64((offset - wordBytes) * 8) }
        hash = hash &* multiplier
    }
    hash = (hash ^ hash >> 47) &* multiplier
    return hash ^ hash >> 47
}
