"""Servers to measure: started with persistence off, on a free loopback port, and ended by pid."""

import itertools
import os
import platform
import random
import re
import selectors
import shutil
import socket
import subprocess
import tempfile
import threading
import time

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)


class MeasuredServer:
    """One process; `command` may put an instrument (valgrind) in front of it."""

    is_cluster = False

    def __init__(self, name, program, arguments=(), command=()):
        self.name = name
        self.program = program
        self.folder = tempfile.mkdtemp(prefix="benchmark-")
        self.port = free_port()
        started = time.monotonic()
        self.process = subprocess.Popen(
            [*command, program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
             "--dir", self.folder, "--logfile", "log.txt", *arguments],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd=self.folder)
        deadline = started + (60 if command else 10)
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise SystemExit(f"{name} does not start: {program}")
            time.sleep(0.05 if command else 0.0005)
        self.start_seconds = time.monotonic() - started

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                probe.sendall(b"PING\r\n")
                return probe.recv(100).startswith(b"+PONG")
        except OSError:
            return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, seconds=60):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def cpu_ticks(self):
        """(user, system) clock ticks of all threads so far, from /proc/PID/stat."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(") ", 1)[1].split()
        return int(fields[11]), int(fields[12])

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def peak_bytes(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(re.search(r"VmHWM:\s*(\d+) kB", file.read()).group(1)) * 1024

    def load(self, commands):
        """Sends these commands, each encoded and answered with +OK."""
        commands = iter(commands)
        with socket.create_connection(("127.0.0.1", self.port), 60) as connection, connection.makefile("rb") as replies:
            while batch := list(itertools.islice(commands, 1000)):
                connection.sendall(b"".join(batch))
                expected = b"+OK\r\n" * len(batch)
                reply = replies.read(len(expected))
                if reply != expected:
                    raise SystemExit(f"{self.name} answered {reply[:100]!r}")

    def feed(self, commands):
        """Sends these commands, each encoded; their replies may be anything of one line, or bulks."""
        commands = iter(commands)
        with socket.create_connection(("127.0.0.1", self.port), 60) as connection, connection.makefile("rb") as replies:
            while batch := list(itertools.islice(commands, 1000)):
                connection.sendall(b"".join(batch))
                for _ in batch:
                    line = replies.readline()
                    if line.startswith(b"$"):
                        line = replies.readline()
                    if not line or line.startswith(b"-"):
                        raise SystemExit(f"{self.name} answered {line[:100]!r}")

    def call(self, *arguments):
        """One command, one simple reply (status, number or bulk), as bytes."""
        data = encoded(*arguments)
        with socket.create_connection(("127.0.0.1", self.port), 30) as connection:
            connection.sendall(data)
            reply = b""
            while not reply.endswith(b"\r\n") or (reply[:1] == b"$" and len(reply) < bulk_length(reply)):
                piece = connection.recv(1 << 16)
                if not piece:
                    break
                reply += piece
        return reply

    def info(self, section):
        fields = {}
        for line in self.call("INFO", section).decode(errors="replace").splitlines():
            if ":" in line:
                key, value = line.split(":", 1)
                fields[key] = value
        return fields

    def version(self):
        fields = self.info("server")
        for field, name in (("martlet_version", "martlet"), ("valkey_version", "valkey"), ("redis_version", "redis")):
            if field in fields:
                return f"{name} {fields[field]}"
        return "unknown"


class Paced:
    """A thread that sends pieces at an even pace, each when the one before was answered."""

    def __init__(self, port, pieces, lines, rate):
        """`lines`: of the answer to a piece. `rate`: pieces per second."""
        self.failure = None
        self.thread = threading.Thread(target=self.run, args=(port, pieces, lines, rate))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.thread.join()

    def run(self, port, pieces, lines, rate):
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            for number, piece in enumerate(pieces):
                late = time.monotonic() - started - number / rate
                if late < 0:
                    time.sleep(-late)
                connection.sendall(piece)
                answer = b""
                while answer.count(b"\r\n") < lines:
                    more = connection.recv(1 << 16)
                    if not more or more.startswith(b"-"):
                        self.failure = more or "the connection is closed"
                        return
                    answer += more


class Subscribers:
    """So many clients that read whatever comes on one channel, in a thread."""

    def __init__(self, port, channel, count):
        self.clients = [socket.create_connection(("127.0.0.1", port), 60) for _ in range(count)]
        self.bell, self.rope = socket.socketpair()
        for client in self.clients:
            client.sendall(encoded("SUBSCRIBE", channel))
            if not client.recv(1 << 16).startswith(b"*3"):
                raise SystemExit(f"cannot subscribe to {channel}")
        self.thread = threading.Thread(target=self.read)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.rope.close()
        self.thread.join()
        for client in (self.bell, *self.clients):
            client.close()

    def read(self):
        buffer = bytearray(1 << 18)
        with selectors.DefaultSelector() as selector:
            for client in (self.bell, *self.clients):
                selector.register(client, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self.bell or key.fileobj.recv_into(buffer) == 0:
                        return


class MeasuredCluster:
    """Three primaries with a replica each; figures are sums over the nodes."""

    is_cluster = True
    NODES = 6

    def __init__(self, name, program, arguments=()):
        self.name = name
        self.nodes = []
        try:
            for _ in range(self.NODES):
                self.nodes.append(MeasuredServer(name, program, ["--cluster-enabled", "yes", *arguments]))
            self.port = self.nodes[0].port
            self.create()
        except BaseException:
            self.stop()
            raise

    def create(self):
        result = subprocess.run(
            ["redis-cli", "--cluster", "create", *(f"127.0.0.1:{node.port}" for node in self.nodes),
             "--cluster-replicas", "1", "--cluster-yes"], capture_output=True, text=True, timeout=120)
        if result.returncode != 0:
            raise SystemExit(f"no cluster of {self.name}: {result.stdout[-2000:]}{result.stderr}")
        deadline = time.monotonic() + 60
        while not self.is_ready():
            if time.monotonic() > deadline:
                raise SystemExit(f"the cluster of {self.name} does not come up")
            time.sleep(0.1)

    def is_ready(self):
        """Every node sees a whole cluster, and every replica has its primary's data."""
        infos = [node.info("replication") for node in self.nodes]
        return (all(b"cluster_state:ok" in node.call("CLUSTER", "INFO") for node in self.nodes)
                and sum(info["role"] == "slave" for info in infos) == self.NODES // 2
                and all(info.get("master_link_status", "up") == "up" for info in infos))

    def stop(self):
        for node in self.nodes:
            node.stop()

    def cpu_ticks(self):
        users, systems = zip(*(node.cpu_ticks() for node in self.nodes))
        return sum(users), sum(systems)

    def peak_bytes(self):
        return sum(node.peak_bytes() for node in self.nodes)


def bulk_length(reply):
    end = reply.find(b"\r\n")
    return end + 4 + int(reply[1:end]) if end > 0 else 1 << 60


def encoded(*arguments):
    """A command as a server takes it."""
    words = [str(argument).encode() for argument in arguments]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def strings(count, prefix="key", value=b"v" * 64, seconds=None):
    """SET commands for as many keys, of 16 bytes with the prefix `key`, in the order of their numbers."""
    tail = b"$%d\r\n%s\r\n" % (len(value), value)
    if seconds:
        tail += b"$2\r\nEX\r\n$%d\r\n%d\r\n" % (len(str(seconds)), seconds)
    head = b"*%d\r\n$3\r\nSET\r\n$%d\r\n%s:" % (5 if seconds else 3, len(prefix) + 13, prefix.encode())
    for number in range(count):
        yield b"%b%012d\r\n%b" % (head, number, tail)


def replace_block(mark, lines):
    """Puts lines between the two comments `<!-- mark -->` of RESULTS.md."""
    path, mark = os.path.join(HERE, "RESULTS.md"), f"<!-- {mark} -->"
    with open(path) as file:
        before, _, rest = file.read().partition(mark)
    with open(path, "w") as file:
        file.write(before + mark + "\n" + "\n".join(lines) + "\n" + mark + rest.partition(mark)[2])


def free_port():
    """One whose port of the cluster bus is free as well."""
    while True:
        port = random.randint(11000, 20999)
        with socket.socket() as probe, socket.socket() as bus:
            try:
                probe.bind(("127.0.0.1", port))
                bus.bind(("127.0.0.1", port + 10000))
                return port
            except OSError:
                continue


def machine():
    """Cores and CPU model, so that a number can be read later."""
    model = platform.machine()
    with open("/proc/cpuinfo") as file:
        match = re.search(r"model name\s*:\s*(.*)", file.read())
    if match:
        model = match.group(1)
    return f"{os.cpu_count()} cores, {model}"


def default_martlet():
    return os.path.join(ROOT, ".build", "release", "martlet-server")


def present_servers(choices):
    """[(name, path)] of those that can be run; a choice is name=path or a path, and the last one of a name counts."""
    found = {}
    for choice in choices:
        name, separator, path = choice.partition("=")
        if not separator:
            name, path = os.path.basename(choice).replace("-server", ""), choice
        program = shutil.which(path)
        if program:
            found[name] = os.path.abspath(program)
        else:
            print(f"note: no {path}, left out")
    return list(found.items())


def distinct(versions):
    """{name: version}, with the name added where two servers are of one version."""
    return {name: f"{version} ({name})" if list(versions.values()).count(version) > 1 else version
            for name, version in versions.items()}
