import Glibc
import MartletSystem
import Testing

/// A connected pair over a listening socket on loopback.
func connectedPair(address: String = "127.0.0.1") throws -> (client: Int32, server: Int32, listener: Int32) {
    let listener = try Socket.listen(address: address, port: 0, backlog: 16)
    let client = try start(Socket.connect(to: #require(Socket.localAddress(listener))))
    let server = try acceptOne(listener)
    try waitUntilWritable(client)
    #expect(Socket.connectResult(client) == nil)
    return (client, server, listener)
}

func start(_ connecting: Socket.Connecting) throws -> Int32 {
    switch connecting {
    case .connected(let fd), .inProgress(let fd): return fd
    case .failed(let error): throw error
    }
}

/// Waits on a poller until the listener has a connection.
func acceptOne(_ listener: Int32) throws -> Int32 {
    var poller = try Poller(eventsMax: 4)
    try poller.add(listener, .readable, token: 1)
    let count = poller.wait(timeoutMilliseconds: 5000)
    try #require(count == 1)
    guard case .connection(let fd, _) = Socket.accept(listener) else { throw Unexpected() }
    return fd
}

func waitUntilWritable(_ fd: Int32) throws {
    var poller = try Poller(eventsMax: 4)
    try poller.add(fd, .writable, token: 1)
    let count = poller.wait(timeoutMilliseconds: 5000)
    try #require(count == 1)
}

func waitUntilReadable(_ fd: Int32) throws {
    var poller = try Poller(eventsMax: 4)
    try poller.add(fd, .readable, token: 1)
    let count = poller.wait(timeoutMilliseconds: 5000)
    try #require(count == 1)
}

struct Unexpected: Error {}

@Suite struct SocketTests {
    @Test("Bytes travel both ways, and the end of the stream is a value", arguments: ["127.0.0.1", "::1"])
    func transfer(address: String) throws {
        let (client, server, listener) = try connectedPair(address: address)
        defer { Socket.close(server); Socket.close(listener) }
        try Socket.setNoDelay(client)
        try Socket.setKeepAlive(server, intervalSeconds: 2)

        var buffer = [UInt8](repeating: 0, count: 64)
        guard case .wouldBlock = Socket.receive(server, into: &buffer, count: 64) else { throw Unexpected() }

        guard case .transferred(5) = Socket.send(client, from: Array("hello".utf8), count: 5) else {
            throw Unexpected()
        }
        try waitUntilReadable(server)
        guard case .transferred(5) = Socket.receive(server, into: &buffer, count: 64) else { throw Unexpected() }
        #expect(buffer.prefix(5).elementsEqual("hello".utf8))

        let pieces = Array("abcde".utf8)
        let sent = pieces.withUnsafeBytes { bytes in
            let start = bytes.baseAddress!
            var segments = [Socket.segment(start, count: 2), Socket.segment(start + 2, count: 3)]
            return Socket.send(server, segments: &segments, count: 2)
        }
        guard case .transferred(5) = sent else { throw Unexpected() }
        try waitUntilReadable(client)
        guard case .transferred(5) = Socket.receive(client, into: &buffer, count: 64) else { throw Unexpected() }
        #expect(buffer.prefix(5).elementsEqual("abcde".utf8))

        Socket.close(client)
        try waitUntilReadable(server)
        guard case .endOfStream = Socket.receive(server, into: &buffer, count: 64) else { throw Unexpected() }
    }

    @Test("A full send buffer gives would-block, and a send to a gone peer an error instead of a signal")
    func backPressure() throws {
        let (client, server, listener) = try connectedPair()
        defer { Socket.close(client); Socket.close(listener) }
        let chunk = [UInt8](repeating: 7, count: 1 << 16)
        var isBlocked = false
        for _ in 0..<100_000 where !isBlocked {
            if case .wouldBlock = Socket.send(client, from: chunk, count: chunk.count) { isBlocked = true }
        }
        #expect(isBlocked)
        Socket.close(server)
        var failure: SystemError?
        for _ in 0..<1000 where failure == nil {
            if case .failed(let error) = Socket.send(client, from: chunk, count: chunk.count) { failure = error }
        }
        #expect(failure?.code == ECONNRESET || failure?.code == EPIPE)
    }

    @Test("Both ends agree on their addresses")
    func addresses() throws {
        let (client, server, listener) = try connectedPair()
        defer { Socket.close(client); Socket.close(server); Socket.close(listener) }
        let peer = try #require(Socket.peerAddress(server))
        #expect(peer.description == Socket.localAddress(client)?.description)
        #expect(peer.ip == "127.0.0.1")
        #expect(peer.isLoopback)
        #expect(Socket.localAddress(server)?.port == Socket.localAddress(listener)?.port)
    }

    @Test("A refused connection is known by its error")
    func refused() throws {
        let listener = try Socket.listen(address: "127.0.0.1", port: 0, backlog: 1)
        let address = try #require(Socket.localAddress(listener))
        Socket.close(listener)
        switch Socket.connect(to: address) {
        case .connected: throw Unexpected()
        case .failed(let error): #expect(error.isRefused)
        case .inProgress(let fd):
            try waitUntilWritable(fd)
            #expect(Socket.connectResult(fd)?.isRefused == true)
            Socket.close(fd)
        }
    }

    @Test("A connection leaves from the source address it was told, or from any when that is impossible")
    func sourceAddress() throws {
        let listener = try Socket.listen(address: "127.0.0.1", port: 0, backlog: 4)
        let target = try #require(Socket.localAddress(listener))
        defer { Socket.close(listener) }
        for (source, expected) in [("127.0.0.7", "127.0.0.7"), ("192.0.2.1", "127.0.0.1")] {
            let client = try start(Socket.connect(to: target, from: SocketAddress(ip: source, port: 0)))
            let server = try acceptOne(listener)
            #expect(Socket.peerAddress(server)?.ip == expected)
            Socket.close(client)
            Socket.close(server)
        }
    }

    @Test("A port in use and an address of another host are told apart")
    func listenErrors() throws {
        let listener = try Socket.listen(address: "127.0.0.1", port: 0, backlog: 4)
        defer { Socket.close(listener) }
        let port = try #require(Socket.localAddress(listener)).port
        let inUse = #expect(throws: SystemError.self) {
            try Socket.listen(address: "127.0.0.1", port: port, backlog: 4)
        }
        #expect(inUse?.description == "bind: Address already in use")
        let foreign = #expect(throws: SystemError.self) { try Socket.listen(address: "192.0.2.1", port: 0, backlog: 4) }
        #expect(foreign?.isAddressNotAvailable == true)
        #expect(throws: SystemError.self) { try Socket.listen(address: "no.such.host.invalid", port: 0, backlog: 4) }
    }

    @Test("IPv4 and IPv6 wildcards share a port")
    func wildcards() throws {
        let v4 = try Socket.listen(address: "*", port: 0, backlog: 4)
        defer { Socket.close(v4) }
        let port = try #require(Socket.localAddress(v4)).port
        let v6 = try Socket.listen(address: "::*", port: port, backlog: 4)
        Socket.close(v6)
    }

    @Test("A unix socket is bound with its permissions, and a stale one is replaced")
    func unixSocket() throws {
        let path = "/tmp/martlet-test-\(getpid())-\(UInt32.random(in: 0 ... .max)).sock"
        defer { unlink(path) }
        let stale = try Socket.listen(unixPath: path, permissions: 0o700, backlog: 4)
        Socket.close(stale)
        let listener = try Socket.listen(unixPath: path, permissions: 0o700, backlog: 4)
        defer { Socket.close(listener) }
        var status = stat()
        #expect(stat(path, &status) == 0)
        #expect(status.st_mode & 0o777 == 0o700)
        let client = try start(Socket.connect(to: #require(SocketAddress(unixPath: path))))
        let server = try acceptOne(listener)
        #expect(Socket.peerAddress(server)?.ip == "/unixsocket")
        #expect(Socket.peerAddress(server)?.port == 0)
        Socket.close(client)
        Socket.close(server)
    }

    @Test("A unix path is taken at 107 bytes and refused at 108")
    func unixPathLimit() {
        #expect(SocketAddress.unixPathBytesMax == 107)
        #expect(SocketAddress(unixPath: String(repeating: "p", count: 107)) != nil)
        #expect(SocketAddress(unixPath: String(repeating: "p", count: 108)) == nil)
    }

    @Test(
        "Addresses keep their text form",
        arguments: [
            ("127.0.0.1", true, "127.0.0.1:7000"), ("127.9.9.9", true, "127.9.9.9:7000"),
            ("10.1.2.3", false, "10.1.2.3:7000"), ("::1", true, "[::1]:7000"), ("fe80::1", false, "[fe80::1]:7000"),
            ("::ffff:127.0.0.1", true, "[::ffff:127.0.0.1]:7000"), ("::ffff:10.0.0.1", false, "[::ffff:10.0.0.1]:7000"),
        ])
    func text(ip: String, isLoopback: Bool, description: String) throws {
        let address = try #require(SocketAddress(ip: ip, port: 7000))
        #expect(address.ip == ip)
        #expect(address.port == 7000)
        #expect(address.isLoopback == isLoopback)
        #expect(address.description == description)
    }

    @Test("What is no address is refused", arguments: ["", "localhost", "1.2.3", "1.2.3.256", ":::", "127.0.0.1 "])
    func notAddresses(ip: String) { #expect(SocketAddress(ip: ip, port: 1) == nil) }

    @Test("Ports beyond 16 bits are refused")
    func ports() {
        #expect(SocketAddress(ip: "127.0.0.1", port: 65535) != nil)
        #expect(SocketAddress(ip: "127.0.0.1", port: 65536) == nil)
        #expect(SocketAddress(ip: "127.0.0.1", port: -1) == nil)
    }

    @Test("Names resolve, numbers resolve to themselves, and numeric-only looks nothing up")
    func resolution() throws {
        #expect(try NameResolver.ip(of: "127.0.0.1") == "127.0.0.1")
        #expect(try ["127.0.0.1", "::1"].contains(NameResolver.ip(of: "localhost")))
        #expect(throws: SystemError.self) { try NameResolver.ip(of: "localhost", isNumericOnly: true) }
    }
}
