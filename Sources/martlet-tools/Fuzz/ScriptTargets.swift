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

    /// Whole scripts, by EVAL, EVAL_RO and as functions.
    static let scripts = FuzzTarget(
        name: "scripts",
        summary: "scripts and what they are given (Scripting, CLua)",
        corpus: { scriptCorpus.map { Array($0.utf8) } },
        tokens: [
            "redis.call('GET', KEYS[1])", "ARGV[1]", "pcall(", "function() ", " end ", "return ", "local x = ", "{",
            "}", "(", ")",
            "setmetatable(", "..", "2^31", "0/0", "nil", "_G", "error(", "coroutine.wrap(", "[[", "]]", "--", "'", "\\",
            "#!lua\n",
        ].map { Array($0.utf8) },
        repair: { bytes, random in
            if random.below(4) > 0 { bytes = LuaGrammar.script(&random) }
        },
        run: { input, random in
            let node = ScriptedNode()
            let isFunction = random.below(4) == 0
            if isFunction { node.expect(["FUNCTION", "LOAD", canaryLibrary], begins: "$6") }
            let canaryCall = isFunction ? ["FCALL", "canary", "0"] : ["EVAL", canary, "0"]
            let before = node.send(canaryCall.map { Array($0.utf8) })
            if !before.starts(with: Array("$40".utf8)) { violated(String(decoding: before, as: UTF8.self)) }
            let given = (0..<random.below(4)).map { _ in Array(arguments[random.below(arguments.count)].utf8) }
            for call in isFunction ? functionCalls(of: input, given) : [scriptCall(of: input, given, &random)] {
                _ = node.send(call, isHurried: true)
                if !node.finish(&random) { return }
                node.invariants()
            }
            if node.send(canaryCall.map { Array($0.utf8) }) != before { violated("scripts leave nothing behind") }
            node.invariants()
        })

    private static func scriptCall(of input: [UInt8], _ given: [[UInt8]], _ random: inout PRNG) -> [[UInt8]] {
        [Array((random.below(4) == 0 ? "EVAL_RO" : "EVAL").utf8), input, Array("1".utf8), Array("key".utf8)] + given
    }

    /// As the text of a library, and as the code of a function, which is loaded, called, and restored in another place.
    private static func functionCalls(of input: [UInt8], _ given: [[UInt8]]) -> [[[UInt8]]] {
        var code = input
        if code.starts(with: "#!".utf8) { code = Array(code.drop { $0 != 10 }) }
        let name = Array("#!lua name=fuzz\n".utf8)
        let body = Array("redis.register_function('fuzz', function(KEYS, ARGV)\n".utf8) + code + Array("\nend)".utf8)
        var payload = RDBEncoder(compression: false)
        payload.appendDump(libraries: [name + code, name + body])
        let load = ["FUNCTION", "LOAD", "REPLACE"].map { Array($0.utf8) }
        let call = ["FCALL", "fuzz", "1", "key"].map { Array($0.utf8) } + given
        return [
            load + [name + code], call, load + [name + body], call, call,
            ["FUNCTION", "RESTORE"].map { Array($0.utf8) } + [Array(payload.output.bytes), Array("REPLACE".utf8)], call,
        ]
    }

    private static let arguments = [
        "", "x", "0", "-1", "1e300", "nan", "9223372036854775807", "[1,{}]", "\u{0}", "key", "\r\n",
    ]

    /// What every script finds: names, kinds and places of all that can be reached, in one digest.
    private static let canary = """
        local seen, found = {}, {}
        local function walk(name, value)
          found[#found + 1] = name .. ' ' .. tostring(value)
          if type(value) ~= 'table' or seen[value] then return end
          seen[value] = true
          local names = {}
          for key in pairs(value) do
            if key ~= 'KEYS' and key ~= 'ARGV' then names[#names + 1] = key end
          end
          table.sort(names)
          for _, key in ipairs(names) do walk(name .. '.' .. key, rawget(value, key)) end
          walk(name .. '<', getmetatable(value))
        end
        walk('_G', _G)
        walk('string', getmetatable(''))
        for _, value in ipairs({1, true, walk, coroutine.create(walk)}) do assert(getmetatable(value) == nil) end
        assert(('x'):upper() == 'X' and select('#', unpack({1, 2})) == 2 and #found > 100)
        return redis.sha1hex(table.concat(found, '\\n'))
        """

    private static let canaryLibrary =
        "#!lua name=canary\nredis.register_function('canary', function() \(canary)\nend)"

    private static let scriptCorpus = [
        "return 1",
        "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end",
        """
        local n = redis.call('INCR', KEYS[1])
        if n == 1 then redis.call('EXPIRE', KEYS[1], 10) end
        return {n, redis.call('TTL', KEYS[1]), tostring(n / 3), {ok = 'fine'}, {err = 'E not fine'}, false, true}
        """,
        """
        for i, word in ipairs(ARGV) do redis.call('RPUSH', KEYS[1], word) end
        local t = {}
        for _, v in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do t[#t + 1] = v:upper() end
        table.sort(t, function(a, b) return a > b end)
        return cjson.encode({list = t, packed = #cmsgpack.pack(t), bits = bit.band(#t, 3)})
        """,
        "#!lua flags=no-writes\nredis.setresp(3) return redis.call('HGETALL', KEYS[1])",
        "local ok, e = pcall(redis.call, 'SET', KEYS[1]) return {ok, e, redis.error_reply('x'), redis.status_reply('y')}",
        "local co = coroutine.wrap(function(...) for i = 1, 3 do coroutine.yield(i, ...) end end) return {co(1), co(), co()}",
        "local t = setmetatable({}, {__index = function(t, k) return k .. k end, __call = error}) return {t.a, t[1], pcall(t)}",
        "local f = loadstring('return ...') return {f(unpack({1, 2, 3}))}",
        "local s = [==[long\n]]]=]==] --[[ a\ncomment ]] return #s .. '\\065\\n' .. 0x1F .. 1e2",
        "repeat local x = 1 until x == 1 while false do break end for i = 10, 1, -3 do if i == 4 then return i end end",
        "return {string.format('%5.2f|%q|%s|%c|%x', 3.14159, 'q\\n', 'x', 65, 255), ('abc'):rep(3), string.byte('a', 1, -1)}",
        "return struct.pack('>i4s', 7, 'x') .. struct.size('!4bi') .. tostring(struct.unpack('<h', '\\1\\2'))",
        "local a <const> = 1", "return function() end", "local t = {} t[t] = t return t", "goto x", "\u{1B}Lua",
    ]

    /// A body with the right footer.
    private static func dump(_ body: some Sequence<UInt8>) -> [UInt8] {
        var payload = ByteBuffer()
        payload.append(Array(body))
        DumpPayload.appendFooter(to: &payload)
        return Array(payload.bytes)
    }
}

/// A node without sockets that takes commands. Scripts have little memory, and are slow after a moment.
private final class ScriptedNode {
    private var node: Node
    private var client: ClientPointer
    private let other: ClientPointer
    private var batch = RequestBatch()
    private let clock = FastClock()

    init() {
        var configuration = ServerConfiguration()
        configuration.busyReplyMilliseconds = 5
        node = Node(
            configuration: configuration, seed: HashSeed(k0: 1, k1: 2),
            runID: String(repeating: "f", count: 40),
            time: NodeTime(monotonicMicroseconds: 1_700_000_000_000_000, unixMicroseconds: 1_700_000_000_000_000),
            processFacts: { ProcessFacts() })
        node.limitScripts(stateBytes: 1 << 20)
        node.services.monotonicNanoseconds = { [clock] in clock.read() }
        client = node.addClient(address: "127.0.0.1:50000", localAddress: "127.0.0.1:6379", fd: 8)
        other = node.addClient(address: "127.0.0.1:50001", localAddress: "127.0.0.1:6379", fd: 9)
    }

    /// - Parameter isHurried: scripts have milliseconds.
    func send(_ arguments: [[UInt8]], isHurried: Bool = false) -> [UInt8] {
        clock.isRunning = isHurried
        return send(arguments, as: client)
    }

    private func send(_ arguments: [[UInt8]], as client: ClientPointer) -> [UInt8] {
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

    func expect(_ arguments: [String], begins start: String) {
        let reply = send(arguments.map { Array($0.utf8) })
        if !reply.starts(with: start.utf8) { violated(String(decoding: reply, as: UTF8.self)) }
    }

    /// Lets a slow script run for a few slices, and kills it, with or without its client.
    ///
    /// - Returns: false if it has written, and goes on: the node is of no more use.
    func finish(_ random: inout PRNG) -> Bool {
        guard node.isBusy else { return true }
        let slices = random.below(3)
        for _ in 0..<slices { node.endTurn() }
        if random.below(4) == 0 {
            node.remove(client)
            client = node.addClient(address: "127.0.0.1:50002", localAddress: "127.0.0.1:6379", fd: 10)
        }
        for kill in ["SCRIPT", "FUNCTION"] where node.isBusy {
            _ = send([Array(kill.utf8), Array("KILL".utf8)], as: other)
        }
        for _ in 0..<3 where node.isBusy { node.endTurn() }
        client.pointee.reply.removeAll()
        return !node.isBusy
    }

    func invariants() {
        node.scriptInvariants()
        node.keyspace.invariants()
    }
}

/// Time passes whenever somebody looks, and much faster than anywhere else, but only while it is running.
private final class FastClock {
    var isRunning = false
    private var now: Int64 = 0
    private var last = monotonicNanoseconds()

    func read() -> Int64 {
        let clock = monotonicNanoseconds()
        if isRunning { now += 20_000 + Int64(clock - last) * 20 }
        last = clock
        return now
    }
}
