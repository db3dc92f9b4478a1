import CLua
import MartletBase
import MartletCluster
import MartletKeyspace
import MartletRESP

// redis.call and redis.pcall: a command of a script.
//
// Its arguments stay on Lua's stack while the command runs, and the command's reply is written by the usual handler into the
// buffer of the engine's own client; from there it becomes Lua values. The checks stand in Redis' order (script.c, scriptCall).

extension OpaquePointer {
    /// - Parameter raises: `call`, not `pcall`.
    @inline(__always)
    func callCommand(raises: Bool) -> Int32 {
        guard let run = ScriptAPI.run(self) else {
            pushError(.text("ERR redis.call/pcall can only be called inside a script invocation"))
            return -1
        }
        return run.pointee.node.pointee.callCommand(self, run, raises: raises)
    }
}

extension Node {
    fileprivate mutating func callCommand(
        _ state: OpaquePointer, _ run: UnsafeMutablePointer<ScriptRun>, raises: Bool
    ) -> Int32 {
        guard let count = takeArguments(state) else { return raises ? -1 : 1 }
        let client = scripts.client
        let index = commandIndex(ofArguments: count)
        var request = Request(arguments: scripts.arguments, count: count)
        if let error = refusal(of: &request, index: index, run) {
            countError(error)
            if index >= 0 { commandStatistics[index].rejectedCalls += 1 }
            lua_settop(state, 0)
            state.pushError(error, isCounted: true)
            return raises ? -1 : 1
        }
        if run.pointee.replicates || !keyspace.propagation.isOn {
            callScripted(request, index: index, client, caller: run.pointee.caller)
        } else {
            // Nothing of it goes into the log, so no key may be deleted on the way because its time is over.
            let expiryMode = keyspace.expiryMode
            keyspace.propagation.isOn = false
            keyspace.expiryMode = .hide
            callScripted(request, index: index, client, caller: run.pointee.caller)
            keyspace.propagation.isOn = true
            keyspace.expiryMode = expiryMode
        }
        if client.isParked { abandonPark(client) }
        lua_settop(state, 0)
        let isError = client.pointee.reply.count > 0 && client.pointee.reply.base[0] == UInt8(ascii: "-")
        martlet_lua_of(state).pointee.work += client.pointee.reply.count
        var reader = ScriptReplyReader(client.pointee.reply.bytes)
        reader.push(to: state)
        client.pointee.reply.removeAll()
        return isError && raises ? -1 : 1
    }

    /// The arguments of a call as views of what is on Lua's stack. - Returns: nil with an error on the stack instead.
    mutating func takeArguments(_ state: OpaquePointer) -> Int? {
        let count = Int(lua_gettop(state))
        guard count > 0 else {
            state.pushError(.text("ERR Please specify at least one argument for this redis lib call"))
            return nil
        }
        scripts.reserveArguments(count)
        for index in 0..<count {
            let place = Int32(truncatingIfNeeded: index &+ 1)
            switch lua_type(state, place) {
            case LUA_TSTRING: scripts.arguments[index] = state.bytes(at: place)
            case LUA_TNUMBER:
                // Lua's own conversion loses precision.
                let text = scripts.numbers + index &* ScriptEngine.numberBytesMax
                let length = formatDouble17(lua_tonumber(state, place), to: text)
                scripts.arguments[index] = UnsafeRawBufferPointer(start: text, count: length)
            default:
                lua_settop(state, 0)
                state.pushError(.text("ERR Lua redis lib command arguments must be strings or integers"))
                return nil
            }
        }
        return count
    }

    /// The index of the command or subcommand that the arguments name; -1 if there is none.
    @inline(__always)
    func commandIndex(ofArguments count: Int) -> Int {
        let index = commands.index(of: scripts.arguments[0])
        guard index >= 0, count > 1, commands.hot[index].isContainer else { return index }
        return commands.subcommandIndex(of: scripts.arguments[1], container: index) ?? -1
    }

    /// Why a command of a script does not run.
    @inline(__always)
    private mutating func refusal(
        of request: inout Request, index: Int, _ run: UnsafeMutablePointer<ScriptRun>
    ) -> ReplyError? {
        guard index >= 0 else { return .text("ERR Unknown Redis command called from script") }
        let command = commands.hot + index
        let arity = Int(command.pointee.arity)
        if arity > 0 ? request.count != arity : request.count < -arity {
            return .text("ERR Wrong number of args calling Redis command from script")
        }
        let flags = command.pointee.flags
        // Who asks another thread would have to wait for the answer.
        if flags.contains(.noScript) && !debugSettings.allowsAnyCommandInScripts || flags.contains(.waits)
            || flags.contains(.runsScript) || command.pointee.data == nil && command.pointee.node == nil
        {
            return .notAllowedFromScript
        }
        let isWrite = flags.contains(.write)
        if run.pointee.isReadOnly, isWrite || flags.contains(.mayReplicate) {
            return .text("ERR Write commands are not allowed from read-only scripts.")
        }
        if !gates.isEmpty, let error = refusal(at: gates, flags, run) { return error }
        if isWrite { run.pointee.isDirty = true }
        let firstKey = Int(command.pointee.firstKey)
        if firstKey > 0, firstKey < request.count {
            request.keyHash = keyspace.hash(request[firstKey])
            if isClustered { request.slot = HashSlot.of(request[firstKey]).rawValue }
        }
        if isClustered || gates.contains(.lockedKeys), let error = misplacement(of: request, index: index, run) {
            return error
        }
        return nil
    }

    /// What the state of the server forbids. A script that has written is not stopped half way.
    @inline(never)
    private mutating func refusal(
        at gates: Gates, _ flags: CommandFlags, _ run: UnsafeMutablePointer<ScriptRun>
    ) -> ReplyError? {
        if gates.contains(.replica), !flags.contains(.stale), !configuration.replicaServesStaleData, !isPrimaryLinkUp {
            return .text("ERR Can not execute the command on a stale replica")
        }
        if !flags.contains(.write) || run.pointee.isDirty || run.pointee.isOfPrimary { return nil }
        if gates.contains(.replica) {
            return configuration.isReplicaReadOnly
                ? .text("READONLY You can't write against a read only replica.") : nil
        }
        if gates.contains(.fewReplicas), !hasEnoughReplicas {
            return .text("NOREPLICAS Not enough good replicas to write.")
        }
        return nil
    }

    /// Keys that are not here, or not those that the script said. (scriptVerifyClusterState)
    @inline(never)
    private mutating func misplacement(
        of request: Request, index: Int, _ run: UnsafeMutablePointer<ScriptRun>
    ) -> ReplyError? {
        if run.pointee.isOfPrimary { return nil }
        if gates.contains(.lockedKeys), touchesLockedKey(request, command: index) {
            return .text("TRYAGAIN The key is on its way to another server")
        }
        guard let place = placement(of: request, commands.hot + index, index: index, scripts.client) else { return nil }
        switch place.decision {
        case .serve: break
        case .downForWrites:
            return .text("ERR Script attempted to execute a write command while the cluster is down and readonly")
        case .down: return .text("ERR Script attempted to execute a command while the cluster is down")
        case .moved, .ask, .tryAgain, .crossSlot, .unbound:
            return .text("ERR Script attempted to access a non local key in a cluster node")
        }
        if run.pointee.allowsCrossSlot { return nil }
        if let slot = run.pointee.slot, slot != place.slot {
            return .text("ERR Script attempted to access keys that do not hash to the same slot")
        }
        run.pointee.slot = place.slot
        return nil
    }
}
