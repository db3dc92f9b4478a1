import MartletBase
import Testing

@Suite struct SlewedClockTests {
    static let second: Int64 = 1_000_000_000
    static let start: Int64 = 1_700_000_000 * second

    @Test("Without observations it is the wall clock at start plus monotonic time")
    func anchored() {
        let clock = SlewedClock(monotonic: 5 * Self.second, wall: Self.start)
        #expect(clock.now(monotonic: 5 * Self.second) == Self.start)
        #expect(clock.now(monotonic: 65 * Self.second) == Self.start + 60 * Self.second)
    }

    /// Wall step in seconds, time observed after it in seconds, expected distance travelled in microseconds.
    @Test(
        "A stepped wall clock is followed at 500 ppm and never further than it went",
        arguments: [
            (0, 10, 0), (3600, 1, 500), (3600, 3600, 1_800_000), (-3600, 1, -500), (-3600, 3600, -1_800_000),
            (1, 1000, 500_000), (1, 2000, 1_000_000), (1, 5000, 1_000_000), (-1, 5000, -1_000_000),
            (-1_700_000_000, 60, -30_000), (2_000_000_000, 60, 30_000),
        ] as [(Int64, Int64, Int64)])
    func steps(step: Int64, seconds: Int64, travelled: Int64) {
        var clock = SlewedClock(monotonic: 0, wall: Self.start)
        let tick = Self.second / 10
        for index in 0...(seconds * 10) {
            let monotonic = Int64(index) * tick
            clock.observe(monotonic: monotonic, wall: Self.start + monotonic + step * Self.second)
        }
        let gained = clock.now(monotonic: seconds * Self.second) - Self.start - seconds * Self.second
        #expect(gained / 1000 == travelled)
        #expect(clock.difference == step * Self.second - gained)
    }

    @Test("A late observation changes neither rate nor direction of time")
    func lateObservation() {
        var clock = SlewedClock(monotonic: 0, wall: Self.start)
        clock.observe(monotonic: 0, wall: Self.start + Self.second / 1000)
        // 1 ms is made up after 2 s, and then kept.
        #expect(clock.now(monotonic: Self.second) == Self.start + Self.second + 500_000)
        #expect(clock.now(monotonic: 100 * Self.second) == Self.start + 100 * Self.second + 1_000_000)
    }

    @Test("Time never goes back, whatever the wall clock and the readings do", arguments: [1, 2, 3] as [UInt64])
    func monotone(seed: UInt64) {
        var random = PRNG(seed: seed)
        var clock = SlewedClock(monotonic: 0, wall: Self.start)
        var monotonic: Int64 = 0
        var last = clock.now(monotonic: 0)
        for _ in 0..<10_000 {
            monotonic += Int64(random.below(3_000_000_000))
            if random.below(3) == 0 {
                let wall = random.below(10) == 0 ? Int64(bitPattern: random.next()) : Self.start + monotonic
                clock.observe(monotonic: monotonic, wall: wall)
            }
            let reading = random.below(50) == 0 ? monotonic - 1000 : monotonic
            let now = clock.now(monotonic: reading)
            if reading == monotonic {
                #expect(now >= last, "seed \(seed)")
                last = now
            }
        }
    }
}
