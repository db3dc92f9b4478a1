"""Every method of redis-py that sends a command, in RESP2 and RESP3 and through its cluster client.

Each call goes to Martlet and to a real Redis server of version 7.0, and what redis-py makes of the two replies has to be
the same; what that Redis does not know yet is compared with what stands here. A method of redis-py that no family calls
fails the scenario, unless `LATER` says why."""

import inspect
import types
import warnings

import redis
import redis.commands.core as core

from harness import Failure, expect, expect_equal, shorten

# Much of what is newer than Redis 7.0 is called experimental.
warnings.simplefilter("ignore")


def check_methods(environment):
    """All families, in RESP2 and RESP3."""
    one, other = environment.server(), environment.server("redis")
    called = set()
    for protocol in (2, 3):
        both = Both(one.open_client(protocol=protocol), other.open_client(protocol=protocol), called)
        for family in FAMILIES + [databases]:
            both.flush()
            family(both)
        environment.note(f"RESP{protocol}: {both.calls} calls agree")
    unknown = sorted(methods() - called - LATER.keys())
    expect(not unknown, f"methods of redis-py that nothing here calls: {unknown}")
    needless = sorted(LATER.keys() & called)
    expect(not needless, f"methods that are called after all: {needless}")


def check_cluster_client(environment):
    """The same through a cluster client, beside a single Redis server; and what that client spreads over the nodes."""
    cluster = environment.cluster(3, 0)
    other = environment.server("redis")
    for protocol in (2, 3):
        client = cluster.open_client(protocol=protocol)
        both = Both(client, other.open_client(protocol=protocol), set())
        for family in FAMILIES:
            if family is not keys_of_all:
                both.flush()
                family(both)
        client.flushall()
        pairs = {f"key:{number}": b"%d" % number for number in range(300)}
        expect(all(client.mset_nonatomic(pairs)), "MSET over all nodes")
        expect_equal(client.mget_nonatomic(list(pairs)), list(pairs.values()), "MGET over all nodes")
        expect_equal(client.exists(*pairs), 300, "EXISTS over all nodes")
        expect_equal(client.touch(*pairs), 300, "TOUCH over all nodes")
        expect_equal(client.dbsize(target_nodes="primaries"), 300, "DBSIZE of all nodes")
        expect_equal(sorted(client.keys("key:*", target_nodes="primaries")), sorted(key.encode() for key in pairs), "KEYS of all nodes")
        expect_equal(sorted(client.scan_iter(count=7)), sorted(key.encode() for key in pairs), "SCAN of all nodes")
        pipeline = client.pipeline()
        for key in pairs:
            pipeline.get(key)
        expect_equal(pipeline.execute(), list(pairs.values()), "a pipeline over all nodes")
        expect_equal(client.unlink(*list(pairs)[:100]), 100, "UNLINK over all nodes")
        expect_equal(client.delete(*pairs), 200, "DEL over all nodes")
        expect_equal(client.cluster_keyslot("{t}a"), client.keyslot("{t}a"), "CLUSTER KEYSLOT")
        expect_equal(len(client.cluster_slots()), 3, "CLUSTER SLOTS")
        expect_equal(len(client.cluster_shards()), 3, "CLUSTER SHARDS")
        expect_equal(len(client.cluster_nodes()), 3, "CLUSTER NODES")
        client.close()
        environment.note(f"RESP{protocol}: {both.calls} calls agree")


class Both:
    """Calls a method of two clients and expects the same outcome; returns it."""

    def __init__(self, one, other, called):
        self.one = one
        self.other = other
        self.called = called
        self.calls = 0

    def __getattr__(self, name):
        def call(*arguments, **options):
            first = self.outcome(self.one, name, arguments, options)
            second = self.outcome(self.other, name, arguments, options)
            expect_equal(first, second, f"{name} {shorten(arguments)} {options or ''}")
            return first
        return call

    def flush(self):
        self.one.flushall()
        self.other.flushall()

    def shape(self, name, *arguments, **options):
        """Expects values of the same kind: what they are is each server's own."""
        first = self.outcome(self.one, name, arguments, options)
        second = self.outcome(self.other, name, arguments, options)
        expect_equal(type(first), type(second), f"the type of {name} {arguments} ({shorten(first)})")
        return first

    def new(self, expected, name, *arguments, **options):
        """Expects what stands here: Redis 7.0 does not know the command."""
        first = self.outcome(self.one, name, arguments, options)
        expect_equal(first, expected, f"{name} {shorten(arguments)} {options or ''}")
        return first

    def outcome(self, client, name, arguments, options):
        self.called.add(name)
        self.calls += 1
        try:
            value = getattr(client, name)(*arguments, **options)
            return in_order(name, list(value) if isinstance(value, types.GeneratorType) else value)
        except redis.ResponseError as error:
            return type(error).__name__, str(error)


# Whose elements come in an order of the server's own.
UNORDERED = {
    "keys", "scan_iter", "sscan_iter", "hscan_iter", "hkeys", "hvals", "smembers", "sinter", "sunion", "sdiff", "spop",
    "srandmember", "hrandfield", "zrandmember", "command_list"}


def in_order(name, value):
    if name in ("scan", "sscan"):
        return value[0], sorted(value[1])
    if name in UNORDERED and isinstance(value, (list, set, tuple)):
        return sorted(value, key=repr)
    return value


def strings(r):
    r.set("{t}a", "1")
    r.set("{t}a", "2", nx=True)
    r.set("{t}a", "2", xx=True, get=True)
    r.set("{t}none", "2", xx=True)
    r.set("{t}b", b"\x00\xff\r\n", ex=1000)
    r.set("{t}b", "x", keepttl=True)
    r.set("{t}b", "x", px=1000000)
    r.set("{t}b", "x", exat=4_000_000_000)
    r.set("{t}b", "x", pxat=4_000_000_000_000)
    r.expiretime("{t}b")
    r.pexpiretime("{t}b")
    r.get("{t}b")
    r.get("{t}none")
    r.getset("{t}a", "5")
    r.getex("{t}a", ex=100)
    r.getex("{t}a", persist=True)
    r.ttl("{t}a")
    r.append("{t}a", "7")
    r.incr("{t}a", 5)
    r.incrby("{t}a", -3)
    r.decr("{t}a")
    r.decrby("{t}a", 7)
    r.incrbyfloat("{t}a", 0.5)
    r.incr("{t}a")
    r.strlen("{t}a")
    r.getrange("{t}a", 0, 1)
    r.substr("{t}a", 1, -1)
    r.setrange("{t}a", 5, "end")
    r.get("{t}a")
    r.mset({"{t}m1": "1", "{t}m2": ""})
    r.msetnx({"{t}m1": "1", "{t}m3": "2"})
    r.mget("{t}m1", "{t}m2", "{t}none")
    r.setnx("{t}m1", "z")
    r.setex("{t}m1", 100, "z")
    r.psetex("{t}m1", 100000, "z")
    r.setex("{t}m1", 0, "z")
    r.getdel("{t}m1")
    r.getdel("{t}m1")
    r.mset({"{t}l1": "ohmytext", "{t}l2": "mynewtext"})
    r.lcs("{t}l1", "{t}l2")
    r.lcs("{t}l1", "{t}l2", len=True)
    r.lcs("{t}l1", "{t}l2", idx=True, minmatchlen=4, withmatchlen=True)
    r.incr("{t}l1")
    r.new(True, "set", "{t}n", "1")
    digest = r.one.digest("{t}n")
    r.new(None, "set", "{t}n", "2", ifeq="x")
    r.new(True, "set", "{t}n", "1", ifeq="1")
    r.new(None, "set", "{t}n", "1", ifne="1")
    r.new(digest, "digest", "{t}n")
    r.new(0, "delex", "{t}n", ifeq="2")
    r.new(1, "delex", "{t}n", ifdeq=digest)
    r.new(True, "msetex", {"{t}x1": "1", "{t}x2": "2"}, ex=100)
    r.new(100, "ttl", "{t}x1")


def bitmaps(r):
    r.setbit("{t}a", 7, 1)
    r.setbit("{t}a", 100, 1)
    r.getbit("{t}a", 7)
    r.getbit("{t}a", 1000)
    r.bitcount("{t}a")
    r.bitcount("{t}a", 0, 0)
    r.bitcount("{t}a", 1, 100, "BIT")
    r.bitpos("{t}a", 1)
    r.bitpos("{t}a", 1, 2, -1)
    r.bitpos("{t}a", 0, 7, 20, "BIT")
    r.set("{t}b", b"\xff\x0f")
    for operation in ("AND", "OR", "XOR"):
        r.bitop(operation, "{t}d", "{t}a", "{t}b")
        r.get("{t}d")
    r.bitop("NOT", "{t}d", "{t}b")
    r.get("{t}d")
    r.bitfield_ro("{t}b", "u8", 0, [("i4", 4)])
    for client in (r.one, r.other):
        expect_equal(
            client.bitfield("{t}f").set("u8", 8, 250).overflow("SAT").incrby("u8", 8, 10).get("i5", "#1").execute(),
            [0, 255, 3], "BITFIELD")
    r.called.add("bitfield")
    r.get("{t}f")


def keys_of_all(r):
    r.mset({"{t}a": "1", "{t}b": "2", "{t}c": "3"})
    r.keys("*")
    r.keys("{t}[ab]")
    r.dbsize()
    r.shape("randomkey")
    r.scan(count=100)
    r.scan(match="{t}a*", count=100, _type="string")
    r.scan_iter(match="{t}*", count=2)
    r.scan_iter(_type="list")
    r.delete("{t}a", "{t}b", "{t}c")
    r.randomkey()


def generic(r):
    r.set("{t}a", "1")
    r.exists("{t}a", "{t}a", "{t}none")
    r.type("{t}a")
    r.type("{t}none")
    r.touch("{t}a", "{t}none")
    r.expire("{t}a", 100)
    r.expire("{t}a", 200, nx=True)
    r.expire("{t}a", 50, gt=True)
    r.expire("{t}a", 50, lt=True)
    r.pexpire("{t}a", 100000, xx=True)
    r.persist("{t}a")
    r.ttl("{t}a")
    r.pttl("{t}a")
    r.pttl("{t}none")
    r.expireat("{t}a", 4_000_000_000)
    r.pexpireat("{t}a", 4_000_000_000_001)
    r.expiretime("{t}a")
    r.pexpiretime("{t}a")
    r.copy("{t}a", "{t}b")
    r.copy("{t}a", "{t}b")
    r.copy("{t}a", "{t}b", replace=True)
    r.rename("{t}b", "{t}c")
    r.rename("{t}none", "{t}c")
    r.renamenx("{t}c", "{t}a")
    r.object("encoding", "{t}a")
    r.shape("object", "refcount", "{t}c")
    r.shape("object", "idletime", "{t}a")
    r.object("freq", "{t}a")
    r.object("encoding", "{t}none")
    r.shape("memory_usage", "{t}a", samples=5)
    r.memory_usage("{t}none")
    r.rpush("{t}list", "a", "1", "c")
    for client in (r.one, r.other):
        payload = client.dump("{t}list")
        for target in (r.one, r.other):
            target.delete("{t}copy")
            expect_equal(target.restore("{t}copy", 0, payload), b"OK", "RESTORE of a DUMP")
        r.lrange("{t}copy", 0, -1)
    r.called |= {"dump", "restore"}
    r.dump("{t}none")
    r.restore("{t}copy", 0, b"nonsense")
    r.unlink("{t}copy", "{t}list")
    r.delete("{t}a", "{t}c", "{t}none")


def lists(r):
    r.rpush("{t}l", "a", "b", "c", "1", b"\xff")
    r.lpush("{t}l", "z", "y")
    r.lpushx("{t}l", "x")
    r.rpushx("{t}none", "x")
    r.llen("{t}l")
    r.lrange("{t}l", 0, -1)
    r.lindex("{t}l", 2)
    r.lindex("{t}l", 200)
    r.linsert("{t}l", "BEFORE", "a", "q")
    r.linsert("{t}l", "AFTER", "none", "q")
    r.lpos("{t}l", "a")
    r.lpos("{t}l", "a", rank=-1, count=0, maxlen=100)
    r.lset("{t}l", 0, "first")
    r.lset("{t}l", 100, "first")
    r.lrem("{t}l", 0, "q")
    r.lmove("{t}l", "{t}m", "LEFT", "RIGHT")
    r.rpoplpush("{t}l", "{t}m")
    r.brpoplpush("{t}l", "{t}m", 1)
    r.blmove("{t}l", "{t}m", 1, "RIGHT", "LEFT")
    r.blmove("{t}none", "{t}m", 0.01, "RIGHT", "LEFT")
    r.lrange("{t}m", 0, -1)
    r.lmpop(2, "{t}none", "{t}m", direction="LEFT", count=2)
    r.blmpop(0.01, 1, "{t}none", direction="LEFT")
    r.blmpop(1, 2, "{t}none", "{t}m", direction="RIGHT", count=1)
    r.lpop("{t}l")
    r.lpop("{t}l", 2)
    r.rpop("{t}l")
    r.rpop("{t}none")
    r.rpop("{t}none", 2)
    r.rpush("{t}l", 3, 1, 2)
    r.ltrim("{t}l", 0, 2)
    r.blpop(["{t}none", "{t}l"], 1)
    r.brpop("{t}l", 1)
    r.blpop("{t}none", 0.01)
    r.brpop("{t}none", 0.01)
    r.rpush("{t}n", 3, 10, 2)
    r.mset({"{t}w3": 1, "{t}w10": 3, "{t}w2": 2})
    r.sort("{t}n")
    r.sort("{t}n", desc=True, start=0, num=2)
    r.sort("{t}n", alpha=True, store="{t}sorted")
    r.sort_ro("{t}n", desc=True)
    r.sort("{t}m", alpha=True)
    r.lpush("{t}w3", "x")


def sorting(r):
    r.rpush("{t}n", 3, 10, 2)
    r.mset({"{t}w3": 1, "{t}w10": 3, "{t}w2": 2})
    r.sort("{t}n", by="{t}w*", get=["#", "{t}w*"], groups=True)
    r.sort("{t}n", by="nosort")


def hashes(r):
    r.hset("{t}h", "a", "1")
    r.hset("{t}h", mapping={"b": "2", "c": b"\x00"})
    r.hset("{t}h", items=["d", "x" * 100])
    r.hmset("{t}h", {"e": "5"})
    r.hsetnx("{t}h", "a", "2")
    r.hget("{t}h", "a")
    r.hget("{t}h", "none")
    r.hmget("{t}h", "a", "none", "b")
    r.hgetall("{t}h")
    r.hgetall("{t}none")
    r.hkeys("{t}h")
    r.hvals("{t}h")
    r.hlen("{t}h")
    r.hexists("{t}h", "a")
    r.hstrlen("{t}h", "d")
    r.hincrby("{t}h", "a", 5)
    r.hincrby("{t}h", "d", 5)
    r.hincrbyfloat("{t}h", "a", 0.25)
    r.hrandfield("{t}h", 100)
    r.hrandfield("{t}h", 100, withvalues=True)
    r.hrandfield("{t}none")
    r.hscan("{t}h")
    r.hscan("{t}h", match="[ab]", count=100)
    r.hscan_iter("{t}h")
    r.hdel("{t}h", "a", "none")
    r.object("encoding", "{t}h")


def field_expiry(r):
    r.new(3, "hset", "{t}h", mapping={"a": "1", "b": "2", "c": "3"})
    r.new([1, -2], "hexpire", "{t}h", 1000, "a", "none")
    r.new([0], "hexpire", "{t}h", 2000, "a", nx=True)
    r.new([1], "hpexpire", "{t}h", 2000000, "a", gt=True)
    r.new([1], "hexpireat", "{t}h", 4_000_000_000, "a")
    r.new([1], "hpexpireat", "{t}h", 4_000_000_000_000, "b")
    r.new([4_000_000_000, -1, -2], "hexpiretime", "{t}h", "a", "c", "none")
    r.new([4_000_000_000_000], "hpexpiretime", "{t}h", "b")
    r.new([1, -1], "hpersist", "{t}h", "a", "c")
    r.new([-1], "httl", "{t}h", "a")
    r.new([-1, -2], "hpttl", "{t}h", "a", "none")
    r.new([2], "hexpire", "{t}h", 0, "b")
    r.new([b"1", None], "hgetex", "{t}h", "a", "none", ex=1000)
    r.new([b"1"], "hgetex", "{t}h", "a", persist=True)
    r.new(1, "hsetex", "{t}h", mapping={"d": "4", "a": "9"}, px=1_000_000)
    r.new(0, "hsetex", "{t}h", "d", "5", data_persist_option=core.HashDataPersistOptions.FNX)
    r.new([b"4", None], "hgetdel", "{t}h", "d", "none")
    r.new({b"a": b"9", b"c": b"3"}, "hgetall", "{t}h")


def sets(r):
    r.sadd("{t}s", "a", "b", "c", "1", b"\xff")
    r.sadd("{t}t", "b", "c", "d")
    r.sadd("{t}i", 1, 2, 3)
    r.scard("{t}s")
    r.smembers("{t}s")
    r.smembers("{t}none")
    r.sismember("{t}s", "a")
    r.smismember("{t}s", ["a", "none"])
    r.sinter("{t}s", "{t}t")
    r.sintercard(2, ["{t}s", "{t}t"], limit=1)
    r.sunion("{t}s", "{t}t")
    r.sdiff("{t}s", "{t}t")
    r.sinterstore("{t}d", "{t}s", "{t}t")
    r.sunionstore("{t}d", "{t}s", "{t}t")
    r.sdiffstore("{t}d", "{t}s", "{t}t")
    r.smove("{t}s", "{t}t", "a")
    r.smove("{t}s", "{t}t", "none")
    r.srandmember("{t}i", 10)
    r.srandmember("{t}none")
    r.spop("{t}i", 10)
    r.spop("{t}i")
    r.sscan("{t}s", match="*", count=100)
    r.sscan_iter("{t}s")
    r.srem("{t}s", "b", "none")
    r.object("encoding", "{t}s")
    r.get("{t}s")


def sorted_sets(r):
    r.zadd("{t}z", {"a": 1, "b": 2, "c": 3.5, "d": "inf"})
    r.zadd("{t}z", {"a": 5, "e": 1}, xx=True, ch=True)
    r.zadd("{t}z", {"a": 7}, gt=True)
    r.zadd("{t}z", {"a": 1}, lt=True)
    r.zadd("{t}z", {"a": 1}, nx=True)
    r.zadd("{t}z", {"a": 1.5}, incr=True)
    r.zadd("{t}y", {"b": 10, "c": 20, "x": -1})
    r.zcard("{t}z")
    r.zcount("{t}z", "-inf", "(3.5")
    r.zincrby("{t}z", 2, "b")
    r.zscore("{t}z", "c")
    r.zscore("{t}z", "none")
    r.zmscore("{t}z", ["a", "none"])
    r.zrank("{t}z", "c")
    r.zrevrank("{t}z", "c")
    r.new(None, "zrank", "{t}z", "none")
    r.zrange("{t}z", 0, -1)
    r.zrange("{t}z", 0, -1, withscores=True)
    r.zrange("{t}z", 0, -1, desc=True, withscores=True, score_cast_func=str)
    r.zrange("{t}z", 2, 100, byscore=True, offset=0, num=2)
    r.zrange("{t}z", "-", "+", bylex=True)
    r.zrevrange("{t}z", 0, 1, withscores=True)
    r.zrangebyscore("{t}z", "(1", 10, start=0, num=2, withscores=True)
    r.zrevrangebyscore("{t}z", "+inf", 0)
    r.zadd("{t}x", {"a": 0, "b": 0, "c": 0, "d": 0})
    r.zrangebylex("{t}x", "[b", "+", start=0, num=10)
    r.zrevrangebylex("{t}x", "(c", "-")
    r.zlexcount("{t}x", "-", "[c")
    r.zrangestore("{t}d", "{t}z", 0, 1)
    r.zunion(["{t}z", "{t}y"], withscores=True)
    r.zunion({"{t}z": 2, "{t}y": 0.5}, aggregate="MAX", withscores=True)
    r.zinter(["{t}z", "{t}y"], aggregate="MIN", withscores=True)
    r.zintercard(2, ["{t}z", "{t}y"], limit=1)
    r.zdiff(["{t}z", "{t}y"], withscores=True)
    r.zunionstore("{t}d", ["{t}z", "{t}y"])
    r.zinterstore("{t}d", {"{t}z": 1, "{t}y": 3})
    r.zdiffstore("{t}d", ["{t}z", "{t}y"])
    r.zrandmember("{t}z", 100)
    r.zrandmember("{t}z", 100, withscores=True)
    r.zrandmember("{t}none")
    r.zscan("{t}z")
    r.zscan("{t}z", match="a*", count=100)
    r.zscan_iter("{t}z")
    r.zpopmin("{t}y")
    r.zpopmax("{t}y", 5)
    r.zmpop(2, ["{t}none", "{t}x"], min=True, count=1)
    r.bzmpop(1, 1, ["{t}x"], max=True)
    r.bzmpop(0.01, 1, ["{t}none"], max=True)
    r.bzpopmin("{t}x", 1)
    r.bzpopmax(["{t}none", "{t}x"], 1)
    r.bzpopmin("{t}none", 0.01)
    r.zrem("{t}z", "a", "none")
    r.zremrangebyrank("{t}z", 0, 0)
    r.zremrangebyscore("{t}z", 0, 3)
    r.zadd("{t}x", {"a": 0, "b": 0})
    r.zremrangebylex("{t}x", "-", "[a")
    r.zadd("{t}z", {"a": "x"})


def streams(r):
    for number in range(1, 9):
        r.xadd("{t}x", {"f": number, "g": "x"}, id=f"{number}-1")
    r.xadd("{t}x", {"f": 1}, id="1-1")
    r.xadd("{t}none", {"f": 1}, nomkstream=True)
    r.xadd("{t}x", {"f": 9}, id="9-*", maxlen=8, approximate=False)
    r.xlen("{t}x")
    r.xrange("{t}x", "-", "+", count=2)
    r.xrange("{t}x", "(3-1", "5")
    r.xrevrange("{t}x", "+", "-", count=2)
    r.xread({"{t}x": "7"}, count=5)
    r.xread({"{t}x": "$"}, block=10)
    r.xgroup_create("{t}x", "g", id="0")
    r.xgroup_create("{t}x", "g", id="0")
    r.xgroup_create("{t}new", "g", mkstream=True, entries_read=5)
    r.xgroup_createconsumer("{t}x", "g", "c1")
    r.xreadgroup("g", "c1", {"{t}x": ">"}, count=3)
    r.xreadgroup("g", "c2", {"{t}x": ">"}, count=2)
    r.xreadgroup("g", "c2", {"{t}x": "0"})
    r.xreadgroup("g", "c3", {"{t}new": ">"}, block=10)
    r.xreadgroup("none", "c3", {"{t}new": ">"})
    r.xpending("{t}x", "g")
    pending = r.shape("xpending_range", "{t}x", "g", "-", "+", 10)
    expect_equal([entry["message_id"] for entry in pending], [b"2-1", b"3-1", b"4-1", b"5-1", b"6-1"], "XPENDING")
    r.xack("{t}x", "g", "2-1", "100-1")
    r.xclaim("{t}x", "g", "c2", 0, ["3-1"])
    r.xclaim("{t}x", "g", "c2", 0, ["4-1"], justid=True)
    r.xautoclaim("{t}x", "g", "c3", 0, "0", count=1)
    r.xautoclaim("{t}x", "g", "c3", 0, "0", justid=True)
    r.xinfo_stream("{t}x")
    r.xinfo_groups("{t}x")
    r.shape("xinfo_stream", "{t}x", full=True)
    expect_equal(
        [consumer["name"] for consumer in r.shape("xinfo_consumers", "{t}x", "g")], [b"c1", b"c2", b"c3"], "consumers")
    r.new([1, -1], "xackdel", "{t}x", "g", "4-1", "100-1")
    r.new([1, -1], "xdelex", "{t}x", "5-1", "100-1")
    r.other.xack("{t}x", "g", "4-1")
    r.other.xdel("{t}x", "4-1", "5-1")
    r.xgroup_setid("{t}x", "g", "5-1")
    r.xgroup_delconsumer("{t}x", "g", "c3")
    r.xdel("{t}x", "3-1", "100-1")
    r.xtrim("{t}x", maxlen=2, approximate=False)
    r.xtrim("{t}x", minid="9-0", approximate=True, limit=100)
    r.xgroup_destroy("{t}x", "g")
    r.xrange("{t}x")


def logs(r):
    r.pfadd("{t}p", "a", "b", "c")
    r.pfadd("{t}p", "a")
    r.pfadd("{t}q", *range(1000))
    r.pfcount("{t}p")
    r.pfcount("{t}p", "{t}q")
    r.pfmerge("{t}d", "{t}p", "{t}q")
    r.get("{t}d")


def geo(r):
    r.geoadd("{t}g", (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"))
    r.geoadd("{t}g", (13.5, 38, "Palermo"), nx=True)
    r.geoadd("{t}g", (13.6, 38, "Palermo"), xx=True, ch=True)
    r.geodist("{t}g", "Palermo", "Catania", unit="km")
    r.geodist("{t}g", "Palermo", "none")
    r.geohash("{t}g", "Palermo", "none")
    r.geopos("{t}g", "Palermo", "none")
    r.georadius("{t}g", 15, 37, 200, unit="km", withdist=True, withcoord=True, withhash=True, count=5, sort="ASC")
    r.georadius("{t}g", 15, 37, 200, unit="km", store="{t}d")
    r.georadiusbymember("{t}g", "Palermo", 300, unit="km", sort="DESC")
    r.geosearch("{t}g", member="Palermo", radius=300, unit="km", sort="ASC", withdist=True)
    r.geosearch("{t}g", longitude=15, latitude=37, width=400, height=400, unit="km", count=1, any=True)
    r.geosearchstore("{t}d", "{t}g", member="Palermo", radius=300, unit="km", storedist=True)
    r.zrange("{t}d", 0, -1, withscores=True)


def transactions(r):
    for client in (r.one, r.other):
        with client.pipeline(transaction=True) as pipeline:
            pipeline.watch("{t}w")
            pipeline.multi()
            pipeline.set("{t}w", "1").incr("{t}w").lpush("{t}w", "x").hset("{t}h", "a", "b").get("{t}w")
            replies = pipeline.execute(raise_on_error=False)
            # The cluster client leaves the first as it is.
            expect(replies[0] in (True, b"OK"), f"the reply of SET in MULTI: {replies[0]}")
            expect_equal([replies[1], replies[3], replies[4]], [2, 1, b"2"], "replies of EXEC")
            expect("wrong kind of value" in str(replies[2]), f"LPUSH of a string in MULTI: {replies[2]}")
        with client.pipeline(transaction=True) as pipeline:
            pipeline.watch("{t}w")
            client.set("{t}w", "changed")
            pipeline.multi()
            pipeline.get("{t}w")
            try:
                pipeline.execute()
                raise Failure("EXEC ran although a watched key was changed")
            except redis.WatchError:
                pass
            pipeline.unwatch()
    r.called |= {"watch", "unwatch"}


FAMILIES = [
    strings, bitmaps, keys_of_all, generic, lists, hashes, field_expiry, sets, sorted_sets, streams, logs, geo, transactions]


def databases(r):
    """What a cluster has not, or has for each node."""
    sorting(r)
    r.set("{t}m", "1")
    r.move("{t}m", 1)
    r.move("{t}m", 1)
    r.swapdb(0, 1)
    r.get("{t}m")
    r.select(0)
    r.flushdb()
    r.flushall(asynchronous=True)
    r.dbsize()
    r.ping()
    r.echo("text")
    r.shape("time")
    r.shape("lastsave")
    r.shape("role")
    r.wait(0, 1)
    r.config_set("hash-max-listpack-entries", 128)
    r.config_get("hash-max-listpack-entries", "list-max-listpack-size")
    r.config_get("nothing-like-this")
    r.config_resetstat()
    r.shape("info")
    r.shape("info", "memory", "server")
    r.shape("client_id")
    r.shape("client_info")
    r.shape("client_list")
    r.client_getname()
    r.client_setname("name")
    r.client_getname()
    r.client_getredir()
    r.client_no_evict("ON")
    r.client_unblock(10_000_000)
    r.client_pause(1)
    r.client_unpause()
    r.client_kill_filter(_id=10_000_000)
    r.client_kill("127.0.0.1:1")
    r.client_trackinginfo()
    r.new(b"OK", "client_no_touch", "ON")
    r.new(True, "client_setinfo", "LIB-NAME", "name")
    r.shape("command")
    r.shape("command_count")
    r.shape("command_list")
    r.shape("command_getkeys", "MSET", "a", 1, "b", 2)
    r.command_getkeysandflags("LMOVE", "a", "b", "LEFT", "LEFT")
    r.shape("memory_stats")
    r.shape("memory_malloc_stats")
    r.memory_purge()
    r.shape("lolwut")
    r.shape("debug_object", "{t}m")
    r.acl_whoami()
    r.acl_users()
    r.acl_cat()
    r.shape("acl_list")
    r.shape("acl_help")
    r.config_rewrite()
    r.slaveof()
    r.replicaof("NO", "ONE")
    r.shape("migrate", "127.0.0.1", 1, "{t}none", 0, 100)


def methods():
    """Names of all methods of redis-py that send a command."""
    return {
        name
        for cls in vars(core).values()
        if inspect.isclass(cls) and cls.__module__ == core.__name__ and cls.__name__.endswith("Commands")
        and not cls.__name__.startswith("Async")
        for name, value in vars(cls).items() if inspect.isfunction(value) and not name.startswith("_")}


def names(text, reason):
    return {name: reason for name in text.split()}


# Methods that nothing here calls.
LATER = {
    **names("""
        eval eval_ro evalsha evalsha_ro script_exists script_debug script_flush script_kill script_load register_script
        function_load function_delete function_flush function_list fcall fcall_ro function_dump function_restore
        function_kill function_stats publish spublish pubsub_channels pubsub_shardchannels pubsub_numpat pubsub_numsub
        pubsub_shardnumsub client_tracking client_tracking_on client_tracking_off
        """, "scripts, functions, messages and tracking have scenarios of their own"),
    **names("""
        acl_dryrun acl_deluser acl_genpass acl_getuser acl_log acl_log_reset acl_load acl_save acl_setuser auth
        latency_doctor latency_graph latency_histogram latency_history latency_latest latency_reset memory_doctor
        memory_help slowlog_get slowlog_len slowlog_reset
        """, "users and observation: a later issue"),
    **names("bgrewriteaof bgsave save waitaof failover", "durability: a later issue"),
    **names("""
        debug_segfault shutdown sync psync quit reset hello client_reply command_docs cluster readonly readwrite
        """, "ends or changes the connection, or is sent by redis-py itself; the smoke and cluster scenarios have them"),
    **names("module_load module_loadex module_unload module_list", "modules are not promised"),
    **names("digest_local command_info", "sends nothing"),
    **names("stralgo", "gone since Redis 7.0"),
    **names("""
        arset armset arget armget argetrange arscan argrep ardel ardelrange arcount arlen arinfo arnext arseek arinsert
        arring arlastitems arop hotkeys_start hotkeys_stop hotkeys_reset hotkeys_get increx lmovem blmovem sdiffcard
        sunioncard xcfgset xnack himport_prepare_internal himport_set himport_discard_internal
        himport_discard_all_internal
        """, "newer than the commands that are promised"),
}
