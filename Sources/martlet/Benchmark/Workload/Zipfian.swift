import Glibc
import MartletBase

/// Ranks 1 to `count` where rank k has a probability in proportion to 1 / k^theta.
///
/// Rejection-inversion: no table and no sum over all ranks, so a billion keys start as fast as ten, and any `theta`
/// above 0 works (the usual method, Gray's, needs the sum and a theta below 1). Fewer than 1.1 tries on average.
///
/// Source: Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone discrete distributions"
/// (1996).
package struct Zipfian: Sendable {
    private let count: Double
    private let theta: Double
    /// Integrals of the density at both ends of what is drawn from.
    private let integralLow: Double
    private let integralHigh: Double
    /// Up to this distance from a rank a draw needs no further test.
    private let sureDistance: Double

    /// - Precondition: `count` and `theta` are above 0.
    package init(count: Int, theta: Double) {
        precondition(count > 0 && theta > 0)
        self.count = Double(count)
        self.theta = theta
        integralLow = Self.integral(1.5, theta) - 1
        integralHigh = Self.integral(self.count + 0.5, theta)
        sureDistance = 2 - Self.inverse(Self.integral(2.5, theta) - exp(-theta * log(2)), theta)
    }

    package func draw(_ random: inout PRNG) -> Int {
        while true {
            let unit = Double(random.next() >> 11) * 0x1p-53
            let point = integralHigh + unit * (integralLow - integralHigh)
            let x = Self.inverse(point, theta)
            let rank = min(max((x + 0.5).rounded(.down), 1), count)
            if rank - x <= sureDistance || point >= Self.integral(rank + 0.5, theta) - exp(-theta * log(rank)) {
                return Int(rank)
            }
        }
    }

    /// An integral of x^-theta; the limit for theta = 1, log(x), comes out without a special case.
    private static func integral(_ x: Double, _ theta: Double) -> Double {
        let logarithm = log(x)
        let t = (1 - theta) * logarithm
        return (abs(t) > 1e-8 ? expm1(t) / t : 1 + t / 2) * logarithm
    }

    private static func inverse(_ x: Double, _ theta: Double) -> Double {
        // Rounding must not leave the domain of the logarithm.
        let t = max(x * (1 - theta), -1)
        return exp((abs(t) > 1e-8 ? log1p(t) / t : 1 - t / 2) * x)
    }
}
