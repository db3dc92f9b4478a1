import MartletBase
import MartletKeyspace
import MartletRESP

// Commands on keys of any type. What they do to expiring keys is in ExpiryCommands, walking over keys in ScanCommands.
//
// Source of replies and rules: Redis 7.0 db.c.

extension CommandFamily {
    static let generic = CommandFamily(
        .generic, [.del, .unlink, .exists, .touch, .type, .rename, .renamenx, .copy, .move, .randomkey])
}

// MARK: - Being there or not

extension Command {
    static let del = Command(
        "DEL", since: "1.0.0", arity: .atLeast(2), flags: [.write],
        keys: [.all(from: 1, [.remove, .delete])],
        tips: ["request_policy:multi_shard", "response_policy:agg_sum"], arguments: "key...",
        complexity: """
            O(N) where N is the number of keys that will be removed. When a key to remove holds a value other than a \
            string, the individual complexity for this key is O(M) where M is the number of elements in the list, set, \
            sorted set or hash. Removing a single key that holds a string value is O(1).
            """,
        summary: "Delete a key",
        run: .data { request, keyspace, reply throws(ReplyError) in delete(request, &keyspace, &reply) })

    static let unlink = Command(
        "UNLINK", since: "4.0.0", arity: .atLeast(2), flags: [.write, .fast],
        keys: [.all(from: 1, [.remove, .delete])],
        tips: ["request_policy:multi_shard", "response_policy:agg_sum"], arguments: "key...",
        complexity: """
            O(1) for each key removed regardless of its size. Then the command does O(N) work in a different thread in \
            order to reclaim memory, where N is the number of allocations the deleted objects where composed of.
            """,
        summary: "Delete a key asynchronously in another thread. Otherwise it is just as DEL, but non blocking.",
        run: .data { request, keyspace, reply throws(ReplyError) in delete(request, &keyspace, &reply) })

    private static func delete(_ request: Request, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer) {
        if request.count == 2 { return reply.integer(keyspace.delete(request.firstKey) ? 1 : 0) }
        var deleted = 0
        keyspace.forEachKey(of: request, step: 1) { key, _, keyspace in if keyspace.delete(key) { deleted += 1 } }
        reply.integer(deleted)
    }

    static let exists = Command(
        "EXISTS", since: "1.0.0", arity: .atLeast(2), flags: [.readonly, .fast], keys: [.all(from: 1, [.readOnly])],
        tips: ["request_policy:multi_shard", "response_policy:agg_sum"], arguments: "key...",
        history: [("3.0.3", "Accepts multiple `key` arguments.")],
        complexity: "O(N) where N is the number of keys to check.", summary: "Determine if a key exists",
        run: .data { request, keyspace, reply throws(ReplyError) in
            var found = 0
            for index in 1..<request.count
            where keyspace.lookupReadUntouched(request.key(at: index, in: keyspace)) != nil { found += 1 }
            reply.integer(found)
        })

    static let touch = Command(
        "TOUCH", since: "3.2.1", arity: .atLeast(2), flags: [.readonly, .fast], keys: [.all(from: 1, [.readOnly])],
        tips: ["request_policy:multi_shard", "response_policy:agg_sum"], arguments: "key...",
        complexity: "O(N) where N is the number of keys that will be touched.",
        summary: "Alters the last access time of a key(s). Returns the number of existing keys specified.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            // Also for a client with CLIENT NO-TOUCH.
            let recordsAccess = keyspace.recordsAccess
            keyspace.recordsAccess = true
            var found = 0
            for index in 1..<request.count where keyspace.lookupRead(request.key(at: index, in: keyspace)) != nil {
                found += 1
            }
            keyspace.recordsAccess = recordsAccess
            reply.integer(found)
        })

    static let type = Command(
        "TYPE", since: "1.0.0", arity: .exactly(2), flags: [.readonly, .fast], keys: [.one(at: 1, [.readOnly])],
        arguments: "key",
        complexity: "O(1)", summary: "Determine the type stored at key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            reply.simple(keyspace.lookupReadUntouched(request.firstKey)?.type.name ?? "none")
        })

    static let randomkey = Command(
        "RANDOMKEY", since: "1.0.0", arity: .exactly(1), flags: [.readonly],
        tips: ["request_policy:all_shards", "nondeterministic_output"],
        complexity: "O(1)",
        summary: "Return a random key from the keyspace",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let entry = keyspace.randomLivingEntry() else { return reply.null() }
            reply.bulk(entry.key)
        })
}

extension Keyspace {
    /// Draws among keys that only their primary may delete. (dbRandomKey)
    private static let hiddenDrawsMax = 100

    /// A random entry whose time has not passed. Where keys are deleted by a primary, perhaps one whose time has passed.
    fileprivate mutating func randomLivingEntry() -> Entry? {
        var hiddenDraws = 0
        while let entry = randomEntry() {
            guard expireIfOver(entry) else { return entry }
            if expiryMode == .hide {
                hiddenDraws += 1
                if hiddenDraws == Self.hiddenDrawsMax { return entry }
            }
        }
        return nil
    }
}

// MARK: - Changing place

extension Command {
    static let rename = Command(
        "RENAME", since: "1.0.0", arity: .exactly(3), flags: [.write],
        keys: [.one(at: 1, [.readWrite, .access, .delete]), .one(at: 2, [.overwrite, .update])],
        arguments: "key newkey:key#1",
        complexity: "O(1)", summary: "Rename a key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            _ = try rename(request, &keyspace, replacing: true)
            reply.ok()
        })

    static let renamenx = Command(
        "RENAMENX", since: "1.0.0", arity: .exactly(3), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .delete]), .one(at: 2, [.overwrite, .insert])],
        arguments: "key newkey:key#1",
        history: [("3.2.0", "The command no longer returns an error when source and destination names are the same.")],
        complexity: "O(1)", summary: "Rename a key, only if the new key does not exist",
        run: .data { request, keyspace, reply throws(ReplyError) in
            reply.integer(try rename(request, &keyspace, replacing: false) ? 1 : 0)
        })

    /// - Returns: false if the new name was taken.
    private static func rename(
        _ request: Request, _ keyspace: inout Keyspace, replacing: Bool
    ) throws(ReplyError) -> Bool {
        let source = request.firstKey
        guard keyspace.lookupWrite(source) != nil else { throw .noSuchKey }
        if request[1].elementsEqual(request[2]) { return replacing }
        let target = request.key(at: 2, in: keyspace)
        if keyspace.lookupWrite(target) != nil, !replacing { return false }
        keyspace.move(source, to: target, database: keyspace.selected)
        return true
    }

    static let move = Command(
        "MOVE", since: "1.0.0", arity: .exactly(3), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .update])],
        arguments: "key db:integer",
        complexity: "O(1)",
        summary: "Move a key to another database",
        run: .data { request, keyspace, reply throws(ReplyError) in
            if keyspace.isClustered { throw .text("ERR MOVE is not allowed in cluster mode") }
            let target = try request.database(at: 2, in: keyspace)
            if target == keyspace.selected { throw .sameObject }
            let key = request.firstKey
            guard keyspace.lookupWrite(key) != nil, keyspace.peek(key, database: target) == nil else {
                return reply.integer(0)
            }
            keyspace.move(key, to: key, database: target)
            reply.integer(1)
        })

    static let copy = Command(
        "COPY", since: "6.2.0", arity: .atLeast(3), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 1, [.readOnly, .access]), .one(at: 2, [.overwrite, .update])],
        arguments: "source:key destination:key#1 [DB destination-db:integer] [REPLACE]",
        complexity: """
            O(N) worst case for collections, where N is the number of nested items. O(1) for string values.
            """,
        summary: "Copy a key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            var isReplacing = false
            var database = keyspace.selected
            var index = 3
            while index < request.count {
                if request.matches(index, "REPLACE") {
                    isReplacing = true
                } else if request.matches(index, "DB"), index + 1 < request.count {
                    index += 1
                    if keyspace.isClustered, try request.shortInteger(at: index) > 0 {
                        throw .text("ERR Copying to another database is not allowed in cluster mode")
                    }
                    database = try request.database(at: index, in: keyspace)
                } else {
                    throw .syntax
                }
                index += 1
            }
            let source = request.firstKey
            if database == keyspace.selected, request[1].elementsEqual(request[2]) { throw .sameObject }
            guard let entry = keyspace.lookupRead(source) else { return reply.integer(0) }
            let target = request.key(at: 2, in: keyspace)
            if keyspace.peek(target, database: database) != nil, !isReplacing { return reply.integer(0) }
            keyspace.copy(entry, to: target, database: database)
            reply.integer(1)
        })
}

extension ReplyError {
    fileprivate static let sameObject = ReplyError.text("ERR source and destination objects are the same")
}
