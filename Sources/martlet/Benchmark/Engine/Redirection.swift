import MartletBase
import MartletSystem
import Synchronization

/// A reply of a cluster node that names another one.
package struct Redirection: Equatable {
    package let slot: HashSlot
    /// `host:port`.
    package let address: NodeAddress
    /// ASK: for this request only, while the slot moves.
    package let isAsk: Bool

    /// A request that is sent around more often than this gets its last redirection as its reply.
    static let countMax = 16

    /// `MOVED <slot> <host>:<port>`, `ASK …`; an empty host is that of the node that answered. Nil for other errors.
    package init?(parsing text: String, from endpoint: Endpoint) {
        let words = text.split(separator: " ")
        guard words.count == 3, words[0] == "MOVED" || words[0] == "ASK", let number = Int64(words[1]),
            let slot = HashSlot(number)
        else { return nil }
        let hasHost = words[2].lastIndex(of: ":") != words[2].startIndex
        let place = hasHost ? String(words[2]) : "\(endpoint.address.ip)\(words[2])"
        guard let address = NodeAddress(parsing: place) else { return nil }
        self.slot = slot
        self.address = address
        isAsk = words[0] == "ASK"
    }
}

extension Worker {
    /// Sends a request to the node that it belongs to; its time goes on.
    ///
    /// - Precondition: the request's bytes are the first ones of the connection's output.
    mutating func redirect(_ index: Int, _ request: PendingRequest, _ redirection: Redirection) {
        guard let lane = lane(of: redirection.address) else { return }
        var request = request
        request.redirectCount += 1
        scratch.removeAll()
        scratch.append(UnsafeRawBufferPointer(rebasing: connections[index].output.bytes[..<request.byteCount]))
        let target = lanes[lane].takeAny()
        if redirection.isAsk {
            if request.start >= measureStart { askCount += 1 }
            connections[target].output.append("*1\r\n$6\r\nASKING\r\n")
            let asking = PendingRequest(start: request.start, byteCount: 16, label: 0, kind: .ignored)
            connections[target].pending.append(asking)
            connections[target].sendEnd += asking.byteCount
            outstandingCount += 1
        } else {
            if request.start >= measureStart { movedCount += 1 }
            owners[redirection.slot.index] = UInt16(lane)
            run.topology!.isStale.store(true, ordering: .releasing)
            run.wakeup.signal()
        }
        connections[target].output.append(scratch.bytes)
        connections[target].pending.append(request)
        connections[target].sendEnd += request.byteCount
        outstandingCount += 1
        markDirty(target)
    }

    /// The lane to a node, which may have joined since the map was made. Nil when its address is none; the run has
    /// failed then.
    private mutating func lane(of address: NodeAddress) -> Int? {
        let name = address.description
        if let lane = endpoints.firstIndex(where: { $0.name == name }) { return lane }
        guard let endpoint = Endpoint(resolving: address) else {
            run.fail("a node sent a request to \(name), which has no address")
            return nil
        }
        var lane = 0
        run.topology!.update { lane = $0.index(of: endpoint) }
        updateTopology()
        return lane
    }

    /// Takes over a newer map, with connections to nodes that are new in it.
    mutating func updateTopology() {
        guard let topology = run.topology else { return }
        let version = topology.version.load(ordering: .acquiring)
        guard version != topologyVersion else { return }
        topologyVersion = version
        let map = topology.current
        owners = map.owners
        for endpoint in map.endpoints[endpoints.count...] {
            endpoints.append(endpoint)
            lanes.append(Lane())
            for _ in 0..<connectionsPerLane { addConnection(lane: lanes.count - 1) }
        }
        openAdded()
    }
}

extension Endpoint {
    /// Nil when the host has no address.
    package init?(resolving address: NodeAddress) {
        guard let resolved = try? NameResolver.addresses(of: address.host, port: address.port).first else { return nil }
        self.init(name: address.description, address: resolved)
    }
}
