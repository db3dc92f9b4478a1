import MartletBase
import Testing

@Suite struct XXH3Tests {
    /// As libxxhash computes them, at the lengths where the method changes.
    @Test(arguments: [
        (0, "2d06800538d394c2"), (1, "13e608bc156defed"), (3, "a9088dda485b481c"), (4, "6d9253b16c8b1ed3"),
        (8, "60539db630471163"), (9, "feff668361d723a8"), (16, "b8c859b0f030b585"), (17, "714a04408e79b80f"),
        (32, "19ff4ee1d6ba1a55"), (33, "3e44983ad21679c8"), (64, "287eb1fa9e4be2c1"), (65, "829218de4d798646"),
        (96, "f084e7cfbc624743"), (97, "1daa83271a8e7b7c"), (128, "67425a03650261bf"), (129, "c664bf3311c6abc4"),
        (144, "606a17fa700bb932"), (145, "58ceebee1ff9e519"), (240, "64556dc6b462a6cf"), (241, "8beadd3a8874fe17"),
        (256, "3c38817f6d79c0da"), (257, "2a300c3495738ea6"), (1024, "9b81661c641c72b1"), (1025, "806c2072ed713576"),
        (1088, "2f8781e01841f0da"), (1089, "2a90437fe231e7e8"), (3000, "c89178bb873c6b3d"),
    ])
    func everyLengthHasItsHash(count: Int, hash: String) {
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 * 7 + 3) }
        let found = bytes.withUnsafeBytes(xxh3)
        #expect(String(found, radix: 16) == hash)
    }
}
