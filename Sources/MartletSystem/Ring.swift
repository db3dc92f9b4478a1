import Synchronization

/// A queue from one thread to one other, without locks: a fixed array and two counters.
///
/// The producer alone moves `tail`, the consumer alone `head`; each publishes its counter after it has touched the element
/// (release) and reads the other's before (acquire). The counters are far enough apart not to share a cache line.
package final class Ring<Element: Sendable>: @unchecked Sendable {
    private let elements: UnsafeMutablePointer<Element>
    private let mask: Int
    private let head = PaddedCounter()
    private let tail = PaddedCounter()

    /// - Parameter capacity: a power of two.
    package init(capacity: Int) {
        precondition(capacity > 0 && capacity & (capacity - 1) == 0)
        elements = .allocate(capacity: capacity)
        mask = capacity - 1
    }

    deinit {
        while pop() != nil {}
        elements.deallocate()
    }

    /// For the producer. - Returns: false if the ring is full.
    package func push(_ element: Element) -> Bool {
        let position = tail.value.load(ordering: .relaxed)
        guard position - head.value.load(ordering: .acquiring) <= mask else { return false }
        (elements + (position & mask)).initialize(to: element)
        tail.value.store(position + 1, ordering: .releasing)
        return true
    }

    /// For the consumer. - Returns: the oldest element, or nil.
    package func pop() -> Element? {
        let position = head.value.load(ordering: .relaxed)
        guard position != tail.value.load(ordering: .acquiring) else { return nil }
        let element = (elements + (position & mask)).move()
        head.value.store(position + 1, ordering: .releasing)
        return element
    }

    /// For the consumer.
    package var isEmpty: Bool {
        head.value.load(ordering: .relaxed) == tail.value.load(ordering: .acquiring)
    }
}

/// An object of its own, longer than a cache line.
private final class PaddedCounter: Sendable {
    let value = Atomic<Int>(0)
    private let padding: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0, 0, 0)
}

/// The producer's end of a ``Ring`` that never refuses: what does not fit waits here, in order.
package struct RingSender<Element: Sendable> {
    private let ring: Ring<Element>
    private var waiting: [Element] = []

    package init(_ ring: Ring<Element>) { self.ring = ring }

    package mutating func post(_ element: Element) {
        if waiting.isEmpty, ring.push(element) { return }
        waiting.append(element)
    }

    package var isWaiting: Bool { !waiting.isEmpty }

    /// Moves what waits into the ring. - Returns: whether nothing waits any more. Call it every turn until it is true.
    package mutating func flush() -> Bool {
        guard !waiting.isEmpty else { return true }
        var count = 0
        while count < waiting.count, ring.push(waiting[count]) { count += 1 }
        waiting.removeFirst(count)
        return waiting.isEmpty
    }
}

/// Wakes a thread that sleeps in a ``Poller``, and costs nothing while it is awake.
///
/// The sleeper says that it is about to sleep, looks for work once more, and sleeps; who brings work makes it visible, then
/// rings. Both sides' steps are sequentially consistent, so either the sleeper sees the work or the bringer sees the sleeper.
package final class Doorbell: Sendable {
    private let wakeup: WakeupFD
    private let isAsleep = Atomic<Bool>(false)

    package init() throws(SystemError) { wakeup = try WakeupFD() }

    /// Watch it for readability.
    package var fd: Int32 { wakeup.fd }

    package func ring() {
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        guard isAsleep.load(ordering: .relaxed) else { return }
        if isAsleep.exchange(false, ordering: .acquiringAndReleasing) { wakeup.signal() }
    }

    /// Before the last look for work.
    package func willSleep() {
        isAsleep.store(true, ordering: .relaxed)
        atomicMemoryFence(ordering: .sequentiallyConsistent)
    }

    package func wokeUp() { isAsleep.store(false, ordering: .relaxed) }

    /// When ``fd`` is readable.
    package func acknowledge() { wakeup.acknowledge() }
}
