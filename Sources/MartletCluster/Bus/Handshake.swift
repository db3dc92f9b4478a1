// How a node gets to know another: CLUSTER MEET.
//
// 1. A is told an address. It adds a node under a made-up name, in handshake, connects, and sends MEET.
// 2. B does not know the sender. Because it is a MEET it adds the sender in the same way, with the address that the
//    sender announces or comes from, answers PONG, connects and sends PING.
// 3. Whoever gets a PONG on a link to a node in handshake learns the node's real name. If the name is already known,
//    the made-up node goes away, and the address of the known one is corrected.
//
// B may lose what it has learned, with a link or a crash, after A knows its name. So A's PINGs stay MEETs until B has
// sent a PING of its own: that is sent to members only.
//
// From then on gossip makes the members of both clusters known to each other. A handshake that takes longer than the
// node time-out (at least a second) is given up.
//
// Source: `clusterStartHandshake`, `clusterProcessPacket` in Redis 7.0 `cluster.c`.

enum Handshake {
    static let timeoutMillisecondsMin: Int64 = 1_000
    /// Strangers that may be in handshake at a time: each makes us connect to an address of its choice.
    static let countMax = 1_024

    enum Outcome: Equatable {
        case started, inProgress, invalidAddress
    }
}

extension ClusterState {
    var handshakeTimeoutMilliseconds: Int64 {
        max(configuration.nodeTimeoutMilliseconds, Handshake.timeoutMillisecondsMin)
    }

    /// Step 1. `ip` must be a numeric address.
    func startHandshake(ip: String, port: Int64, busPort: Int64) -> Handshake.Outcome {
        guard let ip = normalizedIPAddress(ip), let port = UInt16(exactly: port), port != 0,
            let busPort = UInt16(exactly: busPort), busPort != 0
        else { return .invalidAddress }
        let ports = configuration.usesTLS ? NodePorts(tls: port, bus: busPort) : NodePorts(tcp: port, bus: busPort)
        return addHandshakeNode(ip: ip, ports: ports, flags: [.handshake, .meet]) ? .started : .inProgress
    }

    /// Step 2. Returns false when there is one already for this address, or too many.
    @discardableResult
    func addHandshakeNode(ip: String, ports: NodePorts, flags: NodeFlags) -> Bool {
        var count = 0
        for node in allNodes where node.isInHandshake {
            count += 1
            if node.ip == ip, node.ports.bus == ports.bus, node.ports.tcp == ports.tcp || node.ports.tls == ports.tls {
                return false
            }
        }
        guard count < Handshake.countMax, !ip.isEmpty, ports.bus != 0 else { return false }
        guard let node = addNode(NodeID.random(using: &random), flags: flags) else { return false }
        node.ip = ip
        node.ports = ports
        connect(node)
        return true
    }

    /// Step 3. Returns the node that the link now leads to, or nil if the link is gone.
    func finishHandshake(of node: ClusterNode, with packet: BusPacket, on link: BusLink) -> ClusterNode? {
        if let known = self.node(packet.sender) {
            log(.verbose, "Handshake: we already know node \(known.id), updating the address if needed.")
            if !known.isMyself {
                updateAddress(of: known, from: packet, on: link)
            }
            removeNode(node)
            return nil
        }
        rename(node, to: packet.sender)
        node.flags.remove(.handshake)
        node.flags.formUnion(packet.flags.intersection([.primary, .replica]))
        if node.flags.isSuperset(of: [.primary, .replica]) { node.flags.remove(.replica) }
        log(.verbose, "Handshake with node \(node.id) completed.")
        todo.insert([.syncSoon, .updateHealth])
        return node
    }
}

/// A numeric IPv4 or IPv6 address in the form in which `inet_ntop` writes it; nil for anything else.
func normalizedIPAddress(_ text: String) -> String? {
    let bytes = Array(text.utf8)
    if bytes.contains(UInt8(ascii: ":")) { return parseIPv6(bytes).map(formatIPv6) }
    return parseIPv4(bytes[...]).map { $0.map(String.init).joined(separator: ".") }
}

private func parseIPv4(_ bytes: ArraySlice<UInt8>) -> [UInt8]? {
    let parts = bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    guard parts.count == 4 else { return nil }
    var result: [UInt8] = []
    for part in parts {
        guard (1...3).contains(part.count), part.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }) else { return nil }
        if part.count > 1, part.first == 0x30 { return nil }
        guard let number = UInt8(String(decoding: part, as: UTF8.self)) else { return nil }
        result.append(number)
    }
    return result
}

/// Eight groups. `::` stands once for at least one group of zeros; the last two may be an IPv4 address.
private func parseIPv6(_ bytes: [UInt8]) -> [UInt16]? {
    func groups(_ bytes: ArraySlice<UInt8>, mayEndInIPv4: Bool) -> [UInt16]? {
        if bytes.isEmpty { return [] }
        let parts = bytes.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        var result: [UInt16] = []
        for (index, part) in parts.enumerated() {
            if part.contains(UInt8(ascii: ".")) {
                guard mayEndInIPv4, index == parts.count - 1, let v4 = parseIPv4(part) else { return nil }
                result.append(UInt16(v4[0]) << 8 | UInt16(v4[1]))
                result.append(UInt16(v4[2]) << 8 | UInt16(v4[3]))
                continue
            }
            let isHex = part.allSatisfy { (0x30...0x39).contains($0) || (0x41...0x46).contains($0 & 0xDF) }
            guard (1...4).contains(part.count), isHex,
                let group = UInt16(String(decoding: part, as: UTF8.self), radix: 16)
            else { return nil }
            result.append(group)
        }
        return result
    }
    guard bytes.count <= 45 else { return nil }
    for index in bytes.indices.dropLast() where bytes[index] == 0x3A && bytes[index + 1] == 0x3A {
        guard let head = groups(bytes[..<index], mayEndInIPv4: false),
            let tail = groups(bytes[(index + 2)...], mayEndInIPv4: true), head.count + tail.count < 8
        else { return nil }
        return head + [UInt16](repeating: 0, count: 8 - head.count - tail.count) + tail
    }
    guard let all = groups(bytes[...], mayEndInIPv4: true), all.count == 8 else { return nil }
    return all
}

/// The longest run of two or more zero groups, the first of equals, becomes `::`.
private func formatIPv6(_ groups: [UInt16]) -> String {
    if groups[..<5].allSatisfy({ $0 == 0 }), groups[5] == 0xFFFF || (groups[5] == 0 && groups[6] != 0) {
        let v4 = [groups[6] >> 8, groups[6] & 255, groups[7] >> 8, groups[7] & 255]
        return (groups[5] == 0 ? "::" : "::ffff:") + v4.map(String.init).joined(separator: ".")
    }
    var best = 0..<0
    var start = 0
    while start < 8 {
        var end = start
        while end < 8, groups[end] == 0 { end += 1 }
        if end - start > max(best.count, 1) { best = start..<end }
        start = max(end, start + 1)
    }
    func text(_ part: ArraySlice<UInt16>) -> String { part.map { String($0, radix: 16) }.joined(separator: ":") }
    if best.isEmpty { return text(groups[...]) }
    return text(groups[..<best.lowerBound]) + "::" + text(groups[best.upperBound...])
}
