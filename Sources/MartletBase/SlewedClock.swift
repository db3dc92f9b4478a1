// The clock that does not jump.
//
// Problem: expiry times are wall times, but the wall clock belongs to the administrator and to NTP. A step forward
// expires keys early (a lock taken with SET NX PX is suddenly free), a step back keeps them alive for hours.
//
// Idea: take the wall clock once, at start, and from then on let a clock that cannot be set carry the time. Real wall
// clocks are corrected by small amounts all the time, so the carried time must follow them, but slowly: it is *slewed*.
//
// 1. `now(m)` is the carried time at the last observation, plus what passed on the monotonic clock, plus a correction.
// 2. The correction grows with the time that passed, by 1 part in 2000, until the difference that the last
//    observation found is used up. So time is continuous, always moves forward, and never runs more than 500 ppm fast
//    or slow: an hour is wrong by at most 1.8 seconds, however wildly the wall clock is set.
// 3. `observe` is called now and then (each 100 ms) with both clocks, and measures the difference anew.
//
// 500 ppm is the rate at which `adjtime` and `ntpd` slew (RFC 5905, section 11.3); crystals drift by less than 100 ppm, so a
// correct wall clock is always followed.
//
// A really large difference (a machine that came up in 1970, then found its time server) is not treated apart: it is
// followed at the same pace, 43 s a day, because a jump is what this clock exists to prevent and nobody can tell here
// which of the two clocks is right. A restart takes the wall clock anew.
//
// Feed it a boot-time clock (one that counts suspension): the keys of a suspended machine have aged.

/// Wall time that is anchored to a monotonic clock and follows the real wall clock at 500 ppm at most.
///
/// A value without a clock inside: both readings are passed in, all times are nanoseconds.
package struct SlewedClock: Sendable {
    /// 1 part in 2000 is 500 ppm.
    package static let slewDivisor: Int64 = 2000

    /// The monotonic reading of the last observation.
    private var monotonicAtObservation: Int64
    /// Our time at that reading.
    private var timeAtObservation: Int64
    /// What is still to be corrected at that reading: real wall time less our time.
    private var differenceAtObservation: Int64 = 0

    package init(monotonic: Int64, wall: Int64) {
        monotonicAtObservation = monotonic
        timeAtObservation = wall
    }

    /// Our time at a monotonic reading. A reading before the last observation counts as that observation.
    package func now(monotonic: Int64) -> Int64 {
        let elapsed = max(0, monotonic &- monotonicAtObservation)
        return timeAtObservation &+ elapsed &+ correction(elapsed)
    }

    private func correction(_ elapsed: Int64) -> Int64 {
        let limit = elapsed / Self.slewDivisor
        return max(-limit, min(limit, differenceAtObservation))
    }

    /// Compares with the real wall clock; the readings should be taken right after each other.
    package mutating func observe(monotonic: Int64, wall: Int64) {
        timeAtObservation = now(monotonic: monotonic)
        monotonicAtObservation = max(monotonic, monotonicAtObservation)
        differenceAtObservation = wall.subtractingReportingOverflow(timeAtObservation).partialValue
    }

    /// How far the real wall clock was ahead of us (negative: behind) at the last observation.
    package var difference: Int64 { differenceAtObservation }
}
