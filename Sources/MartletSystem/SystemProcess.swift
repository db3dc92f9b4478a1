import CMartletSystem
import Glibc

/// The process we are, and the machine it runs on.
package enum SystemProcess {
    package static var id: Int32 { getpid() }

    /// Detaches from the terminal: the parent exits, the child leads a session of its own with its standard streams on
    /// /dev/null. Call it before any thread exists, for a forked child has only the calling one.
    package static func daemonize() throws(SystemError) {
        let child = martlet_fork()
        guard child >= 0 else { throw .last("fork") }
        if child != 0 { exit(0) }
        setsid()
        let null = try FileIO.open("/dev/null", O_RDWR)
        for stream in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO] { dup2(null, stream) }
        if null > STDERR_FILENO { close(null) }
    }

    // MARK: Open files

    package struct OpenFilesLimit: Equatable, Sendable {
        package var soft: UInt64
        package var hard: UInt64
    }

    package static func openFilesLimit() throws(SystemError) -> OpenFilesLimit {
        var limit = OpenFilesLimit(soft: 0, hard: 0)
        guard martlet_get_open_files_limit(&limit.soft, &limit.hard) == 0 else { throw .last("getrlimit") }
        return limit
    }

    package enum OpenFilesAdjustment: Equatable, Sendable {
        case sufficient
        case raised(from: UInt64, to: UInt64)
        /// The system gives `available` only; the caller lowers `maxclients` or refuses to start.
        case insufficient(available: UInt64, SystemError)
    }

    /// Raises the soft limit (and the hard one if we may) to `wanted` descriptors, or as near as the system allows.
    ///
    /// The hard limit alone does not tell how far that is: a privileged process may exceed it up to `fs.nr_open`.
    /// Redis finds the highest value by trying in steps of 16; the two bounds are asked here instead.
    package static func raiseOpenFilesLimit(to wanted: UInt64) throws(SystemError) -> OpenFilesAdjustment {
        let before = try openFilesLimit()
        if before.soft >= wanted { return .sufficient }
        if martlet_set_open_files_limit(wanted, max(wanted, before.hard)) == 0 {
            return .raised(from: before.soft, to: wanted)
        }
        let error = SystemError.last("setrlimit")
        for attempt in [systemOpenFilesMax, before.hard] where attempt > before.soft && attempt < wanted {
            if martlet_set_open_files_limit(attempt, max(attempt, before.hard)) == 0 {
                return .insufficient(available: attempt, error)
            }
        }
        return .insufficient(available: before.soft, error)
    }

    /// `fs.nr_open`: what no process can exceed. 0 when /proc is not there.
    private static var systemOpenFilesMax: UInt64 {
        guard let content = try? FileIO.read("/proc/sys/fs/nr_open", bytesMax: 64) else { return 0 }
        return UInt64(String(decoding: content.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)) ?? 0
    }

    // MARK: Usage

    package struct CPUTime: Sendable {
        package var userMicroseconds: Int64
        package var systemMicroseconds: Int64
    }

    package static var cpuTime: CPUTime {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        return cpuTime(usage)
    }

    /// Of the calling thread. (RUSAGE_THREAD is 1, behind _GNU_SOURCE.)
    package static var threadCPUTime: CPUTime {
        var usage = rusage()
        getrusage(__rusage_who_t(1), &usage)
        return cpuTime(usage)
    }

    private static func cpuTime(_ usage: rusage) -> CPUTime {
        CPUTime(
            userMicroseconds: Int64(usage.ru_utime.tv_sec) * 1_000_000 + Int64(usage.ru_utime.tv_usec),
            systemMicroseconds: Int64(usage.ru_stime.tv_sec) * 1_000_000 + Int64(usage.ru_stime.tv_usec))
    }

    /// Bytes of our memory that are in RAM, from /proc/self/statm; 0 when /proc is not there.
    package static var residentBytes: Int {
        guard let content = try? FileIO.read("/proc/self/statm", bytesMax: 4096) else { return 0 }
        let fields = content.split(separator: UInt8(ascii: " "))
        guard fields.count > 1, let pages = Int(String(decoding: fields[1], as: UTF8.self)) else { return 0 }
        return pages * sysconf(Int32(_SC_PAGESIZE))
    }

    /// Bytes of RAM in the machine.
    package static var totalMemoryBytes: Int { sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE)) }

    // MARK: Names

    /// `Linux 6.1.0 x86_64`: the `os` field of INFO.
    package static var operatingSystem: String {
        var name = utsname()
        guard uname(&name) == 0 else { return "unknown" }
        return "\(text(&name.sysname)) \(text(&name.release)) \(text(&name.machine))"
    }

    /// A C string in a fixed array, which Swift sees as a tuple.
    private static func text<Characters>(_ characters: inout Characters) -> String {
        withUnsafeBytes(of: &characters) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    /// The absolute path of the running program; nil when /proc is not there.
    package static var executablePath: String? {
        var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = bytes.withUnsafeMutableBytes { buffer in
            readlink("/proc/self/exe", buffer.bindMemory(to: CChar.self).baseAddress!, buffer.count)
        }
        return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : nil
    }
}
