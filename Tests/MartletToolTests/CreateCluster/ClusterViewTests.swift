import Testing
import martlet

@Suite struct ClusterViewTests {
    @Test("CLUSTER NODES of a cluster with a replica, a failing node and a moving slot")
    func nodes() throws {
        let view = try ClusterView(
            parsing: """
                aaa 127.0.0.1:7000@17000 myself,master - 0 1700000000000 7 connected 0-5460 9000 [5461->-bbb]
                bbb 127.0.0.1:7001@17001,db.example,shard-id=123 master,fail? - 0 1700000000000 2 disconnected 5461-8999
                ccc ::1:7002@17002 slave aaa 0 1700000000000 7 connected
                ddd :0@0 master,noaddr,handshake - 0 0 0 disconnected

                """)
        #expect(view.members.count == 4)
        let first = try #require(view.myself)
        #expect(first.id == "aaa")
        #expect(first.slots == [0...5460, 9000...9000])
        #expect(first.slotsInMotion == ["[5461->-bbb]"])
        #expect(first.configEpoch == 7)
        let failing = view.members[1]
        #expect(failing.isFailing && !failing.isLinkConnected)
        #expect(failing.address == NodeAddress(host: "127.0.0.1", port: 7001, busPort: 17001))
        let replica = view.members[2]
        #expect(replica.isReplica && replica.primaryID == "aaa")
        #expect(replica.address.host == "::1")
        #expect(view.knownIDs == ["aaa", "bbb", "ccc"])
        #expect(view.slotCountCovered == 5461 + 1 + 3539)
    }

    @Test(
        "Lines that no server prints are refused",
        arguments: [
            "aaa", "aaa 127.0.0.1:7000@17000 myself,master - 0 0 x connected",
            "aaa 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 5-1",
            "aaa 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-16384",
            "aaa 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 1-2-3",
            "aaa 127.0.0.1:7000@17000 myself,master - 0 0 1 connected -1",
        ])
    func malformed(_ line: String) {
        #expect(throws: ClusterView.Malformed.self) { try ClusterView(parsing: line) }
    }

    @Test("INFO's fields are found, its headlines are not")
    func info() {
        let info = InfoFields(
            parsing: "# Cluster\r\ncluster_enabled:1\r\nunix:/a:b\r\n\r\n# Keyspace\r\ndb0:keys=3,expires=0\r\n")
        #expect(info[field: "cluster_enabled"] == "1")
        #expect(info[field: "unix"] == "/a:b")
        #expect(info[field: "# Cluster"] == nil)
        #expect(info[field: "db0"] == "keys=3,expires=0")
    }
}
