import MartletBase
import MartletKeyspace
import MartletRESP

// SORT: the elements of a list, set or sorted set in another order.
//
// What decides the order may lie in other keys: `BY weight_*` looks for the weight of element 7 in the key `weight_7`, and
// `BY object_*->weight` in the field `weight` of the hash `object_7`. `GET` in the same way answers with something else
// than the elements. Names of such keys come from the data, so cluster mode does not have them.
//
// Elements and weights are views into the values where they lie: nothing changes those before the reply is written, or the
// result stored.
//
// Source: Redis 7.0 sort.c.

extension CommandFamily {
    static let sort = CommandFamily(.generic, [.sort, .sortReadOnly])
}

extension Command {
    private static let sortComplexity: StaticString = """
        O(N+M*log(M)) where N is the number of elements in the list or set to sort, and M the number of returned elements. \
        When the elements are not sorted, complexity is O(N).
        """

    private static let sortedKey = KeySpec.one(at: 1, [.readOnly, .access])
    private static let sortPatterns = KeySpec(
        [.readOnly, .access], begin: .data, find: .unknown,
        notes: """
            For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the content of the \
            key we sort
            """)

    static let sort = Command(
        "SORT", since: "1.0.0", arity: .atLeast(2), flags: [.write, .denyOutOfMemory],
        keys: [
            sortedKey, sortPatterns,
            KeySpec(
                [.overwrite, .update],
                begin: .option("STORE", startFrom: 2, others: [("LIMIT", 2), ("GET", 1), ("BY", 1)]), find: .unknown,
                notes: """
                    For the optional STORE keyword. It is marked 'unknown' because the keyword can appear anywhere in \
                    the argument array
                    """),
        ],
        categories: ["-keyspace", "set", "sortedset", "list", "dangerous"],
        arguments: """
            key [BY pattern:pattern#1] [LIMIT {offset:integer count:integer}] [GET pattern:pattern#1]+ \
            [order=<ASC|DESC>] [sorting=ALPHA] [STORE destination:key#2]
            """,
        complexity: sortComplexity, summary: "Sort the elements in a list, set or sorted set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try runSort(request, mayStore: true, &keyspace, &reply)
        })

    static let sortReadOnly = Command(
        "SORT_RO", since: "7.0.0", arity: .atLeast(2), flags: [.readonly], keys: [sortedKey, sortPatterns],
        categories: ["-keyspace", "set", "sortedset", "list", "dangerous"],
        arguments: """
            key [BY pattern:pattern#1] [LIMIT {offset:integer count:integer}] [GET pattern:pattern#1]+ \
            [order=<ASC|DESC>] [sorting=ALPHA]
            """,
        complexity: sortComplexity,
        summary: "Sort the elements in a list, set or sorted set. Read-only variant of SORT.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try runSort(request, mayStore: false, &keyspace, &reply)
        })

    private static func runSort(
        _ request: Request, mayStore: Bool, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        var options = try SortOptions(request, mayStore: mayStore, isClustered: keyspace.isClustered)
        var elements: [SortElement] = []
        var range = 0..<0
        if let entry = keyspace.lookupRead(request.firstKey) {
            guard entry.type == .set || entry.type == .list || entry.type == .sortedSet else { throw .wrongType }
            // A set has no order of its own, and what is stored has to be the same on every replica; scripts rely on it.
            if options.keepsOrder, entry.type == .set, options.target != nil || keyspace.isInScript {
                options.sortAlphabetically()
            }
            let count = entry.container.count
            range = options.range(of: count)
            if options.keepsOrder, entry.type != .set {
                elements = keyspace.elements(of: entry, range, isReversed: options.isDescending)
                range = elements.indices
            } else {
                elements = keyspace.elements(of: entry, 0..<count, isReversed: false)
            }
        }
        if !options.keepsOrder {
            try weigh(&elements, options, &keyspace)
            elements.sort { options.areInOrder($0, $1) }
        }
        if let target = options.target {
            store(elements[range], options, target, &keyspace, &reply)
        } else {
            write(elements[range], options, &keyspace, &reply)
        }
    }

    /// Finds out what the elements are sorted by.
    private static func weigh(
        _ elements: inout [SortElement], _ options: SortOptions, _ keyspace: inout Keyspace
    ) throws(ReplyError) {
        var isReadable = true
        for index in elements.indices {
            var weight: StringView? = elements[index].value
            if let pattern = options.by { weight = keyspace.value(of: pattern, for: elements[index].value) }
            elements[index].weight = weight
            guard !options.isAlphabetic, let weight else { continue }
            // Keys of the other elements are looked up in any case: who is told of misses is told of all.
            if let score = sortScore(weight) { elements[index].score = score } else { isReadable = false }
        }
        if !isReadable { throw .text("ERR One or more scores can't be converted into double") }
    }

    private static func write(
        _ elements: ArraySlice<SortElement>, _ options: SortOptions, _ keyspace: inout Keyspace,
        _ reply: inout ReplyBuffer
    ) {
        reply.array(elements.count * max(options.gets.count, 1))
        for element in elements {
            if options.gets.isEmpty { reply.value(element.value) }
            for pattern in options.gets {
                if let value = keyspace.value(of: pattern, for: element.value) {
                    reply.value(value)
                } else {
                    reply.null()
                }
            }
        }
    }

    private static func store(
        _ elements: ArraySlice<SortElement>, _ options: SortOptions, _ target: UnsafeRawBufferPointer,
        _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) {
        let target = keyspace.key(target)
        let count = elements.count * max(options.gets.count, 1)
        if count > 0 {
            var list = ListValue(limits: keyspace.encodingLimits)
            for element in elements {
                if options.gets.isEmpty { list.push(element.value, at: .tail) }
                for pattern in options.gets {
                    list.push(keyspace.value(of: pattern, for: element.value) ?? .bytes(bytes("")), at: .tail)
                }
            }
            keyspace.set(target, list.container, event: .sortStore, changes: count)
        } else {
            _ = keyspace.delete(target)
        }
        reply.integer(count)
    }
}

// MARK: Options

private struct SortOptions {
    private(set) var isDescending = false
    private(set) var isAlphabetic = false
    /// Nothing is sorted: BY names no key.
    private(set) var keepsOrder = false
    /// Nil if elements are sorted by themselves.
    private(set) var by: UnsafeRawBufferPointer?
    private(set) var gets: [UnsafeRawBufferPointer] = []
    private(set) var target: UnsafeRawBufferPointer?
    private var start: Int64 = 0
    private var count: Int64 = -1

    init(_ request: Request, mayStore: Bool, isClustered: Bool) throws(ReplyError) {
        var index = 2
        while index < request.count {
            let following = request.count - index - 1
            if request.matches(index, "ASC") {
                isDescending = false
            } else if request.matches(index, "DESC") {
                isDescending = true
            } else if request.matches(index, "ALPHA") {
                isAlphabetic = true
            } else if request.matches(index, "LIMIT"), following >= 2 {
                start = try request.integer(at: index + 1)
                count = try request.integer(at: index + 2)
                index += 2
            } else if mayStore, request.matches(index, "STORE"), following >= 1 {
                target = request[index + 1]
                index += 1
            } else if request.matches(index, "BY"), following >= 1 {
                by = request[index + 1]
                if !request[index + 1].cString.contains(UInt8(ascii: "*")) {
                    keepsOrder = true
                } else if isClustered {
                    throw .text("ERR BY option of SORT denied in Cluster mode.")
                }
                index += 1
            } else if request.matches(index, "GET"), following >= 1 {
                if isClustered { throw .text("ERR GET option of SORT denied in Cluster mode.") }
                gets.append(request[index + 1])
                index += 1
            } else {
                throw .syntax
            }
            index += 1
        }
    }

    /// By the elements themselves, although BY says not to sort.
    mutating func sortAlphabetically() {
        keepsOrder = false
        isAlphabetic = true
        by = nil
    }

    /// Which of the sorted elements are wanted.
    func range(of size: Int) -> Range<Int> {
        let first = Int(min(max(start, 0), Int64(size)))
        guard count >= 0 else { return first..<size }
        return first..<Int(min(Int64(first) + min(count, Int64(size)), Int64(size)))
    }

    func areInOrder(_ one: SortElement, _ other: SortElement) -> Bool {
        let order = isAlphabetic ? compareTexts(one.weight, other.weight) : compareScores(one, other)
        return isDescending ? order > 0 : order < 0
    }

    private func compareScores(_ one: SortElement, _ other: SortElement) -> Int {
        if one.score != other.score { return one.score < other.score ? -1 : 1 }
        return compareTexts(one.value, other.value)
    }

    /// A missing text is less than any other.
    private func compareTexts(_ one: StringView?, _ other: StringView?) -> Int {
        guard let one, let other else { return (one == nil ? 0 : 1) - (other == nil ? 0 : 1) }
        if case .bytes(let one) = one, case .bytes(let other) = other { return compareBytes(one, other) }
        return one.withBytes { one in other.withBytes { other in compareBytes(one, other) } }
    }
}

/// Elements are only used while nothing is changed.
private struct SortElement {
    let value: StringView
    var weight: StringView?
    var score = 0.0
}

/// A number as C's strtod reads it, or nil: blanks may be before it, and a zero byte ends it. No text is 0.
private func sortScore(_ weight: StringView) -> Double? {
    switch weight {
    case .integer(let number): return Double(number)
    case .bytes(let bytes):
        let text = bytes.cString
        if text.isEmpty { return 0 }
        return parseDouble(UnsafeRawBufferPointer(rebasing: text.drop { $0 == 32 || (9...13).contains($0) }))
    }
}

// MARK: Values

extension Keyspace {
    /// The elements at some places of a list, set or sorted set.
    ///
    /// - Parameter isReversed: places count from the end, and the last element comes first. Not for sets.
    fileprivate mutating func elements(of entry: Entry, _ range: Range<Int>, isReversed: Bool) -> [SortElement] {
        var elements: [SortElement] = []
        elements.reserveCapacity(range.count)
        if range.isEmpty { return elements }
        switch entry.type {
        case .set:
            setValue(entry).members.forEach { member in
                elements.append(SortElement(value: member))
                return true
            }
        case .list:
            let list = list(entry)
            var cursor =
                isReversed
                ? list.elements(from: list.count - range.lowerBound - 1, towards: .head)
                : list.elements(from: range.lowerBound, towards: .tail)
            while elements.count < range.count, let value = cursor.next() { elements.append(SortElement(value: value)) }
        case .sortedSet:
            let set = sortedSet(entry)
            let ranks = isReversed ? set.count - range.upperBound..<set.count - range.lowerBound : range
            set.forEach(in: ranks, isReversed: isReversed) { member, _ in elements.append(SortElement(value: member)) }
        case .string, .hash, .stream: preconditionFailure("a type that has elements of its own")
        }
        return elements
    }

    /// What a pattern of BY or GET stands for. (lookupKeyByPattern)
    ///
    /// - Parameter element: stands where the pattern has its first `*`; for the pattern `#` it is the answer.
    fileprivate mutating func value(of pattern: UnsafeRawBufferPointer, for element: StringView) -> StringView? {
        let text = pattern.cString
        if text.elementsEqual("#".utf8) { return element }
        guard let star = text.firstIndex(of: UInt8(ascii: "*")) else { return nil }
        var nameEnd = pattern.count
        var field: UnsafeRawBufferPointer?
        let arrow = (star + 1..<max(text.count - 2, star + 1)).first {
            text[$0] == UInt8(ascii: "-") && text[$0 + 1] == UInt8(ascii: ">")
        }
        if let arrow {
            nameEnd = arrow
            field = UnsafeRawBufferPointer(rebasing: pattern[(arrow + 2)...])
        }
        var name = Array(pattern[..<star])
        element.withBytes { name.append(contentsOf: $0) }
        name.append(contentsOf: pattern[(star + 1)..<nameEnd])
        guard let entry = name.withUnsafeBytes({ lookupRead(key($0)) }) else { return nil }
        if let field { return entry.type == .hash ? hashValue(entry).value(of: field) : nil }
        return entry.isString ? entry.string : nil
    }
}
