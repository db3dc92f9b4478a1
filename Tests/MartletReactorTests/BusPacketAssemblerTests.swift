import MartletBase
import MartletCluster
import Testing

@testable import MartletReactor

@Suite struct BusPacketAssemblerTests {
    /// A head with the given length and kind, padded with a running byte.
    static func packet(length: Int, kind: UInt16 = 0, fill: UInt8 = 1) -> [UInt8] {
        var bytes = head(length: length, kind: kind)
        while bytes.count < length { bytes.append(fill &+ UInt8(truncatingIfNeeded: bytes.count)) }
        return bytes
    }

    static func head(length: Int, kind: UInt16) -> [UInt8] {
        let length = UInt32(length)
        return Array("RCmb".utf8)
            + [UInt8(length >> 24), UInt8(length >> 16 & 255), UInt8(length >> 8 & 255), UInt8(length & 255)]
            + [0, 1, 0, 0, UInt8(kind >> 8), UInt8(kind & 255), 0, 0]
    }

    /// Feeds a stream in pieces of at most `pieceBytes` and returns the packets, or nil if it was refused. An empty last
    /// packet stands for an unfinished one.
    static func feed(_ stream: [UInt8], pieceBytes: Int) -> [[UInt8]]? {
        var assembler = BusPacketAssembler()
        var packets: [[UInt8]] = []
        var offset = 0
        while offset < stream.count {
            let end = min(stream.count, offset + pieceBytes)
            let isAccepted = stream[offset..<end].withUnsafeBytes { piece in
                assembler.feed(piece) { packet in
                    packets.append([UInt8](packet))
                    return true
                }
            }
            guard isAccepted else { return nil }
            offset = end
        }
        return assembler.byteCount == 0 ? packets : packets + [[]]
    }

    @Test(
        "The same packets come out whole, drip-fed and in any pieces",
        arguments: [1, 2, 7, 8, 9, 15, 16, 17, 2256, 5000, 1 << 20])
    func pieces(pieceBytes: Int) {
        let packets = [2256, 16, 17, 4352, 2616, 100_000].enumerated().map { index, length in
            Self.packet(length: length, fill: UInt8(index))
        }
        #expect(Self.feed(packets.flatMap { $0 }, pieceBytes: pieceBytes) == packets)
    }

    @Test("Random packets in random pieces", arguments: [1, 2, 3] as [UInt64])
    func random(seed: UInt64) {
        var random = PRNG(seed: seed)
        var assembler = BusPacketAssembler()
        var sent: [[UInt8]] = []
        var received: [[UInt8]] = []
        for _ in 0..<200 { sent.append(Self.packet(length: 16 + random.below(6000), fill: UInt8(random.below(256)))) }
        var stream = sent.flatMap { $0 }[...]
        while !stream.isEmpty {
            let piece = [UInt8](stream.prefix(1 + random.below(9000)))
            stream = stream.dropFirst(piece.count)
            let isAccepted = piece.withUnsafeBytes { piece in
                assembler.feed(piece) { packet in
                    received.append([UInt8](packet))
                    return true
                }
            }
            #expect(isAccepted, "seed \(seed)")
        }
        #expect(received == sent, "seed \(seed)")
        #expect(assembler.byteCount == 0)
    }

    @Test(
        "What does not begin like a packet is refused at once, also when it comes byte by byte", arguments: [1, 3, 64])
    func garbage(pieceBytes: Int) {
        #expect(Self.feed(Array("GET / HTTP/1.1\r\nHost: here\r\n\r\n".utf8), pieceBytes: pieceBytes) == nil)
        #expect(Self.feed(Self.head(length: 15, kind: 0), pieceBytes: pieceBytes) == nil)
        let after = Self.packet(length: 2256) + Array("*1\r\n$4\r\nPING\r\n".utf8)
        #expect(Self.feed(after, pieceBytes: pieceBytes) == nil)
    }

    @Test("Only packets that carry messages may be longer than the control limit")
    func limits() {
        let limit = BusPacketAssembler.controlPacketBytesMax
        #expect(Self.feed(Self.head(length: limit, kind: 0), pieceBytes: 64) != nil)
        #expect(Self.feed(Self.head(length: limit + 1, kind: 0), pieceBytes: 64) == nil)
        #expect(Self.feed(Self.head(length: limit + 1, kind: 0), pieceBytes: 1) == nil)
        for kind in [4, 9, 10, 0x8004] as [UInt16] {
            #expect(Self.feed(Self.head(length: limit + 1, kind: kind), pieceBytes: 1) != nil)
            #expect(Self.feed(Self.head(length: BusPacket.byteCountMax, kind: kind), pieceBytes: 64) != nil)
            #expect(Self.feed(Self.head(length: BusPacket.byteCountMax + 1, kind: kind), pieceBytes: 64) == nil)
        }
    }

    @Test("A promised length costs nothing until the bytes arrive")
    func memory() {
        var assembler = BusPacketAssembler()
        let isAccepted = Self.head(length: BusPacket.byteCountMax, kind: 4).withUnsafeBytes {
            assembler.feed($0) { _ in true }
        }
        #expect(isAccepted)
        #expect(assembler.byteCount == 16)
    }

    @Test("After the receiver has said stop, nothing more is delivered")
    func stop() {
        var assembler = BusPacketAssembler()
        let stream = Self.packet(length: 100) + Self.packet(length: 100)
        var count = 0
        _ = stream.withUnsafeBytes { bytes in
            assembler.feed(bytes) { _ in
                count += 1
                return false
            }
        }
        #expect(count == 1)
    }
}
