import MartletBase
import MartletKeyspace
import Testing

@testable import MartletServer

/// Replies are those of redis-server 7.0.15.
@Suite struct SortedSetCommandTests {
    private func tell(inRESP3: Bool = false, _ lines: [(String, String)]) {
        let node = NodeHarness()
        if inRESP3 { node("HELLO 3") }
        for (line, reply) in lines { #expect(node(line) == reply, "\(line)") }
    }

    @Test func membersAreAddedWithScores() {
        tell([
            ("ZADD z 1 a 2 b 3 c", ":3\r\n"),
            ("ZADD z 1 a 5 b", ":0\r\n"),
            ("ZADD z CH 1 a 6 b 7 d", ":2\r\n"),
            ("ZADD z NX 9 a 9 e", ":1\r\n"),
            ("ZADD z XX 9 a 9 f", ":0\r\n"),
            ("ZADD z XX CH 8 a 9 f", ":1\r\n"),
            ("ZADD z GT CH 7 a 99 b", ":1\r\n"),
            ("ZADD z LT CH 7 a 99 b", ":1\r\n"),
            ("ZADD z GT 1 new", ":1\r\n"),
            ("ZADD z INCR 2.5 a", "$3\r\n9.5\r\n"),
            ("ZADD z NX INCR 1 a", "$-1\r\n"),
            ("ZADD z XX INCR 1 none", "$-1\r\n"),
            ("ZADD z GT INCR -1 a", "$-1\r\n"),
            ("zadd z inf top -inf bottom +inf other", ":3\r\n"),
            ("ZADD z INCR -inf top", "-ERR resulting score is not a number (NaN)\r\n"),
            ("ZINCRBY z -inf top", "-ERR resulting score is not a number (NaN)\r\n"),
            ("ZINCRBY z 1 bottom", "$4\r\n-inf\r\n"),
            ("ZINCRBY z 0.1 tenth", "$19\r\n0.10000000000000001\r\n"),
            ("ZINCRBY z 0.2 tenth", "$19\r\n0.30000000000000004\r\n"),
            ("ZSCORE z tenth", "$19\r\n0.30000000000000004\r\n"),
            (
                "ZRANGE z 0 -1 WITHSCORES",
                "*20\r\n$6\r\nbottom\r\n$4\r\n-inf\r\n$5\r\ntenth\r\n$19\r\n0.30000000000000004\r\n$3\r\n"
                    + "new\r\n$1\r\n1\r\n$1\r\nc\r\n$1\r\n3\r\n$1\r\nd\r\n$1\r\n7\r\n$1\r\ne\r\n$1\r\n9\r\n$1\r\n"
                    + "a\r\n$3\r\n9.5\r\n$1\r\nb\r\n$2\r\n99\r\n$5\r\nother\r\n$3\r\ninf\r\n$3\r\ntop\r\n$3\r\n"
                    + "inf\r\n"
            ),
            ("ZADD none XX 1 a", ":0\r\n"),
            ("ZADD none XX INCR 1 a", "$-1\r\n"),
            ("EXISTS none", ":0\r\n"),
            ("ZCARD z", ":10\r\n"),
            ("ZMSCORE z a none b", "*3\r\n$3\r\n9.5\r\n$-1\r\n$2\r\n99\r\n"),
            ("ZMSCORE none a", "*1\r\n$-1\r\n"),
            ("ZSCORE none a", "$-1\r\n"),
            ("ZSCORE z none", "$-1\r\n"),
            ("OBJECT ENCODING z", "$8\r\nlistpack\r\n"),
            ("ZADD z 17179869184 large 4611686018427387904 huge 1e20 1e20 0x10 hex -0 zero", ":5\r\n"),
            (
                "ZMSCORE z large huge 1e20 hex zero",
                "*5\r\n$11\r\n17179869184\r\n$22\r\n4.6116860184273879e+18\r\n$5\r\n1e+20\r\n$2\r\n16\r\n"
                    + "$1\r\n0\r\n"
            ),
            ("ZADD z 1 1234567890123456789012345678901234567890123456789012345678901234", ":1\r\n"),
            ("OBJECT ENCODING z", "$8\r\nlistpack\r\n"),
            ("ZADD z 1 12345678901234567890123456789012345678901234567890123456789012345", ":1\r\n"),
            ("OBJECT ENCODING z", "$8\r\nskiplist\r\n"),
            (
                "ZMSCORE z large huge 1e20 hex zero tenth top",
                "*7\r\n$11\r\n17179869184\r\n$22\r\n4.6116860184273879e+18\r\n$5\r\n1e+20\r\n$2\r\n16\r\n"
                    + "$1\r\n0\r\n$19\r\n0.30000000000000004\r\n$3\r\ninf\r\n"
            ),
            ("ZADD z -0 minus", ":1\r\n"),
            ("ZSCORE z minus", "$2\r\n-0\r\n"),
        ])
    }

    @Test func mistakesInZaddAreNamed() {
        tell([
            ("ZADD z 1", "-ERR wrong number of arguments for 'zadd' command\r\n"),
            ("ZADD z 1 a 2", "-ERR syntax error\r\n"),
            ("ZADD z NX", "-ERR wrong number of arguments for 'zadd' command\r\n"),
            ("ZADD z NX XX 1 a", "-ERR XX and NX options at the same time are not compatible\r\n"),
            ("ZADD z GT NX 1 a", "-ERR GT, LT, and/or NX options at the same time are not compatible\r\n"),
            ("ZADD z LT GT 1 a", "-ERR GT, LT, and/or NX options at the same time are not compatible\r\n"),
            ("ZADD z INCR 1 a 2 b", "-ERR INCR option supports a single increment-element pair\r\n"),
            ("ZADD z x a", "-ERR value is not a valid float\r\n"),
            ("ZADD z nan a", "-ERR value is not a valid float\r\n"),
            ("ZADD z 1 a x b", "-ERR value is not a valid float\r\n"),
            ("ZADD z \"\" a", "-ERR value is not a valid float\r\n"),
            ("ZADD z \" 1\" a", "-ERR value is not a valid float\r\n"),
            ("ZINCRBY z x a", "-ERR value is not a valid float\r\n"),
            ("ZINCRBY z NX a", "-ERR syntax error\r\n"),
            ("EXISTS z", ":0\r\n"),
            ("SET s 1", "+OK\r\n"),
            ("ZADD s 1 a", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZADD s x a", "-ERR value is not a valid float\r\n"),
            ("ZINCRBY s 1 a", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZREM s a", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZCARD s", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZSCORE s a", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZMSCORE s a", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZRANK s a", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZRANGE s 0 -1", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZRANGE s x -1", "-ERR value is not an integer or out of range\r\n"),
            ("ZRANGESTORE t s 0 -1", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZREMRANGEBYRANK s 0 -1", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZPOPMIN s", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZPOPMIN s 0", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZMPOP 1 s MIN", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZUNION 1 s", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZUNION 1 s WEIGHTS", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZUNIONSTORE t 1 s", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZSCAN s 0", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZRANDMEMBER s", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZRANDMEMBER s 0", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZCOUNT s 0 1", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("ZLEXCOUNT s - +", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
        ])
    }

    @Test func ranksAndCounts() {
        tell([
            ("ZADD z 1 a 2 b 3 c 3 d 4 e", ":5\r\n"),
            ("ZRANK z a", ":0\r\n"),
            ("ZRANK z d", ":3\r\n"),
            ("ZREVRANK z a", ":4\r\n"),
            ("ZREVRANK z d", ":1\r\n"),
            ("ZRANK z none", "$-1\r\n"),
            ("ZRANK none a", "$-1\r\n"),
            ("ZREVRANK none a", "$-1\r\n"),
            ("ZCOUNT z -inf +inf", ":5\r\n"),
            ("ZCOUNT z (1 3", ":3\r\n"),
            ("ZCOUNT z 1 (3", ":2\r\n"),
            ("ZCOUNT z (3 (3", ":0\r\n"),
            ("ZCOUNT z 5 1", ":0\r\n"),
            ("ZCOUNT z \"\" 3", ":4\r\n"),
            ("ZCOUNT z ( 3", ":4\r\n"),
            ("ZCOUNT z x 3", "-ERR min or max is not a float\r\n"),
            ("ZCOUNT z 1 nan", "-ERR min or max is not a float\r\n"),
            ("ZCOUNT z 1e400 inf", ":0\r\n"),
            ("ZCOUNT z -1e400 1e400", ":5\r\n"),
            ("ZCOUNT none 0 1", ":0\r\n"),
            ("ZADD lex 0 a 0 b 0 c 0 bb 0 \"\"", ":5\r\n"),
            ("ZLEXCOUNT lex - +", ":5\r\n"),
            ("ZLEXCOUNT lex [a [c", ":4\r\n"),
            ("ZLEXCOUNT lex (a (c", ":2\r\n"),
            ("ZLEXCOUNT lex + -", ":0\r\n"),
            ("ZLEXCOUNT lex [ [b", ":3\r\n"),
            ("ZLEXCOUNT lex ( [b", ":2\r\n"),
            ("ZLEXCOUNT lex a b", "-ERR min or max not valid string range item\r\n"),
            ("ZLEXCOUNT lex -1 +", "-ERR min or max not valid string range item\r\n"),
            ("ZLEXCOUNT lex - \"\"", "-ERR min or max not valid string range item\r\n"),
        ])
    }

    /// A listpack keeps no negative zero, so it matters whether what makes the target large comes first.
    @Test func membersAreStoredInTheOrderOfTheRange() {
        let node = NodeHarness()
        let long = String(repeating: "x", count: 65)
        node("ZADD source 1 \(long)")
        node("ZADD source -0 a")
        node("ZRANGESTORE forwards source 0 -1")
        node("ZRANGESTORE backwards source 0 -1 REV")
        #expect(node("ZSCORE source a") == .bulk("-0"))
        #expect(node("ZSCORE forwards a") == .bulk("0"))
        #expect(node("ZSCORE backwards a") == .bulk("-0"))
    }

    @Test func rangesByRankScoreAndBytes() {
        tell([
            ("ZADD z 1 a 2 b 3 c 3 d 4 e", ":5\r\n"),
            ("ZRANGE z 0 -1", "*5\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n$1\r\ne\r\n"),
            ("ZRANGE z 1 2 WITHSCORES", "*4\r\n$1\r\nb\r\n$1\r\n2\r\n$1\r\nc\r\n$1\r\n3\r\n"),
            ("ZRANGE z -2 -1", "*2\r\n$1\r\nd\r\n$1\r\ne\r\n"),
            ("ZRANGE z -100 1", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
            ("ZRANGE z -5 -4", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
            ("ZRANGE z -9 -8", "*0\r\n"),
            ("ZRANGE z 3 100", "*2\r\n$1\r\nd\r\n$1\r\ne\r\n"),
            ("ZRANGE z 5 6", "*0\r\n"),
            ("ZRANGE z 3 1", "*0\r\n"),
            ("ZRANGE z 0 1 REV", "*2\r\n$1\r\ne\r\n$1\r\nd\r\n"),
            ("ZREVRANGE z 0 1 WITHSCORES", "*4\r\n$1\r\ne\r\n$1\r\n4\r\n$1\r\nd\r\n$1\r\n3\r\n"),
            ("ZREVRANGE z -2 -1", "*2\r\n$1\r\nb\r\n$1\r\na\r\n"),
            ("ZRANGE z 2 3 BYSCORE", "*3\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n"),
            ("ZRANGE z (2 +inf BYSCORE LIMIT 1 2", "*2\r\n$1\r\nd\r\n$1\r\ne\r\n"),
            (
                "ZRANGE z +inf (2 BYSCORE REV LIMIT 1 2 WITHSCORES",
                "*4\r\n$1\r\nd\r\n$1\r\n3\r\n$1\r\nc\r\n$1\r\n3\r\n"
            ),
            ("ZRANGE z 2 3 BYSCORE LIMIT 0 -1", "*3\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n"),
            ("ZRANGE z 2 3 BYSCORE LIMIT -1 2", "*0\r\n"),
            ("ZRANGE z 2 3 BYSCORE LIMIT 9 2", "*0\r\n"),
            ("ZRANGE z 2 3 BYSCORE LIMIT 0 0", "*0\r\n"),
            ("ZRANGEBYSCORE z -inf 2 WITHSCORES", "*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n"),
            ("ZREVRANGEBYSCORE z 3 2 LIMIT 1 5", "*2\r\n$1\r\nc\r\n$1\r\nb\r\n"),
            ("ZRANGEBYSCORE z 3 2", "*0\r\n"),
            ("ZRANGE none 0 -1", "*0\r\n"),
            ("ZADD lex 0 a 0 b 0 c 0 bb", ":4\r\n"),
            ("ZRANGE lex - + BYLEX", "*4\r\n$1\r\na\r\n$1\r\nb\r\n$2\r\nbb\r\n$1\r\nc\r\n"),
            ("ZRANGE lex [b (c BYLEX", "*2\r\n$1\r\nb\r\n$2\r\nbb\r\n"),
            ("ZRANGE lex + [bb BYLEX REV", "*2\r\n$1\r\nc\r\n$2\r\nbb\r\n"),
            ("ZRANGEBYLEX lex - (bb LIMIT 1 5", "*1\r\n$1\r\nb\r\n"),
            ("ZREVRANGEBYLEX lex [c - LIMIT 0 2", "*2\r\n$1\r\nc\r\n$2\r\nbb\r\n"),
            ("ZREVRANGEBYLEX lex - +", "*0\r\n"),
            ("ZRANGESTORE t z 1 3", ":3\r\n"),
            ("ZRANGE t 0 -1 WITHSCORES", "*6\r\n$1\r\nb\r\n$1\r\n2\r\n$1\r\nc\r\n$1\r\n3\r\n$1\r\nd\r\n$1\r\n3\r\n"),
            ("ZRANGESTORE t z 2 (4 BYSCORE LIMIT 1 1", ":1\r\n"),
            ("ZRANGE t 0 -1 WITHSCORES", "*2\r\n$1\r\nc\r\n$1\r\n3\r\n"),
            ("ZRANGESTORE t z 0 1 REV", ":2\r\n"),
            ("ZRANGE t 0 -1 WITHSCORES", "*4\r\n$1\r\nd\r\n$1\r\n3\r\n$1\r\ne\r\n$1\r\n4\r\n"),
            ("ZRANGESTORE t z 9 9", ":0\r\n"),
            ("EXISTS t", ":0\r\n"),
            ("ZRANGESTORE z z 0 0", ":1\r\n"),
            ("ZRANGE z 0 -1", "*1\r\n$1\r\na\r\n"),
            ("ZRANGESTORE z none 0 0", ":0\r\n"),
            ("EXISTS z", ":0\r\n"),
            (
                "ZRANGE lex 0 1 LIMIT 0 1",
                "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX\r\n"
            ),
            ("ZRANGE lex 0 1 LIMIT 0 -1", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
            (
                "ZRANGE lex - + BYLEX WITHSCORES",
                "-ERR syntax error, WITHSCORES not supported in combination with BYLEX\r\n"
            ),
            ("ZRANGE lex 0 1 BYSCORE BYLEX", "-ERR syntax error\r\n"),
            ("ZRANGE lex 0 x", "-ERR value is not an integer or out of range\r\n"),
            ("ZRANGE lex x 1 BYSCORE", "-ERR min or max is not a float\r\n"),
            ("ZRANGE lex - x BYLEX", "-ERR min or max not valid string range item\r\n"),
            ("ZRANGE lex 0 1 LIMIT 0", "-ERR syntax error\r\n"),
            ("ZRANGE lex 0 1 nonsense", "-ERR syntax error\r\n"),
            ("ZRANGE lex 0 1 BYSCORE LIMIT x 1", "-ERR value is not an integer or out of range\r\n"),
            ("ZREVRANGE lex 0 1 REV", "-ERR syntax error\r\n"),
            ("ZREVRANGE lex 0 1 BYSCORE", "-ERR syntax error\r\n"),
            ("ZRANGEBYSCORE lex 0 1 BYLEX", "-ERR syntax error\r\n"),
            (
                "ZRANGEBYLEX lex - + WITHSCORES",
                "-ERR syntax error, WITHSCORES not supported in combination with BYLEX\r\n"
            ),
            ("ZRANGESTORE t lex 0 1 WITHSCORES", "-ERR syntax error\r\n"),
        ])
    }

    @Test func membersAreTakenOut() {
        tell([
            ("ZADD z 1 a 2 b 3 c 4 d 5 e 6 f 7 g", ":7\r\n"),
            ("ZPOPMIN z", "*2\r\n$1\r\na\r\n$1\r\n1\r\n"),
            ("ZPOPMAX z 2", "*4\r\n$1\r\ng\r\n$1\r\n7\r\n$1\r\nf\r\n$1\r\n6\r\n"),
            ("ZPOPMIN z 0", "*0\r\n"),
            ("ZPOPMIN z -1", "-ERR value is out of range, must be positive\r\n"),
            ("ZPOPMIN z x", "-ERR value is out of range, must be positive\r\n"),
            ("ZPOPMIN z 1 2", "-ERR syntax error\r\n"),
            ("ZPOPMIN none", "*0\r\n"),
            ("ZPOPMIN none 5", "*0\r\n"),
            ("ZMPOP 2 none z MAX", "*2\r\n$1\r\nz\r\n*1\r\n*2\r\n$1\r\ne\r\n$1\r\n5\r\n"),
            (
                "ZMPOP 2 none z MIN COUNT 2",
                "*2\r\n$1\r\nz\r\n*2\r\n*2\r\n$1\r\nb\r\n$1\r\n2\r\n*2\r\n$1\r\nc\r\n$1\r\n3\r\n"
            ),
            ("ZMPOP 2 none other MIN", "*-1\r\n"),
            ("ZMPOP 0 z MIN", "-ERR numkeys should be greater than 0\r\n"),
            ("ZMPOP x z MIN", "-ERR numkeys should be greater than 0\r\n"),
            ("ZMPOP 1 z MID", "-ERR syntax error\r\n"),
            ("ZMPOP 2 z MIN", "-ERR syntax error\r\n"),
            ("ZMPOP 1 z MIN COUNT 0", "-ERR count should be greater than 0\r\n"),
            ("ZMPOP 1 z MIN COUNT", "-ERR syntax error\r\n"),
            ("ZMPOP 1 z MIN COUNT 1 COUNT 2", "-ERR syntax error\r\n"),
            ("ZMPOP 1 z MIN nonsense", "-ERR syntax error\r\n"),
            ("ZPOPMAX z 100", "*2\r\n$1\r\nd\r\n$1\r\n4\r\n"),
            ("EXISTS z", ":0\r\n"),
            ("ZADD z 1 a 2 b 3 c 4 d 5 e 6 f 7 g", ":7\r\n"),
            ("ZREM z a none g", ":2\r\n"),
            ("ZREMRANGEBYRANK z 0 0", ":1\r\n"),
            ("ZREMRANGEBYRANK z -1 -1", ":1\r\n"),
            ("ZREMRANGEBYRANK z 5 9", ":0\r\n"),
            ("ZREMRANGEBYRANK z x 9", "-ERR value is not an integer or out of range\r\n"),
            ("ZREMRANGEBYSCORE z (3 4", ":1\r\n"),
            ("ZREMRANGEBYSCORE z 9 10", ":0\r\n"),
            ("ZREMRANGEBYSCORE z x 10", "-ERR min or max is not a float\r\n"),
            ("ZRANGE z 0 -1", "*2\r\n$1\r\nc\r\n$1\r\ne\r\n"),
            ("ZREM z c e c", ":2\r\n"),
            ("EXISTS z", ":0\r\n"),
            ("ZREM z c", ":0\r\n"),
            ("ZADD lex 0 a 0 b 0 c 0 d", ":4\r\n"),
            ("ZREMRANGEBYLEX lex [b (d", ":2\r\n"),
            ("ZREMRANGEBYLEX lex - x", "-ERR min or max not valid string range item\r\n"),
            ("ZRANGE lex 0 -1", "*2\r\n$1\r\na\r\n$1\r\nd\r\n"),
            ("ZREMRANGEBYLEX lex - +", ":2\r\n"),
            ("EXISTS lex", ":0\r\n"),
        ])
    }

    @Test func setsAreCombined() {
        tell([
            ("ZADD a 1 x 2 y 3 z", ":3\r\n"),
            ("ZADD b 10 y 20 z 30 w", ":3\r\n"),
            ("ZUNION 2 a b", "*4\r\n$1\r\nx\r\n$1\r\ny\r\n$1\r\nz\r\n$1\r\nw\r\n"),
            (
                "ZUNION 2 a b WITHSCORES",
                "*8\r\n$1\r\nx\r\n$1\r\n1\r\n$1\r\ny\r\n$2\r\n12\r\n$1\r\nz\r\n$2\r\n23\r\n$1\r\nw\r\n$2\r\n"
                    + "30\r\n"
            ),
            (
                "ZUNION 2 a b WEIGHTS 2 0.5 WITHSCORES",
                "*8\r\n$1\r\nx\r\n$1\r\n2\r\n$1\r\ny\r\n$1\r\n9\r\n$1\r\nw\r\n$2\r\n15\r\n$1\r\nz\r\n$2\r\n"
                    + "16\r\n"
            ),
            (
                "ZUNION 2 a b AGGREGATE MAX WITHSCORES",
                "*8\r\n$1\r\nx\r\n$1\r\n1\r\n$1\r\ny\r\n$2\r\n10\r\n$1\r\nz\r\n$2\r\n20\r\n$1\r\nw\r\n$2\r\n"
                    + "30\r\n"
            ),
            (
                "ZUNION 2 a b AGGREGATE min WITHSCORES",
                "*8\r\n$1\r\nx\r\n$1\r\n1\r\n$1\r\ny\r\n$1\r\n2\r\n$1\r\nz\r\n$1\r\n3\r\n$1\r\nw\r\n$2\r\n"
                    + "30\r\n"
            ),
            (
                "ZUNION 1 a WEIGHTS -1 WITHSCORES",
                "*6\r\n$1\r\nz\r\n$2\r\n-3\r\n$1\r\ny\r\n$2\r\n-2\r\n$1\r\nx\r\n$2\r\n-1\r\n"
            ),
            ("ZUNION 2 none a", "*3\r\n$1\r\nx\r\n$1\r\ny\r\n$1\r\nz\r\n"),
            ("ZUNION 1 none", "*0\r\n"),
            ("ZINTER 2 a b WITHSCORES", "*4\r\n$1\r\ny\r\n$2\r\n12\r\n$1\r\nz\r\n$2\r\n23\r\n"),
            (
                "ZINTER 2 a b WEIGHTS 1 -1 AGGREGATE SUM WITHSCORES",
                "*4\r\n$1\r\nz\r\n$3\r\n-17\r\n$1\r\ny\r\n$2\r\n-8\r\n"
            ),
            ("ZINTER 2 a none", "*0\r\n"),
            ("ZINTER 2 a a WITHSCORES", "*6\r\n$1\r\nx\r\n$1\r\n2\r\n$1\r\ny\r\n$1\r\n4\r\n$1\r\nz\r\n$1\r\n6\r\n"),
            ("ZDIFF 2 a b WITHSCORES", "*2\r\n$1\r\nx\r\n$1\r\n1\r\n"),
            ("ZDIFF 2 a a", "*0\r\n"),
            ("ZDIFF 2 a none", "*3\r\n$1\r\nx\r\n$1\r\ny\r\n$1\r\nz\r\n"),
            ("ZINTERCARD 2 a b", ":2\r\n"),
            ("ZINTERCARD 2 a b LIMIT 1", ":1\r\n"),
            ("ZINTERCARD 2 a b LIMIT 0", ":2\r\n"),
            ("ZINTERCARD 1 none", ":0\r\n"),
            ("ZUNIONSTORE t 2 a b WEIGHTS 1 2", ":4\r\n"),
            (
                "ZRANGE t 0 -1 WITHSCORES",
                "*8\r\n$1\r\nx\r\n$1\r\n1\r\n$1\r\ny\r\n$2\r\n22\r\n$1\r\nz\r\n$2\r\n43\r\n$1\r\nw\r\n$2\r\n"
                    + "60\r\n"
            ),
            ("OBJECT ENCODING t", "$8\r\nlistpack\r\n"),
            ("ZINTERSTORE t 2 a b AGGREGATE MAX", ":2\r\n"),
            ("ZRANGE t 0 -1 WITHSCORES", "*4\r\n$1\r\ny\r\n$2\r\n10\r\n$1\r\nz\r\n$2\r\n20\r\n"),
            ("ZDIFFSTORE t 2 a b", ":1\r\n"),
            ("ZRANGE t 0 -1 WITHSCORES", "*2\r\n$1\r\nx\r\n$1\r\n1\r\n"),
            ("ZUNIONSTORE a 2 a a", ":3\r\n"),
            ("ZRANGE a 0 -1 WITHSCORES", "*6\r\n$1\r\nx\r\n$1\r\n2\r\n$1\r\ny\r\n$1\r\n4\r\n$1\r\nz\r\n$1\r\n6\r\n"),
            ("ZINTERSTORE t 2 a none", ":0\r\n"),
            ("EXISTS t", ":0\r\n"),
            ("ZADD p inf i 1 o", ":2\r\n"),
            ("ZADD m -inf i 0 o", ":2\r\n"),
            ("ZUNION 2 p m WITHSCORES", "*4\r\n$1\r\ni\r\n$1\r\n0\r\n$1\r\no\r\n$1\r\n1\r\n"),
            ("ZUNION 1 p WEIGHTS 0 WITHSCORES", "*4\r\n$1\r\ni\r\n$1\r\n0\r\n$1\r\no\r\n$1\r\n0\r\n"),
            ("ZUNION 1 m WEIGHTS -1 WITHSCORES", "*4\r\n$1\r\no\r\n$2\r\n-0\r\n$1\r\ni\r\n$3\r\ninf\r\n"),
            ("ZINTER 2 p m WEIGHTS 1 0 WITHSCORES", "*4\r\n$1\r\ni\r\n$1\r\n0\r\n$1\r\no\r\n$1\r\n1\r\n"),
            ("ZUNION 0 a", "-ERR at least 1 input key is needed for 'zunion' command\r\n"),
            ("ZUNION x a", "-ERR value is not an integer or out of range\r\n"),
            ("ZUNIONSTORE t 0 a", "-ERR at least 1 input key is needed for 'zunionstore' command\r\n"),
            ("ZINTERSTORE t -1 a", "-ERR at least 1 input key is needed for 'zinterstore' command\r\n"),
            ("ZDIFF 0 a", "-ERR at least 1 input key is needed for 'zdiff' command\r\n"),
            ("ZINTERCARD 0 a", "-ERR at least 1 input key is needed for 'zintercard' command\r\n"),
            ("ZUNION 3 a b", "-ERR syntax error\r\n"),
            ("ZUNION 2 a b WEIGHTS 1", "-ERR syntax error\r\n"),
            ("ZUNION 2 a b WEIGHTS 1 x", "-ERR weight value is not a float\r\n"),
            ("ZUNION 2 a b AGGREGATE", "-ERR syntax error\r\n"),
            ("ZUNION 2 a b AGGREGATE avg", "-ERR syntax error\r\n"),
            ("ZUNION 2 a b nonsense", "-ERR syntax error\r\n"),
            ("ZUNIONSTORE t 2 a b WITHSCORES", "-ERR syntax error\r\n"),
            ("ZDIFF 2 a b WEIGHTS 1 2", "-ERR syntax error\r\n"),
            ("ZINTERCARD 2 a b LIMIT -1", "-ERR LIMIT can't be negative\r\n"),
            ("ZINTERCARD 2 a b LIMIT x", "-ERR LIMIT can't be negative\r\n"),
            ("ZINTERCARD 2 a b WITHSCORES", "-ERR syntax error\r\n"),
        ])
    }

    @Test func setsAreSortedSetsOfScoreOne() {
        tell([
            ("ZADD a 1 x 2 y 3 z", ":3\r\n"),
            ("SADD s x w", ":2\r\n"),
            ("SADD n 1 2 3", ":3\r\n"),
            ("ZADD i 5 2 6 3 7 4", ":3\r\n"),
            (
                "ZUNION 2 a s WITHSCORES",
                "*8\r\n$1\r\nw\r\n$1\r\n1\r\n$1\r\nx\r\n$1\r\n2\r\n$1\r\ny\r\n$1\r\n2\r\n$1\r\nz\r\n$1\r\n"
                    + "3\r\n"
            ),
            (
                "ZUNION 2 s n WEIGHTS 2 3 WITHSCORES",
                "*10\r\n$1\r\nw\r\n$1\r\n2\r\n$1\r\nx\r\n$1\r\n2\r\n$1\r\n1\r\n$1\r\n3\r\n$1\r\n2\r\n$1\r\n"
                    + "3\r\n$1\r\n3\r\n$1\r\n3\r\n"
            ),
            ("ZINTER 2 a s WITHSCORES", "*2\r\n$1\r\nx\r\n$1\r\n2\r\n"),
            ("ZINTER 2 i n WITHSCORES", "*4\r\n$1\r\n2\r\n$1\r\n6\r\n$1\r\n3\r\n$1\r\n7\r\n"),
            (
                "ZINTER 2 n i WEIGHTS 10 1 AGGREGATE MAX WITHSCORES",
                "*4\r\n$1\r\n2\r\n$2\r\n10\r\n$1\r\n3\r\n$2\r\n10\r\n"
            ),
            ("ZDIFF 2 a s WITHSCORES", "*4\r\n$1\r\ny\r\n$1\r\n2\r\n$1\r\nz\r\n$1\r\n3\r\n"),
            ("ZDIFF 2 s a WITHSCORES", "*2\r\n$1\r\nw\r\n$1\r\n1\r\n"),
            ("ZDIFF 1 s WITHSCORES", "*4\r\n$1\r\nw\r\n$1\r\n1\r\n$1\r\nx\r\n$1\r\n1\r\n"),
            ("ZDIFF 2 s s", "*0\r\n"),
            ("ZINTERCARD 2 i n", ":2\r\n"),
            ("ZUNIONSTORE t 2 s n", ":5\r\n"),
            (
                "ZRANGE t 0 -1 WITHSCORES",
                "*10\r\n$1\r\n1\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n1\r\n$1\r\n3\r\n$1\r\n1\r\n$1\r\nw\r\n$1\r\n"
                    + "1\r\n$1\r\nx\r\n$1\r\n1\r\n"
            ),
            ("ZINTERSTORE s 2 s a", ":1\r\n"),
            ("ZRANGE s 0 -1 WITHSCORES", "*2\r\n$1\r\nx\r\n$1\r\n2\r\n"),
            ("TYPE s", "+zset\r\n"),
        ])
    }

    @Test func randomMembersAndScans() {
        tell([
            ("ZADD z 1 a 2 b 3 c", ":3\r\n"),
            ("ZRANDMEMBER z 0", "*0\r\n"),
            ("ZRANDMEMBER z 10", "*3\r\n$1\r\nc\r\n$1\r\nb\r\n$1\r\na\r\n"),
            (
                "ZRANDMEMBER z 10 WITHSCORES",
                "*6\r\n$1\r\nc\r\n$1\r\n3\r\n$1\r\nb\r\n$1\r\n2\r\n$1\r\na\r\n$1\r\n1\r\n"
            ),
            ("ZRANDMEMBER none", "$-1\r\n"),
            ("ZRANDMEMBER none 5", "*0\r\n"),
            ("ZRANDMEMBER z x", "-ERR value is not an integer or out of range\r\n"),
            (
                "ZRANDMEMBER z -9223372036854775808",
                "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807\r\n"
            ),
            ("ZRANDMEMBER z -9223372036854775807 WITHSCORES", "-ERR value is out of range\r\n"),
            ("ZRANDMEMBER z 4611686018427387904 WITHSCORES", "-ERR value is out of range\r\n"),
            ("ZRANDMEMBER z 1 nonsense", "-ERR syntax error\r\n"),
            ("ZRANDMEMBER z 1 WITHSCORES 1", "-ERR syntax error\r\n"),
            (
                "ZSCAN z 0",
                "*2\r\n$1\r\n0\r\n*6\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n$1\r\nc\r\n$1\r\n3\r\n"
            ),
            ("ZSCAN z 0 MATCH [ab]", "*2\r\n$1\r\n0\r\n*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n"),
            ("ZSCAN none 0", "*2\r\n$1\r\n0\r\n*0\r\n"),
            ("ZSCAN z x", "-ERR invalid cursor\r\n"),
            ("ZSCAN z 0 COUNT 0", "-ERR syntax error\r\n"),
            ("ZSCAN z 0 COUNT", "-ERR syntax error\r\n"),
            ("ZSCAN z 0 TYPE zset", "-ERR syntax error\r\n"),
            ("ZADD f 0.1 a 1e30 b", ":2\r\n"),
            (
                "ZSCAN f 0",
                "*2\r\n$1\r\n0\r\n*4\r\n$1\r\na\r\n$19\r\n0.10000000000000001\r\n$1\r\nb\r\n$5\r\n1e+30\r\n"
            ),
        ])
    }

    @Test func inRESP3ScoresAreDoubles() {
        tell(
            inRESP3: true,
            [
                ("ZADD z 1.5 a inf b", ":2\r\n"),
                ("ZSCORE z a", ",1.5\r\n"),
                ("ZSCORE z none", "_\r\n"),
                ("ZMSCORE z a none", "*2\r\n,1.5\r\n_\r\n"),
                ("ZINCRBY z 1 a", ",2.5\r\n"),
                ("ZADD z XX INCR 1 none", "_\r\n"),
                ("ZRANGE z 0 -1 WITHSCORES", "*2\r\n*2\r\n$1\r\na\r\n,2.5\r\n*2\r\n$1\r\nb\r\n,inf\r\n"),
                ("ZRANGEBYSCORE z -inf +inf WITHSCORES", "*2\r\n*2\r\n$1\r\na\r\n,2.5\r\n*2\r\n$1\r\nb\r\n,inf\r\n"),
                ("ZUNION 1 z WITHSCORES", "*2\r\n*2\r\n$1\r\na\r\n,2.5\r\n*2\r\n$1\r\nb\r\n,inf\r\n"),
                ("ZDIFF 1 z", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
                ("ZRANDMEMBER z 9 WITHSCORES", "*2\r\n*2\r\n$1\r\nb\r\n,inf\r\n*2\r\n$1\r\na\r\n,2.5\r\n"),
                ("ZSCAN z 0", "*2\r\n$1\r\n0\r\n*4\r\n$1\r\na\r\n$3\r\n2.5\r\n$1\r\nb\r\n$3\r\ninf\r\n"),
                ("ZRANK z none", "_\r\n"),
                ("ZMPOP 1 z MIN", "*2\r\n$1\r\nz\r\n*1\r\n*2\r\n$1\r\na\r\n,2.5\r\n"),
                ("ZMPOP 1 none MIN", "_\r\n"),
                ("ZPOPMIN z", "*2\r\n$1\r\nb\r\n,inf\r\n"),
                ("ZADD z 1 a 2 b 3 c", ":3\r\n"),
                ("ZPOPMIN z 1", "*1\r\n*2\r\n$1\r\na\r\n,1\r\n"),
                ("ZPOPMAX z 2", "*2\r\n*2\r\n$1\r\nc\r\n,3\r\n*2\r\n$1\r\nb\r\n,2\r\n"),
                ("ZPOPMIN z 2", "*0\r\n"),
            ])
    }

    @Test func listpacksBecomeSkiplistsAtTheirLimits() {
        let node = NodeHarness()
        node("CONFIG SET zset-max-listpack-entries 3 zset-max-listpack-value 5")
        node("ZADD z 1 a 2 b 3 c")
        #expect(node("OBJECT ENCODING z") == .bulk("listpack"))
        node("ZADD z 4 d")
        #expect(node("OBJECT ENCODING z") == .bulk("skiplist"))
        node("ZREM z d")
        #expect(node("OBJECT ENCODING z") == .bulk("skiplist"))
        node("ZUNIONSTORE t 1 z")
        #expect(node("OBJECT ENCODING t") == .bulk("listpack"))
        node("ZADD v 1 12345")
        #expect(node("OBJECT ENCODING v") == .bulk("listpack"))
        node("ZADD v 1 123456")
        #expect(node("OBJECT ENCODING v") == .bulk("skiplist"))
        #expect(node("ZRANGE v 0 -1") == .bulks("12345", "123456"))
        node("ZRANGESTORE t v 0 -1")
        #expect(node("OBJECT ENCODING t") == .bulk("skiplist"))
    }

    /// What is random changes nothing but the choice: members are different where they have to be.
    @Test(arguments: [3, 128])
    func randomMembersAreMembers(listpackEntries: Int) {
        let node = NodeHarness()
        node("CONFIG SET zset-max-listpack-entries \(listpackEntries)")
        for number in 0..<100 { node("ZADD z \(number) m\(number)") }
        for count in [1, 5, 30, 60, 99] {
            let reply = node("ZRANDMEMBER z \(count) WITHSCORES").split(separator: "\r\n")
            #expect(reply[0] == "*\(count * 2)")
            let members = stride(from: 2, to: reply.count, by: 4).map { reply[$0] }
            #expect(Set(members).count == count)
            for index in stride(from: 2, to: reply.count, by: 4) { #expect(reply[index] == "m\(reply[index + 2])") }
        }
        #expect(node("ZRANDMEMBER z -300").hasPrefix("*300\r\n"))
        #expect(node("ZRANDMEMBER z").contains("m"))
        #expect(node("ZRANDMEMBER z -1000000000").hasPrefix("-ERR value is out of range"))
    }

    @Test func aScanOfALargeSetSeesEveryMember() {
        let node = NodeHarness()
        for number in 0..<1000 { node("ZADD z \(number) m\(number)") }
        var seen: Set<Substring> = []
        var cursor = "0"
        var calls = 0
        repeat {
            let reply = node("ZSCAN z \(cursor) COUNT 50").split(separator: "\r\n")
            cursor = String(reply[2])
            for index in stride(from: 5, to: reply.count, by: 4) {
                #expect(reply[index] == "m\(reply[index + 2])")
                seen.insert(reply[index])
            }
            calls += 1
        } while cursor != "0"
        #expect(seen.count == 1000)
        #expect(calls > 5 && calls < 100)
    }

    @Test(arguments: [
        ("ZADD z 1 a", ["0 ZADD z 1 a"]), ("ZADD z 2 b", []), ("ZADD z XX 1 new", []),
        ("ZPOPMIN z", ["0 ZPOPMIN z"]), ("ZMPOP 2 none z MAX COUNT 5", ["0 ZPOPMAX z 3"]), ("ZMPOP 1 none MIN", []),
        ("ZREM z b", ["0 ZREM z b"]), ("ZREM z none", []), ("ZREMRANGEBYRANK z 0 1", ["0 ZREMRANGEBYRANK z 0 1"]),
        ("ZREMRANGEBYRANK z 7 9", []), ("ZUNIONSTORE t 1 z", ["0 ZUNIONSTORE t 1 z"]), ("ZINTERSTORE t 2 z none", []),
        ("ZRANGESTORE t z 0 -1", ["0 ZRANGESTORE t z 0 -1"]), ("ZRANGE z 0 -1", []),
        ("ZINCRBY z 1 b", ["0 ZINCRBY z 1 b"]), ("ZINCRBY z 0 b", []),
    ])
    func theLogGetsWhatChanges(line: String, log: [String]) {
        let node = NodeHarness()
        node("ZADD z 2 b 3 c 4 d")
        #expect(node.propagation(of: line) == log)
    }

    @Test func aLargeSetIsFreedBitByBitWhenAllIsTakenOut() {
        let node = NodeHarness()
        for number in 0..<2000 { node("ZADD z \(number) m\(number)") }
        #expect(node("ZREMRANGEBYSCORE z -inf +inf") == ":2000\r\n")
        #expect(node("EXISTS z") == ":0\r\n")
        let hasRemains = node.node.keyspace.hasRemains
        #expect(hasRemains)
        while node.node.keyspace.hasRemains { node.node.keyspace.freeRemains(limit: 100) }
    }
}
