import MartletBase
import MartletKeyspace
import MartletRESP

// What the server is: process, clients, processor time, cluster, keys.

extension Node {
    func writeServerInfo(_ text: inout InfoText) {
        let process = processFacts()
        let uptime = (time.monotonicMicroseconds - startTime.monotonicMicroseconds) / 1_000_000
        text.add("redis_version", Version.redis)
        text.add("redis_git_sha1", "00000000")
        text.add("redis_git_dirty", 0)
        text.add("redis_build_id", "0")
        text.add("redis_mode", isClustered ? "cluster" : "standalone")
        text.add("server_name", "martlet")
        text.add("martlet_version", Version.martlet)
        text.add("os", process.operatingSystem)
        text.add("arch_bits", Int.bitWidth)
        text.add("monotonic_clock", "POSIX clock_gettime")
        text.add("multiplexing_api", "epoll")
        text.add("process_id", process.id)
        text.add("process_supervised", "no")
        text.add("run_id", runID)
        text.add("tcp_port", configuration.port)
        text.add("server_time_usec", time.unixMicroseconds)
        text.add("uptime_in_seconds", uptime)
        text.add("uptime_in_days", uptime / 86_400)
        text.add("hz", configuration.hz)
        text.add("configured_hz", configuration.hz)
        text.add("lru_clock", keyspace.accessClock)
        text.add("executable", process.executablePath)
        text.add("config_file", process.configurationPath)
        text.add("io_threads_active", statistics.threadedConnections > 0 ? 1 : 0)
        text.add("availability_zone", configuration.availabilityZone)
        if let pendingShutdown {
            text.add("shutdown_in_milliseconds", max(0, pendingShutdown.deadline - time.unixMilliseconds))
        }
    }

    func writeClientInfo(_ text: inout InfoText) {
        text.add("connected_clients", clients.count { !$0.pointee.flags.contains(.replica) })
        text.add("maxclients", configuration.maxClients)
        text.add("client_recent_max_input_buffer", clients.map { $0.pointee.queryCapacity }.max() ?? 0)
        text.add("client_recent_max_output_buffer", clients.map { $0.pointee.reply.capacity }.max() ?? 0)
        text.add("blocked_clients", parkedClients.count)
        text.add("tracking_clients", tracking.clientCount)
        text.add("clients_in_timeout_table", blocked.timedCount)
        if pauses.isActive {
            text.add("paused_actions", pauses.holdsAll ? "all" : "write")
            text.add("paused_timeout_milliseconds", max(0, pauses.until - time.unixMilliseconds))
        }
    }

    func writeProcessorInfo(_ text: inout InfoText) {
        let process = processFacts()
        func seconds(_ microseconds: Int64) -> String { decimal(Double(microseconds) / 1_000_000, decimals: 6) }
        text.add("used_cpu_sys", seconds(process.systemMicroseconds))
        text.add("used_cpu_user", seconds(process.userMicroseconds))
        // Nothing is forked.
        text.add("used_cpu_sys_children", seconds(0))
        text.add("used_cpu_user_children", seconds(0))
        text.add("used_cpu_sys_main_thread", seconds(process.threadSystemMicroseconds))
        text.add("used_cpu_user_main_thread", seconds(process.threadUserMicroseconds))
    }

    func writeClusterInfo(_ text: inout InfoText) {
        text.add("cluster_enabled", isClustered)
    }

    mutating func writeKeyspaceInfo(_ text: inout InfoText) {
        for database in 0..<keyspace.databaseCount {
            let keys = keyspace.keyCount(database: database)
            guard keys > 0 else { continue }
            let expiring = keyspace.volatileCount(database: database)
            let average = keyspace.averageTimeToLive(database: database)
            text.add("db\(database)", "keys=\(keys),expires=\(expiring),avg_ttl=\(average)")
        }
    }
}
