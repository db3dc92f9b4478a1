import MartletKeyspace
import Testing

@testable import MartletServer

@Suite struct ConnectionCommandTests {
    @Test(arguments: [
        ("PING", "+PONG\r\n"),
        ("PING hello", "$5\r\nhello\r\n"),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command\r\n"),
        ("ECHO 'a b'", "$3\r\na b\r\n"),
        ("SELECT 15", "+OK\r\n"),
        ("SELECT 16", "-ERR DB index is out of range\r\n"),
        ("SELECT -1", "-ERR DB index is out of range\r\n"),
        ("SELECT one", "-ERR value is not an integer or out of range\r\n"),
        ("SELECT 2147483648", "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n"),
        ("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
        ("HELLO x", "-ERR Protocol version is not an integer or out of range\r\n"),
        ("HELLO 3 NOISE", "-ERR Syntax error in HELLO option 'NOISE'\r\n"),
        (
            "HELLO 3 SETNAME 'a b'",
            "-ERR Client names cannot contain spaces, newlines or special characters.\r\n"
        ),
        ("AUTH a b c", "-ERR syntax error\r\n"),
        ("AUTH default anything", "+OK\r\n"),
        ("AUTH somebody x", "-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
        (
            "AUTH x",
            "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?\r\n"
        ),
        ("READONLY", "-ERR This instance has cluster support disabled\r\n"),
        ("ASKING", "-ERR This instance has cluster support disabled\r\n"),
        ("RESET", "+RESET\r\n"),
    ])
    func repliesAreThoseOfRedis(line: String, reply: String) {
        #expect(NodeHarness()(line) == reply)
    }

    @Test func helloDescribesTheServerInTheChosenProtocol() {
        let node = NodeHarness()
        #expect(
            node("HELLO 3 SETNAME me")
                == "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n\(String.bulk(Version.redis))$5\r\nproto\r\n:3\r\n"
                + "$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
        )
        #expect(node("CLIENT GETNAME") == .bulk("me"))
        #expect(node("GET missing") == "_\r\n")
        #expect(node("HELLO 2").hasPrefix("*14\r\n"))
        #expect(node("GET missing") == "$-1\r\n")
    }

    @Test func aPasswordIsAskedForAndChecked() {
        let node = NodeHarness { $0.requirePassword = Array("secret".utf8) }
        #expect(node("GET key") == "-NOAUTH Authentication required.\r\n")
        for wrong in ["secre", "secrets", "Secret", "''"] {
            #expect(node("AUTH \(wrong)") == "-WRONGPASS invalid username-password pair or user is disabled.\r\n")
        }
        #expect(node("HELLO 3").hasPrefix("-NOAUTH HELLO must be called with the client already authenticated"))
        #expect(node("HELLO 3 AUTH default secret").hasPrefix("%7\r\n"))
        #expect(node("GET key") == "_\r\n")
        #expect(node("RESET") == "+RESET\r\n")
        #expect(node("GET key") == "-NOAUTH Authentication required.\r\n")
        #expect(node("AUTH secret") == "+OK\r\n")
        #expect(node("GET key") == "$-1\r\n")
    }

    @Test func takingThePasswordAwayLetsEverybodyIn() {
        let node = NodeHarness()
        node("CONFIG SET requirepass x")
        let other = node.connect()
        #expect(node("PING", as: other) == "-NOAUTH Authentication required.\r\n")
        #expect(node("PING") == "+PONG\r\n")
        node("CONFIG SET requirepass ''")
        #expect(node("PING", as: other) == "+PONG\r\n")
    }

    @Test func nothingRunsAfterQuit() {
        let node = NodeHarness()
        #expect(node.receive(Array("QUIT\r\nSET key value\r\n".utf8)) == Array("+OK\r\n".utf8))
        #expect(node.client.isClosing as Bool)
        #expect(node.node.keyspace.keyCount(database: 0) == 0)
    }

    @Test func resetPutsTheConversationBack() {
        let node = NodeHarness()
        for line in ["SELECT 3", "HELLO 3 SETNAME me", "MULTI"] { node(line) }
        #expect(node("RESET") == "+RESET\r\n")
        #expect(node("EXEC") == "-ERR EXEC without MULTI\r\n")
        #expect(node("CLIENT GETNAME") == "$-1\r\n")
        #expect((node.client.pointee.database == 0) as Bool)
    }

    @Test func oneDatabaseIsAllThatAClusterHas() {
        let node = NodeHarness(isClustered: true)
        #expect(node("SELECT 0") == "+OK\r\n")
        #expect(node("SELECT 1") == "-ERR SELECT is not allowed in cluster mode\r\n")
        #expect(node("READONLY") == "+OK\r\n")
        #expect(node("READWRITE") == "+OK\r\n")
        #expect(node("ASKING") == "+OK\r\n")
    }
}
