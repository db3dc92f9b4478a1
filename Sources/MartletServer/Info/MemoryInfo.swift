import MartletBase
import MartletKeyspace
import MartletReplication

/// What the allocator, the system and our own counts say, at one moment. All in bytes unless their names say otherwise.
struct MemoryFigures {
    let used: Int
    let peak: Int
    /// Used before there were data and clients.
    let startup: Int
    /// Of the allocator; free places in its slabs that are kept for entries do not count as allocated.
    let allocator: (allocated: Int, active: Int, resident: Int, retained: Int)
    /// Of the process.
    let resident: Int
    let totalSystem: Int
    let keyCount: Int
    let tables: Int
    let clients: Int
    let replicas: Int
    let backlog: Int
    /// Texts of scripts and of libraries, and what is kept about them.
    let scripts: Int
    let functions: Int
    let clientCount: Int

    init(_ node: inout Node) {
        node.observeMemory()
        let process = node.processFacts()
        used = node.keyspace.usedBytes
        let unused = node.keyspace.unusedBytes
        peak = max(used, node.statistics.memoryPeak)
        startup = node.statistics.memoryAtStart
        let statistics = Memory.statistics
        allocator = (statistics.allocated - unused, statistics.active, statistics.resident, statistics.retained)
        resident = process.residentBytes
        totalSystem = process.totalMemoryBytes
        keyCount = node.keyspace.totalKeyCount
        var tables = 0
        for database in 0..<node.keyspace.databaseCount {
            let bytes = node.keyspace.tableBytes(database: database)
            tables += bytes.keys + bytes.volatileKeys
        }
        self.tables = tables
        var clients = 0
        var replicas = 0
        for client in node.clients {
            let bytes = node.memoryBytes(of: client)
            if client.pointee.flags.contains(.replica) { replicas += bytes } else { clients += bytes }
        }
        self.clients = clients
        self.replicas = replicas
        backlog = node.replication.feed.log.allocatedBytes
        scripts = node.scripts.cache.bytes
        functions = node.functionLibraryBytes
        clientCount = node.clients.count
    }

    /// All but keys and values.
    var overhead: Int { min(used, startup + tables + clients + replicas + backlog + scripts + functions) }
    var data: Int { used - overhead }
    /// The data's share of what came since the start.
    var dataPercent: Double { 100 * Self.ratio(data, max(used - startup, data)) }
    var peakPercent: Double { 100 * Self.ratio(used, peak) }

    static func ratio(_ part: Int, _ whole: Int) -> Double { whole > 0 ? Double(part) / Double(whole) : 0 }
}

extension Node {
    mutating func writeMemoryInfo(_ text: inout InfoText) {
        let figures = MemoryFigures(&self)
        let (used, allocator, resident) = (figures.used, figures.allocator, figures.resident)
        let ratio = MemoryFigures.ratio

        text.add("used_memory", bytes: used)
        text.add("used_memory_rss", bytes: resident)
        text.add("used_memory_peak", bytes: figures.peak)
        text.add("used_memory_peak_perc", hundredths: figures.peakPercent, unit: "%")
        text.add("used_memory_overhead", figures.overhead)
        text.add("used_memory_startup", figures.startup)
        text.add("used_memory_dataset", figures.data)
        text.add("used_memory_dataset_perc", hundredths: figures.dataPercent, unit: "%")
        text.add("allocator_allocated", allocator.allocated)
        text.add("allocator_active", allocator.active)
        text.add("allocator_resident", allocator.resident)
        text.add("total_system_memory", bytes: figures.totalSystem)
        text.add("used_memory_lua", bytes: scripts.evaluatorBytes)
        text.add("used_memory_vm_eval", scripts.evaluatorBytes)
        text.add("used_memory_scripts_eval", scripts.cache.bytes)
        text.add("number_of_cached_scripts", scripts.cache.count)
        text.add("number_of_functions", functions?.catalogue.functions.count ?? 0)
        text.add("number_of_libraries", functionLibraries.count)
        text.add("used_memory_vm_functions", functionStateBytes)
        text.add("used_memory_vm_total", bytes: scripts.evaluatorBytes + functionStateBytes)
        text.add("used_memory_functions", functionLibraryBytes)
        text.add("used_memory_scripts", bytes: scripts.cache.bytes + functionLibraryBytes)
        text.add("maxmemory", bytes: Int(clamping: configuration.maxMemory))
        text.add("maxmemory_policy", configuration.evictionPolicy.rawValue)
        text.add("allocator_frag_ratio", hundredths: ratio(allocator.active, allocator.allocated))
        text.add("allocator_frag_bytes", allocator.active - allocator.allocated)
        text.add("allocator_rss_ratio", hundredths: ratio(allocator.resident, allocator.active))
        text.add("allocator_rss_bytes", allocator.resident - allocator.active)
        text.add("rss_overhead_ratio", hundredths: ratio(resident, allocator.resident))
        text.add("rss_overhead_bytes", resident - allocator.resident)
        text.add("mem_fragmentation_ratio", hundredths: ratio(resident, used))
        text.add("mem_fragmentation_bytes", resident - used)
        text.add("mem_not_counted_for_evict", 0)
        text.add("mem_replication_backlog", figures.backlog)
        text.add("mem_total_replication_buffers", figures.backlog)
        text.add("mem_clients_slaves", figures.replicas)
        text.add("mem_clients_normal", figures.clients)
        text.add("mem_cluster_links", 0)
        text.add("mem_aof_buffer", 0)
        text.add("mem_allocator", Memory.allocatorName)
        text.add("active_defrag_running", defragmentation.cyclePercent)
        text.add("lazyfree_pending_objects", lazyFrees.pendingKeys + keyspace.remainsCount)
        text.add("lazyfreed_objects", lazyFrees.freedKeys + keyspace.statistics.containersFreedLater)
    }

    /// Keeps the peak up to date. - Complexity: microseconds; called by the cron.
    mutating func observeMemory() {
        let used = keyspace.usedBytes
        if statistics.memoryAtStart == 0 { statistics.memoryAtStart = used }
        statistics.memoryPeak = max(statistics.memoryPeak, used)
    }
}
