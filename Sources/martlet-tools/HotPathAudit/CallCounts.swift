/// How many places of some machine code call the runtime for what a hot path should do without.
struct CallCounts: Equatable {
    enum Kind: Int, CaseIterable {
        /// Outlined copies of values with references in them count as retains, their destruction as releases.
        case retain, release
        /// Exclusivity checks.
        case access
        /// Of objects and of raw memory.
        case allocation
        /// `memcpy` and `memmove`: of payload, or of a struct too large for registers.
        case copy
    }

    private var counts = [Int](repeating: 0, count: Kind.allCases.count)

    subscript(kind: Kind) -> Int {
        get { counts[kind.rawValue] }
        set { counts[kind.rawValue] = newValue }
    }

    /// What `objdump -d` prints: calls, and jumps to the start of another function, which are calls at a function's end.
    mutating func add(disassembly: String) {
        for line in disassembly.utf8.split(separator: UInt8(ascii: "\n")) {
            guard let callee = Self.callee(Substring(line)), let kind = Self.kind(of: callee) else { continue }
            self[kind] += 1
        }
    }

    func excess(over limits: CallCounts) -> [String] {
        Kind.allCases.filter { self[$0] > limits[$0] }.map { kind in
            "\(kind) in \(self[kind]) places, \(limits[kind]) allowed"
        }
    }

    /// The symbol in `  1234:	call   5678 <symbol@plt>`; nil for other instructions, for targets within a function
    /// (`<symbol+0x12>`) and for calls through a register.
    static func callee(_ line: Substring) -> Substring? {
        let parts = line.split(separator: "\t")
        guard let instruction = parts.dropFirst().last?.split(separator: " "), instruction.count == 3,
            instruction[0].hasPrefix("call") || instruction[0].hasPrefix("j"),
            instruction[2].hasPrefix("<"), instruction[2].hasSuffix(">")
        else { return nil }
        var symbol = instruction[2].dropFirst().dropLast()
        guard !symbol.contains("+") else { return nil }
        if symbol.hasSuffix("@plt") { symbol = symbol.dropLast(4) }
        // A version: memcpy@GLIBC_2.14.
        return symbol.prefix { $0 != "@" }
    }

    static func kind(of symbol: Substring) -> Kind? {
        switch symbol {
        case "swift_beginAccess": return .access
        case "swift_allocObject", "swift_slowAlloc", "swift_slowAllocTyped", "swift_allocError", "swift_allocBox",
            "malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign", "mallocx", "rallocx":
            return .allocation
        case "memcpy", "memmove": return .copy
        default: break
        }
        let reference: Set<Substring> = [
            "swift_", "swift_nonatomic_", "swift_bridgeObject", "swift_nonatomic_bridgeObject", "swift_unknownObject",
            "swift_nonatomic_unknownObject", "swift_error", "swift_weak", "swift_unowned",
        ]
        for (suffix, kind) in [("etain", Kind.retain), ("elease", .release)] {
            let base = symbol.hasSuffix("_n") ? symbol.dropLast(2) : symbol
            if base.hasSuffix(suffix), reference.contains(base.dropLast(suffix.count + 1)) { return kind }
        }
        // Outlined value operations, the last letters of a mangled name (ABI/Mangling.rst, "WO").
        guard symbol.hasPrefix("$s") else { return nil }
        // "Tm": merged with functions that have the same code.
        switch (symbol.hasSuffix("Tm") ? symbol.dropLast(2) : symbol).suffix(3) {
        case "WOr", "WOc", "WOf", "WOy": return .retain
        case "WOs", "WOd", "WOe", "WOh": return .release
        default: return nil
        }
    }
}
