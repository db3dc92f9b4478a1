import Glibc

/// The line that a test rewrites while it runs, as redis-benchmark's; only on a terminal.
struct ProgressLine {
    private let isShown: Bool
    private var title = ""
    private var start: Int64 = 0
    private var last = (time: Int64(0), requestCount: 0, latencySum: Int64(0))

    init(isShown: Bool) { self.isShown = isShown }

    mutating func begin(_ title: String, at time: Int64) {
        self.title = title
        start = time
        last = (time, 0, 0)
    }

    /// - Parameters: what was counted since the beginning; latencies in nanoseconds.
    mutating func update(requestCount: Int, latencySum: Int64, now: Int64) {
        // The threads report four times a second.
        guard isShown, !title.isEmpty, now - last.time >= 200_000_000, requestCount > last.requestCount else { return }
        let requests = requestCount - last.requestCount
        let rate = Double(requests) * 1e9 / Double(now - last.time)
        let overallRate = Double(requestCount) * 1e9 / Double(max(now - start, 1))
        let mean = Double(latencySum - last.latencySum) / Double(requests) / 1e6
        let overallMean = Double(latencySum) / Double(requestCount) / 1e6
        show(
            "\(title): rps=\(fixed(rate, 1)) (overall: \(fixed(overallRate, 1))) "
                + "avg_msec=\(fixed(mean, 3)) (overall: \(fixed(overallMean, 3)))")
        last = (now, requestCount, latencySum)
    }

    func show(_ text: String) {
        if isShown { printUnbuffered("\r\u{1B}[K\(text)\r", to: STDOUT_FILENO) }
    }

    func clear() { show("") }
}
