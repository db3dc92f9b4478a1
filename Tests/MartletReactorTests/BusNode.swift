import Glibc
import MartletBase
import MartletCluster
import MartletReactor
import MartletSystem
import Synchronization
import Testing

/// A cluster node that is all bus and no data: the test plays its command thread.
final class BusNode {
    let bus: BusThread
    let port: Int
    let busPort: Int
    let configurationPath: String
    /// Everything but replies, in order of arrival.
    private(set) var notices: [BusNotice] = []
    private var view: PublishedReference<ClusterView>.Reader
    private var poller: Poller
    private var batch: [BusNotice] = []
    private var replies: [UInt64: ClusterReply] = [:]
    private var lastToken: UInt64 = 0
    private var isRunning = true
    /// False for a command thread that is too busy to hear of its new primary.
    var followsAtOnce = true

    init(
        in directory: String, name: String, nodeTimeout: Int64 = 2000, stallTimeout: Int64 = 600_000,
        ports: (client: Int, bus: Int)? = nil
    ) throws {
        configurationPath = "\(directory)/\(name).conf"
        (port, busPort) = try ports ?? (freePort(), freePort())
        var configuration = ClusterConfiguration()
        configuration.nodeTimeoutMilliseconds = nodeTimeout
        configuration.stallTimeoutMilliseconds = stallTimeout
        configuration.port = UInt16(port)
        configuration.busPort = UInt16(busPort)
        let options = BusOptions(
            bindAddresses: ["127.0.0.1"], port: busPort, configurationPath: configurationPath,
            configuration: configuration, seed: UInt64.random(in: 0 ... .max))
        bus = try BusThread(options)
        view = PublishedReference.Reader(bus.view)
        poller = try Poller(eventsMax: 4)
        try poller.add(bus.notices.wakeup.fd, .readable, token: 0)
        try bus.start()
    }

    deinit { stop() }

    func stop() {
        if isRunning { bus.stop() }
        isRunning = false
    }

    var currentView: ClusterView {
        view.refresh()
        return view.value
    }

    /// Runs a CLUSTER subcommand and waits for its answer.
    func command(_ words: String...) throws -> ClusterReply {
        lastToken += 1
        let token = lastToken
        bus.post(.command(ClusterRequest(words), token: token))
        try wait("an answer to CLUSTER \(words.joined(separator: " "))") { replies[token] != nil }
        return replies.removeValue(forKey: token)!
    }

    /// The text of a CLUSTER subcommand's answer.
    func text(_ words: String...) throws -> String {
        lastToken += 1
        let token = lastToken
        bus.post(.command(ClusterRequest(words), token: token))
        try wait("an answer") { replies[token] != nil }
        switch replies.removeValue(forKey: token)! {
        case .bulk(let text), .verbatim(let text), .status(let text), .error(let text): return text
        default: throw Failure(what: "text")
        }
    }

    /// Waits until something holds, looking again whenever the bus says anything and now and then.
    func wait(
        _ what: String, milliseconds: Int64 = 20_000, sourceLocation: SourceLocation = #_sourceLocation,
        until condition: () throws -> Bool
    ) throws {
        let deadline = SystemClock.monotonicMilliseconds + milliseconds
        while true {
            bus.status.beat()
            bus.notices.drain(into: &batch)
            for notice in batch {
                if case .followPrimary = notice, followsAtOnce { bus.status.followCount += 1 }
                if case .reply(let token, let reply) = notice { replies[token] = reply } else { notices.append(notice) }
            }
            if try condition() { return }
            guard SystemClock.monotonicMilliseconds < deadline else {
                Issue.record("waited in vain for \(what)", sourceLocation: sourceLocation)
                throw Failure(what: what)
            }
            _ = poller.wait(timeoutMilliseconds: 20)
        }
    }

    func meet(_ other: BusNode) throws {
        let reply = try command("MEET", "127.0.0.1", "\(other.port)", "\(other.busPort)")
        #expect(reply == .ok)
    }

    func clearNotices() { notices = [] }

    struct Failure: Error { let what: String }
}

/// A port that was free a moment ago.
func freePort() throws -> Int {
    let listener = try Socket.listen(address: "127.0.0.1", port: 0, backlog: 1)
    defer { Socket.close(listener) }
    return try #require(Socket.localAddress(listener)).port
}

/// An empty directory that is removed afterwards with the files in it.
func withTemporaryDirectory(_ body: (String) throws -> Void) throws {
    let directory = "/tmp/martlet-bus-\(getpid())-\(UInt64.random(in: 0 ... .max))"
    try FileIO.makeDirectory(directory)
    defer {
        for name in (try? FileIO.names(in: directory)) ?? [] { unlink("\(directory)/\(name)") }
        rmdir(directory)
    }
    try body(directory)
}
