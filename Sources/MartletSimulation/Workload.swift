import MartletBase

// Clients that write. Each sends one request at a time to the node that it believes to own the slot, follows MOVED and
// ASK, and gives up after a while, not knowing what became of the write.

struct Request {
    var client: Int
    var key: Int
    /// The host that the client runs beside: it shares its fate in partitions.
    var host: Int
    var isAsking = false
    var wantsWait = false
    var redirections = 0
    /// Tells late answers from current ones.
    var number: UInt64
}

enum Answer {
    case done(UInt64)
    case moved(Int)
    case ask(Int)
    /// CLUSTERDOWN, TRYAGAIN, a refused connection.
    case down
}

struct Workload {
    struct Client {
        var host: Int
        var requestNumber: UInt64 = 0
    }

    static let timeout: Int64 = 1_000_000
    static let redirectionsMax = 5

    let slots: [HashSlot]
    private var keysBySlot: [HashSlot: [Int]] = [:]
    var clients: [Client]
    /// Which node the clients believe to serve a key; one cache for all.
    var owners: [Int]
    var isPaused = false

    init(keyCount: Int, clientCount: Int, nodeCount: Int) {
        slots = (0..<keyCount).map { number in
            // Two keys to a slot, so that slots migrate in more than one step.
            let name = Array("{\(number / 2)}\(number)".utf8)
            return name.withUnsafeBytes { HashSlot.of($0) }
        }
        for (key, slot) in slots.enumerated() { keysBySlot[slot, default: []].append(key) }
        clients = (0..<clientCount).map { Client(host: $0 % nodeCount) }
        owners = Array(repeating: 0, count: keyCount)
    }

    func keys(in slot: HashSlot) -> [Int] { keysBySlot[slot] ?? [] }
}

extension Simulation {
    func startClients() {
        for client in workload.clients.indices { think(client) }
    }

    private func think(_ client: Int) {
        after(random.between(2_000, 60_000)) { [self] in
            if workload.isPaused { return think(client) }
            workload.clients[client].requestNumber += 1
            let request = Request(
                client: client, key: random.below(workload.slots.count), host: workload.clients[client].host,
                wantsWait: random.oneIn(10), number: workload.clients[client].requestNumber)
            after(Workload.timeout) { [self] in
                if isCurrent(request) {
                    // Somebody else may know better.
                    workload.owners[request.key] = random.below(nodes.count)
                    finish(request)
                }
            }
            send(request, to: workload.owners[request.key])
        }
    }

    private func isCurrent(_ request: Request) -> Bool {
        workload.clients[request.client].requestNumber == request.number
    }

    private func finish(_ request: Request) {
        workload.clients[request.client].requestNumber += 1
        think(request.client)
    }

    private func send(_ request: Request, to node: Int) {
        after(network.latency(request.host, node, using: &random)) { [self] in
            guard nodes[node].isHostUp, network.isOpen(request.host, node) else { return }
            guard let process = nodes[node].process else {
                guard network.isOpen(node, request.host) else { return }
                return receive(.down, for: request, from: node)
            }
            arrive(request, process)
        }
    }

    func receive(_ answer: Answer, for request: Request, from node: Int) {
        switch answer {
        case .done(let stamp):
            // Also a late answer is an acknowledgement that somebody saw.
            ground.noteAcknowledged(stamp, request.key)
            statistics.acknowledged += 1
            fingerprint.add(.acknowledged, time: time, node: node)
            guard isCurrent(request) else { return }
            workload.owners[request.key] = node
            finish(request)
        case .moved(let target), .ask(let target):
            guard isCurrent(request) else { return }
            var next = request
            next.redirections += 1
            guard next.redirections <= Workload.redirectionsMax else { return finish(request) }
            if case .ask = answer { next.isAsking = true } else { next.isAsking = false }
            if !next.isAsking { workload.owners[request.key] = target }
            send(next, to: target)
        case .down:
            guard isCurrent(request) else { return }
            workload.owners[request.key] = random.below(nodes.count)
            finish(request)
        }
    }
}
