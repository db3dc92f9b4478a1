import MartletSystem
import Testing

@Suite struct RingTests {
    @Test("A ring holds its capacity and not one more, in order, also when it wraps")
    func capacity() {
        let ring = Ring<Int>(capacity: 4)
        var next = 0
        for round in 0..<10 {
            for offset in 0..<4 { #expect(ring.push(round * 4 + offset)) }
            #expect(!ring.push(-1))
            #expect(!ring.isEmpty)
            while let element = ring.pop() {
                #expect(element == next)
                next += 1
            }
            #expect(ring.isEmpty)
        }
        #expect(next == 40)
    }

    @Test("What a ring still holds is released with it")
    func release() {
        final class Element: Sendable {}
        weak var weakElement: Element?
        do {
            let ring = Ring<Element>(capacity: 2)
            let element = Element()
            weakElement = element
            #expect(ring.push(element))
        }
        #expect(weakElement == nil)
    }

    @Test("A sender keeps what does not fit, and sends it in order later")
    func overflow() {
        let ring = Ring<Int>(capacity: 2)
        var sender = RingSender(ring)
        for number in 0..<7 { sender.post(number) }
        var received: [Int] = []
        repeat {
            while let element = ring.pop() { received.append(element) }
        } while !sender.flush() || !ring.isEmpty
        #expect(received == Array(0..<7))
    }

    @Test("A sleeper misses no bell, and gets everything in order")
    func doorbell() throws {
        let ring = Ring<Int>(capacity: 8)
        let doorbell = try Doorbell()
        let count = 50_000
        let thread = try Thread(name: "sender") {
            var sender = RingSender(ring)
            for number in 0..<count {
                sender.post(number)
                doorbell.ring()
            }
            while !sender.flush() { doorbell.ring() }
            doorbell.ring()
        }
        var poller = try Poller(eventsMax: 4)
        try poller.add(doorbell.fd, .readable, token: 1)
        var next = 0
        while next < count {
            while let element = ring.pop() {
                #expect(element == next)
                next += 1
            }
            if next == count { break }
            doorbell.willSleep()
            guard ring.isEmpty else { continue }
            // Posts that the ring had no room for are not announced; then the sender rings again.
            #expect(poller.wait(timeoutMilliseconds: 10_000) == 1, "a wake-up was lost")
            doorbell.wokeUp()
            doorbell.acknowledge()
        }
        thread.join()
    }
}
