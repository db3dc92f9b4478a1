import MartletBase
import MartletKeyspace
import MartletRESP

extension CommandFamily {
    static let string = CommandFamily(.string, [.get, .set])
}

extension Command {
    static let get = Command(
        "GET", since: "1.0.0", arity: .exactly(2), flags: [.readonly, .fast], keys: [.one(at: 1, [.readOnly, .access])],
        complexity: "O(1)", summary: "Returns the string value of a key.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let entry = keyspace.lookupRead(request.firstKey) else { return reply.null() }
            guard entry.isString else { throw .wrongType }
            reply.string(entry)
        })

    static let set = Command(
        "SET", since: "1.0.0", arity: .atLeast(3), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 1, [.readWrite, .access, .update, .insert, .variableFlags])],
        complexity: "O(1)",
        summary: "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            keyspace.setString(request.firstKey, request[2])
            reply.ok()
        })
}

extension Request {
    /// The key at index 1, with the hash that was computed while the batch was prepared.
    @inline(__always) var firstKey: Key { Key(bytes: self[1], hash: keyHash, table: Int(slot)) }

    /// Any other key of a request; all keys of a request share its slot.
    func key(at index: Int, in keyspace: borrowing Keyspace) -> Key { keyspace.key(self[index], slot: slot) }
}

extension ReplyBuffer {
    /// A string value. - Precondition: the entry is a string.
    @inline(__always)
    mutating func string(_ entry: Entry) {
        switch entry.string {
        case .bytes(let bytes): bulk(bytes)
        case .integer(let number): bulk(decimal: number)
        }
    }
}
