"""Random commands made of what COMMAND DOCS tells of their arguments: a family for differential.py that has every command
of the data types, with every option, keys of the right and of the wrong type, and arguments too few or too many."""

from harness import RawConnection

# Answers that are each server's own, waiting, and what is no matter of data.
LEFT_OUT = {
    "dump", "keys", "scan", "sscan", "hscan", "zscan", "randomkey", "spop", "srandmember", "hrandfield", "zrandmember",
    "restore", "restore-asking", "migrate", "wait", "pfselftest", "pfdebug", "object", "blpop", "brpop", "blmove",
    "brpoplpush", "blmpop", "bzmpop", "bzpopmin", "bzpopmax", "xread", "xreadgroup", "smembers", "sinter", "sunion", "sdiff",
    "sort", "sort_ro", "move", "xpending", "xinfo", "xclaim", "xautoclaim", "hkeys", "hvals", "hgetall", "ttl", "pttl"}
GROUPS = {"string", "bitmap", "list", "set", "sorted-set", "hash", "stream", "geo", "hyperloglog", "generic"}
KINDS = ("string", "number", "list", "set", "zset", "hash", "stream", "geo", "log", "none")
KIND_OF_GROUP = {
    "string": "string", "bitmap": "string", "list": "list", "set": "set", "sorted-set": "zset", "hash": "hash",
    "stream": "stream", "geo": "geo", "hyperloglog": "log"}


def read_grammar(server):
    """Name → group and arguments, of the commands that are compared."""
    with RawConnection(server.host, server.port) as connection:
        connection.call("HELLO", 3)
        commands = {}
        for name, fields in connection.call("COMMAND", "DOCS").items():
            add(commands, name.decode(), fields)
        return commands


def add(commands, name, fields):
    group = fields[b"group"].decode()
    if name in LEFT_OUT or group not in GROUPS:
        return
    for subcommand, inner in fields.get(b"subcommands", {}).items():
        if not subcommand.endswith(b"|help"):
            commands[subcommand.decode()] = (group, inner.get(b"arguments", []))
    if b"subcommands" not in fields:
        commands[name] = (group, fields.get(b"arguments", []))


def make_family(commands):
    """A family for differential.compare."""
    names = sorted(commands)

    def command(source):
        name = source.one_of(names)
        group, arguments = commands[name]
        words = name.split("|") + sequence(source, arguments, group)
        if source.chance(6):
            words.insert(source.below(len(words)) + 1, word(source))
        if source.chance(6) and len(words) > 1:
            words.pop(source.below(len(words) - 1) + 1)
        # No ID by the clock, and no duration: it begins when each is asked.
        if name == "xadd":
            words = ["9-*" if word == "*" else word for word in words]
        return ["exists", key(source, group)] if has_duration(words) else words

    return command


def has_duration(words):
    times = words[2:3] if words[0] in ("setex", "psetex", "expire", "pexpire") else []
    times += [time for option, time in zip(words, words[1:]) if str(option).lower() in ("ex", "px")]
    return any(str(time).isdecimal() and 0 < int(time) < 2**62 for time in times)


def sequence(source, arguments, group):
    words = []
    for argument in arguments:
        flags = argument.get(b"flags", [])
        if b"optional" in flags and source.chance(55):
            continue
        for number in range(source.one_of([1, 1, 2, 3]) if b"multiple" in flags else 1):
            if b"token" in argument and argument[b"type"] != b"pure-token" and (number == 0 or b"multiple_token" in flags):
                words.append(argument[b"token"].decode())
            words += one(source, argument, group)
    return words


def one(source, argument, group):
    kind, name = argument[b"type"], argument[b"name"]
    if kind == b"pure-token":
        return [argument[b"token"].decode()]
    if kind == b"oneof":
        return sequence(source, [{**source.one_of(argument[b"arguments"]), b"flags": []}], group)
    if kind == b"block":
        return sequence(source, argument[b"arguments"], group)
    if kind == b"key":
        return [key(source, group)]
    if name == b"numkeys":
        return [source.one_of([1, 1, 1, 2, 2, 3, 0, source.integer()])]
    if name in (b"seconds", b"milliseconds"):
        return [source.one_of([0, -1, 2**63 - 1, "x"])]
    if kind == b"integer":
        return [source.integer()]
    if kind == b"double":
        return [source.number()]
    if kind == b"unix-time":
        return [source.later if source.chance(80) else source.integer()]
    return [word(source)]


def key(source, group):
    kind = KIND_OF_GROUP.get(group) if source.chance(80) else None
    return f"{source.keys[0].rpartition(':')[0]}:{kind or source.one_of(KINDS)}{source.below(3)}"


def word(source):
    return source.one_of([
        source.integer(), source.integer(), source.number(), source.value(), "a", "b", "c", "field", "", "-", "+", "[a", "(b", "$",
        f"{source.below(20)}-{source.below(3)}", f"{source.below(20)}-*", "0-0", "u8", "i16", "#1", "group", "consumer", "m", "km", "*"])
