import MartletBase
import Testing

@testable import MartletServer

/// What scripts have broken Redis with, as far as it was published, and what could take more than scripts may have.
@Suite struct SandboxTests {
    private let node = NodeHarness { $0.enablesDeprecatedScriptFunctions = true }

    init() { node.node.limitScripts(stateBytes: 4 << 20) }

    private func eval(_ script: String) -> String {
        String(decoding: node.send(["EVAL", script, "0"].map { Array($0.utf8) }), as: UTF8.self)
    }

    /// The server goes on, and what scripts share is as before.
    private func expectSound() {
        #expect(eval("return ('x'):upper() .. redis.call('PING').ok .. cjson.encode({1})") == .bulk("XPONG[1]"))
        node.node.scriptInvariants()
    }

    @Test(
        "Libraries of the system cannot be loaded, by whatever name (CVE-2022-0543)",
        arguments: [
            "return package.loadlib('/lib/x86_64-linux-gnu/liblua5.1.so.0', 'luaopen_io')", "return require('io')",
            "return getfenv(0).package.loaded", "return getfenv(string.gsub).package.path", "return module('x')",
            "return getfenv(loadstring).io", "return debug.getregistry()", "return os.execute('true')",
            "return io.popen('true')", "return dofile('/etc/passwd')", "return loadfile('/etc/passwd')()",
        ])
    func systemLibraries(_ script: String) {
        #expect(eval(script).hasPrefix("-ERR "))
        expectSound()
    }

    @Test(
        "A script cannot leave code behind for the scripts of others (CVE-2022-24735)",
        arguments: [
            "redis.call = function() return 1 end", "rawset(redis, 'call', error)", "server.call = error",
            "_G.redis = {}", "cjson.encode = error", "rawset(cjson, 'encode', error)", "string.upper = error",
            "getmetatable('').__index = function() return error end", "rawset(getmetatable(''), '__index', {})",
            "setmetatable(_G, {__index = error})", "setmetatable(string, {__index = error})",
            "getmetatable(_G).__index = error", "rawset(getmetatable(_G), '__index', error)",
            "for k, v in pairs(_G) do if type(v) == 'table' and k == 'redis' then rawset(v, 'call', error) end end",
            "for k, v in pairs(_G) do if k == 'string' then table.insert(v, error) end end",
            "local env = getfenv(redis.call) env.redis = nil", "getfenv(0).redis = nil",
            "getfenv(0).string.upper = nil",
            "table.foreach(_G, function(k, v) if k == 'cjson' then v.encode = error end end)",
        ])
    func poisoning(_ script: String) {
        #expect(eval(script).hasPrefix("-"))
        expectSound()
    }

    @Test("An environment that a script sets ends with it (CVE-2022-24735)")
    func environments() {
        #expect(eval("setfenv(0, {}) return 1") == ":1\r\n")
        #expect(eval("pcall(setfenv, redis.call, {}) pcall(setfenv, string.upper, {}) return 1") == ":1\r\n")
        expectSound()
    }

    @Test("Basic types have no metatable that scripts could fill for scripts of others (CVE-2025-46818)")
    func basicTypes() {
        #expect(
            eval(
                """
                for _, value in ipairs({1, true, tostring, coroutine.create(function() end)}) do
                  if getmetatable(value) then return 'one has' end
                  if pcall(setmetatable, value, {}) then return 'one can get' end
                end
                if getmetatable(nil) or pcall(setmetatable, nil, {}) or pcall(setmetatable, 'x', {}) then return 'nil' end
                return 'none'
                """) == .bulk("none"))
        for script in [
            "getmetatable('').__add = function() return 1 end", "getmetatable('x').__index.rep = error",
            "rawset(getmetatable(''), '__call', error)", "getmetatable('').__metatable = 1",
            "debug.setmetatable(1, {})", "setmetatable(getmetatable(''), {__index = {}})",
        ] {
            #expect(eval(script).hasPrefix("-ERR "))
        }
        #expect(eval("return pcall(function() return ('x')() end)") == "$-1\r\n")
        expectSound()
    }

    @Test("The API takes any arguments, and calls where no script runs (CVE-2022-24736)")
    func oddArguments() {
        #expect(
            eval(
                """
                local values = {0, -1, 2^53, 0/0, '', 'x', {}, _G, error, coroutine.create(function() end), cjson.null, true}
                local count = 0
                local function try(f)
                  pcall(f)
                  for _, x in ipairs(values) do
                    pcall(f, x)
                    for _, y in ipairs(values) do pcall(f, x, y) pcall(f, x, y, x) count = count + 1 end
                  end
                end
                for _, library in ipairs({redis, string, math, cjson, cmsgpack, struct, bit, coroutine}) do
                  for name, f in pairs(library) do
                    if type(f) == 'function' and name ~= 'yield' and name ~= 'breakpoint' then try(f) end
                  end
                end
                for _, f in ipairs({tostring, tonumber, select, rawget, rawequal, next, pairs, ipairs, getmetatable, unpack,
                  getfenv, newproxy, loadstring, load, assert, gcinfo, type}) do try(f) end
                return count > 1000
                """) == ":1\r\n")
        expectSound()
        let library = """
            #!lua name=odd
            for _, name in ipairs({'call', 'pcall', 'setresp', 'set_repl', 'acl_check_cmd', 'sha1hex'}) do
              pcall(function() redis[name]('x') end)
            end
            redis.register_function('f', function() return redis.pcall('PING') end)
            """
        _ = node.send([Array("FUNCTION".utf8), Array("LOAD".utf8), Array(library.utf8)])
        expectSound()
    }

    @Test("Lua's stack has room for what is pushed on it (CVE-2021-32626)")
    func stack() {
        node("RPUSH l 1 2 3")
        #expect(eval("return #redis.call('LRANGE', 'l', 0, -1, unpack({}, 1, 0))") == ":3\r\n")
        #expect(eval("local t = {} for i = 1, 7000 do t[i] = i end return #{unpack(t)}") == ":7000\r\n")
        #expect(eval("return redis.call('RPUSH', 'm', unpack(redis.call('LRANGE', 'l', 0, -1)))") == ":3\r\n")
        #expect(
            eval("local t = {} for i = 1, 7900 do t[i] = i end return redis.call('RPUSH', 'n', unpack(t))")
                == ":7900\r\n")
        #expect(
            eval(
                """
                local function deep(n) if n == 0 then return redis.call('COMMAND', 'DOCS', 'SET')[1] end return (deep(n - 1)) end
                local function wide(...) if select('#', ...) > 200 then return deep(150) end return wide(1, ...) end
                return wide()
                """) == .bulk("set"))
        expectSound()
    }

    @Test("Functions with many parameters have room for them (CVE-2014-5461)")
    func parameters() {
        #expect(
            eval(
                """
                local names = {} for i = 1, 190 do names[i] = 'p' .. i end
                local f = loadstring('return function(' .. table.concat(names, ',') .. ', ...) return select("#", ...) end')()
                local function at(depth) if depth == 0 then return f() end return (at(depth - 1)) end
                for depth = 0, 150 do at(depth) end
                return f(unpack({}, 1, 1000))
                """) == ":810\r\n")
        expectSound()
    }

    @Test("Calls in calls, coroutines in coroutines, and chains of metatables end in errors (CVE-2021-43519)")
    func nesting() {
        for script in [
            "local function f() return coroutine.wrap(f)() end return f()",
            "local function f() local ok, e = pcall(f) if not ok then error(e) end end return f()",
            "local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end}) return t[1]",
            "local t = setmetatable({}, {__tostring = function(t) return tostring(t) end}) return tostring(t)",
            "local t = {} setmetatable(t, {__index = t}) t = setmetatable(t, t) t.__index = t return t.x .. ''",
            "local s = 'return 1' for i = 1, 100000 do s = s .. '' end return loadstring(('('):rep(200000))()",
            "return string.gsub(('x'):rep(100000), '.', function() return string.gsub('x', 'x', error) end)",
            "xpcall(function() error(1) end, function() error(2) end) error('x')",
        ] {
            #expect(eval(script).hasPrefix("-"), "\(script)")
        }
        expectSound()
    }

    @Test("Numbers of digits are no places outside of the digits (CVE-2024-31449)")
    func digits() {
        for count in ["-2147483648", "2147483647", "2^31", "2^32", "-2^63", "0/0", "1e300", "-9"] {
            #expect(eval("return #bit.tohex(-1, \(count)) <= 8") == ":1\r\n")
        }
        expectSound()
    }

    @Test("Nothing of a script's runs while its garbage is collected (CVE-2024-46981)")
    func finalizers() {
        let script = """
            for i = 1, 100 do
              local proxy = newproxy(true)
              getmetatable(proxy).__gc = function() redis.call('SET', 'k', 1) error('x') end
              setmetatable({}, {__gc = function() redis.call('SET', 'k', 1) end})
            end
            collectgarbage() collectgarbage()
            return redis.call('EXISTS', 'k')
            """
        #expect(eval(script) == ":0\r\n")
        node("SCRIPT FLUSH")
        expectSound()
        #expect(node("EXISTS k") == ":0\r\n")
    }

    @Test("What a parser reads is not collected under it (CVE-2025-49844)")
    func collectionWhileParsing() {
        #expect(
            eval(
                """
                collectgarbage('setpause', 0) collectgarbage('setstepmul', 10000)
                for i = 1, 50 do
                  local parts = {'local t = {', ('"x' .. i .. '",'):rep(100), '} return #t ', 'x'}
                  local n = 0
                  local f, e = load(function()
                    n = n + 1
                    collectgarbage()
                    return parts[n] and parts[n] .. ''
                  end, 'chunk' .. i .. ('z'):rep(i))
                  if f or not e:find('chunk' .. i, 1, true) then return tostring(e) end
                end
                return 1
                """) == ":1\r\n")
        expectSound()
    }

    @Test("Positions far outside of a table are errors (CVE-2025-46817)")
    func positions() {
        for script in [
            "return unpack({}, -2147483648, 2147483647)", "return unpack({}, 0, 2147483647)",
            "return table.insert({}, -2147483648, 1)",
            "return table.concat({}, 'x', 1, 2147483647)",
            "return select(-2147483648, 1)", "return string.rep('x', 2147483647)",
        ] {
            #expect(eval(script).hasPrefix("-ERR "), "\(script)")
        }
        for script in [
            "return #string.sub('abc', -2147483648, 2147483647)", "return #{string.byte('abc', -2^31, 2^31)}",
            "return 3 + #(table.remove({}, -2147483648) or '')",
            "return 3 + #table.concat({}, 'x', 2147483647, -2147483648)",
            "return math.min(3, #tostring(string.find('abc', 'b', -2147483648, true) or '') + 2)",
            "return 3 * math.random(-2147483648, 2147483647) / math.max(1, 0) ~= 0 and 3",
        ] {
            #expect(eval(script) == ":3\r\n", "\(script)")
        }
        expectSound()
    }

    @Test("A chunk is not so long that the lexer's counts wrap (CVE-2025-46819)")
    func longChunks() {
        node.node.limitScripts(stateBytes: 2 << 30)
        #expect(eval("return {loadstring(('='):rep(2^28 + 1))}") == "*0\r\n")
        #expect(eval("return select(2, loadstring(('='):rep(2^28 + 1)))") == .bulk("chunk too long"))
        #expect(
            eval(
                """
                local piece = '--' .. ('='):rep(2^27)
                return select(2, load(function() return piece end))
                """
            ).contains("chunk too long"))
        expectSound()
    }

    @Test("Values that contain one value many times cannot fill the memory (CVE-2022-24834)")
    func sharedValues() {
        let nest = "local t = {'x'} for i = 1, 14 do t = {t, t, t, t, t, t, t, t} end "
        for script in [
            nest + "return cjson.encode(t)", nest + "return cmsgpack.pack(t)",
            "cjson.encode_sparse_array(false, 0) return cjson.encode({[2^31 - 1] = 1})",
            "local t = {} for i = 1, 100 do t[i] = ('x'):rep(2^18) end return struct.pack(('s'):rep(100), unpack(t))",
            "return cjson.decode('[' .. ('[],'):rep(2^17) .. '1]')",
            "return cmsgpack.unpack('\\221\\0\\2\\0\\0' .. ('\\144'):rep(2^17))",
        ] {
            #expect(eval(script).contains("not enough memory"), "\(script)")
        }
        #expect(eval("cjson.encode_sparse_array(false, 2) return 1") == ":1\r\n")
        expectSound()
    }

    @Test("A reply does not become longer than a script's memory, whatever contains itself")
    func longReplies() {
        let refusal = "-ERR The reply of the script is too long\r\n"
        #expect(eval("local t = {} t[1] = t t[2] = t return t") == refusal)
        #expect(eval("local t = {} t.map = {a = t, b = t, c = t} return t") == refusal)
        #expect(eval("local s, t = ('x'):rep(2^18), {} for i = 1, 100 do t[i] = s end return t") == refusal)
        #expect(eval("local s, t = ('x'):rep(2^18), {} for i = 1, 10 do t[i] = s end return t").utf8.count > 10 << 18)
        node("MULTI")
        node("PING")
        node.send(["EVAL", "local t = {} t[1] = t t[2] = t return t", "0"].map { Array($0.utf8) })
        #expect(node("EXEC") == "*2\r\n+PONG\r\n" + refusal)
        expectSound()
    }

    @Test("Libraries write what protected tables show")
    func protectedTables() {
        #expect(eval("return cjson.encode(math)").contains("Cannot serialise function: type not supported"))
        #expect(eval("return #cmsgpack.pack(math) > 100") == ":1\r\n")
        expectSound()
    }
}
