import CLua
import MartletBase

// `cmsgpack`: values as MessagePack, and back.
//
// A table whose keys are 1 to n is packed as an array, any other as a map. Tables inside of tables are followed 16 deep,
// which also ends those that contain themselves; deeper ones, functions and the like become nil. What is unpacked is put
// together on Lua's stack, whose limit is also that of the nesting; the open tables are kept in a list, not in frames.
//
// Source: Redis 7.0 deps/lua/src/lua_cmsgpack.c (lua-cmsgpack 0.4.0); https://github.com/msgpack/msgpack.

enum MessagePackLibrary {
    /// (LUACMSGPACK_MAX_NESTING)
    fileprivate static let packedDepthMax = 16

    static func register(in state: OpaquePointer) {
        let call = LuaCall(state: state)
        lua_createtable(state, 0, 8)
        call.register("pack") { LuaCall.run($0, MessagePackLibrary.pack) }
        call.register("unpack") { LuaCall.run($0, MessagePackLibrary.unpack) }
        call.register("unpack_one") { LuaCall.run($0, MessagePackLibrary.unpackOne) }
        call.register("unpack_limit") { LuaCall.run($0, MessagePackLibrary.unpackSome) }
        for (name, value) in [
            ("_NAME", "cmsgpack"), ("_VERSION", "lua-cmsgpack 0.4.0"),
            ("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo"),
            ("_DESCRIPTION", "MessagePack C implementation for Lua"),
        ] as [(StaticString, StaticString)] {
            call.push(value.bytes)
            call.setField(name)
        }
        call.setGlobal("cmsgpack")
    }

    private static func pack(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        let count = call.argumentCount
        if count == 0 { throw .argument(0, "MessagePack pack needs input.") }
        if lua_checkstack(call.state, count) == 0 {
            throw .argument(0, "Too many arguments for MessagePack pack.")
        }
        var packer = MessagePackWriter(call)
        defer { call.spend(packer.output.count) }
        for index in 1...count {
            try call.reserve(1, "in function mp_check")
            lua_pushvalue(call.state, index)
            try packer.append(depth: 0)
        }
        call.push(packer.output.bytes)
        return 1
    }

    private static func unpack(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        try unpack(call, limit: 0, offset: 0)
    }

    private static func unpackOne(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        let offset = try call.integer(2, ifMissing: 0)
        if call.argumentCount > 1 { lua_settop(call.state, 1) }
        return try unpack(call, limit: 1, offset: offset)
    }

    private static func unpackSome(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        let limit = try call.integer(2)
        let offset = try call.integer(3, ifMissing: 0)
        if call.argumentCount > 1 { lua_settop(call.state, 1) }
        return try unpack(call, limit: limit, offset: offset)
    }

    /// Leaves the values on the stack, before them where the next one starts (-1 at the end) unless all were asked for.
    ///
    /// - Parameters:
    ///   - limit: how many values; 0 with an offset of 0 means all.
    ///   - offset: of the first one in the string that is argument 1.
    private static func unpack(_ call: LuaCall, limit: Int, offset: Int) throws(LuaFailure) -> Int32 {
        let input = try call.string(1)
        if offset < 0 || limit < 0 {
            throw .message(
                """
                Invalid request to unpack with offset of \(Int32(truncatingIfNeeded: offset)) and limit of \
                \(Int32(truncatingIfNeeded: input.count)).
                """)
        }
        if offset > input.count {
            throw .message(
                """
                Start offset \(Int32(truncatingIfNeeded: offset)) greater than input length \
                \(Int32(truncatingIfNeeded: input.count)).
                """)
        }
        call.spend(input.count - offset)
        let isAll = limit == 0 && offset == 0
        var unpacker = MessagePackReader(call, input, offset: offset)
        var count: Int32 = 0
        while unpacker.offset < input.count, isAll || count < limit {
            try unpacker.pushNext()
            count += 1
        }
        if isAll { return count }
        try call.reserve(1, "in function mp_unpack_full")
        lua_pushinteger(call.state, unpacker.offset == input.count ? -1 : unpacker.offset)
        lua_insert(call.state, 2)
        return count + 1
    }
}

private struct MessagePackWriter: ~Copyable {
    private let call: LuaCall
    private(set) var output = ByteBuffer()

    init(_ call: LuaCall) { self.call = call }

    private mutating func append<T: FixedWidthInteger>(_ code: UInt8, _ number: T) {
        output.append(byte: code)
        withUnsafeBytes(of: number.bigEndian) { output.append($0) }
    }

    /// Appends the value on top of the stack and takes it off.
    mutating func append(depth: Int) throws(LuaFailure) {
        try call.requireMemory(output.count)
        switch call.type(-1) {
        case LUA_TSTRING: try append(call.stringBytes(-1))
        case LUA_TBOOLEAN: output.append(byte: lua_toboolean(call.state, -1) != 0 ? 0xC3 : 0xC2)
        case LUA_TNUMBER: append(lua_tonumber(call.state, -1))
        case LUA_TTABLE where depth < MessagePackLibrary.packedDepthMax:
            martlet_lua_reveal(call.state)
            if let count = try arrayCount() {
                try appendArray(count, depth: depth)
            } else {
                try appendMap(depth: depth)
            }
        default: output.append(byte: 0xC0)
        }
        call.pop()
    }

    private mutating func append(_ bytes: UnsafeRawBufferPointer) throws(LuaFailure) {
        try call.requireMemory(output.count + bytes.count)
        switch bytes.count {
        case ..<32: output.append(byte: 0xA0 | UInt8(bytes.count))
        case ...0xFF: append(0xD9, UInt8(bytes.count))
        case ...0xFFFF: append(0xDA, UInt16(bytes.count))
        default: append(0xDB, UInt32(truncatingIfNeeded: bytes.count))
        }
        output.append(bytes)
    }

    private mutating func append(_ number: Double) {
        guard let integer = Int64(exactly: number) else {
            // A float where that is exact.
            if Double(Float(number)) == number { return append(0xCA, Float(number).bitPattern) }
            return append(0xCB, number.bitPattern)
        }
        switch integer {
        case 0...127, (-32)..<0: output.append(byte: UInt8(truncatingIfNeeded: integer))
        case 128...0xFF: append(0xCC, UInt8(integer))
        case 0x100...0xFFFF: append(0xCD, UInt16(integer))
        case 0x1_0000...0xFFFF_FFFF: append(0xCE, UInt32(integer))
        case 0x1_0000_0000...: append(0xCF, integer)
        case (-128)...: append(0xD0, Int8(integer))
        case (-32_768)...: append(0xD1, Int16(integer))
        case (-0x8000_0000)...: append(0xD2, Int32(integer))
        default: append(0xD3, integer)
        }
    }

    /// How many elements the table on top has; nil if it is no array. (table_is_an_array)
    private func arrayCount() throws(LuaFailure) -> Int32? {
        try call.reserve(2, "in function table_is_an_array")
        var count: Int32 = 0
        var last: Int32 = 0
        lua_pushnil(call.state)
        while lua_next(call.state, -2) != 0 {
            call.pop()
            guard call.type(-1) == LUA_TNUMBER, let key = Int32(exactly: lua_tonumber(call.state, -1)), key > 0 else {
                call.pop()
                return nil
            }
            last = max(last, key)
            count += 1
        }
        return last == count ? count : nil
    }

    private mutating func appendArray(_ count: Int32, depth: Int) throws(LuaFailure) {
        switch count {
        case ...15: output.append(byte: 0x90 | UInt8(count))
        case ...0xFFFF: append(0xDC, UInt16(count))
        default: append(0xDD, UInt32(count))
        }
        try call.reserve(1, "in function mp_encode_lua_table_as_array")
        for index in stride(from: 1, through: count, by: 1) {
            lua_rawgeti(call.state, -1, index)
            try append(depth: depth + 1)
        }
    }

    private mutating func appendMap(depth: Int) throws(LuaFailure) {
        try call.reserve(3, "in function mp_encode_lua_table_as_map")
        var count = 0
        lua_pushnil(call.state)
        while lua_next(call.state, -2) != 0 {
            call.pop()
            count += 1
        }
        switch count {
        case ...15: output.append(byte: 0x80 | UInt8(count))
        case ...0xFFFF: append(0xDE, UInt16(count))
        default: append(0xDF, UInt32(truncatingIfNeeded: count))
        }
        lua_pushnil(call.state)
        while lua_next(call.state, -2) != 0 {
            lua_pushvalue(call.state, -2)
            try append(depth: depth + 1)
            try append(depth: depth + 1)
        }
    }
}

private struct MessagePackReader {
    private let call: LuaCall
    private let input: UnsafeRawBufferPointer
    private(set) var offset: Int
    /// The innermost last. Each stands on the stack, and above it the key that the next value goes to, if there is one.
    private var open: [OpenTable] = []

    private struct OpenTable {
        let isArray: Bool
        /// Values still to come; a pair is two.
        var missing: Int
        var count = 0
    }

    init(_ call: LuaCall, _ input: UnsafeRawBufferPointer, offset: Int) {
        self.call = call
        self.input = input
        self.offset = offset
    }

    /// Puts the next value on the stack, with all that is in it.
    mutating func pushNext() throws(LuaFailure) {
        while true {
            try call.requireMemory()
            if try pushOne(), try storeComplete() { return }
            if let table = open.last, table.isArray { lua_pushnumber(call.state, Double(table.count + 1)) }
        }
    }

    /// Puts the complete value on top into the table that it belongs to, and that into its own if it is complete now.
    /// - Returns: whether no table is open any more.
    private mutating func storeComplete() throws(LuaFailure) -> Bool {
        while var table = open.popLast() {
            table.count += 1
            table.missing -= 1
            if table.isArray || table.count % 2 == 0 { try store(table) }
            if table.missing > 0 {
                open.append(table)
                return false
            }
        }
        return true
    }

    private func store(_ table: OpenTable) throws(LuaFailure) {
        switch call.type(-2) {
        case LUA_TNIL: throw .plain("table index is nil")
        case LUA_TNUMBER where lua_tonumber(call.state, -2).isNaN: throw .plain("table index is NaN")
        default: break
        }
        if table.count > LuaCall.tableCountMax { throw LuaCall.tableOverflow }
        lua_rawset(call.state, -3)
    }

    /// - Returns: false for a table that still lacks its elements.
    private mutating func openTable(_ isArray: Bool, count: Int) throws(LuaFailure) -> Bool {
        lua_createtable(call.state, 0, 0)
        if isArray { try call.reserve(1, "in function mp_decode_to_lua_array") }
        if count == 0 { return true }
        open.append(OpenTable(isArray: isArray, missing: isArray ? count : count * 2))
        return false
    }

    private mutating func take(_ count: Int) throws(LuaFailure) -> UnsafeRawBufferPointer {
        guard count <= input.count - offset else { throw .message("Missing bytes in input.") }
        defer { offset += count }
        return UnsafeRawBufferPointer(rebasing: input[offset..<(offset + count)])
    }

    private mutating func integer<T: FixedWidthInteger>(_: T.Type) throws(LuaFailure) -> T {
        T(bigEndian: try take(T.bitWidth / 8).loadUnaligned(as: T.self))
    }

    /// The next value, or the beginning of a table. - Returns: whether it is complete.
    private mutating func pushOne() throws(LuaFailure) -> Bool {
        let code = try take(1)[0]
        try call.reserve(1, "too many return values at once; use unpack_one or unpack_limit instead.")
        let state = call.state
        switch code {
        case ...0x7F: lua_pushnumber(state, Double(code))
        case 0x80...0x8F: return try openTable(false, count: Int(code & 0xF))
        case 0x90...0x9F: return try openTable(true, count: Int(code & 0xF))
        case 0xA0...0xBF: call.push(try take(Int(code & 0x1F)))
        case 0xC0: lua_pushnil(state)
        case 0xC2: lua_pushboolean(state, 0)
        case 0xC3: lua_pushboolean(state, 1)
        case 0xCA: lua_pushnumber(state, Double(Float(bitPattern: try integer(UInt32.self))))
        case 0xCB: lua_pushnumber(state, Double(bitPattern: try integer(UInt64.self)))
        case 0xCC: lua_pushnumber(state, Double(try integer(UInt8.self)))
        case 0xCD: lua_pushnumber(state, Double(try integer(UInt16.self)))
        case 0xCE: lua_pushnumber(state, Double(try integer(UInt32.self)))
        case 0xD0: lua_pushnumber(state, Double(try integer(Int8.self)))
        case 0xD1: lua_pushnumber(state, Double(try integer(Int16.self)))
        case 0xD2: lua_pushnumber(state, Double(try integer(Int32.self)))
        // The unsigned ones of 64 bits come out signed, as in Redis.
        case 0xCF, 0xD3: lua_pushnumber(state, Double(try integer(Int64.self)))
        case 0xD9: call.push(try take(Int(try integer(UInt8.self))))
        case 0xDA: call.push(try take(Int(try integer(UInt16.self))))
        case 0xDB: call.push(try take(Int(try integer(UInt32.self))))
        case 0xDC: return try openTable(true, count: Int(try integer(UInt16.self)))
        case 0xDD: return try openTable(true, count: Int(try integer(UInt32.self)))
        case 0xDE: return try openTable(false, count: Int(try integer(UInt16.self)))
        case 0xDF: return try openTable(false, count: Int(try integer(UInt32.self)))
        case 0xE0...: lua_pushnumber(state, Double(Int8(bitPattern: code)))
        default: throw .message("Bad data format in input.")
        }
        return true
    }
}
