import CMartletSystem
import Glibc

// A file that belongs to one process at a time (nodes.conf).
//
// Problem: flock(2) locks an inode, and an atomic replacement gives the name a new inode, so a lock taken once would
// protect nothing after the first save. (Redis 7.0 therefore writes in place, and a crash can leave half a file.)
//
// Idea: the lock moves with the name.
// 1. `acquire` opens, locks, and then checks that the name still leads to the locked inode; if the owner replaced
//    the file in between, it starts again.
// 2. `replace` locks the new file before it is renamed into place, and closes the old one only afterwards. There is
//    no moment at which the name leads to an unlocked file.

/// An exclusively locked file whose content is replaced atomically. The lock ends with the value or the process.
package struct LockedFile: ~Copyable {
    package enum Refusal: Error, Equatable, Sendable {
        /// Another process holds the lock.
        case inUse
        /// The file cannot be opened or created.
        case openFailed(SystemError)
        case lockFailed(SystemError)
    }

    package let path: String
    private var file: Int32

    /// Locks a file, which is created empty if it does not exist.
    package init(acquiring path: String) throws(Refusal) {
        while true {
            let file: Int32
            do throws(SystemError) {
                file = try FileIO.open(path, O_WRONLY | O_CREAT, 0o644)
            } catch {
                throw .openFailed(error)
            }
            if let refusal = Self.lock(file) {
                close(file)
                throw refusal
            }
            if Self.isSameFile(file, path) {
                self.path = path
                self.file = file
                return
            }
            close(file)
        }
    }

    deinit { close(file) }

    package func read(bytesMax: Int = FileIO.readBytesMax) throws(SystemError) -> [UInt8] {
        try FileIO.read(path, bytesMax: bytesMax)
    }

    /// Replaces the content. On failure the old content and lock stay.
    ///
    /// - Parameter syncs: the replacement survives a power cut from here on. Without it the old content may come back,
    ///   but never a mixture.
    package mutating func replace(with content: UnsafeRawBufferPointer, syncs: Bool = true) throws(SystemError) {
        let replacement = try FileIO.writeReplacement(of: path, content, 0o644, syncsDirectory: syncs) {
            file throws(SystemError) in
            guard flock(file, LOCK_EX | LOCK_NB) == 0 else { throw .last("flock") }
        }
        close(file)
        file = replacement
    }

    package mutating func replace(with bytes: [UInt8], syncs: Bool = true) throws(SystemError) {
        let outcome: Result<Void, SystemError> = bytes.withUnsafeBytes { bytes in
            do throws(SystemError) { return .success(try replace(with: bytes, syncs: syncs)) } catch {
                return .failure(error)
            }
        }
        try outcome.get()
    }

    private static func lock(_ file: Int32) -> Refusal? {
        let outcome = uninterrupted { flock(file, LOCK_EX | LOCK_NB) }
        if outcome.result == 0 { return nil }
        return outcome.errno == EWOULDBLOCK ? .inUse : .lockFailed(SystemError(code: outcome.errno, call: "flock"))
    }

    private static func isSameFile(_ file: Int32, _ path: String) -> Bool {
        var locked = stat()
        var named = stat()
        return fstat(file, &locked) == 0 && stat(path, &named) == 0 && locked.st_ino == named.st_ino
            && locked.st_dev == named.st_dev
    }
}
