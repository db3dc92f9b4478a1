import MartletBase
import MartletRESP
import Testing

@testable import MartletServer

@Suite struct MonitorTests {
    private let node = NodeHarness(startMilliseconds: 1_700_000_000_123)
    private let monitor: ClientPointer

    init() {
        monitor = node.connect(address: "10.0.0.1:1")
        node("MONITOR", as: monitor)
    }

    /// The lines that the monitor was shown, without the time.
    private func shown() -> [String] {
        defer { monitor.pointee.reply.removeAll() }
        return String(decoding: monitor.pointee.reply.bytes, as: UTF8.self).split(separator: "\r\n").map {
            String($0.drop { $0 != "[" })
        }
    }

    @Test("A command is shown with time, database, address and quoted arguments")
    func format() {
        let node = NodeHarness(startMilliseconds: 1_700_000_000_123)
        let monitor = node.connect()
        #expect(node("MONITOR", as: monitor) == "+OK\r\n")
        node("SELECT 2")
        node.send([Array("SET".utf8), Array("key".utf8), [0x22, 0x5C, 0x0A, 0x0D, 0x09, 0x07, 0x08, 0, 0xFF, 0x41]])
        let bytes = Array(monitor.pointee.reply.bytes)
        #expect(
            String(decoding: bytes, as: UTF8.self)
                == "+1700000000.123000 [2 127.0.0.1:50000] \"SELECT\" \"2\"\r\n"
                + "+1700000000.123000 [2 127.0.0.1:50000] \"SET\" \"key\" \"\\\"\\\\\\n\\r\\t\\a\\b\\x00\\xffA\"\r\n")
    }

    @Test("What failed is shown if it ran; what was refused, and commands for administrators, are not")
    func whatIsShown() {
        node("LPUSH list 1")
        node("INCR list")
        for line in ["GET", "NONSENSE", "CONFIG GET port", "DEBUG JMAP", "CLIENT LIST", "GET list list"] { node(line) }
        node("CLIENT ID")
        #expect(
            shown() == [
                "[0 127.0.0.1:50000] \"LPUSH\" \"list\" \"1\"", "[0 127.0.0.1:50000] \"INCR\" \"list\"",
                "[0 127.0.0.1:50000] \"CLIENT\" \"ID\"",
            ])
    }

    @Test("A transaction is shown command by command, its EXEC last, also when it was refused")
    func transactions() {
        for line in ["MULTI", "SET a 1", "INCR a", "EXEC"] { node(line) }
        let from = "[0 127.0.0.1:50000] "
        #expect(
            shown() == [from + "\"MULTI\"", from + "\"SET\" \"a\" \"1\"", from + "\"INCR\" \"a\"", from + "\"EXEC\""])
        for line in ["MULTI", "NONSENSE", "EXEC"] { node(line) }
        #expect(shown() == [from + "\"MULTI\"", from + "\"EXEC\""])
        for line in ["MULTI", "SET a 1", "CONFIG SET min-replicas-to-write 1"] { node(line) }
        node("CONFIG SET min-replicas-to-write 1", as: node.connect())
        node("EXEC")
        #expect(shown() == [from + "\"MULTI\"", from + "\"EXEC\""])
    }

    @Test(
        "Passwords are not shown, whatever becomes of the command",
        arguments: [
            ("AUTH secret", "\"AUTH\" \"(redacted)\""),
            ("AUTH user secret", "\"AUTH\" \"(redacted)\" \"(redacted)\""),
            ("AUTH a b secret", "\"AUTH\" \"(redacted)\" \"(redacted)\" \"(redacted)\""),
            ("HELLO 2 AUTH user secret", "\"HELLO\" \"2\" \"AUTH\" \"(redacted)\" \"(redacted)\""),
            ("HELLO 9 AUTH user secret", "\"HELLO\" \"9\" \"AUTH\" \"(redacted)\" \"(redacted)\""),
            ("HELLO 2 SETNAME me", "\"HELLO\" \"2\" \"SETNAME\" \"me\""),
            (
                "MIGRATE h 1 key 9 5000 AUTH secret",
                "\"MIGRATE\" \"h\" \"1\" \"key\" \"9\" \"5000\" \"AUTH\" \"(redacted)\""
            ),
            (
                "MIGRATE h 1 key 9 5000 AUTH2 user secret",
                "\"MIGRATE\" \"h\" \"1\" \"key\" \"9\" \"5000\" \"AUTH2\" \"(redacted)\" \"(redacted)\""
            ),
            (
                "MIGRATE h 1 '' 9 5000 KEYS auth key",
                "\"MIGRATE\" \"h\" \"1\" \"\" \"9\" \"5000\" \"KEYS\" \"auth\" \"key\""
            ),
        ])
    func secrets(line: String, shownAs: String) {
        node(line)
        #expect(shown() == ["[0 127.0.0.1:50000] " + shownAs])
    }

    @Test("A monitor is no client of the data, gets answers, and sees its own commands behind them")
    func monitorItself() {
        #expect(node("GET a", as: monitor) == "-ERR Replica can't interact with the keyspace\r\n")
        #expect(node("SET a 1", as: monitor) == "-ERR Replica can't interact with the keyspace\r\n")
        #expect(node("MONITOR", as: monitor) == "")
        #expect(node("CLIENT LIST TYPE normal").contains("flags=O "))
        #expect(node("PING", as: monitor) == "+PONG\r\n+1700000000.123000 [0 10.0.0.1:1] \"PING\"\r\n")
        node("CLIENT PAUSE 1000")
        #expect(node("PING", as: monitor).hasPrefix("+PONG\r\n"))
        node.advance(milliseconds: 1000)
        #expect(node("RESET", as: monitor) == "+RESET\r\n")
        node("SET a 1")
        #expect(shown() == [])
        #expect(node("GET a", as: monitor) == .bulk("1"))
        #expect(node.node.gates.isEmpty)
    }

    @Test("MONITOR has no place in a transaction, and the end of a monitor is the end of the gate")
    func ends() {
        node.node.remove(monitor)
        #expect(node.node.gates.isEmpty)
        for line in ["MULTI", "MONITOR"] { node(line) }
        #expect(node("EXEC") == "*1\r\n-ERR MONITOR isn't allowed for DENY BLOCKING client\r\n")
        #expect(node.node.monitors.isEmpty)
    }

    @Test("A replica's monitor is shown what its primary sends")
    func replica() {
        let network = ReplicationNetwork(seed: 1, nodeCount: 2)
        #expect(network[2]("REPLICAOF 127.0.0.1 1") == "+OK\r\n")
        network.settle()
        let monitor = network[2].connect(address: "10.0.0.1:1")
        network[2]("MONITOR", as: monitor)
        network[1]("SELECT 3")
        network[1]("SET a 1")
        for line in ["MULTI", "SET a 2", "SET b 2", "EXEC"] { network[1](line) }
        network.settle()
        let shown = String(decoding: monitor.pointee.reply.bytes, as: UTF8.self).split(separator: "\r\n").map {
            String($0.drop { $0 != "[" })
        }
        #expect(
            shown == [
                "[3 127.0.0.1:1] \"SELECT\" \"3\"", "[3 127.0.0.1:1] \"SET\" \"a\" \"1\"", "[3 127.0.0.1:1] \"MULTI\"",
                "[3 127.0.0.1:1] \"SET\" \"a\" \"2\"", "[3 127.0.0.1:1] \"SET\" \"b\" \"2\"",
                "[3 127.0.0.1:1] \"EXEC\"",
            ])
    }
}
