import CLua
import MartletBase

// `cjson`: values as JSON, and back. Encoding and decoding are in JSONEncoding.swift and JSONDecoding.swift; here are
// the library and its settings. Each table that `cjson.new` makes has settings of its own.
//
// Source: Redis 7.0 deps/lua/src/lua_cjson.c (Lua CJSON 2.1.0).

/// What scripts can set; it outlives the script, as in Redis.
struct JSONSettings {
    /// What becomes of NaN and infinities. The raw values are the places of the words in `encode_invalid_numbers`.
    enum InvalidNumbers: Int {
        case refused, written, null
    }

    /// Sparse arrays become objects instead of errors.
    var convertsSparse = false
    /// An array is sparse if its last index is more than so many times its count of elements; 0: none is.
    var sparseRatio: Int32 = 2
    /// No array is sparse up to this index.
    var sparseSafe: Int32 = 10
    var encodeDepthMax: Int32 = 1000
    var decodeDepthMax: Int32 = 1000
    var encodesInvalidNumbers = InvalidNumbers.refused
    var decodesInvalidNumbers = true
    /// Significant digits of numbers.
    var numberPrecision: Int32 = 14
    /// Only kept to be told: there is no buffer to keep.
    var keepsBuffer = true
}

enum JSONLibrary {
    static func register(in state: OpaquePointer) {
        pushNew(LuaCall(state: state))
        LuaCall(state: state).setGlobal("cjson")
    }

    private static func pushNew(_ call: LuaCall) {
        lua_createtable(call.state, 0, 13)
        let settings = lua_newuserdata(call.state, MemoryLayout<JSONSettings>.size)
        settings?.initializeMemory(as: JSONSettings.self, to: JSONSettings())
        // Below it the table, so that functions find it under the top.
        lua_insert(call.state, -2)
        func add(_ name: StaticString, _ function: @convention(c) (OpaquePointer?) -> Int32) {
            call.register(name, settings: -2, function)
        }
        add("encode") { LuaCall.run($0, JSONLibrary.encode) }
        add("decode") { LuaCall.run($0, JSONLibrary.decode) }
        add("encode_sparse_array") { LuaCall.run($0, JSONLibrary.setSparse) }
        add("encode_max_depth") { LuaCall.run($0, JSONLibrary.setEncodeDepth) }
        add("decode_max_depth") { LuaCall.run($0, JSONLibrary.setDecodeDepth) }
        add("encode_number_precision") { LuaCall.run($0, JSONLibrary.setPrecision) }
        add("encode_keep_buffer") { LuaCall.run($0, JSONLibrary.setBuffer) }
        add("encode_invalid_numbers") { LuaCall.run($0, JSONLibrary.setInvalidEncoded) }
        add("decode_invalid_numbers") { LuaCall.run($0, JSONLibrary.setInvalidDecoded) }
        add("new") { LuaCall.run($0, JSONLibrary.new) }
        lua_pushlightuserdata(call.state, nil)
        call.setField("null")
        call.push(StaticString("cjson").bytes)
        call.setField("_NAME")
        call.push(StaticString("2.1.0").bytes)
        call.setField("_VERSION")
        // The functions have the settings now.
        lua_remove(call.state, -2)
    }

    private static func new(_ call: LuaCall) -> Int32 {
        pushNew(call)
        return 1
    }

    private static func setEncodeDepth(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        try call.takeSettings(1)
        return try call.option(1, \.encodeDepthMax, 1...Int32.max)
    }

    private static func setDecodeDepth(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        try call.takeSettings(1)
        return try call.option(1, \.decodeDepthMax, 1...Int32.max)
    }

    private static func setPrecision(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        try call.takeSettings(1)
        return try call.option(1, \.numberPrecision, 1...14)
    }

    private static func setBuffer(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        try call.takeSettings(1)
        return try call.option(1, \.keepsBuffer)
    }

    private static func setInvalidDecoded(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        try call.takeSettings(1)
        return try call.option(1, \.decodesInvalidNumbers)
    }

    private static func setSparse(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        try call.takeSettings(3)
        _ = try call.option(1, \.convertsSparse)
        _ = try call.option(2, \.sparseRatio, 0...Int32.max)
        _ = try call.option(3, \.sparseSafe, 0...Int32.max)
        return 3
    }

    private static func setInvalidEncoded(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        try call.takeSettings(1)
        let settings = call.settings(JSONSettings.self)
        if call.type(1) == LUA_TBOOLEAN {
            settings.pointee.encodesInvalidNumbers = lua_toboolean(call.state, 1) != 0 ? .written : .refused
        } else if call.type(1) != LUA_TNIL {
            let index = try call.choice(1, ["off", "on", "null"])
            settings.pointee.encodesInvalidNumbers = .init(rawValue: index) ?? .refused
        }
        switch settings.pointee.encodesInvalidNumbers {
        case .refused: lua_pushboolean(call.state, 0)
        case .written: lua_pushboolean(call.state, 1)
        case .null: call.push(StaticString("null").bytes)
        }
        return 1
    }

    private static func encode(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        if call.argumentCount != 1 { throw .argument(1, "expected 1 argument") }
        var encoder = JSONWriter(call, call.settings(JSONSettings.self).pointee)
        defer { call.spend(encoder.output.count) }
        try encoder.append()
        call.push(encoder.output.bytes)
        return 1
    }

    private static func decode(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        if call.argumentCount != 1 { throw .argument(1, "expected 1 argument") }
        let text = try call.string(1)
        if text.count >= 2, text[0] == 0 || text[1] == 0 {
            throw .message("JSON parser does not support UTF-16 or UTF-32")
        }
        call.spend(text.count)
        var decoder = JSONReader(call, text, call.settings(JSONSettings.self).pointee)
        try decoder.push()
        return 1
    }
}

extension LuaCall {
    /// Makes the arguments so many; those that are missing are nil. (json_arg_init)
    fileprivate func takeSettings(_ count: Int32) throws(LuaFailure) {
        if argumentCount > count { throw .argument(count + 1, "found too many arguments") }
        lua_settop(state, count)
    }

    /// Sets a number, if one is given, and puts what is set on the stack.
    fileprivate func option(
        _ index: Int32, _ path: WritableKeyPath<JSONSettings, Int32>, _ range: ClosedRange<Int32>
    ) throws(LuaFailure) -> Int32 {
        let settings = settings(JSONSettings.self)
        if type(index) != LUA_TNIL {
            let value = Int32(truncatingIfNeeded: try integer(index))
            guard range.contains(value) else {
                // Whichever argument it is.
                throw .argument(1, "expected integer between \(range.lowerBound) and \(range.upperBound)")
            }
            settings.pointee[keyPath: path] = value
        }
        lua_pushinteger(state, Int(settings.pointee[keyPath: path]))
        return 1
    }

    fileprivate func option(_ index: Int32, _ path: WritableKeyPath<JSONSettings, Bool>) throws(LuaFailure) -> Int32 {
        let settings = settings(JSONSettings.self)
        if type(index) == LUA_TBOOLEAN {
            settings.pointee[keyPath: path] = lua_toboolean(state, index) != 0
        } else if type(index) != LUA_TNIL {
            settings.pointee[keyPath: path] = try choice(index, ["off", "on"]) == 1
        }
        lua_pushboolean(state, settings.pointee[keyPath: path] ? 1 : 0)
        return 1
    }

    /// The place of a word in a list. (luaL_checkoption)
    fileprivate func choice(_ index: Int32, _ words: [StaticString]) throws(LuaFailure) -> Int {
        let word = try terminatedString(index)
        if let place = words.firstIndex(where: { word.elementsEqual($0.bytes) }) { return place }
        throw LuaFailure(.argument(index), Array("invalid option '".utf8) + Array(word) + Array("'".utf8))
    }
}
