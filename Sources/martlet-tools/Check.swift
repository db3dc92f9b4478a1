import ArgumentParser

/// What a change has to pass before it is pushed: format, build, tests.
struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Lint the format, build, and run the unit tests. Run it in the project's folder.")

    @Flag(help: "Only what is quick: lint and build.")
    var quick = false

    func run() throws {
        var steps = [
            ("format", ["swift", "format", "lint", "--strict", "--parallel", "--recursive", "Sources", "Tests"]),
            ("build", ["swift", "build"]),
        ]
        if !quick { steps.append(("test", ["swift", "test"])) }
        for (name, command) in steps {
            print("== \(name): \(command.joined(separator: " "))")
            let status = try ChildProcess(command).wait()
            guard status == .exited(0) else {
                print("== \(name) failed (\(status))")
                throw ExitCode.failure
            }
        }
        print("== all passed")
    }
}
