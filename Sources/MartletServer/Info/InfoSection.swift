import MartletBase
import MartletRESP

// INFO. A section is a function that writes lines; a field is one line of code in it, so a new field is one new line.
// Values that do not exist on this server show what Redis shows where the feature is off, if tools are known to read
// them; otherwise the field is left out.
//
// Source of names and order: Redis 7.0 server.c, genRedisInfoString.

extension CommandFamily {
    static let info = CommandFamily(.server, [.info])
}

extension Command {
    static let info = Command(
        "INFO", since: "1.0.0", arity: .atLeast(1), flags: [.loading, .stale], categories: ["dangerous"],
        tips: ["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        arguments: "[section]...",
        history: [("7.0.0", "Added support for taking multiple section arguments.")],
        complexity: "O(1)",
        summary: "Get information and statistics about the server",
        run: .node { request, node, client throws(ReplyError) in
            let names = (1..<request.count).map { String(bytes: request[$0]).lowercased() }
            client.pointee.reply.verbatim(node.info(sections: names))
        })
}

/// A part of INFO's text.
struct InfoSection: Sendable {
    /// As it is asked for.
    let name: String
    /// As its first line says it.
    let title: String
    /// Whether it shows when nothing is asked for.
    let isDefault: Bool
    let write: @Sendable (_ node: inout Node, _ text: inout InfoText) -> Void

    static let all: [InfoSection] = [
        InfoSection(name: "server", title: "Server", isDefault: true) { $0.writeServerInfo(&$1) },
        InfoSection(name: "clients", title: "Clients", isDefault: true) { $0.writeClientInfo(&$1) },
        InfoSection(name: "memory", title: "Memory", isDefault: true) { $0.writeMemoryInfo(&$1) },
        InfoSection(name: "persistence", title: "Persistence", isDefault: true) { $0.writePersistenceInfo(&$1) },
        InfoSection(name: "stats", title: "Stats", isDefault: true) { $0.writeStatistics(&$1) },
        InfoSection(name: "replication", title: "Replication", isDefault: true) { $0.writeReplicationInfo(&$1) },
        InfoSection(name: "cpu", title: "CPU", isDefault: true) { $0.writeProcessorInfo(&$1) },
        // There are none.
        InfoSection(name: "modules", title: "Modules", isDefault: true) { _, _ in },
        InfoSection(name: "commandstats", title: "Commandstats", isDefault: false) { $0.writeCommandStatistics(&$1) },
        InfoSection(name: "errorstats", title: "Errorstats", isDefault: true) { $0.writeErrorStatistics(&$1) },
        // Distributions are not recorded.
        InfoSection(name: "latencystats", title: "Latencystats", isDefault: false) { _, _ in },
        InfoSection(name: "cluster", title: "Cluster", isDefault: true) { $0.writeClusterInfo(&$1) },
        InfoSection(name: "keyspace", title: "Keyspace", isDefault: true) { $0.writeKeyspaceInfo(&$1) },
    ]
}

/// Lines of `name:value`.
struct InfoText {
    private(set) var text = ""

    mutating func begin(_ title: String) {
        if !text.isEmpty { text += "\r\n" }
        text += "# \(title)\r\n"
    }

    mutating func add(_ name: String, _ value: some CustomStringConvertible) { text += "\(name):\(value)\r\n" }

    mutating func add(_ name: String, _ value: Bool) { add(name, value ? 1 : 0) }

    /// A number with two decimals.
    mutating func add(_ name: String, hundredths value: Double, unit: String = "") {
        add(name, decimal(value, decimals: 2) + unit)
    }

    /// Bytes, and once more for people.
    mutating func add(_ name: String, bytes: Int) {
        add(name, bytes)
        add(name + "_human", humanBytes(bytes))
    }
}

/// `1.50K`. (bytesToHuman)
func humanBytes(_ bytes: Int) -> String {
    if bytes < 1024 { return "\(bytes)B" }
    var value = Double(bytes) / 1024
    for unit in ["K", "M", "G", "T"] {
        if value < 1024 { return decimal(value, decimals: 2) + unit }
        value /= 1024
    }
    return decimal(value, decimals: 2) + "P"
}

/// A number with a fixed count of decimals. What is no number is 0.
func decimal(_ value: Double, decimals: Int) -> String {
    var scale = 1
    for _ in 0..<decimals { scale *= 10 }
    guard value.isFinite, let scaled = Int(exactly: (value.magnitude * Double(scale)).rounded()) else { return "0" }
    let (whole, fraction) = scaled.quotientAndRemainder(dividingBy: scale)
    let sign = value < 0 && scaled > 0 ? "-" : ""
    return "\(sign)\(whole)." + String(scale + fraction).dropFirst()
}

extension Node {
    /// INFO's text. - Parameter sections: lower-case names; none asks for the default ones.
    mutating func info(sections: [String]) -> String {
        let wantsAll = sections.contains("all") || sections.contains("everything")
        let wantsDefault = sections.isEmpty || sections.contains("default")
        var text = InfoText()
        for section in InfoSection.all
        where wantsAll || (wantsDefault && section.isDefault) || sections.contains(section.name)
            || (section.name == "modules" && sections.contains("module_list"))
        {
            text.begin(section.title)
            section.write(&self, &text)
        }
        return text.text
    }
}
