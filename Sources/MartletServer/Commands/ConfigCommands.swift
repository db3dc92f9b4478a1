import MartletBase
import MartletRESP

// CONFIG. A change is worked out on a copy first; what needs the system (listen elsewhere, change the directory) is tried
// by the outside next, which undoes its part if something fails; only then the node takes the copy over.

extension Command {
    static let config = Command(
        "CONFIG", since: "2.0.0", arity: .atLeast(2), complexity: "Depends on subcommand.",
        summary: "A container for server configuration commands",
        subcommands: [configGet, configHelp, configResetStatistics, configRewrite, configSet], run: .container)

    private static let admin: CommandFlags = [.admin, .noScript, .loading, .stale]

    private static let configGet = Command(
        "GET", since: "2.0.0", arity: .atLeast(3), flags: admin,
        arguments: "{parameter}...",
        history: [("7.0.0", "Added the ability to pass multiple pattern parameters in one call")],
        complexity: "O(N) when N is the number of configuration parameters provided",
        summary: "Get the values of configuration parameters",
        run: .node { request, node, client throws(ReplyError) in
            let patterns = (2..<request.count).map { Array(request[$0]) }
            let found = node.configuration.matching(patterns)
            client.pointee.reply.map(found.count)
            for (name, value) in found {
                client.pointee.reply.bulk(name)
                client.pointee.reply.bulk(value)
            }
        })

    private static let configSet = Command(
        "SET", since: "2.0.0", arity: .atLeast(4), flags: admin,
        tips: ["request_policy:all_nodes", "response_policy:all_succeeded"], arguments: "{parameter value}...",
        history: [("7.0.0", "Added the ability to set multiple parameters in one call.")],
        complexity: "O(N) when N is the number of configuration parameters provided",
        summary: "Set configuration parameters to the given values",
        run: .node { request, node, client throws(ReplyError) in
            guard request.count % 2 == 0 else { throw .syntax }
            let pairs = stride(from: 2, to: request.count, by: 2).map { index in
                (name: Array(request[index]), value: Array(request[index + 1]))
            }
            let change = try node.configuration.changed(
                by: pairs, isLoading: node.gates.contains(.loading), isLocalClient: client.pointee.isLocal)
            var new = change.configuration
            if let failure = node.services.applyConfiguration(change.changed, node.configuration, &new) {
                Log.warning(
                    "Failed applying new configuration. Possibly related to new \(failure.name) setting. Restoring previous settings."
                )
                // Undoing may have opened the old listeners anew.
                node.effects.append(.configurationChanged([]))
                throw ConfigurationChange.failure(failure.name, failure.problem)
            }
            node.configure(new, changed: change.changed)
            client.pointee.reply.ok()
        })

    private static let configResetStatistics = Command(
        "RESETSTAT", since: "2.0.0", arity: .exactly(2), flags: admin,
        complexity: "O(1)",
        summary: "Reset the stats returned by INFO",
        run: .node { _, node, client throws(ReplyError) in
            node.resetStatistics()
            client.pointee.reply.ok()
        })

    private static let configRewrite = Command(
        "REWRITE", since: "2.8.0", arity: .exactly(2), flags: admin,
        complexity: "O(1)",
        summary: "Rewrite the configuration file with the in memory configuration",
        run: .node { _, node, client throws(ReplyError) in
            guard !node.processFacts().configurationPath.isEmpty else {
                throw .text("ERR The server is running without a config file")
            }
            if let problem = node.services.rewriteConfiguration(node.configuration, false) {
                Log.warning("CONFIG REWRITE failed: \(problem)")
                throw .message("ERR Rewriting config file: \(problem)")
            }
            Log.warning("CONFIG REWRITE executed with success.")
            client.pointee.reply.ok()
        })

    private static let configHelp = help(
        since: "5.0.0",
        [
            "GET <pattern>", "    Parameters that match the glob-like <pattern>, with their values.",
            "SET <directive> <value>", "    Set the configuration <directive> to <value>.",
            "RESETSTAT", "    Start the counters of INFO again.",
            "REWRITE", "    Write the configuration to its file.",
        ])
}

extension Client {
    /// From this machine, for what `enable-protected-configs local` allows.
    var isLocal: Bool {
        flags.contains(.unixSocket) || address.hasPrefix("127.0.0.1:") || address.hasPrefix("[::1]:")
    }
}
