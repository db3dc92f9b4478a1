import Glibc
import MartletBase

@testable import MartletKeyspace

/// Quicker than the operators of collections, which are slow while they are not optimised.
func isEqual(_ bytes: UnsafeRawBufferPointer, _ other: [UInt8]) -> Bool {
    bytes.count == other.count && (other.isEmpty || memcmp(bytes.baseAddress!, other, other.count) == 0)
}

extension StringView {
    /// The bytes of a string, or of an integer in decimal.
    var text: [UInt8] {
        switch self {
        case .bytes(let bytes): Array(bytes)
        case .integer(let integer): Array(String(integer).utf8)
        }
    }
}

/// Memory that cannot be read before its beginning or behind its end: who tries is killed.
final class GuardedMemory {
    private let map: UnsafeMutableRawPointer
    private let mapBytes: Int
    private let capacity: Int
    private let pageBytes = Int(sysconf(Int32(_SC_PAGESIZE)))

    init(capacity: Int) {
        self.capacity = (capacity + pageBytes - 1) / pageBytes * pageBytes
        mapBytes = self.capacity + 2 * pageBytes
        guard let map = mmap(nil, mapBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), map != MAP_FAILED else {
            preconditionFailure("mmap failed")
        }
        self.map = map
        precondition(mprotect(map + pageBytes, self.capacity, PROT_READ | PROT_WRITE) == 0)
    }

    deinit { munmap(map, mapBytes) }

    /// A copy of the bytes that has nothing behind it.
    func atEnd(_ bytes: [UInt8]) -> UnsafeRawBufferPointer { place(bytes, at: capacity - bytes.count) }

    /// A copy of the bytes that has nothing before it.
    func atStart(_ bytes: [UInt8]) -> UnsafeRawBufferPointer { place(bytes, at: 0) }

    private func place(_ bytes: [UInt8], at offset: Int) -> UnsafeRawBufferPointer {
        precondition(bytes.count <= capacity)
        let target = UnsafeMutableRawBufferPointer(start: map + pageBytes + offset, count: bytes.count)
        target.copyBytes(from: bytes)
        return UnsafeRawBufferPointer(target)
    }
}

/// What a hostile sender may make of some valid bytes.
enum Corruption {
    /// Every other value of every byte.
    static func everyByte(of bytes: [UInt8], _ body: ([UInt8]) -> Void) {
        var changed = bytes
        for index in bytes.indices {
            for value in UInt8.min...UInt8.max where value != bytes[index] {
                changed[index] = value
                body(changed)
            }
            changed[index] = bytes[index]
        }
    }

    /// Some bytes changed, some cut out, some put in, the size in the first four bytes right more often than not.
    static func random(of bytes: [UInt8], sizeInHeader: Bool, _ random: inout PRNG) -> [UInt8] {
        var changed = bytes
        for _ in 0...random.below(4) {
            let index = random.below(changed.count)
            switch random.below(5) {
            case 0: changed[index] = UInt8(random.below(256))
            case 1: changed[index] = [0, 1, 0x7F, 0x80, 0xF0, 0xF4, 0xFD, 0xFE, 0xFF][random.below(9)]
            case 2: changed[index] ^= 1 << UInt8(random.below(8))
            case 3 where changed.count > 1:
                changed.removeSubrange(index..<min(changed.count, index + 1 + random.below(3)))
            default: changed.insert(UInt8(random.below(256)), at: index)
            }
            if changed.isEmpty { changed = [0] }
        }
        if sizeInHeader, changed.count >= 4, random.below(4) > 0 {
            for index in 0..<4 { changed[index] = UInt8(truncatingIfNeeded: changed.count >> (8 * index)) }
        }
        return changed
    }
}

/// Strings and integers around the limits of the encodings.
enum EncodingSamples {
    static let integers: [Int64] = {
        var values: [Int64] = [0, 1, 12, 13, 127, 128, -1, .max, .min]
        for bits in [7, 8, 12, 13, 15, 16, 23, 24, 31, 32, 40] as [Int64] {
            let power: Int64 = 1 << bits
            values += [power - 1, power, power + 1, -power - 1, -power, -power + 1]
        }
        return values
    }()

    /// Strings that look like integers, but are not stored as such.
    static let nearIntegers = [
        "", "-", "-0", "+1", "01", "1 ", " 1", "1.0", "9223372036854775808", "-9223372036854775809",
    ]

    static func random(_ random: inout PRNG) -> [UInt8] {
        switch random.below(8) {
        case 0, 1: return Array(String(integers[random.below(integers.count)]).utf8)
        case 2: return Array(String(Int64(truncatingIfNeeded: random.next()) >> Int64(random.below(64))).utf8)
        case 3: return Array(nearIntegers[random.below(nearIntegers.count)].utf8)
        case 4 where random.below(3) == 0:
            let limits = [63, 64, 125, 126, 127, 128, 253, 254, 255, 4095, 4096, 4097, 16377, 16378]
            return bytes(limits[random.below(limits.count)], &random)
        default: return bytes(random.below(20), &random)
        }
    }

    static func bytes(_ count: Int, _ random: inout PRNG) -> [UInt8] {
        let first = random.below(pattern.count / 2)
        return Array(pattern[first..<(first + min(count, 200))]) + [UInt8](repeating: 0x2E, count: max(0, count - 200))
    }

    private static let pattern = (0..<600).map { UInt8(truncatingIfNeeded: $0 * 7 + $0 / 256) }
}

/// "02 61" and the like as bytes; blanks are not needed.
func hexBytes(_ text: String) -> [UInt8] {
    let digits = text.utf8.compactMap(hexValue)
    precondition(digits.count % 2 == 0)
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}
