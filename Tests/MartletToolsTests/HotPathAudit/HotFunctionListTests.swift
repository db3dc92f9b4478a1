import Testing

@testable import martlet_tools

@Suite struct HotFunctionListTests {
    private static let text = """
        # A heading
        # of two lines
               1       2       0       0      10  Node.execute(_:)
               0       0       0       0       0  closure #1 in static Command.get

        """

    @Test("A list survives being read and written")
    func roundTrip() throws {
        let list = try HotFunctionList(parsing: Self.text)
        #expect(list.rows.map(\.name) == ["Node.execute(_:)", "closure #1 in static Command.get"])
        #expect(list.rows[0].limits[.release] == 2)
        #expect(list.rows[0].limits[.copy] == 10)
        #expect(list.description == Self.text)
    }

    @Test(
        "A line that is no row is refused",
        arguments: ["1 2 3 4 Node.execute(_:)", "1 2 3 4 5", "1 2 x 4 5 f", "0 0 -1 0 0 f"])
    func badLine(line: String) {
        #expect(throws: HotFunctionList.ParseError.self) { try HotFunctionList(parsing: line) }
    }

    @Test("A function that is gone has its relatives named")
    func relatives() {
        let names = ["specialized static Entry.string(_:key:)", "Entry.string.getter", "Entry.stringCount(_:)"]
        #expect(
            HotFunctionList.relatives(of: "static Entry.string(key:)", among: names)
                == ["specialized static Entry.string(_:key:)"])
        #expect(HotFunctionList.relatives(of: "closure #1 in Command.get", among: names).isEmpty)
    }

    @Test("Functions are listed by name, with every place that has it, once")
    func functions() {
        let listing = """
            0000000000001000 00000000000000f0 t Node.execute(_:)
            0000000000002000 0000000000000010 T Node.execute(_:)
            0000000000002000 0000000000000010 T Node.execute(_:)
            0000000000003000 0000000000000008 D Node.table
            0000000000004000 T without.size
                             U malloc
            """
        let functions = Disassembler.functions(listing)
        #expect(functions.keys.sorted() == ["Node.execute(_:)"])
        #expect(
            functions["Node.execute(_:)"] == [
                .init(address: 0x1000, byteCount: 0xF0), .init(address: 0x2000, byteCount: 0x10),
            ])
    }
}
