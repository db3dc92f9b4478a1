import MartletBase
import MartletKeyspace
import Testing

@testable import MartletServer

/// Replies are those of redis-server 7.0.15.
@Suite struct GeoCommandTests {
    private func tell(inRESP3: Bool = false, _ lines: [(String, String)]) {
        let node = NodeHarness()
        if inRESP3 { node("HELLO 3") }
        for (line, reply) in lines { #expect(node(line) == reply, "\(line)") }
    }

    @Test func placesAreAddedAndRead() {
        tell([
            ("GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania", ":2\r\n"),
            ("GEOADD g CH 13.361389 38.115556 Palermo 15.1 37.5 Catania", ":1\r\n"),
            ("GEOADD g NX 13 38 Palermo 13 38 new", ":1\r\n"),
            ("GEOADD g XX CH 13.5 38 new 1 2 other", ":1\r\n"),
            (
                "GEOPOS g Palermo none Catania",
                "*3\r\n*2\r\n$20\r\n13.36138933897018433\r\n$20\r\n38.11555639549629859\r\n*-1\r\n*2\r\n"
                    + "$20\r\n15.10000258684158325\r\n$19\r\n37.4999993619508345\r\n"
            ),
            ("GEOPOS none Palermo", "*1\r\n*-1\r\n"),
            ("GEOPOS g", "*0\r\n"),
            ("GEOHASH g Palermo none Catania", "*3\r\n$11\r\nsqc8b49rny0\r\n$-1\r\n$11\r\nsqdtrdemrd0\r\n"),
            ("GEOHASH none a", "*1\r\n$-1\r\n"),
            ("GEODIST g Palermo Catania", "$11\r\n167419.1402\r\n"),
            ("GEODIST g Palermo Catania km", "$8\r\n167.4191\r\n"),
            ("GEODIST g Palermo Catania MI", "$8\r\n104.0297\r\n"),
            ("GEODIST g Palermo Catania ft", "$11\r\n549275.3943\r\n"),
            ("GEODIST g Palermo Palermo", "$6\r\n0.0000\r\n"),
            ("GEODIST g Palermo none", "$-1\r\n"),
            ("GEODIST none a b", "$-1\r\n"),
            (
                "ZRANGE g 0 -1 WITHSCORES",
                "*6\r\n$3\r\nnew\r\n$16\r\n3479097324432493\r\n$7\r\nPalermo\r\n$16\r\n3479099956230698\r\n"
                    + "$7\r\nCatania\r\n$16\r\n3479447216794612\r\n"
            ),
            ("GEOADD edge 180 85.05112878 a -180 -85.05112878 b 0 0 c", ":3\r\n"),
            (
                "GEOPOS edge a b c",
                "*3\r\n*2\r\n$3\r\n180\r\n$19\r\n85.0511287799999991\r\n*2\r\n$22\r\n"
                    + "-179.99999731779098511\r\n$21\r\n-85.05112751263942528\r\n*2\r\n$19\r\n"
                    + "0.00000268220901489\r\n$19\r\n0.00000126736058093\r\n"
            ),
            ("GEOHASH edge a b c", "*3\r\n$11\r\nbp05b5048p0\r\n$11\r\n00bh0hbj200\r\n$11\r\ns0000000000\r\n"),
            ("GEODIST edge a b", "$13\r\n18919844.5891\r\n"),
            ("ZADD odd -1 a inf b 1e300 c", ":3\r\n"),
            (
                "GEOPOS odd a b c",
                "*3\r\n*2\r\n$3\r\n180\r\n$19\r\n85.0511287799999991\r\n*2\r\n$22\r\n"
                    + "-179.99999731779098511\r\n$21\r\n-85.05112751263942528\r\n*2\r\n$22\r\n"
                    + "-179.99999731779098511\r\n$21\r\n-85.05112751263942528\r\n"
            ),
        ])
    }

    @Test func mistakesAreNamed() {
        tell([
            ("GEOADD g 181 0 a", "-ERR invalid longitude,latitude pair 181.000000,0.000000\r\n"),
            ("GEOADD g 0 86 a", "-ERR invalid longitude,latitude pair 0.000000,86.000000\r\n"),
            ("GEOADD g inf 0 a", "-ERR invalid longitude,latitude pair inf,0.000000\r\n"),
            ("GEOADD g x 0 a", "-ERR value is not a valid float\r\n"),
            ("GEOADD g 0 x a", "-ERR value is not a valid float\r\n"),
            ("GEOADD g 0 0 a 1", "-ERR syntax error\r\n"),
            ("GEOADD g NX XX 0 0 a", "-ERR syntax error\r\n"),
            ("GEOADD g NX CH CH", "-ERR syntax error\r\n"),
            ("GEOADD g GT 0 0 a", "-ERR syntax error\r\n"),
            ("GEOADD g 13 38 a", ":1\r\n"),
            ("GEODIST g a a parsec", "-ERR unsupported unit provided. please use M, KM, FT, MI\r\n"),
            ("GEODIST g a a km x", "-ERR syntax error\r\n"),
            ("SET s 1", "+OK\r\n"),
            ("GEOADD s 0 0 a", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("GEODIST s a b", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("GEOPOS s a", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            ("GEOHASH s a", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            (
                "GEOSEARCH s FROMLONLAT 0 0 BYRADIUS 1 km",
                "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
            ),
            (
                "GEOSEARCH g FROMLONLAT 0 0 BYRADIUS 1 parsec",
                "-ERR unsupported unit provided. please use M, KM, FT, MI\r\n"
            ),
            ("GEOSEARCH g FROMLONLAT 0 0 BYRADIUS x km", "-ERR need numeric radius\r\n"),
            ("GEOSEARCH g FROMLONLAT 0 0 BYRADIUS -1 km", "-ERR radius cannot be negative\r\n"),
            ("GEOSEARCH g FROMLONLAT 0 0 BYBOX x 1 km", "-ERR need numeric width\r\n"),
            ("GEOSEARCH g FROMLONLAT 0 0 BYBOX 1 x km", "-ERR need numeric height\r\n"),
            ("GEOSEARCH g FROMLONLAT 0 0 BYBOX -1 1 km", "-ERR height or width cannot be negative\r\n"),
            (
                "GEOSEARCH g FROMLONLAT 0 0 BYBOX 1 1 parsec",
                "-ERR unsupported unit provided. please use M, KM, FT, MI\r\n"
            ),
            ("GEOSEARCH g FROMLONLAT 0 0 BYBOX 1 1 km BYRADIUS 1 km", "-ERR syntax error\r\n"),
            ("GEOSEARCH g FROMLONLAT 0 0 FROMMEMBER a BYRADIUS 1 km", "-ERR syntax error\r\n"),
            ("GEOSEARCH g FROMMEMBER none BYRADIUS 1 km", "-ERR could not decode requested zset member\r\n"),
            ("GEOSEARCH none FROMMEMBER none BYRADIUS 1 km", "*0\r\n"),
            (
                "GEOSEARCH g BYRADIUS 1 km ASC WITHDIST",
                "-ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for GEOSEARCH\r\n"
            ),
            (
                "Geosearch g FROMLONLAT 0 0 ASC WITHDIST",
                "-ERR exactly one of BYRADIUS and BYBOX can be specified for Geosearch\r\n"
            ),
            ("GEOSEARCH g FROMLONLAT 0 0 BYRADIUS 1 km ANY", "-ERR the ANY argument requires COUNT argument\r\n"),
            ("GEOSEARCH g FROMLONLAT 0 0 BYRADIUS 1 km COUNT 0", "-ERR COUNT must be > 0\r\n"),
            ("GEOSEARCH g FROMLONLAT 0 0 BYRADIUS 1 km COUNT x", "-ERR value is not an integer or out of range\r\n"),
            ("GEOSEARCH g FROMLONLAT 0 0 BYRADIUS 1 km STOREDIST", "-ERR syntax error\r\n"),
            ("GEOSEARCH g FROMLONLAT 0 0 BYRADIUS 1 km nonsense", "-ERR syntax error\r\n"),
            (
                "GEOSEARCHSTORE t g FROMLONLAT 0 0 BYRADIUS 1 km WITHDIST",
                "-ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options\r\n"
            ),
            (
                "GEORADIUS g 0 0 1 km STORE t WITHDIST",
                "-ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options\r\n"
            ),
            ("GEORADIUS g 0 0 1 km STORE", "-ERR syntax error\r\n"),
            ("GEORADIUS_RO g 0 0 1 km STORE t", "-ERR syntax error\r\n"),
            ("GEORADIUS g 200 0 1 km", "-ERR invalid longitude,latitude pair 200.000000,0.000000\r\n"),
            ("GEORADIUSBYMEMBER g none 1 km", "-ERR could not decode requested zset member\r\n"),
            ("GEORADIUSBYMEMBER none none x y", "*0\r\n"),
            ("GEORADIUSBYMEMBER g a x km", "-ERR need numeric radius\r\n"),
        ])
    }

    @Test func searchesFindWhatIsNear() {
        tell([
            (
                "GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania 12.758489 38.788135 edge1 17.241510 38.788135 edge2",
                ":4\r\n"
            ),
            ("GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km ASC", "*2\r\n$7\r\nCatania\r\n$7\r\nPalermo\r\n"),
            (
                "GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km DESC WITHCOORD WITHDIST WITHHASH",
                "*2\r\n*4\r\n$7\r\nPalermo\r\n$8\r\n190.4424\r\n:3479099956230698\r\n*2\r\n$20\r\n"
                    + "13.36138933897018433\r\n$20\r\n38.11555639549629859\r\n*4\r\n$7\r\nCatania\r\n$7\r\n"
                    + "56.4413\r\n:3479447370796909\r\n*2\r\n$20\r\n15.08726745843887329\r\n$20\r\n"
                    + "37.50266842333162032\r\n"
            ),
            (
                "GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 400 km ASC WITHCOORD WITHDIST",
                "*4\r\n*3\r\n$7\r\nCatania\r\n$7\r\n56.4413\r\n*2\r\n$20\r\n15.08726745843887329\r\n$20\r\n"
                    + "37.50266842333162032\r\n*3\r\n$7\r\nPalermo\r\n$8\r\n190.4424\r\n*2\r\n$20\r\n"
                    + "13.36138933897018433\r\n$20\r\n38.11555639549629859\r\n*3\r\n$5\r\nedge2\r\n$8\r\n"
                    + "279.7403\r\n*2\r\n$20\r\n17.24151045083999634\r\n$20\r\n38.78813451624225195\r\n*3\r\n$5\r\n"
                    + "edge1\r\n$8\r\n279.7405\r\n*2\r\n$19\r\n12.7584877610206604\r\n$20\r\n"
                    + "38.78813451624225195\r\n"
            ),
            (
                "GEOSEARCH g FROMMEMBER Palermo BYBOX 400 100 km ASC WITHDIST",
                "*1\r\n*2\r\n$7\r\nPalermo\r\n$6\r\n0.0000\r\n"
            ),
            ("GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 400 km COUNT 2", "*2\r\n$7\r\nCatania\r\n$7\r\nPalermo\r\n"),
            ("GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 400 km COUNT 2 ANY", "*2\r\n$7\r\nPalermo\r\n$5\r\nedge1\r\n"),
            (
                "GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 400 km COUNT 2 DESC WITHDIST",
                "*2\r\n*2\r\n$5\r\nedge1\r\n$8\r\n279.7405\r\n*2\r\n$5\r\nedge2\r\n$8\r\n279.7403\r\n"
            ),
            ("GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 1 km", "*0\r\n"),
            ("GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 0 km", "*0\r\n"),
            ("GEOSEARCH g FROMMEMBER Palermo BYRADIUS 0 m WITHDIST", "*1\r\n*2\r\n$7\r\nPalermo\r\n$6\r\n0.0000\r\n"),
            (
                "GEOSEARCH g FROMLONLAT -170 -80 BYRADIUS 20000 km ASC WITHDIST",
                "*4\r\n*2\r\n$7\r\nCatania\r\n$10\r\n15288.7961\r\n*2\r\n$7\r\nPalermo\r\n$10\r\n"
                    + "15359.8391\r\n*2\r\n$5\r\nedge2\r\n$10\r\n15426.4576\r\n*2\r\n$5\r\nedge1\r\n$10\r\n"
                    + "15435.3738\r\n"
            ),
            (
                "GEORADIUS g 15 37 200 km ASC WITHDIST",
                "*2\r\n*2\r\n$7\r\nCatania\r\n$7\r\n56.4413\r\n*2\r\n$7\r\nPalermo\r\n$8\r\n190.4424\r\n"
            ),
            ("GEORADIUS_RO g 15 37 200 mi COUNT 1 WITHHASH", "*1\r\n*2\r\n$7\r\nCatania\r\n:3479447370796909\r\n"),
            ("GEORADIUSBYMEMBER g Palermo 200 km ASC", "*3\r\n$7\r\nPalermo\r\n$5\r\nedge1\r\n$7\r\nCatania\r\n"),
            (
                "GEORADIUSBYMEMBER_RO g Palermo 100000 ft WITHCOORD",
                "*1\r\n*2\r\n$7\r\nPalermo\r\n*2\r\n$20\r\n13.36138933897018433\r\n$20\r\n"
                    + "38.11555639549629859\r\n"
            ),
            ("GEOSEARCHSTORE t g FROMLONLAT 15 37 BYBOX 400 400 km ASC COUNT 3", ":3\r\n"),
            (
                "ZRANGE t 0 -1 WITHSCORES",
                "*6\r\n$7\r\nPalermo\r\n$16\r\n3479099956230698\r\n$7\r\nCatania\r\n$16\r\n"
                    + "3479447370796909\r\n$5\r\nedge2\r\n$16\r\n3481342659049484\r\n"
            ),
            ("GEOSEARCHSTORE t g FROMLONLAT 15 37 BYBOX 400 400 km STOREDIST", ":4\r\n"),
            (
                "ZRANGE t 0 -1 WITHSCORES",
                "*8\r\n$7\r\nCatania\r\n$18\r\n56.441257870158204\r\n$7\r\nPalermo\r\n$18\r\n"
                    + "190.44242984775784\r\n$5\r\nedge2\r\n$17\r\n279.7403417843143\r\n$5\r\nedge1\r\n$18\r\n"
                    + "279.74045213563431\r\n"
            ),
            ("OBJECT ENCODING t", "$8\r\nlistpack\r\n"),
            ("GEORADIUS g 15 37 200 km STORE t", ":2\r\n"),
            (
                "ZRANGE t 0 -1 WITHSCORES",
                "*4\r\n$7\r\nPalermo\r\n$16\r\n3479099956230698\r\n$7\r\nCatania\r\n$16\r\n"
                    + "3479447370796909\r\n"
            ),
            ("GEORADIUSBYMEMBER g Palermo 200 km STOREDIST t", ":3\r\n"),
            (
                "ZRANGE t 0 -1 WITHSCORES",
                "*6\r\n$7\r\nPalermo\r\n$1\r\n0\r\n$5\r\nedge1\r\n$18\r\n91.400658605814272\r\n$7\r\n"
                    + "Catania\r\n$18\r\n166.27415156960032\r\n"
            ),
            ("GEOSEARCHSTORE t g FROMLONLAT 0 0 BYRADIUS 1 km", ":0\r\n"),
            ("EXISTS t", ":0\r\n"),
            ("GEOSEARCHSTORE t none FROMLONLAT 0 0 BYRADIUS 1 km", ":0\r\n"),
            ("GEORADIUS none 0 0 1 km", "*0\r\n"),
            ("GEORADIUS none 0 0 1 km STORE t", ":0\r\n"),
        ])
    }

    @Test func inRESP3PlacesAreDoubles() {
        tell(
            inRESP3: true,
            [
                ("GEOADD g 13.361389 38.115556 Palermo", ":1\r\n"),
                ("GEOPOS g Palermo none", "*2\r\n*2\r\n,13.36138933897018433\r\n,38.11555639549629859\r\n_\r\n"),
                ("GEODIST g Palermo none", "_\r\n"),
                (
                    "GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km WITHCOORD WITHDIST WITHHASH",
                    "*1\r\n*4\r\n$7\r\nPalermo\r\n$8\r\n190.4424\r\n:3479099956230698\r\n*2\r\n"
                        + ",13.36138933897018433\r\n,38.11555639549629859\r\n"
                ),
            ])
    }

    /// Every place is where a look at all of them says it is.
    @Test(arguments: [1, 2, 3])
    func searchesFindWhatALookAtAllFinds(seed: Int) throws {
        let node = NodeHarness()
        var random = PRNG(seed: UInt64(seed))
        func degrees(_ limit: Int) -> Double { Double(random.below(limit * 2_000_000) - limit * 1_000_000) / 1_000_000 }
        for number in 0..<600 { node("GEOADD g \(degrees(180)) \(degrees(85)) m\(number)") }
        for _ in 0..<30 {
            let radius = [10, 300, 2000, 9000][random.below(4)]
            node("GEOADD g \(degrees(180)) \(degrees(75)) centre")
            let found = Set(node("GEOSEARCH g FROMMEMBER centre BYRADIUS \(radius) km").split(separator: "\r\n"))
            for number in 0..<600 {
                let reply = node("GEODIST g centre m\(number) km").split(separator: "\r\n")
                let distance = try #require(Double(reply[1]))
                if abs(distance - Double(radius)) > 0.001 {
                    #expect(found.contains("m\(number)") == (distance < Double(radius)), "m\(number) at \(distance)")
                }
            }
        }
    }

    @Test func replicasGetScores() {
        let node = NodeHarness()
        #expect(
            node.propagation(of: "GEOADD g CH 13.361389 38.115556 Palermo 15.087269 37.502669 Catania") == [
                "0 zadd g CH 3479099956230698 Palermo 3479447370796909 Catania"
            ])
        #expect(node.propagation(of: "GEOADD g XX 1 1 none") == [])
        #expect(node.propagation(of: "GEORADIUS g 15 37 200 km") == [])
        #expect(
            node.propagation(of: "GEORADIUS g 15 37 200 km STORE t") == ["0 GEORADIUS g 15 37 200 km STORE t"])
    }
}
