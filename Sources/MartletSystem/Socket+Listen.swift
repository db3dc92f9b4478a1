import CMartletSystem
import Glibc

extension Socket {
    /// Listens on one TCP address. Port 0 lets the system choose (``localAddress(_:)`` tells).
    ///
    /// An address with a colon is IPv6 and only IPv6; `*` is every IPv4 interface, `::*` every IPv6 one. Names are
    /// resolved. The `-` prefix of the `bind` directive is the caller's.
    package static func listen(address: String, port: Int, backlog: Int) throws(SystemError) -> Int32 {
        let isIPv6 = address.utf8.contains(UInt8(ascii: ":"))
        let isEveryInterface = address == "*" || (isIPv6 && address == "::*")
        let addresses = try NameResolver.addresses(
            of: isEveryInterface ? nil : address, port: port, family: isIPv6 ? AF_INET6 : AF_INET)
        guard let first = addresses.first else { throw SystemError(code: EAI_NONAME, call: "getaddrinfo") }
        let fd = try make(family: first.family)
        do throws(SystemError) {
            if isIPv6 { try setOption(fd, Int32(IPPROTO_IPV6), IPV6_V6ONLY, 1, "setsockopt IPV6_V6ONLY") }
            try setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1, "setsockopt SO_REUSEADDR")
            try bindAndListen(fd, to: first, backlog: backlog)
            return fd
        } catch {
            close(fd)
            throw error
        }
    }

    /// Listens on a unix socket. A socket file that an earlier process left is removed first; a file that is no
    /// socket is left alone and the bind fails.
    ///
    /// - Parameter permissions: mode bits such as 0o700; 0 leaves what the umask gives.
    package static func listen(unixPath path: String, permissions: UInt32, backlog: Int) throws(SystemError) -> Int32 {
        guard let address = SocketAddress(unixPath: path) else {
            throw SystemError(code: ENAMETOOLONG, call: "unix socket path")
        }
        var status = stat()
        if lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK { unlink(path) }
        let fd = try make(family: AF_UNIX)
        do throws(SystemError) {
            try bindAndListen(fd, to: address, backlog: backlog) { () throws(SystemError) in
                if permissions != 0, chmod(path, mode_t(permissions)) != 0 { throw .last("chmod") }
            }
            return fd
        } catch {
            close(fd)
            throw error
        }
    }

    private static func bindAndListen(
        _ fd: Int32, to address: SocketAddress, backlog: Int, afterBind: () throws(SystemError) -> Void = {}
    ) throws(SystemError) {
        guard address.withPointer({ bind(fd, $0, $1) }) == 0 else { throw .last("bind") }
        try afterBind()
        guard Glibc.listen(fd, Int32(clamping: backlog)) == 0 else { throw .last("listen") }
    }
}
