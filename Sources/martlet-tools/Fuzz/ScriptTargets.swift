import MartletBase
import MartletKeyspace
import MartletPersistence
import MartletRESP
import MartletServer

extension FuzzTarget {
    /// What scripts give to cjson, cmsgpack and struct.
    static let scriptLibraries = FuzzTarget(
        name: "script-libraries",
        summary: "input of the libraries cjson, cmsgpack and struct (Scripting/Libraries)",
        corpus: {
            [
                Array(#"{"a":[1,-2.5e3,true,false,null,"text \u00e9\ud83d\ude00\n"],"b":{"c":{}}}"#.utf8),
                Array("[[[[1],[2,3]],0x1F,-inf,nan]]".utf8),
                [0x85, 0xA1, 97, 0x93, 1, 0xFF, 0xC0, 0xA1, 98, 0xCB, 0x3F, 0xF8, 0, 0, 0, 0, 0, 0, 0xA1, 99, 0xC3]
                    + [0xCF, 255, 255, 255, 255, 255, 255, 255, 255, 0xD9, 2, 97, 98, 0xDC, 0, 1, 0x80],
                Array(">i4!8bHdfc3s".utf8) + [0xFF] + (0..<40).map { UInt8($0) },
                Array("<bc0xL !2i16".utf8) + [0xFF, 3] + Array(repeating: 0xFF, count: 40),
            ]
        },
        tokens: [
            "{", "}", "[", "]", "\"", "\\u", "\\ud83d\\ude00", ":", ",", "null", "1e5", "0x", "inf", "c0", "i32", "!8",
            "s",
        ].map { Array($0.utf8) } + [
            [0xDD, 0xFF, 0xFF, 0xFF, 0xFF], [0xDF, 0, 0, 0, 2], [0xDB, 0xFF, 0xFF, 0xFF, 0xFF], [0xDC, 0, 3], [0x91],
            [0x81],
            [0xC0], [0xCA, 0x7F, 0xC0, 0, 0], [0xFF], [0],
        ],
        run: { input, _ in
            let reply = ScriptedNode().send(["EVAL", script, "0"].map { Array($0.utf8) } + [input])
            if !reply.starts(with: Array("+OK".utf8)) { violated(String(decoding: reply, as: UTF8.self)) }
        })

    private static let script = """
        local input = ARGV[1]
        local ok, value = pcall(cjson.decode, input)
        if ok then
          local encoded, text = pcall(cjson.encode, value)
          if encoded then assert(#cjson.encode(cjson.decode(text)) == #text, 'JSON that is read again is the same') end
        end
        for _, offset in ipairs({0, 1, #input - 1}) do pcall(cmsgpack.unpack_limit, input, 3, offset) end
        local unpacked = {pcall(cmsgpack.unpack, input)}
        if unpacked[1] then
          for index = 2, 20 do assert(pcall(cmsgpack.unpack, cmsgpack.pack(unpacked[index])), 'packed values can be unpacked') end
        end
        local format = input:match('^[^\\255]*')
        local data = input:sub(#format + 2)
        pcall(struct.size, format)
        local fields = {pcall(struct.unpack, format, data)}
        if fields[1] then pcall(struct.pack, format, unpack(fields, 2, #fields - 1)) end
        return {ok = 'OK'}
        """

    /// What FUNCTION RESTORE and FUNCTION LOAD are given, and what stands in images.
    static let functions = FuzzTarget(
        name: "functions",
        summary: "payloads and texts of function libraries (Scripting/Functions)",
        corpus: {
            let one = Array("#!lua name=one\nredis.register_function('f', function(keys) return keys end)".utf8)
            let two = Array(
                "#!lua name=two\nredis.register_function{function_name='g', callback=function() end, flags={'no-writes'}}"
                    .utf8)
            return [[one], [one, two], []].map { libraries in
                var encoder = RDBEncoder(compression: libraries.count == 2)
                encoder.appendDump(libraries: libraries)
                return Array(encoder.output.bytes)
            } + [one, two, dump([0xF6, 3, 111, 110, 101, 3, 76, 85, 65, 1, 1, 120, 4, 120, 61, 49, 10])]
        },
        tokens: ["#!lua", " name=", "\n", "redis.register_function", "'f'", "flags=", "{", "}", ",", "(", ")"]
            .map { Array($0.utf8) } + [[0xF5], [0xF6], [0xC3], [0x80], [0]],
        repair: { bytes, random in
            if bytes.count >= 10, random.below(3) > 0 { bytes = dump(bytes.dropLast(10)) }
        },
        run: { input, random in
            let node = ScriptedNode()
            _ = node.send([Array("FUNCTION".utf8), Array("LOAD".utf8), input])
            _ = node.send([Array("FUNCTION".utf8), Array("RESTORE".utf8), input, Array("REPLACE".utf8)])
            _ = node.send(["FCALL", "f", "1", "key"].map { Array($0.utf8) })
            let first = node.send(["FUNCTION", "DUMP"].map { Array($0.utf8) })
            guard let start = first.firstIndex(of: 10) else { violated("FUNCTION DUMP answers with a payload") }
            let payload = Array(first[(start + 1)...].dropLast(2))
            let other = ScriptedNode()
            _ = other.send([Array("FUNCTION".utf8), Array("RESTORE".utf8), payload])
            guard other.send(["FUNCTION", "DUMP"].map { Array($0.utf8) }) == first else {
                violated("libraries that are dumped and restored are the same")
            }
        })

    /// A body with the right footer.
    private static func dump(_ body: some Sequence<UInt8>) -> [UInt8] {
        var payload = ByteBuffer()
        payload.append(Array(body))
        DumpPayload.appendFooter(to: &payload)
        return Array(payload.bytes)
    }
}

/// A node without sockets that takes commands.
private final class ScriptedNode {
    private var node: Node
    private let client: ClientPointer
    private var batch = RequestBatch()

    init() {
        node = Node(
            configuration: ServerConfiguration(), seed: HashSeed(k0: 1, k1: 2),
            runID: String(repeating: "f", count: 40),
            time: NodeTime(monotonicMicroseconds: 1_700_000_000_000_000, unixMicroseconds: 1_700_000_000_000_000),
            processFacts: { ProcessFacts() })
        client = node.addClient(address: "127.0.0.1:50000", localAddress: "127.0.0.1:6379", fd: 8)
    }

    func send(_ arguments: [[UInt8]]) -> [UInt8] {
        RequestEncoder.encode(arguments).withUnsafeBufferPointer { bytes in
            guard let base = bytes.baseAddress else { return [] }
            let chunk = batch.append(
                Chunk(base: base, count: bytes.count, client: UnsafeMutableRawPointer(client), connection: nil))
            var partial: PartialRequest?
            _ = RequestParser.parse(
                chunk: chunk, limits: RequestLimits(isAuthenticated: true), partial: &partial, into: &batch)
            node.prepare(batch, from: 0)
            node.execute(batch)
            batch.removeAll()
            defer { client.pointee.reply.removeAll() }
            return Array(client.pointee.reply.bytes)
        }
    }
}
