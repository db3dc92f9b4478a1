"""Function libraries between servers: images, payloads and the stream, in every pairing of Martlet and redis-server."""

import time

from harness import RawConnection, ReplyError, encode, expect, expect_equal, wait_until

PAIRS = (("martlet", "martlet"), ("martlet", "redis"), ("redis", "martlet"))

COUNTER = """#!lua name=counter
local step = 2
redis.register_function('count', function(keys) return redis.call('INCRBY', keys[1], step) end)
redis.register_function{function_name='peek', callback=function(keys) return redis.call('GET', keys[1]) end,
                        description='what it is', flags={'no-writes', 'allow-stale'}}"""


def libraries(server):
    """FUNCTION LIST WITHCODE without its order, which is each server's own."""
    found = server.call("FUNCTION", "LIST", "WITHCODE")
    return sorted((library[1], sorted(map(repr, library[5])), library[7]) for library in found)


def follow(replica, primary):
    replica.call("REPLICAOF", primary.host, primary.port)
    wait_until(lambda: replica.info("replication")["master_link_status"] == "up", 20, f"{replica} follows {primary}")


def check_replicas_have_functions(environment):
    """Libraries come with the image in place of older ones, and with the stream; so does what functions change."""
    for primary_kind, replica_kind in PAIRS:
        primary, replica = environment.server(primary_kind), environment.server(replica_kind)
        replica.call("FUNCTION", "LOAD", "#!lua name=old\nredis.register_function('count', function() return 'old' end)")
        primary.call("FUNCTION", "LOAD", COUNTER)
        long = "#!lua name=long\n-- " + "a long comment " * 2000 + "\nredis.register_function('long', function() end)"
        primary.call("FUNCTION", "LOAD", long)
        primary.call("SET", "key", 40)
        follow(replica, primary)
        expect_equal(libraries(replica), libraries(primary), f"{primary} → {replica}: libraries of the image")
        expect_equal(primary.call("FCALL", "COUNT", 1, "key"), 42, "a call")
        wait_until(lambda: replica.call("FCALL_RO", "peek", 1, "key") == b"42", 10, "what a function did is replicated")
        try:
            replica.call("FCALL", "count", 1, "key")
            expect(False, "a replica takes no writes of functions")
        except ReplyError as error:
            expect_equal(str(error), "READONLY You can't write against a read only replica.", "the refusal")
        payload = primary.call("FUNCTION", "DUMP")
        for change in (["DELETE", "long"], ["FLUSH"], ["RESTORE", payload], ["LOAD", "REPLACE", COUNTER.replace("2", "3", 1)]):
            primary.call("FUNCTION", *change)
            wait_until(lambda: libraries(replica) == libraries(primary), 10, f"{primary} → {replica}: FUNCTION {change[0]}")
        for server in (primary, replica):
            server.stop()


def check_payloads_are_common(environment):
    """What one kind of server dumps the other restores."""
    one, other = environment.server(), environment.server("redis")
    for source, target in ((one, other), (other, one)):
        source.call("FUNCTION", "LOAD", "REPLACE", COUNTER)
        target.call("FUNCTION", "FLUSH")
        expect_equal(target.call("FUNCTION", "RESTORE", source.call("FUNCTION", "DUMP")), b"OK", "a restored payload")
        expect_equal(libraries(target), libraries(source), f"{source} → {target}")


def check_functions_alone_can_be_had(environment):
    """redis-cli --functions-rdb gets an image of libraries without keys."""
    server, loader = environment.server(), environment.server("redis", start=False)
    server.call("FUNCTION", "LOAD", COUNTER)
    server.call("SET", "key", "value")
    environment.cli("-p", server.port, "--functions-rdb", f"{loader.folder}/dump.rdb")
    loader.start()
    expect_equal(libraries(loader), libraries(server), "what Redis finds in the image")
    expect_equal(loader.call("DBSIZE"), 0, "keys in it")


def check_a_library_may_not_run_for_long(environment):
    """FUNCTION LOAD ends after half a second; a function that runs on can be watched and killed."""
    server = environment.server(busy_reply_threshold=20)
    start = time.monotonic()
    try:
        server.call("FUNCTION", "LOAD", "#!lua name=endless\nwhile true do end")
        expect(False, "it ends")
    except ReplyError as error:
        expect_equal(str(error), "ERR Error registering functions: ERR FUNCTION LOAD timeout", "its end")
    expect(0.4 < time.monotonic() - start < 8, f"it takes half a second, not {time.monotonic() - start}")
    server.call("FUNCTION", "LOAD", "#!lua name=endless\nredis.register_function('endless', function() while true do end end)")
    with RawConnection(server.host, server.port) as connection:
        connection.send(encode("FCALL", "endless", 1, "key", "word"))
        wait_until(lambda: is_busy(server), 10, "the function holds the server up")
        running = server.call("FUNCTION", "STATS")[1]
        expect_equal(running[:4], [b"name", b"endless", b"command", [b"FCALL", b"endless", b"1", b"key", b"word"]], "what runs")
        for command in (["SCRIPT", "KILL"], ["FUNCTION", "FLUSH"]):
            try:
                server.call(*command)
                expect(False, f"{command} is refused")
            except ReplyError as error:
                expect(str(error).startswith("BUSY "), f"{command}: {error}")
        expect_equal(server.call("FUNCTION", "KILL"), b"OK", "the kill")
        error = str(connection.read_reply())
        expect(error.startswith("ERR Script killed by user with SCRIPT KILL... script: endless, on"), error)
    expect_equal(server.call("PING"), b"PONG", "the server afterwards")


def is_busy(server):
    try:
        server.call("PING")
        return False
    except ReplyError as error:
        return str(error).startswith("BUSY ")
