import MartletBase
import Testing
import martlet

@Suite struct ClusterPlanTests {
    private func local(_ count: Int) -> [NodeAddress] {
        (0..<count).map { NodeAddress(host: "127.0.0.1", port: 7000 + $0) }
    }

    /// The expected values come from redis-cli 7.0's arithmetic: the last slot of each primary, and a polynomial hash
    /// over all of them where there are many.
    @Test(
        "Slots are divided at the boundaries that redis-cli chooses",
        arguments: [
            (3, [5460, 10922, 16383]), (4, [4095, 8191, 12287, 16383]), (5, [3276, 6553, 9829, 13106, 16383]),
            (6, [2730, 5460, 8191, 10922, 13652, 16383]), (7, [2340, 4680, 7021, 9361, 11702, 14042, 16383]),
            (1, [16383]),
        ])
    func boundaries(_ primaries: Int, lasts: [Int]) {
        #expect(ClusterPlan.evenSlots(primaryCount: primaries).map(\.upperBound) == lasts)
    }

    @Test(
        "Rounding errors add up as in redis-cli",
        arguments: [
            (11, 0x1212_C96E_1573_1D65), (100, 0xEF9F_D70A_F645_7EC0), (333, 0xB872_6DE3_8357_CDF8),
            (1000, 0xF715_5FB5_3DE6_7101), (5000, 0x5749_1DBA_CF83_2363), (16384, 0xB1C1_8646_9FC0_2000),
        ] as [(Int, UInt)])
    func roundingErrors(_ primaries: Int, hash: UInt) {
        let ranges = ClusterPlan.evenSlots(primaryCount: primaries)
        #expect(ranges.reduce(UInt(0)) { $0 &* 31 &+ UInt($1.upperBound) } == hash)
        #expect(ranges.first?.lowerBound == 0)
        #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound + 1 == $1.lowerBound })
    }

    @Test("On one host the first nodes are primaries and the others follow them in order")
    func oneHost() throws {
        let plan = try ClusterPlan(nodes: local(6), replicasPerPrimary: 1)
        #expect(plan.primaries.map(\.node) == [0, 1, 2])
        #expect(plan.primaries.map(\.replicas) == [[3], [4], [5]])
    }

    @Test("Nodes that the division leaves over become extra replicas")
    func extraReplicas() throws {
        let plan = try ClusterPlan(nodes: local(8), replicasPerPrimary: 1)
        #expect(plan.primaries.count == 4)
        let uneven = try ClusterPlan(nodes: local(7), replicasPerPrimary: 1)
        #expect(uneven.primaries.map(\.replicas) == [[3, 6], [4], [5]])
        let many = try ClusterPlan(nodes: local(19), replicasPerPrimary: 4)
        #expect(many.primaries.map(\.replicas.count) == [6, 5, 5])
    }

    @Test("Three hosts with two nodes each give three shards on two hosts each")
    func threeHosts() throws {
        let nodes = ["a:1", "a:2", "b:1", "b:2", "c:1", "c:2"].compactMap(NodeAddress.init(parsing:))
        let plan = try ClusterPlan(nodes: nodes, replicasPerPrimary: 1)
        #expect(plan.primaries.map { nodes[$0.node].host } == ["a", "b", "c"])
        let sharing = plan.hostSharing(of: nodes)
        #expect(sharing.withPrimary == 0 && sharing.amongReplicas == 0)
    }

    @Test("A host that holds most of the nodes is reported when separation is impossible")
    func impossibleSeparation() throws {
        let nodes = ["a:1", "a:2", "a:3", "a:4", "a:5", "b:1"].compactMap(NodeAddress.init(parsing:))
        let plan = try ClusterPlan(nodes: nodes, replicasPerPrimary: 1)
        let sharing = plan.hostSharing(of: nodes)
        #expect(sharing.withPrimary == 2)
        #expect(sharing.warning != nil)
    }

    @Test("Wherever hosts have equally many nodes, no replica shares the host of its primary", arguments: 0..<20)
    func separatesWhenPossible(seed: UInt64) throws {
        var random = PRNG(seed: seed)
        let replicas = 1 + random.below(3)
        let hostCount = replicas + 1 + random.below(4)
        // At least three shards.
        let perHost = (replicas + 1) * (2 + random.below(3))
        var nodes = (0..<hostCount).flatMap { host in
            (0..<perHost).map { NodeAddress(host: "host\(host)", port: 7000 + $0) }
        }
        nodes.shuffle(using: &random)
        let plan = try ClusterPlan(nodes: nodes, replicasPerPrimary: replicas, allowsSinglePrimary: true)
        let used = plan.primaries.flatMap { [$0.node] + $0.replicas }
        #expect(used.sorted() == Array(nodes.indices), "seed \(seed)")
        #expect(plan.primaries.allSatisfy { $0.replicas.count >= replicas }, "seed \(seed)")
        #expect(plan.hostSharing(of: nodes).withPrimary == 0, "seed \(seed)")
        #expect(try ClusterPlan(nodes: nodes, replicasPerPrimary: replicas, allowsSinglePrimary: true) == plan)
    }

    @Test(
        "Fewer than three primaries are refused",
        arguments: [(5, 1), (2, 0), (1, 0), (8, 2), (0, 0), (3, 1)])
    func tooFew(_ nodes: Int, replicas: Int) {
        #expect(
            throws: ClusterPlan.Refusal.tooFewPrimaries(nodeCount: nodes, replicasPerPrimary: replicas, required: 3)
        ) {
            try ClusterPlan(nodes: local(nodes), replicasPerPrimary: replicas)
        }
    }

    @Test("One primary is accepted where it is asked for, two are not")
    func singlePrimary() throws {
        let plan = try ClusterPlan(nodes: local(1), replicasPerPrimary: 0, allowsSinglePrimary: true)
        #expect(plan.primaries.map(\.slots) == [0...16383])
        #expect(plan.primaries[0].replicas.isEmpty)
        #expect(throws: ClusterPlan.Refusal.self) {
            try ClusterPlan(nodes: local(2), replicasPerPrimary: 0, allowsSinglePrimary: true)
        }
    }

    @Test("An address that is given twice is refused")
    func repeatedAddress() {
        let nodes = local(3) + [NodeAddress(host: "127.0.0.1", port: 7001)]
        #expect(throws: ClusterPlan.Refusal.repeatedAddress(nodes[3])) {
            try ClusterPlan(nodes: nodes, replicasPerPrimary: 0)
        }
    }
}
