"""Locks as libraries make them of SET NX PX and compare-and-delete scripts: redis-py's Lock, pottery's and redlock-py's
Redlock; and who holds one at the same time as somebody else."""

import json
import logging
import os
import random
import shutil
import struct
import subprocess
import sys
import threading
import time

import redis

import exclusion
from exclusion import Hold
from harness import Failure, RawConnection, Skipped, expect, expect_equal, fail_over, key_slot, wait_until

# The time of a Redlock that nobody is to lose by waiting, in seconds.
LONG = 60

# Libraries tell of every node that does not answer, with a stack trace.
for name in ("pottery", "root"):
    logging.getLogger(name).addHandler(logging.NullHandler())


# redis-py's Lock: one node, or one shard.

def check_lock(environment):
    """redis-py's Lock: one holder at a time, whoever lost it is told, and nobody gives back or extends another's."""
    server = environment.server()
    expect_rules_of_lock(server.open_client())
    with Contest(server.open_client, 6) as contest:
        contest.wait_for_turns(25)
    contest.expect_exclusion()


def check_lock_in_cluster(environment):
    """The same in a cluster of six, while the lock's shard fails over as an operator tells it, and after kill -9."""
    cluster = environment.cluster(3, 1)
    client = cluster.open_client()
    expect_rules_of_lock(client)
    primary, replica = shard_of(cluster, "contended")
    with Contest(cluster.open_client, 6) as contest:
        contest.wait_for_turns(5)
        for old, new in ((primary, replica), (replica, primary)):
            fail_over(new, old)
            contest.wait_for_turns(5)
    contest.expect_exclusion()
    turns = len(contest.history)

    # A dead primary takes along what it had not sent yet; a lock that its replica has seen survives.
    lock = client.lock("contended", timeout=LONG)
    expect(lock.acquire(), "the lock before the kill")
    with RawConnection(replica.host, replica.port) as reader:
        reader.call("READONLY")
        wait_until(lambda: reader.call("GET", "contended") == lock.local.token, 10, "the replica has seen the lock")
    with Contest(cluster.open_client, 3) as contest:
        killed = time.monotonic()
        primary.kill()
        wait_until(lambda: replica.role() == "master", 20, "the replica is elected")
        expect(eventually(lock.owned), "it is still the owner's")
        outage = time.monotonic() - killed
        expect(eventually(lambda: lock.extend(LONG)), "the owner extends it")
        expect_equal(contest.history, [], "what others got meanwhile")
        lock.release()
        contest.wait_for_turns(5)
    contest.expect_exclusion()
    environment.note(f"{turns} turns across two ordered failovers, {len(contest.history)} after a kill; "
                     f"the owner was served again {outage:.2f} s after it")


def check_pipelines_in_cluster(environment):
    """Pipelines over all slots, transactions with WATCH in one slot and registered scripts, through failovers: what the
    library reported as done was done once, nothing else was."""
    cluster = environment.cluster(3, 1)
    client = cluster.open_client()
    expect_pipelines(client)
    expect_scripts(cluster, client)

    counters = [f"counter:{number}" for number in range(30)]
    counted = {"pipelines": [0, 0], "transactions": [0, 0, 0], "scripts": [0, 0]}
    conflicts = [0]
    stop = threading.Event()
    errors = []

    def add_in_pipeline(own):
        with own.pipeline() as pipeline:
            for key in counters:
                pipeline.incr(key)
            pipeline.execute()

    def add_in_transaction(own):
        with own.pipeline(transaction=True) as pipeline:
            pipeline.watch("{sum}total")
            total = int(pipeline.get("{sum}total") or 0)
            pipeline.multi()
            pipeline.set("{sum}total", total + 1).rpush("{sum}log", total)
            pipeline.execute()

    def add_by_script(own):
        script = own.register_script("return redis.call('INCR', KEYS[1]) + redis.call('INCR', KEYS[2]) * 0")
        script(keys=["{script}a", "{script}b"])

    def work(kind, index, add):
        own = cluster.open_client()
        try:
            while not stop.is_set():
                try:
                    add(own)
                    counted[kind][index] += 1
                except redis.WatchError:
                    conflicts[0] += 1
        except Exception as error:
            errors.append(error)

    threads = [
        threading.Thread(target=work, args=(kind, index, add), daemon=True)
        for kind, add in (("pipelines", add_in_pipeline), ("transactions", add_in_transaction),
                          ("scripts", add_by_script))
        for index in range(len(counted[kind]))]
    for thread in threads:
        thread.start()

    def wait_for_progress():
        goal = {kind: [count + 5 for count in counts] for kind, counts in counted.items()}
        wait_until(lambda: errors or all(
            count >= least for kind in counted for count, least in zip(counted[kind], goal[kind])),
            20, "every thread goes on")

    wait_for_progress()
    for primary, replica in cluster.shards:
        fail_over(replica, primary)
        wait_for_progress()
    stop.set()
    for thread in threads:
        thread.join(60)
    if errors:
        raise Failure(f"a thread ended with {errors[0]!r}")
    done = {kind: sum(counts) for kind, counts in counted.items()}
    expect_equal({client.get(key) for key in counters}, {b"%d" % done["pipelines"]}, "each counter of the pipelines")
    expect_equal(client.get("{sum}total"), b"%d" % done["transactions"], "the sum of the transactions")
    expect_equal(client.lrange("{sum}log", 0, -1), [b"%d" % n for n in range(done["transactions"])], "their log")
    expect_equal(client.mget("{script}a", "{script}b"), [b"%d" % done["scripts"]] * 2, "the scripts' counters")
    environment.note(", ".join(f"{count} {kind}" for kind, count in done.items())
                     + f" over three failovers; {conflicts[0]} transactions were tried again")

    # After kill -9 a client finds its way without being told. A replica has to have followed its primary first: one that
    # has only just been a primary is no candidate, as in Redis.
    cluster.wait_ok()
    primary, replica = cluster.shards[1][1], cluster.shards[1][0]
    primary.kill()
    wait_until(lambda: replica.role() == "master", 20, "the replica is elected")
    eventually(lambda: add_in_pipeline(client) is None)
    eventually(lambda: add_in_transaction(client) is None)
    expect_scripts(cluster, client)


# Redlock: five nodes that know nothing of each other.

def check_redlock(environment):
    """pottery's Redlock over five nodes: with nodes down, nodes that hang, nodes restarted empty; and the double holder
    that comes of restarting three of them at once, which the checker has to see.

    The library returns when a majority has answered; the rest of the nodes may hear of it a little later."""
    Redlock = pottery().Redlock
    nodes = [environment.server() for _ in range(5)]
    masters = exclusion.open_masters([node.port for node in nodes])

    def lock(seconds=LONG):
        return Redlock(key="resource", masters=masters, auto_release_time=seconds)

    def refused():
        return not lock().acquire(blocking=False)

    # All five are there.
    first = lock()
    expect(first.acquire(blocking=False), "the first acquires it")
    expect(refused(), "a second does not")
    expect(LONG - 5 < first.locked() < LONG, f"its time to live: {first.locked()}")
    expect_equal(lock().locked(), 0, "the time to live of a lock that was not acquired")
    first.extend()
    first.release()
    wait_until(lambda: keys_on(nodes) == 0, 10, "no node has the key after release")
    with lock():
        expect(refused(), "a second is refused while the with block runs")
    for attempt in (first.release, first.extend):
        try:
            attempt()
        except pottery().PrimitiveError:
            continue
        raise Failure("somebody released or extended what he did not hold")
    short = lock(0.1)
    expect(short.acquire(timeout=20) and lock().acquire(timeout=20), "an expired lock is there for the next one")
    flush(nodes)

    # Up to two are down; three are too many.
    for down in range(3):
        first = lock()
        expect(first.acquire(timeout=20), f"with {down} nodes down")
        expect(refused(), f"a second with {down} nodes down")
        expect(first.locked() > 0, f"the time to live with {down} nodes down")
        first.extend()
        first.release()
        wait_until(lambda: keys_on(nodes) == 0, 10, "no node has the key after release")
        nodes[down].kill()
    expect(not lock().acquire(blocking=False), "with three nodes down nobody gets it")
    try:
        lock().acquire(blocking=False, raise_on_redis_errors=True)
    except pottery().QuorumIsImpossible:
        pass
    else:
        raise Failure("three dead nodes and no QuorumIsImpossible")
    for node in nodes[:3]:
        node.start()

    # Two of those that hold it are restarted, and have forgotten it; so has a third, and that is the end of safety:
    # nothing is on disk, and they came back before the lock's time had passed.
    flush(nodes)
    history = [hold_of("first", lock())]
    wait_until(lambda: keys_on(nodes) == 5, 10, "all nodes have the lock")
    for number, node in enumerate(nodes[:2], 1):
        node.kill()
        node.start()
        expect(refused(), f"a second after {number} nodes were restarted empty")
    expect_equal(keys_on(nodes), 3, "nodes that have the key")
    nodes[2].stop()
    nodes[2].start()
    history.append(hold_of("second", lock()))
    expect_equal(exclusion.overlaps(history), [tuple(history)], "what the checker says of two holders")
    flush(nodes)

    # Two that hang cost a time-out each time, and no more.
    for node in nodes[3:]:
        node.freeze()
    first = lock()
    start = time.monotonic()
    expect(first.acquire(timeout=20) and refused(), "with two nodes that hang")
    environment.note(f"a lock taken and one refused with two hanging nodes: {time.monotonic() - start:.2f} s")
    for node in nodes[3:]:
        node.thaw()
    first.release()


def check_redlock_with_stepped_clocks(environment):
    """Wall clocks that jump do not touch a lock in Martlet, whose time cannot be set; a node of redis-server forgets it
    early or keeps it too long, and with three that jump forwards there are two holders, which the checker has to see."""
    library = SteppedClock.build(environment)
    for kind in ("martlet", "redis"):
        nodes = [environment.server(kind, start=False) for _ in range(5)]
        clocks = [SteppedClock(node, library) for node in nodes]
        for node in nodes:
            node.start()
        masters = exclusion.open_masters([node.port for node in nodes])

        def lock(seconds=LONG):
            return pottery().Redlock(key="resource", masters=masters, auto_release_time=seconds)

        def refused():
            return not lock().acquire(blocking=False)

        is_steady = nodes[0].is_martlet()
        first = hold_of("first", lock())
        wait_until(lambda: keys_on(nodes) == 5, 10, "all nodes have the lock")
        for number in (1, 2):
            clocks[number].step(2 * LONG)
            expect_equal(keys_on(nodes), 5 if is_steady else 5 - number,
                         f"{kind} nodes with the lock, clocks ahead: {number}")
            expect(refused(), f"a second with {number} clocks ahead")
        clocks[0].step(2 * LONG)
        if is_steady:
            expect(refused() and keys_on(nodes) == 5, "three clocks ahead, and nothing has happened to the lock")
        else:
            history = [first, hold_of("second", lock())]
            expect_equal(exclusion.overlaps(history), [tuple(history)], "what the checker says of three clocks ahead")
        flush(nodes)

        # Backwards: the holder dies, and one node might keep its lock for longer than the others.
        expect(lock(0.5).acquire(), "the lock of one who dies")
        wait_until(lambda: keys_on(nodes) == 5, 10, "all nodes have it")
        dead = nodes[3].call("GET", "redlock:resource")
        clocks[3].step(-LONG)
        expect(lock().acquire(timeout=20), "the next one gets it")
        if is_steady:
            wait_until(lambda: nodes[3].call("GET", "redlock:resource") != dead, 5, "the dead one's lock expires")
        else:
            expect_equal(nodes[3].call("GET", "redlock:resource"), dead, "who has the lock where the clock went back")
        # A restart takes the clock as it is.
        nodes[0].stop()
        nodes[0].start()
        expect(abs(int(nodes[0].call("TIME")[0]) - time.time() - 2 * LONG) < 5, "a restarted node's clock is ahead")


def check_redlock_py(environment):
    """redlock-py over five nodes: taken, refused, given back; with one node down it takes the lock and raises, its way."""
    try:
        import redlock
    except ImportError:
        raise Skipped("redlock-py is not installed") from None
    nodes = [environment.server() for _ in range(5)]
    manager = redlock.Redlock(exclusion.open_masters([node.port for node in nodes]), retry_count=1, retry_delay=0.01)
    lock = manager.lock("resource", LONG * 1000)
    expect(lock and 0 < lock.validity < LONG * 1000, f"the lock: {lock}")
    expect_equal(manager.lock("resource", LONG * 1000), False, "a second lock")
    manager.unlock(lock._replace(key=b"another's"))
    expect_equal(keys_on(nodes, "resource"), 5, "nodes that have the key after another's attempt to release it")
    manager.unlock(lock)
    expect_equal(keys_on(nodes, "resource"), 0, "nodes that have the key after release")
    nodes[0].kill()
    try:
        manager.lock("resource", LONG * 1000)
    except redlock.MultipleRedlockException as error:
        expect_equal(len(error.errors), 1, "nodes that did not answer")
    else:
        raise Failure("redlock-py kept silent about a dead node")
    expect_equal(keys_on(nodes, "resource"), 4, "nodes that have the key with one node down")
    expect_equal(manager.lock("resource", LONG * 1000), False, "a second lock with one node down")


def check_mutual_exclusion(environment):
    """50 clients contend for a Redlock over five nodes that are killed and come back empty: never two inside validity.

    Each node comes back only when the longest lock that it may have forgotten has expired, and at most two are down at a
    time: the algorithm's own rule for nodes without persistence. A twentieth of the holders die with the lock.

    What Redlock cannot promise, and this does not show: that a holder stops in time. One that is paused (by its scheduler,
    collector, a SIGSTOP) past its validity goes on as if nothing had happened while the next one is inside: what it guards
    has to refuse the older of two by a fencing token. Nor that three clocks do not jump, nor that three nodes are not
    restarted at once: check_redlock and check_redlock_with_stepped_clocks show the double holders that come of it (clocks
    only with redis-server: a Martlet follows its wall clock by 500 ppm at most).
    """
    pottery()
    seconds = 60 if environment.is_long else 8
    milliseconds, contenders, processes = 1000, 50, 5
    nodes = [environment.server() for _ in range(5)]
    seed = random.randrange(1 << 32)
    picker = random.Random(seed)
    names = [f"client {number}" for number in range(contenders)]
    running = [
        environment.process(
            f"contenders-{number}", sys.executable, exclusion.__file__, *[node.port for node in nodes],
            "--names", ",".join(names[number::processes]), "--milliseconds", milliseconds, "--pause", 2,
            "--seconds", seconds)
        for number in range(processes)]
    down, kills = {}, 0
    while all(process.poll() is None for process in running):
        for node, killed in list(down.items()):
            if time.monotonic() > killed + milliseconds / 1000 + 0.1:
                del down[node]
                node.start()
        if len(down) < 2:
            node = picker.choice([node for node in nodes if node not in down])
            node.kill()
            down[node] = time.monotonic()
            kills += 1
        time.sleep(picker.uniform(0, 0.4))
    results = []
    for number, process in enumerate(running):
        expect_equal(process.wait(120), 0, "a contending process's status")
        with open(os.path.join(environment.folder, f"contenders-{number}.txt")) as file:
            results += json.loads(file.read().splitlines()[-1])
    history = [Hold(*hold) for result in results for hold in result["holds"]]
    total = lambda name: sum(result[name] for result in results)
    environment.note(
        f"{contenders} clients for {seconds} s, {kills} kills (seed {seed}): {len(history)} acquired, "
        f"{total('refused')} refused, {total('too_late')} too late, {total('not_released')} not released by a majority")
    winners = sum(1 for result in results if result["holds"])
    waits = sorted(result["longest_wait"] for result in results)
    environment.note(f"longest waiting {waits[-1]:.2f} s, its median over the clients {waits[len(waits) // 2]:.2f} s; "
                     f"{winners} of {contenders} clients had it")
    broken = exclusion.overlaps(history)
    expect(not broken, f"{len(broken)} pairs of holders at one moment, as {broken[:1]}")
    expect(len(history) >= seconds / 4, f"only {len(history)} acquisitions in {seconds} s")


def check_checker(environment):
    """The checker sees what it is there for: in made-up histories, and in those of a lock that two of five nodes grant."""
    def found(*holds):
        return len(exclusion.overlaps([Hold(*hold) for hold in holds]))

    expect_equal(found(), 0, "nobody")
    expect_equal(found(("a", 0, 10), ("b", 10, 20), ("a", 25, 30)), 0, "one after the other")
    expect_equal(found(("b", 9, 20), ("a", 0, 10)), 1, "a nanosecond together")
    expect_equal(found(("a", 0, 100), ("b", 10, 20), ("c", 30, 40)), 2, "two inside a third, one after the other")
    expect_equal(found(("a", 0, 10), ("b", 0, 10)), 1, "two at once")
    expect_equal(found(("a", 0, 10), ("a", 5, 15)), 1, "one that takes what it has")
    expect_equal(found(("a", 0, 100), ("b", 50, 50), ("c", 60, 55)), 0, "holds that had ended when they began")

    # Two of five are no majority: the model grants a lock to whoever finds `quorum` nodes free.
    for quorum, is_safe in ((3, True), (2, False)):
        picker, history, locked_until = random.Random(1), [], [0] * 5
        for now in range(0, 20000, 10):
            free = [node for node in range(5) if locked_until[node] <= now]
            reached = [node for node in free if picker.random() < 0.7]
            if len(reached) >= quorum:
                for node in reached:
                    locked_until[node] = now + 100
                history.append(Hold(f"client {now}", now, now + 98))
        expect(len(history) > 50, "the model's lock is taken")
        expect_equal(not exclusion.overlaps(history), is_safe, f"whether the checker approves of a quorum of {quorum}")


# Helpers

def pottery():
    try:
        import pottery as module
    except ImportError:
        raise Skipped("pottery is not installed") from None
    return module


def hold_of(name, lock):
    """Acquires `lock`; returns the hold with all of its validity."""
    begun = time.monotonic_ns()
    expect(lock.acquire(blocking=False), f"{name} acquires the lock")
    validity = exclusion.validity_nanoseconds(int(lock.auto_release_time * 1000))
    return Hold(name, time.monotonic_ns(), begun + validity)


def keys_on(nodes, key="redlock:resource"):
    return sum(node.call("EXISTS", key) for node in nodes if node.is_running)


def flush(nodes):
    for node in nodes:
        node.call("FLUSHALL")


def shard_of(cluster, key):
    return next(shard for shard in cluster.shards if key_slot(key) in shard[0].my_line().slots)


def eventually(attempt, seconds=20):
    """Tries again what fails while a shard has no primary, as an application does."""
    return wait_until(attempt, seconds, "the shard is served again")


class SteppedClock:
    """Lets a server that is not yet started see a wall clock of its own; its monotonic one stays as it is."""

    def __init__(self, server, library):
        self.server = server
        self.offset = 0
        path = os.path.join(server.folder, "clock")
        self.file = open(path, "w+b", buffering=0)
        self.file.write(struct.pack("=qq", 0, 0))
        server.variables = {"LD_PRELOAD": library, "STEPPED_CLOCK": path}

    @staticmethod
    def build(environment):
        source = os.path.join(os.path.dirname(exclusion.__file__), "stepped_clock.c")
        library = os.path.join(environment.folder, "stepped_clock.so")
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise Skipped("no C compiler here")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source], check=True)
        return library

    def step(self, seconds):
        """Returns when the server has looked at its wall clock once more."""
        self.offset += seconds
        os.pwrite(self.file.fileno(), struct.pack("=q", self.offset), 0)
        before = self.reads()
        # The second of two readings began after the step.
        wait_until(lambda: self.reads() >= before + 2, 10, f"{self.server} reads its clock")

    def reads(self):
        return struct.unpack("=q", os.pread(self.file.fileno(), 8, 8))[0]


def expect_rules_of_lock(client):
    lock = client.lock("lock", timeout=60)
    expect(lock.acquire(), "the first acquires it")
    expect(not client.lock("lock", timeout=60).acquire(blocking=False), "a second does not")
    expect(not client.lock("lock", timeout=60).acquire(blocking_timeout=0.2), "nor does it by waiting a little")
    expect(lock.extend(100) and client.pttl("lock") > 100000, "extend adds")
    expect(lock.extend(30, replace_ttl=True) and client.pttl("lock") <= 30000, "extend replaces")
    expect(lock.reacquire() and 30000 < client.pttl("lock") <= 60000, "reacquire starts again")
    expect(lock.owned() and lock.locked(), "it is the owner")
    lock.release()
    expect_equal(client.exists("lock"), 0, "locks after release")
    attempts = {
        "release": lambda lost: lost.release(), "extend": lambda lost: lost.extend(10),
        "reacquire": lambda lost: lost.reacquire()}
    for name, attempt in attempts.items():
        lost = client.lock("lock", timeout=0.05)
        lost.acquire()
        wait_until(lambda: client.exists("lock") == 0, 5, "the lock expires")
        other = client.lock("lock", timeout=60)
        expect(other.acquire(blocking=False), "another acquires it")
        try:
            attempt(lost)
        except redis.exceptions.LockNotOwnedError:
            pass
        else:
            raise Failure(f"{name} by somebody who had lost the lock")
        expect(other.owned(), f"another's lock after {name}")
        other.release()
    # Whoever waits gets it when it is given back, or when its time is over.
    lock.acquire()
    waiting = threading.Timer(0.2, lambda: client.delete("lock"))
    waiting.start()
    expect(client.lock("lock", timeout=0.2, sleep=0.01).acquire(blocking_timeout=20), "one that waits gets it")
    waiting.join()
    expect(client.lock("lock", timeout=60, sleep=0.01).acquire(blocking_timeout=20), "so does one after its time")
    client.delete("lock")


def expect_pipelines(client):
    """Pipelines over all slots: order, every kind of reply, errors in their places; and transactions in one slot."""
    with client.pipeline() as pipeline:
        for number in range(100):
            pipeline.set(f"p:{number}", number).incr(f"p:{number}").lpush(f"l:{number}", "x").get(f"none:{number}")
        expect_equal(pipeline.execute(), [reply for n in range(100) for reply in (True, n + 1, 1, None)], "a pipeline")
        for number in range(100):
            pipeline.get(f"p:{number}").lpop(f"p:{number}").pttl(f"p:{number}")
        replies = pipeline.execute(raise_on_error=False)
    expect_equal(replies[::3], [b"%d" % (n + 1) for n in range(100)], "values read")
    expect_equal(replies[2::3], [-1] * 100, "times to live")
    expect({type(reply) for reply in replies[1::3]} <= {redis.ResponseError}, "LPOP of strings")
    expect(str(replies[1]).startswith("Command # 2") or "WRONGTYPE" in str(replies[1]), f"the error: {replies[1]}")

    with client.pipeline(transaction=True) as pipeline:
        pipeline.set("{t}a", 1).incr("{t}a").hset("{t}h", mapping={"f": "v"}).lpop("{t}h")
        replies = pipeline.execute(raise_on_error=False)
        expect_equal(replies[:3], [b"OK", 2, 1], "a transaction")
        expect("WRONGTYPE" in str(replies[3]), f"its last command: {replies[3]!r}")
        pipeline.set("{t}a", 1).set("{u}a", 1)
        try:
            pipeline.execute()
        except redis.exceptions.CrossSlotTransactionError:
            pass
        else:
            raise Failure("a transaction over two slots")
    with client.pipeline(transaction=True) as pipeline:
        pipeline.watch("{t}a")
        client.set("{t}a", "other")
        pipeline.multi()
        pipeline.set("{t}a", "mine")
        try:
            pipeline.execute()
        except redis.WatchError:
            pass
        else:
            raise Failure("a watched key changed and EXEC went through")
        expect_equal(client.get("{t}a"), b"other", "the watched key")


def expect_scripts(cluster, client):
    """A registered script goes by its digest, and is loaded where it is not known: at first, after SCRIPT FLUSH."""
    script = client.register_script("""
        local had = redis.call('GETSET', KEYS[1], ARGV[1])
        return {had, redis.call('STRLEN', KEYS[1]), cjson.encode({KEYS[1]}), {ok = 'fine'}}""")
    for _ in range(2):
        for shard in range(len(cluster.shards)):
            key = f"script:{shard}"
            client.delete(key)
            expect_equal(script(keys=[key], args=["abc"]), [None, 3, f'["{key}"]'.encode(), b"fine"], "a script")
            expect_equal(script(keys=[key], args=["d"])[:2], [b"abc", 1], "the script again")
        client.script_flush()
        expect_equal(client.script_exists(script.sha), [False], "whether the script is known after SCRIPT FLUSH")


class Contest:
    """Threads with a client each that take one Lock in turns until the block ends, and write down when they had it."""

    def __init__(self, open_client, count):
        self.open_client = open_client
        self.history = []
        self.turns = [0] * count
        self.errors = []
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(number,), daemon=True) for number in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)

    def run(self, number):
        client = self.open_client()
        lock = client.lock("contended", timeout=LONG, sleep=0.002)
        try:
            while not self.stop.is_set():
                try:
                    if not lock.acquire(blocking_timeout=0.1):
                        continue
                except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.ClusterError):
                    # While a shard has no primary, redis-py gives up at some time and its user tries again.
                    continue
                acquired = time.monotonic_ns()
                time.sleep(0.001)
                self.history.append(Hold(str(number), acquired, time.monotonic_ns()))
                lock.release()
                self.turns[number] += 1
        except Exception as error:
            self.errors.append(error)

    def wait_for_turns(self, count):
        """Until everybody has had it so many times more."""
        goal = [turns + count for turns in self.turns]
        wait_until(lambda: self.errors or all(turns >= least for turns, least in zip(self.turns, goal)), 30,
                   f"everybody gets the lock {count} times: {self.turns}, to be {goal}")
        if self.errors:
            raise Failure(f"a thread ended with {self.errors[0]!r}")

    def expect_exclusion(self):
        broken = exclusion.overlaps(self.history)
        expect(not broken, f"{len(broken)} pairs of holders at one moment, as {broken[:1]}")
        if self.errors:
            raise Failure(f"a thread ended with {self.errors[0]!r}")
