import MartletBase
import MartletKeyspace
import Testing

@testable import MartletServer

@Suite struct ScriptTests {
    private let node = NodeHarness()

    private func eval(_ script: String, keys: [String] = [], _ arguments: String..., command: String = "EVAL") -> String
    {
        let words = [command, script, String(keys.count)] + keys + arguments
        return String(decoding: node.send(words.map { Array($0.utf8) }), as: UTF8.self)
    }

    @Test(
        "Lua values become replies",
        arguments: [
            ("return 1", ":1\r\n"), ("return 3.99", ":3\r\n"), ("return -3.99", ":-3\r\n"),
            ("return 1e300", ":-9223372036854775808\r\n"), ("return 'x'", "$1\r\nx\r\n"), ("return true", ":1\r\n"),
            ("return false", "$-1\r\n"), ("return nil", "$-1\r\n"),
            ("return {1,{'a'},nil,4}", "*2\r\n:1\r\n*1\r\n$1\r\na\r\n"),
            ("return {ok='fi\\r\\nne'}", "+fi  ne\r\n"), ("return {err='MY error'}", "-MY error\r\n"),
            ("return {double=3.5}", "$3\r\n3.5\r\n"), ("return {big_number='12\\r\\n3'}", "$5\r\n12  3\r\n"),
            ("return {map={a=1}}", "*2\r\n$1\r\na\r\n:1\r\n"), ("return {set={a=true}}", "*1\r\n$1\r\na\r\n"),
            ("return {verbatim_string={format='txt',string='hi'}}", "$2\r\nhi\r\n"),
            ("return _G", "*0\r\n"), ("return function() end", "$-1\r\n"),
        ])
    func conversion(_ script: String, _ reply: String) { #expect(eval(script) == reply) }

    @Test("A script's maps, sets, doubles and booleans arrive as such with RESP3")
    func conversionRESP3() {
        node("HELLO 3")
        #expect(eval("return {double=3.5}") == ",3.5\r\n")
        #expect(eval("return {map={a=1}}") == "%1\r\n$1\r\na\r\n:1\r\n")
        #expect(eval("return {set={a=true}}") == "~1\r\n$1\r\na\r\n")
        #expect(eval("return {verbatim_string={format='mkd',string='hi'}}") == "=6\r\nmkd:hi\r\n")
        #expect(eval("return true") == ":1\r\n")
        #expect(eval("redis.setresp(3); return {true,false}") == "*2\r\n#t\r\n#f\r\n")
        #expect(eval("return nil") == "_\r\n")
    }

    @Test("A table in itself ends at the limit of Lua's stack")
    func recursiveTable() {
        let reply = eval("local a = {}; a[1] = a; return a")
        #expect(reply.hasPrefix("*1\r\n*1\r\n"))
        #expect(reply.hasSuffix("-ERR reached lua stack limit\r\n"))
    }

    @Test("Keys and arguments are tables, and commands take strings and numbers")
    func commands() {
        #expect(eval("return redis.call('SET', KEYS[1], ARGV[1])", keys: ["k"], "v") == "+OK\r\n")
        #expect(node("GET k") == "$1\r\nv\r\n")
        #expect(
            eval("return {#KEYS, #ARGV, KEYS[2], ARGV[3]}", keys: ["a", "b"], "c") == "*3\r\n:2\r\n:1\r\n$1\r\nb\r\n")
        for (number, text) in [
            ("10", "10"), ("0.1", "0.10000000000000001"), ("2^53-1", "9007199254740991"),
            ("1e300", "1.0000000000000001e+300"),
            ("0/0", "-nan"), ("1/0", "inf"),
        ] {
            #expect(eval("redis.call('SET', 'n', \(number)) return redis.call('GET', 'n')") == .bulk(text))
        }
        #expect(eval("return redis.call('GET', 'none') == false") == ":1\r\n")
        #expect(eval("redis.call('SELECT', 3) return redis.call('SET', 'there', 1)") == "+OK\r\n")
        #expect(node("EXISTS there") == ":0\r\n")
        node("SELECT 3")
        #expect(node("EXISTS there") == ":1\r\n")
    }

    @Test("Replies in RESP3 have types of their own in Lua")
    func repliesRESP3() {
        node("HSET h a 1")
        #expect(eval("redis.setresp(3); return redis.call('HGETALL', 'h').map.a") == "$1\r\n1\r\n")
        #expect(eval("redis.setresp(3); return tostring(redis.call('GET', 'none'))") == "$3\r\nnil\r\n")
        #expect(
            eval("redis.setresp(3); return redis.call('DEBUG', 'PROTOCOL', 'double').double").hasPrefix(
                "-ERR This Redis"))
        node("DEBUG SET-DISABLE-DENY-SCRIPTS 1")
        for (type, value) in [
            ("double", ".double > 3"), ("set", ".set[0]"), ("verbatim", ".verbatim_string.format == 'txt'"),
            ("bignum", ".big_number == '1234567999999999999999999999999999999'"), ("true", ""),
        ] {
            #expect(eval("redis.setresp(3); return redis.call('DEBUG', 'PROTOCOL', '\(type)')\(value)") == ":1\r\n")
        }
        #expect(
            eval("redis.setresp(3); return redis.call('DEBUG', 'PROTOCOL', 'attrib')")
                == .bulk("Some real reply following the attribute"))
        #expect(eval("return redis.call('EVAL', 'return 1', 0)").hasPrefix("-ERR This Redis command is not allowed"))
        #expect(eval("return redis.call('SCRIPT', 'FLUSH')").hasPrefix("-ERR This Redis command is not allowed"))
        #expect(eval("return redis.call('BLPOP', 'none', 0)") == "$-1\r\n")
    }

    @Test(
        "Errors say what happened and where",
        arguments: [
            ("return redis.call()", "ERR Please specify at least one argument for this redis lib call"),
            ("return redis.call({})", "ERR Lua redis lib command arguments must be strings or integers"),
            ("return redis.call('nosuch')", "ERR Unknown Redis command called from script"),
            ("return redis.call('CONFIG', 'nosuch')", "ERR Unknown Redis command called from script"),
            ("return redis.call('GET')", "ERR Wrong number of args calling Redis command from script"),
            ("return redis.call('BLPOP', 'x', 0)", "ERR This Redis command is not allowed from script"),
            ("redis.call('SET', 'k', 'x') redis.call('INCR', 'k')", "ERR value is not an integer or out of range"),
            ("error('oops')", "ERR user_script:1: oops"), ("error({err='MY code'})", "MY code"), ("error()", "ERR nil"),
            ("error({})", "ERR unknown error"), ("redis.setresp(4)", "ERR RESP version must be 2 or 3."),
            ("redis.sha1hex()", "ERR wrong number of arguments"), ("redis.log(9, 'x')", "ERR Invalid debug level."),
            (
                "redis.set_repl(9)",
                "ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE."
            ),
            ("redis.acl_check_cmd('nosuch')", "ERR Invalid command passed to redis.acl_check_cmd()"),
            (
                "redis.call('XREAD', 'BLOCK', 0, 'STREAMS', 's', '$')",
                "ERR XREAD command is not allowed with BLOCK option from scripts"
            ),
        ])
    func errors(_ script: String, _ text: String) {
        let digest = hexadecimal(SHA1.digest(Array(script.utf8)))
        #expect(eval(script) == "-\(text) script: \(digest), on @user_script:1.\r\n")
    }

    @Test("pcall and redis.pcall give errors to the script")
    func protectedCalls() {
        #expect(eval("return redis.pcall('nosuch').err") == .bulk("ERR Unknown Redis command called from script"))
        #expect(
            eval("local ok, e = pcall(redis.call, 'nosuch') return {tostring(ok), e}")
                == .bulks("false", "ERR Unknown Redis command called from script"))
        #expect(eval("return redis.error_reply('MY error')") == "-MY error\r\n")
        #expect(eval("return redis.error_reply('word')") == "-ERR word\r\n")
        #expect(eval("return redis.status_reply('fine')") == "+fine\r\n")
        #expect(eval("return redis.sha1hex('abc')") == .bulk("a9993e364706816aba3e25717850c26c9cd0d89d"))
        #expect(eval("return redis.acl_check_cmd('SET', 'a', 'b')") == ":1\r\n")
        #expect(eval("return server.call('PING')") == "+PONG\r\n")
    }

    @Test("An error is counted once, for the command and for EVAL")
    func statistics() {
        #expect(eval("return redis.call('SELECT', 99)").hasPrefix("-ERR DB index is out of range"))
        #expect(node("INFO errorstats").contains("errorstat_ERR:count=1\r\n"))
        let first = node("INFO commandstats")
        #expect(first.contains("cmdstat_select:calls=1,") && first.contains("cmdstat_eval:calls=1,"))
        #expect(first.split(separator: "\r\n").filter { $0.hasSuffix("failed_calls=1") }.count == 2)
        node("CONFIG RESETSTAT")
        #expect(eval("redis.pcall('nosuch') return 1") == ":1\r\n")
        #expect(node("INFO errorstats").contains("errorstat_ERR:count=1\r\n"))
        #expect(!node("INFO commandstats").contains("failed_calls=1"))
    }

    // MARK: Sandbox

    @Test(
        "Nothing that scripts share can be changed",
        arguments: [
            "foo = 1", "redis = 1", "_G = {}", "redis.call = 1", "redis.new = 1", "string.upper = 1", "math.pi = 3",
            "rawset(_G, 'x', 1)", "rawset(redis, 'call', 1)", "setmetatable(_G, {})", "setmetatable(redis, {})",
            "getmetatable(_G).__index = nil", "getmetatable('').__index = {}", "getmetatable('').__index.upper = nil",
            "table.insert(redis, 1)", "table.insert(_G, 1)", "table.remove(_G)", "table.sort(_G)", "_G._G._G.x = 1",
            "local s = string; s.rep = nil", "for k, v in pairs(_G) do if k == 'redis' then v.call = 1 end end",
            "local k, v = next(getmetatable(''))  getmetatable('')[k] = 1",
        ])
    func readOnly(_ script: String) {
        #expect(eval(script).contains("Attempt to modify a readonly table"))
        #expect(eval("return redis.call('PING').ok .. ('x'):upper()") == .bulk("PONGX"))
    }

    @Test(
        "What reaches out of the sandbox is not there",
        arguments: [
            "os", "io", "package", "require", "module", "dofile", "loadfile", "print", "debug", "newproxy", "getfenv",
            "setfenv", "jit", "ffi", "arg", "nosuch",
        ])
    func missingGlobals(_ name: String) {
        #expect(eval("return \(name)").contains("Script attempted to access nonexistent global variable '\(name)'"))
        #expect(eval("return tostring(rawget(_G, '\(name)'))") == .bulk("nil"))
        // CVE-2022-0543: a library left behind under another name.
        #expect(eval("for k, v in pairs(_G) do if k == '\(name)' then return 1 end end return 0") == ":0\r\n")
    }

    @Test("Bytecode is text without sense (CVE-2015-4335)")
    func bytecode() {
        #expect(
            eval("return loadstring(string.dump(function() return 1 end))()").contains("attempt to call a nil value"))
        #expect(eval("local f, e = loadstring('\\27Lua', 'name') return e").contains("near 'char(27)'"))
        #expect(
            eval("local n = 0 local f, e = load(function() n = n + 1 if n == 1 then return '\\27Lua' end end) return e")
                .contains("near 'char(27)'"))
        #expect(eval("\u{1B}Lua").contains("Error compiling script"))
        #expect(eval("local n = 0 return load(function() n = n + 1 return ({'return ', '42'})[n] end)()") == ":42\r\n")
    }

    @Test("unpack refuses ranges that no stack holds (CVE-2025-46817)")
    func unpackRanges() {
        for range in ["-2, 2147483647", "0, 2147483647", "-2147483648, -2", "-2147483648, 2147483647"] {
            #expect(eval("return {unpack({1,2,3}, \(range))}").contains("too many results to unpack"))
        }
        #expect(eval("return select('#', unpack({}, 2147483646, 2147483647))") == ":2\r\n")
    }

    @Test("A chunk's name lives while it is compiled, whatever is collected (CVE-2025-49844)")
    func chunkNames() {
        #expect(
            eval(
                """
                collectgarbage('setpause', 0) collectgarbage('setstepmul', 10000)
                local body = string.rep('local x = {"' .. string.rep('y', 50) .. '"} ', 150)
                for i = 1, 20 do
                    local f, e = loadstring(body .. ' ?', 'name' .. i .. string.rep('z', 30))
                    if not string.find(e, 'name' .. i, 1, true) then return e end
                end
                return 1
                """) == ":1\r\n")
    }

    @Test("Patterns, nesting and calls too deep are errors of the script")
    func depth() {
        #expect(eval("return string.find('x', string.rep('a?', 100000))").contains("pattern too complex"))
        #expect(eval("return string.gsub('x', string.rep('(', 100000), 1, 1)").contains("pattern too complex"))
        #expect(eval("return string.find(string.rep('a?', 9000), string.rep('a?', 9000), 1, true)") == ":1\r\n")
        #expect(eval("local function f() return 1 + f() end return f()").contains("stack overflow"))
        #expect(eval("return loadstring('return ' .. string.rep('(', 10000))").hasPrefix("$-1"))
    }

    @Test("What a script does to the collector ends with it")
    func collector() {
        #expect(eval("collectgarbage('stop') for i = 1, 10 do local t = {} end return 1") == ":1\r\n")
        #expect(eval("for i = 1, 200000 do local t = {i} end return collectgarbage('count') < 2000") == ":1\r\n")
    }

    @Test("A script that asks for too much memory fails, and the next has it")
    func memory() {
        node.node.scripts.stateBytesMax = 4 << 20
        #expect(eval("return #string.rep('abc', 2^31 - 1)").contains("not enough memory"))
        #expect(eval("local t = {} for i = 1, 1e7 do t[i] = {} end").contains("not enough memory"))
        #expect(eval("return loadstring('return ' .. string.rep('1+', 2^20) .. '1')").count > 0)
        #expect(eval("collectgarbage() return #string.rep('x', 2^20)") == ":1048576\r\n")
        #expect(eval("return string.rep('', 2^31 - 1)") == "$0\r\n\r\n")
    }

    // MARK: The cache

    @Test("A script is known by the digest of its text")
    func digests() {
        #expect(node("EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0").hasPrefix("-NOSCRIPT No matching script."))
        #expect(node("SCRIPT LOAD 'return 1'") == .bulk("e0e1f9fabfc9d4800c877a703b823ac0578ff8db"))
        #expect(node("EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0") == ":1\r\n")
        #expect(node("EVALSHA E0E1F9FABFC9D4800C877A703B823AC0578FF8DB 0") == ":1\r\n")
        #expect(node("EVALSHA_RO e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0") == ":1\r\n")
        #expect(node("EVALSHA short 0").hasPrefix("-NOSCRIPT"))
        #expect(node("EVALSHA short x").hasPrefix("-NOSCRIPT"))
        #expect(node("SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db x") == "*2\r\n:1\r\n:0\r\n")
        #expect(node("SCRIPT SHOW e0e1f9fabfc9d4800c877a703b823ac0578ff8db") == .bulk("return 1"))
        #expect(node("INFO memory").contains("number_of_cached_scripts:1\r\n"))
        #expect(node("SCRIPT FLUSH ASYNC") == "+OK\r\n")
        #expect(node("SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db") == "*1\r\n:0\r\n")
        #expect(node("SCRIPT FLUSH x") == "-ERR SCRIPT FLUSH only support SYNC|ASYNC option\r\n")
        #expect(node("SCRIPT KILL") == "-NOTBUSY No scripts in execution right now.\r\n")
        #expect(node("SCRIPT DEBUG YES") == "-ERR SCRIPT DEBUG is not supported: this server has no Lua debugger\r\n")
        #expect(node("SCRIPT DEBUG NO") == "+OK\r\n")
    }

    @Test("Of scripts that EVAL brings, the last 500 are kept; those of SCRIPT LOAD always")
    func eviction() {
        let loaded = node("SCRIPT LOAD 'return 0'").split(separator: "\r\n")[1]
        let first = hexadecimal(SHA1.digest(Array("return 1".utf8)))
        for number in 1...500 { #expect(eval("return \(number)") == ":\(number)\r\n") }
        #expect(node("EVALSHA \(first) 0") == ":1\r\n")
        for number in 501...510 { #expect(eval("return \(number)") == ":\(number)\r\n") }
        #expect(node("INFO memory").contains("number_of_cached_scripts:501\r\n"))
        #expect(node("INFO stats").contains("evicted_scripts:10\r\n"))
        #expect(node("EVALSHA \(first) 0") == ":1\r\n")
        #expect(node("EVALSHA \(loaded) 0") == ":0\r\n")
        let second = hexadecimal(SHA1.digest(Array("return 2".utf8)))
        #expect(node("EVALSHA \(second) 0").hasPrefix("-NOSCRIPT"))
        #expect(eval("return 2") == ":2\r\n")
    }

    @Test("The number of keys is checked")
    func keyCounts() {
        #expect(node("EVAL 'return 1' x") == "-ERR value is not an integer or out of range\r\n")
        #expect(node("EVAL 'return 1' -1") == "-ERR Number of keys can't be negative\r\n")
        #expect(node("EVAL 'return 1' 1") == "-ERR Number of keys can't be greater than number of args\r\n")
        #expect(node("COMMAND GETKEYS EVAL x 2 a b c") == .bulks("a", "b"))
    }

    // MARK: Flags

    @Test("The first line of a script says what it does")
    func shebangs() {
        #expect(eval("#!lua\nreturn 1") == ":1\r\n")
        #expect(eval("#!lua flags=no-writes,allow-stale\nreturn 1", command: "EVAL_RO") == ":1\r\n")
        #expect(eval("#!lua") == "-ERR Invalid script shebang\r\n")
        #expect(eval("#!lua \"x\nreturn 1") == "-ERR Invalid engine in script shebang\r\n")
        #expect(eval("#!js\nreturn 1") == "-ERR Unexpected engine in script shebang: #!js\r\n")
        #expect(eval("#!lua x=y\nreturn 1") == "-ERR Unknown lua shebang option: x=y\r\n")
        #expect(eval("#!lua flags=no-writes,what\nreturn 1") == "-ERR Unexpected flag in script shebang: what\r\n")
        #expect(eval("#!lua\nreturn 1", command: "EVAL_RO").hasPrefix("-ERR Can not execute a script with write flag"))
        let refusal = "-ERR Write commands are not allowed from read-only scripts."
        #expect(eval("#!lua flags=no-writes\nredis.call('SET', 'k', 1)").hasPrefix(refusal))
        #expect(eval("redis.call('SET', 'k', 1)", command: "EVAL_RO").hasPrefix(refusal))
        #expect(eval("#!lua\nerror('x')").contains("user_script:2: x"))
    }

    @Test("A pause of writes holds scripts back that may write")
    func pause() {
        node("SET k v")
        node("CLIENT PAUSE 100000 WRITE")
        #expect(eval("#!lua flags=no-writes\nreturn redis.call('GET', 'k')") == .bulk("v"))
        #expect(eval("return 1", command: "EVAL_RO") == ":1\r\n")
        #expect(eval("return 1") == "")
        #expect(node.client.pointee.parked == .pause)
    }

    // MARK: The log

    @Test("What a script changes goes into the log as one unit, not the script")
    func replication() {
        node.node.isInPropagationUnit = true
        node.node.keyspace.propagation.isOn = true
        func propagation(of script: String) -> [String] {
            _ = eval(script)
            return node.takePropagation()
        }
        #expect(
            propagation(of: "redis.call('SET', 'a', 1) redis.call('GET', 'a') redis.call('INCR', 'a')") == [
                "0 SET a 1", "0 INCR a",
            ])
        #expect(propagation(of: "return redis.call('GET', 'a')") == [])
        #expect(propagation(of: "redis.call('SELECT', 2) redis.call('SET', 'b', 1)") == ["2 SET b 1"])
        #expect(propagation(of: "redis.call('INCRBYFLOAT', 'a', 1)") == ["0 SET a 3 KEEPTTL"])
        #expect(propagation(of: "redis.call('SET', 'a', 5) error('x')") == ["0 SET a 5"])
        #expect(
            propagation(
                of: """
                    redis.call('SET', 'a', 1) redis.set_repl(redis.REPL_NONE) redis.call('SET', 'b', 1)
                    redis.set_repl(redis.REPL_AOF) redis.call('SET', 'c', 1) redis.set_repl(redis.REPL_ALL)
                    redis.call('SET', 'd', 1)
                    """) == ["0 SET a 1", "0 SET d 1"])
        node.node.keyspace.propagation.isOn = false
    }

    @Test("SORT of a set has an order of its own in scripts")
    func sort() {
        node("SADD s d a c b e")
        #expect(eval("return redis.call('SORT', 's', 'BY', '_')") == .bulks("a", "b", "c", "d", "e"))
    }

    @Test("Keys do not expire while a script runs")
    func time() {
        node("SET k v PX 10")
        node.node.services.sleep = { _ in }
        #expect(eval("return redis.call('EXISTS', 'k')") == ":1\r\n")
        node.advance(milliseconds: 11)
        #expect(eval("return redis.call('EXISTS', 'k')") == ":0\r\n")
    }
}
