import Glibc
import MartletSystem
import Testing

@Suite struct PollerTests {
    @Test("Events carry the token and what the descriptor is ready for")
    func tokens() throws {
        let (client, server, listener) = try connectedPair()
        defer { Socket.close(client); Socket.close(server); Socket.close(listener) }
        var poller = try Poller()
        try poller.add(server, [.readable, .writable], token: 0xFFFF_0000_1234_5678)
        var count = poller.wait(timeoutMilliseconds: 0)
        #expect(count == 1)
        var event = poller.event(at: 0)
        #expect(event.token == 0xFFFF_0000_1234_5678)
        #expect(event.isWritable)
        #expect(!event.isReadable)

        _ = Socket.send(client, from: [1], count: 1)
        try poller.modify(server, .readable, token: 9)
        count = poller.wait(timeoutMilliseconds: 5000)
        event = poller.event(at: 0)
        #expect(count == 1)
        #expect(event.token == 9)
        #expect(event.isReadable)
        #expect(!event.isBroken)

        // Level-triggered: what is not read is told again.
        count = poller.wait(timeoutMilliseconds: 0)
        #expect(count == 1)
        poller.remove(server)
        count = poller.wait(timeoutMilliseconds: 0)
        #expect(count == 0)
    }

    @Test("A closed peer is readable, so that the read can tell")
    func hangUp() throws {
        let (client, server, listener) = try connectedPair()
        defer { Socket.close(server); Socket.close(listener) }
        var poller = try Poller()
        try poller.add(server, .readable, token: 1)
        Socket.close(client)
        let count = poller.wait(timeoutMilliseconds: 5000)
        #expect(count == 1)
        let event = poller.event(at: 0)
        #expect(event.isReadable)
    }

    @Test("More ready descriptors than the buffer holds come in later turns")
    func manyEvents() throws {
        var pipes: [(Int32, Int32)] = []
        var poller = try Poller(eventsMax: 4)
        for index in 0..<10 {
            var ends: [Int32] = [0, 0]
            #expect(pipe(&ends) == 0)
            write(ends[1], "x", 1)
            try poller.add(ends[0], .readable, token: UInt64(index))
            pipes.append((ends[0], ends[1]))
        }
        defer { for (reader, writer) in pipes { close(reader); close(writer) } }
        var seen: Set<UInt64> = []
        for _ in 0..<10 {
            let count = poller.wait(timeoutMilliseconds: 0)
            #expect(count <= 4)
            for index in 0..<count { seen.insert(poller.event(at: index).token) }
        }
        #expect(seen.count == 10)
    }

    @Test("A wake-up reaches a poller, is merged while pending, and can be repeated")
    func wakeup() throws {
        let wakeup = try WakeupFD()
        var poller = try Poller()
        try poller.add(wakeup.fd, .readable, token: 7)
        var count = poller.wait(timeoutMilliseconds: 0)
        #expect(count == 0)
        for _ in 0..<3 {
            wakeup.signal()
            wakeup.signal()
            count = poller.wait(timeoutMilliseconds: 5000)
            #expect(count == 1)
            wakeup.acknowledge()
            count = poller.wait(timeoutMilliseconds: 0)
            #expect(count == 0)
        }
    }

    @Test("The monotonic clock moves forward and the wall clock shows this century")
    func clocks() {
        let first = SystemClock.monotonicNanoseconds
        #expect(SystemClock.monotonicNanoseconds >= first)
        #expect(SystemClock.bootNanoseconds >= first)
        #expect(SystemClock.wallMilliseconds > 1_600_000_000_000)
    }
}
