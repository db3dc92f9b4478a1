import MartletBase
import MartletKeyspace
import MartletRESP

// Strings as rows of bits and of small integers. (bitops.c)

extension CommandFamily {
    static let bitmap = CommandFamily(
        .bitmap, [.setbit, .getbit, .bitcount, .bitpos, .bitop, .bitfield, .bitfieldReadOnly])
}

// MARK: One bit

extension Command {
    static let setbit = Command(
        "SETBIT", since: "2.2.0", arity: .exactly(4), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 1, [.readWrite, .access, .update])],
        arguments: "key offset:integer value:integer",
        complexity: "O(1)", summary: "Sets or clears the bit at offset in the string value stored at key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let offset = try request.bitOffset(at: 2, in: keyspace)
            guard let bit = parseInt64(request[3]), bit == 0 || bit == 1 else {
                throw .text("ERR bit is not an integer or out of range")
            }
            let key = request.firstKey
            let (bytes, hasGrown) = try openBits(key, count: offset >> 3 + 1, &keyspace)
            let mask: UInt8 = 0x80 >> UInt8(offset & 7)
            let old = bytes[offset >> 3]
            let new = bit == 1 ? old | mask : old & ~mask
            if hasGrown || old != new {
                bytes[offset >> 3] = new
                keyspace.didModify(.setBit, key)
            }
            reply.integer(old & mask == 0 ? 0 : 1)
        })

    /// The bytes of a string of at least `count` bytes, for writing.
    private static func openBits(
        _ key: Key, count: Int, _ keyspace: inout Keyspace
    ) throws(ReplyError) -> (bytes: UnsafeMutableRawBufferPointer, hasGrown: Bool) {
        let entry = keyspace.lookupWrite(key)
        guard entry?.isString != false else { throw .wrongType }
        let used = entry?.stringCount ?? 0
        let start = keyspace.openString(key, entry, count: max(count, used))
        return (UnsafeMutableRawBufferPointer(start: start, count: max(count, used)), used < count)
    }

    static let getbit = Command(
        "GETBIT", since: "2.2.0", arity: .exactly(3), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key offset:integer",
        complexity: "O(1)", summary: "Returns the bit value at offset in the string value stored at key",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let offset = try request.bitOffset(at: 2, in: keyspace)
            guard let entry = try keyspace.readString(request.firstKey) else { return reply.integer(0) }
            let isSet = entry.withBytes { bytes in
                offset >> 3 < bytes.count && bytes[offset >> 3] & 0x80 >> UInt8(offset & 7) != 0
            }
            reply.integer(isSet ? 1 : 0)
        })
}

// MARK: Many bits

extension Command {
    static let bitcount = Command(
        "BITCOUNT", since: "2.6.0", arity: .atLeast(2), flags: [.readonly], keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key [index={start:integer end:integer [index_unit=<BYTE|BIT>@7.0.0]}]",
        history: [("7.0.0", "Added the `BYTE|BIT` option.")],
        complexity: "O(N)", summary: "Count set bits in a string",
        run: .data { request, keyspace, reply throws(ReplyError) in
            // A missing key hides every mistake in the arguments, as in Redis.
            guard let entry = try keyspace.readString(request.firstKey) else { return reply.integer(0) }
            if request.count == 2 { return reply.integer(entry.withBytes { Bitmap.countOnes(in: $0) }) }
            guard request.count == 4 || request.count == 5 else { throw .syntax }
            let start = try request.integer(at: 2)
            let end = try request.integer(at: 3)
            if start < 0, end < 0, start > end { return reply.integer(0) }
            let unit = request.count == 5 ? try request.bitsPerUnit(at: 4) : 8
            reply.integer(
                entry.withBytes { bytes in
                    guard let range = indexRange(start, end, of: bytes.count * 8 / unit) else { return 0 }
                    return Bitmap.countOnes(in: bytes, bits: bits(of: range, unit))
                })
        })

    static let bitpos = Command(
        "BITPOS", since: "2.8.7", arity: .atLeast(3), flags: [.readonly], keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key bit:integer [index={start:integer [end_index={end:integer [index_unit=<BYTE|BIT>@7.0.0]}]}]",
        history: [("7.0.0", "Added the `BYTE|BIT` option.")],
        complexity: "O(N)", summary: "Find first bit set or clear in a string",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let bit = try request.integer(at: 2)
            guard bit == 0 || bit == 1 else { throw .text("ERR The bit argument must be 1 or 0.") }
            // A missing key hides mistakes in the arguments behind the bit.
            guard let entry = keyspace.lookupRead(request.firstKey) else { return reply.integer(bit == 1 ? -1 : 0) }
            guard entry.isString else { throw .wrongType }
            guard request.count <= 6 else { throw .syntax }
            let start = request.count > 3 ? try request.integer(at: 3) : 0
            let unit = request.count > 5 ? try request.bitsPerUnit(at: 5) : 8
            let end = request.count > 4 ? try request.integer(at: 4) : nil
            reply.integer(
                entry.withBytes { bytes in
                    // Unlike BITCOUNT's, a range of which both ends are negative may not be the wrong way round here.
                    let count = Int64(bytes.count * 8 / unit)
                    let first = max(start < 0 ? start + count : start, 0)
                    let last = min(end.map { max($0 < 0 ? $0 + count : $0, 0) } ?? count, count - 1)
                    guard first <= last else { return -1 }
                    let range = bits(of: Int(first)...Int(last), unit)
                    if let position = Bitmap.first(bit == 1, in: bytes, bits: range) { return position }
                    // Without an end the string is followed by zeros.
                    return bit == 0 && end == nil ? bytes.count * 8 : -1
                })
        })

    /// - Parameter unit: bits per index of the range: 8 or 1.
    private static func bits(of range: ClosedRange<Int>, _ unit: Int) -> ClosedRange<Int> {
        range.lowerBound * unit...range.upperBound * unit + unit - 1
    }

    static let bitop = Command(
        "BITOP", since: "2.6.0", arity: .atLeast(4), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 2, [.overwrite, .update]), .all(from: 3, [.readOnly, .access])],
        arguments: "operation destkey:key key#1...",
        complexity: "O(N)", summary: "Perform bitwise operations between strings",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let operation = try bitOperation(request)
            let sources = UnsafeMutableBufferPointer<Entry?>.allocate(capacity: request.count - 3)
            sources.initialize(repeating: nil)
            defer { sources.deallocate() }
            var count = 0
            for index in sources.indices {
                let entry = try keyspace.readString(request.key(at: index + 3, in: keyspace))
                sources[index] = entry
                count = max(count, entry?.stringCount ?? 0)
            }
            let target = request.key(at: 2, in: keyspace)
            if count > 0 {
                let block = combine(operation, UnsafeBufferPointer(sources), count: count)
                keyspace.setString(target, block, event: .bitOperation)
            } else {
                _ = keyspace.delete(target)
            }
            reply.integer(count)
        })

    private static func bitOperation(_ request: Request) throws(ReplyError) -> BitOperation {
        if request.matches(1, "AND") { return .and }
        if request.matches(1, "OR") { return .or }
        if request.matches(1, "XOR") { return .xor }
        guard request.matches(1, "NOT") else { throw .syntax }
        guard request.count == 4 else { throw .text("ERR BITOP NOT must be called with a single source key.") }
        return .not
    }

    /// The combination of all sources; missing ones are empty. - Parameter count: length of the longest.
    private static func combine(
        _ operation: BitOperation, _ sources: UnsafeBufferPointer<Entry?>, count: Int
    ) -> StringBlock {
        let block = StringBlock(count: count)
        let result = UnsafeMutableRawBufferPointer(start: block.bytes, count: count)
        let empty = bytes("")
        let used = sources[0]?.stringCount ?? 0
        if let first = sources[0] { first.withBytes { result.copyMemory(from: $0) } }
        (block.bytes + used).initializeMemory(as: UInt8.self, repeating: 0, count: count - used)
        if operation == .not {
            Bitmap.combine(.not, empty, into: result)
            return block
        }
        for source in sources.dropFirst() {
            if let source {
                source.withBytes { Bitmap.combine(operation, $0, into: result) }
            } else {
                Bitmap.combine(operation, empty, into: result)
            }
        }
        return block
    }
}

// MARK: Fields of bits

extension Command {
    static let bitfield = Command(
        "BITFIELD", since: "3.2.0", arity: .atLeast(2), flags: [.write, .denyOutOfMemory],
        keys: [
            .one(
                at: 1, [.readWrite, .access, .update, .variableFlags],
                notes: "This command allows both access and modification of the key")
        ],
        arguments: """
            key [operation=<GET {encoding offset:integer}|write={[OVERFLOW <WRAP|SAT|FAIL>] write_operation=<SET \
            {encoding offset:integer value:integer}|INCRBY {encoding offset:integer increment:integer}>}>]...
            """,
        complexity: "O(1) for each subcommand specified",
        summary: "Perform arbitrary bitfield integer operations on strings",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try runBitfield(request, maySet: true, &keyspace, &reply)
        })

    static let bitfieldReadOnly = Command(
        "BITFIELD_RO", since: "6.0.0", arity: .atLeast(2), flags: [.readonly, .fast],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key [GET {encoding offset:integer}]+",
        complexity: "O(1) for each subcommand specified",
        summary: "Perform arbitrary bitfield integer operations on strings. Read-only variant of BITFIELD",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try runBitfield(request, maySet: false, &keyspace, &reply)
        })

    /// Reads the arguments twice, first to find every mistake before anything is done: so nothing has to be stored.
    private static func runBitfield(
        _ request: Request, maySet: Bool, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        var check = BitfieldArguments()
        var count = 0
        var writtenBytes = 0
        while let operation = try check.next(request, keyspace) {
            count += 1
            if case .get = operation.action { continue }
            writtenBytes = max(writtenBytes, (operation.offset + operation.type.bits - 1) >> 3 + 1)
        }
        guard writtenBytes > 0 else {
            let entry = try keyspace.readString(request.firstKey)
            reply.array(count)
            var arguments = BitfieldArguments()
            while let operation = try arguments.next(request, keyspace) {
                let value = entry?.withBytes { operation.type.load(from: $0, at: operation.offset) }
                reply.integer(value ?? 0)
            }
            return
        }
        guard maySet else { throw .text("ERR BITFIELD_RO only supports the GET subcommand") }
        let key = request.firstKey
        let (bytes, hasGrown) = try openBits(key, count: writtenBytes, &keyspace)
        var changes = 0
        reply.array(count)
        var arguments = BitfieldArguments()
        while let operation = try arguments.next(request, keyspace) {
            let old = operation.type.load(from: UnsafeRawBufferPointer(bytes), at: operation.offset)
            let new: Int64?
            let answer: Int64?
            switch operation.action {
            case .get:
                reply.integer(old)
                continue
            case .set(let value):
                new = operation.type.fit(value, operation.overflow)
                answer = new == nil ? nil : old
            case .increment(let increment):
                new = operation.type.add(increment, to: old, operation.overflow)
                answer = new
            }
            if let answer { reply.integer(answer) } else { reply.null() }
            guard let new, hasGrown || new != old else { continue }
            operation.type.store(new, in: bytes, at: operation.offset)
            changes += 1
        }
        if changes > 0 {
            keyspace.didModify(.setBit, key, changes: changes)
        } else if hasGrown {
            // Every value overflowed. The string has changed, but nobody is told.
            keyspace.didModify(.unnamed, key)
        }
    }
}

/// One operation of BITFIELD.
private struct BitfieldOperation {
    enum Action {
        case get
        case set(Int64)
        case increment(Int64)
    }

    var action: Action
    var type: BitfieldType
    /// In bits.
    var offset: Int
    var overflow: BitfieldOverflow
}

/// The operations of a BITFIELD request, one after the other.
private struct BitfieldArguments {
    private var index = 2
    private var overflow = BitfieldOverflow.wrap

    mutating func next(
        _ request: Request, _ keyspace: borrowing Keyspace
    ) throws(ReplyError) -> BitfieldOperation? {
        while index < request.count {
            let following = request.count - index - 1
            if request.matches(index, "OVERFLOW"), following >= 1 {
                overflow = try overflow(request, index + 1)
                index += 2
                continue
            }
            let isGet = request.matches(index, "GET") && following >= 2
            let isSet = request.matches(index, "SET") && following >= 3
            guard isGet || isSet || (request.matches(index, "INCRBY") && following >= 3) else { throw .syntax }
            let type = try type(request[index + 1])
            let offset = try request.bitOffset(at: index + 2, in: keyspace, unit: type.bits)
            if isGet {
                index += 3
                return BitfieldOperation(action: .get, type: type, offset: offset, overflow: overflow)
            }
            let value = try request.integer(at: index + 3)
            index += 4
            return BitfieldOperation(
                action: isSet ? .set(value) : .increment(value), type: type, offset: offset, overflow: overflow)
        }
        return nil
    }

    private func overflow(_ request: Request, _ index: Int) throws(ReplyError) -> BitfieldOverflow {
        if request.matches(index, "WRAP") { return .wrap }
        if request.matches(index, "SAT") { return .saturate }
        if request.matches(index, "FAIL") { return .fail }
        throw .text("ERR Invalid OVERFLOW type specified")
    }

    /// `i` or `u` and the number of bits. (getBitfieldTypeFromArgument)
    private func type(_ text: UnsafeRawBufferPointer) throws(ReplyError) -> BitfieldType {
        if let sign = text.first, sign == UInt8(ascii: "i") || sign == UInt8(ascii: "u"),
            let bits = parseInt64(UnsafeRawBufferPointer(rebasing: text.dropFirst())),
            bits >= 1, bits <= (sign == UInt8(ascii: "i") ? 64 : 63)
        {
            return BitfieldType(isSigned: sign == UInt8(ascii: "i"), bits: Int(bits))
        }
        throw .text(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.")
    }
}

// MARK: Arguments

extension Request {
    /// A position in bits within the longest possible string. (getBitOffsetFromArgument)
    ///
    /// - Parameter unit: `#n` stands for n times this many bits; 0 if that form is not allowed.
    fileprivate func bitOffset(
        at index: Int, in keyspace: borrowing Keyspace, unit: Int = 0
    ) throws(ReplyError) -> Int {
        var text = self[index]
        let isMultiple = unit > 0 && text.first == UInt8(ascii: "#")
        if isMultiple { text = UnsafeRawBufferPointer(rebasing: text.dropFirst()) }
        if let number = parseInt64(text) {
            let (offset, overflows) = Int(number).multipliedReportingOverflow(by: isMultiple ? unit : 1)
            if !overflows, offset >= 0, keyspace.allowsString(bytes: offset >> 3 + 1) { return offset }
        }
        throw .text("ERR bit offset is not an integer or out of range")
    }

    /// Whether a range is given in bits or bytes: 1 or 8.
    fileprivate func bitsPerUnit(at index: Int) throws(ReplyError) -> Int {
        if matches(index, "BIT") { return 1 }
        if matches(index, "BYTE") { return 8 }
        throw .syntax
    }
}
