// The types of settings. An enum's raw value is the word of redis.conf, and its cases stand in the order in which error
// texts list them.

package enum EvictionPolicy: String, CaseIterable, Sendable {
    case volatileLRU = "volatile-lru"
    case volatileLFU = "volatile-lfu"
    case volatileRandom = "volatile-random"
    case volatileTTL = "volatile-ttl"
    case allKeysLRU = "allkeys-lru"
    case allKeysLFU = "allkeys-lfu"
    case allKeysRandom = "allkeys-random"
    case noEviction = "noeviction"
}

package enum SyslogFacility: String, CaseIterable, Sendable {
    case user, local0, local1, local2, local3, local4, local5, local6, local7
}

package enum Supervision: String, CaseIterable, Sendable {
    case upstart, systemd, auto, no
}

package enum AppendFsync: String, CaseIterable, Sendable {
    case everySecond = "everysec"
    case always, no
}

package enum DisklessLoad: String, CaseIterable, Sendable {
    case disabled
    case onEmptyDatabase = "on-empty-db"
    case swapDatabase = "swapdb"
}

package enum OOMScoreAdjustment: Sendable {
    case no, relative, absolute
}

package enum SanitizeDumpPayload: String, CaseIterable, Sendable {
    case no, yes, clients
}

/// Who may use a guarded command or directive.
package enum ProtectedAction: String, CaseIterable, Sendable {
    case no, yes, local

    package func allows(isLocalClient: Bool) -> Bool { self == .yes || (self == .local && isLocalClient) }
}

package enum ClusterEndpoint: String, CaseIterable, Sendable {
    case ip, hostname
    case unknownEndpoint = "unknown-endpoint"
}

package struct ShutdownFlags: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    package static let save = ShutdownFlags(rawValue: 1)
    package static let noSave = ShutdownFlags(rawValue: 2)
    package static let now = ShutdownFlags(rawValue: 4)
    package static let force = ShutdownFlags(rawValue: 8)
}

/// A snapshot is due after so many seconds if so many keys changed.
package struct SavePoint: Equatable, Sendable {
    package var seconds: Int
    package var changes: Int
}

package struct OutputBufferLimit: Equatable, Sendable {
    /// 0: no limit.
    package var hardBytes: UInt64
    /// 0: no limit.
    package var softBytes: UInt64
    /// How long the soft limit may be exceeded.
    package var softSeconds: Int
}

package struct OutputBufferLimits: Equatable, Sendable {
    package var normal = OutputBufferLimit(hardBytes: 0, softBytes: 0, softSeconds: 0)
    package var replica = OutputBufferLimit(hardBytes: 256 << 20, softBytes: 64 << 20, softSeconds: 60)
    package var pubSub = OutputBufferLimit(hardBytes: 32 << 20, softBytes: 8 << 20, softSeconds: 60)
}

package struct ReplicaOf: Equatable, Sendable {
    package var host: String
    package var port: Int
}

package struct RenamedCommand: Equatable, Sendable {
    package var name: String
    package var newName: String
}

/// The classes of `notify-keyspace-events`. Source of the numbers: Redis 7.0 server.h, NOTIFY_*.
package struct KeyspaceEvents: OptionSet, Sendable {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }

    /// Publish to `__keyspace@<db>__:<key>`.
    package static let keyspace = KeyspaceEvents(rawValue: 1 << 0)
    /// Publish to `__keyevent@<db>__:<event>`.
    package static let keyevent = KeyspaceEvents(rawValue: 1 << 1)
    package static let generic = KeyspaceEvents(rawValue: 1 << 2)
    package static let string = KeyspaceEvents(rawValue: 1 << 3)
    package static let list = KeyspaceEvents(rawValue: 1 << 4)
    package static let set = KeyspaceEvents(rawValue: 1 << 5)
    package static let hash = KeyspaceEvents(rawValue: 1 << 6)
    package static let sortedSet = KeyspaceEvents(rawValue: 1 << 7)
    package static let expired = KeyspaceEvents(rawValue: 1 << 8)
    package static let evicted = KeyspaceEvents(rawValue: 1 << 9)
    package static let stream = KeyspaceEvents(rawValue: 1 << 10)
    /// Not in `all`.
    package static let keyMiss = KeyspaceEvents(rawValue: 1 << 11)
    package static let module = KeyspaceEvents(rawValue: 1 << 13)
    /// Not in `all`.
    package static let newKey = KeyspaceEvents(rawValue: 1 << 14)

    /// The class `A`.
    package static let all: KeyspaceEvents = [
        .generic, .string, .list, .set, .hash, .sortedSet, .expired, .evicted, .stream, .module,
    ]

    /// Nil for an unknown letter.
    package init?(letters: [UInt8]) {
        self = []
        for letter in letters {
            if letter == UInt8(ascii: "A") {
                formUnion(.all)
            } else if let flag = (Self.letters + Self.outerLetters).first(where: { $0.0 == letter }) {
                formUnion(flag.1)
            } else {
                return nil
            }
        }
    }

    /// As CONFIG GET shows it. `n` disappears behind `A`, as in Redis.
    package var text: [UInt8] {
        let inner = isSuperset(of: .all) ? [UInt8(ascii: "A")] : Self.letters.filter { contains($0.1) }.map(\.0)
        return inner + Self.outerLetters.filter { contains($0.1) }.map(\.0)
    }

    private static let letters: [(UInt8, KeyspaceEvents)] = [
        (UInt8(ascii: "g"), .generic), (UInt8(ascii: "$"), .string), (UInt8(ascii: "l"), .list),
        (UInt8(ascii: "s"), .set), (UInt8(ascii: "h"), .hash), (UInt8(ascii: "z"), .sortedSet),
        (UInt8(ascii: "x"), .expired), (UInt8(ascii: "e"), .evicted), (UInt8(ascii: "t"), .stream),
        (UInt8(ascii: "d"), .module), (UInt8(ascii: "n"), .newKey),
    ]
    private static let outerLetters: [(UInt8, KeyspaceEvents)] = [
        (UInt8(ascii: "K"), .keyspace), (UInt8(ascii: "E"), .keyevent), (UInt8(ascii: "m"), .keyMiss),
    ]
}
