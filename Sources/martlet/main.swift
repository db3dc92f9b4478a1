import ArgumentParser

/// Tools for running clusters, one subcommand each.
struct MartletTool: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "martlet",
        abstract: "Tools for Martlet, a Redis-Cluster-compatible key-value server.",
        subcommands: [CreateClusterCommand.self, BenchmarkCommand.self])
}

MartletTool.main()
