import MartletBase
import MartletRESP

extension FuzzTarget {
    /// Requests of clients, whole and in pieces: both must yield the same commands and the same error.
    static let resp = FuzzTarget(
        name: "resp",
        summary: "requests on a client connection (RequestParser)",
        corpus: {
            [
                "*1\r\n$4\r\nPING\r\n", "PING\r\n", "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n",
                "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*0\r\n*-1\r\n",
                "set \"a b\\x41\\n\\\"\" 'it''s' plain\r\n\r\nget k\n", "*1\r\n$0\r\n\r\n",
                "*2\r\n$4\r\nECHO\r\n$600\r\n" + String(repeating: "x", count: 600) + "\r\n",
                "*12\r\n$4\r\nMGET\r\n" + String(repeating: "$3\r\nabc\r\n", count: 11) + "PING\r\n",
                "*1500\r\n$3\r\nDEL\r\n" + String(repeating: "$1\r\nx\r\n", count: 1499),
                "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10000\r\n" + String(repeating: "v", count: 10000) + "\r\nPING\r\n",
            ].map { Array($0.utf8) }
        },
        tokens: ["\r\n", "$", "*", "*-1\r\n", "$-1\r\n", "\"", "'", "\\x", "\0", "*1\r\n", "$0\r\n", "*1048577\r\n"]
            .map { Array($0.utf8) },
        run: { input, random in
            let isAuthenticated = random.below(4) != 0
            let limits = RequestLimits(bulkBytesMax: 512 << 20, isAuthenticated: isAuthenticated)
            let whole = parseRequests([input[...]], limits)
            let pieces = parseRequests(randomPieces(of: input, &random), limits)
            if whole != pieces { violated("requests are the same whole and in pieces") }
        })

    /// What a connection makes of its pieces: what is left over is parsed again together with the next one.
    private static func parseRequests(_ pieces: [ArraySlice<UInt8>], _ limits: RequestLimits) -> ParsedStream {
        var stream = ParsedStream()
        var pending: [UInt8] = []
        var partial: PartialRequest?
        for piece in pieces {
            pending.append(contentsOf: piece)
            var batch = RequestBatch()
            let consumed = pending.withUnsafeBufferPointer { bytes -> Int in
                guard let base = bytes.baseAddress else { return 0 }
                var marker = 0
                return withUnsafeMutablePointer(to: &marker) { client in
                    let chunk = batch.append(
                        Chunk(
                            base: base, count: bytes.count, client: UnsafeMutableRawPointer(client), connection: nil))
                    _ = RequestParser.parse(chunk: chunk, limits: limits, partial: &partial, into: &batch)
                    for index in 0..<batch.count {
                        let request = batch.requests[index]
                        if request.argumentCount == 0 {
                            stream.error = request.error
                            stream.errorByte = request.errorByte
                            break
                        }
                        guard request.firstArgument + request.argumentCount <= batch.argumentCount,
                            request.start < request.end, request.end <= bytes.count
                        else { violated("a request lies within its chunk") }
                        stream.requests.append(
                            (0..<request.argumentCount).map { Array(batch.arguments[request.firstArgument + $0]) })
                    }
                    return batch.chunks[chunk].consumed
                }
            }
            if stream.error != .none { return stream }
            guard consumed <= pending.count else { violated("no more is consumed than came") }
            pending.removeFirst(consumed)
        }
        return stream
    }

    private struct ParsedStream: Equatable {
        var requests: [[[UInt8]]] = []
        var error = ProtocolError.none
        var errorByte: UInt8 = 0
    }

    /// Replies of peers: MIGRATE's target, a primary during the handshake, nodes that a tool asks.
    static let replies = FuzzTarget(
        name: "replies",
        summary: "replies on links that we open (ReplyReader)",
        corpus: {
            [
                "+OK\r\n-ERR no\r\n:12\r\n$5\r\nhello\r\n$-1\r\n*-1\r\n", "*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
                "%1\r\n+k\r\n~2\r\n:1\r\n:2\r\n>2\r\n+message\r\n_\r\n#t\r\n#f\r\n,1.5\r\n,inf\r\n,nan\r\n",
                "(123456789012345678901234567890\r\n=8\r\ntxt:text\r\n!5\r\nERR x\r\n|1\r\n+a\r\n+b\r\n$1\r\nz\r\n",
                String(repeating: "*1\r\n", count: 40) + "+deep\r\n",
                "$3000\r\n" + String(repeating: "x", count: 3000) + "\r\n",
            ].map { Array($0.utf8) }
        },
        tokens: ["\r\n", "*1\r\n", "%1\r\n", "|1\r\n", "$-1\r\n", "*-1\r\n", "*1048576\r\n", "$536870912\r\n", "_\r\n"]
            .map { Array($0.utf8) },
        run: { input, random in
            let whole = readReplies([input[...]])
            let pieces = readReplies(randomPieces(of: input, &random))
            if whole.values != pieces.values { violated("replies are the same whole and in pieces") }
            if (whole.error == nil) != (pieces.error == nil) { violated("an error is one whole and in pieces") }
        })

    private static func readReplies(
        _ pieces: [ArraySlice<UInt8>]
    ) -> (values: [String], error: ReplyProtocolError?) {
        var reader = ReplyReader()
        // Compared as text, since NaN is not equal to itself.
        var values: [String] = []
        for piece in pieces {
            reader.feed(Array(piece))
            do {
                while let value = try reader.next() { values.append("\(value)") }
            } catch {
                return (values, error)
            }
        }
        return (values, nil)
    }
}
