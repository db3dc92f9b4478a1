import MartletBase
import MartletKeyspace
import MartletRESP

// Lists: both ends, the middle, and waiting for elements. (t_list.c)

extension CommandFamily {
    static let list = CommandFamily(
        .list,
        [
            .lpush, .rpush, .lpushx, .rpushx, .linsert, .lset,
            .llen, .lindex, .lrange, .lpos,
            .lpop, .rpop, .lmpop, .lrem, .ltrim,
            .lmove, .rpoplpush,
            .blpop, .brpop, .blmpop, .blmove, .brpoplpush,
        ])
}

// MARK: Adding

extension Command {
    static let lpush = Command(
        "LPUSH", since: "1.0.0", arity: .atLeast(3), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .insert])],
        arguments: "key element...",
        history: [("2.4.0", "Accepts multiple `element` arguments.")],
        complexity: pushComplexity,
        summary: "Prepend one or multiple elements to a list",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try push(request, at: .head, mayCreate: true, &keyspace, &reply)
        })

    static let rpush = Command(
        "RPUSH", since: "1.0.0", arity: .atLeast(3), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .insert])],
        arguments: "key element...",
        history: [("2.4.0", "Accepts multiple `element` arguments.")],
        complexity: pushComplexity,
        summary: "Append one or multiple elements to a list",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try push(request, at: .tail, mayCreate: true, &keyspace, &reply)
        })

    static let lpushx = Command(
        "LPUSHX", since: "2.2.0", arity: .atLeast(3), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .insert])],
        arguments: "key element...",
        history: [("4.0.0", "Accepts multiple `element` arguments.")],
        complexity: pushComplexity,
        summary: "Prepend an element to a list, only if the list exists",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try push(request, at: .head, mayCreate: false, &keyspace, &reply)
        })

    static let rpushx = Command(
        "RPUSHX", since: "2.2.0", arity: .atLeast(3), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .insert])],
        arguments: "key element...",
        history: [("4.0.0", "Accepts multiple `element` arguments.")],
        complexity: pushComplexity,
        summary: "Append an element to a list, only if the list exists",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try push(request, at: .tail, mayCreate: false, &keyspace, &reply)
        })

    private static let pushComplexity: StaticString =
        "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments."

    private static func push(
        _ request: Request, at end: ListEnd, mayCreate: Bool, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        let key = request.firstKey
        guard var list = try keyspace.writeList(key, mayCreate: mayCreate) else { return reply.integer(0) }
        for index in 2..<request.count { list.push(request.arguments[index], at: end) }
        keyspace.didModify(end.pushEvent, key, changes: request.count - 2)
        reply.integer(list.count)
    }

    static let linsert = Command(
        "LINSERT", since: "2.2.0", arity: .exactly(5), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 1, [.readWrite, .insert])],
        arguments: "key where=<BEFORE|AFTER> pivot element",
        complexity: """
            O(N) where N is the number of elements to traverse before seeing the value pivot. This means that inserting \
            somewhere on the left end on the list (head) can be considered O(1) and inserting somewhere on the right end \
            (tail) is O(N).
            """,
        summary: "Insert an element before or after another element in a list",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let side: ListValue.InsertionSide
            if request.matches(2, "AFTER") {
                side = .after
            } else if request.matches(2, "BEFORE") {
                side = .before
            } else {
                throw .syntax
            }
            let key = request.firstKey
            guard var list = try keyspace.writeList(key) else { return reply.integer(0) }
            guard list.insert(request[4], side, of: request[3]) else { return reply.integer(-1) }
            keyspace.didModify(.listInsert, key)
            reply.integer(list.count)
        })

    static let lset = Command(
        "LSET", since: "1.0.0", arity: .exactly(4), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 1, [.readWrite, .update])],
        arguments: "key index:integer element",
        complexity: """
            O(N) where N is the length of the list. Setting either the first or the last element of the list is O(1).
            """,
        summary: "Set the value of an element in a list by its index",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let key = request.firstKey
            guard var list = try keyspace.writeList(key) else { throw .noSuchKey }
            let index = try request.integer(at: 2)
            guard list.set(request[3], at: Int(index)) else { throw .text("ERR index out of range") }
            keyspace.didModify(.listSet, key)
            reply.ok()
        })
}

// MARK: Looking

extension Command {
    static let llen = Command(
        "LLEN", since: "1.0.0", arity: .exactly(2), flags: [.readonly, .fast], keys: [.one(at: 1, [.readOnly])],
        arguments: "key", complexity: "O(1)", summary: "Get the length of a list",
        run: .data { request, keyspace, reply throws(ReplyError) in
            reply.integer(try keyspace.readList(request.firstKey)?.count ?? 0)
        })

    static let lindex = Command(
        "LINDEX", since: "1.0.0", arity: .exactly(3), flags: [.readonly], keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key index:integer",
        complexity: """
            O(N) where N is the number of elements to traverse to get to the element at index. This makes asking for the \
            first or the last element of the list O(1).
            """,
        summary: "Get an element from a list by its index",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard let list = try keyspace.readList(request.firstKey) else { return reply.null() }
            let index = try request.integer(at: 2)
            if let element = list.element(at: Int(index)) { reply.value(element) } else { reply.null() }
        })

    static let lrange = Command(
        "LRANGE", since: "1.0.0", arity: .exactly(4), flags: [.readonly], keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key start:integer stop:integer",
        complexity: """
            O(S+N) where S is the distance of start offset from HEAD for small lists, from nearest end (HEAD or TAIL) for \
            large lists; and N is the number of elements in the specified range.
            """,
        summary: "Get a range of elements from a list",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let start = try request.integer(at: 2)
            let stop = try request.integer(at: 3)
            guard let list = try keyspace.readList(request.firstKey) else { return reply.array(0) }
            reply.elements(of: list, list.indexes(from: start, through: stop), from: .head)
        })

    static let lpos = Command(
        "LPOS", since: "6.0.6", arity: .atLeast(3), flags: [.readonly], keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key element [RANK rank:integer] [COUNT num-matches:integer] [MAXLEN len:integer]",
        complexity: """
            O(N) where N is the number of elements in the list, for the average case. When searching for elements near the \
            head or the tail of the list, or when the MAXLEN option is provided, the command may run in constant time.
            """,
        summary: "Return the index of matching elements on a list",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let options = try PositionOptions(request)
            guard let list = try keyspace.readList(request.firstKey) else {
                if options.count == nil { reply.null() } else { reply.array(0) }
                return
            }
            let start = reply.deferredAggregate()
            var (matches, found) = (0 as Int64, 0)
            let needle = ListNeedle(request[2])
            list.findAll(needle, from: options.start, elementsMax: options.elementsMax) { index in
                matches += 1
                guard matches >= options.rank else { return true }
                found += 1
                reply.integer(index)
                guard let count = options.count else { return false }
                return count == 0 || found < count
            }
            if options.count != nil {
                reply.endArray(start, count: found)
            } else if found == 0 {
                reply.null()
            }
        })
}

private struct PositionOptions {
    /// The first match to be told, at least 1.
    var rank: Int64 = 1
    var start = ListEnd.head
    /// 0 for all; nil if the reply is one index.
    var count: Int64?
    var elementsMax = Int.max

    init(_ request: Request) throws(ReplyError) {
        var index = 3
        while index < request.count {
            guard index + 1 < request.count else { throw .syntax }
            if request.matches(index, "RANK") {
                rank = try request.integer(at: index + 1)
                if rank == 0 {
                    throw .text(
                        """
                        ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use \
                        negative to start from the end of the list
                        """)
                }
            } else if request.matches(index, "COUNT") {
                count = try request.integer(at: index + 1, from: 0, orFailWith: "ERR COUNT can't be negative")
            } else if request.matches(index, "MAXLEN") {
                let maximum = try request.integer(at: index + 1, from: 0, orFailWith: "ERR MAXLEN can't be negative")
                elementsMax = maximum == 0 ? .max : Int(maximum)
            } else {
                throw .syntax
            }
            index += 2
        }
        if rank < 0 {
            // The least number has no opposite, and stays below every count of matches.
            rank = 0 &- rank
            start = .tail
        }
    }
}

// MARK: Removing

extension Command {
    static let lpop = Command(
        "LPOP", since: "1.0.0", arity: .atLeast(2), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .delete])],
        arguments: "key [count:integer@6.2.0]",
        history: [("6.2.0", "Added the `count` argument.")],
        complexity: "O(N) where N is the number of elements returned",
        summary: "Remove and get the first elements in a list",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try pop(request, from: .head, "lpop", &keyspace, &reply)
        })

    static let rpop = Command(
        "RPOP", since: "1.0.0", arity: .atLeast(2), flags: [.write, .fast],
        keys: [.one(at: 1, [.readWrite, .access, .delete])],
        arguments: "key [count:integer@6.2.0]",
        history: [("6.2.0", "Added the `count` argument.")],
        complexity: "O(N) where N is the number of elements returned",
        summary: "Remove and get the last elements in a list",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try pop(request, from: .tail, "rpop", &keyspace, &reply)
        })

    private static func pop(
        _ request: Request, from end: ListEnd, _ name: StaticString, _ keyspace: inout Keyspace,
        _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        let key = request.firstKey
        if request.count == 2 {
            guard var list = try keyspace.writeList(key) else { return reply.null() }
            reply.value(list.element(at: end))
            keyspace.removeElement(from: &list, key, end)
            return
        }
        guard request.count == 3 else { throw .wrongArgumentCount(name.description) }
        let count = try request.integer(
            at: 2, from: 0, orFailWith: "ERR value is out of range, must be positive")
        guard var list = try keyspace.writeList(key) else { return reply.nullArray() }
        if count == 0 { return reply.array(0) }
        keyspace.pop(count, from: &list, key, end, &reply)
    }

    static let lmpop = Command(
        "LMPOP", since: "7.0.0", arity: .atLeast(4), flags: [.write],
        keys: [KeySpec([.readWrite, .access, .delete], begin: .index(1), find: .count(index: 0, first: 1, step: 1))],
        arguments: "numkeys:integer key... where=<LEFT|RIGHT> [COUNT count:integer]",
        complexity: "O(N+M) where N is the number of provided keys and M is the number of elements returned.",
        summary: "Pop elements from a list",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let options = try MultiPop(request, from: 1, .places)
            for index in options.keys {
                let key = request.key(at: index, in: keyspace)
                guard let entry = keyspace.lookupWrite(key) else { continue }
                guard entry.type == .list else { throw .wrongType }
                return keyspace.pop(options, entry, key, &reply)
            }
            reply.nullArray()
        })

    static let lrem = Command(
        "LREM", since: "1.0.0", arity: .exactly(4), flags: [.write], keys: [.one(at: 1, [.readWrite, .delete])],
        arguments: "key count:integer element",
        complexity: "O(N+M) where N is the length of the list and M is the number of elements removed.",
        summary: "Remove elements from a list",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let count = try request.integer(at: 2)
            let key = request.firstKey
            guard var list = try keyspace.writeList(key) else { return reply.integer(0) }
            let removed = list.removeAll(
                ListNeedle(request[3]), countMax: count == 0 ? .max : Int(clamping: count.magnitude),
                from: count < 0 ? .tail : .head)
            if removed > 0 { keyspace.didRemove(removed, from: list, key, .listRemove) }
            reply.integer(removed)
        })

    static let ltrim = Command(
        "LTRIM", since: "1.0.0", arity: .exactly(4), flags: [.write], keys: [.one(at: 1, [.readWrite, .delete])],
        arguments: "key start:integer stop:integer",
        complexity: "O(N) where N is the number of elements to be removed by the operation.",
        summary: "Trim a list to the specified range",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let start = try request.integer(at: 2)
            let stop = try request.integer(at: 3)
            let key = request.firstKey
            guard var list = try keyspace.writeList(key) else { return reply.ok() }
            let count = list.count
            let kept = list.indexes(from: start, through: stop)
            if !kept.isEmpty {
                list.remove(kept.upperBound..<count)
                list.remove(0..<kept.lowerBound)
                // Whoever watches the key is told even if nothing was removed.
                keyspace.didModify(.listTrim, key, changes: count - kept.count)
            } else {
                keyspace.didModify(.listTrim, key, changes: count)
                keyspace.deleteEmptied(key)
            }
            reply.ok()
        })
}

// MARK: Moving

extension Command {
    static let lmove = Command(
        "LMOVE", since: "6.2.0", arity: .exactly(5), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 1, [.readWrite, .access, .delete]), .one(at: 2, [.readWrite, .insert])],
        arguments: "source:key destination:key#1 wherefrom=<LEFT|RIGHT> whereto=<LEFT|RIGHT>",
        complexity: "O(1)", summary: "Pop an element from a list, push it to another list and return it",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let source = try request.listEnd(at: 3)
            let target = try request.listEnd(at: 4)
            if try !keyspace.moveElement(request, from: source, to: target, &reply) { reply.null() }
        })

    static let rpoplpush = Command(
        "RPOPLPUSH", since: "1.2.0", arity: .exactly(3), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 1, [.readWrite, .access, .delete]), .one(at: 2, [.readWrite, .insert])],
        arguments: "source:key destination:key#1",
        deprecated: ("6.2.0", "`LMOVE` with the `RIGHT` and `LEFT` arguments"),
        complexity: "O(1)", summary: "Remove the last element in a list, prepend it to another list and return it",
        run: .data { request, keyspace, reply throws(ReplyError) in
            if try !keyspace.moveElement(request, from: .tail, to: .head, &reply) { reply.null() }
        })
}

// MARK: Waiting

extension Command {
    static let blpop = Command(
        "BLPOP", since: "2.0.0", arity: .atLeast(3), flags: [.write, .noScript, .blocking],
        keys: [KeySpec([.readWrite, .access, .delete], begin: .index(1), find: .range(last: -2, step: 1, limit: 0))],
        arguments: "key... timeout:double",
        history: [("6.0.0", "`timeout` is interpreted as a double instead of an integer.")],
        complexity: "O(N) where N is the number of provided keys.",
        summary: "Remove and get the first element in a list, or block until one is available",
        run: .node { request, node, client throws(ReplyError) in
            try blockingPop(request, &node, client) { request, key, entry, keyspace, reply throws(ReplyError) in
                keyspace.popOne(entry, key, .head, &reply)
                return true
            }
        })

    static let brpop = Command(
        "BRPOP", since: "2.0.0", arity: .atLeast(3), flags: [.write, .noScript, .blocking],
        keys: [KeySpec([.readWrite, .access, .delete], begin: .index(1), find: .range(last: -2, step: 1, limit: 0))],
        arguments: "key... timeout:double",
        history: [("6.0.0", "`timeout` is interpreted as a double instead of an integer.")],
        complexity: "O(N) where N is the number of provided keys.",
        summary: "Remove and get the last element in a list, or block until one is available",
        run: .node { request, node, client throws(ReplyError) in
            try blockingPop(request, &node, client) { request, key, entry, keyspace, reply throws(ReplyError) in
                keyspace.popOne(entry, key, .tail, &reply)
                return true
            }
        })

    private static func blockingPop(
        _ request: Request, _ node: inout Node, _ client: ClientPointer, serve: @escaping ServeHandler
    ) throws(ReplyError) {
        let deadline = try request.deadline(seconds: request.count - 1, now: node.time.unixMilliseconds)
        try blockingPop(request, keys: 1..<request.count - 1, until: deadline, &node, client, serve: serve)
    }

    /// Pops from the first of the keys that is there, or waits until one is. - Parameter type: of the keys.
    static func blockingPop(
        _ request: Request, keys: Range<Int>, type: ValueType = .list, until deadline: Int64, _ node: inout Node,
        _ client: ClientPointer, serve: @escaping ServeHandler
    ) throws(ReplyError) {
        for index in keys {
            let key = request.key(at: index, in: node.keyspace)
            guard let entry = node.keyspace.lookupWrite(key) else { continue }
            guard entry.type == type else { throw .wrongType }
            _ = try serve(request, key, entry, &node.keyspace, &client.pointee.reply)
            return
        }
        guard node.mayBlock(client) else { return client.pointee.reply.nullArray() }
        node.block(client, request, keys: keys, type: type, until: deadline, serve: serve)
    }

    static let blmpop = Command(
        "BLMPOP", since: "7.0.0", arity: .atLeast(5), flags: [.write, .blocking],
        keys: [KeySpec([.readWrite, .access, .delete], begin: .index(2), find: .count(index: 0, first: 1, step: 1))],
        arguments: "timeout:double numkeys:integer key... where=<LEFT|RIGHT> [COUNT count:integer]",
        complexity: "O(N+M) where N is the number of provided keys and M is the number of elements returned.",
        summary: "Pop elements from a list, or block until one is available",
        run: .node { request, node, client throws(ReplyError) in
            let keys = try MultiPop(request, from: 2, .places).keys
            let deadline = try request.deadline(seconds: 1, now: node.time.unixMilliseconds)
            try blockingPop(request, keys: keys, until: deadline, &node, client) {
                request, key, entry, keyspace, reply throws(ReplyError) in
                let options = try MultiPop(request, from: 2, .places)
                keyspace.pop(options, entry, key, &reply)
                return true
            }
        })

    static let blmove = Command(
        "BLMOVE", since: "6.2.0", arity: .exactly(6), flags: [.write, .denyOutOfMemory, .noScript, .blocking],
        keys: [.one(at: 1, [.readWrite, .access, .delete]), .one(at: 2, [.readWrite, .insert])],
        arguments: "source:key destination:key#1 wherefrom=<LEFT|RIGHT> whereto=<LEFT|RIGHT> timeout:double",
        complexity: "O(1)",
        summary: "Pop an element from a list, push it to another list and return it; or block until one is available",
        run: .node { request, node, client throws(ReplyError) in
            _ = try request.listEnd(at: 3)
            _ = try request.listEnd(at: 4)
            try blockingMove(request, timeoutIndex: 5, &node, client) {
                request, key, entry, keyspace, reply throws(ReplyError) in
                let source = try request.listEnd(at: 3)
                let target = try request.listEnd(at: 4)
                guard try keyspace.moveElement(request, from: source, to: target, &reply) else { return false }
                if keyspace.propagation.isOn {
                    keyspace.propagateInstead(bytes("LMOVE"), request[1], request[2], request[3], request[4])
                }
                return true
            }
        })

    static let brpoplpush = Command(
        "BRPOPLPUSH", since: "2.2.0", arity: .exactly(4), flags: [.write, .denyOutOfMemory, .noScript, .blocking],
        keys: [.one(at: 1, [.readWrite, .access, .delete]), .one(at: 2, [.readWrite, .insert])],
        arguments: "source:key destination:key#1 timeout:double",
        history: [("6.0.0", "`timeout` is interpreted as a double instead of an integer.")],
        deprecated: ("6.2.0", "`BLMOVE` with the `RIGHT` and `LEFT` arguments"),
        complexity: "O(1)",
        summary: "Pop an element from a list, push it to another list and return it; or block until one is available",
        run: .node { request, node, client throws(ReplyError) in
            try blockingMove(request, timeoutIndex: 3, &node, client) {
                request, key, entry, keyspace, reply throws(ReplyError) in
                guard try keyspace.moveElement(request, from: .tail, to: .head, &reply) else { return false }
                if keyspace.propagation.isOn {
                    keyspace.propagateInstead(bytes("RPOPLPUSH"), request[1], request[2])
                }
                return true
            }
        })

    private static func blockingMove(
        _ request: Request, timeoutIndex: Int, _ node: inout Node, _ client: ClientPointer,
        serve: @escaping ServeHandler
    ) throws(ReplyError) {
        let deadline = try request.deadline(seconds: timeoutIndex, now: node.time.unixMilliseconds)
        let key = request.firstKey
        if let entry = node.keyspace.lookupWrite(key) {
            guard entry.type == .list else { throw .wrongType }
            _ = try serve(request, key, entry, &node.keyspace, &client.pointee.reply)
            return
        }
        guard node.mayBlock(client) else { return client.pointee.reply.null() }
        node.block(client, request, keys: 1..<2, type: .list, until: deadline, serve: serve)
    }
}

// MARK: What the commands share

extension ListEnd {
    fileprivate var pushEvent: KeyEvent { self == .head ? .leftPush : .rightPush }
    fileprivate var popEvent: KeyEvent { self == .head ? .leftPop : .rightPop }
    fileprivate var popCommand: UnsafeRawBufferPointer { self == .head ? bytes("LPOP") : bytes("RPOP") }
}

extension ListValue {
    /// The indexes from `start` to `stop`, both inclusive; negative ones count from the end.
    fileprivate func indexes(from start: Int64, through stop: Int64) -> Range<Int> {
        let count = Int64(count)
        let first = max(start < 0 ? start + count : start, 0)
        let last = min(stop < 0 ? stop + count : stop, count - 1)
        return first <= last ? Int(first)..<Int(last) + 1 : 0..<0
    }
}

extension Request {
    fileprivate func listEnd(at index: Int) throws(ReplyError) -> ListEnd {
        if matches(index, "RIGHT") { return .tail }
        if matches(index, "LEFT") { return .head }
        throw .syntax
    }

    /// An integer that must not be less than a minimum. (getRangeLongFromObjectOrReply)
    ///
    /// - Parameter text: of the error, also for what is no integer at all.
    func integer(at index: Int, from minimum: Int64, orFailWith text: StaticString) throws(ReplyError) -> Int64 {
        guard let number = parseInt64(self[index]), number >= minimum else { throw .text(text) }
        return number
    }
}

extension ReplyBuffer {
    /// Elements of a list, in the order in which they are met from one end.
    fileprivate mutating func elements(of list: ListValue, _ indexes: Range<Int>, from end: ListEnd) {
        array(indexes.count)
        var cursor = list.elements(
            from: end == .head ? indexes.lowerBound : indexes.upperBound - 1, towards: end == .head ? .tail : .head)
        var left = indexes.count
        while left > 0, let element = cursor.next() {
            value(element)
            left -= 1
        }
    }
}

extension Keyspace {
    @inline(__always)
    fileprivate mutating func readList(_ key: Key) throws(ReplyError) -> ListValue? {
        guard let entry = try read(key, as: .list) else { return nil }
        return list(entry)
    }

    /// The list of a key that a command is going to change. - Parameter mayCreate: a missing key becomes an empty list.
    @inline(__always)
    fileprivate mutating func writeList(_ key: Key, mayCreate: Bool = false) throws(ReplyError) -> ListValue? {
        guard let entry = try write(key, as: .list) else { return mayCreate ? insertList(key) : nil }
        willModify(entry)
        return list(entry)
    }

    /// After elements were removed: reports it, and deletes a key whose list is empty.
    fileprivate mutating func didRemove(_ count: Int, from list: ListValue, _ key: Key, _ event: KeyEvent) {
        didModify(event, key, changes: count)
        if list.isEmpty { deleteEmptied(key) }
    }

    @inline(__always)
    fileprivate mutating func removeElement(from list: inout ListValue, _ key: Key, _ end: ListEnd) {
        list.removeElement(at: end)
        didRemove(1, from: list, key, end.popEvent)
    }

    /// Pops up to `count` elements into an array.
    fileprivate mutating func pop(
        _ count: Int64, from list: inout ListValue, _ key: Key, _ end: ListEnd, _ reply: inout ReplyBuffer
    ) {
        let length = list.count
        let popped = Int(min(count, Int64(length)))
        let indexes = end == .head ? 0..<popped : length - popped..<length
        reply.elements(of: list, indexes, from: end)
        list.remove(indexes)
        didRemove(popped, from: list, key, end.popEvent)
    }

    /// Pops for LMPOP and BLMPOP, which are propagated as LPOP or RPOP with the count of what there was.
    fileprivate mutating func pop(
        _ options: MultiPop, _ entry: Entry, _ key: Key, _ reply: inout ReplyBuffer
    ) {
        willModify(entry)
        var list = list(entry)
        let end: ListEnd = options.isFromLast ? .tail : .head
        let count = Int64(min(options.limit, list.count))
        reply.array(2)
        reply.bulk(key.bytes)
        pop(count, from: &list, key, end, &reply)
        guard propagation.isOn else { return }
        withDecimal(count) { propagateInstead(end.popCommand, key.bytes, $0) }
    }

    /// Pops for BLPOP and BRPOP, which are propagated as LPOP or RPOP.
    fileprivate mutating func popOne(_ entry: Entry, _ key: Key, _ end: ListEnd, _ reply: inout ReplyBuffer) {
        willModify(entry)
        var list = list(entry)
        reply.array(2)
        reply.bulk(key.bytes)
        reply.value(list.element(at: end))
        removeElement(from: &list, key, end)
        if propagation.isOn { propagateInstead(end.popCommand, key.bytes) }
    }

    /// Moves an element from the list of argument 1 to that of argument 2, which may be the same, and replies with it.
    ///
    /// - Returns: false if the source is missing.
    fileprivate mutating func moveElement(
        _ request: Request, from sourceEnd: ListEnd, to targetEnd: ListEnd, _ reply: inout ReplyBuffer
    ) throws(ReplyError) -> Bool {
        let source = request.firstKey
        guard let sourceEntry = lookupWrite(source) else { return false }
        guard sourceEntry.type == .list else { throw .wrongType }
        let target = request.key(at: 2, in: self)
        let targetEntry = lookupWrite(target)
        if let targetEntry, targetEntry.type != .list { throw .wrongType }
        willModify(sourceEntry)
        var list = list(sourceEntry)
        let element = list.element(at: sourceEnd)
        reply.value(element)
        if targetEntry == sourceEntry {
            list.rotate(from: sourceEnd, to: targetEnd)
            didModify(targetEnd.pushEvent, target, changes: 0)
            didModify(sourceEnd.popEvent, source)
            return true
        }
        if let targetEntry { willModify(targetEntry) }
        var other = targetEntry.map { self.list($0) } ?? insertList(target)
        other.push(element, at: targetEnd)
        didModify(targetEnd.pushEvent, target, changes: 0)
        removeElement(from: &list, source, sourceEnd)
        return true
    }
}
