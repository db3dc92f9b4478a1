import Testing

@testable import MartletReactor

@Suite struct IOBalanceTests {
    private func decide(command: Int64, io: Int64 = 0, kept: Int, given: Int) -> IOBalance.Move {
        var balance = IOBalance(now: 1000)
        return balance.decide(now: 101_000, commandBusy: command, ioBusy: io, kept: kept, given: given)
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
}
