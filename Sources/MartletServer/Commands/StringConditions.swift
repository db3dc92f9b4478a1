import MartletBase
import MartletKeyspace
import MartletRESP

// Conditions on the value of a string, so that a client changes or deletes only what it has seen: a lock that it still
// holds, a document that nobody else has changed since.
//
// Valkey 8.1 and later have `SET … IFEQ`, DELIFEQ and MSETEX, Redis 8.4 has the rest; the commands mean the same where both
// have them. Replicas and the log get commands that Redis 7.0 knows.

// MARK: Comparison

/// `IFEQ value`, `IFNE value`, `IFDEQ digest` or `IFDNE digest`.
struct ValueComparison {
    private let expectsEqual: Bool
    /// Index in the request of the value to compare with; nil for a digest.
    private let valueIndex: Int?
    private let digest: UInt64

    /// - Parameter index: of the word, behind which there is one more argument.
    /// - Returns: nil if the word is none of a comparison.
    init?(_ request: Request, at index: Int) throws(ReplyError) {
        let isDigest = request.matches(index, "IFDEQ") || request.matches(index, "IFDNE")
        guard isDigest || request.matches(index, "IFEQ") || request.matches(index, "IFNE") else { return nil }
        expectsEqual = request.matches(index, "IFEQ") || request.matches(index, "IFDEQ")
        valueIndex = isDigest ? nil : index + 1
        digest = try isDigest ? Self.digest(request[index + 1]) : 0
    }

    private static func digest(_ text: UnsafeRawBufferPointer) throws(ReplyError) -> UInt64 {
        var digest: UInt64 = 0
        for byte in text {
            guard text.count == 16, let digit = hexValue(byte) else { throw .digest }
            digest = digest << 4 | UInt64(digit)
        }
        guard text.count == 16 else { throw .digest }
        return digest
    }

    /// A missing key differs from every value. - Throws: WRONGTYPE if the key holds no string.
    func isMet(by entry: Entry?, _ request: Request) throws(ReplyError) -> Bool {
        guard let entry else { return !expectsEqual }
        guard entry.isString else { throw .wrongType }
        let isEqual = entry.withBytes { value in
            if let valueIndex { return value.elementsEqual(request[valueIndex]) }
            return xxh3(value) == digest
        }
        return isEqual == expectsEqual
    }
}

extension ReplyError {
    fileprivate static let digest = ReplyError.text("ERR digest must be exactly 16 hexadecimal characters")
}

// MARK: Commands

extension Command {
    static let delifeq = Command(
        "DELIFEQ", since: "9.0.0", arity: .exactly(3), flags: [.write, .fast],
        keys: [.one(at: 1, [.remove, .access, .delete])],
        arguments: "key value",
        complexity: "O(1)", summary: "Delete key if value matches string.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let key = request.firstKey
            guard let entry = keyspace.lookupWrite(key) else { return reply.integer(0) }
            guard entry.isString else { throw .wrongType }
            guard entry.withBytes({ $0.elementsEqual(request[2]) }) else { return reply.integer(0) }
            deleteCompared(key, &keyspace, &reply)
        })

    static let delex = Command(
        "DELEX", since: "8.4.0", arity: .atLeast(2), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .delete])],
        arguments: "key [condition=<IFEQ ifeq-value|IFNE ifne-value|IFDEQ ifdeq-digest|IFDNE ifdne-digest>]",
        complexity: "O(1) for IFEQ/IFNE, O(N) for IFDEQ/IFDNE where N is the length of the string value.",
        summary: "Conditionally removes the specified key based on value or digest comparison.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard request.count == 2 || request.count == 4 else { throw .wrongArgumentCount("delex") }
            let key = request.firstKey
            if request.count == 4 {
                guard let comparison = try ValueComparison(request, at: 2) else { throw .syntax }
                guard let entry = keyspace.lookupWrite(key), try comparison.isMet(by: entry, request) else {
                    return reply.integer(0)
                }
            }
            deleteCompared(key, &keyspace, &reply)
        })

    private static func deleteCompared(_ key: Key, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer) {
        let isDeleted = keyspace.delete(key)
        if isDeleted { keyspace.propagateInstead(bytes("DEL"), key.bytes) }
        reply.integer(isDeleted ? 1 : 0)
    }

    static let digest = Command(
        "DIGEST", since: "8.4.0", arity: .exactly(2), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key",
        complexity: "O(N) where N is the length of the string value.",
        summary: "Returns the XXH3 hash of a string value.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let entry = try keyspace.readString(request.firstKey) else { return reply.null() }
            let digest = entry.withBytes(xxh3)
            reply.bulk(withUnsafeBytes(of: digest.bigEndian) { hexadecimal($0) })
        })

    static let msetex = Command(
        "MSETEX", since: "9.1.0", arity: .atLeast(4), flags: [.write, .denyOutOfMemory],
        keys: [KeySpec([.overwrite, .update], begin: .index(1), find: .count(index: 0, first: 1, step: 2))],
        tips: ["request_policy:multi_shard", "response_policy:all_succeeded"],
        arguments: """
            numkeys:integer data={key value}... [condition=<NX|XX>] [expiration=<EX seconds:integer|PX \
            milliseconds:integer|EXAT unix-time-seconds:unix-time|PXAT unix-time-milliseconds:unix-time|KEEPTTL>]
            """,
        complexity: "O(N) where N is the number of keys to set.",
        summary: """
            Atomically creates or modifies the string values of one or more keys, and optionally set their expiration.
            """,
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let pairCount = parseInt64(request[1]), pairCount > 0, pairCount <= Int32.max else {
                throw .text("ERR invalid numkeys value or out of range")
            }
            guard pairCount <= (request.count - 2) / 2 else { throw .syntax }
            let end = 2 + 2 * Int(pairCount)
            let options = try ValueOptions(request, from: end, of: .setMany)
            let expiry = try options.expiry(in: request, now: keyspace.now, command: "msetex")
            if options.isConditional {
                for index in stride(from: 2, to: end, by: 2) {
                    let entry = keyspace.lookupWrite(request.key(at: index, in: keyspace))
                    guard try options.areMet(by: entry, request) else { return reply.integer(0) }
                }
            }
            for index in stride(from: 2, to: end, by: 2) {
                let key = request.key(at: index, in: keyspace)
                let value = request[index + 1]
                if let expiry {
                    setString(key, value, expiry: expiry, &keyspace)
                } else {
                    let keepsExpiry = options.contains(.keepExpiry)
                    keyspace.setString(key, value, expiry: keepsExpiry ? .keep : .remove)
                    propagate(setting: key, value, keepingExpiry: keepsExpiry, &keyspace)
                }
            }
            reply.integer(1)
        })
}
