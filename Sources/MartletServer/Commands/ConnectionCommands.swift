import MartletBase
import MartletKeyspace
import MartletRESP

// How a client introduces itself: protocol, password, database. There is one user, "default", whose password is
// `requirepass`; without one, everybody may do everything.

extension CommandFamily {
    static let connection = CommandFamily(.connection, [.auth, .client, .echo, .hello, .ping, .quit, .reset, .select])
    /// What cluster clients say about themselves rather than ask of the cluster.
    static let clusterClient = CommandFamily(.cluster, [.asking, .readonly, .readwrite])
}

extension Command {
    static let ping = Command(
        "PING", since: "1.0.0", arity: .atLeast(1), flags: [.fast],
        tips: ["request_policy:all_shards", "response_policy:all_succeeded"], arguments: "[message]",
        complexity: "O(1)",
        summary: "Ping the server",
        run: .node { request, node, client throws(ReplyError) in
            guard request.count <= 2 else { throw .wrongArgumentCount("ping") }
            if client.pointee.flags.contains(.subscriber), !client.pointee.reply.isRESP3 {
                // So that it cannot be taken for anything but what subscribers get.
                client.pointee.reply.array(2)
                client.pointee.reply.bulk("pong")
                if request.count == 1 { client.pointee.reply.bulk("") } else { client.pointee.reply.bulk(request[1]) }
            } else if request.count == 1 {
                client.pointee.reply.simple("PONG")
            } else {
                client.pointee.reply.bulk(request[1])
            }
        })

    static let echo = Command(
        "ECHO", since: "1.0.0", arity: .exactly(2), flags: [.loading, .stale, .fast],
        arguments: "message",
        complexity: "O(1)",
        summary: "Echo the given string",
        run: .node { request, _, client throws(ReplyError) in client.pointee.reply.bulk(request[1]) })

    static let quit = Command(
        "QUIT", since: "1.0.0", arity: .atLeast(1),
        flags: [.noScript, .loading, .stale, .fast, .noAuth, .allowBusy], complexity: "O(1)",
        summary: "Close the connection",
        run: .node { _, _, client throws(ReplyError) in
            client.pointee.reply.ok()
            client.pointee.flags.insert(.closeAfterReply)
        })

    static let auth = Command(
        "AUTH", since: "1.0.0", arity: .atLeast(2),
        flags: [.noScript, .loading, .stale, .fast, .noAuth, .allowBusy],
        arguments: "[username@6.0.0] password",
        history: [("6.0.0", "Added ACL style (username and password).")],
        complexity: "O(N) where N is the number of passwords defined for the user",
        summary: "Authenticate to the server",
        run: .node { request, node, client throws(ReplyError) in
            guard request.count <= 3 else { throw .syntax }
            if request.count == 2, !node.requiresPassword {
                throw .text(
                    """
                    ERR AUTH <password> called without any password configured for the default user. Are you sure \
                    your configuration is correct?
                    """)
            }
            try node.authenticate(
                client, user: request.count == 2 ? StaticString("default").bytes : request[1],
                password: request[request.count - 1])
            client.pointee.reply.ok()
        })

    static let hello = Command(
        "HELLO", since: "6.0.0", arity: .atLeast(1),
        flags: [.noScript, .loading, .stale, .fast, .noAuth, .allowBusy],
        arguments: "[arguments={protover:integer [AUTH {username password}] [SETNAME clientname]}]",
        history: [
            (
                "6.2.0",
                """
                `protover` made optional; when called without arguments the command reports the current connection's \
                context.
                """
            )
        ],
        complexity: "O(1)",
        summary: "Handshake with Redis",
        run: .node { request, node, client throws(ReplyError) in try node.hello(request, client) })

    static let select = Command(
        "SELECT", since: "1.0.0", arity: .exactly(2), flags: [.loading, .stale, .fast],
        arguments: "index:integer",
        complexity: "O(1)",
        summary: "Change the selected database for the current connection",
        run: .node { request, node, client throws(ReplyError) in
            let number = try request.shortInteger(at: 1)
            if node.isClustered, number != 0 { throw .text("ERR SELECT is not allowed in cluster mode") }
            client.pointee.database = try request.database(at: 1, in: node.keyspace)
            client.pointee.reply.ok()
        })

    static let reset = Command(
        "RESET", since: "6.2.0", arity: .exactly(1),
        flags: [.noScript, .loading, .stale, .fast, .noAuth, .allowBusy], complexity: "O(1)",
        summary: "Reset the connection",
        run: .node { _, node, client throws(ReplyError) in
            guard client.pointee.flags.isDisjoint(with: [.replica, .primary]) else {
                throw .text("ERR can only reset normal client connections")
            }
            node.resetConversation(client)
            client.pointee.reply.simple("RESET")
        })

    // MARK: Cluster clients

    static let asking = Command(
        "ASKING", since: "3.0.0", arity: .exactly(1), flags: [.fast], categories: ["connection"], complexity: "O(1)",
        summary: "Sent by cluster clients after an -ASK redirect",
        run: .node { _, node, client throws(ReplyError) in
            try node.requireCluster()
            client.pointee.flags.insert(.asking)
            client.pointee.reply.ok()
        })

    static let readonly = Command(
        "READONLY", since: "3.0.0", arity: .exactly(1), flags: [.loading, .stale, .fast], categories: ["connection"],
        complexity: "O(1)",
        summary: "Enables read queries for a connection to a cluster replica node",
        run: .node { _, node, client throws(ReplyError) in
            try node.requireClusterOrRedirection(client)
            client.pointee.flags.insert(.readOnly)
            client.pointee.reply.ok()
        })

    static let readwrite = Command(
        "READWRITE", since: "3.0.0", arity: .exactly(1), flags: [.loading, .stale, .fast], categories: ["connection"],
        complexity: "O(1)",
        summary: "Disables read queries for a connection to a cluster replica node",
        run: .node { _, node, client throws(ReplyError) in
            try node.requireClusterOrRedirection(client)
            client.pointee.flags.remove(.readOnly)
            client.pointee.reply.ok()
        })
}

extension Node {
    /// Outside of a cluster, too, those that know REDIRECT say whether they want to read here.
    fileprivate func requireClusterOrRedirection(_ client: ClientPointer) throws(ReplyError) {
        if !client.pointee.flags.contains(.followsRedirection) { try requireCluster() }
    }

    /// Where a client that knows REDIRECT finds the primary of a replica outside of a cluster; nil if it may stay. (Valkey
    /// 8.0 server.c, processCommand)
    func redirectToPrimary(_ flags: CommandFlags, _ client: ClientPointer) -> ReplyError? {
        guard !isClustered, let primary = replication.primary else { return nil }
        guard flags.contains(.write) || flags.contains(.readonly) && !client.pointee.flags.contains(.readOnly) else {
            return nil
        }
        return .message("REDIRECT \(primary.host):\(primary.port)")
    }

    // MARK: Passwords

    /// Lets a client in, or throws WRONGPASS.
    func authenticate(
        _ client: ClientPointer, user: UnsafeRawBufferPointer, password: UnsafeRawBufferPointer
    ) throws(ReplyError) {
        let isDefault = user.elementsEqual(StaticString("default").bytes)
        guard isDefault, !requiresPassword || Self.isSame(password, configuration.requirePassword) else {
            throw .text("WRONGPASS invalid username-password pair or user is disabled.")
        }
        client.pointee.user = "default"
        client.pointee.flags.insert(.authenticated)
    }

    /// Takes the same time wherever the first difference is, so that a password cannot be guessed byte by byte.
    private static func isSame(_ given: UnsafeRawBufferPointer, _ expected: [UInt8]) -> Bool {
        var difference: UInt8 = given.count == expected.count ? 0 : 1
        for index in given.indices { difference |= given[index] ^ expected[index % expected.count] }
        return difference == 0
    }

    // MARK: HELLO and RESET

    fileprivate mutating func hello(_ request: Request, _ client: ClientPointer) throws(ReplyError) {
        var version: Int64 = 0
        if request.count >= 2 {
            guard let number = parseInt64(request[1]) else {
                throw .text("ERR Protocol version is not an integer or out of range")
            }
            guard number == 2 || number == 3 else { throw .text("NOPROTO unsupported protocol version") }
            version = number
        }
        var index = 2
        while index < request.count {
            let argumentsLeft = request.count - 1 - index
            if request.matches(index, "AUTH"), argumentsLeft >= 2 {
                try authenticate(client, user: request[index + 1], password: request[index + 2])
                index += 3
            } else if request.matches(index, "SETNAME"), argumentsLeft >= 1 {
                client.pointee.name = try ClientName.checked(request[index + 1])
                index += 2
            } else {
                throw .message("ERR Syntax error in HELLO option '\(ReplyError.quoted(request[index]))'")
            }
        }
        guard client.isAuthenticated else {
            throw .text(
                """
                NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> \
                <pass> option can be used to authenticate the client and select the RESP protocol version at the \
                same time
                """)
        }
        if version != 0 { client.pointee.reply.isRESP3 = version == 3 }
        let isReplica = isReplicaNode
        let mode: StaticString = isClustered ? "cluster" : "standalone"
        func write(_ reply: inout ReplyBuffer) {
            reply.map(7)
            reply.bulk("server")
            reply.bulk("redis")
            reply.bulk("version")
            reply.bulk(Version.redis)
            reply.bulk("proto")
            reply.integer(reply.isRESP3 ? 3 : 2)
            reply.bulk("id")
            reply.integer(Int64(client.pointee.id))
            reply.bulk("mode")
            reply.bulk(mode)
            reply.bulk("role")
            reply.bulk(isReplica ? "replica" : "master")
            reply.bulk("modules")
            reply.array(0)
        }
        write(&client.pointee.reply)
    }

    /// Whether we follow a primary.
    var isReplicaNode: Bool { gates.contains(.replica) }

    /// The client is as it was when it connected; its library is still the same.
    fileprivate mutating func resetConversation(_ client: ClientPointer) {
        endTransaction(client)
        forgetSubscriptions(client)
        endTracking(client)
        endMonitoring(client)
        client.pointee.database = 0
        client.pointee.reply.isRESP3 = false
        client.pointee.user = "default"
        client.pointee.name = []
        client.pointee.flags.subtract([
            .asking, .readOnly, .replyOff, .replySkipNext, .replySkip, .noTouch, .noEvict, .importSource,
            .followsRedirection,
        ])
        if requiresPassword {
            client.pointee.flags.remove(.authenticated)
        } else {
            client.pointee.flags.insert(.authenticated)
        }
    }
}

/// What CLIENT SETNAME and SETINFO take.
enum ClientName {
    /// Printable, without blanks: otherwise CLIENT LIST could not be split into its fields.
    static func isPlain(_ bytes: UnsafeRawBufferPointer) -> Bool { bytes.allSatisfy { $0 >= 0x21 && $0 <= 0x7E } }

    static func checked(_ bytes: UnsafeRawBufferPointer) throws(ReplyError) -> [UInt8] {
        guard isPlain(bytes) else {
            throw .text("ERR Client names cannot contain spaces, newlines or special characters.")
        }
        return Array(bytes)
    }
}
