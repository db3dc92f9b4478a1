import MartletRESP
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
        ("CLIENT LIST ID 1 x", "-ERR syntax error\r\n"),
        ("CLIENT LIST NAME", "-ERR syntax error\r\n"),
        ("CLIENT LIST IDLE x", "-ERR idle is not an integer or out of range\r\n"),
        ("CLIENT LIST DB 16", "-ERR DB number should be between 0 and 15\r\n"),
        ("CLIENT LIST NOT-DB x", "-ERR NOT-DB is not an integer or out of range\r\n"),
        ("CLIENT LIST FLAGS NZ", "-ERR Unknown flags found in the provided filter: NZ\r\n"),
        ("CLIENT KILL NOT-FLAGS Z", "-ERR Unknown flags found in the NOT-FLAGS filter: Z\r\n"),
        ("CLIENT KILL CAPA x", "-ERR Unknown capa found in the provided filter: x\r\n"),
        ("CLIENT KILL NOT-MAXAGE 1", "-ERR syntax error\r\n"),
        ("CLIENT KILL IP 127.0.0.1", ":0\r\n"),
        ("CLIENT KILL NOT-ID 1 SKIPME no", ":0\r\n"),
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
        ("CLIENT CAPA", "-ERR wrong number of arguments for 'client|capa' command\r\n"),
        ("CLIENT CAPA redirect whatever-comes", "+OK\r\n"),
        ("CLIENT IMPORT-SOURCE ON", "-ERR Server is not in import mode\r\n"),
        ("CLIENT IMPORT-SOURCE OFF", "+OK\r\n"),
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
                "rbs", "redir", "resp", "ssub", "sub", "tot-mem", "user", "watch",
            ])
    }

    @Test(arguments: [
        ("ID 2 1", "2 1"), ("ID 1 2 TYPE normal", "1 2"), ("ID 1 ID 2", "1 2"), ("SKIPME yes", "2 3"),
        ("NOT-ID 1 3", "2"), ("TYPE pubsub TYPE normal", "1 2"), ("NOT-TYPE normal", "3"), ("IP 10.0.0.1", "2"),
        ("IP 10.0.0", ""), ("NOT-IP 10.0.0.1", "1 3"), ("ADDR 10.0.0.1:999", "2"), ("NOT-ADDR 10.0.0.1:999", "1 3"),
        ("LADDR x", ""), ("NAME foo", "2"), ("NAME FOO", ""), ("NAME ''", ""), ("NOT-NAME foo", "1 3"), ("DB 3", "2"),
        ("NOT-DB 3", "1 3"), ("CAPA r", "2"), ("NOT-CAPA r", "1 3"), ("FLAGS P", "3"), ("FLAGS Px", ""),
        ("FLAGS ''", "1 2 3"), ("NOT-FLAGS P", "1 2"), ("LIB-NAME lib", "2"), ("NOT-LIB-NAME lib", "1 3"),
        ("LIB-VER 1", "2"), ("NOT-LIB-VER 1", "1 3"), ("USER default", "1 2 3"), ("NOT-USER default", ""),
        ("IDLE 5", "2 3"), ("MAXAGE 10", "1 2 3"), ("MAXAGE 11", ""), ("DB 0 NOT-FLAGS P", "1"),
    ])
    func clientsAreChosenByWhatTheyAre(filter: String, chosen: String) {
        let node = NodeHarness()
        let named = node.connect(address: "10.0.0.1:999")
        let subscriber = node.connect()
        for line in ["SETNAME foo", "CAPA redirect", "SETINFO LIB-NAME lib", "SETINFO LIB-VER 1"] {
            node("CLIENT \(line)", as: named)
        }
        node("SELECT 3", as: named)
        node("SUBSCRIBE c", as: subscriber)
        node.advance(milliseconds: 10_000)
        let lines = node("CLIENT LIST \(filter)").split(whereSeparator: \.isNewline).filter { $0.hasPrefix("id=") }
        let ids = lines.compactMap { $0.split(separator: " ").first?.dropFirst(3) }
        #expect(ids.joined(separator: " ") == chosen)
    }

    @Test func whoAsksFindsItsOwnCommandInItsLine() {
        let node = NodeHarness()
        let line = node("CLIENT LIST")
        #expect(line.contains(" flags=N "))
        #expect(line.contains(" multi=-1 qbuf=26 qbuf-free=0 argv-mem=10 multi-mem=0 "))
        #expect(line.contains(" cmd=client|list "))
    }

    @Test func flagsTellTheStateOfAClient() {
        let node = NodeHarness()
        let other = node.connect()
        func flags() -> String? {
            node("CLIENT LIST ID 2").split(separator: " ").first { $0.hasPrefix("flags=") }.map {
                String($0.dropFirst(6))
            }
        }
        #expect(flags() == "N")
        for line in ["CLIENT NO-TOUCH ON", "CLIENT NO-EVICT ON", "CLIENT TRACKING ON BCAST", "WATCH k"] {
            node(line, as: other)
        }
        #expect(flags() == "tBeT")
        node("SET k 1")
        node("MULTI", as: other)
        #expect(flags() == "xtBdeT")
        #expect(node("CLIENT LIST ID 2").contains(" watch=1"))
        node("RESET", as: other)
        #expect(flags() == "N")
        node("SUBSCRIBE c", as: other)
        #expect(flags() == "P")
        #expect(node("CLIENT LIST TYPE pubsub").contains("id=2 "))
    }

    @Test func resetLeavesAClientAsItCame() {
        let node = NodeHarness()
        let before = node("CLIENT INFO")
        for line in [
            "SELECT 3", "CLIENT SETNAME me", "HELLO 3", "CLIENT NO-EVICT ON", "CLIENT NO-TOUCH ON",
            "CLIENT TRACKING ON",
            "SUBSCRIBE c", "PSUBSCRIBE p", "WATCH k", "MULTI", "CLIENT CAPA redirect", "CLIENT REPLY OFF",
        ] {
            node(line)
        }
        #expect(node("RESET") == "+RESET\r\n")
        #expect(node("CLIENT INFO") == before)
    }

    @Test func withNoTouchOnlyTouchCountsAsUse() {
        let node = NodeHarness()
        node("CLIENT NO-TOUCH ON")
        node("SET k v")
        node.advance(milliseconds: 10_000)
        node("GET k")
        #expect(node("OBJECT IDLETIME k") == ":10\r\n")
        node("TOUCH k")
        #expect(node("OBJECT IDLETIME k") == ":0\r\n")
        node.advance(milliseconds: 5000)
        node("GET k")
        #expect(node("OBJECT IDLETIME k") == ":5\r\n")
    }

    @Test func capableClientsAreSentFromAReplicaToItsPrimary() {
        let node = NodeHarness()
        let plain = node.connect()
        node("REPLICAOF 127.0.0.1 7777")
        node("CLIENT CAPA redirect")
        #expect(node("GET a") == "-REDIRECT 127.0.0.1:7777\r\n")
        #expect(node("SET a 1") == "-REDIRECT 127.0.0.1:7777\r\n")
        #expect(node("PING") == "+PONG\r\n")
        for line in ["MULTI", "PING"] { node(line) }
        #expect(node("GET a") == "-REDIRECT 127.0.0.1:7777\r\n")
        #expect(node("EXEC") == "-EXECABORT Transaction discarded because of previous errors.\r\n")
        #expect(node("READONLY") == "+OK\r\n")
        #expect(node("GET a") == "$-1\r\n")
        #expect(node("SET a 1") == "-REDIRECT 127.0.0.1:7777\r\n")
        #expect(node("READWRITE") == "+OK\r\n")
        #expect(node("GET a") == "-REDIRECT 127.0.0.1:7777\r\n")
        #expect(node("GET a", as: plain) == "$-1\r\n")
        #expect(node("READONLY", as: plain) == "-ERR This instance has cluster support disabled\r\n")
        node("REPLICAOF NO ONE")
        #expect(node("SET a 1") == "+OK\r\n")
    }

    @Test func whileDataAreImportedKeysExpireForNobodyButTheirReaders() {
        let node = NodeHarness()
        let other = node.connect()
        node("CONFIG SET import-mode yes", as: other)
        #expect(node("CLIENT IMPORT-SOURCE ON") == "+OK\r\n")
        #expect(node("CLIENT INFO").contains("flags=I "))
        node("SET k 1 PX 10")
        node.advance(milliseconds: 11)
        node.node.cron()
        node.node.endTurn()
        #expect(node("GET k", as: other) == "$-1\r\n")
        #expect(node("DBSIZE") == ":1\r\n")
        #expect(node("GET k") == .bulk("1"))
        node("CONFIG SET import-mode no", as: other)
        #expect(node("GET k") == "$-1\r\n")
        #expect(node("DBSIZE") == ":0\r\n")
    }

    /// On an importing node, as on a writable replica, what has passed long ago is a time as any other.
    @Test func theMeanTimeToLiveIsToldWhateverTimesKeysHave() {
        let node = NodeHarness()
        node("CONFIG SET import-mode yes")
        node("CLIENT IMPORT-SOURCE ON")
        node("SET old 1")
        #expect(node("PEXPIREAT old -9223372036854775808") == ":1\r\n")
        #expect(node("INFO keyspace").contains("db0:keys=1,expires=1,avg_ttl=0"))
        node("SET far 1 PXAT 9223372036854775807")
        #expect(node("INFO keyspace").contains("db0:keys=2,expires=2,avg_ttl=18014398509481983"))
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

    @Test(arguments: ["GET key", "PING", "MULTI", "CLIENT UNPAUSE", "AUTH x"])
    func aPauseOfEverythingHoldsEverythingBack(line: String) {
        let node = NodeHarness()
        let other = node.connect()
        #expect(node("CLIENT PAUSE 1000") == "+OK\r\n")
        #expect(node(line, as: other) == "")
        #expect(other.isParked as Bool)
        node.advance(milliseconds: 1000)
        #expect(!other.isParked as Bool)
    }

    @Test func aSkippedReplyIsOneReply() {
        let node = NodeHarness()
        #expect(node("CLIENT REPLY SKIP") == "")
        #expect(node("SET key value") == "")
        #expect(node("GET key") == .bulk("value"))
        #expect(node.receive(Array("CLIENT REPLY SKIP\r\nNONSENSE\r\nPING\r\n".utf8)) == Array("+PONG\r\n".utf8))
    }

    @Test(arguments: ["CLIENT REPLY SKIP", "CLIENT REPLY OFF"])
    func aReplyThatComesLateIsSilencedToo(line: String) {
        let node = NodeHarness()
        for wait in ["WAIT 1 500", "BLPOP nothing 0.5"] {
            node(line)
            #expect(node(wait) == "")
            #expect(node.client.isParked as Bool)
            node.advance(milliseconds: 600)
            node.node.endTurn()
            #expect(!node.client.isParked as Bool)
            let left = node.client.pointee.reply.count
            #expect(left == 0)
            node("CLIENT REPLY ON")
            #expect(node("PING") == "+PONG\r\n")
        }
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
