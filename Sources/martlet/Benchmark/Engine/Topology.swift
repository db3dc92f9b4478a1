import MartletBase
import MartletSystem
import Synchronization

/// A server that connections can be opened to.
package struct Endpoint: Sendable {
    /// `127.0.0.1:6379` or the path of a unix socket, as messages name it.
    package let name: String
    package let address: SocketAddress

    package init(name: String, address: SocketAddress) {
        self.name = name
        self.address = address
    }
}

/// The nodes of a cluster and their slots, as all threads know them. Nodes keep their index; those that leave keep it
/// too, so a thread may hold an old map for a while: the cluster itself corrects it with MOVED.
package final class Topology: Sendable {
    package struct Map: Sendable {
        package var endpoints: [Endpoint]
        /// Index of the primary for each slot; nil where nobody serves it.
        package var owners: [UInt16?]

        package init(endpoints: [Endpoint], owners: [UInt16?]) {
            precondition(owners.count == HashSlot.count)
            self.endpoints = endpoints
            self.owners = owners
        }

        /// The index of a node, which is added if it is new.
        package mutating func index(of endpoint: Endpoint) -> Int {
            if let index = endpoints.firstIndex(where: { $0.name == endpoint.name }) { return index }
            endpoints.append(endpoint)
            return endpoints.count - 1
        }
    }

    private let map: Mutex<Map>
    /// Grows with each change of the map.
    package let version = Atomic<Int>(0)
    /// A thread was redirected: the map is out of date.
    package let isStale = Atomic<Bool>(false)

    package init(_ map: Map) { self.map = Mutex(map) }

    package var current: Map { map.withLock { $0 } }

    package func update(_ body: (inout Map) -> Void) {
        map.withLock { body(&$0) }
        version.wrappingAdd(1, ordering: .releasing)
    }
}
