import MartletBase
import MartletKeyspace
import MartletPersistence

extension FuzzTarget {
    /// RDB streams of primaries and files, whole and in pieces.
    static let rdb = FuzzTarget(
        name: "rdb",
        summary: "RDB streams and files (RDBDecoder)",
        corpus: {
            var plain = RDBEncoder(version: RDBVersion.redis70, compression: false)
            write(&plain)
            var compressed = RDBEncoder(version: RDBVersion.redis72, compression: true)
            write(&compressed)
            var unchecked = RDBEncoder(version: RDBVersion.redis70, checksum: false)
            write(&unchecked)
            var empty = RDBEncoder()
            empty.appendHeader()
            empty.appendEnd()
            return [
                Array(plain.output.bytes), Array(compressed.output.bytes), Array(unchecked.output.bytes),
                Array(empty.output.bytes),
            ]
        },
        tokens: [
            Array("REDIS0011".utf8), Array("REDIS0001".utf8), Array("VALKEY080".utf8), [0xFF], [0xFE, 0x00], [0xFD],
            [0xFC],
            [0xFA], [0xF9], [0xF8], [0xF7], [0xF6], [0xF5], [0xF4], [0xF3], [0xFB, 0x01, 0x00], [0xC0], [0xC1], [0xC2],
            [0xC3], [0x80], [0x81, 0, 0, 0, 0, 0x20, 0, 0, 0], [0xC3, 0x04, 0x41],
        ],
        repair: { bytes, _ in
            guard bytes.count > 9 + 8 else { return }
            let end = bytes.count - 8
            let checksum = bytes.withUnsafeBytes { crc64(UnsafeRawBufferPointer(rebasing: $0[..<end])) }
            for index in 0..<8 { bytes[end + index] = UInt8(truncatingIfNeeded: checksum >> UInt64(8 * index)) }
        },
        run: { input, random in
            let whole = decode([input[...]])
            let pieces = decode(randomPieces(of: input, &random))
            if whole != pieces { violated("an RDB stream is the same whole and in pieces") }
        })

    private static func write(_ encoder: inout RDBEncoder) {
        encoder.appendHeader()
        encoder.append(aux: "redis-ver", "7.0.15")
        encoder.append(aux: "redis-bits", 64)
        encoder.append(
            RDBInformation(
                redisVersion: "7.2.4", createdAtSeconds: 1_700_000_000, usedMemoryBytes: 1_000_000,
                replication: .init(streamDatabase: 0, id: String(repeating: "a", count: 40), offset: 1234)))
        encoder.append(selectDatabase: 0)
        encoder.append(keyCount: 9, expiryCount: 2)
        for (index, value) in values.enumerated() {
            let key = Array("key:\(index)".utf8)
            key.withUnsafeBytes { key in
                value.withUnsafeBytes { value in
                    encoder.append(
                        key: key, .string(value),
                        expireAtMilliseconds: index % 3 == 0 ? 1_900_000_000_000 : nil)
                }
            }
        }
        encoder.append(selectDatabase: 3)
        encoder.appendEnd()
    }

    private static let values: [[UInt8]] = [
        [], Array("short".utf8), Array("12".utf8), Array("-32769".utf8), Array("2147483647".utf8),
        Array("9223372036854775807".utf8), Array(String(repeating: "abc", count: 100).utf8),
        Array(repeating: 0, count: 900), (0..<200).map { UInt8(truncatingIfNeeded: $0 &* 77) },
    ]

    /// Everything a stream yielded, as text, and how it ended.
    private static func decode(_ pieces: [ArraySlice<UInt8>]) -> [String] {
        withMembers { members in
            var decoder = RDBDecoder()
            decoder.members = members
            var items: [String] = []
            do {
                for piece in pieces {
                    decoder.feed(Array(piece))
                    while let item = try decoder.next() { items.append(describe(item)) }
                }
                try decoder.finish()
            } catch {
                items.append("\(error)")
            }
            decoder.discard()
            return items
        }
    }

    private static func withMembers<Result>(_ body: (MemberStorePointer) -> Result) -> Result {
        let members = MemberStorePointer.allocate(capacity: 1)
        members.initialize(to: MemberStore(seed: HashSeed(k0: 1, k1: 2), limits: EncodingLimits()))
        defer {
            members.deinitialize(count: 1)
            members.deallocate()
        }
        return body(members)
    }

    /// What can be said of a container in any order of its members. Destroys it.
    private static func describe(_ container: Container) -> String {
        defer { container.destroy() }
        container.invariants()
        return "\(container.type) \(container.encoding) \(container.count) elements"
    }

    private static func describe(_ item: RDBItem) -> String {
        switch item {
        case .entry(let entry):
            let value =
                switch entry.value {
                case .string(let bytes): "\(bytes.count) \(crc64(bytes))"
                case .integer(let integer): "\(integer)"
                case .container(let container): describe(container)
                }
            return "\(crc64(entry.key)) \(value) \(entry.expireAtMilliseconds ?? -1) \(entry.idleSeconds ?? 0) "
                + "\(entry.frequency ?? 0)"
        case .function(let bytes): return "function \(crc64(bytes))"
        default: return "\(item)"
        }
    }

    /// Payloads of RESTORE: what is accepted is the same when it is dumped and read again.
    static let dump = FuzzTarget(
        name: "dump",
        summary: "payloads of RESTORE and MIGRATE (DumpPayload)",
        corpus: {
            values.map { value in
                var encoder = RDBEncoder()
                value.withUnsafeBytes { encoder.appendDump(.string($0)) }
                return Array(encoder.output.bytes)
            } + containerPayloads
        },
        tokens: [
            [0xC0], [0xC1], [0xC2], [0xC3], [0x80], [0x81], [0], [1], [2], [0x0A, 0], [0x0B, 0], [80, 0],
            [0xC3, 3, 90],
        ],
        repair: { bytes, random in
            guard bytes.count >= 10 else { return }
            let end = bytes.count - 8
            if random.below(4) != 0 {
                bytes[end - 2] = 10
                bytes[end - 1] = 0
            }
            let checksum = bytes.withUnsafeBytes { crc64(UnsafeRawBufferPointer(rebasing: $0[..<end])) }
            for index in 0..<8 { bytes[end + index] = UInt8(truncatingIfNeeded: checksum >> UInt64(8 * index)) }
        },
        run: { input, _ in
            guard let first = restore(input) else { return }
            guard let second = restore(first.payload), second.description == first.description else {
                violated("what RESTORE accepts survives DUMP and RESTORE")
            }
        })

    /// What a payload holds, and what DUMP makes of that.
    private static func restore(_ payload: [UInt8]) -> (description: String, payload: [UInt8])? {
        withMembers { members -> (description: String, payload: [UInt8])? in
            var scratch = ByteBuffer()
            return payload.withUnsafeBytes { bytes -> (description: String, payload: [UInt8])? in
                guard let value = try? DumpPayload.decode(bytes, scratch: &scratch, members: members) else {
                    return nil
                }
                var encoder = RDBEncoder()
                encoder.appendDump(value)
                let payload = Array(encoder.output.bytes)
                switch value {
                case .string(let value): return ("\(value.count) \(crc64(value))", payload)
                case .integer(let integer):
                    let text = "\(integer)"
                    return ("\(text.utf8.count) \(Array(text.utf8).withUnsafeBytes { crc64($0) })", payload)
                case .container(let container): return (describe(container), payload)
                }
            }
        }
    }

    /// Small and large values of each type.
    private static var containerPayloads: [[UInt8]] {
        withMembers { members in
            var payloads: [[UInt8]] = []
            func add(_ container: Container) {
                var encoder = RDBEncoder()
                encoder.appendDump(.container(container))
                payloads.append(Array(encoder.output.bytes))
                container.destroy()
            }
            for (count, expires) in [(1, false), (20, false), (600, false), (3, true)] {
                var hash = HashValue.make(members)
                for number in 0..<count {
                    let value = values[number % values.count].prefix(40)
                    Array("field \(number)".utf8).withUnsafeBytes { field in
                        Array(value).withUnsafeBytes {
                            _ = hash.set(field, $0, expiry: expires && number > 0 ? .set(1 << 41) : .remove)
                        }
                    }
                }
                add(hash.container)
            }
            for (count, prefix) in [(3, ""), (20, "member "), (300, "member ")] {
                var set = SetMembers(members)
                for number in 0..<count {
                    _ = Array("\(prefix)\(number)".utf8).withUnsafeBytes { set.insert($0) }
                }
                add(set.container)
            }
            for count in [1, 20, 300] {
                var set = SortedSetValue(members)
                for number in 0..<count {
                    Array("member \(number)".utf8).withUnsafeBytes {
                        _ = set.add($0, score: number % 3 == 0 ? Double(number) / 7 : Double(number % 5))
                    }
                }
                add(set.container)
            }
            return payloads
        }
    }
}
