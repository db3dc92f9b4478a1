"""`martlet create-cluster`: local clusters as daemons, clusters of nodes that run already, refusals and failures.

Every scenario also runs against Redis itself (`--server redis-server`), which is how the tool is checked on its own.
"""

import os
import re
import signal
import subprocess
import time

from harness import Failure, Skipped, expect, expect_equal, wait_until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
QUICK = ["--", "--save", "", "--repl-diskless-sync-delay", "0"]


def check_local_life(environment):
    """start, status, start again, use, stop, start with the data of before, restart, stop, clean."""
    with Local(environment) as local:
        output = local.run("start", *QUICK)
        expect("primary 3:" in output and "all 6 nodes are well" in output, output)
        check = environment.cli("--cluster", "check", f"127.0.0.1:{local.port}")
        expect("[OK] All 16384 slots covered." in check and "[OK] All nodes agree" in check, check)
        expect_equal(environment.cli("-c", "-p", local.port, "set", "a", "b").strip(), "OK", "SET through the cluster")
        status = local.run("status")
        expect_equal(len(re.findall(r"replica of 127\.0\.0\.1:\d+ .* ok, in sync", status)), 3, "replicas in sync")
        pids = local.pids()
        output = local.run("start")
        expect("they already are one cluster" in output, output)
        expect_equal(local.pids(), pids, "the processes after a second start")
        ids = [environment.cli("-p", port, "cluster", "myid") for port in local.ports]
        local.run("stop")
        expect_equal([is_alive(pid) for pid in pids], [False] * 6, "processes that live after stop")
        expect("not running" in local.run("status", fails=True), "status of a stopped cluster")
        local.run("start")
        expect_equal([environment.cli("-p", port, "cluster", "myid") for port in local.ports], ids, "ids after a restart")
        local.run("restart", "--", "--cluster-node-timeout", "3333")
        expect("3333" in environment.cli("-p", local.port, "config", "get", "cluster-node-timeout"), "a new directive")
        expect("stop the cluster first" in local.run("clean", fails=True), "clean refuses while nodes run")
        local.run("stop")
        local.run("clean")
        expect(not os.path.exists(local.folder), "clean removes the folder")


def check_clean_keeps_foreign_files(environment):
    """clean removes what the cluster made, and nothing else."""
    with Local(environment, nodes=3, replicas=0) as local:
        local.run("start", "--", "--save", "1 1", "--appendonly", "yes")
        foreign = os.path.join(local.folder, str(local.port), "mine.txt")
        with open(foreign, "w") as file:
            file.write("mine")
        local.run("stop")
        expect(foreign in local.run("clean"), "clean names the file")
        left = [os.path.join(folder, name) for folder, _, names in os.walk(local.folder) for name in names]
        expect_equal(left, [foreign], "files after clean")


def check_half_made(environment):
    """A start that was killed at any moment is completed by the next one."""
    for seconds in (0.05, 0.2, 0.4, 0.8, 1.3) if environment.is_long else (0.1, 0.5, 1.0):
        with Local(environment) as local:
            process = subprocess.Popen(
                local.command("start", *QUICK), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            output = local.run("start", *QUICK)
            expect("all 6 nodes are well" in output, f"killed after {seconds} s: {output}")
            check = environment.cli("--cluster", "check", f"127.0.0.1:{local.port}")
            expect("[OK] All 16384 slots covered." in check, check)


def check_dead_node_comes_back(environment):
    """start brings back the nodes that died, after a failover as well."""
    with Local(environment) as local:
        local.run("start", *QUICK, "--cluster-node-timeout", "1000")
        os.kill(local.pids()[0], signal.SIGKILL)
        def promoted():
            return "master" in environment.cli("-p", local.ports[3], "role", check=False)
        wait_until(promoted, 20, "the replica is promoted")
        output = local.run("start")
        expect("the 1 of 6 nodes that do not run" in output and "all 6 nodes are well" in output, output)


def check_running_nodes(environment):
    """Addresses of nodes that run: a plan, a question, a cluster; again, and it is only looked at."""
    nodes = [environment.cluster_node() for _ in range(7)]
    addresses = [node.address for node in nodes]
    output = run(environment, *addresses, "--replicas", "1", fails=True)
    expect("Nothing was changed." in output, output)
    expect_equal(nodes[0].cluster_info()["cluster_slots_assigned"], "0", "slots after 'no'")
    output = run(environment, *addresses, "--replicas", "1", "--yes")
    expect("all 7 nodes are well" in output, output)
    slots = [len(node.my_line().slots) for node in nodes]
    expect_equal(slots, [5461, 5462, 5461, 0, 0, 0, 0], "slots of each node")
    expect("they already are one cluster" in run(environment, *addresses, "--replicas", "1"), "the second time")


def check_password(environment):
    """A cluster with a password, local and of running nodes; without the password the cause is shown."""
    with Local(environment, nodes=3, replicas=0) as local:
        local.run("start", "--pass", "se cret", *QUICK)
        expect("PONG" in environment.cli("-p", local.port, "-a", "se cret", "ping"), "PING with the password")
        expect("NOAUTH" in environment.cli("-p", local.port, "ping", check=False), "PING without the password")
        local.run("status")
        local.run("stop")
        local.run("start")
    nodes = [environment.cluster_node(start=False, requirepass="secret", masterauth="secret") for _ in range(3)]
    for node in nodes:
        node.start(wait=False)
    for node in nodes:
        wait_until(lambda: "NOAUTH" in environment.cli("-p", node.port, "ping", check=False), 10, f"{node} listens")
    addresses = [node.address for node in nodes]
    expect("NOAUTH" in run(environment, *addresses, "--yes", fails=True), "NOAUTH is shown")
    expect("WRONGPASS" in run(environment, *addresses, "--yes", "--pass", "wrong", fails=True), "WRONGPASS is shown")
    expect("all 3 nodes are well" in run(environment, *addresses, "--yes", "--pass", "secret"), "with the password")


def check_refusals(environment):
    """What is no blank cluster node is refused by name before anything is changed."""
    blank = [environment.cluster_node() for _ in range(3)]
    plain = environment.server()
    addresses = [node.address for node in blank]

    def refused(others, *words):
        output = run(environment, *addresses, *others, "--yes", fails=True)
        for word in words:
            expect(word in output, f"expected {word!r}: {output}")
        for node in blank:
            expect_equal(node.cluster_info()["cluster_known_nodes"], "1", f"nodes that {node} knows")

    refused([plain.address], plain.address, "is not configured as a cluster node")
    with_keys = environment.cluster_node()
    with_keys.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    wait_until(lambda: with_keys.cluster_info()["cluster_state"] == "ok", 10, "a lonely node is ok")
    with_keys.call("SET", "a", "b")
    refused([with_keys.address], with_keys.address, "is not empty")
    married = [environment.cluster_node() for _ in range(2)]
    married[0].call("CLUSTER", "MEET", "127.0.0.1", married[1].port)
    wait_until(lambda: len(married[0].cluster_nodes()) == 2 and "handshake" not in married[0].call("CLUSTER", "NODES").decode(),
               10, "two nodes know each other")
    refused([married[0].address], married[0].address, "already knows other nodes")
    refused([blank[0].address.replace("127.0.0.1", "localhost")], "is the same node as")
    refused([blank[0].address], "was given twice")
    free = environment.ports.next()
    refused([f"127.0.0.1:{free}"], f"127.0.0.1:{free}", "no server listens there")
    expect("at least 3 primaries" in run(environment, *addresses, "--replicas", "1", fails=True), "too few primaries")
    expect("neither HOST:PORT" in run(environment, "strat", fails=True), "a mistyped verb")


def check_start_failures(environment):
    """A taken port and a server that does not start: the node, its log, the cause."""
    with Local(environment, nodes=3, replicas=0) as local:
        taken = environment.server(start=False)
        taken.port = local.ports[1]
        taken.directives["port"] = str(taken.port)
        taken.start()
        output = local.run("start", fails=True)
        expect(f"node 127.0.0.1:{local.ports[1]} cannot be started" in output, output)
        expect(not any(os.path.exists(os.path.join(local.folder, str(port))) for port in local.ports), "nothing was made")
        taken.stop()
        output = local.run("start", "--", "--no-such-directive", "1", fails=True)
        expect("did not start: exited with status" in output and "server.log" in output, output)
        expect("no-such-directive" in output, f"the cause is shown: {output}")
        local.run("stop")
        output = local.run("start", "--server", "/bin/true", fails=True)
        expect("did not start" in output, output)
        expect("is not a program" in local.run("start", "--server", "/etc/passwd", fails=True), "no program")
        expect("holds another cluster" in local.run("start", nodes=6, fails=True), "another shape in the same folder")


def check_stop_is_careful(environment):
    """A pid file that names somebody else's process kills nobody; a frozen node is killed after the deadline."""
    with Local(environment, nodes=3, replicas=0) as local:
        local.run("start", *QUICK)
        pids = local.pids()
        other = subprocess.Popen(["sleep", "100"])
        pid_file = os.path.join(local.folder, str(local.port), "server.pid")
        try:
            with open(pid_file, "w") as file:
                file.write(f"{other.pid}\n")
            local.run("stop")
            expect_equal(other.poll(), None, "the foreign process")
            expect(is_alive(pids[0]), "the node without its pid file runs on")
            with open(pid_file, "w") as file:
                file.write(f"{pids[0]}\n")
        finally:
            other.kill()
            other.wait()
        os.kill(pids[0], signal.SIGSTOP)
        output = local.run("stop", "--timeout", "1")
        expect("is killed" in output, output)
        expect(not is_alive(pids[0]), "the frozen node has ended")


def check_configurations(environment):
    """The files of cluster-configs/ boot what they say."""
    for name, nodes in (("3-primaries-3-replicas", 6), ("6-primaries-6-replicas", 12), ("single-node", 1)):
        with Local(environment, nodes=None, count=nodes) as local:
            output = local.run("start", "--config", os.path.join(ROOT, "cluster-configs", f"{name}.conf"))
            expect(f"all {nodes} nodes are well" in output, output)
            expect_equal(environment.cli("-c", "-p", local.port, "set", "a", "b").strip(), "OK", "SET")


# Helpers

class Local:
    """A local cluster of the tool's, whose processes end with the scenario whatever happens."""

    def __init__(self, environment, nodes=6, replicas=1, count=None):
        self.environment = environment
        self.nodes, self.replicas = nodes, replicas
        self.port = free_range(environment, count or nodes)
        self.ports = [self.port + number for number in range(count or nodes)]
        self.folder = os.path.join(environment.folder, f"local-{self.port}")

    def command(self, verb, *options, nodes=None):
        words = [tool(self.environment), "create-cluster", verb, "--dir", self.folder]
        if verb in ("start", "restart"):
            words += ["--port", str(self.port)]
            if nodes or self.nodes:
                words += ["--nodes", str(nodes or self.nodes), "--replicas", str(self.replicas)]
            if "--server" not in options:
                words += ["--server", self.environment.program("martlet")]
        return words + list(options)

    def run(self, verb, *options, fails=False, nodes=None):
        return execute(self.command(verb, *options, nodes=nodes), fails)

    def pids(self):
        return [int(self.environment.cli("-p", port, "info", "server").split("process_id:")[1].split()[0])
                for port in self.ports]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(self.command("stop", "--timeout", "2"), capture_output=True, timeout=60)


def tool(environment):
    if not environment.options.tool:
        raise Skipped("no martlet program given (--tool PATH)")
    return os.path.abspath(environment.options.tool)


def run(environment, *arguments, fails=False):
    return execute([tool(environment), "create-cluster", *arguments], fails)


def execute(command, fails):
    start = time.monotonic()
    result = subprocess.run(command, capture_output=True, text=True, timeout=400, stdin=subprocess.DEVNULL)
    output = result.stdout + result.stderr
    if fails != (result.returncode != 0):
        raise Failure(f"{' '.join(command)} ended with {result.returncode} after {time.monotonic() - start:.1f} s: {output}")
    return output


def free_range(environment, count):
    """The first of `count` ports in a row that are free, bus ports too."""
    for _ in range(200):
        port = environment.ports.next()
        if all(environment.ports.is_free(port + n) and environment.ports.is_free(port + n + 10000) for n in range(count)):
            environment.ports.taken.update(range(port, port + count))
            return port
    raise Failure("no free range of ports found")


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
