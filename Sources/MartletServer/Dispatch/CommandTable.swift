import MartletBase
import MartletRESP

// Finding a command by its name, in any case, without touching a String.
//
// A name is folded into three words (24 bytes, more than the longest name) with the case bit cleared, and looked up in an
// open-addressed table. What execution needs of a command — arity, flags, where the keys are, the handler — stands in a
// flat array without names, so that nothing is retained on the way.

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
    private let slots: UnsafeMutablePointer<Slot>
    private let mask: Int

    private struct Slot {
        var name: FoldedName
        /// Folding loses blanks and zero bytes at the end of a name; its length does not.
        var nameBytes: Int32
        var index: Int32
    }

    /// Names from `rename-command` that are too long for a ``FoldedName``, in lower case.
    private var longNames: [String: Int] = [:]

    /// A name of at most 24 bytes with letters in upper case.
    struct FoldedName: Equatable {
        var first: UInt64 = 0
        var second: UInt64 = 0
        var third: UInt64 = 0

        @inline(__always)
        init?(_ bytes: UnsafeRawBufferPointer) {
            let count = bytes.count
            guard count > 0, count <= 24 else { return nil }
            let base = bytes.baseAddress.unsafelyUnwrapped
            first = Self.word(base, count)
            if count > 8 {
                second = Self.word(base + 8, count &- 8)
                if count > 16 { third = Self.word(base + 16, count &- 16) }
            }
        }

        @inline(__always)
        private static func word(_ base: UnsafeRawPointer, _ count: Int) -> UInt64 {
            if count >= 8 { return base.loadUnaligned(as: UInt64.self) & 0xDFDF_DFDF_DFDF_DFDF }
            var word: UInt64 = 0
            var index = count
            while index > 0 {
                index &-= 1
                word = word &<< 8 | UInt64(base.load(fromByteOffset: index, as: UInt8.self))
            }
            return word & 0xDFDF_DFDF_DFDF_DFDF
        }

        @inline(__always) var hash: UInt64 {
            let mixed = (first ^ second &* 0x9E37_79B9_7F4A_7C15 ^ third) &* 0xD6E8_FEB8_6659_FD93
            return mixed ^ mixed &>> 32
        }
    }

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

        var capacity = 64
        while capacity < top.count * 4 { capacity *= 2 }
        mask = capacity - 1
        slots = .allocate(capacity: capacity)
        let empty = FoldedName(StaticString(" ").bytes)!
        slots.initialize(repeating: Slot(name: empty, nameBytes: 0, index: -1), count: capacity)

        var callNames: [String: Int] = [:]
        for (index, name) in names[..<top.count].enumerated() {
            precondition(callNames.updateValue(index, forKey: name) == nil, "two commands of one name")
        }
        for change in renamed {
            guard let index = callNames.removeValue(forKey: change.name) else { continue }
            if !change.newName.isEmpty { callNames[change.newName] = index }
        }
        for (name, index) in callNames { insert(name, index) }
    }

    private mutating func insert(_ name: String, _ index: Int) {
        guard let folded = Array(name.utf8).withUnsafeBytes({ FoldedName($0) }) else {
            longNames[name] = index
            return
        }
        var position = Int(truncatingIfNeeded: folded.hash) & mask
        while slots[position].index >= 0 { position = (position + 1) & mask }
        slots[position] = Slot(name: folded, nameBytes: Int32(name.utf8.count), index: Int32(index))
    }

    private let allCommands: [Command]

    deinit {
        hot.deinitialize(count: count)
        hot.deallocate()
        slots.deallocate()
    }

    /// - Returns: the index of a top-level command, or -1.
    /// - Complexity: O(1)
    @inline(__always)
    package func index(of name: UnsafeRawBufferPointer) -> Int {
        guard let folded = FoldedName(name) else { return longNameIndex(of: name) }
        var position = Int(truncatingIfNeeded: folded.hash) & mask
        while true {
            let slot = slots + position
            if slot.pointee.index < 0 { return -1 }
            if slot.pointee.name == folded, Int(slot.pointee.nameBytes) == name.count {
                return Int(slot.pointee.index)
            }
            position = (position &+ 1) & mask
        }
    }

    @inline(never)
    private func longNameIndex(of name: UnsafeRawBufferPointer) -> Int {
        longNames.isEmpty ? -1 : longNames[String(bytes: name).lowercased()] ?? -1
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
            guard case .index(let first) = spec.begin, case .range(let last, let step, _) = spec.find,
                !spec.flags.contains(.notKey)
            else { continue }
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
