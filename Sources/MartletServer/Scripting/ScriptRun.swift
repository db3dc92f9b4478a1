import CLua
import MartletBase
import MartletCluster
import MartletKeyspace
import MartletRESP

/// What a command asks to be run: a compiled function, and what is known of it.
struct ScriptInvocation {
    let lua: Lua
    /// Of the function, in Lua's registry.
    let function: Int32
    /// As messages call it: the digest of a script, the name of a function.
    let name: String
    let flags: ScriptFlags
    /// A script of EVAL: keys and arguments are globals. A function of FCALL gets two tables.
    let isScript: Bool
    /// EVAL_RO and its like.
    let isReadOnly: Bool
    /// Which arguments of the command are keys, and which are for the script.
    let keys: Range<Int>
    let arguments: Range<Int>
}

/// One execution of a script or function, from its call to its reply.
///
/// Lies at a fixed address: the frames on the second stack, and Lua, refer to it.
struct ScriptRun {
    /// Where the node is in this turn of the loop.
    var node: UnsafeMutablePointer<Node>
    let invocation: ScriptInvocation
    /// Only until the function is called: its bytes are gone when the stack is left.
    let request: Request
    /// What was called, for FUNCTION STATS; empty until the stack is left.
    var words: [[UInt8]] = []
    /// Of EVAL or FCALL, for statistics.
    let command: Int
    let caller: ClientPointer
    /// The command, if its caller tracks keys.
    let tracked: QueuedCommand?
    /// It is our primary's stream, which nothing refuses and nobody stops.
    let isOfPrimary: Bool
    /// Writes are refused.
    let isReadOnly: Bool
    let allowsCrossSlot: Bool
    /// That of the keys so far, if there may be only one.
    var slot: HashSlot?
    /// A command that writes was called.
    var isDirty = false
    /// SCRIPT KILL or FUNCTION KILL was given.
    var isKilled = false
    /// What it changes goes to replicas. (set_repl)
    var replicates = true
    /// The log gets what it changed as one unit when it ends; otherwise the unit is that of an EXEC around it.
    let ownsUnit: Bool
    /// Monotonic nanoseconds.
    let startedAt: Int64
    /// When to leave the stack. Monotonic nanoseconds; while it is not suspended, when clients begin to get BUSY.
    var leavesAt: Int64
    /// Keys expire by the time at which it began. Unix milliseconds.
    let now: Int64
    /// How long the caller's reply buffer may become.
    var replyEnd = Int.max
    /// It would become longer: tables that contain themselves make replies without end.
    var isReplyTooLong = false
}

// MARK: - Starting

extension Node {
    /// Runs a script for a client. The reply may come in a later turn: then the client is parked.
    ///
    /// - Parameters:
    ///   - request: valid during the call.
    ///   - command: the index of EVAL, FCALL or one of their like.
    mutating func run(
        _ invocation: ScriptInvocation, _ request: Request, command: Int, _ client: ClientPointer
    ) throws(ReplyError) {
        try requireNoRun()
        if let error = refusal(of: invocation, client) { throw error }
        let isReadOnly =
            invocation.isReadOnly
            || !invocation.flags.contains(.undeclared) && invocation.flags.contains(.noWrites)
        let start = readClock()
        let threshold = Int64(configuration.busyReplyMilliseconds)
        let isOfPrimary = client.pointee.flags.contains(.primary)
        let ownsUnit = !isInPropagationUnit
        if ownsUnit { beginPropagationUnit() }
        let script = scripts.client
        script.pointee.database = client.pointee.database
        script.pointee.flags = [.script, .authenticated]
        script.pointee.flags.formUnion(client.pointee.flags.intersection([.readOnly, .asking, .noTouch, .primary]))
        script.pointee.reply.isRESP3 = false
        scripts.begin(
            ScriptRun(
                node: withUnsafeMutablePointer(to: &self) { $0 }, invocation: invocation, request: request,
                command: command, caller: client,
                tracked: client.pointee.flags.contains(.tracking) ? QueuedCommand(request, command: command) : nil,
                isOfPrimary: isOfPrimary,
                isReadOnly: isReadOnly,
                allowsCrossSlot: !invocation.flags.isDisjoint(with: [.undeclared, .allowCrossSlot]),
                slot: isClustered && !invocation.keys.isEmpty
                    ? HashSlot.of(request[invocation.keys.lowerBound]) : nil,
                ownsUnit: ownsUnit, startedAt: start,
                leavesAt: threshold == 0 || isOfPrimary ? .max : start + min(threshold, 1 << 40) * 1_000_000,
                now: keyspace.now))
        keyspace.isInScript = true
        invocation.lua.pointee.run = UnsafeMutableRawPointer(scripts.run)
        invocation.lua.pointee.fiber = scripts.stack
        let isFinished = continueRun { martlet_fiber_start($0, runScript, $1) }
        if isFinished {
            endRun()
        } else {
            scripts.isSuspended = true
            scripts.run.pointee.words = (0..<request.count).map { Array(request[$0]) }
            setGate(.busy, true)
            park(client, .script)
        }
        // What it changed is in the log, or will be.
        if keyspace.propagation.isOn { keyspace.propagation.replacesCommand = true }
    }

    /// What stands against it before it begins. (scriptPrepareForRun)
    private mutating func refusal(of invocation: ScriptInvocation, _ client: ClientPointer) -> ReplyError? {
        if gates.isEmpty, invocation.flags.contains(.undeclared) { return nil }
        let flags = invocation.flags
        let isStale = gates.contains(.replica) && !configuration.replicaServesStaleData && !isPrimaryLinkUp
        if flags.contains(.undeclared) {
            return isStale
                ? .text("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.") : nil
        }
        if flags.contains(.noCluster), isClustered {
            return .text("ERR Can not run script on cluster, 'no-cluster' flag is set.")
        }
        if isStale, !flags.contains(.allowStale) {
            return .text(
                "MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and 'allow-stale' flag is not set on the script."
            )
        }
        if flags.contains(.noWrites) { return nil }
        let isOfPrimary = client.pointee.flags.contains(.primary)
        if gates.contains(.replica), configuration.isReplicaReadOnly, !isOfPrimary {
            return .text("READONLY Can not run script with write flag on readonly replica")
        }
        if invocation.isReadOnly {
            return .text("ERR Can not execute a script with write flag using *_ro command.")
        }
        if gates.contains(.fewReplicas), !gates.contains(.replica), !hasEnoughReplicas {
            return .text("NOREPLICAS Not enough good replicas to write.")
        }
        return nil
    }

    /// Runs on the second stack until the script ends or leaves. - Returns: whether it ended.
    @inline(__always)
    private mutating func continueRun(
        _ enter: (OpaquePointer, UnsafeMutablePointer<ScriptRun>) -> Int32
    ) -> Bool {
        let (stack, run) = (scripts.stack, scripts.run)
        return withUnsafeMutablePointer(to: &self) { node in
            run.pointee.node = node
            return enter(stack, run) != 0
        }
    }

    private mutating func endRun() {
        let run = scripts.run
        run.pointee.invocation.lua.pointee.run = nil
        keyspace.isInScript = false
        if run.pointee.ownsUnit { endPropagationUnit(run.pointee.caller) }
        scripts.end()
    }
}

/// More than the values of a sensible script make.
private let replyBytesMax = 1 << 30

/// What runs on the second stack. When it is left, no Swift frame but this one is on it.
private func runScript(_ context: UnsafeMutableRawPointer?) {
    let run = context.unsafelyUnwrapped.assumingMemoryBound(to: ScriptRun.self)
    let lua = run.pointee.invocation.lua
    let state = lua.pointee.state.unsafelyUnwrapped
    let isScript = run.pointee.invocation.isScript
    lua.pointee.infallible += 1
    lua_rawgeti(state, LUA_REGISTRYINDEX, lua.pointee.error_handler)
    if isScript {
        lua_rawgeti(state, LUA_REGISTRYINDEX, lua.pointee.globals)
        run.pushArguments(run.pointee.invocation.keys, to: state)
        martlet_lua_raw_set_field(state, -2, "KEYS")
        run.pushArguments(run.pointee.invocation.arguments, to: state)
        martlet_lua_raw_set_field(state, -2, "ARGV")
        state.pop()
        lua_rawgeti(state, LUA_REGISTRYINDEX, run.pointee.invocation.function)
    } else {
        lua_rawgeti(state, LUA_REGISTRYINDEX, run.pointee.invocation.function)
        run.pushArguments(run.pointee.invocation.keys, to: state)
        run.pushArguments(run.pointee.invocation.arguments, to: state)
    }
    let status = martlet_lua_call(lua, isScript ? 0 : 2, 1, isScript ? -2 : -4)
    let client = run.pointee.caller
    let replyStart = client.pointee.reply.count
    run.pointee.replyEnd = replyStart + min(replyBytesMax, Int(lua.pointee.bytes_max))
    if status == 0 { run.reply(state, to: client) } else { run.replyError(state, to: client) }
    if run.pointee.isReplyTooLong { run.refuseReply(client, from: replyStart) }
    run.pointee.node.pointee.silence(client, from: replyStart)
    lua_settop(state, 0)
    martlet_lua_restore(lua)
    // Lua itself would wait until twice as much is in use, and fail before.
    if lua.pointee.bytes > lua.pointee.bytes_max / 2 { lua_gc(state, LUA_GCCOLLECT, 0) }
    lua.pointee.infallible -= 1
}

extension UnsafeMutablePointer<ScriptRun> {
    @inline(__always)
    fileprivate func pushArguments(_ indexes: Range<Int>, to state: OpaquePointer) {
        lua_createtable(state, Int32(truncatingIfNeeded: indexes.count), 0)
        var place: Int32 = 0
        for index in indexes {
            place &+= 1
            state.push(pointee.request[index])
            lua_rawseti(state, -2, place)
        }
    }

    /// Replies with the error on top of the stack, and pops it.
    fileprivate func replyError(_ state: OpaquePointer, to client: ClientPointer) {
        let name = pointee.invocation.name
        guard lua_type(state, -1) == LUA_TTABLE else {
            // Without memory there was no table to be had.
            let text = UnsafeRawBufferPointer(rebasing: state.cString(at: -1).prefix(100))
            fail(.message("ERR Error running script \(name), \(String(bytes: text))"), client)
            return state.pop()
        }
        let isCounted =
            martlet_lua_raw_get_field(state, -1, "ignore_error_stats_update") == LUA_TBOOLEAN
            && lua_toboolean(state, -1) != 0
        state.pop()
        var text =
            martlet_lua_raw_get_field(state, -1, "err") == LUA_TSTRING || lua_isstring(state, -1) != 0
            ? String(bytes: state.cString(at: -1)) : "ERR unknown error"
        let hasLine = martlet_lua_raw_get_field(state, -2, "line") != LUA_TNIL && lua_isstring(state, -1) != 0
        let hasSource = martlet_lua_raw_get_field(state, -3, "source") != LUA_TNIL && lua_isstring(state, -1) != 0
        if hasLine, hasSource {
            text += " script: \(name), on \(String(bytes: state.cString(at: -1)))"
            text += ":\(String(bytes: state.cString(at: -2)))."
        }
        fail(.message(text), client, isCounted: isCounted)
        state.pop(4)
    }
}

// MARK: - Long runs

/// How long a suspended script runs in one turn.
private let sliceNanoseconds: Int64 = 5_000_000

/// Asked by Lua every 1,000 instructions, on the second stack.
let interruptScript: @convention(c) (Lua?) -> Int32 = { lua in
    guard let context = lua.unsafelyUnwrapped.pointee.run else { return Int32(MARTLET_LUA_CONTINUE) }
    let run = context.assumingMemoryBound(to: ScriptRun.self)
    if run.pointee.isKilled {
        Log.warning("Lua script killed by user with SCRIPT KILL.")
        lua.unsafelyUnwrapped.pointee.interrupt_message = killedMessage
        return Int32(MARTLET_LUA_STOP)
    }
    let now = run.pointee.node.pointee.readClock()
    guard now >= run.pointee.leavesAt else { return Int32(MARTLET_LUA_CONTINUE) }
    if !run.pointee.node.pointee.scripts.isSuspended {
        let name = run.pointee.invocation.name
        let command = run.pointee.invocation.isScript ? "SCRIPT KILL" : "FUNCTION KILL"
        Log.warning(
            "Slow script detected: still in execution after \((now - run.pointee.startedAt) / 1_000_000) milliseconds. You can try killing the script using the \(command) command. Script name is: \(name)."
        )
    }
    return Int32(MARTLET_LUA_LEAVE)
}

private nonisolated(unsafe) let killedMessage: UnsafePointer<CChar> = {
    let text: StaticString = "ERR Script killed by user with SCRIPT KILL..."
    return UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
}()

extension Node {
    /// A script has run for long; clients get BUSY, and it goes on in each turn.
    package var isBusy: Bool { gates.contains(.busy) }

    /// The next slice of a suspended script. Called at the end of a turn.
    mutating func continueScript() {
        let run = scripts.run
        let (now, selected) = (keyspace.now, keyspace.selected)
        keyspace.now = run.pointee.now
        run.pointee.leavesAt = readClock() + sliceNanoseconds
        let isFinished = continueRun { stack, _ in martlet_fiber_resume(stack) }
        keyspace.now = now
        keyspace.selected = selected
        guard isFinished else { return }
        let caller = run.pointee.caller
        endRun()
        setGate(.busy, false)
        unpark(caller)
        // A pause may have ended meanwhile, which held our primary's stream back.
        if let primary = replication.primary { executeStream(primary) }
    }

    /// What clients are told while a script is suspended.
    var busyError: ReplyError {
        scripts.run.pointee.invocation.isScript
            ? .text("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.")
            : .text("BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.")
    }

    /// SCRIPT KILL and FUNCTION KILL. (scriptKill)
    mutating func killScript(isScript: Bool) throws(ReplyError) {
        guard scripts.isRunning else { throw .text("NOTBUSY No scripts in execution right now.") }
        let run = scripts.run
        if run.pointee.isOfPrimary {
            throw .text(
                "UNKILLABLE The busy script was sent by a master instance in the context of replication and cannot be killed."
            )
        }
        if run.pointee.isDirty {
            throw .text(
                "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command."
            )
        }
        if isScript != run.pointee.invocation.isScript { throw busyError }
        run.pointee.isKilled = true
    }
}
