"""What python-rq's workers are asked to do."""

import time

from rq import get_current_job


def add(one, other):
    return one + other


def fail():
    raise ValueError("as it was told")


def succeed_at_second_try():
    """Counts its own tries on the server."""
    job = get_current_job()
    if job.connection.incr(f"tries:{job.id}") == 1:
        raise ValueError("not yet")
    return "at last"


def nap(seconds):
    time.sleep(seconds)
    return "rested"
