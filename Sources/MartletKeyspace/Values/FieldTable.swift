import MartletBase

/// The fields of a large hash, and an index of those that have a time to live.
///
/// Lives in memory of its own, as every ``MemberTable`` does. The index holds the same entries again, so that what is over
/// is found without a look at all fields: it is gone round a part at a time (``collectDue(at:limit:into:)``), and not at
/// all before the earliest time in it.
struct FieldTable: ~Copyable {
    private(set) var fields: MemberTable
    /// The fields that expire.
    private(set) var expiring = HashTable()
    /// No field's time is earlier. Unix time in milliseconds.
    private(set) var dueFrom = Int64.max
    /// Where the round through the index goes on, and the earliest time that it has met.
    private var roundPosition: UInt64 = 0
    private var roundDueFrom = Int64.max

    typealias Pointer = UnsafeMutablePointer<FieldTable>

    private init(_ store: MemberStorePointer) { fields = MemberTable(store) }

    static func make(_ store: MemberStorePointer) -> Pointer {
        let table = Memory.allocate(MemoryLayout<FieldTable>.size).bindMemory(to: FieldTable.self, capacity: 1)
        table.initialize(to: FieldTable(store))
        return table
    }

    /// Gives a table and its fields back. - Parameter membersAreFreed: the pool is about to be freed as a whole.
    static func free(_ table: Pointer, membersAreFreed: Bool) {
        table.pointee.expiring.removeAll { _ in }
        table.pointee.fields.destroy(membersAreFreed: membersAreFreed)
        table.deinitialize(count: 1)
        Memory.free(UnsafeMutableRawPointer(table), MemoryLayout<FieldTable>.size)
    }

    /// Bytes of the table without its fields.
    var tableBytes: Int {
        Memory.usableBytes(MemoryLayout<FieldTable>.size) + fields.tableBytes + expiring.tableBytes
    }

    @inline(__always) private var pool: Entry.Pool { fields.pool }
    @inline(__always) private var seed: HashSeed { fields.store.pointee.seed }
    private func hash(_ field: UnsafeRawBufferPointer) -> UInt64 { sipHash13(field, seed: seed) }

    // MARK: Change

    /// - Precondition: there is no such field.
    mutating func insert(_ field: UnsafeRawBufferPointer, _ value: StringView, expiry: Int64?) {
        let entry = Entry.member(pool, field, value, expiry: expiry)
        fields.insert(entry)
        if let expiry {
            expiring.insert(entry, hash: hash(field), seed: seed)
            noteExpiry(expiry)
        }
    }

    /// Gives a field that is there another value and time to live; where they fit, without new memory.
    mutating func replace(at place: UnsafeMutablePointer<Entry>, with value: StringView, expiry: Int64?) {
        let old = place.pointee
        if old.hasExpiry == (expiry != nil), old.overwrite(value) {
            if let expiry {
                old.storeExpiry(expiry)
                noteExpiry(expiry)
            }
            return
        }
        let new = Entry.member(pool, old.key, value, expiry: expiry)
        reindex(old, as: new)
        place.pointee = new
        old.destroy(pool)
    }

    /// - Parameter expiry: Unix time in milliseconds; nil to keep the field for good.
    mutating func setExpiry(at place: UnsafeMutablePointer<Entry>, _ expiry: Int64?) {
        let old = place.pointee
        if let expiry, old.hasExpiry {
            old.storeExpiry(expiry)
            noteExpiry(expiry)
        } else if old.hasExpiry != (expiry != nil) {
            let new = old.withExpiry(expiry, pool)
            reindex(old, as: new)
            place.pointee = new
            old.destroyShell(pool)
        }
    }

    mutating func remove(at place: UnsafeMutablePointer<Entry>) {
        let entry = fields.remove(at: place)
        if entry.hasExpiry { _ = expiring.remove(entry.key, hash: hash(entry.key), seed: seed) }
        entry.destroy(pool)
    }

    /// Moves a field to another place of the pool.
    mutating func relocate(_ entry: Entry) {
        reindex(entry, as: fields.relocate(entry))
        entry.destroyShell(pool)
    }

    private mutating func reindex(_ old: Entry, as new: Entry) {
        guard old.hasExpiry || new.hasExpiry else { return }
        let hash = hash(new.key)
        if !old.hasExpiry {
            expiring.insert(new, hash: hash, seed: seed)
        } else if new.hasExpiry {
            expiring.place(of: new.key, hash: hash).unsafelyUnwrapped.pointee = new
        } else {
            _ = expiring.remove(old.key, hash: hash, seed: seed)
        }
        if let expiry = new.expiry { noteExpiry(expiry) }
    }

    private mutating func noteExpiry(_ time: Int64) {
        dueFrom = min(dueFrom, time)
        roundDueFrom = min(roundDueFrom, time)
    }

    // MARK: Fields that are over

    /// How many fields are over. - Complexity: O(1) while none can be, else O(fields that expire)
    func countDue(at now: Int64) -> Int {
        guard dueFrom < now else { return 0 }
        var count = 0
        var position: UInt64? = 0
        while let current = position {
            position = expiring.scan(from: current) { if $0.isExpired(at: now) { count += 1 } }
        }
        return count
    }

    /// Looks through a part of the index. The caller removes what is due before it asks again.
    ///
    /// - Parameter limit: fields, about; reduced by those that were looked at.
    /// - Returns: whether the round is complete: until ``dueFrom`` there is nothing to find.
    mutating func collectDue(at now: Int64, limit: inout Int, into due: inout [Entry]) -> Bool {
        guard dueFrom < now else { return true }
        if roundPosition == 0 { roundDueFrom = .max }
        var earliest = roundDueFrom
        while limit > 0 {
            var seen = 0
            let next = expiring.scan(from: roundPosition) { entry in
                seen += 1
                guard let expiry = entry.expiry else { return }
                if expiry < now { due.append(entry) } else { earliest = min(earliest, expiry) }
            }
            limit -= seen + 1
            roundDueFrom = earliest
            roundPosition = next ?? 0
            if next == nil {
                dueFrom = roundDueFrom
                return true
            }
        }
        return false
    }

    // MARK: Life

    func copy(_ store: MemberStorePointer) -> Pointer {
        let copy = Self.make(store)
        fields.forEach { field in
            copy.pointee.adopt(field.copied(store.pointee.pool))
        }
        return copy
    }

    /// - Precondition: there is no such field.
    private mutating func adopt(_ entry: Entry) {
        fields.insert(entry)
        guard let expiry = entry.expiry else { return }
        expiring.insert(entry, hash: hash(entry.key), seed: seed)
        noteExpiry(expiry)
    }

    /// Frees some fields of a table that nobody uses any more; see ``MemberTable/freeSome(from:limit:)``.
    mutating func freeSome(from position: inout Int, limit: inout Int) -> Bool {
        while expiring.bucketCount > 0 {
            guard limit > 0 else { return false }
            let isDone = expiring.drain(from: &position, limit: 16) { _ in }
            limit -= 16
            if isDone { position = 0 }
        }
        return fields.freeSome(from: &position, limit: &limit)
    }

    func invariants() {
        fields.invariants()
        expiring.invariants(seed: seed)
        var count = 0
        fields.forEach { field in
            precondition(field.isString, "the value of a field is a string")
            guard let expiry = field.expiry else { return }
            count += 1
            precondition(
                expiring.find(field.key, hash: hash(field.key)) == field, "a field that expires is in the index")
            precondition(expiry >= dueFrom, "no field is due before the earliest time")
        }
        precondition(count == expiring.count, "nothing else is in the index")
    }
}

extension Entry {
    /// A member of a large value.
    ///
    /// - Parameter value: bytes that are no canonical integer, or an integer.
    static func member(_ pool: Pool, _ name: UnsafeRawBufferPointer, _ value: StringView, expiry: Int64?) -> Entry {
        switch value {
        case .integer(let number): return .integer(pool, key: name, number, expiry: expiry)
        case .bytes(let bytes): return .string(pool, key: name, bytes, expiry: expiry)
        }
    }

    /// Writes a string in the place of another if that takes no new memory. - Returns: whether it did.
    func overwrite(_ value: StringView) -> Bool {
        switch value {
        case .integer(let number):
            guard isInteger else { return false }
            storeInteger(number)
        case .bytes(let bytes):
            guard !isInteger, isInline, valueCount == bytes.count else { return false }
            if let base = bytes.baseAddress, bytes.count > 0 { payload.copyMemory(from: base, byteCount: bytes.count) }
        }
        return true
    }
}
