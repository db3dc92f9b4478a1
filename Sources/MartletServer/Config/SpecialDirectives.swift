import MartletBase

/// A directive that no common kind fits: how it is assigned, shown and rewritten.
struct SpecialDirective: Sendable {
    let assign: @Sendable ([[UInt8]], inout ServerConfiguration) throws(DirectiveError) -> Void
    let shown: @Sendable (ServerConfiguration) -> [UInt8]
    let rewrite: @Sendable (ServerConfiguration) -> DirectiveRewrite
}

extension SpecialDirective {
    /// `save <seconds> <changes> …`, or `save ""` for none. Only in files a further line adds to the ones before it:
    /// that is the loader's business.
    static let save = SpecialDirective(
        assign: { words, configuration throws(DirectiveError) in
            let words = words == [[]] ? [] : words
            let invalid = DirectiveError(text: "Invalid save parameters")
            guard words.count % 2 == 0 else { throw invalid }
            var points: [SavePoint] = []
            for index in stride(from: 0, to: words.count, by: 2) {
                guard let seconds = parseLenientInteger(words[index])?.value, seconds >= 1,
                    let changes = parseLenientInteger(words[index + 1])?.value, changes >= 0
                else { throw invalid }
                points.append(SavePoint(seconds: Int(seconds), changes: Int(Int32(clamping: changes))))
            }
            configuration.savePoints = points
        },
        shown: { Array($0.savePoints.map { "\($0.seconds) \($0.changes)" }.joined(separator: " ").utf8) },
        rewrite: { configuration in
            guard !configuration.savePoints.isEmpty else { return .lines([Array("save \"\"".utf8)]) }
            return .lines(configuration.savePoints.map { Array("save \($0.seconds) \($0.changes)".utf8) })
        })

    /// `client-output-buffer-limit <class> <hard> <soft> <soft seconds> …`
    static let clientOutputBufferLimit = SpecialDirective(
        assign: { words, configuration throws(DirectiveError) in
            guard words.count % 4 == 0 else {
                throw DirectiveError(text: "Wrong number of arguments in buffer limit configuration.")
            }
            var limits = configuration.outputBufferLimits
            for index in stride(from: 0, to: words.count, by: 4) {
                let path = try limitPath(of: words[index])
                guard let hard = parseMemory(words[index + 1]), let soft = parseMemory(words[index + 2]),
                    let seconds = parseLenientInteger(words[index + 3]).map({ Int32(truncatingIfNeeded: $0.value) }),
                    seconds >= 0
                else {
                    throw DirectiveError(
                        text: "Error in hard, soft or soft_seconds setting in buffer limit configuration.")
                }
                limits[keyPath: path] = OutputBufferLimit(hardBytes: hard, softBytes: soft, softSeconds: Int(seconds))
            }
            configuration.outputBufferLimits = limits
        },
        shown: { configuration in
            let limits = configuration.outputBufferLimits
            let parts = [("normal", limits.normal), ("slave", limits.replica), ("pubsub", limits.pubSub)]
            let texts = parts.map { "\($0.0) \($0.1.hardBytes) \($0.1.softBytes) \($0.1.softSeconds)" }
            return Array(texts.joined(separator: " ").utf8)
        },
        rewrite: { configuration in
            let limits = configuration.outputBufferLimits
            let parts = [("normal", limits.normal), ("replica", limits.replica), ("pubsub", limits.pubSub)]
            let lines = parts.map { name, limit in
                let hard = formatMemory(limit.hardBytes)
                let soft = formatMemory(limit.softBytes)
                return Array("client-output-buffer-limit \(name) \(hard) \(soft) \(limit.softSeconds)".utf8)
            }
            return limits == OutputBufferLimits() ? .linesIfPresent(lines) : .lines(lines)
        })

    private static func limitPath(
        of word: [UInt8]
    ) throws(DirectiveError) -> WritableKeyPath<OutputBufferLimits, OutputBufferLimit> {
        if word.equalsIgnoringCase("normal".utf8) { return \.normal }
        if word.equalsIgnoringCase("slave".utf8) || word.equalsIgnoringCase("replica".utf8) { return \.replica }
        if word.equalsIgnoringCase("pubsub".utf8) { return \.pubSub }
        throw DirectiveError(text: "Invalid client class specified in buffer limit configuration.")
    }

    /// `oom-score-adj-values <primary> <replica> <child>`
    static let oomScoreAdjustValues = SpecialDirective(
        assign: { words, configuration throws(DirectiveError) in
            guard words.count == 3 else { throw .wrongArgumentCount }
            var values: [Int] = []
            for word in words {
                guard let value = parseLenientInteger(word)?.value, value >= -2000, value <= 2000 else {
                    throw DirectiveError(
                        text: "Invalid oom-score-adj-values, elements must be between -2000 and 2000.")
                }
                values.append(Int(value))
            }
            configuration.oomScoreValues = values
        },
        shown: { Array($0.oomScoreValues.map(String.init).joined(separator: " ").utf8) },
        rewrite: { configuration in
            let values = configuration.oomScoreValues
            let line = Array("oom-score-adj-values \(values.map(String.init).joined(separator: " "))".utf8)
            return values == ServerConfiguration().oomScoreValues ? .linesIfPresent([line]) : .lines([line])
        })

    /// `notify-keyspace-events <letters>`
    static let notifyKeyspaceEvents = SpecialDirective(
        assign: { words, configuration throws(DirectiveError) in
            guard words.count == 1 else { throw .wrongArgumentCount }
            guard let events = KeyspaceEvents(letters: words[0]) else {
                throw DirectiveError(text: "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
            }
            configuration.keyspaceEvents = events
        },
        shown: { $0.keyspaceEvents.text },
        rewrite: { configuration in
            let line = Array("notify-keyspace-events ".utf8) + quotedArgument(configuration.keyspaceEvents.text)
            return configuration.keyspaceEvents.isEmpty ? .linesIfPresent([line]) : .lines([line])
        })

    /// Source: Redis 7.0 server.h, CONFIG_BINDADDR_MAX.
    static let bindAddressesMax = 16

    /// `bind <address> …`, or `bind ""` for none.
    static let bind = SpecialDirective(
        assign: { words, configuration throws(DirectiveError) in
            guard words.count <= bindAddressesMax else {
                throw DirectiveError(text: "Too many bind addresses specified.")
            }
            var addresses: [String] = []
            for word in words where !(words.count == 1 && word.isEmpty) {
                addresses.append(try Directive.text(of: word))
            }
            configuration.bindAddresses = addresses
        },
        shown: { Array($0.bindAddresses.joined(separator: " ").utf8) },
        rewrite: { configuration in
            let addresses = configuration.bindAddresses
            if addresses == ServerConfiguration().bindAddresses { return .removed }
            return .lines([Array("bind \(addresses.isEmpty ? "\"\"" : addresses.joined(separator: " "))".utf8)])
        })

    /// `replicaof <host> <port>`, or `replicaof no one`.
    static let replicaOf = SpecialDirective(
        assign: { words, configuration throws(DirectiveError) in
            guard words.count == 2 else { throw .wrongArgumentCount }
            if words[0].equalsIgnoringCase("no".utf8), words[1].equalsIgnoringCase("one".utf8) {
                configuration.replicaOf = nil
                return
            }
            guard let port = parseLenientInteger(words[1])?.value, port >= 0, port <= 65535 else {
                throw DirectiveError(text: "Invalid master port")
            }
            configuration.replicaOf = ReplicaOf(host: try Directive.text(of: words[0]), port: Int(port))
        },
        shown: { $0.replicaOf.map { Array("\($0.host) \($0.port)".utf8) } ?? [] },
        rewrite: { configuration in
            guard !configuration.isClusterEnabled, let primary = configuration.replicaOf else { return .removed }
            return .lines([Array("replicaof \(primary.host) \(primary.port)".utf8)])
        })

    /// `latency-tracking-info-percentiles <percentile> …`, or `""` for none.
    static let latencyPercentiles = SpecialDirective(
        assign: { words, configuration throws(DirectiveError) in
            var percentiles: [Double] = []
            for word in words where !(words.count == 1 && word.isEmpty) {
                guard let percentile = word.withUnsafeBytes(parseDouble) else {
                    throw DirectiveError(text: "Invalid latency-tracking-info-percentiles parameters")
                }
                guard percentile >= 0, percentile <= 100 else {
                    throw DirectiveError(
                        text: "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]")
                }
                percentiles.append(percentile)
            }
            configuration.latencyPercentiles = percentiles
        },
        shown: { Array($0.latencyPercentiles.map(percentileText).joined(separator: " ").utf8) },
        rewrite: { configuration in
            let texts = configuration.latencyPercentiles.map(percentileText)
            let value = texts.isEmpty ? "\"\"" : texts.joined(separator: " ")
            return .lines([Array("latency-tracking-info-percentiles \(value)".utf8)])
        })

    /// `dir <path>`. Whoever reads it changes the working directory and stores where that led.
    static let directory = SpecialDirective(
        assign: { words, configuration throws(DirectiveError) in
            guard words.count == 1 else { throw .wrongArgumentCount }
            configuration.directory = try Directive.text(of: words[0])
        },
        shown: { Array($0.directory.utf8) },
        rewrite: { configuration in
            if configuration.directory.isEmpty { return .removed }
            return .lines([Array("dir ".utf8) + quotedArgument(configuration.directory.utf8)])
        })
}

/// Up to six decimals without trailing zeros: 99.9, 50. `percentile` is 0 to 100.
func percentileText(_ percentile: Double) -> String {
    let millionths = Int(percentile * 1_000_000 + 0.5)
    var text = "\(millionths / 1_000_000)"
    let decimals = millionths % 1_000_000
    guard decimals > 0 else { return text }
    var digits = String(1_000_000 + decimals).dropFirst()
    while digits.last == "0" { digits.removeLast() }
    text += "." + digits
    return text
}
