import CLua
import MartletBase

// A table whose keys are integers from 1 on is an array, as long as its last one; any other, and an empty one, is an
// object. The tables that are being written stand on Lua's stack, whose limit is that of the nesting too.

struct JSONWriter: ~Copyable {
    private let call: LuaCall
    private let settings: JSONSettings
    /// Integers up to here take no exponent in that precision.
    private let plainIntegerMax: UInt64
    private(set) var output = ByteBuffer()
    /// Tables that are being written, the innermost last.
    private var open: [OpenTable] = []

    private struct OpenTable {
        /// Elements of an array; nil for an object, which has the key of its last element above it on the stack.
        let count: Int32?
        var written: Int32 = 0
    }

    init(_ call: LuaCall, _ settings: JSONSettings) {
        self.call = call
        self.settings = settings
        plainIntegerMax = (0..<settings.numberPrecision).reduce(1) { power, _ in power * 10 } - 1
    }

    /// Writes the value on top of the stack. - Complexity: O(values in it)
    mutating func append() throws(LuaFailure) {
        while true {
            try call.requireMemory(output.count)
            if call.type(-1) == LUA_TTABLE {
                try openTable()
            } else {
                try appendScalar()
                if open.isEmpty { return }
                call.pop()
            }
            while !(try pushElement()) {
                open.removeLast()
                if open.isEmpty { return }
                call.pop()
            }
        }
    }

    private func failure(_ index: Int32, _ reason: StaticString) -> LuaFailure {
        .message("Cannot serialise \(call.typeName(index)): \(reason)")
    }

    private mutating func openTable() throws(LuaFailure) {
        martlet_lua_reveal(call.state)
        let depth = open.count + 1
        if depth > settings.encodeDepthMax || lua_checkstack(call.state, 3) == 0 {
            throw .message("Cannot serialise, excessive nesting (\(depth))")
        }
        if let count = try arrayCount() {
            output.append(byte: UInt8(ascii: "["))
            open.append(OpenTable(count: count))
        } else {
            output.append(byte: UInt8(ascii: "{"))
            open.append(OpenTable(count: nil))
            lua_pushnil(call.state)
        }
    }

    /// The next element of the innermost table, with what stands before it. - Returns: false if the table is complete.
    private mutating func pushElement() throws(LuaFailure) -> Bool {
        let last = open.count - 1
        if let count = open[last].count {
            guard open[last].written < count else {
                output.append(byte: UInt8(ascii: "]"))
                return false
            }
            if open[last].written > 0 { output.append(byte: UInt8(ascii: ",")) }
            open[last].written += 1
            lua_rawgeti(call.state, -1, open[last].written)
            return true
        }
        guard lua_next(call.state, -2) != 0 else {
            output.append(byte: UInt8(ascii: "}"))
            return false
        }
        if open[last].written > 0 { output.append(byte: UInt8(ascii: ",")) }
        open[last].written = 1
        switch call.type(-2) {
        case LUA_TSTRING: try append(call.stringBytes(-2))
        case LUA_TNUMBER:
            output.append(byte: UInt8(ascii: "\""))
            try appendNumber(-2)
            output.append(byte: UInt8(ascii: "\""))
        default: throw failure(-2, "table key must be a number or string")
        }
        output.append(byte: UInt8(ascii: ":"))
        return true
    }

    /// The length of the array on top of the stack; nil if it is an object. (lua_array_length)
    private func arrayCount() throws(LuaFailure) -> Int32? {
        var last: Int32 = 0
        var count: Int32 = 0
        lua_pushnil(call.state)
        while lua_next(call.state, -2) != 0 {
            if call.type(-2) == LUA_TNUMBER {
                let key = lua_tonumber(call.state, -2)
                if key >= 1, key.rounded(.down) == key {
                    // What does not fit counts as the least, as it does in Redis on x86-64.
                    if key > Double(last) { last = Int32(exactly: key) ?? .min }
                    count &+= 1
                    call.pop()
                    continue
                }
            }
            call.pop(2)
            return nil
        }
        if settings.sparseRatio > 0, last > count &* settings.sparseRatio, last > settings.sparseSafe {
            if !settings.convertsSparse { throw failure(-1, "excessively sparse array") }
            return nil
        }
        return last > 0 ? last : nil
    }

    private mutating func appendScalar() throws(LuaFailure) {
        switch call.type(-1) {
        case LUA_TSTRING: try append(call.stringBytes(-1))
        case LUA_TNUMBER: try appendNumber(-1)
        case LUA_TBOOLEAN: output.append(lua_toboolean(call.state, -1) != 0 ? "true" as StaticString : "false")
        case LUA_TNIL: output.append("null" as StaticString)
        case LUA_TLIGHTUSERDATA where lua_touserdata(call.state, -1) == nil: output.append("null" as StaticString)
        default: throw failure(-1, "type not supported")
        }
    }

    private mutating func appendNumber(_ index: Int32) throws(LuaFailure) {
        let number = lua_tonumber(call.state, index)
        if !number.isFinite {
            switch settings.encodesInvalidNumbers {
            case .refused: throw failure(index, "must not be NaN or Inf")
            case .null: return output.append("null" as StaticString)
            case .written:
                if number.isNaN { return output.append("nan" as StaticString) }
            }
        }
        // %.14g takes 21 bytes at most, a decimal integer 20.
        let room = output.reserve(32)
        if let integer = Int64(exactly: number), integer.magnitude <= plainIntegerMax,
            integer != 0 || number.sign == .plus
        {
            output.commit(writeDecimal(integer, to: room))
        } else {
            let text = room.assumingMemoryBound(to: CChar.self)
            output.commit(Int(martlet_format_number(text, 32, settings.numberPrecision, number)))
        }
    }

    private mutating func append(_ text: UnsafeRawBufferPointer) throws(LuaFailure) {
        try call.requireMemory(output.count + text.count)
        output.append(byte: UInt8(ascii: "\""))
        var start = 0
        for index in text.indices {
            let byte = text[index]
            guard byte < 0x20 || byte == 0x22 || byte == 0x2F || byte == 0x5C || byte == 0x7F else { continue }
            output.append(UnsafeRawBufferPointer(rebasing: text[start..<index]))
            start = index + 1
            appendEscape(byte)
        }
        output.append(UnsafeRawBufferPointer(rebasing: text[start...]))
        output.append(byte: UInt8(ascii: "\""))
    }

    private mutating func appendEscape(_ byte: UInt8) {
        output.append(byte: UInt8(ascii: "\\"))
        switch byte {
        case 0x08: output.append(byte: UInt8(ascii: "b"))
        case 0x09: output.append(byte: UInt8(ascii: "t"))
        case 0x0A: output.append(byte: UInt8(ascii: "n"))
        case 0x0C: output.append(byte: UInt8(ascii: "f"))
        case 0x0D: output.append(byte: UInt8(ascii: "r"))
        case 0x20...0x7E: output.append(byte: byte)
        default:
            output.append("u00" as StaticString)
            output.append(byte: UInt8(ascii: "0") + byte >> 4)
            let low = byte & 15
            output.append(byte: low < 10 ? UInt8(ascii: "0") + low : UInt8(ascii: "a") + (low - 10))
        }
    }
}
