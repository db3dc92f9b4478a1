import Histogram
import Testing
import martlet

@Suite struct ReportTests {
    /// 1000 GETs of 0.1 ms to 100 ms, 10 SETs of 1 s, over two seconds.
    private func result(errors: [String: ErrorCount] = [:]) throws -> TestResult {
        var gets = LatencyHistogram.latencies(significantDigits: 3)
        for count in 1...1000 { gets.record(UInt64(count) * 100_000) }
        var sets = LatencyHistogram.latencies(significantDigits: 3)
        sets.record(1_000_000_000, count: 10)
        let none = LatencyHistogram.latencies(significantDigits: 3)
        var tally = Tally(labelCount: 2, significantDigits: 3)
        tally.add(WorkerReport(latencies: [gets, none], errors: errors, errorCount: 3, movedCount: 1, second: 0))
        tally.add(WorkerReport(latencies: [none, sets], movedCount: 1, second: 1))
        return TestResult(
            title: "a \"mix\" <1>", labels: ["GET", "SET"], tally: tally, seconds: 2, generatorSeconds: 0.0101,
            threadCount: 1)
    }

    private var context: ReportContext {
        var context = ReportContext(nodes: [.init(name: "127.0.0.1:6379", save: "3600 1", appendOnly: "no")])
        context.commandLine = "martlet benchmark <&>"
        return context
    }

    @Test("A result sums up its operations")
    func sums() throws {
        let result = try result()
        #expect(result.requestCount == 1010 && result.requestsPerSecond == 505)
        #expect(result.generatorMicrosecondsPerRequest == 10)
        #expect(result.timeline.map(\.requests) == [1000, 10] && result.timeline.map(\.errors) == [3, 0])
        #expect(result.distribution.last?.cumulativeCount == 1010)
    }

    @Test("The text has redis-benchmark's lines in its order")
    func text() throws {
        let lines = TextReport.full(try result(), context).split(separator: "\n", omittingEmptySubsequences: false)
        #expect(
            lines[..<11] == [
                "====== a \"mix\" <1> ======", "  1010 requests completed in 2.00 seconds", "  50 parallel clients",
                "  3 bytes payload", "  keep alive: 1", "  host configuration \"save\": 3600 1",
                "  host configuration \"appendonly\": no", "  multi-thread: no", "",
                "Latency by percentile distribution:", "0.099% <= 0.100 milliseconds (cumulative count 1)",
            ])
        let summary = lines.firstIndex(of: "Summary:")!
        #expect(lines[summary + 1] == "  throughput summary: 505.00 requests per second")
        #expect(lines[summary + 3] == "          avg       min       p50       p95       p99       max")
        #expect(lines[summary + 4].hasSuffix(" 1000.000") && lines[summary + 4].count == 63)
        #expect(lines.contains("0.099% <= 0.100 milliseconds (cumulative count 1)"))
        #expect(lines.contains("  generator: 10.000 µs of processor time per request, its thread busy for 1 %"))
        #expect(!lines.contains { $0.contains("sent late") })
        #expect(lines.contains("  redirections: 2 MOVED, 0 ASK"))
    }

    @Test("The steps of the cumulative distribution widen above 2 ms, and none without new requests is shown")
    func cumulative() throws {
        let text = TextReport.full(try result(), context)
        let start = text.ranges(of: "Cumulative distribution of latencies:\n")[0].upperBound
        let lines = text[start...].split(separator: "\n").prefix { $0.contains("<=") }
        let bounds = lines.map { $0.split(separator: " ")[2] }
        #expect(bounds.prefix(3) == ["0.100", "0.200", "0.300"])
        #expect(bounds[19...21] == ["2.000", "3.000", "4.000"])
        #expect(bounds.suffix(2) == ["101.000", "1001.000"] || bounds.suffix(2) == ["100.000", "1001.000"])
        #expect(lines.last!.hasPrefix("100.000% "))
    }

    @Test("One line for -q, and what went wrong below it")
    func quiet() throws {
        let errors = ["ERR": ErrorCount(count: 7, example: "ERR unknown command")]
        let lines = TextReport.quiet(try result(errors: errors)).split(separator: "\n")
        #expect(lines[0].hasPrefix("a \"mix\" <1>: 505.00 requests per second, p50=50."))
        #expect(lines[1] == "  errors: 7 of 1010 replies were ERR: ERR unknown command")
    }

    @Test("CSV has redis-benchmark's columns")
    func csv() throws {
        let row = CSVReport.row(try result())
        #expect(row.hasPrefix("\"a \"\"mix\"\" <1>\",\"505.00\",") && row.hasSuffix("\"1000.000\"\n"))
        #expect(row.split(separator: ",").count == CSVReport.header.split(separator: ",").count)
    }

    @Test("JSON quotes what must be quoted")
    func json() {
        let value = JSON.object([
            ("a\"b", .string("\u{1}\n\\é")), ("n", .number(1.23456)),
            ("list", .array([.null, .boolean(true), .integer(-1)])),
            ("nan", .number(.nan)), ("empty", .array([])),
        ])
        #expect(
            value.text() == """
                {
                  "a\\"b": "\\u0001\\n\\\\é",
                  "n": 1.235,
                  "list": [null, true, -1],
                  "nan": null,
                  "empty": []
                }
                """)
    }

    @Test("The JSON report has all results")
    func jsonReport() throws {
        let text = JSONReport.text([try result()], context)
        #expect(text.contains("\"title\": \"a \\\"mix\\\" <1>\"") && text.contains("\"requests\": 1010"))
        #expect(text.contains("\"p99.999\": 1000.000") && text.contains("{\"second\": 1, \"requests\": 10,"))
        #expect(text.contains("\"moved\": 2") && text.hasSuffix("}\n"))
    }

    @Test("The HTML report stands alone and escapes what it is given")
    func html() throws {
        let text = HTMLReport.text([try result()], context)
        #expect(text.contains("a &quot;mix&quot; &lt;1&gt;") && text.contains("martlet benchmark &lt;&amp;&gt;"))
        #expect(text.components(of: "<svg").count == 4 && text.components(of: "</svg>").count == 4)
        for outside in ["http:", "https:", "src=", "@import", "url(", "<script"] { #expect(!text.contains(outside)) }
        #expect(!text.contains("nan") && !text.contains("inf\""))
    }

    @Test("A plot of nothing or of one point is still a plot")
    func emptyPlots() {
        for points in [[], [(x: 0.0, y: 0.0)], [(x: 100.0, y: 5.0)]] {
            for kind in [LinePlot.Axis.linear, .logarithmic, .nines] {
                let plot = LinePlot(
                    title: "t", xAxis: ("x", kind), yAxis: ("y", kind),
                    lines: [LinePlot.Line(name: "l", points: points)])
                #expect(plot.svg().hasSuffix("</svg>") && !plot.svg().contains("nan"))
            }
        }
    }

    @Test("Late reports count for the first second that is open, and empty seconds have rows")
    func lateReports() {
        var one = LatencyHistogram.latencies(significantDigits: 3)
        one.record(5)
        var timeline = Timeline(significantDigits: 3)
        timeline.add(one, errors: 0, second: 0)
        timeline.add(one, errors: 0, second: 1)
        timeline.add(one, errors: 1, second: 0)
        timeline.add(one, errors: 0, second: 4)
        timeline.add(one, errors: 0, second: 0)
        timeline.finish()
        #expect(timeline.rows.map(\.second) == [0, 1, 2, 3, 4])
        #expect(timeline.rows.map(\.requests) == [2, 1, 0, 1, 1] && timeline.rows[0].errors == 1)
    }
}

extension String {
    fileprivate func components(of separator: String) -> [Substring] {
        split(separator: separator, omittingEmptySubsequences: false)
    }
}
