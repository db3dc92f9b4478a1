"""What clients do beside reading and writing: caches on their side, transactions, MONITOR, CLIENT."""

import threading
import time

import redis
from redis.cache import CacheConfig
from redis.connection import CacheProxyConnection

from harness import Failure, RawConnection, encode, expect, expect_equal, wait_until

# redis-py asks for a Redis that says 7.4; what it uses has been there since 6.0.
CacheProxyConnection.MIN_ALLOWED_VERSION = "7.2.0"


def check_client_side_cache(environment):
    """redis-py's cache: a hit asks nobody, what others change, expire or flush is read again."""
    server = environment.server()
    writer = server.client
    cached = server.open_client(protocol=3, cache_config=CacheConfig())
    writer.mset({"a": "1", "b": "2"})
    hits = lambda: int(server.info("commandstats").get("cmdstat_get", "calls=0,").split(",")[0].split("=")[1])
    expect_equal(cached.get("a"), b"1", "the first GET")
    before = hits()
    for _ in range(5):
        expect_equal(cached.get("a"), b"1", "a cached GET")
    expect_equal(hits(), before, "GETs that the server saw")
    expect_equal(cached.mget("a", "b"), [b"1", b"2"], "MGET")
    writer.set("a", "3")
    wait_until(lambda: cached.get("a") == b"3", 5, "the cache notices SET")
    expect_equal(cached.mget("a", "b"), [b"3", b"2"], "MGET after SET")
    # Its own changes, in a pipeline with a transaction.
    with cached.pipeline() as pipeline:
        pipeline.set("a", "4").incr("b").execute()
    wait_until(lambda: (cached.get("a"), cached.get("b")) == (b"4", b"3"), 5, "the cache notices a transaction")
    writer.set("a", "5", px=50)
    wait_until(lambda: cached.get("a") in (b"5", None), 5, "the cache notices SET PX")
    wait_until(lambda: cached.get("a") is None, 5, "the cache notices that a key has expired")
    expect_equal(cached.get("b"), b"3", "another key")
    writer.flushall()
    wait_until(lambda: cached.get("b") is None, 5, "the cache notices FLUSHALL")


def check_client_side_cache_in_cluster(environment):
    """The cache of redis-py's cluster client: every node tells of its own keys."""
    cluster = environment.cluster(3, 0)
    node = cluster.shards[0][0]
    cached = redis.RedisCluster(host=node.host, port=node.port, protocol=3, cache_config=CacheConfig())
    writer = redis.RedisCluster(host=node.host, port=node.port)
    keys = [f"key:{number}" for number in range(60)]
    for key in keys:
        writer.set(key, "old")
        expect_equal(cached.get(key), b"old", key)
    for key in keys[::2]:
        writer.set(key, "new")
    for number, key in enumerate(keys):
        expected = b"old" if number % 2 else b"new"
        wait_until(lambda: cached.get(key) == expected, 5, f"{key} is {expected}")
    for other in cluster.nodes:
        expect(int(other.info("clients")["tracking_clients"]) > 0, f"{other} has a tracking client")


def check_cache_is_never_stale(environment):
    """Four caching readers while a writer counts: a value that was read after its successor was acknowledged and the
    reader's connection was asked once more is a stale one."""
    server = environment.server()
    writer = server.client
    readers = [server.open_client(protocol=3, cache_config=CacheConfig()) for _ in range(4)]
    for value in range(300):
        writer.set("counter", value)
        for reader in readers:
            # A push stands before the reply of whatever comes after it on that connection.
            reader.echo("x")
            expect_equal(int(reader.get("counter")), value, "a cached counter")


def check_redirected_invalidations(environment):
    """RESP2: invalidations arrive in the channel __redis__:invalidate of another connection, in order."""
    server = environment.server()
    with RawConnection(server.host, server.port) as receiver, RawConnection(server.host, server.port) as reader:
        receiver_id = receiver.call("CLIENT", "ID")
        expect_equal(
            receiver.call("SUBSCRIBE", "__redis__:invalidate"), [b"subscribe", b"__redis__:invalidate", 1], "SUBSCRIBE")
        expect_equal(reader.call("CLIENT", "TRACKING", "ON", "REDIRECT", receiver_id), b"OK", "TRACKING")
        for number in range(100):
            reader.call("GET", f"key:{number}")
        for number in range(100):
            server.client.set(f"key:{number}", 1)
        for number in range(100):
            expect_equal(
                receiver.read_reply(), [b"message", b"__redis__:invalidate", [f"key:{number}".encode()]], "a message")
        server.client.flushall()
        expect_equal(receiver.read_reply(), [b"message", b"__redis__:invalidate", None], "FLUSHALL's message")
        # Broadcasts of a pipeline come together, at least with the first of its commands.
        expect_equal(reader.call("CLIENT", "TRACKING", "OFF"), b"OK", "TRACKING OFF")
        reader.call("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "user:", "REDIRECT", receiver_id)
        server.client.mset({"user:2": 1, "other": 1, "user:1": 1})
        expect_equal(
            receiver.read_reply(), [b"message", b"__redis__:invalidate", [b"user:1", b"user:2"]], "a broadcast")


def check_watch_with_pipelines(environment):
    """Eight threads add with WATCH, MULTI and EXEC: no addition is lost, some have to be tried again."""
    server = environment.server()
    failures = []
    retries = [0] * 8

    def add(index):
        client = server.open_client()
        try:
            for _ in range(100):
                while True:
                    with client.pipeline() as pipeline:
                        pipeline.watch("sum")
                        value = int(pipeline.get("sum") or 0)
                        pipeline.multi()
                        pipeline.set("sum", value + 1)
                        pipeline.incr(f"thread:{index}")
                        try:
                            pipeline.execute()
                            break
                        except redis.WatchError:
                            retries[index] += 1
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=add, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise Failure(f"a thread ended with {failures[0]!r}")
    expect_equal(server.client.get("sum"), b"800", "the sum")
    expect_equal([server.client.get(f"thread:{index}") for index in range(8)], [b"100"] * 8, "each thread's own count")
    # redis-py's shorthand for the same.
    server.client.set("n", 1)
    expect_equal(
        server.client.transaction(lambda pipeline: pipeline.multi() or pipeline.incrby("n", 5), "n"), [6],
        "Redis.transaction")


def check_client_commands(environment):
    """CLIENT as redis-py asks for it: list, kill, pause, unblock, tracking, names."""
    server = environment.server()
    client = server.open_client(client_name="tester", lib_name="lib", lib_version="1.2")
    with client.client() as one:
        identity = one.client_id()
        info = one.client_info()
        expect_equal((info["id"], info["name"], info["cmd"]), (identity, "tester", "client|info"), "CLIENT INFO")
        expect(info["lib-name"].startswith("lib") and info["lib-ver"] == "1.2", f"the library's name in {info}")
        expect_equal(one.client_getname(), "tester" if isinstance(one.client_getname(), str) else b"tester", "its name")
        listed = {line["id"] for line in one.client_list()}
        expect(str(identity) in listed, "CLIENT LIST has the connection")
        expect_equal([line["id"] for line in one.client_list(client_id=[identity])], [str(identity)], "LIST ID")
        expect_equal(one.client_list(_type="pubsub"), [], "LIST TYPE")
        expect_equal(one.client_getredir(), -1, "GETREDIR")
        one.client_tracking_on(optin=True)
        expect_equal(one.client_getredir(), 0, "GETREDIR while tracking")
        expect(b"optin" in str(one.client_trackinginfo()).encode(), "TRACKINGINFO")
        one.client_tracking_off()
        expect_equal((one.client_no_evict("ON"), one.client_no_touch("ON")), (b"OK", b"OK"), "NO-EVICT, NO-TOUCH")

        # A blocked connection is let go, or closed.
        outcome = {}

        def wait(name):
            other = server.open_client(client_name=name)
            try:
                outcome[name] = other.blpop("nothing", timeout=60)
            except redis.RedisError as error:
                outcome[name] = error

        threads = {name: threading.Thread(target=wait, args=(name,)) for name in ("quiet", "loud", "killed")}
        for thread in threads.values():
            thread.start()
        wait_until(lambda: server.info("clients")["blocked_clients"] == "3", 10, "three clients wait")
        numbers = {line["name"]: int(line["id"]) for line in one.client_list()}
        expect_equal(one.client_unblock(numbers["quiet"]), True, "UNBLOCK")
        expect_equal(one.client_unblock(numbers["loud"], error=True), True, "UNBLOCK ERROR")
        expect_equal(one.client_kill_filter(_id=str(numbers["killed"])), 1, "KILL ID")
        for thread in threads.values():
            thread.join()
        expect_equal(outcome["quiet"], None, "what the first got")
        expect(str(outcome["loud"]).startswith("UNBLOCKED"), f"what the second got: {outcome['loud']!r}")
        expect(isinstance(outcome["killed"], redis.ConnectionError), f"what the third got: {outcome['killed']!r}")

        # A pause of writes.
        one.client_pause(100000, all=False)
        writer = server.open_client()
        started = threading.Thread(target=lambda: outcome.update(paused=writer.set("held", "1")))
        started.start()
        wait_until(lambda: server.info("clients")["blocked_clients"] == "1", 10, "the write waits")
        expect_equal(one.get("held"), None, "a read during the pause")
        one.client_unpause()
        started.join()
        expect_equal((outcome["paused"], one.get("held")), (True, b"1"), "the write after the pause")
        expect_equal(one.client_kill_filter(maxage=100000), 0, "KILL MAXAGE")
        expect(one.client_kill_filter(_type="normal", skipme=True) >= 1, "KILL TYPE")
        expect_equal(one.ping(), True, "who kills spares itself")


def check_monitor(environment):
    """redis-py's MONITOR sees what others do, in order, and no passwords; a monitor that does not read is closed."""
    server = environment.server()
    other = server.open_client()
    with other.client() as worker, server.open_client().monitor() as monitor:
        worker.set("a", "b c")
        with worker.pipeline() as pipeline:
            pipeline.get("a").incr("n").execute()
        try:
            worker.execute_command("AUTH", "user", "secret")
        except redis.RedisError:
            pass
        expected = ["SET a b c", "MULTI", "GET a", "INCRBY n 1", "EXEC", "AUTH (redacted) (redacted)"]
        seen = []
        while len(seen) < len(expected):
            line = monitor.next_command()
            if line["command"].split(" ")[0] not in ("CLIENT", "HELLO"):
                seen.append(line["command"])
        expect_equal(seen, expected, "what the monitor saw")
    other.config_set("client-output-buffer-limit", "normal 1mb 0 0")
    with RawConnection(server.host, server.port) as lazy:
        lazy.send(encode("MONITOR"))
        expect_equal(lazy.read_reply(), b"OK", "MONITOR")
        value = b"x" * 100000

        def is_closed():
            for _ in range(20):
                other.set("big", value)
            return not [line for line in other.client_list() if "O" in line["flags"]]

        wait_until(is_closed, 20, "the monitor that does not read is closed")
    expect("overcoming of output buffer limits" in server.log(), "the log says why")


def check_tracking_limits(environment):
    """A client that tracks 300,000 keys: the table keeps to its limit, and what is given up is told."""
    server = environment.server(**{"tracking-table-max-keys": 1000})
    with RawConnection(server.host, server.port, timeout=60) as reader:
        reader.call("HELLO", "2")
        receiver = RawConnection(server.host, server.port, timeout=60)
        receiver_id = receiver.call("CLIENT", "ID")
        receiver.call("SUBSCRIBE", "__redis__:invalidate")
        reader.call("CLIENT", "TRACKING", "ON", "REDIRECT", receiver_id)
        count = 300000 if environment.is_long else 30000
        told = set()

        def listen():
            while len(told) < count - 1000:
                told.update(receiver.read_reply()[2])

        listener = threading.Thread(target=listen)
        listener.start()
        for start in range(0, count, 1000):
            reader.send(b"".join(encode("GET", f"key:{number}") for number in range(start, start + 1000)))
            for _ in range(1000):
                reader.read_reply()
        listener.join(60)
        expect(not listener.is_alive(), f"{len(told)} of {count} keys were given up")
        wait_until(lambda: int(server.info("stats")["tracking_total_keys"]) == 1000, 10, "the table is at its limit")
        receiver.close()
