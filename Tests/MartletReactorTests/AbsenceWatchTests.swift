import Testing

@testable import MartletReactor

@Suite struct AbsenceWatchTests {
    private func ended(_ watch: inout AbsenceWatch, _ now: Int64, timeout: Int64) -> Bool {
        watch.ended(now: now, timeout: timeout)
    }

    @Test("A process that stood still is noticed, whether it was waiting or working")
    func absence() {
        var watch = AbsenceWatch(now: 1000)
        #expect(!ended(&watch, 1100, timeout: 100))
        // A wait of 100 ms that took 5 s.
        #expect(ended(&watch, 6100, timeout: 100))
        #expect(!ended(&watch, 6101, timeout: 0))
        // The wait was not asked to last: the time went by before it, while commands ran.
        #expect(ended(&watch, 11_101, timeout: 0))
    }

    @Test("A long wait for nothing and a late scheduler are no absence")
    func presence() {
        var watch = AbsenceWatch(now: 0)
        #expect(!ended(&watch, 10_000, timeout: 10_000))
        #expect(!ended(&watch, 10_900, timeout: 0))
    }
}
