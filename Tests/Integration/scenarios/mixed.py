"""One cluster of Martlet and other servers: each must be able to follow, vote for, elect and feed the other."""

import time

from harness import Cluster, expect, expect_equal, fail_over, wait_until
from packages import stanzas
from workload import GapProbe, Writers


def check_martlet_replicas_of_redis(environment):
    """Redis primaries, Martlet replicas: a Redis primary is killed, Redis' votes elect the Martlet replica."""
    fail_over_in(environment, "redis", "martlet")


def check_redis_replicas_of_martlet(environment):
    """Martlet primaries, Redis replicas: a Martlet primary is killed, Martlet's votes elect the Redis replica."""
    fail_over_in(environment, "martlet", "redis")


def check_martlet_replicas_of_valkey(environment):
    """Valkey primaries, Martlet replicas."""
    fail_over_in(environment, "valkey", "martlet")


def check_valkey_replicas_of_martlet(environment):
    """Martlet primaries, Valkey replicas. (Valkey sends a newer RDB than Redis 7 reads; Martlet sends one for both.)"""
    fail_over_in(environment, "martlet", "valkey")


def check_slots_move_both_ways(environment):
    """`redis-cli --cluster reshard` from Redis to Martlet and back, with data, under writers."""
    move_slots_in(environment, "redis")


def check_slots_move_both_ways_with_valkey(environment):
    """The same between Valkey and Martlet."""
    move_slots_in(environment, "valkey")


def check_join_living_cluster(environment):
    """Martlet nodes join a living Redis cluster as replicas and take it over by CLUSTER FAILOVER, shard by shard."""
    cluster = environment.cluster(3, 0, kind="redis")
    data = stanzas(500)
    load(cluster, data)
    with Writers(cluster, count=2, keys=100) as writers:
        for shard in cluster.shards:
            entry = cluster.shards[0][0].address
            newcomer = environment.cluster_node("martlet")
            environment.cli("--cluster", "add-node", newcomer.address, entry, "--cluster-slave",
                            "--cluster-master-id", shard[0].my_id())
            shard.append(newcomer)
            wait_until(lambda: newcomer.info("replication").get("master_link_status") == "up", 30, "it is in sync")
            cluster.wait_ok()
        wait_until(cluster.is_meshed, 20, "all know each other")
        for primary, newcomer in cluster.shards:
            fail_over(newcomer, primary)
            cluster.wait_ok()
    writers.check_all()
    writers.expect_clean()
    expect_all(cluster, data)
    for primary, newcomer in cluster.shards:
        expect_equal(primary.info("replication")["master_port"], str(newcomer.port), f"{primary} follows {newcomer}")
    environment.note(f"{writers.written} writes acknowledged, {writers.read} reads checked")


# Helpers

def fail_over_in(environment, primary_kind, replica_kind):
    cluster = environment.cluster(3, 1, kind=primary_kind, replica_kind=replica_kind, timeout=2000)
    data = stanzas(1000)
    load(cluster, data)
    for primary, replica in cluster.shards:
        caught_up(primary, replica)
    primary, replica = cluster.shards[0]
    with GapProbe(cluster.nodes, primary.my_line().slots, "mixed") as probe:
        wait_until(lambda: len(probe.acknowledged) > 100, 10, "the probe writes")
        start = time.monotonic()
        primary.kill()
        wait_until(lambda: replica.role() == "master", 30, f"{replica} is elected")
        wait_until(lambda: probe.has_acknowledged_after(start + 0.1) and probe.acknowledged[-1] > start + 0.1, 20,
                   f"{replica} takes writes")
        settled = time.monotonic()
        wait_until(lambda: probe.has_acknowledged_after(settled + 0.2), 20, "writes go on")
        gap = probe.longest_gap(start)
    environment.note(f"no writes for {gap:.2f} s at cluster-node-timeout 2000")
    for node in cluster.running():
        wait_until(lambda: node.cluster_info()["cluster_state"] == "ok", 20, f"{node} says ok")
    expect_all(cluster, data)
    primary.start()
    wait_until(lambda: primary.role() == "slave", 30, f"{primary} comes back as a replica")
    cluster.wait_ok()
    caught_up(replica, primary)
    expect_equal(primary.call("DBSIZE"), replica.call("DBSIZE"), f"keys on {primary}, now a replica of {replica}")
    # And back again, by hand, so that either side has promoted the other.
    fail_over(primary, replica)
    cluster.wait_ok()
    expect_all(cluster, data)


def move_slots_in(environment, other_kind):
    nodes = [environment.cluster_node(kind) for kind in ("martlet", other_kind, "martlet", other_kind)]
    cluster = Cluster(environment, [[node] for node in nodes]).boot()
    data = stanzas(None if environment.is_long else 1500)
    load(cluster, data)
    ours, theirs = nodes[0], nodes[1]
    slots = 1000 if environment.is_long else 200
    with Writers(cluster, count=2, keys=300, base=data) as writers:
        for source, target in ((theirs, ours), (ours, theirs)):
            start = time.monotonic()
            before = len(target.my_line().slots)
            environment.cli("--cluster", "reshard", ours.address, "--cluster-from", source.my_id(), "--cluster-to",
                            target.my_id(), "--cluster-slots", slots, "--cluster-yes", timeout=600)
            wait_until(lambda: len(target.my_line().slots) == before + slots, 10, f"{target} owns {slots} slots more")
            wait_until(lambda: "[ERR]" not in environment.cli("--cluster", "check", ours.address, check=False), 30,
                       "the cluster agrees", every=0.3)
            expect_all(cluster, data)
            environment.note(f"{slots} slots from {source} to {target}: {time.monotonic() - start:.1f} s")
    writers.check_all()
    writers.expect_clean()
    environment.note(f"{writers.written} writes acknowledged, {writers.read} reads checked")


def load(cluster, data):
    with cluster.open_client() as client:
        pipeline = client.pipeline()
        for name, value in data.items():
            pipeline.set(name, value)
        expect(all(reply is True for reply in pipeline.execute()), "every SET is answered with OK")


def expect_all(cluster, data):
    with cluster.open_client() as client:
        pipeline = client.pipeline()
        for name in data:
            pipeline.get(name)
        for name, value in zip(data, pipeline.execute()):
            expect(value == data[name], f"{name} differs")


def caught_up(primary, replica):
    offset = int(primary.info("replication")["master_repl_offset"])
    wait_until(lambda: int(replica.info("replication")["slave_repl_offset"]) >= offset, 20, f"{replica} has caught up")
