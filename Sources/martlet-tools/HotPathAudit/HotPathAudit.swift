import ArgumentParser
import Glibc

// Watches what the compiler made of the hot path.
//
// A line of Swift that looks innocent may retain a class, check exclusive access, allocate, or copy a whole struct; the
// clock shows it late and with noise, the machine code at once. This tool disassembles the functions that a list names,
// counts the calls of each kind, and fails when a function has more of them than the list allows, or is not in the program
// any more (renamed, or inlined away: then name what became of it).
//
// The counts are of places in the code, not of executions: a function's rare branches count like its common ones.

struct HotPathAuditCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "hotpath-audit",
        abstract: "Count retains, releases, exclusivity checks, allocations and memory copies in the hot functions.",
        discussion: "Needs nm, objdump and swift in PATH. Run it on a release build.")

    @Option(help: "The program to look into.")
    var binary = ".build/release/martlet-server"

    @Option(help: "The list of functions and what each may have.")
    var limits = "Benchmarks/hot-functions.txt"

    @Flag(help: "Write what was found into the list.")
    var save = false

    func run() throws {
        let list = try HotFunctionList(parsing: try Self.contents(of: limits))
        let program = Disassembler(path: binary)
        let symbols = try program.functions()
        var found: [HotFunctionList.Row] = []
        var failureCount = 0
        for row in list.rows {
            let places = symbols[row.name] ?? []
            guard !places.isEmpty else {
                let relatives = HotFunctionList.relatives(of: row.name, among: symbols.keys)
                print("\(row.name): not in \(binary)" + (relatives.isEmpty ? "" : "; there are: \(relatives)"))
                failureCount += 1
                continue
            }
            var counts = CallCounts()
            for place in places { counts.add(disassembly: try program.disassembly(of: place)) }
            found.append(HotFunctionList.Row(name: row.name, limits: counts))
            if save { continue }
            let excess = counts.excess(over: row.limits)
            for line in excess { print("\(row.name): \(line)") }
            if !excess.isEmpty { failureCount += 1 }
            if excess.isEmpty, counts != row.limits {
                print("note: \(row.name) has less than the list allows (--save)")
            }
        }
        if save {
            guard found.count == list.rows.count else { throw ExitCode.failure }
            try Self.write(HotFunctionList(heading: list.heading, rows: found).description, to: limits)
            return
        }
        print("\(list.rows.count - failureCount) passed, \(failureCount) failed")
        if failureCount > 0 { throw ExitCode.failure }
    }

    private struct FileError: Error, CustomStringConvertible {
        var path: String
        var code = errno
        var description: String { "\(path): \(String(cString: strerror(code)))" }
    }

    private static func contents(of path: String) throws -> String {
        guard let file = fopen(path, "r") else { throw FileError(path: path) }
        defer { fclose(file) }
        return readAll(file)
    }

    private static func write(_ text: String, to path: String) throws {
        guard let file = fopen(path, "w") else { throw FileError(path: path) }
        fputs(text, file)
        guard fclose(file) == 0 else { throw FileError(path: path) }
    }
}

func readAll(_ file: UnsafeMutablePointer<FILE>) -> String {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let count = fread(&chunk, 1, chunk.count, file)
        guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
        bytes += chunk[..<count]
    }
}
