import MartletBase
import MartletRESP
import MartletReplication

// What INFO and ROLE tell about replication. Source of names and order: Redis 7.0 server.c, genRedisInfoString, and
// replication.c, roleCommand.

extension Node {
    /// The fields of INFO's section `Replication`, in order.
    package var replicationFields: [(String, String)] {
        var fields: [(String, String)] = [("role", isFollowing ? "slave" : "master")]
        if let primary = replication.primary { fields += primaryFields(primary) }
        let now = time.monotonicMilliseconds
        let replicas = replication.replicas.filter(\.isAttached)
        fields.append(("connected_slaves", "\(replicas.count)"))
        if configuration.minReplicasToWrite > 0, configuration.minReplicasMaxLagSeconds > 0 {
            fields.append(("min_slaves_good_slaves", "\(goodReplicaCount)"))
        }
        for (index, replica) in replicas.enumerated() {
            let session = replica.session
            fields.append(
                (
                    "slave\(index)",
                    "ip=\(replica.host),port=\(session.listeningPort),state=\(session.stateName),offset=\(session.acknowledgedOffset),lag=\(session.lagSeconds(now: now))"
                ))
        }
        let log = (start: replication.feed.log.firstByteOffset, count: replication.feed.log.count)
        let isActive = replication.feed.log.isActive
        fields += [
            ("master_failover_state", "no-failover"),
            ("master_replid", "\(replication.history.id)"),
            ("master_replid2", "\(replication.history.secondID)"),
            ("master_repl_offset", "\(replication.feed.log.end)"),
            ("second_repl_offset", "\(replication.history.secondOffset)"),
            ("repl_backlog_active", isActive ? "1" : "0"),
            ("repl_backlog_size", "\(configuration.replicationBacklogBytes)"),
            ("repl_backlog_first_byte_offset", isActive ? "\(log.start)" : "0"),
            ("repl_backlog_histlen", isActive ? "\(log.count)" : "0"),
        ]
        return fields
    }

    private func primaryFields(_ primary: FollowedPrimary) -> [(String, String)] {
        let now = time.monotonicMilliseconds
        let isUp = primary.session.isStreaming
        let isSynchronizing = primary.session.isSynchronizing
        var fields = [
            ("master_host", primary.host),
            ("master_port", "\(primary.port)"),
            ("master_link_status", isUp ? "up" : "down"),
            ("master_last_io_seconds_ago", isUp ? "\(max(0, now - primary.session.heardAt) / 1000)" : "-1"),
            ("master_sync_in_progress", isSynchronizing ? "1" : "0"),
            ("slave_read_repl_offset", "\(replication.feed.log.end + Int64(primary.input.count))"),
            ("slave_repl_offset", "\(replication.feed.log.end)"),
        ]
        if isSynchronizing {
            let total = primary.session.payloadTotalBytes ?? 0
            let read = primary.session.payloadBytes
            let percent = total > 0 ? Double(read) * 100 / Double(total) : 0
            fields += [
                ("master_sync_total_bytes", "\(total)"),
                ("master_sync_read_bytes", "\(read)"),
                ("master_sync_left_bytes", "\(total - read)"),
                ("master_sync_perc", twoDecimals(percent)),
                ("master_sync_last_io_seconds_ago", "\(max(0, now - primary.session.heardAt) / 1000)"),
            ]
        }
        if !isUp {
            let since = primary.session.downSince.map { max(0, now - $0) / 1000 } ?? -1
            fields.append(("master_link_down_since_seconds", "\(since)"))
        }
        fields += [
            ("slave_priority", "\(configuration.replicaPriority)"),
            ("slave_read_only", configuration.isReplicaReadOnly ? "1" : "0"),
            ("replica_announced", configuration.isReplicaAnnounced ? "1" : "0"),
        ]
        return fields
    }

    private func twoDecimals(_ value: Double) -> String {
        let hundredths = Int((value * 100).rounded())
        let fraction = "\(hundredths % 100)"
        return "\(hundredths / 100).\(fraction.utf8.count == 1 ? "0" : "")\(fraction)"
    }

    /// For INFO's section `Stats`: `sync_full`, `sync_partial_ok`, `sync_partial_err`.
    package var synchronizationCounts: (full: Int, partial: Int, refused: Int) {
        let counts = replication.statistics
        return (counts.fullSyncs, counts.partialSyncsAccepted, counts.partialSyncsRefused)
    }

    func writeRole(to reply: inout ReplyBuffer) {
        if let primary = replication.primary {
            reply.array(5)
            reply.bulk("slave")
            reply.bulk(primary.host)
            reply.integer(primary.port)
            reply.bulk(primary.session.roleName)
            reply.integer(primary.session.isStreaming ? replication.feed.log.end : -1)
            return
        }
        let replicas = replication.replicas.filter { $0.session.isStreaming }
        reply.array(3)
        reply.bulk("master")
        reply.integer(replication.feed.log.end)
        reply.array(replicas.count)
        for replica in replicas {
            reply.array(3)
            reply.bulk(replica.host)
            reply.bulk("\(replica.session.listeningPort)")
            reply.bulk("\(replica.session.acknowledgedOffset)")
        }
    }
}
