import MartletBase
import MartletRESP

/// What a client waits for when its reply does not come in the same turn.
package enum Parked: Equatable, Sendable {
    case notParked
    /// The answer to a message to another thread; the token tells answers apart.
    case answer(token: UInt64)
    /// Writes (or everything) are paused; the request runs again afterwards.
    case pause
    /// A key is being migrated; the request runs again afterwards.
    case migratingKey
    /// WAIT: replicas acknowledge `offset`, or the deadline passes. Milliseconds of the node's clock; 0 waits for ever.
    case replicas(count: Int, offset: Int64, deadline: Int64)
    /// SHUTDOWN waits for replicas.
    case shutdown
    /// BLPOP and others: one of some keys changes, or the time is over. See Blocking/BlockedClients.swift.
    case keys(ticket: UInt64)
    /// Its script has run for long and goes on in later turns. See Scripting/ScriptEngine.swift.
    case script
}

/// One client's side of the conversation: what it chose, where it stands, what it is to be told.
///
/// Lives at a fixed address from accept to close and is reached through ``ClientPointer``, without reference counts or
/// exclusivity checks. Owned by the command thread.
package struct Client: ~Copyable {
    package struct Flags: OptionSet, Sendable {
        package let rawValue: UInt32
        package init(rawValue: UInt32) { self.rawValue = rawValue }

        /// AUTH succeeded, or none is needed.
        package static let authenticated = Flags(rawValue: 1 << 0)
        /// Close once the reply is sent; nothing more is executed.
        package static let closeAfterReply = Flags(rawValue: 1 << 1)
        /// Close at the end of the turn, whatever is unsent.
        package static let closeNow = Flags(rawValue: 1 << 2)
        /// READONLY was given: a replica may answer for its primary's slots.
        package static let readOnly = Flags(rawValue: 1 << 3)
        /// ASKING was given: the next command may use an importing slot.
        package static let asking = Flags(rawValue: 1 << 4)
        package static let replyOff = Flags(rawValue: 1 << 5)
        package static let replySkipNext = Flags(rawValue: 1 << 6)
        package static let replySkip = Flags(rawValue: 1 << 7)
        /// Replies are never sent: the replication stream of our primary, and commands of the node itself.
        package static let silent = Flags(rawValue: 1 << 8)
        /// The replication stream of our primary.
        package static let primary = Flags(rawValue: 1 << 9)
        /// A replica of ours.
        package static let replica = Flags(rawValue: 1 << 10)
        package static let noTouch = Flags(rawValue: 1 << 11)
        package static let noEvict = Flags(rawValue: 1 << 12)
        package static let unixSocket = Flags(rawValue: 1 << 13)
        /// MULTI was given: commands are queued.
        package static let inTransaction = Flags(rawValue: 1 << 14)
        /// The other side has closed the connection, or is about to lose it: replies will not arrive.
        package static let disconnected = Flags(rawValue: 1 << 15)
        /// Has subscribed to something. (CLIENT_PUBSUB)
        package static let subscriber = Flags(rawValue: 1 << 16)
        /// EXEC is under way, perhaps waiting for an answer.
        package static let executing = Flags(rawValue: 1 << 17)
        /// Got a message in this turn, which will be sent; see Delivery.swift.
        package static let messageQueued = Flags(rawValue: 1 << 18)
        /// Messages wait until the client's command has its reply.
        package static let hasDeferredMessages = Flags(rawValue: 1 << 19)
        /// The connection is gone; its script, and an EXEC around it, go on.
        package static let orphaned = Flags(rawValue: 1 << 26)
        /// Stands for a script that calls commands; not a client of its own.
        package static let script = Flags(rawValue: 1 << 25)

        /// CLIENT TRACKING: it is told when keys change that it has read.
        package static let tracking = Flags(rawValue: 1 << 20)
        /// CLIENT CACHING was given: it holds for the next command or transaction.
        package static let caching = Flags(rawValue: 1 << 21)
        /// Is shown all commands.
        package static let monitor = Flags(rawValue: 1 << 22)
        /// CLIENT IMPORT-SOURCE: keys whose time has passed are there for it.
        package static let importSource = Flags(rawValue: 1 << 23)
        /// CLIENT CAPA REDIRECT: it follows a replica's word to its primary.
        package static let followsRedirection = Flags(rawValue: 1 << 24)

        /// Any of these sends a command through the slow gates.
        static let unusual: Flags = [
            .asking, .replyOff, .replySkipNext, .replySkip, .silent, .noTouch, .replica, .inTransaction, .subscriber,
            .tracking, .monitor, .importSource,
        ]
        /// What is written for such a client will not arrive.
        static let closing: Flags = [.closeAfterReply, .closeNow, .disconnected]
    }

    package let id: UInt64
    package var reply = ReplyBuffer()
    package var flags: Flags = []
    package var database = 0
    package var parked = Parked.notParked
    /// Name of the last command: index in the command table, -1 before the first.
    package var lastCommand = -1

    /// `ip:port`, or `path:0` for a unix socket.
    package let address: String
    package let localAddress: String
    package let fd: Int32
    /// Node's clock, milliseconds.
    package let createdAt: Int64
    package var lastInteraction: Int64
    package var name: [UInt8] = []
    package var libraryName: [UInt8] = []
    package var libraryVersion: [UInt8] = []
    package var user = "default"
    /// Nil for nearly all clients.
    var transaction: Transaction?
    /// Nil unless the flag of that name is set.
    var tracking: ClientTracking?
    var subscriptions = Subscriptions()
    /// Messages that came while the client's own command was running.
    var deferredMessages: [UInt8] = []
    /// Position in the node's list of clients.
    var listIndex = 0
    /// Position in the node's list of parked clients, while it is one.
    var parkedIndex = 0
    /// Bytes received and not executed, and their capacity; kept by the reactor for CLIENT LIST.
    package var queryBytes = 0
    package var queryCapacity = 0
    package var bytesReceived = 0
    /// The reactor's connection; nil for clients without one.
    package var connection: UnsafeMutableRawPointer?
    /// When the output first exceeded its soft limit; milliseconds, 0 if it does not.
    package var softLimitSince: Int64 = 0
    /// The highest offset that this client's writes reached, for WAIT.
    package var writeOffset: Int64 = 0

    package init(id: UInt64, address: String, localAddress: String, fd: Int32, now: Int64) {
        self.id = id
        self.address = address
        self.localAddress = localAddress
        self.fd = fd
        createdAt = now
        lastInteraction = now
    }
}

package typealias ClientPointer = UnsafeMutablePointer<Client>

/// Of the pointer, because a question to `pointee` itself copies the whole client first.
extension UnsafeMutablePointer<Client> {
    package var isParked: Bool { pointee.parked != .notParked }
    package var isClosing: Bool { !pointee.flags.isDisjoint(with: [.closeAfterReply, .closeNow]) }
    package var isAuthenticated: Bool { pointee.flags.contains(.authenticated) }
    package var isReplica: Bool { pointee.flags.contains(.replica) }
}
