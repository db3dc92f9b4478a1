import MartletBase
import MartletServer
import MartletSystem

// What CONFIG SET changes outside of the node: working directory, descriptors, listeners. Each step that succeeded is
// undone when a later one fails. CONFIG REWRITE replaces the file here as well.

extension ProcessServices {
    /// - Parameter configurationPath: absolute, for `dir` changes the working directory; empty if there is no file.
    static func process(_ listeners: ListenerSet, configurationPath: String) -> ProcessServices {
        var services = ProcessServices()
        services.monotonicNanoseconds = { SystemClock.monotonicNanoseconds }
        services.sleep = { SystemClock.sleep(microseconds: $0) }
        services.rewriteConfiguration = { rewrite(configurationPath, $0, forcesAll: $1) }
        services.applyConfiguration = { changed, old, new in apply(changed, old, &new, listeners) }
        services.unsentBytes = { client in
            guard let connection = client.pointee.connection?.assumingMemoryBound(to: Connection.self) else { return 0 }
            return connection.pointee.thread > 0 ? connection.pointee.handedOverBytes : -connection.pointee.sent
        }
        return services
    }

    private static func apply(
        _ changed: [String], _ old: ServerConfiguration, _ new: inout ServerConfiguration, _ listeners: ListenerSet
    ) -> ConfigurationFailure? {
        var undo: [() -> Void] = []
        var hasMoved = false
        for name in changed {
            let problem: String?
            switch name {
            case "dir":
                let directory = FileIO.currentDirectory
                problem = changeDirectory(&new)
                undo.append { try? FileIO.changeDirectory(directory) }
            case "maxclients": problem = reserveDescriptors(new)
            case "port", "bind":
                // Both move together.
                if hasMoved { continue }
                hasMoved = true
                do throws(StartFailure) {
                    try listeners.move(from: old, to: new)
                    problem = nil
                } catch {
                    Log.warning(error.text)
                    problem =
                        name == "port"
                        ? "Unable to listen on this port. Check server logs."
                        : "Failed to bind to specified addresses."
                }
                let applied = new
                if problem == nil { undo.append { try? listeners.move(from: applied, to: old) } }
            default: problem = nil
            }
            if let problem {
                for step in undo.reversed() { step() }
                return ConfigurationFailure(name: name, problem: problem)
            }
        }
        return nil
    }

    private static func changeDirectory(_ configuration: inout ServerConfiguration) -> String? {
        do throws(SystemError) {
            try FileIO.changeDirectory(configuration.directory)
            configuration.directory = FileIO.currentDirectory
            return nil
        } catch {
            return error.reason
        }
    }

    private static func reserveDescriptors(_ configuration: ServerConfiguration) -> String? {
        let reserved = ServerProcess.reservedDescriptors
        do throws(SystemError) {
            _ = try SystemProcess.raiseOpenFilesLimit(to: UInt64(configuration.maxClients + reserved))
            let limit = Int(clamping: try SystemProcess.openFilesLimit().soft)
            guard limit < configuration.maxClients + reserved else { return nil }
            return "The operating system is not able to handle the specified number of clients, try with "
                + "\(max(1, limit - reserved))"
        } catch {
            return error.reason
        }
    }

    private static func rewrite(_ path: String, _ configuration: ServerConfiguration, forcesAll: Bool) -> String? {
        do throws(SystemError) {
            let old = FileIO.exists(path) ? try FileIO.read(path) : []
            let text = ConfigurationRewrite.text(of: configuration, replacing: old, forcesAll: forcesAll)
            let outcome: Result<Void, SystemError> = text.withUnsafeBytes { bytes in
                do throws(SystemError) { return .success(try FileIO.replace(path, with: bytes)) } catch {
                    return .failure(error)
                }
            }
            try outcome.get()
            return nil
        } catch {
            return error.reason
        }
    }
}
