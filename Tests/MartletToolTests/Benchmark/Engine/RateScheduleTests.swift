import Testing
import martlet

@Suite struct RateScheduleTests {
    @Test("Times are evenly spaced from the start and do not drift")
    func spacing() {
        var schedule = RateSchedule(start: 1_000_000, rate: 30_000)
        #expect(schedule.next == 1_000_000)
        for _ in 0..<3_000_000 { schedule.take() }
        #expect(schedule.next == 1_000_000 + 100_000_000_000)
    }

    @Test("Threads share a rate: together they have the times of one")
    func threads() {
        var one = RateSchedule(start: 0, rate: 1000)
        var expected: [Int64] = []
        for _ in 0..<30 {
            expected.append(one.next)
            one.take()
        }
        var times: [Int64] = []
        for index in 0..<3 {
            var part = RateSchedule(start: 0, rate: 1000, threadIndex: index, threadCount: 3)
            for _ in 0..<10 {
                times.append(part.next)
                part.take()
            }
        }
        #expect(times.sorted() == expected)
    }

    @Test("Times that were not taken before the end are counted")
    func missed() {
        var schedule = RateSchedule(start: 0, rate: 1000)
        #expect(schedule.missedCount(before: 1_000_000_000) == 1000)
        for _ in 0..<400 { schedule.take() }
        #expect(schedule.missedCount(before: 1_000_000_000) == 600)
        for _ in 0..<600 { schedule.take() }
        #expect(schedule.missedCount(before: 1_000_000_000) == 0)
    }
}
