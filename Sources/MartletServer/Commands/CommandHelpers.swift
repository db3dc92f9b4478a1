import MartletBase
import MartletKeyspace
import MartletRESP

// What command families share: reading arguments, and replies of one shape.

extension Request {
    /// An argument that must fit a C int. (getIntFromObjectOrReply)
    func shortInteger(at index: Int) throws(ReplyError) -> Int {
        let number = try integer(at: index)
        guard let short = Int32(exactly: number) else {
            throw .text("ERR value is out of range, value must between -2147483648 and 2147483647")
        }
        return Int(short)
    }

    /// A number of a database that exists. (selectDb)
    func database(at index: Int, in keyspace: borrowing Keyspace) throws(ReplyError) -> Int {
        let number = try shortInteger(at: index)
        guard number >= 0, number < keyspace.databaseCount else { throw .text("ERR DB index is out of range") }
        return number
    }

    /// What a command with subcommands of its own says to one that it does not know. (addReplySubcommandSyntaxError)
    var unknownSubcommand: ReplyError {
        let subcommand = ReplyError.quoted(UnsafeRawBufferPointer(rebasing: self[1].prefix(128)))
        let command = String(bytes: self[0]).uppercased()
        return .message(
            "ERR unknown subcommand or wrong number of arguments for '\(subcommand)'. Try \(command) HELP.")
    }
}

extension UnsafeRawBufferPointer {
    /// What C sees of the bytes: everything before the first zero. Error texts of Redis quote arguments that way.
    var cString: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: prefix { $0 != 0 }) }
}

/// What LMPOP, ZMPOP and those that wait are asked for: elements from an end of the first key that is there.
struct MultiPop {
    enum Ends {
        /// LEFT or RIGHT.
        case places
        /// MIN or MAX.
        case scores
    }

    let keys: Range<Int>
    /// From the right, or those with the greatest scores.
    let isFromLast: Bool
    private(set) var limit = 1

    /// - Parameter start: index of the number of keys.
    init(_ request: Request, from start: Int, _ ends: Ends) throws(ReplyError) {
        let keyCount = try request.integer(at: start, from: 1, orFailWith: "ERR numkeys should be greater than 0")
        guard keyCount < request.count - start - 1 else { throw .syntax }
        keys = start + 1..<start + 1 + Int(keyCount)
        isFromLast = request.matches(keys.upperBound, ends == .places ? "RIGHT" : "MAX")
        guard isFromLast || request.matches(keys.upperBound, ends == .places ? "LEFT" : "MIN") else { throw .syntax }
        let option = keys.upperBound + 1
        if option == request.count { return }
        guard option + 1 < request.count, request.matches(option, "COUNT") else { throw .syntax }
        limit = Int(
            try request.integer(at: option + 1, from: 1, orFailWith: "ERR count should be greater than 0"))
        guard option + 2 == request.count else { throw .syntax }
    }
}

extension ReplyBuffer {
    /// The reply to HELP: a heading, the lines, and how to ask for them.
    mutating func help(_ request: Request, _ lines: [StaticString]) {
        array(lines.count + 3)
        let command = String(bytes: request[0]).uppercased()
        simple("\(command) <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")
        for line in lines { simple(line) }
        simple("HELP")
        simple("    Prints this help.")
    }
}

/// Runs with the decimal form of a number.
func withDecimal(_ number: Int64, _ body: (UnsafeRawBufferPointer) -> Void) {
    withUnsafeTemporaryAllocation(byteCount: int64DecimalBytesMax, alignment: 8) { text in
        let count = writeDecimal(number, to: text.baseAddress.unsafelyUnwrapped)
        body(UnsafeRawBufferPointer(start: text.baseAddress, count: count))
    }
}

extension Request {
    func integer(at index: Int) throws(ReplyError) -> Int64 {
        guard let number = parseInt64(self[index]) else { throw .notAnInteger }
        return number
    }
}

extension Keyspace {
    /// The entry of a key that a command reads as a value of this type. - Throws: WRONGTYPE for a key of another.
    @inline(__always)
    mutating func read(_ key: Key, as type: ValueType) throws(ReplyError) -> Entry? {
        guard let entry = lookupRead(key) else { return nil }
        guard entry.type == type else { throw .wrongType }
        return entry
    }

    /// The same for a key that a command is going to change.
    @inline(__always)
    mutating func write(_ key: Key, as type: ValueType) throws(ReplyError) -> Entry? {
        guard let entry = lookupWrite(key) else { return nil }
        guard entry.type == type else { throw .wrongType }
        return entry
    }

    /// Deletes the key of a container that the running command has emptied: an event, but no change of its own.
    mutating func deleteEmptied(_ key: Key) {
        _ = delete(key)
        changes &-= 1
    }

    /// Puts another command in the place of the running one, for replicas and the log.
    mutating func propagateInstead(_ arguments: UnsafeRawBufferPointer...) { propagateInstead(arguments) }

    mutating func propagateInstead(_ arguments: [UnsafeRawBufferPointer]) {
        guard propagation.isOn else { return }
        propagation.replacesCommand = true
        propagation.append(database: selected, arguments: arguments)
    }
}
