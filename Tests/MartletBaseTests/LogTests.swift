import MartletBase
import Synchronization
import Testing

/// The log belongs to the whole process, so its tests run one after another.
@Suite(.serialized) struct LogTests {
    /// Sinks cannot capture a mutex, so the lines are kept here.
    private static let lines = Mutex<[LogRecord]>([])

    private func recorded(at level: LogLevel, _ body: () -> Void) -> [LogRecord] {
        let before = Log.level
        Self.lines.withLock { $0 = [] }
        Log.install { record in Self.lines.withLock { $0.append(record) } }
        Log.level = level
        body()
        Log.level = before
        Log.install { _ in }
        return Self.lines.withLock { $0 }
    }

    @Test("A line carries pid, role, local time, mark and message")
    func format() {
        let time = LogTime(year: 2026, month: 11, day: 2, hour: 7, minute: 4, second: 9, millisecond: 42)
        let record = LogRecord(level: .notice, role: .replica, message: "Ready", isRaw: false)
        #expect(record.line(processID: 7301, time: time) == "7301:S 02 Nov 2026 07:04:09.042 * Ready\n")
        let raw = LogRecord(level: .warning, role: .primary, message: "banner", isRaw: true)
        #expect(raw.line(processID: 7301, time: time) == "banner")
    }

    @Test("Every level has Redis' mark")
    func marks() {
        #expect([LogLevel.debug, .verbose, .notice, .warning].map(\.mark) == [".", "-", "*", "#"])
    }

    @Test("A message below the level is not even built")
    func threshold() {
        var built = 0
        func message() -> String {
            built += 1
            return "text"
        }
        let records = recorded(at: .notice) {
            Log.debug(message())
            Log.verbose(message())
            Log.notice(message())
            Log.warning(message())
        }
        #expect(built == 2)
        #expect(records.map(\.level) == [.notice, .warning])
        #expect(recorded(at: .nothing) { Log.warning("unseen") }.isEmpty)
    }

    @Test("A message is cut at its limit, a raw one is not")
    func limit() {
        let atLimit = String(repeating: "x", count: Log.messageBytesMax)
        let records = recorded(at: .notice) {
            Log.notice(atLimit)
            Log.notice(atLimit + "y")
            Log.raw(.notice, atLimit + "y")
        }
        #expect(records.map(\.message.utf8.count) == [1023, 1023, 1024])
        #expect(records[1].message == atLimit)
    }
}
