import MartletBase

/// The identity of a node or of a shard: 40 characters of `0-9a-z`, kept as five big-endian words.
///
/// The order is the order of the characters, which rank ties, epoch collisions and replica migration rely on.
/// Source: `verifyClusterNodeId` in Redis 7.0 `cluster.c` (any lower-case letter is accepted, not only hex digits).
package struct NodeID: Hashable, Comparable, Sendable, CustomStringConvertible {
    package static let byteCount = 40

    private let w0: UInt64, w1: UInt64, w2: UInt64, w3: UInt64, w4: UInt64

    /// Forty zero bytes: what a packet carries where there is no node.
    package static let null = NodeID(words: (0, 0, 0, 0, 0))

    private init(words: (UInt64, UInt64, UInt64, UInt64, UInt64)) {
        (w0, w1, w2, w3, w4) = words
    }

    /// Takes 40 bytes as they are, valid or not. - Precondition: `bytes` holds exactly 40 bytes.
    package init(unchecked bytes: UnsafeRawBufferPointer) {
        precondition(bytes.count == NodeID.byteCount)
        func word(_ index: Int) -> UInt64 {
            UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
        }
        self.init(words: (word(0), word(1), word(2), word(3), word(4)))
    }

    /// The identity in 40 bytes, or nil when a character is not allowed.
    package init?(bytes: UnsafeRawBufferPointer) {
        guard bytes.count == NodeID.byteCount else { return nil }
        for byte in bytes {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): continue
            default: return nil
            }
        }
        self.init(unchecked: bytes)
    }

    package init?(_ text: some StringProtocol) {
        let bytes = Array(text.utf8)
        guard let id = bytes.withUnsafeBytes({ NodeID(bytes: $0) }) else { return nil }
        self = id
    }

    /// Forty random hex digits.
    package static func random(using random: inout PRNG) -> NodeID {
        let digits = Array("0123456789abcdef".utf8)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(byteCount)
        while bytes.count < byteCount {
            var word = random.next()
            for _ in 0..<16 where bytes.count < byteCount {
                bytes.append(digits[Int(word & 15)])
                word >>= 4
            }
        }
        return bytes.withUnsafeBytes { NodeID(unchecked: $0) }
    }

    package var bytes: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(NodeID.byteCount)
        for word in [w0, w1, w2, w3, w4] {
            for shift in stride(from: 56, through: 0, by: -8) { bytes.append(UInt8(truncatingIfNeeded: word >> shift)) }
        }
        return bytes
    }

    package var description: String { String(decoding: bytes, as: UTF8.self) }

    package static func < (left: NodeID, right: NodeID) -> Bool {
        if left.w0 != right.w0 { return left.w0 < right.w0 }
        if left.w1 != right.w1 { return left.w1 < right.w1 }
        if left.w2 != right.w2 { return left.w2 < right.w2 }
        if left.w3 != right.w3 { return left.w3 < right.w3 }
        return left.w4 < right.w4
    }
}
