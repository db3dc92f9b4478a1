import Glibc

/// A program that runs beside us with our standard streams.
struct ChildProcess {
    enum Status: Equatable, CustomStringConvertible {
        case exited(Int32)
        case signalled(Int32)

        var description: String {
            switch self {
            case .exited(let code): "exit status \(code)"
            case .signalled(let number): "signal \(number)"
            }
        }
    }

    struct LaunchError: Error, CustomStringConvertible {
        var program: String
        var code: Int32
        var description: String { "cannot run \(program): \(String(cString: strerror(code)))" }
    }

    let id: pid_t

    /// Starts `command[0]`, looked up in PATH unless it holds a slash.
    init(_ command: [String]) throws {
        var arguments: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) }
        arguments.append(nil)
        defer { for argument in arguments { free(argument) } }
        var child: pid_t = 0
        let code = posix_spawnp(&child, command[0], nil, nil, &arguments, environ)
        guard code == 0 else { throw LaunchError(program: command[0], code: code) }
        id = child
    }

    func wait() -> Status {
        var status: Int32 = 0
        while waitpid(id, &status, 0) < 0, errno == EINTR {}
        return Self.decode(status)
    }

    /// nil while it still runs.
    func poll() -> Status? {
        var status: Int32 = 0
        return waitpid(id, &status, WNOHANG) == id ? Self.decode(status) : nil
    }

    func kill() { Glibc.kill(id, SIGKILL) }

    /// Its memory in RAM, in bytes; 0 once it has ended.
    var residentBytes: Int {
        guard let file = fopen("/proc/\(id)/statm", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 200)
        guard fgets(&line, Int32(line.count), file) != nil else { return 0 }
        let fields = line.prefix { $0 != 0 }.split(separator: CChar(UInt8(ascii: " ")))
        guard fields.count > 1 else { return 0 }
        let pages = Int(String(decoding: fields[1].map(UInt8.init(bitPattern:)), as: UTF8.self)) ?? 0
        return pages * sysconf(Int32(_SC_PAGESIZE))
    }

    /// The macros WIFEXITED and friends.
    private static func decode(_ status: Int32) -> Status {
        status & 0x7F == 0 ? .exited((status >> 8) & 0xFF) : .signalled(status & 0x7F)
    }
}
