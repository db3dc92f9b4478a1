"""Publish and subscribe: the same events as a real Redis server, and messages across a cluster of both."""

import random

from differential import BATCH, FAMILIES, Source, describe, read_raw
from harness import (
    Cluster, Failure, RawConnection, encode, expect, expect_equal, key_in_slots, key_slot, wait_until)

MARK = b"__keymark__:"


class Subscriber(RawConnection):
    """A connection that listens; replies and messages are read in the order in which they come."""

    def __init__(self, server, *command, resp3=False):
        super().__init__(server.host, server.port)
        if resp3:
            self.call("HELLO", 3)
        self.send(encode(*command))
        for _ in command[1:]:
            self.read_reply()

    def expect_messages(self, *expected):
        for message in expected:
            expect_equal(self.read_reply(), message, "what the subscriber gets")


def check_events_of_every_family(environment):
    """Random commands of every family lead to the same keyspace notifications, in the same order."""
    servers = [environment.server(kind, notify_keyspace_events="KEAnm") for kind in ("martlet", "redis")]
    count = 60_000 if environment.is_long else 3000
    for family in FAMILIES:
        seed = random.randrange(10**6)
        environment.note(f"{family}: {count} commands from seed {seed}")
        compare_events(servers, family, seed, count)


def compare_events(servers, family, seed, count):
    source = Source(seed, family)
    writers = [RawConnection(server.host, server.port) for server in servers]
    listeners = [Subscriber(server, "PSUBSCRIBE", "__key*__:*") for server in servers]
    history = []
    while len(history) < count:
        commands = [FAMILIES[family](source) for _ in range(BATCH)]
        # Behind each command a mark that tells which events are its own. Commands of the family may queue it, or be in a
        # database where it is as good.
        data = b"".join(encode(*command) + encode("PUBLISH", MARK, index) for index, command in enumerate(commands))
        streams = []
        for writer, listener in zip(writers, listeners):
            writer.send(data)
            for _ in range(2 * len(commands)):
                read_raw(writer)
            streams.append(events_of(listener, len(commands)))
        for command, first, second in zip(commands, *streams):
            history.append(command)
            # The elements of a set come in an order that every server chooses.
            if first != second and not (str(command[0]).startswith("SORT") and sorted(first) == sorted(second)):
                raise Failure(describe("events", family, seed, history, first, second))
    for connection in writers + listeners:
        connection.close()


def events_of(listener, count):
    """The events of each of so many commands, but for keys whose time is over: the clock says between which commands."""
    events = [[]]
    while len(events) <= count:
        _, _, channel, message = listener.read_reply()
        if channel == MARK:
            events.append([])
        elif message != b"expired" and not channel.endswith(b":expired"):
            events[-1].append((channel, message))
    return events[:-1]


def check_events_of_waiting_and_time(environment):
    """What blocked clients take, what expires, and what transactions do is told alike."""
    told = []
    for kind in ("martlet", "redis"):
        server = environment.server(kind, notify_keyspace_events="KEAnm")
        with Subscriber(server, "PSUBSCRIBE", "*") as listener, RawConnection(server.host, server.port) as writer:
            waiting = []
            for command in (
                    ("BLPOP", "l", 0), ("BLMOVE", "m", "n", "LEFT", "RIGHT", 0), ("BZPOPMIN", "z", 0),
                    ("BLMPOP", 0, 1, "p", "RIGHT"), ("XREAD", "BLOCK", 0, "STREAMS", "x", "$")):
                client = RawConnection(server.host, server.port)
                client.send(encode(*command))
                waiting.append(client)
                wait_until(
                    lambda: server.info("clients")["blocked_clients"] == str(len(waiting)), 10, f"{command} waits")
            for command in (
                    ("MULTI",), ("RPUSH", "l", "a", "b"), ("PUBLISH", "said", "hi"), ("SET", "k", 1, "EX", 100),
                    ("EXEC",), ("RPUSH", "m", "a"), ("ZADD", "z", 1, "a"), ("RPUSH", "p", "a"),
                    ("XADD", "x", "1-1", "f", "v"), ("EXPIRE", "k", -1), ("FLUSHALL",), ("SELECT", 2),
                    ("SET", "short", 1, "PX", 1)):
                writer.call(*command)
            wait_until(lambda: server.info("stats")["expired_keys"] == "1", 10, "it expires")
            writer.call("PUBLISH", "end", "")
            events = []
            while not events or events[-1][0] != b"end":
                _, _, channel, message = listener.read_reply()
                events.append((channel, message))
            told.append(events)
            for client in waiting:
                client.close()
    expect_equal(told[0], told[1], "what the subscriber is told")


def check_messages_across_a_mixed_cluster(environment):
    """PUBLISH on any node reaches subscribers of all, SPUBLISH those of its shard; Martlet and Redis nodes in both roles."""
    kinds = (("martlet", "redis"), ("redis", "martlet"))
    cluster = Cluster(environment, [[environment.cluster_node(kind) for kind in shard] for shard in kinds]).boot()
    nodes = cluster.nodes
    # A message for a shard goes to those whom its sender knows as replicas.
    for node in nodes:
        wait_until(lambda: len([line for line in node.cluster_nodes() if line.primary != "-"]) == 2, 20,
                   f"{node} knows both replicas")
    listeners = [Subscriber(node, "SUBSCRIBE", "c") for node in nodes]
    for number, node in enumerate(nodes):
        expect_equal(node.call("PUBLISH", "c", f"from {number}"), 1, f"subscribers on {node}")
        for listener in listeners:
            listener.expect_messages([b"message", b"c", b"from %d" % number])
    for shard in cluster.shards:
        slots = next(node.my_line().slots for node in shard if node.my_line().slots)
        channel = key_in_slots(slots)
        inside = [Subscriber(node, "SSUBSCRIBE", channel) for node in shard]
        for node in shard:
            expect_equal(node.call("SPUBLISH", channel, node.port), 1, f"shard subscribers on {node}")
            for listener in inside:
                listener.expect_messages([b"smessage", channel.encode(), b"%d" % node.port])
        stranger = next(node for node in nodes if node not in shard)
        with RawConnection(stranger.host, stranger.port) as connection:
            for command in (("SPUBLISH", channel, 1), ("SSUBSCRIBE", channel), ("SUNSUBSCRIBE", channel)):
                connection.send(encode(*command))
                expect(str(connection.read_reply()).startswith(f"MOVED {key_slot(channel)} "), f"{command[0]} is redirected")
        for listener in inside:
            listener.close()
    counts = [node.cluster_info() for node in nodes]
    expect(all(int(count["cluster_stats_messages_publish_received"]) >= 3 for count in counts), "PUBLISH is counted")
    for listener in listeners:
        listener.close()


def check_shard_subscribers_of_moving_slots(environment):
    """Who has subscribed to a channel of a slot that moves away is told so, on the primary and on the replica."""
    cluster = environment.cluster(2, 1)
    source, target = cluster.shards[0][0], cluster.shards[1][0]
    channel = key_in_slots(source.my_line().slots)
    slot = key_slot(channel)
    listeners = [Subscriber(node, "SSUBSCRIBE", channel, resp3=resp3) for node in cluster.shards[0] for resp3 in (False, True)]
    target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source.my_id())
    source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target.my_id())
    # While it moves, its channels stay.
    expect_equal(source.call("SPUBLISH", channel, "still here"), 2, "subscribers of the moving slot")
    for listener in listeners:
        listener.expect_messages([b"smessage", channel.encode(), b"still here"])
    for node in (target, source):
        node.call("CLUSTER", "SETSLOT", slot, "NODE", target.my_id())
    for listener in listeners:
        listener.expect_messages([b"sunsubscribe", channel.encode(), 0])
        listener.close()
    wait_until(lambda: cluster.owner_of(slot) is target, 10, "the slot has moved")
    with Subscriber(target, "SSUBSCRIBE", channel) as listener:
        expect_equal(target.call("SPUBLISH", channel, "there"), 1, "subscribers at the new place")
        listener.expect_messages([b"smessage", channel.encode(), b"there"])


def check_replicas_deliver(environment):
    """PUBLISH on a primary reaches the subscribers of its replicas, Martlet's and Redis', over the log."""
    for kind, replica_kind in (("martlet", "redis"), ("redis", "martlet"), ("martlet", "martlet")):
        primary = environment.server(kind)
        replica = environment.server(replica_kind, replicaof=f"127.0.0.1 {primary.port}")
        wait_until(lambda: replica.info("replication")["master_link_status"] == "up", 20, f"{replica} follows")
        with Subscriber(replica, "PSUBSCRIBE", "c*") as listener:
            primary.call("PUBLISH", "c1", "one")
            with RawConnection(primary.host, primary.port) as connection:
                connection.call("MULTI")
                connection.call("SET", "k", 1)
                connection.call("PUBLISH", "c2", "two")
                connection.call("EXEC")
            listener.expect_messages([b"pmessage", b"c*", b"c1", b"one"], [b"pmessage", b"c*", b"c2", b"two"])
        wait_until(lambda: replica.call("GET", "k") == b"1", 10, "the replica has the rest, too")


def check_slow_and_idle_subscribers(environment):
    """Who does not read is closed at its limit; who only listens is not idle. With I/O threads as well."""
    for threads in (1, 3):
        server = environment.server(timeout=1, io_threads=threads)
        server.call("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 0 0")
        idle = Subscriber(server, "SUBSCRIBE", "quiet", resp3=True)
        slow = Subscriber(server, "SUBSCRIBE", "loud")
        with RawConnection(server.host, server.port) as writer:
            message = b"x" * 100_000
            wait_until(lambda: writer.call("PUBLISH", "loud", message) == 0, 20, "the slow subscriber is closed", every=0)
            wait_until(lambda: b" sub=1 " in writer.call("CLIENT", "LIST", "TYPE", "pubsub")
                       and b" idle=3 " in writer.call("CLIENT", "LIST", "TYPE", "pubsub"), 10, "three seconds pass")
            expect_equal(writer.call("PUBLISH", "quiet", "hi"), 1, "the idle subscriber is there")
        idle.expect_messages([b"message", b"quiet", b"hi"])
        idle.close()
        slow.close()


def check_many_subscribers_and_publishers(environment):
    """Every subscriber gets every message, in the order of its publisher, with one thread and with several."""
    for threads in (1, 3):
        server = environment.server(io_threads=threads)
        listeners = [Subscriber(server, "SUBSCRIBE", "c", resp3=number % 2 == 1) for number in range(50)]
        publishers = [RawConnection(server.host, server.port) for _ in range(4)]
        count = 500
        for number, publisher in enumerate(publishers):
            publisher.send(b"".join(encode("PUBLISH", "c", f"{number}:{index}") for index in range(count)))
        for publisher in publishers:
            expect_equal({publisher.read_reply() for _ in range(count)}, {len(listeners)}, "receivers")
            publisher.close()
        for listener in listeners:
            next_index = [0] * len(publishers)
            for _ in range(count * len(publishers)):
                kind, channel, message = listener.read_reply()
                expect_equal((kind, channel), (b"message", b"c"), "message")
                number, index = (int(part) for part in message.split(b":"))
                expect_equal(index, next_index[number], "the next message of a publisher")
                next_index[number] += 1
            listener.close()
