import MartletBase
import Testing

@testable import MartletReplication

/// A session with the driver's part played as a real one would: image and stream are collected, the image is "loaded"
/// as soon as it is complete.
struct Follower: ~Copyable {
    var session: ReplicaSession
    var sent = ""
    var log: [String] = []
    var payload: [UInt8] = []
    var stream: [UInt8] = []
    var failure: ReplicaSession.Failure?

    init(_ configuration: ReplicaSession.Configuration, resuming: (id: ReplicationID, offset: Int64)? = nil) {
        session = ReplicaSession(configuration: configuration, resuming: resuming, now: 0)
    }

    mutating func connect(now: Int64 = 0) {
        let action = session.tick(now: now)
        #expect(action == .connect)
        session.linkOpened(now: now)
        collect()
    }

    mutating func collect() {
        sent += String(decoding: Array(session.output.bytes), as: UTF8.self)
        session.output.removeAll()
    }

    mutating func receive(_ bytes: [UInt8], now: Int64 = 0) {
        bytes.withUnsafeBytes { session.receive($0, now: now) }
        while failure == nil, let event = session.next() {
            switch event {
            case .fullResync(let id, let offset): log.append("full \(id) \(offset)")
            case .payloadBegins(let count): log.append("begin \(count.map { String($0) } ?? "?")")
            case .payload(let bytes): payload += bytes
            case .payloadEnds:
                log.append("end")
                session.loaded(now: now)
            case .continued(let id): log.append("continue \(id.map { $0.description } ?? "-")")
            case .stream(let bytes): stream += bytes
            case .failed(let error): failure = error
            }
        }
        collect()
    }

    mutating func receive(_ text: String, step: Int = .max, now: Int64 = 0) {
        let bytes = Array(text.utf8)
        for start in stride(from: 0, to: bytes.count, by: min(step, bytes.count)) {
            receive(Array(bytes[start..<min(bytes.count, start + min(step, bytes.count))]), now: now)
        }
    }

    /// What was sent since the last call.
    mutating func takeSent() -> String {
        collect()
        defer { sent = "" }
        return sent
    }
}

@Suite struct ReplicaSessionTests {
    static let a = String(repeating: "a", count: 40)
    static let b = String(repeating: "b", count: 40)
    static let mark = String(repeating: "0123456789", count: 4)
    static let port: ReplicaSession.Configuration = .init(listeningPort: 17972)
    static let capabilities =
        "*7\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n"
        + "$4\r\ncapa\r\n$12\r\nfield-expiry\r\n"

    static func afterHandshake(resuming: (id: ReplicationID, offset: Int64)? = nil) -> Follower {
        var follower = Follower(port, resuming: resuming)
        follower.connect()
        follower.receive("+PONG\r\n+OK\r\n+OK\r\n")
        _ = follower.takeSent()
        return follower
    }

    @Test("What is sent is byte for byte what redis-server 7.0.15 sends", arguments: [1, 3, 1000])
    func golden(step: Int) {
        var configuration = Self.port
        configuration.user = Array("u".utf8)
        configuration.password = Array("pw".utf8)
        configuration.announcedAddress = "10.0.0.9"
        var follower = Follower(configuration)
        follower.connect()
        #expect(follower.takeSent() == "*1\r\n$4\r\nPING\r\n")
        follower.receive("+PONG\r\n", step: step)
        #expect(
            follower.takeSent() == "*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$2\r\npw\r\n"
                + "*3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$5\r\n17972\r\n"
                + "*3\r\n$8\r\nREPLCONF\r\n$10\r\nip-address\r\n$8\r\n10.0.0.9\r\n" + Self.capabilities)
        follower.receive("+OK\r\n+OK\r\n+OK\r\n+OK\r\n", step: step)
        #expect(follower.takeSent() == "*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n")
        #expect(follower.session.roleName == "handshake")

        follower.receive("\n\n+FULLRESYNC \(Self.a) 1000\r\n\n$EOF:\(Self.mark)\r\n", step: step)
        #expect(follower.session.roleName == "sync")
        #expect(follower.takeSent() == "")
        follower.receive("REDIS0010 image \(Self.mark.dropLast()) image\(Self.mark)", step: step, now: 500)
        #expect(follower.log == ["full \(Self.a) 1000", "begin ?", "end"])
        #expect(follower.payload == Array("REDIS0010 image \(Self.mark.dropLast()) image".utf8))
        #expect(follower.takeSent() == "*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$4\r\n1000\r\n")
        #expect(follower.session.roleName == "connected")
        #expect(follower.session.isStreaming == true)

        let select = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
        let set = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nz\r\n"
        let getAck = "*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n"
        follower.receive(select + set + getAck, step: step, now: 600)
        #expect(follower.stream == Array((select + set + getAck).utf8))
        follower.session.didApply(bytes: select.utf8.count)
        follower.session.didApply(bytes: set.utf8.count)
        follower.session.acknowledge(now: 600)
        follower.session.didApply(bytes: getAck.utf8.count)
        #expect(follower.takeSent() == "*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$4\r\n1050\r\n")

        follower.session.linkClosed(now: 700)
        #expect(follower.session.downSince == 700)
        follower.connect(now: 700)
        follower.receive("+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n", step: step, now: 700)
        #expect(follower.takeSent().hasSuffix("*3\r\n$5\r\nPSYNC\r\n$40\r\n\(Self.a)\r\n$4\r\n1088\r\n") == true)
        follower.receive("+CONTINUE \(Self.b)\r\n", step: step, now: 700)
        #expect(follower.log.last == "continue \(Self.b)")
        #expect(follower.session.offset == 1087)
        #expect(follower.session.id?.description == Self.b)
        let quiet = follower.session.tick(now: 1699)
        #expect(quiet == .none)
        #expect(follower.takeSent() == "")
        _ = follower.session.tick(now: 1700)
        #expect(follower.takeSent() == "*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$4\r\n1087\r\n")
    }

    @Test("An image of known length is followed by the stream without a pause", arguments: [1, 2, 7, 1000])
    func lengthForm(step: Int) {
        var follower = Self.afterHandshake()
        follower.receive("+FULLRESYNC \(Self.a) 7\r\n\n$10\r\n0123456789*1\r\n$4\r\nPING\r\n", step: step)
        #expect(follower.log == ["full \(Self.a) 7", "begin 10", "end"])
        #expect(follower.payload == Array("0123456789".utf8))
        #expect(follower.stream == Array("*1\r\n$4\r\nPING\r\n".utf8))
        #expect(follower.session.offset == 7)
    }

    @Test("The stream may follow the mark at once", arguments: [1, 39, 40, 41, 1000])
    func markAndStream(step: Int) {
        var follower = Self.afterHandshake()
        let image = String(repeating: "0123456789", count: 30) + "x" + Self.mark.dropFirst()
        follower.receive("+FULLRESYNC \(Self.a) 7\r\n$EOF:\(Self.b)\r\n\(image)\(Self.b)*1\r\n", step: step)
        #expect(follower.payload == Array(image.utf8))
        #expect(follower.stream == Array("*1\r\n".utf8))
    }

    @Test("A partial resync keeps the history, and names it if the primary does not")
    func continued() {
        let id = ReplicationID(Self.a)!
        for (reply, new) in [("+CONTINUE\r\n", "-"), ("+CONTINUE \(Self.a)\r\n", Self.a)] {
            var follower = Self.afterHandshake(resuming: (id, 41))
            follower.receive(reply + "abc")
            #expect(follower.log == ["continue \(new)"])
            #expect(follower.stream == Array("abc".utf8))
            #expect(follower.session.id == id)
            #expect(follower.session.offset == 41)
        }
    }

    @Test("Until the image begins a broken full sync leaves the old history usable; from then on it is void")
    func brokenFullSync() {
        let id = ReplicationID(Self.b)!
        var follower = Self.afterHandshake(resuming: (id, 41))
        follower.receive("+FULLRESYNC \(Self.a) 7\r\n")
        follower.session.linkClosed(now: 10)
        #expect(follower.session.id == id)
        #expect(follower.session.offset == 41)

        var early = follower.session.tick(now: 1009)
        #expect(early == .none)
        follower.connect(now: 1010)
        follower.receive("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC \(Self.a) 7\r\n$100\r\nabc", now: 1010)
        #expect(follower.takeSent().contains("$2\r\n42\r\n") == true)
        follower.session.linkClosed(now: 1020)
        #expect(follower.session.id == nil)
        early = follower.session.tick(now: 2019)
        #expect(early == .none)
        follower.connect(now: 2020)
        follower.receive("+PONG\r\n+OK\r\n+OK\r\n")
        #expect(follower.takeSent().hasSuffix("$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n") == true)
    }

    @Test(
        "Refusals end the link with their cause",
        arguments: [
            ("-MASTERDOWN no\r\n", .refused("-MASTERDOWN no")),
            ("-NOAUTH x\r\n+OK\r\n+OK\r\n-NOMASTERLINK Can't SYNC\r\n", .notReady("-NOMASTERLINK Can't SYNC")),
            ("+PONG\r\n-ERR x\r\n-ERR y\r\n-LOADING Redis\r\n", .notReady("-LOADING Redis")),
            ("+PONG\r\n+OK\r\n+OK\r\n-ERR unknown command\r\n", .refused("-ERR unknown command")),
            ("+PONG\r\n+OK\r\n+OK\r\n+WHAT\r\n", .badReply("+WHAT")),
            ("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC x 1\r\n", .badReply("+FULLRESYNC x 1")),
            ("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC \(a)\r\n", .badReply("+FULLRESYNC \(a)")),
            ("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC \(a) -1\r\n", .badReply("+FULLRESYNC \(a) -1")),
            (
                "+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC \(a) 4611686018427387904\r\n",
                .badReply("+FULLRESYNC \(a) 4611686018427387904")
            ),
            ("+PONG\r\n+OK\r\n+OK\r\n+CONTINUE\r\n", .badReply("+CONTINUE")),
            ("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC \(a) 1\r\n-ERR gone\r\n", .refused("-ERR gone")),
            ("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC \(a) 1\r\n*1\r\n", .badReply("*1")),
            ("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC \(a) 1\r\n$-1\r\n", .badReply("$-1")),
            ("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC \(a) 1\r\n$EOF:abc\r\n", .badReply("$EOF:abc")),
            (
                "+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC \(a) 1\r\n$99999999999999999999\r\n",
                .badReply("$99999999999999999999")
            ),
            (String(repeating: "x", count: 1024), .lineTooLong),
            ("\r\n", .refused("")),
        ] as [(String, ReplicaSession.Failure)])
    func refusals(wire: String, failure: ReplicaSession.Failure) {
        for step in [1, 1000] {
            var follower = Follower(Self.port)
            follower.connect()
            follower.receive(wire, step: step)
            #expect(follower.failure == failure)
        }
    }

    @Test("A wrong password ends the link, an unknown option does not")
    func authentication() {
        var configuration = Self.port
        configuration.password = Array("pw".utf8)
        var follower = Follower(configuration)
        follower.connect()
        follower.receive("-NOAUTH x\r\n-WRONGPASS invalid\r\n")
        #expect(follower.failure == .authentication("-WRONGPASS invalid"))
        follower = Follower(configuration)
        follower.connect()
        follower.receive("-NOAUTH x\r\n+OK\r\n-ERR a\r\n-ERR b\r\n")
        #expect(follower.failure == nil)
        #expect(follower.takeSent().hasSuffix("PSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n") == true)
    }

    @Test("Silence ends the link one millisecond past the time-out, in every state but loading")
    func timeouts() {
        let stages = [
            "", "+PONG\r\n", "+OK\r\n+OK\r\n", "+FULLRESYNC \(Self.a) 1\r\n", "$10\r\n01234",
        ]
        for stageCount in 0...stages.count {
            var follower = Follower(Self.port)
            follower.connect(now: 5)
            for stage in stages[..<stageCount] where !stage.isEmpty { follower.receive(stage, now: 5) }
            let early = follower.session.tick(now: 60_005)
            #expect(early == .none)
            let late = follower.session.tick(now: 60_006)
            #expect(late == .disconnect(.timeout))
        }
        var follower = Self.afterHandshake(resuming: (ReplicationID(Self.a)!, 1))
        follower.receive("+CONTINUE\r\n")
        follower.session.heard(now: 100)
        let early = follower.session.tick(now: 60_100)
        #expect(early == .none)
        let late = follower.session.tick(now: 60_101)
        #expect(late == .disconnect(.timeout))
    }

    @Test("A connection that cannot be made is tried again every second; one that had worked at once")
    func retries() {
        var session = ReplicaSession(configuration: Self.port, resuming: nil, now: 50)
        var action = session.tick(now: 50)
        #expect(action == .connect)
        action = session.tick(now: 51)
        #expect(action == .none)
        session.linkClosed(now: 60)
        action = session.tick(now: 1059)
        #expect(action == .none)
        action = session.tick(now: 1060)
        #expect(action == .connect)
    }

    @Test("While the image arrives the primary hears from us every second")
    func signsOfLife() {
        var follower = Self.afterHandshake()
        follower.receive("+FULLRESYNC \(Self.a) 1\r\n$10\r\n0", now: 10_000)
        _ = follower.session.tick(now: 10_000)
        #expect(follower.takeSent() == "\n")
        _ = follower.session.tick(now: 10_999)
        #expect(follower.takeSent() == "")
        _ = follower.session.tick(now: 11_000)
        #expect(follower.takeSent() == "\n")
    }

    @Test("A primary that speaks nonsense neither crashes the session nor makes it hoard")
    func fuzz() {
        let seed: UInt64 = 0x5E55
        var random = PRNG(seed: seed)
        let pieces = [
            "+PONG\r\n", "+OK\r\n", "-ERR x\r\n", "\n", "\r\n", "+FULLRESYNC \(Self.a) 12\r\n", "+FULLRESYNC ",
            "+CONTINUE\r\n", "+CONTINUE \(Self.b)\r\n", "$EOF:\(Self.mark)\r\n", Self.mark, "$5\r\n", "$0\r\n",
            "$99999999\r\n", "abc", "*1\r\n$4\r\nPING\r\n", "\u{0}", String(repeating: "z", count: 300),
        ]
        for round in 0..<2000 {
            var whole = Follower(Self.port)
            var dripped = Follower(Self.port)
            whole.connect()
            dripped.connect()
            var wire = random.below(2) == 0 ? "+PONG\r\n+OK\r\n+OK\r\n" : ""
            for _ in 0..<random.below(14) { wire += pieces[random.below(pieces.count)] }
            if wire.isEmpty { continue }
            whole.receive(wire)
            dripped.receive(wire, step: 1 + random.below(5))
            let isEqual =
                whole.log == dripped.log && whole.stream == dripped.stream && whole.payload == dripped.payload
                && whole.failure == dripped.failure
            #expect(isEqual, "seed \(seed), round \(round)")
        }
    }
}

@Suite struct EndMarkScannerTests {
    @Test("The mark is found wherever it begins, and image bytes are never taken for it")
    func positions() {
        var random = PRNG(seed: 3)
        for round in 0..<300 {
            let mark = (0..<40).map { _ in UInt8(ascii: "a") + UInt8(random.below(round % 2 == 0 ? 2 : 16)) }
            let scanner = EndMarkScanner(mark: mark)
            let image = (0..<random.below(300)).map { _ in
                UInt8(ascii: "a") + UInt8(random.below(round % 3 == 0 ? 2 : 30))
            }
            let tail = (0..<random.below(50)).map { _ in UInt8(ascii: "z") }
            let bytes = image + mark + tail
            for count in 0...bytes.count {
                let part = Array(bytes[..<count])
                let result = part.withUnsafeBytes { scanner.scan($0) }
                if count >= image.count + 40 {
                    #expect(result == .found(at: image.count))
                } else if case .notYet(let imageCount) = result {
                    #expect(imageCount <= image.count)
                    #expect(imageCount >= count - 39)
                } else {
                    Issue.record("found too early")
                }
            }
        }
    }
}
