extension Node {
    func writeReplicationInfo(_ text: inout InfoText) {
        for (name, value) in replicationFields { text.add(name, value) }
    }
}
