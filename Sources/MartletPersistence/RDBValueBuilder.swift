import MartletBase
import MartletKeyspace

// Values of many elements on their way in.
//
// What arrived is in a container already, so a value that drips in is never parsed twice, and memory only grows with bytes
// that are really there: the count that precedes the elements is believed by nobody. Whatever has been a block once (a
// ziplist, a listpack, an intset, a node of a list) comes as one string, which is validated before anything looks into it.
//
// Older forms become what the value would be if it were made now, by this server's own limits.

struct RDBValueBuilder {
    let type: RDBValueType
    private let store: MemberStorePointer
    /// Elements to come; nil while nothing was read.
    private var left: UInt64?
    private var hash: HashValue?
    private var set: SetMembers?
    private var sortedSet: SortedSetValue?
    private var list: ListValue?
    private var stream: RDBStreamBuilder?
    /// What the times of fields are relative to. (Redis 7.4)
    private var expiryBase: Int64 = 0

    init(_ type: RDBValueType, _ store: MemberStorePointer) throws(RDBReadFailure) {
        self.type = type
        self.store = store
        switch type {
        case .hash, .hashZipmap, .hashZiplist, .hashListpack, .hash2, .hashExpiring, .hashListpackExpiring: break
        case .set, .setIntset, .setListpack: break
        case .sortedSet, .sortedSet2, .sortedSetZiplist, .sortedSetListpack: break
        case .list, .listZiplist, .listQuicklist, .listQuicklist2: list = ListValue(limits: store.pointee.limits)
        case .streamListpacks, .streamListpacks2, .streamListpacks3: stream = RDBStreamBuilder(type)
        case .string, .modulePreRelease, .module2, .hashListpackExpiringPreRelease:
            throw .invalid(.unsupportedType(type))
        }
    }

    /// The value, which belongs to the caller from now on; nil if it has no elements, as values had that old bugs of Redis
    /// left behind.
    func take() -> Container? {
        // Streams may be empty.
        guard let container, container.count > 0 || container.type == .stream else {
            discard()
            return nil
        }
        return container
    }

    /// Gives back what was made of a value that will not be complete.
    func discard() { container?.destroy() }

    private var container: Container? {
        hash?.container ?? set?.container ?? sortedSet?.container ?? list?.container ?? stream?.container
    }

    /// Reads the next element; changes nothing if it is not complete.
    ///
    /// - Returns: whether it was the last one.
    mutating func step(
        _ reader: inout RDBReader, _ scratch: inout ByteBuffer, _ secondScratch: inout ByteBuffer
    ) throws(RDBReadFailure) -> Bool {
        switch type {
        case .hash, .hash2, .hashExpiring:
            guard left != nil else { return try begin(&reader) }
            try readField(&reader, &scratch, &secondScratch)
            return countDown()
        case .hashListpack:
            guard let made = HashValue.make(listpack: try reader.bytes(scratch: &scratch), store) else { throw corrupt }
            hash = made
            return true
        case .hashListpackExpiring:
            let base = try reader.littleEndianInt64()
            try readTriples(try reader.bytes(scratch: &scratch), base)
            return true
        case .hashZiplist:
            try readZiplistPairs(try reader.bytes(scratch: &scratch))
            return true
        case .hashZipmap:
            let bytes = try reader.bytes(scratch: &scratch)
            guard Zipmap.isValid(bytes, deep: true) else { throw corrupt }
            for (field, value) in Zipmap(bytes) { try add(field, value) }
            return true
        case .set:
            guard left != nil else { return try begin(&reader) }
            try add(member: try reader.bytes(scratch: &scratch))
            return countDown()
        case .setIntset:
            let bytes = try reader.bytes(scratch: &scratch)
            guard IntSet.isValid(bytes, deep: true) else { throw corrupt }
            set = SetMembers(IntSet(copying: bytes), store)
            return true
        case .setListpack:
            let bytes = try reader.bytes(scratch: &scratch)
            guard Listpack.isValid(bytes, deep: true) else { throw corrupt }
            let listpack = Listpack(copying: bytes)
            defer { listpack.destroy() }
            for member in listpack.values { try add(member: member) }
            return true
        case .sortedSet, .sortedSet2:
            guard left != nil else { return try begin(&reader) }
            try readMember(&reader, &scratch)
            guard countDown() else { return false }
            sortedSet?.compact()
            return true
        case .sortedSetListpack:
            guard let made = SortedSetValue.make(listpack: try reader.bytes(scratch: &scratch), store) else {
                throw corrupt
            }
            sortedSet = made
            return true
        case .sortedSetZiplist:
            try readZiplistMembers(try reader.bytes(scratch: &scratch))
            return true
        case .list:
            guard left != nil else { return try begin(&reader) }
            list?.push(try reader.bytes(scratch: &scratch), at: .tail)
            return countDown()
        case .listZiplist:
            try readZiplistNode(try reader.bytes(scratch: &scratch))
            return true
        case .listQuicklist:
            guard left != nil else { return try begin(&reader) }
            try readZiplistNode(try reader.bytes(scratch: &scratch))
            return countDown()
        case .listQuicklist2:
            guard left != nil else { return try begin(&reader) }
            try readNode(kind: try reader.length(), try reader.bytes(scratch: &scratch))
            return countDown()
        case .streamListpacks, .streamListpacks2, .streamListpacks3:
            return try stream?.step(&reader, &scratch) ?? true
        case .string, .modulePreRelease, .module2, .hashListpackExpiringPreRelease:
            throw .invalid(.unsupportedType(type))
        }
    }

    private var corrupt: RDBReadFailure { .invalid(.corruptValue(type)) }

    /// The count of elements, and what else precedes them.
    private mutating func begin(_ reader: inout RDBReader) throws(RDBReadFailure) -> Bool {
        let base = type == .hashExpiring ? try reader.littleEndianInt64() : 0
        left = try reader.length()
        expiryBase = base
        return left == 0
    }

    private mutating func countDown() -> Bool {
        guard let count = left else { return true }
        left = count - 1
        return count == 1
    }

    // MARK: - Lists

    private mutating func readNode(kind: UInt64, _ bytes: UnsafeRawBufferPointer) throws(RDBReadFailure) {
        switch kind {
        case RDBListNode.plain: list?.push(bytes, at: .tail)
        case RDBListNode.packed:
            guard Listpack.isValid(bytes, deep: true) else { throw corrupt }
            list?.append(node: Listpack(copying: bytes))
        default: throw corrupt
        }
    }

    /// A node, or a whole list, of before Redis 7.
    private mutating func readZiplistNode(_ bytes: UnsafeRawBufferPointer) throws(RDBReadFailure) {
        guard Ziplist.isValid(bytes, deep: true) else { throw corrupt }
        for value in Ziplist(bytes) { list?.push(value, at: .tail) }
    }

    // MARK: - Hashes

    private mutating func readField(
        _ reader: inout RDBReader, _ scratch: inout ByteBuffer, _ secondScratch: inout ByteBuffer
    ) throws(RDBReadFailure) {
        var expiry: Int64?
        if type == .hashExpiring { expiry = try absolute(try reader.length(), expiryBase) }
        let field = try reader.bytes(scratch: &scratch)
        let value = try reader.bytes(scratch: &secondScratch)
        if type == .hash2 {
            let time = try reader.littleEndianInt64()
            expiry = time == -1 ? nil : time
        }
        try add(field, value, expiry: expiry)
    }

    /// A time of Redis 7.4: 0 for none, else one more than the distance from the earliest time.
    private func absolute(_ time: UInt64, _ base: Int64) throws(RDBReadFailure) -> Int64? {
        guard time != 0 else { return nil }
        guard let distance = Int64(exactly: time - 1) else { throw corrupt }
        let (sum, overflow) = base.addingReportingOverflow(distance)
        guard !overflow else { throw corrupt }
        return sum
    }

    private mutating func add(
        _ field: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, expiry: Int64? = nil
    ) throws(RDBReadFailure) {
        if hash == nil { hash = .make(store) }
        let isNew = hash?.set(field, value, expiry: expiry.map { .set($0) } ?? .remove) ?? false
        guard isNew else { throw corrupt }
    }

    private mutating func readZiplistPairs(_ bytes: UnsafeRawBufferPointer) throws(RDBReadFailure) {
        guard Ziplist.isValid(bytes, deep: true) else { throw corrupt }
        var values = Ziplist(bytes).makeIterator()
        while let field = values.next() {
            guard let value = values.next() else { throw corrupt }
            try add(field, value)
        }
    }

    private mutating func add(
        _ field: StringView, _ value: StringView, expiry: Int64? = nil
    ) throws(RDBReadFailure) {
        var failure: RDBReadFailure?
        field.withBytes { field in
            value.withBytes { value in
                do throws(RDBReadFailure) { try add(field, value, expiry: expiry) } catch { failure = error }
            }
        }
        if let failure { throw failure }
    }

    /// Fields, values and times of Redis 7.4 in one listpack.
    private mutating func readTriples(_ bytes: UnsafeRawBufferPointer, _ base: Int64) throws(RDBReadFailure) {
        guard Listpack.isValid(bytes, deep: true) else { throw corrupt }
        let listpack = Listpack(copying: bytes)
        defer { listpack.destroy() }
        var values = listpack.values.makeIterator()
        while let field = values.next() {
            guard let value = values.next(), case .integer(let time) = values.next() else { throw corrupt }
            try add(field, value, expiry: time == 0 ? nil : time)
        }
    }

    // MARK: - Sets

    private mutating func add(member: UnsafeRawBufferPointer) throws(RDBReadFailure) {
        try add(member: .bytes(member))
    }

    private mutating func add(member: StringView) throws(RDBReadFailure) {
        if set == nil { set = SetMembers(store) }
        guard set?.insert(member) == true else { throw corrupt }
    }

    // MARK: - Sorted sets

    private mutating func readMember(
        _ reader: inout RDBReader, _ scratch: inout ByteBuffer
    ) throws(RDBReadFailure) {
        let member = try reader.bytes(scratch: &scratch)
        let score = type == .sortedSet ? try reader.decimalDouble() : try reader.littleEndianDouble()
        guard !score.isNaN else { throw corrupt }
        try add(member, score: score)
    }

    private mutating func add(_ member: UnsafeRawBufferPointer, score: Double) throws(RDBReadFailure) {
        // They do not come in ascending order: only a large set takes them at no cost.
        if sortedSet == nil { sortedSet = .makeLarge(store) }
        guard case .added? = sortedSet?.add(member, score: score) else { throw corrupt }
    }

    private mutating func readZiplistMembers(_ bytes: UnsafeRawBufferPointer) throws(RDBReadFailure) {
        guard Ziplist.isValid(bytes, deep: true) else { throw corrupt }
        var values = Ziplist(bytes).makeIterator()
        while let member = values.next() {
            guard let score = values.next() else { throw corrupt }
            var failure: RDBReadFailure?
            member.withBytes { member in
                do throws(RDBReadFailure) {
                    try add(member, score: SortedSetValue.score(score))
                } catch {
                    failure = error
                }
            }
            if let failure { throw failure }
        }
        sortedSet?.compact()
    }
}
