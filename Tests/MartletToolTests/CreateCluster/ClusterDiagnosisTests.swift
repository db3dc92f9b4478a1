import Testing
import martlet

/// Six nodes n0 to n5 on one host: three primaries, each with one replica, as a creation goes on.
private struct Scene {
    var nodes: [NodeObservation]
    let plan: ClusterPlan

    init() throws {
        let addresses = (0..<6).map { NodeAddress(host: "127.0.0.1", port: 7000 + $0) }
        plan = try ClusterPlan(nodes: addresses, replicasPerPrimary: 1)
        nodes = addresses.indices.map { index in
            NodeObservation(
                address: addresses[index], view: ClusterView(members: [Scene.member(index, isMyself: true)]))
        }
    }

    static func member(_ index: Int, isMyself: Bool = false) -> MemberView {
        MemberView(
            id: "n\(index)", address: NodeAddress(host: "127.0.0.1", port: 7000 + index),
            flags: isMyself ? ["myself", "master"] : ["master"], configEpoch: UInt64(index), isLinkConnected: true)
    }

    mutating func addSlots() {
        for (index, primary) in plan.primaries.enumerated() { nodes[index].view.members[0].slots = [primary.slots] }
    }

    mutating func join() {
        let everyone = nodes.map { $0.view.members[0] }
        for index in nodes.indices {
            nodes[index].view.members = everyone
            for other in everyone.indices where other != index {
                nodes[index].view.members[other].flags.remove("myself")
            }
        }
    }

    mutating func replicate(_ replica: Int, _ primary: Int) {
        for index in nodes.indices {
            nodes[index].view.members[replica].flags.remove("master")
            nodes[index].view.members[replica].flags.insert("slave")
            nodes[index].view.members[replica].primaryID = "n\(primary)"
        }
        nodes[replica].isReplicaInSync = true
    }

    mutating func finish() {
        addSlots()
        join()
        for replica in 3...5 { replicate(replica, replica - 3) }
        for index in nodes.indices { nodes[index].isStateOK = true }
    }

    func diagnose() throws -> ClusterDiagnosis { try ClusterDiagnosis(nodes, plan: plan) }
}

@Suite struct ClusterDiagnosisTests {
    @Test("Six empty strangers are a new cluster")
    func blank() throws {
        #expect(try Scene().diagnose() == .blank)
    }

    @Test("A creation is taken up after its slots, after the join, and after the first replica")
    func halfMade() throws {
        var scene = try Scene()
        scene.addSlots()
        #expect(try scene.diagnose() == .halfMade)
        scene.join()
        #expect(try scene.diagnose() == .halfMade)
        #expect(ClusterDiagnosis.missingReplicas(scene.nodes, plan: scene.plan).map(\.replica) == [3, 4, 5])
        scene.replicate(3, 0)
        #expect(try scene.diagnose() == .halfMade)
        #expect(ClusterDiagnosis.missingReplicas(scene.nodes, plan: scene.plan).map(\.replica) == [4, 5])
    }

    @Test("A finished cluster is only waited for, keys or not")
    func formed() throws {
        var scene = try Scene()
        scene.finish()
        scene.nodes[0].keyCount = 10
        #expect(try scene.diagnose() == .formed(others: 0))
        #expect(ClusterComplaint.all(scene.nodes).isEmpty)
    }

    @Test("After a failover the cluster is still the same one")
    func failedOver() throws {
        var scene = try Scene()
        scene.finish()
        for index in scene.nodes.indices {
            let slots = scene.nodes[index].view.members[0].slots
            scene.nodes[index].view.members[0].slots = []
            scene.nodes[index].view.members[3].slots = slots
            scene.nodes[index].view.members[3].flags = index == 3 ? ["myself", "master"] : ["master"]
            scene.nodes[index].view.members[3].primaryID = nil
            scene.nodes[index].view.members[0].flags = index == 0 ? ["myself", "slave"] : ["slave"]
            scene.nodes[index].view.members[0].primaryID = "n3"
        }
        #expect(try scene.diagnose() == .formed(others: 0))
    }

    @Test("Members that joined later do not disturb")
    func grown() throws {
        var scene = try Scene()
        scene.finish()
        for index in scene.nodes.indices { scene.nodes[index].view.members.append(Scene.member(6)) }
        #expect(try scene.diagnose() == .formed(others: 1))
    }

    @Test("A node without cluster mode is refused")
    func noCluster() throws {
        var scene = try Scene()
        scene.nodes[2].isClusterEnabled = false
        expectRefusal(scene, 7002, "not configured as a cluster node")
    }

    @Test("A node that knows a stranger is refused")
    func foreigner() throws {
        var scene = try Scene()
        scene.nodes[4].view.members.append(Scene.member(9))
        expectRefusal(scene, 7004, "knows other nodes")
    }

    @Test("A node with keys is refused")
    func keys() throws {
        var scene = try Scene()
        scene.nodes[1].keyCount = 1
        expectRefusal(scene, 7001, "contains 1 keys in database 0")
    }

    @Test("A node with other slots than the plan's is refused")
    func otherSlots() throws {
        var scene = try Scene()
        scene.nodes[1].view.members[0].slots = [0...10]
        expectRefusal(scene, 7001, "owns 11 slots")
        scene = try Scene()
        scene.nodes[5].view.members[0].slots = [0...10]
        expectRefusal(scene, 7005, "would become a replica")
    }

    @Test("A replica of another node than planned is refused")
    func otherPrimary() throws {
        var scene = try Scene()
        scene.addSlots()
        scene.join()
        scene.replicate(3, 1)
        expectRefusal(scene, 7003, "replica of another node")
        scene = try Scene()
        scene.join()
        scene.replicate(0, 1)
        expectRefusal(scene, 7000, "is a replica of another node")
    }

    @Test("One node behind two addresses is refused")
    func sameNode() throws {
        var scene = try Scene()
        scene.nodes[3].view.members[0].id = "n1"
        expectRefusal(scene, 7003, "is the same node as 127.0.0.1:7001")
    }

    private func expectRefusal(_ scene: Scene, _ port: Int, _ text: String) {
        do {
            let diagnosis = try scene.diagnose()
            Issue.record("expected a refusal, got \(diagnosis)")
        } catch let refusal as ClusterDiagnosis.Refusal {
            #expect(refusal.address.port == port)
            #expect(refusal.description.contains(text))
        } catch {
            Issue.record("unexpected error \(error)")
        }
    }

    @Test("Complaints name the node and what it lacks")
    func complaints() throws {
        var scene = try Scene()
        scene.finish()
        scene.nodes[5].isReplicaInSync = false
        scene.nodes[1].isStateOK = false
        #expect(
            ClusterComplaint.all(scene.nodes).map(\.description) == [
                "127.0.0.1:7001 says cluster_state:fail", "127.0.0.1:7005 is not in sync with its primary",
            ])
        #expect(ClusterComplaint.all(scene.nodes, onlyAgreement: true).isEmpty)
        scene.nodes[2].view.members[4].flags.insert("fail")
        scene.nodes[3].view.members.removeLast()
        scene.nodes[4].view.members[0].slots = [0...1]
        let agreement = ClusterComplaint.all(scene.nodes, onlyAgreement: true).map(\.description)
        #expect(
            agreement == [
                "127.0.0.1:7002 sees 127.0.0.1:7004 failing", "127.0.0.1:7003 does not know 1 of 6 nodes yet",
                "127.0.0.1:7004 does not agree with 127.0.0.1:7000 on slots and roles",
            ])
    }

    @Test("An observation is read from INFO, CLUSTER INFO and CLUSTER NODES")
    func observation() throws {
        let node = try NodeObservation(
            address: NodeAddress(host: "h", port: 1),
            info:
                "cluster_enabled:1\r\nmaster_link_status:up\r\nmaster_sync_in_progress:0\r\ndb0:keys=12,expires=0,avg_ttl=0\r\n",
            clusterInfo: "cluster_state:ok\r\ncluster_current_epoch:9\r\n",
            nodes: "aaa h:1@10001 myself,slave bbb 0 0 3 connected\n")
        #expect(node.isClusterEnabled && node.isStateOK && node.isReplicaInSync)
        #expect(node.keyCount == 12)
        #expect(node.currentEpoch == 9)
        #expect(!node.isBlank)
    }
}
