import Testing

@testable import MartletServer

/// What COMMAND INFO and COMMAND DOCS of Redis 7.0.15 tell of the string and bitmap commands.
@Suite struct StringCommandTableTests {
    @Test(arguments: Self.rows)
    func theTableIsRedisOne(row: Row) throws {
        let families = CommandFamily.string.commands + CommandFamily.bitmap.commands
        let command = try #require(families.first { $0.name.description == row.name })
        #expect(command.arity.encoded == row.arity)
        #expect(Self.flags(of: command) == Set(row.flags.split(separator: " ").map(String.init)))
        #expect(command.keys.map(Self.describe).joined(separator: "; ") == row.keys)
        #expect(command.group.rawValue == row.group)
        #expect(command.since.description == row.since)
        #expect(command.summary.description == row.summary)
        #expect(!command.complexity.description.isEmpty)
    }

    @Test func noCommandIsMissing() {
        let families = CommandFamily.string.commands + CommandFamily.bitmap.commands
        #expect(Set(families.map(\.name.description)) == Set(Self.rows.map(\.name)))
    }

    struct Row: CustomTestStringConvertible {
        var name: String
        var arity: Int
        var flags, keys, group, since, summary: String
        var testDescription: String { name }

        init(_ row: (String, Int, String, String, String, String, String)) {
            (name, arity, flags, keys, group, since, summary) = row
        }
    }

    private static func flags(of command: Command) -> Set<String> {
        let names: [(CommandFlags, String)] = [
            (.write, "write"), (.readonly, "readonly"), (.denyOutOfMemory, "denyoom"), (.fast, "fast"),
        ]
        return Set(names.filter { command.flags.contains($0.0) }.map(\.1))
    }

    /// As the rows write it: flags, first index, last index from there, step.
    private static func describe(_ key: KeySpec) -> String {
        let names: [(KeySpec.Flags, String)] = [
            (.readOnly, "RO"), (.readWrite, "RW"), (.overwrite, "OW"), (.remove, "RM"), (.access, "access"),
            (.update, "update"), (.insert, "insert"), (.delete, "delete"), (.variableFlags, "variable_flags"),
        ]
        let flags = names.filter { key.flags.contains($0.0) }.map(\.1).joined(separator: " ")
        guard case .index(let first) = key.begin, case .range(let last, let step, 0) = key.find else {
            return "unknown"
        }
        return "\(flags) at \(first) to \(last) step \(step)"
    }

    private static let rows =
        ([
            ("GET", 2, "readonly fast", "RO access at 1 to 0 step 1", "string", "1.0.0", "Get the value of a key"),
            (
                "SET", -3, "write denyoom", "RW access update variable_flags at 1 to 0 step 1",
                "string", "1.0.0", "Set the string value of a key"
            ),
            (
                "SETNX", 3, "write denyoom fast", "OW insert at 1 to 0 step 1",
                "string", "1.0.0", "Set the value of a key, only if the key does not exist"
            ),
            (
                "SETEX", 4, "write denyoom", "OW update at 1 to 0 step 1",
                "string", "2.0.0", "Set the value and expiration of a key"
            ),
            (
                "PSETEX", 4, "write denyoom", "OW update at 1 to 0 step 1",
                "string", "2.6.0", "Set the value and expiration in milliseconds of a key"
            ),
            (
                "GETEX", -2, "write fast", "RW access update at 1 to 0 step 1",
                "string", "6.2.0", "Get the value of a key and optionally set its expiration"
            ),
            (
                "GETDEL", 2, "write fast", "RW access delete at 1 to 0 step 1",
                "string", "6.2.0", "Get the value of a key and delete the key"
            ),
            (
                "GETSET", 3, "write denyoom fast", "RW access update at 1 to 0 step 1",
                "string", "1.0.0", "Set the string value of a key and return its old value"
            ),
            (
                "GETRANGE", 4, "readonly", "RO access at 1 to 0 step 1",
                "string", "2.4.0", "Get a substring of the string stored at a key"
            ),
            (
                "SUBSTR", 4, "readonly", "RO access at 1 to 0 step 1",
                "string", "1.0.0", "Get a substring of the string stored at a key"
            ),
            (
                "SETRANGE", 4, "write denyoom", "RW update at 1 to 0 step 1",
                "string", "2.2.0", "Overwrite part of a string at key starting at the specified offset"
            ),
            (
                "STRLEN", 2, "readonly fast", "RO at 1 to 0 step 1",
                "string", "2.2.0", "Get the length of the value stored in a key"
            ),
            (
                "APPEND", 3, "write denyoom fast", "RW insert at 1 to 0 step 1", "string", "2.0.0",
                "Append a value to a key"
            ),
            (
                "MGET", -2, "readonly fast", "RO access at 1 to -1 step 1",
                "string", "1.0.0", "Get the values of all the given keys"
            ),
            (
                "MSET", -3, "write denyoom", "OW update at 1 to -1 step 2",
                "string", "1.0.1", "Set multiple keys to multiple values"
            ),
            (
                "MSETNX", -3, "write denyoom", "OW insert at 1 to -1 step 2",
                "string", "1.0.1", "Set multiple keys to multiple values, only if none of the keys exist"
            ),
            (
                "INCR", 2, "write denyoom fast", "RW access update at 1 to 0 step 1",
                "string", "1.0.0", "Increment the integer value of a key by one"
            ),
            (
                "DECR", 2, "write denyoom fast", "RW access update at 1 to 0 step 1",
                "string", "1.0.0", "Decrement the integer value of a key by one"
            ),
            (
                "INCRBY", 3, "write denyoom fast", "RW access update at 1 to 0 step 1",
                "string", "1.0.0", "Increment the integer value of a key by the given amount"
            ),
            (
                "DECRBY", 3, "write denyoom fast", "RW access update at 1 to 0 step 1",
                "string", "1.0.0", "Decrement the integer value of a key by the given number"
            ),
            (
                "INCRBYFLOAT", 3, "write denyoom fast", "RW access update at 1 to 0 step 1",
                "string", "2.6.0", "Increment the float value of a key by the given amount"
            ),
            (
                "DELIFEQ", 3, "write fast", "RM access delete at 1 to 0 step 1", "string", "9.0.0",
                "Delete key if value matches string."
            ),
            (
                "DELEX", -2, "write fast", "RW delete at 1 to 0 step 1", "string", "8.4.0",
                "Conditionally removes the specified key based on value or digest comparison."
            ),
            (
                "DIGEST", 2, "readonly fast", "RO access at 1 to 0 step 1", "string", "8.4.0",
                "Returns the XXH3 hash of a string value."
            ),
            (
                "MSETEX", -4, "write denyoom", "unknown", "string", "9.1.0",
                "Atomically creates or modifies the string values of one or more keys, and optionally set their expiration."
            ),
            ("LCS", -3, "readonly", "RO access at 1 to 1 step 1", "string", "7.0.0", "Find longest common substring"),
            (
                "SETBIT", 4, "write denyoom", "RW access update at 1 to 0 step 1",
                "bitmap", "2.2.0", "Sets or clears the bit at offset in the string value stored at key"
            ),
            (
                "GETBIT", 3, "readonly fast", "RO access at 1 to 0 step 1",
                "bitmap", "2.2.0", "Returns the bit value at offset in the string value stored at key"
            ),
            ("BITCOUNT", -2, "readonly", "RO access at 1 to 0 step 1", "bitmap", "2.6.0", "Count set bits in a string"),
            (
                "BITPOS", -3, "readonly", "RO access at 1 to 0 step 1",
                "bitmap", "2.8.7", "Find first bit set or clear in a string"
            ),
            (
                "BITOP", -4, "write denyoom", "OW update at 2 to 0 step 1; RO access at 3 to -1 step 1",
                "bitmap", "2.6.0", "Perform bitwise operations between strings"
            ),
            (
                "BITFIELD", -2, "write denyoom", "RW access update variable_flags at 1 to 0 step 1",
                "bitmap", "3.2.0", "Perform arbitrary bitfield integer operations on strings"
            ),
            (
                "BITFIELD_RO", -2, "readonly fast", "RO access at 1 to 0 step 1",
                "bitmap", "6.0.0",
                "Perform arbitrary bitfield integer operations on strings. Read-only variant of BITFIELD"
            ),
        ] as [(String, Int, String, String, String, String, String)]).map(Row.init)
}
