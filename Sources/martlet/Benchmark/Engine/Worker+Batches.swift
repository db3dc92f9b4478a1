import MartletBase
import MartletSystem

// Closed loop against one server: each connection sends a batch of requests and waits for all replies, as the clients
// of redis-benchmark do.

extension Worker {
    /// Makes a new connection ready for batches.
    mutating func prepareBatches(_ index: Int) {
        // If all requests have the same bytes but for their numbers, a batch stays in the buffer from then on and only
        // its digits change.
        guard run.workload.uniformBytes != nil else { return }
        for _ in 0..<run.settings.pipeline { composer.appendUnpatched(into: &connections[index].output) }
    }

    mutating func sendBatch(_ index: Int) {
        let start = now
        guard !isSent else { return }
        let wanted = run.settings.pipeline
        // What is sent to warm up does not count.
        let count = start < measureStart ? wanted : start < run.sendEnd ? run.claim(wanted) : 0
        if count < wanted { isSent = true }
        guard count > 0 else { return }
        let connection = connections + index
        connection.pointee.sentCount = 0
        if let bytesPerRequest = run.workload.uniformBytes {
            let base = UnsafeMutableRawPointer(mutating: connection.pointee.output.bytes.baseAddress!)
            let request = PendingRequest(start: start, byteCount: bytesPerRequest, label: 0, kind: .counted)
            for number in 0..<count {
                composer.repatch(base + number &* bytesPerRequest)
                connection.pointee.pending.append(request)
            }
            outstandingCount &+= count
            connection.pointee.sendEnd = count &* bytesPerRequest
        } else {
            connection.pointee.output.removeAll()
            for _ in 0..<count { compose(to: connection, start: start) }
            connection.pointee.sendEnd = connection.pointee.output.count
        }
        flush(index)
    }

    mutating func batchIsAnswered(_ index: Int) {
        if run.settings.keepsAlive {
            sendBatch(index)
        } else if !isSent {
            reopen(index)
        }
    }

    private mutating func compose(to connection: UnsafeMutablePointer<Connection>, start: Int64) {
        let operation = composer.nextOperation()
        var keySlot: HashSlot?
        let last = operation.pointee.requests.upperBound - 1
        for number in operation.pointee.requests {
            let count = composer.compose(number, into: &connection.pointee.output, keySlot: &keySlot)
            connection.pointee.pending.append(
                PendingRequest(
                    start: start, byteCount: count, label: operation.pointee.label,
                    kind: number == last ? .counted : .part))
        }
        outstandingCount &+= operation.pointee.requests.count
    }
}
