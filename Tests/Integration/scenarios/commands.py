"""COMMAND and what belongs to it, beside a Redis server of version 7.0: what clients and proxies learn from it."""

import random

from differential import FAMILIES, Source
from harness import RawConnection, ReplyError, encode, expect, expect_equal, shorten

# Told by Redis 7.0; what came later is our own.
NEWEST = (7, 0, 15)

# Commands that are not there yet, those with subcommands as a whole, by what brings them.
LATER = {
    "users": {"acl|deluser", "acl|dryrun", "acl|genpass", "acl|load", "acl|log", "acl|save", "acl|setuser"},
    "durability": {"bgrewriteaof", "bgsave", "failover", "save"},
    "observation": {"latency", "slowlog"},
    "functions": {"fcall", "fcall_ro", "function"},
    "history of scripts": {"script|flush"},
    "never": {"module"},
}


def check_docs(environment):
    """COMMAND DOCS: every field of every command that Redis knows is the same."""
    one, other = (documentation(server) for server in (environment.server(), environment.server("redis")))
    names = common(one, other)
    differences = []
    for name in names:
        compare_fields(name, only_old(one[name]), other[name], differences)
    expect(not differences, f"{len(differences)} differences: " + " | ".join(differences[:10]))
    environment.note(f"{len(names)} commands and subcommands")


def check_info(environment):
    """COMMAND and COMMAND INFO: arity, flags, keys, categories, tips and key specifications are the same."""
    one, other = (information(server) for server in (environment.server(), environment.server("redis")))
    for name in common(one, other):
        expect_equal(one[name], other[name], f"COMMAND INFO {name}")


def check_keys(environment):
    """COMMAND GETKEYS and GETKEYSANDFLAGS of random commands of every family, and of random words for every command."""
    one, other = environment.server(), environment.server("redis")
    seed = random.randrange(10**6)
    environment.note(f"seed {seed}")
    chance = random.Random(seed)
    commands = [FAMILIES[family](source) for family in FAMILIES for source in [Source(seed, family)] for _ in range(300)]
    known = information(one)
    for name, command in information(other).items():
        if name not in known or is_later(name) or name in SEARCHED:
            continue
        words = name.split("|")
        least = max(abs(command[1]) - len(words), 0)
        commands += [words + chance.choices(WORDS, k=chance.randint(least, least + 5)) for _ in range(20)]
    with RawConnection(one.host, one.port) as first, RawConnection(other.host, other.port) as second:
        for command in commands:
            for name in ("GETKEYS", "GETKEYSANDFLAGS"):
                replies = []
                for connection in (first, second):
                    connection.send(encode("COMMAND", name, *command))
                    reply = connection.read_reply()
                    replies.append(str(reply) if isinstance(reply, ReplyError) else reply)
                # Of commands that are wrong Redis finds keys by other means then, and without flags.
                if replies[0] != "ERR Invalid arguments specified for command":
                    expect_equal(*replies, f"COMMAND {name} {shorten(command)}, seed {seed}")


WORDS = ["a", "b", "", "1", "2", "3", "GET", "SET", "STORE", "STREAMS", "WITHSCORES", "WEIGHTS", "COUNT", "LIMIT", "x"]

# Whose keys Redis searches for in malformed commands by rules of their own.
SEARCHED = {"migrate"}


def is_later(name):
    return any(name in names or name.partition("|")[0] in names for names in LATER.values())


def common(one, other):
    """Names that both know; Redis has no others but those for later."""
    missing = [name for name in other if name not in one and not is_later(name)]
    expect_equal(missing, [], "commands of Redis that are not there")
    return sorted(name for name in other if name in one and not is_later(name))


def documentation(server):
    """Full name → fields, subcommands beside their containers."""
    with RawConnection(server.host, server.port) as connection:
        connection.call("HELLO", 3)
        found = {}
        add_subcommands(found, plain(connection.call("COMMAND", "DOCS")))
        return found


def add_subcommands(found, commands):
    for name, fields in commands.items():
        add_subcommands(found, fields.pop("subcommands", {}))
        found[name] = fields


def information(server):
    """Full name → what COMMAND tells; what comes in no order is sorted."""
    found = {}

    def add(command):
        for subcommand in command.pop() or []:
            add(subcommand)
        found[command[0]] = [sorted(part) if index in (2, 6, 7) else part for index, part in enumerate(command)]

    with RawConnection(server.host, server.port) as connection:
        connection.call("HELLO", 3)
        for command in plain(connection.call("COMMAND")):
            add(command)
    return found


def plain(value):
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [plain(element) for element in value]
    if isinstance(value, dict):
        return {plain(key): plain(element) for key, element in value.items()}
    return value


def only_old(fields):
    """Without arguments that came after Redis 7.0."""
    if "arguments" in fields:
        kept = [only_old(argument) for argument in fields["arguments"] if version(argument) <= NEWEST]
        fields = {**fields, "arguments": kept}
    return fields


def version(argument):
    return tuple(map(int, argument.get("since", "0.0.0").split(".")))


def compare_fields(path, first, second, differences):
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        for name in first:
            compare_fields(f"{path} {name}", first[name], second[name], differences)
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for index, (one, other) in enumerate(zip(first, second)):
            compare_fields(f"{path} {index}", one, other, differences)
    elif first != second:
        differences.append(f"{path}: {shorten(first)}, Redis {shorten(second)}")
