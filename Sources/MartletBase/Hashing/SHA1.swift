/// SHA-1, fed piece by piece. For data set digests that have to equal Redis'; not for secrets.
///
/// Source: FIPS 180-4, section 6.1.
package struct SHA1 {
    package typealias Digest = [UInt8]
    package static let digestBytes = 20

    private var state: (UInt32, UInt32, UInt32, UInt32, UInt32) =
        (0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0)
    /// The last bytes that do not fill a block yet.
    private var block: [UInt8] = []
    private var byteCount: UInt64 = 0
    private var schedule = [UInt32](repeating: 0, count: 80)

    private static let blockBytes = 64

    package init() { block.reserveCapacity(Self.blockBytes) }

    /// - Complexity: O(count)
    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        byteCount &+= UInt64(bytes.count)
        var offset = 0
        if !block.isEmpty {
            offset = min(Self.blockBytes - block.count, bytes.count)
            block.append(contentsOf: bytes[..<offset])
            guard block.count == Self.blockBytes else { return }
            let full = block
            full.withUnsafeBytes { process($0) }
            block.removeAll(keepingCapacity: true)
        }
        while bytes.count - offset >= Self.blockBytes {
            process(UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + Self.blockBytes]))
            offset += Self.blockBytes
        }
        block.append(contentsOf: bytes[offset...])
    }

    package mutating func update(_ bytes: [UInt8]) { bytes.withUnsafeBytes { update($0) } }

    /// The digest of everything that was fed, 20 bytes. Ends the use of this value.
    package consuming func finish() -> Digest {
        let bits = byteCount &* 8
        var padding: [UInt8] = [0x80]
        let zeros = (Self.blockBytes * 2 - 9 - block.count) % Self.blockBytes
        padding.append(contentsOf: repeatElement(0, count: zeros))
        for shift in stride(from: 56, through: 0, by: -8) {
            padding.append(UInt8(truncatingIfNeeded: bits >> UInt64(shift)))
        }
        update(padding)
        var digest: Digest = []
        for word in [state.0, state.1, state.2, state.3, state.4] {
            for shift in stride(from: 24, through: 0, by: -8) {
                digest.append(UInt8(truncatingIfNeeded: word >> UInt32(shift)))
            }
        }
        return digest
    }

    /// The digest of one piece.
    package static func digest(_ bytes: UnsafeRawBufferPointer) -> Digest {
        var hash = SHA1()
        hash.update(bytes)
        return hash.finish()
    }

    package static func digest(_ bytes: [UInt8]) -> Digest { bytes.withUnsafeBytes { digest($0) } }

    private mutating func process(_ block: UnsafeRawBufferPointer) {
        for index in 0..<16 {
            schedule[index] = UInt32(bigEndian: block.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self))
        }
        for index in 16..<80 {
            let word = schedule[index - 3] ^ schedule[index - 8] ^ schedule[index - 14] ^ schedule[index - 16]
            schedule[index] = word << 1 | word >> 31
        }
        var (a, b, c, d, e) = state
        for index in 0..<80 {
            let mixed: UInt32
            let constant: UInt32
            switch index {
            case ..<20: (mixed, constant) = ((b & c) | (~b & d), 0x5A82_7999)
            case ..<40: (mixed, constant) = (b ^ c ^ d, 0x6ED9_EBA1)
            case ..<60: (mixed, constant) = ((b & c) | (b & d) | (c & d), 0x8F1B_BCDC)
            default: (mixed, constant) = (b ^ c ^ d, 0xCA62_C1D6)
            }
            let next = (a << 5 | a >> 27) &+ mixed &+ e &+ constant &+ schedule[index]
            (e, d, c, b, a) = (d, c, b << 30 | b >> 2, a, next)
        }
        state = (state.0 &+ a, state.1 &+ b, state.2 &+ c, state.3 &+ d, state.4 &+ e)
    }
}
