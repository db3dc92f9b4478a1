import CMartletSystem
import Glibc

// Files as whole values. Everything blocks: at start-up, in tools and on background threads; the command thread never
// waits for a disk.

package enum FileIO {
    package static let readBytesMax = 1 << 30

    /// A file's whole content. - Throws: `EFBIG` when it is longer than `bytesMax`.
    package static func read(_ path: String, bytesMax: Int = readBytesMax) throws(SystemError) -> [UInt8] {
        let file = try open(path, O_RDONLY)
        defer { close(file) }
        var content: [UInt8] = []
        content.reserveCapacity(min(bytesMax, size(ofDescriptor: file)) + 1)
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let outcome = uninterrupted { Glibc.read(file, &chunk, chunk.count) }
            guard outcome.result >= 0 else { throw SystemError(code: outcome.errno, call: "read") }
            if outcome.result == 0 { return content }
            guard content.count + outcome.result <= bytesMax else { throw SystemError(code: EFBIG, call: "read") }
            content.append(contentsOf: chunk[..<outcome.result])
        }
    }

    /// Replaces a file so that a reader, or a crash at any moment, sees the old content or the new, never a mixture:
    /// a temporary file beside it is written, synced and renamed over it, then the directory is synced.
    ///
    /// On failure the old file is untouched and the temporary one removed.
    package static func replace(
        _ path: String, with content: UnsafeRawBufferPointer, permissions: UInt32 = 0o644
    ) throws(SystemError) {
        close(try writeReplacement(of: path, content, permissions))
    }

    package static func replace(_ path: String, with text: String, permissions: UInt32 = 0o644) throws(SystemError) {
        try withBytes(of: text) { bytes throws(SystemError) in
            try replace(path, with: bytes, permissions: permissions)
        }
    }

    static func withBytes(
        of text: String, _ body: (UnsafeRawBufferPointer) throws(SystemError) -> Void
    ) throws(SystemError) {
        let bytes = Array(text.utf8)
        let outcome: Result<Void, SystemError> = bytes.withUnsafeBytes { bytes in
            do throws(SystemError) { return .success(try body(bytes)) } catch { return .failure(error) }
        }
        try outcome.get()
    }

    /// - Returns: the descriptor of the new file, on which `beforeRename` may have taken a lock.
    static func writeReplacement(
        of path: String, _ content: UnsafeRawBufferPointer, _ permissions: UInt32, syncsDirectory: Bool = true,
        beforeRename: (Int32) throws(SystemError) -> Void = { _ in }
    ) throws(SystemError) -> Int32 {
        // The pid keeps two processes apart that work in one directory, the descriptor's reuse two threads of ours.
        let temporary = "\(path).tmp-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        let file = try open(temporary, O_WRONLY | O_CREAT | O_EXCL, permissions)
        do throws(SystemError) {
            try writeAll(file, content)
            // Always: a rename that reaches the disk before the data would leave an empty file after a power cut.
            guard uninterrupted({ fsync(file) }).result == 0 else { throw .last("fsync") }
            try beforeRename(file)
            guard Glibc.rename(temporary, path) == 0 else { throw .last("rename") }
        } catch {
            close(file)
            Glibc.unlink(temporary)
            throw error
        }
        do throws(SystemError) {
            if syncsDirectory { try syncDirectory(of: path) }
        } catch {
            close(file)
            throw error
        }
        return file
    }

    /// Makes a rename or a new file in the directory survive a power cut.
    package static func syncDirectory(of path: String) throws(SystemError) {
        let directory = try open(directoryPart(of: path), O_RDONLY | O_DIRECTORY)
        defer { close(directory) }
        guard uninterrupted({ fsync(directory) }).result == 0 else { throw .last("fsync directory") }
    }

    /// `a/b` of `a/b/c`, `/` of `/c`, `.` of `c`.
    package static func directoryPart(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    // MARK: Small verbs

    package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    package static func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// Nil when there is no such file.
    package static func size(_ path: String) -> Int? {
        var status = stat()
        return stat(path, &status) == 0 ? Int(status.st_size) : nil
    }

    /// Creates a directory; one that exists is fine.
    package static func makeDirectory(_ path: String, permissions: UInt32 = 0o755) throws(SystemError) {
        if mkdir(path, mode_t(permissions)) != 0, errno != EEXIST || !isDirectory(path) { throw .last("mkdir") }
    }

    /// Removes a file; one that is gone is fine.
    package static func remove(_ path: String) throws(SystemError) {
        if unlink(path) != 0, errno != ENOENT { throw .last("unlink") }
    }

    package static func rename(from old: String, to new: String) throws(SystemError) {
        guard Glibc.rename(old, new) == 0 else { throw .last("rename") }
    }

    package static func changeDirectory(_ path: String) throws(SystemError) {
        guard chdir(path) == 0 else { throw .last("chdir") }
    }

    package static var currentDirectory: String {
        guard let text = getcwd(nil, 0) else { return "." }
        defer { free(text) }
        return String(cString: text)
    }

    /// The names in a directory without `.` and `..`, in no order.
    package static func names(in directory: String) throws(SystemError) -> [String] {
        guard let handle = opendir(directory) else { throw .last("opendir") }
        defer { closedir(handle) }
        var names: [String] = []
        while let entry = readdir(handle) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names
    }

    /// `path` with the process id and a newline in it. Best effort, as in Redis: false when it cannot be written.
    @discardableResult
    package static func writePidFile(_ path: String) -> Bool {
        guard let file = try? open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o644) else { return false }
        defer { close(file) }
        return (try? withBytes(of: "\(getpid())\n") { bytes throws(SystemError) in try writeAll(file, bytes) }) != nil
    }

    // MARK: Descriptors

    static func open(_ path: String, _ flags: Int32, _ permissions: UInt32 = 0) throws(SystemError) -> Int32 {
        let outcome = uninterrupted { martlet_open(path, flags | O_CLOEXEC, mode_t(permissions)) }
        guard outcome.result >= 0 else { throw SystemError(code: outcome.errno, call: "open") }
        return outcome.result
    }

    static func writeAll(_ file: Int32, _ content: UnsafeRawBufferPointer) throws(SystemError) {
        var offset = 0
        while offset < content.count {
            let outcome = uninterrupted { write(file, content.baseAddress! + offset, content.count - offset) }
            guard outcome.result >= 0 else { throw SystemError(code: outcome.errno, call: "write") }
            offset += outcome.result
        }
    }

    private static func size(ofDescriptor file: Int32) -> Int {
        var status = stat()
        return fstat(file, &status) == 0 ? max(0, Int(status.st_size)) : 0
    }
}

/// A file that is only ever appended to: the log, the append-only file.
package struct AppendFile: ~Copyable {
    package let path: String
    private let file: Int32
    private(set) package var byteCount: Int

    package init(_ path: String, permissions: UInt32 = 0o644) throws(SystemError) {
        file = try FileIO.open(path, O_WRONLY | O_CREAT | O_APPEND, permissions)
        self.path = path
        byteCount = FileIO.size(path) ?? 0
    }

    deinit { close(file) }

    /// Writes all of it or throws. After an error the file may end in a part of `content`; `truncate` undoes that.
    package mutating func append(_ content: UnsafeRawBufferPointer) throws(SystemError) {
        try FileIO.writeAll(file, content)
        byteCount += content.count
    }

    package mutating func truncate(toByteCount count: Int) throws(SystemError) {
        guard uninterrupted({ ftruncate(file, count) }).result == 0 else { throw .last("ftruncate") }
        byteCount = count
    }

    /// Waits until the data (not the file's times) is on the disk.
    package borrowing func sync() throws(SystemError) {
        let outcome = uninterrupted { fdatasync(file) }
        guard outcome.result == 0 else { throw SystemError(code: outcome.errno, call: "fdatasync") }
    }
}
