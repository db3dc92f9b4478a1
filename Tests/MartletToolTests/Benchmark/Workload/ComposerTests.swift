import MartletBase
import Testing
import martlet

@Suite struct ComposerTests {
    @Test("A request without placeholders is sent as it was encoded")
    func plain() {
        let source = Source("PING")
        #expect(source.next() == "*1\r\n$4\r\nPING\r\n")
        #expect(source.isUniform)
    }

    @Test("An inline command is sent as it stands")
    func inline() {
        let source = Source([Workload.Operation(label: "a", requests: [.raw(Array("PING\r\n".utf8))])])
        #expect(source.next() == "PING\r\n")
    }

    @Test("__rand_int__ becomes twelve digits below the key count, new ones each time and in each place")
    func randomNumbers() {
        let source = Source("MSET key:__rand_int__ a b__rand_int__c d", keyCount: 1000)
        var seen: Set<String> = []
        for _ in 0..<50 {
            let words = source.nextWords()
            #expect(words[0] == "MSET" && words[2] == "a" && words[4] == "d")
            let first = words[1].dropFirst(4)
            let second = words[3].dropFirst().dropLast()
            for number in [first, second] {
                #expect(number.count == 12 && Int(number)! < 1000)
                seen.insert(String(number))
            }
        }
        #expect(seen.count > 80)
    }

    @Test("Without -r the placeholders of numbers are sent as they stand, as redis-benchmark does")
    func disabledNumbers() {
        let source = Source("SET key:__rand_int__ __key__ __new__", enabled: .init(numbers: false))
        #expect(source.nextWords() == ["SET", "key:__rand_int__", "__key__", "__new__"])
    }

    @Test("__key__ is one number for an operation, __key+N__ comes after it and wraps around")
    func operationKey() {
        let source = Source("MGET __key__ __key+1__ __key+9__ __key__", keyCount: 10)
        for _ in 0..<50 {
            let numbers = source.nextWords().dropFirst().map { Int($0)! }
            let key = numbers[0]
            #expect(numbers == [key, (key + 1) % 10, (key + 9) % 10, key])
        }
    }

    @Test("Requests that are sent together share __key__ and __new__")
    func sequence() {
        let source = Source([
            Workload.Operation(
                label: "a", requests: [.words("GET __key__"), .words("SET __key__ __new__"), .words("GET __new__")])
        ])
        for round in 0..<10 {
            let requests = source.nextRequests()
            #expect(requests.count == 3 && requests[0][1] == requests[1][1])
            #expect(Int(requests[1][2]) == 100 + round && requests[2][1] == requests[1][2])
        }
    }

    @Test(
        "What looks like a placeholder and is none stays",
        arguments: ["__key+__", "__key+x__", "__data_", "{tag}", "__key+1_"])
    func lookalikes(_ text: String) {
        let source = Source("SET \(text) v")
        #expect(source.nextWords() == ["SET", text, "v"])
    }

    @Test("__data__ of one size is part of the encoded request")
    func fixedData() {
        let source = Source("SET k <__data__>", sizes: "5")
        #expect(source.isUniform)
        #expect(source.nextWords()[2] == "<\(String(decoding: valueBytes(count: 5), as: UTF8.self))>")
    }

    @Test("Values of varying size have the right length everywhere")
    func varyingData() {
        let source = Source("SET __rand_int__ a__data__b__data__ x__rand_int__", sizes: "0-3,100")
        #expect(!source.isUniform)
        var lengths: Set<Int> = []
        for _ in 0..<300 {
            let words = source.nextWords()
            #expect(words[1].count == 12 && words[3].count == 13 && words[2].first == "a")
            #expect((words[2].count - 2) % 2 == 0)
            lengths.insert((words[2].count - 2) / 2)
        }
        #expect(lengths == [0, 1, 2, 3, 100])
    }

    @Test("A batch that is patched in place is what composing gives")
    func repatch() {
        let composed = Source("SET key:__rand_int__ __data__", keyCount: 1_000_000, sizes: "64")
        let patched = Source("SET key:__rand_int__ __data__", keyCount: 1_000_000, sizes: "64")
        var output = ByteBuffer()
        patched.composer.appendUnpatched(into: &output)
        for _ in 0..<20 {
            patched.composer.repatch(UnsafeMutableRawPointer(mutating: output.bytes.baseAddress!))
            #expect(composed.next() == String(bytes: output.bytes))
        }
    }

    @Test("{tag} leads to random slots in a cluster; one tag serves all places of an operation")
    func tags() {
        let source = Source(
            "MSET a:{tag}:1 x b:{tag}:2 y", enabled: .init(tag: true), tags: HashTags(), keyPosition: { _ in 1 })
        var slots: Set<HashSlot> = []
        for _ in 0..<100 {
            let (words, slot) = source.nextRouted()
            let keys = [words[1], words[3]]
            #expect(Set(keys.map { key in Array(key.utf8).withUnsafeBytes { HashSlot.of($0) } }) == [slot!])
            slots.insert(slot!)
        }
        #expect(slots.count > 90)
    }

    @Test("The slot of a request is that of its key, wherever the key stands")
    func slotOfLaterKey() {
        let source = Source(
            "EVAL script 1 {user}:__rand_int__ __data__", sizes: "1-9", keyPosition: { _ in 3 })
        let (words, slot) = source.nextRouted()
        #expect(slot == Array(words[3].utf8).withUnsafeBytes { HashSlot.of($0) })
        let keyless = Source("PING")
        #expect(keyless.nextRouted().slot == nil)
    }

    @Test("Operations are drawn by weight")
    func weights() {
        let source = Source([
            Workload.Operation(weight: 90, label: "a", requests: [.words("GET a")]),
            Workload.Operation(weight: 10, label: "b", requests: [.words("SET b 1")]),
        ])
        let count = (0..<10_000).count { _ in source.nextWords()[0] == "GET" }
        #expect(abs(count - 9000) < 150)
    }

    @Test(
        "Twelve digits, whatever the number",
        arguments: [0, 7, 99, 100, 123_456, 1_000_000, 999_999_999_999] as [UInt64])
    func digits(_ number: UInt64) {
        var bytes = [UInt8](repeating: 0, count: 12)
        bytes.withUnsafeMutableBytes { writeTwelveDigits(number, to: $0.baseAddress!) }
        let text = String(number)
        #expect(String(decoding: bytes, as: UTF8.self) == String(repeating: "0", count: 12 - text.count) + text)
    }

    @Test("Every slot has a tag that leads to it")
    func allTags() {
        let tags = HashTags()
        for number in 0..<HashSlot.count {
            let slot = HashSlot(rawValue: UInt16(number))
            #expect(tags.tag(of: slot).withUnsafeBytes { HashSlot.of($0) } == slot)
        }
    }
}

/// Composes operations of a workload and takes them apart again.
private final class Source {
    var composer: Composer
    var isUniform: Bool { composer.workload.uniformBytes != nil }

    convenience init(
        _ words: String, keyCount: Int = 100, sizes: String = "3", enabled: Placeholder.Enabled = .init(),
        tags: HashTags? = nil, keyPosition: ([[UInt8]]) -> Int? = { _ in nil }
    ) {
        self.init(
            [Workload.Operation(label: "test", requests: [.words(words)])], keyCount: keyCount, sizes: sizes,
            enabled: enabled, tags: tags, keyPosition: keyPosition)
    }

    init(
        _ operations: [Workload.Operation], keyCount: Int = 100, sizes: String = "3",
        enabled: Placeholder.Enabled = .init(), tags: HashTags? = nil,
        keyPosition: ([[UInt8]]) -> Int? = { _ in nil }
    ) {
        let workload = CompiledWorkload(
            Workload(title: "test", operations: operations), sizes: try! SizeDistribution(parsing: sizes),
            enabled: enabled, keyPosition: keyPosition)
        composer = Composer(
            workload, keys: KeySource(.uniform, keyCount: keyCount, counters: KeyCounters(keyCount: keyCount)),
            tags: tags, seed: 1)
    }

    func next() -> String { compose().text.joined() }

    func nextRequests() -> [[String]] { compose().text.map(words) }

    func nextWords() -> [String] { nextRequests()[0] }

    func nextRouted() -> (words: [String], slot: HashSlot?) {
        let (text, slot) = compose()
        return (words(text[0]), slot)
    }

    private func compose() -> (text: [String], slot: HashSlot?) {
        let operation = composer.nextOperation()
        var texts: [String] = []
        var slot: HashSlot?
        for request in operation.pointee.requests {
            var output = ByteBuffer()
            let count = composer.compose(request, into: &output, keySlot: &slot)
            precondition(count == output.count)
            texts.append(String(bytes: output.bytes))
        }
        return (texts, slot)
    }

    /// Takes a request apart by its lengths.
    private func words(_ request: String) -> [String] {
        var rest = Array(request.utf8)[...]
        func line() -> Int {
            let end = rest.firstIndex(of: 13)!
            let number = Int(String(decoding: rest[rest.startIndex + 1..<end], as: UTF8.self))!
            rest = rest[(end + 2)...]
            return number
        }
        let result = (0..<line()).map { _ in
            let count = line()
            defer { rest = rest.dropFirst(count + 2) }
            return String(decoding: rest.prefix(count), as: UTF8.self)
        }
        precondition(rest.isEmpty)
        return result
    }
}
