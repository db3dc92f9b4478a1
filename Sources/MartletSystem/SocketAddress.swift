import CMartletSystem
import Glibc

/// An IPv4, IPv6 or unix socket address as the kernel holds it. The text is made only when somebody asks.
package struct SocketAddress: Sendable {
    private var storage: sockaddr_storage
    private(set) var length: socklen_t

    /// An empty address with room for any family, to be filled by the kernel.
    init() {
        storage = sockaddr_storage()
        length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    }

    /// - Precondition: `length` fits `sockaddr_storage`, which every address of getaddrinfo does.
    init(_ address: UnsafePointer<sockaddr>, length: socklen_t) {
        precondition(length <= socklen_t(MemoryLayout<sockaddr_storage>.size))
        storage = sockaddr_storage()
        self.length = length
        withUnsafeMutableBytes(of: &storage) { storage in
            storage.copyMemory(from: UnsafeRawBufferPointer(start: address, count: Int(length)))
        }
    }

    /// Nil when `ip` is neither an IPv4 nor an IPv6 address in text form. No name is looked up.
    package init?(ip: String, port: Int) {
        guard let port = UInt16(exactly: port) else { return nil }
        self.init()
        var v4 = sockaddr_in()
        var v6 = sockaddr_in6()
        if inet_pton(AF_INET, ip, &v4.sin_addr) == 1 {
            v4.sin_family = sa_family_t(AF_INET)
            v4.sin_port = port.bigEndian
            store(v4)
        } else if inet_pton(AF_INET6, ip, &v6.sin6_addr) == 1 {
            v6.sin6_family = sa_family_t(AF_INET6)
            v6.sin6_port = port.bigEndian
            store(v6)
        } else {
            return nil
        }
    }

    /// Nil when the path is longer than `sockaddr_un` holds (``unixPathBytesMax``).
    package init?(unixPath path: String) {
        guard path.utf8.count <= Self.unixPathBytesMax else { return nil }
        self.init()
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        store(address)
    }

    /// 107 bytes on Linux: `sun_path` less its final zero.
    package static let unixPathBytesMax = MemoryLayout.size(ofValue: sockaddr_un().sun_path) - 1

    private mutating func store<Address>(_ address: Address) {
        withUnsafeMutableBytes(of: &storage) { $0.storeBytes(of: address, as: Address.self) }
        length = socklen_t(MemoryLayout<Address>.size)
    }

    var family: Int32 { Int32(storage.ss_family) }
    package var isUnix: Bool { family == AF_UNIX }
    package var isIPv6: Bool { family == AF_INET6 }

    /// Whether the peer sits on this host: 127.0.0.0/8, ::1, a v4-mapped loopback address, or a unix socket.
    package var isLoopback: Bool {
        withUnsafeBytes(of: storage) { bytes in
            switch family {
            case AF_UNIX: return true
            // sin_addr starts at byte 4, sin6_addr at byte 8.
            case AF_INET: return bytes[4] == 127
            case AF_INET6:
                let address = bytes[8..<24]
                let zeros = address.prefix(10).allSatisfy { $0 == 0 }
                if zeros, bytes[18] == 0xFF, bytes[19] == 0xFF { return bytes[20] == 127 }
                return zeros && address[18..<23].allSatisfy { $0 == 0 } && bytes[23] == 1
            default: return false
            }
        }
    }

    /// The text of the address without the port. IPv4 inside IPv6 shows as `::ffff:10.0.0.1`, a unix socket as
    /// `/unixsocket`, anything else as `?`: the forms of Redis' `anetFdToString`.
    package var ip: String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { text in
            let isText = withUnsafeBytes(of: storage) { bytes in
                switch family {
                case AF_INET:
                    inet_ntop(AF_INET, bytes.baseAddress! + 4, text.baseAddress!, socklen_t(text.count)) != nil
                case AF_INET6:
                    inet_ntop(AF_INET6, bytes.baseAddress! + 8, text.baseAddress!, socklen_t(text.count)) != nil
                default: false
                }
            }
            if isText { return String(cString: text.baseAddress!) }
            return isUnix ? "/unixsocket" : "?"
        }
    }

    /// 0 for a unix socket.
    package var port: Int {
        guard family == AF_INET || family == AF_INET6 else { return 0 }
        // sin_port and sin6_port share their place.
        return withUnsafeBytes(of: storage) { Int(UInt16(bigEndian: $0.load(fromByteOffset: 2, as: UInt16.self))) }
    }

    /// `127.0.0.1:7000`, `[::1]:7000`, `/unixsocket:0`: how CLIENT LIST prints it.
    package var description: String { ip.utf8.contains(UInt8(ascii: ":")) ? "[\(ip)]:\(port)" : "\(ip):\(port)" }

    mutating func withKernelBuffer<Result>(
        _ body: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Result
    ) -> Result {
        withUnsafeMutablePointer(to: &storage) { storage in
            storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, &length) }
        }
    }

    func withPointer<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        withUnsafePointer(to: storage) { storage in
            storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
        }
    }
}

/// Host names to addresses, as `getaddrinfo` sees them. It blocks: for tools, start-up and background threads.
package enum NameResolver {
    /// All addresses of a name, in the system's order of preference. An address in text form resolves to itself.
    ///
    /// - Parameters:
    ///   - host: nil means "every interface" for a listening socket.
    ///   - family: `AF_INET`, `AF_INET6`, or `AF_UNSPEC` for both.
    static func addresses(
        of host: String?, port: Int, family: Int32 = AF_UNSPEC, isNumericOnly: Bool = false
    ) throws(SystemError) -> [SocketAddress] {
        var hints = addrinfo()
        hints.ai_family = family
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = (host == nil ? AI_PASSIVE : 0) | (isNumericOnly ? AI_NUMERICHOST : 0)
        var list: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(host, String(port), &hints, &list)
        if status == EAI_SYSTEM { throw .last("getaddrinfo") }
        guard status == 0 else { throw SystemError(code: status, call: "getaddrinfo") }
        defer { freeaddrinfo(list) }
        var addresses: [SocketAddress] = []
        var entry = list
        while let info = entry?.pointee {
            if let address = info.ai_addr { addresses.append(SocketAddress(address, length: info.ai_addrlen)) }
            entry = info.ai_next
        }
        return addresses
    }

    package static func addresses(of host: String, port: Int) throws(SystemError) -> [SocketAddress] {
        try addresses(of: host, port: port, family: AF_UNSPEC)
    }

    /// The first address of a host in text form (`REPLICAOF` and `CLUSTER MEET` normalise what they were given).
    package static func ip(of host: String, isNumericOnly: Bool = false) throws(SystemError) -> String {
        guard let first = try addresses(of: host, port: 0, isNumericOnly: isNumericOnly).first else {
            throw SystemError(code: EAI_NONAME, call: "getaddrinfo")
        }
        return first.ip
    }
}
