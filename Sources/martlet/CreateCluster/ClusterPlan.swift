import MartletBase

// Who becomes a primary with which slots, and which replica follows whom.
//
// Hosts fail as a whole, so the plan spreads a shard over hosts:
// 1. The nodes are dealt out host by host, so that the first ones, which become primaries, stand on as many hosts as
//    there are.
// 2. The slots are divided evenly. The boundaries are those of `redis-cli --cluster create`, single-precision rounding
//    included: a cluster made by either tool looks the same.
// 3. Each primary takes the free replica that hurts least: one on another host than the primary, and if there is a
//    choice on another host than its siblings. Nodes left over by the division follow as extra replicas.
// 4. A greedy choice can paint itself into a corner, so swaps of two replicas follow as long as one of them helps.
//
// The same addresses in the same order always give the same plan: a creation that was cut short can be repeated.

/// A cluster that is to be created; nodes are named by their index in the list of addresses.
package struct ClusterPlan: Equatable, Sendable {
    package struct Primary: Equatable, Sendable {
        package var node: Int
        package var slots: ClosedRange<Int>
        /// In the order in which they were chosen.
        package var replicas: [Int]
    }

    package var primaries: [Primary]

    package enum Refusal: Error, Equatable, CustomStringConvertible {
        case tooFewPrimaries(nodeCount: Int, replicasPerPrimary: Int, required: Int)
        case tooManyPrimaries(Int)
        case repeatedAddress(NodeAddress)

        package var description: String {
            switch self {
            case .tooFewPrimaries(let nodeCount, let replicas, let required):
                """
                a cluster needs at least \(required) primaries, so that a majority remains to replace a lost one; \
                \(nodeCount) node\(nodeCount == 1 ? "" : "s") with \(replicas) replica\(replicas == 1 ? "" : "s") per \
                primary make \(nodeCount / (replicas + 1)): at least \(required * (replicas + 1)) nodes are required
                """
            case .tooManyPrimaries(let count):
                "\(count) primaries are more than the \(HashSlot.count) hash slots"
            case .repeatedAddress(let address):
                "\(address) was given twice"
            }
        }
    }

    /// Elections need a majority of primaries, which two cannot give when one is lost.
    package static let primariesMin = 3

    /// - Parameter allowsSinglePrimary: one primary alone is a fine place for development, but nobody elects its
    ///   replicas when it dies.
    package init(
        nodes: [NodeAddress], replicasPerPrimary: Int, allowsSinglePrimary: Bool = false
    ) throws(Refusal) {
        precondition(replicasPerPrimary >= 0)
        var seen: Set<String> = []
        for node in nodes where !seen.insert(node.description).inserted { throw .repeatedAddress(node) }
        let primaryCount = nodes.count / (replicasPerPrimary + 1)
        guard primaryCount >= Self.primariesMin || (primaryCount == 1 && allowsSinglePrimary) else {
            throw .tooFewPrimaries(
                nodeCount: nodes.count, replicasPerPrimary: replicasPerPrimary, required: Self.primariesMin)
        }
        guard primaryCount <= HashSlot.count else { throw .tooManyPrimaries(primaryCount) }

        let dealt = Self.dealByHost(nodes)
        let ranges = Self.evenSlots(primaryCount: primaryCount)
        primaries = zip(dealt, ranges).map { node, slots in Primary(node: node, slots: slots, replicas: []) }
        var placement = ReplicaPlacement(hosts: nodes.map(\.host))
        placement.assign(Array(dealt[primaryCount...]), to: &primaries, perPrimary: replicasPerPrimary)
        placement.improve(&primaries)
    }

    /// Indices of the nodes, one of each host in turn, hosts in the order of their first appearance.
    package static func dealByHost(_ nodes: [NodeAddress]) -> [Int] {
        var order: [String] = []
        var byHost: [String: [Int]] = [:]
        for (index, node) in nodes.enumerated() {
            if byHost[node.host] == nil { order.append(node.host) }
            byHost[node.host, default: []].append(index)
        }
        var dealt: [Int] = []
        var turn = 0
        while dealt.count < nodes.count {
            for host in order {
                if let queue = byHost[host], turn < queue.count { dealt.append(queue[turn]) }
            }
            turn += 1
        }
        return dealt
    }

    /// The slot ranges of `primaryCount` primaries. Single precision on purpose: see above.
    package static func evenSlots(primaryCount: Int) -> [ClosedRange<Int>] {
        let slotsPerPrimary = Float(HashSlot.count) / Float(primaryCount)
        var ranges: [ClosedRange<Int>] = []
        var first = 0
        var cursor: Float = 0
        for index in 0..<primaryCount {
            var last = Int((cursor + slotsPerPrimary - 1).rounded(.toNearestOrAwayFromZero))
            if last > HashSlot.count || index == primaryCount - 1 { last = HashSlot.count - 1 }
            last = max(last, first)
            ranges.append(first...last)
            first = last + 1
            cursor += slotsPerPrimary
        }
        return ranges
    }

    /// How far the plan is from perfect; 0 when every shard stands on as many hosts as it has nodes.
    package func hostSharing(of nodes: [NodeAddress]) -> HostSharing {
        ReplicaPlacement(hosts: nodes.map(\.host)).sharing(of: primaries)
    }
}

/// Nodes of one shard that would fail together.
package struct HostSharing: Equatable, Sendable {
    /// Replicas on the host of their own primary.
    package var withPrimary = 0
    /// Pairs of replicas of one primary on one host.
    package var amongReplicas = 0

    package var warning: String? {
        if withPrimary > 0 { return "\(withPrimary) replica(s) stand on the host of their primary" }
        if amongReplicas > 0 { return "some replicas of one primary share a host" }
        return nil
    }
}

private struct ReplicaPlacement {
    /// By node index.
    let hosts: [String]

    /// Loses against any number of shared hosts among replicas that a shard can have.
    private static let withPrimaryPenalty = 10000

    mutating func assign(_ candidates: [Int], to primaries: inout [ClusterPlan.Primary], perPrimary: Int) {
        var free = candidates
        func takeBest(for primary: inout ClusterPlan.Primary) {
            guard
                let best = free.indices.min(by: {
                    penalty(of: free[$0], in: primary) < penalty(of: free[$1], in: primary)
                })
            else { return }
            primary.replicas.append(free.remove(at: best))
        }
        for _ in 0..<perPrimary {
            for index in primaries.indices { takeBest(for: &primaries[index]) }
        }
        // The division's remainder: at most `perPrimary` nodes, one more for each primary in turn.
        while !free.isEmpty {
            for index in primaries.indices { takeBest(for: &primaries[index]) }
        }
    }

    /// Swaps replicas between primaries while that lowers the sum of penalties.
    /// - Complexity: O(replicas²) per swap, and every swap lowers the sum.
    mutating func improve(_ primaries: inout [ClusterPlan.Primary]) {
        var improved = true
        while improved {
            improved = false
            for left in primaries.indices {
                for right in primaries.indices where right > left {
                    for i in primaries[left].replicas.indices {
                        for j in primaries[right].replicas.indices {
                            let before = cost(of: primaries[left]) + cost(of: primaries[right])
                            if before == 0 { continue }
                            swap(&primaries, left, i, right, j)
                            if cost(of: primaries[left]) + cost(of: primaries[right]) < before {
                                improved = true
                            } else {
                                swap(&primaries, left, i, right, j)
                            }
                        }
                    }
                }
            }
        }
    }

    private func swap(_ primaries: inout [ClusterPlan.Primary], _ left: Int, _ i: Int, _ right: Int, _ j: Int) {
        let moved = primaries[left].replicas[i]
        primaries[left].replicas[i] = primaries[right].replicas[j]
        primaries[right].replicas[j] = moved
    }

    private func penalty(of replica: Int, in primary: ClusterPlan.Primary) -> Int {
        var sum = hosts[replica] == hosts[primary.node] ? Self.withPrimaryPenalty : 0
        for sibling in primary.replicas where hosts[sibling] == hosts[replica] { sum += 1 }
        return sum
    }

    private func cost(of primary: ClusterPlan.Primary) -> Int {
        let sharing = sharing(of: [primary])
        return sharing.withPrimary * Self.withPrimaryPenalty + sharing.amongReplicas
    }

    func sharing(of primaries: [ClusterPlan.Primary]) -> HostSharing {
        var result = HostSharing()
        for primary in primaries {
            for (position, replica) in primary.replicas.enumerated() {
                if hosts[replica] == hosts[primary.node] { result.withPrimary += 1 }
                for other in primary.replicas[(position + 1)...] where hosts[other] == hosts[replica] {
                    result.amongReplicas += 1
                }
            }
        }
        return result
    }
}
