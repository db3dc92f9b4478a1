import MartletBase
import MartletKeyspace
import MartletRESP

/// What a handler does, by what it may touch.
package enum CommandHandler: Sendable {
    /// Works on data alone: clients, scripts, transactions and the replication stream share these.
    case data(DataHandler)
    /// Works on the node or the client: CLUSTER, CONFIG, CLIENT, INFO.
    case node(NodeHandler)
    /// Only has subcommands.
    case container
}

package typealias DataHandler =
    @Sendable (_ request: Request, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer) throws(ReplyError) -> Void
package typealias NodeHandler =
    @Sendable (_ request: Request, _ node: inout Node, _ client: ClientPointer) throws(ReplyError) -> Void

/// What COMMAND INFO tells as flags, in its order. (CMD_* in server.h)
package struct CommandFlags: OptionSet, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    package static let write = CommandFlags(rawValue: 1 << 0)
    package static let readonly = CommandFlags(rawValue: 1 << 1)
    package static let denyOutOfMemory = CommandFlags(rawValue: 1 << 2)
    package static let admin = CommandFlags(rawValue: 1 << 3)
    package static let pubsub = CommandFlags(rawValue: 1 << 4)
    package static let noScript = CommandFlags(rawValue: 1 << 5)
    package static let blocking = CommandFlags(rawValue: 1 << 6)
    package static let loading = CommandFlags(rawValue: 1 << 7)
    package static let stale = CommandFlags(rawValue: 1 << 8)
    package static let skipMonitor = CommandFlags(rawValue: 1 << 9)
    package static let skipSlowLog = CommandFlags(rawValue: 1 << 10)
    package static let asking = CommandFlags(rawValue: 1 << 11)
    package static let fast = CommandFlags(rawValue: 1 << 12)
    package static let noAuth = CommandFlags(rawValue: 1 << 13)
    package static let mayReplicate = CommandFlags(rawValue: 1 << 14)
    package static let noAsyncLoading = CommandFlags(rawValue: 1 << 15)
    package static let noMulti = CommandFlags(rawValue: 1 << 16)
    package static let noMandatoryKeys = CommandFlags(rawValue: 1 << 17)
    package static let allowBusy = CommandFlags(rawValue: 1 << 18)
    /// Keys that the legacy triple (first, last, step) cannot describe.
    package static let movableKeys = CommandFlags(rawValue: 1 << 19)
    /// Answered by another thread or server, so that the client waits. Not told by COMMAND INFO.
    package static let waits = CommandFlags(rawValue: 1 << 20)
    /// Runs a script or function, whose own flags replace some of these. Not told by COMMAND INFO.
    package static let runsScript = CommandFlags(rawValue: 1 << 21)
    /// Whether a client that tracks keys is told when those of the command change. Of a script that is decided by what it calls.
    var readsKeys: Bool { intersection([.readonly, .runsScript]) == .readonly }
    /// Any of these looks at keys or changes them.
    static let touchesData: CommandFlags = [.write, .readonly, .mayReplicate]
}

/// Group of a command, as COMMAND DOCS and the ACL categories name it.
package enum CommandGroup: String, Sendable {
    case generic, string, bitmap, list, set, sortedSet = "sorted-set", hash, stream, geo, hyperloglog, pubsub
    case transactions, connection, server, scripting, cluster
}

/// How many arguments, the command name counted.
package enum Arity: Sendable {
    case exactly(Int)
    case atLeast(Int)

    /// As COMMAND INFO tells it.
    package var encoded: Int {
        switch self {
        case .exactly(let count): return count
        case .atLeast(let count): return -count
        }
    }
}

/// A command: what it is called, what it needs, what it does. Everything that is known of it stands in this one value.
package struct Command: Sendable {
    /// In upper case; subcommands without their container's name.
    package let name: StaticString
    package let since: StaticString
    package let arity: Arity
    package let flags: CommandFlags
    package let keys: [KeySpec]
    /// Beyond those that group and flags imply; with a `-`, not although they imply it.
    package let categories: [StaticString]
    /// Hints for clients and proxies, as COMMAND INFO tells them.
    package let tips: [StaticString]
    /// What stands behind the name, in the notation of ``CommandArgument``.
    package let arguments: StaticString
    /// What it did not do from the start, by version.
    package let history: [Change]
    package let deprecation: Deprecation?
    /// Spoken between servers or in tests, not by applications.
    package let isInternal: Bool
    /// Empty if COMMAND DOCS tells none.
    package let complexity: StaticString
    package let summary: StaticString
    package let subcommands: [Command]
    package let handler: CommandHandler
    /// Set by the family that the command stands in.
    package var group = CommandGroup.generic

    package typealias Change = (since: StaticString, change: StaticString)
    package typealias Deprecation = (since: StaticString, replacement: StaticString)

    package init(
        _ name: StaticString, since: StaticString, arity: Arity, flags: CommandFlags = [], keys: [KeySpec] = [],
        categories: [StaticString] = [], tips: [StaticString] = [], arguments: StaticString = "",
        history: [Change] = [], deprecated deprecation: Deprecation? = nil, isInternal: Bool = false,
        complexity: StaticString, summary: StaticString,
        subcommands: [Command] = [], run handler: CommandHandler
    ) {
        self.name = name
        self.since = since
        self.arity = arity
        self.flags = flags
        self.keys = keys
        self.categories = categories
        self.tips = tips
        self.arguments = arguments
        self.history = history
        self.deprecation = deprecation
        self.isInternal = isInternal
        self.complexity = complexity
        self.summary = summary
        self.subcommands = subcommands
        self.handler = handler
    }
}

/// Commands that belong together. The list is the family's table of contents.
package struct CommandFamily: Sendable {
    package let commands: [Command]

    package init(_ group: CommandGroup, _ commands: [Command]) {
        self.commands = commands.map { command in
            var command = command
            command.group = group
            return command
        }
    }
}
