import MartletBase

/// Random scripts that mostly compile and often run far, with what goes wrong at edges: huge numbers, bombs of strings and
/// tables, metatables, coroutines, errors in handlers of errors.
///
/// What Lua's pattern matcher gets is short: it cannot be interrupted, and a few stars over a long text take hours.
struct LuaGrammar {
    private var random: PRNG
    private var text = ""
    private var depth = 0
    /// Pieces still to be made: keeps scripts short.
    private var left: Int

    static func script(_ random: inout PRNG) -> [UInt8] {
        var grammar = LuaGrammar(random: random, left: 10 + random.below(150))
        if grammar.chance(8) { grammar.text += grammar.one(shebangs) + "\n" }
        grammar.text += "local a, b, c, d = ARGV and ARGV[1], {}, 0, nil\n"
        grammar.block(1 + grammar.random.below(8))
        if grammar.chance(80) {
            grammar.text += "return "
            grammar.expression()
        }
        random = grammar.random
        return Array(grammar.text.utf8)
    }

    private init(random: PRNG, left: Int) {
        self.random = random
        self.left = left
    }

    private mutating func chance(_ percent: Int) -> Bool { random.below(100) < percent }
    private mutating func one(_ words: [String]) -> String { words[random.below(words.count)] }

    // MARK: Statements

    private mutating func block(_ count: Int) {
        depth += 1
        for _ in 0..<count { statement() }
        depth -= 1
    }

    private mutating func body() {
        block(1 + random.below(3))
        text += " end\n"
    }

    private mutating func statement() {
        left -= 1
        guard left > 0, depth < 6 else { return text += "c = 1\n" }
        switch random.below(26) {
        case 0...3: assign(one(["a", "b", "c", "d", "local a", "local b", "a.x", "b[1]", "b[c]", "KEYS", "x", "a, b"]))
        case 4:
            text += "for i = "
            number()
            text += ", "
            number()
            if chance(30) {
                text += ", "
                number()
            }
            text += " do "
            body()
        case 5:
            text += "for k, v in " + one(["pairs", "ipairs", "next, ", "a, "]) + "("
            expression()
            text += ") do "
            body()
        case 6:
            text += "while "
            expression()
            text += " do " + (chance(60) ? "c = c + 1 if c > 100 then break end " : "")
            body()
        case 7:
            text += "if "
            expression()
            text += " then "
            block(1)
            text += " else "
            body()
        case 8:
            text += "local function " + one(["f", "g"]) + "(" + one(["...", "x", "x, y, ...", ""]) + ") "
            body()
        case 9, 10:
            text += one(["local ok, e = ", "a, b = ", ""]) + "pcall(function(...) "
            block(2)
            text += " end, "
            arguments(2)
            text += ")\n"
        case 11:
            text += "xpcall(function() "
            block(1)
            text += " end, function(e) "
            block(1)
            text += " return e end)\n"
        case 12:
            text += "error("
            arguments(1)
            text += ")\n"
        case 13, 14:
            text += "local co = coroutine.wrap(function(...) "
            block(1)
            text += " coroutine.yield("
            arguments(2)
            text += ") "
            block(1)
            text += " end) for i = 1, \(1 + random.below(3)) do pcall(co, "
            arguments(1)
            text += ") end\n"
        case 15, 16:
            text += one(["a", "b", "local t"]) + " = setmetatable("
            expression()
            text += ", {"
            for _ in 0...random.below(3) {
                text += one(Self.metamethods) + " = "
                if chance(60) { function() } else { expression() }
                text += ", "
            }
            text += "})\n"
        case 17: text += one(Self.bombs) + "\n"
        case 18:
            text += "do return "
            arguments(2)
            text += " end\n"
        default:
            text += one(["a = ", "b = ", "local _ = ", "d = {", "c, d = "])
            let isTable = text.hasSuffix("{")
            call()
            text += isTable ? "}\n" : "\n"
        }
    }

    private mutating func assign(_ target: String) {
        text += target + " = "
        expression()
        text += "\n"
    }

    // MARK: Expressions

    private mutating func expression() {
        left -= 1
        depth += 1
        defer { depth -= 1 }
        guard left > 0, depth < 9 else { return text += one(["1", "a", "'x'", "nil"]) }
        switch random.below(20) {
        case 0...3: text += one(["a", "b", "c", "d", "x", "...", "ARGV", "KEYS[1]", "_G", "f", "a.x", "b[1]", "a[c]"])
        case 4...6: number()
        case 7...8: string()
        case 9: text += one(["nil", "true", "false", "{}", "cjson.null", "redis", "math.huge"])
        case 10...11:
            text += "{"
            for _ in 0..<random.below(4) {
                text += one(["", "", "x = ", "[1] = ", "[a] = ", "err = ", "ok = ", "map = ", "double = ", "set = "])
                expression()
                text += one([", ", "; "])
            }
            text += "}"
        case 12: function()
        case 13:
            text += one(["#", "-", "not ", "- -"])
            expression()
        case 14...15:
            text += "("
            expression()
            text += " " + one(["+", "-", "*", "/", "%", "^", "..", "==", "~=", "<", "<=", "and", "or"]) + " "
            expression()
            text += ")"
        default: call()
        }
    }

    private mutating func function() {
        text += "function(" + one(["...", "x", "a, b, ..."]) + ") "
        block(random.below(2))
        text += " return "
        arguments(2)
        text += " end"
    }

    private mutating func arguments(_ countMax: Int) {
        let count = random.below(countMax + 1)
        if count == 0 { text += "nil" }
        for index in 0..<count {
            if index > 0 { text += ", " }
            expression()
        }
    }

    private mutating func number() { text += one(Self.numbers) }

    private mutating func string() {
        switch random.below(10) {
        case 0: text += "string.rep(\(one(Self.strings)), \(one(Self.counts)))"
        case 1: text += "[" + String(repeating: "=", count: random.below(3)) + "[x]" + one(["]", "=]", "==]"])
        default: text += one(Self.strings)
        }
    }

    private mutating func call() {
        switch random.below(12) {
        case 0...2:
            text += one(["redis.call(", "redis.pcall(", "server.call(", "pcall(redis.call, "])
            text += one(Self.commands)
            for _ in 0..<random.below(3) {
                text += ", "
                // Short: there is no limit to the data set.
                text += one(["'k'", "'l'", "1", "-1", "'0'", "'v'", "a", "c", "KEYS[1]", "1.5", "2^53", "'*'"])
            }
            text += ")"
        case 3:
            // Both short, whatever they are.
            text += one(["string.find(", "string.match(", "string.gmatch(", "string.gsub("]) + "tostring("
            expression()
            text += "):sub(1, 50), " + one(Self.patterns)
            if chance(50) {
                text += ", "
                expression()
            }
            text += ")"
        case 4:
            text += one(["(loadstring or load)(", "loadstring(", "load(", "loadstring(string.dump("])
            let closes = text.hasSuffix("dump(")
            if chance(50) { function() } else { string() }
            text += closes ? "))" : ")"
        default:
            text += one(Self.functions) + "("
            arguments(4)
            text += ")"
        }
    }

    // MARK: Words

    private static let shebangs = [
        "#!lua", "#!lua flags=no-writes", "#!lua flags=allow-oom,allow-cross-slot-keys", "#!lua name=lib", "#!js",
        "#!lua \"",
    ]
    private static let metamethods = [
        "__index", "__newindex", "__call", "__concat", "__eq", "__lt", "__le", "__unm", "__add", "__len", "__gc",
        "__mode", "__tostring", "__metatable", "__div", "__pow",
    ]
    private static let numbers = [
        "0", "1", "-1", "2", "3", "10", "100", "1.5", "-0", "0/0", "1/0", "-1/0", "2^31", "2^31-1", "-2^31", "2^32",
        "2^53", "-2^53", "2^63", "-2^63", "2^64", "1e300", "1e-300", "0xff", "255", "256", "65536", "200", "8000", "c",
        "#a",
    ]
    private static let counts = ["0", "40", "300", "5000", "70000", "-1", "2^20", "2^31-1", "1e300"]
    private static let strings = [
        "''", "'a'", "'key'", "'\\0\\1\\255'", "'%s %d %q %5.1f %c'", "'%99.99f'", "'0x10'", "'1e5'",
        "'[1,{\"a\":null}]'", "'\\27Lua'", "'>i4!8s'", "'\\221\\255\\255\\255\\255'", "'\\147\\1\\2'", "'return 1'",
        "'nan'", "'c0'", "'x'", "'k'",
    ]
    private static let patterns = [
        "'.-b'", "'(.)(.)'", "'%w+'", "'%b()'", "'%f[%w]%w+'", "'^a*'", "'[^%s]*$'", "'(()'", "'%1'", "'(.-)%1'", "'['",
        "'%'", "'()'", "''", "'.'", "'[%a-z]'", "'[]'", "'[^]'", "'%z'", "'\\0'", "'a?a?a?a?aaaa'", "'%b'", "'%f'",
        "'(.*)(.*)x'", "string.rep('a?', 100)", "string.rep('(', 40)", "string.rep('()', 32)", "string.rep('x', 9000)",
    ]
    private static let commands = [
        "'GET'", "'SET'", "'INCR'", "'DEL'", "'LPUSH'", "'LRANGE'", "'HSET'", "'HGETALL'", "'ZADD'", "'ZRANGE'",
        "'SADD'", "'SMEMBERS'", "'XADD'", "'XRANGE'", "'EXPIRE'", "'TTL'", "'TYPE'", "'SELECT'", "'PING'", "'ECHO'",
        "'TIME'", "'EXISTS'", "'BLPOP'", "'EVAL'", "'MULTI'", "'SUBSCRIBE'", "'CONFIG'", "'COMMAND', 'COUNT'",
        "'CLIENT', 'ID'", "'PUBLISH'", "'SORT'", "'FLUSHALL'", "'GEOADD'", "'PFADD'", "'SCAN'", "'KEYS'", "'DBSIZE'",
        "'WAIT'", "'MEMORY', 'USAGE'", "'nosuch'", "''", "{}", "a", "c", "'OBJECT', 'ENCODING'", "'INFO'",
        "'HRANDFIELD'", "'XINFO', 'STREAM'", "'FUNCTION', 'FLUSH'", "'SCRIPT', 'FLUSH'", "'DEBUG', 'OBJECT'",
    ]
    private static let functions = [
        "string.byte", "string.char", "string.format", "string.len", "string.lower", "string.upper", "string.reverse",
        "string.sub", "string.dump", "table.concat", "table.insert", "table.remove", "table.sort", "table.maxn",
        "table.getn", "table.setn", "table.foreach", "table.foreachi", "math.abs", "math.floor", "math.fmod",
        "math.modf", "math.frexp", "math.ldexp", "math.max", "math.min", "math.pow", "math.random", "math.randomseed",
        "math.sqrt", "math.deg", "tostring", "tonumber", "type", "select", "select", "unpack", "unpack", "rawget",
        "rawset", "rawequal", "next", "pairs", "ipairs", "setmetatable", "getmetatable", "assert", "error", "pcall",
        "xpcall", "gcinfo", "collectgarbage", "collectgarbage", "coroutine.create", "coroutine.resume",
        "coroutine.status", "coroutine.running", "coroutine.wrap", "coroutine.yield", "cjson.encode", "cjson.decode",
        "cjson.new", "cjson.encode_max_depth", "cjson.decode_max_depth", "cjson.encode_sparse_array",
        "cjson.encode_number_precision", "cjson.encode_invalid_numbers", "cjson.encode_keep_buffer", "cmsgpack.pack",
        "cmsgpack.unpack", "cmsgpack.unpack_one", "cmsgpack.unpack_limit", "struct.pack", "struct.unpack",
        "struct.size", "bit.tobit", "bit.tohex", "bit.tohex", "bit.bnot", "bit.band", "bit.bor", "bit.bxor",
        "bit.lshift", "bit.rshift", "bit.arshift", "bit.rol", "bit.ror", "bit.bswap", "redis.sha1hex",
        "redis.error_reply", "redis.status_reply", "redis.setresp", "redis.set_repl", "redis.acl_check_cmd",
        "redis.log", "redis.register_function", "redis.replicate_commands", "redis.breakpoint", "redis.debug",
        "getfenv", "setfenv", "newproxy", "f", "g", "a", "d", "redis.nosuch", "string.nosuch", "os.exit", "io.open",
        "require", "print", "debug.getinfo", "__redis__err__handler",
    ]
    /// What scripts have been broken with, and what takes memory, stack or time without end.
    private static let bombs = [
        "while true do end", "repeat until false", "local function f() return f() end f()",
        "local function f() return 1 + f() end pcall(f)", "local function f() pcall(f) end f()",
        "local t = {} while true do t[#t + 1] = {} end", "local s = 'x' while true do s = s .. s end",
        "local t = {} t[1] = t t[2] = t d = t", "for i = 1, 12 do b = {b, b} end d = pcall(cjson.encode, b)",
        "for i = 1, 6 do b = {b, b, b, b} end d = pcall(cmsgpack.pack, b)",
        "local t = {} t.t = t setmetatable(t, t) t.__index = t a = pcall(function() return t.x end)",
        "local function f() coroutine.wrap(f)() end pcall(f)", "a = ('x'):rep(2^20) b = a .. a",
        "local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end}) pcall(function() return t[1] end)",
        "local t = setmetatable({}, {__tostring = function(t) return tostring(t) end}) pcall(tostring, t)",
        "for i = 1, 300 do a = loadstring('return ' .. ('('):rep(i) .. '1' .. (')'):rep(i)) end",
        "a = loadstring(('local x = '):rep(250) .. '1')", "a = loadstring('return {' .. ('{'):rep(3000))",
        "a = loadstring('local ' .. ('a,'):rep(300) .. 'a = 1')",
        "collectgarbage('setpause', 0) collectgarbage('setstepmul', 1e6)", "collectgarbage('stop')",
        "a = pcall(table.insert, {}, -2^31, 1)", "a = pcall(unpack, {}, 0, 2^31 - 1)",
        "a = pcall(unpack, {}, -2^31, 2^31 - 1)", "a = pcall(table.concat, {}, 'x', 1, 2^31 - 1)",
        "a = select('#', unpack({}, 1, 7900))", "a = {unpack({}, 1, 7000)} b = pcall(string.char, unpack(a))",
        "local t = {} for i = 1, 5000 do t = {t} end d = t",
        "local t = {} for i = 1, 5000 do t = {t} end a = pcall(cjson.encode, t)",
        "a = pcall(cjson.decode, ('['):rep(70000))", "a = pcall(cmsgpack.unpack, ('\\145'):rep(70000))",
        "a = pcall(struct.unpack, 'c0', 'x', 2^31)", "a = pcall(struct.pack, '!2147483648i4', 1)",
        "a = bit.tohex(1, -2147483648)", "a = pcall(string.format, '%' .. ('9'):rep(50) .. 'd', 1)",
        "a = pcall(table.sort, {3, 1, 2, 5, 4, 6, 8, 7}, function() return true end)",
        "local t = {1, 2, 3} a = pcall(table.sort, t, function(x, y) t[1] = nil return x < y end)",
        "redis.setresp(3) d = {map = {a = {set = {x = true}}, b = {double = 0/0}}}", "d = {big_number = '1\\r\\n2'}",
        "d = {verbatim_string = {format = 'x', string = 'y'}}", "d = {err = 'E\\r\\n1'}",
        "getmetatable('').__index = nil",
        "for k, v in pairs(_G) do if type(v) == 'table' then pcall(rawset, v, 'x', 1) end end",
        "for k, v in pairs(_G) do if type(v) == 'function' then pcall(v, {}, 1, 'x') end end",
        "for k, v in pairs(string) do pcall(v, 'x', 2, 1) end", "for k, v in pairs(table) do pcall(v, {1, 2}, 1) end",
        "for k, v in pairs(redis) do if type(v) == 'function' then pcall(v, 'x') end end",
        "local co co = coroutine.create(function() coroutine.resume(co) error({}) end) coroutine.resume(co)",
        "xpcall(error, function() error(1) end)", "a = pcall(error, setmetatable({}, {__tostring = error}))",
        "local f = string.gmatch('abc', '.') collectgarbage() f() f() f() f()", "redis.log(redis.LOG_WARNING, 'x')",
        "local n = 0 a = load(function() n = n + 1 if n < 100 then return 'x = ' end end, string.rep('n', 100))",
        "a = load(function() collectgarbage() return nil end, 'name' .. tostring({}))",
        "a = load(coroutine.wrap(function() coroutine.yield('return ') coroutine.yield('1') end))",
    ]
}
