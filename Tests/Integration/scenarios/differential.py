"""Random commands against a real Redis server: replies are the same, byte for byte, and so is what replicas get."""

import random

from differential import BATCH, FAMILIES, Source, compare, read_raw
from harness import RawConnection, encode, expect_equal, same_data, wait_until


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


def check_replicas(environment):
    """What the log says makes the same keys, values and times of a Redis replica and of one of our own."""
    primary = environment.server()
    replicas = [environment.server(kind, replicaof=f"127.0.0.1 {primary.port}") for kind in ("redis", "martlet")]
    for replica in replicas:
        wait_until(lambda: replica.info("replication")["master_link_status"] == "up", 20, f"{replica} follows")
    for family in FAMILIES:
        seed = random.randrange(10**6)
        count = 50_000 if environment.is_long else 3000
        environment.note(f"{family}: {count} commands from seed {seed}")
        source = Source(seed, family, makes_choices=True)
        with RawConnection(primary.host, primary.port, 30) as connection:
            for _ in range(0, count, BATCH):
                commands = [FAMILIES[family](source) for _ in range(BATCH)]
                connection.send(b"".join(encode(*command) for command in commands))
                for _ in commands:
                    read_raw(connection)
        offset = int(primary.info("replication")["master_repl_offset"])
        for replica in replicas:
            wait_until(
                lambda: int(replica.info("replication")["slave_repl_offset"]) >= offset, 20, f"{replica} has caught up")
            expect_equal(same_data(primary, replica), "", f"{family}, seed {seed}: what {replica} holds differently")
