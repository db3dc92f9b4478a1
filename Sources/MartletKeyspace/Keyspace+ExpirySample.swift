import MartletBase

extension Keyspace {
    /// The mean time that keys with an expiry have left, in milliseconds, from a sample; 0 if there are none.
    ///
    /// Reads buckets from a random position on until it has seen a few dozen keys.
    /// - Complexity: O(tables) in the worst case, for INFO.
    package mutating func averageTimeToLive(database: Int) -> Int64 {
        guard volatileCount(database: database) > 0 else { return 0 }
        let keysMax = 64
        let tables = tableCount(database: database)
        let first = random.below(tables)
        var sum: Int64 = 0
        var seen: Int64 = 0
        for offset in 0..<tables {
            let table = (first + offset) % tables
            guard volatileCount(database: database, table: table) > 0 else { continue }
            let start = random.next()
            // Behind the random position, then from the beginning if that was too few.
            for (from, to) in [(start, UInt64.max), (0, start)] where seen < keysMax {
                var position: UInt64? = from
                while let current = position, current <= to, seen < keysMax {
                    position = scanVolatile(database: database, table: table, from: current) { entry in
                        guard let expiry = entry.expiry else { return }
                        seen += 1
                        // Far expiries must not overflow the sum.
                        if expiry > now { sum += min(expiry - now, .max / 256) }
                    }
                }
            }
            if seen >= keysMax { break }
        }
        return seen > 0 ? sum / seen : 0
    }
}
