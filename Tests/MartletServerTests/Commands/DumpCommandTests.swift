import MartletBase
import MartletRESP
import Testing

@testable import MartletServer

@Suite struct DumpCommandTests {
    private func words(_ line: String) -> [[UInt8]] { splitArguments(Array(line.utf8))! }

    private func dump(_ node: NodeHarness, _ key: String) -> [UInt8] {
        let reply = node.send(words("DUMP \(key)"))
        return Array(reply[(reply.firstIndex(of: 10)! + 1)...].dropLast(2))
    }

    private func restore(
        _ node: NodeHarness, _ key: String, _ time: String, _ payload: [UInt8], _ options: String = ""
    ) -> String {
        let reply = node.send(words("RESTORE \(key) \(time)") + [payload] + words(options))
        return String(decoding: reply, as: UTF8.self)
    }

    @Test(
        "Payloads of redis-server 7.0.15 are taken",
        arguments: [
            ([0, 192, 42, 10, 0, 129, 251, 92, 250, 134, 99, 79, 80], "42"),
            ([0, 5, 104, 101, 108, 108, 111, 10, 0, 99, 114, 223, 118, 101, 52, 32, 10], "hello"),
            (
                [
                    0, 195, 10, 64, 200, 2, 97, 98, 97, 224, 186, 1, 1, 97, 98, 10, 0, 36, 166, 232, 65, 112, 192, 198,
                    140,
                ], String(repeating: "ab", count: 100)
            ),
        ] as [([UInt8], String)])
    func payloadsOfRedis(payload: [UInt8], value: String) {
        let node = NodeHarness()
        #expect(restore(node, "a", "0", payload) == "+OK\r\n")
        #expect(node("GET a") == .bulk(value))
        #expect(dump(node, "a").count <= payload.count)
    }

    @Test(
        "What is dumped can be restored",
        arguments: ["", "1", "-1", "300", "70000", "12345678901234", "abc", String(repeating: "x", count: 5000)])
    func roundTrip(value: String) {
        let node = NodeHarness()
        node.send([Array("SET".utf8), Array("a".utf8), Array(value.utf8)])
        let payload = dump(node, "a")
        #expect(restore(node, "b", "0", payload) == "+OK\r\n")
        #expect(node("GET b") == .bulk(value))
        #expect(dump(node, "b") == payload)
        #expect(node("OBJECT ENCODING a") == node("OBJECT ENCODING b"))
    }

    @Test func aMissingKeyHasNoPayload() {
        #expect(NodeHarness()("DUMP a") == "$-1\r\n")
    }

    @Test(
        "RESTORE looks at its arguments in Redis' order",
        arguments: [
            ("a", "0", "", "-BUSYKEY Target key name already exists."),
            ("a", "x", "FOO", "-ERR syntax error"),
            ("a", "x", "", "-BUSYKEY Target key name already exists."),
            ("b", "x", "", "-ERR value is not an integer or out of range"),
            ("b", "-1", "", "-ERR Invalid TTL value, must be >= 0"),
            ("b", "0", "IDLETIME", "-ERR syntax error"),
            ("b", "0", "IDLETIME -1", "-ERR Invalid IDLETIME value, must be >= 0"),
            ("b", "0", "IDLETIME x", "-ERR value is not an integer or out of range"),
            ("b", "0", "FREQ 256", "-ERR Invalid FREQ value, must be >= 0 and <= 255"),
            ("b", "0", "FREQ -1", "-ERR Invalid FREQ value, must be >= 0 and <= 255"),
            ("b", "0", "FREQ 1 IDLETIME 1", "-ERR syntax error"),
            ("b", "0", "IDLETIME 1 FREQ 1", "-ERR syntax error"),
            ("b", "0", "FREQ 255", "+OK"),
            ("a", "0", "replace", "+OK"),
        ])
    func arguments(key: String, time: String, options: String, reply: String) {
        let node = NodeHarness()
        node("SET a value")
        #expect(restore(node, key, time, dump(node, "a"), options) == reply + "\r\n")
    }

    @Test func aDamagedPayloadIsRefusedWhereverTheDamageIs() {
        let node = NodeHarness()
        node("SET a value")
        let payload = dump(node, "a")
        for index in payload.indices {
            var damaged = payload
            damaged[index] ^= 0x10
            #expect(
                restore(node, "b", "0", damaged) == "-ERR DUMP payload version or checksum are wrong\r\n")
        }
        #expect(restore(node, "b", "0", Array(payload.dropLast())).hasPrefix("-ERR DUMP payload"))
        #expect(node("DBSIZE") == ":1\r\n")
    }

    @Test(
        "A payload that is intact but no value is bad data",
        arguments: [[99, 0], [0, 5, 65], [], [0, 0xC5, 1]] as [[UInt8]])
    func badFormat(body: [UInt8]) {
        var payload = body + [10, 0]
        var checksum = payload.withUnsafeBytes { crc64($0) }.littleEndian
        withUnsafeBytes(of: &checksum) { payload += $0 }
        #expect(restore(NodeHarness(), "a", "0", payload) == "-ERR Bad data format\r\n")
    }

    @Test func aConsumerMayHaveBeenSeenAtAnyTime() throws {
        let node = NodeHarness()
        for line in ["XADD s 1 a b", "XGROUP CREATE s g 0", "XGROUP CREATECONSUMER s g c"] { node(line) }
        var body = Array(dump(node, "s").dropLast(8))
        let seenAt = withUnsafeBytes(of: node.nowMilliseconds.littleEndian) { Array($0) }
        let place = try #require((0..<body.count - 8).last { body[$0..<$0 + 8].elementsEqual(seenAt) })
        body.replaceSubrange(place..<place + 8, with: [0, 0, 0, 0, 0, 0, 0, 0x80])
        let checksum = body.withUnsafeBytes { crc64($0) }.littleEndian
        let payload = withUnsafeBytes(of: checksum) { body + $0 }
        #expect(restore(node, "t", "0", payload) == "+OK\r\n")
        #expect(node("XINFO CONSUMERS t g").hasSuffix("$4\r\nidle\r\n:0\r\n"))
    }

    @Test func timesToLiveAreRelativeUnlessSaidOtherwise() {
        let node = NodeHarness()
        node("SET a value")
        let payload = dump(node, "a")
        #expect(restore(node, "b", "5000", payload) == "+OK\r\n")
        #expect(node("PTTL b") == ":5000\r\n")
        #expect(restore(node, "c", "1700000009000", payload, "ABSTTL") == "+OK\r\n")
        #expect(node("PTTL c") == ":9000\r\n")
        // Over already: not created, and what was there goes.
        #expect(restore(node, "d", "5", payload, "ABSTTL") == "+OK\r\n")
        #expect(restore(node, "b", "5", payload, "ABSTTL REPLACE") == "+OK\r\n")
        #expect(node("EXISTS b d") == ":0\r\n")
        #expect(restore(node, "e", "9223372036854775807", payload) == "+OK\r\n")
        #expect(node("PEXPIRETIME e") == ":9223372036854775807\r\n")
    }

    @Test func replacingWithoutATimeRemovesTheOldOne() {
        let node = NodeHarness()
        node("SET a value")
        node("SET b value PX 100")
        #expect(restore(node, "b", "0", dump(node, "a"), "REPLACE") == "+OK\r\n")
        #expect(node("PTTL b") == ":-1\r\n")
    }

    @Test func idleTimesAreTakenOver() {
        let node = NodeHarness()
        node("SET a value")
        let payload = dump(node, "a")
        #expect(restore(node, "b", "0", payload, "IDLETIME 1000") == "+OK\r\n")
        #expect(node("OBJECT IDLETIME b") == ":1000\r\n")
        #expect(restore(node, "c", "0", payload, "IDLETIME 9223372036854775807") == "+OK\r\n")
        #expect(node("OBJECT IDLETIME c").hasPrefix(":"))
    }

    @Test func replicasGetPointsInTime() {
        let node = NodeHarness()
        node("SET a 7")
        node("SET b 7")
        let payload = dump(node, "a").map { "\\x" + ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        let text = String(decoding: dump(node, "a"), as: UTF8.self)
        #expect(
            node.propagation(of: "RESTORE x 1000 \"\(payload)\"") == ["0 RESTORE x 1700000001000 \(text) ABSTTL"])
        #expect(node.propagation(of: "RESTORE y 0 \"\(payload)\"") == ["0 RESTORE y 0 \"\(payload)\""])
        #expect(node.propagation(of: "RESTORE z 5 \"\(payload)\" ABSTTL") == [])
        #expect(node.propagation(of: "RESTORE b 5 \"\(payload)\" ABSTTL REPLACE") == ["0 DEL b"])
    }
}
