import Testing

@testable import MartletReactor

@Suite struct IOBalanceTests {
    /// A tenth of a second after another.
    private struct Course {
        var balance = IOBalance(now: 0, commands: 0)
        var now: Int64 = 0
        var commands = 0
        /// Of 50 connections.
        var given = 0

        /// - Parameters:
        ///   - rate: commands in a tenth of a second.
        ///   - command, io: busy in percent.
        mutating func pass(rate: Int, command: Int64, io: Int64 = 0) -> IOBalance.Move {
            now += 100_000
            commands += rate
            let move = balance.decide(
                now: now, commands: commands, commandBusy: command * 1000, ioBusy: io * 1000, kept: 50 - given,
                given: given)
            switch move {
            case .none: break
            case .giveAway(let count): given += count
            case .takeBack(let count): given -= count
            }
            return move
        }
    }

    private func decide(command: Int64, io: Int64 = 0, kept: Int, given: Int) -> IOBalance.Move {
        var balance = IOBalance(now: 1000, commands: 0)
        return balance.decide(
            now: 101_000, commands: 100, commandBusy: command, ioBusy: io, kept: kept, given: given)
    }

    @Test("A command thread without pause gives an eighth of its connections away, at least one")
    func giveAway() {
        #expect(decide(command: 90_000, kept: 50, given: 0) == .giveAway(7))
        #expect(decide(command: 100_000, kept: 1, given: 49) == .giveAway(1))
        #expect(decide(command: 89_999, kept: 50, given: 0) == .none)
        #expect(decide(command: 100_000, kept: 0, given: 50) == .none)
    }

    @Test("Connections come back when one thread could do all the work")
    func takeBack() {
        #expect(decide(command: 30_000, io: 29_999, kept: 20, given: 30) == .takeBack(4))
        #expect(decide(command: 30_000, io: 30_000, kept: 20, given: 30) == .none)
        #expect(decide(command: 0, kept: 20, given: 0) == .none)
    }

    @Test("Work that has just been shared is not taken back")
    func hysteresis() {
        // What one thread did at the threshold, two do with half of it each.
        #expect(decide(command: 45_000, io: 45_000, kept: 25, given: 25) == .none)
    }

    @Test("Sharing that gets less done ends at once, and is tried again after a pause that doubles")
    func noFreeCore() {
        var course = Course()
        var attempts: [Int64] = []
        while course.now < 600_000_000 {
            let before = course.given
            // Without a free core each connection that is given away costs.
            _ = course.pass(rate: 10_000 - 60 * course.given, command: 100, io: 50)
            if before == 0, course.given > 0 { attempts.append(course.now) }
            #expect(course.given <= 24)
        }
        let pauses = zip(attempts.dropFirst(), attempts).map { ($0 - $1) / 1_000_000 }
        #expect(pauses == [2, 4, 8, 16, 32, 64, 128, 128, 128])
        #expect(course.given == 0)
    }

    @Test("Sharing that gets more done goes on, and a short loss does not end it")
    func freeCore() {
        var course = Course()
        for tick in 1...100 {
            _ = course.pass(rate: tick % 7 == 0 ? 9000 : 10_000 + 60 * course.given, command: 95, io: 50)
        }
        #expect(course.given == 50)
    }

    @Test("A success lets the next attempt after a failure come soon")
    func successForgetsFailures() {
        var course = Course()
        // Until three attempts have failed.
        for _ in 1...100 { _ = course.pass(rate: 10_000 - 60 * course.given, command: 100, io: 50) }
        // A core becomes free, and busy again.
        for _ in 1...300 { _ = course.pass(rate: 10_000 + 60 * course.given, command: 95, io: 50) }
        #expect(course.given == 50)
        var attempts: [Int64] = []
        for _ in 1...50 {
            let before = course.given
            _ = course.pass(rate: 10_000 - 60 * course.given, command: 100, io: 50)
            if before == 0, course.given > 0 { attempts.append(course.now) }
        }
        #expect(attempts.count == 1)
    }
}
