import MartletBase
import MartletKeyspace
import MartletReplication

extension Node {
    mutating func writeMemoryInfo(_ text: inout InfoText) {
        observeMemory()
        let process = processFacts()
        let used = Memory.usedBytes
        let allocator = Memory.statistics
        var clientBytes = 0
        var replicaBytes = 0
        for client in clients {
            if client.pointee.flags.contains(.replica) {
                replicaBytes += memoryBytes(of: client)
            } else {
                clientBytes += memoryBytes(of: client)
            }
        }
        var tableBytes = 0
        for database in 0..<keyspace.databaseCount { tableBytes += keyspace.tableBytes(database: database) }
        let startup = statistics.memoryAtStart
        let overhead = min(used, startup + tableBytes + clientBytes + replicaBytes)
        let data = used - overhead
        func ratio(_ part: Int, _ whole: Int) -> Double { whole > 0 ? Double(part) / Double(whole) : 0 }

        text.add("used_memory", bytes: used)
        text.add("used_memory_rss", bytes: process.residentBytes)
        text.add("used_memory_peak", bytes: statistics.memoryPeak)
        text.add("used_memory_peak_perc", hundredths: ratio(used, statistics.memoryPeak) * 100, unit: "%")
        text.add("used_memory_overhead", overhead)
        text.add("used_memory_startup", startup)
        text.add("used_memory_dataset", data)
        text.add("used_memory_dataset_perc", hundredths: ratio(data, max(used - startup, data)) * 100, unit: "%")
        text.add("allocator_allocated", allocator.allocated)
        text.add("allocator_active", allocator.active)
        text.add("allocator_resident", allocator.resident)
        text.add("total_system_memory", bytes: process.totalMemoryBytes)
        text.add("used_memory_lua", bytes: 0)
        text.add("used_memory_vm_eval", 0)
        text.add("used_memory_scripts_eval", 0)
        text.add("number_of_cached_scripts", 0)
        text.add("number_of_functions", 0)
        text.add("number_of_libraries", 0)
        text.add("used_memory_vm_functions", 0)
        text.add("used_memory_vm_total", bytes: 0)
        text.add("used_memory_functions", 0)
        text.add("used_memory_scripts", bytes: 0)
        text.add("maxmemory", bytes: Int(clamping: configuration.maxMemory))
        text.add("maxmemory_policy", configuration.evictionPolicy.rawValue)
        text.add("allocator_frag_ratio", hundredths: ratio(allocator.active, allocator.allocated))
        text.add("allocator_frag_bytes", allocator.active - allocator.allocated)
        text.add("allocator_rss_ratio", hundredths: ratio(allocator.resident, allocator.active))
        text.add("allocator_rss_bytes", allocator.resident - allocator.active)
        text.add("rss_overhead_ratio", hundredths: ratio(process.residentBytes, allocator.resident))
        text.add("rss_overhead_bytes", process.residentBytes - allocator.resident)
        text.add("mem_fragmentation_ratio", hundredths: ratio(process.residentBytes, used))
        text.add("mem_fragmentation_bytes", process.residentBytes - used)
        text.add("mem_not_counted_for_evict", 0)
        text.add("mem_replication_backlog", replication.feed.log.allocatedBytes)
        text.add("mem_total_replication_buffers", replication.feed.log.allocatedBytes)
        text.add("mem_clients_slaves", replicaBytes)
        text.add("mem_clients_normal", clientBytes)
        text.add("mem_aof_buffer", 0)
        text.add("mem_allocator", Memory.allocatorName)
        text.add("active_defrag_running", 0)
        text.add("lazyfree_pending_objects", 0)
        text.add("lazyfreed_objects", 0)
    }

    /// Keeps the peak up to date. - Complexity: microseconds; called by the cron.
    mutating func observeMemory() {
        let used = Memory.usedBytes
        if statistics.memoryAtStart == 0 { statistics.memoryAtStart = used }
        statistics.memoryPeak = max(statistics.memoryPeak, used)
    }
}
