/// The categories of ACL rules, in Redis' order.
enum CommandCategory: String, CaseIterable {
    case keyspace, read, write, set, sortedSet = "sortedset", list, hash, string, bitmap, hyperloglog, geo, stream
    case pubsub, admin, fast, slow, blocking, dangerous, connection, transaction, scripting
}

extension Command {
    /// What group and flags imply, less those named with a `-`, and those that are named. (setImplicitACLCategories)
    var allCategories: [CommandCategory] {
        var found: Set<CommandCategory> = []
        if flags.contains(.write) { found.insert(.write) }
        if flags.contains(.readonly), group != .scripting { found.insert(.read) }
        if flags.contains(.admin) { found.formUnion([.admin, .dangerous]) }
        if flags.contains(.pubsub) { found.insert(.pubsub) }
        if flags.contains(.blocking) { found.insert(.blocking) }
        found.insert(flags.contains(.fast) ? .fast : .slow)
        // Containers do nothing by themselves.
        if case .container = handler {} else if let category = group.category { found.insert(category) }
        for name in categories.map(\.description) {
            let isRemoved = name.hasPrefix("-")
            guard let category = CommandCategory(rawValue: isRemoved ? String(name.dropFirst()) : name) else {
                preconditionFailure("no category \(name)")
            }
            if isRemoved { found.remove(category) } else { found.insert(category) }
        }
        return CommandCategory.allCases.filter(found.contains)
    }
}

extension CommandGroup {
    fileprivate var category: CommandCategory? {
        switch self {
        case .generic: .keyspace
        case .string: .string
        case .bitmap: .bitmap
        case .list: .list
        case .set: .set
        case .sortedSet: .sortedSet
        case .hash: .hash
        case .stream: .stream
        case .geo: .geo
        case .hyperloglog: .hyperloglog
        case .pubsub: .pubsub
        case .transactions: .transaction
        case .connection: .connection
        case .scripting: .scripting
        case .server, .cluster: nil
        }
    }
}
