import Glibc
import MartletSystem

/// Server processes of a local cluster: starting them as daemons, and finding them again by their pid files.
package enum NodeProcess {
    /// POSIX_SPAWN_SETSID, which glibc shows only with _GNU_SOURCE.
    private static let newSession: Int16 = 0x80

    /// Starts `executable configuration` in a session of its own, with its output appended to `log`.
    ///
    /// The process outlives this one and takes no signal that a terminal sends to it.
    package static func spawn(executable: String, configuration: String, log: String) throws(ToolFailure) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        var attributes = posix_spawnattr_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawnattr_init(&attributes)
        defer {
            posix_spawn_file_actions_destroy(&actions)
            posix_spawnattr_destroy(&attributes)
        }
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log, O_WRONLY | O_CREAT | O_APPEND, 0o644)
        posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO)
        posix_spawnattr_setflags(&attributes, newSession)

        var arguments: [UnsafeMutablePointer<CChar>?] = [strdup(executable), strdup(configuration), nil]
        defer { for argument in arguments { free(argument) } }
        var pid: pid_t = 0
        let code = posix_spawn(&pid, executable, &actions, &attributes, &arguments, environ)
        guard code == 0 else {
            throw ToolFailure("cannot start \(executable): \(String(cString: strerror(code)))")
        }
        return pid
    }

    /// How a child of this process ended, nil while it runs.
    package static func exitDescription(of child: pid_t) -> String? {
        var status: Int32 = 0
        guard waitpid(child, &status, WNOHANG) == child else { return nil }
        let signal = status & 0x7f
        return signal == 0 ? "exited with status \(status >> 8 & 0xff)" : "was killed by signal \(signal)"
    }

    /// The process of a pid file, if it runs and is the node that this folder belongs to.
    ///
    /// A pid may since belong to anybody: the process must have the node's configuration file on its command line, or,
    /// as servers rewrite their command line, stand in the node's folder and mention its port.
    package static func running(pidFile: String, configuration: String, directory: String, port: Int) -> pid_t? {
        guard let text = Files.read(pidFile), let pid = pid_t(text.trimmingWhitespace()), pid > 1, isAlive(pid),
            let commandLine = Files.read("/proc/\(pid)/cmdline")
        else { return nil }
        let words = commandLine.split(whereSeparator: { $0 == "\0" || $0 == " " })
        if commandLine.split(separator: "\0").contains(Substring(configuration)) { return pid }
        let isInFolder = Files.linkTarget("/proc/\(pid)/cwd") == directory
        return isInFolder && words.contains { $0.hasSuffix(":\(port)") } ? pid : nil
    }

    /// A zombie, which nobody may have collected yet, counts as gone.
    package static func isAlive(_ pid: pid_t) -> Bool {
        guard let stat = Files.read("/proc/\(pid)/stat") else { return false }
        // The state follows the command's name, which is in parentheses and may contain some itself.
        guard let end = stat.lastIndex(of: ")") else { return false }
        let state = stat[stat.index(after: end)...].first { $0 != " " }
        return state != "Z" && state != "X"
    }
}

/// What the tools need of the file system beyond ``FileIO``: text, and failures that say which file.
package enum Files {
    /// Nil when the file is not there or cannot be read.
    package static func read(_ path: String) -> String? {
        (try? FileIO.read(path)).map { String(decoding: $0, as: UTF8.self) }
    }

    package static func write(_ text: String, to path: String, permissions: UInt32 = 0o644) throws(ToolFailure) {
        do throws(SystemError) {
            try FileIO.replace(path, with: text, permissions: permissions)
        } catch {
            throw ToolFailure("cannot write \(path): \(error.reason)")
        }
    }

    /// Makes a folder and those above it.
    package static func makeFolder(_ path: String) throws(ToolFailure) {
        var made = path.hasPrefix("/") ? "/" : ""
        for part in path.split(separator: "/") {
            made += (made.isEmpty || made == "/" ? "" : "/") + part
            do throws(SystemError) {
                try FileIO.makeDirectory(made)
            } catch {
                throw ToolFailure("cannot make the folder \(made): \(error.reason)")
            }
        }
    }

    package static func isExecutable(_ path: String) -> Bool { access(path, X_OK) == 0 && !FileIO.isDirectory(path) }

    package static func linkTarget(_ path: String) -> String? {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = readlink(path, &buffer, buffer.count)
        guard count > 0 else { return nil }
        return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// The names in a folder; empty when there is none.
    package static func names(in folder: String) -> [String] { ((try? FileIO.names(in: folder)) ?? []).sorted() }

    /// The absolute form of a path whose last parts need not exist; `..` is left to the system.
    package static func absolute(_ path: String) -> String {
        if path.hasPrefix("/") { return path }
        return FileIO.currentDirectory + "/" + (path.hasPrefix("./") ? String(path.dropFirst(2)) : path)
    }

    /// The path without symbolic links, as /proc shows it; the path itself when there is no such file.
    package static func canonical(_ path: String) -> String {
        guard let real = realpath(path, nil) else { return path }
        defer { free(real) }
        return String(cString: real)
    }

    package static func lastLines(of path: String, count: Int) -> [String] {
        let lines = (read(path) ?? "").split(whereSeparator: \.isNewline)
        return lines.suffix(count).map(String.init)
    }
}
