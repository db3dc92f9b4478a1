import CMartletSystem
import Glibc

/// Waits for readiness of many descriptors: a thin, owning wrapper of epoll.
///
/// Level-triggered unless asked otherwise. Each descriptor carries a 64-bit token of the caller's choice, handed back
/// with its events; put a generation into it if descriptors are closed while their events are still being walked.
/// `wait` fills a buffer that lives as long as the poller, so a turn allocates nothing.
package struct Poller: ~Copyable {
    package struct Interest: OptionSet, Sendable {
        package let rawValue: UInt32
        package init(rawValue: UInt32) { self.rawValue = rawValue }

        package static let readable = Interest(rawValue: EPOLLIN.rawValue)
        package static let writable = Interest(rawValue: EPOLLOUT.rawValue)
        /// The peer closed its writing side; reported even if unread data is left.
        package static let peerClosed = Interest(rawValue: EPOLLRDHUP.rawValue)
        /// Tell of news only, not of what was there at the wait before.
        package static let edgeTriggered = Interest(rawValue: EPOLLET.rawValue)
        /// Nothing but errors and hang-ups, which epoll always reports.
        package static let none: Interest = []
    }

    package struct Event: Sendable {
        package let token: UInt64
        @usableFromInline let bits: UInt32

        @usableFromInline init(token: UInt64, bits: UInt32) {
            self.token = token
            self.bits = bits
        }

        // EPOLLIN 1, EPOLLOUT 4, EPOLLERR 8, EPOLLHUP 0x10, EPOLLRDHUP 0x2000.

        /// Data, end of stream or an error wait: a read will not block.
        @inlinable package var isReadable: Bool { bits & 0x2019 != 0 }
        /// Room to write, or an error that a write will report.
        @inlinable package var isWritable: Bool { bits & 0x1C != 0 }
        /// The peer has closed its side, or both are closed.
        @inlinable package var isPeerClosed: Bool { bits & 0x2018 != 0 }
        /// An error or a full hang-up.
        @inlinable package var isBroken: Bool { bits & 0x18 != 0 }
    }

    package let fd: Int32
    private let events: UnsafeMutablePointer<epoll_event>
    private let eventsMax: Int
    /// How many events of the last `wait` are valid.
    private(set) package var eventCount = 0

    /// - Parameter eventsMax: events per turn; the rest stays for the next turn, in a fair order.
    package init(eventsMax: Int = 1024) throws(SystemError) {
        precondition(eventsMax > 0)
        let fd = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard fd >= 0 else { throw .last("epoll_create1") }
        self.fd = fd
        self.eventsMax = eventsMax
        events = .allocate(capacity: eventsMax)
        events.initialize(repeating: epoll_event(), count: eventsMax)
    }

    deinit {
        events.deallocate()
        close(fd)
    }

    // The three below fail only when the system runs out of watches or memory; a wrong or double registration is a
    // mistake of ours.

    package borrowing func add(_ target: Int32, _ interest: Interest, token: UInt64) throws(SystemError) {
        try control(EPOLL_CTL_ADD, target, interest, token)
    }

    package borrowing func modify(_ target: Int32, _ interest: Interest, token: UInt64) throws(SystemError) {
        try control(EPOLL_CTL_MOD, target, interest, token)
    }

    /// Call it before the descriptor is closed: a duplicate elsewhere would keep the registration alive.
    package borrowing func remove(_ target: Int32) {
        var event = epoll_event()
        let result = epoll_ctl(fd, EPOLL_CTL_DEL, target, &event)
        precondition(result == 0, "removed a descriptor that is not watched")
    }

    private borrowing func control(
        _ operation: Int32, _ target: Int32, _ interest: Interest, _ token: UInt64
    ) throws(SystemError) {
        var event = epoll_event(events: interest.rawValue, data: epoll_data_t(u64: token))
        guard epoll_ctl(fd, operation, target, &event) == 0 else {
            let error = SystemError.last("epoll_ctl")
            precondition(error.code == ENOMEM || error.code == ENOSPC, "watched twice, never watched or no descriptor")
            throw error
        }
    }

    /// Waits for events and returns how many there are.
    ///
    /// - Parameter timeoutMilliseconds: 0 only looks, negative waits without limit. A signal ends the wait early
    ///   with 0 events.
    package mutating func wait(timeoutMilliseconds: Int) -> Int {
        finishWait(epoll_wait(fd, events, Int32(eventsMax), Int32(clamping: timeoutMilliseconds)))
    }

    /// As ``wait(timeoutMilliseconds:)``, for timers that are finer than a millisecond. How late the kernel may be is
    /// set by ``Thread/setTimerSlack(nanoseconds:)``. On kernels before 5.11 it waits whole milliseconds.
    package mutating func wait(timeoutNanoseconds: Int64) -> Int {
        guard timeoutNanoseconds > 0 else { return wait(timeoutMilliseconds: timeoutNanoseconds < 0 ? -1 : 0) }
        var timeout = timespec(
            tv_sec: Int(timeoutNanoseconds / 1_000_000_000), tv_nsec: Int(timeoutNanoseconds % 1_000_000_000))
        let count = epoll_pwait2(fd, events, Int32(eventsMax), &timeout, nil)
        guard count >= 0 || errno != ENOSYS else {
            return wait(timeoutMilliseconds: Int(clamping: timeoutNanoseconds / 1_000_000 + 1))
        }
        return finishWait(count)
    }

    private mutating func finishWait(_ count: Int32) -> Int {
        if count < 0 {
            precondition(errno == EINTR, "epoll_wait")
            eventCount = 0
        } else {
            eventCount = Int(count)
        }
        return eventCount
    }

    /// - Precondition: `index` is below ``eventCount``.
    package borrowing func event(at index: Int) -> Event {
        precondition(index >= 0 && index < eventCount)
        return Event(token: events[index].data.u64, bits: events[index].events)
    }
}
