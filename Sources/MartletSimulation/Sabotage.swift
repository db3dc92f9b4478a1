/// Bugs that can be planted in the simulator's driver, network or data, to show that the checkers find them.
package enum Sabotage: String, Sendable, CaseIterable {
    /// Packets leave before nodes.conf is saved.
    case sendsBeforeSave
    /// nodes.conf is never synced: a power cut takes votes and epochs back.
    case neverSyncs
    /// A restarted node does not know its votes.
    case forgetsVotes
    /// The network invents votes: an AUTH_ACK of one node arrives a second time as one of another.
    case forgesVotes
    /// A primary that was replaced does not hear of it in its command thread and goes on serving.
    case servesOldView
    /// A replica confirms what it has not processed.
    case confirmsTooEarly
    /// A primary says that it holds back writes for a manual failover, and does not.
    case ignoresWritePause
}
