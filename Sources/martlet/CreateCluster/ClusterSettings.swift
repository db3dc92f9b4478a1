import MartletBase

// What a local cluster looks like, from a file or from the command line.
//
// A cluster configuration has redis.conf's grammar. Lines that begin with `create-cluster` are for this tool:
//
//     create-cluster nodes 6
//     create-cluster replicas 1
//     appendonly yes
//
// and every other line is a directive that each node gets. `create-cluster start` keeps the settings that it used in the
// same form in the cluster's folder, so that `stop`, `start` and `status` need nothing but the folder.

/// One line of a node's configuration, as it will stand in the file.
package struct NodeDirective: Equatable, Sendable {
    package let text: String

    package init(_ text: String) { self.text = text }

    package var name: String {
        text.prefix { !$0.isWhitespace }.lowercased()
    }

    /// The arguments of a directive with plain or quoted words, nil when a quote is not closed.
    package var words: [String]? { ConfigLine.words(text) }
}

package struct ClusterSettings: Equatable, Sendable {
    /// All nodes, primaries and replicas.
    package var nodes = 6
    package var replicas = 1
    /// Of the first node; the others follow one by one.
    package var port = 7000
    package var host = "127.0.0.1"
    package var directory: String?
    package var server: String?
    package var user: String?
    package var password: String?
    package var directives: [NodeDirective] = []

    package init() {}

    package struct Mistake: Error, Equatable, CustomStringConvertible {
        package let description: String
    }

    /// Directives that follow from a node's place in the cluster.
    package static let reserved: Set<String> = [
        "port", "cluster-enabled", "cluster-config-file", "dir", "logfile", "pidfile", "daemonize", "supervised",
    ]

    /// - Parameter file: the name that mistakes mention.
    package init(parsing text: String, file: String) throws(Mistake) {
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let line = line.trimmingWhitespace()
            if line.isEmpty || line.hasPrefix("#") { continue }
            let place = "\(file):\(index + 1)"
            guard let words = ConfigLine.words(line), let first = words.first else {
                throw Mistake(description: "\(place): unbalanced quotes: \(line)")
            }
            if first == "create-cluster" {
                guard words.count == 3 else {
                    throw Mistake(description: "\(place): expected 'create-cluster SETTING VALUE': \(line)")
                }
                try set(words[1], to: words[2], place: place)
            } else {
                try add(NodeDirective(String(line)), place: place)
            }
        }
    }

    private mutating func set(_ name: String, to value: String, place: String) throws(Mistake) {
        func number(_ range: ClosedRange<Int>) throws(Mistake) -> Int {
            guard let number = Int(value), range.contains(number) else {
                throw Mistake(
                    description: "\(place): '\(name)' must be between \(range.lowerBound) and \(range.upperBound)")
            }
            return number
        }
        switch name {
        case "nodes": nodes = try number(1...Self.nodesMax)
        case "replicas": replicas = try number(0...(Self.nodesMax - 1))
        case "port": port = try number(1...NodeAddress.portMax)
        case "host": host = value
        case "dir": directory = value
        case "server": server = value
        case "user": user = value
        case "password": password = value
        default: throw Mistake(description: "\(place): no setting of create-cluster is called '\(name)'")
        }
    }

    package mutating func add(_ directive: NodeDirective, place: String) throws(Mistake) {
        guard !Self.reserved.contains(directive.name) else {
            throw Mistake(description: "\(place): create-cluster itself sets '\(directive.name)' on each node")
        }
        directives.append(directive)
    }

    /// More than this on one host is a mistake rather than a wish.
    package static let nodesMax = 1000

    /// Reads the words after `--` as the server reads its command line: a word that begins with `--` starts a
    /// directive, the words up to the next one are its arguments.
    package mutating func addCommandLine(_ words: [String]) throws(Mistake) {
        var current: [String] = []
        func finished() -> NodeDirective {
            NodeDirective(([current[0]] + current.dropFirst().map(ConfigLine.quoted)).joined(separator: " "))
        }
        let place = "node options"
        for word in words {
            if word.hasPrefix("--"), word.count > 2 {
                if !current.isEmpty { try add(finished(), place: place) }
                current = [String(word.dropFirst(2))]
            } else if current.isEmpty {
                throw Mistake(
                    description: "\(place): expected '--directive value …' after '--', got '\(word)'")
            } else {
                current.append(word)
            }
        }
        if !current.isEmpty { try add(finished(), place: place) }
    }

    package var addresses: [NodeAddress] { (0..<nodes).map { NodeAddress(host: host, port: port + $0) } }

    /// Refuses what cannot work before anything is started.
    package func check() throws(Mistake) {
        guard port + nodes - 1 <= NodeAddress.portMax else {
            throw Mistake(
                description: "ports \(port) to \(port + nodes - 1) leave no room for bus ports: "
                    + "the highest port is \(NodeAddress.portMax)")
        }
        // A bus port of one node must not be the client port of another.
        guard nodes <= NodeAddress.busPortOffset else {
            throw Mistake(description: "\(nodes) nodes are more than one host has ports for")
        }
    }

    /// Whether two settings mean the same set of nodes, whatever their directives are.
    package func hasSameShape(as other: ClusterSettings) -> Bool {
        nodes == other.nodes && replicas == other.replicas && port == other.port && host == other.host
    }

    /// The password that the nodes will ask for: a directive counts as well.
    package var effectivePassword: String? {
        password
            ?? directives.last { $0.name == "requirepass" }?.words?.dropFirst().first.flatMap { $0.isEmpty ? nil : $0 }
    }

    /// The file that ``init(parsing:file:)`` reads.
    package var fileText: String {
        var lines = [
            "# Made by martlet create-cluster; read again by start, stop, status, restart and clean.",
            "create-cluster nodes \(nodes)",
            "create-cluster replicas \(replicas)",
            "create-cluster port \(port)",
            "create-cluster host \(ConfigLine.quoted(host))",
        ]
        if let server { lines.append("create-cluster server \(ConfigLine.quoted(server))") }
        if let user { lines.append("create-cluster user \(ConfigLine.quoted(user))") }
        if let password { lines.append("create-cluster password \(ConfigLine.quoted(password))") }
        lines += directives.map(\.text)
        return lines.joined(separator: "\n") + "\n"
    }

    /// The configuration file of one node.
    package func nodeFileText(port: Int, directory: String) -> String {
        var lines = [
            "# Made by martlet create-cluster and rewritten by each start.",
            "port \(port)",
            "cluster-enabled yes",
            "cluster-config-file nodes.conf",
            "dir \(ConfigLine.quoted(directory))",
            "logfile \(ConfigLine.quoted(directory + "/server.log"))",
            "pidfile \(ConfigLine.quoted(directory + "/server.pid"))",
            "daemonize no",
        ]
        if !directives.contains(where: { $0.name == "bind" }) { lines.append("bind \(host)") }
        if let password {
            let word = ConfigLine.quoted(password)
            if let user {
                let rule = ConfigLine.quoted(">" + password)
                lines.append("user \(ConfigLine.quoted(user)) on \(rule) ~* &* +@all")
                lines.append("masteruser \(ConfigLine.quoted(user))")
            } else {
                lines.append("requirepass \(word)")
            }
            lines.append("masterauth \(word)")
        } else if let word = effectivePassword, !directives.contains(where: { $0.name == "masterauth" }) {
            lines.append("masterauth \(ConfigLine.quoted(word))")
        }
        lines += directives.map(\.text)
        return lines.joined(separator: "\n") + "\n"
    }
}

/// Lines of redis.conf as text; the rules are those of ``splitArguments(_:)``.
package enum ConfigLine {
    /// Nil when quotes are unbalanced.
    package static func words(_ line: some StringProtocol) -> [String]? {
        splitArguments(Array(line.utf8))?.map { String(decoding: $0, as: UTF8.self) }
    }

    /// The word as it can stand in a line: in quotes only when it is empty or has characters with a meaning.
    package static func quoted(_ word: String) -> String {
        let isPlain = word.utf8.allSatisfy { byte in
            byte > 32 && byte < 127 && byte != UInt8(ascii: "\"") && byte != UInt8(ascii: "'")
                && byte != UInt8(ascii: "\\")
        }
        if !word.isEmpty, isPlain, word.first != "#" { return word }
        return String(decoding: quotedArgument(word.utf8), as: UTF8.self)
    }
}

extension StringProtocol {
    func trimmingWhitespace() -> SubSequence {
        var rest = self[...]
        while let first = rest.first, first.isWhitespace { rest = rest.dropFirst() }
        while let last = rest.last, last.isWhitespace { rest = rest.dropLast() }
        return rest
    }
}
