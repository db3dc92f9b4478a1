import MartletBase
import Testing

@Suite struct SHA1Tests {
    private func hex(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    @Test(
        "The examples of the standard come out",
        arguments: [
            ("", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
            ("abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "84983e441c3bd26ebaae4aa1f95129e5e54670f1"
            ),
        ])
    func examples(text: String, digest: String) {
        #expect(hex(SHA1.digest(Array(text.utf8))) == digest)
    }

    @Test func aMillionTimesTheLetterAComesOut() {
        let bytes = [UInt8](repeating: UInt8(ascii: "a"), count: 1_000_000)
        #expect(hex(SHA1.digest(bytes)) == "34aa973cd4c4daa4f61eeb2bdbad27316534016f")
    }

    @Test("Pieces of any length give the digest of the whole", arguments: [1, 3, 55, 56, 63, 64, 65, 128])
    func pieces(length: Int) {
        let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        var hash = SHA1()
        var rest = bytes[...]
        while !rest.isEmpty {
            hash.update(Array(rest.prefix(length)))
            rest = rest.dropFirst(length)
        }
        #expect(hash.finish() == SHA1.digest(bytes))
    }
}
