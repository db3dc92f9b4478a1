/// Decides which connections the command thread gives to I/O threads, and when it takes them back.
///
/// To pass a batch to another thread and back costs some microseconds of waking and being woken. That pays when the command
/// thread is the bottleneck and a core is free, and only then; on a node with little to do the way through one thread is the
/// shortest. So the command thread keeps its connections until it has hardly a pause, gives away an eighth of them at a time
/// while that lasts, and takes them back when one thread could do it all with a good reserve.
///
/// Whether a core is free cannot be asked: containers see their host's, and the clients may run beside us. What counts is
/// whether more commands are done, so that is what is compared: if fewer are than one thread did, all connections come back,
/// and the next attempt waits, each time twice as long.
struct IOBalance {
    enum Move: Equatable {
        case none
        /// So many connections to I/O threads, or back.
        case giveAway(Int)
        case takeBack(Int)
    }

    /// Shares of the time since the last decision, in percent, at which connections move. Far enough apart that a move does
    /// not cause the opposite one: work that one thread did at 90 % is still more than 60 % when two do it.
    static let busyPercent: Int64 = 90
    static let calmPercent: Int64 = 60
    /// Of what one thread did: less, twice in a row, ends sharing; what is more is a success.
    static let lossPercent = 97
    static let gainPercent = 105
    private static let connectionsPerMove = 8
    /// Microseconds without another attempt.
    static let shortestPause: Int64 = 2_000_000
    static let longestPause: Int64 = 128_000_000

    private var decidedAt: Int64
    private var commandsBefore: Int
    /// Commands per second when one thread had all connections and no pause; nil if it had pauses.
    private var rateAlone: Double?
    private var losses = 0
    /// Until every connection is back.
    private var isRetreating = false
    private var pausedUntil = Int64.min
    private var nextPause = Self.shortestPause

    /// - Parameters:
    ///   - now: monotonic microseconds.
    ///   - commands: executed until now.
    init(now: Int64, commands: Int) {
        decidedAt = now
        commandsBefore = commands
    }

    /// - Parameters:
    ///   - now: monotonic microseconds, like the others.
    ///   - commands: executed until now.
    ///   - commandBusy: how long the command thread has worked since the last decision.
    ///   - ioBusy: the same of all I/O threads together.
    ///   - kept: connections of the command thread.
    ///   - given: connections of I/O threads.
    mutating func decide(now: Int64, commands: Int, commandBusy: Int64, ioBusy: Int64, kept: Int, given: Int) -> Move {
        let elapsed = max(1, now - decidedAt)
        let rate = Double(commands &- commandsBefore) * 1_000_000 / Double(elapsed)
        decidedAt = now
        commandsBefore = commands
        let isBusy = commandBusy * 100 >= elapsed * Self.busyPercent
        if given == 0 {
            isRetreating = false
            losses = 0
            rateAlone = isBusy ? rate : nil
            return isBusy && kept > 0 && now >= pausedUntil ? .giveAway(Self.part(of: kept)) : .none
        }
        if isRetreating { return .takeBack(given) }
        if let rateAlone {
            let percent = rate * 100 / max(rateAlone, 1)
            losses = percent < Double(Self.lossPercent) ? losses + 1 : 0
            if losses == 2 {
                isRetreating = true
                pausedUntil = now + nextPause
                nextPause = min(nextPause * 2, Self.longestPause)
                return .takeBack(given)
            }
            if percent > Double(Self.gainPercent) { nextPause = Self.shortestPause }
        }
        if (commandBusy + ioBusy) * 100 < elapsed * Self.calmPercent { return .takeBack(Self.part(of: given)) }
        return isBusy && kept > 0 && losses == 0 ? .giveAway(Self.part(of: kept)) : .none
    }

    private static func part(of connections: Int) -> Int { (connections + connectionsPerMove - 1) / connectionsPerMove }
}
