import MartletBase

/// Which signal asked for the end.
package enum ShutdownSignal: Sendable { case terminate, interrupt }

extension Node {
    /// A signal asked the server to stop.
    package mutating func shutDown(bySignal signal: ShutdownSignal) {
        Log.warning("User requested shutdown...")
        effects.append(.stop)
    }
}
