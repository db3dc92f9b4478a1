import MartletBase

/// All randomness of a simulation. Drawn from in the order of events, so one seed gives one history.
struct Chance {
    private var generator: PRNG

    init(seed: UInt64) { generator = PRNG(seed: seed) }

    mutating func next() -> UInt64 { generator.next() }

    /// A number in `0..<bound`; 0 for a bound below 1.
    mutating func below(_ bound: Int64) -> Int64 { bound <= 1 ? 0 : Int64(generator.below(Int(bound))) }
    mutating func below(_ bound: Int) -> Int { bound <= 1 ? 0 : generator.below(bound) }

    mutating func between(_ low: Int64, _ high: Int64) -> Int64 { low + below(high - low + 1) }

    /// Between `low` and `high`, small values as likely as great ones in orders of magnitude.
    mutating func spread(_ low: Int64, _ high: Int64) -> Int64 {
        precondition(low > 0 && high >= low)
        var top = low
        var choices: [Int64] = [low]
        while top < high {
            top = min(top * 2, high)
            choices.append(top)
        }
        guard choices.count > 1 else { return low }
        let index = below(choices.count - 1)
        return between(choices[index], choices[index + 1])
    }

    mutating func happens(perMillion chance: Int) -> Bool { chance > 0 && below(1_000_000) < chance }

    mutating func oneIn(_ count: Int) -> Bool { below(count) == 0 }

    mutating func pick<Element>(_ elements: [Element]) -> Element? {
        elements.isEmpty ? nil : elements[below(elements.count)]
    }

    mutating func fork() -> Chance { Chance(seed: next()) }
}
