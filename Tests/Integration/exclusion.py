#!/usr/bin/env python3
"""Mutual exclusion, seen from outside of the lock.

Whoever holds a lock writes down from when until when, in nanoseconds of CLOCK_MONOTONIC, which all processes of a machine
share. `overlaps` then finds holders that were inside at one moment. It knows nothing of the lock that it judges.

Run as a program this file is some contenders for a Redlock, one thread each; it prints what they saw as JSON.
"""

import argparse
import json
import logging
import random
import sys
import threading
import time
from typing import NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


class Hold(NamedTuple):
    """One client held the lock from `acquired` until `until`, both in nanoseconds; `until` itself is outside."""

    client: str
    acquired: int
    until: int


def overlaps(history):
    """Pairs of holds that share a moment: the one that reaches furthest of those begun before, and the later one.

    O(n log n). A client that meets itself counts too: it may not take again what it still has.
    """
    found = []
    furthest = None
    for hold in sorted(history, key=lambda hold: (hold.acquired, hold.until)):
        if hold.until <= hold.acquired:
            continue
        if furthest is not None and hold.acquired < furthest.until:
            found.append((furthest, hold))
        if furthest is None or hold.until > furthest.until:
            furthest = hold
    return found


def validity_nanoseconds(milliseconds):
    """How long, from before the first request, whoever acquired a Redlock may trust it: its time less the drift that the
    algorithm allows clocks, a hundredth and 2 ms."""
    return milliseconds * 990_000 - 2_000_000


def open_masters(ports, timeout=0.25):
    """Clients of the nodes as Redlock wants them: a short time-out, and no tries that it does not know of."""
    return [
        redis.Redis(host="127.0.0.1", port=port, socket_timeout=timeout, socket_connect_timeout=timeout,
                    retry=Retry(NoBackoff(), 0))
        for port in ports]


class Contender:
    """One client: takes the lock, holds it for a while, gives it back; now and then it dies with the lock in its hand, so
    that others have to wait for the end of its time."""

    def __init__(self, name, options):
        self.name = name
        self.options = options
        self.random = random.Random(name)
        self.masters = open_masters(options.ports)
        self.holds = []
        self.refused = 0
        self.too_late = 0
        self.not_released = 0
        self.longest_wait = 0.0

    def run(self):
        import pottery
        validity = validity_nanoseconds(self.options.milliseconds)
        waiting_since = time.monotonic()
        while time.monotonic() < self.options.end:
            lock = pottery.Redlock(
                key="contended", masters=self.masters, auto_release_time=self.options.milliseconds / 1000)
            begun = time.monotonic_ns()
            is_acquired = lock.acquire(blocking=False)
            acquired = time.monotonic_ns()
            if not is_acquired:
                self.refused += 1
                time.sleep(self.random.uniform(0, self.options.pause))
                continue
            until = begun + validity
            if acquired >= until:
                # The library found it valid, but this thread came too late to make use of it.
                self.too_late += 1
                continue
            self.longest_wait = max(self.longest_wait, time.monotonic() - waiting_since)
            is_dying = self.random.random() < 0.05
            if is_dying:
                time.sleep((until - acquired) / 1e9)
            else:
                time.sleep(self.random.uniform(0, 0.02))
                until = min(until, time.monotonic_ns())
                try:
                    lock.release()
                except pottery.PrimitiveError:
                    self.not_released += 1
            self.holds.append(Hold(self.name, acquired, until))
            waiting_since = time.monotonic()
            time.sleep(self.random.uniform(0, self.options.pause))
        # Whoever never got it has waited all the time.
        self.longest_wait = max(self.longest_wait, time.monotonic() - waiting_since)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ports", type=int, nargs="+")
    parser.add_argument("--names", required=True, help="the contenders' names, comma separated")
    parser.add_argument("--milliseconds", type=int, required=True, help="the lock's time")
    parser.add_argument("--pause", type=float, required=True, help="seconds between two tries, at most")
    parser.add_argument("--seconds", type=float, required=True, help="how long to contend")
    options = parser.parse_args()
    logging.getLogger("pottery").addHandler(logging.NullHandler())
    options.end = time.monotonic() + options.seconds
    contenders = [Contender(name, options) for name in options.names.split(",")]
    threads = [threading.Thread(target=contender.run) for contender in contenders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    json.dump([
        {"holds": contender.holds, "refused": contender.refused, "too_late": contender.too_late,
         "not_released": contender.not_released, "longest_wait": contender.longest_wait}
        for contender in contenders], sys.stdout)


if __name__ == "__main__":
    main()
