import MartletBase
import MartletRESP

// MONITOR: clients that are shown every command, in the order in which the commands ran.
//
// A command is shown when it has run, those of a transaction before its EXEC; scripts are shown before the commands that
// they call, which carry `lua` in place of an address. Commands for administrators are not shown, and of passwords only
// `(redacted)`. A replica shows what its primary sends.
//
// While somebody monitors, a gate sends all commands on the dispatcher's slower way, so that nobody pays when there is none.
//
// Source: Redis 7.0 replication.c, replicationFeedMonitors.

extension Command {
    static let monitor = Command(
        "MONITOR", since: "1.0.0", arity: .exactly(1), flags: [.admin, .noScript, .loading, .stale],
        complexity: "", summary: "Listen for all requests received by the server in real time",
        run: .node { _, node, client throws(ReplyError) in
            if !node.mayBlock(client) { throw .text("ERR MONITOR isn't allowed for DENY BLOCKING client") }
            if !client.pointee.flags.isDisjoint(with: [.replica, .monitor]) { return }
            client.pointee.flags.insert(.monitor)
            node.monitors.append(client)
            node.setGate(.monitored, true)
            client.pointee.reply.ok()
        })
}

extension Node {
    mutating func endMonitoring(_ client: ClientPointer) {
        guard client.pointee.flags.contains(.monitor) else { return }
        client.pointee.flags.remove(.monitor)
        monitors.removeAll { $0 == client }
        setGate(.monitored, !monitors.isEmpty)
    }

    /// Shows a command that has run, if it may be shown.
    mutating func showToMonitors(_ request: Request, command index: Int, _ client: ClientPointer) {
        if commands.hot[index].flags.isDisjoint(with: [.admin, .skipMonitor]) {
            feedMonitors(request, command: index, client)
        }
    }

    /// Shows a command. - Parameter isScripts: a script has called it.
    @inline(never)
    mutating func feedMonitors(
        _ request: Request, command index: Int, _ client: ClientPointer, isScripts: Bool = false
    ) {
        if monitors.isEmpty || gates.contains(.loading) { return }
        // The turn began a while ago.
        let passed = max(0, services.monotonicMicroseconds() - time.monotonicMicroseconds)
        let microseconds = time.unixMicroseconds + passed
        let origin =
            isScripts
            ? "lua"
            : client.pointee.flags.contains(.unixSocket)
                ? "unix:\(configuration.unixSocketPath)" : client.pointee.address
        let fraction = String(1_000_000 + microseconds % 1_000_000).dropFirst()
        var line = Array("+\(microseconds / 1_000_000).\(fraction) [\(client.pointee.database) \(origin)]".utf8)
        let secrets = secretArguments(of: request, command: index)
        for argument in 0..<request.count {
            line.append(UInt8(ascii: " "))
            line += secrets.contains(argument) ? Array("\"(redacted)\"".utf8) : quotedArgument(request[argument])
        }
        line += [13, 10]
        for monitor in monitors { line.withUnsafeBytes { deliver($0, to: monitor) } }
    }

    /// Which arguments are passwords, or names that belong to them. (redactClientCommandArgument)
    private func secretArguments(of request: Request, command index: Int) -> Set<Int> {
        switch commands.fullNames[index] {
        case "auth": return Set(1..<request.count)
        case "hello":
            return Set((2..<max(2, request.count)).filter { request.matches($0, "AUTH") }.flatMap { [$0 + 1, $0 + 2] })
        case "migrate":
            var secrets: Set<Int> = []
            for option in 6..<max(6, request.count) {
                if request.matches(option, "KEYS") { break }
                if request.matches(option, "AUTH") { secrets.insert(option + 1) }
                if request.matches(option, "AUTH2") { secrets.formUnion([option + 1, option + 2]) }
            }
            return secrets
        default: return []
        }
    }
}
