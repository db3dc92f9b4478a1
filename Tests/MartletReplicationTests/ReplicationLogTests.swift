import MartletBase
import MartletRESP
import Testing

@testable import MartletReplication

extension ReplicationLog {
    /// Everything from `position` on, by way of the pieces.
    func all(from position: Int64) -> [UInt8] {
        var result: [UInt8] = []
        var position = position
        while position < end {
            let piece = bytes(at: position)
            result += piece
            position += Int64(piece.count)
        }
        return result
    }

    mutating func append(_ bytes: [UInt8]) { bytes.withUnsafeBytes { append($0) } }
}

@Suite struct ReplicationLogTests {
    @Test("The log behaves as a window on one long string, whatever is appended, reserved and trimmed")
    func model() {
        let seed: UInt64 = 0x109
        var random = PRNG(seed: seed)
        for round in 0..<20 {
            let origin = Int64(random.below(1000))
            var log = ReplicationLog(end: origin)
            log.activate()
            var model: [UInt8] = []
            for _ in 0..<200 {
                switch random.below(5) {
                case 0, 1:
                    let byte = UInt8(truncatingIfNeeded: random.next())
                    let bytes = [UInt8](repeating: byte, count: random.below(random.below(20) == 0 ? 200_000 : 5000))
                    log.append(bytes)
                    model += bytes
                case 2:
                    let count = 1 + random.below(3000)
                    if let room = log.reserve(count) {
                        let byte = UInt8(truncatingIfNeeded: random.next())
                        room.initializeMemory(as: UInt8.self, repeating: byte, count: count)
                        log.commit(count)
                        model += [UInt8](repeating: byte, count: count)
                    }
                case 3:
                    let backlog = Int64(random.below(300_000))
                    let reader = random.below(2) == 0 ? nil : log.start + Int64(random.below(Int(log.count) + 1))
                    let end = log.end
                    let count = log.count
                    log.trim(backlogBytes: backlog, slowestReader: reader)
                    #expect(log.end == end)
                    #expect(log.count >= min(backlog, count))
                    if let reader { #expect(log.contains(position: reader) == true) }
                default:
                    let position = log.start + Int64(random.below(Int(log.count) + 1))
                    let found = log.all(from: position)
                    #expect(found == Array(model[Int(position - origin)...]), "seed \(seed), round \(round)")
                }
                #expect(log.end == origin + Int64(model.count))
                #expect(log.firstByteOffset == log.start + 1)
            }
        }
    }

    @Test("Trimming keeps the backlog and the slowest reader, up to its limit")
    func trim() {
        let block = Int64(ReplicationLog.blockBytes)
        var log = ReplicationLog()
        log.activate()
        log.append([UInt8](repeating: 1, count: Int(block * 10)))
        #expect(log.exceeds(backlogBytes: block) == true)
        log.trim(backlogBytes: block * 3, slowestReader: block * 2 + 1)
        #expect(log.start == block * 2)
        #expect(log.contains(position: block * 2 + 1) == true)
        log.trim(backlogBytes: block * 3, slowestReader: block * 2 + 1, readerBytesMax: block * 7)
        #expect(log.start == block * 7)
        #expect(log.contains(position: block * 2 + 1) == false)
        log.trim(backlogBytes: block * 3, slowestReader: nil)
        #expect(log.count == block * 3)
        #expect(log.exceeds(backlogBytes: block * 3) == false)
        log.trim(backlogBytes: 0, slowestReader: nil)
        #expect(log.count == block)
    }

    @Test("While the log is off nothing is kept and the offset stands still")
    func inactive() {
        var log = ReplicationLog(end: 5)
        log.append([1, 2, 3])
        #expect(log.end == 5)
        #expect(log.reserve(1) == nil)
        #expect(log.contains(position: 5) == false)
        log.activate()
        #expect(log.contains(position: 5) == true)
        log.append([1, 2, 3])
        #expect(log.end == 8)
        log.deactivate()
        #expect(log.end == 8)
        #expect(log.allocatedBytes == 0)
        log.restart(at: 100)
        log.append([9])
        #expect(log.all(from: 100) == [9])
        #expect(log.contains(position: 99) == false)
        #expect(log.contains(position: 102) == false)
    }

    @Test("Trimmed blocks are used again")
    func spares() {
        var log = ReplicationLog()
        log.activate()
        for _ in 0..<100 {
            log.append([UInt8](repeating: 7, count: ReplicationLog.blockBytes))
            log.trim(backlogBytes: 0, slowestReader: nil)
        }
        #expect(log.allocatedBytes <= 6 * ReplicationLog.blockBytes)
    }
}

@Suite struct ReplicationFeedTests {
    private func feed(_ feed: inout ReplicationFeed, _ database: Int, _ arguments: String...) {
        let arguments = arguments.map { Array($0.utf8) }
        var views = arguments.map { bytes in
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, bytes.count), alignment: 1)
            copy.copyBytes(from: bytes)
            return UnsafeRawBufferPointer(start: copy.baseAddress, count: bytes.count)
        }
        let count = views.count
        views.withUnsafeMutableBufferPointer { views in
            feed.append(database: database, Request(arguments: views.baseAddress!, count: count))
        }
        for view in views { view.deallocate() }
    }

    /// The stream of redis-server 7.0.15 for SET k v; SET k w; MULTI, SET, INCR, EXEC; SELECT 9, SET; WAIT.
    @Test("The stream is the one that Redis 7.0 writes")
    func golden() {
        var stream = ReplicationFeed()
        stream.log.activate()
        feed(&stream, 0, "SET", "k", "v")
        feed(&stream, 0, "SET", "k", "w")
        stream.appendMulti(database: 0)
        feed(&stream, 0, "SET", "a", "1")
        feed(&stream, 0, "INCR", "a")
        stream.appendExec()
        feed(&stream, 9, "SET", "a", "1", "PXAT", "1795248403944")
        stream.appendGetAck()
        let expected =
            "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nw\r\n"
            + "*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n*2\r\n$4\r\nINCR\r\n$1\r\na\r\n*1\r\n$4\r\nEXEC\r\n"
            + "*2\r\n$6\r\nSELECT\r\n$1\r\n9\r\n"
            + "*5\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n$4\r\nPXAT\r\n$13\r\n1795248403944\r\n"
            + "*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n"
        #expect(stream.log.all(from: 0) == Array(expected.utf8))
    }

    @Test("Commands are whole wherever the blocks end")
    func blockEnds() {
        var random = PRNG(seed: 4)
        var stream = ReplicationFeed()
        stream.log.activate()
        var expected: [UInt8] = []
        RequestEncoder.append("SELECT", "12", to: &expected)
        for _ in 0..<600 {
            let value = String(repeating: "v", count: random.below(random.below(50) == 0 ? 150_000 : 700))
            feed(&stream, 12, "SET", "key", value)
            RequestEncoder.append("SET", "key", value, to: &expected)
        }
        #expect(stream.log.all(from: 0) == expected)
    }

    @Test("After a full sync the database is selected anew")
    func selection() {
        var stream = ReplicationFeed()
        stream.log.activate()
        Array("*1\r\n$8\r\nFLUSHALL\r\n".utf8).withUnsafeBytes { stream.append(database: 3, encoded: $0) }
        let first = stream.log.end
        Array("*1\r\n$8\r\nFLUSHALL\r\n".utf8).withUnsafeBytes { stream.append(database: 3, encoded: $0) }
        #expect(stream.log.all(from: first) == Array("*1\r\n$8\r\nFLUSHALL\r\n".utf8))
        stream.forgetSelection()
        let second = stream.log.end
        stream.appendMulti(database: 3)
        #expect(
            stream.log.all(from: second) == Array("*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*1\r\n$5\r\nMULTI\r\n".utf8))
    }

    @Test("Nothing is written, not even a SELECT, while the log is off")
    func off() {
        var stream = ReplicationFeed()
        feed(&stream, 5, "SET", "a", "b")
        stream.appendPing()
        #expect(stream.log.end == 0)
        #expect(stream.selectedDatabase == -1)
    }
}

@Suite struct ReplicationHistoryTests {
    static let first = ReplicationID(String(repeating: "a", count: 40))!
    static let second = ReplicationID(String(repeating: "b", count: 40))!
    static let third = ReplicationID(String(repeating: "c", count: 40))!

    private func refusal(
        _ id: String, _ offset: Int64, _ history: ReplicationHistory, _ log: borrowing ReplicationLog
    ) -> ReplicationHistory.Refusal? {
        let bytes = Array(id.utf8)
        return bytes.withUnsafeBytes { history.refusal(requestedID: $0, offset: offset, log: log) }
    }

    @Test("A replica may go on from any byte of the log, and from the one that comes next")
    func window() {
        let history = ReplicationHistory(id: Self.first)
        var log = ReplicationLog(end: 100)
        log.activate()
        log.append([UInt8](repeating: 1, count: 50))
        #expect(refusal(Self.first.description, 100, history, log) == .outsideLog)
        #expect(refusal(Self.first.description, 101, history, log) == nil)
        #expect(refusal(Self.first.description.uppercased(), 151, history, log) == nil)
        #expect(refusal(Self.first.description, 152, history, log) == .outsideLog)
        #expect(refusal(Self.first.description, .max, history, log) == .outsideLog)
        #expect(refusal(Self.first.description, .min, history, log) == .outsideLog)
        #expect(refusal(Self.second.description, 120, history, log) == .otherHistory)
        #expect(refusal("?", -1, history, log) == .requested)
        #expect(refusal("", 120, history, log) == .otherHistory)
        #expect(refusal(ReplicationID.zero.description, 120, history, log) == .otherHistory)
        log.deactivate()
        #expect(refusal(Self.first.description, 151, history, log) == .outsideLog)
    }

    @Test("After a promotion the old name is good up to the offset of the promotion")
    func promotion() {
        var history = ReplicationHistory(id: Self.first)
        var log = ReplicationLog()
        log.activate()
        log.append([UInt8](repeating: 1, count: 50))
        history.promote(to: Self.second, appliedOffset: 50)
        #expect(history.secondOffset == 51)
        log.append([UInt8](repeating: 1, count: 50))
        #expect(refusal(Self.first.description, 51, history, log) == nil)
        #expect(refusal(Self.first.description, 52, history, log) == .divergedAt(limit: 51))
        #expect(refusal(Self.second.description, 101, history, log) == nil)
        #expect(refusal(Self.third.description, 51, history, log) == .otherHistory)
    }

    @Test("A primary that continues under a new name passes its old one on")
    func continued() {
        var history = ReplicationHistory(id: Self.first)
        #expect((history.adopt(continued: Self.first, appliedOffset: 9)) == false)
        #expect(history.secondOffset == -1)
        #expect((history.adopt(continued: Self.second, appliedOffset: 9)) == true)
        #expect(history.id == Self.second)
        #expect(history.secondID == Self.first)
        #expect(history.secondOffset == 10)
        history.adopt(fullResync: Self.third)
        #expect(history.id == Self.third)
        #expect(history.secondID == .zero)
        #expect(history.secondOffset == -1)
    }

    @Test("IDs are 40 hexadecimal digits")
    func ids() {
        var random = PRNG(seed: 1)
        let id = ReplicationID(using: &random)
        #expect(ReplicationID(id.description) == id)
        #expect(id != ReplicationID(using: &random))
        #expect(ReplicationID.zero.description == String(repeating: "0", count: 40))
        #expect(ReplicationID(String(repeating: "A", count: 40)) == Self.first)
        for bad in ["", "?", String(repeating: "a", count: 39), String(repeating: "a", count: 41)] {
            #expect(ReplicationID(bad) == nil)
        }
        #expect(ReplicationID(String(repeating: "a", count: 39) + "g") == nil)
    }
}
