import Histogram
import MartletBase
import MartletSystem
import Synchronization

// Open loop, and clusters: the thread takes the operations one by one, in the order in which they are due, and gives each
// to a connection that has room: any, or one to the node that owns the slot of its key. When no connection has room, the
// operations wait; those of a schedule keep the time at which they were due. In a cluster only the sum is limited: if all
// connections to a node are busy, one of them gets more than its share, as a client library's would.

extension Worker {
    /// Sends what is due and what there is room for.
    mutating func dispatch() {
        updateTopology()
        let sendEnd = run.sendEnd
        while !isSent, hasRoom {
            let start = schedule?.next ?? now
            if start > now { break }
            guard start < sendEnd, now < sendEnd else {
                isSent = true
                break
            }
            if start >= measureStart {
                guard takeCredit() else { break }
            }
            schedule?.take()
            if !lacksRoom, start >= measureStart { delays?.record(UInt64(max(0, now - start))) }
            dispatchOperation(start: start)
        }
        lacksRoom = !hasRoom
        for index in dirty {
            connections[index].isDirty = false
            if connections[index].state == .ready {
                flush(index)
                listIfFree(index)
            }
        }
        dirty.removeAll(keepingCapacity: true)
    }

    /// Whether the connections together have room for an operation.
    var hasRoom: Bool { outstandingCount + run.workload.requestsPerOperationMax <= outstandingMax }

    /// Takes one of the operations that this thread may send. They are claimed a few at a time, because all threads
    /// count together.
    private mutating func takeCredit() -> Bool {
        if credit == 0 {
            credit = run.claim(schedule == nil ? min(64, run.settings.pipeline * 4) : 1)
            if credit == 0 {
                isSent = true
                return false
            }
        }
        credit -= 1
        return true
    }

    func missedCount() -> Int {
        guard let schedule, run.settings.durationNanoseconds != nil else { return 0 }
        // An interrupted run ends before its time.
        return schedule.missedCount(before: min(run.sendEnd, now))
    }

    private mutating func dispatchOperation(start: Int64) {
        let operation = composer.nextOperation()
        // The key, and with it the node, is known only when the requests are written.
        scratch.removeAll()
        byteCounts.removeAll(keepingCapacity: true)
        var slot: HashSlot?
        for number in operation.pointee.requests {
            var keySlot: HashSlot?
            byteCounts.append(composer.compose(number, into: &scratch, keySlot: &keySlot))
            if slot == nil { slot = keySlot }
        }
        let index = connectionWithRoom(lane: run.topology == nil ? 0 : lane(of: slot))
        let connection = connections + index
        connection.pointee.output.append(scratch.bytes)
        connection.pointee.sendEnd += scratch.count
        for number in 0..<byteCounts.count {
            connection.pointee.pending.append(
                PendingRequest(
                    start: start, byteCount: byteCounts[number], label: operation.pointee.label,
                    kind: number == byteCounts.count - 1 ? .counted : .part))
        }
        outstandingCount += byteCounts.count
        markDirty(index)
        // As fast as replies come, full batches cost least; with a rate, connections are used in turn.
        if schedule == nil { listIfFree(index, first: true) }
    }

    mutating func markDirty(_ index: Int) {
        guard !connections[index].isDirty else { return }
        connections[index].isDirty = true
        dirty.append(index)
    }

    private mutating func connectionWithRoom(lane: Int) -> Int {
        guard let index = lanes[lane].takeListed() else { return lanes[lane].takeAny() }
        connections[index].isListed = false
        return index
    }

    /// Where a request goes; one without a key, or to a slot that nobody serves, goes anywhere and the node says why it
    /// cannot be.
    private mutating func lane(of slot: HashSlot?) -> Int {
        if let slot, let owner = owners[slot.index] { return Int(owner) }
        nextLane = nextLane + 1 >= lanes.count ? 0 : nextLane + 1
        return nextLane
    }
}
