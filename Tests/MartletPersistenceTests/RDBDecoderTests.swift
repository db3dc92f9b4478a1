import MartletBase
import MartletKeyspace
import Testing

@testable import MartletPersistence

/// Items with their views copied, to compare them.
enum Item: Equatable {
    case header(Int)
    case aux(String, String)
    case function(String)
    case select(Int)
    case sizes(UInt64, UInt64)
    case slotInfo(Int, UInt64, UInt64)
    case slotImport(String, [ClosedRange<Int>])
    case entry(String, [UInt8], expireAt: Int64? = nil, idle: UInt64? = nil, frequency: UInt8? = nil)
    case end(Bool)

    init(_ item: RDBItem) {
        func text(_ bytes: some Sequence<UInt8>) -> String { String(decoding: Array(bytes), as: UTF8.self) }
        switch item {
        case .header(let version): self = .header(version)
        case .aux(let name, let value): self = .aux(text(name), text(value))
        case .function(let code): self = .function(text(code))
        case .selectDatabase(let index): self = .select(index)
        case .sizes(let keys, let expiries): self = .sizes(keys, expiries)
        case .slotInfo(let slot, let keys, let expiries): self = .slotInfo(slot, keys, expiries)
        case .slotImport(let name, let slots): self = .slotImport(text(name), slots)
        case .entry(let entry):
            let value: [UInt8] =
                switch entry.value {
                case .string(let bytes): Array(bytes)
                case .integer(let integer): Array("int:\(integer)".utf8)
                case .container(let container): Array(describe(container).utf8)
                }
            self = .entry(
                text(entry.key), value, expireAt: entry.expireAtMilliseconds, idle: entry.idleSeconds,
                frequency: entry.frequency)
        case .end(let hasChecksum): self = .end(hasChecksum)
        }
    }

    static func entry(_ key: String, _ value: String, expireAt: Int64? = nil) -> Item {
        .entry(key, Array(value.utf8), expireAt: expireAt)
    }
}

/// Where the members of containers are from.
final class Members {
    let pointer: MemberStorePointer

    init(_ limits: EncodingLimits = EncodingLimits()) {
        pointer = .allocate(capacity: 1)
        pointer.initialize(to: MemberStore(seed: HashSeed(k0: 1, k1: 2), limits: limits))
    }

    deinit {
        pointer.deinitialize(count: 1)
        pointer.deallocate()
    }
}

/// Type, encoding and elements of a container, unordered ones in the order of their names. Destroys it.
func describe(_ container: Container) -> String {
    defer { container.destroy() }
    container.invariants()
    var elements: [String] = []
    func text(_ view: StringView) -> String { view.withBytes { String(decoding: $0, as: UTF8.self) } }
    switch container.type {
    case .hash:
        container.forEachField { field, value, expiry in
            elements.append("\(text(field))=\(text(value))" + (expiry.map { "@\($0)" } ?? ""))
        }
        elements.sort()
    case .sortedSet:
        SortedSetValue(reading: container).forEach { member, score in
            elements.append("\(text(member))=\(score)")
            return true
        }
    case .set:
        container.forEachMember { member in
            elements.append(text(member))
            return true
        }
        elements.sort()
    case .stream:
        let stream = StreamValue(container)
        var cursor = stream.entries()
        while cursor.next() {
            let fields = (0..<cursor.fieldCount).map { _ in
                let (field, value) = cursor.nextField()
                return "\(text(field))=\(text(value))"
            }
            elements.append("\(cursor.id):" + fields.joined(separator: ","))
        }
        elements.append("last \(stream.lastID) deleted \(stream.maxDeletedID) added \(stream.entriesAdded)")
        for index in 0..<stream.groupCount {
            let group = stream.group(at: index)
            elements.append("\(text(.bytes(group.name)))@\(group.lastID)/\(group.entriesRead)")
            for index in 0..<group.consumerCount {
                let consumer = group.consumer(at: index)
                elements.append("\(text(.bytes(consumer.name))):\(consumer.seenAt)")
                var cursor = group.pendingEntries(from: .zero, of: consumer)
                while let entry = group.next(&cursor) {
                    elements.append("\(entry.id):\(entry.deliveredAt),\(entry.deliveryCount)")
                }
            }
        }
    case .string, .list: elements.append("?")
    }
    return "\(container.type) \(container.encoding): " + elements.joined(separator: " ")
}

func decode(_ bytes: [UInt8], step: Int) -> (items: [Item], error: RDBError?) {
    let members = Members()
    var decoder = RDBDecoder()
    decoder.members = members.pointer
    defer { decoder.discard() }
    var items: [Item] = []
    do throws(RDBError) {
        for start in stride(from: 0, to: bytes.count, by: max(1, step)) {
            decoder.feed(Array(bytes[start..<min(start + max(1, step), bytes.count)]))
            while let item = try decoder.next() { items.append(Item(item)) }
        }
        try decoder.finish()
    } catch {
        return (items, error)
    }
    return (items, nil)
}

@Suite struct RDBDecoderTests {
    static func file(_ body: [UInt8], magic: String = "REDIS0010") -> [UInt8] {
        let covered = Array(magic.utf8) + body
        return covered + withUnsafeBytes(of: covered.withUnsafeBytes { crc64($0) }.littleEndian) { Array($0) }
    }

    @Test("A file of Redis 7.0 is read, in chunks of any size")
    func redis70() {
        let expected: [Item] = [
            .header(10), .aux("redis-ver", "7.0.15"), .aux("redis-bits", "64"), .aux("ctime", "1795247674"),
            .aux("used-mem", "965136"), .aux("aof-base", "0"), .select(0), .sizes(9, 1),
            .entry("n16", "int:1234"), .entry("empty", ""), .entry("e", "v", expireAt: 4_102_444_800_123),
            .entry("n64", "1234567890123"), .entry("n32", "int:-100000"), .entry("12345", "x"), .entry("n8", "int:-5"),
            .entry("k", "v"), .entry("long", String(repeating: "abcabcabc", count: 40)), .select(3), .sizes(1, 0),
            .entry("other", "db"), .end(true),
        ]
        for step in [10_000, 1, 2, 3, 7, 50] {
            let result = decode(RDBSamples.redis70, step: step)
            #expect(result.error == nil)
            #expect(result.items == expected)
        }
    }

    @Test("Access frequency and idle time belong to the key that follows")
    func age() {
        #expect(
            decode(RDBSamples.redis70Frequency, step: 5).items.contains(.entry("f", Array("int:1".utf8), frequency: 0)))
        #expect(decode(RDBSamples.redis70Idle, step: 5).items.contains(.entry("f", Array("int:1".utf8), idle: 1)))
        let body: [UInt8] =
            [0xFC, 1, 0, 0, 0, 0, 0, 0, 0, 0xF8, 0x41, 0x00, 0xF9, 9, 0, 1, 0x61, 1, 0x62]
            + [0, 1, 0x63, 1, 0x64, 0xFD, 2, 0, 0, 0, 0, 1, 0x65, 1, 0x66]
            + [0xFC, 255, 255, 255, 255, 255, 255, 255, 255, 0, 1, 0x67, 0, 0xFF]
        let result = decode(Self.file(body), step: 1)
        #expect(result.error == nil)
        #expect(
            result.items == [
                .header(10), .entry("a", Array("b".utf8), expireAt: 1, idle: 256, frequency: 9), .entry("c", "d"),
                .entry("e", "f", expireAt: 2000), .entry("g", ""), .end(true),
            ])
    }

    @Test("Function libraries are handed out as source")
    func function() {
        #expect(
            decode(RDBSamples.redis70Function, step: 9).items.contains(
                .function("#!lua name=mylib\nredis.register_function('f', function() return 1 end)")))
    }

    @Test("Files of Valkey 9 are read, with what it says about slots")
    func valkey() {
        let result = decode(RDBSamples.valkey91, step: 4)
        #expect(result.error == nil)
        #expect(result.items.first == .header(80))
        #expect(result.items.contains(.entry("k", "v", expireAt: 1_895_247_674_712)))
        let body: [UInt8] = [0xF4, 0x7F, 0xFF, 2, 1, 0xF3, 3, 0x6A, 0x6F, 0x62, 2, 1, 5, 7, 7, 0xFF]
        #expect(
            decode(Self.file(body, magic: "VALKEY080"), step: 1).items == [
                .header(80), .slotInfo(16383, 2, 1), .slotImport("job", [1...5, 7...7]), .end(true),
            ])
    }

    @Test("Every version up to 12 is read; before 5 there is no checksum", arguments: 1...12)
    func versions(version: Int) {
        let magic = "REDIS00" + (version < 10 ? "0" : "") + String(version)
        let bytes =
            version < 5
            ? Array(magic.utf8) + [0, 1, 0x61, 1, 0x62, 0xFF] : Self.file([0, 1, 0x61, 1, 0x62, 0xFF], magic: magic)
        let result = decode(bytes, step: 3)
        #expect(result.error == nil)
        #expect(result.items == [.header(version), .entry("a", "b"), .end(version >= 5)])
    }

    @Test("A checksum of zero means that none was computed")
    func absentChecksum() {
        let bytes = Array("REDIS0010".utf8) + [0xFF, 0, 0, 0, 0, 0, 0, 0, 0]
        #expect(decode(bytes, step: 100).items == [.header(10), .end(false)])
    }

    @Test("Bytes behind the end are left for the caller")
    func tail() throws {
        var decoder = RDBDecoder()
        decoder.feed(RDBSamples.redis70 + Array("*1\r\n".utf8))
        while try decoder.next() != nil {}
        let isFinished = decoder.isFinished
        #expect(isFinished)
        #expect(decoder.takeUnread() == Array("*1\r\n".utf8))
    }

    @Test(
        "What is wrong is named with its offset",
        arguments: [
            (Array("REDISxxxx".utf8), 0, .wrongMagic),
            (Array("RADIS0010".utf8), 0, .wrongMagic),
            (Array("REDIS0000".utf8), 0, .unsupportedVersion(0)),
            (Array("REDIS0013".utf8), 0, .unsupportedVersion(13)),
            (Array("REDIS0080".utf8), 0, .unsupportedVersion(80)),
            (Array("VALKEY081".utf8), 0, .unsupportedVersion(81)),
            (Array("REDIS".utf8), 0, .truncated),
            (file([]), 9, .unknownOpcode(crc64OfHeader)),
            (file([8, 1, 0x61, 0]), 9, .unknownOpcode(8)),
            (file([0xFE, 0, 100, 0, 0]), 11, .unknownOpcode(100)),
            (file([7, 1, 0x61, 0]), 9, .unsupportedType(.module2)),
            (file([0, 0x82, 0, 0, 0, 0]), 9, .invalidLength),
            (file([0xFE, 0xC0, 0]), 9, .invalidLength),
            (file([0, 0x81, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]), 9, .stringTooLong(.max)),
            (file([0, 0x80, 0x20, 0, 0, 1]), 9, .stringTooLong(536_870_913)),
            (file([0, 1, 0x61, 0xC4]), 9, .unknownStringEncoding(4)),
            (file([0, 1, 0x61, 0xC3, 1, 1, 0x20]), 9, .corruptCompression),
            (file([0, 1, 0x61, 0xC3, 1, 0x41, 0x00, 0x20]), 9, .corruptCompression),
            (file([0xFE, 0x80, 0x80, 0, 0, 0]), 9, .databaseOutOfRange(1 << 31)),
            (file([0xF4, 0x80, 0, 0, 0x40, 0, 0, 0]), 9, .invalidSlot(16384)),
            (file([0xF6, 0, 0, 0, 0xC4]), 9, .unknownStringEncoding(4)),
            (file([0xF7, 0]), 9, .unsupportedModuleData),
            (file([0, 1, 0x61, 0x80, 0x10, 0, 0, 0]), 9, .truncated),
        ] as [([UInt8], Int64, RDBError.Cause)])
    func errors(bytes: [UInt8], offset: Int64, cause: RDBError.Cause) {
        for step in [1000, 1] {
            #expect(decode(bytes, step: step).error == RDBError(offset: offset, cause: cause))
        }
    }

    /// First checksum byte of an empty body, which is read as an opcode.
    static let crc64OfHeader = file([])[9]

    @Test("Every truncation is noticed and every flipped bit is noticed or harmless", arguments: RDBSamples.all)
    func damage(sample: [UInt8]) {
        for count in 0..<sample.count { #expect(decode(Array(sample[..<count]), step: 64).error != nil) }
        let whole = decode(sample, step: 64)
        for index in 0..<sample.count {
            for bit in 0..<8 {
                var bytes = sample
                bytes[index] ^= 1 << UInt8(bit)
                let result = decode(bytes, step: 64)
                // Nothing but damage to the version below 5 can hide: that turns the checksum off.
                #expect(result.error != nil || result.items != whole.items)
                if result.error == nil { #expect(index == 8) }
            }
        }
    }

    @Test("An error stays")
    func sticky() {
        var decoder = RDBDecoder()
        decoder.feed(Array("REDIS0099".utf8))
        for _ in 0..<3 {
            #expect(throws: RDBError(offset: 0, cause: .unsupportedVersion(99))) { _ = try decoder.next() }
            decoder.feed(Array("REDIS0010".utf8))
        }
        #expect(throws: RDBError(offset: 0, cause: .unsupportedVersion(99))) { try decoder.finish() }
    }

    @Test("Random damage to real files neither crashes nor makes a difference to how the bytes are cut")
    func fuzz() {
        let seed: UInt64 = 0x8DB
        var random = PRNG(seed: seed)
        for round in 0..<3000 {
            var bytes = RDBSamples.all[random.below(RDBSamples.all.count)]
            for _ in 0...random.below(4) {
                switch random.below(4) {
                case 0: bytes[random.below(bytes.count)] = UInt8(truncatingIfNeeded: random.next())
                case 1: bytes.removeLast(random.below(bytes.count / 2))
                case 2:
                    let start = random.below(bytes.count)
                    bytes.removeSubrange(start..<min(bytes.count, start + random.below(8)))
                    if bytes.isEmpty { bytes = [0] }
                default:
                    let opcodes: [UInt8] = [0, 1, 0x80, 0x81, 0xC0, 0xC3, 0xF3, 0xF4, 0xF5, 0xF8, 0xFA, 0xFB, 0xFF]
                    bytes.insert(opcodes[random.below(opcodes.count)], at: random.below(bytes.count))
                }
            }
            let whole = decode(bytes, step: bytes.count)
            let dripped = decode(bytes, step: 1 + random.below(9))
            #expect(whole.items == dripped.items, "seed \(seed), round \(round)")
            #expect(whole.error == dripped.error, "seed \(seed), round \(round)")
        }
    }
}
