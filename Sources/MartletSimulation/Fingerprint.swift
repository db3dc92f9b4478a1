/// A hash over everything that happens, in order: equal fingerprints mean equal histories.
struct Fingerprint {
    private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325
    private(set) var eventCount: UInt64 = 0

    mutating func add(_ word: UInt64) {
        value = (value ^ word) &* 0x9E37_79B9_7F4A_7C15
        value ^= value &>> 29
    }

    mutating func add(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { bytes in
            var position = 0
            while position + 8 <= bytes.count {
                add(bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self))
                position += 8
            }
            var rest: UInt64 = UInt64(bytes.count)
            while position < bytes.count {
                rest = rest &<< 8 | UInt64(bytes[position])
                position += 1
            }
            add(rest)
        }
    }

    /// One event: what it was, when, and to whom it happened.
    mutating func add(_ kind: EventKind, time: Int64, node: Int) {
        eventCount += 1
        add(UInt64(bitPattern: time) &* 256 &+ UInt64(kind.rawValue))
        add(UInt64(bitPattern: Int64(node)))
    }
}

enum EventKind: UInt8 {
    case tick, packet, accepted, opened, closed, saved, view, turn, write, acknowledged, replicated, fault, command
}
