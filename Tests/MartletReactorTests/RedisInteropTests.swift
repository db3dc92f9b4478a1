import Foundation
import MartletBase
import MartletCluster
import MartletReactor
import MartletSystem
import Testing

/// A real redis-server in cluster mode, the oracle of the bus.
private final class RedisNode {
    let port: Int
    let busPort: Int
    private let process = Process()

    static let program = ["/usr/bin/redis-server", "/usr/local/bin/redis-server"].first {
        FileManager.default.isExecutableFile(atPath: $0)
    }

    init(in directory: String, nodeTimeout: Int) throws {
        port = try freePort()
        busPort = try freePort()
        process.executableURL = URL(fileURLWithPath: RedisNode.program!)
        process.arguments = [
            "--port", "\(port)", "--bind", "127.0.0.1", "--dir", directory, "--save", "", "--daemonize", "no",
            "--cluster-enabled", "yes", "--cluster-port", "\(busPort)", "--cluster-node-timeout", "\(nodeTimeout)",
            "--cluster-config-file", "redis-\(port).conf", "--logfile", "\(directory)/redis-\(port).log",
            "--cluster-replica-validity-factor", "0",
        ]
        try process.run()
        let deadline = SystemClock.monotonicMilliseconds + 20_000
        while (try? call("PING")) != "+PONG\r\n" {
            try #require(SystemClock.monotonicMilliseconds < deadline, "redis-server does not start")
            usleep(20_000)
        }
    }

    deinit { kill() }

    func kill() {
        guard process.isRunning else { return }
        Foundation.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    /// Sends one command and returns the raw reply, which must be a single line or a bulk string.
    func call(_ words: String...) throws -> String {
        let connection = try BlockingConnection(host: "127.0.0.1", port: port, timeoutMilliseconds: 5000)
        let request = "*\(words.count)\r\n" + words.map { "$\($0.utf8.count)\r\n\($0)\r\n" }.joined()
        try connection.sendAll(Array(request.utf8), timeoutMilliseconds: 5000)
        var reply: [UInt8] = []
        while !isComplete(reply) {
            guard try connection.receive(appendingTo: &reply, timeoutMilliseconds: 5000) else { break }
        }
        return String(decoding: reply, as: UTF8.self)
    }

    private func isComplete(_ reply: [UInt8]) -> Bool {
        guard let end = reply.firstIndex(of: UInt8(ascii: "\n")) else { return false }
        guard reply[0] == UInt8(ascii: "$"), let count = Int(String(decoding: reply[1..<(end - 1)], as: UTF8.self))
        else { return true }
        return count < 0 || reply.count >= end + 1 + count + 2
    }

    func id() throws -> String {
        String(decoding: Array(try call("CLUSTER", "MYID").utf8)[5..<45], as: UTF8.self)
    }
}

/// The bus thread in one cluster with Debian's redis-server.
@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: RedisNode.program != nil, "needs redis-server"))
struct RedisInteropTests {
    /// Redis primaries that share all slots, and one of our nodes that has met them.
    private func makeCluster(
        in directory: String, redisCount: Int, nodeTimeout: Int
    ) throws -> (redis: [RedisNode], node: BusNode) {
        let redis = try (0..<redisCount).map { _ in try RedisNode(in: directory, nodeTimeout: nodeTimeout) }
        let node = try BusNode(in: directory, name: "martlet", nodeTimeout: Int64(nodeTimeout))
        for (index, server) in redis.enumerated() {
            let first = HashSlot.count * index / redisCount
            let last = HashSlot.count * (index + 1) / redisCount - 1
            #expect(try server.call("CLUSTER", "SET-CONFIG-EPOCH", "\(index + 1)") == "+OK\r\n")
            #expect(try server.call("CLUSTER", "ADDSLOTSRANGE", "\(first)", "\(last)") == "+OK\r\n")
            #expect(try node.command("MEET", "127.0.0.1", "\(server.port)", "\(server.busPort)") == .ok)
        }
        try node.wait("all to know all") {
            try node.currentView.isOK && node.currentView.nodes.compactMap { $0 }.count == redisCount + 1
                && redis.allSatisfy {
                    let info = try $0.call("CLUSTER", "INFO")
                    return info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:\(redisCount + 1)")
                }
        }
        return (redis, node)
    }

    @Test("Redis and we know the same nodes and the same owners of slots")
    func sameView() throws {
        try withTemporaryDirectory { directory in
            let (redis, node) = try makeCluster(in: directory, redisCount: 3, nodeTimeout: 2000)
            let view = node.currentView
            for (index, server) in redis.enumerated() {
                let slot = HashSlot(rawValue: UInt16(HashSlot.count * index / 3))
                #expect(try view.node(at: view.owner(of: slot))?.id.description == server.id())
                let line = try #require(
                    try server.call("CLUSTER", "NODES").split(whereSeparator: \.isNewline).first {
                        $0.hasPrefix(view.nodeID.description)
                    })
                #expect(line.contains("127.0.0.1:\(node.port)@\(node.busPort) master"))
                #expect(line.hasSuffix("connected"))
            }
        }
    }

    @Test("Our replica of a killed redis primary is elected by redis' votes, and the others redirect to it")
    func election() throws {
        try withTemporaryDirectory { directory in
            let (redis, node) = try makeCluster(in: directory, redisCount: 3, nodeTimeout: 1000)
            let primaryID = try redis[0].id()
            #expect(try node.command("REPLICATE", primaryID) == .ok)
            try node.wait("to be told whom to follow") {
                node.notices.contains { notice in
                    guard case .followPrimary(let id, "127.0.0.1", let port, _) = notice else { return false }
                    return id.description == primaryID && Int(port) == redis[0].port
                }
            }
            node.bus.status.isPrimaryLinkUp = true
            node.bus.status.replicationOffset = 14
            node.bus.status.lastPrimaryContact = SystemClock.monotonicMilliseconds
            node.bus.statusChanged()
            try node.wait("redis to know its replica") {
                try redis[1].call("CLUSTER", "NODES").contains("slave \(primaryID)")
            }

            redis[0].kill()
            node.bus.status.isPrimaryLinkUp = false
            node.bus.status.lastPrimaryContact = SystemClock.monotonicMilliseconds
            node.bus.statusChanged()
            let start = SystemClock.monotonicMilliseconds
            try node.wait("the election") {
                node.notices.contains { if case .becomePrimary = $0 { true } else { false } }
            }
            let taken = SystemClock.monotonicMilliseconds - start
            let view = node.currentView
            #expect(!view.isReplica)
            #expect(view.owner(of: HashSlot(rawValue: 0)) == view.myIndex)
            try node.wait("redis to redirect to us") {
                try redis[1...].allSatisfy {
                    try $0.call("GET", "{06S}").hasPrefix("-MOVED 0 127.0.0.1:\(node.port)")
                        && $0.call("CLUSTER", "INFO").contains("cluster_state:ok")
                }
            }
            #expect(taken < 20_000)
        }
    }

    @Test("We vote for a redis replica whose primary was killed")
    func vote() throws {
        try withTemporaryDirectory { directory in
            let (redis, node) = try makeCluster(in: directory, redisCount: 3, nodeTimeout: 1000)
            // We take the slots of the third, which becomes a replica of the first. So two of three votes are needed:
            // that of the second and ours.
            let third = redis[2]
            let first = HashSlot.count * 2 / 3
            #expect(
                try third.call("CLUSTER", "DELSLOTSRANGE", "\(first)", "\(HashSlot.count - 1)") == "+OK\r\n")
            try node.wait("the slots to be free everywhere") {
                for server in redis[..<2] {
                    _ = try? server.call("CLUSTER", "DELSLOTSRANGE", "\(first)", "\(HashSlot.count - 1)")
                }
                if node.currentView.owner(of: HashSlot(rawValue: UInt16(first))) != ClusterView.noNode {
                    _ = try node.command("DELSLOTSRANGE", "\(first)", "\(HashSlot.count - 1)")
                }
                return try node.command("ADDSLOTSRANGE", "\(first)", "\(HashSlot.count - 1)") == .ok
            }
            _ = try node.command("BUMPEPOCH")
            let primaryID = try redis[0].id()
            try node.wait("the third to become a replica") {
                try third.call("CLUSTER", "REPLICATE", primaryID) == "+OK\r\n"
            }
            try node.wait("the replica to be in sync and the cluster ok") {
                try third.call("INFO", "replication").contains("master_link_status:up")
                    && redis.allSatisfy { try $0.call("CLUSTER", "INFO").contains("cluster_state:ok") }
                    && node.currentView.isOK
                    && node.text("NODES").contains("slave \(primaryID)")
            }
            redis[0].kill()
            let thirdID = try third.id()
            try node.wait("the redis replica to take over") {
                let view = node.currentView
                return view.node(at: view.owner(of: HashSlot(rawValue: 0)))?.id.description == thirdID
            }
            #expect(try third.call("CLUSTER", "INFO").contains("cluster_state:ok"))
        }
    }

    @Test("Messages published at redis arrive here, and ours there")
    func publish() throws {
        try withTemporaryDirectory { directory in
            let (redis, node) = try makeCluster(in: directory, redisCount: 1, nodeTimeout: 2000)
            #expect(try redis[0].call("PUBLISH", "news", "from redis") == ":0\r\n")
            try node.wait("the message from redis") {
                node.notices.contains { notice in
                    guard case .publish(let message) = notice else { return false }
                    return message.message == Array("from redis".utf8)
                }
            }
            let subscriber = try BlockingConnection(host: "127.0.0.1", port: redis[0].port, timeoutMilliseconds: 5000)
            try subscriber.sendAll(Array("SUBSCRIBE news\r\n".utf8), timeoutMilliseconds: 5000)
            var received: [UInt8] = []
            while !String(decoding: received, as: UTF8.self).hasSuffix(":1\r\n") {
                #expect(try receive(subscriber, &received))
            }
            node.bus.publish(channel: Array("news".utf8), message: Array("from martlet".utf8), isSharded: false)
            while !String(decoding: received, as: UTF8.self).hasSuffix("from martlet\r\n") {
                #expect(try receive(subscriber, &received))
            }
        }
    }

    private func receive(_ connection: borrowing BlockingConnection, _ bytes: inout [UInt8]) throws -> Bool {
        try connection.receive(appendingTo: &bytes, timeoutMilliseconds: 10_000)
    }
}
