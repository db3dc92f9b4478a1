import MartletBase

/// Which clients may hold which keys in their caches.
///
/// A key is found by its hash, which every command has at hand, so a key that is read again costs one look-up and no
/// allocation. Clients are named by their numbers: when one goes, its numbers stay until their keys change.
struct TrackingTable {
    struct TrackedKey {
        let key: [UInt8]
        /// Ascending.
        var clients: [UInt64]
        /// Where `hashes` names it.
        fileprivate var position: Int

        /// - Returns: whether the client was new.
        fileprivate mutating func insert(_ client: UInt64) -> Bool {
            var (low, high) = (0, clients.count)
            while low < high {
                let middle = (low + high) / 2
                if clients[middle] < client { low = middle + 1 } else { high = middle }
            }
            if low < clients.count, clients[low] == client { return false }
            clients.insert(client, at: low)
            return true
        }
    }

    private var keys: [UInt64: TrackedKey] = [:]
    /// Of all keys, in no order: for the choice of one that is given up.
    private var hashes: [UInt64] = []
    /// Clients of all keys together.
    private(set) var itemCount = 0

    var keyCount: Int { hashes.count }

    /// A client reads a key.
    ///
    /// - Returns: another key of the same hash, which had to make room: its clients are to be told as if it had changed.
    /// - Complexity: O(log clients) for a client that is known, else O(clients of the key)
    mutating func add(_ client: UInt64, to key: UnsafeRawBufferPointer, hash: UInt64) -> TrackedKey? {
        var displaced: TrackedKey?
        if keys[hash]?.key.elementsEqual(key) == false { displaced = remove(hash) }
        if let isNew = keys[hash]?.insert(client) {
            if isNew { itemCount += 1 }
        } else {
            keys[hash] = TrackedKey(key: Array(key), clients: [client], position: hashes.count)
            hashes.append(hash)
            itemCount += 1
        }
        return displaced
    }

    /// A key has changed: whoever had it has to read it again. - Returns: nil if nobody had it.
    mutating func remove(_ key: UnsafeRawBufferPointer, hash: UInt64) -> TrackedKey? {
        guard let found = keys[hash], found.key.elementsEqual(key) else { return nil }
        return remove(hash)
    }

    /// Gives up any key. - Precondition: there is one.
    mutating func removeAny(_ random: inout PRNG) -> TrackedKey {
        guard let removed = remove(hashes[random.below(hashes.count)]) else {
            preconditionFailure("a hash has its key")
        }
        return removed
    }

    private mutating func remove(_ hash: UInt64) -> TrackedKey? {
        guard let removed = keys.removeValue(forKey: hash) else { return nil }
        let last = hashes.removeLast()
        if last != hash {
            hashes[removed.position] = last
            keys[last]?.position = removed.position
        }
        itemCount -= removed.clients.count
        return removed
    }

    mutating func removeAll() { self = TrackingTable() }
}
