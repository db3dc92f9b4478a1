import MartletBase
import MartletRESP
import Testing

@testable import MartletReplication

@Suite struct PrimarySessionTests {
    static let id = ReplicationID("96d76237786dd3e03f1d67612bf25007e8ba2408")!
    static let mark = ReplicationID("c0c3503cbcc22fac04390da8372f3303096937f8")!

    private func configure(
        _ session: inout PrimarySession, _ options: String..., now: Int64 = 0
    ) throws(ReplyError) -> PrimarySession.ConfigurationReply {
        try configure(&session, options, now: now)
    }

    @discardableResult
    private func configure(
        _ session: inout PrimarySession, _ options: [String], now: Int64 = 0
    ) throws(ReplyError) -> PrimarySession.ConfigurationReply {
        let words = (["REPLCONF"] + options).map { Array($0.utf8) }
        var views = words.map { bytes in
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, bytes.count), alignment: 1)
            copy.copyBytes(from: bytes)
            return UnsafeRawBufferPointer(start: copy.baseAddress, count: bytes.count)
        }
        defer { for view in views { view.deallocate() } }
        let count = views.count
        let result = views.withUnsafeMutableBufferPointer { views in
            Result<PrimarySession.ConfigurationReply, ReplyError> { () throws(ReplyError) in
                try session.configure(Request(arguments: views.baseAddress!, count: count), now: now)
            }
        }
        return try result.get()
    }

    private func synchronize(
        _ session: inout PrimarySession, _ id: String, _ offset: String, _ history: ReplicationHistory,
        _ log: borrowing ReplicationLog, now: Int64 = 0
    ) throws(ReplyError) -> PrimarySession.Synchronization {
        let id = Array(id.utf8)
        let offset = Array(offset.utf8)
        return try session.synchronize(
            id: id.withUnsafeBytes { Self.copy($0) }, offset: offset.withUnsafeBytes { Self.copy($0) },
            history: history, log: log, now: now)
    }

    /// Leaks a few bytes, so that views can be passed around in a test.
    private static func copy(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, bytes.count), alignment: 1)
        copy.copyMemory(from: bytes)
        return UnsafeRawBufferPointer(start: copy.baseAddress, count: bytes.count)
    }

    private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    @Test("A full sync with a mark goes through its states as with Redis 7.0")
    func fullSync() throws {
        var session = PrimarySession()
        var log = ReplicationLog()
        let history = ReplicationHistory(id: Self.id)
        #expect(try configure(&session, "listening-port", "7001") == .ok)
        #expect(try configure(&session, "capa", "eof", "capa", "psync2", "capa", "dual-channel") == .ok)
        #expect(try configure(&session, "ip-address", "10.0.0.9") == .ok)
        #expect(session.listeningPort == 7001)
        #expect(session.announcedAddress == "10.0.0.9")
        #expect(try synchronize(&session, "?", "-1", history, log) == .fullResync(.requested))
        #expect(session.stateName == "wait_bgsave")
        #expect((session.holdsPosition) == false)
        #expect(session.tick(now: 999, timeout: 60_000) == .none)
        #expect(session.tick(now: 1000, timeout: 60_000) == .sendKeepAlive)
        #expect(session.tick(now: 1001, timeout: 60_000) == .none)

        log.activate()
        let header = session.beginSnapshot(history: history, log: log, endMark: Self.mark, now: 2000)
        #expect(text(header) == "+FULLRESYNC \(Self.id) 0\r\n$EOF:\(Self.mark)\r\n")
        #expect(session.stateName == "send_bulk")
        #expect((session.holdsPosition) == true)
        log.append([1, 2, 3])
        #expect(session.snapshotTrailer == Self.mark.bytes)
        session.snapshotSent(now: 3000)
        #expect((session.isStreaming) == false)
        #expect(session.stateName == "online")

        #expect(try configure(&session, "ACK", "0", now: 3500) == .none)
        #expect((session.isStreaming) == true)
        #expect(session.position == 0)
        #expect((session.hasAcknowledged(3)) == false)
        session.didSend(3)
        #expect(session.position == 3)
        #expect(try configure(&session, "ack", "3", now: 4500) == .none)
        #expect((session.hasAcknowledged(3)) == true)
        #expect(try configure(&session, "ACK", "2", now: 5500) == .none)
        #expect(session.acknowledgedOffset == 3)
        #expect(session.lagSeconds(now: 7600) == 2)
        #expect((session.isGood(lagSecondsMax: 2, now: 7600)) == true)
        #expect((session.isGood(lagSecondsMax: 1, now: 7600)) == false)
    }

    @Test("A replica without the capability is told the length, and needs no acknowledgement")
    func lengthForm() throws {
        var session = PrimarySession()
        var log = ReplicationLog(end: 355)
        log.activate()
        let history = ReplicationHistory(id: Self.id)
        #expect(try synchronize(&session, Self.id.description, "99999", history, log) == .fullResync(.outsideLog))
        let header = session.beginSnapshot(history: history, log: log, endMark: Self.mark, now: 0)
        #expect(text(header) == "+FULLRESYNC \(Self.id) 355\r\n")
        #expect(text(session.snapshotHeader(byteCount: 207)) == "$207\r\n")
        #expect((session.snapshotTrailer.isEmpty) == true)
        session.snapshotSent(now: 1)
        #expect((session.isStreaming) == true)
        #expect(session.position == 355)
    }

    @Test("SYNC gets the image without a word before, and is never timed out")
    func preSync() throws {
        var session = PrimarySession()
        var log = ReplicationLog()
        log.activate()
        #expect(try session.synchronizeWithoutOffset(now: 0) == .fullResync(nil))
        let header = session.beginSnapshot(
            history: ReplicationHistory(id: Self.id), log: log, endMark: Self.mark, now: 0)
        #expect(header.isEmpty)
        session.snapshotSent(now: 1)
        #expect(session.tick(now: 1_000_000, timeout: 60_000) == .none)
    }

    @Test("A partial resync is answered with the name of the history if the replica understands it")
    func partial() throws {
        var log = ReplicationLog()
        log.activate()
        log.append([UInt8](repeating: 1, count: 327))
        let history = ReplicationHistory(id: Self.id)
        var session = PrimarySession()
        #expect(
            try synchronize(&session, Self.id.description, "10", history, log)
                == .proceed(reply: Array("+CONTINUE\r\n".utf8)))
        #expect((session.isStreaming) == true)
        #expect(session.position == 9)
        var modern = PrimarySession()
        _ = try configure(&modern, "capa", "psync2")
        #expect(
            try synchronize(&modern, Self.id.description, "328", history, log)
                == .proceed(reply: Array("+CONTINUE \(Self.id)\r\n".utf8)))
        #expect(modern.position == 327)
    }

    @Test(
        "Mistakes are answered as by Redis 7.0",
        arguments: [
            (["x", "y"], "ERR Unrecognized REPLCONF option: x"),
            (["a"], "ERR syntax error"),
            (["listening-port", "abc"], "ERR value is not an integer or out of range"),
            (["rdb-only", "2"], "ERR value is out of range, value must between 0 and 1"),
            (["rdb-filter-only", "keys"], "ERR Unsupported rdb-filter-only option: keys"),
            (
                ["ip-address", String(repeating: "1", count: 256)],
                "ERR REPLCONF ip-address provided by replica instance is too long: 256 bytes"
            ),
        ])
    func mistakes(options: [String], error: String) {
        var session = PrimarySession()
        #expect(throws: ReplyError.message(error)) { try configure(&session, options) }
    }

    @Test("A filtered image needs the mark")
    func filter() throws {
        var session = PrimarySession()
        #expect(try configure(&session, "rdb-filter-only", "functions") == .ok)
        #expect((session.excludesData) == true)
        #expect((session.excludesFunctions) == false)
        let log = ReplicationLog()
        #expect(throws: ReplyError.text("ERR Filtered replica requires EOF capability")) {
            _ = try synchronize(&session, "?", "-1", ReplicationHistory(id: Self.id), log)
        }
    }

    @Test("A replica that wants only the image is done after it")
    func snapshotOnly() throws {
        var session = PrimarySession()
        var log = ReplicationLog()
        log.activate()
        #expect(try configure(&session, "rdb-only", "1") == .ok)
        let history = ReplicationHistory(id: Self.id)
        _ = try synchronize(&session, "?", "-1", history, log)
        _ = session.beginSnapshot(history: history, log: log, endMark: Self.mark, now: 0)
        #expect((session.holdsPosition) == false)
        session.snapshotSent(now: 0)
        #expect(session.state == .finished)
    }

    @Test("A silent replica is disconnected one millisecond past the time-out, in each state")
    func timeouts() throws {
        var session = PrimarySession()
        var log = ReplicationLog()
        log.activate()
        let history = ReplicationHistory(id: Self.id)
        _ = try configure(&session, "capa", "eof")
        _ = try synchronize(&session, "?", "-1", history, log)
        _ = session.beginSnapshot(history: history, log: log, endMark: Self.mark, now: 0)
        session.snapshotProgressed(now: 1000)
        #expect(session.tick(now: 61_000, timeout: 60_000) == .none)
        #expect(session.tick(now: 61_001, timeout: 60_000) == .disconnect(.snapshot))
        session.snapshotSent(now: 70_000)
        #expect(session.tick(now: 130_000, timeout: 60_000) == .none)
        session.keepAliveReceived(now: 100_000)
        #expect(session.tick(now: 160_000, timeout: 60_000) == .none)
        #expect(session.tick(now: 160_001, timeout: 60_000) == .disconnect(.stream))
    }

    @Test("WAIT counts replicas that acknowledged; the log is kept for the slowest")
    func watermarks() throws {
        var log = ReplicationLog()
        log.activate()
        log.append([UInt8](repeating: 1, count: 100))
        let history = ReplicationHistory(id: Self.id)
        var sessions: [PrimarySession] = []
        for (offset, acknowledged) in [("101", "100"), ("41", "40"), ("61", "99")] {
            var session = PrimarySession()
            _ = try synchronize(&session, Self.id.description, offset, history, log)
            _ = try configure(&session, "ACK", acknowledged)
            sessions.append(session)
        }
        sessions.append(PrimarySession())
        #expect(sessions.countAcknowledged(40) == 3)
        #expect(sessions.countAcknowledged(99) == 2)
        #expect(sessions.countAcknowledged(100) == 1)
        #expect(sessions.countAcknowledged(101) == 0)
        #expect(sessions.slowestPosition == 40)
        #expect([PrimarySession]().slowestPosition == nil)
    }
}
