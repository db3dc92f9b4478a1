/// The times at which the requests of an open-loop test are to be sent: evenly spaced, whatever the server does.
///
/// A latency that counts from here includes the time for which a request waited because earlier ones were not answered
/// yet. A generator that instead sends late and counts from then on leaves out what its own users would have felt
/// ("coordinated omission"). Several threads interleave: each has every `threadCount`th time.
package struct RateSchedule: Sendable {
    private let start: Int64
    /// Between two times of this thread.
    private let intervalNanoseconds: Double
    private let offsetNanoseconds: Double
    /// Times that were taken.
    package private(set) var takenCount = 0
    /// The next time to send at, in nanoseconds of the monotonic clock.
    package private(set) var next: Int64

    /// - Parameter rate: requests per second of all threads together; above 0.
    package init(start: Int64, rate: Double, threadIndex: Int = 0, threadCount: Int = 1) {
        precondition(rate > 0 && threadIndex >= 0 && threadIndex < threadCount)
        self.start = start
        intervalNanoseconds = 1e9 * Double(threadCount) / rate
        offsetNanoseconds = 1e9 * Double(threadIndex) / rate
        next = start + Int64(offsetNanoseconds)
    }

    package mutating func take() {
        takenCount += 1
        // From the count, not by adding up: rounding must not become drift.
        next = start + Int64(offsetNanoseconds + Double(takenCount) * intervalNanoseconds)
    }

    /// Times before `end` that were not taken.
    package func missedCount(before end: Int64) -> Int {
        let elapsed = Double(end - start) - offsetNanoseconds
        return max(0, Int((elapsed / intervalNanoseconds).rounded(.up)) - takenCount)
    }
}
