import Histogram

/// Latencies in nanoseconds.
///
/// HdrHistogram records directly on the receive path: 3 ns for a value (measured in a release build; 1 % of a core at
/// three million a second), and replies that one `recv` brings together are recorded in one call, so a smaller recorder
/// of our own would gain nothing.
package typealias LatencyHistogram = Histogram<UInt64>

extension Histogram where Count == UInt64 {
    /// Longer latencies count as this one: an hour.
    package static var nanosecondsMax: UInt64 { 3_600_000_000_000 }

    package static func latencies(significantDigits: Int) -> LatencyHistogram {
        LatencyHistogram(
            highestTrackableValue: nanosecondsMax,
            numberOfSignificantValueDigits: SignificantDigits(rawValue: Int8(significantDigits))!)
    }

    /// The latency, in milliseconds, that `percent` of the requests did not exceed.
    package func milliseconds(at percent: Double) -> Double {
        totalCount == 0 ? 0 : Double(valueAtPercentile(percent)) / 1e6
    }

    package var meanMilliseconds: Double { totalCount == 0 ? 0 : mean / 1e6 }
    package var minMilliseconds: Double { totalCount == 0 ? 0 : Double(min) / 1e6 }
    package var maxMilliseconds: Double { Double(maxRecorded) / 1e6 }
}

/// One second of a run; latencies in milliseconds.
package struct TimelineRow: Equatable, Sendable {
    /// 0 is the first second.
    package var second: Int
    package var requests: Int
    package var errors: Int
    package var mean: Double
    package var p50: Double
    package var p95: Double
    package var p99: Double
    package var p999: Double
    package var max: Double
}

/// Makes one row of each second, from what the threads report four times a second.
package struct Timeline: Sendable {
    private struct Open {
        let second: Int
        var errors = 0
        var histogram: LatencyHistogram
    }

    package private(set) var rows: [TimelineRow] = []
    /// Seconds that are not over for all threads, in order.
    private var open: [Open] = []
    private let significantDigits: Int

    package init(significantDigits: Int) { self.significantDigits = significantDigits }

    /// - Parameter second: those before the one before it are over. What comes for them after all counts for the
    ///   first that is not.
    package mutating func add(_ histogram: LatencyHistogram?, errors: Int, second: Int) {
        let second = max(second, open.first?.second ?? rows.count)
        while (open.last?.second ?? rows.count - 1) < second {
            let next = (open.last?.second ?? rows.count - 1) + 1
            open.append(Open(second: next, histogram: .latencies(significantDigits: significantDigits)))
            if open.count > 2 { closeFirst() }
        }
        let index = second - open[0].second
        open[index].errors += errors
        if let histogram { open[index].histogram.add(histogram) }
    }

    /// Closes the seconds that have begun.
    package mutating func finish() {
        while !open.isEmpty { closeFirst() }
    }

    private mutating func closeFirst() {
        let first = open.removeFirst()
        let histogram = first.histogram
        rows.append(
            TimelineRow(
                second: first.second, requests: Int(histogram.totalCount), errors: first.errors,
                mean: histogram.meanMilliseconds, p50: histogram.milliseconds(at: 50),
                p95: histogram.milliseconds(at: 95), p99: histogram.milliseconds(at: 99),
                p999: histogram.milliseconds(at: 99.9), max: histogram.maxMilliseconds))
    }
}
