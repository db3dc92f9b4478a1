/// The list in git: comments at the top, then a line for each function with its limits and its name as
/// `swift demangle --simplified` writes it. Functions with the same name (overloads, specializations) share a line.
struct HotFunctionList: CustomStringConvertible {
    struct Row: Equatable {
        var name: String
        var limits: CallCounts
    }

    struct ParseError: Error, CustomStringConvertible {
        var line: String
        var description: String { "expected \(CallCounts.Kind.allCases.count) numbers and a name: '\(line)'" }
    }

    /// The comment lines.
    var heading: [String]
    var rows: [Row]

    init(heading: [String], rows: [Row]) {
        self.heading = heading
        self.rows = rows
    }

    init(parsing text: String) throws(ParseError) {
        heading = []
        rows = []
        let kinds = CallCounts.Kind.allCases
        for line in text.split(separator: "\n") {
            guard !line.hasPrefix("#") else {
                heading.append(String(line))
                continue
            }
            let words = line.split(separator: " ", maxSplits: kinds.count)
            let numbers = words.prefix(kinds.count).compactMap { Int($0) }
            guard words.count == kinds.count + 1, numbers.count == kinds.count, numbers.allSatisfy({ $0 >= 0 }) else {
                throw ParseError(line: String(line))
            }
            var limits = CallCounts()
            for (kind, number) in zip(kinds, numbers) { limits[kind] = number }
            let name = words[kinds.count].drop { $0 == " " }
            rows.append(Row(name: String(name), limits: limits))
        }
    }

    /// Names with the same words before the argument labels: what a function may have become.
    static func relatives(of name: String, among names: some Sequence<String>) -> [String] {
        let words = name.prefix { $0 != "(" }.split(separator: " ")
        guard let last = words.last, name.contains("(") else { return [] }
        return names.filter { other in
            other.contains("(") && other.prefix { $0 != "(" }.split(separator: " ").last == last
        }.sorted()
    }

    var description: String {
        let lines = rows.map { row in
            let numbers = CallCounts.Kind.allCases.map { kind in
                let digits = String(row.limits[kind])
                return String(repeating: " ", count: max(0, 8 - digits.count)) + digits
            }
            return "\(numbers.joined())  \(row.name)"
        }
        return (heading + lines).joined(separator: "\n") + "\n"
    }
}
