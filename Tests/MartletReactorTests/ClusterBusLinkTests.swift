import MartletCluster
import MartletSystem
import Testing

@testable import MartletReactor

@Suite struct ClusterBusLinkTests {
    private func makePair() throws -> (link: ClusterBusLink, peer: Int32) {
        let listener = try Socket.listen(address: "127.0.0.1", port: 0, backlog: 1)
        defer { Socket.close(listener) }
        let peer = try BlockingPeer.connect(to: #require(Socket.localAddress(listener)))
        var poller = try Poller(eventsMax: 1)
        try poller.add(listener, .readable, token: 0)
        _ = poller.wait(timeoutMilliseconds: 5000)
        guard case .connection(let fd, _) = Socket.accept(listener) else { throw BlockingPeer.Failure() }
        let link = ClusterBusLink(id: BusLinkID(rawValue: 1), fd: fd, isInbound: true, phase: .open, deadline: .max)
        return (link, peer)
    }

    @Test("Queued packets leave in order, however the peer's window cuts them")
    func order() throws {
        let (link, peer) = try makePair()
        defer { Socket.close(link.fd); Socket.close(peer) }
        let packets = (0..<64).map { [UInt8](repeating: UInt8($0), count: 40_000 + $0) }
        for packet in packets { #expect(link.enqueue(packet)) }
        let total = packets.reduce(0) { $0 + $1.count }
        #expect(link.queuedByteCount == total)
        var received: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 10_000)
        var poller = try Poller(eventsMax: 1)
        try poller.add(peer, .readable, token: 0)
        while received.count < total {
            if case .failed(let error) = link.flush() { throw error }
            let count = poller.wait(timeoutMilliseconds: 5000)
            try #require(count == 1)
            if case .transferred(let count) = Socket.receive(peer, into: &buffer, count: buffer.count) {
                received.append(contentsOf: buffer[..<count])
            }
        }
        #expect(received == packets.flatMap { $0 })
        #expect(link.queuedByteCount == 0)
    }

    @Test("The queue takes bytes up to its limit and refuses one more")
    func limit() throws {
        let link = ClusterBusLink(id: BusLinkID(rawValue: 1), fd: -1, isInbound: true, phase: .open, deadline: .max)
        // One shared array, so the test needs no gigabyte: the first packet is stored as it is.
        let packet = [UInt8](repeating: 0, count: 1 << 20)
        #expect(link.enqueue(packet))
        #expect(!link.wouldAccept(ClusterBusLink.sendBytesMax - packet.count + 1))
        #expect(link.wouldAccept(ClusterBusLink.sendBytesMax - packet.count))
    }
}

enum BlockingPeer {
    struct Failure: Error {}

    /// A connection to a listener on this host, which is there as soon as the kernel has it in the backlog.
    static func connect(to address: SocketAddress) throws -> Int32 {
        switch Socket.connect(to: address) {
        case .connected(let fd): return fd
        case .failed(let error): throw error
        case .inProgress(let fd):
            var poller = try Poller(eventsMax: 1)
            try poller.add(fd, .writable, token: 0)
            _ = poller.wait(timeoutMilliseconds: 5000)
            if let error = Socket.connectResult(fd) { throw error }
            return fd
        }
    }
}
