"""`martlet benchmark` against real servers: what it says it sent is what they say they got."""

import json
import os
import re
import subprocess
import time

from harness import Failure, Skipped, expect, expect_equal, key_in_slots, key_slot, wait_until


def check_counts(environment):
    """-n requests are exactly -n requests, with batches that do not divide it, threads, databases and RESP3."""
    server = environment.server()
    bench = Benchmark(environment, server)
    for options in ([], ["-P", "16"], ["-P", "7", "-c", "3"], ["--threads", "2", "-P", "4"], ["-3"], ["--rate", "50000"],
                    ["-k", "0", "-n", "300"], ["--sizes", "1-100"], ["-c", "1000", "-n", "5000"]):
        count = int(options[-1]) if "-n" in options else 10007
        options = [*options] if "-n" in options else [*options, "-n", "10007"]
        server.call("CONFIG", "RESETSTAT")
        (test,) = bench.run("-t", "set", "-r", "1000", *options)["tests"]
        expect_equal(calls(server, "set"), count, f"SET calls with {options}")
        expect_equal((test["requests"], test["errors"]), (count, 0), f"requests with {options}")
        expect_equal(sum(row["requests"] for row in test["timeline"]), count, "requests in the time line")
    server.call("FLUSHALL")
    bench.run("-t", "set", "-n", "1000", "-r", "1000", "--keys", "sequential", "--threads", "2", "--dbnum", "3")
    expect_equal(parse_keys(server.info("keyspace")), {"db3": 1000}, "each key once, in the database asked for")
    server.call("CONFIG", "RESETSTAT")
    bench.run("-n", "100", "-r", "10", "-P", "5", "msetnx", "a__rand_int__", "__data__", "b", "x", "-d", "not an option")
    expect_equal(calls(server, "msetnx"), 100, "calls of a command of the user's")
    # PING is sent as an inline command and as an array.
    bench.run("-t", "ping", "-n", "500")
    expect_equal(calls(server, "ping"), 1000, "PING calls")


def check_time(environment):
    """--duration, --warmup and --rate: what is sent to warm up does not count, and the schedule is kept."""
    server = environment.server()
    bench = Benchmark(environment, server)
    (test,) = bench.run("-t", "get", "--rate", "2000", "--duration", "2", "--warmup", "0.5")["tests"]
    expect_equal(test["requests"] + test["behind_schedule"], 4000, "requests of two seconds at 2000/s")
    expect(calls(server, "get") >= test["requests"] + 900, "the warm-up was sent too")
    expect_equal([row["second"] for row in test["timeline"]], [0, 1], "seconds in the time line")
    # A stall of a second is seen by all requests that were due in it, not by one for each connection.
    process = bench.start("-t", "get", "--rate", "1000", "--duration", "3", "-c", "2", "--json", "-")
    before = calls(server, "get")
    wait_until(lambda: calls(server, "get") > before + 100, 10, "the load has begun")
    server.freeze()
    time.sleep(1)
    server.thaw()
    (test,) = json.loads(process.communicate(timeout=60)[0])["tests"]
    expect_equal(test["requests"] + test["behind_schedule"], 3000, "requests of three seconds at 1000/s")
    expect(test["latency_ms"]["p90"] > 500, f"90 of 100 requests know of the stall: {test['latency_ms']}")


def check_workloads(environment):
    """The YCSB mixes and a file: every request is in the server's statistics."""
    server = environment.server()
    bench = Benchmark(environment, server)
    bench.run("--workload", "ycsb-load", "-r", "2000", "-n", "2000")
    expect_equal(server.call("DBSIZE"), 2000, "records after ycsb-load")
    for name in "abcdef":
        server.call("CONFIG", "RESETSTAT")
        (test,) = bench.run("--workload", f"ycsb-{name}", "-r", "2000", "-n", "4000", "-P", "4")["tests"]
        expect_equal((test["requests"], test["errors"]), (4000, 0), f"ycsb-{name}")
        counts = {operation["label"]: operation["requests"] for operation in test["operations"]}
        expect_equal(sum(counts.values()), 4000, f"operations of ycsb-{name}")
        reads = counts.get("READ", 0) + counts.get("READ-MODIFY-WRITE", 0)
        writes = 4000 - counts.get("READ", 0) - counts.get("SCAN", 0)
        expect_equal(
            (calls(server, "get"), calls(server, "set"), calls(server, "mget")),
            (reads, writes, counts.get("SCAN", 0)), f"calls of ycsb-{name}")
    path = os.path.join(environment.folder, "mix.txt")
    with open(path, "w") as file:
        file.write("# counters\n3 INCR n:__key__\n1 MULTI ; INCR m ; SET s:__key__ __data__ ; EXEC\n")
    server.call("FLUSHALL")
    server.call("CONFIG", "RESETSTAT")
    (test,) = bench.run("--workload", path, "-n", "4000", "-r", "10", "-c", "5")["tests"]
    counts = {operation["label"]: operation["requests"] for operation in test["operations"]}
    expect_equal(int(server.call("GET", "m")), counts["MULTI;INCR;SET;EXEC"], "transactions")
    expect_equal(sum(int(server.call("GET", f"n:{n:012d}")) for n in range(10)), counts["INCR"], "increments")


def check_failures(environment):
    """Clear messages and exit statuses: errors of the server, wrong options, nobody there, a server that dies."""
    server = environment.server()
    bench = Benchmark(environment, server)
    output = bench.fails(1, "-n", "100", "nonsense", "x")
    expect("Error from server: ERR unknown command 'nonsense'" in output, output)
    # The tests after it go on.
    output = bench.fails(1, "-n", "100", "-q", "--workload", bench.file("1 PING\n1 INCRBYFLOAT s x\n"))
    expect(re.search(r"errors: \d+ of 100 replies were ERR: ERR value is not a valid float", output), output)
    for options, message in (
            (["--bogus"], "Unknown option '--bogus'"), (["-t", "get,nothing"], "no test is called 'nothing'"),
            (["-n", "0"], "-n must be above 0"), (["-n", "1", "--duration", "1"], "exclude each other"),
            (["--keys", "zipfian"], "--keys needs -r"), (["-c", "x"], "'x' is invalid")):
        output = bench.fails(64, *options)
        expect(message in output, f"{options}: {output}")
    for options, message in (
            (["-r", "1", "--keys", "pareto"], "'pareto' is no key distribution"), (["--sizes", "x"], "'x' is not a value size"),
            (["--workload", "ycsb-x"], "none of ycsb-load"), (["--workload", "/nothing"], "/nothing: No such file"),
            (["--workload", bench.file("1 GET a\nGET b\n")], ":2: expected a weight above 0"), (["--tls"], "TLS is not supported"),
            (["-a", "secret"], "answered AUTH with: ERR"), (["--cluster"], "cluster support disabled")):
        output = bench.fails(1, *options)
        expect(message in output, f"{options}: {output}")
    process = bench.start("-t", "get", "--duration", "60")
    wait_until(lambda: server.info("clients")["connected_clients"] > "50", 10, "the load has begun")
    server.kill()
    output = process.communicate(timeout=60)[0]
    expect(process.returncode == 1 and f"the connection to {server.address}: " in output, output)
    output = bench.fails(1, "-t", "get")
    expect(f"{server.address} refuses connections" in output, output)


def check_interrupt(environment):
    """Ctrl-C ends a test with a report of what was measured until then."""
    server = environment.server()
    bench = Benchmark(environment, server)
    process = bench.start("-t", "get,set", "--duration", "60", "-q")
    wait_until(lambda: calls(server, "set") > 1000, 10, "the load has begun")
    process.send_signal(2)
    output = process.communicate(timeout=60)[0]
    expect_equal(process.returncode, 130, f"exit status after an interrupt ({output})")
    expect(output.startswith("SET: ") and "GET" not in output, output)


def check_idle(environment):
    """-I opens connections and leaves them alone until Ctrl-C, or until none is left."""
    server = environment.server()
    bench = Benchmark(environment, server)
    for end in ("interrupt", "kill"):
        before = int(server.info("clients")["connected_clients"])
        process = bench.start("-I", "-c", "120", "--threads", "2")
        wait_until(lambda: int(server.info("clients")["connected_clients"]) == before + 120, 10, "all are connected")
        if end == "interrupt":
            process.send_signal(2)
        else:
            server.kill()
        output = process.communicate(timeout=60)[0]
        expect_equal(process.returncode, 0 if end == "interrupt" else 1, f"exit status after {end} ({output})")
        if end == "interrupt":
            wait_until(lambda: int(server.info("clients")["connected_clients"]) == before, 10, "all are closed")


def check_unix_socket(environment):
    """-s, and a server that wants a password."""
    path = os.path.join(environment.folder, "s")
    server = environment.server(unixsocket=path, requirepass="secret")
    bench = Benchmark(environment, server)
    expect("NOAUTH" in bench.fails(1, "-t", "get", "-n", "10"), "without the password")
    output = subprocess.run(
        [bench.tool, "benchmark", "-s", path, "-a", "secret", "-t", "set", "-n", "777", "--json", "-"],
        capture_output=True, text=True, timeout=60)
    expect_equal(output.returncode, 0, output.stderr)
    expect_equal(json.loads(output.stdout)["tests"][0]["requests"], 777, "requests over a unix socket")


def check_cluster(environment):
    """Every request reaches the owner of its slot, while slots move as well."""
    cluster = environment.cluster(3, 0)
    primaries = [shard[0] for shard in cluster.shards]
    bench = Benchmark(environment, primaries[0])
    for options in ([], ["-P", "16"], ["--threads", "2"], ["--rate", "20000"]):
        for node in primaries:
            node.call("CONFIG", "RESETSTAT")
        (test,) = bench.run("--cluster", "-t", "set", "-n", "10007", "-r", "100000", *options)["tests"]
        expect_equal((test["requests"], test["errors"], test["moved"]), (10007, 0, 0), f"requests with {options}")
        counts = [calls(node, "set") for node in primaries]
        expect_equal(sum(counts), 10007, f"SET calls with {options}")
        expect(min(counts) > 2500, f"spread over the nodes: {counts}")
    (test,) = bench.run("--cluster", "-t", "mset", "-n", "1000", "-r", "1000")["tests"]
    expect_equal(test["errors"], 0, "MSET with hash tags")

    source, target = primaries[0], primaries[1]
    key = key_in_slots(source.my_line().slots)
    slot = key_slot(key)
    source.call("SET", key, "0")
    for node in primaries:
        node.call("CONFIG", "RESETSTAT")
    process = bench.start("--cluster", "--duration", "6", "--json", "-", "--threads", "2", "incr", key)
    wait_until(lambda: calls(source, "incr") > 1000, 10, "the load has begun")
    target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source.my_id())
    source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target.my_id())
    expect_equal(source.call("MIGRATE", target.host, target.port, key, 0, 5000), b"OK", "MIGRATE")
    # From here on the owner answers ASK.
    asked = calls(target, "incr")
    wait_until(lambda: calls(target, "incr") > asked + 100, 10, "requests follow ASK")
    for node in (target, source, primaries[2]):
        node.call("CLUSTER", "SETSLOT", slot, "NODE", target.my_id())
    output = process.communicate(timeout=60)[0]
    expect_equal(process.returncode, 0, output)
    test = json.loads(output[output.index("{"):])["tests"][0]
    expect(test["moved"] > 0 and test["ask"] > 0, f"redirections: {test['moved']} MOVED, {test['ask']} ASK")
    expect_equal(test["errors"], 0, "errors while a slot moves")
    expect_equal(int(target.call("GET", key)), test["requests"], "increments while a slot moves")


def check_failover_under_load(environment):
    """A replica takes over while requests are under way in batches: the tool learns of a node that it did not know."""
    cluster = environment.cluster(3, 1)
    primary, replica = cluster.shards[0]
    process = Benchmark(environment, primary).start(
        "--cluster", "--duration", "4", "--json", "-", "-P", "16", "-t", "set", "-r", "100000")
    wait_until(lambda: calls(primary, "set") > 10000, 10, "the load has begun")
    replica.call("CLUSTER", "FAILOVER")
    wait_until(lambda: replica.role() == "master", 10, "the replica is elected")
    served = calls(replica, "set")
    wait_until(lambda: calls(replica, "set") > served + 1000, 10, "requests reach the new primary")
    output = process.communicate(timeout=60)[0]
    expect_equal(process.returncode, 0, output)
    test = json.loads(output[output.index("{"):])["tests"][0]
    expect(test["moved"] > 0 and test["errors"] == 0, f"redirected: {test['moved']} MOVED, {test['errors']} errors")


class Benchmark:
    """Runs the tool against one server."""

    def __init__(self, environment, server):
        if not environment.options.tool:
            raise Skipped("no martlet program is built: name one with --tool")
        self.environment = environment
        self.tool = os.path.abspath(environment.options.tool)
        self.server = server
        self.files = 0

    def command(self, *options):
        # Few open files: the tool has to raise its own limit.
        limited = ["sh", "-c", 'ulimit -Sn 100 && exec "$0" "$@"', self.tool]
        return [*limited, "benchmark", "-p", str(self.server.port), *map(str, options)]

    def run(self, *options):
        result = subprocess.run(
            self.command("--json", "-", *options), capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        if result.returncode != 0:
            raise Failure(f"benchmark {options}: status {result.returncode}: {result.stdout[-2000:]}{result.stderr}")
        return json.loads(result.stdout)

    def fails(self, status, *options):
        result = subprocess.run(
            self.command(*options), capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        output = result.stdout + result.stderr
        expect_equal(result.returncode, status, f"benchmark {options}: {output}")
        return output

    def start(self, *options):
        return subprocess.Popen(
            self.command(*options), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True)

    def file(self, text):
        self.files += 1
        path = os.path.join(self.environment.folder, f"workload-{self.files}.txt")
        with open(path, "w") as file:
            file.write(text)
        return path


def calls(server, command):
    """How often a server ran a command, by INFO commandstats."""
    line = server.info("commandstats").get(f"cmdstat_{command}")
    return int(re.search(r"calls=(\d+)", str(line)).group(1)) if line else 0


def parse_keys(keyspace):
    return {name: int(re.search(r"keys=(\d+)", str(line)).group(1)) for name, line in keyspace.items()}
