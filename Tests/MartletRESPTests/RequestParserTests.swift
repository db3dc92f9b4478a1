import MartletBase
import MartletRESP
import Testing

/// What a stream of bytes means: commands in order, then perhaps a protocol error, then bytes that are not complete.
private struct Parsed: Equatable {
    var commands: [[String]] = []
    var error = ProtocolError.none
    var unused = 0
}

/// Feeds bytes as a connection would: what was not consumed is kept and parsed again with what comes next.
private struct Feeder: ~Copyable {
    var pending: [UInt8] = []
    var partial: PartialRequest?
    var batch = RequestBatch()
    var limits = RequestLimits()
    var result = Parsed()

    mutating func feed(_ bytes: ArraySlice<UInt8>) {
        guard result.error == .none else { return }
        pending += bytes
        var consumed = 0
        batch.removeAll()
        // An empty array may have no address.
        let count = pending.count
        pending.append(0)
        pending.withUnsafeBufferPointer { buffer in
            let chunk = batch.append(
                Chunk(
                    base: buffer.baseAddress!, count: count, client: UnsafeMutableRawPointer(bitPattern: 8)!,
                    connection: nil))
            _ = RequestParser.parse(chunk: chunk, limits: limits, partial: &partial, into: &batch)
            for index in 0..<batch.count {
                let request = batch.requests[index]
                if request.error != .none {
                    result.error = request.error
                    break
                }
                result.commands.append(
                    (0..<request.argumentCount).map {
                        String(bytes: batch.arguments[request.firstArgument + $0])
                    })
            }
            consumed = batch.chunks[chunk].consumed
        }
        pending.removeLast()
        pending.removeFirst(consumed)
        result.unused = pending.count
    }
}

private func parse(_ bytes: [UInt8], pieces: [Int] = [], limits: RequestLimits = RequestLimits()) -> Parsed {
    var feeder = Feeder()
    feeder.limits = limits
    var start = 0
    for piece in pieces where start < bytes.count {
        feeder.feed(bytes[start..<min(bytes.count, start + piece)])
        start += piece
    }
    if start < bytes.count { feeder.feed(bytes[start...]) }
    return feeder.result
}

@Suite struct RequestParserTests {
    struct Wire: Sendable {
        let bytes: String
        let commands: [[String]]
        var error = ProtocolError.none
        var unused = 0
    }

    static let table: [Wire] = [
        Wire(bytes: "*1\r\n$4\r\nPING\r\n", commands: [["PING"]]),
        Wire(bytes: "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", commands: [["GET", "k"]]),
        Wire(bytes: "*2\r\n$3\r\nGET\r\n$0\r\n\r\n", commands: [["GET", ""]]),
        Wire(bytes: "*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n", commands: [["PING"]]),
        Wire(bytes: "*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n", commands: [["GET", "a\r\nb"]]),
        Wire(bytes: "PING\r\n", commands: [["PING"]]),
        Wire(bytes: "PING\n", commands: [["PING"]]),
        Wire(bytes: "\r\n\r\nPING\r\n", commands: [["PING"]]),
        Wire(bytes: "  set  a   b  \r\n", commands: [["set", "a", "b"]]),
        Wire(bytes: "set \"a b\" 'c d'\r\n", commands: [["set", "a b", "c d"]]),
        Wire(bytes: "set \"\\x41\\n\\\"\" 'it\\'s'\r\n", commands: [["set", "A\n\"", "it's"]]),
        Wire(bytes: "set a\"b c\"\r\n", commands: [["set", "ab c"]]),
        Wire(bytes: "\u{B}set a\u{B}b c\u{C}\r\n", commands: [["set", "a\u{B}b", "c\u{C}"]]),
        Wire(bytes: "set a\0b c\r\nPING\r\n", commands: [["set", "a"], ["PING"]]),
        Wire(bytes: "set \"a\"b\r\n", commands: [], error: .unbalancedQuotes),
        Wire(bytes: "set \"a\r\n", commands: [], error: .unbalancedQuotes),
        Wire(bytes: "*1\r\n$4\r\nPING\r\nPING\r\n*1\r\n$4\r\nQUIT\r\n", commands: [["PING"], ["PING"], ["QUIT"]]),
        Wire(bytes: "*x\r\n", commands: [], error: .invalidMultibulkLength),
        Wire(bytes: "*3000000000\r\n", commands: [], error: .invalidMultibulkLength),
        Wire(bytes: "*99999999999999999999\r\n", commands: [], error: .invalidMultibulkLength),
        Wire(bytes: "*1\r\nfoo\r\n", commands: [], error: .expectedDollar),
        Wire(bytes: "*1\r\n$-1\r\n", commands: [], error: .invalidBulkLength),
        Wire(bytes: "*1\r\n$blabla\r\n", commands: [], error: .invalidBulkLength),
        Wire(bytes: "*1\r\n$2000000000\r\n", commands: [], error: .invalidBulkLength),
        Wire(bytes: "*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\n", commands: [["PING"]], unused: 17),
    ]

    @Test("Bytes mean the same whole, drip-fed and cut anywhere", arguments: table)
    func wire(_ wire: Wire) {
        let bytes = Array(wire.bytes.utf8)
        let expected = Parsed(commands: wire.commands, error: wire.error, unused: wire.unused)
        #expect(check(parse(bytes), expected))
        #expect(check(parse(bytes, pieces: Array(repeating: 1, count: bytes.count)), expected))
        for cut in 1..<bytes.count { #expect(check(parse(bytes, pieces: [cut]), expected)) }
    }

    /// What is left over after an error does not matter.
    private func check(_ parsed: Parsed, _ expected: Parsed) -> Bool {
        parsed.commands == expected.commands && parsed.error == expected.error
            && (expected.error != .none || parsed.unused == expected.unused)
    }

    @Test("Commands of a concatenated stream are those of its parts")
    func concatenated() {
        let valid = Self.table.filter { $0.error == .none && $0.unused == 0 }
        let bytes = valid.flatMap { Array($0.bytes.utf8) }
        let commands = valid.flatMap(\.commands)
        #expect(parse(bytes).commands == commands)
        var random = PRNG(seed: 7)
        for _ in 0..<200 {
            let pieces = (0..<bytes.count).map { _ in 1 + random.below(9) }
            #expect(parse(bytes, pieces: pieces).commands == commands)
        }
    }

    @Test("A long command that drips in is parsed once, not again and again")
    func longCommandInPieces() {
        let count = 50_000
        var bytes = Array("*\(count)\r\n".utf8)
        for index in 0..<count { bytes += Array("$5\r\n\(10000 + index % 90000)\r\n".utf8) }
        bytes += Array("PING\r\n".utf8)
        let parsed = parse(bytes, pieces: Array(repeating: 5000, count: bytes.count / 5000))
        #expect(parsed.error == .none)
        #expect(parsed.commands.count == 2)
        #expect(parsed.commands.first?.count == count)
        #expect(parsed.commands.first?.last == "\(10000 + (count - 1) % 90000)")
        #expect(parsed.commands.last == ["PING"])
    }

    @Test("A long command takes room in the batch only when it is complete")
    func longCommandStaysOutOfTheBatch() {
        let count = 20_000
        let bytes = Array(("*\(count)\r\n" + String(repeating: "$2\r\nab\r\n", count: count)).utf8)
        var feeder = Feeder()
        let room = feeder.batch.arguments
        for start in stride(from: 0, to: bytes.count, by: 4000) {
            let end = min(bytes.count, start + 4000)
            feeder.feed(bytes[start..<end])
            #expect((feeder.batch.arguments == room) == (end < bytes.count), "\(end) of \(bytes.count) bytes")
        }
        #expect(feeder.result == Parsed(commands: [Array(repeating: "ab", count: count)]))
    }

    @Test("Behind its limit of bytes a parse stops in front of the next request and says so")
    func parsedBytes() {
        let pings = Array(String(repeating: "PING\r\n", count: 10).utf8)
        func parse(_ limit: Int, _ bytes: [UInt8]) -> (requests: Int, consumed: Int, hasMore: Bool) {
            var batch = RequestBatch()
            var partial: PartialRequest?
            return bytes.withUnsafeBufferPointer { buffer in
                let chunk = batch.append(
                    Chunk(
                        base: buffer.baseAddress!, count: buffer.count, client: UnsafeMutableRawPointer(bitPattern: 8)!,
                        connection: nil))
                var limits = RequestLimits()
                limits.parsedBytesMax = limit
                _ = RequestParser.parse(chunk: chunk, limits: limits, partial: &partial, into: &batch)
                return (batch.count, batch.chunks[chunk].consumed, batch.chunks[chunk].hasMore)
            }
        }
        #expect(parse(12, pings) == (2, 12, true))
        #expect(parse(13, pings) == (3, 18, true), "the third begins before the limit")
        #expect(parse(59, pings) == (10, 60, false))
        #expect(parse(60, pings) == (10, 60, false))
        // A request that is not complete is no more.
        #expect(parse(60, Array(pings.dropLast(1))) == (9, 54, false))
        #expect(parse(54, Array(pings.dropLast(1))) == (9, 54, true))
    }

    @Test("The limits hold at the limit and one past it")
    func limits() {
        let most = RequestLimits.argumentCountMax
        #expect(parse(Array("*\(most)\r\n".utf8)).error == .none)
        #expect(parse(Array("*\(most + 1)\r\n".utf8)).error == .invalidMultibulkLength)
        let limits = RequestLimits(bulkBytesMax: 10)
        #expect(parse(Array("*1\r\n$10\r\n0123456789\r\n".utf8), limits: limits).commands == [["0123456789"]])
        #expect(parse(Array("*1\r\n$11\r\n".utf8), limits: limits).error == .invalidBulkLength)
        let longest = Array(repeating: UInt8(ascii: "a"), count: RequestLimits.inlineBytesMax)
        #expect(parse(longest + [13, 10][1...]).error == .none)
        #expect(parse(longest + [UInt8(ascii: "a"), 10]).error == .tooBigInlineRequest)
        #expect(parse(longest + [UInt8(ascii: "a")]).error == .tooBigInlineRequest)
        #expect(parse([UInt8(ascii: "*")] + longest + longest).error == .tooBigMultibulkCount)
        #expect(parse(Array("*1\r\n$".utf8) + longest + longest).error == .tooBigBulkCount)
    }

    @Test("Who has not authenticated may send little")
    func unauthenticated() {
        let limits = RequestLimits(isAuthenticated: false)
        let most = RequestLimits.unauthenticatedArgumentCountMax
        #expect(parse(Array("*\(most)\r\n".utf8), limits: limits).error == .none)
        #expect(parse(Array("*\(most + 1)\r\n".utf8), limits: limits).error == .unauthenticatedMultibulkLength)
        let longest = RequestLimits.unauthenticatedBulkBytesMax
        #expect(parse(Array("*1\r\n$\(longest)\r\n".utf8), limits: limits).error == .none)
        #expect(parse(Array("*1\r\n$\(longest + 1)\r\n".utf8), limits: limits).error == .unauthenticatedBulkLength)
    }

    @Test("Random bytes are parsed the same however they are cut", arguments: 0..<40)
    func random(seed: Int) {
        var random = PRNG(seed: UInt64(seed))
        let alphabet = Array("*$\r\n0123456789-abc \"'\\x".utf8)
        for _ in 0..<200 {
            let bytes = (0..<(1 + random.below(60))).map { _ in alphabet[random.below(alphabet.count)] }
            let whole = parse(bytes)
            let pieces = bytes.map { _ in 1 + random.below(4) }
            let cut = parse(bytes, pieces: pieces)
            #expect(whole.commands == cut.commands && whole.error == cut.error, "seed \(seed): \(bytes)")
        }
    }
}

@Suite struct ReplyBufferTests {
    private func bytes(resp3: Bool = false, _ write: (inout ReplyBuffer) -> Void) -> String {
        var reply = ReplyBuffer()
        reply.isRESP3 = resp3
        write(&reply)
        return String(bytes: reply.bytes)
    }

    @Test("Numbers are written in full", arguments: [0, 9, 10, -1, 99, 100, Int64.max, Int64.min, -100, 1_000_000])
    func integers(_ number: Int64) {
        #expect(bytes { $0.integer(number) } == ":\(number)\r\n")
        #expect(bytes { $0.bulk(decimal: number) } == "$\(String(number).utf8.count)\r\n\(number)\r\n")
        let unsigned = UInt64(bitPattern: number)
        #expect(bytes { $0.bulk(decimal: unsigned) } == "$\(String(unsigned).utf8.count)\r\n\(unsigned)\r\n")
    }

    @Test("The protocol version decides about the form")
    func versions() {
        #expect(bytes { $0.null() } == "$-1\r\n")
        #expect(bytes(resp3: true) { $0.null() } == "_\r\n")
        #expect(bytes { $0.nullArray() } == "*-1\r\n")
        #expect(bytes { $0.map(2) } == "*4\r\n")
        #expect(bytes(resp3: true) { $0.map(2) } == "%2\r\n")
        #expect(bytes { $0.set(2) } == "*2\r\n")
        #expect(bytes(resp3: true) { $0.set(2) } == "~2\r\n")
        #expect(bytes { $0.boolean(true) } == ":1\r\n")
        #expect(bytes(resp3: true) { $0.boolean(false) } == "#f\r\n")
        #expect(bytes { $0.double(text: "1.5") } == "$3\r\n1.5\r\n")
        #expect(bytes(resp3: true) { $0.double(text: "1.5") } == ",1.5\r\n")
        #expect(bytes(resp3: true) { $0.verbatim("hi") } == "=6\r\ntxt:hi\r\n")
        #expect(bytes { $0.verbatim("hi") } == "$2\r\nhi\r\n")
    }

    @Test("An aggregate whose count comes last reads like any other")
    func deferred() {
        let text = bytes { reply in
            reply.simple("before")
            let start = reply.deferredAggregate()
            for index in 0..<12 { reply.integer(index) }
            reply.endArray(start, count: 12)
            reply.ok()
        }
        #expect(text == "+before\r\n*12\r\n" + (0..<12).map { ":\($0)\r\n" }.joined() + "+OK\r\n")
    }

    @Test("An error stays on its line")
    func errors() {
        #expect(bytes { $0.error(.message("ERR a\r\nb")) } == "-ERR a  b\r\n")
        #expect(bytes { $0.error(.wrongType) }.hasPrefix("-WRONGTYPE "))
    }

    @Test("What was sent is dropped from the front")
    func prefix() {
        var reply = ReplyBuffer()
        for index in 0..<1000 { reply.integer(index) }
        let all = String(bytes: reply.bytes)
        reply.removePrefix(1000)
        #expect(String(bytes: reply.bytes) == String(all.utf8.dropFirst(1000)))
        reply.removeAll()
        #expect(reply.count == 0)
    }
}
