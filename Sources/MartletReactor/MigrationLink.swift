import MartletBase
import MartletRESP
import MartletServer
import MartletSystem

/// A connection to a server that keys are moved to. Kept for a few seconds, because MIGRATE comes in long series.
///
/// Owned by the command thread; the class only gives it an identity.
final class MigrationLink {
    enum State { case connecting, working, idle }

    /// An unused link is closed after this. (MIGRATE_SOCKET_CACHE_TTL)
    static let idleMilliseconds: Int64 = 10_000
    /// More are not kept open. (MIGRATE_SOCKET_CACHE_ITEMS)
    static let countMax = 64

    let fd: Int32
    let host: String
    let port: Int
    let credentials: [[UInt8]]
    let token: UInt64
    private(set) var state = State.connecting
    private(set) var job: KeyMigration?
    private(set) var deadline: Int64
    /// The link served a job before, so the target may have closed it since: worth a second try.
    private(set) var isReused = false
    private var selectedDatabase = 0
    private var output: [UInt8] = []
    private var sent = 0
    private var reader = ReplyReader()
    /// Answers to AUTH and SELECT, which come before those to RESTORE.
    private var preambleCount = 0
    private var answers: [String?] = []
    private var hasAnswers = false

    init(fd: Int32, token: UInt64, job: KeyMigration, isConnected: Bool, now: Int64) {
        self.fd = fd
        self.token = token
        host = job.host
        port = job.port
        credentials = job.credentials
        deadline = now + job.timeoutMilliseconds
        prepare(job)
        if isConnected { state = .working }
    }

    var wantsWrite: Bool { state == .connecting || sent < output.count }

    func fits(_ job: KeyMigration) -> Bool {
        state == .idle && host == job.host && port == job.port && credentials == job.credentials
    }

    func reuse(_ job: KeyMigration, now: Int64) {
        isReused = true
        deadline = now + job.timeoutMilliseconds
        prepare(job)
        state = .working
    }

    private func prepare(_ job: KeyMigration) {
        self.job = job
        output = []
        sent = 0
        answers = []
        hasAnswers = false
        preambleCount = 0
        // Each time: the target's password may be another one by now.
        if !credentials.isEmpty {
            RequestEncoder.append([Array("AUTH".utf8)] + credentials, to: &output)
            preambleCount += 1
        }
        if job.database != selectedDatabase {
            RequestEncoder.append("SELECT", String(job.database), to: &output)
            preambleCount += 1
        }
        output += job.commands
    }

    enum Progress {
        case goesOn
        case ended(KeyMigrationOutcome)
        /// The connection broke. Nothing was answered yet if `isUntouched`.
        case broken(String, isUntouched: Bool)
    }

    func writable() -> Progress {
        if state == .connecting {
            if Socket.connectResult(fd) != nil {
                return .broken("IOERR error or timeout connecting to the client", isUntouched: false)
            }
            state = .working
        }
        while sent < output.count {
            let result = output.withUnsafeBytes {
                Socket.send(fd, from: $0.baseAddress! + sent, count: $0.count - sent)
            }
            switch result {
            case .transferred(let count): sent += count
            case .wouldBlock: return .goesOn
            case .endOfStream, .failed:
                return .broken("IOERR error or timeout writing to target instance", isUntouched: true)
            }
        }
        return .goesOn
    }

    func readable(into buffer: UnsafeMutableRawBufferPointer) -> Progress {
        while true {
            switch Socket.receive(fd, into: buffer.baseAddress!, count: buffer.count) {
            case .transferred(let count):
                reader.feed(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<count]))
                if let progress = takeAnswers() { return progress }
            case .wouldBlock: return .goesOn
            case .endOfStream, .failed:
                return .broken("IOERR error or timeout reading from target instance", isUntouched: !hasAnswers)
            }
        }
    }

    private func takeAnswers() -> Progress? {
        guard let job else { return .broken("IOERR unexpected data from target instance", isUntouched: false) }
        do throws(ReplyProtocolError) {
            while let value = try reader.next() {
                hasAnswers = true
                if preambleCount > 0 {
                    preambleCount -= 1
                    if let text = value.errorText {
                        return .broken("ERR Target instance replied with error: \(text)", isUntouched: false)
                    }
                    continue
                }
                answers.append(value.errorText)
                if answers.count == job.keyCount {
                    selectedDatabase = job.database
                    return .ended(.answered(answers))
                }
            }
        } catch {
            return .broken("IOERR error or timeout reading from target instance", isUntouched: false)
        }
        return nil
    }

    func becomeIdle(now: Int64) {
        job = nil
        output = []
        sent = 0
        state = .idle
        deadline = now + Self.idleMilliseconds
    }
}

extension Reactor {
    /// Starts a transfer on a link that is open already, or on a new one.
    mutating func migrate(_ job: KeyMigration) {
        let now = node.time.monotonicMilliseconds
        if let link = migrationLinks.values.first(where: { $0.fits(job) }) {
            link.reuse(job, now: now)
            watch(link)
            return
        }
        connect(job)
    }

    private mutating func connect(_ job: KeyMigration) {
        guard let address = SocketAddress(ip: job.host, port: job.port) else { return resolve(job) }
        connect(job, to: address)
    }

    /// Looks a host name up on the background thread: a slow name server must not hold the loop.
    private mutating func resolve(_ job: KeyMigration) {
        let inbox = self.inbox
        worker.post(
            .run {
                let address = try? NameResolver.addresses(of: job.host, port: job.port).first
                inbox.post(.resolvedForMigration(job, address))
            })
    }

    mutating func resolvedForMigration(_ job: KeyMigration, _ address: SocketAddress?) {
        guard let address else {
            node.migrationEnded(job.token, .failed("IOERR error or timeout connecting to the client"))
            return
        }
        connect(job, to: address)
    }

    private mutating func connect(_ job: KeyMigration, to address: SocketAddress) {
        let fd: Int32
        var isConnected = false
        switch Socket.connect(to: address) {
        case .connected(let descriptor):
            fd = descriptor
            isConnected = true
        case .inProgress(let descriptor): fd = descriptor
        case .failed:
            node.migrationEnded(job.token, .failed("IOERR error or timeout connecting to the client"))
            return
        }
        try? Socket.setNoDelay(fd)
        let link = MigrationLink(
            fd: fd, token: makeLinkToken(), job: job, isConnected: isConnected, now: node.time.monotonicMilliseconds)
        do throws(SystemError) {
            try poller.add(fd, [.readable, .writable], token: link.token)
            migrationLinks[link.token] = link
        } catch {
            Socket.close(fd)
            node.migrationEnded(job.token, .failed("IOERR error or timeout connecting to the client"))
        }
    }

    mutating func handle(_ link: MigrationLink, _ event: Poller.Event) {
        guard migrationLinks[link.token] === link else { return }
        if event.isWritable, link.wantsWrite, !take(link.writable(), link) { return }
        if event.isReadable, !take(link.readable(into: scratch), link) { return }
        watch(link)
    }

    /// - Returns: false if the link is gone.
    private mutating func take(_ progress: MigrationLink.Progress, _ link: MigrationLink) -> Bool {
        switch progress {
        case .goesOn: return true
        case .ended(let outcome):
            guard let job = link.job else { return true }
            link.becomeIdle(now: node.time.monotonicMilliseconds)
            node.migrationEnded(job.token, outcome)
            if migrationLinks.count > MigrationLink.countMax {
                drop(link)
                return false
            }
            return true
        case .broken(let text, let isUntouched):
            let job = link.job
            drop(link)
            guard let job else { return false }
            // RESTORE is not repeated once the target may have seen an answered one.
            if isUntouched, link.isReused { connect(job) } else { node.migrationEnded(job.token, .failed(text)) }
            return false
        }
    }

    private mutating func drop(_ link: MigrationLink) {
        poller.remove(link.fd)
        Socket.close(link.fd)
        migrationLinks[link.token] = nil
    }

    private mutating func watch(_ link: MigrationLink) {
        let interest: Poller.Interest = link.wantsWrite ? [.readable, .writable] : .readable
        do throws(SystemError) { try poller.modify(link.fd, interest, token: link.token) } catch {
            _ = take(.broken("IOERR error or timeout writing to target instance", isUntouched: false), link)
        }
    }

    /// Ends transfers whose time is up, and links that nobody used for a while.
    mutating func migrationCron() {
        guard !migrationLinks.isEmpty else { return }
        let now = node.time.monotonicMilliseconds
        for link in Array(migrationLinks.values) where now >= link.deadline {
            if link.state == .connecting {
                _ = take(.broken("IOERR error or timeout connecting to the client", isUntouched: false), link)
            } else if link.job != nil {
                _ = take(.broken("IOERR error or timeout reading from target instance", isUntouched: false), link)
            } else {
                drop(link)
            }
        }
    }
}
