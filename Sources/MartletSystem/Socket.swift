import CMartletSystem
import Glibc

// Stream sockets as plain descriptors. Every descriptor made here is non-blocking and closes on exec; ownership stays
// with the caller, who closes it once with `Socket.close`. Calls repeat on EINTR. What the peer or the network can
// cause is a value or a thrown `SystemError`; what only our own mistake can cause stops the process (`ioResult`).
//
// The choices (SO_REUSEADDR, IPV6_V6ONLY, three keepalive probes, stale unix sockets unlinked) are those of Redis'
// `anet.c`, because deployments rely on them.

package enum Socket {
    /// One transfer moves at most this many pieces; the kernel refuses more (`UIO_MAXIOV`).
    package static let segmentsMax = 1024

    package enum Accepted: Sendable {
        case connection(fd: Int32, peer: SocketAddress)
        case wouldBlock
        /// The process or the system is out of descriptors. The connection stays in the backlog: stop accepting
        /// until a descriptor is closed, or a level-triggered poller spins.
        case tooManyFiles(SystemError)
        /// The connection died before it was accepted: try the next one.
        case aborted(SystemError)
    }

    /// Takes one connection off a listening socket.
    package static func accept(_ listener: Int32) -> Accepted {
        var peer = SocketAddress()
        let outcome = peer.withKernelBuffer { address, length in
            uninterrupted {
                martlet_accept4(listener, address, length, Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue))
            }
        }
        if outcome.result >= 0 { return .connection(fd: outcome.result, peer: peer) }
        switch outcome.errno {
        case EAGAIN: return .wouldBlock
        case EMFILE, ENFILE, ENOBUFS, ENOMEM: return .tooManyFiles(SystemError(code: outcome.errno, call: "accept"))
        default:
            preconditionOurFault(outcome.errno, "accept")
            return .aborted(SystemError(code: outcome.errno, call: "accept"))
        }
    }

    // MARK: Transfer

    @inline(never)
    package static func receive(_ fd: Int32, into buffer: UnsafeMutableRawPointer, count: Int) -> IOResult {
        let outcome = uninterrupted { recv(fd, buffer, count, 0) }
        if outcome.result == 0, count > 0 { return .endOfStream }
        return ioResult(outcome, "recv")
    }

    /// A closed peer gives EPIPE, not a signal.
    @inline(never)
    package static func send(_ fd: Int32, from buffer: UnsafeRawPointer, count: Int) -> IOResult {
        ioResult(uninterrupted { Glibc.send(fd, buffer, count, Int32(MSG_NOSIGNAL)) }, "send")
    }

    package typealias Segment = iovec

    package static func segment(_ start: UnsafeRawPointer, count: Int) -> Segment {
        Segment(iov_base: UnsafeMutableRawPointer(mutating: start), iov_len: count)
    }

    /// Sends several pieces in one call. - Precondition: `count` is at most ``segmentsMax``.
    @inline(never)
    package static func send(_ fd: Int32, segments: UnsafeMutablePointer<Segment>, count: Int) -> IOResult {
        precondition(count <= segmentsMax)
        var message = msghdr()
        message.msg_iov = segments
        message.msg_iovlen = count
        return ioResult(uninterrupted { sendmsg(fd, &message, Int32(MSG_NOSIGNAL)) }, "sendmsg")
    }

    // MARK: Options

    package static func setNoDelay(_ fd: Int32) throws(SystemError) {
        try setOption(fd, Int32(IPPROTO_TCP), TCP_NODELAY, 1, "setsockopt TCP_NODELAY")
    }

    /// First probe after `intervalSeconds` of silence, three more a third of it apart, then the connection is dead.
    package static func setKeepAlive(_ fd: Int32, intervalSeconds: Int) throws(SystemError) {
        let interval = Int32(clamping: max(intervalSeconds, 1))
        let tcp = Int32(IPPROTO_TCP)
        try setOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1, "setsockopt SO_KEEPALIVE")
        try setOption(fd, tcp, TCP_KEEPIDLE, interval, "setsockopt TCP_KEEPIDLE")
        try setOption(fd, tcp, TCP_KEEPINTVL, max(interval / 3, 1), "setsockopt TCP_KEEPINTVL")
        try setOption(fd, tcp, TCP_KEEPCNT, 3, "setsockopt TCP_KEEPCNT")
    }

    static func setOption(
        _ fd: Int32, _ level: Int32, _ option: Int32, _ value: Int32, _ call: StaticString
    ) throws(SystemError) {
        var value = value
        guard setsockopt(fd, level, option, &value, socklen_t(MemoryLayout<Int32>.size)) == 0 else {
            let error = SystemError.last(call)
            preconditionOurFault(error.code, call)
            throw error
        }
    }

    // MARK: Addresses

    /// Nil once the connection is gone.
    package static func peerAddress(_ fd: Int32) -> SocketAddress? {
        var address = SocketAddress()
        return address.withKernelBuffer { getpeername(fd, $0, $1) } == 0 ? address : nil
    }

    package static func localAddress(_ fd: Int32) -> SocketAddress? {
        var address = SocketAddress()
        return address.withKernelBuffer { getsockname(fd, $0, $1) } == 0 ? address : nil
    }

    // MARK: End

    /// Ends both directions; the peer sees the end of the stream at once, also if another thread holds the descriptor.
    package static func shutdown(_ fd: Int32) { _ = Glibc.shutdown(fd, Int32(SHUT_RDWR)) }

    /// Closes for good. Not repeated on EINTR: Linux has freed the descriptor by then.
    package static func close(_ fd: Int32) {
        if Glibc.close(fd) != 0 { precondition(errno != EBADF, "closed twice") }
    }

    // MARK: Making one

    static func make(family: Int32, isBlocking: Bool = false) throws(SystemError) -> Int32 {
        let type = SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | (isBlocking ? 0 : SOCK_NONBLOCK.rawValue)
        let fd = socket(family, Int32(type), 0)
        guard fd >= 0 else { throw .last("creating socket") }
        return fd
    }
}
