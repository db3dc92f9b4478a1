import CMartletSystem
import Glibc

enum Signals {
    /// Blocks what other processes send; faults of the thread itself stay deliverable, so that crashes are reported.
    static func blockAllInThisThread() -> sigset_t {
        var all = sigset_t()
        sigfillset(&all)
        for fault in [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS] { sigdelset(&all, fault) }
        var previous = sigset_t()
        pthread_sigmask(SIG_SETMASK, &all, &previous)
        return previous
    }

    static func restoreMask(_ mask: sigset_t) {
        var mask = mask
        pthread_sigmask(SIG_SETMASK, &mask, nil)
    }
}

/// Signals as events of a poller instead of interruptions: SIGTERM, SIGINT and SIGUSR1 are blocked and read from a
/// signalfd, SIGHUP and SIGPIPE are ignored as in Redis. Faults (SIGSEGV…) stay with the Swift runtime.
///
/// Make it on the main thread before any other thread starts: a signal goes to any thread that does not block it.
package struct SignalReader: ~Copyable {
    package enum Signal: Sendable {
        case terminate
        case interrupt
        case user1
    }

    /// Watch it for readability.
    package let fd: Int32

    package init() throws(SystemError) {
        martlet_ignore_signal(SIGHUP)
        martlet_ignore_signal(SIGPIPE)
        var set = sigset_t()
        sigemptyset(&set)
        for number in [SIGTERM, SIGINT, SIGUSR1] { sigaddset(&set, number) }
        let code = pthread_sigmask(SIG_BLOCK, &set, nil)
        guard code == 0 else { throw SystemError(code: code, call: "pthread_sigmask") }
        let descriptor = signalfd(-1, &set, Int32(SFD_NONBLOCK | SFD_CLOEXEC))
        guard descriptor >= 0 else { throw .last("signalfd") }
        fd = descriptor
    }

    deinit { close(fd) }

    /// The next signal that arrived, nil if none is left.
    package borrowing func next() -> Signal? {
        var info = signalfd_siginfo()
        let size = MemoryLayout<signalfd_siginfo>.size
        guard uninterrupted({ read(fd, &info, size) }).result == size else { return nil }
        switch Int32(info.ssi_signo) {
        case SIGTERM: return .terminate
        case SIGINT: return .interrupt
        default: return .user1
        }
    }
}
