import MartletBase
import Testing

@testable import MartletServer

/// What the libraries answer is compared with Redis at random in Tests/Integration (`lua_library`); here are the limits, and
/// what random input hardly finds. The answers are those of Redis 7.0.15.
struct ScriptLibraryTests {
    /// What a script returns as text.
    private func run(_ script: String) -> String {
        let node = NodeHarness()
        let show = """
            local function show(...)
              local texts = {}
              for index = 1, select('#', ...) do texts[index] = tostring((select(index, ...))) end
              return table.concat(texts, ' ')
            end
            local function hex(bytes)
              return (bytes:gsub('.', function(byte) return ('%02x'):format(byte:byte()) end))
            end

            """
        let reply = node.send(["EVAL", show + script, "0"].map { Array($0.utf8) })
        let text = String(decoding: reply, as: UTF8.self)
        // A line break is one character.
        guard text.hasPrefix("$"), let end = text.firstIndex(of: "\r\n") else { return text }
        return String(text[end...].dropFirst().dropLast())
    }

    @Test(
        "JSON is written and read as Redis does",
        arguments: [
            (#"return cjson.encode({1, 'a/b"c', true, cjson.null})"#, #"[1,"a\/b\"c",true,null]"#),
            ("return cjson.encode({})", "{}"),
            ("return cjson.encode({[3] = 1})", "[null,null,1]"),
            ("return show(pcall(cjson.encode, {[11] = 1}))", "false Cannot serialise table: excessively sparse array"),
            ("return cjson.encode(1e14) .. cjson.encode(99999999999999)", "1e+1499999999999999"),
            ("return cjson.encode('\\127\\1')", #""\u007f\u0001""#),
            ("return show(pcall(cjson.encode, 0/0))", "false Cannot serialise number: must not be NaN or Inf"),
            ("return show(pcall(cjson.encode, print))", "-ERR"),
            (#"return cjson.decode('"\\ud83d\\ude00"')"#, "😀"),
            (
                #"return show(pcall(cjson.decode, '"\\ud83d"'))"#,
                "false Expected value but found invalid unicode escape code at character 2"
            ),
            ("return show(pcall(cjson.decode, '[1,]'))", "false Expected value but found T_ARR_END at character 4"),
            (
                "return show(pcall(cjson.decode, '{1:2}'))",
                "false Expected object key string but found T_NUMBER at character 2"
            ),
            ("return show(cjson.decode('0x1F'), cjson.decode('-inf'))", "31 -inf"),
            ("return show(pcall(cjson.decode, 'a\\0'))", "false JSON parser does not support UTF-16 or UTF-32"),
            ("return show(pcall(cjson.decode))", "false bad argument #1 to '?' (expected 1 argument)"),
        ])
    func json(_ script: String, _ expected: String) {
        let text = run(script)
        #expect(expected == "-ERR" ? text.hasPrefix("-ERR") : text == expected)
    }

    @Test("Nesting of JSON has limits, which scripts can move as far as Lua's stack reaches")
    func jsonNesting() {
        #expect(run("return type(cjson.decode(('['):rep(1000) .. (']'):rep(1000)))") == "table")
        #expect(
            run("return show(pcall(cjson.decode, ('['):rep(1001) .. (']'):rep(1001)))")
                == "false Found too many nested data structures (1001) at character 1001")
        #expect(
            run("local t = {} t[1] = t return show(pcall(cjson.encode, t))")
                == "false Cannot serialise, excessive nesting (1001)")
        #expect(
            run("local c = cjson.new() c.decode_max_depth(2^30) return show(pcall(c.decode, ('['):rep(100000)))")
                == "false Found too many nested data structures (7999) at character 7999")
    }

    @Test("Settings belong to the table that cjson.new made")
    func jsonSettings() {
        #expect(
            run("local c = cjson.new() c.encode_max_depth(1) return show(pcall(c.encode, {{}})) .. cjson.encode({{}})")
                == "false Cannot serialise, excessive nesting (2)[{}]")
        #expect(
            run("return show(pcall(cjson.encode_number_precision, 15))")
                == "false bad argument #1 to '?' (expected integer between 1 and 14)")
    }

    @Test(
        "MessagePack is written and read as Redis does",
        arguments: [
            (
                "return hex(cmsgpack.pack({1, -1, 128, 1.5, 'a', true, cjson.null}))", "9701ffcc80ca3fc00000a161c3c0"
            ),
            ("return hex(cmsgpack.pack({a = 1}))", "81a16101"),
            ("local t = {} t[1] = t return #cmsgpack.pack(t)", ":17\r\n"),
            ("return show(cmsgpack.unpack('\\207' .. ('\\255'):rep(8)))", "-1"),
            ("return show(pcall(cmsgpack.unpack, '\\146\\1'))", "false Missing bytes in input."),
            ("return show(pcall(cmsgpack.unpack, '\\193'))", "false Bad data format in input."),
            ("return show(pcall(cmsgpack.unpack, '\\129\\192\\1'))", "false table index is nil"),
            ("return show(cmsgpack.unpack_one('\\1\\2\\3', 1))", "2 2"),
            ("return show(cmsgpack.unpack_limit('\\1\\2\\3', 2, 1))", "-1 2 3"),
            (
                "return show(pcall(cmsgpack.unpack_one, 'a', -1))",
                "false Invalid request to unpack with offset of -1 and limit of 1."
            ),
            ("return show(pcall(cmsgpack.pack))", "false bad argument #0 to '?' (MessagePack pack needs input.)"),
            (
                "return show(pcall(cmsgpack.unpack, ('\\145'):rep(100000)))",
                "false stack overflow (in function mp_decode_to_lua_array)"
            ),
            // A length of four billion costs nothing before its elements are there.
            ("return show(pcall(cmsgpack.unpack, '\\221\\255\\255\\255\\255'))", "false Missing bytes in input."),
        ])
    func messagePack(_ script: String, _ expected: String) { #expect(run(script) == expected) }

    @Test(
        "Structs are packed and unpacked as Redis does",
        arguments: [
            ("return hex(struct.pack('>hB!4i', 258, 3, 1))", "0102030000000001"),
            ("return show(struct.unpack('<i3bc0s', '\\255\\255\\255\\2abxyz\\0'))", "-1 ab xyz 11"),
            ("return show(struct.size('!8bl'), struct.size('i32'))", "16 32"),
            (
                "return show(pcall(struct.unpack, 'b', 'a', 0))",
                "false bad argument #3 to '?' (offset must be 1 or greater)"
            ),
            ("return show(pcall(struct.unpack, 'b', 'a', -5))", "false bad argument #2 to '?' (data string too short)"),
            ("return show(pcall(struct.unpack, 'i33', 'a'))", "false integral size 33 is larger than limit of 32"),
            ("return show(pcall(struct.size, 'c99999999999'))", "false integral size overflow"),
            (
                "return show(pcall(struct.unpack, 'c2147483647', 'a'))",
                "false bad argument #2 to '?' (data string too short)"
            ),
            ("return show(pcall(struct.pack, 'z'))", "false bad argument #1 to '?' (invalid format option 'z')"),
            ("return show(pcall(struct.pack, 'i'))", "false bad argument #2 to '?' (number expected, got nil)"),
        ])
    func structs(_ script: String, _ expected: String) { #expect(run(script) == expected) }

    @Test(
        "Operations on bits take numbers modulo 2^32",
        arguments: [
            (
                "return show(bit.tobit(2^32 + 5), bit.bnot(0), bit.bxor(1, 2, 4), bit.bswap(0x12345678))",
                "5 -1 7 2018915346"
            ),
            ("return show(bit.lshift(1, 33), bit.arshift(-8, 1), bit.rshift(-1, 28), bit.rol(1, 0))", "2 -4 15 1"),
            ("return bit.tohex(255) .. bit.tohex(-1, -4) .. bit.tohex(1, -2147483648)", "000000ffFFFF00000001"),
            ("return show(pcall(bit.band, 'x'))", "false bad argument #1 to '?' (number expected, got string)"),
        ])
    func bits(_ script: String, _ expected: String) { #expect(run(script) == expected) }

    @Test("Errors say where a function was called, and as what")
    func places() {
        #expect(
            run("return show(pcall(function() return cjson.decode({}) end))").hasSuffix(
                "bad argument #1 to 'decode' (string expected, got table)"))
    }

    @Test("Scripts cannot change the libraries")
    func protection() {
        for name in ["cjson", "cmsgpack", "struct", "bit"] {
            #expect(run("\(name).x = 1").contains("Attempt to modify a readonly table"))
        }
    }
}
