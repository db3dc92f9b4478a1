import MartletBase

/// The clocks of a host. The core's time is made of them as the real driver does it: a monotonic clock that runs a
/// little fast or slow, anchored to a wall clock that somebody may set, and slewed (`SlewedClock`).
struct SimulatedClock {
    /// Of the monotonic clock: parts per million by which it is fast.
    var driftPartsPerMillion: Int64
    /// Wall clock less true time, in nanoseconds.
    var wallOffset: Int64
    /// A driver without the slewed clock would see its input jump by this, in milliseconds.
    var jump: Int64 = 0
    private var slewed: SlewedClock

    /// `time` is true time, in microseconds.
    init(driftPartsPerMillion: Int64, wallOffset: Int64, time: Int64) {
        self.driftPartsPerMillion = driftPartsPerMillion
        self.wallOffset = wallOffset
        slewed = SlewedClock(monotonic: 0, wall: 0)
        anchor(time)
    }

    private func monotonic(_ time: Int64) -> Int64 {
        let elapsed = time - SimulatedClock.epoch
        return (elapsed + elapsed / 1_000_000 * driftPartsPerMillion) * 1000
    }

    private func wall(_ time: Int64) -> Int64 { time * 1000 + wallOffset }

    /// A process starts.
    mutating func anchor(_ time: Int64) { slewed = SlewedClock(monotonic: monotonic(time), wall: wall(time)) }

    mutating func observe(_ time: Int64) { slewed.observe(monotonic: monotonic(time), wall: wall(time)) }

    /// The core's time, in milliseconds.
    func now(_ time: Int64) -> Int64 { slewed.now(monotonic: monotonic(time)) / 1_000_000 + jump }

    /// When virtual time begins: microseconds since 1970.
    static let epoch: Int64 = 1_700_000_000_000_000
}
