import MartletBase

/// How many bytes a value has: `64`; `16-1024`, every size as likely as any other; or a mix of both kinds with weights,
/// `64:90,1024-4096:10`. A weight that is not given is 1.
package struct SizeDistribution: Sendable {
    /// As in Redis, whose strings are limited to `proto-max-bulk-len`.
    package static let bytesMax = 512 * 1024 * 1024

    package let parts: [ClosedRange<Int>]
    private let table: AliasTable

    package init(fixed size: Int) {
        precondition(size >= 0)
        parts = [size...size]
        table = AliasTable(weights: [1])
    }

    package init(parsing text: String) throws(ToolFailure) {
        var parts: [ClosedRange<Int>] = []
        var weights: [Double] = []
        for item in text.split(separator: ",", omittingEmptySubsequences: false) {
            let fields = item.split(separator: ":", omittingEmptySubsequences: false)
            guard fields.count <= 2, let range = Self.range(fields[0]) else {
                throw ToolFailure("'\(item)' is not a value size: expected BYTES or BYTES-BYTES, at most 536870912")
            }
            let weight = fields.count == 2 ? Double(fields[1]) : 1
            guard let weight, weight.isFinite, weight > 0 else {
                throw ToolFailure("the weight in '\(item)' is not a number above 0")
            }
            parts.append(range)
            weights.append(weight)
        }
        self.parts = parts
        table = AliasTable(weights: weights)
    }

    private static func range(_ text: Substring) -> ClosedRange<Int>? {
        let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
        guard ends.count <= 2, let low = ends[0], let high = ends[ends.count - 1] else { return nil }
        return low >= 0 && low <= high && high <= bytesMax ? low...high : nil
    }

    /// The one size that all values have, nil when they differ.
    package var fixedBytes: Int? {
        let first = parts[0].lowerBound
        return parts.allSatisfy { $0 == first...first } ? first : nil
    }

    package var bytesMax: Int { parts.map(\.upperBound).max()! }

    package func draw(_ random: inout PRNG) -> Int {
        let part = parts[table.draw(&random)]
        guard part.count > 1 else { return part.lowerBound }
        return part.lowerBound + Int(random.next().multipliedFullWidth(by: UInt64(part.count)).high)
    }
}

extension SizeDistribution: CustomStringConvertible {
    package var description: String {
        parts.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }.joined(separator: ",")
    }
}
