import MartletBase
import MartletRESP
import MartletReplication

extension CommandFamily {
    static let replication = CommandFamily(.server, [.psync, .replconf, .replicaof, .role, .slaveof, .sync])
    static let replicationWait = CommandFamily(.generic, [.wait])
}

extension Command {
    static let psync = Command(
        "PSYNC", since: "2.8.0", arity: .atLeast(3), flags: [.admin, .noScript, .noAsyncLoading, .noMulti],
        arguments: "replicationid offset:integer",
        complexity: "",
        summary: "Internal command used for replication",
        run: .node { request, node, client throws(ReplyError) in try node.synchronizeReplica(request, client) })

    static let sync = Command(
        "SYNC", since: "1.0.0", arity: .exactly(1), flags: [.admin, .noScript, .noAsyncLoading, .noMulti],
        complexity: "",
        summary: "Internal command used for replication",
        run: .node { request, node, client throws(ReplyError) in try node.synchronizeReplica(request, client) })

    static let replconf = Command(
        "REPLCONF", since: "3.0.0", arity: .atLeast(1), flags: [.admin, .noScript, .loading, .stale, .allowBusy],
        isInternal: true,
        complexity: "O(1)",
        summary: "An internal command for configuring the replication stream",
        run: .node { request, node, client throws(ReplyError) in try node.configureReplica(request, client) })

    static let replicaof = Command(
        "REPLICAOF", since: "5.0.0", arity: .exactly(3), flags: [.admin, .noScript, .stale, .noAsyncLoading],
        arguments: "args=<host-port={host port:integer}|no-one={NO! ONE}>",
        complexity: "O(1)",
        summary: "Make the server a replica of another instance, or promote it as master.",
        run: .node { request, node, client throws(ReplyError) in try node.replicaOf(request, client) })

    static let slaveof = Command(
        "SLAVEOF", since: "1.0.0", arity: .exactly(3), flags: [.admin, .noScript, .stale, .noAsyncLoading],
        arguments: "args=<host-port={host port:integer}|no-one={NO! ONE}>",
        deprecated: ("5.0.0", "`REPLICAOF`"),
        complexity: "O(1)",
        summary: "Make the server a replica of another instance, or promote it as master.",
        run: .node { request, node, client throws(ReplyError) in try node.replicaOf(request, client) })

    static let role = Command(
        "ROLE", since: "2.8.12", arity: .exactly(1), flags: [.noScript, .loading, .stale, .fast],
        categories: ["admin", "dangerous"], complexity: "O(1)",
        summary: "Return the role of the instance in the context of replication",
        run: .node { _, node, client throws(ReplyError) in node.writeRole(to: &client.pointee.reply) })

    static let wait = Command(
        "WAIT", since: "3.0.0", arity: .exactly(3), flags: [.noScript], categories: ["connection", "-keyspace"],
        tips: ["request_policy:all_shards", "response_policy:agg_min"],
        arguments: "numreplicas:integer timeout:integer",
        complexity: "O(1)",
        summary: """
            Wait for the synchronous replication of all the write commands sent in the context of the current \
            connection
            """,
        run: .node { request, node, client throws(ReplyError) in
            guard !node.isFollowing else {
                throw .text(
                    "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured to be writable (which is not the default) writes to replicas are just local and are not propagated."
                )
            }
            guard let count = parseInt64(request[1]) else { throw .notAnInteger }
            guard let timeout = parseInt64(request[2]) else {
                throw .text("ERR timeout is not an integer or out of range")
            }
            guard timeout >= 0 else { throw .text("ERR timeout is negative") }
            let (deadline, isTooLate) = node.time.unixMilliseconds.addingReportingOverflow(timeout)
            guard !isTooLate else { throw .text("ERR timeout is out of range") }
            let acknowledged = node.countAcknowledged(client.pointee.writeOffset)
            // Nobody waits inside of a transaction: the others would see half of it.
            guard acknowledged < count, client.pointee.transaction?.nextCommand == nil else {
                return client.pointee.reply.integer(acknowledged)
            }
            node.park(
                client,
                .replicas(
                    count: Int(count), offset: client.pointee.writeOffset, deadline: timeout == 0 ? 0 : deadline))
            node.replication.wantsAcknowledgements = true
        })
}

extension Node {
    fileprivate mutating func replicaOf(_ request: Request, _ client: ClientPointer) throws(ReplyError) {
        guard !isClustered else { throw .text("ERR REPLICAOF not allowed in cluster mode.") }
        let requester = "user request from 'id=\(client.pointee.id) addr=\(client.pointee.address)'"
        if request.matches(1, "NO"), request.matches(2, "ONE") {
            if isFollowing {
                becomePrimary()
                setReplicaOf(nil)
                Log.notice("MASTER MODE enabled (\(requester))")
            }
            return client.pointee.reply.ok()
        }
        guard !client.pointee.flags.contains(.replica) else {
            throw .text("ERR Command is not valid when client is a replica.")
        }
        guard let port = parseInt64(request[2]), (0...65535).contains(port) else {
            throw .text("ERR Invalid master port")
        }
        let host = String(bytes: request[1])
        guard host.utf8.count <= PrimarySession.addressBytesMax, !host.utf8.contains(0) else {
            throw .text("ERR Invalid master host")
        }
        if let primary = replication.primary, primary.host == host, primary.port == Int(port) {
            Log.notice(
                "REPLICAOF would result into synchronization with the master we are already connected with. No operation performed."
            )
            return client.pointee.reply.simple("OK Already connected to specified master")
        }
        follow(host: host, port: Int(port))
        setReplicaOf(ReplicaOf(host: host, port: Int(port)))
        Log.notice("REPLICAOF \(host):\(port) enabled (\(requester))")
        client.pointee.reply.ok()
    }
}
