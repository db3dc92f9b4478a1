import MartletBase
import MartletKeyspace
import MartletReplication

// Replication as the node sees it.
//
// A node has one history and one log, whatever its role. As a primary it appends what commands change (`Dispatcher`);
// as a replica it appends the bytes of its primary's stream as it applies them, so that its own replicas share the
// primary's offsets and any of them can take over.
//
//     Node+Replication          roles, the log, the end of a turn, periodic work
//     Node+Replicas             the primary's side: PSYNC, the image, the stream, acknowledgements
//     Node+Primary              the replica's side: the link, loading, applying the stream
//     Node+ReplicationReport    INFO, ROLE
//
// The log is off until the first replica comes. While it is off nothing is recorded and a write costs nothing more;
// when it is turned on the history gets a new name, because changes made meanwhile are in no log.
//
// All times here are monotonic milliseconds.

struct Replication: ~Copyable {
    var history: ReplicationHistory
    var feed = ReplicationFeed()
    var random: PRNG
    /// Clients that introduced themselves as replicas, also while they have not asked for anything.
    var replicas: [AttachedReplica] = []
    /// Whom we follow; nil for a primary.
    var primary: FollowedPrimary?
    /// The image that is being sent.
    var image: SnapshotTransfer?
    /// Database that the primary's stream has selected where the log ends. Outlives links: a stream that is continued
    /// does not select again.
    var streamDatabase = 0
    /// End of the log when replicas were last told to be sent something.
    var announcedEnd: Int64 = 0
    /// A WAIT began in this turn: ask replicas for their offsets.
    var wantsAcknowledgements = false
    /// The directive `replicaof` was looked at.
    var isStarted = false
    var pingedAt: Int64 = 0
    /// Since when nobody has read the log.
    var unreadSince: Int64 = 0
    var statistics = ReplicationStatistics()

    init(runID: String) {
        // The run ID is random; histories must not be named by it, because it is shown to everyone.
        var seed: UInt64 = 0
        for byte in runID.utf8 { seed = (seed ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
        random = PRNG(seed: seed)
        history = ReplicationHistory(id: ReplicationID(using: &random))
    }

    /// Nobody replicates, and nothing is logged: there is no work at the end of a turn.
    var isIdle: Bool { replicas.isEmpty && primary == nil && !feed.log.isActive }
}

struct ReplicationStatistics {
    var fullSyncs = 0
    var partialSyncsAccepted = 0
    var partialSyncsRefused = 0
}

/// A client that is a replica of ours, or is about to become one.
final class AttachedReplica {
    let client: ClientPointer
    var session = PrimarySession()
    /// Since when it has waited for an image.
    var waitingSince: Int64 = 0
    /// What it has had of the image.
    var imagePosition: Int64 = 0
    /// Since when more than the soft limit has been waiting for it; 0 if it is not.
    var softLimitSince: Int64 = 0

    init(_ client: ClientPointer) { self.client = client }

    var isAttached: Bool { session.state != .handshake && session.state != .finished }
    var isWaitingForImage: Bool { session.state == .waitingForSnapshot }
    var isReceivingImage: Bool { session.state == .sendingSnapshot }

    /// As logs and INFO name it: the address it announced, or where it connects from, and its own port.
    var address: String {
        guard session.listeningPort > 0 else { return client.pointee.address }
        return "\(host):\(session.listeningPort)"
    }

    var host: String {
        if let announced = session.announcedAddress, !announced.isEmpty { return announced }
        var text = client.pointee.address[...]
        if let colon = text.lastIndex(of: ":") { text = text[..<colon] }
        return text.hasPrefix("[") ? String(text.dropFirst().dropLast()) : String(text)
    }
}
