import MartletBase
import MartletKeyspace

// Where the reactor's bus notices enter. Founder of replication: these three are yours; fill them with the real thing.

extension Node {
    /// Bytes of the replication log that this node has written or applied.
    package var replicationOffset: Int64 { 0 }

    /// Replicate from this node; its history is ours if `sharesHistory`.
    package mutating func follow(host: String, port: Int, sharesHistory: Bool) {}

    /// Stop replicating, keep the data, accept writes.
    package mutating func becomePrimary() {}
}
