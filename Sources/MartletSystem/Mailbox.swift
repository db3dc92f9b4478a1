import Synchronization

/// Messages from any thread to one: a locked array and a wake-up.
///
/// The owner watches `wakeup.fd`, and when it is readable takes everything at once. The lock is held for an append or
/// a swap only, and the two arrays keep their capacity, so steady traffic allocates nothing.
package final class Mailbox<Message: Sendable>: Sendable {
    package let wakeup: WakeupFD
    /// Posts beyond it are refused, so that a stuck owner cannot fill the memory.
    package let countMax: Int
    private let queue = Mutex<[Message]>([])

    package init(countMax: Int = 1 << 20) throws(SystemError) {
        wakeup = try WakeupFD()
        self.countMax = countMax
    }

    /// False, and the message is dropped, when `countMax` messages wait already.
    @discardableResult
    package func post(_ message: Message) -> Bool {
        let isTaken = queue.withLock { queue in
            guard queue.count < countMax else { return false }
            queue.append(message)
            return true
        }
        if isTaken { wakeup.signal() }
        return isTaken
    }

    /// Takes all waiting messages, oldest first.
    ///
    /// - Parameter batch: an array of the caller's that is used again and again. Its old content is dropped.
    package func drain(into batch: inout [Message]) {
        batch.removeAll(keepingCapacity: true)
        wakeup.acknowledge()
        queue.withLock { swap(&$0, &batch) }
    }
}
