import Histogram

/// The reports of redis-benchmark, line by line, and below them what it does not measure.
package enum TextReport {
    package static func full(_ result: TestResult, _ context: ReportContext) -> String {
        let latencies = result.latencies
        var lines = [
            "====== \(result.title) ======",
            "  \(result.requestCount) requests completed in \(fixed(result.seconds, 2)) seconds",
            "  \(context.connectionCount) parallel clients",
            "  \(context.payload) bytes payload",
            "  keep alive: \(context.keepsAlive ? 1 : 0)",
        ]
        if context.isCluster {
            lines.append("  cluster mode: yes (\(context.nodes.count) masters)")
            for (index, node) in context.nodes.enumerated() {
                guard let save = node.save, let appendOnly = node.appendOnly else { continue }
                lines.append("  node [\(index)] configuration:")
                lines.append("    save: \(save.isEmpty ? "NONE" : save)")
                lines.append("    appendonly: \(appendOnly)")
            }
        } else if let node = context.nodes.first, let save = node.save, let appendOnly = node.appendOnly {
            lines.append("  host configuration \"save\": \(save)")
            lines.append("  host configuration \"appendonly\": \(appendOnly)")
        }
        lines.append("  multi-thread: \(context.threadCount == nil ? "no" : "yes")")
        if let count = context.threadCount { lines.append("  threads: \(count)") }
        if let rate = context.rate { lines.append("  rate: \(fixed(rate, 0)) requests per second, open loop") }

        lines += ["", "Latency by percentile distribution:"]
        lines += percentileDistribution(latencies)
        lines += ["", "Cumulative distribution of latencies:"]
        lines += cumulativeDistribution(latencies)
        lines += [
            "", "Summary:",
            "  throughput summary: \(fixed(result.requestsPerSecond, 2)) requests per second",
            "  latency summary (msec):",
            row("   ", ["avg", "min", "p50", "p95", "p99", "max"]),
            row(
                "   ",
                [
                    latencies.meanMilliseconds, latencies.minMilliseconds, latencies.milliseconds(at: 50),
                    latencies.milliseconds(at: 95), latencies.milliseconds(at: 99), latencies.maxMilliseconds,
                ].map { fixed($0, 3) }),
            "  latency tail (msec):",
            row("   ", TestResult.percentiles.filter { $0 > 99 }.map { "p\(shortened($0))" }),
            row("   ", TestResult.percentiles.filter { $0 > 99 }.map { fixed(latencies.milliseconds(at: $0), 3) }),
        ]
        if result.operations.count > 1 { lines += operations(result) }
        lines.append("  generator: \(generator(result))")
        lines += remarks(result).map { "  \($0)" }
        if result.timeline.count > 1 { lines += timeline(result) }
        return lines.joined(separator: "\n") + "\n\n"
    }

    /// One line for `-q`.
    package static func quiet(_ result: TestResult) -> String {
        let line =
            "\(result.title): \(fixed(result.requestsPerSecond, 2)) requests per second, "
            + "p50=\(fixed(result.latencies.milliseconds(at: 50), 3)) msec\n"
        return line + remarks(result).map { "  \($0)\n" }.joined()
    }

    /// Text of a server, without what a terminal would obey.
    package static func printable(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7F ? "." : $0 }))
    }

    /// What a reader must know before the figures are believed.
    package static func remarks(_ result: TestResult) -> [String] {
        var remarks: [String] = []
        for (word, error) in result.errors.sorted(by: { $0.key < $1.key }) {
            remarks.append(
                "errors: \(error.count) of \(result.replyCount) replies were \(printable(word)): "
                    + printable(error.example))
        }
        if result.movedCount + result.askCount > 0 {
            remarks.append("redirections: \(result.movedCount) MOVED, \(result.askCount) ASK")
        }
        if result.missedCount > 0 {
            remarks.append(
                "behind schedule: \(result.missedCount) requests were due and not sent, for want of a connection "
                    + "that had its replies")
        }
        return remarks
    }

    /// Whether the generator, and not the server, was the limit.
    package static func generator(_ result: TestResult) -> String {
        "\(fixed(result.generatorMicrosecondsPerRequest, 3)) µs of processor time per request, "
            + "\(result.threadCount == 1 ? "its thread" : "its \(result.threadCount) threads") "
            + "busy for \(fixed(min(result.generatorLoad, 1) * 100, 0)) %" + delays(result)
    }

    private static func delays(_ result: TestResult) -> String {
        guard result.delays.totalCount > 0 else { return "" }
        let figures = [("p50", 50), ("p99", 99), ("max", 100)].map { name, percent in
            "\(name) \(fixed(result.delays.milliseconds(at: percent), 3))"
        }
        return "; sent late by its own fault: \(figures.joined(separator: ", ")) msec"
    }

    private static func operations(_ result: TestResult) -> [String] {
        var lines = [
            "  by operation (latency in msec):",
            row("   ", ["requests", "rps", "avg", "p50", "p99", "p99.9", "max"]) + "  operation",
        ]
        for operation in result.operations {
            let latencies = operation.latencies
            let numbers =
                [
                    latencies.meanMilliseconds, latencies.milliseconds(at: 50), latencies.milliseconds(at: 99),
                    latencies.milliseconds(at: 99.9), latencies.maxMilliseconds,
                ].map { fixed($0, 3) }
            let rate = result.seconds > 0 ? Double(latencies.totalCount) / result.seconds : 0
            lines.append(row("   ", ["\(latencies.totalCount)", fixed(rate, 0)] + numbers) + "  \(operation.label)")
        }
        return lines
    }

    private static func timeline(_ result: TestResult) -> [String] {
        var lines = [
            "", "By second (latency in msec):",
            row("", ["second", "requests", "errors", "avg", "p50", "p99", "p99.9", "max"]),
        ]
        for second in result.timeline {
            let latencies = [second.mean, second.p50, second.p99, second.p999, second.max].map { fixed($0, 3) }
            lines.append(row("", ["\(second.second)", "\(second.requests)", "\(second.errors)"] + latencies))
        }
        return lines
    }

    private static func row(_ indent: String, _ cells: [String]) -> String {
        indent + cells.map { " " + padded($0, 9) }.joined()
    }

    /// As redis-benchmark walks: one step for each halving of what is left above.
    private static func percentileDistribution(_ latencies: LatencyHistogram) -> [String] {
        var lines: [String] = []
        var previous: UInt64?
        for value in latencies.percentiles(ticksPerHalfDistance: 1) {
            guard value.totalCountToThisValue != previous || value.totalCountToThisValue == latencies.totalCount else {
                continue
            }
            lines.append(line(value.percentile, value.value, value.totalCountToThisValue))
            previous = value.totalCountToThisValue
        }
        return lines
    }

    /// Steps of 0.1 ms up to 2 ms, then of 1 ms; steps that add nothing are left out.
    private static func cumulativeDistribution(_ latencies: LatencyHistogram) -> [String] {
        guard latencies.totalCount > 0 else { return [] }
        var lines: [String] = []
        var bound: UInt64 = 100_000
        var cumulative: UInt64 = 0
        var shown: UInt64?
        func show() {
            guard shown != cumulative else { return }
            lines.append(line(Double(cumulative) / Double(latencies.totalCount) * 100, bound, cumulative))
            shown = cumulative
        }
        for value in latencies.recordedValues() {
            if value.value > bound {
                show()
                while value.value > bound { bound += bound < 2_000_000 ? 100_000 : 1_000_000 }
            }
            cumulative += value.count
        }
        show()
        return lines
    }

    private static func line(_ percent: Double, _ nanoseconds: UInt64, _ cumulative: UInt64) -> String {
        "\(fixed(percent, 3))% <= \(fixed(Double(nanoseconds) / 1e6, 3)) milliseconds (cumulative count \(cumulative))"
    }

    /// `99.9`, and `50` instead of `50.0`.
    static func shortened(_ number: Double) -> String {
        number == number.rounded() ? String(Int(number)) : String(number)
    }
}
