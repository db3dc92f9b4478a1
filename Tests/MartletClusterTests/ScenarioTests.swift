import Foundation
import MartletBase
import Testing

@testable import MartletCluster

// Transcripts: Tests/ClusterScenarios/*.txt tell what happens in a cluster step by step, and this suite replays them.
//
// A file is a list of steps: comment lines (#), a command, `----`, and the output. Commands:
//
//     boot PRIMARIES REPLICAS [timeout=MS] [seed=N]   a cluster that is up: primaries n0…, their replicas after them
//     nodes COUNT [timeout=MS] [seed=N]               nodes that do not know each other
//     nX SUBCOMMAND …                                 a CLUSTER subcommand; nY in it stands for that node's id
//     kill nX / start nX / freeze nX                  kill -9, start from nodes.conf, SIGSTOP
//     split nX nY … / heal                            a partition around these nodes
//     offset nX N / write nX                          replication
//     run MS                                          lets time pass
//     wait CONDITION within MS                        ok, fail nX, owner SLOT nX, follows nX nY
//     state                                           every node as it sees itself, and cluster_state
//
// After `run` and `wait` the output lists what the nodes logged, with the milliseconds since the step began. To write
// the outputs anew after a change of the protocol: MARTLET_REWRITE=1 swift test --filter ScenarioTests. Then read the
// difference.

@Suite struct ScenarioTests {
    private static let directory = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("ClusterScenarios")

    static let files = try! FileManager.default.contentsOfDirectory(atPath: directory.path)
        .filter { $0.hasSuffix(".txt") }.sorted()

    @Test("the cluster does what the transcript says", arguments: files)
    func replay(file: String) throws {
        let url = Self.directory.appendingPathComponent(file)
        let text = try String(contentsOf: url, encoding: .utf8)
        let actual = Scenario.replay(text)
        if ProcessInfo.processInfo.environment["MARTLET_REWRITE"] != nil {
            try actual.write(to: url, atomically: true, encoding: .utf8)
            return
        }
        let expectedLines = text.split(separator: "\n", omittingEmptySubsequences: false)
        let actualLines = actual.split(separator: "\n", omittingEmptySubsequences: false)
        for (number, (expected, actual)) in zip(expectedLines, actualLines).enumerated() where expected != actual {
            Issue.record("\(file):\(number + 1): expected \"\(expected)\", got \"\(actual)\"")
            return
        }
        #expect(expectedLines.count == actualLines.count, "\(file) ends differently")
    }
}

private struct Scenario {
    private var cluster = TestCluster()

    static func replay(_ text: String) -> String {
        var scenario = Scenario()
        var output = ""
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)[...]
        while let line = lines.popFirst() {
            if lines.first != "----" {
                output += line + (lines.isEmpty ? "" : "\n")
                continue
            }
            // A command; its old output ends with an empty line.
            output += line + "\n----\n"
            lines.removeFirst()
            while let old = lines.first, !old.isEmpty { lines.removeFirst() }
            for result in scenario.run(line) { output += result + "\n" }
        }
        return output
    }

    private mutating func run(_ line: String) -> [String] {
        let words = line.split(separator: " ").map(String.init)
        let began = cluster.now
        cluster.transcript = []
        switch words[0] {
        case "boot":
            let options = options(words)
            cluster = TestCluster.booted(
                primaries: Int(words[1])!, replicas: Int(words[2])!, seed: UInt64(options["seed"] ?? 1)
            ) {
                $0.nodeTimeoutMilliseconds = options["timeout"] ?? 15_000
            }
            return []
        case "nodes":
            let options = options(words)
            cluster = TestCluster(seed: UInt64(options["seed"] ?? 1))
            for _ in 0..<Int(words[1])! { cluster.add { $0.nodeTimeoutMilliseconds = options["timeout"] ?? 15_000 } }
            return []
        case "kill": cluster.kill(member(words[1]))
        case "start": cluster.start(member(words[1]))
        case "freeze": cluster.frozen.insert(member(words[1]))
        case "split": cluster.group = Dictionary(uniqueKeysWithValues: words.dropFirst().map { (member($0), 1) })
        case "heal": cluster.group = [:]
        case "offset": cluster.setOffset(member(words[1]), Int64(words[2])!)
        case "write": cluster.write(member(words[1]))
        case "run":
            cluster.run(milliseconds: Int64(words[1])!)
            return log(since: began)
        case "wait":
            let limit = Int64(words.last!)!
            let cluster = cluster, condition = condition(Array(words.dropFirst()))
            let isMet = cluster.run(until: condition, timeout: limit) != nil
            return log(since: began) + [isMet ? "yes" : "no, not within \(limit) ms"]
        case "state": return state()
        default:
            let arguments = words.dropFirst().map { word in
                word.hasPrefix("n") && Int(word.dropFirst()) != nil ? cluster.id(member(word)) : word
            }
            return [cluster.named(text(cluster.execute(member(words[0]), arguments.joined(separator: " "))))]
        }
        return []
    }

    private func options(_ words: [String]) -> [String: Int64] {
        var options: [String: Int64] = [:]
        for word in words where word.contains("=") {
            let parts = word.split(separator: "=")
            options[String(parts[0])] = Int64(parts[1])!
        }
        return options
    }

    private func member(_ word: String) -> Int { Int(word.dropFirst())! }

    private func condition(_ words: [String]) -> () -> Bool {
        let cluster = cluster
        switch words[0] {
        case "ok": return { cluster.allAreOK }
        case "fail":
            let index = member(words[1])
            return { !cluster[index].health.isOK }
        case "owner":
            let slot = Int(words[1])!, index = member(words[2])
            return { cluster.owner(of: slot) == index && cluster.allAreOK }
        case "follows":
            let replica = member(words[1]), primary = member(words[2])
            return { cluster.members[replica].following == cluster[primary].myself.id }
        default: preconditionFailure("unknown condition \(words)")
        }
    }

    private func log(since start: Int64) -> [String] {
        cluster.transcript.map { "\($0.at - start) n\($0.member): \(cluster.named($0.text))" }
    }

    private func state() -> [String] {
        cluster.members.map { member in
            guard let state = member.state else { return "n\(member.index) dead" }
            let node = state.myself
            var line = "n\(member.index) \(state.health.isOK ? "ok" : "fail")"
            if let primary = node.primary {
                line += " replica of \(cluster.named("\(primary.id)"))"
            } else {
                line += " primary epoch \(node.configEpoch)"
                for range in node.slots.ranges { line += " \(range.lowerBound)-\(range.upperBound)" }
            }
            return line
        }
    }

    private func text(_ reply: ClusterReply) -> String {
        switch reply {
        case .ok: "OK"
        case .status(let text), .error(let text), .bulk(let text), .verbatim(let text): text
        case .integer(let number): "\(number)"
        case .null: "(nil)"
        case .array(let items): "[" + items.map { text($0) }.joined(separator: ", ") + "]"
        case .map(let items): "{" + items.map { "\($0.0): \(text($0.1))" }.joined(separator: ", ") + "}"
        }
    }
}
