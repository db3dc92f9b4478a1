import CLua
import MartletBase

// `struct`: values as the bytes that a format describes, and back.
//
//     >  <  !n  blank   byte order, alignment, nothing        x       a byte of padding
//     b B h H l L T     integers of 1, 2, 8 bytes; size_t     i I     integers of 4 bytes, or as many as follow, up to 32
//     f d               float, double                         s c     text with a NUL behind it, text of a length
//
// Lower case means signed. Integers of more than eight bytes are read and written by their low eight.
//
// Source: Redis 7.0 deps/lua/src/lua_struct.c (struct 1.7 of Roberto Ierusalimschy).

enum StructLibrary {
    static func register(in state: OpaquePointer) {
        let call = LuaCall(state: state)
        lua_createtable(state, 0, 3)
        call.register("pack") { LuaCall.run($0, StructLibrary.pack) }
        call.register("unpack") { LuaCall.run($0, StructLibrary.unpack) }
        call.register("size") { LuaCall.run($0, StructLibrary.size) }
        call.setGlobal("struct")
    }

    private static func pack(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        var format = StructFormat(try call.terminatedString(1))
        // What an argument that is missing is taken for.
        lua_pushnil(call.state)
        var output = ByteBuffer()
        defer { call.spend(output.count) }
        var index: Int32 = 2
        var position = 0
        while let item = try format.next() {
            let padding = format.padding(before: item, at: position)
            for _ in 0..<padding { output.append(byte: 0) }
            position += padding
            var size = item.size
            switch item.option {
            case UInt8(ascii: "b"), UInt8(ascii: "B"), UInt8(ascii: "h"), UInt8(ascii: "H"), UInt8(ascii: "l"),
                UInt8(ascii: "L"), UInt8(ascii: "T"), UInt8(ascii: "i"), UInt8(ascii: "I"):
                let value = cUnsigned(try call.number(index))
                index += 1
                for place in 0..<size {
                    let digit = format.isBigEndian ? size - 1 - place : place
                    output.append(byte: digit < 8 ? UInt8(truncatingIfNeeded: value >> UInt64(digit * 8)) : 0)
                }
            case UInt8(ascii: "x"): output.append(byte: 0)
            case UInt8(ascii: "f"):
                let bits = Float(try call.number(index)).bitPattern
                index += 1
                withUnsafeBytes(of: format.isBigEndian ? bits.bigEndian : bits.littleEndian) { output.append($0) }
            case UInt8(ascii: "d"):
                let bits = try call.number(index).bitPattern
                index += 1
                withUnsafeBytes(of: format.isBigEndian ? bits.bigEndian : bits.littleEndian) { output.append($0) }
            case UInt8(ascii: "c"), UInt8(ascii: "s"):
                let text = try call.string(index)
                index += 1
                if size == 0 { size = text.count }
                if text.count < size { throw .argument(index, "string too short") }
                try call.requireMemory(output.count + size)
                output.append(UnsafeRawBufferPointer(rebasing: text[..<size]))
                if item.option == UInt8(ascii: "s") {
                    output.append(byte: 0)
                    size += 1
                }
            default: try format.control(item.option)
            }
            position += size
        }
        call.push(output.bytes)
        return 1
    }

    private static func unpack(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        var format = StructFormat(try call.terminatedString(1))
        let data = try call.string(2)
        let start = try call.integer(3, ifMissing: 1)
        if start == 0 { throw .argument(3, "offset must be 1 or greater") }
        // One below zero is as far behind the end as can be.
        var position = UInt(bitPattern: start) &- 1
        var count: Int32 = 0
        func require(_ size: Int) throws(LuaFailure) {
            guard size <= data.count, position <= UInt(data.count - size) else {
                throw .argument(2, "data string too short")
            }
        }
        while let item = try format.next() {
            position &+= UInt(format.padding(before: item, at: Int(truncatingIfNeeded: position)))
            var size = item.size
            try require(size)
            try call.reserve(2, "too many results")
            let rest = UnsafeRawBufferPointer(rebasing: data[Int(position)...])
            switch item.option {
            case UInt8(ascii: "b"), UInt8(ascii: "B"), UInt8(ascii: "h"), UInt8(ascii: "H"), UInt8(ascii: "l"),
                UInt8(ascii: "L"), UInt8(ascii: "T"), UInt8(ascii: "i"), UInt8(ascii: "I"):
                let isSigned = item.option & 0x20 != 0
                lua_pushnumber(call.state, integer(rest, size, isBigEndian: format.isBigEndian, isSigned: isSigned))
                count += 1
            case UInt8(ascii: "x"): break
            case UInt8(ascii: "f"):
                let bits = rest.loadUnaligned(as: UInt32.self)
                let float = Float(bitPattern: format.isBigEndian ? UInt32(bigEndian: bits) : UInt32(littleEndian: bits))
                lua_pushnumber(call.state, Double(float))
                count += 1
            case UInt8(ascii: "d"):
                let bits = rest.loadUnaligned(as: UInt64.self)
                let bitPattern = format.isBigEndian ? UInt64(bigEndian: bits) : UInt64(littleEndian: bits)
                lua_pushnumber(call.state, Double(bitPattern: bitPattern))
                count += 1
            case UInt8(ascii: "c"):
                if size == 0 {
                    guard count > 0, lua_isnumber(call.state, -1) != 0 else {
                        throw .message("format 'c0' needs a previous size")
                    }
                    size = Int(clamping: cUnsigned(lua_tonumber(call.state, -1)))
                    call.pop()
                    count -= 1
                    try require(size)
                }
                call.push(UnsafeRawBufferPointer(rebasing: rest[..<size]))
                count += 1
            case UInt8(ascii: "s"):
                guard let end = rest.firstIndex(of: 0) else { throw .message("unfinished string in data") }
                call.push(UnsafeRawBufferPointer(rebasing: rest[..<end]))
                size = end + 1
                count += 1
            default: try format.control(item.option)
            }
            position &+= UInt(size)
        }
        lua_pushinteger(call.state, Int(truncatingIfNeeded: position &+ 1))
        return count + 1
    }

    private static func size(_ call: LuaCall) throws(LuaFailure) -> Int32 {
        var format = StructFormat(try call.terminatedString(1))
        var position = 0
        while let item = try format.next() {
            position &+= format.padding(before: item, at: position)
            switch item.option {
            case UInt8(ascii: "s"): throw .argument(1, "option 's' has no fixed size")
            case UInt8(ascii: "c") where item.size == 0: throw .argument(1, "option 'c0' has no fixed size")
            // Letters and digits that mean nothing take no room.
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"):
                break
            default: try format.control(item.option)
            }
            position &+= item.size
        }
        lua_pushinteger(call.state, position)
        return 1
    }

    private static func integer(
        _ bytes: UnsafeRawBufferPointer, _ size: Int, isBigEndian: Bool, isSigned: Bool
    ) -> Double {
        var value: UInt64 = 0
        for place in 0..<size { value = value << 8 | UInt64(bytes[isBigEndian ? place : size - 1 - place]) }
        guard isSigned else { return Double(value) }
        // The shift is taken modulo 64, as processors do: what sizes above 8 and 0 get in Redis.
        let sign = UInt64.max &<< UInt64(bitPattern: Int64(size * 8 - 1))
        if value & sign != 0 { value |= sign }
        return Double(Int64(bitPattern: value))
    }

    /// A number as C on x86-64 makes an unsigned integer of it, negative ones by way of a signed one.
    private static func cUnsigned(_ number: Double) -> UInt64 {
        func cSigned(_ number: Double) -> UInt64 {
            UInt64(bitPattern: Int64(exactly: number.rounded(.towardZero)) ?? .min)
        }
        return number >= 0x1p63 ? cSigned(number - 0x1p63) ^ 1 << 63 : cSigned(number)
    }
}

/// A cursor over a format, with what holds for the rest of it.
private struct StructFormat {
    struct Item {
        let option: UInt8
        /// 0 for what takes no room, or none that the format tells.
        let size: Int
    }

    /// (MAXINTSIZE)
    private static let integerBytesMax = 32
    /// That of doubles. (MAXALIGN)
    private static let alignmentDefault = 8

    private let text: UnsafeRawBufferPointer
    private var index = 0
    private(set) var isBigEndian = false
    private var alignment = 1

    init(_ text: UnsafeRawBufferPointer) { self.text = text }

    /// The number that stands here. (getnum)
    private mutating func number(ifMissing value: Int) throws(LuaFailure) -> Int {
        var number: Int?
        while index < text.count, case let digit = text[index] &- UInt8(ascii: "0"), digit < 10 {
            let longer = (number ?? 0) * 10 + Int(digit)
            if longer > Int32.max { throw .message("integral size overflow") }
            number = longer
            index += 1
        }
        return number ?? value
    }

    mutating func next() throws(LuaFailure) -> Item? {
        guard index < text.count else { return nil }
        let option = text[index]
        index += 1
        return Item(option: option, size: try size(of: option))
    }

    private mutating func size(of option: UInt8) throws(LuaFailure) -> Int {
        switch option {
        case UInt8(ascii: "b"), UInt8(ascii: "B"), UInt8(ascii: "x"): return 1
        case UInt8(ascii: "h"), UInt8(ascii: "H"): return 2
        case UInt8(ascii: "f"): return 4
        case UInt8(ascii: "l"), UInt8(ascii: "L"), UInt8(ascii: "T"), UInt8(ascii: "d"): return 8
        case UInt8(ascii: "c"): return try number(ifMissing: 1)
        case UInt8(ascii: "i"), UInt8(ascii: "I"):
            let size = try number(ifMissing: 4)
            if size > Self.integerBytesMax {
                throw .message("integral size \(size) is larger than limit of \(Self.integerBytesMax)")
            }
            return size
        default: return 0
        }
    }

    /// Bytes to skip so that the item is aligned. (gettoalign)
    func padding(before item: Item, at position: Int) -> Int {
        if item.size == 0 || item.option == UInt8(ascii: "c") { return 0 }
        let size = min(item.size, alignment)
        return (size - (position & (size - 1))) & (size - 1)
    }

    /// What is no item: how the next ones are to be read. (controloptions)
    mutating func control(_ option: UInt8) throws(LuaFailure) {
        switch option {
        case UInt8(ascii: " "): break
        case UInt8(ascii: ">"): isBigEndian = true
        case UInt8(ascii: "<"): isBigEndian = false
        case UInt8(ascii: "!"):
            let wanted = try number(ifMissing: Self.alignmentDefault)
            guard wanted > 0, wanted & (wanted - 1) == 0 else {
                throw .message("alignment \(wanted) is not a power of 2")
            }
            alignment = wanted
        default: throw LuaFailure(.argument(1), Array("invalid format option '".utf8) + [option] + Array("'".utf8))
        }
    }
}
