import Glibc
import MartletSystem
import Synchronization
import Testing

/// An empty directory that is removed afterwards.
func withTemporaryDirectory(_ body: (String) throws -> Void) throws {
    let directory = "/tmp/martlet-test-\(getpid())-\(UInt64.random(in: 0 ... .max))"
    try FileIO.makeDirectory(directory)
    defer {
        chmod(directory, 0o755)
        for name in (try? FileIO.names(in: directory)) ?? [] { unlink("\(directory)/\(name)") }
        rmdir(directory)
    }
    try body(directory)
}

@Suite struct FileTests {
    @Test("A replaced file has the new content, and nothing else is left in the directory")
    func replace() throws {
        try withTemporaryDirectory { directory in
            let path = "\(directory)/nodes.conf"
            try FileIO.replace(path, with: "first")
            try FileIO.replace(path, with: "second, longer")
            #expect(try FileIO.read(path) == Array("second, longer".utf8))
            #expect(try FileIO.names(in: directory) == ["nodes.conf"])
            #expect(FileIO.size(path) == 14)
            try FileIO.replace(path, with: "")
            #expect(FileIO.size(path) == 0)
        }
    }

    @Test("A failed replacement leaves the old content and no litter")
    func replaceFails() throws {
        try withTemporaryDirectory { directory in
            // A directory at the target makes the rename fail, also for root, whom permissions do not stop.
            let target = "\(directory)/target"
            try FileIO.makeDirectory(target)
            let error = #expect(throws: SystemError.self) { try FileIO.replace(target, with: "x") }
            #expect(error?.call.description == "rename")
            #expect(try FileIO.names(in: directory) == ["target"])
            rmdir(target)

            let missing = #expect(throws: SystemError.self) { try FileIO.replace("\(directory)/no/file", with: "x") }
            #expect(missing?.code == ENOENT)

            let path = "\(directory)/kept"
            try FileIO.replace(path, with: "old")
            chmod(directory, 0o555)
            if geteuid() != 0 {
                let denied = #expect(throws: SystemError.self) { try FileIO.replace(path, with: "new") }
                #expect(denied?.code == EACCES)
                #expect(try FileIO.read(path) == Array("old".utf8))
            }
        }
    }

    @Test("Reading stops at the size limit")
    func readLimit() throws {
        try withTemporaryDirectory { directory in
            let path = "\(directory)/file"
            try FileIO.replace(path, with: String(repeating: "x", count: 100_000))
            #expect(try FileIO.read(path, bytesMax: 100_000).count == 100_000)
            let error = #expect(throws: SystemError.self) { try FileIO.read(path, bytesMax: 99_999) }
            #expect(error?.code == EFBIG)
        }
    }

    @Test("A locked file refuses a second owner, also after it was replaced, until it is released")
    func lock() throws {
        try withTemporaryDirectory { directory in
            let path = "\(directory)/nodes.conf"
            do {
                var owner = try LockedFile(acquiring: path)
                #expect(throws: LockedFile.Refusal.inUse) { _ = try LockedFile(acquiring: path) }
                for round in 0..<3 {
                    try owner.replace(with: Array("round \(round)".utf8), syncs: round == 1)
                    #expect(throws: LockedFile.Refusal.inUse) { _ = try LockedFile(acquiring: path) }
                }
                #expect(try owner.read() == Array("round 2".utf8))
            }
            let next = try LockedFile(acquiring: path)
            #expect(try next.read() == Array("round 2".utf8))
            #expect(throws: LockedFile.Refusal.self) { _ = try LockedFile(acquiring: "\(directory)/no/file") }
        }
    }

    @Test("Two threads that race for a file which is being replaced never own it together")
    func lockRace() throws {
        try withTemporaryDirectory { directory in
            let path = "\(directory)/nodes.conf"
            let owners = Counter()
            let violations = Counter()
            let compete: @Sendable () -> Void = {
                for _ in 0..<50 {
                    do {
                        var file = try LockedFile(acquiring: path)
                        if owners.value.wrappingAdd(1, ordering: .sequentiallyConsistent).newValue != 1 {
                            violations.value.wrappingAdd(1, ordering: .relaxed)
                        }
                        try file.replace(with: Array("mine".utf8))
                        owners.value.wrappingSubtract(1, ordering: .sequentiallyConsistent)
                    } catch {}
                }
            }
            let first = try Thread(name: "first", compete)
            let second = try Thread(name: "second", compete)
            first.join()
            second.join()
            #expect(violations.value.load(ordering: .relaxed) == 0)
        }
    }

    @Test("Appending goes to the end, and a cut undoes it")
    func append() throws {
        try withTemporaryDirectory { directory in
            let path = "\(directory)/log"
            try FileIO.replace(path, with: "one")
            do {
                var file = try AppendFile(path)
                #expect(file.byteCount == 3)
                var bytes = Array("two".utf8)
                try bytes.withUnsafeMutableBytes { try file.append(UnsafeRawBufferPointer($0)) }
                try file.sync()
                #expect(file.byteCount == 6)
                #expect(try FileIO.read(path) == Array("onetwo".utf8))
                try file.truncate(toByteCount: 4)
            }
            #expect(try FileIO.read(path) == Array("onet".utf8))
        }
    }

    @Test("Small verbs: directories, removal, pid file")
    func verbs() throws {
        try withTemporaryDirectory { directory in
            try FileIO.makeDirectory(directory)
            let path = "\(directory)/a"
            #expect(!FileIO.exists(path))
            #expect(FileIO.writePidFile(path))
            #expect(try FileIO.read(path) == Array("\(getpid())\n".utf8))
            #expect(throws: SystemError.self) { try FileIO.makeDirectory(path) }
            try FileIO.rename(from: path, to: "\(directory)/b")
            try FileIO.remove("\(directory)/b")
            try FileIO.remove("\(directory)/b")
            #expect(FileIO.size(path) == nil)
            #expect(FileIO.isDirectory(directory))
            #expect(!FileIO.writePidFile("\(directory)/no/pid"))
        }
    }

    @Test(arguments: [("a/b/c", "a/b"), ("/c", "/"), ("c", "."), ("a/", "a")])
    func directoryPart(path: String, directory: String) { #expect(FileIO.directoryPart(of: path) == directory) }
}
