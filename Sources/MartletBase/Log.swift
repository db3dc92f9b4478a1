import Synchronization

// The server's log, in Redis' format, for every thread:
//
//     7301:M 21 Nov 2026 07:41:21.042 * Ready to accept connections
//     pid  role day, local time       level  message
//
// Whether a line is wanted is one relaxed load, and the message is built only if it is. This module does no I/O and
// knows no time zone, so what becomes of a line (file, standard output, syslog) is the sink's business; the
// program installs one at start. Until then lines are dropped. Lines of several threads reach the sink one after another.
//
// Log on cold paths only.

package enum LogLevel: UInt8, Comparable, Sendable {
    case debug = 0
    case verbose, notice, warning
    /// As a threshold only: nothing is logged.
    case nothing

    /// The mark of a line: `.` `-` `*` `#`.
    package var mark: Character {
        switch self {
        case .debug: "."
        case .verbose: "-"
        case .notice: "*"
        case .warning, .nothing: "#"
        }
    }

    package static func < (left: LogLevel, right: LogLevel) -> Bool { left.rawValue < right.rawValue }
}

/// The letter behind the process id.
package enum LogRole: UInt8, Sendable {
    case primary = 0x4D  // M
    case replica = 0x53  // S

    package var letter: Character { Character(UnicodeScalar(rawValue)) }
}

/// What the sink gets.
package struct LogRecord: Sendable {
    package let level: LogLevel
    package let role: LogRole
    package let message: String
    /// Without the head of the line and without a newline: banners.
    package let isRaw: Bool

    package init(level: LogLevel, role: LogRole, message: String, isRaw: Bool) {
        self.level = level
        self.role = role
        self.message = message
        self.isRaw = isRaw
    }
}

package enum Log {
    /// A message is cut off here, in UTF-8 bytes. Source: Redis 7.0 server.h, LOG_MAX_LEN, less the terminator.
    package static let messageBytesMax = 1023

    private static let threshold = Atomic<UInt8>(LogLevel.notice.rawValue)
    private static let roleLetter = Atomic<UInt8>(LogRole.primary.rawValue)
    private static let sink = Mutex<(@Sendable (LogRecord) -> Void)?>(nil)

    /// Lines below are dropped. The directive `loglevel`.
    package static var level: LogLevel {
        get { LogLevel(rawValue: threshold.load(ordering: .relaxed))! }
        set { threshold.store(newValue.rawValue, ordering: .relaxed) }
    }

    package static var role: LogRole {
        get { LogRole(rawValue: roleLetter.load(ordering: .relaxed))! }
        set { roleLetter.store(newValue.rawValue, ordering: .relaxed) }
    }

    /// The sink runs under a lock, so it must not log.
    package static func install(sink newSink: @escaping @Sendable (LogRecord) -> Void) {
        sink.withLock { $0 = newSink }
    }

    package static func debug(_ message: @autoclosure () -> String) { write(.debug, message()) }
    package static func verbose(_ message: @autoclosure () -> String) { write(.verbose, message()) }
    package static func notice(_ message: @autoclosure () -> String) { write(.notice, message()) }
    package static func warning(_ message: @autoclosure () -> String) { write(.warning, message()) }

    package static func raw(_ level: LogLevel, _ message: @autoclosure () -> String) {
        write(level, message(), isRaw: true)
    }

    @inline(__always)
    package static func isEnabled(_ level: LogLevel) -> Bool {
        level.rawValue >= threshold.load(ordering: .relaxed)
    }

    package static func write(_ level: LogLevel, _ message: @autoclosure () -> String, isRaw: Bool = false) {
        guard isEnabled(level) else { return }
        var text = message()
        if !isRaw, text.utf8.count > messageBytesMax {
            text = String(decoding: text.utf8.prefix(messageBytesMax), as: UTF8.self)
        }
        let record = LogRecord(level: level, role: role, message: text, isRaw: isRaw)
        sink.withLock { $0?(record) }
    }
}

/// A local time as the sink found it.
package struct LogTime: Sendable {
    package var year: Int
    /// 1 to 12.
    package var month: Int
    package var day: Int
    package var hour: Int
    package var minute: Int
    package var second: Int
    package var millisecond: Int

    package init(year: Int, month: Int, day: Int, hour: Int, minute: Int, second: Int, millisecond: Int) {
        self.year = year
        self.month = month
        self.day = day
        self.hour = hour
        self.minute = minute
        self.second = second
        self.millisecond = millisecond
    }
}

extension LogRecord {
    /// The whole line with its newline; a raw record is its message alone.
    package func line(processID: Int32, time: LogTime) -> String {
        if isRaw { return message }
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        func padded(_ number: Int, _ width: Int) -> String {
            let digits = String(number)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        let date = "\(padded(time.day, 2)) \(months[(time.month - 1) % 12]) \(time.year)"
        let clock = "\(padded(time.hour, 2)):\(padded(time.minute, 2)):\(padded(time.second, 2))"
        let head = "\(processID):\(role.letter) \(date) \(clock).\(padded(time.millisecond, 3))"
        return "\(head) \(level.mark) \(message)\n"
    }
}
