import MartletBase
import MartletReactor
import MartletServer
import MartletSystem

let port = CommandLine.arguments.count > 1 ? Int(CommandLine.arguments[1]) ?? 6379 : 6379
do {
    let listener = try Socket.listen(address: "127.0.0.1", port: port, backlog: 511)
    var generator = SystemRandomNumberGenerator()
    let seed = HashSeed(k0: generator.next(), k1: generator.next())
    var reactor = try Reactor(listeners: [listener]) { time in
        Node(databaseCount: 16, isClustered: false, seed: seed, runID: String(repeating: "0", count: 40), time: time)
    }
    reactor.run()
} catch {
    print(error)
}
