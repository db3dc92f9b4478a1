/// What a test sends: operations, each drawn with a probability in proportion to its weight.
package struct Workload: Sendable {
    /// One request, or several that are sent together and count as one; its latency is that of the last reply.
    package struct Operation: Sendable {
        package var weight: Double = 1
        /// Operations with the same label are reported together.
        package var label: String
        package var requests: [Request]

        package init(weight: Double = 1, label: String, requests: [Request]) {
            self.weight = weight
            self.label = label
            self.requests = requests
        }
    }

    package enum Request: Equatable, Sendable {
        /// Arguments, with placeholders: see ``Placeholder``.
        case command([[UInt8]])
        /// Sent as it is: an inline command.
        case raw([UInt8])

        /// Words that are separated by single blanks.
        package static func words(_ text: String) -> Request {
            .command(text.split(separator: " ").map { Array($0.utf8) })
        }
    }

    package var title: String
    package var operations: [Operation]

    package init(title: String, operations: [Operation]) {
        precondition(!operations.isEmpty && operations.allSatisfy { !$0.requests.isEmpty })
        self.title = title
        self.operations = operations
    }

    /// A test of one command.
    package init(title: String, _ request: Request) {
        self.init(title: title, operations: [Operation(label: title, requests: [request])])
    }
}
