import MartletBase
import MartletServer

extension FuzzTarget {
    /// redis.conf, the command line, CONFIG SET and CONFIG REWRITE: what was accepted is accepted again after a rewrite.
    static let configuration = FuzzTarget(
        name: "configuration",
        summary: "redis.conf, CONFIG SET and CONFIG REWRITE (ConfigurationLoader)",
        corpus: {
            [
                "port 7000\nbind 127.0.0.1 -::1\n# comment\ndir /tmp\nsave 900 1 300 10\nmaxmemory 100mb\n",
                "requirepass \"a b\\x00c\"\nclient-output-buffer-limit replica 256mb 64mb 60\nrename-command GET \"\"\n",
                "cluster-enabled yes\ncluster-node-timeout 5000\ncluster-config-file nodes.conf\nappendonly no\n",
                "include /a.conf\nloglevel verbose\nnotify-keyspace-events KEA\nunixsocketperm 700\n",
                "replicaof 127.0.0.1 6379\nmin-replicas-max-lag 10\noom-score-adj-values 0 200 800\nhz 10\n",
                "maxmemory-policy allkeys-lru\nmaxclients 10000\ntcp-backlog 511\ntimeout 0\ntcp-keepalive 300\n",
            ].map { Array($0.utf8) }
        },
        tokens: [
            "\n", " ", "\"", "'", "\\x", "yes", "no", "include /a.conf\n", "-1", "1gb", "100%", "#", "\0", "--", "*",
        ]
        .map { Array($0.utf8) } + Directive.all.map { Array($0.name.utf8) },
        run: { input, random in
            guard let first = loadConfiguration(input) else { return }
            let rewritten = ConfigurationRewrite.text(
                of: first.configuration, replacing: input, forcesAll: random.below(8) == 0)
            // A rewrite keeps lines that are not directives with a value as they are, include and rename-command too.
            guard loadConfiguration(rewritten) != nil else {
                violated("what CONFIG REWRITE writes can be read")
            }
            // The same words as pairs of CONFIG SET.
            var pairs: [(name: [UInt8], value: [UInt8])] = []
            for line in input.split(separator: 0x0A).prefix(4) {
                let words = line.split(separator: 0x20, maxSplits: 1)
                guard words.count == 2 else { continue }
                pairs.append((Array(words[0]), Array(words[1])))
            }
            if let change = try? first.configuration.changed(by: pairs, isLoading: false, isLocalClient: true) {
                _ = change.configuration.matching([Array("*".utf8)])
            }
        })

    private static func loadConfiguration(_ text: [UInt8]) -> LoadedConfiguration? {
        let files = ConfigurationFiles(
            read: { path in
                switch path {
                case "/martlet.conf": .success(text)
                case "/a.conf": .success(Array("maxclients 100\n".utf8))
                default: .failure(ConfigurationFileProblem(reason: "No such file or directory"))
                }
            },
            glob: { _ in ["/a.conf"] },
            changeDirectory: { .success($0) },
            standardInput: { [] },
            currentDirectory: { "/" })
        guard case .run(let run) = ServerArguments(["/martlet.conf"]) else { return nil }
        return try? ConfigurationLoader.load(run, files: files) { name in ["get", "set"].contains(name) }
    }
}
