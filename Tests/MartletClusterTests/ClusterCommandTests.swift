import MartletBase
import Testing

@testable import MartletCluster

@Suite struct ClusterCommandTests {
    private func error(_ reply: ClusterReply) -> String? {
        if case .error(let text) = reply { return text }
        return nil
    }

    @Test(
        "mistakes get the texts of Redis 7.0",
        arguments: [
            ("NOSUCH", "ERR unknown subcommand or wrong number of arguments for 'NOSUCH'. Try CLUSTER HELP."),
            ("MEET 127.0.0.1", "ERR unknown subcommand or wrong number of arguments for 'MEET'. Try CLUSTER HELP."),
            ("MEET 127.0.0.1 x", "ERR Invalid TCP base port specified: x"),
            ("MEET 127.0.0.1 7000 x", "ERR Invalid TCP bus port specified: x"),
            ("MEET 127.0.0.1 0", "ERR Invalid node address specified: 127.0.0.1:0"),
            ("MEET 127.0.0.1 55536", "ERR Invalid node address specified: 127.0.0.1:55536"),
            ("MEET 127.0.0.1 9223372036854775807", "ERR Invalid node address specified: 127.0.0.1:9223372036854775807"),
            ("MEET localhost 7000", "ERR Invalid node address specified: localhost:7000"),
            ("ADDSLOTS 16384", "ERR Invalid or out of range slot"),
            ("ADDSLOTS -1", "ERR Invalid or out of range slot"),
            ("ADDSLOTS 1 1", "ERR Slot 1 specified multiple times"),
            ("ADDSLOTS 10", "ERR Slot 10 is already busy"),
            ("DELSLOTS 9", "ERR Slot 9 is already unassigned"),
            ("ADDSLOTSRANGE 5 3", "ERR start slot number 5 is greater than end slot number 3"),
            ("ADDSLOTSRANGE 1 2 3", "ERR wrong number of arguments for 'cluster|addslotsrange' command"),
            ("ADDSLOTSRANGE 5 11", "ERR Slot 10 is already busy"),
            ("ADDSLOTSRANGE 1 4 3 5", "ERR Slot 3 specified multiple times"),
            ("SETSLOT 20000 STABLE", "ERR Invalid or out of range slot"),
            ("SETSLOT 9 MIGRATING x", "ERR I'm not the owner of hash slot 9"),
            ("SETSLOT 10 MIGRATING x", "ERR I don't know about node x"),
            ("SETSLOT 10 IMPORTING x", "ERR I'm already the owner of hash slot 10"),
            ("SETSLOT 9 IMPORTING x", "ERR I don't know about node x"),
            ("SETSLOT 9 NODE x", "ERR Unknown node x"),
            ("SETSLOT 9 MAYBE", "ERR Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP"),
            ("SETSLOT 9", "ERR unknown subcommand or wrong number of arguments for 'SETSLOT'. Try CLUSTER HELP."),
            ("FORGET x", "ERR Unknown node x"),
            ("REPLICATE x", "ERR Unknown node x"),
            ("REPLICAS x", "ERR Unknown node x"),
            ("COUNT-FAILURE-REPORTS x", "ERR Unknown node x"),
            ("FAILOVER", "ERR You should send CLUSTER FAILOVER to a replica"),
            ("FAILOVER NOW", "ERR syntax error"),
            ("RESET GENTLY", "ERR syntax error"),
            ("SET-CONFIG-EPOCH x", "ERR value is not an integer or out of range"),
            ("SET-CONFIG-EPOCH -1", "ERR Invalid config epoch specified: -1"),
        ])
    func mistakes(command: String, text: String) {
        let cluster = TestCluster()
        cluster.add()
        cluster.execute(0, "ADDSLOTS 10")
        #expect(error(cluster.execute(0, command)) == text)
    }

    @Test("what concerns this node itself is refused in its own words")
    func aboutMyself() {
        let cluster = TestCluster()
        cluster.add()
        let id = cluster.id(0)
        #expect(error(cluster.execute(0, "FORGET \(id)")) == "ERR I tried hard but I can't forget myself...")
        #expect(error(cluster.execute(0, "REPLICATE \(id)")) == "ERR Can't replicate myself")
        #expect(
            error(cluster.execute(0, "FLUSHSLOTS", keys: 1)) == "ERR DB must be empty to perform CLUSTER FLUSHSLOTS.")
        #expect(
            error(cluster.execute(0, "RESET", keys: 1))
                == "ERR CLUSTER RESET can't be called with master nodes containing keys")
        #expect(cluster.execute(0, "SET-CONFIG-EPOCH 4") == .ok)
        #expect(error(cluster.execute(0, "SET-CONFIG-EPOCH 4")) == "ERR Node config epoch is already non-zero")
        #expect(cluster.execute(0, "BUMPEPOCH") == .status("STILL 4"))
        #expect(cluster.execute(0, "MYID") == .bulk(id))
    }

    @Test("members are protected from commands that would break the cluster")
    func aboutMembers() {
        let cluster = TestCluster.booted(primaries: 2, replicas: 1)
        let ids = (0..<4).map { cluster.id($0) }
        #expect(error(cluster.execute(2, "FORGET \(ids[0])")) == "ERR Can't forget my master!")
        #expect(error(cluster.execute(2, "REPLICATE \(ids[3])")) == "ERR I can only replicate a master, not a replica.")
        #expect(
            error(cluster.execute(0, "REPLICATE \(ids[1])"))
                == "ERR To set a master the node must be empty and without assigned slots.")
        #expect(error(cluster.execute(0, "REPLICAS \(ids[2])")) == "ERR The specified node is not a master")
        #expect(error(cluster.execute(2, "SETSLOT 1 STABLE")) == "ERR Please use SETSLOT only with masters.")
        #expect(error(cluster.execute(0, "SETSLOT 1 NODE \(ids[2])")) == "ERR Target node is not a master")
        #expect(error(cluster.execute(0, "SETSLOT 1 MIGRATING \(ids[3])")) == "ERR Target node is not a master")
        #expect(
            error(cluster.execute(0, "SETSLOT 1 NODE \(ids[1])", keys: 3))
                == "ERR Can't assign hashslot 1 to a different node while I still hold keys for this hash slot.")
        #expect(
            error(cluster.execute(0, "SET-CONFIG-EPOCH 9"))
                == "ERR The user can assign a config epoch only when the node does not know any other node.")
        guard case .array(let replicas) = cluster.execute(0, "REPLICAS \(ids[0])") else { Issue.record(); return }
        guard case .bulk(let line)? = replicas.first else { Issue.record(); return }
        #expect(line.hasPrefix("\(ids[2]) 127.0.0.1:7002@17002 slave \(ids[0]) "))
        #expect(line.hasSuffix(" 1 connected"))
    }

    @Test("SLOTS, SHARDS and LINKS list every member once")
    func lists() {
        let cluster = TestCluster.booted(primaries: 2, replicas: 1)
        let ids = (0..<4).map { cluster.id($0) }
        func endpoint(_ index: Int) -> ClusterReply {
            .array([.bulk("127.0.0.1"), .integer(Int64(7000 + index)), .bulk(ids[index]), .map([])])
        }
        #expect(
            cluster.execute(0, "SLOTS")
                == .array([
                    .array([.integer(0), .integer(8191), endpoint(0), endpoint(2)]),
                    .array([.integer(8192), .integer(16383), endpoint(1), endpoint(3)]),
                ]))
        guard case .array(let shards) = cluster.execute(0, "SHARDS") else { Issue.record(); return }
        #expect(shards.count == 2)
        guard case .map(let shard) = shards[0], case .array(let nodes) = shard[1].1 else { Issue.record(); return }
        #expect(shard[0].0 == "slots" && shard[0].1 == .array([.integer(0), .integer(8191)]))
        guard case .map(let replica) = nodes[1] else { Issue.record(); return }
        #expect(replica.map { $0.0 } == ["id", "port", "ip", "endpoint", "role", "replication-offset", "health"])
        #expect(replica[4].1 == .bulk("replica") && replica[6].1 == .bulk("online"))
        guard case .array(let links) = cluster.execute(0, "LINKS") else { Issue.record(); return }
        #expect(links.count == 6)
        guard case .map(let link) = links[0] else { Issue.record(); return }
        #expect(
            link.map { $0.0 } == [
                "direction", "node", "create-time", "events", "send-buffer-allocated", "send-buffer-used",
            ])
    }

    @Test("INFO has the fields of Redis 7.0 in their order")
    func info() {
        let cluster = TestCluster.booted(primaries: 3, replicas: 0)
        guard case .verbatim(let text) = cluster.execute(1, "INFO") else { Issue.record(); return }
        #expect(
            text.hasPrefix(
                "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\ncluster_slots_pfail:0\r\n"
                    + "cluster_slots_fail:0\r\ncluster_known_nodes:3\r\ncluster_size:3\r\ncluster_current_epoch:3\r\n"
                    + "cluster_my_epoch:2\r\ncluster_stats_messages_ping_sent:"))
        #expect(text.hasSuffix("\r\ntotal_cluster_links_buffer_limit_exceeded:0\r\n"))
    }

    @Test("RESET HARD makes a new node, RESET SOFT keeps name and epochs")
    func reset() {
        let cluster = TestCluster.booted(primaries: 2, replicas: 1)
        let id = cluster.id(2), epoch = cluster[2].currentEpoch
        #expect(cluster.execute(2, "RESET SOFT") == .ok)
        #expect(cluster.id(2) == id && cluster[2].currentEpoch == epoch && cluster[2].nodeCount == 1)
        #expect(cluster[2].myself.isPrimary && cluster.members[2].wasFlushed && cluster.members[2].following == nil)
        #expect(cluster.execute(3, "RESET HARD") == .ok)
        #expect(cluster[3].currentEpoch == 0 && cluster[3].nodeCount == 1)
        cluster[3].checkInvariants()
    }

    @Test("a forgotten node stays away for a minute, everywhere")
    func forget() {
        let cluster = TestCluster.booted(primaries: 3, replicas: 1)
        let id = NodeID(cluster.id(3))!
        cluster.kill(3)
        // One node is told; the others hear it from that one.
        #expect(cluster.execute(0, "FORGET \(id)") == .ok)
        #expect(
            cluster.run(
                until: { cluster.members.allSatisfy { $0.state?.node(id) == nil } }, timeout: 20_000) != nil)
        // A tool that tells every node in turn sees no error from those that have heard.
        #expect(cluster.execute(1, "FORGET \(id)") == .ok)
        cluster.run(milliseconds: 30_000)
        #expect(cluster.members.allSatisfy { $0.state?.node(id) == nil })
    }

    @Test(
        "addresses are normalised like inet_ntop does",
        arguments: [
            ("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("0:0:0:0:0:0:0:1", "::1"), ("2001:DB8::0:1", "2001:db8::1"),
            ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"), ("::ffff:1.2.3.4", "::ffff:1.2.3.4"), ("::", "::"),
            ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"), ("1:0:3:4:5:6:7:8", "1:0:3:4:5:6:7:8"), ("fe80::", "fe80::"),
        ])
    func addresses(text: String, normal: String) {
        #expect(normalizedIPAddress(text) == normal)
    }

    @Test(
        "what is no address is refused",
        arguments: [
            "", "localhost", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.-4", ":", ":::", "1::2::3",
            "12345::",
            "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7", "::g", "::1.2.3.4.5", "1.2.3.4::", "::1%lo", " 1.2.3.4",
        ])
    func notAddresses(text: String) {
        #expect(normalizedIPAddress(text) == nil)
    }
}
