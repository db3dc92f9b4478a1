import MartletBase
import MartletKeyspace

// Holding commands back for a while: CLIENT PAUSE, the write pause of a manual failover, and the moment in which the
// cluster bus decides something that depends on which keys there are.
//
// A paused client is parked before its command runs, so nothing is lost and order is kept. While writes are paused no key
// expires here either: the replica that is about to take over must reach exactly our offset. On a replica CLIENT PAUSE
// holds back the stream of its primary, which is received and kept.

/// What is held back until when. Times are the node's clock in milliseconds.
struct Pauses {
    enum Purpose { case client, failover, shutdown, decision }

    private var clientUntil: Int64 = 0
    private var clientHoldsAll = false
    private var failoverUntil: Int64 = 0
    private var shutdownUntil: Int64 = 0
    /// Has no end of its own: the bus always answers.
    private var awaitsDecision = false

    var isActive: Bool { clientUntil != 0 || failoverUntil != 0 || shutdownUntil != 0 || awaitsDecision }
    var holdsAll: Bool { clientUntil != 0 && clientHoldsAll }
    /// A replica holds back what its primary sends, too.
    var holdsStream: Bool { clientUntil != 0 }
    /// A failover waits for its replica to reach our offset: it must not move.
    var holdsOffset: Bool { failoverUntil != 0 }
    /// The latest end, for CLIENT LIST and INFO; 0 if nothing is paused.
    var until: Int64 { max(clientUntil, failoverUntil, shutdownUntil) }

    mutating func set(_ purpose: Purpose, until time: Int64, all: Bool) {
        switch purpose {
        case .client:
            // A longer or stricter pause is not weakened by a second command.
            clientUntil = max(clientUntil, time)
            clientHoldsAll = clientHoldsAll || all
        case .failover: failoverUntil = time
        case .shutdown: shutdownUntil = time
        case .decision: awaitsDecision = true
        }
    }

    mutating func clear(_ purpose: Purpose) {
        switch purpose {
        case .client:
            clientUntil = 0
            clientHoldsAll = false
        case .failover: failoverUntil = 0
        case .shutdown: shutdownUntil = 0
        case .decision: awaitsDecision = false
        }
    }

    mutating func expire(now: Int64) {
        if clientUntil != 0, now >= clientUntil { clear(.client) }
        if failoverUntil != 0, now >= failoverUntil { clear(.failover) }
        if shutdownUntil != 0, now >= shutdownUntil { clear(.shutdown) }
    }
}

extension Node {
    /// - Parameters:
    ///   - until: node's clock, milliseconds.
    ///   - all: hold reads back as well.
    mutating func pause(_ purpose: Pauses.Purpose, until: Int64, all: Bool) {
        pauses.set(purpose, until: until, all: all)
        pauseChanged()
    }

    mutating func resume(_ purpose: Pauses.Purpose) {
        pauses.clear(purpose)
        pauseChanged()
    }

    mutating func endPauses() {
        let before = pauses
        pauses.expire(now: time.unixMilliseconds)
        // One of several may be over, and with it what held reads back.
        if pauses.isActive != before.isActive || pauses.holdsAll != before.holdsAll { pauseChanged() }
    }

    private mutating func pauseChanged() {
        setGate(.paused, pauses.isActive)
        updateExpiryMode()
        for client in parkedClients where client.pointee.parked == .pause { unpark(client) }
        if !pauses.holdsStream, let primary = replication.primary { executeStream(primary) }
    }

    /// Only a primary that is neither paused nor receives its data from elsewhere deletes keys by itself.
    mutating func updateExpiryMode() {
        let isOurs = gates.isDisjoint(with: [.paused, .replica]) && !configuration.isImporting
        keyspace.expiryMode = isOurs ? .delete : .hide
    }
}
