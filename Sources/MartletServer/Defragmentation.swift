import MartletKeyspace

// Filling up the gaps that deleted keys have left (`activedefrag yes`).
//
// Entries lie in slabs of one size each (see EntryPool). When keys were deleted here and there, all slabs are sparse and
// none is empty. A period (1/hz s) in which the gaps are larger than the thresholds grants a share of the time, more the
// larger they are; the work is done at the end of turns, a millisecond at a time, one slab after another: its entries are
// moved into slabs of the same size, and it goes back to the allocator. When no slab of keys is left to do, all values are
// gone through, and their members moved out of sparse slabs. The work ends when every size is three quarters full, or
// after a pass over all values; after that it rests until there are more gaps than it has left.
//
// Long strings, listpacks, nodes of lists and streams, and buckets have memory of the allocator's and are not moved. Their
// classes are few and reused, and the allocator gives pages back that are free as a whole.
//
// Source of directives and their meaning: Redis 7.0 defrag.c.

/// When gaps are worth work, and how much.
package struct DefragmentationLimits: Sendable {
    /// Gaps of fewer bytes in all are left alone.
    package var ignoredBytes = 100 << 20
    /// Gaps in percent of what is in use: below the least nothing is done; from the most on as much as is allowed.
    package var wastePercentMin = 10
    package var wastePercentMax = 100
    /// Shares of the time in percent.
    package var cyclePercentMin = 1
    package var cyclePercentMax = 25

    /// Share of the time in percent that gaps deserve; 0 if they are to be left alone.
    func cyclePercent(unused: Int, used: Int) -> Int {
        let waste = used > 0 ? Int(100 * Double(unused) / Double(used)) : unused > 0 ? .max : 0
        guard unused >= ignoredBytes, waste >= wastePercentMin else { return 0 }
        let range = wastePercentMax - wastePercentMin
        if range <= 0 || waste >= wastePercentMax { return max(cyclePercentMin, cyclePercentMax) }
        let share = cyclePercentMin + (waste - wastePercentMin) * (cyclePercentMax - cyclePercentMin) / range
        return max(cyclePercentMin, share)
    }
}

/// The state of the work between two turns.
struct Defragmentation {
    private(set) var hasWork = false
    private var budgetMicroseconds: Int64 = 0
    /// Share of the time that the running period grants; 0 if there is nothing to do.
    private(set) var cyclePercent = 0
    /// Entries that were moved since the start or CONFIG RESETSTAT: of keys, and of members of their values.
    var movedKeys = 0
    var movedMembers = 0
    /// Bytes of gaps that the last pass has left, or fewer since; nil before the first one.
    private var unusedBytesLeft: Int?
    var totalMicroseconds: Int64 = 0

    private static let sliceMicrosecondsMax: Int64 = 1000
    /// Looked at between two readings of the clock: about 0.1 ms if all of them are moved.
    private static let membersPerStep = 200

    /// A period begins.
    ///
    /// - Parameters:
    ///   - cyclePercent: 0 if there is nothing to do.
    ///   - unusedBytes: of gaps.
    mutating func begin(hz: Int, cyclePercent: Int, unusedBytes: Int) {
        var cyclePercent = cyclePercent
        if let left = unusedBytesLeft {
            unusedBytesLeft = min(left, unusedBytes)
            if unusedBytes <= left + left / 8 { cyclePercent = 0 } else { unusedBytesLeft = nil }
        }
        self.cyclePercent = cyclePercent
        budgetMicroseconds = Int64(cyclePercent * 10_000 / max(1, hz))
        hasWork = budgetMicroseconds > 0
    }

    /// One slice at the end of a turn. - Parameter clock: microseconds.
    mutating func run(_ keyspace: inout Keyspace, clock: () -> Int64) {
        let start = clock()
        var elapsed: Int64 = 0
        repeat {
            if let moved = keyspace.emptySparseSlab() {
                movedKeys += moved
            } else if let moved = keyspace.moveMembers(limit: Self.membersPerStep) {
                movedMembers += moved
            } else {
                hasWork = false
                cyclePercent = 0
                unusedBytesLeft = keyspace.unusedBytes
                return
            }
            elapsed = clock() - start
        } while elapsed < min(Self.sliceMicrosecondsMax, budgetMicroseconds)
        budgetMicroseconds -= elapsed
        totalMicroseconds += elapsed
        if budgetMicroseconds <= 0 { hasWork = false }
    }
}

extension Node {
    /// A period begins.
    mutating func beginDefragmentation() {
        var (cyclePercent, unused) = (0, 0)
        if configuration.isDefragmenting {
            unused = keyspace.unusedBytes
            cyclePercent = configuration.defragmentation.cyclePercent(
                unused: unused, used: Memory.usedBytes - unused)
        }
        defragmentation.begin(hz: configuration.hz, cyclePercent: cyclePercent, unusedBytes: unused)
    }

    /// - Parameter clock: microseconds.
    mutating func defragment(clock: () -> Int64) { defragmentation.run(&keyspace, clock: clock) }
}
