import MartletBase
import MartletPersistence
import Testing

@testable import MartletServer

/// Random libraries and calls are compared with Redis in Tests/Integration (`function`); here is what has to hold about
/// several libraries, and what comes from elsewhere than a client.
struct FunctionTests {
    private let node = NodeHarness()

    @discardableResult
    private func load(_ text: String, _ options: String...) -> String {
        let words = ["FUNCTION", "LOAD"] + options + [text]
        return String(decoding: node.send(words.map { Array($0.utf8) }), as: UTF8.self)
    }

    private func library(_ name: String, _ functions: String...) -> String {
        let registered = functions.map { "redis.register_function('\($0)', function() return '\(name)' end)" }
        return "#!lua name=\(name)\n" + registered.joined(separator: "\n")
    }

    @Test("A function is called by its name in any case, with tables of keys and arguments")
    func call() {
        load(
            """
            #!lua name=lib
            redis.register_function('Pair', function(keys, args) return {keys[1], args[1], #args} end)
            """)
        #expect(node("FCALL pair 1 k a b") == "*3\r\n$1\r\nk\r\n$1\r\na\r\n:2\r\n")
        #expect(node("FCALL pai 0") == "-ERR Function not found\r\n")
        #expect(node("FCALL pair x") == "-ERR Bad number of keys provided\r\n")
        #expect(node("FCALL pair 1") == "-ERR Number of keys can't be greater than number of args\r\n")
    }

    @Test("Names of functions are unique over all libraries; a library that is replaced does not stand in its own way")
    func names() {
        #expect(load(library("one", "f", "g")) == "$3\r\none\r\n")
        #expect(load(library("two", "h", "G")) == "-ERR Function G already exists\r\n")
        #expect(load(library("one", "f")) == "-ERR Library 'one' already exists\r\n")
        #expect(load(library("one", "f", "h"), "REPLACE") == "$3\r\none\r\n")
        #expect(load(library("two", "g")) == "$3\r\ntwo\r\n")
        #expect(node("FCALL g 0") == "$3\r\ntwo\r\n")
        #expect(node("FUNCTION DELETE one") == "+OK\r\n")
        #expect(node("FCALL f 0") == "-ERR Function not found\r\n")
        #expect(node("FCALL g 0") == "$3\r\ntwo\r\n")
    }

    /// Redis' own table of a library tells case apart, that of all functions does not; it ends when they differ.
    @Test("Two functions of a library whose names differ in case alone do no harm")
    func namesInTwoCases() {
        load(library("lib", "f", "F"))
        #expect(node("FCALL f 0") == "$3\r\nlib\r\n")
        #expect(node("FUNCTION DELETE lib") == "+OK\r\n")
        #expect(node("FCALL F 0") == "-ERR Function not found\r\n")
    }

    @Test("A library that fails leaves what was there before, and nothing of itself")
    func failures() {
        load(library("lib", "f"))
        #expect(load(library("lib", "x") + "\nreturn nil + 1", "REPLACE").contains("user_function:3: attempt"))
        #expect(load("#!lua name=lib\nreturn 1", "REPLACE") == "-ERR No functions registered\r\n")
        #expect(load("#!lua name=lib\n x x", "REPLACE").hasPrefix("-ERR Error compiling function: user_function:2:"))
        #expect(node("FCALL f 0") == "$3\r\nlib\r\n")
        #expect(node("FCALL x 0") == "-ERR Function not found\r\n")
    }

    @Test("While a library is loaded it finds registration and log, and can change nothing")
    func sandbox() {
        for (code, error) in [
            ("redis.call('PING')", "nonexistent global variable 'call'"),
            ("return math", "nonexistent global variable 'math'"),
            ("x = 1", "Attempt to modify a readonly table"), ("redis.x = 1", "Attempt to modify a readonly table"),
            ("return _G", "nonexistent global variable '_G'"), ("return getmetatable", "variable 'getmetatable'"),
        ] {
            #expect(load("#!lua name=lib\n\(code)").contains(error), "\(code)")
        }
        load(
            """
            #!lua name=lib
            local early = redis
            redis.register_function('late', function() return redis.register_function == nil and math.floor(1.5) end)
            redis.register_function('kept', function() early.register_function('x', function() end) end)
            """)
        #expect(node("FCALL late 0") == ":1\r\n")
        #expect(
            node("FCALL kept 0").hasPrefix(
                "-ERR redis.register_function can only be called on FUNCTION LOAD command"))
    }

    @Test("FUNCTION RESTORE takes all libraries of a payload or none")
    func restore() {
        load(library("one", "f"))
        load(library("two", "g"))
        let payload = dump()
        #expect(restore(payload) == "-ERR Library one already exists\r\n")
        #expect(restore(payload, "REPLACE") == "+OK\r\n")
        #expect(node("FUNCTION DELETE two") == "+OK\r\n")
        load(library("three", "g"))
        #expect(restore(payload, "REPLACE") == "-ERR Function g already exists\r\n")
        #expect(node("FCALL g 0") == "$5\r\nthree\r\n")
        #expect(restore(payload, "FLUSH") == "+OK\r\n")
        #expect(node("FCALL g 0") == "$3\r\ntwo\r\n")
        #expect(node("FUNCTION STATS").hasSuffix("$15\r\nlibraries_count\r\n:2\r\n$15\r\nfunctions_count\r\n:2\r\n"))
        #expect(restore(Array("nonsense".utf8)) == "-ERR DUMP payload version or checksum are wrong\r\n")
        #expect(restore(footed([0])) == "-ERR given type is not a function\r\n")
        #expect(restore(footed([0xF5, 9, 1])) == "-ERR Failed loading library payload\r\n")
        #expect(node("FCALL g 0") == "$3\r\ntwo\r\n")
    }

    @Test("A library of a payload may not take its time either")
    func restoreDeadline() {
        nonisolated(unsafe) var now: Int64 = 0
        node.node.services.monotonicNanoseconds = {
            now += 1_000_000
            return now
        }
        #expect(restore(footed([0xF5] + sized("#!lua name=slow\nwhile true do end"))).contains("FUNCTION LOAD timeout"))
        load(library("one", "f"))
        #expect(restore(dump(), "REPLACE") == "+OK\r\n")
    }

    @Test("Libraries in the form of Redis 7.0's release candidates can be restored")
    func preRelease() {
        let code = "redis.register_function('f', function() return 'old' end)"
        let old = [0xF6] + sized("lib") + sized("LUA") + [1] + sized("what it is") + sized(code)
        #expect(restore(footed(old)) == "+OK\r\n")
        #expect(node("FCALL f 0") == "$3\r\nold\r\n")
        #expect(node("FUNCTION LIST WITHCODE").contains("#!LUA name=lib\nredis."))
    }

    @Test("Libraries go through the RDB format with the data")
    func reload() {
        load(library("lib", "f"))
        #expect(node("DEBUG RELOAD NOFLUSH").hasPrefix("-ERR Error trying to load the RDB dump"))
        #expect(node("DEBUG RELOAD") == "+OK\r\n")
        #expect(node("FCALL f 0") == "$3\r\nlib\r\n")
        #expect(node("FLUSHALL") == "+OK\r\n")
        #expect(node("FCALL f 0") == "$3\r\nlib\r\n")
        #expect(node("FUNCTION FLUSH") == "+OK\r\n")
        #expect(node("FUNCTION LIST") == "*0\r\n")
    }

    @Test("A transaction may load a library, call its function and delete it")
    func transaction() {
        node("MULTI")
        load(library("lib", "f"))
        node("FCALL f 0")
        node("FUNCTION DELETE lib")
        #expect(node("EXEC") == "*3\r\n$3\r\nlib\r\n$3\r\nlib\r\n+OK\r\n")
    }

    @Test("INFO counts libraries, functions and their memory")
    func info() {
        #expect(
            node("INFO memory").contains(
                "number_of_functions:0\r\nnumber_of_libraries:0\r\nused_memory_vm_functions:0\r\n"))
        load(library("lib", "f", "g"))
        #expect(node("INFO memory").contains("number_of_functions:2\r\nnumber_of_libraries:1\r\n"))
        #expect(!node("INFO memory").contains("used_memory_vm_functions:0\r\n"))
    }

    // MARK: Payloads

    private func dump() -> [UInt8] {
        let reply = node.send(["FUNCTION", "DUMP"].map { Array($0.utf8) })
        return Array(reply[(reply.firstIndex(of: 10)! + 1)...].dropLast(2))
    }

    private func restore(_ payload: [UInt8], _ policy: String...) -> String {
        let words = ["FUNCTION", "RESTORE"].map { Array($0.utf8) } + [payload] + policy.map { Array($0.utf8) }
        return String(decoding: node.send(words), as: UTF8.self)
    }

    private func footed(_ body: [UInt8]) -> [UInt8] {
        var payload = ByteBuffer()
        payload.append(body)
        DumpPayload.appendFooter(to: &payload)
        return Array(payload.bytes)
    }

    private func sized(_ text: String) -> [UInt8] { [UInt8(text.utf8.count)] + Array(text.utf8) }
}
