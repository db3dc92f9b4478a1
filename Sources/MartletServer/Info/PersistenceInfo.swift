import MartletBase
import MartletKeyspace

extension Node {
    func writePersistenceInfo(_ text: inout InfoText) {
        text.add("loading", gates.contains(.loading))
        text.add("async_loading", 0)
        text.add("current_cow_peak", 0)
        text.add("current_cow_size", 0)
        text.add("current_cow_size_age", 0)
        text.add("current_fork_perc", "0.00")
        text.add("current_save_keys_processed", 0)
        text.add("current_save_keys_total", 0)
        text.add("rdb_changes_since_last_save", keyspace.changes)
        text.add("rdb_bgsave_in_progress", 0)
        text.add("rdb_last_save_time", startTime.unixSeconds)
        text.add("rdb_last_bgsave_status", "ok")
        text.add("rdb_last_bgsave_time_sec", -1)
        text.add("rdb_current_bgsave_time_sec", -1)
        text.add("rdb_saves", 0)
        text.add("rdb_last_cow_size", 0)
        text.add("rdb_last_load_keys_expired", 0)
        text.add("rdb_last_load_keys_loaded", 0)
        text.add("aof_enabled", 0)
        text.add("aof_rewrite_in_progress", 0)
        text.add("aof_rewrite_scheduled", 0)
        text.add("aof_last_rewrite_time_sec", -1)
        text.add("aof_current_rewrite_time_sec", -1)
        text.add("aof_last_bgrewrite_status", "ok")
        text.add("aof_rewrites", 0)
        text.add("aof_rewrites_consecutive_failures", 0)
        text.add("aof_last_write_status", "ok")
        text.add("aof_last_cow_size", 0)
        text.add("module_fork_in_progress", 0)
        text.add("module_fork_last_cow_size", 0)
    }
}
