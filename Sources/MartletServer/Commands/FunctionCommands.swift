import MartletBase
import MartletKeyspace
import MartletPersistence
import MartletRESP

// FUNCTION: libraries of functions that stay with the data. FCALL calls one of them.
//
// Source: Redis 7.0 functions.c; the mechanism is in Scripting/Functions.

extension CommandFamily {
    static let function = CommandFamily(.scripting, [.function, .fcall, .fcallReadOnly])
}

extension Command {
    static let fcall = Command(
        "FCALL", since: "7.0.0", arity: .atLeast(3), flags: runFlags, keys: runKeys(notes: runKeyNotes),
        arguments: "function numkeys:integer [key]... [arg]...",
        complexity: "Depends on the function that is executed.", summary: "Invoke a function",
        run: .node { request, node, client throws(ReplyError) in
            try node.callFunction(request, isReadOnly: false, client)
        })

    static let fcallReadOnly = Command(
        "FCALL_RO", since: "7.0.0", arity: .atLeast(3), flags: readOnlyRunFlags,
        keys: readOnlyRunKeys(notes: readOnlyRunKeyNotes),
        arguments: "function numkeys:integer [key]... [arg]...",
        complexity: "Depends on the function that is executed.", summary: "Invoke a read-only function",
        run: .node { request, node, client throws(ReplyError) in
            try node.callFunction(request, isReadOnly: true, client)
        })

    static let function = Command(
        "FUNCTION", since: "7.0.0", arity: .atLeast(2), complexity: "Depends on subcommand.",
        summary: "A container for function commands",
        subcommands: [
            .functionLoad, .functionHelp, .functionFlush, .functionDelete, .functionStats, .functionDump, .functionList,
            .functionKill, .functionRestore,
        ],
        run: .container)

    private static let functionLoad = Command(
        "LOAD", since: "7.0.0", arity: .atLeast(3), flags: [.write, .denyOutOfMemory, .noScript],
        tips: ["request_policy:all_shards", "response_policy:all_succeeded"],
        arguments: "[REPLACE] function-code",
        complexity: "O(1) (considering compilation time is redundant)",
        summary: "Create a function with the given arguments (name, code, description)",
        run: .node { request, node, client throws(ReplyError) in
            for index in 2..<(request.count - 1) where !request.matches(index, "REPLACE") {
                throw .message("ERR Unknown option given: \(String(bytes: request[index]))")
            }
            try node.requireNoRun()
            let name: [UInt8]
            do throws(FunctionError) {
                name = try node.loadLibrary(
                    request[request.count - 1], replaces: request.count > 3,
                    isTimed: !client.pointee.flags.contains(.primary))
            } catch {
                throw error.reply
            }
            node.keyspace.changes += 1
            client.pointee.reply.bulk(name)
        })

    private static let functionDelete = Command(
        "DELETE", since: "7.0.0", arity: .exactly(3), flags: [.write, .noScript],
        tips: ["request_policy:all_shards", "response_policy:all_succeeded"], arguments: "library-name",
        complexity: "O(1)", summary: "Delete a function by name",
        run: .node { request, node, client throws(ReplyError) in
            try node.requireNoRun()
            guard node.functions?.delete(request[2]) ?? false else { throw .text("ERR Library not found") }
            node.keyspace.changes += 1
            client.pointee.reply.ok()
        })

    private static let functionFlush = Command(
        "FLUSH", since: "7.0.0", arity: .atLeast(2), flags: [.write, .noScript],
        tips: ["request_policy:all_shards", "response_policy:all_succeeded"], arguments: "[async=<ASYNC|SYNC>]",
        complexity: "O(N) where N is the number of functions deleted", summary: "Deleting all functions",
        run: .node { request, node, client throws(ReplyError) in
            guard request.count <= 3 else { throw request.unknownSubcommand }
            guard request.count == 2 || request.matches(2, "SYNC") || request.matches(2, "ASYNC") else {
                throw .text("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")
            }
            try node.requireNoRun()
            node.functions = nil
            node.keyspace.changes += 1
            client.pointee.reply.ok()
        })

    private static let functionList = Command(
        "LIST", since: "7.0.0", arity: .atLeast(2), flags: [.noScript], tips: ["nondeterministic_output_order"],
        arguments: "[LIBRARYNAME library-name-pattern] [WITHCODE]",
        complexity: "O(N) where N is the number of functions", summary: "List information about all the functions",
        run: .node { request, node, client throws(ReplyError) in
            var hasCode = false
            var pattern: UnsafeRawBufferPointer?
            var index = 2
            while index < request.count {
                if !hasCode, request.matches(index, "WITHCODE") {
                    hasCode = true
                } else if pattern == nil, request.matches(index, "LIBRARYNAME") {
                    guard index + 1 < request.count else { throw .text("ERR library name argument was not given") }
                    index += 1
                    pattern = request[index]
                } else {
                    throw .message("ERR Unknown argument \(String(bytes: request[index]))")
                }
                index += 1
            }
            var libraries = node.functionLibraries
            if let pattern {
                libraries.removeAll { library in
                    !library.name.withUnsafeBytes { globMatches(pattern: pattern, text: $0, ignoringCase: true) }
                }
            }
            client.pointee.reply.array(libraries.count)
            for library in libraries { client.pointee.reply.append(library, withCode: hasCode) }
        })

    private static let functionStats = Command(
        "STATS", since: "7.0.0", arity: .exactly(2), flags: [.noScript, .allowBusy],
        tips: ["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        complexity: "O(1)",
        summary: "Return information about the function currently running (name, description, duration)",
        run: .node { request, node, client throws(ReplyError) in try node.reportFunctions(client) })

    private static let functionKill = Command(
        "KILL", since: "7.0.0", arity: .exactly(2), flags: [.noScript, .allowBusy],
        tips: ["request_policy:all_shards", "response_policy:one_succeeded"],
        complexity: "O(1)", summary: "Kill the function currently in execution.",
        run: .node { request, node, client throws(ReplyError) in
            try node.killScript(isScript: false)
            client.pointee.reply.ok()
        })

    private static let functionDump = Command(
        "DUMP", since: "7.0.0", arity: .exactly(2), flags: [.noScript],
        complexity: "O(N) where N is the number of functions",
        summary: "Dump all functions into a serialized binary payload",
        run: .node { request, node, client throws(ReplyError) in
            var encoder = RDBEncoder()
            encoder.appendDump(libraries: node.functionLibraries.map(\.code))
            client.pointee.reply.bulk(encoder.output.bytes)
        })

    private static let functionRestore = Command(
        "RESTORE", since: "7.0.0", arity: .atLeast(3), flags: [.write, .denyOutOfMemory, .noScript],
        tips: ["request_policy:all_shards", "response_policy:all_succeeded"],
        arguments: "serialized-value [policy=<FLUSH|APPEND|REPLACE>]",
        complexity: "O(N) where N is the number of functions on the payload",
        summary: "Restore all the functions on the given payload",
        run: .node { request, node, client throws(ReplyError) in
            guard request.count <= 4 else { throw request.unknownSubcommand }
            var policy = FunctionEngine.RestorePolicy.append
            if request.count == 4 {
                if request.matches(3, "APPEND") {
                    policy = .append
                } else if request.matches(3, "REPLACE") {
                    policy = .replace
                } else if request.matches(3, "FLUSH") {
                    policy = .flush
                } else {
                    throw .text("ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.")
                }
            }
            try node.requireNoRun()
            do throws(FunctionError) {
                try node.restoreLibraries(
                    request[2], policy, isTimed: !client.pointee.flags.contains(.primary))
            } catch {
                throw error.reply
            }
            node.keyspace.changes += 1
            client.pointee.reply.ok()
        })

    private static let functionHelp = Command(
        "HELP", since: "7.0.0", arity: .exactly(2), flags: [.loading, .stale], complexity: "O(1)",
        summary: "Show helpful text about the different subcommands",
        run: .node { request, _, client throws(ReplyError) in client.pointee.reply.help(request, helpLines) })

    private static let helpLines: [StaticString] = [
        "LOAD [REPLACE] <FUNCTION CODE>",
        "    Create a new library with the given library name and code.",
        "DELETE <LIBRARY NAME>",
        "    Delete the given library.",
        "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
        "    Return general information on all the libraries:",
        "    * Library name",
        "    * The engine used to run the Library",
        "    * Library description",
        "    * Functions list",
        "    * Library code (if WITHCODE is given)",
        "    It also possible to get only function that matches a pattern using LIBRARYNAME argument.",
        "STATS",
        "    Return information about the current function running:",
        "    * Function name",
        "    * Command used to run the function",
        "    * Duration in MS that the function is running",
        "    If no function is running, return nil",
        "    In addition, returns a list of available engines.",
        "KILL",
        "    Kill the current running function.",
        "FLUSH [ASYNC|SYNC]",
        "    Delete all the libraries.",
        "    When called without the optional mode argument, the behavior is determined by the",
        "    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
        "    * ASYNC: Asynchronously flush the libraries.",
        "    * SYNC: Synchronously flush the libraries.",
        "DUMP",
        """
            Return a serialized payload representing the current libraries, can be restored using FUNCTION RESTORE \
        command
        """,
        "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
        "    Restore the libraries represented by the given payload, it is possible to give a restore policy to",
        "    control how to handle existing libraries (default APPEND):",
        "    * FLUSH: delete all existing libraries.",
        "    * APPEND: appends the restored libraries to the existing libraries. On collision, abort.",
        "    * REPLACE: appends the restored libraries to the existing libraries, On collision, replace the old",
        "      libraries with the new libraries (notice that even on this option there is a chance of failure",
        "      in case of functions name collision with another library).",
    ]
}

extension ReplyBuffer {
    /// One element of FUNCTION LIST.
    fileprivate mutating func append(_ library: FunctionLibrary, withCode: Bool) {
        map(withCode ? 4 : 3)
        bulk("library_name" as StaticString)
        bulk(library.name)
        bulk("engine" as StaticString)
        bulk("LUA" as StaticString)
        bulk("functions" as StaticString)
        array(library.functions.count)
        for function in library.functions {
            map(3)
            bulk("name" as StaticString)
            bulk(function.name)
            bulk("description" as StaticString)
            if let description = function.description { bulk(description) } else { null() }
            bulk("flags" as StaticString)
            let flags = ScriptFlags.names.filter { function.flags.contains($0.0) }
            set(flags.count)
            for (_, name) in flags { simple(name) }
        }
        guard withCode else { return }
        bulk("library_code" as StaticString)
        bulk(library.code)
    }
}
