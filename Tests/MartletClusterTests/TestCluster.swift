import MartletBase

@testable import MartletCluster

/// A few cluster cores in one process, connected by an in-memory network under virtual time. Not the simulator: no
/// loss, no checkers, just enough to tell stories.
final class TestCluster {
    final class Member {
        let index: Int
        let port: UInt16
        /// Nil while the process is dead.
        var state: ClusterState?
        /// What the disk holds.
        var file: [UInt8]?
        /// What a power cut leaves of it.
        var durableFile: [UInt8]?
        var fileWrites = 0
        var view: ClusterView?
        var following: NodeID?
        var offset: Int64 = 0
        var isPaused = false
        var pauseAnswersAfter: Int64? = 0
        var lastContact: Int64 = 0
        var deletedSlots: [HashSlot] = []
        var published: [(String, String)] = []
        var logLines: [String] = []
        var wasFlushed = false
        var configuration = ClusterConfiguration()
        var peers: [BusLinkID: (Member, BusLinkID)] = [:]

        init(index: Int, port: UInt16) {
            self.index = index
            self.port = port
        }
    }

    private enum Event {
        case connect(Int, BusLinkID, UInt16)
        case opened(Int, BusLinkID)
        case refused(Int, BusLinkID)
        case deliver(Int, BusLinkID, [UInt8])
        case closed(Int, BusLinkID, BusLinkCloseReason)
        case paused(Int)
        case replicate(Int, NodeID, Int64)
    }

    private(set) var now: Int64 = 1_700_000_000_000
    private var queue: [(at: Int64, order: Int, event: Event)] = []
    private var order = 0
    private var eventCount = 0
    private var random: PRNG
    private(set) var members: [Member] = []
    /// Notices and warnings of all members as they came.
    var transcript: [(at: Int64, member: Int, text: String)] = []
    /// Members in different groups cannot reach each other.
    var group: [Int: Int] = [:]
    /// Members whose port drops what comes in instead of refusing it, and who say nothing: a stopped process.
    var frozen: Set<Int> = []
    /// Called for every packet on its way; false loses it.
    var filter: (_ from: Int, _ to: Int, _ packet: [UInt8]) -> Bool = { _, _, _ in true }

    init(seed: UInt64 = 1) { random = PRNG(seed: seed) }

    @discardableResult
    func add(_ configure: (inout ClusterConfiguration) -> Void = { _ in }) -> Int {
        let index = members.count
        let member = Member(index: index, port: UInt16(7000 + index))
        member.configuration.port = member.port
        configure(&member.configuration)
        members.append(member)
        start(index)
        return index
    }

    subscript(_ index: Int) -> ClusterState { members[index].state! }

    /// Also of a member that is down.
    func namedID(_ index: Int) -> String { "\(members[index].view!.nodeID)" }

    func id(_ index: Int) -> String { "\(self[index].myself.id)" }

    /// Text with the ids of members replaced by n0, n1, …
    func named(_ text: String) -> String {
        members.reduce(text) { text, member in
            guard let id = member.view?.nodeID else { return text }
            return text.split(separator: "\(id)", omittingEmptySubsequences: false).joined(
                separator: "n\(member.index)")
        }
    }

    // MARK: Processes

    func start(_ index: Int) {
        let member = members[index]
        precondition(member.state == nil)
        let conf = member.file.flatMap { try! NodesConf.parse($0) }
        member.following = nil
        member.isPaused = false
        member.state = ClusterState(
            configuration: member.configuration, conf: conf, random: PRNG(seed: random.next()), now: now)
        carryOut(member)
        member.state?.replicationChanged(status(member), now: now)
        carryOut(member)
    }

    func kill(_ index: Int) {
        let member = members[index]
        member.state = nil
        for (_, peer) in member.peers.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
            peer.0.peers[peer.1] = nil
            schedule(.closed(peer.0.index, peer.1, .peerClosed), after: 1)
        }
        member.peers = [:]
        frozen.remove(index)
    }

    func cutPower(_ index: Int) {
        kill(index)
        members[index].file = members[index].durableFile
    }

    @discardableResult
    func execute(_ index: Int, _ command: String, keys: Int = 0) -> ClusterReply {
        let words = command.split(separator: " ").map(String.init)
        let reply = self[index].execute(
            ClusterRequest(words, databaseIsEmpty: keys == 0, keyCountInSlot: keys), now: now)
        carryOut(members[index])
        return reply
    }

    func configure(_ index: Int, _ change: (inout ClusterConfiguration) -> Void) {
        change(&members[index].configuration)
        self[index].configure(members[index].configuration, now: now)
        carryOut(members[index])
    }

    func stall(_ index: Int, _ isStalled: Bool) {
        if isStalled { self[index].stalled(now: now) } else { self[index].resumed(now: now) }
        carryOut(members[index])
    }

    func publish(_ index: Int, _ channel: String, _ message: String, isSharded: Bool = false) {
        self[index].publish(
            channel: Array(channel.utf8), message: Array(message.utf8), isSharded: isSharded, now: now)
        carryOut(members[index])
    }

    /// A client writes to a primary; replicas get it a millisecond later if they can.
    func write(_ index: Int, bytes: Int64 = 100) {
        let member = members[index]
        guard !member.isPaused else { return }
        member.offset += bytes
        report(member)
        for other in members where other.index != index && other.following == self[index].myself.id {
            schedule(.replicate(other.index, self[index].myself.id, member.offset), after: 1)
        }
    }

    func setOffset(_ index: Int, _ offset: Int64) {
        members[index].offset = offset
        report(members[index])
    }

    private func report(_ member: Member) {
        member.state?.replicationChanged(status(member), now: now)
        carryOut(member)
    }

    private func status(_ member: Member) -> ReplicationStatus {
        ReplicationStatus(
            offset: member.offset, isPrimaryLinkUp: member.following != nil, lastPrimaryContact: member.lastContact)
    }

    // MARK: Time

    func run(milliseconds: Int64) {
        let end = now + milliseconds
        while step(until: end) {}
        now = end
    }

    /// Runs until the condition holds and returns how long that took, or nil after the time-out.
    @discardableResult
    func run(until condition: () -> Bool, timeout: Int64 = 60_000) -> Int64? {
        let start = now
        while !condition() {
            guard now - start <= timeout, step(until: start + timeout + 1) else { return nil }
        }
        return now - start
    }

    private func schedule(_ event: Event, after delay: Int64) {
        order += 1
        queue.append((now + delay, order, event))
    }

    /// The next event or tick not later than `end`; false if there is none.
    private func step(until end: Int64) -> Bool {
        var next: Int?
        for index in queue.indices {
            guard let best = next else {
                next = index
                continue
            }
            if (queue[index].at, queue[index].order) < (queue[best].at, queue[best].order) { next = index }
        }
        let alive = members.filter { $0.state != nil && !frozen.contains($0.index) }
        let ticker = alive.min { $0.state!.nextDeadline < $1.state!.nextDeadline }
        if let next, ticker == nil || queue[next].at <= ticker!.state!.nextDeadline {
            guard queue[next].at <= end else { return false }
            let (at, _, event) = queue.remove(at: next)
            now = max(now, at)
            handle(event)
            return true
        }
        guard let ticker, ticker.state!.nextDeadline <= end else { return false }
        now = max(now, ticker.state!.nextDeadline)
        if let primary = ticker.following,
            members.contains(where: {
                $0.state?.myself.id == primary && canReach(ticker.index, $0.index) && !frozen.contains($0.index)
            })
        {
            ticker.lastContact = now
            ticker.state!.replicationChanged(status(ticker), now: now)
        }
        ticker.state!.tick(now: now)
        carryOut(ticker)
        return true
    }

    private func canReach(_ one: Int, _ other: Int) -> Bool { group[one, default: 0] == group[other, default: 0] }

    private func handle(_ event: Event) {
        switch event {
        case .connect(let index, let link, let port):
            guard members[index].state != nil else { return }
            guard let target = members.first(where: { $0.state.map { $0.myself.ports.bus == port } ?? false }) else {
                return schedule(.refused(index, link), after: 0)
            }
            guard canReach(index, target.index) else { return }
            let accepted = target.state!.linkAccepted(from: "127.0.0.1", localAddress: "127.0.0.1", now: now)
            target.peers[accepted] = (members[index], link)
            members[index].peers[link] = (target, accepted)
            carryOut(target)
            schedule(.opened(index, link), after: 0)
        case .opened(let index, let link):
            guard members[index].peers[link] != nil else { return }
            members[index].state?.linkOpened(link, localAddress: "127.0.0.1", now: now)
            carryOut(members[index])
        case .refused(let index, let link):
            members[index].state?.linkClosed(link, reason: .refused, now: now)
            carryOut(members[index])
        case .deliver(let index, let link, let packet):
            if frozen.contains(index) { return }
            guard let peer = members[index].peers[link], canReach(index, peer.0.index),
                filter(peer.0.index, index, packet)
            else { return }
            packet.withUnsafeBytes { members[index].state?.receive($0, on: link, now: now) }
            carryOut(members[index])
        case .closed(let index, let link, let reason):
            members[index].state?.linkClosed(link, reason: reason, now: now)
            carryOut(members[index])
        case .paused(let index):
            members[index].state?.writesPaused(offset: members[index].offset, now: now)
            carryOut(members[index])
        case .replicate(let index, let primary, let offset):
            let member = members[index]
            guard member.following == primary else { return }
            member.offset = max(member.offset, offset)
            member.lastContact = now
            report(member)
        }
    }

    private func carryOut(_ member: Member) {
        guard let state = member.state else { return }
        eventCount += 1
        if eventCount % 64 == 0 { state.checkInvariants() }
        for effect in state.takeEffects() {
            switch effect {
            case .saveConfig(let text, let fsync):
                member.file = text
                if fsync { member.durableFile = text }
                member.fileWrites += 1
            case .publishView(let view): member.view = view
            case .openLink(let link, _, let port): schedule(.connect(member.index, link, port), after: 1)
            case .closeLink(let link):
                if let peer = member.peers.removeValue(forKey: link) {
                    peer.0.peers[peer.1] = nil
                    schedule(.closed(peer.0.index, peer.1, .peerClosed), after: 1)
                }
            case .send(let link, let bytes):
                if let peer = member.peers[link] { schedule(.deliver(peer.0.index, peer.1, bytes), after: 1) }
            case .followPrimary(let id, _, _, _):
                member.following = id
                if let primary = members.first(where: { $0.state?.myself.id == id }) {
                    schedule(.replicate(member.index, id, primary.offset), after: 5)
                }
            case .becomePrimary: member.following = nil
            case .pauseWrites:
                member.isPaused = true
                if let delay = member.pauseAnswersAfter { schedule(.paused(member.index), after: delay) }
            case .resumeWrites: member.isPaused = false
            case .deleteKeys(let slots): member.deletedSlots += slots
            case .dropShardChannels: break
            case .flushAll: member.wasFlushed = true
            case .publish(let channel, let message, _):
                member.published.append(
                    (String(decoding: channel, as: UTF8.self), String(decoding: message, as: UTF8.self)))
            case .log(let level, let text):
                member.logLines.append(text)
                if level == .notice || level == .warning { transcript.append((now, member.index, text)) }
            }
        }
    }

    // MARK: Ready-made clusters

    /// `primaries` primaries with even slots, each followed by `replicas` replicas; up and in sync.
    /// Primaries have the first indices; replica r of primary p is member primaries + r * primaries + p.
    static func booted(
        primaries: Int, replicas: Int, seed: UInt64 = 1, _ configure: (inout ClusterConfiguration) -> Void = { _ in }
    ) -> TestCluster {
        let cluster = TestCluster(seed: seed)
        let count = primaries * (1 + replicas)
        for _ in 0..<count { cluster.add(configure) }
        for index in 0..<count { cluster.execute(index, "SET-CONFIG-EPOCH \(index + 1)") }
        for index in 1..<count { cluster.execute(0, "MEET 127.0.0.1 \(7000 + index)") }
        for index in 0..<primaries {
            let first = HashSlot.count * index / primaries, last = HashSlot.count * (index + 1) / primaries - 1
            cluster.execute(index, "ADDSLOTSRANGE \(first) \(last)")
        }
        let met = cluster.run(until: {
            cluster.members.allSatisfy {
                $0.state!.nodeCount == count && !$0.state!.allNodes.contains { $0.isInHandshake }
            }
        })
        precondition(met != nil, "the nodes did not all meet")
        for index in primaries..<count {
            precondition(cluster.execute(index, "REPLICATE \(cluster.id(index % primaries))") == .ok)
        }
        for index in 0..<primaries { cluster.setOffset(index, 1000) }
        for index in 0..<primaries { cluster.write(index) }
        let up = cluster.run(until: {
            cluster.members.allSatisfy { member in
                member.state!.health.isOK && member.view!.isOK
                    && member.state!.allNodes.count { $0.isReplica && $0.primary != nil } == count - primaries
            }
        })
        precondition(up != nil, "the cluster did not come up")
        cluster.run(milliseconds: 3_000)
        return cluster
    }

    /// The member that owns a slot in everybody's view, or nil if views differ.
    func owner(of slot: Int) -> Int? {
        var owner: NodeID?
        for member in members {
            guard let state = member.state else { continue }
            guard let id = state.owner(of: slot)?.id else { return nil }
            if owner == nil { owner = id }
            if owner != id { return nil }
        }
        return members.firstIndex { $0.state?.myself.id == owner }
    }

    var allAreOK: Bool { members.allSatisfy { $0.state?.health.isOK ?? true } }
}
