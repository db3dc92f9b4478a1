import MartletBase
import MartletRESP
import Testing

@Suite struct ReplyReaderTests {
    /// Everything that `wire` holds, fed in pieces of `step` bytes; the error ends the list of replies.
    private func read(
        _ wire: [UInt8], step: Int, limits: ReplyReader.Limits = .init()
    ) -> (replies: [ReplyValue], error: ReplyProtocolError?) {
        var reader = ReplyReader(limits: limits)
        var replies: [ReplyValue] = []
        for start in stride(from: 0, to: wire.count, by: step) {
            reader.feed(Array(wire[start..<min(start + step, wire.count)]))
            do {
                while let reply = try reader.next() { replies.append(reply) }
            } catch {
                return (replies, error)
            }
        }
        return (replies, nil)
    }

    private static func bulk(_ text: String) -> ReplyValue { .bulk(Array(text.utf8)) }

    static let table: [(wire: String, reply: ReplyValue)] = [
        ("+OK\r\n", .simple(Array("OK".utf8))),
        ("+\r\n", .simple([])),
        ("-ERR no such key\r\n", .error(Array("ERR no such key".utf8))),
        (":0\r\n", .integer(0)),
        (":-9223372036854775808\r\n", .integer(.min)),
        (":9223372036854775807\r\n", .integer(.max)),
        ("$0\r\n\r\n", bulk("")),
        ("$5\r\na\r\nb\n\r\n", bulk("a\r\nb\n")),
        ("$-1\r\n", .null),
        ("*-1\r\n", .null),
        ("_\r\n", .null),
        ("*0\r\n", .array([])),
        ("*2\r\n$1\r\na\r\n*1\r\n:1\r\n", .array([bulk("a"), .array([.integer(1)])])),
        ("*2\r\n*0\r\n*-1\r\n", .array([.array([]), .null])),
        ("%1\r\n+a\r\n:1\r\n", .map([ReplyPair(key: .simple(Array("a".utf8)), value: .integer(1))])),
        ("%0\r\n", .map([])),
        ("~2\r\n:1\r\n:2\r\n", .set([.integer(1), .integer(2)])),
        (">2\r\n+message\r\n$1\r\nx\r\n", .push([.simple(Array("message".utf8)), bulk("x")])),
        (",3.25\r\n", .double(3.25)),
        (",-1e3\r\n", .double(-1000)),
        (",inf\r\n", .double(.infinity)),
        (",-inf\r\n", .double(-.infinity)),
        ("#t\r\n", .boolean(true)),
        ("#f\r\n", .boolean(false)),
        ("(123456789012345678901234567890\r\n", .bigNumber(Array("123456789012345678901234567890".utf8))),
        ("!9\r\nSYNTAX\r\nx\r\n", .error(Array("SYNTAX\r\nx".utf8))),
        ("=7\r\ntxt:a b\r\n", .verbatim(format: Array("txt".utf8), text: Array("a b".utf8))),
        (
            "|1\r\n+ttl\r\n:3\r\n*1\r\n$1\r\na\r\n",
            .attribute([ReplyPair(key: .simple(Array("ttl".utf8)), value: .integer(3))], of: .array([bulk("a")]))
        ),
        (
            "*2\r\n|1\r\n+ttl\r\n:3\r\n$1\r\na\r\n:7\r\n",
            .array([
                .attribute([ReplyPair(key: .simple(Array("ttl".utf8)), value: .integer(3))], of: bulk("a")),
                .integer(7),
            ])
        ),
        (
            "*1\r\n|1\r\n+a\r\n:1\r\n|1\r\n+b\r\n:2\r\n_\r\n",
            .array([
                .attribute(
                    [ReplyPair(key: .simple(Array("a".utf8)), value: .integer(1))],
                    of: .attribute([ReplyPair(key: .simple(Array("b".utf8)), value: .integer(2))], of: .null))
            ])
        ),
        ("|0\r\n:1\r\n", .integer(1)),
    ]

    @Test("Every type is read whole, byte by byte, and in pieces", arguments: table)
    func types(wire: String, reply: ReplyValue) {
        for step in [wire.utf8.count, 1, 2, 3, 7] {
            let result = read(Array(wire.utf8), step: step)
            #expect(result.error == nil)
            #expect(result.replies == [reply])
        }
    }

    @Test("Replies that arrive together are told apart, however they are cut")
    func concatenated() {
        let wire = Self.table.flatMap { Array($0.wire.utf8) }
        for step in [wire.count, 1, 2, 5, 13, 64] {
            let result = read(wire, step: step)
            #expect(result.error == nil)
            #expect(result.replies == Self.table.map(\.reply))
        }
    }

    @Test("Not a number is a number")
    func nan() {
        guard case .double(let value) = read(Array(",nan\r\n".utf8), step: 100).replies.first else {
            Issue.record("not a double")
            return
        }
        #expect(value.isNaN)
    }

    @Test(
        "What is not RESP is refused with the reason",
        arguments: [
            ("x\r\n", ReplyProtocolError.unknownType(UInt8(ascii: "x"))),
            ("\r\n", .unknownType(13)),
            ("\u{0}", .unknownType(0)),
            (":\r\n", .invalidNumber),
            (":1.5\r\n", .invalidNumber),
            (":9223372036854775808\r\n", .invalidNumber),
            (":--1\r\n", .invalidNumber),
            ("$abc\r\n", .invalidNumber),
            ("$-2\r\n", .invalidNumber),
            ("$?\r\n", .invalidNumber),
            ("!-1\r\n", .invalidNumber),
            ("*-2\r\n", .invalidNumber),
            ("%-1\r\n", .invalidNumber),
            ("$99999999999999999999\r\n", .invalidNumber),
            ("$536870913\r\n", .bulkTooLong(536_870_913)),
            ("*1048577\r\n", .tooManyElements(1_048_577)),
            ("*9223372036854775807\r\n", .tooManyElements(.max)),
            ("%9223372036854775807\r\n", .tooManyElements(.max)),
            ("*1048576\r\n*1\r\n", .tooManyElements(1_048_577)),
            ("+OK\n", .missingLineEnd),
            ("+\n", .missingLineEnd),
            ("$1\r\nabc", .missingLineEnd),
            ("#x\r\n", .invalidValue),
            ("_x\r\n", .invalidValue),
            (",0x1p3\r\n", .invalidNumber),
            (",\r\n", .invalidNumber),
            ("(12a\r\n", .invalidNumber),
            ("=3\r\ntxt\r\n", .invalidValue),
            ("=5\r\ntextx\r\n", .invalidValue),
        ])
    func hostile(wire: String, error: ReplyProtocolError) {
        for step in [100, 1] {
            let result = read(Array(wire.utf8), step: step)
            #expect(result.error == error)
            #expect(result.replies.isEmpty)
        }
    }

    @Test("Nesting is accepted at the limit and refused one past it")
    func depth() {
        let limit = ReplyReader.Limits().depthMax
        let deep = { (depth: Int) in Array(String(repeating: "*1\r\n", count: depth).utf8) + Array(":1\r\n".utf8) }
        #expect(read(deep(limit), step: 64).replies.count == 1)
        #expect(read(deep(limit + 1), step: 64).error == .tooDeep)
        #expect(read(deep(100_000), step: 100_000).error == .tooDeep)
    }

    @Test("A line without an end is given up at its limit")
    func endlessLine() {
        var limits = ReplyReader.Limits()
        limits.lineBytesMax = 10
        #expect(read(Array("+0123456789\r\n".utf8), step: 1, limits: limits).replies.count == 1)
        #expect(read(Array("+01234567890\r\n".utf8), step: 1, limits: limits).error == .lineTooLong)
        #expect(read(Array("+01234567890123456789".utf8), step: 1, limits: limits).error == .lineTooLong)
    }

    @Test("A reply that is too long in all is given up")
    func endlessReply() {
        var limits = ReplyReader.Limits()
        limits.replyBytesMax = 100
        let wire = Array("*100\r\n".utf8) + Array(String(repeating: ":1\r\n", count: 100).utf8)
        #expect(read(wire, step: 7, limits: limits).error == .replyTooLong)
        #expect(
            read(Array(String(repeating: "+0123456789\r\n", count: 50).utf8), step: 7, limits: limits).replies.count
                == 50)
    }

    @Test("The bytes behind the last reply can be taken for another protocol")
    func handover() throws {
        var reader = ReplyReader()
        reader.feed(Array("+CONTINUE\r\n*1\r\n$4\r\nPING".utf8))
        let reply = try reader.next()
        #expect(reply == .simple(Array("CONTINUE".utf8)))
        #expect(reader.takeUnread() == Array("*1\r\n$4\r\nPING".utf8))
        let isIdle = reader.isIdle
        #expect(isIdle)
    }

    @Test("Random bytes neither crash the reader nor make it hold more than it was fed")
    func fuzz() {
        let seed: UInt64 = 0x5EED_0001
        var random = PRNG(seed: seed)
        let alphabet = Array("+-:_#,($!=*%~>|0123456789\r\n\r\n\r\ntf.".utf8)
        for round in 0..<3000 {
            let wire = (0..<random.below(80)).map { _ in
                random.below(12) == 0
                    ? UInt8(truncatingIfNeeded: random.next()) : alphabet[random.below(alphabet.count)]
            }
            let whole = read(wire, step: max(1, wire.count))
            let dripped = read(wire, step: 1)
            #expect(whole.replies.count == dripped.replies.count, "seed \(seed), round \(round)")
            #expect(whole.error == dripped.error, "seed \(seed), round \(round)")
        }
    }
}

@Suite struct RequestEncoderTests {
    @Test("Commands are arrays of bulk strings, binary safe")
    func encode() {
        #expect(RequestEncoder.encode("PING") == Array("*1\r\n$4\r\nPING\r\n".utf8))
        #expect(
            RequestEncoder.encode([[0x41], [], [13, 10]]) == Array("*3\r\n$1\r\nA\r\n$0\r\n\r\n$2\r\n\r\n\r\n".utf8))
    }
}
