"""The programs that make load, one small adapter each, and what they send."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

from servers import ROOT

CONNECTIONS = 50
VALUE_BYTES = 64

# __rand_int__: a key number of 12 digits; __data__: a value of VALUE_BYTES; KEY: `key:__rand_int__`.
WORKLOADS = {
    "GET": "GET KEY",
    "SET": "SET KEY __data__",
    "INCR": "INCR counter:__rand_int__",
    "MSET of 10": "MSET" + " KEY __data__" * 10,
    "MGET of 10": "MGET" + " KEY" * 10,
    "EXPIRE": "EXPIRE KEY 10000",
    "DEL": "DEL KEY",
    "MISS": "GET absent:__rand_int__",
}


class Result:
    """What a run printed: requests per second, and latencies in ms as {"p50": …, "p99": …, "p99.9": …, "max": …}; at a
    fixed rate also by how much the generator itself was late at most."""

    def __init__(self, text):
        self.rate = float(re.search(r"throughput summary: ([\d.]+)", text).group(1))
        names, numbers = re.search(r"latency summary \(msec\):\n(.*)\n(.*)\n", text).groups()
        self.latency = dict(zip(names.split(), map(float, numbers.split())))
        # The first step of the distribution at or above 99.9 %: redis-benchmark prints no closer one.
        steps = re.findall(r"([\d.]+)% <= ([\d.]+) milliseconds", text)
        self.latency["p99.9"] = next(float(ms) for percent, ms in steps if float(percent) >= 99.9)
        late = re.search(r"sent late by its own fault: .*max ([\d.]+)", text)
        self.generator_late = float(late.group(1)) if late else 0.0


class Generator:
    """A program with redis-benchmark's options and report; redis-benchmark itself cannot take keys in order, hold a
    rate, send several commands as one request, or put values into commands that are not its own tests."""

    def __init__(self, program):
        self.is_martlet = os.path.basename(program) == "martlet"
        self.command = [program, "benchmark"] if self.is_martlet else [program]
        self.name = " ".join([os.path.basename(program), *self.command[1:]])

    def run(self, port, workload, requests, pipeline, keys, cluster=False, in_order=False, rate=None):
        """`workload`: a name of WORKLOADS, a command, or its words if they have blanks; a `;` stands between commands that
        are one request."""
        key = "key:__rand_int__"
        if cluster and not self.is_martlet:
            # It finds a node by a tag only, one tag for each slot: as many keys in all.
            key, keys = "key:{tag}:__rand_int__", max(1, keys // 16384)
        if isinstance(workload, str):
            workload = WORKLOADS.get(workload, workload).replace("KEY", key).split()
        words = list(workload)
        command = [*self.command, "-p", str(port), "-c", str(CONNECTIONS), "-n", str(requests), "-r", str(keys),
                   "-P", str(pipeline), "--precision", "3"]
        if cluster:
            # One thread, so that the servers have the other cores.
            command += ["--cluster", "--threads", "1"]
        if in_order and self.is_martlet:
            command += ["--keys", "sequential"]
        if rate:
            command += ["--rate", str(rate)]
        if self.is_martlet:
            command += ["-d", str(VALUE_BYTES)]
        else:
            words = [word.replace("__data__", "x" * VALUE_BYTES) for word in words]
        with tempfile.NamedTemporaryFile("w") as file:
            if ";" in words:
                file.write("1 " + shlex.join(words).replace("';'", ";"))
                file.flush()
                words = ["--workload", file.name]
            command += words
            result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0 or "throughput summary" not in result.stdout or "errors: " in result.stdout:
            sys.exit(f"{' '.join(command)} failed: {result.stdout[-2000:]}{result.stderr}")
        return Result(result.stdout.replace("\r", "\n"))


def generator(choice=None):
    """`redis-benchmark`, `martlet` or the path of either; the default is the martlet tool if it is built."""
    built = os.path.join(ROOT, ".build", "release", "martlet")
    if choice in (None, "martlet"):
        choice = built if choice or os.access(built, os.X_OK) else "redis-benchmark"
    program = shutil.which(choice)
    return Generator(program) if program else sys.exit(f"no {choice}")
