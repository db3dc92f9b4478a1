import MartletBase
import MartletRESP
import Testing

@testable import MartletServer

@Suite struct LongScriptTests {
    private let node = NodeHarness()
    private let other: ClientPointer

    init() {
        other = node.connect()
        // Time passes whenever somebody looks.
        nonisolated(unsafe) var now: Int64 = 0
        node.node.services.monotonicNanoseconds = {
            now += 10_000
            return now
        }
        node("CONFIG SET busy-reply-threshold 10")
    }

    /// Starts a script that does not end soon.
    private func start(_ script: String) {
        #expect(node.send([Array("EVAL".utf8), Array(script.utf8), Array("0".utf8)]).isEmpty)
        #expect(node.client.pointee.parked == .script)
        let isGoingOn = node.node.isBusy && node.node.hasUrgentWork
        #expect(isGoingOn)
    }

    /// What the script's client was told since.
    private func takeReply() -> String {
        defer { node.client.pointee.reply.removeAll() }
        return String(decoding: node.client.pointee.reply.bytes, as: UTF8.self)
    }

    private func finish() -> String {
        var turns = 0
        while node.node.isBusy, turns < 10_000 {
            node.node.endTurn()
            turns += 1
        }
        return takeReply()
    }

    private var isBusy: Bool { node.node.isBusy }

    private let busy = "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n"
    /// Some 30 slices.
    private let long = "local n = 0 for i = 1, 2e7 do n = n + 1 end "

    @Test("Others get BUSY while a script runs for long, and its client the reply in the end")
    func busyReplies() {
        start(long + "return {n, redis.call('SET', 'k', 'v')}")
        #expect(node("GET k", as: other) == busy)
        #expect(node("PING", as: other) == busy)
        #expect(node("FUNCTION KILL", as: other).hasPrefix("-"))
        node.node.endTurn()
        #expect(isBusy)
        #expect(node("GET k", as: other) == busy)
        #expect(finish() == "*2\r\n:20000000\r\n+OK\r\n")
        #expect(!node.client.isParked)
        #expect(node("GET k", as: other) == .bulk("v"))
    }

    @Test("SCRIPT KILL ends a script, even one that catches all errors")
    func kill() {
        start("local function f() while true do end end while true do pcall(f) end")
        #expect(node("SCRIPT KILL", as: other) == "+OK\r\n")
        #expect(finish().hasPrefix("-ERR Script killed by user with SCRIPT KILL... script: "))
        start("while true do coroutine.wrap(function() while true do end end)() end")
        #expect(node("SCRIPT KILL", as: other) == "+OK\r\n")
        #expect(finish().contains("killed by user"))
        #expect(node("EVAL 'local n = 0 for i = 1, 1000 do n = n + i end return n' 0") == ":500500\r\n")
        #expect(node("SCRIPT KILL", as: other) == "-NOTBUSY No scripts in execution right now.\r\n")
    }

    @Test("The clock is looked at after a function that had much to do")
    func heavyFunctions() {
        node("CONFIG SET busy-reply-threshold 1")
        node.send(["SET", "v", String(repeating: "v", count: 300_000)].map { Array($0.utf8) })
        for work in [
            "s:rep(1)", "cjson.encode(s)", "cmsgpack.pack(s)", "struct.pack('s', s)", "redis.call('GET', 'v')",
            "redis.sha1hex(s)",
        ] {
            start("local s = ('x'):rep(300000) for i = 1, 150 do local _ = \(work) end return 1")
            #expect(finish() == ":1\r\n")
        }
    }

    @Test("SCRIPT KILL ends a script whose handler of errors does not end")
    func killWithHandler() {
        for script in [
            "xpcall(function() while true do end end, function() while true do end end)\nreturn 1",
            "local function f() while true do end end while true do coroutine.wrap(function() xpcall(f, f) end)() end",
        ] {
            start(script)
            #expect(node("SCRIPT KILL", as: other) == "+OK\r\n")
            #expect(finish().contains("killed by user"))
        }
        #expect(node("EVAL 'return {xpcall(error, function(e) return 7 end)}' 0") == "*2\r\n$-1\r\n:7\r\n")
        #expect(node("EVAL 'return {xpcall(function() return 1, 2 end, error)}' 0") == "*3\r\n:1\r\n:1\r\n:2\r\n")
        #expect(node("EVAL 'return select(2, xpcall(error, 1))' 0") == .bulk("error in error handling"))
    }

    @Test("A script that has written cannot be killed")
    func unkillable() {
        start("redis.call('SET', 'k', 1) " + long + "redis.call('INCR', 'k')")
        #expect(
            node("SCRIPT KILL", as: other).hasPrefix("-UNKILLABLE Sorry the script already executed write commands"))
        #expect(node("SHUTDOWN", as: other) == busy)
        #expect(finish() == "$-1\r\n")
        #expect(node("GET k", as: other) == .bulk("2"))
    }

    @Test("MULTI is open to others, but what they queue is refused and breaks EXEC")
    func transactionOfOthers() {
        start("while true do end")
        #expect(node("MULTI", as: other) == "+OK\r\n")
        #expect(node("INCR k", as: other) == busy)
        #expect(node("EXEC", as: other).hasPrefix("-EXECABORT Transaction discarded because of: BUSY"))
        node("SCRIPT KILL", as: other)
        _ = finish()
        #expect(node("PING", as: other) == "+PONG\r\n")
    }

    @Test("An EXEC goes on behind its script, and is one unit in the log")
    func ownTransaction() {
        node.node.activateLog()
        let start = node.node.replicationOffset
        node("MULTI")
        node("SET k 1")
        node.send(["EVAL", long + "return redis.call('INCR', 'k')", "0"].map { Array($0.utf8) })
        node("INCR k")
        #expect(node("EXEC") == "*3\r\n+OK\r\n")
        #expect(node("GET k", as: other) == busy)
        let whileRunning = node.node.replicationOffset
        #expect(whileRunning == start)
        #expect(finish() == ":2\r\n:3\r\n")
        let (end, isInUnit) = (node.node.replicationOffset, node.node.isInPropagationUnit)
        #expect(end > start)
        #expect(!isInUnit)
        #expect(node("GET k", as: other) == .bulk("3"))
    }

    @Test("With CLIENT REPLY OFF nothing is heard of a transaction that its script suspends")
    func silentTransaction() {
        node("CLIENT REPLY OFF")
        node("MULTI")
        node.send(["EVAL", long + "return n", "0"].map { Array($0.utf8) })
        node("SET k 1")
        #expect(node("EXEC").isEmpty)
        #expect(isBusy)
        #expect(finish().isEmpty)
        #expect(node("CLIENT REPLY ON") + node("GET k") == "+OK\r\n" + .bulk("1"))
    }

    @Test("A pause that ends in the midst of a script brings it no writes of the primary")
    func heldStream() {
        let network = ReplicationNetwork(seed: 1, nodeCount: 2)
        let replica = network[2]
        nonisolated(unsafe) var now: Int64 = 0
        replica.node.services.monotonicNanoseconds = {
            now += 1_000_000
            return now
        }
        replica("CONFIG SET busy-reply-threshold 10")
        replica("REPLICAOF 127.0.0.1 1")
        network[1]("SET k old")
        network.settle()
        replica("CLIENT PAUSE 100 WRITE")
        network[1]("SET k new")
        network.settle()
        let get = "redis.call('GET', 'k')"
        replica.send(["EVAL_RO", "local first = \(get) \(long) return {first, \(get)}", "0"].map { Array($0.utf8) })
        let isSuspended = replica.node.isBusy
        #expect(isSuspended)
        replica.advance(milliseconds: 200)
        while replica.node.isBusy { replica.node.endTurn() }
        #expect(String(decoding: replica.client.pointee.reply.bytes, as: UTF8.self) == .bulks("old", "old"))
        replica.client.pointee.reply.removeAll()
        #expect(replica("GET k") == .bulk("new"))
    }

    @Test("A script goes on when its client is gone")
    func orphan() {
        let caller = node.connect()
        let script = "redis.call('SET', 'k', 1) " + long + "redis.call('INCR', 'k') return 'nobody reads this'"
        node.send(["EVAL", script, "0"].map { Array($0.utf8) }, as: caller)
        #expect(isBusy)
        node.node.remove(caller)
        #expect(finish() == "")
        #expect(node("GET k") == .bulk("2"))
        #expect(node("EVAL 'return 1' 0") == ":1\r\n")
    }

    @Test("An EXEC goes on behind its script when its client is gone, and is one unit in the log")
    func orphanedTransaction() {
        node.node.activateLog()
        let caller = node.connect()
        node("MULTI", as: caller)
        node("SET k 1", as: caller)
        node.send(["EVAL", long + "return redis.call('INCR', 'k')", "0"].map { Array($0.utf8) }, as: caller)
        for line in ["SUBSCRIBE channel", "CLIENT TRACKING ON", "CLIENT REPLY OFF", "INCR k"] { node(line, as: caller) }
        #expect(node("EXEC", as: caller) == "*6\r\n+OK\r\n")
        node.node.remove(caller)
        #expect(node("GET k") == busy)
        let whileRunning = node.node.replicationOffset
        #expect(finish() == "")
        let (end, isInUnit) = (node.node.replicationOffset, node.node.isInPropagationUnit)
        let count = node.node.clients.count
        #expect(end > whileRunning)
        #expect(!isInUnit)
        #expect(count == 2)
        #expect(node("GET k") == .bulk("3"))
        #expect(node("PUBLISH channel x") == ":0\r\n")
    }

    @Test("Who waits for a key is served when the script has ended")
    func blockedClients() {
        #expect(node("BLPOP list 0", as: other) == "")
        let third = node.connect(address: "127.0.0.1:50002")
        start("redis.call('LPUSH', 'list', 'y') " + long + "redis.call('LPUSH', 'list', 'z')")
        #expect(node("RESET", as: third) == "+RESET\r\n")
        #expect(other.isParked)
        #expect(finish() == "$-1\r\n")
        node.node.endTurn()
        #expect(!other.isParked)
        #expect(String(decoding: other.pointee.reply.bytes, as: UTF8.self) == .bulks("list", "z"))
    }

    @Test("A script keeps the time it began at, and database and commands of others do not mix with its own")
    func snapshotOfTime() {
        node("SET k v PX 100")
        start(long + "return redis.call('EXISTS', 'k')")
        node.advance(milliseconds: 200)
        #expect(finish() == ":1\r\n")
        #expect(node("EXISTS k") == ":0\r\n")
    }

    @Test("A node may end while a script is suspended")
    func abandoned() {
        start("while true do end")
    }
}
