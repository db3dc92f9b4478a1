import MartletBase

/// What one node said about itself and the cluster.
package struct NodeObservation: Equatable, Sendable {
    package var address: NodeAddress
    package var isClusterEnabled: Bool
    /// Keys in database 0, the only one of a cluster node.
    package var keyCount: Int
    /// `cluster_state:ok`
    package var isStateOK: Bool
    package var currentEpoch: UInt64
    package var view: ClusterView
    /// Of a replica: the link to its primary is up and no full synchronisation is under way.
    package var isReplicaInSync: Bool

    package init(
        address: NodeAddress, isClusterEnabled: Bool = true, keyCount: Int = 0, isStateOK: Bool = false,
        currentEpoch: UInt64 = 0, view: ClusterView, isReplicaInSync: Bool = false
    ) {
        self.address = address
        self.isClusterEnabled = isClusterEnabled
        self.keyCount = keyCount
        self.isStateOK = isStateOK
        self.currentEpoch = currentEpoch
        self.view = view
        self.isReplicaInSync = isReplicaInSync
    }

    package init(address: NodeAddress, info: String, clusterInfo: String?, nodes: String?) throws(ClusterView.Malformed)
    {
        let info = InfoFields(parsing: info)
        let clusterInfo = InfoFields(parsing: clusterInfo ?? "")
        self.init(
            address: address,
            isClusterEnabled: info[field: "cluster_enabled"] == "1",
            keyCount: Self.keyCount(info[field: "db0"]),
            isStateOK: clusterInfo[field: "cluster_state"] == "ok",
            currentEpoch: clusterInfo[field: "cluster_current_epoch"].flatMap { UInt64($0) } ?? 0,
            view: try ClusterView(parsing: nodes ?? ""),
            isReplicaInSync: info[field: "master_link_status"] == "up" && info[field: "master_sync_in_progress"] == "0")
    }

    /// `keys=3,expires=0,avg_ttl=0`
    private static func keyCount(_ database: String?) -> Int {
        guard let count = database?.split(separator: ",").first?.split(separator: "=").last else { return 0 }
        return Int(count) ?? 0
    }

    /// Nothing was ever done with the node as a member of a cluster.
    package var isBlank: Bool {
        guard let myself = view.myself else { return false }
        return view.members.count == 1 && myself.slots.isEmpty && !myself.isReplica && keyCount == 0
    }
}

// How far a creation has got, so that it can be repeated.
//
// Nothing is remembered between two runs: the nodes themselves tell. A run that finds only blank nodes creates; one that
// finds all slots owned and every node known to every other waits until all are well; one that finds a part of exactly
// this plan done does the rest. Anything else is somebody's cluster or somebody's data, and is refused before the first
// change.

package enum ClusterDiagnosis: Equatable, Sendable {
    case blank
    case halfMade
    /// `others` counts the members that were not among the given addresses.
    case formed(others: Int)

    package struct Refusal: Error, Equatable, CustomStringConvertible {
        package let address: NodeAddress
        package let reason: String
        package var description: String { "node \(address) \(reason)" }
    }

    /// - Parameter observations: in the order of the addresses of the plan.
    package init(_ observations: [NodeObservation], plan: ClusterPlan) throws(Refusal) {
        for node in observations where !node.isClusterEnabled {
            throw Refusal(
                address: node.address, reason: "is not configured as a cluster node: set cluster-enabled yes")
        }
        var addressByID: [String: NodeAddress] = [:]
        for node in observations {
            guard let id = node.view.myself?.id else {
                throw Refusal(address: node.address, reason: "does not list itself in CLUSTER NODES")
            }
            if let other = addressByID.updateValue(node.address, forKey: id) {
                throw Refusal(address: node.address, reason: "is the same node as \(other)")
            }
        }
        if observations.allSatisfy(\.isBlank) && observations.count > 1 {
            self = .blank
            return
        }
        let ids = Set(addressByID.keys)
        let isComplete = observations.allSatisfy {
            ids.isSubset(of: $0.view.knownIDs) && $0.view.slotCountCovered == HashSlot.count
        }
        if isComplete, Self.missingReplicas(observations, plan: plan).isEmpty {
            let members = observations.reduce(into: Set<String>()) { $0.formUnion($1.view.knownIDs) }
            self = .formed(others: members.count - ids.count)
            return
        }
        try Self.checkIsPartOfPlan(observations, plan: plan, ids: ids)
        self = observations.allSatisfy(\.isBlank) ? .blank : .halfMade
    }

    /// Nodes that the plan makes replicas and that are primaries without slots and keys, with the node to follow.
    /// A planned primary that lost its slots since (a failover, a reshard) gets no replicas from here.
    package static func missingReplicas(
        _ observations: [NodeObservation], plan: ClusterPlan
    ) -> [(replica: Int, primary: Int)] {
        plan.primaries.flatMap { primary -> [(replica: Int, primary: Int)] in
            guard let owner = observations[primary.node].view.myself, !owner.isReplica, !owner.slots.isEmpty else {
                return []
            }
            return primary.replicas.compactMap { replica in
                guard let myself = observations[replica].view.myself, !myself.isReplica, myself.slots.isEmpty,
                    observations[replica].keyCount == 0
                else { return nil }
                return (replica, primary.node)
            }
        }
    }

    private static func checkIsPartOfPlan(
        _ observations: [NodeObservation], plan: ClusterPlan, ids: Set<String>
    ) throws(Refusal) {
        for node in observations {
            if let foreign = node.view.members.first(where: { !$0.isInHandshake && !ids.contains($0.id) }) {
                throw Refusal(
                    address: node.address,
                    reason: "is not empty: it already knows other nodes, for instance \(foreign.address) "
                        + "(see CLUSTER NODES)")
            }
        }
        for primary in plan.primaries {
            let node = observations[primary.node]
            let myself = node.view.myself!
            if myself.isReplica {
                throw Refusal(address: node.address, reason: "is not empty: it is a replica of another node")
            }
            if !myself.slots.isEmpty, myself.slots != [primary.slots] {
                throw Refusal(
                    address: node.address,
                    reason: "is not empty: it owns \(myself.slotCount) slots, which are not those it would get "
                        + "(\(primary.slots.lowerBound)-\(primary.slots.upperBound))")
            }
            try checkKeys(of: node, isInPlace: !myself.slots.isEmpty)
            for replica in primary.replicas {
                let node = observations[replica]
                let replicaItself = node.view.myself!
                if !replicaItself.slots.isEmpty {
                    throw Refusal(
                        address: node.address,
                        reason: "is not empty: it owns \(replicaItself.slotCount) slots and would become a replica")
                }
                if let followed = replicaItself.primaryID, followed != myself.id {
                    throw Refusal(
                        address: node.address, reason: "is not empty: it is a replica of another node (\(followed))")
                }
                try checkKeys(of: node, isInPlace: replicaItself.isReplica)
            }
        }
    }

    private static func checkKeys(of node: NodeObservation, isInPlace: Bool) throws(Refusal) {
        guard node.keyCount > 0, !isInPlace else { return }
        throw Refusal(
            address: node.address, reason: "is not empty: it contains \(node.keyCount) keys in database 0")
    }
}

/// Why a cluster is not (yet) well, node by node; a node without complaints is not in the list.
package struct ClusterComplaint: Equatable, Sendable, CustomStringConvertible {
    package let address: NodeAddress
    package let reason: String
    package var description: String { "\(address) \(reason)" }

    /// - Parameter onlyAgreement: ask only whether the nodes know each other and agree, which comes before they have
    ///   their final roles.
    package static func all(_ observations: [NodeObservation], onlyAgreement: Bool = false) -> [ClusterComplaint] {
        guard let first = observations.first else { return [] }
        let ids = Set(observations.compactMap { $0.view.myself?.id })
        return observations.compactMap { node in
            complaint(about: node, ids: ids, reference: first, onlyAgreement: onlyAgreement)
                .map { ClusterComplaint(address: node.address, reason: $0) }
        }
    }

    private static func complaint(
        about node: NodeObservation, ids: Set<String>, reference: NodeObservation, onlyAgreement: Bool
    ) -> String? {
        let missing = ids.subtracting(node.view.knownIDs).count
        if missing > 0 { return "does not know \(missing) of \(ids.count) nodes yet" }
        for member in node.view.members {
            if member.isInHandshake { return "is in handshake with \(member.address)" }
            if member.isFailing { return "sees \(member.address) failing" }
            if !member.isMyself, !member.isLinkConnected { return "has no bus link to \(member.address) yet" }
        }
        if node.view.configuration != reference.view.configuration {
            return "does not agree with \(reference.address) on slots and roles"
        }
        if onlyAgreement { return nil }
        if !node.isStateOK { return "says cluster_state:fail" }
        if node.view.myself?.isReplica == true, !node.isReplicaInSync { return "is not in sync with its primary" }
        return nil
    }
}
