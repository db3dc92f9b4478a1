import MartletBase
import MartletRESP

// Messages that a client did not ask for with the command that causes them: of Pub/Sub, of changed keys, of MONITOR.
//
// Whoever has a message formats it once into a buffer of its own and calls ``Node/deliver(_:to:asPush:)`` for each client that
// is to get it: the bytes are appended to the client's replies, and the reactor is asked once in a turn to send them.
//
// A message must not come between a command and its reply. So one for the client whose command is running, or whose EXEC is
// suspended, is put aside until the reply is complete. There it does not fall to CLIENT REPLY OFF, either.
//
// A client that does not read what it is sent is closed when its class' `client-output-buffer-limit` is exceeded.

extension Node {
    /// Appends a message to what a client is sent. A client that is about to be closed gets nothing.
    ///
    /// - Parameters:
    ///   - message: complete; not a view into the client's own buffers.
    ///   - asPush: an array that becomes a push for a client that speaks RESP3.
    /// - Complexity: O(bytes)
    mutating func deliver(_ message: UnsafeRawBufferPointer, to client: ClientPointer, asPush: Bool = false) {
        let flags = client.pointee.flags
        if !flags.isDisjoint(with: .closing) { return }
        if client == runningClient || flags.contains(.executing) {
            return deliverLater(message, to: client, asPush: asPush)
        }
        let start = client.pointee.reply.count
        client.pointee.reply.append(message)
        if asPush, client.pointee.reply.isRESP3 { client.pointee.reply.base[start] = UInt8(ascii: ">") }
        didDeliver(to: client)
    }

    /// To be called when something was written to the replies of a client that has no command running.
    @inline(__always)
    mutating func didDeliver(to client: ClientPointer) {
        if !client.pointee.flags.contains(.messageQueued) {
            client.pointee.flags.insert(.messageQueued)
            effects.append(.send(client))
        }
        if client.pointee.reply.count > Self.uncheckedReplyBytes { closeIfTooSlow(client) }
    }

    @inline(never)
    private mutating func deliverLater(_ message: UnsafeRawBufferPointer, to client: ClientPointer, asPush: Bool) {
        let start = client.pointee.deferredMessages.count
        client.pointee.deferredMessages.append(contentsOf: message)
        if asPush, client.pointee.reply.isRESP3 { client.pointee.deferredMessages[start] = UInt8(ascii: ">") }
        client.pointee.flags.insert(.hasDeferredMessages)
        if client.pointee.deferredMessages.count > Self.uncheckedReplyBytes { closeIfTooSlow(client) }
    }

    /// The client's command has its reply: now come the messages of meanwhile.
    @inline(never)
    mutating func deliverDeferred(to client: ClientPointer) {
        if client.pointee.flags.contains(.executing) { return }
        client.pointee.flags.remove(.hasDeferredMessages)
        client.pointee.reply.append(client.pointee.deferredMessages)
        client.pointee.deferredMessages = []
        didDeliver(to: client)
    }

    // MARK: Limits

    /// So little is not counted, as Redis does not count what it has room for in every client. (PROTO_REPLY_CHUNK_BYTES)
    private static let uncheckedReplyBytes = 16 * 1024
    /// Unsent bytes of a client that has not authenticated. (PROTO_REPLY_CHUNK_BYTES and, behind that buffer,
    /// REPLY_BUFFER_SIZE_UNAUTHENTICATED_CLIENT)
    private static let unauthenticatedReplyBytesMax: UInt64 = 16 * 1024 + 1024

    @inline(never)
    private mutating func closeIfTooSlow(_ client: ClientPointer) {
        guard exceedsOutputLimit(client) else { return }
        client.pointee.flags.insert(.closeNow)
        effects.append(.close(client))
    }

    /// Whether the unsent replies of a client exceed the limits of its class; the log is told. The caller closes it.
    /// (checkClientOutputBufferLimits)
    package mutating func exceedsOutputLimit(_ client: ClientPointer) -> Bool {
        let count = client.pointee.reply.count + client.pointee.deferredMessages.count + services.unsentBytes(client)
        let unsent = UInt64(max(0, count))
        let limits = configuration.outputBufferLimits
        let limit =
            switch ClientType(of: client) {
            case .normal, .primary: limits.normal
            case .replica: limits.replica
            case .pubsub: limits.pubSub
            }
        var isExceeded = limit.hardBytes > 0 && unsent >= limit.hardBytes
        // Who has not authenticated may not make us keep replies that it does not read.
        if !client.isAuthenticated, unsent > Self.unauthenticatedReplyBytesMax { isExceeded = true }
        if limit.softBytes > 0, unsent >= limit.softBytes {
            let now = time.unixMilliseconds
            if client.pointee.softLimitSince == 0 { client.pointee.softLimitSince = now }
            if now - client.pointee.softLimitSince > Int64(limit.softSeconds) * 1000 { isExceeded = true }
        } else {
            client.pointee.softLimitSince = 0
        }
        if isExceeded {
            Log.warning(
                "Client \(description(of: client)) scheduled to be closed ASAP for overcoming of output buffer limits."
            )
        }
        return isExceeded
    }
}
