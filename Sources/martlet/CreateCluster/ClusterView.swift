import MartletBase

/// One line of `CLUSTER NODES`.
package struct MemberView: Equatable, Sendable {
    package var id: String
    package var address: NodeAddress
    package var flags: Set<String>
    /// The id of the primary that this node follows.
    package var primaryID: String?
    package var configEpoch: UInt64
    package var isLinkConnected: Bool
    /// Sorted; slots on their way to or from other nodes are not in it.
    package var slots: [ClosedRange<Int>]
    /// `[slot->-id]` and `[slot-<-id]`, as printed.
    package var slotsInMotion: [String]

    package init(
        id: String, address: NodeAddress, flags: Set<String>, primaryID: String? = nil, configEpoch: UInt64,
        isLinkConnected: Bool, slots: [ClosedRange<Int>] = [], slotsInMotion: [String] = []
    ) {
        self.id = id
        self.address = address
        self.flags = flags
        self.primaryID = primaryID
        self.configEpoch = configEpoch
        self.isLinkConnected = isLinkConnected
        self.slots = slots
        self.slotsInMotion = slotsInMotion
    }

    package var isMyself: Bool { flags.contains("myself") }
    package var isReplica: Bool { flags.contains("slave") }
    package var isFailing: Bool { flags.contains("fail") || flags.contains("fail?") }
    package var isInHandshake: Bool { flags.contains("handshake") }
    package var slotCount: Int { slots.reduce(0) { $0 + $1.count } }
}

/// A node's picture of the cluster: what it prints for `CLUSTER NODES`.
package struct ClusterView: Equatable, Sendable {
    package var members: [MemberView]

    package struct Malformed: Error, CustomStringConvertible {
        package let line: String
        package var description: String { "unexpected line in the reply to CLUSTER NODES: \(line)" }
    }

    package init(members: [MemberView]) { self.members = members }

    package init(parsing text: String) throws(Malformed) {
        members = []
        for line in text.split(whereSeparator: \.isNewline) { members.append(try Self.member(line)) }
    }

    /// `<id> <ip:port@cport[,hostname[,aux=value]*]> <flags> <primary> <ping-sent> <pong-recv> <epoch> <link> <slot>…`
    private static func member(_ line: Substring) throws(Malformed) -> MemberView {
        let fields = line.split(separator: " ")
        guard fields.count >= 8, let epoch = UInt64(fields[6]) else { throw Malformed(line: String(line)) }
        var slots: [ClosedRange<Int>] = []
        var slotsInMotion: [String] = []
        for field in fields[8...] {
            if field.first == "[" {
                slotsInMotion.append(String(field))
                continue
            }
            let ends = field.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
            guard let first = ends.first ?? nil, let last = ends.last ?? nil, ends.count <= 2,
                0 <= first, first <= last, last < HashSlot.count
            else { throw Malformed(line: String(line)) }
            slots.append(first...last)
        }
        let place = fields[1].split(separator: ",", omittingEmptySubsequences: false)[0]
        return MemberView(
            id: String(fields[0]),
            // A node whose address is not known prints ":0@0", or ":7000@17000" for itself.
            address: NodeAddress(parsing: String(place)) ?? NodeAddress(parsing: "?" + place)
                ?? NodeAddress(host: "?", port: 0),
            flags: Set(fields[2].split(separator: ",").map(String.init)),
            primaryID: fields[3] == "-" ? nil : String(fields[3]),
            configEpoch: epoch,
            isLinkConnected: fields[7] == "connected",
            slots: slots.sorted { $0.lowerBound < $1.lowerBound },
            slotsInMotion: slotsInMotion)
    }

    package var myself: MemberView? { members.first(where: \.isMyself) }

    package func member(_ id: String) -> MemberView? { members.first { $0.id == id } }

    /// Members whose id is theirs: an address in handshake carries a made-up one.
    package var knownIDs: Set<String> { Set(members.lazy.filter { !$0.isInHandshake }.map(\.id)) }

    package var slotCountCovered: Int { members.reduce(0) { $0 + $1.slotCount } }

    /// Who owns which slots and who follows whom, comparable between nodes.
    package var configuration: [String] {
        members.lazy.filter { !$0.isInHandshake }.map { member in
            let slots = member.slots.map { "\($0.lowerBound)-\($0.upperBound)" }.joined(separator: ",")
            return "\(member.id) \(member.primaryID ?? slots)"
        }.sorted()
    }
}

/// `field:value` lines, the form of INFO and CLUSTER INFO.
package struct InfoFields: Equatable, Sendable {
    private var values: [Substring: Substring] = [:]

    package init(parsing text: String) {
        for line in text.split(whereSeparator: \.isNewline) {
            guard line.first != "#", let colon = line.firstIndex(of: ":") else { continue }
            values[line[..<colon]] = line[line.index(after: colon)...]
        }
    }

    package subscript(field field: String) -> String? { values[Substring(field)].map(String.init) }
}
