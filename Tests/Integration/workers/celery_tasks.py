"""What Celery's worker is asked to do; the server is named by MARTLET_URL."""

import os
import time

from celery import Celery

app = Celery("celery_tasks", broker=os.environ["MARTLET_URL"], backend=os.environ["MARTLET_URL"])
app.conf.update(
    task_track_started=True,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    # A worker that is told to end gives back what it has not begun.
    task_acks_late=True,
)


@app.task
def add(one, other):
    return one + other


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def fail():
    raise ValueError("as it was told")


@app.task(bind=True, max_retries=3, default_retry_delay=0)
def succeed_at_third_try(self):
    if self.request.retries < 2:
        raise self.retry()
    return self.request.retries


@app.task
def nap(seconds):
    time.sleep(seconds)
    return "rested"
