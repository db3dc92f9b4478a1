/// Decides which connections the command thread gives to I/O threads, and when it takes them back.
///
/// To pass a batch to another thread and back costs some microseconds of waking and being woken. That pays when the command
/// thread is the bottleneck, and only then; on a node with little to do the way through one thread is the shortest. So the
/// command thread keeps its connections until it has hardly a pause, gives away an eighth of them at a time while that
/// lasts, and takes them back when one thread could do it all with a good reserve.
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
    private static let connectionsPerMove = 8

    private var decidedAt: Int64

    init(now: Int64) { decidedAt = now }

    /// - Parameters:
    ///   - now: monotonic microseconds, like the others.
    ///   - commandBusy: how long the command thread has worked since the last decision.
    ///   - ioBusy: the same of all I/O threads together.
    ///   - kept: connections of the command thread.
    ///   - given: connections of I/O threads.
    mutating func decide(now: Int64, commandBusy: Int64, ioBusy: Int64, kept: Int, given: Int) -> Move {
        let elapsed = max(1, now - decidedAt)
        decidedAt = now
        if commandBusy * 100 >= elapsed * Self.busyPercent, kept > 0 {
            return .giveAway((kept + Self.connectionsPerMove - 1) / Self.connectionsPerMove)
        }
        if (commandBusy + ioBusy) * 100 < elapsed * Self.calmPercent, given > 0 {
            return .takeBack((given + Self.connectionsPerMove - 1) / Self.connectionsPerMove)
        }
        return .none
    }
}
