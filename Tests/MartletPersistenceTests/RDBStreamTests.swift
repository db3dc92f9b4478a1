import MartletBase
import MartletKeyspace
import Testing

@testable import MartletPersistence

/// Streams in the forms of Redis 5, 7.0 and 7.2.
@Suite struct RDBStreamTests {
    private static func string(_ text: String) -> [UInt8] { [UInt8(text.utf8.count)] + Array(text.utf8) }
    private static func time(_ time: Int64) -> [UInt8] { withUnsafeBytes(of: time.littleEndian) { Array($0) } }
    private static func id(_ milliseconds: UInt8, _ sequence: UInt8) -> [UInt8] {
        [0, 0, 0, 0, 0, 0, 0, milliseconds, 0, 0, 0, 0, 0, 0, 0, sequence]
    }

    /// 1-1 with a=x, 1-2 deleted, 2-0 with b=y, relative to 1-1.
    private static let node: [UInt8] = listpack([
        "02 01", "01 01", "01 01", "81 61 02", "00 01",
        "02 01", "00 01", "00 01", "81 78 02", "04 01",
        "03 01", "00 01", "01 01", "81 77 02", "04 01",
        "00 01", "01 01", "DF FF 02", "01 01", "81 62 02", "81 79 02", "06 01",
    ])

    private static func listpack(_ elements: [String]) -> [UInt8] {
        let body = elements.flatMap { $0.split(separator: " ").map { UInt8($0, radix: 16)! } }
        let count = body.count + 7
        return [UInt8(count), 0, 0, 0, UInt8(elements.count), 0] + body + [0xFF]
    }

    private static let nodes: [UInt8] = [1, 16] + id(1, 1) + [UInt8(node.count)] + node

    /// A group with a pending entry of its only consumer. - Parameter extra: behind the time at which it was seen.
    private static func groups(read: [UInt8], extra: [UInt8] = []) -> [UInt8] {
        [1] + string("g") + [2, 0] + read + [1] + id(1, 1) + time(700) + [3]
            + [1] + string("c") + time(900) + extra + [1] + id(1, 1)
    }

    static let forms: [(body: [UInt8], facts: String)] = [
        ([15] + nodes + [2, 2, 0] + groups(read: []), "last 2-0 deleted 0-0 added 2 g@2-0/2 c:900 1-1:700,3"),
        (
            [19] + nodes + [2, 2, 0, 1, 1, 1, 2, 3] + groups(read: [2]),
            "last 2-0 deleted 1-2 added 3 g@2-0/2 c:900 1-1:700,3"
        ),
        (
            [21] + nodes + [2, 2, 0, 1, 1, 1, 2, 3]
                + groups(read: [0x81, 255, 255, 255, 255, 255, 255, 255, 255], extra: time(950)),
            "last 2-0 deleted 1-2 added 3 g@2-0/-1 c:900 1-1:700,3"
        ),
        // No entries, no groups; no pending entries, two consumers.
        ([19, 0, 0, 5, 0, 0, 0, 0, 0, 9, 0], "last 5-0 deleted 0-0 added 9"),
        (
            [19, 0, 0, 5, 0, 0, 0, 0, 0, 9, 1] + string("g") + [0, 0, 0, 0, 2] + string("a") + time(1) + [0]
                + string("b") + time(2) + [0],
            "last 5-0 deleted 0-0 added 9 g@0-0/0 a:1 b:2"
        ),
    ]

    private static func file(_ body: [UInt8]) -> [UInt8] {
        Array("REDIS0010".utf8) + [body[0], 1, 107] + body[1...] + [255] + [UInt8](repeating: 0, count: 8)
    }

    @Test("Streams are read in every form", arguments: forms)
    func read(body: [UInt8], facts: String) {
        let entries = body.count > 70 ? "1-1:a=x 2-0:b=y " : ""
        for step in [1, 2, 3, 7, 1000] {
            let (items, error) = decode(Self.file(body), step: step)
            #expect(error == nil)
            #expect(items == [.header(10), .entry("k", Array("stream stream: \(entries)\(facts)".utf8)), .end(false)])
        }
        for count in 1..<body.count {
            let (_, error) = decode(Array(Self.file(body).prefix(9 + 2 + count)), step: 5)
            #expect(error?.cause == .truncated)
        }
    }

    @Test("What is written is what was read", arguments: forms.filter { $0.body[0] == 19 })
    func write(body: [UInt8], facts: String) throws {
        let members = Members()
        var scratch = ByteBuffer()
        var encoder = RDBEncoder(compression: false)
        var sealed = ByteBuffer()
        sealed.append(body)
        DumpPayload.appendFooter(to: &sealed)
        let value = try DumpPayload.decode(sealed.bytes, scratch: &scratch, members: members.pointer)
        guard case .container(let container) = value else { preconditionFailure("no container") }
        defer { container.destroy() }
        encoder.appendDump(value)
        #expect(encoder.output.bytes.dropLast(10).elementsEqual(body))
    }

    /// Each with one thing wrong.
    private static let corruptBodies: [[UInt8]] = {
        let good = forms[1].body
        func changed(_ index: Int, _ byte: UInt8) -> [UInt8] {
            var body = good
            body[index] = byte
            return body
        }
        let facts = 1 + nodes.count
        return [
            // The length of an ID; a node twice; a count of entries; the length; a last ID below the last entry.
            [19, 1, 15] + id(1, 1).dropLast() + [0x40, UInt8(node.count)] + node,
            [19, 2] + nodes.dropFirst() + nodes.dropFirst(), changed(1 + 2 + 16 + 1 + 6, 3), changed(facts, 3),
            changed(facts + 1, 1),
            // A pending entry twice, of nobody, of somebody else; a group and a consumer twice.
            [19, 0, 0, 5, 0, 0, 0, 0, 0, 9, 1] + string("g") + [0, 0, 0, 2] + id(1, 1) + time(1) + [1] + id(1, 1)
                + time(1) + [1, 0],
            [19, 0, 0, 5, 0, 0, 0, 0, 0, 9, 1] + string("g") + [0, 0, 0, 1] + id(1, 1) + time(1) + [1, 0],
            [19, 0, 0, 5, 0, 0, 0, 0, 0, 9, 1] + string("g") + [0, 0, 0, 0, 1] + string("c") + time(1) + [1] + id(1, 1),
            [19, 0, 0, 5, 0, 0, 0, 0, 0, 9, 2] + string("g") + [0, 0, 0, 0, 0] + string("g") + [0, 0, 0, 0, 0],
            [19, 0, 0, 5, 0, 0, 0, 0, 0, 9, 1] + string("g") + [0, 0, 0, 0, 2] + string("c") + time(1) + [0]
                + string("c") + time(1) + [0],
        ]
    }()

    @Test("A stream that contradicts itself is refused", arguments: corruptBodies)
    func corrupt(body: [UInt8]) {
        let (items, error) = decode(Self.file(body), step: 1000)
        #expect(items == [.header(10)])
        #expect(error?.cause == .corruptValue(.streamListpacks2))
    }

    @Test("Damaged bytes never crash")
    func fuzz() {
        var random = PRNG(seed: 0x57)
        for _ in 0..<3000 {
            var body = Self.forms[random.below(3)].body
            for _ in 0...random.below(4) { body[1 + random.below(body.count - 1)] = UInt8(random.below(256)) }
            _ = decode(Self.file(body), step: 1 + random.below(50))
        }
    }
}
