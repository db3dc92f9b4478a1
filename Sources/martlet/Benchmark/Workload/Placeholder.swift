/// A part of an argument that is filled in anew each time its request is sent.
///
/// | text | becomes |
/// |---|---|
/// | `__rand_int__` | a key number, drawn for each place; 12 digits |
/// | `__key__` | a key number, drawn once for an operation; 12 digits |
/// | `__key+N__` | the Nth number after `__key__`, the first following the last |
/// | `__new__` | the number of a key that was not yet used, the same in all places of an operation |
/// | `__data__` | a value; its size comes from `-d` or `--sizes` |
/// | `{tag}` | cluster mode: a hash tag that leads to a random slot, the same in all places of an operation |
package enum Placeholder: Equatable, Sendable {
    case random
    case key(plus: UInt64)
    case new
    case data
    case tag

    /// As many as redis-benchmark writes.
    package static let digitCount = 12
    /// Key numbers have to fit ``digitCount`` digits.
    package static let keyCountMax = 1_000_000_000_000

    package enum Part: Equatable, Sendable {
        case bytes([UInt8])
        case placeholder(Placeholder)
    }

    package struct Enabled: Sendable {
        /// Without `-r`, redis-benchmark sends `__rand_int__` as it stands.
        package var numbers = true
        package var tag = false

        package init(numbers: Bool = true, tag: Bool = false) {
            self.numbers = numbers
            self.tag = tag
        }
    }

    /// Divides an argument at its placeholders.
    package static func parts(of argument: [UInt8], _ enabled: Enabled) -> [Part] {
        var parts: [Part] = []
        var bytes: [UInt8] = []
        var rest = argument[...]
        while !rest.isEmpty {
            guard let (placeholder, count) = match(rest, enabled) else {
                bytes.append(rest.removeFirst())
                continue
            }
            if !bytes.isEmpty { parts.append(.bytes(bytes)) }
            bytes = []
            parts.append(.placeholder(placeholder))
            rest = rest.dropFirst(count)
        }
        if !bytes.isEmpty { parts.append(.bytes(bytes)) }
        return parts
    }

    private static let words: [(text: [UInt8], placeholder: Placeholder)] = [
        (Array("__rand_int__".utf8), .random), (Array("__key__".utf8), .key(plus: 0)), (Array("__new__".utf8), .new),
        (Array("__data__".utf8), .data), (Array("{tag}".utf8), .tag),
    ]

    /// The placeholder that `bytes` begin with, and the count of its bytes.
    private static func match(_ bytes: ArraySlice<UInt8>, _ enabled: Enabled) -> (Placeholder, count: Int)? {
        guard bytes.first == UInt8(ascii: "_") || bytes.first == UInt8(ascii: "{") else { return nil }
        for word in words where bytes.starts(with: word.text) {
            let isEnabled =
                switch word.placeholder {
                case .random, .key, .new: enabled.numbers
                case .data: true
                case .tag: enabled.tag
                }
            if isEnabled { return (word.placeholder, word.text.count) }
        }
        let prefix = Array("__key+".utf8)
        guard enabled.numbers, bytes.starts(with: prefix) else { return nil }
        let digits = bytes.dropFirst(prefix.count).prefix { $0 >= 48 && $0 <= 57 }
        guard !digits.isEmpty, digits.count <= digitCount, bytes[digits.endIndex...].starts(with: [95, 95]) else {
            return nil
        }
        let number = digits.reduce(UInt64(0)) { $0 * 10 + UInt64($1 - 48) }
        return (.key(plus: number), prefix.count + digits.count + 2)
    }
}
