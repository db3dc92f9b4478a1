import Glibc
import MartletBase
import MartletCluster
import MartletReactor
import MartletSystem
import Testing

@Suite(.serialized, .timeLimit(.minutes(2))) struct BusThreadTests {
    /// A cluster of primaries that share all slots.
    private func makeCluster(in directory: String, count: Int, nodeTimeout: Int64 = 2000) throws -> [BusNode] {
        let nodes = try (0..<count).map { try BusNode(in: directory, name: "node\($0)", nodeTimeout: nodeTimeout) }
        for (index, node) in nodes.enumerated() {
            #expect(try node.command("SET-CONFIG-EPOCH", "\(index + 1)") == .ok)
            let first = HashSlot.count * index / count
            let last = HashSlot.count * (index + 1) / count - 1
            #expect(try node.command("ADDSLOTSRANGE", "\(first)", "\(last)") == .ok)
            if index > 0 { try nodes[0].meet(node) }
        }
        for node in nodes {
            try node.wait("a cluster of \(count) that is ok") {
                node.currentView.isOK && node.currentView.nodes.compactMap { $0 }.count == count
            }
        }
        return nodes
    }

    @Test("Nodes that meet learn of each other, and agree on the owners of slots")
    func meet() throws {
        try withTemporaryDirectory { directory in
            let nodes = try makeCluster(in: directory, count: 3)
            for node in nodes {
                let view = node.currentView
                for (index, owner) in nodes.enumerated() {
                    let slot = HashSlot(rawValue: UInt16(HashSlot.count * index / 3))
                    #expect(view.node(at: view.owner(of: slot))?.id == owner.currentView.nodeID)
                }
                #expect(try node.text("INFO").contains("cluster_state:ok"))
            }
        }
    }

    @Test("A client that got OK for ADDSLOTS finds the slots in the view")
    func viewBeforeReply() throws {
        try withTemporaryDirectory { directory in
            let node = try BusNode(in: directory, name: "node")
            for slot in 0..<200 as Range<UInt16> {
                #expect(try node.command("ADDSLOTS", "\(slot)") == .ok)
                let view = node.currentView
                #expect(view.owner(of: HashSlot(rawValue: slot)) == view.myIndex)
            }
        }
    }

    @Test("A node that starts again is who it was, and joins where it was")
    func restart() throws {
        try withTemporaryDirectory { directory in
            let nodes = try makeCluster(in: directory, count: 3)
            let id = nodes[2].currentView.nodeID
            nodes[2].stop()
            let again = try BusNode(
                in: directory, name: "node2", ports: (client: nodes[2].port, bus: nodes[2].busPort))
            #expect(again.currentView.nodeID == id)
            try again.wait("the cluster to be ok again") { again.currentView.isOK }
            try nodes[0].wait("the others to see it again") {
                nodes[0].currentView.isOK && !nodes[0].currentView.nodes.contains { $0?.isFailed == true }
            }
        }
    }

    @Test("A second process on the same nodes.conf is turned away, also after saves")
    func locked() throws {
        try withTemporaryDirectory { directory in
            let node = try BusNode(in: directory, name: "node")
            #expect(try node.command("ADDSLOTS", "1") == .ok)
            do {
                _ = try BusNode(in: directory, name: "node")
                Issue.record("two owners of one nodes.conf")
            } catch let error as BusStartError {
                #expect(error.description.contains("is already used by a different Redis Cluster node"))
            }
        }
    }

    @Test("A corrupt nodes.conf stops the start with its line and is left as it is")
    func corrupt() throws {
        try withTemporaryDirectory { directory in
            let path = "\(directory)/node.conf"
            let text = "this is not a node\n"
            try FileIO.replace(path, with: text)
            do {
                _ = try BusNode(in: directory, name: "node")
                Issue.record("started from a corrupt file")
            } catch let error as BusStartError {
                #expect(error.description.contains("line 1"))
            }
            #expect(try FileIO.read(path) == Array(text.utf8))
        }
    }

    @Test("A busy bus port stops the start")
    func busyPort() throws {
        try withTemporaryDirectory { directory in
            let node = try BusNode(in: directory, name: "node")
            do {
                _ = try BusNode(in: directory, name: "other", ports: (client: 1, bus: node.busPort))
                Issue.record("listened on a busy port")
            } catch let error as BusStartError {
                #expect(error.description.contains("Failed listening on port \(node.busPort) (cluster), aborting."))
            }
        }
    }

    @Test("A dead process is failed at once, long before the node time-out")
    func crashEvidence() throws {
        try withTemporaryDirectory { directory in
            let nodes = try makeCluster(in: directory, count: 4, nodeTimeout: 60_000)
            let victim = nodes[3].currentView.nodeID
            nodes[3].stop()
            let start = SystemClock.monotonicMilliseconds
            for node in nodes[0..<3] {
                try node.wait("the dead node to be marked", milliseconds: 10_000) {
                    node.currentView.nodes.contains { $0?.id == victim && $0?.isFailed == true }
                }
            }
            let taken = SystemClock.monotonicMilliseconds - start
            #expect(taken < 5_000)
        }
    }

    @Test(
        "A hung command thread makes its bus keep silent, so that the node is failed, and it returns when it beats again"
    )
    func stall() throws {
        try withTemporaryDirectory { directory in
            let nodes = try makeCluster(in: directory, count: 3, nodeTimeout: 1000)
            // The fourth has no slots; it is watched by the three. Its stall time-out is short.
            let hung = try BusNode(in: directory, name: "hung", nodeTimeout: 1000, stallTimeout: 300)
            try nodes[0].meet(hung)
            let id = hung.currentView.nodeID
            // `wait` beats the heart of the node that waits, so only the others may wait now.
            try hung.wait("the hung node to know all") { hung.currentView.nodes.compactMap { $0 }.count == 4 }
            try nodes[0].wait("the silent node to be failed") {
                nodes[0].currentView.nodes.contains { $0?.id == id && $0?.isFailed == true }
            }
            try hung.wait("its return") {
                nodes[0].currentView.nodes.contains { $0?.id == id && $0?.isFailed == false }
            }
        }
    }

    @Test(
        "A replica does not announce the offset of its old history while its command thread has not heard of the new one"
    )
    func oldOffset() throws {
        try withTemporaryDirectory { directory in
            let nodes = try makeCluster(in: directory, count: 1)
            let replica = try BusNode(in: directory, name: "replica")
            replica.followsAtOnce = false
            replica.bus.status.replicationOffset = 777
            try nodes[0].meet(replica)
            let primary = nodes[0].currentView.nodeID, id = replica.currentView.nodeID
            func announcedOffset() throws -> Int64? {
                guard case .array(let shards) = try nodes[0].command("SHARDS") else { return nil }
                return "\(shards)".number(after: "\(id)", "replication-offset")
            }
            try replica.wait("the primary") { replica.currentView.nodes.contains { $0?.id == primary } }
            try nodes[0].wait("the offset of the old history") { try announcedOffset() == 777 }
            #expect(try replica.command("REPLICATE", "\(primary)") == .ok)
            try nodes[0].wait("no offset") { try announcedOffset() == 0 }
            replica.bus.status.replicationOffset = 14
            replica.bus.status.followCount = 1
            try nodes[0].wait("the offset of the new history") { try announcedOffset() == 14 }
        }
    }

    @Test("A node time-out without end is one")
    func endlessTimeout() throws {
        try withTemporaryDirectory { directory in
            let nodes = try makeCluster(in: directory, count: 2, nodeTimeout: .max)
            #expect(try nodes[0].text("INFO").contains("cluster_state:ok"))
        }
    }

    @Test("Published messages reach the other nodes")
    func publish() throws {
        try withTemporaryDirectory { directory in
            let nodes = try makeCluster(in: directory, count: 3)
            #expect(nodes[0].bus.publish(channel: Array("news".utf8), message: Array("hello".utf8), isSharded: false))
            for node in nodes[1...] {
                try node.wait("the message") {
                    node.notices.contains { notice in
                        guard case .publish(let message) = notice else { return false }
                        return message.channel == Array("news".utf8) && message.message == Array("hello".utf8)
                            && !message.isSharded
                    }
                }
            }
        }
    }

    @Test("A message of 8 MB passes as well")
    func bigMessage() throws {
        try withTemporaryDirectory { directory in
            let nodes = try makeCluster(in: directory, count: 2)
            let message = (0..<(8 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            #expect(nodes[0].bus.publish(channel: [1], message: message, isSharded: false))
            try nodes[1].wait("the message") {
                nodes[1].notices.contains { notice in
                    guard case .publish(let received) = notice else { return false }
                    return received.message == message
                }
            }
        }
    }

    @Test("A stranger that speaks nonsense or nothing is cut off, and the cluster does not notice")
    func strangers() throws {
        try withTemporaryDirectory { directory in
            let nodes = try makeCluster(in: directory, count: 2, nodeTimeout: 500)
            let chatter = try BlockingConnection(
                host: "127.0.0.1", port: nodes[0].busPort, timeoutMilliseconds: 5000)
            let silent = try BlockingConnection(host: "127.0.0.1", port: nodes[0].busPort, timeoutMilliseconds: 5000)
            try chatter.sendAll(Array("*1\r\n$4\r\nPING\r\n".utf8), timeoutMilliseconds: 5000)
            // Well framed, but no packet.
            let framing = try BlockingConnection(host: "127.0.0.1", port: nodes[0].busPort, timeoutMilliseconds: 5000)
            try framing.sendAll(
                Array("RCmb".utf8) + [0, 0, 0, 16] + [UInt8](repeating: 0xFF, count: 8), timeoutMilliseconds: 5000)
            var rest: [UInt8] = []
            #expect(!isOpen(framing, &rest))
            #expect(!isOpen(chatter, &rest))
            #expect(!isOpen(silent, &rest))
            #expect(rest.isEmpty)
            #expect(try nodes[0].text("INFO").contains("cluster_state:ok"))
        }
    }

    private func isOpen(_ connection: borrowing BlockingConnection, _ rest: inout [UInt8]) -> Bool {
        do throws(SystemError) {
            return try connection.receive(appendingTo: &rest, timeoutMilliseconds: 10_000)
        } catch {
            return !error.isReset
        }
    }

    @Test("When nodes.conf cannot be saved, nothing is promised any more and the server is told to stop")
    func saveFails() throws {
        try withTemporaryDirectory { directory in
            let inner = "\(directory)/inner"
            try FileIO.makeDirectory(inner)
            let node = try BusNode(in: inner, name: "node")
            for name in try FileIO.names(in: inner) { try FileIO.remove("\(inner)/\(name)") }
            rmdir(inner)
            node.bus.post(.command(ClusterRequest(["ADDSLOTS", "1"]), token: 0))
            try node.wait("the failure") {
                node.notices.contains { notice in
                    if case .failed(let text) = notice { return text.contains("can't update cluster config file") }
                    return false
                }
            }
        }
    }
}

extension String {
    /// The first number after `label` after `start`.
    fileprivate func number(after start: String, _ label: String) -> Int64? {
        guard let tail = range(after: start[...], in: self[...]), let field = range(after: label[...], in: tail) else {
            return nil
        }
        return Int64(String(field.drop { !$0.isNumber }.prefix { $0.isNumber }))
    }

    private func range(after word: Substring, in text: Substring) -> Substring? {
        var rest = text
        while !rest.isEmpty {
            if rest.hasPrefix(word) { return rest.dropFirst(word.count) }
            rest = rest.dropFirst()
        }
        return nil
    }
}
