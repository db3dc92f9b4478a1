import MartletCluster

/// Cuts the byte stream of a bus link into packets by the length field of their headers.
///
/// Packets that lie whole in a chunk are handed on from there; only what a chunk leaves unfinished is copied. Memory
/// grows with what has really arrived, never with what a header promises.
struct BusPacketAssembler {
    /// A packet of any kind but the three that carry messages: a PING with 65,535 gossip entries (6.8 MB) fits.
    static let controlPacketBytesMax = 8 << 20

    /// The beginning of a packet whose end has not arrived yet.
    private var partial: [UInt8] = []

    /// Bytes held for an unfinished packet.
    var byteCount: Int { partial.count }

    /// Takes received bytes and calls `deliver` for each packet that they complete.
    ///
    /// - Parameter deliver: false stops the work; the rest of the chunk is dropped, because the link is gone.
    /// - Returns: false when the stream is not made of packets: the link is to be closed.
    mutating func feed(_ chunk: UnsafeRawBufferPointer, _ deliver: (UnsafeRawBufferPointer) -> Bool) -> Bool {
        var rest = chunk
        while !rest.isEmpty {
            if !partial.isEmpty {
                switch extendPartial(from: &rest) {
                case .invalid: return false
                case .needsMoreBytes: return true
                case .length:
                    let packet = partial
                    partial = []
                    if !packet.withUnsafeBytes(deliver) { return true }
                    continue
                }
            }
            switch Self.framing(of: rest) {
            case .invalid: return false
            case .length(let length) where length <= rest.count:
                let packet = UnsafeRawBufferPointer(rebasing: rest[..<length])
                rest = UnsafeRawBufferPointer(rebasing: rest[length...])
                if !deliver(packet) { return true }
            case .length, .needsMoreBytes:
                partial = [UInt8](rest)
                return true
            }
        }
        return true
    }

    /// Moves bytes from the chunk to the partial packet, first up to the head that tells the length, then up to its
    /// end. `.length` says that the packet is whole.
    private mutating func extendPartial(from rest: inout UnsafeRawBufferPointer) -> BusPacket.Framing {
        while true {
            let framing = partial.withUnsafeBytes(Self.framing)
            let wanted: Int
            switch framing {
            case .invalid: return .invalid
            case .needsMoreBytes: wanted = BusPacket.lightHeaderByteCount
            case .length(let length): wanted = length
            }
            if partial.count >= wanted { return framing }
            if rest.isEmpty { return .needsMoreBytes }
            let taken = min(wanted - partial.count, rest.count)
            partial.append(contentsOf: rest[..<taken])
            rest = UnsafeRawBufferPointer(rebasing: rest[taken...])
        }
    }

    /// The framing of the head of a packet, with the limit for its kind.
    private static func framing(of bytes: UnsafeRawBufferPointer) -> BusPacket.Framing {
        let framing = BusPacket.framing(of: bytes)
        guard case .length(let length) = framing, length > controlPacketBytesMax else { return framing }
        guard bytes.count >= BusPacket.lightHeaderByteCount else { return .needsMoreBytes }
        // PUBLISH, MODULE and PUBLISHSHARD; the highest bit marks a light header.
        let kind = bytes.loadUnaligned(fromByteOffset: 12, as: UInt16.self).bigEndian & 0x7FFF
        return kind == 4 || kind == 9 || kind == 10 ? framing : .invalid
    }
}
