import MartletBase
import MartletKeyspace
import MartletRESP
import MartletReplication
import Testing

@testable import MartletServer

@Suite("Replication between nodes")
struct ReplicationTests {
    private func follow(_ network: ReplicationNetwork, _ replica: Int, _ primary: Int) {
        #expect(network[replica]("REPLICAOF 127.0.0.1 \(primary)") == "+OK\r\n")
        network.settle()
        #expect(network[replica].replication("master_link_status") == "up")
    }

    private func fill(_ node: NodeHarness, from first: Int = 0, count: Int) {
        for index in first..<(first + count) { node("SET key:\(index) value:\(index)") }
    }

    /// A random write; `SELECT` among them.
    private func write(_ node: NodeHarness, _ random: inout PRNG) {
        let key = "k\(random.below(200))"
        switch random.below(9) {
        case 0: node("SET \(key) \(random.below(1000))")
        case 1: node("APPEND \(key) \(String(repeating: "x", count: random.below(400)))")
        case 2: node("SET \(key) v PX \(1 + random.below(500))")
        case 3: node("INCR n\(random.below(50))")
        case 4: node("DEL \(key)")
        case 5: node("PEXPIRE \(key) \(1 + random.below(900))")
        case 6: node("SETRANGE \(key) \(random.below(50)) abc")
        case 7: node.client.pointee.database = random.below(3)
        default: node("MSET \(key) 1 m\(random.below(50)) 2")
        }
    }

    @Test("A replica gets the data set and then the changes")
    func fullSyncAndStream() {
        let network = ReplicationNetwork(seed: 1, nodeCount: 2)
        fill(network[1], count: 3000)
        follow(network, 2, 1)
        #expect(network[2].contents == network[1].contents)
        network[1]("SET later 1")
        network.settle()
        #expect(network[2]("GET later") == .bulk("1"))
        #expect(network[2].node.replicationOffset == network[1].node.replicationOffset)
        #expect(network[2]("SET a b") == "-READONLY You can't write against a read only replica.\r\n")
    }

    @Test("A replica takes what its primary has, however small the strings are that its own clients may send")
    func longerStringsThanAllowedHere() {
        let network = ReplicationNetwork(seed: 41, nodeCount: 2)
        network[1]("SETRANGE long 2000000 x")
        network[2]("CONFIG SET proto-max-bulk-len 1mb")
        follow(network, 2, 1)
        network[1].send(["SET", "streamed", String(repeating: "v", count: 1_500_000)].map { Array($0.utf8) })
        network.settle()
        #expect(network[2]("STRLEN long") == ":2000001\r\n")
        #expect(network[2]("STRLEN streamed") == ":1500000\r\n")
    }

    @Test("The image is that of one moment, whatever changes while it is sent")
    func imageIsExact() {
        let network = ReplicationNetwork(seed: 2, nodeCount: 2)
        for index in 0..<20_000 { network[1]("SET key:\(index) \(String(repeating: "v", count: 40))") }
        network[2]("REPLICAOF 127.0.0.1 1")
        var turns = 0
        var random = PRNG(seed: 5)
        while network[2].replication("master_link_status") != "up" {
            for _ in 0..<20 {
                let key = random.below(20_000)
                network[1]("INCR counter")
                network[1]("APPEND key:\(key) more")
                network[1]("DEL key:\(random.below(20_000))")
                network[1]("SET new:\(key) 1")
            }
            network.turn()
            turns += 1
            guard turns < 1000 else { break }
        }
        #expect(turns > 3, "the image must take several turns for this test to mean anything")
        network.settle()
        #expect(network[2].contents == network[1].contents)
    }

    @Test("FLUSHALL during a full sync makes the replica begin again")
    func flushDuringImage() {
        let network = ReplicationNetwork(seed: 3, nodeCount: 2)
        for index in 0..<20_000 { network[1]("SET key:\(index) \(String(repeating: "v", count: 40))") }
        network[2]("REPLICAOF 127.0.0.1 1")
        for _ in 0..<4 { network.turn() }
        #expect(network[2].replication("master_link_status") == "down")
        network[1]("FLUSHALL")
        network[1]("SET only this")
        network.settle()
        network.advance(milliseconds: 2000)
        #expect(network[2].replication("master_link_status") == "up")
        #expect(network[2].contents == network[1].contents)
        #expect(network[2]("DBSIZE") == ":1\r\n")
    }

    @Test("After a lost link the replica gets only what it missed")
    func partialResynchronization() {
        let network = ReplicationNetwork(seed: 4, nodeCount: 2)
        fill(network[1], count: 10)
        follow(network, 2, 1)
        network.cut(replica: 2)
        fill(network[1], from: 10, count: 10)
        network.settle()
        #expect(network[2].replication("master_link_status") == "up")
        #expect(network[2].contents == network[1].contents)
        #expect(network[1].node.synchronizationCounts == (full: 1, partial: 1, refused: 0))
    }

    @Test("What the backlog no longer holds is sent as a whole")
    func backlogTooShort() {
        let network = ReplicationNetwork(seed: 5, nodeCount: 2) { $0.replicationBacklogBytes = 16 * 1024 }
        follow(network, 2, 1)
        network.cut(replica: 2)
        for index in 0..<4000 { network[1]("SET key:\(index) \(String(repeating: "x", count: 100))") }
        network[1].node.endTurn()
        network.settle()
        #expect(network[2].contents == network[1].contents)
        #expect(network[1].node.synchronizationCounts == (full: 2, partial: 0, refused: 1))
    }

    @Test("After a failover siblings go on from where they were")
    func failover() {
        let network = ReplicationNetwork(seed: 6, nodeCount: 3)
        fill(network[1], count: 100)
        follow(network, 2, 1)
        follow(network, 3, 1)
        fill(network[1], from: 100, count: 100)
        network.settle()
        let history = network[1].replication("master_replid")
        network.kill(1)
        network[2]("REPLICAOF NO ONE")
        network[2]("SET after failover")
        follow(network, 3, 2)
        #expect(network[3]("GET after") == .bulk("failover"))
        #expect(network[3].contents == network[2].contents)
        #expect(network[2].node.synchronizationCounts == (full: 0, partial: 1, refused: 0))
        #expect(network[3].replication("master_replid") == network[2].replication("master_replid"))
        #expect(network[3].replication("master_replid2") == history)
    }

    @Test("A former primary becomes a replica of its successor without a full sync, if it wrote nothing more")
    func roleSwap() {
        let network = ReplicationNetwork(seed: 7, nodeCount: 2)
        follow(network, 2, 1)
        fill(network[1], count: 50)
        network.settle()
        network[2]("REPLICAOF NO ONE")
        network.settle()
        network[2]("SET new 1")
        follow(network, 1, 2)
        #expect(network[1].contents == network[2].contents)
        #expect(network[2].node.synchronizationCounts == (full: 0, partial: 1, refused: 0))
    }

    @Test("A former primary that wrote alone gives its writes up")
    func divergence() {
        let network = ReplicationNetwork(seed: 8, nodeCount: 2)
        follow(network, 2, 1)
        fill(network[1], count: 50)
        network.settle()
        network.cut(replica: 2)
        network[1]("SET lost 1")
        network[2]("REPLICAOF NO ONE")
        network[2]("SET new 1")
        follow(network, 1, 2)
        #expect(network[1].contents == network[2].contents)
        #expect(network[1]("GET lost") == "$-1\r\n")
        #expect(network[2].node.synchronizationCounts.refused == 1)
    }

    @Test("Replicas of replicas share the offsets of the first primary", arguments: [UInt64(1), 2, 3])
    func chain(seed: UInt64) {
        let network = ReplicationNetwork(seed: seed, nodeCount: 3)
        fill(network[1], count: 100)
        follow(network, 2, 1)
        follow(network, 3, 2)
        var random = PRNG(seed: seed)
        for _ in 0..<300 {
            write(network[1], &random)
            if random.below(20) == 0 { network.cut(replica: 2 + random.below(2)) }
            if random.below(10) == 0 { network.advance(milliseconds: 100) }
        }
        network.advance(milliseconds: 2000)
        #expect(network[2].contents == network[1].contents)
        #expect(network[3].contents == network[1].contents)
        #expect(network[3].node.replicationOffset == network[1].node.replicationOffset)
    }

    @Test("Keys expire on replicas when the primary says so, and are hidden before")
    func expiry() {
        let network = ReplicationNetwork(seed: 9, nodeCount: 2)
        follow(network, 2, 1)
        network[1]("SET key value PX 1000")
        network.settle()
        network[2].advance(milliseconds: 1500)
        #expect(network[2]("GET key") == "$-1\r\n")
        #expect(network[2].contents.count == 1)
        network.advance(milliseconds: 1500)
        #expect(network[1].contents.isEmpty)
        #expect(network[2].contents.isEmpty)
    }

    @Test("A transaction of the stream is applied as a whole or not at all")
    func transactions() {
        let network = ReplicationNetwork(seed: 10, nodeCount: 2)
        follow(network, 2, 1)
        let replica = network[2]
        let before = replica.node.replicationOffset
        let parts = ["MULTI", "INCR counter", "INCR counter", "EXEC"].map {
            RESPText.command($0.split(separator: " ").map(String.init))
        }
        func deliver(_ bytes: [UInt8]) { bytes.withUnsafeBytes { replica.node.primaryLinkReceived($0) } }
        for part in parts.dropLast() { deliver(part) }
        #expect(replica("GET counter") == "$-1\r\n")
        #expect(replica.node.replicationOffset == before)
        deliver(parts[3])
        #expect(replica("GET counter") == .bulk("2"))
        #expect(replica.node.replicationOffset == before + Int64(parts.map(\.count).reduce(0, +)))
    }

    @Test("GETACK is answered with the offset before it, and counts for the next", arguments: [1, 5, 1000])
    func acknowledgement(pieceBytes: Int) {
        let network = ReplicationNetwork(seed: 42, nodeCount: 2)
        follow(network, 2, 1)
        let replica = network[2]
        let before = replica.node.replicationOffset
        let set = RESPText.command(["SET", "k", "v"])
        let getAck = RESPText.command(["REPLCONF", "GETACK", "*"])
        let stream = set + getAck + set + getAck
        for start in stride(from: 0, to: stream.count, by: pieceBytes) {
            stream[start..<min(start + pieceBytes, stream.count)].withUnsafeBytes {
                replica.node.primaryLinkReceived($0)
            }
        }
        let offsets = [before + Int64(set.count), before + Int64(set.count * 2 + getAck.count)]
        #expect(
            Array(replica.node.primaryLinkOutput)
                == offsets.flatMap { RESPText.command(["REPLCONF", "ACK", String($0)]) })
        #expect(replica.node.replicationOffset == before + Int64(stream.count))
    }

    @Test("WAIT is answered when enough replicas have acknowledged, or when its time is over")
    func wait() {
        let network = ReplicationNetwork(seed: 11, nodeCount: 3)
        follow(network, 2, 1)
        follow(network, 3, 1)
        let primary = network[1]
        primary("SET key value")
        #expect(primary("WAIT 2 0").isEmpty)
        network.settle()
        #expect(String(bytes: primary.client.pointee.reply.bytes) == ":2\r\n")
        primary.client.pointee.reply.removeAll()
        #expect(primary("WAIT 2 0") == ":2\r\n")
        network.kill(3)
        primary("SET key other")
        #expect(primary("WAIT 2 500").isEmpty)
        network.advance(milliseconds: 600)
        #expect(String(bytes: primary.client.pointee.reply.bytes) == ":1\r\n")
        primary.client.pointee.reply.removeAll()
        #expect(network[2]("WAIT 0 0").hasPrefix("-ERR WAIT cannot be used with replica instances."))
    }

    @Test("WAIT ends at its time, too, if there never was a replica")
    func waitAlone() {
        let network = ReplicationNetwork(seed: 13, nodeCount: 1)
        network[1]("SET key value")
        #expect(network[1]("WAIT 1 500").isEmpty)
        network.advance(milliseconds: 600)
        #expect(String(bytes: network[1].client.pointee.reply.bytes) == ":0\r\n")
    }

    @Test("Writes are refused while too few replicas keep up")
    func enoughReplicas() {
        let network = ReplicationNetwork(seed: 12, nodeCount: 2) { $0.minReplicasToWrite = 1 }
        #expect(network[1]("SET a 1") == "-NOREPLICAS Not enough good replicas to write.\r\n")
        follow(network, 2, 1)
        #expect(network[1]("SET a 1") == "+OK\r\n")
        network.kill(2)
        #expect(network[1]("SET a 1") == "-NOREPLICAS Not enough good replicas to write.\r\n")
    }

    @Test("A backlog that nobody comes back for is freed, and the history ends with it")
    func backlogTimeToLive() {
        let network = ReplicationNetwork(seed: 13, nodeCount: 2) { $0.replicationBacklogSeconds = 5 }
        follow(network, 2, 1)
        let history = network[1].replication("master_replid")
        network.kill(2)
        network.advance(milliseconds: 6000)
        #expect(network[1].replication("repl_backlog_active") == "0")
        #expect(network[1].replication("master_replid") != history)
        #expect(!network[1].node.keyspace.propagation.isOn)
    }

    @Test("A silent primary is given up after repl-timeout, a silent replica likewise")
    func timeouts() {
        let network = ReplicationNetwork(seed: 14, nodeCount: 2) {
            $0.replicationTimeoutSeconds = 5
            $0.replicationPingSeconds = 1
        }
        follow(network, 2, 1)
        network.advance(milliseconds: 20_000)
        #expect(network[1].node.synchronizationCounts == (full: 1, partial: 0, refused: 0))
        // Nothing is delivered any more.
        network[2].advance(milliseconds: 6000)
        network[2].node.cron()
        #expect(network[2].replication("master_link_status") == "down")
        network[1].advance(milliseconds: 6000)
        network[1].node.cron()
        network.advance(milliseconds: 2000)
        #expect(network[1].replication("connected_slaves") == "1")
        #expect(network[2].replication("master_link_status") == "up")
        #expect(network[1].node.synchronizationCounts == (full: 1, partial: 1, refused: 0))
    }

    @Test("A replica whose primary is gone serves stale data, or does not if told so")
    func staleData() {
        let network = ReplicationNetwork(seed: 15, nodeCount: 3)
        network[1]("SET key value")
        follow(network, 2, 1)
        network.kill(1)
        #expect(network[2]("GET key") == .bulk("value"))
        #expect(network[2]("ROLE").contains("connect"))
        #expect(network[3]("REPLICAOF 127.0.0.1 2") == "+OK\r\n")
        network.settle()
        #expect(network[3].replication("master_link_status") == "down")
        var configuration = network[2].node.configuration
        configuration.replicaServesStaleData = false
        network[2].node.configure(configuration, changed: [])
        #expect(network[2]("GET key").hasPrefix("-MASTERDOWN Link with MASTER is down"))
    }

    @Test("More than one change of a command becomes a transaction in the log")
    func expiredKeyInCommand() {
        let network = ReplicationNetwork(seed: 16, nodeCount: 2)
        follow(network, 2, 1)
        network[1]("SET key old PX 10")
        network.settle()
        network[1].advance(milliseconds: 20)
        let start = network[1].node.replicationOffset
        network[1]("APPEND key new")
        let log = network[1].log(from: start)
        #expect(
            log == "*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nDEL\r\n$3\r\nkey\r\n"
                + "*3\r\n$6\r\nAPPEND\r\n$3\r\nkey\r\n$3\r\nnew\r\n*1\r\n$4\r\nEXEC\r\n")
        network.settle()
        #expect(network[2]("GET key") == .bulk("new"))
    }

    @Test("A key that a transaction finds to be over does not part it")
    func expiredKeyInTransaction() {
        let network = ReplicationNetwork(seed: 20, nodeCount: 2)
        follow(network, 2, 1)
        network[1]("SET old 1 PX 10")
        network.settle()
        network[1].advance(milliseconds: 20)
        let start = network[1].node.replicationOffset
        for line in ["MULTI", "SET a 1", "SCAN 0", "SET b 2", "EXEC"] { network[1](line) }
        let logged = [["MULTI"], ["SET", "a", "1"], ["DEL", "old"], ["SET", "b", "2"], ["EXEC"]]
        #expect(network[1].log(from: start) == String(decoding: logged.flatMap(RESPText.command), as: UTF8.self))
    }

    @Test(
        "The log has what EXEC ran, and nothing behind it",
        arguments: [
            (["SET k 1"], ["SET k 1"]), (["SET k 1", "GET k", "INCR k"], ["MULTI", "SET k 1", "INCR k", "EXEC"]),
            (["GET k"], []),
        ])
    func executed(lines: [String], logged: [String]) {
        let network = ReplicationNetwork(seed: 17, nodeCount: 2)
        follow(network, 2, 1)
        network[1]("SET before 1")
        let start = network[1].node.replicationOffset
        for line in ["MULTI"] + lines + ["EXEC"] { network[1](line) }
        let expected = logged.flatMap { RESPText.command($0.split(separator: " ").map(String.init)) }
        #expect(network[1].log(from: start) == String(decoding: expected, as: UTF8.self))
    }

    @Test("A password that is put right counts for the next attempt")
    func laterPassword() {
        let network = ReplicationNetwork(seed: 17, nodeCount: 2)
        var configuration = network[1].node.configuration
        configuration.requirePassword = Array("secret".utf8)
        network[1].node.configure(configuration, changed: ["requirepass"])
        network[2]("REPLICAOF 127.0.0.1 1")
        network.advance(milliseconds: 3000)
        #expect(network[2].replication("master_link_status") == "down")
        configuration = network[2].node.configuration
        configuration.primaryPassword = Array("secret".utf8)
        network[2].node.configure(configuration, changed: ["masterauth"])
        network.advance(milliseconds: 3000)
        #expect(network[2].replication("master_link_status") == "up")
    }

    @Test("CLIENT KILL of the primary's stream makes a replica connect anew")
    func killedStream() {
        let network = ReplicationNetwork(seed: 19, nodeCount: 2)
        network[1]("SET key 1")
        follow(network, 2, 1)
        #expect(network[2]("CLIENT KILL TYPE master") == ":1\r\n")
        #expect(network[2].replication("master_link_status") == "down")
        network[1]("SET key 2")
        network.advance(milliseconds: 2000)
        #expect(network[2].replication("master_link_status") == "up")
        #expect(network[2]("GET key") == .bulk("2"))
        #expect(network[1].node.synchronizationCounts == (full: 1, partial: 1, refused: 0))
    }

    @Test("The first PING comes a period after the first replica")
    func firstPing() {
        let network = ReplicationNetwork(seed: 18, nodeCount: 2) { $0.replicationPingSeconds = 5 }
        network.advance(milliseconds: 7000)
        follow(network, 2, 1)
        network.advance(milliseconds: 4000)
        #expect(network[1].node.replicationOffset == 0)
        network.advance(milliseconds: 2000)
        #expect(network[1].log(from: 0).hasSuffix("*1\r\n$4\r\nPING\r\n"))
    }

    @Test("Without replicas nothing is logged")
    func idle() {
        let node = NodeHarness()
        node("SET key value PX 1")
        node.advance(milliseconds: 5)
        node("GET key")
        node.node.endTurn()
        #expect(node.node.replicationOffset == 0)
        #expect(node.node.keyspace.propagation.isEmpty)
    }

    @Test("CLIENT PAUSE on a replica holds back what its primary sends, until it is over")
    func pausedReplica() {
        for line in ["CLIENT PAUSE 10000 WRITE", "CLIENT PAUSE 10000"] {
            let network = ReplicationNetwork(seed: 51, nodeCount: 2)
            follow(network, 2, 1)
            network[1]("SET a 1")
            network.settle()
            let offset = network[2].replication("slave_repl_offset")
            network[2](line)
            network[1]("SET a 2")
            for line in ["MULTI", "INCR n", "INCR n", "EXEC"] { network[1](line) }
            network.settle()
            #expect(network[2].replication("slave_repl_offset") == offset)
            #expect(network[2].replication("slave_read_repl_offset") == network[1].replication("master_repl_offset"))
            // While all is paused, CLIENT UNPAUSE is, too.
            if line.hasSuffix("WRITE") { network[2]("CLIENT UNPAUSE") } else { network.advance(milliseconds: 10_100) }
            network.settle()
            #expect(network[2]("MGET a n") == .bulks("2", "2"))
            #expect(network[2].replication("slave_repl_offset") == network[1].replication("master_repl_offset"))
            // The time of a pause ends it as well.
            network[2]("CLIENT PAUSE 1000 WRITE")
            network[1]("SET a 3")
            network.settle()
            #expect(network[2]("GET a") == .bulk("2"))
            network.advance(milliseconds: 1100)
            #expect(network[2]("GET a") == .bulk("3"))
        }
    }

    @Test("Whoever has begun to replicate can no longer reach keys")
    func replicasAreNoClients() {
        let node = NodeHarness()
        node("PSYNC ? -1")
        #expect(node("SET a 1") == "")
        #expect(node.client.isClosing as Bool)
        #expect(node("GET a", as: node.connect()) == "$-1\r\n")
    }
}

enum RESPText {
    static func command(_ words: [String]) -> [UInt8] {
        var text = "*\(words.count)\r\n"
        for word in words { text += .bulk(word) }
        return Array(text.utf8)
    }
}

extension NodeHarness {
    /// The log from a position to its end.
    func log(from position: Int64) -> String {
        var bytes: [UInt8] = []
        while position + Int64(bytes.count) < node.replication.feed.log.end {
            bytes += Array(node.replication.feed.log.bytes(at: position + Int64(bytes.count)))
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
