// Reading replies on links that we open: to a primary during the replication handshake, to the target of MIGRATE,
// from the tools to any node.
//
// Bytes arrive in pieces of any size. What has arrived is kept in `buffer`; a token (a header line, or a bulk string
// with its body) is taken only when it is complete. Finished tokens go into the innermost unfinished aggregate, whose
// ancestors wait on `stack`, so a reply that arrives byte by byte is parsed once and not from its start each time, and
// the nesting depth of hostile input costs heap, not call stack. The peer is not trusted: every count is checked
// against a limit before memory is set aside for it.
//
// RESP2 and RESP3 are told apart by the type bytes alone. Streamed strings and aggregates (`$?`, `*?`) are refused,
// because no server sends them.
//
// Source: RESP specification (redis.io/docs/reference/protocol-spec); RESP3 types from antirez/RESP3.

/// A reply as a tree of values.
package indirect enum ReplyValue: Equatable, Sendable {
    case simple([UInt8])
    /// A simple error or a RESP3 blob error, without the type byte.
    case error([UInt8])
    case integer(Int64)
    case bulk([UInt8])
    /// `_`, and RESP2's null bulk string and null array.
    case null
    case array([ReplyValue])
    case map([ReplyPair])
    case set([ReplyValue])
    /// Out of band: not the answer to a request.
    case push([ReplyValue])
    case double(Double)
    case boolean(Bool)
    case bigNumber([UInt8])
    /// `format` is three bytes such as `txt`.
    case verbatim(format: [UInt8], text: [UInt8])
    /// A reply that was preceded by attributes.
    case attribute([ReplyPair], of: ReplyValue)

    /// The bytes of a simple, bulk or verbatim string, nil for anything else.
    package var bytes: [UInt8]? {
        switch self {
        case .simple(let bytes), .bulk(let bytes), .verbatim(_, let bytes): bytes
        case .attribute(_, let value): value.bytes
        case .error, .integer, .null, .array, .map, .set, .push, .double, .boolean, .bigNumber: nil
        }
    }

    /// ``bytes`` as text, with invalid UTF-8 repaired.
    package var text: String? { bytes.map { String(decoding: $0, as: UTF8.self) } }

    /// The text of an error reply, nil for anything else.
    package var errorText: String? {
        switch self {
        case .error(let bytes): String(decoding: bytes, as: UTF8.self)
        case .attribute(_, let value): value.errorText
        default: nil
        }
    }
}

/// One entry of a map or of an attribute.
package struct ReplyPair: Equatable, Sendable {
    package var key: ReplyValue
    package var value: ReplyValue

    package init(key: ReplyValue, value: ReplyValue) {
        self.key = key
        self.value = value
    }
}

/// Why a peer's bytes are not a reply. The link is of no use afterwards.
package enum ReplyProtocolError: Error, Equatable, Sendable {
    case unknownType(UInt8)
    case invalidNumber
    case invalidValue
    case missingLineEnd
    case lineTooLong
    case bulkTooLong(Int64)
    case tooManyElements(Int64)
    case tooDeep
    case replyTooLong
}

package struct ReplyReader: ~Copyable {
    package struct Limits: Sendable {
        /// Nested aggregates. Servers nest replies three or four deep.
        package var depthMax = 32
        /// A header line, without its end: simple strings and errors are lines.
        package var lineBytesMax = 64 * 1024
        /// Body of a bulk string; the default is `proto-max-bulk-len`'s.
        package var bulkBytesMax: Int64 = 512 * 1024 * 1024
        /// Elements of all aggregates of one reply together; a map entry counts as two.
        package var elementCountMax: Int64 = 1024 * 1024
        /// Bytes of one whole reply on the wire.
        package var replyBytesMax: Int64 = 1024 * 1024 * 1024

        package init() {}
    }

    /// Memory set aside on the word of a header; more comes only as elements really arrive.
    private static let reservedElementCountMax: Int64 = 256

    private enum Aggregate {
        case array, map, set, push, attribute
    }

    private struct Frame {
        let kind: Aggregate
        /// Elements still to come; a map's keys and values each count.
        var missingCount: Int64
        /// Elements so far; keys and values alternate in a map.
        var elements: [ReplyValue] = []
        /// An attribute whose own entries are complete and that waits for the reply it describes.
        var attributes: [ReplyPair]?
    }

    private enum BulkKind {
        case bulk, error, verbatim
    }

    private let limits: Limits
    /// `buffer[start...]` has not been consumed.
    private var buffer: [UInt8] = []
    private var start = 0
    /// `buffer[start..<scanned]` holds no line feed: a long line that arrives in small pieces is searched once.
    private var scanned = 0
    /// The header of a bulk string was consumed, its body has not yet arrived.
    private var pendingBulk: (kind: BulkKind, count: Int)?
    private var stack: [Frame] = []
    /// Bytes consumed since the last complete reply.
    private var replyBytes: Int64 = 0
    /// Elements announced by the aggregates of the current reply.
    private var replyElementCount: Int64 = 0

    package init(limits: Limits = Limits()) {
        self.limits = limits
    }

    /// Bytes that were fed and not yet consumed.
    package var unreadCount: Int { buffer.count - start }

    /// Whether the reader stands between two replies with nothing left over.
    package var isIdle: Bool { unreadCount == 0 && stack.isEmpty && pendingBulk == nil }

    package mutating func feed(_ bytes: UnsafeRawBufferPointer) {
        dropConsumedBytes()
        buffer.append(contentsOf: bytes)
    }

    package mutating func feed(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { feed($0) }
    }

    /// Takes what was not consumed, for a link that changes from replies to something else (a replication stream).
    package mutating func takeUnread() -> [UInt8] {
        let rest = Array(buffer[start...])
        buffer = []
        start = 0
        scanned = 0
        return rest
    }

    /// The next complete reply, or nil when more bytes are needed.
    package mutating func next() throws(ReplyProtocolError) -> ReplyValue? {
        while let token = try nextToken() {
            guard let reply = add(token) else { continue }
            replyBytes = 0
            replyElementCount = 0
            return reply
        }
        // What waits in the buffer belongs to the unfinished reply as well.
        if replyBytes + Int64(unreadCount) > limits.replyBytesMax, !stack.isEmpty || pendingBulk != nil {
            throw .replyTooLong
        }
        return nil
    }

    /// Puts `value` into the innermost aggregate. Returns the whole reply if that completed it, nil while something is
    /// missing. The recursion over ``enclose(_:)`` is as deep as the stack, which is limited.
    private mutating func add(_ value: ReplyValue) -> ReplyValue? {
        guard !stack.isEmpty else { return value }
        let top = stack.count - 1
        if let attributes = stack[top].attributes {
            stack.removeLast()
            // The attributed reply takes the place of the plain one, and may itself complete what is around it.
            let attributed = ReplyValue.attribute(attributes, of: value)
            return stack.isEmpty ? attributed : add(attributed)
        }
        stack[top].elements.append(value)
        stack[top].missingCount -= 1
        guard stack[top].missingCount == 0 else { return nil }
        return finishTop()
    }

    /// Takes the innermost aggregate, which has all its elements, off the stack; an attribute stays for its reply.
    private mutating func finishTop() -> ReplyValue? {
        let top = stack.count - 1
        let frame = stack[top]
        switch frame.kind {
        case .array: stack.removeLast(); return enclose(.array(frame.elements))
        case .set: stack.removeLast(); return enclose(.set(frame.elements))
        case .push: stack.removeLast(); return enclose(.push(frame.elements))
        case .map: stack.removeLast(); return enclose(.map(Self.pairs(frame.elements)))
        case .attribute:
            stack[top].attributes = Self.pairs(frame.elements)
            stack[top].elements = []
            return nil
        }
    }

    private mutating func enclose(_ value: ReplyValue) -> ReplyValue? {
        stack.isEmpty ? value : add(value)
    }

    private static func pairs(_ elements: [ReplyValue]) -> [ReplyPair] {
        stride(from: 0, to: elements.count, by: 2).map { ReplyPair(key: elements[$0], value: elements[$0 + 1]) }
    }

    // MARK: - Tokens

    /// The next scalar, or the next aggregate without elements; opens a frame for aggregates that have some.
    private mutating func nextToken() throws(ReplyProtocolError) -> ReplyValue? {
        while true {
            if let bulk = pendingBulk {
                guard let value = try takeBulk(bulk.kind, count: bulk.count) else { return nil }
                pendingBulk = nil
                return value
            }
            guard start < buffer.count else { return nil }
            let type = buffer[start]
            guard Self.isKnown(type) else { throw .unknownType(type) }
            guard let line = try takeLine() else { return nil }
            switch type {
            case UInt8(ascii: "+"): return .simple(Array(buffer[line]))
            case UInt8(ascii: "-"): return .error(Array(buffer[line]))
            case UInt8(ascii: ":"): return .integer(try Self.integer(buffer[line]))
            case UInt8(ascii: "_"):
                guard line.isEmpty else { throw .invalidValue }
                return .null
            case UInt8(ascii: "#"):
                guard line.count == 1 else { throw .invalidValue }
                switch buffer[line.lowerBound] {
                case UInt8(ascii: "t"): return .boolean(true)
                case UInt8(ascii: "f"): return .boolean(false)
                default: throw .invalidValue
                }
            case UInt8(ascii: ","): return .double(try Self.double(buffer[line]))
            case UInt8(ascii: "("):
                guard Self.isDecimalInteger(buffer[line]) else { throw .invalidNumber }
                return .bigNumber(Array(buffer[line]))
            case UInt8(ascii: "$"):
                if let null = try openBulk(.bulk, line) { return null }
            case UInt8(ascii: "!"):
                if let null = try openBulk(.error, line) { return null }
            case UInt8(ascii: "="):
                if let null = try openBulk(.verbatim, line) { return null }
            case UInt8(ascii: "*"):
                if let value = try open(.array, line) { return value }
            case UInt8(ascii: "%"):
                if let value = try open(.map, line) { return value }
            case UInt8(ascii: "~"):
                if let value = try open(.set, line) { return value }
            case UInt8(ascii: ">"):
                if let value = try open(.push, line) { return value }
            default:
                if let value = try open(.attribute, line) { return value }
            }
        }
    }

    private static func isKnown(_ type: UInt8) -> Bool {
        switch type {
        case UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: ":"), UInt8(ascii: "_"), UInt8(ascii: "#"),
            UInt8(ascii: ","), UInt8(ascii: "("), UInt8(ascii: "$"), UInt8(ascii: "!"), UInt8(ascii: "="),
            UInt8(ascii: "*"), UInt8(ascii: "%"), UInt8(ascii: "~"), UInt8(ascii: ">"), UInt8(ascii: "|"):
            true
        default: false
        }
    }

    /// The range of the current line's text without type byte and line end; consumes the line.
    private mutating func takeLine() throws(ReplyProtocolError) -> Range<Int>? {
        guard let lineFeed = buffer[max(start, scanned)...].firstIndex(of: 10) else {
            scanned = buffer.count
            // One byte for the type and one for a carriage return that may already be there.
            guard unreadCount <= limits.lineBytesMax + 2 else { throw .lineTooLong }
            return nil
        }
        let text = start + 1..<max(start + 1, lineFeed - 1)
        guard lineFeed > start + 1, buffer[lineFeed - 1] == 13 else { throw .missingLineEnd }
        guard text.count <= limits.lineBytesMax else { throw .lineTooLong }
        try consume(upTo: lineFeed + 1)
        return text
    }

    private mutating func consume(upTo end: Int) throws(ReplyProtocolError) {
        replyBytes += Int64(end - start)
        start = end
        scanned = end
        guard replyBytes <= limits.replyBytesMax else { throw .replyTooLong }
    }

    /// Returns null for a null string; otherwise the body is awaited.
    private mutating func openBulk(_ kind: BulkKind, _ line: Range<Int>) throws(ReplyProtocolError) -> ReplyValue? {
        let count = try Self.integer(buffer[line])
        if count == -1, kind == .bulk { return .null }
        guard count >= 0 else { throw .invalidNumber }
        guard count <= limits.bulkBytesMax else { throw .bulkTooLong(count) }
        pendingBulk = (kind, Int(count))
        return nil
    }

    private mutating func takeBulk(_ kind: BulkKind, count: Int) throws(ReplyProtocolError) -> ReplyValue? {
        guard unreadCount >= count + 2 else { return nil }
        let body = start..<start + count
        guard buffer[body.upperBound] == 13, buffer[body.upperBound + 1] == 10 else { throw .missingLineEnd }
        try consume(upTo: body.upperBound + 2)
        switch kind {
        case .bulk: return .bulk(Array(buffer[body]))
        case .error: return .error(Array(buffer[body]))
        case .verbatim:
            guard count >= 4, buffer[body.lowerBound + 3] == UInt8(ascii: ":") else { throw .invalidValue }
            let format = body.lowerBound..<body.lowerBound + 3
            return .verbatim(
                format: Array(buffer[format]), text: Array(buffer[format.upperBound + 1..<body.upperBound]))
        }
    }

    /// Returns the value of an aggregate without elements; otherwise opens a frame for it.
    private mutating func open(_ kind: Aggregate, _ line: Range<Int>) throws(ReplyProtocolError) -> ReplyValue? {
        let count = try Self.integer(buffer[line])
        if count == -1, kind == .array { return .null }
        guard count >= 0 else { throw .invalidNumber }
        guard count <= limits.elementCountMax else { throw .tooManyElements(count) }
        let hasPairs = kind == .map || kind == .attribute
        let elementCount = hasPairs ? count * 2 : count
        // No overflow: both were compared with the limit.
        replyElementCount += elementCount
        guard replyElementCount <= limits.elementCountMax else { throw .tooManyElements(replyElementCount) }
        if elementCount == 0 {
            switch kind {
            case .array: return .array([])
            case .map: return .map([])
            case .set: return .set([])
            case .push: return .push([])
            case .attribute: return nil
            }
        }
        guard stack.count < limits.depthMax else { throw .tooDeep }
        var frame = Frame(kind: kind, missingCount: elementCount)
        frame.elements.reserveCapacity(Int(min(elementCount, Self.reservedElementCountMax)))
        stack.append(frame)
        return nil
    }

    private mutating func dropConsumedBytes() {
        if start == buffer.count {
            buffer.removeAll(keepingCapacity: buffer.capacity <= 64 * 1024)
        } else if start >= 4096 && start >= buffer.count / 2 {
            buffer.removeSubrange(..<start)
        } else {
            return
        }
        scanned = max(0, scanned - start)
        start = 0
    }

    // MARK: - Numbers

    private static func isDecimalInteger(_ text: ArraySlice<UInt8>) -> Bool {
        let digits = text.first == UInt8(ascii: "-") || text.first == UInt8(ascii: "+") ? text.dropFirst() : text
        return !digits.isEmpty && digits.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    }

    private static func integer(_ text: ArraySlice<UInt8>) throws(ReplyProtocolError) -> Int64 {
        guard isDecimalInteger(text), text.count <= 20 else { throw .invalidNumber }
        guard let value = Int64(String(decoding: text, as: UTF8.self)) else { throw .invalidNumber }
        return value
    }

    private static func double(_ text: ArraySlice<UInt8>) throws(ReplyProtocolError) -> Double {
        let isPlain = text.allSatisfy {
            switch $0 {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."),
                UInt8(ascii: "e"), UInt8(ascii: "E"):
                true
            default: false
            }
        }
        let string = String(decoding: text, as: UTF8.self)
        switch string {
        case "inf", "+inf": return .infinity
        case "-inf": return -.infinity
        case "nan", "-nan": return .nan
        default:
            guard isPlain, text.count <= 400, let value = Double(string) else { throw .invalidNumber }
            return value
        }
    }
}
