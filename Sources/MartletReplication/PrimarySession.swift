import MartletBase
import MartletRESP

// Our side of a link to one replica.
//
// A replica introduces itself (REPLCONF), then asks to go on from an offset (PSYNC) or for everything:
//
//     handshake → online                                       the log still holds what it asks for
//     handshake → waitingForSnapshot → sendingSnapshot → …     full sync
//         … → waitingForAcknowledgement → online               image ended by a mark (`$EOF:`, capability eof)
//         … → online                                           image of a length that was sent first
//
// The mark needs the extra step: a replica recognises it by its being the last bytes that arrived, so nothing may follow
// until it has answered with an ACK.
//
// The stream of commands starts at the offset at which the image was taken; the log keeps the bytes from `position` on.
// Several replicas that wait at the same time may share one image and one mark.
//
// What the driver does: sends the bytes that methods return, and while ``isStreaming`` the log from ``position`` on,
// telling ``didSend(_:)``.
//
// Source: Redis 7.0 replication.c, `syncCommand`, `replconfCommand`, `replicationCron`.

package struct PrimarySession {
    package enum State: Equatable, Sendable {
        case handshake
        case waitingForSnapshot
        case sendingSnapshot
        case waitingForAcknowledgement
        case online
        /// A replica that wanted nothing but the image has had it.
        case finished
    }

    package struct Capabilities: OptionSet, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }
        /// Understands an image that ends with a mark.
        package static let endMark = Capabilities(rawValue: 1)
        /// Understands `+CONTINUE <id>`.
        package static let psync2 = Capabilities(rawValue: 2)
        /// Understands times to live of fields of hashes. Ours.
        package static let fieldExpiry = Capabilities(rawValue: 4)
    }

    /// Longest address in REPLCONF ip-address. Source: Redis 7.0, `NET_HOST_STR_LEN` without its terminator.
    package static let addressBytesMax = 255
    /// How often a waiting replica is told that we live.
    package static let keepAliveMilliseconds: Int64 = 1000

    package private(set) var state = State.handshake
    package private(set) var capabilities: Capabilities = []
    /// The port it serves clients on, 0 if it did not say.
    package private(set) var listeningPort = 0
    /// The address it wants to be known by, nil for the one it connects from.
    package private(set) var announcedAddress: String?
    package private(set) var version: String?
    /// Wants the image and no stream.
    package private(set) var isSnapshotOnly = false
    /// Wants an image without keys, or without functions.
    package private(set) var excludesData = false
    package private(set) var excludesFunctions = false
    /// Came with SYNC: knows no offsets and never acknowledges.
    package private(set) var isPrePSYNC = false

    /// Where in the log its stream goes on.
    package private(set) var position: Int64 = 0
    /// What it has applied, by its own word.
    package private(set) var acknowledgedOffset: Int64 = 0
    package private(set) var acknowledgedAt: Int64 = 0
    private var keptAliveAt: Int64 = 0
    /// Last time that image bytes went out.
    private var progressAt: Int64 = 0
    /// Sent behind the image; empty for an image of known length.
    private var endMark: [UInt8] = []

    package init() {}

    /// Whether the log from ``position`` on is to be sent.
    package var isStreaming: Bool { state == .online }
    /// Whether the log has to keep what lies behind ``position``.
    package var holdsPosition: Bool {
        switch state {
        case .sendingSnapshot, .waitingForAcknowledgement, .online: !isSnapshotOnly
        case .handshake, .waitingForSnapshot, .finished: false
        }
    }

    /// The word for the state in INFO.
    package var stateName: String {
        switch state {
        case .handshake: "handshake"
        case .waitingForSnapshot: "wait_bgsave"
        case .sendingSnapshot: "send_bulk"
        case .waitingForAcknowledgement, .online: "online"
        case .finished: "rdb_transmitted"
        }
    }

    /// Seconds since the last acknowledgement, for INFO. - Parameter now: in milliseconds.
    package func lagSeconds(now: Int64) -> Int64 { state == .online ? max(0, now - acknowledgedAt) / 1000 : 0 }

    // MARK: - REPLCONF

    package enum ConfigurationReply: Equatable {
        case ok
        /// ACK and GETACK are not answered.
        case none
        /// GETACK: if we follow a primary, tell it our offset.
        case acknowledgeToPrimary
    }

    /// Handles `REPLCONF <option> <value> …`.
    package mutating func configure(
        _ request: Request, now: Int64
    ) throws(ReplyError) -> ConfigurationReply {
        guard request.count % 2 == 1 else { throw .syntax }
        var index = 1
        while index < request.count {
            let value = request[index + 1]
            if request.matches(index, "LISTENING-PORT") {
                guard let port = parseInt64(value) else { throw .notAnInteger }
                listeningPort = Int(port)
            } else if request.matches(index, "IP-ADDRESS") {
                guard value.count <= Self.addressBytesMax else {
                    throw .message(
                        "ERR REPLCONF ip-address provided by replica instance is too long: "
                            + "\(value.count) bytes")
                }
                announcedAddress = String(decoding: value, as: UTF8.self)
            } else if request.matches(index, "CAPA") {
                // Capabilities that are not known here are none.
                if request.matches(index + 1, "EOF") { capabilities.insert(.endMark) }
                if request.matches(index + 1, "PSYNC2") { capabilities.insert(.psync2) }
                if request.matches(index + 1, "FIELD-EXPIRY") { capabilities.insert(.fieldExpiry) }
            } else if request.matches(index, "ACK") {
                if let offset = parseInt64(value) { acknowledge(offset, now: now) }
                return .none
            } else if request.matches(index, "GETACK") {
                return .acknowledgeToPrimary
            } else if request.matches(index, "RDB-ONLY") {
                guard let flag = parseInt64(value) else { throw .notAnInteger }
                guard flag == 0 || flag == 1 else {
                    throw .text("ERR value is out of range, value must between 0 and 1")
                }
                isSnapshotOnly = flag == 1
            } else if request.matches(index, "RDB-FILTER-ONLY") {
                try filter(value)
            } else if request.matches(index, "VERSION") {
                // Sent by Valkey 8 and later.
                version = String(decoding: value.prefix(64), as: UTF8.self)
            } else {
                throw .message(
                    "ERR Unrecognized REPLCONF option: \(String(decoding: request[index].prefix(128), as: UTF8.self))")
            }
            index += 2
        }
        return .ok
    }

    /// The words name what the image is to contain.
    private mutating func filter(_ words: UnsafeRawBufferPointer) throws(ReplyError) {
        excludesData = true
        excludesFunctions = true
        for word in words.split(separator: UInt8(ascii: " ")) {
            guard UnsafeRawBufferPointer(rebasing: word).equalsIgnoringCase("FUNCTIONS") else {
                let text = String(decoding: word.prefix(128), as: UTF8.self)
                throw .message("ERR Unsupported rdb-filter-only option: \(text)")
            }
            excludesFunctions = false
        }
    }

    private mutating func acknowledge(_ offset: Int64, now: Int64) {
        guard state != .handshake else { return }
        acknowledgedOffset = max(acknowledgedOffset, offset)
        acknowledgedAt = now
        if state == .waitingForAcknowledgement { state = .online }
    }

    /// An empty line arrived: a replica that is busy loading says that it lives.
    package mutating func keepAliveReceived(now: Int64) {
        acknowledgedAt = now
    }

    // MARK: - PSYNC and SYNC

    package enum Synchronization: Equatable {
        /// Send this; then the stream.
        case proceed(reply: [UInt8])
        /// Join the next image; nothing is answered before it begins. Nil for SYNC.
        case fullResync(ReplicationHistory.Refusal?)
    }

    /// Handles `PSYNC <id> <offset>`.
    package mutating func synchronize(
        id: UnsafeRawBufferPointer, offset: UnsafeRawBufferPointer, history: ReplicationHistory,
        log: borrowing ReplicationLog, now: Int64
    ) throws(ReplyError) -> Synchronization {
        guard let offset = parseInt64(offset) else { throw .notAnInteger }
        try requireEndMarkForFilter()
        if let refusal = history.refusal(requestedID: id, offset: offset, log: log) {
            awaitSnapshot(now: now)
            return .fullResync(refusal)
        }
        state = .online
        position = offset - 1
        acknowledgedAt = now
        var reply = Array("+CONTINUE".utf8)
        if capabilities.contains(.psync2) {
            reply.append(UInt8(ascii: " "))
            reply.append(contentsOf: history.id.bytes)
        }
        reply.append(contentsOf: [13, 10])
        return .proceed(reply: reply)
    }

    /// Handles SYNC, of tools and of Redis before 2.8.
    package mutating func synchronizeWithoutOffset(now: Int64) throws(ReplyError) -> Synchronization {
        try requireEndMarkForFilter()
        isPrePSYNC = true
        awaitSnapshot(now: now)
        return .fullResync(nil)
    }

    private func requireEndMarkForFilter() throws(ReplyError) {
        if excludesData || excludesFunctions, !capabilities.contains(.endMark) {
            throw .text("ERR Filtered replica requires EOF capability")
        }
    }

    private mutating func awaitSnapshot(now: Int64) {
        state = .waitingForSnapshot
        keptAliveAt = now
    }

    // MARK: - The image

    /// Whether the image may be sent while it is made. If not, its length must be known first.
    package var acceptsEndMark: Bool { capabilities.contains(.endMark) }

    /// Whether the replica understands hashes of which fields expire: ours say so, and Valkey does from version 9 on.
    package var knowsFieldExpiry: Bool {
        if capabilities.contains(.fieldExpiry) { return true }
        guard let major = version?.split(separator: ".").first.flatMap({ Int($0) }) else { return false }
        return major >= 9
    }

    /// The image is taken now: the stream will go on from the end of the log. The log must be on, and the feed must
    /// forget its selection.
    ///
    /// - Parameter endMark: 40 random bytes; used if the replica accepts it.
    /// - Returns: what goes out before the image, or before ``snapshotHeader(byteCount:)``.
    package mutating func beginSnapshot(
        history: ReplicationHistory, log: borrowing ReplicationLog, endMark: ReplicationID, now: Int64
    ) -> [UInt8] {
        precondition(state == .waitingForSnapshot)
        precondition(log.isActive)
        state = .sendingSnapshot
        position = log.end
        progressAt = now
        keptAliveAt = now
        var reply: [UInt8] = []
        if !isPrePSYNC {
            reply = Array("+FULLRESYNC \(history.id) \(log.end)\r\n".utf8)
        }
        if acceptsEndMark {
            self.endMark = endMark.bytes
            reply += Array("$EOF:".utf8) + endMark.bytes + [13, 10]
        }
        return reply
    }

    /// What goes out before an image of known length. - Precondition: the replica does not accept a mark.
    package func snapshotHeader(byteCount: Int) -> [UInt8] {
        precondition(state == .sendingSnapshot && endMark.isEmpty)
        return Array("$\(byteCount)\r\n".utf8)
    }

    /// What goes out behind the image.
    package var snapshotTrailer: [UInt8] { endMark }

    /// Bytes of the image were taken by the socket.
    package mutating func snapshotProgressed(now: Int64) {
        progressAt = now
    }

    /// The image and what belongs behind it are sent.
    package mutating func snapshotSent(now: Int64) {
        precondition(state == .sendingSnapshot)
        acknowledgedAt = now
        if isSnapshotOnly {
            state = .finished
        } else {
            state = endMark.isEmpty ? .online : .waitingForAcknowledgement
        }
    }

    /// The image could not be completed. The link must be closed: half an image is on its way.
    package mutating func snapshotFailed() {
        state = .finished
    }

    // MARK: - The stream

    /// The socket took `count` bytes of the log from ``position`` on.
    package mutating func didSend(_ count: Int) {
        precondition(state == .online)
        position += Int64(count)
    }

    /// Whether it counts for WAIT.
    package func hasAcknowledged(_ offset: Int64) -> Bool { state == .online && acknowledgedOffset >= offset }

    /// Whether it counts for min-replicas-to-write.
    package func isGood(lagSecondsMax: Int64, now: Int64) -> Bool {
        state == .online && lagSeconds(now: now) <= lagSecondsMax
    }

    // MARK: - Time

    package enum TickAction: Equatable {
        case none
        /// Send a line feed: the image is not ready, but we live.
        case sendKeepAlive
        case disconnect(Timeout)
    }

    package enum Timeout: Equatable, Sendable {
        case stream
        case snapshot
    }

    /// - Parameter timeout: `repl-timeout` in milliseconds.
    package mutating func tick(now: Int64, timeout: Int64) -> TickAction {
        switch state {
        case .handshake, .finished:
            return .none
        case .waitingForSnapshot:
            guard now - keptAliveAt >= Self.keepAliveMilliseconds else { return .none }
            keptAliveAt = now
            return .sendKeepAlive
        case .sendingSnapshot:
            return now - progressAt > timeout ? .disconnect(.snapshot) : .none
        case .waitingForAcknowledgement, .online:
            if isPrePSYNC { return .none }
            return now - acknowledgedAt > timeout ? .disconnect(.stream) : .none
        }
    }
}

extension Sequence<PrimarySession> {
    /// How many replicas have applied everything up to `offset`: the watermark of WAIT.
    package func countAcknowledged(_ offset: Int64) -> Int { count { $0.hasAcknowledged(offset) } }

    /// The position that the log must be kept from, nil if no replica needs it.
    package var slowestPosition: Int64? { lazy.filter(\.holdsPosition).map(\.position).min() }
}
