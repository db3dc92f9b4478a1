/// The disk of a host, with the one file that the cluster core keeps: nodes.conf.
///
/// A save replaces the file whole (the real driver writes a new file and renames it). What was saved with fsync
/// survives everything. What was saved without survives the death of the process, but after a power cut the file may
/// be any version from the last one that was synced on, or that the kernel has written back by itself.
struct SimulatedDisk {
    /// What a process that starts now would read.
    private(set) var file: [UInt8]?
    private(set) var summary: NodesConfSummary?
    /// The version that a power cut cannot take back, and its summary.
    private(set) var durableFile: [UInt8]?
    private(set) var durableSummary: NodesConfSummary?
    /// Versions written after that, without fsync.
    private var unsynced: [(file: [UInt8], summary: NodesConfSummary?, time: Int64)] = []

    /// Linux writes dirty pages back after this many microseconds (`dirty_expire_centisecs`).
    private static let writeBackDelay: Int64 = 30_000_000

    mutating func save(_ text: [UInt8], fsync: Bool, time: Int64) {
        file = text
        summary = NodesConfSummary(text)
        if fsync {
            durableFile = text
            durableSummary = summary
            unsynced = []
        } else {
            // More would only cost memory; any version is a possible outcome.
            if unsynced.count >= 8 { unsynced.removeFirst() }
            unsynced.append((text, summary, time))
        }
    }

    /// Power cut: `pick` chooses one of so many possible versions, 0 being the oldest.
    mutating func losePower(time: Int64, pick: (Int) -> Int) {
        while let first = unsynced.first, time - first.time > SimulatedDisk.writeBackDelay {
            (durableFile, durableSummary) = (first.file, first.summary)
            unsynced.removeFirst()
        }
        let version = pick(unsynced.count + 1)
        if version > 0 {
            (durableFile, durableSummary) = (unsynced[version - 1].file, unsynced[version - 1].summary)
        }
        (file, summary) = (durableFile, durableSummary)
        unsynced = []
    }
}

/// The promises in a nodes.conf: epochs and votes. Read without building the whole, since every save is looked at.
struct NodesConfSummary: Equatable {
    var currentEpoch: UInt64 = 0
    var lastVoteEpoch: UInt64 = 0
    /// Of the line of the node itself.
    var configEpoch: UInt64 = 0
    var id: [UInt8] = []
    var isReplica = false

    /// Nil for a text without a line of the node itself and variables.
    init?(_ text: [UInt8]) {
        var hasMyself = false, hasVariables = false
        text.withUnsafeBufferPointer { bytes in
            var start = 0
            while start < bytes.count {
                var end = start
                while end < bytes.count, bytes[end] != UInt8(ascii: "\n") { end += 1 }
                let line = bytes[start..<end]
                start = end + 1
                if line.starts(with: "vars ".utf8) {
                    let words = line.split(separator: UInt8(ascii: " "))
                    for index in stride(from: 1, to: words.count - 1, by: 2) {
                        if words[index].elementsEqual("currentEpoch".utf8) { currentEpoch = number(words[index + 1]) }
                        if words[index].elementsEqual("lastVoteEpoch".utf8) {
                            lastVoteEpoch = number(words[index + 1])
                        }
                    }
                    hasVariables = true
                } else if !hasMyself, contains(line, "myself") {
                    let words = line.split(separator: UInt8(ascii: " "), maxSplits: 8)
                    guard words.count > 7 else { continue }
                    id = Array(words[0])
                    isReplica = contains(words[2], "slave")
                    configEpoch = number(words[6])
                    hasMyself = true
                }
            }
        }
        if !hasMyself || !hasVariables { return nil }
    }
}

private func number(_ digits: Slice<UnsafeBufferPointer<UInt8>>) -> UInt64 {
    digits.reduce(0) { $0 &* 10 &+ UInt64($1 &- UInt8(ascii: "0")) }
}

private func contains(_ line: Slice<UnsafeBufferPointer<UInt8>>, _ word: StaticString) -> Bool {
    let count = word.utf8CodeUnitCount
    // Flags come third: after 40 characters of id and an address.
    guard line.count >= count else { return false }
    let limit = min(line.count, 400)
    var index = line.startIndex
    let end = line.startIndex + limit - count
    while index <= end {
        var match = 0
        while match < count, line[index + match] == word.utf8Start[match] { match += 1 }
        if match == count { return true }
        index += 1
    }
    return false
}
