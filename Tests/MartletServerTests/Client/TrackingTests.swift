import MartletBase
import MartletKeyspace
import MartletRESP
import Testing

@testable import MartletServer

@Suite struct TrackingTests {
    /// A node, a client that tracks (the node's own, in RESP3) and one that changes keys.
    private let node: NodeHarness
    private let writer: ClientPointer

    init() {
        node = NodeHarness()
        writer = node.connect()
        node("HELLO 3")
    }

    /// What a client was sent beside its replies.
    private func messages(_ client: ClientPointer? = nil) -> String {
        let client = client ?? node.client
        defer { client.pointee.reply.removeAll() }
        return String(decoding: client.pointee.reply.bytes, as: UTF8.self)
    }

    private func invalidation(_ keys: String...) -> String {
        ">2\r\n" + .bulk("invalidate") + "*\(keys.count)\r\n" + keys.map(String.bulk).joined()
    }

    @Test("A client is told once of a key that it has read")
    func once() {
        #expect(node("CLIENT TRACKING ON") == "+OK\r\n")
        node("GET a")
        node("SET a 1", as: writer)
        #expect(messages() == invalidation("a"))
        node("SET a 2", as: writer)
        #expect(messages() == "")
        node("MGET a b")
        node("MSET b 1 c 1", as: writer)
        #expect(messages() == invalidation("b"))
        node("SELECT 3", as: writer)
        node("SET a 1", as: writer)
        #expect(messages() == invalidation("a"))
    }

    @Test("Nobody is told of a key whose change failed, or that was only read")
    func nothingChanged() {
        node("CLIENT TRACKING ON")
        node("SET a 1")
        node("GET a")
        for line in ["GET a", "LPUSH a 1", "EXPIRE missing 10", "DEL missing", "SET a 1 NX"] { node(line, as: writer) }
        #expect(messages() == "")
    }

    @Test("A client is told of its own changes, behind the reply of the command or transaction")
    func ownChanges() {
        node("CLIENT TRACKING ON")
        node("GET a")
        #expect(node("SET a 1") == "+OK\r\n" + invalidation("a"))
        node("MGET a b")
        node("MULTI")
        node("INCR a")
        node("INCR b")
        #expect(node("EXEC") == "*2\r\n:2\r\n:1\r\n" + invalidation("a") + invalidation("b"))
    }

    @Test("NOLOOP spares a client its own changes")
    func noLoop() {
        node("CLIENT TRACKING ON NOLOOP")
        node("MGET a b")
        #expect(node("SET a 1") == "+OK\r\n")
        node("SET b 1", as: writer)
        #expect(messages() == invalidation("b"))
    }

    @Test("With OPTIN only what follows CACHING YES is remembered: a command, or a transaction")
    func optIn() {
        node("CLIENT TRACKING ON OPTIN")
        node("GET a")
        #expect(node("CLIENT CACHING YES") == "+OK\r\n")
        node("GET b")
        node("GET c")
        node("MSET a 1 b 1 c 1", as: writer)
        #expect(messages() == invalidation("b"))
        node("CLIENT CACHING YES")
        node("MULTI")
        node("GET a")
        node("GET b")
        node("EXEC")
        node("GET c")
        node("MSET a 1 b 1 c 1", as: writer)
        #expect(messages() == invalidation("a") + invalidation("b"))
        node("CLIENT CACHING YES")
        node("NONSENSE")
        node("GET a")
        node("SET a 1", as: writer)
        #expect(messages() == "")
    }

    @Test("With OPTOUT all but what follows CACHING NO is remembered")
    func optOut() {
        node("CLIENT TRACKING ON OPTOUT")
        node("GET a")
        #expect(node("CLIENT CACHING NO") == "+OK\r\n")
        node("GET b")
        node("MSET a 1 b 1", as: writer)
        #expect(messages() == invalidation("a"))
    }

    @Test("BCAST clients are told of keys with their prefixes at the end of the turn, one message for each prefix")
    func broadcast() {
        node("CLIENT TRACKING ON BCAST PREFIX user: PREFIX order:")
        node("MSET user:2 x other x order:1 x user:1 x", as: writer)
        node("SET user:2 y", as: writer)
        #expect(messages() == "")
        node.node.endTurn()
        #expect(messages() == invalidation("order:1") + invalidation("user:1", "user:2"))
        node.node.endTurn()
        #expect(messages() == "")
        // Further prefixes come to those.
        node("CLIENT TRACKING ON BCAST PREFIX other")
        node("MSET user:2 x other x", as: writer)
        node.node.endTurn()
        #expect(messages() == invalidation("other") + invalidation("user:2"))
    }

    @Test("BCAST without a prefix is for all keys, and NOLOOP holds there, too")
    func broadcastNoLoop() {
        node("CLIENT TRACKING ON BCAST NOLOOP")
        node("SET mine 1")
        node("SET ours 1")
        node("SET ours 2", as: writer)
        node("SET theirs 1", as: writer)
        node.node.endTurn()
        #expect(messages() == invalidation("ours", "theirs"))
        node("SET mine 1")
        node.node.endTurn()
        #expect(messages() == "")
        // The time of a key has passed: that was not the client that met it.
        node("SET mine 1 PX 1")
        node.advance(milliseconds: 2)
        node("GET mine")
        node.node.endTurn()
        #expect(messages() == invalidation("mine"))
    }

    @Test("Keys that expire are told, whether somebody meets them or not")
    func expiry() {
        node("CLIENT TRACKING ON")
        node("SET met 1 PX 10")
        node("SET unmet 1 PX 10")
        node("MGET met unmet")
        node.advance(milliseconds: 11)
        node("GET met", as: writer)
        #expect(messages() == invalidation("met"))
        node.node.cron()
        node.node.endTurn()
        #expect(messages() == invalidation("unmet"))
    }

    @Test("Another connection is told if REDIRECT names it: in RESP3, or as a subscriber")
    func redirection() {
        let receiver = node.connect()
        #expect(node("CLIENT TRACKING ON REDIRECT \(receiver.pointee.id)") == "+OK\r\n")
        // RESP2 without a subscription: nothing could be sent.
        node("GET a")
        node("SET a 1", as: writer)
        #expect(messages(receiver) == "")
        node("SUBSCRIBE __redis__:invalidate", as: receiver)
        node("GET a")
        node("SET a 1", as: writer)
        #expect(
            messages(receiver) == "*3\r\n" + .bulk("message") + .bulk("__redis__:invalidate") + "*1\r\n" + .bulk("a"))
        node("FLUSHALL", as: writer)
        #expect(messages(receiver) == "*3\r\n" + .bulk("message") + .bulk("__redis__:invalidate") + "$-1\r\n")
        node("RESET", as: receiver)
        node("HELLO 3", as: receiver)
        node("GET a")
        node("SET a 1", as: writer)
        #expect(messages(receiver) == invalidation("a"))
        #expect(messages() == "")
    }

    @Test("A client learns that the connection is gone that was to be told")
    func brokenRedirection() {
        let receiver = node.connect()
        let id = receiver.pointee.id
        node("CLIENT TRACKING ON REDIRECT \(id)")
        node("GET a")
        node.node.remove(receiver)
        node("SET a 1", as: writer)
        #expect(messages() == ">2\r\n" + .bulk("tracking-redir-broken") + ":\(id)\r\n")
        #expect(node("CLIENT TRACKINGINFO").contains("broken_redirect"))
        #expect(node("CLIENT INFO").contains("flags=tR "))
        node("CLIENT TRACKING ON")
        #expect(!node("CLIENT TRACKINGINFO").contains("broken_redirect"))
    }

    @Test(
        "When data are emptied or replaced, everybody is told to forget all",
        arguments: ["FLUSHALL", "FLUSHDB", "FLUSHALL ASYNC", "SWAPDB 0 1"])
    func everything(_ line: String) {
        node("CLIENT TRACKING ON")
        node("GET a")
        node(line, as: writer)
        #expect(messages() == ">2\r\n" + .bulk("invalidate") + "_\r\n")
        #expect(node("INFO stats").contains("tracking_total_keys:0\r\n"))
        #expect(node(line) == "+OK\r\n>2\r\n" + .bulk("invalidate") + "_\r\n")
    }

    @Test("Pushes come although replies are off")
    func replyOff() {
        node("CLIENT TRACKING ON")
        node("GET a")
        node("CLIENT REPLY OFF")
        node("SET a 1", as: writer)
        #expect(messages() == invalidation("a"))
        node("GET a")
        #expect(node("SET a 2") == invalidation("a"))
    }

    @Test("A client that waits for a key is told behind what it waited for")
    func blocked() {
        node("CLIENT TRACKING ON")
        node("RPUSH to x")
        node("LRANGE to 0 -1")
        #expect(node("BLMOVE from to LEFT LEFT 0") == "")
        node("RPUSH from y", as: writer)
        #expect(messages() == .bulk("y") + invalidation("to"))
    }

    @Test("Beyond tracking-table-max-keys keys are given up, and told as changed")
    func limit() {
        node("CLIENT TRACKING ON")
        for number in 0..<2500 { node("GET key:\(number)") }
        node("CONFIG SET tracking-table-max-keys 10", as: writer)
        var turns = 0
        while node.node.hasUrgentWork, turns < 100 {
            node.node.endTurn()
            turns += 1
        }
        #expect(node.node.tracking.table.keyCount == 10)
        #expect(messages().split(separator: "invalidate").count - 1 == 2490)
        node("CONFIG SET tracking-table-max-keys 0", as: writer)
        for number in 0..<20 { node("GET other:\(number)") }
        node.node.endTurn()
        #expect(node.node.tracking.table.keyCount == 30)
    }

    @Test("INFO counts, and nothing is kept when nobody tracks")
    func counts() {
        node("CLIENT TRACKING ON")
        node("HELLO 3", as: writer)
        node("CLIENT TRACKING ON BCAST PREFIX a PREFIX b", as: writer)
        node("MGET a b")
        let info = node("INFO stats")
        for line in ["tracking_total_keys:2", "tracking_total_items:2", "tracking_total_prefixes:2"] {
            #expect(info.contains(line + "\r\n"))
        }
        #expect(node("INFO clients").contains("tracking_clients:2\r\n"))
        #expect(node("CLIENT LIST").contains("flags=tB "))
        node.node.remove(writer)
        #expect(node.node.tracking.broadcasts.isEmpty)
        node("RESET")
        #expect(node.node.tracking.clientCount == 0)
        #expect(node.node.tracking.table.keyCount == 0)
        #expect(!node.node.keyspace.interest.contains(.changes))
        node("SET a 1")
        #expect(messages() == "")
    }

    @Test("A client that changes to BCAST is not told of what it has read before")
    func change() {
        node("CLIENT TRACKING ON")
        node("GET a")
        node("CLIENT TRACKING OFF")
        node("CLIENT TRACKING ON BCAST")
        node("SET a 1", as: writer)
        #expect(messages() == "")
        node.node.endTurn()
        #expect(messages() == invalidation("a"))
    }

    @Test(
        "Options that do not fit are refused",
        arguments: [
            ("CLIENT TRACKING", "-ERR wrong number of arguments for 'client|tracking' command\r\n"),
            ("CLIENT TRACKING MAYBE", "-ERR syntax error\r\n"),
            ("CLIENT TRACKING ON NONSENSE", "-ERR syntax error\r\n"),
            ("CLIENT TRACKING ON PREFIX", "-ERR syntax error\r\n"),
            ("CLIENT TRACKING ON REDIRECT x", "-ERR value is not an integer or out of range\r\n"),
            ("CLIENT TRACKING ON REDIRECT 77", "-ERR The client ID you want redirect to does not exist\r\n"),
            ("CLIENT TRACKING ON REDIRECT -1", "-ERR The client ID you want redirect to does not exist\r\n"),
            (
                "CLIENT TRACKING ON REDIRECT 1 REDIRECT 2",
                "-ERR A client can only redirect to a single other client\r\n"
            ),
            ("CLIENT TRACKING ON PREFIX a", "-ERR PREFIX option requires BCAST mode to be enabled\r\n"),
            ("CLIENT TRACKING ON BCAST OPTIN", "-ERR OPTIN and OPTOUT are not compatible with BCAST\r\n"),
            ("CLIENT TRACKING ON OPTIN OPTOUT", "-ERR You can't specify both OPTIN mode and OPTOUT mode\r\n"),
            (
                "CLIENT TRACKING ON BCAST PREFIX FOOBAR PREFIX FOO",
                "-ERR Prefix 'FOOBAR' overlaps with another provided prefix 'FOO'. Prefixes for a single client must not overlap.\r\n"
            ),
            (
                "CLIENT TRACKING ON BCAST PREFIX x PREFIX FOO PREFIX y PREFIX FOOBAR",
                "-ERR Prefix 'FOO' overlaps with another provided prefix 'FOOBAR'. Prefixes for a single client must not overlap.\r\n"
            ),
            (
                "CLIENT CACHING YES",
                "-ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled\r\n"
            ),
            ("CLIENT GETREDIR", ":-1\r\n"),
        ])
    func refusals(line: String, reply: String) { #expect(NodeHarness()(line) == reply) }

    @Test(
        "Options that do not fit what the client has are refused",
        arguments: [
            (
                "ON", "CLIENT TRACKING ON BCAST",
                "-ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.\r\n"
            ),
            (
                "ON OPTIN", "CLIENT TRACKING ON OPTOUT",
                "-ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode.\r\n"
            ),
            ("ON OPTIN", "CLIENT TRACKING ON", "+OK\r\n"),
            (
                "ON BCAST PREFIX FOO", "CLIENT TRACKING ON BCAST PREFIX FOOBAR",
                "-ERR Prefix 'FOOBAR' overlaps with an existing prefix 'FOO'. Prefixes for a single client must not overlap.\r\n"
            ),
            ("ON BCAST", "CLIENT TRACKING ON BCAST", "+OK\r\n"),
            (
                "ON", "CLIENT CACHING YES",
                "-ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.\r\n"
            ),
            (
                "ON", "CLIENT CACHING NO",
                "-ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.\r\n"
            ),
            ("ON", "CLIENT CACHING MAYBE", "-ERR syntax error\r\n"),
            ("ON", "CLIENT GETREDIR", ":0\r\n"),
            ("ON REDIRECT 1", "CLIENT GETREDIR", ":1\r\n"),
            (
                "OFF", "CLIENT TRACKINGINFO",
                "*6\r\n$5\r\nflags\r\n*1\r\n$3\r\noff\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0\r\n"
            ),
            (
                "ON BCAST PREFIX foo PREFIX bar NOLOOP", "CLIENT TRACKINGINFO",
                "*6\r\n$5\r\nflags\r\n*3\r\n$2\r\non\r\n$5\r\nbcast\r\n$6\r\nnoloop\r\n$8\r\nredirect\r\n:0\r\n$8\r\nprefixes\r\n*2\r\n$3\r\nbar\r\n$3\r\nfoo\r\n"
            ),
            (
                "ON BCAST", "CLIENT TRACKINGINFO",
                "*6\r\n$5\r\nflags\r\n*2\r\n$2\r\non\r\n$5\r\nbcast\r\n$8\r\nredirect\r\n:0\r\n$8\r\nprefixes\r\n*1\r\n$0\r\n\r\n"
            ),
        ])
    func conflicts(first: String, line: String, reply: String) {
        let node = NodeHarness()
        #expect(node("CLIENT TRACKING " + first) == "+OK\r\n")
        #expect(node(line) == reply)
    }

    @Test("TRACKINGINFO shows that CACHING holds for what comes next")
    func caching() {
        node("CLIENT TRACKING ON OPTIN")
        node("CLIENT CACHING YES")
        #expect(node("CLIENT TRACKINGINFO").contains("~3\r\n" + .bulk("on") + .bulk("optin") + .bulk("caching-yes")))
        node("PING")
        #expect(node("CLIENT TRACKINGINFO").contains("~2\r\n" + .bulk("on") + .bulk("optin")))
    }
}
