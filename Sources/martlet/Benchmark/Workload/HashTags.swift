import MartletBase

/// For each slot a hash tag that leads to it: what `{tag}` is replaced by.
///
/// Three letters or digits reach all slots: there are 14 such tags for a slot on average.
package final class HashTags: Sendable {
    static let bytesPerTag = 3

    /// Three bytes for each slot, one after the other.
    private let bytes: [UInt8]

    package init() {
        let alphabet = Array("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".utf8)
        var bytes = [UInt8](repeating: 0, count: HashSlot.count * Self.bytesPerTag)
        var missingCount = HashSlot.count
        for first in alphabet {
            for second in alphabet {
                for third in alphabet where missingCount > 0 {
                    let tag = [first, second, third]
                    let slot = tag.withUnsafeBytes { HashSlot.of($0) }
                    let place = slot.index * Self.bytesPerTag
                    guard bytes[place] == 0 else { continue }
                    bytes.replaceSubrange(place..<place + Self.bytesPerTag, with: tag)
                    missingCount -= 1
                }
            }
        }
        precondition(missingCount == 0)
        self.bytes = bytes
    }

    package func tag(of slot: HashSlot) -> [UInt8] {
        Array(bytes[slot.index * Self.bytesPerTag..<(slot.index + 1) * Self.bytesPerTag])
    }

    func write(_ slot: HashSlot, to place: UnsafeMutableRawPointer) {
        bytes.withUnsafeBytes {
            place.copyMemory(from: $0.baseAddress! + slot.index * Self.bytesPerTag, byteCount: Self.bytesPerTag)
        }
    }
}
