import MartletBase

/// Which histories this node's data belongs to, and up to where.
///
/// A node knows its current ID and, after a change of primary, the one before with the offset up to which both are the
/// same. A replica of the old primary can then go on with the new one without a full sync. That is all of PSYNC2.
///
/// Offsets here are Redis' own: the offset of a byte is one more than the count of bytes before it, so a node that has
/// applied `n` bytes asks for `n + 1`.
///
/// Source: Redis 7.0 replication.c, `shiftReplicationId`, `masterTryPartialResynchronization`.
package struct ReplicationHistory: Sendable {
    package private(set) var id: ReplicationID
    /// The history before the current one; ``ReplicationID/zero`` if there is none.
    package private(set) var secondID: ReplicationID = .zero
    /// First offset that `secondID` is not valid for any more is one past this; -1 if there is no second ID.
    package private(set) var secondOffset: Int64 = -1

    package init(id: ReplicationID) {
        self.id = id
    }

    /// Begins a history that has nothing in common with what was: after a start, and when the log was freed, because
    /// changes made without a log do not move the offset.
    package mutating func startNew(id: ReplicationID) {
        self.id = id
        secondID = .zero
        secondOffset = -1
    }

    /// A replica becomes a primary: its own changes need a new name, and whoever followed the old primary may go on.
    package mutating func promote(to id: ReplicationID, appliedOffset: Int64) {
        secondID = self.id
        secondOffset = appliedOffset + 1
        self.id = id
    }

    /// A full sync replaced the data.
    package mutating func adopt(fullResync id: ReplicationID) {
        startNew(id: id)
    }

    /// The primary continued the stream under `id`. - Returns: whether the name changed; then our own replicas must
    /// be disconnected, so that they ask again and learn it.
    package mutating func adopt(continued id: ReplicationID, appliedOffset: Int64) -> Bool {
        guard id != self.id else { return false }
        promote(to: id, appliedOffset: appliedOffset)
        return true
    }

    /// Why a replica has to be sent everything.
    package enum Refusal: Equatable, Sendable {
        /// It asked for that, with the ID `?`.
        case requested
        case otherHistory
        /// The second ID is right, but it holds only up to `limit`.
        case divergedAt(limit: Int64)
        /// The log does not reach back so far, or not so far ahead.
        case outsideLog
    }

    /// Whether a replica that asks for `offset` of `requestedID` can go on from the log.
    ///
    /// - Parameter requestedID: as it was sent.
    package func refusal(
        requestedID: UnsafeRawBufferPointer, offset: Int64, log: borrowing ReplicationLog
    ) -> Refusal? {
        let requested = ReplicationID(requestedID)
        if requested != id {
            if requestedID.first == UInt8(ascii: "?") { return .requested }
            guard requested == secondID, requested != nil, secondOffset >= 0 else { return .otherHistory }
            guard offset <= secondOffset else { return .divergedAt(limit: secondOffset) }
        }
        guard log.isActive, offset >= 1, log.contains(position: offset - 1) else { return .outsideLog }
        return nil
    }
}
