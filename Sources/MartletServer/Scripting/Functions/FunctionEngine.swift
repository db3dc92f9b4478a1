import CLua
import MartletBase
import MartletPersistence
import MartletRESP

// Functions live in a Lua state of their own, beside that of EVAL's scripts. A library's text runs once, when it is loaded,
// and finds nothing but `redis.register_function`, `redis.log` and the versions; the functions that it leaves behind find
// what scripts find. Both have the same global table: what is behind it is exchanged while a library is loaded.
//
// Source: Redis 7.0 functions.c, function_lua.c.

final class FunctionEngine {
    /// How long a library that a client sends may run. (LOAD_TIMEOUT_MS)
    fileprivate static let loadMillisecondsMax: Int64 = 500

    enum RestorePolicy {
        case flush, append, replace
    }

    let lua: Lua
    private(set) var catalogue = FunctionCatalogue()
    private var state: OpaquePointer { lua.pointee.state.unsafelyUnwrapped }
    /// Registry references to what libraries and functions find through the global table.
    private var libraryGlobals: Int32 = 0
    private var functionGlobals: Int32 = 0
    /// The library whose text runs.
    private var loading: FunctionLibrary?

    /// - Parameter lua: a state with the API, still open; belongs to the engine from now on.
    init(_ lua: Lua) {
        self.lua = lua
        lua.pointee.infallible += 1
        defer { lua.pointee.infallible -= 1 }
        lua_pushvalue(state, LUA_GLOBALSINDEX)
        martlet_lua_refuse_missing(state)
        state.pop()
        martlet_lua_protect_globals(lua)
        _ = lua_getmetatable(state, LUA_GLOBALSINDEX)
        _ = martlet_lua_raw_get_field(state, -1, "__index")
        functionGlobals = luaL_ref(state, LUA_REGISTRYINDEX)
        state.pop()
        libraryGlobals = makeLibraryGlobals()
    }

    deinit { martlet_lua_destroy(lua) }

    private func makeLibraryGlobals() -> Int32 {
        lua_createtable(state, 0, 2)
        lua_createtable(state, 0, 12)
        lua_pushlightuserdata(state, Unmanaged.passUnretained(self).toOpaque())
        martlet_lua_push_closure(state, { FunctionEngine.register($0.unsafelyUnwrapped) }, 1)
        martlet_lua_raw_set_field(state, -2, "register_function")
        ScriptAPI.registerLog(state)
        ScriptAPI.registerVersion(state)
        martlet_lua_refuse_missing(state)
        lua_pushvalue(state, -1)
        martlet_lua_raw_set_field(state, -3, "server")
        martlet_lua_raw_set_field(state, -2, "redis")
        martlet_lua_refuse_missing(state)
        martlet_lua_protect(state)
        return luaL_ref(state, LUA_REGISTRYINDEX)
    }

    var stateBytes: Int { Int(lua.pointee.bytes) }

    // MARK: Libraries

    /// Adds a library. - Returns: its name.
    func load(
        _ text: UnsafeRawBufferPointer, replaces: Bool, until deadline: Deadline? = nil
    ) throws(FunctionError) -> [UInt8] {
        try load(text, into: &catalogue, replaces: replaces, until: deadline)
    }

    /// (functionsCreateWithLibraryCtx)
    private func load(
        _ text: UnsafeRawBufferPointer, into catalogue: inout FunctionCatalogue, replaces: Bool,
        until deadline: Deadline?
    ) throws(FunctionError) -> [UInt8] {
        let header = try LibraryHeader(text)
        let old = catalogue.library(header.name)
        if old != nil, !replaces {
            throw FunctionError("Library '\(String(decoding: header.name, as: UTF8.self))' already exists")
        }
        let library = FunctionLibrary(name: header.name, code: Array(text))
        do throws(FunctionError) {
            try run(library, UnsafeRawBufferPointer(rebasing: text[header.codeStart...]), until: deadline)
            if library.functions.isEmpty { throw FunctionError("No functions registered") }
            try catalogue.link(library, replacing: old)
        } catch {
            release(library)
            throw error
        }
        if let old { release(old) }
        return library.name
    }

    /// Adds the libraries of a payload: all, or none if one of them cannot be had. (functionRestoreCommand)
    /// - Parameter deadline: Redis has none here, so that a payload can stop it for ever.
    func restore(
        _ payload: UnsafeRawBufferPointer, _ policy: RestorePolicy, until deadline: Deadline? = nil
    ) throws(FunctionError) {
        var restored = FunctionCatalogue()
        let replaced: [FunctionLibrary]
        do throws(FunctionError) {
            var libraries = try LibraryPayload.open(payload)
            while let text = try libraries.nextText() {
                _ = try load(text, into: &restored, replaces: false, until: deadline)
            }
            if policy == .flush {
                replaced = catalogue.libraries
                catalogue = restored
            } else {
                replaced = try catalogue.join(restored, replaces: policy == .replace)
            }
        } catch {
            for library in restored.libraries { release(library) }
            throw error
        }
        for library in replaced { release(library) }
    }

    /// - Returns: whether there was such a library.
    func delete(_ name: UnsafeRawBufferPointer) -> Bool {
        guard let library = catalogue.library(name) else { return false }
        catalogue.unlink(library)
        release(library)
        return true
    }

    /// Leaves a library's functions to the garbage collector.
    private func release(_ library: FunctionLibrary) {
        for function in library.functions { luaL_unref(state, LUA_REGISTRYINDEX, function.reference) }
    }

    // MARK: Running a library's text

    /// When a library has to be done with its text.
    struct Deadline {
        fileprivate let nanoseconds: Int64
        fileprivate let clock: () -> Int64

        init(_ services: ProcessServices) {
            clock = services.monotonicNanoseconds
            nanoseconds = clock() + FunctionEngine.loadMillisecondsMax * 1_000_000
        }

        fileprivate var isOver: Bool { clock() > nanoseconds }
    }

    /// Runs a library's text, which registers its functions. (luaEngineCreate)
    private func run(
        _ library: FunctionLibrary, _ code: UnsafeRawBufferPointer, until deadline: Deadline?
    ) throws(FunctionError) {
        lua.pointee.infallible += 1
        show(libraryGlobals)
        loading = library
        defer {
            loading = nil
            show(functionGlobals)
            lua.pointee.infallible -= 1
        }
        guard martlet_lua_load(state, code.baseAddress, code.count, "@user_function") == 0 else {
            defer { state.pop() }
            throw FunctionError("Error compiling function: \(String(bytes: state.cString(at: -1)))")
        }
        if call(until: deadline) != 0 {
            defer { state.pop() }
            throw FunctionError("Error registering functions: \(message)")
        }
    }

    /// Calls the function on top of the stack.
    private func call(until deadline: Deadline?) -> Int32 {
        let interrupt = lua.pointee.interrupt
        defer {
            lua.pointee.interrupt = interrupt
            martlet_lua_restore(lua)
        }
        guard var deadline else {
            lua.pointee.interrupt = nil
            return martlet_lua_call(lua, 0, 0, 0)
        }
        return withUnsafeMutablePointer(to: &deadline) { deadline in
            lua.pointee.deadline = UnsafeMutableRawPointer(deadline)
            defer { lua.pointee.deadline = nil }
            lua.pointee.interrupt = { lua in
                let deadline = lua?.pointee.deadline?.assumingMemoryBound(to: Deadline.self)
                guard deadline?.pointee.isOver ?? false else { return Int32(MARTLET_LUA_CONTINUE) }
                return Int32(MARTLET_LUA_STOP)
            }
            return "ERR FUNCTION LOAD timeout".withCString { message in
                lua.pointee.interrupt_message = message
                defer { lua.pointee.interrupt_message = nil }
                return martlet_lua_call(lua, 0, 0, 0)
            }
        }
    }

    /// Puts a table behind the global one.
    private func show(_ globals: Int32) {
        _ = lua_getmetatable(state, LUA_GLOBALSINDEX)
        lua_rawgeti(state, LUA_REGISTRYINDEX, globals)
        martlet_lua_raw_set_field(state, -2, "__index")
        state.pop()
    }

    /// The text of the error on top of the stack. (luaExtractErrorInformation)
    private var message: String {
        if lua_isstring(state, -1) != 0 { return "ERR \(String(bytes: state.cString(at: -1)))" }
        guard lua_type(state, -1) == LUA_TTABLE else { return "(null)" }
        defer { state.pop() }
        let hasText = martlet_lua_raw_get_field(state, -1, "err") == LUA_TSTRING
        return hasText ? String(bytes: state.cString(at: -1)) : "(null)"
    }

    // MARK: redis.register_function

    private static func register(_ state: OpaquePointer) -> Int32 {
        guard let address = lua_touserdata(state, LUA_GLOBALSINDEX - 2) else { return 0 }
        let engine = Unmanaged<FunctionEngine>.fromOpaque(address).takeUnretainedValue()
        do throws(FunctionError) {
            try engine.register(state)
            return 0
        } catch {
            state.pushError(error.reply)
            return -1
        }
    }

    private func register(_ state: OpaquePointer) throws(FunctionError) {
        guard let loading else {
            throw FunctionError("redis.register_function can only be called on FUNCTION LOAD command")
        }
        let function =
            switch lua_gettop(state) {
            case 1: try Self.namedArguments(state)
            case 2: try Self.positionalArguments(state)
            default: throw FunctionError("wrong number of arguments to redis.register_function")
            }
        do throws(FunctionError) {
            try loading.add(function)
        } catch {
            luaL_unref(state, LUA_REGISTRYINDEX, function.reference)
            throw error
        }
    }

    /// The bytes of a string or a number at a place of the stack; nil for anything else.
    private static func text(_ state: OpaquePointer, at index: Int32) -> [UInt8]? {
        lua_isstring(state, index) != 0 ? Array(state.bytes(at: index)) : nil
    }

    /// (luaRegisterFunctionReadPositionalArgs)
    private static func positionalArguments(_ state: OpaquePointer) throws(FunctionError) -> LibraryFunction {
        guard let name = text(state, at: 1) else {
            throw FunctionError("first argument to redis.register_function must be a string")
        }
        guard lua_type(state, 2) == LUA_TFUNCTION else {
            throw FunctionError("second argument to redis.register_function must be a function")
        }
        return LibraryFunction(name: name, reference: luaL_ref(state, LUA_REGISTRYINDEX))
    }

    /// (luaRegisterFunctionReadNamedArgs)
    private static func namedArguments(_ state: OpaquePointer) throws(FunctionError) -> LibraryFunction {
        guard lua_type(state, 1) == LUA_TTABLE else {
            throw FunctionError(
                """
                calling redis.register_function with a single argument is only applicable to Lua table (representing \
                named arguments).
                """)
        }
        var name: [UInt8]?
        var description: [UInt8]?
        var flags: ScriptFlags = []
        var hasCallback = false
        // Below the key and value of the traversal.
        lua_pushnil(state)
        lua_pushnil(state)
        while lua_next(state, 1) != 0 {
            guard lua_isstring(state, -2) != 0 else {
                throw FunctionError("named argument key given to redis.register_function is not a string")
            }
            // A number that became a string here would break the traversal.
            let key = lua_type(state, -2) == LUA_TSTRING ? state.cString(at: -2) : StaticString("").bytes
            if key.equalsIgnoringCase("FUNCTION_NAME") {
                name = text(state, at: -1)
                if name == nil {
                    throw FunctionError("function_name argument given to redis.register_function must be a string")
                }
            } else if key.equalsIgnoringCase("DESCRIPTION") {
                description = text(state, at: -1)
                if description == nil {
                    throw FunctionError("description argument given to redis.register_function must be a string")
                }
            } else if key.equalsIgnoringCase("CALLBACK") {
                guard lua_type(state, -1) == LUA_TFUNCTION else {
                    throw FunctionError("callback argument given to redis.register_function must be a function")
                }
                hasCallback = true
                lua_pushvalue(state, -1)
                lua_replace(state, 2)
            } else if key.equalsIgnoringCase("FLAGS") {
                guard lua_type(state, -1) == LUA_TTABLE else {
                    throw FunctionError(
                        "flags argument to redis.register_function must be a table representing function flags")
                }
                flags = try self.flags(state)
            } else {
                throw FunctionError("unknown argument given to redis.register_function")
            }
            state.pop()
        }
        guard let name else { throw FunctionError("redis.register_function must get a function name argument") }
        guard hasCallback else { throw FunctionError("redis.register_function must get a callback argument") }
        return LibraryFunction(
            name: name, description: description, flags: flags, reference: luaL_ref(state, LUA_REGISTRYINDEX))
    }

    /// The flags in the table on top. (luaRegisterFunctionReadFlags)
    private static func flags(_ state: OpaquePointer) throws(FunctionError) -> ScriptFlags {
        var flags: ScriptFlags = []
        for index in Int32(1)... {
            lua_rawgeti(state, -1, index)
            defer { state.pop() }
            if lua_type(state, -1) == LUA_TNIL { break }
            let name = state.cString(at: -1)
            guard let flag = ScriptFlags.names.first(where: { name.equalsIgnoringCase($0.1.bytes) })?.0 else {
                throw FunctionError("unknown flag given")
            }
            flags.insert(flag)
        }
        return flags
    }
}

extension LibraryPayload {
    fileprivate static func open(_ payload: UnsafeRawBufferPointer) throws(FunctionError) -> LibraryPayload {
        do throws(LibraryPayloadError) {
            return try LibraryPayload(payload)
        } catch {
            throw FunctionError(error)
        }
    }

    /// ``next()`` with the errors of FUNCTION RESTORE.
    fileprivate mutating func nextText() throws(FunctionError) -> UnsafeRawBufferPointer? {
        do throws(LibraryPayloadError) {
            return try next()
        } catch {
            throw FunctionError(error)
        }
    }
}

extension FunctionError {
    fileprivate init(_ error: LibraryPayloadError) {
        switch error {
        case .versionOrChecksum: self.init("DUMP payload version or checksum are wrong")
        case .otherType: self.init("given type is not a function")
        case .badFormat: self.init("Failed loading library payload")
        }
    }
}
