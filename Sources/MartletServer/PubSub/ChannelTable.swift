import MartletBase

/// A channel or pattern that somebody has subscribed to.
struct Channel {
    let name: [UInt8]
    let hash: UInt64
    /// Of a shard channel, in cluster mode.
    let slot: HashSlot
    /// In no order. Each of them knows its place here; see ``Subscriptions``.
    var subscribers: [ClientPointer] = []
}

typealias ChannelPointer = UnsafeMutablePointer<Channel>

/// Channels by name. PUBLISH looks a name up where it stands in the request, without making an array of it.
///
/// An open-addressed table with linear probing, at most half full. It owns its channels; they keep their addresses.
struct ChannelTable: ~Copyable {
    private(set) var count = 0
    /// A power of two, or 0.
    private var capacity = 0
    private var places: UnsafeMutablePointer<ChannelPointer?>?

    private static let capacityMin = 16

    deinit {
        guard let places else { return }
        for index in 0..<capacity {
            guard let channel = places[index] else { continue }
            channel.deinitialize(count: 1)
            channel.deallocate()
        }
        places.deallocate()
    }

    /// - Complexity: O(1) on average
    func find(_ name: UnsafeRawBufferPointer, hash: UInt64) -> ChannelPointer? {
        guard let places else { return nil }
        var index = Int(truncatingIfNeeded: hash) & (capacity - 1)
        while let channel = places[index] {
            if channel.pointee.hash == hash, channel.pointee.name.elementsEqual(name) { return channel }
            index = (index + 1) & (capacity - 1)
        }
        return nil
    }

    /// - Precondition: ``find(_:hash:)`` has found nothing.
    mutating func add(_ channel: Channel) -> ChannelPointer {
        if 2 * (count + 1) > capacity { resize(to: max(Self.capacityMin, capacity * 2)) }
        let pointer = ChannelPointer.allocate(capacity: 1)
        pointer.initialize(to: channel)
        put(pointer)
        count += 1
        return pointer
    }

    /// The channel is gone afterwards.
    mutating func remove(_ channel: ChannelPointer) {
        guard let places else { return }
        var hole = Int(truncatingIfNeeded: channel.pointee.hash) & (capacity - 1)
        while places[hole] != channel { hole = (hole + 1) & (capacity - 1) }
        channel.deinitialize(count: 1)
        channel.deallocate()
        // Those behind it move up, unless they would come before the place where the search for them begins.
        var next = (hole + 1) & (capacity - 1)
        while let moved = places[next] {
            let home = Int(truncatingIfNeeded: moved.pointee.hash) & (capacity - 1)
            if (next - home) & (capacity - 1) >= (next - hole) & (capacity - 1) {
                places[hole] = moved
                hole = next
            }
            next = (next + 1) & (capacity - 1)
        }
        places[hole] = nil
        count -= 1
        if capacity > Self.capacityMin, count * 8 < capacity { resize(to: capacity / 2) }
    }

    /// Visits all channels. The table must not change meanwhile.
    func forEach(_ body: (ChannelPointer) -> Void) {
        for index in 0..<capacity { if let channel = places?[index] { body(channel) } }
    }

    private func put(_ channel: ChannelPointer) {
        guard let places else { return }
        var index = Int(truncatingIfNeeded: channel.pointee.hash) & (capacity - 1)
        while places[index] != nil { index = (index + 1) & (capacity - 1) }
        places[index] = channel
    }

    private mutating func resize(to newCapacity: Int) {
        let (old, oldCapacity) = (places, capacity)
        places = .allocate(capacity: newCapacity)
        places?.initialize(repeating: nil, count: newCapacity)
        capacity = newCapacity
        for index in 0..<oldCapacity { if let channel = old?[index] { put(channel) } }
        old?.deallocate()
    }
}
