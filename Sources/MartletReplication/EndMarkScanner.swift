/// Finds the mark behind an image of unknown length.
///
/// Every byte of a full sync passes here, so the search skips: it looks at the last byte of a window as long as the
/// mark, and if that byte is not in the mark at all the whole window is passed over (Horspool's algorithm). Of
/// compressed or binary data one byte in forty is looked at.
struct EndMarkScanner {
    private let mark: [UInt8]
    /// How far the window may move when its last byte is this.
    private let skips: [UInt8]

    init(mark: [UInt8]) {
        precondition(mark.count == ReplicationID.count)
        self.mark = mark
        var skips = [UInt8](repeating: UInt8(mark.count), count: 256)
        for (index, byte) in mark.dropLast().enumerated() { skips[Int(byte)] = UInt8(mark.count - 1 - index) }
        self.skips = skips
    }

    enum Result: Equatable {
        /// So many bytes of image, then the mark.
        case found(at: Int)
        /// So many bytes are image for certain; the rest may be the beginning of the mark.
        case notYet(imageCount: Int)
    }

    /// - Complexity: O(count), usually O(count / 40).
    func scan(_ bytes: UnsafeRawBufferPointer) -> Result {
        let count = bytes.count
        let markCount = mark.count
        guard count >= markCount, let base = bytes.baseAddress else { return .notYet(imageCount: 0) }
        return mark.withUnsafeBytes { mark in
            skips.withUnsafeBytes { skips in
                let last = mark[markCount &- 1]
                // Start of the window; it ends within the bytes.
                var start = 0
                while start <= count &- markCount {
                    let byte = base.load(fromByteOffset: start &+ markCount &- 1, as: UInt8.self)
                    if byte == last {
                        var index = 0
                        while index < markCount,
                            base.load(fromByteOffset: start &+ index, as: UInt8.self) == mark[index]
                        {
                            index &+= 1
                        }
                        if index == markCount { return .found(at: start) }
                    }
                    start &+= Int(skips[Int(byte)])
                }
                return .notYet(imageCount: min(start, count &- markCount &+ 1))
            }
        }
    }
}
