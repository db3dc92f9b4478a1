import Testing
import martlet

@Suite struct WorkloadFileTests {
    @Test("A line has a weight and a command; comments and empty lines count for nothing")
    func lines() throws {
        let text = "# a mix\n\n95  GET user:__key__\r\n  4.5 set \"user:__key__\" '__data__'\n"
        let workload = try WorkloadFile.parse(Array(text.utf8), name: "dir/mix.txt")
        #expect(workload.title == "mix.txt")
        #expect(workload.operations.map(\.weight) == [95, 4.5])
        #expect(workload.operations.map(\.label) == ["GET", "SET"])
        #expect(workload.operations[1].requests == [.words("set user:__key__ __data__")])
    }

    @Test("Commands that are sent together are divided by ;")
    func sequence() throws {
        let workload = try WorkloadFile.parse(Array("1 MULTI ; INCR a ; EXEC".utf8), name: "f")
        #expect(workload.operations[0].requests == [.words("MULTI"), .words("INCR a"), .words("EXEC")])
        #expect(workload.operations[0].label == "MULTI;INCR;EXEC")
    }

    @Test(
        "Mistakes name file and line",
        arguments: [
            ("\nGET a", "f:2: expected a weight above 0 before the command, found 'GET'"),
            ("0 GET a", "f:1: expected a weight above 0 before the command, found '0'"),
            ("inf GET a", "f:1: expected a weight above 0 before the command, found 'inf'"),
            ("5", "f:1: a command is missing after the weight"),
            ("1 GET a ;", "f:1: a command is missing at ';'"),
            ("1 ; GET a", "f:1: a command is missing at ';'"),
            ("1 GET a\n1 GET \"b", "f:2: unbalanced quotes"),
            ("1 \"\" b", "f:1: a command is missing at ';'"),
            ("# nothing\n", "f: there is no command in it"),
        ])
    func mistakes(_ text: String, message: String) {
        let failure = #expect(throws: ToolFailure.self) { try WorkloadFile.parse(Array(text.utf8), name: "f") }
        #expect(failure?.description == message)
    }

    @Test("More different commands than can be reported are refused")
    func manyLabels() {
        let text = (0...WorkloadFile.labelCountMax).map { "1 CMD\($0)\n" }.joined()
        #expect(throws: ToolFailure.self) { try WorkloadFile.parse(Array(text.utf8), name: "f") }
        #expect(throws: Never.self) { try WorkloadFile.parse(Array(text.dropFirst(7).utf8), name: "f") }
    }
}
