import Glibc
import MartletSystem

/// Tells a human, or a log, how far a tool is: one line per step, with the state of a wait in between.
///
/// On a terminal a wait rewrites its line; elsewhere only changes are printed.
package final class Progress {
    private let isTerminal = isatty(STDOUT_FILENO) == 1
    private var startMilliseconds: Int64 = 0
    private var lastDetail = ""
    private var title = ""

    package init() {}

    package func note(_ text: String) {
        write(text + "\n")
    }

    package func step(_ title: String) {
        self.title = title
        startMilliseconds = SystemClock.monotonicMilliseconds
        lastDetail = ""
        write(isTerminal ? ">>> \(title) …" : ">>> \(title) …\n")
    }

    package func detail(_ text: String) {
        guard text != lastDetail else { return }
        lastDetail = text
        write(isTerminal ? "\r\u{1B}[K>>> \(title) … \(text)" : "    \(text)\n")
    }

    package func done(_ text: String = "done") {
        let tenths = (SystemClock.monotonicMilliseconds - startMilliseconds + 50) / 100
        let time = "\(tenths / 10).\(tenths % 10) s"
        write(isTerminal ? "\r\u{1B}[K>>> \(title): \(text) (\(time))\n" : "    \(text) (\(time))\n")
    }

    /// Ends a line that a failure interrupts.
    package func interrupted() {
        if isTerminal, !title.isEmpty { write("\n") }
    }

    private func write(_ text: String) {
        printUnbuffered(text, to: STDOUT_FILENO)
    }
}

/// Written at once, so that lines of both outputs keep their order.
package func printUnbuffered(_ text: String, to descriptor: Int32) {
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
        let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress!, $0.count) }
        guard count > 0 else { return }
        bytes = bytes.dropFirst(count)
    }
}

package func say(_ text: String) {
    printUnbuffered(text + "\n", to: STDOUT_FILENO)
}

package func warn(_ text: String) {
    printUnbuffered(text + "\n", to: STDERR_FILENO)
}

/// A failure that a user can act upon: what, where, why, and what the log says.
package struct ToolFailure: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}

/// Waits a moment between two looks at something that other processes change.
package func pause(milliseconds: Int) {
    var time = timespec(tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000)
    // A signal makes it shorter, which no caller minds.
    nanosleep(&time, nil)
}
