"""One server: the protocol as clients of every kind speak it, and the process as an operator handles it."""

import os
import signal
import socket
import subprocess
import threading
import time

import redis

from harness import (
    Failure, RawConnection, ReplyError, Skipped, encode, expect, expect_equal, wait_until)


def check_redis_cli(environment):
    """redis-cli sets and gets, as the README shows."""
    server = environment.server()
    expect_equal(environment.cli("-p", server.port, "set", "greeting", "hello world").strip(), "OK", "SET")
    expect_equal(environment.cli("-p", server.port, "get", "greeting").strip(), "hello world", "GET")
    expect_equal(environment.cli("-p", server.port, "incr", "counter").strip(), "1", "INCR")
    expect_equal(environment.cli("-p", server.port, "-3", "get", "nothing").strip(), "", "GET of a missing key")


def check_inline(environment):
    """Inline commands with quotes and escapes, empty lines, and an unbalanced quote."""
    server = environment.server()
    with RawConnection(server.host, server.port) as connection:
        connection.send(b"\r\n\r\nPING\r\n")
        expect_equal(connection.read_reply(), b"PONG", "PING after empty lines")
        connection.send(b"set key \"a \\x41\\n\" \r\nget key\n")
        expect_equal(connection.read_reply(), b"OK", "SET")
        expect_equal(connection.read_reply(), b"a A\n", "GET of an escaped value")
        connection.send(b"set key 'single quoted'\r\nget key\r\n")
        connection.read_reply()
        expect_equal(connection.read_reply(), b"single quoted", "GET of a single-quoted value")
        connection.send(b"set key \"open\r\n")
        expect_equal(str(connection.read_reply()), "ERR Protocol error: unbalanced quotes in request", "open quote")
        expect_closed(connection)


def check_pipelining(environment):
    """20,000 commands in one write are answered in order; also when every byte arrives alone."""
    server = environment.server()
    with RawConnection(server.host, server.port, timeout=30) as connection:
        count = 20000
        data = b"".join(encode("SET", f"key:{n}", f"value:{n}") + encode("GET", f"key:{n}") for n in range(count))
        writer = threading.Thread(target=connection.send, args=(data,))
        writer.start()
        for n in range(count):
            expect_equal(connection.read_reply(), b"OK", f"SET number {n}")
            expect_equal(connection.read_reply(), b"value:%d" % n, f"GET number {n}")
        writer.join()
        for byte in encode("SET", "drip", "fed") + encode("GET", "drip"):
            connection.send(bytes([byte]))
        expect_equal(connection.read_reply(), b"OK", "SET byte by byte")
        expect_equal(connection.read_reply(), b"fed", "GET byte by byte")


def check_resp3(environment):
    """HELLO 3 and 2, its fields, its errors, and replies typed accordingly."""
    server = environment.server()
    with RawConnection(server.host, server.port) as connection:
        hello = connection.call("HELLO", "3", "SETNAME", "tester")
        expect(isinstance(hello, dict), f"HELLO 3 answers a map, got {hello!r}")
        for field in (b"server", b"version", b"proto", b"id", b"mode", b"role", b"modules"):
            expect(field in hello, f"HELLO has {field}")
        expect_equal(hello[b"proto"], 3, "HELLO's proto")
        expect_equal(hello[b"role"], b"master", "HELLO's role")
        connection.send(encode("GET", "missing"))
        expect_equal(connection.read_line(), b"_", "a missing value in RESP3")
        expect_equal(connection.call("CLIENT", "GETNAME"), b"tester", "the name given to HELLO")
        back = connection.call("HELLO", "2")
        expect(isinstance(back, list), "HELLO 2 answers an array")
        connection.send(encode("GET", "missing"))
        expect_equal(connection.read_line(), b"$-1", "a missing value in RESP2")
        expect_error(connection, ("HELLO", "4"), "NOPROTO unsupported protocol version")
        expect_error(connection, ("HELLO", "x"), "ERR Protocol version is not an integer or out of range")
    client = server.open_client(protocol=3)
    expect_equal(client.ping(), True, "redis-py in RESP3")
    expect_equal(client.set("a", "b"), True, "SET through redis-py")
    expect_equal(client.get("a"), b"b", "GET through redis-py")


def check_big_values(environment):
    """Values of 1 byte to 64 MB, each written and read back, whole and in two halves of one packet stream."""
    server = environment.server()
    with RawConnection(server.host, server.port, timeout=60) as connection:
        for size in (0, 1, 63, 64, 65, 1000, 16383, 16384, 32767, 32768, 65536, 1 << 20, 1 << 24, 1 << 26):
            value = os.urandom(min(size, 4096)) * (size // 4096 + 1)
            value = value[:size]
            expect_equal(connection.call("SET", "big", value), b"OK", f"SET of {size} bytes")
            expect_equal(connection.call("STRLEN", "big"), size, f"STRLEN of {size} bytes")
            expect(connection.call("GET", "big") == value, f"GET of {size} bytes differs")
        # A pipeline with a big argument in its middle, cut at an odd place.
        value = b"x" * 300000
        data = encode("SET", "before", "1") + encode("SET", "big", value) + encode("GET", "before") + encode("STRLEN", "big")
        connection.send(data[:150001])
        connection.send(data[150001:])
        replies = [connection.read_reply() for _ in range(4)]
        expect_equal(replies, [b"OK", b"OK", b"1", 300000], "a big argument inside a pipeline")


def check_unix_socket(environment):
    """A unix socket with its permissions, beside TCP."""
    path = os.path.join("/tmp", f"martlet-test-{os.getpid()}.sock")
    server = environment.server(unixsocket=path, unixsocketperm=700)
    try:
        with RawConnection(None, None, path=path) as connection:
            expect_equal(connection.call("SET", "over", "unix"), b"OK", "SET over the unix socket")
        expect_equal(server.call("GET", "over"), b"unix", "GET over TCP")
        expect_equal(oct(os.stat(path).st_mode & 0o777), "0o700", "the socket's permissions")
        server.stop()
        expect(not os.path.exists(path), "the socket is removed at the end")
    finally:
        if os.path.exists(path):
            os.unlink(path)


def check_ipv6(environment):
    """Listening on an IPv6 and an IPv4 address at once; `-` makes an address optional."""
    if not has_ipv6():
        raise Skipped("no IPv6 loopback here")
    server = environment.server(bind="127.0.0.1 ::1 -10.255.255.254")
    with RawConnection("::1", server.port) as connection:
        expect_equal(connection.call("PING"), b"PONG", "PING over IPv6")
        listing = connection.call("CLIENT", "LIST").decode()
        expect("addr=[::1]:" in listing, f"CLIENT LIST shows the IPv6 address: {listing}")
    expect_equal(server.call("PING"), b"PONG", "PING over IPv4")


def check_config(environment):
    """CONFIG GET with globs and several names; SET of several is all or nothing; REWRITE keeps them."""
    server = environment.server()
    expect_equal(server.call("CONFIG", "GET", "maxclients"), [b"maxclients", b"10000"], "CONFIG GET maxclients")
    names = server.call("CONFIG", "GET", "tcp-*")[::2]
    expect(b"tcp-keepalive" in names and b"tcp-backlog" in names, f"CONFIG GET tcp-*: {names}")
    several = server.call("CONFIG", "GET", "timeout", "maxclients")
    expect_equal(sorted(several[::2]), [b"maxclients", b"timeout"], "CONFIG GET of two")
    expect_equal(server.call("CONFIG", "SET", "timeout", "77", "tcp-keepalive", "55"), b"OK", "CONFIG SET of two")
    try:
        server.call("CONFIG", "SET", "timeout", "78", "maxclients", "nonsense")
        raise Failure("CONFIG SET accepted nonsense")
    except ReplyError as error:
        expect(str(error).startswith("ERR CONFIG SET failed (possibly related to argument 'maxclients')"), str(error))
    expect_equal(server.call("CONFIG", "GET", "timeout"), [b"timeout", b"77"], "the refused CONFIG SET changed nothing")
    try:
        server.call("CONFIG", "SET", "no-such-thing", "1")
        raise Failure("CONFIG SET accepted an unknown name")
    except ReplyError as error:
        expect_equal(str(error), "ERR Unknown option or number of arguments for CONFIG SET - 'no-such-thing'", "error")
    expect_equal(server.call("CONFIG", "REWRITE"), b"OK", "CONFIG REWRITE")
    with open(os.path.join(server.folder, "node.conf")) as file:
        lines = file.read().splitlines()
    expect("timeout 77" in lines and "tcp-keepalive 55" in lines, f"CONFIG REWRITE wrote {lines}")


def check_bad_config(environment):
    """A mistake in the file or on the command line stops the start and names the line and the directive."""
    folder = environment.folder
    for content, words in (
            ("port 1x\n", ("port", "1x")),
            ("maxclients\n", ("maxclients",)),
            ("no-such-directive 1\n", ("no-such-directive",)),
            ("include /does/not/exist.conf\n", ("/does/not/exist.conf",)),
            ("bind \"open\n", ("open",))):
        path = os.path.join(folder, "bad.conf")
        with open(path, "w") as file:
            file.write("# first line\n" + content)
        result = subprocess.run([environment.program("martlet"), path], capture_output=True, text=True, timeout=10)
        output = result.stdout + result.stderr
        expect(result.returncode not in (0, None) and result.returncode > 0, f"{content!r} ended with {result.returncode}")
        for word in words:
            expect(word in output, f"{content!r}: the message names {word}: {output}")


def check_shutdown(environment):
    """SHUTDOWN and SIGTERM end the process with status 0 at once; the port is free again."""
    for how in ("SHUTDOWN", "SHUTDOWN NOSAVE", "SIGTERM", "SIGINT"):
        server = environment.server()
        idle = RawConnection(server.host, server.port)
        idle.call("PING")
        start = time.monotonic()
        if how.startswith("SIG"):
            server.process.send_signal(getattr(signal, how))
        else:
            with RawConnection(server.host, server.port) as connection:
                connection.send(encode(*how.split()))
                try:
                    expect_equal(connection.socket.recv(100), b"", f"{how} closes without a reply")
                except ConnectionResetError:
                    pass
        try:
            status = server.process.wait(10)
        except subprocess.TimeoutExpired:
            raise Failure(f"{how} did not end the process in 10 s") from None
        expect_equal(status, 0, f"exit status after {how}")
        expect(time.monotonic() - start < 10, f"{how} took {time.monotonic() - start:.1f} s")
        expect_closed(idle)
        server.start()
        expect_equal(server.call("PING"), b"PONG", "after a restart on the same port")
        server.stop()


def check_maxclients(environment):
    """One client too many is told so and closed; the others stay; a free place is used again."""
    server = environment.server(maxclients=10)
    clients = []

    def one_more():
        # The connection that asked whether the server is up may still be counted for a moment.
        connection = RawConnection(server.host, server.port)
        try:
            expect_equal(connection.call("PING"), b"PONG", "PING within the limit")
            clients.append(connection)
        except ReplyError:
            connection.close()
        return len(clients) == 10
    wait_until(one_more, 5, "ten clients are served")
    with RawConnection(server.host, server.port) as connection:
        expect_equal(str(connection.read_reply()), "ERR max number of clients reached", "the eleventh client")
        expect_closed(connection)
    for connection in clients:
        expect_equal(connection.call("PING"), b"PONG", "PING after the refusal")
    clients.pop().close()
    wait_until(lambda: try_ping(server), 5, "a place is free again")
    expect(int(parse(clients[0].call("INFO", "stats"))["rejected_connections"]) >= 1, "rejected_connections counts")


def check_protected_mode(environment):
    """Without a password and with a bind to everything, only loopback clients are served.

    A second address is needed to be a client from outside. It exists only in a network namespace of the test's own, so
    that no packet leaves and nothing listens on the machine's real addresses.
    """
    if subprocess.run(["unshare", "-rn", "ip", "link", "set", "lo", "up"], capture_output=True).returncode != 0:
        raise Skipped("no network namespaces here")
    port = environment.ports.next()
    script = f"""
        ip link set lo up && ip addr add 10.9.9.9/32 dev lo || exit 9
        cd {environment.folder}
        {environment.program("martlet")} --port {port} --bind '*' --save '' --logfile log.txt &
        server=$!
        for n in 1 2 3 4 5 6 7 8 9 10; do {environment.options.cli} -p {port} ping && break; sleep 0.2; done
        {environment.options.cli} -h 10.9.9.9 -p {port} ping
        {environment.options.cli} -p {port} config set protected-mode no
        {environment.options.cli} -h 10.9.9.9 -p {port} ping
        kill $server; wait $server
    """
    result = subprocess.run(["unshare", "-rn", "sh", "-c", script], capture_output=True, text=True, timeout=30)
    lines = [line for line in result.stdout.splitlines() if line and "Could not connect" not in line]
    expect(len(lines) == 4, f"four answers: {result.stdout} {result.stderr}")
    expect_equal(lines[0], "PONG", "a client over loopback")
    expect(lines[1].startswith("DENIED "), f"a client from outside is told why: {lines[1]}")
    expect_equal(lines[2:], ["OK", "PONG"], "a client from outside with protected mode off")


def check_password(environment):
    """requirepass: NOAUTH, WRONGPASS, AUTH, HELLO with AUTH."""
    server = environment.server(start=False, requirepass="secret")
    server.start()
    with RawConnection(server.host, server.port) as connection:
        expect_error(connection, ("GET", "a"), "NOAUTH Authentication required.")
        expect_error(
            connection, ("AUTH", "wrong"), "WRONGPASS invalid username-password pair or user is disabled.")
        expect_equal(connection.call("AUTH", "secret"), b"OK", "AUTH")
        expect_equal(connection.call("SET", "a", "b"), b"OK", "SET after AUTH")
    with RawConnection(server.host, server.port) as connection:
        connection.call("HELLO", "3", "AUTH", "default", "secret")
        expect_equal(connection.call("GET", "a"), b"b", "GET after HELLO AUTH")


def check_idle_timeout(environment):
    """`timeout 1` closes an idle client; one that talks stays."""
    server = environment.server(timeout=1)
    idle = RawConnection(server.host, server.port)
    busy = RawConnection(server.host, server.port)
    idle.call("PING")
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        expect_equal(busy.call("PING"), b"PONG", "PING of the busy client")
        time.sleep(0.1)
    idle.socket.settimeout(0.5)
    try:
        closed = idle.socket.recv(1) == b""
    except ConnectionResetError:
        closed = True
    except socket.timeout:
        closed = False
    expect(closed, "the idle client is closed")


def check_databases(environment):
    """16 databases: SELECT, MOVE, SWAPDB, DBSIZE, FLUSHDB, FLUSHALL."""
    server = environment.server()
    with RawConnection(server.host, server.port) as connection:
        connection.call("SET", "a", "zero")
        expect_equal(connection.call("SELECT", 15), b"OK", "SELECT 15")
        expect_equal(connection.call("GET", "a"), None, "GET in another database")
        expect_error(connection, ("SELECT", "16"), "ERR DB index is out of range")
        connection.call("SET", "b", "fifteen")
        expect_equal(connection.call("MOVE", "b", 0), 1, "MOVE")
        connection.call("SELECT", 0)
        expect_equal(connection.call("DBSIZE"), 2, "DBSIZE after MOVE")
        connection.call("SWAPDB", 0, 3)
        expect_equal(connection.call("DBSIZE"), 0, "DBSIZE after SWAPDB")
        connection.call("SELECT", 3)
        expect_equal(connection.call("GET", "a"), b"zero", "GET after SWAPDB")
        connection.call("FLUSHDB")
        expect_equal(connection.call("DBSIZE"), 0, "DBSIZE after FLUSHDB")
        connection.call("FLUSHALL")


def check_expiry(environment):
    """Keys vanish on time, by access and by themselves; 20,000 of them without a stall."""
    server = environment.server()
    with RawConnection(server.host, server.port, timeout=30) as connection:
        connection.call("SET", "soon", "1", "PX", "150")
        expect(0 < connection.call("PTTL", "soon") <= 150, "PTTL")
        expect_equal(connection.call("GET", "soon"), b"1", "GET before its time")
        count = 20000
        connection.send(b"".join(encode("SET", f"many:{n}", "x", "PX", "300") for n in range(count)))
        for _ in range(count):
            connection.read_reply()
        wait_until(lambda: connection.call("GET", "soon") is None, 3, "the key has expired")
        wait_until(lambda: connection.call("DBSIZE") == 0, 10, "20,000 keys have expired by themselves")


def check_client_list_and_kill(environment):
    """CLIENT LIST shows the clients; CLIENT KILL closes the named one and nothing else."""
    server = environment.server()
    one, two = RawConnection(server.host, server.port), RawConnection(server.host, server.port)
    one.call("CLIENT", "SETNAME", "first")
    identifier = two.call("CLIENT", "ID")
    listing = one.call("CLIENT", "LIST").decode()
    expect("name=first" in listing and f"id={identifier} " in listing, f"CLIENT LIST: {listing}")
    expect_equal(one.call("CLIENT", "KILL", "ID", identifier), 1, "CLIENT KILL ID")
    expect_closed(two)
    expect_equal(one.call("PING"), b"PONG", "the other client lives")


def check_two_on_one_port(environment):
    """A second server on a taken port ends with a message instead of sharing it."""
    server = environment.server()
    path = os.path.join(environment.folder, "second.conf")
    with open(path, "w") as file:
        file.write(f"port {server.port}\nbind 127.0.0.1\nsave \"\"\n")
    result = subprocess.run([environment.program("martlet"), path], capture_output=True, text=True, timeout=10)
    expect(result.returncode != 0, "the second server does not start")
    expect("Failed listening on port" in result.stdout + result.stderr, f"it says why: {result.stdout}{result.stderr}")


def check_quiet_start(environment):
    """A server with a log file writes nothing to its terminal, from its start to its end: no warning of a library."""
    server = environment.server()
    expect_equal(server.call("SET", "key", "x" * 100_000), b"OK", "SET")
    expect_equal(server.stop(), 0, "the exit status")
    with open(os.path.join(server.folder, "output.txt"), errors="replace") as file:
        expect_equal(file.read(), "", "what it wrote")


def check_benchmark(environment):
    """redis-benchmark runs its string tests with 50 clients, pipelined and not, without an error."""
    server = environment.server()
    for pipeline in (1, 16):
        result = subprocess.run(
            ["redis-benchmark", "-p", str(server.port), "-n", "20000", "-c", "50", "-P", str(pipeline), "-q",
             "-t", "ping,set,get,incr,mset", "-r", "10000"], capture_output=True, text=True, timeout=240)
        output = result.stdout + result.stderr
        expect(result.returncode == 0 and "ERR" not in output and "WARNING" not in output, output)


# Helpers

def expect_error(connection, arguments, text):
    try:
        reply = connection.call(*arguments)
    except ReplyError as error:
        expect_equal(str(error), text, f"the error of {' '.join(arguments)}")
        return
    raise Failure(f"{' '.join(arguments)} answered {reply!r} instead of an error")


def expect_closed(connection):
    connection.socket.settimeout(5)
    try:
        data = connection.socket.recv(100)
    except ConnectionResetError:
        return
    except socket.timeout:
        raise Failure("the connection is still open") from None
    expect_equal(data, b"", "the end of the connection")


def try_ping(server):
    try:
        return server.call("PING") == b"PONG"
    except (ReplyError, OSError):
        return False


def parse(text):
    return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False

