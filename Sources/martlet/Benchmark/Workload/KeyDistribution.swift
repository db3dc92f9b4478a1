import MartletBase
import Synchronization

/// Which keys of the key space are used how often.
package enum KeyDistribution: Equatable, Sendable {
    case uniform
    /// Key 0 is the most popular one, key k is used in proportion to 1 / (k + 1)^theta.
    case zipfian(theta: Double)
    /// As zipfian, but the most popular key is the one that was added last (`__new__`).
    case latest(theta: Double)
    /// 0, 1, 2 … and from the start again, over all connections and threads together.
    case sequential
    /// The first `fraction` of the keys is used with `probability`, the others share the rest.
    case hotSet(fraction: Double, probability: Double)

    /// YCSB's constant.
    private static let defaultTheta = 0.99

    /// `uniform`, `zipfian[:theta]`, `latest[:theta]`, `sequential`, `hotset[:fraction:probability]`.
    package init(parsing text: String) throws(ToolFailure) {
        let words = text.split(separator: ":", omittingEmptySubsequences: false)
        let numbers = words.dropFirst().map { Double($0) }
        func isFraction(_ number: Double) -> Bool { number > 0 && number < 1 }
        switch (words[0], numbers.count) {
        case ("uniform", 0): self = .uniform
        case ("sequential", 0): self = .sequential
        case ("zipfian", 0): self = .zipfian(theta: Self.defaultTheta)
        case ("latest", 0): self = .latest(theta: Self.defaultTheta)
        case ("zipfian", 1), ("latest", 1):
            guard let theta = numbers[0], theta > 0, theta <= 10 else {
                throw ToolFailure("theta in '\(text)' is not a number above 0 and up to 10")
            }
            self = words[0] == "latest" ? .latest(theta: theta) : .zipfian(theta: theta)
        case ("hotset", 0): self = .hotSet(fraction: 0.2, probability: 0.8)
        case ("hotset", 2):
            guard let fraction = numbers[0], isFraction(fraction), let probability = numbers[1], isFraction(probability)
            else { throw ToolFailure("fraction and probability in '\(text)' are not numbers between 0 and 1") }
            self = .hotSet(fraction: fraction, probability: probability)
        default:
            throw ToolFailure(
                """
                '\(text)' is no key distribution: expected uniform, zipfian[:theta], latest[:theta], sequential or \
                hotset[:fraction:probability]
                """)
        }
    }
}

/// What all threads of a run count together.
package final class KeyCounters: Sendable {
    /// Keys handed out by a sequential distribution.
    package let sequential = Atomic<UInt64>(0)
    /// Keys that exist: those of the key space, and one more for each `__new__`.
    package let existing: Atomic<UInt64>

    package init(keyCount: Int) { existing = Atomic(UInt64(keyCount)) }
}

/// Draws key numbers for one thread.
package struct KeySource: ~Copyable {
    private enum Method {
        case uniform
        case zipfian(Zipfian)
        case latest(Zipfian)
        case sequential
        /// `threshold` is the probability of the hot part, in 2^-64ths.
        case hotSet(hotCount: UInt64, threshold: UInt64)
    }

    package let keyCount: UInt64
    private let method: Method
    private let counters: KeyCounters

    package init(_ distribution: KeyDistribution, keyCount: Int, counters: KeyCounters) {
        precondition(keyCount > 0)
        self.keyCount = UInt64(keyCount)
        self.counters = counters
        switch distribution {
        case .uniform: method = .uniform
        case .sequential: method = .sequential
        case .zipfian(let theta): method = .zipfian(Zipfian(count: keyCount, theta: theta))
        case .latest(let theta): method = .latest(Zipfian(count: keyCount, theta: theta))
        case .hotSet(let fraction, let probability):
            // At least one key is hot and at least one is not.
            let hotCount = min(max(1, Int(Double(keyCount) * fraction)), keyCount - 1)
            method =
                hotCount == 0
                ? .uniform : .hotSet(hotCount: UInt64(hotCount), threshold: UInt64(probability * 0x1p63) << 1)
        }
    }

    @inline(__always)
    package func draw(_ random: inout PRNG) -> UInt64 {
        if case .uniform = method { return below(keyCount, &random) }
        return drawUnevenly(&random)
    }

    @inline(never)
    private func drawUnevenly(_ random: inout PRNG) -> UInt64 {
        switch method {
        case .uniform: return below(keyCount, &random)
        case .zipfian(let zipfian): return UInt64(zipfian.draw(&random) - 1)
        case .latest(let zipfian):
            return counters.existing.load(ordering: .relaxed) - UInt64(zipfian.draw(&random))
        case .sequential:
            return counters.sequential.wrappingAdd(1, ordering: .relaxed).oldValue % keyCount
        case .hotSet(let hotCount, let threshold):
            if random.next() < threshold { return below(hotCount, &random) }
            return hotCount + below(keyCount - hotCount, &random)
        }
    }

    /// The number of a key that did not exist.
    package func add() -> UInt64 { counters.existing.wrappingAdd(1, ordering: .relaxed).oldValue }

    /// Even but for one part in 2^64 / `bound`.
    @inline(__always)
    private func below(_ bound: UInt64, _ random: inout PRNG) -> UInt64 {
        random.next().multipliedFullWidth(by: bound).high
    }
}
