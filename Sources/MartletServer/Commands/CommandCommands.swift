import MartletBase
import MartletRESP

// COMMAND: what commands there are, what they need and where their keys stand, from the values that declare them.

extension Command {
    static let command = Command(
        "COMMAND", since: "2.8.13", arity: .atLeast(1), flags: [.loading, .stale], categories: ["connection"],
        tips: ["nondeterministic_output_order"],
        complexity: "O(N) where N is the total number of Redis commands",
        summary: "Get array of Redis command details",
        subcommands: [
            commandCount, commandDocs, commandGetKeys, commandGetKeysAndFlags, commandHelp, commandInfo, commandList,
        ],
        run: .node { _, node, client throws(ReplyError) in
            client.pointee.reply.array(node.commands.topLevelCount)
            for index in 0..<node.commands.topLevelCount {
                client.pointee.reply.commandInfo(at: index, in: node.commands)
            }
        })

    private static let common: CommandFlags = [.loading, .stale]

    private static let commandCount = Command(
        "COUNT", since: "2.8.13", arity: .exactly(2), flags: common, categories: ["connection"], complexity: "O(1)",
        summary: "Get total number of Redis commands",
        run: .node { _, node, client throws(ReplyError) in client.pointee.reply.integer(node.commands.topLevelCount) })

    private static let commandInfo = Command(
        "INFO", since: "2.8.13", arity: .atLeast(2), flags: common, categories: ["connection"],
        tips: ["nondeterministic_output_order"], arguments: "[command-name]...",
        history: [("7.0.0", "Allowed to be called with no argument to get info on all commands.")],
        complexity: "O(N) where N is the number of commands to look up",
        summary: "Get array of specific Redis command details, or all when no argument is given.",
        run: .node { request, node, client throws(ReplyError) in
            let count = request.count == 2 ? node.commands.topLevelCount : request.count - 2
            client.pointee.reply.array(count)
            for index in 0..<count {
                guard let found = request.count == 2 ? index : node.commandIndex(named: request[index + 2]) else {
                    client.pointee.reply.null()
                    continue
                }
                client.pointee.reply.commandInfo(at: found, in: node.commands)
            }
        })

    private static let commandDocs = Command(
        "DOCS", since: "7.0.0", arity: .atLeast(2), flags: common, categories: ["connection"],
        tips: ["nondeterministic_output_order"], arguments: "[command-name]...",
        complexity: "O(N) where N is the number of commands to look up",
        summary: "Get array of specific Redis command documentation",
        run: .node { request, node, client throws(ReplyError) in
            var found = Array(0..<node.commands.topLevelCount)
            if request.count > 2 {
                found = (2..<request.count).compactMap { node.commandIndex(named: request[$0]) }
            }
            client.pointee.reply.map(found.count)
            for index in found {
                client.pointee.reply.bulk(node.commands.fullNames[index])
                client.pointee.reply.commandDocs(at: index, in: node.commands)
            }
        })

    private static let commandList = Command(
        "LIST", since: "7.0.0", arity: .atLeast(2), flags: common, categories: ["connection"],
        tips: ["nondeterministic_output_order"],
        arguments: "[FILTERBY filterby=<MODULE module-name|ACLCAT category|PATTERN pattern:pattern>]",
        complexity: "O(N) where N is the total number of Redis commands",
        summary: "Get an array of Redis command names",
        run: .node { request, node, client throws(ReplyError) in
            var names = node.commands.fullNames
            if request.count > 2 {
                guard request.count == 5, request.matches(2, "FILTERBY") else { throw .syntax }
                if request.matches(3, "MODULE") {
                    names = []
                } else if request.matches(3, "ACLCAT") {
                    let category = CommandCategory(rawValue: String(bytes: request[4]).lowercased())
                    names = (0..<node.commands.count).filter { index in
                        category.map(node.commands[index].allCategories.contains) ?? false
                    }.map { node.commands.fullNames[$0] }
                } else if request.matches(3, "PATTERN") {
                    names = names.filter { name in
                        Array(name.utf8).withUnsafeBytes {
                            globMatches(pattern: request[4], text: $0, ignoringCase: true)
                        }
                    }
                } else {
                    throw .syntax
                }
            }
            client.pointee.reply.array(names.count)
            for name in names { client.pointee.reply.bulk(name) }
        })

    private static let commandGetKeys = Command(
        "GETKEYS", since: "2.8.13", arity: .atLeast(4), flags: common, categories: ["connection"],
        complexity: "O(N) where N is the number of arguments to the command",
        summary: "Extract keys given a full Redis command",
        run: .node { request, node, client throws(ReplyError) in
            let keys = try node.keys(ofCommandIn: request)
            client.pointee.reply.array(keys.count)
            for key in keys { client.pointee.reply.bulk(request[key.index]) }
        })

    private static let commandGetKeysAndFlags = Command(
        "GETKEYSANDFLAGS", since: "7.0.0", arity: .atLeast(4), flags: common, categories: ["connection"],
        complexity: "O(N) where N is the number of arguments to the command",
        summary: "Extract keys and access flags given a full Redis command",
        run: .node { request, node, client throws(ReplyError) in
            let keys = try node.keys(ofCommandIn: request)
            client.pointee.reply.array(keys.count)
            for key in keys {
                client.pointee.reply.array(2)
                client.pointee.reply.bulk(request[key.index])
                client.pointee.reply.statusSet(key.flags.names)
            }
        })

    private static let commandHelp = Command.help(
        since: "5.0.0", categories: ["connection"],
        [
            "(no subcommand)", "    Describe all commands.",
            "COUNT", "    The number of commands of this server.",
            "LIST", "    The names of all commands.",
            "INFO [<command-name> ...]", "    Describe commands; all of them without a name.",
            "DOCS [<command-name> ...]", "    Describe commands for people; all of them without a name.",
            "GETKEYS <full-command>", "    The keys of a full command.",
            "GETKEYSANDFLAGS <full-command>", "    The keys of a full command, and how it uses them.",
        ])
}

// MARK: Looking up

extension Node {
    /// The command or subcommand (`config|get`) of a name, as clients call it.
    func commandIndex(named name: UnsafeRawBufferPointer) -> Int? {
        let parts = name.split(separator: UInt8(ascii: "|"), omittingEmptySubsequences: false)
        guard let first = parts.first, parts.count <= 2 else { return nil }
        let index = commands.index(of: UnsafeRawBufferPointer(rebasing: first))
        guard index >= 0 else { return nil }
        guard parts.count == 2 else { return index }
        return commands.subcommandIndex(of: UnsafeRawBufferPointer(rebasing: parts[1]), container: index)
    }

    /// Keys of the command that stands behind COMMAND GETKEYS, by their indexes in the whole request.
    fileprivate func keys(ofCommandIn request: Request) throws(ReplyError) -> [(index: Int, flags: KeySpec.Flags)] {
        let inner = Request(arguments: request.arguments + 2, count: request.count - 2)
        var index = commands.index(of: inner[0])
        guard index >= 0 else { throw .text("ERR Invalid command specified") }
        if !commands[index].subcommands.isEmpty, inner.count > 1 {
            guard let subcommand = commands.subcommandIndex(of: inner[1], container: index) else {
                throw .text("ERR Invalid command specified")
            }
            index = subcommand
        }
        let command = commands[index]
        guard command.keys.contains(where: { !$0.flags.contains(.notKey) }) || command.flags.contains(.movableKeys)
        else {
            throw .text("ERR The command has no key arguments")
        }
        let arity = command.arity.encoded
        guard arity > 0 ? inner.count == arity : inner.count >= -arity else {
            throw .text("ERR Invalid number of arguments specified for command")
        }
        var keys: [(index: Int, flags: KeySpec.Flags)] = []
        if index == migrateCommand {
            keys = migrateKeyIndexes(of: inner).map { ($0 + 2, command.keys[0].flags) }
        } else {
            for spec in command.keys where !spec.flags.contains(.notKey) {
                guard let indexes = spec.keyIndexes(in: inner) else {
                    keys = []
                    break
                }
                let flags = spec.flags.contains(.variableFlags) ? command.keyFlags(in: inner, spec.flags) : spec.flags
                keys += indexes.map { ($0 + 2, flags) }
            }
        }
        if keys.isEmpty, !command.flags.contains(.noMandatoryKeys) {
            throw .text("ERR Invalid arguments specified for command")
        }
        return keys
    }
}

extension Command {
    /// What a command whose use of its key depends on its options does to it. Source: Redis 7.0 db.c, setGetKeys,
    /// bitfieldGetKeys.
    fileprivate func keyFlags(in request: Request, _ declared: KeySpec.Flags) -> KeySpec.Flags {
        switch name.description {
        case "SET":
            let returnsOld = (3..<max(3, request.count)).contains { request.matches($0, "GET") }
            return returnsOld ? [.readWrite, .access, .update] : [.overwrite, .update]
        case "BITFIELD":
            return isReadOnlyBitfield(request) ? [.readOnly, .access] : [.readWrite, .access, .update]
        default: return declared.subtracting(.variableFlags)
        }
    }

    /// What cannot be read may as well be a change.
    private func isReadOnlyBitfield(_ request: Request) -> Bool {
        var index = 2
        while index < request.count {
            if request.matches(index, "GET"), index + 2 < request.count {
                index += 3
            } else if request.matches(index, "OVERFLOW"), index + 1 < request.count {
                index += 2
            } else {
                return false
            }
        }
        return true
    }
}

// MARK: Replies

extension ReplyBuffer {
    fileprivate mutating func statusSet(_ names: [StaticString]) {
        set(names.count)
        for name in names { simple(name) }
    }

    /// (addReplyCommandInfo)
    fileprivate mutating func commandInfo(at index: Int, in table: borrowing CommandTable) {
        let command = table[index]
        let keys = command.legacyKeys
        array(10)
        bulk(table.fullNames[index])
        integer(command.arity.encoded)
        statusSet(command.shownFlags)
        integer(keys.first)
        integer(keys.last)
        integer(keys.step)
        let categories = command.allCategories
        set(categories.count)
        for category in categories { simple("@" + category.rawValue) }
        set(command.tips.count)
        for tip in command.tips { bulk(tip) }
        set(command.keys.count)
        for spec in command.keys { keySpec(spec) }
        let subcommands = table.subcommandIndexes(container: index)
        if subcommands.isEmpty { set(0) } else { array(subcommands.count) }
        for subcommand in subcommands { commandInfo(at: subcommand, in: table) }
    }

    /// (addReplyCommandKeySpecs)
    private mutating func keySpec(_ spec: KeySpec) {
        map(spec.notes == nil ? 3 : 4)
        if let notes = spec.notes {
            bulk("notes")
            bulk(notes)
        }
        bulk("flags")
        statusSet(spec.flags.names)
        bulk("begin_search")
        map(2)
        bulk("type")
        switch spec.begin {
        case .index(let index): keySpecPart("index", [("index", index)])
        case .keyword(let word, let start):
            bulk("keyword")
            bulk("spec")
            map(2)
            bulk("keyword")
            bulk(word)
            bulk("startfrom")
            integer(start)
        case .option, .data, .unknown: keySpecPart("unknown", [])
        }
        bulk("find_keys")
        map(2)
        bulk("type")
        switch spec.find {
        case .range(let last, let step, let limit):
            keySpecPart("range", [("lastkey", last), ("keystep", step), ("limit", limit)])
        case .count(let index, let first, let step):
            keySpecPart("keynum", [("keynumidx", index), ("firstkey", first), ("keystep", step)])
        case .unknown: keySpecPart("unknown", [])
        }
    }

    private mutating func keySpecPart(_ type: StaticString, _ numbers: [(StaticString, Int)]) {
        bulk(type)
        bulk("spec")
        map(numbers.count)
        for (name, number) in numbers {
            bulk(name)
            integer(number)
        }
    }

    /// (addReplyCommandDocs)
    fileprivate mutating func commandDocs(at index: Int, in table: borrowing CommandTable) {
        let command = table[index]
        let arguments = CommandArgument.parse(command.arguments)
        let subcommands = table.subcommandIndexes(container: index)
        map(
            3 + (command.complexity.utf8CodeUnitCount == 0 ? 0 : 1) + (command.docFlags.isEmpty ? 0 : 1)
                + (command.deprecation == nil ? 0 : 2) + (command.history.isEmpty ? 0 : 1)
                + (arguments.isEmpty ? 0 : 1) + (subcommands.isEmpty ? 0 : 1))
        bulk("summary")
        bulk(command.summary)
        bulk("since")
        bulk(command.since)
        bulk("group")
        bulk(command.group.rawValue)
        if command.complexity.utf8CodeUnitCount > 0 {
            bulk("complexity")
            bulk(command.complexity)
        }
        if !command.docFlags.isEmpty {
            bulk("doc_flags")
            statusSet(command.docFlags)
        }
        if let deprecation = command.deprecation {
            bulk("deprecated_since")
            bulk(deprecation.since)
            bulk("replaced_by")
            bulk(deprecation.replacement)
        }
        if !command.history.isEmpty {
            bulk("history")
            set(command.history.count)
            for entry in command.history {
                array(2)
                bulk(entry.since)
                bulk(entry.change)
            }
        }
        if !arguments.isEmpty {
            bulk("arguments")
            commandArguments(arguments)
        }
        if !subcommands.isEmpty {
            bulk("subcommands")
            map(subcommands.count)
            for subcommand in subcommands {
                bulk(table.fullNames[subcommand])
                commandDocs(at: subcommand, in: table)
            }
        }
    }

    /// (addReplyCommandArgList)
    private mutating func commandArguments(_ arguments: [CommandArgument]) {
        array(arguments.count)
        for argument in arguments {
            let flags = argument.flagNames
            map(
                2 + (argument.keySpecIndex == nil ? 0 : 1) + (argument.token == nil ? 0 : 1)
                    + (argument.since == nil ? 0 : 1) + (argument.deprecatedSince == nil ? 0 : 1)
                    + (flags.isEmpty ? 0 : 1) + (argument.arguments.isEmpty ? 0 : 1))
            bulk("name")
            bulk(argument.name)
            bulk("type")
            bulk(argument.type)
            if let index = argument.keySpecIndex {
                bulk("key_spec_index")
                integer(index)
            }
            if let token = argument.token {
                bulk("token")
                bulk(token)
            }
            if let since = argument.since {
                bulk("since")
                bulk(since)
            }
            if let since = argument.deprecatedSince {
                bulk("deprecated_since")
                bulk(since)
            }
            if !flags.isEmpty {
                bulk("flags")
                statusSet(flags)
            }
            if !argument.arguments.isEmpty {
                bulk("arguments")
                commandArguments(argument.arguments)
            }
        }
    }
}

extension CommandArgument {
    fileprivate var flagNames: [StaticString] {
        var names: [StaticString] = []
        if isOptional { names.append("optional") }
        if isMultiple { names.append("multiple") }
        if repeatsToken { names.append("multiple_token") }
        return names
    }
}

extension Command {
    /// (addReplyCommandFlags)
    fileprivate var docFlags: [StaticString] {
        (deprecation == nil ? [] : ["deprecated"]) + (isInternal ? ["syscmd"] : [])
    }

    /// The flags that COMMAND tells, in its order. (addReplyFlagsForCommand)
    fileprivate var shownFlags: [StaticString] {
        let known: [(CommandFlags, StaticString)] = [
            (.write, "write"), (.readonly, "readonly"), (.denyOutOfMemory, "denyoom"), (.admin, "admin"),
            (.pubsub, "pubsub"), (.noScript, "noscript"), (.blocking, "blocking"), (.loading, "loading"),
            (.stale, "stale"), (.skipMonitor, "skip_monitor"), (.skipSlowLog, "skip_slowlog"), (.asking, "asking"),
            (.fast, "fast"), (.noAuth, "no_auth"), (.noMandatoryKeys, "no_mandatory_keys"),
            (.noAsyncLoading, "no_async_loading"), (.noMulti, "no_multi"), (.movableKeys, "movablekeys"),
            (.allowBusy, "allow_busy"),
        ]
        let flags = hasMovableKeys ? self.flags.union(.movableKeys) : self.flags
        return known.filter { flags.contains($0.0) }.map(\.1)
    }
}

extension KeySpec.Flags {
    fileprivate var names: [StaticString] {
        let known: [(KeySpec.Flags, StaticString)] = [
            (.readOnly, "RO"), (.readWrite, "RW"), (.overwrite, "OW"), (.remove, "RM"), (.access, "access"),
            (.update, "update"), (.insert, "insert"), (.delete, "delete"), (.notKey, "not_key"),
            (.incomplete, "incomplete"), (.variableFlags, "variable_flags"),
        ]
        return known.filter { contains($0.0) }.map(\.1)
    }
}
