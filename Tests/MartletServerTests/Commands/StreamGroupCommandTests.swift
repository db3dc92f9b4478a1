import MartletBase
import MartletKeyspace
import MartletRESP
import Testing

@testable import MartletServer

@Suite struct StreamGroupCommandTests {
    private func tell(_ node: NodeHarness, _ lines: [(String, String)]) {
        for (line, reply) in lines { #expect(node(line) == reply, "\(line)") }
    }

    private func entry(_ id: String, _ words: String...) -> String {
        "*2\r\n" + .bulk(id) + "*\(words.count)\r\n" + words.map { String.bulk($0) }.joined()
    }

    /// What XREADGROUP answers about one stream.
    private func read(_ key: String, _ entries: String...) -> String {
        "*1\r\n*2\r\n" + .bulk(key) + "*\(entries.count)\r\n" + entries.joined()
    }

    /// A stream of so many entries, 1-0 and so on, and a group that has read none.
    private func node(entries: Int) -> NodeHarness {
        let node = NodeHarness()
        for number in 1...entries { node("XADD s \(number) a \(number)") }
        node("XGROUP CREATE s g 0")
        return node
    }

    @Test func groupsAreMadeAndRemoved() {
        let mustExist =
            "-ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM "
            + "option to create an empty stream automatically.\r\n"
        let unknown = { (name: String) in
            "-ERR unknown subcommand or wrong number of arguments for '\(name)'. Try XGROUP HELP.\r\n"
        }
        let noGroup = "-NOGROUP No such consumer group 'g' for key name 's'\r\n"
        tell(
            NodeHarness(),
            [
                ("XGROUP CREATE s g $", mustExist), ("XGROUP DESTROY s g", mustExist),
                ("XGROUP CREATE s g $ MKSTREAM", "+OK\r\n"),
                ("XGROUP CREATE s g $ MKSTREAM", "-BUSYGROUP Consumer Group name already exists\r\n"),
                ("XLEN s", ":0\r\n"), ("XGROUP CREATE s h x", .invalidID), ("XGROUP CREATE s h -", .invalidID),
                ("XGROUP CREATE s h 0 x", unknown("CREATE")), ("XGROUP CREATE s h 0 ENTRIESREAD", unknown("CREATE")),
                (
                    "XGROUP CREATE s h 0 ENTRIESREAD -2",
                    "-ERR value for ENTRIESREAD must be positive or -1\r\n"
                ),
                ("XGROUP SETID s g - ENTRIESREAD 3", "+OK\r\n"), ("XGROUP SETID s g 0 x", unknown("SETID")),
                ("XGROUP CREATECONSUMER s g c", ":1\r\n"), ("XGROUP CREATECONSUMER s g c", ":0\r\n"),
                ("XGROUP DELCONSUMER s g c", ":0\r\n"), ("XGROUP DELCONSUMER s g c", ":0\r\n"),
                ("XGROUP DESTROY s g", ":1\r\n"), ("XGROUP DESTROY s g", ":0\r\n"), ("XGROUP SETID s g 0", noGroup),
                ("XGROUP CREATECONSUMER s g c", noGroup), ("XGROUP DELCONSUMER s g c", noGroup),
                ("XINFO CONSUMERS s g", noGroup), ("XGROUP x", "-ERR unknown subcommand 'x'. Try XGROUP HELP.\r\n"),
                ("XGROUP HELP x", "-ERR wrong number of arguments for 'xgroup|help' command\r\n"),
                (
                    "XREADGROUP GROUP g c STREAMS s >",
                    "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option\r\n"
                ), ("XREADGROUP STREAMS s t u > > >", "-ERR Missing GROUP option for XREADGROUP\r\n"),
                ("XPENDING s g", "-NOGROUP No such key 's' or consumer group 'g'\r\n"), ("XACK s g x", ":0\r\n"),
            ])
    }

    @Test func eachEntryGoesToOneConsumer() {
        let node = node(entries: 5)
        tell(
            node,
            [
                (
                    "XREADGROUP GROUP g alice COUNT 2 STREAMS s >",
                    read("s", entry("1-0", "a", "1"), entry("2-0", "a", "2"))
                ),
                ("XREADGROUP GROUP g bob COUNT 1 STREAMS s >", read("s", entry("3-0", "a", "3"))),
                ("XREADGROUP GROUP g bob NOACK COUNT 1 STREAMS s >", read("s", entry("4-0", "a", "4"))),
                ("XREADGROUP GROUP g alice STREAMS s 1", read("s", entry("2-0", "a", "2"))),
                ("XREADGROUP GROUP g bob STREAMS s 0", read("s", entry("3-0", "a", "3"))),
                ("XREADGROUP GROUP g carol STREAMS s 0", read("s")),
                (
                    "XPENDING s g",
                    "*4\r\n:3\r\n" + .bulk("1-0") + .bulk("3-0") + "*2\r\n" + .bulks("alice", "2") + .bulks("bob", "1")
                ),
                ("XACK s g 1 2 9", ":2\r\n"), ("XACK s g 1", ":0\r\n"), ("XACK s g 1 x", .invalidID),
                ("XREADGROUP GROUP g alice STREAMS s 0", read("s")),
                ("XDEL s 3", ":1\r\n"),
                ("XREADGROUP GROUP g bob STREAMS s 0", read("s", "*2\r\n" + .bulk("3-0") + "*-1\r\n")),
                ("XGROUP DELCONSUMER s g bob", ":1\r\n"), ("XPENDING s g", "*4\r\n:0\r\n$-1\r\n$-1\r\n*-1\r\n"),
                ("XREADGROUP GROUP g bob STREAMS s >", read("s", entry("5-0", "a", "5"))),
                ("XREADGROUP GROUP g bob STREAMS s >", "*-1\r\n"),
                // The group goes back: what bob has becomes carol's.
                ("XGROUP SETID s g 4", "+OK\r\n"),
                ("XREADGROUP GROUP g carol STREAMS s >", read("s", entry("5-0", "a", "5"))),
                ("XPENDING s g - + 10 bob", "*0\r\n"), ("XPENDING s g - + 10 nobody", "*0\r\n"),
                (
                    "XPENDING s g - + 10 carol",
                    "*1\r\n*4\r\n" + .bulk("5-0") + .bulk("carol") + ":0\r\n:1\r\n"
                ),
            ])
    }

    @Test func pendingEntriesAreListed() {
        let node = node(entries: 3)
        node("XREADGROUP GROUP g alice COUNT 2 STREAMS s >")
        node.advance(milliseconds: 50)
        node("XREADGROUP GROUP g bob STREAMS s >")
        func line(_ id: String, _ consumer: String, _ idle: Int) -> String {
            "*4\r\n" + .bulk(id) + .bulk(consumer) + ":\(idle)\r\n:1\r\n"
        }
        tell(
            node,
            [
                (
                    "XPENDING s g - + 10",
                    "*3\r\n" + line("1-0", "alice", 50) + line("2-0", "alice", 50) + line("3-0", "bob", 0)
                ),
                ("XPENDING s g (1 + 1", "*1\r\n" + line("2-0", "alice", 50)),
                ("XPENDING s g IDLE 50 - + 10", "*2\r\n" + line("1-0", "alice", 50) + line("2-0", "alice", 50)),
                ("XPENDING s g IDLE 1 - + 10 bob", "*0\r\n"), ("XPENDING s g - + 0", "*0\r\n"),
                ("XPENDING s g - +", "-ERR syntax error\r\n"), ("XPENDING s g IDLE 1 - +", "-ERR syntax error\r\n"),
                ("XPENDING s g IDLE x - + 1", "-ERR value is not an integer or out of range\r\n"),
                ("XPENDING s g (- + 1", .invalidID),
            ])
    }

    @Test func entriesAreClaimed() {
        let node = node(entries: 4)
        node("XREADGROUP GROUP g alice COUNT 3 STREAMS s >")
        node.advance(milliseconds: 20)
        tell(
            node,
            [
                ("XCLAIM s g bob 50 1", "*0\r\n"), ("XCLAIM s g bob 20 1", "*1\r\n" + entry("1-0", "a", "1")),
                ("XCLAIM s g bob 0 2 9 JUSTID RETRYCOUNT 7", .bulks("2-0")), ("XCLAIM s g bob 0 4", "*0\r\n"),
                ("XCLAIM s g bob 0 4 FORCE", "*1\r\n" + entry("4-0", "a", "4")),
                ("XCLAIM s g bob x 1", "-ERR Invalid min-idle-time argument for XCLAIM\r\n"),
                ("XCLAIM s g bob 0 1 IDLE x", "-ERR Invalid IDLE option argument for XCLAIM\r\n"),
                ("XCLAIM s g bob 0 1 TIME x", "-ERR Invalid TIME option argument for XCLAIM\r\n"),
                ("XCLAIM s g bob 0 1 RETRYCOUNT x", "-ERR Invalid RETRYCOUNT option argument for XCLAIM\r\n"),
                ("XCLAIM s g bob 0 1 LASTID x", .invalidID),
                ("XCLAIM s g bob 0 1 x", "-ERR Unrecognized XCLAIM option 'x'\r\n"),
                ("XCLAIM s none bob 0 1", "-NOGROUP No such key 's' or consumer group 'none'\r\n"),
                ("XDEL s 3", ":1\r\n"), ("XCLAIM s g bob 0 3", "*0\r\n"), ("XPENDING s g - + 10 alice", "*0\r\n"),
                ("XCLAIM s g bob 0 1 IDLE 5 JUSTID", .bulks("1-0")),
            ])
        #expect(
            node("XPENDING s g - + 10")
                == "*3\r\n*4\r\n" + .bulk("1-0") + .bulk("bob") + ":5\r\n:2\r\n*4\r\n" + .bulk("2-0") + .bulk("bob")
                + ":0\r\n:7\r\n*4\r\n" + .bulk("4-0") + .bulk("bob") + ":0\r\n:2\r\n")
    }

    @Test func idleEntriesAreClaimedOneAfterTheOther() {
        let node = node(entries: 5)
        node("XREADGROUP GROUP g alice STREAMS s >")
        node("XDEL s 2")
        node.advance(milliseconds: 20)
        node("XCLAIM s g alice 0 4 JUSTID")
        tell(
            node,
            [
                (
                    "XAUTOCLAIM s g bob 10 - COUNT 2",
                    "*3\r\n" + .bulk("3-0") + "*1\r\n" + entry("1-0", "a", "1") + .bulks("2-0")
                ),
                ("XAUTOCLAIM s g bob 10 3 JUSTID", "*3\r\n" + .bulk("0-0") + .bulks("3-0", "5-0") + "*0\r\n"),
                ("XAUTOCLAIM s g bob 10 (3 COUNT 1", "*3\r\n" + .bulk("0-0") + "*0\r\n*0\r\n"),
                ("XAUTOCLAIM s g bob x -", "-ERR Invalid min-idle-time argument for XAUTOCLAIM\r\n"),
                ("XAUTOCLAIM s g bob 1 - COUNT 0", "-ERR COUNT must be > 0\r\n"),
                ("XAUTOCLAIM s g bob 1 - COUNT 8070450532247928833", "-ERR COUNT must be > 0\r\n"),
                ("XAUTOCLAIM s g bob 1 - x", "-ERR syntax error\r\n"),
                ("XAUTOCLAIM s none bob 1 -", "-NOGROUP No such key 's' or consumer group 'none'\r\n"),
            ])
        // Ten entries are looked at for each that is wanted.
        for number in 10..<40 { node("XADD s \(number) a b") }
        node("XREADGROUP GROUP g alice STREAMS s >")
        #expect(node("XAUTOCLAIM s g bob 10 10 COUNT 2") == "*3\r\n" + .bulk("30-0") + "*0\r\n*0\r\n")
    }

    @Test func countersTellHowFarAGroupIs() {
        let node = node(entries: 5)
        func counters(_ node: NodeHarness) -> String {
            let reply = node("XINFO GROUPS s")
            return String(reply[reply.range(of: "entries-read")!.lowerBound...])
        }
        func expected(_ read: String, _ lag: String) -> String {
            "entries-read\r\n\(read)\r\n" + .bulk("lag") + "\(lag)\r\n"
        }
        #expect(counters(node) == expected("$-1", ":5"))
        node("XREADGROUP GROUP g c COUNT 1 STREAMS s >")
        #expect(counters(node) == expected(":1", ":4"))
        node("XREADGROUP GROUP g c COUNT 2 STREAMS s >")
        #expect(counters(node) == expected(":3", ":2"))
        node("XDEL s 4")
        #expect(counters(node) == expected(":3", "$-1"))
        node("XREADGROUP GROUP g c STREAMS s >")
        // As Redis counts: the one that was deleted is missing.
        #expect(counters(node) == expected(":4", ":1"))
        node("XGROUP SETID s g 0 ENTRIESREAD 2")
        #expect(counters(node) == expected(":2", "$-1"))
    }

    @Test func whatGroupsDoIsPropagatedAsClaims() {
        let node = node(entries: 3)
        let time = "1700000000000"
        node("XREADGROUP GROUP g alice STREAMS s >")
        #expect(
            node.propagation(of: "XCLAIM s g bob 0 1 2-0 JUSTID") == [
                "0 XCLAIM s g bob 0 1 TIME \(time) RETRYCOUNT 1 FORCE JUSTID LASTID 3-0",
                "0 XCLAIM s g bob 0 2-0 TIME \(time) RETRYCOUNT 1 FORCE JUSTID LASTID 3-0",
            ])
        #expect(
            node.propagation(of: "XCLAIM s g bob 0 7 LASTID 9") == ["0 XGROUP SETID s g 9-0 ENTRIESREAD 3"])
        #expect(
            node.propagation(of: "XAUTOCLAIM s g carol 0 3") == [
                "0 XCLAIM s g carol 0 3-0 TIME \(time) RETRYCOUNT 2 FORCE JUSTID LASTID 9-0"
            ])
        #expect(node.propagation(of: "XAUTOCLAIM s g carol 5 0") == [])
        #expect(node.propagation(of: "XACK s g 1 9") == ["0 XACK s g 1 9"])
        #expect(node.propagation(of: "XACK s g 1 9") == [])
        node("XGROUP CREATE s h 0")
        node("XREADGROUP GROUP h alice STREAMS s >")
        #expect(
            node.propagation(of: "XDELEX s DELREF IDS 2 2 9") == ["0 XACK s g 2-0", "0 XACK s h 2-0", "0 XDEL s 2-0"])
        #expect(node.propagation(of: "XACKDEL s h IDS 2 1 9") == ["0 XACK s h 1-0", "0 XDEL s 1-0"])
    }

    @Test func whatWasReadIsPropagatedAsClaims() {
        let node = node(entries: 3)
        node.node.keyspace.propagation.isOn = true
        let time = "1700000000000"
        func log(_ line: String) -> [String] {
            node.node.isInPropagationUnit = true
            defer { node.node.isInPropagationUnit = false }
            node(line)
            return node.takePropagation()
        }
        #expect(
            log("XREADGROUP GROUP g alice COUNT 2 STREAMS s >") == [
                "0 XCLAIM s g alice 0 1-0 TIME \(time) RETRYCOUNT 1 FORCE JUSTID LASTID 1-0",
                "0 XCLAIM s g alice 0 2-0 TIME \(time) RETRYCOUNT 1 FORCE JUSTID LASTID 2-0",
            ])
        #expect(log("XREADGROUP GROUP g alice STREAMS s 0") == [])
        #expect(
            log("XREADGROUP GROUP g bob NOACK STREAMS s >") == [
                "0 XGROUP CREATECONSUMER s g bob", "0 XGROUP SETID s g 3-0 ENTRIESREAD 3",
            ])
        #expect(log("XREADGROUP GROUP g bob STREAMS s >") == [])
    }

    @Test func watchDoesNotSeeGroups() {
        let node = node(entries: 2)
        let other = node.connect()
        func isSeen(_ line: String) -> Bool {
            node("WATCH s", as: other)
            node(line)
            node("MULTI", as: other)
            return node("EXEC", as: other) == "*-1\r\n"
        }
        for line in [
            "XREADGROUP GROUP g c STREAMS s >", "XACK s g 1", "XCLAIM s g c 0 2", "XAUTOCLAIM s g d 0 0",
            "XGROUP CREATE s h 0", "XGROUP SETID s h 1", "XGROUP CREATECONSUMER s h c", "XGROUP DELCONSUMER s h c",
            "XGROUP DESTROY s h", "XSETID s 9", "XGROUP CREATE t h 0 MKSTREAM",
        ] {
            #expect(!isSeen(line), "\(line)")
        }
        #expect(isSeen("XADD s 20 a b"))
        #expect(isSeen("XTRIM s MAXLEN 1"))
        #expect(isSeen("XDEL s 20"))
    }

    @Test func entriesAreDeletedWithRegardToGroups() {
        let node = node(entries: 6)
        node("XGROUP CREATE s h 0")
        node("XREADGROUP GROUP g c COUNT 4 STREAMS s >")
        node("XREADGROUP GROUP h c COUNT 4 STREAMS s >")
        tell(
            node,
            [
                ("XDELEX s IDS 2 1 9", "*2\r\n:1\r\n:-1\r\n"), ("XPENDING s g - + 1 c", pending("1-0")),
                ("XDELEX s DELREF IDS 1 1", "*1\r\n:-1\r\n"), ("XPENDING s g - + 1 c", pending("2-0")),
                ("XDELEX s ACKED IDS 2 2 6", "*2\r\n:2\r\n:2\r\n"), ("XACKDEL s g ACKED IDS 1 2", "*1\r\n:2\r\n"),
                ("XACKDEL s h IDS 1 2 ACKED", "*1\r\n:1\r\n"), ("XACKDEL s g IDS 2 3 2", "*2\r\n:1\r\n:-1\r\n"),
                ("XPENDING s h - + 1 c", pending("3-0")), ("XACKDEL s none IDS 1 3", "*1\r\n:-1\r\n"),
                ("XACKDEL none g IDS 1 3", "*1\r\n:-1\r\n"), ("XDELEX none IDS 1 3", "*1\r\n:-1\r\n"),
                ("XACKDEL s g DELREF IDS 1 4", "*1\r\n:1\r\n"), ("XLEN s", ":2\r\n"),
                ("XACKDEL s h IDS 1 4", "*1\r\n:-1\r\n"),
            ])
    }

    private func pending(_ id: String) -> String { "*1\r\n*4\r\n" + .bulk(id) + .bulk("c") + ":0\r\n:1\r\n" }
}

/// Waits for entries.
@Suite struct StreamBlockingTests {
    private func entry(_ id: String) -> String { "*2\r\n" + .bulk(id) + .bulks("a", "b") }

    private func read(_ key: String, _ ids: String...) -> String {
        "*1\r\n*2\r\n" + .bulk(key) + "*\(ids.count)\r\n" + ids.map(entry).joined()
    }

    private func isWaiting(_ client: ClientPointer) -> Bool { client.isParked }

    /// What a client was sent since it began to wait.
    private func reply(_ client: ClientPointer) -> String {
        defer { client.pointee.reply.removeAll() }
        return String(decoding: client.pointee.reply.bytes, as: UTF8.self)
    }

    @Test func readersGetWhatComesAfterTheyAsked() {
        let node = NodeHarness()
        let (first, second) = (node.connect(), node.connect())
        node("XADD s 1 a b")
        #expect(node("XREAD BLOCK 0 STREAMS none s $ $", as: first) == "")
        #expect(node("XREAD BLOCK 0 COUNT 1 STREAMS s s 5 0", as: second) == read("s", "1-0"))
        #expect(node("XREAD BLOCK 0 COUNT 1 STREAMS s s 5 9", as: second) == "")
        node("XADD s 2 a b")
        #expect(reply(first) == read("s", "2-0"))
        #expect(!isWaiting(first) && isWaiting(second))
        node("MULTI")
        node("XADD s 6 a b")
        node("XADD s 7 a b")
        node("EXEC")
        #expect(reply(second) == read("s", "6-0"))
        node("HELLO 3", as: first)
        node("XREAD BLOCK 0 STREAMS s $", as: first)
        node("XADD s 8 a b")
        #expect(reply(first) == "%1\r\n" + .bulk("s") + "*1\r\n" + entry("8-0"))
    }

    @Test func aWaitEndsWithItsTime() {
        let node = NodeHarness()
        let client = node.connect()
        #expect(node("XREAD BLOCK 20 STREAMS s $", as: client) == "")
        node.advance(milliseconds: 21)
        node.node.endExpiredWaits()
        #expect(reply(client) == "*-1\r\n")
        node("MULTI", as: client)
        node("XREAD BLOCK 0 STREAMS s $", as: client)
        #expect(node("EXEC", as: client) == "*1\r\n*-1\r\n")
    }

    @Test func consumersTakeTurns() {
        let node = NodeHarness()
        let (first, second) = (node.connect(), node.connect())
        node("XGROUP CREATE s g $ MKSTREAM")
        node("XREADGROUP GROUP g alice BLOCK 0 STREAMS s >", as: first)
        node("XREADGROUP GROUP g bob BLOCK 0 STREAMS s >", as: second)
        node("XADD s 1 a b")
        #expect(reply(first) == read("s", "1-0"))
        #expect(isWaiting(second))
        node("XADD s 2 a b")
        #expect(reply(second) == read("s", "2-0"))
        #expect(
            node("XPENDING s g")
                == "*4\r\n:2\r\n" + .bulk("1-0") + .bulk("2-0") + "*2\r\n" + .bulks("alice", "1") + .bulks("bob", "1"))
        #expect(
            node("XREADGROUP GROUP g bob BLOCK 0 STREAMS s 0", as: second) == read("s", "2-0"), "history never waits")
    }

    @Test(arguments: [
        ("DEL s", "-UNBLOCKED the stream key no longer exists\r\n"),
        ("SET s text", "-UNBLOCKED the stream key no longer exists\r\n"),
        ("FLUSHALL", "-UNBLOCKED the stream key no longer exists\r\n"),
        ("SWAPDB 0 1", "-UNBLOCKED the stream key no longer exists\r\n"),
        ("XGROUP DESTROY s g", "-NOGROUP the consumer group this client was blocked on no longer exists\r\n"),
        ("RENAME other s", "-NOGROUP the consumer group this client was blocked on no longer exists\r\n"),
    ])
    func aConsumerWhoseGroupGoesIsTold(line: String, error: String) {
        let node = NodeHarness()
        let (consumer, reader) = (node.connect(), node.connect())
        node("XADD other 1 a b")
        node("XGROUP CREATE s g $ MKSTREAM")
        node("XREADGROUP GROUP g c BLOCK 0 STREAMS s >", as: consumer)
        node("XREAD BLOCK 0 STREAMS s 5", as: reader)
        node(line)
        #expect(reply(consumer) == error)
        #expect(!isWaiting(consumer))
        #expect(isWaiting(reader), "readers go on waiting")
        node("DEL s")
        node("XADD s 9 a b")
        #expect(reply(reader) == read("s", "9-0"))
    }
}

extension String {
    fileprivate static let invalidID = "-ERR Invalid stream ID specified as stream command argument\r\n"

    fileprivate func range(of text: String) -> Range<String.Index>? {
        indices.lazy.compactMap { start -> Range<String.Index>? in
            self[start...].hasPrefix(text)
                ? start..<index(start, offsetBy: text.count) : nil
        }.first
    }
}
