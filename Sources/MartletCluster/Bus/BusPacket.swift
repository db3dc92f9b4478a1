// The cluster bus packet, byte for byte that of Redis and Valkey. All numbers are big-endian.
//
//      0  signature "RCmb"            40  sender id (40)           2214  extension count (2)
//      4  total length (4)            80  slot bitmap (2048)       2216  unused (30)
//      8  version 1 (2)             2128  primary's id or 0 (40)   2246  secondary client port (2)
//     10  client port (2)           2168  announced address (46)   2248  bus port (2)
//     12  type (2)                                                 2250  node flags (2)
//     14  gossip count (2)                                         2252  cluster state (1)
//     16  current epoch (8)                                        2253  message flags (3)
//     24  config epoch (8)                                         2256  data
//     32  replication offset (8)
//
// PING, PONG and MEET carry gossip entries of 104 bytes and then extensions of 8 + 8n bytes. Valkey's light header is
// the first 16 bytes only, announced by bit 0x8000 of the type and used for published messages.
//
// Decoding checks every length once and copies nothing; after `decode` all accessors are safe. A packet that fails is
// dropped whole.
//
// Source: `clusterMsg` and its static asserts in Redis 7.0 `cluster.h`, `clusterMsgLight` in Valkey `cluster_legacy.h`.

/// A received packet, length-checked: a view of the receive buffer.
package struct BusPacket {
    package enum Kind: UInt16, Sendable, CaseIterable {
        case ping = 0
        case pong = 1
        case meet = 2
        case fail = 3
        case publish = 4
        case authRequest = 5
        case authAck = 6
        case update = 7
        case manualFailoverStart = 8
        case module = 9
        case publishShard = 10

        /// The name in CLUSTER INFO. Source: `clusterGetMessageTypeString`.
        package var name: String {
            switch self {
            case .ping: "ping"
            case .pong: "pong"
            case .meet: "meet"
            case .fail: "fail"
            case .publish: "publish"
            case .authRequest: "auth-req"
            case .authAck: "auth-ack"
            case .update: "update"
            case .manualFailoverStart: "mfstart"
            case .module: "module"
            case .publishShard: "publishshard"
            }
        }
    }

    package struct MessageFlags: OptionSet, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }
        /// The sender holds back writes for a manual failover; its offset is final.
        package static let paused = MessageFlags(rawValue: 1)
        /// Vote although the primary is not marked FAIL in your view.
        package static let forceAck = MessageFlags(rawValue: 2)
        /// The sender understands extensions.
        package static let extensions = MessageFlags(rawValue: 4)
    }

    package enum ExtensionType {
        package static let hostname: UInt16 = 0
        package static let humanNodename: UInt16 = 1
        package static let forgottenNode: UInt16 = 2
        package static let shardID: UInt16 = 3
    }

    /// Why a packet is dropped.
    package enum DecodeError: Error, Equatable {
        case badSignature, badLength, badVersion, badSender, badEpoch, badExtension, badLightType
        /// A well-formed packet of a type from the future.
        case unknownType(UInt16)
    }

    /// What the first bytes of a stream say about the packet that they begin.
    package enum Framing: Equatable {
        case needsMoreBytes
        /// The packet is this long.
        case length(Int)
        case invalid
    }

    package static let headerByteCount = 2256
    package static let lightHeaderByteCount = 16
    package static let gossipByteCount = 104
    package static let ipByteCount = 46
    static let protocolVersion: UInt16 = 1
    static let lightBit: UInt16 = 0x8000
    /// A published message is at most `proto-max-bulk-len` (512 MB) long, and so is the channel name.
    package static let byteCountMax = 2 * 512 * 1024 * 1024 + headerByteCount + 8

    enum Offset {
        static let totalLength = 4
        static let version = 8
        static let port = 10
        static let kind = 12
        static let gossipCount = 14
        static let currentEpoch = 16
        static let configEpoch = 24
        static let replicationOffset = 32
        static let sender = 40
        static let slots = 80
        static let primary = 2128
        static let ip = 2168
        static let extensionCount = 2214
        static let secondaryPort = 2246
        static let busPort = 2248
        static let flags = 2250
        static let state = 2252
        static let messageFlags = 2253
        static let data = 2256
    }

    private let bytes: UnsafeRawBufferPointer
    package let kind: Kind
    package let isLight: Bool
    /// ``NodeID/null`` in a light packet.
    package let sender: NodeID

    /// Looks at the first 8 bytes of what has been received.
    package static func framing(of bytes: UnsafeRawBufferPointer) -> Framing {
        guard bytes.count >= 8 else { return .needsMoreBytes }
        guard bytes.loadUnaligned(as: UInt32.self).bigEndian == signature else { return .invalid }
        let length = Int(bytes.loadUnaligned(fromByteOffset: Offset.totalLength, as: UInt32.self).bigEndian)
        guard length >= lightHeaderByteCount, length <= byteCountMax else { return .invalid }
        return .length(length)
    }

    /// "RCmb"
    static let signature: UInt32 = 0x5243_6D62

    package static func decode(_ bytes: UnsafeRawBufferPointer) throws(DecodeError) -> BusPacket {
        guard bytes.count >= lightHeaderByteCount else { throw .badLength }
        guard bytes.loadUnaligned(as: UInt32.self).bigEndian == signature else { throw .badSignature }
        let total = bytes.loadUnaligned(fromByteOffset: Offset.totalLength, as: UInt32.self).bigEndian
        guard Int(total) == bytes.count else { throw .badLength }
        guard read16(bytes, Offset.version) == protocolVersion else { throw .badVersion }
        let rawKind = read16(bytes, Offset.kind)
        let isLight = rawKind & lightBit != 0
        guard isLight || bytes.count >= headerByteCount else { throw .badLength }
        guard let kind = Kind(rawValue: rawKind & ~lightBit) else { throw .unknownType(rawKind) }
        if isLight, kind != .publish, kind != .publishShard { throw .badLightType }
        var sender = NodeID.null
        if !isLight {
            let field = UnsafeRawBufferPointer(rebasing: bytes[Offset.sender..<Offset.sender + NodeID.byteCount])
            guard let id = NodeID(bytes: field) else { throw .badSender }
            sender = id
        }
        let packet = BusPacket(bytes: bytes, kind: kind, isLight: isLight, sender: sender)
        try packet.checkLengths()
        if !isLight, packet.currentEpoch > ConfigEpoch.max || packet.configEpoch > ConfigEpoch.max { throw .badEpoch }
        return packet
    }

    private func checkLengths() throws(DecodeError) {
        let data = isLight ? BusPacket.lightHeaderByteCount : BusPacket.headerByteCount
        let rest = bytes.count - data
        switch kind {
        case .ping, .pong, .meet:
            var position = data + gossipCount * BusPacket.gossipByteCount
            guard position <= bytes.count else { throw .badLength }
            for _ in 0..<extensionCount {
                guard bytes.count - position >= 8 else { throw .badExtension }
                let length = Int(BusPacket.read32(bytes, position))
                guard length >= 8, length % 8 == 0, length <= bytes.count - position else { throw .badExtension }
                position += length
            }
            guard position == bytes.count else { throw .badLength }
        case .fail:
            guard rest == NodeID.byteCount else { throw .badLength }
        case .publish, .publishShard:
            guard rest >= 8 else { throw .badLength }
            let channel = Int(BusPacket.read32(bytes, data)), message = Int(BusPacket.read32(bytes, data + 4))
            guard rest - 8 == channel + message else { throw .badLength }
        case .authRequest, .authAck, .manualFailoverStart:
            guard rest == 0 else { throw .badLength }
        case .update:
            guard rest == BusPacket.updateByteCount else { throw .badLength }
        case .module:
            guard rest >= 13, rest - 13 == Int(BusPacket.read32(bytes, data + 8)) else { throw .badLength }
        }
    }

    static let updateByteCount = 8 + NodeID.byteCount + SlotSet.bitmapByteCount

    // MARK: Header. Only for packets with a full header.

    package var currentEpoch: UInt64 { BusPacket.read64(bytes, Offset.currentEpoch) }
    package var configEpoch: UInt64 { BusPacket.read64(bytes, Offset.configEpoch) }
    package var replicationOffset: Int64 {
        Int64(bitPattern: BusPacket.read64(bytes, Offset.replicationOffset))
    }
    /// The bitmap of the slots that the sender, or its primary, claims.
    package var slots: UnsafeRawBufferPointer { field(Offset.slots, SlotSet.bitmapByteCount) }
    /// The primary that the sender follows; nil when it says that it is a primary itself.
    package var primary: NodeID? {
        let id = NodeID(unchecked: field(Offset.primary, NodeID.byteCount))
        return id == .null ? nil : id
    }
    /// The address that the sender announces: empty for none, nil when it is none that can be written down.
    package var ip: String? { BusPacket.ip(in: field(Offset.ip, BusPacket.ipByteCount)) }
    package var port: UInt16 { BusPacket.read16(bytes, Offset.port) }
    package var secondaryPort: UInt16 { BusPacket.read16(bytes, Offset.secondaryPort) }
    package var busPort: UInt16 { BusPacket.read16(bytes, Offset.busPort) }
    package var flags: NodeFlags { NodeFlags(rawValue: BusPacket.read16(bytes, Offset.flags)) }
    /// The cluster is up in the sender's view.
    package var isStateOK: Bool { bytes[Offset.state] == 0 }
    package var messageFlags: MessageFlags { MessageFlags(rawValue: bytes[Offset.messageFlags]) }
    package var gossipCount: Int { Int(BusPacket.read16(bytes, Offset.gossipCount)) }
    package var extensionCount: Int {
        messageFlags.contains(.extensions) ? Int(BusPacket.read16(bytes, Offset.extensionCount)) : 0
    }

    // MARK: Data

    /// What the sender knows about another node.
    package struct Gossip: Sendable {
        package var id: NodeID
        package var pingSentSeconds: UInt32
        package var pongReceivedSeconds: UInt32
        package var ip: String
        package var port: UInt16
        package var secondaryPort: UInt16
        package var busPort: UInt16
        package var flags: NodeFlags

        package init(
            id: NodeID, pingSentSeconds: UInt32, pongReceivedSeconds: UInt32, ip: String, port: UInt16,
            secondaryPort: UInt16, busPort: UInt16, flags: NodeFlags
        ) {
            self.id = id
            self.pingSentSeconds = pingSentSeconds
            self.pongReceivedSeconds = pongReceivedSeconds
            self.ip = ip
            self.port = port
            self.secondaryPort = secondaryPort
            self.busPort = busPort
            self.flags = flags
        }
    }

    /// The gossip entries, or nil if one of them is not to be believed: then none is.
    package var gossip: [Gossip]? {
        var entries: [Gossip] = []
        entries.reserveCapacity(gossipCount)
        for index in 0..<gossipCount {
            let entry = field(Offset.data + index * BusPacket.gossipByteCount, BusPacket.gossipByteCount)
            guard let id = NodeID(bytes: UnsafeRawBufferPointer(rebasing: entry[0..<40])),
                let ip = BusPacket.ip(in: UnsafeRawBufferPointer(rebasing: entry[48..<94]))
            else { return nil }
            entries.append(
                Gossip(
                    id: id, pingSentSeconds: BusPacket.read32(entry, 40),
                    pongReceivedSeconds: BusPacket.read32(entry, 44), ip: ip, port: BusPacket.read16(entry, 94),
                    secondaryPort: BusPacket.read16(entry, 100), busPort: BusPacket.read16(entry, 96),
                    flags: NodeFlags(rawValue: BusPacket.read16(entry, 98))))
        }
        return entries
    }

    /// Calls `body` with type and payload of every extension.
    package func forEachExtension(_ body: (_ type: UInt16, _ payload: UnsafeRawBufferPointer) -> Void) {
        var position = Offset.data + gossipCount * BusPacket.gossipByteCount
        for _ in 0..<extensionCount {
            let length = Int(BusPacket.read32(bytes, position))
            body(BusPacket.read16(bytes, position + 4), field(position + 8, length - 8))
            position += length
        }
    }

    /// The node that a FAIL packet is about; nil when it is no id.
    package var failedNode: NodeID? { NodeID(bytes: field(Offset.data, NodeID.byteCount)) }

    package var update: (configEpoch: UInt64, node: NodeID, slots: UnsafeRawBufferPointer)? {
        let epoch = BusPacket.read64(bytes, Offset.data)
        guard epoch <= ConfigEpoch.max, let node = NodeID(bytes: field(Offset.data + 8, NodeID.byteCount)) else {
            return nil
        }
        return (epoch, node, field(Offset.data + 8 + NodeID.byteCount, SlotSet.bitmapByteCount))
    }

    package var published: (channel: UnsafeRawBufferPointer, message: UnsafeRawBufferPointer) {
        let data = isLight ? BusPacket.lightHeaderByteCount : BusPacket.headerByteCount
        let channel = Int(BusPacket.read32(bytes, data)), message = Int(BusPacket.read32(bytes, data + 4))
        return (field(data + 8, channel), field(data + 8 + channel, message))
    }

    // MARK: Reading bytes. `decode` has shown that every offset used is in bounds.

    private func field(_ offset: Int, _ count: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
    }

    private static func read16(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt16 {
        bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self).bigEndian
    }

    private static func read32(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt32 {
        bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self).bigEndian
    }

    private static func read64(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt64 {
        bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self).bigEndian
    }

    /// The text up to the first zero byte, if it may be an address.
    private static func ip(in bytes: UnsafeRawBufferPointer) -> String? {
        let text = UnsafeRawBufferPointer(rebasing: bytes.prefix { $0 != 0 })
        guard text.count < bytes.count else { return nil }
        let string = String(decoding: text, as: UTF8.self)
        return isValidAnnouncedIP(string) ? string : nil
    }
}
