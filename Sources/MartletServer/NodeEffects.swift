import MartletCluster
import MartletKeyspace

/// What the node asks of the outside. Drained by the reactor after every batch, in order.
package enum NodeEffect {
    /// Replies were written outside of a batch: send them, and take ``Client/Flags/messageQueued`` away.
    case send(ClientPointer)
    /// Hand a published message on to other nodes of the cluster.
    case publish(channel: [UInt8], message: [UInt8], isSharded: Bool)
    /// The client is no longer parked: go on with what it sent.
    case resume(ClientPointer)
    /// Close at once.
    case close(ClientPointer)
    /// Free the tables on a background thread.
    case free(DetachedTables)
    /// A CLUSTER subcommand for the bus thread; the answer goes to ``Node/clusterReplied(_:_:)``.
    case cluster(ClusterRequest, token: UInt64)
    /// Writes are held back and none is under way: tell the bus, with the replication offset that was reached.
    case writesPaused
    /// Transfer keys; the end is told to ``Node/migrationEnded(_:_:)``.
    case migrate(KeyMigration)
    /// Open the link to our primary, or answer ``Node/primaryLinkClosed(reason:)``.
    case connectToPrimary(host: String, port: Int)
    case closePrimaryLink
    /// Directives that CONFIG SET changed.
    case configurationChanged([String])
    /// End the process.
    case stop
    /// Was asked for a client that is gone.
    case nothing

    /// Whether it is about this client.
    func names(_ client: ClientPointer) -> Bool {
        switch self {
        case .send(let named), .resume(let named), .close(let named): named == client
        default: false
        }
    }
}
