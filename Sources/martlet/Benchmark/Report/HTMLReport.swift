import Histogram

/// One page with tables and plots that needs nothing from outside: it can be mailed, archived and opened without a network.
package enum HTMLReport {
    package static func text(_ results: [TestResult], _ context: ReportContext) -> String {
        """
        <!DOCTYPE html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>martlet benchmark</title>
        <style>
        \(style)
        </style>
        </head>
        <body>
        <h1>martlet benchmark</h1>
        \(facts(context))
        \(summary(results))
        \(results.map(section).joined(separator: "\n"))
        </body>
        </html>

        """
    }

    private static let style = """
        :root { color-scheme: light dark; }
        body { font: 15px/1.45 system-ui, sans-serif; max-width: 860px; margin: 2em auto; padding: 0 1em; }
        table { border-collapse: collapse; margin: 1em 0; }
        th, td { padding: .2em .7em; text-align: right; border-bottom: 1px solid #8884; }
        th:first-child, td:first-child { text-align: left; }
        code { font-size: 13px; overflow-wrap: anywhere; }
        svg { width: 100%; height: auto; margin: .6em 0; font: 11px system-ui, sans-serif; fill: currentColor; }
        svg .title { font-size: 13px; font-weight: 600; }
        svg .grid { stroke: #8883; }
        .warning { color: #c05621; }
        """

    private static func facts(_ context: ReportContext) -> String {
        let load =
            context.rate.map { "\(fixed($0, 0)) requests per second, open loop" } ?? "closed loop"
        var rows = [
            ("Command", "<code>\(escaped(context.commandLine))</code>"),
            ("Servers", escaped(context.nodes.map(\.name).joined(separator: ", "))),
            (
                "Load",
                "\(load); \(context.connectionCount) connections, pipeline \(context.pipeline), "
                    + "threads \(context.threadCount ?? 1)"
            ),
            ("Values", escaped(context.payload) + " bytes"),
        ]
        if let count = context.keyCount { rows.append(("Keys", "\(count), \(escaped(context.keys))")) }
        for node in context.nodes {
            guard let save = node.save, let appendOnly = node.appendOnly else { continue }
            rows.append(
                (escaped(node.name), "save \"\(escaped(save))\", appendonly \(escaped(appendOnly))"))
        }
        return "<table>"
            + rows.map { "<tr><td>\($0.0)</td><td style=\"text-align:left\">\($0.1)</td></tr>" }.joined(separator: "\n")
            + "</table>"
    }

    private static func summary(_ results: [TestResult]) -> String {
        let head =
            ["test", "requests", "per second", "errors", "avg"]
            + TestResult.percentiles.map { "p\(TextReport.shortened($0))" } + ["max"]
        return "<h2>Summary</h2>\n<p>Latencies in milliseconds.</p>\n"
            + table(head, results.map { [escaped($0.title)] + cells($0.latencies, $0.seconds, errors: $0.errorCount) })
    }

    private static func cells(_ latencies: LatencyHistogram, _ seconds: Double, errors: Int?) -> [String] {
        let rate = seconds > 0 ? Double(latencies.totalCount) / seconds : 0
        let values =
            [latencies.meanMilliseconds] + TestResult.percentiles.map { latencies.milliseconds(at: $0) }
            + [latencies.maxMilliseconds]
        return ["\(latencies.totalCount)", fixed(rate, 0)] + (errors.map { ["\($0)"] } ?? [])
            + values.map { fixed($0, 3) }
    }

    private static func table(_ head: [String], _ rows: [[String]]) -> String {
        "<table><tr>" + head.map { "<th>\($0)</th>" }.joined() + "</tr>\n"
            + rows.map { "<tr>" + $0.map { "<td>\($0)</td>" }.joined() + "</tr>" }.joined(separator: "\n") + "</table>"
    }

    private static func section(_ result: TestResult) -> String {
        var parts = ["<h2>\(escaped(result.title))</h2>"]
        parts += TextReport.remarks(result).map { "<p class=\"warning\">\(escaped($0))</p>" }
        if result.operations.count > 1 {
            let head =
                ["operation", "requests", "per second", "avg"]
                + TestResult.percentiles.map { "p\(TextReport.shortened($0))" } + ["max"]
            parts.append(
                table(
                    head,
                    result.operations.map { [escaped($0.label)] + cells($0.latencies, result.seconds, errors: nil) }))
        }
        parts += plots(result).map { $0.svg() }
        parts.append("<p>Load generator: \(TextReport.generator(result)).</p>")
        return parts.joined(separator: "\n")
    }

    private static func plots(_ result: TestResult) -> [LinePlot] {
        // The last second is rarely a whole one.
        let lastLength = result.seconds - Double(max(0, result.timeline.count - 1))
        let rates = result.timeline.map { row in
            let length = row.second == result.timeline.count - 1 ? min(max(lastLength, 0.001), 1) : 1
            return (x: Double(row.second), y: Double(row.requests) / length)
        }
        func latencies(_ name: String, _ value: (TimelineRow) -> Double) -> LinePlot.Line {
            LinePlot.Line(name: name, points: result.timeline.map { (x: Double($0.second), y: value($0)) })
        }
        return [
            LinePlot(
                title: "Throughput", xAxis: ("second", .linear), yAxis: ("requests per second", .linear),
                lines: [LinePlot.Line(name: "requests", points: rates)]),
            LinePlot(
                title: "Latency over time", xAxis: ("second", .linear), yAxis: ("milliseconds", .logarithmic),
                lines: [
                    latencies("p50", \.p50), latencies("p99", \.p99), latencies("p99.9", \.p999),
                    latencies("max", \.max),
                ]),
            LinePlot(
                title: "Latency by percentile", xAxis: ("percentile", .nines), yAxis: ("milliseconds", .logarithmic),
                lines: [
                    LinePlot.Line(
                        name: "all requests", points: result.distribution.map { (x: $0.percent, y: $0.milliseconds) })
                ]),
        ]
    }
}
