import CLua
import MartletBase

/// Why a function of a library ends in a Lua error. Texts are bytes: they may quote what a script gave.
struct LuaFailure: Error {
    enum Kind {
        /// The place in the script goes before the text. (luaL_error)
        case placed
        /// The text alone, as Lua's core raises it from a C function.
        case plain
        /// The text is about this argument. (luaL_argerror)
        case argument(Int32)
    }

    let kind: Kind
    let text: [UInt8]

    init(_ kind: Kind, _ text: [UInt8]) {
        self.kind = kind
        self.text = text
    }

    static func message(_ text: String) -> LuaFailure { LuaFailure(.placed, Array(text.utf8)) }
    static func plain(_ text: String) -> LuaFailure { LuaFailure(.plain, Array(text.utf8)) }
    static func argument(_ index: Int32, _ text: String) -> LuaFailure {
        LuaFailure(.argument(index), Array(text.utf8))
    }
}

/// A call of a library's function by a script: the arguments, and the stack for its results.
///
/// Lua raises errors by longjmp, which must not cross Swift frames. So nothing here calls a function of Lua that could
/// raise one: what fails throws, and the trampoline raises it when Swift has returned (see CLua.h). Of what Lua raises by
/// itself, only tables that it refuses to grow can be reached by input; see ``tableCountMax``.
struct LuaCall {
    let state: OpaquePointer

    /// More elements would make Lua raise an error while it grows a table. (MAXBITS in ltable.c)
    static let tableCountMax = 1 << 26
    static let tableOverflow = LuaFailure.plain("table overflow")

    var argumentCount: Int32 { lua_gettop(state) }

    func type(_ index: Int32) -> Int32 { lua_type(state, index) }
    func typeName(_ index: Int32) -> String { String(cString: lua_typename(state, lua_type(state, index))) }
    func pop(_ count: Int32 = 1) { state.pop(count) }
    func push(_ bytes: UnsafeRawBufferPointer) { state.push(bytes) }

    /// The bytes of a string on the stack; they live as long as it stands there.
    /// - Precondition: it is a string: a number would become one in its place.
    func stringBytes(_ index: Int32) -> UnsafeRawBufferPointer { state.bytes(at: index) }

    /// Room for so many values more. (luaL_checkstack)
    func reserve(_ count: Int32, _ purpose: StaticString) throws(LuaFailure) {
        if lua_checkstack(state, count) == 0 { throw .message("stack overflow (\(purpose))") }
    }

    /// As what Lua itself would ask for: an error when all that the state has, and a result of so many bytes, is more than it
    /// may have. Asked for each value that is read or written, so that a table that contains itself many times, or a text that
    /// is all brackets, cannot fill the memory while Lua's limit does not hold.
    func requireMemory(_ resultBytes: Int = 0) throws(LuaFailure) {
        let lua = martlet_lua_of(state)!
        if lua.pointee.bytes + resultBytes > lua.pointee.bytes_max || resultBytes > Self.resultBytesMax {
            throw .plain("not enough memory")
        }
    }

    /// So many bytes were read or written: time has passed without an instruction of Lua.
    func spend(_ bytes: Int) { martlet_lua_of(state).pointee.work += bytes }

    /// No command takes more, as it comes. (proto-max-bulk-len)
    private static let resultBytesMax = 1 << 29

    // MARK: Arguments, as Lua's own libraries take them

    private func mismatch(_ index: Int32, expected: StaticString) -> LuaFailure {
        .argument(index, "\(expected) expected, got \(typeName(index))")
    }

    /// A string, or a number as one. (luaL_checklstring)
    func string(_ index: Int32) throws(LuaFailure) -> UnsafeRawBufferPointer {
        let bytes = state.bytes(at: index)
        guard bytes.baseAddress != nil else { throw mismatch(index, expected: "string") }
        return bytes
    }

    /// A string up to its first NUL, which C takes for its end. (luaL_checkstring)
    func terminatedString(_ index: Int32) throws(LuaFailure) -> UnsafeRawBufferPointer {
        try string(index).cString
    }

    /// A number, or a string that reads as one. (luaL_checknumber)
    func number(_ index: Int32) throws(LuaFailure) -> Double {
        let number = lua_tonumber(state, index)
        if number == 0, lua_isnumber(state, index) == 0 { throw mismatch(index, expected: "number") }
        return number
    }

    /// (luaL_checkinteger)
    func integer(_ index: Int32) throws(LuaFailure) -> Int {
        let integer = lua_tointeger(state, index)
        if integer == 0, lua_isnumber(state, index) == 0 { throw mismatch(index, expected: "number") }
        return integer
    }

    /// (luaL_optinteger)
    func integer(_ index: Int32, ifMissing value: Int) throws(LuaFailure) -> Int {
        lua_type(state, index) <= LUA_TNIL ? value : try integer(index)
    }

    // MARK: Functions

    /// Runs a function for the trampoline. - Returns: the count of results on the stack; -1 to raise what is on top.
    static func run(_ state: OpaquePointer?, _ body: (LuaCall) throws(LuaFailure) -> Int32) -> Int32 {
        guard let state else { return 0 }
        let call = LuaCall(state: state)
        do throws(LuaFailure) {
            return try body(call)
        } catch {
            call.push(error)
            return -1
        }
    }

    /// There is always room for a few values more than were asked for. (EXTRA_STACK in lstate.h)
    private func push(_ failure: LuaFailure) {
        var text = failure.text
        if case .argument(let index) = failure.kind { text = named(index, text) }
        if case .plain = failure.kind {
            text.withUnsafeBytes { push($0) }
            return
        }
        luaL_where(state, 1)
        text.withUnsafeBytes { push($0) }
        lua_concat(state, 2)
    }

    /// What is wrong with an argument, with the name by which the function was called. (luaL_argerror)
    private func named(_ index: Int32, _ text: [UInt8]) -> [UInt8] {
        var place = lua_Debug()
        var index = index
        var name = "?"
        if lua_getstack(state, 0, &place) != 0, lua_getinfo(state, "n", &place) != 0, let found = place.name {
            name = String(cString: found)
            if String(cString: place.namewhat) == "method" {
                // The object before the colon does not count.
                index -= 1
                if index == 0 { return Array("calling '\(name)' on bad self (".utf8) + text + Array(")".utf8) }
            }
        }
        return Array("bad argument #\(index) to '\(name)' (".utf8) + text + Array(")".utf8)
    }

    /// Puts a function into the table on top of the stack. - Parameter settings: where its second upvalue stands, if any.
    func register(
        _ name: StaticString, settings: Int32? = nil, _ function: @convention(c) (OpaquePointer?) -> Int32
    ) {
        if let settings { lua_pushvalue(state, settings) }
        martlet_lua_push_closure(state, function, settings == nil ? 0 : 1)
        setField(name)
    }

    /// Gives the table below the top the value on top.
    func setField(_ name: StaticString) { martlet_lua_raw_set_field(state, -2, Self.cString(name)) }

    /// Gives a new table the name of a library, and takes it off the stack.
    func setGlobal(_ name: StaticString) { martlet_lua_raw_set_field(state, LUA_GLOBALSINDEX, Self.cString(name)) }

    private static func cString(_ text: StaticString) -> UnsafePointer<CChar> {
        UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
    }

    /// The second upvalue, which holds the settings of a library.
    func settings<Settings>(_: Settings.Type) -> UnsafeMutablePointer<Settings> {
        let address = lua_touserdata(state, LUA_GLOBALSINDEX - 2)
        guard let address else { preconditionFailure("a library's function without settings") }
        return address.assumingMemoryBound(to: Settings.self)
    }
}
