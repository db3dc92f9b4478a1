import MartletBase
import MartletKeyspace
import MartletRESP

// CLIENT: what connections there are, and what to do with them.

extension Command {
    static let client = Command(
        "CLIENT", since: "2.4.0", arity: .atLeast(2), complexity: "Depends on subcommand.",
        summary: "A container for client connection commands",
        subcommands: [
            clientCaching, clientCapability, clientGetName, clientGetRedirection, clientHelp, clientID,
            clientImportSource, clientInfo, clientKill, clientList, clientNoEvict, clientNoTouch, clientPause,
            clientReply, clientSetInfo, clientSetName, clientTracking, clientTrackingInfo, clientUnblock,
            clientUnpause,
        ], run: .container)

    /// Flags of the subcommands that everybody may use, and of those for administrators.
    private static let common: CommandFlags = [.noScript, .loading, .stale]
    private static let admin: CommandFlags = [.admin, .noScript, .loading, .stale]

    private static let clientID = Command(
        "ID", since: "5.0.0", arity: .exactly(2), flags: common, complexity: "O(1)",
        summary: "Returns the client ID for the current connection",
        run: .node { _, _, client throws(ReplyError) in client.pointee.reply.integer(Int64(client.pointee.id)) })

    private static let clientInfo = Command(
        "INFO", since: "6.2.0", arity: .exactly(2), flags: common,
        tips: ["nondeterministic_output"],
        complexity: "O(1)",
        summary: "Returns information about the current client connection.",
        run: .node { request, node, client throws(ReplyError) in
            client.pointee.reply.verbatim(node.description(of: client, running: request) + "\n")
        })

    private static let clientList = Command(
        "LIST", since: "2.4.0", arity: .atLeast(2), flags: admin,
        tips: ["nondeterministic_output"],
        arguments: "[TYPE <NORMAL|MASTER|REPLICA|PUBSUB>@5.0.0] [ID id={client-id:integer...}@6.2.0]",
        history: [
            ("2.8.12", "Added unique client `id` field."),
            ("5.0.0", "Added optional `TYPE` filter."),
            ("6.0.0", "Added `user` field."),
            ("6.2.0", "Added `argv-mem`, `tot-mem`, `laddr` and `redir` fields and the optional `ID` filter."),
            ("7.0.0", "Added `resp`, `multi-mem`, `rbs` and `rbp` fields."),
            ("7.0.3", "Added `ssub` field."),
        ],
        complexity: "O(N) where N is the number of client connections",
        summary: "Get the list of client connections",
        run: .node { request, node, client throws(ReplyError) in
            var chosen: [ClientPointer] = []
            if request.matchesOptional(2, "ID"), (3..<request.count).allSatisfy({ parseInt64(request[$0]) != nil }) {
                // In the order in which they are asked for. (Redis 7.0)
                guard request.count > 3 else { throw .syntax }
                for index in 3..<request.count {
                    if let id = parseInt64(request[index]), let found = node.client(withID: id) { chosen.append(found) }
                }
            } else {
                let filter = try ClientFilter(
                    request, databaseCount: node.keyspace.databaseCount, sparesCaller: false)
                let now = node.time.unixMilliseconds
                chosen = node.clients.filter { filter.includes($0, in: node, caller: client, now: now) }
                chosen.sort { $0.pointee.id < $1.pointee.id }
            }
            var text = ""
            for other in chosen {
                text += node.description(of: other, running: other == client ? request : nil) + "\n"
            }
            client.pointee.reply.verbatim(text)
        })

    private static let clientGetName = Command(
        "GETNAME", since: "2.6.9", arity: .exactly(2), flags: common, complexity: "O(1)",
        summary: "Get the current connection name",
        run: .node { _, _, client throws(ReplyError) in
            let name = client.pointee.name
            if name.isEmpty { client.pointee.reply.null() } else { client.pointee.reply.bulk(name) }
        })

    private static let clientSetName = Command(
        "SETNAME", since: "2.6.9", arity: .exactly(3), flags: common,
        arguments: "connection-name",
        complexity: "O(1)",
        summary: "Set the current connection name",
        run: .node { request, _, client throws(ReplyError) in
            client.pointee.name = try ClientName.checked(request[2])
            client.pointee.reply.ok()
        })

    private static let clientSetInfo = Command(
        "SETINFO", since: "7.2.0", arity: .exactly(4), flags: common,
        tips: ["request_policy:all_nodes", "response_policy:all_succeeded"],
        arguments: "<LIB-NAME libname|LIB-VER libver>", complexity: "O(1)",
        summary: "Says which library the connection belongs to.",
        run: .node { request, _, client throws(ReplyError) in
            let isName = request.matches(2, "LIB-NAME")
            guard isName || request.matches(2, "LIB-VER") else {
                throw .message("ERR Unrecognized option '\(ReplyError.quoted(request[2]))'")
            }
            guard ClientName.isPlain(request[3]) else {
                throw .message(
                    "ERR \(String(bytes: request[2])) cannot contain spaces, newlines or special characters.")
            }
            if isName {
                client.pointee.libraryName = Array(request[3])
            } else {
                client.pointee.libraryVersion = Array(request[3])
            }
            client.pointee.reply.ok()
        })

    private static let clientKill = Command(
        "KILL", since: "2.4.0", arity: .atLeast(3), flags: admin,
        arguments: """
            filter=<ip:port@-2.8.12|new-format=<[ID client-id:integer@2.8.12]|\
            [TYPE normal_master_slave_pubsub=<NORMAL|MASTER@3.2.0|SLAVE|REPLICA@5.0.0|PUBSUB>@2.8.12]|[USER username]|\
            [ADDR ip:port]|[LADDR ip:port@6.2.0]|[SKIPME yes/no]>...>
            """,
        history: [
            ("2.8.12", "Added new filter format."),
            ("2.8.12", "`ID` option."),
            ("3.2.0", "Added `master` type in for `TYPE` option."),
            ("5.0.0", "Replaced `slave` `TYPE` with `replica`. `slave` still supported for backward compatibility."),
            ("6.2.0", "`LADDR` option."),
        ],
        complexity: "O(N) where N is the number of client connections",
        summary: "Kill the connection of a client",
        run: .node { request, node, client throws(ReplyError) in
            let isOldForm = request.count == 3
            let filter =
                isOldForm
                ? ClientFilter(address: request[2])
                : try ClientFilter(request, databaseCount: node.keyspace.databaseCount, sparesCaller: true)
            let count = node.kill(filter, by: client)
            guard isOldForm else { return client.pointee.reply.integer(count) }
            if count == 0 { throw .text("ERR No such client") }
            client.pointee.reply.ok()
        })

    private static let clientPause = Command(
        "PAUSE", since: "2.9.50", arity: .atLeast(3), flags: admin,
        arguments: "timeout:integer [mode=<WRITE|ALL>@6.2.0]",
        history: [("6.2.0", "`CLIENT PAUSE WRITE` mode added along with the `mode` option.")],
        complexity: "O(1)",
        summary: "Stop processing commands from clients for some time",
        run: .node { request, node, client throws(ReplyError) in
            guard request.count <= 4 else { throw request.unknownSubcommand }
            var holdsAll = true
            if request.count == 4 {
                guard request.matches(3, "WRITE") || request.matches(3, "ALL") else {
                    throw .text("ERR CLIENT PAUSE mode must be WRITE or ALL")
                }
                holdsAll = request.matches(3, "ALL")
            }
            guard let milliseconds = parseInt64(request[2]) else {
                throw .text("ERR timeout is not an integer or out of range")
            }
            guard milliseconds >= 0 else { throw .text("ERR timeout is negative") }
            // 0 has passed already. Ends beyond what 64 bits hold are as good as never.
            let (end, overflows) = node.time.unixMilliseconds.addingReportingOverflow(milliseconds)
            if milliseconds > 0 { node.pause(.client, until: overflows ? .max : end, all: holdsAll) }
            client.pointee.reply.ok()
        })

    private static let clientUnpause = Command(
        "UNPAUSE", since: "6.2.0", arity: .exactly(2), flags: admin,
        complexity: "O(N) Where N is the number of paused clients",
        summary: "Resume processing of clients that were paused",
        run: .node { _, node, client throws(ReplyError) in
            node.resume(.client)
            client.pointee.reply.ok()
        })

    private static let clientReply = Command(
        "REPLY", since: "3.2.0", arity: .exactly(3), flags: common,
        arguments: "<ON|OFF|SKIP>",
        complexity: "O(1)",
        summary: "Instruct the server whether to reply to commands",
        run: .node { request, _, client throws(ReplyError) in
            if request.matches(2, "ON") {
                client.pointee.flags.subtract([.replyOff, .replySkip, .replySkipNext])
                client.pointee.reply.ok()
            } else if request.matches(2, "OFF") {
                client.pointee.flags.insert(.replyOff)
            } else if request.matches(2, "SKIP") {
                if !client.pointee.flags.contains(.replyOff) { client.pointee.flags.insert(.replySkipNext) }
            } else {
                throw .syntax
            }
        })

    private static let clientNoEvict = Command(
        "NO-EVICT", since: "7.0.0", arity: .exactly(3), flags: admin,
        arguments: "enabled=<ON|OFF>",
        complexity: "O(1)",
        summary: "Set client eviction mode for the current connection",
        run: .node { request, _, client throws(ReplyError) in
            try client.pointee.setFlag(.noEvict, onOrOff: request, at: 2)
        })

    private static let clientNoTouch = Command(
        "NO-TOUCH", since: "7.2.0", arity: .exactly(3), flags: common, arguments: "<ON|OFF>", complexity: "O(1)",
        summary: "Keeps the connection's reads from counting as use of a key.",
        run: .node { request, _, client throws(ReplyError) in
            try client.pointee.setFlag(.noTouch, onOrOff: request, at: 2)
        })

    private static let clientUnblock = Command(
        "UNBLOCK", since: "5.0.0", arity: .atLeast(3), flags: admin,
        arguments: "client-id:integer [<TIMEOUT|ERROR>]",
        complexity: "O(log N) where N is the number of client connections",
        summary: "Unblock a client blocked in a blocking command from a different connection",
        run: .node { request, node, client throws(ReplyError) in
            guard request.count <= 4 else { throw request.unknownSubcommand }
            var isError = false
            if request.count == 4 {
                guard request.matches(3, "TIMEOUT") || request.matches(3, "ERROR") else {
                    throw .text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
                }
                isError = request.matches(3, "ERROR")
            }
            guard let id = parseInt64(request[2]) else { throw .notAnInteger }
            client.pointee.reply.integer(node.unblock(clientWithID: id, withError: isError) ? 1 : 0)
        })

    private static let clientCapability = Command(
        "CAPA", since: "8.0.0", arity: .atLeast(3), flags: common, arguments: "capability...", complexity: "O(1)",
        summary: "Says what the connection's library can do.",
        run: .node { request, _, client throws(ReplyError) in
            for index in 2..<request.count where request.matches(index, "REDIRECT") {
                client.pointee.flags.insert(.followsRedirection)
            }
            client.pointee.reply.ok()
        })

    private static let clientImportSource = Command(
        "IMPORT-SOURCE", since: "8.1.0", arity: .exactly(3), flags: common, arguments: "enabled=<ON|OFF>",
        complexity: "O(1)",
        summary: "Says that the connection imports data, in which keys do not expire.",
        run: .node { request, node, client throws(ReplyError) in
            if !node.configuration.isImporting, !request.matches(2, "OFF") {
                throw .text("ERR Server is not in import mode")
            }
            try client.pointee.setFlag(.importSource, onOrOff: request, at: 2)
        })

    private static let clientHelp = help(
        since: "5.0.0",
        [
            "CACHING (YES|NO)", "    Track the keys of the next command, or not, in OPTIN or OPTOUT mode.",
            "CAPA <option> [<option> [...]]", "    Say what this connection's library can do:",
            "    * REDIRECT", "      Follow a replica's word to its primary.",
            "GETREDIR", "    The connection that is told of changed keys in place of this one.",
            "GETNAME", "    The name of this connection.",
            "ID", "    The number of this connection.",
            "INFO", "    A line that describes this connection.",
            "KILL <ip:port>", "    Close the connection from that address.",
            "KILL <option> <value> [<option> <value> [...]]", "    Close connections. Options are:",
            "    * ADDR (<ip:port>|<unixsocket>:0)", "      From that address.",
            "    * LADDR (<ip:port>|<unixsocket>:0)", "      To that address of this server.",
            "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)", "      Of that type.",
            "    * USER <username>", "      Authenticated as that user.",
            "    * ID <client-id>", "      With that number.",
            "    * MAXAGE <seconds>", "      At least that old.",
            "    * IDLE <seconds>", "      Silent for at least that long.",
            "    * NAME <name>, LIB-NAME <name>, LIB-VER <version>", "      Of that name, library or its version.",
            "    * FLAGS <letters>", "      With all these flags of CLIENT LIST.",
            "    * DB <index>, CAPA <letters>, IP <address>",
            "      With that database selected, those capabilities, from that address without a port.",
            "    * NOT-<option>, of all but MAXAGE and IDLE", "      Of which that does not hold.",
            "    * SKIPME (YES|NO)", "      Whether to spare this connection (default: yes).",
            "LIST [options ...]", "    Lines that describe connections. Options:",
            "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)", "      Of that type.",
            "    * ID <client-id> [<client-id> ...]", "      With those numbers.",
            "    * Those of KILL; SKIPME is no by default.",
            "UNPAUSE", "    End a pause.",
            "PAUSE <timeout> [WRITE|ALL]", "    Hold back all commands, or only writes, for <timeout> milliseconds.",
            "REPLY (ON|OFF|SKIP)", "    Whether this connection gets replies.",
            "SETNAME <name>", "    Name this connection.",
            "SETINFO (LIB-NAME|LIB-VER) <value>", "    Say which library uses this connection.",
            "UNBLOCK <clientid> [TIMEOUT|ERROR]", "    End the wait of a connection.",
            "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]", "         [OPTIN] [OPTOUT] [NOLOOP]",
            "    Whether this connection is told when keys change that it has read.",
            "TRACKINGINFO", "    How this connection tracks keys.",
            "IMPORT-SOURCE (ON|OFF)", "    Whether keys expire for this connection while the server imports data.",
            "NO-EVICT (ON|OFF)", "    Keep this connection open when clients use too much memory.",
            "NO-TOUCH (ON|OFF)", "    Whether reads of this connection count as use of a key.",
        ])
}

// MARK: Help

extension Command {
    /// The HELP subcommand of a container.
    static func help(
        since: StaticString, flags: CommandFlags = [.loading, .stale], categories: [StaticString] = [],
        _ lines: [StaticString]
    ) -> Command {
        Command(
            "HELP", since: since, arity: .exactly(2), flags: flags, categories: categories, complexity: "O(1)",
            summary: "Show helpful text about the different subcommands",
            run: .node { request, _, client throws(ReplyError) in
                client.pointee.reply.help(request, lines)
            })
    }
}

extension Request {
    func matchesOptional(_ index: Int, _ word: StaticString) -> Bool { index < count && matches(index, word) }
}

extension Client {
    fileprivate mutating func setFlag(_ flag: Flags, onOrOff request: Request, at index: Int) throws(ReplyError) {
        if request.matches(index, "ON") {
            flags.insert(flag)
        } else if request.matches(index, "OFF") {
            flags.remove(flag)
        } else {
            throw .syntax
        }
        reply.ok()
    }
}

// MARK: Choosing clients

/// (CLIENT_TYPE_*)
enum ClientType {
    case normal, replica, pubsub, primary

    init(of client: ClientPointer) {
        if client.pointee.flags.contains(.primary) {
            self = .primary
        } else if client.pointee.flags.contains(.replica) {
            self = .replica
        } else if client.pointee.flags.contains(.subscriber) {
            self = .pubsub
        } else {
            self = .normal
        }
    }

    static func named(_ name: UnsafeRawBufferPointer) throws(ReplyError) -> ClientType {
        if name.equalsIgnoringCase("NORMAL") { return .normal }
        if name.equalsIgnoringCase("SLAVE") || name.equalsIgnoringCase("REPLICA") { return .replica }
        if name.equalsIgnoringCase("PUBSUB") { return .pubsub }
        if name.equalsIgnoringCase("MASTER") || name.equalsIgnoringCase("PRIMARY") { return .primary }
        throw .message("ERR Unknown client type '\(ReplyError.quoted(name))'")
    }
}

/// Whom CLIENT KILL closes, and CLIENT LIST tells of: those of whom all conditions hold.
///
/// Source: Redis 7.0 networking.c, clientCommand; conditions that it does not have, and their opposites: Valkey 9.1.
struct ClientFilter {
    private enum Condition {
        case ids(Set<UInt64>)
        case type(ClientType)
        case address(String)
        case localAddress(String)
        /// The address without its port.
        case host(String)
        case user(String)
        case name([UInt8])
        case libraryName([UInt8])
        case libraryVersion([UInt8])
        /// Of each of these letters.
        case flags(String)
        case database(Int)
        /// Has all of them: `r` is the only one that there is.
        case capabilities(String)
        /// Seconds, at least.
        case idle(Int64)
        case age(Int64)
    }

    /// By the name of the option: if one is given again, the last counts.
    private var wanted: [String: Condition] = [:]
    private var unwanted: [String: Condition] = [:]
    private var sparesCaller: Bool

    private static let flagLetters = "ABEIMNOPRSTUbcdeirtux"
    private static let capabilityLetters = "r"

    /// `CLIENT KILL ip:port`, which may close the caller itself.
    init(address: UnsafeRawBufferPointer) {
        wanted["ADDR"] = .address(String(bytes: address))
        sparesCaller = false
    }

    /// - Parameter sparesCaller: unless the request says otherwise.
    init(_ request: Request, databaseCount: Int, sparesCaller: Bool) throws(ReplyError) {
        self.sparesCaller = sparesCaller
        var index = 2
        while index < request.count {
            let option = String(bytes: request[index]).uppercased()
            let isUnwanted = option.hasPrefix("NOT-")
            let name = isUnwanted ? String(option.dropFirst(4)) : option
            index += 1
            guard index < request.count else { throw .syntax }
            if name == "ID" {
                // As many as there are numbers; named again, it adds to them.
                var ids = try Self.ids(request, &index)
                let given = isUnwanted ? unwanted[name] : wanted[name]
                if case .ids(let others)? = given { ids.formUnion(others) }
                if isUnwanted { unwanted[name] = .ids(ids) } else { wanted[name] = .ids(ids) }
                continue
            }
            let value = request[index]
            index += 1
            if isUnwanted {
                guard name != "IDLE", name != "MAXAGE" else { throw .syntax }
                unwanted[name] = try Self.condition(name, value, isUnwanted: true, databaseCount)
            } else if name == "SKIPME" {
                guard value.equalsIgnoringCase("YES") || value.equalsIgnoringCase("NO") else { throw .syntax }
                self.sparesCaller = value.equalsIgnoringCase("YES")
            } else {
                wanted[name] = try Self.condition(name, value, isUnwanted: false, databaseCount)
            }
        }
    }

    private static func ids(_ request: Request, _ index: inout Int) throws(ReplyError) -> Set<UInt64> {
        var ids: Set<UInt64> = []
        guard parseInt64(request[index]) != nil else {
            throw request.matches(1, "LIST") ? .text("ERR Invalid client ID") : invalidID
        }
        while index < request.count, let id = parseInt64(request[index]) {
            guard id > 0 else { throw invalidID }
            ids.insert(UInt64(id))
            index += 1
        }
        return ids
    }

    private static let invalidID = ReplyError.text("ERR client-id should be greater than 0")

    private static func condition(
        _ name: String, _ value: UnsafeRawBufferPointer, isUnwanted: Bool, _ databaseCount: Int
    ) throws(ReplyError) -> Condition {
        switch name {
        case "TYPE": return .type(try ClientType.named(value))
        case "ADDR": return .address(String(bytes: value))
        case "LADDR": return .localAddress(String(bytes: value))
        case "IP": return .host(String(bytes: value))
        case "USER":
            guard value.elementsEqual(StaticString("default").bytes) else {
                throw .message("ERR No such user '\(ReplyError.quoted(value))'")
            }
            return .user("default")
        case "NAME": return .name(Array(value))
        case "LIB-NAME": return .libraryName(Array(value))
        case "LIB-VER": return .libraryVersion(Array(value))
        case "FLAGS": return .flags(try letters(of: flagLetters, value, isUnwanted ? "NOT-FLAGS" : nil, "flags"))
        case "CAPA":
            return .capabilities(try letters(of: capabilityLetters, value, isUnwanted ? "NOT-CAPA" : nil, "capa"))
        case "DB":
            let option = isUnwanted ? "NOT-DB" : "DB"
            guard let number = parseInt64(value) else {
                throw .message("ERR \(option) is not an integer or out of range")
            }
            guard number >= 0, number < databaseCount else {
                throw .message("ERR \(option) number should be between 0 and \(databaseCount - 1)")
            }
            return .database(Int(number))
        case "IDLE": return .idle(try seconds(value, "idle"))
        case "MAXAGE": return .age(try seconds(value, "maxage"))
        default: throw .syntax
        }
    }

    private static func seconds(_ value: UnsafeRawBufferPointer, _ name: String) throws(ReplyError) -> Int64 {
        guard let seconds = parseInt64(value) else {
            throw .message("ERR \(name) is not an integer or out of range")
        }
        guard seconds > 0 else { throw .message("ERR \(name) should be greater than 0") }
        return seconds
    }

    /// - Parameter option: nil for the one that asks for them.
    private static func letters(
        of known: String, _ value: UnsafeRawBufferPointer, _ option: String?, _ what: String
    ) throws(ReplyError) -> String {
        let text = String(bytes: value)
        guard text.allSatisfy({ known.contains($0) }) else {
            let filter = option.map { "\($0) filter" } ?? "provided filter"
            throw .message("ERR Unknown \(what) found in the \(filter): \(ReplyError.quoted(value))")
        }
        return text
    }

    func includes(_ client: ClientPointer, in node: borrowing Node, caller: ClientPointer, now: Int64) -> Bool {
        if sparesCaller, client == caller { return false }
        for condition in wanted.values where !Self.holds(condition, client, node, now) { return false }
        for condition in unwanted.values where Self.holds(condition, client, node, now) { return false }
        return true
    }

    private static func holds(
        _ condition: Condition, _ client: ClientPointer, _ node: borrowing Node, _ now: Int64
    ) -> Bool {
        switch condition {
        case .ids(let ids): return ids.contains(client.pointee.id)
        case .type(let type): return ClientType(of: client) == type
        case .address(let address): return client.pointee.address == address
        case .localAddress(let address): return client.pointee.localAddress == address
        case .host(let host):
            let address = client.pointee.address
            return address.utf8.lastIndex(of: UInt8(ascii: ":")).map { address[..<$0] == host } ?? false
        case .user(let user): return client.pointee.user == user && !client.pointee.flags.contains(.primary)
        case .name(let name): return !name.isEmpty && client.pointee.name == name
        case .libraryName(let name): return !name.isEmpty && client.pointee.libraryName == name
        case .libraryVersion(let version): return !version.isEmpty && client.pointee.libraryVersion == version
        case .flags(let letters):
            let own = node.flagLetters(of: client)
            return letters.allSatisfy { own.contains($0) }
        case .database(let index): return client.pointee.database == index
        case .capabilities(let letters):
            return letters.isEmpty || client.pointee.flags.contains(.followsRedirection)
        case .idle(let seconds): return (now - client.pointee.lastInteraction) / 1000 >= seconds
        case .age(let seconds): return (now - client.pointee.createdAt) / 1000 >= seconds
        }
    }
}

extension Node {
    func client(withID id: Int64) -> ClientPointer? { clientsByID[UInt64(bitPattern: id)] }

    /// Closes the chosen clients; the caller itself once it has its reply. - Returns: how many.
    mutating func kill(_ filter: ClientFilter, by caller: ClientPointer) -> Int {
        var count = 0
        for client in clients
        where !client.pointee.flags.contains(.closeNow)
            && filter.includes(client, in: self, caller: caller, now: time.unixMilliseconds)
        {
            count += 1
            if client == caller {
                client.pointee.flags.insert(.closeAfterReply)
            } else if client.pointee.flags.contains(.primary) {
                dropPrimaryLink()
            } else {
                client.pointee.flags.insert(.closeNow)
                effects.append(.close(client))
            }
        }
        return count
    }

    /// Ends the wait of a client. - Returns: false if it does not wait for something that may be cut short.
    mutating func unblock(clientWithID id: Int64, withError isError: Bool) -> Bool {
        guard let client = client(withID: id) else { return false }
        let error: ReplyError? = isError ? .text("UNBLOCKED client unblocked via CLIENT UNBLOCK") : nil
        switch client.pointee.parked {
        case .keys: endWait(of: client, with: error)
        case .replicas(_, let offset, _):
            let count = countAcknowledged(offset)
            finish(client) { if let error { $0.error(error) } else { $0.integer(count) } }
        case .notParked, .answer, .pause, .migratingKey, .shutdown, .script: return false
        }
        return true
    }
}
