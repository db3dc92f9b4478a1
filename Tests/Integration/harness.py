"""Real server processes for the integration scenarios.

A scenario asks its `Environment` for servers and clusters and never cleans up itself: the runner ends every process that
a scenario started, by pid, when it returns or fails, and removes its folder when it passed. Nothing here sleeps for a
guess: `wait_until` polls a condition against a deadline and names the condition when it fails.

Three kinds of server can stand in one cluster: "martlet" is the system under test (`--server`), "redis" and "valkey" are
the programs of the same name it has to live with.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import time

import redis
import redis.crc
from redis.backoff import NoBackoff
from redis.retry import Retry

SLOT_COUNT = 16384

# Deadlines are written for an idle machine; a busy one with two cores gets this many times as long. They only end what
# hangs: nothing waits for a deadline to pass.
PATIENCE = 4

# For clusters in which nothing is meant to fail: a loaded machine may hold up a node for seconds.
NODE_TIMEOUT = 10000

# Client ports. The bus listens 10000 higher, and both stay below Linux' ephemeral range (32768 and up), so that an
# outgoing connection never occupies the port of a server that is about to start.
FIRST_PORT = 11000
LAST_PORT = 20999


class Failure(Exception):
    """A scenario's expectation did not hold."""


class Skipped(Exception):
    """A scenario cannot run here, and says why."""


def expect(condition, message):
    if not condition:
        raise Failure(message)


def expect_equal(actual, expected, what):
    if actual != expected:
        raise Failure(f"{what}: expected {shorten(expected)}, got {shorten(actual)}")


def shorten(value, limit=300):
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def wait_until(condition, seconds, what, every=0.02):
    """Polls until `condition()` is true and returns its value; errors of a server that is not up yet count as false."""
    deadline = time.monotonic() + seconds * PATIENCE
    last_error = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last_error = None
        except (redis.RedisError, OSError) as error:
            last_error = error
        except ReplyError as error:
            if not str(error).startswith("LOADING "):
                raise
            last_error = error
        if time.monotonic() > deadline:
            cause = f" (last error: {last_error})" if last_error else ""
            raise Failure(f"waited {seconds * PATIENCE} s in vain until {what}{cause}")
        time.sleep(every)


class Ports:
    """Hands out ports whose bus port is free too; never the same one twice in a run."""

    def __init__(self):
        self.taken = set()

    def next(self, spare_bus=False):
        for _ in range(2000):
            port = random.randint(FIRST_PORT, LAST_PORT)
            if port in self.taken or not (self.is_free(port) and self.is_free(port + 10000)):
                continue
            self.taken.add(port)
            return port
        raise Failure("no free port found")

    @staticmethod
    def is_free(port):
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            try:
                with socket.socket(family, socket.SOCK_STREAM) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((host, port))
            except OSError as error:
                if family == socket.AF_INET or error.errno == 98:
                    return False
        return True


class Server:
    """One server process with its own folder: node.conf, log.txt, nodes.conf."""

    def __init__(self, environment, kind, port, directives):
        self.environment = environment
        self.kind = kind
        self.program = environment.program(kind)
        self.port = port
        self.host = "127.0.0.1"
        self.folder = os.path.join(environment.folder, f"{kind}-{port}")
        self.process = None
        self.connection = None
        # Environment variables on top of the runner's own.
        self.variables = {}
        self.directives = {
            "port": str(port),
            "bind": "127.0.0.1",
            "dir": self.folder,
            "logfile": os.path.join(self.folder, "log.txt"),
            "save": '""',
            "appendonly": "no",
            "enable-debug-command": "yes",
            "repl-diskless-sync": "yes",
            "repl-diskless-sync-delay": "0",
        }
        self.directives.update({name: str(value) for name, value in directives.items()})
        os.makedirs(self.folder, exist_ok=True)

    def __repr__(self):
        return f"{self.kind}:{self.port}"

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    @property
    def pid(self):
        return self.process.pid

    @property
    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def log(self):
        try:
            with open(self.directives["logfile"], errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def start(self, wait=True):
        config = os.path.join(self.folder, "node.conf")
        with open(config, "w") as file:
            for name, value in self.directives.items():
                for line in value.split("\n"):
                    file.write(f"{name} {line}\n")
        output = open(os.path.join(self.folder, "output.txt"), "ab")
        self.process = subprocess.Popen(
            [self.program, config], stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=self.folder,
            env={**os.environ, **self.variables})
        output.close()
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, seconds=15):
        def answers():
            if not self.is_running:
                raise Failure(f"{self} ended at start with status {self.process.returncode}: {self.tail()}")
            with RawConnection(self.host, self.port, timeout=5) as connection:
                connection.send(b"PING\r\n")
                reply = connection.read_reply()
            # NOAUTH comes from a server that is ready as well; LOADING does not.
            return reply == b"PONG" or str(reply).startswith("NOAUTH")
        wait_until(answers, seconds, f"{self} answers PING")

    def tail(self, lines=5):
        text = self.log()
        try:
            with open(os.path.join(self.folder, "output.txt"), errors="replace") as file:
                text += file.read()
        except OSError:
            pass
        return " | ".join(text.strip().split("\n")[-lines:])

    # Clients. No retries: a scenario wants to see the first error.

    def open_client(self, timeout=30, **options):
        return redis.Redis(
            host=self.host, port=self.port, socket_timeout=timeout, socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0), **options)

    @property
    def client(self):
        """A client for administration that lasts as long as the server, binary replies."""
        if self.connection is None:
            self.connection = self.open_client()
        return self.connection

    def call(self, *arguments):
        """Runs one command and returns the plain RESP2 reply, without redis-py's reshaping."""
        with RawConnection(self.host, self.port) as connection:
            return connection.call(*arguments)

    def info(self, section="default"):
        return parse_info(self.call("INFO", section))

    def cluster_info(self):
        return parse_info(self.call("CLUSTER", "INFO"))

    def cluster_nodes(self):
        return [NodeLine(line) for line in self.call("CLUSTER", "NODES").decode().splitlines() if line]

    def my_line(self):
        return next(line for line in self.cluster_nodes() if "myself" in line.flags)

    def my_id(self):
        return self.call("CLUSTER", "MYID").decode()

    def role(self):
        return self.info("replication")["role"]

    # The ways a process can end or stand still.

    def stop(self, seconds=10):
        """SIGTERM, as an operator stops it; SIGKILL past the deadline. Returns the exit status."""
        self.disconnect()
        if not self.is_running:
            return self.process.returncode if self.process else None
        self.process.send_signal(signal.SIGTERM)
        self.process.send_signal(signal.SIGCONT)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def kill(self):
        """kill -9."""
        self.disconnect()
        if self.is_running:
            self.process.kill()
            self.process.wait()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def disconnect(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def is_martlet(self):
        return b"martlet_version" in self.call("INFO", "server")


class NodeLine:
    """One line of CLUSTER NODES."""

    def __init__(self, line):
        self.text = line
        fields = line.split(" ")
        self.id, self.address, flags, self.primary = fields[0], fields[1], fields[2], fields[3]
        self.flags = flags.split(",")
        self.epoch, self.link = int(fields[6]), fields[7]
        self.slot_fields = fields[8:]

    @property
    def port(self):
        return int(self.address.split("@")[0].rsplit(":", 1)[1])

    @property
    def slots(self):
        result = set()
        for field in self.slot_fields:
            if field.startswith("["):
                continue
            first, _, last = field.partition("-")
            result.update(range(int(first), int(last or first) + 1))
        return result


def parse_info(text):
    fields = {}
    for line in text.decode(errors="replace").splitlines():
        if ":" in line and not line.startswith("#"):
            name, value = line.split(":", 1)
            fields[name] = value
    return fields


class ReplyError(Exception):
    """An error reply, with its text."""


class RawConnection:
    """A blocking RESP2 connection that shows exactly what the server says."""

    def __init__(self, host, port, timeout=30, path=None):
        if path:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(timeout)
            self.socket.connect(path)
        else:
            self.socket = socket.create_connection((host, port), timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def read_some(self):
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("closed by the server")
        self.buffer += data

    def read_line(self):
        while b"\r\n" not in self.buffer:
            self.read_some()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def read_exactly(self, count):
        if len(self.buffer) < count:
            chunks, have = [self.buffer], len(self.buffer)
            while have < count:
                data = self.socket.recv(min(1 << 20, count - have))
                if not data:
                    raise ConnectionError("closed by the server")
                chunks.append(data)
                have += len(data)
            self.buffer = b"".join(chunks)
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def read_reply(self):
        """The next reply; an error is returned, not raised, so that a pipeline can be read to its end."""
        line = self.read_line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ReplyError(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            length = int(rest)
            return None if length < 0 else self.read_exactly(length + 2)[:-2]
        if kind in (b"*", b"~", b">"):
            length = int(rest)
            return None if length < 0 else [self.read_reply() for _ in range(length)]
        if kind == b"%":
            return {self.read_reply(): self.read_reply() for _ in range(int(rest))}
        if kind == b"_":
            return None
        if kind == b"#":
            return rest == b"t"
        if kind == b",":
            return float(rest)
        if kind == b"=":
            return self.read_exactly(int(rest) + 2)[4:-2]
        raise Failure(f"not a RESP reply: {shorten(line)}")

    def call(self, *arguments):
        self.send(encode(*arguments))
        reply = self.read_reply()
        if isinstance(reply, ReplyError):
            raise reply
        return reply


def encode(*arguments):
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


class Cluster:
    """Primaries and replicas that a scenario booted; `shards[i]` is `[primary, replica…]` as they were at boot."""

    def __init__(self, environment, shards):
        self.environment = environment
        self.shards = shards

    @property
    def nodes(self):
        return [node for shard in self.shards for node in shard]

    def running(self):
        return [node for node in self.nodes if node.is_running]

    def node_at(self, port):
        return next(node for node in self.nodes if node.port == port)

    def boot(self, timeout=40):
        """Epochs, even slots, MEET and REPLICATE by hand, so that a scenario decides who replicates whom."""
        primaries = [shard[0] for shard in self.shards]
        for index, node in enumerate(primaries):
            first = index * SLOT_COUNT // len(primaries)
            last = (index + 1) * SLOT_COUNT // len(primaries) - 1
            node.call("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
            node.call("CLUSTER", "ADDSLOTSRANGE", first, last)
        for node in self.nodes[1:]:
            node.call("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        wait_until(self.is_meshed, timeout, "every node knows every other")
        for shard in self.shards:
            identifier = shard[0].my_id()
            for replica in shard[1:]:
                wait_until(lambda: replica.call("CLUSTER", "REPLICATE", identifier) == b"OK", 10,
                           f"{replica} accepts to replicate {shard[0]}", every=0.1)
        self.wait_ok(timeout)
        return self

    def boot_with_cli(self, replicas):
        """`redis-cli --cluster create`, as a user does it."""
        self.environment.cli(
            "--cluster", "create", *[node.address for node in self.nodes],
            "--cluster-replicas", replicas, "--cluster-yes", timeout=90)
        self.wait_ok()
        return self

    def is_meshed(self):
        for node in self.running():
            lines = node.cluster_nodes()
            if len(lines) != len(self.nodes) or any("handshake" in line.flags for line in lines):
                return False
            if any(line.link != "connected" for line in lines):
                return False
        return True

    def wait_ok(self, timeout=40, nodes=None):
        """Every running node says ok and knows an owner of each slot, and every replica is in sync."""
        for node in nodes or self.running():
            wait_until(lambda: self.is_ok(node), timeout, f"{node} says cluster_state:ok with all slots")
        for node in nodes or self.running():
            wait_until(lambda: self.is_in_sync(node), timeout, f"{node} is a primary or a replica in sync")

    @staticmethod
    def is_ok(node):
        fields = node.cluster_info()
        return fields["cluster_state"] == "ok" and fields["cluster_slots_ok"] == str(SLOT_COUNT)

    @staticmethod
    def is_in_sync(node):
        fields = node.info("replication")
        return fields["role"] == "master" or fields["master_link_status"] == "up"

    def primaries(self):
        """The running nodes that own slots, as they see themselves."""
        return [node for node in self.running() if node.role() == "master" and node.my_line().slots]

    def owner_of(self, slot):
        for node in self.running():
            if node.role() == "master" and slot in node.my_line().slots:
                return node
        return None

    def open_client(self, **options):
        options.setdefault("socket_timeout", 30)
        return redis.RedisCluster(host="127.0.0.1", port=self.running()[0].port, **options)


class Environment:
    """What one scenario may use: programs, ports, a folder, options."""

    def __init__(self, options, name, ports):
        self.options = options
        self.ports = ports
        self.name = name
        self.folder = os.path.join(options.work, name)
        self.servers = []
        self.processes = []
        self.notes = []
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)

    @property
    def is_long(self):
        return self.options.long

    def program(self, kind):
        if kind == "martlet":
            return self.options.server
        if kind == "redis":
            path = shutil.which(self.options.redis)
            if path is None:
                raise Skipped(f"no {self.options.redis} here")
            return path
        if not self.options.valkey:
            raise Skipped("no valkey-server given (--valkey PATH)")
        return self.options.valkey

    def note(self, text):
        """A line of result under the scenario's name."""
        self.notes.append(text)

    def server(self, kind="martlet", start=True, **directives):
        directives = {name.replace("_", "-"): value for name, value in directives.items()}
        server = Server(self, kind, self.ports.next(), directives)
        self.servers.append(server)
        if start:
            server.start()
        return server

    def cluster_node(self, kind="martlet", timeout=NODE_TIMEOUT, start=True, **directives):
        return self.server(
            kind, start, cluster_enabled="yes", cluster_config_file="nodes.conf", cluster_node_timeout=timeout,
            **directives)

    def cluster(self, primaries=3, replicas=1, kind="martlet", replica_kind=None, timeout=NODE_TIMEOUT, **directives):
        """A booted cluster; `replica_kind` makes it a mixed one."""
        shards = []
        for _ in range(primaries):
            shard = [self.cluster_node(kind, timeout, start=False, **directives)]
            for _ in range(replicas):
                shard.append(self.cluster_node(replica_kind or kind, timeout, start=False, **directives))
            shards.append(shard)
        cluster = Cluster(self, shards)
        for node in cluster.nodes:
            node.start(wait=False)
        for node in cluster.nodes:
            node.wait_ready()
        return cluster.boot()

    def cli(self, *arguments, timeout=60, check=True):
        """Runs redis-cli and returns what it printed."""
        command = [self.options.cli] + [str(argument) for argument in arguments]
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout * PATIENCE,
                                stdin=subprocess.DEVNULL)
        output = result.stdout + result.stderr
        if check and result.returncode != 0:
            raise Failure(f"{' '.join(command)} ended with {result.returncode}: {output[-1500:]}")
        return output

    def process(self, name, *command, **variables):
        """Starts a process beside the servers that ends with the scenario; what it prints goes to `name`.txt."""
        with open(os.path.join(self.folder, f"{name}.txt"), "ab") as output:
            process = subprocess.Popen(
                [str(word) for word in command], stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                cwd=self.folder, env={**os.environ, **variables})
        self.processes.append(process)
        return process

    def close(self, passed):
        for server in self.servers:
            if server.process is not None and server.is_running:
                server.disconnect()
                server.process.kill()
                server.process.wait()
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        if passed and not self.options.keep:
            shutil.rmtree(self.folder, ignore_errors=True)


def fail_over(replica, primary, *options):
    """CLUSTER FAILOVER until it is done: Redis 7 grants one shard only one vote in twice the node timeout."""
    for _ in range(4):
        expect_equal(replica.call("CLUSTER", "FAILOVER", *options), b"OK", "CLUSTER FAILOVER")
        deadline = time.monotonic() + 6
        while time.monotonic() < deadline:
            if replica.role() == "master":
                wait_until(lambda: primary.role() == "slave", 10, f"{primary} follows {replica}")
                return
            time.sleep(0.02)
    raise Failure(f"CLUSTER FAILOVER of {primary} to {replica} failed four times")


def key_in_slots(slots, prefix="k"):
    """A key that hashes into one of `slots`."""
    for number in range(1000000):
        key = f"{prefix}:{number}"
        if key_slot(key) in slots:
            return key
    raise Failure("no key found for these slots")


def key_slot(key):
    data = key if isinstance(key, bytes) else key.encode()
    return redis.crc.key_slot(data)


def same_data(one, other):
    """Differences between two standalone servers' database 0, read by SCAN, DEBUG DIGEST-VALUE and PEXPIRETIME; empty when
    equal. Of our own servers the structures are checked, too."""
    return describe_difference(read_all(one), read_all(other))


def read_all(server):
    client = server.open_client(timeout=30)
    content = {}
    batch = []
    def flush():
        pipeline = client.pipeline(transaction=False)
        for key in batch:
            pipeline.execute_command("DEBUG", "DIGEST-VALUE", key)
            pipeline.execute_command("PEXPIRETIME", key)
        replies = pipeline.execute()
        for index, key in enumerate(batch):
            content[key] = (replies[2 * index], replies[2 * index + 1])
        batch.clear()
    if server.is_martlet():
        client.execute_command("DEBUG", "INVARIANTS")
    for key in client.scan_iter(count=1000):
        batch.append(key)
        if len(batch) == 500:
            flush()
    if batch:
        flush()
    client.close()
    return content


def describe_difference(one, other):
    if one == other:
        return ""
    missing = [key for key in one if key not in other]
    extra = [key for key in other if key not in one]
    changed = [key for key in one if key in other and one[key] != other[key]]
    parts = []
    for name, keys in (("missing", missing), ("extra", extra), ("changed", changed)):
        if keys:
            parts.append(f"{len(keys)} {name}, as {shorten(keys[0], 80)}")
    return "; ".join(parts)
