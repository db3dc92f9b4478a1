import MartletBase

// How the lines of the table become directives. Each kind comes twice: with the property that holds the value, whose
// initial value is the default, and with a default, for values that no code reads.

extension Directive {
    typealias Path<Value> = any WritableKeyPath<ServerConfiguration, Value> & Sendable

    static func bool(
        _ name: String, alias: String? = nil, _ path: Path<Bool>, flags: Flags = [], support: Support = .supported
    ) -> Directive {
        Directive(
            name: name, alias: alias, flags: flags, support: support, rules: .bool,
            get: { .bool($0[keyPath: path]) },
            set: { if case .bool(let value) = $1 { $0[keyPath: path] = value } })
    }

    static func bool(_ name: String, default value: Bool, flags: Flags = [], support: Support) -> Directive {
        unread(name, .bool(value), flags, support, .bool)
    }

    static func integer(
        _ name: String, alias: String? = nil, _ path: Path<Int>, _ bounds: ClosedRange<Int>,
        unit: IntegerRules.Unit = .plain, unsigned: Bool = false, flags: Flags = [],
        support: Support = .supported
    ) -> Directive {
        Directive(
            name: name, alias: alias, flags: flags, support: support,
            rules: .integer(IntegerRules(unit, bounds, isUnsigned: unsigned)),
            get: { .integer(Int64($0[keyPath: path])) },
            set: { if case .integer(let value) = $1 { $0[keyPath: path] = Int(value) } })
    }

    /// The whole range of 64 bits.
    static func integer(
        _ name: String, _ path: Path<UInt64>, unit: IntegerRules.Unit, support: Support = .supported
    ) -> Directive {
        Directive(
            name: name, alias: nil, flags: [], support: support,
            rules: .integer(IntegerRules(unit: unit, lower: 0, upper: -1, isUnsigned: true)),
            get: { .integer(Int64(bitPattern: $0[keyPath: path])) },
            set: { if case .integer(let value) = $1 { $0[keyPath: path] = UInt64(bitPattern: value) } })
    }

    static func integer(
        _ name: String, default value: Int, _ bounds: ClosedRange<Int>, unit: IntegerRules.Unit = .plain,
        unsigned: Bool = false, flags: Flags = [], support: Support
    ) -> Directive {
        unread(
            name, .integer(Int64(value)), flags, support,
            .integer(IntegerRules(unit, bounds, isUnsigned: unsigned)))
    }

    static func choice<Value: Equatable & Sendable>(
        _ name: String, _ path: Path<Value>, _ words: [(String, Value)], flags: Flags = [],
        support: Support = .supported
    ) -> Directive {
        let values = words.map(\.1)
        return Directive(
            name: name, alias: nil, flags: flags, support: support, rules: .choice(words.map(\.0)),
            // The first word of a value is the one that is shown.
            get: { .integer(Int64(values.firstIndex(of: $0[keyPath: path])!)) },
            set: { if case .integer(let index) = $1 { $0[keyPath: path] = values[Int(index)] } })
    }

    static func choice<Value: CaseIterable & RawRepresentable<String> & Equatable & Sendable>(
        _ name: String, _ path: Path<Value>, flags: Flags = [], support: Support = .supported
    ) -> Directive {
        choice(name, path, Value.allCases.map { ($0.rawValue, $0) }, flags: flags, support: support)
    }

    static func choice(
        _ name: String, default word: String, _ words: [String], flags: Flags = [], support: Support
    ) -> Directive {
        unread(name, .integer(Int64(words.firstIndex(of: word)!)), flags, support, .choice(words))
    }

    static func shutdownFlags(_ name: String, _ path: Path<ShutdownFlags>) -> Directive {
        let words: [(String, ShutdownFlags)] = [
            ("default", []), ("save", .save), ("nosave", .noSave), ("now", .now), ("force", .force),
        ]
        let rules = Rules.bits(
            words.map { (word: $0.0, bits: Int64($0.1.rawValue)) },
            validate: { bits in
                ShutdownFlags(rawValue: UInt8(bits)).isSuperset(of: [.save, .noSave])
                    ? "shutdown options SAVE and NOSAVE can't be used simultaneously" : nil
            })
        return Directive(
            name: name, alias: nil, flags: [.multiArgument], support: .supported, rules: rules,
            get: { .integer(Int64($0[keyPath: path].rawValue)) },
            set: { if case .integer(let bits) = $1 { $0[keyPath: path] = ShutdownFlags(rawValue: UInt8(bits)) } })
    }

    /// `isAbsentWhenEmpty`: the empty text stands for no value, which a rewritten file does not mention.
    static func text(
        _ name: String, alias: String? = nil, _ path: Path<String>, flags: Flags = [],
        isAbsentWhenEmpty: Bool = true, support: Support = .supported, validate: Validate<String>? = nil
    ) -> Directive {
        Directive(
            name: name, alias: alias, flags: flags, support: support,
            rules: .text(isAbsentWhenEmpty: isAbsentWhenEmpty, validate: validate),
            get: { .text($0[keyPath: path]) },
            set: { if case .text(let value) = $1 { $0[keyPath: path] = value } })
    }

    static func text(
        _ name: String, default value: String, flags: Flags = [], isAbsentWhenEmpty: Bool = true,
        support: Support
    ) -> Directive {
        unread(name, .text(value), flags, support, .text(isAbsentWhenEmpty: isAbsentWhenEmpty, validate: nil))
    }

    static func bytes(
        _ name: String, _ path: Path<[UInt8]>, flags: Flags = [], support: Support = .supported
    ) -> Directive {
        Directive(
            name: name, alias: nil, flags: flags, support: support, rules: .bytes,
            get: { .bytes($0[keyPath: path]) },
            set: { if case .bytes(let value) = $1 { $0[keyPath: path] = value } })
    }

    static func special(
        _ name: String, alias: String? = nil, _ special: SpecialDirective, flags: Flags = [],
        support: Support = .supported
    ) -> Directive {
        Directive(
            name: name, alias: alias, flags: flags, support: support, rules: .special(special),
            get: { _ in .special }, set: { _, _ in })
    }

    private static func unread(
        _ name: String, _ value: DirectiveValue, _ flags: Flags, _ support: Support, _ rules: Rules
    ) -> Directive {
        Directive(
            name: name, alias: nil, flags: flags, support: support, rules: rules,
            get: { $0.unread[name] ?? value },
            set: { $0.unread[name] = $1 })
    }
}

extension IntegerRules {
    init(_ unit: Unit, _ bounds: ClosedRange<Int>, isUnsigned: Bool) {
        self.init(
            unit: unit, lower: Int64(bounds.lowerBound), upper: Int64(bounds.upperBound), isUnsigned: isUnsigned)
    }
}

// MARK: Checks of texts

func isFileName(_ path: String) -> Bool { !path.utf8.contains { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "\\") } }

/// Source: Redis 7.0 server.h, NET_HOST_STR_LEN, with the terminator.
private let hostnameBytesMax = 256

@Sendable
func hostnameProblem(_ name: String) -> String? {
    if name.utf8.count >= hostnameBytesMax { return "Hostnames must be less than \(hostnameBytesMax) characters" }
    let isPlain = name.utf8.allSatisfy { byte in
        switch byte.lowercasedASCII {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"),
            UInt8(ascii: "."):
            true
        default: false
        }
    }
    return isPlain ? nil : "Hostnames may only contain alphanumeric characters, hyphens or dots"
}

/// What may stand in an auxiliary field of nodes.conf: what Valkey 9 allows (cluster.c, `isValidAuxChar`), less what
/// separates fields there.
func isPlainNodeNameByte(_ byte: UInt8) -> Bool {
    byte > 0x20 && byte != 0x7F && !"!#$%&()*+;<>?@[]^{|}~,=".utf8.contains(byte)
}

/// Four decimal numbers below 256 without needless zeros, as inet_pton takes them.
func isIPv4Address(_ text: String) -> Bool {
    let parts = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    return parts.count == 4
        && parts.allSatisfy { part in
            guard let number = Array(part).withUnsafeBytes(parseUInt64) else { return false }
            return number < 256
        }
}

/// Eight groups of up to four hexadecimal digits; `::` once for one or more groups of 0; an IPv4 tail for the last two.
func isIPv6Address(_ text: String) -> Bool {
    func groupCount(_ part: Substring) -> Int? {
        if part.isEmpty { return 0 }
        let groups = part.split(separator: ":", omittingEmptySubsequences: false)
        var count = 0
        for (index, group) in groups.enumerated() {
            if index == groups.count - 1, isIPv4Address(String(group)) {
                count += 2
            } else if (1...4).contains(group.utf8.count), group.allSatisfy({ $0.isASCII && $0.isHexDigit }) {
                count += 1
            } else {
                return nil
            }
        }
        return count
    }
    guard let gap = firstGap(of: text) else { return groupCount(text[...]) == 8 }
    guard let before = groupCount(text[..<gap.lowerBound]), let after = groupCount(text[gap.upperBound...]) else {
        return false
    }
    return before + after < 8 && !text[..<gap.lowerBound].contains(".")
}

private func firstGap(of text: String) -> Range<String.Index>? {
    var index = text.startIndex
    while index < text.endIndex {
        let next = text.index(after: index)
        if next < text.endIndex, text[index] == ":", text[next] == ":" { return index..<text.index(after: next) }
        index = next
    }
    return nil
}

/// Text with `{title}`, `{listen-addr}`, `{server-mode}`, `{port}`, `{tls-port}`, `{unixsocket}` and `{config-file}`,
/// with `{{` and `}}` for the braces themselves. Source: Redis 7.0 sds.c, `sdstemplate`, server.c,
/// `redisProcTitleGetVariable`.
func isProcessTitleTemplate(_ template: String) -> Bool {
    let variables: Set<String> = [
        "title", "listen-addr", "server-mode", "port", "tls-port", "unixsocket", "config-file",
    ]
    var hasText = false
    var rest = template[...]
    while let character = rest.popFirst() {
        guard character == "{" else {
            hasText = hasText || character != " "
            continue
        }
        if rest.first == "{" {
            rest.removeFirst()
            hasText = true
            continue
        }
        guard let end = rest.firstIndex(of: "}"), variables.contains(String(rest[..<end])) else { return false }
        // These two may have no text.
        hasText = hasText || (rest[..<end] != "title" && rest[..<end] != "unixsocket")
        rest = rest[rest.index(after: end)...]
    }
    return hasText
}
