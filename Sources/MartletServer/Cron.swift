import MartletBase
import MartletKeyspace

extension Node {
    /// Periodic work, `hz` times a second.
    package mutating func cron() {
        if debugSettings.isCronPaused { return }
        keyspace.continueResizing(maxBuckets: 1024)
        collectScriptGarbage()
        if !configuration.isImporting {
            activeExpiry.begin(hz: configuration.hz, effort: configuration.activeExpireEffort)
        }
        beginDefragmentation()
        replicationCron()
        if pendingShutdown != nil { continueShutdown() }
        sampleRates()
        observeMemory()
    }

    /// Work at the end of every turn, before replies are sent.
    package mutating func endTurn() {
        runningClient = nil
        if isBusy {
            continueScript()
            // Nobody else touches data until it ends, but what is freed is nobody's any more.
            if isBusy {
                if keyspace.hasRemains { keyspace.freeRemains(limit: Self.elementsFreedPerTurn) }
                return endReplicationTurn()
            }
        }
        if activeExpiry.hasWork, debugSettings.isActiveExpiryOn, !debugSettings.isCronPaused {
            expireKeys(clock: services.monotonicMicroseconds)
        }
        if defragmentation.hasWork, !debugSettings.isCronPaused { defragment(clock: services.monotonicMicroseconds) }
        if keyspace.hasRemains { keyspace.freeRemains(limit: Self.elementsFreedPerTurn) }
        if !lostSlots.isEmpty { deleteLostKeys(limit: Self.lostKeysPerTurn) }
        if keyspace.hasReadyKeys { serveBlockedClients() }
        if blocked.nextDeadline != nil { endExpiredWaits() }
        if keyspace.hasEvents { tellKeyEvents(by: nil) }
        if keyspace.propagation.isOn { flushPropagation() }
        if tracking.hasBroadcasts { sendBroadcasts() }
        if hasTooManyTrackedKeys { limitTrackedKeys() }
        endReplicationTurn()
    }

    /// Whether the next turn should begin at once, though nothing may have arrived.
    package var hasUrgentWork: Bool {
        // (Mutating, like all that a turn asks: a borrowed node would be copied first.)
        mutating get {
            if keyspace.hasRemains || hasTooManyTrackedKeys || isBusy { return true }
            if !lostSlots.isEmpty, !pauses.holdsOffset { return true }
            if debugSettings.isCronPaused { return false }
            return defragmentation.hasWork || activeExpiry.hasWork && debugSettings.isActiveExpiryOn
        }
    }

    /// Takes about a millisecond.
    private static let lostKeysPerTurn = 2000
    /// Takes a third of a millisecond, most of it cache misses.
    private static let elementsFreedPerTurn = 4000
}

// MARK: - Active expiry

// Deleting what is over though nobody asks for it: how much time it may take.
//
// 1. Each period (1/hz s) grants a budget: 25 % of it, a little more with a higher `active-expire-effort`.
// 2. A first look at some hundred expiring keys shows what share is over. If it is 10 % or less, the period is done: a
//    full round over all keys takes a while, and the few dead ones cost little.
// 3. Otherwise the work goes on at the end of every turn, at most 1 ms each time, so that no client waits longer for it,
//    until the share falls or the budget is used up.
//
// `Keyspace.expireCycle` does the looking and deleting; it goes round the index of expiring keys and misses none. So does
// `Keyspace.expireFieldsCycle` with the fields of hashes.
// Source of the figures: Redis 7.0 expire.c (ACTIVE_EXPIRE_CYCLE_*).

/// The state of active expiry between two turns.
struct ActiveExpiry {
    /// There may be enough to delete, and there is budget left.
    private(set) var hasWork = false
    private var budgetMicroseconds: Int64 = 0
    private var tolerableStalePercent = 10
    private var keysPerStep = 0

    /// Of a period, at the least effort.
    private static let budgetPercent = 25
    private static let tolerableStalePercentMax = 10
    private static let sliceMicrosecondsMax: Int64 = 1000
    /// Looked at between two readings of the clock: about 0.1 ms if all of them are over.
    private static let keysPerStepMin = 200

    /// A period begins.
    ///
    /// - Parameter effort: 1 to 10.
    mutating func begin(hz: Int, effort: Int) {
        let extra = max(0, min(effort, 10) - 1)
        budgetMicroseconds = Int64((Self.budgetPercent + 2 * extra) * 10_000 / max(1, hz))
        tolerableStalePercent = Self.tolerableStalePercentMax - extra
        keysPerStep = Self.keysPerStepMin + Self.keysPerStepMin / 4 * extra
        hasWork = true
    }

    /// One slice at the end of a turn.
    mutating func run(_ keyspace: inout Keyspace, clock: () -> Int64) {
        let start = clock()
        var elapsed: Int64 = 0
        repeat {
            let (seen, expired) = keyspace.expireCycle(maxKeys: keysPerStep)
            keyspace.statistics.noteExpiryCycle(seen: seen, expired: expired)
            let fields = keyspace.expireFieldsCycle(limit: keysPerStep)
            elapsed = clock() - start
            if expired * 100 <= seen * tolerableStalePercent,
                fields.expired * 100 <= fields.seen * tolerableStalePercent
            {
                hasWork = false
                return
            }
        } while elapsed < min(Self.sliceMicrosecondsMax, budgetMicroseconds)
        budgetMicroseconds -= elapsed
        if budgetMicroseconds <= 0 {
            hasWork = false
            keyspace.statistics.expiryCyclesCutShort += 1
        }
    }
}

extension Node {
    /// - Parameter clock: microseconds.
    mutating func expireKeys(clock: () -> Int64) { activeExpiry.run(&keyspace, clock: clock) }
}

extension KeyspaceStatistics {
    /// Updates the running average of the share of keys that are over but still there; a sample weighs 5 %.
    fileprivate mutating func noteExpiryCycle(seen: Int, expired: Int) {
        let percent = seen > 0 ? 100 * Double(expired) / Double(seen) : 0
        expiredStalePercent = 0.05 * percent + 0.95 * expiredStalePercent
    }
}
