import CLua
import MartletBase
import MartletRESP

// The table `redis` (and `server`, as Valkey calls it): what scripts and functions can ask of the node.
//
// Every function here is called by Lua through the trampoline of CLua: it returns the number of its results, or -1 to raise the
// value on top of the stack.

enum ScriptAPI {
    /// Adds `redis` and `server` to the globals.
    static func register(_ state: OpaquePointer) {
        lua_createtable(state, 0, 32)
        martlet_lua_set_function(state, "call") { $0!.callCommand(raises: true) }
        martlet_lua_set_function(state, "pcall") { $0!.callCommand(raises: false) }
        registerLog(state)
        registerVersion(state)
        martlet_lua_set_function(state, "setresp") { ScriptAPI.setProtocol($0!) }
        martlet_lua_set_function(state, "sha1hex") { ScriptAPI.digest($0!) }
        martlet_lua_set_function(state, "error_reply") { ScriptAPI.errorReply($0!) }
        martlet_lua_set_function(state, "status_reply") { ScriptAPI.statusReply($0!) }
        martlet_lua_set_function(state, "set_repl") { ScriptAPI.setReplication($0!) }
        for (name, flags) in [
            ("REPL_NONE", 0), ("REPL_AOF", replicatesToLog), ("REPL_SLAVE", replicatesToReplicas),
            ("REPL_REPLICA", replicatesToReplicas), ("REPL_ALL", replicatesToLog | replicatesToReplicas),
        ] {
            martlet_lua_set_number(state, name, Double(flags))
        }
        martlet_lua_set_function(state, "acl_check_cmd") { ScriptAPI.checkPermission($0!) }
        lua_pushvalue(state, -1)
        martlet_lua_raw_set_field(state, LUA_GLOBALSINDEX, "server")
        martlet_lua_raw_set_field(state, LUA_GLOBALSINDEX, "redis")
    }

    /// What only EVAL's scripts have. The table's other name, `server`, has it, too.
    static func registerForScripts(_ lua: Lua) {
        let state = lua.pointee.state!
        _ = martlet_lua_raw_get_field(state, LUA_GLOBALSINDEX, "redis")
        // Nothing is ever stepped through here.
        martlet_lua_set_function(state, "breakpoint") { ScriptAPI.pushBoolean($0!, false) }
        martlet_lua_set_function(state, "debug") { _ in 0 }
        martlet_lua_set_function(state, "replicate_commands") { ScriptAPI.pushBoolean($0!, true) }
        state.pop()
        // Redis keeps it there, where scripts can see it.
        lua_rawgeti(state, LUA_REGISTRYINDEX, lua.pointee.error_handler)
        martlet_lua_raw_set_field(state, LUA_GLOBALSINDEX, "__redis__err__handler")
        lua_pushvalue(state, LUA_GLOBALSINDEX)
        martlet_lua_refuse_missing(state)
        state.pop()
    }

    /// `log` and its levels; functions have them while they are loaded, too.
    static func registerLog(_ state: OpaquePointer) {
        martlet_lua_set_function(state, "log") { ScriptAPI.log($0!) }
        for (name, level) in [
            ("LOG_DEBUG", LogLevel.debug), ("LOG_VERBOSE", .verbose), ("LOG_NOTICE", .notice),
            ("LOG_WARNING", .warning),
        ] {
            martlet_lua_set_number(state, name, Double(level.rawValue))
        }
    }

    static func registerVersion(_ state: OpaquePointer) {
        let parts = Version.redis.split(separator: ".").map { Int($0) ?? 0 }
        let number = Double(parts[0] << 16 | parts[1] << 8 | parts[2])
        martlet_lua_set_number(state, "REDIS_VERSION_NUM", number)
        martlet_lua_set_string(state, "REDIS_VERSION", Version.redis)
        martlet_lua_set_number(state, "SERVER_VERSION_NUM", number)
        martlet_lua_set_string(state, "SERVER_VERSION", Version.redis)
        martlet_lua_set_string(state, "SERVER_NAME", "redis")
    }

    // (PROPAGATE_AOF, PROPAGATE_REPL)
    private static let replicatesToLog = 1
    private static let replicatesToReplicas = 2

    /// The run that a call comes from; nil while a library is loaded.
    @inline(__always)
    static func run(_ state: OpaquePointer) -> UnsafeMutablePointer<ScriptRun>? {
        martlet_lua_of(state).pointee.run?.assumingMemoryBound(to: ScriptRun.self)
    }

    private static func pushBoolean(_ state: OpaquePointer, _ value: Bool) -> Int32 {
        lua_pushboolean(state, value ? 1 : 0)
        return 1
    }

    // MARK: Replies

    /// Raises an error of the API.
    private static func raise(_ state: OpaquePointer, _ text: StaticString) -> Int32 {
        state.pushError(.text(text))
        return -1
    }

    private static func isOneString(_ state: OpaquePointer) -> Bool {
        lua_gettop(state) == 1 && lua_type(state, -1) == LUA_TSTRING
    }

    private static func errorReply(_ state: OpaquePointer) -> Int32 {
        guard isOneString(state) else {
            state.pushError(.text("ERR wrong number or type of arguments"))
            return 1
        }
        var text = state.cString(at: 1)
        if text.first == UInt8(ascii: "-") { text = UnsafeRawBufferPointer(rebasing: text.dropFirst()) }
        state.pushError(line: text)
        return 1
    }

    private static func statusReply(_ state: OpaquePointer) -> Int32 {
        guard isOneString(state) else {
            state.pushError(.text("ERR wrong number or type of arguments"))
            return 1
        }
        lua_createtable(state, 0, 1)
        lua_pushvalue(state, 1)
        martlet_lua_raw_set_field(state, -2, "ok")
        return 1
    }

    private static func digest(_ state: OpaquePointer) -> Int32 {
        guard lua_gettop(state) == 1 else { return raise(state, "ERR wrong number of arguments") }
        let text = state.bytes(at: 1)
        martlet_lua_of(state).pointee.work += text.count
        let digest = hexadecimal(SHA1.digest(text))
        lua_pushstring(state, digest)
        return 1
    }

    // MARK: The run

    private static func setProtocol(_ state: OpaquePointer) -> Int32 {
        guard let run = run(state) else {
            return raise(state, "ERR redis.setresp can only be called inside a script invocation")
        }
        guard lua_gettop(state) == 1 else { return raise(state, "ERR redis.setresp() requires one argument.") }
        let version = lua_tonumber(state, 1)
        guard version >= 2, version < 4 else { return raise(state, "ERR RESP version must be 2 or 3.") }
        run.pointee.node.pointee.scripts.client.pointee.reply.isRESP3 = version >= 3
        return 0
    }

    private static func setReplication(_ state: OpaquePointer) -> Int32 {
        guard let run = run(state) else {
            return raise(state, "ERR redis.set_repl can only be called inside a script invocation")
        }
        guard lua_gettop(state) == 1 else { return raise(state, "ERR redis.set_repl() requires two arguments.") }
        let number = lua_tonumber(state, 1)
        guard number > -1, number < 4 else {
            return raise(
                state, "ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
        }
        run.pointee.replicates = Int(number) & replicatesToReplicas != 0
        return 0
    }

    /// There is one user, who may do everything.
    private static func checkPermission(_ state: OpaquePointer) -> Int32 {
        guard let run = run(state) else {
            return raise(state, "ERR redis.acl_check_cmd can only be called inside a script invocation")
        }
        let node = run.pointee.node
        guard let count = node.pointee.takeArguments(state) else { return -1 }
        guard node.pointee.commandIndex(ofArguments: count) >= 0 else {
            return raise(state, "ERR Invalid command passed to redis.acl_check_cmd()")
        }
        return pushBoolean(state, true)
    }

    private static func log(_ state: OpaquePointer) -> Int32 {
        let count = lua_gettop(state)
        guard count >= 2 else { return raise(state, "ERR redis.log() requires two arguments or more.") }
        guard lua_isnumber(state, 1) != 0 else {
            return raise(state, "ERR First argument must be a number (log level).")
        }
        let number = lua_tonumber(state, 1)
        guard number > -1, number < 4, let level = LogLevel(rawValue: UInt8(max(0, number))) else {
            return raise(state, "ERR Invalid debug level.")
        }
        guard level >= Log.level else { return 0 }
        var text = ""
        for index in 2...count where lua_isstring(state, index) != 0 {
            if index > 2 { text += " " }
            text += String(bytes: state.bytes(at: index))
        }
        switch level {
        case .debug: Log.debug(text)
        case .verbose: Log.verbose(text)
        case .notice: Log.notice(text)
        case .warning, .nothing: Log.warning(text)
        }
        return 0
    }
}
