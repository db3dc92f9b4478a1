import MartletBase
import MartletKeyspace
import MartletPersistence
import MartletRESP
import MartletServer

extension FuzzTarget {
    /// What a primary sends to a node that follows it: handshake, image and stream of commands, over one or two links.
    static let primaryLink = FuzzTarget(
        name: "primary-link",
        summary: "the link to a primary (ReplicaSession, loading, applying the stream)",
        corpus: {
            let handshake = Array("+PONG\r\n+OK\r\n+OK\r\n".utf8)
            let full = Array("+FULLRESYNC \(history) 100\r\n".utf8)
            let mark = String(repeating: "5", count: 40)
            let stream = Array(
                ("*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*1\r\n$4\r\nPING\r\n"
                    + "*1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n*1\r\n$4\r\nEXEC\r\n"
                    + "*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n*1\r\n$8\r\nFLUSHALL\r\n").utf8)
            let resumed = [UInt8(0)] + handshake + Array("+CONTINUE\r\n".utf8) + stream
            return [
                handshake + full + Array("$\(image.count)\r\n".utf8) + image + stream,
                handshake + full + Array("\n\n$EOF:\(mark)\r\n".utf8) + image + Array(mark.utf8) + stream,
                handshake + full + Array("$\(image.count)\r\n".utf8) + image + stream + resumed,
                handshake + Array("-NOMASTERLINK Can't SYNC while not connected with my master\r\n".utf8),
                handshake + Array("+CONTINUE \(history)\r\n".utf8),
            ]
        },
        tokens: [
            "\r\n", "\n", "$", "$EOF:", "+FULLRESYNC ", "+CONTINUE", "*1\r\n$5\r\nMULTI\r\n", "*1\r\n$4\r\nEXEC\r\n",
            "*3\r\n$9\r\nREPLICAOF\r\n$2\r\nNO\r\n$3\r\nONE\r\n", "*1\r\n$4\r\nSYNC\r\n", "*2\r\n$6\r\nSWAPDB\r\n",
        ].map { Array($0.utf8) } + [[0], [0xFF], [0xFE, 99]],
        run: { input, random in
            let whole = follow([input[...]])
            let pieces = follow(randomPieces(of: input, &random))
            if whole != pieces { violated("a primary's bytes have the same effect whole and in pieces") }
        })

    private static let history = String(repeating: "c", count: 40)

    private static let image: [UInt8] = {
        var encoder = RDBEncoder(version: RDBVersion.redis70, compression: false)
        encoder.appendHeader()
        encoder.append(selectDatabase: 0)
        for index in 0..<20 {
            Array("key:\(index)".utf8).withUnsafeBytes {
                encoder.append(key: $0, .string($0), expireAtMilliseconds: index % 3 == 0 ? 1_900_000_000_000 : nil)
            }
        }
        encoder.appendEnd()
        return Array(encoder.output.bytes)
    }()

    /// A node's data after a primary sent these pieces; a zero byte at the start of a line breaks the link.
    private static func follow(_ pieces: [ArraySlice<UInt8>]) -> [String] {
        let time = NodeTime(monotonicMicroseconds: 1_700_000_000_000_000, unixMicroseconds: 1_700_000_000_000_000)
        var node = Node(
            configuration: ServerConfiguration(), seed: HashSeed(k0: 1, k1: 2),
            runID: String(repeating: "f", count: 40),
            time: time, processFacts: { ProcessFacts() })
        node.follow(host: "127.0.0.1", port: 1)
        connect(&node)
        var previous = UInt8(ascii: "\n")
        for piece in pieces {
            var rest = piece
            while let first = rest.first {
                if first == 0, previous == UInt8(ascii: "\n") {
                    node.primaryLinkClosed(reason: "cut")
                    connect(&node)
                    previous = 0
                    rest = rest.dropFirst()
                    continue
                }
                var end = rest.startIndex + 1
                while end < rest.endIndex, !(rest[end] == 0 && rest[end - 1] == UInt8(ascii: "\n")) { end += 1 }
                rest[..<end].withUnsafeBytes { node.primaryLinkReceived($0) }
                previous = rest[end - 1]
                rest = rest[end...]
                connect(&node)
            }
        }
        node.endTurn()
        node.keyspace.invariants()
        return ["\(node.replicationOffset)"] + contents(&node)
    }

    /// Gives the node the link that it asked for, if it did.
    private static func connect(_ node: inout Node) {
        for effect in node.effects {
            if case .connectToPrimary = effect { node.primaryLinkOpened() }
        }
        node.effects.removeAll()
        node.primaryLinkTook(count: node.primaryLinkOutput.count)
    }

    private static func contents(_ node: inout Node) -> [String] {
        var lines: [String] = []
        for database in 0..<node.keyspace.databaseCount {
            node.keyspace.selected = database
            var cursor: UInt64 = 0
            repeat {
                cursor = node.keyspace.scan(cursor: cursor) { entry in
                    let value: String
                    switch entry.string {
                    case .integer(let number): value = "\(number)"
                    case .bytes(let bytes): value = "\(Array(bytes))"
                    }
                    lines.append("\(database) \(Array(entry.key)) \(value) \(entry.expiry ?? -1)")
                }
            } while cursor != 0
        }
        return lines.sorted()
    }
}
