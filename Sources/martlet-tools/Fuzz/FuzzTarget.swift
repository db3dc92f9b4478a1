import MartletBase

/// One parser of hostile input, as a fuzzer sees it. A new fuzzer is one value in ``registry``.
struct FuzzTarget: Sendable {
    var name: String
    var summary: String
    /// Genuine inputs to start from. The same on every run: a case is named by seed and number alone.
    var corpus: @Sendable () -> [[UInt8]]
    /// Words of the format, which random bytes would hardly ever hit.
    var tokens: [[UInt8]] = []
    /// Makes lengths and checksums right again, so that mutants get past the first check. Applied to most cases.
    var repair: @Sendable (inout [UInt8], inout PRNG) -> Void = { _, _ in }
    /// Parses one input. A trap, a hang, or growth is a failure; so is a broken promise, by ``violated(_:)``.
    var run: @Sendable ([UInt8], inout PRNG) -> Void

    /// Every parser that reads what others sent or what stood in a file.
    static let registry: [FuzzTarget] = [
        .resp, .replies, .rdb, .dump, .hyperLogLog, .primaryLink, .bus, .nodesConf, .configuration,
        .scriptLibraries, .functions, .scripts,
    ]

    static func named(_ name: String) -> FuzzTarget? { registry.first { $0.name == name } }
}

/// Ends the process: the parser broke a promise other than not to crash.
func violated(_ promise: String) -> Never {
    fatalError("broken promise: \(promise)")
}

/// Splits an input at random places, as a network does: mostly into few pieces, sometimes byte by byte.
func randomPieces(of input: [UInt8], _ random: inout PRNG) -> [ArraySlice<UInt8>] {
    let lengthMax =
        switch random.below(4) {
        case 0: 1
        case 1: 16
        case 2: 300
        default: max(1, input.count)
        }
    // Byte by byte is for short inputs: some parsers look at a whole unfinished item each time.
    let length = input.count > 4096 ? max(lengthMax, 300) : lengthMax
    var pieces: [ArraySlice<UInt8>] = []
    var start = 0
    while start < input.count {
        let end = min(input.count, start + 1 + random.below(length))
        pieces.append(input[start..<end])
        start = end
    }
    return pieces
}
