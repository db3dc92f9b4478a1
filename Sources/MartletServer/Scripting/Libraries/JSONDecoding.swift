import CLua
import MartletBase

// A token at a time; the values are put together on Lua's stack. Laxer than JSON in what C's strtod takes for a number,
// and a NUL in the text counts as its end.

struct JSONReader: ~Copyable {
    private let call: LuaCall
    private let settings: JSONSettings
    private let text: UnsafeRawBufferPointer
    private var offset = 0
    /// Where the last token starts, or what is wrong with it.
    private var tokenOffset = 0
    /// Tables that are not complete, the innermost last. They stand on the stack in this order, an object with the key
    /// of its next value.
    private var open: [OpenTable] = []
    /// What a string with escapes means.
    private var unescaped = ByteBuffer()

    private struct OpenTable {
        let isObject: Bool
        var count = 0
    }

    private enum Token {
        case objectBegin, objectEnd, arrayBegin, arrayEnd
        case string(UnsafeRawBufferPointer)
        case number(Double)
        case boolean(Bool)
        case null, colon, comma, end
        case invalid(StaticString)

        /// As errors name it.
        var name: StaticString {
            switch self {
            case .objectBegin: "T_OBJ_BEGIN"
            case .objectEnd: "T_OBJ_END"
            case .arrayBegin: "T_ARR_BEGIN"
            case .arrayEnd: "T_ARR_END"
            case .string: "T_STRING"
            case .number: "T_NUMBER"
            case .boolean: "T_BOOLEAN"
            case .null: "T_NULL"
            case .colon: "T_COLON"
            case .comma: "T_COMMA"
            case .end: "T_END"
            case .invalid(let reason): reason
            }
        }
    }

    /// - Parameter text: bytes of a string of Lua, which has a NUL behind them.
    init(_ call: LuaCall, _ text: UnsafeRawBufferPointer, _ settings: JSONSettings) {
        self.call = call
        self.text = text
        self.settings = settings
    }

    // MARK: Values

    /// Puts what the whole text means on the stack. - Complexity: O(bytes)
    mutating func push() throws(LuaFailure) {
        var token = next()
        while true {
            try call.requireMemory()
            if try !pushValue(&token) { continue }
            if try storeComplete(&token) { return }
        }
    }

    private func unexpected(_ token: Token, _ expected: StaticString) -> LuaFailure {
        .message("Expected \(expected) but found \(token.name) at character \(tokenOffset + 1)")
    }

    /// Puts a value on the stack that begins with the token. - Returns: false for a table that still lacks its elements;
    /// the token is then the next value's.
    private mutating func pushValue(_ token: inout Token) throws(LuaFailure) -> Bool {
        switch token {
        case .string(let bytes): call.push(bytes)
        case .number(let number): lua_pushnumber(call.state, number)
        case .boolean(let flag): lua_pushboolean(call.state, flag ? 1 : 0)
        case .null: lua_pushlightuserdata(call.state, nil)
        case .objectBegin:
            try pushTable(slots: 3)
            token = next()
            if case .objectEnd = token { return true }
            open.append(OpenTable(isObject: true))
            try pushKey(&token)
            return false
        case .arrayBegin:
            try pushTable(slots: 2)
            token = next()
            if case .arrayEnd = token { return true }
            open.append(OpenTable(isObject: false))
            return false
        case .objectEnd, .arrayEnd, .colon, .comma, .end, .invalid: throw unexpected(token, "value")
        }
        return true
    }

    private func pushTable(slots: Int32) throws(LuaFailure) {
        let depth = open.count + 1
        if depth > settings.decodeDepthMax || lua_checkstack(call.state, slots) == 0 {
            throw .message("Found too many nested data structures (\(depth)) at character \(offset)")
        }
        lua_createtable(call.state, 0, 0)
    }

    /// A key that begins with the token, and its colon; the token is then the value's.
    private mutating func pushKey(_ token: inout Token) throws(LuaFailure) {
        guard case .string(let key) = token else { throw unexpected(token, "object key string") }
        call.push(key)
        token = next()
        guard case .colon = token else { throw unexpected(token, "colon") }
        token = next()
    }

    /// Puts the complete value on top into the table that it belongs to, and that into its own if it is complete now.
    /// - Returns: true at the end of the text; else the token is the next value's.
    private mutating func storeComplete(_ token: inout Token) throws(LuaFailure) -> Bool {
        while var table = open.popLast() {
            table.count += 1
            if table.count > LuaCall.tableCountMax { throw LuaCall.tableOverflow }
            if table.isObject {
                lua_rawset(call.state, -3)
            } else {
                lua_rawseti(call.state, -2, Int32(table.count))
            }
            token = next()
            switch token {
            case .objectEnd where table.isObject: continue
            case .arrayEnd where !table.isObject: continue
            case .comma: break
            default: throw unexpected(token, table.isObject ? "comma or object end" : "comma or array end")
            }
            open.append(table)
            token = next()
            if table.isObject { try pushKey(&token) }
            return false
        }
        token = next()
        guard case .end = token else { throw unexpected(token, "the end") }
        return true
    }

    // MARK: Tokens

    /// A NUL behind the text.
    private func byte(at offset: Int) -> UInt8 { offset < text.count ? text[offset] : 0 }

    private mutating func next() -> Token {
        while true {
            switch byte(at: offset) {
            case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\n"), UInt8(ascii: "\r"):
                offset += 1
                continue
            default: break
            }
            break
        }
        tokenOffset = offset
        switch byte(at: offset) {
        case 0: return .end
        case UInt8(ascii: "{"): return take(1, .objectBegin)
        case UInt8(ascii: "}"): return take(1, .objectEnd)
        case UInt8(ascii: "["): return take(1, .arrayBegin)
        case UInt8(ascii: "]"): return take(1, .arrayEnd)
        case UInt8(ascii: ","): return take(1, .comma)
        case UInt8(ascii: ":"): return take(1, .colon)
        case UInt8(ascii: "\""): return string()
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"):
            if !settings.decodesInvalidNumbers, isInvalidNumber { return .invalid("invalid number") }
            return number()
        case UInt8(ascii: "f"), UInt8(ascii: "i"), UInt8(ascii: "I"), UInt8(ascii: "n"), UInt8(ascii: "N"),
            UInt8(ascii: "t"), UInt8(ascii: "+"):
            if starts("true") { return take(4, .boolean(true)) }
            if starts("false") { return take(5, .boolean(false)) }
            if starts("null") { return take(4, .null) }
            if settings.decodesInvalidNumbers, isInvalidNumber { return number() }
            return .invalid("invalid token")
        default: return .invalid("invalid token")
        }
    }

    private mutating func take(_ count: Int, _ token: Token) -> Token {
        offset += count
        return token
    }

    private func starts(_ word: StaticString) -> Bool { text[offset...].starts(with: word.bytes) }

    // MARK: Numbers

    /// Whether strtod may take for a number what JSON does not: hexadecimal, NaN, a plus. (json_is_invalid_number)
    private var isInvalidNumber: Bool {
        var start = offset
        if byte(at: start) == UInt8(ascii: "+") { return true }
        if byte(at: start) == UInt8(ascii: "-") { start += 1 }
        let first = byte(at: start)
        if first == UInt8(ascii: "0") {
            let second = byte(at: start + 1)
            return second | 0x20 == UInt8(ascii: "x") || second &- UInt8(ascii: "0") < 10
        }
        // C's characters are signed: those above 0x7F are less than a digit.
        if first <= UInt8(ascii: "9") || first > 0x7F { return false }
        let word = text[min(start, text.count)...].prefix(3).map { $0 | 0x20 }
        return word.elementsEqual("inf".utf8) || word.elementsEqual("nan".utf8)
    }

    private mutating func number() -> Token {
        if let number = plainInteger() { return .number(number) }
        guard let start = text.baseAddress else { return .end }
        var length = 0
        let number = martlet_parse_number((start + offset).assumingMemoryBound(to: CChar.self), &length)
        if length == 0 {
            tokenOffset = offset
            return .invalid("invalid number")
        }
        return take(length, .number(number))
    }

    /// An integer that a Double has exactly, up to its end: the common case.
    private mutating func plainInteger() -> Double? {
        let isNegative = byte(at: offset) == UInt8(ascii: "-")
        let first = isNegative ? offset + 1 : offset
        var end = first
        var integer = 0
        while case let digit = byte(at: end) &- UInt8(ascii: "0"), digit < 10, end - first < 15 {
            integer = integer * 10 + Int(digit)
            end += 1
        }
        switch byte(at: end) {
        case UInt8(ascii: ","), UInt8(ascii: "}"), UInt8(ascii: "]"), UInt8(ascii: " "), 0: break
        default: return nil
        }
        // Minus zero is another number.
        if end == first || isNegative && integer == 0 { return nil }
        offset = end
        return Double(isNegative ? -integer : integer)
    }

    // MARK: Strings

    private mutating func string() -> Token {
        offset += 1
        var start = offset
        var hasEscapes = false
        while true {
            switch byte(at: offset) {
            case UInt8(ascii: "\""):
                let end = offset
                offset += 1
                let rest = UnsafeRawBufferPointer(rebasing: text[start..<end])
                if !hasEscapes { return .string(rest) }
                unescaped.append(rest)
                return .string(unescaped.bytes)
            case 0:
                tokenOffset = offset
                return .invalid("unexpected end of string")
            case UInt8(ascii: "\\"):
                if !hasEscapes { unescaped.removeAll() }
                hasEscapes = true
                unescaped.append(UnsafeRawBufferPointer(rebasing: text[start..<offset]))
                if let reason = escape() {
                    tokenOffset = offset
                    return .invalid(reason)
                }
                start = offset
            default: offset += 1
            }
        }
    }

    /// Reads an escape. - Returns: what is wrong with it, or nil.
    private mutating func escape() -> StaticString? {
        let meaning: UInt8
        switch byte(at: offset + 1) {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): meaning = byte(at: offset + 1)
        case UInt8(ascii: "b"): meaning = 0x08
        case UInt8(ascii: "t"): meaning = 0x09
        case UInt8(ascii: "n"): meaning = 0x0A
        case UInt8(ascii: "f"): meaning = 0x0C
        case UInt8(ascii: "r"): meaning = 0x0D
        case UInt8(ascii: "u"): return unicodeEscape() ? nil : "invalid unicode escape code"
        default: return "invalid escape code"
        }
        unescaped.append(byte: meaning)
        offset += 2
        return nil
    }

    /// The code unit of `\uXXXX` at an offset.
    private func codeUnit(at offset: Int) -> UInt32? {
        guard byte(at: offset) == UInt8(ascii: "\\"), byte(at: offset + 1) == UInt8(ascii: "u") else { return nil }
        var unit: UInt32 = 0
        for index in (offset + 2)..<(offset + 6) {
            guard let digit = hexValue(byte(at: index)) else { return nil }
            unit = unit << 4 | UInt32(digit)
        }
        return unit
    }

    /// A code point, as one escape or as a pair of surrogates, in UTF-8.
    private mutating func unicodeEscape() -> Bool {
        guard var point = codeUnit(at: offset) else { return false }
        var count = 6
        if point & 0xF800 == 0xD800 {
            guard point & 0x400 == 0, let low = codeUnit(at: offset + 6), low & 0xFC00 == 0xDC00 else { return false }
            point = 0x10000 + ((point & 0x3FF) << 10 | low & 0x3FF)
            count = 12
        }
        guard let scalar = Unicode.Scalar(point) else { return false }
        for byte in String(scalar).utf8 { unescaped.append(byte: byte) }
        offset += count
        return true
    }
}
