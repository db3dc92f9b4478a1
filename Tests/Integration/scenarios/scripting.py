"""Scripts: replies as of a real Redis server, effects on replicas, and long ones that others notice but the bus does not."""

from differential import read_raw
from harness import RawConnection, encode, expect, expect_equal, wait_until

# Each is sent to both servers, in this order, over one connection each.
CASES = (
    ('EVAL', 'return 1', '0'),
    ('EVAL', "return {1,2,'x',{3,'y'},true,false,nil,5}", '0'),
    ('EVAL', "return redis.call('set',KEYS[1],ARGV[1])", '1', 'k', 'v'),
    ('EVAL', "return redis.call('get',KEYS[1])", '1', 'k'),
    ('EVAL', "return redis.call('incr',KEYS[1])", '1', 'k'),
    ('EVAL', "return redis.pcall('incr',KEYS[1])", '1', 'k'),
    ('EVAL', 'return foo', '0'),
    ('EVAL', 'foo = 1', '0'),
    ('EVAL', 'redis.call = 1', '0'),
    ('EVAL', "rawset(redis,'call',1)", '0'),
    ('EVAL', "rawset(_G,'x',1)", '0'),
    ('EVAL', 'setmetatable(_G,{})', '0'),
    ('EVAL', 'local g=getmetatable(_G); g.__index={}', '0'),
    ('EVAL', "getmetatable('').__index = 1", '0'),
    ('EVAL', "return type(getmetatable(''))", '0'),
    ('EVAL', "return ('abc'):upper()", '0'),
    ('EVAL', 'return loadstring(string.dump(function() return 1 end))()', '0'),
    ('EVAL', "return {loadstring('return 5')(), loadstring('x y')}", '0'),
    ('EVAL', "local f, e = loadstring('\\27Lua'); return e", '0'),
    (
        'EVAL',
        "local i=0; local f,e=load(function() i=i+1; if i==1 then return 'return ' elseif i==2 then return '77' end end); return f()",
        '0',
    ),
    ('EVAL', 'return {unpack({1,2,3}, -2, 2147483647)}', '0'),
    ('EVAL', 'return {unpack({1,2,3}, 2)}', '0'),
    ('EVAL', 'table.insert(redis, 1)', '0'),
    ('EVAL', 'table.insert(_G, 1)', '0'),
    ('EVAL', 'local n={} for k,v in pairs(string) do n[#n+1]=k end table.sort(n) return n', '0'),
    ('EVAL', 'local n={} for k,v in pairs(table) do n[#n+1]=k end table.sort(n) return n', '0'),
    ('EVAL', 'local n={} for k,v in pairs(math) do n[#n+1]=k end table.sort(n) return n', '0'),
    ('EVAL', 'local n={} for k,v in pairs(coroutine) do n[#n+1]=k end table.sort(n) return n', '0'),
    ('EVAL', "error('x')", '0'),
    ('EVAL', "error({err='MY err'})", '0'),
    ('EVAL', 'error()', '0'),
    ('EVAL', 'error(true)', '0'),
    ('EVAL', "return {pcall(error,'x')}", '0'),
    ('EVAL', "return {pcall(redis.call,'nosuch')}", '0'),
    ('EVAL', "return {pcall(function() error({err='a',x=1}) end)}", '0'),
    ('EVAL', 'return redis.call()', '0'),
    ('EVAL', "return redis.call('get')", '0'),
    ('EVAL', 'return redis.call({})', '0'),
    ('EVAL', "return redis.call('blpop','x',0)", '0'),
    ('EVAL', "return redis.call('set','n',1.5)", '0'),
    ('EVAL', "return redis.call('set','n',0.1)", '0'),
    ('EVAL', "redis.call('set','n',0/0) return redis.call('get','n')", '0'),
    ('EVAL', "redis.call('set','n',1e300) return redis.call('get','n')", '0'),
    ('EVAL', "redis.call('set','n',-0) return redis.call('get','n')", '0'),
    ('EVAL', "redis.call('set','n',12345678901234567890) return redis.call('get','n')", '0'),
    ('EVAL', "redis.call('set','n',123456789012345678) return redis.call('get','n')", '0'),
    ('EVAL', 'return {1e300,-1e300,0/0,3.99,-3.99,2^63,-2^63}', '0'),
    ('EVAL', "return {ok='a\\r\\nb'}", '0'),
    ('EVAL', "return {err='a\\r\\nb'}", '0'),
    ('EVAL', 'return {double=3.5}', '0'),
    ('EVAL', 'return {map={a=1}}', '0'),
    ('EVAL', 'return {set={a=true}}', '0'),
    ('EVAL', "return {big_number='123\\r\\n4'}", '0'),
    ('EVAL', "return {verbatim_string={format='txt',string='hi'}}", '0'),
    ('EVAL', "return redis.sha1hex('abc')", '0'),
    ('EVAL', 'return redis.sha1hex()', '0'),
    ('EVAL', "return redis.error_reply('')", '0'),
    ('EVAL', "return redis.error_reply('ABC')", '0'),
    ('EVAL', "return redis.error_reply('-ABC def')", '0'),
    ('EVAL', 'return redis.error_reply(1)', '0'),
    ('EVAL', "return redis.status_reply('fine')", '0'),
    ('EVAL', 'return redis.setresp(4)', '0'),
    ('EVAL', 'redis.setresp(3); return {true,false}', '0'),
    ('EVAL', "redis.setresp(3); redis.call('hset','h','a',1); return redis.call('hgetall','h')", '0'),
    ('EVAL', "redis.setresp(3); redis.call('sadd','s','a'); return redis.call('smembers','s')", '0'),
    ('EVAL', 'redis.set_repl(99)', '0'),
    ('EVAL', "redis.log(redis.LOG_WARNING,'x','y') return 1", '0'),
    ('EVAL', "redis.log(9,'x')", '0'),
    ('EVAL', "redis.log('x')", '0'),
    (
        'EVAL',
        'return {redis.LOG_DEBUG,redis.LOG_VERBOSE,redis.LOG_NOTICE,redis.LOG_WARNING,redis.REPL_NONE,redis.REPL_AOF,redis.REPL_SLAVE,redis.REPL_REPLICA,redis.REPL_ALL}',
        '0',
    ),
    ('EVAL', "return {redis.breakpoint(),redis.debug('x'),redis.replicate_commands()}", '0'),
    ('EVAL', "return redis.acl_check_cmd('set','a','b')", '0'),
    ('EVAL', "return redis.acl_check_cmd('nosuch','a','b')", '0'),
    ('EVAL', 'return redis.acl_check_cmd()', '0'),
    ('EVAL', 'x y z', '0'),
    ('EVAL', 'return 1', '-1'),
    ('EVAL', 'return 1', '5'),
    ('EVAL', 'return 1', 'x'),
    ('EVAL', '#!lua', '0'),
    ('EVAL', '#!foo\nreturn 1', '0'),
    ('EVAL', '#!lua flags=foo\nreturn 1', '0'),
    ('EVAL', '#!lua x=foo\nreturn 1', '0'),
    ('EVAL', '#!lua flags=\nreturn 1', '0'),
    ('EVAL', "#!lua flags=no-writes\nreturn redis.call('set','a',1)", '0'),
    ('EVAL_RO', "return redis.call('set','a',1)", '0'),
    ('EVAL_RO', '#!lua\nreturn 1', '0'),
    ('EVALSHA', 'abc', '0'),
    ('EVALSHA', 'e0e1f9fabfc9d4800c877a703b823ac0578ff8db', '0'),
    ('EVALSHA', 'E0E1F9FABFC9D4800C877A703B823AC0578FF8DB', '0'),
    ('EVALSHA', 'e0e1f9fabfc9d4800c877a703b823ac0578ff8dc', '0'),
    ('SCRIPT', 'LOAD', "return 'x'"),
    ('SCRIPT', 'LOAD', 'x y'),
    ('SCRIPT', 'EXISTS', 'e0e1f9fabfc9d4800c877a703b823ac0578ff8db', 'abc'),
    ('SCRIPT', 'KILL'),
    ('SCRIPT', 'FLUSH', 'foo'),
    ('SCRIPT', 'FOO'),
    ('EVAL', "return string.rep('x',10) .. string.rep('ab',3) .. string.rep('',100)", '0'),
    ('EVAL', 'return {tostring(nil),tostring(1.5),#KEYS,#ARGV,KEYS[1],ARGV[2]}', '1', 'a', 'b', 'c'),
    (
        'EVAL',
        'math.randomseed(10) return {tostring(math.random()),math.random(10),math.random(5,9),tostring(math.random())}',
        '0',
    ),
    ('EVAL', 'return math.random(0)', '0'),
    ('EVAL', 'local t={3,1,2} table.sort(t) return t', '0'),
    (
        'EVAL',
        "local c=coroutine.wrap(function() redis.call('set','co',1) coroutine.yield(redis.call('get','co')) end) return c()",
        '0',
    ),
    ('EVAL', 'return next({})', '0'),
    ('EVAL', "return collectgarbage('count') > 1", '0'),
    ('EVAL', 'return _VERSION', '0'),
    ('EVAL', "return redis.call('select',3)", '0'),
    ('EVAL', "return redis.call('get','k')", '0'),
    ('EVAL', "return redis.call('eval','return 1',0)", '0'),
    ('EVAL', "return redis.call('config','nosuch')", '0'),
    ('EVAL', "return redis.call('config')", '0'),
    ('EVAL', "return redis.call('object','help')", '0'),
    ('EVAL', "return #redis.call('time')", '0'),
    ('EVAL', "return redis.call('mget','k','nope')", '0'),
    ('EVAL', "local r = redis.call('mget','k','nope') return {type(r[2]), tostring(r[2])}", '0'),
    ('EVAL', "return string.find(string.rep('a',100), string.rep('a?',10)..string.rep('a',10))", '0'),
    ('EVAL', 'return getmetatable(redis)', '0'),
    ('EVAL', "return {rawget(redis,'nope'),type(rawget(redis,'call')),redis.nope}", '0'),
    ('EVAL', 'local function f() return 1 end return f()', '0'),
    ('EVAL', 'local function f() return 1+f() end return f()', '0'),)

# Runs for some seconds, whatever the machine.
SLOW = "local t = redis.call('time') repeat local n = redis.call('time') until n[1] - t[1] > 2 "


def check_replies_like_redis(environment):
    """Conversions, errors, the API and the sandbox: byte for byte as redis-server 7.0.15, with RESP2 and RESP3."""
    servers = [environment.server(kind) for kind in ("martlet", "redis")]
    for version in (2, 3):
        connections = [RawConnection(server.host, server.port) for server in servers]
        for connection in connections:
            connection.call("HELLO", version)
            connection.send(encode("FLUSHALL"))
            read_raw(connection)
        for case in CASES:
            replies = []
            for connection in connections:
                connection.send(encode(*case))
                replies.append(read_raw(connection))
            expect_equal(replies[0], replies[1], f"reply to {case} with RESP{version}")
        for connection in connections:
            connection.close()


def check_effects_reach_replicas(environment):
    """What a script changes reaches replicas of both kinds as one transaction, without what set_repl keeps back."""
    for kind, replica_kind in (("martlet", "redis"), ("martlet", "martlet"), ("redis", "martlet")):
        primary = environment.server(kind)
        replica = environment.server(replica_kind, replicaof=f"127.0.0.1 {primary.port}")
        wait_until(lambda: replica.info("replication")["master_link_status"] == "up", 20, f"{replica} follows")
        primary.call("EVAL", """
            redis.call('set', 'a', 1) redis.call('incr', 'a') redis.call('spop', 'none') redis.call('expire', 'a', 100)
            redis.set_repl(redis.REPL_NONE) redis.call('set', 'kept', 1) redis.set_repl(redis.REPL_ALL)
            redis.call('select', 3) redis.call('sadd', 's', 1, 2, 3) redis.call('spop', 's')
            """, 0)
        with RawConnection(primary.host, primary.port) as connection:
            try:
                connection.call("EVAL", "redis.call('set', 'before the error', 1) redis.call('nosuch')", 0)
            except Exception as error:  # noqa: BLE001
                expect("Unknown Redis command" in str(error), f"{error}")
            connection.call("SELECT", 3)
            left = sorted(connection.call("SMEMBERS", "s"))
        primary.call("SET", "last", 1)
        wait_until(lambda: replica.call("GET", "last") == b"1", 20, "the replica has everything")
        expect_equal(replica.call("MGET", "a", "kept", "before the error"), [b"2", None, b"1"], "on the replica")
        expect(0 < replica.call("TTL", "a") <= 100, "the expiry came along")
        with RawConnection(replica.host, replica.port) as connection:
            connection.call("SELECT", 3)
            expect_equal(sorted(connection.call("SMEMBERS", "s")), left, "the set on the replica")


def check_long_scripts(environment):
    """BUSY for others, a reply in the end, SCRIPT KILL, and a client that leaves meanwhile; with I/O threads as well."""
    for threads in (1, 3):
        server = environment.server(io_threads=threads, busy_reply_threshold=20)
        with RawConnection(server.host, server.port) as slow, RawConnection(server.host, server.port) as other:

            def becomes(is_busy):
                def test():
                    other.send(encode("PING"))
                    return other.read_line().startswith(b"-BUSY") == is_busy
                wait_until(test, 20, f"others are {'' if is_busy else 'not '}told BUSY")

            slow.send(encode("EVAL", SLOW + "return redis.call('incr', 'n')", 0) + encode("PING"))
            becomes(True)
            expect_equal(slow.read_reply(), 1, "the reply of a long script")
            expect_equal(slow.read_reply(), b"PONG", "the reply behind it")
            slow.send(encode("EVAL", "while true do pcall(function() while true do end end) end", 0))
            becomes(True)
            expect_equal(other.call("SCRIPT", "KILL"), b"OK", "SCRIPT KILL")
            expect("Script killed by user" in str(slow.read_reply()), "the script is told")
            becomes(False)
            with RawConnection(server.host, server.port) as leaving:
                leaving.send(encode("EVAL", SLOW + "redis.call('incr', 'n')", 0))
                becomes(True)
            becomes(False)
            expect_equal(other.call("GET", "n"), b"2", "the script ended without its client")
            slow.send(encode("EVAL", "redis.call('set', 'n', 3) while true do end", 0))
            becomes(True)
            other.send(encode("SCRIPT", "KILL"))
            expect(str(other.read_reply()).startswith("UNKILLABLE"), "it has written")
            other.send(encode("SHUTDOWN", "NOSAVE"))
        wait_until(lambda: not server.is_running, 20, "SHUTDOWN NOSAVE ends the server")


def check_the_bus_goes_on(environment):
    """A primary whose script runs for longer than the node timeout is not failed over, and keeps its replica."""
    cluster = environment.cluster(3, 1, timeout=1000, busy_reply_threshold=50)
    primary = cluster.shards[0][0]
    with RawConnection(primary.host, primary.port) as connection:
        connection.send(encode("EVAL", "local t = redis.call('time') repeat local n = redis.call('time') "
                               "until n[1] - t[1] > 4 return 'done'", 0))
        expect_equal(connection.read_reply(), b"done", "the reply")
    expect_equal(primary.role(), "master", "its role")
    expect("FAIL message received" not in "".join(node.log() for node in cluster.nodes), "nobody took it for failed")
