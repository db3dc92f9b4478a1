import MartletBase
import MartletRESP
import Testing

@testable import MartletServer

@Suite struct KeySpecTests {
    @Test(
        "An argument counts the keys; a count that does not fit finds none",
        arguments: [
            ("eval script 2 a b c", [3, 4]), ("eval script 0", nil), ("eval script 1", nil), ("eval script -1 a", nil),
            ("eval script 4611686018427387904 a", nil), ("eval script 9223372036854775807 a", nil),
        ])
    func counted(line: String, expected: [Int]?) {
        let spec = KeySpec(.readWrite, begin: .index(2), find: .count(index: 0, first: 1, step: 1))
        let words = Array(line.utf8).split(separator: UInt8(ascii: " ")).map(Array.init)
        withRequest(words) { #expect(spec.keyIndexes(in: $0) == expected) }
    }
}
