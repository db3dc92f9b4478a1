import MartletBase
import MartletKeyspace
import MartletRESP

@testable import MartletServer

/// Nodes that replicate from each other in memory: what the reactor does, without sockets, threads and time.
///
/// A node's address is its number, as a port. What a primary sends is delivered in pieces of random length.
final class ReplicationNetwork {
    private(set) var nodes: [Int: NodeHarness] = [:]
    /// By the replica's number: its primary's, and its client there.
    private var links: [Int: (primary: Int, client: ClientPointer)] = [:]
    private var random: PRNG

    init(seed: UInt64, nodeCount: Int, configure: (inout ServerConfiguration) -> Void = { _ in }) {
        random = PRNG(seed: seed)
        for number in 1...nodeCount {
            nodes[number] = NodeHarness(name: Character(String(number))) { configuration in
                configuration.port = number
                configure(&configuration)
            }
        }
    }

    subscript(number: Int) -> NodeHarness { nodes[number]! }

    /// Turns every node's loop until nobody has anything to say.
    func settle() {
        for _ in 0..<10_000 where !turn() { return }
        preconditionFailure("the nodes never come to rest")
    }

    /// - Returns: whether anything happened.
    @discardableResult
    func turn() -> Bool {
        var isBusy = false
        for (number, harness) in nodes.sorted(by: { $0.key < $1.key }) {
            harness.node.endTurn()
            if carryOutEffects(of: number) { isBusy = true }
            if harness.node.wantsTurn { isBusy = true }
        }
        for (replica, link) in links.sorted(by: { $0.key < $1.key }) where links[replica] != nil {
            if transfer(replica: replica, link.primary, link.client) { isBusy = true }
        }
        return isBusy
    }

    func advance(milliseconds: Int64) {
        var left = milliseconds
        while left > 0 {
            let step = min(left, 100)
            left -= step
            for harness in nodes.values {
                harness.advance(milliseconds: step)
                harness.node.cron()
            }
            settle()
        }
    }

    /// Breaks the link of a replica, as a network does.
    func cut(replica: Int) {
        guard let link = links.removeValue(forKey: replica) else { return }
        nodes[link.primary]?.node.remove(link.client)
        nodes[replica]?.node.primaryLinkClosed(reason: "cut")
    }

    /// The node is gone.
    func kill(_ number: Int) {
        for (replica, link) in links where link.primary == number { cut(replica: replica) }
        cut(replica: number)
        nodes[number] = nil
    }

    private func carryOutEffects(of number: Int) -> Bool {
        guard let harness = nodes[number], !harness.node.effects.isEmpty else { return false }
        let effects = harness.node.effects
        harness.node.effects.removeAll()
        for effect in effects {
            switch effect {
            case .connectToPrimary(let host, let port): connect(number, host: host, port: port)
            case .closePrimaryLink: closeLink(of: number)
            case .close(let client):
                for (replica, link) in links where link.primary == number && link.client == client {
                    cut(replica: replica)
                }
            default: break
            }
        }
        return true
    }

    private func connect(_ number: Int, host: String, port: Int) {
        guard nodes[number]!.node.wantsPrimaryLink(host: host, port: port) else { return }
        guard let target = nodes[port] else {
            nodes[number]?.node.primaryLinkClosed(reason: "refused")
            return
        }
        let client = target.node.addClient(address: "\(host):5\(number)", localAddress: "", fd: -1)
        links[number] = (port, client)
        nodes[number]?.node.primaryLinkOpened()
    }

    private func closeLink(of number: Int) {
        guard let link = links.removeValue(forKey: number) else { return }
        nodes[link.primary]?.node.remove(link.client)
    }

    private func transfer(replica: Int, _ primary: Int, _ client: ClientPointer) -> Bool {
        guard let source = nodes[primary], let target = nodes[replica] else { return false }
        var isBusy = false
        let request = Array(target.node.primaryLinkOutput)
        var answer = Array(client.pointee.reply.bytes)
        client.pointee.reply.removeAll()
        if !request.isEmpty {
            isBusy = true
            target.node.primaryLinkTook(count: request.count)
            answer += source.receive(request, as: client)
        }
        while client.pointee.flags.contains(.replica) {
            let view = source.node.replicaOutput(client)
            if view.isEmpty { break }
            let bytes = Array(view.prefix(1 + random.below(5000)))
            source.node.replicaTook(client, count: bytes.count)
            answer += bytes
        }
        var rest = answer[...]
        while !rest.isEmpty {
            isBusy = true
            let piece = Array(rest.prefix(1 + random.below(300)))
            rest = rest.dropFirst(piece.count)
            // A piece may have ended the link.
            guard links[replica]?.client == client else { break }
            piece.withUnsafeBytes { target.node.primaryLinkReceived($0) }
        }
        return isBusy
    }
}

extension NodeHarness {
    /// A field of INFO's section on replication.
    func replication(_ name: String) -> String? { node.replicationFields.first { $0.0 == name }?.1 }

    /// Every key with its value and expiry, as text.
    var contents: [String: String] {
        var contents: [String: String] = [:]
        for database in 0..<node.keyspace.databaseCount {
            node.keyspace.selected = database
            var cursor: UInt64 = 0
            repeat {
                cursor = node.keyspace.scan(cursor: cursor) { entry in
                    let value =
                        switch entry.string {
                        case .integer(let number): "\(number)"
                        case .bytes(let bytes): String(bytes: bytes)
                        }
                    contents["\(database) \(String(bytes: entry.key))"] = "\(value) \(entry.expiry ?? -1)"
                }
            } while cursor != 0
        }
        return contents
    }
}
