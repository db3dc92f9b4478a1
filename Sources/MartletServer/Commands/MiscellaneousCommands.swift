import MartletBase
import MartletRESP

// Small commands of the server family.

extension CommandFamily {
    static let miscellaneous = CommandFamily(.server, [.time, .lolwut])
}

extension Command {
    static let time = Command(
        "TIME", since: "2.6.0", arity: .exactly(1), flags: [.loading, .stale, .fast],
        tips: ["nondeterministic_output"],
        complexity: "O(1)",
        summary: "Return the current server time",
        run: .node { request, node, client throws(ReplyError) in
            client.pointee.reply.array(2)
            client.pointee.reply.bulk(decimal: node.time.unixMicroseconds / 1_000_000)
            client.pointee.reply.bulk(decimal: node.time.unixMicroseconds % 1_000_000)
        })

    static let lolwut = Command(
        "LOLWUT", since: "5.0.0", arity: .atLeast(1), flags: [.readonly, .fast], categories: ["read"],
        arguments: "[VERSION version:integer]",
        complexity: "",
        summary: "Display some computer art and the Redis version",
        run: .data { request, keyspace, reply throws(ReplyError) in
            if request.count >= 3, request.matches(1, "VERSION") { _ = try request.integer(at: 2) }
            reply.verbatim(
                """
                         __
                        /  \\\\____
                   ____/ o      \\\\___
                  <____            _\\\\______
                       \\\\___       /________>--
                           \\\\_____/   \\\\___
                             /  |        \\\\__>
                \u{20}
                A martlet never lands. Martlet ver. \(Version.martlet), speaks Redis ver. \(Version.redis)

                """)
        })
}
