import MartletBase
import MartletKeyspace
import MartletRESP

// EVAL and its like, and SCRIPT. How scripts run is told in Scripting/ScriptEngine.swift.

extension CommandFamily {
    static let scripting = CommandFamily(.scripting, [.eval, .evalsha, .evalshaReadOnly, .evalReadOnly, .script])
}

extension Command {
    private static let complexity: StaticString = "Depends on the script that is executed."
    /// Of EVAL, FCALL and their like.
    static let runFlags: CommandFlags = [
        .noScript, .stale, .skipMonitor, .mayReplicate, .noMandatoryKeys, .runsScript,
    ]
    static let readOnlyRunFlags: CommandFlags = [
        .readonly, .noScript, .stale, .skipMonitor, .noMandatoryKeys, .runsScript,
    ]

    static func runKeys(notes: StaticString? = nil) -> [KeySpec] {
        runKeys([.readWrite, .access, .update], notes)
    }

    static func readOnlyRunKeys(notes: StaticString? = nil) -> [KeySpec] { runKeys([.readOnly, .access], notes) }

    private static func runKeys(_ flags: KeySpec.Flags, _ notes: StaticString?) -> [KeySpec] {
        [KeySpec(flags, begin: .index(2), find: .count(index: 0, first: 1, step: 1), notes: notes)]
    }

    static let runKeyNotes: StaticString =
        "We cannot tell how the keys will be used so we assume the worst, RW and UPDATE"
    static let readOnlyRunKeyNotes: StaticString =
        "We cannot tell how the keys will be used so we assume the worst, RO and ACCESS"

    static let eval = Command(
        "EVAL", since: "2.6.0", arity: .atLeast(3), flags: runFlags,
        keys: runKeys(notes: runKeyNotes),
        arguments: "script numkeys:integer [key:key#0...] [arg...]", complexity: complexity,
        summary: "Execute a Lua script server side",
        run: .node { request, node, client throws(ReplyError) in
            try node.evaluate(request, client, isDigest: false, isReadOnly: false)
        })

    static let evalReadOnly = Command(
        "EVAL_RO", since: "7.0.0", arity: .atLeast(3), flags: readOnlyRunFlags,
        keys: readOnlyRunKeys(notes: readOnlyRunKeyNotes),
        arguments: "script numkeys:integer [key:key#0...] [arg...]", complexity: complexity,
        summary: "Execute a read-only Lua script server side",
        run: .node { request, node, client throws(ReplyError) in
            try node.evaluate(request, client, isDigest: false, isReadOnly: true)
        })

    static let evalsha = Command(
        "EVALSHA", since: "2.6.0", arity: .atLeast(3), flags: runFlags, keys: runKeys(),
        arguments: "sha1 numkeys:integer [key:key#0...] [arg...]", complexity: complexity,
        summary: "Execute a Lua script server side",
        run: .node { request, node, client throws(ReplyError) in
            try node.evaluate(request, client, isDigest: true, isReadOnly: false)
        })

    static let evalshaReadOnly = Command(
        "EVALSHA_RO", since: "7.0.0", arity: .atLeast(3), flags: readOnlyRunFlags, keys: readOnlyRunKeys(),
        arguments: "sha1 numkeys:integer [key:key#0...] [arg...]", complexity: complexity,
        summary: "Execute a read-only Lua script server side",
        run: .node { request, node, client throws(ReplyError) in
            try node.evaluate(request, client, isDigest: true, isReadOnly: true)
        })

    // MARK: SCRIPT

    static let script = Command(
        "SCRIPT", since: "2.6.0", arity: .atLeast(2), complexity: "Depends on subcommand.",
        summary: "A container for Lua scripts management commands",
        subcommands: [scriptDebug, scriptExists, scriptFlush, scriptHelp, scriptKill, scriptLoad, scriptShow],
        run: .container)

    private static let scriptDebug = Command(
        "DEBUG", since: "3.2.0", arity: .exactly(3), flags: [.noScript], arguments: "mode=<YES|SYNC|NO>",
        complexity: "O(1)", summary: "Set the debug mode for executed scripts.",
        run: .node { request, _, client throws(ReplyError) in
            if request.matches(2, "NO") { return client.pointee.reply.ok() }
            guard request.matches(2, "YES") || request.matches(2, "SYNC") else {
                throw .text("ERR Use SCRIPT DEBUG YES/SYNC/NO")
            }
            throw .text("ERR SCRIPT DEBUG is not supported: this server has no Lua debugger")
        })

    private static let scriptExists = Command(
        "EXISTS", since: "2.6.0", arity: .atLeast(3), flags: [.noScript],
        tips: ["request_policy:all_shards", "response_policy:agg_logical_and"], arguments: "sha1...",
        complexity: """
            O(N) with N being the number of scripts to check (so checking a single script is an O(1) operation).
            """,
        summary: "Check existence of scripts in the script cache.",
        run: .node { request, node, client throws(ReplyError) in
            client.pointee.reply.array(request.count - 2)
            for index in 2..<request.count {
                var isThere = false
                if let digest = ScriptDigest(hexadecimal: request[index]) {
                    isThere = node.scripts.cache.index(of: digest) != nil
                }
                client.pointee.reply.integer(isThere ? 1 : 0)
            }
        })

    private static let scriptFlush = Command(
        "FLUSH", since: "2.6.0", arity: .atLeast(2), flags: [.noScript],
        tips: ["request_policy:all_nodes", "response_policy:all_succeeded"], arguments: "[async=<ASYNC|SYNC>]",
        complexity: "O(N) with N being the number of scripts in cache",
        summary: "Remove all the scripts from the script cache.",
        run: .node { request, node, client throws(ReplyError) in
            guard
                request.count == 2 || request.count == 3 && (request.matches(2, "SYNC") || request.matches(2, "ASYNC"))
            else { throw .text("ERR SCRIPT FLUSH only support SYNC|ASYNC option") }
            try node.requireNoRun()
            node.scripts.flush()
            client.pointee.reply.ok()
        })

    private static let scriptKill = Command(
        "KILL", since: "2.6.0", arity: .exactly(2), flags: [.noScript, .allowBusy],
        tips: ["request_policy:all_shards", "response_policy:one_succeeded"], complexity: "O(1)",
        summary: "Kill the script currently in execution.",
        run: .node { _, node, client throws(ReplyError) in
            try node.killScript(isScript: true)
            client.pointee.reply.ok()
        })

    private static let scriptLoad = Command(
        "LOAD", since: "2.6.0", arity: .exactly(3), flags: [.noScript, .stale],
        tips: ["request_policy:all_nodes", "response_policy:all_succeeded"], arguments: "script",
        complexity: "O(N) with N being the length in bytes of the script body.",
        summary: "Load the specified Lua script into the script cache.",
        run: .node { request, node, client throws(ReplyError) in
            try node.requireNoRun()
            let index = try node.script(request[2], isLoaded: true)
            client.pointee.reply.bulk(node.scripts.cache[index].name)
        })

    /// Valkey's: the text of a script.
    private static let scriptShow = Command(
        "SHOW", since: "8.0.0", arity: .exactly(3), flags: [.noScript], arguments: "sha1", complexity: "O(1)",
        summary: "Returns the text of a script in the script cache.",
        run: .node { request, node, client throws(ReplyError) in
            guard let digest = ScriptDigest(hexadecimal: request[2]),
                let index = node.scripts.cache.index(of: digest)
            else { throw .noScript }
            client.pointee.reply.bulk(node.scripts.cache[index].body)
        })

    private static let scriptHelp = help(
        since: "5.0.0",
        [
            "DEBUG (YES|SYNC|NO)", "    Set the debug mode for subsequent scripts executed.",
            "EXISTS <sha1> [<sha1> ...]",
            "    Return information about the existence of the scripts in the script cache.",
            "FLUSH [ASYNC|SYNC]", "    Flush the Lua scripts cache. Very dangerous on replicas.",
            "    When called without the optional mode argument, the behavior is determined by the",
            "    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
            "    * ASYNC: Asynchronously flush the scripts cache.",
            "    * SYNC: Synchronously flush the scripts cache.",
            "KILL", "    Kill the currently executing Lua script.",
            "LOAD <script>", "    Load a script into the scripts cache without executing it.",
            "SHOW <sha1>", "    The text of a script in the scripts cache.",
        ])
}

extension ReplyError {
    static let notAllowedFromScript = ReplyError.text("ERR This Redis command is not allowed from script")
    static let noScript = ReplyError.text("NOSCRIPT No matching script. Please use EVAL.")
}

extension Request {
    /// Where the keys of EVAL and FCALL stand, which say their number in front of them.
    ///
    /// - Parameter notANumber: FCALL has a message of its own.
    func scriptKeys(notANumber: ReplyError = .notAnInteger) throws(ReplyError) -> Range<Int> {
        guard let count = parseInt64(self[2]) else { throw notANumber }
        guard count <= self.count - 3 else {
            throw .text("ERR Number of keys can't be greater than number of args")
        }
        guard count >= 0 else { throw .text("ERR Number of keys can't be negative") }
        return 3..<3 + Int(count)
    }
}

extension Node {
    fileprivate mutating func evaluate(
        _ request: Request, _ client: ClientPointer, isDigest: Bool, isReadOnly: Bool
    ) throws(ReplyError) {
        let command = scriptCommand(request, client)
        if gates.contains(.monitored) { feedMonitors(request, command: command, client) }
        let index: Int
        let keys: Range<Int>
        if isDigest {
            guard request[1].count == 40 else { throw .noScript }
            keys = try request.scriptKeys()
            guard let digest = ScriptDigest(hexadecimal: request[1]), let found = scripts.cache.index(of: digest) else {
                throw .noScript
            }
            scripts.cache.touch(found)
            index = found
        } else {
            keys = try request.scriptKeys()
            index = try script(request[1])
        }
        let script = scripts.cache[index]
        try run(
            ScriptInvocation(
                lua: scripts.evaluator.unsafelyUnwrapped, function: script.function, name: script.name,
                flags: script.flags, isScript: true, isReadOnly: isReadOnly, keys: keys,
                arguments: keys.upperBound..<request.count),
            request, command: command, client)
    }

    /// The index of the running command. In an EXEC the client only knows that.
    func scriptCommand(_ request: Request, _ client: ClientPointer) -> Int {
        client.pointee.transaction?.nextCommand == nil
            ? client.pointee.lastCommand : commands.index(of: request[0])
    }

    /// What a command that runs a script may do: as the script's first line says. (evalGetCommandFlags,
    /// fcallGetCommandFlags)
    ///
    /// - Parameter index: of EVAL, EVALSHA, FCALL or one of their like.
    func scriptFlags(of request: Request, command index: Int) -> ScriptFlags {
        guard request.count > 1 else { return .undeclared }
        let text = request[1]
        if commands.fullNames[index].hasPrefix("evalsha") {
            guard let digest = ScriptDigest(hexadecimal: text), let found = scripts.cache.index(of: digest) else {
                return .undeclared
            }
            return scripts.cache.flags(found)
        }
        if commands.fullNames[index].hasPrefix("eval") {
            do throws(ReplyError) { return try Shebang(of: text).flags } catch { return .undeclared }
        }
        guard let functions, let place = functions.catalogue.index(ofFunction: text) else { return .undeclared }
        return functions.catalogue.functions[place].function.flags
    }
}
