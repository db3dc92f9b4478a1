import CMartletSystem
import Glibc

/// One operating-system thread that runs one closure to its end.
///
/// Threads exist only where the design names them (command, bus, I/O, background), so there is no pool. All signals
/// that a process is sent are blocked in it: the thread that owns the ``SignalReader`` gets them.
package struct Thread: ~Copyable {
    private var id: pthread_t?

    /// Starts a thread.
    ///
    /// - Parameters:
    ///   - name: shown by `top -H` and debuggers, which cut it after 15 bytes.
    ///   - stackBytes: 0 takes the system's default (8 MiB, of which only touched pages cost memory).
    package init(
        name: String, stackBytes: Int = 0, _ body: @escaping @Sendable () -> Void
    ) throws(SystemError) {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        if stackBytes > 0 { pthread_attr_setstacksize(&attributes, max(stackBytes, 1 << 16)) }

        let box = Unmanaged.passRetained(Body(body))
        let previousMask = Signals.blockAllInThisThread()
        defer { Signals.restoreMask(previousMask) }
        var id = pthread_t()
        let code = pthread_create(
            &id, &attributes,
            { box in
                Unmanaged<Body>.fromOpaque(box!).takeRetainedValue().run()
                return nil
            }, box.toOpaque())
        guard code == 0 else {
            box.release()
            throw SystemError(code: code, call: "pthread_create")
        }
        _ = martlet_set_thread_name(id, String(decoding: name.utf8.prefix(15), as: UTF8.self))
        self.id = id
    }

    /// How late the timers of the calling thread may fire; the system's default is 50 µs.
    package static func setTimerSlack(nanoseconds: UInt) {
        // Only a wrong first argument makes it fail.
        _ = martlet_set_timer_slack(nanoseconds)
    }

    /// Waits for the closure to return.
    package consuming func join() {
        if let id { pthread_join(id, nil) }
        id = nil
    }

    /// A thread nobody joins goes its own way.
    deinit {
        if let id { pthread_detach(id) }
    }

    private final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }
}
