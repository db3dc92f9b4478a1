import MartletBase
import MartletServer
import MartletSystem

/// A socket that clients connect to.
struct Listener {
    let fd: Int32
    /// The file of a unix socket; empty for TCP.
    let unixPath: String

    var isUnix: Bool { !unixPath.isEmpty }

    /// Opens every address of the configuration, and the unix socket.
    static func open(_ configuration: ServerConfiguration) throws(StartFailure) -> [Listener] {
        var listeners = try openTCP(configuration)
        if !configuration.unixSocketPath.isEmpty {
            do throws(SystemError) {
                let fd = try Socket.listen(
                    unixPath: configuration.unixSocketPath, permissions: UInt32(configuration.unixSocketPermissions),
                    backlog: configuration.tcpBacklog)
                listeners.append(Listener(fd: fd, unixPath: configuration.unixSocketPath))
            } catch {
                throw StartFailure("Failed opening Unix socket: bind: \(error)")
            }
        }
        if listeners.isEmpty { throw StartFailure("Configured to not listen anywhere") }
        return listeners
    }

    /// Opens every TCP address of the configuration.
    ///
    /// An address with `-` in front may be missing on this machine. Source: Redis 7.0 server.c, listenToPort.
    static func openTCP(_ configuration: ServerConfiguration) throws(StartFailure) -> [Listener] {
        guard configuration.port != 0, !configuration.bindAddresses.isEmpty else { return [] }
        var listeners: [Listener] = []
        for bind in configuration.bindAddresses {
            let isOptional = bind.hasPrefix("-")
            let address = isOptional ? String(bind.dropFirst()) : bind
            do throws(SystemError) {
                let fd = try Socket.listen(
                    address: address, port: configuration.port, backlog: configuration.tcpBacklog)
                listeners.append(Listener(fd: fd, unixPath: ""))
            } catch {
                if isOptional, error.isAddressNotAvailable || error.isProtocolMissing { continue }
                Log.warning(
                    "Warning: Could not create server TCP listening socket \(address):\(configuration.port): \(error)")
                for listener in listeners { listener.close() }
                throw StartFailure("Failed listening on port \(configuration.port) (TCP)")
            }
        }
        if listeners.isEmpty { throw StartFailure("Failed listening on port \(configuration.port) (TCP)") }
        return listeners
    }

    func close() {
        Socket.close(fd)
        guard isUnix else { return }
        Log.notice("Removing the unix socket file.")
        do throws(SystemError) { try FileIO.remove(unixPath) } catch {
            Log.warning("Error removing the unix socket file: \(error)")
        }
    }
}
