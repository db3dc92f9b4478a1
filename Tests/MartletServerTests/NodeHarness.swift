import MartletBase
import MartletCluster
import MartletKeyspace
import MartletRESP

@testable import MartletServer

/// A node without sockets: takes commands as text, gives back the bytes that its client would receive.
///
///     let node = NodeHarness()
///     #expect(node("SET key value") == "+OK\r\n")
///
/// Time stands still until ``advance(milliseconds:)``.
final class NodeHarness {
    var node: Node
    /// Who sends commands unless a test says otherwise.
    let client: ClientPointer
    private var batch = RequestBatch()
    private var microseconds: Int64
    private var cluster: ClusterState?
    private var clusterNow: Int64 = 0

    /// - Parameter name: tells nodes of one test apart; their random numbers come from it.
    init(
        isClustered: Bool = false, startMilliseconds: Int64 = 1_700_000_000_000, name: Character = "a",
        facts: ProcessFacts = ProcessFacts(),
        configure: (inout ServerConfiguration) -> Void = { _ in }
    ) {
        microseconds = startMilliseconds * 1000
        var configuration = ServerConfiguration()
        configuration.isClusterEnabled = isClustered
        configuration.debugCommand = .yes
        configure(&configuration)
        node = Node(
            configuration: configuration, seed: HashSeed(k0: 1, k1: 2), runID: String(repeating: name, count: 40),
            time: NodeTime(monotonicMicroseconds: microseconds, unixMicroseconds: microseconds),
            processFacts: { facts })
        client = node.addClient(address: "127.0.0.1:50000", localAddress: "127.0.0.1:6379", fd: 8)
    }

    deinit { node.keyspace.invariants() }

    /// Runs one command line, quoted as in redis-cli.
    @discardableResult
    func callAsFunction(_ line: String, as other: ClientPointer? = nil) -> String {
        guard let words = splitArguments(Array(line.utf8)) else { preconditionFailure("unbalanced quotes: \(line)") }
        return String(decoding: send(words, as: other), as: UTF8.self)
    }

    /// Runs one command.
    @discardableResult
    func send(_ arguments: [[UInt8]], as other: ClientPointer? = nil) -> [UInt8] {
        receive(RequestEncoder.encode(arguments), as: other)
    }

    /// Runs whatever the bytes hold, as if they had arrived at once.
    func receive(_ bytes: [UInt8], as other: ClientPointer? = nil) -> [UInt8] {
        let client = other ?? client
        return bytes.withUnsafeBufferPointer { bytes in
            let chunk = batch.append(
                Chunk(
                    base: bytes.baseAddress!, count: bytes.count, client: UnsafeMutableRawPointer(client),
                    connection: nil))
            var partial: PartialRequest?
            _ = RequestParser.parse(
                chunk: chunk, limits: RequestLimits(isAuthenticated: client.isAuthenticated),
                partial: &partial, into: &batch)
            node.prepare(batch, from: 0)
            node.execute(batch)
            batch.removeAll()
            defer { client.pointee.reply.removeAll() }
            return Array(client.pointee.reply.bytes)
        }
    }

    /// A further client.
    func connect(address: String = "127.0.0.1:50001") -> ClientPointer {
        node.addClient(address: address, localAddress: "127.0.0.1:6379", fd: 9)
    }

    func advance(milliseconds: Int64) {
        microseconds += milliseconds * 1000
        node.beginTurn(NodeTime(monotonicMicroseconds: microseconds, unixMicroseconds: microseconds))
    }

    var nowMilliseconds: Int64 { microseconds / 1000 }

    /// Makes a node in cluster mode the only one of its cluster, with every slot.
    func serveAllSlots() {
        joinCluster(remembering: nil)
        changeCluster("ADDSLOTSRANGE", "0", "16383")
    }

    /// Gives a node in cluster mode the view of a cluster in which it is the replica of one that has every slot.
    func followOwnerOfAllSlots() throws {
        try joinOwnerOfAllSlots { "myself,slave \($0) 0 0 1 connected" }
        node.follow(host: "127.0.0.1", port: 7000)
        changeCluster("INFO")
    }

    /// Gives a node in cluster mode the view of a cluster in which it imports a slot from the one that has every slot.
    func importSlot(_ slot: Int) throws {
        try joinOwnerOfAllSlots { "myself,master - 0 0 2 connected [\(slot)-<-\($0)]" }
        changeCluster("INFO")
    }

    /// - Parameter line: what nodes.conf tells of this node.
    private func joinOwnerOfAllSlots(_ line: (_ owner: String) -> String) throws {
        let myself = String(repeating: "a", count: 40), owner = String(repeating: "b", count: 40)
        joinCluster(
            remembering: try NodesConf.parse(
                """
                \(myself) 127.0.0.1:7001@17001 \(line(owner))
                \(owner) 127.0.0.1:7000@17000 master - 0 0 1 connected 0-16383
                vars currentEpoch 2 lastVoteEpoch 0

                """))
    }

    private func joinCluster(remembering conf: NodesConf?) {
        var configuration = ClusterConfiguration()
        configuration.requiresFullCoverage = false
        clusterNow = nowMilliseconds
        cluster = ClusterState(configuration: configuration, conf: conf, random: PRNG(seed: 1), now: clusterNow)
    }

    /// Runs a CLUSTER subcommand on the cluster's state machine; the node has the view that it leads to.
    func changeCluster(_ words: String...) {
        guard let cluster else { preconditionFailure("the node serves no slots") }
        _ = cluster.execute(ClusterRequest(words), now: clusterNow)
        repeat {
            clusterNow += 100
            cluster.tick(now: clusterNow)
            _ = cluster.takeEffects()
        } while !cluster.view.isOK
        node.adopt(cluster.view)
    }

    /// What a data command puts into the log: the commands that it queued, and its own text last unless it was replaced.
    /// Each as words joined by blanks, behind the number of the database it belongs to: `0 DEL key`.
    func propagation(of line: String) -> [String] {
        guard let words = splitArguments(Array(line.utf8)) else { preconditionFailure("unbalanced quotes: \(line)") }
        return words[0].withUnsafeBytes { name in
            guard case .data(let handler) = node.commands[node.commands.index(of: name)].handler else {
                preconditionFailure("no data command: \(line)")
            }
            node.keyspace.propagation.isOn = true
            defer {
                node.keyspace.propagation.removeAll()
                node.keyspace.propagation.isOn = false
            }
            node.keyspace.selected = client.pointee.database
            let changes = node.keyspace.changes
            var failed = false
            withRequest(words) { request in
                var reply = ReplyBuffer()
                var request = request
                let firstKey = Int(node.commands.hot[node.commands.index(of: name)].firstKey)
                if firstKey > 0 {
                    request.keyHash = node.keyspace.hash(request[firstKey])
                    if node.isClustered { request.slot = HashSlot.of(request[firstKey]).rawValue }
                }
                do { try handler(request, &node.keyspace, &reply) } catch { failed = true }
            }
            var lines = queuedPropagation
            if !failed, node.keyspace.changes != changes, !node.keyspace.propagation.replacesCommand {
                lines.append("\(client.pointee.database) \(line)")
            }
            return lines
        }
    }

    /// Takes what commands have queued for the log, in the same form. While nobody takes it, it has to be told that it is
    /// within a unit: `node.isInPropagationUnit`.
    func takePropagation() -> [String] {
        defer { node.keyspace.propagation.removeAll() }
        return queuedPropagation
    }

    private var queuedPropagation: [String] {
        var lines: [String] = []
        var start = 0
        for (database, end) in node.keyspace.propagation.commands {
            lines.append("\(database) " + Self.words(Array(node.keyspace.propagation.bytes[start..<end])))
            start = end
        }
        return lines
    }

    private static func words(_ command: [UInt8]) -> String {
        var lines = String(decoding: command, as: UTF8.self).split(separator: "\r\n", omittingEmptySubsequences: false)
        lines.removeLast()
        return stride(from: 2, to: lines.count, by: 2).map { String(lines[$0]) }.joined(separator: " ")
    }
}

/// Words as a request; it stays valid while `body` runs.
func withRequest(_ words: [[UInt8]], _ body: (Request) -> Void) {
    let views = words.map { word in
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, word.count), alignment: 1)
        copy.copyBytes(from: word)
        return UnsafeRawBufferPointer(start: copy.baseAddress, count: word.count)
    }
    defer { for view in views { view.deallocate() } }
    var arguments = views
    arguments.withUnsafeMutableBufferPointer { body(Request(arguments: $0.baseAddress!, count: $0.count)) }
}

extension String {
    /// A bulk string reply.
    static func bulk(_ text: String) -> String { "$\(text.utf8.count)\r\n\(text)\r\n" }
    /// An array of bulk strings.
    static func bulks(_ texts: String...) -> String { "*\(texts.count)\r\n" + texts.map(bulk).joined() }
}
