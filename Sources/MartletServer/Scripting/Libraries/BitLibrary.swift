import CLua

// `bit`: operations on 32 bits, whose results are signed.
//
// Source: Redis 7.0 deps/lua/src/lua_bit.c (Lua BitOp 1.0.2).

enum BitLibrary {
    static func register(in state: OpaquePointer) {
        let call = LuaCall(state: state)
        lua_createtable(state, 0, 12)
        call.register("tobit") { LuaCall.run($0, BitLibrary.toBits) }
        call.register("bnot") { LuaCall.run($0, BitLibrary.not) }
        call.register("band") { LuaCall.run($0, BitLibrary.and) }
        call.register("bor") { LuaCall.run($0, BitLibrary.or) }
        call.register("bxor") { LuaCall.run($0, BitLibrary.exclusiveOr) }
        call.register("lshift") { LuaCall.run($0, BitLibrary.shiftLeft) }
        call.register("rshift") { LuaCall.run($0, BitLibrary.shiftRight) }
        call.register("arshift") { LuaCall.run($0, BitLibrary.shiftRightSigned) }
        call.register("rol") { LuaCall.run($0, BitLibrary.rotateLeft) }
        call.register("ror") { LuaCall.run($0, BitLibrary.rotateRight) }
        call.register("bswap") { LuaCall.run($0, BitLibrary.swapBytes) }
        call.register("tohex") { LuaCall.run($0, BitLibrary.hexadecimal) }
        call.setGlobal("bit")
    }

    private static func toBits(_ call: LuaCall) throws(LuaFailure) -> Int32 { call.push(try call.bits(1)) }
    private static func not(_ call: LuaCall) throws(LuaFailure) -> Int32 { call.push(~(try call.bits(1))) }
    private static func swapBytes(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        call.push(try call.bits(1).byteSwapped)
    }

    private static func and(_ call: LuaCall) throws(LuaFailure) -> Int32 { try call.fold { $0 & $1 } }
    private static func or(_ call: LuaCall) throws(LuaFailure) -> Int32 { try call.fold { $0 | $1 } }
    private static func exclusiveOr(_ call: LuaCall) throws(LuaFailure) -> Int32 { try call.fold { $0 ^ $1 } }

    private static func shiftLeft(_ call: LuaCall) throws(LuaFailure) -> Int32 { try call.shift { $0 &<< $1 } }
    private static func shiftRight(_ call: LuaCall) throws(LuaFailure) -> Int32 { try call.shift { $0 &>> $1 } }
    private static func shiftRightSigned(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        try call.shift { UInt32(bitPattern: Int32(bitPattern: $0) &>> Int32(bitPattern: $1)) }
    }
    private static func rotateLeft(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        try call.shift { $0 &<< $1 | $0 &>> (0 &- $1) }
    }
    private static func rotateRight(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        try call.shift { $0 &>> $1 | $0 &<< (0 &- $1) }
    }

    /// The last digits: 8, or as many as are asked for; in upper case if that number is negative.
    private static func hexadecimal(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        var bits = try call.bits(1)
        let wanted = call.type(2) == LUA_TNONE ? 8 : Int32(bitPattern: try call.bits(2))
        let ten = UInt8(ascii: wanted < 0 ? "A" : "a")
        let count = Int(min(wanted.magnitude, 8))
        withUnsafeTemporaryAllocation(byteCount: 8, alignment: 1) { digits in
            for index in stride(from: count - 1, through: 0, by: -1) {
                let digit = UInt8(bits & 15)
                digits[index] = digit < 10 ? UInt8(ascii: "0") + digit : ten + (digit - 10)
                bits >>= 4
            }
            call.push(UnsafeRawBufferPointer(rebasing: digits[..<count]))
        }
        return 1
    }
}

extension LuaCall {
    /// A number modulo 2^32, halves rounded to even: the low bits of the sum stand in the low bits of its significand.
    fileprivate func bits(_ index: Int32) throws(LuaFailure) -> UInt32 {
        let sum = lua_tonumber(state, index) + 0x1.8p52
        let bits = UInt32(truncatingIfNeeded: sum.bitPattern)
        // What is no number counts as 0 so far.
        if bits == 0 { _ = try number(index) }
        return bits
    }

    fileprivate func push(_ bits: UInt32) -> Int32 {
        lua_pushnumber(state, Double(Int32(bitPattern: bits)))
        return 1
    }

    /// All arguments; those behind the first are looked at from the last one on.
    fileprivate func fold(_ combine: (UInt32, UInt32) -> UInt32) throws(LuaFailure) -> Int32 {
        var result = try bits(1)
        for index in stride(from: argumentCount, to: 1, by: -1) { result = combine(result, try bits(index)) }
        return push(result)
    }

    /// The first argument by the low five bits of the second.
    fileprivate func shift(_ shifted: (UInt32, UInt32) -> UInt32) throws(LuaFailure) -> Int32 {
        let first = try bits(1)
        return push(shifted(first, try bits(2) & 31))
    }
}
