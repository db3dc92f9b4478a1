import MartletBase
import MartletPersistence
import MartletRESP

// FUNCTION on a server without a script engine: there are no libraries, and none can be loaded. `redis-cli --cluster
// add-node` copies the functions of a cluster to a new node and gives up when it cannot; where a cluster has none, this
// is enough to join it.

extension CommandFamily {
    static let function = CommandFamily(.scripting, [.function])
}

extension Command {
    static let function = Command(
        "FUNCTION", since: "7.0.0", arity: .atLeast(2), complexity: "Depends on subcommand.",
        summary: "A container for commands about functions.",
        subcommands: [functionDump, functionFlush, functionHelp, functionList, functionRestore], run: .container)

    private static let functionList = Command(
        "LIST", since: "7.0.0", arity: .atLeast(2), flags: [.noScript], tips: ["nondeterministic_output_order"],
        arguments: "[LIBRARYNAME library-name-pattern] [WITHCODE]", complexity: "O(N) with N the functions",
        summary: "Lists libraries.",
        run: .node { request, _, client throws(ReplyError) in
            var index = 2
            while index < request.count {
                if request.matches(index, "WITHCODE") {
                    index += 1
                } else if request.matches(index, "LIBRARYNAME") {
                    guard index + 1 < request.count else { throw .text("ERR library name argument was not given") }
                    index += 2
                } else {
                    throw .message("ERR Unknown argument \(String(bytes: request[index]))")
                }
            }
            client.pointee.reply.array(0)
        })

    private static let functionDump = Command(
        "DUMP", since: "7.0.0", arity: .exactly(2), flags: [.noScript], complexity: "O(N) with N the functions",
        summary: "Returns all libraries in a form for FUNCTION RESTORE.",
        run: .node { _, _, client throws(ReplyError) in
            // No libraries: nothing but the footer.
            var payload = ByteBuffer()
            DumpPayload.appendFooter(to: &payload)
            client.pointee.reply.bulk(payload.bytes)
        })

    private static let functionFlush = Command(
        "FLUSH", since: "7.0.0", arity: .atLeast(2), flags: [.write, .noScript],
        tips: ["request_policy:all_shards", "response_policy:all_succeeded"], arguments: "[async=<ASYNC|SYNC>]",
        complexity: "O(N) with N the functions", summary: "Deletes all libraries.",
        run: .node { request, _, client throws(ReplyError) in
            guard request.count <= 3 else { throw request.unknownSubcommand }
            guard request.count == 2 || request.matches(2, "SYNC") || request.matches(2, "ASYNC") else {
                throw .text("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")
            }
            client.pointee.reply.ok()
        })

    private static let functionRestore = Command(
        "RESTORE", since: "7.0.0", arity: .atLeast(3), flags: [.write, .denyOutOfMemory, .noScript],
        tips: ["request_policy:all_shards", "response_policy:all_succeeded"],
        arguments: "serialized-value [policy=<FLUSH|APPEND|REPLACE>]",
        complexity: "O(N) with N the functions of the payload", summary: "Loads the libraries of a payload.",
        run: .node { request, _, client throws(ReplyError) in
            guard request.count <= 4 else { throw request.unknownSubcommand }
            guard
                request.count == 3 || request.matches(3, "FLUSH") || request.matches(3, "APPEND")
                    || request.matches(3, "REPLACE")
            else {
                throw .text("ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.")
            }
            guard let body = DumpPayload.body(of: request[2]) else {
                throw .text("ERR DUMP payload version or checksum are wrong")
            }
            if let type = body.first {
                throw type == RDBOpcode.function || type == RDBOpcode.functionPreRelease
                    ? .text("ERR Engine 'LUA' not found") : .text("ERR given type is not a function")
            }
            client.pointee.reply.ok()
        })

    private static let functionHelp = help(
        since: "7.0.0",
        [
            "LIST [LIBRARYNAME PATTERN] [WITHCODE]", "    Libraries; this server has none.",
            "DUMP", "    All libraries in a form for RESTORE.",
            "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]", "    Load the libraries of a payload without any.",
            "FLUSH [ASYNC|SYNC]", "    Delete all libraries.",
        ])
}
