import MartletBase
import Testing

@testable import MartletKeyspace

@Suite(.serialized) struct ListpackTests {
    // MARK: Format

    /// Values, and their elements with the length behind the encoding.
    static let elements: [(String, String)] = [
        ("0", "00 01"), ("1", "01 01"), ("127", "7F 01"),
        ("128", "C0 80 02"), ("-1", "DF FF 02"), ("4095", "CF FF 02"), ("-4096", "D0 00 02"),
        ("4096", "F1 00 10 03"), ("-4097", "F1 FF EF 03"), ("32767", "F1 FF 7F 03"), ("-32768", "F1 00 80 03"),
        ("32768", "F2 00 80 00 04"), ("8388607", "F2 FF FF 7F 04"), ("-8388608", "F2 00 00 80 04"),
        ("8388608", "F3 00 00 80 00 05"), ("2147483647", "F3 FF FF FF 7F 05"), ("-2147483648", "F3 00 00 00 80 05"),
        ("2147483648", "F4 00 00 00 80 00 00 00 00 09"), ("9223372036854775807", "F4 FF FF FF FF FF FF FF 7F 09"),
        ("-9223372036854775808", "F4 00 00 00 00 00 00 00 80 09"),
        ("", "80 01"), ("a", "81 61 02"), ("-", "81 2D 02"), ("-0", "82 2D 30 03"), ("01", "82 30 31 03"),
        ("1 ", "82 31 20 03"), ("9223372036854775808", "93 39323233333732303336383534373735383038 14"),
    ]

    @Test(arguments: ListpackTests.elements)
    func anElementHasRedisForm(text: String, entry: String) {
        let (text, entry) = (Array(text.utf8), hexBytes(entry))
        var listpack = Listpack.make()
        defer { listpack.destroy() }
        text.withUnsafeBytes { listpack.append($0) }
        #expect(Array(listpack.bytes) == [UInt8(7 + entry.count), 0, 0, 0, 1, 0] + entry + [0xFF])
        #expect(text.withUnsafeBytes { Listpack.encodedBytes(of: $0) } == entry.count)
        #expect(listpack.value(at: 6).text == text)
        if let integer = Int64(String(decoding: text, as: UTF8.self)), Array(String(integer).utf8) == text {
            var other = Listpack.make()
            defer { other.destroy() }
            other.append(integer: integer)
            #expect(other.bytes.elementsEqual(listpack.bytes))
        }
    }

    /// Header of a string of so many bytes, and the length behind it.
    @Test(arguments: [
        (63, "BF", "40"), (64, "E0 40", "42"), (125, "E0 7D", "7F"), (126, "E0 7E", "01 80"),
        (4095, "EF FF", "20 81"), (4096, "F0 00 10 00 00", "20 85"),
        // One step later than the bits would ask for, as in Redis.
        (16_377, "F0 F9 3F 00 00", "7F FE"), (16_378, "F0 FA 3F 00 00", "00 FF FF"),
        (2_097_145, "F0 F9 FF 1F 00", "7F FF FE"), (2_097_146, "F0 FA FF 1F 00", "00 FF FF FF"),
    ])
    func aStringHasRedisForm(count: Int, header: String, backLength: String) {
        let text = [UInt8](repeating: 0x78, count: count)
        var listpack = Listpack.make()
        defer { listpack.destroy() }
        text.withUnsafeBytes { listpack.append($0) }
        let entry = hexBytes(header) + text + hexBytes(backLength)
        #expect(listpack.byteCount == entry.count + 7)
        #expect(isEqual(UnsafeRawBufferPointer(rebasing: listpack.bytes.dropFirst(6).dropLast()), entry))
        #expect(listpack.last == 6)
        #expect(text.withUnsafeBytes { listpack.equals(6, $0) })
    }

    /// A hash, a sorted set and a node of a list, as redis-server 7.0.15 dumps them.
    @Test(arguments: [
        (
            ["name", "martlet", "age", "3", "big", "9223372036854775807", "neg", "-70000"],
            """
            36000000 0800 846E616D6505 876D6172746C6574 08 8361676504 0301 8362696704 F4FFFFFFFFFFFFFF7F09 836E656704 \
            F290EEFE04 FF
            """
        ),
        (
            ["-1", "-1000000000", "half", "0.5", "one", "1", "m", "100000000000000000", "inf", "inf"],
            """
            39000000 0A00 DFFF02 F3003665C405 8468616C6605 83302E3504 836F6E6504 0101 816D02 F400008A5D7845630109 \
            83696E6604 83696E6604 FF
            """
        ),
        (
            ["a", "127", "128", "-4097", "", "01", String(repeating: "x", count: 64)],
            "5C000000 0700 816102 7F01 C08002 F1FFEF03 8001 82303103 E040" + String(repeating: "78", count: 64)
                + "42 FF"
        ),
    ])
    func itHasTheBytesThatRedisDumps(values: [String], hex: String) {
        var listpack = Listpack.make()
        defer { listpack.destroy() }
        for value in values { Array(value.utf8).withUnsafeBytes { listpack.append($0) } }
        #expect(Array(listpack.bytes) == hexBytes(hex))
    }

    @Test func theLengthBehindTheLargestElementsTakesFiveBytes() {
        #expect(Listpack.backLengthBytes(268_435_454) == 4)
        #expect(Listpack.backLengthBytes(268_435_455) == 5)
        #expect(Listpack.backLengthBytes(Int(UInt32.max) + 5) == 5)
    }

    @Test func anEmptyListpackHasNoPositions() {
        let listpack = Listpack.make()
        defer { listpack.destroy() }
        #expect(Array(listpack.bytes) == [7, 0, 0, 0, 0, 0, 0xFF])
        #expect(listpack.isEmpty)
        #expect(listpack.first == nil)
        #expect(listpack.last == nil)
        for index in [0, 1, -1, Int.max, Int.min] { #expect(listpack.position(at: index) == nil) }
    }

    // MARK: Model

    /// Random changes to a listpack and to an array of its values. The array is encoded anew to compare the bytes.
    @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64])
    func itHoldsWhatAnArrayHolds(seed: UInt64) {
        var random = PRNG(seed: seed)
        var model: [[UInt8]] = []
        var listpack = Listpack.make()
        defer { listpack.destroy() }
        for step in 0..<1500 {
            change(&listpack, &model, &random, sizeMax: seed % 2 == 0 ? 8 : 60)
            guard step % 8 == 0 else { continue }
            #expect(listpack.count == model.count, "seed \(seed), step \(step)")
            #expect(isEqual(listpack.bytes, ListpackModel.encoded(model)), "seed \(seed), step \(step)")
            #expect(isSame(listpack, model), "seed \(seed), step \(step)")
        }
    }

    private func change(
        _ listpack: inout Listpack, _ model: inout [[UInt8]], _ random: inout PRNG, sizeMax: Int
    ) {
        let value = EncodingSamples.random(&random)
        let other = EncodingSamples.random(&random)
        let integer = EncodingSamples.integers[random.below(EncodingSamples.integers.count)]
        let integerText = Array(String(integer).utf8)
        let grows = model.count < sizeMax
        // The elements that there are can be reached from both ends.
        let index = model.isEmpty ? 0 : random.below(model.count)
        let position = listpack.position(at: random.below(2) == 0 ? index : index - model.count)
        guard let position else {
            precondition(model.isEmpty)
            model = [value]
            return value.withUnsafeBytes { listpack.append($0) }
        }
        switch random.below(grows ? 15 : 24) {
        case 0, 1:
            value.withUnsafeBytes { listpack.append($0) }
            model.append(value)
        case 2:
            listpack.append(integer: integer)
            model.append(integerText)
        case 3, 4:
            value.withUnsafeBytes { value in other.withUnsafeBytes { listpack.append(value, $0) } }
            model += [value, other]
        case 5:
            value.withUnsafeBytes { listpack.prepend($0) }
            model.insert(value, at: 0)
        case 6:
            value.withUnsafeBytes { listpack.insert($0, before: position) }
            model.insert(value, at: index)
        case 7:
            value.withUnsafeBytes { listpack.insert($0, after: position) }
            model.insert(value, at: index + 1)
        case 8:
            value.withUnsafeBytes {
                listpack.insert(Listpack.Element($0), Listpack.Element(integer: integer), before: position)
            }
            model.insert(contentsOf: [value, integerText], at: index)
        case 9, 10:
            value.withUnsafeBytes { listpack.replace(at: position, with: $0) }
            model[index] = value
            precondition(listpack.value(at: position).text == value)
        case 11:
            listpack.replace(at: position, withInteger: integer)
            model[index] = integerText
        case 12:
            // Another that is larger or smaller.
            var second = Listpack.make()
            let values = (0..<random.below(12)).map { _ in EncodingSamples.random(&random) }
            for value in values { value.withUnsafeBytes { second.append($0) } }
            listpack.append(contentsOf: second)
            second.destroy()
            model += values
        case 13:
            let copy = Listpack(copying: listpack.bytes)
            listpack.destroy()
            listpack = copy
        case 14...18:
            let next = listpack.remove(at: position)
            model.remove(at: index)
            precondition(next == (index < model.count ? position : nil))
        case 19, 20:
            let count = random.below(6)
            let next = listpack.removeRange(from: position, count: count)
            model.removeSubrange(index..<min(model.count, index + count))
            precondition(next == (index < model.count ? position : nil))
        default:
            let count = [0, 1, 2, 5, 1000, Int.max][random.below(6)]
            listpack.removeRange(at: random.below(2) == 0 ? index : index - model.count, count: count)
            model.removeSubrange(index..<(count < model.count - index ? index + count : model.count))
        }
    }

    private func isSame(_ listpack: Listpack, _ model: [[UInt8]]) -> Bool {
        var isSame = Listpack.isValid(listpack.bytes, deep: true) && listpack.values.map(\.text) == model
        isSame = isSame && listpack.isEmpty == model.isEmpty
        var (position, index) = (listpack.last, model.count - 1)
        while let current = position, isSame {
            let value = model[index]
            isSame =
                listpack.position(at: index) == current && listpack.position(at: index - model.count) == current
                && value.withUnsafeBytes { listpack.equals(current, $0) }
                && !(value + [0x30]).withUnsafeBytes { listpack.equals(current, $0) }
            for skip in [0, 1, 2] {
                let found = value.withUnsafeBytes { listpack.find($0, from: listpack.first, skipping: skip) }
                let expected = stride(from: 0, to: model.count, by: skip + 1).first { model[$0] == value }
                isSame = isSame && found == expected.flatMap { listpack.position(at: $0) }
            }
            position = listpack.previous(before: current)
            index -= 1
        }
        let absent = [UInt8](repeating: 0x7A, count: 21)
        return isSame && index == -1 && listpack.position(at: model.count) == nil
            && listpack.position(at: -model.count - 1) == nil
            && absent.withUnsafeBytes { listpack.find($0, from: listpack.first, skipping: 0) } == nil
    }

    /// The header has sixteen bits for the count.
    @Test("Strings that differ in one byte are told apart, whatever their length and wherever it is", arguments: 0...70)
    func findAmongAlikeStrings(length: Int) {
        var strings = [[UInt8](repeating: 0x61, count: length)]
        for index in 0..<length {
            var string = strings[0]
            string[index] = 0x62
            strings.append(string)
        }
        for skip in [0, 1] {
            var listpack = Listpack.make()
            defer { listpack.destroy() }
            var positions: [Int] = []
            for string in strings {
                positions.append(listpack.byteCount - 1)
                for _ in 0...skip { string.withUnsafeBytes { listpack.append($0) } }
            }
            for (string, position) in zip(strings, positions) {
                let found = string.withUnsafeBytes { listpack.find($0, from: listpack.first, skipping: skip) }
                #expect(found == position)
            }
            let longer = [UInt8](repeating: 0x61, count: length + 1)
            let found = longer.withUnsafeBytes { listpack.find($0, from: listpack.first, skipping: skip) }
            #expect(found == nil)
        }
    }

    @Test func moreThan65534ElementsAreCounted() {
        var listpack = Listpack.make()
        defer { listpack.destroy() }
        func stored() -> Int { Int(listpack.bytes[4]) | Int(listpack.bytes[5]) << 8 }
        for number in 0..<65533 { listpack.append(integer: Int64(number)) }
        #expect(stored() == 65533)
        listpack.append(Listpack.Element(integer: 1), Listpack.Element(integer: 2))
        #expect(stored() == 65535)
        #expect(listpack.count == 65535)
        #expect(Listpack.isValid(listpack.bytes, deep: true))
        #expect(listpack.position(at: 65534) == listpack.last)
        #expect(listpack.position(at: 65535) == nil)
        #expect(listpack.position(at: -65535) == listpack.first)
        #expect(listpack.position(at: -65536) == nil)
        listpack.removeRange(at: -3, count: 3)
        #expect(stored() == 65535)
        #expect(listpack.count == 65532)
        #expect(Listpack.isValid(listpack.bytes, deep: true))
        // Counts that are known add up.
        var sum = Listpack.make()
        defer { sum.destroy() }
        sum.append(contentsOf: listpack)
        sum.append(integer: 1)
        #expect(sum.bytes[4] == 0xFD)
        #expect(sum.bytes[5] == 0xFF)
        let copy = Listpack(copying: sum.bytes)
        defer { copy.destroy() }
        sum.append(contentsOf: copy)
        #expect(sum.bytes[4] == 0xFF)
        #expect(sum.bytes[5] == 0xFF)
        #expect(sum.count == 2 * 65533)
        sum.removeRange(at: 10, count: .max)
        #expect(sum.values.map(\.text) == (0..<10).map { Array(String($0).utf8) })
    }

    @Test func aListpackIsNotToExceedOneGigabyte() {
        let listpack = Listpack.make()
        defer { listpack.destroy() }
        #expect(Listpack.safeToAdd(1 << 30, to: nil))
        #expect(!Listpack.safeToAdd(1 << 30 + 1, to: nil))
        #expect(Listpack.safeToAdd(1 << 30 - 7, to: listpack))
        #expect(!Listpack.safeToAdd(1 << 30 - 6, to: listpack))
        #expect(!Listpack.safeToAdd(.max, to: listpack))
    }

    @Test func everyByteIsGivenBack() {
        // The first time may leave caches of the runtime behind.
        check()
        let before = Memory.threadBalance
        check()
        let after = Memory.threadBalance
        #expect(after == before)

        func check() {
            var random = PRNG(seed: 77)
            var model: [[UInt8]] = []
            var listpack = Listpack.make()
            for _ in 0..<600 { change(&listpack, &model, &random, sizeMax: 30) }
            precondition(listpack.count == model.count)
            listpack.destroy()
        }
    }

    /// Size classes of the allocator are crossed byte by byte, there and back.
    @Test func contentsStayWhenTheBlockMoves() {
        var listpack = Listpack.make()
        defer { listpack.destroy() }
        for number in 0..<3000 { listpack.append(integer: Int64(number & 127)) }
        #expect(listpack.byteCount == 7 + 2 * 3000)
        for number in 0..<2999 {
            precondition(listpack.value(at: 6).text == Array(String(number & 127).utf8))
            precondition(listpack.remove(at: 6) == 6)
        }
        #expect(listpack.remove(at: 6) == nil)
        #expect(listpack.isEmpty)
    }

    // MARK: Bytes from outside

    private static let samples: [[[UInt8]]] = [
        [],
        ["a", "1", "300", "-5000", "100000", "9000000", "5000000000", "", "hello"].map { Array($0.utf8) },
        [[UInt8](repeating: 1, count: 70), Array("12".utf8), [UInt8](repeating: 0xFF, count: 130)],
    ]

    @Test func validBytesAreAccepted() {
        for sample in Self.samples {
            let bytes = ListpackModel.encoded(sample)
            bytes.withUnsafeBytes {
                #expect(Listpack.isValid($0, deep: false))
                #expect(Listpack.isValid($0, deep: true))
            }
        }
        // Longer forms than needed: integers and lengths in too many bytes, strings that are integers, an unknown count.
        let bytes = hexBytes("1C000000 FFFF F3 05000000 05 E00161 03 F0 01000000 61 06 823132 03 FF")
        bytes.withUnsafeBytes { bytes in
            #expect(Listpack.isValid(bytes, deep: true))
            let listpack = Listpack(copying: bytes)
            defer { listpack.destroy() }
            #expect(listpack.count == 4)
            #expect(listpack.values.map(\.text) == ["5", "a", "a", "12"].map { Array($0.utf8) })
            let twelve = Array("12".utf8).withUnsafeBytes { listpack.find($0, from: listpack.first, skipping: 0) }
            #expect(twelve == listpack.last)
        }
    }

    @Test(arguments: [
        "", "07", "07000000 0000", "08000000 0000 FF", "06000000 0000 FF", "07000000 0000 00", "07000000 0100 FF",
        // An end mark before the end, and none.
        "08000000 0000 FF FF", "09000000 0100 05 01 01",
        // Codes that do not exist, and the end mark as an element.
        "09000000 0100 F5 01 FF", "09000000 0100 FE 01 FF",
        // Elements that reach beyond the end.
        "09000000 0100 81 01 FF", "09000000 0100 81 61 FF", "08000000 0100 05 FF", "09000000 0100 F4 01 FF",
        "08000000 0100 E0 FF", "0A000000 0100 F0 00 00 FF", "0D000000 0100 F0 FFFFFFFF 04 FF",
        "0D000000 0100 F0 FBFFFFFF 01 FF",
        // Wrong lengths behind elements.
        "09000000 0100 05 02 FF", "09000000 0100 05 81 FF", "0A000000 0100 81 80 82 FF", "0A000000 0100 81 61 82 FF",
        // Too many and too few.
        "09000000 0000 05 01 FF", "09000000 0200 05 01 FF",
    ])
    func bytesThatAreNoListpackAreRejected(hex: String) {
        let memory = GuardedMemory(capacity: 64)
        let isValid = Listpack.isValid(memory.atEnd(hexBytes(hex)), deep: true)
        #expect(!isValid)
    }

    @Test func everyTruncationIsRejected() {
        let memory = GuardedMemory(capacity: 4096)
        for sample in Self.samples {
            let bytes = ListpackModel.encoded(sample)
            for count in 0..<bytes.count {
                var part = Array(bytes[..<count])
                #expect(!isSafe(part, memory))
                // With a size and an end mark that are right.
                guard count > 4 else { continue }
                part[0] = UInt8(count)
                part[count - 1] = 0xFF
                _ = isSafe(part, memory)
            }
        }
    }

    @Test func everyChangeOfAByteIsRejectedOrHarmless() {
        let memory = GuardedMemory(capacity: 4096)
        for sample in Self.samples {
            var accepted = 0
            Corruption.everyByte(of: ListpackModel.encoded(sample)) { if isSafe($0, memory) { accepted += 1 } }
            // Those that change the contents of strings and integers, and no others.
            #expect(sample.isEmpty ? accepted == 0 : accepted > 0)
        }
    }

    @Test(arguments: [21, 22, 23, 24] as [UInt64])
    func randomCorruptionIsRejectedOrHarmless(seed: UInt64) {
        let memory = GuardedMemory(capacity: 64 * 1024)
        var random = PRNG(seed: seed)
        var accepted = 0
        for _ in 0..<1500 {
            let values = (0..<random.below(5)).map { _ in EncodingSamples.random(&random) }
            let bytes = ListpackModel.encoded(values).prefix(60_000)
            if isSafe(Corruption.random(of: Array(bytes), sizeInHeader: true, &random), memory) { accepted += 1 }
        }
        #expect(accepted > 0, "seed \(seed)")
    }

    /// Whether the bytes are accepted; then all walks have to stay within them, and all changes have to work.
    private func isSafe(_ bytes: [UInt8], _ memory: GuardedMemory) -> Bool {
        let isValid = Listpack.isValid(memory.atStart(bytes), deep: true)
        precondition(Listpack.isValid(memory.atEnd(bytes), deep: true) == isValid)
        if isValid { precondition(Listpack.isValid(memory.atEnd(bytes), deep: false)) }
        guard isValid else { return false }
        let values = walk(memory.atStart(bytes))
        precondition(walk(memory.atEnd(bytes)) == values)

        var listpack = Listpack(copying: memory.atEnd(bytes))
        var model = values
        let text = Array("new".utf8)
        text.withUnsafeBytes { text in
            if let first = listpack.first {
                listpack.replace(at: first, with: text)
                model[0] = Array(text)
            }
            listpack.append(text)
            model.append(Array(text))
            if let second = listpack.position(at: 1) {
                listpack.remove(at: second)
                model.remove(at: 1)
            }
        }
        precondition(Listpack.isValid(listpack.bytes, deep: true) && listpack.values.map(\.text) == model)
        listpack.destroy()
        return true
    }

    private func walk(_ bytes: UnsafeRawBufferPointer) -> [[UInt8]] {
        let listpack = Listpack(UnsafeMutableRawPointer(mutating: bytes.baseAddress!))
        var values: [[UInt8]] = []
        var positions: [Int] = []
        var next = listpack.first
        while let position = next {
            positions.append(position)
            values.append(listpack.value(at: position).text)
            next = listpack.next(after: position)
        }
        precondition(listpack.count == values.count)
        next = listpack.last
        while let position = next {
            precondition(positions.popLast() == position)
            next = listpack.previous(before: position)
        }
        precondition(positions.isEmpty)
        let absent = [UInt8](repeating: 0x5B, count: 33)
        for skip in 0...2 {
            precondition(absent.withUnsafeBytes { listpack.find($0, from: listpack.first, skipping: skip) } == nil)
        }
        return values
    }
}

/// A second, plain writer of the format.
enum ListpackModel {
    static func encoded(_ values: [[UInt8]]) -> [UInt8] {
        let entries = values.flatMap(entry)
        let total = entries.count + 7
        let count = min(values.count, 65535)
        return littleEndian(Int64(total), 4) + littleEndian(Int64(count), 2) + entries + [0xFF]
    }

    private static func entry(_ value: [UInt8]) -> [UInt8] {
        let encoding: [UInt8]
        if let integer = Int64(String(decoding: value, as: UTF8.self)), Array(String(integer).utf8) == value {
            encoding = self.encoding(integer)
        } else if value.count < 64 {
            encoding = [0x80 + UInt8(value.count)] + value
        } else if value.count < 4096 {
            encoding = [0xE0 + UInt8(value.count / 256), UInt8(value.count % 256)] + value
        } else {
            encoding = [0xF0] + littleEndian(Int64(value.count), 4) + value
        }
        let steps = [128, 16383, 2_097_151, 268_435_455]
        let groupCount = 1 + steps.count { encoding.count >= $0 }
        let groups = (0..<groupCount).map { index in
            UInt8(encoding.count >> (7 * (groupCount - 1 - index)) & 0x7F) | (index > 0 ? 0x80 : 0)
        }
        return encoding + groups
    }

    private static func encoding(_ integer: Int64) -> [UInt8] {
        if (0...127).contains(integer) { return [UInt8(integer)] }
        if (-4096...4095).contains(integer) {
            let bits = integer < 0 ? integer + 8192 : integer
            return [0xC0 + UInt8(bits / 256), UInt8(bits % 256)]
        }
        for (code, count) in [(0xF1, 2), (0xF2, 3), (0xF3, 4)] as [(UInt8, Int)] {
            let limit: Int64 = 1 << Int64(8 * count - 1)
            if integer >= -limit, integer < limit { return [code] + littleEndian(integer, count) }
        }
        return [0xF4] + littleEndian(integer, 8)
    }

    private static func littleEndian(_ integer: Int64, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: integer >> Int64(8 * $0)) }
    }
}
