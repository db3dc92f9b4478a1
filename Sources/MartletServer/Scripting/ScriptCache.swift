import CLua
import MartletBase
import MartletRESP

/// The SHA-1 digest of a script's text: its name.
struct ScriptDigest: Hashable {
    private let high: UInt64
    private let middle: UInt64
    private let low: UInt32

    init(of body: UnsafeRawBufferPointer) {
        self = SHA1.digest(body).withUnsafeBytes { bytes in
            ScriptDigest(
                high: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self)),
                middle: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)),
                low: UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt32.self)))
        }
    }

    private init(high: UInt64, middle: UInt64, low: UInt32) {
        self.high = high
        self.middle = middle
        self.low = low
    }

    /// 40 hexadecimal digits, in any case; nil if it is something else.
    @inline(__always)
    init?(hexadecimal digits: UnsafeRawBufferPointer) {
        guard digits.count == 40 else { return nil }
        guard let high = Self.number(digits, from: 0, count: 16), let middle = Self.number(digits, from: 16, count: 16),
            let low = Self.number(digits, from: 32, count: 8)
        else { return nil }
        self.init(high: high, middle: middle, low: UInt32(low))
    }

    @inline(__always)
    private static func number(_ digits: UnsafeRawBufferPointer, from start: Int, count: Int) -> UInt64? {
        var number: UInt64 = 0
        for index in start..<(start &+ count) {
            guard let digit = hexValue(digits[index]) else { return nil }
            number = number &<< 4 | UInt64(digit)
        }
        return number
    }

    /// In lower case.
    var hexadecimal: String {
        func text(_ number: some FixedWidthInteger) -> String {
            withUnsafeBytes(of: number.bigEndian) { MartletBase.hexadecimal($0) }
        }
        return text(high) + text(middle) + text(low)
    }

    /// A digest is as random as a hash: one word of it serves.
    func hash(into hasher: inout Hasher) { hasher.combine(high) }
}

/// Scripts that were compiled, by the digest of their text.
///
/// Those that came with SCRIPT LOAD stay until SCRIPT FLUSH: clients rely on them. Those that came with EVAL are sent again
/// anyway, so only the ``evaluatedCountMax`` that were used last are kept, as Valkey does: a client that writes values into its
/// scripts cannot fill the memory.
///
/// EVAL finds its script by a fast hash of the whole text, and compares the text; a digest is made once for each script.
struct ScriptCache: ~Copyable {
    struct Script {
        let digest: ScriptDigest
        let name: String
        let body: UnsafeRawBufferPointer
        let bodyHash: UInt64
        let flags: ScriptFlags
        /// Of the function, in Lua's registry.
        let function: Int32
        /// SCRIPT LOAD named it.
        var isLoaded: Bool
        /// Neighbours in the order of use, of those that are not loaded; -1 at the ends.
        var older: Int = -1
        var newer: Int = -1
    }

    /// Scripts of EVAL that are kept. (Valkey's LRU_LIST_LENGTH)
    static let evaluatedCountMax = 500

    private var scripts: [Script?] = []
    private var free: [Int] = []
    private var byDigest: [ScriptDigest: Int] = [:]
    private var byBody: [UInt64: Int] = [:]
    private var oldest = -1
    private var newest = -1
    private var evaluatedCount = 0
    private(set) var evictedCount = 0
    private var bodyBytes = 0

    deinit { for case let script? in scripts { script.body.deallocate() } }

    var count: Int { byDigest.count }

    /// Texts and what is kept about them.
    var bytes: Int { bodyBytes + count * (MemoryLayout<Script?>.stride + 2 * 32) }

    subscript(index: Int) -> Script { scripts[index]! }

    @inline(__always)
    func function(_ index: Int) -> Int32 { scripts[index].unsafelyUnwrapped.function }
    @inline(__always)
    func flags(_ index: Int) -> ScriptFlags { scripts[index].unsafelyUnwrapped.flags }
    @inline(__always)
    func isLoaded(_ index: Int) -> Bool { scripts[index].unsafelyUnwrapped.isLoaded }

    func index(of digest: ScriptDigest) -> Int? { byDigest[digest] }

    /// - Parameter hash: of the body.
    func index(of body: UnsafeRawBufferPointer, hash: UInt64) -> Int? {
        guard let index = byBody[hash] else { return nil }
        let known = scripts[index].unsafelyUnwrapped.body
        guard known.count == body.count, known.elementsEqual(body) else { return nil }
        return index
    }

    /// - Precondition: there is no script of that digest.
    mutating func insert(
        _ body: UnsafeRawBufferPointer, hash: UInt64, digest: ScriptDigest, flags: ScriptFlags, function: Int32,
        isLoaded: Bool
    ) -> Int {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, body.count), alignment: 1)
        copy.copyMemory(from: body)
        let script = Script(
            digest: digest, name: digest.hexadecimal,
            body: UnsafeRawBufferPointer(start: copy.baseAddress, count: body.count), bodyHash: hash, flags: flags,
            function: function, isLoaded: isLoaded)
        bodyBytes += body.count
        let index: Int
        if let place = free.popLast() {
            index = place
            scripts[index] = script
        } else {
            index = scripts.count
            scripts.append(script)
        }
        byDigest[digest] = index
        byBody[hash] = index
        if !isLoaded { append(index) }
        return index
    }

    /// A script was given again, by EVAL or (`isLoaded`) by SCRIPT LOAD.
    mutating func use(_ index: Int, isLoaded: Bool) {
        if isLoaded { markLoaded(index) } else { touch(index) }
    }

    /// A script was run by EVAL or EVALSHA.
    @inline(__always)
    mutating func touch(_ index: Int) {
        if index == newest || isLoaded(index) { return }
        unlink(index)
        append(index)
    }

    /// SCRIPT LOAD was given for a script that EVAL brought.
    private mutating func markLoaded(_ index: Int) {
        guard !isLoaded(index) else { return }
        unlink(index)
        scripts[index]!.isLoaded = true
    }

    /// The script to forget now; nil if there are not too many.
    var surplus: Int? { evaluatedCount > Self.evaluatedCountMax ? oldest : nil }

    /// - Returns: the reference of its function, which is to be released.
    mutating func evict(_ index: Int) -> Int32 {
        let script = scripts[index]!
        unlink(index)
        byDigest[script.digest] = nil
        if byBody[script.bodyHash] == index { byBody[script.bodyHash] = nil }
        bodyBytes -= script.body.count
        script.body.deallocate()
        scripts[index] = nil
        free.append(index)
        evictedCount += 1
        return script.function
    }

    private mutating func append(_ index: Int) {
        scripts[index]!.older = newest
        scripts[index]!.newer = -1
        if newest >= 0 { scripts[newest]!.newer = index } else { oldest = index }
        newest = index
        evaluatedCount += 1
    }

    private mutating func unlink(_ index: Int) {
        let (older, newer) = (scripts[index]!.older, scripts[index]!.newer)
        if older >= 0 { scripts[older]!.newer = newer } else { oldest = newer }
        if newer >= 0 { scripts[newer]!.older = older } else { newest = older }
        evaluatedCount -= 1
    }
}
