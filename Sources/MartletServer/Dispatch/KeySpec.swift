import MartletBase
import MartletRESP

/// Where the keys of a command stand and what is done to them. (Key specifications of Redis 7.0)
package struct KeySpec: Sendable {
    package struct Flags: OptionSet, Sendable {
        package let rawValue: UInt16
        package init(rawValue: UInt16) { self.rawValue = rawValue }

        package static let readOnly = Flags(rawValue: 1 << 0)
        package static let readWrite = Flags(rawValue: 1 << 1)
        package static let overwrite = Flags(rawValue: 1 << 2)
        package static let remove = Flags(rawValue: 1 << 3)
        package static let access = Flags(rawValue: 1 << 4)
        package static let update = Flags(rawValue: 1 << 5)
        package static let insert = Flags(rawValue: 1 << 6)
        package static let delete = Flags(rawValue: 1 << 7)
        package static let notKey = Flags(rawValue: 1 << 8)
        package static let incomplete = Flags(rawValue: 1 << 9)
        package static let variableFlags = Flags(rawValue: 1 << 10)
    }

    package enum Begin: Sendable {
        case index(Int)
        /// After a word; a negative start counts from the end and searches backwards.
        case keyword(StaticString, startFrom: Int)
        /// The argument behind the last such option; other options take some arguments each. Told as unknown.
        case option(StaticString, startFrom: Int, others: [(word: StaticString, count: Int)])
        /// Names that are made of data. Told as unknown.
        case data
        case unknown
    }

    package enum Find: Sendable {
        /// `last` is relative to the first key, or from the end if negative. `limit` 2 stops half way, and so on.
        case range(last: Int, step: Int, limit: Int)
        /// An argument holds the number of keys. Positions are relative to the beginning.
        case count(index: Int, first: Int, step: Int)
        case unknown
    }

    package let flags: Flags
    package let begin: Begin
    package let find: Find
    package let notes: StaticString?

    package init(_ flags: Flags, begin: Begin, find: Find, notes: StaticString? = nil) {
        self.flags = flags
        self.begin = begin
        self.find = find
        self.notes = notes
    }

    package static func one(at index: Int, _ flags: Flags, notes: StaticString? = nil) -> KeySpec {
        KeySpec(flags, begin: .index(index), find: .range(last: 0, step: 1, limit: 0), notes: notes)
    }

    /// Every argument from `index` to the end, or every `step`-th.
    package static func all(from index: Int, step: Int = 1, _ flags: Flags) -> KeySpec {
        KeySpec(flags, begin: .index(index), find: .range(last: -1, step: step, limit: 0))
    }

    /// Indexes of the keys in a request. - Returns: nil if the request does not fit the specification.
    package func keyIndexes(in request: Request) -> [Int]? {
        var first: Int
        switch begin {
        case .index(let index): first = index
        case .keyword(let word, let startFrom):
            let start = startFrom > 0 ? startFrom : request.count + startFrom
            let range =
                startFrom > 0
                ? Array(stride(from: start, to: request.count, by: 1))
                : Array(stride(from: start, to: 0, by: -1))
            guard let found = range.first(where: { $0 > 0 && $0 < request.count && request.matches($0, word) }) else {
                return []
            }
            first = found + 1
        case .option(let word, let start, let others):
            var found: [Int] = []
            var index = start
            while index < request.count {
                if request.matches(index, word) {
                    if index + 1 < request.count { found = [index + 1] }
                    index += 1
                } else {
                    index += others.first { request.matches(index, $0.word) }?.count ?? 0
                }
                index += 1
            }
            return found
        case .data: return []
        case .unknown: return nil
        }
        switch find {
        case .range(let last, let step, let limit):
            let end: Int
            if last >= 0 {
                end = first + last
            } else if limit <= 1 {
                end = request.count + last
            } else {
                end = first + (request.count - first) / limit + last
            }
            guard first <= end, end < request.count else { return nil }
            return Array(stride(from: first, through: end, by: step))
        case .count(let index, let firstKey, let step):
            guard first + index < request.count, let count = parseInt64(request[first + index]), count > 0 else {
                return nil
            }
            first += firstKey
            let (last, overflow) = Int(count).multipliedReportingOverflow(by: step)
            guard !overflow, last <= request.count - first else { return nil }
            return Array(stride(from: first, to: first + last, by: step))
        case .unknown: return nil
        }
    }
}
