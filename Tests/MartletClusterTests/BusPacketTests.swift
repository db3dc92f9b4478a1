import MartletBase
import Testing

@testable import MartletCluster

@Suite struct BusPacketTests {
    /// Bytes in hex at offsets, zeros elsewhere.
    static func packet(_ length: Int, _ parts: [(Int, String)]) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: length)
        for (offset, hex) in parts {
            let digits = Array(hex)
            for index in stride(from: 0, to: digits.count, by: 2) {
                bytes[offset + index / 2] = UInt8(String(digits[index...index + 1]), radix: 16)!
            }
        }
        return bytes
    }

    /// MEET of redis-server 7.0.15, captured: port 7999, config epoch 7, slots 0-100 and 16383,
    /// announced address 127.0.0.9 and hostname host-1.example.
    static let redisMeet = packet(
        2280,
        [
            (0, "52436d62000008e800011f3f0002"), (23, "07"), (31, "07"),
            (40, "65323934633363646665326434373831653937353835356666313164623963336334303762623636"),
            (80, "ffffffffffffffffffffffff1f"), (2127, "80"), (2168, "3132372e302e302e39"), (2215, "01"),
            (2248, "464f00110104"), (2259, "18"), (2264, "686f73742d312e6578616d706c65"),
        ])

    /// PONG of a replica, redis-server 7.0.15, captured: one gossip entry.
    static let redisPong = packet(
        2360,
        [
            (0, "52436d620000093800011f3f00010001"), (23, "03"), (31, "01"),
            (40, "36343335333639333434303665343038323231323964313363626137386231623339356235323934"),
            (80, String(repeating: "ff", count: 682) + "1f"),
            (2128, "66633638363432306364663138373731336363313862663534613030343036346231383365353461"),
            (2248, "464f0012"),
            (2256, "63353638343634353162346433343432373461363937346664356662646632363139613265373732"),
            (2300, "6b01562c3132372e302e302e31"), (2350, "1f3e464e0001"),
        ])

    private func decode<T>(_ bytes: [UInt8], _ body: (BusPacket) throws -> T) throws -> T {
        try bytes.withUnsafeBytes { try body(try BusPacket.decode($0)) }
    }

    private func error(_ bytes: [UInt8]) -> BusPacket.DecodeError? {
        bytes.withUnsafeBytes {
            do throws(BusPacket.DecodeError) {
                _ = try BusPacket.decode($0)
                return nil
            } catch {
                return error
            }
        }
    }

    @Test("reads a MEET of redis-server")
    func readsMeet() throws {
        try decode(BusPacketTests.redisMeet) { packet in
            #expect(packet.kind == .meet)
            #expect(packet.sender.description == "e294c3cdfe2d4781e975855ff11db9c3c407bb66")
            #expect(packet.currentEpoch == 7 && packet.configEpoch == 7 && packet.replicationOffset == 0)
            #expect(SlotSet(bitmap: packet.slots).ranges == [0...100, 16383...16383])
            #expect(packet.primary == nil && packet.ip == "127.0.0.9")
            #expect(packet.port == 7999 && packet.busPort == 17999 && packet.secondaryPort == 0)
            #expect(packet.flags == [.myself, .primary] && !packet.isStateOK)
            #expect(packet.gossip?.isEmpty == true && packet.extensionCount == 1)
            packet.forEachExtension { type, payload in
                #expect(type == BusPacket.ExtensionType.hostname && payload.count == 16)
                #expect(String(decoding: payload.prefix { $0 != 0 }, as: UTF8.self) == "host-1.example")
            }
        }
    }

    @Test("reads a PONG of redis-server with gossip")
    func readsPong() throws {
        try decode(BusPacketTests.redisPong) { packet in
            #expect(packet.kind == .pong && packet.primary?.description == "fc686420cdf187713cc18bf54a004064b183e54a")
            #expect(SlotSet(bitmap: packet.slots).ranges == [0...5460])
            #expect(packet.flags == [.myself, .replica] && packet.isStateOK && packet.ip == "")
            let entry = try #require(packet.gossip?.first)
            #expect(entry.id.description == "c56846451b4d344274a6974fd5fbdf2619a2e772")
            #expect(entry.ip == "127.0.0.1" && entry.port == 7998 && entry.busPort == 17998)
            #expect(entry.flags == .primary && entry.pongReceivedSeconds == 0x6b01_562c)
        }
    }

    @Test("writes the bytes that redis-server writes")
    func writesMeet() throws {
        var slots = SlotSet()
        for slot in Array(0...100) + [16383] { slots.insert(slot) }
        var packet = BusPacketEncoder(
            .meet,
            .init(
                sender: NodeID("e294c3cdfe2d4781e975855ff11db9c3c407bb66")!, currentEpoch: 7, configEpoch: 7,
                replicationOffset: 0, slots: slots, primary: nil, announcedIP: "127.0.0.9",
                ports: NodePorts(tcp: 7999, bus: 17999), usesTLS: false, flags: [.myself, .primary], isStateOK: false,
                messageFlags: .extensions))
        packet.addExtension(BusPacket.ExtensionType.hostname, text: "host-1.example")
        #expect(packet.finish() == BusPacketTests.redisMeet)
    }

    @Test("writes gossip as redis-server does")
    func writesPong() throws {
        var slots = SlotSet()
        for slot in 0...5460 { slots.insert(slot) }
        var packet = BusPacketEncoder(
            .pong,
            .init(
                sender: NodeID("643536934406e40822129d13cba78b1b395b5294")!, currentEpoch: 3, configEpoch: 1,
                replicationOffset: 0, slots: slots, primary: NodeID("fc686420cdf187713cc18bf54a004064b183e54a"),
                announcedIP: "", ports: NodePorts(tcp: 7999, bus: 17999), usesTLS: false, flags: [.myself, .replica],
                isStateOK: true, messageFlags: []))
        packet.addGossip(
            .init(
                id: NodeID("c56846451b4d344274a6974fd5fbdf2619a2e772")!, pingSentSeconds: 0,
                pongReceivedSeconds: 0x6b01_562c, ip: "127.0.0.1", port: 7998, secondaryPort: 0, busPort: 17998,
                flags: .primary))
        #expect(packet.finish() == BusPacketTests.redisPong)
    }

    static let header = BusPacketEncoder.Header(
        sender: NodeID(String(repeating: "a", count: 40))!, currentEpoch: 12, configEpoch: 11, replicationOffset: -1,
        slots: SlotSet(), primary: NodeID(String(repeating: "b", count: 40)), announcedIP: "",
        ports: NodePorts(tcp: 1, tls: 2, bus: 3), usesTLS: true, flags: .replica, isStateOK: true,
        messageFlags: [.forceAck, .paused])

    @Test("packets of all types come out as they went in")
    func roundTrips() throws {
        let node = NodeID(String(repeating: "z9", count: 20))!
        try decode(BusPacketEncoder.fail(node, Self.header)) {
            #expect($0.kind == .fail && $0.failedNode == node && $0.replicationOffset == -1)
            #expect($0.port == 2 && $0.secondaryPort == 1 && $0.busPort == 3)
            #expect($0.messageFlags == [.forceAck, .paused])
        }
        var slots = SlotSet()
        for slot in [0, 77, 8191, 16383] { slots.insert(slot) }
        let update = BusPacketEncoder.update(node, configEpoch: 99, slots: slots, Self.header)
        #expect(update.count == 4352)
        try decode(update) {
            #expect($0.update?.node == node && $0.update?.configEpoch == 99)
            #expect($0.update.map { slots.equals(bitmap: $0.slots) } == true)
        }
        for kind in [BusPacket.Kind.authRequest, .authAck, .manualFailoverStart] {
            let bytes = BusPacketEncoder.bare(kind, Self.header)
            #expect(bytes.count == 2256)
            try decode(bytes) { #expect($0.kind == kind && $0.currentEpoch == 12) }
        }
        for (bytes, count) in [
            (BusPacketEncoder.publish([1, 2], [3], isSharded: true, Self.header), 2264 + 3),
            (BusPacketEncoder.lightPublish([1, 2], [3], isSharded: true), 24 + 3),
        ] {
            #expect(bytes.count == count)
            try decode(bytes) {
                #expect($0.kind == .publishShard && Array($0.published.channel) == [1, 2])
                #expect(Array($0.published.message) == [3])
            }
        }
    }

    @Test("every length that does not fit its type is refused")
    func lengths() {
        func resized(_ bytes: [UInt8], by count: Int) -> [UInt8] {
            var bytes = count < 0 ? Array(bytes.dropLast(-count)) : bytes + [UInt8](repeating: 0, count: count)
            for (index, shift) in [24, 16, 8, 0].enumerated() {
                bytes[4 + index] = UInt8(truncatingIfNeeded: bytes.count >> shift)
            }
            return bytes
        }
        let node = Self.header.sender
        let valid = [
            BusPacketTests.redisMeet, BusPacketTests.redisPong, BusPacketEncoder.fail(node, Self.header),
            BusPacketEncoder.update(node, configEpoch: 1, slots: SlotSet(), Self.header),
            BusPacketEncoder.bare(.authAck, Self.header),
            BusPacketEncoder.publish([1], [2], isSharded: false, Self.header),
            BusPacketEncoder.lightPublish([1], [2], isSharded: false),
        ]
        for bytes in valid {
            #expect(error(bytes) == nil)
            for change in [-104, -40, -8, -1, 1, 8, 104] where bytes.count + change >= 0 {
                #expect(error(resized(bytes, by: change)) != nil)
            }
            // The length field must be the truth.
            #expect(error(bytes + [0]) == .badLength)
            #expect(error(Array(bytes.dropLast())) == .badLength)
        }
    }

    @Test("each field that makes no sense has its own refusal")
    func refusals() {
        func changed(_ offset: Int, _ value: UInt8, _ bytes: [UInt8] = BusPacketTests.redisMeet) -> [UInt8] {
            var bytes = bytes
            bytes[offset] = value
            return bytes
        }
        #expect(error([]) == .badLength)
        #expect(error(changed(0, 0)) == .badSignature)
        #expect(error(changed(9, 2)) == .badVersion)
        #expect(error(changed(13, 11)) == .unknownType(11))
        #expect(error(changed(12, 0x80)) == .badLightType)
        #expect(error(changed(40, UInt8(ascii: "A"))) == .badSender)
        #expect(error(changed(16, 0xFF)) == .badEpoch)
        #expect(error(changed(24, 0x41)) == .badEpoch)
        #expect(error(changed(2259, 17)) == .badExtension)
        #expect(error(changed(2259, 0)) == .badExtension)
        #expect(error(changed(2256, 0xFF)) == .badExtension)
        #expect(error(changed(2214, 0xFF)) == .badExtension)
    }

    @Test("framing needs eight bytes, and refuses what is no packet or too long")
    func framing() {
        func framing(_ bytes: [UInt8]) -> BusPacket.Framing { bytes.withUnsafeBytes { BusPacket.framing(of: $0) } }
        #expect(framing(Array("RCmb".utf8)) == .needsMoreBytes)
        #expect(framing(Array("RCmb".utf8) + [0, 0, 8, 0xE8]) == .length(2280))
        #expect(framing(Array("RCmb".utf8) + [0, 0, 0, 15]) == .invalid)
        #expect(framing(Array("RCmb".utf8) + [0xFF, 0, 0, 0]) == .invalid)
        #expect(framing(Array("GET / HTTP".utf8)) == .invalid)
    }
}
