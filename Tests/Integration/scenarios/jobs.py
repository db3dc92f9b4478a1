"""Queues of jobs as libraries build them of lists, sorted sets, scripts, transactions and pub/sub: python-rq and Celery."""

import json
import os
import signal
import sys
from datetime import timedelta

from harness import Skipped, expect, expect_equal, wait_until

WORKERS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "workers")


def check_rq(environment):
    """python-rq: jobs run by a burst worker, failed, tried again, made dependent, limited and unique; then a lasting
    worker with its scheduler that runs a delayed job, stops one, and ends after the job in its hands."""
    try:
        import rq
        from rq.command import send_shutdown_command, send_stop_job_command
        from rq.registry import FailedJobRegistry, ScheduledJobRegistry
    except ImportError:
        raise Skipped("rq is not installed") from None
    server = environment.server()
    client = server.open_client()
    queue = rq.Queue("default", connection=client)

    def start(name, *options):
        return environment.process(
            name, sys.executable, "-m", "rq.cli", "worker", "--url", f"redis://{server.address}", "--name", name,
            *options, "default", PYTHONPATH=WORKERS)

    sums = [queue.enqueue("rq_jobs.add", number, number) for number in range(5)]
    sums += queue.enqueue_many([rq.Queue.prepare_data("rq_jobs.add", (number, 1)) for number in range(5)])
    failing = queue.enqueue("rq_jobs.fail")
    retried = queue.enqueue("rq_jobs.succeed_at_second_try", retry=rq.Retry(max=2))
    dependent = queue.enqueue("rq_jobs.add", 20, 22, depends_on=[sums[0], retried])
    expect_equal(dependent.get_status(), "deferred", "a job that waits for another")
    # By scripts.
    unique = queue.enqueue("rq_jobs.add", 1, 2, job_id="unique", unique=True)
    try:
        queue.enqueue("rq_jobs.add", 1, 2, job_id="unique", unique=True)
        expect(False, "a second job with that identifier")
    except rq.exceptions.DuplicateJobError:
        pass
    limited = [
        queue.enqueue("rq_jobs.add", number, 5, rate_limit=rq.rate_limit.RateLimit("limit", 1)) for number in range(3)]
    expect_equal([job.get_status() for job in limited], ["queued", "rate_limited", "rate_limited"], "limited jobs")
    expect_equal(start("burst", "--burst").wait(60), 0, "the status of the burst worker")
    values = [number * 2 for number in range(5)] + [number + 1 for number in range(5)]
    expect_equal([job.return_value(refresh=True) for job in sums], values, "results")
    expect_equal([job.return_value(refresh=True) for job in limited], [5, 6, 7], "results of limited jobs")
    expect_equal(unique.return_value(refresh=True), 3, "the unique job's result")
    expect_equal(failing.get_status(), "failed", "the failing job")
    expect("ValueError: as it was told" in failing.latest_result().exc_string, "its exception is kept")
    expect_equal(FailedJobRegistry(queue=queue).get_job_ids(), [failing.id], "jobs that failed")
    expect_equal(retried.return_value(refresh=True), "at last", "the job that succeeds at the second try")
    expect_equal(dependent.return_value(refresh=True), 42, "the job that waited for another")
    expect(0 < client.ttl(f"rq:job:{sums[0].id}") <= 500, "a result's time to live")
    expect_equal((queue.count, rq.Worker.all(connection=client)), (0, []), "jobs left, and workers")

    lasting = start("lasting", "--with-scheduler")
    delayed = queue.enqueue_in(timedelta(seconds=1), "rq_jobs.add", 3, 4)
    expect_equal(ScheduledJobRegistry(queue=queue).get_job_ids(), [delayed.id], "jobs that are due later")
    wait_until(lambda: delayed.return_value(refresh=True) == 7, 20, "the delayed job is done")
    stopped = queue.enqueue("rq_jobs.nap", 60)
    wait_until(lambda: stopped.get_status() == "started", 20, "a long job has begun")
    send_stop_job_command(client, stopped.id)
    wait_until(lambda: stopped.get_status() == "stopped", 20, "the long job is stopped")
    last, never = queue.enqueue("rq_jobs.nap", 0.5), queue.enqueue("rq_jobs.add", 1, 1)
    wait_until(lambda: last.get_status() == "started", 20, "the last job has begun")
    lasting.send_signal(signal.SIGTERM)
    expect_equal(lasting.wait(60), 0, "the lasting worker's status")
    expect_equal(last.return_value(refresh=True), "rested", "the job that the worker had begun")
    expect_equal((never.get_status(), queue.count), ("queued", 1), "the job behind it")
    expect_equal(rq.Worker.all(connection=client), [], "workers")

    # One that waits for jobs is ended through a channel.
    waiting = start("waiting")
    wait_until(lambda: never.return_value(refresh=True) == 2, 20, "the next worker does it")
    wait_until(lambda: server.info("clients")["blocked_clients"] == "1", 20, "the worker waits")
    send_shutdown_command(client, "waiting")
    expect_equal(waiting.wait(60), 0, "the waiting worker's status")


def check_celery(environment):
    """Celery with the solo pool: results, failures, retries, groups, chains, chords, a delayed and a revoked task, remote
    control, and a worker that gives back what it had reserved when it is told to end."""
    try:
        import celery
    except ImportError:
        raise Skipped("celery is not installed") from None
    server = environment.server()
    url = f"redis://{server.address}/0"
    os.environ["MARTLET_URL"] = url
    sys.path.insert(0, WORKERS)
    try:
        import celery_tasks as tasks
    finally:
        sys.path.remove(WORKERS)
    tasks.app.conf.update(broker_url=url, result_backend=url)

    def start(name):
        return environment.process(
            name, sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "--pool", "solo", "--events",
            "--hostname", f"{name}@here", "--loglevel", "info", PYTHONPATH=WORKERS, MARTLET_URL=url)

    worker = start("first")
    seconds = 60
    expect_equal([tasks.add.delay(number, 1).get(seconds) for number in range(10)], list(range(1, 11)), "results")
    failing = tasks.fail.delay()
    expect_equal(repr(failing.get(seconds, propagate=False)), "ValueError('as it was told')", "the error")
    expect_equal(failing.state, "FAILURE", "the failing task's state")
    expect_equal(tasks.succeed_at_third_try.delay().get(seconds), 2, "tries before the success")
    delayed = tasks.add.apply_async((3, 4), countdown=1)
    expect_equal(celery.group(tasks.add.s(n, n) for n in range(5))().get(seconds), [0, 2, 4, 6, 8], "a group")
    expect_equal(celery.chain(tasks.add.s(1, 2), tasks.add.s(4))().get(seconds), 7, "a chain")
    expect_equal(celery.chord((tasks.add.s(n, n) for n in range(5)), tasks.total.s())().get(seconds), 20, "a chord")
    expect_equal(delayed.get(seconds), 7, "the delayed task")
    expect(0 < server.client.ttl(f"celery-task-meta-{delayed.id}") <= 86400, "a result's time to live")

    # Remote control: broadcasts through pub/sub, replies through a list.
    control = tasks.app.control
    expect_equal(control.ping(timeout=10, limit=1), [{"first@here": {"ok": "pong"}}], "ping")
    revoked, held = tasks.add.apply_async((1, 1), countdown=3600), tasks.add.apply_async((5, 6), countdown=3600)
    inspect = control.inspect(timeout=10, limit=1)

    def scheduled():
        return {entry["request"]["id"] for entry in (inspect.scheduled() or {}).get("first@here", [])}

    wait_until(lambda: scheduled() == {revoked.id, held.id}, 20, "the worker has both tasks that are due in an hour")
    control.revoke(revoked.id, reply=True, timeout=10, limit=1)
    wait_until(lambda: revoked.id in (inspect.revoked() or {}).get("first@here", []), 20, "one of them is revoked")
    expect_equal(server.client.llen("celery"), 0, "tasks in the queue")
    worker.send_signal(signal.SIGTERM)
    expect_equal(worker.wait(60), 0, "the worker's status")
    given_back = {json.loads(entry)["headers"]["id"] for entry in server.client.lrange("celery", 0, -1)}
    expect(held.id in given_back, "the task that was reserved is in the queue again")
    expect_equal(server.client.hlen("unacked"), 0, "tasks that nobody has acknowledged")

    server.client.delete("celery")
    waiting = start("second")
    napping = tasks.nap.delay(0.5)
    wait_until(lambda: napping.state == "STARTED", 20, "the second worker has begun a task")
    control.shutdown()
    expect_equal(waiting.wait(60), 0, "the second worker's status")
    expect_equal(napping.get(seconds), "rested", "the task that it had begun")
    tasks.app.close()
