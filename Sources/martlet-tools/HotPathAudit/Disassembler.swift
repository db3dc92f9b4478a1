import Glibc

/// A program's machine code, as binutils show it.
struct Disassembler {
    /// Where a function is.
    struct Place: Equatable {
        var address: UInt64
        var byteCount: UInt64
    }

    struct ToolError: Error, CustomStringConvertible {
        var command: String
        var description: String { "failed: \(command)" }
    }

    let path: String

    /// By demangled name.
    func functions() throws -> [String: [Place]] {
        Self.functions(try output("nm -S --defined-only \(quoted) | swift demangle --simplified"))
    }

    func disassembly(of place: Place) throws -> String {
        let end = place.address + place.byteCount
        return try output(
            "objdump -d --no-show-raw-insn --start-address=\(place.address) --stop-address=\(end) \(quoted)")
    }

    /// Lines of `nm -S`: address, size, a letter (t or T for code), name. Lines without a size are no functions.
    static func functions(_ listing: String) -> [String: [Place]] {
        var functions: [String: [Place]] = [:]
        for line in listing.split(separator: "\n") {
            let fields = line.split(separator: " ", maxSplits: 3)
            guard fields.count == 4, fields[2] == "t" || fields[2] == "T",
                let address = UInt64(fields[0], radix: 16), let byteCount = UInt64(fields[1], radix: 16)
            else { continue }
            let place = Place(address: address, byteCount: byteCount)
            // One function may have two names, and they may be demangled to the same.
            if functions[String(fields[3])]?.contains(place) != true {
                functions[String(fields[3]), default: []].append(place)
            }
        }
        return functions
    }

    /// For the shell.
    private var quoted: String { "'" + path.replacing("'", with: #"'\''"#) + "'" }

    private func output(_ command: String) throws -> String {
        guard let pipe = popen(command, "r") else { throw ToolError(command: command) }
        let text = readAll(pipe)
        guard pclose(pipe) == 0 else { throw ToolError(command: command) }
        return text
    }
}
