/// The table of redis-benchmark's `--csv`.
package enum CSVReport {
    package static let header =
        "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\","
        + "\"p99_latency_ms\",\"max_latency_ms\"\n"

    package static func row(_ result: TestResult) -> String {
        let latencies = result.latencies
        let numbers =
            [fixed(result.requestsPerSecond, 2)]
            + [
                latencies.meanMilliseconds, latencies.minMilliseconds, latencies.milliseconds(at: 50),
                latencies.milliseconds(at: 95), latencies.milliseconds(at: 99), latencies.maxMilliseconds,
            ].map { fixed($0, 3) }
        return ([result.title.replacing("\"", with: "\"\"")] + numbers).map { "\"\($0)\"" }.joined(separator: ",")
            + "\n"
    }
}
