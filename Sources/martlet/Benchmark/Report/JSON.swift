/// A JSON value, just enough to write one.
package indirect enum JSON: Sendable {
    case null
    case boolean(Bool)
    case integer(Int)
    /// Written with three decimals, which for milliseconds means microseconds.
    case number(Double)
    case string(String)
    case array([JSON])
    /// In the order given.
    case object([(String, JSON)])

    /// Indented text; what holds no other containers stands on one line.
    package func text(indent: String = "") -> String {
        switch self {
        case .null: return "null"
        case .boolean(let value): return value ? "true" : "false"
        case .integer(let value): return String(value)
        case .number(let value): return value.isFinite ? fixed(value, 3) : "null"
        case .string(let value): return Self.quoted(value)
        case .array(let values):
            return enclosed("[", values.map { ("", $0) }, "]", indent)
        case .object(let fields):
            return enclosed("{", fields.map { (Self.quoted($0.0) + ": ", $0.1) }, "}", indent)
        }
    }

    private func enclosed(_ open: String, _ items: [(name: String, value: JSON)], _ close: String, _ indent: String)
        -> String
    {
        guard items.contains(where: \.value.isContainer) else {
            return open + items.map { $0.name + $0.value.text() }.joined(separator: ", ") + close
        }
        let inner = indent + "  "
        let lines = items.map { inner + $0.name + $0.value.text(indent: inner) }
        return "\(open)\n\(lines.joined(separator: ",\n"))\n\(indent)\(close)"
    }

    private var isContainer: Bool {
        switch self {
        case .array, .object: true
        case .null, .boolean, .integer, .number, .string: false
        }
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
