import Testing
import martlet

@Suite struct StandardTestTests {
    private func command(_ title: String, hasRandomKeys: Bool, isCluster: Bool) -> String {
        let all = StandardTest.all(hasRandomKeys: hasRandomKeys, isCluster: isCluster)
        guard
            case .command(let words) = all.first(where: { $0.workload.title == title })!.workload.operations[0]
                .requests[0]
        else { return "" }
        return words.map { String(decoding: $0, as: UTF8.self) }.joined(separator: " ")
    }

    @Test("The tests and their names are redis-benchmark's")
    func names() {
        #expect(
            StandardTest.all(hasRandomKeys: false, isCluster: false).map(\.workload.title) == [
                "PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "LPUSH", "RPUSH", "LPOP", "RPOP", "SADD", "HSET",
                "SPOP", "ZADD", "ZPOPMIN", "LPUSH (needed to benchmark LRANGE)", "LRANGE_100 (first 100 elements)",
                "LRANGE_300 (first 300 elements)", "LRANGE_500 (first 500 elements)",
                "LRANGE_600 (first 600 elements)", "MSET (10 keys)", "MGET (10 keys)", "XADD",
            ])
        #expect(command("SET", hasRandomKeys: true, isCluster: false) == "SET key:__rand_int__ __data__")
        #expect(
            command("ZADD", hasRandomKeys: true, isCluster: false) == "ZADD myzset __rand_int__ element:__rand_int__")
        #expect(command("ZADD", hasRandomKeys: false, isCluster: false) == "ZADD myzset 0 element:__rand_int__")
    }

    @Test("In a cluster, keys that would all be the same, or must share a slot, have a hash tag")
    func tags() {
        #expect(command("SET", hasRandomKeys: true, isCluster: true) == "SET key:__rand_int__ __data__")
        #expect(command("SET", hasRandomKeys: false, isCluster: true) == "SET key:{tag}:__rand_int__ __data__")
        #expect(command("LPUSH", hasRandomKeys: true, isCluster: true) == "LPUSH mylist:{tag} __data__")
        #expect(
            command("MGET (10 keys)", hasRandomKeys: true, isCluster: true).hasPrefix(
                "MGET key:{tag}:__rand_int__ key:{tag}"))
    }
}
