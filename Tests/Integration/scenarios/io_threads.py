"""Several threads for the connections (io-threads): the order, the ends and the waits of connections that other threads own."""

import random
import socket
import threading
import time

from harness import RawConnection, encode, expect, expect_equal, shorten, wait_until

# Connections are shared at once, not only when the command thread is busy.
THREADS = {"io_threads": 3, "io_threads_always_active": "yes"}


def connections(server, count):
    return [RawConnection("127.0.0.1", server.port) for _ in range(count)]


def expect_closed(client, after):
    try:
        data = client.read_some()
    except ConnectionError:
        return
    expect(False, f"after {after} came {data}")


def check_pipelines_in_order(environment):
    """Many clients with pipelines of any size, in pieces of any size, get their own replies in order."""
    server = environment.server(**THREADS)
    seed = random.randrange(1 << 30)
    environment.note(f"seed {seed}")
    errors = []

    def work(number):
        picker = random.Random(seed + number)
        try:
            with RawConnection("127.0.0.1", server.port) as connection:
                counter = 0
                for _ in range(400 if environment.is_long else 60):
                    data, expected = b"", []
                    for _ in range(picker.choice((1, 2, 16, 300))):
                        kind = picker.randrange(4)
                        if kind == 0:
                            counter += 1
                            data += encode("INCR", f"counter:{number}")
                            expected.append(counter)
                        elif kind == 1:
                            text = f"{number}-{picker.random()}"
                            data += encode("ECHO", text)
                            expected.append(text.encode())
                        elif kind == 2:
                            value = bytes(picker.choice((0, 10, 100, 40000)))
                            data += encode("SET", f"value:{number}", value) + encode("STRLEN", f"value:{number}")
                            expected += [b"OK", len(value)]
                        else:
                            data += b"PING\r\n"
                            expected.append(b"PONG")
                    while data:
                        size = picker.choice((1, 100, 20000, 1 << 20))
                        connection.send(data[:size])
                        data = data[size:]
                    for reply in expected:
                        expect_equal(connection.read_reply(), reply, f"a reply to client {number}")
        except Exception as error:  # pylint: disable=broad-except
            errors.append(f"client {number}: {error!r}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(not errors, "; ".join(errors[:3]))
    expect(int(server.info("stats")["io_threaded_reads_processed"]) > 0, "no I/O thread has read anything")


def check_ends_of_connections(environment):
    """Clients that leave, are killed, quit with replies on the way or read nothing: each ends alone, and all memory comes back."""
    server = environment.server(**THREADS)
    server.call("SET", "big", bytes(200000))
    for _ in range(20 if environment.is_long else 4):
        clients = connections(server, 30)
        victims = []
        for index, client in enumerate(clients):
            if index % 5 == 0:
                client.send(encode("GET", "big") * 20)  # leaves without reading
                client.close()
            elif index % 5 == 1:
                client.send(encode("GET", "big")[:-3])  # leaves in the middle of a request
                client.close()
            elif index % 5 == 2:
                victims.append((client, client.call("CLIENT", "ID")))
            elif index % 5 == 3:
                client.send(encode("GET", "big") * 20 + encode("QUIT") + encode("SET", "after-quit", "1"))
                for _ in range(20):
                    expect_equal(len(client.read_reply()), 200000, "a reply before QUIT")
                expect_equal(client.read_reply(), b"OK", "the reply to QUIT")
                expect_closed(client, "QUIT")
                client.close()
            else:
                client.send(b"*1\r\n$-5\r\n")
                expect(client.read_line().startswith(b"-ERR Protocol error"), "a protocol error is told")
                expect_closed(client, "a protocol error")
                client.close()
        for client, number in victims:
            client.send(encode("GET", "big") * 50)  # its replies are on the way
            expect_equal(server.call("CLIENT", "KILL", "ID", number), 1, "CLIENT KILL")
            client.close()
    expect_equal(server.call("EXISTS", "after-quit"), 0, "a command after QUIT")
    wait_until(lambda: int(server.info("clients")["connected_clients"]) == 1, 10, "only the harness is connected")


def check_output_limit(environment):
    """A client that does not read is closed when its replies exceed the limit, whichever thread holds them."""
    server = environment.server(**THREADS, client_output_buffer_limit="normal 20mb 0 0")
    server.call("SET", "big", bytes(1 << 20))
    clients = connections(server, 3)
    for client in clients:
        client.send(encode("GET", "big") * 100)
    wait_until(lambda: int(server.info("clients")["connected_clients"]) == 1, 20, "the clients are closed")
    for client in clients:
        client.close()


def check_unsent_replies_are_counted(environment):
    """Replies that wait at an I/O thread count for the limit with every batch, and are seen in CLIENT LIST."""
    server = environment.server(
        io_threads=2, io_threads_always_active="yes", hz=1, client_output_buffer_limit="normal 1mb 0 0")
    server.call("SET", "value", bytes(60000))
    for _ in range(2):  # one of every thread
        with RawConnection("127.0.0.1", server.port) as client, RawConnection("127.0.0.1", server.port) as observer:
            number = client.call("CLIENT", "ID")
            observer.call("DEL", "count")
            count, unsent = 0, 0
            while count < 3000:
                try:
                    client.send(encode("INCR", "count") + encode("GET", "value"))
                except OSError:
                    break
                count += 1
                while int(observer.call("GET", "count") or 0) < count:
                    if not observer.call("CLIENT", "LIST", "ID", number):
                        break
                line = dict(field.split("=", 1) for field in observer.call("CLIENT", "LIST", "ID", number).decode().split())
                if not line:
                    break
                unsent = max(unsent, int(line["obl"]) + int(line["omem"]))
                expect(int(line["tot-mem"]) > int(line["omem"]), f"tot-mem of {line}")
            # What the sockets on both sides hold comes on top of the limit.
            expect(count < 600, f"{count} replies of 60,000 bytes passed a limit of 1 MB")
            expect(unsent > 60000, f"CLIENT LIST showed {unsent} unsent bytes")


def check_waits(environment):
    """Parked clients keep what they sent behind the command that waits, and go on with it."""
    server = environment.server(**THREADS)
    clients = connections(server, 6)
    expect_equal(server.call("CLIENT", "PAUSE", "60000", "WRITE"), b"OK", "CLIENT PAUSE")
    for number, client in enumerate(clients):
        client.send(encode("ECHO", "before") + encode("SET", f"key:{number}", "1") + encode("ECHO", "behind"))
        expect_equal(client.read_reply(), b"before", "what comes before the pause")
        client.send(encode("ECHO", "later"))
    wait_until(lambda: int(server.info("clients")["blocked_clients"]) == 6, 10, "six clients wait")
    clients[0].close()  # one leaves while it waits
    wait_until(lambda: int(server.info("clients")["blocked_clients"]) == 5, 10, "five clients wait")
    expect_equal(server.call("EXISTS", "key:1"), 0, "a write during the pause")
    expect_equal(server.call("CLIENT", "UNPAUSE"), b"OK", "CLIENT UNPAUSE")
    for client in clients[1:]:
        expect_equal([client.read_reply() for _ in range(3)], [b"OK", b"behind", b"later"], "what comes after it")
    with RawConnection("127.0.0.1", server.port) as client:
        client.send(encode("SET", "a", "b") + encode("WAIT", "1", "100") + encode("GET", "a"))
        expect_equal([client.read_reply() for _ in range(3)], [b"OK", 0, b"b"], "WAIT and what follows")


def check_long_pipelines_of_waiting_clients(environment):
    """What a parked client has sent takes little more than its bytes when it goes on, and is executed before its end is seen."""
    count = 1000000
    for threads in (1, 2):
        server = environment.server(io_threads=threads, io_threads_always_active="yes")
        clients = connections(server, 2)  # one of every thread
        for client in clients:
            expect_equal(server.call("CLIENT", "PAUSE", "600000", "WRITE"), b"OK", "CLIENT PAUSE")
            before = peak_kilobytes(server)
            client.send(encode("SET", "count", "0") + b"INCR count\r\n" * count)
            expect_equal(server.call("CLIENT", "UNPAUSE"), b"OK", "CLIENT UNPAUSE")
            client.socket.shutdown(socket.SHUT_WR)
            wait_until(lambda: server.call("GET", "count") == b"%d" % count, 30, "all that it sent is executed")
            used = peak_kilobytes(server) - before
            expect(used < 100000, f"{used} KB for {count} requests in {count * 12 // 1000} KB, {threads} threads")
            client.close()


def peak_kilobytes(server):
    with open(f"/proc/{server.pid}/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM:")).split()[1])


def check_replicas(environment):
    """Replicas come over connections of I/O threads, go on at the command thread, and agree in the end."""
    primary = environment.server(**THREADS)
    for number in range(2000):
        primary.call("SET", f"key:{number}", number)
    replicas = [environment.server(**THREADS, replicaof=f"127.0.0.1 {primary.port}") for _ in range(3)]
    stop = time.monotonic() + (20 if environment.is_long else 2)
    count = 0
    with RawConnection("127.0.0.1", primary.port) as client:
        while time.monotonic() < stop:
            client.send(encode("INCR", "counter") * 50)
            for _ in range(50):
                count += 1
                expect_equal(client.read_reply(), count, "INCR")
            if count % 500 == 0:  # links break and come again
                primary.call("CLIENT", "KILL", "TYPE", "replica")
        expect_equal(client.call("SET", "last", "1"), b"OK", "the last write")
    for replica in replicas:
        wait_until(lambda replica=replica: replica.call("GET", "last") == b"1", 20, "the replica has the last write")
        expect_equal(int(replica.call("GET", "counter")), count, "the counter at a replica")
        expect_equal(replica.call("DBSIZE"), primary.call("DBSIZE"), "keys of a replica")


def check_balance(environment):
    """Connections move to I/O threads while the command thread is busy and come back when it is not; no reply is lost."""
    server = environment.server(io_threads=3)
    # The start itself may have been busy.
    wait_until(lambda: server.info("server")["io_threads_active"] == "0", 10, "no I/O threads at an idle server")
    errors, counts, stop = [], [0] * 8, threading.Event()

    def work(number):
        try:
            with RawConnection("127.0.0.1", server.port) as connection:
                while not stop.is_set():
                    # Cheap to send and to read, dear to execute.
                    connection.send(encode("SETBIT", f"bits:{number}", "4000000", "1") +
                                    encode("BITCOUNT", f"bits:{number}") * 20 + encode("INCR", f"counter:{number}"))
                    for _ in range(21):
                        connection.read_reply()
                    counts[number] += 1
                    expect_equal(connection.read_reply(), counts[number], "INCR")
        except Exception as error:  # pylint: disable=broad-except
            errors.append(repr(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: server.info("server")["io_threads_active"] == "1", 30, "the busy server shares its connections")
    finally:
        time.sleep(0.5)
        stop.set()
        for thread in threads:
            thread.join()
    expect(not errors, "; ".join(errors[:3]))
    with RawConnection("127.0.0.1", server.port) as connection:
        expect_equal(connection.call("PING"), b"PONG", "PING")
    wait_until(lambda: server.info("server")["io_threads_active"] == "0", 30, "connections come back")
    expect_equal([int(server.call("GET", f"counter:{number}")) for number in range(8)], counts, "the counters")


def check_stress(environment):
    """Whatever clients do at the same moment, and whoever is killed: every reply is its client's own, the server lives and
    ends when it is told to."""
    seed = random.randrange(1 << 30)
    for round_number in range(30 if environment.is_long else 2):
        environment.note(f"seed {seed + round_number}")
        stress(environment, seed + round_number, 10 if environment.is_long else 4)


def stress(environment, seed, seconds):
    threads = random.Random(seed).choice((2, 3, 5))
    server = environment.server(
        io_threads=threads, io_threads_always_active="yes", client_output_buffer_limit="normal 64mb 0 0",
        client_query_buffer_limit="1mb",
        unixsocket="/tmp/martlet-stress-%d.sock" % seed)
    path = server.directives["unixsocket"]
    server.call("SET", "big", bytes(300000))
    stop = time.monotonic() + seconds
    errors = []

    def connect(picker):
        if picker.randrange(4) == 0:
            return RawConnection("", 0, path=path)
        return RawConnection("127.0.0.1", server.port)

    def honest(picker, number):
        """Nobody kills it, and it keeps its own key: it finds every reply as it has to be."""
        count = 0
        while time.monotonic() < stop:
            with connect(picker) as client:
                for _ in range(picker.randrange(1, 30)):
                    data, expected = b"", []
                    for _ in range(picker.choice((1, 3, 40))):
                        kind = picker.randrange(8)
                        if kind < 3:
                            count += 1
                            data += encode("INCR", f"count:{number}")
                            expected.append(count)
                        elif kind == 3:
                            data += encode("WAIT", "9", "1") + encode("ECHO", f"{number}:{count}")
                            expected += [None, f"{number}:{count}".encode()]
                        elif kind == 4:
                            count += 1
                            data += encode("MULTI") + encode("INCR", f"count:{number}") + encode("EXEC")
                            expected += [b"OK", b"QUEUED", [count]]
                        elif kind == 5:
                            data += encode("CLIENT", "REPLY", "SKIP") + encode("ECHO", "no") + b"ECHO 'yes'\r\n"
                            expected.append(b"yes")
                        elif kind == 6:
                            data += encode("SET", f"value:{number}", bytes(20000)) + encode("STRLEN", f"value:{number}")
                            expected += [b"OK", 20000]
                        else:
                            data += encode("GET", "big")
                            expected.append(bytes(300000))
                    cut = picker.randrange(len(data))
                    client.send(data[:cut])
                    client.send(data[cut:])
                    for reply in expected:
                        got = client.read_reply()
                        if reply is None:
                            expect(isinstance(got, int), f"WAIT answered {shorten(got)}")
                        else:
                            expect_equal(got, reply, f"a reply to client {number}")

    def rude(picker, number):
        """Leaves, reads nothing, breaks the protocol, becomes a replica, waits: and may be killed at any time."""
        clients = []
        while time.monotonic() < stop:
            try:
                client = connect(picker)
                client.socket.settimeout(0.05)
                clients.append(client)
                client.send(encode("CLIENT", "SETNAME", "rude"))
                for _ in range(picker.randrange(1, 4)):
                    client.send(picker.choice((
                        encode("GET", "big") * picker.randrange(1, 30),
                        encode("SET", "x", "1") * 1000,
                        encode("PING") * 10 + encode("QUIT") + encode("PING") * 5,
                        b"*1\r\n$-7\r\n",
                        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$500000\r\n" + bytes(picker.randrange(500000)),
                        encode("PSYNC", "?", "-1"),
                        encode("REPLCONF", "capa", "psync2") + encode("PSYNC", "?", "-1") + encode("REPLCONF", "ACK", 1),
                        encode("SYNC"),
                        encode("WAIT", "9", "0") + encode("SET", "y", bytes(1000)) * 50,
                        encode("CLIENT", "KILL", "TYPE", "replica"),
                        encode("CLIENT", "KILL", "TYPE", "replica", "SKIPME", "no"),
                        encode("PSYNC", "?", "-1") + encode("CLIENT", "KILL", "TYPE", "replica", "SKIPME", "no"),
                        encode("CLIENT", "PAUSE", picker.randrange(1, 20), picker.choice(("WRITE", "ALL"))),
                        encode("CLIENT", "UNPAUSE"),
                        encode("CONFIG", "SET", "proto-max-bulk-len", 1 << picker.randrange(20, 29)),
                        encode("CONFIG", "SET", "hz", picker.randrange(1, 100)),
                        encode("CONFIG", "SET", "io-threads-always-active", picker.choice(("yes", "no"))),
                        encode("CLIENT", "LIST") + encode("INFO"),
                    )))
                if picker.randrange(2):
                    client.read_some()
            except OSError:
                pass
            if picker.randrange(3) == 0 and clients:
                try:
                    clients[0].socket.shutdown(picker.randrange(3))
                except OSError:
                    pass
            while len(clients) > picker.randrange(12):
                clients.pop(picker.randrange(len(clients))).close()
        for client in clients:
            client.close()

    def killer(picker, _):
        with RawConnection("127.0.0.1", server.port) as client:
            while time.monotonic() < stop:
                lines = client.call("CLIENT", "LIST").decode().splitlines()
                victims = [line.split()[0][3:] for line in lines if " name=rude " in line]
                picker.shuffle(victims)
                for victim in victims[: picker.randrange(8)]:
                    client.send(encode("CLIENT", "KILL", "ID", victim))
                    expect(client.read_reply() in (0, 1), "CLIENT KILL")
                if picker.randrange(4) == 0:
                    expect(client.call("CLIENT", "KILL", "TYPE", "replica") >= 0, "CLIENT KILL")

    def work(role, number):
        try:
            role(random.Random(seed * 1000 + number), number)
        except Exception as error:  # pylint: disable=broad-except
            errors.append(f"{role.__name__} {number}: {error!r}")

    roles = [honest] * 5 + [rude] * 6 + [killer] * 2
    workers = [threading.Thread(target=work, args=(role, number)) for number, role in enumerate(roles)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    expect(server.is_running, f"the server ended: {server.tail(30)}")
    expect(not errors, "; ".join(errors[:3]))
    wait_until(lambda: int(server.info("clients")["connected_clients"]) == 1, 10, "only the harness is connected")
    last = [connect(random.Random(number)) for number in range(20)]
    for number, client in enumerate(last):
        client.send(encode("GET", "big") * 3 if number != 9 else encode("SHUTDOWN", "NOSAVE"))
    expect_equal(server.process.wait(20), 0, "the exit status after SHUTDOWN")
    for client in last:
        client.close()
