"""Peers that mean harm or speak nonsense: nothing they send may change the cluster, grow memory or end a node."""

import os
import random
import socket
import struct
import time

from harness import Failure, RawConnection, ReplyError, encode, expect, expect_equal, key_in_slots, wait_until

PING, PONG, MEET, FAIL, PUBLISH, AUTH_REQUEST, AUTH_ACK, UPDATE, MFSTART, MODULE, PUBLISHSHARD = range(11)
HEADER_BYTES = 2256
GOSSIP_BYTES = 104
PRIMARY_FLAG, REPLICA_FLAG = 1, 2
EVERY_SLOT = b"\xff" * 2048


def check_bus_nonsense(environment):
    """Random bytes, truncated and absurdly long packets on the bus port: links are closed, nothing changes."""
    cluster = environment.cluster(3, 1)
    watch = Watch(cluster)
    picker = random.Random(environment.name)
    genuine = packet(PING, sender=cluster.nodes[1].my_id(), flags=REPLICA_FLAG)
    for node in cluster.nodes:
        for data in (
                b"", b"R", b"RCmb", b"GET / HTTP/1.1\r\n\r\n", picker.randbytes(7), picker.randbytes(100000),
                b"RCmb" + struct.pack(">I", 0), b"RCmb" + struct.pack(">I", 15), b"RCmb" + struct.pack(">I", 0xffffffff),
                b"RCmb" + struct.pack(">I", 0x7fffffff) + bytes(4000), genuine[:20], genuine[:HEADER_BYTES - 1],
                b"RCmc" + genuine[4:], genuine[:8] + b"\x00\x63" + genuine[10:]):
            send_to_bus(node, data)
        for kind in list(range(12)) + [99, 0x7fff, 0x8004, 0x800a, 0xffff]:
            for count in (0, 1, 3, 1000, 0xffff):
                send_to_bus(node, packet(kind, sender="f" * 40, count=count, extra=picker.randbytes(200)))
        # In the name of a member, but with fewer gossip entries than announced. (A well-formed packet in a member's name
        # would have to be believed: the bus of Redis has no signatures.)
        for kind in (PING, PONG, MEET):
            for count in (1, 3, 1000, 0xffff):
                send_to_bus(node, packet(kind, sender=cluster.nodes[1].my_id(), count=count, extra=bytes(50)))
    watch.expect_unchanged()


def check_bus_mutations(environment):
    """Packets with random fields, of known and of unknown senders; the nodes live and own what they owned."""
    cluster = environment.cluster(3, 0)
    watch = Watch(cluster)
    seed = random.randrange(1 << 30)
    environment.note(f"seed {seed}")
    picker = random.Random(seed)
    rounds = 20000 if environment.is_long else 1500
    node = cluster.nodes[0]
    strangers = ["".join(picker.choice("0123456789abcdef") for _ in range(40)) for _ in range(3)]
    connection = None
    for _ in range(rounds):
        # A forged packet in the name of a real member could not be told from a real one: the bus has no signatures. So the
        # mutants come from strangers, and from members only with types that carry no claims.
        data = bytearray(packet(picker.choice((PING, PONG, MEET, FAIL, PUBLISH, AUTH_ACK, UPDATE, MFSTART)),
                                sender=picker.choice(strangers), slots=picker.choice((EVERY_SLOT, bytes(2048))),
                                epoch=picker.choice((0, 1, 77, (1 << 64) - 1)), count=picker.choice((0, 1, 2, 3)),
                                flags=picker.choice((PRIMARY_FLAG, REPLICA_FLAG, 0xffff)),
                                extra=picker.randbytes(picker.choice((0, 40, GOSSIP_BYTES, 312, 2096)))))
        for _ in range(picker.randint(0, 8)):
            data[picker.randrange(8, len(data))] = picker.randrange(256)
        if picker.random() < 0.9:
            data[4:8] = struct.pack(">I", len(data))
        data[10:12] = b"\x00\x01"  # a port on which nobody listens
        try:
            if connection is None:
                connection = socket.create_connection((node.host, node.port + 10000), 5)
            connection.sendall(data)
            if picker.random() < 0.05:
                connection.close()
                connection = None
        except OSError:
            connection = None
    if connection is not None:
        connection.close()
    watch.expect_unchanged(nodes_may_grow=True)


def check_unknown_sender_claims_slots(environment):
    """A stranger's PING with a huge epoch claims every slot; FAIL, UPDATE and votes of a stranger about a member."""
    cluster = environment.cluster(3, 1)
    watch = Watch(cluster)
    stranger = "0123456789abcdef0123456789abcdef01234567"
    member = cluster.nodes[0].my_id()
    for node in cluster.nodes:
        for kind in (PING, PONG):
            send_to_bus(node, packet(kind, sender=stranger, slots=EVERY_SLOT, epoch=1 << 40))
        send_to_bus(node, packet(FAIL, sender=stranger, extra=member.encode()))
        send_to_bus(node, packet(UPDATE, sender=stranger, epoch=1 << 40,
                                 extra=struct.pack(">Q", 1 << 40) + stranger.encode() + EVERY_SLOT))
        send_to_bus(node, packet(AUTH_REQUEST, sender=stranger, slots=EVERY_SLOT, epoch=1 << 40, flags=REPLICA_FLAG))
        for _ in range(5):
            send_to_bus(node, packet(AUTH_ACK, sender=stranger, epoch=1 << 40))
        send_to_bus(node, packet(MFSTART, sender=stranger))
        # Gossip of a stranger: "this member has failed", "here is another node".
        for flags in (8, 4, 16, 32, 1):
            send_to_bus(node, packet(PING, sender=stranger, count=1, extra=gossip(member, flags, cluster.nodes[0].port)))
    time.sleep(2.5)
    watch.expect_unchanged()
    for node in cluster.nodes:
        expect(int(node.cluster_info()["cluster_current_epoch"]) < 1 << 30, "the current epoch is not the stranger's")


def check_bus_flood(environment):
    """Hundreds of idle and half-fed links to the bus port: memory stays, the cluster stays, new links are served."""
    cluster = environment.cluster(3, 0)
    watch = Watch(cluster)
    node = cluster.nodes[0]
    before = resident_kilobytes(node.pid)
    links = []
    # Each announces a packet of 64 MB and sends a part of it: nothing may be reserved for what has not come.
    start = b"RCmb" + struct.pack(">I", 64 << 20) + struct.pack(">H", 1) + bytes(3000)
    for _ in range(300):
        try:
            link = socket.create_connection((node.host, node.port + 10000), 5)
            link.sendall(start)
            links.append(link)
        except OSError:
            break
    time.sleep(1.5)
    grown = resident_kilobytes(node.pid) - before
    environment.note(f"resident memory grew by {grown} KB for {len(links)} links")
    expect(grown < 200 << 10, f"resident memory grew by {grown} KB")
    watch.expect_unchanged()
    for link in links:
        link.close()


def check_client_nonsense(environment):
    """Broken requests on the client port are answered with a protocol error and closed; the server goes on."""
    server = environment.server()
    for data, text in (
            (b"*3000000000\r\n", "ERR Protocol error: invalid multibulk length"),
            (b"*1\r\nfoo\r\n", "ERR Protocol error: expected '$', got 'f'"),
            (b"*1\r\n$-5\r\n", "ERR Protocol error: invalid bulk length"),
            (b"*1\r\n$99999999999999999999\r\n", "ERR Protocol error: invalid bulk length"),
            (b"*1\r\n$600000000\r\n", "ERR Protocol error: invalid bulk length"),
            (b"*abc\r\n", "ERR Protocol error: invalid multibulk length"),
            (b"*9223372036854775808\r\n", "ERR Protocol error: invalid multibulk length"),
            (b"*1\r\n$" + b"1" * 70000, "ERR Protocol error: too big bulk count string"),
            (b"*" + b"1" * 70000, "ERR Protocol error: too big mbulk count string"),
            (b"x" * 70000, "ERR Protocol error: too big inline request"),
            (b"set \"a\r\n", "ERR Protocol error: unbalanced quotes in request")):
        with RawConnection(server.host, server.port) as connection:
            try:
                connection.send(data)
                expect_equal(str(connection.read_reply()), text, f"the answer to {data[:30]!r}")
            except ConnectionResetError:
                pass
            except ConnectionError as error:
                raise Failure(f"{data[:30]!r} was not answered: {error}") from None
    for data in (b"*0\r\n", b"*-1\r\n", b"\r\n", b"\n", b"*1\r\n$0\r\n\r\n"):
        with RawConnection(server.host, server.port) as connection:
            connection.send(data + b"*1\r\n$4\r\nPING\r\n")
            reply = connection.read_reply()
            if isinstance(reply, ReplyError):
                reply = connection.read_reply()
            expect_equal(reply, b"PONG", f"PING after {data!r}")


def check_promised_bulk(environment):
    """200 clients announce 512 MB each and send nothing: the server reserves nothing for a promise."""
    server = environment.server()
    before = resident_kilobytes(server.pid)
    connections = []
    for _ in range(200):
        connection = RawConnection(server.host, server.port)
        connection.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\nsome")
        connections.append(connection)
    expect_equal(server.call("PING"), b"PONG", "another client")
    grown = resident_kilobytes(server.pid) - before
    environment.note(f"resident memory grew by {grown} KB")
    expect(grown < 300 << 10, f"resident memory grew by {grown} KB")
    for connection in connections:
        connection.close()


def check_gone_while_answered(environment):
    """Clients reset their connections while other threads and servers answer them; nobody else notices."""
    cluster = environment.cluster(3, 0)
    node = cluster.nodes[0]
    with RawConnection(node.host, node.port) as connection:
        key = key_in_slots(node.my_line().slots)
        connection.call("SET", key, "value")
        # The first target fails at once, the second refuses, the third answers.
        migrations = [encode("MIGRATE", host, port, key, 0, 100, "COPY")
                      for host, port in (("255.255.255.255", 1), ("127.0.0.1", 1), ("127.0.0.1", cluster.nodes[1].port))]
        picker = random.Random(environment.name)
        for number in range(20000 if environment.is_long else 2000):
            client = socket.create_connection((node.host, node.port), 5)
            commands = [encode("PING"), encode("CLUSTER", "NODES"), encode("CLUSTER", "INFO"), picker.choice(migrations)]
            picker.shuffle(commands)
            client.sendall(b"".join(commands))
            if picker.random() < 0.5:
                client.recv(1)
            # Closed by RST.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            if number % 100 == 0:
                expect_equal(connection.call("GET", key), b"value", "what another client reads meanwhile")
    wait_until(lambda: int(node.info("clients")["blocked_clients"]) == 0, 10, "nobody waits any more")


def check_slow_reader(environment):
    """A client that asks for much and reads nothing is cut at its output limit; the others are served meanwhile."""
    server = environment.server(client_output_buffer_limit="normal 8mb 0 0")
    server.call("SET", "big", b"x" * (1 << 20))
    greedy = RawConnection(server.host, server.port)
    greedy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    greedy.call("CLIENT", "SETNAME", "greedy")
    greedy.send(b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n" * 200)
    expect_equal(server.call("PING"), b"PONG", "another client")

    def is_cut():
        return b"name=greedy" not in server.call("CLIENT", "LIST")
    wait_until(is_cut, 10, "the slow reader is cut")
    greedy.close()


def check_damaged_payloads(environment):
    """RESTORE of damaged DUMP payloads is refused; none ends the server."""
    server = environment.server()
    seed = random.randrange(1 << 30)
    environment.note(f"seed {seed}")
    picker = random.Random(seed)
    with RawConnection(server.host, server.port) as connection:
        payloads = []
        for value in ("12", "123456789012", "short", "x" * 300, "abc" * 5000, bytes(range(256)) * 20):
            connection.call("SET", "source", value)
            payloads.append(connection.call("DUMP", "source"))
        for number in range(5000 if environment.is_long else 1500):
            data = bytearray(picker.choice(payloads))
            for _ in range(picker.randint(1, 4)):
                way = picker.randrange(3)
                place = picker.randrange(len(data)) if data else 0
                if way == 0 and data:
                    data[place] ^= 1 << picker.randrange(8)
                elif way == 1:
                    del data[place:]
                else:
                    data[place:place] = picker.randbytes(picker.randint(1, 20))
            if bytes(data) in payloads:
                continue
            try:
                connection.call("RESTORE", f"target:{number}", 0, bytes(data))
                raise Failure(f"RESTORE accepted a damaged payload: {bytes(data[:60])!r}")
            except ReplyError as error:
                expect(str(error).startswith("ERR "), str(error))
        expect_equal(connection.call("PING"), b"PONG", "afterwards")


# Helpers

class Watch:
    """What no stranger may change: who owns which slot, in which epoch, in which role; and that all nodes live."""

    def __init__(self, cluster):
        self.cluster = cluster
        wait_until(self.is_settled, 20, "the epochs have settled")
        self.before = self.look()

    def look(self):
        view = {}
        for node in self.cluster.nodes:
            members = {}
            for line in node.cluster_nodes():
                role = "slave" if "slave" in line.flags else "master"
                members[line.id] = (role, line.epoch, line.primary, frozenset(line.slots))
            view[node.port] = members
        return view

    def is_settled(self):
        views = list(self.look().values())
        return all(view == views[0] for view in views)

    def expect_unchanged(self, nodes_may_grow=False):
        for node in self.cluster.nodes:
            expect(node.is_running, f"{node} has ended: {node.tail()}")

        def unchanged():
            after = self.look()
            if nodes_may_grow:
                # A MEET of a stranger is allowed to add a handshake entry, which owns nothing and goes away.
                for port, members in after.items():
                    after[port] = {name: members[name] for name in self.before[port] if name in members}
            return after == self.before
        try:
            wait_until(unchanged, 8, "the cluster looks as before", every=0.2)
        except Failure:
            after = self.look()
            differences = [
                f"{port}: {name[:8]} was {describe(self.before[port].get(name))}, is {describe(members.get(name))}"
                for port, members in after.items() for name in set(members) | set(self.before[port])
                if members.get(name) != self.before[port].get(name)]
            raise Failure(f"the cluster has changed: {differences[:4]}") from None
        for node in self.cluster.nodes:
            wait_until(lambda: node.cluster_info()["cluster_state"] == "ok", 10, f"{node} says ok")
        with self.cluster.open_client() as client:
            for n in range(50):
                client.set(f"alive:{n}", n)


def describe(member):
    if member is None:
        return "unknown"
    role, epoch, primary, slots = member
    return f"{role} of epoch {epoch} with {len(slots)} slots" + (f" of {primary[:8]}" if primary != "-" else "")


def packet(kind, sender, slots=bytes(2048), epoch=1, count=0, extra=b"", flags=PRIMARY_FLAG, port=1):
    """A bus packet as Redis lays it out (clusterMsg in cluster.h), with a consistent length."""
    body = struct.pack(">HHHHQQQ", 1, port, kind & 0xffff, count & 0xffff, epoch, epoch, 0)
    body += sender.encode() + slots + bytes(40) + bytes(46) + struct.pack(">H", 0) + bytes(30)
    body += struct.pack(">HHH", 0, port, flags) + b"\x00" + bytes(3)
    data = b"RCmb" + struct.pack(">I", 8 + len(body) + len(extra)) + body
    assert len(data) == HEADER_BYTES
    return data + extra


def gossip(name, flags, port):
    entry = name.encode() + struct.pack(">II", 0, 0) + b"127.0.0.1".ljust(46, b"\x00")
    entry += struct.pack(">HHHHH", port, port + 10000, flags, 0, 0)
    assert len(entry) == GOSSIP_BYTES
    return entry


def send_to_bus(node, data):
    """Sends and hangs up; whether the node closes first does not matter."""
    try:
        with socket.create_connection((node.host, node.port + 10000), 5) as link:
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
            link.settimeout(0.02)
            link.recv(10)
    except OSError:
        pass


def resident_kilobytes(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
