import ArgumentParser

/// Tools for developers of Martlet, one subcommand each.
struct MartletTools: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "martlet-tools",
        abstract: "Tools for developers of Martlet.",
        subcommands: [FuzzCommand.self, HotPathAuditCommand.self])
}

MartletTools.main()
