import MartletBase
import MartletCluster
import MartletKeyspace
import MartletPersistence
import MartletRESP

// DEBUG: what tests of a server need, off unless `enable-debug-command` allows it. Subcommands of Redis that are about
// structures which do not exist here are unknown.
//
// Source: Redis 7.0 debug.c.

extension CommandFamily {
    static let debug = CommandFamily(.server, [.debug])
}

/// What DEBUG has switched.
package struct DebugSettings: Sendable {
    /// Keys whose time has passed are deleted though nobody asks for them.
    package var isActiveExpiryOn = true
    package var isCronPaused = false
    /// Scripts may call commands that are not for them.
    package var allowsAnyCommandInScripts = false
}

extension Command {
    static let debug = Command(
        "DEBUG", since: "1.0.0", arity: .atLeast(2), flags: [.admin, .noScript, .loading, .stale],
        isInternal: true,
        complexity: "Depends on subcommand.", summary: "A container for debugging commands",
        run: .node { request, node, client throws(ReplyError) in
            try node.requireDebugCommand(client)
            try node.debug(request, client)
        })
}

extension Node {
    fileprivate func requireDebugCommand(_ client: ClientPointer) throws(ReplyError) {
        switch configuration.debugCommand {
        case .yes: return
        case .local where client.pointee.isLocal: return
        case .local, .no:
            throw .text(
                """
                ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can run it \
                from a local connection, otherwise you need to set this option in the configuration file, and then \
                restart the server.
                """)
        }
    }

    /// One flat list of subcommands, by name and number of words.
    fileprivate mutating func debug(_ request: Request, _ client: ClientPointer) throws(ReplyError) {
        let name = String(bytes: request[1]).uppercased()
        switch (name, request.count) {
        case ("HELP", 2): client.pointee.reply.help(request, Self.debugHelp)

        case ("DIGEST", 2): client.pointee.reply.simple(DataDigest(of: &keyspace).hexadecimal)
        case ("DIGEST-VALUE", 2...):
            client.pointee.reply.array(request.count - 2)
            for index in 2..<max(request.count, 2) {
                var digest = DataDigest()
                if let entry = keyspace.entryEvenIfExpired(keyspace.key(request[index])) { digest.mix(valueOf: entry) }
                client.pointee.reply.simple(digest.hexadecimal)
            }
        case ("OBJECT", 3): try debugObject(request, client)
        case ("SDSLEN", 3): try debugStringLengths(request, client)
        case ("HTSTATS", 3): try debugTables(request, client)
        case ("HTSTATS-KEY", 3):
            guard keyspace.peek(keyspace.key(request[2])) != nil else { throw .noSuchKey }
            throw .text("ERR The value stored at the specified key is not represented using an hash table")
        case ("INVARIANTS", 2):
            keyspace.invariants()
            client.pointee.reply.ok()
        case ("STRINGMATCH-TEST", 2):
            matchRandomPatterns()
            client.pointee.reply.simple("Apparently Martlet did not crash: test passed")

        case ("POPULATE", 3...5): try debugPopulate(request, client)
        case ("RELOAD", 2...): try debugReload(request, client)
        case ("SET-ACTIVE-EXPIRE", 3):
            debugSettings.isActiveExpiryOn = request.isTrue(2)
            client.pointee.reply.ok()
        case ("PAUSE-CRON", 3):
            debugSettings.isCronPaused = request.isTrue(2)
            client.pointee.reply.ok()
        case ("SET-DISABLE-DENY-SCRIPTS", 3):
            debugSettings.allowsAnyCommandInScripts = request.isTrue(2)
            client.pointee.reply.ok()
        case ("SLEEP", 3):
            sleep(seconds: parseDouble(request[2]) ?? 0)
            client.pointee.reply.ok()
        case ("CONFIG-REWRITE-FORCE-ALL", 2):
            if let problem = services.rewriteConfiguration(configuration, true) {
                throw .message("ERR CONFIG-REWRITE-FORCE-ALL failed: \(problem)")
            }
            client.pointee.reply.ok()
        case ("LOG", 3):
            Log.warning("DEBUG LOG: \(String(bytes: request[2]))")
            client.pointee.reply.ok()
        case ("ERROR", 3): debugError(request, client)
        case ("PROTOCOL", 3): try Self.debugProtocol(request, &client.pointee.reply)
        case ("REPLICATE", 3...):
            keyspace.propagation.append(database: keyspace.selected, arguments: (2..<request.count).map { request[$0] })
            client.pointee.reply.ok()
        case ("DROP-CLUSTER-PACKET-FILTER", 3):
            let kind = try request.integer(at: 2)
            guard isClustered else { return client.pointee.reply.ok() }
            effects.append(
                .cluster(ClusterRequest(["debug-drop-packets", String(kind)]), token: parkForAnswer(client)))

        // Of no effect here, and harmless to tests that set them.
        case ("REPLYBUFFER", 4), ("DICT-RESIZING", 3): client.pointee.reply.ok()
        case ("QUICKLIST-PACKED-THRESHOLD", 3): client.pointee.reply.ok()

        // Ways to die.
        case ("SEGFAULT", 2): UnsafeMutablePointer<UInt8>(bitPattern: 1)?.pointee = 0
        case ("PANIC", 2): fatalError("DEBUG PANIC called at Unix time \(time.unixSeconds)")
        case ("ASSERT", 2): preconditionFailure("DEBUG ASSERT called")
        case ("OOM", 2): fatalError("Out of memory, as DEBUG OOM asked for")

        default: throw request.unknownSubcommand
        }
    }

    // MARK: Looking

    private func debugObject(_ request: Request, _ client: ClientPointer) throws(ReplyError) {
        guard let entry = keyspace.entryEvenIfExpired(keyspace.key(request[2])) else { throw .noSuchKey }
        var encoder = RDBEncoder()
        encoder.appendDump(RDBValue(of: entry))
        // Without type, version and checksum.
        let count = encoder.output.count - 11
        let address = String(UInt(bitPattern: entry.pointer), radix: 16)
        client.pointee.reply.simple(
            "Value at:0x\(address) refcount:\(entry.referenceCount) encoding:\(entry.encodingName) "
                + "serializedlength:\(count) lru:\(entry.accessClock) lru_seconds_idle:\(keyspace.idleSeconds(entry))")
    }

    private func debugStringLengths(_ request: Request, _ client: ClientPointer) throws(ReplyError) {
        guard let entry = keyspace.entryEvenIfExpired(keyspace.key(request[2])) else { throw .noSuchKey }
        guard entry.isString, case .bytes(let bytes) = entry.string else {
            throw .text("ERR Not an sds encoded string.")
        }
        client.pointee.reply.simple(
            "key_sds_len:\(entry.keyCount), key_sds_avail:0, key_zmalloc: \(entry.keyCount), "
                + "val_sds_len:\(bytes.count), val_sds_avail:0, val_zmalloc: \(entry.memoryBytes - entry.keyCount)")
    }

    private func debugTables(_ request: Request, _ client: ClientPointer) throws(ReplyError) {
        let number = try request.integer(at: 2)
        guard number >= 0, number < keyspace.databaseCount else { throw .text("ERR Out of range database") }
        let database = Int(number)
        let places = keyspace.placeCounts(database: database)
        func table(_ title: String, places: Int, entries: Int) -> String {
            guard entries > 0 else { return "[\(title)]\nNo stats available for empty dictionaries\n" }
            return """
                [\(title)]
                Hash table 0 stats (main hash table):
                 table size: \(places)
                 number of elements: \(entries)

                """
        }
        client.pointee.reply.verbatim(
            table("Dictionary HT", places: places.keys, entries: keyspace.keyCount(database: database))
                + table("Expires HT", places: places.volatileKeys, entries: keyspace.volatileCount(database: database)))
    }

    /// Random patterns against random texts: nothing but the end is looked at.
    private mutating func matchRandomPatterns() {
        func random(_ alphabet: [UInt8], _ random: inout PRNG) -> [UInt8] {
            (0..<random.below(128)).map { _ in alphabet[random.below(alphabet.count)] }
        }
        for _ in 0..<10_000 {
            let pattern = random(Array("*?[]^-\\ab0".utf8), &keyspace.random)
            let text = random(Array("ab0-".utf8), &keyspace.random)
            _ = pattern.withUnsafeBytes { pattern in
                text.withUnsafeBytes { globMatches(pattern: pattern, text: $0) }
            }
        }
    }

    // MARK: Changing data

    /// Runs without a trace in the log and without counting changes.
    private mutating func quietly(_ body: (inout Keyspace) throws(ReplyError) -> Void) throws(ReplyError) {
        let changes = keyspace.changes
        let isOn = keyspace.propagation.isOn
        keyspace.propagation.isOn = false
        defer {
            keyspace.changes = changes
            keyspace.propagation.isOn = isOn
        }
        try body(&keyspace)
    }

    private mutating func debugPopulate(_ request: Request, _ client: ClientPointer) throws(ReplyError) {
        func positive(_ index: Int) throws(ReplyError) -> Int {
            guard let number = parseInt64(request[index]), number >= 0 else {
                throw .text("ERR value is out of range, must be positive")
            }
            return Int(number)
        }
        let count = try positive(2)
        let size = request.count == 5 ? try positive(4) : 0
        guard keyspace.allowsString(bytes: size) else { throw .stringTooLong }
        let prefix = request.count >= 4 ? Array(request[3].cString) : Array("key".utf8)
        // As much as fits into the buffer that Redis makes the key in.
        let keyBytesMax = 127
        try quietly { keyspace throws(ReplyError) in
            for number in 0..<count {
                let name = (prefix + Array(":\(number)".utf8)).prefix(keyBytesMax)
                var value = Array("value:\(number)".utf8)
                if size > 0 {
                    value = Array(value.prefix(size))
                    value += repeatElement(0, count: size - value.count)
                }
                Array(name).withUnsafeBytes { name in
                    let key = keyspace.key(name)
                    guard keyspace.lookupWrite(key) == nil else { return }
                    value.withUnsafeBytes { keyspace.setString(key, $0) }
                }
            }
        }
        client.pointee.reply.ok()
    }

    /// Sends the data through the RDB format and back. There is no file: what would be in it stays in memory.
    private mutating func debugReload(_ request: Request, _ client: ClientPointer) throws(ReplyError) {
        var flushes = true
        var merges = false
        for index in 2..<max(request.count, 2) {
            if request.matches(index, "MERGE") {
                merges = true
            } else if request.matches(index, "NOFLUSH") {
                flushes = false
            } else if request.matches(index, "NOSAVE") {
                throw .text("ERR Error trying to load the RDB dump")
            } else {
                throw .text("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.")
            }
        }
        let libraries = functionLibraries
        if !flushes, !merges, keyspace.totalKeyCount > 0 || !libraries.isEmpty {
            throw .text("ERR Error trying to load the RDB dump")
        }
        var texts: [[UInt8]] = []
        try quietly { keyspace throws(ReplyError) in
            var encoder = RDBEncoder()
            keyspace.write(to: &encoder, libraries)
            if flushes {
                for database in 0..<keyspace.databaseCount where keyspace.keyCount(database: database) > 0 {
                    _ = keyspace.flush(database: database)
                }
            }
            do throws(RDBError) {
                texts = try keyspace.read(encoder.output.bytes)
            } catch {
                throw .message("ERR Error trying to load the RDB dump: \(error)")
            }
        }
        if flushes { functions = nil }
        for text in texts {
            do throws(FunctionError) {
                try loadLibrary(text, replaces: merges)
            } catch {
                throw .message("ERR Error trying to load the RDB dump: \(error.text)")
            }
        }
        Log.warning("DB reloaded by DEBUG RELOAD")
        client.pointee.reply.ok()
    }

    // MARK: Time

    /// Stops this thread, and the node's clock goes on as far.
    private mutating func sleep(seconds: Double) {
        guard seconds > 0 else { return }
        // A day is enough for any test, and cannot overflow.
        let microseconds = Int64(min(seconds, 86_400) * 1_000_000)
        services.sleep(microseconds)
        // For a script no time passes.
        let now = keyspace.now
        defer { if keyspace.isInScript { keyspace.now = now } }
        beginTurn(
            NodeTime(
                monotonicMicroseconds: time.monotonicMicroseconds + microseconds,
                unixMicroseconds: time.unixMicroseconds + microseconds))
    }

    // MARK: Replies

    /// The text is the whole error line.
    private func debugError(_ request: Request, _ client: ClientPointer) {
        let line = request[2].map { $0 == 13 || $0 == 10 ? 32 : $0 }
        client.pointee.reply.append("-")
        client.pointee.reply.append(line)
        client.pointee.reply.append("\r\n")
    }

    private static func debugProtocol(_ request: Request, _ reply: inout ReplyBuffer) throws(ReplyError) {
        switch String(bytes: request[2]).lowercased() {
        case "string": reply.bulk("Hello World")
        case "integer": reply.integer(12345)
        case "double": reply.double(3.141)
        case "bignum": reply.bigNumber("1234567999999999999999999999999999999")
        case "null": reply.null()
        case "array":
            reply.array(3)
            for number in 0..<3 { reply.integer(number) }
        case "set":
            reply.set(3)
            for number in 0..<3 { reply.integer(number) }
        case "map":
            reply.map(3)
            for number in 0..<3 {
                reply.integer(number)
                reply.boolean(number == 1)
            }
        case "attrib":
            if reply.isRESP3 {
                reply.attribute(1)
                reply.bulk("key-popularity")
                reply.array(2)
                reply.bulk("key:123")
                reply.integer(90)
            }
            // An attribute is no reply.
            reply.bulk("Some real reply following the attribute")
        case "push":
            guard reply.isRESP3 else { throw .text("ERR RESP2 is not supported by this command") }
            reply.push(2)
            reply.bulk("server-cpu-usage")
            reply.integer(42)
            // Neither is a push.
            reply.bulk("Some real reply following the push reply")
        case "true": reply.boolean(true)
        case "false": reply.boolean(false)
        case "verbatim": reply.verbatim("This is a verbatim\nstring")
        default:
            throw .text(
                """
                ERR Wrong protocol type name. Please use one of the following: \
                string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false
                """)
        }
    }

    private static let debugHelp: [StaticString] = [
        "ASSERT",
        "    Crash by assertion failed.",
        "CONFIG-REWRITE-FORCE-ALL",
        "    Like CONFIG REWRITE, but write all directives, also those at their defaults.",
        "DIGEST",
        "    Output a hex signature representing the current DB content.",
        "DIGEST-VALUE <key> [<key> ...]",
        "    Output a hex signature of the values of all the specified keys.",
        "ERROR <string>",
        "    Return a Redis protocol error with <string> as message. Useful for clients",
        "    unit tests to simulate Redis errors.",
        "LOG <message>",
        "    Write <message> to the server log.",
        "HTSTATS <dbid>",
        "    Return hash table statistics of the specified Redis database.",
        "HTSTATS-KEY <key>",
        "    Like HTSTATS but for the hash table stored at <key>'s value.",
        "INVARIANTS",
        "    Check every structural rule of all data. The server ends if one is broken.",
        "REPLICATE <string>",
        "    Replicates the provided string to replicas, allowing data divergence.",
        "OBJECT <key>",
        "    Show low level info about `key` and associated value.",
        "DROP-CLUSTER-PACKET-FILTER <packet-type>",
        "    Drop all packets that match the filtered type. Set to -1 allow all packets.",
        "OOM",
        "    Crash the server simulating an out-of-memory error.",
        "PANIC",
        "    Crash the server simulating a panic.",
        "POPULATE <count> [<prefix>] [<size>]",
        "    Create <count> string keys named key:<num>. If <prefix> is specified then",
        "    it is used instead of the 'key' prefix. These are not propagated to",
        "    replicas. Cluster slots are not respected so keys not belonging to the",
        "    current node can be created in cluster mode.",
        "PROTOCOL <type>",
        "    Reply with a test value of the specified type. <type> can be: string,",
        "    integer, double, bignum, null, array, set, map, attrib, push, verbatim,",
        "    true, false.",
        "RELOAD [option ...]",
        "    Send all data through the RDB format and back. Valid <option> values:",
        "    * MERGE: conflicting keys will be replaced.",
        "    * NOFLUSH: the existing database will not be removed before.",
        "SDSLEN <key>",
        "    Show low level string info representing `key` and value.",
        "SEGFAULT",
        "    Crash the server with sigsegv.",
        "SET-ACTIVE-EXPIRE <0|1>",
        "    Setting it to 0 disables expiring keys in background when they are not",
        "    accessed (otherwise the Redis behavior). Setting it to 1 reenables back the",
        "    default.",
        "SLEEP <seconds>",
        "    Stop the server for <seconds>. Decimals allowed.",
        "STRINGMATCH-TEST",
        "    Run a fuzz tester against the glob matcher.",
        "PAUSE-CRON <0|1>",
        "    Stop periodic cron job processing.",
    ]
}

extension Request {
    /// Whether an argument is a number other than 0, as C's `atoi` reads it.
    fileprivate func isTrue(_ index: Int) -> Bool {
        var digits = self[index][...]
        if let sign = digits.first, sign == UInt8(ascii: "-") || sign == UInt8(ascii: "+") {
            digits = digits.dropFirst()
        }
        return digits.prefix { $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }.contains { $0 != UInt8(ascii: "0") }
    }
}

extension Keyspace {
    /// Everything as one RDB stream.
    fileprivate mutating func write(to encoder: inout RDBEncoder, _ libraries: [FunctionLibrary]) {
        let previous = selected
        defer { selected = previous }
        encoder.appendHeader()
        for library in libraries { library.code.withUnsafeBytes { encoder.append(function: $0) } }
        for database in 0..<databaseCount where keyCount(database: database) > 0 {
            selected = database
            encoder.append(selectDatabase: database)
            encoder.append(keyCount: keyCount(database: database), expiryCount: volatileCount(database: database))
            var cursor: UInt64 = 0
            repeat {
                var found: [Entry] = []
                cursor = scan(cursor: cursor) { found.append($0) }
                for entry in found {
                    encoder.append(key: entry.key, RDBValue(of: entry), expireAtMilliseconds: entry.expiry)
                }
            } while cursor != 0
        }
        encoder.appendEnd()
    }

    /// Adds the keys of an RDB stream. Those whose time has passed are left out where this node decides.
    /// - Returns: the texts of the function libraries in it.
    fileprivate mutating func read(_ stream: UnsafeRawBufferPointer) throws(RDBError) -> [[UInt8]] {
        let previous = selected
        defer { selected = previous }
        var libraries: [[UInt8]] = []
        var decoder = RDBDecoder(stringBytesMax: Self.stringBytesLimit)
        decoder.members = members
        let pieceBytes = 1 << 20
        for start in stride(from: 0, to: stream.count, by: pieceBytes) {
            decoder.feed(UnsafeRawBufferPointer(rebasing: stream[start..<min(start + pieceBytes, stream.count)]))
            while let item = try decoder.next() {
                switch item {
                case .selectDatabase(let database):
                    selected = database
                    decoder.members = members
                case .entry(let entry): insert(entry)
                case .function(let text): libraries.append(Array(text))
                case .header, .aux, .sizes, .slotInfo, .slotImport, .end: break
                }
            }
        }
        try decoder.finish()
        return libraries
    }

    private mutating func insert(_ entry: RDBEntry) {
        if let expiry = entry.expireAtMilliseconds, expiry < now, expiryMode == .delete {
            if case .container(let container) = entry.value { discard(container) }
            return
        }
        set(key(entry.key), entry.value, expiry: entry.expireAtMilliseconds.map { .set($0) } ?? .remove)
    }
}
