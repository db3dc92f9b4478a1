"""Random commands, given to two servers side by side: their replies have to be the same, byte for byte.

A family is a function that takes a `Source` of random arguments and returns one command; add yours to `FAMILIES` and it
is compared by scenarios/differential.py. Arguments are mostly sensible, sometimes at a limit and sometimes nonsense.
Everything follows from the seed, which is printed when the replies differ. Keys carry the seed, so nothing has to be
flushed. Alone, against two running servers:

    python3 Tests/Integration/differential.py ONE-PORT OTHER-PORT [FAMILY [SEED [COUNT]]]
"""

import random
import sys
import time

from harness import Failure, RawConnection, encode, shorten

BATCH = 200


class Source:
    """Random arguments from one seed."""

    def __init__(self, seed, family, makes_choices=False):
        # Whether commands may come of which chance decides the reply.
        self.makes_choices = makes_choices
        self.random = random.Random(f"{family}:{seed}")
        self.keys = [f"{{{family}:{seed}}}:{number}" for number in range(12)]
        self.one_of = self.random.choice
        self.below = self.random.randrange
        # The same for both servers, and far enough from now that no key expires in between.
        self.later = int(time.time()) + 100_000
        # For what has to grow.
        self.counter = 0

    def chance(self, percent):
        return self.random.randrange(100) < percent

    def key(self):
        return self.one_of(self.keys)

    def some_keys(self, least=1):
        return [self.key() for _ in range(self.random.randint(least, least + 3))]

    def word(self, *words):
        """One of these words, in any case, rarely misspelt."""
        word = self.one_of(words)
        if self.chance(3):
            return word + "x"
        return self.one_of([word, word.lower(), word.capitalize()])

    def integer(self):
        if self.chance(8):
            return self.one_of(["", "x", "1x", " 1", "1 ", "+1", "01", "-0", "1.5", "9223372036854775808", "1\x002"])
        if self.chance(8):
            return self.one_of([2**63 - 1, -(2**63), 2**31, -(2**31), 2**32, 2**62])
        return self.random.randint(-20, 20) if self.chance(70) else self.random.randint(-(10**12), 10**12)

    def number(self):
        """A floating point number, or nearly one."""
        if self.chance(15):
            return self.integer()
        if self.chance(10):
            return self.one_of(["nan", "inf", "-inf", "1e400", "1e-400", ".5", "5.", "1e5", "0x1p3", "1e4900", "-1e4932"])
        text = repr(self.random.uniform(-1000, 1000))
        return text[:self.random.randint(3, len(text))] + self.one_of(["", "", "", "e5", "e-3"])

    def index(self):
        return self.random.randint(-70, 70) if self.chance(90) else self.integer()

    def value(self):
        if self.chance(25):
            return self.integer()
        if self.chance(10):
            return self.number()
        length = self.one_of([0, 1, 3, 8, 19, 20, 21, 43, 44, 45, 64, 511, 512, 513])
        if self.chance(30):
            length = self.below(70)
        if self.chance(1):
            length = self.below(2500)
        return self.random.randbytes(length) if self.chance(50) else bytes(self.random.choices(b"abc", k=length))

    def expiry(self):
        """An option of SET and GETEX with its time."""
        option = self.word("EX", "PX", "EXAT", "PXAT")
        if self.chance(15):
            return [option, self.one_of([0, -1, "x", "", 2**63 - 1, 2**63 // 1000 + 1, 2**62])]
        time = {"ex": 100_000, "px": 100_000_000, "exat": self.later, "pxat": self.later * 1000}
        # Not soon for a misspelt option either: SETEX takes the number alone.
        return [option, time.get(option.lower(), 100_000) + self.below(1000)]


def string_command(source):
    key = source.key
    chance = source.chance
    name = source.one_of([
        "SET", "SET", "SET", "SET", "GET", "SETNX", "SETEX", "PSETEX", "GETEX", "GETDEL", "GETSET", "GETRANGE", "SUBSTR",
        "SETRANGE", "STRLEN", "APPEND", "APPEND", "MGET", "MSET", "MSETNX", "INCR", "DECR", "INCRBY", "DECRBY",
        "INCRBYFLOAT", "LCS", "OBJECT", "PEXPIRETIME", "TYPE", "DUMP"])
    if name in ("GET", "GETDEL", "STRLEN", "INCR", "DECR"):
        arguments = [key()]
    elif name == "SET":
        arguments = [key(), source.value()]
        if chance(50):
            options = [["NX"], ["XX"], ["GET"], ["KEEPTTL"], ["PERSIST"], source.expiry(), source.expiry()]
            for _ in range(source.one_of([1, 1, 2, 3])):
                arguments += source.one_of(options)
            if chance(3):
                arguments.pop()
    elif name == "GETEX":
        arguments = [key()]
        if chance(80):
            arguments += source.one_of([source.expiry(), source.expiry(), ["PERSIST"], ["KEEPTTL"], ["GET"]])
        if chance(10):
            arguments += source.expiry()
        if chance(10):
            arguments = [key(), source.word("EXAT", "PXAT"), source.below(1000000) + 1]
    elif name in ("SETNX", "GETSET", "APPEND"):
        arguments = [key(), source.value()]
    elif name in ("SETEX", "PSETEX"):
        later = 100_000_000 if name == "PSETEX" else 100_000
        arguments = [key(), source.expiry()[1] if chance(30) else later + source.below(1000), source.value()]
    elif name in ("GETRANGE", "SUBSTR"):
        arguments = [key(), source.index(), source.index()]
    elif name == "SETRANGE":
        arguments = [key(), source.index(), source.value()]
        if isinstance(arguments[1], int) and arguments[1] > 100:
            arguments[1] = 100
        if chance(3):
            # Just too long: no string of half a gigabyte is made.
            arguments[1:] = [2**29 - source.below(3), "long"]
    elif name == "MGET":
        arguments = source.some_keys()
    elif name in ("MSET", "MSETNX"):
        keys = source.some_keys()
        if name == "MSETNX" and chance(70):
            keys = [f"{name}:{source.below(10**9)}" for name in keys]
        arguments = [word for name in keys for word in (name, source.value())]
        if chance(5):
            arguments.pop()
    elif name in ("INCRBY", "DECRBY"):
        arguments = [key(), source.integer()]
    elif name == "INCRBYFLOAT":
        arguments = [key(), source.number()]
    elif name == "LCS":
        arguments = [key(), key()]
        for _ in range(source.below(4)):
            arguments += source.one_of(
                [["LEN"], ["IDX"], ["WITHMATCHLEN"], ["MINMATCHLEN", source.integer()], [source.word("IDX")]])
    elif name == "OBJECT":
        arguments = ["ENCODING", key()]
    else:
        arguments = [key()]
        # The time of SET with EX depends on when each server got it, and so does the payload with the access time.
        if name == "PEXPIRETIME":
            return ["SET", key(), source.value(), "PXAT", source.later * 1000] if chance(50) else ["TYPE", key()]
    return spoil(source, [name] + arguments)


def bitmap_command(source):
    key = source.key
    chance = source.chance
    name = source.one_of([
        "SETBIT", "SETBIT", "GETBIT", "BITCOUNT", "BITPOS", "BITOP", "BITFIELD", "BITFIELD", "BITFIELD_RO", "SET", "GET",
        "INCR", "OBJECT"])

    def offset():
        if chance(5):
            return source.one_of([2**32, 2**32 - 1, 2**63 - 1, -1, 2**35]) if chance(30) else source.integer()
        return source.below(600)

    def readable(value):
        # A write far out would make strings of hundreds of megabytes.
        return value if not isinstance(value, int) or value < 10**5 or value >= 2**32 else 7

    if name == "SET":
        arguments = [key(), source.value()]
    elif name in ("GET", "INCR"):
        arguments = [key()]
    elif name == "OBJECT":
        arguments = ["ENCODING", key()]
    elif name == "SETBIT":
        arguments = [key(), readable(offset()), source.one_of([0, 1]) if chance(95) else source.integer()]
    elif name == "GETBIT":
        arguments = [key(), offset()]
    elif name == "BITCOUNT":
        arguments = [key()]
        if chance(80):
            arguments += [source.index(), source.index()]
        if chance(60):
            arguments += [source.word("BIT", "BYTE")]
    elif name == "BITPOS":
        arguments = [key(), source.one_of([0, 1]) if chance(95) else source.integer()]
        arguments += [source.index() for _ in range(source.below(3))]
        if len(arguments) == 4 and chance(60):
            arguments += [source.word("BIT", "BYTE")]
    elif name == "BITOP":
        arguments = [source.word("AND", "OR", "XOR", "NOT")] + source.some_keys(2)
        if arguments[0].upper() == "NOT" and chance(80):
            arguments = arguments[:3]
    else:
        arguments = [key()]
        for _ in range(source.below(5)):
            kind = source.one_of("iu") if chance(97) else "x"
            bits = source.random.randint(1, 64) if chance(95) else source.integer()
            if "\x00" in str(bits):
                bits = 65  # Redis' text ends here.
            place = readable(offset())
            if chance(30):
                place = f"#{source.below(20)}"
            operation = source.one_of(["GET", "SET", "INCRBY", "OVERFLOW"])
            if name == "BITFIELD_RO" and chance(90):
                operation = "GET"
            if operation == "OVERFLOW":
                arguments += [operation, source.word("WRAP", "SAT", "FAIL")]
            elif operation == "GET":
                arguments += [source.word("GET"), f"{kind}{bits}", place]
            else:
                arguments += [operation, f"{kind}{bits}", place, source.integer()]
    return spoil(source, [name] + arguments)


def generic_command(source):
    key = source.key
    chance = source.chance
    name = source.one_of([
        "SET", "SET", "SET", "APPEND", "GET", "DEL", "UNLINK", "EXISTS", "TOUCH", "TYPE", "RENAME", "RENAMENX", "COPY",
        "COPY", "MOVE", "EXPIREAT", "PEXPIREAT", "EXPIRE", "PEXPIRE", "PERSIST", "EXPIRETIME", "PEXPIRETIME", "OBJECT",
        "KEYS", "SELECT"])
    if name in ("GET", "TYPE", "PERSIST", "EXPIRETIME", "PEXPIRETIME"):
        arguments = [key()]
    elif name == "OBJECT":
        arguments = [source.word("ENCODING"), key()]
    elif name == "SET":
        arguments = [key(), source.value()] + (["PXAT", source.later * 1000 + source.below(5000)] if chance(30) else [])
    elif name == "APPEND":
        arguments = [key(), source.value()]
    elif name in ("DEL", "UNLINK", "EXISTS", "TOUCH"):
        arguments = source.some_keys()
    elif name in ("RENAME", "RENAMENX"):
        arguments = [key(), key()]
    elif name == "COPY":
        arguments = [key(), key()]
        for _ in range(source.below(3)):
            arguments += source.one_of([[source.word("REPLACE")], ["DB", source.below(3)], ["DB", source.integer()], ["DB"]])
    elif name == "MOVE":
        arguments = [key(), source.below(3) if chance(90) else source.integer()]
    elif name == "SELECT":
        arguments = [source.below(3) if chance(90) else source.integer()]
    elif name == "KEYS":
        # One key at most, for the order is every server's own.
        arguments = [key().replace("{", "\\{") + source.one_of(["", "*x", "?x", "[ab]"])]
    else:
        unit = 1 if name.startswith("E") else 1000
        if name.endswith("AT") and chance(85):
            time = (source.later + source.below(5) * 1000) * unit
        else:
            time = source.one_of([-1, 0, -10**12, 2**63 - 1, -(2**63), 2**62, "x", "", source.integer()])
            if not name.endswith("AT") and isinstance(time, int) and 0 < time <= 2**62:
                # Relative to a now that is each server's own.
                time = -time
        arguments = [key(), time]
        for _ in range(source.one_of([0, 0, 1, 1, 2])):
            arguments += [source.word("NX", "XX", "GT", "LT")]
    return spoil(source, [name] + arguments)


def hash_command(source):
    key = source.key
    chance = source.chance
    # These stay small, so that HSCAN answers them whole.
    small = source.keys[8:]
    name = source.one_of([
        "HSET", "HSET", "HSET", "HSET", "HSETNX", "HMSET", "HGET", "HGET", "HMGET", "HGETALL", "HKEYS", "HVALS", "HLEN",
        "HDEL", "HDEL", "HEXISTS", "HSTRLEN", "HINCRBY", "HINCRBYFLOAT", "HRANDFIELD", "HSCAN", "SMALL", "OBJECT", "DEL",
        "COPY", "RENAME", "SET", "DEBUG"])

    def field():
        return f"f{source.below(12)}" if chance(60) else source.below(300) if chance(80) else source.value()

    def pairs(count):
        return [word for _ in range(count) for word in (field(), source.value())]

    if name in ("HSET", "HMSET"):
        arguments = [source.one_of(source.keys[:8])] + pairs(source.one_of([1, 1, 2, 3, 300 if chance(3) else 4]))
        if chance(3):
            arguments.pop()
    elif name == "SMALL":
        name = "HSET"
        arguments = [source.one_of(small)]
        for _ in range(source.one_of([1, 2])):
            arguments += [f"f{source.below(20)}", source.below(10**6)]
    elif name == "HSETNX":
        arguments = [source.one_of(source.keys[:8])] + pairs(1)
    elif name in ("HMGET", "HDEL"):
        arguments = [key()] + [field() for _ in range(source.random.randint(1, 4))]
    elif name in ("HGET", "HEXISTS", "HSTRLEN"):
        arguments = [key(), field()]
    elif name in ("HGETALL", "HKEYS", "HVALS", "HLEN", "DEL"):
        arguments = [key()]
        if name == "DEL" and chance(70):
            name = "HLEN"
    elif name == "HINCRBY":
        arguments = [source.one_of(source.keys[:8]), field(), source.integer()]
    elif name == "HINCRBYFLOAT":
        arguments = [source.one_of(source.keys[:8]), field(), source.number()]
    elif name == "HRANDFIELD":
        # Only what is no chance: all fields, none, and mistakes.
        arguments = [key(), source.one_of([5000, 5000, 0, "x", "", -(2**63), 2**63 - 1])]
        return [name] + arguments + ([source.word("WITHVALUES")] if chance(40) else [])
    elif name == "HSCAN":
        arguments = [source.one_of(small), 0 if chance(95) else "x"]
        if chance(50):
            arguments += [source.word("MATCH"), source.one_of(["*", "f1*", "x", "f[2-4]", "1"])]
        if chance(30):
            arguments += [source.word("COUNT"), source.integer()]
    elif name in ("COPY", "RENAME"):
        arguments = [source.one_of(source.keys[:8]), source.one_of(source.keys[:8])]
        if name == "COPY":
            arguments.append("REPLACE")
    elif name == "SET":
        arguments = [source.one_of(source.keys[:8]), source.value()]
        if chance(80):
            name, arguments = "HLEN", arguments[:1]
    elif name == "DEBUG":
        arguments = ["DIGEST-VALUE", key(), key()]
    else:
        arguments = [source.word("ENCODING"), key()]
    return spoil(source, [name] + arguments)


def sorted_set_command(source):
    key = source.key
    chance = source.chance
    # What a range by bytes finds among different scores is chance in Redis: these keys have members of one score only.
    flat = source.keys[9:]
    name = source.one_of([
        "ZADD", "ZADD", "ZADD", "ZADD", "ZADD", "ZINCRBY", "ZREM", "ZREM", "ZCARD", "ZSCORE", "ZMSCORE", "ZRANK",
        "ZREVRANK", "ZCOUNT", "ZLEXCOUNT", "ZRANGE", "ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE",
        "ZRANGEBYLEX", "ZREVRANGEBYLEX", "ZRANGESTORE", "ZREMRANGEBYRANK", "ZREMRANGEBYSCORE", "ZREMRANGEBYLEX", "ZPOPMIN",
        "ZPOPMAX", "ZMPOP", "ZUNION", "ZINTER", "ZDIFF", "ZINTERCARD", "ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE",
        "ZRANDMEMBER", "ZSCAN", "BZPOPMIN", "BZPOPMAX", "BZMPOP", "FLAT", "FLAT", "SADD", "SET", "DEL", "OBJECT", "TYPE",
        "COPY"])

    def mixed():
        return source.one_of(source.keys[:9])

    def member():
        if chance(3):
            return bytes(source.random.choices(b"xy", k=source.below(100)))
        return f"m{source.below(40)}" if chance(70) else source.below(300) if chance(80) else source.value()

    def score():
        if chance(10):
            return source.one_of([0, "-0", "inf", "-inf", "+inf", "1e300", "-1e300", 2**53 + 1, 2**62, 2**63, "1e17", "0x1p-3"])
        return source.below(10) if chance(50) else source.integer() if chance(30) else source.number()

    def bound():
        text = score()
        return f"({text}" if chance(30) else text if chance(95) else source.one_of(["", "(", " 1", "1 ", "nan", "(inf", "1e999"])

    def lex():
        if chance(30):
            return source.one_of("-+")
        text = f"{source.one_of('[(')}{source.one_of(['m', 'f', ''])}{source.one_of(['', source.below(60)])}"
        return text if chance(95) else source.one_of(["", "x", "--", "+1", "m"])

    def limit():
        return [source.word("LIMIT"), source.random.randint(-1, 5), source.random.randint(-1, 8)] if chance(30) else []

    def sources():
        # Not those that lexical ranges are asked of, for all of them may grow large.
        keys = [mixed() for _ in range(source.random.randint(1, 4))]
        return [len(keys) if chance(96) else source.integer()] + keys

    def timeout():
        # A few milliseconds: nobody adds members meanwhile.
        return source.one_of(["0.001", ".002", "1e-3"]) if chance(95) else source.one_of(["-1", "", "x", "nan", "1e400"])

    def weights(count):
        options = []
        if chance(30):
            options += [source.word("WEIGHTS")] + [score() for _ in range(count if chance(95) else count - 1)]
        if chance(30):
            options += [source.word("AGGREGATE"), source.word("SUM", "MIN", "MAX")]
        return options

    scores = [source.word("WITHSCORES")] if chance(40) else []
    if name == "FLAT":
        name = "ZADD"
        arguments = [source.one_of(flat)]
        for _ in range(source.one_of([1, 3, 8])):
            arguments += [0, f"f{source.below(60)}"]
    elif name == "ZADD":
        arguments = [mixed()]
        for _ in range(source.one_of([0, 0, 0, 1, 2])):
            arguments.append(source.word("NX", "XX", "GT", "LT", "CH", "INCR"))
        for _ in range(source.one_of([1, 1, 1, 2, 5, 60 if chance(20) else 3])):
            arguments += [score(), member()]
        if chance(2):
            arguments.pop()
    elif name == "ZINCRBY":
        arguments = [mixed(), score(), member()]
    elif name in ("ZREM", "ZMSCORE"):
        arguments = [key()] + [member() for _ in range(source.random.randint(1, 4))]
    elif name in ("ZCARD", "TYPE"):
        arguments = [key()]
    elif name in ("ZSCORE", "ZRANK", "ZREVRANK"):
        arguments = [key(), member()]
    elif name in ("ZCOUNT", "ZREMRANGEBYSCORE"):
        arguments = [key(), bound(), bound()]
    elif name in ("ZLEXCOUNT", "ZREMRANGEBYLEX"):
        arguments = [source.one_of(flat), lex(), lex()]
    elif name in ("ZRANGEBYLEX", "ZREVRANGEBYLEX"):
        arguments = [source.one_of(flat), lex(), lex()] + limit()
    elif name in ("ZRANGEBYSCORE", "ZREVRANGEBYSCORE"):
        arguments = [key(), bound(), bound()] + scores + limit()
    elif name == "ZREVRANGE":
        arguments = [key(), source.index(), source.index()] + scores
    elif name == "ZREMRANGEBYRANK":
        start = source.random.randint(-8, 8)
        arguments = [key(), start, start + source.below(5)] if chance(95) else [key(), source.index(), source.integer()]
    elif name in ("ZRANGE", "ZRANGESTORE"):
        kind = source.one_of(["", "", "BYSCORE", "BYLEX"])
        bounds = {"": source.index, "BYSCORE": bound, "BYLEX": lex}[kind]
        start = [mixed()] if name == "ZRANGESTORE" else []
        arguments = start + [source.one_of(flat) if kind == "BYLEX" else key(), bounds(), bounds()]
        options = ([source.word(kind)] if kind else []), ([source.word("REV")] if chance(40) else []), limit()
        arguments += sum(source.random.sample(options, 3), [])
        if not kind and chance(90) and len(arguments) > 3 + len(start):
            arguments = arguments[:3 + len(start)] + (["REV"] if chance(50) else [])
        if name == "ZRANGE":
            arguments += scores if kind != "BYLEX" or chance(5) else []
    elif name in ("ZPOPMIN", "ZPOPMAX"):
        arguments = [key()] + ([source.random.randint(0, 6) if chance(90) else source.integer()] if chance(40) else [])
    elif name in ("ZMPOP", "BZMPOP"):
        arguments = sources() + [source.word("MIN", "MAX")]
        if chance(40):
            arguments += [source.word("COUNT"), source.random.randint(1, 6) if chance(90) else source.integer()]
        arguments = ([timeout()] if name == "BZMPOP" else []) + arguments
    elif name in ("BZPOPMIN", "BZPOPMAX"):
        arguments = [mixed() for _ in range(source.random.randint(1, 3))] + [timeout()]
    elif name in ("ZUNION", "ZINTER"):
        arguments = sources()
        arguments += weights(len(arguments) - 1) + scores
    elif name == "ZDIFF":
        arguments = sources() + scores
    elif name == "ZINTERCARD":
        arguments = sources() + ([source.word("LIMIT"), source.below(5) if chance(90) else source.integer()] if chance(40) else [])
    elif name in ("ZUNIONSTORE", "ZINTERSTORE"):
        arguments = sources()
        arguments = [mixed()] + arguments + weights(len(arguments) - 1) + (scores if chance(5) else [])
    elif name == "ZDIFFSTORE":
        arguments = [mixed()] + sources()
    elif name == "ZRANDMEMBER":
        # Only those of which the answer is no chance: the others are asked for as many as there are not.
        arguments = [key(), source.one_of([0, 0, 5000, -(2**63), "x", ""])] + scores
        return [name] + arguments
    elif name == "ZSCAN":
        arguments = [source.one_of(flat), 0]
        if chance(50):
            arguments += [source.word("MATCH"), source.one_of(["*", "f1*", "x", "f[2-4]"])]
        if chance(30):
            arguments += [source.word("COUNT"), source.integer()]
    elif name == "SADD":
        arguments = [mixed()] + [member() for _ in range(3)]
    elif name == "SET":
        arguments = [mixed(), source.value()]
        if chance(80):
            name, arguments = "ZCARD", arguments[:1]
    elif name == "COPY":
        arguments = [mixed(), mixed(), "REPLACE"]
    elif name == "OBJECT":
        arguments = [source.word("ENCODING"), key()]
    else:
        arguments = [mixed()]
    return spoil(source, [name] + arguments)


def geo_command(source):
    key = source.key
    chance = source.chance
    name = source.one_of([
        "GEOADD", "GEOADD", "GEOADD", "GEOADD", "GEODIST", "GEOHASH", "GEOPOS", "GEOSEARCH", "GEOSEARCH", "GEOSEARCH",
        "GEOSEARCHSTORE", "GEORADIUS", "GEORADIUS_RO", "GEORADIUSBYMEMBER", "GEORADIUSBYMEMBER_RO", "ZADD", "ZRANGE",
        "ZREM", "SET", "DEL"])

    def place():
        if chance(3):
            return [source.number(), source.number()]
        if chance(5):
            # Hardly ever one place twice: which of two equal distances COUNT prefers is chance in Redis.
            edge = source.one_of([[180, -180, 181, "inf"], [85.05112878, -85.05112878, 90, -86]])
            place = [source.random.uniform(-85, 85), source.random.uniform(-85, 85)]
            place[edge[0] != 180] = source.one_of(edge)
            return place
        near = source.one_of([(13, 38), (-122, 37), (179.9, -17), (0, 0), (25, 84)])
        spread = source.one_of([0.01, 1, 20])
        return [
            round(max(-180, min(180, near[0] + source.random.uniform(-spread, spread))), 6),
            round(max(-85, min(85, near[1] + source.random.uniform(-spread, spread))), 6)]

    def member():
        return f"m{source.below(200)}" if chance(90) else source.value()

    def unit():
        return source.word("m", "km", "ft", "mi")

    def length():
        if chance(4):
            return source.one_of([0, -1, "x", "inf", "nan", "1e300"])
        return source.one_of([source.below(1000), source.below(100_000), source.below(10**8), source.number()])

    def options(stores):
        chosen = []
        if not stores or chance(3):
            for word in ("WITHCOORD", "WITHDIST", "WITHHASH"):
                chosen += [[source.word(word)]] if chance(30) else []
        if chance(40):
            count = [source.word("COUNT"), source.random.randint(1, 12) if chance(95) else source.integer()]
            chosen.append(count + ([source.word("ANY")] if chance(30) else []))
        elif chance(3):
            chosen.append(["ANY"])
        if chance(50):
            chosen.append([source.word("ASC", "DESC")])
        source.random.shuffle(chosen)
        return sum(chosen, [])

    def area():
        start = ["FROMMEMBER", member()] if chance(40) else ["FROMLONLAT"] + place()
        shape = ["BYRADIUS", length(), unit()] if chance(50) else ["BYBOX", length(), length(), unit()]
        parts = [start, shape] if chance(95) else source.random.choices([start, shape], k=source.below(4))
        source.random.shuffle(parts)
        return sum(parts, [])

    if name == "GEOADD":
        arguments = [key()] + [source.word("NX", "XX", "CH") for _ in range(source.one_of([0, 0, 0, 1, 2]))]
        for _ in range(source.one_of([1, 1, 3, 10, 40 if chance(30) else 2])):
            arguments += place() + [member()]
    elif name == "GEODIST":
        arguments = [key(), member(), member()] + ([unit()] if chance(60) else [])
    elif name in ("GEOHASH", "GEOPOS", "ZREM"):
        arguments = [key()] + [member() for _ in range(source.below(4))]
    elif name == "GEOSEARCH":
        arguments = [key()] + area() + options(False)
    elif name == "GEOSEARCHSTORE":
        arguments = [key(), key()] + area() + options(True) + (["STOREDIST"] if chance(30) else [])
    elif name.startswith("GEORADIUSBYMEMBER"):
        stores = chance(25)
        arguments = [key(), member(), length(), unit()] + options(stores)
        arguments += [source.word("STORE", "STOREDIST"), key()] if stores else []
    elif name.startswith("GEORADIUS"):
        stores = chance(25)
        arguments = [key()] + place() + [length(), unit()] + options(stores)
        arguments += [source.word("STORE", "STOREDIST"), key()] if stores else []
    elif name == "ZADD":
        arguments = [key(), source.one_of([-1, "inf", "-inf", 1e300, source.below(2**50) + 0.5, source.below(2**52)]), member()]
    elif name == "ZRANGE":
        arguments = [key(), 0, -1, "WITHSCORES"]
    elif name == "SET":
        arguments = [key(), source.value()]
        if chance(80):
            name, arguments = "ZCARD", arguments[:1]
    else:
        arguments = [key()]
        if chance(80):
            name = "ZCARD"
    return spoil(source, [name] + arguments)


def list_command(source):
    key = source.key
    chance = source.chance
    name = source.one_of([
        "LPUSH", "LPUSH", "LPUSH", "RPUSH", "RPUSH", "RPUSH", "LPUSHX", "RPUSHX", "LPOP", "RPOP", "LLEN", "LINDEX",
        "LINDEX", "LSET", "LSET", "LRANGE", "LRANGE", "LTRIM", "LREM", "LREM", "LINSERT", "LINSERT", "LPOS", "LPOS",
        "LMOVE", "RPOPLPUSH", "LMPOP", "BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BLMPOP", "SET", "DEL", "OBJECT"])

    def element():
        """Often one that is in several lists."""
        if chance(2):
            return bytes(source.random.choices(b"xy", k=source.below(20_000)))
        return source.one_of("abcde") if chance(40) else source.below(12) if chance(50) else source.value()

    def end():
        return source.word("LEFT", "RIGHT")

    def timeout():
        # Ten milliseconds at most: nobody pushes meanwhile.
        return source.one_of(["0.001", "0.01", ".005", "1e-3", "0x1p-8"]) if chance(90) else source.one_of(
            ["-1", "", "x", "nan", "inf", "1e4000", "-0.5"])

    def several():
        keys = source.some_keys()
        options = source.one_of([[], [], [source.word("COUNT"), source.below(5)], [source.word("COUNT"), source.integer()]])
        return [len(keys) if chance(95) else source.integer()] + keys + [end()] + options

    waits = name.startswith("B")
    if waits and not chance(15):
        # Each that has to wait costs time.
        name = name[1:]
        waits = False
    if name in ("LPUSH", "RPUSH", "LPUSHX", "RPUSHX"):
        arguments = [key()] + [element() for _ in range(source.one_of([1, 1, 2, 5, 40 if chance(20) else 3]))]
    elif name in ("LPOP", "RPOP"):
        arguments = [key()] + ([source.index()] if chance(40) else [])
    elif name in ("LLEN", "DEL"):
        arguments = [key()]
    elif name == "OBJECT":
        arguments = [source.word("ENCODING"), key()]
    elif name == "SET":
        arguments = [key(), source.value()]
        if chance(70):
            name, arguments = "LLEN", arguments[:1]
    elif name == "LINDEX":
        arguments = [key(), source.index()]
    elif name == "LSET":
        arguments = [key(), source.index(), element()]
    elif name in ("LRANGE", "LTRIM"):
        arguments = [key(), source.index(), source.index()]
        if name == "LTRIM" and chance(70):
            arguments[1:] = [source.below(4), -1 - source.below(4)]
    elif name == "LREM":
        arguments = [key(), source.random.randint(-3, 3) if chance(90) else source.integer(), element()]
    elif name == "LINSERT":
        arguments = [key(), source.word("BEFORE", "AFTER"), element(), element()]
    elif name == "LPOS":
        arguments = [key(), element()]
        for _ in range(source.below(4)):
            # What the least number does is chance in Redis 7.0: it has no opposite.
            number = source.random.randint(-3, 3) if chance(90) else max(-2**62, source.one_of([source.below(70), 2**62, -7]))
            arguments += [source.word("RANK", "COUNT", "MAXLEN"), number if chance(95) else "x"]
        if chance(3):
            arguments.pop()
    elif name in ("LMOVE", "BLMOVE"):
        arguments = [key(), key(), end(), end()]
    elif name in ("RPOPLPUSH", "BRPOPLPUSH"):
        arguments = [key(), key()]
    elif name in ("LMPOP", "BLMPOP"):
        arguments = several()
    else:
        arguments = source.some_keys()
    if waits:
        arguments = [timeout()] + arguments if name == "BLMPOP" else arguments + [timeout()]
    return spoil(source, [name] + arguments)


def set_command(source):
    key = source.key
    chance = source.chance
    names = [
        "SADD", "SADD", "SADD", "SADD", "SADD", "SADD", "SREM", "SREM", "SMOVE", "SISMEMBER", "SMISMEMBER", "SCARD",
        "SMEMBERS", "SSCAN", "SPOP", "SRANDMEMBER", "SINTER", "SINTERCARD", "SINTERSTORE", "SUNION", "SUNIONSTORE",
        "SDIFF", "SDIFFSTORE", "SET", "DEL", "OBJECT", "COPY", "RENAME", "TYPE"]
    # What is chosen at random can only be compared where the result is, not the reply.
    name = source.one_of(names + ["SPOP"] * 6 if source.makes_choices else names)

    def member():
        # Keys with an even number hold integers alone, mostly.
        if chance(60):
            return source.below(60)
        if chance(5):
            return source.one_of([2**15, -(2**15) - 1, 2**31, -(2**31) - 1, 2**63 - 1, -(2**63)])
        return f"member {source.below(200)}" if chance(60) else source.value()

    def members():
        if chance(60):
            return [source.below(1000) for _ in range(source.one_of([1, 2, 5, 40, 200 if chance(20) else 3]))]
        return [member() for _ in range(source.one_of([1, 1, 2, 5, 30, 150 if chance(20) else 3]))]

    if name in ("SADD", "SREM", "SMISMEMBER"):
        arguments = [key()] + members()
    elif name == "SMOVE":
        arguments = [key(), key(), member()]
    elif name == "SISMEMBER":
        arguments = [key(), member()]
    elif name == "SSCAN":
        arguments = [key(), 0 if chance(95) else source.integer(), "COUNT", 100_000]
        if chance(40):
            arguments += [source.word("MATCH"), source.one_of(["*", "1*", "member*", "[2-4]*", "?"])]
        if chance(5):
            arguments += source.one_of([["TYPE", "set"], ["COUNT", source.one_of([0, -1, "x"])], ["MATCH"], [""]])
        if arguments[1] != 0:
            arguments[0] = "none"
    elif name == "SPOP" and source.makes_choices:
        arguments = [key()] + ([source.one_of([1, 2, 5, 30, 300])] if chance(60) else [])
    elif name in ("SPOP", "SRANDMEMBER"):
        arguments = [key(), source.one_of([0, 5000, 5000, 5000, 5000, "x", "", "-1x", 2**63, -(2**63)])]
        if name == "SPOP" and chance(70):
            name = "SRANDMEMBER"
    elif name in ("SINTER", "SUNION", "SDIFF"):
        arguments = source.some_keys()
    elif name == "SINTERCARD":
        keys = source.some_keys()
        arguments = [len(keys) if chance(93) else source.integer()] + keys
        if chance(50):
            arguments += [source.word("LIMIT"), source.below(30) if chance(90) else source.integer()]
    elif name in ("SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"):
        arguments = source.some_keys(2)
    elif name == "SET":
        arguments = [key(), source.value()]
        if chance(85):
            name, arguments = "SCARD", arguments[:1]
    elif name == "DEL":
        arguments = [key()]
        if chance(50):
            name = "SCARD"
    elif name == "OBJECT":
        arguments = [source.word("ENCODING"), key()]
    elif name == "COPY":
        arguments = [key(), key()] + (["REPLACE"] if chance(60) else [])
    elif name == "RENAME":
        arguments = [key(), key()]
    else:
        arguments = [key()]
    if name in ("SPOP", "SRANDMEMBER"):
        # Without its count the reply would be a choice.
        return [name] + arguments
    return spoil(source, [name] + arguments)


def hyperloglog_command(source):
    chance = source.chance
    name = source.one_of([
        "PFADD", "PFADD", "PFADD", "PFADD", "PFADD", "PFCOUNT", "PFCOUNT", "PFMERGE", "PFDEBUG", "GET", "GET", "SET", "APPEND",
        "SETRANGE", "SADD", "DEL", "STRLEN", "COPY"])
    # Damaged ones are only looked at: what Redis does before it finds the damage stays done there, not here.
    damages = name in ("SET", "APPEND", "SETRANGE", "SADD", "COPY")
    whole = source.keys[:8]

    def key():
        if damages or name not in ("PFADD", "PFMERGE") and chance(30):
            return source.one_of(source.keys[8:])
        return source.one_of(whole)

    if name == "PFADD":
        count = source.one_of([0, 1, 1, 3, 30, 300 if chance(30) else 5])
        arguments = [key()] + [f"e{source.below(10**6)}" if chance(90) else source.value() for _ in range(count)]
    elif name == "PFCOUNT":
        arguments = source.some_keys() if chance(40) else [key()]
    elif name == "PFMERGE":
        arguments = [key()] + source.some_keys()
    elif name == "COPY":
        arguments = [source.one_of(whole), key(), "REPLACE"]
    elif name == "PFDEBUG":
        arguments = [source.word("GETREG", "DECODE", "DECODE", "ENCODING", "ENCODING", "TODENSE"), key()]
    elif name == "SET":
        arguments = [key(), b"HYLL" + source.one_of([
            b"\x01" + bytes(11) + b"\x7f\xff", b"\x01" + bytes(10) + b"\x80\x7f\xff", b"\x01" + bytes(10) + b"\x80\x7f\xfe\x00",
            b"\x01" + bytes(11), b"\x01" + bytes(10) + b"\x80" + b"\x7f\xff\x00", bytes(12), b"\x00" + bytes(12299), b"\x02" + bytes(13),
            b"\x01" + bytes(10) + b"\x80" + b"\x83" * 4096, b"\x01" + bytes(10) + b"\x80" + b"\x3f" * 256, b"x"])]
    elif name == "APPEND":
        arguments = [key(), source.one_of([b"\x00", b"\x80", b"", b"abc"])]
    elif name == "SETRANGE":
        # Bytes of the header and of the first runs.
        arguments = [key(), source.one_of([4, 5, 12, 15, 16, 17, 18, 20]), source.random.randbytes(1)]
    elif name == "SADD":
        arguments = [key(), 1]
    else:
        arguments = [key()]
    return spoil(source, [name] + arguments)


def sort_command(source):
    key = source.key
    chance = source.chance
    name = source.one_of([
        "SORT", "SORT", "SORT", "SORT", "SORT", "SORT_RO", "SORT_RO", "RPUSH", "SADD", "ZADD", "MSET", "HSET", "LRANGE", "DEL"])
    weight = source.keys[0].rpartition(":")[0] + ":w"

    # Sets have no order of their own that could be compared.
    sets = source.keys[:3]

    def number():
        # None beyond a double's range: Redis takes later numbers for mistakes as well then.
        return source.one_of([source.below(50), round(source.random.uniform(-9, 9), 3), "inf", "-inf", " 7", "0x10", "1e3", "", "nan", "7x"])

    def element():
        return source.below(30) if chance(80) else source.one_of(["a", "b", "", "x y"]) if chance(60) else number()

    def pattern():
        return source.one_of([f"{weight}*", f"{weight}*->f", f"{weight}h*->f", f"{weight}h*->", "*", "#", "nosort", f"{weight}*->none"])

    if name == "RPUSH":
        arguments = [key()] + [element() for _ in range(source.one_of([1, 3, 10]))]
    elif name == "SADD":
        arguments = [source.one_of(sets)] + [source.below(30) if chance(95) else "x" for _ in range(source.one_of([1, 3, 10]))]
    elif name == "ZADD":
        arguments = [key()] + [word for _ in range(source.one_of([1, 3, 10])) for word in (source.below(50), element())]
    elif name == "MSET":
        arguments = [word for _ in range(4) for word in (f"{weight}{source.below(30)}", number() if chance(20) else source.below(50))]
    elif name == "HSET":
        arguments = [f"{weight}h{source.below(30)}", "f", number() if chance(20) else source.below(50)]
    elif name == "LRANGE":
        arguments = [key(), 0, -1]
    elif name == "DEL":
        arguments = [key()]
    else:
        arguments = [key()]
        chosen = []
        # Without ALPHA and BY every order is determined; BY with equal weights is not, if they are compared as texts.
        if chance(40):
            chosen.append([source.word("ALPHA")])
        elif chance(50):
            by = pattern()
            chosen.append([source.word("BY"), by if "*" in by or arguments[0] not in sets else "*"])
        if chance(50):
            chosen.append([source.word("LIMIT"), source.one_of([0, 1, 5, 20, -3, source.integer()]), source.one_of([0, 1, 3, 10, -1, 2**40])])
        if chance(40):
            chosen.append([source.word("ASC", "DESC")])
        for _ in range(source.one_of([0, 0, 0, 1, 2])):
            chosen.append([source.word("GET"), pattern()])
        if name == "SORT" and chance(30) or chance(2):
            chosen.append([source.word("STORE"), key()])
        source.random.shuffle(chosen)
        arguments += sum(chosen, [])
    return spoil(source, [name] + arguments)


def stream_command(source):
    chance = source.chance
    name = source.one_of([
        "XADD", "XADD", "XADD", "XADD", "XADD", "XLEN", "XRANGE", "XREVRANGE", "XTRIM", "XDEL", "XDEL", "XREAD", "XREADGROUP",
        "XREADGROUP", "XREADGROUP", "XACK", "XPENDING", "XCLAIM", "XAUTOCLAIM", "XGROUP", "XGROUP", "XINFO", "XINFO", "XSETID",
        "COPY", "DEL", "OBJECT"])
    # Few, so that there are groups with much to do.
    def key():
        return source.one_of(source.keys[:4])

    group = f"group{source.below(2)}"
    consumer = f"consumer{source.below(4)}"

    def near_id():
        """An ID among the last ones that were added, or any other."""
        if chance(5):
            return source.one_of(["-", "+", "*", "$", ">", "x", "", "5-", "-5", "1-2-3", "18446744073709551616", "0-0",
                                  "18446744073709551615-18446744073709551615" if chance(10) else "0", " 1", "01-+1", "5--01", source.integer()])
        number = max(0, source.counter - source.below(80))
        return source.one_of([f"{number}-0", f"{number}", f"{number}-{source.below(3)}", f"{number}-1"])

    def edge():
        return source.one_of(["-", "+", near_id(), near_id(), "(" + str(near_id())])

    def trim():
        words = [source.word("MAXLEN", "MAXLEN", "MINID")]
        words += source.one_of([[], ["="], ["~"], ["~"]])
        words.append(near_id() if words[0].upper() == "MINID" else source.below(60) if chance(92) else source.integer())
        if chance(20):
            words += ["LIMIT", source.below(200) if chance(90) else source.integer()]
        return words

    if name == "XADD":
        source.counter += source.below(2)
        arguments = [key()]
        if chance(10):
            arguments.append(source.word("NOMKSTREAM"))
        if chance(15):
            arguments += trim()
        arguments.append(source.one_of([f"{source.counter}-*"] * 8 + [near_id(), f"{source.counter}"]))
        for field in range(source.one_of([1, 2, 2, 2, 3])):
            arguments += [f"field{field}" if chance(90) else source.value(), source.value()]
        if chance(2):
            arguments.pop()
        if arguments[1] == "*" or "*" in arguments[:-2]:
            # Times are each server's own.
            return ["XLEN", key()]
    elif name in ("XLEN", "DEL"):
        arguments = [key()]
        if name == "DEL" and chance(90):
            name = "XLEN"
    elif name == "OBJECT":
        arguments = ["ENCODING", key()]
    elif name == "COPY":
        arguments = [key(), source.one_of(source.keys), "REPLACE"]
    elif name in ("XRANGE", "XREVRANGE"):
        arguments = [key(), edge(), edge()]
        if chance(50):
            arguments += [source.word("COUNT"), source.below(20) if chance(90) else source.integer()]
    elif name == "XTRIM":
        arguments = [key()] + trim()
    elif name == "XDEL":
        arguments = [key()] + [near_id() for _ in range(1 + source.below(5))]
    elif name in ("XREAD", "XREADGROUP"):
        arguments = [source.word("GROUP"), group, consumer] if name == "XREADGROUP" or chance(2) else []
        if chance(60):
            arguments += [source.word("COUNT"), source.below(10) if chance(90) else source.integer()]
        if chance(20):
            arguments.append(source.word("NOACK") if name == "XREADGROUP" or chance(10) else "COUNT")
        keys = [key() for _ in range(source.one_of([1, 1, 1, 2, 4]))]
        arguments += [source.word("STREAMS")] + keys
        arguments += [source.one_of([">", ">", near_id()]) if name == "XREADGROUP" or chance(2) else near_id() for _ in keys]
    elif name == "XACK":
        arguments = [key(), group] + [near_id() for _ in range(1 + source.below(8))]
    elif name == "XPENDING":
        arguments = [key(), group]
        if chance(30):
            # How long entries have been idle is each server's own: nothing is listed.
            arguments += source.one_of([["IDLE", 2**62], ["IDLE", 2**62], ["IDLE", source.integer()]])
            arguments += [edge(), edge(), 0 if arguments[3] != 2**62 else source.below(5), consumer][:3 + source.below(2)]
    elif name == "XCLAIM":
        arguments = [key(), group, consumer, source.one_of([0, 0, 0, 2**62, source.one_of(["x", -1])])]
        arguments += [near_id() for _ in range(1 + source.below(5))]
        for _ in range(source.below(3)):
            arguments += source.one_of([
                [source.word("FORCE")], [source.word("JUSTID")], ["RETRYCOUNT", source.integer()], ["LASTID", near_id()],
                ["TIME", source.one_of([5, "x", 10**12])]])
    elif name == "XAUTOCLAIM":
        arguments = [key(), group, consumer, source.one_of([0, 0, 0, 2**62, "x"]), edge()]
        for _ in range(source.below(3)):
            arguments += source.one_of([[source.word("JUSTID")], [source.word("COUNT"), source.below(10)]])
    elif name == "XGROUP":
        what = source.word(
            "CREATE", "CREATE", "CREATE", "CREATE", "CREATE", "SETID", "DESTROY", "CREATECONSUMER", "DELCONSUMER")
        arguments = [what, key(), group]
        if what.upper() in ("CREATE", "SETID"):
            arguments.append(source.one_of(["$", "0", near_id()]))
            if what.upper() == "CREATE" and chance(60):
                arguments.append(source.word("MKSTREAM"))
            if chance(20):
                arguments += [source.word("ENTRIESREAD"), source.integer()]
        elif what.upper() != "DESTROY":
            arguments.append(consumer)
    elif name == "XINFO":
        arguments = [source.word("STREAM", "GROUPS"), key()]
        if chance(3):
            arguments.append(source.one_of(["x", "FULL x", "COUNT"]))
    else:
        if chance(60):
            return ["XLEN", key()]
        arguments = [key(), near_id() if chance(30) else f"{source.counter}-{source.below(3)}"]
        if chance(40):
            arguments += [source.word("ENTRIESADDED"), source.integer() if chance(30) else source.below(5000)]
        if chance(40):
            arguments += [source.word("MAXDELETEDID"), near_id()]
    return spoil(source, [name] + arguments)


def spoil(source, command):
    """Rarely drops or adds an argument."""
    if source.chance(1):
        command = command + ["extra"] if source.chance(50) else command[:-1] or command
    return command


def json_text(source, depth=0):
    """A JSON text, or nearly one."""
    kinds = ["number", "number", "string", "string", "word"] + (["array", "object"] * 2 if depth < 4 else [])
    kind = source.one_of(kinds)
    blank = source.one_of(["", "", "", " ", "\n", "\t"])
    if source.chance(2):
        return source.one_of(["", "{", "]", ",", ":", "[1,]", '{"a"}', "{1:2}", "tru", "nul", '"', "'", "[1 2]", "\0", "@"])
    if kind == "number":
        text = source.one_of([
            str(source.below(100)), str(-source.below(10**15)), str(source.below(10**18)), repr(source.random.uniform(-1e6, 1e6)),
            "1e5", "-0", "1E-7", "12345678901234567890", "0x1F", "0x", "01", "+1", "-", "1.", ".5", "nan", "-inf", "Infinity", "1e999"])
    elif kind == "string":
        parts = [source.one_of([
            "a", "key", "\\n", "\\u00e9", "\\u20AC", "\\ud83d\\ude00", "é", "/", "\\/", "\\\\", '\\"', "\x7f", "\t", " ", "0",
            "\\u0000", "\\ud83d", "\\x", "\\u12", "\\udc00"][:14 if source.chance(90) else 20]) for _ in range(source.below(5))]
        text = '"' + "".join(parts) + '"'
    elif kind == "word":
        text = source.one_of(["true", "false", "null", "null"])
    elif kind == "array":
        text = "[" + ",".join(json_text(source, depth + 1) for _ in range(source.below(5))) + blank + "]"
    else:
        pairs = [f'"k{source.below(9)}"{blank}:{json_text(source, depth + 1)}' for _ in range(source.below(5))]
        text = "{" + ",".join(pairs) + "}"
    return blank + text


def lua_value(source, depth=0):
    """An expression of Lua."""
    if depth < 3 and source.chance(40):
        form = source.below(3)
        items = [lua_value(source, depth + 1) for _ in range(source.below(5))]
        if form == 0:
            return "{" + ",".join(items) + "}"
        if form == 1:
            return "{" + ",".join(f"k{source.below(9)}={item}" for item in items) + "}"
        return "{" + ",".join(f"[{source.one_of([1, 2, 3, 4, 11, 12, 30, 1.5, -1, 0, 2**31, 1e10])}]={item}" for item in items) + "}"
    return source.one_of([
        "nil", "true", "false", "0", "1", "-1", "127", "128", "-33", "255", "256", "65535", "65536", "-129", "2^31", "2^32", "-2^31-1",
        "2^53", "-2^63", "2^63", "2^64", "1.5", "-0.1", "1e300", "1/3", "1/0", "-1/0", "'text'", "''", "'12'", "'\\0\\1\\127/\\\\'",
        "('x'):rep(40)", "('y'):rep(300)", "cjson.null", "print", "math.floor", "ARGV"])


def message_pack(source):
    """Bytes of MessagePack, sound or not."""
    if source.chance(50):
        return source.random.randbytes(source.below(12))
    pieces = [
        b"\x01", b"\xff", b"\xc0", b"\xc2", b"\xc3", b"\xcc\xff", b"\xcd\xff\xff", b"\xce\xff\xff\xff\xff", b"\xcf" + b"\xff" * 8,
        b"\xd0\x80", b"\xd1\x80\x00", b"\xd2\x80\x00\x00\x00", b"\xd3\x80" + b"\x00" * 7, b"\xca\x3f\x80\x00\x00",
        b"\xcb\x3f\xf0" + b"\x00" * 6, b"\xa3abc", b"\xd9\x02ab", b"\xda\x00\x01a", b"\xdb\x00\x00\x00\x01a", b"\x92", b"\x90",
        b"\xdc\x00\x02", b"\xdd\x00\x00\x00\x01", b"\x81", b"\x80", b"\xde\x00\x01", b"\xdf\x00\x00\x00\x01", b"\xc1"]
    return b"".join(source.one_of(pieces) for _ in range(source.random.randint(1, 8)))


def struct_format(source):
    items = ["b", "B", "h", "H", "l", "L", "T", "i", "I", "f", "d", "s", "x", "c", ">", "<", "!", " "]
    text = ""
    for _ in range(source.random.randint(0, 5)):
        item = source.one_of(items)
        if item in "iIc!" and source.chance(60):
            item += str(source.one_of([0, 1, 2, 3, 4, 7, 8, 9, 16, 32]))
        text += item
    if source.chance(5):
        text += source.one_of(["z", "%", "5", "i33", "c99999999999", "!3", "\x80"])
    return text


# Everything as text, whatever it is, with the order of keys that both servers have.
SHOW = """local function show(value, depth)
  if type(value) == 'table' and (depth or 0) < 20 then
    local keys, parts = {}, {}
    for key in pairs(value) do keys[#keys + 1] = key end
    table.sort(keys, function(a, b) return type(a) .. tostring(a) < type(b) .. tostring(b) end)
    for _, key in ipairs(keys) do parts[#parts + 1] = show(key, 20) .. '=' .. show(value[key], (depth or 0) + 1) end
    return '{' .. table.concat(parts, ',') .. '}'
  end
  if type(value) == 'number' then return string.format('%.17g', value) end
  if type(value) == 'function' or type(value) == 'table' then return type(value) end
  return type(value) .. ':' .. tostring(value)
end
local function all(...)
  local parts = {}
  for index = 1, select('#', ...) do parts[index] = show((select(index, ...))) end
  return table.concat(parts, ';')
end
"""


def lua_library_command(source):
    kind = source.one_of(["json", "json", "encode", "encode", "unpack", "pack", "struct", "struct", "bit", "settings"])
    arguments = []
    if kind == "json":
        arguments = [json_text(source).encode()]
        code = "local ok, value = pcall(cjson.decode, ARGV[1]); return all(ok, value, pcall(cjson.encode, value))"
    elif kind == "encode":
        code = f"return all(pcall(cjson.encode, {lua_value(source)}))"
    elif kind == "unpack":
        arguments = [message_pack(source)]
        call = source.one_of([
            "cmsgpack.unpack, ARGV[1]", "cmsgpack.unpack_one, ARGV[1]", f"cmsgpack.unpack_one, ARGV[1], {source.below(9)}",
            f"cmsgpack.unpack_limit, ARGV[1], {source.below(5)}", f"cmsgpack.unpack_limit, ARGV[1], {source.below(5)}, {source.below(9) - 1}"])
        code = f"return all(pcall({call}))"
    elif kind == "pack":
        values = ",".join(lua_value(source) for _ in range(source.below(4)))
        code = f"""local packed = cmsgpack.pack({values})
return all((packed:gsub('.', function(byte) return string.format('%02x', byte:byte()) end)), pcall(cmsgpack.unpack, packed))"""
    elif kind == "struct":
        form = struct_format(source)
        if source.chance(50):
            arguments = [form, source.random.randbytes(source.below(40))]
            offset = f", {source.random.randint(-1, 9)}" if source.chance(30) else ""
            code = f"return all(pcall(struct.unpack, ARGV[1], ARGV[2]{offset})) .. all(pcall(struct.size, ARGV[1]))"
        else:
            arguments = [form]
            values = "".join(", " + lua_value(source, 3) for _ in range(source.below(6)))
            code = f"return all(pcall(function() return struct.pack(ARGV[1]{values}) end))"
    elif kind == "bit":
        name = source.one_of(
            ["tobit", "bnot", "band", "bor", "bxor", "lshift", "rshift", "arshift", "rol", "ror", "bswap", "tohex"])
        values = ",".join(lua_value(source, 3) for _ in range(source.below(4)))
        code = f"return all(pcall(function() return bit.{name}({values}) end))"
    else:
        name, values = source.one_of([
            ("encode_sparse_array", ["true", "false", "'on'", "nil, 0", "nil, 2, 3", "true, 3, 10", "1"]),
            ("encode_max_depth", ["2", "1000", "0", "'x'"]), ("decode_max_depth", ["2", "1000", "-1", "nil, nil"]),
            ("encode_number_precision", ["3", "14", "15", "0"]), ("encode_keep_buffer", ["true", "false", "'of'"]),
            ("encode_invalid_numbers", ["true", "false", "'null'", "'on'", "'x'"]),
            ("decode_invalid_numbers", ["true", "false", "'off'"])])
        text = json_text(source).replace("\0", "")
        code = f"""local module = cjson.new()
local set = all(pcall(module.{name}, {source.one_of(values)}))
return set .. all(pcall(module.{name})) .. all(pcall(module.decode, ARGV[1])) .. all(pcall(module.encode, {lua_value(source)}))"""
        arguments = [text.encode()]
    # `pairs` and `next` go through tables in the same order only as long as nothing depends on addresses.
    return ["EVAL", SHOW + code, 0, *arguments]


def function_command(source):
    library = f"library{source.below(4)}_{source.keys[0][1:-3].replace(':', '_')}"
    function = source.one_of([library, library, library, "f" + library[1:]])
    kind = source.one_of(["load", "load", "call", "call", "call", "list", "delete", "odd", "odd"])
    if kind == "load":
        flags = source.one_of(["", "", "flags={'no-writes'}", "flags={'allow-oom', 'ALLOW-STALE'}", "flags={'x'}", "flags=1"])
        body = source.one_of([
            "return redis.call('INCR', keys[1])", "return {keys, args}", "return redis.call('GET', keys[1])", "return args[1] .. 'x'",
            "error('broken')", "error({err='MINE alone'})", "return redis.error_reply('MINE alone')", "x = 1", "return y",
            "return redis.register_function", "redis.log(redis.LOG_DEBUG, 'x')", "return redis.setresp(3)",
            "local function f() return pcall(f) end return tostring(f())", "return redis.pcall('SET', keys[1])",
            "return redis.sha1hex('')", "redis.call('SET', keys[1], args[1]) redis.call('APPEND', keys[1], 'x') return 1",
            "return math.random", "return KEYS", "return getmetatable(_G) == nil", "return tostring(_G)  == nil"])
        registered = source.one_of([
            f"redis.register_function('{function}', function(keys, args) {body} end)",
            f"redis.register_function{{function_name='{function}', callback=function(keys, args) {body} end, description='what', {flags}}}",
            f"redis.register_function{{function_name='{function}', callback=function(keys, args) {body} end, {flags}}}"])
        if source.chance(25):
            registered = source.one_of([
                "", "redis.register_function()", "redis.register_function(1, 2)", "redis.register_function('a')", "redis.call('PING')",
                "math.floor(1)", "x = 1", "return x", "error('no')", "error({})", "error({err='MINE'})", "syntax error",
                "redis.register_function{}", "redis.register_function{function_name='a'}", "redis.register_function{callback=1}",
                "redis.register_function{[1]=1}", "redis.register_function{[{}]=1}", "redis.register_function{x=1}",
                "redis.register_function{description={}}", "redis.register_function('a b', function() end)", "redis.x = 1",
                "redis.register_function('a', function() end, 1)", "local t = {} t.x.y = 1", "redis.log(9, 'x')", "redis.log(1)",
                "redis.register_function({}, function() end)", f"{registered} {registered}", f"{registered} error('late')"])
        header = f"#!lua name={library}"
        if source.chance(10):
            header = source.one_of([
                "", "#!", "#!lua", "#!LUA name=x-y", "#!js name=a", f"#!lua name={library} name=x", f"#!lua x={library}", "#!lua name=",
                f'#!lua name="{library}"', "#!lua 'name=a", f"#!Lua NAME={library}"])
        return ["FUNCTION", "LOAD", *source.one_of([[], ["REPLACE"], ["REPLACE"], ["x"]]), f"{header}\n{registered}"]
    if kind == "call":
        keys = source.one_of([[], [source.key()], [source.key(), source.key()]])
        count = source.one_of([len(keys)] * 8 + ["x", -1, 5])
        name = source.one_of(["FCALL", "FCALL", "FCALL_RO"])
        return [name, source.one_of([function, function.upper()]), count, *keys, *[source.one_of(["7", "text"]) for _ in range(source.below(3))]]
    if kind == "list":
        return ["FUNCTION", "LIST", *source.one_of([["LIBRARYNAME", library], ["WITHCODE", "LIBRARYNAME", library], ["libraryname", "none*"]])]
    if kind == "delete":
        return ["FUNCTION", "DELETE", library]
    return source.one_of([
        ["FUNCTION"], ["FUNCTION", "LOAD"], ["FUNCTION", "LIST", "LIBRARYNAME"], ["FUNCTION", "LIST", "x"], ["FUNCTION", "FLUSH", "x"],
        ["FUNCTION", "FLUSH", "SYNC", "x"], ["FUNCTION", "RESTORE", "x"], ["FUNCTION", "RESTORE", "x", "y"], ["FUNCTION", "KILL"],
        ["FUNCTION", "RESTORE", "x", "FLUSH", "y"], ["FUNCTION", "HELP"], ["FUNCTION", "NONE"], ["FUNCTION", "DUMP", "x"],
        ["FUNCTION", "LIST", "WITHCODE", "WITHCODE"], ["FCALL", "none", 0], ["FCALL"], ["FUNCTION", "STATS"],
        ["COMMAND", "GETKEYS", "FCALL", "f", 2, "a", "b", "c"], ["COMMAND", "INFO", "FCALL"], ["COMMAND", "DOCS", "FUNCTION|RESTORE", "FUNCTION|HELP"]])


def valkey_command(source):
    """What Valkey 9 has and Redis 7.0 has not: times to live of fields, conditions on strings. Only points in time, so that
    both servers mean the same."""
    chance = source.chance
    key = source.one_of(source.keys[:4])
    text = source.one_of(source.keys[4:7])
    past = [1, 0, int(time.time()) - 5]
    points = {"EXAT": past + [source.later, source.later + 7], "PXAT": [1, source.later * 1000, source.later * 1000 + 900]}
    odd = ["", "x", -1, 2**63 - 1, 2**53, "1.5", " 1"]

    def point(word):
        return source.one_of(odd if chance(6) else points[word])

    def fields(width=1):
        count = source.random.randint(1, 4)
        words = [source.word("FIELDS"), source.one_of([0, -1, count + 1, "x", 2**63 - 1, 2**62]) if chance(5) else count]
        for _ in range(count):
            words += [f"f{source.below(5)}"] + [source.one_of(["1", "2.5", "v", "w" * 80]) for _ in range(width - 1)]
        return words[:-1] if chance(3) else words

    def options(*words):
        chosen = []
        for word in source.random.choices(words, k=source.one_of([0, 1, 1, 2])):
            chosen += [source.word(word)]
            if word in points and chance(98):
                chosen += [point(word)]
            if word == "IFEQ":
                chosen += [source.one_of(["a", "b", ""])]
        return chosen

    def times():
        name, word = source.one_of([("HEXPIREAT", "EXAT"), ("HPEXPIREAT", "PXAT")])
        conditions = source.random.choices(["NX", "XX", "GT", "LT"], k=source.one_of([0, 1, 1, 2]))
        return [name, key, point(word)] + conditions + fields()

    def pairs():
        count = source.random.randint(1, 3)
        words = [source.one_of([0, -1, "x", count + 1, 2**31 - 1, 2**31]) if chance(5) else count]
        return words + [word for _ in range(count) for word in (source.one_of(source.keys[4:8]), source.one_of("ab"))]

    return source.one_of([
        times, times, times,
        lambda: ["HSETEX", key] + options("NX", "XX", "FNX", "FXX", "EXAT", "PXAT", "KEEPTTL") + fields(2),
        lambda: ["HSETEX", key] + options("FNX", "EXAT", "PXAT", "KEEPTTL") + fields(2),
        lambda: ["HGETEX", key] + options("EXAT", "PXAT", "PERSIST") + fields(),
        lambda: [source.one_of(["HEXPIRETIME", "HPEXPIRETIME", "HPERSIST", "HGETDEL"]), key] + fields(),
        lambda: ["HSET", key, f"f{source.below(5)}", source.one_of(["1", "v", "w" * 80])],
        lambda: [source.one_of(["HSETNX", "HINCRBY"]), key, f"f{source.below(5)}", "3"],
        lambda: [source.one_of(["HDEL", "HGET", "HEXISTS"]), key, f"f{source.below(5)}"],
        lambda: [source.one_of(["HGETALL", "HKEYS", "HLEN", "HLEN"]), key],
        lambda: ["OBJECT", "ENCODING", key],
        lambda: [source.one_of(["COPY", "RENAME"]), key, source.one_of(source.keys[:4])],
        lambda: ["SET", text, source.one_of("ab")] + options("NX", "XX", "GET", "IFEQ", "EXAT", "PXAT", "KEEPTTL"),
        lambda: ["MSETEX"] + pairs() + options("NX", "XX", "EXAT", "PXAT", "KEEPTTL"),
        lambda: ["DELIFEQ", source.one_of([key, text, text, text]), source.one_of("ab")],
        lambda: [source.one_of(["GET", "PEXPIRETIME", "GETDEL", "TYPE"]), text],
        lambda: ["RPUSH", source.keys[7], "a"] if chance(20) else ["DEL", source.one_of([key, source.keys[7]])],
    ])()


FAMILIES = {
    "string": string_command, "bitmap": bitmap_command, "generic": generic_command, "hash": hash_command,
    "list": list_command, "sorted_set": sorted_set_command, "geo": geo_command, "set": set_command,
    "hyperloglog": hyperloglog_command, "sort": sort_command, "stream": stream_command,
    "lua_library": lua_library_command, "function": function_command}

# Families that Redis 7.0 cannot be asked about.
OTHER_FAMILIES = {"valkey": valkey_command}

# Whose elements come in an order that every server chooses: how many of them belong together.
UNORDERED = {
    "HGETALL": 2, "HKEYS": 1, "HVALS": 1, "SMEMBERS": 1, "SINTER": 1, "SUNION": 1, "SDIFF": 1, "SSCAN": 1, "SPOP": 1,
    "SRANDMEMBER": 1}

# Left out when the server under test does not know them yet.
OPTIONAL = {"OBJECT", "PEXPIRETIME", "TYPE", "DUMP", "SADD"}


def same(command, first, second):
    """Whether two replies are the same but for an order that means nothing."""
    if first == second:
        return True
    name = str(command[0]).upper()
    width = UNORDERED.get(name, 0)
    if name == "HRANDFIELD":
        # Pairs are arrays of their own in RESP3.
        width = 2 if len(command) > 3 and b"\r\n*" not in first[:24] else 1
    if name == "SSCAN":
        # The members are behind the cursor.
        whole = b"*2\r\n$1\r\n0\r\n"
        first, second = first.removeprefix(whole), second.removeprefix(whole)
    return width > 0 and first[:1] in b"*%~" and in_any_order(first, width) == in_any_order(second, width)


def in_any_order(reply, width):
    """The head of an aggregate, and its elements sorted, those together that belong together."""
    elements, rest = [], reply
    head, rest = reply.split(b"\r\n", 1)
    while rest:
        size = element_size(rest)
        elements.append(rest[:size])
        rest = rest[size:]
    groups = [b"".join(elements[index:index + width]) for index in range(0, len(elements), width)]
    return head, sorted(groups)


def element_size(data):
    end = data.index(b"\r\n") + 2
    kind, number = data[:1], data[1:end - 2]
    if kind in b"$=!":
        return end + max(0, int(number) + 2 if int(number) >= 0 else 0)
    if kind in b"*~>%|":
        for _ in range(int(number) * (2 if kind in b"%|" else 1)):
            end += element_size(data[end:])
    return end


def read_raw(connection):
    """The bytes of one reply."""
    line = connection.read_line()
    kind, rest = line[:1], line[1:]
    parts = [line, b"\r\n"]
    if kind in b"$=!" and int(rest) >= 0:
        parts.append(connection.read_exactly(int(rest) + 2))
    elif kind in b"*~>":
        parts += [read_raw(connection) for _ in range(int(rest))]
    elif kind in b"%|":
        parts += [read_raw(connection) for _ in range(2 * int(rest))]
    return b"".join(parts)


def compare(one, other, family, seed, count, resp3=False, keys=None, without=()):
    """Gives `count` commands of a family, but some names, to both connections. - Raises: Failure at the first difference."""
    source = Source(seed, family)
    source.keys = keys or source.keys
    make = FAMILIES.get(family) or OTHER_FAMILIES[family]
    for connection in (one, other):
        connection.send(encode("HELLO", 3 if resp3 else 2))
        read_raw(connection)
    known = {name: is_known(one, name) and is_known(other, name) for name in OPTIONAL}
    history = []
    while len(history) < count:
        commands = []
        while len(commands) < BATCH:
            command = make(source)
            # The payload of DUMP ends with a version and a checksum that servers choose for themselves.
            if known.get(command[0], True) and command[0] != "DUMP" and command[0] not in without:
                commands.append(command)
        data = b"".join(encode(*command) for command in commands)
        one.send(data)
        other.send(data)
        replies = [[read_raw(connection) for _ in commands] for connection in (one, other)]
        for command, first, second in zip(commands, *replies):
            history.append(command)
            if not same(command, first, second):
                raise Failure(describe("replies", family, seed, history, first, second))


def is_known(connection, name):
    connection.send(encode(name))
    return not read_raw(connection).startswith(b"-ERR unknown command")


def describe(what, family, seed, history, first, second):
    """What differs, and the last commands that touched the same keys."""
    command = history[-1]
    keys = {word for word in command if isinstance(word, str) and word.startswith("{")}
    before = [earlier for earlier in history[:-1] if keys & {word for word in earlier if isinstance(word, str)}]
    lines = [f"{what} differ: family {family}, seed {seed}, command {len(history)}: {shorten(command, 2000)}"]
    lines += [f"one:   {shorten(first, 1000)}", f"other: {shorten(second, 1000)}"]
    lines += [f"before: {shorten(earlier, 300)}" for earlier in before[-12:]]
    return "\n        ".join(lines)


def main():
    one, other = (RawConnection("127.0.0.1", int(port), timeout=30) for port in sys.argv[1:3])
    families = sys.argv[3:4] if len(sys.argv) > 3 else sorted(FAMILIES)
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.randrange(10**6)
    count = int(sys.argv[5]) if len(sys.argv) > 5 else 20000
    for connection in (one, other):
        connection.send(encode("FLUSHALL"))
        read_raw(connection)
    for family in families:
        compare(one, other, family, seed, count)
        print(f"{family}: {count} commands agree, seed {seed}")


if __name__ == "__main__":
    main()
