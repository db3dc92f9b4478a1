import Testing

@testable import MartletServer

@Suite struct SortCommandTests {
    private func node(isClustered: Bool = false) -> NodeHarness {
        let node = NodeHarness(isClustered: isClustered)
        if isClustered { node.serveAllSlots() }
        node("RPUSH l 3 1 10 2")
        node("SADD s c a b")
        node("SADD i 3 20 1")
        node("ZADD z 3 a 1 c 2 b")
        return node
    }

    private func bulks(_ texts: [String]) -> String { "*\(texts.count)\r\n" + texts.map(String.bulk).joined() }

    @Test(
        arguments: [
            ("SORT l", "1 2 3 10"), ("SORT l DESC", "10 3 2 1"), ("SORT l ALPHA", "1 10 2 3"),
            ("SORT l ALPHA DESC ASC", "1 10 2 3"),
            ("SORT l LIMIT 1 2", "2 3"), ("SORT l LIMIT 1 0", ""), ("SORT l LIMIT 4 1", ""),
            ("SORT l LIMIT -5 2", "1 2"),
            ("SORT l LIMIT 2 -1", "3 10"), ("SORT l LIMIT 3 9223372036854775807", "10"), ("SORT_RO l", "1 2 3 10"),
            ("SORT s ALPHA", "a b c"), ("SORT s ALPHA DESC", "c b a"), ("SORT i", "1 3 20"), ("SORT i ALPHA", "1 20 3"),
            ("SORT z ALPHA", "a b c"), ("SORT none", ""), ("SORT l BY nosort", "3 1 10 2"),
            ("SORT l BY nosort DESC", "2 10 1 3"),
            ("SORT l BY nosort LIMIT 1 2", "1 10"), ("SORT l BY nosort DESC LIMIT 1 2", "10 1"),
            ("SORT z BY nosort", "c b a"),
            ("SORT z BY nosort DESC", "a b c"), ("SORT z BY nosort LIMIT 1 1", "b"),
            ("SORT z BY nosort DESC LIMIT 0 2", "a b"),
            ("SORT z BY nosort LIMIT 3 1", ""), ("SORT s ALPHA BY w_*", "c b a"), ("SORT s BY n_*", "a b c"),
            ("SORT s BY n_* DESC", "c b a"), ("SORT s BY h_*->f", "b c a"), ("SORT s BY h_*->f LIMIT 0 1", "b"),
            ("SORT s ALPHA BY h_*->none", nil), ("SORT s BY n_* GET # GET w_*", "a 3 b 2 c 1"),
            ("SORT s ALPHA GET h_*->f", "30 10 20"), ("SORT l GET #", "1 2 3 10"), ("SORT s ALPHA GET h_*->", "x x x"),
            ("SORT floats", "-1e3 0x10 17.5 inf"),
        ] as [(String, String?)])
    func elementsComeInOrder(line: String, expected: String?) {
        let node = node()
        for (index, name) in ["a", "b", "c"].enumerated() {
            node("SET w_\(name) \(3 - index)")
            node("SET n_\(name) \(index)")
            node("HSET h_\(name) f \([30, 10, 20][index])")
            node("SET h_\(name)-> x")
        }
        node("RPUSH floats inf 17.5 0x10 -1e3")
        let reply = node(line)
        if let expected {
            #expect(reply == bulks(expected.split(separator: " ").map(String.init)), "\(line)")
        } else {
            #expect(reply.hasPrefix("*3\r\n"))
        }
    }

    @Test func whatIsMissingIsNull() {
        let node = node()
        node("SET w_a 1")
        node("SADD w_b 1")
        #expect(node("SORT s ALPHA GET w_*") == "*3\r\n$1\r\n1\r\n$-1\r\n$-1\r\n")
        #expect(node("SORT s ALPHA GET constant") == "*3\r\n$-1\r\n$-1\r\n$-1\r\n")
        #expect(
            node("SORT s ALPHA BY w_*") == bulks(["b", "c", "a"])
                || node("SORT s ALPHA BY w_*") == bulks(["c", "b", "a"]))
        #expect(node("SORT s BY w_*") == bulks(["b", "c", "a"]))
        #expect(node("SORT s ALPHA GET w_* STORE d") == ":3\r\n")
        #expect(node("LRANGE d 0 -1") == bulks(["1", "", ""]))
    }

    @Test(arguments: [
        ("SORT h", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("SORT l BY", "ERR syntax error"),
        ("SORT l GET", "ERR syntax error"), ("SORT l LIMIT 1", "ERR syntax error"),
        ("SORT l STORE", "ERR syntax error"),
        ("SORT l nonsense", "ERR syntax error"), ("SORT_RO l STORE d", "ERR syntax error"),
        ("SORT l LIMIT x 1", "ERR value is not an integer or out of range"),
        ("SORT s", "ERR One or more scores can't be converted into double"),
        ("SORT s BY w_*", "ERR One or more scores can't be converted into double"),
        ("SORT s STORE d", "ERR One or more scores can't be converted into double"),
    ])
    func mistakesAreNamedAsByRedis(line: String, message: String) {
        let node = node()
        node("SET h text")
        node("SET w_a 1x")
        #expect(node(line) == "-\(message)\r\n")
        #expect(node("EXISTS d") == ":0\r\n")
    }

    @Test func resultsAreStoredAsLists() {
        let node = node()
        for (line, reply) in [
            ("SORT l STORE d", ":4\r\n"), ("LRANGE d 0 -1", bulks(["1", "2", "3", "10"])),
            ("SORT l STORE l DESC", ":4\r\n"),
            ("LRANGE l 0 -1", bulks(["10", "3", "2", "1"])), ("SORT s BY nosort STORE d", ":3\r\n"),
            ("LRANGE d 0 -1", bulks(["a", "b", "c"])), ("SORT none STORE d", ":0\r\n"), ("EXISTS d", ":0\r\n"),
            ("SORT l LIMIT 9 1 STORE d", ":0\r\n"), ("EXISTS d", ":0\r\n"),
            ("COMMAND GETKEYS SORT l BY STORE LIMIT STORE 2 STORE d STORE e", .bulks("l", "e")),
            ("COMMAND GETKEYS SORT_RO l", .bulks("l")),
        ] { #expect(node(line) == reply, "\(line)") }
        #expect(node.propagation(of: "SORT i") == [])
        #expect(node.propagation(of: "SORT i STORE d") == ["0 SORT i STORE d"])
        #expect(node.propagation(of: "SORT none STORE none") == [])
    }

    @Test func itsCategoriesAreThoseOfTheTypes() throws {
        let commands = CommandFamily.sort.commands
        #expect(commands[0].allCategories == [.write, .set, .sortedSet, .list, .slow, .dangerous])
        #expect(commands[1].allCategories == [.read, .set, .sortedSet, .list, .slow, .dangerous])
    }

    @Test func aClusterKnowsNoPatterns() {
        let node = node(isClustered: true)
        for (line, reply) in [
            ("SORT l", bulks(["1", "2", "3", "10"])), ("SORT z BY nosort", bulks(["c", "b", "a"])),
            ("SORT l BY w_*", "-ERR BY option of SORT denied in Cluster mode.\r\n"),
            ("SORT l GET #", "-ERR GET option of SORT denied in Cluster mode.\r\n"),
            ("SORT_RO l GET #", "-ERR GET option of SORT denied in Cluster mode.\r\n"),
            ("SORT l STORE d", "-CROSSSLOT Keys in request don't hash to the same slot\r\n"),
            ("SORT l STORE {l}d", ":4\r\n"), ("LRANGE {l}d 0 -1", bulks(["1", "2", "3", "10"])),
        ] { #expect(node(line) == reply, "\(line)") }
    }
}
