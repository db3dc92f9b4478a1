import MartletBase
import MartletKeyspace
import Testing

@testable import MartletPersistence

@Suite struct RDBEncoderTests {
    private func append(
        _ key: String, _ value: String, to encoder: inout RDBEncoder, expireAt: Int64? = nil, idle: Int64? = nil,
        frequency: UInt8? = nil
    ) {
        Array(key.utf8).withUnsafeBytes { key in
            Array(value.utf8).withUnsafeBytes { value in
                encoder.append(
                    key: key, .string(value), expireAtMilliseconds: expireAt, idleSeconds: idle, frequency: frequency)
            }
        }
    }

    @Test("The bytes are those that Redis 7.0 writes")
    func golden() {
        var encoder = RDBEncoder()
        encoder.appendHeader()
        encoder.append(
            RDBInformation(redisVersion: "7.0.15", createdAtSeconds: 1_795_247_674, usedMemoryBytes: 965_136))
        encoder.append(selectDatabase: 0)
        encoder.append(keyCount: 9, expiryCount: 1)
        append("n16", "1234", to: &encoder)
        append("empty", "", to: &encoder)
        append("e", "v", to: &encoder, expireAt: 4_102_444_800_123)
        append("n64", "1234567890123", to: &encoder)
        append("n32", "-100000", to: &encoder)
        append("12345", "x", to: &encoder)
        append("n8", "-5", to: &encoder)
        append("k", "v", to: &encoder)
        let written = Array(encoder.output.bytes)
        #expect(written == Array(RDBSamples.redis70[..<written.count]))
        #expect(written.count > 150)
    }

    private func text(_ part: String, _ count: Int) -> String { String(repeating: part, count: count) }

    @Test("What is written is read back, however often the output is drained")
    func roundTrip() {
        for drainLimit in [Int.max, 1, 100] {
            var encoder = RDBEncoder(version: RDBVersion.redis72)
            var file: [UInt8] = []
            func drain(_ encoder: inout RDBEncoder) {
                let count = min(drainLimit, encoder.output.count)
                file += Array(encoder.output.bytes[..<count])
                encoder.drain(count)
            }
            encoder.appendHeader()
            encoder.append(
                RDBInformation(
                    redisVersion: "7.2.4", createdAtSeconds: 1, usedMemoryBytes: 1 << 40,
                    replication: .init(streamDatabase: 5, id: String(repeating: "a", count: 40), offset: 77),
                    isAOFBase: true))
            drain(&encoder)
            Array("#!lua name=x".utf8).withUnsafeBytes { encoder.append(function: $0) }
            encoder.append(selectDatabase: 5)
            encoder.append(keyCount: 3, expiryCount: 70_000)
            var expected: [Item] = [
                .header(11), .aux("redis-ver", "7.2.4"), .aux("redis-bits", "64"), .aux("ctime", "1"),
                .aux("used-mem", "1099511627776"), .aux("repl-stream-db", "5"),
                .aux("repl-id", String(repeating: "a", count: 40)), .aux("repl-offset", "77"), .aux("aof-base", "1"),
                .function("#!lua name=x"), .select(5), .sizes(3, 70_000),
            ]
            let values: [String] = [
                "", "0", "-0", "00", "1", "-1", "127", "128", "-128", "-129", "32767", "32768", "-32768", "-32769",
                "2147483647", "2147483648", "-2147483648", "-2147483649", "9223372036854775807", "01", "+1",
                text("xx", 31) + "x", text("xx", 32), text("ab", 8191), text("abcdefghijklmnop", 20_000),
                (0..<9000).map { String($0 &* 2_654_435_761) }.joined(separator: ","),
            ]
            for (index, value) in values.enumerated() {
                let key = index % 2 == 0 ? "\(index)" : text("key \(index) ", index * 2)
                let expireAt: Int64? = index % 3 == 0 ? Int64(index) << 30 : nil
                let idle: Int64? = index % 5 == 1 ? Int64(index) << 20 : nil
                let frequency: UInt8? = index % 5 == 2 ? UInt8(index) : nil
                append(key, value, to: &encoder, expireAt: expireAt, idle: idle, frequency: frequency)
                drain(&encoder)
                let isInteger = Int32(value).map { String($0) == value } ?? false
                let read = Array((isInteger ? "int:" + value : value).utf8)
                expected.append(
                    .entry(
                        key, read, expireAt: expireAt, idle: idle.map { UInt64($0) }, frequency: frequency))
            }
            encoder.appendEnd()
            file += Array(encoder.output.bytes)
            encoder.drain(encoder.output.count)
            expected.append(.end(true))
            let result = decode(file, step: 1009)
            #expect(result.error == nil)
            #expect(result.items == expected)
        }
    }

    @Test("Integer values take the same bytes as their text")
    func integers() {
        for value in [0, 1, -1, 127, 128, -128, 40_000, -40_000, 1 << 31, -(1 << 31), Int64.max, Int64.min] {
            var fromText = RDBEncoder()
            append("k", String(value), to: &fromText)
            var fromInteger = RDBEncoder()
            Array("k".utf8).withUnsafeBytes { fromInteger.append(key: $0, .integer(value)) }
            let left = Array(fromText.output.bytes)
            let right = Array(fromInteger.output.bytes)
            #expect(left == right)
        }
    }

    @Test("Compression and checksum can be turned off")
    func plain() {
        var encoder = RDBEncoder(compression: false, checksum: false)
        encoder.appendHeader()
        append("k", String(repeating: "a", count: 100), to: &encoder)
        encoder.appendEnd()
        let bytes = Array(encoder.output.bytes)
        #expect(bytes.count == 9 + 1 + 2 + 2 + 100 + 1 + 8)
        #expect(decode(bytes, step: 10).items.last == .end(false))
    }

    @Test("A version above 79 is Valkey's")
    func magic() {
        var encoder = RDBEncoder(version: 80)
        encoder.appendHeader()
        let bytes = Array(encoder.output.bytes)
        #expect(bytes == Array("VALKEY080".utf8))
    }
}

@Suite struct DumpPayloadTests {
    /// DUMP of redis-server 7.0.15.
    static let redis70: [(value: String, payload: String)] = [
        ("hello", "000568656c6c6f0a006372df766534200a"),
        ("1", "00c0010a002678e7b6d10111fc"),
        ("300", "00c12c010a00954261f265825c10"),
        ("70000", "00c2701101000a0001a408fe953095a5"),
        ("", "00000a005d9b5c400f7fa2da"),
        ("12345678901", "000b31323334353637383930310a00304e52d727176510"),
    ]

    private let members = Members()

    private func decode(_ payload: [UInt8]) throws(DumpPayloadError) -> String {
        var scratch = ByteBuffer()
        let result = payload.withUnsafeBytes { payload in
            Result<String, DumpPayloadError> { () throws(DumpPayloadError) -> String in
                switch try DumpPayload.decode(payload, scratch: &scratch, members: members.pointer) {
                case .string(let bytes): return String(decoding: bytes, as: UTF8.self)
                case .integer(let integer): return String(integer)
                case .container(let container):
                    defer { container.destroy() }
                    return "\(container.count)"
                }
            }
        }
        return try result.get()
    }

    private func dump(_ value: String) -> [UInt8] {
        var encoder = RDBEncoder()
        Array(value.utf8).withUnsafeBytes { encoder.appendDump(.string($0)) }
        return Array(encoder.output.bytes)
    }

    private func seal(_ body: [UInt8], version: UInt16 = 10) -> [UInt8] {
        let covered = body + [UInt8(version & 0xFF), UInt8(version >> 8)]
        return covered + withUnsafeBytes(of: covered.withUnsafeBytes { crc64($0) }.littleEndian) { Array($0) }
    }

    @Test("Payloads are exchanged with Redis 7.0 in both directions", arguments: redis70)
    func golden(value: String, payload: String) throws {
        #expect(dump(value) == RDBSamples.bytes(payload))
        #expect(try decode(RDBSamples.bytes(payload)) == value)
    }

    @Test("A compressed payload of Redis 7.0 and one of Valkey 9 are read")
    func foreign() throws {
        #expect(
            try decode(RDBSamples.bytes("00c3094064017878e057000178780a005db7f663bb08625f"))
                == String(repeating: "x", count: 100))
        #expect(try decode(RDBSamples.bytes("00017650005e220723876aed3a")) == "v")
        let long = String(repeating: "martlet ", count: 10_000)
        #expect(dump(long).count < 2000)
        #expect(try decode(dump(long)) == long)
    }

    @Test("A wrong footer is told from a wrong body")
    func errors() {
        let good = RDBSamples.bytes("000568656c6c6f0a006372df766534200a")
        for count in 0..<good.count {
            #expect(throws: DumpPayloadError.versionOrChecksum) { _ = try decode(Array(good[..<count])) }
        }
        for index in good.indices {
            var bad = good
            bad[index] ^= 0x10
            #expect(throws: DumpPayloadError.versionOrChecksum) { _ = try decode(bad) }
        }
        #expect(throws: DumpPayloadError.versionOrChecksum) { _ = try decode(seal([0, 1, 0x61], version: 13)) }
        #expect(throws: DumpPayloadError.versionOrChecksum) { _ = try decode(seal([0, 1, 0x61], version: 0)) }
        #expect(throws: DumpPayloadError.badFormat(.truncated)) { _ = try decode(seal([])) }
        #expect(throws: DumpPayloadError.badFormat(.truncated)) { _ = try decode(seal([0, 5, 0x61])) }
        #expect(throws: DumpPayloadError.badFormat(.invalidLength)) { _ = try decode(seal([0, 1, 0x61, 0x62])) }
        #expect(throws: DumpPayloadError.badFormat(.unknownOpcode(8))) { _ = try decode(seal([8, 1, 0x61])) }
        #expect(throws: DumpPayloadError.badFormat(.unsupportedType(.module2))) { _ = try decode(seal([7, 1, 0x61])) }
        #expect(throws: DumpPayloadError.badFormat(.corruptCompression)) {
            _ = try decode(seal([0, 0xC3, 1, 0x80, 0x1F, 0, 0, 0, 0]))
        }
    }

    @Test("Random bodies under a right footer never crash")
    func fuzz() {
        var random = PRNG(seed: 0xD0)
        for _ in 0..<5000 {
            var body = (0..<random.below(24)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            if random.below(2) == 0 { body.insert(0, at: 0) }
            if random.below(4) == 0, body.count > 1 { body[1] = 0xC3 }
            _ = try? decode(seal(body))
        }
    }
}
