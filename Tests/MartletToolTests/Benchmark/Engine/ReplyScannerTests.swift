import MartletRESP
import Testing
import martlet

@Suite struct ReplyScannerTests {
    /// Wire bytes, and for each reply whether it is an error (its text) or not (nil).
    private static let streams: [(String, [String?])] = [
        ("+OK\r\n", [nil]),
        ("+\r\n:0\r\n:-12\r\n", [nil, nil, nil]),
        ("$3\r\nabc\r\n$0\r\n\r\n$-1\r\n", [nil, nil, nil]),
        ("-ERR no\r\n+OK\r\n", ["ERR no", nil]),
        ("*0\r\n*-1\r\n", [nil, nil]),
        ("*2\r\n$1\r\na\r\n*3\r\n:1\r\n*0\r\n*1\r\n+x\r\n:7\r\n", [nil, nil]),
        ("*2\r\n-ERR inside\r\n+x\r\n-ERR after\r\n", [nil, "ERR after"]),
        ("*2\r\n$-1\r\n*-1\r\n+OK\r\n", [nil, nil]),
        ("_\r\n#t\r\n,3.25\r\n(123456789012345678901234567890\r\n", [nil, nil, nil, nil]),
        ("%2\r\n+a\r\n:1\r\n+b\r\n%0\r\n~1\r\n+x\r\n", [nil, nil]),
        ("=7\r\ntxt:abc\r\n", [nil]),
        (">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n+OK\r\n>1\r\n+x\r\n", [nil]),
        ("|1\r\n+ttl\r\n:3\r\n$1\r\nv\r\n+OK\r\n", [nil, nil]),
        ("*2\r\n|1\r\n+a\r\n*1\r\n:1\r\n:5\r\n:6\r\n+OK\r\n", [nil, nil]),
        ("|0\r\n+OK\r\n", [nil]),
        ("$\(10)\r\n\r\n+OK\r\n-E\r\r\n+after\r\n", [nil, nil]),
    ]

    /// Feeds pieces as a connection does: what the scanner leaves is presented again.
    private func scan(_ pieces: [[UInt8]]) -> [String?] {
        var scanner = ReplyScanner()
        var carry: [UInt8] = []
        var replies: [String?] = []
        for piece in pieces {
            let bytes = carry + piece
            bytes.withUnsafeBytes { bytes in
                var position = 0
                scanning: while true {
                    switch scanner.next(bytes, &position) {
                    case .reply: replies.append(nil)
                    case .error: replies.append(String(decoding: bytes[scanner.errorText], as: UTF8.self))
                    case .incomplete: break scanning
                    case .malformed(let error): Issue.record("malformed: \(error)"); return
                    }
                }
                carry = Array(bytes[position...])
            }
        }
        #expect(carry.isEmpty)
        return replies
    }

    @Test("Replies are found, whole, byte by byte and one after the other")
    func pieces() {
        for (text, replies) in Self.streams {
            let bytes = Array(text.utf8)
            #expect(scan([bytes]) == replies, "\(text.debugDescription)")
            #expect(scan(bytes.map { [$0] }) == replies, "\(text.debugDescription)")
            for cut in 1..<bytes.count { #expect(scan([Array(bytes[..<cut]), Array(bytes[cut...])]) == replies) }
        }
        let all = Self.streams.map(\.0).joined()
        #expect(scan([Array(all.utf8)]) == Self.streams.flatMap(\.1))
        #expect(scan(all.utf8.map { [$0] }) == Self.streams.flatMap(\.1))
    }

    @Test("A blob error is an error; its text may be cut")
    func blobError() {
        #expect(scan([Array("!9\r\nERR large\r\n+OK\r\n".utf8)]) == ["ERR large", nil])
        #expect(scan(["!9\r\nERR la", "rge\r\n"].map { Array($0.utf8) }).count == 1)
    }

    @Test("Nesting without end costs nothing")
    func deepNesting() {
        let depth = 100_000
        #expect(scan([Array((String(repeating: "*1\r\n", count: depth) + ":1\r\n+OK\r\n").utf8)]) == [nil, nil])
    }

    @Test(
        "What is no reply is malformed",
        arguments: [
            "hello\r\n", "$abc\r\n", "$-2\r\n", "*-2\r\n", "+OK\n", ":12", "$3\rx", "*99999999999999999999\r\n",
            "$99999999999999\r\n", "*4611686018427387904\r\n", "%4611686018427387904\r\n", "$\r\n", "*-\r\n",
        ])
    func malformed(_ text: String) {
        var scanner = ReplyScanner()
        var position = 0
        // A number without an end is only incomplete.
        let outcome = Array(text.utf8).withUnsafeBytes { scanner.next($0, &position) }
        if text == ":12" {
            #expect(outcome == .incomplete && position == 0)
        } else if case .malformed = outcome {
        } else {
            Issue.record("\(text.debugDescription): \(outcome)")
        }
    }

    @Test("Counts of nested aggregates cannot overflow")
    func hugeCounts() {
        var scanner = ReplyScanner()
        let bytes = Array(String(repeating: "*1000000000000\r\n", count: 100).utf8)
        var position = 0
        let outcome = bytes.withUnsafeBytes { scanner.next($0, &position) }
        guard case .malformed(.tooManyElements) = outcome else {
            Issue.record("\(outcome)")
            return
        }
    }

    @Test("A line that does not end is refused at its limit")
    func longLine() {
        var scanner = ReplyScanner()
        var position = 0
        let atLimit = [UInt8](repeating: 43, count: ReplyScanner.lineBytesMax)
        #expect(atLimit.withUnsafeBytes { scanner.next($0, &position) } == .incomplete)
        #expect((atLimit + [43]).withUnsafeBytes { scanner.next($0, &position) } == .malformed(.lineTooLong))
    }
}
