import ArgumentParser
import Glibc
import MartletBase

// Fuzzing of everything that reads hostile bytes.
//
// 1. A case is a pure function of (target, seed, number): an input of the target's corpus is mutated, mostly repaired
//    (checksums, lengths) so that it gets past the first check, and handed to the parser.
// 2. The cases run in a child process that writes the number of the case it is at, and when it began, into a page shared
//    with its parent. The parent sees a crash (the child ended), a hang (a case is older than the deadline) and growth
//    (resident memory keeps above what it was after the first cases).
// 3. A failure names target, seed and case, and the input is saved: `martlet-tools fuzz TARGET --seed S --case N` runs
//    it again.
//
// There is no coverage feedback: inputs are small formats with good corpora, and a case costs microseconds.

struct FuzzCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fuzz",
        abstract: "Throw mutated inputs at a parser; a crash, a hang, growth or a broken promise fails.",
        discussion: "Targets:\n"
            + FuzzTarget.registry.map { "  \($0.name): \($0.summary)" }.joined(separator: "\n"))

    @Argument(help: "A target, or 'all'.")
    var target: String

    @Option(help: "For how long, for each target.")
    var seconds: Double = 10

    @Option(help: "Where the history starts; default: another one on each run.")
    var seed: UInt64?

    @Option(name: .customLong("case"), help: "Run only this case, in this process.")
    var number: UInt64?

    @Option(help: "Seconds that one case may take.")
    var deadline: Double = 5

    @Option(help: "Megabytes by which memory may grow after the first cases.")
    var growth = 96

    @Option(help: .hidden)
    var worker: String?

    func run() throws {
        let seed = seed ?? UInt64.random(in: 0..<1_000_000_000)
        let targets = target == "all" ? FuzzTarget.registry : FuzzTarget.registry.filter { $0.name == target }
        guard !targets.isEmpty else {
            throw ValidationError("no target '\(target)'; there are \(FuzzTarget.registry.map(\.name)) and all")
        }
        if let worker {
            let history = FuzzHistory(targets[0], seed: seed)
            let page = try ProgressPage(path: worker)
            history.runCases(from: page.number, page)
        }
        if let number {
            for target in targets {
                let history = FuzzHistory(target, seed: seed)
                print("\(target.name) seed \(seed) case \(number): \(history.input(number).count) bytes")
                history.run(number)
                print("passed")
            }
            return
        }
        var isClean = true
        for target in targets {
            let supervisor = FuzzSupervisor(
                target: target, seed: seed, seconds: seconds, deadlineSeconds: deadline, growthBytesMax: growth << 20)
            isClean = try supervisor.run() && isClean
        }
        if !isClean { throw ExitCode.failure }
    }
}

/// The cases of one target under one seed.
struct FuzzHistory {
    let target: FuzzTarget
    let seed: UInt64
    private let mutator: Mutator

    init(_ target: FuzzTarget, seed: UInt64) {
        self.target = target
        self.seed = seed
        mutator = Mutator(corpus: target.corpus(), tokens: target.tokens)
    }

    func input(_ number: UInt64) -> [UInt8] {
        var random = generator(number)
        return input(&random)
    }

    func run(_ number: UInt64) {
        var random = generator(number)
        let bytes = input(&random)
        target.run(bytes, &random)
    }

    func runCases(from first: UInt64, _ page: ProgressPage) -> Never {
        var number = first
        while true {
            page.begin(number)
            run(number)
            number &+= 1
        }
    }

    private func generator(_ number: UInt64) -> PRNG { PRNG(seed: seed &* 0x9E37_79B9_7F4A_7C15 ^ number) }

    private func input(_ random: inout PRNG) -> [UInt8] {
        var bytes = mutator.mutant(&random)
        if random.below(8) != 0 { target.repair(&bytes, &random) }
        return bytes
    }
}

/// Two words in a page of a file that parent and child have mapped: the running case, and when it began.
struct ProgressPage {
    private let words: UnsafeMutablePointer<UInt64>
    private static let byteCount = 4096

    struct MappingError: Error {}

    init(path: String) throws {
        let file = open(path, O_RDWR | O_CREAT, 0o600)
        guard file >= 0, ftruncate(file, off_t(Self.byteCount)) == 0 else { throw MappingError() }
        defer { close(file) }
        guard let address = mmap(nil, Self.byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0),
            address != MAP_FAILED
        else { throw MappingError() }
        words = address.bindMemory(to: UInt64.self, capacity: Self.byteCount / 8)
    }

    var number: UInt64 { words[0] }
    var startNanoseconds: UInt64 { words[1] }

    func begin(_ number: UInt64) {
        words[0] = number
        words[1] = monotonicNanoseconds()
    }
}

func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
