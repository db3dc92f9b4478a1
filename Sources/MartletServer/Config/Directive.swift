import MartletBase

// A directive is one value of the table in Directives.swift: its name, what may be assigned to it, where the value is
// kept, and whether the server does anything with it. Reading a config file, CONFIG GET, SET and REWRITE all go by that
// value, so a new directive is one new line (and a property of ServerConfiguration, if code is to read it).
//
// Source of names, bounds, defaults and texts: Redis 7.0.15 config.c; those that Valkey 9 added: the running server.

package struct Directive: Sendable {
    package let name: String
    /// The older name, which works everywhere too.
    package let alias: String?
    package let flags: Flags
    package let support: Support
    let rules: Rules
    let get: @Sendable (ServerConfiguration) -> DirectiveValue
    let set: @Sendable (inout ServerConfiguration, DirectiveValue) -> Void

    package struct Flags: OptionSet, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }

        /// Only from the file and the command line.
        package static let immutable = Flags(rawValue: 1)
        /// A password: kept out of the slow log and MONITOR.
        package static let sensitive = Flags(rawValue: 2)
        /// CONFIG GET shows it only under its exact name.
        package static let hidden = Flags(rawValue: 4)
        /// Takes several words.
        package static let multiArgument = Flags(rawValue: 8)
        /// Not while a data set is being loaded.
        package static let denyLoading = Flags(rawValue: 16)
        /// Only as `enable-protected-configs` allows.
        package static let protected = Flags(rawValue: 32)
        /// Setting the same value again is a change too: what it names may have changed.
        package static let volatile = Flags(rawValue: 64)
    }

    package enum Support: Sendable {
        case supported
        /// Accepted; there is nothing to do here for it.
        case noEffect
        /// Accepted; a value other than the default is warned about.
        case later
    }

    enum Rules: Sendable {
        case bool
        case integer(IntegerRules)
        /// One of the words, by its index.
        case choice([String])
        /// Any of the words, by bits; the word with 0 stands for none.
        case bits([(word: String, bits: Int64)], validate: Validate<Int64>?)
        case text(isAbsentWhenEmpty: Bool, validate: Validate<String>?)
        case bytes
        case special(SpecialDirective)
    }

    /// Nil, or what is wrong with a value.
    typealias Validate<Value> = @Sendable (Value) -> String?

    /// The value of a fresh configuration.
    var defaultValue: DirectiveValue { self.get(ServerConfiguration()) }
}

package enum DirectiveValue: Equatable, Sendable {
    case bool(Bool)
    /// Unsigned ones by their bit pattern.
    case integer(Int64)
    case text(String)
    case bytes([UInt8])
    /// Kept in properties of their own type; see `SpecialDirective`.
    case special
}

/// What is wrong with a value; the text is Redis'.
struct DirectiveError: Error {
    let text: String

    static let wrongArgumentCount = DirectiveError(text: "wrong number of arguments")
}

struct IntegerRules: Sendable {
    enum Unit: Sendable {
        case plain, memory, memoryOrPercent, octal
    }

    let unit: Unit
    let lower: Int64
    /// By its bit pattern if `isUnsigned`.
    let upper: Int64
    let isUnsigned: Bool
}

// MARK: Assigning

extension Directive {
    /// Sets the directive to `words`, which stand behind its name.
    func assign(_ words: [[UInt8]], to configuration: inout ServerConfiguration) throws(DirectiveError) {
        if case .special(let special) = rules {
            return try special.assign(words, &configuration)
        }
        set(&configuration, try value(of: words))
    }

    private func value(of words: [[UInt8]]) throws(DirectiveError) -> DirectiveValue {
        if case .bits(let known, let validate) = rules {
            return .integer(try Self.bits(of: words, among: known, validate))
        }
        guard let word = words.first, words.count == 1 else { throw .wrongArgumentCount }
        switch rules {
        case .bool:
            if word.equalsIgnoringCase("yes".utf8) { return .bool(true) }
            if word.equalsIgnoringCase("no".utf8) { return .bool(false) }
            throw DirectiveError(text: "argument must be 'yes' or 'no'")
        case .integer(let rules):
            return .integer(try rules.parse(word))
        case .choice(let known):
            guard let index = known.firstIndex(where: { word.equalsIgnoringCase($0.utf8) }) else {
                throw Self.notOneOf(known)
            }
            return .integer(Int64(index))
        case .text(_, let validate):
            let text = try Self.text(of: word)
            if let problem = validate?(text) { throw DirectiveError(text: problem) }
            return .text(text)
        case .bytes:
            return .bytes(word)
        case .bits, .special:
            preconditionFailure("handled above")
        }
    }

    private static func bits(
        of words: [[UInt8]], among known: [(word: String, bits: Int64)], _ validate: Validate<Int64>?
    ) throws(DirectiveError) -> Int64 {
        var bits: Int64 = 0
        for word in words {
            guard let match = known.first(where: { word.equalsIgnoringCase($0.word.utf8) }) else {
                throw notOneOf(known.map(\.word))
            }
            bits |= match.bits
        }
        if words.isEmpty { throw notOneOf(known.map(\.word)) }
        if let problem = validate?(bits) { throw DirectiveError(text: problem) }
        return bits
    }

    private static func notOneOf(_ known: [String]) -> DirectiveError {
        DirectiveError(text: "argument(s) must be one of the following: " + known.joined(separator: ", "))
    }

    /// Texts are paths, names and addresses, which have to be UTF-8 here, and which C would end at a zero byte.
    static func text(of word: [UInt8]) throws(DirectiveError) -> String {
        guard !word.contains(0), let text = String(validating: word, as: UTF8.self) else {
            throw DirectiveError(text: "argument must be valid UTF-8 without zero bytes")
        }
        return text
    }
}

// MARK: Showing

extension Directive {
    /// The value as CONFIG GET shows it.
    func shown(in configuration: ServerConfiguration) -> [UInt8] {
        switch (rules, get(configuration)) {
        case (.special(let special), _): special.shown(configuration)
        case (.integer(let rules), .integer(let number)): Array(rules.shown(number).utf8)
        case (.choice(let known), .integer(let index)): Array(known[Int(index)].utf8)
        case (.bits(let known, _), .integer(let bits)): Array(Self.words(of: bits, among: known).utf8)
        case (_, .bool(let isOn)): Array((isOn ? "yes" : "no").utf8)
        case (_, .text(let text)): Array(text.utf8)
        case (_, .bytes(let bytes)): bytes
        default: preconditionFailure("\(name) keeps a value of another type than its rules say")
        }
    }

    private static func words(of bits: Int64, among known: [(word: String, bits: Int64)]) -> String {
        if let exact = known.first(where: { $0.bits == bits }) { return exact.word }
        return known.filter { $0.bits != 0 && bits & $0.bits == $0.bits }.map(\.word).joined(separator: " ")
    }
}

/// What CONFIG REWRITE does about a directive.
enum DirectiveRewrite {
    /// The lines belong into the file.
    case lines([[UInt8]])
    /// The lines replace present ones, but are not added to a file without them: all is default.
    case linesIfPresent([[UInt8]])
    /// Present lines go away.
    case removed
}

extension Directive {
    func rewrite(_ configuration: ServerConfiguration) -> DirectiveRewrite {
        switch rules {
        case .special(let special):
            return special.rewrite(configuration)
        case .text(let isAbsentWhenEmpty, _):
            let text = shown(in: configuration)
            if isAbsentWhenEmpty, text.isEmpty { return .removed }
            return line(quotedArgument(text), configuration)
        case .bytes:
            let text = shown(in: configuration)
            return text.isEmpty ? .removed : line(quotedArgument(text), configuration)
        case .integer(let rules):
            guard case .integer(let number) = get(configuration) else { preconditionFailure("\(name) is no integer") }
            return line(Array(rules.rewritten(number).utf8), configuration)
        case .bool, .choice, .bits:
            return line(shown(in: configuration), configuration)
        }
    }

    private func line(_ value: [UInt8], _ configuration: ServerConfiguration) -> DirectiveRewrite {
        let line = Array(name.utf8) + [UInt8(ascii: " ")] + value
        return get(configuration) == defaultValue ? .linesIfPresent([line]) : .lines([line])
    }
}

// MARK: Numbers

extension IntegerRules {
    func parse(_ word: [UInt8]) throws(DirectiveError) -> Int64 {
        let number = try parseNumber(word)
        if isUnsigned {
            let (low, high) = (UInt64(bitPattern: lower), UInt64(bitPattern: upper))
            let value = UInt64(bitPattern: number)
            guard value >= low, value <= high else {
                let radix = unit == .octal ? 8 : 10
                throw DirectiveError(
                    text: "argument must be between \(String(low, radix: radix)) and \(String(high, radix: radix)) "
                        + "inclusive")
            }
        } else if unit == .memoryOrPercent, number < 0 {
            guard number >= lower else {
                throw DirectiveError(text: "percentage argument must be less or equal to \(0 - lower)")
            }
        } else if number < lower || number > upper {
            throw DirectiveError(text: "argument must be between \(lower) and \(upper) inclusive")
        }
        return number
    }

    private func parseNumber(_ word: [UInt8]) throws(DirectiveError) -> Int64 {
        switch unit {
        case .plain:
            if let number = word.withUnsafeBytes(parseInt64) { return number }
            throw DirectiveError(text: "argument couldn't be parsed into an integer")
        case .memory:
            if let bytes = parseMemory(word) { return Int64(bitPattern: bytes) }
            throw DirectiveError(text: "argument must be a memory value")
        case .memoryOrPercent:
            if let bytes = parseMemory(word) { return Int64(bitPattern: bytes) }
            if word.count > 1, word.last == UInt8(ascii: "%"),
                let percent = word.dropLast().withUnsafeBytes({ parseInt64($0) }), percent >= 0
            {
                return 0 - percent
            }
            throw DirectiveError(text: "argument must be a memory or percent value")
        case .octal:
            if let number = parseLenientInteger(word, radix: 8), !number.isOutOfRange { return number.value }
            throw DirectiveError(text: "argument couldn't be parsed as an octal number")
        }
    }

    func shown(_ number: Int64) -> String {
        switch unit {
        case .memoryOrPercent where number < 0: "\(number.magnitude)%"
        case .memory, .memoryOrPercent: String(UInt64(bitPattern: number))
        case .octal: String(UInt64(bitPattern: number), radix: 8)
        case .plain: String(number)
        }
    }

    func rewritten(_ number: Int64) -> String {
        switch unit {
        case .memory: formatMemory(UInt64(bitPattern: number))
        case .memoryOrPercent where number >= 0: formatMemory(number)
        default: shown(number)
        }
    }
}

/// Bytes from `100`, `1k` (1000), `1kb` (1024), and so on to `gb`, in any case; nil if it is nothing of that form.
///
/// What exceeds 64 bits saturates before and wraps behind the multiplication, and no digits are 0, as in Redis.
/// Source: Redis 7.0 util.c, `memtoull`.
func parseMemory(_ word: [UInt8]) -> UInt64? {
    let digits = word.prefix { $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }
    let unit = Array(word.dropFirst(digits.count))
    let units: [(String, UInt64)] = [
        ("", 1), ("b", 1), ("k", 1000), ("kb", 1 << 10), ("m", 1_000_000), ("mb", 1 << 20), ("g", 1_000_000_000),
        ("gb", 1 << 30),
    ]
    guard digits.count < 128, let factor = units.first(where: { unit.equalsIgnoringCase($0.0.utf8) })?.1 else {
        return nil
    }
    var value: UInt64 = 0
    for digit in digits {
        let (product, overflows) = value.multipliedReportingOverflow(by: 10)
        let (sum, overflowsToo) = product.addingReportingOverflow(UInt64(digit - UInt8(ascii: "0")))
        value = overflows || overflowsToo ? .max : sum
        if value == .max { break }
    }
    return value &* factor
}

/// The largest unit that divides `bytes`. Source: Redis 7.0 config.c, `rewriteConfigFormatMemory`.
func formatMemory<Count: FixedWidthInteger>(_ bytes: Count) -> String {
    for (unit, factor) in [("gb", Count(1) << 30), ("mb", 1 << 20), ("kb", 1 << 10)]
    where bytes != 0 && bytes % factor == 0 {
        return "\(bytes / factor)\(unit)"
    }
    return String(bytes)
}

/// An integer as C's `strtoll` takes it if the word is used up: blanks before it, a sign, leading zeros, and an empty
/// word as 0. Out of range it saturates.
func parseLenientInteger(_ word: [UInt8], radix: Int64 = 10) -> (value: Int64, isOutOfRange: Bool)? {
    if word.isEmpty { return (0, false) }
    var rest = word.drop { $0 == 0x20 || ($0 >= 0x09 && $0 <= 0x0D) }
    var isNegative = false
    if let sign = rest.first, sign == UInt8(ascii: "-") || sign == UInt8(ascii: "+") {
        isNegative = sign == UInt8(ascii: "-")
        rest = rest.dropFirst()
    }
    guard !rest.isEmpty else { return nil }
    var value: Int64 = 0
    var isOutOfRange = false
    for byte in rest {
        guard byte >= UInt8(ascii: "0"), Int64(byte - UInt8(ascii: "0")) < radix else { return nil }
        let digit = Int64(byte - UInt8(ascii: "0"))
        let (product, overflows) = value.multipliedReportingOverflow(by: radix)
        let (sum, overflowsToo) =
            isNegative ? product.subtractingReportingOverflow(digit) : product.addingReportingOverflow(digit)
        if overflows || overflowsToo { isOutOfRange = true }
        if !isOutOfRange { value = sum }
    }
    return isOutOfRange ? (isNegative ? .min : .max, true) : (value, false)
}
