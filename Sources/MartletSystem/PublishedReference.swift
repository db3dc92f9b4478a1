import Synchronization

/// An immutable object that one thread publishes and others look at every turn, e.g. the cluster view.
///
/// A reader keeps its own reference and compares one atomic counter; only when that has moved does it take the lock and
/// the new object. So reading costs one load, there is no hazard pointer or epoch scheme to get wrong, and an object
/// dies when its last reader has moved on.
package final class PublishedReference<Value: AnyObject & Sendable>: Sendable {
    private let version: Atomic<UInt64>
    private let slot: Mutex<Value>

    package init(_ value: Value) {
        version = Atomic(1)
        slot = Mutex(value)
    }

    package func publish(_ value: Value) {
        slot.withLock { $0 = value }
        version.wrappingAdd(1, ordering: .releasing)
    }

    package var current: Value { slot.withLock { $0 } }

    /// A reader's own copy. Not shared between threads.
    package struct Reader {
        private let source: PublishedReference
        private var version: UInt64
        /// The object as of the last `refresh`.
        private(set) package var value: Value

        package init(_ source: PublishedReference) {
            self.source = source
            version = source.version.load(ordering: .acquiring)
            value = source.current
        }

        /// Takes the newest object. True when there was a new one.
        @discardableResult
        package mutating func refresh() -> Bool {
            let newest = source.version.load(ordering: .acquiring)
            guard newest != version else { return false }
            // The object may be newer than `newest`; then the next refresh takes it once more, which is harmless.
            version = newest
            value = source.current
            return true
        }
    }
}
