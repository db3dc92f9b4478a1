import MartletBase

/// Where a command with keys must be served: the decision of Redis' `getNodeByQuery`, without keys and clients.
///
/// The caller has found that all keys hash to one slot (else ``crossSlot``). Only when the slot is open
/// (``ClusterView/needsKeyCounts(for:)``) does it have to count which of the keys exist.
package enum Redirection: Sendable, Equatable {
    case serve
    case moved(to: UInt16)
    case ask(to: UInt16)
    /// Some keys have moved already, others have not.
    case tryAgain
    case crossSlot
    /// The cluster is down.
    case down
    /// The cluster is down and only reads are allowed.
    case downForWrites
    /// Nobody owns the slot.
    case unbound

    /// A command and its client, as far as the decision depends on them.
    package struct Request: Sendable {
        package var slot: HashSlot
        /// The command writes; for EXEC, any queued command does.
        package var isWrite = false
        /// SSUBSCRIBE, SUNSUBSCRIBE or SPUBLISH.
        package var isPubSubShard = false
        /// MIGRATE moves keys of open slots and is always served here.
        package var isMigrate = false
        /// The client sent ASKING, or the command carries the flag (RESTORE-ASKING).
        package var isAsking = false
        /// The client sent READONLY.
        package var isReadOnlyClient = false
        /// The command names more than one distinct key.
        package var hasManyKeys = false
        package var missingKeyCount = 0
        package var existingKeyCount = 0

        package init(slot: HashSlot) { self.slot = slot }
    }
}

extension ClusterView {
    /// Whether ``redirection(for:)`` wants to know which keys exist.
    package func needsKeyCounts(for slot: HashSlot) -> Bool {
        !state(of: slot).isDisjoint(with: [.migrating, .importing])
    }

    package func redirection(for request: Redirection.Request) -> Redirection {
        if serves(request.slot) { return .serve }
        let state = state(of: request.slot)
        if state.contains(.unassigned) { return .unbound }
        if !isOK {
            if request.isPubSubShard {
                if !allowsPubSubShardWhenDown { return .down }
            } else if !allowsReadsWhenDown {
                return .down
            } else if request.isWrite {
                return .downForWrites
            }
        }
        let isMigrating = state.isSuperset(of: [.mine, .migrating])
        let isImporting = !isMigrating && state.contains(.importing)
        if isMigrating || isImporting, request.isMigrate { return .serve }
        if isMigrating, !request.isPubSubShard, request.missingKeyCount > 0 {
            return request.existingKeyCount > 0 ? .tryAgain : .ask(to: migrationTarget(of: request.slot))
        }
        if isImporting, request.isAsking {
            let isIncomplete = request.hasManyKeys && request.missingKeyCount > 0 && !request.isPubSubShard
            return isIncomplete ? .tryAgain : .serve
        }
        if request.isReadOnlyClient || request.isPubSubShard, !request.isWrite, state.contains(.myPrimarys) {
            return .serve
        }
        return state.contains(.mine) ? .serve : .moved(to: owner(of: request.slot))
    }

    /// Whether a client that blocks on a key of this slot must be sent away, and where.
    /// Source: `clusterRedirectBlockedClientIfNeeded`.
    package func redirectionOfBlockedClient(slot: HashSlot, mayReadHere: Bool) -> Redirection {
        if !isOK { return .down }
        let state = state(of: slot)
        if !state.isDisjoint(with: [.mine, .importing]) { return .serve }
        if mayReadHere, state.contains(.myPrimarys) { return .serve }
        return state.contains(.unassigned) ? .unbound : .moved(to: owner(of: slot))
    }

    /// The error line without its leading `-`. - Precondition: `redirection` is not `serve`.
    package func errorText(_ redirection: Redirection, slot: HashSlot, isTLSClient: Bool = false) -> String {
        switch redirection {
        case .serve: preconditionFailure("a served command has no error")
        case .moved(let node): "MOVED \(slot.rawValue) \(endpoint(of: node, isTLSClient: isTLSClient))"
        case .ask(let node): "ASK \(slot.rawValue) \(endpoint(of: node, isTLSClient: isTLSClient))"
        case .tryAgain: "TRYAGAIN Multiple keys request during rehashing of slot"
        case .crossSlot: "CROSSSLOT Keys in request don't hash to the same slot"
        case .down: "CLUSTERDOWN The cluster is down"
        case .downForWrites: "CLUSTERDOWN The cluster is down and only accepts read commands"
        case .unbound: "CLUSTERDOWN Hash slot not served"
        }
    }
}
