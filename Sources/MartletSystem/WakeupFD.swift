import CMartletSystem
import Glibc
import Synchronization

/// Wakes a thread that waits in a ``Poller``, from any thread: an eventfd that is written at most once per wake-up.
///
/// The protocol that loses no wake-up: the sender first makes its work visible (a message in a mailbox), then calls
/// `signal`; the receiver first calls `acknowledge`, then looks for work. `isPending` is exchanged on both sides, so
/// either the receiver sees the work, or the sender sees `false` and writes.
package final class WakeupFD: Sendable {
    /// Watch it for readability.
    package let fd: Int32
    private let isPending = Atomic<Bool>(false)

    package init() throws(SystemError) {
        fd = eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC))
        guard fd >= 0 else { throw .last("eventfd") }
    }

    deinit { close(fd) }

    package func signal() {
        guard !isPending.exchange(true, ordering: .acquiringAndReleasing) else { return }
        var one: UInt64 = 1
        let outcome = uninterrupted { write(fd, &one, 8) }
        // EAGAIN: the counter is full, so the receiver is awake anyway.
        precondition(outcome.result == 8 || outcome.errno == EAGAIN)
    }

    /// Call it when the descriptor is readable (or at any time), before looking for work.
    package func acknowledge() {
        var count: UInt64 = 0
        _ = uninterrupted { read(fd, &count, 8) }
        _ = isPending.exchange(false, ordering: .acquiringAndReleasing)
    }
}
