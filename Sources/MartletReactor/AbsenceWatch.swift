/// Notices that the process stood still: SIGSTOP, a suspended machine. It looks at every turn of a loop, from one to the next,
/// so it does not matter what the process was doing then.
struct AbsenceWatch {
    private var lastTurn: Int64

    /// More than a loaded machine's scheduler is late. A command that takes as long is taken for an absence too, which costs
    /// little in comparison.
    static let milliseconds: Int64 = 1000

    /// - Parameter now: monotonic milliseconds.
    init(now: Int64) { lastTurn = now }

    /// Call it once per turn, after the wait.
    ///
    /// - Parameter timeout: how long the wait was allowed to last, in milliseconds.
    /// - Returns: whether much more time went by since the turn before.
    mutating func ended(now: Int64, timeout: Int64) -> Bool {
        defer { lastTurn = now }
        return now - lastTurn > timeout + Self.milliseconds
    }
}
