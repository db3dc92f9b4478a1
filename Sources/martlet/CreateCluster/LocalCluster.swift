import Glibc
import MartletSystem

// A cluster of server processes on this host, in one folder:
//
//     run/cluster-7000/cluster.conf         the settings, for the next start, stop or status
//     run/cluster-7000/7000/node.conf       what the server is started with
//     run/cluster-7000/7000/server.log      its log, and what it says before it has one
//     run/cluster-7000/7000/server.pid
//     run/cluster-7000/7000/nodes.conf …    the server's own files
//
// The nodes are ordinary daemons: each can be stopped by its pid and started again by hand with its node.conf.

package struct LocalCluster {
    package let settings: ClusterSettings
    /// Absolute and without symbolic links once it exists.
    package let directory: String
    package let progress: Progress

    package init(settings: ClusterSettings, directory: String, progress: Progress) {
        self.settings = settings
        self.directory = Files.canonical(directory)
        self.progress = progress
    }

    /// More than a server needs from its first listener to its pid file, on a busy machine too.
    private static let pidFileSeconds = 3.0
    package static let settingsFileName = "cluster.conf"

    package struct LocalNode {
        package let address: NodeAddress
        package let directory: String
        package var configuration: String { directory + "/node.conf" }
        package var log: String { directory + "/server.log" }
        package var pidFile: String { directory + "/server.pid" }

        /// The node's process, if it runs and is really this node's.
        package var pid: pid_t? {
            NodeProcess.running(
                pidFile: pidFile, configuration: configuration, directory: directory, port: address.port)
        }

        package func failure(_ what: String) -> ToolFailure {
            var text = "node \(address) \(what)\n    its log: \(log)"
            for line in Files.lastLines(of: log, count: 8) { text += "\n    | \(line)" }
            return ToolFailure(text)
        }
    }

    package var nodes: [LocalNode] {
        settings.addresses.map { LocalNode(address: $0, directory: "\(directory)/\($0.port)") }
    }

    package var credentials: Credentials {
        Credentials(user: settings.user, password: settings.effectivePassword)
    }

    // MARK: - start

    package func start(server: String, timeoutSeconds: Double) throws {
        let plan = try ClusterPlan(
            nodes: settings.addresses, replicasPerPrimary: settings.replicas, allowsSinglePrimary: true)
        let deadline = Deadline.after(seconds: timeoutSeconds)
        let stopped = nodes.filter { $0.pid == nil && !isAboutToRun($0) }
        if !stopped.isEmpty { try launch(stopped, server: server, deadline: deadline) }

        var formation = ClusterFormation(
            addresses: settings.addresses, credentials: credentials,
            timeoutSeconds: Double(deadline.remainingMilliseconds) / 1000, progress: progress)
        do {
            _ = try formation.run(plan: plan, confirm: { true })
        } catch let failure as NodeFailure {
            throw explained(failure)
        } catch let refusal as ClusterDiagnosis.Refusal {
            throw explained(refusal.address, "\(refusal)")
        } catch let timeout as ClusterTimeout {
            throw explained(timeout.complaints[0].address, "\(timeout)")
        }
    }

    /// A start that was killed may have left a node that listens already and has yet to write its pid file.
    private func isAboutToRun(_ node: LocalNode) -> Bool {
        let deadline = Deadline.after(seconds: Self.pidFileSeconds)
        while Files.read(node.configuration) != nil, !deadline.hasPassed,
            (try? NodeConnection(to: node.address, deadline: deadline)) != nil
        {
            if node.pid != nil { return true }
            pause(milliseconds: 50)
        }
        return false
    }

    private func launch(_ stopped: [LocalNode], server: String, deadline: Deadline) throws {
        progress.step(
            stopped.count == settings.nodes
                ? "Starting \(stopped.count) nodes of \(server)"
                : "Starting the \(stopped.count) of \(settings.nodes) nodes that do not run")
        for node in stopped { try checkPortIsFree(node, deadline: deadline) }
        try Files.write(settings.fileText, to: "\(directory)/\(Self.settingsFileName)", permissions: 0o600)
        var children: [pid_t] = []
        for node in stopped {
            try Files.makeFolder(node.directory)
            let text = settings.nodeFileText(port: node.address.port, directory: node.directory)
            try Files.write(text, to: node.configuration, permissions: 0o600)
            let child = try NodeProcess.spawn(executable: server, configuration: node.configuration, log: node.log)
            // The server writes the same; until then a stop already finds it.
            try Files.write("\(child)\n", to: node.pidFile)
            children.append(child)
        }
        for (node, child) in zip(stopped, children) {
            try awaitAnswer(node, child, deadline)
            progress.detail("\(node.address) answers (pid \(child))")
        }
        progress.done("\(stopped.count) nodes answer")
    }

    /// Somebody else's server on one of the ports is noticed before the first process is started.
    private func checkPortIsFree(_ node: LocalNode, deadline: Deadline) throws {
        for port in [node.address.port, node.address.port + NodeAddress.busPortOffset] {
            let address = NodeAddress(host: node.address.host, port: port)
            do throws(NodeFailure) {
                _ = try NodeConnection(to: address, deadline: deadline.capped(seconds: 1))
            } catch {
                if case .refused = error { continue }
                throw ToolFailure("node \(node.address) cannot be started: \(error)")
            }
            throw ToolFailure(
                "node \(node.address) cannot be started: another process already listens on \(address)")
        }
    }

    private func awaitAnswer(_ node: LocalNode, _ child: pid_t, _ deadline: Deadline) throws {
        var last = "it never answered"
        while !deadline.hasPassed {
            if let end = NodeProcess.exitDescription(of: child) {
                unlink(node.pidFile)
                throw node.failure("did not start: \(end)")
            }
            do throws(NodeFailure) {
                let connection = try NodeConnection(
                    to: node.address, credentials: credentials, deadline: deadline.capped(seconds: 2))
                try connection.call(["PING"], deadline: deadline.capped(seconds: 2))
                return
            } catch {
                switch error {
                case .reply(_, _, let text) where !text.hasPrefix("LOADING"):
                    throw node.failure("refuses us: \(text)")
                default: last = "\(error)"
                }
            }
            pause(milliseconds: 20)
        }
        throw node.failure("did not answer PING in time: \(last)")
    }

    private func explained(_ failure: NodeFailure) -> ToolFailure {
        switch failure {
        case .refused(let address), .timedOut(let address, _), .closed(let address, _), .system(let address, _),
            .nonsense(let address, _), .reply(let address, _, _):
            explained(address, "\(failure)")
        }
    }

    private func explained(_ address: NodeAddress, _ text: String) -> ToolFailure {
        guard let node = nodes.first(where: { $0.address == address }) else { return ToolFailure(text) }
        return node.failure(
            text.hasPrefix("node \(address) ") ? String(text.dropFirst("node \(address) ".count)) : text)
    }

    // MARK: - stop, clean

    /// Asks every node to end (SIGTERM: what the node's `save` directives promise is saved), kills what does not.
    package func stop(timeoutSeconds: Double) throws {
        let running = nodes.compactMap { node in node.pid.map { (node, $0) } }
        guard !running.isEmpty else {
            progress.note("No node of \(directory) is running.")
            return
        }
        progress.step("Stopping \(running.count) nodes")
        let deadline = Deadline.after(seconds: timeoutSeconds)
        for (_, pid) in running { kill(pid, SIGTERM) }
        var left = running
        while !left.isEmpty, !deadline.hasPassed {
            left.removeAll { hasEnded($0.1) }
            if !left.isEmpty {
                progress.detail("\(left.count) still running")
                pause(milliseconds: 20)
            }
        }
        for (node, pid) in left {
            warn(
                "node \(node.address) (pid \(pid)) did not end within \(Int(timeoutSeconds)) s and is killed; its log: \(node.log)"
            )
            kill(pid, SIGKILL)
        }
        let last = Deadline.after(seconds: 5)
        while left.contains(where: { !hasEnded($0.1) }) {
            guard !last.hasPassed else {
                throw ToolFailure("node \(left[0].0.address) (pid \(left[0].1)) survives even SIGKILL")
            }
            pause(milliseconds: 20)
        }
        for (node, _) in running { unlink(node.pidFile) }
        progress.done("\(running.count) nodes ended")
    }

    private func hasEnded(_ pid: pid_t) -> Bool {
        // Collects it where it is a child of ours (restart).
        _ = NodeProcess.exitDescription(of: pid)
        return !NodeProcess.isAlive(pid)
    }

    /// Removes what start and the servers wrote; anything else in the folders stays and is named.
    package func clean() throws {
        for node in nodes {
            guard let pid = node.pid else { continue }
            throw ToolFailure("node \(node.address) (pid \(pid)) is running: stop the cluster first")
        }
        var foreign: [String] = []
        for node in nodes where FileIO.isDirectory(node.directory) {
            foreign += remove(from: node.directory, isOurs: ownsFile)
        }
        unlink("\(directory)/\(Self.settingsFileName)")
        foreign += Files.names(in: directory).map { "\(directory)/\($0)" }.filter { !FileIO.isDirectory($0) }
        if rmdir(directory) == 0 {
            progress.note("Removed \(directory).")
        } else {
            progress.note("Cleaned \(directory); left what create-cluster did not make:")
            for path in foreign { progress.note("    \(path)") }
        }
    }

    private func ownsFile(_ name: String) -> Bool {
        let database = value(of: "dbfilename") ?? "dump.rdb"
        return ["node.conf", "server.log", "server.pid"].contains { name == $0 || name.hasPrefix($0 + ".tmp-") }
            || [database, "nodes.conf", "temp-"].contains { name.hasPrefix($0) }
    }

    /// Returns what is not ours, with its path.
    private func remove(from folder: String, isOurs: (String) -> Bool) -> [String] {
        var left: [String] = []
        let logFolder = value(of: "appenddirname") ?? "appendonlydir"
        let logName = value(of: "appendfilename") ?? "appendonly.aof"
        for name in Files.names(in: folder) {
            let path = "\(folder)/\(name)"
            if name == logFolder, FileIO.isDirectory(path) {
                left += remove(from: path) { $0.hasPrefix(logName) || $0.hasPrefix("temp-") }
            } else if !isOurs(name) || FileIO.isDirectory(path) || unlink(path) != 0 {
                left.append(path)
            }
        }
        rmdir(folder)
        return left
    }

    private func value(of directive: String) -> String? {
        settings.directives.last { $0.name == directive }?.words?.dropFirst().first
    }

    // MARK: - status

    /// Prints a line per node. Returns whether all are well.
    package func status(timeoutSeconds: Double) throws -> Bool {
        var observations: [NodeObservation] = []
        var rows: [[String]] = [["node", "pid", "role", "slots", "epoch", "keys", "state"]]
        for node in nodes {
            guard let pid = node.pid else {
                rows.append(["\(node.address)", "-", "-", "-", "-", "-", "not running"])
                continue
            }
            do {
                var single = ClusterFormation(
                    addresses: [node.address], credentials: credentials, timeoutSeconds: timeoutSeconds,
                    progress: progress)
                let observation = try single.observeAll()[0]
                observations.append(observation)
                rows.append(Self.row(observation, pid))
            } catch let failure as NodeFailure {
                rows.append(["\(node.address)", "\(pid)", "-", "-", "-", "-", "\(failure)"])
            }
        }
        printTable(rows)
        let complaints = ClusterComplaint.all(observations)
        for complaint in complaints { progress.note("\(complaint)") }
        guard observations.count == settings.nodes, complaints.isEmpty else { return false }
        progress.note("All \(settings.nodes) nodes are well. Logs: \(directory)/PORT/server.log")
        return true
    }

    private static func row(_ node: NodeObservation, _ pid: pid_t) -> [String] {
        let myself = node.view.myself
        let isReplica = myself?.isReplica == true
        let primary = myself?.primaryID.flatMap { node.view.member($0)?.address }
        let slots = (myself?.slots ?? []).map {
            $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)"
        }
        return [
            "\(node.address)", "\(pid)",
            isReplica ? "replica of \(primary.map { "\($0)" } ?? "?")" : "primary",
            slots.isEmpty
                ? "-"
                : slots.count > 3 ? "\(myself!.slotCount) in \(slots.count) ranges" : slots.joined(separator: " "),
            "\(myself?.configEpoch ?? 0)", "\(node.keyCount)",
            node.isStateOK ? (isReplica ? (node.isReplicaInSync ? "ok, in sync" : "not in sync") : "ok") : "fail",
        ]
    }

    private func printTable(_ rows: [[String]]) {
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        for row in rows {
            var line = ""
            for (column, cell) in row.enumerated() {
                line += cell
                if column < row.count - 1 {
                    line += String(repeating: " ", count: widths[column] - cell.count + 2)
                }
            }
            progress.note(line)
        }
    }
}
