import MartletBase
import MartletServer
import MartletSystem

// The connection to the primary that this node follows: a socket and nothing else. What goes over it is the node's.

struct ReplicationLink {
    let fd: Int32
    let token: UInt64
    var isConnecting: Bool
    var waitsForWrite: Bool
}

extension Reactor {
    /// Opens the link that the node asked for. A name is looked up on the background thread first.
    mutating func connectToPrimary(host: String, port: Int) {
        closePrimaryLink()
        if let address = SocketAddress(ip: host, port: port) {
            return connectToPrimary(host: host, port: port, address)
        }
        let inbox = inbox
        worker.post(
            .run {
                let address = (try? NameResolver.addresses(of: host, port: port))?.first
                inbox.post(.resolvedPrimary(host: host, port: port, address))
            })
    }

    /// The name was looked up, or the address was one; nil if there is none.
    mutating func connectToPrimary(host: String, port: Int, _ address: SocketAddress?) {
        guard node.wantsPrimaryLink(host: host, port: port), primaryLink == nil else { return }
        guard let address else { return node.primaryLinkClosed(reason: "no address for \(host)") }
        let sourceIP = node.configuration.bindSourceAddress
        let source = sourceIP.isEmpty ? nil : SocketAddress(ip: sourceIP, port: 0)
        let token = makeLinkToken()
        switch Socket.connect(to: address, from: source) {
        case .failed(let error): node.primaryLinkClosed(reason: error.reason)
        case .connected(let fd):
            watchPrimaryLink(ReplicationLink(fd: fd, token: token, isConnecting: false, waitsForWrite: false))
            if primaryLink != nil { primaryLinkOpened() }
        case .inProgress(let fd):
            watchPrimaryLink(ReplicationLink(fd: fd, token: token, isConnecting: true, waitsForWrite: true))
        }
    }

    private mutating func watchPrimaryLink(_ link: ReplicationLink) {
        do throws(SystemError) {
            try Socket.setNoDelay(link.fd)
            try poller.add(link.fd, link.waitsForWrite ? [.readable, .writable] : .readable, token: link.token)
            primaryLink = link
        } catch {
            Socket.close(link.fd)
            node.primaryLinkClosed(reason: error.reason)
        }
    }

    private mutating func primaryLinkOpened() {
        primaryLink?.isConnecting = false
        node.primaryLinkOpened()
        sendToPrimary()
    }

    mutating func handlePrimaryLink(_ event: Poller.Event) {
        guard let link = primaryLink, link.token == event.token else { return }
        if link.isConnecting {
            if let error = Socket.connectResult(link.fd) { return breakPrimaryLink(error.reason) }
            return primaryLinkOpened()
        }
        // What a script half did is not mixed with what the primary says; it is read when the script has ended.
        if event.isReadable, !node.isBusy {
            switch Socket.receive(link.fd, into: scratch.baseAddress!, count: scratch.count) {
            case .transferred(let count):
                node.statistics.bytesReceived += count
                node.primaryLinkReceived(UnsafeRawBufferPointer(start: scratch.baseAddress, count: count))
            case .wouldBlock: break
            case .endOfStream: return breakPrimaryLink("the primary closed the connection")
            case .failed(let error): return breakPrimaryLink(error.reason)
            }
        }
        if event.isWritable { sendToPrimary(isWritable: true) }
    }

    /// Takes what has already arrived from a primary that this node is about to replace: those writes were acknowledged.
    mutating func drainPrimaryLink() {
        guard let link = primaryLink, !link.isConnecting else { return }
        var left = Self.drainedBytesMax
        while left > 0, node.isPrimaryLinkUp,
            case .transferred(let count) = Socket.receive(link.fd, into: scratch.baseAddress!, count: scratch.count)
        {
            left -= count
            node.statistics.bytesReceived += count
            node.primaryLinkReceived(UnsafeRawBufferPointer(start: scratch.baseAddress, count: count))
        }
    }

    /// A primary that lives on could send for ever.
    private static let drainedBytesMax = 64 << 20

    /// Sends what the node has for its primary. Called at the end of every turn.
    mutating func sendToPrimary(isWritable: Bool = false) {
        guard let link = primaryLink, !link.isConnecting, isWritable || !link.waitsForWrite else { return }
        let bytes = node.primaryLinkOutput
        guard link.waitsForWrite || !bytes.isEmpty else { return }
        var isDone = true
        if let base = bytes.baseAddress, !bytes.isEmpty {
            let total = bytes.count
            switch Socket.send(link.fd, from: base, count: total) {
            case .transferred(let count):
                node.statistics.bytesSent += count
                node.primaryLinkTook(count: count)
                isDone = count == total
            case .wouldBlock: isDone = false
            case .endOfStream: return breakPrimaryLink("the primary closed the connection")
            case .failed(let error): return breakPrimaryLink(error.reason)
            }
        }
        guard link.waitsForWrite == isDone else { return }
        primaryLink?.waitsForWrite = !isDone
        do throws(SystemError) {
            try poller.modify(link.fd, isDone ? .readable : [.readable, .writable], token: link.token)
        } catch {
            breakPrimaryLink(error.reason)
        }
    }

    mutating func breakPrimaryLink(_ reason: String) {
        closePrimaryLink()
        node.primaryLinkClosed(reason: reason)
    }

    mutating func closePrimaryLink() {
        guard let link = primaryLink else { return }
        primaryLink = nil
        poller.remove(link.fd)
        Socket.close(link.fd)
    }

    /// Tells the bus how replication stands; elections go by it.
    mutating func reportReplication() {
        guard let bus else { return }
        bus.status.replicationOffset = node.announcedOffset
        bus.status.lastPrimaryContact = node.lastPrimaryContact
        let isUp = node.isPrimaryLinkUp
        if bus.status.isPrimaryLinkUp != isUp {
            bus.status.isPrimaryLinkUp = isUp
            bus.statusChanged()
        }
        bus.status.followCount = followCount
    }
}
