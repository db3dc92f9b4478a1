"""Clients that wait for keys, over real connections: order, ends on time, and nothing lost with a client that goes."""

import collections
import random
import threading
import time

from harness import RawConnection, encode, expect, expect_equal, wait_until

THREADS = [{}, {"io_threads": 3, "io_threads_always_active": "yes"}]


def blocked(server, count):
    wait_until(lambda: int(server.info("clients")["blocked_clients"]) == count, 10, f"{count} clients wait")


def check_waits_end_on_time(environment):
    """A wait ends a few milliseconds after its time, not with the next periodic work."""
    for directives in THREADS:
        server = environment.server(**directives)
        with RawConnection("127.0.0.1", server.port) as client:
            delays = []
            for milliseconds in (1, 20, 33, 47, 150):
                start = time.monotonic()
                expect_equal(client.call("BLPOP", "none", milliseconds / 1000), None, "the answer of a wait that is over")
                delays.append(time.monotonic() - start - milliseconds / 1000)
            expect(min(delays) >= -0.002, f"none ends early: {delays}")
            # Others have to run too; but the next periodic work is up to 100 ms away each time.
            expect(sorted(delays)[2] < 0.03, f"they end on time: {delays}")


def check_pipelines_go_on(environment):
    """What a client sent behind a command that waits runs when the wait is over."""
    for directives in THREADS:
        server = environment.server(**directives)
        with RawConnection("127.0.0.1", server.port) as client:
            client.send(encode("BLPOP", "list", 0) + encode("SET", "after", 1) + encode("BLPOP", "list", 0))
            blocked(server, 1)
            expect_equal(server.call("EXISTS", "after"), 0, "what follows waits")
            server.call("RPUSH", "list", "a", "b")
            expect_equal(client.read_reply(), [b"list", b"a"], "the first wait")
            expect_equal(client.read_reply(), b"OK", "what follows")
            expect_equal(client.read_reply(), [b"list", b"b"], "the second, which need not wait")


def check_nothing_is_lost_with_clients(environment):
    """Clients that close their connections while they wait take no element with them."""
    for directives in THREADS:
        server = environment.server(**directives)
        for round in range(100 if environment.is_long else 20):
            clients = [RawConnection("127.0.0.1", server.port) for _ in range(8)]
            for client in clients:
                client.send(encode("BLPOP", "list", 0))
            blocked(server, 8)
            for client in clients[:-1]:
                client.close()
            blocked(server, 1)
            server.call("RPUSH", "list", round)
            expect_equal(clients[-1].read_reply(), [b"list", str(round).encode()], "who is left gets the element")
            clients[-1].close()
        expect_equal(server.call("EXISTS", "list"), 0, "lists left")


def check_queue(environment):
    """Several producers and consumers, some of which move elements on: each element arrives once, in its producer's order."""
    for directives in THREADS:
        server = environment.server(**directives)
        count = 5000 if environment.is_long else 800
        seed = random.randrange(10**6)
        environment.note(f"seed {seed}")
        received, errors = collections.defaultdict(list), []

        def guarded(work):
            def run(*arguments):
                try:
                    with RawConnection("127.0.0.1", server.port) as connection:
                        work(connection, *arguments)
                except Exception as error:
                    errors.append(error)
            return run

        @guarded
        def produce(connection, number):
            picker = random.Random(seed + number)
            sent = 0
            while sent < count:
                batch = range(sent, min(count, sent + picker.choice((1, 1, 3, 20))))
                connection.call("RPUSH", "in", *(f"{number}:{index}" for index in batch))
                sent = batch.stop

        @guarded
        def move(connection):
            while connection.call("BLMOVE", "in", "out", "LEFT", "RIGHT", 1) is not None:
                pass

        @guarded
        def consume(connection, command):
            while True:
                reply = connection.call(*command)
                if reply is None:
                    return
                elements = reply[1] if isinstance(reply[1], list) else [reply[1]]
                stamp = time.monotonic()
                for element in elements:
                    number, index = element.split(b":")
                    received[int(number)].append((stamp, int(index)))

        threads = [threading.Thread(target=move) for _ in range(2)]
        threads += [
            threading.Thread(target=consume, args=(command,))
            for command in (["BLPOP", "none", "out", 2], ["BLMPOP", 2, 1, "out", "LEFT", "COUNT", 3])]
        threads += [threading.Thread(target=produce, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        expect(not errors, f"no client fails: {errors}")
        for number in range(3):
            expect_equal(
                sorted(index for _, index in received[number]), list(range(count)), f"elements of producer {number}")
        expect_equal(server.call("EXISTS", "in", "out"), 0, "lists left")
