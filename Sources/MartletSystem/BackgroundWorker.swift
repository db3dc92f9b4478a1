import Glibc

/// One thread for what may block or take long: fsync, file writes, closing, freeing big values. Jobs run in order.
///
/// Cold: a job may be a closure. Whoever needs to know the end of a job posts a message to its own ``Mailbox`` from
/// within it.
package final class BackgroundWorker: Sendable {
    package enum Job: Sendable {
        case close(fd: Int32)
        case run(@Sendable () -> Void)
        case stop
    }

    private let mailbox: Mailbox<Job>

    package init(name: String) throws(SystemError) {
        mailbox = try Mailbox()
        let poller = try Poller(eventsMax: 1)
        try poller.add(mailbox.wakeup.fd, .readable, token: 0)
        let thread = try Thread(name: name, Self.body(mailbox, poller))
        _ = consume thread
    }

    /// False when the queue is full: the caller does the work itself or drops it.
    @discardableResult
    package func post(_ job: Job) -> Bool { mailbox.post(job) }

    /// Runs what was posted before on the worker and returns when it is done. Not from the worker itself.
    package func finish() throws(SystemError) {
        let done = try WakeupFD()
        var poller = try Poller(eventsMax: 1)
        try poller.add(done.fd, .readable, token: 0)
        guard post(.run { done.signal() }) else { return }
        while poller.wait(timeoutMilliseconds: -1) == 0 {}
    }

    deinit { mailbox.post(.stop) }

    private static func body(_ mailbox: Mailbox<Job>, _ poller: consuming Poller) -> @Sendable () -> Void {
        // A noncopyable value cannot be captured by an escaping closure, so it travels in a box.
        let box = PollerBox(poller)
        return {
            var batch: [Job] = []
            while true {
                _ = box.poller.wait(timeoutMilliseconds: -1)
                mailbox.drain(into: &batch)
                for job in batch {
                    switch job {
                    case .close(let fd): Glibc.close(fd)
                    case .run(let work): work()
                    case .stop: return
                    }
                }
                // What the jobs own goes now, not when the next one comes.
                batch.removeAll(keepingCapacity: true)
            }
        }
    }

    /// Handed over once, then used by the worker's thread only.
    private final class PollerBox: @unchecked Sendable {
        var poller: Poller
        init(_ poller: consuming Poller) { self.poller = poller }
    }
}
