import MartletKeyspace

/// What the node asks of the outside. Drained by the reactor after every batch, in order.
package enum NodeEffect {
    /// Replies were written outside of a batch: send them.
    case send(ClientPointer)
    /// The client is no longer parked: go on with what it sent.
    case resume(ClientPointer)
    /// Close at once.
    case close(ClientPointer)
    /// Free the tables on a background thread.
    case free(DetachedTables)
    /// End the process.
    case stop
}
