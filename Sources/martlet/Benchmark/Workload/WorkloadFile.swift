import MartletBase

/// The text form of a mix of requests.
///
/// A line has a weight, blanks, and a command; several commands that are sent together are divided by a `;` that stands
/// alone. Quoting is that of redis.conf; `#` begins a comment, empty lines count for nothing. A request's label is its
/// command's name.
///
///     95  GET user:__key__
///     4   SET user:__key__ __data__
///     1   MULTI ; INCR a ; INCR b ; EXEC
package enum WorkloadFile {
    /// Latencies are kept for each label, a quarter of a megabyte and thread.
    package static let labelCountMax = 64
    package static let lineCountMax = 10_000

    /// - Throws: what is wrong, with file and line.
    package static func parse(_ bytes: [UInt8], name: String) throws(ToolFailure) -> Workload {
        var operations: [Workload.Operation] = []
        for (index, line) in bytes.split(separator: 10, omittingEmptySubsequences: false).enumerated() {
            func mistake(_ cause: String) -> ToolFailure { ToolFailure("\(name):\(index + 1): \(cause)") }
            guard let words = splitArguments(line) else { throw mistake("unbalanced quotes") }
            guard let first = words.first, first.first != UInt8(ascii: "#") else { continue }
            guard let weight = Double(String(decoding: first, as: UTF8.self)), weight.isFinite, weight > 0 else {
                throw mistake(
                    "expected a weight above 0 before the command, found '\(String(decoding: first, as: UTF8.self))'")
            }
            let commands = words.dropFirst().split(separator: [UInt8(ascii: ";")], omittingEmptySubsequences: false)
            guard commands.allSatisfy({ !$0.isEmpty && !$0.first!.isEmpty }) else {
                throw mistake(
                    words.count == 1 ? "a command is missing after the weight" : "a command is missing at ';'")
            }
            let label = commands.map { String(decoding: $0.first!, as: UTF8.self).uppercased() }.joined(separator: ";")
            operations.append(
                Workload.Operation(weight: weight, label: label, requests: commands.map { .command(Array($0)) }))
            guard operations.count <= lineCountMax else { throw mistake("more than \(lineCountMax) commands") }
        }
        guard !operations.isEmpty else { throw ToolFailure("\(name): there is no command in it") }
        guard Set(operations.map(\.label)).count <= labelCountMax else {
            throw ToolFailure("\(name): more than \(labelCountMax) different commands")
        }
        return Workload(title: String(name.split(separator: "/").last ?? "workload"), operations: operations)
    }
}
