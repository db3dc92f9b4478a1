import Glibc

/// What a system call said when it failed: the errno and the call.
///
/// Negative codes are those of `getaddrinfo` (`EAI_…`), which glibc keeps apart from errnos by their sign.
package struct SystemError: Error, Equatable, Sendable, CustomStringConvertible {
    package let code: Int32
    /// The name of the call, as people search for it: `bind`, `setsockopt TCP_NODELAY`.
    package let call: StaticString

    package init(code: Int32, call: StaticString) {
        self.code = code
        self.call = call
    }

    /// Takes errno. Call it before anything else can change errno.
    static func last(_ call: StaticString) -> SystemError { SystemError(code: errno, call: call) }

    /// `Address already in use`
    package var reason: String { code < 0 ? String(cString: gai_strerror(code)) : String(cString: strerror(code)) }

    /// `bind: Address already in use`; a resolver error stands alone, as in Redis' log.
    package var description: String { code < 0 ? reason : "\(call): \(reason)" }

    package static func == (left: SystemError, right: SystemError) -> Bool {
        left.code == right.code && left.call.description == right.call.description
    }

    package var isAddressNotAvailable: Bool { code == EADDRNOTAVAIL }
    package var isRefused: Bool { code == ECONNREFUSED }
    /// The peer tore the connection down, or we wrote after it did.
    package var isReset: Bool { code == ECONNRESET || code == EPIPE || code == ECONNABORTED }
    package var isTimeout: Bool { code == ETIMEDOUT }

    /// The kernel lacks the protocol (IPv6 switched off): Redis skips such a bind address instead of stopping.
    package var isProtocolMissing: Bool {
        code == ENOPROTOOPT || code == EPROTONOSUPPORT || code == ESOCKTNOSUPPORT || code == EPFNOSUPPORT
            || code == EAFNOSUPPORT
    }
}

/// The outcome of one non-blocking transfer. Would-block is a value and never thrown: it is the usual end of a batch.
package enum IOResult: Sendable {
    /// Above 0, except for an empty write.
    case transferred(Int)
    case wouldBlock
    /// The peer closed its side (reads only).
    case endOfStream
    case failed(SystemError)
}

/// Repeats a call that a signal interrupted; returns what it returned and the errno that belongs to it.
@inline(__always)
func uninterrupted<Result: SignedInteger>(_ call: () -> Result) -> (result: Result, errno: Int32) {
    while true {
        let result = call()
        if result != -1 { return (result, 0) }
        let code = errno
        if code != EINTR { return (result, code) }
    }
}

/// Turns the result of a read or write into an ``IOResult``.
///
/// EBADF, EFAULT and ENOTSOCK can only come from a mistake of ours (a descriptor used after its close may already
/// belong to another client), so they stop the process.
@inline(__always)
func ioResult(_ outcome: (result: Int, errno: Int32), _ call: StaticString) -> IOResult {
    if outcome.result >= 0 { return .transferred(outcome.result) }
    if outcome.errno == EAGAIN { return .wouldBlock }
    return ioFailure(outcome.errno, call)
}

@inline(never)
private func ioFailure(_ code: Int32, _ call: StaticString) -> IOResult {
    preconditionOurFault(code, call)
    return .failed(SystemError(code: code, call: call))
}

func preconditionOurFault(_ code: Int32, _ call: StaticString) {
    precondition(code != EBADF && code != EFAULT && code != ENOTSOCK, "\(call) on a wrong descriptor or address")
}
