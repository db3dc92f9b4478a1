import Glibc
import MartletBase
import MartletKeyspace
import MartletServer
import MartletSystem

// From the command line to a running server: configuration, log, descriptors, listeners, node, loop.
//
// Log lines that scripts wait for ("Ready to accept connections", the process id) are Redis' own.

package enum ServerProcess {
    /// Runs a server and ends the process with its status.
    package static func main(_ words: [String]) -> Never {
        switch ServerArguments(words) {
        case .version:
            print(ServerArguments.versionText(version: Version.martlet), terminator: "")
            exit(0)
        case .help:
            print(ServerArguments.helpText, terminator: "")
            exit(0)
        case .checkSystem: exit(0)
        case .refused(let text):
            complain(text)
            exit(1)
        case .run(let run): start(run)
        }
    }

    private static func complain(_ text: String) { writeAll(text, to: 2) }

    private static func start(_ arguments: ServerArguments.Run) -> Never {
        var configurationPath = arguments.configurationPath ?? ""
        if !configurationPath.isEmpty, !configurationPath.hasPrefix("/") {
            configurationPath = FileIO.currentDirectory + "/" + configurationPath
        }
        let loaded: LoadedConfiguration
        do throws(ConfigurationError) {
            loaded = try ConfigurationLoader.load(
                arguments, files: .system, hasCommand: { name in Node.hasCommand(named: name) })
        } catch {
            complain(error.report(version: Version.martlet))
            exit(1)
        }
        let configuration = loaded.configuration
        if configuration.isDaemonized {
            do { try SystemProcess.daemonize() } catch {
                complain("Cannot daemonize: \(error)\n")
                exit(1)
            }
        }
        do throws(SystemError) {
            try LogFile.install(configuration)
        } catch {
            complain("Can't open the log file '\(configuration.logFilePath)': \(error.reason)\n")
            exit(1)
        }
        Log.level = configuration.logLevel
        Log.warning("oO0OoO0OoO0Oo Martlet is starting oO0OoO0OoO0Oo")
        Log.warning(
            "Martlet version=\(Version.martlet), bits=\(Int.bitWidth), redis_version=\(Version.redis), PID: \(SystemProcess.id), just started"
        )
        if configurationPath.isEmpty {
            Log.warning("Warning: no config file specified, using the default config.")
        } else {
            Log.warning("Configuration loaded")
        }
        for warning in loaded.warnings { Log.warning(warning) }
        var runConfiguration = configuration
        adjustDescriptors(&runConfiguration)
        do throws(StartFailure) {
            var reactor = try Reactor(runConfiguration, configurationPath: configurationPath)
            try reactor.startIOThreads()
            writePidFile(runConfiguration)
            reactor.run()
            removePidFile(runConfiguration)
            exit(0)
        } catch {
            Log.warning("\(error.text), exiting.")
            exit(1)
        }
    }

    /// Descriptors kept for files and listeners beside the clients'. (CONFIG_MIN_RESERVED_FDS)
    static let reservedDescriptors = 32

    private static func adjustDescriptors(_ configuration: inout ServerConfiguration) {
        let wanted = configuration.maxClients + reservedDescriptors
        do throws(SystemError) {
            _ = try SystemProcess.raiseOpenFilesLimit(to: UInt64(wanted))
            let limit = Int(clamping: try SystemProcess.openFilesLimit().soft)
            if limit < wanted {
                configuration.maxClients = max(1, limit - reservedDescriptors)
                Log.warning(
                    "You requested maxclients of \(wanted - reservedDescriptors) requiring at least \(wanted) max file descriptors. Current maximum open files is \(limit). maxclients has been reduced to \(configuration.maxClients) to compensate for low ulimit."
                )
            }
        } catch {
            Log.warning("Unable to obtain the current NOFILE limit (\(error.reason)).")
        }
    }

    private static func writePidFile(_ configuration: ServerConfiguration) {
        let path = pidFilePath(configuration)
        if !path.isEmpty, !FileIO.writePidFile(path) { Log.warning("Failed to write PID file: \(path)") }
    }

    private static func removePidFile(_ configuration: ServerConfiguration) {
        let path = pidFilePath(configuration)
        if !path.isEmpty { try? FileIO.remove(path) }
    }

    /// As Redis: a daemon has a pid file even if none is named.
    private static func pidFilePath(_ configuration: ServerConfiguration) -> String {
        if configuration.pidFilePath.isEmpty, configuration.isDaemonized { return "/var/run/redis.pid" }
        return configuration.pidFilePath
    }
}

/// Writes a text to a descriptor, as far as it takes it.
private func writeAll(_ text: String, to fd: Int32) {
    var text = text
    text.withUTF8 { bytes in
        var done = 0
        while done < bytes.count {
            let count = write(fd, bytes.baseAddress! + done, bytes.count - done)
            if count < 0, errno != EINTR { return }
            done += max(0, count)
        }
    }
}

/// Why the server does not start.
package struct StartFailure: Error {
    package let text: String
    package init(_ text: String) { self.text = text }
}

extension ConfigurationFiles {
    /// The file system.
    static var system: ConfigurationFiles {
        ConfigurationFiles(
            read: { path in
                do throws(SystemError) { return .success(try FileIO.read(path)) } catch {
                    return .failure(ConfigurationFileProblem(reason: error.reason))
                }
            },
            glob: { pattern in
                var result = glob_t()
                defer { globfree(&result) }
                guard Glibc.glob(pattern, 0, nil, &result) == 0, let paths = result.gl_pathv else { return [] }
                return (0..<Int(result.gl_pathc)).compactMap { paths[$0].map { String(cString: $0) } }
            },
            changeDirectory: { path in
                do throws(SystemError) {
                    try FileIO.changeDirectory(path)
                    return .success(FileIO.currentDirectory)
                } catch {
                    return .failure(ConfigurationFileProblem(reason: error.reason))
                }
            },
            standardInput: {
                var bytes: [UInt8] = []
                while let line = readLine(strippingNewline: false), bytes.count < FileIO.readBytesMax {
                    bytes += Array(line.utf8)
                }
                return bytes
            },
            currentDirectory: { FileIO.currentDirectory })
    }
}

/// Where log lines go: a file that is opened for every line, so that it can be rotated, or standard output; and syslog.
enum LogFile {
    static func install(_ configuration: ServerConfiguration) throws(SystemError) {
        let path = configuration.logFilePath
        if !path.isEmpty {
            let file = try AppendFile(path)
            _ = consume file
        }
        let usesSyslog = configuration.isSyslogEnabled
        if usesSyslog {
            // syslog keeps the pointer, so the identity is never freed.
            openlog(strdup(configuration.syslogIdentity), LOG_PID | LOG_NDELAY | LOG_NOWAIT, LOG_LOCAL0)
        }
        Log.install { record in
            let line = record.line(processID: SystemProcess.id, time: currentTime())
            if path.isEmpty {
                // A daemon has no standard output to speak of; writing there is harmless.
                writeAll(line, to: 1)
            } else {
                let file = Glibc.open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o644)
                if file >= 0 {
                    writeAll(line, to: file)
                    close(file)
                }
            }
            if usesSyslog {
                withVaList([]) { vsyslog(LOG_NOTICE, record.message.replacingPercent, $0) }
            }
        }
    }

    private static func currentTime() -> LogTime {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        var parts = tm()
        localtime_r(&now.tv_sec, &parts)
        return LogTime(
            year: Int(parts.tm_year) + 1900, month: Int(parts.tm_mon) + 1, day: Int(parts.tm_mday),
            hour: Int(parts.tm_hour), minute: Int(parts.tm_min), second: Int(parts.tm_sec),
            millisecond: now.tv_nsec / 1_000_000)
    }
}

extension String {
    /// Safe as a format.
    fileprivate var replacingPercent: String {
        var text = ""
        for character in self { text += character == "%" ? "%%" : String(character) }
        return text
    }
}
