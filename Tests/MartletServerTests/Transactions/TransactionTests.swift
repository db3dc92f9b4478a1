import MartletBase
import MartletCluster
import MartletKeyspace
import MartletRESP
import Testing

@testable import MartletServer

@Suite struct TransactionTests {
    /// Several lines at once, as a pipelining client sends them.
    private func run(_ node: NodeHarness, _ lines: String..., as client: ClientPointer? = nil) -> String {
        lines.map { node($0, as: client) }.joined()
    }

    private func otherClient(_ node: NodeHarness) -> ClientPointer {
        node.node.addClient(address: "127.0.0.1:50001", localAddress: "127.0.0.1:6379", fd: 9)
    }

    @Test("Commands between MULTI and EXEC are queued and answered together")
    func queueAndRun() {
        let node = NodeHarness()
        #expect(run(node, "MULTI", "SET a 1", "INCR a", "GET a") == "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n")
        #expect(node("EXEC") == "*3\r\n+OK\r\n:2\r\n$1\r\n2\r\n")
        #expect(node("GET a") == .bulk("2"))
    }

    @Test("A command that fails while running does not stop the others")
    func errorWhileRunning() {
        let node = NodeHarness()
        _ = run(node, "SET a text", "MULTI", "INCR a", "SET b 1")
        #expect(node("EXEC") == "*2\r\n-ERR value is not an integer or out of range\r\n+OK\r\n")
    }

    @Test("A command that cannot be queued makes EXEC refuse", arguments: ["NOSUCH", "GET", "GET a b"])
    func errorWhileQueueing(_ line: String) {
        let node = NodeHarness()
        _ = run(node, "MULTI", "SET a 1", line)
        #expect(node("EXEC") == "-EXECABORT Transaction discarded because of previous errors.\r\n")
        #expect(node("GET a") == "$-1\r\n")
        #expect(node("EXEC") == "-ERR EXEC without MULTI\r\n")
    }

    @Test("Misplaced words are told apart")
    func misplaced() {
        let node = NodeHarness()
        #expect(node("EXEC") == "-ERR EXEC without MULTI\r\n")
        #expect(node("DISCARD") == "-ERR DISCARD without MULTI\r\n")
        _ = node("MULTI")
        #expect(node("MULTI") == "-ERR MULTI calls can not be nested\r\n")
        #expect(node("WATCH a") == "-ERR WATCH inside MULTI is not allowed\r\n")
        #expect(node("DISCARD") == "+OK\r\n")
        #expect(node("GET a") == "$-1\r\n")
    }

    @Test(
        "A watched key that changed makes EXEC answer nil",
        arguments: [
            "SET k 2", "DEL k", "APPEND k x", "EXPIRE k 100", "RENAME k other", "RENAME other k", "FLUSHALL",
            "SWAPDB 0 1",
        ])
    func watchedChange(_ change: String) {
        let node = NodeHarness()
        _ = run(node, "SET k 1", "SET other 2", "WATCH k")
        _ = node(change, as: otherClient(node))
        #expect(run(node, "MULTI", "SET done 1") == "+OK\r\n+QUEUED\r\n")
        #expect(node("EXEC") == "*-1\r\n")
        #expect(run(node, "MULTI", "PING", "EXEC") == "+OK\r\n+QUEUED\r\n*1\r\n+PONG\r\n")
    }

    @Test(
        "What does not change a watched key does not matter",
        arguments: ["GET k", "SET z 1", "DEL nothing", "SELECT 1"])
    func watchedNoChange(_ line: String) {
        let node = NodeHarness()
        _ = run(node, "SET k 1", "WATCH k")
        _ = node(line, as: otherClient(node))
        #expect(run(node, "MULTI", "PING", "EXEC") == "+OK\r\n+QUEUED\r\n*1\r\n+PONG\r\n")
    }

    @Test("A watched key that expires counts as changed; one that was over already does not")
    func watchedExpiry() {
        let node = NodeHarness()
        _ = run(node, "SET k 1 PX 100", "WATCH k")
        node.advance(milliseconds: 200)
        #expect(run(node, "MULTI", "PING", "EXEC").hasSuffix("*-1\r\n"))
        _ = run(node, "SET k 1 PX 100")
        node.advance(milliseconds: 200)
        _ = node("WATCH k")
        #expect(run(node, "MULTI", "PING", "EXEC").hasSuffix("*1\r\n+PONG\r\n"))
    }

    @Test("Many keys are watched in no time, and each once", .timeLimit(.minutes(1)))
    func manyWatches() {
        let node = NodeHarness()
        let names = (0..<30_000).map { Array("k\($0 % 29_000)".utf8) }
        #expect(node.send([Array("WATCH".utf8)] + names) == Array("+OK\r\n".utf8))
        #expect(node("WATCH k1 other other") == "+OK\r\n")
        #expect(node.client.pointee.transaction?.watched.count == 29_001)
        #expect(run(node, "SET k28999 1", "MULTI", "PING", "EXEC").hasSuffix("*-1\r\n"))
    }

    @Test("UNWATCH, EXEC and the end of a client forget watches")
    func forgetting() {
        let node = NodeHarness()
        _ = run(node, "WATCH k", "UNWATCH", "SET k 1")
        #expect(run(node, "MULTI", "PING", "EXEC").hasSuffix("*1\r\n+PONG\r\n"))
        _ = run(node, "WATCH k", "MULTI", "EXEC")
        let watchedKeyCount = node.client.pointee.watchedKeyCount
        #expect(watchedKeyCount == 0)
        let other = otherClient(node)
        _ = node("WATCH k", as: other)
        node.node.remove(other)
        let version = node.node.keyspace.watchVersion(WatchedKey(database: 0, key: Array("k".utf8)))
        #expect(version == nil)
    }

    @Test("An EXEC that has to wait for an answer goes on when it comes")
    func suspended() {
        let node = NodeHarness(isClustered: true)
        #expect(run(node, "MULTI", "CLUSTER MYID", "PING") == "+OK\r\n+QUEUED\r\n+QUEUED\r\n")
        #expect(node("EXEC") == "*2\r\n")
        let parked = node.client.pointee.parked
        guard case .answer(let token) = parked else {
            Issue.record("not parked for an answer")
            return
        }
        node.node.clusterReplied(token, .bulk("id"))
        let isParked = node.client.isParked
        let answer = String(bytes: node.client.pointee.reply.bytes)
        #expect(!isParked)
        #expect(answer == "$2\r\nid\r\n+PONG\r\n")
    }

    @Test(
        "Nothing that touches data may follow a command that suspends EXEC: others would have their turn in between",
        arguments: ["SET b 2", "GET a", "FLUSHALL", "MIGRATE 127.0.0.1 1 a 0 100"])
    func dataAfterWaiting(_ line: String) {
        let node = NodeHarness(isClustered: true)
        _ = run(node, "MULTI", "SET a 1", "CLUSTER INFO")
        #expect(node(line) == "-ERR Command not allowed inside a transaction\r\n")
        #expect(node("EXEC") == "-EXECABORT Transaction discarded because of previous errors.\r\n")
        #expect(node("GET a") == "$-1\r\n")
    }

    @Test("A suspended EXEC has done all its writes")
    func writesBeforeWaiting() {
        let node = NodeHarness(isClustered: true)
        _ = run(node, "MULTI", "SET a 1", "CLUSTER INFO", "CLUSTER MYID")
        #expect(node("EXEC") == "*3\r\n+OK\r\n")
        #expect(node("GET a", as: otherClient(node)) == .bulk("1"))
    }

    @Test("WAIT answers at once inside of a transaction")
    func waitInside() {
        let node = NodeHarness()
        _ = run(node, "MULTI", "WAIT 1 0", "SET a 1")
        #expect(node("EXEC") == "*2\r\n:0\r\n+OK\r\n")
    }

    @Test("An EXEC that is refused ends its transaction, and says why")
    func refusedExec() {
        let node = NodeHarness()
        _ = run(node, "MULTI", "SET a 1")
        _ = node("CONFIG SET min-replicas-to-write 1", as: otherClient(node))
        #expect(
            node("EXEC")
                == "-EXECABORT Transaction discarded because of: NOREPLICAS Not enough good replicas to write.\r\n")
        #expect(node("EXEC") == "-ERR EXEC without MULTI\r\n")
        _ = node("CONFIG SET min-replicas-to-write 0")
        _ = run(node, "MULTI", "SET a 1")
        _ = node("REPLICAOF 127.0.0.1 1", as: otherClient(node))
        #expect(
            node("EXEC")
                == "-EXECABORT Transaction discarded because of: READONLY You can't write against a read only replica.\r\n"
        )
        #expect(run(node, "MULTI", "GET a", "EXEC").hasSuffix("*1\r\n$-1\r\n"))
    }

    @Test("An EXEC whose slot has gone is told so, whatever else would refuse it")
    func redirectedExec() {
        let node = NodeHarness(isClustered: true)
        node.serveAllSlots()
        #expect(run(node, "MULTI", "SET a 1") == "+OK\r\n+QUEUED\r\n")
        node.changeCluster("DELSLOTS", "15495")
        _ = node("CONFIG SET min-replicas-to-write 1", as: otherClient(node))
        #expect(node("EXEC") == "-CLUSTERDOWN Hash slot not served\r\n")
        #expect(node("EXEC") == "-ERR EXEC without MULTI\r\n")
    }

    @Test(
        "A key that is over, but still there, counts as missing for WATCH"
    )
    func watchedStaleKeys() {
        let pings = "+OK\r\n+QUEUED\r\n*1\r\n+PONG\r\n"
        let node = NodeHarness()
        let other = otherClient(node)
        for change in ["EXISTS k", "DEL k", "FLUSHDB", "SWAPDB 0 1"] {
            _ = run(node, "SET k 1 PX 1")
            node.advance(milliseconds: 2)
            _ = run(node, "WATCH k")
            _ = node(change, as: other)
            #expect(run(node, "MULTI", "PING", "EXEC") == pings)
        }
        // A stale key takes the place of none, and of another stale one.
        for hasOther in [false, true] {
            _ = run(node, "FLUSHALL", "SET k 1 PX 1", "SELECT 1")
            if hasOther { _ = run(node, "SET k 1 PX 1") }
            node.advance(milliseconds: 2)
            _ = run(node, "WATCH k", "SWAPDB 0 1")
            #expect(run(node, "MULTI", "PING", "EXEC") == pings)
            _ = run(node, "SELECT 0")
        }
        // A living one is a change.
        _ = run(node, "FLUSHALL", "SET k 1 PX 100", "SELECT 1", "WATCH k", "SWAPDB 0 1")
        #expect(run(node, "MULTI", "PING", "EXEC").hasSuffix("*-1\r\n"))
    }

    @Test("A watched key counts as changed when its time has passed, also where it is only hidden")
    func watchedHiddenKeys() {
        let network = ReplicationNetwork(seed: 1, nodeCount: 2)
        _ = network[2]("REPLICAOF 127.0.0.1 1")
        _ = network[1]("SET k 1 PX 100")
        network.settle()
        let replica = network[2]
        #expect(replica("GET k") == .bulk("1"))
        _ = run(replica, "WATCH k")
        network[1].advance(milliseconds: 200)
        replica.advance(milliseconds: 200)
        #expect(run(replica, "CLIENT INFO").contains("flags=d "))
        #expect(run(replica, "MULTI", "PING", "EXEC").hasSuffix("*-1\r\n"))
        // Over at WATCH, then deleted by the primary: missing before and after.
        _ = run(replica, "WATCH k")
        _ = network[1]("GET k")
        network.settle()
        #expect(run(replica, "MULTI", "PING", "EXEC").hasSuffix("*1\r\n+PONG\r\n"))
        _ = run(replica, "WATCH k")
        _ = network[1]("SET k 2")
        network.settle()
        #expect(run(replica, "MULTI", "PING", "EXEC").hasSuffix("*-1\r\n"))
    }

    @Test("EXEC is held to what all of its commands are")
    func flagsOfExec() {
        let node = NodeHarness()
        let other = otherClient(node)
        _ = node("CONFIG SET replica-serve-stale-data no")
        for line in ["GET a", "PING"] {
            _ = run(node, "MULTI", line)
            _ = node("REPLICAOF 127.0.0.1 1", as: other)
            #expect(
                node("EXEC")
                    == "-EXECABORT Transaction discarded because of: MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n"
            )
            _ = node("REPLICAOF NO ONE", as: other)
        }
        _ = run(node, "MULTI", "INFO server")
        _ = node("REPLICAOF 127.0.0.1 1", as: other)
        #expect(node("EXEC").hasPrefix("*1\r\n$"))
    }

    @Test("What is queued for a transaction that cannot run is not kept")
    func brokenQueue() {
        let node = NodeHarness()
        #expect(run(node, "MULTI", "NONSENSE").hasPrefix("+OK\r\n-ERR unknown command"))
        #expect(node("SET a 1") == "+QUEUED\r\n")
        let count = node.client.pointee.queuedCommandCount
        #expect(count == 0)
    }

    @Test("ASKING holds for the next command also when that is refused")
    func askingIsForOneCommand() {
        let node = NodeHarness(isClustered: true)
        node.serveAllSlots()
        _ = run(node, "ASKING", "GET")
        let isAsking = node.client.pointee.flags.contains(.asking)
        #expect(!isAsking)
    }

    @Test("ASKING holds for a whole transaction, whose keys must all be here or be one")
    func askingForATransaction() throws {
        let node = NodeHarness(isClustered: true)
        try node.importSlot(15495)
        #expect(run(node, "ASKING", "MULTI", "SET a 1", "GET a") == "+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n")
        #expect(node("EXEC") == "*2\r\n+OK\r\n$1\r\n1\r\n")
        #expect(node("GET a").hasPrefix("-MOVED 15495 "))
        _ = run(node, "ASKING", "MULTI", "GET a", "GET {a}b")
        #expect(node("EXEC") == "-TRYAGAIN Multiple keys request during rehashing of slot\r\n")
        #expect(node("EXEC") == "-ERR EXEC without MULTI\r\n")
        // Within a transaction it is a command like others, for nothing behind it.
        #expect(run(node, "MULTI", "ASKING", "EXEC") == "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n")
        #expect(node("GET a").hasPrefix("-MOVED 15495 "))
        // A key that is named twice is one.
        #expect(run(node, "ASKING", "MGET {a}b {a}b") == "+OK\r\n*2\r\n$-1\r\n$-1\r\n")
    }

    @Test("EXEC with an argument ends the transaction")
    func malformedExec() {
        let node = NodeHarness()
        let refusal =
            "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n"
        #expect(run(node, "MULTI", "SET a 1", "EXEC now") == "+OK\r\n+QUEUED\r\n" + refusal)
        #expect(node("EXEC now") == refusal)
        #expect(run(node, "EXEC", "GET a") == "-ERR EXEC without MULTI\r\n$-1\r\n")
    }

    @Test("CLIENT REPLY silences QUEUED, too")
    func silentQueue() {
        let node = NodeHarness()
        #expect(run(node, "CLIENT REPLY SKIP", "MULTI", "SET a 1", "DISCARD") == "+QUEUED\r\n+OK\r\n")
        #expect(run(node, "CLIENT REPLY OFF", "MULTI", "SET a 2", "GET a", "EXEC").isEmpty)
        #expect(run(node, "CLIENT REPLY ON", "GET a") == "+OK\r\n" + .bulk("2"))
    }

    @Test("A queue counts as received and not executed: it has the limit of that")
    func longQueue() {
        let node = NodeHarness { $0.clientQueryBufferLimit = 1 << 20 }
        let set = ["SET", "a", String(repeating: "x", count: 600_000)].map { Array($0.utf8) }
        _ = node("MULTI")
        _ = node.send(set)
        #expect(!node.client.isClosing as Bool)
        _ = node.send(set)
        #expect(node.client.isClosing as Bool)
    }

    @Test("Transactions work under other names, too")
    func renamedCommands() {
        let node = NodeHarness { configuration in
            configuration.renamedCommands = [RenamedCommand(name: "exec", newName: "run")]
        }
        _ = run(node, "MULTI", "SET a 1")
        #expect(node("RUN") == "*1\r\n+OK\r\n")
    }
}
