import MartletBase
import MartletKeyspace
import MartletRESP

// Places on the earth, kept as sorted sets. (geo.c)

extension CommandFamily {
    static let geo = CommandFamily(
        .geo,
        [
            .geoadd, .geodist, .geohash, .geopos, .geosearch, .geosearchstore,
            .georadius, .georadiusReadOnly, .georadiusbymember, .georadiusbymemberReadOnly,
        ])
}

// MARK: Members

extension Command {
    static let geoadd = Command(
        "GEOADD", since: "3.2.0", arity: .atLeast(5), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 1, [.readWrite, .update])],
        arguments: "key [condition=<NX|XX>@6.2.0] [change=CH@6.2.0] {longitude:double latitude:double member}...",
        history: [("6.2.0", "Added the `CH`, `NX` and `XX` options.")],
        complexity: "O(log(N)) for each item added, where N is the number of elements in the sorted set.",
        summary: "Add one or more geospatial items in the geospatial index represented using a sorted set",
        run: .data { request, keyspace, reply throws(ReplyError) in
            var rules: SortedSetRules = []
            var countsUpdates = false
            var start = 2
            while start < request.count {
                if request.matches(start, "NX") {
                    rules.insert(.onlyNew)
                } else if request.matches(start, "XX") {
                    rules.insert(.onlyPresent)
                } else if request.matches(start, "CH") {
                    countsUpdates = true
                } else {
                    break
                }
                start += 1
            }
            let count = (request.count - start) / 3
            guard (request.count - start) % 3 == 0, !rules.isSuperset(of: [.onlyNew, .onlyPresent]) else {
                throw .syntax
            }
            var scores: [Double] = []
            for index in 0..<count { scores.append(try request.place(at: start + index * 3).score) }
            // As ZADD would say.
            guard count > 0 else { throw .syntax }
            let key = request.firstKey
            let changes = keyspace.changes
            try add(key, count, rules, countsUpdates: countsUpdates, &keyspace, &reply) { index in
                (scores[index], request[start + index * 3 + 2])
            }
            if keyspace.changes != changes { propagateAdd(request, start, scores, &keyspace) }
        })

    /// Replicas get ZADD, so that they need not compute the scores. - Parameter start: of the first longitude.
    private static func propagateAdd(
        _ request: Request, _ start: Int, _ scores: [Double], _ keyspace: inout Keyspace
    ) {
        guard keyspace.propagation.isOn else { return }
        let texts = UnsafeMutableRawBufferPointer.allocate(
            byteCount: scores.count * int64DecimalBytesMax, alignment: 1)
        defer { texts.deallocate() }
        var arguments = [bytes("zadd")]
        for index in 1..<start { arguments.append(request[index]) }
        for (index, score) in scores.enumerated() {
            let text = texts.baseAddress.unsafelyUnwrapped + index * int64DecimalBytesMax
            arguments.append(UnsafeRawBufferPointer(start: text, count: writeDecimal(Int64(score), to: text)))
            arguments.append(request[start + index * 3 + 2])
        }
        keyspace.propagateInstead(arguments)
    }

    static let geodist = Command(
        "GEODIST", since: "3.2.0", arity: .atLeast(4), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key member1 member2 [unit=<M|KM|FT|MI>]",
        complexity: "O(log(N))",
        summary: "Returns the distance between two members of a geospatial index",
        run: .data { request, keyspace, reply throws(ReplyError) in
            guard request.count < 6 else { throw .syntax }
            let unit = request.count == 5 ? try request.metersPerUnit(at: 4) : 1
            let set = try keyspace.readSortedSet(request.firstKey)
            guard let first = set?.score(of: request[2]), let second = set?.score(of: request[3]) else {
                return reply.null()
            }
            reply.distance(GeoPlace(score: first).meters(to: GeoPlace(score: second)) / unit)
        })

    static let geohash = Command(
        "GEOHASH", since: "3.2.0", arity: .atLeast(2), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key member...",
        complexity: "O(log(N)) for each member requested, where N is the number of elements in the sorted set.",
        summary: "Returns members of a geospatial index as standard geohash strings",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let set = try keyspace.readSortedSet(request.firstKey)
            reply.array(request.count - 2)
            withUnsafeTemporaryAllocation(of: UInt8.self, capacity: GeoPlace.geohashBytes) { text in
                for index in 2..<request.count {
                    guard let score = set?.score(of: request[index]) else {
                        reply.null()
                        continue
                    }
                    GeoPlace(score: score).writeGeohash(to: text.baseAddress.unsafelyUnwrapped)
                    reply.bulk(UnsafeRawBufferPointer(text))
                }
            }
        })

    static let geopos = Command(
        "GEOPOS", since: "3.2.0", arity: .atLeast(2), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: "key member...",
        complexity: "O(N) where N is the number of members requested.",
        summary: "Returns longitude and latitude of members of a geospatial index",
        run: .data { request, keyspace, reply throws(ReplyError) in
            let set = try keyspace.readSortedSet(request.firstKey)
            reply.array(request.count - 2)
            for index in 2..<request.count {
                if let score = set?.score(of: request[index]) {
                    reply.place(GeoPlace(score: score))
                } else {
                    reply.nullArray()
                }
            }
        })
}

// MARK: Searches

extension Command {
    static let geosearch = Command(
        "GEOSEARCH", since: "6.2.0", arity: .atLeast(7), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: """
            key from=<FROMMEMBER member|FROMLONLAT {longitude:double latitude:double}> by=<circle={BYRADIUS \
            radius:double unit=<M|KM|FT|MI>}|box={BYBOX width:double height:double unit=<M|KM|FT|MI>}> \
            [order=<ASC|DESC>] [count={COUNT count:integer [ANY]}] [WITHCOORD] [WITHDIST] [WITHHASH]
            """,
        history: [("7.0.0", "Added support for uppercase unit names.")],
        complexity: """
            O(N+log(M)) where N is the number of elements in the grid-aligned bounding box area around the shape \
            provided as the filter and M is the number of items inside the shape
            """,
        summary: """
            Query a sorted set representing a geospatial index to fetch members inside an area of a box or a circle.
            """,
        run: .data { request, keyspace, reply throws(ReplyError) in
            try search(request, .search, &keyspace, &reply)
        })

    static let geosearchstore = Command(
        "GEOSEARCHSTORE", since: "6.2.0", arity: .atLeast(8), flags: [.write, .denyOutOfMemory],
        keys: [.one(at: 1, [.overwrite, .update]), .one(at: 2, [.readOnly, .access])],
        arguments: """
            destination:key source:key#1 from=<FROMMEMBER member|FROMLONLAT {longitude:double latitude:double}> \
            by=<circle={BYRADIUS radius:double unit=<M|KM|FT|MI>}|box={BYBOX width:double height:double \
            unit=<M|KM|FT|MI>}> [order=<ASC|DESC>] [count={COUNT count:integer [ANY]}] [STOREDIST]
            """,
        history: [("7.0.0", "Added support for uppercase unit names.")],
        complexity: """
            O(N+log(M)) where N is the number of elements in the grid-aligned bounding box area around the shape \
            provided as the filter and M is the number of items inside the shape
            """,
        summary: """
            Query a sorted set representing a geospatial index to fetch members inside an area of a box or a circle, \
            and store the result in another key.
            """,
        run: .data { request, keyspace, reply throws(ReplyError) in
            try search(request, .searchStore, &keyspace, &reply)
        })

    static let georadius = Command(
        "GEORADIUS", since: "3.2.0", arity: .atLeast(6), flags: [.write, .denyOutOfMemory],
        keys: [
            .one(at: 1, [.readOnly, .access]),
            KeySpec(
                [.overwrite, .update], begin: .keyword("STORE", startFrom: 6),
                find: .range(last: 0, step: 1, limit: 0)),
            KeySpec(
                [.overwrite, .update], begin: .keyword("STOREDIST", startFrom: 6),
                find: .range(last: 0, step: 1, limit: 0)),
        ],
        arguments: """
            key longitude:double latitude:double radius:double unit=<M|KM|FT|MI> [WITHCOORD] [WITHDIST] [WITHHASH] \
            [count={COUNT count:integer [ANY@6.2.0]}] [order=<ASC|DESC>] [STORE key#1] [STOREDIST key#2]
            """,
        history: [
            ("6.2.0", "Added the `ANY` option for `COUNT`."),
            ("7.0.0", "Added support for uppercase unit names."),
        ],
        deprecated: ("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument"),
        complexity: """
            O(N+log(M)) where N is the number of elements inside the bounding box of the circular area delimited by \
            center and radius and M is the number of items inside the index.
            """,
        summary: """
            Query a sorted set representing a geospatial index to fetch members matching a given maximum distance \
            from a point
            """,
        run: .data { request, keyspace, reply throws(ReplyError) in
            try search(request, .place(mayStore: true), &keyspace, &reply)
        })

    static let georadiusReadOnly = Command(
        "GEORADIUS_RO", since: "3.2.10", arity: .atLeast(6), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: """
            key longitude:double latitude:double radius:double unit=<M|KM|FT|MI> [WITHCOORD] [WITHDIST] [WITHHASH] \
            [count={COUNT count:integer [ANY@6.2.0]}] [order=<ASC|DESC>]
            """,
        history: [("6.2.0", "Added the `ANY` option for `COUNT`.")],
        deprecated: ("6.2.0", "`GEOSEARCH` with the `BYRADIUS` argument"),
        complexity: """
            O(N+log(M)) where N is the number of elements inside the bounding box of the circular area delimited by \
            center and radius and M is the number of items inside the index.
            """,
        summary: "A read-only variant for GEORADIUS",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try search(request, .place(mayStore: false), &keyspace, &reply)
        })

    static let georadiusbymember = Command(
        "GEORADIUSBYMEMBER", since: "3.2.0", arity: .atLeast(5), flags: [.write, .denyOutOfMemory],
        keys: [
            .one(at: 1, [.readOnly, .access]),
            KeySpec(
                [.overwrite, .update], begin: .keyword("STORE", startFrom: 5),
                find: .range(last: 0, step: 1, limit: 0)),
            KeySpec(
                [.overwrite, .update], begin: .keyword("STOREDIST", startFrom: 5),
                find: .range(last: 0, step: 1, limit: 0)),
        ],
        arguments: """
            key member radius:double unit=<M|KM|FT|MI> [WITHCOORD] [WITHDIST] [WITHHASH] [count={COUNT count:integer \
            [ANY]}] [order=<ASC|DESC>] [STORE key#1] [STOREDIST key#2]
            """,
        history: [("7.0.0", "Added support for uppercase unit names.")],
        deprecated: ("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments"),
        complexity: """
            O(N+log(M)) where N is the number of elements inside the bounding box of the circular area delimited by \
            center and radius and M is the number of items inside the index.
            """,
        summary: """
            Query a sorted set representing a geospatial index to fetch members matching a given maximum distance \
            from a member
            """,
        run: .data { request, keyspace, reply throws(ReplyError) in
            try search(request, .member(mayStore: true), &keyspace, &reply)
        })

    static let georadiusbymemberReadOnly = Command(
        "GEORADIUSBYMEMBER_RO", since: "3.2.10", arity: .atLeast(5), flags: [.readonly],
        keys: [.one(at: 1, [.readOnly, .access])],
        arguments: """
            key member radius:double unit=<M|KM|FT|MI> [WITHCOORD] [WITHDIST] [WITHHASH] [count={COUNT count:integer \
            [ANY]}] [order=<ASC|DESC>]
            """,
        deprecated: ("6.2.0", "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments"),
        complexity: """
            O(N+log(M)) where N is the number of elements inside the bounding box of the circular area delimited by \
            center and radius and M is the number of items inside the index.
            """,
        summary: "A read-only variant for GEORADIUSBYMEMBER",
        run: .data { request, keyspace, reply throws(ReplyError) in
            try search(request, .member(mayStore: false), &keyspace, &reply)
        })

    private static func search(
        _ request: Request, _ form: SearchArguments.Form, _ keyspace: inout Keyspace, _ reply: inout ReplyBuffer
    ) throws(ReplyError) {
        let source = request.key(at: form == .searchStore ? 2 : 1, in: keyspace)
        let set = try keyspace.readSortedSet(source)
        let arguments = try SearchArguments(request, form, set)
        var found: [GeoMatch] = []
        if let set, let area = arguments.area {
            found = set.search(area, limit: arguments.isAny ? arguments.count : 0)
            let count = arguments.count == 0 ? found.count : min(arguments.count, found.count)
            if let order = arguments.order {
                found.keepFirst(count, order)
            } else {
                found.removeLast(found.count - count)
            }
        }
        guard let target = arguments.target else { return replyMatches(found, arguments, &reply) }
        let result = SortedSetValue.of(found[...], byDistance: arguments.storesDistance, keyspace.members)
        let key = request.key(at: target, in: keyspace)
        let event: KeyEvent = form.isSearch ? .geoSearchStore : .geoRadiusStore
        reply.integer(keyspace.storeResult(result, key, event))
    }

    private static func replyMatches(
        _ matches: [GeoMatch], _ arguments: SearchArguments, _ reply: inout ReplyBuffer
    ) {
        reply.array(matches.count)
        let details = arguments.details
        for match in matches {
            if !details.isEmpty { reply.array(1 + details.rawValue.nonzeroBitCount) }
            reply.value(match.member)
            if details.contains(.distance) { reply.distance(match.distance) }
            if details.contains(.hash) { reply.integer(Int64(match.score)) }
            if details.contains(.place) { reply.place(match.place) }
        }
    }
}

/// What a search asks for.
private struct SearchArguments {
    enum Form: Equatable {
        case search
        case searchStore
        /// GEORADIUS
        case place(mayStore: Bool)
        /// GEORADIUSBYMEMBER
        case member(mayStore: Bool)

        var isSearch: Bool { self == .search || self == .searchStore }
    }

    struct Details: OptionSet {
        let rawValue: UInt8
        static let distance = Details(rawValue: 1 << 0)
        static let hash = Details(rawValue: 1 << 1)
        static let place = Details(rawValue: 1 << 2)
    }

    /// What the matches are told with.
    private(set) var details: Details = []
    /// 0: all.
    private(set) var count = 0
    /// Any matches will do, not only the nearest.
    private(set) var isAny = false
    private(set) var order: GeoOrder?
    /// Index of the key that the result is stored at.
    private(set) var target: Int?
    private(set) var storesDistance = false

    private let form: Form
    private let set: SortedSetValue?
    private var hasMember = false
    private var centre: GeoPlace?
    private var shape: GeoArea.Shape?
    private var metersPerUnit = 1.0

    /// - Parameter set: to search in; nil if there is no such key, which hides some mistakes.
    init(_ request: Request, _ form: Form, _ set: SortedSetValue?) throws(ReplyError) {
        self.form = form
        self.set = set
        var index: Int
        switch form {
        case .place:
            centre = try request.place(at: 2)
            try takeCircle(request, 4)
            index = 6
        case .member:
            if set != nil {
                try takeMember(request[2])
                try takeCircle(request, 3)
            }
            index = 5
        case .search: index = 2
        case .searchStore:
            target = 1
            index = 3
        }
        while index < request.count { index += try takeOption(request, index) }
        try check(request)
        if count != 0, order == nil, !isAny { order = .ascending }
    }

    /// Nil if there is nothing to search in.
    var area: GeoArea? {
        guard let centre, let shape else { return nil }
        return GeoArea(centre: centre, shape: shape, metersPerUnit: metersPerUnit)
    }

    /// - Returns: how many arguments the option takes.
    private mutating func takeOption(_ request: Request, _ index: Int) throws(ReplyError) -> Int {
        let left = request.count - index - 1
        if request.matches(index, "WITHDIST") {
            details.insert(.distance)
        } else if request.matches(index, "WITHHASH") {
            details.insert(.hash)
        } else if request.matches(index, "WITHCOORD") {
            details.insert(.place)
        } else if request.matches(index, "ANY") {
            isAny = true
        } else if request.matches(index, "ASC") {
            order = .ascending
        } else if request.matches(index, "DESC") {
            order = .descending
        } else if request.matches(index, "COUNT"), left >= 1 {
            count = Int(try request.integer(at: index + 1))
            guard count > 0 else { throw .text("ERR COUNT must be > 0") }
            return 2
        } else if form.isSearch {
            return try takeSearchOption(request, index, left)
        } else if form == .place(mayStore: true) || form == .member(mayStore: true), left >= 1 {
            storesDistance = request.matches(index, "STOREDIST")
            guard storesDistance || request.matches(index, "STORE") else { throw .syntax }
            target = index + 1
            return 2
        } else {
            throw .syntax
        }
        return 1
    }

    private mutating func takeSearchOption(
        _ request: Request, _ index: Int, _ left: Int
    ) throws(ReplyError) -> Int {
        if form == .searchStore, request.matches(index, "STOREDIST") {
            storesDistance = true
            return 1
        }
        if left >= 1, centre == nil || hasMember, request.matches(index, "FROMMEMBER") {
            try takeMember(request[index + 1])
            return 2
        }
        if left >= 2, !hasMember, request.matches(index, "FROMLONLAT") {
            centre = try request.place(at: index + 1)
            return 3
        }
        if left >= 2, !isBox, request.matches(index, "BYRADIUS") {
            try takeCircle(request, index + 1)
            return 3
        }
        if left >= 3, shape == nil || isBox, request.matches(index, "BYBOX") {
            try takeBox(request, index + 1)
            return 4
        }
        throw .syntax
    }

    private var isBox: Bool { if case .box = shape { true } else { false } }

    private mutating func takeMember(_ member: UnsafeRawBufferPointer) throws(ReplyError) {
        hasMember = true
        guard let set else { return }
        guard let score = set.score(of: member) else {
            throw .text("ERR could not decode requested zset member")
        }
        centre = GeoPlace(score: score)
    }

    private mutating func takeCircle(_ request: Request, _ index: Int) throws(ReplyError) {
        guard let radius = parseDouble(request[index]) else { throw .text("ERR need numeric radius") }
        guard radius >= 0 else { throw .text("ERR radius cannot be negative") }
        metersPerUnit = try request.metersPerUnit(at: index + 1)
        shape = .circle(radius: radius)
    }

    private mutating func takeBox(_ request: Request, _ index: Int) throws(ReplyError) {
        guard let width = parseDouble(request[index]) else { throw .text("ERR need numeric width") }
        guard let height = parseDouble(request[index + 1]) else { throw .text("ERR need numeric height") }
        guard width >= 0, height >= 0 else { throw .text("ERR height or width cannot be negative") }
        metersPerUnit = try request.metersPerUnit(at: index + 2)
        shape = .box(width: width, height: height)
    }

    private func check(_ request: Request) throws(ReplyError) {
        if target != nil, !details.isEmpty {
            throw form == .searchStore
                ? .text("ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options")
                : .text("ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options")
        }
        if form.isSearch, centre == nil, !hasMember {
            throw .message(
                "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for \(String(bytes: request[0].cString))")
        }
        if form.isSearch, shape == nil {
            throw .message(
                "ERR exactly one of BYRADIUS and BYBOX can be specified for \(String(bytes: request[0].cString))")
        }
        if isAny, count == 0 { throw .text("ERR the ANY argument requires COUNT argument") }
    }
}

// MARK: Shared

extension Request {
    /// Longitude and latitude. (extractLongLatOrReply)
    fileprivate func place(at index: Int) throws(ReplyError) -> GeoPlace {
        guard let longitude = parseDouble(self[index]), let latitude = parseDouble(self[index + 1]) else {
            throw .notAFloat
        }
        let place = GeoPlace(longitude: longitude, latitude: latitude)
        guard place.isValid else {
            throw .message("ERR invalid longitude,latitude pair \(formatFixed(longitude)),\(formatFixed(latitude))")
        }
        return place
    }

    fileprivate func metersPerUnit(at index: Int) throws(ReplyError) -> Double {
        if matches(index, "M") { return 1 }
        if matches(index, "KM") { return 1000 }
        if matches(index, "FT") { return 0.3048 }
        if matches(index, "MI") { return 1609.34 }
        throw .text("ERR unsupported unit provided. please use M, KM, FT, MI")
    }
}

extension ReplyBuffer {
    /// A distance with four decimals.
    fileprivate mutating func distance(_ value: Double) {
        withUnsafeTemporaryAllocation(byteCount: distanceBytesMax, alignment: 8) { text in
            let count = formatDistance(value, to: text.baseAddress.unsafelyUnwrapped)
            bulk(UnsafeRawBufferPointer(rebasing: text[..<count]))
        }
    }

    /// Longitude and latitude with 17 decimals at most.
    fileprivate mutating func place(_ place: GeoPlace) {
        array(2)
        withUnsafeTemporaryAllocation(byteCount: longDoubleBytesMax, alignment: 8) { text in
            for value in [place.longitude, place.latitude] {
                let count = formatHuman(LongDouble(value), to: text)
                double(text: UnsafeRawBufferPointer(rebasing: text[..<count]))
            }
        }
    }
}
