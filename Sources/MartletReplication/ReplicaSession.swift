import MartletBase
import MartletRESP

// Following a primary.
//
// One session lives as long as the order to follow one primary; links come and go within it.
//
//     disconnected → connecting → awaitingPong → awaitingConfiguration → awaitingSynchronization
//         +CONTINUE     → streaming
//         +FULLRESYNC   → awaitingPayload → receivingPayload → loading → streaming
//
// From `streaming` on the link carries commands. The driver parses and runs them like a client's, and tells the session
// how many bytes each took: the sum is the offset. What is between two commands when the link breaks is forgotten, so the
// next link asks for the first byte that was not applied.
//
// An image comes in one of two forms: `$<count>` and so many bytes, or `$EOF:<mark>`, bytes, and the mark again. Its
// bytes are handed out as they arrive; the driver decodes them elsewhere and says ``loaded(now:)``. As long as no byte of
// it was handed out the old data is intact, and a new link may still go on from it.
//
// The driver calls ``tick(now:)`` several times a second, ``linkOpened(now:)`` and ``linkClosed(now:)``, feeds
// ``receive(_:now:)`` and then takes ``next()`` until it is nil, and sends what collects in ``output``.
//
// Source: Redis 7.0 replication.c, `syncWithMaster`, `slaveTryPartialResynchronization`, `readSyncBulkPayload`,
// `replicationCron`.

package struct ReplicaSession: ~Copyable {
    package struct Configuration: Sendable {
        /// For AUTH; no AUTH without a password.
        package var user: [UInt8]?
        package var password: [UInt8]?
        /// The port that our clients use, as the primary shall list it.
        package var listeningPort: Int
        /// The address that the primary shall list instead of the one it sees.
        package var announcedAddress: String?
        /// `repl-timeout`.
        package var timeoutMilliseconds: Int64 = 60_000

        package init(listeningPort: Int) {
            self.listeningPort = listeningPort
        }
    }

    package enum State: Equatable, Sendable {
        /// The next attempt is due at `retryAt`.
        case disconnected(retryAt: Int64)
        case connecting
        case awaitingPong
        /// So many replies to AUTH and REPLCONF are missing; the first is AUTH's if a password was sent.
        case awaitingConfiguration(replyCount: Int, isAuthentication: Bool)
        case awaitingSynchronization
        case awaitingPayload
        case receivingPayload
        /// Everything was handed out; the driver has not yet said that it is loaded.
        case loading
        case streaming
    }

    /// What the driver has to do.
    package enum Event {
        /// The primary will send everything. The data of now may be kept until ``payloadBegins``.
        case fullResync(ReplicationID, offset: Int64)
        /// The old data and history end here. `byteCount` is nil when only the end will tell.
        case payloadBegins(byteCount: Int64?)
        /// Bytes of the image, valid until the next call.
        case payload(UnsafeRawBufferPointer)
        /// The image is complete: finish decoding, adopt the history, then call ``ReplicaSession/loaded(now:)``.
        case payloadEnds
        /// The stream goes on where it ended. `id` is the history's name from now on, nil if the primary did not tell.
        case continued(ReplicationID?)
        /// Bytes of the command stream that arrived together with what came before it, valid until the next call. Those
        /// that arrive later need not pass the session: see ``ReplicaSession/isStreaming``.
        case stream(UnsafeRawBufferPointer)
        /// The link is of no use; close it and call ``ReplicaSession/linkClosed(now:)``.
        case failed(Failure)
    }

    package enum Failure: Error, Equatable, Sendable {
        /// An error reply where none is acceptable, as the primary sent it.
        case refused(String)
        /// The primary is loading or has lost its own primary; it will be able to later.
        case notReady(String)
        case authentication(String)
        case badReply(String)
        case lineTooLong
        case timeout
    }

    package enum TickAction: Equatable, Sendable {
        case none
        case connect
        case disconnect(Failure)
    }

    /// Pause between attempts.
    package static let retryMilliseconds: Int64 = 1000
    /// Period of REPLCONF ACK, and of signs of life during a full sync.
    package static let acknowledgeMilliseconds: Int64 = 1000
    /// Longest line of a handshake. Source: Redis 7.0, the buffer of `readSyncBulkPayload`.
    package static let lineBytesMax = 1024

    /// Offset that a full sync may begin at; beyond it the stream could overflow the arithmetic.
    package static let offsetMax = Int64.max / 2

    /// In force from the next attempt to connect on.
    package var configuration: Configuration
    package private(set) var state: State
    /// To be sent; the driver removes what the socket took.
    package var output = ByteBuffer()

    private var input = ByteBuffer()
    /// Bytes at the front of `input` that an event was a view of.
    private var handedOutCount = 0

    /// History that a new link can ask to continue, nil when there is none.
    package private(set) var id: ReplicationID?
    /// Applied bytes of that history.
    package private(set) var offset: Int64
    /// What the full sync in progress will make of them.
    private var pendingID: ReplicationID?
    private var pendingOffset: Int64 = 0
    /// Bytes of the image to come; nil when a mark ends it.
    private var payloadRemaining: Int64?
    private var scanner: EndMarkScanner?

    /// Last time that anything arrived.
    package private(set) var heardAt: Int64
    private var acknowledgedAt: Int64 = 0
    /// When the link was last lost, nil while it is up.
    package private(set) var downSince: Int64?
    /// Image bytes handed out in the current full sync.
    package private(set) var payloadBytes: Int64 = 0
    /// Length of the current image, if it was told.
    package private(set) var payloadTotalBytes: Int64?

    /// Follows a primary from now on.
    ///
    /// - Parameter resuming: a history that this node's data belongs to, and the count of its bytes that were applied:
    ///   its own, if it was a primary or followed another one.
    package init(
        configuration: Configuration, resuming: (id: ReplicationID, offset: Int64)?, now: Int64
    ) {
        self.configuration = configuration
        id = resuming?.id
        offset = resuming?.offset ?? 0
        state = .disconnected(retryAt: now)
        heardAt = now
        downSince = now
    }

    /// Whether the link carries commands. Then the driver may keep what arrives in its own query buffer, if it calls
    /// ``heard(now:)``.
    package var isStreaming: Bool { state == .streaming }
    /// Whether a full sync is under way, for INFO's `master_sync_in_progress`.
    package var isSynchronizing: Bool {
        switch state {
        case .awaitingPayload, .receivingPayload, .loading: true
        case .disconnected, .connecting, .awaitingPong, .awaitingConfiguration, .awaitingSynchronization, .streaming:
            false
        }
    }

    /// The word for the state in ROLE.
    package var roleName: String {
        switch state {
        case .disconnected: "connect"
        case .connecting: "connecting"
        case .awaitingPong, .awaitingConfiguration, .awaitingSynchronization: "handshake"
        case .awaitingPayload, .receivingPayload, .loading: "sync"
        case .streaming: "connected"
        }
    }

    // MARK: - The link

    package mutating func linkOpened(now: Int64) {
        precondition(state == .connecting)
        heardAt = now
        RequestEncoder.append("PING", to: &output)
        state = .awaitingPong
    }

    /// The link is gone, or could not be made. A link that had worked is tried again at once.
    package mutating func linkClosed(now: Int64) {
        let hadWorked = state == .streaming
        state = .disconnected(retryAt: hadWorked ? now : now + Self.retryMilliseconds)
        if downSince == nil { downSince = now }
        output.removeAll()
        input.removeAll()
        handedOutCount = 0
        pendingID = nil
        payloadRemaining = nil
        payloadTotalBytes = nil
        payloadBytes = 0
        scanner = nil
    }

    /// Something arrived that did not pass the session.
    package mutating func heard(now: Int64) {
        heardAt = now
    }

    package mutating func receive(_ bytes: UnsafeRawBufferPointer, now: Int64) {
        heardAt = now
        dropHandedOut()
        input.append(bytes)
    }

    /// What to do about what has arrived; nil when more is needed.
    package mutating func next() -> Event? {
        dropHandedOut()
        do throws(Failure) {
            return try readEvent()
        } catch {
            return .failed(error)
        }
    }

    private mutating func dropHandedOut() {
        if handedOutCount > 0 { input.removeFirst(handedOutCount) }
        handedOutCount = 0
    }

    private mutating func readEvent() throws(Failure) -> Event? {
        while true {
            switch state {
            case .disconnected, .connecting, .loading:
                return nil
            case .awaitingPong:
                guard let line = try takeLine() else { return nil }
                try receivePong(line)
            case .awaitingConfiguration(let replyCount, let isAuthentication):
                guard let line = try takeLine() else { return nil }
                try receiveConfigurationReply(line, replyCount: replyCount, isAuthentication: isAuthentication)
            case .awaitingSynchronization:
                guard let line = try takeLine() else { return nil }
                // An empty line says that the primary lives.
                if line.isEmpty { continue }
                return try receiveSynchronizationReply(line)
            case .awaitingPayload:
                guard let line = try takeLine() else { return nil }
                if line.isEmpty { continue }
                return try receivePayloadHeader(line)
            case .receivingPayload:
                return receivePayload()
            case .streaming:
                guard !input.isEmpty else { return nil }
                handedOutCount = input.count
                return .stream(input.bytes)
            }
        }
    }

    /// The next line without its end; a carriage return before the line feed is optional.
    private mutating func takeLine() throws(Failure) -> [UInt8]? {
        let bytes = input.bytes
        guard let end = bytes.prefix(Self.lineBytesMax).firstIndex(of: 10) else {
            guard bytes.count < Self.lineBytesMax else { throw .lineTooLong }
            return nil
        }
        var line = Array(bytes[..<end])
        if line.last == 13 { line.removeLast() }
        input.removeFirst(end + 1)
        return line
    }

    // MARK: - Handshake

    private mutating func receivePong(_ line: [UInt8]) throws(Failure) {
        let text = String(decoding: line, as: UTF8.self)
        // A primary that wants a password refuses PING until AUTH.
        let isAcceptable =
            text.hasPrefix("+") || text.hasPrefix("-NOAUTH") || text.hasPrefix("-NOPERM")
            || text.hasPrefix("-ERR operation not permitted")
        guard isAcceptable else { throw .refused(text) }
        sendConfiguration()
    }

    private mutating func sendConfiguration() {
        var replyCount = 2
        if let password = configuration.password {
            var arguments = [Array("AUTH".utf8)]
            if let user = configuration.user { arguments.append(user) }
            arguments.append(password)
            RequestEncoder.append(arguments, to: &output)
            replyCount += 1
        }
        RequestEncoder.append("REPLCONF", "listening-port", String(configuration.listeningPort), to: &output)
        if let address = configuration.announcedAddress {
            RequestEncoder.append("REPLCONF", "ip-address", address, to: &output)
            replyCount += 1
        }
        RequestEncoder.append("REPLCONF", "capa", "eof", "capa", "psync2", "capa", "field-expiry", to: &output)
        state = .awaitingConfiguration(replyCount: replyCount, isAuthentication: configuration.password != nil)
    }

    private mutating func receiveConfigurationReply(
        _ line: [UInt8], replyCount: Int, isAuthentication: Bool
    ) throws(Failure) {
        // An old primary may not know an option; only AUTH has to succeed.
        if isAuthentication, line.first == UInt8(ascii: "-") {
            throw .authentication(String(decoding: line, as: UTF8.self))
        }
        guard replyCount > 1 else {
            sendSynchronization()
            return
        }
        state = .awaitingConfiguration(replyCount: replyCount - 1, isAuthentication: false)
    }

    private mutating func sendSynchronization() {
        if let id {
            RequestEncoder.append("PSYNC", id.description, String(offset + 1), to: &output)
        } else {
            RequestEncoder.append("PSYNC", "?", "-1", to: &output)
        }
        state = .awaitingSynchronization
    }

    private mutating func receiveSynchronizationReply(_ line: [UInt8]) throws(Failure) -> Event {
        let text = String(decoding: line, as: UTF8.self)
        let words = text.split(separator: " ", omittingEmptySubsequences: false)
        if words[0] == "+FULLRESYNC" {
            guard words.count == 3, let id = ReplicationID(String(words[1])), let offset = Int64(words[2]),
                (0...Self.offsetMax).contains(offset)
            else { throw .badReply(text) }
            pendingID = id
            pendingOffset = offset
            payloadBytes = 0
            state = .awaitingPayload
            return .fullResync(id, offset: offset)
        }
        if words[0] == "+CONTINUE" {
            // Nothing was asked to be continued.
            guard let current = id else { throw .badReply(text) }
            let new = words.count == 2 ? ReplicationID(String(words[1])) : nil
            id = new ?? current
            beginStreaming()
            return .continued(new)
        }
        if text.hasPrefix("-NOMASTERLINK") || text.hasPrefix("-LOADING") { throw .notReady(text) }
        throw text.hasPrefix("-") ? .refused(text) : .badReply(text)
    }

    private mutating func beginStreaming() {
        state = .streaming
        downSince = nil
        acknowledgedAt = heardAt
    }

    // MARK: - The image

    private mutating func receivePayloadHeader(_ line: [UInt8]) throws(Failure) -> Event {
        let text = String(decoding: line, as: UTF8.self)
        guard line.first == UInt8(ascii: "$") else {
            throw line.first == UInt8(ascii: "-") ? .refused(text) : .badReply(text)
        }
        if text.hasPrefix("$EOF:") {
            let mark = Array(line.dropFirst(5))
            guard mark.count == ReplicationID.count else { throw .badReply(text) }
            scanner = EndMarkScanner(mark: mark)
            payloadRemaining = nil
        } else {
            guard let count = Int64(text.dropFirst()), count >= 0 else { throw .badReply(text) }
            scanner = nil
            payloadRemaining = count
        }
        payloadTotalBytes = payloadRemaining
        // From here on the data is a mixture until the image is loaded: no link can go on from it.
        id = nil
        state = .receivingPayload
        return .payloadBegins(byteCount: payloadRemaining)
    }

    private mutating func receivePayload() -> Event? {
        if let remaining = payloadRemaining {
            guard remaining > 0 else {
                state = .loading
                return .payloadEnds
            }
            guard !input.isEmpty else { return nil }
            let count = Int(min(remaining, Int64(input.count)))
            payloadRemaining = remaining - Int64(count)
            return handOutPayload(count)
        }
        guard let scanner else { preconditionFailure("an image without a length has a mark") }
        switch scanner.scan(input.bytes) {
        case .found(at: 0):
            input.removeFirst(ReplicationID.count)
            self.scanner = nil
            payloadRemaining = 0
            state = .loading
            return .payloadEnds
        case .found(let count), .notYet(imageCount: let count):
            return count > 0 ? handOutPayload(count) : nil
        }
    }

    private mutating func handOutPayload(_ count: Int) -> Event {
        payloadBytes += Int64(count)
        handedOutCount = count
        return .payload(UnsafeRawBufferPointer(rebasing: input.bytes[..<count]))
    }

    /// The image is loaded: its history is ours now. Tells the primary so at once, because it may wait for that before
    /// it sends the stream.
    package mutating func loaded(now: Int64) {
        precondition(state == .loading)
        guard let pendingID else { preconditionFailure("a full sync has a history") }
        id = pendingID
        offset = pendingOffset
        self.pendingID = nil
        heardAt = now
        beginStreaming()
        acknowledge(now: now)
    }

    // MARK: - The stream

    /// A command of the stream was executed, that took `bytes`. Commands within a transaction count when EXEC ran.
    package mutating func didApply(bytes: Int) {
        precondition(state == .streaming)
        offset += Int64(bytes)
    }

    /// Tells the primary our offset: once a second, and when it asks with REPLCONF GETACK. That command itself does not
    /// count yet when it is answered.
    package mutating func acknowledge(now: Int64) {
        precondition(state == .streaming)
        RequestEncoder.append("REPLCONF", "ACK", String(offset), to: &output)
        acknowledgedAt = now
    }

    // MARK: - Time

    package mutating func tick(now: Int64) -> TickAction {
        switch state {
        case .disconnected(let retryAt):
            guard now >= retryAt else { return .none }
            state = .connecting
            heardAt = now
            return .connect
        case .streaming:
            if now - acknowledgedAt >= Self.acknowledgeMilliseconds { acknowledge(now: now) }
        case .receivingPayload, .loading:
            if now - acknowledgedAt >= Self.acknowledgeMilliseconds {
                output.append(byte: 10)
                acknowledgedAt = now
            }
            // While we load it is not the primary's turn.
            if state == .loading { return .none }
        case .connecting, .awaitingPong, .awaitingConfiguration, .awaitingSynchronization, .awaitingPayload:
            break
        }
        return now - heardAt > configuration.timeoutMilliseconds ? .disconnect(.timeout) : .none
    }
}

extension RequestEncoder {
    static func append(_ arguments: String..., to output: inout ByteBuffer) {
        append(arguments.map { Array($0.utf8) }, to: &output)
    }

    static func append(_ arguments: [[UInt8]], to output: inout ByteBuffer) {
        output.append(encode(arguments))
    }
}
