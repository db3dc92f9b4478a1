import MartletBase
import MartletRESP

/// What a script or function says of itself, in its shebang line or when it is registered. (SCRIPT_FLAG_*)
struct ScriptFlags: OptionSet {
    let rawValue: UInt8

    static let noWrites = ScriptFlags(rawValue: 1 << 0)
    static let allowOutOfMemory = ScriptFlags(rawValue: 1 << 1)
    static let allowStale = ScriptFlags(rawValue: 1 << 2)
    static let noCluster = ScriptFlags(rawValue: 1 << 3)
    static let allowCrossSlot = ScriptFlags(rawValue: 1 << 4)
    /// Nothing was said: a script without a shebang line, as before Redis 7. What it does is found out when it does it.
    static let undeclared = ScriptFlags(rawValue: 1 << 5)

    static let names: [(ScriptFlags, StaticString)] = [
        (.noWrites, "no-writes"), (.allowOutOfMemory, "allow-oom"), (.allowStale, "allow-stale"),
        (.noCluster, "no-cluster"), (.allowCrossSlot, "allow-cross-slot-keys"),
    ]

    /// The flag of a name; nil if there is none.
    init?(named name: [UInt8]) {
        guard let flag = Self.names.first(where: { name.elementsEqual($0.1.bytes) })?.0 else { return nil }
        self = flag
    }

    init(rawValue: UInt8) { self.rawValue = rawValue }

    /// What a command that runs such a script may do. (scriptFlagsToCmdFlags)
    func applied(to flags: CommandFlags) -> CommandFlags {
        if contains(.undeclared) { return flags }
        var flags = flags.subtracting([.stale, .denyOutOfMemory, .write, .mayReplicate])
        if isDisjoint(with: [.allowOutOfMemory, .noWrites]) { flags.insert(.denyOutOfMemory) }
        if !contains(.noWrites) { flags.insert(.write) }
        if contains(.allowStale) { flags.insert(.stale) }
        return flags
    }
}

/// The first line of a script, `#!lua flags=no-writes,…`, if it has one.
struct Shebang {
    let flags: ScriptFlags
    /// Bytes of the line without its end, which stays so that the numbers of lines are right.
    let count: Int

    /// Source: Redis 7.0 eval.c, evalExtractShebangFlags.
    init(of body: UnsafeRawBufferPointer) throws(ReplyError) {
        guard body.count >= 2, body[0] == UInt8(ascii: "#"), body[1] == UInt8(ascii: "!") else {
            flags = .undeclared
            count = 0
            return
        }
        guard let end = body.firstIndex(where: { $0 == UInt8(ascii: "\n") || $0 == 0 }), body[end] != 0 else {
            throw .text("ERR Invalid script shebang")
        }
        guard let words = splitArguments(body[..<end]), let engine = words.first else {
            throw .text("ERR Invalid engine in script shebang")
        }
        guard engine.elementsEqual(StaticString("#!lua").bytes) else {
            throw .message("ERR Unexpected engine in script shebang: \(String(decoding: engine, as: UTF8.self))")
        }
        var flags: ScriptFlags = []
        for word in words.dropFirst() {
            guard word.starts(with: StaticString("flags=").bytes) else {
                throw .message("ERR Unknown lua shebang option: \(String(decoding: word, as: UTF8.self))")
            }
            let list = word.dropFirst(6)
            if list.isEmpty { continue }
            for name in list.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false) {
                guard let flag = ScriptFlags(named: Array(name)) else {
                    throw .message(
                        "ERR Unexpected flag in script shebang: \(String(decoding: name, as: UTF8.self))")
                }
                flags.insert(flag)
            }
        }
        self.flags = flags
        count = end
    }
}
