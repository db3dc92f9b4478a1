import MartletBase
import MartletRESP

// Libraries of functions, as FUNCTION LOAD takes them. A library's text begins with a line that names its engine and the
// library; the rest registers functions when it is run once.
//
//     #!lua name=mylib
//
// Names of functions are one name space over all libraries, and calls ignore their case.
//
// Source: Redis 7.0 functions.c.

/// A function that a library has registered.
struct LibraryFunction {
    let name: [UInt8]
    /// The name, made once for all calls.
    let title: String
    let description: [UInt8]?
    let flags: ScriptFlags
    /// Of its code in the registry of the engine's Lua state.
    let reference: Int32

    init(name: [UInt8], description: [UInt8]? = nil, flags: ScriptFlags = [], reference: Int32) {
        self.name = name
        title = String(decoding: name, as: UTF8.self)
        self.description = description
        self.flags = flags
        self.reference = reference
    }
}

final class FunctionLibrary {
    let name: [UInt8]
    /// The whole text, as FUNCTION DUMP and replicas get it.
    let code: [UInt8]
    /// In the order of registration.
    fileprivate(set) var functions: [LibraryFunction] = []

    init(name: [UInt8], code: [UInt8]) {
        self.name = name
        self.code = code
    }

    /// Adds a function while the library is loaded. (functionLibCreateFunction)
    func add(_ function: LibraryFunction) throws(FunctionError) {
        if !function.name.isLibraryName { throw .wrongName }
        if functions.contains(where: { $0.name == function.name }) {
            throw FunctionError("Function already exists in the library")
        }
        functions.append(function)
    }

    /// What it takes besides its compiled code.
    var memoryBytes: Int {
        functions.reduce(128 + name.count + code.count) { bytes, function in
            bytes + MemoryLayout<LibraryFunction>.stride * 2 + function.name.count + (function.description?.count ?? 0)
        }
    }
}

extension [UInt8] {
    /// Whether this may name a library or a function. (functionsVerifyName)
    fileprivate var isLibraryName: Bool {
        !isEmpty
            && allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
                    true
                default: false
                }
            }
    }
}

/// Why a library cannot be had. Clients are told with `ERR` before the text, logs without.
struct FunctionError: Error {
    let text: String

    init(_ text: String) { self.text = text }

    var reply: ReplyError { .message("ERR \(text)") }

    fileprivate static let wrongName = FunctionError(
        "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long")
}

/// The first line of a library. (functionExtractLibMetaData)
struct LibraryHeader {
    private static let namePrefix: StaticString = "NAME="

    let name: [UInt8]
    /// Where the code begins: at the end of the line, which stays so that errors name the right lines.
    let codeStart: Int

    init(_ text: UnsafeRawBufferPointer) throws(FunctionError) {
        guard text.starts(with: "#!".utf8) else { throw FunctionError("Missing library metadata") }
        // To C, and so to Redis, a text ends at its first NUL.
        guard let end = text.firstIndex(where: { $0 == UInt8(ascii: "\n") || $0 == 0 }), text[end] != 0,
            let words = splitArguments(text[..<end]), let first = words.first
        else { throw FunctionError("Invalid library metadata") }
        var name: [UInt8]?
        for word in words.dropFirst() {
            let isName = word.withUnsafeBytes {
                UnsafeRawBufferPointer(rebasing: $0.prefix(5)).equalsIgnoringCase(Self.namePrefix)
            }
            guard isName else {
                throw FunctionError("Invalid metadata value given: \(String(decoding: word, as: UTF8.self))")
            }
            if name != nil { throw FunctionError("Invalid metadata value, name argument was given multiple times") }
            name = Array(word.dropFirst(5))
        }
        guard let name else { throw FunctionError("Library name was not given") }
        if !name.isLibraryName { throw .wrongName }
        let engine = first.dropFirst(2)
        guard engine.equalsIgnoringCase("lua".utf8) else {
            throw FunctionError("Engine '\(String(decoding: engine, as: UTF8.self))' not found")
        }
        self.name = name
        codeStart = end
    }
}

/// Libraries that belong together: those of the server, or those of a payload that is being restored.
struct FunctionCatalogue {
    /// Sorted by name.
    private(set) var libraries: [FunctionLibrary] = []
    /// Of all libraries, sorted by name in lower case.
    private(set) var functions: [(function: LibraryFunction, library: FunctionLibrary)] = []
    /// What the libraries take besides their compiled code.
    private(set) var memoryBytes = 0

    func library(_ name: some Sequence<UInt8>) -> FunctionLibrary? {
        libraries.first { $0.name.elementsEqual(name) }
    }

    /// The place of a function in ``functions``. - Complexity: O(log functions), without an allocation
    func index(ofFunction name: UnsafeRawBufferPointer) -> Int? {
        var low = 0
        var high = functions.count
        while low < high {
            let middle = (low + high) / 2
            switch functions[middle].function.name.withUnsafeBytes({ Self.compare($0, name) }) {
            case 0: return middle
            case ..<0: low = middle + 1
            default: high = middle
            }
        }
        return nil
    }

    /// Below, at or above 0 as the first name stands before, is or stands behind the second in any case.
    private static func compare(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) -> Int {
        for index in 0..<min(first.count, second.count) {
            let difference = Int(first[index].lowercasedASCII) - Int(second[index].lowercasedASCII)
            if difference != 0 { return difference }
        }
        return first.count - second.count
    }

    /// A function of another library that is called like one of this; `replaced` does not count.
    private func collision(_ library: FunctionLibrary, replaced: [FunctionLibrary]) -> LibraryFunction? {
        library.functions.first { function in
            guard let index = function.name.withUnsafeBytes({ index(ofFunction: $0) }) else { return false }
            return !replaced.contains { $0 === functions[index].library }
        }
    }

    /// Adds a library in place of another one, or of none.
    mutating func link(_ library: FunctionLibrary, replacing old: FunctionLibrary?) throws(FunctionError) {
        if let function = collision(library, replaced: old.map { [$0] } ?? []) {
            throw FunctionError("Function \(String(decoding: function.name, as: UTF8.self)) already exists")
        }
        if let old { unlink(old) }
        insert(library)
    }

    private mutating func insert(_ library: FunctionLibrary) {
        libraries.append(library)
        libraries.sort { $0.name.lexicographicallyPrecedes($1.name) }
        functions += library.functions.map { ($0, library) }
        functions.sort { first, second in
            first.function.name.withUnsafeBytes { name in
                second.function.name.withUnsafeBytes { Self.compare(name, $0) < 0 }
            }
        }
        memoryBytes += library.memoryBytes
    }

    mutating func unlink(_ library: FunctionLibrary) {
        libraries.removeAll { $0 === library }
        functions.removeAll { $0.library === library }
        memoryBytes -= library.memoryBytes
    }

    /// Adds all libraries of another catalogue, or none. - Returns: those that were replaced. (libraryJoin)
    mutating func join(_ other: FunctionCatalogue, replaces: Bool) throws(FunctionError) -> [FunctionLibrary] {
        let replaced = other.libraries.compactMap { library($0.name) }
        if !replaces, let old = replaced.first {
            throw FunctionError("Library \(String(decoding: old.name, as: UTF8.self)) already exists")
        }
        for library in other.libraries {
            if let function = collision(library, replaced: replaced) {
                throw FunctionError("Function \(String(decoding: function.name, as: UTF8.self)) already exists")
            }
        }
        for library in replaced { unlink(library) }
        for library in other.libraries { insert(library) }
        return replaced
    }
}
