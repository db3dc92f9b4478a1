/// What cannot wait for an effect to be carried out: the node has to know the result at once. Set by the reactor; without
/// it (tests, simulator) no time passes and every configuration fits.
package struct ProcessServices {
    /// The monotonic clock now, not at the beginning of the turn: for work with a time budget, and for how long commands
    /// take.
    package var monotonicNanoseconds: () -> Int64 = { 0 }
    /// Stops the calling thread.
    package var sleep: (_ microseconds: Int64) -> Void = { _ in }
    /// Puts changed directives into effect that concern the process, or leaves everything as it was. May correct the new
    /// configuration (`dir` becomes absolute).
    package var applyConfiguration:
        (_ changed: [String], _ old: ServerConfiguration, _ new: inout ServerConfiguration) -> ConfigurationFailure? =
            { _, _, _ in nil }
    /// Brings the configuration file up to date; with every directive, if that is wanted. - Returns: why that was
    /// impossible.
    package var rewriteConfiguration: (ServerConfiguration, _ forcesAll: Bool) -> String? = { _, _ in nil }

    /// By how many bytes what a client is still to be sent differs from what its buffer holds: an I/O thread has some more,
    /// or some at the front were sent already.
    package var unsentBytes: (ClientPointer) -> Int = { _ in 0 }

    package init() {}

    package func monotonicMicroseconds() -> Int64 { monotonicNanoseconds() / 1000 }
}

/// A directive that could not be put into effect, and why.
package struct ConfigurationFailure {
    package let name: String
    package let problem: String

    package init(name: String, problem: String) {
        self.name = name
        self.problem = problem
    }
}
