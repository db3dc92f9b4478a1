import MartletRESP
import Testing

@testable import MartletServer

// What tests of blocking commands share.

/// Whether a client waits for keys.
func isWaiting(_ client: ClientPointer) -> Bool {
    guard case .keys = client.pointee.parked else { return false }
    return true
}

/// What a client was told meanwhile.
func told(_ client: ClientPointer) -> String {
    defer { client.pointee.reply.removeAll() }
    return String(decoding: client.pointee.reply.bytes, as: UTF8.self)
}

/// A further client that has just given this command, and waits.
func waiter(_ node: NodeHarness, _ line: String) -> ClientPointer {
    let client = node.connect()
    #expect(node(line, as: client) == "")
    #expect(isWaiting(client), "\(line)")
    return client
}
