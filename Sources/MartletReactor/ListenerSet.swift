import MartletBase
import MartletServer
import MartletSystem

// The sockets that clients connect to, and how CONFIG SET moves them.
//
// CONFIG SET has to know at once whether the new addresses can be listened on, and while a command runs nobody but the
// node may be touched. So this set opens and closes sockets by itself and leaves the watching to the reactor: closed
// descriptors leave the poller by themselves, new ones wait in `unwatched` for the end of the batch. Tokens go round, so
// an event of a listener that was just closed finds nobody.

final class ListenerSet {
    private(set) var byToken: [UInt64: Listener] = [:]
    /// Opened and not yet in the poller.
    private(set) var unwatched: [UInt64] = []
    private var nextToken: UInt64 = 0

    /// Tokens are below this; see the reactor's.
    private static let tokensMax: UInt64 = 1000

    init(_ listeners: [Listener]) { add(listeners) }

    var all: [Listener] { Array(byToken.values) }

    /// Hands out what the poller has to watch.
    func takeUnwatched() -> [(token: UInt64, fd: Int32)] {
        defer { unwatched.removeAll() }
        return unwatched.compactMap { token in byToken[token].map { (token, $0.fd) } }
    }

    /// Listens where `new` says instead of where `old` said. - Throws: with everything as it was.
    func move(from old: ServerConfiguration, to new: ServerConfiguration) throws(StartFailure) {
        if old.port != new.port {
            let listeners = try Listener.openTCP(new)
            closeTCP()
            add(listeners)
            return
        }
        // Addresses of one port overlap: the old ones go first.
        closeTCP()
        do throws(StartFailure) {
            add(try Listener.openTCP(new))
        } catch {
            do throws(StartFailure) { add(try Listener.openTCP(old)) } catch {
                Log.warning("Cannot listen on the previous addresses any more: \(error.text)")
            }
            throw error
        }
    }

    func close() {
        for listener in byToken.values { listener.close() }
        byToken.removeAll()
    }

    private func add(_ listeners: [Listener]) {
        for listener in listeners {
            repeat { nextToken = (nextToken + 1) % Self.tokensMax } while byToken[nextToken] != nil
            byToken[nextToken] = listener
            unwatched.append(nextToken)
        }
    }

    private func closeTCP() {
        for (token, listener) in byToken where !listener.isUnix {
            listener.close()
            byToken[token] = nil
        }
    }
}
