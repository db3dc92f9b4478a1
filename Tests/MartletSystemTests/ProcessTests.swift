import Glibc
import MartletSystem
import Testing

@Suite struct ProcessTests {
    @Test("The process knows its size, times and names")
    func facts() {
        #expect(SystemProcess.residentBytes > 1 << 20)
        #expect(SystemProcess.totalMemoryBytes > SystemProcess.residentBytes)
        #expect(SystemProcess.cpuTime.userMicroseconds >= 0)
        #expect(SystemProcess.operatingSystem.hasPrefix("Linux "))
        #expect(SystemProcess.executablePath?.hasPrefix("/") == true)
    }

    @Test("Enough descriptors are left alone, more than the system has are reported")
    func openFiles() throws {
        let limit = try SystemProcess.openFilesLimit()
        #expect(try SystemProcess.raiseOpenFilesLimit(to: limit.soft) == .sufficient)
        guard case .insufficient(let available, let error) = try SystemProcess.raiseOpenFilesLimit(to: 1 << 31) else {
            throw Unexpected()
        }
        #expect(available >= limit.soft)
        #expect(error.code == EPERM || error.code == EINVAL)
    }

    @Test("A blocking connection sends and receives, and gives up at its deadline")
    func blocking() throws {
        let listener = try Socket.listen(address: "127.0.0.1", port: 0, backlog: 4)
        defer { Socket.close(listener) }
        let port = try #require(Socket.localAddress(listener)).port
        let connection = try BlockingConnection(host: "127.0.0.1", port: port, timeoutMilliseconds: 5000)
        let server = try acceptOne(listener)
        try connection.sendAll(Array("ping".utf8), timeoutMilliseconds: 5000)
        try waitUntilReadable(server)
        var buffer = [UInt8](repeating: 0, count: 16)
        guard case .transferred(4) = Socket.receive(server, into: &buffer, count: 16) else { throw Unexpected() }
        _ = Socket.send(server, from: buffer, count: 4)
        var received: [UInt8] = []
        var isOpen = try connection.receive(appendingTo: &received, timeoutMilliseconds: 5000)
        #expect(isOpen)
        #expect(received == Array("ping".utf8))

        var timeout: SystemError?
        do throws(SystemError) {
            _ = try connection.receive(appendingTo: &received, timeoutMilliseconds: 10)
        } catch { timeout = error }
        #expect(timeout?.isTimeout == true)

        Socket.close(server)
        isOpen = try connection.receive(appendingTo: &received, timeoutMilliseconds: 5000)
        #expect(!isOpen)
    }

    @Test("A blocking connection to a closed port is refused")
    func refused() throws {
        let listener = try Socket.listen(address: "127.0.0.1", port: 0, backlog: 4)
        let port = try #require(Socket.localAddress(listener)).port
        Socket.close(listener)
        let error = #expect(throws: SystemError.self) {
            _ = try BlockingConnection(host: "127.0.0.1", port: port, timeoutMilliseconds: 5000)
        }
        #expect(error?.isRefused == true)
    }

    @Test("Signals are read as values, and a broken pipe does not end the process")
    func signals() async {
        await #expect(processExitsWith: .exitCode(42)) {
            let reader = try SignalReader()
            // To this thread: the test runner has others that do not block the signal.
            raise(SIGTERM)
            raise(SIGHUP)
            var ends: [Int32] = [0, 0]
            _ = pipe(&ends)
            close(ends[0])
            _ = write(ends[1], "x", 1)
            guard case .terminate = reader.next() else { exit(1) }
            guard reader.next() == nil else { exit(2) }
            exit(42)
        }
    }
}
