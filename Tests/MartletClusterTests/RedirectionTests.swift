import MartletBase
import Testing

@testable import MartletCluster

@Suite struct RedirectionTests {
    private let slot = HashSlot(rawValue: 100)

    /// Members 0 and 1 are primaries, 2 and 3 their replicas; slot 100 is member 0's.
    private func cluster(_ configure: (inout ClusterConfiguration) -> Void = { _ in }) -> TestCluster {
        TestCluster.booted(primaries: 2, replicas: 1, configure)
    }

    private func answer(
        _ view: ClusterView, slot: HashSlot? = nil, _ change: (inout Redirection.Request) -> Void = { _ in }
    ) -> String {
        let slot = slot ?? self.slot
        var request = Redirection.Request(slot: slot)
        change(&request)
        let redirection = view.redirection(for: request)
        return redirection == .serve ? "serve" : view.errorText(redirection, slot: slot)
    }

    @Test("an owner serves its slots and sends clients to others for theirs")
    func stable() {
        let cluster = cluster()
        let view = cluster.members[0].view!
        #expect(view.serves(slot))
        #expect(answer(view) == "serve")
        #expect(answer(view, slot: HashSlot(rawValue: 16000)) == "MOVED 16000 127.0.0.1:7001")
        #expect(!view.serves(HashSlot(rawValue: 16000)))
    }

    @Test("a replica serves reads of READONLY clients for its primary's slots only")
    func replica() {
        let cluster = cluster()
        let view = cluster.members[2].view!
        #expect(answer(view) == "MOVED 100 127.0.0.1:7000")
        #expect(answer(view) { $0.isReadOnlyClient = true } == "serve")
        #expect(answer(view) { ($0.isReadOnlyClient, $0.isWrite) = (true, true) } == "MOVED 100 127.0.0.1:7000")
        #expect(answer(view) { $0.isPubSubShard = true } == "serve")
        let other = HashSlot(rawValue: 16000)
        #expect(answer(view, slot: other) { $0.isReadOnlyClient = true } == "MOVED 16000 127.0.0.1:7001")
    }

    @Test("a migrating slot is served while its keys are here")
    func migrating() {
        let cluster = cluster()
        cluster.execute(0, "SETSLOT 100 MIGRATING \(cluster.id(1))")
        let view = cluster.members[0].view!
        #expect(!view.serves(slot) && view.needsKeyCounts(for: slot))
        #expect(answer(view) { $0.existingKeyCount = 1 } == "serve")
        #expect(answer(view) { $0.missingKeyCount = 1 } == "ASK 100 127.0.0.1:7001")
        let some = answer(view) { ($0.hasManyKeys, $0.existingKeyCount, $0.missingKeyCount) = (true, 1, 1) }
        #expect(some == "TRYAGAIN Multiple keys request during rehashing of slot")
        #expect(answer(view) { ($0.isMigrate, $0.missingKeyCount) = (true, 1) } == "serve")
        #expect(answer(view) { ($0.isPubSubShard, $0.missingKeyCount) = (true, 1) } == "serve")
        cluster.execute(0, "SETSLOT 100 STABLE")
        #expect(cluster.members[0].view!.serves(slot))
    }

    @Test("an importing slot is served after ASKING")
    func importing() {
        let cluster = cluster()
        cluster.execute(1, "SETSLOT 100 IMPORTING \(cluster.id(0))")
        let view = cluster.members[1].view!
        #expect(answer(view) { $0.missingKeyCount = 1 } == "MOVED 100 127.0.0.1:7000")
        #expect(answer(view) { ($0.isAsking, $0.missingKeyCount) = (true, 1) } == "serve")
        let some = answer(view) { ($0.isAsking, $0.hasManyKeys, $0.missingKeyCount) = (true, true, 1) }
        #expect(some == "TRYAGAIN Multiple keys request during rehashing of slot")
        #expect(answer(view) { ($0.isAsking, $0.hasManyKeys, $0.existingKeyCount) = (true, true, 2) } == "serve")
        #expect(answer(view) { $0.isMigrate = true } == "serve")
        #expect(view.redirectionOfBlockedClient(slot: slot, mayReadHere: false) == .serve)
    }

    @Test("a cluster that is down serves what the configuration allows")
    func down() {
        let cluster = cluster()
        cluster.execute(0, "DELSLOTS 5")
        cluster.execute(1, "DELSLOTS 16383")
        var view = cluster.members[0].view!
        #expect(!view.isOK && !view.serves(slot))
        #expect(answer(view) == "CLUSTERDOWN The cluster is down")
        #expect(answer(view, slot: HashSlot(rawValue: 5)) == "CLUSTERDOWN Hash slot not served")
        #expect(answer(view) { $0.isPubSubShard = true } == "serve")
        #expect(view.redirectionOfBlockedClient(slot: slot, mayReadHere: true) == .down)
        cluster.configure(0) { $0.allowsReadsWhenDown = true }
        view = cluster.members[0].view!
        #expect(answer(view) == "serve")
        #expect(answer(view) { $0.isWrite = true } == "CLUSTERDOWN The cluster is down and only accepts read commands")
        cluster.configure(0) { $0.allowsPubSubShardWhenDown = false }
        #expect(answer(cluster.members[0].view!) { $0.isPubSubShard = true } == "CLUSTERDOWN The cluster is down")
        cluster.configure(0) { $0.requiresFullCoverage = false }
        #expect(cluster.members[0].view!.serves(slot))
    }

    @Test("endpoints follow cluster-preferred-endpoint-type and the client's kind of connection")
    func endpoints() {
        let cluster = cluster { $0.announceHostname = "host.example" }
        cluster.run(milliseconds: 20_000)
        let other = HashSlot(rawValue: 16000)
        func text() -> String { answer(cluster.members[0].view!, slot: other) }
        #expect(text() == "MOVED 16000 127.0.0.1:7001")
        cluster.configure(0) { $0.preferredEndpointType = .hostname }
        #expect(text() == "MOVED 16000 host.example:7001")
        cluster.configure(0) { $0.preferredEndpointType = .unknownEndpoint }
        #expect(text() == "MOVED 16000 :7001")
        cluster.configure(1) { $0.tlsPort = 8001 }
        cluster.run(milliseconds: 20_000)
        let view = cluster.members[0].view!
        #expect(
            view.errorText(.moved(to: view.owner(of: other)), slot: other, isTLSClient: true) == "MOVED 16000 :8001")
    }
}
