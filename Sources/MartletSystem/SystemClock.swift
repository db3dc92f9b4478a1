import CMartletSystem
import Glibc

/// Readings of the kernel's clocks. About 20 ns each: read once per loop turn, not per command.
package enum SystemClock {
    /// Time that only moves forward, for timers and time-outs. Stands still while the machine is suspended.
    package static var monotonicNanoseconds: Int64 { read(CLOCK_MONOTONIC) }
    package static var monotonicMicroseconds: Int64 { read(CLOCK_MONOTONIC) / 1_000 }
    package static var monotonicMilliseconds: Int64 { read(CLOCK_MONOTONIC) / 1_000_000 }

    /// As the monotonic clock, but it counts suspension too: what a `SlewedClock` is anchored to, because the keys of
    /// a suspended machine do age.
    package static var bootNanoseconds: Int64 { read(CLOCK_BOOTTIME) }

    /// The wall clock (UTC since 1970), which anybody may step in either direction.
    package static var wallNanoseconds: Int64 { read(CLOCK_REALTIME) }
    package static var wallMilliseconds: Int64 { read(CLOCK_REALTIME) / 1_000_000 }

    /// Time that all threads of this process have spent on processors, in user mode and in the kernel.
    package static var processorNanoseconds: Int64 { read(CLOCK_PROCESS_CPUTIME_ID) }

    /// Stops the calling thread for at least so long.
    package static func sleep(microseconds: Int64) {
        var wanted = timespec(tv_sec: Int(microseconds / 1_000_000), tv_nsec: Int(microseconds % 1_000_000 * 1000))
        var left = timespec()
        // A signal cuts it short.
        while nanosleep(&wanted, &left) != 0, errno == EINTR { wanted = left }
    }

    private static func read(_ clock: clockid_t) -> Int64 {
        var time = timespec()
        let result = clock_gettime(clock, &time)
        precondition(result == 0)
        return Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec)
    }
}
