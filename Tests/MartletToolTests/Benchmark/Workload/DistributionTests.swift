import Glibc
import MartletBase
import Testing
import martlet

@Suite struct DistributionTests {
    private func counts(_ text: String, keyCount: Int, draws: Int) throws -> [Int] {
        let source = KeySource(
            try KeyDistribution(parsing: text), keyCount: keyCount, counters: KeyCounters(keyCount: keyCount))
        var random = PRNG(seed: 42)
        var counts = [Int](repeating: 0, count: keyCount)
        for _ in 0..<draws { counts[Int(source.draw(&random))] += 1 }
        return counts
    }

    @Test("Uniform keys are used alike")
    func uniform() throws {
        let counts = try counts("uniform", keyCount: 100, draws: 100_000)
        #expect(counts.allSatisfy { abs($0 - 1000) < 150 })
    }

    @Test("Zipfian keys are used as often as the formula says", arguments: [0.5, 0.99, 1, 1.5])
    func zipfian(_ theta: Double) throws {
        let counts = try counts("zipfian:\(theta)", keyCount: 1000, draws: 400_000)
        var sum = 0.0
        for rank in 1...1000 { sum += pow(Double(rank), -theta) }
        for rank in [1, 2, 3, 10, 100] {
            let expected = pow(Double(rank), -theta) / sum * 400_000
            // Five standard deviations.
            #expect(abs(Double(counts[rank - 1]) - expected) < 5 * expected.squareRoot(), "rank \(rank)")
        }
        #expect(counts.last! < counts.first!)
    }

    @Test("The latest keys are zipfian from the end, and follow what is added")
    func latest() throws {
        let counts = try counts("latest", keyCount: 100, draws: 10_000)
        #expect(counts[99] == counts.max() && counts[99] > 10 * counts[0])
        let counters = KeyCounters(keyCount: 100)
        let source = KeySource(.latest(theta: 0.99), keyCount: 100, counters: counters)
        for expected in 100..<150 { #expect(source.add() == UInt64(expected)) }
        var random = PRNG(seed: 1)
        let keys = (0..<1000).map { _ in source.draw(&random) }
        #expect(keys.allSatisfy { (50..<150).contains($0) } && keys.contains(149))
    }

    @Test("Sequential keys come once each, over all threads together, then again")
    func sequential() {
        let counters = KeyCounters(keyCount: 10)
        let one = KeySource(.sequential, keyCount: 10, counters: counters)
        let other = KeySource(.sequential, keyCount: 10, counters: counters)
        var random = PRNG(seed: 1)
        let keys = (0..<10).flatMap { _ in [one.draw(&random), other.draw(&random)] }
        #expect(keys == Array(0..<10) + Array(0..<10))
    }

    @Test("A hot set is used with its probability, evenly inside")
    func hotSet() throws {
        let counts = try counts("hotset:0.1:0.9", keyCount: 100, draws: 100_000)
        #expect(abs(counts[..<10].reduce(0, +) - 90_000) < 500)
        #expect(counts[..<10].allSatisfy { abs($0 - 9000) < 500 })
        #expect(counts[10...].allSatisfy { abs($0 - 111) < 60 })
        #expect(try self.counts("hotset", keyCount: 1, draws: 10) == [10])
    }

    @Test("The same seed gives the same keys")
    func seed() throws {
        #expect(try counts("zipfian", keyCount: 50, draws: 500) == counts("zipfian", keyCount: 50, draws: 500))
    }

    @Test(
        "A key distribution that makes no sense is refused",
        arguments: [
            "", "zipf", "zipfian:0", "zipfian:x", "zipfian:1:2", "uniform:1", "hotset:0.1", "hotset:0:0.5",
            "hotset:0.5:1", "zipfian:nan", "sequential:",
        ])
    func badKeys(_ text: String) {
        #expect(throws: ToolFailure.self) { try KeyDistribution(parsing: text) }
    }

    @Test("Sizes are read as written")
    func sizes() throws {
        #expect(try SizeDistribution(parsing: "64").fixedBytes == 64)
        #expect(try SizeDistribution(parsing: "0").fixedBytes == 0)
        #expect(try SizeDistribution(parsing: "16-1024").parts == [16...1024])
        #expect(try SizeDistribution(parsing: "16-1024").fixedBytes == nil)
        #expect(try SizeDistribution(parsing: "64:90,1024-4096:10").bytesMax == 4096)
    }

    @Test("Sizes are drawn by weight, and evenly within a range")
    func sizeDraws() throws {
        let mix = try SizeDistribution(parsing: "64:90,1000-1009:10")
        var random = PRNG(seed: 7)
        var counts: [Int: Int] = [:]
        for _ in 0..<100_000 { counts[mix.draw(&random), default: 0] += 1 }
        #expect(abs(counts[64]! - 90_000) < 500)
        #expect(counts.count == 11)
        for size in 1000...1009 { #expect(abs(counts[size]! - 1000) < 160) }
    }

    @Test(
        "Sizes that make no sense are refused",
        arguments: ["", "x", "64:", "64:0", "64:-1", "9-8", "-1", "1-2-3", "1,,2", "64:nan", "536870913", "1:2:3"])
    func badSizes(_ text: String) {
        #expect(throws: ToolFailure.self) { try SizeDistribution(parsing: text) }
    }
}
