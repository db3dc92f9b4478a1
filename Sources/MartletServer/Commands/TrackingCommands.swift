import MartletBase
import MartletRESP

// CLIENT TRACKING and its relations; the mechanism is in Client/Tracking.swift. Source: Redis 7.0 networking.c,
// clientCommand.

extension Command {
    static let clientTracking = Command(
        "TRACKING", since: "6.0.0", arity: .atLeast(3), flags: [.noScript, .loading, .stale],
        arguments: """
            status=<ON|OFF> [REDIRECT client-id:integer] [PREFIX prefix]+ [BCAST] [OPTIN] [OPTOUT] [NOLOOP]
            """,
        complexity: "O(1). Some options may introduce additional complexity.",
        summary: "Enable or disable server assisted client side caching support",
        run: .node { request, node, client throws(ReplyError) in
            let options = try TrackingOptions(request, &node)
            if request.matches(2, "ON") {
                node.track(client, try options.tracking(replacing: client.pointee.tracking))
            } else if request.matches(2, "OFF") {
                node.endTracking(client)
            } else {
                throw .syntax
            }
            client.pointee.reply.ok()
        })

    static let clientCaching = Command(
        "CACHING", since: "6.0.0", arity: .exactly(3), flags: [.noScript, .loading, .stale],
        arguments: "mode=<YES|NO>", complexity: "O(1)",
        summary: "Instruct the server about tracking or not keys in the next request",
        run: .node { request, _, client throws(ReplyError) in
            guard let tracking = client.pointee.tracking else {
                throw .text(
                    """
                    ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT \
                    mode enabled
                    """)
            }
            if request.matches(2, "YES") {
                guard tracking.choice == .onlyAfterYes else {
                    throw .text("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
                }
            } else if request.matches(2, "NO") {
                guard tracking.choice == .allButAfterNo else {
                    throw .text("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
                }
            } else {
                throw .syntax
            }
            client.pointee.flags.insert(.caching)
            client.pointee.reply.ok()
        })

    static let clientGetRedirection = Command(
        "GETREDIR", since: "6.0.0", arity: .exactly(2), flags: [.noScript, .loading, .stale], complexity: "O(1)",
        summary: "Get tracking notifications redirection client ID if any",
        run: .node { _, _, client throws(ReplyError) in
            client.pointee.reply.integer(client.pointee.redirection)
        })

    static let clientTrackingInfo = Command(
        "TRACKINGINFO", since: "6.2.0", arity: .exactly(2), flags: [.noScript, .loading, .stale], complexity: "O(1)",
        summary: "Return information about server assisted client side caching for the current connection",
        run: .node { _, _, client throws(ReplyError) in
            let tracking = client.pointee.tracking
            let redirection = client.pointee.redirection
            let isCaching = client.pointee.flags.contains(.caching)
            func write(_ reply: inout ReplyBuffer) {
                var flags: [StaticString] = [tracking == nil ? "off" : "on"]
                if let tracking {
                    if tracking.isBroadcast { flags.append("bcast") }
                    switch tracking.choice {
                    case .all: break
                    case .onlyAfterYes: flags += isCaching ? ["optin", "caching-yes"] : ["optin"]
                    case .allButAfterNo: flags += isCaching ? ["optout", "caching-no"] : ["optout"]
                    }
                    if tracking.sparesOwnChanges { flags.append("noloop") }
                    if tracking.isRedirectionBroken { flags.append("broken_redirect") }
                }
                reply.map(3)
                reply.bulk("flags")
                reply.set(flags.count)
                for flag in flags { reply.bulk(flag) }
                reply.bulk("redirect")
                reply.integer(redirection)
                reply.bulk("prefixes")
                let prefixes = tracking?.prefixes ?? []
                reply.array(prefixes.count)
                for prefix in prefixes { reply.bulk(prefix) }
            }
            write(&client.pointee.reply)
        })
}

extension Client {
    /// As CLIENT GETREDIR tells it: -1 for a client that does not track, 0 for one that is told itself.
    var redirection: Int64 { tracking.map { Int64(bitPattern: $0.redirection) } ?? -1 }
}

/// The options of CLIENT TRACKING as they were given.
private struct TrackingOptions {
    private var result = ClientTracking()
    private var isOptIn = false
    private var isOptOut = false

    init(_ request: Request, _ node: inout Node) throws(ReplyError) {
        var index = 3
        while index < request.count {
            let hasValue = index + 1 < request.count
            if request.matches(index, "REDIRECT"), hasValue {
                index += 1
                if result.redirection != 0 { throw .text("ERR A client can only redirect to a single other client") }
                guard let id = parseInt64(request[index]) else { throw .notAnInteger }
                // It may go at any time, but to name it wrongly is a mistake.
                guard node.client(withID: id) != nil else {
                    throw .text("ERR The client ID you want redirect to does not exist")
                }
                result.redirection = UInt64(id)
            } else if request.matches(index, "BCAST") {
                result.isBroadcast = true
            } else if request.matches(index, "OPTIN") {
                isOptIn = true
            } else if request.matches(index, "OPTOUT") {
                isOptOut = true
            } else if request.matches(index, "NOLOOP") {
                result.sparesOwnChanges = true
            } else if request.matches(index, "PREFIX"), hasValue {
                index += 1
                result.prefixes.append(Array(request[index]))
            } else {
                throw .syntax
            }
            index += 1
        }
    }

    /// What a client is to have.
    ///
    /// - Parameter old: what it has.
    func tracking(replacing old: ClientTracking?) throws(ReplyError) -> ClientTracking {
        if !result.isBroadcast, !result.prefixes.isEmpty {
            throw .text("ERR PREFIX option requires BCAST mode to be enabled")
        }
        if let old, old.isBroadcast != result.isBroadcast {
            throw .text(
                """
                ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then \
                re-enabling it with a different mode.
                """)
        }
        if result.isBroadcast, isOptIn || isOptOut {
            throw .text("ERR OPTIN and OPTOUT are not compatible with BCAST")
        }
        if isOptIn, isOptOut { throw .text("ERR You can't specify both OPTIN mode and OPTOUT mode") }
        if isOptIn && old?.choice == .allButAfterNo || isOptOut && old?.choice == .onlyAfterYes {
            throw .text(
                """
                ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling \
                it with a different mode.
                """)
        }
        if !result.prefixes.isEmpty { try checkPrefixes(old?.prefixes ?? []) }
        var new = result
        new.choice = isOptIn ? .onlyAfterYes : isOptOut ? .allButAfterNo : .all
        if new.isBroadcast, new.prefixes.isEmpty, old?.prefixes.contains([]) != true { new.prefixes = [[]] }
        return new
    }

    /// No key may begin with two prefixes of one client. (checkPrefixCollisionsOrReply)
    ///
    /// - Complexity: O(n log n): in bytewise order, prefixes of which one begins the other are neighbours.
    private func checkPrefixes(_ old: [[UInt8]]) throws(ReplyError) {
        // What the client has stands before what it asks for.
        let all = old + result.prefixes
        let order = all.indices.sorted { all[$0].lexicographicallyPrecedes(all[$1]) }
        var collision: (first: Int, second: Int)?
        for (one, other) in zip(order, order.dropFirst()) where all[other].starts(with: all[one]) {
            let pair = (first: min(one, other), second: max(one, other))
            if collision.map({ pair < $0 }) ?? true { collision = pair }
        }
        guard let (first, second) = collision else { return }
        let isWithOld = first < old.count
        let (named, other) = isWithOld ? (all[second], all[first]) : (all[first], all[second])
        throw .message(
            """
            ERR Prefix '\(String(decoding: named, as: UTF8.self))' overlaps with \
            \(isWithOld ? "an existing" : "another provided") prefix '\(String(decoding: other, as: UTF8.self))'. \
            Prefixes for a single client must not overlap.
            """)
    }
}
