import MartletBase
import MartletKeyspace
import MartletRESP

extension Node {
    /// One line of CLIENT LIST, without its end. Source of the fields: Redis 7.0 networking.c, catClientInfoString; those
    /// behind `resp` are from later versions.
    ///
    /// - Parameter request: what the client has running.
    package func description(of client: ClientPointer, running request: Request? = nil) -> String {
        let argumentBytes = request.map { request in (0..<request.count).reduce(0) { $0 + request[$1].count } } ?? 0
        let queryBytes = client.pointee.queryBytes + (request?.encodedCount ?? 0)
        let now = time.unixMilliseconds
        let replyCapacity = client.pointee.reply.capacity
        let replyBytes = client.pointee.reply.count + services.unsentBytes(client)
        // Redis tells a fixed buffer and a list of blocks apart; large replies are shown as the latter.
        let isLarge = max(replyCapacity, replyBytes) > ReplyBuffer.keptCapacityMax
        var fields: [(StaticString, String)] = []
        func add(_ name: StaticString, _ value: some CustomStringConvertible) {
            fields.append((name, value.description))
        }
        add("id", client.pointee.id)
        add("addr", client.pointee.address)
        add("laddr", client.pointee.localAddress)
        add("fd", client.pointee.fd)
        add("name", String(decoding: client.pointee.name, as: UTF8.self))
        add("age", (now - client.pointee.createdAt) / 1000)
        add("idle", (now - client.pointee.lastInteraction) / 1000)
        add("flags", flagLetters(of: client))
        add("db", client.pointee.database)
        add("sub", client.pointee.subscriptions[.channel].count)
        add("psub", client.pointee.subscriptions[.pattern].count)
        add("ssub", client.pointee.subscriptions[.shard].count)
        add("multi", client.pointee.queuedCommandCount)
        add("qbuf", queryBytes)
        add("qbuf-free", max(0, client.pointee.queryCapacity - queryBytes))
        add("argv-mem", argumentBytes)
        add("multi-mem", client.pointee.transaction?.memoryBytes ?? 0)
        add("rbs", isLarge ? 0 : replyCapacity)
        add("rbp", isLarge ? 0 : replyBytes)
        add("obl", isLarge ? 0 : replyBytes)
        add("oll", isLarge ? 1 : 0)
        add("omem", isLarge ? max(replyCapacity, replyBytes) : 0)
        add("tot-mem", memoryBytes(of: client))
        add("events", replyBytes > 0 ? "rw" : "r")
        add("cmd", client.pointee.lastCommand < 0 ? "NULL" : commands.fullNames[client.pointee.lastCommand])
        add("user", client.pointee.flags.contains(.primary) ? "(superuser)" : client.pointee.user)
        add("redir", client.pointee.redirection)
        add("resp", client.pointee.reply.isRESP3 ? 3 : 2)
        add("lib-name", String(decoding: client.pointee.libraryName, as: UTF8.self))
        add("lib-ver", String(decoding: client.pointee.libraryVersion, as: UTF8.self))
        add("watch", client.pointee.watchedKeyCount)
        return fields.map { "\($0.0)=\($0.1)" }.joined(separator: " ")
    }

    /// What the allocator has given for a client and its buffers. The reactor's few bytes for the connection are missing.
    func memoryBytes(of client: ClientPointer) -> Int {
        var bytes = Memory.usableBytes(MemoryLayout<Client>.stride)
        for count in [
            client.pointee.queryCapacity, client.pointee.reply.capacity, client.pointee.name.capacity,
            client.pointee.libraryName.capacity, client.pointee.libraryVersion.capacity,
        ] where count > 0 {
            bytes += Memory.usableBytes(count)
        }
        bytes += client.pointee.subscriptions.memoryBytes
        return bytes + (client.pointee.transaction?.memoryBytes ?? 0) + max(0, services.unsentBytes(client))
    }

    /// Letters in Redis' order, `N` if there is none. Those of later versions come last.
    func flagLetters(of client: ClientPointer) -> String {
        let flags = client.pointee.flags
        var letters = ""
        if flags.contains(.monitor) { letters += "O" }
        if flags.contains(.replica) { letters += "S" }
        if flags.contains(.primary) { letters += "M" }
        if flags.contains(.subscriber) { letters += "P" }
        if client.pointee.isInTransaction { letters += "x" }
        if client.isParked { letters += "b" }
        if let tracking = client.pointee.tracking {
            letters += "t"
            if tracking.isRedirectionBroken { letters += "R" }
            if tracking.isBroadcast { letters += "B" }
        }
        if hasStaleWatches(client) { letters += "d" }
        if flags.contains(.closeAfterReply) { letters += "c" }
        if flags.contains(.closeNow) { letters += "A" }
        if flags.contains(.unixSocket) { letters += "U" }
        if flags.contains(.readOnly) { letters += "r" }
        if flags.contains(.noEvict) { letters += "e" }
        if flags.contains(.noTouch) { letters += "T" }
        if flags.contains(.importSource) { letters += "I" }
        return letters.isEmpty ? "N" : letters
    }
}

extension Request {
    /// What it took on the wire, as an array of bulk strings.
    fileprivate var encodedCount: Int {
        func header(_ count: Int) -> Int { 3 + decimalCount(of: Int64(count)) }
        return (0..<count).reduce(header(count)) { $0 + header(self[$1].count) + self[$1].count + 2 }
    }
}
