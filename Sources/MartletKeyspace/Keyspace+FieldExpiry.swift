import MartletBase

// Fields of hashes whose time has passed.
//
// A primary deletes them and says so in the log (HDEL): a command that is about to change a field deletes it first if it is
// over, so that it does the same on every replica; all others wait for the cycle. The cycle goes round the names of hashes
// in which something expires. That index is made of names, not of entries, and nobody takes a name out but the cycle, when
// it finds that there is nothing to do for it any more: so keys that are deleted, replaced or renamed need not know of it.
//
// A replica hides what is over and waits. What it applies from its primary's stream sees every field.

struct FieldExpiryCursor {
    var database = 0
    var position: UInt64 = 0
}

extension Keyspace {
    /// Fields whose time is earlier are not there for whoever asks. Unix time in milliseconds.
    @inline(__always)
    package var fieldsHiddenBefore: Int64 { expiryMode == .ignore ? .min : now }

    /// The hash of an entry in the selected database. - Precondition: the entry is a hash.
    @inline(__always)
    package mutating func hashValue(_ entry: Entry) -> HashValue {
        HashValue(entry.container, members, hiddenBefore: fieldsHiddenBefore)
    }

    /// Lets the cycle know of a hash in which a field expires.
    package mutating func noteFieldExpiry(_ entry: Entry) { noteFieldExpiry(entry, database: selected) }

    mutating func noteFieldExpiry(_ entry: Entry, database: Int) {
        guard entry.isOutside, !entry.isString, entry.container.hasExpiringFields else { return }
        let names = databases[database].expiringHashes
        guard names.pointee.find(entry.key) == nil else { return }
        let pool = databases[database].members.pointee.pool
        names.pointee.insert(.member(pool, entry.key, .integer(0), expiry: nil))
    }

    /// Deletes a field that a command is about to change if its time has passed and this node decides.
    ///
    /// - Returns: the entry; nil if the hash is empty now and the key deleted.
    package mutating func expireField(
        _ field: UnsafeRawBufferPointer, of key: Key, _ entry: Entry
    ) -> Entry? {
        guard expiryMode == .delete, entry.container.hasExpiringFields,
            let found = entry.container.fieldTable.pointee.fields.find(field), found.isExpired(at: now)
        else { return entry }
        var fields = [found]
        expire(&fields, of: entry, key)
        return peek(key)
    }

    /// One step of the cycle.
    ///
    /// - Parameter limit: look at no more than about this many hashes and fields.
    /// - Returns: how many fields were looked at where one could be over, and how many were.
    package mutating func expireFieldsCycle(limit: Int) -> (seen: Int, expired: Int) {
        var left = limit
        var (seen, expired, wraps) = (0, 0, 0)
        var names: [Entry] = []
        var due: [Entry] = []
        let previous = selected
        defer { selected = previous }
        while left > 0 {
            if fieldExpiryCursor.database >= databaseCount {
                fieldExpiryCursor = FieldExpiryCursor()
                wraps += 1
                if wraps > 1 { break }
            }
            selected = fieldExpiryCursor.database
            let index = databases[selected].expiringHashes
            names.removeAll(keepingCapacity: true)
            let next =
                index.pointee.count == 0
                ? nil : index.pointee.scan(from: fieldExpiryCursor.position) { names.append($0) }
            left -= names.count
            var isComplete = true
            for name in names {
                let key = Key(
                    bytes: name.key, hash: hash(name.key), table: isClustered ? HashSlot.of(name.key).index : 0)
                guard let entry = entryEvenIfExpired(key), !entry.isString, entry.container.hasExpiringFields else {
                    forget(name, index)
                    continue
                }
                guard expiryMode == .delete, !entry.isExpired(at: now) else { continue }
                let before = left
                if !entry.container.fieldTable.pointee.collectDue(at: now, limit: &left, into: &due) {
                    isComplete = false
                }
                seen += before - left
                expired += due.count
                if due.isEmpty { continue }
                expire(&due, of: entry, key)
            }
            // A hash with more to look at is visited again.
            if !isComplete { break }
            if let next {
                fieldExpiryCursor.position = next
            } else {
                fieldExpiryCursor = FieldExpiryCursor(database: fieldExpiryCursor.database + 1)
            }
        }
        return (seen, expired)
    }

    private func forget(_ name: Entry, _ index: UnsafeMutablePointer<MemberTable>) {
        guard let removed = index.pointee.remove(name.key) else { return }
        removed.destroy(index.pointee.pool)
    }

    /// Deletes fields, says so in the log, and deletes a hash that is empty then.
    private mutating func expire(_ fields: inout [Entry], of entry: Entry, _ key: Key) {
        willModify(entry)
        if propagation.isOn {
            propagation.append(
                database: selected, arguments: [StaticString("HDEL").bytes, entry.key] + fields.map(\.key))
        }
        let table = entry.container.fieldTable
        for field in fields {
            guard let place = table.pointee.fields.place(of: field.key) else { continue }
            table.pointee.remove(at: place)
        }
        statistics.expiredFields &+= fields.count
        fields.removeAll(keepingCapacity: true)
        didRemove(.hashExpired, key)
        guard table.pointee.fields.count == 0 else { return }
        let removed = databases[selected].remove(key, seed: seed)
        didRemove(.delete, key)
        if let removed { dispose(removed, database: selected) }
    }
}
