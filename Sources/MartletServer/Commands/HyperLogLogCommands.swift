import MartletBase
import MartletKeyspace
import MartletRESP

// HyperLogLogs: strings that count different elements. (hyperloglog.c)

extension CommandFamily {
    static let hyperLogLog = CommandFamily(.hyperloglog, [.pfadd, .pfcount, .pfmerge, .pfdebug, .pfselftest])
}

extension Command {
    static let pfadd = Command(
        "PFADD", since: "2.8.9", arity: .atLeast(2), flags: [.write, .denyOutOfMemory, .fast],
        keys: [.one(at: 1, [.readWrite, .insert])],
        arguments: "key [element...]",
        complexity: "O(1) to add every element.", summary: "Adds the specified elements to the specified HyperLogLog.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let key = request.firstKey
            let entry = keyspace.lookupWrite(key)
            let old = try entry.map { entry throws(ReplyError) in try entry.hyperLogLog }
            var raised = 0
            if let entry, let old, !HyperLogLog.isSparse(old) {
                for index in 2..<max(request.count, 2) {
                    let (register, value) = HyperLogLog.place(of: request[index])
                    guard let start = old.baseAddress, HyperLogLog.denseRegister(start, register) < value else {
                        continue
                    }
                    _ = HyperLogLog.raiseDense(keyspace.overwriteString(entry), register, to: value)
                    raised += 1
                }
                if raised > 0 { keyspace.didModify(.hyperLogLogAdd, key, changes: raised) }
                return reply.integer(raised > 0 ? 1 : 0)
            }
            var new = if let old { HyperLogLog(copying: old) } else { HyperLogLog() }
            let sparseBytesMax = keyspace.encodingLimits.hyperLogLogSparseBytes
            for index in 2..<max(request.count, 2) {
                guard let hasGrown = new.add(request[index], sparseBytesMax: sparseBytesMax) else { throw .corrupt }
                if hasGrown { raised += 1 }
            }
            let changes = raised + (old == nil ? 1 : 0)
            if changes > 0 {
                new.forgetCount()
                keyspace.setString(key, new.bytes, as: .raw, expiry: .keep, event: .hyperLogLogAdd)
                keyspace.changes &+= Int64(changes - 1)
            }
            reply.integer(changes > 0 ? 1 : 0)
        })

    static let pfcount = Command(
        "PFCOUNT", since: "2.8.9", arity: .atLeast(2), flags: [.readonly, .mayReplicate],
        keys: [
            KeySpec(
                [.readWrite, .access], begin: .index(1), find: .range(last: -1, step: 1, limit: 0),
                notes: "RW because it may change the internal representation of the key, and propagate to replicas")
        ],
        arguments: "key...",
        complexity: """
            O(1) with a very small average constant time when called with a single key. O(N) with N being the number of \
            keys, and much bigger constant times, when called with multiple keys.
            """,
        summary: "Return the approximated cardinality of the set(s) observed by the HyperLogLog at key(s).",
        run: .data { request, keyspace, reply throws(ReplyError) in
            if request.count > 2 {
                let union = Registers()
                for index in 1..<request.count { _ = try union.merge(request.key(at: index, in: keyspace), &keyspace) }
                return reply.integer(Int64(bitPattern: HyperLogLog.estimate(registers: union.values)))
            }
            let key = request.firstKey
            guard let entry = keyspace.lookupRead(key) else { return reply.integer(0) }
            let bytes = try entry.hyperLogLog
            if let count = HyperLogLog.rememberedCount(bytes) { return reply.integer(Int64(bitPattern: count)) }
            guard let count = HyperLogLog.estimate(bytes) else { throw .corrupt }
            // A change, so that replicas know the count as well.
            HyperLogLog.remember(count, in: keyspace.overwriteString(entry))
            keyspace.didModify(.unnamed, key)
            reply.integer(Int64(bitPattern: count))
        })

    static let pfmerge = Command(
        "PFMERGE", since: "2.8.9", arity: .atLeast(2), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 1, [.readWrite, .access, .insert]), .all(from: 2, [.readOnly, .access])],
        arguments: "destkey:key sourcekey:key#1...",
        complexity: "O(N) to merge N HyperLogLogs, but with high constant times.",
        summary: "Merge N different HyperLogLogs into a single one.",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let union = Registers()
            var isDense = false
            for index in 1..<request.count {
                if let bytes = try union.merge(request.key(at: index, in: keyspace), &keyspace) {
                    isDense = isDense || !HyperLogLog.isSparse(bytes)
                }
            }
            let target = request.firstKey
            let old = try keyspace.lookupWrite(target).map { entry throws(ReplyError) in try entry.hyperLogLog }
            var new = if let old { HyperLogLog(copying: old) } else { HyperLogLog() }
            // No need to go through the sparse form when the result will not be sparse.
            if isDense, !new.becomeDense() { throw .corrupt }
            let sparseBytesMax = keyspace.encodingLimits.hyperLogLogSparseBytes
            for register in 0..<HyperLogLog.registerCount where union.values[register] > 0 {
                guard new.raise(register, to: union.values[register], sparseBytesMax: sparseBytesMax) != nil else {
                    throw .corrupt
                }
            }
            new.forgetCount()
            keyspace.setString(target, new.bytes, as: .raw, expiry: .keep, event: .hyperLogLogAdd)
            reply.ok()
        })
}

/// Registers of one byte each: the highest of several HyperLogLogs.
private struct Registers: ~Copyable {
    let values: UnsafeMutablePointer<UInt8>

    init() {
        values = .allocate(capacity: HyperLogLog.registerCount)
        values.initialize(repeating: 0, count: HyperLogLog.registerCount)
    }

    deinit { values.deallocate() }

    /// - Returns: the bytes of the key; nil if it is missing, which counts as empty.
    func merge(_ key: Key, _ keyspace: inout Keyspace) throws(ReplyError) -> UnsafeRawBufferPointer? {
        guard let entry = keyspace.lookupRead(key) else { return nil }
        let bytes = try entry.hyperLogLog
        guard HyperLogLog.merge(bytes, into: values) else { throw .corrupt }
        return bytes
    }
}

extension Entry {
    /// The bytes of a HyperLogLog.
    fileprivate var hyperLogLog: UnsafeRawBufferPointer {
        get throws(ReplyError) {
            guard isString else { throw .wrongType }
            guard case .bytes(let bytes) = string, HyperLogLog.isValid(bytes) else {
                throw .text("WRONGTYPE Key is not a valid HyperLogLog string value.")
            }
            return bytes
        }
    }
}

extension ReplyError {
    fileprivate static let corrupt = ReplyError.text("INVALIDOBJ Corrupted HLL object detected")
}

// MARK: For tests

extension Command {
    static let pfdebug = Command(
        "PFDEBUG", since: "2.8.9", arity: .exactly(3), flags: [.write, .denyOutOfMemory, .admin],
        keys: [.one(at: 2, [.readWrite, .access])],
        arguments: "subcommand key",
        isInternal: true,
        complexity: "N/A", summary: "Internal commands for debugging HyperLogLog values",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let key = keyspace.key(request[2])
            guard let entry = keyspace.lookupWrite(key) else { throw .text("ERR The specified key does not exist") }
            let bytes = try entry.hyperLogLog
            let isSparse = HyperLogLog.isSparse(bytes)
            if request.matches(1, "GETREG") {
                let registers = Registers()
                guard HyperLogLog.merge(bytes, into: registers.values) else { throw .corrupt }
                if isSparse { try makeDense(key, bytes, &keyspace) }
                reply.array(HyperLogLog.registerCount)
                for register in 0..<HyperLogLog.registerCount { reply.integer(Int(registers.values[register])) }
            } else if request.matches(1, "DECODE") {
                guard isSparse else { throw .text("ERR HLL encoding is not sparse") }
                reply.bulk(HyperLogLog.description(ofSparse: bytes))
            } else if request.matches(1, "ENCODING") {
                if isSparse { reply.simple("sparse") } else { reply.simple("dense") }
            } else if request.matches(1, "TODENSE") {
                if isSparse { try makeDense(key, bytes, &keyspace) }
                reply.integer(isSparse ? 1 : 0)
            } else {
                throw .message("ERR Unknown PFDEBUG subcommand '\(ReplyError.quoted(request[1].cString))'")
            }
        })

    private static func makeDense(
        _ key: Key, _ bytes: UnsafeRawBufferPointer, _ keyspace: inout Keyspace
    ) throws(ReplyError) {
        var dense = HyperLogLog(copying: bytes)
        guard dense.becomeDense() else { throw .corrupt }
        keyspace.setString(key, dense.bytes, as: .raw, expiry: .keep, event: .unnamed)
    }

    static let pfselftest = Command(
        "PFSELFTEST", since: "2.8.9", arity: .exactly(1), flags: [.admin],
        isInternal: true,
        complexity: "N/A", summary: "An internal command for testing HyperLogLog values",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try testRegisters(&keyspace.random)
            try testEstimates(
                elementCount: 10_000_000, sparseBytesMax: keyspace.encodingLimits.hyperLogLogSparseBytes,
                &keyspace.random)
            reply.ok()
        })

    /// Every register keeps its value, whatever its neighbours are set to.
    private static func testRegisters(_ random: inout PRNG) throws(ReplyError) {
        let start = UnsafeMutableRawPointer.allocate(byteCount: HyperLogLog.denseBytes, alignment: 8)
        defer { start.deallocate() }
        start.initializeMemory(as: UInt8.self, repeating: 0, count: HyperLogLog.denseBytes)
        var expected = [UInt8](repeating: 0, count: HyperLogLog.registerCount)
        for _ in 0..<1000 {
            for register in expected.indices {
                expected[register] = UInt8(truncatingIfNeeded: random.next() & 63)
                HyperLogLog.setDenseRegister(start, register, to: expected[register])
            }
            for register in expected.indices {
                let found = HyperLogLog.denseRegister(start, register)
                guard found == expected[register] else {
                    throw .message(
                        "ERR TESTFAILED Register \(register) should be \(expected[register]) but is \(found)")
                }
            }
        }
    }

    /// Estimates are near the truth, and the same in both forms.
    private static func testEstimates(
        elementCount: UInt64, sparseBytesMax: Int, _ random: inout PRNG
    ) throws(ReplyError) {
        var dense = HyperLogLog()
        var sparse = HyperLogLog()
        guard dense.becomeDense() else { throw .corrupt }
        let seed = random.next()
        var checkpoint: UInt64 = 1
        for number in 1...elementCount {
            withUnsafeBytes(of: number ^ seed) { element in
                _ = dense.add(element, sparseBytesMax: 0)
                _ = sparse.add(element, sparseBytesMax: sparseBytesMax)
            }
            guard number == checkpoint else { continue }
            if number < UInt64(sparseBytesMax / 2), !sparse.isSparse {
                throw .text("ERR TESTFAILED sparse encoding not used")
            }
            guard let estimate = HyperLogLog.estimate(dense.bytes), estimate == HyperLogLog.estimate(sparse.bytes)
            else {
                throw .text("ERR TESTFAILED dense/sparse disagree")
            }
            // Six times the standard error of 1.04 / sqrt(registers); of ten elements two often share a register.
            let errorMax = number == 10 ? 1 : UInt64((1.04 / 128 * 6 * Double(number)).rounded(.up))
            let error = estimate > number ? estimate - number : number - estimate
            guard error <= errorMax else {
                throw .message("ERR TESTFAILED Too big error. card:\(number) abserr:\(error)")
            }
            checkpoint *= 10
        }
    }
}
