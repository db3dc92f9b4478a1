import MartletBase

/// Builds one packet to be sent.
package struct BusPacketEncoder {
    /// What stands in the header of every packet of this node at this moment.
    package struct Header {
        package var sender: NodeID
        package var currentEpoch: UInt64
        package var configEpoch: UInt64
        package var replicationOffset: Int64
        package var slots: SlotSet
        /// Nil for a primary.
        package var primary: NodeID?
        package var announcedIP: String
        package var ports: NodePorts
        package var usesTLS: Bool
        package var flags: NodeFlags
        package var isStateOK: Bool
        package var messageFlags: BusPacket.MessageFlags

        package init(
            sender: NodeID, currentEpoch: UInt64, configEpoch: UInt64, replicationOffset: Int64, slots: SlotSet,
            primary: NodeID?, announcedIP: String, ports: NodePorts, usesTLS: Bool, flags: NodeFlags,
            isStateOK: Bool, messageFlags: BusPacket.MessageFlags
        ) {
            self.sender = sender
            self.currentEpoch = currentEpoch
            self.configEpoch = configEpoch
            self.replicationOffset = replicationOffset
            self.slots = slots
            self.primary = primary
            self.announcedIP = announcedIP
            self.ports = ports
            self.usesTLS = usesTLS
            self.flags = flags
            self.isStateOK = isStateOK
            self.messageFlags = messageFlags
        }
    }

    private var bytes: [UInt8]
    private var gossipCount: UInt16 = 0
    private var extensionCount: UInt16 = 0

    package init(_ kind: BusPacket.Kind, _ header: Header) {
        bytes = [UInt8](repeating: 0, count: BusPacket.headerByteCount)
        put(BusPacket.signature, at: 0)
        put(BusPacket.protocolVersion, at: BusPacket.Offset.version)
        put(kind.rawValue, at: BusPacket.Offset.kind)
        put(header.currentEpoch, at: BusPacket.Offset.currentEpoch)
        put(header.configEpoch, at: BusPacket.Offset.configEpoch)
        put(header.replicationOffset, at: BusPacket.Offset.replicationOffset)
        put(header.sender, at: BusPacket.Offset.sender)
        put(header.slots, at: BusPacket.Offset.slots)
        if let primary = header.primary { put(primary, at: BusPacket.Offset.primary) }
        put(ip: header.announcedIP, at: BusPacket.Offset.ip)
        let (first, second) =
            header.usesTLS ? (header.ports.tls, header.ports.tcp) : (header.ports.tcp, header.ports.tls)
        put(first, at: BusPacket.Offset.port)
        put(second, at: BusPacket.Offset.secondaryPort)
        put(header.ports.bus, at: BusPacket.Offset.busPort)
        put(header.flags.rawValue, at: BusPacket.Offset.flags)
        bytes[BusPacket.Offset.state] = header.isStateOK ? 0 : 1
        bytes[BusPacket.Offset.messageFlags] = header.messageFlags.rawValue
    }

    /// - Precondition: no extension was added yet, and fewer than 65535 entries.
    package mutating func addGossip(_ entry: BusPacket.Gossip) {
        precondition(extensionCount == 0 && gossipCount < .max)
        let start = bytes.count
        bytes.append(contentsOf: repeatElement(0, count: BusPacket.gossipByteCount))
        put(entry.id, at: start)
        put(entry.pingSentSeconds, at: start + 40)
        put(entry.pongReceivedSeconds, at: start + 44)
        put(ip: entry.ip, at: start + 48)
        put(entry.port, at: start + 94)
        put(entry.busPort, at: start + 96)
        put(entry.flags.rawValue, at: start + 98)
        put(entry.secondaryPort, at: start + 100)
        gossipCount += 1
    }

    package mutating func addExtension(_ type: UInt16, payload: [UInt8]) {
        let start = bytes.count
        let padded = (payload.count + 7) / 8 * 8
        bytes.append(contentsOf: repeatElement(0, count: 8 + padded))
        put(UInt32(8 + padded), at: start)
        put(type, at: start + 4)
        bytes.replaceSubrange(start + 8..<start + 8 + payload.count, with: payload)
        extensionCount += 1
    }

    /// A text extension ends with a zero byte.
    package mutating func addExtension(_ type: UInt16, text: String) {
        addExtension(type, payload: Array(text.utf8) + [0])
    }

    package mutating func addExtension(forgotten node: NodeID, ttlSeconds: UInt64) {
        let ttl = (0..<8).map { UInt8(truncatingIfNeeded: ttlSeconds >> UInt64(56 - 8 * $0)) }
        addExtension(BusPacket.ExtensionType.forgottenNode, payload: node.bytes + ttl)
    }

    package consuming func finish() -> [UInt8] {
        put(UInt32(bytes.count), at: BusPacket.Offset.totalLength)
        put(gossipCount, at: BusPacket.Offset.gossipCount)
        put(extensionCount, at: BusPacket.Offset.extensionCount)
        return bytes
    }

    // MARK: Other packets

    package static func fail(_ node: NodeID, _ header: Header) -> [UInt8] {
        var packet = BusPacketEncoder(.fail, header)
        packet.bytes.append(contentsOf: node.bytes)
        return packet.finish()
    }

    package static func update(_ node: NodeID, configEpoch: UInt64, slots: SlotSet, _ header: Header) -> [UInt8] {
        var packet = BusPacketEncoder(.update, header)
        packet.bytes.append(contentsOf: repeatElement(0, count: BusPacket.updateByteCount))
        packet.put(configEpoch, at: BusPacket.Offset.data)
        packet.put(node, at: BusPacket.Offset.data + 8)
        packet.put(slots, at: BusPacket.Offset.data + 8 + NodeID.byteCount)
        return packet.finish()
    }

    /// AUTH_REQUEST, AUTH_ACK and MFSTART are a header and nothing else.
    package static func bare(_ kind: BusPacket.Kind, _ header: Header) -> [UInt8] {
        BusPacketEncoder(kind, header).finish()
    }

    package static func publish(_ channel: [UInt8], _ message: [UInt8], isSharded: Bool, _ header: Header) -> [UInt8] {
        var packet = BusPacketEncoder(isSharded ? .publishShard : .publish, header)
        packet.append(channel, message)
        return packet.finish()
    }

    /// For peers that announce ``NodeFlags/supportsLightPublish``.
    package static func lightPublish(_ channel: [UInt8], _ message: [UInt8], isSharded: Bool) -> [UInt8] {
        var packet = BusPacketEncoder(light: isSharded ? .publishShard : .publish)
        packet.append(channel, message)
        packet.put(UInt32(packet.bytes.count), at: BusPacket.Offset.totalLength)
        return packet.bytes
    }

    private init(light kind: BusPacket.Kind) {
        bytes = [UInt8](repeating: 0, count: BusPacket.lightHeaderByteCount)
        put(BusPacket.signature, at: 0)
        put(BusPacket.protocolVersion, at: BusPacket.Offset.version)
        put(kind.rawValue | BusPacket.lightBit, at: BusPacket.Offset.kind)
    }

    private mutating func append(_ channel: [UInt8], _ message: [UInt8]) {
        let start = bytes.count
        bytes.append(contentsOf: repeatElement(0, count: 8))
        put(UInt32(channel.count), at: start)
        put(UInt32(message.count), at: start + 4)
        bytes.append(contentsOf: channel)
        bytes.append(contentsOf: message)
    }

    // MARK: Writing bytes

    private mutating func put(_ value: some FixedWidthInteger, at offset: Int) {
        bytes.withUnsafeMutableBytes { $0.storeBytes(of: value.bigEndian, toByteOffset: offset, as: type(of: value)) }
    }

    private mutating func put(_ id: NodeID, at offset: Int) {
        bytes.replaceSubrange(offset..<offset + NodeID.byteCount, with: id.bytes)
    }

    private mutating func put(_ slots: SlotSet, at offset: Int) {
        bytes.withUnsafeMutableBytes { raw in
            for index in 0..<HashSlot.count / 64 {
                let word = slots.word(index)
                if word != 0 {
                    raw.storeBytes(of: word.littleEndian, toByteOffset: offset + index * 8, as: UInt64.self)
                }
            }
        }
    }

    /// At most 45 bytes and a zero byte.
    private mutating func put(ip: String, at offset: Int) {
        let text = Array(ip.utf8.prefix(BusPacket.ipByteCount - 1))
        bytes.replaceSubrange(offset..<offset + text.count, with: text)
    }
}
