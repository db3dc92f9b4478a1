import MartletBase
import MartletSystem

// Makes one cluster of running nodes.
//
// 1. Look at every node and compare with the plan (ClusterDiagnosis): create, complete, just wait, or refuse.
// 2. Give the primaries their slots and every blank node its own config epoch, while the nodes are strangers: equal
//    epochs would have to be repaired, one by one, by the collision rule.
// 3. Let every node MEET the first one. Gossip does the rest; an invitation that got lost (a handshake may time out) is
//    sent again as long as two nodes do not know each other.
// 4. When all agree on who owns which slot, make the replicas follow their primaries.
// 5. Wait until every node says cluster_state:ok, all agree, and every replica is in sync.
//
// Each step looks before it acts, so a run that was cut short is repeated safely.
//
// Source: the order of steps is that of `redis-cli --cluster create`.
package struct ClusterFormation {
    package let addresses: [NodeAddress]
    package let credentials: Credentials
    package let deadline: Deadline
    package let timeoutSeconds: Double
    package let progress: Progress
    private var connections: [NodeConnection?]

    /// How long one answer may take; a node that hangs for longer is reported instead of waited for.
    private static let callSeconds: Double = 5
    private static let pollMilliseconds = 50
    /// Between two rounds of MEET for nodes that do not know each other. A handshake lives at least one second.
    private static let meetAgainMilliseconds: Int64 = 1500
    /// Words of one ADDSLOTS, for servers before 7.0 that know no ranges.
    private static let addSlotsBatch = 1000

    package init(
        addresses: [NodeAddress], credentials: Credentials, timeoutSeconds: Double, progress: Progress
    ) {
        self.addresses = addresses
        self.credentials = credentials
        self.timeoutSeconds = timeoutSeconds
        self.progress = progress
        deadline = .after(seconds: timeoutSeconds)
        connections = Array(repeating: nil, count: addresses.count)
    }

    /// - Parameter confirm: asked before the first change of a new cluster; false ends without a change.
    /// - Returns: whether the cluster stands.
    package mutating func run(plan: ClusterPlan, confirm: () -> Bool) throws -> Bool {
        progress.step("Looking at \(addresses.count) nodes")
        let observations = try observeAll()
        let diagnosis = try ClusterDiagnosis(observations, plan: plan)
        switch diagnosis {
        case .formed(let others):
            progress.done(
                "they already are one cluster" + (others > 0 ? ", together with \(others) other nodes" : ""))
        case .halfMade:
            progress.done("an unfinished cluster of this very plan")
            show(plan)
            guard confirm() else { return false }
            try create(plan, observations)
        case .blank:
            progress.done("all are empty")
            show(plan)
            guard confirm() else { return false }
            try create(plan, observations)
        }
        try awaitHealth()
        return true
    }

    private mutating func create(_ plan: ClusterPlan, _ observations: [NodeObservation]) throws {
        try assignSlots(plan, observations)
        try assignEpochs(observations)
        try join(observations)
        try attachReplicas(plan)
    }

    private func show(_ plan: ClusterPlan) {
        for (index, primary) in plan.primaries.enumerated() {
            let slots = "\(primary.slots.lowerBound)-\(primary.slots.upperBound)"
            progress.note(
                "    primary \(index + 1): \(addresses[primary.node])  slots \(slots) (\(primary.slots.count))")
            for replica in primary.replicas { progress.note("        replica: \(addresses[replica])") }
        }
        if Set(addresses.map(\.host)).count > 1, let warning = plan.hostSharing(of: addresses).warning {
            progress.note("    warning: \(warning)")
        }
    }

    // MARK: - Talking to the nodes

    private mutating func connection(_ index: Int) throws(NodeFailure) -> NodeConnection {
        if let connection = connections[index] { return connection }
        let connection = try NodeConnection(
            to: addresses[index], credentials: credentials, deadline: deadline.capped(seconds: Self.callSeconds))
        connections[index] = connection
        return connection
    }

    @discardableResult
    private mutating func call(_ index: Int, _ words: [String]) throws(NodeFailure) -> String {
        do throws(NodeFailure) {
            return try connection(index).text(words, deadline: deadline.capped(seconds: Self.callSeconds))
        } catch {
            // After anything but an orderly error reply the connection may hold half an answer.
            if error.replyText == nil { connections[index] = nil }
            throw error
        }
    }

    private mutating func observe(_ index: Int) throws -> NodeObservation {
        let info = try call(index, ["INFO"])
        let isCluster = InfoFields(parsing: info)[field: "cluster_enabled"] == "1"
        return try NodeObservation(
            address: addresses[index], info: info,
            clusterInfo: isCluster ? call(index, ["CLUSTER", "INFO"]) : nil,
            nodes: isCluster ? call(index, ["CLUSTER", "NODES"]) : nil)
    }

    /// A node that is loading (its own file, or its primary's keys) answers nothing about the cluster: it is waited for.
    package mutating func observeAll() throws -> [NodeObservation] {
        var observations: [NodeObservation] = []
        for index in addresses.indices {
            while observations.count == index {
                do {
                    observations.append(try observe(index))
                } catch let failure as NodeFailure where failure.replyText?.hasPrefix("LOADING") == true {
                    guard !deadline.hasPassed else { throw failure }
                    progress.detail("\(addresses[index]) is loading its keys")
                    pause(milliseconds: Self.pollMilliseconds)
                }
            }
        }
        return observations
    }

    // MARK: - Steps

    private mutating func assignSlots(_ plan: ClusterPlan, _ observations: [NodeObservation]) throws {
        progress.step("Giving \(plan.primaries.count) primaries their slots")
        for primary in plan.primaries where observations[primary.node].view.myself?.slots.isEmpty == true {
            let (first, last) = (primary.slots.lowerBound, primary.slots.upperBound)
            do throws(NodeFailure) {
                try call(primary.node, ["CLUSTER", "ADDSLOTSRANGE", String(first), String(last)])
            } catch {
                guard let text = error.replyText?.lowercased(), text.contains("unknown") else { throw error }
                for start in stride(from: first, through: last, by: Self.addSlotsBatch) {
                    let slots = (start...min(last, start + Self.addSlotsBatch - 1)).map(String.init)
                    try call(primary.node, ["CLUSTER", "ADDSLOTS"] + slots)
                }
            }
        }
        progress.done()
    }

    private mutating func assignEpochs(_ observations: [NodeObservation]) throws {
        progress.step("Giving every node a config epoch of its own")
        for (index, node) in observations.enumerated() {
            // The node accepts it only as long as it is alone and never had one.
            guard node.view.members.count == 1, node.currentEpoch == 0, node.view.myself?.configEpoch == 0 else {
                continue
            }
            try call(index, ["CLUSTER", "SET-CONFIG-EPOCH", String(index + 1)])
        }
        progress.done()
    }

    private mutating func join(_ observations: [NodeObservation]) throws {
        guard addresses.count > 1 else { return }
        progress.step("Joining \(addresses.count) nodes")
        let first = try meetWords(addresses[0], observations[0])
        for index in addresses.indices.dropFirst() where !Self.knows(observations[index], observations[0]) {
            try call(index, first)
        }
        var lastMeet = SystemClock.monotonicMilliseconds
        try awaitNone(of: { ClusterComplaint.all($0, onlyAgreement: true) }, what: "the nodes to know each other") {
            formation, nodes in
            guard SystemClock.monotonicMilliseconds - lastMeet >= Self.meetAgainMilliseconds else { return }
            lastMeet = SystemClock.monotonicMilliseconds
            for index in nodes.indices.dropFirst() where !Self.knows(nodes[index], nodes[0]) {
                try formation.call(index, first)
            }
        }
        progress.done("all \(addresses.count) nodes agree")
    }

    private static func knows(_ node: NodeObservation, _ other: NodeObservation) -> Bool {
        guard let id = other.view.myself?.id else { return false }
        return node.view.knownIDs.contains(id)
    }

    /// CLUSTER MEET wants an IP address, and the bus port only where it is not the usual one.
    private func meetWords(_ address: NodeAddress, _ observation: NodeObservation) throws -> [String] {
        let ip: String
        do throws(SystemError) {
            ip = try NameResolver.ip(of: address.host)
        } catch {
            throw NodeFailure.system(address, error)
        }
        var words = ["CLUSTER", "MEET", ip, String(address.port)]
        if let busPort = address.busPort ?? observation.view.myself?.address.busPort,
            busPort != address.port + NodeAddress.busPortOffset
        {
            words.append(String(busPort))
        }
        return words
    }

    private mutating func attachReplicas(_ plan: ClusterPlan) throws {
        let observations = try observeAll()
        let missing = ClusterDiagnosis.missingReplicas(observations, plan: plan)
        guard !missing.isEmpty else { return }
        progress.step("Attaching \(missing.count) replicas")
        for (replica, primary) in missing {
            let id = observations[primary].view.myself!.id
            try call(replica, ["CLUSTER", "REPLICATE", id])
        }
        progress.done()
    }

    package mutating func awaitHealth() throws {
        progress.step("Waiting for cluster_state:ok and replicas in sync")
        try awaitNone(of: { ClusterComplaint.all($0) }, what: "a healthy cluster")
        progress.done("all \(addresses.count) nodes are well")
    }

    /// Looks again and again until nobody complains; a complaint that is left at the deadline is the cause given.
    private mutating func awaitNone(
        of complaints: ([NodeObservation]) -> [ClusterComplaint], what: String,
        afterLook: (inout ClusterFormation, [NodeObservation]) throws -> Void = { _, _ in }
    ) throws {
        while true {
            let observations = try observeAll()
            let open = complaints(observations)
            if open.isEmpty { return }
            if deadline.hasPassed {
                throw ClusterTimeout(what: what, timeoutSeconds: timeoutSeconds, complaints: open)
            }
            progress.detail("\(addresses.count - open.count) of \(addresses.count) nodes; \(open[0])")
            try afterLook(&self, observations)
            pause(milliseconds: Self.pollMilliseconds)
        }
    }
}

/// The cluster did not get well in time.
package struct ClusterTimeout: Error, CustomStringConvertible {
    package let what: String
    package let timeoutSeconds: Double
    package let complaints: [ClusterComplaint]

    package var description: String {
        let shown = complaints.prefix(8).map { "    \($0)" }.joined(separator: "\n")
        let rest = complaints.count > 8 ? "\n    and \(complaints.count - 8) more" : ""
        return "no \(what) after \(Int(timeoutSeconds)) s:\n\(shown)\(rest)"
    }
}
