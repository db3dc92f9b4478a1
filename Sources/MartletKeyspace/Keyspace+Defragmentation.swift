import MartletBase

// Filling up the gaps that deleted entries have left in slabs.
//
// A key's entry says by its name where its place is, so slabs of keys are emptied one after another
// (``Keyspace/emptySparseSlab()``). A member does not say whose it is: so all values are gone through, a bucket at a time,
// and the members that are met in sparse slabs are moved. They go into the fullest slab that has room, so sparse ones
// run empty in the course of a pass.
//
// A pass is no walk: values may come, go and change as they like. What comes behind the cursor waits for the next pass.

/// Where a pass over the members of all values stands.
struct MemberPass {
    var database = 0
    var table = 0
    var position: UInt64 = 0
    /// Names of the values in the bucket before the position that are still to be gone through, the next one last.
    var keys: [[UInt8]] = []
    /// In the value at hand.
    var memberPosition: UInt64 = 0
    /// Members to be moved; kept for its memory.
    var found: [Entry] = []

    mutating func endValue() {
        keys.removeLast()
        memberPosition = 0
    }

    mutating func endDatabase() {
        database += 1
        table = 0
        position = 0
    }
}

extension Keyspace {
    /// Goes on with a pass over the members of all values and moves those that stand in sparse slabs.
    ///
    /// - Parameter limit: look at about so many.
    /// - Returns: how many were moved; nil at the end of a pass.
    package mutating func moveMembers(limit: Int) -> Int? {
        let previous = selected
        defer { selected = previous }
        var (left, moved) = (limit, 0)
        while left > 0 {
            if let name = memberPass.keys.last {
                moved += moveMembers(of: name, &left)
                continue
            }
            guard memberPass.database < databaseCount else {
                memberPass = MemberPass()
                return nil
            }
            let pool = databases[memberPass.database].members.pointee.pool
            if memberPass.table == tableCount(database: memberPass.database) || pool.pointee.nextSparseSlab() == nil {
                memberPass.endDatabase()
                continue
            }
            findValues(&left)
        }
        return moved
    }

    /// Notes the values of a bucket whose members stand in slabs.
    private mutating func findValues(_ left: inout Int) {
        var names = memberPass.keys
        memberPass.keys = []
        left -= 1
        let next = scanTable(database: memberPass.database, table: memberPass.table, from: memberPass.position) {
            entry in
            if !entry.isString, entry.container.isTable { names.append(Array(entry.key)) }
        }
        left -= names.count
        memberPass.keys = names
        memberPass.position = next ?? 0
        if next == nil { memberPass.table += 1 }
    }

    private mutating func moveMembers(of name: [UInt8], _ left: inout Int) -> Int {
        selected = memberPass.database
        let entry = name.withUnsafeBytes { entryEvenIfExpired(key($0)) }
        guard let container = entry.flatMap({ $0.isString ? nil : $0.container }), container.isTable else {
            memberPass.endValue()
            return 0
        }
        let pool = databases[selected].members.pointee.pool
        var found = memberPass.found
        memberPass.found = []
        left -= 1
        let next = container.scanMembers(from: memberPass.memberPosition) { member in
            left -= 1
            if pool.pointee.isInSparseSlab(member) { found.append(member) }
        }
        for member in found { container.relocate(member) }
        let moved = found.count
        found.removeAll(keepingCapacity: true)
        memberPass.found = found
        if let next { memberPass.memberPosition = next } else { memberPass.endValue() }
        return moved
    }
}

extension Container {
    /// Moves a member to another place of the pool. - Precondition: ``isTable``, and the member is in it.
    fileprivate func relocate(_ member: Entry) {
        switch encoding {
        case .hashtable where type == .hash: fieldTable.pointee.relocate(member)
        case .skiplist: sortedSet.pointee.relocate(member)
        case .hashtable:
            _ = table.pointee.relocate(member)
            member.destroyShell(table.pointee.pool)
        case .listpack, .intset, .integer, .embedded, .raw, .quicklist, .stream: Self.isNeverMade()
        }
    }
}
