import Histogram

/// Error replies with the same first word.
package struct ErrorCount: Equatable, Sendable {
    package var count: Int
    /// The first one in full.
    package var example: String

    package init(count: Int, example: String) {
        self.count = count
        self.example = example
    }

    /// Longest first word that errors are told apart by.
    package static let wordCharactersMax = 64
}

extension [String: ErrorCount] {
    /// A hostile server must not fill the memory with new words.
    private static var wordsMax: Int { 32 }

    /// Counts errors with one first word, or with all that come after too many different ones.
    package mutating func note(_ word: String, _ errors: ErrorCount) {
        let key = self[word] != nil || count < Self.wordsMax ? word : "other errors"
        self[key, default: ErrorCount(count: 0, example: errors.example)].count += errors.count
    }
}

/// What a thread counted since its last report.
package struct WorkerReport: Sendable {
    /// One for each label of the workload.
    package var latencies: [LatencyHistogram]
    /// Open loop: how late requests were sent though there was room for them: the generator's own fault.
    package var delays: LatencyHistogram?
    /// In nanoseconds.
    package var latencySum: Int64
    package var errors: [String: ErrorCount]
    package var errorCount: Int
    package var movedCount: Int
    package var askCount: Int
    package var missedCount: Int
    /// The second of the run that it belongs to.
    package var second: Int
    /// When it was made.
    package var time: Int64

    package init(
        latencies: [LatencyHistogram], delays: LatencyHistogram? = nil, latencySum: Int64 = 0,
        errors: [String: ErrorCount] = [:], errorCount: Int = 0,
        movedCount: Int = 0, askCount: Int = 0, missedCount: Int = 0, second: Int, time: Int64 = 0
    ) {
        self.latencies = latencies
        self.delays = delays
        self.latencySum = latencySum
        self.errors = errors
        self.errorCount = errorCount
        self.movedCount = movedCount
        self.askCount = askCount
        self.missedCount = missedCount
        self.second = second
        self.time = time
    }
}

/// The sum of all reports of a run.
package struct Tally: Sendable {
    /// One for each label of the workload.
    package private(set) var latencies: [LatencyHistogram]
    package private(set) var delays: LatencyHistogram
    package private(set) var timeline: Timeline
    package private(set) var requestCount = 0
    package private(set) var latencySum: Int64 = 0
    package private(set) var errors: [String: ErrorCount] = [:]
    package private(set) var movedCount = 0
    package private(set) var askCount = 0
    /// Open loop: requests that were due but not sent when the time was over.
    package private(set) var missedCount = 0
    /// When the last report was made, which is when the last reply came.
    package private(set) var end: Int64 = 0

    package init(labelCount: Int, significantDigits: Int) {
        latencies = (0..<labelCount).map { _ in .latencies(significantDigits: significantDigits) }
        delays = .latencies(significantDigits: significantDigits)
        timeline = Timeline(significantDigits: significantDigits)
    }

    package mutating func add(_ report: WorkerReport) {
        for (label, histogram) in report.latencies.enumerated() where histogram.totalCount > 0 {
            latencies[label].add(histogram)
            timeline.add(histogram, errors: 0, second: report.second)
            requestCount += Int(histogram.totalCount)
        }
        if let more = report.delays { delays.add(more) }
        timeline.add(nil, errors: report.errorCount, second: report.second)
        latencySum += report.latencySum
        for (word, error) in report.errors { errors.note(word, error) }
        movedCount += report.movedCount
        askCount += report.askCount
        missedCount += report.missedCount
        end = max(end, report.time)
    }
}
