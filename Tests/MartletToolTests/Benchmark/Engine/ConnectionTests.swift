import MartletBase
import Testing
import martlet

@Suite struct ConnectionTests {
    @Test("Requests leave the queue in the order in which they came, however it grows")
    func pendingQueue() {
        var queue = PendingQueue(minimumCapacity: 3)
        var random = PRNG(seed: 3)
        var model: [PendingRequest] = []
        for number in 0..<5000 {
            if random.below(100) < (number < 2500 ? 60 : 40) {
                let request = PendingRequest(start: Int64(number), byteCount: number, label: 1, kind: .counted)
                queue.append(request)
                model.append(request)
            } else {
                let first = queue.popFirst()
                #expect(first == (model.isEmpty ? nil : model.removeFirst()))
            }
            let count = queue.count
            #expect(count == model.count)
        }
        while let first = queue.popFirst() { #expect(first == model.removeFirst()) }
        #expect(model.isEmpty)
    }

    @Test("Connections with room are used in turn, unless one is put first")
    func lane() {
        var lane = Lane()
        for connection in [7, 8, 9] {
            lane.add(connection)
            lane.list(connection)
        }
        #expect(lane.takeListed() == 7)
        lane.list(7)
        #expect(lane.takeListed() == 8)
        lane.listFirst(8)
        // One more in the middle of it.
        lane.add(10)
        lane.list(10)
        #expect([lane.takeListed(), lane.takeListed(), lane.takeListed(), lane.takeListed()] == [8, 9, 7, 10])
        #expect(lane.takeListed() == nil)
        #expect(Set((0..<4).map { _ in lane.takeAny() }) == [7, 8, 9, 10])
    }
}
