import MartletBase
import MartletKeyspace
import Testing

@testable import MartletPersistence

/// Values of many elements, from payloads that other servers made.
@Suite struct RDBContainerTests {
    private func seal(_ body: [UInt8], version: UInt16 = 10) -> [UInt8] {
        let covered = body + [UInt8(version & 0xFF), UInt8(version >> 8)]
        return covered + withUnsafeBytes(of: covered.withUnsafeBytes { crc64($0) }.littleEndian) { Array($0) }
    }

    private func restore(_ payload: [UInt8], _ limits: EncodingLimits = EncodingLimits()) throws(DumpPayloadError)
        -> String
    {
        let members = Members(limits)
        var scratch = ByteBuffer()
        let result = payload.withUnsafeBytes { payload in
            Result<RDBValue, DumpPayloadError> { () throws(DumpPayloadError) -> RDBValue in
                try DumpPayload.decode(payload, scratch: &scratch, members: members.pointer)
            }
        }
        guard case .container(let container) = try result.get() else { return "string" }
        return describe(container)
    }

    /// The elements of what ``describe(_:)`` said.
    private func elements(_ text: String) -> [String] {
        text.split(separator: " ").dropFirst(2).map(String.init)
    }

    private static func string(_ text: String) -> [UInt8] { [UInt8(text.utf8.count)] + Array(text.utf8) }

    private static func time(_ time: Int64) -> [UInt8] {
        withUnsafeBytes(of: time.littleEndian) { Array($0) }
    }

    /// Bodies in every form that a hash has ever had.
    static let hashes: [(body: [UInt8], value: String)] = [
        // A table: two fields.
        ([4, 2] + string("a") + string("1") + string("b") + string("two"), "hash listpack: a=1 b=two"),
        // With a value that makes it a table here, too.
        (
            [4, 1] + string("a") + [0x40, 70] + [UInt8](repeating: 120, count: 70),
            "hash hashtable: a=" + String(repeating: "x", count: 70)
        ),
        // A zipmap: count, lengths of one byte, an unused byte behind the first value.
        ([9, 13, 2, 1, 97, 1, 1, 49, 0, 1, 98, 1, 0, 50, 255], "hash listpack: a=1 b=2"),
        // A ziplist: header, "a", 1 as an immediate.
        ([13, 16, 16, 0, 0, 0, 13, 0, 0, 0, 2, 0, 0, 1, 97, 3, 0xF2, 255], "hash listpack: a=1"),
        // A listpack.
        ([16, 12, 12, 0, 0, 0, 2, 0, 0x81, 97, 2, 1, 1, 255], "hash listpack: a=1"),
        // Valkey 9: a time behind each pair.
        (
            [22, 2] + string("a") + string("1") + time(-1) + string("b") + string("2") + time(5000),
            "hash hashtable: a=1 b=2@5000"
        ),
        ([22, 1] + string("a") + string("1") + time(-1), "hash listpack: a=1"),
        // Redis 7.4: the least time, then each relative to it, before its pair.
        (
            [24] + time(1000) + [2, 0] + string("a") + string("1") + [0x0B] + string("b") + string("2"),
            "hash hashtable: a=1 b=2@1010"
        ),
        // Redis 7.4: a listpack of three elements for each field.
        (
            [25] + time(1000) + [21, 21, 0, 0, 0, 6, 0, 0x81, 97, 2, 1, 1, 0, 1, 0x81, 98, 2, 2, 1, 100, 1, 255],
            "hash hashtable: a=1 b=2@100"
        ),
    ]

    /// DUMP of redis-server 7.0.15.
    static let redis70: [(payload: String, value: String)] = [
        (
            "10c3273f1f3f000000080081610201018162028374776f04816302f290eefe048164029e78e01400011fff0a006e0bf8fe73aa7957",
            "hash listpack: a=1 b=two c=-70000 d=" + String(repeating: "x", count: 30)
        ),
        ("04010161c0010a0040911a90cb078b45", "hash listpack: a=1"),
    ]

    @Test("Payloads of Redis 7.0 are read, and written byte for byte", arguments: redis70)
    func golden(payload: String, value: String) throws {
        let bytes = RDBSamples.bytes(payload)
        #expect(try restore(bytes) == value)
        guard bytes[0] != RDBValueType.hash.rawValue else { return }
        let members = Members()
        var scratch = ByteBuffer()
        let read = bytes.withUnsafeBytes { try? DumpPayload.decode($0, scratch: &scratch, members: members.pointer) }
        guard case .container(let container) = try #require(read) else { return }
        var encoder = RDBEncoder()
        encoder.appendDump(.container(container))
        container.destroy()
        #expect(Array(encoder.output.bytes) == bytes)
    }

    @Test("Hashes are read in every form", arguments: hashes)
    func hash(body: [UInt8], value: String) throws {
        #expect(try restore(seal(body)) == value)
        // As a key of a file, in pieces of any size.
        let file = Array("REDIS0010".utf8) + [body[0], 1, 107] + body[1...] + [255] + [UInt8](repeating: 0, count: 8)
        for step in [1, 2, 3, 7, 1000] {
            let (items, error) = decode(file, step: step)
            #expect(error == nil)
            #expect(items == [.header(10), .entry("k", value), .end(false)])
        }
        for count in 1..<body.count {
            #expect(throws: DumpPayloadError.self) { _ = try restore(seal(Array(body[..<count]))) }
        }
    }

    @Test(
        "A field that is there twice, or has no value, is refused",
        arguments: [
            [4, 2] + string("a") + string("1") + string("a") + string("2"), [4, 0],
            [16, 10, 10, 0, 0, 0, 1, 0, 0x81, 97, 2, 255],
            [16, 17, 17, 0, 0, 0, 4, 0, 0x81, 97, 2, 1, 1, 0x81, 97, 2, 1, 1, 255],
            [13, 14, 14, 0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 1, 97, 255],
            [9, 13, 2, 1, 97, 1, 1, 49, 0, 1, 97, 1, 0, 50, 255],
            [25] + time(1000) + [12, 12, 0, 0, 0, 2, 0, 0x81, 97, 2, 1, 1, 255], [16, 1, 255], [13, 1, 255],
            [9, 1, 255],
        ] as [[UInt8]])
    func corruptHashes(body: [UInt8]) {
        let type = RDBValueType(rawValue: body[0])!
        #expect(throws: DumpPayloadError.badFormat(.corruptValue(type))) { _ = try restore(seal(body)) }
    }

    /// Bodies in every form that a set has ever had.
    static let sets: [(body: [UInt8], value: String)] = [
        ([2, 2] + string("a") + [0xC0, 5], "set listpack: 5 a"), ([2, 2, 0xC0, 7, 0xC0, 5], "set intset: 5 7"),
        (
            [2, 1, 0x40, 70] + [UInt8](repeating: 120, count: 70),
            "set hashtable: " + String(repeating: "x", count: 70)
        ),
        ([11, 12, 2, 0, 0, 0, 2, 0, 0, 0, 5, 0, 7, 0], "set intset: 5 7"),
        // Redis 7.2: a listpack.
        ([20, 12, 12, 0, 0, 0, 2, 0, 0x81, 97, 2, 5, 1, 255], "set listpack: 5 a"),
    ]

    @Test("Sets are read in every form", arguments: sets)
    func set(body: [UInt8], value: String) throws {
        #expect(try restore(seal(body)) == value)
        let file = Array("REDIS0010".utf8) + [body[0], 1, 107] + body[1...] + [255] + [UInt8](repeating: 0, count: 8)
        for step in [1, 2, 3, 7, 1000] {
            let (items, error) = decode(file, step: step)
            #expect(error == nil)
            #expect(items == [.header(10), .entry("k", value), .end(false)])
        }
        for count in 1..<body.count {
            #expect(throws: DumpPayloadError.self) { _ = try restore(seal(Array(body[..<count]))) }
        }
    }

    @Test(
        "A member of a set that is there twice, or out of order, is refused",
        arguments: [
            [2, 2] + string("a") + string("a"), [2, 0], [11, 12, 2, 0, 0, 0, 2, 0, 0, 0, 7, 0, 5, 0],
            [11, 12, 2, 0, 0, 0, 2, 0, 0, 0, 5, 0, 5, 0], [11, 8, 2, 0, 0, 0, 0, 0, 0, 0], [20, 1, 255],
            [20, 13, 13, 0, 0, 0, 2, 0, 0x81, 97, 2, 0x81, 97, 2, 255],
        ] as [[UInt8]])
    func corruptSets(body: [UInt8]) {
        let type = RDBValueType(rawValue: body[0])!
        #expect(throws: DumpPayloadError.badFormat(.corruptValue(type))) { _ = try restore(seal(body)) }
    }

    /// Bodies in every form that a sorted set has ever had.
    static let sortedSets: [(body: [UInt8], value: String)] = [
        // Scores in text, in any order of members.
        (
            [3, 4] + string("c") + string("2.5") + string("b") + string("1") + string("i") + [254] + string("m") + [
                255
            ],
            "sortedSet listpack: m=-inf b=1.0 c=2.5 i=inf"
        ),
        // Scores in binary, the greatest first.
        ([5, 2] + string("b") + score(2) + string("a") + score(-0.5), "sortedSet listpack: a=-0.5 b=2.0"),
        (
            [5, 1] + [0x40, 70] + [UInt8](repeating: 120, count: 70) + score(1e300),
            "sortedSet skiplist: " + String(repeating: "x", count: 70) + "=1e+300"
        ),
        // A ziplist: header, "a", 1 as an immediate.
        ([12, 16, 16, 0, 0, 0, 13, 0, 0, 0, 2, 0, 0, 1, 97, 3, 0xF2, 255], "sortedSet listpack: a=1.0"),
        // A listpack: "a" and 1, "b" and "1.5".
        (
            [17, 20, 20, 0, 0, 0, 4, 0, 0x81, 97, 2, 1, 1, 0x81, 98, 2, 0x83, 49, 46, 53, 4, 255],
            "sortedSet listpack: a=1.0 b=1.5"
        ),
    ]

    private static func score(_ score: Double) -> [UInt8] {
        withUnsafeBytes(of: score.bitPattern.littleEndian) { Array($0) }
    }

    @Test("Sorted sets are read in every form", arguments: sortedSets)
    func sortedSet(body: [UInt8], value: String) throws {
        #expect(try restore(seal(body)) == value)
        let file = Array("REDIS0010".utf8) + [body[0], 1, 107] + body[1...] + [255] + [UInt8](repeating: 0, count: 8)
        for step in [1, 2, 3, 7, 1000] {
            let (items, error) = decode(file, step: step)
            #expect(error == nil)
            #expect(items == [.header(10), .entry("k", value), .end(false)])
        }
        for count in 1..<body.count {
            #expect(throws: DumpPayloadError.self) { _ = try restore(seal(Array(body[..<count]))) }
        }
    }

    @Test(
        "A member that is there twice, or has no score, is refused",
        arguments: [
            [5, 2] + string("a") + score(1) + string("a") + score(2), [5, 1] + string("a") + score(.nan),
            [3, 1] + string("a") + [253], [5, 0], [17, 10, 10, 0, 0, 0, 1, 0, 0x81, 97, 2, 255],
            [17, 17, 17, 0, 0, 0, 4, 0, 0x81, 97, 2, 1, 1, 0x81, 97, 2, 1, 1, 255],
            [12, 14, 14, 0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 1, 97, 255], [17, 1, 255], [12, 1, 255],
        ] as [[UInt8]])
    func corruptSortedSets(body: [UInt8]) {
        let type = RDBValueType(rawValue: body[0])!
        #expect(throws: DumpPayloadError.badFormat(.corruptValue(type))) { _ = try restore(seal(body)) }
    }

    @Test("Sorted sets that are written are read again", arguments: [1, 100, 3000])
    func sortedSetRoundTrip(count: Int) throws {
        let members = Members()
        var set = SortedSetValue(members.pointer)
        for number in 0..<count {
            Array("member\(number)".utf8).withUnsafeBytes {
                _ = set.add($0, score: number % 3 == 0 ? Double(number) / 7 : Double(number % 10))
            }
        }
        var encoder = RDBEncoder()
        encoder.appendDump(.container(set.container))
        #expect(try restore(Array(encoder.output.bytes)) == describe(set.container))
    }

    @Test func aKeyWithoutElementsIsPassedOver() {
        let file =
            Array("REDIS0010".utf8) + [252] + Self.time(7) + [4, 1, 107, 0, 0, 1, 115, 1, 118, 255]
            + [UInt8](repeating: 0, count: 8)
        let (items, error) = decode(file, step: 3)
        #expect(error == nil)
        #expect(items == [.header(10), .entry("s", "v"), .end(false)])
    }

    @Test func aCountIsNotBelieved() {
        let file =
            Array("REDIS0010".utf8) + [4, 1, 107, 0x81, 0x7F] + [UInt8](repeating: 0xFF, count: 7) + [1, 97, 1, 98]
        let (items, error) = decode(file, step: 1)
        #expect(items == [.header(10)])
        #expect(error?.cause == .truncated)
    }

    @Test("What is written is read again", arguments: [1, 20, 1000])
    func roundTrip(count: Int) throws {
        let members = Members()
        for expires in [false, true] {
            var hash = HashValue.make(members.pointer)
            for number in 0..<count {
                Array("field\(number)".utf8).withUnsafeBytes { field in
                    Array((number % 2 == 0 ? "\(number * 1_000_003)" : "value\(number)").utf8).withUnsafeBytes {
                        _ = hash.set(
                            field, $0, expiry: expires && number % 3 == 0 ? .set(Int64(number) << 30) : .remove)
                    }
                }
            }
            for keepsFieldExpiry in [false, true] {
                var encoder = RDBEncoder(keepsFieldExpiry: keepsFieldExpiry)
                encoder.appendDump(.container(hash.container))
                let payload = Array(encoder.output.bytes)
                let isNew = expires && keepsFieldExpiry
                #expect(payload[payload.count - 10] == (isNew ? 80 : 10))
                let made = elements(describe(hash.container.copy(members.pointer)))
                let expected = isNew ? made : made.map { String($0.prefix { $0 != "@" }) }
                #expect(elements(try restore(payload)) == expected)
            }
            hash.container.destroy()
        }
    }

    @Test("Random bytes behind a type never crash")
    func fuzz() {
        var random = PRNG(seed: 0xD1)
        for round in 0..<20_000 {
            let bodies = round % 2 == 0 ? Self.hashes : Self.sortedSets
            var body = bodies[round / 2 % bodies.count].body
            for _ in 0..<(1 + random.below(3)) {
                let index = 1 + random.below(body.count - 1)
                switch random.below(3) {
                case 0: body[index] = UInt8(truncatingIfNeeded: random.next())
                case 1: body[index] &+= random.below(2) == 0 ? 1 : 255
                default: if body.count > 3 { body.remove(at: index) }
                }
            }
            _ = try? restore(seal(body))
        }
    }
}
