import MartletBase

// Hashes: fields with values.
//
// A small hash is a listpack in which fields and values alternate. A large one is a ``FieldTable``: one entry for each
// field, the field being the entry's key and the value its string. So is every hash in which a field expires, as in
// Valkey 9: listpacks have no place for times.
//
// A field whose time has passed is there until it is deleted: by the cycle (Keyspace+FieldExpiry.swift), or by a command
// that changes the hash where this node decides. Until then reads do not see it, except that the number of fields counts
// it, as in Valkey. Replicas hide such fields and wait for the HDEL; the replication stream sees them.

/// A hash, attached to a key or not. Whoever changes one that is attached writes its ``container`` back into the entry.
package struct HashValue {
    package private(set) var container: Container
    private let store: MemberStorePointer
    /// Fields whose time is earlier are hidden. Unix time in milliseconds.
    private let hiddenBefore: Int64

    /// - Parameter hiddenBefore: see ``Keyspace/fieldsHiddenBefore``.
    package init(_ container: Container, _ store: MemberStorePointer, hiddenBefore: Int64 = .min) {
        self.container = container
        self.store = store
        self.hiddenBefore = hiddenBefore
    }

    /// An empty hash that belongs to no key.
    package static func make(_ store: MemberStorePointer) -> HashValue {
        HashValue(Container(type: .hash, encoding: .listpack, pointer: Listpack.make().pointer), store)
    }

    @inline(__always) private var isListpack: Bool { container.encoding == .listpack }
    @inline(__always) private var listpack: Listpack { Listpack(container.pointer) }
    @inline(__always) private var table: FieldTable.Pointer { container.fieldTable }

    @inline(__always) private func hides(_ field: Entry) -> Bool { field.isExpired(at: hiddenBefore) }

    // MARK: Read

    /// Fields, hidden ones included. - Complexity: O(1)
    package var count: Int { container.count }

    /// Fields that are not hidden. - Complexity: O(1), or O(fields that expire) if one can be over
    package var visibleCount: Int { isListpack ? count : count - table.pointee.countDue(at: hiddenBefore) }

    /// - Complexity: O(n) of a small hash, O(1) of a large one
    @inline(__always)
    package func value(of field: UnsafeRawBufferPointer) -> StringView? {
        if isListpack {
            let listpack = listpack
            guard let position = listpack.find(field, from: listpack.first, skipping: 1),
                let value = listpack.next(after: position)
            else { return nil }
            return listpack.value(at: value)
        }
        guard let entry = table.pointee.fields.find(field), !hides(entry) else { return nil }
        return entry.string
    }

    package enum Lifetime: Equatable {
        case missing
        case unlimited
        /// Unix time in milliseconds.
        case until(Int64)
    }

    package func lifetime(of field: UnsafeRawBufferPointer) -> Lifetime {
        if isListpack { return value(of: field) == nil ? .missing : .unlimited }
        guard let entry = table.pointee.fields.find(field), !hides(entry) else { return .missing }
        return entry.expiry.map { .until($0) } ?? .unlimited
    }

    /// Whether a member that a walk has met is hidden. - Precondition: the hash is a table.
    package func isHidden(_ field: Entry) -> Bool { hides(field) }

    /// Visits the fields that are not hidden: of a small hash in the order in which they came, of a large one in hash order.
    @inline(__always)
    package func forEach(_ visit: (_ field: StringView, _ value: StringView) -> Void) {
        if isListpack {
            let listpack = listpack
            var position = listpack.first ?? listpack.byteCount - 1
            while let field = listpack.read(&position), let value = listpack.read(&position) { visit(field, value) }
        } else {
            table.pointee.fields.forEach { field in if !hides(field) { visit(.bytes(field.key), field.string) } }
        }
    }

    /// One of the fields that are not hidden, each with about the same chance; nil if there is none.
    package func randomField(_ random: inout PRNG) -> (field: StringView, value: StringView)? {
        if isListpack {
            guard count > 0 else { return nil }
            var position = listpack.position(at: random.below(count) * 2).unsafelyUnwrapped
            guard let field = listpack.read(&position), let value = listpack.read(&position) else { return nil }
            return (field, value)
        }
        // Nearly all may be hidden: then they are gone through. (maxtries in hashTypeRandomElement)
        for _ in 0..<100 {
            guard let entry = table.pointee.fields.randomEntry(&random) else { return nil }
            if !hides(entry) { return (.bytes(entry.key), entry.string) }
        }
        var found: (StringView, StringView)?
        forEach { field, value in if found == nil { found = (field, value) } }
        return found
    }

    // MARK: Change

    /// Sets a field. - Returns: whether it is new.
    ///
    /// - Complexity: O(n) of a small hash, O(1) of a large one; O(n) when one becomes the other
    @inline(__always)
    package mutating func set(
        _ field: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, expiry: ExpiryChange = .remove
    ) -> Bool {
        if isListpack {
            let limit = store.pointee.limits.hashListpackValueBytes
            if field.count <= limit, value.count <= limit, !Self.setsTime(expiry) { return setInListpack(field, value) }
            convertToTable()
        }
        return setInTable(field, value, expiry)
    }

    @inline(__always)
    private static func setsTime(_ change: ExpiryChange) -> Bool {
        if case .set = change { return true }
        return false
    }

    /// The length and back length of two elements, whatever is in them.
    private static let elementOverheadBytes = 2 * (5 + 5)

    private mutating func setInListpack(_ field: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool {
        var listpack = listpack
        guard Listpack.safeToAdd(field.count + value.count + Self.elementOverheadBytes, to: listpack) else {
            convertToTable()
            return setInTable(field, value, .remove)
        }
        var isNew = true
        if let position = listpack.find(field, from: listpack.first, skipping: 1),
            let old = listpack.next(after: position)
        {
            listpack.replace(at: old, with: value)
            isNew = false
        } else {
            listpack.append(field, value)
        }
        container.pointer = listpack.pointer
        // Not only of a new field: the limit may have been lowered.
        if listpack.count / 2 > store.pointee.limits.hashListpackEntries { convertToTable() }
        return isNew
    }

    private func setInTable(
        _ field: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, _ change: ExpiryChange
    ) -> Bool {
        let place = table.pointee.fields.place(of: field)
        let isNew = place.map { hides($0.pointee) } ?? true
        let expiry: Int64?
        switch change {
        case .remove: expiry = nil
        case .keep: expiry = isNew ? nil : place?.pointee.expiry
        case .set(let time): expiry = time
        }
        let view = Self.view(value)
        if let place {
            table.pointee.replace(at: place, with: view, expiry: expiry)
        } else {
            table.pointee.insert(field, view, expiry: expiry)
        }
        return isNew
    }

    /// The value as entries keep it: an integer if it reads back the same.
    private static func view(_ value: UnsafeRawBufferPointer) -> StringView {
        if value.count <= int64DecimalBytesMax, let number = parseInt64(value) { return .integer(number) }
        return .bytes(value)
    }

    /// - Returns: whether there was such a field, not hidden. One that is hidden stays.
    package mutating func remove(_ field: UnsafeRawBufferPointer) -> Bool {
        if isListpack {
            var listpack = listpack
            guard let position = listpack.find(field, from: listpack.first, skipping: 1) else { return false }
            listpack.removeRange(from: position, count: 2)
            container.pointer = listpack.pointer
            return true
        }
        guard let place = table.pointee.fields.place(of: field), !hides(place.pointee) else { return false }
        table.pointee.remove(at: place)
        return true
    }

    /// Sets the time to live of a field that is there and not hidden. The hash becomes a table.
    ///
    /// - Parameter expiry: Unix time in milliseconds; nil to keep the field for good.
    package mutating func setExpiry(_ field: UnsafeRawBufferPointer, _ expiry: Int64?) {
        if isListpack {
            if expiry == nil { return }
            convertToTable()
        }
        guard let place = table.pointee.fields.place(of: field) else { return }
        table.pointee.setExpiry(at: place, expiry)
    }

    /// - Complexity: O(n)
    private mutating func convertToTable() {
        let table = FieldTable.make(store)
        let listpack = listpack
        forEach { field, value in
            field.withBytes { table.pointee.insert($0, value, expiry: nil) }
        }
        listpack.destroy()
        container.encoding = .hashtable
        container.pointer = UnsafeMutableRawPointer(table)
    }

    // MARK: From outside

    /// A hash of the bytes of a listpack. - Returns: nil if they are not one, or a field is in it twice.
    ///
    /// - Complexity: O(n log n)
    package static func make(listpack bytes: UnsafeRawBufferPointer, _ store: MemberStorePointer) -> HashValue? {
        guard Listpack.isValid(bytes, deep: true) else { return nil }
        let listpack = Listpack(copying: bytes)
        var hash = HashValue(Container(type: .hash, encoding: .listpack, pointer: listpack.pointer), store)
        let count = listpack.count
        guard count % 2 == 0, !listpack.hasDuplicates(skipping: 1, seed: store.pointee.seed) else {
            listpack.destroy()
            return nil
        }
        if count / 2 > store.pointee.limits.hashListpackEntries { hash.convertToTable() }
        return hash
    }
}

extension Container {
    /// - Precondition: a hash that is a table.
    @inline(__always) var fieldTable: FieldTable.Pointer { pointer.assumingMemoryBound(to: FieldTable.self) }

    /// Visits all fields of a hash, hidden ones included, with their times.
    package func forEachField(_ visit: (_ field: StringView, _ value: StringView, _ expiry: Int64?) -> Void) {
        if encoding == .listpack {
            var values = Listpack(pointer).values
            while let field = values.next(), let value = values.next() { visit(field, value, nil) }
        } else {
            fieldTable.pointee.fields.forEach { visit(.bytes($0.key), $0.string, $0.expiry) }
        }
    }

    /// Whether this is a hash of which a field has a time to live.
    package var hasExpiringFields: Bool {
        type == .hash && encoding == .hashtable && fieldTable.pointee.expiring.count > 0
    }
}

extension Listpack {
    /// Whether one of the elements that are compared is there twice: all of them, or every other one.
    ///
    /// - Parameter skip: how many elements to pass over between those that are compared.
    /// - Complexity: O(n log n)
    func hasDuplicates(skipping skip: Int, seed: HashSeed) -> Bool {
        let count = (count + skip) / (skip + 1)
        guard count > 1 else { return false }
        // Hashes of 64 bits with a secret key differ if the elements do.
        return withUnsafeTemporaryAllocation(of: UInt64.self, capacity: count) { room in
            var hashes = room
            var (index, skipped) = (0, 0)
            for value in values {
                if skipped > 0 {
                    skipped -= 1
                    continue
                }
                skipped = skip
                hashes[index] = value.withBytes { sipHash13($0, seed: seed) }
                index += 1
            }
            hashes.sort()
            for index in 1..<count where hashes[index] == hashes[index - 1] { return true }
            return false
        }
    }
}
