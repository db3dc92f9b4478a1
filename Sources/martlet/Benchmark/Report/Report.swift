import Glibc

/// Shows results as they come.
final class Report {
    private let options: OutputOptions
    private let context: ReportContext

    init(_ options: OutputOptions, _ context: ReportContext) {
        self.options = options
        self.context = context
    }

    func begin() {
        if options.csv { print(CSVReport.header) }
    }

    func add(_ result: TestResult) {
        // A server that cannot do what is asked is not slow or fast at it.
        guard result.requestCount > result.errorCount else {
            let example = result.errors.values.first?.example ?? "no request was answered"
            return warn("\(result.title): no result: \(example)")
        }
        if options.csv {
            print(CSVReport.row(result))
        } else {
            print(options.quiet ? TextReport.quiet(result) : TextReport.full(result, context))
        }
    }

    func end() throws {
        if !options.csv { print("\n") }
    }

    private func print(_ text: String) { printUnbuffered(text, to: STDOUT_FILENO) }
}
