import CLua
import MartletBase
import MartletKeyspace
import MartletRESP

// Scripts: Lua 5.1 on a stack of its own.
//
// 1. EVAL (or FCALL) finds the compiled function and starts a *run*: the function is called on a second stack of the command
//    thread (a fiber). `redis.call` comes back from there into the dispatcher, with arguments that stay on Lua's stack, and the
//    reply becomes Lua values.
// 2. Nearly always the function returns at once; its result becomes the client's reply, what it changed goes into the log as
//    one unit.
// 3. Every 1,000 instructions Lua asks what time it is (`interruptScript`). Past `busy-reply-threshold` the run leaves its
//    stack: the client is parked, other clients get BUSY, and each turn of the loop resumes the run for a slice. Nothing is
//    re-entered: between turns the loop is in a normal state, the cluster bus and I/O threads never notice.
//
// Scripts and functions have a Lua state each, with the same API (ScriptAPI.swift). Global tables are protected (CLua.c).
// Not one of Lua's errors passes a Swift frame: see CLua.h for the rules, which hold for every function here that Lua calls.

typealias Lua = UnsafeMutablePointer<martlet_lua>

/// What scripts need between and during their runs. One per node.
struct ScriptEngine: ~Copyable {
    /// The state of EVAL's scripts; nil until the first.
    private(set) var evaluator: Lua?
    var cache = ScriptCache()
    /// The stack, made for the first run.
    private var fiber: OpaquePointer?
    /// The one run there can be. Its memory is kept.
    let run: UnsafeMutablePointer<ScriptRun> = .allocate(capacity: 1)
    private(set) var isRunning = false
    /// The run has left its stack, to be resumed in later turns.
    var isSuspended = false
    /// Scripts were run since the cron collected garbage last.
    var hasGarbage = false
    /// Whose commands those of scripts are; its replies are what `redis.call` returns.
    let client: ClientPointer = .allocate(capacity: 1)
    /// Arguments of the command that a script calls, and the text of those that are numbers.
    private(set) var arguments: UnsafeMutablePointer<UnsafeRawBufferPointer>
    private(set) var numbers: UnsafeMutableRawPointer
    private var argumentCapacity = 64
    /// Memory of one state. Past it a script fails with `not enough memory`.
    var stateBytesMax = 4 << 30

    /// Deep enough for Lua's 200 nested C calls, its matcher's 8,192 (see CLua.c) and replies of 8,000 nested tables.
    static let stackBytes = 16 << 20
    /// Of a number as an argument. (`%.17g`)
    static let numberBytesMax = 32

    init() {
        client.initialize(to: Client(id: 0, address: "", localAddress: "", fd: -1, now: 0))
        client.pointee.flags = [.script, .authenticated]
        arguments = .allocate(capacity: argumentCapacity)
        numbers = .allocate(byteCount: argumentCapacity * Self.numberBytesMax, alignment: 16)
    }

    deinit {
        // A run that never ended: its frames are on the stack that goes now, and own nothing else.
        if isRunning { run.deinitialize(count: 1) }
        run.deallocate()
        if let evaluator { martlet_lua_destroy(evaluator) }
        if let fiber { martlet_fiber_destroy(fiber) }
        client.deinitialize(count: 1)
        client.deallocate()
        arguments.deallocate()
        numbers.deallocate()
    }

    // MARK: States

    /// A new state with the libraries and the API that scripts and functions share, still open for more.
    ///
    /// - Parameter withDeprecated: `lua-enable-deprecated-api`.
    func makeState(withDeprecated: Bool, seed: UInt64) -> Lua {
        guard let lua = martlet_lua_create(stateBytesMax, withDeprecated ? 1 : 0) else {
            fatalError("Cannot allocate a Lua state")
        }
        lua.pointee.infallible += 1
        lua.pointee.interrupt = interruptScript
        lua.pointee.random = seed & 0xFFFF_FFFF_FFFF
        ScriptLibraries.open(lua.pointee.state)
        ScriptAPI.register(lua.pointee.state)
        lua.pointee.infallible -= 1
        return lua
    }

    /// The state of EVAL's scripts, made when it is needed first.
    mutating func scriptState(withDeprecated: Bool, seed: @autoclosure () -> UInt64) -> Lua {
        if let evaluator { return evaluator }
        let lua = makeState(withDeprecated: withDeprecated, seed: seed())
        lua.pointee.infallible += 1
        ScriptAPI.registerForScripts(lua)
        martlet_lua_protect_globals(lua)
        lua.pointee.infallible -= 1
        evaluator = lua
        return lua
    }

    /// SCRIPT FLUSH: no script and nothing that one left behind remains.
    mutating func flush() {
        precondition(!isRunning)
        if let evaluator { martlet_lua_destroy(evaluator) }
        evaluator = nil
        cache = ScriptCache()
    }

    /// Bytes of EVAL's state.
    var evaluatorBytes: Int { evaluator.map { Int($0.pointee.bytes) } ?? 0 }

    // MARK: Runs

    mutating func begin(_ run: consuming ScriptRun) {
        precondition(!isRunning)
        self.run.initialize(to: run)
        isRunning = true
        hasGarbage = true
        if fiber == nil {
            guard let new = martlet_fiber_create(Self.stackBytes) else { fatalError("Cannot allocate a stack") }
            fiber = new
        }
    }

    var stack: OpaquePointer { fiber.unsafelyUnwrapped }

    mutating func end() {
        run.deinitialize(count: 1)
        isRunning = false
        isSuspended = false
    }

    /// Makes room for the arguments of a call.
    @inline(__always)
    mutating func reserveArguments(_ count: Int) {
        if count > argumentCapacity { growArguments(count) }
    }

    @inline(never)
    private mutating func growArguments(_ count: Int) {
        arguments.deallocate()
        numbers.deallocate()
        argumentCapacity = max(count, argumentCapacity * 2)
        arguments = .allocate(capacity: argumentCapacity)
        numbers = .allocate(byteCount: argumentCapacity * Self.numberBytesMax, alignment: 16)
    }
}

extension Node {
    /// Lets scripts fail sooner than for want of 4 GB. To be called before the first of them.
    package mutating func limitScripts(stateBytes: Int) { scripts.stateBytesMax = stateBytes }

    /// Traps if something of a script that has ended is left.
    package func scriptInvariants() {
        precondition(!scripts.isRunning && !scripts.isSuspended && !isBusy && !keyspace.isInScript)
        for case let lua? in [scripts.evaluator, functions?.lua] {
            precondition(lua_gettop(lua.pointee.state) == 0)
            precondition(lua.pointee.infallible == 0 && lua.pointee.run == nil && lua.pointee.deadline == nil)
            precondition(lua.pointee.is_stopped == 0 && lua.pointee.is_environment_changed == 0)
        }
    }

    /// Goes on collecting what scripts left. Called by the cron.
    mutating func collectScriptGarbage() {
        guard scripts.hasGarbage, !scripts.isRunning else { return }
        scripts.hasGarbage = false
        for case let lua? in [scripts.evaluator, functions?.lua] {
            lua.pointee.infallible += 1
            lua_gc(lua.pointee.state, LUA_GCSTEP, 200)
            lua.pointee.infallible -= 1
        }
    }

    /// With DEBUG SET-DISABLE-DENY-SCRIPTS a script could start another, or drop what it is part of.
    func requireNoRun() throws(ReplyError) {
        if scripts.isRunning { throw .notAllowedFromScript }
    }

    /// The compiled script of a text.
    ///
    /// - Parameter isLoaded: SCRIPT LOAD asks; it stays until SCRIPT FLUSH.
    /// - Returns: its index in the cache.
    mutating func script(_ body: UnsafeRawBufferPointer, isLoaded: Bool = false) throws(ReplyError) -> Int {
        let hash = keyspace.hash(body)
        if let index = scripts.cache.index(of: body, hash: hash) {
            scripts.cache.use(index, isLoaded: isLoaded)
            return index
        }
        return try compile(body, hash: hash, isLoaded: isLoaded)
    }

    @inline(never)
    private mutating func compile(
        _ body: UnsafeRawBufferPointer, hash: UInt64, isLoaded: Bool
    ) throws(ReplyError) -> Int {
        let digest = ScriptDigest(of: body)
        if let index = scripts.cache.index(of: digest) {
            scripts.cache.use(index, isLoaded: isLoaded)
            return index
        }
        let shebang = try Shebang(of: body)
        let lua = scripts.scriptState(
            withDeprecated: configuration.enablesDeprecatedScriptFunctions, seed: keyspace.random.next())
        let state = lua.pointee.state!
        lua.pointee.infallible += 1
        defer { lua.pointee.infallible -= 1 }
        let text = UnsafeRawBufferPointer(rebasing: body.dropFirst(shebang.count))
        guard martlet_lua_load(state, text.baseAddress, text.count, "@user_script") == 0 else {
            defer { state.pop() }
            throw .message("ERR Error compiling script (new function): \(String(bytes: state.cString(at: -1)))")
        }
        let function = luaL_ref(state, LUA_REGISTRYINDEX)
        let index = scripts.cache.insert(
            body, hash: hash, digest: digest, flags: shebang.flags, function: function, isLoaded: isLoaded)
        // The run that wants it keeps its place: it is the newest.
        while let surplus = scripts.cache.surplus {
            luaL_unref(state, LUA_REGISTRYINDEX, scripts.cache.evict(surplus))
        }
        return index
    }
}

extension OpaquePointer {
    /// The string at a place of a Lua stack; empty if there is none. A number becomes one.
    @inline(__always)
    func bytes(at index: Int32) -> UnsafeRawBufferPointer {
        var count = 0
        let start = lua_tolstring(self, index, &count)
        return UnsafeRawBufferPointer(start: start, count: count)
    }

    /// What C sees of it.
    func cString(at index: Int32) -> UnsafeRawBufferPointer { bytes(at: index).cString }

    @inline(__always)
    func push(_ bytes: UnsafeRawBufferPointer) {
        // Lua copies no byte of an empty string, but wants an address.
        lua_pushlstring(self, bytes.baseAddress ?? UnsafeRawPointer(StaticString("").utf8Start), bytes.count)
    }

    @inline(__always)
    func pop(_ count: Int32 = 1) { lua_settop(self, -count - 1) }
}
