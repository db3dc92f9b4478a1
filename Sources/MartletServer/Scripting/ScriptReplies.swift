import CLua
import MartletBase
import MartletRESP

// Replies of commands as Lua values, and Lua values as replies.
//
//     reply             Lua                                      Lua                  reply
//     simple string     {ok = text}                              string               bulk string
//     error             {err = text}                             number               integer, cut off
//     integer           number                                   true, false          1, null; booleans after setresp(3)
//     bulk string       string, false for null                   {err = text}         error
//     array             table, false for null                    {ok = text}          simple string
//     map, set (3)      {map = table}, {set = table of true}     {double = n} …       what it names
//     null (3)          nil                                      other tables         array, up to the first nil
//     others (3)        {double = n}, {big_number = text}, {verbatim_string = {format =, string =}}, boolean
//
// Source: Redis 7.0 script_lua.c.

extension OpaquePointer {
    /// Pushes an error as scripts know it. - Parameter isCounted: statistics know of it.
    func pushError(_ error: ReplyError, isCounted: Bool = false) {
        switch error {
        case .text(let text): pushError(line: text.bytes)
        case .message(var text): text.withUTF8 { pushError(line: UnsafeRawBufferPointer($0)) }
        }
        if isCounted { markCounted() }
    }

    /// - Parameter line: without a leading `-`. One word alone is a text without a code. (luaPushErrorBuff)
    func pushError(line: UnsafeRawBufferPointer) {
        lua_createtable(self, 0, 4)
        if line.contains(UInt8(ascii: " ")) {
            push(line)
        } else {
            lua_pushstring(self, "ERR " + String(bytes: line))
        }
        martlet_lua_raw_set_field(self, -2, "err")
    }

    fileprivate func markCounted() {
        lua_pushboolean(self, 1)
        martlet_lua_raw_set_field(self, -2, "ignore_error_stats_update")
    }
}

// MARK: - From replies

/// Turns a reply of ours into Lua values; what it reads is known to be well formed.
struct ScriptReplyReader {
    private var position: UnsafePointer<UInt8>

    init(_ reply: UnsafeRawBufferPointer) {
        position = reply.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self)
    }

    /// Pushes the next reply.
    ///
    /// - Precondition: no commands' replies are nested so deep that Lua's stack (8,000 places) would not do.
    mutating func push(to state: OpaquePointer) {
        precondition(lua_checkstack(state, 5) != 0, "a reply is nested too deep")
        let type = position.pointee
        position += 1
        switch type {
        case UInt8(ascii: "$"):
            let count = number()
            if count < 0 { return lua_pushboolean(state, 0) }
            lua_pushlstring(state, UnsafeRawPointer(position).assumingMemoryBound(to: CChar.self), count)
            position += count + 2
        case UInt8(ascii: ":"): lua_pushnumber(state, Double(number()))
        case UInt8(ascii: "+"): pushField(state, "ok", line())
        case UInt8(ascii: "-"):
            state.pushError(line: line())
            state.markCounted()
        case UInt8(ascii: "*"), UInt8(ascii: ">"):
            let count = number()
            if count < 0 { return lua_pushboolean(state, 0) }
            lua_createtable(state, Int32(clamping: count), 0)
            for index in 0..<count {
                push(to: state)
                lua_rawseti(state, -2, Int32(truncatingIfNeeded: index + 1))
            }
        case UInt8(ascii: "%"):
            let count = number()
            lua_createtable(state, 0, 1)
            lua_createtable(state, 0, Int32(clamping: count))
            for _ in 0..<count {
                push(to: state)
                push(to: state)
                setPair(state)
            }
            martlet_lua_raw_set_field(state, -2, "map")
        case UInt8(ascii: "~"):
            let count = number()
            lua_createtable(state, 0, 1)
            lua_createtable(state, 0, Int32(clamping: count))
            for _ in 0..<count {
                push(to: state)
                lua_pushboolean(state, 1)
                setPair(state)
            }
            martlet_lua_raw_set_field(state, -2, "set")
        case UInt8(ascii: "_"):
            _ = line()
            lua_pushnil(state)
        case UInt8(ascii: "#"): lua_pushboolean(state, line().first == UInt8(ascii: "t") ? 1 : 0)
        case UInt8(ascii: ","):
            lua_createtable(state, 0, 1)
            lua_pushnumber(state, parseDouble(line()) ?? .nan)
            martlet_lua_raw_set_field(state, -2, "double")
        case UInt8(ascii: "("): pushField(state, "big_number", line())
        case UInt8(ascii: "="):
            let count = number()
            lua_createtable(state, 0, 1)
            lua_createtable(state, 0, 2)
            state.push(UnsafeRawBufferPointer(start: position + 4, count: count - 4))
            martlet_lua_raw_set_field(state, -2, "string")
            state.push(UnsafeRawBufferPointer(start: position, count: 3))
            martlet_lua_raw_set_field(state, -2, "format")
            martlet_lua_raw_set_field(state, -2, "verbatim_string")
            position += count + 2
        case UInt8(ascii: "|"):
            // Scripts do not see attributes.
            for _ in 0..<2 * number() {
                push(to: state)
                state.pop()
            }
            push(to: state)
        default: preconditionFailure("no reply begins with byte \(type)")
        }
    }

    /// Sets a field of the table below key and value; what cannot be a key is left out.
    private func setPair(_ state: OpaquePointer) {
        let key = lua_type(state, -2)
        if key == LUA_TNIL || key == LUA_TNUMBER && lua_tonumber(state, -2).isNaN { return state.pop(2) }
        lua_rawset(state, -3)
    }

    private func pushField(_ state: OpaquePointer, _ name: String, _ value: UnsafeRawBufferPointer) {
        lua_createtable(state, 0, 1)
        state.push(value)
        martlet_lua_raw_set_field(state, -2, name)
    }

    private mutating func line() -> UnsafeRawBufferPointer {
        let start = position
        while position.pointee != 13 { position += 1 }
        defer { position += 2 }
        return UnsafeRawBufferPointer(start: start, count: position - start)
    }

    @inline(__always)
    private mutating func number() -> Int {
        let isNegative = position.pointee == UInt8(ascii: "-")
        if isNegative { position += 1 }
        var number = 0
        while position.pointee != 13 {
            // Downwards, because the lowest number has no positive.
            number = number &* 10 &- Int(position.pointee &- UInt8(ascii: "0"))
            position += 1
        }
        position += 2
        return isNegative ? number : 0 &- number
    }
}

// MARK: - To replies

extension UnsafeMutablePointer<ScriptRun> {
    /// Replies with the value on top of the stack, and pops it.
    func reply(_ state: OpaquePointer, to client: ClientPointer) {
        if client.pointee.reply.count > pointee.replyEnd {
            pointee.isReplyTooLong = true
            return state.pop()
        }
        guard lua_checkstack(state, 4) != 0 else {
            fail(.text("ERR reached lua stack limit"), client)
            return state.pop()
        }
        switch lua_type(state, -1) {
        case LUA_TSTRING: client.pointee.reply.bulk(state.bytes(at: -1))
        case LUA_TNUMBER: client.pointee.reply.integer(cutOff(lua_tonumber(state, -1)))
        case LUA_TBOOLEAN:
            let value = lua_toboolean(state, -1) != 0
            if pointee.node.pointee.scripts.client.pointee.reply.isRESP3 {
                client.pointee.reply.boolean(value)
            } else if value {
                client.pointee.reply.integer(1)
            } else {
                client.pointee.reply.null()
            }
        case LUA_TTABLE: replyTable(state, to: client)
        default: client.pointee.reply.null()
        }
        state.pop()
    }

    private func replyTable(_ state: OpaquePointer, to client: ClientPointer) {
        if martlet_lua_raw_get_field(state, -1, "err") == LUA_TSTRING {
            let isCounted =
                martlet_lua_raw_get_field(state, -2, "ignore_error_stats_update") == LUA_TBOOLEAN
                && lua_toboolean(state, -1) != 0
            state.pop()
            fail(.message(String(bytes: state.cString(at: -1))), client, isCounted: isCounted)
            return state.pop()
        }
        state.pop()
        if martlet_lua_raw_get_field(state, -1, "ok") == LUA_TSTRING {
            client.pointee.reply.line(UInt8(ascii: "+"), state.cString(at: -1))
            return state.pop()
        }
        state.pop()
        if martlet_lua_raw_get_field(state, -1, "double") == LUA_TNUMBER {
            client.pointee.reply.double(lua_tonumber(state, -1))
            return state.pop()
        }
        state.pop()
        if martlet_lua_raw_get_field(state, -1, "big_number") == LUA_TSTRING {
            replyBigNumber(state.bytes(at: -1), to: client)
            return state.pop()
        }
        state.pop()
        if martlet_lua_raw_get_field(state, -1, "verbatim_string") == LUA_TTABLE, replyVerbatim(state, to: client) {
            return state.pop()
        }
        state.pop()
        if martlet_lua_raw_get_field(state, -1, "map") == LUA_TTABLE {
            replyPairs(state, to: client, isMap: true)
            return state.pop()
        }
        state.pop()
        if martlet_lua_raw_get_field(state, -1, "set") == LUA_TTABLE {
            replyPairs(state, to: client, isMap: false)
            return state.pop()
        }
        state.pop()
        replyArray(state, to: client)
    }

    private func replyArray(_ state: OpaquePointer, to client: ClientPointer) {
        let start = client.pointee.reply.deferredAggregate()
        var count: Int32 = 0
        while true {
            lua_rawgeti(state, -1, count &+ 1)
            if lua_type(state, -1) == LUA_TNIL || pointee.isReplyTooLong { break }
            reply(state, to: client)
            count &+= 1
        }
        state.pop()
        client.pointee.reply.endArray(start, count: Int(count))
    }

    private func replyPairs(_ state: OpaquePointer, to client: ClientPointer, isMap: Bool) {
        let start = client.pointee.reply.deferredAggregate()
        var count = 0
        lua_pushnil(state)
        // No key changes meanwhile, so the traversal cannot fail.
        while lua_next(state, -2) != 0 {
            if pointee.isReplyTooLong {
                state.pop(2)
                break
            }
            if !isMap { state.pop() }
            lua_pushvalue(state, isMap ? -2 : -1)
            reply(state, to: client)
            if isMap { reply(state, to: client) }
            count += 1
        }
        if isMap {
            client.pointee.reply.endMap(start, count: count)
        } else {
            client.pointee.reply.endSet(start, count: count)
        }
    }

    private func replyBigNumber(_ digits: UnsafeRawBufferPointer, to client: ClientPointer) {
        // A line break would end the reply early.
        let digits = digits.map { $0 == 13 || $0 == 10 ? 32 : $0 }
        if client.pointee.reply.isRESP3 {
            digits.withUnsafeBytes { client.pointee.reply.line(UInt8(ascii: "("), $0) }
        } else {
            client.pointee.reply.bulk(digits)
        }
    }

    /// - Returns: false if the table on top does not describe such a string.
    private func replyVerbatim(_ state: OpaquePointer, to client: ClientPointer) -> Bool {
        let hasFormat = martlet_lua_raw_get_field(state, -1, "format") == LUA_TSTRING
        let hasText = martlet_lua_raw_get_field(state, -2, "string") == LUA_TSTRING
        if hasFormat, hasText {
            let text = state.bytes(at: -1)
            if client.pointee.reply.isRESP3 {
                let format = state.cString(at: -2)
                client.pointee.reply.line(UInt8(ascii: "="), Array(String(text.count + 4).utf8))
                for index in 0..<3 {
                    client.pointee.reply.append([index < format.count ? format[index] : UInt8(ascii: " ")])
                }
                client.pointee.reply.append(literal: ":")
                client.pointee.reply.append(text)
                client.pointee.reply.append(literal: "\r\n")
            } else {
                client.pointee.reply.bulk(text)
            }
        }
        state.pop(2)
        return hasFormat && hasText
    }

    /// Puts an error in place of what was written.
    func refuseReply(_ client: ClientPointer, from start: Int) {
        client.pointee.reply.truncate(to: start)
        fail(.text("ERR The reply of the script is too long"), client)
    }

    /// An error within or instead of the reply. - Parameter isCounted: it was, when the command failed.
    func fail(_ error: ReplyError, _ client: ClientPointer, isCounted: Bool = false) {
        pointee.node.pointee.failScript(error, index: pointee.command, client, isCounted: isCounted)
    }

    /// What C makes of a double that is no whole number, and x86 of one that fits none.
    private func cutOff(_ number: Double) -> Int64 { Int64(exactly: number.rounded(.towardZero)) ?? .min }
}

extension Node {
    fileprivate mutating func failScript(_ error: ReplyError, index: Int, _ client: ClientPointer, isCounted: Bool) {
        if !isCounted { return fail(error, index: index, client) }
        commandStatistics[index].failedCalls += 1
        client.pointee.reply.error(error)
    }
}

extension ReplyBuffer {
    /// A line of any bytes; a line break among them becomes blanks.
    fileprivate mutating func line(_ type: UInt8, _ text: UnsafeRawBufferPointer) {
        append([type])
        if text.contains(where: { $0 == 13 || $0 == 10 }) {
            append(text.map { $0 == 13 || $0 == 10 ? 32 : $0 })
        } else {
            append(text)
        }
        append(literal: "\r\n")
    }

    fileprivate mutating func line(_ type: UInt8, _ text: [UInt8]) { text.withUnsafeBytes { line(type, $0) } }
}
