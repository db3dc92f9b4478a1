"""Replication without a cluster: full and partial syncs, chains, WAIT, in every pairing of Martlet and redis-server."""

import os
import random
import threading
import time

from harness import (
    Failure, RawConnection, ReplyError, describe_difference, encode, expect, expect_equal, read_all, wait_until)

PAIRS = (("martlet", "martlet"), ("martlet", "redis"), ("redis", "martlet"))


def check_full_sync(environment):
    """A replica gets all data, expiries and other databases included, and then every write."""
    for primary_kind, replica_kind in PAIRS:
        primary, replica = environment.server(primary_kind), environment.server(replica_kind)
        fill(primary, 2000)
        with RawConnection(primary.host, primary.port) as connection:
            connection.call("SELECT", 5)
            connection.call("SET", "in five", "x")
        replica.call("SET", "old data", "vanishes")
        follow(replica, primary)
        expect_same(primary, replica, f"{primary} → {replica} after the full sync")
        expect_equal(replica.call("EXISTS", "old data"), 0, "old data of the replica")
        with RawConnection(replica.host, replica.port) as connection:
            connection.call("SELECT", 5)
            expect_equal(connection.call("GET", "in five"), b"x", "a key of database 5")
        write_variety(primary)
        caught_up(primary, replica)
        expect_same(primary, replica, f"{primary} → {replica} after more writes")
        expect_refuses_writes(replica)
        replica.call("REPLICAOF", "NO", "ONE")
        expect_equal(replica.call("SET", "now a primary", "1"), b"OK", "a write after REPLICAOF NO ONE")
        stop_all(primary, replica)


def check_every_type(environment):
    """Values of every type, small and large, arrive by full sync, by RESTORE of a DUMP and by MIGRATE, both ways."""
    for primary_kind, replica_kind in PAIRS:
        primary, replica = environment.server(primary_kind), environment.server(replica_kind)
        fill_with_every_type(primary)
        follow(replica, primary)
        expect_same(primary, replica, f"{primary} → {replica}")
        replica.call("REPLICAOF", "NO", "ONE")
        keys = sorted(primary.call("KEYS", "*"))
        expect(len(keys) > 20, f"only {len(keys)} keys")
        for key in keys:
            expect_equal(replica.call("DEL", key), 1, f"DEL {key}")
            payload = primary.call("DUMP", key)
            expiry = max(0, primary.call("PEXPIRETIME", key))
            expect_equal(replica.call("RESTORE", key, expiry, payload, "ABSTTL"), b"OK", f"RESTORE {key}")
        expect_same(primary, replica, f"payloads of {primary} in {replica}")
        for key in keys:
            encodings = [server.call("OBJECT", "ENCODING", key) for server in (primary, replica)]
            expect_equal(*encodings, f"the encoding of {key}")
        third = environment.server(primary_kind)
        # MIGRATE sends how long a key has left: its time is not kept to the millisecond.
        for server in (primary, replica):
            server.call("PERSIST", "list:small:text")
        for key in keys:
            expect_equal(replica.call("MIGRATE", third.host, third.port, key, 0, 5000), b"OK", f"MIGRATE {key}")
        expect_same(primary, third, f"keys that {replica} gave to {third}")
        stop_all(primary, replica, third)


def fill_with_every_type(server):
    """Each encoding of each type, with integers, binary and long elements."""
    with RawConnection(server.host, server.port, timeout=30) as connection:
        call = connection.call

        def elements(count, length=0):
            return [f"{n * 1_000_003}" if n % 3 == 0 else f"e{n}" + "x" * length for n in range(count)]

        for name, count, length in (("small", 5, 0), ("many", 3000, 0), ("long", 20, 100), ("huge", 4, 20000)):
            for words in (elements(count, length), [bytes([n % 256, 0, 255, n // 256]) for n in range(count)]):
                key = f"{name}:{'text' if isinstance(words[0], str) else 'binary'}"
                call("RPUSH", f"list:{key}", *words)
                call("SADD", f"set:{key}", *words)
                call("HSET", f"hash:{key}", *[word for pair in zip(words, reversed(words)) for word in pair])
                call("ZADD", f"zset:{key}", *[x for n, word in enumerate(words) for x in ((n - 7) * 1.25, word)])
        call("SADD", "set:integers", *range(-50, 50))
        call("SADD", "set:wide", 1, 2**40, -(2**62))
        call("ZADD", "zset:edges", "inf", "a", "-inf", "b", "1e300", "c", 0.1, "d", -0.0, "e")
        for n in range(300):
            call("XADD", "stream", f"{1 + n // 3}-{1 + n % 3}", "field", n, "other", "x" * n)
        call("XADD", "stream", "1000-1", "alone", "1")
        call("XDEL", "stream", "5-1", "50-2")
        call("XGROUP", "CREATE", "stream", "group", "10-1")
        call("XGROUP", "CREATE", "stream", "idle", "$")
        call("XREADGROUP", "GROUP", "group", "one", "COUNT", 20, "STREAMS", "stream", ">")
        call("XREADGROUP", "GROUP", "group", "two", "COUNT", 5, "STREAMS", "stream", ">")
        call("XACK", "stream", "group", "11-1", "12-2")
        call("XGROUP", "CREATE", "empty stream", "group", "$", "MKSTREAM")
        call("PFADD", "hyperloglog", *range(1000))
        call("GEOADD", "geo", 13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")
        call("PEXPIREAT", "list:small:text", 4_000_000_000_000)


def check_full_sync_under_writes(environment):
    """The image is exact although the primary is written to while it is sent."""
    for primary_kind, replica_kind in PAIRS:
        primary, replica = environment.server(primary_kind), environment.server(replica_kind)
        fill(primary, 30000 if environment.is_long else 15000)
        with Scribbler(primary) as scribbler:
            follow(replica, primary)
            scribbler.write_at_least(5000)
        caught_up(primary, replica)
        expect_same(primary, replica, f"{primary} → {replica}")
        stop_all(primary, replica)


def check_partial_resync(environment):
    """A cut link resumes from the backlog: sync_partial_ok counts, sync_full does not, the data are equal."""
    for primary_kind, replica_kind in PAIRS:
        primary, replica = environment.server(primary_kind), environment.server(replica_kind)
        fill(primary, 500)
        follow(replica, primary)
        before = primary.info("stats")
        for _ in range(3):
            with Scribbler(primary) as scribbler:
                scribbler.write_at_least(300)
                expect(primary.call("CLIENT", "KILL", "TYPE", "replica") >= 1, "the primary cuts the link")
                scribbler.write_at_least(300)
            wait_until(lambda: replica.info("replication")["master_link_status"] == "up", 15, "the link is up again")
            caught_up(primary, replica)
        after = primary.info("stats")
        expect_equal(after["sync_full"], before["sync_full"], f"{primary} → {replica}: full syncs after cut links")
        expect(int(after["sync_partial_ok"]) >= int(before["sync_partial_ok"]) + 3, "partial resyncs are counted")
        expect_same(primary, replica, f"{primary} → {replica}")
        stop_all(primary, replica)


def check_backlog_too_small(environment):
    """A replica that misses more than the backlog holds gets a full sync, and equal data."""
    for primary_kind, replica_kind in PAIRS:
        primary = environment.server(primary_kind, repl_backlog_size="16384")
        replica = environment.server(replica_kind)
        follow(replica, primary)
        before = int(primary.info("stats")["sync_full"])
        replica.freeze()
        primary.call("CLIENT", "KILL", "TYPE", "replica")
        with RawConnection(primary.host, primary.port) as connection:
            for n in range(200):
                connection.call("SET", f"missed:{n}", "m" * 1000)
        replica.thaw()
        wait_until(lambda: int(primary.info("stats")["sync_full"]) == before + 1, 20, "a full sync happened")
        in_sync(replica)
        caught_up(primary, replica)
        expect_same(primary, replica, f"{primary} → {replica}")
        stop_all(primary, replica)


def check_chain(environment):
    """A replica of a replica: data, WAIT, and a partial resync of the tail when the middle's link is cut."""
    kinds = (("martlet", "martlet", "martlet"), ("redis", "martlet", "redis"), ("martlet", "redis", "martlet"))
    for head_kind, middle_kind, tail_kind in kinds:
        head, middle, tail = (environment.server(kind) for kind in (head_kind, middle_kind, tail_kind))
        fill(head, 500)
        follow(middle, head)
        follow(tail, middle)
        write_variety(head)
        caught_up(head, tail)
        expect_same(head, tail, f"{head} → {middle} → {tail}")
        expect_equal(tail.info("replication")["master_repl_offset"], head.info("replication")["master_repl_offset"],
                     "the tail's offset is the head's")
        full = middle.info("stats")["sync_full"]
        head.call("CLIENT", "KILL", "TYPE", "replica")
        fill(head, 100, "after")
        in_sync(middle)
        in_sync(tail)
        caught_up(head, tail)
        expect_same(head, tail, f"{head} → {middle} → {tail} after the cut")
        expect_equal(middle.info("stats")["sync_full"], full, "no full sync of the tail")
        stop_all(head, middle, tail)


def check_wait(environment):
    """WAIT counts the replicas that have acknowledged, returns early when enough have, and times out."""
    primary = environment.server()
    replicas = [environment.server("martlet"), environment.server("redis")]
    for replica in replicas:
        follow(replica, primary)
    with RawConnection(primary.host, primary.port) as connection:
        connection.call("SET", "a", "1")
        expect_equal(connection.call("WAIT", 2, 5000), 2, "WAIT 2")
        replicas[0].freeze()
        connection.call("SET", "a", "2")
        start = time.monotonic()
        expect_equal(connection.call("WAIT", 1, 5000), 1, "WAIT 1 with one replica frozen")
        expect(time.monotonic() - start < 2, "WAIT returns as soon as enough replicas have acknowledged")
        start = time.monotonic()
        expect_equal(connection.call("WAIT", 2, 400), 1, "WAIT 2 with one replica frozen")
        expect(0.35 < time.monotonic() - start < 2, "WAIT returns at its time-out")
        replicas[0].thaw()
        expect_equal(connection.call("WAIT", 2, 5000), 2, "WAIT 2 after the replica runs again")


def check_failover_keeps_history(environment):
    """After the primary's death the others follow the promoted replica by a partial resync (second replication id)."""
    for old_kind, new_kind, other_kind in (
            ("martlet", "martlet", "martlet"), ("redis", "martlet", "redis"), ("martlet", "redis", "martlet")):
        old, new, other = (environment.server(kind) for kind in (old_kind, new_kind, other_kind))
        fill(old, 500)
        follow(new, old)
        follow(other, old)
        write_variety(old)
        caught_up(old, new)
        caught_up(old, other)
        old.kill()
        new.call("REPLICAOF", "NO", "ONE")
        identifiers = new.info("replication")
        expect(identifiers["master_replid2"].strip("0") != "", "the old history is remembered as the second id")
        full = int(new.info("stats")["sync_full"])
        other.call("REPLICAOF", new.host, new.port)
        fill(new, 100, "after")
        in_sync(other)
        caught_up(new, other)
        expect_same(new, other, f"{new} → {other} after {old} died")
        expect_equal(int(new.info("stats")["sync_full"]), full, f"{other} needs no full sync from {new}")
        stop_all(new, other)


def check_switch_over(environment):
    """Roles change back and forth under REPLICAOF; each side ends up with equal data."""
    one, two = environment.server("martlet"), environment.server("redis")
    fill(one, 300)
    follow(two, one)
    for round_number in range(4):
        caught_up(one, two)
        two.call("REPLICAOF", "NO", "ONE")
        fill(two, 50, f"round{round_number}")
        one.call("REPLICAOF", two.host, two.port)
        in_sync(one)
        caught_up(two, one)
        expect_same(two, one, f"round {round_number}: {two} → {one}")
        one, two = two, one


def check_big_values(environment):
    """Values of some megabytes cross a full sync and the stream, in both directions."""
    size = (16 if environment.is_long else 4) << 20
    for primary_kind, replica_kind in PAIRS:
        primary, replica = environment.server(primary_kind), environment.server(replica_kind)
        values = {b"random": os.urandom(size), b"zeros": bytes(size), b"text": b"compressible " * (size // 13)}
        with RawConnection(primary.host, primary.port, timeout=30) as connection:
            for name, value in values.items():
                connection.call("SET", b"sync:" + name, value)
            follow(replica, primary)
            for name, value in values.items():
                connection.call("SET", b"stream:" + name, value)
        caught_up(primary, replica)
        with RawConnection(replica.host, replica.port, timeout=30) as connection:
            for name, value in values.items():
                for way in (b"sync:", b"stream:"):
                    expect(connection.call("GET", way + name) == value, f"{primary} → {replica}: {way + name} differs")
        stop_all(primary, replica)


def check_long_commands(environment):
    """Commands of more than a million words are executed, and followed by replicas without a break of the link."""
    count = 550_000
    keys = [b"key:%d" % number for number in range(count)]
    for primary_kind, replica_kind in PAIRS:
        primary, replica = environment.server(primary_kind), environment.server(replica_kind)
        follow(replica, primary)
        with RawConnection(primary.host, primary.port, timeout=60) as connection:
            expect_equal(connection.call("MSET", *(word for key in keys for word in (key, b"v"))), b"OK", "a long MSET")
            caught_up(primary, replica)
            expect_equal(replica.call("DBSIZE"), count, f"{primary} → {replica}: keys")
            expect_equal(connection.call("DEL", *keys, *keys), count, "a long DEL")
        caught_up(primary, replica)
        expect_equal(replica.call("DBSIZE"), 0, f"{primary} → {replica}: keys after DEL")
        expect_equal(replica.info("replication")["master_link_status"], "up", "the link")
        stop_all(primary, replica)


def check_role_and_info(environment):
    """ROLE and INFO replication tell the same on both sides; a replica without its primary says so."""
    primary, replica = environment.server(), environment.server()
    follow(replica, primary)
    role = wait_until(lambda: primary.call("ROLE") if primary.call("ROLE")[2] else None, 10, "ROLE lists the replica")
    expect_equal(role[0], b"master", "ROLE of the primary")
    expect_equal(role[2][0][:2], [b"127.0.0.1", str(replica.port).encode()], "the replica in ROLE")
    role = replica.call("ROLE")
    expect_equal(role[:4], [b"slave", b"127.0.0.1", primary.port, b"connected"], "ROLE of the replica")
    line = primary.info("replication")["slave0"]
    expect(f"port={replica.port}" in line and "state=online" in line, f"slave0: {line}")
    primary.kill()
    wait_until(lambda: replica.info("replication")["master_link_status"] == "down", 10, "the replica sees the link down")
    expect(int(replica.info("replication")["master_link_down_since_seconds"]) >= 0, "since when it is down")
    expect(replica.call("GET", "whatever") is None, "a replica serves stale data")
    replica.call("CONFIG", "SET", "replica-serve-stale-data", "no")
    try:
        replica.call("GET", "whatever")
        raise Failure("a replica without its primary served data")
    except ReplyError as error:
        expect(str(error).startswith("MASTERDOWN "), str(error))


# Helpers

def follow(replica, primary):
    expect_equal(replica.call("REPLICAOF", primary.host, primary.port), b"OK", "REPLICAOF")
    in_sync(replica)


def in_sync(replica, seconds=30):
    wait_until(lambda: replica.info("replication").get("master_link_status") == "up", seconds,
               f"{replica} is in sync with its primary")


def caught_up(primary, replica, seconds=20):
    """The replica has applied everything the primary has sent so far. PINGs move the offset on, hence >=."""
    offset = int(primary.info("replication")["master_repl_offset"])
    wait_until(lambda: int(replica.info("replication")["slave_repl_offset"]) >= offset, seconds,
               f"{replica} reaches offset {offset} of {primary}")


def expect_same(one, other, what, seconds=5):
    """Equal data once nobody writes; the deadline is for a key whose expiry has not crossed the link yet."""
    deadline = time.monotonic() + seconds
    while True:
        difference = describe_difference(read_all(one), read_all(other))
        if not difference:
            return
        expect(time.monotonic() < deadline, f"{what}: {difference}")
        time.sleep(0.2)


def expect_refuses_writes(replica):
    try:
        replica.call("SET", "a", "b")
        raise Failure("a replica accepted a write")
    except ReplyError as error:
        expect_equal(str(error), "READONLY You can't write against a read only replica.", "a write to a replica")


def stop_all(*servers):
    for server in servers:
        server.stop()


def fill(server, count, prefix="key"):
    """Strings of all encodings, some with an expiry far away."""
    picker = random.Random(count)
    with RawConnection(server.host, server.port, timeout=30) as connection:
        for first in range(0, count, 500):
            commands = []
            for n in range(first, min(first + 500, count)):
                value = picker.choice((
                    str(picker.randint(-(1 << 63), (1 << 63) - 1)), str(picker.randint(-200, 200)), "",
                    "x" * picker.randint(0, 60), picker.randbytes(picker.randint(0, 3000)), "abc " * picker.randint(1, 400)))
                command = ["SET", f"{prefix}:{n}", value]
                if n % 5 == 0:
                    command += ["PXAT", (int(time.time()) + 3600 + n) * 1000 + n % 1000]
                commands.append(encode(*command))
            connection.send(b"".join(commands))
            for _ in commands:
                expect_equal(connection.read_reply(), b"OK", "SET")


def write_variety(server):
    """Each family of string and key commands once, as replicas have to see it."""
    with RawConnection(server.host, server.port) as connection:
        for line in (
                "SET v:1 a", "APPEND v:1 bcd", "SETRANGE v:1 2 XY", "INCR v:2", "INCRBY v:2 40", "DECR v:2",
                "INCRBYFLOAT v:3 1.5", "INCRBYFLOAT v:3 -0.25", "SETBIT v:4 77 1", "BITFIELD v:4 SET u8 8 200 INCRBY u8 8 99",
                "BITOP NOT v:5 v:1", "BITOP XOR v:6 v:1 v:5", "GETSET v:1 new", "GETDEL v:6", "SET v:7 x EX 1000",
                "GETEX v:7 PERSIST", "GETEX v:7 EX 500", "SETEX v:8 600 x", "PSETEX v:9 600000 x", "SETNX v:10 x",
                "MSET v:11 a v:12 b", "MSETNX v:13 c v:14 d", "EXPIRE v:11 900", "PEXPIRE v:12 900000", "PERSIST v:11",
                "EXPIRE v:13 -1", "RENAME v:14 v:15", "RENAMENX v:15 v:16", "COPY v:16 v:17", "UNLINK v:10",
                "SET v:18 x PX 40", "SET v:19 x KEEPTTL", "DEL v:2", "SET v:20 1 NX", "SET v:20 2 XX GET",
                "MOVE v:20 3", "SWAPDB 3 4"):
            connection.call(*line.split())


class Scribbler:
    """Writes to a server from a thread until it is left: sets, counters, deletions, expiries on a small keyspace."""

    def __init__(self, server):
        self.server = server
        self.count = 0
        self.stopping = False
        self.error = None
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join()
        if self.error:
            raise Failure(f"a write to {self.server} failed: {self.error}")

    def run(self):
        picker = random.Random(7)
        try:
            with RawConnection(self.server.host, self.server.port) as connection:
                while not self.stopping:
                    commands = []
                    for _ in range(20):
                        key = f"key:{picker.randint(0, 20000)}"
                        commands.append(picker.choice((
                            encode("SET", key, picker.randbytes(picker.randint(0, 200))), encode("DEL", key),
                            encode("INCR", f"n:{key}"), encode("EXPIREAT", key, int(time.time()) + 5000),
                            encode("APPEND", f"a:{key}", "more"))))
                    connection.send(b"".join(commands))
                    for _ in commands:
                        reply = connection.read_reply()
                        if isinstance(reply, ReplyError):
                            raise reply
                    self.count += len(commands)
        except (OSError, ReplyError) as error:
            self.error = error

    def write_at_least(self, count):
        target = self.count + count
        wait_until(lambda: self.error or self.count >= target, 20, f"{count} more writes")
