import MartletBase
import MartletRESP

// Commands about the process as a whole that have no file of their own, and the part of ACL that tells what the one user
// may do.

extension CommandFamily {
    static let server = CommandFamily(.server, [.acl, .command, .config, .lastSave, .monitor, .shutdown])
}

extension Command {
    static let lastSave = Command(
        "LASTSAVE", since: "1.0.0", arity: .exactly(1), flags: [.loading, .stale, .fast],
        categories: ["admin", "dangerous"],
        tips: ["nondeterministic_output"],
        complexity: "O(1)",
        summary: "Get the UNIX time stamp of the last successful save to disk",
        run: .node { _, node, client throws(ReplyError) in client.pointee.reply.integer(node.startTime.unixSeconds) })

    static let shutdown = Command(
        "SHUTDOWN", since: "1.0.0", arity: .atLeast(1),
        flags: [.admin, .noScript, .loading, .stale, .noMulti, .allowBusy],
        arguments: "[<NOSAVE|SAVE>] [NOW@7.0.0] [FORCE@7.0.0] [ABORT@7.0.0]",
        history: [("7.0.0", "Added the `NOW`, `FORCE` and `ABORT` modifiers.")],
        complexity: """
            O(N) when saving, where N is the total number of keys in all databases when saving data, otherwise O(1)
            """,
        summary: "Synchronously save the dataset to disk and then shut down the server",
        run: .node { request, node, client throws(ReplyError) in
            var flags: ShutdownFlags = []
            var isAbort = false
            for index in 1..<request.count {
                if request.matches(index, "NOSAVE") {
                    flags.insert(.noSave)
                } else if request.matches(index, "SAVE") {
                    flags.insert(.save)
                } else if request.matches(index, "NOW") {
                    flags.insert(.now)
                } else if request.matches(index, "FORCE") {
                    flags.insert(.force)
                } else if request.matches(index, "ABORT") {
                    isAbort = true
                } else {
                    throw .syntax
                }
            }
            guard !isAbort || flags.isEmpty, !flags.isSuperset(of: [.save, .noSave]) else { throw .syntax }
            if isAbort {
                guard node.abortShutdown() else { throw .text("ERR No shutdown in progress.") }
                return client.pointee.reply.ok()
            }
            if node.isBusy, !flags.contains(.noSave) { throw node.busyError }
            guard node.beginShutdown(flags) else { throw .text("ERR Errors trying to SHUTDOWN. Check logs.") }
            // There is no reply but the end of the connection.
            node.park(client, .shutdown)
        })

    // MARK: ACL

    static let acl = Command(
        "ACL", since: "6.0.0", arity: .atLeast(2), complexity: "Depends on subcommand.",
        summary: "A container for Access List Control commands ",
        subcommands: [aclCategories, aclGetUser, aclHelp, aclList, aclUsers, aclWhoAmI], run: .container)

    private static let admin: CommandFlags = [.admin, .noScript, .loading, .stale]

    private static let aclWhoAmI = Command(
        "WHOAMI", since: "6.0.0", arity: .exactly(2), flags: [.noScript, .loading, .stale], complexity: "O(1)",
        summary: "Return the name of the user associated to the current connection",
        run: .node { _, _, client throws(ReplyError) in client.pointee.reply.bulk(client.pointee.user) })

    private static let aclUsers = Command(
        "USERS", since: "6.0.0", arity: .exactly(2), flags: admin,
        complexity: "O(N). Where N is the number of configured users.",
        summary: "List the username of all the configured ACL rules",
        run: .node { _, _, client throws(ReplyError) in
            client.pointee.reply.array(1)
            client.pointee.reply.bulk("default")
        })

    private static let aclList = Command(
        "LIST", since: "6.0.0", arity: .exactly(2), flags: admin,
        complexity: "O(N). Where N is the number of configured users.",
        summary: "List the current ACL rules in ACL config file format",
        run: .node { _, node, client throws(ReplyError) in
            let password = node.passwordDigest.map { "#" + $0 } ?? "nopass"
            client.pointee.reply.array(1)
            client.pointee.reply.bulk("user default on \(password) ~* &* +@all")
        })

    private static let aclGetUser = Command(
        "GETUSER", since: "6.0.0", arity: .exactly(3), flags: admin,
        arguments: "username",
        history: [
            ("6.2.0", "Added Pub/Sub channel patterns."),
            (
                "7.0.0",
                """
                Added selectors and changed the format of key and channel patterns from a list to their rule \
                representation.
                """
            ),
        ],
        complexity: "O(N). Where N is the number of password, command and pattern rules that the user has.",
        summary: "Get the rules for a specific ACL user",
        run: .node { request, node, client throws(ReplyError) in
            guard request[2].elementsEqual(StaticString("default").bytes) else { return client.pointee.reply.null() }
            let digest = node.passwordDigest
            client.pointee.reply.map(6)
            client.pointee.reply.bulk("flags")
            client.pointee.reply.set(digest == nil ? 2 : 1)
            client.pointee.reply.bulk("on")
            if digest == nil { client.pointee.reply.bulk("nopass") }
            client.pointee.reply.bulk("passwords")
            client.pointee.reply.array(digest == nil ? 0 : 1)
            if let digest { client.pointee.reply.bulk(digest) }
            for (name, value) in [("commands", "+@all"), ("keys", "~*"), ("channels", "&*")] {
                client.pointee.reply.bulk(name)
                client.pointee.reply.bulk(value)
            }
            client.pointee.reply.bulk("selectors")
            client.pointee.reply.array(0)
        })

    private static let aclCategories = Command(
        "CAT", since: "6.0.0", arity: .atLeast(2), flags: [.noScript, .loading, .stale],
        arguments: "[categoryname]",
        complexity: "O(1) since the categories and commands are a fixed set.",
        summary: "List the ACL categories or the commands inside a category",
        run: .node { request, node, client throws(ReplyError) in
            guard request.count <= 3 else { throw request.unknownSubcommand }
            guard request.count == 3 else {
                client.pointee.reply.array(CommandCategory.allCases.count)
                for category in CommandCategory.allCases { client.pointee.reply.bulk(category.rawValue) }
                return
            }
            guard let category = CommandCategory(rawValue: String(bytes: request[2]).lowercased()) else {
                throw .message("ERR Unknown category '\(ReplyError.quoted(request[2]))'")
            }
            let members = (0..<node.commands.count).filter { node.commands[$0].allCategories.contains(category) }
            client.pointee.reply.array(members.count)
            for index in members { client.pointee.reply.bulk(node.commands.fullNames[index]) }
        })

    private static let aclHelp = help(
        since: "6.0.0",
        [
            "CAT [<category>]", "    The categories of commands, or the commands of one.",
            "GETUSER <username>", "    The rules of a user.",
            "LIST", "    Users and their rules in the format of configuration files.",
            "USERS", "    The names of the users.",
            "WHOAMI", "    The user of this connection.",
        ])
}

extension Node {
    /// SHA-256 of the password, in hexadecimal; nil if there is none.
    fileprivate var passwordDigest: String? {
        configuration.requirePassword.isEmpty ? nil : SHA256.hexadecimalDigest(of: configuration.requirePassword)
    }
}
