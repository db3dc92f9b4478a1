import Histogram

/// All results as one JSON object; latencies in milliseconds.
package enum JSONReport {
    package static func text(_ results: [TestResult], _ context: ReportContext) -> String {
        JSON.object([
            ("generator", .string("martlet benchmark")),
            ("command_line", .string(context.commandLine)),
            ("started_at", .integer(Int(context.startedAt))),
            ("settings", settings(context)),
            ("servers", .array(context.nodes.map(server))),
            ("tests", .array(results.map(test))),
        ]).text() + "\n"
    }

    private static func settings(_ context: ReportContext) -> JSON {
        .object([
            ("clients", .integer(context.connectionCount)), ("pipeline", .integer(context.pipeline)),
            ("threads", .integer(context.threadCount ?? 1)), ("keep_alive", .boolean(context.keepsAlive)),
            ("cluster", .boolean(context.isCluster)), ("value_bytes", .string(context.payload)),
            ("keys", .string(context.keys)), ("key_count", context.keyCount.map { .integer($0) } ?? .null),
            ("rate", context.rate.map { .number($0) } ?? .null), ("warmup_seconds", .number(context.warmupSeconds)),
            // As text: half of all seeds do not fit a JSON number.
            ("seed", .string(String(context.seed))),
        ])
    }

    private static func server(_ node: ReportContext.Node) -> JSON {
        .object([
            ("address", .string(node.name)), ("save", node.save.map { .string($0) } ?? .null),
            ("appendonly", node.appendOnly.map { .string($0) } ?? .null),
        ])
    }

    private static func test(_ result: TestResult) -> JSON {
        .object([
            ("title", .string(result.title)), ("seconds", .number(result.seconds)),
            ("requests", .integer(result.requestCount)), ("errors", .integer(result.errorCount)),
            ("requests_per_second", .number(result.requestsPerSecond)),
            ("moved", .integer(result.movedCount)), ("ask", .integer(result.askCount)),
            ("behind_schedule", .integer(result.missedCount)),
            ("generator_us_per_request", .number(result.generatorMicrosecondsPerRequest)),
            ("generator_load", .number(result.generatorLoad)),
            ("generator_delay_ms", result.delays.totalCount > 0 ? latency(result.delays) : .null),
            ("latency_ms", latency(result.latencies)),
            (
                "error_replies",
                .array(
                    result.errors.sorted { $0.key < $1.key }.map { word, error in
                        .object([
                            ("word", .string(word)), ("count", .integer(error.count)),
                            ("example", .string(error.example)),
                        ])
                    })
            ),
            (
                "operations",
                .array(
                    result.operations.map { operation in
                        .object([
                            ("label", .string(operation.label)),
                            ("requests", .integer(Int(operation.latencies.totalCount))),
                            ("latency_ms", latency(operation.latencies)),
                        ])
                    })
            ),
            ("timeline", .array(result.timeline.map(row))),
            ("percentile_distribution", .array(result.distribution.map(point))),
        ])
    }

    private static func latency(_ latencies: LatencyHistogram) -> JSON {
        let percentiles = TestResult.percentiles.map { percent in
            ("p\(TextReport.shortened(percent))", JSON.number(latencies.milliseconds(at: percent)))
        }
        return .object(
            [("min", .number(latencies.minMilliseconds)), ("avg", .number(latencies.meanMilliseconds))] + percentiles
                + [("max", .number(latencies.maxMilliseconds))])
    }

    private static func row(_ row: TimelineRow) -> JSON {
        .object([
            ("second", .integer(row.second)), ("requests", .integer(row.requests)), ("errors", .integer(row.errors)),
            ("avg", .number(row.mean)), ("p50", .number(row.p50)), ("p95", .number(row.p95)), ("p99", .number(row.p99)),
            ("p99.9", .number(row.p999)), ("max", .number(row.max)),
        ])
    }

    private static func point(_ point: TestResult.DistributionPoint) -> JSON {
        // The percentiles that matter have more than three decimals.
        .object([
            ("percentile", .string(fixed(point.percent, 6))), ("ms", .number(point.milliseconds)),
            ("count", .integer(point.cumulativeCount)),
        ])
    }
}
