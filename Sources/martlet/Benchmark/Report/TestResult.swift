import Histogram

/// What a test measured.
package struct TestResult: Sendable {
    package struct Operation: Sendable {
        package var label: String
        package var latencies: LatencyHistogram
        /// Requests of one operation, and so replies.
        package var requestCount = 1
    }

    package var title: String
    package var seconds: Double
    /// Open loop: how late requests were sent for the generator's own reasons.
    package var delays: LatencyHistogram
    /// All operations together.
    package var latencies: LatencyHistogram
    package var operations: [Operation]
    package var timeline: [TimelineRow]
    /// Error replies by their first word.
    package var errors: [String: ErrorCount]
    package var movedCount: Int
    package var askCount: Int
    /// Open loop: requests that were due but never sent.
    package var missedCount: Int
    /// Processor time of all threads of the generator, and how many they are.
    package var generatorSeconds: Double
    package var threadCount: Int

    package init(
        title: String, labels: [String], requestCounts: [Int] = [], tally: Tally, seconds: Double,
        generatorSeconds: Double, threadCount: Int
    ) {
        self.title = title
        self.seconds = seconds
        self.generatorSeconds = generatorSeconds
        self.threadCount = threadCount
        operations = zip(labels, tally.latencies).map { Operation(label: $0, latencies: $1) }
        for (index, count) in requestCounts.enumerated() { operations[index].requestCount = count }
        delays = tally.delays
        latencies = tally.latencies[0]
        for other in tally.latencies.dropFirst() { latencies.add(other) }
        var timeline = tally.timeline
        timeline.finish()
        self.timeline = timeline.rows
        errors = tally.errors
        movedCount = tally.movedCount
        askCount = tally.askCount
        missedCount = tally.missedCount
    }

    package var requestCount: Int { Int(latencies.totalCount) }
    /// Replies, of which an operation of several requests has several.
    package var replyCount: Int { operations.reduce(0) { $0 + Int($1.latencies.totalCount) * $1.requestCount } }
    package var errorCount: Int { errors.values.reduce(0) { $0 + $1.count } }
    package var requestsPerSecond: Double { seconds > 0 ? Double(requestCount) / seconds : 0 }
    package var generatorMicrosecondsPerRequest: Double {
        requestCount > 0 ? generatorSeconds * 1e6 / Double(requestCount) : 0
    }

    /// The part of its time for which a thread of the generator had a processor: close to 1, the generator may have been
    /// the limit, and not the server.
    package var generatorLoad: Double { seconds > 0 ? generatorSeconds / seconds / Double(threadCount) : 0 }

    package struct DistributionPoint: Equatable, Sendable {
        package var percent: Double
        package var milliseconds: Double
        package var cumulativeCount: Int
    }

    /// Latencies by percentile, five points for each halving of what is left above.
    package var distribution: [DistributionPoint] {
        latencies.percentiles(ticksPerHalfDistance: 5).map {
            DistributionPoint(
                percent: $0.percentile, milliseconds: Double($0.value) / 1e6,
                cumulativeCount: Int($0.totalCountToThisValue))
        }
    }

    /// Those that reports give, in percent.
    package static let percentiles: [Double] = [50, 90, 95, 99, 99.9, 99.99, 99.999]
}

/// What the reports say about the test bed.
package struct ReportContext: Sendable {
    package struct Node: Sendable {
        package var name: String
        /// `CONFIG GET`; nil when the server does not tell.
        package var save: String?
        package var appendOnly: String?

        package init(name: String, save: String? = nil, appendOnly: String? = nil) {
            self.name = name
            self.save = save
            self.appendOnly = appendOnly
        }
    }

    package var nodes: [Node]
    package var isCluster = false
    package var connectionCount = 50
    package var pipeline = 1
    package var keepsAlive = true
    /// Nil when `--threads` was not given.
    package var threadCount: Int?
    package var payload = "3"
    package var rate: Double?
    package var warmupSeconds = 0.0
    package var keys = "uniform"
    package var keyCount: Int?
    package var seed: UInt64 = 0
    package var commandLine = ""
    /// Wall clock, seconds since 1970.
    package var startedAt: Int64 = 0

    package init(nodes: [Node]) { self.nodes = nodes }
}
