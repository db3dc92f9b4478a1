// nodes.conf: what a node must remember of the cluster across a restart, in the format of Redis 7.0, which is also the
// format of CLUSTER NODES.
//
// One line per node:
//
//     <id> <ip>:<port>@<bus port>[,<hostname>[,<aux>=<value>]…] <flags> <primary id or -> <ping sent> <pong received>
//     <config epoch> <connected|disconnected> [<slot>|<first>-<last>|[<slot>->-<id>]|[<slot>-<-<id>]]…
//
// and a line `vars currentEpoch <n> lastVoteEpoch <n>`. Blank lines are padding. Redis 7.2 and Valkey add aux fields
// (shard-id, nodename, tcp-port, tls-port…); Redis 7.0 would take those for a part of the hostname. So this node reads
// them, but writes its own shard id as a variable, which Redis 7.0 and Valkey skip with a notice; likewise the epoch of
// the last election that it has won.
//
// A file that makes no sense is refused with line and cause, never repaired by guessing: forgetting a vote or an epoch
// may elect two primaries.
//
// Source: `clusterLoadConfig`, `clusterSaveConfig`, `clusterGenNodeDescription` in Redis 7.0 `cluster.c`, aux fields in
// Valkey `cluster_legacy.c`.

import MartletBase

/// Why a nodes.conf was refused.
package struct NodesConfError: Error, Equatable, CustomStringConvertible {
    /// Counted from 1.
    package var line: Int
    package var cause: String
    package var description: String { "corrupted cluster config file: line \(line): \(cause)" }
}

/// The contents of nodes.conf.
package struct NodesConf: Sendable, Equatable {
    /// More nodes than this are refused: node indices are 16-bit numbers.
    package static let nodeCountMax = 32_768
    /// Longest line accepted; every slot open takes 16384 x 56 bytes. Source: `maxline` in `clusterLoadConfig`.
    package static let lineByteCountMax = 1024 + HashSlot.count * 128

    package struct OpenSlot: Sendable, Equatable {
        package var slot: HashSlot
        package var isMigrating: Bool
        package var peer: NodeID
    }

    package struct Node: Sendable, Equatable {
        package var id: NodeID
        package var ip = ""
        package var port: UInt16 = 0
        package var busPort: UInt16 = 0
        package var hostname = ""
        package var shardID: NodeID?
        package var humanNodename = ""
        package var tcpPort: UInt16?
        package var tlsPort: UInt16?
        package var flags: NodeFlags = []
        package var primary: NodeID?
        package var pingSent: Int64 = 0
        package var pongReceived: Int64 = 0
        package var configEpoch: UInt64 = 0
        package var isConnected = false
        /// Ascending, as written.
        package var slots: [ClosedRange<Int>] = []
        package var openSlots: [OpenSlot] = []

        package init(id: NodeID) { self.id = id }
    }

    package var nodes: [Node] = []
    package var currentEpoch: UInt64 = 0
    package var lastVoteEpoch: UInt64 = 0
    /// Epoch of the last election that the node has won; 0 for none.
    package var electedEpoch: UInt64 = 0
    /// Whether the file had a `vars` line; without one no vote is known.
    package var hasVariables = false
    package var shardID: NodeID?

    package init() {}

    package var myself: Node? { nodes.first { $0.flags.contains(.myself) } }

    // MARK: Reading

    /// Reads a file. Nil for a file without a single line: it was only created to be locked.
    package static func parse(_ text: UnsafeRawBufferPointer) throws(NodesConfError) -> NodesConf? {
        var conf = NodesConf()
        var seen: Set<NodeID> = []
        var lineNumber = 0
        var start = 0
        var isEmpty = true
        while start < text.count {
            var end = start
            while end < text.count, text[end] != UInt8(ascii: "\n") { end += 1 }
            lineNumber += 1
            let line = UnsafeRawBufferPointer(rebasing: text[start..<end])
            start = end + 1
            if line.count > lineByteCountMax { throw NodesConfError(line: lineNumber, cause: "line too long") }
            let fields = try split(line, lineNumber)
            guard let first = fields.first else { continue }
            isEmpty = false
            if first.lowercased() == "vars" {
                try conf.readVariables(fields, lineNumber)
                continue
            }
            let node = try parseNode(fields, lineNumber)
            guard seen.insert(node.id).inserted else {
                throw NodesConfError(line: lineNumber, cause: "node \(node.id) appears twice")
            }
            if node.flags.contains(.myself), conf.myself != nil {
                throw NodesConfError(line: lineNumber, cause: "a second node is marked as myself")
            }
            guard conf.nodes.count < nodeCountMax else {
                throw NodesConfError(line: lineNumber, cause: "more than \(nodeCountMax) nodes")
            }
            conf.nodes.append(node)
        }
        if isEmpty { return nil }
        guard conf.myself != nil else { throw NodesConfError(line: lineNumber, cause: "no node is marked as myself") }
        return conf
    }

    package static func parse(_ text: [UInt8]) throws(NodesConfError) -> NodesConf? {
        let result: Result<NodesConf?, NodesConfError> = text.withUnsafeBytes { bytes in
            do throws(NodesConfError) {
                return .success(try parse(bytes))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    package static func parse(_ text: String) throws(NodesConfError) -> NodesConf? { try parse(Array(text.utf8)) }

    private mutating func readVariables(_ fields: [String], _ line: Int) throws(NodesConfError) {
        guard fields.count % 2 == 1 else { throw NodesConfError(line: line, cause: "a variable has no value") }
        hasVariables = true
        for index in stride(from: 1, to: fields.count, by: 2) {
            switch fields[index].lowercased() {
            case "currentepoch": currentEpoch = try NodesConf.epoch(fields[index + 1], line)
            case "lastvoteepoch": lastVoteEpoch = try NodesConf.epoch(fields[index + 1], line)
            case "myelectedepoch": electedEpoch = try NodesConf.epoch(fields[index + 1], line)
            case "myshardid":
                guard let id = NodeID(fields[index + 1]) else {
                    throw NodesConfError(line: line, cause: "invalid shard id '\(fields[index + 1])'")
                }
                shardID = id
            default: break
            }
        }
    }

    private static func split(_ line: UnsafeRawBufferPointer, _ lineNumber: Int) throws(NodesConfError) -> [String] {
        var fields: [String] = []
        var start = 0
        for position in 0...line.count {
            let byte = position < line.count ? line[position] : UInt8(ascii: " ")
            let isSpace = byte == 0x20 || (byte >= 0x09 && byte <= 0x0D)
            if isSpace {
                if position > start {
                    fields.append(
                        String(decoding: UnsafeRawBufferPointer(rebasing: line[start..<position]), as: UTF8.self))
                }
                start = position + 1
            } else if byte < 0x20 || byte >= 0x7F {
                throw NodesConfError(line: lineNumber, cause: "byte \(byte) at column \(position + 1)")
            }
        }
        return fields
    }

    private static func parseNode(_ fields: [String], _ line: Int) throws(NodesConfError) -> Node {
        func fail(_ cause: String) -> NodesConfError { NodesConfError(line: line, cause: cause) }
        guard fields.count >= 8 else { throw fail("\(fields.count) fields where 8 are needed") }
        guard let id = NodeID(fields[0]) else { throw fail("invalid node id '\(fields[0])'") }
        var node = Node(id: id)
        try parseAddress(fields[1], of: &node, line)
        try parseFlags(fields[2], of: &node, line)
        if fields[3] != "-" {
            guard let primary = NodeID(fields[3]) else { throw fail("invalid primary id '\(fields[3])'") }
            guard primary != id else { throw fail("node \(id) replicates itself") }
            node.primary = primary
        }
        guard let pingSent = Int64(fields[4]) else { throw fail("invalid ping time '\(fields[4])'") }
        guard let pongReceived = Int64(fields[5]) else { throw fail("invalid pong time '\(fields[5])'") }
        node.pingSent = pingSent
        node.pongReceived = pongReceived
        node.configEpoch = try epoch(fields[6], line)
        node.isConnected = fields[7] == "connected"
        for field in fields[8...] {
            if field.hasPrefix("[") {
                node.openSlots.append(try parseOpenSlot(field, line))
            } else {
                node.slots.append(try parseSlotRange(field, line))
            }
        }
        return node
    }

    private static func parseAddress(_ field: String, of node: inout Node, _ line: Int) throws(NodesConfError) {
        func fail(_ cause: String) -> NodesConfError { NodesConfError(line: line, cause: cause) }
        let parts = field.split(separator: ",", omittingEmptySubsequences: false)
        if parts.count > 1 {
            guard parts[1].isEmpty || isValidHostname(parts[1]) else { throw fail("invalid hostname '\(parts[1])'") }
            node.hostname = String(parts[1])
        }
        for aux in parts.dropFirst(2) {
            guard let equals = aux.firstIndex(of: "=") else { throw fail("'\(aux)' is not of the form name=value") }
            let value = aux[aux.index(after: equals)...]
            switch aux[..<equals] {
            case "shard-id":
                guard let id = NodeID(value) else { throw fail("invalid shard id '\(value)'") }
                node.shardID = id
            case "nodename":
                guard isValidHumanNodename(value) else { throw fail("invalid nodename '\(value)'") }
                node.humanNodename = String(value)
            case "tcp-port": node.tcpPort = try port(value, line)
            case "tls-port": node.tlsPort = try port(value, line)
            default: break
            }
        }
        guard let colon = parts[0].lastIndex(of: ":") else { throw fail("no port in '\(parts[0])'") }
        let ip = parts[0][..<colon]
        guard isValidAnnouncedIP(ip) else { throw fail("invalid address '\(ip)'") }
        node.ip = String(ip)
        let ports = parts[0][parts[0].index(after: colon)...].split(separator: "@", omittingEmptySubsequences: false)
        node.port = try port(ports[0], line)
        if ports.count == 1 {
            // Files from before Redis 4.0 have no bus port.
            node.busPort = node.port <= UInt16.max - busPortOffset ? node.port + busPortOffset : 0
        } else {
            node.busPort = try port(ports[1], line)
        }
    }

    private static func parseFlags(_ field: String, of node: inout Node, _ line: Int) throws(NodesConfError) {
        for name in field.split(separator: ",", omittingEmptySubsequences: false) {
            if name == "noflags" { continue }
            guard let flag = NodeFlags.names.first(where: { $0.name == name.lowercased() })?.flag else {
                throw NodesConfError(line: line, cause: "unknown flag '\(name)'")
            }
            node.flags.insert(flag)
        }
        if node.flags.isSuperset(of: [.primary, .replica]) {
            throw NodesConfError(line: line, cause: "a node is both master and slave")
        }
    }

    private static func parseSlotRange(_ field: String, _ line: Int) throws(NodesConfError) -> ClosedRange<Int> {
        let ends = field.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
        guard let first = slot(ends[0]), let last = slot(ends[ends.count - 1]), first <= last else {
            throw NodesConfError(line: line, cause: "invalid slots '\(field)'")
        }
        return first...last
    }

    /// `[77->-<id>]` or `[77-<-<id>]`.
    private static func parseOpenSlot(_ field: String, _ line: Int) throws(NodesConfError) -> OpenSlot {
        func fail() -> NodesConfError { NodesConfError(line: line, cause: "invalid open slot '\(field)'") }
        guard field.hasSuffix("]"), let dash = field.firstIndex(of: "-") else { throw fail() }
        let rest = field[dash...].dropLast()
        guard let number = slot(field[field.index(after: field.startIndex)..<dash]),
            let slot = HashSlot(Int64(number)), rest.count > 3,
            let peer = NodeID(rest.dropFirst(3))
        else { throw fail() }
        switch rest.prefix(3) {
        case "->-": return OpenSlot(slot: slot, isMigrating: true, peer: peer)
        case "-<-": return OpenSlot(slot: slot, isMigrating: false, peer: peer)
        default: throw fail()
        }
    }

    private static func slot(_ text: some StringProtocol) -> Int? {
        guard let number = Int(text), number >= 0, number < HashSlot.count else { return nil }
        return number
    }

    private static func port(_ text: some StringProtocol, _ line: Int) throws(NodesConfError) -> UInt16 {
        guard let port = UInt16(text) else { throw NodesConfError(line: line, cause: "invalid port '\(text)'") }
        return port
    }

    private static func epoch(_ text: String, _ line: Int) throws(NodesConfError) -> UInt64 {
        guard let epoch = UInt64(text), epoch <= ConfigEpoch.max else {
            throw NodesConfError(line: line, cause: "invalid epoch '\(text)'")
        }
        return epoch
    }

    // MARK: Writing

    /// The file, ready to be written.
    package func encoded() -> [UInt8] {
        var text = ""
        for node in nodes {
            node.write(to: &text)
            text += "\n"
        }
        text += "vars currentEpoch \(currentEpoch) lastVoteEpoch \(lastVoteEpoch)"
        if electedEpoch > 0 { text += " myElectedEpoch \(electedEpoch)" }
        if let shardID { text += " myShardId \(shardID)" }
        text += "\n"
        return Array(text.utf8)
    }
}

extension NodesConf.Node {
    /// Appends the node's line without its end.
    func write(to text: inout String) {
        text += "\(id) \(ip):\(port)@\(busPort)"
        if !hostname.isEmpty { text += ",\(hostname)" }
        text += " \(flags.text) \(primary.map { $0.description } ?? "-") \(pingSent) \(pongReceived) \(configEpoch) "
        text += isConnected ? "connected" : "disconnected"
        for range in slots {
            text += range.count == 1 ? " \(range.lowerBound)" : " \(range.lowerBound)-\(range.upperBound)"
        }
        for open in openSlots {
            text += " [\(open.slot.rawValue)-\(open.isMigrating ? ">" : "<")-\(open.peer)]"
        }
    }
}

extension NodeFlags {
    /// The flags that have a name, in the order in which they are written.
    static let names: [(flag: NodeFlags, name: String)] = [
        (.myself, "myself"), (.primary, "master"), (.replica, "slave"), (.pfail, "fail?"), (.fail, "fail"),
        (.handshake, "handshake"), (.noAddress, "noaddr"), (.noFailover, "nofailover"),
    ]

    /// As CLUSTER NODES shows them.
    package var text: String {
        let present = NodeFlags.names.filter { contains($0.flag) }.map { $0.name }
        return present.isEmpty ? "noflags" : present.joined(separator: ",")
    }
}

/// Whether a peer's or a file's address may stand in a line of nodes.conf: nothing that separates fields.
func isValidAnnouncedIP(_ text: some StringProtocol) -> Bool {
    text.utf8.count < BusPacket.ipByteCount
        && text.utf8.allSatisfy { isLetterOrDigit($0) || ".:-_%".utf8.contains($0) }
}

/// Source: `isValidAnnouncedHostname` in Redis 7.0 `config.c`.
func isValidHostname(_ text: some StringProtocol) -> Bool {
    text.utf8.count < 256 && text.utf8.allSatisfy { isLetterOrDigit($0) || ".-".utf8.contains($0) }
}

/// Letters, digits and what cannot be mistaken for the end of a field.
func isValidHumanNodename(_ text: some StringProtocol) -> Bool {
    text.utf8.count < 256 && text.utf8.allSatisfy { isLetterOrDigit($0) || "-_./".utf8.contains($0) }
}

private func isLetterOrDigit(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
        UInt8(ascii: "A")...UInt8(ascii: "Z"):
        true
    default: false
    }
}
