import MartletBase
import MartletKeyspace

extension Node {
    /// Periodic work, `hz` times a second.
    package mutating func cron() {
        keyspace.continueResizing(maxBuckets: 1024)
        _ = keyspace.expireCycle(maxKeys: 1000)
        replicationCron()
    }

    /// Work at the end of every turn, before replies are sent.
    package mutating func endTurn() {
        if keyspace.propagation.isOn { flushPropagation() }
        endReplicationTurn()
    }
}
