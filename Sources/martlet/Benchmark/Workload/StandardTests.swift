/// The tests of redis-benchmark, and two of valkey-benchmark (MGET, XADD).
package struct StandardTest: Sendable {
    /// What `-t` calls it.
    package let names: [String]
    package let workload: Workload

    /// - Parameters:
    ///   - hasRandomKeys: `-r` was given.
    ///   - isCluster: keys that would all be the same get a hash tag, so that they spread over the nodes.
    package static func all(hasRandomKeys: Bool, isCluster: Bool) -> [StandardTest] {
        let tag = isCluster ? ":{tag}" : ""
        // A random key finds its node by itself.
        let keyTag = hasRandomKeys ? "" : tag
        let score = hasRandomKeys ? "__rand_int__" : "0"
        func test(_ names: String..., title: String, _ words: String) -> StandardTest {
            StandardTest(names: names, workload: Workload(title: title, .words(words)))
        }
        var tests = [
            StandardTest(
                names: ["ping", "ping_inline"],
                workload: Workload(title: "PING_INLINE", .raw(Array("PING\r\n".utf8)))),
            test("ping", "ping_mbulk", title: "PING_MBULK", "PING"),
            test("set", title: "SET", "SET key\(keyTag):__rand_int__ __data__"),
            test("get", title: "GET", "GET key\(keyTag):__rand_int__"),
            test("incr", title: "INCR", "INCR counter\(keyTag):__rand_int__"),
            test("lpush", title: "LPUSH", "LPUSH mylist\(tag) __data__"),
            test("rpush", title: "RPUSH", "RPUSH mylist\(tag) __data__"),
            test("lpop", title: "LPOP", "LPOP mylist\(tag)"),
            test("rpop", title: "RPOP", "RPOP mylist\(tag)"),
            test("sadd", title: "SADD", "SADD myset\(tag) element:__rand_int__"),
            test("hset", title: "HSET", "HSET myhash\(tag) element:__rand_int__ __data__"),
            test("spop", title: "SPOP", "SPOP myset\(tag)"),
            test("zadd", title: "ZADD", "ZADD myzset\(tag) \(score) element:__rand_int__"),
            test("zpopmin", title: "ZPOPMIN", "ZPOPMIN myzset\(tag)"),
            test(
                "lrange", "lrange_100", "lrange_300", "lrange_500", "lrange_600",
                title: "LPUSH (needed to benchmark LRANGE)", "LPUSH mylist\(tag) __data__"),
        ]
        for count in [100, 300, 500, 600] {
            tests.append(
                test(
                    "lrange", "lrange_\(count)", title: "LRANGE_\(count) (first \(count) elements)",
                    "LRANGE mylist\(tag) 0 \(count - 1)"))
        }
        let key = "key\(tag):__rand_int__"
        let pairs = Array(repeating: "\(key) __data__", count: 10).joined(separator: " ")
        tests.append(test("mset", title: "MSET (10 keys)", "MSET \(pairs)"))
        tests.append(
            test("mget", title: "MGET (10 keys)", "MGET \(Array(repeating: key, count: 10).joined(separator: " "))"))
        tests.append(test("xadd", title: "XADD", "XADD mystream\(tag) * myfield __data__"))
        return tests
    }

    package static var allNames: [String] {
        var names: [String] = []
        for test in all(hasRandomKeys: false, isCluster: false) {
            for name in test.names where !names.contains(name) { names.append(name) }
        }
        return names
    }
}
