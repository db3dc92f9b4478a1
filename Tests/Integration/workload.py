"""Clients that keep books: what they wrote, what was acknowledged, and when.

`Writers` go through redis-py's `RedisCluster`, as an application does, and check every value that they read: version
stamped, never older than what the server acknowledged. `GapProbe` is a client of its own without back-off, made to see
how long a shard takes no writes.
"""

import random
import threading
import time

import redis

from harness import RawConnection, ReplyError, encode, expect, key_in_slots, shorten


class Writers:
    """Threads that write version-stamped values to keys of their own and read them back at random.

    A key's books: the last acknowledged version and the last attempted one. A read must lie between the two, and where
    no error happened the two are equal: a smaller version is a lost or stale write, any other text is a wrong value.
    """

    def __init__(self, cluster, count=4, keys=500, tolerate_errors=False, base=None):
        self.cluster = cluster
        self.tolerate_errors = tolerate_errors
        self.base = base or {}
        self.base_keys = list(self.base)
        self.stopping = threading.Event()
        self.errors = []
        self.wrong = []
        self.written = 0
        self.read = 0
        self.books = [{f"writer{number}:{n}": [0, 0] for n in range(keys)} for number in range(count)]
        # Per writer: when its last write was acknowledged, and the longest time between two since `forget_pauses`.
        self.acknowledged_at = [time.monotonic()] * count
        self.longest_pause = [0.0] * count
        self.threads = [
            threading.Thread(target=self.run, args=(number,), daemon=True) for number in range(count)]

    def forget_pauses(self):
        self.longest_pause = [0.0] * len(self.threads)

    def have_written_since(self, moment):
        return all(at > moment for at in self.acknowledged_at)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)

    def run(self, number):
        picker = random.Random(number)
        client = self.cluster.open_client()
        books = self.books[number]
        keys = list(books)
        while not self.stopping.is_set():
            key = picker.choice(keys)
            entry = books[key]
            version = entry[1] + 1
            entry[1] = version
            try:
                if client.set(key, stamped(key, version, picker)) is not True:
                    raise redis.RedisError("SET was not answered with OK")
                entry[0] = version
                self.written += 1
                now = time.monotonic()
                self.longest_pause[number] = max(self.longest_pause[number], now - self.acknowledged_at[number])
                self.acknowledged_at[number] = now
                if picker.random() < 0.3:
                    key = picker.choice(keys)
                    self.check(key, client.get(key), books[key])
                if self.base_keys and picker.random() < 0.3:
                    key = picker.choice(self.base_keys)
                    if client.get(key) != self.base[key]:
                        self.wrong.append(f"{key}: the loaded value has changed")
                    self.read += 1
            except (redis.RedisError, OSError) as error:
                self.errors.append(f"{type(error).__name__}: {error}")
                if self.tolerate_errors:
                    time.sleep(0.02)

    def check(self, key, value, entry):
        self.read += 1
        acknowledged, attempted = entry
        version = version_of(key, value)
        if version is None and acknowledged == 0:
            return
        if version is None or not acknowledged <= version <= attempted:
            self.wrong.append(
                f"{key}: read {shorten(value, 60)}, acknowledged is {acknowledged}, attempted {attempted}")

    def check_all(self):
        """Reads every key of every writer once the writers have stopped."""
        client = self.cluster.open_client()
        for books in self.books:
            for key, entry in books.items():
                self.check(key, client.get(key), entry)
        client.close()

    def expect_clean(self):
        expect(not self.wrong, f"{len(self.wrong)} lost, stale or wrong values, as {self.wrong[:3]}")
        if not self.tolerate_errors:
            expect(not self.errors, f"{len(self.errors)} errors reached a client, as {self.errors[:3]}")


def stamped(key, version, picker):
    return f"{key}|{version}|" + "·" * picker.randint(0, 200)


def version_of(key, value):
    if value is None:
        return None
    name, _, rest = value.decode(errors="replace").partition("|")
    number, _, _ = rest.partition("|")
    return int(number) if name == key and number.isdigit() else -1


class GapProbe:
    """Writes to one key of one shard without pause and notes the time of every acknowledged write.

    It knows all nodes, follows MOVED, and on any trouble tries the next node after two milliseconds, so that the longest
    gap between two acknowledged writes is the time for which the shard took none.
    """

    def __init__(self, nodes, slots, prefix):
        self.addresses = [(node.host, node.port) for node in nodes]
        self.key = key_in_slots(slots, prefix)
        self.stopping = threading.Event()
        self.acknowledged = []
        self.answers = {}
        self.version = 0
        self.last_acknowledged = 0
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(5)

    def run(self):
        current, connection = 0, None
        while not self.stopping.is_set():
            try:
                if connection is None:
                    connection = RawConnection(*self.addresses[current], timeout=0.25)
                self.version += 1
                connection.call("SET", self.key, self.version)
                self.acknowledged.append(time.monotonic())
                self.last_acknowledged = self.version
                time.sleep(0.0005)
            except ReplyError as error:
                text = str(error)
                self.answers[text.split(" ")[0]] = self.answers.get(text.split(" ")[0], 0) + 1
                if text.startswith("MOVED "):
                    host, _, port = text.split(" ")[2].rpartition(":")
                    connection.close()
                    connection = None
                    current = self.addresses.index((host, int(port)))
                else:
                    time.sleep(0.002)
                    # A node that answers CLUSTERDOWN or LOADING may be the wrong one to ask: look around.
                    connection.close()
                    connection, current = None, (current + 1) % len(self.addresses)
            except OSError:
                if connection is not None:
                    connection.close()
                connection, current = None, (current + 1) % len(self.addresses)
                time.sleep(0.002)

    def longest_gap(self, since):
        times = [moment for moment in self.acknowledged if moment >= since - 0.5]
        expect(len(times) > 1 and times[-1] > since, "writes are acknowledged again after the kill")
        return max(later - earlier for earlier, later in zip(times, times[1:]))

    def has_acknowledged_after(self, moment):
        return bool(self.acknowledged) and self.acknowledged[-1] > moment
