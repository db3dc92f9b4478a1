import Testing

@testable import MartletServer

@Suite struct ServerCommandTests {
    @Test(arguments: [
        ("LASTSAVE", ":1700000000\r\n"),
        ("SHUTDOWN NONSENSE", "-ERR syntax error\r\n"),
        ("SHUTDOWN SAVE NOSAVE", "-ERR syntax error\r\n"),
        ("SHUTDOWN ABORT NOW", "-ERR syntax error\r\n"),
        ("SHUTDOWN ABORT", "-ERR No shutdown in progress.\r\n"),
        ("SHUTDOWN SAVE", "-ERR Errors trying to SHUTDOWN. Check logs.\r\n"),
        ("ACL WHOAMI", "$7\r\ndefault\r\n"),
        ("ACL USERS", "*1\r\n$7\r\ndefault\r\n"),
        ("ACL LIST", "*1\r\n$34\r\nuser default on nopass ~* &* +@all\r\n"),
        ("ACL GETUSER nobody", "$-1\r\n"),
        ("ACL CAT nonsense", "-ERR Unknown category 'nonsense'\r\n"),
    ])
    func repliesAreThoseOfRedis(line: String, reply: String) {
        #expect(NodeHarness()(line) == reply)
    }

    @Test(arguments: ["SHUTDOWN", "SHUTDOWN NOSAVE", "SHUTDOWN NOW FORCE", "SHUTDOWN SAVE FORCE"])
    func shutdownEndsTheServerWithoutAReply(line: String) {
        let node = NodeHarness()
        #expect(node(line) == "")
        #expect((node.client.pointee.parked == .shutdown) as Bool)
        guard case .stop = node.node.effects.last else {
            Issue.record("no effect")
            return
        }
    }

    @Test func aPasswordIsShownAsItsDigest() {
        let node = NodeHarness { $0.requirePassword = Array("abc".utf8) }
        node("AUTH abc")
        #expect(
            node("ACL LIST").contains("#ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad ~* &* +@all"))
    }
}

@Suite struct FunctionCommandTests {
    /// What redis-server 7.0.15 dumps when it has no functions.
    private static let emptyPayload = "\\n\\x00]\\x9b\\\\@\\x0f\\x7f\\xa2\\xda"

    @Test(arguments: [
        ("FUNCTION LIST", "*0\r\n"),
        ("FUNCTION LIST WITHCODE LIBRARYNAME a*", "*0\r\n"),
        ("FUNCTION LIST LIBRARYNAME", "-ERR library name argument was not given\r\n"),
        ("FUNCTION LIST NOISE", "-ERR Unknown argument NOISE\r\n"),
        ("FUNCTION FLUSH SYNC", "+OK\r\n"),
        ("FUNCTION FLUSH NOISE", "-ERR FUNCTION FLUSH only supports SYNC|ASYNC option\r\n"),
        ("FUNCTION RESTORE \"\(emptyPayload)\"", "+OK\r\n"),
        ("FUNCTION RESTORE \"\(emptyPayload)\" FLUSH", "+OK\r\n"),
        (
            "FUNCTION RESTORE \"\(emptyPayload)\" NOISE",
            "-ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.\r\n"
        ),
        ("FUNCTION RESTORE short", "-ERR DUMP payload version or checksum are wrong\r\n"),
        ("FUNCTION RESTORE longer-than-a-footer", "-ERR DUMP payload version or checksum are wrong\r\n"),
    ])
    func repliesAreThoseOfRedisWithoutFunctions(line: String, reply: String) {
        #expect(NodeHarness()(line) == reply)
    }

    @Test func whatIsDumpedCanBeRestored() {
        let node = NodeHarness()
        let payload = Array(node.send([Array("FUNCTION".utf8), Array("DUMP".utf8)]).dropFirst(5).prefix(10))
        #expect(node.send([Array("FUNCTION".utf8), Array("RESTORE".utf8), payload]) == Array("+OK\r\n".utf8))
    }
}
