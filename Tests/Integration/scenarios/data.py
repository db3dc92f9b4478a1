"""Real input through a real client, and then the cluster changes shape under it without a client noticing."""

import time

from harness import Cluster, Failure, expect, expect_equal, wait_until
from packages import stanzas
from workload import Writers


def check_load_and_read_back(environment):
    """The packages of apt-cache through RedisCluster, read back equal from primaries and from replicas."""
    cluster = environment.cluster(3, 1)
    data = stanzas(None if environment.is_long else 2000)
    start = time.monotonic()
    load(cluster, data)
    environment.note(f"{len(data)} values, {sum(map(len, data.values())) >> 20} MB, loaded in {time.monotonic() - start:.1f} s")
    expect_all(cluster, data)
    total = sum(node.call("DBSIZE") for node in cluster.primaries())
    expect_equal(total, len(data), "keys on all primaries")
    for shard in cluster.shards:
        primary, replica = shard
        offset = int(primary.info("replication")["master_repl_offset"])
        wait_until(lambda: int(replica.info("replication")["slave_repl_offset"]) >= offset, 20, f"{replica} has caught up")
        expect_equal(replica.call("DBSIZE"), primary.call("DBSIZE"), f"keys on {replica}")
    client = cluster.open_client(read_from_replicas=True)
    for name in list(data)[:1000]:
        expect(client.get(name) == data[name], f"{name} read from a replica differs")


def check_changing_shape(environment):
    """reshard, add-node (primary and replica), rebalance and del-node under four writers: nobody notices."""
    is_long = environment.is_long
    cluster = environment.cluster(3, 1)
    data = stanzas(None if is_long else 2000)
    load(cluster, data)
    writers = Writers(cluster, keys=2000 if is_long else 300, base=data)
    with writers:
        steps = Steps(environment, cluster, writers)
        entry = cluster.nodes[0].address
        first, second = cluster.shards[0][0], cluster.shards[1][0]
        steps.run("reshard", "--cluster", "reshard", entry, "--cluster-from", first.my_id(), "--cluster-to", second.my_id(),
                  "--cluster-slots", 4096 if is_long else 300, "--cluster-yes")
        added = environment.cluster_node()
        steps.run("add-node as a primary", "--cluster", "add-node", added.address, entry)
        cluster.shards.append([added])
        wait_until(cluster.is_meshed, 30, "all know the new primary")
        replica = environment.cluster_node()
        steps.run("add-node as a replica", "--cluster", "add-node", replica.address, entry,
                  "--cluster-slave", "--cluster-master-id", added.my_id())
        cluster.shards[-1].append(replica)
        wait_until(cluster.is_meshed, 30, "all know the new replica")
        wait_until(lambda: replica.info("replication").get("master_link_status") == "up", 30, "the new replica is in sync")
        if is_long:
            steps.run("rebalance", "--cluster", "rebalance", entry, "--cluster-use-empty-masters")
        else:
            steps.run("reshard to the new node", "--cluster", "reshard", entry, "--cluster-from", second.my_id(),
                      "--cluster-to", added.my_id(), "--cluster-slots", 200, "--cluster-yes")
            steps.run("rebalance", "--cluster", "rebalance", entry, "--cluster-weight", *weights(cluster, added, 0.05),
                      "--cluster-use-empty-masters", "--cluster-threshold", "1", "--cluster-pipeline", "50")
        wait_until(lambda: added.my_line().slots, 20, "the new primary owns slots")
        expect_all(cluster, data)
        steps.run("empty the new node", "--cluster", "rebalance", entry, "--cluster-weight", f"{added.my_id()}=0")
        wait_until(lambda: not added.my_line().slots, 20, "the new primary owns no slots")
        # Redis makes an emptied primary a replica of whoever got its last slot; both leave in either role.
        for node in (replica, added):
            steps.run(f"del-node {node}", "--cluster", "del-node", entry, node.my_id())
            cluster.shards[-1].remove(node)
        cluster.shards.pop()
        cluster.wait_ok()
        expect_all(cluster, data)
    writers.check_all()
    expect_all(cluster, data)
    writers.expect_clean()
    environment.cli("--cluster", "check", entry)
    environment.note(f"{writers.written} writes acknowledged, {writers.read} reads checked, {len(writers.errors)} errors")


# Helpers

class Steps:
    """Runs redis-cli --cluster commands one after the other and sees to it that the cluster settles in between."""

    def __init__(self, environment, cluster, writers):
        self.environment = environment
        self.cluster = cluster
        self.writers = writers

    def run(self, name, *arguments):
        start = time.monotonic()
        written = self.writers.written
        output = self.environment.cli(*arguments, timeout=900)
        # What redis-cli quotes of a node's answers (no FUNCTION before Redis 7) is no error of the step.
        if "[ERR]" in output.replace("[ERR] Nodes don't agree about configuration!", ""):
            raise Failure(f"{name}: {output[-1000:]}")
        took = time.monotonic() - start
        wait_until(lambda: "[ERR]" not in self.environment.cli("--cluster", "check", self.cluster.nodes[0].address,
                                                               check=False), 30, f"the cluster agrees after {name}",
                   every=0.3)
        self.environment.note(f"{name}: {took:.1f} s, {self.writers.written - written} writes meanwhile")
        expect(not self.writers.wrong, f"during {name}: {self.writers.wrong[:3]}")
        expect(not self.writers.errors, f"during {name} errors reached a client: {self.writers.errors[:3]}")


def weights(cluster, node, weight):
    return [f"{node.my_id()}={weight}"]


def load(cluster, data):
    client = cluster.open_client()
    pipeline = client.pipeline()
    names = list(data)
    for first in range(0, len(names), 500):
        for name in names[first:first + 500]:
            pipeline.set(name, data[name])
        replies = pipeline.execute()
        expect(all(reply is True for reply in replies), "every SET is answered with OK")
    client.close()


def expect_all(cluster: Cluster, data):
    client = cluster.open_client()
    pipeline = client.pipeline()
    names = list(data)
    for first in range(0, len(names), 500):
        chunk = names[first:first + 500]
        for name in chunk:
            pipeline.get(name)
        for name, value in zip(chunk, pipeline.execute()):
            expect(value == data[name], f"{name} differs: {len(value) if value else value}")
    client.close()
