"""A cluster of real processes: creation, redirections, administration, restarts, and when it must say CLUSTERDOWN."""

import os
import socket
import time

from harness import (
    Cluster, Failure, RawConnection, ReplyError, Skipped, encode, expect, expect_equal, fail_over,
    key_in_slots, key_slot, wait_until)
from workload import Writers


def check_create_with_redis_cli(environment):
    """`redis-cli --cluster create` of six nodes, `check`, `info`, `call`, and `redis-cli -c` across slots."""
    nodes = [environment.cluster_node() for _ in range(6)]
    cluster = Cluster(environment, [[node] for node in nodes]).boot_with_cli(1)
    output = environment.cli("--cluster", "check", nodes[0].address)
    expect("[OK] All 16384 slots covered." in output, output)
    expect("keys in 3 " in environment.cli("--cluster", "info", nodes[0].address), "--cluster info counts 3 primaries")
    port = nodes[0].port
    for n in range(20):
        expect("OK" in environment.cli("-c", "-p", port, "set", f"key:{n}", f"value {n}"), "SET through redis-cli -c")
    for n in range(20):
        expect_equal(environment.cli("-c", "-p", port, "get", f"key:{n}").strip().splitlines()[-1], f"value {n}", "GET")
    output = environment.cli("--cluster", "call", nodes[0].address, "ping")
    expect_equal(output.count("PONG"), 6, "--cluster call ping")
    replicas = [node for node in nodes if node.role() == "slave"]
    expect_equal(len(replicas), 3, "replicas")
    expect_equal(len({node.my_line().primary for node in replicas}), 3, "primaries that have a replica")


def check_redirections(environment):
    """MOVED, CROSSSLOT, and reads from a replica under READONLY."""
    cluster = environment.cluster(3, 1)
    (one, one_replica), (two, _), _ = cluster.shards
    mine, other = key_in_slots(one.my_line().slots), key_in_slots(two.my_line().slots)
    expect_reply_error(one, ("SET", other, "x"), f"MOVED {key_slot(other)} {two.address}")
    expect_equal(one.call("SET", mine, "x"), b"OK", "SET on the owner")
    expect_reply_error(
        one, ("MSET", mine, "x", other, "y"), "CROSSSLOT Keys in request don't hash to the same slot")
    expect_equal(one.call("MSET", f"{{{mine}}}a", "1", f"{{{mine}}}b", "2"), b"OK", "MSET with a hash tag")
    expect_reply_error(one_replica, ("GET", mine), f"MOVED {key_slot(mine)} {one.address}")
    with RawConnection(one_replica.host, one_replica.port) as connection:
        connection.call("READONLY")
        wait_until(lambda: connection.call("GET", mine) == b"x", 5, "the replica has the value")
        try:
            connection.call("SET", mine, "y")
            raise Failure("a replica took a write")
        except ReplyError as error:
            expect_equal(str(error), f"MOVED {key_slot(mine)} {one.address}", "a write on a READONLY connection")
        connection.call("READWRITE")
        try:
            connection.call("GET", mine)
            raise Failure("READWRITE did not undo READONLY")
        except ReplyError as error:
            expect(str(error).startswith("MOVED "), str(error))
    expect_reply_error(one, ("SELECT", "1"), "ERR SELECT is not allowed in cluster mode")


def check_slot_migration_by_hand(environment):
    """MIGRATING/IMPORTING, ASK and ASKING, TRYAGAIN, MIGRATE with KEYS, REPLACE and COPY, SETSLOT NODE."""
    cluster = environment.cluster(3, 0)
    source, target = cluster.shards[0][0], cluster.shards[1][0]
    key = key_in_slots(source.my_line().slots)
    slot = key_slot(key)
    keys = [f"{{{key}}}{n}" for n in range(5)]
    for name in keys:
        source.call("SET", name, f"value of {name}", "EX", "1000")
    expect_equal(target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source.my_id()), b"OK", "IMPORTING")
    expect_equal(source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target.my_id()), b"OK", "MIGRATING")
    expect_equal(source.call("GET", keys[0]), f"value of {keys[0]}".encode(), "a key that is still here")
    expect_reply_error(source, ("GET", f"{{{key}}}missing"), f"ASK {slot} {target.address}")
    expect_reply_error(target, ("GET", keys[0]), f"MOVED {slot} {source.address}")
    expect_equal(source.call("CLUSTER", "COUNTKEYSINSLOT", slot), 5, "COUNTKEYSINSLOT")
    expect_equal(sorted(source.call("CLUSTER", "GETKEYSINSLOT", slot, 10)), sorted(k.encode() for k in keys), "keys")
    expect_equal(source.call("MIGRATE", target.host, target.port, keys[0], 0, 5000), b"OK", "MIGRATE of one key")
    expect_reply_error(source, ("GET", keys[0]), f"ASK {slot} {target.address}")
    expect_reply_error(source, ("MGET", keys[0], keys[1]), "TRYAGAIN Multiple keys request during rehashing of slot")
    with RawConnection(target.host, target.port) as connection:
        connection.call("ASKING")
        expect_equal(connection.call("GET", keys[0]), f"value of {keys[0]}".encode(), "GET after ASKING")
        try:
            connection.call("GET", keys[0])
            raise Failure("ASKING lasted for two commands")
        except ReplyError as error:
            expect(str(error).startswith("MOVED "), str(error))
        connection.call("ASKING")
        expect(990 < connection.call("TTL", keys[0]) <= 1000, "the expiry has moved with the key")
    expect_equal(source.call("MIGRATE", target.host, target.port, "", 0, 5000, "KEYS", *keys[1:]), b"OK", "MIGRATE KEYS")
    expect_equal(source.call("MIGRATE", target.host, target.port, "", 0, 5000, "KEYS", *keys), b"NOKEY", "nothing left")
    for node in (target, source):
        expect_equal(node.call("CLUSTER", "SETSLOT", slot, "NODE", target.my_id()), b"OK", "SETSLOT NODE")
    for name in keys:
        expect_equal(target.call("GET", name), f"value of {name}".encode(), f"{name} at its new owner")
    third = cluster.shards[2][0]
    wait_until(lambda: slot in next(line for line in third.cluster_nodes() if line.id == target.my_id()).slots, 10,
               "a third node learns the new owner")
    environment.cli("--cluster", "check", source.address)


def check_transaction_waits_for_migrate(environment):
    """EXEC waits for a key that MIGRATE is moving: its write comes after the move, and is not deleted with the old value."""
    source = environment.server("martlet")
    with (socket.create_server(("127.0.0.1", 0)) as target,
          RawConnection(source.host, source.port) as mover, RawConnection(source.host, source.port) as writer):
        writer.call("SET", "key", "old")
        writer.call("MULTI")
        expect_equal(writer.call("SET", "key", "new"), b"QUEUED", "SET in MULTI")
        mover.send(encode("MIGRATE", "127.0.0.1", target.getsockname()[1], "key", 0, 10000))
        with target.accept()[0] as peer:
            peer.recv(1)
            writer.send(encode("EXEC"))
            wait_until(lambda: int(source.info("clients")["blocked_clients"]) == 2, 5, "EXEC waits")
            peer.sendall(b"+OK\r\n")
            expect_equal(mover.read_reply(), b"OK", "MIGRATE")
        expect_equal(writer.read_reply(), [b"OK"], "EXEC")
        expect_equal(writer.call("GET", "key"), b"new", "the key after MIGRATE and EXEC")


def check_restart_of_all(environment):
    """Every node is stopped and started: nodes.conf brings the same cluster back, with no data as nothing was saved."""
    cluster = environment.cluster(3, 1)
    before = {node.port: node.my_id() for node in cluster.nodes}
    slots = {node.port: node.my_line().slots for node in cluster.nodes}
    epochs = {node.port: node.my_line().epoch for node in cluster.nodes if node.my_line().slots}
    # Replicas first: they would take the place of a primary that ends.
    for node in sorted(cluster.nodes, key=lambda node: node.port in epochs):
        expect_equal(node.stop(), 0, f"exit status of {node}")
    for node in cluster.nodes:
        node.start()
    cluster.wait_ok()
    expect_equal({node.port: node.my_id() for node in cluster.nodes}, before, "node ids")
    expect_equal({node.port: node.my_line().slots for node in cluster.nodes}, slots, "slots")
    expect_equal({node.port: node.my_line().epoch for node in cluster.nodes if node.my_line().slots}, epochs, "epochs")
    with cluster.open_client() as client:
        for n in range(100):
            client.set(f"key:{n}", n)


def check_nodes_conf_is_locked(environment):
    """A second server on the same nodes.conf does not start; a damaged nodes.conf stops the start and stays as it is."""
    node = environment.cluster_node()
    second = environment.server(start=False, cluster_enabled="yes", cluster_config_file=f"{node.folder}/nodes.conf")
    second.start(wait=False)
    wait_until(lambda: not second.is_running, 10, "the second server ends")
    expect(second.process.returncode != 0, "with an error")
    node.stop()
    path = os.path.join(node.folder, "nodes.conf")
    for damage in (b"garbage that is no node line\n", b"\x00\xff\xfe", b"vars currentEpoch x lastVoteEpoch 0\n"):
        with open(path, "wb") as file:
            file.write(damage)
        node.start(wait=False)
        wait_until(lambda: not node.is_running, 10, f"the start with {damage!r} ends")
        expect(node.process.returncode > 0, f"with an error, not a crash: {node.process.returncode} for {damage!r}")
        with open(path, "rb") as file:
            expect_equal(file.read(), damage, "nodes.conf afterwards")


def check_manual_failover(environment):
    """CLUSTER FAILOVER under writers loses nothing; FORCE and TAKEOVER as well while nobody writes."""
    cluster = environment.cluster(3, 1, timeout=2000)
    primary, replica = cluster.shards[0]
    writers = Writers(cluster, keys=200)
    with writers:
        for _ in range(4 if environment.is_long else 2):
            fail_over(replica, primary)
            cluster.wait_ok()
            goal = writers.written + 1000
            wait_until(lambda: writers.written > goal, 20, "the writers go on")
            primary, replica = replica, primary
    writers.check_all()
    writers.expect_clean()
    for option in ("FORCE", "TAKEOVER"):
        fail_over(replica, primary, option)
        cluster.wait_ok()
        primary, replica = replica, primary
    writers.check_all()
    writers.expect_clean()
    environment.note(f"{writers.written} writes acknowledged, {writers.read} reads checked")


def check_both_copies_killed(environment):
    """Primary and replica of a shard die: CLUSTERDOWN as Redis says it; served again when they are back."""
    cluster = environment.cluster(3, 1, timeout=1000)
    lost, other = cluster.shards[1], cluster.shards[0][0]
    there, here = key_in_slots(lost[0].my_line().slots), key_in_slots(other.my_line().slots)
    for node in (lost[1], lost[0]):
        node.kill()
    wait_until(lambda: other.cluster_info()["cluster_state"] == "fail", 15, "cluster_state:fail")
    expect_reply_error(other, ("SET", here, "x"), "CLUSTERDOWN The cluster is down")
    expect_reply_error(other, ("GET", there), "CLUSTERDOWN The cluster is down")
    for node in cluster.running():
        if node.role() == "master":
            node.call("CONFIG", "SET", "cluster-require-full-coverage", "no")
    wait_until(lambda: other.cluster_info()["cluster_state"] == "ok", 10, "ok without full coverage")
    expect_equal(other.call("SET", here, "x"), b"OK", "a slot that is still covered")
    for node in lost:
        node.start()
    cluster.wait_ok()
    with cluster.open_client() as client:
        client.set(there, "again")


def check_minority_stops(environment):
    """A primary that cannot reach the majority refuses writes after the node timeout, and takes them again later."""
    cluster = environment.cluster(3, 0, timeout=1000)
    alone = cluster.shards[0][0]
    key = key_in_slots(alone.my_line().slots)
    expect_equal(alone.call("SET", key, "before"), b"OK", "a write before")
    frozen = [cluster.shards[1][0], cluster.shards[2][0]]
    start = time.monotonic()
    for node in frozen:
        node.freeze()
    probe = key_in_slots(alone.my_line().slots, "probe")
    wait_until(lambda: refuses(alone, probe), 15, "the minority refuses writes")
    environment.note(f"refused after {time.monotonic() - start:.1f} s at cluster-node-timeout 1000")
    expect_reply_error(alone, ("GET", key), "CLUSTERDOWN The cluster is down")
    alone.call("CONFIG", "SET", "cluster-allow-reads-when-down", "yes")
    expect_equal(alone.call("GET", key), b"before", "a read with cluster-allow-reads-when-down")
    expect_reply_error(
        alone, ("SET", key, "x"), "CLUSTERDOWN The cluster is down and only accepts read commands")
    for node in frozen:
        node.thaw()
    cluster.wait_ok()
    wait_until(lambda: alone.call("SET", key, "after") == b"OK", 10, "writes are taken again")


def check_old_primary_does_not_diverge(environment):
    """A frozen primary is failed over; when it wakes it becomes a replica and holds no write of its own."""
    cluster = environment.cluster(3, 1, timeout=1000)
    old, new = cluster.shards[0]
    key = key_in_slots(old.my_line().slots)
    old.call("SET", key, "before")
    old.freeze()
    wait_until(lambda: new.role() == "master", 20, "the replica is elected")
    wait_until(lambda: not refuses(new, key), 10, "the new primary takes writes")
    new.call("SET", key, "after")
    old.thaw()
    wait_until(lambda: old.role() == "slave", 15, "the old primary is a replica")
    cluster.wait_ok()
    with RawConnection(old.host, old.port) as connection:
        connection.call("READONLY")
        wait_until(lambda: connection.call("GET", key) == b"after", 10, "and has the newer value")


def check_forget_and_reset(environment):
    """FORGET on all removes a node; it does not come back by gossip; RESET HARD gives it a new id."""
    cluster = environment.cluster(3, 0)
    extra = environment.cluster_node()
    extra.call("CLUSTER", "MEET", "127.0.0.1", cluster.nodes[0].port)
    wait_until(lambda: len(extra.cluster_nodes()) == 4 and all(len(n.cluster_nodes()) == 4 for n in cluster.nodes), 20,
               "all know the fourth node")
    identifier = extra.my_id()
    for node in cluster.nodes:
        node.call("CLUSTER", "FORGET", identifier)
    extra.call("CLUSTER", "RESET", "HARD")
    expect(extra.my_id() != identifier, "RESET HARD changes the id")
    time.sleep(3)
    for node in cluster.nodes:
        expect_equal(len(node.cluster_nodes()), 3, f"nodes that {node} knows")
    expect_reply_error(cluster.nodes[0], ("CLUSTER", "FORGET", cluster.nodes[0].my_id()),
                       "ERR I tried hard but I can't forget myself...")


# Helpers

def expect_reply_error(server, arguments, text):
    try:
        reply = server.call(*arguments)
    except ReplyError as error:
        expect_equal(str(error), text, f"{server}: {' '.join(map(str, arguments))}")
        return
    raise Failure(f"{server}: {' '.join(map(str, arguments))} answered {reply!r} instead of {text}")


def refuses(server, key):
    try:
        server.call("SET", key, "probe")
        return False
    except ReplyError as error:
        return str(error).startswith("CLUSTERDOWN")
