import MartletBase
import MartletKeyspace
import MartletRESP

extension CommandFamily {
    static let connection = CommandFamily(.connection, [.ping])
}

extension Command {
    static let ping = Command(
        "PING", since: "1.0.0", arity: .atLeast(1), flags: [.fast], complexity: "O(1)",
        summary: "Returns the server's liveliness response.",
        run: .node { request, node, client throws(ReplyError) in
            guard request.count <= 2 else { throw .wrongArgumentCount("ping") }
            if request.count == 1 { client.pointee.reply.simple("PONG") } else { client.pointee.reply.bulk(request[1]) }
        })
}
