import MartletBase
import MartletKeyspace
import MartletRESP

// Functions and the node: libraries that come from clients, from our primary's stream and from images; and calls.

extension Node {
    /// The engine of functions, made when there is a library to load.
    private mutating func functionEngine() -> FunctionEngine {
        if let functions { return functions }
        let engine = FunctionEngine(
            scripts.makeState(
                withDeprecated: configuration.enablesDeprecatedScriptFunctions, seed: keyspace.random.next()))
        functions = engine
        return engine
    }

    var functionLibraries: [FunctionLibrary] { functions?.catalogue.libraries ?? [] }

    /// - Parameter isTimed: a client sent it. - Returns: the library's name.
    @discardableResult
    mutating func loadLibrary(
        _ text: UnsafeRawBufferPointer, replaces: Bool = false, isTimed: Bool = false
    ) throws(FunctionError) -> [UInt8] {
        try functionEngine().load(text, replaces: replaces, until: isTimed ? .init(services) : nil)
    }

    mutating func loadLibrary(_ text: [UInt8], replaces: Bool) throws(FunctionError) {
        var failure: FunctionError?
        text.withUnsafeBytes { text in
            do throws(FunctionError) {
                try loadLibrary(text, replaces: replaces)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
    }

    mutating func restoreLibraries(
        _ payload: UnsafeRawBufferPointer, _ policy: FunctionEngine.RestorePolicy, isTimed: Bool
    ) throws(FunctionError) {
        try functionEngine().restore(payload, policy, until: isTimed ? .init(services) : nil)
    }

    /// What libraries take beside their compiled code.
    var functionLibraryBytes: Int { functions?.catalogue.memoryBytes ?? 0 }
    /// Of the Lua state that their code is in.
    var functionStateBytes: Int { functions?.stateBytes ?? 0 }

    /// FCALL and FCALL_RO. (fcallCommandGeneric)
    mutating func callFunction(
        _ request: Request, isReadOnly: Bool, _ client: ClientPointer
    ) throws(ReplyError) {
        let command = scriptCommand(request, client)
        // Before what it calls.
        if gates.contains(.monitored) { feedMonitors(request, command: command, client) }
        guard let functions, let place = functions.catalogue.index(ofFunction: request[1]) else {
            throw .text("ERR Function not found")
        }
        let keys = try request.scriptKeys(notANumber: .text("ERR Bad number of keys provided"))
        let function = functions.catalogue.functions[place].function
        try run(
            ScriptInvocation(
                lua: functions.lua, function: function.reference, name: function.title, flags: function.flags,
                isScript: false, isReadOnly: isReadOnly, keys: keys,
                arguments: keys.upperBound..<request.count),
            request, command: command, client)
    }

    /// FUNCTION STATS.
    func reportFunctions(_ client: ClientPointer) throws(ReplyError) {
        let run = scripts.isRunning ? scripts.run : nil
        if let run, run.pointee.invocation.isScript { throw busyError }
        client.pointee.reply.map(2)
        client.pointee.reply.bulk("running_script" as StaticString)
        if let run {
            client.pointee.reply.map(3)
            client.pointee.reply.bulk("name" as StaticString)
            client.pointee.reply.bulk(run.pointee.invocation.name)
            client.pointee.reply.bulk("command" as StaticString)
            client.pointee.reply.array(run.pointee.words.count)
            for word in run.pointee.words { client.pointee.reply.bulk(word) }
            client.pointee.reply.bulk("duration_ms" as StaticString)
            client.pointee.reply.integer((services.monotonicNanoseconds() - run.pointee.startedAt) / 1_000_000)
        } else {
            client.pointee.reply.null()
        }
        client.pointee.reply.bulk("engines" as StaticString)
        client.pointee.reply.map(1)
        client.pointee.reply.bulk("LUA" as StaticString)
        client.pointee.reply.map(2)
        client.pointee.reply.bulk("libraries_count" as StaticString)
        client.pointee.reply.integer(functionLibraries.count)
        client.pointee.reply.bulk("functions_count" as StaticString)
        client.pointee.reply.integer(functions?.catalogue.functions.count ?? 0)
    }
}
