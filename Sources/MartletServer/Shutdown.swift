import MartletBase
import MartletRESP
import MartletReplication

// The end of a server. Replicas that lag behind get up to `shutdown-timeout` seconds to take what we have, while writes
// are held back; then the process ends. NOW does not wait; FORCE ends whatever fails; ABORT changes one's mind.
//
// Source: Redis 7.0 server.c, prepareForShutdown, finishShutdown.

/// Which signal asked for the end.
package enum ShutdownSignal: Sendable { case terminate, interrupt }

/// A shutdown that waits for replicas.
struct PendingShutdown {
    /// Node's clock, milliseconds.
    let deadline: Int64
}

extension Node {
    /// A signal asked the server to stop.
    package mutating func shutDown(bySignal signal: ShutdownSignal) {
        if pendingShutdown != nil {
            Log.warning("You insist... exiting now.")
            effects.append(.stop)
            return
        }
        let flags = signal == .terminate ? configuration.shutdownOnSIGTERM : configuration.shutdownOnSIGINT
        beginShutdown(flags)
    }

    /// Ends the process now or when replicas are in sync. - Returns: false if that is impossible.
    @discardableResult
    mutating func beginShutdown(_ flags: ShutdownFlags) -> Bool {
        Log.warning("User requested shutdown...")
        if flags.contains(.save), !flags.contains(.force) {
            Log.warning("A snapshot was asked for, but this server writes none: not shutting down. FORCE overrides.")
            return false
        }
        let waits = !flags.contains(.now) && configuration.shutdownTimeoutSeconds > 0 && hasLaggingReplicas
        guard waits else {
            effects.append(.stop)
            return true
        }
        let deadline = time.unixMilliseconds + Int64(configuration.shutdownTimeoutSeconds) * 1000
        pendingShutdown = PendingShutdown(deadline: deadline)
        pause(.shutdown, until: .max, all: false)
        Log.notice("Waiting for replicas before shutting down.")
        return true
    }

    /// Called by the cron while a shutdown waits.
    mutating func continueShutdown() {
        guard let pendingShutdown, !hasLaggingReplicas || time.unixMilliseconds >= pendingShutdown.deadline else {
            return
        }
        if hasLaggingReplicas { Log.warning("Replicas are not in sync when shutting down.") }
        effects.append(.stop)
    }

    /// SHUTDOWN ABORT. - Returns: false if there was nothing to abort.
    mutating func abortShutdown() -> Bool {
        guard pendingShutdown != nil else { return false }
        pendingShutdown = nil
        resume(.shutdown)
        for client in parkedClients where client.pointee.parked == .shutdown {
            finish(client) { $0.error(.text("ERR Errors trying to SHUTDOWN. Check logs.")) }
        }
        Log.notice("Shutdown manually aborted.")
        return true
    }

    /// Whether a replica has not yet acknowledged everything.
    private var hasLaggingReplicas: Bool {
        let offset = replicationOffset
        return replication.replicas.contains { $0.session.isStreaming && $0.session.acknowledgedOffset != offset }
    }
}
