import Glibc
import MartletBase
import MartletRESP
import MartletSystem

/// The servers of a benchmark, asked before the load begins.
package struct Target: Sendable {
    package var context: ReportContext
    package var endpoints: [Endpoint]
    /// Nil but for a cluster.
    package var map: Topology.Map?
    package var address: NodeAddress
    package var credentials: Credentials

    /// What a reply may take that is no part of a measurement.
    private static let patienceSeconds = 10.0

    /// Connects, authenticates and asks for the configuration; for a cluster also for its slots.
    package init(_ address: NodeAddress, _ credentials: Credentials, isCluster: Bool) throws {
        self.address = address
        self.credentials = credentials
        let connection = try Self.connect(address, credentials)
        guard let peer = connection.peerAddress else { throw ToolFailure("\(address) closed the connection") }
        endpoints = [Endpoint(name: address.description, address: peer)]
        context = ReportContext(nodes: [])
        context.isCluster = isCluster
        if isCluster {
            let map = try Self.slots(connection)
            self.map = map
            endpoints = map.endpoints
        }
        for endpoint in endpoints {
            var node = ReportContext.Node(name: endpoint.name)
            let other = try isCluster ? Self.connect(Self.nodeAddress(endpoint), credentials) : connection
            node.save = Self.directive("save", other)
            node.appendOnly = Self.directive("appendonly", other)
            context.nodes.append(node)
        }
    }

    private static func connect(_ address: NodeAddress, _ credentials: Credentials) throws -> NodeConnection {
        try NodeConnection(to: address, credentials: credentials, deadline: .after(seconds: patienceSeconds))
    }

    private static func nodeAddress(_ endpoint: Endpoint) -> NodeAddress {
        NodeAddress(parsing: endpoint.name) ?? NodeAddress(host: endpoint.address.ip, port: endpoint.address.port)
    }

    /// Nil when the server does not know CONFIG, or does not let us use it.
    private static func directive(_ name: String, _ connection: NodeConnection) -> String? {
        guard let reply = try? connection.call(["CONFIG", "GET", name], deadline: .after(seconds: patienceSeconds)),
            case .array(let pair) = reply, pair.count == 2
        else { return nil }
        return pair[1].text
    }

    /// Who owns which slots, by CLUSTER SLOTS.
    private static func slots(_ connection: NodeConnection) throws -> Topology.Map {
        let reply = try connection.call(["CLUSTER", "SLOTS"], deadline: .after(seconds: patienceSeconds))
        guard case .array(let ranges) = reply else {
            throw ToolFailure("\(connection.address) gave no list for CLUSTER SLOTS")
        }
        var map = Topology.Map(endpoints: [], owners: Array(repeating: nil, count: HashSlot.count))
        for range in ranges {
            guard case .array(let fields) = range, fields.count >= 3, case .integer(let first) = fields[0],
                case .integer(let last) = fields[1], case .array(let node) = fields[2], node.count >= 2,
                case .integer(let port) = node[1], 0 <= first, first <= last, last < HashSlot.count
            else { throw ToolFailure("\(connection.address) gave a list for CLUSTER SLOTS that makes no sense") }
            // A node that does not know its own address means the one it was reached by.
            let name = node[0].text ?? ""
            let host = name.isEmpty || name == "?" ? connection.address.host : name
            let address = NodeAddress(host: host, port: Int(port))
            guard let endpoint = Endpoint(resolving: address) else {
                throw ToolFailure("the cluster's node \(address) has no address")
            }
            let index = UInt16(map.index(of: endpoint))
            for slot in Int(first)...Int(last) { map.owners[slot] = index }
        }
        guard !map.endpoints.isEmpty else { throw ToolFailure("the cluster of \(connection.address) serves no slots") }
        return map
    }

    /// Brings the map up to date, from the first node that answers. False when none does.
    package func refresh(_ topology: Topology) -> Bool {
        for endpoint in topology.current.endpoints {
            guard let connection = try? Self.connect(Self.nodeAddress(endpoint), credentials),
                let new = try? Self.slots(connection)
            else { continue }
            topology.update { map in
                let indices = new.endpoints.map { UInt16(map.index(of: $0)) }
                map.owners = new.owners.map { $0.map { indices[Int($0)] } }
            }
            return true
        }
        return false
    }

    /// The index of the first key among a command's arguments, as the server sees it; nil if it has none. A server that
    /// does not know the command, or COMMAND GETKEYS, leaves the guess that the first argument is it.
    package func keyPosition(of arguments: [[UInt8]]) -> Int? {
        let words = arguments.map { String(decoding: $0, as: UTF8.self) }
        guard words.count > 1 else { return nil }
        do {
            let connection = try Self.connect(
                endpoints.first.map(Self.nodeAddress) ?? address, credentials)
            let reply = try connection.call(
                ["COMMAND", "GETKEYS"] + words, deadline: .after(seconds: Self.patienceSeconds))
            guard case .array(let keys) = reply, let key = keys.first?.text else { return 1 }
            return words.indices.dropFirst().first { words[$0] == key } ?? 1
        } catch {
            let text = (error as? NodeFailure)?.replyText ?? ""
            return text.contains("no key arguments") ? nil : 1
        }
    }
}
