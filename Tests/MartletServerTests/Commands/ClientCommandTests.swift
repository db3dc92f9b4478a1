import Testing

@testable import MartletServer

@Suite struct ClientCommandTests {
    @Test(arguments: [
        ("CLIENT ID", ":1\r\n"),
        ("CLIENT GETNAME", "$-1\r\n"),
        (
            "CLIENT SETNAME 'a b'",
            "-ERR Client names cannot contain spaces, newlines or special characters.\r\n"
        ),
        ("CLIENT SETINFO LIB-NAME redis-py", "+OK\r\n"),
        ("CLIENT SETINFO lib-ver '1 2'", "-ERR lib-ver cannot contain spaces, newlines or special characters.\r\n"),
        ("CLIENT SETINFO nonsense x", "-ERR Unrecognized option 'nonsense'\r\n"),
        ("CLIENT LIST TYPE nonsense", "-ERR Unknown client type 'nonsense'\r\n"),
        ("CLIENT LIST ID", "-ERR syntax error\r\n"),
        ("CLIENT LIST ID x", "-ERR Invalid client ID\r\n"),
        ("CLIENT LIST TYPE replica", "$0\r\n\r\n"),
        ("CLIENT KILL 1.2.3.4:5", "-ERR No such client\r\n"),
        ("CLIENT KILL ID 0", "-ERR client-id should be greater than 0\r\n"),
        ("CLIENT KILL ID 77", ":0\r\n"),
        ("CLIENT KILL ID 1 SKIPME", "-ERR syntax error\r\n"),
        ("CLIENT KILL USER nobody", "-ERR No such user 'nobody'\r\n"),
        ("CLIENT KILL MAXAGE 0", "-ERR maxage should be greater than 0\r\n"),
        ("CLIENT PAUSE x", "-ERR timeout is not an integer or out of range\r\n"),
        ("CLIENT PAUSE -1", "-ERR timeout is negative\r\n"),
        ("CLIENT PAUSE 1 SOME", "-ERR CLIENT PAUSE mode must be WRITE or ALL\r\n"),
        ("CLIENT PAUSE 9223372036854775807 WRITE", "+OK\r\n"),
        ("CLIENT REPLY MAYBE", "-ERR syntax error\r\n"),
        ("CLIENT NO-EVICT MAYBE", "-ERR syntax error\r\n"),
        ("CLIENT NO-TOUCH ON", "+OK\r\n"),
        ("CLIENT UNBLOCK 7", ":0\r\n"),
        ("CLIENT UNBLOCK 1", ":0\r\n"),
        ("CLIENT UNBLOCK x", "-ERR value is not an integer or out of range\r\n"),
        ("CLIENT UNBLOCK 1 NOW", "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR\r\n"),
        ("CLIENT GETREDIR", ":-1\r\n"),
        ("CLIENT NONSENSE", "-ERR unknown subcommand 'NONSENSE'. Try CLIENT HELP.\r\n"),
        ("CLIENT", "-ERR wrong number of arguments for 'client' command\r\n"),
        ("CLIENT GETNAME x", "-ERR wrong number of arguments for 'client|getname' command\r\n"),
    ])
    func repliesAreThoseOfRedis(line: String, reply: String) {
        #expect(NodeHarness()(line) == reply)
    }

    @Test func theListHasOneLineForEachClient() throws {
        let node = NodeHarness(startMilliseconds: 1_000_000)
        let other = node.connect(address: "10.0.0.1:999")
        node("CLIENT SETNAME worker", as: other)
        node("SELECT 2", as: other)
        node.advance(milliseconds: 5000)
        // The first line is behind the length of the bulk string; its end is the third.
        let lines = node("CLIENT LIST").split(separator: "\n")
        try #require(lines.count == 3)
        let fields = Dictionary(
            uniqueKeysWithValues: lines[1].split(separator: " ").map { field in
                let parts = field.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                return (String(parts[0]), String(parts[1]))
            })
        let expected = [
            "id": "2", "addr": "10.0.0.1:999", "laddr": "127.0.0.1:6379", "name": "worker", "age": "5", "idle": "5",
            "flags": "N", "db": "2", "multi": "-1", "cmd": "select", "user": "default", "resp": "2",
        ]
        for (name, value) in expected { #expect(fields[name] == value) }
        #expect(
            fields.keys.sorted() == [
                "addr", "age", "argv-mem", "cmd", "db", "events", "fd", "flags", "id", "idle", "laddr", "lib-name",
                "lib-ver", "multi", "multi-mem", "name", "obl", "oll", "omem", "psub", "qbuf", "qbuf-free", "rbp",
                "rbs",
                "redir", "resp", "ssub", "sub", "tot-mem", "user",
            ])
    }

    @Test func killClosesWhomTheFiltersName() {
        let node = NodeHarness()
        let old = node.connect(address: "10.0.0.1:1")
        node.advance(milliseconds: 60_000)
        let new = node.connect(address: "10.0.0.2:2")
        #expect(node("CLIENT KILL MAXAGE 60 LADDR 127.0.0.1:6379") == ":1\r\n")
        #expect(old.isClosing as Bool)
        #expect(!new.isClosing as Bool)
        #expect(node("CLIENT KILL 10.0.0.2:2") == "+OK\r\n")
        #expect(new.isClosing as Bool)
        #expect(node("CLIENT KILL TYPE normal SKIPME no") == ":1\r\n")
        #expect(node.client.isClosing as Bool)
    }

    @Test func aPauseOfWritesHoldsOnlyWritesBack() {
        let node = NodeHarness()
        let other = node.connect()
        #expect(node("CLIENT PAUSE 1000 WRITE") == "+OK\r\n")
        #expect(node("GET key", as: other) == "$-1\r\n")
        #expect(node("SET key value", as: other) == "")
        #expect(other.isParked as Bool)
        #expect(node("CLIENT UNPAUSE") == "+OK\r\n")
        #expect(!other.isParked as Bool)
    }

    @Test func aSkippedReplyIsOneReply() {
        let node = NodeHarness()
        #expect(node("CLIENT REPLY SKIP") == "")
        #expect(node("SET key value") == "")
        #expect(node("GET key") == .bulk("value"))
        #expect(node.receive(Array("CLIENT REPLY SKIP\r\nNONSENSE\r\nPING\r\n".utf8)) == Array("+PONG\r\n".utf8))
    }

    @Test func repliesStayOffUntilTheyAreTurnedOn() {
        let node = NodeHarness()
        #expect(node("CLIENT REPLY OFF") == "")
        #expect(node("PING") == "")
        #expect(node("NONSENSE") == "")
        #expect(node("CLIENT REPLY SKIP") == "")
        #expect(node("CLIENT REPLY ON") == "+OK\r\n")
        #expect(node("PING") == "+PONG\r\n")
    }
}
