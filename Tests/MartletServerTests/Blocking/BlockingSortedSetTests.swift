import MartletRESP
import Testing

@testable import MartletServer

/// Clients that wait for sorted sets.
@Suite struct BlockingSortedSetTests {
    @Test(
        arguments: [
            ("BZPOPMIN z 0", .bulks("z", "a", "1"), .bulks("b", "c")),
            ("BZPOPMAX none z 0", .bulks("z", "c", "3"), .bulks("a", "b")),
            ("BZMPOP 0 1 z MIN", "*2\r\n" + .bulk("z") + "*1\r\n" + .bulks("a", "1"), .bulks("b", "c")),
            (
                "BZMPOP 0 2 none z MAX COUNT 10",
                "*2\r\n" + .bulk("z") + "*3\r\n" + .bulks("c", "3") + .bulks("b", "2") + .bulks("a", "1"), "*0\r\n"
            ),
        ] as [(String, String, String)])
    func whatIsAddedServesWhoWaits(line: String, reply: String, left: String) {
        for add in ["ZADD z 1 a 2 b 3 c", "ZUNIONSTORE z 1 source", "RENAME source z", "ZRANGESTORE z source 0 -1"] {
            let node = NodeHarness()
            node("ZADD source 1 a 2 b 3 c")
            let client = waiter(node, line)
            node(add)
            #expect(!isWaiting(client), "\(add)")
            #expect(told(client) == reply, "\(add)")
            #expect(node("ZRANGE z 0 -1") == left)
        }
        // The same without waiting.
        let node = NodeHarness()
        node("ZADD z 1 a 2 b 3 c")
        #expect(node(line) == reply)
        #expect(node("ZRANGE z 0 -1") == left)
    }

    @Test func scoresAreDoublesInRESP3() {
        let node = NodeHarness()
        node("HELLO 3")
        node("ZADD z 1 a 2 b")
        #expect(node("BZPOPMIN z 0") == "*3\r\n" + .bulk("z") + .bulk("a") + ",1\r\n")
        #expect(node("BZMPOP 0 1 z MIN") == "*2\r\n" + .bulk("z") + "*1\r\n*2\r\n" + .bulk("b") + ",2\r\n")
    }

    @Test func otherTypesServeNobody() {
        let node = NodeHarness()
        let client = waiter(node, "BZPOPMIN z 0")
        node("SET z text")
        #expect(isWaiting(client))
        #expect(node("BZPOPMIN z 0").hasPrefix("-WRONGTYPE"))
        node("DEL z")
        node("GEOADD z 13 38 Palermo")
        #expect(told(client) == .bulks("z", "Palermo", "3479065152021743"))
    }

    @Test(arguments: [
        ("BZPOPMIN z -1", "-ERR timeout is negative\r\n"),
        ("BZPOPMAX z x", "-ERR timeout is not a float or out of range\r\n"),
        ("BZMPOP 0 0 z MIN", "-ERR numkeys should be greater than 0\r\n"),
        ("BZMPOP x 1 z MIN", "-ERR timeout is not a float or out of range\r\n"),
        ("BZMPOP x 0 z MIN", "-ERR numkeys should be greater than 0\r\n"),
        ("BZMPOP 0 1 z MID", "-ERR syntax error\r\n"), ("BZMPOP 0 2 z MIN", "-ERR syntax error\r\n"),
        ("BZMPOP 0 1 z MIN COUNT 0", "-ERR count should be greater than 0\r\n"),
    ])
    func mistakesAreNamed(line: String, reply: String) {
        #expect(NodeHarness()(line) == reply)
    }

    @Test func nobodyWaitsInsideOfATransaction() {
        let node = NodeHarness()
        for line in ["MULTI", "BZPOPMIN z 0", "BZMPOP 0 1 z MAX"] { node(line) }
        #expect(node("EXEC") == "*2\r\n*-1\r\n*-1\r\n")
    }
}
