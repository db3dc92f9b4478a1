/// A request that waits for its reply.
package struct PendingRequest: Equatable {
    package enum Kind: UInt8, Sendable {
        /// Counts and is timed.
        case counted
        /// Not the last request of its operation: only its errors count.
        case part
        /// AUTH, SELECT and the like, when a connection begins: an error ends the run.
        case prefix
        /// ASKING.
        case ignored
    }

    /// When it was, or should have been, sent.
    var start: Int64
    var byteCount: Int
    var label: UInt16
    var kind: Kind
    /// How often a cluster sent it elsewhere.
    var redirectCount: UInt8 = 0

    package init(start: Int64, byteCount: Int, label: UInt16, kind: Kind) {
        self.start = start
        self.byteCount = byteCount
        self.label = label
        self.kind = kind
    }
}

/// The requests of a connection whose replies are still to come, oldest first: a ring that grows.
package struct PendingQueue: ~Copyable {
    private var base: UnsafeMutablePointer<PendingRequest>
    private var mask: Int
    private var head = 0
    package private(set) var count = 0

    package init(minimumCapacity: Int) {
        var capacity = 1
        while capacity < minimumCapacity { capacity *= 2 }
        base = .allocate(capacity: capacity)
        mask = capacity - 1
    }

    deinit { base.deallocate() }

    package mutating func append(_ request: PendingRequest) {
        if count > mask { grow() }
        (base + (head &+ count) & mask).initialize(to: request)
        count &+= 1
    }

    package mutating func popFirst() -> PendingRequest? {
        guard count > 0 else { return nil }
        let request = base[head]
        head = (head &+ 1) & mask
        count &-= 1
        return request
    }

    @inline(never)
    private mutating func grow() {
        let capacity = mask + 1
        let new = UnsafeMutablePointer<PendingRequest>.allocate(capacity: capacity * 2)
        for index in 0..<count { (new + index).initialize(to: base[(head + index) & mask]) }
        base.deallocate()
        base = new
        mask = capacity * 2 - 1
        head = 0
    }
}
