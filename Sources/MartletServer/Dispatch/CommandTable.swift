import MartletBase
import MartletRESP

// Commands are found by name, in any case, without touching a String: a name is folded into three words (24 bytes, more than
// the longest name) with the case bit cleared, and looked up in an open-addressed table (`CommandNames`). What execution
// needs of a command — arity, flags, where the keys are, the handler — stands in a flat array without names, so that nothing
// is retained on the way.

/// What the dispatcher reads for each request.
struct HotCommand {
    /// Positive: exactly; negative: at least.
    var arity: Int32
    var flags: CommandFlags
    /// 0 if there are none, or they must be searched for.
    var firstKey: Int32
    /// Negative: from the end of the request.
    var lastKey: Int32
    var keyStep: Int32
    var hasMovableKeys: Bool
    var isContainer: Bool
    /// The time of a call is taken when its number has none of these bits; see Statistics.swift.
    var timingMask: Int
    var data: DataHandler?
    var node: NodeHandler?

    /// Whether the only key of the request is the one at ``firstKey``, whose hash and slot the request carries.
    func hasOneKey(in request: Request) -> Bool {
        firstKey > 0 && firstKey == lastKey && !hasMovableKeys && Int(firstKey) < request.count
    }
}

/// Every command, built once at the start and never changed.
package struct CommandTable: ~Copyable {
    package let commands: [Command]
    let hot: UnsafeMutablePointer<HotCommand>
    /// Full names in lower case, `config|get` for subcommands; same indexes as `hot`.
    package let fullNames: [String]
    /// Index ranges of the subcommands of each top-level command: `hot` holds them behind the top-level commands.
    private let subcommandRanges: [Range<Int>]
    package let count: Int
    /// By the names that clients call them by.
    let callable: CommandNames

    /// - Parameter renamed: commands that clients call by another name, or by none; what COMMAND tells stays the same.
    package init(_ families: [CommandFamily], renamed: [RenamedCommand] = []) {
        let top = families.flatMap(\.commands)
        commands = top
        var all = top
        var names = top.map { $0.name.description.lowercased() }
        var ranges: [Range<Int>] = []
        for (index, command) in top.enumerated() {
            let start = all.count
            for subcommand in command.subcommands {
                var subcommand = subcommand
                subcommand.group = command.group
                all.append(subcommand)
                names.append(names[index] + "|" + subcommand.name.description.lowercased())
            }
            ranges.append(start..<all.count)
        }
        fullNames = names
        subcommandRanges = ranges
        count = all.count
        allCommands = all
        hot = .allocate(capacity: all.count)
        for (index, command) in all.enumerated() { (hot + index).initialize(to: HotCommand(command)) }

        var callNames: [String: Int] = [:]
        for (index, name) in names[..<top.count].enumerated() {
            precondition(callNames.updateValue(index, forKey: name) == nil, "two commands of one name")
        }
        for change in renamed {
            guard let index = callNames.removeValue(forKey: change.name) else { continue }
            if !change.newName.isEmpty { callNames[change.newName] = index }
        }
        callable = CommandNames(callNames)
    }

    private let allCommands: [Command]

    deinit {
        hot.deinitialize(count: count)
        hot.deallocate()
        callable.deallocate()
    }

    /// - Returns: the index of a top-level command, or -1.
    /// - Complexity: O(1)
    func index(of name: UnsafeRawBufferPointer) -> Int { callable.index(of: name) }

    /// Top-level commands by the names that they were made with, whatever clients call them by. - Complexity: O(commands)
    func indexes(of names: Set<String>) -> Set<Int> {
        Set((0..<topLevelCount).filter { names.contains(commands[$0].name.description) })
    }

    /// - Returns: the index of a subcommand of the container at `index`, or nil.
    package func subcommandIndex(of name: UnsafeRawBufferPointer, container index: Int) -> Int? {
        subcommandRanges[index].first { name.equalsIgnoringCase(allCommands[$0].name) }
    }

    package func subcommandIndexes(container index: Int) -> Range<Int> {
        index < subcommandRanges.count ? subcommandRanges[index] : 0..<0
    }

    /// Commands that are no subcommands; they have the first indexes.
    package var topLevelCount: Int { commands.count }

    /// The command at an index; subcommands follow the top-level ones.
    package subscript(index: Int) -> Command { allCommands[index] }

    /// The index of a command that there is, whatever clients call it by. - Complexity: O(commands)
    func indexOfOwn(_ name: String) -> Int {
        guard let index = index(ofFullName: name) else { preconditionFailure("there is no command \(name)") }
        return index
    }

    /// The command or subcommand of a name such as `config|get`. - Complexity: O(commands)
    package func index(ofFullName name: String) -> Int? {
        fullNames.firstIndex(of: name.lowercased())
    }
}

extension HotCommand {
    init(_ command: Command) {
        arity = Int32(command.arity.encoded)
        flags = command.flags
        let legacy = command.legacyKeys
        firstKey = Int32(legacy.first)
        lastKey = Int32(legacy.last)
        keyStep = Int32(legacy.step)
        hasMovableKeys = command.hasMovableKeys
        isContainer = !command.subcommands.isEmpty
        // Constant cost: a sample tells enough.
        let isCheap = command.complexity.description == "O(1)"
        timingMask = isCheap ? CommandStatistics.sampleInterval - 1 : 0
        switch command.handler {
        case .data(let handler): data = handler
        case .node(let handler): node = handler
        case .container: break
        }
    }
}

extension Command {
    /// First key, last key and step, as far as those three can tell. (populateCommandLegacyRangeSpec)
    package var legacyKeys: (first: Int, last: Int, step: Int) {
        var ranges: [(first: Int, last: Int, step: Int)] = []
        for spec in keys {
            guard case .index(let first) = spec.begin, case .range(let last, let step, _) = spec.find else { continue }
            ranges.append((first, last >= 0 ? first + last : last, step))
        }
        guard let head = ranges.first else { return (0, 0, 0) }
        if ranges.count == 1 { return head }
        // Neighbouring ranges of step 1 become one.
        var last = head.last
        for range in ranges.dropFirst() {
            guard range.step == 1, head.step == 1, last >= 0, range.first == last + 1 else { return head }
            last = range.last
        }
        return (head.first, last, 1)
    }

    /// Whether some keys lie outside of ``legacyKeys``.
    package var hasMovableKeys: Bool {
        if flags.contains(.movableKeys) { return true }
        return keys.contains { spec in
            if spec.flags.contains(.notKey) { return false }
            guard case .index = spec.begin, case .range = spec.find else { return true }
            return spec.flags.contains(.incomplete)
        }
    }
}
