import MartletBase
import MartletKeyspace

// What was counted, and how fast it goes. Counters are plain integers that the hot path adds to; rates are sampled by the
// cron.
//
// The time of commands: reading a clock twice costs a third of a GET, so commands of constant cost are timed only once in
// `CommandStatistics.sampleInterval` calls, and `usec` is their average times their calls. All others (KEYS, DEBUG,
// CONFIG…) are timed always, so `usec` is exact where a command can be slow.

extension CommandStatistics {
    /// A power of two; the first call of all is in the sample.
    static let sampleInterval = 64

    /// The estimated time of all calls.
    var microsecondsOfAllCalls: Double {
        guard timedCalls > 0 else { return 0 }
        return Double(timedNanoseconds) / 1000 * (Double(calls) / Double(timedCalls))
    }
}

/// A rate per second, averaged over the last samples. (trackInstantaneousMetric)
package struct Rate {
    private static let sampleCount = 16

    private var samples = [Int](repeating: 0, count: sampleCount)
    private var index = 0
    private var lastReading = 0

    package init() {}

    /// - Parameter reading: the counter now.
    mutating func sample(_ reading: Int, milliseconds: Int64) {
        // A counter that was reset starts from 0.
        let change = reading >= lastReading ? reading - lastReading : reading
        lastReading = reading
        samples[index] = milliseconds > 0 ? change * 1000 / Int(milliseconds) : 0
        index = (index + 1) % Self.sampleCount
    }

    var perSecond: Int { samples.reduce(0, +) / Self.sampleCount }
}

package struct Rates {
    var commands = Rate()
    var bytesReceived = Rate()
    var bytesSent = Rate()
    /// Node's monotonic clock, milliseconds.
    var sampledAt: Int64 = 0
    package init() {}
}

extension Node {
    @inline(never)
    mutating func readClock() -> Int64 { services.monotonicNanoseconds() }

    @inline(never)
    mutating func recordTime(since start: Int64, index: Int) {
        commandStatistics[index].timedCalls &+= 1
        commandStatistics[index].timedNanoseconds &+= max(0, services.monotonicNanoseconds() &- start)
    }

    /// Samples the rates, about ten times a second. Called by the cron.
    mutating func sampleRates() {
        let now = time.monotonicMilliseconds
        let passed = now - rates.sampledAt
        guard passed >= 100 else { return }
        rates.sampledAt = now
        rates.commands.sample(statistics.commandsProcessed, milliseconds: passed)
        rates.bytesReceived.sample(statistics.bytesReceived, milliseconds: passed)
        rates.bytesSent.sample(statistics.bytesSent, milliseconds: passed)
    }

    /// CONFIG RESETSTAT.
    mutating func resetStatistics() {
        var new = NodeStatistics()
        new.memoryAtStart = statistics.memoryAtStart
        new.memoryPeak = statistics.memoryPeak
        statistics = new
        keyspace.statistics = KeyspaceStatistics()
        defragmentation.movedKeys = 0
        defragmentation.movedMembers = 0
        defragmentation.totalMicroseconds = 0
        lazyFrees.forgetFreed()
        rates = Rates()
        rates.sampledAt = time.monotonicMilliseconds
        commandStatistics.update(repeating: CommandStatistics(), count: commands.count)
    }

    func writeStatistics(_ text: inout InfoText) {
        text.add("total_connections_received", statistics.connectionsReceived)
        text.add("total_commands_processed", statistics.commandsProcessed)
        text.add("instantaneous_ops_per_sec", rates.commands.perSecond)
        text.add("total_net_input_bytes", statistics.bytesReceived)
        text.add("total_net_output_bytes", statistics.bytesSent)
        text.add("instantaneous_input_kbps", hundredths: Double(rates.bytesReceived.perSecond) / 1024)
        text.add("instantaneous_output_kbps", hundredths: Double(rates.bytesSent.perSecond) / 1024)
        text.add("rejected_connections", statistics.connectionsRejected)
        text.add("sync_full", synchronizationCounts.full)
        text.add("sync_partial_ok", synchronizationCounts.partial)
        text.add("sync_partial_err", synchronizationCounts.refused)
        text.add("expired_keys", keyspace.statistics.expiredKeys)
        text.add("expired_fields", keyspace.statistics.expiredFields)
        text.add("expired_stale_perc", hundredths: keyspace.statistics.expiredStalePercent)
        text.add("expired_time_cap_reached_count", keyspace.statistics.expiryCyclesCutShort)
        text.add("evicted_keys", 0)
        text.add("evicted_clients", 0)
        text.add("evicted_scripts", scripts.cache.evictedCount)
        text.add("total_eviction_exceeded_time", 0)
        text.add("current_eviction_exceeded_time", 0)
        text.add("keyspace_hits", keyspace.statistics.hits)
        text.add("keyspace_misses", keyspace.statistics.misses)
        text.add("pubsub_channels", pubSub[.channel].pointee.count)
        text.add("pubsub_patterns", pubSub[.pattern].pointee.count)
        text.add("pubsubshard_channels", pubSub[.shard].pointee.count)
        // Nothing is forked. A key is one allocation, and is only looked at to be moved.
        text.add("latest_fork_usec", 0)
        text.add("total_forks", 0)
        text.add("migrate_cached_sockets", migrationLinkCount)
        text.add("active_defrag_hits", defragmentation.movedKeys + defragmentation.movedMembers)
        text.add("active_defrag_misses", 0)
        text.add("active_defrag_key_hits", defragmentation.movedKeys)
        text.add("active_defrag_key_misses", 0)
        text.add("total_active_defrag_time", defragmentation.totalMicroseconds / 1000)
        text.add("current_active_defrag_time", 0)
        text.add("tracking_total_keys", tracking.table.keyCount)
        text.add("tracking_total_items", tracking.table.itemCount)
        text.add("tracking_total_prefixes", tracking.broadcasts.count)
        text.add("unexpected_error_replies", statistics.unexpectedErrors)
        text.add("total_error_replies", statistics.errorReplies)
        text.add("dump_payload_sanitizations", 0)
        text.add("io_threaded_reads_processed", statistics.threadedReads)
        text.add("io_threaded_writes_processed", statistics.threadedWrites)
    }

    func writeCommandStatistics(_ text: inout InfoText) {
        for index in 0..<commands.count {
            let counts = commandStatistics[index]
            guard counts.calls + counts.rejectedCalls + counts.failedCalls > 0 else { continue }
            let microseconds = counts.microsecondsOfAllCalls
            let average = counts.calls > 0 ? microseconds / Double(counts.calls) : 0
            text.add(
                "cmdstat_" + commands.fullNames[index],
                "calls=\(counts.calls),usec=\(Int(microseconds)),usec_per_call=\(decimal(average, decimals: 2)),"
                    + "rejected_calls=\(counts.rejectedCalls),failed_calls=\(counts.failedCalls)")
        }
    }

    func writeErrorStatistics(_ text: inout InfoText) {
        for (prefix, count) in statistics.errorsByPrefix.sorted(by: { $0.key < $1.key }) {
            // What would end a name or a line is replaced. (getSafeInfoString)
            let name = String(prefix.map { "#:\n\r".contains($0) ? "_" : $0 })
            text.add("errorstat_" + name, "count=\(count)")
        }
    }
}
