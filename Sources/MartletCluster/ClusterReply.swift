import MartletBase

/// The answer to a CLUSTER subcommand, ready for either version of RESP.
package indirect enum ClusterReply: Sendable, Equatable {
    case ok
    /// A status line other than OK.
    case status(String)
    /// The text after the leading `-`, with its code: `ERR …`.
    case error(String)
    case integer(Int64)
    case bulk(String)
    /// Verbatim text in RESP3, a bulk string in RESP2.
    case verbatim(String)
    case null
    case array([ClusterReply])
    /// A map in RESP3, a flat array in RESP2.
    case map([(String, ClusterReply)])

    static func failure(_ text: String) -> ClusterReply {
        .error("ERR " + String(text.map { $0 == "\r" || $0 == "\n" || $0 == "\r\n" ? " " : $0 }))
    }

    package static func == (left: ClusterReply, right: ClusterReply) -> Bool {
        switch (left, right) {
        case (.ok, .ok), (.null, .null): true
        case (.status(let a), .status(let b)), (.error(let a), .error(let b)), (.bulk(let a), .bulk(let b)),
            (.verbatim(let a), .verbatim(let b)):
            a == b
        case (.integer(let a), .integer(let b)): a == b
        case (.array(let a), .array(let b)): a == b
        case (.map(let a), .map(let b)): a.count == b.count && zip(a, b).allSatisfy { $0.0 == $1.0 && $0.1 == $1.1 }
        default: false
        }
    }
}

/// A CLUSTER subcommand with what the core cannot know by itself.
///
/// KEYSLOT, COUNTKEYSINSLOT and GETKEYSINSLOT only look at keys and are answered by the command thread.
package struct ClusterRequest: Sendable {
    /// The words after CLUSTER, as the client sent them.
    package var arguments: [String]
    /// The client came over TLS: it is shown TLS ports.
    package var isTLSClient = false
    /// No key at all in database 0.
    package var databaseIsEmpty = true
    /// Keys in the slot that ``slotWhoseKeysMatter`` names.
    package var keyCountInSlot = 0

    package init(
        _ arguments: [String], isTLSClient: Bool = false, databaseIsEmpty: Bool = true, keyCountInSlot: Int = 0
    ) {
        self.arguments = arguments
        self.isTLSClient = isTLSClient
        self.databaseIsEmpty = databaseIsEmpty
        self.keyCountInSlot = keyCountInSlot
    }

    /// The slot whose number of keys the request needs (SETSLOT), if any.
    package var slotWhoseKeysMatter: HashSlot? {
        guard arguments.count >= 3, arguments[0].lowercased() == "setslot", let number = UInt16(arguments[1]),
            number < HashSlot.count
        else { return nil }
        return HashSlot(rawValue: number)
    }
}
