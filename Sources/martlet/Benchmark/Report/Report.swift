import Glibc
import MartletSystem

/// Shows results as they come, and writes the files when all are there.
final class Report {
    private let options: OutputOptions
    private let context: ReportContext
    private var results: [TestResult] = []

    init(_ options: OutputOptions, _ context: ReportContext) {
        self.options = options
        self.context = context
    }

    /// A file that cannot be written is better found before the tests than after them.
    func begin() throws {
        for path in [options.json, options.html] {
            // Whether it can be written shows now and not after the measurement; what stands in it stays until then.
            if let path, path != "-" { try write(Files.read(path) ?? "", to: path) }
        }
        if options.csv { print(CSVReport.header) }
    }

    func add(_ result: TestResult) {
        // A server that cannot do what is asked is not slow or fast at it.
        guard result.replyCount > result.errorCount else {
            let example = result.errors.values.first?.example ?? "no request was answered"
            return warn("\(result.title): no result: \(TextReport.printable(example))")
        }
        // With -l there is no end to them.
        if options.json != nil || options.html != nil { results.append(result) }
        if options.json == "-" { return }
        if options.csv {
            print(CSVReport.row(result))
            for remark in TextReport.remarks(result) { warn("\(result.title): \(remark)") }
        } else {
            print(options.quiet ? TextReport.quiet(result) : TextReport.full(result, context))
        }
    }

    func end() throws {
        if options.json == "-" {
            print(JSONReport.text(results, context))
        } else if !options.csv {
            print("\n")
        }
        if let path = options.json, path != "-" { try write(JSONReport.text(results, context), to: path) }
        if let path = options.html { try write(HTMLReport.text(results, context), to: path) }
    }

    private func write(_ text: String, to path: String) throws {
        try Files.write(text, to: path)
    }

    private func print(_ text: String) { printUnbuffered(text, to: STDOUT_FILENO) }
}
