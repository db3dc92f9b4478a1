"""Random commands against a real Redis server: replies are the same, byte for byte."""

import random

from differential import FAMILIES, compare
from harness import RawConnection


def check_every_family(environment):
    """Each family of commands, in RESP2 and RESP3, from seeds that are shown."""
    one = environment.server()
    other = environment.server("redis")
    count = 100_000 if environment.is_long else 4000
    for family in FAMILIES:
        for resp3 in (False, True):
            seed = random.randrange(10**6)
            environment.note(f"{family}{', RESP3' if resp3 else ''}: {count} commands from seed {seed}")
            with RawConnection(one.host, one.port, 30) as first, RawConnection(other.host, other.port, 30) as second:
                compare(first, second, family, seed, count, resp3)
