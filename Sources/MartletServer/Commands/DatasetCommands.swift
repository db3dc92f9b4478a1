import MartletBase
import MartletKeyspace
import MartletRESP

// Commands on whole databases. Source: Redis 7.0 db.c.

extension CommandFamily {
    static let dataset = CommandFamily(.server, [.dbsize, .flushall, .flushdb, .swapdb])
}

extension Command {
    static let dbsize = Command(
        "DBSIZE", since: "1.0.0", arity: .exactly(1), flags: [.readonly, .fast], categories: ["keyspace"],
        tips: ["request_policy:all_shards", "response_policy:agg_sum"],
        complexity: "O(1)", summary: "Return the number of keys in the selected database",
        run: .data { request, keyspace, reply throws(ReplyError) in
            reply.integer(keyspace.keyCount(database: keyspace.selected))
        })

    static let flushall = Command(
        "FLUSHALL", since: "1.0.0", arity: .atLeast(1), flags: [.write], categories: ["keyspace", "dangerous"],
        tips: ["request_policy:all_shards", "response_policy:all_succeeded"],
        arguments: "[async=<ASYNC@4.0.0|SYNC@6.2.0>]",
        history: [
            ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
            ("6.2.0", "Added the `SYNC` flushing mode modifier."),
        ],
        complexity: "O(N) where N is the total number of keys in all databases",
        summary: "Remove all keys from all databases",
        run: .node { request, node, client throws(ReplyError) in
            let isAsynchronous = try isAsynchronousFlush(request, node.configuration)
            for database in 0..<node.keyspace.databaseCount { node.flush(database, isAsynchronous: isAsynchronous) }
            node.invalidateEverything()
            node.keyspace.propagateVerbatim(request)
            client.pointee.reply.ok()
        })

    static let flushdb = Command(
        "FLUSHDB", since: "1.0.0", arity: .atLeast(1), flags: [.write], categories: ["keyspace", "dangerous"],
        tips: ["request_policy:all_shards", "response_policy:all_succeeded"],
        arguments: "[async=<ASYNC@4.0.0|SYNC@6.2.0>]",
        history: [
            ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
            ("6.2.0", "Added the `SYNC` flushing mode modifier."),
        ],
        complexity: "O(N) where N is the number of keys in the selected database",
        summary: "Remove all keys from the current database",
        run: .node { request, node, client throws(ReplyError) in
            let isAsynchronous = try isAsynchronousFlush(request, node.configuration)
            node.flush(client.pointee.database, isAsynchronous: isAsynchronous)
            node.invalidateEverything()
            node.keyspace.propagateVerbatim(request)
            client.pointee.reply.ok()
        })

    private static func isAsynchronousFlush(
        _ request: Request, _ configuration: borrowing ServerConfiguration
    ) throws(ReplyError) -> Bool {
        if request.count == 1 { return configuration.lazyFreesUserFlush }
        if request.count == 2, request.matches(1, "ASYNC") { return true }
        if request.count == 2, request.matches(1, "SYNC") { return false }
        throw .syntax
    }

    static let swapdb = Command(
        "SWAPDB", since: "4.0.0", arity: .exactly(3), flags: [.write, .fast], categories: ["keyspace", "dangerous"],
        arguments: "index1:integer index2:integer",
        complexity: "O(N) where N is the count of clients watching or blocking on keys from both databases.",
        summary: "Swaps two Redis databases",
        run: .node { request, node, client throws(ReplyError) in
            if node.isClustered { throw .text("ERR SWAPDB is not allowed in cluster mode") }
            guard let first = parseInt64(request[1]), Int32(exactly: first) != nil else {
                throw .text("ERR invalid first DB index")
            }
            guard let second = parseInt64(request[2]), Int32(exactly: second) != nil else {
                throw .text("ERR invalid second DB index")
            }
            let databases = 0..<Int64(node.keyspace.databaseCount)
            guard databases.contains(first), databases.contains(second) else {
                throw .text("ERR DB index is out of range")
            }
            node.keyspace.swap(Int(first), Int(second))
            node.invalidateEverything()
            client.pointee.reply.ok()
        })
}

extension Node {
    /// Databases with more keys and elements are freed in the background even when the client asked for it at once: freeing
    /// takes some 100 ns for each, and other clients shall not wait for it.
    private static let freeEffortAtOnceMax = 50_000

    /// Empties a database.
    mutating func flush(_ database: Int, isAsynchronous: Bool) {
        guard keyspace.keyCount(database: database) > 0 else { return }
        let isLarge = keyspace.isFreeEffort(of: database, above: Self.freeEffortAtOnceMax)
        let tables = keyspace.flush(database: database)
        // Otherwise the last reference goes here.
        if isAsynchronous || isLarge { freeInBackground(tables) }
    }

    /// Hands tables that were flushed to the thread that frees them.
    mutating func freeInBackground(_ tables: DetachedTables) {
        tables.enter(in: lazyFrees)
        effects.append(.free(tables))
    }
}

extension Keyspace {
    /// The running command reaches replicas and the log also if it changed nothing.
    fileprivate mutating func propagateVerbatim(_ request: Request) {
        guard propagation.isOn else { return }
        propagateInstead((0..<request.count).map { request[$0] })
    }
}
